"""Flags, environment and `[tool.manylambda]`, decided once into one frozen value.

`FIELDS` is the one table of settings: reading, the environment, the documentation and the JSON schema derive from it
(`tools/generate_configuration.py`). Nothing here reads a lock, a source file or the network.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from manylambda.errors import RequestError
from manylambda.sources import FileRules, SourceFolder
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from manylambda.audits.findings import Ignore
    from manylambda.locks.model import ResolveOptions
    from manylambda.locks.settings import IndexSettings
    from manylambda.sdists.model import BuildSettings

PREFIX: Final = "MANYLAMBDA_"
_OTHER_VARIABLES: Final = frozenset({"MANYLAMBDA_CACHE_DIR"})
_PYPROJECT: Final = "pyproject.toml"
_OWN_FILE: Final = "manylambda.toml"


class Shape(Enum):
    """What a setting looks like; the value is how the documentation says it."""

    TARGETS = "list of targets"
    NAMES = "list of names"
    PATHS = "list of paths"
    GLOBS = "list of patterns"
    SOURCES = "list of folders, or table of folders"
    IGNORES = "list of rules, each with what it is about and why"
    PATH = "path"
    TEXT = "text"
    CHOICE = "one word"
    COUNT = "number"
    SWITCH = "true or false"
    AUTO_SWITCH = '"auto", true or false'

    @property
    def is_list(self) -> bool:
        """Whether a flag of it may be given several times."""
        return self in {Shape.TARGETS, Shape.NAMES, Shape.PATHS, Shape.GLOBS, Shape.SOURCES, Shape.IGNORES}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One setting, in every place it can be given."""

    key: str
    """In `[tool.manylambda]`; a `.` leads into a table."""
    attribute: str
    """In `Settings`, and in the mapping of flags."""
    flag: str
    shape: Shape
    default: str
    """As the documentation says it."""
    summary: str
    """What it does, in one sentence without a full stop."""
    example: str
    """A value as TOML."""
    choices: tuple[str, ...] = ()
    former: str | None = None
    """The key it had before, which is still read."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return _variable(self.key)

    @property
    def former_variable(self) -> str | None:
        """The environment variable it had before."""
        return _variable(self.former) if self.former else None


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").replace("-", "_").upper()


FIELDS: Final = (
    Field(
        key="targets", attribute="targets", flag="--target", shape=Shape.TARGETS, default="none: one must be given",
        summary="Runtime and architecture of each package to make", example='["python3.13-arm64", "python3.12-x86_64"]',
    ),
    Field(
        key="kind", attribute="kind", flag="--kind", shape=Shape.CHOICE, default='"zip"',
        choices=("zip", "layer", "dir"), summary="A function's zip, a layer with its dependencies, or a folder",
        example='"layer"',
    ),
    Field(
        key="output", attribute="output", flag="--output", shape=Shape.PATH, default='"dist"',
        summary="The folder packages are written to; it is never part of a package", example='"build/lambda"',
    ),
    Field(
        key="name", attribute="name", flag="--name", shape=Shape.TEXT,
        default="the name in `pyproject.toml`, or of the folder",
        summary="The first part of the file name of a package", example='"orders-api"',
    ),
    Field(
        key="requirements", attribute="requirements", flag="--requirement", shape=Shape.PATHS,
        default="the project's own files",
        summary="Requirements files that are used instead of what the project has; `-` is standard input",
        example='["requirements/lambda.txt"]',
    ),
    Field(
        key="lock", attribute="lock", flag="--lock", shape=Shape.PATH, default="the most exact lock of the project",
        summary="The lock to honour", example='"pylock.lambda.toml"',
    ),
    Field(
        key="lock-output", attribute="lock_output", flag="--output", shape=Shape.PATH,
        default='"pylock.toml"', summary="The file `manylambda lock` writes", example='"pylock.lambda.toml"',
    ),
    Field(
        key="extras", attribute="extras", flag="--extra", shape=Shape.NAMES, default="[]",
        summary="Extras of the project whose dependencies are shipped too", example='["postgres"]',
    ),
    Field(
        key="groups", attribute="groups", flag="--group", shape=Shape.NAMES, default="[]",
        summary="Dependency groups of the project that are shipped too", example='["lambda"]',
    ),
    Field(
        key="exclude-distributions", attribute="exclude", flag="--exclude", shape=Shape.NAMES, default="[]",
        summary="Distributions that are left out, with what only they need", example='["boto3", "pandas-stubs"]',
    ),
    Field(
        key="exclude-provided", attribute="exclude_provided", flag="--exclude-provided", shape=Shape.SWITCH,
        default="false", summary="Leave out what the runtime already has, such as boto3", example="true",
    ),
    Field(
        key="layer-layout", attribute="layer_layout", flag="--layer-layout", shape=Shape.CHOICE, default='"python"',
        choices=("python", "site-packages"),
        summary="Where a layer holds its files: `python/` or `python/lib/python3.X/site-packages/`",
        example='"site-packages"',
    ),
    Field(
        key="layers", attribute="layers", flag="--layer", shape=Shape.PATHS, default="[]",
        summary="Zips of the layers the function is used with: searched by the audit and counted to the size limit",
        example='["dist/common-layer-python3.13-arm64.zip"]',
    ),
    Field(
        key="scripts", attribute="scripts", flag="--scripts", shape=Shape.SWITCH, default="false",
        summary="Ship the console scripts of distributions in `bin/`", example="true",
    ),
    Field(
        key="package", attribute="package", flag="--package", shape=Shape.AUTO_SWITCH, default='"auto"',
        summary="Whether the project itself is built into a wheel; `auto`: when it says it is a package",
        example="false",
    ),
    Field(
        key="allow-sdist", attribute="allow_sdist", flag="--allow-sdist", shape=Shape.NAMES, default="[]",
        summary="Distributions that may be built from source; `all` for any", example='["odd-package"]',
    ),
    Field(
        key="allow-linux-wheels", attribute="allow_linux_wheels", flag="--allow-linux-wheels", shape=Shape.SWITCH,
        default="false", summary="Accept wheels tagged `linux_x86_64` or `linux_aarch64`; the audit decides then",
        example="true",
    ),
    Field(
        key="handler", attribute="handler", flag="--handler", shape=Shape.TEXT, default="not checked",
        summary="What Lambda will call; the audit looks for it", example='"app.lambda_handler"',
    ),
    Field(
        key="audit", attribute="audit", flag="--no-audit", shape=Shape.SWITCH, default="true",
        summary="Check that a package will load before it is written", example="false",
    ),
    Field(
        key="audit.fail-on", attribute="fail_on", flag="--fail-on", shape=Shape.CHOICE, default='"error"',
        choices=("error", "warning"), summary="The severity of a finding that ends in exit status 1",
        example='"warning"', former="fail-on",
    ),
    Field(
        key="audit.ignore", attribute="ignore", flag="--ignore", shape=Shape.IGNORES, default="[]",
        summary="Findings that do not count: a rule, or `RULE:GLOB` for its findings about a distribution or path",
        example='["executable-stack", { rule = "library-missing", match = "lightgbm", reason = "we add libgomp" }]',
    ),
    Field(
        key="trial", attribute="trial", flag="--trial", shape=Shape.SWITCH, default="false",
        summary="Import every module of a package that was written, in an execution environment", example="true",
    ),
    Field(
        key="offline", attribute="offline", flag="--offline", shape=Shape.SWITCH, default="false",
        summary="Use only what is in the cache", example="true",
    ),
    Field(
        key="jobs", attribute="jobs", flag="--jobs", shape=Shape.COUNT, default="the number of processors",
        summary="How many packages are made at once, at most", example="4",
    ),
    Field(
        key="files.sources", attribute="files_sources", flag="--source", shape=Shape.SOURCES,
        default="the project folder, or its `src`",
        summary="Folders that become the root of the package, or a folder in it",
        example='["src", { from = "../shared/common", to = "common" }]',
    ),
    Field(
        key="files.include", attribute="files_include", flag="--include-files", shape=Shape.GLOBS, default="[]",
        summary="Files that are taken although .gitignore or a default leaves them out",
        example='["models/**", "/settings.env"]',
    ),
    Field(
        key="files.exclude", attribute="files_exclude", flag="--exclude-files", shape=Shape.GLOBS, default="[]",
        summary="Files that are left out, whatever else is said", example='["*.md", "/docs/"]',
    ),
    Field(
        key="files.executable", attribute="files_executable", flag="--executable", shape=Shape.GLOBS, default="[]",
        summary="Files with mode 0755 although they neither begin with `#!` nor are ELF files", example='["bin/*"]',
    ),
)  # fmt: skip

_BY_KEY: Final = {field.key: field for field in FIELDS}
_FORMER: Final = {field.former: field for field in FIELDS if field.former}
_TABLES: Final = frozenset(field.key.partition(".")[0] for field in FIELDS if "." in field.key)
_MEANT: Final = {
    "exclude": "`exclude-distributions` leaves out distributions, `files.exclude` leaves out files",
    "include": "did you mean `files.include`?",
    "sources": "did you mean `files.sources`?",
    "executable": "did you mean `files.executable`?",
    "files.exclude-files": "did you mean `files.exclude`?",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything a build does not find out by itself. Paths are absolute."""

    project: Path
    targets: tuple[Target, ...]
    """At least one, without duplicates, in the order given."""
    name: str
    output: Path
    kind: Literal["zip", "layer", "dir"] = "zip"
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
    allow_sdist: tuple[str, ...] = ()
    """Normalised names, or `all`."""
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

    def build_settings(self, indexes: IndexSettings) -> BuildSettings:
        """Return what the room of source distributions is told; `indexes` are where build requirements come from."""
        from manylambda.sdists.model import BuildSettings

        return BuildSettings(offline=self.offline, indexes=indexes)

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


