"""Runs one process of an environment: hears its lines, keeps the end of its log, and ends it in time.

The same on every host: threads instead of `select`, a group of processes or `taskkill` instead of a signal.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from manylambda.host.process import kill_group
from manylambda.trial.engines.output import CHUNK, Lines, Tail, too_many
from manylambda.trial.model import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


_WAITING_LINES: Final = 64
"""How many lines wait to be heard; each is bounded, and with this the memory that a chatty module can take."""
# A group of its own on Windows too, so that Ctrl-C is ours to answer; elsewhere the flag is 0.
_APART: Final = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_GRACE: Final = 2.0
"""Seconds in which what was killed must be gone, and its last words read."""
_LOOK: Final = 0.05
"""Seconds between two looks. What is waited for at the end is counted in these, not by the clock: a host that stood
still for a while has read nothing in that time."""
_LONGEST: Final = 20.0
"""Seconds after which nothing more is heard of whoever outlived its group and goes on talking."""


class Order(NamedTuple):
    """What `inside/first.py` is told; the fields that are None it leaves alone."""

    seconds: float
    files: int | None = None
    memory: int | None = None
    processes: int | None = None
    user_processes: int | None = None
    """All processes of the user, those outside included: what the kernel can bound without a container."""
    alone: int | None = None
    """1 when all processes that it can see were begun for it."""


def first(order: Order, mark: str, *, python: str, scripts: str, arguments: Sequence[str]) -> list[str]:
    """Give the command that runs `python` with `arguments` below `first.py`."""
    words = [f"{name}={number}" for name, number in order._asdict().items() if number is not None]
    return [python, "-I", "-S", f"{scripts}/first.py", mark, ",".join(words), python, *arguments]


def new_mark() -> str:
    """Give a word that begins the last line of `first.py` and that the code under trial cannot guess."""
    return secrets.token_hex(16)


def run(
    command: Sequence[str],
    *,
    job: bytes,
    environment: Mapping[str, str],
    seconds: float,
    hear: Callable[[str], None],
    mark: str | None = None,
    kill: Callable[[], object] | None = None,
    folder: Path | str | None = None,
) -> Completed:
    """Run `command` and wait for its end; `environment` is all that it gets of ours.

    With a `mark`, its end is what the line of `first.py` says. `kill` is called, before the processes are killed, when
    the time is over, when `hear` raises and when the user interrupts: for what is not our child, such as a container.
    """
    beginning = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd=folder,
        start_new_session=os.name == "posix",
        creationflags=_APART,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    heard: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
    over = threading.Event()
    log = Tail()
    threads = [
        threading.Thread(target=_give, args=(process.stdin, job), daemon=True),
        threading.Thread(target=_read_lines, args=(process.stdout, heard, over), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, log.add), daemon=True),
    ]
    for thread in threads:
        thread.start()

    deadline = beginning + seconds
    ended: dict[str, int] = {}
    is_late = False
    try:
        gone = None
        silent = 0
        while True:
            now = time.monotonic()
            if gone is None and process.poll() is not None:
                # Children that it left behind may hold its output open.
                gone = now
                kill_group(process)
            if gone is None and now >= deadline:
                is_late, gone = True, now
                if kill is not None:
                    kill()
                kill_group(process)
            if gone is not None and (silent * _LOOK >= _GRACE or now >= gone + _LONGEST):
                break
            try:
                line = heard.get(timeout=_LOOK)
            except queue.Empty:
                silent += gone is not None
                continue
            if line is None:
                if process.poll() is None:
                    # It closed its output itself, and still has its time.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()) if gone is None else _GRACE)
                    if process.poll() is None and gone is None:
                        heard.put(None)
                        continue
                break
            if mark is not None and line.startswith(mark):
                with contextlib.suppress(ValueError):
                    words = line.removeprefix(mark).strip().split(",")
                    ended = {name: int(number) for name, _, number in (word.partition("=") for word in words)}
            else:
                hear(line)
    except BaseException:
        if kill is not None:
            kill()
        raise
    finally:
        over.set()
        kill_group(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        for _ in range(round(_GRACE / _LOOK / 2)):
            threads[2].join(_LOOK)
            if not threads[2].is_alive():
                break
        for stream, thread in zip((process.stdin, process.stdout, process.stderr), threads, strict=True):
            if not thread.is_alive():
                with contextlib.suppress(OSError):
                    stream.close()
    return _completed(
        process, ended, log, is_late=is_late, seconds=time.monotonic() - beginning, has_mark=mark is not None
    )


def _completed(
    process: subprocess.Popen[bytes],
    ended: Mapping[str, int],
    log: Tail,
    *,
    is_late: bool,
    seconds: float,
    has_mark: bool,
) -> Completed:
    status = process.returncode if process.returncode is not None else -9
    text = log.text()
    if allowed := ended.get("too_many_processes"):
        text += too_many(allowed)
    is_late = is_late or bool(ended.get("timed_out"))
    return Completed(
        status=ended.get("status", status),
        log=text,
        seconds=seconds,
        timed_out=is_late,
        # Nothing inside can kill process 1: when it is gone without a word, the kernel wanted its memory.
        out_of_memory=bool(ended.get("out_of_memory"))
        or (has_mark and not ended and not is_late and status in (137, -9)),
        peak_memory=ended.get("peak_memory"),
    )


def _give(stream: IO[bytes], job: bytes) -> None:
    # It may end, or close its input, without having read all.
    with contextlib.suppress(OSError, ValueError):
        stream.write(job)
    with contextlib.suppress(OSError, ValueError):
        stream.close()


def _read_lines(stream: IO[bytes], heard: queue.Queue[str | None], over: threading.Event) -> None:
    lines = Lines(lambda line: _put(heard, line, over))
    _read(stream, lines.add)
    lines.end()
    _put(heard, None, over)


def _put(heard: queue.Queue[str | None], line: str | None, over: threading.Event) -> None:
    while not over.is_set():
        with contextlib.suppress(queue.Full):
            heard.put(line, timeout=0.1)
            return


def _read(stream: IO[bytes], take: Callable[[bytes], object]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while chunk := os.read(stream.fileno(), CHUNK):
            take(chunk)
