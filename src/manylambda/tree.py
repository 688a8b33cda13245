"""The package tree: what will be in a package, as references to bytes that lie elsewhere.

It is the waist of the product: wheels, projects and existing packages become trees; archives, images, audits and
trials read them. It knows nothing of wheels, of Lambda or of zip files.
"""

from __future__ import annotations

import io
import re
import zlib
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
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
_BY_PATH: Final = attrgetter("path")
# Lone surrogates are what Python makes of names that are not UTF-8. Not `str.isprintable`: what that accepts depends on
# the Unicode version of the host's Python, and it takes a no-break space for unprintable.
_UNSAFE_PATH: Final = re.compile(r"(?:\A|/)\.{0,2}(?:/|\Z)|\A.:|[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class DamagedContent(UnsafeArchive):
    """The bytes of a span are not what its archive says of them; `fact` is the message without the file's name."""

    def __init__(self, file: str, fact: str) -> None:
        super().__init__(f"`{file}` is damaged: {fact}", hint="download or build it again")
        self.fact = fact


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
        self.entries = tuple(sorted(entries, key=_BY_PATH))
        paths = {entry.path for entry in self.entries}
        if len(paths) != len(self.entries):
            raise PackagingError(_doubled(self.entries))
        folders = paths
        while folders := {path.rpartition("/")[0] for path in folders} - {""}:
            if clashes := folders & paths:
                raise PackagingError(_file_and_folder(self.entries, min(clashes)))

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
        index = bisect_left(self.entries, path, key=_BY_PATH)
        found = self.entries[index] if index < len(self.entries) else None
        return found if found is not None and found.path == path else None

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

    Refused are absolute names, drive letters, backslashes, `.`, `..`, empty parts, control characters and what is not
    Unicode.
    """
    if _UNSAFE_PATH.search(path):
        raise UnsafeArchive(
            f"unsafe path in an archive: {path!r}",
            hint="a path must be relative, `/`-separated and free of `..`; do not use this file",
        )
    return path


def open_content(content: Content) -> IO[bytes]:
    """Open the uncompressed bytes of `content` as a stream; the caller closes it.

    Reading a span to its end raises `DamagedContent` unless it holds exactly the bytes it declares.
    """
    if isinstance(content, Bytes):
        return io.BytesIO(content.data)
    if isinstance(content, DiskFile):
        return content.file.open("rb")
    return io.BufferedReader(_SpanReader(content), _CHUNK)


def read_content(content: Content) -> bytes:
    """Return the uncompressed bytes of `content`: for files known to be small."""
    with open_content(content) as stream:
        return stream.read()


def _doubled(entries: tuple[Entry, ...]) -> str:
    one, other = next((one, other) for one, other in pairwise(entries) if one.path == other.path)
    if one.origin == other.origin:
        return f"`{one.origin}` brings `{one.path}` twice"
    return f"`{one.origin}` and `{other.origin}` both bring `{one.path}`"


def _file_and_folder(entries: tuple[Entry, ...], path: str) -> str:
    file = next(entry for entry in entries if entry.path == path)
    below = next(entry for entry in entries if entry.path.startswith(path + "/"))
    return f"`{path}` is a file of `{file.origin}`, and `{below.origin}` brings `{below.path}` below it"


def _same_bytes(one: Content, other: Content) -> bool:
    if one.size != other.size or (isinstance(one, Span) and isinstance(other, Span) and one.crc32 != other.crc32):
        return False
    with open_content(one) as first, open_content(other) as second:
        while True:
            chunk = first.read(_CHUNK)
            if chunk != second.read(_CHUNK):
                return False
            if not chunk:
                return True


class _SpanReader(io.RawIOBase):
    """Inflates a span while it is read; never gives more or less than the archive declares."""

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
        data = self._compressed(len(view)) if self._inflater is None else self._inflated(len(view))
        self._produced += len(data)
        if self._produced > self._span.size or (not data and self._produced < self._span.size):
            raise DamagedContent(self._span.file.name, "a member is not as long as its header says")
        view[: len(data)] = data
        return len(data)

    def _inflated(self, limit: int) -> bytes:
        inflater = self._inflater
        assert inflater is not None
        while not inflater.eof:
            try:
                data = inflater.decompress(self._pending or self._compressed(1 << 16), limit)
            except zlib.error as error:
                raise DamagedContent(self._span.file.name, str(error)) from error
            self._pending = inflater.unconsumed_tail
            if data:
                return data
            if not self._pending and not self._left and not inflater.eof:
                raise DamagedContent(self._span.file.name, "the compressed data ends early")
        if self._left or inflater.unused_data:
            raise DamagedContent(self._span.file.name, "other data follows the compressed data of a member")
        return b""

    def _compressed(self, limit: int) -> bytes:
        data = self._file.read(min(limit, self._left))
        if self._left and not data:
            raise DamagedContent(self._span.file.name, "the file ends early")
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
