"""SAM and CloudFormation: `template.yaml`, or what `samconfig.toml` names."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import Described, Function, passed_layer, read
from manylambda.templates.document import parse
from manylambda.templates.sam import find_template, read_template

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.templates.sam import Function as Resource

CONFIGURATIONS: Final = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
"""Where SAM looks for its own settings, in its order."""


def describe(project: Path) -> Described | None:
    """Read the template; None where there is none."""
    path = _named(project) or find_template(project)
    if path is None:
        return None
    template = read_template(path)
    source = read(path)
    found = tuple(
        Function(
            name=one.name,
            file=path,
            line=source.line_of(one.name) if source else 1,
            runtime=one.runtime,
            architecture=one.architecture,
            handler=one.handler,
            folder=one.folder,
            unsure=_by_default(one),
        )
        for one in template.functions
    )
    unsure = [f"`{name}` was passed over: {why}" for name, why in template.skipped.items()]
    unsure += [passed_layer(one.name) for one in template.layers]
    return Described("SAM", found, tuple(unsure)) if found or unsure else None


def _by_default(one: Resource) -> tuple[str, ...]:
    listed = ", ".join(f"`{name}`" for name in one.parameters)
    return (f"`{one.name}` is for {one.runtime}-{one.architecture} by what {listed} is by default",) if listed else ()


def _named(project: Path) -> Path | None:
    source = next((one for name in CONFIGURATIONS if (one := read(project / name)) is not None), None)
    if source is None:
        return None
    document: object
    if source.path.suffix == ".toml":
        try:
            document = tomllib.loads(source.text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"`{source.path}` is not valid TOML: {error}") from error
    else:
        document = parse(source.text, source.path)
    for command in ("build", "global"):
        node: object = document
        for key in ("default", command, "parameters", "template_file"):
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, str) and (project / node).is_file() and ".aws-sam" not in node:
            return project / node
    return None
