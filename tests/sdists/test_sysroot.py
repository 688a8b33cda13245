from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from manylambda import elf
from manylambda.errors import NotCached, RequestError
from manylambda.fetch import Cache
from manylambda.locks.model import LocalPackage, ResolveOptions
from manylambda.sdists import Builder, BuildSettings, sysroot, toolchain
from manylambda.sdists.inside import compiler
from manylambda.sdists.isolation import bubblewrap
from manylambda.target import Target
from product.sources import needs_python
from sdists.roots import TRIPLES, compile_library, small_root

pytestmark = pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")

TARGETS = {"aarch64": Target.parse("python3.13-arm64"), "x86_64": Target.parse("python3.13-x86_64")}
FACTORY = Path(__file__).parent.parent / "wheel_factory.py"

# A backend that finds the library in each way there is, and compiles one module by each answer.
BACKEND = """\
import os, subprocess, sysconfig
from pathlib import Path
from wheel_factory import make_wheel

def told(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

def build_wheel(folder, settings=None, metadata=None):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    tag, system = "cp" + sysconfig.get_config_var("py_version_nodot"), sysconfig.get_platform().replace("-", "_")
    found = {
        "by_config": [*told("outer-config", "--cflags"), *told("outer-config", "--libs"), "-lm"],
        "by_pkg_config": told("pkg-config", "--cflags", "--libs", "outer"),
        "by_hand": ["-I/usr/include/outer", "-I", "/usr/include", "-L/usr/lib", "-louter", "-lc"],
        "by_path": ["-I/usr/include/outer", told("outer-config", "--prefix")[0] + "/lib/@TRIPLE@/libouter.so"],
        "by_script": ["-I/usr/include/outer", "-lboth"],
    }
    files = {}
    for name, flags in found.items():
        print(name, *flags)
        module = name + suffix
        source = Path("module.c").read_text().replace("NAME", name)
        Path(name + ".c").write_text(source)
        include = "-I" + sysconfig.get_path("include")
        subprocess.run(["cc", "-shared", "-fPIC", include, name + ".c", "-o", module, *flags], check=True)
        files["pkg/" + module] = Path(module).read_bytes()
    print(*told("outer-config", "--nowhere"))
    files["pkg/__init__.py"] = ""
    return make_wheel(Path(folder), "uses-outer", "1.0", files, tags=[f"{tag}-{tag}-{system}"]).name
"""
MODULE = """\
#include <Python.h>
#include <stdlib.h>
#include <outer.h>

static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(outer()); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", "", -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&module); }
"""


