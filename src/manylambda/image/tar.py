"""Tar archives, read front to back from anything that can be read and skipped; never more than a header in memory.

What runtimes do with an image is what counts, so this reads as Go's `archive/tar` does: global headers are not
applied, and only regular files have data. `tarfile` is asked for one header at a time: left to itself it reads extended
headers of any size into memory and keeps every member.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias

from manylambda.errors import UnsafeArchive

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

BLOCK: Final = 512
_MAX_SPECIAL: Final = 1 << 20  # as in Go
_MAX_PATH: Final = 4096

_KEYS: Final = frozenset({b"path", b"linkpath", b"size", b"GNU.sparse.name"})
_SPARSE: Final = "sparse"

MemberKind: TypeAlias = Literal["file", "folder", "symlink", "hardlink", "other"]


class Stream(Protocol):
    """Bytes that are read once, front to back."""

    @property
    def position(self) -> int:
        """How many bytes were read or skipped."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""

    def skip(self, size: int) -> None:
        """Go on by `size` bytes, or to the end."""


class Member(NamedTuple):
    """One header of a tar archive."""

    path: str
    """As it stands there: it may begin with `/` or `./`, or hold `..`."""
    kind: MemberKind
    mode: int
    """Permission bits."""
    size: int
    """Bytes of data that follow."""
    link: str
    """Where a link leads; empty for all else."""
    is_sparse: bool
    """Whether the data is a sparse map and not the file as it is."""


def shown(text: str) -> str:
    """Return a name that may be printed, whatever it holds: an image may be hostile to terminals as well."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda match: f"\\x{ord(match[0]):02x}", text)[:1000]


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with `head` (at least 512 bytes) is a tar archive."""
    import tarfile

    try:
        tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def members(stream: Stream, name: str) -> Iterator[Member]:
    """Yield the members of an archive; the data of each may be read from `stream` before the next is asked for.

    `name` is the archive's, for errors. Raises `UnsafeArchive` where it is damaged.
    """
    import tarfile

    extended: dict[str, str] = {}
    while True:
        block = stream.read(BLOCK)
        if not block or block.count(0) == len(block) == BLOCK:
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _damaged(name, f"{error} at byte {stream.position - len(block)}") from error
        if header.size < 0:
            raise _damaged(name, "a member has a negative size")
        if header.type in {
            tarfile.XHDTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        }:
            data = _special(stream, header, name)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = _text(data.partition(b"\0")[0])
            elif header.type == tarfile.GNUTYPE_LONGLINK:
                extended["linkpath"] = _text(data.partition(b"\0")[0])
            else:
                extended.update(_records(data, name))
            continue
        if header.type == tarfile.XGLTYPE:
            stream.skip(header.size + -header.size % BLOCK)
            continue
        member = _member(header, extended, name)
        extended = {}
        if header.type == tarfile.GNUTYPE_SPARSE:
            more = block[482]
            while more:
                block = stream.read(BLOCK)
                if len(block) < BLOCK:
                    raise _damaged(name, "it ends early")
                more = block[504]
        end = stream.position + -(-member.size // BLOCK) * BLOCK
        yield member
        stream.skip(end - stream.position)


def _special(stream: Stream, header: tarfile.TarInfo, name: str) -> bytes:
    if header.size > _MAX_SPECIAL:
        raise _damaged(name, "an extended header is too large")
    data = stream.read(header.size)
    if len(data) < header.size:
        raise _damaged(name, "it ends early")
    stream.skip(-header.size % BLOCK)
    return data


def _records(data: bytes, name: str) -> dict[str, str]:
    """Read the records of a PAX header (`LENGTH KEY=VALUE` and a newline), as far as they say what a member is."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        number = data[at : at + 20].partition(b" ")[0]
        end = at + int(number) if number.isdigit() else 0
        key, equals, value = data[at + len(number) + 1 : end].partition(b"=")
        if not at < end <= len(data) or not equals or not value.endswith(b"\n"):
            raise _damaged(name, "an extended header is malformed")
        if key in _KEYS:
            found[key.decode()] = _text(value[:-1])
        elif key.startswith(b"GNU.sparse."):
            found[_SPARSE] = "yes"
        at = end
    return found


def _member(header: tarfile.TarInfo, extended: dict[str, str], name: str) -> Member:
    import tarfile

    path = extended.get("GNU.sparse.name") or extended.get("path") or header.name
    kind: MemberKind
    match header.type:
        case tarfile.DIRTYPE:
            kind = "folder"
        case tarfile.SYMTYPE:
            kind = "symlink"
        case tarfile.LNKTYPE:
            kind = "hardlink"
        case tarfile.REGTYPE | tarfile.CONTTYPE | tarfile.GNUTYPE_SPARSE:
            kind = "file"
        case tarfile.AREGTYPE:
            kind = "folder" if path.endswith("/") else "file"
        case _:
            kind = "other"
    size = header.size
    if "size" in extended:
        if not (extended["size"].isascii() and extended["size"].isdigit() and len(extended["size"]) < 20):
            raise _damaged(name, "a member has no readable size")
        size = int(extended["size"])
    if kind in {"folder", "symlink", "hardlink"} or header.type in {tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}:
        size = 0
    link = extended.get("linkpath", header.linkname) if kind in {"symlink", "hardlink"} else ""
    if max(len(path), len(link)) > _MAX_PATH:
        raise _damaged(name, "a path is longer than Linux takes")
    is_sparse = header.type == tarfile.GNUTYPE_SPARSE or not extended.keys().isdisjoint({_SPARSE, "GNU.sparse.name"})
    return Member(path, kind, header.mode & 0o7777, size, link, is_sparse)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _damaged(name: str, fact: str) -> UnsafeArchive:
    return UnsafeArchive(f"`{name}` is damaged: {fact}", hint="save or download the image again")
