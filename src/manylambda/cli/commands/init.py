"""`manylambda init`."""

from __future__ import annotations

import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import RESOLVING, project_options, settings_of
from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda init", "the settings, from what the project's files say"),
    ("manylambda init docker -t python3.13-arm64", ""),
    ("manylambda init docker -o docker --force", ""),
)

RECIPES: Final = {
    "docker": "a Dockerfile that installs what the lock gives a target",
    "github": "a workflow of GitHub Actions: check the lock, build, audit, keep the packages",
    "gitlab": "likewise, a pipeline of GitLab CI",
    "codebuild": "likewise, a build specification of AWS CodeBuild",
    "sam": "a Makefile for each folder that SAM's template builds",
    "serverless": "what serverless.yml has to say to upload the zips of `manylambda build`",
    "terraform": "a module that builds a package while Terraform plans",
}
"""The module `pipeline.recipes.NAME` has `init`, which writes it, and may have `found`: what the project's files say of
the settings, as flags that were not given; and `FLAGS`: those that mean something to it."""

EDITING: Final = frozenset({"sam", "serverless"})
"""Recipes that can change the tool's own file."""

_FLAGS: Final = frozenset(
    {
        *RESOLVING, "kind", "name", "handler", "exclude", "exclude_provided", "files_sources", "files_include",
        "files_exclude", "files_executable", "image_base",
    }
)  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    width = max(map(len, RECIPES))
    listed = "\n".join(
        textwrap.fill(f"  {name:<{width}}  {what}", 80, subsequent_indent=" " * (width + 4))
        for name, what in RECIPES.items()
    )
    parser.epilog = f"recipes:\n{listed}"
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="see below; without one the settings that the project needs"
    )
    project_options(parser, only=_FLAGS, rare=_FLAGS - {"targets", "handler"})
    parser.add_argument("-o", "--output", dest="folder", metavar="DIR", help="a folder of the project to write to")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--edit", action="store_true", help="change what has to be changed in the tool's own files")


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from pathlib import Path

    from manylambda.errors import RequestError
    from manylambda.pipeline.recipes.model import Request
    from manylambda.render import document, text

    name, folder = _asked(options)
    request = Request(Path(options.folder) if options.folder else None, options.force, options.edit)
    if name is None:
        from manylambda.pipeline.recipes import configuration
        from manylambda.target import Target

        _refuse_others("init", configuration.FLAGS, options)
        if request.folder is not None or request.edit:
            flag = "--output" if request.folder is not None else "--edit"
            raise RequestError(f"`{flag}` means nothing to `init`", hint="it is for recipes: `manylambda init --help`")
        targets = [Target.parse(one) for one in getattr(options, "targets", ())]
        result = configuration.init(Path(folder), request, targets)
    else:
        options.project = folder
        recipe = import_module(f"manylambda.pipeline.recipes.{name}")
        if hasattr(recipe, "FLAGS"):
            _refuse_others(f"init {name}", recipe.FLAGS, options)
        if request.edit and name not in EDITING:
            raise RequestError(
                f"`--edit` means nothing to `init {name}`", hint="it writes files of its own, and changes no others"
            )
        known = recipe.found(Path(folder)) if hasattr(recipe, "found") else {}
        result = recipe.init(settings_of(options, known), request, progress=console)
    if options.format == "json":
        return as_json(document.recipe(result)), 0
    place = str(request.folder) if name == "terraform" and request.folder is not None else folder
    return text.recipe(result, None if Path(place).resolve() == Path.cwd() else place), 0


def _refuse_others(command: str, flags: frozenset[str], options: argparse.Namespace) -> None:
    """Raise RequestError for a flag that would be passed over in silence."""
    from manylambda import config
    from manylambda.errors import RequestError

    given = [field.flag for field in config.FIELDS if field.attribute in _FLAGS - flags and field.attribute in options]
    if given:
        raise RequestError(
            f"`{given[0]}` means nothing to `{command}`",
            hint="write it into what the recipe writes, or into `[tool.manylambda]` of the project",
        )


def _asked(options: argparse.Namespace) -> tuple[str | None, str]:
    """Give the recipe, if there is one, and the project: a first word that is no recipe is a folder."""
    from pathlib import Path

    from manylambda.errors import RequestError

    if options.recipe is None or options.recipe in RECIPES:
        return options.recipe, options.project
    if options.project == "." and Path(options.recipe).is_dir():
        return None, options.recipe
    listed = ", ".join(f"`{name}`" for name in RECIPES)
    raise RequestError(f"`{options.recipe}` is no recipe, and no folder", hint=f"the recipes are {listed}")
