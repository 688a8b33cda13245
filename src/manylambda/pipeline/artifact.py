"""What a build made: packages and images, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.archive import Written
    from manylambda.audits import Report
    from manylambda.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLayer:
    """One layer of an image that was made."""

    digest: str
    diff_id: str
    size: int
    """Bytes, compressed."""
    content: str
    """What it holds: `base`, `dependencies`, `code`, or the name of a distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenImage:
    """An image that was written, and what it is made of."""

    path: Path | None
    """The layout's folder or the file; None for a registry."""
    place: str
    """`oci:FOLDER`, `docker:FILE`, or `registry:` and the reference with its digest."""
    digest: str
    """Of the manifest: what a registry knows the image by."""
    media_type: str
    size: int
    """Bytes of the layers and the configuration, compressed."""
    unzipped_size: int
    """Bytes of the files below `/var/task`."""
    files: int
    base: str
    """With its digest, where it has one."""
    base_digest: str | None
    layers: tuple[ImageLayer, ...]
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    uploaded: int | None
    """Bytes sent to a registry; None where it was written to this machine."""

    @property
    def sha256(self) -> str:
        """Of the manifest, in hexadecimal digits."""
        return self.digest.partition(":")[2]

    @property
    def code_sha256(self) -> None:
        """Lambda's `CodeSha256` of an image is the digest of what is in its registry; it is not told here."""
        return


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedDistribution:
    """One distribution of a package; sizes in bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    unzipped_size: int
    compiled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A package for one target."""

    target: Target
    kind: Literal["zip", "layer", "dir", "image"]
    path: Path | None
    """None for an image that went to a registry."""
    written: Written | WrittenImage | None
    """None when the audit refused the package: then nothing was written."""
    distributions: tuple[ShippedDistribution, ...]
    report: Report
