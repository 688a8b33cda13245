"""Treemap: sizes as areas, squarified (Bruls, Huizing, van Wijk 2000), as SVG without any script."""

from __future__ import annotations

from posixpath import commonpath
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.render.markup import plain
from manylambda.render.table import readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.audits.anatomy import File, Part

_WIDTH: Final = 1120
_SMALLEST: Final = 42.0
"""Square pixels below which a file is not drawn alone."""
_HEADING: Final = 17.0
_LETTER: Final = 6.5
_GAP: Final = 1.0


class Box(NamedTuple):
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float

    def within(self, margin: float, top: float) -> Box:
        """Return what is left inside a margin and below a heading."""
        return Box(
            self.x + margin,
            self.y + top,
            max(self.width - 2 * margin, 0.0),
            max(self.height - top - margin, 0.0),
        )


class _Folder(NamedTuple):
    name: str
    files: list[File]
    size: int


def squarified(sizes: Sequence[int], box: Box) -> list[Box]:
    """Return a box for each size, in order; `sizes` are falling and none is 0."""
    boxes: list[Box] = []
    scale = box.width * box.height / (sum(sizes) or 1)
    areas = [size * scale for size in sizes]
    at = 0
    while at < len(areas):
        side = min(box.width, box.height)
        if side <= 0:
            boxes += [Box(box.x, box.y, 0.0, 0.0)] * (len(areas) - at)
            break
        end, total, worst = at, 0.0, float("inf")
        while end < len(areas):
            more = total + areas[end]
            thickness = more / side
            ratio = max(thickness * thickness / areas[end], areas[at] / (thickness * thickness))
            if ratio > worst:
                break
            end, total, worst = end + 1, more, ratio
        thickness, along = total / side, 0.0
        for area in areas[at:end]:
            length = area / thickness
            if box.width >= box.height:
                boxes.append(Box(box.x, box.y + along, thickness, length))
            else:
                boxes.append(Box(box.x + along, box.y, length, thickness))
            along += length
        if box.width >= box.height:
            box = Box(box.x + thickness, box.y, box.width - thickness, box.height)
        else:
            box = Box(box.x, box.y + thickness, box.width, box.height - thickness)
        at = end
    return boxes


def package(parts: Sequence[Part], titles: dict[str, str], links: dict[str, str]) -> str:
    """Draw all parts with what lies in them; `titles` and `links` (`#id`) are by the name of the part."""
    drawn = [part for part in parts if part.size]
    picture = []
    for part, box in zip(drawn, squarified([part.size for part in drawn], Box(0, 0, _WIDTH, 520)), strict=True):
        if box.width * box.height < _SMALLEST / 4:
            continue
        title = titles[part.name]
        inside = f'<g class="part" aria-hidden="true">{_rect("frame", box, f"{title}: {readable(part.size)}")}'
        top = _HEADING + 2 if box.height > 40 and box.width > 40 else 1.5
        if top > _HEADING:
            inside += _label(f"{title}  {readable(part.size)}", box._replace(height=_HEADING + 2), "heading")
        inside += "".join(_files(part.files, "", box.within(1.5, top), smallest=_SMALLEST * 2)) + "</g>"
        link = links.get(part.name)
        picture.append(f'<a href="{link}" aria-label="inside {plain(title)}">{inside}</a>' if link else inside)
    return _svg("".join(picture), 520, "group", "the size of each distribution and its files")


def part(one: Part) -> str:
    """Draw the folders and files of one part."""
    inside = "".join(_files(one.files, "", Box(0, 0, _WIDTH, 340), smallest=_SMALLEST * 1.5))
    return _svg(inside, 340, "img", f"the size of the files of {one.name}")


def _svg(inside: str, height: int, role: str, label: str) -> str:
    return (
        f'<svg class="treemap" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="{role}" aria-label="{plain(label)}; the tables say the same">{inside}</svg>'
    )


def _files(files: Sequence[File], prefix: str, box: Box, *, smallest: float) -> Iterator[str]:
    """Draw what lies below `prefix` into `box`; what would be too small to see is drawn as one."""
    total = sum(file.size for file in files)
    if not total or box.width * box.height < smallest / 4:
        return
    scale = box.width * box.height / total
    children = _children(files, prefix)
    shown = [child for child in children if child.size * scale >= smallest]
    rest = [child for child in children if 0 < child.size * scale < smallest]
    if len(rest) > 1:
        others = [file for child in rest for file in child.files]
        shown.append(_Folder("", others, sum(child.size for child in rest)))
    else:
        shown += rest
    shown.sort(key=lambda child: (-child.size, child.name))
    for child, place in zip(shown, squarified([child.size for child in shown], box), strict=True):
        if not child.name:
            title = f"{prefix}: {len(child.files)} smaller files: {readable(child.size)}"
            yield _leaf(child.files[0].substance + " rest", place, title, f"{len(child.files)} smaller files")
        elif len(child.files) == 1:
            (file,) = child.files
            yield _leaf(file.substance, place, f"{file.path}: {readable(file.size)}", file.path.rpartition("/")[2])
        elif place.width > 60 and place.height > 44:
            yield _rect("folder", place, f"{child.name}: {len(child.files)} files: {readable(child.size)}")
            name = child.name.removeprefix(prefix).strip("/")
            yield _label(f"{name}/", place._replace(height=_HEADING), "heading")
            yield from _files(child.files, f"{child.name}/", place.within(1.5, _HEADING), smallest=smallest)
        else:
            title = f"{child.name}: {len(child.files)} files: {readable(child.size)}"
            yield _leaf(child.files[0].substance + " rest", place, title, child.name.rpartition("/")[2] + "/")


def _children(files: Sequence[File], prefix: str) -> list[_Folder]:
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.path[len(prefix) :].partition("/")[0], []).append(file)
    folders = []
    for name, inside in groups.items():
        common = prefix + name
        if len(inside) > 1:  # a folder with nothing but a folder in it is not worth a frame
            paths = [file.path for file in inside]
            shared = commonpath([min(paths), max(paths)])
            common = max(common, shared, key=len)
        folders.append(_Folder(common, inside, sum(file.size for file in inside)))
    return folders


def _leaf(style: str, box: Box, title: str, label: str) -> str:
    return _rect(style, box, title) + _label(label, box, "")


def _rect(style: str, box: Box, title: str) -> str:
    width, height = max(box.width - _GAP, 0.4), max(box.height - _GAP, 0.4)
    return (
        f'<rect class="{style}" x="{box.x:.1f}" y="{box.y:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{plain(title)}</title></rect>"
    )


def _label(text: str, box: Box, style: str) -> str:
    room = int((box.width - 9) / _LETTER)
    if box.height < 15 or room < min(len(text), 5):
        return ""
    cut = text if len(text) <= room else f"{text[: room - 1]}…"
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{box.x + 4:.1f}" y="{box.y + 12.5:.1f}">{plain(cut)}</text>'
