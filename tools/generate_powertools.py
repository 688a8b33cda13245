"""Write the page of Powertools for AWS Lambda from `tools/powertools.json`: what each extra brings for each target.

python tools/generate_powertools.py            write it
python tools/generate_powertools.py --check    exit 1 when it is not what the facts say
python tools/generate_powertools.py --renew    ask the index for the facts, as `manylambda plan --all-targets --inspect`
                                               does, and write both; takes some minutes
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from generated import head, run, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[1]
FACTS: Final = ROOT / "tools" / "powertools.json"
PAGE: Final = ROOT / "docs" / "guides" / "powertools.md"
NAME: Final = "aws-lambda-powertools"
FIRST: Final = "3.18.0"
"""The release that AWS' page on cross-platform builds speaks of."""
SHOWN: Final = "python3.13-x86_64"
"""The target whose sizes stand for all."""
ADVICE: Final = "https://docs.aws.amazon.com/powertools/python/latest/build_recipes/cross-platform/"


# The facts


def renewed() -> dict[str, Any]:
    """Ask the index."""
    from manylambda.fetch import Cache, Credentials, Download, fetch_all
    from manylambda.locks.index import IndexClient
    from manylambda.locks.settings import read_settings
    from manylambda.progress import SILENT
    from manylambda.wheels.inventory import inspect

    settings = read_settings(ROOT, {})
    with IndexClient(settings, environment={}) as client:
        wheels = {file.version or "": file for file in client.files(NAME) if file.is_wheel and file.yanked is None}
    final = [version for version in wheels if version.replace(".", "").isdigit()]
    releases = {}
    for version in (FIRST, max(final, key=lambda version: tuple(map(int, version.split("."))))):
        file = wheels[version]
        download = Download(url=file.url, filename=file.filename, sha256=file.hashes["sha256"], size=file.size)
        credentials = Credentials.from_settings({}, settings.index_urls)
        found = fetch_all([download], cache=Cache.default(), credentials=credentials, offline=False, progress=SILENT)
        own = inspect(found[download], file.filename)
        releases[version] = {
            "requires_python": own.requires_python,
            "extras": {extra: _extra(version, extra) for extra in ("", *sorted(own.extras))},
        }
    return {"as_of": dt.datetime.now(tz=dt.UTC).date().isoformat(), "releases": releases}


def _extra(version: str, extra: str) -> dict[str, Any]:
    """Plan one extra of one release for every target."""
    import manylambda
    from manylambda.pipeline import dependencies, inspection
    from manylambda.progress import SILENT

    print(f"{NAME}[{extra}]=={version}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{NAME}{f'[{extra}]' if extra else ''}=={version}\n", encoding="utf-8")
        settings = manylambda.load_settings(Path(folder), targets=[SHOWN])
        matrix = manylambda.readiness(settings, inspect=True)
        chosen = dependencies.outcomes(matrix.source, settings.targets, settings, SILENT)
        selections = [one for one in chosen.values() if not isinstance(one, tuple)]
        known = inspection.inspect(selections, matrix.source, settings, SILENT, fetch=True)
    (shown,) = (row for row in matrix.targets if str(row.target) == SHOWN)
    names = {one.name for row in matrix.targets for one in row.distributions if one.compiled}
    return {
        "distributions": {
            one.name: {
                "version": one.version,
                "file": one.file,
                "compiled": one.compiled,
                "languages": list(one.languages) if one.languages is not None else None,
                "natives": list(known.languages.get((one.name, one.version), ())),
                "size": one.size,
                "unzipped_size": one.unzipped_size,
            }
            for one in shown.distributions
        },
        "targets": {
            str(row.target): {
                "blockers": [one.sentence for one in row.obstacles],
                "versions": {  # of what is compiled for some target
                    one.name: [one.version, list(one.languages or ()) if one.compiled else None]
                    for one in row.distributions
                    if one.name in names
                },
            }
            for row in matrix.targets
        },
    }


# What is often said


_Verdict: TypeAlias = "Callable[[Mapping[str, Any]], tuple[str, str]]"
"""From the extras of a release: `so`, `in part` or `not so`, and what shows it, as Markdown."""


class Claim(NamedTuple):
    """A piece of advice, and what decides whether it holds."""

    said: str
    verdict: _Verdict


