"""The container programs of this host: podman, Docker, finch or nerdctl, and the images that they have."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.host import process
from manylambda.host.install import install
from manylambda.host.model import Unusable
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.progress import Progress

PROGRAMS: Final = ("podman", "docker", "finch", "nerdctl")
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Docker's and nerdctl's clients add these of their settings to every container, podman those of this host."""
_ASK_SECONDS: Final = 20.0
_PULL_SECONDS: Final = 1800.0
_REMOVE_SECONDS: Final = 30.0
_MORE_TRIES: Final = 4
_LOST: Final = re.compile(
    r'time="[^"]*" level=error msg="Waiting for container [0-9a-f]+: container has already been removed"'
)
_OCI: Final = {"x86_64": "amd64", "aarch64": "arm64"}


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


class PresentImage(NamedTuple):
    """An image that a program has."""

    identity: str
    """The id of its configuration, which no pull changes."""
    machine: str
    """What it was made for: `linux/arm64`."""
    digest: str | None
    """Of its manifest, when it came from a registry: `sha256:...`."""


class NotPulled(NamedTuple):
    """Why an image could not be had."""

    reason: str
    is_late: bool
    """Whether it took too long, and nobody said no."""


def find_program(names: Sequence[str] = PROGRAMS) -> Program | Unusable:
    """Give the first container program whose engine answers: a client without an engine is none."""
    reasons = []
    for name in names:
        found = ask(name)
        if isinstance(found, Program):
            return found
        if found is not None:
            reasons.append(found)
    return no_program(reasons)


def no_program(reasons: Sequence[str]) -> Unusable:
    """Say that there is none that works, with what each of those that are there has said."""
    if reasons:
        return Unusable("container", "; ".join(reasons), f"start it, or {_get_podman()}")
    return Unusable("container", "no podman, docker, finch or nerdctl on the path", _get_podman())


def _get_podman() -> str:
    command = install("podman")
    return f"install podman: `{command}`" if command else "install podman"


