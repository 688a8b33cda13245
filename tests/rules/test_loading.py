"""Each rule about native files: a bad file with its finding, and a good one without."""

from __future__ import annotations

import struct
import subprocess
import sys
import sysconfig
import time
from typing import TYPE_CHECKING

import pytest

from manylambda.audits import Severity, native_facts
from manylambda.tree import PackageTree
from rules.packages import distribution, elf, files, findings, report, told

if TYPE_CHECKING:
    from pathlib import Path

X86, ARM, AL2 = "python3.13-x86_64", "python3.13-arm64", "python3.11-x86_64"
SUFFIX = "cpython-313-x86_64-linux-gnu.so"
TAG = "cp313-cp313-manylinux_2_17_x86_64"
MACH_O = struct.pack("<II", 0xFEEDFACF, 0x0100000C) + bytes(56)
PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0\x64\x86" + bytes(64)


def module(name: str, suffix: str = SUFFIX) -> dict[str, bytes | str]:
    return {"demo/__init__.py": "", f"demo/_ext.{suffix}": elf(name)}


def test_a_module_for_the_target_has_no_finding() -> None:
    assert findings(X86, distribution("demo", contents=module("plain.so"), tags=[TAG])) == ()


def test_wrong_machine() -> None:
    (finding,) = findings(ARM, files(module("plain.so", "abi3.so")))
    assert finding.rule == "wrong-machine"
    assert finding.severity is Severity.ERROR
    assert finding.path == "demo/_ext.abi3.so"
    assert finding.distribution is None
    assert finding.message == "is for x86_64, the target is aarch64"
    assert finding.hint == "install the wheels for the target: `manylambda build -t python3.13-arm64` does"


def test_wrong_machine_knows_32_bits() -> None:
    (finding,) = findings(X86, files(module("i686.so", "abi3.so")))
    assert finding.message == "is for i686 (32 bit), the target is x86_64"


def test_libraries_for_several_machines_are_noted_when_one_is_for_the_target() -> None:
    contents = {"demo/arm/libnative.so": elf("aarch64.so"), "demo/x86/libnative.so": elf("plain.so")}
    assert told(X86, files(contents, "demo")) == [("wrong-machine", "note", "demo/arm/libnative.so")]
    assert told(X86, files({"demo/arm/libnative.so": elf("aarch64.so")}, "demo")) == [
        ("wrong-machine", "error", "demo/arm/libnative.so")
    ]


def test_code_of_other_processors_is_none_of_the_loader() -> None:
    cuda = bytearray(elf("plain.so"))
    cuda[18:20] = struct.pack("<H", 190)
    assert findings(X86, files({"demo/kernel.cubin": bytes(cuda), "demo/x.o": elf("relocatable.o")})) == ()


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (MACH_O, "_ext.cpython-313-darwin.so", "is a Mach-O file (arm64) for macOS"),
        (PE, "_ext.cp313-win_amd64.pyd", "is a PE file (x86_64) for Windows"),
        (b"\x7fELF", "_ext.abi3.so", "cannot be loaded: the ELF file is damaged or cut short"),
        (b"", f"_ext.{SUFFIX}", "cannot be loaded: the file is empty"),
        (b"version https://git-lfs", "_ext.so", "cannot be loaded: the file is no ELF file"),
    ],
)
def test_foreign_binary(data: bytes, name: str, message: str) -> None:
    (finding,) = findings(X86, files({f"demo/{name}": data}))
    assert (finding.rule, finding.severity, finding.message) == ("foreign-binary", Severity.ERROR, message)


def test_launchers_of_windows_in_a_pure_distribution_are_noted() -> None:
    assert told(X86, distribution("demo", contents={"demo/cli.exe": PE, "demo/_ext.cp39-win_amd64.pyd": PE})) == [
        ("foreign-binary", "note", "demo/_ext.cp39-win_amd64.pyd"),
        ("foreign-binary", "note", "demo/cli.exe"),
    ]


