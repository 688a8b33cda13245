"""Make manylambda a single file for one kind of machine: a zipapp that any CPython from 3.11 on runs there.

    python tools/single_file.py [--wheel FILE] [--into dist] [PLATFORM...]      without a platform: this machine's

Native parts (uv's program, a compressor) are for the platform; no host is needed to make the file for another one. They
cannot be run out of a zip, so `shiv` unpacks them, once, below `~/.shiv` (or SHIV_ROOT).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parent.parent
OLDEST: Final = "3.11"
PLATFORMS: Final = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
    "macos-x86_64": "x86_64-apple-darwin",
    "windows-x86_64": "x86_64-pc-windows-msvc",
}
"""As uv names them."""
_EPOCH: Final = "1580601600"  # 2020-02-02, which hatchling dates by, too


def this_machine() -> str:
    """Give the platform of this machine. Raises SystemExit where it is none of ours."""
    system = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    machine = {"aarch64": "arm64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if f"{system}-{machine}" not in PLATFORMS:
        raise SystemExit(f"{system}-{machine} is none of {', '.join(PLATFORMS)}")
    return f"{system}-{machine}"


def make(wheel: Path, name: str, into: Path, scratch: Path) -> Path:
    """Make the file for one platform."""
    from uv import find_uv_bin

    packages = scratch / name
    subprocess.run(
        [
            *(find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--target", packages),
            *("--only-binary", ":all:", "--python-platform", PLATFORMS[name], "--python-version", OLDEST, wheel),
        ],
        check=True,
    )  # fmt: skip
    _clean(packages)
    file = into / f"manylambda-{name}.pyz"
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "shiv", "--site-packages", packages, "--console-script", "manylambda"),
            *("--python", "/usr/bin/env python3", "--reproducible", "--output-file", file),
        ],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
        stdout=subprocess.DEVNULL,
    )
    return file


def _clean(packages: Path) -> None:
    """Leave out what is of this machine, or of one CPython where others have to do without."""
    for script in (packages / "bin").iterdir():
        if script.stem != "uv":
            script.unlink()
    for extension in (*packages.glob("yaml/_yaml.c*"), *packages.glob("_yaml/*.c*")):
        extension.unlink()
    for metadata in packages.glob("*.dist-info"):
        for name in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"):
            (metadata / name).unlink(missing_ok=True)
    for cache in packages.rglob("__pycache__"):
        shutil.rmtree(cache)
    for left in packages.glob(".lock"):
        left.unlink()


def main() -> int:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="the wheel of manylambda; else one is made")
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", metavar="DIR")
    parser.add_argument("platforms", nargs="*", choices=[*PLATFORMS, []], metavar="PLATFORM")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        wheel = options.wheel
        if wheel is None:
            subprocess.run(
                [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch],
                cwd=REPOSITORY,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            (wheel,) = scratch.glob("*.whl")
        for one in options.platforms or [this_machine()]:
            print(make(wheel, one, options.into.absolute(), scratch))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
