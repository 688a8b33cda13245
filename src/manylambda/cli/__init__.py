"""The command line: reads argv, calls the pipeline, prints, picks the exit status. Nothing here is worth a unit test.

A command is a file of `commands`; `parser` has their table. Imports are inside the functions that need them:
`manylambda --version` must cost next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def run() -> NoReturn:
    """Run the command of `sys.argv` and end the process with its exit status.

    At once: results are written and flushed, every file is closed and in its place. Taking tens of thousands of objects
    apart one by one would take longer than the audit did.
    """
    _open_closed_streams()
    status = main()
    with contextlib.suppress(OSError):  # what could not be written was told when it was printed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _open_closed_streams() -> None:
    """Let a stream that the caller closed lead nowhere: a file that is opened later would get its number, and results.

    The lowest free number is given first, so each gets its own. `sys.stdin` stays None: who reads it tells of that.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - stays open


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        from manylambda._version import __version__

        print(f"manylambda {__version__}")
        return 0
    import gc

    from manylambda.cli.guarded import guarded
    from manylambda.cli.parser import make_parser

    gc.disable()  # a command is soon over: what the collector would walk, again and again, is all still in use
    return guarded(make_parser(arguments).parse_args(arguments))