def test_a_wheel_for_macos_that_is_loaded_by_hand_is_an_error() -> None:
    mac = distribution("demo", contents={"demo/lib.dylib": MACH_O}, tags=["py3-none-macosx_11_0_arm64"])
    assert told(X86, mac) == [
        ("foreign-binary", "error", "demo/lib.dylib"),
        ("wheel-tag-mismatch", "warning", "demo-1.0.dist-info"),
    ]


def test_musl_linked() -> None:
    (finding,) = findings(X86, files(module("musl.so", "cpython-313-x86_64-linux-musl.so")))
    assert (finding.rule, finding.severity) == ("musl-linked", Severity.ERROR)
    assert finding.message == "needs `libc.musl-x86_64.so.1`: it was built for musl (Alpine), the runtime has glibc"


@pytest.mark.parametrize(
    "tag", ["cpython-312-x86_64-linux-gnu", "cpython-313t-x86_64-linux-gnu", "cpython-313d-x86_64-linux-gnu"]
)
def test_abi_tag_mismatch(tag: str) -> None:
    (finding,) = findings(X86, files(module("plain.so", f"{tag}.so")))
    assert (finding.rule, finding.severity) == ("abi-tag-mismatch", Severity.ERROR)
    assert finding.message == (
        f"is built for `{tag}`, the runtime looks for `cpython-313`: the module `demo._ext` will be missing"
    )


def test_abi_tag_mismatch_beside_the_right_variant_is_a_warning() -> None:
    other = "demo/_ext.cpython-312-x86_64-linux-gnu.so"
    assert told(X86, files({**module("plain.so"), other: elf("plain.so")})) == [("abi-tag-mismatch", "warning", other)]
    assert told(X86, files({"demo/_ext.py": "", other: elf("plain.so")})) == [("abi-tag-mismatch", "warning", other)]


def test_abi_tag_mismatch_names_the_module_of_a_layer() -> None:
    path = "python/lib/python3.13/site-packages/demo/_ext.cpython-312-x86_64-linux-gnu.so"
    (finding,) = findings(X86, files({path: elf("plain.so")}), kind="layer")
    assert finding.path == path
    assert "the module `demo._ext` will be missing" in finding.message


def test_glibc_too_new_tells_what_pulls_it_in() -> None:
    (finding,) = findings(AL2, files({"_ext.so": elf("glibc_2_34.so")}))
    assert (finding.rule, finding.severity) == ("glibc-too-new", Severity.ERROR)
    assert finding.message == "needs `GLIBC_2.34` (for `dlopen`, `pthread_create`), the runtime has glibc 2.26"
    assert finding.hint == "it was built on a newer system: build it for x86_64 with glibc 2.26 or older"
    assert findings(X86, files({"_ext.so": elf("glibc_2_34.so")})) == ()


def test_glibc_too_new_tells_how_to_get_an_older_wheel() -> None:
    (finding,) = findings(AL2, files({"_ext.so": elf("glibc_2_34.so")}, "demo"))
    assert finding.distribution == "demo"
    assert finding.hint == (
        "choose a release with a wheel for manylinux_2_26 or older: `manylambda lock -t python3.11-x86_64` does; "
        "or use python3.12 or newer, which has glibc 2.34"
    )
    (finding,) = findings(X86, files({"_ext.so": elf("relr.so")}, "demo"))
    assert finding.message == "needs `GLIBC_ABI_DT_RELR`, the runtime has glibc 2.34"
    assert "python3.12" not in (finding.hint or "")


def test_a_program_that_is_too_new_is_a_warning() -> None:
    assert ("glibc-too-new", "warning", "bin/tool") in told(AL2, files({"bin/tool": elf("program")}))


def test_symbol_version_missing_from_the_runtime() -> None:
    (finding,) = findings(AL2, files({"_ext.so": elf("glibcxx_3_4_30.so")}))
    assert (finding.rule, finding.severity) == ("symbol-version-missing", Severity.ERROR)
    assert (
        finding.message
        == "needs `GLIBCXX_3.4.30` of `libstdc++.so.6` (for `used`), which the runtime's does not define"
    )


