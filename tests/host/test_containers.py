"""Container programs: one that works is found, and what it says of an image is understood."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from manylambda.host import containers
from manylambda.host.containers import NotPulled, PresentImage, Program
from manylambda.host.model import Unusable

if TYPE_CHECKING:
    from pathlib import Path

needs_posix = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")


def program(folder: Path, script: str) -> Program:
    """Give a container program that does what a shell script says."""
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return Program("docker", str(path), "28.1.0", "amd64")


@needs_posix
def test_a_client_without_its_engine_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "echo 28.1.0\necho 'Cannot connect to the Docker daemon.' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = containers.find_program()
    assert isinstance(found, Unusable)
    assert found.reason == "`docker` is there, but not its engine: Cannot connect to the Docker daemon"
    assert found.hint is not None
    assert found.hint.startswith("start it, or install podman")


def test_without_a_program_there_is_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = containers.find_program()
    assert isinstance(found, Unusable)
    assert found.reason == "no podman, docker, finch or nerdctl on the path"


@needs_posix
@pytest.mark.parametrize(
    ("reference", "digests", "digest"),
    [
        ("r.example/python:3.13", ["r.example/python@sha256:a"], "sha256:a"),
        ("r.example/python@sha256:b", ["r.example/python@sha256:a"], "sha256:b"),
        ("r.example/python:3.13", ["r.example/other@sha256:a"], None),
        ("localhost/python:3.13", ["localhost/python@sha256:a"], None),
        ("r.example/python:3.13", None, None),
    ],
)
def test_an_image_that_is_present_is_told(
    tmp_path: Path, reference: str, digests: list[str] | None, digest: str | None
) -> None:
    said = [{"Id": "sha256:1", "Os": "linux", "Architecture": "arm64", "RepoDigests": digests}]
    found = containers.inspect_image(program(tmp_path, f"echo '{json.dumps(said)}'\n"), reference)
    assert found == PresentImage("sha256:1", "linux/arm64", digest)


@needs_posix
def test_an_image_that_is_not_present_is_none(tmp_path: Path) -> None:
    docker = program(tmp_path, "echo '[]'\necho 'Error: No such image: none:1' >&2\nexit 1\n")
    assert containers.inspect_image(docker, "none:1") is None


@needs_posix
def test_an_image_is_pulled_for_its_machine_or_the_reason_told(tmp_path: Path) -> None:
    docker = program(
        tmp_path,
        """[ "$*" = "pull --platform linux/arm64 --quiet one:1" ] && exit 0
echo "Error: dial tcp: lookup r.example: no such host." >&2
exit 1
""",
    )
    assert containers.pull_image(docker, "one:1", "arm64") is None
    assert containers.pull_image(docker, "other:1", "arm64") == NotPulled(
        "`docker` cannot pull `other:1`: lookup r.example: no such host", is_late=False
    )


@needs_posix
def test_a_pull_that_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_PULL_SECONDS", 0.1)
    assert containers.pull_image(program(tmp_path, "exec sleep 600\n"), "one:1", "arm64") == NotPulled(
        "pulling `one:1` took more than 0 minutes", is_late=True
    )


@needs_posix
def test_a_container_is_run_once_more_when_podman_lost_how_it_ended(tmp_path: Path) -> None:
    lost = (
        'time="2026-11-28T13:54:30Z" level=error msg="Waiting for container 35ab: container has already been removed"'
    )
    docker = program(
        tmp_path,
        f"[ -e '{tmp_path}/once' ] && echo done && exit 3\ntouch '{tmp_path}/once'\necho '{lost}' >&2\nexit 127\n",
    )
    answer = containers.run([docker.path, "run"], seconds=60)
    assert (answer.returncode, answer.stdout) == (3, "done\n")
    assert containers.without_lost(f"one\n{lost}\ntwo") == "one\ntwo"
    assert not containers.is_lost("container has already been removed")
