"""`audit`: whether a package that some tool made will load on its target, or what a lock would give there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import rules
from manylambda.audits import Subject, check, open_package
from manylambda.errors import RequestError
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.audits import Ignore, PureFallback, Report
    from manylambda.locks.model import Source
    from manylambda.progress import Progress
    from manylambda.target import Target

_DEPENDENCIES: Final = frozenset({".toml", ".lock", ".txt", ".in"})
"""How the names of files end that say what to install; no package has such a name."""


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
    offline: bool = False,
    progress: Progress = SILENT,
) -> Report:
    """Check a package (zip, layer, folder, wheel, saved image), its `handler`, and the `layers` it will be used with.

    `path` may also be a lock, a requirements file or a `pyproject.toml`: then what it gives the target is fetched and
    checked as a package of it would be, and nothing is written. Raises the errors of `manylambda.errors`, those of
    resolving among them. The indexes are asked which releases would run where some do not, unless `offline`.
    """
    return examine(
        path, target, layers=layers, handler=handler, ignore=ignore, offline=offline, progress=progress
    ).report


def examine(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    handler: str | None = None,
    ignore: Sequence[Ignore] = (),
    offline: bool = False,
    progress: Progress = SILENT,
) -> Examination:
    """Do as `audit` does and return what was looked at beside the report."""
    if is_of_dependencies(path):
        if handler is not None:
            progress.info(f"`{handler}` is not looked for: `{path.name}` has no code of the project")
        return _of_dependencies(path, target, layers=layers, ignore=ignore, offline=offline, progress=progress)
    return _of_package(path, target, layers=layers, handler=handler, ignore=ignore, offline=offline, progress=progress)


def is_of_dependencies(path: Path) -> bool:
    """Whether a path says what to install (a lock, a requirements file), and is no package."""
    return path.suffix in _DEPENDENCIES and not path.is_dir()


def open_subject(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    handler: str | None = None,
    pure_fallbacks: Sequence[PureFallback] = (),
) -> Subject:
    """Open a package and the layers it is used with, for whoever looks at it without the rules, or before them.

    `pure_fallbacks` are what is known of its making.
    """
    package = open_package(path, target)
    if package.image is not None:
        if layers:
            raise RequestError("a function from a container image takes no layers", hint="leave out `--layer`")
        handler = handler or package.image.handler
    return Subject(
        package.tree,
        target,
        kind=package.kind,
        layers=[*package.layers, *(open_package(layer).tree for layer in layers)],
        zipped_size=package.zipped_size,
        handler=handler,
        pure_fallbacks=pure_fallbacks,
        making=package.making,
        mounts=package.mounts,
        image=package.image,
    )


def of_subject(
    subject: Subject, name: str, *, ignore: Sequence[Ignore] = (), progress: Progress = SILENT
) -> Examination:
    """Check a package that was opened; its `name` is for the progress."""
    task = progress.task("audit", name, None)
    try:
        return Examination(subject, check(subject, rules.ALL, ignore=ignore))
    finally:
        task.finish()


def _of_package(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path],
    handler: str | None,
    ignore: Sequence[Ignore],
    offline: bool,
    progress: Progress,
) -> Examination:
    subject, report = of_subject(
        open_subject(path, target, layers=layers, handler=handler), path.name, ignore=ignore, progress=progress
    )
    if report.findings and not offline:
        from manylambda.pipeline import advice

        report = advice.advise(report, subject, lambda: advice.of_folder(Path.cwd(), subject), progress)
    return Examination(subject, report)


def _of_dependencies(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path],
    ignore: Sequence[Ignore],
    offline: bool,
    progress: Progress,
) -> Examination:
    """Do what `build` does for the project `path` lies in, from the choice of files to the audit, without its code."""
    from manylambda import config
    from manylambda.errors import ManylambdaError
    from manylambda.pipeline import dependencies
    from manylambda.pipeline.build import Ingredients, undamaged
    from manylambda.tree import PackageTree

    flags = {"targets": [str(target)], **({"offline": True} if offline else {})}
    loaded = config.load(path.parent, os.environ, flags)
    settings = replace(
        loaded, kind="dir", package=False, handler=None, audit=True, layers=tuple(layers) or loaded.layers
    )
    source = _source(path)
    dependencies.tell_source(source, progress)
    ingredients = Ingredients(settings, source, progress)

    def work() -> Examination:
        packer, ((selection, stored),) = ingredients.gather(PackageTree)
        contents = packer.lay_out(selection, stored)
        task = progress.task("audit", path.name, None)
        try:
            subject = packer.subject(contents, zipped_size=None)
            report = check(subject, rules.ALL, ignore=ignore)
        except (ManylambdaError, OSError):
            contents.confirm()  # a damaged wheel fails in many ways; what it is comes first
            raise
        finally:
            task.finish()
        contents.confirm()
        return Examination(subject, packer.advised(report, subject, contents))

    return undamaged(work, progress)


def _source(path: Path) -> Source:
    """Return the file that `path` names as a source of dependencies.

    A `pyproject.toml` stands for what a build of its project would take: the lock made from it, where there is one.
    """
    from manylambda.errors import RequestError
    from manylambda.locks.discovery import discover, lock_kind
    from manylambda.locks.model import Source, SourceKind

    if path.suffix in {".txt", ".in"}:
        return discover(path.parent, requirements=[path])
    if lock_kind(path.name) is not None:
        return discover(path.parent, lock=path)
    if path.name != SourceKind.PYPROJECT.value:
        raise RequestError(
            f"`{path.name}` is neither a package nor a lock of a known name",
            hint="a lock is called `pylock.toml`, `pylock.<name>.toml`, `uv.lock`, `poetry.lock` or `pdm.lock`",
        )
    if not path.is_file():
        raise RequestError(f"`{path}` does not exist")
    source = discover(path.parent)
    if source.kind is SourceKind.NONE:
        raise RequestError(
            f"`{path}` names no dependencies", hint="name a lock, a requirements file or a package instead"
        )
    if source.kind is SourceKind.REQUIREMENTS:  # not what was named
        return Source(kind=SourceKind.PYPROJECT, project=source.project, files=(path.resolve(),))
    return source
