"""The parser of argv, and the table of commands."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from manylambda.cli.arguments import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = {
    "build": "make a package for each target",
    "audit": "check that a package will load on its target",
    "trial": "import and invoke a package in an execution environment",
    "wheel": "make a wheel for each target, from source where there is none",
    "push": "bring an image to a registry, without a daemon",
    "lock": "write one pylock.toml with hashes for all targets",
    "init": "write the settings of a project, or what another tool needs",
    "plan": "show what would be shipped, per target, and why",
    "explain": "show a rule's page, or the cause of a pasted error",
    "targets": "show the runtimes table",
    "doctor": "show what this machine has, and what of it works",
    "cache": "show what the cache holds, or remove what was not used lately",
    "completion": "write a script that completes commands in a shell",
}
"""In the order of `--help`; the module `cli.commands.NAME` has `add_options`, `run`, `FORMATS` and `EXAMPLES`."""

_EPILOG: Final = """\
examples:
  manylambda build -t python3.13-arm64        a function's zip from this folder
  manylambda audit dist/api-python3.13-arm64.zip -t python3.13-arm64
  manylambda trial dist/api-python3.13-arm64.zip -t python3.13-arm64
  manylambda explain -                        what a pasted error means
  manylambda doctor                           what is here, and what works

exit status: 0 done, 1 findings, 2 wrong request, 3 no resolution,
4 fetch failed, 5 cannot package, 6 trial failed, 70 our bug
"""


def make_parser(arguments: Sequence[str] | None) -> Parser:
    """Make the parser; only the command among `arguments` gets its options: making all of them takes a while.

    None gives all of them theirs.
    """
    from manylambda._version import __version__

    parser = Parser(
        prog="manylambda",
        usage="manylambda COMMAND [options]",
        description="Build AWS Lambda packages for Python that are right for the target and\nproved to be.",
        epilog=_EPILOG,
    )
    parser.add_argument("-V", "--version", action="version", version=f"manylambda {__version__}")
    # argparse begins the names of its commands with the usage, if there is one, and not with the program.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="manylambda")
    asked = next((word for word in arguments if not word.startswith("-")), None) if arguments is not None else None
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if arguments is None or name == asked:
            _fill(command, name)
    return parser


def _fill(parser: Parser, name: str) -> None:
    module = import_module(f"manylambda.cli.commands.{name}")
    module.add_options(parser)
    add = parser.add_argument
    if module.FORMATS:
        *others, last = module.FORMATS
        told = f"{', '.join(others)} or {last} (text)"
        add("--format", choices=module.FORMATS, default="text", metavar="FORMAT", help=told)
    add("-v", "--verbose", action="store_true", help="tell more: what was left out, and why")
    add("-q", "--quiet", action="store_true", help="tell only errors, warnings and results")
    parser.finish(module.EXAMPLES)
    parser.set_defaults(run=module.run)
