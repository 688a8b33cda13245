"""The Serverless Framework: `serverless.yml`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manylambda.pipeline.existing.model import Described, Function, read, runtime
from manylambda.templates.serverless import find_service, read_service

if TYPE_CHECKING:
    from pathlib import Path


def describe(project: Path) -> Described | None:
    """Read the service; None where there is none."""
    path = find_service(project)
    if path is None:
        return None
    service = read_service(path)
    source = read(path)
    text = source.text if source else ""
    named = service.requirements
    requirements = project / named if named is not None and (project / named).is_file() else None
    found = []
    for one in service.functions:
        match = re.search(rf"^\s*(?:- )?[\"']?{re.escape(one.name)}[\"']?\s*:", text, re.MULTILINE)
        found.append(
            Function(
                name=one.name,
                file=path,
                line=text.count("\n", 0, match.end()) + 1 if match else 1,
                runtime=runtime(one.runtime),
                architecture=one.architecture if one.architecture in {"x86_64", "arm64"} else None,
                handler=one.handler,
                folder=project,
                requirements=requirements,
                unsure=tuple(
                    f"`{key}` of `{one.name}` is a variable: {value}"
                    for key, value in one.variables.items()
                    if key != "handler"
                ),
            )
        )
    unsure = tuple(f"`{name}` was passed over: {why}" for name, why in service.skipped.items())
    return Described("the Serverless Framework", tuple(found), unsure) if found or unsure else None
