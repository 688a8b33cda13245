"""From a project's settings to what goes into the package of each target: the part all commands share."""

from __future__ import annotations

import contextlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from manylambda.errors import FetchError, ManylambdaError, NoCompatibleWheel, ResolutionError
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.documents import is_piped
from manylambda.locks.model import SourceKind
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.config import Settings
    from manylambda.fetch.cache import Cache
    from manylambda.fetch.client import HttpSettings
    from manylambda.fetch.credentials import Credentials
    from manylambda.fetch.download import Download
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import ResolveOptions, SdistMetadata, Selection, Source
    from manylambda.locks.settings import IndexSettings
    from manylambda.progress import Progress
    from manylambda.sdists import Builder
    from manylambda.target import Target

_MOST_LOOKED_AT: Final = 64 << 20
"""Bytes of a source distribution that is fetched only to say what it is."""


def find_source(settings: Settings, progress: Progress, *, ignored: Path | None = None) -> Source:
    """Find the file dependencies are taken from, and say which it is and what was passed over."""
    source = discover(settings.project, requirements=settings.requirements, lock=settings.lock, ignored=ignored)
    tell_source(source, progress)
    return source


def tell_source(source: Source, progress: Progress) -> None:
    """Say which file dependencies are taken from."""
    if source.kind is SourceKind.NONE:
        progress.info(f"no dependencies: `{source.project.name}` has no lock, requirements.txt or pyproject.toml")
        return
    names = ", ".join(f"`{_shown(file, source.project)}`" for file in source.files)
    passed = ", ".join(f"`{_shown(file, source.project)}`" for file in source.passed_over)
    how = "locked" if source.kind.is_locked else "resolved for each target"
    progress.info(f"dependencies from {names} ({how}{f'; passed over: {passed}' if passed else ''})")


def read_lock(source: Source, targets: Sequence[Target], settings: Settings, progress: Progress) -> Pylock:
    """Read or resolve the lock of `source` for `targets`."""
    from manylambda.locks.readers import read

    options = settings.resolve_options(os.environ)
    with sdists_described(source, settings, progress):
        return read(source, targets, options, progress, sdist_metadata=sdist_metadata(source, settings, progress))


def sdist_metadata(source: Source, settings: Settings, progress: Progress) -> SdistMetadata | None:
    """Give what reads the sdists that the settings allow, as far as `source` has to be resolved."""
    if source.kind.is_locked or not settings.allow_sdist:
        return None
    from manylambda.fetch.cache import Cache
    from manylambda.pipeline.sdist_metadata import SdistReader

    cache = Cache.default()
    return SdistReader(
        # Hashed again where it was fetched before: what is built runs.
        fetch=lambda downloads: fetch(downloads, source, settings, cache, progress, verify=True),
        builder=lambda: builder(source, settings, cache, progress),
        progress=progress,
    )


def builder(source: Source, settings: Settings, cache: Cache, progress: Progress) -> Builder:
    """Give what builds source code, with build requirements from the indexes the project uses."""
    from manylambda.sdists import Builder

    return Builder(
        settings=settings.build_settings(index_settings(source, settings)),
        environment=os.environ,
        cache=cache,
        progress=progress,
    )


def select(
    pylock: Pylock, source: Source, target: Target, settings: Settings, progress: Progress = SILENT
) -> Selection:
    """Choose the files for one target."""
    from manylambda.locks import select as selecting

    with sdists_described(source, settings, progress):
        return selecting.select(pylock, target, settings.resolve_options(os.environ), base_folder(source))


def outcomes(
    source: Source,
    targets: Sequence[Target],
    settings: Settings,
    progress: Progress,
    *,
    alike: bool = False,
    wanted: Mapping[str, str] = MappingProxyType({}),
) -> dict[Target, Selection | tuple[ManylambdaError, ...]]:
    """Choose the files for each target, or tell all that keeps it from having a package.

    What is not locked is resolved: with versions `alike` between the targets, or for each by itself, keeping those that
    are `wanted`. Raises what is wrong for all targets: RequestError and FetchError.
    """
    from manylambda.locks.select import select_or_tell

    options = settings.resolve_options(os.environ)
    locks: dict[Target, Pylock | tuple[ManylambdaError, ...]]
    if source.kind in {SourceKind.REQUIREMENTS, SourceKind.PYPROJECT}:
        from manylambda.locks.resolve import resolve_each

        read = sdist_metadata(source, settings, progress)
        locks = resolve_each(source, targets, options, progress, alike=alike, wanted=wanted, sdist_metadata=read)
    else:
        locks = _read_each(source, targets, options, progress)
    base = base_folder(source)
    return {
        target: lock if isinstance(lock, tuple) else select_or_tell(lock, target, options, base)
        for target, lock in locks.items()
    }


def _read_each(
    source: Source, targets: Sequence[Target], options: ResolveOptions, progress: Progress
) -> dict[Target, Pylock | tuple[ManylambdaError, ...]]:
    """Read a lock for all targets at once; where it is not for all of them, for each by itself."""
    from manylambda.locks.readers import read

    try:
        return dict.fromkeys(targets, read(source, targets, options, progress))
    except ResolutionError as error:
        if len(targets) == 1:
            return {targets[0]: (error,)}
    found: dict[Target, Pylock | tuple[ManylambdaError, ...]] = {}
    for target in targets:
        found |= _read_each(source, [target], options, progress)
    return found


