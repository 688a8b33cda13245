"""What a selection has as source code only, built into wheels: folders of this machine and allowed archives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from manylambda.locks.model import LocalPackage
from manylambda.pipeline import dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from packaging.pylock import Package, Pylock

    from manylambda.config import Settings
    from manylambda.fetch.cache import Cache
    from manylambda.fetch.download import Download
    from manylambda.locks.model import Selection, Source, SourceDistribution
    from manylambda.progress import Progress
    from manylambda.sdists import BuiltWheel
    from manylambda.target import Target

    Place: TypeAlias = tuple[str, str, str]

_OLDEST_OWN: Final = (3, 11)
"""The oldest Python that manylambda runs on."""


def with_project(selection: Selection, settings: Settings) -> Selection:
    """Make the project itself one of the packages to be built, exactly when the settings say it is one."""
    own = [package for package in selection.local if package.directory == settings.project]
    others = [package for package in selection.local if package.directory != settings.project]
    if settings.package and not own:
        from manylambda.locks.pyproject import Pyproject

        name = Pyproject.load(settings.project).name
        own = [LocalPackage(name=name or settings.name, directory=settings.project)]
    return replace(selection, local=(*others, *own) if settings.package else tuple(others))


def built_wheels(
    selections: Sequence[Selection], source: Source, settings: Settings, cache: Cache, progress: Progress
) -> dict[Place, BuiltWheel]:
    """Return wheels in the cache by what they were built from and for; see `place`.

    What is the same for several targets is built for the first, and found by the others.
    """
    wheels: dict[Place, BuiltWheel] = {}
    if not any(selection.local or selection.sdists for selection in selections):
        return wheels
    downloads = {_address(one): _download(one) for selection in selections for one in selection.sdists}
    fetched: Mapping[Download, Path] = {}
    if downloads:
        fetched = dependencies.fetch(list(downloads.values()), source, settings, cache, progress, verify=True)
    builder = dependencies.builder(source, settings, cache, progress)
    for selection in selections:
        target = selection.target
        for package, wheel in builder.folders(selection.local, target).items():
            wheels[place(package, target)] = wheel
        for one in selection.sdists:
            archive = fetched[downloads[_address(one)]]
            wheels[place(one, target)] = builder.archive(
                one.name, archive, archive.parent.name, target, pinned=one.build_requires
            )
    return wheels


def with_build_requirements(
    pylock: Pylock, selections: Sequence[Selection], source: Source, settings: Settings, progress: Progress
) -> Pylock:
    """Note in a lock what its sdists are built with: pinned with hashes, so that the same lock gives the same wheels.

    That is what they declare; what a build asks for besides is resolved when it runs, with these held.
    """
    from manylambda.fetch.cache import Cache

    wanted = {one.name: one for selection in selections for one in selection.sdists}
    if not wanted:
        return pylock
    cache = Cache.default()
    downloads = {name: _download(one) for name, one in wanted.items()}
    fetched = dependencies.fetch(list(downloads.values()), source, settings, cache, progress, verify=True)
    builder = dependencies.builder(source, settings, cache, progress)
    # What looks pure is built by the Python that manylambda has, the rest by the target's.
    oldest = min(_OLDEST_OWN, *(selection.target.python for selection in selections))

    def noted(package: Package) -> Package:
        if package.name not in wanted or (package.sdist is None and package.archive is None):
            return package
        lines = builder.lock_requirements(package.name, fetched[downloads[package.name]], oldest)
        tool = dict(package.tool or {})
        tool["manylambda"] = {**tool.get("manylambda", {}), "build-requires": list(lines)}
        return replace(package, tool=tool)

    return replace(pylock, packages=[noted(package) for package in pylock.packages])


def place(package: LocalPackage | SourceDistribution, target: Target) -> Place:
    """Return what tells one built wheel from another: the name, the folder or address, the target."""
    return package.name, _address(package), str(target)


def _address(package: LocalPackage | SourceDistribution) -> str:
    return str(package.directory if isinstance(package, LocalPackage) else package.url or package.path)


def _download(one: SourceDistribution) -> Download:
    from manylambda.errors import HashMismatch
    from manylambda.fetch.download import Download

    url = one.path.as_uri() if one.path is not None else one.url
    assert url is not None
    filename = url.partition("#")[0].partition("?")[0].rpartition("/")[2]
    sha256 = one.hashes.get("sha256")
    if sha256 is None and one.path is None:
        raise HashMismatch(f"the lock has no sha256 for `{filename}`", hint="lock again: `manylambda lock`")
    return Download(url=url, filename=filename, sha256=sha256, size=None)
