"""One gzip member, written piece by piece, with the same bytes on every host.

The pinned compressor works on whole buffers and ends each with a final block. A layer is larger than memory should hold
and must be one member: Rust's `GzDecoder` reads no further, and what Lambda reads with is not known. So pieces of fixed
size are compressed each for itself, the mark of their last block is taken away, and they are joined at byte boundaries,
as `pigz` joins what it compresses in parallel. Every joint is proved by reading the piece back.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

_LEVEL: Final = 6
PIECE: Final = 1 << 20
"""Bytes. More of them save half a percent and cost memory."""
RECIPE: Final = f"deflate 0.9.0 {_LEVEL} {PIECE} 1"
"""What decides the bytes; the last number goes up with this module's part in it."""

# No name, no time, no hint of the level, and 255 for a system that is not known.
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_END: Final = b"\x03\0"
"""A last block with nothing in it."""
_EMPTY: Final = b"\0\0\xff\xff"
"""The lengths of a stored block with nothing in it, which stand at a byte boundary."""
_MORE: Final = bytes(310_000)
"""Behind a piece they make of its last block one of many: libdeflate begins a new one after at most 305,000 bytes."""
_SMALLEST: Final = 1 << 16
_STORED: Final = 65_535
"""Bytes that one stored block holds."""
_MOST_THREADS: Final = 8


class GzipWriter:
    """Writes what it is given to `sink` as one gzip member; leaving it without an error ends the member.

    Pieces are compressed on all processors, and written in their order.
    """

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._waiting = bytearray()
        self._threads = min(os.cpu_count() or 1, _MOST_THREADS)
        self._pool = ThreadPoolExecutor(self._threads)
        self._pieces: deque[Future[bytes | bytearray]] = deque()
        self._crc32 = 0
        self._unpacked = hashlib.sha256()
        self._packed = hashlib.sha256()
        self.unpacked_size = 0
        self.size = 0
        self._write(_HEADER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None:
                if self._waiting:
                    self._compress(bytes(self._waiting))
                self._take(0)
                self._write(_END + struct.pack("<2I", self._crc32, self.unpacked_size & 0xFFFFFFFF))
        finally:
            self._pool.shutdown(cancel_futures=True)

    @property
    def sha256(self) -> str:
        """Of the compressed bytes."""
        return self._packed.hexdigest()

    @property
    def unpacked_sha256(self) -> str:
        """Of what was given."""
        return self._unpacked.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes; how they are cut into calls does not matter."""
        self._crc32 = zlib.crc32(data, self._crc32)
        self._unpacked.update(data)
        self.unpacked_size += len(data)
        self._waiting += data
        while len(self._waiting) >= PIECE:
            self._compress(bytes(self._waiting[:PIECE]))
            del self._waiting[:PIECE]

    def _compress(self, data: bytes) -> None:
        self._pieces.append(self._pool.submit(piece, data))
        self._take(self._threads)

    def _take(self, most: int) -> None:
        """Write the first pieces, until at most so many are left."""
        while len(self._pieces) > most:
            self._write(self._pieces.popleft().result())

    def _write(self, data: bytes | bytearray) -> None:
        self._packed.update(data)
        self.size += len(data)
        self._sink.write(data)


def piece(data: bytes) -> bytes | bytearray:
    """Compress to blocks none of which is the last, ending at a byte boundary."""
    from deflate import deflate_compress

    whole: bytearray = deflate_compress(data, _LEVEL)
    # Both compress `data` alike until the last block of the first, whose mark is the first bit that differs.
    place = _first_difference(whole, deflate_compress(data + _MORE, _LEVEL))
    if place is not None:
        byte, bit = place
        if whole[byte] & bit:
            whole[byte] ^= bit
            joint = _joint(whole, data)
            if joint is not None:
                return whole + joint
    if len(data) > _SMALLEST:
        half = len(data) // 2
        return piece(data[:half]) + piece(data[half:])
    return _stored(data)


def _first_difference(one: bytearray, other: bytearray) -> tuple[int, int] | None:
    """Return the byte and the bit in it; None where one begins with the other."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    differing = one[low] ^ other[low]
    return low, differing & -differing


def _joint(open_ended: bytearray, data: bytes) -> bytes | None:
    """Return what ends blocks that make `data` at a byte boundary; None where they make something else."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        if inflater.decompress(open_ended, len(data) + 1) != data or inflater.unconsumed_tail:
            return None
    except zlib.error:
        return None
    # The three bits that begin the empty block stand in the last byte, or need another one. Only one of both can be
    # read to the end.
    for joint in (_EMPTY, b"\0" + _EMPTY):
        reader = inflater.copy()
        try:
            if not reader.decompress(joint + _END) and reader.eof and not reader.unused_data:
                return joint
        except zlib.error:
            pass
    return None


def _stored(data: bytes) -> bytes:
    parts = []
    for start in range(0, len(data), _STORED):
        part = data[start : start + _STORED]
        parts.append(struct.pack("<B2H", 0, len(part), len(part) ^ 0xFFFF) + part)
    return b"".join(parts)
