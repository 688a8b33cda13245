"""Packages that another tool's lock pins by file name and hash, turned into a PEP 751 lock.

poetry.lock and pdm.lock name files but mostly not where they lie: the indexes are asked for that, and nothing else of
what they say is used. A file that is not in the lock, or has another hash there, is never taken.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from manylambda.errors import HashMismatch, NotCached, ResolutionError
from manylambda.locks.index import IndexClient
from manylambda.locks.merge import environment_marker, marker_for, target_order
from manylambda.locks.program import without_credentials
from manylambda.locks.pylock import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import ResolveOptions
    from manylambda.locks.settings import Index, IndexSettings
    from manylambda.progress import Progress
    from manylambda.target import Target

_WORKERS: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedFile:
    """A file a lock names."""

    name: str
    hashes: Mapping[str, str]
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LockedPackage:
    """A package a lock pins; compared by identity, for a lock may have one name several times.

    It comes from an index unless `directory` or `path` says otherwise.
    """

    name: str
    """Normalised."""
    version: str
    files: tuple[LockedFile, ...] = ()
    index: str | None = None
    """The name, in `Indexes.named`, of the one index it may come from; None for the user's usual ones."""
    directory: str | None = None
    """A source tree, relative to the project."""
    path: str | None = None
    """A wheel or sdist on this machine, relative to the project; `files` has its name and hash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexes:
    """Where files may be looked up."""

    usual: IndexSettings
    named: Mapping[str, Index] = field(default_factory=dict)
    """The indexes that a package asks for by name."""

    @property
    def addresses(self) -> tuple[tuple[str | None, str], ...]:
        """Every remote address with its name and credentials, for `fetch.Credentials.from_settings`."""
        return (*self.usual.index_urls, *((index.name, index.url) for index in self.named.values()))

    def settings_for(self, name: str | None) -> IndexSettings:
        """Give the settings under which the files of a package with this `index` are looked up."""
        if name is None:
            return self.usual
        return replace(self.usual, indexes=(self.named[name],), find_links=())


def to_pylock(
    chosen: Mapping[Target, Sequence[LockedPackage]],
    *,
    lock: Path,
    requires_python: str | None,
    indexes: Indexes,
    options: ResolveOptions,
    progress: Progress,
) -> Pylock:
    """Join what was chosen for each target to one lock; `lock` is the file the packages stand in.

    `requires_python` is what the project says of its Pythons.
    Raises HashMismatch when an index has other bytes under a locked name, NotCached, FetchError, and ResolutionError
    when a locked version is not on the index.
    """
    users: dict[LockedPackage, list[Target]] = {}
    for target, packages in chosen.items():
        for package in packages:
            users.setdefault(package, []).append(target)
    markers = {package: marker_for(targets, list(chosen)) or "" for package, targets in users.items()}
    wanted = [
        package
        for package in users
        if not package.directory and not package.path and not all(file.url for file in package.files)
    ]
    located = _locate(wanted, lock, indexes, options, progress) if wanted else {}

    entries = []
    for package in sorted(users, key=lambda package: (package.name, package.version, markers[package])):
        entry: dict[str, object] = {"name": package.name}
        if package.directory is None:
            entry["version"] = package.version
        if markers[package]:
            entry["marker"] = markers[package]
        if package.directory is not None:
            entry["directory"] = {"path": package.directory}
        else:
            entry |= _files(package, located.get(package, {}), lock.name)
            if package.index is not None:
                entry["index"] = without_credentials(indexes.named[package.index].url)
        entries.append(entry)
    document: dict[str, object] = {
        "lock-version": "1.0",
        # The markers above tell only these targets apart, so the lock says that it is for no other.
        "environments": [environment_marker(target) for target in sorted(chosen, key=target_order)],
        "created-by": "manylambda",
        "packages": entries,
    }
    if requires_python is not None and _is_specifier(requires_python):
        document["requires-python"] = requires_python
    return parse(document, name=lock.name)


def _is_specifier(text: str) -> bool:
    """Whether that is written as PEP 440 says: one that cannot be read forbids nothing."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True


