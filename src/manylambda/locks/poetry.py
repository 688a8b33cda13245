"""Reads `poetry.lock`, of Poetry 1 and 2.

A lock of format 2.1 says for each package in which groups and under which marker it is needed. An older one does not,
and the graph is walked from `pyproject.toml`, judging markers for the target.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from manylambda.errors import LockOutdated, RequestError
from manylambda.locks.constraints import allows
from manylambda.locks.documents import Table, load
from manylambda.locks.locked import Indexes, LockedFile, LockedPackage, to_pylock
from manylambda.locks.program import without_credentials
from manylambda.locks.pyproject import Pyproject, checked_names
from manylambda.locks.settings import Index, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.locks.model import ResolveOptions, Source
    from manylambda.progress import Progress
    from manylambda.target import Target

HINT: Final = "run `poetry lock`"


def read(source: Source, targets: Sequence[Target], options: ResolveOptions, progress: Progress) -> Pylock:
    """Convert the `poetry.lock` of `source`: the main group, with the extras and groups of `options`.

    The index is asked where the files lie. Raises LockOutdated when the lock does not match `pyproject.toml`,
    RequestError for an unknown extra or group and for a git dependency, and what `locked.to_pylock` raises.
    """
    lock = load(source.files[0])
    project = Pyproject.load(source.project)
    version = _checked_version(lock)
    _check_fresh(lock, project)
    checked_names("extra", options.extras, _extras(project))
    checked_names("group", options.groups, _groups(project))

    entries = [_Entry(table, _read_package(table, lock)) for table in lock.tables("package")]
    own = _own(project)
    chosen: dict[Target, list[LockedPackage]] = {}
    for target in targets:
        if version >= (2, 1):
            found = list(_marked(entries, target, options))
        else:
            found = _walked(entries, lock, project, target, options)
        for entry in found:
            _refuse_unbuildable(entry)
        chosen[target] = [entry.package for entry in found]
        if own is not None:
            chosen[target].append(own)
    return to_pylock(
        chosen,
        lock=source.files[0],
        requires_python=project.requires_python,
        indexes=_with_locked(indexes(project, options.environment), entries),
        options=options,
        progress=progress,
    )


def indexes(project: Pyproject, environment: Mapping[str, str]) -> Indexes:
    """Give the user's usual indexes and every `[[tool.poetry.source]]`, with the credentials Poetry would use."""
    named = {}
    for source in project.poetry.tables("source"):
        url = source.text("url")
        if url is not None:
            reference = source.required("name")
            named[index_name(reference)] = Index(
                name=reference, url=with_credentials(url, _credentials(reference, environment))
            )
    return Indexes(usual=read_settings(project.folder, environment), named=named)


class _Entry(NamedTuple):
    table: Table
    package: LockedPackage


def _checked_version(lock: Table) -> tuple[int, int]:
    text = lock.table("metadata").text("lock-version") or ""
    found = re.fullmatch(r"([12])\.(\d+)", text)
    if found is None:
        raise RequestError(f"`poetry.lock` has an unknown format version: {text or 'none'}", hint=HINT)
    return int(found[1]), int(found[2])


# --- does it match pyproject.toml? As poetry.packages.locker.Locker does, of Poetry 1 and 2.

_LEGACY_KEYS: Final = ("dependencies", "source", "extras", "dev-dependencies")
_PROJECT_KEYS: Final = ("requires-python", "dependencies", "optional-dependencies")


def _check_fresh(lock: Table, project: Pyproject) -> None:
    recorded = lock.table("metadata").text("content-hash")
    if recorded not in set(_content_hashes(project.document, _maker(lock.file))):
        raise LockOutdated("`poetry.lock` does not match `pyproject.toml`", hint=HINT)


def _maker(lock: Path) -> tuple[int, int] | None:
    """Return the version of the Poetry that wrote the lock, which stands in its first line since 1.4."""
    with lock.open(encoding="utf-8") as stream:
        found = re.search(r"Poetry (\d+)\.(\d+)", stream.readline())
    return None if found is None else (int(found[1]), int(found[2]))


def _content_hashes(document: Table, maker: tuple[int, int] | None) -> Iterator[str]:
    project = document.table("project").values
    poetry = document.table("tool", "poetry").values
    groups = document.table("dependency-groups").values
    if maker is None or maker < (2, 0):
        content: dict[str, object] = {key: poetry.get(key) for key in _LEGACY_KEYS}
        if poetry.get("group") is not None:
            content["group"] = poetry["group"]
        yield _digest(content)
    if maker is not None and maker < (2, 0):
        return
    # Poetry hashes [dependency-groups] since 2.3, and still accepts the older hash of an older lock.
    with_groups = [groups] if maker is not None and maker >= (2, 3) else [groups, {}]
    for group_content in with_groups:
        project_content = {key: project[key] for key in _PROJECT_KEYS if project.get(key) is not None}
        poetry_content = {
            key: poetry.get(key)
            for key in (*_LEGACY_KEYS, "group")
            if poetry.get(key) is not None or (key in _LEGACY_KEYS and not project_content and not group_content)
        }
        relevant: dict[str, object] = {}
        if project_content:
            relevant["project"] = project_content
        if group_content:
            relevant["dependency-groups"] = group_content
        if relevant:
            relevant["tool"] = {"poetry": poetry_content}
        yield _digest(relevant or poetry_content)


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


