"""`manylambda plan`: what would be shipped, and why this file and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from product import schemas

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

AL2, AL2023 = "python3.11-x86_64", "python3.13-arm64"


def _native(index: Index) -> None:
    index.wheel("native", "2.0", tags=["cp311-cp311-manylinux_2_28_x86_64"])
    index.wheel("native", "2.0", tags=["cp313-cp313-manylinux_2_28_aarch64"])
    index.wheel("native", "1.0", tags=["cp311-cp311-manylinux_2_17_x86_64"])
    index.wheel("native", "1.0", tags=["cp313-cp313-manylinux_2_17_aarch64"])


def test_the_plan_says_what_is_shipped_and_why_nearer_files_are_not(run: Run, index: Index, project: Path) -> None:
    _native(index)
    pure = index.wheel("pure")
    (project / "requirements.txt").write_text("native\npure\n", encoding="utf-8")
    ran = run("plan", project, "-t", AL2)
    native = "native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    total = pure.stat().st_size + (index.folder / native).stat().st_size
    assert ran.stdout == (
        f"python3.11-x86_64: 2 distributions, {total / 1024:.1f} KiB to download\n"
        "distribution  version  kind          size  file\n"
        f"native        1.0      compiled  0.00 MiB  {native}\n"
        f"pure          1.0      pure      0.00 MiB  {pure.name}\n"
        "native 1.0: `cp311-cp311-manylinux_2_17_x86_64` is the best of 2 wheels of this release\n"
        "  refused native-2.0-cp311-cp311-manylinux_2_28_x86_64.whl: it needs glibc 2.28; the runtime has 2.26\n"
    )
    assert not (project / "dist").exists()
    assert not [path for path in index.requests if path.endswith(".whl")]


def test_a_plan_is_what_a_build_of_the_same_targets_ships(run: Run, index: Index, project: Path) -> None:
    """Versions are kept alike between targets, so a plan of each by itself would tell of other files."""
    _native(index)
    both = ("-t", AL2, "-t", AL2023, "-r", "-", "--format", "json")
    plan = run("plan", project, *both, stdin="native").json
    built = run("build", project, *both, stdin="native").json
    schemas.check("plan", plan)

    def files(distributions: Any) -> list[str]:
        return [one["file"] for one in distributions]

    planned = [files(target["distributions"]) for target in plan["targets"]]
    assert planned == [files(artifact["distributions"]) for artifact in built["artifacts"]]
    assert planned == [
        ["native-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"],
        ["native-1.0-cp313-cp313-manylinux_2_17_aarch64.whl"],
    ]
    alone = run("plan", project, "-t", AL2023, "-r", "-", "--format", "json", stdin="native").json
    assert files(alone["targets"][0]["distributions"]) == ["native-2.0-cp313-cp313-manylinux_2_28_aarch64.whl"]


def test_a_target_without_a_solution_does_not_hide_the_others(run: Run, index: Index, project: Path) -> None:
    _native(index)
    ran = run("plan", project, "-t", AL2, "-t", AL2023, "-r", "-", "--format", "json", status=3, stdin="native==2.0")
    schemas.check("plan", ran.json)
    failed, planned = ran.json["targets"]
    assert failed["distributions"] == []
    assert failed["error"]["code"] == "no-compatible-wheel"
    assert failed["error"]["message"] == "no wheel of `native==2.0` runs on `python3.11-x86_64`"
    assert "needs glibc 2.28; the runtime has 2.26" in failed["error"]["hint"]
    assert "`native==1.0` has a wheel that runs there" in failed["error"]["hint"]
    assert planned["error"] is None
    assert [one["file"] for one in planned["distributions"]] == ["native-2.0-cp313-cp313-manylinux_2_28_aarch64.whl"]
    text = run("plan", project, "-t", AL2, "-t", AL2023, "-r", "-", status=3, stdin="native==2.0").stdout
    assert text.startswith(
        "python3.11-x86_64: no wheel of `native==2.0` runs on `python3.11-x86_64`\n  hint: the nearest"
    )


def test_a_pure_wheel_of_a_release_with_compiled_ones_is_told(run: Run, index: Index, project: Path) -> None:
    index.wheel("wrapt", "1.0", tags=["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("wrapt", "1.0", tags=["py3-none-any"])
    ran = run("plan", project, "-t", AL2023, "-v", "-r", "-", stdin="wrapt")
    assert ran.stdout.endswith(
        "wrapt 1.0: the only wheel that fits; the compiled ones of 1.0 are for other targets (pure-fallback)\n"
    )


def test_a_plan_from_a_lock_works_offline_without_refusals(run: Run, index: Index, project: Path) -> None:
    _native(index)
    chosen = index.folder / "native-1.0-cp313-cp313-manylinux_2_17_aarch64.whl"
    (project / "pylock.toml").write_text(index.pylock(chosen), encoding="utf-8")
    document = run("plan", project, "-t", AL2023, "--offline", "--format", "json").json
    schemas.check("plan", document)
    (one,) = document["targets"][0]["distributions"]
    assert (one["file"], one["size"], one["refused"]) == (chosen.name, chosen.stat().st_size, [])
    assert index.requests == {}


def test_an_empty_plan_says_so(run: Run, project: Path) -> None:
    ran = run("plan", project, "-t", AL2023)
    assert ran.stdout.startswith("python3.13-arm64: 0 distributions, 0 B to download\n")


def test_all_that_stands_in_the_way_is_told(run: Run, index: Index, project: Path) -> None:
    _native(index)
    index.wheel("other", "1.0", tags=["cp313-cp313-manylinux_2_17_aarch64"])
    wanted = "native==2.0\nother\n"
    text = run("plan", project, "-t", AL2, "-r", "-", status=3, stdin=wanted).stdout
    assert text.startswith("python3.11-x86_64: no wheel of `other==1.0` runs on `python3.11-x86_64`\n  hint: ")
    assert text.endswith("\n  besides, `native` 2.0 needs glibc 2.28; the runtime has 2.26; 1.0 runs there\n")
    document = run("plan", project, "-t", AL2, "-r", "-", "--format", "json", status=3, stdin=wanted).json
    schemas.check("plan", document)
    (target,) = document["targets"]
    assert [one["distribution"] for one in target["blockers"]] == ["other", "native"]