def load(project: Path, environment: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """Decide the settings of a project: flags before environment before the project's file.

    `flags` has what was given only, by `Field.attribute`. Paths of flags and environment are relative to the working
    directory, those of the file to the project. A list is replaced, never added to. Raises `RequestError` that tells
    all that is wrong at once.
    """
    folder = _folder(project)
    problems = _Problems()
    document, file, given = _given(folder, environment, flags, problems)
    if not given.get("targets") and not problems:
        problems.add(*_NO_TARGET)
    problems.raise_if_any()
    return _settings(folder, document, file, given)


def load_audit(project: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> AuditSettings:
    """Decide what `manylambda audit` is told of a package that need not be the project's; see `load`.

    Without a `project` flags alone count. Raises `RequestError` also where there is not exactly one target.
    """
    problems = _Problems()
    file: Path | None = None
    if project is not None:
        _, file, given = _given(_folder(project), environment, flags, problems)
    else:
        here = Path.cwd()
        given = dict(_from_flags(flags, _Reader(problems, here, here)))
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
        raise RequestError(f"the project is not a folder: `{project}`")
    return folder


def _given(
    folder: Path, environment: Mapping[str, str], flags: Mapping[str, object], problems: _Problems
) -> tuple[Mapping[str, Any], Path | None, dict[str, Any]]:
    """Return the project's `pyproject.toml`, the file that has settings, and what all places together give."""
    document = _document(folder / _PYPROJECT)
    file, table, place = _own_table(folder, document)
    here = Path.cwd()
    given: dict[str, Any] = {}
    given.update(_from_file(table, place, _Reader(problems, folder, folder)))
    given.update(_from_environment(environment, _Reader(problems, here, folder)))
    given.update(_from_flags(flags, _Reader(problems, here, folder)))
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
            name=name,
        ),
        **given,
    )


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
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"`{path}` is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from error


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}


