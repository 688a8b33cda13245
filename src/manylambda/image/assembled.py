"""An image that was put together: its manifest, and where the bytes of its parts are.

What makes one and what takes one (an OCI layout, a `docker load` tar, a registry) meet here. A layer of the base need
not be on this host: a registry that has it is asked to mount or to copy it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.image.reference import Reference


class Part(NamedTuple):
    """A blob: a configuration or an image layer."""

    media_type: str
    digest: str
    """`sha256:` and 64 hexadecimal digits, of the bytes as they are stored."""
    size: int
    """Bytes as they are stored."""
    path: Path | None = None
    """The file with its bytes on this host; None where only `source` has them."""
    source: Reference | None = None
    """An image of a registry that has it: that of the base."""
    diff_id: str | None = None
    """Of a layer: the digest of its uncompressed tar."""


class Assembled(NamedTuple):
    """One image for one architecture; its manifest is plain, never an index."""

    manifest: bytes
    media_type: str
    """Of the manifest: OCI's, or Docker's version 2, schema 2."""
    config: Part
    layers: tuple[Part, ...]
    """The base's first."""

    @property
    def digest(self) -> str:
        """By which a registry knows the image."""
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"

    @property
    def size(self) -> int:
        """Bytes of all blobs, as they are stored."""
        return self.config.size + sum(layer.size for layer in self.layers)
