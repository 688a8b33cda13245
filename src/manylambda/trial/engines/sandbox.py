"""Runs one process by bubblewrap: hears its lines, keeps the end of its log, and ends it with all its children.

Everything in it hangs on the first process of its pid namespace: when that is killed the kernel kills the rest,
whatever it forks, stops or ignores; and it is killed with bubblewrap, which is killed with us.

What a process may use is bound twice. The kernel's limits are set from outside before the program starts, wide: Lambda
bounds memory that is used, and the kernel's limit is on what is reserved; and it counts threads. So what is used is
looked at fifty times a second as well, and who passes a limit is ended. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.trial.engines import group
from manylambda.trial.engines.output import CHUNK, Lines, Tail, too_many
from manylambda.trial.model import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manylambda.trial.model import Limits

_PAUSE: Final = 0.02
_FEW: Final = 5
"""Looks that tell nothing yet: at first bubblewrap is in the place of the program."""
_START: Final = 20.0
"""Seconds that bubblewrap may take to make the namespaces; it takes milliseconds."""
_GRACE: Final = 2.0
"""Seconds in which what was killed must be gone."""
_LAST_READS: Final = 2000
"""How often the end of an output is looked for that nobody can write to any more; where nothing is, 1 ms goes by."""
_RESERVED: Final = 4
"""How many times the memory that a process may use it may reserve."""
_MORE_RESERVED: Final = 1 << 30
_THREADS: Final = 4
"""How many threads a process may have on average, for the kernel counts those: 1024 in all, as Lambda allows."""


class Sandbox(NamedTuple):
    """What is run, and how its environment is made."""

    program: str
    """Where bubblewrap is."""
    options: Sequence[str]
    command: Sequence[str]
    overhead: int | None = None
    """Bytes that an emulator needs for itself; None without one."""


def run(sandbox: Sandbox, *, job: bytes, limits: Limits, hear: Callable[[str], None]) -> Completed:
    """Run a command and wait for its end; see `Session.run`. Raises `TrialError` when bubblewrap cannot.

    Its environment is what `options` set, and `PWD`. The peak of memory is None under an emulator, which needs its own.
    """
    return _Run(sandbox, job, limits, hear).run()


class _Run:
    def __init__(self, sandbox: Sandbox, job: bytes, limits: Limits, hear: Callable[[str], None]) -> None:
        self._sandbox = sandbox
        self._job = memoryview(job)
        self._limits = limits
        self._lines = Lines(hear)
        self._log = Tail()
        self._memory = limits.memory + (sandbox.overhead or 0)
        self._peak = 0
        self._looks = 0
        self._began = time.monotonic()
        self._ended_for: str | None = None

    def run(self) -> Completed:
        kills = _kernel_kills()
        with contextlib.ExitStack() as stack:
            process, first = self._start(stack)
            try:
                self._attend(process, first)
            finally:
                _end(process, first, self._first)
            usage = _bury(process)
        status = process.returncode
        if status > 128:
            status = 128 - status
        log = self._log.text()
        if status == 1 and not self._lines.count and (failure := _failure(log)):
            raise TrialError(f"bubblewrap cannot make the environment: {failure}")
        if self._ended_for is not None:
            status = -signal.SIGKILL
        if self._ended_for == "processes":
            log += too_many(self._limits.processes)
        return Completed(
            status=status,
            log=log,
            seconds=time.monotonic() - self._began,
            timed_out=self._ended_for == "time",
            out_of_memory=self._ended_for == "memory"
            or (self._ended_for is None and status == -signal.SIGKILL and _kernel_kills() > kills),
            peak_memory=self._measured(usage),
        )

    def _start(self, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int]:
        """Start bubblewrap; give it and its child, the first process of the namespace, once its limits are set."""
        # Options through a file: the command line is seen by every user of this host, and has an end.
        options = stack.enter_context(os.fdopen(os.memfd_create("options"), "w+b", buffering=0))
        options.write(b"".join(os.fsencode(word) + b"\0" for word in self._sandbox.options))
        options.seek(0)
        told, telling = (stack.enter_context(os.fdopen(one, mode, buffering=0)) for one, mode in _pipe())
        holding, held = (stack.enter_context(os.fdopen(one, mode, buffering=0)) for one, mode in reversed(_pipe()))
        # `held` is read inside until `holding` is written to.
        process = subprocess.Popen(
            [
                self._sandbox.program,
                *("--args", str(options.fileno())),
                *("--info-fd", str(telling.fileno()), "--block-fd", str(held.fileno())),
                *("--", *self._sandbox.command),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            bufsize=0,
            pass_fds=(options.fileno(), telling.fileno(), held.fileno()),
            start_new_session=True,
        )
        stack.callback(_close, process)
        try:
            telling.close()
            held.close()
            if (begun := _first(told)) is not None:
                self._first, first = begun
                stack.callback(os.close, first)
                with contextlib.suppress(ProcessLookupError):  # bubblewrap has failed already, and says why
                    self._bound(self._first, stack)
                with contextlib.suppress(BrokenPipeError):
                    holding.write(b"1")
                return process, first
            process.kill()
            _, log = process.communicate(timeout=_START)
            failure = _failure(log.decode(errors="replace")) or f"it ended with status {process.returncode}"
            raise TrialError(f"bubblewrap cannot make the environment: {failure}", hint=hint(failure))
        except BaseException:
            process.kill()
            raise

    def _bound(self, process: int, stack: contextlib.ExitStack) -> None:
        threads = _THREADS * self._limits.processes
        stack.enter_context(group.bounded(process, threads))
        reserved = _RESERVED * self._memory + _MORE_RESERVED
        for number, wanted in (
            (resource.RLIMIT_NOFILE, self._limits.files),
            (resource.RLIMIT_NPROC, threads),
            (resource.RLIMIT_DATA, reserved),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.prlimit(process, number)
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.prlimit(process, number, (allowed, allowed))

    def _attend(self, process: subprocess.Popen[bytes], first: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = self._began + self._limits.seconds
        with selectors.DefaultSelector() as selector:
            for stream, event in (
                (process.stdin, selectors.EVENT_WRITE),
                (process.stdout, selectors.EVENT_READ),
                (process.stderr, selectors.EVENT_READ),
            ):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, event)
            gone = os.pidfd_open(process.pid)
            selector.register(gone, selectors.EVENT_READ)
            try:
                look = 0.0
                while True:
                    now = time.monotonic()
                    if now >= look:
                        look = now + _PAUSE
                        self._ended_for = self._watch(self._first)
                        if now >= deadline:
                            self._ended_for = "time"
                        if self._ended_for is not None:
                            break
                    ready = selector.select(max(0.0, look - now))
                    for key, _ in ready:
                        if key.fileobj is process.stdin:
                            self._give(process.stdin, selector)
                        elif key.fileobj is process.stdout:
                            self._read(process.stdout, self._lines.add, selector)
                        elif key.fileobj is process.stderr:
                            self._read(process.stderr, self._log.add, selector)
                    if any(key.fileobj == gone for key, _ in ready):
                        break
            finally:
                os.close(gone)
            _end(process, first, self._first)
            # What it wrote before it was gone; nobody is left to write more, but what is there may be all of a pipe.
            # Counted, not timed: a host that stood still for a while has read nothing in that time.
            for stream, take in ((process.stdout, self._lines.add), (process.stderr, self._log.add)):
                for _ in range(_LAST_READS):
                    if stream not in selector.get_map():
                        break
                    if not self._read(stream, take, selector):
                        time.sleep(0.001)
            self._lines.end()

    def _give(self, stream: IO[bytes], selector: selectors.BaseSelector) -> None:
        # It may end, or close its input, without having read all.
        with contextlib.suppress(BrokenPipeError):
            while self._job:
                try:
                    written = os.write(stream.fileno(), self._job[:CHUNK])
                except BlockingIOError:
                    return
                self._job = self._job[written:]
        selector.unregister(stream)
        stream.close()

    def _read(self, stream: IO[bytes], take: Callable[[bytes], None], selector: selectors.BaseSelector) -> bool:
        """Read what is there; whether there was anything."""
        try:
            chunk = os.read(stream.fileno(), CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            take(chunk)
        else:
            selector.unregister(stream)
        return True

    def _watch(self, first: int) -> str | None:
        """Look at what all the processes use; say which limit is passed."""
        processes = list(_descendants(first))
        if len(processes) > self._limits.processes:
            return "processes"
        self._looks += 1
        used = sum(_resident(processes))
        if used > self._memory and (exact := _shared_out(processes)) is not None:
            used = exact
        self._peak = max(self._peak, used)
        return "memory" if used > self._memory else None

    def _measured(self, usage: resource.struct_rusage | None) -> int | None:
        if self._sandbox.overhead is not None:
            return None
        # What the kernel says of a child is no less than we had when it was started.
        told = 0 if usage is None else usage.ru_maxrss
        if told > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            return max(self._peak, told * 1024)
        return self._peak if self._looks > _FEW else None


def hint(failure: str) -> str | None:
    """Say what to do about a failure of bubblewrap."""
    text = failure.lower()
    if "uid map" in text or "rtm_newaddr" in text:
        return (
            "AppArmor keeps users from making namespaces here, as Ubuntu 24.04 does: allow them "
            "(`sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or run this as root"
        )
    if "namespace" in text or "operation not permitted" in text or "no space left" in text:
        return (
            "namespaces are forbidden here: in a container, give it `--security-opt seccomp=unconfined` or use the "
            "engine `container` outside; else allow them (`sysctl user.max_user_namespaces=10000`)"
        )
    return None


def _pipe() -> list[tuple[int, str]]:
    reader, writer = os.pipe()
    return [(reader, "rb"), (writer, "wb")]


def _first(told: IO[bytes]) -> tuple[int, int] | None:
    """Read which process bubblewrap has made, and open it: its number, a descriptor. None when it is gone already.

    It is made before its environment is, so where that fails it may end before we have come to look.
    """
    child = _child(told)
    if child is None:
        return None
    try:
        return child, os.pidfd_open(child)
    except ProcessLookupError:
        return None


def _child(told: IO[bytes]) -> int | None:
    """Read which process bubblewrap has made; None when it ended before."""
    text = b""
    deadline = time.monotonic() + _START
    with selectors.DefaultSelector() as selector:
        selector.register(told, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = told.read(4096)
            text += chunk
            with contextlib.suppress(ValueError, KeyError):
                return int(json.loads(text)["child-pid"])
            if not chunk:
                break
    return None


def _end(process: subprocess.Popen[bytes], first: int, number: int) -> None:
    """End the first process of the namespace, and with it all others.

    The kernel ends the others when the first one comes to its own end, and among hundreds that fork without end it
    waits for its turn. So its session's group, which a fork cannot leave behind, is ended in one call.
    """
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(first, signal.SIGKILL)
        os.killpg(number, signal.SIGKILL)
    until = time.monotonic() + _GRACE
    # Who has left the group; none are left when the first one is gone.
    while (left := list(_descendants(number))) and time.monotonic() < until:
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(0.001)


def _bury(process: subprocess.Popen[bytes]) -> resource.struct_rusage | None:
    """Wait for bubblewrap, which ends when its child has; give what the two used."""
    until = time.monotonic() + _GRACE
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() >= until:
            process.kill()
            process.wait()
            return None
        time.sleep(0.001)


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if process.returncode is None:
        process.kill()
        process.wait()


def _failure(log: str) -> str | None:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if lines and lines[-1].startswith("bwrap: "):
        return lines[-1].removeprefix("bwrap: ")
    return None


def _descendants(process: int) -> Iterable[int]:
    """Give all processes below one; whoever loses its parent comes to the first of the namespace, so none is missed."""
    waiting = [process]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208 - fifty times a second
                with open(f"/proc/{one}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                    children = [int(word) for word in file.read().split()]
                yield from children
                waiting += children


def _resident(processes: Iterable[int]) -> Iterable[int]:
    page = resource.getpagesize()
    for process in processes:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{process}/statm", "rb") as file:  # noqa: PTH123
            yield int(file.read().split()[1]) * page


def _shared_out(processes: Iterable[int]) -> int | None:
    """Give what processes use with what they share counted once: dearer to know than `_resident`."""
    total = 0
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            try:
                with open(f"/proc/{process}/smaps_rollup", "rb") as file:  # noqa: PTH123
                    total += sum(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) << 10
            except PermissionError:
                return None
    return total


def _kernel_kills() -> int:
    """Count whom the kernel killed on this host for want of memory."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
