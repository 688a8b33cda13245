"""Ignore patterns with the exact meaning git gives them; knows nothing of projects or of what is packaged.

The reading of a line follows git's `dir.c`, the matching `wildmatch.c`, and `tests/test_sources.py` compares both
with the git program. Matching is on bytes, as in git, and never folds case: the host's file system has no say.
Why not a library: `docs/development/decisions/0007-project-files.md`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPECIAL: Final = frozenset(b"*?[\\")
_BOM: Final = b"\xef\xbb\xbf"
_CLASSES: Final = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\n\v\f\r]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}


class Pattern(NamedTuple):
    """One line of an ignore file."""

    text: str
    line: int
    """Counted from 1."""
    is_negative: bool
    only_folders: bool
    is_anchored: bool
    """Matches the whole path below the file's folder; else only the last part of a path."""
    literal: bytes
    """What every path it matches begins with; for a pattern that is not anchored, every name."""
    expression: bytes
    """A regular expression for the full path or name."""

    @property
    def is_bare(self) -> bool:
        """Whether its last part names nothing, such as `data/**` or `*`."""
        return set(self.text.rstrip("/").rpartition("/")[2]) <= {"*"}


class Rules:
    """The patterns of one ignore file; the last that matches decides."""

    __slots__ = ("_any_name", "_any_path", "_compiled", "origin", "patterns")

    def __init__(self, patterns: Iterable[Pattern], origin: str) -> None:
        self.patterns = tuple(patterns)
        self.origin = origin
        self._compiled: list[re.Pattern[bytes] | None] = [None] * len(self.patterns)
        # Nearly every path matches nothing: two expressions say so at once, whatever the number of patterns.
        self._any_name = _union(pattern.expression for pattern in self.patterns if not pattern.is_anchored)
        self._any_path = _union(pattern.expression for pattern in self.patterns if pattern.is_anchored)

    @classmethod
    def parse(cls, data: bytes, origin: str) -> Rules:
        """Read an ignore file; lines git cannot match anything with are dropped, as git does."""
        lines = data.removeprefix(_BOM).split(b"\n")
        read = (_pattern(line, number) for number, line in enumerate(lines, start=1))
        return cls((pattern for pattern in read if pattern is not None), origin)

    @classmethod
    def from_lines(cls, lines: Iterable[str], origin: str) -> Rules:
        """Read patterns given one by one."""
        return cls.parse("\n".join(lines).encode("utf-8", "surrogateescape"), origin)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def match(self, path: bytes, *, is_folder: bool) -> Pattern | None:
        """Return the last pattern that matches `path` itself (not a folder above it).

        `path` is NFC, UTF-8, relative to the folder of the ignore file, without a trailing `/`.
        """
        name = path[path.rfind(b"/") + 1 :]
        is_named = self._any_name is not None and self._any_name.fullmatch(name) is not None
        is_reached = self._any_path is not None and self._any_path.fullmatch(path) is not None
        if not is_named and not is_reached:
            return None
        for number in range(len(self.patterns) - 1, -1, -1):
            pattern = self.patterns[number]
            if pattern.only_folders and not is_folder:
                continue
            if not (is_reached if pattern.is_anchored else is_named):
                continue
            compiled = self._compiled[number]
            if compiled is None:
                compiled = self._compiled[number] = re.compile(pattern.expression, re.DOTALL)
            if compiled.fullmatch(path if pattern.is_anchored else name):
                return pattern
        return None

    def names_below(self, folder: bytes) -> bool:
        """Whether a pattern spells out a path below `folder`, such as `node_modules/left-pad/**`."""
        start = folder + b"/"
        return any(
            pattern.is_anchored and not pattern.is_negative and pattern.literal.startswith(start)
            for pattern in self.patterns
        )


def path_bytes(path: str) -> bytes:
    """Return `path` in the form `Rules.match` takes."""
    if path.isascii():
        return path.encode()
    return unicodedata.normalize("NFC", path).encode("utf-8", "surrogateescape")


def _union(expressions: Iterable[bytes]) -> re.Pattern[bytes] | None:
    joined = b"|".join(expressions)
    return re.compile(joined, re.DOTALL) if joined else None


