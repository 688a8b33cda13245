"""The bytes of image layers: uncompressed and verified while they are read, never whole in memory."""

from __future__ import annotations

import hashlib
import zlib
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

from manylambda.errors import RequestError, UnsafeArchive
from manylambda.image.store import GZIP, MAX_UNPACKED, compression
from manylambda.image.tar import shown

if TYPE_CHECKING:
    from types import TracebackType

    from manylambda.image.store import Store

_CHUNK: Final = 1 << 18


class Layer(NamedTuple):
    """One image layer of a saved image."""

    path: str
    """In the store."""
    digest: str | None
    """Of the bytes as they lie there, `sha256:...`; None where the format does not tell."""
    diff_id: str | None
    """Of the uncompressed tar."""
    media_type: str | None
    """None in the format of `docker save`."""


class Budget:
    """How many bytes may still be unpacked, over all layers."""

    def __init__(self, limit: int = MAX_UNPACKED) -> None:
        self._limit = limit
        self.used = 0

    def spend(self, size: int, name: str) -> None:
        """Count `size` bytes; raises `UnsafeArchive` when there are too many."""
        self.used += size
        if self.used > self._limit:
            raise UnsafeArchive(
                f"`{name}` unpacks to more than {self._limit / (1 << 30):,.1f} GiB: Lambda takes images of 10 GiB",
                hint="make the image smaller; if it should be, do not use this file",
            )


class LayerStream:
    """The uncompressed tar of a layer as a `Stream`; leaving it without an error reads the rest and verifies."""

    def __init__(self, store: Store, layer: Layer, budget: Budget) -> None:
        found = store.open(layer.path)
        if found is None:
            raise UnsafeArchive(
                f"`{store.name}` lacks a layer: `{layer.digest or shown(layer.path)}`", hint="save the whole image"
            )
        self.name = f"{store.name}: layer {(layer.digest or layer.diff_id or shown(layer.path))[:19]}"
        self.position = 0
        self._source: IO[bytes] = found[0]
        self._left = found[1]
        self._budget = budget
        self._wanted = layer.digest or layer.diff_id
        self._hash = hashlib.new(self._wanted.partition(":")[0]) if self._wanted else None
        self._hashes_packed = layer.digest is not None
        self._inflater: zlib._Decompress | None = None
        self._packed = b""
        self._buffer = memoryview(b"")
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: object, _trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._verify()
        finally:
            self._source.close()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        data = bytes(self.read_some(size))
        while len(data) < size and (more := self.read_some(size - len(data))):
            data += more
        return data

    def read_some(self, limit: int) -> memoryview:
        """Return at least one byte and at most `limit`; none at the end. Valid until the next call."""
        if not self._buffer:
            self._buffer = memoryview(self._uncompressed())
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """Go on by `size` bytes, or to the end."""
        while size > 0 and (data := self.read_some(size)):
            size -= len(data)

    def _begin(self) -> None:
        head = self._raw()
        how = compression(head)
        if how == "gzip":
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif how is not None:
            self._source.close()
            raise RequestError(
                f"`{self.name}` is compressed by {how}, and nothing shows that Lambda takes such layers",
                hint="write them by gzip: `skopeo copy --dest-compress-format gzip --dest-force-compress-format ...`, "
                "`docker buildx build --output type=oci,compression=gzip,force-compression=true ...`",
            )
        self._packed = head

    def _uncompressed(self) -> bytes:
        data = self._inflated() if self._inflater is not None else self._stored()
        if not self._hashes_packed and self._hash is not None:
            self._hash.update(data)
        self._budget.spend(len(data), self.name)
        return data

    def _stored(self) -> bytes:
        data, self._packed = self._packed or self._raw(), b""
        return data

    def _inflated(self) -> bytes:
        while True:
            assert self._inflater is not None
            if self._inflater.eof:
                # Some tools write a layer as many gzip members (pigz, eStargz); zeros at the end are padding.
                rest = self._inflater.unused_data.lstrip(b"\0")
                while not rest:
                    if not (raw := self._raw()):
                        return b""
                    rest = raw.lstrip(b"\0")
                if not rest.startswith(GZIP[: len(rest)]):
                    raise self._damaged("other data follows the compressed data")
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self._packed = rest
            packed = self._packed or self._raw()
            if not packed:
                raise self._damaged("the compressed data ends early")
            try:
                data = self._inflater.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
            self._packed = self._inflater.unconsumed_tail
            if data:
                return data

    def _raw(self) -> bytes:
        data = self._source.read(min(_CHUNK, self._left))
        if self._left and not data:
            raise self._damaged("it ends early")
        self._left -= len(data)
        if self._hashes_packed and self._hash is not None:
            self._hash.update(data)
        return data

    def _verify(self) -> None:
        while self.read_some(_CHUNK):
            pass
        if self._hash is not None and self._wanted is not None:
            found = f"{self._wanted.partition(':')[0]}:{self._hash.hexdigest()}"
            if found != self._wanted:
                raise self._damaged(f"its digest is {found}, the image names {self._wanted}")

    def _damaged(self, fact: str) -> UnsafeArchive:
        return UnsafeArchive(f"`{self.name}` is damaged: {fact}", hint="save or download the image again")
