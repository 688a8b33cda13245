"""Write the reference page of the JSON documents from their schemas, with an example of each in `tools/examples`.

python tools/generate_json.py            write it
python tools/generate_json.py --check    exit 1 when it is not what the schemas say
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from generated import REFERENCE, head, run, table

import manylambda
from manylambda.cli.parser import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = REFERENCE / "json.md"
DATA: Final = Path(manylambda.__file__).parent / "data"
EXAMPLES: Final = Path(__file__).parent / "examples"

_FEW: Final = 3
"""Words that a column has room for."""

_INTRODUCTION: Final = """
# JSON documents

With `--format json` a command prints one JSON document on standard output, also when it ends with status 1 because of
findings. When it ends with an error there is no document, only the lines on standard error. The schemas (JSON Schema,
draft 2020-12) are in the package:

```python
from importlib.resources import files

print(files("manylambda").joinpath("data", "build-output.schema.json").read_text(encoding="utf-8"))
```

`version` is 1. Keys may be added within a version; none is removed or changes its meaning. Sizes are in bytes, times
in seconds, `sha256` is hexadecimal, and distributions are named as PEP 503 normalises them. The examples are output
of real runs; in those of `targets`, `explain`, `doctor` and `plan --all-targets` long lists are cut.
"""


def document() -> str:
    """Return the page."""
    parts = [head(__file__, "the schemas"), _INTRODUCTION]
    for name in _documents():
        schema = json.loads((DATA / f"{name}-output.schema.json").read_text(encoding="utf-8"))
        command = re.search("`manylambda (.+?) --format json`", schema["title"])
        assert command, f"the title of {name}-output.schema.json names no command"
        parts.append(f"\n## {command[1]}\n\nSchema: `{name}-output.schema.json`.\n\n")
        parts.append(table(["key", "type", ""], _rows(schema, schema, "")))
        example = EXAMPLES / f"{name}.json"
        if example.exists():
            parts.append(f"\n```json\n{example.read_text(encoding='utf-8').strip()}\n```\n")
    return "".join(parts)


def _documents() -> list[str]:
    """Give the names of the schemas: those of commands in the order of commands, then the others."""
    found = sorted(path.name.removesuffix("-output.schema.json") for path in DATA.glob("*-output.schema.json"))
    return [*(name for name in COMMANDS if name in found), *(name for name in found if name not in COMMANDS)]


def _rows(schema: Mapping[str, Any], whole: Mapping[str, Any], prefix: str) -> Iterator[list[str]]:
    """Give a row for each key, those within objects and lists after it; `a[].b` is a key of the members of a list."""
    required = schema.get("required", [])
    for key, described in schema.get("properties", {}).items():
        shape = _resolved(described, whole)
        parts = [
            "" if key in required else "only sometimes",
            described.get("description", shape.get("description", "")),
        ]
        if len(shape.get("enum", ())) > _FEW:
            parts.append("one of " + ", ".join(f"`{value}`" for value in shape["enum"]))
        name = f"{prefix}{key}"
        yield [f"`{name}`", _type(shape, whole), ": ".join(filter(None, parts))]
        yield from _below(shape, whole, name)


def _below(shape: Mapping[str, Any], whole: Mapping[str, Any], name: str) -> Iterator[list[str]]:
    for option in shape.get("anyOf", [shape]):
        inner = _resolved(option, whole)
        if "properties" in inner:
            yield from _rows(inner, whole, f"{name}.")
        elif "items" in inner:
            yield from _below(_resolved(inner["items"], whole), whole, f"{name}[]")


def _resolved(shape: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in shape:
        return shape
    found: Mapping[str, Any] = whole["$defs"][shape["$ref"].rpartition("/")[2]]
    return found


def _type(shape: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_type(_resolved(option, whole), whole) for option in shape["anyOf"]))
    if "const" in shape:
        return f"`{json.dumps(shape['const'])}`"
    if "enum" in shape and len(shape["enum"]) <= _FEW:
        return " or ".join(f"`{value}`" for value in shape["enum"])
    match shape.get("type"):
        case None:
            return "string" if "enum" in shape else "any"
        case "array":
            return f"list of {_type(_resolved(shape.get('items', {}), whole), whole)}s".replace("anys", "anything")
        case list() as types:
            return " or ".join(types)
        case one:
            return str(one)


def wanted() -> dict[Path, str]:
    """Give the page."""
    return {PAGE: document()}


if __name__ == "__main__":
    raise SystemExit(run(wanted))
