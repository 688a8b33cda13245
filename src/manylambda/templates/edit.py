"""Lines put into YAML or JSON between those that are there: comments, quotes and order stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from manylambda.errors import RequestError
from manylambda.templates.document import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from yaml import MappingNode, Node, ScalarNode


class Entries(NamedTuple):
    """What a table is to say besides; a table in it is joined with one that is there."""

    where: tuple[str, ...]
    """The keys that lead to the table: `("Resources", "Api")`."""
    values: Mapping[str, Any]
    """Texts, and tables of them."""
    beside: str | None = None
    """The key that new lines stand beside: after it where its value is a text, else before it; None for the first."""


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def with_entries(text: str, path: Path, wanted: Iterable[Entries]) -> str:
    """Return the text of a file that says all that is `wanted`; `path` is what errors name.

    Raises RequestError where the text is written so that it cannot be done without harm, such as with merge keys.
    """
    wanted = list(wanted)
    edits: set[_Edit] = set()
    top = _composed(text)
    for one in wanted:
        table = top
        for key in one.where:
            table = _value(table, key)
        try:
            edits.update(_edits(text, _table(table), one.values, one.beside))
        except _NotSimple as reason:
            name = ".".join((*one.where, *reason.args[1:]))
            raise RequestError(f"`{path}` cannot be changed at `{name}`: {reason.args[0]}", hint=_HAND) from None
    changed = text
    for edit in sorted(edits, reverse=True):
        changed = changed[: edit.start] + edit.text + changed[edit.end :]
    expected = parse(text, path)
    for one in wanted:
        expected = _merged(expected, _nested(one.where, one.values))
    if parse(changed, path) != expected:
        raise RequestError(f"`{path}` cannot be changed: it would say something else", hint=_HAND)
    return changed


_HAND = "change it by hand"


class _NotSimple(Exception):
    """Why a table cannot be changed, and the key below it that is in the way."""


def _composed(text: str) -> Node | None:
    import yaml

    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:  # JSON with tabs: what it says is known, but not where
        return None


def _edits(text: str, table: MappingNode | None, values: Mapping[str, Any], beside: str | None) -> Iterator[_Edit]:
    import yaml

    if table is None or not table.value:
        raise _NotSimple("it does not stand there as a table of its own")
    absent = {}
    for key, value in values.items():
        old = _value(table, key)
        if old is None:
            absent[key] = value
        elif isinstance(value, Mapping):
            try:
                yield from _edits(text, _table(old), value, None)
            except _NotSimple as reason:
                raise _NotSimple(reason.args[0], key, *reason.args[1:]) from None
        elif isinstance(old, yaml.ScalarNode):
            yield _Edit(old.start_mark.index, old.end_mark.index, f'"{value}"' if old.style == '"' else value)
        else:
            raise _NotSimple("it is no text", key)
    if absent:
        entry = next((each for each in table.value if each[0].value == beside), None)
        if entry is None and beside is not None:
            raise _NotSimple("it does not stand there", beside)
        key_node, value_node = entry or table.value[0]
        is_text = isinstance(value_node, yaml.ScalarNode) and beside is not None
        yield _insertion(text, key_node, value_node if is_text else None, absent, flow=bool(table.flow_style))


def _insertion(text: str, key: ScalarNode, after: Node | None, new: Mapping[str, Any], *, flow: bool) -> _Edit:
    """Put `new` before the entry of `key`, or behind its value `after`, in the way that entry is written."""
    end = "\r\n" if "\r\n" in text else "\n"
    start = key.start_mark.index
    has_own_line = not text[text.rfind("\n", 0, start) + 1 : start].strip("\ufeff -")
    indent = " " * key.start_mark.column
    if flow:
        quoted = key.style == '"'
        entry = ", ".join(f"{_flow(name, quoted=quoted)}: {_flow(one, quoted=quoted)}" for name, one in new.items())
        gap = f"{end}{indent}" if has_own_line else " "
        if after is None:
            return _Edit(start, start, f"{entry},{gap}")
        return _Edit(after.end_mark.index, after.end_mark.index, f",{gap}{entry}")
    if not has_own_line:
        raise _NotSimple("it is not written in lines of its own")
    lines = list(_block(new, ""))
    if after is None:
        return _Edit(start, start, "".join(f"{each}{end}{indent}" for each in lines))
    place = text.find("\n", after.end_mark.index)
    place = len(text) if place < 0 else place - (text[place - 1] == "\r")
    return _Edit(place, place, "".join(f"{end}{indent}{each}" for each in lines))


def _block(new: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in new.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _block(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {value}"


def _flow(value: object, *, quoted: bool) -> str:
    if isinstance(value, Mapping):
        inner = (f"{_flow(key, quoted=quoted)}: {_flow(one, quoted=quoted)}" for key, one in value.items())
        return "{" + ", ".join(inner) + "}"
    return json.dumps(value) if quoted else str(value)


def _nested(where: tuple[str, ...], values: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in reversed(where):
        values = {key: values}
    return values


def _merged(old: object, new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Join tables; not in place, since others may be the same text."""
    joined = dict(old) if isinstance(old, Mapping) else {}
    for key, value in new.items():
        joined[key] = _merged(joined.get(key), value) if isinstance(value, Mapping) else value
    return joined


def _table(node: Node | None) -> MappingNode | None:
    import yaml

    return node if isinstance(node, yaml.MappingNode) else None


def _value(node: Node | None, name: str) -> Node | None:
    pairs = _table(node)
    return next((value for key, value in pairs.value if key.value == name), None) if pairs is not None else None