def _files(package: LockedPackage, located: Mapping[str, IndexFile], lock_name: str) -> dict[str, object]:
    """Write the `wheels` and `sdist` of an entry: the files the lock names, where the index has them."""
    wheels: list[dict[str, object]] = []
    entry: dict[str, object] = {}
    for file in sorted(package.files, key=lambda file: file.name):
        found: dict[str, object]
        if package.path is not None:
            found = {"path": package.path}
        elif file.url is not None:
            found = {"url": file.url}
        elif file.name in located:
            _check_hashes(file, located[file.name], lock_name)
            found = _place(located[file.name])
        else:
            continue
        found |= {"name": file.name, "hashes": dict(file.hashes)}
        if file.name.endswith(".whl"):
            wheels.append(found)
        elif file.name.endswith((".tar.gz", ".zip")):
            entry["sdist"] = found
    if wheels:
        entry["wheels"] = wheels
    if not entry:
        raise ResolutionError(
            f"no file that `{lock_name}` names for `{package.name}=={package.version}` is on the index",
            hint="files may have been deleted there: lock again with the tool that made the lock",
        )
    return entry


def _place(file: IndexFile) -> dict[str, object]:
    found: dict[str, object] = {} if file.size is None else {"size": file.size}
    if file.url.startswith("file:"):
        return {"path": _local_path(file.url).as_posix(), **found}
    return {"url": file.url, **found}


def _local_path(url: str) -> Path:
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def _check_hashes(file: LockedFile, found: IndexFile, lock_name: str) -> None:
    """Compare what the index says; an index that names no hash is believed here, the download is checked anyway."""
    if "sha256" not in file.hashes:
        raise ResolutionError(
            f"`{lock_name}` has no sha256 for `{file.name}`",
            hint="lock again with a current version of the tool that made the lock",
        )
    says = found.hashes.get("sha256")
    if says is not None and says != file.hashes["sha256"]:
        raise HashMismatch(
            f"`{file.name}` on the index is not the file that `{lock_name}` names: its sha256 is {says}",
            hint=f"`{lock_name}` has {file.hashes['sha256']}; do not use the file before you know why they differ",
        )


def _locate(
    packages: Sequence[LockedPackage], lock: Path, indexes: Indexes, options: ResolveOptions, progress: Progress
) -> dict[LockedPackage, Mapping[str, IndexFile]]:
    """Look up which files the indexes have of each package: package -> file name -> file."""
    from concurrent.futures import ThreadPoolExecutor

    from manylambda.fetch import Credentials

    credentials = Credentials.from_settings(options.environment, indexes.addresses)
    located: dict[LockedPackage, Mapping[str, IndexFile]] = {}
    task = progress.task("resolve", lock.name, len(packages), unit="items")

    def work(share: Sequence[LockedPackage]) -> None:
        with ExitStack() as open_clients:
            clients: dict[str | None, IndexClient] = {}
            for package in share:
                if package.index not in clients:
                    clients[package.index] = open_clients.enter_context(
                        IndexClient(
                            indexes.settings_for(package.index),
                            environment=options.environment,
                            credentials=credentials,
                            offline=options.offline,
                        )
                    )
                located[package] = {file.filename: file for file in clients[package.index].files(package.name)}
                task.advance(1)

    try:
        with ThreadPoolExecutor(_WORKERS) as pool:
            # An index client belongs to one thread; so each gets its share instead of all one queue.
            for done in [pool.submit(work, packages[start::_WORKERS]) for start in range(_WORKERS)]:
                done.result()
    except NotCached as error:
        raise NotCached(
            f"`{lock.name}` does not say where its files lie, and offline no index can be asked",
            hint="build once without `--offline`: what was found is kept",
        ) from error
    finally:
        task.finish()
    return located
