"""A container image to build in: Debian 12 with CPython 3.11 and its headers, GCC and glibc 2.36; it has no pip.

It is made like the root file systems of the trial's tests (`trial.hosts`), once, and kept beside them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import filelock

from trial import containers, hosts

PYTHON: Final = "3.11"
ARCHITECTURE: Final = {"amd64": "x86_64", "arm64": "arm64"}[hosts.NATIVE]
MACHINE: Final = {"amd64": "x86_64", "arm64": "aarch64"}[hosts.NATIVE]
NAME: Final = f"localhost/manylambda-build:build-{hosts.NATIVE}"
_PACKAGES: Final = f"python{PYTHON},libpython{PYTHON}-dev,gcc,libc6-dev,dash,zlib1g"
_SUITE: Final = "bookworm"
# Nothing that a build needs, and half of the whole.
_LEFT_OUT: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
_LEFT_OUT_FILES: Final = re.compile(r"lto1|.*-lto-dump-.*|libpython.*\.a|lib[at]san\.so\..*|libc\.a")


@cache
def image() -> str:
    """Give the name of the image, which is made if it must be."""
    hosts.needs("mmdebstrap")
    folder = hosts.FOLDER / f"root-build-{hosts.NATIVE}"
    made = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    hosts.FOLDER.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(hosts.FOLDER / "root-build.lock"):
        note = folder / "made"
        if not note.is_file() or note.read_text(encoding="ascii") != made:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
            extract(folder / "root", _SUITE, _PACKAGES)
            note.write_text(made, encoding="ascii")
    return containers.imported(folder / "root", hosts.NATIVE, NAME, made=made)


def extract(root: Path, suite: str, packages: str) -> None:
    """Make a root file system of a suite of Debian, without what no build needs."""
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={hosts.NATIVE}"),
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            f"--include={packages}",
            *(suite, str(root), hosts.mirror()),
        ],
        check=True,
        capture_output=True,
        timeout=900,
    )
    for name in _LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    for file in root.rglob("*"):
        if _LEFT_OUT_FILES.fullmatch(file.name) and not file.is_dir():
            file.unlink()
    # What the packages' scripts would do, which are not run.
    (root / "usr" / "bin" / "cc").symlink_to("gcc")
