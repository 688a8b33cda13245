"""`manylambda targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda targets", "all of them"),
    ("manylambda targets python3.13-arm64", "what one runtime has"),
    ("manylambda targets --format json", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument("target", nargs="?", metavar="TARGET", help="one target, in full")


def run(options: argparse.Namespace, _console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.render import document, text
    from manylambda.target import Target, all_targets

    targets = [Target.parse(options.target)] if options.target else list(all_targets())
    if options.format == "json":
        return as_json(document.targets(targets)), 0
    return text.target(targets[0]) if options.target else text.targets(targets), 0
