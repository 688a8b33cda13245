"""Native files of a package, found by content and read in parallel."""

from __future__ import annotations

from io import BytesIO, RawIOBase
from itertools import chain
from typing import TYPE_CHECKING, Final, cast

from manylambda.elf import HEAD_SIZE, ElfFile, Malformed, NativeFile, SymbolTable, read_with_symbols, sniff
from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.linkage import module_file
from manylambda.tree import DEFLATED, Bytes, DiskFile, Entry, Span, open_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from manylambda.tree import Content

_MAX_NATIVE: Final = 10 << 30
_MAX_IN_MEMORY: Final = 64 << 20
_LARGE: Final = 8 << 20
"""Bytes of a file from which on only one at a time is in memory."""
_MAX_TABLES: Final = 256 << 20
"""Bytes of symbol tables that are held at a time."""


def native_facts(entries: Iterable[Entry]) -> dict[str, NativeFile]:
    """Return the facts of every native file among `entries` by path, found by content.

    A file named like an extension module that is none is `Malformed`: importing it fails like importing a damaged one.
    `open_symbols` of a file are the names that it must find and that none of `entries` gives it.
    """
    found: dict[str, NativeFile] = {}
    binaries: list[Entry] = []
    for entry, head in _heads(entries):
        if sniff(head) is not None:
            binaries.append(entry)
        elif entry.path.endswith(".so") and module_file(entry.path.rpartition("/")[2]) is not None:
            found[entry.path] = Malformed(reason="the file is empty" if not head else "the file is no ELF file")
    if not binaries:
        return found
    import os
    from concurrent.futures import ThreadPoolExecutor

    # Inflating is most of the work, and lets other threads run meanwhile. The largest first, to end together.
    binaries.sort(key=lambda entry: (-entry.content.size, entry.path))
    batches = [[entry for entry in binaries if entry.content.size >= _LARGE]]
    batches += [[entry] for entry in binaries[len(batches[0]) :]]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        tables: dict[str, SymbolTable] = {}
        held = 0
        read = chain.from_iterable(threads.map(_natives, batches))
        for entry, (native, table) in zip(binaries, read, strict=True):
            if native is not None:
                found[entry.path] = native
            if table is not None and held + table.size <= _MAX_TABLES:
                tables[entry.path] = table
                held += table.size
    for path, names in _open_symbols(found, tables).items():
        native = found[path]
        assert isinstance(native, ElfFile)
        found[path] = native._replace(open_symbols=names)
    return dict(sorted(found.items()))


