"""The libraries of an image: where its loader looks, and what it finds there for the native files of the function.

Read are the facts of the libraries that those files need, directly or not, and of the C library; all else is known by
name.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from posixpath import dirname, normpath
from typing import TYPE_CHECKING, Final, Protocol

from manylambda.elf import ElfFile, read, symbol_table
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, System, expanded, fits, is_loadable
from manylambda.target import GlibcVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from manylambda.elf import NativeFile
    from manylambda.image import FileSystem, Node
    from manylambda.target import Target

_C_LIBRARY: Final = "libc.so.6"
# Nearly every library needs them: read along, they spare another walk over the image layers.
_COMMON: Final = frozenset({_C_LIBRARY, "libm.so.6", "libgcc_s.so.1"})
_SETTINGS: Final = "/etc/ld.so.conf"
_MAX_SETTINGS: Final = 256
_MAX_SETTINGS_SIZE: Final = 64 << 10
_MAX_WALKS: Final = 12
"""Walks over the image layers; libraries of X11 lead to each other in seven steps."""
_MAX_LIBRARIES: Final = 5_000
_MAX_C_LIBRARY: Final = 64 << 20
_BANNER: Final = re.compile(rb"stable release version (\d+\.\d+)")


class Libraries(Protocol):
    """What the loader of an image finds besides the files of the function."""

    def needed_by(self, natives: Mapping[str, NativeFile], target: Target) -> System | None:
        """Return the libraries that `natives` are loaded with; None for an image without a glibc for the target.

        What is too much to be read is taken to be there and to have what is wanted of it.
        """
        ...

    def defined(self, system: System) -> frozenset[str] | None:
        """Return the names that any library of `system`, which `needed_by` gave, defines; None where one is unread."""
        ...


class ImageLibraries:
    """Those of an image that was read; see `Libraries`."""

    def __init__(
        self, system: FileSystem, environment: Mapping[str, str], task_folder: str, *, is_lambda_base: bool
    ) -> None:
        """Look at nothing yet; `task_folder` is what the function's root stands for."""
        self._system = system
        self._library_path = environment.get("LD_LIBRARY_PATH")
        self._task = f"{task_folder.rstrip('/')}/"
        self._is_lambda_base = is_lambda_base

    def needed_by(self, natives: Mapping[str, NativeFile], target: Target) -> System | None:
        """See `Libraries`."""
        search = _Search(self._system, natives, target, self._searched_first(target), self._task)
        if not search.finds(_C_LIBRARY):
            return None
        settings = dict(self._settings())
        search.read(settings.values())
        search.folders = (*_configured(settings), *search.folders)
        for _ in range(_MAX_WALKS):
            if not search.read():
                break
        glibc = next((search.glibc(path) for path in search.files if path.endswith(f"/{_C_LIBRARY}")), None)
        if glibc is None:
            return None
        files = {**dict.fromkeys(search.unread(), ElfFile(machine=target.machine, version_needs={})), **search.files}
        return System(files=files, library_path=search.library_path, folders=search.folders, glibc=glibc)

    def defined(self, system: System) -> frozenset[str] | None:
        """See `Libraries`."""
        if len(system.files) > _MAX_LIBRARIES:
            return None
        found = [self._system.find(path) for path in system.files]
        nodes = [node for _, node in filter(None, found)]
        self._system.spool(nodes)
        names: set[str] = set()
        for content in {node.file for node in nodes}:
            table = None if content is None else symbol_table(content)
            if table is None:
                return None
            names |= table.defined
        return frozenset(names) if len(nodes) == len(found) else None

    def _searched_first(self, target: Target) -> tuple[str, ...]:
        if self._library_path is not None:
            folders = (normpath(one) for one in self._library_path.split(":") if one.startswith("/"))
            return tuple(self._in_function(f"{folder}/").rstrip("/") for folder in folders)
        if self._is_lambda_base:
            return target.library_path
        # The image does not say that the function's own folders are searched; its entry point may see to it.
        return tuple(one for one in target.library_path if f"{one}/".startswith((FUNCTION_ROOT, LAYER_ROOT)))

    def _in_function(self, folder: str) -> str:
        return FUNCTION_ROOT + folder.removeprefix(self._task) if folder.startswith(self._task) else folder

    def _settings(self) -> Iterator[tuple[str, Node]]:
        """Yield the files that may name folders for the loader, by their path."""
        below = (f"{_SETTINGS}.d/{path}" for path, _ in self._system.below(f"{_SETTINGS}.d"))
        for number, path in enumerate((_SETTINGS, *below)):
            found = self._system.find(path) if number < _MAX_SETTINGS else None
            if found is not None and found[1].kind == "file" and found[1].size <= _MAX_SETTINGS_SIZE:
                yield path, found[1]


