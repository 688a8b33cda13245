"""The hosts a package is built on: this interpreter under every condition, other interpreters, Windows.

`tools/pythons.py` gets the others into a folder (`build/hosts`, or what MANYLAMBDA_HOSTS names); each is described
there by a `host.json`. A host that is missing says so and what would bring it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import manylambda

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE: Final = Path(manylambda.__file__).parent.parent
FOLDER: Final = Path(
    os.environ.get("MANYLAMBDA_HOSTS", Path(__file__).parent.parent.parent / "build" / "hosts")
).resolve()

TARGETS: Final = ("python3.13-arm64", "python3.13-x86_64")


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What is asked of a host. `work` holds all the other paths."""

    work: Path
    project: Path
    output: Path
    cache: Path
    arguments: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One process."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    umask: int = -1


class Runner(Protocol):
    """A way to run `manylambda`."""

    def __call__(self, build: Build) -> Command:
        """Give the process that makes this build."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """One condition that must not change a byte."""

    name: str
    run: Runner
    missing: str | None = None
    """Why it cannot be had here, and what would bring it."""
    optional: bool = False
    """Missing is no error even in CI: nothing that CI can install brings it."""
    folder: str = "project"
    """Where the project lies, below the working folder."""
    stamp: int | None = None
    """Seconds since 1970 that all project files are dated."""
    targets: Sequence[str] = TARGETS
    warm: bool = False
    """Build twice with one cache; the second counts."""


def _arguments(build: Build) -> list[str]:
    return ["build", str(build.project), "-o", str(build.output), *build.arguments]


def _environment(build: Build, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(build.work),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "MANYLAMBDA_CACHE_DIR": str(build.cache),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """This interpreter, with another environment."""

    environment: Mapping[str, str] | None = None
    options: Sequence[str] = ()
    umask: int = -1
    before: Sequence[str] = ()

    def __call__(self, build: Build) -> Command:
        """See `Runner`."""
        return Command(
            argv=(*self.before, sys.executable, *self.options, "-m", "manylambda", *_arguments(build)),
            environment=_environment(build, **(self.environment or {})),
            umask=self.umask,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class InLocale:
    """This interpreter in a locale that few machines have: it is compiled for the occasion."""

    language: str
    charset: str

    def __call__(self, build: Build) -> Command:
        """See `Runner`."""
        locales = build.work / "locales"
        name = f"{self.language}.{self.charset}"
        if not locales.exists():
            locales.mkdir()
            program = ["localedef", "--no-archive", "-i", self.language, "-f", self.charset, str(locales / name)]
            subprocess.run(program, check=True, capture_output=True)
        return Here(environment={"LOCPATH": str(locales), "LC_ALL": name, "LANG": name})(build)


def _nobody(build: Build) -> Command:
    """Run as another user, with no name and no home, on a machine of another name."""
    command = Here(environment={"HOME": "/nonexistent", "USER": "nobody"})(build)
    sandbox = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--unshare-user", "--uid", "65534", "--gid", "65534"]
    sandbox += ["--unshare-uts", "--hostname", "elsewhere"]
    return Command(argv=(*sandbox, *command.argv), environment=command.environment)


def _read_only(build: Build) -> Command:
    """Let nothing be written but the output and the cache."""
    command = Here()(build)
    build.output.mkdir(parents=True, exist_ok=True)
    build.cache.mkdir(parents=True, exist_ok=True)
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/tmp"]
    for folder, mode in ((build.work, "--ro-bind"), (build.output, "--bind"), (build.cache, "--bind")):
        sandbox += [mode, str(folder), str(folder)]
    return Command(argv=(*sandbox, *_visible(), *command.argv), environment=command.environment)


def _visible() -> list[str]:
    """Show this interpreter and the source again, should they lie below `/tmp`."""
    shown = [path for path in {sys.prefix, sys.base_prefix, str(SOURCE)} if path.startswith("/tmp/")]
    return [word for path in sorted(shown) for word in ("--ro-bind", path, path)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """Another interpreter of this machine, with our dependencies in a folder."""

    python: str
    packages: str

    def __call__(self, build: Build) -> Command:
        """See `Runner`."""
        path = os.pathsep.join((self.packages, str(SOURCE)))
        return Command(
            argv=(self.python, "-m", "manylambda", *_arguments(build)),
            environment=_environment(build, PYTHONPATH=path),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """An interpreter of another Linux, in a sandbox that has nothing of this one but the network."""

    root: str
    python: str
    packages: str

    def __call__(self, build: Build) -> Command:
        """See `Runner`."""
        environment = _environment(build, PYTHONPATH=f"{self.packages}:{SOURCE}") | {"PATH": "/usr/bin"}
        sandbox = ["bwrap", "--ro-bind", f"{self.root}/usr", "/usr", "--dev", "/dev", "--proc", "/proc"]
        sandbox += [word for name in ("bin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")]
        sandbox += ["--tmpfs", "/tmp", "--unshare-all", "--share-net", "--die-with-parent"]
        for folder, mode in ((build.work, "--bind"), (self.packages, "--ro-bind"), (str(SOURCE), "--ro-bind")):
            sandbox += [mode, str(folder), str(folder)]
        return Command(
            argv=(*sandbox, self.python, "-m", "manylambda", *_arguments(build)),
            environment=environment,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Windows CPython, run by Wine; it sees this machine's root as drive Z."""

    python: str

    def __call__(self, build: Build) -> Command:
        """See `Runner`."""
        seen = Build(
            work=build.work,
            project=drive(build.project),
            output=drive(build.output),
            cache=drive(build.cache),
            arguments=build.arguments,
        )
        prefix = Path(self.python).parent.parent / "prefix"
        environment = _environment(seen, WINEPREFIX=str(prefix), WINEDEBUG="-all", PYTHONUTF8="0")
        return Command(argv=("wine", self.python, "-m", "manylambda", *_arguments(seen)), environment=environment)


