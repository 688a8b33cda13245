"""The command line: reads argv, calls the pipeline, prints, picks the exit status. Nothing here is worth a unit test.

Imports are inside the functions that need them: `manylambda --version` must cost next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from manylambda.audits import Ignore, Report
    from manylambda.config import AuditSettings, Settings
    from manylambda.pipeline.build import BuildResult
    from manylambda.pipeline.trial import TrialResult
    from manylambda.render.console import Console
    from manylambda.render.findings import Look
    from manylambda.target import Target

_EXIT_INTERRUPTED: Final = 130
_EXIT_TRIAL: Final = 6

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
    "sdist_image": "REF",
    "sysroot": "DIR",
    "build_constraints": "REQUIREMENT",
    "config_settings": "NAME:KEY=VALUE",
    "build_environment": "NAME:KEY=VALUE",
    "image_base": "REF",
    "image_output": "PLACE",
    "image_environment": "KEY=VALUE",
    "image_labels": "KEY=VALUE",
    "handler": "MODULE.FUNCTION",
    "jobs": "N",
    "ignore": "RULE[:GLOB]",
    "files_sources": "FROM[=TO]",
    "files_include": "GLOB",
    "files_exclude": "GLOB",
    "files_executable": "GLOB",
}
_COMPILING: Final = frozenset(
    {
        "sdist_engine", "sdist_image", "sysroot", "build_constraints", "config_settings", "build_environment",
        "download_python",
    }
)  # fmt: skip
_RESOLVING: Final = frozenset(
    {"targets", "requirements", "lock", "extras", "groups", "allow_sdist", "allow_linux_wheels", "offline", *_COMPILING}
)
_INIT_FLAGS: Final = frozenset(
    {
        *_RESOLVING, "name", "handler", "exclude", "exclude_provided", "files_sources", "files_include",
        "files_exclude", "files_executable", "image_base",
    }
)  # fmt: skip
_WHEEL_FLAGS: Final = frozenset(
    {"targets", "output", "audit", "fail_on", "ignore", "allow_linux_wheels", "offline", *_COMPILING}
)
_AUDIT_FLAGS: Final = frozenset({"targets", "layers", "handler", "fail_on", "ignore", "offline"})

_MORE_FORMATS: Final = {"audit": ("sarif", "html"), "trial": ("html",)}
_TRIAL_FLAGS: Final = frozenset({"targets", "layers", "handler", "offline"})

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
    console = Console(
        stderr,
        quiet=options.quiet,
        verbose=options.verbose,
        color=_wants_color(stderr),
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


def _wants_color(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, or colours are asked for all the same."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _look(options: argparse.Namespace) -> Look:
    """Return how results look where they go."""
    from manylambda.render.findings import Look

    width = None
    if sys.stdout.isatty():
        with contextlib.suppress(OSError, ValueError):  # no size, or a stream of a program's own
            width = os.get_terminal_size(sys.stdout.fileno()).columns or None
    return Look(verbose=options.verbose, color=_wants_color(sys.stdout), width=width)


def _tell_stale(console: Console, ignore: Sequence[Ignore], reports: Iterable[Report]) -> None:
    """Tell of what is ignored and is not there: it is gone, or misspelt."""
    from manylambda.audits import stale

    for one in stale(ignore, reports):
        console.info(f"{console.styled('note')} nothing was found that `{one}` ignores: remove it, or correct it")


# Each command returns what it prints and its exit status.


def _build(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.build import build
    from manylambda.render import document, text

    settings = _settings(options)
    result = build(settings, progress=console)
    status = int(result.fails(settings.fail_on))
    if settings.audit and settings.ignore:
        _tell_stale(console, settings.ignore, [artifact.report for artifact in result.artifacts])
    trials = _trials(settings, result, console) if settings.trial else {}
    if any(each.trial.has_failed or each.is_empty for each in trials.values()):
        status = status or _EXIT_TRIAL
    if options.format == "json":
        return _json(document.build(result, trials)), status
    parts = [text.build(result, _look(options))]
    if trials:
        from manylambda.render import trial

        parts += [trial.text(each, _look(options)) for each in trials.values()]
    return "\n\n".join(parts), status


def _trials(settings: Settings, result: BuildResult, console: Console) -> dict[Target, TrialResult]:
    """Try what was written, one package after the other."""
    from manylambda.pipeline.trial import Request, trial

    request = Request(offline=settings.offline)
    return {
        artifact.target: trial(
            artifact.path, artifact.target, layers=settings.layers, request=request, progress=console
        )
        for artifact in result.artifacts
        if artifact.written is not None and artifact.path is not None  # what went to a registry is not here
    }


def _audit(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from pathlib import Path

    from manylambda import config
    from manylambda.pipeline.audit import examine

    flags = {name: value for name, value in vars(options).items() if name in _AUDIT_FLAGS}
    project = None if options.no_config else Path(options.project)
    settings = config.load_audit(project, os.environ, flags)
    path = Path(options.path)
    # A layer of the configuration is audited as the package it is, not on top of itself.
    layers = [layer for layer in settings.layers if "layers" in flags or not _is_same(layer, path)]
    examination = examine(
        path,
        settings.target,
        layers=layers,
        handler=settings.handler,
        ignore=settings.ignore,
        offline=settings.offline,
        progress=console,
    )
    report = examination.report
    _tell_configured(console, settings, flags, report)
    status = int(report.fails(settings.fail_on))
    if options.format == "json":
        return _json(report.to_json(options.path)), status
    if options.format == "sarif":
        from manylambda.render import sarif

        _print_utf8()
        return _json(sarif.audit(report, path, is_folder=path.is_dir())), status
    if options.format == "html":
        from manylambda.render import html

        _print_utf8()
        return html.audit(examination, path=options.path).rstrip(), status
    from manylambda.render import text

    return text.audit(report, _look(options)), status


def _tell_configured(console: Console, settings: AuditSettings, flags: Collection[str], report: Report) -> None:
    """Tell what came from the configuration and not from the command: the package may be from anywhere."""
    note = console.styled("note")
    if "ignore" in flags:  # what the project ignores need not be in every package
        _tell_stale(console, settings.ignore, [report])
    if "targets" not in flags:
        console.detail(f"{note} the target `{settings.target}` is what the configuration says")
    if settings.handler is not None and "handler" not in flags:
        is_missed = any(finding.rule == "handler-missing" for finding in report.findings)
        tell = console.info if is_missed else console.detail
        tell(f"{note} the handler `{settings.handler}` is what the configuration says; `--no-config` reads none")
    if settings.layers and "layers" not in flags:
        layers = ", ".join(f"`{layer}`" for layer in settings.layers)
        console.detail(f"{note} the layers are what the configuration says: {layers}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _print_utf8() -> None:
    """Write results as UTF-8, which their format promises, whatever a pipe or a file has by default (Windows)."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def _trial(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from pathlib import Path

    from manylambda import config
    from manylambda.pipeline.trial import Request, trial
    from manylambda.render import trial as render

    flags = {name: value for name, value in vars(options).items() if name in _TRIAL_FLAGS}
    settings = config.load_audit(None if options.no_config else Path(options.project), os.environ, flags)
    usual = Request()
    request = Request(
        engine=options.engine,
        rootfs=Path(options.rootfs) if options.rootfs else None,
        image=options.image,
        modules=tuple(options.modules),
        handler=settings.handler,
        events=tuple(map(_event, options.events)),
        seconds=usual.seconds if options.timeout is None else options.timeout,
        memory_mb=usual.memory_mb if options.memory is None else options.memory,
        profile=options.profile,
        download_python=options.download_python,
        offline=settings.offline,
    )
    result = trial(Path(options.path), settings.target, layers=settings.layers, request=request, progress=console)
    status = _EXIT_TRIAL if result.trial.has_failed or result.is_empty else 0
    if result.is_empty:
        console.warning("nothing of it could be tried here: run it in a root file system or an image of the target")
    elif options.format != "text" and render.not_tried(result.trial):  # which text tells by itself
        console.warning(f"what was not tried has not passed: {render.verdict(result.trial)}")
    if options.format == "json":
        return _json(render.document(result)), status
    if options.format == "html":
        from manylambda.render import trial_page

        _print_utf8()
        return trial_page.page(result, path=options.path).rstrip(), status
    return render.text(result, _look(options)), status