class _Search:
    """The libraries that are needed, found step by step: what was read tells what else is needed."""

    def __init__(
        self,
        system: FileSystem,
        natives: Mapping[str, NativeFile],
        target: Target,
        library_path: tuple[str, ...],
        task_folder: str,
    ) -> None:
        self.library_path = library_path
        self.folders = tuple(
            f"{prefix}/{name}"
            for name in (f"lib/{target.machine}-linux-gnu", "lib64", "lib")
            for prefix in ("", "/usr")
        )
        self.files: dict[str, ElfFile] = {}
        self.nodes: dict[str, Node] = {}
        self._system = system
        self._target = target
        self._of_package = (FUNCTION_ROOT, LAYER_ROOT, task_folder)
        self._natives = natives
        self._names: set[str] = set(_COMMON)
        self._named: set[str] = set()
        self._seen: set[str] = set()
        for path, native in natives.items():
            if isinstance(native, ElfFile) and is_loadable(path, native, target):
                self._need(path, native)

    def finds(self, name: str) -> bool:
        """Whether a library lies where the loader looks, unread."""
        return any(True for _ in self._places({name}))

    def unread(self) -> dict[str, Node]:
        """Return what is needed and not read, by the path that leads to it."""
        return {path: node for path, node in self._places(self._names) if path not in self._seen}

    def read(self, also: Iterable[Node] = ()) -> bool:
        """Read what is needed as far as it is known, and have `also` spooled; whether there may be more."""
        new = self.unread()
        if len(self._seen) + len(new) > _MAX_LIBRARIES:
            new = {}
        self._system.spool([*also, *new.values()])
        self._seen.update(new)
        facts: dict[Path, ElfFile | None] = {}
        for path, node in new.items():
            assert node.file is not None
            if node.file not in facts:
                native = read(node.file)
                # The loader passes over a library of another machine.
                facts[node.file] = native if isinstance(native, ElfFile) and fits(native, self._target) else None
            if (file := facts[node.file]) is not None:
                self.files[path] = file
                self.nodes[path] = node
                self._need(path, file)
        return bool(new)

    def glibc(self, path: str) -> GlibcVersion | None:
        """Return the version of a C library: the one it tells, or the newest of its symbols."""
        file = self.nodes[path].file
        assert file is not None
        with file.open("rb") as stream:
            told = _BANNER.search(stream.read(_MAX_C_LIBRARY))
        if told is not None:
            return GlibcVersion.parse(told[1].decode())
        versions = (re.fullmatch(r"GLIBC_(\d+\.\d+)(?:\.\d+)?", one) for one in self.files[path].version_definitions)
        return max((GlibcVersion.parse(one[1]) for one in versions if one is not None), default=None)

    def _need(self, path: str, file: ElfFile) -> None:
        self._names.update(file.needed)
        self._named.update(expanded(dirname(path), (*file.rpath, *file.runpath), self._target.machine))

    def _places(self, names: set[str]) -> Iterator[tuple[str, Node]]:
        for folder in dict.fromkeys((*self.library_path, *self.folders, *sorted(self._named))):
            found = None if f"{folder}/".startswith(self._of_package) else self._system.find(folder)
            for name in sorted(names & (found[1].children or {}).keys()) if found is not None else ():
                yield from self._place(f"{folder}/{name}")
        for path in sorted(name for name in names if name.startswith("/")):
            yield from self._place(normpath(path))

    def _place(self, path: str) -> Iterator[tuple[str, Node]]:
        found = None if path in self._natives else self._system.find(path)
        if found is not None and found[1].kind == "file":
            yield path, found[1]


def _configured(settings: Mapping[str, Node]) -> Iterator[str]:
    """Yield the folders that `ld.so.conf` names, as if `ldconfig` had run."""
    for line in _lines(settings.get(_SETTINGS)):
        words = line.split()
        if words[0] != "include":
            yield normpath(line)
            continue
        patterns = [one if one.startswith("/") else f"{dirname(_SETTINGS)}/{one}" for one in words[1:]]
        for path, node in settings.items():
            if path != _SETTINGS and any(fnmatchcase(path, pattern) for pattern in patterns):
                yield from (normpath(one) for one in _lines(node) if one.startswith("/"))


def _lines(settings: Node | None) -> Iterator[str]:
    if settings is None or settings.file is None:
        return
    for line in settings.file.read_text(encoding="utf-8", errors="replace").splitlines():
        if text := line.partition("#")[0].strip():
            yield text
