# /// script
# requires-python = ">=3.11"
# dependencies = ["rich>=14"]
# ///
"""Draws the README's picture: runs the command for real and renders what it printed as an SVG."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COMMAND = "manylambda build examples/api -t python3.13-arm64"


def main() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    arguments = [sys.executable, "-m", *COMMAND.split()]
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        encoding="utf-8",
    )
    console = Console(record=True, width=96, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold green"), (COMMAND, "bold")))
    console.print(Text.from_ansi(done.stdout.replace(f"{ROOT}{os.sep}", "")))
    target = ROOT / "docs/images/terminal.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="manylambda")
    # The picture must not fetch a font from somebody's server when a README is looked at.
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