def _needs_a_build(extra: str, name: str) -> _Verdict:
    """Decide whether an extra brings anything compiled, and whether it is `name`."""

    def verdict(extras: Mapping[str, Any]) -> tuple[str, str]:
        own = extras[extra]["distributions"][name]
        if own["compiled"]:
            return "so", _natives(extras[extra], name)
        if _compiled(extras[extra]):
            return "in part", f"`{own['file']}` is pure; what it needs is not: {_natives(extras[extra])}"
        return "not so", f"`{own['file']}` and all it needs are `none-any`: pure, for any platform"

    return verdict


def _is_pure(extra: str, name: str = "") -> _Verdict:
    """Decide whether an extra brings nothing compiled; it is so in part where `name` itself is not compiled."""

    def verdict(extras: Mapping[str, Any]) -> tuple[str, str]:
        if not _compiled(extras[extra]):
            return "so", "nothing in it is compiled"
        return "in part" if name and name not in _compiled(extras[extra]) else "not so", _natives(extras[extra])

    return verdict


def _is_written_in(extra: str, name: str, language: str) -> _Verdict:
    def verdict(extras: Mapping[str, Any]) -> tuple[str, str]:
        own = extras[extra]["distributions"][name]
        holds = "so" if language in (own["languages"] or ()) else "in part" if own["compiled"] else "not so"
        return holds, _natives(extras[extra], name)

    return verdict


def _is_of_the_core(name: str) -> _Verdict:
    def verdict(extras: Mapping[str, Any]) -> tuple[str, str]:
        core = extras[""]["distributions"]
        having = [f"`[{extra}]`" for extra in extras if extra and name in extras[extra]["distributions"]]
        told = f"without extras there are {_code(sorted(core))}; `{name}` comes with {_listed(having)}"
        return "so" if name in core else "not so", told

    return verdict


CLAIMS: Final = (
    Claim('`[all]` is among the "Safe extras (pure python)", "Safe for any platform"', _is_pure("all")),
    Claim(
        '`[validation]` "requires Linux builds", for "fastjsonschema (C)"',
        _needs_a_build("validation", "fastjsonschema"),
    ),
    Claim('`[redis]` "requires Linux builds", for "redis with hiredis (C)"', _needs_a_build("redis", "redis")),
    Claim(
        '`[kafka-consumer-avro]` "requires Linux builds", for "avro (C)"', _needs_a_build("kafka-consumer-avro", "avro")
    ),
    Claim(
        '`[datamasking]` "requires Linux builds", for "aws-encryption-sdk (C)"',
        _needs_a_build("datamasking", "aws-encryption-sdk"),
    ),
    Claim('`[parser]` "requires Linux builds", for "pydantic (Rust)"', _needs_a_build("parser", "pydantic")),
    Claim(
        '`[kafka-consumer-protobuf]` "requires Linux builds", for "protobuf (C++)"',
        _is_written_in("kafka-consumer-protobuf", "protobuf", "C++"),
    ),
    Claim(
        '`[valkey]` "requires Linux builds", for "valkey-glide (Rust)"',
        _is_written_in("valkey", "valkey-glide", "Rust"),
    ),
    Claim(
        '`[tracer]` has "minimal or no compiled dependencies", "mostly pure Python"', _is_pure("tracer", "aws-xray-sdk")
    ),
    Claim('`[aws-sdk]` is "boto3 (pure Python)"', _is_pure("aws-sdk")),
    Claim('`pydantic` is a "Core dependency"', _is_of_the_core("pydantic")),
)


# The page


def wanted() -> dict[Path, str]:
    """Return the page."""
    return {PAGE: page(json.loads(FACTS.read_text(encoding="utf-8")))}


