"""Container programs that tests use: podman with a store of its own, and Docker's client talking to it.

A Debian with CPython 3.13 (`hosts.root`) stands for the base image of a runtime; it is imported once and kept.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock
import pytest

from manylambda.host.containers import is_lost
from trial import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES: Final = {machine: f"localhost/manylambda-trial:{machine}" for machine in ("amd64", "arm64")}
# Named for where it is: podman refuses a store that was moved or copied there with the checkout.
_PLACE: Final = f"{zlib.crc32(os.fsencode(hosts.FOLDER)):08x}"
_STORE: Final = hosts.FOLDER / f"podman-store-{_PLACE}"
# As short as podman wants it, and always the same for a store, which refuses another: no matter what TMPDIR is.
_RUN: Final = Path("/tmp") / f"manylambda-podman-{_PLACE}"
# Without CAP_SYS_RESOURCE the limits that podman sets by itself cannot be raised, and crun refuses hybrid cgroups.
_SETTINGS: Final = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
_ELF: Final = {
    "arm64": (
        r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        "qemu-aarch64-static",
    ),
}


@cache
def programs() -> Path:
    """Give a folder with a `podman` that works on this machine, and nothing else: the path of a test."""
    hosts.needs("podman", "runc")
    real = shutil.which("podman")
    folder = hosts.FOLDER / "podman-program"
    folder.mkdir(parents=True, exist_ok=True)
    # Each worker of the tests comes here, and another's podman may be reading them.
    _put(folder / "containers.conf", _SETTINGS)
    _put(
        folder / "podman",
        f"#!/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n"
        f'CONTAINERS_CONF="{folder}/containers.conf" exec "{real}" --root "{_STORE}" --runroot "{_RUN}" "$@"\n',
    )
    return folder


def _put(path: Path, text: str) -> None:
    """Write a program or a file of settings at once: nobody sees half of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(0o755)
    beside.replace(path)


def podman(*words: str) -> str:
    """Run that podman; see `manylambda.host.containers.is_lost` for why it may have to be done once more."""
    command: list[str | Path] = [programs() / "podman", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    for _ in range(4):
        if not any(map(is_lost, done.stderr.splitlines())):
            break
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    done.check_returncode()
    return done.stdout.strip()


def late(folder: Path) -> Path:
    """Give a folder with a `podman` that has lost how each container ended, as a real one does on a busy machine."""
    why = "Waiting for container 35ab: container has already been removed"
    lost = f'time="2026-11-28T13:54:30Z" level=error msg="{why}"'
    lines = [
        "#!/bin/sh",
        f"'{programs()}/podman' \"$@\"",
        "status=$?",
        '[ "$1" = run ] || exit $status',
        f"echo '{lost}' >&2",
        "exit 127",
    ]
    folder.mkdir()
    _put(folder / "podman", "\n".join([*lines, ""]))
    return folder


@cache
def image(machine: str) -> str:
    """Give the name of the image of `amd64` or `arm64`, imported if it must be."""
    root = hosts.root(machine)
    return imported(root, machine, IMAGES[machine], made=(root.parent / "made").read_text(encoding="ascii"))


def imported(root: Path, machine: str, name: str, *, made: str) -> str:
    """Make an image of a root file system, and give its name; `made` is another when the file system is."""
    programs()
    with filelock.FileLock(hosts.FOLDER / "podman.lock"):
        note = hosts.FOLDER / f"podman-{name.rpartition(':')[2]}.made"
        before = ""
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
            before = podman("image", "inspect", "--format", "{{.Id}}", name)
            if note.read_text(encoding="ascii") == made:
                return name
        packed = subprocess.Popen(
            ["tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "-c", "."], stdout=subprocess.PIPE
        )
        with packed:
            subprocess.run(
                [programs() / "podman", "import", "--quiet", "--arch", machine, "-", name],
                check=True,
                stdin=packed.stdout,
                capture_output=True,
                timeout=600,
            )
        note.write_text(made, encoding="ascii")
        # The one that had the name before has none now. It alone goes: others without a name may be the steps of a
        # build that another worker is at, which fails without them.
        with contextlib.suppress(subprocess.CalledProcessError):
            if before:
                podman("image", "rm", before)
    return name


def assert_gone() -> None:
    """Hold that the containers of manylambda that are there now end; whoever runs one in them sleeps longer than this.

    Podman removes one a moment after its process has ended. Those of other workers are there as well, and end, too;
    which of them come after this began is no matter.
    """
    left, deadline = _ours(), time.monotonic() + 120
    while left := left & _ours():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _ours() -> set[str]:
    return set(podman("ps", "--all", "--quiet", "--filter", "name=manylambda-").split())


@contextlib.contextmanager
def emulator(machine: str) -> Iterator[None]:
    """Let the kernel run programs of another machine, for as long as it lasts."""
    if any(_BINFMT.glob(f"qemu-{'aarch64' if machine == 'arm64' else 'x86_64'}*")):
        yield
        return
    if machine not in _ELF or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip(f"needs root to let the kernel run {machine} programs")
    magic, mask, program = _ELF[machine]
    hosts.needs(program)
    mounted = (_BINFMT / "register").exists()
    if not mounted:
        done = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=False)
        if done.returncode:
            pytest.skip("needs a kernel with binfmt_misc")
    name = "manylambda-test"
    (_BINFMT / "register").write_text(f":{name}:M::{magic}:{mask}:{shutil.which(program)}:F", encoding="ascii")
    try:
        yield
    finally:
        (_BINFMT / name).write_text("-1", encoding="ascii")
        if not mounted:
            subprocess.run(["umount", str(_BINFMT)], check=False)


@contextlib.contextmanager
def docker_service(folder: Path) -> Iterator[dict[str, str]]:
    """Serve podman as Docker is served; give the variables by which Docker's client finds it."""
    if shutil.which("docker") is None:
        pytest.skip("needs Docker's client")  # no package of Debian has it alone
    socket = folder / "docker.sock"
    service = subprocess.Popen(
        [programs() / "podman", "system", "service", "--time=0", f"unix://{socket}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        deadline = time.monotonic() + 120
        while not socket.exists():
            assert service.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (folder / "docker").mkdir()
        yield {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(folder / "docker")}
    finally:
        service.kill()
        service.wait()
