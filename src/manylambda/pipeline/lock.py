"""`lock`: one `pylock.toml` with hashes for all targets."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from manylambda.errors import RequestError
from manylambda.locks.difference import differences
from manylambda.locks.discovery import base_folder
from manylambda.locks.documents import load
from manylambda.locks.model import SourceKind
from manylambda.locks.origin import describe
from manylambda.locks.pylock import parse
from manylambda.locks.resolve import resolve
from manylambda.locks.write import write_lock
from manylambda.pipeline import dependencies, source_code
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.config import Settings
    from manylambda.locks.difference import Difference
    from manylambda.locks.model import Source
    from manylambda.progress import Progress
    from manylambda.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class LockResult:
    """A lock that was written, or only looked at."""

    path: Path
    targets: tuple[Target, ...]
    packages: int
    """Entries; a distribution with different versions for different targets has several."""
    differences: tuple[Difference, ...] | None = None
    """What would change, of a lock that was only looked at; None of one that was written."""


def lock(settings: Settings, *, upgrade: bool = False, progress: Progress = SILENT) -> LockResult:
    """Resolve the project's dependencies for every target and write them to `settings.lock_output`.

    What is there already gives preferences, unless `upgrade`: versions stay where they can. Raises ResolutionError
    and FetchError.
    """
    path = _place(settings)
    before = None if upgrade or not path.is_file() else parse(load(path).values, name=path.name)
    source, pylock = _made(settings, path, before, progress)
    write_lock(pylock, path, base=base_folder(source))
    return LockResult(path=path, targets=settings.targets, packages=len(pylock.packages))


def check(settings: Settings, *, progress: Progress = SILENT) -> LockResult:
    """Tell what `lock` would change, and write nothing.

    Raises RequestError where there is no lock, or one of another tool, and what `lock` raises.
    """
    path = _place(settings)
    if not path.is_file():
        raise RequestError(f"there is no lock to check: {path}", hint="run `manylambda lock`")
    before = parse(load(path).values, name=path.name)
    if "manylambda" not in (before.tool or {}):
        raise RequestError(
            f"`{path.name}` was made by `{before.created_by}`, which alone knows from what",
            hint="check it with that tool, or make one with `manylambda lock`",
        )
    _, pylock = _made(settings, path, before, progress)
    return LockResult(
        path=path,
        targets=settings.targets,
        packages=len(before.packages),
        differences=differences(before, pylock),
    )


def _place(settings: Settings) -> Path:
    return settings.lock_output or settings.project / SourceKind.PYLOCK.value


def _made(settings: Settings, path: Path, before: Pylock | None, progress: Progress) -> tuple[Source, Pylock]:
    """Make the lock that belongs at `path`, with the versions of the one `before` where they can stay."""
    if settings.lock is not None and settings.lock.resolve() == path.resolve():
        settings = replace(settings, lock=None)  # what is about to be written is not what it is made from
    source = dependencies.find_source(settings, progress, ignored=path)
    if source.kind.is_locked or source.kind is SourceKind.NONE:
        pylock = dependencies.read_lock(source, settings.targets, settings, progress)
    else:
        with dependencies.sdists_described(source, settings, progress):
            pylock = resolve(
                source,
                settings.targets,
                settings.resolve_options(os.environ),
                progress,
                preferences=before,
                sdist_metadata=dependencies.sdist_metadata(source, settings, progress),
            )
    # A lock that cannot be built from is not written.
    chosen = [dependencies.select(pylock, source, target, settings, progress) for target in settings.targets]
    pylock = source_code.with_build_requirements(pylock, chosen, source, settings, progress)
    table = {
        **(pylock.tool or {}).get("manylambda", {}),
        **describe(source, settings.resolve_options(os.environ), path),
    }
    return source, replace(pylock, tool={"manylambda": table})
