"""`init terraform` and `build --format terraform`: what Terraform itself makes of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from product import deployers, schemas

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"
PROVIDER = Path(__file__).with_name("external_provider.py")
FUNCTION = """\
resource "terraform_data" "function" { # as `aws_lambda_function`, whose provider wants an account
  input = {
    filename         = module.api.filename
    source_code_hash = module.api.source_code_hash
    runtime          = module.api.runtime
    architectures    = module.api.architectures
    handler          = module.api.handler
  }
}

output "hash_of_terraform" {
  value = filebase64sha256(module.api.filename)
}

output "function" {
  value = terraform_data.function.output
}
"""


@pytest.fixture
def locked(index: Index, project: Path) -> Path:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo", "1.0")), encoding="utf-8")
    return project


# What the commands say.


def test_terraform_is_told_of_a_package_in_flat_text(run: Run, locked: Path, tmp_path: Path) -> None:
    artifact = run("build", locked, "-t", TARGET, "--format", "json").artifact
    (tmp_path / "infra").mkdir()
    told = run("build", locked, "-t", TARGET, "--format", "terraform", cwd=tmp_path / "infra").json
    assert told == {
        "filename": "../api/dist/api-python3.13-arm64.zip",
        "source_code_hash": artifact["code_sha256"],
        "sha256": artifact["sha256"],
        "target": TARGET,
    }


def test_what_terraform_is_to_show_of_a_failure_is_on_standard_error(run: Run, locked: Path) -> None:
    ran = run("build", locked, "-t", TARGET, "--handler", "no.no", "--format", "terraform", status=1)
    assert ran.json == {}
    assert "error: the package is not fit for python3.13-arm64\n" in ran.stderr
    assert "error[handler-missing]: the handler `no.no` needs the module `no`" in ran.stderr


def test_terraform_uploads_one_zip(run: Run, project: Path) -> None:
    for words, fact in {
        ("--kind", "dir"): "tells of one zip, not of 1 of `--kind dir`",
        ("-t", "python3.12-arm64"): "tells of one zip, not of 2 of `--kind zip`",
    }.items():
        assert fact in run("build", project, "-t", TARGET, *words, "--format", "terraform", status=2).stderr
    ran = run("init", "terraform", project, "-t", TARGET, "--kind", "image", status=2)
    assert "error: Terraform uploads a zip, not `--kind image`" in ran.stderr


def test_the_module_is_called_once_a_target(run: Run, project: Path) -> None:
    ran = run(
        "init", "terraform", project, "-t", TARGET, "-t", "python3.12-x86_64", "--kind", "layer", "--name", "3-layers",
        "-o", project / "infra", "--format", "json",
    )  # fmt: skip
    schemas.check("init", ran.json)
    assert [Path(file).relative_to(project).as_posix() for file in ran.json["files"]] == [
        "infra/manylambda/main.tf", "infra/manylambda.tf",
    ]  # fmt: skip
    text = (project / "infra" / "manylambda.tf").read_text(encoding="utf-8")
    assert 'module "package_3_layers_python3_13_arm64" {\n' in text
    assert (
        'module "package_3_layers_python3_12_x86_64" {\n'
        '  source       = "./manylambda"\n'
        '  project      = "${path.root}/.."\n'
        '  runtime      = "python3.12"\n'
        '  architecture = "x86_64"\n'
        '  kind         = "layer"\n'
        "}\n"
    ) in text
    assert ran.json["steps"][0].startswith(
        "give `aws_lambda_layer_version` `filename = module.package_3_layers_python3_13_arm64.filename` and "
    )


# The real Terraform, with a stand-in for the provider that no index has.

needs_terraform = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("terraform"), reason="no Terraform, which no index of packages has"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    python = deployers.python_environment("grpcio==1.76.0", "msgpack==1.1.2") / "python"
    providers = tmp_path / "providers"
    providers.mkdir()
    provider = providers / "terraform-provider-external"
    provider.write_text(f"#!/bin/sh\nexec '{python}' '{PROVIDER}'\n", encoding="utf-8")
    provider.chmod(0o755)
    settings = tmp_path / "terraformrc"
    settings.write_text(
        f'provider_installation {{\n  dev_overrides {{\n    "hashicorp/external" = "{providers}"\n  }}\n}}\n',
        encoding="utf-8",
    )
    return deployers.quiet(
        TF_CLI_CONFIG_FILE=str(settings), TF_DISABLE_PLUGIN_TLS="1", CHECKPOINT_DISABLE="1", TF_IN_AUTOMATION="1"
    )


def unzipped(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def terraform(folder: Path, environment: dict[str, str], *words: str, status: int = 0) -> str:
    done = subprocess.run(
        ["terraform", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.network
@needs_terraform
def test_terraform_builds_while_it_plans_and_changes_only_what_changed(
    run: Run, locked: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    infra = locked / "infra"
    run("init", "terraform", locked, "-t", TARGET, "--handler", "app.handler", "-o", infra)
    (infra / "main.tf").write_text(FUNCTION, encoding="utf-8")
    terraform(infra, environment, "fmt", "-check", "-recursive", "-diff")
    terraform(infra, environment, "get")
    assert "The configuration is valid" in terraform(infra, environment, "validate", "-no-color")
    terraform(infra, environment, "apply", "-auto-approve", "-no-color")
    outputs: Any = json.loads(terraform(infra, environment, "output", "-json"))
    function = outputs["function"]["value"]
    assert function == {
        "filename": "../dist/api-python3.13-arm64.zip",
        "source_code_hash": outputs["hash_of_terraform"]["value"],
        "runtime": "python3.13",
        "architectures": ["arm64"],
        "handler": "app.handler",
    }
    # What Terraform itself keeps beside the code is no part of the package.
    assert not [name for name in unzipped(locked / "dist" / "api-python3.13-arm64.zip") if "infra" in name]

    # A colleague with the same state and another folder has nothing to change.
    other = shutil.copytree(locked, tmp_path / "elsewhere" / "api", ignore=shutil.ignore_patterns("dist"))
    (other / "app.py").chmod(0o600)
    terraform(other / "infra", environment, "plan", "-detailed-exitcode")
    (other / "app.py").write_text("def handler(event, context):\n    return {'changed': True}\n", encoding="utf-8")
    shown = terraform(other / "infra", environment, "plan", "-detailed-exitcode", "-no-color", status=2)
    assert "~ source_code_hash" in shown
    assert "~ filename" not in shown


@pytest.mark.network
@needs_terraform
def test_an_error_of_ours_is_what_terraform_shows(run: Run, locked: Path, environment: dict[str, str]) -> None:
    run("init", "terraform", locked, "-t", TARGET, "--handler", "app.absent")
    (locked / "main.tf").write_text(FUNCTION, encoding="utf-8")
    terraform(locked, environment, "get")
    shown = " ".join(terraform(locked, environment, "plan", "-no-color", status=1).replace("│", " ").split())
    assert "error[handler-missing] project: the handler `app.absent` needs `absent`" in shown
    assert "hint: define it there" in shown
