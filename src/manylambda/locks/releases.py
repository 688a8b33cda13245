"""What a release has besides the wheels that were chosen of it.

uv's answer for a target has only what the target loads. That a pure wheel was taken of a release with compiled ones is
known to the index alone: it is asked once, after resolving, and a lock of ours keeps the answer. Most such releases are
as good, if slower, without their extension module; those whose compiled wheels bring a library are not.
"""

from __future__ import annotations

import dataclasses
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import ManylambdaError
from manylambda.locks.compatibility import compiled, is_compiled, wheel_fit
from manylambda.locks.select import TRUSTED_HASHES, best_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.pylock import Package, Pylock

    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import ResolveOptions
    from manylambda.locks.settings import IndexSettings
    from manylambda.target import Target

_PATIENCE: Final = {"MANYLAMBDA_HTTP_TIMEOUT": "4", "MANYLAMBDA_HTTP_RETRIES": "0"}
"""Seconds, and attempts after the first: the versions are found, and someone waits for them."""
_PARALLEL: Final = 8
_KIND: Final = "release"
_VERSION: Final = 1
_FRESH: Final = 86_400
"""Seconds for which an answer is believed: wheels of a release come hours after the first, seldom days."""


def complete(
    locks: Mapping[Target, Pylock], settings: IndexSettings, options: ResolveOptions, *, may_exchange: bool
) -> dict[Target, Pylock]:
    """Note in fresh locks of one target each what the releases have of which a pure wheel was taken.

    `may_exchange` lets a compiled wheel that fits take the place of the pure one: it is on another index than the one
    whose files uv took for the version. An index that cannot be asked, or does not answer soon, changes nothing.
    """
    wanted = sorted(
        {
            (package.name, str(package.version))
            for target, lock in locks.items()
            for package in lock.packages
            if _is_pure(package, target, options)
        }
    )
    known = _asked(wanted, settings, options)
    if not known:
        return dict(locks)

    def completed(package: Package, target: Target) -> Package:
        files = known.get((package.name, str(package.version))) if package.wheels else None
        if not files:
            return package
        found = compiled(file.filename for file in files)
        table: dict[str, object] = {"compiled-for": list(found.platforms)}
        if found.brings_library:
            table["brings-library"] = True
        package = dataclasses.replace(package, tool={**(package.tool or {}), "manylambda": table})
        is_pure = _is_pure(package, target, options)
        return _exchanged(package, files, target) if may_exchange and is_pure else package

    return {
        target: dataclasses.replace(lock, packages=[completed(package, target) for package in lock.packages])
        for target, lock in locks.items()
    }


def _is_pure(package: Package, target: Target, options: ResolveOptions) -> bool:
    """Whether the target gets a pure wheel; uv, which knows few versions of glibc, may name others beside it."""
    wheel = best_wheel(package, target, options) if package.version is not None else None
    return wheel is not None and not is_compiled(wheel.filename)


def _exchanged(package: Package, files: Sequence[IndexFile], target: Target) -> Package:
    """Take the compiled wheel that fits best instead, where its index gives a hash to hold it to."""
    from packaging.pylock import PackageWheel

    from manylambda.locks.explain import refusal

    fitting = [
        (fit, file)
        for file in files
        if refusal(file, target) is None
        and file.url.startswith(("http://", "https://"))
        and (fit := wheel_fit(file.filename, target)) is not None
    ]
    if not fitting:
        return package
    best = min(fitting, key=lambda one: (one[0], one[1].filename))[1]
    hashes = {name: digest.lower() for name, digest in best.hashes.items() if name in TRUSTED_HASHES}
    if not hashes:
        return package
    wheel = PackageWheel(name=best.filename, url=best.url, size=best.size, hashes=hashes)
    return dataclasses.replace(package, wheels=[wheel], index=None)


def _asked(
    releases: Sequence[tuple[str, str]], settings: IndexSettings, options: ResolveOptions
) -> dict[tuple[str, str], Sequence[IndexFile]]:
    """Give the compiled wheels of releases; those of which nothing is known are left out."""
    memory = _Memory(settings, options)
    found: dict[tuple[str, str], Sequence[IndexFile]] = {}
    unknown: list[tuple[str, str]] = []
    for release in releases:
        known = memory.recall(*release)
        if known is None:
            unknown.append(release)
        else:
            found[release] = known
    if not unknown or options.offline:
        return found
    from concurrent.futures import ThreadPoolExecutor

    from manylambda.locks.explain import same_version
    from manylambda.locks.index import IndexClient

    with IndexClient(settings, environment={**options.environment, **_PATIENCE}) as client:

        def ask(release: tuple[str, str]) -> Sequence[IndexFile] | None:
            name, version = release
            try:
                files = client.compiled(name)
            except (ManylambdaError, OSError):
                return None
            own = [file for file in files if file.is_wheel and is_compiled(file.filename)]
            own = [file for file in own if same_version(file.version, version)]
            memory.keep(name, version, own)
            return own

        with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(unknown))) as pool:
            answers = list(zip(unknown, pool.map(ask, unknown), strict=True))
        found.update((release, files) for release, files in answers if files is not None)
    return found


class _Memory:
    """What indexes said of releases, for a day; offline, whatever was last heard."""

    def __init__(self, settings: IndexSettings, options: ResolveOptions) -> None:
        from manylambda.fetch import Cache

        self._cache = Cache.default(options.environment)
        self._oldest = 0.0 if options.offline else time.time() - _FRESH
        self._settings = settings

    def recall(self, name: str, version: str) -> list[IndexFile] | None:
        """Return the compiled wheels of a release, if an index was lately asked for them."""
        told: Any = self._cache.read_facts(_KIND, _VERSION, self._key(name, version))
        if not isinstance(told, dict) or not self._oldest <= told["asked"] <= time.time():
            return None
        from manylambda.locks.index import IndexFile

        return [IndexFile(**file) for file in told["files"]]

    def keep(self, name: str, version: str, files: Sequence[IndexFile]) -> None:
        """Remember an answer."""
        told = {"asked": int(time.time()), "files": [dataclasses.asdict(file) for file in files]}
        self._cache.write_facts(_KIND, _VERSION, self._key(name, version), told)

    def _key(self, name: str, version: str) -> str:
        from manylambda.fetch import strip_userinfo

        places = (*self._settings.find_links, *(index.url for index in self._settings.indexes_for(name)))
        decisive = (self._settings.strategy, *map(strip_userinfo, places), name, version)
        return sha256("\n".join(decisive).encode("utf-8", "surrogateescape")).hexdigest()
