"""`manylambda lock`: one PEP 751 lock with hashes for all targets."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from packaging.pylock import Pylock

from product import schemas
from product.loopback import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

BOTH = ("-t", "python3.13-arm64", "-t", "python3.11-x86_64")


def read(path: Path) -> Any:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    Pylock.from_dict(document).validate()
    return document


def versions(path: Path) -> dict[str, str]:
    return {package["name"]: package["version"] for package in read(path)["packages"]}


def test_a_lock_has_the_hash_and_size_of_each_file(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", requires=["idna; python_version < '3.12'"])
    idna = index.wheel("idna")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run("lock", project, *BOTH)
    path = project / "pylock.toml"
    assert ran.stdout == f"{path}\n  2 distributions for python3.13-arm64, python3.11-x86_64\n"
    packages = {package["name"]: package for package in read(path)["packages"]}
    for wheel, name in ((demo, "demo"), (idna, "idna")):
        (locked,) = packages[name]["wheels"]
        assert locked["hashes"] == {"sha256": sha256(wheel)}
        assert locked["size"] == wheel.stat().st_size
    assert "marker" not in packages["demo"]
    assert packages["idna"]["marker"] == 'platform_machine == "x86_64"'  # enough between these targets
    assert "python3.13-arm64" in ran.stdout


def test_build_from_a_lock_asks_no_index(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", requires=["idna; python_version < '3.12'"])
    idna = index.wheel("idna")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, *BOTH)
    index.requests.clear()
    made = run("build", project, *BOTH, "--format", "json").json["artifacts"]
    assert [[one["name"] for one in artifact["distributions"]] for artifact in made] == [["demo"], ["demo", "idna"]]
    assert index.requests == {f"/files/{demo.name}": 1, f"/files/{idna.name}": 1}


def test_locking_again_keeps_the_versions_and_upgrade_takes_the_newest(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", "1.0")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    before = (project / "pylock.toml").read_bytes()
    index.wheel("demo", "2.0")
    run("lock", project, "-t", "python3.13-arm64")
    assert (project / "pylock.toml").read_bytes() == before
    run("lock", project, *BOTH)
    assert versions(project / "pylock.toml") == {"demo": "1.0"}
    run("lock", project, "-t", "python3.13-arm64", "--upgrade")
    assert versions(project / "pylock.toml") == {"demo": "2.0"}


def test_a_lock_follows_its_requirements(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", "1.0")
    index.wheel("other", "1.0")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    (project / "requirements.txt").write_text("demo\nother\n", encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    assert versions(project / "pylock.toml") == {"demo": "1.0", "other": "1.0"}


def test_json_holds_to_its_schema(run: Run, index: Index, project: Path, tmp_path: Path) -> None:
    index.wheel("demo")
    ran = run("lock", project, *BOTH, "-r", "-", "-o", tmp_path / "pylock.api.toml", "--format", "json", stdin="demo")
    schemas.check("lock", ran.json)
    assert ran.json == {
        "version": 1,
        "path": str(tmp_path / "pylock.api.toml"),
        "targets": ["python3.13-arm64", "python3.11-x86_64"],
        "packages": 1,
    }
    built = run("build", project, "--lock", tmp_path / "pylock.api.toml", *BOTH, "--format", "json").json
    assert built["source"]["files"] == [str(tmp_path / "pylock.api.toml")]


def test_the_lock_is_the_same_whatever_the_order_of_targets(run: Run, index: Index, project: Path) -> None:
    for machine, python in (("aarch64", "313"), ("x86_64", "311")):
        index.wheel("native", tags=[f"cp{python}-cp{python}-manylinux_2_17_{machine}"])
    (project / "requirements.txt").write_text("native\n", encoding="utf-8")
    run("lock", project, *BOTH)
    first = (project / "pylock.toml").read_bytes()
    (project / "pylock.toml").unlink()
    run("lock", project, *BOTH[2:], *BOTH[:2])
    assert (project / "pylock.toml").read_bytes() == first


def test_a_build_for_a_target_the_lock_is_not_for_says_how_to_lock(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    ran = run("build", project, "-t", "python3.12-x86_64", status=3)
    assert ran.stderr.endswith(
        "error: `pylock.toml` was not made for `python3.12-x86_64`; it was for `python3.13-arm64`\n\n"
        "hint: run `manylambda lock -t python3.12-x86_64 -t python3.13-arm64`\n"
    )
    run("lock", project, "-t", "python3.12-x86_64", "-t", "python3.13-arm64")
    run("build", project, "-t", "python3.12-x86_64")


def test_a_lock_that_cannot_be_made_leaves_the_old_one(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    before = (project / "pylock.toml").read_bytes()
    (project / "requirements.txt").write_text("demo\nmissing\n", encoding="utf-8")
    ran = run("lock", project, "-t", "python3.13-arm64", status=3)
    assert ran.stdout == ""
    assert "`missing`" in ran.stderr or "missing was not found" in ran.stderr
    assert (project / "pylock.toml").read_bytes() == before


# Whether a lock still answers.


def locked(run: Run, project: Path, requirements: str = "demo\n") -> bytes:
    (project / "requirements.txt").write_text(requirements, encoding="utf-8")
    run("lock", project, "-t", "python3.13-arm64")
    return (project / "pylock.toml").read_bytes()


def checked(run: Run, project: Path, *more: str, status: int = 1) -> list[tuple[str, str | None, str | None]]:
    ran = run("lock", project, "-t", "python3.13-arm64", *more, "--check", "--format", "json", status=status)
    schemas.check("lock", ran.json)
    return [(one["what"], one["locked"], one["wanted"]) for one in ran.json["differences"]]


def test_a_lock_that_answers_is_told_and_stays_whatever_the_index_has_got_since(
    run: Run, index: Index, project: Path
) -> None:
    index.wheel("demo", "1.0")
    before = locked(run, project)
    index.wheel("demo", "1.0", tags=["cp313-cp313-manylinux_2_34_aarch64"])
    index.wheel("demo", "2.0")
    assert checked(run, project, status=0) == []
    ran = run("lock", project, "-t", "python3.13-arm64", "--check")
    assert ran.stdout.splitlines()[-1] == "  1 distribution for python3.13-arm64, as the project wants them"
    assert (project / "pylock.toml").read_bytes() == before


def test_a_lock_that_lacks_a_requirement_is_told_and_not_written(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", "1.0")
    index.wheel("demo", "2.0")
    index.wheel("gone", "1.0")
    index.wheel("other", "1.0")
    before = locked(run, project, "demo<2\ngone\n")
    (project / "requirements.txt").write_text("demo>=2\nother\n", encoding="utf-8")
    assert checked(run, project) == [
        ("sources", "as they were when it was made", "requirements.txt as it is now"),
        ("demo", "1.0", "2.0"),
        ("gone", "1.0", None),
        ("other", None, "1.0"),
    ]
    ran = run("lock", project, "-t", "python3.13-arm64", "--check", status=1)
    assert "  does not answer the project any more; `manylambda lock` makes it anew\n" in ran.stdout
    assert [line.split() for line in ran.stdout.splitlines()[-3:]] == [
        ["demo", "1.0", "2.0"], ["gone", "1.0"], ["other", "1.0"],
    ]  # fmt: skip
    assert (project / "pylock.toml").read_bytes() == before


def test_a_lock_for_other_targets_or_of_a_file_that_is_gone_does_not_answer(
    run: Run, index: Index, project: Path
) -> None:
    index.wheel("demo", "1.0")
    native = index.wheel("demo", "1.0", tags=["cp313-cp313-manylinux_2_34_aarch64"])
    locked(run, project)
    differences = checked(run, project, "-t", "python3.12-arm64")
    assert differences[0] == ("targets", "python3.13-arm64", "python3.12-arm64, python3.13-arm64")
    name = f"{native.name} ({sha256(native)[:12]})"
    native.unlink()
    assert checked(run, project) == [("demo", name, None)]


def test_what_no_lock_of_ours_is_cannot_be_checked(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", "1.0")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run("lock", project, "-t", "python3.13-arm64", "--check", status=2)
    assert "error: there is no lock to check: " in ran.stderr
    (project / "pylock.toml").write_text(index.pylock(demo), encoding="utf-8")
    ran = run("lock", project, "-t", "python3.13-arm64", "--check", status=2)
    assert "error: `pylock.toml` was made by `a test`, which alone knows from what\n" in ran.stderr


def test_a_lock_that_the_configuration_names_is_made_and_checked_from_the_requirements(
    run: Run, index: Index, project: Path
) -> None:
    index.wheel("demo", "1.0")
    index.wheel("other", "1.0")
    (project / "manylambda.toml").write_text('lock = "pylock.api.toml"\n', encoding="utf-8")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    words = ("lock", project, "-t", "python3.13-arm64", "-o", project / "pylock.api.toml")
    run(*words)
    assert versions(project / "pylock.api.toml") == {"demo": "1.0"}
    run(*words, "--check")
    (project / "requirements.txt").write_text("demo\nother\n", encoding="utf-8")
    assert "other" in run(*words, "--check", status=1).stdout
    run(*words)
    assert versions(project / "pylock.api.toml") == {"demo": "1.0", "other": "1.0"}
