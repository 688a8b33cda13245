"""What source distributions depend on, where only a build tells: locked, planned and built from, in isolation."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.sdists.isolation import bubblewrap
from product.loopback import sha256
from product.sources import needs_python, sdist, source_tree

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"

DYNAMIC_BACKEND = """\
import os, sys
from pathlib import Path
from wheel_factory import make_wheel

def build_wheel(folder, settings=None, metadata=None):
    source = Path("source.py").read_text()
{code}
    return make_wheel(
        Path(folder), "{name}", "{version}", {{"{module}.py": source}}, requires={requires}, tags=["py3-none-any"]
    ).name
"""


def dynamic_sdist(
    index: Index, name: str, requires: str, *, version: str = "1.0", code: str = "pass", setup: str = ""
) -> Path:
    """Add a source distribution whose dependencies only its build tells: `requires` is Python, run by its backend."""
    stem = f"{name.replace('-', '_')}-{version}"
    tree = source_tree(index.folder.parent / "trees" / stem, name, version)
    (tree / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', encoding="utf-8"
    )
    (tree / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    (tree / "backend.py").write_text(
        DYNAMIC_BACKEND.format(
            name=name, version=version, module=name.replace("-", "_"), requires=requires, code=indented
        ),
        encoding="utf-8",
    )
    if setup:
        (tree / "setup.py").write_text(setup, encoding="utf-8")
    path = index.folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        packed.add(tree, stem)
    return path


def locked(project: Path) -> dict[str, Any]:
    """Name -> entry of the lock that was written."""
    document = tomllib.loads((project / "pylock.toml").read_text(encoding="utf-8"))
    return {package["name"]: package for package in document["packages"]}


BUILT = "only a build for"
"""What is told, under `-v`, of each build for the sake of metadata."""


@pytest.mark.skipif(bubblewrap() is None, reason="no bubblewrap that works on this host")
@pytest.mark.parametrize("command", ["lock", "plan", "build"])
def test_a_build_for_the_sake_of_metadata_is_isolated_as_any(
    run: Run, index: Index, project: Path, tmp_path: Path, command: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / "credentials").write_text("password", encoding="utf-8")
    code = f"""\
seen = [os.environ.get("FAKE_TOKEN"), os.environ.get("UV_DEFAULT_INDEX"), Path({str(home / "credentials")!r}).exists()]
try:
    Path({str(outside / "trace")!r}).write_text("it ran outside")
    seen.append("wrote")
except OSError:
    seen.append("could not write")
