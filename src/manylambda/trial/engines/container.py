"""An execution environment that podman, Docker, finch or nerdctl makes of a container image.

The image is that of the runtime, or one that the user names; what it was made for is checked, because podman runs an
image of another machine without a word. Each process has a container of its own, which is gone when the process is: its
time runs out inside (`inside/first.py`), so that it ends too when nobody is left to end it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.host import containers
from manylambda.host.containers import find_program
from manylambda.host.model import Unusable
from manylambda.progress import SILENT
from manylambda.trial.engines import process
from manylambda.trial.model import OF_THE_IMAGE, PLACES, TEMPORARY_BYTES, USER, Completed, Places, Proof

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.host.containers import PresentImage, Program
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Limits, Mounts

_START_SECONDS: Final = 30.0
"""What starting and removing a container may take, beside the time of the process in it."""
_IDENTITY: Final = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "program": sys.executable,
    "version": platform.python_version(),
    "minor": sys.version_info[:2],
    "machine": platform.machine(),
    "implementation": platform.python_implementation(),
    "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "libc": " ".join(platform.libc_ver()),
    "runtime": os.path.exists("/var/runtime/bootstrap"),
}))
"""


class Image(NamedTuple):
    """An image that is present, and fits the target."""

    reference: str
    """As it was asked for."""
    identity: str
    """What is run: the id of its configuration, which no pull changes below us."""
    digest: str | None
    """Of its manifest, when it came from a registry: `sha256:...`."""
    python: str
    """The program of the target's minor version: a name on the image's path, or a path."""
    version: str
    libc: str
    has_runtime: bool
    """Whether it is an image of Lambda, with the runtime client and boto3."""

    @property
    def label(self) -> str:
        """`public.ecr.aws/lambda/python:3.13-arm64@sha256:...`."""
        if self.digest is not None:
            return f"{self.reference.partition('@')[0]}@{self.digest}"
        return f"{self.reference} (image {self.identity.removeprefix('sha256:')[:12]})"


class PullFailed(TrialError):
    """The image is not here and could not be had."""

    code = "image-missing"


def default_reference(target: Target) -> str:
    """Give the base image of the runtime for its architecture: `public.ecr.aws/lambda/python:3.13-arm64`."""
    # Of a preview only the tag for all architectures is known.
    return target.image if target.status == "preview" else f"{target.image}-{target.architecture.value}"


class ContainerEngine:
    """See `Engine`; `prepare` makes one."""

    name = "container"

    def __init__(self, program: Program, image: Image, target: Target, *, cache: Cache, is_bound: bool) -> None:
        self.program = program
        self.image = image
        self._target = target
        self._cache = cache
        self._is_bound = is_bound

    @property
    def label(self) -> str:
        """See `Engine`."""
        return f"{self.program.name} {self.program.version}, {self.image.label}"

    @property
    def proof(self) -> Proof:
        """See `Engine`."""
        emulated = "" if self.program.architecture == self._target.architecture.oci else ", emulated"
        proved = f"with CPython {self.image.version} on {self._target.machine}{emulated}, in a container"
        if self.image.reference.partition("@")[0] == default_reference(self._target):
            left = OF_THE_IMAGE
        else:
            libc = self.image.libc or "unknown"
            left = f"the image is not the runtime's, and its C library is {libc}: only the audit judges that"
        if not self._is_bound:
            left += f"; {self.program.name} cannot bound memory and processes here"
        return Proof(proved, left)

    @property
    def wants_runtime(self) -> bool:
        """See `Engine`."""
        return not self.image.has_runtime

    def runs_native(self) -> bool:
        """See `Engine`: the machine was checked, and a Python of it was run."""
        return True

    def open(self, mounts: Mounts) -> ContainerSession:
        """See `Engine`."""
        scripts = _scripts(self._cache)
        folders = [(mounts.task, PLACES.task), (scripts, PLACES.scripts)]
        if mounts.opt is not None:
            folders.append((mounts.opt, PLACES.opt))
        if mounts.runtime is not None:
            folders.append((mounts.runtime, "/var/runtime"))
        for folder, _ in folders:
            if os.name == "posix" and not folder.stat().st_mode & 0o005 == 0o005:
                raise TrialError(
                    f"`{folder}` cannot be read by the user that a function runs as", hint=f"chmod 755 {folder}"
                )
        places = PLACES if mounts.runtime is not None else PLACES._replace(runtime=None)
        machine = self._target.architecture.oci
        return ContainerSession(self.program, self.image, machine, folders, places, is_bound=self._is_bound)


