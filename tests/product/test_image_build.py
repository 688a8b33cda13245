"""`build --kind image`: images that other tools read and run, the same bytes everywhere, and nothing sent twice."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from image.registries import RealRegistry, needs, registry
from image.saved import FOLDER, Layout, docker_save, layer, layout, sha256, system
from manylambda.target import Target
from product import schemas
from rules.packages import elf
from trial import containers, hosts, runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.pipeline.artifact import Artifact
    from product.conftest import Run
    from product.loopback import Index

TARGET: Final = "python3.13-arm64"
LAMBDA: Final = {
    "Entrypoint": ["/lambda-entrypoint.sh"],
    "Env": ["PATH=/var/lang/bin:/usr/bin", "LAMBDA_TASK_ROOT=/var/task"],
    "WorkingDir": "/var/task",
}
RUNTIME: Final = layer({"var/lang/bin/python3.13": b"\x7fELF", "var/runtime/bootstrap": b"#!/bin/sh\n"}, mode=0o755)
PLAIN: Final = layer({"usr/bin/python3.13": b"\x7fELF"}, mode=0o755)
ENTRY: Final = "org.opencontainers.image."


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def locked(index: Index, project: Path) -> Path:
    wheels = [
        index.wheel("demo", "1.0", {"demo.py": "value = 1\n"}),
        index.wheel("awslambdaric", "4.0.1", {"awslambdaric/__main__.py": ""}),
    ]
    (project / "pylock.toml").write_text(index.pylock(*wheels), encoding="utf-8")
    return project


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return layout(RUNTIME, config=LAMBDA, architecture="arm64").folder(tmp_path / "base")


def made(run: Run, project: Path, base: object, *more: str | Path, **options: Any) -> Any:
    """Build an image, and give its part of the document."""
    arguments = ("build", project, "-t", TARGET, "--kind", "image", "--base", f"oci:{base}", "--format", "json", "-q")
    ran = run(*arguments, *(() if "--handler" in more else ("--handler", "app.handler")), *more, **options)
    if ran.status == 0:
        schemas.check("build", ran.json)
        return ran.artifact
    return ran


def blob(folder: str | Path, digest: str) -> bytes:
    return (Path(folder) / "blobs" / "sha256" / digest.partition(":")[2]).read_bytes()


def config_of(artifact: Any) -> Any:
    manifest = json.loads(blob(artifact["path"], artifact["image"]["digest"]))
    return json.loads(blob(artifact["path"], manifest["config"]["digest"]))


def names(folder: str | Path, digest: str) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(folder, digest)))) as archive:
        return [one.name for one in archive if one.isfile()]


# What is made


def test_an_image_is_a_base_a_layer_of_dependencies_and_one_of_code(run: Run, locked: Path, base: Path) -> None:
    artifact = made(run, locked, base)
    assert artifact["kind"] == "image"
    assert artifact["path"] == str(locked / "dist" / f"api-{TARGET}-image")
    image = artifact["image"]
    assert image["place"] == f"oci:{artifact['path']}"
    assert [one["content"] for one in image["layers"]] == ["base", "dependencies", "code"]
    contents = [names(artifact["path"], one["digest"]) for one in image["layers"][1:]]
    assert contents[1] == ["var/task/app.py"]
    assert [name for name in contents[0] if name.endswith(".py")] == [
        "var/task/awslambdaric/__main__.py",
        "var/task/demo.py",
    ]
    assert artifact["sha256"] == image["digest"].removeprefix("sha256:")
    assert artifact["code_sha256"] is None
    assert (image["entry_point"], image["command"]) == (["/lambda-entrypoint.sh"], ["app.handler"])
    config = config_of(artifact)
    assert config["architecture"] == "arm64"
    assert config["config"]["Cmd"] == ["app.handler"]
    assert config["config"]["WorkingDir"] == "/var/task"
    assert config["config"]["Env"] == LAMBDA["Env"]
    assert config["rootfs"]["diff_ids"] == [one["diff_id"] for one in image["layers"]]


def test_environment_labels_and_version_are_in_its_configuration(run: Run, locked: Path, base: Path) -> None:
    (locked / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "1.4"\n'
        '[tool.manylambda.image]\nlabels = { team = "orders" }\nenvironment = { LOG = "a=b, c" }\n',
        encoding="utf-8",
    )
    config = config_of(made(run, locked, base))["config"]
    found = {key: value for key, value in config["Labels"].items() if not key.endswith("base.digest")}
    assert found == {"team": "orders", f"{ENTRY}title": "api", f"{ENTRY}version": "1.4"}
    assert config["Env"] == [*LAMBDA["Env"], "LOG=a=b, c"]
    config = config_of(made(run, locked, base, "--env", "PATH=/x", "--env", "A=1", "--label", f"{ENTRY}title=other"))[
        "config"
    ]
    assert config["Env"] == ["PATH=/x", "LAMBDA_TASK_ROOT=/var/task", "A=1"]
    assert config["Labels"][f"{ENTRY}title"] == "other"


def test_a_large_distribution_has_a_layer_of_its_own_where_layers_are_split(
    run: Run, index: Index, project: Path, base: Path
) -> None:
    wheels = [
        index.wheel("large", "1.0", {"large.bin": os.urandom(6 << 20)}),
        index.wheel("second", "1.0", {"second.bin": bytes(7 << 20)}),
        index.wheel("small", "1.0"),
    ]
    (project / "pylock.toml").write_text(index.pylock(*wheels), encoding="utf-8")
    layers = made(run, project, base, "--split-layers")["image"]["layers"]
    assert [one["content"] for one in layers] == ["base", "large", "second", "dependencies", "code"]


def test_a_changed_line_of_code_changes_the_layer_of_code_alone(run: Run, locked: Path, base: Path) -> None:
    first = made(run, locked, base)["image"]["layers"]
    (locked / "app.py").write_text("def handler(event, context):\n    return 2\n", encoding="utf-8")
    second = made(run, locked, base)["image"]["layers"]
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert second[2]["size"] < 1000


def test_the_project_as_a_wheel_is_code(run: Run, locked: Path, base: Path) -> None:
    (locked / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "2"\ndependencies = ["demo", "awslambdaric"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        encoding="utf-8",
    )
    (locked / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(folder, settings=None, metadata=None):\n"
        "    with zipfile.ZipFile(f'{folder}/api-2-py3-none-any.whl', 'w') as z:\n"
        "        z.writestr('app.py', 'def handler(event, context): pass\\n')\n"
        "        z.writestr('api-2.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: api\\nVersion: 2\\n')\n"
        "        z.writestr('api-2.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
        "Tag: py3-none-any\\n')\n"
        "        z.writestr('api-2.dist-info/RECORD', 'app.py,,\\napi-2.dist-info/METADATA,,\\n"
        "api-2.dist-info/WHEEL,,\\napi-2.dist-info/RECORD,,\\n')\n"
        "    return 'api-2-py3-none-any.whl'\n",
        encoding="utf-8",
    )
    artifact = made(run, locked, base)
    code = [one for one in artifact["image"]["layers"] if one["content"] == "code"]
    assert "var/task/app.py" in names(artifact["path"], code[0]["digest"])
    assert config_of(artifact)["config"]["Labels"][f"{ENTRY}version"] == "2"


@pytest.mark.parametrize("how", ["oci", "docker"])
def test_both_manifests_are_what_lambda_takes(run: Run, locked: Path, base: Path, how: str) -> None:
    artifact = made(run, locked, base, "--manifest", how)
    manifest = json.loads(blob(artifact["path"], artifact["image"]["digest"]))
    assert "manifests" not in manifest
    assert manifest["mediaType"] == artifact["image"]["media_type"]
    assert ("docker" in manifest["mediaType"]) is (how == "docker")
    ran = run("audit", artifact["path"], "-t", TARGET)
    assert "image-manifest" not in ran.stdout


def test_text_tells_layers_digest_base_and_what_it_runs(run: Run, locked: Path, base: Path) -> None:
    digest = made(run, locked, base)["image"]["digest"]
    ran = run("build", locked, "-t", TARGET, "--kind", "image", "--base", f"oci:{base}", "--handler", "app.handler")
    assert re.search(r"^base +1 layer +\d+ B\ndependencies +sha256:\w{12} .*\ncode +sha256:", ran.stdout, re.MULTILINE)
    assert f"{TARGET}: image oci:{locked}/dist/api-{TARGET}-image\n" in ran.stdout
    assert f"  digest  {digest}\n  base    oci:{base}\n" in ran.stdout
    assert ran.stdout.endswith("  runs    /lambda-entrypoint.sh app.handler\n")


def test_without_a_handler_it_has_none_and_one_warning(run: Run, locked: Path, base: Path) -> None:
    ran = run("build", locked, "-t", TARGET, "--kind", "image", "--base", f"oci:{base}", "--format", "json")
    assert ran.artifact["image"]["command"] == []
    assert "Cmd" not in config_of(ran.artifact)["config"]
    assert ran.stderr.count("warning") == 1
    assert "the image names no handler: give one by `--handler app.lambda_handler`" in ran.stderr


# The same bytes


def test_two_builds_in_other_places_have_one_digest(run: Run, locked: Path, base: Path, tmp_path: Path) -> None:
    (locked / "größe").mkdir()
    for name in ("größe/naïve_日本.py", "/".join(["d" * 90] * 4) + ".py", "n" * 200):
        (locked / name).parent.mkdir(parents=True, exist_ok=True)
        (locked / name).write_text("x = 1\n", encoding="utf-8")
    first = made(run, locked, base)
    other = tmp_path / "elsewhere" / "api"
    shutil.copytree(locked, other, ignore=shutil.ignore_patterns("dist"))
    code = (
        "import os, runpy, sys; os.umask(0o077); sys.argv[0] = 'manylambda'; "
        "runpy.run_module('manylambda', run_name='__main__')"
    )
    arguments = ["build", other, "-t", TARGET, "--kind", "image", "--base", f"oci:{base}", "--handler", "app.handler"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--format", "json"],
        check=True,
        capture_output=True,
        env={
            **os.environ,
            "TZ": "Asia/Tokyo",
            "LC_ALL": "C",
            "MANYLAMBDA_CACHE_DIR": str(tmp_path / "cache2"),
            "PYTHONHASHSEED": "7",
        },
    )
    (second,) = json.loads(done.stdout)["artifacts"]
    assert second["image"]["digest"] == first["image"]["digest"]
    for path in sorted(Path(first["path"]).rglob("*")):
        twin = Path(second["path"], path.relative_to(first["path"]))
        assert twin.stat().st_mode == path.stat().st_mode
        assert path.is_dir() or twin.read_bytes() == path.read_bytes()


def test_a_rebuild_writes_nothing(run: Run, locked: Path, base: Path) -> None:
    first = made(run, locked, base)
    before = {path: path.stat().st_ino for path in Path(first["path"]).rglob("*")}
    assert made(run, locked, base) == first
    assert {path: path.stat().st_ino for path in Path(first["path"]).rglob("*")} == before
    (Path(first["path"]) / "index.json").write_text("{}", encoding="utf-8")
    assert made(run, locked, base) == first
    assert json.loads((Path(first["path"]) / "index.json").read_bytes())["schemaVersion"] == 2


def test_a_rebuild_of_an_archive_writes_nothing(run: Run, locked: Path, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    first = made(run, locked, base, "--image-output", f"docker:{file}")
    before, content = file.stat().st_ino, file.read_bytes()
    assert made(run, locked, base, "--image-output", f"docker:{file}") == first
    assert file.stat().st_ino == before
    for changed in (content + b"\0", content[:-512], bytes(len(content))):
        file.write_bytes(changed)
        assert made(run, locked, base, "--image-output", f"docker:{file}") == first
        assert file.read_bytes() == content


def test_a_base_in_the_project_is_no_part_of_the_image(run: Run, locked: Path, base: Path) -> None:
    first = made(run, locked, base)
    inside = locked / "base"
    shutil.copytree(base, inside)
    assert made(run, locked, inside)["image"]["digest"] == first["image"]["digest"]


def test_an_image_is_no_part_of_the_next(run: Run, locked: Path, base: Path) -> None:
    for place in ("oci:built/{target}", "docker:image.tar"):
        first = made(run, locked, base, "--image-output", place, cwd=locked)
        assert (
            made(run, locked, base, "--image-output", place, cwd=locked)["image"]["digest"] == first["image"]["digest"]
        )


# Bases


def test_a_base_without_an_entry_point_gets_one(run: Run, locked: Path, tmp_path: Path) -> None:
    path = docker_save(tmp_path / "plain.tar", ("p:1", [PLAIN], {"architecture": "arm64", "os": "linux"}))
    arguments = ("build", locked, "-t", TARGET, "--kind", "image", "--base", f"docker:{path}", "--format", "json")
    ran = run(*arguments, "--handler", "app.handler")
    image = ran.artifact["image"]
    assert image["entry_point"] == ["/usr/bin/python3.13", "-m", "awslambdaric"]
    assert image["base"] == {"reference": f"docker:{path}", "digest": None}
    assert config_of(ran.artifact)["config"]["Env"] == ["LAMBDA_TASK_ROOT=/var/task"]
    assert f"{TARGET}: `plain.tar` starts no handlers: `/usr/bin/python3.13 -m awslambdaric` does" in ran.stderr
    assert ran.artifact["image"]["layers"][0]["diff_id"] == sha256(PLAIN)


def test_a_base_that_starts_nothing_gets_the_runtime_client(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    shared, _ = [index.wheel("shared", version) for version in ("1.0", "2.0")]
    demo = index.wheel("demo", requires=["shared<2"])
    index.wheel("awslambdaric", "4.0.1", {"awslambdaric/__main__.py": ""}, requires=["shared"])
    plain = layout(PLAIN, architecture="arm64").folder(tmp_path / "plain")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    arguments = (
        "build",
        project,
        "-t",
        TARGET,
        "--kind",
        "image",
        "--base",
        f"oci:{plain}",
        "--handler",
        "app.handler",
    )
    ran = run(*arguments, "--format", "json")
    versions = {one["name"]: one["version"] for one in ran.artifact["distributions"]}
    assert versions == {"awslambdaric": "4.0.1", "demo": "1.0", "shared": "1.0"}, "what the project has stays"
    assert ran.artifact["image"]["entry_point"] == ["/usr/bin/python3.13", "-m", "awslambdaric"]
    assert "var/task/awslambdaric/__main__.py" in names(
        ran.artifact["path"], ran.artifact["image"]["layers"][1]["digest"]
    )
    assert f"\n{TARGET}: `plain` starts no handlers: `awslambdaric` 4.0.1 is added\n" in ran.stderr
    (project / "pylock.toml").write_text(index.pylock(demo, shared), encoding="utf-8")
    ran = run(*arguments, "-q")
    assert ran.stderr == (
        f"warning: {TARGET}: `plain` starts no handlers: `awslambdaric` 4.0.1 is added, which "
        "`pylock.toml` does not hold to a version: lock `awslambdaric`, too\n"
    )


def test_without_a_runtime_client_to_be_had_nothing_is_written(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo")), encoding="utf-8")
    plain = layout(PLAIN, architecture="arm64").folder(tmp_path / "plain")
    ran = made(run, project, plain, status=3)
    assert ran.stderr.startswith("error: ")
    assert "awslambdaric" in ran.stderr.partition("\n\nhint: ")[0]
    assert ran.stderr.endswith(
        "\n\nhint: add `awslambdaric` to the project's dependencies, in a version that goes with them, or start from "
        "`public.ecr.aws/lambda/python:3.13`\n"
    )
    assert not (project / "dist").exists()


def test_the_base_of_provided_is_none_of_python(run: Run, locked: Path, tmp_path: Path) -> None:
    """Its entry point is called as that of the runtimes, but there is nothing that it could start."""
    plain = layout(PLAIN, config=LAMBDA, architecture="arm64").folder(tmp_path / "provided")
    assert made(run, locked, plain)["image"]["entry_point"] == ["/usr/bin/python3.13", "-m", "awslambdaric"]


def test_a_base_without_the_targets_python_is_refused(run: Run, locked: Path, tmp_path: Path) -> None:
    other = layout(layer({"usr/bin/python3.12": b""}, mode=0o755), architecture="arm64").folder(tmp_path / "other")
    ran = made(run, locked, other, status=2)
    assert ran.stderr.startswith("error: `other` has no `python3.13` where base images have it: `/var/lang/bin`, ")


def test_what_was_seen_in_a_base_is_not_believed_of_one_that_says_to_be_the_same(
    run: Run, locked: Path, tmp_path: Path
) -> None:
    other = Layout()
    other.top.append(
        other.image(
            [PLAIN], packed=[gzip.compress(layer({"usr/local/bin/python3.13": b""}, mode=0o755))], architecture="arm64"
        )
    )
    lying = made(run, locked, other.folder(tmp_path / "lying"))["image"]
    assert lying["entry_point"][0] == "/usr/local/bin/python3.13"
    plain = made(run, locked, layout(PLAIN, architecture="arm64").folder(tmp_path / "plain"))["image"]
    assert [one["layers"][0]["diff_id"] for one in (lying, plain)] == [sha256(PLAIN)] * 2
    assert plain["entry_point"][0] == "/usr/bin/python3.13"


def test_files_that_a_base_has_in_the_functions_place_are_told(run: Run, locked: Path, tmp_path: Path) -> None:
    older = layer({"var/task/old.py": b"", "var/task/pkg/": FOLDER, "var/task/pkg/one.py": b""})
    other = layout(RUNTIME, older, config=LAMBDA, architecture="arm64").folder(tmp_path / "used")
    arguments = ("build", locked, "-t", TARGET, "--kind", "image", "--base", f"oci:{other}", "--handler", "app.handler")
    assert run(*arguments, "-q").stderr == (
        f"warning: {TARGET}: `used` has 2 files in `/var/task`, part of the function and not audited by the build: "
        "`manylambda audit` the image\n"
    )


def test_an_entry_point_that_is_not_known_is_kept_and_told(run: Run, locked: Path, tmp_path: Path) -> None:
    config = {"Entrypoint": ["/entry.sh", "x"]}
    path = layout(PLAIN, config=config, architecture="arm64").folder(tmp_path / "own")
    ran = run(
        "build", locked, "-t", TARGET, "--kind", "image", "--base", f"oci:{path}", "--handler", "a.b", "--no-audit",
        "--format", "json",
    )  # fmt: skip
    assert ran.artifact["image"]["entry_point"] == ["/entry.sh", "x"]
    assert "warning: the entry point of `own` is kept, and not known to start handlers: `/entry.sh x`" in ran.stderr


def test_a_base_of_another_machine_is_refused(run: Run, locked: Path, tmp_path: Path) -> None:
    other = layout(RUNTIME, config=LAMBDA, architecture="amd64").folder(tmp_path / "other")
    ran = made(run, locked, other, status=2)
    assert ran.stderr.startswith("error: `other` is for `linux/amd64`, not for `linux/arm64`\n")
    none = layout(RUNTIME, config=LAMBDA, architecture="").folder(tmp_path / "none")
    ran = made(run, locked, none, status=2)
    assert ran.stderr == "error: `none` is no image: its configuration names no architecture\n"


def test_lambdas_own_base_is_asked_for_by_its_name(run: Run, locked: Path) -> None:
    run("build", locked, "-t", TARGET)
    ran = run("build", locked, "-t", TARGET, "--kind", "image", "--offline", status=4)
    assert "`public.ecr.aws/lambda/python:3.13-arm64` is not in the cache" in ran.stderr


def test_what_the_runtime_has_is_not_in_another_base(run: Run, locked: Path, tmp_path: Path) -> None:
    plain = layout(PLAIN, architecture="arm64").folder(tmp_path / "plain")
    ran = made(run, locked, plain, "--exclude-provided", status=2)
    assert ran.stderr.endswith(
        "error: `plain` has nothing that starts handlers, and `awslambdaric` is left out\n\n"
        "hint: do without `--exclude-provided`: only Lambda's own images have what the runtime has, or start from "
        "`public.ecr.aws/lambda/python:3.13`\n"
    )


# What is refused


def test_a_function_that_is_an_image_takes_no_layers(run: Run, locked: Path, base: Path) -> None:
    ran = made(run, locked, base, "--layer", "common.zip", status=2)
    assert ran.stderr == (
        "error: a function that is an image takes no layers: `common.zip`\n\n"
        "hint: add what they hold to the dependencies, or build a zip\n"
    )


def test_what_would_not_load_is_not_written(run: Run, index: Index, project: Path, base: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("top", requires=["gone"])), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--kind", "image", "--base", f"oci:{base}", "--format", "json", status=1)
    schemas.check("build", ran.json)
    assert ran.artifact["image"] is None
    assert ran.artifact["path"] is None
    assert [one["rule"] for one in ran.artifact["findings"]] == ["distribution-missing"]
    assert not (project / "dist").exists()


# The libraries of the base judge.

X86: Final = "python3.13-x86_64"
NATIVE: Final = "native.cpython-313-x86_64-linux-gnu.so"


def with_native(index: Index, project: Path, file: str) -> Path:
    wheel = index.wheel("native", files={NATIVE: elf(file)}, tags=["cp313-cp313-manylinux_2_34_x86_64"])
    client = index.wheel("awslambdaric", "4.0.1", {"awslambdaric/__main__.py": ""})
    (project / "pylock.toml").write_text(index.pylock(wheel, client), encoding="utf-8")
    return project


def on(run: Run, project: Path, base: str | Path, *more: str, **options: Any) -> Any:
    arguments = (
        "-t",
        X86,
        "--kind",
        "image",
        "--base",
        str(base),
        "--format",
        "json",
        "-q",
        "--handler",
        "app.handler",
    )
    return run("build", project, *arguments, *more, **options)


def test_what_the_base_lacks_and_the_runtime_has_keeps_it_from_being_written(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    with_native(index, project, "glibc_2_34.so")
    old = layout(PLAIN, system("2.31", libc="libversioned_1.so.1"), architecture="amd64").folder(tmp_path / "old")
    ran = on(run, project, f"oci:{old}", status=1)
    (found,) = ran.artifact["findings"]
    assert found["rule"] == "glibc-too-new"
    assert found["message"].endswith("the image has glibc 2.31")
    assert not (project / "dist").exists()
    assert on(run, project, f"oci:{old}", status=1).json == ran.json  # from what was kept


def test_what_the_base_has_and_the_runtime_lacks_is_no_obstacle(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    with_native(index, project, "needs_used.so")
    bare = layout(PLAIN, system(), architecture="amd64").folder(tmp_path / "bare")
    (found,) = on(run, project, f"oci:{bare}", status=1).artifact["findings"]
    assert found["rule"] == "library-missing"
    whole = layout(PLAIN, system(libused__so__1="libused.so.1"), architecture="amd64").folder(tmp_path / "whole")
    ran = on(run, project, f"oci:{whole}")
    assert ran.artifact["findings"] == []
    # Where its loader looks is said by a variable, too.
    aside = layout(PLAIN, system(), layer({"own/libused.so.1": elf("libused.so.1")}), architecture="amd64")
    aside.folder(tmp_path / "aside")
    on(run, project, f"oci:{tmp_path / 'aside'}", status=1)
    on(run, project, f"oci:{tmp_path / 'aside'}", "--env", "LD_LIBRARY_PATH=/own")


def test_a_base_without_glibc_is_none_for_what_is_compiled(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    alpine = layout(PLAIN, layer({"lib/ld-musl-x86_64.so.1": b""}), architecture="amd64").folder(tmp_path / "alpine")
    ran = on(run, with_native(index, project, "plain.so"), f"oci:{alpine}", status=2)
    assert ran.stderr == (
        "error: `alpine` has no glibc for x86_64: nothing compiled for python3.13-x86_64 loads there\n\n"
        "hint: start from `public.ecr.aws/lambda/python:3.13`, or from an image with glibc (Alpine's has musl)\n"
    )
    on(run, project, f"oci:{alpine}", "--exclude", "native")


def test_lambdas_own_base_is_looked_into_where_the_table_finds_something(
    index: Index, project: Path, tmp_path: Path, registry_: RealRegistry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manylambda import build, load_settings
    from manylambda.pipeline import image_base

    needs("skopeo")
    name = f"{registry_.host}/ours/python:3.13-x86_64"
    monkeypatch.setattr(image_base, "default_reference", lambda _target: name)
    ours = layout(RUNTIME, system(libused__so__1="libused.so.1"), config=LAMBDA, architecture="amd64")
    ours.folder(tmp_path / "ours")
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{tmp_path / 'ours'}", f"docker://{name}"], check=True
    )
    blobs = cache / "v1" / "blobs" / "sha256"

    def is_here() -> bool:
        return any((blobs / digest[:2] / digest).exists() for digest in layers)

    def built(base: str | None = None, handler: str = "app.handler") -> Artifact:
        to = f"registry:{registry_.host}/on-ours:1"
        more = {"image_base": base} if base else {}
        settings = load_settings(project, targets=[X86], kind="image", handler=handler, image_output=to, **more)
        (artifact,) = build(settings).artifacts
        return artifact

    layers = {
        one["digest"].removeprefix("sha256:")
        for one in json.loads(blob(tmp_path / "ours", ours.top[0]["digest"]))["layers"]
    }
    with_native(index, project, "plain.so")
    assert built().written is not None
    assert not is_here()
    refused = built(handler="app.gone")
    assert [one.rule for one in refused.report.findings] == ["handler-missing"]
    assert not is_here()  # no library decides that
    assert built(f"{name}@{ours.top[0]['digest']}").written is not None
    assert is_here()  # a digest beside the tag may be that of any image
    for digest in layers:
        (blobs / digest[:2] / digest).unlink()
    with_native(index, project, "needs_used.so")
    assert built().written is not None
    assert is_here()


def test_a_handler_that_is_not_there_is_found(run: Run, locked: Path, base: Path) -> None:
    ran = made(run, locked, base, "--handler", "app.none", status=1)
    assert [one["rule"] for one in ran.artifact["findings"]] == ["handler-missing"]


def test_one_place_is_not_for_two_targets(run: Run, locked: Path, base: Path) -> None:
    ran = made(run, locked, base, "-t", "python3.13-x86_64", "--image-output", "oci:one", status=2)
    assert "is a place for one image, and there are 2 targets" in ran.stderr
    assert "hint: put `{target}` where they differ, or build each on its own" in ran.stderr


def test_two_targets_make_two_images_and_no_index(run: Run, locked: Path, tmp_path: Path) -> None:
    both = Layout()
    images = [both.image([RUNTIME], config=LAMBDA, architecture=one) for one in ("amd64", "arm64")]
    both.top = [both.index(*images)]
    base = both.folder(tmp_path / "both")
    ran = run(
        "build", locked, "-t", TARGET, "-t", "python3.13-x86_64", "--kind", "image", "--base", f"oci:{base}",
        "--handler", "app.handler", "--image-output", "docker:out/{target}.tar", "--format", "json",
    )  # fmt: skip
    first, second = ran.json["artifacts"]
    assert [Path(one["path"]).name for one in (first, second)] == [f"{TARGET}.tar", "python3.13-x86_64.tar"]
    assert first["image"]["layers"][1:] == second["image"]["layers"][1:]
    for one in (first, second):
        with tarfile.open(one["path"]) as archive:
            index = json.load(archive.extractfile("index.json") or io.BytesIO())
        assert [each["mediaType"] for each in index["manifests"]] == [one["image"]["media_type"]]


def test_a_folder_with_something_else_is_left_alone(run: Run, locked: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    ran = made(run, locked, base, "--image-output", "oci:mine", status=2)
    assert ran.stderr.startswith(f"error: `{tmp_path / 'mine'}` is a folder with something else in it\n")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--image-output", "dist/image", "`--image-output` is no place for an image: `dist/image`"),
        (
            "--image-output",
            "registry:orders:1",
            "`--image-output`: `orders:1` names no registry\n\nhint: write it in full: `registry:ACCOUNT.dkr.ecr.",
        ),
        ("--image-output", "registry:x/UPPER", "`--image-output`: `x/UPPER` is no image reference"),
        ("--base", "http://x/y", "`--base`: `http://x/y` is no image reference: it has a scheme"),
        ("--env", "NOVALUE", "`--env` must be a table of text, not text: `NOVALUE`"),
        ("--label", "=x", "`--label` must be a table of text, not text: `=x`"),
    ],
)
def test_what_cannot_be_understood_is_told(run: Run, locked: Path, flag: str, value: str, message: str) -> None:
    ran = run("build", locked, "-t", TARGET, "--kind", "image", flag, value, status=2)
    assert ran.stderr.startswith(f"error: {message}")


# Registries


@pytest.fixture(scope="module")
def registry_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder, folder / "data") as running:
        yield running


@pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")
def test_a_registry_has_the_layers_of_the_base_mounted_and_a_change_sends_kilobytes(
    run: Run, locked: Path, base: Path, registry_: RealRegistry, cache: Path
) -> None:
    needs("skopeo")
    name = f"{registry_.host}/lambda/python:3.13-arm64"
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{base}", f"docker://{name}"], check=True)
    registry_.requests()
    arguments: list[str | Path] = ["build", locked, "-t", TARGET, "--kind", "image", "--format", "json"]
    arguments += ["--handler", "app.handler", "--base", name, "--image-output"]
    ran = run(*arguments, f"registry:{registry_.host}/api:1")
    schemas.check("build", ran.json)
    image = ran.artifact["image"]
    assert ran.artifact["path"] is None
    assert image["place"] == f"registry:{registry_.host}/api:1@{image['digest']}"
    assert image["base"] == {"reference": f"{name}@{image['base']['digest']}", "digest": image["base"]["digest"]}
    of_base = image["layers"][0]["digest"]
    asked = registry_.requests()
    assert any(f"mount={of_base}".replace(":", "%3A") in line and line.endswith(" 201") for line in asked)
    # It came here to be looked into, once.
    kept = cache / "v1" / "blobs" / "sha256" / of_base[7:9] / of_base[7:]
    kept.unlink()
    (locked / "app.py").write_text("def handler(event, context):\n    return 3\n", encoding="utf-8")
    again = run(*arguments, f"registry:{registry_.host}/api:2").artifact["image"]
    assert 0 < again["uploaded"] < 5000
    assert not kept.exists()
    inspected = json.loads(
        subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry_.host}/api:2"],
            check=True,
            capture_output=True,
        ).stdout
    )
    assert inspected["Digest"] == again["digest"]
    labels = inspected["Labels"]
    assert (labels[f"{ENTRY}base.name"], labels[f"{ENTRY}base.digest"]) == (name, image["base"]["digest"])


def test_a_registry_without_tls_elsewhere_is_used_where_that_is_said(
    run: Run, locked: Path, registry_: RealRegistry, base: Path
) -> None:
    needs("skopeo")
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{base}", f"docker://{registry_.host}/plain/base:1"],
        check=True,
    )
    # Any name is asked for by way of a proxy, and what answers is our registry.
    elsewhere = dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://{registry_.host}")
    elsewhere |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "MANYLAMBDA_HTTP_RETRIES": "0"}
    name = "registry.invalid:5000/plain"
    arguments = ["build", str(locked), "-t", TARGET, "--kind", "image", "--handler", "app.handler", "-q"]
    to_it = [*arguments, "--base", f"oci:{base}", "--image-output", f"registry:{name}/api:1"]
    from_it = [*arguments, "--base", f"{name}/base:1"]
    for words in (to_it, from_it):
        ran = run(*words, env=elsewhere, status=4)
        assert "`https://registry.invalid:5000/v2/plain/" in ran.stderr
    for words in (to_it, from_it, [*to_it, "--base", f"{name}/base:1"]):
        run(*words, "--plain-http", env=elsewhere)
    # It says nothing of other registries: Lambda's own base is asked for with TLS.
    for words in (arguments, [*from_it, "--image-output", "registry:other.invalid/api:1"]):
        ran = run(*words, "--plain-http", env=elsewhere, status=4)
        assert " from `https://" in ran.stderr


# Containers


# One podman has one store: an image that is forced out takes with it the containers that another test has of it.
one_store = pytest.mark.xdist_group("podman")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a Debian with CPython 3.13 as podman saves images."""
    if sys.platform != "linux" or hosts.NATIVE != "amd64":
        pytest.skip("runs x86-64 natively")
    path = tmp_path_factory.mktemp("debian") / "base.tar"
    containers.podman("save", "--quiet", "--format", "oci-archive", "-o", str(path), containers.image("amd64"))
    return path


