"""The package tree: what will be in a package, as references to bytes that lie elsewhere.

It is the waist of the product: wheels, projects and existing packages become trees; archives, images, audits and
trials read them. It knows nothing of wheels, of Lambda or of zip files.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, NamedTuple, TypeAlias

from manylambda.errors import PackagingError, UnsafeArchive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

MODE_FILE: Final = 0o644
MODE_EXECUTABLE: Final = 0o755

STORED: Final = 0
DEFLATED: Final = 8

_CHUNK: Final = 1 << 20


# NamedTuple and not a dataclass: a package has thousands of these, and making them is a measurable part of a build.
class Span(NamedTuple):
    """Bytes inside a file on disk, already in the form a zip stores them."""

    file: Path
    offset: int
    """Where the (compressed) bytes begin."""
    compressed_size: int
    method: int
    """`STORED` or `DEFLATED`."""
    crc32: int
    size: int
    """Bytes after inflating."""


class DiskFile(NamedTuple):
    """A whole file on disk."""

    file: Path
    size: int


class Bytes(NamedTuple):
    """Bytes in memory: small generated files only."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


Content: TypeAlias = Span | DiskFile | Bytes


class Entry(NamedTuple):
    """One regular file of a package."""

    path: str
    """Relative, `/`-separated, normalised: no `..`, no empty part."""
    mode: int
    """`MODE_FILE` or `MODE_EXECUTABLE`."""
    content: Content
    origin: str
    """Who brought it: the normalised name of a distribution, `project`, or the file name of a layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Collision:
    """Two origins bring different bytes for one path; `kept` wins."""

    path: str
    kept: str
    dropped: str


class PackageTree:
    """An immutable set of entries, sorted by path."""

    __slots__ = ("entries",)

    entries: tuple[Entry, ...]

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Sort `entries`; two with one path, or a file where another entry needs a folder, are a `PackagingError`."""
        self.entries = tuple(sorted(entries, key=lambda entry: entry.path.encode("utf-8", "surrogateescape")))
        previous: Entry | None = None
        for entry in self.entries:
            if previous is not None and previous.path == entry.path:
                raise PackagingError(f"`{previous.origin}` and `{entry.origin}` both bring `{entry.path}`")
            previous = entry

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<PackageTree of {len(self)} files, {self.size} bytes>"

    def __or__(self, other: PackageTree) -> PackageTree:
        """Join two trees; differing files for one path are a `PackagingError`. See `overlay` to have them reported."""
        joined, collisions = overlay((self, other))
        if collisions:
            first = collisions[0]
            raise PackagingError(f"`{first.kept}` and `{first.dropped}` bring different bytes for `{first.path}`")
        return joined

    @property
    def size(self) -> int:
        """Bytes of all files, uncompressed."""
        return sum(entry.content.size for entry in self.entries)

    def get(self, path: str) -> Entry | None:
        """Return the entry at `path`, if there is one."""
        return next((entry for entry in self.entries if entry.path == path), None)

    def under(self, prefix: str) -> PackageTree:
        """Move every entry below `prefix`, such as `python/`."""
        folder = checked_path(prefix.rstrip("/")) + "/"
        return PackageTree(entry._replace(path=folder + entry.path) for entry in self.entries)

    def without(self, is_dropped: Callable[[Entry], bool]) -> PackageTree:
        """Leave out the entries for which `is_dropped` holds."""
        return PackageTree(entry for entry in self.entries if not is_dropped(entry))


def overlay(trees: Iterable[PackageTree]) -> tuple[PackageTree, tuple[Collision, ...]]:
    """Join trees; the first to bring a path wins, and every differing loser is reported.

    Equal bytes are no collision: many distributions ship the same `__init__.py` of a namespace.
    """
    chosen: dict[str, Entry] = {}
    collisions: list[Collision] = []
    for tree in trees:
        for entry in tree.entries:
            kept = chosen.setdefault(entry.path, entry)
            if kept is not entry and not _same_bytes(kept.content, entry.content):
                collisions.append(Collision(path=entry.path, kept=kept.origin, dropped=entry.origin))
    return PackageTree(chosen.values()), tuple(collisions)


def checked_path(path: str) -> str:
    """Return `path` if it is relative, normalised and safe to unpack anywhere; else raise `UnsafeArchive`.

    Refused are absolute names, drive letters, backslashes, `.`, `..`, empty parts and control characters.
    """
    parts = path.split("/")
    if (
        "" in parts
        or "." in parts
        or ".." in parts
        or "\\" in path
        or (len(parts[0]) == 2 and parts[0][1] == ":")
        or not path.isprintable()
    ):
        raise UnsafeArchive(
            f"unsafe path in an archive: {path!r}",
            hint="a path must be relative, `/`-separated and free of `..`; do not use this file",
        )
    return path


def open_content(content: Content) -> IO[bytes]:
    """Open the uncompressed bytes of `content` as a stream; the caller closes it."""
    if isinstance(content, Bytes):
        return io.BytesIO(content.data)
    if isinstance(content, DiskFile):
        return content.file.open("rb")
    return io.BufferedReader(_SpanReader(content), _CHUNK)


def read_content(content: Content) -> bytes:
    """Return the uncompressed bytes of `content`: for files known to be small."""
    with open_content(content) as stream:
        return stream.read()


def _same_bytes(one: Content, other: Content) -> bool:
    if one.size != other.size:
        return False
    if isinstance(one, Span) and isinstance(other, Span):
        return one.crc32 == other.crc32
    return _crc32(one) == _crc32(other)


def _crc32(content: Content) -> int:
    if isinstance(content, Span):
        return content.crc32
    crc = 0
    with open_content(content) as stream:
        while chunk := stream.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


class _SpanReader(io.RawIOBase):
    """Inflates a span while it is read, never past the size the archive declares."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._file = span.file.open("rb")
        self._file.seek(span.offset)
        self._left = span.compressed_size
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if span.method == DEFLATED else None
        self._pending = b""
        self._produced = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._next(len(view))
        view[: len(data)] = data
        return len(data)

    def _next(self, limit: int) -> bytes:
        if self._inflater is None:
            data = self._file.read(min(limit, self._left))
            self._left -= len(data)
            return data
        while True:
            data = self._inflater.decompress(self._pending or self._compressed(), limit)
            self._pending = self._inflater.unconsumed_tail
            self._produced += len(data)
            if self._produced > self._span.size:
                raise UnsafeArchive(f"a member of `{self._span.file.name}` is longer than its header says")
            if data or (self._inflater.eof or (not self._pending and not self._left)):
                return data

    def _compressed(self) -> bytes:
        data = self._file.read(min(1 << 16, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
