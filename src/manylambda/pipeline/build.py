"""`build`: a package for each target, proved before it takes its place."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from manylambda.errors import RequestError
from manylambda.fetch.cache import Cache
from manylambda.pipeline import dependencies, source_code
from manylambda.progress import SILENT
from manylambda.sources.project import project_tree
from manylambda.wheels.wheelhouse import CacheDamaged, Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manylambda.config import Settings
    from manylambda.locks.model import Selection, Source
    from manylambda.pipeline.package import Artifact
    from manylambda.progress import Progress
    from manylambda.tree import PackageTree
    from manylambda.wheels.inventory import Inventory

NATIVE_VERSION: Final = 2
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
    work = _Build(settings, progress)
    try:
        return work.run()
    except CacheDamaged as damage:
        progress.warning(f"{damage.message}; fetching anew")
        return work.run()


class _Build:
    """One build: what its targets share, and the work for each."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._cache = Cache.default()
        self._source = dependencies.find_source(settings, progress)
        chosen = dependencies.selections(self._source, settings.targets, settings, self._cache, progress)
        self._selections = [source_code.with_project(selection, settings) for selection in chosen]

    def run(self) -> BuildResult:
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
        built = {
            place: house.kept(wheel)
            for place, wheel in source_code.built_wheels(
                selections, self._source, settings, self._cache, self._progress
            ).items()
        }
        packer = Packer(
            settings, self._source, house, self._project_files(), cache=self._cache, progress=self._progress
        )

        def work(selection: Selection) -> Callable[[], Artifact]:
            stored = [
                *(fetched[pin.name, pin.wheel.filename] for pin in selection.pins),
                *(built[source_code.place(package)] for package in selection.local),
                *(built[source_code.place(sdist)] for sdist in selection.sdists),
            ]
            stored.sort(key=lambda wheel: wheel.inventory.name)
            return lambda: packer.make(selection, stored)

        return BuildResult(
            source=self._source, artifacts=tuple(_in_parallel([work(one) for one in selections], settings.jobs))
        )

    def _project_files(self) -> PackageTree:
        settings = self._settings
        # A layer holds dependencies: of the project only what is named for it.
        chosen = replace(settings.files, is_package=True) if settings.kind == "layer" else settings.files
        found = project_tree(settings.project, chosen)
        for left in found.left_out:
            tell = self._progress.warning if left.notable else self._progress.detail
            tell(f"left out `{left.path}`: {left.reason}")
        for one, other in found.case_collisions:
            self._progress.warning(f"`{one}` and `{other}` are one file on macOS and Windows")
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
