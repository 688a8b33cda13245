"""Builds on hosts other than Linux with bubblewrap give the same bytes: without it, on macOS as far as it can be
pretended, and on Windows under Wine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda.fetch import Cache
from manylambda.host.interpreters import Interpreter, find_interpreter
from manylambda.sdists import Builder, isolation, launchers, wheel, workshop
from manylambda.sdists.inside import compiler
from manylambda.sdists.toolchain import ZIG, backend_settings
from manylambda.target import Target
from sdists import wine
from sdists.test_isolation import needs_bubblewrap

if TYPE_CHECKING:
    from collections.abc import Sequence

ARM = Target.parse("python3.13-arm64")
HEADERS = "/build/tools/include"
needs_python = pytest.mark.skipif(
    not isinstance(find_interpreter(ARM.python), Interpreter) and not os.environ.get("CI"),
    reason="no CPython 3.13 on this host",
)

# Everything that hosts do in their own ways: answers about the system, flags by it, paths in what is compiled, headers
# in folders, the folder of the build in text.
_SETUP = """\
import os, platform, shutil, subprocess, sys, sysconfig
from setuptools import Extension, setup
flags = ["/O2", "/DSYSTEM=1"] if os.name == "nt" else ["-O1", "-DSYSTEM=2"]
facts = [sys.platform, os.name, platform.system(), platform.machine(), sysconfig.get_platform(), os.uname()[4]]
facts += [bool(shutil.which("cc")), subprocess.call(["cc", "--version"], stdout=subprocess.DEVNULL)]
with open("src/answers/facts.py", "w", newline="\\n") as file:
    file.write("FACTS = %r\\nHERE = %r\\n" % (facts, os.path.realpath(os.getcwd()).replace(os.sep, "/")))
module = Extension("answers._native", ["src/native.c"], include_dirs=["src/deep"], extra_compile_args=flags)
# By the whole path, as CMake and meson name folders.
other = Extension("answers._other", ["src/other.c"], include_dirs=[os.path.realpath("src/deep")])
setup(ext_modules=[module, other])
"""
_NATIVE = """\
#include <Python.h>
#include "inner.h"
#ifdef MS_WINDOWS
#error "the headers are those of Windows"
#endif
#if !defined(HAVE_UNISTD_H) || SIZEOF_LONG != 8
#error "the headers are not the target's"
#endif
static PyObject *where(PyObject *self, PyObject *none)
{
    return Py_BuildValue("ssi", __FILE__, inner(), SYSTEM);
}
static PyMethodDef methods[] = {{"where", where, METH_NOARGS, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_native", 0, -1, methods};
PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&module); }
"""
_FILES = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "answers"\nversion = "1.0"\nreadme = "README.md"\n[project.scripts]\nanswers = "answers:main"\n'
    '[tool.setuptools]\npackage-dir = {"" = "src"}\npackages = ["answers"]\n',
    "README.md": "What a host answers.\n\nÄnderungen\n",
    "setup.py": _SETUP,
    "PKG-INFO": "Metadata-Version: 2.1\nName: answers\nVersion: 1.0\n",
    "src/answers/__init__.py": "",
    "src/answers/tool.py": "#!/usr/bin/env python3\n",
    "src/native.c": _NATIVE,
    "src/other.c": _NATIVE.replace("_native", "_other").replace("SYSTEM", "3"),
    "src/deep/inner.h": "static const char *inner(void) { return __FILE__; }\n",
}


def answers(folder: Path) -> Path:
    """Make the sdist."""
    folder.mkdir(exist_ok=True)
    archive = folder / "answers-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in _FILES.items():
            info = tarfile.TarInfo(f"answers-1.0/{name}")
            data = text.encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def build(archive: Path, cache: Path) -> Path:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Builder(cache=Cache(cache)).archive("answers", archive, digest, ARM).path


def contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def assert_same(one: Path, other: Path) -> None:
    """Name what differs before telling that something does."""
    ours, theirs = contents(one), contents(other)
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built on Linux, in bubblewrap."""
    folder = tmp_path_factory.mktemp("closed")
    return build(answers(folder), folder / "cache")


# --- without bubblewrap