@one_store
@pytest.mark.network
@pytest.mark.parametrize(("form", "manifest"), [("oci", "oci"), ("docker", "oci"), ("docker", "docker")])
def test_podman_runs_the_image_and_amazons_emulator_invokes_its_handler(
    run: Run,
    tmp_path: Path,
    debian: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    manifest: str,
) -> None:
    project = tmp_path / f"run-{form}-{manifest}"
    project.mkdir()
    (project / "requirements.txt").write_text("awslambdaric==4.0.1\nsimplejson==3.20.2\n", encoding="utf-8")
    (project / "app.py").write_text(
        "import os, simplejson\n"
        "def lambda_handler(event, context):\n"
        "    return {'got': event, 'root': os.environ['LAMBDA_TASK_ROOT'], 'in': os.getcwd(),\n"
        "            'json': simplejson.dumps([1])}\n",
        encoding="utf-8",
    )
    place = f"{form}:{tmp_path / 'image'}" + (".tar" if form == "docker" else "")
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache / "image-build"))
    ran = run(
        "build", project, "-t", "python3.13-x86_64", "--kind", "image", "--base", f"docker:{debian}", "--format",
        "json", "--handler", "app.lambda_handler", "--image-output", place, "--manifest", manifest,
    )  # fmt: skip
    loaded = containers.podman("load", "--quiet", "-i", ran.artifact["path"]) if form == "docker" else ""
    name = re.sub(r"^Loaded image\S*: ?", "", loaded)
    if form == "oci":
        name = containers.podman("pull", "--quiet", place)
    else:
        assert name.endswith(f"/run-docker-{manifest}:python3.13-x86_64")
    try:
        config = json.loads(containers.podman("image", "inspect", name))[0]["Config"]
        program = [*config["Entrypoint"], *config["Cmd"]]
        assert program == ["/usr/bin/python3.13", "-m", "awslambdaric", "app.lambda_handler"]
        assert answer(name, program, runtime.emulator(shared_cache)) == {
            "got": {"a": 1},
            "root": "/var/task",
            "in": "/var/task",
            "json": "[1]",
        }
    finally:
        containers.podman("rmi", "--force", name)


