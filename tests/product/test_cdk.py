"""`manylambda.cdk`: what `cdk synth` makes of an app, with the real CDK."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from product import deployers
from trial.hosts import needs

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("cdk")]

# All in one process, since CDK takes seconds to come up: what `cdk synth` asks for, and then the same stack again.
APP = """\
import os
import pathlib
import shutil

from aws_cdk import App, Stack
from aws_cdk.aws_lambda import Architecture, Runtime

from manylambda.cdk import PythonFunction, PythonLayer

ARM = {"runtime": Runtime.PYTHON_3_13, "architecture": Architecture.ARM_64}


def orders(app):
    stack = Stack(app, "Orders")
    common = PythonLayer(stack, "Common", entry="common", description="what both need", **ARM)
    PythonFunction(stack, "Hello", entry="hello", handler="app.handler", layers=[common], memory_size=256, **ARM)
    PythonFunction(stack, "Worker", entry="worker", handler="app.handler", runtime=Runtime.PYTHON_3_12)


def again(outdir, **given):
    app = App(outdir=os.path.abspath(outdir), **given)
    orders(app)
    app.synth()


app = App()
orders(app)
wrong = Stack(app, "Wrong")
PythonFunction(wrong, "Hello", entry="unresolvable", handler="app.handler", **ARM)
PythonFunction(wrong, "Worker", entry="worker", handler="app.absent", runtime=Runtime.PYTHON_3_12)
app.synth()

os.umask(0o077)
os.environ["TZ"] = "Asia/Tokyo"
shutil.copytree(".", "../elsewhere", ignore=shutil.ignore_patterns("*.out"))
os.chdir("../elsewhere")
again("same.out")
with pathlib.Path("worker/app.py").open("a") as code:
    code.write("# changed")
again("changed.out")
shutil.copy("unresolvable/requirements.txt", "hello")
again("other-stacks.out", post_cli_context={"aws:cdk:bundling-stacks": ["Another"]})
"""
HANDLER = "import markupsafe\n\n\ndef handler(event, context):\n    return str(markupsafe.escape('<'))\n"


class Synthesized(NamedTuple):
    """An application, and what `cdk synth` told of it."""

    application: Path
    shown: str
    elsewhere: Path


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Synthesized:
    folder = tmp_path_factory.mktemp("cdk") / "app"
    for name, requirement in {
        "hello": "markupsafe==3.0.3",
        "worker": "markupsafe==3.0.3",
        "common": "idna==3.10",
        "unresolvable": "markupsafe==0.0.0.1",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
        if name != "common":
            (folder / name / "app.py").write_text(HANDLER, encoding="utf-8")
    (folder / "app.py").write_text(APP, encoding="utf-8")
    app = f"{deployers.cdk_environment() / 'python'} app.py"
    return Synthesized(folder, cdk_synth(folder, shared_cache, app, status=1), folder.parent / "elsewhere")


def cdk_synth(folder: Path, cache: Path, app: str, *stacks: str, status: int = 0) -> str:
    """Run it; return what it printed. An `app` is a command, or a folder with what one has made."""
    needs("node")
    program = deployers.node_package(deployers.CDK_PROGRAM) / "cdk"
    ended = subprocess.run(
        [program, "synth", *stacks, "--quiet", "--app", app, "--no-notices"],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
        env=deployers.quiet(
            JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION="1", CDK_DISABLE_CLI_TELEMETRY="1",
            MANYLAMBDA_CACHE_DIR=str(cache), NO_COLOR="1",
        ),
    )  # fmt: skip
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


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


def test_functions_and_layers_are_what_the_command_line_makes(
    run: Run, synthesized: Synthesized, shared_cache: Path, tmp_path: Path
) -> None:
    application = synthesized.application
    output = application / "cdk.out"
    assert "ERROR" not in cdk_synth(application, shared_cache, "cdk.out", "Orders")
    common, hello, worker = resources(output).values()
    assert (common["CompatibleRuntimes"], common["CompatibleArchitectures"]) == (["python3.13"], ["arm64"])
    assert (hello["Runtime"], hello["Architectures"], hello["Handler"]) == ("python3.13", ["arm64"], "app.handler")
    assert (hello["MemorySize"], len(hello["Layers"])) == (256, 1)
    assert (worker["Runtime"], worker["Architectures"]) == ("python3.12", ["x86_64"])
    assets = {name: output / f"asset.{key}" for name, key in keys(output).items()}
    cache = {"MANYLAMBDA_CACHE_DIR": str(shared_cache)}
    for name, words in {
        "Common": ("common", "-t", "python3.13-arm64", "--kind", "layer"),
        "Hello": ("hello", "-t", "python3.13-arm64"),
        "Worker": ("worker", "-t", "python3.12-x86_64"),
    }.items():
        ran = run("build", *words, "-o", tmp_path / "dist", "--format", "json", cwd=application, env=cache)
        assert ran.artifact["code_sha256"] == code_sha256(assets[name])
    names = {name: zipfile.ZipFile(asset).namelist() for name, asset in assets.items()}
    assert "python/idna/__init__.py" in names["Common"]
    assert "markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so" in names["Hello"]
    assert "markupsafe/_speedups.cpython-312-x86_64-linux-gnu.so" in names["Worker"]


def test_only_what_changed_is_another_asset(synthesized: Synthesized) -> None:
    first = keys(synthesized.application / "cdk.out")
    elsewhere = synthesized.elsewhere
    assert keys(elsewhere / "same.out") == first
    changed = keys(elsewhere / "changed.out")
    assert changed["Worker"] != first["Worker"]
    assert changed | {"Worker": first["Worker"]} == first
    # What is not deployed is not built, and what is wrong with it does not matter.
    assert (elsewhere / "other-stacks.out" / "Orders.template.json").is_file()
    assert not list((elsewhere / "other-stacks.out").rglob("*.zip"))


def test_what_goes_wrong_is_told_at_its_construct(synthesized: Synthesized) -> None:
    shown = synthesized.shown
    assert re.search(r"no versions satisfy the requirements for `python3\.13-arm64`: .*\n\s+Wrong/Hello\n", shown)
    assert "`worker` would not load on python3.12-x86_64\nerror[handler-missing] project: " in shown
    assert re.search(r"hint: define it there.*\n\s+Wrong/Worker\n", shown)
    assert "Orders/" not in shown
    assert "Traceback" not in shown
