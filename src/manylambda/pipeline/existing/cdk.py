"""The AWS CDK: an app in Python, TypeScript or JavaScript, whose sources are read as text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.pipeline.existing.model import Described, Function, enclosed, sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.pipeline.existing.model import Source

_SUFFIXES: Final = frozenset({".py", ".ts", ".js", ".mts", ".mjs"})
_CALL: Final = re.compile(r"\b(?P<kind>(?:Python)?Function)(?P<open>\()")
_ID: Final = re.compile(r"\s*(?:self|this|scope|stack)\s*,\s*[\"'`](?P<id>[^\"'`]+)[\"'`]")
_RUNTIME: Final = re.compile(r"\bRuntime\.PYTHON_(3)_(\d+)\b")
_ARCHITECTURE: Final = re.compile(r"\bArchitecture\.(ARM_64|X86_64)\b")
_ARCHITECTURES: Final = {"ARM_64": "arm64", "X86_64": "x86_64"}
_ASSET: Final = re.compile(r"(?:from_asset|fromAsset)(?P<open>\()")
_ENTRY: Final = re.compile(r"\bentry\s*[=:]\s*(?P<value>.*)", re.DOTALL)
_LITERAL: Final = re.compile(r"\s*[\"'`]([^\"'`]+)[\"'`]")
_JOINED: Final = re.compile(r"\s*(?:\w+\.)*(?:join|resolve)(?P<open>\()")


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
    found = [
        function
        for one in texts
        for match in _CALL.finditer(one.text)
        if (function := _function(project, one, match, runtimes, architectures)) is not None
    ]
    unsure = () if found else ("`cdk.json` is there, and no function of Python was found in the sources of the app",)
    return Described("the CDK", tuple(found), unsure)


def _function(
    project: Path,
    source: Source,
    match: re.Match[str],
    runtimes: Sequence[_Constant],
    architectures: Sequence[_Constant],
) -> Function | None:
    call = enclosed(source.text, match.start("open"))
    is_built = match["kind"] == "PythonFunction"
    own = _RUNTIME.search(call)
    if own is None and ("Runtime." in call or not runtimes):  # of another language, or no function of Lambda
        return None
    named = _ID.match(call)
    asset = _ASSET.search(call)
    entry = _ENTRY.search(call) if is_built else None
    if own is None and asset is None and entry is None:
        return None
    code = entry["value"] if entry else enclosed(call, asset.start("open")) if asset else ""
    unsure: list[str] = []
    name = named["id"] if named else "the function"
    runtime = f"python{own[1]}.{own[2]}" if own else _only(runtimes, name, unsure, project)
    told = _ARCHITECTURE.search(call)
    architecture = _ARCHITECTURES[told[1]] if told else _only(architectures, name, unsure, project)
    if architecture is None:
        architecture = "x86_64"
        unsure.append(f"`{name}` names no architecture: the CDK's default is x86_64")
    folder = _folder(code, project, source)
    if folder is None:
        folder = project
        unsure.append(f"the code of `{name}` is not named as text: the settings are for the folder of the app")
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


def _folder(code: str, project: Path, source: Source) -> Path | None:
    """Give the folder that a text names: a literal, or several that are joined, perhaps to the folder of the source."""
    joined = _JOINED.match(code)
    within = enclosed(code, joined.start("open")) if joined else code
    literal = _LITERAL.match(code)
    names = _LITERAL.findall(within) if joined else [literal[1]] if literal else []
    if not names:
        return None
    bases = (source.path.parent, project) if joined and "dirname" in within else (project, source.path.parent)
    places = [Path(os.path.normpath(base.joinpath(*names))) for base in bases]
    return next((place for place in places if place.is_dir()), places[0])


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
