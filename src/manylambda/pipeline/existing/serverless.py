"""The Serverless Framework: `serverless.yml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.pipeline.existing.model import Described, Function, passed_layer, read, runtime
from manylambda.templates.serverless import find_service, read_service

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.pipeline.existing.model import Source
    from manylambda.templates.serverless import Function as ServerlessFunction
    from manylambda.templates.serverless import Service

PROGRAMS: Final = ("serverless.ts", "serverless.js", "serverless.mjs", "serverless.cjs")
"""What Serverless takes for a service, too, and only it can run."""
_ARCHITECTURE: Final = "x86_64"


def describe(project: Path) -> Described | None:
    """Read the service; None where there is none."""
    path = find_service(project)
    if path is None:
        program = next((name for name in PROGRAMS if (project / name).is_file()), None)
        unread = f"`{program}` is a program, and was not read: only `serverless.yml` and `serverless.json` are"
        return Described("the Serverless Framework", (), (unread,)) if program else None
    service = read_service(path)
    source = read(path)
    named = service.requirements
    requirements = project / named if named is not None and (project / named).is_file() else None
    found = tuple(_function(one, service, source, requirements) for one in service.functions)
    unsure = tuple(f"`{name}` was passed over: {why}" for name, why in service.skipped.items())
    unsure += tuple(passed_layer(name) for name in service.layers)
    if found and service.has_patterns:
        unsure += ("`patterns` of `package` were not followed: `manylambda build -v` lists what is left out",)
    return Described("the Serverless Framework", found, unsure) if found or unsure else None


def _function(one: ServerlessFunction, service: Service, source: Source | None, requirements: Path | None) -> Function:
    project = service.path.parent
    named = {"runtime": one.runtime, "architecture": one.architecture}
    unsure = []
    for key, written in one.variables.items():
        taken = one.assumed.get(key)
        if key == "architecture" and taken is None:
            taken = _ARCHITECTURE
        if key in named and taken is not None:
            named[key] = taken
            unsure.append(f"`{key}` of `{one.name}` is a variable: {written}; {taken} is taken")
        elif key in named:
            unsure.append(f"`{key}` of `{one.name}` is a variable: {written}")
    folder = project / one.module if one.module else project
    architecture = named["architecture"]
    return Function(
        name=one.name,
        file=service.path,
        line=source.line_of(one.name, after="functions") if source else 1,
        runtime=runtime(named["runtime"]),
        architecture=architecture if architecture in {"x86_64", "arm64"} else None,
        handler=one.handler or one.assumed.get("handler"),
        folder=folder,
        requirements=requirements if folder == project else None,
        unsure=tuple(unsure),
    )
