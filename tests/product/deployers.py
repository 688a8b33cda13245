"""Programs that deploy, from their package indexes: SAM's command line, CDK's and its library, Serverless.

They lie where `tools/pythons.py` puts its hosts (`build/hosts`, or what MANYLAMBDA_HOSTS names), are installed when a
test first asks for one, and are kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock
import pytest
import uv

from trial.hosts import FOLDER, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

SAM: Final = "aws-sam-cli==1.170.0"
_ENVIRONMENT: Final = dict(os.environ)  # with the developer's own indexes, which tests do not see


def quiet(**variables: str) -> dict[str, str]:
    """Give the environment of a program that is to tell nobody of itself, and to find `manylambda`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", "CI": "1", **variables}


@contextmanager
def _made(place: Path) -> Iterator[bool]:
    """Whether the folder is still to be made; it counts as made only when that came to its end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    note = place.with_name(f"{place.name}.made")
    with filelock.FileLock(place.with_name(f"{place.name}.lock")):
        if not note.exists():
            shutil.rmtree(place, ignore_errors=True)
        yield not note.exists()
        note.touch()


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        fact = f"{command[0]} cannot install it: {done.stderr.strip()[-500:]}"
        if os.environ.get("CI"):
            pytest.fail(fact)
        pytest.skip(fact)


@cache
def python_environment(*requirements: str) -> Path:
    """Give the folder with the programs of an environment that has `requirements`."""
    name = requirements[0].replace("==", "-")
    place = FOLDER / name
    with _made(place) as is_new:
        if is_new:
            program = uv.find_uv_bin()
            _run(program, "venv", "--quiet", "--python", sys.executable, place)
            _run(program, "pip", "install", "--quiet", "--python", _programs(place) / "python", *requirements)
    return _programs(place)


def _programs(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


@cache
def node_package(requirement: str) -> Path:
    """Give the folder with the programs of an npm package: `aws-cdk@2.1`."""
    needs("node", "npm")
    place = FOLDER / requirement.replace("@", "-").strip("-").replace("/", "-")
    with _made(place) as is_new:
        if is_new:
            place.mkdir(parents=True)
            _run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", place, requirement)
    return place / "node_modules" / ".bin"
