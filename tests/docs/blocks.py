"""The code blocks of the documentation: what is run, where, and what is expected of it.

How a block is written stands in CONTRIBUTING.md. `python tests/docs/blocks.py` lists what is not run, and why.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

NOT_RUN: Final = {
    "needs AWS": "an account, one of its services, or an image of its registry",
    "needs Docker": "Docker itself, with its daemon",
    "needs another system": "macOS, Windows, or a program that is only there",
    "needs another tool": "a program that the tests do not install",
    "takes minutes": "too long for each run of the tests",
    "other tests run it": "the very command, in a test that can say more of it",
}
"""Why a block may not be run: what a `not run` comment has to begin with."""

_RUN: Final = {"console", "bash", "sh", "shell", "python"}
_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
_COMMENTS: Final = re.compile(r"((?:^ *(?:[-*] +)?<!--(?:(?!-->).)*-->\s*\n)+)\Z", re.DOTALL | re.MULTILINE)
_COMMENT: Final = re.compile(r"<!-- *(in|file|with|status|output|not run): *(.*?) *-->", re.DOTALL)


class WronglyWrittenError(Exception):
    """A block that is not written as CONTRIBUTING.md says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command of a `console` block, or the whole of another one."""

    line: int
    text: str
    output: str | None = None
    """What is shown of its output; None where nothing is."""
    not_run: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A block that is run, or that is the content of a file."""

    page: str
    line: int
    language: str
    commands: tuple[Command, ...]
    folder: str | None = None
    given: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """What is written before it is run, hidden or shown."""
    status: int = 0
    """What its last command ends with."""
    checks_output: bool = True


def pages(root: Path = ROOT) -> list[Path]:
    """Give what is run: the README, the documentation without its records, and the pages of the examples."""
    records = root / "docs" / "development"
    found = [path for path in (root / "docs").rglob("*.md") if records not in path.parents]
    return [root / "README.md", *sorted(found), *sorted((root / "examples").rglob("*.md"))]


def read(text: str, page: str) -> list[Block]:
    """Read the blocks of a page; raise `WronglyWrittenError` for what nobody can run."""
    fences = list(_FENCE.finditer(text))
    before = [found for fence in fences if (found := _COMMENTS.search(text, 0, fence.start()))]
    for comment in _COMMENT.finditer(text):
        inside = any(fence.start() < comment.start() < fence.end() for fence in fences)
        if not inside and not any(one.start() <= comment.start() < one.end() for one in before):
            line = text.count("\n", 0, comment.start()) + 1
            raise WronglyWrittenError(f"{page}:{line}: `{comment[1]}: ...` must stand right above a block")
    return [block for fence in fences if (block := _block(text, page, fence)) is not None]


def _block(text: str, page: str, fence: re.Match[str]) -> Block | None:
    line = text.count("\n", 0, fence.start()) + 1
    language = fence["language"]
    body = textwrap.dedent(fence["body"])
    before = _COMMENTS.search(text, 0, fence.start())
    said: list[tuple[str, str]] = _COMMENT.findall(before[1]) if before else []
    files = {}
    shown_as = None
    for key, value in said:
        if key == "file":
            name, is_hidden, content = value.partition("\n")
            files[name] = content.rstrip("\n") + "\n" if is_hidden else body
            shown_as = shown_as if is_hidden else name
    if shown_as is None and language not in _RUN:
        if said:
            raise WronglyWrittenError(f"{page}:{line}: nobody runs a block of `{language or 'nothing'}`: say `console`")
        return None
    last = dict(said)
    return Block(
        page=page,
        line=line,
        language=language,
        commands=() if shown_as else _with_reasons(_commands(language, body, line), said, page, line),
        folder=last.get("in"),
        given=tuple(re.split(r", *", last["with"])) if "with" in last else (),
        files=files,
        status=int(last.get("status", 0)),
        checks_output=last.get("output") != "example",
    )


def _commands(language: str, body: str, line: int) -> list[Command]:
    if language != "console":
        return [Command(line=line, text=body)]
    found: list[Command] = []
    for number, text in enumerate(body.splitlines(), line + 1):
        if text.startswith("$ "):
            found.append(Command(line=number, text=text[2:]))
        elif found and found[-1].output is None and found[-1].text.endswith("\\"):
            last = found.pop()
            found.append(Command(line=last.line, text=f"{last.text}\n{text.removeprefix('> ')}"))
        elif found:
            last = found.pop()
            found.append(Command(line=last.line, text=last.text, output=f"{last.output or ''}{text}\n"))
    return found


def _with_reasons(commands: list[Command], said: list[tuple[str, str]], page: str, line: int) -> tuple[Command, ...]:
    if not commands:
        raise WronglyWrittenError(f"{page}:{line}: a `console` block without a line that begins with `$ `")
    for reason in (value for key, value in said if key == "not run"):
        kind = next((kind for kind in NOT_RUN if reason.startswith(kind)), None)
        if kind is None:
            raise WronglyWrittenError(f"{page}:{line}: `not run: {reason}` begins with none of: {', '.join(NOT_RUN)}")
        told = re.search(r"`([^`]+)`", reason)
        named = [one for one in commands if told is None or told[1] in one.text]
        if not named:
            raise WronglyWrittenError(f"{page}:{line}: `not run: {reason}` names no command of the block")
        commands = [
            Command(line=one.line, text=one.text, output=one.output, not_run=reason) if one in named else one
            for one in commands
        ]
    return tuple(commands)


def main() -> None:
    """List what is not run."""
    for page in pages():
        for block in read(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()):
            for command in block.commands:
                if command.not_run:
                    print(f"{block.page}:{command.line}: {command.not_run}\n    {command.text.splitlines()[0]}")


if __name__ == "__main__":
    main()
