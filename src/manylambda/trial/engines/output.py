"""What a process writes, as every engine hears it: standard output by lines, of the log the end, both bounded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_BYTES: Final = 64 << 10
LINE_BYTES: Final = 1 << 20
CHUNK: Final = 64 << 10
"""Bytes that are read at once."""


class Lines:
    """Cuts output into lines and has each heard; of one that is too long only the beginning, of empty ones nothing."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._begun = bytearray()
        self._is_cut = False
        self.count = 0

    def add(self, chunk: bytes) -> None:
        """Take what was written next."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._more(line)
            self.end()
            self._is_cut = False
        self._more(rest)

    def end(self) -> None:
        """Have heard what was begun."""
        if self._begun:
            self.count += 1
            line, self._begun = self._begun, bytearray()
            self._hear(line.decode(errors="replace").removesuffix("\r"))

    def _more(self, part: bytes) -> None:
        if not self._is_cut:
            self._begun += part[: LINE_BYTES - len(self._begun)]
            if len(self._begun) == LINE_BYTES:
                self.end()
                self._is_cut = True


class Tail:
    """The end of a log."""

    def __init__(self) -> None:
        self._bytes = b""

    def add(self, chunk: bytes) -> None:
        """Take what was written next."""
        self._bytes = (self._bytes + chunk)[-LOG_BYTES:]

    def text(self) -> str:
        """Give what was kept."""
        return self._bytes.decode(errors="replace")


def too_many(processes: int) -> str:
    """Give the last line of a log of who was ended for its processes; nothing else of its end says so."""
    return f"\nmanylambda: ended, because it had more than {processes} processes\n"


def had_too_many(log: str) -> bool:
    """Whether a log ends so."""
    return _TOO_MANY.search(log) is not None


_TOO_MANY: Final = re.compile(r"^manylambda: ended, because it had more than \d+ processes$", re.MULTILINE)
