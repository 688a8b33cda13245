"""Terraform: `aws_lambda_function`, and modules with a runtime, read as text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda.pipeline.existing.model import Described, Function, enclosed, runtime, sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.pipeline.existing.model import Source

_FUNCTION: Final = re.compile(
    r"^\s*(?:resource\s+\"aws_lambda_function\"|module)\s+\"(?P<name>[^\"]+)\"\s*(?P<open>\{)", re.MULTILINE
)
_VARIABLE: Final = re.compile(r"^\s*variable\s+\"(?P<name>[^\"]+)\"\s*(?P<open>\{)", re.MULTILINE)
_ARCHIVE: Final = re.compile(r"^\s*data\s+\"archive_file\"\s+\"(?P<name>[^\"]+)\"\s*(?P<open>\{)", re.MULTILINE)


def describe(project: Path) -> Described | None:
    """Read the configuration; None where there is no function of Python in it."""
    texts = list(sources(project, {".tf"}))
    variables: dict[str, str] = {}
    archives: dict[str, str] = {}
    for one in texts:
        for match in _VARIABLE.finditer(one.text):
            value = _value(enclosed(one.text, match.start("open")), "default", {})
            if value is not None:
                variables[match["name"]] = value
        for match in _ARCHIVE.finditer(one.text):
            block = enclosed(one.text, match.start("open"))
            folder = _value(block, "source_dir", {}) or _value(block, "source_file", {})
            if folder is not None:
                archives[match["name"]] = folder
    found = [
        function
        for one in texts
        for match in _FUNCTION.finditer(one.text)
        if (function := _function(one, match, variables, archives)) is not None
    ]
    return Described("Terraform", tuple(found)) if found else None


def _function(
    source: Source, match: re.Match[str], variables: Mapping[str, str], archives: Mapping[str, str]
) -> Function | None:
    block = enclosed(source.text, match.start("open"))
    named = runtime(_value(block, "runtime", variables))
    if named is None:
        return None
    name = match["name"]
    architecture = _value(block, "architectures?", variables)  # our own module has one
    unsure = []
    if architecture not in {"x86_64", "arm64"}:
        if architecture is not None or re.search(r"^\s*architectures?\s*=", block, re.MULTILINE):
            unsure.append(f"`architectures` of `{name}` is not written out: x86_64 is taken")
        architecture = "x86_64"
    archived = re.search(r"data\.archive_file\.(\w+)\.output_path", block)
    place = archives.get(archived[1]) if archived else _value(block, "source_path", variables)
    folder = source.path.parent
    if place is not None:
        folder = Path(os.path.normpath(folder / re.sub(r"\$\{path\.(?:module|root|cwd)\}/?", "", place)))
        folder = folder.parent if folder.suffix == ".py" else folder
    return Function(
        name=name,
        file=source.path,
        line=source.line(match.start("open")),
        runtime=named,
        architecture=architecture,
        handler=_value(block, "handler", variables),
        folder=folder,
        unsure=tuple(unsure),
    )


def _value(block: str, name: str, variables: Mapping[str, str]) -> str | None:
    """Give a text, the first of a list, or the default of the variable that is named; `name` is a pattern."""
    match = re.search(rf"^\s*{name}\s*=\s*\[?\s*(?:\"([^\"\n]*)\"|var\.(\w+))", block, re.MULTILINE)
    if match is None:
        return None
    return match[1] if match[2] is None else variables.get(match[2])
