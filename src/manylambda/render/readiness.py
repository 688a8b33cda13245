"""The readiness matrix as text and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from manylambda.pipeline.readiness import State
from manylambda.render.console import harmless
from manylambda.render.findings import Look, counted
from manylambda.render.table import columns, mebibytes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from manylambda.pipeline.obstacles import Obstacle
    from manylambda.pipeline.plan import PlannedDistribution
    from manylambda.pipeline.readiness import Change, Readiness, ReadyDistribution, TargetReadiness
    from manylambda.target import Target

WORDS: Final = {State.READY: "ready", State.RELOCK: "lock again", State.BLOCKED: "blocked"}
_COLORS: Final = {State.READY: "good", State.RELOCK: "hint", State.BLOCKED: "error"}
_WIDTH: Final = 100
_FEW: Final = 6
"""Changes of a target that are listed unless `-v`."""


def text(matrix: Readiness, look: Look) -> str:
    """Return the matrix, a row a target, and below it what blocks, what a lock lacks and what changes."""
    parts = [f"{summary(matrix)}\n\n{_table(matrix, look)}"]
    blocked = grouped(matrix, lambda row: row.obstacles if row.state is State.BLOCKED else ())
    parts += [_told("what blocks", matrix, blocked, look)] if blocked else []
    lacking = grouped(matrix, lambda row: row.lock_obstacles if row.state is State.RELOCK else ())
    parts += [_told("what the lock lacks, and a new one would have", matrix, lacking, look)] if lacking else []
    changes = grouped(matrix, lambda row: row.changes)
    if changes:
        parts.append(_changes(matrix, changes, look))
    fallbacks = grouped(matrix, lambda row: tuple(one.name for one in row.distributions if one.is_fallback))
    if fallbacks:
        lines = [
            look.wrapped(f"  {targets(matrix, rows)}: {', '.join(f'`{name}`' for name in names)}", "    ")
            for names, rows in fallbacks.items()
        ]
        parts.append("\n".join(["pure, although compiled for other targets (pure-fallback):", *lines]))
    if look.verbose:
        parts.append(_versions(matrix))
    return "\n\n".join(parts)


def summary(matrix: Readiness) -> str:
    """Return in one line how many targets there are, what they were judged by, and what they are compared with."""
    counts = [(sum(row.state is state for row in matrix.targets), word) for state, word in WORDS.items()]
    told = ", ".join(f"{number} {word}" for number, word in counts if number)
    against = f"; versions are compared with {matrix.reference}" if matrix.reference else ""
    return f"{counted(len(matrix.targets), 'target')}: {told}{against}"


def _table(matrix: Readiness, look: Look) -> str:
    rows = [
        (
            f"{row.target}{' *' if row.target in matrix.named else ''}",
            verdict(row),
            *(
                ("", "", "", "", "")
                if row.state is State.BLOCKED
                else (
                    str(len(row.distributions)),
                    str(row.compiled),
                    mebibytes(row.size),
                    unzipped(row) + (" !" if row.is_too_large else ""),
                    str(len(row.changes)),
                )
            ),
            lifecycle(row.target),
        )
        for row in matrix.targets
    ]
    header = ("target", "state", "dists", "compiled", "wheels", "unzipped", "changes", "deprecated")
    first, *lines = columns(header, rows, right=frozenset({2, 3, 4, 5, 6})).split("\n")
    for number, row in enumerate(matrix.targets):
        lines[number] = lines[number].replace(verdict(row), look.painted(verdict(row), _COLORS[row.state]), 1)
    notes = ["* named by -t or the settings"] if matrix.named else []
    if any(not row.is_measured for row in matrix.targets):
        notes.append("? unknown, + in part: `--inspect` asks for sizes")
    if too_large := next((row for row in matrix.targets if row.is_too_large), None):
        notes.append(f"! over the limit of {mebibytes(too_large.target.limits['unzipped_bytes'])}")
    return "\n".join([first, *lines, *notes])


def verdict(row: TargetReadiness) -> str:
    """Return the state in a word or a few."""
    if row.state is State.BLOCKED:
        return counted(len(row.obstacles), "blocker")
    return WORDS[row.state]


def unzipped(row: TargetReadiness) -> str:
    """Return the unzipped size, and a mark where not all of it is known."""
    if not row.unzipped_size:
        return "?" if row.distributions else mebibytes(0)
    return mebibytes(row.unzipped_size) + ("" if row.is_measured else " +")


def kind(one: PlannedDistribution | ReadyDistribution) -> str:
    """Return `pure`, `compiled`, or what it is compiled from where that is known."""
    if not one.compiled:
        return "pure"
    return ", ".join(one.languages) if one.languages else "compiled"


def lifecycle(target: Target) -> str:
    """Return in two words when a runtime is deprecated, or what else it is."""
    if target.status != "supported":
        return f"since {target.deprecated}" if target.status == "deprecated" else target.status
    return f"from {target.deprecated}" if target.deprecated else ""


def grouped(
    matrix: Readiness, of: Callable[[TargetReadiness], tuple[Hashable, ...]]
) -> dict[tuple[Any, ...], list[TargetReadiness]]:
    """Bring together the targets of which the same is to be told, in order; those of which nothing is are left out."""
    found: dict[tuple[Any, ...], list[TargetReadiness]] = {}
    for row in matrix.targets:
        if told := of(row):
            found.setdefault(told, []).append(row)
    return found


def targets(matrix: Readiness, rows: Iterable[TargetReadiness]) -> str:
    """Name targets, a runtime alone where all of its architectures are meant."""
    wanted = [row.target for row in rows]
    names: list[str] = []
    for target in wanted:
        siblings = [row.target for row in matrix.targets if row.target.runtime == target.runtime]
        is_whole = len(siblings) > 1 and set(siblings) <= set(wanted)
        names.append(target.runtime if is_whole else str(target))
    return ", ".join(dict.fromkeys(names))


def _told(title: str, matrix: Readiness, found: dict[tuple[Obstacle, ...], list[TargetReadiness]], look: Look) -> str:
    lines = [f"{title}:"]
    for obstacles, rows in found.items():
        lines.append(f"  {look.painted(targets(matrix, rows), 'name')}")
        lines += [look.wrapped(f"    {harmless(one.sentence)}", "      ") for one in obstacles]
        hints = dict.fromkeys(filter(None, map(way_out, obstacles)))
        lines += [look.wrapped(f"    {look.painted('hint:', 'hint')} {harmless(hint)}", "      ") for hint in hints]
    return "\n".join(lines)


def way_out(one: Obstacle) -> str | None:
    """Return the hint of an obstacle, unless another version runs: then that is the way."""
    return one.hint if one.blocker is None or one.blocker.runs is None else None


def _changes(matrix: Readiness, found: dict[tuple[Change, ...], list[TargetReadiness]], look: Look) -> str:
    lines = [f"other versions than on {matrix.reference}:"]
    for changes, rows in found.items():
        lines.append(f"  {look.painted(targets(matrix, rows), 'name')}")
        shown = changes if look.verbose else changes[:_FEW]
        lines += [look.wrapped(f"    {harmless(change(one))}", "      ") for one in shown]
        if len(changes) > len(shown):
            lines.append(f"    and {len(changes) - len(shown)} more, shown with -v")
    return "\n".join(lines)


def change(one: Change) -> str:
    """Say what changes, and why where that is known."""
    if one.version is None:
        return f"without `{one.name}`"
    if one.reference is None:
        return f"`{one.name}` {one.version} besides"
    why = f", which {one.why}" if one.why else ""
    return f"`{one.name}` {one.version} in place of {one.reference}{why}"


def _versions(matrix: Readiness) -> str:
    """Return distributions by targets; targets with the same versions share a column, and no table is too wide."""
    sets = grouped(matrix, lambda row: tuple((one.name, one.version or "folder") for one in row.distributions))
    names = sorted({name for pairs in sets for name, _ in pairs})
    kinds = {one.name: kind(one) for row in matrix.targets for one in row.distributions if one.compiled}
    shown = [f"{name} ({kinds[name]})" if name in kinds else name for name in names]
    first = max(map(len, shown), default=0)
    tables: list[list[tuple[str, list[str]]]] = []
    used = _WIDTH
    for pairs, rows in sets.items():
        versions = dict(pairs)
        cells = [versions.get(name, "-") for name in names]
        for title in targets(matrix, rows).split(", "):
            width = max(map(len, (title, *cells))) + 2
            if used + width > _WIDTH:
                tables.append([])
                used = first
            tables[-1].append((title, cells))
            used += width
    return "\n\n".join(
        columns(
            ("distribution", *(title for title, _ in table)),
            zip(shown, *(cells for _, cells in table), strict=True),
        )
        for table in tables
    )


def document(matrix: Readiness) -> dict[str, Any]:
    """Return the document of `manylambda plan --all-targets`."""
    return {
        "version": 1,
        "source": {"kind": matrix.source.kind.value, "files": [str(file) for file in matrix.source.files]},
        "named": [str(target) for target in matrix.named],
        "reference": str(matrix.reference) if matrix.reference else None,
        "targets": [_row(row) for row in matrix.targets],
    }


def _row(row: TargetReadiness) -> dict[str, Any]:
    return {
        "target": str(row.target),
        "runtime": row.target.runtime,
        "architecture": row.target.architecture.value,
        "status": row.target.status,
        "deprecated": row.target.deprecated,
        "state": row.state.value,
        "size": row.size,
        "unzipped_size": row.unzipped_size,
        "is_measured": row.is_measured,
        "too_large": row.is_too_large,
        "blockers": blockers(row.obstacles),
        "lock_blockers": blockers(row.lock_obstacles),
        "changes": [
            {"name": one.name, "version": one.version, "reference": one.reference, "why": one.why}
            for one in row.changes
        ],
        "distributions": [
            {
                "name": one.name,
                "version": one.version,
                "file": one.file,
                "compiled": one.compiled,
                "pure_fallback": one.is_fallback,
                "size": one.size,
                "unzipped_size": one.unzipped_size,
                "languages": list(one.languages) if one.languages is not None else None,
            }
            for one in row.distributions
        ],
    }


def blockers(obstacles: Iterable[Obstacle]) -> list[dict[str, Any]]:
    """Return obstacles as plain data."""
    return [
        {
            "message": one.sentence,
            "hint": one.hint,
            "distribution": one.blocker.name if one.blocker else None,
            "versions": one.blocker.asked if one.blocker else None,
            "runs": one.blocker.runs if one.blocker else None,
            "needed_by": list(one.blocker.needed_by) if one.blocker else [],
        }
        for one in obstacles
    ]
