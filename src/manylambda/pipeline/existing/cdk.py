"""The AWS CDK: an app in Python, TypeScript or JavaScript, whose sources are read as text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.pipeline.existing.model import Described, Function, enclosed, passed_layer, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.pipeline.existing.model import Source

_SUFFIXES: Final = frozenset({".py", ".ts", ".js", ".mts", ".mjs"})
_CALL: Final = re.compile(r"\b(?P<kind>(?:Python)?Function)(?P<open>\()")
_ID: Final = re.compile(r"\s*(?:self|this|scope|stack)\s*,\s*[\"'`](?P<id>[^\"'`]+)[\"'`]")
_RUNTIME: Final = re.compile(r"\bRuntime(?:\.PYTHON_|\(\s*[\"'`]python)(3)[_.](\d+)\b")
_ARCHITECTURE: Final = re.compile(r"\bArchitecture\.(ARM_64|X86_64)\b")
_ARCHITECTURES: Final = {"ARM_64": "arm64", "X86_64": "x86_64"}
_ASSET: Final = re.compile(r"(?:from_asset|fromAsset)(?P<open>\()")
_ENTRY: Final = re.compile(r"\bentry\s*[=:]\s*(?P<value>.*)", re.DOTALL)
_LITERAL: Final = re.compile(r"\s*[\"'`]([^\"'`]+)[\"'`]")
_HERE: Final = re.compile(r"\b(?:__dirname|__file__|dirname|import\.meta)\b")
_OTHER: Final = re.compile(r"\b(?P<kind>(?:Python)?LayerVersion|DockerImageFunction)(?P<open>\()")
_SPREAD: Final = re.compile(r"(?:\.\.\.|\*\*)(\w+)")
_CALLS: Final = 500
"""Of a file: more than a person writes."""
_LONGEST: Final = 20_000
"""Characters of a call."""


_TEMPLATE: Final = re.compile(r"`\$\{__dirname\}/([^`$]*)`")
_NAME: Final = re.compile(r"(?<![\w.\"'`/])[A-Za-z_]\w*(?![\w(.=\"'`/])")
_DEEPEST: Final = 3
"""Constants that are made from constants."""


class _Constant(NamedTuple):
    value: str
    source: Source
    position: int


def describe(project: Path) -> Described | None:
    """Read the app; None where there is none."""
    if not (project / "cdk.json").is_file():
        return None
    texts = list(sources(project, _SUFFIXES))
    runtimes = [
        _Constant(f"python{match[1]}.{match[2]}", one, match.start())
        for one in texts
        for match in _RUNTIME.finditer(one.text)
    ]
    architectures = [
        _Constant(_ARCHITECTURES[match[1]], one, match.start())
        for one in texts
        for match in _ARCHITECTURE.finditer(one.text)
    ]
    shared_runtimes, shared_architectures = _outside(runtimes, texts), _outside(architectures, texts)
    found = [
        function
        for one in texts
        for match in _calls(one, _CALL)
        if (function := _function(project, one, match, shared_runtimes, shared_architectures, texts=texts)) is not None
    ]
    unsure = [] if found else ["`cdk.json` is there, and no function of Python was found in the sources of the app"]
    for one in texts:
        for match in _calls(one, _OTHER):
            named = _ID.match(one.text, match.end())
            name = named["id"] if named else _place(one, match, project)
            is_image = match["kind"] == "DockerImageFunction"
            unsure.append(f"`{name}` was passed over: it is a container image" if is_image else passed_layer(name))
    return Described("the CDK", tuple(found), tuple(unsure))


def _calls(source: Source, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Yield what is not in a comment; what no bracket closes takes the rest of the file."""
    position = 0
    for _ in range(_CALLS):
        match = pattern.search(source.text, position)
        if match is None:
            return
        position = match.end()
        length = len(enclosed(source.text, match.start("open")))
        if length > _LONGEST:
            position += length
        line = source.text[source.text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if not line.lstrip().startswith(("//", "#", "*", "/*")):
            yield match


def _outside(constants: Sequence[_Constant], texts: Sequence[Source]) -> list[_Constant]:
    """Leave out what is an argument of one function: it says nothing of others."""
    within = {
        one.path: [
            range(match.start("open"), match.end() + len(enclosed(one.text, match.start("open"))))
            for match in _calls(one, _CALL)
        ]
        for one in texts
    }
    return [one for one in constants if not any(one.position in each for each in within[one.source.path])]


def _function(
    project: Path,
    source: Source,
    match: re.Match[str],
    runtimes: Sequence[_Constant],
    architectures: Sequence[_Constant],
    *,
    texts: Sequence[Source],
) -> Function | None:
    call = enclosed(source.text, match.start("open"))
    unsure: list[str] = []
    for spread in _SPREAD.findall(call):
        table = _table((source, *texts), spread)
        call += table or ""
        if table is None and not (_RUNTIME.search(call) and _ARCHITECTURE.search(call)):
            unsure.append(f"`{spread}`, which more is taken from, was not read")
    is_built = match["kind"] == "PythonFunction"
    own = _RUNTIME.search(call)
    if own is None and re.search(r"\bRuntime\.(?!PYTHON)[A-Z]", call):  # of another language
        return None
    named = _ID.match(call)
    asset = _ASSET.search(call)
    entry = _ENTRY.search(call) if is_built else None
    if own is None and (asset is None or not runtimes) and entry is None:  # no function of Lambda
        return None
    code = _first_argument(entry["value"] if entry else enclosed(call, asset.start("open")) if asset else "")
    name = named["id"] if named else _place(source, match, project)
    runtime = f"python{own[1]}.{own[2]}" if own else _only(runtimes, name, unsure, project)
    told = _ARCHITECTURE.search(call)
    architecture = _ARCHITECTURES[told[1]] if told else _only(architectures, name, unsure, project)
    if architecture is None:
        architecture = "x86_64"
        unsure.append(f"`{name}` names no architecture: the CDK's default is x86_64")
    folder, is_certain = _folder(_followed(code, source), project, source)
    if folder is None:
        folder = project
        unsure.append(f"the code of `{name}` is not named as text: the settings are for the folder of the app")
    elif not is_certain:
        place = os.path.relpath(folder, project).replace(os.sep, "/")
        unsure.append(f"the code of `{name}` is taken to be `{place}`: {code}")
    handler = _argument(call, "handler")
    if is_built:
        module = (_argument(call, "index") or "index.py").removesuffix(".py").replace("/", ".")
        handler = f"{module}.{handler or 'handler'}"
    return Function(
        name=name,
        file=source.path,
        line=source.line(match.start()),
        runtime=runtime,
        architecture=architecture,
        handler=handler,
        folder=folder,
        unsure=tuple(unsure),
    )


def _folder(code: str, project: Path, source: Source) -> tuple[Path | None, bool]:
    """Give the folder that an expression names, and whether it says so: a literal, or literals that are joined."""
    names = _LITERAL.findall(code)
    if not names or any("{" in name for name in names):
        return None, False
    if _LITERAL.fullmatch(code.rstrip()):
        places = [Path(os.path.normpath(base / names[0])) for base in (project, source.path.parent)]
        return next((place for place in places if place.is_dir()), places[0]), True
    here = source.path.parent
    bases = [here, *(one for one in here.parents if one.is_relative_to(project))]
    for base in bases if _HERE.search(code) else reversed(bases):
        place = Path(os.path.normpath(base.joinpath(*names)))
        if place.is_dir():
            return place, base == here and _HERE.search(code) is not None
    return None, False


def _first_argument(text: str) -> str:
    """Cut at the comma that ends it."""
    position = 0
    while position < len(text) and text[position] not in ",)]}":
        if text[position] in "([{":
            position += len(enclosed(text, position)) + 1
        elif text[position] in "\"'`":
            end = text.find(text[position], position + 1)
            position = len(text) if end < 0 else end
        position += 1
    return text[:position].strip()


def _table(texts: Sequence[Source], name: str) -> str | None:
    """Give what a constant has, which is put among the arguments; the first of `texts` that has one."""
    pattern = re.compile(rf"\b{re.escape(name)}\s*(?::[^=\n]+)?=\s*(?:dict\s*)?(?P<open>[({{])")
    for one in texts:
        match = pattern.search(one.text)
        if match:
            return f",{enclosed(one.text, match.start('open'))}"
    return None


def _followed(code: str, source: Source) -> str:
    """Put what constants of the same file are in the place of their names, in an expression that names a folder."""
    code = _TEMPLATE.sub(r"path.join(__dirname, '\1')", code)
    for _ in range(_DEEPEST):
        values = {name: _constant(source.text, name) for name in set(_NAME.findall(code)) if not _HERE.fullmatch(name)}
        followed = _NAME.sub(lambda match, values=values: values.get(match[0]) or match[0], code)  # type: ignore[misc]
        if followed == code or len(followed) > _LONGEST:
            break
        code = followed
    return code


def _constant(text: str, name: str) -> str | None:
    """Give the expression that is assigned to a name."""
    match = re.search(rf"^[ \t]*(?:(?:export|const|let|var)[ \t]+)*{name}\s*(?::[^=\n]+)?=\s*", text, re.MULTILINE)
    if match is None:
        return None
    value = _first_argument(text[match.end() : match.end() + 500])
    return re.split(r"[;\n](?![ \t]*[.)/])", value, maxsplit=1)[0].strip()


def _place(source: Source, match: re.Match[str], project: Path) -> str:
    """Name what has no name by where it stands."""
    return f"{source.path.relative_to(project).as_posix()}:{source.line(match.start())}"


def _argument(call: str, name: str) -> str | None:
    match = re.search(rf"\b{name}\s*[=:]\s*[\"'`]([^\"'`]+)[\"'`]", call)
    return match[1] if match else None


def _only(constants: Sequence[_Constant], name: str, unsure: list[str], project: Path) -> str | None:
    values = {one.value for one in constants}
    if len(values) != 1:
        return None
    one = constants[0]
    where = f"{one.source.path.relative_to(project).as_posix()}:{one.source.line(one.position)}"
    unsure.append(f"{one.value} of `{name}` is what {where} says, the only such thing in the app")
    return one.value