@pytest.mark.network
@pytest.mark.slow
@needs_bubblewrap
@needs_python
def test_a_build_without_bubblewrap_gives_the_same_bytes(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # macOS has its temporary files behind a link: `/var` is `/private/var`.
    real, link = tmp_path / "private" / "var", tmp_path / "var"
    real.mkdir(parents=True)
    link.symlink_to(real)
    monkeypatch.setattr("tempfile.tempdir", str(link))
    monkeypatch.setattr(workshop, "bubblewrap", lambda: None)
    bare = build(answers(tmp_path / "sdist"), tmp_path / "cache")
    assert_same(closed, bare)
    made = contents(bare)
    assert made["answers/facts.py"].decode().splitlines() == [
        "FACTS = ['linux', 'posix', 'Linux', 'aarch64', 'linux-aarch64', 'aarch64', True, 0]",
        "HERE = '/build/source/answers-1.0'",
    ]
    assert str(real).encode() not in b"".join(made.values())
    native, other = (made[f"answers/_{name}.cpython-313-aarch64-linux-gnu.so"] for name in ("native", "other"))
    assert b"\0src/native.c\0" in native
    assert b"src/deep/inner.h\0" in native
    assert b"\0build/source/answers-1.0/src/deep/inner.h\0" in other


def test_a_build_is_in_its_folder_by_the_name_that_it_asks_the_system_for(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert isolation.Bare(tmp_path / "link").root == os.path.realpath(tmp_path / "real")


def _raw_wheel(folder: Path, files: dict[str, bytes], mode: int = 0o644) -> Path:
    place = folder / "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return place


@pytest.mark.parametrize("mode", [0o644, 0o755, 0])
def test_what_can_be_executed_is_known_by_content(tmp_path: Path, mode: int) -> None:
    files = {
        "lib/native.so": b"\x7fELF and more",
        "lib/tool.py": b"#!/usr/bin/env python\n",
        "lib/plain.py": b"#\n",
        "lib-1.0.data/scripts/run": b"@echo off\n",
        "lib-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\r\n",
        "lib-1.0.dist-info/METADATA": b"Name: lib\r\nVersion: 1.0\r\n",
        "lib-1.0.dist-info/licenses/LICENSE": b"as it\r\ncame\r\n",
        "lib-1.0.dist-info/RECORD": b"",
    }
    unpacked = wheel.unpack(_raw_wheel(tmp_path, files, mode), tmp_path / "unpacked")
    tree, _ = wheel.finish(unpacked, None)
    executable = [entry.path for entry in tree.entries if entry.mode == 0o755]
    assert executable == ["lib-1.0.data/scripts/run", "lib/native.so", "lib/tool.py"]
    info = tmp_path / "unpacked" / "lib-1.0.dist-info"
    assert (info / "METADATA").read_bytes() == b"Name: lib\nVersion: 1.0\n"
    assert (info / "WHEEL").read_bytes() == b"Wheel-Version: 1.0\nTag: py3-none-any\n"
    assert (info / "licenses" / "LICENSE").read_bytes() == b"as it\r\ncame\r\n"


def test_text_that_names_the_folder_of_the_build_names_the_same_one_everywhere(tmp_path: Path) -> None:
    room = tmp_path / "room"
    (tmp_path / "link").symlink_to(room)
    files = {
        "lib/config.py": f"CC = {str(room)!r} '/tools/bin/cc'\n".encode(),
        "lib/other.py": f"CC = '{tmp_path}/link/tools/bin/cc'\n".encode(),
        "lib/data.bin": b"\0" + str(room).encode(),
        "lib-1.0.dist-info/RECORD": b"",
    }
    room.mkdir()
    unpacked = wheel.unpack(_raw_wheel(tmp_path, files), tmp_path / "unpacked")
    wheel.forget_place(unpacked, tmp_path / "link", "/build")
    read = {path: (unpacked.folder / path).read_bytes() for path in unpacked.files()}
    assert read["lib/config.py"] == b"CC = '/build' '/tools/bin/cc'\n"
    assert read["lib/other.py"] == b"CC = '/build/tools/bin/cc'\n"
    assert read["lib/data.bin"] == files["lib/data.bin"]  # what is native would not work


def test_meson_python_builds_in_a_folder_of_one_name() -> None:
    assert backend_settings("mesonpy", "/t") == {
        "setup-args": ["--cross-file=/t/cross.ini"],
        "builddir": ".mesonpy-build",
    }
    assert "builddir" not in backend_settings("mesonpy", "/t", {"build-dir": "mine"})
    assert backend_settings("setuptools.build_meta", "/t") == {}


# --- the arguments that other hosts' builds give


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("-bundle -undefined dynamic_lookup -arch arm64 -arch x86_64 a.o -o a.so", "a.o -o a.so"),
        ("-isysroot /Library/SDKs/MacOSX.sdk -mmacosx-version-min=10.13 -c a.c", "-c a.c"),
        ("-mmacos-version-min=11.0 -dynamiclib -install_name @rpath/liba.dylib a.o", "a.o"),
        ("-Wl,-headerpad_max_install_names -Wl,-dead_strip -Wl,-no_fixup_chains a.o", "a.o"),
        ("-Wl,-undefined,dynamic_lookup -Wl,-exported_symbol,_PyInit_a -Wl,-x a.o", "a.o"),
        ("-framework Accelerate -F/Library/Frameworks -Wl,-framework,Metal a.o", "a.o"),
        ("-L/opt/homebrew/lib -I/opt/homebrew/include -I/opt/local/include -Iown a.c", "-Iown a.c"),
        ("-Wl,-rpath,@loader_path/libs -Wl,-rpath,/opt/homebrew/lib a.o", "-Wl,-rpath,$ORIGIN/libs a.o"),
        ("-rpath @loader_path a.o", "-rpath $ORIGIN a.o"),
        ("-lpython3.13 -lSystem -lm a.o", "-lm a.o"),
        ("-lpython313 a.o", "a.o"),
        ("-IC:/Program|Files/Python/Include a.c", "a.c"),
        ("-march=native -mcpu=native -g -O3 a.c", "-O3 a.c"),
    ],
)
def test_what_is_about_another_host_is_left_out(words: str, kept: str) -> None:
    given = [word.replace("|", " ") for word in words.split()]
    assert list(compiler._kept(given, None)) == kept.split()


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("/O2 /EHsc /std:c++17 /MD -c src\\a.c", "-c src/a.c"),
        ("-DMS_WIN64= -DMY=1 a.c", "-DMY=1 a.c"),
        ("a.o C:\\Python313\\libs\\python313.lib C:/libs/python3.lib own.lib", "a.o own.lib"),
        ("/DNAME=1 /IC:\\own /Usomething a.c", "-DNAME=1 -IC:/own -Usomething a.c"),
        ('-DTEXT="a\\b" -IC:\\x\\include -oC:\\x\\a.o', '-DTEXT="a\\b" -IC:/x/include -oC:/x/a.o'),
    ],
)
def test_what_is_for_the_compiler_of_windows_is_told_to_another(words: str, kept: str) -> None:
    assert list(compiler._of_unix(words.split())) == kept.split()


