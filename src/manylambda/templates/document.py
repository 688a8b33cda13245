"""YAML and JSON as AWS's tools read them: short forms of intrinsic functions, and no objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
        except ValueError:
            pass
    import yaml

    try:
        return yaml.load(text, Loader=_loader())  # noqa: S506 - a `SafeLoader`
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise RequestError(f"`{path}` cannot be read{where}: {error.problem or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fact = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise RequestError(f"`{path}` cannot be read: {fact}") from error


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
