"""`init codebuild`: a build specification of AWS CodeBuild that checks the lock and makes audited packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.pipeline.recipes import repository
from manylambda.pipeline.recipes.yaml_text import commented, indented, scalar
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from manylambda.config import Settings
    from manylambda.pipeline.recipes.model import Recipe, Request
    from manylambda.pipeline.recipes.repository import Repository
    from manylambda.progress import Progress

_FILE: Final = "buildspec.yml"


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Write the build specification into the repository that has the project.

    Raises RequestError where a file is there that says something else, unless `force`.
    """
    found = repository.find(settings, request.folder, progress)
    return found.recipe("codebuild", _FILE, _text(found), "a build that makes and audits", force=request.force)


def _text(found: Repository) -> str:
    enter = "".join(f"      - {scalar(line)}\n" for line in found.enter())
    check = f"      - {scalar(found.check())}\n" if found.lock else ""
    before = f"  pre_build:\n    on-failure: ABORT\n    commands:\n{check}" if check else ""
    folder, _, pattern = found.output.rpartition("/") if found.is_exact else (found.output, "", "**/*")
    return f"""\
# Builds and audits the Lambda packages of {found.name}; written by `manylambda init codebuild`, yours to change.
version: 0.2

env:
  variables:
    MANYLAMBDA_CACHE_DIR: /root/.cache/manylambda

phases:
  install:
    on-failure: ABORT
    runtime-versions:
      python: "{repository.PYTHON}"
    commands:
      - python -m pip install {repository.REQUIREMENT}
{enter}{before}\
  build:
    on-failure: ABORT
    commands:
      # A package that will not load ends the build, and is not written.
      - {scalar(found.build(*found.asked))}
{_deploy(found)}
artifacts:
  base-directory: {scalar(folder or ".")}
  files:
    - {scalar(pattern)}

cache:
  paths:
    - /root/.cache/manylambda/**/*
"""


def _deploy(found: Repository) -> str:
    """Return the phase that deploys, as a comment: only its owner knows where to. The build's own role deploys."""
    if found.kind not in {"zip", "layer"}:
        return ""
    return commented(
        f"""\
post_build:
  commands:
    - |
      set -e
      test "$CODEBUILD_BUILD_SUCCEEDING" = 1 # this phase runs after a failed one, too
      cd "$CODEBUILD_SRC_DIR" && NAME={scalar(found.name)}
{indented(found.deploy(found.first_package), 6)}
""",
        2,
    )
