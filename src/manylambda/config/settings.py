"""Flags, environment and `[tool.manylambda]`, decided once into one frozen value.

Nothing here reads a lock, a source file or the network.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from manylambda.config.fields import FIELDS, PREFIX, Shape
from manylambda.config.values import (
    Place,
    Problems,
    Reader,
    as_text,
    from_text,
    kind,
    meant,
    nearest,
    pairs_from_text,
    source_from_text,
    tables_from_text,
)
from manylambda.errors import RequestError
from manylambda.sources import FileRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.audits.findings import Ignore
    from manylambda.image.places import ImagePlace
    from manylambda.locks.model import ResolveOptions
    from manylambda.locks.settings import IndexSettings
    from manylambda.sdists.model import BuildSettings
    from manylambda.target import Target

_OTHER_VARIABLES: Final = frozenset({"MANYLAMBDA_CACHE_DIR"})
_PYPROJECT: Final = "pyproject.toml"
_OWN_FILE: Final = "manylambda.toml"
_BY_KEY: Final = {field.key: field for field in FIELDS}
_FORMER: Final = {field.former: field for field in FIELDS if field.former}
_TABLES: Final = frozenset(field.key.partition(".")[0] for field in FIELDS if "." in field.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything a build does not find out by itself. Paths are absolute."""

    project: Path
    targets: tuple[Target, ...]
    """At least one where the settings were loaded for one that needs it, without duplicates, in the order given."""
    name: str
    output: Path
    kind: Literal["zip", "layer", "dir", "image"] = "zip"
    artifact: Path | None = None
    """Where the package is written to; None for a name in `output`."""
    requirements: tuple[Path, ...] = ()
    """`Path("-")` is standard input."""
    lock: Path | None = None
    lock_output: Path | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Normalised names of distributions."""
    exclude_provided: bool = False
    layer_layout: Literal["python", "site-packages"] = "python"
    layers: tuple[Path, ...] = ()
    scripts: bool = False
    package: bool = False
    """Whether the project itself is built into a wheel."""
    engine: Literal["direct", "container"] = "direct"
    """What lays distributions out."""
    allow_sdist: tuple[str, ...] = ()
    """Normalised names, or `all`."""
    sdist_engine: Literal["auto", "zig", "container"] = "auto"
    sdist_image: str | None = None
    sysroot: Path | None = None
    build_constraints: tuple[str, ...] = ()
    config_settings: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)
    """By normalised name of a distribution."""
    build_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By normalised name of a distribution."""
    download_python: bool = False
    image_base: ImagePlace | None = None
    """None for Lambda's own."""
    image_output: ImagePlace | None = None
    """None for a layout in `output`."""
    image_environment: Mapping[str, str] = field(default_factory=dict)
    image_labels: Mapping[str, str] = field(default_factory=dict)
    split_layers: bool = False
    image_manifest: Literal["oci", "docker"] = "oci"
    image_plain_http: bool = False
    allow_linux_wheels: bool = False
    handler: str | None = None
    audit: bool = True
    fail_on: Literal["error", "warning"] = "error"
    ignore: tuple[Ignore, ...] = ()
    trial: bool = False
    offline: bool = False
    jobs: int | None = None
    """None for as many as there are processors."""
    files: FileRules = field(default_factory=FileRules)
    file: Path | None = None
    """Where settings were read from; None when no file has any."""

    def artifact_of(self, target: Target) -> Path | None:
        """Return where the package of one target is written to; None for a name in `output`."""
        return None if self.artifact is None else Path(str(self.artifact).replace("{target}", str(target)))

    def build_settings(self, indexes: IndexSettings) -> BuildSettings:
        """Return what the room of source distributions is told; `indexes` are where build requirements come from."""
        from manylambda.sdists.model import BuildSettings

        engine = self.sdist_engine
        if engine == "auto" and self.engine == "container":
            engine = "container"
        return BuildSettings(
            engine=engine,
            image=self.sdist_image,
            sysroot=self.sysroot,
            constraints=self.build_constraints,
            config_settings=self.config_settings,
            environment=self.build_environment,
            download_python=self.download_python,
            offline=self.offline,
            indexes=indexes,
        )

    def resolve_options(self, environment: Mapping[str, str]) -> ResolveOptions:
        """Return what the lock room is told."""
        from manylambda.locks.model import ResolveOptions

        return ResolveOptions(
            extras=frozenset(self.extras),
            groups=frozenset(self.groups),
            allow_sdists=frozenset(self.allow_sdist),
            allow_linux_wheels=self.allow_linux_wheels,
            offline=self.offline,
            environment=environment,
        )


class AuditSettings(NamedTuple):
    """What an audit of a finished package is told. Paths are absolute."""

    target: Target
    layers: tuple[Path, ...]
    handler: str | None
    ignore: tuple[Ignore, ...]
    fail_on: Literal["error", "warning"]
    offline: bool
    file: Path | None
    """Where settings were read from; None when no file has any."""


