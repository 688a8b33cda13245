"""Compiles in a container: with the Python, the compilers and the libraries of an image that is like the runtime.

The image is SAM's build image of the runtime, or one that the user names. What a build may use comes from there; its
build requirements are chosen on this host, as wheels that the image loads. Each hook has a container of its own,
without network and without anything of this host but the build's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import FetchError, NotCached, PackagingError
from manylambda.host import containers, folders
from manylambda.host.model import Unusable
from manylambda.progress import SILENT
from manylambda.sdists import isolation, requirements
from manylambda.sdists.isolation import MOST_SECONDS, PLACE
from manylambda.sdists.workshop import CONSTANT, call_backend
from manylambda.target import GlibcVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from manylambda.fetch import Cache
    from manylambda.host.containers import PresentImage, Program
    from manylambda.progress import Progress
    from manylambda.sdists.isolation import Outcome
    from manylambda.sdists.model import BuildSettings
    from manylambda.sdists.workshop import Job
    from manylambda.target import Target

_READ: Final = ("tools", "packages")
_WRITTEN: Final = ("source", "work", "out", "hook")
_ASK_SECONDS: Final = 60
_KIND: Final = "build-images"
_IDENTITY: Final = """
import json, os, platform, shutil, sys, sysconfig
try:
    glibc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, ValueError, OSError):
    glibc = ""
try:
    open(sys.argv[1], "x").close()
    writes = True
except OSError:
    writes = False
print(json.dumps({
    "program": sys.executable,
    "version": platform.python_version(),
    "minor": sys.version_info[:2],
    "machine": platform.machine(),
    "implementation": platform.python_implementation(),
    "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "glibc": glibc,
    "headers": os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "compiler": any(map(shutil.which, ("cc", "gcc", "clang"))),
    "writes": writes,
}))
"""


class Image(NamedTuple):
    """An image that is present, and builds for the target."""

    program: Program
    reference: str
    """As it was asked for."""
    identity: str
    """What is run: the id of its configuration, which no pull changes below us."""
    architecture: str
    """`amd64`, `arm64`."""
    python: str
    """The path of its CPython of the target's minor version."""
    system: requirements.System
    user: str
    """As whom a container runs so that what it writes is ours."""

    @property
    def label(self) -> str:
        """`podman, public.ecr.aws/sam/build-python3.13:latest-arm64`."""
        return f"{self.program.name}, {self.reference}"

    @property
    def decisive(self) -> str:
        """All of it that decides what is made."""
        return _decisive(self.identity)


def default_reference(target: Target) -> str:
    """Give SAM's build image of the runtime: `public.ecr.aws/sam/build-python3.13:latest-arm64`."""
    # The tag that SAM itself takes (1.170: `lambda_build_container.py`); plain `latest` is for x86_64.
    return f"public.ecr.aws/sam/build-{target.runtime}:latest-{target.architecture.value}"


def identity(settings: BuildSettings, target: Target) -> str | None:
    """Give all of the image that decides what is made; None when it is not here."""
    found = containers.find_program()
    if isinstance(found, Unusable):
        return None
    present = containers.inspect_image(found, settings.image or default_reference(target))
    return _decisive(present.identity) if present is not None and _fits(present, target) else None


def _decisive(image: str) -> str:
    return f"container {image.removeprefix('sha256:')}"  # as Docker has it, and podman not


def build(job: Job, image: Image, room: Path) -> Path:
    """Give the wheel. Raises `BuildFailed`; `PackagingError` and NotCached for its requirements."""
    with shared(job.cache, room) as place:
        for name in (*_READ, *_WRITTEN, "work/home", "work/tmp"):
            (place / name).mkdir(parents=True, exist_ok=True)
        copy = job.source.copy(place / "source")
        program = files("manylambda.sdists.inside") / "begin.py"
        (place / "tools" / "begin.py").write_text(program.read_text(encoding="utf-8"), encoding="utf-8")

        def install(wanted: Sequence[str]) -> None:
            name, scratch = job.source.name, place / "work"
            locked = requirements.resolve(
                name,
                wanted,
                pinned=job.pinned,
                constraints=job.settings.constraints,
                python=image.system,
                scratch=scratch,
                options=job.options,
            )
            requirements.place(
                name, locked, place / "packages", system=image.system, scratch=scratch, options=job.options
            )

        raw = call_backend(
            job,
            place,
            copy.folder,
            Container(image, place, git=copy.git),
            python=f"{PLACE}/env/bin/python",
            environment=_environment(job),
            settings={},
            install=install,
        )
        return raw if place == room else Path(shutil.copy(raw, room))


