"""`manylambda.cdk`: what `cdk synth` makes of an app, with the real CDK."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from product import deployers
from trial.hosts import needs

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("cdk")]

APP = """\
from aws_cdk import App, Stack
from aws_cdk.aws_lambda import Architecture, Runtime

from manylambda.cdk import PythonFunction, PythonLayer


def synthesize(**given):
    app = App(**given)
    stack = Stack(app, "Orders")
    arm = {"runtime": Runtime.PYTHON_3_13, "architecture": Architecture.ARM_64}
    common = PythonLayer(stack, "Common", entry="common", description="what both need", **arm)
    PythonFunction(stack, "Hello", entry="hello", handler="app.handler", layers=[common], memory_size=256, **arm)
    PythonFunction(stack, "Worker", entry="worker", handler="app.handler", runtime=Runtime.PYTHON_3_12)
    app.synth()


if __name__ == "__main__":
    synthesize()
"""
# Several times in one process, since CDK takes seconds to come up.
OTHERS = """\
import os
import pathlib
import shutil

from app import synthesize

synthesize(outdir="first.out")
os.umask(0o077)
os.environ["TZ"] = "Asia/Tokyo"
shutil.copytree(".", "../elsewhere", ignore=shutil.ignore_patterns("*.out"))
os.chdir("../elsewhere")
synthesize(outdir=os.path.abspath("same.out"))
with pathlib.Path("worker/app.py").open("a") as code:
    code.write("# changed")
synthesize(outdir=os.path.abspath("changed.out"))
pathlib.Path("hello/requirements.txt").write_text("markupsafe==0.0.0.1")
synthesize(outdir=os.path.abspath("other-stacks.out"), context={"aws:cdk:bundling-stacks": ["Another"]})
"""
HANDLER = "import markupsafe\n\n\ndef handler(event, context):\n    return str(markupsafe.escape('<'))\n"


@pytest.fixture
def application(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    for name, requirement in {
        "hello": "markupsafe==3.0.3",
        "worker": "markupsafe==3.0.3",
        "common": "idna==3.10",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
        if name != "common":
            (folder / name / "app.py").write_text(HANDLER, encoding="utf-8")
    (folder / "app.py").write_text(APP, encoding="utf-8")
    return folder


def done(folder: Path, *command: str | Path, status: int = 0) -> str:
    """Run a command; return what it printed."""
    needs("node")
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=150, check=False,
        env=deployers.quiet(JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION="1", CDK_DISABLE_CLI_TELEMETRY="1"),
    )  # fmt: skip
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def cdk_synth(folder: Path, status: int = 0) -> str:
    program = deployers.node_package(deployers.CDK_PROGRAM) / "cdk"
    app = f"{deployers.cdk_environment() / 'python'} app.py"
    return done(folder, program, "synth", "--quiet", "--app", app, "--no-notices", status=status)


def resources(output: Path) -> dict[str, Any]:
    """Give the properties of functions and layers by the start of their names."""
    template = json.loads((output / "Orders.template.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = {"Common": None, "Hello": None, "Worker": None}
    for name, resource in template["Resources"].items():
        if resource["Type"] in {"AWS::Lambda::Function", "AWS::Lambda::LayerVersion"}:
            found[next(start for start in found if name.startswith(start))] = resource["Properties"]
    return found


def keys(output: Path) -> dict[str, str]:
    """Give the names of their assets."""
    return {name: (each.get("Code") or each["Content"])["S3Key"] for name, each in resources(output).items()}


def code_sha256(path: Path) -> str:
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()


def test_functions_and_layers_are_what_the_command_line_makes(run: Run, application: Path, tmp_path: Path) -> None:
    shown = cdk_synth(application)
    assert "ERROR" not in shown
    output = application / "cdk.out"
    common, hello, worker = resources(output).values()
    assert (common["CompatibleRuntimes"], common["CompatibleArchitectures"]) == (["python3.13"], ["arm64"])
    assert (hello["Runtime"], hello["Architectures"], hello["Handler"]) == ("python3.13", ["arm64"], "app.handler")
    assert (hello["MemorySize"], len(hello["Layers"])) == (256, 1)
    assert (worker["Runtime"], worker["Architectures"]) == ("python3.12", ["x86_64"])
    assets = {name: output / f"asset.{key}" for name, key in keys(output).items()}
    for name, words in {
        "Common": ("common", "-t", "python3.13-arm64", "--kind", "layer"),
        "Hello": ("hello", "-t", "python3.13-arm64"),
        "Worker": ("worker", "-t", "python3.12-x86_64"),
    }.items():
        artifact = run("build", *words, "-o", tmp_path / "dist", "--format", "json", cwd=application).artifact
        assert artifact["code_sha256"] == code_sha256(assets[name])
    names = {name: zipfile.ZipFile(asset).namelist() for name, asset in assets.items()}
    assert "python/idna/__init__.py" in names["Common"]
    assert "markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so" in names["Hello"]
    assert "markupsafe/_speedups.cpython-312-x86_64-linux-gnu.so" in names["Worker"]


def test_only_what_changed_is_another_asset(application: Path, tmp_path: Path) -> None:
    (application / "others.py").write_text(OTHERS, encoding="utf-8")
    done(application, deployers.cdk_environment() / "python", "others.py")
    first = keys(application / "first.out")
    elsewhere = tmp_path / "elsewhere"
    assert keys(elsewhere / "same.out") == first
    changed = keys(elsewhere / "changed.out")
    assert changed["Worker"] != first["Worker"]
    assert changed | {"Worker": first["Worker"]} == first
    # What is not deployed is not built, and what is wrong with it does not matter.
    assert not list((elsewhere / "other-stacks.out").rglob("*.zip"))


def test_what_goes_wrong_is_told_at_its_construct(application: Path) -> None:
    (application / "hello" / "requirements.txt").write_text("markupsafe==0.0.0.1\n", encoding="utf-8")
    (application / "worker" / "app.py").write_text("x = 1\n", encoding="utf-8")
    shown = cdk_synth(application, status=1)
    assert re.search(r"no versions satisfy the requirements for `python3\.13-arm64`: .*\n\s+Orders/Hello\n", shown)
    assert "`worker` would not load on python3.12-x86_64\nerror[handler-missing] project: " in shown
    assert re.search(r"hint: define it there.*\n\s+Orders/Worker\n", shown)
    assert "Traceback" not in shown
