"""Chalice: the stage `dev`, else the first, of `.chalice/config.json`. The runtime is the Python that runs Chalice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import Described, Function, read

if TYPE_CHECKING:
    from pathlib import Path

_STAGE: Final = "dev"
"""What Chalice takes where none is named."""
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
    stages = stages if isinstance(stages, dict) else {}
    name = _STAGE if _STAGE in stages else next(iter(stages), None)
    stage = stages.get(name)
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
    unsure = []
    if len(stages) > 1:
        unsure.append(f"only the stage `{name}` was read")
    if (project / "vendor").is_dir():
        unsure.append("Chalice puts what lies in `vendor` at the root of the package: add it to `files.sources`")
    return Described("Chalice", (function,), tuple(unsure))
