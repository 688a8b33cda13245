"""What is generated from the code is what the code says, and the examples are what the schemas say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from product import schemas

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "tools" / "examples").glob("*.json"))

pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="the tools are not part of the sdist")


def test_every_generated_file_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate.py", "--check"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_that_is_not_current_is_told_and_then_written(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tools")!r})
import generated
sys.exit(generated.run(lambda: {{Path("page.md"): "new\\n"}}))
"""
    page = tmp_path / "page.md"
    page.write_text("old\n", encoding="utf-8")
    for words, status, told, text in (
        (["--check"], 1, "page.md is not what the code says: run tools/generate.py\n", "old\n"),
        ([], 0, "", "new\n"),
        (["--check"], 0, "", "new\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (status, told), done.stderr
        assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_as_its_schema_says(example: Path) -> None:
    schemas.check(example.stem, json.loads(example.read_text(encoding="utf-8")))