def _pattern(line: bytes, number: int) -> Pattern | None:
    if line.startswith(b"#"):
        return None
    text = _without_trailing_spaces(line.removesuffix(b"\r"))
    if not text.isascii():
        text = path_bytes(text.decode("utf-8", "surrogateescape"))
    glob = text.removeprefix(b"!")
    only_folders = glob.endswith(b"/")
    if only_folders:
        glob = glob[:-1]
    is_anchored = b"/" in glob
    glob = glob.removeprefix(b"/")
    if not glob:
        return None
    end = next((index for index, byte in enumerate(glob) if byte in _SPECIAL), len(glob))
    # git compares the literal start first and hands only the rest to wildmatch: in `a**/b` the `**` then
    # stands at the start, and does cross folders.
    rest = _expression(glob[end:], crosses_folders=is_anchored)
    if rest is None:
        return None
    return Pattern(
        text=text.decode("utf-8", "surrogateescape"),
        line=number,
        is_negative=text.startswith(b"!"),
        only_folders=only_folders,
        is_anchored=is_anchored,
        literal=glob[:end],
        expression=re.escape(glob[:end]) + rest,
    )


def _without_trailing_spaces(line: bytes) -> bytes:
    end = index = 0
    while index < len(line):
        if line[index : index + 1] == b"\\":
            index += 1
            end = index + 1
        elif line[index : index + 1] != b" ":
            end = index + 1
        index += 1
    return line[:end]


def _expression(glob: bytes, *, crosses_folders: bool) -> bytes | None:
    """Translate a wildmatch pattern; None when it can match nothing, such as an unclosed `[`."""
    parts: list[bytes] = []
    index = 0
    while index < len(glob):
        char = glob[index : index + 1]
        if char == b"*":
            end = index
            while glob[end : end + 1] == b"*":
                end += 1
            follows = glob[end : end + 1]
            is_whole_part = (
                crosses_folders
                and end - index > 1
                and (index == 0 or glob[index - 1 : index] == b"/")
                and (follows in {b"", b"/"} or glob[end : end + 2] == b"\\/")
            )
            if is_whole_part and follows == b"/":
                parts.append(b"(?:.*/)?")
                end += 1
            else:
                parts.append(b".*" if is_whole_part else b"[^/]*")
            index = end
        elif char == b"?":
            parts.append(b"[^/]")
            index += 1
        elif char == b"[":
            bracket = _bracket(glob, index + 1)
            if bracket is None:
                return None
            expression, index = bracket
            parts.append(expression)
        elif char == b"\\":
            if index + 1 == len(glob):
                return None
            parts.append(re.escape(glob[index + 1 : index + 2]))
            index += 2
        else:
            parts.append(re.escape(char))
            index += 1
    return b"".join(parts)


def _bracket(glob: bytes, index: int) -> tuple[bytes, int] | None:
    """Translate the bracket expression that begins after `glob[index - 1]`; return it and where it ends."""
    is_negated = glob[index : index + 1] in {b"!", b"^"}
    index += is_negated
    start = index
    allowed: set[int] = set()
    previous = 0
    while index < len(glob):
        byte = glob[index]
        char = glob[index : index + 1]
        if char == b"]" and index > start:
            chosen = set(range(256)) - allowed if is_negated else allowed
            chosen.discard(ord("/"))
            if not chosen:
                return None
            return b"[" + b"".join(b"\\x%02x" % value for value in sorted(chosen)) + b"]", index + 1
        if char == b"-" and previous and glob[index + 1 : index + 2] not in {b"", b"]"}:
            index += 2 if glob[index + 1 : index + 2] == b"\\" else 1
            if index >= len(glob):
                return None
            allowed.update(range(previous, glob[index] + 1))
            byte = 0
        elif glob[index : index + 2] == b"[:":
            end = glob.find(b"]", index + 2)
            if end < 0:
                return None
            if end > index + 2 and glob[end - 1 : end] == b":":
                named = _CLASSES.get(glob[index + 2 : end - 1])
                if named is None:
                    return None
                allowed.update(value for value in range(256) if re.fullmatch(named, bytes([value])))
                index, byte = end, 0
            else:
                allowed.add(byte)
        elif char == b"\\":
            index += 1
            if index >= len(glob):
                return None
            byte = glob[index]
            allowed.add(byte)
        else:
            allowed.add(byte)
        previous = byte
        index += 1
    return None
