"""Chalice: the first stage of `.chalice/config.json`. The runtime is that of the Python that runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import Described, Function, read

if TYPE_CHECKING:
    from pathlib import Path

_HANDLER: Final = "app.app"
_ARCHITECTURE: Final = "x86_64"


def describe(project: Path) -> Described | None:
    """Read the configuration; None where there is none."""
    source = read(project / ".chalice" / "config.json")
    if source is None:
        return None
    try:
        document = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"`{source.path}` is not JSON: {error}") from error
    if not isinstance(document, dict):
        return None
    stages = document.get("stages")
    stage = next(iter(stages.values()), None) if isinstance(stages, dict) else None
    named = (stage.get("lambda_architecture") if isinstance(stage, dict) else None) or document.get(
        "lambda_architecture", _ARCHITECTURE
    )
    place = source.text.find('"lambda_architecture"')
    function = Function(
        name=str(document.get("app_name", "the app")),
        file=source.path,
        line=source.line(max(place, 0)),
        architecture=named if named in ("x86_64", "arm64") else None,
        handler=_HANDLER,
        folder=project,
    )
    return Described("Chalice", (function,))