def _environment(job: Job) -> dict[str, str]:
    return {
        **CONSTANT,
        "HOME": f"{PLACE}/work/home",
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), f"{PLACE}/work/tmp"),
        # Who runs it has no name in the image.
        **dict.fromkeys(("USER", "LOGNAME"), "build"),
        # An image's own, such as `/var/runtime`, would come before the build requirements.
        **dict.fromkeys(("PYTHONPATH", "PYTHONHOME"), ""),
        # It may be the superuser there, as whom tar would give files to the one who packed them.
        "TAR_OPTIONS": "--no-same-owner",
        **job.settings.environment.get(job.source.name, {}),
    }


@contextlib.contextmanager
def shared(cache: Cache, room: Path) -> Iterator[Path]:
    """Give a folder that the machine which runs containers sees.

    Elsewhere than on Linux that is a virtual one, and of this host it may see the home folder only.
    """
    if sys.platform == "linux":
        yield room
        return
    with cache.writing("build"):
        base = cache.base / "builds"
        base.mkdir(parents=True, exist_ok=True)
    with folders.folder(str(base)) as place:
        yield place


class Container:
    """See `Isolation`: each run is a container of its own."""

    root = PLACE
    is_closed = True

    def __init__(self, image: Image, room: Path, *, git: Path | None = None) -> None:
        """`git` is a repository that is read."""
        self._image = image
        self._room = room
        self._mounts = [word for name in _READ for word in containers.mount(room / name, f"{PLACE}/{name}")]
        for name in _WRITTEN:
            self._mounts += containers.mount(room / name, f"{PLACE}/{name}", is_writable=True)
        if git is not None and os.name == "posix":  # elsewhere its path is none of a container
            self._mounts += containers.mount(git, str(git))

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
        hook = self._room / "hook"
        _hand_over(Path(answer), hook)
        name = f"manylambda-{secrets.token_hex(8)}"
        # A little less than this host waits, so that it is told from inside.
        inside = [f"{PLACE}/tools/begin.py", str(MOST_SECONDS - 30), *command]
        options = [*self._mounts, "--tmpfs", f"{PLACE}/env:rw,exec,nosuid,nodev,mode=1777"]
        options += ["--workdir", _translated(folder)]
        for key, value in environment.items():
            options += ["-e", f"{key}={_translated(value) if key.startswith('_PYPROJECT_HOOKS_') else value}"]
        words = run_command(self._image.program, self._image.architecture, self._image.user, name, options)
        words += ["--entrypoint", self._image.python, self._image.identity, "-I", "-S", *inside]
        lost = False

        def listen(line: str) -> None:
            nonlocal lost
            if containers.is_lost(line):
                lost = True
            else:
                hear(line)

        try:
            outcome = isolation.run(words, containers.client_environment(), str(self._room), listen, holds_input=True)
        except BaseException:
            containers.remove(self._image.program, name)
            raise
        if outcome.status < 0:  # its client was ended, and not the container
            containers.remove(self._image.program, name)
        if lost:
            # How it ended is seen by what a hook that went well leaves at its end.
            status = 0 if (hook / "output.json").exists() else 1
            log = tuple(line for line in outcome.log if not containers.is_lost(line))
            outcome = outcome._replace(status=status, log=log)
        if outcome.status >= 125:
            reason = containers.last_line("\n".join(outcome.log))
            raise PackagingError(f"{self._image.program.name} cannot run the container: {reason}")
        for file in hook.iterdir():
            shutil.copy(file, answer)
        return outcome

    def answer_place(self, answer: str) -> str:  # noqa: ARG002 - the same for all
        """See `Isolation`."""
        return f"{PLACE}/hook"


