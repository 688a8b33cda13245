"""The command line: reads argv, calls the pipeline, prints, picks the exit status. Nothing here is worth a unit test.

Imports are inside the functions that need them: `manylambda --version` must cost next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from manylambda.config import Settings
    from manylambda.render.console import Console

_EXIT_INTERRUPTED: Final = 130

_SHORT: Final = {"targets": "-t", "requirements": "-r", "output": "-o", "lock_output": "-o"}
_METAVARS: Final = {
    "output": "DIR",
    "lock_output": "FILE",
    "requirements": "FILE",
    "lock": "FILE",
    "extras": "NAME",
    "groups": "NAME",
    "exclude": "NAME",
    "layers": "ZIP",
    "allow_sdist": "NAME",
    "handler": "MODULE.FUNCTION",
    "jobs": "N",
    "files_sources": "FROM[=TO]",
    "files_include": "GLOB",
    "files_exclude": "GLOB",
    "files_executable": "GLOB",
}
_RESOLVING: Final = frozenset(
    {"targets", "requirements", "lock", "extras", "groups", "allow_sdist", "allow_linux_wheels", "offline"}
)

_EPILOG: Final = """\
examples:
  manylambda build -t python3.13-arm64                 a function's zip from the project in this folder
  manylambda build -t python3.13-arm64 --kind layer    its dependencies as a layer
  manylambda lock -t python3.13-arm64 -t python3.11-x86_64
  manylambda plan -t python3.11-x86_64                 what would be shipped, and why
  manylambda audit dist/api-python3.13-arm64.zip -t python3.13-arm64

exit status: 0 done, 1 findings, 2 wrong request, 3 no resolution, 4 fetch failed, 5 cannot package, 70 our bug
"""


def run() -> NoReturn:
    """Run the command of `sys.argv` and end the process with its exit status.

    At once: results are written and flushed, every file is closed and in its place. Taking tens of thousands of objects
    apart one by one would take longer than the audit did.
    """
    status = main()
    with contextlib.suppress(OSError):  # what could not be written was told when it was printed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        from manylambda._version import __version__

        print(f"manylambda {__version__}")
        return 0
    import gc

    gc.disable()  # a command is soon over: what the collector would walk, again and again, is all still in use
    options = _parser(arguments).parse_args(arguments)
    return _guarded(options)


def _guarded(options: argparse.Namespace) -> int:
    """Run the command; every error becomes one clear message and its exit status."""
    from manylambda.errors import ManylambdaError
    from manylambda.render.console import Console

    for stream in (sys.stdout, sys.stderr):  # a file name need not be Unicode, nor in a console's set
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    stderr = sys.stderr
    terminal = stderr.isatty()
    color = (terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb") or bool(
        os.environ.get("FORCE_COLOR")
    )
    console = Console(
        stderr,
        quiet=options.quiet,
        verbose=options.verbose,
        color=color,
        bars=terminal and os.environ.get("TERM") != "dumb",
    )
    with console:
        try:
            output, status = options.run(options, console)
            console.close()  # no bar is live any more when results come to the same terminal
            _print(output)
        except ManylambdaError as error:
            console.error(error.message, error.hint)
            return error.exit_status
        except KeyboardInterrupt:
            console.error("interrupted", None)
            return _EXIT_INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0  # the reader has seen enough
        except OSError as error:  # a disk or a right of this machine that no room expected to be missing
            where = f"`{error.filename}`" if error.filename is not None else "a file"
            console.error(f"{where} cannot be used: {(error.strerror or str(error)).lower()}", None)
            return 5
        except Exception:  # noqa: BLE001 - the last line of defence: a bug must look like one
            import traceback

            traceback.print_exc()
            console.error(
                "this is a bug in manylambda", "please report it with the lines above and the command you ran"
            )
            return 70
    return int(status)


# Each command returns what it prints and its exit status.


def _build(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.build import build
    from manylambda.render import document, text

    settings = _settings(options)
    result = build(settings, progress=console)
    status = int(result.fails(settings.fail_on))
    if options.format == "json":
        return _json(document.build(result)), status
    return text.build(result, verbose=options.verbose), status


def _audit(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from pathlib import Path

    from manylambda.pipeline.audit import audit
    from manylambda.render import text
    from manylambda.target import Target

    layers = [Path(layer) for layer in options.layers]
    target = Target.parse(options.target)
    report = audit(Path(options.path), target, layers=layers, handler=options.handler, progress=console)
    status = int(report.fails(options.fail_on))
    return _json(report.to_json(options.path)) if options.format == "json" else text.audit(report), status


def _lock(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.lock import lock
    from manylambda.render import document, text

    result = lock(_settings(options), upgrade=options.upgrade, progress=console)
    return _json(document.lock(result)) if options.format == "json" else text.lock(result), 0


def _plan(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.plan import plan
    from manylambda.render import document, text

    plans = plan(_settings(options), progress=console)
    if options.format == "json":
        return _json(document.plan(plans)), plans.exit_status
    return text.plan(plans, verbose=options.verbose), plans.exit_status


def _targets(options: argparse.Namespace, _console: Console) -> tuple[str, int]:
    from manylambda.render import document, text
    from manylambda.target import Target, all_targets

    targets = [Target.parse(options.target)] if options.target else list(all_targets())
    if options.format == "json":
        return _json(document.targets(targets)), 0
    return text.target(targets[0]) if options.target else text.targets(targets), 0


def _print(output: str) -> None:
    try:
        print(output, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        from manylambda.errors import PackagingError

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end of the process fails again
        raise PackagingError(f"the results cannot be written: {(error.strerror or str(error)).lower()}") from error


def _settings(options: argparse.Namespace) -> Settings:
    from pathlib import Path

    from manylambda import config
    from manylambda.errors import RequestError

    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise RequestError("the working folder does not exist any more", hint="change to another one") from error

    taken = {"run", "command", "project", "format", "verbose", "quiet", "upgrade"}
    flags: dict[str, Any] = {key: value for key, value in vars(options).items() if key not in taken}
    return config.load(Path(options.project), os.environ, flags)


def _json(data: object) -> str:
    import json

    return json.dumps(data, indent=2)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser; only the command among `arguments` gets its options: making all of them takes a while."""
    import argparse

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
    for name, summary, run, add_options in (
        ("build", "make a package for each target", _build, _build_options),
        ("audit", "check that a package will load on its target", _audit, _audit_options),
        ("lock", "write one pylock.toml with hashes for all targets", _lock, _lock_options),
        ("plan", "show what would be shipped, per target, and why", _plan, _plan_options),
        ("targets", "show the runtimes table", _targets, _targets_options),
    ):
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        command.set_defaults(run=run)
        if name == asked:
            add_options(command)
            command.add_argument(
                "--format", choices=("text", "json"), default="text", help="how results are printed (text)"
            )
            command.add_argument("-v", "--verbose", action="store_true", help="tell more: what was left out, and why")
            command.add_argument("-q", "--quiet", action="store_true", help="tell only errors, warnings and results")
    return parser


