"""Runs first inside: starts the target's Python as its child, bounds it, and says how it ended.

    python -I -S first.py MARK ORDER PROGRAM ARGUMENT...

ORDER is `name=number,...`: `seconds` are what the child may take; `memory` (bytes) and `processes` are watched where
nothing else bounds them, of all that can be seen when `alone`, else of the child; `files` and `user_processes` are
limits of the kernel's. MARK begins the last line of standard output, which says in the same way how the child ended.

As process 1 of a container a program would ignore most signals, and its crash would look like another; a child of
process 1 crashes as it does in Lambda. And when whoever started the container is killed, the time still runs out here.
The order comes as an argument, not on standard input: that is the child's. CPython 3.8 or newer, POSIX only; it imports
as little as it can, because an emulator takes longer for that than for all else here.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

_PAUSE = 0.02


def main() -> None:
    """Do as the order says."""
    mark, order = sys.argv[1], {}
    for word in sys.argv[2].split(","):
        name, _, number = word.partition("=")
        order[name] = float(number)
    deadline = time.monotonic() + order["seconds"]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    killed_before = _kills()
    child = os.fork()
    if child == 0:
        _become(order, sys.argv[3:])

    watches = "memory" in order or "processes" in order
    status, is_late, passed = None, False, ""
    while status is None:
        left = max(0.0, deadline - time.monotonic())
        if select.select([reader], [], [], min(left, _PAUSE) if watches else left)[0]:
            os.read(reader, 4096)
        status = _reap(child)
        if status is None:
            is_late = time.monotonic() >= deadline
            passed = _passed(child, order) if watches and not is_late else ""
            if is_late or passed:
                status = _end(child, order)

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ended = {
        "status": -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
        "timed_out": int(is_late),
        "out_of_memory": int(passed == "memory" or _kills() > killed_before),
        "too_many_processes": int(order["processes"]) if passed == "processes" else 0,
        "peak_memory": peak if sys.platform == "darwin" else peak * 1024,
    }
    text = ",".join(f"{name}={number}" for name, number in ended.items())
    # What the child wrote last need not end with its line.
    os.write(1, f"\n{mark} {text}\n".encode())
    os._exit(0)


def _become(order: dict[str, float], command: list[str]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name, wanted in (("NOFILE", order.get("files")), ("NPROC", order.get("user_processes")), ("CORE", 0)):
        if wanted is not None:
            number = getattr(resource, f"RLIMIT_{name}")
            _, hard = resource.getrlimit(number)
            allowed = int(wanted) if hard == resource.RLIM_INFINITY else min(int(wanted), hard)
            try:  # noqa: SIM105 - `contextlib` is one import more
                resource.setrlimit(number, (allowed, allowed))
            except (OSError, ValueError):
                pass
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot start `{command[0]}`: {error.strerror}\n".encode())
    os._exit(127)


def _reap(child: int) -> int | None:
    """Give the wait status of the child once it has ended; orphans that were left to us are buried on the way."""
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in (0, child):
            return status if process else None


def _end(child: int, order: dict[str, float]) -> int:
    try:
        if order.get("alone"):
            os.kill(-1, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
    except OSError:
        pass
    while True:
        status = _reap(child)
        if status is not None:
            return status
        time.sleep(0.001)


def _passed(child: int, order: dict[str, float]) -> str:
    """Say which limit is passed: `memory`, `processes` or none."""
    processes = [str(child)]
    if order.get("alone"):
        processes = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib is slow to import
        if len(processes) > order.get("processes", len(processes)):
            return "processes"
    used = 0
    for process in processes:
        try:
            with open(f"/proc/{process}/statm") as file:  # noqa: PTH123 - as above
                _, resident, shared = file.read().split()[:3]
        except (OSError, ValueError):
            continue  # it has ended, or this is no Linux
        used += (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return "memory" if used > order.get("memory", used) else ""


def _kills() -> int:
    """Count what the kernel killed here for want of memory; 0 where it does not say."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path) as file:  # noqa: PTH123 - as above
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except (OSError, ValueError):  # noqa: PERF203
            continue
    return 0


if __name__ == "__main__":
    main()