class ContainerSession:
    """See `Session`."""

    def __init__(
        self,
        program: Program,
        image: Image,
        machine: str,
        folders: Sequence[tuple[Path, str]],
        places: Places,
        *,
        is_bound: bool,
    ) -> None:
        self.places = places
        self._program = program
        self._image = image
        self._machine = machine
        self._folders = folders
        self._is_bound = is_bound

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
        mark, name = process.new_mark(), f"manylambda-{secrets.token_hex(8)}"
        order = process.Order(seconds=limits.seconds, files=limits.files, alone=1)
        if not self._is_bound:
            order = order._replace(memory=limits.memory, processes=limits.processes)
        inside = process.first(order, mark, python=self._image.python, scripts=self.places.scripts, arguments=arguments)
        command = _run_command(
            self._program,
            self._image.identity,
            inside,
            machine=self._machine,
            name=name,
            folders=self._folders,
            environment=environment,
            limits=limits if self._is_bound else None,
        )
        # podman's monitor leaves a file in its working folder when memory is out.
        with tempfile.TemporaryDirectory(prefix="manylambda-trial-") as folder:
            completed = process.run(
                command,
                job=job,
                environment=containers.client_environment(),
                seconds=limits.seconds + _START_SECONDS,
                hear=hear,
                mark=mark,
                kill=lambda: containers.remove(self._program, name),
                folder=folder,
            )
        if completed.status in {125, 126} and completed.peak_memory is None and not completed.timed_out:
            raise TrialError(f"{self._program.name} cannot run the container: {containers.last_line(completed.log)}")
        # How it ended was told from inside.
        return completed._replace(log=containers.without_lost(completed.log))

    def close(self) -> None:
        """See `Session`: each container went with its process."""


def prepare(
    target: Target,
    *,
    reference: str | None = None,
    program: Program | None = None,
    offline: bool = False,
    cache: Cache,
    progress: Progress = SILENT,
) -> ContainerEngine | Unusable:
    """Give an engine whose image is here and fits, pulling it when it is not.

    Unusable when there is no program, `PullFailed` when the image cannot be had, TrialError with a hint when it is for
    another machine, has no Python of the minor version, or this host cannot run its machine.
    """
    found = program or find_program()
    if isinstance(found, Unusable):
        return found
    reference = reference or default_reference(target)
    present = containers.inspect_image(found, reference)
    if present is None or not _fits(present, target):
        if offline:
            what = "is not here" if present is None else f"is for {present.machine} here"
            raise PullFailed(
                f"the image `{reference}` {what}, and `--offline` forbids pulling it",
                hint=f"{found.name} pull --platform linux/{target.architecture.oci} {reference}",
            )
        if present is None or not reference.startswith("localhost/"):
            failed = containers.pull_image(found, reference, target.architecture.oci, progress=progress)
            if failed is not None and failed.is_late:
                raise PullFailed(failed.reason)
            # What is here, and was not replaced, is told below.
            if failed is not None and present is None:
                raise PullFailed(failed.reason, hint="name an image that is here with `--image`, or use another engine")
            present = containers.inspect_image(found, reference)
    if present is None:
        raise PullFailed(f"`{found.name}` pulled `{reference}`, and does not know it")
    if not _fits(present, target):
        raise TrialError(
            f"the image `{reference}` is for {present.machine}, and {target} needs linux/{target.architecture.oci}",
            hint="name an image of that machine with `--image`, or try the target of this one",
        )

    key = f"{found.name} {found.version} {present.identity} {target}"
    known = cache.read_facts("trial-images", 1, key)
    if not isinstance(known, dict):
        known = _look(found, present.identity, reference, target)
        cache.write_facts("trial-images", 1, key, known)
    image = Image(
        reference,
        present.identity,
        present.digest,
        known["program"],
        known["version"],
        known["libc"],
        known["runtime"],
    )
    return ContainerEngine(found, image, target, cache=cache, is_bound=known["bound"])


def _fits(present: PresentImage, target: Target) -> bool:
    return present.machine == f"linux/{target.architecture.oci}"