def test_symbol_version_that_newer_copies_of_the_runtime_have_is_a_warning() -> None:
    (finding,) = findings(X86, files({"_ext.so": elf("glibcxx_3_4_30.so")}))
    assert (finding.rule, finding.severity) == ("symbol-version-missing", Severity.WARNING)
    assert finding.message == (
        "needs `GLIBCXX_3.4.30` of `libstdc++.so.6` (for `used`), which only newer copies of the runtime define"
    )


def test_symbol_version_missing_from_a_bundled_library() -> None:
    contents = {"demo/_ext.so": elf("needs_versioned.so"), "used.libs/libversioned.so.1": elf("libversioned_1.so.1")}
    (finding,) = findings(X86, files(contents))
    assert (finding.rule, finding.severity) == ("symbol-version-missing", Severity.ERROR)
    assert finding.message == (
        "needs `USED_2.0` of `libversioned.so.1` (for `used`), which the bundled `used.libs/libversioned.so.1` "
        "does not define"
    )
    contents["used.libs/libversioned.so.1"] = elf("libversioned_2.so.1")
    assert findings(X86, files(contents)) == ()


def test_library_missing() -> None:
    (finding,) = findings(X86, files({"demo/_ext.so": elf("needs_used.so")}))
    assert (finding.rule, finding.severity) == ("library-missing", Severity.ERROR)
    assert finding.path == "demo/_ext.so"
    assert finding.message == "needs `libused.so.1`, which neither the runtime nor the package has"
    assert finding.hint == (
        "choose a build that brings `libused.so.1`, or put it into the folder `lib/` of the package or of a layer"
    )


def test_library_missing_is_told_once_a_distribution_with_the_chain() -> None:
    bundled = elf("needs_used_runpath.so").replace(b"libused.so.1", b"libgomp.so.1")
    contents = {
        "demo/_a.so": elf("needs_used.so"),
        "demo/_b.so": elf("needs_used.so"),
        "demo/plugin.so": bundled,
        "libused.so.1": bundled,
    }
    (finding,) = findings(X86, files(contents, "demo"))
    assert finding.path == "demo/plugin.so"
    assert finding.message.endswith("which neither the runtime nor the package has; 1 more file of it needs it too")
    del contents["demo/plugin.so"]
    (finding,) = findings(X86, files(contents, "demo"))
    assert finding.path == "libused.so.1"
    assert finding.message == (
        "needs `libgomp.so.1`, which neither the runtime nor the package has (loaded by demo/_a.so -> libused.so.1)"
    )
    assert "package `libgomp`" in (finding.hint or "")


def test_library_missing_knows_cures_and_what_can_be_done_without() -> None:
    path = "numba/np/ufunc/tbbpool.cpython-313-x86_64-linux-gnu.so"
    (finding,) = findings(X86, files({path: elf("needs_used.so")}, "numba"))
    assert (finding.severity, finding.hint) == (Severity.NOTE, "numba tries it and goes on with its own threads")
    (finding,) = findings(X86, files({"_psycopg.so": elf("needs_used.so")}, "psycopg2"))
    assert finding.hint == "use `psycopg2-binary` (or `psycopg[binary]`), which brings its own `libpq`"


def test_a_library_where_the_loader_does_not_look_is_missing() -> None:
    contents: dict[str, bytes | str] = {
        "demo/_ext.so": elf("needs_used.so"),
        "demo/libs/libused.so.1": elf("libused.so.1"),
    }
    (finding,) = findings(X86, files(contents, "demo"))
    assert (finding.rule, finding.severity) == ("library-missing", Severity.ERROR)
    assert finding.message == (
        "needs `libused.so.1`, which lies in `demo/libs/libused.so.1`, where the loader does not look"
    )
    assert finding.hint == "put the library into the folder `lib/` of the package, which the loader searches"


