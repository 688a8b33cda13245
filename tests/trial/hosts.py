"""Root file systems that tests run in: Debian's CPython 3.13, extracted from its packages by mmdebstrap.

They lie where `tools/pythons.py` puts its hosts (`build/hosts`, or what MANYLAMBDA_HOSTS names), are made when a test
first asks for one, in five seconds, and are kept. Nothing of a package is executed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import filelock
import pytest

FOLDER: Final = Path(
    os.environ.get("MANYLAMBDA_HOSTS", Path(__file__).parent.parent.parent / "build" / "hosts")
).resolve()
PYTHON: Final = "3.13"
_SUITE: Final = "trixie"
_PACKAGES: Final = f"python{PYTHON},libc6,libstdc++6,libgcc-s1,zlib1g,ca-certificates"
_MIRROR: Final = "http://deb.debian.org/debian"

NATIVE: Final = "arm64" if platform.machine() in {"aarch64", "arm64"} else "amd64"
FOREIGN: Final = "amd64" if NATIVE == "arm64" else "arm64"
TARGETS: Final = {"amd64": f"python{PYTHON}-x86_64", "arm64": f"python{PYTHON}-arm64"}


def needs(*programs: str) -> None:
    """Skip where a program is missing; on the CI that is an error."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        if os.environ.get("CI"):
            pytest.fail(f"{missing[0]} is not installed")
        pytest.skip(f"needs {missing[0]}")


@cache
def root(architecture: str) -> Path:
    """Give a root file system with CPython 3.13 for `amd64` or `arm64`; made once for all runs of the tests."""
    needs("mmdebstrap")
    folder = FOLDER / f"root-{PYTHON}-{architecture}"
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(FOLDER / f"root-{architecture}.lock"):
        note = folder / "made"
        if note.is_file() and note.read_text(encoding="ascii") == recipe:
            return folder / "root"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o755)
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={architecture}"),
                f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
                f"--include={_PACKAGES}",
                *(_SUITE, str(folder / "root"), mirror()),
            ],
            check=True,
            capture_output=True,
            timeout=900,
        )
        # What `base-files` makes when it is configured, which runs a script.
        for name in ("bin", "sbin", "lib", "lib64"):
            if (folder / "root" / "usr" / name).is_dir() and not (folder / "root" / name).exists():
                (folder / "root" / name).symlink_to(f"usr/{name}")
        note.write_text(recipe, encoding="ascii")
    return folder / "root"


def mirror() -> str:
    """Give where this machine gets packages of Debian from."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        found = re.search(r"^URIs:\s*(\S+/debian)\s*$", sources.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return _MIRROR
