"""What this machine has of all that a build, a compilation and a trial use: each line is a probe, none a guess.

Nothing is installed, pulled or unpacked, and no request is made. Every probe has a time limit, and what is broken is
told like anything else.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

# None is lazy: threads that import the parts of a room in different orders would wait for each other.
from manylambda import config
from manylambda._version import __version__
from manylambda.errors import ManylambdaError, NotCached, RequestError
from manylambda.fetch import upkeep
from manylambda.fetch.cache import Cache, remove, unique_name
from manylambda.fetch.credentials import Credentials
from manylambda.host import containers, process
from manylambda.host.interpreters import find_interpreter
from manylambda.host.model import Unusable
from manylambda.host.process import FAILURES
from manylambda.image.credentials import RegistryCredentials
from manylambda.locks.discovery import discover
from manylambda.locks.model import ResolveOptions, SourceKind
from manylambda.locks.program import identify
from manylambda.locks.settings import read_settings
from manylambda.sdists import rust
from manylambda.sdists.launchers import SUFFIX
from manylambda.sdists.toolchain import ZIG, find_zig
from manylambda.target import Architecture, all_targets
from manylambda.trial.engines.choice import prospects
from manylambda.trial.engines.rootfs import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from manylambda.fetch.upkeep import Held
    from manylambda.target import Target
    from manylambda.trial.engines.choice import Prospect

_AT_ONCE: Final = 8
"""Probes: nearly all wait for a program."""
_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")


class State(Enum):
    """How it is with one thing."""

    WORKS = "works"
    ABSENT = "absent"
    """It is not here, and whether it is needed depends on what is done."""
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a probe found."""

    group: str
    """`programs`, `pythons`, `network`, `cache`, `project`."""
    name: str
    state: State
    version: str | None = None
    path: str | None = None
    detail: str | None = None
    """What else there is to say, or what is wrong."""
    hint: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """The engines that could try packages of a target, best first."""

    target: Target
    prospects: tuple[Prospect, ...]

    @property
    def chosen(self) -> Prospect | None:
        """What `trial --engine auto` would take; None where nothing can try the target here."""
        return next((one for one in self.prospects if one.unusable is None), None)

    @property
    def ready(self) -> Prospect | None:
        """What it would take without the network."""
        return next((one for one in self.prospects if one.unusable is None and one.wanted is None), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What this machine has."""

    version: str
    python: str
    """The one that runs us: `CPython 3.12.3`."""
    executable: str
    system: str
    machine: str
    checks: tuple[Check, ...]
    trials: tuple[Trials, ...]
    cache: Path
    held: tuple[Held, ...]


def doctor(project: Path, environment: Mapping[str, str] = os.environ) -> Diagnosis:
    """Probe this machine, and the configuration of a project's folder. Raises RequestError where that is no folder."""
    if not project.is_dir():
        raise RequestError(f"the project is not a folder: `{project}`", hint="name the folder of the function's code")
    cache = Cache.default(environment)
    sysconfig.get_config_vars()  # before Python 3.13 threads must not be the first to ask
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {name: pool.submit(containers.ask, name) for name in containers.PROGRAMS}
        others: list[tuple[str, str, Callable[[], Check]]] = [
            ("programs", "uv", _uv),
            ("programs", "zig", lambda: _zig(cache, environment)),
            ("programs", "rust", lambda: _rust(environment)),
            *(("programs", f"rootfs {one.machine}", lambda one=one: _rootfs(one)) for one in Architecture),
            *(("pythons", f"{major}.{minor}", lambda one=(major, minor): _python(one)) for major, minor in _minors()),
            ("network", "logins of indexes", lambda: _index_logins(project, environment)),
            ("network", "logins of registries", lambda: _registry_logins(environment)),
            ("network", "proxies and certificates", lambda: _network(environment)),
            ("cache", "folder", lambda: _cache(cache)),
            ("project", str(project.resolve()), lambda: _project(project, environment)),
        ]
        waiting = [pool.submit(_checked, group, name, probe) for group, name, probe in others]
        program = _first(asked[name].result() for name in containers.PROGRAMS)
        trials = [pool.submit(_trials, target, program, cache) for target in _targets()]
        held = pool.submit(upkeep.held, cache)
        found = [one.result() for one in waiting]
        return Diagnosis(
            version=__version__,
            python=f"{platform.python_implementation()} {platform.python_version()}",
            executable=sys.executable,
            system=_system(),
            machine=platform.machine(),
            checks=(*found[:3], *(_container(name, asked[name].result()) for name in asked), *found[3:]),
            trials=tuple(one.result() for one in trials),
            cache=cache.root,
            held=held.result(),
        )


def _checked(group: str, name: str, probe: Callable[[], Check]) -> Check:
    """Let a probe that fails be a finding: that is what it looks for."""
    try:
        return probe()
    except ManylambdaError as error:
        return Check(group=group, name=name, state=State.BROKEN, detail=error.message, hint=error.hint)
    except (*FAILURES, ValueError) as error:
        return Check(group=group, name=name, state=State.BROKEN, detail=str(error))


def _first(found: Iterable[containers.Program | str | None]) -> containers.Program | Unusable:
    """As `containers.find_program`, of what was asked already."""
    answers = [one for one in found if one is not None]
    working = next((one for one in answers if isinstance(one, containers.Program)), None)
    if working is not None:
        return working
    reasons = [one for one in answers if isinstance(one, str)]
    return containers.no_program(reasons)


def _container(name: str, found: containers.Program | str | None) -> Check:
    if found is None:
        return Check(group="programs", name=name, state=State.ABSENT)
    if isinstance(found, str):
        return Check(group="programs", name=name, state=State.BROKEN, detail=found, hint="start it")
    return Check(
        group="programs", name=name, state=State.WORKS, version=found.version, path=found.path,
        detail=f"its engine answers: linux/{found.architecture}",
    )  # fmt: skip


def _uv() -> Check:
    found = identify()
    return Check(group="programs", name="uv", state=State.WORKS, version=found.version, path=found.path)


def _zig(cache: Cache, environment: Mapping[str, str]) -> Check:
    try:
        folder = find_zig(cache, ResolveOptions(offline=True, environment=environment))
    except NotCached:
        detail = f"{ZIG} is fetched, once, when a source distribution is compiled"
        return Check(group="programs", name="zig", state=State.ABSENT, detail=detail)
    program = folder / f"zig{SUFFIX}"
    answer = process.ask([str(program), "version"], seconds=20)
    if answer.returncode:
        raise OSError(f"`{program}` does not run: {containers.failure(answer)}")
    version = answer.stdout.strip()
    where = "in the cache" if folder.is_relative_to(cache.root) else "installed beside manylambda"
    return Check(group="programs", name="zig", state=State.WORKS, version=version, path=str(program), detail=where)


def _rust(environment: Mapping[str, str]) -> Check:
    found = rust.identity(environment)
    if found is None:
        detail = "only source distributions with Rust need it"
        return Check(group="programs", name="rust", state=State.ABSENT, detail=detail, hint="https://rustup.rs")
    return Check(group="programs", name="rust", state=State.WORKS, version=found.split()[1])


def _rootfs(architecture: Architecture) -> Check:
    """Look for what runs a root file system of a machine: bubblewrap, and for a foreign one qemu."""
    target = next(one for one in _targets() if one.architecture is architecture)
    name = f"bubblewrap for {architecture.machine}"
    tools = detect(target)
    if isinstance(tools, Unusable):
        is_there = "cannot" in tools.reason
        state = State.BROKEN if is_there else State.ABSENT
        return Check(group="programs", name=name, state=state, detail=tools.reason, hint=tools.hint)
    by = f"with qemu {tools.emulator_version}: `{tools.emulator}`" if tools.emulator else "this machine's own"
    version = ".".join(map(str, tools.version))
    return Check(group="programs", name=name, state=State.WORKS, version=version, path=tools.bubblewrap, detail=by)


def _targets() -> list[Target]:
    return [target for target in all_targets() if target.can_build]


def _minors() -> list[tuple[int, int]]:
    return sorted({target.python for target in _targets()})


def _python(minor: tuple[int, int]) -> Check:
    name = "{}.{}".format(*minor)
    found = find_interpreter(minor)
    if isinstance(found, Unusable):
        state = State.BROKEN if ":" in found.reason else State.ABSENT
        return Check(group="pythons", name=name, state=state, detail=found.reason, hint=found.hint)
    return Check(
        group="pythons", name=name, state=State.WORKS, version=found.version, path=found.program,
        detail=f"{found.system} {found.machine}",
    )  # fmt: skip


def _trials(target: Target, program: containers.Program | Unusable, cache: Cache) -> Trials:
    return Trials(target=target, prospects=prospects(target, program, cache=cache))


def _index_logins(project: Path, environment: Mapping[str, str]) -> Check:
    settings = read_settings(project, environment)
    sources = Credentials.from_settings(environment, settings.index_urls).sources()
    whose = {"uv": "set up for uv", "pip": "set up for pip", "nobody": "PyPI, for nothing is set up"}[settings.owner]
    count = len(settings.indexes) + len(settings.find_links)
    detail = f"{', '.join(sources) or 'none'}; {count} index{'' if count == 1 else 'es'} ({whose})"
    return Check(
        group="network", name="logins of indexes", state=State.WORKS if sources else State.ABSENT,
        detail=detail,
    )  # fmt: skip


def _registry_logins(environment: Mapping[str, str]) -> Check:
    sources = RegistryCredentials(environment).sources()
    return Check(
        group="network", name="logins of registries", state=State.WORKS if sources else State.ABSENT,
        detail=", ".join(sources) or "none",
    )  # fmt: skip


def _network(environment: Mapping[str, str]) -> Check:
    """Name the variables that are set: their values may hold a login."""
    known = {*containers.PROXIES, *(one.lower() for one in containers.PROXIES), *_VARIABLES}
    named = sorted(name for name in known if environment.get(name))
    missing = [name for name in named if name in _VARIABLES and not Path(environment[name]).exists()]
    if missing:
        raise RequestError(f"no such file: {', '.join(f'`{name}`' for name in missing)}")
    return Check(
        group="network", name="proxies and certificates", state=State.WORKS if named else State.ABSENT,
        detail=", ".join(f"`{name}`" for name in named) or "no variable is set",
    )  # fmt: skip


def _cache(cache: Cache) -> Check:
    root = str(cache.root)
    if not cache.base.exists():
        return Check(group="cache", name="folder", state=State.ABSENT, path=root, detail="made when it is needed")
    with cache.writing("a probe"):
        probe = cache.incoming(unique_name())
        probe.write_bytes(b"")
        remove(probe)
    return Check(group="cache", name="folder", state=State.WORKS, path=root)


def _project(project: Path, environment: Mapping[str, str]) -> Check:
    name = str(project.resolve())
    # Any target will do to learn whether there is a configuration, and whether it is right.
    settings = config.load(project, environment, {"targets": [str(_targets()[0])]})
    source = discover(project, requirements=settings.requirements, lock=settings.lock)
    has_sources = source.kind is not SourceKind.NONE
    dependencies = f"dependencies from {source.kind.value}" if has_sources else "no dependencies are written down"
    if settings.file is None:
        detail = f"no configuration of manylambda, {dependencies}"
        return Check(group="project", name=name, state=State.ABSENT, detail=detail)
    settings = config.load(project, environment, {})
    targets = ", ".join(str(target) for target in settings.targets)
    return Check(
        group="project", name=name, state=State.WORKS, path=str(settings.file),
        detail=f"{settings.kind} for {targets}, {dependencies}",
    )  # fmt: skip


def _system() -> str:
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux"
    return f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else f"{platform.system()} {platform.release()}"