def test_a_library_that_python_code_loads_by_hand_is_a_warning() -> None:
    contents: dict[str, bytes | str] = {
        "demo/__init__.py": "import ctypes\nctypes.CDLL('libused.so.1')\n",
        "demo/_ext.so": elf("needs_used.so"),
        "demo/libs/libused.so.1": elf("libused.so.1"),
    }
    assert told(X86, files(contents, "demo")) == [("library-missing", "warning", "demo/_ext.so")]
    assert told(X86, files(contents)) == [("library-missing", "warning", "demo/_ext.so")]


HERE = "import ctypes, glob, os\nhere = os.path.dirname(__file__)\n"


@pytest.mark.parametrize(
    "code",
    [
        "ctypes.CDLL(os.path.join(here, 'libs', 'libused.so.1'), mode=ctypes.RTLD_GLOBAL)",
        "ctypes.cdll.LoadLibrary(os.path.join(here, 'libs/libused.so.1'))",
        "ctypes.cdll[here + '/libs/libused.so.1']",
        "for name in 'other', 'used':\n    ctypes.CDLL(f'{here}/libs/lib{name}.so.1')",
        "for name in 'other', 'used':\n    ctypes.CDLL(here + '/libs/lib' + name + '.so')",
        "for path in glob.glob(os.path.join(here, 'libs', '*.so*')):\n    ctypes.CDLL(path)",
        "for path in os.listdir(os.path.join(here, 'libs')):\n    ctypes.CDLL(path)",
        "list(map(ctypes.CDLL, glob.glob(here + '/libs/lib*.so.*')))",
        "for path in glob.glob(here + '/**/lib*'):\n    ctypes.CDLL(path)",
        "for folder, _, names in os.walk(here):\n    [ctypes.CDLL(name) for name in names if '.so' in name]",
        "import cffi\ncffi.FFI().dlopen(here + '/libs/libused.so.1')",
        "import numpy\nnumpy.ctypeslib.load_library('libused', here)",
        "if os.name == 'nt':\n    ctypes.WinDLL('x')\nelse:\n    ctypes.CDLL('libused.so.1')",
        "if not sys.platform.startswith('win'):\n    ctypes.CDLL('libused.so.1')",
        "from demo.table import names\nfor name in names:\n    ctypes.CDLL(name)",
        "ctypes.CDLL('libused.so.1') syntax of ] a later Python",
    ],
)
def test_code_that_can_mean_a_library_loads_it_by_hand(code: str) -> None:
    contents: dict[str, bytes | str] = {
        "demo/__init__.py": HERE + code,
        "demo/table.py": "names = ['libused.so.1', 'libother.so.1']",
        "demo/_ext.so": elf("needs_used.so"),
        "demo/libs/libused.so.1": elf("libused.so.1"),
    }
    assert told(X86, files(contents, "demo")) == [("library-missing", "warning", "demo/_ext.so")]


@pytest.mark.parametrize(
    "code",
    [
        "ctypes.windll.LoadLibrary('kernel32')",
        "from ctypes import windll\nwindll.LoadLibrary(here + '/libs/libused.so.1')",
        "ctypes.WinDLL(here + '/libs/libused.so.1')",
        "ctypes.CDLL('libc.so.6')",
        "ctypes.CDLL(None)",
        "ctypes.CDLL(ctypes.util.find_library('used'))",
        "ctypes.CDLL(name, ctypes.RTLD_GLOBAL)",
        "ctypes.cdll.msvcrt",
        "ctypes.PyDLL(f'{here}/libunused.so')",
        "ctypes.CDLL(here + '/other.so')",
        "if sys.platform == 'win32':\n    for path in glob.glob(here + '/libs/*'):\n        ctypes.CDLL(path)",
        "if os.name == 'nt' and here:\n    ctypes.CDLL(here + '/libs/libused.so.1')",
        "if sys.platform.startswith('win'):\n    ctypes.CDLL(here + '/libs/libused.so.1')",
        "ctypes.CDLL(name) if name else None",
        "def load(name):\n    'libs'\n    ctypes.CDLL(name)",
        "'libused.so.1'",
        "sys.setdlopenflags(sys.getdlopenflags() | os.RTLD_GLOBAL)",
    ],
)
def test_code_that_cannot_mean_a_library_does_not_load_it(code: str) -> None:
    contents: dict[str, bytes | str] = {
        "demo/__init__.py": HERE + code,
        "demo/_ext.so": elf("needs_used.so"),
        "demo/libs/libused.so.1": elf("libused.so.1"),
    }
    assert told(X86, files(contents, "demo")) == [("library-missing", "error", "demo/_ext.so")]


