"""Hashes of a package's files, streamed and in parallel: inflating is most of it, and zlib lets other threads run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.tree import DEFLATED, Bytes, DamagedContent, DiskFile, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from manylambda.tree import Content, Entry

_CHUNK: Final = 1 << 20
_LARGE: Final = 8 << 20
_SMALL: Final = 1 << 18
_BATCH: Final = 128
_MAX_IN_MEMORY: Final = 64 << 20


def digests(entries: Iterable[Entry]) -> dict[str, str | None]:
    """Return the sha256 of each entry by path, as a RECORD writes it; None for a member that cannot be unpacked."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    found: dict[str, str | None] = {}
    batches = list(_batches(entries))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        for batch in threads.map(_hash, batches):
            found.update(batch)
    return found


def is_damaged(entry: Entry) -> bool:
    """Whether the bytes of a zip's member are not those that its directory tells of."""
    import zlib

    content = entry.content
    if not isinstance(content, Span):
        return False
    crc = 0
    try:
        with content.file.open("rb") as stream:
            for chunk in _chunks(content, stream):
                crc = zlib.crc32(chunk, crc)
    except (zlib.error, _Damaged, DamagedContent):
        return True
    return crc != content.crc32


class _Damaged(Exception):
    """A member is longer or shorter than it says."""


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the large files as one, as one of them at a time is in memory, and small ones by their place."""
    ordered = sorted(entries, key=lambda entry: (-entry.content.size, entry.path))
    large = [entry for entry in ordered if entry.content.size >= _LARGE]
    if large:
        yield large
    small: list[Entry] = []
    for entry in ordered[len(large) :]:
        if entry.content.size > _SMALL:
            yield [entry]
        else:
            small.append(entry)
    small.sort(key=_place)
    for start in range(0, len(small), _BATCH):
        yield small[start : start + _BATCH]


def _place(entry: Entry) -> tuple[int, str]:
    return (entry.content.offset if isinstance(entry.content, Span) else 0), entry.path


def _hash(batch: list[Entry]) -> dict[str, str | None]:
    import zlib
    from base64 import urlsafe_b64encode
    from contextlib import ExitStack

    found: dict[str, str | None] = {}
    opened: dict[Path, IO[bytes]] = {}
    with ExitStack() as stack:
        for entry in batch:
            content = entry.content
            try:
                if isinstance(content, Span) and content.file not in opened:
                    opened[content.file] = stack.enter_context(content.file.open("rb"))
                digest = _digest(_chunks(content, opened[content.file] if isinstance(content, Span) else None))
            except (zlib.error, _Damaged, DamagedContent, OSError):
                found[entry.path] = None
                continue
            found[entry.path] = urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    return found


def _digest(chunks: Iterable[bytes | bytearray]) -> bytes:
    """Return the sha256 of a file, of which nothing is in memory afterwards."""
    from hashlib import sha256

    hasher = sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.digest()


def _chunks(content: Content, stream: IO[bytes] | None) -> Iterator[bytes | bytearray]:
    """Yield the bytes of a file, never more than it declares."""
    if isinstance(content, Bytes):
        yield content.data
    elif isinstance(content, DiskFile):
        with content.file.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    else:
        assert stream is not None
        if content.method == DEFLATED and content.size <= _MAX_IN_MEMORY:
            from manylambda.archive import inflate

            yield inflate(content, stream)
            return
        stream.seek(content.offset)
        produced = 0
        for chunk in _inflated(content, stream) if content.method == DEFLATED else _stored(content, stream):
            produced += len(chunk)
            if produced > content.size:
                raise _Damaged
            yield chunk
        if produced != content.size:
            raise _Damaged


def _stored(span: Span, stream: IO[bytes]) -> Iterator[bytes]:
    left = span.compressed_size
    while left and (data := stream.read(min(left, _CHUNK))):
        left -= len(data)
        yield data


def _inflated(span: Span, stream: IO[bytes]) -> Iterator[bytes]:
    import zlib

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for data in _stored(span, stream):
        waiting = data
        while waiting and not inflater.eof:
            if chunk := inflater.decompress(waiting, _CHUNK):
                yield chunk
            waiting = inflater.unconsumed_tail
    while not inflater.eof and (chunk := inflater.decompress(b"", _CHUNK)):
        yield chunk