def native_contents(entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of every ELF file among `entries`, one at a time; damaged ones are left out."""
    import zlib

    for entry in [entry for entry, head in _heads(entries) if sniff(head) == "elf"]:
        if entry.content.size > _MAX_NATIVE:
            continue
        try:
            with _opened(entry.content) as stream:
                data = stream.read()
        except (zlib.error, UnsafeArchive):
            continue
        except OSError as error:
            raise _unreadable(entry, error) from error
        yield entry.path, data


def _open_symbols(natives: Mapping[str, NativeFile], tables: Mapping[str, SymbolTable]) -> dict[str, str]:
    """Return the open symbols of each file that has some; see `ElfFile.open_symbols`.

    Libraries are found by name alone, wherever they lie: whether the loader gets there is another matter. A file finds
    what it needs in its libraries, in whatever loads it, and in the libraries of that.
    """
    from manylambda.audits.symbols import common_names

    common = common_names()
    files = {path: native for path, native in natives.items() if isinstance(native, ElfFile)}
    by_name: dict[tuple[str, str], list[str]] = {}
    for path, file in files.items():
        for name in {file.soname or "", path.rpartition("/")[2]}:
            by_name.setdefault((file.machine, name), []).append(path)
    libraries = {
        path: [found for soname in file.needed for found in by_name.get((file.machine, soname), ())]
        for path, file in files.items()
        if file.needed
    }
    users: dict[str, list[str]] = {}
    for path, needed in libraries.items():
        for library in needed:
            users.setdefault(library, []).append(path)
    found: dict[str, str] = {}
    for path, table in tables.items():
        if not files[path].is_loaded_by_linux:
            continue
        names: set[str] = set()
        for symbol in table.undefined():
            if symbol.version is None or _is_unversioned(symbol.library, files[path], by_name, files):
                names.add(symbol.name)
        names -= common
        if names:
            for other in _reached(_reached([path], users), libraries):
                if other in tables:
                    names -= tables[other].defined
                if not names:
                    break
        if left := " ".join(sorted(name for name in names if name.split() == [name])):
            found[path] = left
    return found


def _is_unversioned(
    soname: str | None, file: ElfFile, by_name: Mapping[tuple[str, str], list[str]], files: Mapping[str, ElfFile]
) -> bool:
    """Whether the bundled library that a version is expected of has no versions: then any symbol of the name does."""
    there = by_name.get((file.machine, soname or ""))
    return there is not None and not any(files[path].version_definitions for path in there)


def _reached(start: Iterable[str], graph: Mapping[str, list[str]]) -> list[str]:
    """Return `start` and what it leads to, breadth first."""
    queue = list(start)
    seen = set(queue)
    for path in queue:  # grows while it is read
        for following in graph.get(path, ()):
            if following not in seen:
                seen.add(following)
                queue.append(following)
    return queue


def _natives(entries: Iterable[Entry]) -> list[tuple[NativeFile | None, SymbolTable | None]]:
    return [_native(entry) for entry in entries]


def _native(entry: Entry) -> tuple[NativeFile | None, SymbolTable | None]:
    import zlib

    if entry.content.size > _MAX_NATIVE:
        return Malformed(reason="the file is larger than any that Lambda takes"), None
    try:
        if isinstance(entry.content, DiskFile):
            return read_with_symbols(entry.content.file)
        with _opened(entry.content) as stream:
            return read_with_symbols(stream)
    except (zlib.error, UnsafeArchive):
        return Malformed(reason="the archive is damaged here"), None
    except OSError as error:
        raise _unreadable(entry, error) from error


def _opened(content: Content) -> IO[bytes]:
    """Open a native file, which is read from its head and from its end: in memory, unless it is very large."""
    if not isinstance(content, Span) or content.method != DEFLATED or content.size > _MAX_IN_MEMORY:
        return open_content(content)
    from manylambda.archive import inflate

    with content.file.open("rb") as stream:
        data = inflate(content, stream)
    return cast("IO[bytes]", _InMemory(data)) if len(data) >= _LARGE else BytesIO(data)


class _InMemory(RawIOBase):
    """Bytes to be read where they are: `BytesIO` would have them twice."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        data = bytes(self._data[self._at : self._at + size if size >= 0 else None])
        self._at += len(data)
        return data


def _unreadable(entry: Entry, error: OSError) -> PackagingError:
    return PackagingError(
        f"`{entry.path}` cannot be read: {error.strerror or error}", hint="give yourself access to it, or leave it out"
    )


def _heads(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Yield each entry with its first bytes; the files they lie in are opened once each and read in order."""
    import zlib

    spans: dict[Path, list[tuple[Entry, Span]]] = {}
    for entry in entries:
        content = entry.content
        if isinstance(content, Span):
            spans.setdefault(content.file, []).append((entry, content))
        elif isinstance(content, Bytes):
            yield entry, content.data[:HEAD_SIZE]
        else:
            try:
                with content.file.open("rb", buffering=0) as stream:
                    head = stream.read(HEAD_SIZE)
            except OSError as error:
                raise _unreadable(entry, error) from error
            yield entry, head
    for file, members in spans.items():
        members.sort(key=lambda member: member[1].offset)
        with file.open("rb") as stream:
            for entry, span in members:
                stream.seek(span.offset)
                data = stream.read(min(span.compressed_size, 8 * HEAD_SIZE))
                if span.method == DEFLATED:
                    try:
                        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, HEAD_SIZE)
                    except zlib.error:
                        data = b""
                yield entry, data[:HEAD_SIZE]
