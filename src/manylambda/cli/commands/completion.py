"""`manylambda completion`."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.render.console import Console

FORMATS: Final = ()
"""A script is printed as it is."""
EXAMPLES: Final = (
    ("manylambda completion bash", ""),
    ("manylambda completion fish > ~/.config/fish/completions/manylambda.fish", ""),
)

_SHELLS: Final = ("bash", "zsh", "fish", "powershell")
_EPILOG: Final = """\
where it goes:
  ~/.bashrc   eval "$(manylambda completion bash)"
  ~/.zshrc    eval "$(manylambda completion zsh)", behind compinit
  fish        the second example below
  $PROFILE    manylambda completion powershell | Out-String | Invoke-Expression"""
_FOLDERS: Final = frozenset({"DIR", "PROJECT"})
_FILES: Final = frozenset({"FILE", "PATH", "ZIP", "IMAGE|DIR", "FILE|JSON|-", "REQUIREMENT", "TEMPLATE"})


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help="bash, zsh, fish or powershell")


def run(options: argparse.Namespace, _console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    import shtab

    from manylambda.cli.parser import make_parser

    parser = make_parser(None)
    for action in _actions(parser):
        _describe(action)
    return shtab.complete(parser, options.shell), 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        elif action.nargs != 0:
            yield action


def _describe(action: argparse.Action) -> None:
    """Say what may stand behind an option, for the script alone: this parser reads no command."""
    import shtab

    from manylambda.cli.commands.init import RECIPES
    from manylambda.rules import ALL
    from manylambda.target import all_targets

    name = str(action.metavar)
    if action.choices is not None:
        action.choices = list(action.choices)
    elif name == "RECIPE":
        action.choices = list(RECIPES)
    elif name == "TARGET":
        action.choices = [str(target) for target in all_targets()]
    elif name.startswith("RULE"):
        action.choices = sorted(rule.name for rule in ALL)
    elif name in _FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif name in _FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    action.metavar = re.sub(r"\W+", " ", name).strip()  # in zsh's words a `:` or `[` would mean something
    action.help = getattr(action.help, "brief", None) or action.help
