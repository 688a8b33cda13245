"""Native files of a package, found by content and read in parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.elf import HEAD_SIZE, Malformed, NativeFile, read, sniff
from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.linkage import module_file
from manylambda.tree import DEFLATED, Bytes, DiskFile, Entry, Span, open_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MAX_NATIVE: Final = 10 << 30


def native_facts(entries: Iterable[Entry]) -> dict[str, NativeFile]:
    """Return the facts of every native file among `entries` by path, found by content.

    A file named like an extension module that is none is `Malformed`: importing it fails like importing a damaged one.
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

    # Inflating is most of the work, and zlib lets other threads run meanwhile. The largest first, to end together.
    binaries.sort(key=lambda entry: (-entry.content.size, entry.path))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        for entry, native in zip(binaries, threads.map(_native, binaries), strict=True):
            if native is not None:
                found[entry.path] = native
    return dict(sorted(found.items()))


def _native(entry: Entry) -> NativeFile | None:
    import zlib

    if entry.content.size > _MAX_NATIVE:
        return Malformed(reason="the file is larger than any that Lambda takes")
    try:
        if isinstance(entry.content, DiskFile):
            return read(entry.content.file)
        with open_content(entry.content) as stream:
            return read(stream)
    except (zlib.error, UnsafeArchive):
        return Malformed(reason="the archive is damaged here")
    except OSError as error:
        raise _unreadable(entry, error) from error


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
