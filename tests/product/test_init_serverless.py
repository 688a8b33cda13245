"""`manylambda init serverless`: what serverless.yml is to say, and that it names what `manylambda build` writes."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from manylambda.templates.serverless import read_service
from product import schemas

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run

ONE = """\
service: orders # ours
provider:
  name: aws
  runtime: python3.13
  architecture: arm64
functions:
  api:
    handler: app.handler
  other:
    handler: app.handler
"""
TWO = ONE.replace("  other:\n", "  other:\n    architecture: x86_64\n")


def file(project: Path, text: str) -> Path:
    path = project / "serverless.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_one_zip_for_all_functions_is_named_once(run: Run, project: Path) -> None:
    path = file(project, ONE)
    ran = run("init", "serverless", project, "--format", "json")
    schemas.check("init", ran.json)
    assert ran.json["files"] == []
    assert ran.json["steps"] == [
        "in `serverless.yml`, write `artifact: dist/orders-python3.13-arm64.zip` into `package`",
        "or let `manylambda init serverless --edit` write that",
        '`manylambda build -t python3.13-arm64 --artifact "dist/orders-{target}.zip" && serverless deploy`',
    ]
    assert path.read_text(encoding="utf-8") == ONE
    run("init", "serverless", project, "--edit")
    artifact = "package:\n  artifact: dist/orders-python3.13-arm64.zip\n"
    assert path.read_text(encoding="utf-8") == ONE.replace("functions:", f"{artifact}functions:")
    assert len(run("init", "serverless", project, "--format", "json").json["steps"]) == 1


def test_what_is_told_to_build_is_what_the_service_names(run: Run, project: Path) -> None:
    path = file(project, TWO)
    ran = run("init", "serverless", project, "--edit", "--format", "json")
    assert ran.json["files"] == [str(path)]
    (step,) = ran.json["steps"]
    build, _, deploy = step.strip("`").partition(" && ")
    assert deploy == "serverless deploy"
    run(*shlex.split(build)[1:], cwd=project)
    functions = read_service(path).functions
    assert [one.artifact for one in functions] == [
        "dist/orders-python3.13-arm64.zip", "dist/orders-python3.13-x86_64.zip",
    ]  # fmt: skip
    assert all((project / str(one.artifact)).is_file() for one in functions)


def test_what_only_serverless_knows_is_left_to_it(run: Run, project: Path) -> None:
    path = file(project, TWO.replace("x86_64", "${param:architecture}"))
    ran = run("init", "serverless", project, "--edit")
    assert "`other` is left to Serverless: its target is known to Serverless only\n" in ran.stderr
    assert [one.artifact for one in read_service(path).functions] == ["dist/orders-python3.13-arm64.zip", None]


def test_a_place_in_the_settings_is_kept(run: Run, project: Path) -> None:
    file(project, ONE)
    (project / "pyproject.toml").write_text('[tool.manylambda]\nartifact = "made/{target}.zip"\n', encoding="utf-8")
    steps = run("init", "serverless", project, "--format", "json").json["steps"]
    assert "`artifact: made/python3.13-arm64.zip`" in steps[0]
    assert steps[-1] == "`manylambda build -t python3.13-arm64 && serverless deploy`"


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (None, (), "has no service of Serverless: none of `serverless.yml`"),
        (ONE.replace("python3.13", "nodejs20.x"), (), "has no function that runs on Python"),
        (ONE, ("-t", "python3.12-arm64"), "`serverless.yml` decides what is built for which target"),
        (ONE.replace("functions:\n  api:", "functions:\n  <<: {}\n  api:"), (), None),
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_request(
    run: Run, project: Path, text: str | None, words: tuple[str, ...], message: str | None
) -> None:
    if text is not None:
        file(project, text)
    ran = run("init", "serverless", project, *words, status=2 if message else 0)
    assert (message or "") in ran.stderr
