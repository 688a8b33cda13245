"""A control group of the kernel's that bounds how many processes and threads there can be.

It binds root too, whom `RLIMIT_NPROC` does not, and so is made by root only. Where none can be made (in most
containers, on other systems) there is none, and who passes a limit is only ended when that is seen.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path("/sys/fs/cgroup")
_NAME: Final = "manylambda-"
_TRIES: Final = 200
"""How often it is tried, each 5 ms, to remove a group; one that is still not empty is left to the next of us."""


@contextlib.contextmanager
def bounded(process: int, number: int) -> Iterator[bool]:
    """Let a process, and all that it starts from now on, be `number` at the most; whether that could be done."""
    folder = _made(number)
    try:
        yield folder is not None and _written(folder / "cgroup.procs", process)
    finally:
        if folder is not None:
            _remove(folder)


def _made(number: int) -> Path | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    for parent in _parents():
        _sweep(parent)
        folder = parent / f"{_NAME}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if _written(folder / "pids.max", number):
            return folder
        _remove(folder)
    return None


def _sweep(parent: Path) -> None:
    """Remove the groups of those who were killed before they could."""
    for folder in parent.glob(f"{_NAME}*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _parents() -> Iterator[Path]:
    """Yield where a group can be made so that the bounds of our own hold in it: in ours, or beside it (version 2)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, own = line.split(":", 2)
            if "pids" in controllers.split(","):
                yield _ROOT / "pids" / own[1:]
            elif not controllers:
                yield (_ROOT / own[1:]).parent if own != "/" else _ROOT


def _written(path: Path, number: int) -> bool:
    """Write to a file of the kernel's; false where there is none, as in a folder that is no group."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, str(number).encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(folder: Path) -> None:
    for _ in range(_TRIES):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.005)
        else:
            return
