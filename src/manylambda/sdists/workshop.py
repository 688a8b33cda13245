"""The folder of one build on this host: its source, its build requirements, its tools, and how its backend is run.

source/   the tree, which the build may write to
env/      an environment with the build requirements
tools/    what stands for compilers, with its settings; `programs`, those of this host that a build may use
work/     home, temporary files, caches
out/      the wheel
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from manylambda.errors import PackagingError
from manylambda.sdists import requirements
from manylambda.sdists.backend import Backend, read_build_system
from manylambda.sdists.isolation import PLACE, Bare, Bubblewrap, Seen, bubblewrap, programs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch import Cache
    from manylambda.host.interpreters import Interpreter
    from manylambda.locks.model import ResolveOptions
    from manylambda.progress import Progress
    from manylambda.sdists.isolation import Isolation
    from manylambda.sdists.model import BuildSettings
    from manylambda.sdists.nature import Nature
    from manylambda.sdists.source import Copy
    from manylambda.target import Target

# The same on every host, as far as a backend heeds them. 1980 is the first year a zip can name.
CONSTANT: Final = {
    "SOURCE_DATE_EPOCH": "315532800",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "PYTHONNOUSERSITE": "1",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "PIP_NO_INDEX": "1",
    "NO_COLOR": "1",
}
_WINDOWS: Final = os.name == "nt"
_WRITABLE: Final = ("source", "work", "out")


class Source(Protocol):
    """What is built."""

    name: str
    """Normalised."""
    where: str
    """For a message: the archive's name, or the folder."""
    key: str | None
    """All of it that decides the outcome, hashed; None when that is not in its files."""

    def nature(self) -> Nature:
        """Look at its files."""

    def copy(self, room: Path) -> Copy:
        """Give a tree below `room` that the build may write to."""


class Job(NamedTuple):
    """One build that is to be done."""

    source: Source
    nature: Nature
    target: Target
    settings: BuildSettings
    cache: Cache
    options: ResolveOptions
    """For uv: the user's environment, of which a build sees nothing, and whether it may use the network."""
    progress: Progress
    pinned: tuple[str, ...] = ()
    """Build requirements with their hashes, as a lock has them; a line each."""


class Workshop:
    """Runs one build in a folder."""

    def __init__(self, job: Job, room: Path, python: Interpreter, *, seen: Sequence[Seen] = ()) -> None:
        """Lay out `room`, which is empty; `seen` is what the build is shown of this host besides."""
        self._job = job
        self._room = room
        self._interpreter = python
        for name in (*_WRITABLE, "env", "tools", "work/home", "work/tmp"):
            (room / name).mkdir(parents=True, exist_ok=True)
        self._copy = job.source.copy(room / "source")
        self._isolation = self._isolate(seen)
        self.root = self._isolation.root
        """Where `room` is for the build."""
        self.is_closed = self._isolation.is_closed
        self.python = f"{self.root}/env/Scripts/python.exe" if _WINDOWS else f"{self.root}/env/bin/python"
        """Where its interpreter is for the build."""

    def run(self, environment: Mapping[str, str], *, settings: Mapping[str, Any] | None = None) -> Path:
        """Run the backend with `environment` besides what every build has; give the wheel it made.

        `settings` are told to the backend. Raises `BuildFailed`; `PackagingError` and NotCached for its requirements.
        """
        job, root, name = self._job, self.root, self._job.source.name
        programs(self._room / "tools" / "programs")
        folders = (f"{root}/tools/bin", f"{root}/env/{'Scripts' if _WINDOWS else 'bin'}", f"{root}/tools/programs")
        complete = {
            **CONSTANT,
            "PATH": os.pathsep.join(folders),
            **dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"), f"{root}/work/home"),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), f"{root}/work/tmp"),
            **environment,
            **job.settings.environment.get(name, {}),
        }
        return call_backend(
            job,
            self._room,
            self._copy.folder,
            self._isolation,
            python=self.python,
            environment=complete,
            settings=settings or {},
            install=lambda wanted: self._install(wanted, describes_target="MANYLAMBDA_TARGET" in complete),
        )

    def _install(self, wanted: Sequence[str], *, describes_target: bool) -> None:
        job = self._job
        scratch, environment = self._room / "work", self._room / "env"
        locked = requirements.resolve(
            job.source.name,
            wanted,
            pinned=job.pinned,
            constraints=job.settings.constraints,
            python=self._interpreter,
            scratch=scratch,
            options=job.options,
        )
        requirements.install(
            job.source.name,
            locked,
            environment,
            python=self._interpreter,
            scratch=scratch,
            options=job.options,
            # What the build can only read may be uv's own files.
            link="hardlink" if self.is_closed else "copy",
        )
        if describes_target:
            _describe_target(environment, self._room / "tools" / "cross.py")

    def _isolate(self, seen: Sequence[Seen]) -> Isolation:
        program = bubblewrap()
        if program is None:
            if sys.platform == "linux":
                self._job.progress.warning(
                    f"the build of `{self._job.source.name}` is not kept from the network and from your files: "
                    "there is no bubblewrap that works here"
                )
            return Bare(self._room)
        prefixes = (prefix for prefix in self._interpreter.prefixes if prefix != "/usr")
        shown = [*seen, *(Seen(prefix, prefix) for prefix in prefixes if not prefix.startswith("/usr/"))]
        if self._copy.git is not None:
            shown.append(Seen(str(self._copy.git), str(self._copy.git)))
        if self._job.settings.sysroot is not None:
            (self._room / "sysroot").mkdir()
            shown.append(Seen(str(self._job.settings.sysroot), f"{PLACE}/sysroot"))
        return Bubblewrap(program, self._room, shown, writable=_WRITABLE)


def call_backend(
    job: Job,
    room: Path,
    tree: Path,
    isolation: Isolation,
    *,
    python: str,
    environment: Mapping[str, str],
    settings: Mapping[str, Any],
    install: Callable[[Sequence[str]], None],
) -> Path:
    """Run the hooks of the backend that the source in `tree` names; give the wheel it made.

    `install` provides requirements, and is called with all of them each time. See `Workshop.run` for what is raised.
    """
    name, root = job.source.name, isolation.root
    _write_hook(room / "tools")
    told: dict[str, Any] = {**settings, **job.settings.config_settings.get(name, {})}
    system = read_build_system(tree, name)
    install(system.requires)
    backend = Backend(
        system,
        isolation,
        source=f"{root}/source/{tree.relative_to(room / 'source').as_posix()}",
        python=python,
        environment=environment,
        hear=lambda line: job.progress.detail(f"{name}: {line}"),
    )
    if more := backend.requires(told):
        install([*system.requires, *more])
    filename = backend.wheel(f"{root}/out", told)
    raw = room / "out" / os.path.basename(filename)  # noqa: PTH119 - the build's word, of whatever kind
    if not raw.is_file():
        raise PackagingError(f"the build of `{name}` made no wheel: `{filename}` is not there")
    return raw


def _write_hook(tools: Path) -> None:
    """Put the script that calls a hook where the build finds it."""
    from importlib.resources import files

    script = files("pyproject_hooks") / "_in_process" / "_in_process.py"
    (tools / "hook.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")


def _describe_target(environment: Path, program: Path) -> None:
    """Let every Python of an environment describe the target; see `inside/cross.py`."""
    (site,) = [*environment.glob("lib/python*/site-packages"), *environment.glob("Lib/site-packages")]
    (site / "_manylambda_target.py").write_text(program.read_text(encoding="utf-8"), encoding="utf-8")
    (site / "_manylambda_target.pth").write_text("import _manylambda_target\n", encoding="utf-8")
