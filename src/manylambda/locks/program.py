"""Runs uv, and knows nothing of what it is asked to do."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import ManylambdaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from manylambda.locks.model import ResolveOptions

_ASK_SECONDS: Final = 20.0
# Settings of the user's shell that would change which packages are exported, or that clash with our flags.
_DROPPED: Final = frozenset(
    {
        "UV_DEV", "UV_FROZEN", "UV_ISOLATED", "UV_LOCKED", "UV_NO_BUILD", "UV_NO_DEFAULT_GROUPS", "UV_NO_DEV",
        "UV_NO_EDITABLE", "UV_NO_GROUP", "UV_NO_SYNC", "UV_OFFLINE", "UV_PROJECT", "UV_PYTHON", "UV_WORKING_DIR",
        "UV_WORKING_DIRECTORY", "VIRTUAL_ENV",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run of uv ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The first line of the error uv told, without its prefix and without credentials."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")] or lines[-1:] or [f"status {self.returncode}"]
        return without_credentials(errors[0].removeprefix("error:").strip().rstrip("."))

    @property
    def cause(self) -> str:
        """The innermost cause uv told, which says what is missing where `reason` says that something is."""
        lines = [line.strip() for line in self.stderr.splitlines()]
        last = max((number for number, line in enumerate(lines) if line.startswith("cause:")), default=None)
        if last is None:
            return self.reason
        # uv breaks long ones into lines; hints come after an empty one.
        end = next((number for number in range(last, len(lines)) if not lines[number]), len(lines))
        text = " ".join(lines[last:end]).removeprefix("cause:").strip()
        return without_credentials(text.rstrip("."))


class Program(NamedTuple):
    """The uv that is run."""

    path: str
    version: str


def _find() -> str:
    """Return where uv's program lies. Raises ManylambdaError where it does not lie beside manylambda."""
    from uv import find_uv_bin

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise ManylambdaError(
            "uv's program is not beside manylambda",
            hint="install `uv` where manylambda is; of a zipapp or pex, both have to be unpacked, uv's program into "
            "`bin` beside the packages",
        ) from error


def identify() -> Program:
    """Ask uv what it is. Raises ManylambdaError where there is none, or it does not answer."""
    from manylambda.host import process

    path = _find()
    try:
        answer = process.ask([path, "--version"], seconds=_ASK_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ManylambdaError(f"uv cannot be run: {error}", hint="install `uv` beside manylambda") from error
    words = answer.stdout.split()
    if answer.returncode or words[:1] != ["uv"] or len(words) < 2:
        raise ManylambdaError(f"uv does not say what it is: `{path}`", hint="install `uv` beside manylambda")
    return Program(path, words[1])


def run_uv(
    arguments: Sequence[str], *, folder: Path, options: ResolveOptions, is_offline: bool | None = None,
    settings: Mapping[str, str] | None = None,
) -> Outcome:  # fmt: skip
    """Run uv in `folder` with the environment and cache of `options`; `settings` are added to the environment.

    `is_offline` overrides `options.offline`. uv never downloads an interpreter and never colours.
    """
    command = [_find(), "--no-python-downloads", "--no-progress", "--color", "never"]
    if options.offline if is_offline is None else is_offline:
        command.append("--offline")
    environment = {name: value for name, value in options.environment.items() if name not in _DROPPED}
    if options.cache is not None:
        environment["UV_CACHE_DIR"] = str(options.cache)
    environment |= settings or {}
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ManylambdaError(f"uv cannot be run: {error}", hint="install `uv` beside manylambda") from error
    return Outcome(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def without_credentials(text: str) -> str:
    """Strip `user:password@` from every URL in `text`."""
    return re.sub(r"(?<=://)[^/\s@'\"`]*@", "", text)
