"""Build requirements: resolved for the interpreter that builds, locked by hash, installed apart.

Wheels only: no code of a build requirement runs before the build itself.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import NotCached, PackagingError
from manylambda.locks.program import run_uv
from manylambda.locks.request import UV_GLIBC
from manylambda.locks.requirements import normalise

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
    pinned: Sequence[str],
    constraints: Sequence[str],
    python: Interpreter | System,
    scratch: Path,
    options: ResolveOptions,
) -> str:
    """Give the lines of a requirements file that pins all of `requires` with hashes; empty for none.

    `name` is whose requirements they are; `pinned` are lines that `lock` gave, which hold for what they name. Raises
    `PackagingError`, and NotCached when `options.offline`.
    """
    if not requires:
        return ""
    if {_name(one) for one in requires} <= {_name(one) for one in pinned}:
        return "".join(f"{line}\n" for line in pinned)
    held = [*constraints, *(line.partition(" --hash")[0] for line in pinned)]
    outcome = _compile(requires, held, _of(python), scratch, options)
    if outcome.returncode:
        raise _failure(name, outcome, options, "resolved", python)
    return outcome.stdout


def lock(
    name: str,
    requires: Sequence[str],
    *,
    python: tuple[int, int],
    constraints: Sequence[str],
    scratch: Path,
    options: ResolveOptions,
) -> tuple[str, ...]:
    """Pin all of `requires` with hashes for every host, and for CPython `python` and later; a line each.

    Raises as `resolve` does.
    """
    if not requires:
        return ()
    version = f"{python[0]}.{python[1]}"
    outcome = _compile(requires, constraints, ["--universal", "--python-version", version], scratch, options)
    if outcome.returncode:
        raise _failure(name, outcome, options, "resolved", None)
    return tuple(re.sub(r"\s*\\\n\s*", " ", outcome.stdout).strip().splitlines())


def _compile(
    requires: Sequence[str], constraints: Sequence[str], of: Sequence[str], scratch: Path, options: ResolveOptions
) -> Outcome:
    wanted, held = scratch / "build-requirements.in", scratch / "build-constraints.in"
    wanted.write_text("".join(f"{one}\n" for one in requires), encoding="utf-8")
    held.write_text("".join(f"{one}\n" for one in constraints), encoding="utf-8")
    return run_uv(
        [
            *("pip", "compile", str(wanted), "--constraints", str(held), *of),
            *("--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"),
        ],
        folder=scratch,
        options=options,
    )


def _name(requirement: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return normalise(match[1]) if match else requirement


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
    name: str, outcome: Outcome, options: ResolveOptions, what: str, python: Interpreter | System | None
) -> PackagingError | NotCached:
    if options.offline and _MISSING.search(outcome.stderr):
        return NotCached(
            f"the build requirements of `{name}` are not in uv's cache", hint="build once without `--offline`"
        )
    cause = " ".join(outcome.cause.split())
    where = "the image" if isinstance(python, System) else "the host that builds"
    return PackagingError(
        f"the build requirements of `{name}` cannot be {what}: {cause}",
        hint=f"they are taken as wheels for {where}; `[tool.manylambda.sdist] constraints` holds their versions",
    )
