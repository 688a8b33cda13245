from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import elf
from manylambda.errors import PackagingError
from manylambda.fetch import Cache
from manylambda.linkage import Outcome, resolve
from manylambda.locks.index import IndexClient
from manylambda.locks.model import ResolveOptions
from manylambda.locks.settings import IndexSettings
from manylambda.pipeline.audit import audit
from manylambda.pipeline.trial import Request, trial
from manylambda.sdists import Builder, BuildSettings, repair, sysroot, wheel
from manylambda.sdists.tools import find_tool
from manylambda.target import Target
from product.sources import needs_python
from sdists.roots import ARCHITECTURES, TRIPLES, compile_library, debian_root, small_root
from trial import hosts
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from manylambda.sdists.wheel import Unpacked

pytestmark = pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")

TARGETS = {"aarch64": Target.parse("python3.13-arm64"), "x86_64": Target.parse("python3.13-x86_64")}
USES_OUTER = "int outer(void);\nint answer(void) { return outer(); }\n"


def patcher() -> Path:
    return find_tool(repair.PATCHER, Cache(Path("unused")), ResolveOptions(offline=True))


def library(root: Path, machine: str, name: str) -> str:
    return str(root / "usr" / "lib" / TRIPLES[machine] / name)


def module(folder: Path, machine: str, source: str, *arguments: str, glibc: str = "2.26") -> bytes:
    return compile_library(folder / "module.so", machine, source, *arguments, glibc=glibc).read_bytes()


def unpacked(folder: Path, machine: str, files: dict[str, bytes]) -> Unpacked:
    """Give a wheel as a backend makes it, unpacked."""
    folder.mkdir()
    made = make_wheel(folder, "uses-outer", "1.0", dict(files), tags=[f"cp313-cp313-linux_{machine}"])
    return wheel.unpack(made, folder / "unpacked")


def natives(files: Unpacked) -> dict[str, elf.ElfFile]:
    found = files.natives()
    assert all(isinstance(native, elf.ElfFile) for native in found.values())
    return {path: native for path, native in found.items() if isinstance(native, elf.ElfFile)}


@pytest.mark.parametrize("machine", TRIPLES)
def test_what_neither_the_wheel_nor_the_runtime_has_is_copied_with_what_it_needs(tmp_path: Path, machine: str) -> None:
    root = small_root(tmp_path / "root", machine)
    code = module(tmp_path, machine, USES_OUTER, library(root, machine, "libouter.so.2.3.4"))
    files = unpacked(tmp_path / "made", machine, {"pkg/sub/_fast.abi3.so": code})
    opened = sysroot.open_sysroot(root, TARGETS[machine])
    assert repair.bundle(files, TARGETS[machine], opened, patcher) == ("libdeep.so.1.0", "libouter.so.2.3.4")

    after = natives(files)
    outer, deep = sorted((path for path in after if path.startswith("uses_outer.libs/")), reverse=True)
    assert outer.startswith("uses_outer.libs/libouter-")
    assert outer.endswith(".so.2.3.4")
    own = after["pkg/sub/_fast.abi3.so"]
    assert (own.rpath, own.runpath) == (("$ORIGIN/../../uses_outer.libs",), ())
    assert outer.rpartition("/")[2] in own.needed
    assert "libouter.so.2" not in own.needed
    assert (after[outer].soname, after[outer].rpath) == (outer.rpartition("/")[2], ("$ORIGIN",))
    assert deep.rpartition("/")[2] in after[outer].needed
    assert (after[deep].soname, after[deep].rpath) == (deep.rpartition("/")[2], ())
    links = resolve({f"/var/task/{path}": native for path, native in after.items()}, TARGETS[machine]).links
    assert {link.outcome for link in links} == {Outcome.BUNDLED}
    # The originals are as they were.
    assert (root / f"usr/lib/{TRIPLES[machine]}/libdeep.so.1.0").read_bytes() != (files.folder / deep).read_bytes()

    if sys.platform == "linux" and machine == platform.machine():
        load = f"import ctypes; print(ctypes.CDLL({str(files.folder / 'pkg/sub/_fast.abi3.so')!r}).answer())"
        assert subprocess.run([sys.executable, "-c", load], capture_output=True, check=True).stdout == b"42\n"


