"""The readiness matrix as text."""

from __future__ import annotations

import re
from dataclasses import replace

from browser import matrices
from manylambda.pipeline.obstacles import Obstacle
from manylambda.render import readiness
from manylambda.render.findings import Look


def test_a_package_over_the_limit_is_flagged_and_unknown_sizes_are_told() -> None:
    text = readiness.text(matrices.mixed(), Look())
    assert re.search(r"^python3\.10-arm64 +ready +1 +1 +286\.1 MiB +858\.3 MiB ! +1  since ", text, re.MULTILINE)
    assert re.search(r"^python3\.11-arm64 +ready +14 +1 +13\.5 MiB +\? +1  from ", text, re.MULTILINE)
    notes = (
        "* named by -t or the settings\n? unknown, + in part: `--inspect` asks for sizes\n! over the limit of 250.0 MiB"
    )
    assert f"\n{notes}\n" in text
    assert max(map(len, text.splitlines()[:17])) <= 100


def test_pure_fallbacks_are_told_once() -> None:
    text = readiness.text(matrices.ready(), Look())
    every = ", ".join(f"python3.{minor}" for minor in range(9, 16))
    assert f"\npure, although compiled for other targets (pure-fallback):\n  {every}: `wrapt`" in text


def test_lines_are_wrapped_at_the_width_of_a_terminal_and_coloured() -> None:
    text = readiness.text(matrices.mixed(), Look(color=True, width=60))
    assert "\033[1;31m2 blockers\033[0m" in text
    below = text.partition("what blocks:")[2]
    assert max(len(re.sub(r"\033\[[0-9;]*m", "", line)) for line in below.splitlines()) <= 62


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    matrix = matrices.hostile()
    (first, *rest) = matrix.targets
    evil = Obstacle(sentence="`evil` requires Python `>=3\x1b[2J`", blocker=None, hint="\x1b]0;owned\x07")
    text = readiness.text(replace(matrix, targets=(replace(first, obstacles=(evil,)), *rest)), Look())
    assert "\x1b" not in text
    assert "`evil` requires Python `>=3\\x1b[2J`" in text
