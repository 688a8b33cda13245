"""What a build sees of this host: its own folder, a Python, the programs a build may use, and what else it is given.

On Linux bubblewrap holds it: no network, no home, no credentials, no headers and libraries of this host, and its folder
is always at the same place. Elsewhere, and where bubblewrap may not work, it is an ordinary process with a clean
environment and a home of its own; nothing then keeps it from the network and from the user's files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Protocol

from manylambda.errors import PackagingError
from manylambda.host import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PLACE: Final = "/build"
"""Where a build finds its folder, whatever the host: in what it makes, the path is the same everywhere."""

# Programs of this host that builds run, none of which decides what is compiled: `configure`, `make` and `sh` scripts.
# `cmake`, `ninja`, compilers and `pkg-config` are not among them: those are build requirements, or ours.
PROGRAMS: Final = (
    "sh", "bash", "dash", "env", "make", "gmake", "sed", "gsed", "grep", "egrep", "fgrep", "awk", "gawk", "mawk",
    "perl", "m4", "git", "tar", "gzip", "gunzip", "bzip2", "xz", "unzip", "find", "xargs", "diff", "cmp", "patch",
    "file", "cat", "cp", "mv", "rm", "rmdir", "ln", "ls", "mkdir", "mktemp", "touch", "chmod", "install", "head",
    "tail", "sort", "uniq", "cut", "tr", "wc", "tee", "dirname", "basename", "readlink", "realpath", "pwd", "echo",
    "printf", "test", "[", "expr", "true", "false", "uname", "hostname", "date", "sleep", "id", "whoami", "nproc",
    "which", "od", "cksum", "sha256sum", "md5sum", "seq", "stat", "comm", "join", "paste", "split", "dd", "tty",
    "stty", "getconf", "arch", "bison", "flex", "byacc", "yacc", "lex", "autoconf", "automake", "libtoolize",
    "libtool", "aclocal", "autoheader", "autoreconf", "gettext", "msgfmt", "nm", "objdump", "readelf",
)  # fmt: skip
_HIDDEN: Final = (
    "/usr/include", "/usr/local", "/usr/share/pkgconfig", "/usr/lib/pkgconfig", "/usr/lib/cmake",
    "/usr/lib64/pkgconfig",
    "/usr/lib64/cmake",
)  # fmt: skip
MOST_SECONDS: Final = 2 * 3600.0
"""What a hook may take."""
_MOST_LINES: Final = 20_000
_MOST_LINE: Final = 2000
_UNPRINTABLE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_GRACE: Final = 5.0


class Outcome(NamedTuple):
    """How a run ended."""

    status: int
    log: tuple[str, ...]
    """All that it wrote, a line each; of very much the last part."""


class Isolation(Protocol):
    """Runs the programs of one build."""

    root: str
    """Where the build's folder is for those programs."""
    is_closed: bool
    """Whether the network, the user's home and this host's files are out of reach."""

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        hear: Callable[[str], None],
        answer: str,
    ) -> Outcome:
        """Run `command` with just this environment; `hear` gets each line. Raises `PackagingError` when it cannot.

        `answer` is a folder of this host that it writes to; it finds it at `answer_place`.
        """

    def answer_place(self, answer: str) -> str:
        """Give where such a folder is for the programs."""


class Seen(NamedTuple):
    """Something of this host that a build sees, read-only."""

    path: str
    place: str


def programs(folder: Path) -> Path:
    """Make a folder with what of `PROGRAMS` this host has, to be put on the path of builds."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        return folder  # it has none of them, and few users may make links
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(os.path.realpath(found) if name not in ("sh", "awk") else found)
    return folder


class Bubblewrap:
    """See `Isolation`: Linux only."""

    root = PLACE
    is_closed = True

    def __init__(self, program: str, folder: Path, seen: Sequence[Seen], *, writable: Sequence[str]) -> None:
        """`folder` is the build's, read-only but for the folders named in `writable`."""
        self._program = program
        self._folder = folder
        self._options = list(_options(folder, seen, writable))

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        hear: Callable[[str], None],
        answer: str,
    ) -> Outcome:
        """See `Isolation`."""
        options = [*self._options, *_compilers(self._folder), "--bind", answer, self.answer_place(answer)]
        for name, value in environment.items():
            options += ["--setenv", name, value]
        options += ["--remount-ro", "/"]
        outcome = run([self._program, *options, "--chdir", folder, "--", *command], None, None, hear)
        if outcome.status and outcome.log and outcome.log[-1].startswith("bwrap: "):
            raise PackagingError(f"bubblewrap cannot hold the build: {outcome.log[-1].removeprefix('bwrap: ')}")
        return outcome

    def answer_place(self, answer: str) -> str:  # noqa: ARG002 - the same for all
        """See `Isolation`."""
        return f"{PLACE}/work/hook"


