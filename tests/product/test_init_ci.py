"""`manylambda init github`, `gitlab`, `codebuild`, and the action: valid, safe, and their steps do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from product import pipelines, schemas
from product.pipelines import Job

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the steps are bash's")

ARM, X86 = "python3.13-arm64", "python3.12-x86_64"
BOTH = ("-t", ARM, "-t", X86)
WORKFLOW = ".github/workflows/manylambda.yml"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.machine(tmp_path_factory.mktemp("machine") / "programs")


@pytest.fixture
def repository(run: Run, index: Index, project: Path) -> Path:
    """Make a project at the root of a repository, with a lock of two targets."""
    (project / ".git").mkdir()
    index.wheel("demo", requires=["idna; python_version < '3.13'"])
    index.wheel("idna")
    (project / "requirements.txt").write_text("demo\n")
    run("lock", project, *BOTH)
    return project


@pytest.fixture
def job(repository: Path, tmp_path: Path, programs: Path) -> Job:
    (tmp_path / "runner").mkdir()
    return Job(checkout=repository, temporary=tmp_path / "runner", programs=programs)


def uncommented(path: Path) -> None:
    """Take the marks off the job or phase that stands in the file as a comment."""
    text = path.read_text()
    start = re.search(r"^( *)# (deploy|post_build):$", text, re.MULTILINE)
    assert start
    body = re.sub(rf"^{start[1]}# ?", start[1], text[start.start() :], flags=re.MULTILINE)
    path.write_text(text[: start.start()] + body)


# GitHub


def test_a_workflow_is_valid_and_nothing_is_found_in_it(run: Run, repository: Path) -> None:
    ran = run("init", "github", repository, *BOTH, "--handler", "app.handler", "--format", "json")
    schemas.check("init", ran.json)
    assert ran.json["files"] == [str(repository / WORKFLOW)]
    workflow = repository / WORKFLOW
    pipelines.valid("github-workflows", workflow)
    pipelines.secure(workflow)
    document = pipelines.loaded(workflow)
    assert document["permissions"] == {}
    assert document["jobs"]["package"]["strategy"]["matrix"] == {"target": [ARM, X86]}
    assert document["jobs"]["package"]["permissions"] == {"contents": "read", "security-events": "write"}
    uncommented(workflow)
    pipelines.valid("github-workflows", workflow)
    pipelines.secure(workflow)
    assert pipelines.loaded(workflow)["jobs"]["deploy"]["permissions"] == {"id-token": "write"}


def test_the_steps_of_a_workflow_build_audit_and_tell(run: Run, repository: Path, job: Job) -> None:
    run("init", "github", repository, *BOTH, "--handler", "app.handler")
    jobs = pipelines.loaded(repository / WORKFLOW)["jobs"]
    assert job.run(jobs["lock"]["steps"]) == 0, job.told
    job.context["matrix.target"] = X86
    assert job.run(jobs["package"]["steps"]) == 0, job.told
    package = Path(job.context["steps.build.outputs.path"])
    assert package == repository / "dist" / f"api-{X86}.zip"
    document = run("build", repository, "-t", X86, "--handler", "app.handler", "--format", "json").artifact
    assert job.context["steps.build.outputs.code_sha256"] == document["code_sha256"]
    assert json.loads((job.temporary / "audit.sarif").read_text())["version"] == "2.1.0"
    assert "| <code>idna</code> | 1.0 | pure |" in job.summary
    assert "**nothing found that keeps it from loading**" in job.summary
    upload = next(step for step in jobs["package"]["steps"] if step["name"] == "Keep the package")
    assert job.expanded(upload["with"]["name"]) == f"api-{X86}"
    assert job.expanded(upload["with"]["path"]) == str(package)


def test_a_lock_that_does_not_answer_fails_the_job_that_checks_it(run: Run, repository: Path, job: Job) -> None:
    run("init", "github", repository, *BOTH)
    (repository / "requirements.txt").write_text("demo\nidna\n")
    assert job.run(pipelines.loaded(repository / WORKFLOW)["jobs"]["lock"]["steps"]) == 1
    assert "does not answer the project any more" in job.told[-1]


def test_what_would_not_load_fails_the_audit_and_is_told_where_github_looks(
    run: Run, repository: Path, job: Job
) -> None:
    run("init", "github", repository, *BOTH, "--handler", "app.nothing")
    job.context["matrix.target"] = ARM
    steps = pipelines.loaded(repository / WORKFLOW)["jobs"]["package"]["steps"]
    assert job.run(steps) == 1
    (result,) = json.loads((job.temporary / "audit.sarif").read_text())["runs"][0]["results"]
    assert result["ruleId"] == "handler-missing"
    assert "| error | <code>handler-missing</code> |" in job.summary


def test_without_a_lock_the_workflow_builds_all_the_same(run: Run, repository: Path, job: Job) -> None:
    (repository / "pylock.toml").unlink()
    ran = run("init", "github", repository, "-t", ARM)
    assert "no step checks" in ran.stderr
    assert "next: `manylambda lock`, then `manylambda init github --force`" in ran.stdout
    jobs = pipelines.loaded(repository / WORKFLOW)["jobs"]
    assert set(jobs) == {"package"}
    assert "needs" not in jobs["package"]
    job.context["matrix.target"] = ARM
    assert job.run(jobs["package"]["steps"]) == 0, job.told


@pytest.mark.parametrize("record", ['{"url": "file:///clone", "dir_info": {}}', None])
def test_a_program_that_is_from_no_index_is_told(
    run: Run, repository: Path, tmp_path: Path, record: str | None
) -> None:
    installed = tmp_path / "installed" / "manylambda-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: manylambda\nVersion: 0.1.0\n")
    if record is not None:
        (installed / "direct_url.json").write_text(record)
    ran = run("init", "github", repository, *BOTH, env={"PYTHONPATH": str(installed.parent)})
    assert ("write from where the pipeline gets it" in ran.stdout) == (record is not None)


def test_a_project_below_the_repository_has_a_workflow_of_its_own_name(
    run: Run, index: Index, tmp_path: Path, programs: Path
) -> None:
    root = tmp_path / "repository"
    below = root / "services" / "the orders"
    below.mkdir(parents=True)
    (root / ".git").mkdir()
    (below / "app.py").write_text("def handler(event, context):\n    return 1\n")
    (below / "needs.txt").write_text(f"{index.wheel('demo').name.partition('-')[0]}\n")
    run("init", "github", below, "-t", ARM, "-r", below / "needs.txt", "--kind", "layer", "--name", "it")
    workflow = root / ".github" / "workflows" / "manylambda-it.yml"
    pipelines.valid("github-workflows", workflow)
    pipelines.secure(workflow)
    document = pipelines.loaded(workflow)
    (tmp_path / "runner").mkdir()
    job = Job(checkout=root, temporary=tmp_path / "runner", programs=programs, context={"matrix.target": ARM})
    folder = document["defaults"]["run"]["working-directory"]
    assert job.run(document["jobs"]["package"]["steps"], folder=folder) == 0, job.told
    assert job.context["steps.build.outputs.path"] == str(below / "dist" / f"it-layer-{ARM}.zip")
    assert "hashFiles('services/the orders/needs.txt')" in workflow.read_text()


def test_what_the_configuration_says_is_not_said_again(run: Run, repository: Path) -> None:
    (repository / "manylambda.toml").write_text(f'targets = ["{ARM}"]\nkind = "layer"\nhandler = "app.handler"\n')
    run("init", "github", repository)
    text = (repository / WORKFLOW).read_text()
    assert "manylambda build --no-audit --format json \\\n" in text
    assert "--handler" not in text
    assert "publish-layer-version" in text


def test_a_word_that_a_ci_would_expand_is_refused(run: Run, repository: Path) -> None:
    (repository / "${{ github.actor }}.txt").write_text("demo\n")
    ran = run("init", "github", repository, "-t", ARM, "-r", repository / "${{ github.actor }}.txt", status=2)
    assert "error: a CI would read this as its own words: ${{ github.actor }}.txt" in ran.stderr
    assert not (repository / WORKFLOW).exists()


# Deploying, which stands in each as a comment


@pytest.mark.parametrize("recipe", ["github", "gitlab", "codebuild"])
def test_the_commented_steps_deploy_what_was_built_and_see_it_arrive(
    run: Run, repository: Path, job: Job, tmp_path: Path, recipe: str
) -> None:
    run("init", recipe, repository, "-t", ARM)
    package = Path(run("build", repository, "-t", ARM, "--format", "json").artifact["path"])
    path = repository / {"github": WORKFLOW, "gitlab": ".gitlab-ci.yml", "codebuild": "buildspec.yml"}[recipe]
    uncommented(path)
    document: Any = pipelines.loaded(path)
    if recipe == "github":
        shutil.copytree(package.parent, repository / "package")
        steps = document["jobs"]["deploy"]["steps"]
        commands, variables = steps[-1]["run"].splitlines(), steps[-1]["env"]
    elif recipe == "gitlab":
        pipelines.valid("gitlab-ci", path)
        commands, variables = document["deploy"]["script"], document["deploy"]["variables"]
    else:
        commands, variables = document["phases"]["post_build"]["commands"], {}
    job.environment |= {**variables, "CODEBUILD_BUILD_SUCCEEDING": "1", "CODEBUILD_SRC_DIR": str(repository)}
    # AWS is not here: this tells of what it is sent what AWS would, or of something else.
    fake = tmp_path / "aws"
    fake.mkdir()
    shutil.copytree(job.programs, fake, dirs_exist_ok=True, symlinks=True)
    job.programs = fake
    for sent, status in (('"${6#fileb://}"', 0), ("/dev/null", 1)):
        (fake / "aws").write_text(
            f'#!/bin/sh\necho "$@" >&2\ntest "$4" = api\nopenssl dgst -sha256 -binary {sent} | base64\n'
        )
        (fake / "aws").chmod(0o755)
        assert bool(job.lines(commands)) == bool(status), job.told
    assert f"fileb://{'package' if recipe == 'github' else 'dist'}/{package.name}" in job.told[-1]
    assert "--architectures arm64" in job.told[-1]


@pytest.mark.parametrize(("place", "kept"), [("it.zip", "it.zip"), ("out/it-{target}.zip", "out/it-*.zip")])
def test_a_package_with_a_place_of_its_own_is_kept_and_deployed_from_there(
    run: Run, repository: Path, place: str, kept: str
) -> None:
    targets = [ARM] if "{" not in place else [ARM, X86]
    (repository / "manylambda.toml").write_text(f"targets = {targets}\nartifact = '{place}'\n")
    run("init", "gitlab", repository)
    run("init", "codebuild", repository)
    gitlab, codebuild = repository / ".gitlab-ci.yml", repository / "buildspec.yml"
    for path in (gitlab, codebuild):
        uncommented(path)
        assert f"package=$(ls {place.format(target=ARM)})" in path.read_text()
    assert pipelines.loaded(gitlab)["package"]["artifacts"]["paths"] == [kept]
    artifacts = pipelines.loaded(codebuild)["artifacts"]
    assert artifacts == {"base-directory": str(Path(kept).parent), "files": [Path(kept).name]}


# GitLab


def test_a_pipeline_is_valid_and_its_jobs_check_and_build(run: Run, repository: Path, job: Job) -> None:
    run("init", "gitlab", repository, *BOTH, "--handler", "app.handler")
    path = repository / ".gitlab-ci.yml"
    pipelines.valid("gitlab-ci", path)
    document = pipelines.loaded(path)
    before = document[".manylambda"]["before_script"]
    assert job.lines([*before, *document["lock"]["script"]]) == 0, job.told
    assert document["package"]["parallel"]["matrix"] == [{"TARGET": [ARM, X86]}]
    job.environment["TARGET"] = X86
    assert job.lines([*before, *document["package"]["script"]]) == 0, job.told
    assert "code_sha256" in job.told[-1]
    assert (repository / document["package"]["artifacts"]["paths"][0] / f"api-{X86}.zip").is_file()
    (repository / "requirements.txt").write_text("demo\nidna\n")
    assert job.lines([*before, *document["lock"]["script"]]) == 1


# CodeBuild


def test_a_build_of_codebuild_has_its_phases_and_they_check_and_build(
    run: Run, repository: Path, job: Job, tmp_path: Path
) -> None:
    below = repository / "in here"
    below.mkdir()
    for name in ("app.py", "requirements.txt", "pylock.toml"):
        (repository / name).rename(below / name)
    run("init", "codebuild", below, *BOTH)
    document = yaml.safe_load((repository / "buildspec.yml").read_text())
    assert document["version"] == 0.2
    assert set(document) == {"version", "env", "phases", "artifacts", "cache"}
    assert list(document["phases"]) == ["install", "pre_build", "build"]
    commands = [line for phase in document["phases"].values() for line in phase["commands"]]
    assert job.lines(commands) == 0, job.told
    artifacts = repository / document["artifacts"]["base-directory"]
    assert sorted(file.name for file in artifacts.glob("*.zip")) == [f"in-here-{X86}.zip", f"in-here-{ARM}.zip"]
    (below / "requirements.txt").write_text("demo\nidna\n")
    assert job.lines(commands) == 1


# The action of this repository


ACTION = Path(__file__).parent.parent.parent / "action.yml"


def test_the_action_is_valid_and_nothing_is_found_in_it() -> None:
    pipelines.valid("github-actions", ACTION)
    pipelines.secure(ACTION)


def act(job: Job, programs: Path, **inputs: str) -> tuple[int, dict[str, str]]:
    """Run the action; its own installation is the one that is tested."""
    document = pipelines.loaded(ACTION)
    given = {name: str(one.get("default", "")) for name, one in document["inputs"].items()} | inputs
    job.context |= {f"inputs.{name}": value for name, value in given.items()}
    job.context |= {"runner.temp": str(job.temporary), "steps.python.outputs.python-path": str(programs / "python")}
    steps = {step.get("id"): step for step in document["runs"]["steps"]}
    job.context["steps.install.outputs.python"] = str(programs / "python")
    (job.temporary / "manylambda").mkdir(exist_ok=True)
    status = job.run([steps["build"]])
    return status, {} if status else {name: job.expanded(one["value"]) for name, one in document["outputs"].items()}


def test_the_action_gives_the_path_and_digest_of_one_package(
    run: Run, job: Job, repository: Path, programs: Path
) -> None:
    status, outputs = act(job, programs, targets=ARM)
    assert status == 0, job.told
    expected = run("build", repository, "-t", ARM, "--format", "json").artifact
    assert outputs["paths"] == expected["path"]
    assert outputs["code_sha256"] == expected["code_sha256"]
    assert json.loads(Path(outputs["document"]).read_text())["artifacts"] == [expected]
    assert f"### {ARM}: zip" in job.summary


def test_the_action_gives_objects_for_several_and_takes_what_is_hostile_as_a_word(
    job: Job, repository: Path, programs: Path
) -> None:
    status, outputs = act(job, programs, targets=f"{ARM}\n{X86}", kind="layer", project=".")
    assert status == 0, job.told
    assert {target: Path(path).name for target, path in json.loads(outputs["paths"]).items()} == {
        ARM: f"api-layer-{ARM}.zip", X86: f"api-layer-{X86}.zip",
    }  # fmt: skip
    assert set(json.loads(outputs["code_sha256"])) == {ARM, X86}
    for words in ({"targets": '$(touch "stolen")'}, {"kind": "; touch stolen"}, {"project": "--version"}):
        status, _ = act(job, programs, **{"targets": ARM, **words})
        assert status == 2, job.told
    assert not (repository / "stolen").exists()


def test_the_action_fails_for_what_would_not_load_and_its_summary_says_why(
    job: Job, repository: Path, programs: Path
) -> None:
    (repository / "manylambda.toml").write_text('handler = "app.nothing"\n')
    status, _ = act(job, programs, targets=f"{ARM},{X86}")
    assert status == 1
    assert job.summary.count("| error | <code>handler-missing</code> |") == 2


@pytest.mark.network
def test_the_action_installs_itself_from_its_checkout_and_builds(job: Job, repository: Path, programs: Path) -> None:
    document = pipelines.loaded(ACTION)
    given = {name: str(one.get("default", "")) for name, one in document["inputs"].items()}
    job.context |= {f"inputs.{name}": value for name, value in {**given, "targets": ARM}.items()}
    job.context |= {"runner.temp": str(job.temporary), "steps.python.outputs.python-path": sys.executable}
    job.environment["GITHUB_ACTION_PATH"] = str(ACTION.parent)
    assert job.run(document["runs"]["steps"]) == 0, job.told
    assert job.context["steps.install.outputs.python"] == str(job.temporary / "manylambda/environment/bin/python")
    assert job.expanded(document["outputs"]["paths"]["value"]) == str(repository / "dist" / f"api-{ARM}.zip")
