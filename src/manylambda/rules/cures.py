"""What mends or spares a known distribution or library: the data of many a bug report, which no file tells."""

from __future__ import annotations

import json
import os.path
from functools import lru_cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import TypedDict

    class Optional(TypedDict):
        """Files that a distribution can do without."""

        distribution: str
        path: str
        why: str

    class Spare(TypedDict):
        """Distributions that are of no use in a function."""

        distribution: str
        """As `fnmatch` writes several."""
        why: str

    class Instead(TypedDict):
        """A build of a distribution that does without spare ones."""

        distribution: str
        spare: str
        """The spare distributions that this one brings, as `fnmatch` writes several."""
        take: str

    class Cures(TypedDict):
        """The file."""

        distributions: dict[str, str]
        libraries: dict[str, str]
        optional: list[Optional]
        spare: list[Spare]
        instead: list[Instead]


@lru_cache(maxsize=1)
def cures() -> Cures:
    """Return `data/cures.json`."""
    path = os.path.join(os.path.dirname(__file__), "..", "data", "cures.json")  # noqa: PTH118, PTH120 - see `target`
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return cast("Cures", json.load(file))
