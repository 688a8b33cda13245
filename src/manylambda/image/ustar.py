"""Headers of tar archives, with the same bytes on every host: files and folders of root, all of one day.

POSIX's `ustar`, and a `pax` header before it only where a name or size needs one: every runtime reads both.
"""

from __future__ import annotations

from typing import Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)

_MTIME: Final = 315_532_800  # 1980-01-01T00:00:00Z, as in the zips
_NAME: Final = 100
_PREFIX: Final = 155
_MAX_SIZE: Final = 8**11 - 1
_FILE: Final = b"0"
_FOLDER: Final = b"5"
_EXTENDED: Final = b"x"
_EXTENDED_NAME: Final = b"././@PaxHeader"


def file_header(path: str, mode: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a file."""
    return _header(path.encode(), mode, size, _FILE)


def folder_header(path: str) -> bytes:
    """Return the whole of a folder; `path` is without a `/` at its end."""
    return _header(path.encode() + b"/", 0o755, 0, _FOLDER)


def padding(size: int) -> bytes:
    """Return what stands behind the `size` bytes of a file."""
    return bytes(-size % BLOCK)


def _header(path: bytes, mode: int, size: int, kind: bytes) -> bytes:
    records = {}
    split = _split(path)
    if split is None or not path.isascii():  # what a byte above 127 means is said by pax only
        records[b"path"] = path
        split = b"", path.decode("ascii", "replace").encode("ascii", "replace")[:_NAME]
    if size > _MAX_SIZE:
        records[b"size"] = b"%d" % size
    block = _block(*split, mode, 0 if b"size" in records else size, kind)
    if not records:
        return block
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    return _block(b"", _EXTENDED_NAME, 0o644, len(data), _EXTENDED) + data + padding(len(data)) + block


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """Return the prefix and the name that hold a path; None where they do not."""
    if len(path) <= _NAME:
        return b"", path
    # The `/` between the two is in neither, and the one that ends a folder's path does not part anything.
    cut = path.rfind(b"/", 0, min(_PREFIX + 1, len(path) - 1))
    return (path[:cut], path[cut + 1 :]) if cut > 0 and len(path) - cut - 1 <= _NAME else None


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def _block(prefix: bytes, name: bytes, mode: int, size: int, kind: bytes) -> bytes:
    block = bytearray(BLOCK)
    for start, value in (
        (0, name),
        (100, b"%07o" % mode),
        (108, b"%07o" % 0),
        (116, b"%07o" % 0),
        (124, b"%011o" % size),
        (136, b"%011o" % _MTIME),
        (148, b" " * 8),
        (156, kind),
        (257, b"ustar\x0000"),
        (345, prefix),
    ):
        block[start : start + len(value)] = value
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)
