"""`manylambda doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.output import as_json, look

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda doctor", "this machine, and the project here"),
    ("manylambda doctor api --format json", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="whose configuration is looked at (.)"
    )


def run(options: argparse.Namespace, _console: Console) -> tuple[str, int]:
    """Return what is printed, and status 0: what is missing here may not be needed."""
    from pathlib import Path

    from manylambda.pipeline.doctor import doctor
    from manylambda.render import doctor as render

    found = doctor(Path(options.project))
    return as_json(render.document(found)) if options.format == "json" else render.text(found, look(options)), 0
