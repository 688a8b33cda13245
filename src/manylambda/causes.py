"""What an error text means: finds causes in a pasted log, traceback or message of a build tool.

The causes are data (`data/causes.json`): patterns, what they mean, why it happens on Lambda, and what mends it. Here is
how a text is read - whole CloudWatch logs, JSON lines, a terminal's boxes - and how the values of this very text come
into the words. The text is streamed: memory and time are bounded whatever it holds.

Nothing is known here of packages: that ties a cause to a file is one floor up, in `pipeline.explain`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from functools import cache, cached_property
from importlib.resources import files
from string import Formatter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.target import GlibcVersion, all_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manylambda.target import Target

_BLOCK: Final = 1 << 20
_ENOUGH: Final = 64 << 10
"""Pieces are gathered to this many characters: a look at each small one would take longer."""
_LINE: Final = 16 << 10
"""A longer line is read in pieces of this many characters."""
_OVERLAP: Final = 1 << 10
_BEFORE: Final = 420
_AFTER: Final = 700
_MOST_MARKS: Final = 4
"""How often a mark is looked around in one line, and how many characters."""
_SHOWN: Final = 240
_MOST_HITS: Final = 500
_MOST_CAUSES: Final = 12
_SMALL: Final = 256 << 10
"""A text up to this size is read a second time with its lines joined, when nothing was found: terminals wrap."""


class Step(NamedTuple):
    """One thing to do; `run` is the command, ready to be pasted, when there is one."""

    say: str
    run: str | None = None


class Cause(NamedTuple):
    """One cause that a text shows, in words with the values of that text."""

    id: str
    rules: tuple[str, ...]
    """The rules of the audit that find it in a package, the nearest first; none for what a package does not show."""
    line: str
    """The line that showed it, cut to what fits a screen."""
    number: int
    """Its number in the text, from 1."""
    meaning: str
    why: str
    cure: tuple[Step, ...]
    values: Mapping[str, str]
    """What the text tells: `path`, `library`, `module`, `distribution`, `version`, ..., each only if it does."""
    source: str
    """Where the text is known from: a real report, or the code that prints it."""


class Diagnosis(NamedTuple):
    """All that a text tells."""

    causes: tuple[Cause, ...]
    """The root first; each once."""
    runtime: str | None
    """The function's runtime, such as `python3.13`, where the text tells."""
    architecture: str | None
    lines: int


