"""A session on this host's own Pythons, without isolation: for what no engine is needed to prove."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import manylambda.trial.inside
from manylambda.target import Target
from manylambda.trial.engines import process
from manylambda.trial.model import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from manylambda.trial.model import Completed, Limits

SCRIPTS: Final = Path(manylambda.trial.inside.__file__).parent


def pythons() -> Iterator[tuple[str, str]]:
    """Give the minor version and the program of each CPython of this host that runs functions, oldest first."""
    found: dict[tuple[int, int], str] = {sys.version_info[:2]: sys.executable}
    for minor in range(8, 16):
        if (3, minor) not in found and (program := _found(minor)):
            found[3, minor] = program
    for version, program in sorted(found.items()):
        yield "{}.{}".format(*version), program


def _found(minor: int) -> str | None:
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for program in sorted(versions.glob(f"3.{minor}.*/bin/python3")):
        return str(program)
    return shutil.which(f"python3.{minor}")


PYTHONS: Final = tuple(pythons())
every_python: Final = pytest.mark.parametrize(("version", "program"), PYTHONS, ids=[name for name, _ in PYTHONS])
_EDGES: Final = (PYTHONS[0], PYTHONS[-1])
oldest_and_newest: Final = pytest.mark.parametrize(("version", "program"), _EDGES, ids=[name for name, _ in _EDGES])
needs_posix: Final = pytest.mark.skipif(os.name != "posix", reason="signals and limits are those of POSIX")


def target_of(version: str) -> Target:
    return Target.parse(f"python{version}-x86_64")


class LocalSession:
    """Runs a Python of this host on a folder."""

    def __init__(
        self, task: Path, *, program: str = sys.executable, user: int | None = None, scripts: Path = SCRIPTS
    ) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="manylambda-trial-"))
        # Also when nobody closes it.
        self._remove = weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        self._program = [*become, program]
        self.runs = 0
        self.places = Places(str(task), str(task / "no-layers"), None, str(scripts), str(self._temporary))

    def run(
        self,
        arguments: Sequence[str],
        *,
        job: bytes,
        environment: Mapping[str, str],
        limits: Limits,
        hear: Callable[[str], None],
    ) -> Completed:
        self.runs += 1
        shutil.rmtree(self._temporary)
        self._temporary.mkdir()
        return process.run(
            [*self._program, *arguments], job=job, environment=environment, seconds=limits.seconds, hear=hear
        )

    def close(self) -> None:
        self._remove()
