"""Readiness matrices that are looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from browser.subjects import HOSTILE, SCRIPT
from manylambda.errors import Blocker
from manylambda.locks.model import Source, SourceKind
from manylambda.pipeline.obstacles import Obstacle
from manylambda.pipeline.readiness import Change, Readiness, ReadyDistribution, State, TargetReadiness
from manylambda.target import Target, all_targets

NOW: Final = Target.parse("python3.12-x86_64")


def distribution(name: str, version: str = "1.0", *, compiled: bool = False, size: int = 400_000) -> ReadyDistribution:
    return ReadyDistribution(
        name=name,
        version=version,
        file=f"{name}-{version}-{'cp312-cp312-manylinux_2_17_x86_64' if compiled else 'py3-none-any'}.whl",
        compiled=compiled,
        size=size,
        unzipped_size=3 * size,
        languages=("C", "Rust") if compiled else None,
        is_fallback=False,
    )


def obstacle(
    name: str = "numpy", *, runs: str | None = "2.5.5", fact: str = "has no wheel for CPython 3.14"
) -> Obstacle:
    blocker = Blocker(name, "==2.3.0", fact, runs=runs, has_source=True)
    told = f"`{name}` 2.3.0 {fact}; {f'{runs} runs there' if runs else 'no release runs there'}"
    return Obstacle(sentence=told, blocker=blocker, hint=f"`--allow-sdist {name}` builds it from source")


def row(target: Target, state: State = State.READY, *, many: int = 12) -> TargetReadiness:
    found = [distribution(f"pure-{number}") for number in range(many)]
    found += [distribution("native", compiled=True, size=9_000_000), replace(distribution("wrapt"), is_fallback=True)]
    return TargetReadiness(
        target=target,
        state=state,
        distributions=tuple(sorted(found, key=lambda one: one.name)) if state is not State.BLOCKED else (),
        obstacles=(obstacle(), obstacle("orjson", runs=None)) if state is State.BLOCKED else (),
        lock_obstacles=(obstacle("lxml"),) if state is State.RELOCK else (),
        changes=(Change(name="native", version="1.0", reference="1.1", why="requires Python `>=3.12`"),)
        if target.python < (3, 12)
        else (),
    )


def matrix(rows: list[TargetReadiness], project: str = "api") -> Readiness:
    source = Source(kind=SourceKind.UV, project=Path("/", project), files=(Path("/", project, "uv.lock"),))
    return Readiness(source=source, named=(NOW,), reference=NOW, targets=tuple(rows))


def targets() -> list[Target]:
    return [target for target in all_targets() if target.can_build]


def ready() -> Readiness:
    return matrix([row(target) for target in targets()])


def mixed() -> Readiness:
    """Return one with every state, a package over the limit, and a target whose sizes are not known."""
    states = {(3, 14): State.BLOCKED, (3, 15): State.BLOCKED, (3, 13): State.RELOCK}
    rows = {target: row(target, states.get(target.python, State.READY)) for target in targets()}
    large = Target.parse("python3.10-arm64")
    rows[large] = replace(rows[large], distributions=(distribution("torch", compiled=True, size=300_000_000),))
    unknown = Target.parse("python3.11-arm64")
    rows[unknown] = replace(
        rows[unknown], distributions=tuple(replace(one, unzipped_size=None) for one in rows[unknown].distributions)
    )
    return matrix(list(rows.values()), "an-api-with-a-rather-long-name-of-its-own")


def hostile() -> Readiness:
    """Return one whose every name wants to become markup."""
    evil = Obstacle(sentence=f"`{HOSTILE}` {SCRIPT} has no wheel", blocker=None, hint=f"{SCRIPT} `{HOSTILE}`")
    named = obstacle(f"{SCRIPT}{HOSTILE}", runs=HOSTILE, fact=SCRIPT)
    rows = [replace(row(target, State.BLOCKED), obstacles=(evil, named)) for target in targets()[:6]]
    for target in targets()[6:]:
        found = (distribution(HOSTILE, SCRIPT), distribution(f"x{SCRIPT}", HOSTILE, compiled=True))
        change = Change(name=HOSTILE, version=SCRIPT, reference=HOSTILE, why=SCRIPT)
        rows.append(replace(row(target), distributions=found, changes=(change,), lock_obstacles=(evil,)))
    return matrix(rows, HOSTILE.replace("/", ""))