class Heard:
    """Keeps what a build tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, *words: object, **more: object) -> Heard:
        return self

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...

    def info(self, message: str) -> None:
        self.lines.append(message)

    detail = warning = info


def source(folder: Path, machine: str) -> LocalPackage:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "uses-outer"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(BACKEND.replace("@TRIPLE@", TRIPLES[machine]))
    (folder / "module.c").write_text(MODULE)
    (folder / "wheel_factory.py").write_bytes(FACTORY.read_bytes())
    return LocalPackage(name="uses-outer", directory=folder)


def build(package: LocalPackage, machine: str, root: Path | None, cache: Path, heard: Heard | None = None) -> Path:
    builder = Builder(settings=BuildSettings(sysroot=root, offline=True), cache=Cache(cache), progress=heard or Heard())
    return builder.folders([package], TARGETS[machine])[package].path


@needs_python(3, 13)
@pytest.mark.parametrize(("machine", "is_bare"), [("aarch64", False), ("x86_64", False), ("x86_64", True)])
def test_what_a_build_finds_is_that_of_the_root_file_system_and_comes_with_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, is_bare: bool
) -> None:
    if is_bare:
        monkeypatch.setattr("manylambda.sdists.workshop.bubblewrap", lambda: None)
    root = small_root(tmp_path / "root", machine)
    package = source(tmp_path / "source", machine)
    heard = Heard()
    wheel = build(package, machine, root, tmp_path / "cache", heard)
    place = str(root) if is_bare or bubblewrap() is None else "/build/sysroot"
    (told,) = [line for line in heard.lines if line.startswith("uses-outer: by_config ")]
    include, library = f"-I{place}/usr/include/outer -I{place}/usr/include", "/tools/libraries/usr/lib -louter -lm"
    assert told.startswith(f"uses-outer: by_config {include} -L")
    assert told.endswith(library)
    assert "uses-outer: /opt/outer" in heard.lines
    assert "`uses-outer` brings what it needs of the root file system: libdeep.so.1.0, libouter.so.2.3.4" in heard.lines

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    outer, deep = (
        next((tmp_path / "wheel" / "uses_outer.libs").glob(f"{name}-*.so.*")) for name in ("libouter", "libdeep")
    )
    modules = sorted((tmp_path / "wheel" / "pkg").glob("*.so"))
    assert [module.name.partition(".")[0] for module in modules] == [
        *("by_config", "by_hand", "by_path", "by_pkg_config", "by_script"),
    ]
    for module in modules:
        native = elf.read(module)
        assert isinstance(native, elf.ElfFile)
        assert native.machine == machine
        assert native.rpath == ("$ORIGIN/../uses_outer.libs",)
        assert outer.name in native.needed
        # Nothing of this host's or of the root file system's glibc.
        assert {name for name in native.needed if not name.startswith("lib")} == set()
    record = (tmp_path / "wheel" / "uses_outer-1.0.dist-info" / "RECORD").read_text()
    assert f"uses_outer.libs/{deep.name},sha256=" in record

    if machine == platform.machine() and sys.version_info[:2] == (3, 13):
        code = "import pkg.by_config, pkg.by_script; print(pkg.by_config.answer() + pkg.by_script.answer())"
        ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "wheel", capture_output=True, check=True)
        assert ran.stdout.strip() == b"84"


@needs_python(3, 13)
def test_the_wheel_is_the_same_wherever_the_root_file_system_lies_and_another_when_that_changes(tmp_path: Path) -> None:
    package = source(tmp_path / "source", "aarch64")
    root = small_root(tmp_path / "root", "aarch64")
    other = tmp_path / "elsewhere" / "root"
    shutil.copytree(root, other, symlinks=True)
    first = build(package, "aarch64", root, tmp_path / "cache")
    heard = Heard()
    assert build(package, "aarch64", other, tmp_path / "cache", heard) == first
    assert heard.lines == ["`uses-outer` is unchanged since it was built"]
    assert build(package, "aarch64", other, tmp_path / "another-cache").read_bytes() == first.read_bytes()

    library = root / "usr" / "lib" / TRIPLES["aarch64"] / "libouter.so.2.3.4"
    compile_library(library, "aarch64", "int outer(void) { return 3; }\n", "-Wl,-soname,libouter.so.2")
    changed = build(package, "aarch64", root, tmp_path / "cache")
    with zipfile.ZipFile(changed) as archive:
        (copied,) = [name for name in archive.namelist() if name.startswith("uses_outer.libs/libouter")]
    with zipfile.ZipFile(first) as archive:
        assert copied not in archive.namelist()


@pytest.mark.parametrize("machine", TRIPLES)
def test_libraries_are_found_by_what_their_links_mean_on_the_target(tmp_path: Path, machine: str) -> None:
    found = sysroot.open_sysroot(small_root(tmp_path / "root", machine), TARGETS[machine])
    folder = f"/usr/lib/{TRIPLES[machine]}"
    assert dict(found.libraries) == {
        "libboth.so": f"{folder}/libboth.so",
        "libdeep.so.1": f"{folder}/libdeep.so.1.0",
        "libdeep.so.1.0": f"{folder}/libdeep.so.1.0",
        "libouter.so": f"{folder}/libouter.so.2.3.4",
        "libouter.so.2": f"{folder}/libouter.so.2.3.4",
        "libouter.so.2.3.4": f"{folder}/libouter.so.2.3.4",
    }
    assert found.programs() == {"outer-config": "/usr/bin/outer-config"}
    assert found.library("libouter.so.2") == f"{folder}/libouter.so.2.3.4"
    assert found.library("libboth.so") is None
    assert found.library("libc.so.6") is None


@pytest.mark.parametrize(
    "name",
    [
        *("libc.so", "libc.so.6", "libc.a", "libm.so.6", "libm-2.31.so", "libpthread.so.0", "libdl.so", "librt.a"),
        *("libgcc_s.so.1", "libstdc++.so.6", "libstdc++.so.6.0.28", "libnss_files.so.2", "libnsl.so.1"),
        *("libpthread_nonshared.a", "ld-linux-aarch64.so.1", "ld-2.31.so"),
    ],
)
def test_the_c_library_and_the_compilers_are_never_taken(tmp_path: Path, name: str) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    folder = root / "usr" / "lib" / TRIPLES["aarch64"]
    (folder / name).unlink(missing_ok=True)
    shutil.copy(folder / "libdeep.so.1.0", folder / name)
    found = sysroot.open_sysroot(root, TARGETS["aarch64"])
    assert name not in found.libraries
    assert found.library(name) is None


@pytest.mark.parametrize("name", ["libcrypt.so.1", "libmagic.so.1", "libnss3.so", "libcurl.so.4", "libnsl.so.2"])
def test_what_only_sounds_like_them_is_taken(tmp_path: Path, name: str) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    folder = root / "usr" / "lib" / TRIPLES["aarch64"]
    shutil.copy(folder / "libdeep.so.1.0", folder / name)
    assert sysroot.open_sysroot(root, TARGETS["aarch64"]).library(name) == f"/usr/lib/{TRIPLES['aarch64']}/{name}"


def test_libraries_lie_where_the_loader_is_told_of_them(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    (root / "usr" / "lib64" / "mysql").mkdir(parents=True)
    shutil.copy(root / "usr" / "lib" / TRIPLES["aarch64"] / "libdeep.so.1.0", root / "usr/lib64/mysql/libmysql.so.18")
    (root / "etc" / "ld.so.conf.d").mkdir(parents=True)
    (root / "etc" / "ld.so.conf.d" / "mysql.conf").write_text("# a comment\n/usr/lib64/mysql/\n")
    assert sysroot.open_sysroot(root, TARGETS["aarch64"]).library("libmysql.so.18") == "/usr/lib64/mysql/libmysql.so.18"


def test_links_never_lead_out_of_a_root_file_system(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    (root / "usr" / "real").write_text("")
    for name, leads_to in {"a": "/usr/real", "b": "../../../../usr/real", "c": "/c", "d": "/etc/passwd"}.items():
        (root / name).symlink_to(leads_to)
    assert sysroot.resolve(root, "/a") == sysroot.resolve(root, "/b") == "/usr/real"
    assert sysroot.resolve(root, "/usr/../../usr/./real") == "/usr/real"
    assert sysroot.resolve(root, "/c") is sysroot.resolve(root, "/d") is sysroot.resolve(root, "/nowhere") is None


def test_the_digest_knows_what_can_decide_a_build_and_nothing_else(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    known = {sysroot.digest(root)}
    (root / "usr" / "share" / "doc").mkdir(parents=True)
    (root / "usr" / "share" / "doc" / "README").write_text("read me\n")
    (root / "usr" / "bin" / "outer").write_text("")
    assert {sysroot.digest(root)} == known

    def add(path: str, text: str) -> None:
        (root / path).write_text(text)
        known.add(sysroot.digest(root))

    add("usr/include/outer/outer.h", "long outer(void);\n")
    add("usr/include/outer/more.h", "")
    add("usr/bin/outer-config", "#!/bin/sh\n")
    add(f"usr/lib/{TRIPLES['aarch64']}/pkgconfig/outer.pc", "")
    (root / "usr" / "lib" / "libouter.so").symlink_to("/nowhere")
    known.add(sysroot.digest(root))
    os.utime(root / "usr" / "include" / "stdlib.h", (1e9, 1e9))
    known.add(sysroot.digest(root))
    assert len(known) == 7


def test_what_is_no_root_file_system_of_the_target_is_refused(tmp_path: Path) -> None:
    arm = TARGETS["aarch64"]

    def message(root: Path) -> str:
        with pytest.raises(RequestError) as caught:
            sysroot.open_sysroot(root, arm)
        assert caught.value.hint
        return caught.value.message

    root = tmp_path / "root"
    assert message(root) == f"the root file system does not exist: `{root}`"
    (root / "usr" / "lib").mkdir(parents=True)
    assert message(root) == f"this is no root file system to build with, it has no `usr/include`: `{root}`"
    (root / "usr" / "include").mkdir()
    assert message(root) == f"there is no library in the root file system: `{root}`"
    other = small_root(tmp_path / "other", "x86_64")
    assert message(other) == (
        f"the libraries of the root file system are for x86_64, not for `python3.13-arm64`: `{other}`"
    )


def test_a_root_file_system_that_is_none_is_told_before_anything_is_built(tmp_path: Path) -> None:
    package = source(tmp_path / "source", "aarch64")
    with pytest.raises(RequestError, match=r"it has no `usr/lib`: "):
        build(package, "aarch64", tmp_path / "source", tmp_path / "cache")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["-I/usr/include", "-isystem", "/usr/include/t", "-L/usr/lib/t", "-L", "/lib"], []),
        (["-I/usr/include/libxml2"], ["-I/r/usr/include/libxml2"]),
        (["-I/r/usr/include/libxml2/."], ["-I/r/usr/include/libxml2"]),
        (["-I/r/usr/include", "-isystem", "/r/usr/include"], []),
        (["-I/usr/include/absent", "-I/opt/homebrew/include", "-L/opt/local/lib"], []),
        (["-Iinclude", "-I", "build/x", "-I/build/source"], ["-Iinclude", "-I", "build/x", "-I/build/source"]),
        (["-rpath", "/r/usr/lib", "-rpath", "$ORIGIN/x"], ["-rpath", "$ORIGIN/x"]),
    ],
)
def test_folders_of_the_system_are_those_of_the_root_file_system(
    monkeypatch: pytest.MonkeyPatch, words: list[str], kept: list[str]
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/r/usr/include/libxml2")
    known = {"root": "/r", "searched": ["/usr/include", "/usr/include/t", "/usr/lib/t", "/lib"], "libraries": "/l"}
    assert list(compiler._kept(words, known)) == kept


def test_a_program_of_the_target_that_tells_of_postgres_is_answered_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Debian's `pg_config` is a script; Amazon's is a program that this host cannot run, and must not."""
    root = small_root(tmp_path / "root", "aarch64")
    folder = root / "usr" / "lib" / TRIPLES["aarch64"]
    for name in ("pg_config", "other_config"):
        shutil.copy(folder / "libdeep.so.1.0", root / "usr" / "bin" / name)
    told = (folder / "pkgconfig" / "outer.pc").read_text().replace("2.3.4", "15.7")
    (folder / "pkgconfig" / "libpq.pc").write_text(told)
    opened = sysroot.open_sysroot(root, TARGETS["aarch64"])
    assert opened.programs() == {"outer-config": "/usr/bin/outer-config", "pg_config": "/usr/bin/pg_config"}

    settings = {
        "programs": opened.programs(),
        "pkg_config": str(toolchain.find_pkg_config(Cache(tmp_path / "cache"), ResolveOptions(offline=True))),
        "sysroot": {"root": str(root), "pkg_config": [f"/usr/lib/{TRIPLES['aarch64']}/pkgconfig"], "searched": []},
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    questions = ["--version", "--includedir", "--includedir-server"]
    assert compiler.main([str(tmp_path / "settings.json"), "pg_config", *questions]) == 0
    assert capfd.readouterr().out.splitlines() == ["PostgreSQL 15.7", f"{root}/usr/include", ""]


def test_this_hosts_pkg_config_serves_where_ours_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_PKGCONF", toolchain._PKGCONF._replace(version="0.1"))
    cache, away = Cache(tmp_path / "cache"), ResolveOptions(offline=True)
    monkeypatch.setattr("shutil.which", {"pkg-config": "/usr/bin/pkg-config"}.get)
    assert toolchain.find_pkg_config(cache, away) == Path("/usr/bin/pkg-config")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotCached, match=r"^pkg-config \(pkgconf 0\.1\) is not in the cache$"):
        toolchain.find_pkg_config(cache, away)
