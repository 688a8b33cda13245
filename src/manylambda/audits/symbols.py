"""What a runtime exports: the C API of each CPython and the names of the C libraries, from `data/symbols/`.

The tables are made by `tools/update_symbols.py` from real binaries. They are read when first asked for, which a build
whose wheels need nothing unusual never does.
"""

from __future__ import annotations

import json
import os.path
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.target import Target

_C_LIBRARY: Final = "libc.so.6"
# What the interpreter has loaded before any module; names moved between these from one glibc to the next.
_LOADED: Final = (
    "libc.so.6", "libm.so.6", "libmvec.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
)  # fmt: skip
_OLDEST_GLIBC: Final = (2, 17)
"""Of a runtime that can be audited."""


def knows(target: Target) -> bool:
    """Whether there is a table of the names that the target's CPython exports."""
    return target.python in _minors()


@lru_cache(maxsize=1)
def common_names() -> frozenset[str]:
    """Return the names that are defined in every function there is: of every CPython 3.7 and newer, of every glibc.

    Facts about files leave them out (`native_facts`): whoever takes names away must raise `NATIVE_VERSION`.
    """
    every = {minor for minor in _minors() if minor >= (3, 7)}
    found: set[str] = set()
    for versions, names in _table("cpython")["names"].items():
        if every <= set(_parsed(versions)):
            found.update(names.split())
    for versions, names in _table("system")["libraries"][_C_LIBRARY].items():
        if all(
            namespace == "GLIBC" and tuple(map(int, number.split("."))) <= _OLDEST_GLIBC[: number.count(".") + 1]
            for namespace, _, number in (version.partition("_") for version in versions.split())
        ):
            found.update(_lengthened(names))
    return frozenset(found)


@lru_cache(maxsize=16)
def interpreter_names(target: Target) -> frozenset[str]:
    """Return the names of the target's CPython."""
    return frozenset(
        name
        for versions, names in _table("cpython")["names"].items()
        if target.python in _parsed(versions)
        for name in names.split()
    )


@lru_cache(maxsize=16)
def process_names(target: Target) -> frozenset[str]:
    """Return what every shared object finds in the process of the target: CPython's names and glibc's."""
    return interpreter_names(target) | (_names(_C_LIBRARY, target) or frozenset())


def library_names(soname: str, target: Target) -> frozenset[str] | None:
    """Return the names of one of the runtime's libraries; None where no table has them.

    Those that the interpreter has loaded anyway give nothing besides `process_names`.
    """
    if soname in _LOADED or soname.startswith("libpython3"):
        return frozenset()
    return _names(soname, target)


def library_with(name: str) -> str | None:
    """Return the library of the runtime that has a name, where it is one that not every process has loaded."""
    for soname, groups in _table("system")["libraries"].items():
        if soname != _C_LIBRARY and any(name in _lengthened(names) for names in groups.values()):
            return str(soname)
    return None


def interpreters_with(name: str) -> tuple[tuple[int, int], ...]:
    """Return the minor versions of CPython that export a name, in order; empty for a name that is none of CPython's."""
    for versions, names in _table("cpython")["names"].items():
        if f" {name} " in f" {names} ":
            return tuple(sorted(_parsed(versions)))
    return ()


@lru_cache(maxsize=16)
def _names(soname: str, target: Target) -> frozenset[str] | None:
    table = _table("system")
    groups = table["libraries"].get(soname)
    if groups is None:
        return None
    column = table["machines"].index(target.machine)
    found: set[str] = set()
    for versions, names in groups.items():
        version = versions.split()[column]
        # What newer copies of the runtime have counts: a table must not call missing what is there.
        if version == "*" or (version != "-" and target.defines(version, level="current") is not False):
            found.update(_lengthened(names))
    return frozenset(found)


def _lengthened(names: str) -> Iterator[str]:
    """Undo the shortening of the tables: `3~xyz` shares three characters with the name before."""
    last = ""
    for part in names.split():
        shared, mark, rest = part.partition("~")
        last = last[: int(shared)] + rest if mark else part
        yield last


@lru_cache(maxsize=1)
def _minors() -> tuple[tuple[int, int], ...]:
    return tuple(_minor(text) for text in _table("cpython")["read"])


@lru_cache(maxsize=256)
def _parsed(versions: str) -> tuple[tuple[int, int], ...]:
    """Read `3.8-3.11 3.13`."""
    found: list[tuple[int, int]] = []
    for part in versions.split():
        first, _, last = part.partition("-")
        lowest, highest = _minor(first), _minor(last or first)
        found.extend(minor for minor in _minors() if lowest <= minor <= highest)
    return tuple(found)


def _minor(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@lru_cache(maxsize=2)
def _table(name: str) -> Any:
    path = os.path.join(os.path.dirname(__file__), "..", "data", "symbols", f"{name}.json")  # noqa: PTH118, PTH120 - see `target`
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)
