"""Which package indexes the user has set up, for uv, for our own look-ups, and for the downloads.

uv's settings win when there are any (`UV_*`, `uv.toml`, `[tool.uv]`). Otherwise pip's are used (`PIP_*`, `pip.conf`),
and then searched much as pip does: the best version of all indexes (`unsafe-best-match`). Of one version uv takes the
files of the first index that has it, where pip takes the best of all; `resolve` mends that where a pure wheel would be
taken for a compiled one. Options in a requirements file come on top of either. The values hold credentials: they are
for programs, never for a message.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from manylambda.errors import RequestError
from manylambda.locks.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.locks.requirements import Requirements

_T = TypeVar("_T")
DEFAULT_INDEX: Final = "https://pypi.org/simple"

_UV_INDEX_VARIABLES: Final = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """One simple index (PEP 503 or 691)."""

    url: str
    """With credentials, where the settings give any."""
    name: str | None = None
    explicit: bool = False
    """Only for packages that ask for it by name (`[tool.uv.sources]`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSettings:
    """Where distributions may come from."""

    indexes: tuple[Index, ...] = (Index(url=DEFAULT_INDEX),)
    """In the order they are asked, the default one last."""
    find_links: tuple[str, ...] = ()
    """URLs of pages, or absolute folders."""
    strategy: str = "first-index"
    """`first-index`: the first index that has a package decides; else all of them are asked."""
    assigned: tuple[tuple[str, frozenset[str]], ...] = ()
    """Packages that are taken from some indexes only (`[tool.uv.sources]`), with the names of these."""
    trusted_hosts: tuple[str, ...] = ()
    certificate: str | None = None
    keyring: str | None = None
    owner: Literal["uv", "pip", "nobody"] = "nobody"
    """Whose settings these are; what is uv's, uv reads itself."""

    @property
    def index_urls(self) -> tuple[tuple[str | None, str], ...]:
        """Every remote address with its name and credentials, for `fetch.Credentials.from_settings`."""
        found = (*((index.name, index.url) for index in self.indexes), *((None, link) for link in self.find_links))
        return tuple(pair for pair in found if pair[1].startswith(("http://", "https://")))

    def indexes_for(self, name: str) -> tuple[Index, ...]:
        """Give the indexes to ask for a package (its name normalised); others are not to hear of it."""
        for assigned, own in self.assigned:
            if assigned == name:
                return tuple(index for index in self.indexes if index.name in own)
        return tuple(index for index in self.indexes if not index.explicit)

    def uv_environment(self) -> dict[str, str]:
        """Give what uv must be told beyond what it reads itself; secrets go here, not on a command line."""
        told: dict[str, str] = {}
        if self.certificate:
            told["SSL_CERT_FILE"] = self.certificate
        if self.owner == "uv":
            return told
        if self.indexes:
            told["UV_DEFAULT_INDEX"] = self.indexes[-1].url
            told["UV_INDEX"] = " ".join(index.url for index in self.indexes[:-1])
        told["UV_FIND_LINKS"] = ",".join(self.find_links)
        told["UV_INDEX_STRATEGY"] = self.strategy if len(self.indexes) > 1 else ""
        told["UV_INSECURE_HOST"] = " ".join(self.trusted_hosts)
        told["UV_KEYRING_PROVIDER"] = self.keyring or ""
        return {name: value for name, value in told.items() if value}


def read_settings(
    project: Path, environment: Mapping[str, str], requirements: Requirements | None = None
) -> IndexSettings:
    """Read the settings that hold in the folder `project`. Raises `RequestError` for a file that cannot be read."""
    settings = _uv_settings(project, environment) or _pip_settings(environment) or IndexSettings()
    if settings.certificate is None and "SSL_CERT_FILE" not in environment:
        certificate = environment.get("PIP_CERT") or _pip_options(environment).get("cert")
        settings = replace(settings, certificate=certificate or None)
    return _with_requirements(settings, requirements) if requirements else settings


def leaves_files_out(project: Path, environment: Mapping[str, str]) -> bool:
    """Whether uv's settings keep files of a release from being taken that an index lists."""
    if environment.get("UV_EXCLUDE_NEWER") or environment.get("UV_EXCLUDE_NEWER_PACKAGE"):
        return True
    words = ("exclude-newer", "exclude-newer-package", "no-binary", "no-binary-package")
    return any(word in table for table, _ in _uv_tables(project, environment) for word in words)


def newest_upload(name: str, project: Path, environment: Mapping[str, str]) -> datetime | None:
    """Give the time from which on uv's settings leave the files of a package out (`exclude-newer`); None for never.

    Raises `RequestError` for one that cannot be read: to pass it over would let in what is to be kept out.
    """
    tables = [table for table, _ in _uv_tables(project, environment)]
    of_packages = [
        dict(part.partition("=")[::2] for part in environment.get("UV_EXCLUDE_NEWER_PACKAGE", "").split()),
        *(table["exclude-newer-package"] for table in tables if isinstance(table.get("exclude-newer-package"), dict)),
    ]
    for own in of_packages:
        for key, value in own.items():
            if normalise(key) == name:
                return _time(value) if value else None  # `false` lets all of one package in
    for value in (environment.get("UV_EXCLUDE_NEWER"), *(table.get("exclude-newer") for table in tables)):
        if value:
            return _time(value)
    return None


def _time(value: object) -> datetime:
    """Read a date, whose whole day is meant, a time, or how long ago, as uv does."""
    text = str(value).strip()
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return (datetime.fromisoformat(text) + timedelta(days=1)).astimezone()
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        pass
    if re.fullmatch(r"P(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?", text):
        text = text[1:].replace("T", " ")
    ago = [(int(count), unit.lower()) for count, unit in re.findall(r"(\d+)\s*([A-Za-z]+)", text)]
    units = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
    names = r"w(ee)?ks?|w|d(ays?)?|h(ou)?rs?|h|m(in(ute)?s?)?|s(ec(ond)?s?)?"
    if not ago or not all(re.fullmatch(names, unit) for _, unit in ago):
        raise RequestError(f"`exclude-newer` in the settings of uv cannot be read: `{text}`")
    return datetime.now(UTC) - sum((timedelta(**{units[unit[0]]: count}) for count, unit in ago), timedelta())


def _with_requirements(settings: IndexSettings, requirements: Requirements) -> IndexSettings:
    """Add the options of a requirements file: `--index-url` replaces the default index, the rest comes on top."""
    indexes = list(settings.indexes)
    if requirements.index_url:
        indexes[-1:] = [Index(url=requirements.index_url)]
    indexes[:0] = [Index(url=url) for url in requirements.extra_index_urls]
    if requirements.no_index:
        indexes = []
    # Without a word from uv's side the file means what it means to pip.
    strategy = settings.strategy if settings.owner == "uv" else "unsafe-best-match"
    return replace(
        settings,
        indexes=tuple(indexes),
        find_links=tuple(dict.fromkeys((*requirements.find_links, *settings.find_links))),
        trusted_hosts=tuple(dict.fromkeys((*requirements.trusted_hosts, *settings.trusted_hosts))),
        strategy=strategy,
    )


# uv


def _uv_settings(project: Path, environment: Mapping[str, str]) -> IndexSettings | None:
    """Read what uv would, or None when nothing there speaks of indexes."""
    tables = tuple(_uv_tables(project, environment))
    speaks = any(environment.get(name) for name in _UV_INDEX_VARIABLES)
    keys = ("index", "index-url", "extra-index-url", "find-links", "no-index")
    speaks = speaks or any(key in table for table, _ in tables for key in keys)
    if not speaks:
        return None
    indexes: list[Index] = []
    default: Index | None = None
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        indexes.extend(_named_index(text) for text in environment.get(variable, "").split())
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if default is None and environment.get(variable):
            default = _named_index(environment[variable])
    find_links = [part for part in re.split(r"[,\s]+", environment.get("UV_FIND_LINKS", "")) if part]
    no_index = environment.get("UV_NO_INDEX", "").lower() in {"1", "true", "yes"}
    strategy = environment.get("UV_INDEX_STRATEGY") or None
    trusted = environment.get("UV_INSECURE_HOST", "").split()
    for table, folder in tables:
        for entry in _list_of(table, "index", dict):
            index = Index(
                url=_local_url(str(entry.get("url", "")), folder),
                name=entry.get("name"),
                explicit=bool(entry.get("explicit")),
            )
            if not entry.get("default"):
                indexes.append(index)
            elif default is None:
                default = index
        indexes.extend(Index(url=_local_url(url, folder)) for url in _list_of(table, "extra-index-url", str))
        if default is None and isinstance(table.get("index-url"), str):
            default = Index(url=_local_url(table["index-url"], folder))
        find_links.extend(_local_url(link, folder) for link in _list_of(table, "find-links", str))
        no_index = no_index or table.get("no-index") is True
        strategy = strategy or table.get("index-strategy")
        trusted.extend(_list_of(table, "allow-insecure-host", str))
    last = default or Index(url=DEFAULT_INDEX)
    return IndexSettings(
        owner="uv",
        indexes=() if no_index else (*(index for index in indexes if index.url), last),
        find_links=tuple(str(project / link) if "://" not in link else link for link in find_links),
        strategy=strategy or "first-index",
        assigned=_assigned(project),
        trusted_hosts=tuple(trusted),
    )


def _assigned(project: Path) -> tuple[tuple[str, frozenset[str]], ...]:
    """Read which packages the project, or a workspace it is in, takes from named indexes."""
    found: dict[str, frozenset[str]] = {}
    for folder in (project, *project.parents):
        for table, _ in _uv_table(folder / "pyproject.toml", whole=False):
            sources = table.get("sources")
            for name, source in sources.items() if isinstance(sources, dict) else ():
                entries = source if isinstance(source, list) else [source]
                indexes = {entry.get("index") for entry in entries if isinstance(entry, dict)}
                if named := frozenset(index for index in indexes if isinstance(index, str)):
                    found.setdefault(normalise(name), named)
    return tuple(sorted(found.items()))


def _uv_tables(project: Path, environment: Mapping[str, str]) -> Iterator[tuple[Mapping[str, Any], Path]]:
    """Give uv's tables that hold, the strongest first, each with the folder its paths are relative to."""
    if environment.get("UV_CONFIG_FILE"):
        yield from _uv_table(Path(environment["UV_CONFIG_FILE"]), whole=True)
        return
    if environment.get("UV_NO_CONFIG", "").lower() in {"1", "true", "yes"}:
        return
    for folder in (project, *project.parents):
        own = [*_uv_table(folder / "uv.toml", whole=True)] or [*_uv_table(folder / "pyproject.toml", whole=False)]
        if own:
            yield from own
            break
    for file in _uv_user_files(environment):
        yield from _uv_table(file, whole=True)


def _uv_table(path: Path, *, whole: bool) -> Iterator[tuple[Mapping[str, Any], Path]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        return
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"cannot read `{path}`: {error}") from error
    table = document if whole else (document.get("tool") or {}).get("uv")
    if not isinstance(table, dict):
        return
    if isinstance(table.get("pip"), dict):
        yield table["pip"], path.parent
    yield table, path.parent


def _uv_user_files(environment: Mapping[str, str]) -> Iterator[Path]:
    home = environment.get("HOME")
    if sys.platform == "win32":
        bases = [environment.get("APPDATA"), environment.get("SYSTEMDRIVE", "C:") + "\\ProgramData"]
        yield from (Path(base) / "uv" / "uv.toml" for base in bases if base)
        return
    config = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
    if config:
        yield Path(config) / "uv" / "uv.toml"
    for base in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"):
        yield Path(base) / "uv" / "uv.toml"
    yield Path("/etc/uv/uv.toml")


def _named_index(text: str) -> Index:
    name, separator, url = text.partition("=")
    if separator and re.fullmatch(r"[A-Za-z0-9._-]+", name):
        return Index(url=url, name=name)
    return Index(url=text)


def _local_url(text: str, folder: Path) -> str:
    """Make a path in a settings file absolute; leave a URL as it is."""
    return text if "://" in text or not text else str(folder / text)


def _list_of(table: Mapping[str, Any], key: str, kind: type[_T]) -> list[_T]:
    value = table.get(key)
    return [item for item in value if isinstance(item, kind)] if isinstance(value, list) else []


# pip


def _pip_settings(environment: Mapping[str, str]) -> IndexSettings | None:
    options = _pip_options(environment)
    keys = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "keyring-provider")
    if not any(options.get(key) for key in keys):
        return None
    default = options.get("index-url") or DEFAULT_INDEX
    extra = (options.get("extra-index-url") or "").split()
    usable = [Index(url=url) for url in extra if _exists(url)]
    indexes = (*usable, Index(url=default))
    if (options.get("no-index") or "").lower() in {"1", "true", "yes", "on"}:
        indexes = ()
    keyring = options.get("keyring-provider")
    return IndexSettings(
        owner="pip",
        indexes=indexes,
        find_links=tuple(link for link in (options.get("find-links") or "").split() if _exists(link)),
        strategy="unsafe-best-match",
        trusted_hosts=tuple((options.get("trusted-host") or "").split()),
        keyring="subprocess" if keyring in {"subprocess", "import"} else None,
    )