# --- which extras and groups there are


def _extras(project: Pyproject) -> frozenset[str]:
    from packaging.utils import canonicalize_name

    return project.extras | {canonicalize_name(name) for name in project.poetry.table("extras")}


def _groups(project: Pyproject) -> frozenset[str]:
    from packaging.utils import canonicalize_name

    named = {canonicalize_name(name) for name in project.poetry.table("group")}
    return project.groups | named | ({"dev"} if "dev-dependencies" in project.poetry else set())


# --- the packages


def _read_package(table: Table, lock: Table) -> LockedPackage:
    from packaging.utils import canonicalize_name

    name, version = canonicalize_name(table.required("name")), table.required("version")
    source = table.table("source")
    kind, url = source.text("type"), source.text("url")
    files = tuple(_read_file(file) for file in _file_tables(table, lock, name, version))
    match kind:
        case "directory":
            return LockedPackage(name=name, version=version, directory=source.required("url"))
        case "file":
            return LockedPackage(name=name, version=version, path=source.required("url"), files=files)
        case "url":
            place = without_credentials(source.required("url"))
            located = tuple(LockedFile(name=file.name, hashes=file.hashes, url=place) for file in files)
            return LockedPackage(name=name, version=version, files=located)
        case "legacy":
            index = index_name(source.text("reference") or url or "")
            return LockedPackage(name=name, version=version, files=files, index=index)
        case _:
            return LockedPackage(name=name, version=version, files=files)


def _file_tables(table: Table, lock: Table, name: str, version: str) -> Sequence[Table]:
    if "files" in table:
        return table.tables("files")
    metadata = lock.table("metadata")
    if "hashes" in metadata:
        raise RequestError("`poetry.lock` is of a format without file names", hint=HINT)
    # Format 1 keeps the files of all versions of a name together.
    files = metadata.table("files")
    key = next((key for key in files if key.lower().replace("_", "-").replace(".", "-") == name), name)
    return [file for file in files.tables(key) if _is_of_version(file.required("file"), version)]


def _is_of_version(filename: str, version: str) -> bool:
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
    from packaging.version import Version

    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1] == Version(version)
        return parse_sdist_filename(filename)[1] == Version(version)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False


def _read_file(table: Table) -> LockedFile:
    algorithm, _, digest = table.required("hash").partition(":")
    return LockedFile(name=table.required("file"), hashes={algorithm: digest.lower()})


def _refuse_unbuildable(entry: _Entry) -> None:
    kind = entry.table.table("source").text("type")
    if kind not in {None, "legacy", "directory", "file", "url"}:
        raise RequestError(
            f"`{entry.package.name}` comes from {kind}, which is not supported: "
            + without_credentials(entry.table.table("source").text("url") or ""),
            hint="depend on a release, on the URL of a wheel, or on a folder of your project",
        )


def _own(project: Pyproject) -> LockedPackage | None:
    """Return the project itself if Poetry would install it.

    `poetry init` makes every project a package, so a module that it could install must be there too; the files of a
    project that is none are shipped as they lie.
    """
    if not project.poetry.is_true("package-mode", default=True) or not project.has_build_system:
        return None
    if project.name is None:
        return None
    module = project.name.replace("-", "_")
    places = (project.folder, project.folder / "src")
    if (
        "packages" in project.poetry
        or "include" in project.poetry
        or any((place / module).is_dir() or (place / f"{module}.py").is_file() for place in places)
    ):
        return LockedPackage(name=project.name, version="0", directory=".")
    return None


# --- what a target needs


def _marked(entries: Sequence[_Entry], target: Target, options: ResolveOptions) -> Iterator[_Entry]:
    """Yield what format 2.1 says is needed."""
    wanted = {"main", *options.groups}
    for entry in entries:
        groups = wanted.intersection(entry.table.texts("groups"))
        if isinstance(entry.table.get("markers"), dict):
            markers = entry.table.table("markers")
            needed = any(_holds(markers.text(group), target, options.extras) for group in groups)
        else:
            needed = bool(groups) and _holds(entry.table.text("markers"), target, options.extras)
        if needed:
            yield entry


def _holds(marker: str | None, target: Target, extras: frozenset[str]) -> bool:
    """Judge a marker in which `extra` is a set, as Poetry does, for `target`."""
    if marker is None or marker in {"", "*"}:
        return True
    from packaging.markers import Marker

    # PEP 751's `extras` has just that meaning, so the marker is put in its terms.
    text = re.sub(
        r"""\bextra\s*(==|!=)\s*(["'])([^"']*)\2""",
        lambda found: f'"{found[3]}" {"in" if found[1] == "==" else "not in"} extras',
        marker,
    )
    environment: dict[str, str | frozenset[str]] = {**target.markers, "extras": extras}
    environment["dependency_groups"] = frozenset()
    return Marker(text).evaluate(environment, context="lock_file")