def test_sources_without_end_are_looked_through_in_bounded_time() -> None:
    source = HERE + "ctypes.CDLL(x)\n" + "y = [1]\n" * 100_000
    contents: dict[str, bytes | str] = {f"demo/m{number}.py": source for number in range(20)}
    contents |= {"demo/_ext.so": elf("needs_used.so"), "demo/libs/libused.so.1": elf("libused.so.1")}
    started = time.process_time()
    assert told(X86, files(contents, "demo")) == [("library-missing", "error", "demo/_ext.so")]
    assert time.process_time() - started < 30


def test_a_library_that_a_required_distribution_loads_first_is_a_warning() -> None:
    user = distribution("vision", contents={"vision/_c.so": elf("needs_used.so")}, tags=[TAG], requires=["base"])
    base = distribution(
        "base",
        contents={"base/_c.so": elf("needs_used_runpath.so"), "used.libs/libused.so.1": elf("libused.so.1")},
        tags=[TAG],
    )
    assert told(X86, user, base) == [("library-missing", "warning", "vision/_c.so")]
    stranger = distribution("vision", contents={"vision/_c.so": elf("needs_used.so")}, tags=[TAG])
    assert told(X86, stranger, base) == [("library-missing", "error", "vision/_c.so")]


def test_a_library_of_a_layer_is_found() -> None:
    layer = PackageTree(files({"lib/libused.so.1": elf("libused.so.1")}))
    assert findings(X86, files({"demo/_ext.so": elf("needs_used.so")}), layers=[layer]) == ()


def test_a_later_layer_overwrites_an_earlier_one() -> None:
    good = PackageTree(files({"lib/libused.so.1": elf("libused.so.1")}))
    bad = PackageTree(files({"lib/libused.so.1": "no longer a library"}))
    user = files({"demo/_ext.so": elf("needs_used.so")})
    assert findings(X86, user, layers=[bad, good]) == ()
    assert told(X86, user, layers=[good, bad]) == [("library-missing", "error", "demo/_ext.so")]


def test_library_shadowed() -> None:
    contents: dict[str, bytes | str] = {
        "demo/_ext.so": elf("needs_z_runpath.so"),
        "used.libs/libz.so.1": elf("libz.so.1"),
    }
    (finding,) = findings(X86, files(contents))
    assert (finding.rule, finding.severity, finding.path) == (
        "library-shadowed",
        Severity.WARNING,
        "used.libs/libz.so.1",
    )
    assert finding.message == "is not what `demo/_ext.so` gets: the runtime's own `libz.so.1` comes first"
    contents["demo/_ext.so"] = elf("needs_z_rpath.so")
    assert findings(X86, files(contents)) == ()


def test_cpu_level_too_high() -> None:
    assert told(X86, files({"_ext.so": elf("isa_v3.so")})) == [("cpu-level-too-high", "warning", "_ext.so")]
    assert told(X86, files({"_ext.so": elf("isa_v4.so")})) == [("cpu-level-too-high", "error", "_ext.so")]


def test_executable_stack() -> None:
    assert told(X86, files({"_ext.so": elf("execstack.so")})) == [("executable-stack", "warning", "_ext.so")]


def test_text_relocations() -> None:
    (finding,) = findings(X86, files({"_ext.so": elf("textrel.so")}))
    assert (finding.rule, finding.severity, finding.path) == ("text-relocations", Severity.WARNING, "_ext.so")
    assert finding.message == (
        "has relocations in its code, which the loader must make writable: hardened systems refuse that"
    )
    assert findings(X86, files({"_ext.so": elf("plain.so")})) == ()


