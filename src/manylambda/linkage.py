"""Linkage: what the dynamic loader of a Lambda function would do with every native file of a package.

Nothing is run. Given the facts of the native files, by the absolute path they have in the execution environment
(`/var/task/...`, `/opt/...`), and a target, `resolve` plays ld.so(8) for each file that Python can import and each that
something else can load. Knows nothing of distributions, rules or severities.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from posixpath import basename, dirname, normpath
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.elf import ElfFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from manylambda.elf import NativeFile
    from manylambda.target import GlibcVersion, Target

FUNCTION_ROOT: Final = "/var/task/"
LAYER_ROOT: Final = "/opt/"


class Outcome(Enum):
    """What becomes of one needed library."""

    PROVIDED = "provided"
    """The copy of the runtime, or of the system that was looked into, is loaded."""
    BUNDLED = "bundled"
    """A file of the package is loaded."""
    UNREACHED = "unreached"
    """The package has the library where no search path leads: it loads only if something loaded it before."""
    MISSING = "missing"


class Link(NamedTuple):
    """One need of one shared object, and how it ends."""

    needer: str
    soname: str
    outcome: Outcome
    provider: str | None
    """The file of the package that is loaded, or lies unreached."""
    shadowed: str | None
    """The file of the package that would have been meant where the runtime's copy is loaded instead."""
    chain: tuple[str, ...]
    """From the file that Python loads to the needer, both included."""


class VersionFault(NamedTuple):
    """A symbol version that the library which would be loaded does not define."""

    needer: str
    soname: str
    version: str
    provider: str | None
    """The bundled file that lacks it; None for the library of the runtime or of the system."""
    chain: tuple[str, ...]


class Linkage(NamedTuple):
    """The outcome of every need of every loadable file, in a fixed order."""

    links: tuple[Link, ...]
    version_faults: tuple[VersionFault, ...]
    roots: tuple[str, ...] = ()
    """The files that were loaded first in a process of their own: every module, and what no other file leads to."""


class System(NamedTuple):
    """What the loader finds besides the package in a system that was looked into: in place of the target's table."""

    files: Mapping[str, ElfFile]
    """The libraries that are needed, by absolute path, under each folder that leads to them."""
    library_path: tuple[str, ...]
    """The folders of `LD_LIBRARY_PATH`, those of the package among them."""
    folders: tuple[str, ...]
    """Where the loader looks last."""
    glibc: GlibcVersion


class Scopes:
    """Where the loader looks symbols up: for each file, among the files that any process which loads it has loaded."""

    def __init__(self, linkage: Linkage) -> None:
        """Look at who loads whom."""
        self._roots = frozenset(linkage.roots)
        self._libraries: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        self._outside: dict[str, list[Link]] = {}
        for link in linkage.links:
            if link.outcome is Outcome.BUNDLED and link.provider is not None:
                self._libraries.setdefault(link.needer, set()).add(link.provider)
                self._users.setdefault(link.provider, set()).add(link.needer)
            else:
                self._outside.setdefault(link.needer, []).append(link)

    def roots(self, path: str) -> frozenset[str]:
        """Return the files that are loaded first where `path` is loaded; empty for a file that nothing loads."""
        return _reached({path}, self._users) & self._roots

    def files(self, path: str) -> frozenset[str]:
        """Return the files of the package that are looked through for `path`: its roots and their libraries."""
        return _reached(self.roots(path), self._libraries)

    def outside(self, files: Iterable[str]) -> Iterator[Link]:
        """Yield the needs of `files` that no file of the package serves."""
        for path in files:
            yield from self._outside.get(path, ())


def _reached(start: Iterable[str], graph: Mapping[str, set[str]]) -> frozenset[str]:
    found = set(start)
    waiting = list(found)
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return frozenset(found)


