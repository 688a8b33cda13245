"""`manylambda explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from manylambda.cli.output import as_json, look

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda explain glibc-too-new", "a rule's page"),
    ("manylambda explain error.log", "what an error means"),
    ("manylambda explain - --package api.zip -t python3.13-arm64", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument("asked", nargs="?", metavar="RULE|FILE|-", help="a rule, a log, or - for a pasted error")
    parser.add_argument("--package", metavar="PATH", help="the package it is about: a zip, layer, folder or wheel")
    parser.add_argument("-t", "--target", metavar="TARGET", help="where it runs, such as python3.13-arm64")
    parser.add_argument(
        "--layer", dest="layers", action="append", metavar="ZIP", default=[], help="a layer the function uses"
    )


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from pathlib import Path

    from manylambda.pipeline.explain import explain, meant
    from manylambda.render import explain as shown
    from manylambda.target import Target

    target = Target.parse(options.target) if options.target else None
    if options.asked is None:
        return as_json(shown.document(None)) if options.format == "json" else shown.rule_list(look(options)), 0
    explanation = explain(
        sys.stdin.buffer if options.asked == "-" else meant(options.asked),
        package=Path(options.package) if options.package else None,
        target=target,
        layers=[Path(layer) for layer in options.layers],
        progress=console,
    )
    status = int(not explanation.is_recognised)
    if options.format == "json":
        return as_json(shown.document(explanation)), status
    return shown.text(explanation, look(options)), status
