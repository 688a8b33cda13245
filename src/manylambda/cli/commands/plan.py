"""`manylambda plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import RESOLVING, project_options, settings_of
from manylambda.cli.output import as_json, look

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json", "html")
EXAMPLES: Final = (
    ("manylambda plan -t python3.13-arm64", ""),
    ("manylambda plan -t python3.11-x86_64 -v", "with all that was refused"),
    ("manylambda plan --all-targets", "what keeps it from each runtime"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    project_options(parser, only=RESOLVING)
    parser.add_argument(
        "--all-targets",
        action="store_true",
        help="show how far the project is for every runtime and architecture, and what keeps it from there",
    )
    parser.add_argument(
        "--inspect",
        action="store_true",
        help="ask for what file names do not tell: unzipped sizes, and the languages of compiled distributions",
    )


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    if options.all_targets:
        return _matrix(options, console)
    if options.format == "html":
        from manylambda.errors import RequestError

        raise RequestError("`--format html` is for the matrix", hint="add `--all-targets`")
    from manylambda.pipeline.plan import plan
    from manylambda.render import document, text

    plans = plan(settings_of(options), inspect=options.inspect, progress=console)
    if options.format == "json":
        return as_json(document.plan(plans)), plans.exit_status
    return text.plan(plans, verbose=options.verbose), plans.exit_status


def _matrix(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.readiness import readiness
    from manylambda.render import readiness as render

    matrix = readiness(settings_of(options, needs_target=False), inspect=options.inspect, progress=console)
    match options.format:
        case "json":
            return as_json(render.document(matrix)), matrix.exit_status
        case "html":
            from manylambda.render import readiness_page

            return readiness_page.page(matrix), matrix.exit_status
        case _:
            return render.text(matrix, look(options)), matrix.exit_status