RUNS: Final = (
    "import os, platform, app, awslambdaric, simplejson._speedups as native; "
    "print(platform.machine(), app.lambda_handler({}, None), os.getuid(), native.__name__)"
)
"""What a container prints where the function and a compiled distribution of it load."""


def simple(folder: Path) -> Path:
    """Write a project with a compiled distribution."""
    folder.mkdir()
    (folder / "requirements.txt").write_text("awslambdaric==4.0.1\nsimplejson==3.20.2\n", encoding="utf-8")
    (folder / "app.py").write_text("def lambda_handler(event, context):\n    return 42\n", encoding="utf-8")
    return folder


@one_store
@pytest.mark.network
@pytest.mark.parametrize("machine", ["amd64", "arm64"])
def test_podman_pulls_what_was_built_into_a_registry_and_runs_it(
    run: Run,
    registry_: RealRegistry,
    tmp_path: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
) -> None:
    if sys.platform != "linux" or hosts.NATIVE != "amd64":
        pytest.skip("runs x86-64 natively")
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache / "image-build"))
    base = tmp_path / "base.tar"
    containers.podman("save", "--quiet", "--format", "oci-archive", "-o", str(base), containers.image(machine))
    target = hosts.TARGETS[machine]
    ran = run(
        "build", simple(tmp_path / "pulled"), "-t", target, "--kind", "image", "--base", f"oci:{base}",
        "--handler", "app.lambda_handler", "--image-output", f"registry:{registry_.host}/pulled:{machine}",
        "--format", "json",
    )  # fmt: skip
    name = f"{registry_.host}/pulled@{ran.artifact['image']['digest']}"
    # podman takes an image of another machine only where it is told that it is one.
    containers.podman("pull", "--quiet", "--tls-verify=false", f"--arch={machine}", name)
    program = ["/usr/bin/python3.13", "-c", RUNS]
    emulated: list[str] = []
    if machine != hosts.NATIVE:  # not by the kernel, which would run it for every other test as well
        needs("qemu-aarch64-static")
        emulated = [f"--volume={shutil.which('qemu-aarch64-static')}:/qemu:ro"]
        program = ["/qemu", "-cpu", "neoverse-n1", *program]
    try:
        printed = containers.podman(
            "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--user=993:990", *emulated,
            f"--entrypoint={program[0]}", name, *program[1:],
        )  # fmt: skip
        assert printed == f"{Target.parse(target).machine} 42 993 simplejson._speedups"
    finally:
        containers.podman("rmi", "--force", name)


