"""`manylambda init sam`: what it writes, and what the real `sam build` makes of it."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from product import deployers, schemas
from trial.hosts import needs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from product.conftest import Run

TEMPLATE = """\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.13, Handler: app.handler}
Resources:
  Hello:
    Type: AWS::Serverless::Function  # says hello
    Properties:
      CodeUri: hello/
      Architectures: [arm64]
      Layers: [!Ref Common]
  Worker:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: worker, Architectures: [x86_64]}
  Common:
    Type: AWS::Serverless::LayerVersion
    Properties:
      ContentUri: common
      CompatibleRuntimes: [python3.13]
      CompatibleArchitectures: [arm64]
"""
HANDLER = "import markupsafe\n\n\ndef handler(event, context):\n    return str(markupsafe.escape('<'))\n"


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """An application of two functions and a layer, in a folder whose name has a space."""
    folder = tmp_path / "my app"
    for name, requirement in {
        "hello": "markupsafe==3.0.3",
        "worker": "markupsafe==3.0.3",
        "common": "idna==3.10",
    }.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
        if name != "common":
            (folder / name / "app.py").write_text(HANDLER, encoding="utf-8")
    (folder / "template.yaml").write_text(TEMPLATE, encoding="utf-8")
    return folder


def rules(makefile: Path) -> Mapping[str, list[str]]:
    """Give the commands of each target of a Makefile."""
    found: dict[str, list[str]] = {}
    for line in makefile.read_text(encoding="utf-8").splitlines():
        if line.startswith("build-"):
            found[line.rstrip(":")] = []
        elif line.startswith("\t"):
            found[list(found)[-1]].append(line.strip())
    return found


BUILD = '$(MANYLAMBDA) build "$(SOURCE)" -t {} --kind dir --artifact "$(ARTIFACTS_DIR){}"'


def test_each_folder_gets_a_makefile_with_the_targets_of_the_template(run: Run, application: Path) -> None:
    ran = run("init", "sam", application, "--format", "json")
    schemas.check("init", ran.json)
    assert ran.json["targets"] == ["python3.13-arm64", "python3.13-x86_64"]
    assert ran.json["files"] == [str(application / name / "Makefile") for name in ("hello", "worker", "common")]
    put = "in `template.yaml`, write `BuildMethod: makefile`"
    assert ran.json["steps"] == [
        f"{put} into the `Metadata` of `Hello`",
        f"{put} into the `Metadata` of `Worker`",
        f"{put} and `BuildArchitecture: arm64` into the `Metadata` of `Common`",
        "or let `manylambda init sam --edit` write that",
        "`sam build`",
    ]
    handled = ' --handler "app.handler"'
    assert rules(application / "hello" / "Makefile") == {
        "build-Hello": [BUILD.format("python3.13-arm64", "") + handled]
    }
    assert rules(application / "worker" / "Makefile") == {
        "build-Worker": [BUILD.format("python3.13-x86_64", "") + handled]
    }
    assert rules(application / "common" / "Makefile") == {"build-Common": [BUILD.format("python3.13-arm64", "/python")]}
    assert (application / "template.yaml").read_text(encoding="utf-8") == TEMPLATE


def test_the_template_is_changed_on_request_and_keeps_its_comments(run: Run, application: Path) -> None:
    ran = run("init", "sam", application, "--edit", "--format", "json")
    assert ran.json["steps"] == ["`sam build`"]
    assert ran.json["files"][-1] == str(application / "template.yaml")
    text = (application / "template.yaml").read_text(encoding="utf-8")
    method = "    Metadata:\n      BuildMethod: makefile\n"
    assert f"    Type: AWS::Serverless::Function  # says hello\n{method}    Properties:\n" in text
    assert text.replace(method + "      BuildArchitecture: arm64\n", "").replace(method, "") == TEMPLATE
    again = run("init", "sam", application, "--format", "json")
    assert again.json["steps"] == ["`sam build`"]


def test_functions_of_one_folder_share_its_makefile_and_a_layer_is_for_all_its_runtimes(
    run: Run, application: Path
) -> None:
    text = TEMPLATE.replace("CodeUri: worker", "CodeUri: ./hello").replace(
        "CompatibleRuntimes: [python3.13]", "CompatibleRuntimes: [python3.12, python3.13]"
    )
    (application / "template.yaml").write_text(text, encoding="utf-8")
    (application / "common" / "python").mkdir()
    run("init", "sam", application)
    assert sorted(rules(application / "hello" / "Makefile")) == ["build-Hello", "build-Worker"]
    assert not (application / "worker" / "Makefile").exists()
    source = ' --source "$(SOURCE)python"'
    assert rules(application / "common" / "Makefile") == {
        "build-Common": [
            BUILD.format("python3.12-arm64", "/python/lib/python3.12/site-packages") + source,
            BUILD.format("python3.13-arm64", "/python/lib/python3.13/site-packages") + source,
        ]
    }


def test_what_is_none_of_ours_is_left_to_sam(run: Run, application: Path) -> None:
    node = "  Node: {Type: AWS::Serverless::Function, Properties: {Runtime: nodejs20.x, CodeUri: node}}\n"
    (application / "template.yaml").write_text(TEMPLATE + node, encoding="utf-8")
    assert "`Node` is left to SAM: its runtime is nodejs20.x" in run("init", "sam", application).stderr


def test_a_makefile_that_is_there_is_not_replaced_and_nothing_is_written(run: Run, application: Path) -> None:
    (application / "worker" / "Makefile").write_text("test:\n\tpytest\n", encoding="utf-8")
    ran = run("init", "sam", application, "--edit", status=2)
    assert "error: already there, and not the same: `worker/Makefile`" in ran.stderr
    assert not (application / "hello" / "Makefile").exists()
    assert (application / "template.yaml").read_text(encoding="utf-8") == TEMPLATE
    run("init", "sam", application, "-o", application / "look")
    assert "build-Worker" in rules(application / "look" / "worker" / "Makefile")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("Resources:", "Things:"), (), "has no template of SAM: none of `template.yaml`, `template.yml`"),
        (("CodeUri: worker", "CodeUri: absent"), (), "`Worker` is made from a folder that is not there: `"),
        (("python3.13", "nodejs20.x"), (), "has no function and no layer that is made from a folder of Python"),
        (("python3.13", "python3.99"), (), "`python3.99-arm64` is not a target"),
        (("", ""), ("--exclude-provided",), "`--exclude-provided` means nothing to `init sam`"),
        (("", ""), ("-t", "python3.12-arm64"), "`template.yaml` decides what is built for which target"),
        (
            ("Type: AWS::Serverless::LayerVersion", "<<: {Type: AWS::Serverless::LayerVersion}"),
            ("--edit",),
            "at `Resources.Common.Type`: it ",
        ),
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_request(
    run: Run, application: Path, change: tuple[str, str], arguments: tuple[str, ...], message: str
) -> None:
    (application / "template.yaml").write_text(TEMPLATE.replace(*change), encoding="utf-8")
    ran = run("init", "sam", application, *arguments, status=2)
    assert message in ran.stderr
    assert not (application / "hello" / "Makefile").exists()


# The real `sam build`.


def sam_build(application: Path, *words: str, status: int = 0) -> str:
    """Run it, as a user does; return what it printed."""
    needs("make")
    done = subprocess.run(
        [deployers.python_environment(deployers.SAM) / "sam", "build", *words],
        cwd=application, env=deployers.quiet(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.network
@pytest.mark.xdist_group("sam")
def test_sam_builds_functions_and_layers_for_their_own_machines(run: Run, application: Path) -> None:
    # What lies beside the folder is reached, although SAM gives make a copy of the folder alone.
    (application / "shared.txt").write_text("markupsafe==3.0.3\n", encoding="utf-8")
    (application / "worker" / "requirements.txt").write_text("-r ../shared.txt\n", encoding="utf-8")
    (application / "common" / "greeting.py").write_text("TEXT = 'hello'\n", encoding="utf-8")
    run("init", "sam", application, "--edit")
    assert "Build Succeeded" in sam_build(application)
    built = application / ".aws-sam" / "build"
    first = {name: contents(built / name) for name in ("Hello", "Worker", "Common")}
    machines = {"Hello": "aarch64", "Worker": "x86_64"}
    for name, machine in machines.items():
        library = f"markupsafe/_speedups.cpython-313-{machine}-linux-gnu.so"
        assert {"app.py", library} <= first[name].keys()
        assert not {"Makefile", "requirements.txt"} & first[name].keys()
    assert {"python/greeting.py", "python/idna/__init__.py"} <= first["Common"].keys()
    # Again, both at once: the same bytes.
    sam_build(application, "--parallel")
    assert {name: contents(built / name) for name in first} == first


@pytest.mark.network
@pytest.mark.xdist_group("sam")
def test_an_error_of_ours_is_what_sam_shows(run: Run, application: Path) -> None:
    (application / "hello" / "requirements.txt").write_text("markupsafe==3.0.3 --hash=sha256:00\n", encoding="utf-8")
    run("init", "sam", application, "--edit")
    shown = sam_build(application, "Hello", status=1)
    assert re.search(r"error: not a sha256 hash in .*requirements\.txt:1: `sha256:00`", shown)
