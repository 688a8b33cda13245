"""Help fits a screen, its examples work, and it looks the same everywhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from manylambda.cli.parser import COMMANDS, make_parser

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

WIDTH, HEIGHT = 80, 42
NEEDS_MORE = ("push ", "psutil", "--kind image", "--from-source")
"""Examples that need a registry, a base image, a compiler: other tests do what they do."""


def examples(command: str) -> list[list[str]]:
    """Give the commands of a help's examples as words, without the first and without what stands behind them."""
    (parser,) = [make_parser([command])._subparsers._group_actions[0].choices[command]]  # type: ignore[union-attr, index]
    shown = parser.format_help().partition("examples:\n")[2]
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in shown.splitlines() if line.startswith("  manylambda ")]
    return [shlex.split(line.partition(" > ")[0])[1:] for line in lines]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_screen(run: Run, command: str) -> None:
    ran = run(*([command] if command else []), "--help", env={"COLUMNS": str(WIDTH)})
    lines = ran.stdout.splitlines()
    assert len(lines) <= HEIGHT
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(f"usage: manylambda {command}")
    assert "examples:" in lines


@pytest.mark.parametrize("command", COMMANDS)
def test_the_whole_help_fits_the_width_and_holds_every_option(run: Run, command: str) -> None:
    asked = "--help-all" if "--help-all" in run(command, "--help").stdout else "--help"
    shown = run(command, asked, env={"COLUMNS": str(WIDTH)}).stdout
    assert max(map(len, shown.splitlines())) <= WIDTH
    parser = make_parser([command])._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr, index]
    assert all(name in shown for action in parser._actions for name in action.option_strings)


def test_what_few_need_stands_at_the_end_of_the_whole_help_only(run: Run) -> None:
    brief, whole = (run("build", asked).stdout for asked in ("--help", "--help-all"))
    for rare in ("--layer-layout", "--sdist-engine", "--manifest", "--jobs"):
        assert rare not in brief
        assert whole.index(rare) > whole.index("--trial")
    for usual in ("--target", "--kind", "--requirement", "--output", "--ignore", "--allow-sdist", "--image-output"):
        assert usual in brief


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_few_and_are_understood(command: str) -> None:
    found = examples(command)
    assert 2 <= len(found) <= 4
    for words in found:
        assert words[0] == command
        make_parser(words).parse_args(words)


def test_the_examples_of_the_first_help_are_understood(run: Run) -> None:
    lines = [line for line in run("--help").stdout.splitlines() if line.startswith("  manylambda ")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(re.split(r"\s{2,}", line.strip())[0])[1:]
        make_parser(words).parse_args(words)


def test_examples_work(run: Run, index: Index, tmp_path: Path) -> None:
    """Those that need nothing but an index, in the order of the first help."""
    for name in ("demo", "numpy"):
        index.wheel(name)
    for folder in (tmp_path / "api", tmp_path / "api" / "api"):
        folder.mkdir()
        (folder / "app.py").write_text("import demo\n\ndef run(event, context):\n    return event\n", encoding="utf-8")
        (folder / "requirements.txt").write_text("demo\n", encoding="utf-8")
    (tmp_path / "api" / "error.log").write_text(
        "ImportError: libgomp.so.1: cannot open shared object file: No such file", encoding="utf-8"
    )
    (tmp_path / "api" / "Dockerfile").write_text("", encoding="utf-8")
    ran = 0
    for command in COMMANDS:
        (tmp_path / "api" / "pylock.toml").unlink(missing_ok=True)
        for words in examples(command):
            line = " ".join(words)
            if any(word in line for word in NEEDS_MORE) or command in ("init", "trial") or "--trial" in line:
                continue
            packages = [str(path) for path in sorted((tmp_path / "api" / "dist").glob("*.zip"))]
            asked = [packages[0] if word == "api.zip" else word for word in words]
            run(*asked, cwd=tmp_path / "api", stdin="ImportError: No module named x\n")
            ran += 1
    assert ran > 15


@pytest.mark.parametrize("python", ["NO_COLOR", "FORCE_COLOR"])
def test_help_has_no_colours_of_any_python(run: Run, python: str) -> None:
    env = {"NO_COLOR": "", "FORCE_COLOR": "", "PYTHON_COLORS": "", python: "1"}
    assert "\033" not in run("build", "--help", env=env).stdout


def test_the_parser_of_a_warm_build_is_quick() -> None:
    program = (
        "import time; from manylambda.cli.parser import make_parser; make_parser(['build']);"
        "start = time.perf_counter(); make_parser(['build']); print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(3)
    ]
    assert min(seconds) < 0.02  # about 0.003 on an idle machine
