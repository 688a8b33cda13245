"""Programs that deploy, from their package indexes: SAM's command line, CDK's and its library, Serverless.

They lie where `tools/pythons.py` puts its hosts (`build/hosts`, or what MANYLAMBDA_HOSTS names), are installed when a
test first asks for one, and are kept.
"""

from __future__ import annotations

import hashlib
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

ROOT: Final = Path(__file__).parents[2]
SAM: Final = "aws-sam-cli==1.170.0"
CDK: Final = "aws-cdk-lib==2.275.0"
CDK_PROGRAM: Final = "aws-cdk@2.1148.1"
_ENVIRONMENT: Final = dict(os.environ)  # with the developer's own indexes, which tests do not see


def quiet(**variables: str) -> dict[str, str]:
    """Give the environment of a program that is to tell nobody of itself, and to find `manylambda`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", "CI": "1", **variables}


@contextmanager
def _made(place: Path, recipe: str) -> Iterator[bool]:
    """Whether the folder is still to be made by this recipe; it counts as made when that came to its end."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    note = place.with_name(f"{place.name}.made")
    with filelock.FileLock(place.with_name(f"{place.name}.lock")):
        is_new = not note.is_file() or note.read_text(encoding="utf-8") != recipe
        if is_new:
            note.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        yield is_new
        note.write_text(recipe, encoding="utf-8")


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
    with _made(place, " ".join(requirements)) as is_new:
        if is_new:
            program = uv.find_uv_bin()
            _run(program, "venv", "--quiet", "--python", sys.executable, place)
            _run(program, "pip", "install", "--quiet", "--python", _programs(place) / "python", *requirements)
    return _programs(place)


def _programs(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


@cache
def cdk_environment() -> Path:
    """Give the folder with the programs of an environment that has us with the extra `cdk`."""
    recipe = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    place = FOLDER / "cdk"
    with _made(place, f"{CDK} {recipe}") as is_new:
        if is_new:
            program = uv.find_uv_bin()
            _run(program, "venv", "--quiet", "--python", sys.executable, place)
            us = f"{ROOT}[cdk]"
            _run(program, "pip", "install", "--quiet", "--python", _programs(place) / "python", CDK, "--editable", us)
    return _programs(place)


@cache
def node_package(requirement: str) -> Path:
    """Give the folder with the programs of an npm package: `aws-cdk@2.1`."""
    needs("node", "npm")
    place = FOLDER / requirement.replace("@", "-").strip("-").replace("/", "-")
    with _made(place, requirement) as is_new:
        if is_new:
            place.mkdir(parents=True)
            _run("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", place, requirement)
    return place / "node_modules" / ".bin"
