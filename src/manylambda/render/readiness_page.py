"""The readiness matrix as one HTML page: every runtime and architecture on one screen, what blocks, what changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda._version import __version__
from manylambda.pipeline.readiness import State
from manylambda.render import readiness, webpage
from manylambda.render.findings import counted
from manylambda.render.markup import message, path, plain
from manylambda.render.readiness import grouped, lifecycle, targets, unzipped, way_out
from manylambda.render.table import mebibytes, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manylambda.pipeline.obstacles import Obstacle
    from manylambda.pipeline.readiness import Readiness, ReadyDistribution, TargetReadiness

_MOODS: Final = {State.READY: "good", State.RELOCK: "warning", State.BLOCKED: "error"}
_SHOWN: Final = 3
"""Blockers that are named in a cell."""
_FOOTER: Final = (
    "Ready means: every distribution has a file that the runtime loads by its name. Whether it loads is proved by "
    "<code>manylambda build</code>, which reads the files, and <code>manylambda trial</code>, which imports them."
)


def page(matrix: Readiness) -> str:
    """Return the page; of the project only the last part of its path is shown."""
    name = webpage.named(str(matrix.source.project))
    ready = sum(row.state is State.READY for row in matrix.targets)
    said = f"is ready for {ready} of {counted(len(matrix.targets), 'target')}"
    sections = [_targets(matrix), *_obstacles(matrix), _versions(matrix), _details(matrix)]
    body = "".join(
        (
            '<a class="skip" href="#targets">Skip to the matrix</a>',
            _header(matrix, name, said, [title for _, title, section in sections if section]),
            "<main>",
            *(section for _, _, section in sections),
            "</main>",
            f"<footer><p>manylambda {plain(__version__)}. {_FOOTER}</p></footer>",
        )
    )
    return webpage.document(f"{name} {said}", body, styles=("report.css", "readiness.css"))


def _header(matrix: Readiness, name: str, said: str, titles: Iterable[str]) -> str:
    states = {row.state for row in matrix.targets if row.target.status == "supported"}
    mood = "good" if states == {State.READY} else "warning" if State.READY in states else "error"
    links = "".join(f'<a href="#{webpage.identifier(title.lower())}">{title}</a>' for title in titles)
    files = ", ".join(plain(file.name) for file in matrix.source.files) or "no file"
    how = "as locked" if matrix.source.kind.is_locked else "each target resolved for itself"
    planned = [row for row in matrix.targets if row.state is not State.BLOCKED]
    known = [row for row in planned if row.is_measured]
    facts = webpage.pairs(
        "Judged by",
        [
            ("dependencies", f"<code>{files}</code>, {how}"),
            ("compared with", plain(str(matrix.reference or "nothing: no target is ready"))),
            ("named", ", ".join(plain(str(target)) for target in matrix.named) or "no target"),
        ],
    )
    facts += webpage.pairs(
        "Targets",
        [
            (
                f"{webpage.icon(_MOODS[state])} {readiness.WORDS[state]}",
                str(sum(row.state is state for row in matrix.targets)),
            )
            for state in State
        ],
    )
    sizes = [row.size for row in planned]
    facts += webpage.pairs(
        "Sizes",
        [
            ("wheels", f"{mebibytes(min(sizes))} to {mebibytes(max(sizes))}" if sizes else "unknown"),
            ("unzipped", "known of " + counted(len(known), "target")),
            ("limit of a zip", mebibytes(matrix.targets[0].target.limits["unzipped_bytes"])),
        ],
    )
    return (
        f'<header class="top {mood}"><div class="bar"><p class="brand">manylambda <span>readiness</span></p>'
        f'<nav aria-label="parts of the report">{links}</nav></div>'
        f'<div class="verdict">{webpage.icon(mood)}<div>'
        f"<h1><bdi>{plain(name).replace('-', '-<wbr>')}</bdi> <strong>{said}</strong></h1>"
        f"<p>{_answer(matrix)}</p></div></div>"
        f'<div class="facts">{facts}</div></header>'
    )


def _answer(matrix: Readiness) -> str:
    """Say what keeps the project from the newest runtime that is no preview."""
    rows = [row for row in matrix.targets if row.target.status == "supported"]
    newest = [row for row in rows if row.target.python == max(one.target.python for one in rows)]
    if not newest:
        return ""
    runtime = newest[0].target.runtime
    names = dict.fromkeys(
        f"<code>{plain(one.blocker.name)}</code>" if one.blocker else message(one.sentence)
        for row in newest
        for one in row.obstacles or row.lock_obstacles
    )
    if not names:
        return f"Nothing keeps it from {runtime}."
    if all(row.state is not State.BLOCKED for row in newest):
        return f"It needs a new lock for {runtime}."
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"What keeps it from {runtime}: {', '.join(list(names)[:_SHOWN])}{rest}."


# The matrix.


def _section(title: str, about: str, inside: str) -> tuple[str, str, str]:
    name = webpage.identifier(title.lower())
    return (
        name,
        title,
        f'<section id="{name}" tabindex="-1" aria-labelledby="h-{name}"><h2 id="h-{name}">{title}</h2>'
        f"<p>{about}</p>{inside}</section>"
        if inside
        else "",
    )


def _targets(matrix: Readiness) -> tuple[str, str, str]:
    by_runtime: dict[str, list[TargetReadiness]] = {}
    for row in sorted(matrix.targets, key=lambda row: row.target.python, reverse=True):
        by_runtime.setdefault(row.target.runtime, []).append(row)
    items = "".join(
        f'<li><h3>{plain(runtime)} <span class="small">{_life(rows[0])}</span></h3>'
        f'<ul class="pair">{"".join(_cell(matrix, row) for row in rows)}</ul></li>'
        for runtime, rows in by_runtime.items()
    )
    about = "The newest runtime first. " + (
        "What the lock gives each target; where it gives nothing, what a new one would."
        if matrix.source.kind.is_locked
        else "Each target is resolved for itself: what a build for it alone would ship."
    )
    return _section("Targets", about, f'<ol class="runtimes">{items}</ol>')


def _life(row: TargetReadiness) -> str:
    target = row.target
    if target.status not in {"supported", "deprecated"}:
        return target.status
    return f'deprecated <span class="day">{plain(lifecycle(target))}</span>' if target.deprecated else "supported"


def _cell(matrix: Readiness, row: TargetReadiness) -> str:
    mood = _MOODS[row.state]
    now = ' <span class="now">named</span>' if row.target in matrix.named else ""
    told = _blocking(row) if row.state is State.BLOCKED else _shipping(row)
    return (
        f'<li class="cell {mood}"><a href="#{plain(str(row.target))}">{webpage.icon(mood)}'
        f'<span class="architecture">{row.target.architecture.value}</span> '
        f"<b>{plain(readiness.verdict(row))}</b></a>{now}{told}</li>"
    )


def _blocking(row: TargetReadiness) -> str:
    named = [
        f"{plain(one.blocker.name)} {plain(one.blocker.asked.removeprefix('=='))}".strip()
        if one.blocker
        else message(webpage.sentence(one.sentence))
        for one in row.obstacles
    ]
    rest = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f'<p class="small">{", ".join(named[:_SHOWN])}{rest}</p>'


def _shipping(row: TargetReadiness) -> str:
    limit = row.target.limits["unzipped_bytes"]
    size = f"{unzipped(row)} unzipped" if row.is_measured else f"{mebibytes(row.size)} of wheels"
    over = f" <em>over the limit of {mebibytes(limit)}</em>" if row.is_too_large else ""
    changes = f"; {counted(len(row.changes), 'change')}" if row.changes else ""
    share = min(1.0, (row.unzipped_size if row.is_measured else row.size) / limit)
    return (
        f'<p class="small">{counted(len(row.distributions), "distribution")}, {row.compiled} compiled{changes}</p>'
        f'<div class="bar-of"><svg viewBox="0 0 320 10" height="10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="320" height="10"/>'
        f'<rect class="{"over" if row.is_too_large else "fill"}" width="{320 * share:.1f}" height="10"/></svg>'
        f'<p class="small">{size}{over}</p></div>'
    )


# Obstacles.


def _obstacles(matrix: Readiness) -> list[tuple[str, str, str]]:
    blocked = grouped(matrix, lambda row: row.obstacles if row.state is State.BLOCKED else ())
    lacking = grouped(matrix, lambda row: row.lock_obstacles if row.state is State.RELOCK else ())
    return [
        _section(
            "Blockers",
            "Each of these alone keeps the targets it stands under from having a package.",
            "".join(_card(matrix, obstacles, rows, "error") for obstacles, rows in reversed(blocked.items())),
        ),
        _section(
            "Lock",
            "What the lock lacks, and a new one would have: <code>manylambda lock</code> with these targets.",
            "".join(_card(matrix, obstacles, rows, "warning") for obstacles, rows in reversed(lacking.items())),
        ),
    ]


def _card(matrix: Readiness, obstacles: Sequence[Obstacle], rows: Sequence[TargetReadiness], mood: str) -> str:
    return (
        f'<article class="card {mood}"><h3 class="name">{webpage.icon(mood)}'
        f"{plain(targets(matrix, rows), longest=2000)}</h3>{_listed(obstacles)}</article>"
    )


def _listed(obstacles: Iterable[Obstacle]) -> str:
    items = "".join(
        f"<li>{message(webpage.sentence(one.sentence))}.{webpage.hint(hint) if (hint := way_out(one)) else ''}</li>"
        for one in obstacles
    )
    return f'<ul class="blockers">{items}</ul>'


# Versions.


def _versions(matrix: Readiness) -> tuple[str, str, str]:
    sets = grouped(
        matrix, lambda row: tuple((one.name, one.version, one.compiled, one.is_fallback) for one in row.distributions)
    )
    columns = [
        (title, {one.name: one for one in rows[0].distributions})
        for rows in sets.values()
        for title in targets(matrix, rows).split(", ")
    ]
    names = sorted({name for _, found in columns for name in found})
    base = next((row for row in matrix.targets if row.target == matrix.reference), None)
    versions = {one.name: one.version for one in base.distributions} if base else {}
    rows_of = "".join(
        f'<tr><th scope="row">{path(name)}</th><td>{_kind(columns, name)}</td>'
        f"{''.join(_version(found.get(name), versions.get(name)) for _, found in columns)}</tr>"
        for name in names
    )
    header = ("distribution", "kind", *(title for title, _ in columns))
    about = (
        f"Versions that differ from those on {matrix.reference} are marked ≠. A pure wheel of a release that is "
        "compiled for other targets is marked <b>pure</b>."
    )
    inside = webpage.table("versions by target", header, rows_of) if names else ""
    return _section("Versions", about, f'<div class="versions">{inside}</div>' if inside else "")


def _kind(columns: Iterable[tuple[str, Mapping[str, ReadyDistribution]]], name: str) -> str:
    kinds = [readiness.kind(found[name]) for _, found in columns if name in found]
    return plain(next((kind for kind in kinds if kind != "pure"), "pure"))


def _version(one: ReadyDistribution | None, reference: str | None) -> str:
    if one is None:
        return '<td class="none">none</td>' if reference is None else '<td class="other">≠ none</td>'
    version = plain(one.version or "folder")
    fallback = ' <b class="fallback">pure</b>' if one.is_fallback else ""
    if one.version != reference:
        return f'<td class="other">≠ {version}{fallback}</td>'
    return f"<td>{version}{fallback}</td>"


# Target by target.


def _details(matrix: Readiness) -> tuple[str, str, str]:
    rows = sorted(matrix.targets, key=lambda row: row.target.python, reverse=True)
    about = "What a target would get, what changes, and what its runtime is."
    return _section("Details", about, "".join(_detail(row, matrix) for row in rows))


def _detail(row: TargetReadiness, matrix: Readiness) -> str:
    mood, target = _MOODS[row.state], row.target
    note = target.lifecycle_note()
    parts = [f"<p>{message(webpage.sentence(note))}.</p>" if note else ""]
    parts.append(_listed(row.obstacles) if row.obstacles else "")
    if row.lock_obstacles and row.state is State.RELOCK:
        parts.append(f"<h4>What the lock lacks</h4>{_listed(row.lock_obstacles)}")
    if row.changes:
        items = "".join(f"<li>{message(webpage.sentence(readiness.change(one)))}.</li>" for one in row.changes)
        parts.append(f"<h4>Other than on {plain(str(matrix.reference))}</h4><ul class='blockers'>{items}</ul>")
    if row.distributions:
        parts.append(_table(row))
    said = f"{plain(readiness.verdict(row))}"
    if row.distributions:
        said += f", {counted(len(row.distributions), 'distribution')}, {mebibytes(row.size)} of wheels"
    return (
        f'<details class="card detail {mood}" id="{plain(str(target))}"><summary>{webpage.icon(mood)}'
        f'<b>{plain(str(target))}</b> <span class="small">{said}</span></summary>{"".join(parts)}</details>'
    )


def _table(row: TargetReadiness) -> str:
    rows = "".join(
        f'<tr><th scope="row">{path(one.name)}</th><td>{plain(one.version or "folder")}</td>'
        f"<td>{_told_kind(one)}</td>{_size(one.size)}{_size(one.unzipped_size)}<td>{path(one.file)}</td></tr>"
        for one in row.distributions
    )
    header = ("distribution", "version", "kind", "wheel", "unzipped", "file")
    return webpage.table(f"what {row.target} would get", header, rows, numbers=frozenset({3, 4}))


def _told_kind(one: ReadyDistribution) -> str:
    if one.compiled:
        return plain(readiness.kind(one))
    return "pure, compiled for other targets" if one.is_fallback else "pure"


def _size(size: int | None) -> str:
    return f'<td class="number" data-value="{size or 0}">{readable(size) if size is not None else "unknown"}</td>'
