"""Import-time tree: what is worth showing of it, as rows for text and as a picture (icicle) without any script."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.render.markup import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.trial.model import ImportTime

_WIDTH: Final = 1120.0
_ROW: Final = 22.0
_DEEPEST: Final = 28
"""Rows of the picture."""
_NARROWEST: Final = 1.2
"""Of a frame, in pixels: what is narrower is drawn together."""
_LETTER: Final = 6.5
_TONES: Final = 5
"""Packages with a colour of their own; all others share one."""


class Row(NamedTuple):
    """A module of the tree on its way down."""

    time: ImportTime
    depth: int
    parent: int | None
    """The number of the row that imported it."""
    hidden: int
    """How many of the modules that it imported first have no row."""


class Package(NamedTuple):
    """What the modules of one top-level package cost together, without what they import of others."""

    name: str
    modules: int
    seconds: float


def rows(tree: ImportTime, *, most: int | None = None, deepest: int | None = None) -> list[Row]:
    """Return the `most` costly modules depth first, the largest first among siblings; none without its parent.

    Nothing here recurses: the depth of a tree is what the code under trial makes it.
    """
    kept = {id(tree)}
    heap: list[tuple[float, int, ImportTime, int]] = [(-tree.total_seconds, 0, tree, 0)]
    number = 0
    chosen = 0
    while heap and (most is None or chosen < most):
        _, _, time, depth = heapq.heappop(heap)
        kept.add(id(time))
        chosen += 1
        if deepest is not None and depth >= deepest:
            continue
        for child in time.children:
            number += 1
            heapq.heappush(heap, (-child.total_seconds, number, child, depth + 1))
    found: list[Row] = []
    stack: list[tuple[ImportTime, int, int | None]] = [(tree, 0, None)]
    while stack:
        time, depth, parent = stack.pop()
        shown = [child for child in _largest_first(time.children) if id(child) in kept]
        stack += [(child, depth + 1, len(found)) for child in reversed(shown)]
        found.append(Row(time, depth, parent, len(time.children) - len(shown)))
    return found


class _Frame(NamedTuple):
    """A module in the picture."""

    time: ImportTime
    depth: int
    x: float
    width: float


def size(tree: ImportTime) -> int:
    """Return how many modules the tree has."""
    return sum(1 for _ in _all(tree))


def packages(tree: ImportTime) -> list[Package]:
    """Return what each top-level package cost, the largest first."""
    seconds: dict[str, float] = {}
    modules: dict[str, int] = {}
    for time in _all(tree):
        name = top(time)
        seconds[name] = seconds.get(name, 0.0) + time.self_seconds
        modules[name] = modules.get(name, 0) + 1
    found = [Package(name, modules[name], spent) for name, spent in seconds.items()]
    return sorted(found, key=lambda one: (-one.seconds, one.name))


def top(time: ImportTime) -> str:
    """Return the top-level package of a module."""
    return time.name.partition(".")[0]


def tones(tree: ImportTime) -> dict[str, int]:
    """Return the number of the colour, from 1, of each package that has one; the costliest have."""
    return {one.name: number for number, one in enumerate(packages(tree)[:_TONES], 1)}


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds, with enough figures to compare."""
    return f"{seconds * 1000:,.1f} ms"


def picture(tree: ImportTime) -> str:
    """Draw the tree as an icicle: a frame a module, as wide as its import was long, above what it imported."""
    frames: list[str] = []
    colors = tones(tree)
    whole = max(tree.total_seconds, 1e-9)
    lowest = 0
    stack = [_Frame(tree, 0, 0.0, _WIDTH)]
    while stack:
        frame = stack.pop()
        time, depth, at, room = frame
        lowest = max(lowest, depth)
        frames.append(_drawn(frame, whole, colors))
        if depth + 1 >= _DEEPEST:
            continue
        # Clocks are never quite right: children that cost more than their parent share its width.
        spent = max(time.total_seconds, sum(max(child.total_seconds, 0.0) for child in time.children), 1e-9)
        few: list[ImportTime] = []
        for child in _largest_first(time.children):
            width = room * max(child.total_seconds, 0.0) / spent
            if width < _NARROWEST:
                few.append(child)
                continue
            stack.append(_Frame(child, depth + 1, at, width))
            at += width
        width = room * sum(max(child.total_seconds, 0.0) for child in few) / spent
        if width >= _NARROWEST:
            lowest = max(lowest, depth + 1)
            frames.append(_rest(few, depth + 1, at, width))
    height = (lowest + 1) * _ROW
    label = f"import time of {tree.name}, {milliseconds(tree.total_seconds)} in {size(tree):,} modules"
    return (
        f'<svg class="icicle" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" width="{_WIDTH:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{plain(label)}; the list says the same">{"".join(frames)}</svg>'
    )


def _drawn(frame: _Frame, whole: float, colors: Mapping[str, int]) -> str:
    time, depth, x, width = frame
    title = (
        f"{time.name}: {milliseconds(time.total_seconds)} ({100 * time.total_seconds / whole:.1f} %), "
        f"{milliseconds(time.self_seconds)} of it its own"
    )
    return _rect(f"tone-{colors.get(top(time), 0)}", depth, x, width, title) + _label(frame)


def _rest(few: Sequence[ImportTime], depth: int, x: float, width: float) -> str:
    spent = milliseconds(sum(time.total_seconds for time in few))
    title = f"{few[0].name}: {spent}" if len(few) == 1 else f"{len(few):,} smaller modules: {spent}"
    return _rect("rest", depth, x, width, title)


def _rect(style: str, depth: int, x: float, width: float, title: str) -> str:
    return (
        f'<rect class="{style}" x="{x:.2f}" y="{depth * _ROW:.0f}" width="{max(width - 1, 0.4):.2f}" '
        f'height="{_ROW - 1:.0f}"><title>{plain(title)}</title></rect>'
    )


def _label(frame: _Frame) -> str:
    time, depth, x, width = frame
    room = int((width - 9) / _LETTER)
    name = time.name if len(time.name) <= room else "." + time.name.rpartition(".")[2]
    if room < min(len(name), 4):
        return ""
    cut = name if len(name) <= room else f"{name[: room - 1]}…"
    cost = f"  {milliseconds(time.total_seconds)}"
    told = cut + cost if len(cut) + len(cost) <= room else cut
    return f'<text x="{x + 4:.1f}" y="{depth * _ROW + 14.5:.1f}">{plain(told)}</text>'


def _largest_first(times: Sequence[ImportTime]) -> list[ImportTime]:
    return sorted(times, key=lambda time: (-time.total_seconds, time.name))


def _all(tree: ImportTime) -> Iterator[ImportTime]:
    stack = [tree]
    while stack:
        time = stack.pop()
        yield time
        stack += time.children