class _Wanted(NamedTuple):
    """A dependency somebody names, in Poetry's notation."""

    name: str
    version: str
    extras: frozenset[str]


def _walked(
    entries: Sequence[_Entry], lock: Table, project: Pyproject, target: Target, options: ResolveOptions
) -> list[_Entry]:
    """Follow the dependencies from `pyproject.toml` through a lock older than format 2.1."""
    from packaging.utils import canonicalize_name

    optional: set[str] = {
        canonicalize_name(_requirement_name(text))
        for extra in lock.table("extras")
        if canonicalize_name(extra) in options.extras
        for text in lock.table("extras").texts(extra)
    }
    tables = [project.poetry.table("dependencies")]
    for group in sorted(options.groups):
        groups = project.poetry.table("group")
        tables += [groups.table(key, "dependencies") for key in groups if canonicalize_name(key) == group]
    if "dev" in options.groups:
        tables.append(project.poetry.table("dev-dependencies"))

    by_name: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.package.name, []).append(entry)
    reached: dict[int, tuple[_Entry, frozenset[str]]] = {}
    waiting = [wanted for table in tables for wanted in _needs(table, target, frozenset(), optional)]
    while waiting:
        wanted = waiting.pop()
        entry = _pick(wanted, by_name)
        _, known = reached.get(id(entry.package), (entry, None))
        extras = (known or frozenset()) | wanted.extras
        if known is not None and extras == known:
            continue
        reached[id(entry.package)] = (entry, extras)
        waiting += _needs(entry.table.table("dependencies"), target, extras, None)
    return [entry for entry, _ in reached.values()]


def _pick(wanted: _Wanted, by_name: Mapping[str, Sequence[_Entry]]) -> _Entry:
    from packaging.version import Version

    fitting = [entry for entry in by_name.get(wanted.name, ()) if allows(wanted.version, entry.package.version)]
    if not fitting:
        raise LockOutdated(f"`poetry.lock` has no `{wanted.name}` that satisfies `{wanted.version}`", hint=HINT)
    return max(fitting, key=lambda entry: Version(entry.package.version))


def _needs(table: Table, target: Target, extras: frozenset[str], optional: set[str] | None) -> Iterator[_Wanted]:
    """Yield the dependencies in `table` that hold for `target`.

    Of optional ones in `pyproject.toml` only those in `optional` (asked for by an extra); those of a package
    (`optional` is None) have a marker on the package's `extras`.
    """
    from packaging.utils import canonicalize_name

    for key in table:
        name = canonicalize_name(key)
        value = table.get(key)
        if name == "python":
            continue
        if isinstance(value, str):
            yield _Wanted(name, value, frozenset())
            continue
        for each in table.tables(key) if isinstance(value, list) else (table.table(key),):
            if optional is not None and each.is_true("optional") and name not in optional:
                continue
            python, platform = each.text("python"), each.text("platform")
            if python is not None and not allows(python, target.python_full_version, is_python=True):
                continue
            if platform is not None and platform != target.markers["sys_platform"]:
                continue
            if _holds(each.text("markers"), target, extras):
                asked = frozenset(canonicalize_name(extra) for extra in each.texts("extras"))
                yield _Wanted(name, each.text("version") or "*", asked)


def _requirement_name(text: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", text)
    return found[0] if found else text


# --- where the files lie


def index_name(reference: str) -> str:
    """Write the name of a source so that two spellings of it are one."""
    return re.sub(r"[^A-Za-z0-9]+", "-", reference).strip("-").lower()


def _with_locked(indexes: Indexes, entries: Sequence[_Entry]) -> Indexes:
    """Add the sources that only the lock names, such as one from a user's own configuration."""
    named = dict(indexes.named)
    for entry in entries:
        source = entry.table.table("source")
        if source.text("type") == "legacy" and entry.package.index is not None:
            url = without_credentials(source.required("url"))
            named.setdefault(entry.package.index, Index(name=source.text("reference"), url=url))
    return replace(indexes, named=named)


def _credentials(reference: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return user and password from `POETRY_HTTP_BASIC_*` or Poetry's `auth.toml`."""
    variable = "POETRY_HTTP_BASIC_" + re.sub(r"[^A-Z0-9]", "_", reference.upper())
    user = environment.get(f"{variable}_USERNAME")
    if user is not None:
        return user, environment.get(f"{variable}_PASSWORD", "")
    folder = environment.get("POETRY_CONFIG_DIR")
    if folder is None:
        from platformdirs import user_config_path

        file = user_config_path("pypoetry", appauthor=False, roaming=True) / "auth.toml"
    else:
        from pathlib import Path

        file = Path(folder) / "auth.toml"
    if not file.is_file():
        return None
    kept = load(file).table("http-basic", reference)
    return (kept.required("username"), kept.text("password") or "") if "username" in kept else None


def with_credentials(url: str, credentials: tuple[str, str] | None) -> str:
    """Put a login into `url`, unless it has one."""
    parts = urlsplit(url)
    if credentials is None or parts.username:
        return url
    user, password = (quote(text, safe="") for text in credentials)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))
