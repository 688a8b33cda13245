"""`build --engine container`: what pip installs in an image, as the tree of a package."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from manylambda.audits import open_tree
from manylambda.host import folders
from manylambda.locks.settings import IndexSettings
from manylambda.sdists.engines import container, installation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.fetch.cache import Cache
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.tree import PackageTree
    from manylambda.wheels.wheelhouse import StoredWheel


class Installer:
    """Installs the distributions of each target; the files are there as long as its `room`."""

    def __init__(self, settings: Settings, room: Path, cache: Cache, progress: Progress) -> None:
        self._settings = settings
        self._room = room
        self._cache = cache
        self._progress = progress

    def tree(self, target: Target, stored: Sequence[StoredWheel]) -> PackageTree:
        """Return what pip makes of wheels. Raises `PackagingError`, and FetchError for an image that cannot be had."""
        settings = self._settings.build_settings(IndexSettings())
        image = container.prepare(target, settings, cache=self._cache, progress=self._progress, compiles=False)
        self._progress.info(f"{target}: installing in {image.label}, without network: the wheels are here")
        wheels = [
            installation.Wheel(
                one.inventory.name,
                one.inventory.version,
                one.filename,
                one.sha256,
                self._cache.wheel_path(one.sha256, one.filename),
            )
            for one in stored
        ]
        room = self._room / str(target)
        made = installation.install(image, wheels, room, scripts=self._settings.scripts, progress=self._progress)
        return open_tree(made)


@contextlib.contextmanager
def installing(settings: Settings, cache: Cache, progress: Progress) -> Iterator[Installer]:
    """Give an installer, and remove what it has installed."""
    with folders.folder() as room, container.shared(cache, room) as place:
        yield Installer(settings, place, cache, progress)