def _event(text: str) -> Any:
    """Read an event: JSON itself, `-` for standard input, or a file."""
    import json
    from pathlib import Path

    from manylambda.errors import RequestError

    where = "standard input" if text == "-" else "the event"
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text[:1] not in {"{", "[", '"'} and Path(text).is_file():
            where = f"`{text}`"
            text = Path(text).read_text(encoding="utf-8-sig")
        return json.loads(text)
    except (ValueError, OSError) as error:
        if where == "the event" and text.endswith(".json"):
            raise RequestError(f"there is no file `{text}`", hint="an event is JSON, a file, or `-`") from error
        raise RequestError(
            f"{where} is not JSON: {error}", hint="give JSON, the name of a file with it, or `-` for standard input"
        ) from error


def _wheel(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.wheel import wheel
    from manylambda.render import document, text

    settings = _settings(options)
    result = wheel(options.wanted, settings, from_source=options.from_source, progress=console)
    status = int(result.fails(settings.fail_on))
    if options.format == "json":
        return _json(document.wheel(result)), status
    return text.wheel(result, _look(options)), status


def _init(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from pathlib import Path

    from manylambda.pipeline.docker import Request, init_docker
    from manylambda.render import document, text

    request = Request(Path(options.folder) if options.folder else None, options.force)
    result = init_docker(_settings(options), request, progress=console)
    return _json(document.recipe(result)) if options.format == "json" else text.recipe(result), 0


def _push(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from manylambda.pipeline.push import push
    from manylambda.render import push as render
    from manylambda.target import Target

    target = Target.parse(options.target) if options.target else None
    result = push(options.image, options.reference, target=target, plain_http=options.plain_http, progress=console)
    return _json(render.document(result)) if options.format == "json" else render.text(result), 0


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


def _explain(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    from pathlib import Path

    from manylambda.pipeline.explain import explain, meant
    from manylambda.render import explain as shown
    from manylambda.target import Target

    target = Target.parse(options.target) if options.target else None
    if options.asked is None:
        return _json(shown.document(None)) if options.format == "json" else shown.rule_list(_look(options)), 0
    explanation = explain(
        sys.stdin.buffer if options.asked == "-" else meant(options.asked),
        package=Path(options.package) if options.package else None,
        target=target,
        layers=[Path(layer) for layer in options.layers],
        progress=console,
    )
    status = int(not explanation.is_recognised)
    if options.format == "json":
        return _json(shown.document(explanation)), status
    return shown.text(explanation, _look(options)), status


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

    taken = {"run", "command", "project", "format", "verbose", "quiet", "upgrade", "wanted", "from_source"}
    taken |= {"recipe", "folder", "force"}
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
        ("trial", "import and invoke a package in an execution environment", _trial, _trial_options),
        ("wheel", "make a wheel for each target, from source where there is none", _wheel, _wheel_options),
        ("push", "bring an image to a registry, without a daemon", _push, _push_options),
        ("lock", "write one pylock.toml with hashes for all targets", _lock, _lock_options),
        ("init", "write a Dockerfile that installs what the lock gives a target", _init, _init_options),
        ("plan", "show what would be shipped, per target, and why", _plan, _plan_options),
        ("explain", "show a rule's page, or the cause of a pasted error", _explain, _explain_options),
        ("targets", "show the runtimes table", _targets, _targets_options),
    ):
        command = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        command.set_defaults(run=run)
        if name == asked:
            add_options(command)
            formats = ("text", "json", *_MORE_FORMATS.get(name, ()))
            command.add_argument("--format", choices=formats, default="text", help="how results are printed (text)")
            command.add_argument("-v", "--verbose", action="store_true", help="tell more: what was left out, and why")
            command.add_argument("-q", "--quiet", action="store_true", help="tell only errors, warnings and results")
    return parser


def _build_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, without={"lock_output"})


def _audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a zip, layer, folder, wheel or image of any tool, or a lock")
    _field_options(parser, only=_AUDIT_FLAGS, told={"targets": "where it will run, such as python3.13-arm64"})
    _configuration_options(parser)


def _trial_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a zip, layer, folder, wheel or image of any tool, or a lock")
    _field_options(parser, only=_TRIAL_FLAGS, told={"targets": "where it will run, such as python3.13-arm64"})
    add = parser.add_argument
    add(
        "--engine",
        choices=("auto", "container", "rootfs", "interpreter"),
        default="auto",
        help="what it runs in (auto)",
    )
    add("--rootfs", metavar="PATH", help="a root file system to run in: a folder, tar or image of the runtime")
    add("--image", metavar="REF", help="the image to run in, instead of Lambda's base image")
    add("--module", dest="modules", action="append", metavar="NAME", default=[], help="import these modules only")
    add("--event", dest="events", action="append", metavar="FILE|JSON|-", default=[], help="give the handler an event")
    add("--timeout", type=float, metavar="S", help="seconds for a module, and for an event (60)")
    add("--memory", type=int, metavar="MB", help="memory it may use, in MiB (1024)")
    add("--profile", action="store_true", help="show what the handler's import costs, module by module")
    add("--download-python", action="store_true", help="let uv download the target's Python when there is none")
    _configuration_options(parser)


def _configuration_options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--project", default=".", metavar="DIR", help="whose configuration says what the flags do not (.)"
    )
    where.add_argument("--no-config", action="store_true", help="read no configuration: only the flags count")


def _wheel_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "wanted", nargs="+", metavar="REQUIREMENT", help="name, name==version, a source distribution or a folder"
    )
    parser.add_argument("--from-source", action="store_true", help="build even what has a wheel for the target")
    _field_options(
        parser, only=_WHEEL_FLAGS, told={"output": "the folder wheels are written to (dist)", "targets": "for what"}
    )
    parser.add_argument(
        "--project", default=".", metavar="DIR", help="whose configuration says what the flags do not (.)"
    )


