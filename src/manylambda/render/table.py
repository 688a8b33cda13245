"""Aligned columns of plain text: readable on any terminal, in a pipe and in a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def columns(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Return `header` and `rows` as lines of equal columns, those in `right` aligned to the right."""
    table = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def mebibytes(size: int, digits: int = 1) -> str:
    """Return bytes as MiB (2^20), the unit of Lambda's limits; two digits compare the small ones of a column."""
    return f"{size / (1 << 20):.{digits}f} MiB"


def readable(size: int) -> str:
    """Return bytes in the unit that shows something of them."""
    if size >= 1 << 18:
        return mebibytes(size)
    return f"{size / 1024:.1f} KiB" if size >= 1024 else f"{size} B"
