"""The tool itself under every other Python there is, and on Windows: its version, and what it finds in a native file.

That it builds there, and the same bytes, is what `test_same_bytes` holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manylambda import __version__
from same_bytes.hosts import Build, Host, Windows, all_hosts, drive
from wheel_factory import make_wheel

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("same_bytes")]

NATIVE = Path(__file__).parents[1] / "elf" / "data" / "i686.so"
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


def test_every_python_tells_its_version_and_audits_as_ours_does(host: Host, tmp_path: Path) -> None:
    assert run(host, tmp_path, "--version") == f"manylambda {__version__}\n"
    files = {"demo/it.cpython-313-aarch64-linux-gnu.so": NATIVE.read_bytes(), "demo/__init__.py": b""}
    wheel = make_wheel(tmp_path, "demo", "1.0", files, tags=["cp313-cp313-manylinux_2_17_aarch64"])
    words = ("audit", wheel, "-t", "python3.13-arm64", "--format", "json")
    told = json.loads(run(host, tmp_path, *words, status=1))
    here = subprocess.run([sys.executable, "-m", "manylambda", *map(str, words)], capture_output=True, check=False)
    assert "wrong-machine" in {one["rule"] for one in told["findings"]}
    assert told | {"path": None} == json.loads(here.stdout) | {"path": None}
