from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import NotCached, PackagingError
from manylambda.fetch import Cache
from manylambda.locks.model import LocalPackage
from manylambda.progress import SILENT
from manylambda.sdists import Builder, BuildSettings
from manylambda.target import Target
from manylambda.wheels.inventory import inspect

if TYPE_CHECKING:
    from manylambda.progress import Task

DATA = Path(__file__).parent / "locks" / "data"
ARM = Target.parse("python3.13-arm64")

# A build backend within the tree, so that a build needs no index. It packs what lies in `src`, as backends do.
BACKEND = """
import os, pathlib, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    pathlib.Path("litter").mkdir(exist_ok=True)
    (pathlib.Path("litter") / "built").write_text("x")
    TAG = "@TAG@"
    filename = f"@NAME@-1.0-{TAG}.whl"
    info = "@NAME@-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(directory, filename), "w", zipfile.ZIP_DEFLATED) as wheel:
        now = time.localtime()[:6]
        def add(name, text):
            wheel.writestr(zipfile.ZipInfo(name, now), text)
        for path in sorted(pathlib.Path("src").rglob("*")):
            if path.is_file():
                wheel.write(path, path.relative_to("src").as_posix())
        add(info + "/METADATA", "Metadata-Version: 2.1\\nName: @NAME@\\nVersion: 1.0\\n")
        lines = ["Wheel-Version: 1.0", "Generator: in-tree @GENERATOR@", "Root-Is-Purelib: true", "Tag: " + TAG, ""]
        add(info + "/WHEEL", "\\n".join(lines))
        add(info + "/RECORD", "not even a record\\n")
    return filename
"""


def make(
    folder: Path, *, name: str = "lib", tag: str = "py3-none-any", generator: str = "1.0", before: str = ""
) -> LocalPackage:
    (folder / "src" / name).mkdir(parents=True, exist_ok=True)
    (folder / "src" / name / "__init__.py").write_text("VALUE = 1\n")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\ndynamic = ["version"]\n\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    text = BACKEND.replace("@TAG@", tag).replace("@NAME@", name).replace("@GENERATOR@", generator)
    (folder / "backend.py").write_text(before + text)
    return LocalPackage(name="lib", directory=folder)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


