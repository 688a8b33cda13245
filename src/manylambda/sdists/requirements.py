"""Build requirements: resolved for the interpreter that builds, locked by hash, installed apart.

Wheels only: no code of a build requirement runs before the build itself.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import NotCached, PackagingError
from manylambda.locks.program import run_uv
from manylambda.locks.resolve import UV_GLIBC

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.host.interpreters import Interpreter
    from manylambda.locks.model import ResolveOptions
    from manylambda.locks.program import Outcome
    from manylambda.target import GlibcVersion

_MISSING: Final = re.compile(r"network was disabled|--offline|not found in the cache")


class System(NamedTuple):
    """The Linux that builds when that is not this host: that of an image."""

    version: str
    """Of its CPython: `3.11.2`."""
    machine: str
    """`x86_64`, `aarch64`."""
    glibc: GlibcVersion


def resolve(
    name: str,
    requires: Sequence[str],
    *,
    constraints: Sequence[str],
    python: Interpreter | System,
    scratch: Path,
    options: ResolveOptions,
) -> str:
    """Give the lines of a requirements file that pins all of `requires` with hashes; empty for none.

    `name` is whose requirements they are. Raises `PackagingError`, and NotCached when `options.offline`.
    """
    if not requires:
        return ""
    wanted, held = scratch / "build-requirements.in", scratch / "build-constraints.in"
    wanted.write_text("".join(f"{one}\n" for one in requires), encoding="utf-8")
    held.write_text("".join(f"{one}\n" for one in constraints), encoding="utf-8")
    outcome = run_uv(
        [
            *("pip", "compile", str(wanted), "--constraints", str(held), *_of(python)),
            *("--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
        ],
        folder=scratch,
        options=options,
    )
    if outcome.returncode:
        raise _failure(name, outcome, options, "resolved", python)
    return outcome.stdout


def install(
    name: str, locked: str, folder: Path, *, python: Interpreter, scratch: Path, options: ResolveOptions, link: str
) -> None:
    """Make an environment of `python` in `folder` with what `locked` pins; `link` is uv's way to place files.

    Hashes are checked. Raises `PackagingError`, and NotCached when `options.offline`.
    """
    if not (folder / "pyvenv.cfg").is_file():
        made = run_uv(
            ["venv", "--relocatable", "--no-project", "--python", python.program, str(folder)],
            folder=scratch,
            options=options,
        )
        if made.returncode:
            raise PackagingError(f"no environment can be made to build `{name}` in: {made.cause}")
    if not locked:
        return
    pinned = scratch / "build-requirements.txt"
    pinned.write_text(locked, encoding="utf-8")
    outcome = run_uv(
        [
            *("pip", "sync", str(pinned), "--python", str(folder), "--require-hashes", "--only-binary", ":all:"),
            *("--link-mode", link, "--quiet"),
        ],
        folder=scratch,
        options=options,
    )
    if outcome.returncode:
        raise _failure(name, outcome, options, "installed", python)


def place(name: str, locked: str, folder: Path, *, system: System, scratch: Path, options: ResolveOptions) -> None:
    """Put what `locked` pins for another system into `folder`, with its programs in `folder/bin`.

    Of these the Python ones name one of this host. Raises as `install` does.
    """
    folder.mkdir(exist_ok=True)
    if not locked:
        return
    pinned = scratch / "build-requirements.txt"
    pinned.write_text(locked, encoding="utf-8")
    outcome = run_uv(
        [
            *("pip", "sync", str(pinned), "--target", str(folder), *_of(system)),
            *("--require-hashes", "--only-binary", ":all:", "--quiet"),
        ],
        folder=scratch,
        options=options,
    )
    if outcome.returncode:
        raise _failure(name, outcome, options, "installed", system)


def _of(python: Interpreter | System) -> list[str]:
    """Tell uv what the requirements are for."""
    if not isinstance(python, System):
        return ["--python", python.program]
    # What an image loads, not what uv is asked to make: at or below its glibc.
    minor = max((known for known in UV_GLIBC if known <= python.glibc.minor), default=UV_GLIBC[0])
    platform = f"{python.machine}-manylinux_2_{minor}"
    return ["--python", sys.executable, "--python-version", python.version, "--python-platform", platform]


def _failure(
    name: str, outcome: Outcome, options: ResolveOptions, what: str, python: Interpreter | System
) -> PackagingError | NotCached:
    if options.offline and _MISSING.search(outcome.stderr):
        return NotCached(
            f"the build requirements of `{name}` are not in uv's cache", hint="build once without `--offline`"
        )
    cause = " ".join(outcome.cause.split())
    where = "the image" if isinstance(python, System) else "this host"
    return PackagingError(
        f"the build requirements of `{name}` cannot be {what}: {cause}",
        hint=f"they are taken as wheels for {where}; `[tool.manylambda.sdist] constraints` holds their versions",
    )
