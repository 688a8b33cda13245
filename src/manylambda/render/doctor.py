"""What `manylambda doctor` shows: one screen for people, data for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from manylambda.pipeline.doctor import State
from manylambda.render import upkeep
from manylambda.render.findings import Look
from manylambda.render.table import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manylambda.pipeline.doctor import Check, Diagnosis, Trials
    from manylambda.target import Target
    from manylambda.trial.engines.choice import Prospect

_PLAIN: Final = Look()
_COLORS: Final = {State.WORKS: "good", State.ABSENT: "dim", State.BROKEN: "error"}
_INDENT: Final = " " * 10


def text(found: Diagnosis, look: Look = _PLAIN) -> str:
    """Return one line for each thing, and what is alike in one."""
    lines = [f"manylambda {found.version}, {found.python} ({found.executable}), {found.system}, {found.machine}"]
    sections = (
        ("programs", _checks(_of(found, "programs"), look)),
        ("Pythons of this host", _pythons(_of(found, "pythons"), look)),
        ("what `trial --engine auto` takes", _trials(found.trials, look)),
        ("network", _checks(_of(found, "network"), look)),
        ("cache", [*_checks(_of(found, "cache"), look), *_held(found, look)]),
        ("project", _checks(_of(found, "project"), look)),
    )
    for title, told in sections:
        lines += ["", look.painted(title, "name"), *told]
    return "\n".join(lines)


def _of(found: Diagnosis, group: str) -> list[Check]:
    return [check for check in found.checks if check.group == group]


def _checks(checks: Iterable[Check], look: Look) -> Iterator[str]:
    missing = []
    for check in checks:
        if check.state is State.ABSENT and check.detail is None:
            missing.append(check.name)
            continue
        name = f"{check.name} {check.version}" if check.version else check.name
        told = ", ".join(part for part in (check.path, check.detail) if part)
        hint = f" ({check.hint})" if check.hint else ""
        yield _line(check.state, f"{name}: {told}{hint}" if told else name, look)
    if missing:
        yield _line(State.ABSENT, ", ".join(missing), look)


def _pythons(checks: Iterable[Check], look: Look) -> Iterator[str]:
    missing = []
    for check in checks:
        if check.state is State.ABSENT:
            missing.append(check.name)
        else:
            told = f"{check.version} {check.path}, {check.detail}" if check.path else f"{check.name}: {check.detail}"
            yield _line(check.state, told, look)
    if missing:
        # uv takes several, and names them as we do.
        yield _line(State.ABSENT, f"{', '.join(missing)} (`uv python install {' '.join(missing)}`)", look)


def _trials(trials: Iterable[Trials], look: Look) -> Iterator[str]:
    groups: dict[tuple[State, str], list[Target]] = {}
    for one in trials:
        groups.setdefault(_choice(one), []).append(one.target)
    for (state, told), targets in groups.items():
        machines: dict[str, list[str]] = {}
        for target in targets:
            machines.setdefault(target.architecture.value, []).append("{}.{}".format(*target.python))
        where = "; ".join(f"{machine} {' '.join(pythons)}" for machine, pythons in machines.items())
        yield _line(state, f"{where}: {told}", look)


def _choice(one: Trials) -> tuple[State, str]:
    chosen, ready = one.chosen, one.ready
    if chosen is None:
        return State.ABSENT, "nothing"
    if chosen.wanted is None:
        return State.WORKS, chosen.engine
    fallback = f"; where it cannot, {ready.engine}" if ready else ""
    return State.WORKS, f"{chosen.engine}, which pulls its image first{fallback}"


def _held(found: Diagnosis, look: Look) -> Iterator[str]:
    kinds = [one for one in found.held if one.entries]
    if kinds:
        told = ", ".join(f"{one.kind.name} {readable(one.size)}" for one in kinds)
        yield look.wrapped(f"{_INDENT}{readable(sum(one.size for one in kinds))}: {told}", _INDENT)


def _line(state: State, told: str, look: Look) -> str:
    line = look.wrapped(f"  {state.value:<6}  {told}", _INDENT)
    return line.replace(state.value, look.painted(state.value, _COLORS[state]), 1)


def document(found: Diagnosis) -> dict[str, Any]:
    """Return the document of `manylambda doctor`."""
    return {
        "version": 1,
        "manylambda": found.version,
        "python": found.python,
        "executable": found.executable,
        "system": found.system,
        "machine": found.machine,
        "checks": [
            {
                "group": check.group,
                "name": check.name,
                "state": check.state.value,
                "version": check.version,
                "path": check.path,
                "detail": check.detail,
                "hint": check.hint,
            }
            for check in found.checks
        ],
        "trials": [
            {
                "target": str(one.target),
                "engine": one.chosen.engine if one.chosen else None,
                "engines": [_engine(prospect) for prospect in one.prospects],
            }
            for one in found.trials
        ],
        "cache": {
            "folder": str(found.cache),
            "size": sum(one.size for one in found.held),
            "kinds": upkeep.kinds(found.held),
        },
    }


def _engine(one: Prospect) -> dict[str, Any]:
    if one.unusable is not None:
        state, detail, hint = "unusable", one.unusable.reason, one.unusable.hint
    elif one.wanted is not None:
        state, detail, hint = "pulls", one.wanted, None
    else:
        state, detail, hint = "ready", one.label, None
    return {"engine": one.engine, "state": state, "detail": detail, "hint": hint}
