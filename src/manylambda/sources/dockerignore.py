"""The same choice of files as Docker makes it: the lines of a `.dockerignore`, and how Docker reads them.

Docker's rules are not git's: a line matches from the context's folder on, never by a name alone; it cannot be held to
folders; what matches a folder matches all in it; and a later line brings back even what lies in an ignored folder. So
the lines are written from ours, and then held against the files: one that they choose otherwise gets a line of its own.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.sources.defaults import DEFAULTS
from manylambda.sources.gitignore import Rules
from manylambda.sources.ignored import ignore_files_above, with_ignore_file
from manylambda.tree import DiskFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from manylambda.sources.gitignore import Pattern
    from manylambda.sources.project import FileRules, ProjectFiles

_SPECIAL: Final = re.compile(r"([*?\[\\])")


class _Run(NamedTuple):
    """Lines in a row that all ignore, or all bring back."""

    is_negative: bool
    expression: re.Pattern[str]


class DockerIgnore:
    """A `.dockerignore`, read as Docker reads it."""

    def __init__(self, lines: Iterable[str]) -> None:
        read = [line.strip() for line in lines]
        wanted = [line for line in read if line and not line.startswith("#")]
        self._runs = [
            _Run(is_negative, re.compile("|".join(_expression(line.removeprefix("!")) for line in run), re.DOTALL))
            for is_negative, run in groupby(wanted, lambda line: line.startswith("!"))
        ]

    def ignores(self, path: str) -> bool:
        """Whether a file is left out of the context; `path` is relative to it."""
        ignored = False
        for run in self._runs:
            if run.is_negative == ignored and run.expression.fullmatch(path):
                ignored = not run.is_negative
        return ignored


def docker_lines(project: Path, rules: FileRules, found: ProjectFiles) -> list[str]:
    """Return the lines by which Docker takes of `project` what `found` holds, and nothing it left out.

    Sources outside the project are none of its context and must not be among those of `found`.
    """
    disk = os.path.realpath(project)
    prefixes = ["" if (path := source.path.as_posix()) == "." else f"{path.rstrip('/')}/" for source in found.sources]
    lines: list[str] = []
    if "" not in prefixes:
        lines += ["# all but the sources", "*", *(f"!{_literal(prefix.rstrip('/'))}" for prefix in prefixes)]
    for reason, rows in groupby(DEFAULTS, lambda row: row.reason):
        patterns = Rules.from_lines((one for row in rows for one in row.patterns), "defaults").patterns
        lines += [f"# {reason}", *(_line(one, prefix) for prefix in prefixes for one in patterns)]
    lines += _of_git(disk)
    excluded = Rules.from_lines(rules.exclude, "exclude").patterns
    lines += ["# excluded by the settings", *(_line(one, "") for one in excluded)] if excluded else []

    ignored = DockerIgnore(lines)
    left = [one.path for one in found.left_out if not one.path.startswith("../")]
    missed = [_literal(path.rstrip("/")) for path in left if not ignored.ignores(path.rstrip("/"))]
    lines += ["# what else is left out", *missed] if missed else []
    ignored = DockerIgnore(lines)
    taken = [os.path.relpath(entry.content.file, disk) for entry in found.tree if isinstance(entry.content, DiskFile)]
    back = [f"!{_literal(path)}" for path in (one.replace(os.sep, "/") for one in taken) if ignored.ignores(path)]
    lines += ["# taken although a line above says otherwise", *back] if back else []
    return lines


def _of_git(disk: str) -> Iterator[str]:
    """Yield what the ignore files of the project and above it say, as far as Docker can say it too."""
    _, above = ignore_files_above(disk, disk)
    own = with_ignore_file((), disk, "")
    for level in (*above, *own):
        # What an ignore file further up anchors is another folder's matter; where it is not, the files tell.
        patterns = [one for one in level.rules.patterns if level in own or not one.is_anchored]
        if patterns:
            yield f"# from {level.rules.origin}"
            yield from (_line(one, "") for one in patterns)


def _line(pattern: Pattern, prefix: str) -> str:
    """Say a pattern of git's to Docker; `prefix` is the folder it speaks for."""
    glob = pattern.text.removeprefix("!").rstrip("/").removeprefix("/").replace("[!", "[^")
    anywhere = "" if pattern.is_anchored or glob.startswith("**/") else "**/"
    return f"{'!' * pattern.is_negative}{_literal(prefix)}{anywhere}{glob}"


def _literal(path: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", path)
    return f"\\{escaped}" if escaped.startswith(("#", "!")) else escaped


def _expression(glob: str) -> str:
    """Translate a line as `moby/patternmatcher` does, for a path or a folder above it."""
    parts: list[str] = []
    index, glob = 0, glob.strip("/")
    while index < len(glob):
        char = glob[index]
        if glob.startswith("**", index):
            index += 2
            if glob.startswith("/", index):
                index += 1
            parts.append(".*" if index >= len(glob) else "(?:.*/)?")
            continue
        if char == "[" and (end := glob.find("]", index + 2)) > 0:
            parts.append(glob[index : end + 1])
            index = end + 1
            continue
        if char == "\\" and index + 1 < len(glob):
            index += 1
            parts.append(re.escape(glob[index]))
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        index += 1
    return f"(?:{''.join(parts)})(?:/.*)?"


def as_text(lines: Sequence[str]) -> str:
    """Return the text of the file."""
    return "\n".join(lines) + "\n"
