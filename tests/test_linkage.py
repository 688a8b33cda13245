"""What the loader of a function would do, library by library."""

from __future__ import annotations

from pathlib import Path

import pytest

from manylambda import elf
from manylambda.elf import ElfFile, NativeFile
from manylambda.linkage import (
    Link,
    Linkage,
    ModuleFile,
    Outcome,
    Scopes,
    VersionFault,
    imports_tag,
    module_file,
    resolve,
)
from manylambda.target import Target

DATA = Path(__file__).parent / "elf" / "data"
AL2 = Target.parse("python3.11-x86_64")
AL2023 = Target.parse("python3.13-x86_64")
SUFFIX = ".cpython-313-x86_64-linux-gnu.so"
MODULE = f"/var/task/pkg/_ext{SUFFIX}"


def linked(files: dict[str, str | NativeFile], target: Target = AL2023) -> Linkage:
    natives: dict[str, NativeFile] = {}
    for path, file in files.items():
        native = elf.read(DATA / file) if isinstance(file, str) else file
        assert native is not None
        natives[path] = native
    return resolve(natives, target)


def only(linkage: Linkage) -> Link:
    (link,) = linkage.links
    return link


def made(
    *needed: str, soname: str | None = None, rpath: tuple[str, ...] = (), runpath: tuple[str, ...] = ()
) -> ElfFile:
    return ElfFile(machine="x86_64", version_needs={}, needed=needed, soname=soname, rpath=rpath, runpath=runpath)


def test_a_library_of_the_runtime_is_provided() -> None:
    assert only(linked({MODULE: "glibc_2_34.so"})) == Link(MODULE, "libc.so.6", Outcome.PROVIDED, None, None, (MODULE,))


def test_a_library_that_is_nowhere_is_missing() -> None:
    assert only(linked({MODULE: "needs_used.so"})).outcome is Outcome.MISSING


@pytest.mark.parametrize("module", ["needs_used_runpath.so", "needs_used_rpath.so"])
def test_origin_leads_to_the_folder_of_the_file(module: str) -> None:
    library = "/var/task/used.libs/libused.so.1"
    link = only(linked({MODULE: module, library: "libused.so.1"}))
    assert (link.outcome, link.provider, link.chain) == (Outcome.BUNDLED, library, (MODULE,))


@pytest.mark.parametrize("folder", ["/var/task", "/var/task/lib", "/opt/lib"])
def test_the_folders_of_ld_library_path_are_searched(folder: str) -> None:
    library = f"{folder}/libused.so.1"
    assert only(linked({MODULE: "needs_used.so", library: "libused.so.1"})).provider == library


def test_a_library_where_nothing_leads_is_unreached() -> None:
    link = only(linked({MODULE: "needs_used.so", "/opt/python/lib/libused.so.1": "libused.so.1"}))
    assert (link.outcome, link.provider) == (Outcome.UNREACHED, "/opt/python/lib/libused.so.1")


def test_a_library_is_unreached_by_its_soname_whatever_its_file_is_called() -> None:
    link = only(linked({MODULE: "needs_used.so", "/var/task/pkg/used-1.2.so": "libused.so.1"}))
    assert (link.outcome, link.provider) == (Outcome.UNREACHED, "/var/task/pkg/used-1.2.so")


def test_the_runtime_wins_over_runpath_and_loses_to_rpath() -> None:
    library = "/var/task/used.libs/libz.so.1"
    by_runpath = only(linked({MODULE: "needs_z_runpath.so", library: "libz.so.1"}))
    assert (by_runpath.outcome, by_runpath.shadowed) == (Outcome.PROVIDED, library)
    by_rpath = only(linked({MODULE: "needs_z_rpath.so", library: "libz.so.1"}))
    assert (by_rpath.outcome, by_rpath.provider, by_rpath.shadowed) == (Outcome.BUNDLED, library, None)


def test_rpath_is_inherited_from_whoever_loads_and_runpath_is_not() -> None:
    first, second = "/var/task/x.libs/libfirst.so", "/var/task/x.libs/libsecond.so"
    files: dict[str, str | NativeFile] = {
        first: made("libsecond.so", soname="libfirst.so"),
        second: made(soname="libsecond.so"),
    }
    inherited = linked({MODULE: made("libfirst.so", rpath=("$ORIGIN/../x.libs",)), **files})
    assert [(link.needer, link.provider) for link in inherited.links] == [(MODULE, first), (first, second)]
    assert inherited.links[1].chain == (MODULE, first)
    alone = linked({MODULE: made("libfirst.so", runpath=("$ORIGIN/../x.libs",)), **files})
    assert alone.links[1].outcome is Outcome.UNREACHED