@pytest.mark.parametrize("folder", ["Include", "include/python3.13", "Python.framework/Versions/3.13/Headers"])
@pytest.mark.parametrize("option", [["-I"], ["-isystem", ""]])
def test_the_headers_of_a_hosts_python_are_never_used(tmp_path: Path, folder: str, option: Sequence[str]) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "Python.h").touch()
    words = [f"{option[0]}{place}"] if len(option) == 1 else [option[0], str(place)]
    own = [f"{option[0]}{HEADERS}"] if len(option) == 1 else [option[0], HEADERS]
    assert list(compiler._kept(words, None, HEADERS)) == own


def _settings(folder: Path, *, is_windows: bool = False) -> Path:
    """Write settings for a zig that tells what it was told."""
    zig = folder / "zig"
    zig.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/told"\n')
    zig.chmod(0o755)
    settings = {
        "zig": str(zig),
        "target": "aarch64-linux-gnu.2.34",
        "paths": [["/b/source", "."]],
        "is_windows": is_windows,
        "headers": HEADERS,
        "failures": str(folder / "failures"),
        "sysroot": None,
        "programs": {},
        "pkg_config": None,
    }
    place = folder / "settings.json"
    place.write_text(json.dumps(settings))
    return place


def test_a_link_of_a_mac_becomes_one_for_the_target(tmp_path: Path) -> None:
    words = ["-bundle", "-undefined", "dynamic_lookup", "-arch", "arm64", "a.o", "-o", "a.so", "-shared"]
    assert compiler.main([str(_settings(tmp_path)), "cc", *words]) == 0
    assert (tmp_path / "told").read_text().split() == [
        *("cc", "-target", "aarch64-linux-gnu.2.34", "-fno-sanitize=undefined", "-g0", "-O2"),
        *("-ffile-prefix-map=/b/source=.", "-ffile-reproducible", "-s", "a.o", "-o", "a.so", "-shared"),
    ]


