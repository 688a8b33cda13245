"""What is known of Python and of the runtimes' own distributions beyond the targets' table: `data/python.json`."""

from __future__ import annotations

import json
import os.path
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import TypedDict

    class Facts(TypedDict):
        """The shape of the table."""

        sources: dict[str, str]
        runtime_requirements: dict[str, dict[str, list[str]]]
        """Distribution -> version -> what it requires."""
        builtin_modules: list[str]
        bytecode: dict[str, list[int]]
        """Minor version -> its first and last magic number."""
        standard_library: dict[str, str]
        """Module -> the minor versions that have it, `3.0-3.11` or `3.0-`."""


@lru_cache(maxsize=1)
def facts() -> Facts:
    """Read the table once."""
    path = os.path.join(os.path.dirname(__file__), "..", "data", "python.json")  # noqa: PTH118, PTH120 - see `target`
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return cast("Facts", json.load(file))


@lru_cache(maxsize=16)
def standard_library(python: tuple[int, int]) -> frozenset[str]:
    """Return the modules of the standard library of a minor version that a function's own would hide."""

    def minor(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    names = set()
    for name, lifetime in facts()["standard_library"].items():
        first, _, last = lifetime.partition("-")
        if minor(first) <= python and (not last or python <= minor(last)):
            names.add(name)
    return frozenset(names)