def test_the_same_files_give_the_same_bytes_and_names(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    code = module(tmp_path, "aarch64", USES_OUTER, library(root, "aarch64", "libouter.so.2.3.4"))
    made = []
    for place in ("one", "two"):
        shutil.copytree(root, tmp_path / f"root-{place}", symlinks=True)
        files = unpacked(tmp_path / place, "aarch64", {"_fast.so": code})
        opened = sysroot.open_sysroot(tmp_path / f"root-{place}", TARGETS["aarch64"])
        repair.bundle(files, TARGETS["aarch64"], opened, patcher)
        made.append({path: (files.folder / path).read_bytes() for path in natives(files)})
    assert made[0] == made[1]
    assert len(made[0]) == 3


def test_what_nobody_has_is_left_and_reported(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "x86_64")
    ghost = compile_library(
        tmp_path / "libghost.so", "x86_64", "int ghost(void) { return 1; }\n", "-Wl,-soname,libghost.so.9"
    )
    source = "int ghost(void);\nint outer(void);\nint answer(void) { return ghost() + outer(); }\n"
    code = module(tmp_path, "x86_64", source, str(ghost), library(root, "x86_64", "libouter.so.2.3.4"))
    files = unpacked(tmp_path / "made", "x86_64", {"pkg/__init__.py": b"", "pkg/_fast.so": code})
    opened = sysroot.open_sysroot(root, TARGETS["x86_64"])
    assert repair.bundle(files, TARGETS["x86_64"], opened, patcher) == ("libdeep.so.1.0", "libouter.so.2.3.4")
    assert "libghost.so.9" in natives(files)["pkg/_fast.so"].needed

    findings = audit(files.folder, TARGETS["x86_64"], offline=True).findings
    (found,) = [finding for finding in findings if finding.rule == "library-missing"]
    assert "libghost.so.9" in found.message


def test_nothing_is_changed_where_nothing_is_missing(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    code = module(tmp_path, "aarch64", "double sqrt(double);\ndouble answer(double x) { return sqrt(x); }\n", "-lm")
    files = unpacked(tmp_path / "made", "aarch64", {"_fast.so": code})

    def unwanted() -> Path:
        raise AssertionError("the tool was asked for")

    assert repair.bundle(files, TARGETS["aarch64"], sysroot.open_sysroot(root, TARGETS["aarch64"]), unwanted) == ()
    assert (files.folder / "_fast.so").read_bytes() == code
    assert not (files.folder / "uses_outer.libs").exists()


def test_a_library_that_the_wheel_or_the_runtime_has_is_not_copied(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    folder = root / "usr" / "lib" / TRIPLES["aarch64"]
    shutil.copy(folder / "libdeep.so.1.0", folder / "libz.so.1")
    zlib = compile_library(tmp_path / "libz.so", "aarch64", "int z(void) { return 1; }\n", "-Wl,-soname,libz.so.1")
    source = "int z(void);\nint deep(void);\nint answer(void) { return z() + deep(); }\n"
    code = module(tmp_path, "aarch64", source, str(zlib), str(folder / "libdeep.so.1.0"), "-Wl,-rpath,$ORIGIN/own")
    own = {"pkg/own/libdeep.so.1": (folder / "libdeep.so.1.0").read_bytes(), "pkg/_fast.so": code}
    files = unpacked(tmp_path / "made", "aarch64", own)
    plan = repair.make_plan(files.natives(), TARGETS["aarch64"], sysroot.open_sysroot(root, TARGETS["aarch64"]))
    assert plan == ({}, {})


def test_what_a_file_searched_in_the_wheel_it_still_does(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    outer = library(root, "aarch64", "libouter.so.2.3.4")
    code = module(tmp_path, "aarch64", USES_OUTER, outer, "-Wl,-rpath,$ORIGIN/own", "-Wl,-rpath,/usr/lib")
    files = unpacked(tmp_path / "made", "aarch64", {"pkg/_fast.so": code})
    repair.bundle(files, TARGETS["aarch64"], sysroot.open_sysroot(root, TARGETS["aarch64"]), patcher)
    after = natives(files)["pkg/_fast.so"]
    assert (after.rpath, after.runpath) == (("$ORIGIN/own", "$ORIGIN/../uses_outer.libs"), ())


def test_files_of_the_data_folder_find_the_libraries_from_where_they_come_to_lie(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    code = module(tmp_path, "aarch64", USES_OUTER, library(root, "aarch64", "libouter.so.2.3.4"))
    data = "uses_outer-1.0.data"
    files = unpacked(
        tmp_path / "made", "aarch64", {f"{data}/platlib/pkg/_fast.so": code, f"{data}/scripts/libouter-tool.so": code}
    )
    repair.bundle(files, TARGETS["aarch64"], sysroot.open_sysroot(root, TARGETS["aarch64"]), patcher)
    after = natives(files)
    assert after[f"{data}/platlib/pkg/_fast.so"].rpath == ("$ORIGIN/../uses_outer.libs",)
    assert after[f"{data}/scripts/libouter-tool.so"].rpath == ("$ORIGIN/../uses_outer.libs",)


def test_a_private_folder_of_a_library_is_searched_as_the_loader_does(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    folder = root / "usr" / "lib" / TRIPLES["aarch64"]
    private = folder / "outer" / "libprivate.so.1"
    compile_library(private, "aarch64", "int own(void) { return 1; }\n", "-Wl,-soname,libprivate.so.1")
    source = "int own(void);\nint outer(void) { return own(); }\n"
    soname, search = "-Wl,-soname,libouter.so.2", "-Wl,-rpath,$ORIGIN/outer"
    compile_library(folder / "libouter.so.2.3.4", "aarch64", source, str(private), soname, search)
    code = module(tmp_path, "aarch64", USES_OUTER, str(folder / "libouter.so.2.3.4"))
    files = unpacked(tmp_path / "made", "aarch64", {"_fast.so": code})
    opened = sysroot.open_sysroot(root, TARGETS["aarch64"])
    assert repair.bundle(files, TARGETS["aarch64"], opened, patcher) == ("libouter.so.2.3.4", "libprivate.so.1")


def test_a_library_of_a_newer_system_is_refused_by_name(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "x86_64")
    source = "int pthread_kill(unsigned long, int);\nint outer(void) { return pthread_kill(0, 0); }\n"
    outer = root / "usr" / "lib" / TRIPLES["x86_64"] / "libouter.so.2.3.4"
    compile_library(outer, "x86_64", source, "-Wl,-soname,libouter.so.2", glibc="2.34")
    code = module(tmp_path, "x86_64", USES_OUTER, str(outer))
    files = unpacked(tmp_path / "made", "x86_64", {"_fast.so": code})
    old = Target.parse("python3.11-x86_64")
    with pytest.raises(PackagingError) as caught:
        repair.bundle(files, old, sysroot.open_sysroot(root, old), patcher)
    assert caught.value.message == (
        "`uses_outer` needs libraries of the root file system that `python3.11-x86_64` cannot load, its glibc is 2.26: "
        "`libouter.so.2.3.4` needs GLIBC_2.34"
    )
    assert caught.value.hint == "give a root file system of an older system, whose glibc is 2.26 at most"

    # The runtime that has it gets it, and the wheel's tag says so.
    opened = sysroot.open_sysroot(root, TARGETS["x86_64"])
    assert repair.bundle(files, TARGETS["x86_64"], opened, patcher) == ("libouter.so.2.3.4",)
    assert wheel.platform_tag(files.natives(), "x86_64") == "manylinux_2_34_x86_64"


def test_a_library_of_another_machine_counts_for_nothing(tmp_path: Path) -> None:
    root = small_root(tmp_path / "root", "aarch64")
    code = module(tmp_path, "aarch64", USES_OUTER, library(root, "aarch64", "libouter.so.2.3.4"))
    other = small_root(tmp_path / "other", "x86_64")
    for name in ("libouter.so.2", "libouter.so.2.3.4"):
        place = Path(library(root, "aarch64", name))
        place.unlink()
        shutil.copy(Path(library(other, "x86_64", "libouter.so.2.3.4")), place)
    files = unpacked(tmp_path / "made", "aarch64", {"_fast.so": code})
    assert repair.bundle(files, TARGETS["aarch64"], sysroot.open_sysroot(root, TARGETS["aarch64"]), patcher) == ()


def test_a_library_that_cannot_be_rewritten_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"\x7fELF")
    with pytest.raises(PackagingError, match=r"^the libraries of the wheel cannot be changed: struct\.error: unpack"):
        repair._patch([repair.Change(str(tmp_path / "lib.so"), "x", "", {})], patcher(), tmp_path / "told.json")


@needs_python(3, 13)
@pytest.mark.network
@pytest.mark.parametrize("machine", TRIPLES)
def test_cffi_is_built_against_debians_libffi_and_runs(tmp_path: Path, machine: str) -> None:
    architecture = ARCHITECTURES[machine]
    if architecture != hosts.NATIVE:
        hosts.needs("qemu-aarch64-static" if architecture == "arm64" else "qemu-x86_64-static")
    hosts.needs("bwrap")
    root = debian_root(machine, "libffi-dev")
    with IndexClient(IndexSettings(), environment=os.environ) as index:
        (offered,) = [file for file in index.files("cffi") if file.filename == "cffi-2.0.0.tar.gz"]
    assert offered.url is not None
    archive = tmp_path / offered.filename
    urllib.request.urlretrieve(offered.url, archive)
    builder = Builder(settings=BuildSettings(sysroot=root), cache=Cache(tmp_path / "cache"))
    built = builder.archive("cffi", archive, offered.hashes["sha256"], TARGETS[machine])
    assert built.fallback is None
    assert built.path.name.endswith(f"_{machine}.whl")

    request = Request(engine="rootfs", rootfs=hosts.root(architecture), modules=("_cffi_backend",))
    tried = trial(built.path, TARGETS[machine], request=request).trial
    assert [(one.module.name, one.outcome.value) for one in tried.imports] == [("_cffi_backend", "ok")]
