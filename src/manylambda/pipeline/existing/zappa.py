"""Zappa: the first stage of `zappa_settings.json` - or `.toml`, `.yml`, `.yaml`, in Zappa's order - that has an app."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import Described, Function, read, runtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manylambda.pipeline.existing.model import Source

_SUFFIXES: Final = (".json", ".toml", ".yml", ".yaml")
_APPS: Final = frozenset({"app_function", "app_module", "django_settings", "lambda_handler", "events"})


def describe(project: Path) -> Described | None:
    """Read the settings; None where there are none."""
    source = next((one for suffix in _SUFFIXES if (one := read(project / f"zappa_settings{suffix}")) is not None), None)
    if source is None:
        return None
    stages = _stages(source)
    found = {name: _extended(stages, name) for name in stages}
    if not found:
        return None
    name = next((name for name, one in found.items() if not _APPS.isdisjoint(one)), next(iter(found)))
    stage = found[name]
    told = stage.get("architecture")
    first = told[0] if isinstance(told, list) and told else told
    match = re.search(rf"^\s*(?:\{{\s*)?\[?[\"']?{re.escape(name)}[\"']?\s*[:\]]", source.text, re.MULTILINE)
    return Described(
        "Zappa",
        (
            Function(
                name=name,
                file=source.path,
                line=source.line(match.end()) if match else 1,
                runtime=runtime(stage.get("runtime")),
                architecture=first if first in ("x86_64", "arm64") else None,
                folder=project,
                unsure=(f"Zappa puts a handler of its own around `{stage.get('app_function', 'the app')}`",),
            ),
        ),
        (f"only the stage `{name}` was read",) if len(found) > 1 else (),
    )


def _stages(source: Source) -> Mapping[str, Mapping[str, Any]]:
    document: object
    match source.path.suffix:
        case ".json":
            try:
                document = json.loads(source.text)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"`{source.path}` is not JSON: {error}") from error
        case ".toml":
            try:
                document = tomllib.loads(source.text)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"`{source.path}` is not valid TOML: {error}") from error
        case _:
            from manylambda.templates.document import parse

            document = parse(source.text, source.path)
    stages = document if isinstance(document, dict) else {}
    return {str(name): one for name, one in stages.items() if isinstance(one, dict)}


def _extended(stages: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Give a stage with what those have that it extends."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    while name in stages and name not in seen:
        seen.add(name)
        found = {**stages[name], **found}
        name = str(stages[name].get("extends"))
    return found
