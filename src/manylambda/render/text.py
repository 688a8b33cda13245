"""Results as text for people: a few lines that answer what was asked, tables where figures are compared."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from manylambda.audits import Severity
from manylambda.render import findings
from manylambda.render.console import harmless
from manylambda.render.findings import Look, counted
from manylambda.render.table import columns, mebibytes, readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.audits import Report
    from manylambda.pipeline.artifact import Artifact
    from manylambda.pipeline.build import BuildResult
    from manylambda.pipeline.lock import LockResult
    from manylambda.pipeline.plan import Plans, TargetPlan
    from manylambda.pipeline.recipes.model import Recipe
    from manylambda.pipeline.wheel import MadeWheel, WheelResult
    from manylambda.target import Target

_PLAIN: Final = Look()
_ROWS: Final = 12
"""Distributions listed unless `-v`: the largest ones are what a reader looks for."""


def build(result: BuildResult, look: Look = _PLAIN) -> str:
    """Return what was made: a size table, the findings, where each package lies and its digest."""
    return "\n\n".join(_artifact(artifact, look) for artifact in result.artifacts)


def _artifact(artifact: Artifact, look: Look) -> str:
    parts = []
    if artifact.distributions:
        parts.append(_size_table(artifact, verbose=look.verbose))
    told = (findings.findings(artifact.report, look), findings.afterwards(artifact.report, look))
    parts += [part for part in told if part]
    written = artifact.written
    if written is None:
        parts.append(
            f"{artifact.target}: not written, because of the errors above (`--no-audit` writes it all the same)"
        )
    elif artifact.kind == "image":
        from manylambda.render import image

        parts.append(image.text(artifact))
    else:
        what = {"zip": "zip", "layer": "layer", "dir": "folder"}[artifact.kind]
        size = "" if artifact.kind == "dir" else f"{readable(written.size)} zipped, "
        parts.append(
            f"{artifact.target}: {what} {artifact.path}\n"
            f"  {size}{readable(written.unzipped_size)} unzipped, {counted(written.files, 'file')}\n"
            f"  sha256       {written.sha256}\n"
            f"  code_sha256  {written.code_sha256}"
        )
    return "\n\n".join(parts)


def _size_table(artifact: Artifact, *, verbose: bool) -> str:
    ordered = sorted(artifact.distributions, key=lambda one: (-one.unzipped_size, one.name))
    shown = ordered if verbose else ordered[:_ROWS]
    rows = [
        (
            one.name,
            one.version,
            "compiled" if one.compiled else "pure",
            mebibytes(one.size, 2),
            mebibytes(one.unzipped_size, 2),
        )
        for one in shown
    ]
    rest = ordered[len(shown) :]
    if rest:
        rows.append(
            (
                f"{len(rest)} more",
                "",
                "",
                mebibytes(sum(one.size for one in rest), 2),
                mebibytes(sum(one.unzipped_size for one in rest), 2),
            )
        )
    return columns(("distribution", "version", "kind", "wheel", "unzipped"), rows, right=frozenset({3, 4}))


def audit(report: Report, look: Look = _PLAIN) -> str:
    """Return the findings, what does not count and, as the last line, the verdict."""
    counts = ", ".join(counted(report.number_of(severity), severity.value) for severity in Severity)
    verdict = "will not load as it is" if report.has_errors else "nothing found that keeps it from loading"
    rest = (
        f"{counts} in {counted(report.files, 'file')}, {counted(report.shared_objects, 'shared object')}, "
        f"{readable(report.unzipped_size)} unzipped"
        + ("" if report.image_glibc is None else f", by the image's own libraries (glibc {report.image_glibc})")
    )
    line = look.wrapped(f"{report.target}: {verdict}: {rest}", "  ")
    line = line.replace(verdict, look.painted(verdict, "error" if report.has_errors else "good"), 1)
    after = findings.afterwards(report, look)
    last = f"{after}\n{line}" if after else line
    return f"{found}\n\n{last}" if (found := findings.findings(report, look)) else last


def wheel(result: WheelResult, look: Look = _PLAIN) -> str:
    """Return each wheel with its findings, where it lies and what it came from."""
    return "\n\n".join(_wheel(one, look) for one in result.wheels)


def _wheel(one: MadeWheel, look: Look) -> str:
    told = (findings.findings(one.report, look), findings.afterwards(one.report, look))
    parts = [part for part in told if part]
    if one.path is None:
        parts.append(
            f"{one.target}: `{one.filename}` is not written, because of the errors above (`--no-audit` writes it)"
        )
    else:
        how = f"built from {one.source}" if one.is_built else "from the index, as it is"
        parts.append(f"{one.target}: {one.path}\n  {readable(one.size)}, {how}\n  sha256  {one.sha256}")
    return "\n\n".join(parts)


def lock(result: LockResult) -> str:
    """Return where the lock lies and how much it holds, or what of it would change."""
    if result.differences:
        rows = [(one.what, one.locked or "", one.wanted or "") for one in result.differences]
        table = columns(("", "locked", "now"), rows)
        return f"{result.path}\n  does not answer the project any more; `manylambda lock` makes it anew\n\n{table}"
    names = ", ".join(str(target) for target in result.targets)
    still = "" if result.differences is None else ", as the project wants them"
    return f"{result.path}\n  {counted(result.packages, 'distribution')} for {names}{still}"


def recipe(result: Recipe, folder: str | None = None) -> str:
    """Return what was written, what it is, and what is left to do; `folder` is where, if that is not here."""
    files = [str(path) for path in result.files]
    told = _configuration(result.facts) if result.recipe == "configuration" else ()
    steps = (f"`cd {shlex.quote(folder)}`", *result.steps) if result.steps and folder is not None else result.steps
    return "\n".join([*files, f"  {result.summary}", *told, *(f"  next: {step}" for step in steps)])


def _configuration(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found with the place that says so, then what is not sure."""
    rows = []
    for one in facts["found"]:
        line = f":{one['line']}" if one["line"] else ""
        where = f"{one['file']}{line}, {one['why']}" if one["file"] else one["why"]
        rows.append((f"  {one['key']}", one["value"], where))
    if rows:
        yield columns(rows[0], rows[1:])
    yield from (f"  not sure: {one}" for one in facts["unsure"])
    yield from (f"  kept: {one}" for one in facts["kept"])