def load(
    project: Path, environment: Mapping[str, str], flags: Mapping[str, object], *, needs_target: bool = True
) -> Settings:
    """Decide the settings of a project: flags before environment before the project's file.

    `flags` has what was given only, by `Field.attribute`. Paths of flags and environment are relative to the working
    directory, those of the file to the project. A list is replaced, never added to. Raises `RequestError` that tells
    all that is wrong at once.
    """
    folder = _folder(project)
    problems = Problems()
    document, file, given = _given(folder, environment, flags, problems)
    given.setdefault("targets", ())
    if needs_target and not given["targets"] and not problems:
        problems.add(*_NO_TARGET)
    problems.raise_if_any()
    return _settings(folder, document, file, given)


def load_audit(project: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> AuditSettings:
    """Decide what `manylambda audit` is told of a package that need not be the project's; see `load`.

    Without a `project` flags alone count. Raises `RequestError` also where there is not exactly one target.
    """
    problems = Problems()
    file: Path | None = None
    if project is not None:
        _, file, given = _given(_folder(project), environment, flags, problems)
    else:
        here = Path.cwd()
        given = dict(_from_flags(flags, Reader(problems, here, here)))
    targets: tuple[Target, ...] = given.get("targets", ())
    if not problems and len(targets) != 1:
        if targets:
            several = ", ".join(f"`{target}`" for target in targets)
            problems.add(f"a package is audited for one target, not for {several}", f"name it: `-t {targets[0]}`")
        else:
            problems.add(*_NO_TARGET)
    problems.raise_if_any()
    return AuditSettings(
        target=targets[0],
        layers=given.get("layers", ()),
        handler=given.get("handler"),
        ignore=given.get("ignore", ()),
        fail_on=given.get("fail_on", "error"),
        offline=given.get("offline", False),
        file=file,
    )


def load_settings(project: Path, **flags: object) -> Settings:
    """Decide the settings of a project for a program; keywords stand for flags: `targets=["python3.13-arm64"]`."""
    return load(project, os.environ, flags)


_NO_TARGET: Final = (
    "no target is given",
    'name one, such as `-t python3.13-arm64`, or `targets = ["python3.13-arm64"]`',
)


def _folder(project: Path) -> Path:
    folder = Path(os.path.abspath(project))  # noqa: PTH100 - a link to a project keeps its name
    if not folder.is_dir():
        raise RequestError(f"the project is not a folder: `{project}`", hint="name the folder of the function's code")
    return folder


def _given(
    folder: Path, environment: Mapping[str, str], flags: Mapping[str, object], problems: Problems
) -> tuple[Mapping[str, Any], Path | None, dict[str, Any]]:
    """Return the project's `pyproject.toml`, the file that has settings, and what all places together give."""
    document = _document(folder / _PYPROJECT)
    file, table, place = _own_table(folder, document)
    here = Path.cwd()
    given: dict[str, Any] = {}
    given.update(_from_file(table, place, Reader(problems, folder, folder)))
    given.update(_from_environment(environment, Reader(problems, here, folder)))
    given.update(_from_flags(flags, Reader(problems, here, folder)))
    return document, file, given


def is_package(project: Path) -> bool:
    """Whether the project says it is a package: it has a build system and a name, and no tool is told otherwise."""
    return _is_package(_document(project / _PYPROJECT))


def _is_package(document: Mapping[str, Any]) -> bool:
    tool = _table(document, "tool")
    uv, poetry = _table(tool, "uv"), _table(tool, "poetry")
    if uv.get("package") is False or poetry.get("package-mode") is False:
        return False
    has_builder = "build-system" in document or uv.get("package") is True
    return has_builder and ("project" in document or "name" in poetry)


def _settings(folder: Path, document: Mapping[str, Any], file: Path | None, given: dict[str, Any]) -> Settings:
    name = given.pop("name", None) or _default_name(folder, document)
    output = given.pop("output", None) or folder / "dist"
    package = given.pop("package", "auto")
    if package == "auto":  # a layer holds dependencies; of the project itself only when that is asked for
        package = given.get("kind") != "layer" and _is_package(document)
    return Settings(
        project=folder,
        name=name,
        output=output,
        package=package,
        file=file,
        files=FileRules(
            include=given.pop("files_include", ()),
            exclude=given.pop("files_exclude", ()),
            executable=given.pop("files_executable", ()),
            sources=given.pop("files_sources", None),
            is_package=package,
            output=output,
            artifacts=tuple(_elsewhere(given)),
            name=name,
        ),
        **given,
    )


def _elsewhere(given: Mapping[str, Any]) -> Iterator[Path]:
    """Yield where packages and images are written beside `output`, and what images start from: no part of a package."""
    targets: Sequence[Target] = given.get("targets", ())
    artifact: Path | None = given.get("artifact")
    output: ImagePlace | None = given.get("image_output")
    base: ImagePlace | None = given.get("image_base")
    places = [output.of(target) for target in targets] if output is not None else []
    for place in (*places, *([base] if base is not None else [])):
        if place.path is not None:
            yield place.path
    if artifact is not None:
        yield from (Path(str(artifact).replace("{target}", str(target))) for target in targets)


def _default_name(folder: Path, document: Mapping[str, Any]) -> str:
    named = (
        _table(document, "project").get("name"),
        _table(_table(document, "tool"), "poetry").get("name"),
        folder.name,
    )
    for name in named:
        if isinstance(name, str) and (safe := re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")):
            return safe
    return "function"


# Where settings come from


def _document(path: Path) -> Mapping[str, Any]:
    """Read a TOML file; one that does not exist is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RequestError(f"cannot read `{path}`: {error.strerror}") from error
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise RequestError(f"`{path}` is not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"`{path}` is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from error


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _own_table(folder: Path, document: Mapping[str, Any]) -> tuple[Path | None, object, Place]:
    """Return the file that has settings, the settings, and where they stand."""
    own = folder / _OWN_FILE
    tool = _table(document, "tool")
    if not own.exists():
        file = folder / _PYPROJECT if "manylambda" in tool else None
        place = Place("`tool.manylambda", "` in `pyproject.toml`", has_keys=True)
        return file, tool.get("manylambda", {}), place
    if "manylambda" in tool:
        raise RequestError(
            "`manylambda.toml` and `tool.manylambda` in `pyproject.toml` both have settings",
            hint="keep one of them",
        )
    return own, _document(own), Place("`", "` in `manylambda.toml`", has_keys=True)


def _from_file(table: object, place: Place, reader: Reader) -> Iterator[tuple[str, Any]]:
    if not isinstance(table, dict):
        reader.problems.add(f"{place()} must be a table, not {kind(table)}")
        return
    before = place.before if place.before == "`" else place.before + "."
    for key, value in table.items():
        here = place._replace(before=before + key)
        if key in _TABLES and isinstance(value, dict):
            for inner, one in value.items():
                dotted = f"{key}.{inner}"
                yield from _from_key(dotted, one, place._replace(before=before + dotted), reader)
        elif key in _TABLES and not (key in _BY_KEY and isinstance(value, bool)):
            switch = "true, false or " if key in _BY_KEY else ""
            reader.problems.add(f"{here()} must be {switch}a table, not {kind(value)}")
        elif key in _FORMER and _has(table, _FORMER[key].key):
            reader.problems.add(f"{here()} is the same as `{_FORMER[key].key}`, and both are given", "keep the latter")
        else:
            yield from _from_key(key, value, here, reader)


def _has(table: Mapping[str, Any], key: str) -> bool:
    owner, _, name = key.partition(".")
    return name in _table(table, owner)


def _from_key(key: str, value: object, place: Place, reader: Reader) -> Iterator[tuple[str, Any]]:
    found = _BY_KEY.get(key) or _FORMER.get(key)
    if found is None:
        reader.problems.add(f"{place()} is not a setting", meant(key, _BY_KEY))
    else:
        yield from reader.read(found, value, place)


def _from_environment(environment: Mapping[str, str], reader: Reader) -> Iterator[tuple[str, Any]]:
    by_variable = {one.variable: one for one in FIELDS}
    formerly = {one.former_variable: one for one in FIELDS if one.former_variable}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES or not environment[variable].strip():
            continue
        found = by_variable.get(variable)
        if found is None and (found := formerly.get(variable)) and environment.get(found.variable, "").strip():
            reader.problems.add(
                f"`{variable}` is the same as `{found.variable}`, and both are given", "keep the latter"
            )
        elif found is not None:
            value = from_text(found, environment[variable])
            yield from reader.read(found, value, Place(f"`{variable}"))
        elif meant := nearest(variable.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in by_variable]):
            # A variable that resembles none of ours may belong to somebody else's script.
            reader.problems.add(f"`{variable}` is not a setting", f"did you mean `{PREFIX}{meant}`?")


def _from_flags(flags: Mapping[str, object], reader: Reader) -> Iterator[tuple[str, Any]]:
    by_attribute = {one.attribute: one for one in FIELDS}
    for attribute, value in flags.items():
        found = by_attribute.get(attribute)
        if found is None:
            raise RequestError(f"`{attribute}` is not a setting", hint=meant(attribute, by_attribute))
        if isinstance(value, (list, tuple)):
            if found.shape is Shape.TABLES:
                value = tables_from_text(value)  # noqa: PLW2901
            elif found.shape is Shape.PAIRS:
                value = pairs_from_text(value)  # noqa: PLW2901
            else:
                value = [source_from_text(one) if found.shape is Shape.SOURCES else as_text(one) for one in value]  # noqa: PLW2901
        elif not isinstance(value, (bool, int, dict)):
            value = from_text(found, as_text(value), is_flag=True)  # noqa: PLW2901
        yield from reader.read(found, value, Place(f"`{found.flag}"))
