# /// script
# requires-python = ">=3.11"
# dependencies = ["pip"]
# ///
"""Refresh what can be refreshed of `src/manylambda/data/runtimes.json`, and write it canonically.

Two packages of the public index carry the facts in a form that machines read; they are downloaded and read as
zip files, never imported:

- botocore, the API model: which Python runtimes and architectures exist, and some limits;
- cfn-lint: the lifecycle dates of AWS' runtimes page.

What needs a dump of a real function (libraries, preinstalled distributions, patch levels) is not touched: a new
runtime is reported, and its row is written by hand (docs/development/decisions/0003-runtimes-table.md).

    python tools/update_runtimes.py             write the table anew
    python tools/update_runtimes.py --check     write nothing

Exit status: 0 the table agrees with the packages, or was made to; 1 it does not (`--check`), or a fact needs a
human; 2 a package could not be had or read.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).parents[1] / "src" / "manylambda" / "data" / "runtimes.json"

BOTOCORE_MODEL = "botocore/data/lambda/2015-03-31/service-2.json.gz"
LIFECYCLE = "cfnlint/data/AdditionalSpecs/LmbdRuntimeLifecycle.json"

# Our limit, the shape of the API model that states it, and the key within.
MODEL_LIMITS = {
    "compatible_architectures": ("CompatibleArchitectures", "max"),
    "compatible_runtimes": ("CompatibleRuntimes", "max"),
    "description_characters": ("Description", "max"),
    "handler_characters": ("Handler", "max"),
    "s3_key_characters": ("S3Key", "max"),
}
# Our key of a lifecycle, and cfn-lint's.
DATES = {"deprecated": "deprecated", "block_create": "create-block", "block_update": "update-block"}
ARCHITECTURES = {"arm64", "x86_64"}


class Drift(NamedTuple):
    """A difference between the table and a package."""

    text: str
    needs_human: bool


class Facts(NamedTuple):
    """What the two packages say, and which releases they are."""

    runtimes: frozenset[str]
    architectures: frozenset[str]
    limits: dict[str, int]
    lifecycle: dict[str, dict[str, str]]
    sources: dict[str, str]


def dump(table: dict[str, Any]) -> str:
    """Give the one way to write a table: sorted keys, one fact a line."""
    return json.dumps(table, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def download(folder: Path) -> None:
    """Fetch the newest wheels of both packages."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "botocore", "cfn-lint"]
    subprocess.run(command, check=True)


def read_facts(folder: Path) -> Facts:
    """Read both packages from the wheels in a folder."""
    botocore, cfn_lint = (_wheel(folder, name) for name in ("botocore", "cfn_lint"))
    with zipfile.ZipFile(botocore) as archive:
        shapes = json.loads(gzip.decompress(archive.read(BOTOCORE_MODEL)))["shapes"]
    with zipfile.ZipFile(cfn_lint) as archive:
        lifecycle = json.loads(archive.read(LIFECYCLE))
    return Facts(
        runtimes=frozenset(name for name in shapes["Runtime"]["enum"] if name.startswith("python")),
        architectures=frozenset(shapes["Architecture"]["enum"]),
        limits={limit: shapes[shape][key] for limit, (shape, key) in MODEL_LIMITS.items()},
        lifecycle={name: dates for name, dates in lifecycle.items() if name.startswith("python")},
        sources={
            "botocore": f"{_release(botocore)} {BOTOCORE_MODEL.partition('/')[2]} (the service's API model)",
            "cfn-lint": f"{_release(cfn_lint)} {LIFECYCLE} (lifecycle dates, from AWS' runtimes page)",
        },
    )


def refresh(table: dict[str, Any], facts: Facts) -> list[Drift]:
    """Bring the table up to the facts in place, and tell what differed."""
    rows = {**table["runtimes"], **table["retired"]}
    found = [
        Drift(
            f"{name}: "
            + (
                "botocore has it, the table does not"
                if name in facts.runtimes
                else "the table has it, botocore does not"
            ),
            needs_human=True,
        )
        for name in sorted(facts.runtimes ^ rows.keys(), key=_order)
    ]
    for name in sorted(facts.architectures ^ ARCHITECTURES):
        where = "botocore has it, we do not" if name in facts.architectures else "we have it, botocore does not"
        found.append(Drift(f"architecture {name}: {where}", needs_human=True))

    limits = table["execution_environment"]["limits"]["values"]
    for name, value in sorted(facts.limits.items()):
        if limits[name] != value:
            found.append(Drift(f"limit {name}: {limits[name]} -> {value}", needs_human=False))
            limits[name] = value

    for name in sorted(rows, key=_order):
        lifecycle = table["retired"].get(name) or table["runtimes"][name]["lifecycle"]
        published = facts.lifecycle.get(name)
        if published is None:
            if any(lifecycle[ours] for ours in DATES):
                found.append(Drift(f"{name}: cfn-lint has no lifecycle for it", needs_human=True))
            continue
        for ours, theirs in DATES.items():
            if lifecycle[ours] != published[theirs]:
                found.append(Drift(f"{name} {ours}: {lifecycle[ours]} -> {published[theirs]}", needs_human=False))
                lifecycle[ours] = published[theirs]
        if lifecycle.get("preview"):
            # cfn-lint lists what AWS' page lists, and that page has no previews.
            found.append(Drift(f"{name}: has lifecycle dates and is marked a preview", needs_human=True))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; give the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the table has drifted")
    parser.add_argument("--table", type=Path, default=TABLE, metavar="FILE", help="the table (default: the package's)")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="read these wheels instead of downloading them")
    parser.add_argument("--as-of", type=dt.date.fromisoformat, metavar="DATE", help="default: today, in UTC")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.wheels or Path(temporary)
        try:
            if options.wheels is None:
                download(folder)
            facts = read_facts(folder)
        except (subprocess.CalledProcessError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            print(f"error: the packages could not be read: {error}", file=sys.stderr)
            return 2

    text = options.table.read_text(encoding="utf-8")
    table = json.loads(text)
    drifts = [] if dump(table) == text else [Drift("the file is not written canonically", needs_human=False)]
    drifts += refresh(table, facts)
    for name, source in sorted(facts.sources.items()):
        print(f"read {name}: {source}")
    for drift in drifts:
        print(("by hand: " if drift.needs_human else "drift: ") + drift.text)
    if not drifts:
        print(f"{len(table['runtimes'])} runtimes and {len(table['retired'])} retired ones agree")
    if options.check:
        return 1 if drifts else 0

    # Which releases were read, and when, is no drift; it is told whenever the table is written.
    table["sources"].update(facts.sources)
    table["as_of"] = (options.as_of or dt.datetime.now(dt.UTC).date()).isoformat()
    options.table.write_text(dump(table), encoding="utf-8", newline="\n")
    return 1 if any(drift.needs_human for drift in drifts) else 0


def _wheel(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name}-*.whl"))
    if len(found) != 1:
        raise FileNotFoundError(f"one wheel of `{name}` is expected in `{folder}`, found {len(found)}")
    return found[0]


def _release(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name.replace('_', '-')} {version}"


def _order(runtime: str) -> tuple[int, ...]:
    return tuple(int(part) for part in runtime.removeprefix("python").split("."))


if __name__ == "__main__":
    sys.exit(main())
