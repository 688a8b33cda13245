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
    (folder / "containers.conf").write_text(_SETTINGS, encoding="utf-8")
    beside = folder / f"podman.{os.getpid()}"
    beside.write_text(
        f"#!/bin/sh\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\n"
        f'CONTAINERS_CONF="{folder}/containers.conf" exec "{real}" --root "{_STORE}" --runroot "{_RUN}" "$@"\n',
        encoding="utf-8",
    )
    beside.chmod(0o755)
    beside.replace(folder / "podman")
    return folder


def podman(*words: str) -> str:
    """Run that podman."""
    return subprocess.run(
        [programs() / "podman", *words], check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


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
        with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
            podman("image", "inspect", name)
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
                timeout=120,
            )
        note.write_text(made, encoding="ascii")
        # The one that had the name before has none now.
        podman("image", "prune", "--force")
    return name


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
        deadline = time.monotonic() + 20
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        (folder / "docker").mkdir()
        yield {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(folder / "docker")}
    finally:
        service.kill()
        service.wait()
