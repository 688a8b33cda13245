"""Reads `pdm.lock`.

With the strategy `inherit_metadata` (the default) each package has the groups and the marker under which it is needed;
without it the graph is walked from `pyproject.toml`. With `static_urls` the lock has addresses, and no index is asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final

from manylambda.errors import LockOutdated, RequestError
from manylambda.locks.documents import Table, load
from manylambda.locks.locked import Indexes, LockedFile, LockedPackage, to_pylock
from manylambda.locks.program import without_credentials
from manylambda.locks.pyproject import Pyproject, checked_names, parse_requirement
from manylambda.locks.settings import Index, IndexSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.pylock import Pylock

    from manylambda.locks.model import ResolveOptions, Source
    from manylambda.progress import Progress
    from manylambda.target import Target

HINT: Final = "run `pdm lock`"
_DEFAULT: Final = "default"


def read(source: Source, targets: Sequence[Target], options: ResolveOptions, progress: Progress) -> Pylock:
    """Convert the `pdm.lock` of `source`: the default group, with the extras and groups of `options`.

    Raises LockOutdated when the lock does not match `pyproject.toml`, RequestError for an unknown extra or group and
    for a dependency from version control, and what `locked.to_pylock` raises.
    """
    lock = load(source.files[0])
    project = Pyproject.load(source.project)
    metadata = lock.table("metadata")
    _check_version(metadata)
    _check_fresh(metadata, project)
    checked_names("extra", options.extras, project.extras)
    checked_names("group", options.groups, _groups(project))
    wanted = {_DEFAULT, *options.extras, *options.groups}
    _check_locked_groups(metadata, wanted)

    entries = [_Entry(table) for table in lock.tables("package")]
    own = _own(project)
    chosen: dict[Target, list[LockedPackage]] = {}
    for target in targets:
        if "inherit_metadata" in metadata.texts("strategy"):
            found = _marked(entries, target, wanted)
        else:
            found = _walked(entries, project, target, options)
        packages = {entry.package.name: entry.package for entry in _without_extras(entries, found)}
        if own is not None:
            packages[own.name] = own
        chosen[target] = list(packages.values())
    return to_pylock(
        chosen,
        lock=source.files[0],
        requires_python=project.requires_python,
        indexes=indexes(project, options.environment),
        options=options,
        progress=progress,
    )


def indexes(project: Pyproject, environment: Mapping[str, str]) -> Indexes:
    """Give the user's usual indexes and every `[[tool.pdm.source]]`, variables in their addresses filled in.

    A source called `pypi` stands for the default index. A lock does not say which source a file is from, so all of
    them are asked: the hash decides.
    """
    usual = read_settings(project.folder, environment)
    found: list[Index] = []
    links: list[str] = []
    default = list(usual.indexes)
    for source in project.pdm.tables("source"):
        url = _filled_in(source.required("url"), environment)
        if source.text("type") == "find_links":
            links.append(url)
        elif source.text("name") == "pypi":
            default = [Index(url=url, name="pypi")]
        else:
            found.append(Index(url=url, name=source.text("name")))
    if not found and not links and default == list(usual.indexes):
        return Indexes(usual=usual)
    return Indexes(
        usual=IndexSettings(
            indexes=(*found, *default),
            find_links=(*links, *usual.find_links),
            strategy="unsafe-best-match",
            trusted_hosts=usual.trusted_hosts,
            certificate=usual.certificate,
            keyring=usual.keyring,
        )
    )


def _filled_in(url: str, environment: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: environment.get(found[1], found[0]), url)


class _Entry:
    """One `[[package]]`: a distribution, or a distribution with extras, which adds dependencies to it."""

    __slots__ = ("extras", "package", "table")

    def __init__(self, table: Table) -> None:
        from packaging.utils import canonicalize_name

        self.table = table
        self.extras = frozenset(canonicalize_name(extra) for extra in table.texts("extras"))
        self.package = _read_package(table)


def _check_version(metadata: Table) -> None:
    text = metadata.text("lock_version") or ""
    if not text.startswith("4."):
        raise RequestError(f"`pdm.lock` has an unknown format version: {text or 'none'}", hint=HINT)


def _check_fresh(metadata: Table, project: Pyproject) -> None:
    """Compare the recorded hash as `pdm.project.project_file.PyProject.content_hash` makes it."""
    from packaging.utils import canonicalize_name

    recorded = metadata.text("content_hash") or ""
    document = project.document.table("project").values
    settings = project.pdm.values
    groups: dict[str, object] = {
        canonicalize_name(name): requirements
        for name, requirements in project.document.table("dependency-groups").values.items()
    }
    for name in project.pdm.table("dev-dependencies"):
        known = groups.get(canonicalize_name(name), [])
        assert isinstance(known, list)
        groups[canonicalize_name(name)] = [*known, *project.pdm.table("dev-dependencies").texts(name)]
    content = {
        "sources": settings.get("source", []),
        "dependencies": document.get("dependencies", []),
        "dev-dependencies": groups,
        "optional-dependencies": document.get("optional-dependencies", {}),
        "requires-python": document.get("requires-python", ""),
        "resolution": settings.get("resolution", {}),
    }
    # Before pdm 2.17 the overrides stood in the place of the resolution table.
    older = {key: value for key, value in content.items() if key != "resolution"}
    older["overrides"] = project.pdm.table("resolution").table("overrides").values
    algorithm, _, digest = recorded.partition(":")
    if algorithm not in {"sha256", "sha512", "md5", "sha1", "blake2b"} or digest not in {
        _digest(algorithm, content),
        _digest(algorithm, older),
    }:
        raise LockOutdated("`pdm.lock` does not match `pyproject.toml`", hint=HINT)


def _digest(algorithm: str, content: Mapping[str, object]) -> str:
    return hashlib.new(algorithm, json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _groups(project: Pyproject) -> frozenset[str]:
    from packaging.utils import canonicalize_name

    return project.groups | {canonicalize_name(name) for name in project.pdm.table("dev-dependencies")}


def _check_locked_groups(metadata: Table, wanted: Iterable[str]) -> None:
    from packaging.utils import canonicalize_name

    locked = {canonicalize_name(name) for name in metadata.texts("groups")}
    missing = sorted(set(wanted) - locked)
    if locked and missing:
        raise LockOutdated(
            "`pdm.lock` was made without " + ", ".join(f"`{name}`" for name in missing),
            hint="run `pdm lock --group :all`",
        )


def _read_package(table: Table) -> LockedPackage:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(table.required("name"))
    version = table.text("version") or "0"
    for kind in ("git", "hg", "svn", "bzr"):
        if kind in table:
            raise RequestError(
                f"`{name}` comes from {kind}, which is not supported: {without_credentials(table.required(kind))}",
                hint="depend on a release, on the URL of a wheel, or on a folder of your project",
            )
    place, path = table.text("url"), table.text("path")
    if place is not None and place.startswith("file:///${PROJECT_ROOT}/"):
        path, place = place.removeprefix("file:///${PROJECT_ROOT}/"), None
    files = tuple(_read_file(file, place) for file in table.tables("files"))
    if path is None:
        return LockedPackage(name=name, version=version, files=files)
    if path.endswith((".whl", ".tar.gz", ".zip")):
        return LockedPackage(name=name, version=version, path=path, files=files)
    subdirectory = table.text("subdirectory")
    return LockedPackage(name=name, version=version, directory=f"{path}/{subdirectory}" if subdirectory else path)


def _read_file(table: Table, place: str | None) -> LockedFile:
    algorithm, _, digest = table.required("hash").partition(":")
    url = table.text("url") or place
    name = table.text("file")
    if name is None:
        if url is None:
            table.fail("file", "a string")
        from urllib.parse import unquote, urlsplit

        name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    return LockedFile(
        name=name, hashes={algorithm: digest.lower()}, url=None if url is None else without_credentials(url)
    )


def _own(project: Pyproject) -> LockedPackage | None:
    """Return the project itself if pdm would install it."""
    is_distribution = project.pdm.is_true("distribution", default=True)
    if project.pdm.text("package-type") is not None:
        is_distribution = project.pdm.text("package-type") == "library"
    if project.name is None or not is_distribution or not project.has_build_system:
        return None
    return LockedPackage(name=project.name, version="0", directory=".")


# --- what a target needs


def _holds(marker: str | None, target: Target) -> bool:
    if not marker:
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate({**target.markers, "extra": ""})


def _marked(entries: Iterable[_Entry], target: Target, wanted: Iterable[str]) -> list[_Entry]:
    """Take what the lock says is needed."""
    wanted = set(wanted)
    return [
        entry
        for entry in entries
        if wanted.intersection(entry.table.texts("groups")) and _holds(entry.table.text("marker"), target)
    ]


def _walked(entries: Sequence[_Entry], project: Pyproject, target: Target, options: ResolveOptions) -> list[_Entry]:
    """Follow the dependencies from `pyproject.toml` through the lock."""
    from packaging.utils import canonicalize_name

    by_name: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.package.name, []).append(entry)
    waiting = list(_roots(project, options))
    reached: dict[int, _Entry] = {}
    while waiting:
        requirement = parse_requirement(waiting.pop())
        if requirement.marker is not None and not requirement.marker.evaluate({**target.markers, "extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        extras = {canonicalize_name(extra) for extra in requirement.extras}
        if name == project.name:
            waiting += [text for extra in sorted(extras) for text in project.extra_requirements(extra)]
            continue
        fitting = [
            entry
            for entry in by_name.get(name, ())
            if entry.extras <= extras
            and (requirement.url or requirement.specifier.contains(entry.package.version, prereleases=True))
            and _holds(entry.table.text("marker"), target)
        ]
        if not fitting:
            raise LockOutdated(f"`pdm.lock` has no `{requirement}`", hint=HINT)
        for entry in fitting:
            if id(entry) not in reached:
                reached[id(entry)] = entry
                waiting += entry.table.texts("dependencies")
    return list(reached.values())


def _roots(project: Pyproject, options: ResolveOptions) -> Iterator[str]:
    from packaging.utils import canonicalize_name

    yield from project.dependencies
    for extra in sorted(options.extras):
        yield from project.extra_requirements(extra)
    legacy = project.pdm.table("dev-dependencies")
    for group in sorted(options.groups):
        yield from project.group_requirements(group)
        for key in legacy:
            if canonicalize_name(key) == group:
                for text in legacy.texts(key):
                    yield _without_editable(text)


def _without_editable(text: str) -> str:
    """Turn pdm's `-e file:///${PROJECT_ROOT}/lib#egg=lib` into a requirement."""
    found = re.fullmatch(r"-e\s+(\S+)#egg=([\w.-]+)(\[[^]]*\])?.*", text)
    return text if found is None else f"{found[2]}{found[3] or ''} @ {found[1]}"


def _without_extras(entries: Sequence[_Entry], found: Iterable[_Entry]) -> Iterator[_Entry]:
    """Replace each entry that only adds extras by the one of the distribution itself, which has the files."""
    plain = {(entry.package.name, entry.package.version): entry for entry in entries if not entry.extras}
    for entry in found:
        yield plain.get((entry.package.name, entry.package.version), entry)
