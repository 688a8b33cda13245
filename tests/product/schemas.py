"""What a command prints against the schema that is shipped for it."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator


def schema(command: str) -> Any:
    return json.loads(files("manylambda").joinpath("data", f"{command}-output.schema.json").read_text(encoding="utf-8"))


def check(command: str, document: Any) -> None:
    """Raise unless `document` is as the schema of `manylambda COMMAND --format json` says."""
    Draft202012Validator(schema(command)).validate(document)
