"""`build`: a package for each target, proved before it takes its place."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from manylambda.errors import RequestError
from manylambda.fetch.cache import Cache
from manylambda.pipeline import dependencies, source_code
from manylambda.progress import SILENT
from manylambda.sources.project import project_tree
from manylambda.wheels.wheelhouse import CacheDamaged, Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from manylambda.config import Settings
    from manylambda.locks.model import Selection, Source
    from manylambda.pipeline.artifact import Artifact
    from manylambda.pipeline.installer import Installer
    from manylambda.pipeline.package import Packer
    from manylambda.progress import Progress
    from manylambda.tree import PackageTree
    from manylambda.wheels.inventory import Inventory
    from manylambda.wheels.wheelhouse import StoredWheel

_T = TypeVar("_T")

NATIVE_VERSION: Final = 3
"""Goes up whenever the facts `elf` reads of a file change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """What a build made, in the order the targets were given."""

    source: Source
    artifacts: tuple[Artifact, ...]

    def fails(self, threshold: Literal["error", "warning"]) -> bool:
        """Whether any package has a finding at or over `threshold` (`error` or `warning`)."""
        return any(artifact.report.fails(threshold) for artifact in self.artifacts)


def build(settings: Settings, *, progress: Progress = SILENT) -> BuildResult:
    """Make a package for every target of `settings`; what the audit refuses is not written.

    Raises the errors of `manylambda.errors`. A damaged file in the cache is fetched anew, once.
    """
    for target in settings.targets:
        if not target.can_build:
            raise RequestError(
                f"`{target}` is known for auditing only: its runtime is long deprecated",
                hint="`manylambda targets` lists what can be built",
            )
    _check_artifact(settings)
    source = dependencies.find_source(settings, progress)
    work = Ingredients(settings, source, progress)

    def make() -> BuildResult:
        with _installer(settings, progress) as installer:
            packer, wheels = work.gather(lambda: _project_files(settings, progress), installer)
            jobs = [partial(_made, packer, selection, stored) for selection, stored in wheels]
            return BuildResult(source=source, artifacts=tuple(_in_parallel(jobs, settings.jobs)))

    return undamaged(make, progress)


def _check_artifact(settings: Settings) -> None:
    """Raise RequestError where packages cannot be written to the one place that is named."""
    if settings.artifact is None:
        return
    if settings.kind == "image":
        raise RequestError(
            f"`{settings.artifact}` is a place for a package, not for a container image",
            hint=f"`--image-output oci:{settings.artifact}`",
        )
    from manylambda import archive

    places = {settings.artifact_of(target) for target in settings.targets}
    if len(places) < len(settings.targets):
        raise RequestError(
            f"`{settings.artifact}` is a place for one package, and there are {len(settings.targets)} targets",
            hint="put `{target}` where they differ, or build each on its own",
        )
    for place in filter(None, places):
        if settings.kind == "dir" and not archive.may_replace(place):
            raise RequestError(
                f"`{place}` is there, and holds what no build wrote",
                hint="remove it, or name another folder: it would be replaced as a whole",
            )


def _installer(settings: Settings, progress: Progress) -> AbstractContextManager[Installer | None]:
    if settings.engine != "container":
        return contextlib.nullcontext()
    from manylambda.pipeline.installer import installing

    return installing(settings, Cache.default(), progress)


def _made(packer: Packer, selection: Selection, stored: Sequence[StoredWheel]) -> Artifact:
    if packer.settings.kind != "image":
        return packer.make(selection, stored)
    from manylambda.pipeline.image import make_image

    return make_image(packer, selection, stored)


def undamaged(work: Callable[[], _T], progress: Progress) -> _T:
    """Do `work`, and once more where it met a damaged file in the cache, which is then fetched anew."""
    try:
        return work()
    except CacheDamaged as damage:
        progress.warning(f"{damage.message}; fetching anew")
        return work()


class Ingredients:
    """What the packages of one command are made of: the distributions chosen for each target, and their wheels."""

    def __init__(self, settings: Settings, source: Source, progress: Progress) -> None:
        """Choose what `source` gives each target of `settings`; raises the errors of resolving."""
        self._settings = settings
        self._progress = progress
        self._source = source
        self._cache = Cache.default()
        chosen = dependencies.selections(source, settings.targets, settings, self._cache, progress)
        self._selections = [source_code.with_project(selection, settings) for selection in chosen]

    def gather(
        self, files: Callable[[], PackageTree], installer: Installer | None = None
    ) -> tuple[Packer, list[tuple[Selection, Sequence[StoredWheel]]]]:
        """Fetch and build what is not in the cache; return who packs it, and what goes into each package.

        `files` gives the project's own, and is called while the wheels are being hashed; `installer` lays wheels out
        in place of us.
        """
        settings = self._settings
        selections = self._selections
        house = Wheelhouse(
            cache=self._cache,
            fetch=lambda downloads: dependencies.fetch(downloads, self._source, settings, self._cache, self._progress),
            derive={"native": (NATIVE_VERSION, _native_facts)} if settings.audit else None,
        )
        house.hash_ahead(pin for selection in selections for pin in selection.pins)
        # Imported while the wheels are being hashed: on a warm build the one costs about as much as the other.
        from manylambda.pipeline.package import Packer

        fetched = house.get(pin for selection in selections for pin in selection.pins)
        made = source_code.built_wheels(selections, self._source, settings, self._cache, self._progress)
        built = {place: house.kept(wheel.path) for place, wheel in made.items()}
        packer = Packer(
            settings,
            self._source,
            house,
            files(),
            fallbacks={built[place].sha256: wheel.fallback for place, wheel in made.items() if wheel.fallback},
            cache=self._cache,
            progress=self._progress,
            installer=installer,
        )

        def stored(selection: Selection) -> Sequence[StoredWheel]:
            wheels = [
                *(fetched[pin.name, pin.wheel.filename] for pin in selection.pins),
                *(built[source_code.place(package, selection.target)] for package in selection.local),
                *(built[source_code.place(sdist, selection.target)] for sdist in selection.sdists),
            ]
            return sorted(wheels, key=lambda wheel: wheel.inventory.name)

        return packer, [(selection, stored(selection)) for selection in selections]


def _project_files(settings: Settings, progress: Progress) -> PackageTree:
    # A layer holds dependencies: of the project only what is named for it.
    chosen = replace(settings.files, is_package=True) if settings.kind == "layer" else settings.files
    found = project_tree(settings.project, chosen)
    for left in found.left_out:
        tell = progress.warning if left.notable else progress.detail
        tell(f"left out `{left.path}`: {left.reason}")
    for one, other in found.case_collisions:
        progress.warning(f"`{one}` and `{other}` are one file on macOS and Windows")
    return found.tree


def _in_parallel(work: Sequence[Callable[[], Artifact]], jobs: int | None) -> list[Artifact]:
    if len(work) == 1 or jobs == 1:
        return [one() for one in work]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(len(work), jobs or os.cpu_count() or 1)) as pool:
        return [future.result() for future in [pool.submit(one) for one in work]]


def _native_facts(inventory: Inventory) -> dict[str, object]:
    from manylambda.pipeline.package import native_facts

    return native_facts(inventory)
