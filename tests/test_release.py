"""What a release is: files that are the same whoever builds them, whole, and a tool wherever they are installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.loopback import Index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
TARGET = "python3.13-arm64"

pytestmark = pytest.mark.xdist_group("release")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command: str | Path, **environment: str) -> str:
    """Run a program with nothing of this machine's on its path; give what it printed."""
    passed = ("UV_", "PIP_CERT", "SSL_CERT", "HTTP", "http", "MANYLAMBDA_CACHE_DIR", "SystemRoot")
    kept = {name: value for name, value in os.environ.items() if name.startswith(passed)}
    done = subprocess.run(
        list(map(str, command)),
        env={**kept, "PATH": "/nowhere", "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a release, which fails unless it can be built again."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, ROOT / "tools" / "build_release.py", "--into", folder], check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    (found,) = release.glob("*.whl")
    return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A project with a requirement, and the environment in which an index has it: uv has to be found to resolve it."""
    folder = tmp_path / "api"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context):\n    return {}\n")
    (folder / "requirements.txt").write_text("demo\n")
    with Index(tmp_path / "index") as index:
        index.wheel("demo")
        yield folder, {"UV_DEFAULT_INDEX": index.url, "HOME": str(tmp_path / "home")}


# The wheel


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no modes, so a release is built elsewhere")
def test_a_release_is_the_same_when_it_is_built_again_and_whole(release: Path, wheel: Path) -> None:
    assert len(list(release.iterdir())) == 2
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "manylambda/py.typed" in names
    assert "manylambda/data/actions.json" in names
    assert not [name for name in names if not name.startswith("manylambda")]
    for minor in range(11, 16):
        assert f"Classifier: Programming Language :: Python :: 3.{minor}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps no modes, so a release is built elsewhere")
def test_a_wheel_that_lacks_a_file_or_has_another_is_told(release: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = release.glob("*.tar.gz")
    problems = tool("build_release").problems
    assert list(problems(wheel, sdist)) == []
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(other, "w") as copy:
        for info in archive.infolist():
            if info.filename != "manylambda/py.typed":
                copy.writestr(info, archive.read(info))
        copy.writestr(zipfile.ZipInfo("tests/test_it.py"), "")
    assert list(problems(other, sdist)) == [
        "the wheel lacks manylambda/py.typed",
        "the wheel has tests/test_it.py",
        "the wheel has no py.typed",
        "modes in the wheel: 0o600, 0o644",
    ]


# Installed by the tools that install tools


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="the programs lie elsewhere")
@pytest.mark.parametrize("installer", ["uv", "pipx"])
def test_an_installed_tool_builds(
    wheel: Path, tmp_path: Path, project: tuple[Path, Mapping[str, str]], installer: str
) -> None:
    folder, environment = project
    tools, programs = str(tmp_path / "tools"), str(tmp_path / "bin")
    places = {
        "UV_TOOL_DIR": tools, "UV_TOOL_BIN_DIR": programs, "PIPX_HOME": tools, "PIPX_BIN_DIR": programs,
        "PIPX_MAN_DIR": str(tmp_path / "man"), "HOME": str(tmp_path / "home"), "PATH": f"{SCRIPTS}:/usr/bin:/bin",
    }  # fmt: skip
    words = ("tool", "install", "--python", sys.executable) if installer == "uv" else ("install", "--backend", "uv")
    run(SCRIPTS / installer, *words, wheel, **places)
    program = tmp_path / "bin" / "manylambda"
    assert re.fullmatch(r"manylambda \d+\.\d+\.\d+\n", run(program, "--version"))
    assert "code_sha256" in run(program, "build", folder, "-t", TARGET, **environment)


# In one file


def pythons() -> list[str]:
    """Give this interpreter, and the others of this machine that are supported."""
    found = {sys.version_info[1]: sys.executable}
    for minor in range(11, 16):
        program = shutil.which(f"python3.{minor}")
        if program and minor not in found:
            answer = subprocess.run(
                [program, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, check=False
            )
            if answer.stdout.strip() == str(minor).encode():
                found[minor] = program
    return [found[minor] for minor in sorted(found)]


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="its parts have other names there")
def test_a_single_file_builds_under_every_python_without_anything_installed(
    wheel: Path, tmp_path: Path, project: tuple[Path, Mapping[str, str]]
) -> None:
    single = tool("single_file")
    folder, environment = project
    name = single.this_machine()
    file = single.make(wheel, name, tmp_path / "made", tmp_path / "scratch")
    assert file.name == f"manylambda-{name}.pyz"
    roots = {"SHIV_ROOT": str(tmp_path / "unpacked"), **environment}
    built = set()
    for python in pythons():
        assert run(python, "-I", file, "--version", **roots).startswith("manylambda ")
        told = run(python, "-I", file, "build", folder, "-t", TARGET, **roots)
        built.add(re.search(r"code_sha256 +(\S+)", told)[1])  # type: ignore[index]
    assert len(built) == 1
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert [one for one in names if one.startswith("site-packages/bin/")] == ["site-packages/bin/uv"]
        assert not [one for one in names if one.endswith(("RECORD", "direct_url.json", ".pyc"))]
    again = single.make(wheel, name, tmp_path / "again", tmp_path / "other")
    assert again.read_bytes() == file.read_bytes()


def test_a_tool_without_the_program_of_uv_says_where_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manylambda.errors import ManylambdaError
    from manylambda.locks import program

    nothing = tmp_path / "site-packages" / "uv"
    nothing.mkdir(parents=True)
    monkeypatch.setattr("uv._find_uv.sysconfig.get_path", lambda *_, **__: str(tmp_path / "bin"))
    monkeypatch.setattr("uv._find_uv._module_path", lambda: str(nothing))
    with pytest.raises(ManylambdaError) as error:
        program.identify()
    assert error.value.message == "uv's program is not beside manylambda"
    assert error.value.hint is not None
    assert "`bin` beside the packages" in error.value.hint
