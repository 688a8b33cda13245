"""The Serverless Framework: `serverless.yml`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from manylambda.pipeline.existing.model import Described, Function, read, runtime
from manylambda.templates.document import read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NAMES: Final = ("serverless.yml", "serverless.yaml", "serverless.json")


def describe(project: Path) -> Described | None:
    """Read the service; None where there is none."""
    path = next((project / name for name in _NAMES if (project / name).is_file()), None)
    if path is None:
        return None
    document = read_mapping(path)
    provider = _mapping(document.get("provider"))
    source = read(path)
    text = source.text if source else ""
    named = _mapping(_mapping(document.get("custom")).get("pythonRequirements")).get("fileName")
    requirements = project / named if isinstance(named, str) and (project / named).is_file() else None
    found, unsure = [], []
    for name, given in _functions(document.get("functions")):
        if "image" in given:
            unsure.append(f"`{name}` was passed over: it is a container image")
            continue
        of_it = {"runtime": given.get("runtime", provider.get("runtime"))}
        of_it["architecture"] = given.get("architecture", provider.get("architecture"))
        if isinstance(of_it["runtime"], str) and of_it["runtime"].startswith(("node", "java", "go", "ruby", "dotnet")):
            unsure.append(f"`{name}` was passed over: its runtime is {of_it['runtime']}")
            continue
        open_ones = [f"`{key}` of `{name}` is a variable: {value}" for key, value in of_it.items() if _is_open(value)]
        match = re.search(rf"^\s*(?:- )?[\"']?{re.escape(name)}[\"']?\s*:", text, re.MULTILINE)
        handler = given.get("handler")
        found.append(
            Function(
                name=name,
                file=path,
                line=text.count("\n", 0, match.end()) + 1 if match else 1,
                runtime=runtime(of_it["runtime"]),
                architecture=of_it["architecture"] if of_it["architecture"] in {"x86_64", "arm64"} else None,
                handler=handler if isinstance(handler, str) and not _is_open(handler) else None,
                folder=project,
                requirements=requirements,
                unsure=tuple(open_ones),
            )
        )
    return Described("the Serverless Framework", tuple(found), tuple(unsure)) if found or unsure else None


def _functions(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for table in value if isinstance(value, list) else [value]:
        for name, given in _mapping(table).items():
            if isinstance(given, dict):
                yield str(name), given


def _is_open(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and "${" in value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
