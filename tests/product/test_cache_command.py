"""`manylambda cache`: what is there, and what goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from product.schemas import check

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

TARGET = ("-t", "python3.13-arm64")


def built(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("build", project, *TARGET)


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86_400
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def test_an_empty_cache_is_told(run: Run, cache: Path) -> None:
    assert run("cache").stdout == f"{cache}\n  empty\n"
    assert not cache.exists()


def test_what_a_build_kept_is_shown(run: Run, index: Index, project: Path, cache: Path) -> None:
    built(run, index, project)
    document = run("cache", "--format", "json").json
    check("cache", document)
    assert document["folder"] == str(cache)
    assert {one["kind"]: one["entries"] for one in document["kinds"]}["wheels"] == 1
    assert document["size"] == sum(one["size"] for one in document["kinds"])
    assert document["removed"] is None
    lines = run("cache").stdout.splitlines()
    assert lines[0] == str(cache)
    assert lines[1].split() == ["kind", "entries", "size", "last", "used"]
    assert lines[2].split()[:5] == ["wheels", "and", "source", "distributions", "1"]


def test_a_build_after_a_removal_is_the_same(run: Run, index: Index, project: Path, cache: Path) -> None:
    built(run, index, project)
    before = run("build", project, *TARGET, "--format", "json").artifact["sha256"]
    age(cache, 40)
    told = run("cache", "prune", "--dry-run").stdout
    assert "would be removed" in told
    document = run("cache", "prune", "--format", "json").json
    check("cache", document)
    assert {one["kind"]: one["entries"] for one in document["removed"]}["wheels"] == 1
    assert (document["size"], document["dry_run"]) == (0, False)
    assert run("build", project, *TARGET, "--format", "json").artifact["sha256"] == before


def test_what_a_build_uses_is_not_removed_by_the_next_prune(run: Run, index: Index, project: Path, cache: Path) -> None:
    built(run, index, project)
    age(cache / "v1" / "wheels", 40)
    run("build", project, *TARGET)
    document = run("cache", "prune", "--format", "json").json
    assert {one["kind"]: one["entries"] for one in document["removed"]}["wheels"] == 0


def test_a_build_beside_a_removal_ends_well(run: Run, index: Index, project: Path, cache: Path) -> None:
    """Everything is old, and goes or is used while both are at it."""
    for number in range(6):
        index.wheel(f"demo-{number}")
    (project / "requirements.txt").write_text("".join(f"demo-{number}\n" for number in range(6)), encoding="utf-8")
    wanted = run("build", project, *TARGET, "--format", "json").artifact["sha256"]
    pruning = "from manylambda.fetch import Cache, upkeep\nfor _ in range(40): upkeep.prune(Cache.default(), 0)"
    for _ in range(3):
        age(cache, 40)
        with subprocess.Popen([sys.executable, "-c", pruning]) as removal:
            assert run("build", project, *TARGET, "--format", "json").artifact["sha256"] == wanted
        assert removal.returncode == 0


def test_all_leaves_what_a_build_may_be_at_and_says_so(run: Run, index: Index, project: Path, cache: Path) -> None:
    built(run, index, project)
    ran = run("cache", "prune", "--all")
    assert ran.stderr == (
        "note: what was used within the last hour stays: a build may be at it; when none is, the folder itself may be "
        f"deleted: `{cache}`\n"
    )
    assert "nothing to remove" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all"], "only `cache prune` removes anything"),
        (["prune", "--all", "--older-than", "3d"], "`--all` and `--older-than` exclude each other"),
        (["prune", "--older-than", "30"], "`--older-than` is no age: `30`"),
        (["prune", "--older-than", "0d"], "`--older-than` is no age: `0d`"),
    ],
)
def test_what_is_asked_wrongly_is_told(run: Run, arguments: list[str], message: str) -> None:
    assert run("cache", *arguments, status=2).stderr.startswith(f"error: {message}\n")
