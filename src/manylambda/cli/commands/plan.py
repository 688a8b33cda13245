"""`manylambda plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import RESOLVING, project_options, settings_of
from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    project_options(parser, only=RESOLVING)


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.pipeline.plan import plan
    from manylambda.render import document, text

    plans = plan(settings_of(options), progress=console)
    if options.format == "json":
        return as_json(document.plan(plans)), plans.exit_status
    return text.plan(plans, verbose=options.verbose), plans.exit_status
