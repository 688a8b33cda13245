"""The manual page is one that two readers of manual pages accept, and a wheel brings it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from manylambda.cli.parser import COMMANDS, make_parser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "man" / "manylambda.1"


def reader(name: str) -> str:
    """Give the program; where tests are to be complete it must be there."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") and os.name == "posix":
            pytest.fail(f"there is no {name} here")
        pytest.skip(f"there is no {name} here")
    return found


def test_mandoc_has_nothing_against_it() -> None:
    done = subprocess.run([reader("mandoc"), "-Tlint", "-Wwarning", PAGE], capture_output=True, text=True, check=False)
    # It has no date: the same source gives the same page on every day.
    told = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert told == []


def test_groff_has_nothing_against_it_and_shows_every_option() -> None:
    done = subprocess.run([reader("groff"), "-man", "-ww", "-Tascii", "-P-c", PAGE], capture_output=True, check=False)
    assert done.stderr == b""
    shown = re.sub(r".\x08", "", done.stdout.decode())
    shown = re.sub(r"-\n\s+", "-", shown)
    for name in COMMANDS:
        parser = make_parser([name])._subparsers._group_actions[0].choices[name]  # type: ignore[union-attr, index]
        assert f"manylambda {name}\n" in shown
        options = {option for action in parser._actions for option in action.option_strings}
        for option in options - {"-h", "--help", "--help-all"}:
            assert option in shown


@pytest.mark.network
def test_a_wheel_brings_it(tmp_path: Path) -> None:
    subprocess.run(
        [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("share/man/man1/manylambda.1")]
        assert archive.read(name) == PAGE.read_bytes()
        assert ".data/data/" in name
