"""A function as the files of a project describe it, and the texts that say so."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_LARGEST: Final = 1 << 20
_FILES: Final = 2000
NEVER: Final = frozenset(
    {
        "node_modules", "cdk.out", "venv", "site-packages", "__pycache__", "dist", "build", "tests", "test",
        "__tests__",
    }
)  # fmt: skip
"""Folders that have no source of a project's own, or none of what is deployed."""
_OPEN: Final = {"(": ")", "{": "}", "[": "]"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function of the project; what its description leaves open is None."""

    name: str
    """As its description calls it."""
    file: Path
    line: int
    """From 1."""
    runtime: str | None = None
    """`python3.13`."""
    architecture: str | None = None
    """`x86_64` or `arm64`."""
    handler: str | None = None
    folder: Path
    """Absolute: what becomes the root of its package."""
    requirements: Path | None = None
    """A requirements file that the description names."""
    unsure: tuple[str, ...] = ()
    """What was concluded rather than read, a sentence each."""


class Described(NamedTuple):
    """What a tool's files say."""

    tool: str
    """Its name, for people."""
    functions: tuple[Function, ...]
    unsure: tuple[str, ...] = ()
    """What could not be read, a sentence each."""


class Source(NamedTuple):
    """A file of a project that is read as text."""

    path: Path
    text: str

    def line(self, position: int) -> int:
        """Give the line of a position."""
        return self.text.count("\n", 0, position) + 1

    def line_of(self, key: str, after: str | None = None) -> int:
        """Give the line on which a key of YAML or JSON stands first, behind the key `after`; 1 where none does."""
        start = 0
        if after is not None and (table := _key(self.text, after, 0)) is not None:
            start = table.end()
        match = _key(self.text, key, start)
        return self.line(match.end()) if match else 1


def _key(text: str, key: str, start: int) -> re.Match[str] | None:
    return re.compile(rf"^\s*(?:- )?[\"']?{re.escape(key)}[\"']?\s*:", re.MULTILINE).search(text, start)


def passed_layer(name: str) -> str:
    """Tell that a layer is no function."""
    return f"`{name}` was passed over: it is a layer (`manylambda build FOLDER --kind layer`)"


def repository(project: Path) -> Path:
    """Give the folder of git that a project is in, or else the project itself."""
    return next((folder for folder in (project, *project.parents) if (folder / ".git").exists()), project)


def sources(project: Path, suffixes: Collection[str]) -> Iterator[Source]:
    """Yield the project's own files of some suffixes, sorted; not what was installed, built or is for tests."""
    seen = 0
    for where, folders, names in os.walk(project):
        folders[:] = sorted(one for one in folders if one not in NEVER and not one.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if path.suffix not in suffixes or name.endswith(".d.ts"):
                continue
            seen += 1
            if seen > _FILES:
                return
            source = read(path)
            if source is not None:
                yield source


def read(path: Path) -> Source | None:
    """Read a text; None for what is none, or is too large to be written by a person."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        return Source(path, path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return None


def enclosed(text: str, start: int) -> str:
    """Give what stands between the bracket at `start` and the one that closes it; strings may hold any."""
    stack: list[str] = []
    quote = ""
    position = start
    while position < len(text):
        sign = text[position]
        if quote:
            if sign == "\\":
                position += 1
            elif sign == quote or sign == "\n" != quote:
                quote = ""
        elif sign in "\"'`":
            quote = sign
        elif sign in _OPEN:
            stack.append(_OPEN[sign])
        elif stack and sign == stack[-1]:
            stack.pop()
            if not stack:
                return text[start + 1 : position]
        position += 1
    return text[start + 1 :]


def runtime(text: object) -> str | None:
    """Give `python3.13` of a text that is a runtime of Python, else None."""
    return text if isinstance(text, str) and re.fullmatch(r"python3\.\d+", text) else None
