"""`init sam`: a Makefile for each folder that SAM builds, so that `sam build` calls manylambda."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.recipes.model import Recipe, write
from manylambda.progress import SILENT
from manylambda.templates.edit import Entries, with_entries
from manylambda.templates.sam import NAMES, Function, Layer, find_template, read_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.pipeline.recipes.model import Request
    from manylambda.progress import Progress
    from manylambda.templates.sam import Template

FLAGS: Final = frozenset({"targets"})
MAKEFILE: Final = "Makefile"
_HANDLER: Final = re.compile(r"[\w./-]+")

# `sam build` runs make in a copy of the folder, and names the Makefile by its place in the folder itself. A path may
# have spaces: make's own `dir` would take it apart.
_HEAD: Final = """\
# What `sam build` calls for NAMES; written by `manylambda init sam`, yours to change.
MANYLAMBDA ?= manylambda
# The folder itself: make runs in a copy of it, without what lies beside it.
SOURCE := $(or $(patsubst %Makefile,%,$(subst \\,/,$(MAKEFILE_LIST))),.)
"""


def found(project: Path) -> Mapping[str, object]:
    """Return the targets of the project's template, as flags that were not given."""
    return {"targets": list(dict.fromkeys(str(target) for one in _read(project).resources for target in one.targets))}


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Write the Makefiles that the project's template needs, and say or do what is to be changed in the template.

    Raises RequestError, before anything is written, where there is no template, where `settings` are for other targets
    than it names, where a folder is not there, and where a Makefile is there that says something else.
    """
    template = _read(settings.project)
    targets = tuple(dict.fromkeys(target for one in template.resources for target in one.targets))
    if set(settings.targets) != set(targets):
        raise RequestError(
            f"`{template.path.name}` decides what is built for which target, not `--target`",
            hint="change `Runtime` and `Architectures` there",
        )
    for name, why in template.skipped.items():
        progress.info(f"`{name}` is left to SAM: {why}")
    for one in template.functions:
        if one.parameters:
            listed = ", ".join(f"`{name}`" for name in one.parameters)
            progress.info(f"`{one.name}` is built for {one.targets[0]}, by what {listed} is by default")
    folder = request.folder or settings.project
    documents = {
        f"{_below(place, settings.project, folder)}/{MAKEFILE}": _makefile(resources)
        for place, resources in _by_folder(template).items()
    }
    lacking = {one.name: values for one in template.resources if (values := _lacking(one))}
    text = _text(template.path)
    entries = [Entries(("Resources", name), {"Metadata": values}, "Type") for name, values in lacking.items() if values]
    edited = with_entries(text, template.path, entries) if request.edit else text
    files = write(folder, documents, force=request.force)
    if edited != text:
        files += write(template.path.parent, {template.path.name: edited}, force=True)
    names = ", ".join(one.name for one in template.resources)
    return Recipe(
        recipe="sam",
        targets=targets,
        files=files,
        summary=f"with it `sam build` makes {names} by manylambda",
        steps=(*(() if request.edit else _steps(template.path.name, lacking)), "`sam build`"),
    )


def _read(project: Path) -> Template:
    path = find_template(project)
    if path is None:
        names = ", ".join(f"`{name}`" for name in NAMES)
        raise RequestError(f"`{project}` has no template of SAM: none of {names}", hint="name its folder")
    template = read_template(path)
    if not template.resources:
        reasons = "; ".join(f"`{name}`: {why}" for name, why in template.skipped.items())
        raise RequestError(
            f"`{path}` has no function and no layer that is made from a folder of Python", hint=reasons or None
        )
    return template


def _text(path: Path) -> str:
    return path.read_bytes().decode()  # with the line ends it has


def _by_folder(template: Template) -> Mapping[Path, Sequence[Function | Layer]]:
    found: dict[Path, list[Function | Layer]] = defaultdict(list)
    for one in template.resources:
        if not one.folder.is_dir():
            raise RequestError(f"`{one.name}` is made from a folder that is not there: `{one.folder}`")
        found[one.folder].append(one)
    return found


def _below(place: Path, project: Path, folder: Path) -> str:
    """Return where the Makefile of `place` goes, from `folder`: there, or in a folder for looking at them."""
    path = os.path.relpath(place, project).replace(os.sep, "/")
    return path if folder == project else path.replace("../", "")


def _makefile(resources: Sequence[Function | Layer]) -> str:
    names = ", ".join(one.name for one in resources)
    rules = [f"build-{one.name}:\n" + "".join(f"\t{line}\n" for line in _commands(one)) for one in resources]
    phony = " ".join(f"build-{one.name}" for one in resources)
    return "\n".join((_HEAD.replace("NAMES", names), f".PHONY: {phony}", *rules))


def _commands(one: Function | Layer) -> Iterator[str]:
    """Yield the build of a function; of a layer one for each runtime it is for."""
    build = '$(MANYLAMBDA) build "$(SOURCE)" -t {} --kind dir --artifact "$(ARTIFACTS_DIR){}"'
    if isinstance(one, Function):
        for target in one.targets:
            handler = f' --handler "{one.handler}"' if one.handler and _HANDLER.fullmatch(one.handler) else ""
            yield build.format(target, "") + handler
        return
    # SAM takes a layer that a Makefile makes as it is. Modules of its own may lie where they will lie in the layer.
    modules = ' --source "$(SOURCE)python"' if (one.folder / "python").is_dir() else ""
    for target in one.targets:
        below = "/python" if len(one.targets) == 1 else f"/python/lib/{target.runtime}/site-packages"
        yield build.format(target, below) + modules


def _lacking(one: Function | Layer) -> Mapping[str, str]:
    """Return what the `Metadata` of a resource has to say besides."""
    lacking = {} if one.build_method == "makefile" else {"BuildMethod": "makefile"}
    if isinstance(one, Layer) and one.build_architecture != one.architecture:
        lacking["BuildArchitecture"] = one.architecture
    return lacking


def _steps(template: str, lacking: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name, values in lacking.items():
        lines = " and ".join(f"`{key}: {value}`" for key, value in values.items())
        yield f"in `{template}`, write {lines} into the `Metadata` of `{name}`"
    if lacking:
        yield "or let `manylambda init sam --edit` write that"