@one_store
@pytest.mark.network
@pytest.mark.parametrize("manifest", ["oci", "docker"])
def test_docker_loads_an_archive_and_runs_it(
    run: Run,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    debian: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    manifest: str,
) -> None:
    """Docker's own client; what serves it is podman."""
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache / "image-build"))
    ran = run(
        "build", simple(tmp_path / f"loaded-{manifest}"), "-t", "python3.13-x86_64", "--kind", "image",
        "--base", f"docker:{debian}", "--handler", "app.lambda_handler", "--manifest", manifest,
        "--image-output", "docker:image.tar", "--format", "json", cwd=tmp_path,
    )  # fmt: skip
    with containers.docker_service(tmp_path_factory.mktemp("docker")) as variables:

        def docker(*words: str) -> str:
            environment = {**os.environ, **variables}
            done = subprocess.run(
                ["docker", *words], check=True, capture_output=True, text=True, timeout=600, env=environment
            )
            return done.stdout.strip()

        name = docker("load", "-i", ran.artifact["path"]).rpartition(": ")[2]
        assert name.endswith(f"/loaded-{manifest}:python3.13-x86_64")
        try:
            config = json.loads(docker("image", "inspect", name))[0]
            assert config["Id"].removeprefix("sha256:") == json.loads(
                tarred(Path(ran.artifact["path"]), f"blobs/{ran.artifact['image']['digest'].replace(':', '/')}")
            )["config"]["digest"].removeprefix("sha256:")
            assert config["Config"]["Cmd"] == ["app.lambda_handler"]
            options = ("--network=none", "--read-only", "--user=993:990", "--entrypoint=/usr/bin/python3.13")
            # With `--rm` podman may lose how it ended; what is forced out takes the container with it.
            assert docker("run", *options, name, "-c", RUNS) == "x86_64 42 993 simplejson._speedups"
        finally:
            docker("rmi", "--force", name)


