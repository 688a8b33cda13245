"""What goes to standard output, and how it looks there."""

from __future__ import annotations

import contextlib
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from manylambda.audits import Ignore, Report
    from manylambda.render.console import Console
    from manylambda.render.findings import Look

EXIT_TRIAL: Final = 6


def wants_color(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, or colours are asked for; `NO_COLOR` wins, as in CPython."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def look(options: argparse.Namespace) -> Look:
    """Return how results look where they go."""
    from manylambda.render.findings import Look

    width = None
    if sys.stdout.isatty():
        with contextlib.suppress(OSError, ValueError):  # no size, or a stream of a program's own
            width = os.get_terminal_size(sys.stdout.fileno()).columns or None
    return Look(verbose=options.verbose, color=wants_color(sys.stdout), width=width)


def tell_stale(console: Console, ignore: Sequence[Ignore], reports: Iterable[Report]) -> None:
    """Tell of what is ignored and is not there: it is gone, or misspelt."""
    from manylambda.audits import stale

    for one in stale(ignore, reports):
        console.info(f"{console.styled('note')} nothing was found that `{one}` ignores: remove it, or correct it")


def print_utf8() -> None:
    """Write results as UTF-8, which their format promises, whatever a pipe or a file has by default (Windows)."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def print_result(output: str) -> None:
    """Print results; raise PackagingError where they cannot be written, BrokenPipeError where nobody reads."""
    try:
        print(output, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        from manylambda.errors import PackagingError

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end of the process fails again
        raise PackagingError(f"the results cannot be written: {(error.strerror or str(error)).lower()}") from error


def append_summary(options: argparse.Namespace, summary: str) -> None:
    """Append Markdown to the file that `--summary` names, if it does; raise PackagingError where that cannot be."""
    if not options.summary:
        return
    from pathlib import Path

    try:
        with Path(options.summary).open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{summary}\n\n")
    except OSError as error:
        from manylambda.errors import PackagingError

        told = (error.strerror or str(error)).lower()
        raise PackagingError(f"the summary cannot be written to `{options.summary}`: {told}") from error


def as_json(data: object) -> str:
    """Return the one document that `--format json` prints."""
    import json

    return json.dumps(data, indent=2)
