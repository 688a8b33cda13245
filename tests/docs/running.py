"""A page of the documentation, run as its reader would: its blocks in order, in one shell, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from docs import aws
from docs.blocks import ROOT
from docs.given import ACCOUNT, NOT_HERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docs.blocks import Block, Command

ADVICE: Final = "How blocks are written: CONTRIBUTING.md, `Blocks of code`."
TESTS: Final = Path(__file__).parents[1]
_TIMEOUT: Final = 170
"""Seconds for a page."""


class BlockFailedError(AssertionError):
    """A command of the documentation did not do what the documentation says."""


def run(blocks: list[Block], folder: Path, cache: Path) -> None:
    """Run the blocks of one page below `folder`, which has the examples as a clone has them."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("dist", "build"))
    commands = dict(enumerate(one for block in blocks for one in block.commands if not one.not_run))
    script = folder.parent / f"{folder.name}.sh"
    script.write_text("\n".join(_script(blocks, folder)), encoding="utf-8")
    programs = folder.parent / f"{folder.name}-bin"
    programs.mkdir()
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {
        **os.environ, "PATH": path, "MANYLAMBDA_CACHE_DIR": str(cache), "HOME": str(folder.parent),
        "GIVEN": str(programs), "COLUMNS": "120", "MANYLAMBDA_HTTP_RETRIES": "2",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        wants_account = any(ACCOUNT in block.given for block in blocks)
        account = stack.enter_context(aws.served()) if wants_account else {}
        try:
            told = subprocess.run(
                ["bash", script], cwd=folder, env={**environment, **account}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT, check=False,
            ).stdout  # fmt: skip
        except subprocess.TimeoutExpired as late:  # the command it hangs in is then the first without an end
            told = late.stdout or b""
    _judge(told.decode(errors="replace"), commands, blocks)


def _script(blocks: list[Block], folder: Path) -> Iterator[str]:
    """Write the page as one script that tells where each command begins and what it ended with."""
    number = 0
    giver = f"PYTHONPATH={shlex.quote(str(TESTS))} {shlex.quote(sys.executable)} -m docs.given"
    yield "set -o pipefail"
    for block in blocks:
        commands = [one for one in block.commands if not one.not_run]
        if block.folder:
            place = shlex.quote(str(folder / block.folder))
            yield f"mkdir -p {place} && cd {place} || exit 1"
        for name, content in block.files.items():
            yield f"mkdir -p {shlex.quote(str(Path(name).parent))}"
            yield f"cat > {shlex.quote(name)} <<'@@FILE'\n{content}@@FILE"
        yield "given=0"
        for name in block.given if commands else ():
            yield f"{giver} {shlex.quote(name)} || given=$?"
            yield f"[ $given = 0 ] || [ $given = {NOT_HERE} ] || exit 1"
        for command in commands:
            text = command.text.rstrip("\n")
            if block.language == "python":
                text = f"python - <<'@@PYTHON'\n{text}\n@@PYTHON"
            expected = block.status if command is commands[-1] else 0
            yield f"if [ $given = {NOT_HERE} ]; then echo; echo '@@left-out {number}'; else"
            yield f"echo; echo '@@begin {number}'"
            yield text
            yield f's=$?; echo; echo "@@end {number} $s {expected}"; [ $s = {expected} ] || exit 0'
            yield "fi"
            number += 1


def _judge(told: str, commands: dict[int, Command], blocks: list[Block]) -> None:
    of_block = {command: block for block in blocks for command in block.commands}
    results = {int(one["number"]): one for one in _RESULT.finditer(told)}
    for number, command in commands.items():
        block = of_block[command]
        where = f"{block.page}:{command.line}: {command.text.strip()}"
        result = results.get(number)
        if f"@@left-out {number}\n" in told:
            continue
        if result is None:
            raise BlockFailedError(f"{where}\ndid not come to an end:\n{told[-3000:]}\n{ADVICE}")
        output = result["output"].strip("\n")
        if result["status"] != result["expected"]:
            was = f"ended with {result['status']}, not {result['expected']}"
            raise BlockFailedError(f"{where}\n{was}:\n{output}\n{ADVICE}")
        if command.output and block.checks_output and not _is_like(command.output, output):
            raise BlockFailedError(f"{where}\nprinted\n{output}\nwhere the page shows\n{command.output}{ADVICE}")


_RESULT: Final = re.compile(
    r"^@@begin (?P<number>\d+)\n(?P<output>.*?)^@@end (?P=number) (?P<status>\d+) (?P<expected>\d+)$",
    re.DOTALL | re.MULTILINE,
)


def _is_like(shown: str, output: str) -> bool:
    """Tell whether the output is as shown: `...` stands for anything, also for nothing, and spaces count as one."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("...")]
    return re.fullmatch(".*".join(parts), " ".join(output.split())) is not None