source += f"seen = {{seen!r}}\\n"
"""
    archive = dynamic_sdist(index, "curious", '["brought"]', code=code)
    index.wheel("brought")
    (project / "requirements.txt").write_text("curious\n", encoding="utf-8")
    environment = {"FAKE_TOKEN": "secret", "HOME": str(home)}
    ran = run(command, project, "-t", TARGET, "--allow-sdist", "curious", "-v", env=environment)
    assert ran.stderr.count(BUILT) == 1
    assert not list(outside.iterdir())
    if command == "lock":
        entries = locked(project)
        assert entries.keys() == {"curious", "brought"}
        assert entries["curious"]["sdist"] == {
            "url": f"{index.base}/files/{archive.name}",
            "size": archive.stat().st_size,
            "hashes": {"sha256": sha256(archive)},
        }
    made = run("build", project, "-t", TARGET, "--allow-sdist", "curious", "--format", "json", env=environment).artifact
    assert [one["name"] for one in made["distributions"]] == ["brought", "curious"]
    with zipfile.ZipFile(made["path"]) as opened:
        assert opened.read("curious.py").decode().endswith("seen = [None, None, False, 'could not write']\n")


def test_what_is_built_to_be_locked_is_not_built_again_to_be_shipped(run: Run, index: Index, project: Path) -> None:
    dynamic_sdist(index, "dynamic", '["brought"]')
    index.wheel("brought")
    (project / "requirements.txt").write_text("dynamic\n", encoding="utf-8")
    flags = ("-t", TARGET, "-t", "python3.13-x86_64", "--allow-sdist", "all", "-v")
    ran = run("build", project, *flags)
    # Asked for each target, built for the first of them; the second, and the package of each, find it.
    assert ran.stderr.count(BUILT) == 2
    assert ran.stderr.count("`dynamic` is unchanged since it was built") == 3
    again = run("build", project, *flags)
    assert again.stderr.count("`dynamic` is unchanged since it was built") == 4


def test_a_static_source_distribution_is_not_built_to_be_locked(run: Run, index: Index, project: Path) -> None:
    archive = sdist(index, "only-source")
    (project / "requirements.txt").write_text("only-source\n", encoding="utf-8")
    ran = run("lock", project, "-t", TARGET, "--allow-sdist", "all", "-v")
    assert locked(project)["only-source"]["sdist"]["hashes"] == {"sha256": sha256(archive)}
    assert "uild" not in ran.stderr
    assert index.fetched(archive) == 1


def test_a_version_whose_build_says_what_does_not_go_with_the_rest_gives_way_to_an_older_one(
    run: Run, index: Index, project: Path
) -> None:
    dynamic_sdist(index, "dynamic", '["brought>=2"]', version="3.0")
    dynamic_sdist(index, "dynamic", "[]", version="2.0", code="raise SystemExit('no such thing here')")
    dynamic_sdist(index, "dynamic", '["brought"]', version="1.0")
    index.wheel("brought", "1.0")
    (project / "requirements.txt").write_text("dynamic\nbrought<2\n", encoding="utf-8")
    ran = run("lock", project, "-t", TARGET, "--allow-sdist", "dynamic", "-v")
    assert {name: entry["version"] for name, entry in locked(project).items()} == {"dynamic": "1.0", "brought": "1.0"}
    assert "`dynamic==2.0` is passed over if it can be: `dynamic` cannot be built" in ran.stderr
    (project / "requirements.txt").write_text("dynamic==2.0\n", encoding="utf-8")
    failed = run("lock", project, "-t", TARGET, "--allow-sdist", "dynamic", status=5)
    assert "error: `dynamic` cannot be built" in failed.stderr
    assert "no such thing here" in failed.stderr


@needs_python(3, 12)
@needs_python(3, 13)
def test_dependencies_that_differ_by_the_python_of_the_target_are_those_of_each(
    run: Run, index: Index, project: Path
) -> None:
    setup = "import sys\nif sys.version_info < (3, 13): ...\n"
    dynamic_sdist(index, "dynamic", '["older"] if sys.version_info < (3, 13) else ["newer"]', setup=setup)
    index.wheel("older")
    index.wheel("newer")
    (project / "requirements.txt").write_text("dynamic\n", encoding="utf-8")
    run("lock", project, "-t", "python3.12-arm64", "-t", "python3.13-arm64", "--allow-sdist", "all")
    assert {name: entry.get("marker") for name, entry in locked(project).items()} == {
        "dynamic": None,
        "older": 'python_version == "3.12"',
        "newer": 'python_version == "3.13"',
    }


def test_hashes_hold_for_what_a_build_brings(run: Run, index: Index, project: Path) -> None:
    archive = dynamic_sdist(index, "dynamic", '["brought"]')
    wheel = index.wheel("brought")
    lines = [f"dynamic==1.0 --hash=sha256:{sha256(archive)}\n", f"brought==1.0 --hash=sha256:{sha256(wheel)}\n"]
    (project / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    run("lock", project, "-t", TARGET, "--allow-sdist", "all")
    assert locked(project).keys() == {"dynamic", "brought"}
    (project / "requirements.txt").write_text(lines[0], encoding="utf-8")
    failed = run("lock", project, "-t", TARGET, "--allow-sdist", "all", status=2)
    assert "`brought==1.0` has no hash, but others in the requirements have, so all must" in failed.stderr


def test_a_file_that_is_not_what_its_index_says_is_not_built(run: Run, index: Index, project: Path) -> None:
    archive = dynamic_sdist(index, "dynamic", "[]")
    index.replaced[archive.name] = b"another file"
    (project / "requirements.txt").write_text("dynamic\n", encoding="utf-8")
    failed = run("lock", project, "-t", TARGET, "--allow-sdist", "all", "-v", status=4)
    assert "is not the file that was locked" in failed.stderr
    assert BUILT not in failed.stderr


def test_an_archive_named_by_its_address_is_built_in_isolation_and_locked(
    run: Run, index: Index, project: Path
) -> None:
    archive = dynamic_sdist(index, "dynamic", '["brought"]')
    index.wheel("brought")
    address = f"{index.base}/files/{archive.name}"
    flags = ("-t", TARGET, "--allow-sdist", "dynamic")
    for line in (f"dynamic @ {address}", address, f"./{archive.name}"):
        (project / archive.name).write_bytes(archive.read_bytes())
        (project / "requirements.txt").write_text(f"{line}\n", encoding="utf-8")
        run("lock", project, *flags, "--upgrade")
        place = {"path": archive.name} if line.startswith(".") else {"url": address}
        assert locked(project)["dynamic"]["archive"] == {
            **place,
            "size": archive.stat().st_size,
            "hashes": {"sha256": sha256(archive)},
        }
        made = run("build", project, *flags, "--format", "json").artifact
        assert [one["name"] for one in made["distributions"]] == ["brought", "dynamic"]


def test_offline_a_source_distribution_is_found_as_it_was_built(run: Run, index: Index, project: Path) -> None:
    dynamic_sdist(index, "dynamic", '["brought"]')
    index.wheel("brought")
    (project / "requirements.txt").write_text("dynamic\n", encoding="utf-8")
    flags = ("-t", TARGET, "--allow-sdist", "all", "--format", "json")
    failed = run("build", project, *flags, "--offline", status=4)
    assert "run once without `--offline`" in failed.stderr
    online = run("build", project, *flags).artifact
    assert run("build", project, *flags, "--offline").artifact == online


@needs_python(3, 11)
@pytest.mark.network
@pytest.mark.slow
def test_netifaces_whose_metadata_are_old_is_compiled_to_be_locked(run: Run, project: Path, shared_cache: Path) -> None:
    (project / "requirements.txt").write_text("netifaces\n", encoding="utf-8")
    environment = {"MANYLAMBDA_CACHE_DIR": str(shared_cache)}
    flags = ("-t", "python3.11-arm64", "--allow-sdist", "netifaces")
    run("lock", project, *flags, env=environment)
    entry = locked(project)["netifaces"]
    assert entry["version"] == "0.11.0"
    assert entry["sdist"]["hashes"] == {"sha256": "043a79146eb2907edf439899f262b3dfe41717d34124298ed281139a8b93ca32"}
    made = run("build", project, *flags, "--format", "json", env=environment).artifact
    (shipped,) = made["distributions"]
    assert (shipped["name"], shipped["version"], shipped["compiled"]) == ("netifaces", "0.11.0", True)
