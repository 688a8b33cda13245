"""`manylambda build`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.cli.flags import project_options, settings_of, summary_option
from manylambda.cli.output import EXIT_TRIAL, append_summary, as_json, look, print_utf8, tell_stale

if TYPE_CHECKING:
    import argparse

    from manylambda.config import Settings
    from manylambda.pipeline.build import BuildResult
    from manylambda.pipeline.trial import TrialResult
    from manylambda.render.console import Console
    from manylambda.target import Target

FORMATS: Final = ("text", "json", "markdown", "terraform")
EXAMPLES: Final = (
    ("manylambda build -t python3.13-arm64", ""),
    ("manylambda build -t python3.13-arm64 --kind layer -o layers", ""),
    ("manylambda build api -t python3.13-arm64 -t python3.12-x86_64 --trial", ""),
    ("manylambda build -t python3.13-arm64 --kind image", ""),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    project_options(parser, without={"lock_output"})
    summary_option(parser)


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.pipeline.build import build
    from manylambda.render import document, text

    settings = settings_of(options)
    _confirm_kind(options, settings)
    if options.format == "terraform":
        _check_for_terraform(settings)
    result = build(settings, progress=console)
    status = int(result.fails(settings.fail_on))
    if settings.audit and settings.ignore:
        tell_stale(console, settings.ignore, [artifact.report for artifact in result.artifacts])
    trials = _trials(settings, result, console) if settings.trial else {}
    if any(each.trial.has_failed or each.is_empty for each in trials.values()):
        status = status or EXIT_TRIAL
    if options.summary or options.format == "markdown":
        from manylambda.render import markdown

        summary = markdown.build(result, trials)
        append_summary(options, summary)
        if options.format == "markdown":
            print_utf8()
            return summary, status
    if options.format == "json":
        return as_json(document.build(result, trials)), status
    parts = [text.build(result, look(options))]
    if trials:
        from manylambda.render import trial

        parts += [trial.text(each, look(options)) for each in trials.values()]
    shown = "\n\n".join(parts)
    if options.format == "terraform":
        if status == 0:
            return as_json(document.terraform(result)), 0
        console.error(f"the package is not fit for {settings.targets[0]}\n\n{shown}", None)  # Terraform shows stderr
        return "{}", status
    return shown, status


def _confirm_kind(options: argparse.Namespace, settings: Settings) -> None:
    """Raise `RequestError` for a flag that says something of another kind of package: it was meant for that one.

    In a configuration it stands for all kinds, and is not asked for at this moment.
    """
    from manylambda import config
    from manylambda.errors import RequestError

    for field in config.FIELDS:
        kind = "layer" if field.key == "layer-layout" else "image" if field.key.startswith("image.") else None
        if kind is not None and kind != settings.kind and hasattr(options, field.attribute):
            raise RequestError(
                f"`{field.flag}` means nothing to a package of the kind `{settings.kind}`", hint=f"add `--kind {kind}`"
            )


def _check_for_terraform(settings: Settings) -> None:
    from manylambda.errors import RequestError

    if len(settings.targets) != 1 or settings.kind not in {"zip", "layer"}:
        raise RequestError(
            f"`--format terraform` tells of one zip, not of {len(settings.targets)} of `--kind {settings.kind}`",
            hint="call it for each target, with `--kind zip` or `--kind layer`",
        )


def _trials(settings: Settings, result: BuildResult, console: Console) -> dict[Target, TrialResult]:
    """Try what was written, one package after the other."""
    from manylambda.pipeline.trial import Request, trial

    request = Request(offline=settings.offline)
    return {
        artifact.target: trial(
            artifact.path, artifact.target, layers=settings.layers, request=request, progress=console
        )
        for artifact in result.artifacts
        if artifact.written is not None and artifact.path is not None  # what went to a registry is not here
    }
