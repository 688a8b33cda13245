"""What runtimes export, and what the files of a package leave to others."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from manylambda import elf, rules
from manylambda.audits import native_facts, run, symbols
from manylambda.elf import ElfFile
from manylambda.pipeline.build import NATIVE_VERSION
from manylambda.target import Target, all_targets
from manylambda.tree import MODE_FILE, Bytes, Entry, PackageTree

DATA = Path(__file__).parent / "elf" / "data"
ARM, AL2 = Target.parse("python3.13-arm64"), Target.parse("python3.9-x86_64")


def left_open(files: dict[str, str | bytes]) -> dict[str, str]:
    """Return the open symbols of each file: path -> name of test data, or content."""
    entries = [
        Entry(path, MODE_FILE, Bytes((DATA / file).read_bytes() if isinstance(file, str) else file), "project")
        for path, file in files.items()
    ]
    return {path: one.open_symbols for path, one in native_facts(entries).items() if isinstance(one, ElfFile)}


def test_every_target_has_a_table() -> None:
    for target in all_targets():
        assert symbols.knows(target)
        assert {"PyModule_Create2", "_Py_NoneStruct", "PyExc_ValueError"} <= symbols.interpreter_names(target)
        assert {"malloc", "sin", "pthread_create", "dlopen"} <= symbols.process_names(target)


def test_what_facts_leave_out_is_defined_everywhere() -> None:
    for target in all_targets():
        assert symbols.common_names() <= symbols.process_names(target), target


def test_what_facts_leave_out_is_what_their_version_says() -> None:
    """Whoever changes the tables so that this fails raises NATIVE_VERSION: facts in caches left out other names."""
    digest = hashlib.sha256(" ".join(sorted(symbols.common_names())).encode()).hexdigest()
    assert (NATIVE_VERSION, digest[:16]) == (3, "757a7b07082051bf")


def test_versions_of_the_api_are_told() -> None:
    assert symbols.interpreters_with("_PyUnicode_Ready")[-1] == (3, 11)
    assert symbols.interpreters_with("PyType_GetModuleByDef")[0] == (3, 11)
    assert symbols.interpreters_with("PyType_GetModuleByDe") == ()
    assert "PyType_GetModuleByDef" in symbols.interpreter_names(ARM)
    assert "PyType_GetModuleByDef" not in symbols.interpreter_names(AL2)


def test_names_follow_the_versions_of_the_runtime() -> None:
    # `closefrom` came with glibc 2.34, `fcntl64` with 2.28 (and never to aarch64, whose numbers were always wide).
    assert "closefrom" in symbols.process_names(ARM)
    assert "closefrom" not in symbols.process_names(AL2)
    assert "explicit_bzero" in symbols.process_names(AL2)
    # Of newer copies of the runtime too, since they may be what the function runs on.
    new = "_ZNSt15__basic_file_stdout13native_handleEv"
    names = symbols.library_names("libstdc++.so.6", ARM)
    assert names is not None
    assert {"_Znwm", "__gxx_personality_v0", "_ZSt20__throw_length_errorPKc"} <= names
    assert new not in names


def test_libraries_that_are_always_loaded_add_nothing_and_those_without_a_table_are_unknown() -> None:
    assert symbols.library_names("libm.so.6", ARM) == frozenset()
    assert symbols.library_names("libpython3.13.so.1.0", ARM) == frozenset()
    assert symbols.library_names("libsqlite3.so.0", ARM) is None
    assert "deflateInit2_" in (symbols.library_names("libz.so.1", AL2) or ())
    assert symbols.library_with("deflateInit2_") == "libz.so.1"
    assert symbols.library_with("malloc") is None


def test_no_name_stands_twice_in_the_table_of_a_library() -> None:
    for soname in ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libresolv.so.2"):
        for target in (ARM, AL2):
            names = symbols.library_names(soname, target)
            assert names
            assert not any(" " in name or "~" in name for name in names)
    # What `readelf --dyn-syms` lists of it, versions aside; the runtime's newest copies have all of them.
    assert len(symbols.library_names("libstdc++.so.6", ARM) or ()) == 5997


def test_what_no_file_of_the_package_defines_stays_open() -> None:
    module = "demo/_ext.abi3.so"
    assert left_open({module: "needs_used.so"}) == {module: "used"}
    assert left_open({module: "api_removed.so"}) == {module: "PyUnicode_AsUnicode _PyUnicode_Ready"}
    both = left_open({module: "needs_used.so", "demo.libs/libused-1.so": "libused.so.1"})
    assert both == {module: "", "demo.libs/libused-1.so": ""}
    other = left_open({module: "needs_used.so", "demo.libs/libused.so.1": "libused_without.so.1"})
    assert other == {module: "used", "demo.libs/libused.so.1": ""}


def test_a_file_that_defines_a_symbol_helps_only_whoever_loads_it() -> None:
    files: dict[str, str | bytes] = {"a.abi3.so": "needs_used.so", "libother.so": "libused.so.1"}
    assert left_open(files)["a.abi3.so"] == ""  # it has the soname that is needed
    files["libother.so"] = (DATA / "libused.so.1").read_bytes().replace(b"libused.so.1", b"libfoo1.so.1")
    assert left_open(files)["a.abi3.so"] == "used"


def test_versioned_symbols_are_left_to_their_version_unless_the_library_has_none() -> None:
    module, library = "_ext.abi3.so", "libversioned.so.1"
    assert left_open({module: "needs_versioned.so"})[module] == ""
    assert left_open({module: "needs_versioned.so", library: "libversioned_1.so.1"})[module] == ""
    without = (DATA / "libused_without.so.1").read_bytes()
    assert left_open({module: "needs_versioned.so", library: without})[module] == "used"
    assert left_open({module: "needs_versioned.so", library: (DATA / "libused.so.1").read_bytes()})[module] == ""


def test_weak_symbols_may_stay_missing() -> None:
    data = bytearray((DATA / "needs_used.so").read_bytes())
    table = elf.symbol_table(DATA / "needs_used.so")
    assert table is not None
    (symbol,) = table.undefined()
    assert symbol == elf.Symbol("used", None, defined=False, weak=False)
    at = data.index(b"\x12" + bytes(19))  # a global function, undefined, without an address
    data[at] = 0x22
    assert left_open({"_ext.abi3.so": bytes(data)}) == {"_ext.abi3.so": ""}


@pytest.mark.parametrize("path", sorted(DATA.glob("*.so*")), ids=lambda path: path.name)
def test_a_file_alone_leaves_open_what_it_needs(path: Path) -> None:
    (left,) = left_open({"x.so": path.read_bytes()}).values()
    names = {
        one.name for one in elf.symbol_table(path) or () if not one.defined and not one.weak and one.version is None
    }
    assert set(left.split()) == (names - symbols.common_names() if path.name != "s390x.so" else names)


@pytest.mark.network
def test_a_real_wheel_that_was_renamed_for_a_newer_python_does_not_load(shared_cache: Path) -> None:
    """CPython 3.13 says of it: `undefined symbol: _PyErr_WriteUnraisableMsg`."""
    folder = shared_cache / "cffi-cp311"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    command += ["--python-version=3.11", "--platform=manylinux2014_x86_64", "cffi==2.1.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        data = archive.read(name)

    def undefined(module: str, target: str) -> list[tuple[str, str]]:
        report = run(
            PackageTree([Entry(module, MODE_FILE, Bytes(data), "cffi")]),
            Target.parse(target),
            [rule for rule in rules.ALL if rule.name == "symbol-undefined"],
        )
        return [(finding.severity.value, finding.message) for finding in report.findings]

    assert undefined(name, "python3.11-x86_64") == []
    assert undefined(name.replace("311", "312"), "python3.12-x86_64") == []
    names = "`_PyErr_WriteUnraisableMsg`, `_PyThreadState_UncheckedGet`, `_Py_HashPointer`"
    assert undefined(name.replace("311", "313"), "python3.13-x86_64") == [
        ("error", f"needs {names} of CPython, which 3.13 does not export (last: 3.12)")
    ]
