"""What a setting may be: values of files, flags and the environment, checked, with all that is wrong told at once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.config.fields import Shape
from manylambda.errors import RequestError
from manylambda.sources import SourceFolder
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from manylambda.audits.findings import Ignore
    from manylambda.config.fields import Field
    from manylambda.image.places import ImagePlace


def as_text(value: object) -> Any:
    """Turn a path or a target that a program gives into text."""
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value) if isinstance(value, Target) else value


def from_text(found: Field, text: Any, *, is_flag: bool = False) -> object:
    """Turn text of the environment or of a flag into what TOML would have."""
    if not isinstance(text, str):
        return text
    match found.shape:
        case Shape.TARGETS | Shape.NAMES:
            return [word for word in re.split(r"[,\s]+", text) if word]
        case Shape.TABLES:
            return tables_from_text([text] if is_flag else [part.strip() for part in text.split(",") if part.strip()])
        case Shape.PAIRS:
            return pairs_from_text([text] if is_flag else [part.strip() for part in text.split(",") if part.strip()])
        case Shape.PATHS | Shape.GLOBS | Shape.IGNORES | Shape.REQUIREMENTS:
            return [text] if is_flag else [part.strip() for part in text.split(",") if part.strip()]
        case Shape.SOURCES:
            parts = [text] if is_flag else [part.strip() for part in text.split(",") if part.strip()]
            return [source_from_text(part) for part in parts]
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


def source_from_text(text: Any) -> object:
    """Read `FROM` or `FROM=TO`."""
    if not isinstance(text, str) or "=" not in text:
        return text
    start, _, to = text.rpartition("=")
    return {"from": start, "to": to}


def tables_from_text(texts: Sequence[Any]) -> object:
    """Read `NAME:KEY=VALUE`, of which a key that is there twice makes a list; give back what cannot be read."""
    read: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = re.fullmatch(r"([^:=]+):([^=]+)=(.*)", text, re.DOTALL) if isinstance(text, str) else None
        if match is None:
            return text
        own, key = read.setdefault(match[1].strip(), {}), match[2].strip()
        known = own.get(key)
        own[key] = match[3] if known is None else [*([known] if isinstance(known, str) else known), match[3]]
    return read


def pairs_from_text(texts: Sequence[Any]) -> object:
    """Read `KEY=VALUE`; give back what cannot be read."""
    read: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not key.strip() or not equals:
            return text
        read[key.strip()] = value
    return read


class Place(NamedTuple):
    """Where a value stands, as the user is told of it."""

    before: str
    after: str = "`"
    has_keys: bool = False
    """Whether a path of keys leads into the value."""

    def __call__(self, path: str = "") -> str:
        """Say it, of what lies at a path of keys in the value."""
        return self.before + (path if self.has_keys else "") + self.after


class _Wrong(Exception):
    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Problems:
    """Collects what is wrong, to tell it all at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str | None]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, message: str, hint: str | None = None) -> None:
        """Note one more."""
        self._found.append((message, hint))

    def raise_if_any(self) -> None:
        """Raise one `RequestError` for all."""
        if not self._found:
            return
        message = "; ".join(message for message, _ in self._found)
        if len(self._found) > 1:
            message = f"{len(self._found)} settings are wrong: {message}"
        raise RequestError(message, hint="; ".join(dict.fromkeys(hint for _, hint in self._found if hint)) or None)


