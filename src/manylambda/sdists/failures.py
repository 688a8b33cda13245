"""Why a build failed, in a sentence, and what to do: read from what the compilers and the backend said."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.target import Target


class Failed(NamedTuple):
    """A compiler that ended with an error."""

    subject: str
    """The source, or what was linked: `src/_yaml.c`."""
    lines: tuple[str, ...]


class Explanation(NamedTuple):
    """Where a failure comes from."""

    cause: str
    hint: str | None


def read(file: Path) -> tuple[Failed, ...]:
    """Read what the compilers noted (`inside/compiler.py`); a build may have written anything there."""
    found = []
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    for line in text.splitlines()[-200:]:
        try:
            subject, lines = json.loads(line)
            found.append(Failed(str(subject), tuple(map(str, lines))))
        except (ValueError, TypeError):
            continue
    return tuple(found)


_HEADER: Final = re.compile(r"error: '([^']+)' file not found|fatal error: (\S+?): No such file")


def first_cause(failed: Sequence[Failed]) -> str | None:
    """Give the error of the first compilation that failed."""
    for one in failed:
        for line in one.lines:
            if "error:" in line:
                return line.partition("error:")[2].strip()
    return None


def explain(name: str, log: Sequence[str], failed: Sequence[Failed], target: Target, *, sysroot: bool) -> Explanation:
    """Say what a failure comes down to."""
    del name, target, sysroot
    errors = [line.strip() for line in log if re.match(r"\s*(\w+\.)*\w*(Error|Exception)\b", line)]
    last = (errors or [line.strip() for line in log if line.strip()] or ["no reason was given"])[-1].rstrip(".")
    return Explanation(first_cause(failed) or last, None)