def _own_table(folder: Path, document: Mapping[str, Any]) -> tuple[Path | None, object, _Place]:
    """Return the file that has settings, the settings, and where they stand."""
    own = folder / _OWN_FILE
    tool = _table(document, "tool")
    if not own.exists():
        file = folder / _PYPROJECT if "manylambda" in tool else None
        place = _Place("`tool.manylambda", "` in `pyproject.toml`", has_keys=True)
        return file, tool.get("manylambda", {}), place
    if "manylambda" in tool:
        raise RequestError(
            "`manylambda.toml` and `tool.manylambda` in `pyproject.toml` both have settings",
            hint="keep one of them",
        )
    return own, _document(own), _Place("`", "` in `manylambda.toml`", has_keys=True)


def _from_file(table: object, place: _Place, reader: _Reader) -> Iterator[tuple[str, Any]]:
    if not isinstance(table, dict):
        reader.problems.add(f"{place()} must be a table, not {_kind(table)}")
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
            reader.problems.add(f"{here()} must be {switch}a table, not {_kind(value)}")
        elif key in _FORMER and _has(table, _FORMER[key].key):
            reader.problems.add(f"{here()} is the same as `{_FORMER[key].key}`, and both are given", "keep the latter")
        else:
            yield from _from_key(key, value, here, reader)


