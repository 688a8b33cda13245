"""`manylambda trial`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from manylambda.cli.flags import configuration_options, field_options
from manylambda.cli.output import EXIT_TRIAL, as_json, look, print_utf8

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json", "html")
EXAMPLES: Final = (
    ("manylambda trial dist/api-python3.13-arm64.zip -t python3.13-arm64", ""),
    ("manylambda trial api.zip -t python3.13-arm64 --handler app.run --event '{}'", ""),
)

_FLAGS: Final = frozenset({"targets", "layers", "handler", "offline"})


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a zip, layer, folder, wheel or image of any tool, an image in a registry, or a lock",
    )
    field_options(parser, only=_FLAGS, told={"targets": "where it will run: python3.13-arm64"})
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
    configuration_options(parser)


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from pathlib import Path

    from manylambda import config
    from manylambda.pipeline.named import package_at
    from manylambda.pipeline.trial import Request, trial
    from manylambda.render import trial as render

    flags = {name: value for name, value in vars(options).items() if name in _FLAGS}
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
    with package_at(options.path, settings.target, offline=settings.offline, progress=console) as path:
        result = trial(
            path,
            settings.target,
            layers=settings.layers,
            request=request,
            progress=console,
            called=options.path,
        )
    status = EXIT_TRIAL if result.trial.has_failed or result.is_empty else 0
    if result.is_empty:
        console.warning("nothing of it could be tried here: run it in a root file system or an image of the target")
    elif options.format != "text" and render.not_tried(result.trial):  # which text tells by itself
        console.warning(f"what was not tried has not passed: {render.verdict(result.trial)}")
    if options.format == "json":
        return as_json(render.document(result)), status
    if options.format == "html":
        from manylambda.render import trial_page

        print_utf8()
        return trial_page.page(result, path=options.path).rstrip(), status
    return render.text(result, look(options)), status


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
    except (ValueError, RecursionError, OSError) as error:
        if where == "the event" and text.endswith(".json"):
            raise RequestError(f"there is no file `{text}`", hint="an event is JSON, a file, or `-`") from error
        raise RequestError(
            f"{where} is not JSON: {error}", hint="give JSON, the name of a file with it, or `-` for standard input"
        ) from error
