"""Turns the file dependencies are written in, whichever it is, into one PEP 751 lock."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from manylambda.locks.model import SourceKind
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.pylock import Pylock

    from manylambda.locks.model import ResolveOptions, SdistMetadata, Source
    from manylambda.progress import Progress
    from manylambda.target import Target


def read(
    source: Source,
    targets: Sequence[Target],
    options: ResolveOptions,
    progress: Progress = SILENT,
    *,
    sdist_metadata: SdistMetadata | None = None,
) -> Pylock:
    """Return what `source` asks for as a lock that holds for all `targets`.

    A lock is honoured exactly: versions and hashes. What is not locked is resolved. Relative paths in the result start
    at `discovery.base_folder(source)`. Raises RequestError, ResolutionError (LockOutdated among them) and FetchError;
    where sdists are allowed, and `sdist_metadata` reads them, PackagingError.
    """
    if not options.environment:
        options = replace(options, environment=dict(os.environ))
    # Each reader is imported when it is needed: a build reads one format, and start-up time is a promise.
    match source.kind:
        case SourceKind.PYLOCK:
            from manylambda.locks import pylock

            return pylock.read(source, targets, options)
        case SourceKind.UV:
            from manylambda.locks import uv

            return uv.read(source, targets, options)
        case SourceKind.POETRY:
            from manylambda.locks import poetry

            return poetry.read(source, targets, options, progress)
        case SourceKind.PDM:
            from manylambda.locks import pdm

            return pdm.read(source, targets, options, progress)
        case SourceKind.REQUIREMENTS | SourceKind.PYPROJECT:
            from manylambda.locks.resolve import resolve

            return resolve(source, targets, options, progress, sdist_metadata=sdist_metadata)
        case SourceKind.NONE:
            from packaging.pylock import Pylock
            from packaging.version import Version

            return Pylock(lock_version=Version("1.0"), created_by="manylambda", packages=[])


def index_addresses(source: Source, options: ResolveOptions) -> tuple[tuple[str | None, str], ...]:
    """Return the name and the address, with credentials, of each index `source` may draw on.

    They are for `fetch.Credentials.from_settings`: files are downloaded with the logins they were found with, those
    that Poetry or pdm keep included.
    """
    match source.kind:
        case SourceKind.POETRY:
            from manylambda.locks import poetry
            from manylambda.locks.pyproject import Pyproject

            return poetry.indexes(Pyproject.load(source.project), options.environment).addresses
        case SourceKind.PDM:
            from manylambda.locks import pdm
            from manylambda.locks.pyproject import Pyproject

            return pdm.indexes(Pyproject.load(source.project), options.environment).addresses
        case SourceKind.NONE:
            return ()
        case _:
            from manylambda.locks.request import index_settings

            return index_settings(source, options).index_urls
