"""Libraries that Python code loads by hand, so that a file which needs them finds them loaded already.

The loader takes a library that is in the process for the one of its soname, wherever it lies: some wheels rely on it.
Code that only loads another library, or one of Windows, is no sign of that.
"""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from posixpath import basename, dirname
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.tree import read_content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.audits import Subject
    from manylambda.tree import Entry

_READ_SIZE: Final = 1 << 20
_MAX_READ: Final = 512 << 20
_MAX_PARSED: Final = 2 << 20
"""Bytes of all the sources of a package that are read, and parsed: parsing takes a second for each MiB or two."""

_LOADERS: Final = frozenset({"CDLL", "PyDLL", "LoadLibrary", "dlopen", "load_library"})
_TELLING: Final = re.compile(rb"CDLL|PyDLL|LoadLibrary|dlopen|load_library|\bcdll\b|RTLD_GLOBAL")
_OF_WINDOWS: Final = frozenset({"windll", "oledll"})
_OTHER_SYSTEMS: Final = frozenset({"win32", "cygwin", "darwin", "nt", "Windows", "Darwin"})
_RTLD_GLOBAL: Final = 0x100
_LIBRARY: Final = re.compile(rb"lib[\w.+-]{1,100}?\.so")


class _Code(NamedTuple):
    """What one Python file that loads libraries says of which."""

    folder: str
    named: frozenset[str]
    """Libraries that are loaded under just that name."""
    texts: frozenset[str]
    """Every text of the file, where the name of a library is made of some; else empty."""
    is_computed: bool
    is_global: bool
    """Whether it asks for symbols to be known to all that is loaded later."""


class ByHand:
    """What the Python code of a package loads by hand; its files are read once, and only when asked for."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._sources: dict[str, list[tuple[str, Entry]]] | None = None
        self._known: dict[str, tuple[tuple[_Code, ...], frozenset[str]]] = {}
        self._left = _MAX_READ
        self._parsed = _MAX_PARSED

    def may_load(self, family: frozenset[str], path: str) -> bool:
        """Whether code of a distribution of `family` may load the native file at the absolute `path`."""
        for origin in sorted(family):
            codes, libraries = self._codes(origin)
            if any(_means(code, path) for code in codes):
                return True
            # The names may stand in a table of their own.
            if _stem(basename(path)) in libraries and any(code.is_computed for code in codes):
                return True
        return False

    def asks_for_global_symbols(self, family: frozenset[str]) -> bool:
        """Whether code of `family` makes symbols of what it loads known to all (`RTLD_GLOBAL`)."""
        return any(code.is_global for origin in sorted(family) for code in self._codes(origin)[0])

    def _codes(self, origin: str) -> tuple[tuple[_Code, ...], frozenset[str]]:
        """Return the files of a distribution that load libraries, and the stems of all libraries that it names."""
        if origin not in self._known:
            codes: list[_Code] = []
            libraries: set[str] = set()
            for path, text in self._texts(origin):
                libraries.update(_stem(name.decode()) for name in _LIBRARY.findall(text))
                if _TELLING.search(text):
                    codes.append(self._read(dirname(path), text))
            self._known[origin] = tuple(codes), frozenset(libraries)
        return self._known[origin]

    def _texts(self, origin: str) -> Iterator[tuple[str, bytes]]:
        if self._sources is None:
            self._sources = {}
            for path, entry in self._subject.entries.items():
                if path.endswith(".py") and entry.content.size <= _READ_SIZE:
                    self._sources.setdefault(entry.origin, []).append((path, entry))
        for path, entry in self._sources.get(origin, ()):
            self._left -= entry.content.size
            if self._left < 0:
                return
            yield path, read_content(entry.content)

    def _read(self, folder: str, text: bytes) -> _Code:
        self._parsed -= len(text)
        if self._parsed >= 0:
            try:
                return _read(folder, ast.parse(text))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                pass  # perhaps the syntax of a newer Python than this host's
        found = re.findall(rb"""(["'])([^"'\n]{1,200})\1""", text)
        texts = frozenset(each.decode("utf-8", "replace") for _, each in found)
        return _Code(folder, frozenset(), texts, is_computed=True, is_global=b"RTLD_GLOBAL" in text)


def _read(folder: str, tree: ast.Module) -> _Code:
    named: set[str] = set()
    texts: set[str] = set()
    is_computed = is_global = False
    for node in _nodes(tree):
        match node:
            case ast.Constant(value=str(text)):
                texts.add(text)
            case ast.Call() if _last(node.func) in _LOADERS and not _is_of_windows(node.func):
                first = node.args[0] if node.args else next((each.value for each in node.keywords), None)
                modes = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "mode")]
                is_global = is_global or any(_is_global(mode) for mode in modes)
                if isinstance(first, ast.Constant):
                    named.update([first.value] if isinstance(first.value, str) else [])
                elif first is not None and not _asks_the_system(first):
                    is_computed = True
            case ast.Subscript(value=holder, slice=key) if _last(holder) == "cdll":
                if isinstance(key, ast.Constant):
                    named.update([key.value] if isinstance(key.value, str) else [])
                else:
                    is_computed = True
            case ast.Attribute(attr=name) | ast.Name(id=name):
                is_global = is_global or name in {"RTLD_GLOBAL", "setdlopenflags"}
            case _:
                pass
    if not is_computed:
        is_computed = _is_handed_on(tree)
    return _Code(folder, frozenset(named), frozenset(texts if is_computed else ()), is_computed, is_global)


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what may run on Linux and tell of libraries of the package; no docstrings."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        match node:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Call() if _asks_the_system(node) or _is_of_windows(node.func):
                continue
            case ast.If(test=test) | ast.IfExp(test=test) if (runs := _runs_on_linux(test)) is not None:
                branch = node.body if runs else node.orelse
                waiting.extend(branch if isinstance(branch, list) else [branch])
                continue
        waiting.extend(ast.iter_child_nodes(node))


