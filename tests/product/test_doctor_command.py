"""`manylambda doctor`: what this machine has is probed, and what is broken is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from manylambda.host import containers
from manylambda.pipeline.doctor import State, doctor
from product.schemas import check

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from product.conftest import Run

needs_posix = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the only folder of the path, and an empty home."""
    folder = tmp_path / "bin"
    folder.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("HOME", "USERPROFILE", "CARGO_HOME"):
        monkeypatch.setenv(name, str(home))
    for name in ("PYENV_ROOT", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def one(document: Mapping[str, Any], name: str) -> Any:
    (found,) = [check for check in document["checks"] if check["name"] == name]
    return found


def test_the_document_is_as_its_schema_says_and_the_versions_are_those_of_the_programs(run: Run, project: Path) -> None:
    document = run("doctor", project, "--format", "json").json
    check("doctor", document)
    uv = one(document, "uv")
    assert uv["state"] == "works"
    said = subprocess.run([find_uv_bin(), "--version"], capture_output=True, text=True, check=True).stdout
    assert uv["version"] == said.split()[1]
    mine = one(document, "{}.{}".format(*sys.version_info[:2]))
    assert (mine["state"], mine["version"]) == ("works", ".".join(map(str, sys.version_info[:3])))
    assert one(document, "zig")["version"] == "0.17.1"  # installed with the tests


def test_people_get_a_screen(run: Run, project: Path, bare: Path) -> None:
    lines = run("doctor", project).stdout.splitlines()
    assert lines[0].startswith("manylambda ")
    assert len(lines) <= 40
    assert {"programs", "Pythons of this host", "network", "cache", "project"} <= set(lines)


def test_what_is_not_here_is_absent_and_nothing_is_made(run: Run, project: Path, bare: Path, cache: Path) -> None:
    document = run("doctor", project, "--format", "json").json
    for name in containers.PROGRAMS:
        assert one(document, name)["state"] == "absent"
    assert one(document, "rust")["state"] == "absent"
    assert one(document, "folder")["state"] == "absent"
    engines = {row["target"]: row["engine"] for row in document["trials"]}
    minor = "{}.{}".format(*sys.version_info[:2])
    assert engines[f"python{minor}-x86_64"] == "interpreter"
    assert not cache.exists()


@needs_posix
def test_a_program_without_its_engine_is_broken(run: Run, project: Path, bare: Path) -> None:
    program(bare, "docker", "echo 28.1.0; echo 'Cannot connect to the Docker daemon.' >&2; exit 1")
    program(bare, "rustc", "echo 'rustc 1.95.0 (59807616e 2026-04-14)'")
    document = run("doctor", project, "--format", "json").json
    docker = one(document, "docker")
    assert docker["state"] == "broken"
    assert docker["detail"] == "`docker` is there, but not its engine: Cannot connect to the Docker daemon"
    assert one(document, "rust")["version"] == "1.95.0"
    assert "  broken  docker: `docker` is there, but not its engine" in run("doctor", project).stdout


@needs_posix
def test_what_pulls_first_is_told_and_what_is_taken_where_it_cannot(run: Run, project: Path, bare: Path) -> None:
    script = 'case "$1" in version) echo "28.1.0 amd64";; *) echo "[]"; exit 1;; esac'
    program(bare, "docker", script)
    document = run("doctor", project, "--format", "json").json
    minor = "{}.{}".format(*sys.version_info[:2])
    (row,) = [row for row in document["trials"] if row["target"] == f"python{minor}-x86_64"]
    assert row["engine"] == "container"
    states = {engine["engine"]: engine["state"] for engine in row["engines"]}
    assert states == {"container": "pulls", "rootfs": "unusable", "interpreter": "ready"}
    assert row["engines"][0]["detail"] == f"public.ecr.aws/lambda/python:{minor}-x86_64"
    assert "container, which pulls its image first; where it cannot, interpreter" in run("doctor", project).stdout


@needs_posix
def test_a_program_that_hangs_is_given_up(project: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_ASK_SECONDS", 0.3)
    sleep = shutil.which("sleep", path="/usr/bin:/bin")
    program(bare, "podman", f"exec {sleep} 600")
    start = time.monotonic()
    found = {check.name: check for check in doctor(project).checks}
    assert time.monotonic() - start < 300
    assert found["podman"].state is State.BROKEN
    assert found["podman"].detail == "`podman` is there, and its engine does not answer in 0 s"


def test_logins_are_named_and_never_shown(run: Run, project: Path, bare: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".netrc").write_text("machine index.example login me password hunter2hunter2\n", encoding="utf-8")
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(
        '{"auths": {"r.example": {"auth": "bWU6aHVudGVyMmh1bnRlcjI="}}, "credHelpers": {"ecr.example": "ecr-login"}}',
        encoding="utf-8",
    )
    env = {
        "NETRC": str(home / ".netrc"),
        "UV_NO_CONFIG": "",
        "UV_DEFAULT_INDEX": "https://me:hunter2hunter2@index.example/simple",
        "HTTPS_PROXY": "http://me:hunter2hunter2@proxy.example:3128",
    }
    document = run("doctor", project, "--format", "json", env=env)
    shown = run("doctor", project, env=env)
    for ran in (document, shown):
        assert not any(word in ran.stdout + ran.stderr for word in ("hunter2", "bWU6", "me:"))
    indexes = one(document.json, "logins of indexes")
    assert (indexes["state"], indexes["detail"]) == ("works", "the address, netrc; 1 index (set up for uv)")
    registries = one(document.json, "logins of registries")
    assert registries["detail"] == f"`{home / '.docker' / 'config.json'}`, `docker-credential-ecr-login`"
    assert "`HTTPS_PROXY`" in one(document.json, "proxies and certificates")["detail"]


def test_the_configuration_is_checked(run: Run, project: Path, bare: Path) -> None:
    def state() -> tuple[str, str]:
        found = one(run("doctor", project, "--format", "json").json, str(project))
        return found["state"], found["detail"]

    assert state() == ("absent", "no configuration of manylambda, no dependencies are written down")
    configuration = project / "pyproject.toml"
    configuration.write_text('[tool.manylambda]\ntargets = ["python3.13-arm64"]\nkind = "layer"\n', encoding="utf-8")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    assert state() == ("works", "layer for python3.13-arm64, dependencies from requirements.txt")
    configuration.write_text('[tool.manylambda]\ntargets = ["python3.13-arm"]\nknd = "layer"\n', encoding="utf-8")
    wrong, detail = state()
    assert wrong == "broken"
    assert detail.startswith("2 settings are wrong: ")
    configuration.write_text("[tool\n", encoding="utf-8")
    assert state()[0] == "broken"


def test_a_cache_that_cannot_be_written_is_broken(run: Run, project: Path, bare: Path, cache: Path) -> None:
    (cache / "v1").mkdir(parents=True)
    (cache / "v1" / "incoming").write_text("in the way", encoding="utf-8")
    found = one(run("doctor", project, "--format", "json").json, "folder")
    assert found["state"] == "broken"
    assert found["detail"].startswith("`a probe` cannot be written to the cache")


def test_a_folder_that_is_not_there_is_asked_wrongly(run: Run, tmp_path: Path) -> None:
    ran = run("doctor", tmp_path / "no", status=2)
    assert ran.stderr == (
        f"error: the project is not a folder: `{tmp_path / 'no'}`\n\nhint: name the folder of the function's code\n"
    )
