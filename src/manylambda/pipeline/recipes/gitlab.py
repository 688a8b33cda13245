"""`init gitlab`: a pipeline of GitLab CI that checks the lock and makes an audited package a target."""

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

_FILE: Final = ".gitlab-ci.yml"
_MOST_FILES: Final = 2
"""That GitLab makes the key of a cache from."""


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Write the pipeline into the repository that has the project.

    Raises RequestError where a file is there that says something else, unless `force`.
    """
    found = repository.find(settings, request.folder, progress)
    return found.recipe("gitlab", _FILE, _text(found), "a pipeline that builds and audits", force=request.force)


def _text(found: Repository) -> str:
    enter = "".join(f"    - {scalar(line)}\n" for line in found.enter())
    decides = "".join(f"        - {scalar(name)}\n" for name in found.decides[:_MOST_FILES])
    files = f"      files:\n{decides}" if decides else ""
    lock = f"""\
lock:
  extends: .manylambda
  stage: build
  script:
    - {scalar(found.check())}

"""
    needs = "  needs: [lock]\n" if found.lock else ""
    targets = "".join(f"          - {target}\n" for target in found.targets)
    build = found.build("--target", "$TARGET").replace("'$TARGET'", '"$TARGET"')
    return f"""\
# Builds and audits the Lambda packages of {found.name}; written by `manylambda init gitlab`, yours to change.

.manylambda:
  image: python:{repository.PYTHON}-slim
  interruptible: true
  variables:
    MANYLAMBDA_CACHE_DIR: $CI_PROJECT_DIR/.cache/manylambda
  cache:
    key:
      prefix: manylambda
{files}    paths:
      - .cache/manylambda/
  before_script:
    - python -m pip install {repository.REQUIREMENT}
{enter}
{lock if found.lock else ""}\
package:
  extends: .manylambda
  stage: build
{needs}  parallel:
    matrix:
      - TARGET:
{targets}  script:
    # A package that will not load ends the job, and is not written.
    - {scalar(build)}
  artifacts:
    paths:
      - {scalar(found.output)}

{_deploy(found)}"""


def _deploy(found: Repository) -> str:
    """Return the job that deploys, as a comment: only its owner knows where to, and by which role."""
    if found.kind not in {"zip", "layer"}:
        return ""
    return commented(f"""\
deploy:
  image: python:{repository.PYTHON}-slim
  stage: deploy
  needs: [package]
  rules:
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  environment: production
  id_tokens: # to prove to AWS who asks: there is no key to keep
    AWS_TOKEN:
      aud: https://gitlab.com
  variables:
    NAME: {scalar(found.name)}
    AWS_DEFAULT_REGION: eu-central-1
    AWS_ROLE_ARN: arn:aws:iam::111122223333:role/deploy
    AWS_WEB_IDENTITY_TOKEN_FILE: /tmp/aws-token
  before_script:
    - python -m pip install awscli
    - printf %s "$AWS_TOKEN" > "$AWS_WEB_IDENTITY_TOKEN_FILE"
  script:
    - |
{indented(found.deploy(found.first_package), 6)}
""")
