"""`plan --all-targets`: what a project would be on every runtime and architecture, and what keeps it from there.

Each target is resolved for itself: its row tells what `build` for it alone would ship. A lock is taken as it is; where
it does not serve a target, what it was made from is resolved anew, with the versions of the lock where they fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from manylambda.errors import ResolutionError
from manylambda.locks import explain
from manylambda.locks.compatibility import is_compiled
from manylambda.pipeline import dependencies, inspection
from manylambda.pipeline.obstacles import blocking, obstacles_of
from manylambda.progress import SILENT
from manylambda.target import all_targets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from manylambda.config import Settings
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import Selection, Source
    from manylambda.pipeline.obstacles import Obstacle, Outcome
    from manylambda.progress import Progress
    from manylambda.target import Target

_EXIT_UNRESOLVED: Final = ResolutionError.exit_status


class State(Enum):
    """How far a project is for a target."""

    READY = "ready"
    RELOCK = "relock"
    """The lock does not serve it; what the lock is made from does, once it is locked again."""
    BLOCKED = "blocked"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadyDistribution:
    """One distribution that a target would get."""

    name: str
    version: str
    """Empty for a folder of this machine."""
    file: str
    compiled: bool
    size: int | None
    """Bytes of the wheel; None where neither lock nor index tells."""
    unzipped_size: int | None
    """Bytes of its files; None where that is not known (`inspection`)."""
    languages: tuple[str, ...] | None
    """Of its binaries; None where no wheel of the release was read, empty where they do not show."""
    is_fallback: bool
    """Whether it is pure although the same release is compiled for other targets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A distribution of which a target gets another version than the reference."""

    name: str
    version: str | None
    """None where the target does without it."""
    reference: str | None
    """What the reference gets; None where it does without."""
    why: str | None
    """Why the target does not get the version of the reference, as far as its files tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetReadiness:
    """One row: how far the project is for one target."""

    target: Target
    state: State
    distributions: tuple[ReadyDistribution, ...]
    """Sorted by name; empty when it is blocked."""
    obstacles: tuple[Obstacle, ...]
    """What keeps the target from having a package, whatever is done to a lock."""
    lock_obstacles: tuple[Obstacle, ...]
    """What the lock lacks."""
    changes: tuple[Change, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all wheels whose size is known."""
        return sum(one.size or 0 for one in self.distributions)

    @property
    def unzipped_size(self) -> int:
        """Bytes of the files of all wheels of which that is known."""
        return sum(one.unzipped_size or 0 for one in self.distributions)

    @property
    def is_measured(self) -> bool:
        """Whether `unzipped_size` is that of all distributions."""
        return all(one.unzipped_size is not None for one in self.distributions)

    @property
    def is_too_large(self) -> bool:
        """Whether what is known is over the limit for zips already; the project's own files come on top."""
        return max(self.size, self.unzipped_size) > self.target.limits["unzipped_bytes"]

    @property
    def compiled(self) -> int:
        """How many of the distributions are compiled."""
        return sum(one.compiled for one in self.distributions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Readiness:
    """The matrix, in the order of the runtimes table."""

    source: Source
    named: tuple[Target, ...]
    """The targets that `-t` or the settings name; empty when they name none."""
    reference: Target | None
    """What versions are compared with; None when no target is ready."""
    targets: tuple[TargetReadiness, ...]

    @property
    def exit_status(self) -> int:
        """3 when a target that is named is not ready, or, when none is, when all are blocked."""
        states = {one.target: one.state for one in self.targets}
        if self.named:
            failed = any(states[target] is not State.READY for target in self.named)
        else:
            failed = set(states.values()) == {State.BLOCKED}
        return _EXIT_UNRESOLVED if failed else 0


def readiness(settings: Settings, *, inspect: bool = False, progress: Progress = SILENT) -> Readiness:
    """Plan the project for every target that packages can be built for, and for those that `settings` name.

    `inspect` asks for what file names do not tell: unzipped sizes, and the languages of binaries.
    Raises what is wrong for all of them: RequestError and FetchError.
    """
    source = dependencies.find_source(settings, progress)
    targets = tuple(target for target in all_targets() if target.can_build or target in settings.targets)
    chosen = dependencies.outcomes(source, targets, settings, progress)
    anew = _anew(source, chosen, settings, progress) if source.kind.is_locked else {}
    selections = {
        target: one
        for target in targets
        for one in (chosen[target], anew.get(target, ()))
        if not isinstance(one, tuple)
    }
    served = [target for target in selections if not isinstance(chosen[target], tuple)]
    reference = _reference([*settings.targets, *_newest_first(served)], selections)
    names = _differing(selections, reference)
    if source.kind.is_locked:
        names |= blocking(chosen.values())
    files = dependencies.files_of_index(source, settings, names, progress)
    known = inspection.inspect(selections.values(), source, settings, progress, fetch=inspect)
    rows: list[TargetReadiness] = []
    for target in targets:
        found = obstacles_of(chosen[target], target, files if source.kind.is_locked else None)
        resolved = anew.get(target)
        rows.append(
            TargetReadiness(
                target=target,
                state=_state(chosen[target], resolved),
                distributions=_distributions(selections[target], known) if target in selections else (),
                obstacles=obstacles_of(resolved, target, None) if resolved is not None else found,
                lock_obstacles=found if source.kind.is_locked else (),
            )
        )
    if reference is not None:
        base = {one.target: one for one in rows}[reference]
        rows = [replace(row, changes=_changes(row, base, files)) for row in rows]
    return Readiness(source=source, named=settings.targets, reference=reference, targets=tuple(rows))


def _state(chosen: Outcome, anew: Outcome | None) -> State:
    if not isinstance(chosen, tuple):
        return State.READY
    return State.BLOCKED if anew is None or isinstance(anew, tuple) else State.RELOCK


def _anew(
    source: Source,
    chosen: Mapping[Target, Outcome],
    settings: Settings,
    progress: Progress,
) -> Mapping[Target, Outcome]:
    """Resolve what the lock is made from for the targets that the lock does not serve."""
    lacking = [target for target, one in chosen.items() if isinstance(one, tuple)]
    origin = dependencies.made_from(source) if lacking else None
    if origin is None:
        return {}
    served = _reference(settings.targets, {t: one for t, one in chosen.items() if not isinstance(one, tuple)})
    lock = chosen[served] if served is not None else ()
    wanted = {} if isinstance(lock, tuple) else {pin.name: pin.version for pin in lock.pins}
    dependencies.tell_source(origin, progress)
    return dependencies.outcomes(origin, lacking, settings, progress, wanted=wanted)


def _reference(preferred: Sequence[Target], selections: Collection[Target]) -> Target | None:
    """Choose what others are compared with: what the project has now, else the newest that is no preview.

    None where there are none.
    """
    return next((target for target in (*preferred, *_newest_first(selections)) if target in selections), None)


def _newest_first(targets: Iterable[Target]) -> list[Target]:
    def rank(target: Target) -> tuple[bool, tuple[int, int], str]:
        return target.status == "supported", target.python, target.machine

    return sorted(targets, key=rank, reverse=True)


def _distributions(selection: Selection, known: inspection.Inspection) -> tuple[ReadyDistribution, ...]:
    pinned = [
        ReadyDistribution(
            name=pin.name,
            version=pin.version,
            file=pin.wheel.filename,
            compiled=is_compiled(pin.wheel.filename),
            size=pin.wheel.size,
            unzipped_size=known.sizes.get(pin.wheel.filename),
            languages=known.languages_of(pin),
            is_fallback=bool(pin.compiled_for),
        )
        for pin in selection.pins
    ]
    built = [(one.name, one.version or "", one.url or str(one.path)) for one in selection.sdists]
    built += [(one.name, "", f"{one.directory.name}/") for one in selection.local]
    others = [
        ReadyDistribution(
            name=name,
            version=version,
            file=file.rpartition("/")[2] or file,
            compiled=False,
            size=None,
            unzipped_size=None,
            languages=None,
            is_fallback=False,
        )
        for name, version, file in built
    ]
    return tuple(sorted((*pinned, *others), key=lambda one: one.name))


# Changes


def _changes(
    row: TargetReadiness, base: TargetReadiness, files: Mapping[str, Sequence[IndexFile]]
) -> tuple[Change, ...]:
    if row.state is State.BLOCKED:
        return ()
    own, others = ({one.name: one.version for one in each.distributions} for each in (row, base))
    return tuple(
        Change(
            name=name,
            version=own.get(name),
            reference=others.get(name),
            why=_why(others.get(name), row.target, files.get(name, ())) if name in own else None,
        )
        for name in sorted(own.keys() | others.keys())
        if own.get(name) != others.get(name)
    )


def _why(version: str | None, target: Target, files: Sequence[IndexFile]) -> str | None:
    found = explain.blocker("", f"=={version}", target, files) if version else None
    return found.fact if found is not None else None


def _differing(selections: Mapping[Target, Selection], reference: Target | None) -> set[str]:
    """Give the names of which some target gets another version than the reference."""
    if reference is None:
        return set()
    own = {pin.name: pin.version for pin in selections[reference].pins}
    pins = [pin for selection in selections.values() for pin in selection.pins]
    return {pin.name for pin in pins if own.get(pin.name, pin.version) != pin.version}
