"""What a runtime brings, from the index: awslambdaric, boto3 and what they need, and Amazon's emulator."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from manylambda.trial.runtime_client import runtime_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.target import Target


def install(requirements: Sequence[str], target: Target, folder: Path) -> None:
    """Install as an installer that is not ours does."""
    _uv(
        "--target",
        str(folder),
        "--python-version",
        "{}.{}".format(*target.python),
        "--python-platform",
        f"{target.machine}-manylinux_2_28",
        "--only-binary=:all:",
        *requirements,
    )


def folder_for(target: Target, shared: Path) -> Path:
    return runtime_folder(target, install, cache=shared / "runtimes")


def emulator(shared: Path) -> Path:
    """Give the Runtime Interface Emulator for x86-64, as the AWS SAM CLI ships it."""
    folder = shared / "aws-sam-cli"
    path = folder / "samcli/local/rapid/aws-lambda-rie-x86_64"
    if not path.is_file():
        _uv("--target", str(folder), "aws-sam-cli==1.170.0")
    path.chmod(0o755)
    return path


def _uv(*arguments: str) -> None:
    options = ("--quiet", "--no-deps", "--no-config", "--no-python-downloads", "--link-mode=copy")
    subprocess.run(["uv", "pip", "install", *options, *arguments], check=True, timeout=600)
