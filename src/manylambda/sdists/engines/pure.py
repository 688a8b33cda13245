"""Builds what looks pure, with no compiler in reach: on this host, by the Python that the source needs."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.host.interpreters import find_interpreter
from manylambda.host.model import Unusable
from manylambda.sdists.backend import BuildFailed
from manylambda.sdists.workshop import Workshop

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.host.interpreters import Interpreter
    from manylambda.sdists.workshop import Job

# Of setuptools on Windows, which looks for Visual Studio and not on the path.
_ASKED: Final = re.compile(r"Microsoft Visual C\+\+ \d+\.\d+ (or greater )?is required|Unable to find vcvarsall\.bat")
_WANTED: Final = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cargo", "rustc", "gfortran", "swig", "go", "cl")


class AskedForCompiler(Exception):
    """What looked pure is not: the build ran a compiler, or made a wheel for one system."""


def build(job: Job, room: Path) -> Path:
    """Give the wheel. Raises `AskedForCompiler`, `BuildFailed` and `PackagingError`."""
    shop = Workshop(job, room, _python(job))
    asked = room / "work" / "asked"
    _write_stubs(room / "tools" / "bin", f"{shop.root}/work/asked")
    try:
        raw = shop.run({"CC": "cc", "CXX": "c++"})
    except BuildFailed as failure:
        if asked.exists() or any(_ASKED.search(line) for line in failure.log):
            raise AskedForCompiler from failure
        raise
    if asked.exists() or not raw.name.endswith("-any.whl"):
        raise AskedForCompiler
    return raw


def _python(job: Job) -> Interpreter:
    """Give the target's Python where it matters and is here, else our own."""
    own = (sys.version_info[0], sys.version_info[1])
    if job.nature.asks_python and job.target.python != own:
        found = find_interpreter(job.target.python)
        if not isinstance(found, Unusable):
            return found
        job.progress.warning(
            f"the `setup.py` of `{job.source.name}` asks which Python runs it, and is run by {own[0]}.{own[1]} instead "
            f"of {job.target.python[0]}.{job.target.python[1]}: {found.reason}"
        )
    found = find_interpreter(own)
    if isinstance(found, Unusable):
        raise PackagingError(f"`{job.source.name}` cannot be built: {found.reason}")
    return found


def _write_stubs(folder: Path, asked: str) -> None:
    """Write compilers that only note that they were wanted."""
    folder.mkdir()
    if os.name == "nt":
        return  # there they are not found on the path
    for name in _WANTED:
        (folder / name).write_text(
            f"#!/bin/sh\necho {name} >> '{asked}'\necho '{name}: no compiler: this was taken for pure' >&2\nexit 1\n",
            encoding="utf-8",
        )
        (folder / name).chmod(0o755)
