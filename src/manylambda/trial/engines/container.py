"""An execution environment that podman, Docker, finch or nerdctl makes of a container image.

The image is that of the runtime, or one that the user names; what it was made for is checked, because podman runs an
image of another machine without a word. Each process has a container of its own, which is gone when the process is: its
time runs out inside (`inside/first.py`), so that it ends too when nobody is left to end it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.progress import SILENT
from manylambda.trial.engines import process
from manylambda.trial.engines.system import install
from manylambda.trial.model import OF_THE_IMAGE, PLACES, TEMPORARY_BYTES, USER, Completed, Places, Proof, Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Limits, Mounts

PROGRAMS: Final = ("podman", "docker", "finch", "nerdctl")
_ASK_SECONDS: Final = 20.0
_PULL_SECONDS: Final = 1800.0
_START_SECONDS: Final = 30.0
"""What starting and removing a container may take, beside the time of the process in it."""
# Docker's and nerdctl's clients add these of their settings to every container, podman those of this host.
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
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


class Program(NamedTuple):
    """A container program that works: its engine has answered."""

    name: str
    path: str
    version: str
    architecture: str
    """Of the machine that containers run on, as images name it: `amd64`, `arm64`."""

    @property
    def is_podman(self) -> bool:
        """Whether it has podman's options rather than Docker's."""
        return self.name == "podman"


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


def find_program(names: Sequence[str] = PROGRAMS) -> Program | Unusable:
    """Give the first container program whose engine answers: a client without an engine is none."""
    reasons = []
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        found = _ask(name, path)
        if isinstance(found, Program):
            return found
        reasons.append(found)
    if reasons:
        return Unusable("container", "; ".join(reasons), f"start it, or {_get_podman()}")
    return Unusable("container", "no podman, docker, finch or nerdctl on the path", _get_podman())


def _get_podman() -> str:
    command = install("podman")
    return f"install podman: `{command}`" if command else "install podman"


def _ask(name: str, path: str) -> Program | str:
    if name == "podman":
        command = [path, "info", "--format", "{{.Version.Version}} {{.Host.Arch}}"]
    else:
        command = [path, "version", "--format", "{{.Server.Version}} {{.Server.Arch}}"]
        if name in {"finch", "nerdctl"}:
            command = [path, "info", "--format", "{{.ServerVersion}} {{.Architecture}}"]
    try:
        answer = _call(command, seconds=_ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"`{name}` is there, and its engine does not answer in {_ASK_SECONDS:.0f} s"
    except OSError as error:
        return f"`{name}` cannot be started: {error.strerror}"
    words = answer.stdout.split()
    if answer.returncode or len(words) != 2:
        return f"`{name}` is there, but not its engine: {_reason(answer)}"
    return Program(name, path, words[0], _OCI.get(words[1], words[1]))


_OCI: Final = {"x86_64": "amd64", "aarch64": "arm64"}


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
                environment=_client_environment(),
                seconds=limits.seconds + _START_SECONDS,
                hear=hear,
                mark=mark,
                kill=lambda: _remove(self._program, name),
                folder=folder,
            )
        if completed.status in {125, 126} and completed.peak_memory is None and not completed.timed_out:
            raise TrialError(f"{self._program.name} cannot run the container: {_last(completed.log)}")
        return completed

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
    described = _inspect(found, reference)
    if described is None or not _fits(described, target):
        if offline:
            what = "is not here" if described is None else f"is for {described['machine']} here"
            raise PullFailed(
                f"the image `{reference}` {what}, and `--offline` forbids pulling it",
                hint=f"{found.name} pull --platform linux/{target.architecture.oci} {reference}",
            )
        if described is None or not reference.startswith("localhost/"):
            _pull(found, reference, target, progress, is_there=described is not None)
            described = _inspect(found, reference)
    if described is None:
        raise PullFailed(f"`{found.name}` pulled `{reference}`, and does not know it")
    if not _fits(described, target):
        raise TrialError(
            f"the image `{reference}` is for {described['machine']}, "
            f"and {target} needs linux/{target.architecture.oci}",
            hint="name an image of that machine with `--image`, or try the target of this one",
        )

    key = f"{found.name} {found.version} {described['identity']} {target}"
    known = cache.read_facts("trial-images", 1, key)
    if not isinstance(known, dict):
        known = _look(found, described["identity"], reference, target)
        cache.write_facts("trial-images", 1, key, known)
    image = Image(
        reference,
        described["identity"],
        described["digest"],
        known["program"],
        known["version"],
        known["libc"],
        known["runtime"],
    )
    return ContainerEngine(found, image, target, cache=cache, is_bound=known["bound"])


def _inspect(program: Program, reference: str) -> dict[str, Any] | None:
    """Give `identity`, `machine` (`linux/arm64`) and `digest` of an image that is present."""
    answer = _call([program.path, "image", "inspect", reference], seconds=_ASK_SECONDS)
    try:
        (one, *_) = json.loads(answer.stdout)
        identity, machine = one["Id"], f"{one['Os']}/{one['Architecture']}"
        digests = one.get("RepoDigests") or []
    except (ValueError, KeyError, TypeError):
        return None
    named, _, pinned = reference.partition("@")
    repository = named if ":" not in named.rpartition("/")[2] else named.rpartition(":")[0]
    # An image that was only imported or built has a digest that no registry knows.
    own = [digest.rpartition("@")[2] for digest in digests if digest.rpartition("@")[0].endswith(repository)]
    is_local = repository.startswith("localhost/")
    digest = pinned or (own[0] if own and not is_local else None)
    return {"identity": identity, "machine": machine, "digest": digest}


def _fits(described: Mapping[str, Any], target: Target) -> bool:
    return bool(described["machine"] == f"linux/{target.architecture.oci}")


def _pull(program: Program, reference: str, target: Target, progress: Progress, *, is_there: bool) -> None:
    platform_name = f"linux/{target.architecture.oci}"
    command = [program.path, "pull", "--platform", platform_name]
    progress.info(f"pulling `{reference}` with {program.name}")
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    try:
        if is_terminal:
            # The client draws its own progress: Docker's on standard output, which is not ours to write to.
            answer = subprocess.run(
                [*command, reference], check=False, timeout=_PULL_SECONDS, stdin=subprocess.DEVNULL, stdout=2, text=True
            )
            reason = "see above"
        else:
            answer = process.ask([*command, "--quiet", reference], seconds=_PULL_SECONDS)
            # Only what went wrong in the end: `lookup public.ecr.aws: no such host`.
            reason = ": ".join(_reason(answer).split(": ")[-2:])
    except subprocess.TimeoutExpired:
        raise PullFailed(f"pulling `{reference}` took more than {_PULL_SECONDS / 60:.0f} minutes") from None
    if answer.returncode and not is_there:
        raise PullFailed(
            f"`{program.name}` cannot pull `{reference}`: {reason}",
            hint="name an image that is here with `--image`, or use another engine",
        )


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
            if "exec format error" in (answer.stderr + answer.stdout).lower():
                raise TrialError(
                    f"this host cannot run {target.machine} programs: `{reference}`",
                    hint=_emulation_hint(program, target),
                )
            # Of a program that is not there podman's service says only "received 409", so that the others are tried.
            if answer.returncode != 127 and not _is_absent(answer):
                failure = _reason(answer)
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
        return _call(command, seconds=60)
    except subprocess.TimeoutExpired:
        _remove(program, name)
        raise TrialError(f"`{program.name}` does not start a container in 60 s") from None


def _is_about_bounds(answer: subprocess.CompletedProcess[str]) -> bool:
    text = answer.stderr.lower()
    return any(word in text for word in ("cgroup", "memory", "pids", "resource limit"))


def _is_absent(answer: subprocess.CompletedProcess[str]) -> bool:
    text = answer.stderr.lower()
    return ("executable file" in text and "not found" in text) or "no such file or directory" in text


def _emulation_hint(program: Program, target: Target) -> str:
    container = (
        f"`{program.name} run --privileged --rm docker.io/tonistiigi/binfmt --install {target.architecture.oci}`"
    )
    command = install("qemu") if sys.platform == "linux" else None
    # With an emulator that was only now installed, systemd-binfmt or binfmt-support registers it with the kernel.
    return f"let qemu run them: `{command}`, or {container}" if command else f"let qemu run them: {container}"


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
    command = [program.path, "run", "--rm", "--interactive", "--name", name, "--pull=never"]
    command += ["--read-only", "--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={TEMPORARY_BYTES}"]  # noqa: S108
    command += ["--network=none", "--user", ":".join(USER), "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    if limits is not None:
        command += [f"--memory={limits.memory}", f"--memory-swap={limits.memory}", f"--pids-limit={limits.processes}"]
    if program.is_podman:
        # Else podman puts this host's proxies into the container, and makes more folders writable.
        command += ["--http-proxy=false", "--read-only-tmpfs=false", "--log-driver=none"]
        # Lambda has no shared memory: what needs it must fail here too.
        command += ["--tmpfs", "/dev/shm:ro,size=4k"]  # noqa: S108
    else:
        command += [word for proxy in _PROXIES for word in ("-e", proxy, "-e", proxy.lower())]
        command += ["--log-driver=none"]
    if os.path.exists("/sys/fs/selinux/enforce"):  # noqa: PTH110
        # Relabelling (`:z`) would change the user's files.
        command += ["--security-opt=label=disable"]
    for folder, place in folders:
        # The value is a line of CSV.
        source = f"source={folder}".replace('"', '""')
        command += ["--mount", f'type=bind,"{source}",target={place},readonly']
    if machine == "arm64" != program.architecture:
        # As Graviton2, whose programs qemu runs in a quarter of the time: it has no pointer authentication.
        command += ["-e", "QEMU_CPU=neoverse-n1"]
    for key, value in environment.items():
        command += ["-e", f"{key}={value}"]
    workdir = ["--workdir", folders[0][1]] if folders else ["--workdir", "/"]
    return [*command, *workdir, "--entrypoint", inside[0], identity, *inside[1:]]


def _remove(program: Program, name: str) -> None:
    """End a container and remove it, should it still be there."""
    at_once = ["--time", "0"] if program.is_podman else []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _call([program.path, "rm", "--force", *at_once, name], seconds=_START_SECONDS)


def _client_environment() -> dict[str, str]:
    """Give the environment of the client, without what it would hand on."""
    names = {*_PROXIES, *(proxy.lower() for proxy in _PROXIES)}
    return {key: value for key, value in os.environ.items() if key not in names}


def _call(command: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    return process.ask(command, seconds=seconds, environment=_client_environment())


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    return _last(answer.stderr) or f"exit status {answer.returncode}"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Run '")]
    return lines[-1].removeprefix("Error: ").removesuffix(".") if lines else ""


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
    folder = cache.root / "v1" / "trial" / f"scripts-{digest.hexdigest()[:16]}"
    if all(_holds(folder / key, content) for key, content in sources.items()):
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