def test_on_windows_there_is_a_patchelf_as_long_as_nothing_is_to_be_patched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = str(_settings(tmp_path, is_windows=True))
    assert compiler.main([settings, "patchelf", "--print-rpath", "a.so"]) == 0
    assert capsys.readouterr().out == "\n"
    assert compiler.main([settings, "patchelf", "--set-rpath", "$ORIGIN/libs", "a.so"]) == 1
    assert "no `patchelf` for Windows" in capsys.readouterr().err
    assert "no `patchelf` for Windows" in (tmp_path / "failures").read_text()


def test_arguments_that_windows_would_not_take_go_through_a_file(tmp_path: Path) -> None:
    objects = [f"folder\\{number:05}.o" for number in range(4000)]
    words = ['-DTEXT="a b"', *objects, "-o", "a.so", "-shared", "-DOTHER=it's"]
    assert compiler.main([str(_settings(tmp_path, is_windows=True)), "cc", *words]) == 0
    *before, text, file, other = (tmp_path / "told").read_text().splitlines()
    assert before[:2] == ["cc", "-target"]
    assert (text, other) == ('-DTEXT="a b"', "-DOTHER=it's")
    lines = Path(file.removeprefix("@")).read_text().splitlines()
    assert lines == [*(word.replace("\\", "/") for word in objects), "-o", "a.so", "-shared"]


def test_zig_reads_arguments_from_such_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("const char *text = TEXT;\n")
    settings = json.loads(_settings(tmp_path, is_windows=True).read_text())
    words = ["-c", f"{tmp_path}/a.c", "-o", f"{tmp_path}/a.o", *(f"-DNAME{number}=1,2" for number in range(20))]
    command = [sys.executable, "cc", *words, '-DTEXT="it\'s"']
    _, tool, *through = compiler._through_file(settings, command)
    assert len(through) == 2
    subprocess.run([sys.executable, "-m", "ziglang", tool, "-target", "aarch64-linux-gnu", *through], check=True)
    assert b"it's" in (tmp_path / "a.o").read_bytes()


# --- launchers


def test_a_launcher_gives_arguments_as_they_are(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", "it's $HOME"]
    launchers.write(tmp_path / "cc", program)
    words = ['-DX="a b"', "$(x)", "", "\\", "ü"]
    told = subprocess.run([tmp_path / "cc", *words], check=True, capture_output=True, text=True).stdout
    assert json.loads(told) == ["it's $HOME", *words]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launcher")
    zig = folder / "zig"
    zig.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m ziglang \"$@\"\n")
    zig.chmod(0o755)
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder), "PATH": os.defpath}
    for machine in ("aarch64", "x86_64"):
        launchers.compile_launcher(zig, machine, folder / f"{machine}.exe", environment=environment)
    return folder


def test_launchers_are_programs_of_windows_and_need_no_library_but_its_own(launcher: Path) -> None:
    for machine, number in (("x86_64", 0x8664), ("aarch64", 0xAA64)):
        content = (launcher / f"{machine}.exe").read_bytes()
        header = int.from_bytes(content[0x3C:0x40], "little")
        assert content[:2] == b"MZ"
        assert int.from_bytes(content[header + 4 : header + 6], "little") == number
        assert len(content) < 10_000
        assert [name for name in content.split(b"\0") if name.lower().endswith(b".dll")] == [b"kernel32.dll"]


