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
