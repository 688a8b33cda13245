"""Runs a program of this host for its answer, and ends one with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAILURES: Final = (OSError, subprocess.SubprocessError)
"""What a program that cannot be started, or does not answer, raises."""


def ask(
    command: Sequence[str], *, seconds: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that is no package's and give what it answers; `environment` is this process's where None.

    Raises OSError when it cannot be started, `subprocess.TimeoutExpired` when it does not answer in time.
    """
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        env=environment,
        encoding="utf-8",
        errors="replace",
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its children; it may be gone already, and its children not.

    It must lead a group of its own: be started with `start_new_session`.
    """
    if sys.platform == "win32":
        if process.poll() is None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    ["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, timeout=10, check=False
                )
            process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
