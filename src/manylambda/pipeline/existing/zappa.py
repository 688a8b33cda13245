"""Zappa: the first stage of `zappa_settings.json`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import Described, Function, read, runtime

if TYPE_CHECKING:
    from pathlib import Path


def describe(project: Path) -> Described | None:
    """Read the settings; None where there are none."""
    source = read(project / "zappa_settings.json")
    if source is None:
        return None
    try:
        stages = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"`{source.path}` is not JSON: {error}") from error
    found = [(name, one) for name, one in stages.items() if isinstance(one, dict)] if isinstance(stages, dict) else []
    if not found:
        return None
    name, stage = found[0]
    told = stage.get("architecture")
    first = told[0] if isinstance(told, list) and told else told
    match = re.search(rf"\"{re.escape(name)}\"\s*:", source.text)
    return Described(
        "Zappa",
        (
            Function(
                name=name,
                file=source.path,
                line=source.line(match.start()) if match else 1,
                runtime=runtime(stage.get("runtime")),
                architecture=first if first in ("x86_64", "arm64") else None,
                folder=project,
                unsure=(f"Zappa puts a handler of its own around `{stage.get('app_function', 'the app')}`",),
            ),
        ),
        (f"only the stage `{name}` was read",) if len(found) > 1 else (),
    )
