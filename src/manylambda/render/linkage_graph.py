"""The linkage of a distribution as a picture: who loads whom, drawn in layers from left to right, as SVG.

What has the same needs and the same needers is one node, so that a hundred extension modules are as easy to read as
one. The layout is Sugiyama's: layers by the longest path, order by barycenters, then places as near to the neighbours
as the order allows. Nothing is random.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.linkage import module_file
from manylambda.render.markup import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from manylambda.audits.anatomy import End, Need

_MOST_NODES: Final = 60
_COMFORTABLE: Final = 20
_MOST_EDGES: Final = 30
_MOST_RUNTIME: Final = 3
_MOST_MISSING: Final = 30
_WIDTH: Final = 186.0
_HEIGHT: Final = 26.0
_ACROSS: Final = 48.0
"""Between two layers, where the edges run."""
_GAP: Final = 9.0
_LETTER: Final = 6.7
_MARGIN: Final = 12.0
_ROOM: Final = int((_WIDTH - 32) / _LETTER)
"""Letters that a node has room for."""

WORST_FIRST: Final[tuple[End, ...]] = ("missing", "unreached", "shadowed", "bundled", "provided")


class Node(NamedTuple):
    """One or more files, or sonames, that behave alike."""

    kind: str
    """`module`, `bundled`, `runtime`, `missing`, `unreached` or `shadowed`."""
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        """A short name; of many, the first and how many more."""
        if self.kind == "runtime" and len(self.names) > 1:
            return f"runtime: {len(self.names)} libraries"
        first = self.names[0].rpartition("/")[2]
        module = module_file(first) if self.kind == "module" else None
        shown = _cut(first if module is None else module.module, 18 if len(self.names) > 1 else _ROOM)
        return f"{shown} +{len(self.names) - 1}" if len(self.names) > 1 else shown


class Edge(NamedTuple):
    """A need: indices of two nodes and how it ends."""

    source: int
    target: int
    end: End


class Graph(NamedTuple):
    """Nodes in a fixed order and the needs between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class _Key(NamedTuple):
    where: str
    """`file`, `runtime` or `missing`."""
    name: str


def graph(needs: Sequence[Need]) -> Graph:
    """Return what `needs` say, folded until it can be read."""
    kinds: dict[_Key, str] = {}
    ends: dict[tuple[_Key, _Key], End] = {}
    for need in needs:
        source = _Key("file", need.needer)
        kinds[source] = "module" if need.is_module else kinds.get(source, "bundled")
        if need.end in {"provided", "missing"} or need.provider is None:
            target = _Key("missing" if need.end == "missing" else "runtime", need.soname)
            kinds[target] = target.where
        else:
            target = _Key("file", need.provider)
            if need.end in {"unreached", "shadowed"}:
                kinds[target] = need.end
            kinds.setdefault(target, "bundled")
        if source != target:
            known = ends.get((source, target), "provided")
            ends[source, target] = min(known, need.end, key=WORST_FIRST.index)
    folded: dict[_Key, list[str]] = {key: [key.name] for key in sorted(kinds)}
    for where, most in (("runtime", _MOST_RUNTIME), ("missing", _MOST_MISSING)):
        if sum(key.where == where for key in folded) > most:
            ends = _fold(folded, ends, partial(_of, where))
    troubled = _troubled(ends)
    if troubled:  # the picture is to show how one gets there; what is right is told in one node
        ends = _fold(folded, ends, lambda key, _needed, _needers: _sound(key, kinds[key], troubled))
    # Each step tells less than the one before, and is taken only where there is still too much to read.
    for likeness, most in ((0b11, 0), (0b10, _COMFORTABLE), (0b01, _MOST_NODES), (0b00, _MOST_NODES)):
        before = 0
        while len(folded) > most and before != len(folded):
            before = len(folded)
            ends = _fold(folded, ends, partial(_alike, kinds, likeness))
    if len(ends) > _MOST_EDGES:
        ends = _reduced(ends)
    order = {key: number for number, key in enumerate(folded)}
    return Graph(
        nodes=tuple(Node(kinds[key], tuple(sorted(names))) for key, names in folded.items()),
        edges=tuple(sorted(Edge(order[source], order[target], end) for (source, target), end in ends.items())),
    )


