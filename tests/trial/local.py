"""A session on this host's own Pythons, without isolation: for what no engine is needed to prove."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Final

import pytest

import manylambda.trial.inside
from manylambda.target import Target
from manylambda.trial.model import Completed, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from manylambda.trial.model import Limits

SCRIPTS: Final = Path(manylambda.trial.inside.__file__).parent
_MAX_LOG: Final = 64 << 10


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
        self._program = program
        self._user = user
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
        self._temporary.mkdir(mode=0o777)
        begun = monotonic()
        process = subprocess.Popen(
            [self._program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
            user=self._user,
        )
        assert process.stdin and process.stdout and process.stderr
        log = bytearray()
        readers = [
            threading.Thread(target=_hear, args=(process.stdout, hear)),
            threading.Thread(target=_collect, args=(process.stderr, log)),
        ]
        for reader in readers:
            reader.start()
        try:
            process.stdin.write(job)
            process.stdin.close()
        except BrokenPipeError:
            pass
        timed_out = False
        try:
            process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        for _ in range(100):  # until what forks meanwhile has ended as well
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                break
        status = process.wait()
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()
        return Completed(status, log[-_MAX_LOG:].decode("utf-8", "replace"), monotonic() - begun, timed_out)

    def close(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


def _hear(stream: IO[bytes], hear: Callable[[str], None]) -> None:
    while line := stream.readline(1 << 20):
        hear(line.rstrip(b"\n").decode("utf-8", "replace"))


def _collect(stream: IO[bytes], log: bytearray) -> None:
    while data := os.read(stream.fileno(), 1 << 16):
        log += data
        del log[: -_MAX_LOG * 2]
