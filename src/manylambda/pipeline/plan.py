"""`plan`: what would be shipped for each target, and why this file and no other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from manylambda.errors import FetchError, ResolutionError
from manylambda.locks.compatibility import is_compiled
from manylambda.locks.explain import better_wheel, pure_fallback, refusals
from manylambda.locks.index import IndexClient
from manylambda.pipeline import dependencies
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manylambda.config import Settings
    from manylambda.locks.compatibility import Refusal
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import Pin, Selection, Source
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPlan:
    """What would be shipped for one target, or why nothing can be."""

    target: Target
    distributions: tuple[PlannedDistribution, ...]
    error: ResolutionError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plans:
    """The plan of every target, in the order they were given."""

    source: Source
    targets: tuple[TargetPlan, ...]

    @property
    def exit_status(self) -> int:
        """0, or that of the first target that cannot be resolved."""
        return next((plan.error.exit_status for plan in self.targets if plan.error is not None), 0)


def plan(settings: Settings, *, progress: Progress = SILENT) -> Plans:
    """Plan what `build` would ship; a target that cannot be resolved does not hide the others."""
    source = dependencies.find_source(settings, progress)
    selections = _selections(source, settings, progress)
    files = _files_of_index(source, settings, selections, progress)
    obstacle = _obstacle(source, settings)
    plans = [
        TargetPlan(target=target, distributions=(), error=selection)
        if isinstance(selection, ResolutionError)
        else _target_plan(selection, files, settings, obstacle)
        for target, selection in zip(settings.targets, selections, strict=True)
    ]
    return Plans(source=source, targets=tuple(plans))


def _selections(source: Source, settings: Settings, progress: Progress) -> Sequence[Selection | ResolutionError]:
    """Choose for all targets together, since that keeps their versions alike; failing that, for each by itself."""

    def choose(targets: Sequence[Target]) -> list[Selection]:
        pylock = dependencies.read_lock(source, targets, settings, progress)
        return [dependencies.select(pylock, source, target, settings) for target in targets]

    try:
        return choose(settings.targets)
    except ResolutionError as error:
        if len(settings.targets) == 1:
            return [error]
    chosen: list[Selection | ResolutionError] = []
    for target in settings.targets:
        try:
            chosen += choose([target])
        except ResolutionError as error:
            chosen.append(error)
    return chosen


def _obstacle(source: Source, settings: Settings) -> str:
    """Say what may keep a wheel that fits better from being taken."""
    if source.kind.is_locked:
        return "is not in the lock"
    if len(dependencies.index_settings(source, settings).indexes) > 1:
        return "is on another index, which uv does not combine for one version"
    return "is not among what the requirements allow"


def _target_plan(
    selection: Selection, files: Mapping[str, Sequence[IndexFile]], settings: Settings, obstacle: str
) -> TargetPlan:
    pinned = [_planned(pin, selection.target, files.get(pin.name, ()), settings, obstacle) for pin in selection.pins]
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


def _files_of_index(
    source: Source, settings: Settings, selections: Iterable[Selection | ResolutionError], progress: Progress
) -> Mapping[str, Sequence[IndexFile]]:
    """Ask the indexes for all files of what is pinned: only they know what was passed by."""
    names = sorted({pin.name for one in selections if not isinstance(one, ResolutionError) for pin in one.pins})
    if settings.offline or not names:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    task = progress.task("explain", "index pages", len(names), unit="items")
    with IndexClient(dependencies.index_settings(source, settings), environment=os.environ) as client:

        def files(name: str) -> Sequence[IndexFile]:
            try:
                return client.files(name)
            except FetchError as error:
                progress.warning(f"no refusals told for `{name}`: {error.message}")
                return ()
            finally:
                task.advance(1)

        with ThreadPoolExecutor(max_workers=8) as pool:
            found = dict(zip(names, pool.map(files, names), strict=True))
    task.finish()
    return found