def test_a_launcher_of_windows_gives_arguments_as_they_are(launcher: Path, tmp_path: Path) -> None:
    wine.needs_wine()
    folder = tmp_path / "with a space"
    folder.mkdir()
    python = wine.drive(wine.HOST / "python" / "python.exe")
    program = "import sys; print(ascii(sys.argv[1:])); sys.exit(7)"
    launchers.write(folder / "cc", [python, "-I", "-S", "-c", program, "own word"], launcher / "x86_64.exe")
    words = ["-c", 'a "b" c', "x\\", "ü", "", '-DX="1"']
    status, text = wine.run([str(folder / "cc.exe"), *words], folder=tmp_path, more={})
    assert (status, text.strip()) == (7, ascii(["own word", *words]))


# --- macOS, pretended

# What a CPython of macOS says of itself, before anything of ours is imported.
_DARWIN = """\
import os, platform, sys, sysconfig
variables = sysconfig.get_config_vars()
sys.platform = "darwin"
sys.implementation._multiarch = "darwin"
own = platform.uname()
platform.system = lambda: "Darwin"
platform.machine = lambda: "arm64"
platform.uname = lambda: own._replace(system="Darwin", machine="arm64")
platform.mac_ver = lambda *_: ("14.5", ("", "", ""), "arm64")
sysconfig.get_platform = lambda: "macosx-11.0-arm64"
variables.update({
    "CC": "clang", "CXX": "clang++", "AR": "/usr/bin/ar",
    "LDSHARED": "clang -bundle -undefined dynamic_lookup -arch arm64",
    "CFLAGS": "-arch arm64 -isysroot /Library/Developer/SDKs/MacOSX14.sdk -g -O3", "LDFLAGS": "-L/opt/homebrew/lib",
    "CPPFLAGS": "-I/opt/homebrew/include", "EXT_SUFFIX": ".cpython-313-darwin.so", "SOABI": "cpython-313-darwin",
    "MULTIARCH": "darwin", "MACHDEP": "darwin", "MACOSX_DEPLOYMENT_TARGET": "11.0", "PYTHONFRAMEWORK": "Python",
    "LDVERSION": "3.13", "LIBRARY": "libpython3.13.a", "LDLIBRARY": "Python.framework/Versions/3.13/Python",
    "Py_ENABLE_SHARED": 1, "UNIVERSAL_ARCHS": "universal2",
})
import importlib.machinery, types
scproxy = sys.modules["_scproxy"] = types.ModuleType("_scproxy")
scproxy._get_proxies = scproxy._get_proxy_settings = dict
importlib.machinery.EXTENSION_SUFFIXES[:] = [".cpython-313-darwin.so", ".abi3.so", ".so"]
"""


@pytest.mark.network
@pytest.mark.slow
@needs_bubblewrap
@needs_python
def test_a_python_that_says_it_is_of_macos_gives_the_same_bytes(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = workshop._describe_target
    pretended = []

    def describe_on_a_mac(environment: Path, program: Path) -> None:
        describe(environment, program)
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "_a_mac.py").write_text(_DARWIN)
        (site / "_a_mac.pth").write_text("import _a_mac\n")  # read before `_manylambda_target.pth`
        pretended.append(site)

    monkeypatch.setattr(workshop, "_describe_target", describe_on_a_mac)
    monkeypatch.setattr(workshop, "bubblewrap", lambda: None)
    assert_same(closed, build(answers(tmp_path / "sdist"), tmp_path / "cache"))
    assert pretended