def test_symbol_undefined_names_the_last_version_of_the_api_that_had_it() -> None:
    contents = {"demo/_ext.abi3.so": elf("api_removed.so")}
    (finding,) = findings(X86, files(contents, "demo"))
    assert (finding.rule, finding.severity) == ("symbol-undefined", Severity.ERROR)
    assert finding.path == "demo/_ext.abi3.so"
    assert finding.message == (
        "needs `PyUnicode_AsUnicode`, `_PyUnicode_Ready` of CPython, which 3.13 does not export (last: 3.11)"
    )
    assert finding.hint == "install the wheel for this version: `manylambda build -t python3.13-x86_64` does"
    assert findings(AL2, files(contents, "demo")) == ()


def test_symbol_undefined_names_the_first_version_for_the_stable_abi() -> None:
    contents = {"demo/_ext.abi3.so": elf("api_newer.so")}
    (finding,) = [one for one in findings("python3.9-x86_64", files(contents, "demo")) if one.path is not None]
    assert (finding.rule, finding.severity) == ("symbol-undefined", Severity.ERROR)
    assert finding.message == "needs `PyType_GetModuleByDef` of CPython, which 3.9 does not export (first: 3.11)"
    assert finding.hint == (
        "it was built for CPython 3.11 or newer: choose a release with a wheel for 3.9, or a newer runtime"
    )
    assert findings(AL2, files(contents, "demo")) == ()


def test_a_private_symbol_that_a_patch_release_may_have_brought_is_a_warning() -> None:
    (finding,) = findings(AL2, files({"_ext.abi3.so": elf("api_private_newer.so")}))
    assert (finding.rule, finding.severity) == ("symbol-undefined", Severity.WARNING)
    assert finding.message == "needs `_PyErr_SetLocaleString` of CPython, which 3.11 does not export (first: 3.13)"


def test_symbols_of_a_debug_build_are_undefined() -> None:
    (finding,) = findings(X86, files({"_ext.abi3.so": elf("api_debug.so")}))
    assert (finding.rule, finding.severity) == ("symbol-undefined", Severity.ERROR)
    assert finding.message == (
        "needs `_Py_NegativeRefcount`, `_Py_RefTotal`, which none of the libraries it loads defines"
    )
    assert finding.hint == ("it may be built for a debug or free-threaded CPython: install the wheel for the target")


def test_a_bundled_library_that_lost_a_symbol() -> None:
    contents: dict[str, bytes | str] = {
        "demo/_ext.abi3.so": elf("needs_used_runpath.so"),
        "used.libs/libused.so.1": elf("libused_without.so.1"),
    }
    (finding,) = findings(X86, files(contents, "demo"))
    assert (finding.rule, finding.severity, finding.path) == ("symbol-undefined", Severity.ERROR, "demo/_ext.abi3.so")
    assert finding.message == "needs `used`, which none of the libraries it loads defines"
    assert finding.hint == (
        "its parts come from different builds, or it was linked without a library: choose another release"
    )
    contents["used.libs/libused.so.1"] = elf("libused.so.1")
    assert findings(X86, files(contents, "demo")) == ()


def test_a_library_that_another_module_loads_does_not_help() -> None:
    contents: dict[str, bytes | str] = {
        "demo/_a.abi3.so": elf("needs_used_runpath.so"),
        "used.libs/libused.so.1": elf("libused.so.1"),
        "demo/_b.abi3.so": elf("needs_used.so").replace(b"libused.so.1", b"libm.so.6\0\0\0"),
    }
    assert told(X86, files(contents, "demo")) == [("symbol-undefined", "error", "demo/_b.abi3.so")]
    contents["demo/__init__.py"] = "import ctypes\nctypes.CDLL('libused.so.1', ctypes.RTLD_GLOBAL)\n"
    (finding,) = findings(X86, files(contents, "demo"))
    assert (finding.severity, finding.path) == (Severity.WARNING, "demo/_b.abi3.so")
    assert finding.hint == (
        "it loads only if something loaded a library that does before: `manylambda trial` proves it"
    )
    contents["demo/_b.abi3.so"] = elf("cxx_as_c.so")  # which none of its libraries has either
    (finding,) = findings(X86, files(contents, "demo"))
    assert finding.severity is Severity.ERROR


