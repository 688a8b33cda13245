"""YAML and JSON as AWS's tools read them: short forms of intrinsic functions, and no objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import yaml

_LARGEST: Final = 1_000_000
"""Nodes of a file, with all that its aliases repeat: a hundred times the largest template that CloudFormation takes."""
_WITHOUT_PREFIX: Final = frozenset({"Ref", "Condition"})


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Read a file that is a mapping: YAML 1.1 - which SAM and the Serverless Framework take - or JSON.

    `!Sub x` becomes `{"Fn::Sub": "x"}`, as does every tag that begins with one exclamation mark; no tag makes an
    object. Raises RequestError for what cannot be read, with the line.
    """
    value = parse(_text(path), path)
    if not isinstance(value, dict):
        raise RequestError(f"`{path}` is no mapping of names to values", hint="is it the template?")
    return value


def parse(text: str, path: Path) -> Any:
    """Parse a text; `path` is what errors name."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)  # tabs are no white space of YAML
        except (ValueError, RecursionError):
            pass
    import yaml

    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _LARGEST:
            raise RequestError(f"`{path}` cannot be read: its aliases make too much of it")  # "billion laughs"
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise RequestError(f"`{path}` cannot be read{where}: {error.problem or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fact = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise RequestError(f"`{path}` cannot be read: {fact}") from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes that a text stands for: aliases of aliases multiply them. A node that has itself has no end."""
    size = known.get(id(node))
    if size is None:
        known[id(node)] = _LARGEST + 1  # while it is counted
        children = node.value if isinstance(node.value, list) else ()
        pairs = (each for child in children for each in (child if isinstance(child, tuple) else (child,)))
        size = known[id(node)] = 1 + sum(_size(each, known) for each in pairs)
    return size


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"`{path}` is not UTF-8") from error
    except OSError as error:
        raise RequestError(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from error


def _loader() -> type[Any]:
    """Make the loader; its base is imported only when a file is read."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Keeps the short forms of intrinsic functions as their long forms."""

    def intrinsic(loader: Loader, suffix: str, node: yaml.Node) -> Mapping[str, object]:
        name = suffix if suffix in _WITHOUT_PREFIX else f"Fn::{suffix}"
        value: object
        match node:
            case yaml.ScalarNode():
                value = loader.construct_scalar(node)
                if suffix == "GetAtt":
                    value = str(value).split(".", 1)
            case yaml.SequenceNode():
                value = loader.construct_sequence(node, deep=True)
            case _:
                assert isinstance(node, yaml.MappingNode)
                value = loader.construct_mapping(node, deep=True)
        return {name: value}

    Loader.add_multi_constructor("!", intrinsic)
    return Loader