class Reader:
    """Reads values given in one place: paths in it are relative to `base`."""

    def __init__(self, problems: Problems, base: Path, project: Path) -> None:
        self.problems = problems
        self._base = base
        self._project = project

    def read(self, found: Field, value: object, label: Place) -> Iterator[tuple[str, Any]]:
        """Yield the attribute and its value, or note what is wrong with it."""
        try:
            yield found.attribute, self._value(found, value, label)
        except _Wrong as wrong:
            self.problems.add(wrong.message, wrong.hint)

    def _value(self, found: Field, value: object, label: Place) -> object:
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
            case Shape.REQUIREMENTS:
                return self._list(value, label, _requirement)
            case Shape.TABLES:
                return self._tables(value, found, label)
            case Shape.PAIRS:
                return self._pairs(value, found, label)
            case Shape.IMAGE:
                return self._image(value, label(), is_output=found.attribute == "image_output")
            case Shape.PATH:
                return self._path(value, label())
            case Shape.TEXT:
                return _CHECKS[found.attribute](_text(value, label()), label())
            case Shape.CHOICE:
                return _choice(value, label(), found.choices)
            case Shape.COUNT:
                return _count(value, label())
            case Shape.SWITCH:
                return _switch(value, label())
            case Shape.AUTO_SWITCH:
                return value if value == "auto" else _switch(value, label(), or_auto=True)

    def _list(self, value: object, label: Place, read: Callable[[object, str], Any]) -> tuple[Any, ...]:
        if not isinstance(value, list):
            hint = f'write it as `["{value}"]`' if isinstance(value, str) else None
            raise _Wrong(f"{label()} must be a list, not {kind(value)}", hint)
        items: list[Any] = []
        for number, one in enumerate(value):
            try:
                items.append(read(one, label(f"[{number}]")))
            except _Wrong as wrong:
                self.problems.add(wrong.message, wrong.hint)
        return tuple(dict.fromkeys(items))

    def _tables(self, value: object, found: Field, label: Place) -> dict[str, dict[str, Any]]:
        if not isinstance(value, dict):
            raise _Wrong(
                f"{label()} must be a table of distributions, not {kind(value)}",
                f"as a flag and a variable it is `NAME:KEY=VALUE`; in a file `{found.example}`",
            )
        read: dict[str, dict[str, Any]] = {}
        for name, table in value.items():
            here = label(f".{name}")
            if not isinstance(table, dict):
                raise _Wrong(f"{here} must be a table, not {kind(table)}")
            own = read.setdefault(_name(name, here), {})
            for key, one in table.items():
                own[key] = self._told(one, label(f".{name}.{key}"), has_lists=found.attribute == "config_settings")
        return read

    @staticmethod
    def _told(value: object, label: str, *, has_lists: bool) -> str | list[str]:
        if has_lists and isinstance(value, list):
            return [_text(one, label) for one in value]
        if not isinstance(value, str):
            raise _Wrong(f"{label} must be text{' or a list of text' if has_lists else ''}, not {kind(value)}")
        return value

    @staticmethod
    def _pairs(value: object, found: Field, label: Place) -> dict[str, str]:
        if not isinstance(value, dict):
            raise _Wrong(
                f"{label()} must be a table of text, not {kind(value)}",
                f"as a flag and a variable it is `KEY=VALUE`; in a file `{found.example}`",
            )
        for key, one in value.items():
            if not isinstance(one, str):
                raise _Wrong(f"{label(f'.{key}')} must be text, not {kind(one)}")
            if not key or "=" in key or "\0" in key + one:
                raise _Wrong(f"{label(f'.{key}')} is no name of a variable or label: `{key}`")
        return dict(value)

    def _image(self, value: object, label: str, *, is_output: bool) -> ImagePlace:
        from manylambda.image.places import ImagePlace
        from manylambda.image.reference import Reference, names_registry

        if isinstance(value, ImagePlace):
            return value
        text = _text(value, label)
        form, _, rest = text.partition(":")
        if form in {"oci", "docker"} and rest:
            return ImagePlace("oci" if form == "oci" else "docker", self._path(rest, label), None)
        if is_output and form != "registry":
            raise _Wrong(f"{label} is no place for an image: `{text}`", "write `oci:`, `docker:` or `registry:` before")
        reference = rest if form == "registry" else text
        try:
            Reference.parse(reference.replace("{target}", "python3.13-arm64") if is_output else reference)
        except RequestError as error:
            raise _Wrong(f"{label}: {error.message}", error.hint) from error
        if is_output and not names_registry(reference):  # what is meant for one's own goes to no public one
            raise _Wrong(
                f"{label}: `{reference}` names no registry",
                f"write it in full: `registry:ACCOUNT.dkr.ecr.REGION.amazonaws.com/{reference}`",
            )
        return ImagePlace("registry", None, reference)

    def _path(self, value: object, label: str) -> Path:
        text = _text(value, label)
        # Not resolved: what a link is called is what the user knows.
        return Path(text) if text == "-" else Path(os.path.abspath(self._base / text))  # noqa: PTH100

    def _sources(self, value: object, label: Place) -> tuple[SourceFolder, ...]:
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
            raise _Wrong(f"{label} must lead to text, not {kind(to)}")
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
        raise _Wrong(f"{label} must be text, not {kind(value)}")
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
        likely = nearest(told["rule"], known, at_least=0.5)
        listed = "the rules are " + ", ".join(f"`{one}`" for one in known)
        raise _Wrong(f"{label}: `{told['rule']}` is not a rule", f"did you mean `{likely}`?" if likely else listed)
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


def _requirement(value: object, label: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    text = _text(value, label)
    try:
        return str(Requirement(text))
    except InvalidRequirement as error:
        raise _Wrong(f"{label} is not a requirement: `{text}`", "such as `setuptools<81`") from error


def _image(text: str, label: str) -> str:
    if re.search(r"\s", text) or text.startswith("-"):
        raise _Wrong(f"{label} is not an image: `{text}`", "such as `public.ecr.aws/sam/build-python3.13:latest`")
    return text


def _safe_name(text: str, label: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise _Wrong(f"{label} must be letters, digits, `.`, `_` and `-`: `{text}`")
    return text


def _handler(text: str, label: str) -> str:
    if not re.fullmatch(r"[\w/.-]*\w\.\w+", text):
        raise _Wrong(f"{label} is not a handler: `{text}`", "write it as `module.function`")
    return text


_CHECKS: Final = {"handler": _handler, "name": _safe_name, "sdist_image": _image}


def _choice(value: object, label: str, choices: Sequence[str]) -> str:
    if value not in choices:
        shown = f"`{value}`" if isinstance(value, str) else kind(value)
        raise _Wrong(f"{label} must be one of {', '.join(f'`{choice}`' for choice in choices)}, not {shown}")
    return str(value)


def _count(value: object, label: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(f"{label} must be a number, not {kind(value)}")
    if value < 1:
        raise _Wrong(f"{label} must be at least 1: `{value}`")
    return value


def _switch(value: object, label: str, *, or_auto: bool = False) -> bool:
    if not isinstance(value, bool):
        words = "`auto`, true or false" if or_auto else "true or false"
        raise _Wrong(f"{label} must be {words}, not {kind(value)}")
    return value


def kind(value: object) -> str:
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


_MEANT: Final = {
    "exclude": "`exclude-distributions` leaves out distributions, `files.exclude` leaves out files",
    "include": "did you mean `files.include`?",
    "sources": "did you mean `files.sources`?",
    "executable": "did you mean `files.executable`?",
    "files.exclude-files": "did you mean `files.exclude`?",
}


def meant(key: str, known: Mapping[str, Field]) -> str:
    """Say what an unknown key was probably meant to be."""
    if key in _MEANT:
        return _MEANT[key]
    likely = nearest(key.replace("_", "-"), known)
    return f"did you mean `{likely}`?" if likely else "the settings are " + ", ".join(f"`{one}`" for one in known)


def nearest(word: str, known: Iterable[str], at_least: float = 0.8) -> str | None:
    """Give the word that resembles one most; None when none does."""
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), 1, at_least)), None)