def _of(where: str, key: _Key, _needed: Hashable, _needers: Hashable) -> Hashable:
    return key.where == where or key


def _sound(key: _Key, kind: str, troubled: frozenset[_Key]) -> Hashable:
    return (kind, "sound") if kind == "bundled" and key not in troubled else key


def _alike(kinds: Mapping[_Key, str], likeness: int, key: _Key, needed: Hashable, needers: Hashable) -> Hashable:
    """Tell apart by the kind, by what is needed (bit 1) and by who needs it (bit 0)."""
    return (kinds[key], likeness & 2 and needed, likeness & 1 and needers) if key.where == "file" else key


def _troubled(ends: Mapping[tuple[_Key, _Key], End]) -> frozenset[_Key]:
    """Return all from which a way leads to a need that ends badly, and the ends themselves."""
    needers: dict[_Key, list[_Key]] = {}
    for source, target in ends:
        needers.setdefault(target, []).append(source)
    found = {each for pair, end in ends.items() if end not in {"provided", "bundled"} for each in pair}
    queue = list(found)
    for key in queue:  # grows while it is read
        for source in needers.get(key, ()):
            if source not in found:
                found.add(source)
                queue.append(source)
    return frozenset(found)


def _reduced(ends: Mapping[tuple[_Key, _Key], End]) -> dict[tuple[_Key, _Key], End]:
    """Leave out the edges that follow from others: what my library needs is loaded for me as well."""
    targets: dict[_Key, set[_Key]] = {}
    for source, target in ends:
        targets.setdefault(source, set()).add(target)
    reach: dict[_Key, set[_Key]] = {}
    for key, direct in targets.items():
        queue, seen = sorted(direct), set(direct)
        for one in queue:  # grows while it is read
            new = targets.get(one, set()) - seen
            seen |= new
            queue += sorted(new)
        reach[key] = seen
    return {
        (source, target): end
        for (source, target), end in ends.items()
        if end in {"unreached", "shadowed"}
        or not any(
            target in reach.get(other, ()) and source not in reach.get(other, ())
            for other in targets[source] - {target}
        )
    }


def _fold(
    nodes: dict[_Key, list[str]],
    ends: Mapping[tuple[_Key, _Key], End],
    alike: Callable[[_Key, Hashable, Hashable], Hashable],
) -> dict[tuple[_Key, _Key], End]:
    """Make one node of all that are alike, in place; return the edges between what is left."""
    needed: dict[_Key, list[tuple[_Key, End]]] = {key: [] for key in nodes}
    needers: dict[_Key, list[tuple[_Key, End]]] = {key: [] for key in nodes}
    for (source, target), end in ends.items():
        needed[source].append((target, end))
        needers[target].append((source, end))
    first: dict[Hashable, _Key] = {}
    stands_for: dict[_Key, _Key] = {}
    for key in list(nodes):
        same = alike(key, tuple(sorted(needed[key])), tuple(sorted(needers[key])))
        stands_for[key] = first.setdefault(same, key)
        if stands_for[key] != key:
            nodes[stands_for[key]] += nodes.pop(key)
    left: dict[tuple[_Key, _Key], End] = {}
    for (source, target), end in ends.items():
        pair = stands_for[source], stands_for[target]
        if pair[0] != pair[1]:
            left[pair] = min(left.get(pair, "provided"), end, key=WORST_FIRST.index)
    return left


class _Slot:
    """A place in a layer: a node, or a bend of an edge that passes."""

    __slots__ = ("column", "height", "left", "node", "right", "y")

    def __init__(self, column: int, node: int | None) -> None:
        self.column, self.node = column, node
        self.height = _HEIGHT if node is not None else 4.0
        self.left: list[_Slot] = []
        self.right: list[_Slot] = []
        self.y = 0.0


def svg(one: Graph, label: str) -> str:
    """Draw a graph."""
    columns, slots, bends = _placed(one)
    height = max((slot.y + slot.height for column in columns for slot in column), default=0.0) + _MARGIN
    width = len(columns) * (_WIDTH + _ACROSS) - _ACROSS + 2 * _MARGIN
    order = sorted(range(len(one.edges)), key=lambda at: (-WORST_FIRST.index(one.edges[at].end), at))
    edges = "".join(_edge(one.edges[at], bends[at]) for at in order)
    nodes = "".join(_node(at, node, slots[at]) for at, node in enumerate(one.nodes))
    return (
        f'<svg class="linkage" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{plain(label)}; the table below says the same">{edges}{nodes}</svg>'
    )