def _runs_on_linux(test: ast.expr) -> bool | None:
    """Say whether a condition holds on Linux, where it asks just for another system: `sys.platform == "win32"`."""
    match test:
        case ast.Compare(ops=[operator], comparators=[ast.Constant(value=value)]) if value in _OTHER_SYSTEMS:
            return {ast.Eq: False, ast.NotEq: True}.get(type(operator))
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[ast.Constant(value=str(value))]):
            return False if any(system.startswith(value) for system in _OTHER_SYSTEMS) else None
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _runs_on_linux(operand)
            return None if inner is None else not inner
        case ast.BoolOp(op=ast.And(), values=values):
            return False if any(_runs_on_linux(value) is False for value in values) else None
        case _:
            return None


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_of_windows(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        if node.attr in _OF_WINDOWS:
            return True
        node = node.value
    return isinstance(node, ast.Name) and node.id in _OF_WINDOWS


def _asks_the_system(node: ast.expr) -> bool:
    """Whether a name comes from `ctypes.util.find_library`, which never looks into a package."""
    return isinstance(node, ast.Call) and _last(node.func) == "find_library"


def _is_global(mode: ast.expr) -> bool:
    return isinstance(mode, ast.Constant) and isinstance(mode.value, int) and bool(mode.value & _RTLD_GLOBAL)


def _is_handed_on(tree: ast.Module) -> bool:
    """Whether a loader is given to something that calls it: `map(ctypes.CDLL, paths)`."""
    called = {id(node.func) for node in _nodes(tree) if isinstance(node, ast.Call)}
    return any(
        isinstance(node, ast.Name | ast.Attribute) and _last(node) in _LOADERS and id(node) not in called
        for node in _nodes(tree)
    )


def _means(code: _Code, path: str) -> bool:
    """Whether code may load the file at `path`: it names it, or goes through the folder that it lies in."""
    file, folder = basename(path), dirname(path)
    stem = _stem(file)
    if any(_stem(basename(name.replace("\\", "/"))) == stem for name in code.named):
        return True
    goes_through = False
    for text in code.texts:
        word = basename(text.replace("\\", "/"))
        pattern = re.sub(r"%[-#0-9.]*[a-z]|\{[^{}]*\}", "*", word)
        if re.sub(r"lib|so|[^A-Za-z]", "", pattern) == "" and re.search(r"\.so\b|\*", pattern):
            goes_through = True  # `*.so*`, `lib%s.so`, `.so`: of any name
        elif any(sign in pattern for sign in "*?["):
            if len(pattern) < 200 and pattern.count("*") < 6 and fnmatchcase(file, pattern):
                return True
        elif _stem(word) == stem and (len(stem) > 2 or word.startswith("lib")):
            return True
    if _names_folder(code.texts, folder, is_below=f"{folder}/".startswith(f"{code.folder}/")):
        return True
    return goes_through and (
        folder == code.folder or (folder.startswith(f"{code.folder}/") and _is_package(code.folder))
    )


def _names_folder(texts: frozenset[str], folder: str, *, is_below: bool) -> bool:
    """Whether one of `texts` has the name of a folder: all of it, or what follows the name of the package in it."""
    name = basename(folder)
    if not is_below and name in {"lib", "lib64", "bin"}:
        return False
    parts = {part for text in texts for part in re.split(r"[/\\]", text)} if name else set()
    return name in parts or any(part.startswith(".") and name.endswith(part) and len(part) > 3 for part in parts)


def _is_package(folder: str) -> bool:
    """Whether a folder is not the one that packages lie in."""
    return folder not in {"/var/task", "/opt/python"} and not folder.endswith("/site-packages")


@lru_cache(maxsize=4096)
def _stem(name: str) -> str:
    """Return what the names of a library have in common: `zmq` of `libzmq-2f02442c.so.5.2.5`."""
    stem = re.split(r"\.(?:so|dylib|dll|pyd)\b", name[:300], maxsplit=1)[0].rstrip("._-").lower()
    return re.sub(r"-[0-9a-f]{8}\Z", "", stem).removeprefix("lib")