class ModuleFile(NamedTuple):
    """The file name of an extension module, taken apart: `_speedups.cpython-313-x86_64-linux-gnu.so`."""

    module: str
    """`_speedups`."""
    tag: str
    """`cpython-313-x86_64-linux-gnu`, `abi3`, `cp313-win_amd64`, or empty for a bare `.so` or `.pyd`."""
    suffix: str
    """`.so` or `.pyd`."""


@lru_cache(maxsize=1)
def _module_pattern() -> re.Pattern[str]:
    # A shared library is `libz.so.1` or `libfoo-1.2.so`; a module's name is an identifier.
    return re.compile(
        r"(?P<module>[^\W\d]\w*)"
        r"(?:\.(?P<tag>cpython-\d+[a-z]*(?:-[\w.-]+?)?|abi3t?(?:-[\w-]+)?|pypy\w+(?:-[\w-]+)?"
        r"|graalpy\w*(?:-[\w-]+)?|cp\d+[a-z]*-\w+))?"
        r"(?P<suffix>\.so|\.pyd)"
    )


@lru_cache(maxsize=1024)
def module_file(name: str) -> ModuleFile | None:
    """Take the file name of an extension module apart; None for any other file.

    A bare `libfoo.so` is taken for a library: extension modules that begin with `lib` carry a tag.
    """
    if not name.endswith((".so", ".pyd")):
        return None
    match = _module_pattern().fullmatch(name)
    if match is None or (match["tag"] is None and name.startswith("lib") and match["suffix"] == ".so"):
        return None
    return ModuleFile(match["module"], match["tag"] or "", match["suffix"])


def imports_tag(tag: str, target: Target) -> bool:
    """Whether the target's CPython looks for extension modules with this tag in their name."""
    major, minor = target.python
    own = f"cpython-{major}{minor}{'m' if (major, minor) < (3, 8) else ''}"
    # Free-threaded limited API (PEP 803): `abi3t` loads on both builds of the versions that know the suffix.
    return tag in {"", "abi3", own, f"{own}-{target.machine}-linux-gnu"} or (tag == "abi3t" and minor >= 15)


def fits(native: NativeFile, target: Target) -> bool:
    """Whether the loader of the target takes the file at all: ELF, and of its class and machine."""
    return (
        type(native) is ElfFile
        and native.machine == target.machine
        and native.bits == 64
        and native.kind in {"shared", "executable"}
    )


def musl_sign(native: ElfFile) -> str | None:
    """Return the name that shows that a file was linked against musl, which Lambda does not have."""
    if native.interpreter is not None and "ld-musl" in native.interpreter:
        return native.interpreter
    # Rust links musl by the name that it has where Alpine has not renamed it; glibc's is `libc.so.6`.
    return next(
        (name for name in native.needed if name == "libc.so" or name.startswith(("libc.musl", "ld-musl"))), None
    )


def is_loadable(path: str, native: NativeFile, target: Target) -> bool:
    """Whether anything of a function could load the file; what cannot be loaded needs no libraries."""
    if not (fits(native, target) and isinstance(native, ElfFile)) or musl_sign(native) is not None:
        return False
    module = module_file(basename(path))
    return module is None or imports_tag(module.tag, target)


def resolve(natives: Mapping[str, NativeFile], target: Target, system: System | None = None) -> Linkage:
    """Link every loadable file of `natives` (absolute path in the execution environment -> facts) as ld.so would.

    `system` has the libraries besides them, and is where the target's table is not asked. Its own needs are links
    where they are not met.
    """
    return _Loader(natives, target, system).run()


def expanded(origin: str, folders: Iterable[str], machine: str) -> Iterator[str]:
    """Yield the folders that search paths of a file in the folder `origin` mean."""
    values = {"ORIGIN": origin, "LIB": "lib64", "PLATFORM": machine}
    for folder in folders:
        text = re.sub(_VARIABLE, lambda match: values[match["braced"] or match["bare"]], folder)
        yield normpath(text if text.startswith("/") else FUNCTION_ROOT + text)


class _Object(NamedTuple):
    """A loaded file and how it came to be."""

    path: str
    file: ElfFile
    chain: tuple[str, ...]
    rpath: tuple[str, ...]
    """DT_RPATH folders of the file and of those that loaded it, expanded, in search order."""