def plan(plans: Plans, *, verbose: bool) -> str:
    """Return a table a target, with the reasons below it."""
    return "\n\n".join(_target_plan(one, verbose=verbose) for one in plans.targets)


def _target_plan(one: TargetPlan, *, verbose: bool) -> str:
    from manylambda.render.readiness import kind

    if one.error is not None:
        hint = f"\n  hint: {one.error.hint}" if one.error.hint else ""
        others = "".join(f"\n  besides, {harmless(other.sentence)}" for other in one.obstacles[1:])
        return f"{one.target}: {one.error.message}{hint}{others}"
    rows = [
        (
            planned.name,
            planned.version,
            kind(planned),
            mebibytes(planned.size, 2) if planned.size is not None else "?",
            planned.file,
        )
        for planned in one.distributions
    ]
    total = sum(planned.size or 0 for planned in one.distributions)
    text = columns(("distribution", "version", "kind", "size", "file"), rows, right=frozenset({3}))
    lines = [f"{one.target}: {counted(len(rows), 'distribution')}, {readable(total)} to download", text]
    for planned in one.distributions:
        refused = planned.refused if verbose else planned.refused[:2]
        if refused or verbose:
            lines.append(f"{planned.name} {planned.version}: {planned.reason}")
            lines.extend(f"  refused {refusal.filename}: it {refusal.sentence}" for refusal in refused)
            if len(planned.refused) > len(refused):
                lines.append(f"  and {len(planned.refused) - len(refused)} more, shown with -v")
    return "\n".join(lines)


def targets(all_targets: Sequence[Target]) -> str:
    """Return the runtimes table."""
    rows = [
        (
            str(target),
            target.python_full_version,
            target.os,
            str(target.glibc),
            target.status + ("" if target.can_build else ", audit only"),
            target.deprecated or "",
        )
        for target in all_targets
    ]
    return columns(("target", "python", "os", "glibc", "status", "deprecated"), rows)


def target(one: Target) -> str:
    """Return one target in full."""
    tags = one.tag_strings()
    rows = [
        ("target", str(one)),
        ("status", one.lifecycle_note() or one.status),
        ("python", one.python_full_version),
        ("os", f"{one.os}, glibc {one.glibc}"),
        ("machine", one.machine),
        ("tags", f"{len(tags)}, best first: {', '.join(tags[:3])}, ..."),
        *(("marker", f"{name} = {value!r}") for name, value in one.markers.items()),
        ("libraries", f"{len(one.provided)} sonames: {', '.join(sorted(one.provided))}"),
        *(("symbols", f"{name} {_ceiling(value)}") for name, value in one.symbol_versions.items()),
        *(("preinstalled", f"{name} {version}") for name, version in one.preinstalled.items()),
    ]
    previous = ""
    lines = []
    for name, value in rows:
        lines.append(f"{name if name != previous else '':<13} {value}")
        previous = name
    return "\n".join(lines)


def _ceiling(value: object) -> str:
    return (
        value
        if isinstance(value, str)
        else ", ".join(map(str, value))
        if isinstance(value, list | tuple | set | frozenset)
        else str(value)
    )
