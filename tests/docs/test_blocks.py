"""Every shell block and every Python example of the documentation does what the page says, on real wheels."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from docs import blocks, running
from docs.blocks import NOT_RUN, ROOT, WronglyWrittenError
from docs.given import GIVEN
from docs.running import BlockFailedError
from manylambda import ManylambdaError, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from docs.blocks import Block

HAS_PAGES = (ROOT / "CONTRIBUTING.md").is_file()  # it tells how they are written, and is not part of the sdist
PAGES = [path.relative_to(ROOT).as_posix() for path in blocks.pages()] if HAS_PAGES else []

needs_bash = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("bash"), reason="needs bash")


def of(page: str) -> list[Block]:
    return blocks.read((ROOT / page).read_text(encoding="utf-8"), page)


# What these pages show asks nobody.
OFFLINE = {"docs/concepts/index.md", "docs/reference/errors.md", "docs/reference/json.md"}


def with_commands() -> list[Any]:
    found = [page for page in PAGES if any(not one.not_run for block in of(page) for one in block.commands)]
    return [pytest.param(page, marks=[*marks(page)]) for page in found]


def marks(page: str) -> Iterator[pytest.MarkDecorator]:
    if page not in OFFLINE:
        yield pytest.mark.network
    if any("a CPython 3.13" in block.given for block in of(page)):  # its bytecode takes a while: once is enough
        yield pytest.mark.xdist_group("trials-of-the-documentation")


@needs_bash
@pytest.mark.parametrize("page", with_commands())
def test_the_blocks_of(page: str, tmp_path: Path, shared_cache: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    running.run(of(page), folder, shared_cache)


@pytest.mark.skipif(not HAS_PAGES, reason="the pages are not part of the sdist")
def test_most_is_run_and_what_is_given_is_known() -> None:
    found = [block for page in PAGES for block in of(page)]
    assert {name for block in found for name in block.given} <= set(GIVEN), running.ADVICE
    commands = [command for block in found for command in block.commands]
    assert len([one for one in commands if one.not_run]) <= len(commands) / 3


def settings() -> list[tuple[str, str]]:
    """Give each block of TOML that has settings of ours, and where it stands."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.finditer(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if "[tool.manylambda" in block[1]:
                found.append((f"{page}:{text.count(chr(10), 0, block.start()) + 1}", block[1]))
    return found


@pytest.mark.skipif(not HAS_PAGES, reason="the pages are not part of the sdist")
def test_all_settings_that_are_shown_are_accepted(tmp_path: Path) -> None:
    assert len(settings()) > 40
    for number, (place, text) in enumerate(settings()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        try:
            load_settings(folder, targets=["python3.13-arm64"])
        except ManylambdaError as error:
            pytest.fail(f"{place}: {error.message}")


PAGE = """
<!-- just a note -->
text
<!-- in: sub -->
<!-- file: greeting.txt
hello
-->
<!-- not run: needs AWS: `aws` -->
```console
$ cat greeting.txt
hello
$ aws lambda invoke
$ printf '%s\\n' one \\
>   two
one
...
```

- <!-- status: 3 -->
  ```bash
  exit_with() { return "$1"; }
  exit_with 3
  ```

<!-- file: app.py -->
```python
ANSWER = 42
```

```python
import app
assert app.ANSWER == 42
```

```yaml
nobody: runs this
```
"""


def test_a_page_is_read() -> None:
    shell, script, handler, program = blocks.read(PAGE, "page.md")
    assert [one.text for one in shell.commands] == [
        "cat greeting.txt",
        "aws lambda invoke",
        "printf '%s\\n' one \\\n  two",
    ]
    assert [one.output for one in shell.commands] == ["hello\n", None, "one\n...\n"]
    assert [one.not_run for one in shell.commands] == [None, "needs AWS: `aws`", None]
    assert (shell.folder, shell.files, shell.line) == ("sub", {"greeting.txt": "hello\n"}, 9)
    assert script.commands[0].text == 'exit_with() { return "$1"; }\nexit_with 3\n'
    assert (script.status, handler.commands, handler.files) == (3, (), {"app.py": "ANSWER = 42\n"})
    assert program.commands[0].text.startswith("import app")


@needs_bash
def test_a_page_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    (folder / "sub").mkdir(parents=True)
    running.run(blocks.read(PAGE, "page.md"), folder, tmp_path / "cache")
    assert (folder / "sub" / "app.py").is_file()


@needs_bash
@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("```console\n$ true\n$ false\n```", "page.md:3: false\nended with 1, not 0"),
        ("<!-- status: 2 -->\n```console\n$ false\n```", "page.md:3: false\nended with 1, not 2"),
        ("```console\n$ echo no\nyes\n```", "page.md:2: echo no\nprinted\nno\nwhere the page shows\nyes\n"),
        ("```console\n$ exit 0\n$ echo next\n```", "page.md:2: exit 0\ndid not come to an end:"),
        ("```python\nraise SystemExit(4)\n```", "ended with 4, not 0"),
        ("```console\n$ false | cat\n```", "ended with 1, not 0"),
    ],
)
def test_what_does_not_do_what_it_says_is_told(block: str, told: str, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    with pytest.raises(BlockFailedError) as raised:
        running.run(blocks.read(block, "page.md"), folder, tmp_path / "cache")
    assert told in str(raised.value)
    assert "CONTRIBUTING.md" in str(raised.value)


@needs_bash
def test_what_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_TIMEOUT", 3)
    folder = tmp_path / "clone"
    folder.mkdir()
    with pytest.raises(BlockFailedError, match=r"page\.md:3: sleep 60\ndid not come to an end:"):
        running.run(blocks.read("```console\n$ true\n$ sleep 60\n```", "page.md"), folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("<!-- not run: too lazy -->\n```console\n$ true\n```", "page.md:2: `not run: too lazy` begins with none of: "),
        ("<!-- not run: needs AWS: `aws` -->\n```console\n$ true\n```", "names no command of the block"),
        ("```console\ntrue\n```", "page.md:1: a `console` block without a line that begins with `$ `"),
        (
            "<!-- status: 1 -->\ntext\n```console\n$ false\n```",
            "page.md:1: `status: ...` must stand right above a block",
        ),
        ("<!-- status: 1 -->\n```yaml\ntrue\n```", "page.md:2: nobody runs a block of `yaml`"),
    ],
)
def test_what_is_wrongly_written_is_told(block: str, told: str) -> None:
    with pytest.raises(WronglyWrittenError) as raised:
        blocks.read(block, "page.md")
    assert told in str(raised.value)


def test_contributing_tells_every_reason() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8") if HAS_PAGES else "".join(NOT_RUN)
    assert [kind for kind in NOT_RUN if kind not in told] == []
