"""What a person sees while waiting: bars on a terminal, single lines in a pipe, nothing under `--quiet`."""

from __future__ import annotations

import contextlib
import re
import threading
from typing import IO, TYPE_CHECKING, Any, Final, Self

from manylambda.progress import SILENT

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from manylambda.progress import Task

# Yellow and cyan cannot be read on white, dark blue not on black: a bold one is light, here as in what gcc prints.
COLORS: Final = {
    "error": "\033[1;31m",
    "warning": "\033[1;35m",
    "note": "\033[1;34m",
    "hint": "\033[1m",
    "name": "\033[1m",
    "good": "\033[32m",
    "dim": "\033[2m",
}
"""All that is ever sent to a terminal to colour text, for a dark one and a light one; bars have `_BARS`."""
RESET: Final = "\033[0m"
_BARS: Final = {"progress.elapsed": "none", "progress.spinner": "bold", "bar.pulse": "none"}
"""What `rich` would show in yellow and green."""

_COMMANDS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_MIB: Final = 1 << 20
_DELAY: Final = 0.25
"""Seconds of work before bars appear: a build that is over at once should not flicker, nor wait for `rich`."""


def harmless(text: str) -> str:
    """Spell out what a terminal would obey, and what turns letters about: a name in a package is anybody's."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _harmless_lines(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(harmless, text.split("\n")))


class Console:
    """Writes to stderr; a `manylambda.progress.Progress`. Safe to call from several threads."""

    def __init__(self, stream: IO[str], *, quiet: bool, verbose: bool, color: bool, bars: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._verbose = verbose
        self._color = color
        self._lock = threading.RLock()
        self._bars = _Bars(stream, color=color) if bars and not quiet else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take bars off the terminal; there will be no further ones."""
        if self._bars is not None:
            self._bars.close()

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Show a bar, on a terminal only."""
        if self._bars is None:
            return SILENT.task(stage, label, total)
        return self._bars.task(stage, label, total, unit)

    def info(self, message: str) -> None:
        """Write a line unless `--quiet`."""
        if not self._quiet:
            self._line(message)

    def detail(self, message: str) -> None:
        """Write a line under `-v`."""
        if self._verbose and not self._quiet:
            self._line(message)

    def warning(self, message: str) -> None:
        """Write a line that begins with `warning:`, even under `--quiet`."""
        self._line(f"{self.styled('warning')} {_harmless_lines(message)}")

    def error(self, message: str, hint: str | None) -> None:
        """Write `error:` and, on a line of its own, `hint:`."""
        self._line(f"{self.styled('error')} {_harmless_lines(message)}")
        if hint:
            self._line(f"\n{self.styled('hint')} {_harmless_lines(hint)}")

    def styled(self, word: str) -> str:
        """Return `word:`, in colour where colours are wanted."""
        return f"{COLORS[word]}{word}{RESET}:" if self._color else f"{word}:"

    def _line(self, text: str) -> None:
        with self._lock:
            if self._bars is not None and self._bars.is_live:
                self._bars.print(text)
            else:
                with contextlib.suppress(OSError):  # that nobody hears of it stops no build; its status tells
                    self._stream.write(text + "\n")
                    self._stream.flush()


class _Bars:
    """One live display, begun when there has been something to wait for; `rich` is imported only then."""

    def __init__(self, stream: IO[str], *, color: bool) -> None:
        self._stream = stream
        self._color = color
        self._display: RichProgress | None = None
        self._timer: threading.Timer | None = None
        self._pending: list[_Bar] = []
        self._lock = threading.RLock()
        self._closed = False

    @property
    def is_live(self) -> bool:
        return self._display is not None

    def print(self, text: str) -> None:
        assert self._display is not None
        from rich.text import Text

        self._display.console.print(Text.from_ansi(text), soft_wrap=True)

    def task(self, stage: str, label: str, total: int | None, unit: str) -> Task:
        bar = _Bar(self, stage, label, total, unit)
        with self._lock:
            if self._display is not None:
                bar.show(self._display)
            else:
                self._pending.append(bar)
                if self._timer is None:
                    self._timer = threading.Timer(_DELAY, self._begin)
                    self._timer.daemon = True
                    self._timer.start()
        return bar

    def forget(self, bar: _Bar) -> None:
        with self._lock:
            if bar in self._pending:
                self._pending.remove(bar)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            if self._display is not None:
                self._display.stop()
                self._display = None

    def _begin(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.theme import Theme

        console = RichConsole(file=self._stream, no_color=not self._color, highlight=False, theme=Theme(_BARS))
        with self._lock:
            if self._closed or self._display is not None:
                return
            self._timer = None
            display = Progress(
                SpinnerColumn(),
                TextColumn("{task.fields[stage]:<8}", style="bold"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,  # results go where the user wants them
                redirect_stderr=False,
            )
            display.start()
            self._display = display
            for bar in self._pending:
                bar.show(display)
            self._pending.clear()


class _Bar:
    """One line of the display."""

    def __init__(self, bars: _Bars, stage: str, label: str, total: int | None, unit: str) -> None:
        self._bars = bars
        self._stage = stage
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0
        self._display: RichProgress | None = None
        self._id: TaskID | None = None

    def show(self, display: RichProgress) -> None:
        self._display = display
        self._id = display.add_task(
            self._label, total=self._total, completed=self._done, stage=self._stage, figures=self._figures()
        )

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._display is not None and self._id is not None:
            self._display.update(self._id, completed=self._done, figures=self._figures())

    def finish(self) -> None:
        self._bars.forget(self)
        if self._display is not None and self._id is not None:
            self._display.remove_task(self._id)
            self._id = None

    def _figures(self) -> str:
        speed: Any = None
        if self._display is not None and self._id is not None:
            speed = next((task.speed for task in self._display.tasks if task.id == self._id), None)
        if self._unit != "bytes":
            return f"{self._done}/{self._total}" if self._total else ""
        done = f"{self._done / _MIB:.1f}"
        text = f"{done}/{self._total / _MIB:.1f} MiB" if self._total else f"{done} MiB"
        return f"{text}  {speed / _MIB:.1f} MiB/s" if speed else text