def _push_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE|DIR", help="an OCI layout (folder or tar), or an image of a registry")
    parser.add_argument("reference", metavar="REF", help="where it goes: HOST/NAME[:TAG]")
    parser.add_argument("-t", "--target", metavar="TARGET", help="which image of an index: that for python3.13-arm64")
    parser.add_argument("--plain-http", action="store_true", help="use no TLS, also beyond this machine")


def _lock_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, only={*_RESOLVING, "lock_output"})
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those locked before")


def _init_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", choices=("docker",), help="what is written")
    _project_options(parser, only=_INIT_FLAGS)
    parser.add_argument("-o", "--output", dest="folder", metavar="DIR", help="a folder of the project to write to")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def _plan_options(parser: argparse.ArgumentParser) -> None:
    _project_options(parser, only=_RESOLVING)


def _explain_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("asked", nargs="?", metavar="RULE|FILE|-", help="a rule, a log, or - for a pasted error")
    parser.add_argument("--package", metavar="PATH", help="the package it is about: a zip, layer, folder or wheel")
    parser.add_argument("-t", "--target", metavar="TARGET", help="where it runs, such as python3.13-arm64")
    parser.add_argument(
        "--layer", dest="layers", action="append", metavar="ZIP", default=[], help="a layer the function uses"
    )


def _targets_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="TARGET", help="one target, in full")


def _project_options(
    parser: argparse.ArgumentParser, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> None:
    """Give a command its project and the settings as flags."""
    parser.add_argument("project", nargs="?", default=".", metavar="PROJECT", help="the project's folder (.)")
    _field_options(parser, only=only, without=without)


def _field_options(
    parser: argparse.ArgumentParser,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    told: Mapping[str, str] | None = None,
) -> None:
    """Give a command the settings as flags; those that are not used stay out of the parsed options."""
    import argparse

    from manylambda.config import FIELDS, Shape

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
        summary = (told or {}).get(field.attribute, summary)
        parser.add_argument(*flags, dest=field.attribute, default=argparse.SUPPRESS, help=summary, **more)
