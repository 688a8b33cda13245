"""What a failed build comes down to; the outputs are those of real builds (zig 0.17.1, setuptools 83, pip packages)."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from manylambda.sdists.failures import Failed, explain, first_cause, library_linked, library_of_header, read
from manylambda.target import Target

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target.parse("python3.13-arm64")

CASES = [
    # cffi 2.0.0
    (
        "src/c/_cffi_backend.c:15:10: error: 'ffi.h' file not found",
        "`ffi.h` is missing, a header of libffi",
        "`--sysroot DIR` gives the build a root file system for aarch64 that has it (Debian: `libffi-dev`)",
    ),
    # a header nobody knows
    ("x.c:1:10: error: 'acme/roadrunner.h' file not found", "the header `acme/roadrunner.h` is missing", "--sysroot"),
    # gcc's words, in a container
    ("x.c:1:10: fatal error: libpq-fe.h: No such file or directory", "a header of libpq (PostgreSQL)", "libpq-dev"),
    # psycopg2 2.9
    (
        "Error: pg_config executable not found.",
        "`pg_config` is missing, which tells where libpq (PostgreSQL) is",
        "(Debian: `libpq-dev`)",
    ),
    # zig 0.17.1
    (
        "error: unable to find dynamic system library 'odbc' using strategy 'paths_first'. searched paths: none",
        "the library `libodbc` is missing (unixODBC)",
        "unixodbc-dev",
    ),
    ("x.c:1:10: error: 'numpy/arrayobject.h' file not found", "the build needs `numpy` and does not say so", "newer"),
    ("x.c:1:10: error: 'windows.h' file not found", "`windows.h` is a header of another system than Linux", "not made"),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: 'swig'",
        "the build runs `swig`, which it does not find",
        "--sdist-engine container",
    ),
    ("/bin/sh: 1: cmake3: not found", "the build runs `cmake3`, which it does not find", "--sdist-engine container"),
    ("../meson.build:80:0: ERROR: Unknown compiler(s): [['gfortran'], ['flang']]", "it has Fortran code", "gfortran"),
    (
        "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
        "it wants to download something, and a build has no network",
        "--sysroot",
    ),
    (
        "ModuleNotFoundError: No module named 'pkg_resources'",
        "it needs `pkg_resources`, which newer releases of setuptools no longer have",
        "`--build-constraint 'setuptools<81'`",
    ),
    ("ModuleNotFoundError: No module named 'imp'", "it needs `imp`, which CPython 3.13 no longer has", "older runtime"),
    (
        "AttributeError: module 'pkgutil' has no attribute 'ImpImporter'. Did you mean: 'zipimporter'?",
        "it needs `ImpImporter`, which CPython 3.13 no longer has",
        "older runtime",
    ),
    (
        "ModuleNotFoundError: No module named 'Cython'",
        "its build imports `Cython`, which is none of its build requirements",
        "newer release",
    ),
    (
        "x.c:9:5: error: call to undeclared function '_PyUnicode_get_wstr_length'; ISO C99 does not support that",
        "its C code is not for CPython 3.13: call to undeclared function '_PyUnicode_get_wstr_length'",
        "newer release",
    ),
]


@pytest.mark.parametrize(("line", "cause", "hint"), CASES, ids=[case[1][:40] for case in CASES])
def test_a_known_cause_is_told_with_what_mends_it(line: str, cause: str, hint: str) -> None:
    found = explain("demo", ["building", line, "error: command failed"], (), TARGET, sysroot=False)
    assert cause in found.cause
    assert found.hint is not None
    assert hint in found.hint


def test_a_missing_header_counts_before_what_follows_from_it() -> None:
    log = ["ModuleNotFoundError: No module named 'numpy'", "x.c:1:10: error: 'yaml.h' file not found"]
    assert explain("demo", log, (), TARGET, sysroot=False).cause == "`yaml.h` is missing, a header of libyaml"


def test_with_a_root_file_system_the_hint_says_that_it_lacks_the_library() -> None:
    found = explain("demo", ["x.c:1:10: error: 'yaml.h' file not found"], (), TARGET, sysroot=True)
    assert found.hint == "the root file system of `--sysroot` does not have it: add it there (Debian: `libyaml-dev`)"


def test_what_was_asked_of_pkg_config_is_told_when_nothing_else_is_known() -> None:
    noted = (Failed("pkg-config", ("libxml-2.0",)),)
    said = "Error: Please make sure the libxml2 and libxslt development packages are installed."
    found = explain("demo", [said], noted, TARGET, sysroot=False)
    assert found.cause == "it looks for `libxml-2.0` with pkg-config"
    assert found.hint is not None
    assert "libxml2-dev" in found.hint


def test_what_a_build_can_do_without_is_not_its_cause() -> None:
    """meson asks pkg-config for all it uses; contourpy ended for another reason."""
    noted = (Failed("pkg-config", ("pybind11", "python-3.11")),)
    log = ["Run-time dependency pybind11 found: YES", *["..."] * 9]
    log.append("meson-python: error: The package requires Python version >=3.12, running on 3.11.7")
    found = explain("demo", log, noted, TARGET, sysroot=False)
    assert found.cause == log[-1]


def test_an_unknown_cause_is_the_last_exception() -> None:
    log = ["Traceback (most recent call last):", "ValueError: the sky is falling", "  at the end.", ""]
    assert explain("demo", log, (), TARGET, sysroot=False) == ("ValueError: the sky is falling", None)
    assert explain("demo", [], (), TARGET, sysroot=False) == ("no reason was given", None)


def test_notes_of_the_compilers_are_read_whatever_a_build_wrote_there(tmp_path: Path) -> None:
    file = tmp_path / "failures"
    assert read(file) == ()
    good = json.dumps(["x.c", ["x.c:1:1: error: 'a.h' file not found"]])
    file.write_bytes(b"\xff\xfe no json\n[1]\n" + good.encode() + b"\n{}\n")
    (found,) = read(file)
    assert found == Failed("x.c", ("x.c:1:1: error: 'a.h' file not found",))
    assert first_cause([Failed("y.c", ("y.c:1: error: no good",)), found]) == "'a.h' file not found"
    assert first_cause(()) is None


def test_every_library_of_the_table_is_found_by_what_it_has() -> None:
    table = json.loads((files("manylambda.data") / "libraries.json").read_text(encoding="utf-8"))["libraries"]
    names = [one["name"] for one in table]
    assert len(names) == len(set(names))
    for one in table:
        for header in one["headers"]:
            found = library_of_header(header.replace("*", "x.h"))
            assert found is not None
            assert found.name == one["name"], header
        for link in one["links"]:
            linked = library_linked(link.replace("*", "x"))
            assert linked is not None
            assert linked.name == one["name"], link
