"""Builds in a container: as an image compiles, and judged as any other; closed, and gone when they are done."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import elf
from manylambda.errors import FetchError, ManylambdaError, NotCached, PackagingError
from manylambda.fetch import Cache
from manylambda.host.model import Unusable
from manylambda.progress import SILENT
from manylambda.sdists import Builder, BuildSettings
from manylambda.sdists.engines import container, zig
from manylambda.sdists.inside import begin
from manylambda.target import Target
from product.sources import FACTORY, GLIBC_TRAP, NATIVE_BACKEND
from sdists import images
from trial import containers, hosts
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manylambda.progress import Task

TARGET = Target.parse(f"python{images.PYTHON}-{images.ARCHITECTURE}")
PYPROJECT = """\
[build-system]
requires = {requires}
build-backend = "backend"
backend-path = ["."]
[project]
name = "glibctrap"
version = "1.0"
"""
# Nothing of it is younger than the oldest glibc.
PLAIN = """\
#include <Python.h>
static PyMethodDef methods[] = {{NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "glibctrap", "", -1, methods};
PyMODINIT_FUNC PyInit_glibctrap(void) { return PyModule_Create(&module); }
"""
COMPILES = NATIVE_BACKEND.format(compiler="cc")
SLEEPS = """\
import time
print("asleep", flush=True)
time.sleep(600)
"""

# One podman has one store.
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="containers of this host are Linux's"),
    pytest.mark.xdist_group("podman"),
]


class Heard:
    """Keeps what a build tells, and hands it on."""

    def __init__(self, hear: Callable[[str], None] = lambda _: None) -> None:
        self.lines: list[str] = []
        self._hear = hear

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return SILENT.task(stage, label, total, unit=unit)

    def info(self, message: str) -> None:
        self.lines.append(message)
        self._hear(message)

    detail = warning = info


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(containers.programs()) + os.pathsep + os.environ["PATH"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


def sdist(folder: Path, *, backend: str = COMPILES, source: str = PLAIN, requires: str = "[]") -> Path:
    """Write an sdist whose backend lies in it, with a C source."""
    members = {
        "pyproject.toml": PYPROJECT.format(requires=requires),
        "PKG-INFO": "Metadata-Version: 2.2\nName: glibctrap\nVersion: 1.0\n",
        "backend.py": backend,
        "glibctrap.c": source,
        "wheel_factory.py": FACTORY.read_text(),
    }
    path = folder / "glibctrap-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name, text in members.items():
            member = tarfile.TarInfo(f"glibctrap-1.0/{name}")
            member.size = len(text.encode())
            packed.addfile(member, io.BytesIO(text.encode()))
    return path


def build(
    archive: Path,
    cache: Cache,
    *,
    heard: Heard | None = None,
    target: Target = TARGET,
    settings: BuildSettings | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path:
    own = settings or BuildSettings(engine="container", image=images.image(), offline=True)
    builder = Builder(
        settings=own, environment={**os.environ, **(environment or {})}, cache=cache, progress=heard or Heard()
    )
    name = archive.name.partition("-")[0]
    return builder.archive(name, archive, hashlib.sha256(archive.read_bytes()).hexdigest(), target).path


def test_what_needs_a_younger_glibc_than_the_runtime_is_refused(tmp_path: Path, kept: Cache) -> None:
    """E1 of the survey: a build in an image that is not the runtime's compiles for that image."""
    with pytest.raises(PackagingError) as raised:
        build(sdist(tmp_path, source=GLIBC_TRAP), kept)
    assert raised.value.message == (
        f"`glibctrap-1.0-cp311-cp311-manylinux_2_34_{images.MACHINE}.whl`, built from the source of `glibctrap`, "
        f"does not run on `{TARGET}`: it needs glibc 2.34; the runtime has 2.26"
    )
    assert raised.value.hint == (
        f"`{images.NAME}` has a younger one: build with `--sdist-engine zig`, or in an older image"
    )


def test_what_needs_only_old_symbols_is_built_and_kept_by_its_image(tmp_path: Path, kept: Cache) -> None:
    archive, once, again = sdist(tmp_path), Heard(), Heard()
    wheel = build(archive, kept, heard=once)
    oldest = "2_5" if images.MACHINE == "x86_64" else "2_17"
    assert wheel.name == f"glibctrap-1.0-cp311-cp311-manylinux_{oldest}_{images.MACHINE}.whl"
    with zipfile.ZipFile(wheel) as opened:
        (module,) = [name for name in opened.namelist() if name.endswith(".so")]
        native = elf.read(io.BytesIO(opened.read(module)))
    assert isinstance(native, elf.ElfFile)
    assert native.machine == images.MACHINE

    assert build(archive, kept, heard=again) == wheel
    assert again.lines == ["`glibctrap` is unchanged since it was built"]

    other = containers.image(hosts.NATIVE)
    with pytest.raises(PackagingError, match=r"needs CPython 3\.11"):
        build(archive, kept, settings=BuildSettings(engine="container", image=other, offline=True))


def test_a_build_reaches_nothing_but_its_folder(tmp_path: Path, kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = """\
import json, os, socket
def reaches(*address):
    try:
        socket.create_connection(address, 1).close()
        return True
    except OSError as error:
        return type(error).__name__
def writes(folder):
    try:
        open(folder + "/written", "w").close()
        return True
    except OSError:
        return False
print("told", json.dumps({
    "environment": dict(os.environ),
    "folders": [f for f in FOLDERS if os.path.exists(f)],
    "networks": [name for _, name in socket.if_nameindex()],
    "reaches": [reaches("127.0.0.1", PORT), reaches("pypi.org", 443)],
    "writes": [f for f in ("/", "/usr", "/etc", "/build", "/build/tools", "/build/packages", "/tmp", ".") if writes(f)],
    "home": os.listdir(os.path.expanduser("~")),
    "capabilities": [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1],
}))
"""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@localhost:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        folders = [str(tmp_path), str(Path.home() / ".cache"), str(kept.root), str(FACTORY.parent)]
        probe = probe.replace("FOLDERS", repr(folders)).replace("PORT", str(port))
        heard = Heard()
        settings = BuildSettings(
            engine="container", image=images.image(), offline=True, environment={"glibctrap": {"ANSWER": "a b='\"$x"}}
        )
        build(sdist(tmp_path, backend=probe + COMPILES), kept, heard=heard, settings=settings)
    lines = [line.partition("told ")[2] for line in heard.lines if line.startswith("glibctrap: told ")]
    told = json.loads(lines[0])
    environment = told.pop("environment")
    assert told == {
        "folders": [],
        "networks": ["lo"],
        "reaches": ["ConnectionRefusedError", "gaierror"],
        "writes": ["/tmp", "."],
        "home": [],
        "capabilities": "0000000000000000",
    }
    assert environment["ANSWER"] == "a b='\"$x"
    assert environment["PATH"].startswith("/build/env/bin:")
    assert environment["HOME"] == "/build/work/home"
    assert not [name for name, value in environment.items() if "secret" in value or "proxy" in name.lower()]
    assert not {"CC", "CXX", "LDSHARED", "MANYLAMBDA_TARGET"} & environment.keys()


def test_build_requirements_are_installed_with_their_programs(tmp_path: Path, kept: Cache) -> None:
    """Wheels of the image's platform; programs run with the image's Python, though this host put them there."""
    index = tmp_path / "index"
    index.mkdir()
    scripts = "anvil-1.0.data/scripts"
    files = {
        "anvil/__init__.py": "import sys\ndef main():\n    print('entry', sys.executable)\n    return 0\n",
        "anvil-1.0.dist-info/entry_points.txt": "[console_scripts]\nhammer = anvil:main\n",
        f"{scripts}/tongs": "#!python\nimport anvil, sys\nprint('script', sys.executable)\n",
        f"{scripts}/bellows": "#!/bin/sh\necho shell\n",
    }
    tag = f"cp311-cp311-manylinux_2_36_{images.MACHINE}"
    make_wheel(index, "anvil", "1.0", files, tags=[tag])
    make_wheel(index, "more", "1.0", {"more.py": "told = 'more'\n"})
    backend = """\
import anvil, subprocess
print("at", anvil.__file__, flush=True)
for program in ("hammer", "tongs", "bellows"):
    subprocess.run([program], check=True)
def get_requires_for_build_wheel(settings=None):
    return ["more"]
"""
    build_wheel = COMPILES.replace("    module = ", "    import more; print(more.told)\n    module = ", 1)
    heard = Heard()
    archive = sdist(tmp_path, backend=backend + build_wheel, requires='["anvil"]')
    build(archive, kept, heard=heard, environment={"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index)})
    told = [line.removeprefix("glibctrap: ") for line in heard.lines]
    python = "/build/env/bin/python"
    first = [
        "at /build/env/lib/python3.11/site-packages/anvil/__init__.py",
        f"entry {python}",
        f"script {python}",
        "shell",
    ]
    assert told == [*first, *first, "more"]


@pytest.mark.network
def test_a_real_source_distribution_is_built_with_what_it_requires(tmp_path: Path, kept: Cache) -> None:
    from manylambda.fetch.client import HttpSettings
    from manylambda.fetch.credentials import Credentials
    from manylambda.fetch.download import Download, fetch_all
    from manylambda.locks.index import IndexClient
    from manylambda.locks.settings import IndexSettings

    with IndexClient(IndexSettings(), environment=os.environ, offline=False) as client:
        (file,) = [one for one in client.files("markupsafe") if one.filename == "markupsafe-3.0.2.tar.gz"]
    download = Download(url=file.url, filename=file.filename, sha256=file.hashes["sha256"], size=file.size)
    fetched = fetch_all(
        [download],
        cache=kept,
        credentials=Credentials.from_settings(os.environ, ()),
        offline=False,
        progress=SILENT,
        settings=HttpSettings.from_environment(os.environ),
    )
    settings = BuildSettings(engine="container", image=images.image())
    wheel = build(fetched[download], kept, settings=settings)
    assert wheel.name.startswith("markupsafe-3.0.2-cp311-cp311-manylinux_2_")
    with zipfile.ZipFile(wheel) as opened:
        assert [name for name in opened.namelist() if name.endswith(".so")]


def test_a_build_that_fails_tells_why_and_leaves_no_container(tmp_path: Path, kept: Cache) -> None:
    heard = Heard()
    with pytest.raises(PackagingError) as raised:
        build(sdist(tmp_path, source='#include "missing.h"\n'), kept, heard=heard)
    reason = "the header `missing.h` is missing"
    assert raised.value.message == f"`glibctrap` cannot be built for `{TARGET}`: {reason}"
    assert raised.value.hint == f"`{images.NAME}` does not have it: name an image with `--image` that has it"
    assert any("missing.h: No such file or directory" in line for line in heard.lines)
    containers.assert_gone()


def test_how_a_build_ended_is_known_when_podman_lost_it(
    tmp_path: Path, kept: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(containers.late(tmp_path / "late")) + os.pathsep + os.environ["PATH"])
    (tmp_path / "good").mkdir()
    heard = Heard()
    assert build(sdist(tmp_path / "good"), Cache(tmp_path / "cache"), heard=heard).name.endswith(".whl")
    with pytest.raises(PackagingError, match=r": the header `missing\.h` is missing$"):
        build(sdist(tmp_path, source='#include "missing.h"\n'), kept, heard=heard)
    assert not any("already been removed" in line for line in heard.lines)


def test_a_program_that_is_killed_is_told(tmp_path: Path, kept: Cache) -> None:
    heard = Heard()
    with pytest.raises(PackagingError):
        build(sdist(tmp_path, backend="import os; os.kill(os.getpid(), 9)"), kept, heard=heard)
    assert "  ended by signal 9" in heard.lines
    containers.assert_gone()


def test_when_the_caller_stops_the_container_goes(tmp_path: Path, kept: Cache) -> None:
    def stop(line: str) -> None:
        if line.endswith("asleep"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(sdist(tmp_path, backend=SLEEPS), kept, heard=Heard(stop))
    containers.assert_gone()


def test_when_the_caller_is_killed_the_container_goes(tmp_path: Path, kept: Cache) -> None:
    code = """
import sys
from pathlib import Path
from sdists.test_container import Heard, build
from manylambda.fetch import Cache
from manylambda.sdists import BuildSettings
archive, cache, image = sys.argv[1:]
settings = BuildSettings(engine="container", image=image, offline=True)
build(Path(archive), Cache(Path(cache)), settings=settings, heard=Heard(lambda line: print(line, flush=True)))
"""
    caller = subprocess.Popen(
        [sys.executable, "-c", code, str(sdist(tmp_path, backend=SLEEPS)), str(kept.root), images.image()],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(FACTORY.parent)},
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "glibctrap: asleep\n"
    caller.kill()
    caller.communicate()
    containers.assert_gone()


def test_without_a_container_program_that_is_told(tmp_path: Path, kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagingError) as raised:
        build(sdist(tmp_path), kept, settings=BuildSettings(engine="container", image="none:1"))
    assert raised.value.message == "there is no container to build in: no podman, docker, finch or nerdctl on the path"
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("install podman")


def test_auto_takes_a_container_only_for_want_of_zig(
    tmp_path: Path, kept: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, heard, again = sdist(tmp_path), Heard(), Heard()
    missing = Unusable("interpreter", "no CPython 3.11 on this host", None)
    monkeypatch.setattr(zig, "find_interpreter", lambda *_, **__: missing)
    settings = BuildSettings(image=images.image(), offline=True)
    cache = Cache(tmp_path / "cache")
    wheel = build(archive, cache, settings=settings, heard=heard)
    reason = f"`glibctrap` has to be compiled for `{TARGET}` with a CPython 3.11: no CPython 3.11 on this host"
    assert heard.lines == [f"`glibctrap` is compiled in a container (podman, {images.NAME}): {reason}"]
    assert build(archive, cache, settings=settings, heard=again) == wheel
    assert again.lines == heard.lines, "and it is not built again"

    with pytest.raises(PackagingError) as raised:
        build(archive, cache, settings=BuildSettings(image="localhost/none:1", offline=True))
    assert raised.value.message == reason
    assert raised.value.hint is not None
    assert raised.value.hint.endswith(
        "; no container either: the image `localhost/none:1` is not here, and `--offline` forbids pulling it"
    )
    with pytest.raises(PackagingError) as raised:
        build(archive, cache, settings=BuildSettings(engine="zig", image=images.image(), offline=True))
    assert "container either" not in (raised.value.hint or "")


def test_an_image_that_does_not_build_for_the_target_is_refused(tmp_path: Path, kept: Cache) -> None:
    def refusal(target: str, image: str, *, offline: bool = True) -> ManylambdaError:
        settings = BuildSettings(engine="container", image=image, offline=offline)
        with pytest.raises(ManylambdaError) as raised:
            build(sdist(tmp_path), kept, target=Target.parse(target), settings=settings)
        return raised.value

    own = images.image()
    other = {"x86_64": "arm64", "arm64": "x86_64"}[images.ARCHITECTURE]
    error = refusal(f"python3.13-{images.ARCHITECTURE}", own)
    assert (
        error.message
        == f"the image `{own}` has no Python on its path, and python3.13-{images.ARCHITECTURE} needs CPython 3.13"
    )
    error = refusal(f"python3.11-{other}", own, offline=False)
    assert (
        error.message
        == f"the image `{own}` is for linux/{hosts.NATIVE}, and python3.11-{other} needs linux/{hosts.FOREIGN}"
    )
    image = containers.image(hosts.NATIVE)
    error = refusal(hosts.TARGETS[hosts.NATIVE], image)
    assert error.message == f"the image `{image}` has no C compiler and no Python.h"
    assert error.hint is not None
    assert f"`public.ecr.aws/sam/build-python3.13:latest-{images.ARCHITECTURE}`" in error.hint
    error = refusal(str(TARGET), "127.0.0.1:1/none:1", offline=False)
    assert isinstance(error, FetchError)
    assert error.message.startswith("`podman` cannot pull `127.0.0.1:1/none:1`: ")
    error = refusal(str(TARGET), "127.0.0.1:1/none:1")
    assert isinstance(error, NotCached)
    assert error.hint == f"podman pull --platform linux/{hosts.NATIVE} 127.0.0.1:1/none:1"


def test_an_image_of_a_machine_that_does_not_run_here_is_told(tmp_path: Path, kept: Cache) -> None:
    if any(Path("/proc/sys/fs/binfmt_misc").glob("qemu-*")):
        pytest.skip("this host runs programs of the other machine")
    image = containers.image(hosts.FOREIGN)
    target = Target.parse(hosts.TARGETS[hosts.FOREIGN])
    with pytest.raises(PackagingError) as raised:
        build(sdist(tmp_path), kept, target=target, settings=BuildSettings(engine="container", image=image))
    assert raised.value.message == f"this host cannot run {target.machine} programs: `{image}`"
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("let qemu run them: `")


def test_the_docker_client_works_as_well(
    tmp_path: Path, kept: Cache, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.image()
    with containers.docker_service(tmp_path_factory.mktemp("docker")) as variables:
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        only = tmp_path / "programs"
        only.mkdir()
        for name in ("docker", "bwrap"):
            if found := shutil.which(name):
                (only / name).symlink_to(found)
        monkeypatch.setenv("PATH", str(only))
        heard = Heard()
        wheel = build(
            sdist(tmp_path, backend="print('heard', flush=True)\n" + COMPILES), Cache(tmp_path / "cache"), heard=heard
        )
        assert "-cp311-" in wheel.name
        assert "glibctrap: heard" in heard.lines

        def stop(line: str) -> None:
            if line.endswith("asleep"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(sdist(tmp_path, backend=SLEEPS), Cache(tmp_path / "cache"), heard=Heard(stop))
        monkeypatch.undo()
    containers.assert_gone()


def test_the_image_is_that_in_which_sam_builds() -> None:
    reference = container.default_reference(Target.parse("python3.13-arm64"))
    assert reference == "public.ecr.aws/sam/build-python3.13:latest-arm64"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"C:\build\source\demo-1.0", "/build/source/demo-1.0"),
        (r'["D:\\build\\source\\demo-1.0\\back end"]', '["/build/source/demo-1.0/back end"]'),
        (
            r'{"kwargs": {"wheel_directory": "C:\\build\\out", "x": "a\\nb"}}',
            r'{"kwargs": {"wheel_directory": "/build/out", "x": "a\\nb"}}',
        ),
        (r"C:\Users\build", r"C:\Users\build"),
    ],
)
def test_paths_that_windows_made_its_own_are_those_of_the_container_again(text: str, wanted: str) -> None:
    assert container.without_drives(text) == wanted


def test_a_script_whose_interpreter_is_called_through_a_shell_gets_the_own_one(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (packages / "bin").mkdir(parents=True)
    long = "#!/bin/sh\n'''exec' '/a b/python' \"$0\" \"$@\"\n' '''\nimport sys\n"
    (packages / "bin" / "one").write_text(long)
    (packages / "bin" / "python").write_text("not the interpreter")
    begin.make_environment(tmp_path / "env", packages)
    assert (tmp_path / "env" / "bin" / "one").read_text() == f"#!{tmp_path}/env/bin/python\nimport sys\n"
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "import sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}/env\n"


@pytest.mark.parametrize(("seconds", "said"), [("0.5", "ended after 0 minutes\n"), ("900", "")])
def test_a_build_ends_when_its_time_is_over_or_nobody_listens(tmp_path: Path, seconds: str, said: str) -> None:
    program = tmp_path / "tools" / "begin.py"
    program.parent.mkdir()
    program.write_bytes(Path(begin.__file__).read_bytes())
    (tmp_path / "packages").mkdir()
    with (tmp_path / "output").open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-I", "-S", program, seconds, "sleep", "600"],
            stdin=subprocess.DEVNULL if not said else subprocess.PIPE,
            stdout=output,
        )
        try:
            assert running.wait(120) == 1
        finally:
            running.kill()
            running.wait()
        if running.stdin is not None:
            running.stdin.close()
    assert (tmp_path / "output").read_text() == said
