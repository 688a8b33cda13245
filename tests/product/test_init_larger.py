"""`manylambda init` in projects that say things at a distance: variables, modules, constants, several stages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from product import existing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from product.conftest import Run

HANDLER = "def handler(event, context): ...\n"
LAYER = "it is a layer (`manylambda build FOLDER --kind layer`)"
UNKNOWN_ARCHITECTURE = (
    "nothing names an architecture: x86_64 is Lambda's default; arm64 costs less, and the function has to be told of "
    "it too"
)

SAM = {
    "template.yaml": """
        Transform: AWS::Serverless-2016-10-31
        Parameters:
          Stage: {Type: String, Default: dev}
          Secret: {Type: String}
        Mappings:
          Stages: {dev: {architecture: arm64}}
        Conditions:
          IsSecret: !Equals [!Ref Secret, yes]
        Globals:
          Function: {Runtime: python3.12, Handler: app.handler}
        Resources:
          Common:
            Type: AWS::Serverless::LayerVersion
            Properties: {ContentUri: common, CompatibleRuntimes: [python3.12]}
          Api:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: api
              Architectures: [!FindInMap [Stages, !Ref Stage, architecture]]
          Worker:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: worker
              Architectures: !If [IsSecret, [arm64], [x86_64]]
        """,
    "api/app.py": HANDLER,
    "worker/app.py": HANDLER,
}
SERVERLESS = {
    "serverless.yml": """
        service: shop
        custom:
          api: {}
        provider:
          name: aws
          runtime: python3.12
          architecture: ${opt:architecture, 'arm64'}
        package: {individually: true, patterns: ["!docs/**"]}
        layers:
          shared: {path: layer}
        functions:
          api: {handler: handler.handler, module: api}
          worker: ${file(functions/worker.yml)}
          gone: ${file(functions/gone.yml)}
        """,
    "functions/worker.yml": "handler: worker.handler\nmodule: worker\narchitecture: x86_64\n",
    "api/handler.py": HANDLER,
    "worker/worker.py": HANDLER,
}
CDK_TYPESCRIPT = {
    "cdk.json": "{}",
    "lib/stack.ts": """
        const common = { runtime: lambda.Runtime.PYTHON_3_13, architecture: lambda.Architecture.ARM_64 };
        new PythonLayerVersion(this, 'Common', { entry: 'layers/common' });
        new PythonFunction(this, 'Jobs', { ...common, entry: './jobs' });
        new PythonFunction(this, 'More', { ...more, entry: path.join(__dirname, '..', 'more') });
        new PythonFunction(this, 'Far', { ...far, entry: path.join(code, 'far') });
        const code = path.resolve(__dirname, '..', 'code');
        new Function(this, 'Near', { ...far, code: Code.fromAsset(`${__dirname}/../near`), handler: 'a.handler' });
        // new PythonFunction(this, 'Old', { entry: './old' });
        new lambda.DockerImageFunction(this, 'Image', {});
        new lambda.Function(this, 'Node', { runtime: lambda.Runtime.NODEJS_22_X, code: lambda.Code.fromAsset('n') });
        """,
    "lib/far.ts": """
        export const far: Props = { runtime: new lambda.Runtime('python3.11'), architecture: Architecture.X86_64 };
        """,
    "code/far/index.py": HANDLER,
    "near/a.py": HANDLER,
    "jobs/index.py": HANDLER,
    "more/index.py": HANDLER,
}
CDK_PYTHON = {
    "cdk.json": "{}",
    "infra/stack.py": """
        ROOT = Path(__file__).parent.parent
        PythonFunction(self, "Api", entry=str(ROOT / "code" / "api"), index="app.py",
            runtime=Runtime.PYTHON_3_13, architecture=Architecture.ARM_64)
        Function(self, "Job", runtime=Runtime.PYTHON_3_12, code=Code.from_asset("code/job"), handler="job.handler")
        """,
    "code/api/app.py": HANDLER,
    "code/job/job.py": HANDLER,
}
TERRAFORM = {
    "main.tf": """
        locals {
          runtime = "python3.12"
          code    = "${path.module}/code"
        }
        variable "architecture" { default = "x86_64" }
        variable "runtime" {}
        module "api" {
          source        = "terraform-aws-modules/lambda/aws"
          handler       = "app.handler"
          runtime       = local.runtime
          architectures = [var.architecture]
          source_path   = "./code/api"
        }
        module "multi" {
          source  = "terraform-aws-modules/lambda/aws"
          environment_variables = {
            handler = "none"
          }
          handler = "app.handler"
          runtime = "python3.13"
          source_path = [
            {
              path             = "${local.code}/multi"
              pip_requirements = true
              patterns         = ["!docs/.*"]
            }
          ]
        }
        module "common" {
          source       = "terraform-aws-modules/lambda/aws"
          create_layer = true
          runtime      = "python3.12"
        }
        module "called" {
          source  = "./modules/function"
          runtime = local.runtime
          folder  = "${path.module}/code/called"
        }
        resource "aws_lambda_function" "each" {
          handler  = each.value.handler
          runtime  = "python3.12"
          filename = data.archive_file.each.output_path
        }
        data "archive_file" "each" {
          source_dir = "code/each"
        }
        resource "aws_lambda_function" "image" { package_type = "Image" }
        resource "aws_lambda_function" "node" { runtime = "nodejs22.x" }
        resource "aws_lambda_function" "unknown" { runtime = var.runtime }
        """,
    "terraform.tfvars": 'architecture = "arm64"\n',
    "modules/function/main.tf": """
        variable "runtime" { default = "python3.9" }
        variable "folder" {}
        data "archive_file" "code" {
          source_dir = var.folder
        }
        resource "aws_lambda_function" "this" {
          runtime       = var.runtime
          handler       = "app.handler"
          architectures = ["arm64"]
          filename      = data.archive_file.code.output_path
        }
        """,
    "code/api/app.py": HANDLER,
    "code/multi/app.py": HANDLER,
    "code/called/app.py": HANDLER,
    "code/each/one.py": HANDLER,
    "code/each/two.py": HANDLER,
}
TERRAFORM_BELOW = {
    "infra/main.tf": """
        resource "aws_lambda_function" "api" {
          runtime  = "python3.13"
          handler  = "app.handler"
          filename = "${path.module}/../dist/api.zip"
        }
        """,
    "app.py": HANDLER,
}
CHALICE = {
    ".chalice/config.json": """
        {"stages": {"prod": {}, "dev": {"lambda_architecture": "arm64"}}}
        """,
    ".python-version": "3.12\n",
    "app.py": "app = print\n",
    "vendor/theirs.py": "",
}
ZAPPA = {
    "zappa_settings.yml": """
        base:
          runtime: python3.12
          architecture: x86_64
        dev:
          extends: base
          app_function: app.app
          architecture: arm64
        prod:
          extends: dev
        """,
    "app.py": "app = None\n",
}
DOCKER = {
    "Dockerfile": """
        FROM public.ecr.aws/lambda/python:3.12-arm64 AS base
        COPY requirements.txt .
        RUN pip install -r requirements.txt
        COPY app.py ${LAMBDA_TASK_ROOT}
        CMD ["app.handler"]
        """,
    "app.py": HANDLER,
}
WORKSPACE = {
    "pyproject.toml": """
        [project]
        name = "root"
        version = "1"
        [tool.uv.workspace]
        members = ["services/*"]
        """,
    ".tool-versions": "nodejs 22.1.0\npython 3.12.4\n",
    "app.py": HANDLER,
}

CASES: Mapping[str, tuple[Mapping[str, str], dict[str, tuple[str, str | None]], list[str]]] = {
    "sam": (
        SAM,
        {".": ("python3.12-arm64", "app.handler")},  # the only folder: named from the root
        [
            "`Api` is for python3.12-arm64 by what `Stage` is by default",
            "`Worker` was passed over: its architecture is known to CloudFormation only",
            f"`Common` was passed over: {LAYER}",
        ],
    ),
    "serverless": (
        SERVERLESS,
        {"api": ("python3.12-arm64", "handler.handler"), "worker": ("python3.12-x86_64", "worker.handler")},
        [
            "`architecture` of `api` is a variable: ${opt:architecture, 'arm64'}; arm64 is taken",
            "`gone` was passed over: it is a variable that only Serverless knows: ${file(functions/gone.yml)}",
            f"`shared` was passed over: {LAYER}",
            "`patterns` of `package` were not followed: `manylambda build -v` lists what is left out",
        ],
    ),
    "cdk in typescript": (
        CDK_TYPESCRIPT,
        {
            "jobs": ("python3.13-arm64", "index.handler"),
            "more": ("python3.14-x86_64", "index.handler"),
            "code/far": ("python3.11-x86_64", "index.handler"),
            "near": ("python3.11-x86_64", "a.handler"),
        },
        [
            "`more`, which more is taken from, was not read",
            "`More` names no architecture: the CDK's default is x86_64",
            f"`Common` was passed over: {LAYER}",
            "`Image` was passed over: it is a container image",
            (
                "nothing names the runtime of `More`: python3.14 is taken, "
                "nothing names a version: it is the newest runtime"
            ),
        ],
    ),
    "cdk in python": (
        CDK_PYTHON,
        {"code/api": ("python3.13-arm64", "app.handler"), "code/job": ("python3.12-x86_64", "job.handler")},
        [
            'the code of `Api` is taken to be `code/api`: str(ROOT / "code" / "api")',
            "`Job` names no architecture: the CDK's default is x86_64",
        ],
    ),
    "terraform": (
        TERRAFORM,
        {
            "code/api": ("python3.12-arm64", "app.handler"),
            "code/multi": ("python3.13-x86_64", "app.handler"),
            "code/called": ("python3.12-arm64", "app.handler"),
            "code/each": ("python3.12-x86_64", None),
        },
        [
            "`patterns` of `multi` were not followed: `manylambda build -v` lists what is left out",
            "`handler` of `each` is not written out: each.value.handler",
            f"`common` was passed over: {LAYER}",
            "`image` was passed over: it is a container image",
            "`node` was passed over: its runtime is nodejs22.x",
            "`unknown` was passed over: its runtime is known to Terraform only: var.runtime",
        ],
    ),
    "terraform in a folder": (
        TERRAFORM_BELOW,
        {".": ("python3.13-x86_64", "app.handler")},
        ["the folder of the code of `api` is not written out: `.` is taken"],
    ),
    "chalice": (
        CHALICE,
        {".": ("python3.12-arm64", "app.app")},
        [
            "only the stage `dev` was read",
            "Chalice puts what lies in `vendor` at the root of the package: add it to `files.sources`",
            "nothing names the runtime of `the app`: python3.12 is taken, that is the project's Python",
        ],
    ),
    "docker": (
        DOCKER,
        {".": ("python3.12-arm64", "app.handler")},
        ["the Dockerfile makes an image: `manylambda build --kind image` does too, without Docker"],
    ),
    "the root of a workspace": (
        WORKSPACE,
        {".": ("python3.12-x86_64", "app.handler")},
        [
            "this is the root of a workspace: if a member is the function, `manylambda init FOLDER` is for it",
            UNKNOWN_ARCHITECTURE,
            "nothing names the handler: `app.handler` looks like one",
        ],
    ),
    "zappa": (
        ZAPPA,
        {".": ("python3.12-arm64", None)},
        ["Zappa puts a handler of its own around `app.app`", "only the stage `dev` was read"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_at_a_distance_is_found_and_what_is_not_known_is_told(run: Run, tmp_path: Path, name: str) -> None:
    files, expected, unsure = CASES[name]
    existing.write(tmp_path, files)
    ran = run("init", "--format", "json", cwd=tmp_path)
    assert ran.json["unsure"] == unsure
    found: dict[str, Any] = {}
    for path in map(Path, ran.json["files"]):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        document = document["tool"]["manylambda"] if path.name == "pyproject.toml" else document
        (target,) = document["targets"]
        found[path.parent.relative_to(tmp_path).as_posix()] = (target, document.get("handler"))
    assert found == expected
    for step in ran.json["steps"]:
        run(*step.strip("`").split()[1:], cwd=tmp_path)  # the audit misses a handler that is not there


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".tool-versions", "python 3.11.9\n"),
        ("mise.toml", '[tools]\npython = "3.11"\n'),
        ("Pipfile", '[requires]\npython_version = "3.11"\n'),
    ],
)
def test_the_python_of_the_project_is_taken_from_what_version_managers_read(
    run: Run, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert run("init", "--format", "json", cwd=tmp_path).json["targets"] == ["python3.11-x86_64"]


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("public.ecr.aws/lambda/python:3.11", "python3.11-x86_64"),
        ("public.ecr.aws/lambda/python:3.11.2024.01.02.03-arm64", "python3.11-arm64"),
        ("--platform=linux/arm64 amazon/aws-lambda-python:3.11", "python3.11-arm64"),
        ("--platform=linux/amd64 public.ecr.aws/lambda/python:3.11@sha256:00", "python3.11-x86_64"),
        ("public.ecr.aws/lambda/nodejs:22", "python3.14-x86_64"),
        ("python:3.11-slim", "python3.14-x86_64"),
    ],
)
def test_a_base_of_lambda_names_the_target(run: Run, tmp_path: Path, base: str, target: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCMD app.handler\n", encoding="utf-8")
    assert run("init", "--format", "json", cwd=tmp_path).json["targets"] == [target]


def test_a_line_is_that_of_the_function_and_not_of_its_namesake(run: Run, tmp_path: Path) -> None:
    existing.write(tmp_path, SERVERLESS)
    lines = (tmp_path / "serverless.yml").read_text(encoding="utf-8").splitlines()
    found = run("init", "--format", "json", cwd=tmp_path).json["found"]
    assert lines[found[0]["line"] - 1].startswith("  api: {handler")


def test_init_serverless_leaves_what_has_a_folder_of_its_own(run: Run, tmp_path: Path) -> None:
    existing.write(tmp_path, SERVERLESS)
    ran = run("init", "serverless", cwd=tmp_path, status=2)
    assert "`worker`: its package is that of the folder `worker`" in ran.stderr


def test_init_sam_tells_what_defaults_of_parameters_decide(run: Run, tmp_path: Path) -> None:
    existing.write(tmp_path, {**SAM, "common/requirements.txt": ""})
    ran = run("init", "sam", cwd=tmp_path)
    assert ran.stderr == (
        "`Worker` is left to SAM: its architecture is known to CloudFormation only\n"
        "`Api` is built for python3.12-arm64, by what `Stage` is by default\n"
    )


def test_what_is_to_be_done_is_told_from_here(run: Run, tmp_path: Path) -> None:
    existing.write(tmp_path / "my shop", SERVERLESS)
    steps = [line for line in run("init", "my shop", cwd=tmp_path).stdout.splitlines() if line.startswith("  next: ")]
    assert steps == ["  next: `cd 'my shop'`", "  next: `manylambda build api`", "  next: `manylambda build worker`"]
    assert "next: `cd" not in run("init", cwd=tmp_path / "my shop").stdout
    ran = run("init", "terraform", "my shop", "-o", "infra", "-t", "python3.13-arm64", cwd=tmp_path)
    assert "\n  next: `cd infra`\n" in ran.stdout


BESIDE = {
    "sam": {
        "infra/template.yaml": """
            Resources:
              Api:
                Type: AWS::Serverless::Function
                Properties: {CodeUri: ../api, Runtime: python3.12, Handler: app.handler}
              Stack:
                Type: AWS::Serverless::Application
                Properties: {Location: nested/template.yaml}
            """,
    },
    "terraform": {
        "infra/main.tf": """
            resource "aws_lambda_function" "api" {
              runtime  = "python3.12"
              handler  = "app.handler"
              filename = data.archive_file.api.output_path
            }
            data "archive_file" "api" {
              source_dir = "${path.module}/../api"
            }
            """,
    },
    "cdk": {
        "infra/cdk.json": "{}",
        "infra/app.py": """
            PythonFunction(self, "Api", entry=os.path.join(os.path.dirname(__file__), "..", "api"), index="app.py",
                runtime=Runtime.PYTHON_3_12, architecture=Architecture.X86_64)
            """,
    },
}


@pytest.mark.parametrize("name", BESIDE)
def test_code_beside_the_infrastructure_is_found_where_the_repository_has_both(
    run: Run, tmp_path: Path, name: str
) -> None:
    existing.write(tmp_path, {**BESIDE[name], "api/app.py": HANDLER})
    outside = run("init", "infra", "--format", "json", cwd=tmp_path).json
    told = f"`{'Api' if name != 'terraform' else 'api'}` was passed over: its code is not in this repository: "
    assert f"{told}`{tmp_path / 'api'}`" in outside["unsure"]
    assert outside["files"] == [str(tmp_path / "infra" / "manylambda.toml")]
    (tmp_path / ".git").mkdir()
    found = run("init", "infra", "--format", "json", cwd=tmp_path).json
    assert found["files"] == [str(tmp_path / "api" / "manylambda.toml")]
    assert found["targets"] == ["python3.12-x86_64"]
    assert found["steps"] == ["`manylambda build ../api`"]
    run("build", "../api", cwd=tmp_path / "infra")
    if name == "sam":
        assert found["unsure"] == ["`Stack` was passed over: it is a stack of its own: nested/template.yaml"]


def test_what_lies_below_and_was_not_read_is_told(run: Run, tmp_path: Path) -> None:
    existing.write(
        tmp_path,
        {
            **BESIDE["sam"],
            **SAM,
            "chart/template.yaml": "a: b\n",
            "node_modules/x/cdk.json": "{}",
            "app/cdk.json": "{}",
        },
    )
    (tmp_path / "template.yaml").unlink()
    unsure = run("init", "--format", "json", cwd=tmp_path).json["unsure"]
    assert [one for one in unsure if "was not read" in one] == [
        "`app/cdk.json` was not read: `manylambda init app` reads it",
        "`infra/template.yaml` was not read: `manylambda init infra` reads it",
    ]


def test_a_service_that_is_a_program_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "serverless.ts").write_text("export default {}\n", encoding="utf-8")
    unsure = run("init", "--format", "json", cwd=tmp_path).json["unsure"]
    assert "`serverless.ts` is a program, and was not read: only `serverless.yml` and `serverless.json` are" in unsure


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"src/app.py": HANDLER}, "app.handler"),
        ({"src/shop/__init__.py": "", "src/shop/main.py": HANDLER}, "shop.main.handler"),
        ({"shop/__init__.py": HANDLER}, "shop.handler"),
        ({"app.py": HANDLER, "shop/__init__.py": HANDLER}, "app.handler"),
        ({"shop/__init__.py": HANDLER, "other/__init__.py": HANDLER}, None),
        ({"scripts/app.py": HANDLER, "tests/__init__.py": HANDLER}, None),
    ],
)
def test_a_handler_is_looked_for_where_the_package_has_it(
    run: Run, tmp_path: Path, files: Mapping[str, str], handler: str | None
) -> None:
    existing.write(tmp_path, files)
    found = run("init", "--format", "json", cwd=tmp_path).json["found"]
    assert [one["value"] for one in found if one["key"] == "handler"] == ([handler] if handler else [])
    run("build", cwd=tmp_path)
