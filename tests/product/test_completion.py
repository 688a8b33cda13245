"""Completion, asked of the shells themselves."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from manylambda.cli import main
from manylambda.cli.parser import COMMANDS
from manylambda.target import all_targets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from product.conftest import Run

TARGETS = {str(target) for target in all_targets()}
ASKED = [
    ("", set(COMMANDS)),
    ("bui", {"build"}),
    ("build --kind ", {"zip", "layer", "dir", "image"}),
    ("build --kind la", {"layer"}),
    ("build -t python3.13", {"python3.13-arm64", "python3.13-x86_64"}),
    ("audit api.zip -t ", TARGETS),
    ("build --ki", {"--kind"}),
    ("explain glibc", {"glibc-too-new"}),
    ("audit --ignore symbol-u", {"symbol-undefined"}),
    ("targets python3.12-a", {"python3.12-arm64"}),
    ("completion ", {"bash", "zsh", "fish", "powershell"}),
    ("build --output pla", {"place"}),
    ("build -r pl", {"place", "plain.txt"}),
    ("audit pl", {"place", "plain.txt"}),
    ("build pl", {"place"}),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    (tmp_path / "plain.txt").write_text("", encoding="utf-8")
    return tmp_path


def written(name: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", name]) == 0
    return capfd.readouterr().out


def shell(name: str) -> str:
    """Give the program of a shell; where tests are to be complete it must be there."""
    found = shutil.which(name)
    if found is None or os.name != "posix":
        if os.environ.get("CI"):
            pytest.fail(f"there is no {name} here")
        pytest.skip(f"there is no {name} here")
    return found


def answer(command: list[str], stdin: str, folder: Path) -> str:
    done = subprocess.run(command, input=stdin, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def offered(line: str, words: Iterable[str]) -> set[str]:
    """Give what was offered; before the command some shells also offer options."""
    return {word for word in words if word and not (line == "" and word.startswith("-"))}


def test_bash(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = written("bash", capfd)
    asking = (
        'ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _shtab_manylambda; printf "%s|" "${COMPREPLY[@]}"; echo; }'
    )
    lines = []
    for line, _ in ASKED:
        *words, last = line.split(" ")
        lines.append(" ".join(["ask manylambda", *words, f"'{last}'"]))
    told = answer([shell("bash"), "--norc", "--noprofile"], "\n".join([script, asking, *lines]), place)
    for (line, expected), found in zip(ASKED, told.splitlines(), strict=True):
        assert {word for word in found.split("|") if word and not (line == "" and word.startswith("-"))} == expected, (
            line
        )


def test_bash_keeps_a_name_with_a_space_in_one_piece(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "plain two.txt").write_text("", encoding="utf-8")
    script = written("bash", capfd)
    asking = 'COMP_WORDS=(manylambda audit plain); COMP_CWORD=2; _shtab_manylambda; printf "%s|" "${COMPREPLY[@]}"'
    found = answer([shell("bash"), "--norc", "--noprofile"], f"{script}\n{asking}\n", place)
    assert set(found.split("|")) == {"plain.txt", "plain two.txt", ""}


def test_fish(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = shell("fish")
    script = written("fish", capfd)
    asking = [f"complete -C 'manylambda {line}'; echo =" for line, _ in ASKED]
    told = answer([program, "--no-config"], "\n".join([script, *asking]), place)
    for (line, expected), found in zip(ASKED, told.split("=\n")[:-1], strict=True):
        words = {word.partition("\t")[0].rstrip("/") for word in found.splitlines()}
        assert offered(line, words) == expected, line


def test_zsh(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal of zsh's own, in which keys are pressed: what it completes needs its line editor."""
    import pty

    program = shell("zsh")
    (place / "script").write_text(written("zsh", capfd), encoding="utf-8")
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(place)
        os.execve(program, ["zsh", "-f", "-i"], {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(place)})

    def read(until: bytes, seconds: float = 120) -> str:
        found = b""
        deadline = time.monotonic() + seconds
        while until not in found:
            assert time.monotonic() < deadline, found
            if select.select([terminal], [], [], 0.1)[0]:
                found += os.read(terminal, 65_536)
        return found.decode()

    try:
        # `_complete` itself, without a menu or a question; what is offered is collected where it is added.
        setup = r"""
        PROMPT= RPROMPT=; setopt no_prompt_cr no_prompt_sp; autoload -Uz compinit && compinit -u -D && eval "$(<script)"
        compadd() {
          local -a found; local one
          if [[ ${@[(I)-[ODA]*]} -gt 0 ]]; then builtin compadd "$@"; return; fi
          builtin compadd -O found "$@"; for one in $found; do OFFERED+="$one|"; done; builtin compadd "$@"
        }
        offer() { OFFERED=; zle complete-word 2>/dev/null; print -r -- "<$OFFERED>"; BUFFER=; }
        zle -C complete-word complete-word _main_complete 2>/dev/null
        zle -N offer; bindkey '^X' offer; print RE''ADY
        """
        os.write(terminal, re.sub(r"\n\s+", "\n", setup).encode())
        read(b"READY\r\n")
        for line, expected in ASKED:
            os.write(terminal, f"manylambda {line}\x18".encode())
            found = read(b">\r\n").rpartition("<")[2].partition(">")[0]
            words = [word.rstrip("/") for word in found.split("|")]
            assert offered(line, words) == expected, line
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def test_powershell_gets_what_the_others_get(capfd: pytest.CaptureFixture[str]) -> None:
    """There is no PowerShell here: its script is only looked at."""
    script = written("powershell", capfd)
    assert "Register-ArgumentCompleter -Native -CommandName manylambda -ScriptBlock {" in script
    assert all(f"'{target}'" in script for target in TARGETS)
    assert all(f"'{command}'" in script for command in COMMANDS)


def test_a_shell_that_is_not_known_is_told(run: Run) -> None:
    assert run("completion", "tcsh", status=2).stderr.startswith("error: argument SHELL: invalid choice: 'tcsh'")


def test_a_command_that_is_run_does_not_pay_for_it() -> None:
    program = """
import sys
from manylambda.cli import main
main(["targets"])
print("shtab" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
