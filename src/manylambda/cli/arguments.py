"""argparse as all commands use it: help that fits a screen, the same on every Python, and errors like all others."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMN: Final = 33
"""Where explanations begin, at most."""
_MORE: Final = "--help-all"


class Told(str):
    """What an option does in one sentence, and in a few words that fit a line of the help."""

    __slots__ = ("brief",)

    brief: str | None
    """None for what few need: only `--help-all` shows it."""

    def __new__(cls, text: str, brief: str | None) -> Self:
        """Make it of both."""
        made = super().__new__(cls, text)
        made.brief = brief
        return made


class Parser(argparse.ArgumentParser):
    """A parser whose `--help` is brief and whose `--help-all` is whole, both without colours.

    Python 3.14 would give them colours of its own, a yellow among them that cannot be read on white.
    """

    def __init__(self, **how: Any) -> None:
        how.setdefault("formatter_class", _Formatter)
        super().__init__(**how)
        self.color = False
        self.is_whole = False
        """Whether the help has all options."""

    def finish(self, examples: Sequence[tuple[str, str]]) -> None:
        """Add what stands in the help of a command whose options are all there."""
        if any(_is_rare(action) for action in self._actions):
            self.add_argument(_MORE, action=_HelpAll, help="show every option")
        positional = [_positional(action) for action in self._actions if not action.option_strings]
        self.usage = " ".join([self.prog, "[options]", *positional])
        self.epilog = "\n\n".join(part for part in (self.epilog, _examples(examples)) if part)

    def format_help(self) -> str:
        """Return the help; the brief one leaves out what is rare."""
        if self.is_whole:
            return super().format_help()
        helps = [(action, action.help) for action in self._actions]
        for action, told in helps:
            if isinstance(told, Told):
                action.help = argparse.SUPPRESS if told.brief is None else told.brief
        try:
            return super().format_help()
        finally:
            for action, told in helps:
                action.help = told

    def error(self, message: str) -> NoReturn:
        """Say what is wrong as every command does, and end with status 2."""
        from manylambda.cli.output import wants_color
        from manylambda.render.console import Console

        console = Console(sys.stderr, quiet=False, verbose=False, color=wants_color(sys.stderr), bars=False)
        console.error(message, f"`{self.prog} --help` shows what can be asked")
        self.exit(2)


class _HelpAll(argparse.Action):
    def __init__(self, **how: Any) -> None:
        super().__init__(**{**how, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        assert isinstance(parser, Parser)
        parser.is_whole = True
        parser.print_help()
        parser.exit()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **how: Any) -> None:
        super().__init__(prog, **{"max_help_position": _COLUMN, **how})

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Write `-t, --target TARGET`, as Python 3.13 and newer do."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def _is_rare(action: argparse.Action) -> bool:
    return isinstance(action.help, Told) and action.help.brief is None


def _positional(action: argparse.Action) -> str:
    choices = "|".join(map(str, action.choices or ()))
    word = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
    match action.nargs:
        case "?":
            return f"[{word}]"
        case "+":
            return f"{word} [{word} ...]"
        case _:
            return word


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    """Lay commands out, with what they do behind those that say it."""
    width = max((len(command) for command, told in examples if told), default=0)
    lines = [f"  {command:<{width}}  {told}".rstrip() for command, told in examples]
    return "\n".join(["examples:", *lines])
