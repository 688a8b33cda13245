"""What a user names to be looked at: a path, or an image in a registry, which is brought here first."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from manylambda.fetch.cache import Cache
from manylambda.image.reference import Reference, names_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.progress import Progress
    from manylambda.target import Target


@contextlib.contextmanager
def package_at(named: str, target: Target, *, offline: bool, progress: Progress) -> Iterator[Path]:
    """Give the path of a package, for as long as it lasts.

    What is there is a path; what is not is an image of a registry where it is written in full (`HOST/NAME:TAG`), and
    lies as a layout then. Raises the errors of pulling, and RequestError where it has none for the target.
    """
    if Path(named).exists() or not _is_reference(named):
        yield Path(named)
        return
    from manylambda.image.pull import pull

    reference = Reference.parse(named)
    image = pull(reference, target.architecture.oci, cache=Cache.default(), offline=offline, progress=progress)
    with tempfile.TemporaryDirectory(prefix="manylambda-image-") as room:
        folder = Path(room, reference.repository.rpartition("/")[2])  # what messages call it
        folder.mkdir()
        image.lay_out(folder)
        yield folder


def _is_reference(named: str) -> bool:
    """Whether a text can only be a reference: with a host, and a tag or digest, which the name of a file lacks."""
    last = named.replace("\\", "/").rpartition("/")[2]
    return names_registry(named) and (":" in last or "@" in last)
