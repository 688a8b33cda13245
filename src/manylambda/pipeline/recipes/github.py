"""`init github`: a workflow of GitHub Actions that checks the lock, builds, audits and keeps a package a target."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from manylambda.pipeline.recipes import repository
from manylambda.pipeline.recipes.yaml_text import commented, indented, scalar
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from manylambda.config import Settings
    from manylambda.pipeline.recipes.model import Recipe, Request
    from manylambda.pipeline.recipes.repository import Repository
    from manylambda.progress import Progress

_RUNNER: Final = "ubuntu-24.04"


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Write the workflow into `.github/workflows` of the repository that has the project.

    Raises RequestError where a file is there that says something else, unless `force`.
    """
    found = repository.find(settings, request.folder, progress)
    slug = re.sub(r"[^a-z0-9]+", "-", found.name.lower()).strip("-") or "function"
    file = ".github/workflows/" + ("manylambda.yml" if found.below == "." else f"manylambda-{slug}.yml")
    return found.recipe("github", file, _text(found), "a workflow that builds and audits", force=request.force)


def pinned(action: str) -> str:
    """Return an action by the commit of its newest version that we know, with the version as a comment."""
    known: dict[str, Any] = json.loads(files("manylambda").joinpath("data", "actions.json").read_text("utf-8"))
    one = known["actions"][action]
    return f"{action}@{one['commit']} # {one['version']}"


def _text(found: Repository) -> str:
    jobs = (_head(found), *([_lock(found)] if found.lock else []), _package(found), _deploy(found))
    return "\n".join(job for job in jobs if job)


def _head(found: Repository) -> str:
    where = "" if found.below == "." else f"\ndefaults:\n  run:\n    working-directory: {scalar(found.below)}\n"
    return f"""\
# Builds and audits the Lambda packages of {found.name}; written by `manylambda init github`, yours to change.
# Actions are named by commit: a tag can be moved. `manylambda init github --force` writes those it knows then.
name: {scalar(f"Lambda packages of {found.name}")}

on:
  push:
    branches: [main]
  pull_request:

permissions: {{}} # each job names what it needs

concurrency:
  group: ${{{{ github.workflow }}}}-${{{{ github.ref }}}}
  cancel-in-progress: true
{where}
jobs:"""


def _lock(found: Repository) -> str:
    return f"""\
  lock:
    name: The lock answers
    runs-on: {_RUNNER}
    timeout-minutes: 10
    permissions:
      contents: read # to check the project out
    steps:
{_prepared()}
      - name: Check the lock
        run: {scalar(found.check())}
"""


def _package(found: Repository) -> str:
    decides = ", ".join("'{}'".format(name.replace("'", "''")) for name in found.decides) or "'requirements.txt'"
    targets = "".join(f"\n          - {target}" for target in found.targets)
    needs = "\n    needs: lock" if found.lock else ""
    audited = "".join(f" {shlex.quote(word)}" for word in found.audited)
    return f"""\
  package:
    name: Package for ${{{{ matrix.target }}}}{needs}
    runs-on: {_RUNNER}
    timeout-minutes: 20
    permissions:
      contents: read # to check the project out
      security-events: write # to show what the audit found under Security
    strategy:
      fail-fast: false
      matrix:
        target:{targets}
    steps:
{_prepared()}
      - name: Keep wheels
        uses: {pinned("actions/cache")}
        with:
          path: ~/.cache/manylambda
          key: manylambda-${{{{ matrix.target }}}}-${{{{ hashFiles({decides}) }}}}
          restore-keys: manylambda-${{{{ matrix.target }}}}-
      # What the audit finds is told by the next step, which writes it for GitHub.
      - name: Build
        id: build
        env:
          TARGET: ${{{{ matrix.target }}}}
        run: |
          {found.build("--no-audit", "--format", "json")} \\
            --target "$TARGET" --summary "$GITHUB_STEP_SUMMARY" > "$RUNNER_TEMP/build.json"
          python - "$RUNNER_TEMP/build.json" >> "$GITHUB_OUTPUT" <<'END'
          import json, sys
          [made] = json.load(open(sys.argv[1], encoding="utf-8"))["artifacts"]
          print("path", made["path"], sep="=")
          print("code_sha256", made["code_sha256"] or "", sep="=")
          END
      - name: Audit
        id: audit
        env:
          PACKAGE: ${{{{ steps.build.outputs.path }}}}
          TARGET: ${{{{ matrix.target }}}}
        run: |
          manylambda audit "$PACKAGE" --target "$TARGET"{audited} --format sarif \\
            --summary "$GITHUB_STEP_SUMMARY" > "$RUNNER_TEMP/audit.sarif"
      # A private repository needs GitHub Code Security for this step; a change from a fork may not write.
      - name: Show findings
        if: >-
          ${{{{ !cancelled() && steps.audit.outcome != 'skipped'
          && github.event.pull_request.head.repo.fork != true }}}}
        uses: {pinned("github/codeql-action/upload-sarif")}
        with:
          sarif_file: ${{{{ runner.temp }}}}/audit.sarif
          category: ${{{{ matrix.target }}}}
      - name: Keep the package
        uses: {pinned("actions/upload-artifact")}
        with:
          name: {found.name}-${{{{ matrix.target }}}}
          path: ${{{{ steps.build.outputs.path }}}}
          if-no-files-found: error
"""


def _prepared() -> str:
    return f"""\
      - name: Check out
        uses: {pinned("actions/checkout")}
        with:
          persist-credentials: false
      - name: Install Python
        uses: {pinned("actions/setup-python")}
        with:
          python-version: "{repository.PYTHON}"
      - name: Install manylambda
        run: python -m pip install {repository.REQUIREMENT}"""


def _deploy(found: Repository) -> str:
    """Return the job that deploys, as a comment: only its owner knows where to, and by which role."""
    match found.kind:
        case "dir":
            return ""
        case "image":
            minutes = 20
            environment = f"""\
  env:
    FUNCTION: {scalar(found.name)}
    REPOSITORY: 111122223333.dkr.ecr.eu-central-1.amazonaws.com/{found.name.lower()}
"""
            install = f"""\
    - name: Install manylambda
      run: pipx install {repository.REQUIREMENT}
"""
            steps = """\
    - name: Deploy
      run: |
        aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY%%/*}"
        manylambda push image "$REPOSITORY:$GITHUB_SHA"
        aws lambda update-function-code --function-name "$FUNCTION" --image-uri "$REPOSITORY:$GITHUB_SHA"
"""
        case _:
            minutes, environment, install = 10, "", ""
            steps = f"""\
    - name: Deploy
      env:
        NAME: {scalar(found.name)}
      run: |
{indented(found.deploy("package/*.zip"), 8)}
"""
    what = "image" if found.kind == "image" else "package"
    return commented(
        f"""\
deploy:
  name: Deploy
  needs: package
  if: ${{{{ github.ref == 'refs/heads/main' }}}}
  runs-on: {_RUNNER}
  timeout-minutes: {minutes}
  environment: production
  permissions:
    id-token: write # to prove to AWS who asks: there is no key to keep
{environment}\
  defaults:
    run:
      working-directory: .
  steps:
    - name: Get the {what}
      uses: {pinned("actions/download-artifact")}
      with:
        name: {found.name}-{found.targets[0]}
        path: {what}
{install}\
    - name: Become the role
      uses: {pinned("aws-actions/configure-aws-credentials")}
      with:
        role-to-assume: arn:aws:iam::111122223333:role/deploy
        aws-region: eu-central-1
{steps}""",
        2,
    )
