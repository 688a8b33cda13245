"""`lock`: one `pylock.toml` with hashes for all targets."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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

    from manylambda.config import Settings
    from manylambda.progress import Progress
    from manylambda.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class LockResult:
    """A lock that was written."""

    path: Path
    targets: tuple[Target, ...]
    packages: int
    """Entries; a distribution with different versions for different targets has several."""


def lock(settings: Settings, *, upgrade: bool = False, progress: Progress = SILENT) -> LockResult:
    """Resolve the project's dependencies for every target and write them to `settings.lock_output`.

    What is there already gives preferences, unless `upgrade`: versions stay where they can. Raises ResolutionError
    and FetchError.
    """
    path = settings.lock_output or settings.project / SourceKind.PYLOCK.value
    source = dependencies.find_source(settings, progress, ignored=path)
    if source.kind.is_locked or source.kind is SourceKind.NONE:
        pylock = dependencies.read_lock(source, settings.targets, settings, progress)
    else:
        options = settings.resolve_options(os.environ)
        preferences = None if upgrade or not path.is_file() else parse(load(path).values, name=path.name)
        with dependencies.sdists_described(source, settings, progress):
            pylock = resolve(
                source,
                settings.targets,
                options,
                progress,
                preferences=preferences,
                sdist_metadata=dependencies.sdist_metadata(source, settings, progress),
            )
    # A lock that cannot be built from is not written.
    chosen = [dependencies.select(pylock, source, target, settings, progress) for target in settings.targets]
    pylock = source_code.with_build_requirements(pylock, chosen, source, settings, progress)
    table = {
        **(pylock.tool or {}).get("manylambda", {}),
        **describe(source, settings.resolve_options(os.environ), path),
    }
    pylock = replace(pylock, tool={"manylambda": table})
    write_lock(pylock, path, base=base_folder(source))
    return LockResult(path=path, targets=settings.targets, packages=len(pylock.packages))
