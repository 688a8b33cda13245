"""`audit`: whether a package that some tool made will load on its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda import rules
from manylambda.audits import open_package, run
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.audits import Report
    from manylambda.progress import Progress
    from manylambda.target import Target


def audit(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    handler: str | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Check a package (zip, layer, folder or wheel), its `handler`, and the `layers` it will be used with."""
    package = open_package(path)
    task = progress.task("audit", path.name, None)
    try:
        return run(
            package.tree,
            target,
            rules.ALL,
            kind=package.kind,
            layers=[open_package(layer).tree for layer in layers],
            zipped_size=package.zipped_size,
            handler=handler,
        )
    finally:
        task.finish()