def test_rpath_counts_for_nothing_beside_runpath() -> None:
    files: dict[str, str | NativeFile] = {
        MODULE: made("libused.so.1", rpath=("$ORIGIN/../used.libs",), runpath=("$ORIGIN/none",)),
        "/var/task/used.libs/libused.so.1": "libused.so.1",
    }
    assert only(linked(files)).outcome is Outcome.UNREACHED


def test_what_was_loaded_before_is_not_searched_again() -> None:
    first, second = "/var/task/x.libs/libfirst.so", "/var/task/x.libs/libsecond.so"
    files: dict[str, str | NativeFile] = {
        MODULE: made("libfirst.so", "libsecond.so", runpath=("$ORIGIN/../x.libs",)),
        first: made(soname="libfirst.so"),
        second: made("libfirst.so", soname="libsecond.so"),
    }
    assert {link.outcome for link in linked(files).links} == {Outcome.BUNDLED}


def test_libraries_that_need_one_another_end() -> None:
    files: dict[str, str | NativeFile] = {
        MODULE: made("liba.so", rpath=("$ORIGIN",)),
        "/var/task/pkg/liba.so": made("libb.so", soname="liba.so"),
        "/var/task/pkg/libb.so": made("liba.so", soname="libb.so"),
    }
    assert len(linked(files).links) == 3


def test_a_system_folder_in_rpath_gives_the_copy_of_the_runtime() -> None:
    files: dict[str, str | NativeFile] = {
        MODULE: made("libz.so.1", rpath=("/usr/lib64", "$ORIGIN")),
        "/var/task/pkg/libz.so.1": "libz.so.1",
    }
    assert only(linked(files)).outcome is Outcome.PROVIDED


def test_a_library_of_another_machine_is_passed_over() -> None:
    link = only(linked({MODULE: "needs_used.so", "/var/task/libused.so.1": "aarch64.so"}))
    assert link.outcome is Outcome.MISSING


def test_copies_that_were_links_are_asked_once() -> None:
    library = made("libnone.so", soname="libx.so.1")
    links = linked({f"/var/task/lib/{name}": library for name in ("libx.so", "libx.so.1", "libx.so.1.2")}).links
    assert [link.needer for link in links] == ["/var/task/lib/libx.so.1"]


def test_a_library_that_others_need_is_asked_with_them() -> None:
    files: dict[str, str | NativeFile] = {
        "/var/task/x/liba.so": made("libb.so"),
        "/var/task/x/libb.so": made(),
        "/var/task/x/libmain.so": made("liba.so", rpath=("$ORIGIN",)),
    }
    assert {link.outcome for link in linked(files).links} == {Outcome.BUNDLED}


def test_a_need_with_a_slash_is_a_path() -> None:
    files: dict[str, str | NativeFile] = {MODULE: made("lib/libx.so"), "/var/task/lib/libx.so": made()}
    assert only(linked(files)).provider == "/var/task/lib/libx.so"


def test_a_file_that_nothing_can_load_needs_nothing() -> None:
    for name in ("_ext.cpython-312-x86_64-linux-gnu.so", "_ext.cpython-313t-x86_64-linux-gnu.so"):
        assert linked({f"/var/task/{name}": "needs_used.so"}).links == ()
    assert linked({MODULE: "musl.so"}).links == ()
    assert linked({MODULE: made("libc.so")}).links == ()  # as Rust links musl


def test_symbols_are_looked_up_among_what_any_process_has_loaded() -> None:
    first, second = "/var/task/x.libs/libfirst.so", "/var/task/x.libs/libsecond.so"
    other, alone = f"/var/task/pkg/_other{SUFFIX}", "/var/task/libalone.so"
    linkage = linked(
        {
            MODULE: made("libfirst.so", rpath=("$ORIGIN/../x.libs",)),
            other: made("libsecond.so", rpath=("$ORIGIN/../x.libs",)),
            first: made("libsecond.so", soname="libfirst.so"),
            second: made(soname="libsecond.so"),
            alone: made("libnone.so"),
        }
    )
    assert linkage.roots == (MODULE, other, alone)
    scopes = Scopes(linkage)
    assert scopes.files(MODULE) == {MODULE, first, second}
    assert scopes.files(second) == {MODULE, other, first, second}
    assert scopes.roots(second) == {MODULE, other}
    assert scopes.files(alone) == {alone}
    assert [link.soname for link in scopes.outside([MODULE, alone])] == ["libnone.so"]
    assert scopes.files("/var/task/none.so") == frozenset()


