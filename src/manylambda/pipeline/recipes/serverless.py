"""`init serverless`: the zips of `manylambda build` as the artifacts of a service, without a plugin."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.recipes.model import Recipe, write
from manylambda.progress import SILENT
from manylambda.templates.edit import Entries, with_entries
from manylambda.templates.serverless import NAMES, find_service, read_service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.pipeline.recipes.model import Request
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.templates.serverless import Service

FLAGS: Final = frozenset({"targets"})


def found(project: Path) -> Mapping[str, object]:
    """Return the targets of the project's service, as flags that were not given."""
    return {"targets": [str(target) for target in _targets(_read(project))]}


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Say, or with `edit` write, which zip each function of the project's service is made from.

    Raises RequestError where there is no service of functions on Python, where `settings` are for other targets than it
    names, and where its file is written so that it cannot be changed.
    """
    service = _read(settings.project)
    targets = _targets(service)
    if set(settings.targets) != set(targets):
        raise RequestError(
            f"`{service.path.name}` decides what is built for which target, not `--target`",
            hint="change `runtime` and `architecture` there",
        )
    for name, why in service.skipped.items():
        progress.info(f"`{name}` is left to Serverless: {why}")
    entries = list(_entries(service, settings))
    files: tuple[Path, ...] = ()
    if request.edit and entries:
        text = service.path.read_bytes().decode()  # with the line ends it has
        edited = with_entries(text, service.path, entries)
        files = write(service.path.parent, {service.path.name: edited}, force=True)
    words = [f"-t {target}" for target in targets]
    if settings.artifact is None:
        words.append(f'--artifact "{_artifact(service, settings, "{target}")}"')
    return Recipe(
        recipe="serverless",
        targets=targets,
        files=files,
        summary=f"{', '.join(one.name for one in service.functions)}: Serverless uploads what manylambda builds",
        steps=(
            *(() if request.edit else _steps(service, entries)),
            f"`manylambda build {' '.join(words)} && serverless deploy`",
        ),
    )


def _read(project: Path) -> Service:
    path = find_service(project)
    if path is None:
        names = ", ".join(f"`{name}`" for name in NAMES)
        raise RequestError(f"`{project}` has no service of Serverless: none of {names}", hint="name its folder")
    service = read_service(path)
    unknown = {one.name: "its target is known to Serverless only" for one in service.functions if one.target is None}
    unknown |= {
        one.name: f"its package is that of the folder `{one.module}`" for one in service.functions if one.module
    }
    service = replace(
        service,
        functions=tuple(one for one in service.functions if one.name not in unknown),
        skipped={**service.skipped, **unknown},
    )
    if not service.functions:
        reasons = "; ".join(f"`{name}`: {why}" for name, why in service.skipped.items())
        raise RequestError(f"`{path}` has no function that runs on Python", hint=reasons or None)
    return service


def _targets(service: Service) -> tuple[Target, ...]:
    return tuple(dict.fromkeys(function.target for function in service.functions if function.target is not None))


def _entries(service: Service, settings: Settings) -> Iterator[Entries]:
    """Yield what the file has to say besides: for all at once where one zip is for all."""
    wanted = {one.name: _artifact(service, settings, str(one.target)) for one in service.functions}
    if len(set(wanted.values())) == 1 and not service.skipped:
        (artifact,) = set(wanted.values())
        if any(one.artifact != artifact for one in service.functions):
            yield Entries((), {"package": {"artifact": artifact}}, "functions")
        return
    for one in service.functions:
        if one.artifact != wanted[one.name]:
            yield Entries(("functions", one.name), {"package": {"artifact": wanted[one.name]}}, "handler")


def _artifact(service: Service, settings: Settings, target: str) -> str:
    """Return the place of a zip, from the service's file: by the service's name, since folders are called anything."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", service.name or settings.name)
    place = settings.artifact or settings.output / f"{name}-{{target}}.zip"
    return os.path.relpath(place, settings.project).replace(os.sep, "/").replace("{target}", target)


def _steps(service: Service, entries: list[Entries]) -> Iterator[str]:
    for one in entries:
        where = f"the `package` of `{one.where[-1]}`" if one.where else "`package`"
        yield f"in `{service.path.name}`, write `artifact: {one.values['package']['artifact']}` into {where}"
    if entries:
        yield "or let `manylambda init serverless --edit` write that"