def run_command(program: Program, architecture: str, user: str, name: str, options: Sequence[str]) -> list[str]:
    """Give the words that run a container, but for its entry point and image; see `containers.confinement`."""
    return [
        *(program.path, "run", "--rm", "--interactive", "--name", name, "--user", user),
        *containers.confinement(program, architecture),
        *("--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"),  # noqa: S108
        *options,
    ]


def _hand_over(answer: Path, hook: Path) -> None:
    """Give a hook its arguments, in place of those of the one before."""
    for file in hook.iterdir():
        file.unlink()
    for file in answer.iterdir():
        (hook / file.name).write_text(_translated(file.read_text(encoding="utf-8")), encoding="utf-8")


def _translated(text: str) -> str:
    """Give paths of the container back their form, which `pyproject_hooks` makes into those of this host."""
    return text if os.name == "posix" else without_drives(text)


def without_drives(text: str) -> str:
    r"""Give what Windows calls `C:\build\out`, also in JSON, as `/build/out`."""
    found = re.compile(rf'[A-Za-z]:\\+{PLACE[1:]}(?:\\+[^\\"/:*?<>|]+)*')
    return found.sub(lambda match: re.sub(r"\\+", "/", match[0][2:]), text)


# --- the image


def prepare(
    target: Target, settings: BuildSettings, *, cache: Cache, progress: Progress = SILENT, compiles: bool = True
) -> Image:
    """Give the image to build in, pulling it when it is not here; `compiles`: it must have a compiler and headers.

    Raises `PackagingError` when there is no container program, or the image does not build for the target here;
    FetchError and NotCached when it cannot be had.
    """
    found = containers.find_program()
    if isinstance(found, Unusable):
        raise PackagingError(f"there is no container to build in: {found.reason}", hint=found.hint)
    reference = settings.image or default_reference(target)
    present = _present(found, reference, target, offline=settings.offline, progress=progress)
    # Whose files a container writes depends on who asks which engine.
    owner = os.getuid() if hasattr(os, "getuid") else None
    engine = os.environ.get("DOCKER_HOST") or os.environ.get("CONTAINER_HOST")
    key = f"{found.name} {found.version} {engine} {owner} {present.identity} {target.runtime} {target.machine}"
    known = cache.read_facts(_KIND, 2, key)
    if not isinstance(known, dict):
        known = _look(found, present.identity, reference, target, cache)
        cache.write_facts(_KIND, 2, key, known)
    if compiles and known["missing"]:
        raise PackagingError(
            f"the image `{reference}` has no {' and no '.join(known['missing'])}",
            hint=f"name an image with a compiler and the headers of CPython, such as `{default_reference(target)}`",
        )
    glibc = GlibcVersion.parse(known["glibc"])
    return Image(
        program=found,
        reference=reference,
        identity=present.identity,
        architecture=target.architecture.oci,
        python=known["program"],
        system=requirements.System(known["version"], target.machine, glibc),
        user=known["user"],
    )


def _present(program: Program, reference: str, target: Target, *, offline: bool, progress: Progress) -> PresentImage:
    machine = target.architecture.oci
    present = containers.inspect_image(program, reference)
    if present is not None and _fits(present, target):
        return present
    if offline:
        what = "is not here" if present is None else f"is for {present.machine} here"
        raise NotCached(
            f"the image `{reference}` {what}, and `--offline` forbids pulling it",
            hint=f"{program.name} pull --platform linux/{machine} {reference}",
        )
    if present is None or not reference.startswith("localhost/"):
        failed = containers.pull_image(program, reference, machine, progress=progress)
        # What is here, and was not replaced, is told below.
        if failed is not None and (present is None or failed.is_late):
            raise FetchError(failed.reason, hint="name an image that is here with `--image`")
        present = containers.inspect_image(program, reference)
    if present is None:
        raise FetchError(f"`{program.name}` pulled `{reference}`, and does not know it")
    if not _fits(present, target):
        raise PackagingError(
            f"the image `{reference}` is for {present.machine}, and {target} needs linux/{machine}",
            hint="name an image of that machine with `--image`",
        )
    return present