class _Definition:
    """One entry of `data/causes.json`."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.id: str = data["id"]
        self.rules: tuple[str, ...] = tuple(data["rules"])
        self.marks: tuple[str, ...] = tuple(data["marks"])
        self.where: Mapping[str, str] = data.get("where", {})
        self.key: tuple[str, ...] = tuple(data.get("key", ()))
        self.is_outer: bool = data.get("outer", False)
        self.is_fallback: bool = data.get("fallback", False)
        self.meaning: str = data["meaning"]
        self.why: str = data["why"]
        self.cure: Sequence[Mapping[str, str]] = data["cure"]
        self.source: str = data["source"]
        self._patterns: Sequence[str] = data["patterns"]

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """Compiled when the first mark is seen: most texts need few of them."""
        return tuple(re.compile(pattern) for pattern in self._patterns)

    def match(self, line: str) -> _Match | None:
        """Return the first match near a mark; only there is looked, so that no line takes long."""
        for mark in self.marks:
            place = line.find(mark)
            for _ in range(_MOST_MARKS):
                if place < 0:
                    break
                first = max(0, place - _BEFORE)
                window = line[first : place + len(mark) + _AFTER]
                for pattern in self.patterns:
                    if found := pattern.search(window):
                        groups = {name: value for name, value in found.groupdict().items() if value}
                        return _Match(groups, first + found.start(), first + found.end())
                place = line.find(mark, place + _AFTER)
        return None


class _Match(NamedTuple):
    groups: dict[str, str]
    start: int
    end: int


class _Hit(NamedTuple):
    candidates: tuple[tuple[_Definition, dict[str, str]], ...]
    line: str
    number: int


class _Table(NamedTuple):
    definitions: tuple[_Definition, ...]
    distributions: Mapping[str, str]
    extensions: frozenset[str]
    replacements: Mapping[str, str]


@cache
def _table() -> _Table:
    data = _data("causes.json")
    return _Table(
        tuple(_Definition(one) for one in data["causes"]),
        data["distributions"],
        frozenset(data["extensions"]),
        data["replacements"],
    )


@cache
def _data(name: str) -> Any:
    return json.loads(files("manylambda").joinpath("data", name).read_text(encoding="utf-8"))


def find(text: Iterable[str], *, target: Target | None = None, package: str = "PACKAGE") -> Diagnosis:
    """Find the causes in `text`, which comes in pieces of any size; `target` is the function's, where the user told.

    `package` is how commands name the package, and words in capitals stand for what nobody told. What the text itself
    tells of the target (a path below `/var/lang`, the suffix of an extension module that was loaded) is used where
    `target` is None.
    """
    reader = _Reader()
    for piece in text:
        for start in range(0, len(piece), _BLOCK):
            reader.feed(piece[start : start + _BLOCK])
    reader.end()
    return _diagnosis(reader, target, package)


class _Reader:
    """Takes a text in pieces; keeps what is found and, of a small text, all of it."""

    def __init__(self) -> None:
        self.hits: list[_Hit] = []
        self.context: dict[str, str] = {}
        self.lines = 0
        self._waiting: list[str] = []
        self._size_waiting = 0
        self._seen: set[tuple[tuple[str, ...], ...]] = set()
        self._small: list[str] | None = []
        self._size = 0

    def feed(self, piece: str) -> None:
        self._size += len(piece)
        if self._small is not None:
            self._small.append(piece)
            if self._size > _SMALL:
                self._small = None
        self._waiting.append(piece)
        self._size_waiting += len(piece)
        if self._size_waiting > _ENOUGH:
            block = "".join(self._waiting)
            end = block.rfind("\n") + 1 or len(block)  # a line without end is read in pieces
            self._read(block[:end])
            self._waiting, self._size_waiting = [block[end:]], len(block) - end

    def end(self) -> None:
        if rest := "".join(self._waiting):
            self._read(rest)
        if self._small is not None and all(one.is_fallback for hit in self.hits for one, _ in hit.candidates):
            flat = re.sub(r"[ \t│|]*\n[ \t│|]*", " ", _COLOUR.sub("", "".join(self._small)))
            self._look(flat, 1)

    def _read(self, block: str) -> None:
        definitions = [one for one in _table().definitions if any(mark in block for mark in one.marks)]
        for mark, pattern in _CONTEXT:
            if mark in block and (found := pattern.search(block)):
                for name, value in found.groupdict().items():
                    if value is not None:
                        self.context.setdefault(name, value)
        if len(self.hits) < _MOST_HITS and (definitions or "LogResult" in block):
            marks = {"LogResult", *(mark for one in definitions for mark in one.marks if mark in block)}
            for number, line in enumerate(block.split("\n"), self.lines + 1):
                if any(mark in line for mark in marks):
                    for piece in _pieces(line):
                        self._look(piece, number, None if "LogResult" in line else definitions)
        self.lines += block.count("\n") + (not block.endswith("\n"))

    def _look(self, line: str, number: int, definitions: Sequence[_Definition] | None = None) -> None:
        if len(self.hits) >= _MOST_HITS:
            return
        found = [
            (one, match)
            for one in (_table().definitions if definitions is None else definitions)
            if (match := one.match(line))
        ]
        if not found:
            return
        candidates = tuple((one, match.groups) for one, match in found)
        signature = tuple((one.id, *values.values()) for one, values in candidates)
        if signature not in self._seen:
            self._seen.add(signature)
            self.hits.append(_Hit(candidates, _shown(line, found[0][1].start, found[0][1].end), number))


# What of the function a text may tell, each with a word that a block must hold to be looked at.
_CONTEXT: Final = tuple(
    (mark, re.compile(pattern))
    for mark, pattern in (
        ("/var/lang/", r"/var/lang/(?:lib|bin)/(?P<runtime>python3\.\d{1,2})\b"),
        ("/opt/python/lib/", r"/opt/python/lib/(?P<runtime>python3\.\d{1,2})/site-packages/"),
        ("untime", r"[Rr]untime(?: ?[Vv]ersion)?[\"']?[:=] ?[\"']?python:?(?P<minor>3\.\d{1,2})\b"),
        ("AWS_Lambda_", r"AWS_Lambda_(?P<runtime>python3\.\d{1,2})\b"),
        ("lambda/python:", r"lambda/python:(?P<minor>3\.\d{1,2})(?:-(?P<architecture>x86_64|arm64))?"),
        ("rchitecture", r"[Aa]rchitectures?[\"']?[:=] ?\[?[\"']?(?P<architecture>x86_64|arm64)\b"),
        ("either python 'cpython-", r"either python 'cpython-3(?P<digits>\d{1,2})'"),
        ("* _multiarray_umath", r"\* _multiarray_umath\.cpython-3\d{1,2}-(?P<file_machine>x86_64|aarch64)-linux"),
        ("/aws/lambda/", r"/aws/lambda/(?P<function>[\w-]{1,140})"),
        (":function:", r"arn:aws[\w-]*:lambda:[\w-]+:\d+:function:(?P<function>[\w-]{1,140})"),
    )
)

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]{0,20}m")
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\n", '"': '"', "\\": "\\", "/": "/"}
_LOG_RESULT: Final = re.compile(r'"LogResult": ?"([A-Za-z0-9+/=]{16,16000})"')


def _pieces(line: str) -> Iterator[str]:
    """Return the lines within a line: strings of JSON unescaped, what is very long in parts, colours taken off."""
    for start in range(0, max(len(line), 1), _LINE - _OVERLAP):
        part = line[start : start + _LINE]
        if "\x1b" in part:
            part = _COLOUR.sub("", part)
        if found := _LOG_RESULT.search(part):  # the end of the log, as `aws lambda invoke --log-type Tail` gives it
            with contextlib.suppress(binascii.Error):
                yield from base64.b64decode(found[1]).decode("utf-8", "replace").split("\n")
        for _ in range(3):  # a document in a string of a document
            if '"' not in part or "\\" not in part:
                break
            part = _ESCAPE.sub(_unescaped, part)
        yield from part.split("\n")
        if start + _LINE >= len(line):
            return


def _unescaped(found: re.Match[str]) -> str:
    escape = found[0]
    if len(escape) == 6:
        return chr(int(escape.removeprefix("\\u"), base=16))
    return _ESCAPES.get(escape[1], escape)


def _shown(line: str, start: int, end: int) -> str:
    """Return the line, or of a long one the part that matched with what is around it."""
    if len(line) > _SHOWN:
        first = max(0, min(start - 40, len(line) - _SHOWN))
        last = first + max(_SHOWN, min(end - first, 2 * _SHOWN))
        line = f"{'...' if first else ''}{line[first:last]}{'...' if last < len(line) else ''}"
    return "".join(each if each.isprintable() else " " for each in line).strip().lstrip("│").strip()


def _diagnosis(reader: _Reader, target: Target | None, package: str) -> Diagnosis:
    runtime, architecture = _target_of(reader)
    facts = _Facts(
        runtime=target.runtime if target else runtime,
        architecture=target.architecture.value if target else architecture,
        function=reader.context.get("function"),
        package=package,
    )
    chosen: dict[tuple[str, ...], tuple[_Definition, _Hit, dict[str, str]]] = {}
    for hit in reader.hits:
        for definition, groups in hit.candidates:
            values = facts.derive(groups)
            if all(values.get(name) == wanted for name, wanted in definition.where.items()):
                key = (definition.id, *(values.get(name, "") for name in definition.key))
                chosen.setdefault(key, (definition, hit, values))
                break
    found = list(chosen.values())
    told = [one for one in found if not one[0].is_fallback] or found
    told.sort(key=lambda one: one[0].is_outer)
    causes = tuple(_cause(definition, hit, values) for definition, hit, values in told[:_MOST_CAUSES])
    return Diagnosis(causes, facts.runtime, facts.architecture, reader.lines)


_LOADED: Final = re.compile(r"\.cpython-3(\d{1,2})-(x86_64|aarch64)-linux-gnu\.so$")
_ARCHITECTURES: Final = {"x86_64": "x86_64", "aarch64": "arm64"}
_OTHER: Final = {"x86_64": "arm64", "arm64": "x86_64"}


def _target_of(reader: _Reader) -> tuple[str | None, str | None]:
    """Return the function's runtime and architecture, as far as the text tells.

    Python asks the loader only for files whose suffix is its own: what the loader complains of tells both.
    """
    context = reader.context
    runtime = context.get("runtime") or next(
        (prefix + context[name] for name, prefix in (("minor", "python"), ("digits", "python3.")) if name in context),
        None,
    )
    architecture = context.get("architecture")
    if architecture is None and "file_machine" in context:  # numpy lists what lies there and is not its own
        architecture = "arm64" if context["file_machine"] == "x86_64" else "x86_64"
    for hit in reader.hits:
        for _, groups in hit.candidates:
            if found := _LOADED.search(groups.get("path", "")):
                return runtime or f"python3.{found[1]}", architecture or _ARCHITECTURES[found[2]]
    return runtime, architecture


def _cause(definition: _Definition, hit: _Hit, values: Mapping[str, str]) -> Cause:
    return Cause(
        id=definition.id,
        rules=definition.rules,
        line=hit.line,
        number=hit.number,
        meaning=_filled(definition.meaning, values),
        why=_filled(definition.why, values),
        cure=tuple(_steps(definition.cure, values)),
        values=dict(sorted(values.items())),
        source=definition.source,
    )


def _steps(cure: Sequence[Mapping[str, str]], values: Mapping[str, str]) -> Iterator[Step]:
    for step in cure:
        words = (step["say"], step.get("run", ""))
        named = {name for word in words for _, name, _, _ in Formatter().parse(word) if name}
        if named <= values.keys() and step.get("unless") not in values:
            yield Step(_filled(words[0], values), _filled(words[1], values) or None)


class _Default(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return _UNKNOWN.get(name, "?")


# What a meaning says where the text does not give a value that it names.
_UNKNOWN: Final = {
    "path": "a file of the package",
    "distribution": "a distribution",
    "program": "a program",
    "name": "the name",
    "error": "the reason",
    "image": "the image",
    "limit": "the limit",
    "ssl": "an older one",
    "runtime": "this runtime",
    "module": "the module",
    "requirement": "a requirement",
}


def _filled(text: str, values: Mapping[str, str]) -> str:
    return text.format_map(_Default(values))


class _Facts(NamedTuple):
    """What is known of the function, and what follows from a match together with it."""

    runtime: str | None
    architecture: str | None
    function: str | None
    package: str

    def derive(self, groups: Mapping[str, str]) -> dict[str, str]:
        """Return the groups and all that follows from them."""
        values = dict(groups)
        values["target"] = self._target(self.runtime)
        values["architecture"] = self.architecture or "ARCHITECTURE"
        values["other_architecture"] = _OTHER.get(self.architecture or "", "ARCHITECTURE")
        values["package"] = self.package
        values["function"] = self.function or "FUNCTION"
        values["newest_target"] = self._target(_newest())
        if "module" in values:
            self._module(values)
        if "path" in values:
            values.setdefault("distribution", _distribution_of_path(values["path"]) or "")
        values["path_or_file"] = f"`{values['path']}`" if values.get("path") else "A file of the package"
        if "glibc" in values:
            self._glibc(values)
        if "library" in values or values.get("distribution"):
            cures = _data("cures.json")
            values["library_cure"] = _sentence(cures["libraries"].get(values.get("library", ""), ""))
            values["distribution_cure"] = _sentence(cures["distributions"].get(values.get("distribution", ""), ""))
        if values.get("namespace") == "OPENSSL":
            values["openssl_cure"] = "It was built for another OpenSSL: take a release that brings its own."
        if "requirement" in values:
            values["requirement_name"] = re.split(r"[=<>!~\[; ]", values["requirement"])[0]
            values.setdefault("distribution", _normalised(values["requirement_name"]))
        if "missing" in values:
            sdists = re.findall(r"([\w.-]+)==[^()\s]+\(sdist\)", values["missing"])
            values["missing_sdist"] = " --allow-sdist ".join(sdists)
        return {name: value for name, value in values.items() if value}

    def _target(self, runtime: str | None) -> str:
        if runtime is None:
            return "TARGET"
        if runtime not in _buildable():  # nobody can deploy for it any more
            runtime = _newest()
        return f"{runtime}-{self.architecture or 'ARCHITECTURE'}"

    def _module(self, values: dict[str, str]) -> None:
        module = values["module"]
        values["top"] = module.partition(".")[0]
        name = values.get("name", "")
        values["module_full"] = module if not name or module.rpartition(".")[2].startswith("_") else f"{module}.{name}"
        values["distribution"] = _distribution_of_module(values["module_full"]) or _normalised(values["top"])
        values["module_kind"] = self._kind(values)

    def _kind(self, values: dict[str, str]) -> str:
        top, full = values["top"], values["module_full"]
        if top == "pkg_resources":
            return "pkg_resources"
        lifetime = _data("python.json")["standard_library"].get(top)
        if lifetime is not None and "name" not in values:
            return self._standard(values, top, lifetime)
        if top == "_uuid" or (top == values["module"] and top in _stdlib_extensions()):
            return "runtime"
        last = full.rpartition(".")[2]
        if full in _table().extensions or values["module"] in _table().extensions:
            return "extension"
        if "." in full and (last.startswith("_") or last == top or values["module"].rpartition(".")[2].startswith("_")):
            return "extension"
        return "other"

    def _standard(self, values: dict[str, str], top: str, lifetime: str) -> str:
        first, _, last = lifetime.partition("-")
        here = _version(self.runtime.removeprefix("python")) if self.runtime else None
        if last and (here is None or here > _version(last)):
            values["removed_in"] = f"3.{_version(last)[1] + 1}"
            values["older_target"] = self._target(f"python{last}")
            values["replacement_cure"] = _table().replacements.get(top, "")
            return "removed"
        if _version(first) > (3, 8) and (here is None or here < _version(first)):
            values["added_in"] = first
            values["newer_target"] = self._target(f"python{first}")
            return "new"
        return "runtime"

    def _glibc(self, values: dict[str, str]) -> None:
        wanted = GlibcVersion.parse(".".join(values["glibc"].split(".")[:2]))
        runtimes: dict[GlibcVersion, list[str]] = {}
        for target in all_targets():
            if target.architecture.value == (self.architecture or "x86_64") and target.can_build:
                runtimes.setdefault(target.glibc, []).append(target.runtime)
        values["glibc_table"] = ", ".join(
            f"{_span(names)} {'has' if len(names) == 1 else 'have'} glibc {glibc}"
            for glibc, names in sorted(runtimes.items())
        )
        enough = [name for glibc, names in sorted(runtimes.items()) if glibc >= wanted for name in names]
        values["glibc_target"] = self._target(enough[0]) if enough else ""
        # The versions that the same files ask for are one cause; what only newer runtimes cure is another.
        values["python_glibc"] = values["glibc_target"]


@cache
def _buildable() -> frozenset[str]:
    return frozenset(one.runtime for one in all_targets() if one.can_build)


@cache
def _newest() -> str:
    """Return the newest runtime that is neither a preview nor deprecated."""
    return max((one for one in all_targets() if one.status == "supported"), key=lambda one: one.python).runtime


@cache
def _stdlib_extensions() -> frozenset[str]:
    return frozenset(name for target in all_targets() for name in target.stdlib_extensions)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _sentence(words: str) -> str:
    return words and words[0].upper() + words[1:] + ("" if words.endswith(".") else ".")


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower().strip("-")


def _distribution_of_module(module: str) -> str | None:
    """Return the distribution that a module is known to belong to; the longest prefix decides."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((found for name in names if (found := _table().distributions.get(name))), None)


_ROOTS: Final = (
    re.compile(r"^.*/(?:site|dist)-packages/"),
    re.compile(r"^(?:.*/)?(?:var/task|tmp/sls-py-req|opt/python|asset-output)/"),
    re.compile(r"^/opt/"),
)


def package_path(path: str) -> str:
    """Return a path of the execution environment as it is below `sys.path`: `numpy/x.so` of `/var/task/numpy/x.so`."""
    for root in _ROOTS:
        if (found := root.match(path)) is not None:
            return path[found.end() :]
    return path.lstrip("/")


def _distribution_of_path(path: str) -> str | None:
    """Return the distribution that a path of the execution environment belongs to, as far as its name tells."""
    inside = package_path(path)
    first, slash, _ = inside.partition("/")
    if not slash:
        first = first.partition(".")[0]
        if inside == path and not path.startswith("_"):
            return None  # a bare name: a library that any distribution may have brought
    if first.endswith(".libs"):
        return _normalised(first.removesuffix(".libs"))
    if first in {"lib", "bin", "lib64", "extensions", ""}:
        return None
    module = ".".join(part.partition(".")[0] for part in inside.split("/"))
    return _distribution_of_module(module) or _normalised(first)
