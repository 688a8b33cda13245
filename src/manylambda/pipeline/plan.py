"""`plan`: what would be shipped for each target, and why this file and no other."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from manylambda.errors import NoCompatibleWheel
from manylambda.locks.compatibility import is_compiled
from manylambda.locks.explain import better_wheel, pure_fallback, refusals
from manylambda.pipeline import dependencies, inspection
from manylambda.pipeline.obstacles import obstacles_of
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manylambda.config import Settings
    from manylambda.errors import ManylambdaError
    from manylambda.locks.compatibility import Refusal
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import Pin, Selection, Source
    from manylambda.pipeline.obstacles import Obstacle
    from manylambda.progress import Progress
    from manylambda.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDistribution:
    """One distribution that would be shipped."""

    name: str
    version: str
    file: str
    compiled: bool
    size: int | None
    """Bytes of the wheel, where the lock or the index tells."""
    reason: str
    """Why this file."""
    refused: tuple[Refusal, ...]
    """Nearer files, and why they were not taken."""
    unzipped_size: int | None = None
    """Bytes of the wheel's files; None where that is not known (`inspection`)."""
    languages: tuple[str, ...] | None = None
    """Of its binaries; None where no wheel of the release was read, empty where they do not show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPlan:
    """What would be shipped for one target, or why nothing can be."""

    target: Target
    distributions: tuple[PlannedDistribution, ...]
    error: ManylambdaError | None = None
    """The first thing that stands in the way."""
    obstacles: tuple[Obstacle, ...] = ()
    """All that does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plans:
    """The plan of every target, in the order they were given."""

    source: Source
    targets: tuple[TargetPlan, ...]

    @property
    def exit_status(self) -> int:
        """0, or that of the first target that cannot be resolved."""
        return next((plan.error.exit_status for plan in self.targets if plan.error is not None), 0)


def plan(settings: Settings, *, inspect: bool = False, progress: Progress = SILENT) -> Plans:
    """Plan what `build` would ship; a target that cannot be resolved does not hide the others.

    `inspect` asks for what file names do not tell: unzipped sizes, and the languages of binaries.
    """
    source = dependencies.find_source(settings, progress)
    chosen = dependencies.outcomes(source, settings.targets, settings, progress, alike=True)
    selections = [one for one in chosen.values() if not isinstance(one, tuple)]
    names = {pin.name for one in selections for pin in one.pins}
    files = dependencies.files_of_index(source, settings, names, progress)
    known = inspection.inspect(selections, source, settings, progress, fetch=inspect)
    obstacle = _obstacle(source, settings)

    def planned(target: Target) -> TargetPlan:
        outcome = chosen[target]
        if not isinstance(outcome, tuple):
            return _target_plan(outcome, files, settings, obstacle, known)
        error = outcome[0]
        if isinstance(error, NoCompatibleWheel):
            error = dependencies.described(error, source, settings, progress)
        # A lock does not tell which other versions run, and here no index was asked for them.
        told = obstacles_of(outcome, target, {} if source.kind.is_locked else None)
        return TargetPlan(target=target, distributions=(), error=error, obstacles=told)

    return Plans(source=source, targets=tuple(map(planned, settings.targets)))


def _obstacle(source: Source, settings: Settings) -> str:
    """Say what may keep a wheel that fits better from being taken."""
    if source.kind.is_locked:
        return "is not in the lock"
    if len(dependencies.index_settings(source, settings).indexes) > 1:
        return "is on another index, which uv does not combine for one version"
    return "is not among what the requirements allow"


def _target_plan(
    selection: Selection,
    files: Mapping[str, Sequence[IndexFile]],
    settings: Settings,
    obstacle: str,
    known: inspection.Inspection,
) -> TargetPlan:
    pinned = [
        replace(
            _planned(pin, selection.target, files.get(pin.name, ()), settings, obstacle),
            unzipped_size=known.sizes.get(pin.wheel.filename),
            languages=known.languages_of(pin),
        )
        for pin in selection.pins
    ]
    local = [
        _unlisted(
            package.name,
            f"{os.path.relpath(package.directory, settings.project).replace(os.sep, '/')}/",
            "a folder of this machine, built into a wheel",
        )
        for package in selection.local
    ]
    sources = [
        _unlisted(one.name, (one.url or str(one.path)).rpartition("/")[2], "a source distribution that was allowed")
        for one in selection.sdists
    ]
    found = tuple(sorted((*pinned, *local, *sources), key=lambda one: one.name))
    return TargetPlan(target=selection.target, distributions=found)


def _unlisted(name: str, file: str, reason: str) -> PlannedDistribution:
    return PlannedDistribution(name=name, version="", file=file, compiled=False, size=None, reason=reason, refused=())


def _planned(
    pin: Pin, target: Target, files: Sequence[IndexFile], settings: Settings, obstacle: str
) -> PlannedDistribution:
    own = [file for file in files if file.is_wheel and file.version == pin.version]
    listed = next((file for file in own if file.filename == pin.wheel.filename), None)
    tag = pin.wheel.filename.removesuffix(".whl").split("-", 2)[2]
    better = better_wheel(pin.wheel.filename, files, target, allow_linux=settings.allow_linux_wheels)
    if better is not None:
        reason = f"`{tag}` fits; a better wheel, `{better}`, {obstacle}"
    elif pure_fallback(pin.wheel.filename, files):
        reason = f"the only wheel that fits; the compiled ones of {pin.version} are for other targets (pure-fallback)"
    elif len(own) > 1:
        reason = f"`{tag}` is the best of {len(own)} wheels of this release"
    else:
        reason = f"`{tag}` fits"
    return PlannedDistribution(
        name=pin.name,
        version=pin.version,
        file=pin.wheel.filename,
        compiled=is_compiled(pin.wheel.filename),
        size=pin.wheel.size if pin.wheel.size is not None or listed is None else listed.size,
        reason=reason,
        refused=refusals(files, target, pin.wheel.filename, allow_linux=settings.allow_linux_wheels) if files else (),
    )