def ask(name: str) -> Program | str | None:
    """Ask one container program: what it is, why it cannot be used, or None where it is not on the path."""
    path = shutil.which(name)
    if path is None:
        return None
    if name == "podman":
        command = [path, "info", "--format", "{{.Version.Version}} {{.Host.Arch}}"]
    else:
        command = [path, "version", "--format", "{{.Server.Version}} {{.Server.Arch}}"]
        if name in {"finch", "nerdctl"}:
            command = [path, "info", "--format", "{{.ServerVersion}} {{.Architecture}}"]
    try:
        answer = call(command, seconds=_ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"`{name}` is there, and its engine does not answer in {_ASK_SECONDS:.0f} s"
    except OSError as error:
        return f"`{name}` cannot be started: {error.strerror}"
    words = answer.stdout.split()
    if answer.returncode or len(words) != 2:
        return f"`{name}` is there, but not its engine: {failure(answer)}"
    return Program(name, path, words[0], _OCI.get(words[1], words[1]))


def inspect_image(program: Program, reference: str) -> PresentImage | None:
    """Give an image as it is present; None when it is not, of whatever machine."""
    answer = call([program.path, "image", "inspect", reference], seconds=_ASK_SECONDS)
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
    return PresentImage(identity, machine, pinned or (own[0] if own and not is_local else None))


def pull_image(program: Program, reference: str, architecture: str, *, progress: Progress = SILENT) -> NotPulled | None:
    """Pull an image for Linux on `amd64` or `arm64`; None when it was, which `inspect_image` then tells of."""
    command = [program.path, "pull", "--platform", f"linux/{architecture}"]
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
            # With this host's proxies, where `call` has none: it is this client that may need them.
            answer = process.ask([*command, "--quiet", reference], seconds=_PULL_SECONDS)
            # Only what went wrong in the end: `lookup public.ecr.aws: no such host`.
            reason = ": ".join(failure(answer).split(": ")[-2:])
    except subprocess.TimeoutExpired:
        return NotPulled(f"pulling `{reference}` took more than {_PULL_SECONDS / 60:.0f} minutes", is_late=True)
    if answer.returncode:
        return NotPulled(f"`{program.name}` cannot pull `{reference}`: {reason}", is_late=False)
    return None


def confinement(program: Program, machine: str) -> list[str]:
    """Give the options of a container that reaches no network and writes to nothing but what it is given.

    `machine` is the image's: `amd64`, `arm64`.
    """
    options = ["--pull=never", "--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    options += ["--log-driver=none"]
    if program.is_podman:
        # Else podman puts this host's proxies into the container, and makes more folders writable.
        options += ["--http-proxy=false", "--read-only-tmpfs=false"]
    else:
        options += [word for proxy in PROXIES for word in ("-e", proxy, "-e", proxy.lower())]
    if os.path.exists("/sys/fs/selinux/enforce"):  # noqa: PTH110
        # Relabelling (`:z`) would change the user's files.
        options += ["--security-opt=label=disable"]
    if machine == "arm64" != program.architecture:
        # As Graviton2, whose programs qemu runs in a quarter of the time: it has no pointer authentication.
        options += ["-e", "QEMU_CPU=neoverse-n1"]
    return options


def mount(folder: Path | str, place: str, *, is_writable: bool = False) -> list[str]:
    """Give the options that show a folder of this host at a place of the container."""
    # The value is a line of CSV.
    source = f"source={folder}".replace('"', '""')
    return ["--mount", f'type=bind,"{source}",target={place}' + ("" if is_writable else ",readonly")]


def remove(program: Program, name: str) -> None:
    """End a container and remove it, should it still be there."""
    at_once = ["--time", "0"] if program.is_podman else []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        call([program.path, "rm", "--force", *at_once, name], seconds=_REMOVE_SECONDS)


def is_absent(answer: subprocess.CompletedProcess[str]) -> bool:
    """Whether a container could not be started because its image does not have the program."""
    # Of a program that is not there podman's service says only "received 409".
    text = answer.stderr.lower()
    return (
        answer.returncode == 127
        or ("executable file" in text and "not found" in text)
        or "no such file or directory" in text
    )


def is_foreign(answer: subprocess.CompletedProcess[str]) -> bool:
    """Whether a container could not be started because this host does not run programs of its machine."""
    return "exec format error" in (answer.stderr + answer.stdout).lower()


def emulation_hint(program: Program, machine: str) -> str:
    """Say how to let this host run programs of `amd64` or `arm64`."""
    container = f"`{program.name} run --privileged --rm docker.io/tonistiigi/binfmt --install {machine}`"
    command = install("qemu") if sys.platform == "linux" else None
    # With an emulator that was only now installed, systemd-binfmt or binfmt-support registers it with the kernel.
    return f"let qemu run them: `{command}`, or {container}" if command else f"let qemu run them: {container}"


def client_environment() -> dict[str, str]:
    """Give the environment of the client, without what it would hand on."""
    names = {*PROXIES, *(proxy.lower() for proxy in PROXIES)}
    return {key: value for key, value in os.environ.items() if key not in names}


def call(command: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a client in `client_environment` and give what it answers; raises as `process.ask` does."""
    return process.ask(command, seconds=seconds, environment=client_environment())


def run(command: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a container to its end as `call` does, and once more when podman lost how it ended."""
    answer = call(command, seconds=seconds)
    for _ in range(_MORE_TRIES):
        if not answer.returncode or not any(map(is_lost, answer.stderr.splitlines())):
            break
        answer = call(command, seconds=seconds)
    return answer


def is_lost(line: str) -> bool:
    """Whether a line is podman's, and says that it came too late to learn how a container ended.

    Whoever runs one with `--rm` races with the process of podman's that removes it, and on a busy machine loses: the
    exit status is 127 then, whatever the container's was (podman's issue 25479).
    """
    return _LOST.fullmatch(line) is not None


def without_lost(text: str) -> str:
    """Give what was written without such lines, which are no part of it."""
    return "".join(line for line in text.splitlines(keepends=True) if not is_lost(line.rstrip("\r\n")))


def failure(answer: subprocess.CompletedProcess[str]) -> str:
    """Give the reason in what a client that failed has said."""
    return last_line(answer.stderr) or f"exit status {answer.returncode}"


def last_line(text: str) -> str:
    """Give the last line of what a client wrote, which is the one with the reason; empty when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Run '")]
    return lines[-1].removeprefix("Error: ").removesuffix(".") if lines else ""
