"""`manylambda audit`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import configuration_options, field_options, summary_option
from manylambda.cli.output import append_summary, as_json, look, print_utf8, tell_stale

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from pathlib import Path

    from manylambda.audits import Report
    from manylambda.config import AuditSettings
    from manylambda.render.console import Console

FORMATS: Final = ("text", "json", "sarif", "html", "markdown")
EXAMPLES: Final = (
    ("manylambda audit dist/api-python3.13-arm64.zip -t python3.13-arm64", ""),
    ("manylambda audit requirements.txt -t python3.13-arm64", "what a lock would give"),
    ("manylambda audit api.zip -t python3.13-arm64 --format html > report.html", ""),
)

_FLAGS: Final = frozenset({"targets", "layers", "handler", "fail_on", "ignore", "offline"})

_TOLD: Final = {
    "targets": "where it will run: python3.13-arm64",
    "fail_on": "the severity that ends in status 1 (error)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a zip, layer, folder, wheel or image of any tool, an image in a registry, or a lock",
    )
    field_options(parser, only=_FLAGS, told=_TOLD)
    configuration_options(parser)
    summary_option(parser)


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from pathlib import Path

    from manylambda import config
    from manylambda.pipeline.named import package_at

    flags = {name: value for name, value in vars(options).items() if name in _FLAGS}
    project = None if options.no_config else Path(options.project)
    settings = config.load_audit(project, os.environ, flags)
    with package_at(options.path, settings.target, offline=settings.offline, progress=console) as path:
        return _examined(path, settings, flags, options, console)


def _examined(
    path: Path, settings: AuditSettings, flags: Collection[str], options: argparse.Namespace, console: Console
) -> tuple[str, int]:
    from pathlib import Path

    from manylambda.pipeline.audit import examine

    # A layer of the configuration is audited as the package it is, not on top of itself.
    layers = [layer for layer in settings.layers if "layers" in flags or not _is_same(layer, path)]
    examination = examine(
        path,
        settings.target,
        layers=layers,
        handler=settings.handler,
        ignore=settings.ignore,
        offline=settings.offline,
        progress=console,
    )
    report = examination.report
    _tell_configured(console, settings, flags, report)
    status = int(report.fails(settings.fail_on))
    if options.summary or options.format == "markdown":
        from manylambda.render import markdown

        summary = markdown.audit(report, options.path)
        append_summary(options, summary)
        if options.format == "markdown":
            print_utf8()
            return summary, status
    if options.format == "json":
        return as_json(report.to_json(options.path)), status
    if options.format == "sarif":
        from manylambda.render import sarif

        print_utf8()
        return as_json(sarif.audit(report, Path(options.path), is_folder=Path(options.path).is_dir())), status
    if options.format == "html":
        from manylambda.render import html

        print_utf8()
        return html.audit(examination, path=options.path).rstrip(), status
    from manylambda.render import text

    return text.audit(report, look(options)), status


def _tell_configured(console: Console, settings: AuditSettings, flags: Collection[str], report: Report) -> None:
    """Tell what came from the configuration and not from the command: the package may be from anywhere."""
    note = console.styled("note")
    if "ignore" in flags:  # what the project ignores need not be in every package
        tell_stale(console, settings.ignore, [report])
    if "targets" not in flags:
        console.detail(f"{note} the target `{settings.target}` is what the configuration says")
    if settings.handler is not None and "handler" not in flags:
        is_missed = any(finding.rule == "handler-missing" for finding in report.findings)
        tell = console.info if is_missed else console.detail
        tell(f"{note} the handler `{settings.handler}` is what the configuration says; `--no-config` reads none")
    if settings.layers and "layers" not in flags:
        layers = ", ".join(f"`{layer}`" for layer in settings.layers)
        console.detail(f"{note} the layers are what the configuration says: {layers}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
