"""Colours can be read on a dark and on a light terminal, and none is sent but those."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Final

import pytest

import manylambda
from manylambda.render.console import _BARS, COLORS, RESET

SOURCE: Final = Path(manylambda.__file__).parent

# What terminals make of the colours, and of the bold ones, which most show light: xterm, Windows (Campbell), GNOME.
PALETTES: Final = {
    "xterm": {
        "31": "cd0000", "32": "00cd00", "33": "cdcd00", "34": "0000ee", "35": "cd00cd", "36": "00cdcd",
        "1;31": "ff0000", "1;32": "00ff00", "1;33": "ffff00", "1;34": "5c5cff", "1;35": "ff00ff", "1;36": "00ffff",
    },
    "Windows": {
        "31": "c50f1f", "32": "13a10e", "33": "c19c00", "34": "0037da", "35": "881798", "36": "3a96dd",
        "1;31": "e74856", "1;32": "16c60c", "1;33": "f9f1a5", "1;34": "3b78ff", "1;35": "b4009e", "1;36": "61d6d6",
    },
    "GNOME": {
        "31": "c01c28", "32": "26a269", "33": "a2734c", "34": "12488b", "35": "a347ba", "36": "2aa1b3",
        "1;31": "f66151", "1;32": "33d17a", "1;33": "e9ad0c", "1;34": "2a7bde", "1;35": "c061cb", "1;36": "33c7de",
    },
}  # fmt: skip
LEAST: Final = 2.1
"""Large text wants a contrast of 3; green has no more than this on the white of xterm, and says nothing but "good"."""


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines count it: from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def worst(code: str) -> float:
    """Give the least contrast of a colour with the two backgrounds, in all terminals."""
    return min(contrast(palette[code], ground) for palette in PALETTES.values() for ground in ("ffffff", "0c0c0c"))


def test_every_colour_can_be_read_on_white_and_on_black() -> None:
    codes = {re.fullmatch(r"\033\[([\d;]+)m", color)[1] for color in COLORS.values()}  # type: ignore[index]
    assert {code for code in codes if code not in {"1", "2"} and worst(code) < LEAST} == set()


@pytest.mark.parametrize("code", ["33", "1;33", "36", "1;36", "34"])
def test_colours_that_are_not_used_cannot(code: str) -> None:
    assert worst(code) < LEAST
    assert f"\033[{code}m" not in COLORS.values()


def test_nothing_else_sends_a_colour() -> None:
    # What lies in `inside` speaks to no terminal.
    found = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "inside" not in path.parts and re.search(r"(?:\\033|\\x1b|\\e)\[[\d;]*m", path.read_text(encoding="utf-8"))
    }
    assert found == {"render/console.py"}
    assert RESET == "\033[0m"


def test_bars_have_no_yellow() -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.theme import Theme

    def shown(theme: Theme | None) -> str:
        stream = io.StringIO()
        console = Console(
            file=stream, force_terminal=True, color_system="standard", no_color=False, theme=theme, width=100
        )
        columns = (SpinnerColumn(), TextColumn("x"), BarColumn(bar_width=24), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            progress.add_task("x", total=2, completed=1)
        return stream.getvalue()

    assert "\033[33m" in shown(None)
    assert not re.search(r"\033\[(?:\d+;)*(?:33|93|37|97|3[26])m", shown(Theme(_BARS)))
