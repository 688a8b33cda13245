"""Files of a project that nobody wrote in good faith: one clear error, or text that says just what it should."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from manylambda.pipeline.recipes.yaml_text import scalar
from product.conftest import command

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run

TARGET = "python3.13-arm64"
DEEP = "[" * 20_000
DIGITS = "1" * 5_000
FUNCTION = "Resources:\n  {}:\n    Type: AWS::Serverless::Function\n    Properties: {{Runtime: python3.13}}\n"
SERVICE = "service: x\nprovider: {name: aws, runtime: python3.13}\nfunctions:\n  f:\n    handler: app.handler\n"


def laughs(times: int = 12) -> str:
    """Give aliases of aliases, which stand for ten billion texts and more."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x]"]
    lines += [f"l{each}: &l{each} [{', '.join([f'*l{each - 1}'] * 8)}]" for each in range(1, times)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", [f"a = {DEEP}", f"a = {DIGITS}", 'a = "\0"'], ids=["deep", "digits", "nul"])
@pytest.mark.parametrize(
    "name", ["pyproject.toml", "manylambda.toml", "pylock.toml", "uv.lock", "poetry.lock", "pdm.lock"]
)
def test_toml_that_cannot_be_read_is_told_of(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n', encoding="utf-8")
    (tmp_path / name).write_text(text, encoding="utf-8")
    ran = run("plan", tmp_path, "-t", TARGET, "--offline", status=2)
    assert name in ran.stderr
    assert "is not valid TOML" in ran.stderr


def test_a_lock_of_uv_that_is_not_utf_8_is_told_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n', encoding="utf-8")
    (tmp_path / "uv.lock").write_bytes(b'a = "\xe9"')
    assert "uv.lock" in run("init", "docker", tmp_path, "-t", TARGET, status=2).stderr


@pytest.mark.parametrize("text", [f"a = {DEEP}", f"a = {DIGITS}"], ids=["deep", "digits"])
@pytest.mark.parametrize("name", ["pyproject.toml", "samconfig.toml"])
def test_init_tells_of_toml_that_cannot_be_read(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert "is not valid TOML" in run("init", tmp_path, status=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zappa_settings.json", '{"a":' + DEEP),
        (".chalice/config.json", '{"a":' + DEEP),
        ("template.json", '{"Resources":' + DEEP),
    ],
)
def test_init_tells_of_json_that_cannot_be_read(run: Run, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert name in run("init", tmp_path, status=2).stderr


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("zappa_settings.json", {"dev": {"architecture": [{"a": 1}]}}),
        ("zappa_settings.json", {"dev": {"extends": "dev", "app_function": ["x"]}, "other": {"extends": ["dev"]}}),
        ("zappa_settings.yml", {"dev": {"extends": {"a": 1}}, "1": 2}),
        (".chalice/config.json", {"stages": {"dev": 1, "prod": []}}),
        ("serverless.yml", {"provider": "${self:functions}", "functions": {"a": "${self:functions.a}", "b": [1]}}),
        ("serverless.yml", {"provider": {"runtime": ["x"]}, "functions": "${file(serverless.yml)}", "layers": [1]}),
        (
            "template.yaml",
            {
                "Mappings": 1,
                "Conditions": [1],
                "Parameters": {"a": 1},
                "Resources": {
                    "F": {
                        "Type": "AWS::Serverless::Function",
                        "Properties": {
                            "Runtime": {"Fn::FindInMap": {"Ref": ["a"]}},
                            "Architectures": {"Fn::If": [{"a": 1}, 1, 2]},
                            "CodeUri": {"Fn::Sub": [1, 2]},
                        },
                    }
                },
            },
        ),
        (".chalice/config.json", {"lambda_architecture": ["arm64"]}),
        ("template.json", {"Resources": {"F": {"Type": ["x"]}}}),
        ("pyproject.toml", None),
    ],
)
def test_init_passes_over_values_of_other_types(run: Run, tmp_path: Path, name: str, document: object) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    text = json.dumps(document) if document else "project = 1\ntool.poetry = 2\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    run("init", tmp_path)


@pytest.mark.parametrize("more", [laughs(), "a: &a [*a]\n"], ids=["laughs", "itself"])
@pytest.mark.parametrize(
    ("recipe", "name", "text"),
    [("sam", "template.yaml", FUNCTION.format("F")), ("serverless", "serverless.yml", SERVICE)],
)
def test_aliases_that_never_end_are_refused(
    run: Run, tmp_path: Path, recipe: str, name: str, text: str, more: str
) -> None:
    (tmp_path / name).write_text(text + more, encoding="utf-8")
    assert "its aliases make too much of it" in run("init", recipe, tmp_path, "--edit", status=2).stderr
    assert "its aliases make too much of it" in run("init", tmp_path, status=2).stderr
    assert (tmp_path / name).read_text(encoding="utf-8") == text + more


def test_values_of_terraform_that_name_each_other_without_end_are_not_followed(run: Run, tmp_path: Path) -> None:
    named = "".join(f"${{local.l{number}}}" for number in range(120))
    values = "".join(f'  l{number} = "{named}"\n' for number in range(120))
    function = 'resource "aws_lambda_function" "api" {\n  runtime = local.l0\n  handler = "app.handler"\n}\n'
    (tmp_path / "main.tf").write_text(f"locals {{\n{values}}}\n{function}", encoding="utf-8")
    (tmp_path / "app.py").write_text("def handler(event, context): ...\n", encoding="utf-8")
    ran = run("init", tmp_path)
    assert "`api` was passed over: its runtime is known to Terraform only: local.l0" in ran.stdout


@pytest.mark.parametrize("name", ['"A$(shell touch x)"', '"A\\n\\ttouch x\\nB"', '"a b"'])
def test_what_is_no_logical_id_comes_into_no_makefile(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "template.yaml").write_text(FUNCTION.format(name), encoding="utf-8")
    assert "CloudFormation takes letters and digits" in run("init", "sam", tmp_path, status=2).stderr
    assert not (tmp_path / "Makefile").exists()


def test_a_logical_id_may_be_a_number(run: Run, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(FUNCTION.format(1), encoding="utf-8")
    run("init", "sam", tmp_path)
    assert "build-1:" in (tmp_path / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["a b", "😀", "q'\"", "\x7f\t", "$(x)", "- a", "a: b", "# c", "é\u2028"])
def test_a_scalar_reads_as_it_was(text: str) -> None:
    assert yaml.safe_load(scalar(text)) == text


@pytest.mark.skipif(not shutil.which("terraform"), reason="no Terraform, which no index of packages has")
def test_terraform_reads_a_folder_as_it_is_called(run: Run, tmp_path: Path) -> None:
    project = tmp_path / 'a "${b}" %{c} 😀 \\ $(d)'
    project.mkdir()
    run("init", "terraform", project, "-t", TARGET, "-o", tmp_path)
    line = next(one for one in (tmp_path / "manylambda.tf").read_text("utf-8").splitlines() if "project " in one)
    text = line.partition("=")[2].strip().replace("${path.root}/", "")
    asked = subprocess.run(
        ["terraform", "console"], input=f"jsonencode({text})\n".encode(), capture_output=True, check=True, cwd=project
    )
    assert json.loads(json.loads(asked.stdout)) == project.name


def test_a_folder_for_files_that_cannot_be_made_leaves_no_file(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    text = "Resources:\n" + "".join(
        f"  {name}:\n    Type: AWS::Serverless::Function\n    Properties: {{Runtime: python3.13, CodeUri: {name}}}\n"
        for name in ("one", "two")
    )
    (tmp_path / "template.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "two").write_text("in the way", encoding="utf-8")
    run("init", "sam", tmp_path, "-o", tmp_path / "out", status=5)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["two"]


def test_output_with_blanks_is_quoted_where_a_pipeline_deploys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manylambda.toml").write_text('output = "my $(dist)"\n', encoding="utf-8")
    run("init", "gitlab", tmp_path, "-t", TARGET)
    assert "ls 'my $(dist)/'*-python3.13-arm64.zip" in (tmp_path / ".gitlab-ci.yml").read_text(encoding="utf-8")


def test_words_of_a_ci_are_refused_wherever_they_stand(run: Run, tmp_path: Path) -> None:
    (tmp_path / "manylambda.toml").write_text('output = "${{ github.token }}"\n', encoding="utf-8")
    assert "as its own words" in run("init", "github", tmp_path, "-t", TARGET, status=2).stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stops_nothing(project: Path, closed: str) -> None:
    line = f"{shlex.join(command('build', project, '-t', TARGET, '--offline'))} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=project, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (project / "dist").iterdir()] == [f"{project.name}-{TARGET}.zip"]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("is_pipe", [True, False], ids=["pipe", "full"])
def test_messages_that_nobody_can_read_stop_nothing(project: Path, *, is_pipe: bool) -> None:
    if is_pipe:
        reader, where = os.pipe()
        os.close(reader)
    elif sys.platform == "linux":
        where = os.open("/dev/full", os.O_WRONLY)
    else:
        pytest.skip("no device that is always full")
    words = command("build", project, "-t", TARGET, "--offline", "-v")
    with open(where, "wb") as stderr:
        done = subprocess.run(words, cwd=project, stdout=subprocess.PIPE, stderr=stderr, check=False)
        failed = subprocess.run(command("build", project / "none"), stdout=subprocess.PIPE, stderr=stderr, check=False)
    assert done.returncode == 0
    assert [path.name for path in (project / "dist").iterdir()] == [f"{project.name}-{TARGET}.zip"]
    assert failed.returncode == 2


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A function that needs nothing."""
    folder = tmp_path / "fn"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): ...\n", encoding="utf-8")
    (folder / "requirements.txt").touch()
    return folder


def test_settings_end_their_lines_as_the_file_does(run: Run, project: Path) -> None:
    file = project / "pyproject.toml"
    file.write_bytes(b'[project]\r\nname = "x"\r\nversion = "1"\r\n')
    run("init", project)
    text = file.read_bytes()
    assert b"targets" in text
    assert text.count(b"\n") == text.count(b"\r\n")


@pytest.mark.skipif(os.name == "nt", reason="names of POSIX")
def test_names_with_line_ends_come_into_no_dockerfile(run: Run, project: Path) -> None:
    requirements = project.parent / "req\n--index-url http:x\n.txt"
    requirements.touch()
    words = ("init", "docker", project, "-t", TARGET, "--offline")
    assert "as its own words" in run(*words, "-r", requirements, status=2).stderr
    assert "as its own words" in run(*words, "-o", project / "o\nRUN touch x", status=2).stderr
    assert not list(project.rglob("Dockerfile"))
