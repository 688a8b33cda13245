"""What the tests of the product share: whole commands in processes of their own, and an index on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from product.loopback import Index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)

    @property
    def artifact(self) -> Any:
        """The only artifact of a build that printed JSON."""
        (artifact,) = self.json["artifacts"]
        return artifact


class Run(Protocol):
    """Runs `manylambda` with `arguments`; without `status` it must succeed."""

    def __call__(
        self,
        *arguments: str | Path,
        status: int = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes = b"",
    ) -> Ran: ...


def command(*arguments: str | Path) -> list[str]:
    """Give the argument list of a whole command."""
    return [sys.executable, "-m", "manylambda", *map(str, arguments)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Give the runner; commands run in `tmp_path` unless told otherwise."""

    def running(
        *arguments: str | Path,
        status: int = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes = b"",
    ) -> Ran:
        done = subprocess.run(
            command(*arguments),
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=600,
            check=False,
        )
        ran = Ran(status=done.returncode, stdout=done.stdout.decode(), stderr=done.stderr.decode())
        assert ran.status == status, f"status {ran.status}\n{ran.stdout}\n{ran.stderr}"
        return ran

    return running


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Serve an empty index, and make it the only one."""
    with Index(tmp_path / "index") as served:
        monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
        yield served


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with one module and no dependencies."""
    folder = tmp_path / "api"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context):\n    return {}\n", encoding="utf-8")
    return folder


@pytest.fixture
def cache() -> Path:
    """Give the cache folder of this test."""
    return Path(os.environ["MANYLAMBDA_CACHE_DIR"])