def _fits(present: PresentImage, target: Target) -> bool:
    return present.machine == f"linux/{target.architecture.oci}"


def _look(program: Program, image: str, reference: str, target: Target, cache: Cache) -> dict[str, Any]:
    """Find the Python of the image by running it, and as whom: that shows too that its machine runs here."""
    minor = "python{}.{}".format(*target.python)
    others, failure = [], ""
    for python in (f"/var/lang/bin/{minor}", minor, "python3", "python"):
        for user in _users():
            answer, is_ours = _try(program, image, python, user=user, target=target, cache=cache)
            try:
                found = json.loads(answer.stdout)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                if containers.is_foreign(answer):
                    raise PackagingError(
                        f"this host cannot run {target.machine} programs: `{reference}`",
                        hint=containers.emulation_hint(program, target.architecture.oci),
                    )
                if containers.is_absent(answer):
                    break
                failure = containers.failure(answer)
                continue
            if not is_ours:
                failure = f"a container cannot write to `{cache.root}`, or what it writes is another user's"
                continue
            if (tuple(found["minor"]), found["implementation"], found["threads"]) != (target.python, "CPython", False):
                others.append(f"{found['implementation']} {found['version']}")
                break
            return _checked(found, reference, target, user)
    if failure and not others:
        raise PackagingError(f"`{program.name}` cannot build in `{reference}`: {failure}")
    what = f"has {', '.join(dict.fromkeys(others))}" if others else "has no Python on its path"
    raise PackagingError(
        f"the image `{reference}` {what}, and {target} needs CPython {minor.removeprefix('python')}",
        hint=f"name an image with `{minor}` on its path, its headers and a compiler",
    )


def _users() -> Iterator[str]:
    """Yield as whom to run: as ourselves; and as who is the superuser inside and ourselves outside."""
    # The second for engines without privileges, whose containers have users of their own.
    if hasattr(os, "getuid") and os.getuid() != 0:
        yield f"{os.getuid()}:{os.getgid()}"
    yield "0:0"


def _checked(found: Mapping[str, Any], reference: str, target: Target, user: str) -> dict[str, Any]:
    version = re.fullmatch(r"glibc (\d+\.\d+)", str(found["glibc"]))
    if found["machine"] != target.machine:
        raise PackagingError(
            f"the Python of `{reference}` is of {found['machine']}, and {target} needs {target.machine}"
        )
    if version is None:
        raise PackagingError(
            f"the image `{reference}` has no glibc: what it compiles does not run on {target}",
            hint="name an image of a distribution with glibc, as old as the runtime's or older",
        )
    needed = {"C compiler": found["compiler"], "Python.h": found["headers"]}
    return {
        "program": str(found["program"]),
        "version": str(found["version"]),
        "glibc": version[1],
        "user": user,
        "missing": [what for what, is_there in needed.items() if not is_there],
    }


def _try(
    program: Program, image: str, python: str, *, user: str, target: Target, cache: Cache
) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Ask a Python of the image what it is; and say whether what it wrote to a folder of this host is ours."""
    name = f"manylambda-{secrets.token_hex(8)}"
    with folders.folder() as room, shared(cache, room) as place:
        mounts = containers.mount(place, f"{PLACE}/out", is_writable=True)
        command = run_command(program, target.architecture.oci, user, name, mounts)
        command += ["--entrypoint", python, image, "-I", "-S", "-c", _IDENTITY, f"{PLACE}/out/written"]
        try:
            answer = containers.run(command, seconds=_ASK_SECONDS)
        except subprocess.TimeoutExpired:
            containers.remove(program, name)
            raise PackagingError(f"`{program.name}` does not start a container in {_ASK_SECONDS} s") from None
        written = place / "written"
        is_ours = written.exists() and (not hasattr(os, "getuid") or written.stat().st_uid == os.getuid())
        return answer, is_ours
