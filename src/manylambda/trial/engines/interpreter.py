"""An execution environment that is a CPython of this host, of the target's minor version.

With bubblewrap it sees nothing of the host but that Python and the libraries below `/usr`. Without it, it is an
ordinary process with a clean environment and a home of its own, and nothing keeps a module from the network or from the
user's files.
Native modules of another machine cannot be loaded, and the caller must not say that they were.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda.errors import TrialError
from manylambda.host.folders import Folder
from manylambda.host.interpreters import download_interpreter, find_interpreter
from manylambda.host.model import Unusable
from manylambda.host.process import ask
from manylambda.progress import SILENT
from manylambda.trial.engines import process
from manylambda.trial.model import PLACES, USER, Completed, Places, Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manylambda.fetch.cache import Cache
    from manylambda.host.interpreters import Interpreter
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Limits, Mounts

_ASK_SECONDS: Final = 20.0
_GRACE: Final = 5.0
"""Seconds after which what `first.py` should have ended is ended from outside."""


def find_sandbox(interpreter: Interpreter) -> str | None:
    """Give the path of a bubblewrap that can hold this interpreter; None where there is none, or it may do nothing."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    if program is None:
        return None
    command = [program, *_options(interpreter, (), {}), interpreter.program, "-I", "-S", "-c", "print(1)"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if ask(command, seconds=_ASK_SECONDS).stdout.strip() == "1":
            return program
    return None


def prepare(
    target: Target,
    *,
    download: bool = False,
    offline: bool = False,
    cache: Cache | None = None,
    progress: Progress = SILENT,
) -> InterpreterEngine | Unusable:
    """Give an engine of the best interpreter that is here, in bubblewrap where that works.

    With `download` one is downloaded when there is none; TrialError when that fails.
    """
    found = find_interpreter(target.python, machine=target.machine)
    if isinstance(found, Unusable):
        if not download:
            return found
        if offline:
            return found._replace(hint=None, reason=f"{found.reason}, and `--offline` forbids downloading one")
        found = download_interpreter(target.python, progress=progress)
        if isinstance(found, Unusable):
            raise TrialError(found.reason, hint=found.hint)
    return InterpreterEngine(found, target, sandbox=find_sandbox(found), cache=cache, progress=progress)


class InterpreterEngine:
    """See `Engine`. `sandbox` is the path of bubblewrap, None to go without.

    In bubblewrap, and with a `cache`, bytecode is made once and kept, as for a root file system (`bytecode`); else each
    process compiles what the package has no bytecode of.
    """

    name = "interpreter"

    def __init__(
        self,
        interpreter: Interpreter,
        target: Target,
        *,
        sandbox: str | None,
        cache: Cache | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.interpreter = interpreter
        self._target = target
        self._sandbox = sandbox
        self._cache = cache
        self._progress = progress

    @property
    def label(self) -> str:
        """See `Engine`."""
        held = "in bubblewrap" if self._sandbox else "without isolation"
        return f"CPython {self.interpreter.version} of this host ({self.interpreter.program}), {held}"

    @property
    def proof(self) -> Proof:
        """See `Engine`."""
        one, minor = self.interpreter, "{}.{}".format(*self._target.python)
        if self.runs_native():
            proved = f"with this host's CPython {one.version} on {one.machine}"
            left = f"the libraries are this host's ({one.libc}), not the runtime's: only the audit judges those"
        else:
            proved = f"without native modules, with this host's CPython {one.version}"
            left = f"native modules of {self._target.machine} Linux cannot be loaded here ({one.system}, {one.machine})"
        if self._sandbox is None:
            left += "; nothing kept the code from the network and from the files of this host"
        if one.version != self._target.python_full_version:
            left += f"; the runtime's CPython {minor} has another patch level"
        return Proof(proved, left)

    @property
    def wants_runtime(self) -> bool:
        """See `Engine`: this host has nothing of it, or of another version."""
        return True

    def runs_native(self) -> bool:
        """See `Engine`: on Linux with the GNU C library, on the target's machine."""
        one = self.interpreter
        return one.system == "linux" and one.machine == self._target.machine and one.libc.startswith("glibc")

    def open(self, mounts: Mounts) -> InterpreterSession:
        """See `Engine`."""
        return InterpreterSession(self.interpreter, mounts, self._sandbox, self._cache, self._progress)


class InterpreterSession:
    """See `Session`."""

    def __init__(
        self,
        interpreter: Interpreter,
        mounts: Mounts,
        sandbox: str | None,
        cache: Cache | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self._interpreter = interpreter
        self._sandbox = sandbox
        self._flags: list[str] = []
        self._folders: list[tuple[str, str]] = []
        self._made: Folder | None = None
        scripts = str(Path(__file__).resolve().parent.parent / "inside")
        if sandbox is None:
            self._made = Folder()
            own = self._made.path.resolve()
            # Without layers there is no folder of them: one that is empty, so that no path of this host's is taken.
            opt = mounts.opt or own / "opt"
            opt.mkdir(exist_ok=True)
            self.places = Places(
                task=str(mounts.task.resolve()),
                opt=str(opt.resolve()),
                runtime=str(mounts.runtime.resolve()) if mounts.runtime else None,
                scripts=scripts,
                temporary=str(own / "tmp"),
            )
        else:
            self.places = PLACES if mounts.runtime else PLACES._replace(runtime=None)
            folders = ((mounts.task, "/var/task"), (mounts.opt, "/opt"), (mounts.runtime, "/var/runtime"))
            self._folders = [(str(folder.resolve()), place) for folder, place in folders if folder]
            self._folders.append((scripts, "/var/manylambda"))
            if cache is not None:
                self._made = Folder()
                try:
                    self._prepare(self._made.path, sandbox, cache, progress)
                except BaseException:
                    self.close()
                    raise

    def _prepare(self, folder: Path, sandbox: str, cache: Cache, progress: Progress) -> None:
        """Have the bytecode of what is seen inside beside it; see `bytecode`."""
        from manylambda.trial.engines import bytecode

        one, seen = self._interpreter, tuple(self._folders)
        python = bytecode.Python(one.version, one.magic, one.tag, one.library)

        def command() -> list[str]:
            options = _options(one, seen, {})
            return [sandbox, *options, "--", one.program, "-I", "-S", "/var/manylambda/compiler.py"]

        compiler = bytecode.Compiler(command, sees_inside=True)
        files: dict[str, Path] = {}
        for path, place in seen:
            files.update(bytecode.sources(Path(path), place))
        with cache.writing("trial/bytecode"):
            bytecode.write(files, folder, python, compiler, cache)
        made = [(folder / place[1:], f"{bytecode.PREFIX}{place}") for _, place in seen]
        made.append(
            bytecode.library(
                dict(bytecode.sources(Path(one.library), one.library, without=frozenset(one.site))),
                python,
                one.program,
                compiler=lambda _: compiler,
                cache=cache,
                tell=lambda: progress.info(f"preparing the bytecode of {one.program}, once"),
            )
        )
        self._folders += [(str(path), place) for path, place in made if path.is_dir()]
        self._flags = ["-X", f"pycache_prefix={bytecode.PREFIX}"]

    def run(
        self,
        arguments: Sequence[str],
        *,
        job: bytes,
        environment: Mapping[str, str],
        limits: Limits,
        hear: Callable[[str], None],
    ) -> Completed:
        """See `Session`."""
        python = self._interpreter.program
        if self._sandbox is not None:
            from manylambda.trial.engines import sandbox  # it is for Linux only

            options = _options(self._interpreter, self._folders, environment)
            held = sandbox.Sandbox(self._sandbox, options, [python, *self._flags, *arguments])
            return sandbox.run(held, job=job, limits=limits, hear=hear)

        temporary = Path(self.places.temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(exist_ok=True)
        own = {"HOME": str(temporary), "TMPDIR": str(temporary), **_needed(temporary), **environment}
        if os.name != "posix":
            return process.run(
                [python, *arguments],
                job=job,
                environment=own,
                seconds=limits.seconds,
                hear=hear,
                folder=self.places.task,
            )
        order = process.Order(
            seconds=limits.seconds,
            files=limits.files,
            memory=limits.memory,
            user_processes=_bound(limits.processes),
        )
        mark = process.new_mark()
        return process.run(
            process.first(order, mark, python=python, scripts=self.places.scripts, arguments=arguments),
            job=job,
            environment=own,
            seconds=limits.seconds + _GRACE,
            hear=hear,
            mark=mark,
            folder=self.places.task,
        )

    def close(self) -> None:
        """See `Session`."""
        if self._made is not None:
            self._made.close()


def _needed(temporary: Path) -> dict[str, str]:
    """Give what no program of Windows starts without."""
    if os.name != "nt":
        return {}
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "WINDIR", "SYSTEMDRIVE") if name in os.environ}
    return {**kept, "TEMP": str(temporary), "TMP": str(temporary), "USERPROFILE": str(temporary)}


def _bound(processes: int) -> int | None:
    """Give the limit of the user's processes that leaves room for so many more; None where they cannot be counted.

    The kernel counts threads, and the limit does not bind root.
    """
    if sys.platform != "linux":
        return None
    count = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == os.getuid():
                        count += sum(1 for _ in Path(entry.path, "task").iterdir())
    return count + processes


def _options(interpreter: Interpreter, folders: Sequence[tuple[str, str]], environment: Mapping[str, str]) -> list[str]:
    """Tell bubblewrap what is seen: nothing but the Python, the system's libraries and the folders, all read-only."""
    command = ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", USER[0], "--gid", USER[1], "--proc", "/proc"]
    # Lambda has no shared memory: what needs it must fail here too.
    command += ["--dev", "/dev", "--remount-ro", "/dev", "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib32", "lib64", "libx32", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for shown in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl", "/etc/localtime"):
        command += ["--ro-bind-try", shown, shown]
    command += ["--tmpfs", "/tmp"]  # noqa: S108
    hidden = [site for site in interpreter.site if Path(site).is_dir()]
    prefixes = [prefix for prefix in interpreter.prefixes if not Path(prefix).is_relative_to("/usr")]
    for folder, place in folders:
        if any(Path(prefix).is_relative_to(place) for prefix in prefixes):
            # The Python itself lies below: its folder could not be made in one that is read-only.
            for child in sorted(Path(folder).iterdir()):
                command += ["--ro-bind", str(child), f"{place}/{child.name}"]
        else:
            command += ["--ro-bind", folder, place]
    if not any(place == "/opt" for _, place in folders):
        command += ["--dir", "/opt"]
    for prefix in prefixes:
        command += ["--ro-bind", prefix, prefix]
    for site in hidden:
        real = os.path.realpath(site)
        command += ["--tmpfs", real, "--remount-ro", real]
    command += ["--remount-ro", "/", "--clearenv"]
    for key, value in environment.items():
        command += ["--setenv", key, value]
    task = [place for _, place in folders if place == "/var/task"]
    return [*command, "--chdir", *(task or ["/"])]
