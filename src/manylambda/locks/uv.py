"""Reads `uv.lock`: uv converts it, and whether it still matches its `pyproject.toml` is judged here.

uv's own check (`--locked`) needs an interpreter that satisfies `requires-python`, which a host need not have, and may
ask the index. What the lock records of each local package is compared instead, as seen by the targets: a difference
that no target can see (a dependency for Windows) makes no lock outdated.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import LockOutdated, RequestError, ResolutionError
from manylambda.locks.documents import Table, load
from manylambda.locks.program import run_uv
from manylambda.locks.pylock import parse
from manylambda.locks.pyproject import Pyproject, checked_names, parse_requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.locks.model import ResolveOptions, Source
    from manylambda.target import Target

HINT: Final = "run `uv lock`"
_LOCAL: Final = ("editable", "directory", "virtual")


def read(source: Source, targets: Sequence[Target], options: ResolveOptions) -> Pylock:
    """Convert the `uv.lock` of `source` for its project, with the extras and groups of `options`.

    No network and no interpreter are needed. Groups that uv installs by default (`dev`) are left out unless asked for.
    LockOutdated when the lock does not match; RequestError for an unknown extra or group.
    """
    lock = load(source.files[0])
    project = Pyproject.load(source.project)
    _check_version(lock)
    _check_fresh(lock, project, targets, options)
    checked_names("extra", options.extras, project.extras)
    checked_names("group", options.groups, project.groups)

    arguments = ["export", "--format", "pylock.toml", "--frozen", "--no-default-groups", "--no-header"]
    for extra in sorted(options.extras):
        arguments += ["--extra", extra]
    for group in sorted(options.groups):
        arguments += ["--group", group]
    outcome = run_uv(arguments, folder=source.project, options=options, is_offline=True)
    if outcome.returncode:
        raise ResolutionError(f"uv cannot read `uv.lock`: {outcome.reason}")
    return parse(tomllib.loads(outcome.stdout), name="uv.lock")


def _check_version(lock: Table) -> None:
    if lock.get("version") != 1:
        raise RequestError(
            f"`uv.lock` has an unknown format version: {lock.get('version')}", hint="upgrade manylambda and uv"
        )


class _Direct(NamedTuple):
    """A dependency a local package names itself, as one target sees it."""

    name: str
    extras: tuple[str, ...]
    specifier: str
    kind: str
    """Where from: `index`, `local`, `url`, `git`."""


def _check_fresh(lock: Table, project: Pyproject, targets: Sequence[Target], options: ResolveOptions) -> None:
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    root = lock.file.parent
    packages: dict[str, tuple[Table, Path]] = {}
    for package in lock.tables("package"):
        place = next((package.table("source").text(key) for key in _LOCAL if key in package.table("source")), None)
        if place is not None:
            packages[canonicalize_name(package.required("name"))] = (package, (root / place).resolve())

    own = next((name for name, (_, place) in packages.items() if place == project.folder), None)
    if own is None:
        if project.name is None:
            return  # a workspace root without a project: uv exports its members
        raise LockOutdated(f"`uv.lock` does not know the project `{project.name}`", hint=HINT)

    python = SpecifierSet(lock.text("requires-python") or "")
    seen = [target for target in targets if target.python_full_version in python]
    is_alone = len(packages) == 1
    for target in targets:
        wanted = project.requires_python
        if is_alone and wanted and (target.python_full_version in SpecifierSet(wanted)) != (target in seen):
            raise _outdated(project, "requires-python", lock.text("requires-python"), wanted)

    workspace = Pyproject.load(root) if root != project.folder else project
    for target in seen:
        for key, field in (("constraint-dependencies", "constraints"), ("override-dependencies", "overrides")):
            wanted_set = set(_written(workspace.uv.texts(key), target, "", workspace, workspace))
            recorded_set = set(_recorded(lock.table("manifest").tables(field), target, ""))
            _compare(workspace, f"tool.uv.{key}", recorded_set, wanted_set)
        for name in _reachable(own, packages):
            package, folder = packages[name]
            metadata = package.table("metadata")
            local = project if folder == project.folder else Pyproject.load(folder)
            if local.name is not None and not local.has_dynamic_dependencies:
                _compare_package(metadata, local, workspace, target)
            if folder == project.folder:
                for group in sorted(options.groups & local.groups):
                    recorded = metadata.table("requires-dev").tables(group)
                    _compare(
                        local,
                        f"dependency-groups.{group}",
                        set(_recorded(recorded, target, "")),
                        set(_written(local.group_requirements(group), target, "", local, workspace)),
                    )


def _compare_package(metadata: Table, local: Pyproject, workspace: Pyproject, target: Target) -> None:
    requires = metadata.tables("requires-dist")
    for extra in ("", *sorted(local.extras)):
        key = f"project.optional-dependencies.{extra}" if extra else "project.dependencies"
        written = (*local.dependencies, *(local.extra_requirements(extra) if extra else ()))
        _compare(
            local,
            key,
            set(_recorded(requires, target, extra)),
            set(_written(written, target, extra, local, workspace)),
        )


def _compare(project: Pyproject, key: str, recorded: set[_Direct], written: set[_Direct]) -> None:
    if recorded != written:
        changed = sorted({direct.name for direct in recorded ^ written})
        raise LockOutdated(
            f"`uv.lock` does not match `{key}` of `{project.name or project.folder.name}`: "
            + ", ".join(f"`{name}`" for name in changed),
            hint=HINT,
        )


def _outdated(project: Pyproject, key: str, recorded: str | None, written: str) -> LockOutdated:
    return LockOutdated(
        f"`uv.lock` does not match `{key}` of `{project.name}`: `{recorded}` is not `{written}`", hint=HINT
    )


def _reachable(own: str, packages: Mapping[str, tuple[Table, Path]]) -> tuple[str, ...]:
    """Name the local packages that `own` leads to: another member's change is no concern of this build."""
    found: set[str] = set()
    waiting = [own]
    while waiting:
        name = waiting.pop()
        if name in found or name not in packages:
            continue
        found.add(name)
        package = packages[name][0]
        waiting += [entry.required("name") for entry in package.tables("dependencies")]
        for key in ("optional-dependencies", "dev-dependencies"):
            table = package.table(key)
            waiting += [entry.required("name") for group in table for entry in table.tables(group)]
    return tuple(sorted(found))