def page(facts: Mapping[str, Any]) -> str:
    """Return the page from the facts."""
    first, newest = facts["releases"]
    parts = [
        head(__file__, "tools/powertools.json"),
        f"""# Powertools for AWS Lambda

What each extra of [`{NAME}`](https://docs.aws.amazon.com/powertools/python/latest/) brings for each target:
compiled or pure, in which language, how large, and where there is no wheel. Told by
`manylambda plan --all-targets --inspect`, for {first} and for {newest}, the newest on {facts["as_of"]}.

## At a glance

What is **pure** serves every runtime and architecture as it is. For what is compiled, the languages were read from the
binaries. Sizes are unzipped, of everything that is installed, on {SHOWN}; Lambda takes 250 MiB.

""",
        table(["extra", f"{first}", "size", f"{newest}", "size"], _glance(facts["releases"], first, newest)),
        _where(facts["releases"], first, newest),
        _sdk(facts["releases"][newest], newest),
        f"""
## What is often said, and what is so

[AWS' page on cross-platform builds]({ADVICE})
tells which extras are "safe", which "require Linux builds", and in which language their dependencies are written. Its
words, as they stand in the repository of Powertools, held against the wheels of {first}, the release it names, and of
{newest}:

""",
        table(["said", f"{first}", f"{newest}"], _claims(facts["releases"], first, newest)),
        """
Two more of what it says are worth a word. It marks wheels with the tags `linux_x86_64` and `linux_aarch64` as
compatible with Lambda: such a wheel was built on somebody's host and says nothing about the C library it needs, so
PyPI takes none, and manylambda takes one only with `--allow-linux-wheels`, and then reads the binary. And
`pip install --platform manylinux2014_x86_64` sees no wheel of a later tag, such as `manylinux_2_28` or
`manylinux_2_34`, though the runtimes from python3.12 on load them: where a release has no other, pip takes an older
release or none.

## What is compiled

Each compiled distribution of any extra, what it is written in, and which versions the targets get.
""",
    ]
    for version in (first, newest):
        parts += [
            f"\n### {version}\n\n",
            table(["distribution", "written in", "wheels for"], _wheels(facts["releases"][version])),
        ]
    parts.append(f"\n## Extra by extra\n\nOn {SHOWN}; sizes are those of the newer release.\n")
    for extra in dict.fromkeys(extra for release in facts["releases"].values() for extra in release["extras"]):
        parts += _details(extra, facts["releases"])
    parts.append(_LAST)
    return "".join(parts)


def _glance(releases: Mapping[str, Any], *versions: str) -> Iterator[list[str]]:
    for extra in sorted(
        {extra for version in versions for extra in releases[version]["extras"]}, key=lambda one: (one != "", one)
    ):
        cells = [f"`[{extra}]`" if extra else "none"]
        for version in versions:
            found = releases[version]["extras"].get(extra)
            if found is None:
                cells += ["not there", ""]
                continue
            compiled = _compiled(found)
            cells.append("; ".join(f"{name} ({_languages(one)})" for name, one in compiled.items()) or "**pure**")
            cells.append(_mebibytes(sum(one["unzipped_size"] or 0 for one in found["distributions"].values())))
        yield cells


def _where(releases: Mapping[str, Any], *versions: str) -> str:
    """Say on which targets an extra does not resolve, and why."""
    lines = []
    for version in versions:
        extras = releases[version]["extras"]
        told: dict[str, dict[str, list[str]]] = {}
        for extra, found in extras.items():
            for target, row in found["targets"].items():
                for blocker in row["blockers"]:
                    told.setdefault(blocker, {}).setdefault(f"`[{extra}]`" if extra else "none", []).append(target)
        for blocker, by_extra in told.items():
            places = sorted({_targets(targets) for targets in by_extra.values()})
            who = "whatever the extra" if len(by_extra) == len(extras) else _listed(sorted(by_extra))
            lines.append(f"- {version} on {', '.join(places)}, {who}: {blocker}.\n")
    if not lines:
        return "\nEvery extra of both resolves on every target that packages can be built for.\n"
    return "\nEvery extra resolves on every target that packages can be built for, but for these:\n\n" + "".join(lines)


def _sdk(release: Mapping[str, Any], version: str) -> str:
    """Say which extras bring what the runtime has."""
    having = {
        extra: found["distributions"]["botocore"]
        for extra, found in release["extras"].items()
        if "botocore" in found["distributions"]
    }
    if not having:
        return ""
    size = _mebibytes(max(one["unzipped_size"] or 0 for one in having.values()))
    extras = _listed([f"`[{extra}]`" for extra in sorted(having)])
    return (
        f"\nOf {version}, {extras} bring `botocore`, {size} unzipped, which the runtime has: `--exclude-provided` "
        "leaves it out where the version that is there satisfies every need.\n"
    )


def _claims(releases: Mapping[str, Any], *versions: str) -> Iterator[list[str]]:
    for claim in CLAIMS:
        cells = [claim.said]
        for version in versions:
            holds, shown = claim.verdict(releases[version]["extras"])
            cells.append(f"{holds if holds == 'so' else f'**{holds}**'}: {shown}")
        if cells[1] == cells[2]:
            cells[2] = "the same"
        yield cells


