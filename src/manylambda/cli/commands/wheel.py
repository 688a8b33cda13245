"""`manylambda wheel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import COMPILING, field_options, settings_of
from manylambda.cli.output import as_json, look

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda wheel numpy -t python3.13-arm64", "the one of the index"),
    ("manylambda wheel psutil==7.2.2 -t python3.13-arm64 --from-source", ""),
)

_FLAGS: Final = frozenset(
    {"targets", "output", "audit", "fail_on", "ignore", "allow_linux_wheels", "offline", *COMPILING}
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument(
        "wanted", nargs="+", metavar="REQUIREMENT", help="name, name==version, a source distribution or a folder"
    )
    parser.add_argument("--from-source", action="store_true", help="build even what has a wheel for the target")
    field_options(
        parser, only=_FLAGS, told={"output": "the folder wheels are written to (dist)", "targets": "for what"}
    )
    parser.add_argument(
        "--project", default=".", metavar="DIR", help="whose configuration says what the flags do not (.)"
    )


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.pipeline.wheel import wheel
    from manylambda.render import document, text

    settings = settings_of(options)
    result = wheel(options.wanted, settings, from_source=options.from_source, progress=console)
    status = int(result.fails(settings.fail_on))
    if options.format == "json":
        return as_json(document.wheel(result)), status
    return text.wheel(result, look(options)), status
