"""An execution environment that bubblewrap makes of a root file system; for another machine, with qemu-user.

Each process has an environment of its own: the root file system, `/var/task` and `/opt` cannot be written to, `/tmp` is
empty, there is no network but a loopback, no process of the host, no variable of it, and it is `sbx_user1051`, as in
Lambda. Root makes it as an ordinary user does, by a namespace of users.

What is not as in Lambda: files that the caller owns are the process's own, so a mode such as 0600 does not keep it out
(`file-mode` of the audit judges that). A program that an emulated process starts is not emulated, and fails.

The root file system is not mounted whole: its folders are, each for itself, on an empty one. So places can be made that
it does not have, and nothing of `/dev`, `/run` and `/tmp` of whoever made it is there.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.host import process
from manylambda.host.folders import Folder
from manylambda.host.install import install
from manylambda.host.model import Unusable
from manylambda.progress import SILENT
from manylambda.trial.engines import bytecode, roots
from manylambda.trial.model import OF_THE_IMAGE, PLACES, TEMPORARY_BYTES, USER, Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manylambda.fetch.cache import Cache
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Completed, Limits, Mounts

_USER_LINE: Final = "sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
_EMULATOR: Final = "/run/emulator"
_EMULATOR_BYTES: Final = 256 << 20

# The one of Graviton2: it has no pointer authentication, which costs the emulator three quarters of its speed.
_MODELS: Final = {"aarch64": "neoverse-n1", "x86_64": "max"}
_MODEL_NAMES: Final = {"aarch64": "Neoverse N1", "x86_64": "an x86-64 with all that qemu has"}
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


class Tools(NamedTuple):
    """The programs of this host that an environment needs."""

    bubblewrap: str
    version: tuple[int, ...]
    emulator: str | None
    """A static qemu for the target's machine; None where that is the host's own."""
    emulator_version: str


def detect(target: Target) -> Tools | Unusable:
    """Find what is needed for a target, and see whether namespaces can be made here; a few milliseconds."""
    if sys.platform != "linux":
        return Unusable("rootfs", "bubblewrap is for Linux only", None)
    program = shutil.which("bwrap")
    if program is None:
        return Unusable("rootfs", "no bubblewrap (`bwrap`) on the path", install("bubblewrap"))
    from manylambda.trial.engines import sandbox

    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return Unusable("rootfs", "the kernel is older than Linux 5.3", None)
    words = ("--ro-bind", "/", "/", "--unshare-all", "--unshare-user", "--proc", "/proc", "--dev", "/dev")
    user = ("--uid", USER[0], "--gid", USER[1])
    try:
        tried = _call([program, *words, *user, "--die-with-parent", program, "--version"])
    except (OSError, subprocess.TimeoutExpired) as error:
        return Unusable("rootfs", f"bubblewrap cannot be run: {error}", None)
    if tried.returncode:
        reason = tried.stderr.strip().rpartition("\n")[2].removeprefix("bwrap: ")
        return Unusable("rootfs", f"bubblewrap cannot make namespaces: {reason}", sandbox.hint(reason))
    version = tuple(int(part) for part in re.findall(r"\d+", tried.stdout)[:3])
    if _machine_here() == target.machine:
        return Tools(program, version, None, "")
    return _with_emulator(Tools(program, version, None, ""), target)


def _with_emulator(tools: Tools, target: Target) -> Tools | Unusable:
    is_dynamic = False
    for name in (f"qemu-{target.machine}-static", f"qemu-{target.machine}"):
        found = shutil.which(name)
        if found is None:
            continue
        if not _is_static(Path(found)):
            is_dynamic = True
            continue
        said = _call([found, "--version"]).stdout
        version = re.search(r"version ([\d.]+\d)", said)
        return tools._replace(emulator=found, emulator_version=version[1] if version else "of no version")
    here, wanted = _machine_here(), target.machine
    reason = f"no emulator of {wanted} on this {here} host: `qemu-{wanted}" + (
        "` is there, but it is not linked statically" if is_dynamic else "-static` is not on the path"
    )
    return Unusable("rootfs", reason, install("qemu"))


def prepare(
    source: Path, target: Target, cache: Cache, *, compile_package: bool = True, progress: Progress = SILENT
) -> RootfsEngine:
    """Give the engine of a root file system: a folder, a tar, an OCI layout or what `docker save` wrote.

    Raises `TrialError` where this host or the root file system cannot be used, and what `roots.prepare` raises.
    """
    tools = _usable(target)
    root = roots.prepare(source, target, cache, progress)
    return RootfsEngine(root, target, cache, tools, compile_package=compile_package, progress=progress)


def _usable(target: Target) -> Tools:
    tools = detect(target)
    if isinstance(tools, Unusable):
        raise TrialError(tools.reason, hint=tools.hint)
    return tools


class RootfsEngine:
    """See `Engine`; `prepare` makes one, and this of a root file system that is there, such as `roots.unpack` gives."""

    name = "rootfs"

    def __init__(
        self,
        root: roots.Root,
        target: Target,
        cache: Cache,
        tools: Tools | None = None,
        *,
        compile_package: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        """Look at the root file system and ask its Python, once.

        Without `compile_package` the package has only the bytecode that it ships, as in Lambda, and is slower. Raises
        `TrialError` where the root file system has no Python of the target, or one that does not run.
        """
        self._root = root
        self._target = target
        self._cache = cache
        self._tools = _usable(target) if tools is None else tools
        self._compile_package = compile_package
        self._progress = progress
        self._path = self._find_python()
        self._python = self._ask()

    @property
    def label(self) -> str:
        """See `Engine`."""
        words = [
            f"bubblewrap {'.'.join(map(str, self._tools.version))}",
            self._root.name,
            f"CPython {self._python.version}",
        ]
        if self._tools.emulator is not None:
            words.append(f"qemu {self._tools.emulator_version} as {_MODEL_NAMES[self._target.machine]}")
        return ", ".join(words)

    @property
    def proof(self) -> Proof:
        """See `Engine`."""
        emulated = ", emulated" if self._tools.emulator is not None else ""
        if self._path.startswith("/var/lang/"):
            left = OF_THE_IMAGE
        else:
            found = self._c_library
            wanted = self._target.glibc
            versions = (
                f"{found}, the runtime's is glibc {wanted}" if found else f"unknown, the runtime's is glibc {wanted}"
            )
            left = f"the C library here is {versions}: only the audit judges that, and the runtime's other libraries"
        if emulated:
            left += "; programs that a module starts are not emulated, and fail"
        return Proof(f"with CPython {self._python.version} on {self._target.machine}{emulated}, in a sandbox", left)

    @property
    def wants_runtime(self) -> bool:
        """See `Engine`."""
        return not self._path.startswith("/var/lang/")

    def runs_native(self) -> bool:
        """See `Engine`: the machine was checked, and a Python of it was run."""
        return True

    def open(self, mounts: Mounts) -> RootfsSession:
        """See `Engine`."""
        for folder in filter(None, (mounts.task, mounts.opt, mounts.runtime)):
            if not folder.is_dir():
                raise TrialError(f"there is no folder `{folder}`")
        return RootfsSession(self, mounts)

    # What a session is made of

    def sandbox_options(self, folder: Path, mounts: Sequence[tuple[Path, str]]) -> list[str]:
        """Give the options for an environment with folders of this host mounted; `folder` takes files made for it."""
        made = self._made_files(folder)
        made += [(path.absolute(), place) for path, place in mounts]
        if self._tools.emulator is not None:
            made.append((Path(self._tools.emulator), _EMULATOR))
        own = {place for _, place in made}
        own |= {"/dev", "/opt", "/proc", "/run", "/sys", PLACES.temporary, "/var/task", "/var/manylambda"}
        words = ["--unshare-all", "--unshare-user", "--uid", USER[0], "--gid", USER[1], "--cap-drop", "ALL"]
        words += ["--hostname", "manylambda", "--die-with-parent", "--new-session"]
        try:
            words += _cover(self._root.folder, "", own)
        except OSError as error:
            raise TrialError(f"cannot read `{error.filename}`: {(error.strerror or str(error)).lower()}") from error
        words += ["--proc", "/proc", "--dev", "/dev"]
        if self._tools.version >= (0, 7):
            words += ["--size", str(TEMPORARY_BYTES)]
        words += ["--tmpfs", PLACES.temporary]
        for place in ("/opt", "/var/task"):
            words += ["--dir", place]
        for path, place in sorted(made, key=lambda one: one[1]):
            words += ["--ro-bind", str(path), place]
        # Root is the owner of what lies in `/proc/sys`, in the namespace too. Lambda has no `/dev/shm`.
        for place in ("/proc", "/dev", "/"):
            words += ["--remount-ro", place]
        return [*words, "--chdir", "/var/task"]

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Give what starts the target's Python inside."""
        if self._tools.emulator is None:
            return [self._path, *arguments]
        return [_EMULATOR, "-cpu", _MODELS[self._target.machine], self._path, *arguments]

    def library_bytecode(self) -> tuple[Path, str]:
        """Give the folder with the bytecode of the standard library, made once, and where it is looked for."""
        library = self._python.library
        here = roots.inside(self._root.folder, library)
        return bytecode.library(
            dict(bytecode.sources(here, library)) if here is not None else {},
            self._python,
            self._target.machine,
            compiler=lambda folder: self.compiler(folder, ()),
            cache=self._cache,
            tell=lambda: self._progress.info(f"preparing the bytecode of {self._root.name}, once"),
        )

    def package_bytecode(self, folder: Path, mounts: Sequence[tuple[Path, str]]) -> None:
        """Write the bytecode of what is mounted."""
        files: dict[str, Path] = {}
        for path, place in mounts:
            if self._compile_package or place == PLACES.scripts:
                files.update(bytecode.sources(path, place))
        with tempfile.TemporaryDirectory(prefix="manylambda-") as temporary, self._cache.writing("trial/bytecode"):
            bytecode.write(files, folder, self._python, self.compiler(Path(temporary), mounts), self._cache)

    def compiler(self, folder: Path, mounts: Sequence[tuple[Path, str]]) -> bytecode.Compiler:
        """Give the quickest way to compile for this Python."""
        path = None
        if self._tools.emulator is not None:
            path = bytecode.host_python(self._target.python, self._python.magic)
        if path is not None:
            host: list[str] = [path, "-I", "-S", str(_scripts() / "compiler.py")]
            return bytecode.Compiler(lambda: host, sees_inside=False)

        def command() -> list[str]:
            there = mounts if any(place == PLACES.scripts for _, place in mounts) else ((_scripts(), PLACES.scripts),)
            options = self.sandbox_options(folder, there)
            return [
                self._tools.bubblewrap, *options, "--",
                *self.command(["-I", "-S", f"{PLACES.scripts}/compiler.py"]),
            ]  # fmt: skip

        return bytecode.Compiler(command, sees_inside=True)

    @property
    def tools(self) -> Tools:
        """The programs of this host."""
        return self._tools

    @cached_property
    def _c_library(self) -> str | None:
        return _c_library(self._root.folder, self._target.machine)

    def _find_python(self) -> str:
        from manylambda import elf

        minor = "{}.{}".format(*self._target.python)
        other: str | None = None
        for path in (f"/var/lang/bin/python{minor}", f"/usr/bin/python{minor}", f"/usr/local/bin/python{minor}"):
            here = roots.inside(self._root.folder, path)
            if here is None or not here.is_file():
                continue
            native = elf.read(here)
            if isinstance(native, elf.ElfFile):
                if native.machine == self._target.machine:
                    return path
                other = native.machine
        if other is not None:
            raise TrialError(
                f"`{self._root.name}` is for {other}, the target is {self._target}",
                hint=f"name a root file system for {self._target.architecture}",
            )
        raise TrialError(
            f"`{self._root.name}` has no CPython {minor}",
            hint=f"looked for: `/var/lang/bin/python{minor}`, as the runtime has it, and `/usr/bin/python{minor}`",
        )

    def _ask(self) -> bytecode.Python:
        here = roots.inside(self._root.folder, self._path)
        assert here is not None
        status = here.stat()
        key = f"{here} {status.st_ino} {status.st_size} {status.st_mtime_ns} {self._tools.emulator or ''}"
        known = self._cache.read_facts("python", 1, key)
        if isinstance(known, list):
            return bytecode.Python(*known)
        with tempfile.TemporaryDirectory(prefix="manylambda-") as folder:
            options = self.sandbox_options(Path(folder), ())
            command = [
                self._tools.bubblewrap, *options, "--", *self.command(["-I", "-S", "-c", bytecode.QUESTION]),
            ]  # fmt: skip
            try:
                asked = _call(command)
            except subprocess.TimeoutExpired as error:
                raise TrialError(f"the Python of `{self._root.name}` does not answer: `{self._path}`") from error
        if asked.returncode:
            reason = asked.stderr.strip().rpartition("\n")[2] or f"status {asked.returncode}"
            raise TrialError(f"the Python of `{self._root.name}` does not run: {reason}")
        fields = json.loads(asked.stdout)
        self._cache.write_facts("python", 1, key, fields)
        return bytecode.Python(*fields)

    def _made_files(self, folder: Path) -> list[tuple[Path, str]]:
        """Make the files that differ from those of the root file system."""
        users = _text(self._root.folder, "/etc/passwd")
        lines = [
            line for line in users.splitlines(keepends=True) if not re.match(r"sbx_user1051:|[^:]*:[^:]*:993:", line)
        ]
        contents = {"passwd": "".join(lines) + _USER_LINE}
        if not _text(self._root.folder, "/etc/hosts"):
            contents["hosts"] = "127.0.0.1 localhost\n"
        for name, content in contents.items():
            (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
        return [(folder / name, f"/etc/{name}") for name in contents]


class RootfsSession:
    """See `Session`."""

    def __init__(self, engine: RootfsEngine, mounts: Mounts) -> None:
        """Prepare what every process of it shares."""
        self._engine = engine
        self.places = PLACES if mounts.runtime is not None else PLACES._replace(runtime=None)
        self._made = Folder()
        self._folder = self._made.path
        try:
            folders = [
                (mounts.task, PLACES.task), (_scripts(), PLACES.scripts), (mounts.opt, PLACES.opt),
                (mounts.runtime, "/var/runtime"),
            ]  # fmt: skip
            there = [(path.absolute(), place) for path, place in folders if path is not None]
            compiled = self._folder / "bytecode"
            compiled.mkdir()
            engine.package_bytecode(compiled, there)
            there += [
                (path, f"{bytecode.PREFIX}{place}") for _, place in there if (path := compiled / place[1:]).is_dir()
            ]
            there.append(engine.library_bytecode())
            self._options = engine.sandbox_options(self._folder, there)
        except BaseException:
            self.close()
            raise

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
        from manylambda.trial.engines import sandbox

        tools = self._engine.tools
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise TrialError(f"this cannot be a variable of the environment: {name!r}")
        variables = [word for name, value in environment.items() for word in ("--setenv", name, value)]
        made = sandbox.Sandbox(
            program=tools.bubblewrap,
            options=[*self._options, *variables],
            command=self._engine.command(["-X", f"pycache_prefix={bytecode.PREFIX}", *arguments]),
            overhead=None if tools.emulator is None else _EMULATOR_BYTES,
        )
        return sandbox.run(made, job=job, limits=limits, hear=hear)

    def close(self) -> None:
        """See `Session`."""
        self._made.close()


def _cover(folder: Path, at: str, own: set[str]) -> list[str]:
    """Give the options that show a folder of the root file system, without the places that are not its own."""
    words: list[str] = []
    for path in sorted(folder.iterdir()):
        place = f"{at}/{path.name}"
        mode = path.lstat().st_mode
        if place in own:
            continue
        if any(one.startswith(f"{place}/") for one in own):
            words += ["--dir", place]
            inner = path if stat.S_ISDIR(mode) else None
            words += _cover(inner, place, own) if inner is not None else []
        elif stat.S_ISLNK(mode):
            words += ["--symlink", str(path.readlink()), place]
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            words += ["--ro-bind", str(path), place]
    return words


def _c_library(root: Path, machine: str) -> str | None:
    """Name the C library of a root file system: `glibc 2.41`."""
    from manylambda import elf

    for folder in ("lib64", "usr/lib64", f"lib/{machine}-linux-gnu", f"usr/lib/{machine}-linux-gnu", "lib", "usr/lib"):
        here = roots.inside(root, f"/{folder}/libc.so.6")
        native = elf.read(here) if here is not None and here.is_file() else None
        if isinstance(native, elf.ElfFile):
            versions = [
                tuple(map(int, name.removeprefix("GLIBC_").split(".")))
                for name in native.version_definitions
                if re.fullmatch(r"GLIBC_\d+(\.\d+)+", name)
            ]
            return "glibc " + ".".join(map(str, max(versions))) if versions else None
    if any((root / "lib").glob("ld-musl-*")):
        return "musl"
    return None


def _text(root: Path, path: str) -> str:
    here = roots.inside(root, path)
    try:
        return "" if here is None else here.read_text(encoding="utf-8", errors="surrogateescape")[: 1 << 20]
    except OSError:
        return ""


def _scripts() -> Path:
    return Path(__file__).parent.parent / "inside"


def _machine_here() -> str:
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def _is_static(path: Path) -> bool:
    from manylambda import elf

    native = elf.read(path.resolve())
    return isinstance(native, elf.ElfFile) and native.interpreter is None


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return process.ask(command, seconds=60, environment={})
