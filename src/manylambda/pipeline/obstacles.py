"""What keeps a target from having a package, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from manylambda.errors import ResolutionError
from manylambda.locks import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manylambda.errors import Blocker, ManylambdaError
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import Selection
    from manylambda.target import Target

Outcome: TypeAlias = "Selection | tuple[ManylambdaError, ...]"
"""What a target gets, or all that it does not get it for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Obstacle:
    """One thing that keeps a target from having a package."""

    sentence: str
    """Half a line, literals in backticks: `pydantic-core 2.20.1 has no wheel for CPython 3.14; 2.46.4 runs there`."""
    blocker: Blocker | None
    """The distribution at fault; None where versions contradict each other, or the project itself says no."""
    hint: str | None


def obstacles_of(
    outcome: Outcome, target: Target, files: Mapping[str, Sequence[IndexFile]] | None
) -> tuple[Obstacle, ...]:
    """Put into words what an outcome ended with; `files` tell of a lock what it does not: which other versions run."""
    if not isinstance(outcome, tuple):
        return ()
    found: dict[str, Obstacle] = {}
    for error in outcome:
        blockers = error.blockers if isinstance(error, ResolutionError) else ()
        told = [_named(blocker, target, files) for blocker in blockers]
        # What holds for a runtime reads alike for both of its architectures, and is told once.
        plain = error.message.replace(f"`{target}`", f"`{target.runtime}`")
        for one in told or [Obstacle(sentence=plain, blocker=None, hint=error.hint)]:
            found.setdefault(one.sentence, one)
    return tuple(found.values())


def _named(blocker: Blocker, target: Target, files: Mapping[str, Sequence[IndexFile]] | None) -> Obstacle:
    if files is not None:
        blocker = blocker._replace(runs=explain.newest_that_runs(files.get(blocker.name, ()), target))
    version = blocker.asked.removeprefix("==")
    if blocker.runs is None and blocker.asked == version and (files is None or files.get(blocker.name)):
        blocker = blocker._replace(asked="")  # which versions are asked for does not matter
        version = ""
    subject = f"`{blocker.name}` {version}" if blocker.asked != version else f"`{blocker.name}{blocker.asked}`"
    words = [f"{subject} {blocker.fact}"]
    if blocker.needed_by:
        verb = "asks" if len(blocker.needed_by) == 1 else "ask"
        words.append(f"{' and '.join(f'`{name}`' for name in blocker.needed_by)} {verb} for it")
    if blocker.runs is not None:
        words.append(f"{blocker.runs} runs there")
    elif files is None or files.get(blocker.name):
        words.append("no release runs there")
    hint = f"`--allow-sdist {blocker.name}` builds it from source" if blocker.has_source else None
    return Obstacle(sentence="; ".join(words), blocker=blocker, hint=hint)


def blocking(outcomes: Iterable[Outcome]) -> set[str]:
    """Give the names of what is at fault."""
    return {
        blocker.name
        for outcome in outcomes
        if isinstance(outcome, tuple)
        for error in outcome
        if isinstance(error, ResolutionError)
        for blocker in error.blockers
    }
