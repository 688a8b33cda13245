"""`manylambda init` in a project of another tool: it finds what is needed, and `manylambda build` then works."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from product import existing
from product.schemas import check

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index


@pytest.fixture
def place(tmp_path: Path, index: Index) -> Path:
    index.wheel("requests")
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def settings(path: Path) -> Any:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return document["tool"]["manylambda"] if path.name == "pyproject.toml" else document


CASES: Mapping[str, tuple[Mapping[str, str], dict[str, Any]]] = {
    "sam": (
        existing.SAM,
        {
            ".": {
                "targets": ["python3.13-arm64"],
                "handler": "app.lambda_handler",
                "requirements": ["hello_world/requirements.txt"],
                "files": {"sources": ["hello_world"]},
            }
        },
    ),
    "several functions": (
        existing.POWERTOOLS,
        {
            "orders": {"targets": ["python3.12-arm64"], "handler": "app.lambda_handler"},
            "billing": {"targets": ["python3.12-x86_64"], "handler": "app.lambda_handler"},
        },
    ),
    "serverless": (
        existing.SERVERLESS,
        {
            ".": {
                "targets": ["python3.12-arm64"],
                "handler": "src/app.hello",
                "requirements": ["requirements-lambda.txt"],
                "files": {"sources": ["."]},
            }
        },
    ),
    "cdk in python": (
        existing.CDK_PYTHON,
        {
            "resize": {"targets": ["python3.13-arm64"], "handler": "index.handler"},
            "lambda": {"targets": ["python3.13-arm64"], "handler": "hello.handler"},
        },
    ),
    "cdk in typescript": (
        existing.CDK_TYPESCRIPT,
        {
            "lambda": {"targets": ["python3.12-x86_64"], "handler": "index.main"},
            "report": {"targets": ["python3.12-arm64"], "handler": "run.handler"},
        },
    ),
    "terraform": (
        existing.TERRAFORM,
        {
            ".": {
                "targets": ["python3.12-arm64"],
                "handler": "main.handler",
                "requirements": ["src/requirements.txt"],
                "files": {"sources": ["src"]},
            }
        },
    ),
    "chalice": (existing.CHALICE, {".": {"targets": ["python3.12-arm64"], "handler": "app.app"}}),
    "zappa": (existing.ZAPPA, {".": {"targets": ["python3.12-arm64"]}}),
    "requirements only": (
        existing.REQUIREMENTS,
        {".": {"targets": ["python3.12-x86_64"], "handler": "lambda_function.lambda_handler"}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_is_right_and_a_build_works(run: Run, place: Path, name: str) -> None:
    files, expected = CASES[name]
    existing.write(place, files)
    ran = run("init", "--format", "json", cwd=place)
    check("init", ran.json)
    assert {str((place / folder).resolve()) for folder in expected} == {
        re.sub(r"/(manylambda|pyproject)\.toml$", "", path) for path in ran.json["files"]
    }
    for folder, wanted in expected.items():
        assert settings(place / folder / "manylambda.toml") == wanted
    # What it says to do next is done; the audit of a build would miss a handler that is not there.
    commands = [step.strip("`").split()[1:] for step in ran.json["steps"]]
    assert len(commands) == len(expected)
    for command in commands:
        built = run(*command, "--format", "json", cwd=place).json
        for artifact in built["artifacts"]:
            with zipfile.ZipFile(artifact["path"]) as archive:
                names = archive.namelist()
            assert not any(one.endswith("manylambda.toml") for one in names)
            needs = name != "cdk in python" and "lambda" not in command
            assert ("requests.py" in names) == needs
            assert not any("aws_cdk" in one or "black" in one for one in names)


def test_each_setting_is_told_with_the_line_that_says_so(run: Run, place: Path) -> None:
    existing.write(place, existing.SAM)
    ran = run("init", cwd=place)
    line = (place / "template.yaml").read_text(encoding="utf-8").splitlines().index("  HelloWorldFunction:") + 1
    lines = ran.stdout.splitlines()
    assert lines[0] == str(place / "manylambda.toml")
    assert lines[1] == "  a project of SAM: 1 folder of code"
    assert lines[2].split() == ["targets", "python3.13-arm64", f"{place}/template.yaml:{line},", "`HelloWorldFunction`"]
    assert lines[-1] == "  next: `manylambda build`"


def test_what_is_concluded_is_told_as_such(run: Run, place: Path) -> None:
    existing.write(place, existing.CDK_TYPESCRIPT)
    unsure = run("init", "--format", "json", cwd=place).json["unsure"]
    assert "python3.12 of `Thumbnail` is what lib/shop-stack.ts:5 says, the only such thing in the app" in unsure


def test_code_that_is_no_text_is_told(run: Run, place: Path) -> None:
    files = dict(existing.CDK_PYTHON)
    files["shop/shop_stack.py"] = files["shop/shop_stack.py"].replace('from_asset("lambda")', "from_asset(CODE)")
    existing.write(place, files)
    assert run("init", "--format", "json", cwd=place).json["unsure"] == [
        "the code of `HelloHandler` is not named as text: the settings are for the folder of the app"
    ]


def test_what_is_passed_over_is_told(run: Run, place: Path) -> None:
    existing.write(place, existing.POWERTOOLS)
    assert (
        "`Page` was passed over: its runtime is nodejs22.x" in run("init", "--format", "json", cwd=place).json["unsure"]
    )


def test_pyproject_keeps_its_comments_and_order(run: Run, place: Path) -> None:
    existing.write(place, {"lambda_function.py": existing.REQUIREMENTS["lambda_function.py"]})
    before = (
        '# ours\n[project]\nname = "shop" # the name\nversion = "1"\nrequires-python = ">=3.11,<3.13"\n'
        'dependencies = [\n  "requests", # as ever\n]\n\n[tool.ruff]\nline-length = 100\n'
    )
    (place / "pyproject.toml").write_text(before, encoding="utf-8", newline="")
    ran = run("init", cwd=place)
    after = (place / "pyproject.toml").read_bytes().decode()
    assert after.startswith(before)
    assert settings(place / "pyproject.toml") == {
        "targets": ["python3.12-x86_64"],
        "handler": "lambda_function.lambda_handler",
    }
    assert f"{place}/pyproject.toml:5, the newest runtime that `>=3.11,<3.13` allows" in ran.stdout
    assert "not sure: nothing names an architecture: x86_64 is Lambda's default" in ran.stdout
    run("build", cwd=place)


def test_what_is_set_stays_unless_it_is_forced(run: Run, place: Path) -> None:
    existing.write(place, existing.SAM)
    table = '[tool.manylambda] # mine\ntargets = ["python3.11-x86_64"] # for now\nkind = "layer"\n'
    (place / "pyproject.toml").write_text(table, encoding="utf-8")
    ran = run("init", "--format", "json", cwd=place)
    assert ran.json["kept"] == ["`targets` in `pyproject.toml` stays as it is: `--force` replaces it"]
    assert (place / "pyproject.toml").read_text(encoding="utf-8").startswith(table)
    assert settings(place / "pyproject.toml")["handler"] == "app.lambda_handler"
    ran = run("init", "--force", "--format", "json", cwd=place)
    found = settings(place / "pyproject.toml")
    assert (ran.json["kept"], found["targets"], found["kind"]) == ([], ["python3.13-arm64"], "layer")
    assert "# mine" in (place / "pyproject.toml").read_text(encoding="utf-8")


def test_a_second_time_changes_nothing(run: Run, place: Path) -> None:
    existing.write(place, existing.SAM)
    run("init", cwd=place)
    before = (place / "manylambda.toml").read_bytes()
    run("init", cwd=place)
    assert (place / "manylambda.toml").read_bytes() == before


def test_a_target_that_is_named_is_taken(run: Run, place: Path) -> None:
    existing.write(place, existing.SAM)
    run("init", "-t", "python3.14-x86_64", cwd=place)
    assert settings(place / "manylambda.toml")["targets"] == ["python3.14-x86_64"]


def test_functions_that_share_a_folder_share_a_package_for_each_target(run: Run, place: Path) -> None:
    template = """
        Resources:
          A:
            Type: AWS::Serverless::Function
            Properties: {CodeUri: ., Handler: app.a, Runtime: python3.12, Architectures: [arm64]}
          B:
            Type: AWS::Serverless::Function
            Properties: {CodeUri: ., Handler: app.b, Runtime: python3.13}
        """
    existing.write(place, {"template.yaml": template, "app.py": "def a(e, c): ...\ndef b(e, c): ...\n"})
    ran = run("init", "--format", "json", cwd=place)
    assert settings(place / "manylambda.toml") == {"targets": ["python3.12-arm64", "python3.13-x86_64"]}
    assert ran.json["unsure"] == [
        "functions share a package and not a handler, so none is checked: `app.a` (`A`), `app.b` (`B`)"
    ]
    assert len(run("build", "--format", "json", cwd=place).json["artifacts"]) == 2


def test_a_variable_that_cannot_be_known_is_told(run: Run, place: Path) -> None:
    text = (
        "provider: {name: aws, runtime: python3.12, architecture: '${param:arch}'}\nfunctions: {a: {handler: app.a}}\n"
    )
    existing.write(place, {"serverless.yml": text, "app.py": "def a(e, c): ...\n"})
    ran = run("init", "--format", "json", cwd=place)
    assert ran.json["unsure"] == [
        "`architecture` of `a` is a variable: ${param:arch}; x86_64 is taken",
    ]
    assert settings(place / "manylambda.toml")["targets"] == ["python3.12-x86_64"]


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({}, "python3.14-x86_64"),
        ({".python-version": "3.11\n"}, "python3.11-x86_64"),
        ({".python-version": "3.9.18\n"}, "python3.9-x86_64"),  # deprecated, and what the project says
        ({".python-version": "3.15\n"}, "python3.14-x86_64"),  # a preview
        ({"pyproject.toml": '[project]\nname="x"\nrequires-python = "~=3.10.0"\n'}, "python3.10-x86_64"),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\n'}, "python3.14-x86_64"),
        ({"pyproject.toml": '[project]\nname="x"\nversion="1"\n'}, "python3.14-x86_64"),
    ],
)
def test_the_runtime_of_a_project_that_no_tool_describes(
    run: Run, place: Path, files: dict[str, str], target: str
) -> None:
    existing.write(place, files)
    assert run("init", "--format", "json", cwd=place).json["targets"] == [target]


def test_the_root_of_a_workspace_is_refused_and_a_member_is_not(run: Run, place: Path) -> None:
    existing.write(
        place,
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["orders"]\n',
            "orders/pyproject.toml": '[project]\nname = "orders"\nversion = "1"\n',
        },
    )
    ran = run("init", cwd=place, status=2)
    assert ran.stderr == (
        f"error: `{place}` is the root of a workspace, and no function\n\n"
        "hint: name the folder of a function: `manylambda init FOLDER`\n"
    )
    assert "manylambda" not in (place / "pyproject.toml").read_text()
    run("init", "orders", cwd=place)
    assert "targets" in settings(place / "orders" / "pyproject.toml")


@pytest.mark.parametrize(
    ("made", "handler"),
    [
        ("Mangum(app)", "main.handler"),
        ("apig_wsgi.make_lambda_handler(app)", "main.handler"),
        ("StreamHandler()", None),
    ],
)
def test_an_adapted_application_is_a_handler(run: Run, place: Path, made: str, handler: str | None) -> None:
    existing.write(place, {"main.py": f"app = object()\nhandler = {made}\n"})
    run("init", cwd=place)
    assert settings(place / "manylambda.toml").get("handler") == handler


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pyproject.toml": "[project\n"}, "is not valid TOML"),
        ({"pyproject.toml": '[project]\nrequires-python = "<3.8"\n'}, "no runtime of Lambda is `<3.8`"),
        ({"serverless.yml": "a: [\n"}, "cannot be read, line"),
        ({"zappa_settings.json": "{"}, "is not JSON"),
        ({"samconfig.toml": "x\n"}, "is not valid TOML"),
    ],
)
def test_what_cannot_be_read_is_told_and_nothing_is_written(
    run: Run, place: Path, files: dict[str, str], message: str
) -> None:
    existing.write(place, files)
    ran = run("init", cwd=place, status=2)
    assert message in ran.stderr
    assert sorted(path.name for path in place.iterdir()) == sorted(files)


def test_a_template_of_another_tool_is_passed_over_where_there_is_a_better_one(run: Run, place: Path) -> None:
    existing.write(place, {**existing.TERRAFORM, "template.yaml": "{{ if .Values.x }}\na: b\n"})
    ran = run("init", "--format", "json", cwd=place)
    (unsure,) = ran.json["unsure"]
    assert unsure.startswith(f"`{place}/template.yaml` cannot be read, line 2: ")
    assert settings(place / "manylambda.toml")["handler"] == "main.handler"


def test_a_folder_can_be_named_and_what_is_neither_is_told(run: Run, place: Path) -> None:
    existing.write(place, existing.SAM)
    assert run("init", place).stdout.startswith(str(place / "manylambda.toml"))
    ran = run("init", "dokcer", cwd=place, status=2)
    assert ran.stderr.startswith("error: `dokcer` is no recipe, and no folder\n")


@pytest.mark.parametrize("words", [["--handler", "a.b"], ["--lock", "uv.lock"], ["-o", "out"], ["--edit"]])
def test_what_it_would_pass_over_is_refused(run: Run, place: Path, words: list[str]) -> None:
    ran = run("init", *words, cwd=place, status=2)
    flag = "--output" if words[0] == "-o" else words[0]
    assert ran.stderr.startswith(f"error: `{flag}` means nothing to `init`\n")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("samconfig.toml", '[default.build.parameters]\ntemplate_file = "deploy/template.yaml"\n'),
        ("samconfig.yaml", "default: {build: {parameters: {template_file: deploy/template.yaml}}}\n"),
    ],
)
def test_a_samconfig_names_the_template(run: Run, place: Path, name: str, text: str) -> None:
    files = {
        **existing.SAM,
        "deploy/template.yaml": existing.SAM["template.yaml"].replace("hello_world/", "../hello_world/"),
    }
    del files["template.yaml"], files["samconfig.toml"]
    files[name] = text
    existing.write(place, files)
    found = run("init", "--format", "json", cwd=place).json
    assert found["found"][0]["file"] == str(place / "deploy" / "template.yaml")
    assert json.dumps(settings(place / "manylambda.toml")["files"]) == '{"sources": ["hello_world"]}'


def test_what_init_terraform_wrote_is_read(run: Run, project: Path) -> None:
    run("init", "terraform", project, "-t", "python3.12-arm64")
    found = run("init", project, "--format", "json").json
    assert found["targets"] == ["python3.12-arm64"]
    assert not any("architecture" in one for one in found["unsure"])


@pytest.mark.parametrize("recipe", ["docker", "github", "terraform"])
def test_a_recipe_that_changes_no_file_of_others_takes_no_edit(run: Run, project: Path, recipe: str) -> None:
    ran = run("init", recipe, project, "-t", "python3.13-arm64", "--edit", status=2)
    assert ran.stderr.startswith(f"error: `--edit` means nothing to `init {recipe}`\n")
