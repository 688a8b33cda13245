"""Lines put into a template between those that are there: comments, quotes and order stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from manylambda.errors import RequestError
from manylambda.templates.document import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yaml import MappingNode, Node, ScalarNode


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def with_metadata(text: str, path: Path, wanted: Mapping[str, Mapping[str, str]]) -> str:
    """Return the text of a template whose resources have what is `wanted` in their `Metadata`.

    `wanted` is by logical id: `{"Api": {"BuildMethod": "makefile"}}`. `path` is what errors name. Raises RequestError
    where the text is written so that it cannot be done without harm, such as with merge keys.
    """
    edits: set[_Edit] = set()
    resources = _resources(text)
    for name, values in wanted.items():
        found = None if resources is None else _value(resources, name)
        try:
            edits.update(_edits(text, found, values))
        except _NotSimple as reason:
            raise RequestError(f"`{path}` cannot be changed for `{name}`: {reason}", hint=_by_hand(values)) from None
    changed = text
    for edit in sorted(edits, reverse=True):
        changed = changed[: edit.start] + edit.text + changed[edit.end :]
    expected = parse(text, path)
    for name, values in wanted.items():
        resource = expected["Resources"][name]
        metadata = {**(resource.get("Metadata") or {}), **values}
        expected["Resources"][name] = {**resource, "Metadata": metadata}  # not in place: others may be the same text
    if parse(changed, path) != expected:
        raise RequestError(f"`{path}` cannot be changed: it would say something else", hint="add the lines by hand")
    return changed


def _by_hand(values: Mapping[str, str]) -> str:
    lines = ", ".join(f"`{key}: {value}`" for key, value in values.items())
    return f"put {lines} into its `Metadata` by hand"


class _NotSimple(Exception):
    """Why a resource cannot be changed."""


def _resources(text: str) -> MappingNode | None:
    import yaml

    try:
        top = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:  # JSON with tabs: what it says is known, but not where
        return None
    return _mapping(_value(top, "Resources"))


def _edits(text: str, resource: Node | None, values: Mapping[str, str]) -> Iterator[_Edit]:
    import yaml

    within = _mapping(resource)
    kind = _value(within, "Type")
    if within is None or not isinstance(kind, yaml.ScalarNode):
        raise _NotSimple("its `Type` does not stand there")
    metadata = _value(within, "Metadata")
    if metadata is None:
        yield _insertion(text, within, _key(within, "Type"), kind, {"Metadata": values})
        return
    given = _mapping(metadata)
    if given is None or not given.value:
        raise _NotSimple("its `Metadata` is no table")
    for key, value in values.items():
        old = _value(given, key)
        if old is None:
            first_key, first = given.value[0]
            yield _insertion(text, given, first_key, first, {key: value}, before=True)
        elif isinstance(old, yaml.ScalarNode):
            yield _Edit(old.start_mark.index, old.end_mark.index, f'"{value}"' if old.style == '"' else value)
        else:
            raise _NotSimple(f"its `{key}` is no text")


def _insertion(
    text: str, within: MappingNode, key: ScalarNode, value: Node, new: Mapping[str, Any], *, before: bool = False
) -> _Edit:
    """Put `new` beside the entry `key: value`, in the way that entry is written."""
    end = "\r\n" if "\r\n" in text else "\n"
    start = key.start_mark.index
    line = text.rfind("\n", 0, start) + 1
    has_own_line = not text[line:start].strip(" -")
    indent = " " * key.start_mark.column
    if within.flow_style:
        quoted = key.style == '"'
        entry = ", ".join(f"{_quoted(name, quoted=quoted)}: {_flow(one, quoted=quoted)}" for name, one in new.items())
        gap = f"{end}{indent}" if has_own_line else " "
        if before:
            return _Edit(start, start, f"{entry},{gap}")
        return _Edit(value.end_mark.index, value.end_mark.index, f",{gap}{entry}")
    if not has_own_line:
        raise _NotSimple("it is not written in lines of its own")
    lines = list(_block(new, ""))
    if before:
        return _Edit(start, start, "".join(f"{each}{end}{indent}" for each in lines))
    place = text.find("\n", value.end_mark.index)
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
        return (
            "{"
            + ", ".join(f"{_quoted(key, quoted=quoted)}: {_flow(one, quoted=quoted)}" for key, one in value.items())
            + "}"
        )
    return _quoted(str(value), quoted=quoted)


def _quoted(text: str, *, quoted: bool) -> str:
    return json.dumps(text) if quoted else text


def _mapping(node: Node | None) -> MappingNode | None:
    import yaml

    return node if isinstance(node, yaml.MappingNode) else None


def _key(node: MappingNode, name: str) -> ScalarNode:
    key: ScalarNode = next(key for key, _ in node.value if key.value == name)
    return key


def _value(node: Node | None, name: str) -> Node | None:
    pairs = _mapping(node)
    return next((value for key, value in pairs.value if key.value == name), None) if pairs is not None else None
