"""Where an image is to be written, or lies: `oci:FOLDER`, `docker:FILE.tar`, `registry:REFERENCE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

_TARGET: Final = "{target}"

Form: TypeAlias = Literal["oci", "docker", "registry"]


class ImagePlace(NamedTuple):
    """One place of an image: a layout's folder, a file that `docker load` reads, or a registry."""

    form: Form
    path: Path | None
    """Absolute; None for a registry."""
    reference: str | None
    """As it was given; only of a registry."""

    @property
    def is_per_target(self) -> bool:
        """Whether each target has a place of its own."""
        return _TARGET in str(self)

    def of(self, target: object) -> ImagePlace:
        """Return the place for one target."""
        name = str(target)
        path = None if self.path is None else type(self.path)(str(self.path).replace(_TARGET, name))
        reference = None if self.reference is None else self.reference.replace(_TARGET, name)
        return self._replace(path=path, reference=reference)

    def __str__(self) -> str:
        return f"{self.form}:{self.path or self.reference}"
