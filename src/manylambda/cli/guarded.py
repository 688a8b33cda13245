"""A command in the frame that all have: one clear message and its exit status for every error."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

from manylambda.cli.output import print_result, wants_color

if TYPE_CHECKING:
    import argparse

_EXIT_INTERRUPTED: Final = 130


def guarded(options: argparse.Namespace) -> int:
    """Run the command; every error becomes one clear message and its exit status."""
    from manylambda.errors import ManylambdaError
    from manylambda.render.console import Console

    for stream in (sys.stdout, sys.stderr):  # a file name need not be Unicode, nor in a console's set
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stderr = sys.stderr
    terminal = stderr.isatty()
    console = Console(
        stderr,
        quiet=options.quiet,
        verbose=options.verbose,
        color=wants_color(stderr),
        bars=terminal and os.environ.get("TERM") != "dumb",
    )
    with console:
        try:
            output, status = options.run(options, console)
            console.close()  # no bar is live any more when results come to the same terminal
            print_result(output)
        except ManylambdaError as error:
            console.error(error.message, error.hint)
            return error.exit_status
        except KeyboardInterrupt:
            console.error("interrupted", None)
            return _EXIT_INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0  # the reader has seen enough
        except OSError as error:  # a disk or a right of this machine that no room expected to be missing
            where = f"`{error.filename}`" if error.filename is not None else "a file"
            console.error(f"{where} cannot be used: {(error.strerror or str(error)).lower()}", None)
            return 5
        except Exception:  # noqa: BLE001 - the last line of defence: a bug must look like one
            import traceback

            traceback.print_exc()
            console.error(
                "this is a bug in manylambda", "please report it with the lines above and the command you ran"
            )
            return 70
    return int(status)