def tarred(file: Path, name: str) -> bytes:
    """Give a member of a tar."""
    with tarfile.open(file) as archive:
        member = archive.extractfile(name)
        assert member is not None
        return member.read()


def answer(name: str, program: list[str], emulator: Path) -> Any:
    """Invoke the handler of an image through Amazon's emulator, as a user of no rights on a read-only root."""
    box = containers.podman(
        "run", "--detach", "--network=none", "--read-only", "--tmpfs=/tmp", "--user=993:990",
        f"--volume={emulator}:/rie:ro", "--entrypoint=/rie", name, *program,
    )  # fmt: skip
    ask = (
        "import urllib.request as u; print(u.urlopen("
        "'http://127.0.0.1:8080/2015-03-31/functions/function/invocations', b'{\"a\": 1}', 30).read().decode())"
    )
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                return json.loads(containers.podman("exec", box, "/usr/bin/python3.13", "-c", ask))
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    finally:
        containers.podman("rm", "--force", "--time=0", box)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Debian's tools")
def test_skopeo_reads_every_blob(run: Run, locked: Path, base: Path, tmp_path: Path) -> None:
    needs("skopeo")
    artifact = made(run, locked, base)
    subprocess.run(["skopeo", "copy", "-q", f"oci:{artifact['path']}", f"dir:{tmp_path / 'copy'}"], check=True)
    manifest = (tmp_path / "copy" / "manifest.json").read_bytes()
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == artifact["image"]["digest"]