def _recorded(requires: Iterable[Table], target: Target, extra: str) -> Iterator[_Direct]:
    """Yield the dependencies as the lock has them."""
    from packaging.markers import Marker
    from packaging.utils import canonicalize_name

    environment = {**target.markers, "extra": extra}
    for requirement in requires:
        marker = requirement.text("marker")
        if marker is not None and not Marker(marker).evaluate(environment):
            continue
        kind = next(
            (kind for key, kind in _RECORDED_KINDS.items() if key in requirement),
            "index",
        )
        yield _Direct(
            canonicalize_name(requirement.required("name")),
            tuple(sorted(requirement.texts("extras"))),
            _specifier(requirement.text("specifier") or "") if kind == "index" else "",
            kind,
        )


_RECORDED_KINDS: Final = {
    "editable": "local",
    "directory": "local",
    "virtual": "local",
    "path": "local",
    "url": "url",
    "git": "git",
}


def _written(
    requirements: Iterable[str], target: Target, extra: str, project: Pyproject, workspace: Pyproject
) -> Iterator[_Direct]:
    """Yield the dependencies as `pyproject.toml` has them, with `[tool.uv.sources]` applied."""
    from packaging.utils import canonicalize_name

    environment = {**target.markers, "extra": extra}
    for text in requirements:
        requirement = parse_requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        kind = _source_kind(name, environment, project, workspace) or _url_kind(requirement.url)
        yield _Direct(
            name,
            tuple(sorted(canonicalize_name(extra) for extra in requirement.extras)),
            _specifier(str(requirement.specifier)) if kind == "index" else "",
            kind,
        )


def _specifier(text: str) -> str:
    """Write a specifier so that equal ones are equal text."""
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_version

    # Trailing zeros say nothing, but for `~=1.0`, which is not `~=1`.
    return ",".join(
        sorted(
            part.operator + canonicalize_version(part.version, strip_trailing_zero=part.operator != "~=")
            for part in SpecifierSet(text)
        )
    )


def _source_kind(name: str, environment: Mapping[str, str], project: Pyproject, workspace: Pyproject) -> str | None:
    """Return where `[tool.uv.sources]` says `name` comes from, for one target; None when it says nothing."""
    from packaging.markers import Marker
    from packaging.utils import canonicalize_name

    for owner in (project, workspace):
        sources = owner.uv.table("sources")
        for key in sources:
            if canonicalize_name(key) != name:
                continue
            value = sources.get(key)
            entries = sources.tables(key) if isinstance(value, list) else (sources.table(key),)
            for entry in entries:
                marker = entry.text("marker")
                if marker is not None and not Marker(marker).evaluate(dict(environment)):
                    continue
                if "git" in entry:
                    return "git"
                if "url" in entry:
                    return "url"
                if "path" in entry or "workspace" in entry:
                    return "local"
            return "index"
    return None


def _url_kind(url: str | None) -> str:
    if url is None:
        return "index"
    if url.startswith("git+"):
        return "git"
    return "local" if url.startswith("file:") else "url"
