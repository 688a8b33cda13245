"""Modules: what of a package is there to be imported, and who brought it."""

from __future__ import annotations

import re
from keyword import iskeyword
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.trial.model import Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manylambda.tree import Entry

PROJECT: Final = "project"
"""The origin of files that no distribution brought."""

_LEFT_OUT: Final = frozenset(
    ("tests", "test", "examples", "example", "docs", "doc", "benchmarks", "benchmark", "bin", "include", "share")
)
# Programs of installers and test runners: nothing imports them.
_NO_MODULES: Final = frozenset(("setup", "conftest", "_distutils_hack"))
_MAX_DEPTH: Final = 6

# `x.cpython-313-aarch64-linux-gnu.so`, `x.abi3.so`, `x.so`, `x.py`, `x.pyc`
_MODULE: Final = re.compile(r"([^.]+)(?:\.py|\.pyc|(\.[-\w]+)?\.so)")
_SHARED_OBJECT: Final = re.compile(r"\.so(?:\.[\d.]+)?$")


class _Folder:
    """A folder on its way to be a package, or not."""

    __slots__ = ("files", "folders")

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        """File name -> origin."""
        self.folders: dict[str, _Folder] = {}

    def origins(self) -> set[str]:
        """Return who brought code anywhere in it."""
        own = {origin for name, origin in self.files.items() if _MODULE.fullmatch(name)}
        return own.union(*(folder.origins() for folder in self.folders.values()))


class _Found(NamedTuple):
    name: str
    origin: str
    path: str
    """Of its file or folder, from where the search path leads to."""


def modules(tree: Iterable[Entry], folders: Sequence[str] = ("",)) -> tuple[Module, ...]:
    """Return every top-level module or package below `folders`, those of distributions first, each once.

    `folders` are those of the search path in its order, each with its `/` and the root as empty. Of a namespace, which
    has no `__init__`, the first packages and modules below it count. What is no code, or is there for those who develop
    a distribution (`tests`, `docs`, `examples`, `benchmarks`, `bin`, `setup.py`), is left out.
    """
    entries = list(tree)
    native = {entry.origin for entry in entries if _SHARED_OBJECT.search(entry.path)}
    chosen: dict[str, Module] = {}
    for folder in folders:
        inner = tuple(other for other in folders if other != folder and other.startswith(folder))
        below = [
            entry for entry in entries if entry.path.startswith(folder) and not (inner and entry.path.startswith(inner))
        ]
        for found in _found(_grown(below, len(folder))):
            if found.origin == PROJECT:  # it may hold a distribution whose metadata was deleted
                path = folder + found.path
                is_native = any(
                    _SHARED_OBJECT.search(entry.path) for entry in below if entry.path.startswith((path + "/", path))
                )
            else:
                is_native = found.origin in native
            distribution = None if found.origin == PROJECT else found.origin
            chosen.setdefault(found.name, Module(found.name, distribution, is_native))
    return tuple(
        sorted(chosen.values(), key=lambda each: (each.distribution is None, each.distribution or "", each.name))
    )


def _grown(entries: Iterable[Entry], skipped: int) -> _Folder:
    root = _Folder()
    for entry in entries:
        *parents, name = entry.path[skipped:].split("/")
        if len(parents) > _MAX_DEPTH:
            continue
        folder = root
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
        folder.files[name] = entry.origin
    return root


def _found(folder: _Folder, parents: tuple[str, ...] = (), wanted: frozenset[str] | None = None) -> Iterator[_Found]:
    """Walk a folder that is no package of the one who is asked for; `wanted` are the origins, None for all."""
    if len(parents) == _MAX_DEPTH:
        return
    for name, inner in sorted(folder.folders.items()):
        if not _is_name(name) or name in _LEFT_OUT:
            continue
        here = (*parents, name)
        origins = inner.origins() if wanted is None else inner.origins() & wanted
        init = _init(inner)
        if init is not None and init in origins:
            yield _Found(".".join(here), init, "/".join(here))
            origins = origins - {init}
        if origins:  # a namespace, also one whose `__init__` is another's
            yield from _found(inner, here, frozenset(origins))
    for name, origin in sorted(folder.files.items()):
        match = _MODULE.fullmatch(name)
        if match is None or (wanted is not None and origin not in wanted):
            continue
        stem = match[1]
        is_library = name.startswith("lib") and name.endswith(".so") and match[2] is None
        if _is_name(stem) and not is_library:
            yield _Found(".".join((*parents, stem)), origin, "/".join((*parents, stem + ".")))


def _init(folder: _Folder) -> str | None:
    for name, origin in folder.files.items():
        if (match := _MODULE.fullmatch(name)) and match[1] == "__init__":
            return origin
    return None


def _is_name(name: str) -> bool:
    return name.isidentifier() and not iskeyword(name) and not name.startswith("__") and name not in _NO_MODULES