def _placed(one: Graph) -> tuple[list[list[_Slot]], list[_Slot], list[list[_Slot]]]:
    """Return the layers, the slot of each node, and the slots each edge runs through."""
    levels = _levels(one)
    columns: list[list[_Slot]] = [[] for _ in range(max(levels, default=0) + 1)]
    slots = [_Slot(level, number) for number, level in enumerate(levels)]
    for slot in slots:
        columns[slot.column].append(slot)
    bends: list[list[_Slot]] = []
    for edge in one.edges:
        ends = slots[edge.source], slots[edge.target]
        way = [ends[0]]
        if one.nodes[edge.target].kind != "runtime":  # everything leads there: such edges lie behind, and run straight
            way += [_Slot(column, None) for column in range(ends[0].column + 1, ends[1].column)]
            for bend in way[1:]:
                columns[bend.column].append(bend)
        way.append(ends[1])
        bends.append(way)
        if way[-1].column - way[-2].column == 1:
            for before, after in pairwise(way):
                before.right.append(after)
                after.left.append(before)
    _order(columns, one)
    _settle(columns)
    return columns, slots, bends


def _levels(one: Graph) -> list[int]:
    """Return the layer of each node: right of all that need it; what comes from outside stands in the last one."""
    targets: list[list[int]] = [[] for _ in one.nodes]
    for edge in one.edges:
        targets[edge.source].append(edge.target)
    state = [0] * len(one.nodes)
    finished: list[int] = []
    back: set[tuple[int, int]] = set()

    def visit(number: int) -> None:  # as deep as there are nodes, which are few
        state[number] = 1
        for target in targets[number]:
            if state[target] == 1:
                back.add((number, target))
            elif state[target] == 0:
                visit(target)
        state[number] = 2
        finished.append(number)

    for number in sorted(range(len(one.nodes)), key=lambda number: (one.nodes[number].kind != "module", number)):
        if state[number] == 0:
            visit(number)
    levels = [0] * len(one.nodes)
    for number in reversed(finished):
        for target in targets[number]:
            if (number, target) not in back:
                levels[target] = max(levels[target], levels[number] + 1)
    inside = [level for level, node in zip(levels, one.nodes, strict=True) if node.kind not in {"runtime", "missing"}]
    last = max(inside, default=0) + 1
    return [
        last if node.kind in {"runtime", "missing"} else level for level, node in zip(levels, one.nodes, strict=True)
    ]


_RANK: Final = {"missing": 0, "unreached": 1, "shadowed": 2, "bundled": 3, "module": 3, "runtime": 4}


def _order(columns: Sequence[list[_Slot]], one: Graph) -> None:
    """Sort each layer by where its neighbours stand, to and fro."""

    def rank(slot: _Slot) -> int:
        return 3 if slot.node is None else _RANK[one.nodes[slot.node].kind]

    places: dict[_Slot, float] = {}
    for column in columns:
        column.sort(key=rank)
        places.update((slot, number / max(len(column), 1)) for number, slot in enumerate(column))

    def wanted(slot: _Slot, neighbours: Sequence[_Slot]) -> float:
        return sum(places[each] for each in neighbours) / len(neighbours) if neighbours else places[slot]

    for sweep in range(10):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            aims = {slot: wanted(slot, slot.left if forward else slot.right) for slot in column}
            column.sort(key=lambda slot: (rank(slot) == 4, aims[slot]))
            places.update((slot, number / max(len(column), 1)) for number, slot in enumerate(column))


def _settle(columns: Sequence[list[_Slot]]) -> None:
    """Give each slot a height near that of its neighbours, without changing the order."""
    for column in columns:
        y = _MARGIN
        for slot in column:
            slot.y = y
            y += slot.height + _GAP
    for sweep in range(12):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            aims = []
            for slot in column:
                near = (slot.left if forward else slot.right) or [slot]
                aims.append(sum(each.y + each.height / 2 for each in near) / len(near) - slot.height / 2)
            for slot, y in zip(column, _apart(aims, [slot.height + _GAP for slot in column]), strict=True):
                slot.y = y
    top = min((slot.y for column in columns for slot in column), default=0.0) - _MARGIN
    for column in columns:
        for slot in column:
            slot.y -= top