class Bare:
    """See `Isolation`: an ordinary process."""

    is_closed = False

    def __init__(self, folder: Path) -> None:
        # Without links (macOS: `/var`) and short names (Windows: `RUNNER~1`), for a build that asks for its folder gets
        # that; and with slashes, which mean nothing else to those that read it in a file.
        self.root = Path(os.path.realpath(folder)).as_posix()

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        hear: Callable[[str], None],
        answer: str,  # noqa: ARG002 - everything is in reach
    ) -> Outcome:
        """See `Isolation`."""
        return run(command, {**environment, **_needed()}, folder, hear)

    def answer_place(self, answer: str) -> str:
        """See `Isolation`."""
        return answer


def bubblewrap() -> str | None:
    """Give the path of a bubblewrap that works here."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    if program is None:
        return None
    command = [program, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if process.ask(command, seconds=20).returncode == 0:
            return program
    return None


def _options(folder: Path, seen: Sequence[Seen], writable: Sequence[str]) -> list[str]:
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    options += ["--hostname", "build", "--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib32", "lib64", "libx32", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for shown in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"):
        options += ["--ro-bind-try", shown, shown]
    multiarch = [str(path / name) for path in Path("/usr/lib").glob("*-linux-gnu*") for name in ("pkgconfig", "cmake")]
    for place in (*_HIDDEN, *multiarch):
        if Path(place).is_dir():
            options += ["--tmpfs", place]
    options += ["--tmpfs", "/tmp", "--ro-bind", str(folder), PLACE]  # noqa: S108
    for name in writable:
        options += ["--bind", str(folder / name), f"{PLACE}/{name}"]
    for one in seen:
        options += ["--ro-bind", one.path, one.place]
    return options


def _compilers(folder: Path) -> Iterator[str]:
    """Put the build's compilers in the place of this host's, which some builds call by their whole path."""
    for name in ("cc", "c++", "gcc", "g++", "clang", "clang++"):
        found, own = shutil.which(name), folder / "tools" / "bin" / name
        if found is not None and own.is_file() and (real := os.path.realpath(found)).startswith("/usr/bin/"):
            yield from ("--ro-bind", str(own), real)


def _needed() -> dict[str, str]:
    """Give what no program of Windows starts without, and a proxy that leads nowhere."""
    kept = {
        name: os.environ[name]
        for name in ("SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "PATHEXT", "COMSPEC", "PROCESSOR_ARCHITECTURE")
        if name in os.environ
    }
    nowhere = "http://127.0.0.1:9"
    return {**kept, "http_proxy": nowhere, "https_proxy": nowhere, "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    folder: str | None,
    hear: Callable[[str], None],
    *,
    holds_input: bool = False,
) -> Outcome:
    """Run a program with just this environment, and end it with its children when it takes too long or we are ended.

    With `holds_input` its standard input has nothing, and ends when we do, in whatever way.
    """
    lines: deque[str] = deque(maxlen=_MOST_LINES)
    try:
        running = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if holds_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={} if environment is None else dict(environment),
            cwd=folder,
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError as error:
        raise PackagingError(f"`{command[0]}` cannot be started: {error.strerror or error}") from error
    assert running.stdout is not None
    over = threading.Timer(MOST_SECONDS, process.kill_group, (running,))
    over.daemon = True
    over.start()
    began = time.monotonic()
    try:
        _listen(running.stdout, lines, hear)
        status = running.wait()
    except BaseException:
        process.kill_group(running)
        raise
    finally:
        over.cancel()
        # What it left running holds nothing of ours.
        process.kill_group(running)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(_GRACE)
        running.stdout.close()
        if running.stdin is not None:
            running.stdin.close()
    if time.monotonic() - began >= MOST_SECONDS:
        lines.append(f"ended after {MOST_SECONDS / 3600:.0f} hours")
    return Outcome(status, tuple(lines))


def _listen(stream: IO[bytes], lines: deque[str], hear: Callable[[str], None]) -> None:
    for raw in iter(lambda: stream.readline(1 << 16), b""):
        text = _UNPRINTABLE.sub("", raw.decode("utf-8", "replace").rstrip("\r\n").replace("\t", "    "))[:_MOST_LINE]
        lines.append(text)
        hear(text)
