"""Imports modules where a package is to run, and tells of each what became of it.

It is a program of its own, run by the target's Python (3.8 and later) from its own file: standard library only, and of
that only what the runtime's bootstrap has loaded as well, so that what is shadowed and what is slow are the same.
Its job is one JSON document on standard input. What it finds goes, a line `<token> <JSON>` each, to a private copy of
standard output; what modules print goes to the log, in which a line `<token> <index>` begins each module's part.
Code on trial may do anything: what is needed afterwards is bound beforehand.
"""

from __future__ import annotations

import builtins
import faulthandler
import importlib  # noqa: F401 - the bootstrap has it loaded
import json
import logging  # noqa: F401 - the bootstrap has it loaded
import os
import site
import sys
import traceback
import types
import warnings  # noqa: F401 - the bootstrap has it loaded
from os import _exit, dup2, getpid, write
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` is slow to import, and nothing of the bootstrap needs it
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

STDLIB: Final = "<stdlib>"
"""Stands, in the search path of a job, for the interpreter's own entries."""
MUTE: Final = 86
"""The exit status when nothing could be told any more, as when a module closed every file descriptor."""

MAX_TRACEBACK: Final = 16 << 10
MAX_MESSAGE: Final = 4 << 10
MAX_TIMES: Final = 32 << 20
CHUNK: Final = 128 << 10

_import: Final = builtins.__import__
_encode: Final = json.JSONEncoder().encode
_format: Final = traceback.format_exception
_run_later: Final = faulthandler.dump_traceback_later
_run_never: Final = faulthandler.cancel_dump_traceback_later


class Voice:
    """Tells the facts; only this process may, and no child that an import forked."""

    __slots__ = ("log", "owner", "pipe", "token")

    def __init__(self, token: str) -> None:
        self.token = token.encode()
        self.owner = getpid()
        self.pipe = _private(1)
        self.log = _private(2)
        os.dup2(2, 1)

    def say(self, fact: dict[str, Any]) -> None:
        """Write one line; when that cannot be, end."""
        if getpid() != self.owner:
            _exit(0)
        try:
            # A line of its own, even if somebody has found the descriptor and left half a line there.
            self._write(self.pipe, b"\n" + self.token + b" " + _encode(fact).encode() + b"\n")
        except BaseException:  # noqa: BLE001 - code on trial may have broken anything
            _exit(MUTE)

    def mark(self, index: int) -> None:
        """Begin a module's part of the log."""
        try:  # noqa: SIM105 - `contextlib` is one import more
            self._write(self.log, b"\n" + self.token + b" " + str(index).encode() + b"\n")
        except OSError:
            pass

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        while data:
            data = data[write(descriptor, data) :]


def _private(descriptor: int) -> int:
    try:
        import fcntl
    except ImportError:
        return os.dup(descriptor)
    try:  # high, where `os.closerange(3, 256)` of a would-be daemon does not reach
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 900)
    except OSError:
        return os.dup(descriptor)


class Refused:
    """Refuses the extension modules of a package that is for another machine, and remembers which."""

    def __init__(self, roots: Iterable[str]) -> None:
        self.roots = tuple(root.rstrip("/\\") for root in roots)
        self.names: list[str] = []
        self._folders: dict[str, list[str]] = {}

    def find_spec(self, name: str, path: Iterable[str] | None = None, _target: object = None) -> None:
        """Raise `ImportError` for what only an extension module could answer."""
        tail = name.rpartition(".")[2]
        for folder in list(sys.path if path is None else path):
            if not str(folder).startswith(self.roots):
                continue
            files = self._files(folder)
            # A folder counts as a package of Python only by its `__init__`: some hold nothing but `.pyi` of the module.
            if tail + ".py" in files or "__init__.py" in self._files(os.path.join(str(folder), tail)):  # noqa: PTH118
                return
            if any(file.startswith(tail + ".") and file.endswith(".so") for file in files):
                self.names.append(name)
                raise ImportError("`" + name + "` is compiled for another machine", name=name)

    def _files(self, folder: str) -> list[str]:
        if folder not in self._folders:
            try:
                self._folders[folder] = os.listdir(folder)  # noqa: PTH208 - pathlib is slow to import
            except OSError:
                self._folders[folder] = []
        return self._folders[folder]


def main() -> None:
    """Do the job on standard input."""
    job = json.loads(sys.stdin.buffer.read())
    voice = Voice(job["token"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    dup2(nothing, 0)
    os.close(nothing)
    kept = sys.modules["__main__"]  # its globals are ours
    faulthandler.enable(file=voice.log)
    stdlib = _own_path()
    voice.say({"event": "up", "python": list(sys.version_info[:3]), "machine": _machine()})
    _become(job, stdlib)
    voice.say({"event": "ready"})
    if job["kind"] == "profile":
        _profile(job, voice)
    else:
        _try_all(job, voice)
    voice.say({"event": "done"})
    del kept
    _flush()
    _exit(0)  # without waiting for threads, or for what modules left to be done at the end


def _machine() -> str:
    return os.uname().machine if hasattr(os, "uname") else ""


def _own_path() -> list[str]:
    """Return where the standard library is: started with `-S`, nothing else is there but this file's folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow to import
    return [entry for entry in sys.path if entry not in given and os.path.abspath(entry) != here]  # noqa: PTH100


def _become(job: dict[str, Any], stdlib: list[str]) -> None:
    """Make what code can see that of a function."""
    places, limits = job["places"], job["limits"]
    _limit(limits)
    if hasattr(sys.stdout, "reconfigure"):  # as the bootstrap's own stream, it holds nothing back
        sys.stdout.reconfigure(line_buffering=True)
    if os.access(places["task"], os.W_OK):
        sys.dont_write_bytecode = True
    os.chdir(places["task"])
    if sys.prefix == "/var/lang":  # the runtime's own interpreter: its `.pth` files count, as they do on Lambda
        site.main()
    else:
        site.setquit()
        site.setcopyright()
        site.sethelper()
    path: list[str] = []
    for entry in job["path"]:
        path += stdlib if entry == STDLIB else [entry]
    sys.path[:] = path
    sys.path_importer_cache.clear()
    sys.argv[:] = [job["program"]]
    front = types.ModuleType("__main__")
    front.__file__ = job["program"]
    sys.modules["__main__"] = front
    for folder in job["sites"]:
        if os.path.isdir(folder):  # noqa: PTH112 - pathlib is slow to import
            site.addsitedir(folder)


def _limit(limits: dict[str, int]) -> None:
    try:
        import resource
    except ImportError:
        return
    wanted = [("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", limits["files"])]
    # Of what a process reserves only what it can write to: allocators reserve far more than Lambda would count.
    wanted.append(("RLIMIT_DATA", limits["data"]))
    running = _running()
    if running is not None:
        wanted.append(("RLIMIT_NPROC", running + limits["processes"]))
    for name, value in wanted:
        number = getattr(resource, name, None)
        if number is None:
            continue
        try:
            hard = resource.getrlimit(number)[1]
            lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (lowest, lowest))
        except (OSError, ValueError):
            pass


def _running() -> int | None:
    """Count the threads of this user, which is what its limit counts; None where that cannot be told."""
    user, count = os.geteuid(), 0
    try:
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow to import
            if name.isdigit():
                try:
                    if os.stat("/proc/" + name).st_uid == user:  # noqa: PTH116
                        count += len(os.listdir("/proc/" + name + "/task"))  # noqa: PTH208
                except OSError:
                    pass
    except OSError:
        return None
    return count


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105
            stream.flush()
        except BaseException:  # noqa: BLE001, PERF203, S110 - a module may have put anything in its place
            pass


def _try_all(job: dict[str, Any], voice: Voice) -> None:
    refused = Refused((job["places"]["task"], job["places"]["opt"]))
    if not job["native"]:
        sys.meta_path.insert(0, refused)
    names: list[str] = job["modules"]
    for index, name in enumerate(names):
        voice.mark(index)
        voice.say({"event": "begin", "index": index})
        before = len(refused.names)
        fact = {"event": "end", "index": index}
        fact.update(_try(name, job["seconds"], voice))
        fact["refused"] = refused.names[before:][:8]
        voice.say(fact)
        if fact.get("memory"):  # what it left may fail all that follows
            break


def _try(name: str, seconds: float, voice: Voice) -> dict[str, Any]:
    """Import one module; the watch ends the process, whatever the module hangs in, with a traceback in the log."""
    _run_later(seconds, exit=True, file=voice.log)
    begun = perf_counter()
    try:
        _import(name)
    except BaseException as error:  # noqa: BLE001 - `SystemExit` and `KeyboardInterrupt` as well
        fact = _told(error, perf_counter() - begun)
    else:
        fact = {"ok": True, "seconds": perf_counter() - begun}
    if getpid() != voice.owner:
        _exit(0)  # a child that the import forked, where stopping the watch would wait for a thread that is not there
    _flush()
    _run_never()
    return fact


def _told(error: BaseException, seconds: float) -> dict[str, Any]:
    kind = type(error)
    fact: dict[str, Any] = {"ok": False, "seconds": seconds, "type": _named(kind), "message": "", "traceback": ""}
    fact["memory"] = issubclass(kind, MemoryError)
    if isinstance(error, SystemExit):  # what it would have done to the interpreter
        fact["exit"] = error.code if isinstance(error.code, int) else int(error.code is not None)
    try:
        fact["message"] = _shortened(str(error), MAX_MESSAGE)
        shown = error.__traceback__
        while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
            shown = shown.tb_next
        fact["traceback"] = _shortened("".join(_format(kind, error, shown)), MAX_TRACEBACK)
    except BaseException as other:  # noqa: BLE001 - its `__str__` may do anything
        fact["message"] = fact["message"] or "its message cannot be shown: " + _named(type(other))
    return fact


def _named(kind: type[BaseException]) -> str:
    module = str(getattr(kind, "__module__", ""))
    name = str(getattr(kind, "__qualname__", "exception"))
    return _shortened(name if module == "builtins" else module + "." + name, 256)


def _shortened(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    return text[: size // 2] + "\n[...]\n" + text[-size // 2 :]


def _profile(job: dict[str, Any], voice: Voice) -> None:
    """Import the module three times, each in a child of its own, started with `-X importtime`.

    First to prepare bytecode of the package (and have its files in the memory of the host), then with that, then with
    what the package ships. Of the standard library all have the same.
    """
    if not hasattr(os, "fork"):
        _profile_once(job, voice, "plain")
        return
    for stage in ("prepare", "bytecode", "plain"):
        child = os.fork()
        if not child:
            voice.owner = getpid()
            _profile_once(job, voice, stage)
            _exit(0)
        status = os.waitpid(child, 0)[1]
        if status:
            voice.say({"event": "died", "stage": stage, "status": _ended(status)})
            return


def _ended(status: int) -> int:
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _profile_once(job: dict[str, Any], voice: Voice, stage: str) -> None:
    prepared = os.path.join(job["places"]["temporary"], "bytecode")  # noqa: PTH118
    _look_for_bytecode(job["places"], None if stage == "plain" else prepared, writes=stage == "prepare")
    path = os.path.join(job["places"]["temporary"], "import-times")  # noqa: PTH118
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    voice.mark(0)
    dup2(descriptor, 2)  # the interpreter writes the times there
    try:
        fact = _try(job["modules"][0], job["seconds"], voice)
    finally:
        dup2(voice.log, 2)
    if stage != "prepare" and fact["ok"]:
        for chunk in _chunks(_times(path)):
            voice.say({"event": "times", "stage": stage, "text": chunk})
    os.close(descriptor)
    fact.update({"event": "profiled", "stage": stage})
    voice.say(fact)
    if not fact["ok"]:
        _exit(1)


def _look_for_bytecode(places: dict[str, str], prefix: str | None, *, writes: bool) -> None:
    """Have the bytecode of the package looked for below `prefix`, or where the package ships it, and nowhere else."""
    roots = places["task"] + "/", places["opt"] + "/"
    machinery = sys.modules["_frozen_importlib_external"]
    usual = machinery.cache_from_source

    def cache_from_source(path: str, *arguments: Any, **options: Any) -> str:
        path = os.fspath(path)
        if not path.startswith(roots):
            if writes and os.access(os.path.dirname(path), os.W_OK):  # noqa: PTH120 - pathlib is slow to import
                raise NotImplementedError  # the library of the host stays as it is
            return str(usual(path, *arguments, **options))
        before, sys.pycache_prefix = sys.pycache_prefix, prefix
        try:
            return str(usual(path, *arguments, **options))
        finally:
            sys.pycache_prefix = before

    machinery.cache_from_source = cache_from_source  # type: ignore[attr-defined]
    sys.dont_write_bytecode = not writes


def _times(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow to import
        return "".join(line for line in file.read(MAX_TIMES).splitlines(keepends=True) if "import time:" in line)


def _chunks(text: str) -> Iterator[str]:
    for start in range(0, len(text), CHUNK):
        yield text[start : start + CHUNK]


if __name__ == "__main__":
    main()