def _build_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, without={"lock_output"})


def _audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a zip, layer, folder or wheel, made by any tool")
    parser.add_argument("-t", "--target", required=True, metavar="TARGET", help="such as python3.13-arm64")
    parser.add_argument(
        "--layer", dest="layers", action="append", metavar="ZIP", default=[], help="a layer it is used with"
    )
    parser.add_argument("--handler", metavar="MODULE.FUNCTION", help="what Lambda will call")
    parser.add_argument(
        "--fail-on", choices=("error", "warning"), default="error", help="exit 1 at this severity (error)"
    )


def _lock_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, only={*_RESOLVING, "lock_output"})
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those locked before")


def _plan_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, only=_RESOLVING)


def _targets_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="TARGET", help="one target, in full")


def _project_options(
    parser: argparse.ArgumentParser, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> None:
    """Give a command the settings as flags; those that are not used stay out of the parsed options."""
    import argparse

    from manylambda.config import FIELDS, Shape

    parser.add_argument("project", nargs="?", default=".", metavar="PROJECT", help="the project's folder (.)")
    for field in FIELDS:
        if field.attribute in without or (only is not None and field.attribute not in only):
            continue
        flags = [_SHORT[field.attribute], field.flag] if field.attribute in _SHORT else [field.flag]
        more: dict[str, Any] = {}
        match field.shape:
            case Shape.SWITCH:
                more["action"] = "store_false" if field.flag.startswith("--no-") else "store_true"
            case Shape.AUTO_SWITCH:
                more["action"] = argparse.BooleanOptionalAction
            case Shape.CHOICE:
                more["choices"] = field.choices
            case _:
                more["metavar"] = _METAVARS.get(field.attribute, field.flag.lstrip("-").upper())
                if field.shape.is_list:
                    more["action"] = "append"
        summary = field.summary[0].lower() + field.summary[1:]
        if field.flag == "--no-audit":
            summary = "write the package even if it will not load"
        parser.add_argument(*flags, dest=field.attribute, default=argparse.SUPPRESS, help=summary, **more)