def test_a_version_above_the_runtime_is_a_fault_and_one_at_it_is_none() -> None:
    assert linked({"/var/task/_ext.so": "glibc_2_34.so"}, AL2).version_faults == (
        VersionFault("/var/task/_ext.so", "libc.so.6", "GLIBC_2.34", None, ("/var/task/_ext.so",)),
    )
    assert linked({"/var/task/_ext.so": "glibc_2_34.so"}, AL2023).version_faults == ()


def test_marks_of_newer_glibcs_are_faults() -> None:
    (fault,) = linked({MODULE: "relr.so"}).version_faults
    assert fault.version == "GLIBC_ABI_DT_RELR"


def test_a_weak_need_is_no_fault() -> None:
    weak = ElfFile(machine="x86_64", needed=("libc.so.6",), version_needs={"libc.so.6": {"GLIBC_2.99": True}})
    assert linked({MODULE: weak}).version_faults == ()


def test_an_unknown_namespace_is_no_fault() -> None:
    other = ElfFile(machine="x86_64", needed=("liblzma.so.5",), version_needs={"liblzma.so.5": {"XZ_9": False}})
    assert linked({MODULE: other}).version_faults == ()


def test_the_definitions_of_the_bundled_file_decide_when_it_is_loaded() -> None:
    library = "/var/task/used.libs/libversioned.so.1"
    assert linked({MODULE: "needs_versioned.so", library: "libversioned_2.so.1"}).version_faults == ()
    assert linked({MODULE: "needs_versioned.so", library: "libversioned_1.so.1"}).version_faults == (
        VersionFault(MODULE, "libversioned.so.1", "USED_2.0", library, (MODULE,)),
    )
    # The loader takes any symbol of a library without versions, with a warning at most.
    assert linked({MODULE: "needs_versioned.so", library: made(soname="libversioned.so.1")}).version_faults == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_speedups.cpython-313-x86_64-linux-gnu.so", ModuleFile("_speedups", "cpython-313-x86_64-linux-gnu", ".so")),
        ("_x.cpython-313t-aarch64-linux-gnu.so", ModuleFile("_x", "cpython-313t-aarch64-linux-gnu", ".so")),
        ("_x.cpython-37m-x86_64-linux-gnu.so", ModuleFile("_x", "cpython-37m-x86_64-linux-gnu", ".so")),
        ("_x.cpython-313-darwin.so", ModuleFile("_x", "cpython-313-darwin", ".so")),
        ("_x.cpython-313.so", ModuleFile("_x", "cpython-313", ".so")),
        ("_x.abi3.so", ModuleFile("_x", "abi3", ".so")),
        ("_x.cp313-win_amd64.pyd", ModuleFile("_x", "cp313-win_amd64", ".pyd")),
        ("_x.pypy310-pp73-x86_64-linux-gnu.so", ModuleFile("_x", "pypy310-pp73-x86_64-linux-gnu", ".so")),
        ("_x.so", ModuleFile("_x", "", ".so")),
        ("lib.cpython-313-x86_64-linux-gnu.so", ModuleFile("lib", "cpython-313-x86_64-linux-gnu", ".so")),
        ("lib_lightgbm.so", None),
        ("libz.so.1", None),
        ("libfoo-1.2.so", None),
        ("9lives.so", None),
        ("_x.py", None),
    ],
)
def test_names_of_extension_modules_are_taken_apart(name: str, expected: ModuleFile | None) -> None:
    assert module_file(name) == expected


@pytest.mark.parametrize(
    ("tag", "target", "expected"),
    [
        ("", "python3.13-x86_64", True),
        ("abi3", "python3.13-x86_64", True),
        ("cpython-313", "python3.13-x86_64", True),
        ("cpython-313-x86_64-linux-gnu", "python3.13-x86_64", True),
        ("cpython-313-aarch64-linux-gnu", "python3.13-arm64", True),
        ("cpython-37m-x86_64-linux-gnu", "python3.7-x86_64", True),
        ("abi3t", "python3.15-x86_64", True),
        ("abi3t", "python3.14-x86_64", False),
        ("cpython-312-x86_64-linux-gnu", "python3.13-x86_64", False),
        ("cpython-313t-x86_64-linux-gnu", "python3.13-x86_64", False),
        ("cpython-313d-x86_64-linux-gnu", "python3.13-x86_64", False),
        ("cpython-313-x86_64-linux-musl", "python3.13-x86_64", False),
        ("cpython-313-aarch64-linux-gnu", "python3.13-x86_64", False),
        ("cpython-313-darwin", "python3.13-x86_64", False),
    ],
)
def test_an_interpreter_looks_for_its_own_tags_only(tag: str, target: str, *, expected: bool) -> None:
    assert imports_tag(tag, Target.parse(target)) is expected