def _look(program: Program, identity: str, reference: str, target: Target) -> dict[str, Any]:
    """Find the Python of the image by running it, which also shows that its machine runs here, and within bounds."""
    minor = "python{}.{}".format(*target.python)
    is_bound, others, failure = True, [], ""
    for python in (f"/var/lang/bin/{minor}", minor, "python3", "python"):
        answer = _try(program, identity, python, target, is_bound=is_bound)
        if answer.returncode and is_bound and _is_about_bounds(answer):
            is_bound = False
            answer = _try(program, identity, python, target, is_bound=is_bound)
        if answer.returncode:
            if containers.is_foreign(answer):
                raise TrialError(
                    f"this host cannot run {target.machine} programs: `{reference}`",
                    hint=containers.emulation_hint(program, target.architecture.oci),
                )
            if not containers.is_absent(answer):
                failure = containers.failure(answer)
            continue
        try:
            found = json.loads(answer.stdout)
            if (tuple(found["minor"]), found["implementation"], found["threads"]) == (target.python, "CPython", False):
                if found["machine"] != target.machine:
                    raise TrialError(
                        f"the Python of `{reference}` is of {found['machine']}, and {target} needs {target.machine}"
                    )
                return {
                    "program": str(found["program"] or python),
                    "version": str(found["version"]),
                    "libc": str(found["libc"]),
                    "runtime": found["runtime"] is True,
                    "bound": is_bound,
                }
            others.append(f"{found['implementation']} {found['version']}")
        except (ValueError, KeyError, TypeError):
            continue
    if failure and not others:
        raise TrialError(f"`{program.name}` cannot run `{reference}`: {failure}")
    what = f"has {', '.join(dict.fromkeys(others))}" if others else "has no Python on its path"
    raise TrialError(
        f"the image `{reference}` {what}, and {target} needs CPython {minor.removeprefix('python')}",
        hint=f"name an image with `{minor}` on its path",
    )


def _try(
    program: Program, identity: str, python: str, target: Target, *, is_bound: bool
) -> subprocess.CompletedProcess[str]:
    from manylambda.trial.model import Limits

    name = f"manylambda-{secrets.token_hex(8)}"
    command = _run_command(
        program,
        identity,
        [python, "-I", "-S", "-c", _IDENTITY],
        machine=target.architecture.oci,
        name=name,
        folders=(),
        environment={},
        limits=Limits() if is_bound else None,
    )
    try:
        return containers.run(command, seconds=60)
    except subprocess.TimeoutExpired:
        containers.remove(program, name)
        raise TrialError(f"`{program.name}` does not start a container in 60 s") from None


def _is_about_bounds(answer: subprocess.CompletedProcess[str]) -> bool:
    text = answer.stderr.lower()
    return any(word in text for word in ("cgroup", "memory", "pids", "resource limit"))


def _run_command(
    program: Program,
    identity: str,
    inside: Sequence[str],
    *,
    machine: str,
    name: str,
    folders: Sequence[tuple[Path, str]],
    environment: Mapping[str, str],
    limits: Limits | None,
) -> list[str]:
    command = [program.path, "run", "--rm", "--interactive", "--name", name, *containers.confinement(program, machine)]
    command += ["--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={TEMPORARY_BYTES}"]  # noqa: S108
    command += ["--user", ":".join(USER)]
    if limits is not None:
        command += [f"--memory={limits.memory}", f"--memory-swap={limits.memory}", f"--pids-limit={limits.processes}"]
    if program.is_podman:
        # Lambda has no shared memory: what needs it must fail here too.
        command += ["--tmpfs", "/dev/shm:ro,size=4k"]  # noqa: S108
    for folder, place in folders:
        command += containers.mount(folder, place)
    for key, value in environment.items():
        command += ["-e", f"{key}={value}"]
    workdir = ["--workdir", folders[0][1]] if folders else ["--workdir", "/"]
    return [*command, *workdir, "--entrypoint", inside[0], identity, *inside[1:]]


def _scripts(cache: Cache) -> Path:
    """Copy what runs inside to the cache: where manylambda is installed, a container's machine may see nothing.

    Docker Desktop and finch share the home folder with it, not those of a Python, which may be closed to others too.
    """
    import hashlib
    from importlib.resources import files

    sources = {
        one.name: one.read_bytes() for one in files("manylambda.trial.inside").iterdir() if one.name.endswith(".py")
    }
    digest = hashlib.sha256()
    for key in sorted(sources):
        digest.update(key.encode() + b"\0" + str(len(sources[key])).encode() + b"\0" + sources[key])
    folder = cache.base / "trial" / f"scripts-{digest.hexdigest()[:16]}"
    if all(_holds(folder / key, content) for key, content in sources.items()):
        cache.use(folder)
        return folder
    with cache.writing("trial"):
        beside = cache.incoming(f"scripts-{secrets.token_hex(4)}")
        beside.mkdir()
        for key, content in sources.items():
            (beside / key).write_bytes(content)
            (beside / key).chmod(0o644)
        beside.chmod(0o755)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        try:
            beside.replace(folder)
        except OSError:
            # Another process was quicker with the same bytes.
            shutil.rmtree(beside, ignore_errors=True)
            if not folder.is_dir():
                raise
    return folder


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