def _wheels(release: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield each distribution that is compiled for some target, its languages, and which version each target gets."""
    rows = [
        (name, target, version, languages)
        for found in release["extras"].values()
        for target, row in found["targets"].items()
        for name, (version, languages) in row["versions"].items()
    ]
    for name in sorted({name for name, *_ in rows}):
        got: dict[str, list[str]] = {}
        written: set[str] = set()
        for _, target, version, languages in (row for row in rows if row[0] == name):
            got.setdefault(version if languages is not None else f"{version}, pure", []).append(target)
            written |= set(languages or ())
        told = [f"{version}: {_targets(targets)}" for version, targets in got.items()]
        yield [f"`{name}`", ", ".join(sorted(written)) or "not known", "; ".join(told)]


def _details(extra: str, releases: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n### {f'`[{extra}]`' if extra else 'No extra'}\n\n"
    found = {version: release["extras"][extra] for version, release in releases.items() if extra in release["extras"]}
    if missing := [version for version in releases if version not in found]:
        yield f"{_listed(missing)} does not have it.\n\n"
    every = [each["distributions"] for each in found.values()]
    rows = []
    for name in sorted({name for each in every for name in each}):
        newest = [each[name] for each in every if name in each][-1]
        rows.append(
            [
                f"`{name}`",
                *(each[name]["version"] if name in each else "" for each in every),
                _languages(newest) if newest["compiled"] else "pure",
                _mebibytes(newest["size"] or 0),
                _mebibytes(newest["unzipped_size"] or 0),
            ]
        )
    yield table(["distribution", *found, "", "wheel", "unzipped"], rows)


_LAST: Final = f"""
## Your own project

The same command answers the same questions for it:

<!-- in: powertools -->
<!-- file: requirements.txt
{NAME}[parser]=={FIRST}
-->
<!-- output: example -->
```console
$ manylambda plan . --all-targets --inspect
```

A build takes the wheels of the target by itself, on any host: no `--platform`, no container.
`python tools/generate_powertools.py --renew` writes this page anew from what the index has.
"""


# Words


def _compiled(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in sorted(found["distributions"].items()) if one["compiled"]}


def _natives(found: Mapping[str, Any], *names: str) -> str:
    """Name the native files of what is compiled, and their language: the proof."""
    told = []
    for name, one in _compiled(found).items():
        if names and name not in names:
            continue
        files = one["natives"]
        first = next(iter(files), None)
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        told.append(f"`{name}` is {_languages(one)}" + (f" (`{first}`{more})" if first else ""))
    return _listed(told)


def _languages(one: Mapping[str, Any]) -> str:
    return ", ".join(one["languages"] or ()) or "language not known"


def _code(names: Sequence[str]) -> str:
    return _listed([f"`{name}`" for name in names])


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _targets(targets: Sequence[str]) -> str:
    """Name targets, a runtime alone where both of its architectures are meant, runs of runtimes by their ends."""
    by_runtime: dict[str, set[str]] = {}
    for target in targets:
        runtime, _, architecture = target.partition("-")
        by_runtime.setdefault(runtime, set()).add(architecture)
    whole = sorted((runtime for runtime, found in by_runtime.items() if len(found) == 2), key=_minor)
    runs: list[list[str]] = []
    for runtime in whole:
        if runs and _minor(runtime) == _minor(runs[-1][-1]) + 1:
            runs[-1].append(runtime)
        else:
            runs.append([runtime])
    told = [one[0] if len(one) == 1 else f"{one[0]} to {one[-1].removeprefix('python')}" for one in runs]
    told += [
        f"{runtime}-{architecture}"
        for runtime, found in by_runtime.items()
        if len(found) == 1
        for architecture in found
    ]
    return ", ".join(told)


def _minor(runtime: str) -> int:
    return int(runtime.partition(".")[2])


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f}\u00a0MiB" if size >= 1 << 17 else f"{size / 1024:.0f}\u00a0KiB"


if __name__ == "__main__":
    if "--renew" in sys.argv[1:]:
        FACTS.write_text(json.dumps(renewed(), indent=1) + "\n", encoding="utf-8", newline="\n")
    raise SystemExit(run(wanted))
