"""`manylambda lock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import RESOLVING, project_options, settings_of
from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda lock -t python3.13-arm64 -t python3.12-x86_64", ""),
    ("manylambda lock -t python3.13-arm64 --upgrade", "the newest versions"),
    ("manylambda lock -t python3.13-arm64 --check", "status 1 when it would change"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    project_options(parser, only={*RESOLVING, "lock_output"})
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--upgrade", action="store_true", help="take the newest versions, not those locked before")
    how.add_argument("--check", action="store_true", help="write nothing; status 1 when the lock would change")


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.pipeline.lock import check, lock
    from manylambda.render import document, text

    settings = settings_of(options)
    if options.check:
        result = check(settings, progress=console)
    else:
        result = lock(settings, upgrade=options.upgrade, progress=console)
    output = as_json(document.lock(result)) if options.format == "json" else text.lock(result)
    return output, int(bool(result.differences))
