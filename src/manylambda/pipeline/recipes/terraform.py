"""`init terraform`: a module that builds a package while Terraform plans, and its use for the project."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.pipeline.recipes.model import Recipe, write
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.pipeline.recipes.model import Request
    from manylambda.progress import Progress
    from manylambda.target import Target

FLAGS: Final = frozenset({"targets", "kind", "name", "handler"})
MODULE: Final = "manylambda/main.tf"
USE: Final = "manylambda.tf"


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:  # noqa: ARG001 - a recipe
    """Write the module, and a file that calls it for each target.

    Raises RequestError for a package that is no zip, and where a file is there that says something else, unless
    `force`.
    """
    if settings.kind not in {"zip", "layer"}:
        raise RequestError(
            f"Terraform uploads a zip, not `--kind {settings.kind}`", hint="`--kind zip` or `--kind layer`"
        )
    folder = request.folder or settings.project
    names = {target: _name(settings, target) for target in settings.targets}
    calls = "\n".join(_call(name, target, folder, settings) for target, name in names.items())
    head = "# Packages that manylambda builds; written by `manylambda init terraform`, yours to change.\n"
    module = files("manylambda").joinpath("data", "terraform", "main.tf").read_text("utf-8")
    resource = "aws_lambda_layer_version" if settings.kind == "layer" else "aws_lambda_function"
    return Recipe(
        recipe="terraform",
        targets=settings.targets,
        files=write(folder, {MODULE: module, USE: f"{head}\n{calls}"}, force=request.force),
        summary="a module that builds while Terraform plans, and its use",
        steps=(
            *(
                f"give `{resource}` `filename = module.{name}.filename` and "
                f"`source_code_hash = module.{name}.source_code_hash`"
                for name in names.values()
            ),
            "`terraform init && terraform plan`",
        ),
    )


def _name(settings: Settings, target: Target) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", settings.name.lower()).strip("_")
    name = f"package_{name}" if not name[:1].isalpha() else name
    return name if len(settings.targets) == 1 else f"{name}_{re.sub(r'[^a-z0-9]+', '_', str(target))}"


def _call(name: str, target: Target, folder: Path, settings: Settings) -> str:
    project = os.path.relpath(settings.project, folder.absolute()).replace(os.sep, "/")
    below = "path.root" if project == "." else f'"${{path.root}}/{_escaped(project)}"'
    values = {
        "source": '"./manylambda"',
        "project": below,
        "runtime": f'"{target.runtime}"',
        "architecture": f'"{target.architecture}"',
        **({"kind": '"layer"'} if settings.kind == "layer" else {}),
        **({"handler": f'"{_escaped(settings.handler)}"'} if settings.handler else {}),
    }
    width = max(map(len, values))
    lines = "".join(f"  {key:<{width}} = {value}\n" for key, value in values.items())
    return f'module "{name}" {{\n{lines}}}\n'


def _escaped(text: str) -> str:
    """Write a text as in a string of HCL, where `${` and `%{` begin what is evaluated."""
    text = re.sub(r'["\\\x00-\x1f\x7f]', lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.replace("${", "$${").replace("%{", "%%{")