def test_a_library_gets_what_the_module_that_loads_it_defines() -> None:
    library = {"used.libs/libused.so.1": elf("libused_back.so.1")}
    assert findings(X86, files({"demo/_ext.abi3.so": elf("needs_used_runpath.so"), **library}, "demo")) == ()
    assert told(X86, files(library, "demo")) == [("symbol-undefined", "note", "used.libs/libused.so.1")]


def test_symbols_of_libraries_that_are_not_known_are_not_judged() -> None:
    def linked(soname: bytes) -> list[tuple[str, str, str | None]]:
        data = elf("needs_used.so").replace(b"libused.so.1", soname.ljust(12, b"\0"))
        return told(X86, files({"_ext.abi3.so": data}))

    assert linked(b"libz.so.1") == [("symbol-undefined", "error", "_ext.abi3.so")]
    assert linked(b"libssl.so.3") == []  # whose symbols no table has
    assert linked(b"libnone.so") == [("library-missing", "error", "_ext.abi3.so")]


def test_the_api_is_judged_whatever_else_takes_part() -> None:
    data = elf("needs_used.so").replace(b"libused.so.1", b"libssl.so.3\0")
    contents: dict[str, bytes | str] = {"_ext.abi3.so": elf("api_removed.so"), "libx.so": data}
    assert told(X86, files(contents)) == [("symbol-undefined", "error", "_ext.abi3.so")]


def test_a_library_of_the_runtime_that_is_not_linked_is_named() -> None:
    (finding,) = findings(X86, files({"_ext.abi3.so": elf("cxx_as_c.so")}))
    assert finding.message == "needs `_Znwm`, `__gxx_personality_v0` of `libstdc++.so.6`, which it does not load"
    assert finding.hint == "it was linked without `libstdc++.so.6`: choose another release, or link it again"
    (finding,) = findings(X86, files({"_ext.abi3.so": elf("crc.so")}))
    assert finding.message == "needs `crc32` of `libz.so.1`, which it does not load"


def test_a_plug_in_may_get_its_symbols_from_what_loads_it() -> None:
    assert told(X86, files({"plugins/libplugin.so": elf("cxx_as_c.so")})) == [
        ("symbol-undefined", "note", "plugins/libplugin.so")
    ]


def test_a_file_without_the_function_that_makes_a_module_is_a_plug_in() -> None:
    assert told(X86, files({"plugins/plpgsql.so": elf("cxx_as_c.so")})) == [
        ("symbol-undefined", "note", "plugins/plpgsql.so")
    ]


def test_a_symbol_that_no_relocation_asks_for_is_never_looked_up() -> None:
    data = bytearray(elf("crc.so"))
    at = data.index(struct.pack("<Q", 2), 0x40 + 56 * 4)  # DT_PLTRELSZ
    assert struct.unpack_from("<QQ", data, at) == (2, 24)
    data[at + 8] = 0
    assert findings(X86, files({"_ext.abi3.so": bytes(data)})) == ()


def test_a_module_of_a_layer_gets_its_symbols_there() -> None:
    layer = PackageTree(files({"lib/libused.so.1": elf("libused.so.1")}))
    without = PackageTree(files({"lib/libused.so.1": elf("libused_without.so.1")}))
    module = files({"demo/_ext.abi3.so": elf("needs_used.so")})
    assert findings(X86, module, layers=[layer]) == ()
    assert told(X86, module, layers=[without]) == [("symbol-undefined", "error", "demo/_ext.abi3.so")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="makes an ELF file with the compiler of the host")
