"""The Serverless Framework: `serverless.yml`."""

from __future__ import annotations

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
    named = service.requirements
    requirements = project / named if named is not None and (project / named).is_file() else None
    found = tuple(
        Function(
            name=one.name,
            file=path,
            line=source.line_of(one.name) if source else 1,
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
        for one in service.functions
    )
    unsure = tuple(f"`{name}` was passed over: {why}" for name, why in service.skipped.items())
    return Described("the Serverless Framework", found, unsure) if found or unsure else None
