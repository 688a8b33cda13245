"""What a person sees while waiting: bars on a terminal, lines in a pipe, one document for a program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from product.conftest import command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
ESCAPE = "\x1b"


def on_terminal(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdout_too: bool = False
) -> tuple[str, str, int]:
    """Run a command whose stderr is a terminal; return what that shows, stdout, and the status."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **(env or {})}
    running = subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
        stdout=theirs if stdout_too else subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            chunk = b""
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    stdout = running.communicate()[0] or b""
    return shown.decode(), stdout.decode(), running.returncode


@pytest.fixture
def slow(index: Index, project: Path) -> Path:
    """Make a project with one wheel that takes two seconds to come."""
    wheel = index.wheel("demo", files={"demo.bin": os.urandom(400_000)})
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    index.seconds = 2.0
    return project


@posix_only
def test_a_slow_download_shows_a_bar_that_is_gone_in_the_end(slow: Path) -> None:
    shown, stdout, status = on_terminal("build", "-t", "python3.13-arm64", cwd=slow, env={"NO_COLOR": ""})
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"fetch +demo-1\.0-py3-none-any\.whl .*0\.\d/0\.4 MiB", plain)
    assert "\x1b[2K" in shown  # the line of the bar is erased
    assert shown.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in shown  # and the cursor is back
    assert stdout.startswith("distribution  version")


@posix_only
def test_a_fast_build_does_not_flicker(index: Index, project: Path) -> None:
    said = "no dependencies: `api` has no lock, requirements.txt or pyproject.toml\r\n"
    runs = (on_terminal("build", "-t", "python3.13-arm64", cwd=project) for _ in range(4))
    assert any((status, shown) == (0, said) for shown, _, status in runs)  # on a busy machine not each is fast


@posix_only
def test_a_long_message_is_not_broken_by_a_bar(slow: Path, index: Index) -> None:
    """Half of the file is all that ever comes, and that is told while the bar is shown."""
    (wheel,) = index.folder.iterdir()
    index.replaced[wheel.name] = wheel.read_bytes()[:-5] + b"other"
    shown, stdout, status = on_terminal("build", "-t", "python3.13-arm64", cwd=slow)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert (status, stdout) == (4, "")
    assert re.search(
        r"error: `demo-1\.0-py3-none-any\.whl` from `[^\n]*` is not the file that was locked: [^\n]*\n", plain
    )


@posix_only
@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_colours_can_be_switched_off(project: Path, name: str) -> None:
    value = {"NO_COLOR": "1", "TERM": "dumb"}[name]
    plain, _, status = on_terminal("build", cwd=project, env={"NO_COLOR": "", name: value})
    assert (status, plain.splitlines()[0]) == (2, "error: no target is given")
    coloured, _, _ = on_terminal("build", cwd=project, env={"NO_COLOR": ""})
    assert coloured.splitlines()[0] == "\x1b[1;31merror\x1b[0m: no target is given"


@posix_only
def test_no_color_still_shows_bars(slow: Path) -> None:
    shown, _, _ = on_terminal("build", "-t", "python3.13-arm64", cwd=slow, env={"NO_COLOR": "1"})
    assert "demo-1.0-py3-none-any.whl" in shown
    assert not re.search(r"\x1b\[[0-9;]*[0-9]m", re.sub(r"\x1b\[0?1?m", "", shown))  # bold is no colour


@posix_only
def test_quiet_shows_nothing_on_a_terminal_either(slow: Path) -> None:
    shown, stdout, status = on_terminal("build", "-t", "python3.13-arm64", "-q", cwd=slow)
    assert (status, shown) == (0, "")
    assert "code_sha256" in stdout


def test_in_a_pipe_there_are_no_escape_codes(run: Run, slow: Path) -> None:
    ran = run("build", slow, "-t", "python3.13-arm64", env={"NO_COLOR": "", "TERM": "xterm"})
    assert ESCAPE not in ran.stdout + ran.stderr
    assert ran.stderr == "dependencies from `pylock.toml` (locked)\n"


def test_quiet_tells_results_and_warnings_only(run: Run, index: Index, project: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo")), encoding="utf-8")
    assert run("build", project, "-t", "python3.13-arm64", "-q").stderr == ""
    error = run("build", project, "-q", status=2)
    assert error.stderr.startswith("error: no target is given\n")


@pytest.mark.parametrize("command_", ["build", "lock", "plan"])
def test_json_is_the_one_document_on_stdout(run: Run, index: Index, project: Path, command_: str) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run(command_, project, "-t", "python3.13-arm64", "--format", "json", "-v")
    document, end = json.JSONDecoder().raw_decode(ran.stdout)
    assert ran.stdout[end:] == "\n"
    assert document["version"] == 1
    assert ran.stdout.isascii()  # whatever character set the pipe has


@pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there")
def test_an_interrupt_ends_at_once_without_a_traceback(index: Index, project: Path) -> None:
    import signal

    wheel = index.wheel("demo", files={"demo.bin": os.urandom(100_000)})
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    index.seconds = 300.0  # at its end the wheel is whole, and nothing was interrupted
    running = subprocess.Popen(
        command("build", "-t", "python3.13-arm64"), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not index.requests and running.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=100)
    assert (running.returncode, stdout) == (130, b"")
    assert stderr.decode() == "dependencies from `pylock.toml` (locked)\nerror: interrupted\n"
    assert not (project / "dist").exists() or not list((project / "dist").iterdir())