def _has(table: Mapping[str, Any], key: str) -> bool:
    owner, _, name = key.partition(".")
    return name in _table(table, owner)


def _from_key(key: str, value: object, place: _Place, reader: _Reader) -> Iterator[tuple[str, Any]]:
    found = _BY_KEY.get(key) or _FORMER.get(key)
    if found is None:
        reader.problems.add(f"{place()} is not a setting", _meant(key, _BY_KEY))
    else:
        yield from reader.read(found, value, place)


def _from_environment(environment: Mapping[str, str], reader: _Reader) -> Iterator[tuple[str, Any]]:
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
            value = _from_text(found, environment[variable])
            yield from reader.read(found, value, _Place(f"`{variable}"))
        elif meant := _nearest(variable.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in by_variable]):
            # A variable that resembles none of ours may belong to somebody else's script.
            reader.problems.add(f"`{variable}` is not a setting", f"did you mean `{PREFIX}{meant}`?")


def _from_flags(flags: Mapping[str, object], reader: _Reader) -> Iterator[tuple[str, Any]]:
    by_attribute = {one.attribute: one for one in FIELDS}
    for attribute, value in flags.items():
        found = by_attribute.get(attribute)
        if found is None:
            raise RequestError(f"`{attribute}` is not a setting", hint=_meant(attribute, by_attribute))
        if isinstance(value, (list, tuple)):
            value = [_source_from_text(one) if found.shape is Shape.SOURCES else _as_text(one) for one in value]  # noqa: PLW2901
        elif not isinstance(value, (bool, int)):
            value = _from_text(found, _as_text(value), is_flag=True)  # noqa: PLW2901
        yield from reader.read(found, value, _Place(f"`{found.flag}"))


def _as_text(value: object) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value) if isinstance(value, Target) else value


def _from_text(found: Field, text: Any, *, is_flag: bool = False) -> object:
    """Turn text of the environment or of a flag into what TOML would have."""
    if not isinstance(text, str):
        return text
    match found.shape:
        case Shape.TARGETS | Shape.NAMES:
            return [word for word in re.split(r"[,\s]+", text) if word]
        case Shape.PATHS | Shape.GLOBS | Shape.IGNORES:
            return [text] if is_flag else [part.strip() for part in text.split(",") if part.strip()]
        case Shape.SOURCES:
            parts = [text] if is_flag else [part.strip() for part in text.split(",") if part.strip()]
            return [_source_from_text(part) for part in parts]
        case Shape.COUNT:
            return int(text) if text.strip().isascii() and text.strip().isdecimal() else text
        case Shape.SWITCH | Shape.AUTO_SWITCH:
            return _SWITCHES.get(text.strip().lower(), text)
        case _:
            return text.strip()


_SWITCHES: Final = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip


def _source_from_text(text: Any) -> object:
    """Read `FROM` or `FROM=TO`."""
    if not isinstance(text, str) or "=" not in text:
        return text
    start, _, to = text.rpartition("=")
    return {"from": start, "to": to}


# What a setting may be


class _Place(NamedTuple):
    """Where a value stands, as the user is told of it."""

    before: str
    after: str = "`"
    has_keys: bool = False
    """Whether a path of keys leads into the value."""

    def __call__(self, path: str = "") -> str:
        return self.before + (path if self.has_keys else "") + self.after


