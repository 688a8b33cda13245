"""`manylambda wheel`: the wheel itself, from an index or from source, proved for its target."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product import schemas
from product.sources import GLIBC_TRAP, glibc_trap, needs_python, sdist, source_tree

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"


def test_a_wheel_that_runs_there_is_taken_as_it_is(run: Run, index: Index, tmp_path: Path) -> None:
    sdist(index, "demo")
    wheel = index.wheel("demo", "1.0")
    ran = run("wheel", "demo", "-t", TARGET, "-o", "made", "--format", "json")
    schemas.check("wheel", ran.json)
    (made,) = ran.json["wheels"]
    assert (made["name"], made["version"], made["source"], made["built"]) == ("demo", "1.0", wheel.name, False)
    assert Path(made["path"]) == tmp_path / "made" / wheel.name
    assert Path(made["path"]).read_bytes() == wheel.read_bytes()
    assert f"`{wheel.name}` runs on {TARGET}: it is taken as it is (`--from-source` builds one)" in ran.stderr


def test_from_source_builds_what_has_a_wheel(run: Run, index: Index, tmp_path: Path) -> None:
    sdist(index, "demo")
    index.wheel("demo", "1.0", files={"other.py": ""})
    ran = run("wheel", "demo==1.0", "-t", TARGET, "--from-source", "-o", "made", "--format", "json")
    (made,) = ran.json["wheels"]
    assert (made["source"], made["built"]) == ("demo-1.0.tar.gz", True)
    with zipfile.ZipFile(made["path"]) as opened:
        assert "demo.py" in opened.namelist()
    assert made["sha256"] == hashlib.sha256(Path(made["path"]).read_bytes()).hexdigest()


@needs_python(3, 11)
def test_an_archive_is_compiled_for_every_target(run: Run, index: Index, tmp_path: Path) -> None:
    archive = glibc_trap(index)
    ran = run("wheel", archive, "-t", "python3.11-x86_64", "-t", "python3.11-arm64", "-o", tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "glibctrap-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "glibctrap-1.0-cp311-cp311-manylinux_2_5_x86_64.whl",
    ]
    assert "built from glibctrap-1.0.tar.gz" in ran.stdout


def test_a_folder_is_built(run: Run, tmp_path: Path) -> None:
    folder = source_tree(tmp_path / "tree", "demo")
    (made,) = run("wheel", "./tree", "-t", TARGET, "--format", "json").json["wheels"]
    assert (made["name"], made["source"]) == ("demo", "./tree")
    assert Path(made["path"]).parent == tmp_path / "dist"
    assert sorted(path.name for path in folder.iterdir()) == [
        "PKG-INFO",
        "backend.py",
        "pyproject.toml",
        "source.py",
        "wheel_factory.py",
    ]


@needs_python(3, 11)
def test_what_went_without_its_compiled_part_is_told(run: Run, index: Index, tmp_path: Path) -> None:
    archive = sdist(index, "demo")
    tree = index.folder.parent / "trees" / "demo-1.0"
    (tree / "_speed.c").write_text(GLIBC_TRAP.replace("<dlfcn.h>", "<yaml.h>"), encoding="utf-8")
    tried = (
        "import subprocess, sysconfig\n"
        'subprocess.run(["cc", "-I" + sysconfig.get_path("include"), "-c", "_speed.c", "-o", "_speed.o"])\n'
    )
    (tree / "backend.py").write_text(tried + (tree / "backend.py").read_text(encoding="utf-8"), encoding="utf-8")
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, "demo-1.0")
    ran = run("wheel", archive, "-t", "python3.11-arm64", "--fail-on", "warning", "--format", "json", status=1)
    (made,) = ran.json["wheels"]
    (finding,) = made["findings"]
    assert (finding["rule"], finding["severity"]) == ("pure-fallback", "warning")
    assert "was built from source without its compiled part (`_speed.c`): 'yaml.h' file not found" in finding["message"]


@pytest.mark.parametrize(
    ("wanted", "status", "message"),
    [
        ("./absent-1.0.tar.gz", 2, "there is no file `./absent-1.0.tar.gz`"),
        ("no such name", 2, "`no such name` is neither a requirement nor a file or folder"),
        ("demo @ https://example.org/demo-1.0.tar.gz", 2, "names an address"),
        ("demo>2", 3, "no version of `demo>2` is for Python 3.13"),
        ("unknown", 3, "no index has `unknown`"),
        ("only-wheel", 3, "`only-wheel==1.0` has no source distribution, and no wheel for `python3.13-arm64`"),
    ],
)
def test_what_cannot_be_had_is_one_clear_error(run: Run, index: Index, wanted: str, status: int, message: str) -> None:
    sdist(index, "demo")
    index.wheel("only-wheel", tags=["cp313-cp313-win_amd64"])
    ran = run("wheel", wanted, "-t", TARGET, status=status)
    assert ran.stderr.startswith("error: ")
    assert "\nhint: " in ran.stderr
    assert message in ran.stderr
    assert not ran.stdout


def test_a_folder_that_does_not_say_its_name_is_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "setup.py").write_text("", encoding="utf-8")
    ran = run("wheel", "./tree", "-t", TARGET, status=2)
    assert "error: the folder `tree` does not say what its package is called" in ran.stderr
