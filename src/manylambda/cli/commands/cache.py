"""`manylambda cache`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from manylambda.cli.output import as_json

if TYPE_CHECKING:
    import argparse

    from manylambda.render.console import Console

FORMATS: Final = ("text", "json")
EXAMPLES: Final = (
    ("manylambda cache", "what it holds"),
    ("manylambda cache prune --dry-run", "what was not used for 30 days"),
    ("manylambda cache prune --older-than 2w", ""),
)

_MONTH: Final = "30d"
_SECONDS: Final = {"h": 3600, "d": 86_400, "w": 604_800}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options."""
    parser.add_argument("action", nargs="?", choices=("prune",), help="remove what was not used lately")
    parser.add_argument("--older-than", metavar="AGE", help="prune what was not used for 12h, 30d or 4w (30d)")
    parser.add_argument("--all", action="store_true", help="prune all but what was used within the last hour")
    parser.add_argument("--dry-run", action="store_true", help="only say what prune would remove")


def run(options: argparse.Namespace, console: Console) -> tuple[str, int]:
    """Return what is printed, and the exit status."""
    from manylambda.errors import RequestError
    from manylambda.fetch import upkeep
    from manylambda.fetch.cache import Cache
    from manylambda.render import upkeep as render

    cache = Cache.default()
    if options.action is None:
        if options.all or options.older_than or options.dry_run:
            raise RequestError("only `cache prune` removes anything", hint="`manylambda cache prune --dry-run`")
        there = upkeep.held(cache)
        if options.format == "json":
            return as_json(render.document(cache.root, there, None, dry_run=False)), 0
        return render.held(cache.root, there), 0
    if options.all and options.older_than:
        raise RequestError("`--all` and `--older-than` exclude each other", hint="leave one of them out")
    age = upkeep.HOUR if options.all else _seconds(options.older_than or _MONTH)
    result = upkeep.prune(cache, age, dry_run=options.dry_run)
    if options.all and any(one.size for one in result.kept):
        console.info(
            f"{console.styled('note')} what was used within the last hour stays: a build may be at it; "
            f"when none is, the folder itself may be deleted: `{cache.root}`"
        )
    if options.format == "json":
        return as_json(render.document(cache.root, result.kept, result.removed, dry_run=options.dry_run)), 0
    return render.pruned(cache.root, result, dry_run=options.dry_run), 0


def _seconds(text: str) -> float:
    from manylambda.errors import RequestError

    match = re.fullmatch(r"([0-9]{1,5})([hdw])", text.strip())
    if match is None or not int(match[1]):
        raise RequestError(f"`--older-than` is no age: `{text}`", hint="write hours, days or weeks: `12h`, `30d`, `4w`")
    return float(int(match[1]) * _SECONDS[match[2]])