def test_a_module_that_does_not_import_is_the_one_that_is_found(tmp_path: Path) -> None:
    """The judge is this host's loader: two modules, one against a library that lost a function it had when linked."""
    (tmp_path / "old.c").write_text("int first(void) { return 1; } int second(void) { return 2; }")
    (tmp_path / "new.c").write_text("int first(void) { return 1; }")
    for name in ("first", "second"):
        (tmp_path / f"{name}.c").write_text(
            f"#include <Python.h>\nextern int {name}(void);\n"
            f'static struct PyModuleDef def = {{PyModuleDef_HEAD_INIT, "{name}", 0, -1, 0}};\n'
            f"PyMODINIT_FUNC PyInit_{name}(void) {{ PyObject *m = PyModule_Create(&def);\n"
            f'  PyModule_AddIntConstant(m, "value", {name}()); return m; }}\n'
        )
    flags = ["cc", "-shared", "-fPIC", "-Wl,-soname,libparts.so.1", "-o", str(tmp_path / "libparts.so.1")]
    if subprocess.run([*flags, str(tmp_path / "old.c")], capture_output=True, check=False).returncode != 0:
        pytest.skip("no C compiler")
    include = sysconfig.get_path("include")
    for name in ("first", "second"):
        subprocess.run(
            ["cc", "-shared", "-fPIC", f"-I{include}", "-Wl,-rpath,$ORIGIN", "-o", str(tmp_path / f"{name}.so"),
             str(tmp_path / f"{name}.c"), str(tmp_path / "libparts.so.1")], check=True,
        )  # fmt: skip
    subprocess.run([*flags, str(tmp_path / "new.c")], check=True)
    names = ["first.so", "second.so", "libparts.so.1"]
    found = findings("python3.14-x86_64", files({name: (tmp_path / name).read_bytes() for name in names}))
    if sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("the package would be of another machine")
    loads = {}
    for name in ("first", "second"):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {name}"]
        loads[name] = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert loads["first"] == ""
    assert "undefined symbol: second" in loads["second"]
    assert [(one.path, one.rule, one.message) for one in found] == [
        ("second.so", "symbol-undefined", "needs `second`, which none of the libraries it loads defines")
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="makes an ELF file with the compiler of the host")
def test_an_extension_compiled_on_this_host_is_too_new_for_amazon_linux_2(tmp_path: Path) -> None:
    """The trap into which five peers fall: a wheel built here, tagged `linux_x86_64`, for a runtime with glibc 2.26."""
    source = tmp_path / "trap.c"
    source.write_text(
        "#include <Python.h>\n#include <sys/stat.h>\n#include <dlfcn.h>\n#include <pthread.h>\n"
        "static void *run(void *p) { return p; }\n"
        'static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "trap", 0, -1, 0};\n'
        'PyMODINIT_FUNC PyInit_trap(void) { pthread_t t; struct stat s; stat("/", &s); dlopen("x", RTLD_NOW);\n'
        "  pthread_create(&t, 0, run, 0); return PyModule_Create(&def); }\n"
    )
    module = tmp_path / "trap.so"
    include = sysconfig.get_path("include")
    compiled = subprocess.run(
        ["cc", "-shared", "-fPIC", f"-I{include}", "-o", str(module), str(source)], capture_output=True, check=False
    )
    if compiled.returncode != 0:
        pytest.skip("no C compiler")
    entries = files({"trap.so": module.read_bytes()})
    native = native_facts(entries)["trap.so"]
    if "GLIBC_2.34" not in str(native):
        pytest.skip("the glibc of this host is older than 2.34")
    (finding,) = findings(AL2, entries)
    assert (finding.rule, finding.severity) == ("glibc-too-new", Severity.ERROR)
    assert finding.message.startswith("needs `GLIBC_2.34` (for `dlopen`, `pthread_create`")
    assert finding.message.endswith(", the runtime has glibc 2.26")
    assert report(AL2, entries).fails("error")
    assert findings(X86, entries) == ()