def drive(path: Path) -> Path:
    """Give where Wine's Windows sees a path of this machine."""
    return Path("Z:" + str(path).replace("/", "\\"))


@cache
def _described(name: str) -> Mapping[str, Any] | None:
    note = FOLDER / name / "host.json"
    return json.loads(note.read_text(encoding="utf-8")) if note.exists() else None


def _downloaded(name: str, *, optional: bool = False) -> Host:
    host = _described(name)
    if host is None:
        missing = f"`{name}` is not there: run `python tools/pythons.py {name}`"
        return Host(name=name, run=Here(), missing=missing, optional=optional)
    program = {"root": "bwrap", "windows": "wine"}.get(host["kind"])
    missing_program = _program(program) if program else None
    run: Runner
    match host["kind"]:
        case "root":
            run = Root(root=host["root"], python=host["python"], packages=host["packages"])
        case "windows":
            run = Windows(python=host["python"])
        case _:
            run = Local(python=host["python"], packages=host["packages"])
    return Host(name=name, run=run, missing=missing_program)


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"`{name}` is not installed"


def _here(name: str, **environment: str) -> Host:
    return Host(name=name, run=Here(environment=environment))


def _clock(name: str, moment: str) -> Host:
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
    environment = {"LD_PRELOAD": str(library), "FAKETIME": f"@{moment}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return Host(
        name=name, run=Here(environment=environment), missing=None if library else "`libfaketime` is not installed"
    )


def all_hosts() -> list[Host]:
    """Every host, those that are missing included."""
    has_sources = shutil.which("localedef") and Path("/usr/share/i18n/locales/tr_TR").exists()
    no_locale = None if has_sources else "the `locales` package is not installed"
    plain = Here()
    return [
        Host(name="the same again", run=plain),
        Host(name="warm cache", run=plain, warm=True),
        Host(name="targets in another order", run=plain, targets=TARGETS[::-1]),
        Host(name="another folder", run=plain, folder="ein Ordner/größer (1)/çà"),
        Host(name="files from 1975", run=plain, stamp=157_766_400),
        Host(name="files from 2150", run=plain, stamp=5_680_281_600),
        *(Host(name=f"umask {mask:03o}", run=Here(umask=mask)) for mask in (0o000, 0o027, 0o077)),
        _here("zone far ahead", TZ="Pacific/Kiritimati"),
        _here("zone behind by a half hour", TZ="America/St_Johns"),
        _here("SOURCE_DATE_EPOCH", SOURCE_DATE_EPOCH="1700000000"),
        _clock("clock in 1999", "1999-12-31 23:59:50"),
        _clock("clock in 2059", "2059-02-28 12:00:00"),
        _here("locale C without UTF-8", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
        _here("locale POSIX", LC_ALL="POSIX"),
        # Upper-case `i` is not `I` there; and there, file names are not UTF-8.
        Host(name="locale tr_TR", run=InLocale(language="tr_TR", charset="UTF-8"), missing=no_locale),
        Host(name="locale in Latin-1", run=InLocale(language="de_DE", charset="ISO-8859-1"), missing=no_locale),
        _here("hash seed 0", PYTHONHASHSEED="0"),
        _here("hash seed 4711", PYTHONHASHSEED="4711"),
        Host(name="optimised", run=Here(options=("-OO",))),
        Host(name="another user", run=_nobody, missing=_program("bwrap")),
        Host(name="read-only project", run=_read_only, missing=_program("bwrap")),
        _downloaded("zlib-ng"),
        _downloaded("local-3.11", optional=True),
        _downloaded("local-3.12", optional=True),
        _downloaded("local-3.13", optional=True),
        _downloaded("debian-3.13"),
        _downloaded("debian-3.14"),
        _downloaded("debian-3.15"),
        _downloaded("windows-3.13"),
    ]
