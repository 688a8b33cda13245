"""Turns the file dependencies are written in, whichever it is, into one PEP 751 lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda.lock.model import SourceKind
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.pylock import Pylock

    from manylambda.lock.model import ResolveOptions, Source
    from manylambda.progress import Progress
    from manylambda.target import Target


def read(source: Source, targets: Sequence[Target], options: ResolveOptions, progress: Progress = SILENT) -> Pylock:
    """Return what `source` asks for as a lock that holds for all `targets`.

    A lock is honoured exactly: versions and hashes. What is not locked is resolved. Relative paths in the result start
    at `discovery.base_folder(source)`. Raises RequestError, ResolutionError (LockOutdated among them) and FetchError.
    """
    # Each reader is imported when it is needed: a build reads one format, and start-up time is a promise.
    match source.kind:
        case SourceKind.PYLOCK:
            from manylambda.lock import pylock

            return pylock.read(source, targets, options)
        case SourceKind.UV:
            from manylambda.lock import uv

            return uv.read(source, targets, options)
        case SourceKind.POETRY:
            from manylambda.lock import poetry

            return poetry.read(source, targets, options, progress)
        case SourceKind.PDM:
            from manylambda.lock import pdm

            return pdm.read(source, targets, options, progress)
        case SourceKind.REQUIREMENTS | SourceKind.PYPROJECT:
            raise NotImplementedError
        case SourceKind.NONE:
            from packaging.pylock import Pylock
            from packaging.version import Version

            return Pylock(lock_version=Version("1.0"), created_by="manylambda", packages=[])