_WHO_ASKS = """
import json, os, platform, sys, sysconfig
platform.system = lambda: "Windows"
sysconfig.get_config_vars()
sys.platform = "win32"
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {"__name__": "_manylambda_target"})
vars(os)["name"] = "nt"
def asked(name, file="/elsewhere/x.py"):
    scope = {"__name__": name}
    exec(compile("import os, platform, sys\\nfound = [sys.platform, os.name, platform.system()]", file, "exec"), scope)
    return scope["found"]
names = ["shutil", "subprocess", "multiprocessing.context", "mesonbuild.utils.universal", "setup", "packaging.tags",
         "setuptools._distutils.ccompiler", "distutils.command.build_ext", "setuptools.command.build_ext",
         "distutils.dir_util", "platform", "sysconfig"]
found = {name: asked(name) for name in names}
scope = {}
for name in ("mesonbuild/scripts/python_info.py", "packaging/tags.py"):
    exec(compile("import sysconfig; found = sysconfig.get_platform()", "/env/" + name, "exec"), scope)
    found[name] = scope["found"]
found["a setup.py"] = asked("__main__", sys.argv[2] + "/lib-1.0/setup.py")
found["own"] = [sys.platform, os.confstr("CS_GNU_LIBC_VERSION"), os.uname().machine]
del vars(os)["name"]; vars(os)["name"] = "posix"
print(json.dumps(found))
"""


def test_a_build_is_told_of_the_target_and_what_runs_programs_of_the_host(tmp_path: Path) -> None:
    facts = {
        "source": "/B/source",
        "platform": "linux-aarch64",
        "machine": "aarch64",
        "glibc": "2.34",
        "include": HEADERS,
        "variables": {"MULTIARCH": "aarch64-linux-gnu", "EXT_SUFFIX": ".cpython-313-aarch64-linux-gnu.so"},
    }
    (tmp_path / "target.json").write_text(json.dumps(facts))
    cross = Path(compiler.__file__).with_name("cross.py")
    done = subprocess.run(
        [sys.executable, "-S", "-c", _WHO_ASKS, str(cross), "/b/source"],
        env={"MANYLAMBDA_TARGET": str(tmp_path / "target.json"), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    host = ["win32", "nt", "Windows"]
    for name in ("shutil", "subprocess", "multiprocessing.context", "mesonbuild.utils.universal"):
        assert found[name] == host, name
    for name in ("setup", "packaging.tags", "distutils.dir_util", "platform", "sysconfig"):
        assert found[name] == ["linux", "nt", "Linux"], name
    for name in ("setuptools._distutils.ccompiler", "distutils.command.build_ext", "setuptools.command.build_ext"):
        assert found[name] == ["linux", "posix", "Linux"], name
    assert found["mesonbuild/scripts/python_info.py"] == "win-amd64"
    assert found["packaging/tags.py"] == "linux-aarch64"
    assert found["a setup.py"] == ["linux", "posix", "Linux"]
    assert found["own"] == ["linux", "glibc 2.34", "aarch64"]


# --- Windows

_ON_WINDOWS = """
import hashlib, pathlib, shutil, sys
from manylambda.fetch import Cache
from manylambda.sdists import Builder
from manylambda.target import Target

class Told:
    def task(self, *_, **__): return self
    def advance(self, _): pass
    def finish(self): pass
    def info(self, message): print(message, flush=True)
    detail = warning = info

archive, cache, out = map(pathlib.Path, sys.argv[1:])
digest = hashlib.sha256(archive.read_bytes()).hexdigest()
builder = Builder(cache=Cache(cache), progress=Told())
built = builder.archive("answers", archive, digest, Target.parse("python3.13-arm64"))
(out / built.path.name).write_bytes(built.path.read_bytes())
"""


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.xdist_group("wine")
@needs_bubblewrap
def test_windows_gives_the_same_bytes(closed: Path, tmp_path: Path) -> None:
    wine.needs_wine()
    python = wine.installed_python(tmp_path / "python")
    wine.install_zig(tmp_path / "python" / "Lib" / "site-packages", ZIG)
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(_ON_WINDOWS)
    out.mkdir()
    index = {name: os.environ[name] for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if name in os.environ}
    if certificates := os.environ.get("SSL_CERT_FILE"):
        index["SSL_CERT_FILE"] = wine.drive(Path(certificates))
    status, text = wine.run(
        [str(python), *(wine.drive(path) for path in (program, answers(tmp_path / "sdist"), tmp_path / "cache", out))],
        folder=tmp_path,
        more=index,
    )
    assert status == 0, text
    (built,) = out.iterdir()
    assert_same(closed, built)
    shutil.rmtree(tmp_path / "python")
