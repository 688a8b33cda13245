"""The parser of argv, and the table of commands."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final = {
    "build": "make a package for each target",
    "audit": "check that a package will load on its target",
    "trial": "import and invoke a package in an execution environment",
    "wheel": "make a wheel for each target, from source where there is none",
    "push": "bring an image to a registry, without a daemon",
    "lock": "write one pylock.toml with hashes for all targets",
    "init": "write what another tool needs to build with this: a Dockerfile, a workflow of a CI",
    "plan": "show what would be shipped, per target, and why",
    "explain": "show a rule's page, or the cause of a pasted error",
    "targets": "show the runtimes table",
    "doctor": "show what this machine has: programs, Pythons, engines of trials, logins, cache",
    "cache": "show what the cache holds, or remove what was not used lately",
}
"""Their order is that of `--help`; the module `cli.commands.NAME` has `add_options`, `run`, and its `FORMATS`."""

_EPILOG: Final = """\
examples:
  manylambda build -t python3.13-arm64                 a function's zip from the project in this folder
  manylambda build -t python3.13-arm64 --kind layer    its dependencies as a layer
  manylambda lock -t python3.13-arm64 -t python3.11-x86_64
  manylambda plan -t python3.11-x86_64                 what would be shipped, and why
  manylambda audit dist/api-python3.13-arm64.zip -t python3.13-arm64
  manylambda trial dist/api-python3.13-arm64.zip -t python3.13-arm64 --handler app.lambda_handler --event '{}'
  manylambda wheel psutil==7.2.2 -t python3.13-arm64   its wheel, compiled for the target where there is none
  manylambda push image.tar 111122223333.dkr.ecr.eu-central-1.amazonaws.com/api:1
  manylambda explain -                                 what a pasted error means, and what mends it

exit status: 0 done, 1 findings, 2 wrong request, 3 no resolution, 4 fetch failed, 5 cannot package, 6 trial failed,
70 our bug
"""


def make_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser; only the command among `arguments` gets its options: making all of them takes a while."""
    from manylambda._version import __version__

    parser = argparse.ArgumentParser(
        prog="manylambda",
        description="Build AWS Lambda packages for Python that are right for the target and proved to be.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"manylambda {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        if name == asked:
            _fill(command, name)
    return parser


def _fill(parser: argparse.ArgumentParser, name: str) -> None:
    module = import_module(f"manylambda.cli.commands.{name}")
    module.add_options(parser)
    add = parser.add_argument
    add("--format", choices=module.FORMATS, default="text", help="how results are printed (text)")
    add("-v", "--verbose", action="store_true", help="tell more: what was left out, and why")
    add("-q", "--quiet", action="store_true", help="tell only errors, warnings and results")
    parser.set_defaults(run=module.run)