def _pip_options(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Read pip's settings that hold for `pip install`, names as on its command line without the dashes."""
    options: dict[str, str] = {}
    for path in _pip_files(environment):
        parser = configparser.RawConfigParser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        try:
            parser.read_string(text)
        except configparser.Error as error:
            reason = str(error).partition("\n")[0]
            raise RequestError(f"cannot read `{path}`: {reason}") from error
        for section in ("global", "install"):
            if parser.has_section(section):
                options.update((key.replace("_", "-"), value) for key, value in parser.items(section) if value)
    for name, value in sorted(environment.items()):
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return options


def _pip_files(environment: Mapping[str, str]) -> Sequence[Path]:
    """Give pip's settings files, the weakest first (pip: `_internal/configuration.py`)."""
    own = environment.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return ()
    home = environment.get("HOME") or environment.get("USERPROFILE")
    found: list[Path] = []
    if sys.platform == "win32":
        found.append(Path(environment.get("PROGRAMDATA", "C:\\ProgramData")) / "pip" / "pip.ini")
        user = [
            Path(home, "pip", "pip.ini") if home else None,
            Path(environment["APPDATA"], "pip", "pip.ini") if environment.get("APPDATA") else None,
        ]
    else:
        places = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        if sys.platform == "darwin":
            found.append(Path("/Library/Application Support/pip/pip.conf"))
        found.extend(Path(place) / "pip" / "pip.conf" for place in reversed(places))
        found.append(Path("/etc/pip.conf"))
        config = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
        user = [
            Path(home, ".pip", "pip.conf") if home else None,
            Path(config, "pip", "pip.conf") if config else None,
            Path(home, "Library/Application Support/pip/pip.conf") if home and sys.platform == "darwin" else None,
        ]
    if not (own and Path(own).exists()):
        found.extend(path for path in user if path is not None)
    if environment.get("VIRTUAL_ENV"):
        found.append(Path(environment["VIRTUAL_ENV"]) / ("pip.ini" if sys.platform == "win32" else "pip.conf"))
    if own:
        found.append(Path(own))
    return found


def _exists(location: str) -> bool:
    """Say whether a local index or folder is there; pip warns about one that is not and goes on, uv stops."""
    if location.startswith("file:"):
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(location).path)).exists()
    return "://" in location or Path(location).exists()
