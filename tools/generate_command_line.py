"""Write the reference page of the command line from the parser itself.

python tools/generate_command_line.py            write it
python tools/generate_command_line.py --check    exit 1 when it is not what the parser says
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from generated import REFERENCE, head, run, table

from manylambda.cli.parser import COMMANDS, make_parser
from manylambda.config import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAGE: Final = REFERENCE / "command-line.md"

_INTRODUCTION: Final = """
# Command line

`manylambda COMMAND --help` prints what stands here. Results go to standard output, everything else to standard error.
`--format json` prints one document ([what is in them](json.md)). Most options are [settings](configuration.md) too,
with the same name in `[tool.manylambda]` and in an environment variable; a flag wins over the variable, the variable
over the file. What a command's status says: [errors](errors.md).
"""

_TITLES: Final = {"positional arguments": "arguments"}  # argparse's own word for them

_SETTINGS: Final = {field.attribute: field for field in FIELDS}


def document() -> str:
    """Return the page."""
    rows = [[f"[`{name}`](#{name})", summary] for name, summary in COMMANDS.items()]
    parts = [head(__file__, "manylambda.cli") + _INTRODUCTION, table(["command", "what it does"], rows)]
    for name in COMMANDS:
        parts += _command(name, _parser(name))
    return "\n".join(parts)


def _parser(name: str) -> argparse.ArgumentParser:
    whole = make_parser([name])
    commands = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    found = commands.choices[name]
    assert isinstance(found, argparse.ArgumentParser)
    return found


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    words = [_positional(action) for action in parser._actions if not action.option_strings and action not in below]
    yield f"## {name}\n"
    if parser.description:
        yield f"{parser.description}\n"
    yield f"```text\n{' '.join(['manylambda', name, *words, *(['COMMAND'] if below else []), '[options]'])}\n```\n"
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if _is_shown(one) and one not in below]
        if actions:
            yield _group(group.title, actions)
    for action in below:
        for inner, choice in action.choices.items():
            yield from _command(f"{name} {inner}", choice)
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```\n"


def _group(title: str | None, actions: Iterable[argparse.Action]) -> str:
    return table(
        [_TITLES.get(title or "options", title or "options"), ""],
        ([_name(action), _help(action)] for action in actions),
    )


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _positional(action: argparse.Action) -> str:
    word = _value(action)
    return f"[{word}]" if action.nargs in ("?", "*") else word


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_value(action)}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{_value(action)}`"


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    for token, value in (("%(default)s", action.default), ("%(dest)s", action.dest), ("%%", "%")):
        text = text.replace(token, str(value))
    several = "; may be given several times" if isinstance(action, argparse._AppendAction) else ""
    field = _SETTINGS.get(action.dest)
    link = f" ([setting](configuration.md#{field.key.replace('.', '')}))" if field else ""
    return text.replace("<", "&lt;") + several + link


def wanted() -> dict[Path, str]:
    """Give the page."""
    return {PAGE: document()}


if __name__ == "__main__":
    raise SystemExit(run(wanted))
