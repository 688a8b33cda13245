"""`manylambda push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda push dist/api 111122223333.dkr.ecr.eu-west-1.amazonaws.com/api:1", ""),
    ("manylambda push image.tar localhost:5000/api:1 -t python3.13-arm64", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument("image", metavar="IMAGE|DIR", help="an OCI layout (folder or tar), or an image of a registry")
    parser.add_argument("reference", metavar="REF", help="where it goes: HOST/NAME[:TAG]")
    parser.add_argument("-t", "--target", metavar="TARGET", help="which image of an index: that for python3.13-arm64")
    parser.add_argument("--plain-http", action="store_true", help="use no TLS, also beyond this machine")


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.pipeline.push import push
    from manylambda.render import push as render
    from manylambda.target import Target

    target = Target.parse(options.target) if options.target else None
    result = push(options.image, options.reference, target=target, plain_http=options.plain_http, progress=console)
    return as_json(render.document(result)) if options.format == "json" else render.text(result), 0
