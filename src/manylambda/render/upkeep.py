"""What `manylambda cache` shows: text for people, data for programs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from manylambda.fetch.upkeep import DAY, HOUR
from manylambda.render.table import columns, mebibytes, readable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manylambda.fetch.upkeep import Held, Pruned


def held(root: Path, holds: Iterable[Held]) -> str:
    """Return the folder, and a table of what it holds."""
    found = [one for one in holds if one.entries]
    if not found:
        return f"{root}\n  empty"
    rows = [(one.kind.title, f"{one.entries:,}", mebibytes(one.size), _ago(one.used)) for one in found]
    rows.append(("together", f"{sum(one.entries for one in found):,}", mebibytes(sum(one.size for one in found)), ""))
    return f"{root}\n" + columns(("kind", "entries", "size", "last used"), rows, right=frozenset({1, 2}))


def pruned(root: Path, result: Pruned, *, dry_run: bool) -> str:
    """Return what was removed, by kind, and what is left."""
    gone = [one for one in result.removed if one.entries]
    freed, left = (readable(sum(one.size for one in kinds)) for kinds in (result.removed, result.kept))
    if not gone:
        return f"{root}\n  nothing to remove, {left} stay"
    rows = [(one.kind.title, f"{one.entries:,}", mebibytes(one.size)) for one in gone]
    verb = "would be removed" if dry_run else "removed"
    table = columns((verb, "entries", "size"), rows, right=frozenset({1, 2}))
    return f"{root}\n{table}\n{freed} {verb}, {left} stay"


def document(root: Path, holds: Iterable[Held], removed: Iterable[Held] | None, *, dry_run: bool) -> dict[str, Any]:
    """Return the document of `manylambda cache`: what is there, and after `prune` what was removed."""
    there = list(holds)
    return {
        "version": 1,
        "folder": str(root),
        "size": sum(one.size for one in there),
        "kinds": kinds(there),
        "removed": None if removed is None else kinds(removed),
        "dry_run": dry_run,
    }


def kinds(holds: Iterable[Held]) -> list[dict[str, Any]]:
    """Return what is held as data."""
    return [_kind(one) for one in holds]


def _kind(one: Held) -> dict[str, Any]:
    used = None if one.used is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.used))
    return {"kind": one.kind.name, "entries": one.entries, "size": one.size, "used": used}


def _ago(used: float | None) -> str:
    seconds = time.time() - (used or 0.0)
    if seconds < HOUR:
        return "within the hour"
    if seconds < DAY:
        return f"{seconds / HOUR:.0f} h ago"
    return f"{seconds / DAY:.0f} d ago"
