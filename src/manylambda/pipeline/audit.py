"""`audit`: whether a package that some tool made will load on its target."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from manylambda import rules
from manylambda.audits import Subject, check, open_package
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.audits import Ignore, Report
    from manylambda.progress import Progress
    from manylambda.target import Target


class Examination(NamedTuple):
    """A report and what it is about, for whoever shows more than findings."""

    subject: Subject
    report: Report


def audit(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    handler: str | None = None,
    ignore: Sequence[Ignore] = (),
    progress: Progress = SILENT,
) -> Report:
    """Check a package (zip, layer, folder or wheel), its `handler`, and the `layers` it will be used with."""
    return examine(path, target, layers=layers, handler=handler, ignore=ignore, progress=progress).report


def examine(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    handler: str | None = None,
    ignore: Sequence[Ignore] = (),
    progress: Progress = SILENT,
) -> Examination:
    """Do as `audit` does and return what was looked at beside the report."""
    package = open_package(path)
    task = progress.task("audit", path.name, None)
    try:
        subject = Subject(
            package.tree,
            target,
            kind=package.kind,
            layers=[open_package(layer).tree for layer in layers],
            zipped_size=package.zipped_size,
            handler=handler,
        )
        return Examination(subject, check(subject, rules.ALL, ignore=ignore))
    finally:
        task.finish()
