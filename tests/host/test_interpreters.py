"""This host's Pythons: only those that are Lambda's kind are taken, and why another is not is told."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from manylambda.host import interpreters
from manylambda.host.interpreters import Interpreter
from manylambda.host.model import Unusable

if TYPE_CHECKING:
    from pathlib import Path

# Not that of this Python, which would be found first.
MINOR = (3, 14) if sys.version_info[:2] != (3, 14) else (3, 13)
SAID: dict[str, object] = {
    "program": "/p",
    "version": "3.14.0",
    "minor": [3, 14],
    "machine": "x86_64",
    "system": "linux",
    "implementation": "CPython",
    "threads": False,
    "debug": False,
    "libc": "",
    "prefixes": [],
    "site": [],
    "magic": "2b0e0d0a",
    "tag": "cpython-314",
    "library": "/l",
    "include": "/i",
}
needs_posix = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")


def python(program: Path, said: dict[str, object] | None) -> str:
    """Give a program that says this of itself; None for one that does not start."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\n" + (f"echo '{json.dumps(said)}'\n" if said else "exit 127\n"))
    program.chmod(0o755)
    return str(program)


def test_this_python_says_what_it_is() -> None:
    found = interpreters.find_interpreter(sys.version_info[:2])
    assert isinstance(found, Interpreter)
    assert found.minor == sys.version_info[:2]
    assert found.include == sysconfig.get_path("include")


@needs_posix
def test_the_machine_that_is_asked_for_comes_before_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "_of_uv", lambda *_: None)
    name = "{}.{}".format(*MINOR)
    said = {**SAID, "minor": MINOR}
    python(tmp_path / "bin" / f"python{name}", {**said, "program": "/first"})
    arm = {**said, "program": "/other", "machine": "arm64"}
    python(tmp_path / "versions" / f"{name}.1" / "bin" / f"python{name}", arm)
    environment = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path)}

    def found(machine: str | None) -> str:
        one = interpreters.find_interpreter(MINOR, machine=machine, environment=environment)
        assert isinstance(one, Interpreter)
        return one.program

    machines = ("aarch64", "x86_64", "riscv64", None)
    assert [found(machine) for machine in machines] == ["/other", "/first", "/first", "/first"]


def test_a_host_without_the_minor_version_says_how_to_get_it(tmp_path: Path) -> None:
    found = interpreters.find_interpreter((3, 14), machine="aarch64", environment={"PATH": str(tmp_path)})
    if isinstance(found, Interpreter):  # it is this one, or uv has it
        assert found.minor == (3, 14)
        return
    assert found == Unusable(
        "interpreter", "no CPython 3.14 on this host", "`--download-python`, or `uv python install 3.14`"
    )


@needs_posix
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"implementation": "PyPy"}, "is PyPy"),
        ({"threads": True}, "is free-threaded, and Lambda's is not"),
        ({"debug": True}, "is a debug build, and Lambda's is not"),
        ({"minor": []}, "does not say what it is"),
        (None, "does not start"),
    ],
)
def test_a_python_that_is_not_the_runtimes_is_not_taken(
    tmp_path: Path, change: dict[str, object] | None, reason: str
) -> None:
    program = python(tmp_path / "python3.14", {**SAID, **change} if change else None)
    found = interpreters.ask([program], (3, 14))
    assert isinstance(found, interpreters._Refused)
    assert found == (program, reason)


@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    found = interpreters.download_interpreter((3, 14))
    assert isinstance(found, Unusable)
    assert found.reason.startswith("uv cannot download CPython 3.14: ")
    assert found.hint == "install it as this system does, or use another engine"