class _Wrong(Exception):
    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Problems:
    """Collects what is wrong, to tell it all at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str | None]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, message: str, hint: str | None = None) -> None:
        self._found.append((message, hint))

    def raise_if_any(self) -> None:
        if not self._found:
            return
        message = "; ".join(message for message, _ in self._found)
        if len(self._found) > 1:
            message = f"{len(self._found)} settings are wrong: {message}"
        raise RequestError(message, hint="; ".join(dict.fromkeys(hint for _, hint in self._found if hint)) or None)


class _Reader:
    """Reads values given in one place: paths in it are relative to `base`."""

    def __init__(self, problems: _Problems, base: Path, project: Path) -> None:
        self.problems = problems
        self._base = base
        self._project = project

    def read(self, found: Field, value: object, label: _Place) -> Iterator[tuple[str, Any]]:
        """Yield the attribute and its value, or note what is wrong with it."""
        try:
            yield found.attribute, self._value(found, value, label)
        except _Wrong as wrong:
            self.problems.add(wrong.message, wrong.hint)

    def _value(self, found: Field, value: object, label: _Place) -> object:
        match found.shape:
            case Shape.TARGETS:
                return self._list(value, label, _target)
            case Shape.NAMES:
                return tuple(sorted(self._list(value, label, _name)))
            case Shape.PATHS:
                return self._list(value, label, self._path)
            case Shape.GLOBS:
                return self._list(value, label, _text)
            case Shape.SOURCES:
                return self._sources(value, label)
            case Shape.IGNORES:
                return self._list(value, label, _ignore)
            case Shape.PATH:
                return self._path(value, label())
            case Shape.TEXT:
                text = _text(value, label())
                return _handler(text, label()) if found.attribute == "handler" else _safe_name(text, label())
            case Shape.CHOICE:
                return _choice(value, label(), found.choices)
            case Shape.COUNT:
                return _count(value, label())
            case Shape.SWITCH:
                return _switch(value, label())
            case Shape.AUTO_SWITCH:
                return value if value == "auto" else _switch(value, label(), or_auto=True)

    def _list(self, value: object, label: _Place, read: Callable[[object, str], Any]) -> tuple[Any, ...]:
        if not isinstance(value, list):
            hint = f'write it as `["{value}"]`' if isinstance(value, str) else None
            raise _Wrong(f"{label()} must be a list, not {_kind(value)}", hint)
        items: list[Any] = []
        for number, one in enumerate(value):
            try:
                items.append(read(one, label(f"[{number}]")))
            except _Wrong as wrong:
                self.problems.add(wrong.message, wrong.hint)
        return tuple(dict.fromkeys(items))

    def _path(self, value: object, label: str) -> Path:
        text = _text(value, label)
        # Not resolved: what a link is called is what the user knows.
        return Path(text) if text == "-" else Path(os.path.abspath(self._base / text))  # noqa: PTH100

    def _sources(self, value: object, label: _Place) -> tuple[SourceFolder, ...]:
        if isinstance(value, dict):
            pairs = [(start, to, f".{start}") for start, to in value.items()]
            return tuple(self._source(start, to, label(path)) for start, to, path in pairs)
        return self._list(value, label, self._source_item)

    def _source_item(self, value: object, label: str) -> SourceFolder:
        if isinstance(value, str):
            return self._source(value, "", label)
        if not isinstance(value, dict) or not value.keys() <= {"from", "to"} or "from" not in value:
            raise _Wrong(
                f"{label} must be a path, or a table of `from` and `to`", 'such as `{ from = "src", to = "" }`'
            )
        return self._source(value["from"], value.get("to", ""), label)

    def _source(self, start: object, to: object, label: str) -> SourceFolder:
        path = _text(start, label)
        if not isinstance(to, str):
            raise _Wrong(f"{label} must lead to text, not {_kind(to)}")
        parts = [part for part in to.replace("\\", "/").split("/") if part not in {"", "."}]
        if to.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
            raise _Wrong(
                f"{label} leads out of the package: `{to}`", "name a folder in the package, or nothing for its root"
            )
        if self._base != self._project:
            try:
                path = os.path.relpath(self._base / path, self._project)
            except ValueError:  # another drive
                path = str(self._base / path)
        return SourceFolder(path=Path(path), to="/".join(parts))


def _text(value: object, label: str) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{label} must be text, not {_kind(value)}")
    if not value.strip():
        raise _Wrong(f"{label} is empty")
    return value


def _target(value: object, label: str) -> Target:
    try:
        return Target.parse(_text(value, label))
    except RequestError as error:
        raise _Wrong(f"{label}: {error.message}", error.hint) from error


def _ignore(value: object, label: str) -> Ignore:
    """Read `RULE`, `RULE:GLOB` or a table of `rule`, `match` and `reason`."""
    from manylambda.audits.findings import Ignore  # costs a command that ignores nothing more than all else here

    if isinstance(value, Ignore):
        value = {"rule": value.rule, "match": value.glob, "reason": value.reason}
        value = {key: one for key, one in value.items() if one is not None}
    elif isinstance(value, str):
        rule, colon, match = value.partition(":")
        value = {"rule": rule.strip()} | ({"match": match.strip()} if colon else {})
    if not isinstance(value, dict) or "rule" not in value or not value.keys() <= {"rule", "match", "reason"}:
        raise _Wrong(
            f"{label} must be a rule, or a table of `rule`, `match` and `reason`",
            'such as `{ rule = "library-missing", match = "lightgbm", reason = "we add libgomp" }`',
        )
    told = {key: _text(one, f"{label} (`{key}`)") for key, one in value.items()}
    known = _rules()
    if told["rule"] not in known:
        nearest = _nearest(told["rule"], known, at_least=0.5)
        listed = "the rules are " + ", ".join(f"`{one}`" for one in known)
        raise _Wrong(f"{label}: `{told['rule']}` is not a rule", f"did you mean `{nearest}`?" if nearest else listed)
    return Ignore(told["rule"], told.get("match"), told.get("reason"))


def _rules() -> list[str]:
    """Return the rules by the names of their pages: the rules themselves are on this floor."""
    from importlib.resources import files

    pages = files("manylambda").joinpath("data", "rules").iterdir()
    return sorted(page.name.removesuffix(".md") for page in pages if page.name.endswith(".md"))


def _name(value: object, label: str) -> str:
    text = _text(value, label)
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise _Wrong(f"{label} is not a name: `{text}`")
    return re.sub(r"[-_.]+", "-", text).lower()


def _safe_name(text: str, label: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise _Wrong(f"{label} must be letters, digits, `.`, `_` and `-`: `{text}`")
    return text


def _handler(text: str, label: str) -> str:
    if not re.fullmatch(r"[\w/.-]*\w\.\w+", text):
        raise _Wrong(f"{label} is not a handler: `{text}`", "write it as `module.function`")
    return text


def _choice(value: object, label: str, choices: Sequence[str]) -> str:
    if value not in choices:
        shown = f"`{value}`" if isinstance(value, str) else _kind(value)
        raise _Wrong(f"{label} must be one of {', '.join(f'`{choice}`' for choice in choices)}, not {shown}")
    return str(value)


def _count(value: object, label: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(f"{label} must be a number, not {_kind(value)}")
    if value < 1:
        raise _Wrong(f"{label} must be at least 1: `{value}`")
    return value


def _switch(value: object, label: str, *, or_auto: bool = False) -> bool:
    if not isinstance(value, bool):
        words = "`auto`, true or false" if or_auto else "true or false"
        raise _Wrong(f"{label} must be {words}, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    """Name the type of a TOML value, with the value where it is short."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"a number: `{value}`"
        case str():
            return f"text: `{value}`"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def _meant(key: str, known: Mapping[str, Field]) -> str:
    """Say what an unknown key was probably meant to be."""
    if key in _MEANT:
        return _MEANT[key]
    nearest = _nearest(key.replace("_", "-"), known)
    return f"did you mean `{nearest}`?" if nearest else "the settings are " + ", ".join(f"`{one}`" for one in known)


def _nearest(word: str, known: Iterable[str], at_least: float = 0.8) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1, at_least)), None)
