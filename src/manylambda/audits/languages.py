"""In which languages the native files of a package were written, as far as the files show.

A compiler writes its name into `.comment`, but GCC's stands in C, C++ and Fortran alike, and in the start-up code of
Rust. What tells is what the languages leave behind in every program that they need themselves: paths of Rust's standard
library in its messages, Cython's module of its own, the names of C++'s standard types. It stays when symbols are
stripped. C is what a C compiler made and nothing else explains; where no compiler is named either, nothing is said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from manylambda.audits.natives import native_contents

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manylambda.tree import Entry

LANGUAGES_VERSION: Final = 1
"""Goes up whenever the same file may be told otherwise."""

_MARKS: Final = {
    # Panics name the place in the standard library: by the commit of rustc, or in a build of it by its folder.
    "Rust": (b"/rustc/", b"library/core/src/", b"library/std/src/", b"rust_eh_personality", b"rustc version "),
    "Go": (b"\xff Go buildinf:",),
    # A module that Cython makes for the variables of its tracebacks, and the table of what a module shares with others.
    "Cython": (b"cython_runtime\0", b"__pyx_capi__\0"),
    "mypyc": (b"mypyc_attr", b"mypyc_filter", b"_mypyc_", b"__mypyc."),
    # Symbols of its run-time library that are looked up, or the types of that where it is linked in. That the library
    # is needed tells nothing: compilers name it for C, too.
    "C++": (
        b"\0_ZSt", b"\0_ZNSt", b"\0_ZNKSt", b"\0_Znwm\0", b"\0_Znam\0", b"\0_ZdlPv", b"\0_ZdaPv",
        b"\0__gxx_personality_v0\0", b"\0_ZTVN10__cxxabiv1", b"N10__cxxabiv1",
    ),
    "Fortran": (b"libgfortran", b"\0_gfortran_"),
}  # fmt: skip
_C_COMPILER: Final = re.compile(rb"GCC: \(|clang version \d")
_BUNDLED: Final = re.compile(r"(?:^|/)[^/]+\.libs/|(?:^|/)\.dylibs/")


def languages(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """Return the languages of each native file among `entries`, sorted; none where the file does not show.

    Libraries that a repair tool put beside a package (`*.libs/`) are left out: they are somebody else's.
    """
    own = (entry for entry in entries if not _BUNDLED.search(entry.path))
    return {path: languages_of(data) for path, data in native_contents(own)}


def languages_of(data: bytes | bytearray) -> tuple[str, ...]:
    """Return the languages of one native file."""
    found = [name for name, marks in _MARKS.items() if any(mark in data for mark in marks)]
    if not found and _C_COMPILER.search(data):
        found = ["C"]
    return tuple(sorted(found))