class Heard:
    """Keeps what a build tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return SILENT.task(stage, label, total, unit=unit)

    def info(self, message: str) -> None:
        self.lines.append(message)

    detail = warning = info


def build(
    package: LocalPackage, cache: Cache, *, offline: bool = True, heard: Heard | None = None, **settings: str
) -> Path:
    own = BuildSettings(offline=offline)
    environment = {**os.environ, **settings}
    builder = Builder(settings=own, environment=environment, cache=cache, progress=heard or Heard())
    return builder.folders([package], ARM)[package].path


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_tree_is_built_into_a_wheel_that_holds_files(tmp_path: Path, cache: Cache) -> None:
    wheel = build(make(tmp_path / "lib"), cache)
    assert wheel.name == "lib-1.0-py3-none-any.whl"
    assert contents(wheel)["lib/__init__.py"] == b"VALUE = 1\n"
    inventory = inspect(wheel)
    assert inventory.name == "lib"


def test_nothing_is_written_to_the_tree(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    before = sorted(path.relative_to(tmp_path) for path in package.directory.rglob("*"))
    build(package, cache)
    assert sorted(path.relative_to(tmp_path) for path in package.directory.rglob("*")) == before


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    """In another folder, with another release of the backend, at another time, with other rights."""
    one = make(tmp_path / "one")
    other = make(tmp_path / "elsewhere" / "deep" / "two", generator="2.0")
    (other.directory / "src" / "lib" / "__init__.py").chmod(0o600)
    os.utime(other.directory / "src" / "lib" / "__init__.py", (1e9, 1e9))
    first = build(one, Cache(tmp_path / "a"))
    second = build(other, Cache(tmp_path / "b"), TZ="Asia/Tokyo")
    assert first.read_bytes() == second.read_bytes()
    assert contents(first)["lib-1.0.dist-info/WHEEL"].splitlines()[1] == b"Generator: in-tree"


def test_the_record_is_true(tmp_path: Path, cache: Cache) -> None:
    record = contents(build(make(tmp_path / "lib"), cache))["lib-1.0.dist-info/RECORD"].decode().splitlines()
    assert record[0].startswith("lib-1.0.dist-info/METADATA,sha256=")
    assert record[-1] == "lib-1.0.dist-info/RECORD,,"
    assert len(record) == 4


def test_an_unchanged_tree_is_not_built_again(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib", before="print('the backend runs')\n")
    once, again, changed = Heard(), Heard(), Heard()
    first = build(package, cache, heard=once)
    assert "lib: the backend runs" in once.lines
    assert build(package, cache, heard=again) == first
    assert again.lines == ["`lib` is unchanged since it was built"]

    (package.directory / "src" / "lib" / "more.py").write_text("")
    assert build(package, cache, heard=changed) != first
    assert "lib: the backend runs" in changed.lines


def test_a_damaged_wheel_in_the_cache_is_built_again(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    wheel = build(package, cache)
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-10])
    assert build(package, cache).read_bytes() == good


def test_leftovers_of_the_host_do_not_reach_the_build(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    for path in (
        "build/lib/lib/gone.py",
        "dist/lib-0.9-py3-none-any.whl",
        "lib.egg-info/SOURCES.txt",
        ".venv/pyvenv.cfg",
        "env/pyvenv.cfg",
        ".git/HEAD",
        "src/lib/__pycache__/lib.cpython-311.pyc",
        "src/lib/old.pyc",
        "src/lib.egg-info/PKG-INFO",
        "node_modules/x/index.js",
    ):
        file = package.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    listing = (
        "import pathlib\n"
        "def build_wheel(*args, **kwargs):\n"
        "    for path in sorted(p.as_posix() for p in pathlib.Path('.').rglob('*') if p.is_file()):\n"
        "        print('seen', path)\n"
        "    return real(*args, **kwargs)\n"
    )
    backend = package.directory / "backend.py"
    backend.write_text(backend.read_text().replace("def build_wheel", "def real") + listing)
    heard = Heard()
    build(package, cache, heard=heard)
    assert [line.removeprefix("lib: seen ") for line in heard.lines if line.startswith("lib: seen ")] == [
        "backend.py",
        "pyproject.toml",
        "src/lib/__init__.py",
    ]


def test_folders_that_only_have_such_a_name_are_kept(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    for path in ("build/recipe.txt", "dist/notes.txt", "src/lib/build/lib.py"):
        file = package.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    backend = package.directory / "backend.py"
    check = 'import os; assert os.path.exists("build/recipe.txt") and os.path.exists("dist/notes.txt")\n'
    backend.write_text(check + backend.read_text())
    assert "lib/build/lib.py" in contents(build(package, cache))


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_symbolic_links_become_files(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "data.txt").write_text("shared")
    (package.directory / "src" / "lib" / "shared").symlink_to(shared)
    (package.directory / "src" / "lib" / "loop").symlink_to(package.directory / "src")
    (package.directory / "src" / "lib" / "dangling").symlink_to(tmp_path / "absent")
    built = contents(build(package, cache))
    assert built["lib/shared/data.txt"] == b"shared"
    assert "lib/dangling" not in built


def test_a_wheel_for_another_python_is_refused(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(
        PackagingError, match=r"`lib-1\.0-py2-none-any\.whl`, built from the source of `lib`, does not run"
    ):
        build(make(tmp_path / "lib", tag="py2-none-any"), cache)


def test_a_package_of_another_name_is_refused(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(PackagingError) as caught:
        build(make(tmp_path / "lib", name="other"), cache)
    assert caught.value.message == f"the source of `lib` builds a package called `other`: {tmp_path / 'lib'}"


def test_a_build_that_fails_tells_why(tmp_path: Path, cache: Cache) -> None:
    heard = Heard()
    with pytest.raises(PackagingError) as caught:
        build(make(tmp_path / "lib", before='raise ValueError("the sky is falling")\n'), cache, heard=heard)
    assert caught.value.message == "`lib` cannot be built: ValueError: the sky is falling"
    said = heard.lines[heard.lines.index("the build of `lib` said:") :]
    assert any("backend.py" in line for line in said)
    assert said[-1] == "  ValueError: the sky is falling"
    assert str(tmp_path) not in "".join(said)


def test_a_build_that_makes_nothing_readable_is_refused(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    backend = package.directory / "backend.py"
    spoil = '    open(os.path.join(directory, filename), "wb").write(b"no zip")\n    return filename\n'
    backend.write_text(backend.read_text().replace("    return filename\n", spoil))
    with pytest.raises(PackagingError) as caught:
        build(package, cache)
    assert caught.value.message.startswith("the build made a wheel that cannot be read: `lib-1.0-py3-none-any.whl`: ")


@pytest.mark.parametrize(
    ("exists", "message"),
    [(False, "the folder of `lib` does not exist: "), (True, "the folder of `lib` has no `pyproject.toml`: ")],
)
def test_a_folder_that_cannot_be_built_is_refused(tmp_path: Path, cache: Cache, exists: bool, message: str) -> None:
    folder = tmp_path / "lib"
    if exists:
        folder.mkdir()
    with pytest.raises(PackagingError) as caught:
        build(LocalPackage(name="lib", directory=folder), cache)
    assert caught.value.message == f"{message}{folder}"


def test_offline_says_that_the_backend_is_missing(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")
    file = package.directory / "pyproject.toml"
    file.write_text(file.read_text().replace("requires = []", 'requires = ["hatchling"]'))
    with pytest.raises(NotCached) as caught:
        build(package, cache, UV_CACHE_DIR=str(tmp_path / "empty"))
    assert caught.value.message == "the build requirements of `lib` are not in uv's cache"


def test_ignore_files_above_the_tree_are_there_for_the_backend(tmp_path: Path, cache: Cache) -> None:
    """hatchling leaves out what the repository ignores; a copy alone would bring it back."""
    package = make(tmp_path / "repository" / "packages" / "lib")
    (tmp_path / "repository" / ".git").mkdir()
    (tmp_path / "repository" / ".gitignore").write_text("*.secret\n")
    backend = package.directory / "backend.py"
    backend.write_text('assert open("../../.gitignore").read() == "*.secret\\n"\n' + backend.read_text())
    build(package, cache)


def test_a_version_from_git_is_that_of_the_repository(tmp_path: Path, cache: Cache) -> None:
    package = make(tmp_path / "lib")

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=package.directory, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "v3.2.1")
    file = package.directory / "pyproject.toml"
    file.write_text(file.read_text() + "\n[tool.setuptools_scm]\n")
    backend = package.directory / "backend.py"
    ask = (
        'import subprocess; V = subprocess.run(["git", "describe", "--tags"], capture_output=True, text=True).stdout\n'
    )
    backend.write_text(ask + backend.read_text().replace("1.0-{TAG}", "{V.strip()[1:]}-{TAG}"))
    assert build(package, cache).name == "lib-3.2.1-py3-none-any.whl"


@pytest.mark.network
@pytest.mark.parametrize("requires", ["hatchling", "setuptools"])
def test_real_backends(tmp_path: Path, cache: Cache, requires: str) -> None:
    backend = {"hatchling": "hatchling.build", "setuptools": "setuptools.build_meta"}[requires]
    folder = tmp_path / "lib"
    (folder / "src" / "lib").mkdir(parents=True)
    (folder / "src" / "lib" / "__init__.py").write_text("VALUE = 1\n")
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n\n'
        '[project]\nname = "lib"\nversion = "1.0"\nrequires-python = ">=3.13"\ndependencies = ["idna"]\n'
    )
    wheel = build(LocalPackage(name="lib", directory=folder), cache, offline=False)
    assert contents(wheel)["lib/__init__.py"] == b"VALUE = 1\n"
    assert sorted(path.name for path in folder.iterdir()) == ["pyproject.toml", "src"]
    assert inspect(wheel).version == "1.0"
    again = build(LocalPackage(name="lib", directory=folder), Cache(tmp_path / "other"), offline=False)
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.network
def test_members_of_a_real_workspace(cache: Cache) -> None:
    folder = DATA / "uv-workspace" / "packages"
    packages = [LocalPackage(name=name, directory=folder / name) for name in ("api", "shared")]
    built = Builder(cache=cache).folders(packages, ARM)
    names = [wheel.path.name for wheel in built.values()]
    assert names == ["api-0.1.0-py3-none-any.whl", "shared-0.1.0-py3-none-any.whl"]
    assert contents(built[packages[1]].path)["shared/__init__.py"] == b"VALUE = 1\n"
