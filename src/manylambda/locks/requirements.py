"""What a `requirements.txt` says, read the way pip reads it and flattened into one value.

uv could read the file itself, but not all of it matters to uv: `pip compile` passes over `--hash`, and a directory
without a name cannot be told apart from a source distribution nobody allowed. So the file is understood here, once:
nested `-r` and `-c`, `${VARIABLES}`, hashes, index options, local directories. Knows nothing of indexes or targets.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from manylambda.errors import RequestError
from manylambda.locks.documents import is_piped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_COMMENT: Final = re.compile(r"(?:^|\s+)#.*$")
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")
_HASH: Final = re.compile(r"\s--hash(?:=|\s+)(\S+)")
_OPTION_OF_LINE: Final = re.compile(r"\s--(?:global-option|install-option|config-settings?)(?:=|\s+)(?:\"[^\"]*\"|\S+)")
_NAMED: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(.*)$", re.DOTALL)
_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")
_EXTRAS: Final = re.compile(r"^(.*?)(\[[A-Za-z0-9._,\s-]*\])$")
_HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}

_SHORT: Final = {
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-i": "--index-url",
    "-f": "--find-links",
}
_WITH_VALUE: Final = frozenset(
    {
        "--requirement",
        "--constraint",
        "--editable",
        "--index-url",
        "--extra-index-url",
        "--find-links",
        "--trusted-host",
        "--no-binary",
        "--only-binary",
        "--use-feature",
    }
)
_FLAGS: Final = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})


class ReadUrl(Protocol):
    """Reads a small document, for `-r https://...` and `-c https://...`."""

    def __call__(self, url: str, /) -> str:
        """Give the text behind `url`; raises `FetchError`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementLine:
    """One requirement, with its place."""

    text: str
    """As uv is to read it: variables expanded, paths absolute, without hashes. May hold credentials."""
    name: str | None
    """Normalised; None for a direct wheel or directory whose name could not be read."""
    hashes: frozenset[str] = frozenset()
    """`sha256:<hex>` and so on; empty when the line has none."""
    marker: str | None = None
    url: str | None = None
    """Of a direct reference, as written (it may hold credentials)."""
    directory: Path | None = None
    """Of a local source tree, absolute."""
    origin: str
    """`requirements.txt:3`, for errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """Everything one or more requirements files say."""

    lines: tuple[RequirementLine, ...] = ()
    constraints: tuple[RequirementLine, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """URLs, or absolute paths."""
    no_index: bool = False
    pre: bool = False
    trusted_hosts: tuple[str, ...] = ()
    require_hashes: bool = False
    no_binary: tuple[str, ...] = ()
    """What the file asks to build; told to the user, since wheels come first here."""

    @property
    def has_hashes(self) -> bool:
        """Whether any line gives a hash: then each distribution must have one (pip's rule)."""
        return self.require_hashes or any(line.hashes for line in (*self.lines, *self.constraints))

    @property
    def directories(self) -> tuple[RequirementLine, ...]:
        """Give the lines that are local source trees."""
        return tuple(line for line in self.lines if line.directory is not None)


def normalise(name: str) -> str:
    """Give the PEP 503 form of a name; `packaging.utils` is not imported for it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(
    files: Sequence[Path] = (),
    *,
    lines: Sequence[str] = (),
    constraints: Sequence[Path] = (),
    base: Path,
    environment: Mapping[str, str],
    read_url: ReadUrl | None = None,
    stdin: str | None = None,
) -> Requirements:
    """Read requirements files and lines into one value.

    `Path("-")` is standard input (`stdin`, or the process's own); any other pipe is read once as well. Relative local
    paths are looked up in `base`, where pip would be run, and failing that beside the file. Raises `RequestError`
    naming file and line.
    """
    reading = _Reading(base=base, environment=environment, read_url=read_url)
    for file in files:
        if str(file) == "-":
            text = _piped(sys.stdin) if stdin is None else stdin
            reading.text(text, label="<stdin>", folder=base, constraint=False)
        elif is_piped(file):
            reading.text(_piped_file(file), label=str(file), folder=base, constraint=False)
        else:
            reading.file(str(file), folder=base, constraint=False, asked_by=None)
    if lines:
        reading.text("\n".join(lines), label="<command line>", folder=base, constraint=False)
    for file in constraints:
        reading.file(str(file), folder=base, constraint=True, asked_by=None)
    return reading.result()


@cache
def _piped_file(file: Path) -> str:
    try:
        return _decode(file.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read `{file}`: {error}") from error


@cache
def _piped(stream: TextIO | None) -> str:
    """Read a pipe once for all that ask: `plan` asks for each target, and downloads for the indexes it names."""
    if stream is None:
        raise RequestError("cannot read standard input: it is closed")
    try:
        return _decode(stream.buffer.read()) if hasattr(stream, "buffer") else stream.read()
    except UnicodeDecodeError as error:
        raise RequestError(f"cannot read standard input: {error}") from error


class _Reading:
    """The state of reading: what was gathered so far, and which files are open (a cycle is an error)."""

    def __init__(self, *, base: Path, environment: Mapping[str, str], read_url: ReadUrl | None) -> None:
        self._base = base
        self._environment = environment
        self._read_url = read_url
        self._done: set[tuple[str, bool]] = set()
        self._lines: list[RequirementLine] = []
        self._constraints: list[RequirementLine] = []
        self._index_url: str | None = None
        self._extra: list[str] = []
        self._find_links: list[str] = []
        self._trusted: list[str] = []
        self._no_binary: list[str] = []
        self._flags: set[str] = set()

    def result(self) -> Requirements:
        return Requirements(
            lines=tuple(self._lines),
            constraints=tuple(self._constraints),
            index_url=self._index_url,
            extra_index_urls=tuple(dict.fromkeys(self._extra)),
            find_links=tuple(dict.fromkeys(self._find_links)),
            no_index="--no-index" in self._flags,
            pre="--pre" in self._flags,
            trusted_hosts=tuple(dict.fromkeys(self._trusted)),
            require_hashes="--require-hashes" in self._flags,
            no_binary=tuple(dict.fromkeys(self._no_binary)),
        )

    def file(self, reference: str, *, folder: Path | str, constraint: bool, asked_by: str | None) -> None:
        """Read a file or URL; `folder` is where a relative reference is looked up."""
        if isinstance(folder, str) and not _is_url(reference):
            from urllib.parse import urljoin

            reference = urljoin(folder, reference)
        if reference.startswith("file:"):
            reference = str(_path_of_url(reference))
        if _is_url(reference):
            self._remote(reference, constraint=constraint)
            return
        path = Path(os.path.normpath(Path(folder) / Path(reference).expanduser()))
        if (str(path), constraint) in self._done:
            return  # pip reads it again; the same lines twice say nothing new, and a cycle must end
        self._done.add((str(path), constraint))
        try:
            text = _decode(path.read_bytes())
        except FileNotFoundError:
            kind = "constraints" if constraint else "requirements"
            raise RequestError(
                f"{kind} file not found: `{_shown(path, self._base)}`",
                hint=f"it is named by {asked_by}" if asked_by else None,
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"cannot read `{_shown(path, self._base)}`: {error}") from error
        self.text(text, label=_shown(path, self._base), folder=path.parent, constraint=constraint)

    def _remote(self, url: str, *, constraint: bool) -> None:
        if (url, constraint) in self._done:
            return
        self._done.add((url, constraint))
        if self._read_url is None:
            raise RequestError(
                f"cannot read requirements from a URL here: `{_without_credentials(url)}`",
                hint="download the file and name it by its path",
            )
        text = self._read_url(url)
        self.text(text, label=_without_credentials(url), folder=url, constraint=constraint)

    def text(self, text: str, *, label: str, folder: Path | str, constraint: bool) -> None:
        """Read the text of one file. `folder` is the file's own: a path, or its URL."""
        for number, line in _logical_lines(text):
            expanded = _VARIABLE.sub(lambda match: self._environment.get(match[1]) or match[0], line)
            origin = f"{label}:{number}"
            if expanded.startswith("-"):
                self._option(expanded, origin=origin, folder=folder, constraint=constraint)
            else:
                self._add(expanded, origin=origin, folder=folder, constraint=constraint)

    def _option(self, line: str, *, origin: str, folder: Path | str, constraint: bool) -> None:
        name, _, value = line.partition(" ")
        if name.startswith("--") and "=" in name:
            name, _, value = line.partition("=")
        elif not name.startswith("--") and len(name) > 2:
            name, value = line[:2], line[2:]  # -rother.txt
        name = _SHORT.get(name, name)
        value = value.strip().strip("\"'")
        if name in _FLAGS:
            self._flags.add(name)
            return
        if name not in _WITH_VALUE:
            raise RequestError(f"`{name}` in {origin} is not an option of a requirements file")
        if not value:
            raise RequestError(f"`{name}` in {origin} needs a value")
        match name:
            case "--requirement":
                self.file(value, folder=folder, constraint=constraint, asked_by=origin)
            case "--constraint":
                self.file(value, folder=folder, constraint=True, asked_by=origin)
            case "--editable":
                if not _looks_direct(value) and "@" not in value:
                    value = f"./{value}"
                self._add(value, origin=origin, folder=folder, constraint=constraint)
            case "--index-url":
                self._index_url = value
            case "--extra-index-url":
                self._extra.extend(value.split())
            case "--find-links":
                self._find_links.append(value if _is_url(value) else str(self._local(value, folder)))
            case "--trusted-host":
                self._trusted.append(value)
            case "--no-binary":
                self._no_binary.extend(part.strip() for part in value.split(",") if part.strip() != ":none:")
            case _:
                pass  # --only-binary is what we do anyway; --use-feature is about pip

    def _local(self, text: str, folder: Path | str) -> Path:
        relative = _path_of_url(text) if text.startswith("file:") else Path(text).expanduser()
        here = Path(os.path.normpath(self._base / relative))
        if here.exists() or isinstance(folder, str):
            return here
        beside = Path(os.path.normpath(folder / relative))
        return beside if beside.exists() else here

    def _add(self, text: str, *, origin: str, folder: Path | str, constraint: bool) -> None:
        hashes = frozenset(_checked_hash(found, origin) for found in _HASH.findall(" " + text))
        text = _OPTION_OF_LINE.sub("", _HASH.sub("", " " + text)).strip()
        if " --" in text:
            raise RequestError(f"cannot read {origin}: `{_without_credentials(text)}`")
        line = self._parsed(text, hashes=hashes, origin=origin, folder=folder)
        (self._constraints if constraint else self._lines).append(line)

    def _parsed(self, text: str, *, hashes: frozenset[str], origin: str, folder: Path | str) -> RequirementLine:
        named = _NAMED.match(text)
        rest = named[3] if named else ""
        if named and rest.startswith("@"):
            # The space before `;` is what ends a URL (PEP 508).
            reference, _, marker = rest[1:].strip().partition(" ;")
            return self._direct(
                reference.strip(),
                name=normalise(named[1]),
                extras=named[2] or "",
                marker=marker.strip() or None,
                hashes=hashes,
                origin=origin,
                folder=folder,
            )
        if named and not _looks_direct(text) and (not rest or rest[0] in "<>=!~;("):
            return _from_index(text, hashes=hashes, origin=origin)
        reference, _, marker = re.sub(r"\s+;", " ;", text).partition(" ;")
        extras = ""
        if (match := _EXTRAS.match(reference)) and not Path(reference).exists():
            reference, extras = match[1], match[2]
        if not _looks_direct(reference) and not self._local(reference, folder).exists():
            return _from_index(text, hashes=hashes, origin=origin)  # raises with the reason
        return self._direct(
            reference.strip(),
            name=None,
            extras=extras,
            marker=marker.strip() or None,
            hashes=hashes,
            origin=origin,
            folder=folder,
        )

    def _direct(
        self,
        reference: str,
        *,
        name: str | None,
        extras: str,
        marker: str | None,
        hashes: frozenset[str],
        origin: str,
        folder: Path | str,
    ) -> RequirementLine:
        if re.match(r"^(git|hg|svn|bzr)\+", reference):
            raise RequestError(
                f"a version control requirement has no wheel: `{_without_credentials(reference)}` in {origin}",
                hint="build a wheel of it and name that, or clone it and name the folder",
            )
        url, _, fragment = reference.partition("#")
        options = dict(part.partition("=")[::2] for part in fragment.split("&") if part)
        name = name or (normalise(options["egg"].partition("[")[0]) if "egg" in options else None)
        hashes |= {_checked_hash(f"{key}:{value}", origin) for key, value in options.items() if key in _HEX_LENGTH}
        directory: Path | None = None
        if _is_url(url) and not url.startswith("file:"):
            filename = url.partition("?")[0].rpartition("/")[2]
        else:
            path = self._local(url, folder)
            if not path.exists():
                raise RequestError(
                    f"`{_without_credentials(reference)}` in {origin} does not exist", hint=f"looked for `{path}`"
                )
            filename = path.name
            if path.is_dir():
                directory = path
                name = name or source_tree_name(path)
                if name is None:
                    raise RequestError(
                        f"cannot read the name of the project in `{_without_credentials(reference)}` ({origin})",
                        hint=f"write the name before it: `NAME @ {path.as_uri()}`",
                    )
            reference = path.as_uri() + (f"#{fragment}" if fragment else "")
        if name is None and filename.endswith(".whl"):
            name = normalise(filename.partition("-")[0])
        prefix = f"{name}{extras} @ " if name else ""
        return RequirementLine(
            text=prefix + reference + (f" ; {marker}" if marker else ""),
            name=name,
            hashes=hashes,
            marker=marker,
            url=None if directory else reference,
            directory=directory,
            origin=origin,
        )


def _from_index(text: str, *, hashes: frozenset[str], origin: str) -> RequirementLine:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(
            f"cannot read the requirement in {origin}: `{_without_credentials(text)}` ({reason})"
        ) from error
    return RequirementLine(
        text=text,
        name=normalise(requirement.name),
        hashes=hashes,
        marker=str(requirement.marker) if requirement.marker else None,
        origin=origin,
    )


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Give (number of its first line, text) with continuations joined and comments and blank lines dropped."""
    held: list[str] = []
    start = 0
    physical = text.splitlines()
    for number, line in enumerate(physical, start=1):
        start = start if held else number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            held.append(line[:-1])
            if number < len(physical):
                continue
        elif is_comment and held:
            pass  # a comment line ends what is continued, as in pip
        else:
            held.append(line)
        joined = _COMMENT.sub("", "".join(held)).strip()
        held = []
        if joined:
            yield start, joined


def _decode(data: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):  # PowerShell's `pip freeze > requirements.txt`
            return data.decode(encoding)
    return data.decode("utf-8-sig")


def _checked_hash(text: str, origin: str) -> str:
    algorithm, _, digest = text.partition(":")
    length = _HEX_LENGTH.get(algorithm)
    digest = digest.lower()
    if length is None:
        raise RequestError(
            f"hash algorithm `{algorithm}` in {origin} is not one of sha256, sha384, sha512",
            hint="`manylambda lock` writes sha256 hashes for every target",
        )
    if len(digest) != length or not re.fullmatch(r"[0-9a-f]+", digest):
        raise RequestError(f"not a {algorithm} hash in {origin}: `{text}`")
    return f"{algorithm}:{digest}"


def source_tree_name(directory: Path) -> str | None:
    """Read the normalised project name of a source tree without running any of it, or None."""
    import tomllib

    try:
        document = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = {}
    project: object
    for project in (document.get("project"), (document.get("tool") or {}).get("poetry")):
        if isinstance(project, dict) and isinstance(project.get("name"), str):
            return normalise(project["name"])
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(directory / "setup.cfg", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        parser.clear()
    if name := parser.get("metadata", "name", fallback=None):
        return normalise(name.strip())
    try:
        tree = ast.parse((directory / "setup.py").read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) == "setup":
            for keyword in node.keywords:
                if (
                    keyword.arg == "name"
                    and isinstance(keyword.value, ast.Constant)
                    and isinstance(keyword.value.value, str)
                ):
                    return normalise(keyword.value.value)
    return None


def _is_url(text: str) -> bool:
    return bool(_SCHEME.match(text)) and not re.match(r"^[A-Za-z]:[\\/]", text)


def _looks_direct(text: str) -> bool:
    return (
        _is_url(text)
        or text.startswith((".", "/", "~", "\\"))
        or bool(re.match(r"^[A-Za-z]:[\\/]", text))
        or bool(re.match(r"^[^<>=!~;@\[\s]+\.(whl|zip|tar\.gz)(\[|\s|$)", text))
    )


def _path_of_url(url: str) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def _shown(path: Path, base: Path) -> str:
    try:
        return path.relative_to(base).as_posix()
    except ValueError:
        return str(path)


def _without_credentials(text: str) -> str:
    return re.sub(r"(?<=://)[^/@\s]*@", "***@", text)
