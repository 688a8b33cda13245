"""The directory at the end of a wheel: how large its files are, told without the rest of it."""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

LIKELY: Final = 64 << 10
"""Bytes at the end of a wheel that mostly hold its whole directory."""

_END: Final = struct.Struct("<4s4H2LH")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_RECORD: Final = re.compile(rb"[^/]*\.dist-info/RECORD(?:\.jws|\.p7s)?")
"""What an inventory does not count either: a package has a RECORD of its own."""
_ELSEWHERE: Final = 0xFFFF_FFFF


class Longer(NamedTuple):
    """The directory begins further ahead."""

    length: int
    """Bytes at the end of the wheel that hold all of it."""


def unzipped_size(tail: bytes) -> int | Longer | None:
    """Return the bytes of a wheel's files but RECORD, uncompressed, from the end of it; None where it is no wheel's.

    As little is believed of it as of any download whose hash nobody checked: it is a figure to be shown.
    """
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + _END.size > len(tail):
        return None
    _, _, _, _, entries, length, offset, _ = _END.unpack_from(tail, end)
    if _ELSEWHERE in {length, offset}:  # zip64, which Lambda does not take either
        return None
    at = end - length
    if at < 0:
        return Longer(len(tail) - at)
    total = 0
    for _ in range(entries):
        if at + _ENTRY.size > end:
            return None
        entry = _ENTRY.unpack_from(tail, at)
        if entry[0] != b"PK\1\2":
            return None
        at += _ENTRY.size
        if not _RECORD.fullmatch(tail, at, at + entry[10]):
            total += entry[9]
        at += sum(entry[10:13])
    return total