def _apart(aims: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return the places nearest to `aims` (least squares) that keep the order and the distances `heights`."""
    blocks: list[tuple[float, int]] = []  # mean of the aims less the heights above, how many
    offset = 0.0
    offsets = []
    for aim, height in zip(aims, heights, strict=True):
        offsets.append(offset)
        blocks.append((aim - offset, 1))
        offset += height
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (mean, count), (other, more) = blocks.pop(), blocks.pop()
            blocks.append(((mean * count + other * more) / (count + more), count + more))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _left(slot: _Slot) -> float:
    return _MARGIN + slot.column * (_WIDTH + _ACROSS)


def _edge(edge: Edge, way: Sequence[_Slot]) -> str:
    first, last = way[0], way[-1]
    if last.column <= first.column:  # back, round a cycle
        x, y = _left(first) + _WIDTH, first.y + first.height / 2
        x2, y2 = _left(last) + _WIDTH, last.y + last.height / 2
        line = f"M{x:.1f} {y:.1f}C{x + 50:.1f} {y:.1f} {x2 + 50:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    else:
        x, y = _left(first) + _WIDTH, first.y + first.height / 2
        line = f"M{x:.1f} {y:.1f}"
        for slot in way[1:]:
            x2, y2 = _left(slot), slot.y + slot.height / 2
            middle = (x + x2) / 2
            line += f"C{middle:.1f} {y:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            x, y = x2, y2
            if slot.node is None:
                x += _WIDTH
                line += f"H{x:.1f}"
    return f'<path class="edge {edge.end}" data-edge="{edge.source} {edge.target}" d="{line}"/>'


_MARKS: Final = {  # drawn about the origin; shape and not only colour says what a node is
    "module": "M-4-4H4V4H-4Z",
    "bundled": "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0Z",
    "runtime": "M0-5L5 0L0 5L-5 0Z",
    "missing": "M-4-4L4 4M4-4L-4 4",
    "unreached": "M0-5L5 4H-5Z",
    "shadowed": "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0-4.5 0ZM-4.5 0H4.5",
}


def mark(kind: str) -> str:
    """Return the sign of a kind of node or end, for legends and tables."""
    shape = _MARKS["runtime" if kind == "provided" else kind]
    return (
        f'<svg class="mark {kind}" viewBox="-6 -6 12 12" width="12" height="12" aria-hidden="true">'
        f'<path d="{shape}"/></svg>'
    )


def _node(number: int, node: Node, slot: _Slot) -> str:
    x, y = _left(slot), slot.y
    return (
        f'<g class="node {node.kind}" data-node="{number}"><title>{plain(_title(node), longest=2000)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}" rx="5"/>'
        f'<path class="mark" transform="translate({x + 13:.1f} {y + _HEIGHT / 2:.1f})" d="{_MARKS[node.kind]}"/>'
        f'<text x="{x + 24:.1f}" y="{y + _HEIGHT / 2 + 4:.1f}">{plain(node.label)}</text></g>'
    )


def _cut(text: str, room: int) -> str:
    """Shorten a name in its middle: both its beginning and its version tell something."""
    tail = room // 3
    return text if len(text) <= room else f"{text[: room - tail - 1]}…{text[-tail:]}"


def _title(node: Node) -> str:
    shown = node.names[:20]
    more = len(node.names) - len(shown)
    return f"{node.kind}: {', '.join(shown)}" + (f" and {more} more" if more else "")


def legend(kinds: Iterable[str]) -> str:
    """Say what the marks mean, of the kinds that are drawn."""
    words = {
        "missing": "missing everywhere",
        "unreached": "in the package, but no search path leads there",
        "shadowed": "in the package, but the runtime's copy is loaded",
        "module": "extension module",
        "bundled": "library of the package",
        "runtime": "library of the runtime",
    }
    drawn = set(kinds)
    items = "".join(f"<li>{mark(kind)} {text}</li>" for kind, text in words.items() if kind in drawn)
    return f'<ul class="legend">{items}</ul>'
