"""The tool itself under every other Python there is, and on Windows: its version, a build from a lock, an audit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import __version__
from same_bytes.hosts import Build, Host, Windows, all_hosts, drive
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("same_bytes")]

TARGET = "python3.13-arm64"
HOSTS = [host for host in all_hosts() if host.name.startswith(("local-", "debian-", "windows-"))]


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
def host(request: pytest.FixtureRequest) -> Host:
    found: Host = request.param
    if found.missing:
        if os.environ.get("CI") and not found.optional:
            pytest.fail(found.missing)
        pytest.skip(found.missing)
    return found


def run(host: Host, work: Path, *words: str | Path, status: int = 0) -> str:
    """Run a command of the tool as the host runs a build."""
    command = host.run(Build(work=work, project=work, output=work / "dist", cache=work / "cache", arguments=()))
    head = command.argv[: command.argv.index("manylambda") + 1]
    is_windows = isinstance(host.run, Windows)
    done = subprocess.run(
        [*head, *(str(drive(word) if is_windows and isinstance(word, Path) else word) for word in words)],
        env=dict(command.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.decode().replace("\r\n", "\n")


def lock(wheel: Path) -> Sequence[str]:
    """Give a lock of a wheel that lies beside it."""
    import hashlib

    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return (
        'lock-version = "1.0"', 'created-by = "a test"', "[[packages]]", 'name = "demo"', 'version = "1.0"',
        f'wheels = [{{ path = "../{wheel.name}", hashes = {{ sha256 = "{digest}" }} }}]', "",
    )  # fmt: skip


def test_every_python_builds_from_a_lock_and_audits_alike(host: Host, tmp_path: Path) -> None:
    assert run(host, tmp_path, "--version") == f"manylambda {__version__}\n"
    project = tmp_path / "api"
    project.mkdir()
    (project / "app.py").write_text("def handler(event, context):\n    return {}\n")
    (project / "pylock.toml").write_text("\n".join(lock(make_wheel(tmp_path, "demo", "1.0", {"demo.py": "x = 1\n"}))))
    words = ("-t", TARGET, "--format", "json")
    built = json.loads(run(host, tmp_path, "build", project, "-o", tmp_path / "dist", *words))["artifacts"][0]
    package = tmp_path / "dist" / f"api-{TARGET}.zip"
    assert package.stat().st_size == built["size"]
    assert [one["name"] for one in built["distributions"]] == ["demo"]
    told = json.loads(run(host, tmp_path, "audit", package, *words, "--handler", "app.missing", status=1))
    assert [one["rule"] for one in told["findings"]] == ["handler-missing"]
    assert told["summary"]["files"] == built["files"]