class _Loader:
    def __init__(self, natives: Mapping[str, NativeFile], target: Target, system: System | None) -> None:
        self._target = target
        self._provided = target.provided if system is None else frozenset()
        self._of_system: Mapping[str, ElfFile] = {} if system is None else system.files
        self._served: dict[tuple[str, str], str] = {}
        """The library of the system that serves a need, by needer and soname."""
        self._files: dict[str, ElfFile] = {
            path: native
            for path, native in sorted(natives.items())
            if isinstance(native, ElfFile) and is_loadable(path, native, target)
        }
        self._by_soname: dict[str, str] = {}
        for path, file in self._files.items():
            for name in (file.soname, basename(path)):
                if name is not None:
                    self._by_soname.setdefault(name, path)
        # All folders of the system stand before those of the package (F3.12).
        self._library_path = (
            tuple(folder for folder in target.library_path if f"{folder}/".startswith((FUNCTION_ROOT, LAYER_ROOT)))
            if system is None
            else system.library_path
        )
        self._last = () if system is None else system.folders
        self._links: dict[tuple[str, str, Outcome, str | None], Link] = {}
        self._roots: list[str] = []
        self._expanded: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def run(self) -> Linkage:
        reached: set[str] = set()
        later: list[str] = []
        for path in self._files:
            if module_file(basename(path)) is None:
                later.append(path)
            else:
                reached |= self._load(path)
        # What no module leads to is loaded by hand (ctypes), as a plug-in, or run as a program. What others need comes
        # last: most likely those load it, and it may count on their search paths.
        needed = {soname for file in self._files.values() for soname in file.needed} if later else set()
        for path in sorted(later, key=lambda path: basename(path) in needed):
            if path not in reached and not self._is_copy(path):
                reached |= self._load(path)
        links = tuple(self._links.values())
        unmet = {Outcome.UNREACHED, Outcome.MISSING}
        return Linkage(
            links=tuple(link for link in links if link.needer in self._files or link.outcome in unmet),
            version_faults=tuple(self._version_faults(links)),
            roots=tuple(self._roots),
        )

    def _is_copy(self, path: str) -> bool:
        """Whether a file stands beside the one that its soname names: wheels hold what were links as copies."""
        soname = self._files[path].soname
        return soname is not None and soname != basename(path) and f"{dirname(path)}/{soname}" in self._files

    def _load(self, root: str) -> set[str]:
        """Load breadth first from `root` into an empty process; return the files of the package that got loaded."""
        self._roots.append(root)
        file = self._files[root]
        queue = [_Object(root, file, (root,), self._rpath(root, file))]
        paths = {root}
        loaded: dict[str, str] = {basename(root): root}
        if file.soname is not None:
            loaded[file.soname] = root
        for one in queue:  # grows while it is read
            for soname in one.file.needed:
                if soname in loaded:
                    self._record_found(one, soname, loaded[soname])
                    continue
                provider = self._search(one, soname)
                if provider is None:
                    self._record_unbundled(one, soname)
                    continue
                self._record_found(one, soname, provider)
                found = self._file(provider)
                loaded[soname] = provider
                if provider in paths:
                    continue
                if found.soname is not None:
                    loaded.setdefault(found.soname, provider)
                rpath = (*self._rpath(provider, found), *one.rpath)
                queue.append(_Object(provider, found, (*one.chain, provider), rpath))
                paths.add(provider)
        return paths

    def _search(self, one: _Object, soname: str) -> str | None:
        """Return the file that is loaded for `soname`; None when it is the runtime's by its table, or nowhere."""
        if "/" in soname:
            return self._at(normpath(soname if soname.startswith("/") else FUNCTION_ROOT + soname))
        if one.rpath and not one.file.runpath:
            for folder in one.rpath:
                if (found := self._at(f"{folder}/{soname}")) is not None:
                    return found
                if soname in self._provided and folder in _SYSTEM_FOLDERS:
                    return None
        if soname in self._provided:
            return None
        for folders in (self._library_path, self._expand(one.path, one.file.runpath), self._last):
            for folder in folders:
                if (found := self._at(f"{folder}/{soname}")) is not None:
                    return found
        return None

    def _record_found(self, one: _Object, soname: str, provider: str) -> None:
        if provider in self._files:
            self._record(one, soname, Outcome.BUNDLED, provider)
        else:
            self._served[one.path, soname] = provider
            self._record(one, soname, Outcome.PROVIDED, None)

    def _record_unbundled(self, one: _Object, soname: str) -> None:
        if soname in self._provided:
            self._record(one, soname, Outcome.PROVIDED, None)
        elif (lying := self._by_soname.get(soname)) is not None:
            self._record(one, soname, Outcome.UNREACHED, lying)
        else:
            self._record(one, soname, Outcome.MISSING, None)

    def _record(self, one: _Object, soname: str, outcome: Outcome, provider: str | None) -> None:
        key = (one.path, soname, outcome, provider)
        if key not in self._links:
            shadowed = self._meant(one, soname) if outcome is Outcome.PROVIDED else None
            self._links[key] = Link(one.path, soname, outcome, provider, shadowed, one.chain)

    def _meant(self, one: _Object, soname: str) -> str | None:
        """Return the bundled file that loses to the runtime's copy although a search path leads to it."""
        if soname not in self._by_soname:
            return None
        folders = (*self._library_path, *self._expand(one.path, one.file.runpath))
        return next((path for folder in folders if (path := f"{folder}/{soname}") in self._files), None)

    def _at(self, path: str) -> str | None:
        return path if path in self._files or path in self._of_system else None

    def _file(self, path: str) -> ElfFile:
        return self._files.get(path) or self._of_system[path]

    def _rpath(self, path: str, file: ElfFile) -> tuple[str, ...]:
        # DT_RPATH counts for nothing in a file that has DT_RUNPATH.
        return () if file.runpath else self._expand(path, file.rpath)

    def _expand(self, path: str, folders: tuple[str, ...]) -> tuple[str, ...]:
        if not folders:
            return ()
        origin = dirname(path)
        key = (origin, folders)
        known = self._expanded.get(key)
        if known is None:
            known = self._expanded[key] = tuple(expanded(origin, folders, self._target.machine))
        return known

    def _version_faults(self, links: Iterable[Link]) -> Iterator[VersionFault]:
        defined: dict[str, bool] = {}
        definitions: dict[str, frozenset[str]] = {}
        for link in links:
            needs = self._file(link.needer).version_needs.get(link.soname)
            if not needs or link.outcome is Outcome.MISSING:
                continue
            served = link.provider or self._served.get((link.needer, link.soname))
            if served is None:
                for version, weak in needs.items():
                    if version not in defined:
                        # A namespace the table does not know is no proof of a fault.
                        defined[version] = _is_defined(self._target, version)
                    if not weak and not defined[version]:
                        yield VersionFault(link.needer, link.soname, version, None, link.chain)
                continue
            if served not in definitions:
                definitions[served] = frozenset(self._file(served).version_definitions)
            there = definitions[served]
            if there:  # of a library without versions the loader takes any symbol
                for version, weak in needs.items():
                    if not weak and version not in there:
                        yield VersionFault(link.needer, link.soname, version, link.provider, link.chain)


_SYSTEM_FOLDERS: Final = frozenset({"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/var/lang/lib"})
_VARIABLE: Final = r"\$(?:\{(?P<braced>ORIGIN|LIB|PLATFORM)\}|(?P<bare>ORIGIN|LIB|PLATFORM)\b)"


def _is_defined(target: Target, version: str) -> bool:
    # GLIBC_ABI_DT_RELR and the like came with glibc 2.36 and later ones; no runtime has such a glibc.
    if version.startswith("GLIBC_ABI_"):
        return False
    return target.defines(version) is not False