@contextlib.contextmanager
def sdists_described(source: Source, settings: Settings, progress: Progress) -> Iterator[None]:
    """Let an error about a missing wheel say what the source distribution looks like that could be built instead."""
    try:
        yield
    except NoCompatibleWheel as error:
        raise described(error, source, settings, progress) from error.__cause__


def described(error: NoCompatibleWheel, source: Source, settings: Settings, progress: Progress) -> NoCompatibleWheel:
    """Add what the files of the source distribution say, which is fetched for that."""
    found = error.source
    flag = f"`--allow-sdist {found.name}`" if found is not None else ""
    if found is None or error.hint is None or flag not in error.hint or (found.size or 0) > _MOST_LOOKED_AT:
        return error
    from manylambda.fetch.cache import Cache
    from manylambda.fetch.download import Download
    from manylambda.sdists import examine_archive

    wanted = Download(url=found.url, filename=found.filename, sha256=found.sha256, size=found.size)
    try:
        path = fetch([wanted], source, settings, Cache.default(), progress)[wanted]
        nature = examine_archive(path)
    except (ManylambdaError, OSError):
        return error
    before, _, after = error.hint.partition(flag)
    hint = f"{before}its source {nature.sentence}; {flag}{after}"
    return NoCompatibleWheel(error.message, hint=hint, source=found, blockers=error.blockers)


def selections(
    source: Source, targets: Sequence[Target], settings: Settings, cache: Cache, progress: Progress
) -> list[Selection]:
    """Choose the files for every target, without reading a lock again that was read before."""
    from manylambda.locks.memory import Memory

    memory = Memory(source, settings.resolve_options(os.environ), cache)
    known = [memory.recall(target) for target in targets]
    if None not in known:
        return [selection for selection in known if selection is not None]
    pylock = read_lock(source, targets, settings, progress)
    chosen = [select(pylock, source, target, settings, progress) for target in targets]
    for selection in chosen:
        memory.keep(selection, pylock)
    return chosen


def index_settings(source: Source, settings: Settings) -> IndexSettings:
    """Give the indexes the project uses, those that its requirements files name among them."""
    if source.kind is SourceKind.REQUIREMENTS:
        from manylambda.locks.request import index_settings as settings_of

        return settings_of(source, settings.resolve_options(os.environ))
    from manylambda.locks.settings import read_settings

    return read_settings(source.project, os.environ)


def files_of_index(
    source: Source, settings: Settings, names: Collection[str], progress: Progress
) -> Mapping[str, Sequence[IndexFile]]:
    """Ask the indexes, each once, for all files of `names`: only they know what was passed by. Offline, of none."""
    if settings.offline or not names:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    from manylambda.locks.index import IndexClient

    ordered = sorted(names)
    task = progress.task("explain", "index pages", len(ordered), unit="items")
    with IndexClient(index_settings(source, settings), environment=os.environ) as client:

        def files(name: str) -> Sequence[IndexFile]:
            try:
                return client.files(name)
            except FetchError as error:
                progress.warning(f"no refusals told for `{name}`: {error.message}")
                return ()
            finally:
                task.advance(1)

        with ThreadPoolExecutor(max_workers=8) as pool:
            found = dict(zip(ordered, pool.map(files, ordered), strict=True))
    task.finish()
    return found


def made_from(source: Source) -> Source | None:
    """Return what a lock is made from, to be resolved anew; None where that is not there."""
    from manylambda.locks.discovery import unlocked

    recorded: tuple[str, ...] = ()
    if source.kind is SourceKind.PYLOCK:
        from manylambda.locks.documents import load

        recorded = tuple(load(source.files[0]).table("tool", "manylambda").texts("sources"))
    return unlocked(source, recorded)


def fetch(
    downloads: Sequence[Download],
    source: Source,
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    verify: bool = False,
) -> Mapping[Download, Path]:
    """Download with the logins, certificates and trusted hosts of the indexes the source draws on.

    `verify` hashes what is in the cache, too.
    """
    from manylambda.fetch.download import fetch_all

    credentials, http_settings = http(source, settings)
    return fetch_all(
        downloads,
        cache=cache,
        credentials=credentials,
        offline=settings.offline,
        progress=progress,
        verify=verify,
        settings=http_settings,
    )


def http(source: Source, settings: Settings) -> tuple[Credentials, HttpSettings]:
    """Give the logins, certificates and trusted hosts of the indexes the source draws on."""
    from manylambda.fetch.client import HttpSettings
    from manylambda.fetch.credentials import Credentials
    from manylambda.locks.readers import index_addresses

    environment = {**os.environ, **index_settings(source, settings).uv_environment()}
    addresses = index_addresses(source, settings.resolve_options(os.environ))
    return Credentials.from_settings(environment, addresses), HttpSettings.from_environment(environment)


def _shown(file: Path, project: Path) -> str:
    if str(file) == "-":
        return "standard input"
    return str(file) if is_piped(file) else os.path.relpath(file, project).replace(os.sep, "/")
