"""How a trial reads: one screen of text for people, and the document of `--format json`."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.render import import_times
from manylambda.render.findings import Look, counted
from manylambda.trial.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.pipeline.trial import Reason, TrialResult
    from manylambda.trial.model import Failure, Imported, Invocation, Trial
    from manylambda.trial.profile import Profile

_PLAIN: Final = Look()
_SCREEN: Final = 30
"""Lines about failures unless `-v`; the first is always told."""
_NAMES: Final = 6
_EVENTS: Final = 4
_FRAMES: Final = 2
_LOG: Final = 4
_ROWS: Final = 25
_DEEPEST: Final = 40
"""Levels that are indented: deeper ones stand below each other."""
_FRAME: Final = re.compile(r'\s*File "')
_MACHINERY: Final = re.compile(r'"<frozen |/importlib/')
"""Frames of the import system, which never are the reason."""
_OWN_FRAME: Final = re.compile(
    r'^\s*File ".*?(?:[/\\]manylambda[/\\](?:trial[/\\]inside[/\\])?(?:probe|first)\.py|<frozen [\w.]+>)", line \d+ in '
)
"""What `faulthandler` tells of our own frames and of the import system."""
_OWN_TYPES: Final = frozenset({"exit", "memory", "processes", "signal", "timeout"})
"""Not of exceptions: the outcome tells as much."""
_LONG: Final = 240
_LONGEST: Final = 4000

FAILURES: Final = frozenset({Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY})
WORDS: Final = {
    Outcome.OK: "imported",
    Outcome.FAILED: "failed",
    Outcome.CRASHED: "crashed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.NOT_TRIED: "not tried",
}
"""Each outcome as a reader is told it."""


class Group(NamedTuple):
    """Modules of which the same is to be said."""

    imported: tuple[Imported, ...]
    reason: Reason | None

    @property
    def first(self) -> Imported:
        """The one that is told in full."""
        return self.imported[0]


def failures(result: TrialResult) -> list[Group]:
    """Return the modules that failed, those with one error together, the error of the most modules first."""
    grouped: dict[tuple[object, ...], list[Imported]] = {}
    for one in result.trial.imports:
        if one.outcome in FAILURES:
            told = (one.failure.type, one.failure.message) if one.failure else ()
            grouped.setdefault((one.outcome, *told), []).append(one)
    groups = [Group(tuple(found), _reason(result, found[0].module.name)) for found in grouped.values()]
    return sorted(groups, key=lambda group: -len(group.imported))


def not_tried(trial: Trial) -> dict[str, list[Imported]]:
    """Return the modules that were not tried, by why."""
    found: dict[str, list[Imported]] = {}
    for one in trial.imports:
        if one.outcome is Outcome.NOT_TRIED:
            why = one.failure.message if one.failure else "the engine cannot load it"
            found.setdefault(why, []).append(one)
    return found


def passed(trial: Trial) -> list[Imported]:
    """Return the modules that were imported, the slowest first."""
    found = (one for one in trial.imports if one.outcome is Outcome.OK)
    return sorted(found, key=lambda one: (-one.seconds, one.module.name))


def verdict(trial: Trial) -> str:
    """Return what came of it: `42 modules imported, 1 failed, 2 not tried`."""
    bad = sum(one.outcome in FAILURES for one in trial.imports)
    left = sum(one.outcome is Outcome.NOT_TRIED for one in trial.imports)
    parts = [f"{counted(len(passed(trial)), 'module')} imported"] if trial.imports else []
    parts += [f"{bad:,} failed"] if bad else []
    parts += [f"{left:,} not tried"] if left else []
    lost = sum(one.failure is not None for one in trial.invocations)
    if answered := len(trial.invocations) - lost:
        parts.append(f"{counted(answered, 'event')} answered")
    parts += [f"{counted(lost, 'event')} failed"] if lost else []
    return ", ".join(parts) or "nothing to try"


def report_line(one: Invocation) -> str:
    """Return times and memory as the log of Lambda reports them."""
    parts = [f"Duration: {one.seconds * 1000:.2f} ms"]
    parts += [f"Init Duration: {one.init_seconds * 1000:.2f} ms"] if one.init_seconds is not None else []
    parts += [f"Max Memory Used: {math.ceil(one.peak_memory / (1 << 20))} MB"] if one.peak_memory is not None else []
    return "  ".join(parts)


def compact(value: object, longest: int) -> str:
    """Return JSON on one line, printable and not longer than `longest` characters."""
    return _cut(_harmless(json.dumps(value, ensure_ascii=False, default=str)), longest)


def frames(failure: Failure, most: int | None = _FRAMES) -> list[str]:
    """Return the last frames of a traceback, without the error that the message already tells; all without `most`."""
    lines = [line for line in failure.traceback.splitlines() if line.strip()]
    if most is None:
        return lines
    found: list[list[str]] = []
    for line in lines:
        if _FRAME.match(line):
            found.append([line.strip()])
        elif found and line.startswith("   ") and set(line) - set(" ^~"):
            found[-1].append(f"  {line.strip()}")
    told = [frame for frame in found if not _MACHINERY.search(frame[0])] or found
    return [line for frame in told[-most:] for line in frame]


def text(result: TrialResult, look: Look = _PLAIN) -> str:
    """Return what was run where, what failed and why, what was left out and, as the last line, the verdict."""
    trial = result.trial
    parts = ["\n".join(_engine(trial, look))]
    if failed := failures(result):
        parts.append("\n".join(_failures(failed, look)))
    if lines := [*_not_tried(trial, look), *_passed(trial, look)]:
        parts.append("\n".join(lines))
    if trial.invocations:
        parts.append("\n".join(_invocations(result, look)))
    if result.profile is not None:
        parts.append("\n".join(_profile(result.profile, look)))
    parts.append(_last(trial, look))
    return "\n\n".join(parts)


def _engine(trial: Trial, look: Look) -> Iterator[str]:
    yield look.wrapped(f"tried in {look.painted(trial.engine, 'name')}: {_line(trial.label)}", "  ")
    yield look.wrapped(f"  a pass proves: {_line(trial.proof.proved)}", "    ")
    yield look.wrapped(f"  it leaves open: {_line(trial.proof.open)}", "    ")


def _last(trial: Trial, look: Look) -> str:
    said = verdict(trial)
    line = look.wrapped(f"{trial.target}: {said} ({trial.engine}, {_line(trial.label)})", "  ")
    is_whole = not any(one.outcome is Outcome.NOT_TRIED for one in trial.imports)
    mood = "error" if trial.has_failed else "good" if is_whole else "warning"
    return line.replace(said, look.painted(said, mood), 1)


def _failures(groups: Sequence[Group], look: Look) -> Iterator[str]:
    height = 0
    for number, group in enumerate(groups):
        lines = list(_failed(group, look))
        height += sum(line.count("\n") + 1 for line in lines)
        if number and height > _SCREEN and not look.verbose:
            left = sum(len(one.imported) for one in groups[number:])
            yield f"and {counted(left, 'more module')} failed, shown with -v"
            return
        yield from lines


def _failed(group: Group, look: Look) -> Iterator[str]:
    one = group.first
    label = WORDS[one.outcome]
    head = f"{label}: {_called(one)} after {seconds(one.seconds)}"
    others = [_line(each.module.name) for each in group.imported[1:]]
    if others:
        head += f", and likewise {_some(others, look)}"
    if one.failure is not None:
        head += f": {_told(one.failure, look)}"
    line = look.wrapped(head, "  ")
    yield look.painted(label, "error") + line.removeprefix(label)
    if one.failure is not None:
        yield from _traceback(one.failure, look)
    if one.log and (look.verbose or one.outcome is not Outcome.FAILED):
        yield from _log(one.log, look)
    yield from _why(group.reason, look)


def _traceback(failure: Failure, look: Look) -> Iterator[str]:
    for line in frames(failure, None if look.verbose else _FRAMES):
        yield look.painted(f"    {_cut(_harmless(line), _LONGEST if look.verbose else _LONG)}", "dim")


def _log(log: str, look: Look) -> Iterator[str]:
    lines = [line for line in log.splitlines() if line.strip() and (look.verbose or not _OWN_FRAME.match(line))]
    shown = lines if look.verbose else lines[-_LOG:]
    for line in shown:
        yield look.painted(f"  | {_cut(_harmless(line), _LONGEST if look.verbose else _LONG)}", "dim")
    if len(shown) < len(lines):
        yield f"  | and {counted(len(lines) - len(shown), 'line')} before, shown with -v"


def _why(reason: Reason | None, look: Look) -> Iterator[str]:
    """Give the cause and what mends it: what the package itself shows, else what mends such a fault anywhere."""
    if reason is None:
        return
    cause, tie = reason.cause, reason.tie
    yield look.wrapped(f"  why: {' '.join(_line(cause.meaning).split())}", "    ")
    if look.verbose:
        yield look.wrapped(f"    {' '.join(_line(cause.why).split())}", "    ")
    found = tie.findings if look.verbose else tie.findings[:1]
    for one in found:
        where = f" {_line(one.path)}:" if one.path else ":"
        label = f"{one.severity.value}[{one.rule}]"
        line = look.wrapped(f"  {label}{where} {_line(one.message)}", "    ")
        yield line.replace(label, look.painted(label, one.severity.value), 1)
    hints = list(dict.fromkeys(one.hint for one in found if one.hint))
    for hint in hints:
        line = look.wrapped(f"  hint: {_line(hint)}", "        ")
        yield line.replace("hint:", look.painted("hint:", "hint"), 1)
    if not hints or look.verbose:
        for step in cause.cure if look.verbose else cause.cure[:1]:
            line = look.wrapped(f"  hint: {_line(step.say)}", "        ")
            yield line.replace("hint:", look.painted("hint:", "hint"), 1)
            if step.run:
                yield f"        {look.painted(_line(step.run), 'hint')}"
    if name := rule(reason):
        yield f"  more: manylambda explain {name}"


def rule(reason: Reason) -> str | None:
    """Return the rule whose page tells more of a reason."""
    return next(iter([*(one.rule for one in reason.tie.findings), *reason.cause.rules]), None)


def _not_tried(trial: Trial, look: Look) -> Iterator[str]:
    for why, found in not_tried(trial).items():
        names = _some([_line(one.module.name) for one in found], look)
        line = look.wrapped(
            f"not tried, which is no pass: {counted(len(found), 'module')} ({names}): {_line(why)}", "  "
        )
        yield line.replace("not tried", look.painted("not tried", "warning"), 1)


def _passed(trial: Trial, look: Look) -> Iterator[str]:
    found = passed(trial)
    if not found:
        return
    total = sum(one.seconds for one in found)
    line = f"imported: {counted(len(found), 'module')} in {seconds(total)}"
    if look.verbose:
        yield line
        yield from (f"  {seconds(one.seconds):>8}  {_called(one)}" for one in found)
    elif len(found) == 1:
        yield f"{line}: {_called(found[0])}"
    else:
        slowest = ", ".join(f"{_line(one.module.name)} {seconds(one.seconds)}" for one in found[:3])
        yield look.wrapped(f"{line}; slowest: {slowest}", "  ")
    for one in found:
        if one.failure is not None:  # alone it works
            line = look.wrapped(f"note: {_line(one.module.name)} failed {_told(one.failure, look)}", "  ")
            yield line.replace("note", look.painted("note", "note"), 1)


def _invocations(result: TrialResult, look: Look) -> Iterator[str]:
    events = result.trial.invocations
    numbers = range(1, len(events) + 1)
    if look.verbose or len(events) <= _EVENTS:
        shown = list(numbers)
    else:  # what failed is what a reader looks for
        ranked = sorted(numbers, key=lambda number: (events[number - 1].failure is None, number))
        shown = sorted(ranked[:_EVENTS])
    for number in shown:
        yield from _invocation(number, events[number - 1], _reason(result, f"event {number}"), look)
    if len(shown) < len(events):
        yield f"and {counted(len(events) - len(shown), 'more event')}, shown with -v"


def _invocation(number: int, one: Invocation, reason: Reason | None, look: Look) -> Iterator[str]:
    longest = _LONGEST if look.verbose else _LONG
    name = f"event {number}"
    if look.verbose:
        name += f" {compact(one.event, longest)}"
    if one.failure is None:
        yield f"{name} {look.painted('returned', 'good')} {compact(one.result, longest)}"
    else:
        yield look.wrapped(f"{name} {look.painted('failed', 'error')}: {_told(one.failure, look)}", "  ")
        yield from _traceback(one.failure, look)
    yield from _log(one.log, look)
    if one.failure is not None:
        yield from _why(reason, look)
    yield f"  REPORT  {report_line(one)}"


def _profile(profile: Profile, look: Look) -> Iterator[str]:
    tree = profile.tree
    yield look.wrapped(f"import time of {_line(tree.name)}: {saving(profile)}", "  ")
    shown = import_times.rows(tree, most=None if look.verbose else _ROWS)
    yield f"{'total ms':>9} {'own ms':>9}  module"
    for row in shown:
        indent = "  " * min(row.depth, _DEEPEST)
        time = row.time
        name = _cut(_line(time.name), _LONG)
        yield f"{time.total_seconds * 1000:>9,.1f} {time.self_seconds * 1000:>9,.1f}  {indent}{name}"
    if left := import_times.size(tree) - len(shown):
        yield f"and {counted(left, 'module')} that cost less, shown with -v"


def saving(profile: Profile) -> str:
    """Return the times of a profile in words."""
    told = f"{profile.seconds * 1000:,.0f} ms"
    if profile.saved is None or profile.seconds_with_bytecode is None:
        return told
    return (
        f"{told}, {profile.seconds_with_bytecode * 1000:,.0f} ms with bytecode in the package: "
        f"it would save {profile.saved * 1000:,.0f} ms"
    )


def _reason(result: TrialResult, name: str) -> Reason | None:
    return next(iter(result.reasons.get(name, ())), None)


def _called(one: Imported) -> str:
    """Return the module, and its distribution where the name does not tell it."""
    name, owner = one.module.name, one.module.distribution
    if owner is None or owner.replace("-", "_").lower() == name.partition(".")[0].lower():
        return _line(name)
    return _line(f"{name} (of {owner})")


def _told(failure: Failure, look: Look) -> str:
    message = " ".join(failure.message.split())
    kind = "" if message and failure.type in _OWN_TYPES else failure.type
    told = _line(": ".join(filter(None, (kind, message))))
    return _cut(told, _LONGEST if look.verbose else _LONG)


def _some(names: Sequence[str], look: Look) -> str:
    shown = names if look.verbose else names[:_NAMES]
    more = [f"{len(names) - len(shown):,} more"] if len(shown) < len(names) else []
    told = [*shown, *more]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def seconds(spent: float) -> str:
    """Return a time in the unit that shows something of it."""
    return f"{spent:.2f} s" if spent >= 0.995 else f"{spent * 1000:.0f} ms"


def _cut(told: str, longest: int) -> str:
    return told if len(told) <= longest else f"{told[: longest - 1]}…"


def _line(told: str) -> str:
    """Return text of unknown origin on one line."""
    return _harmless(" ".join(told.split("\n")))


def _harmless(told: str) -> str:
    """Spell out what a terminal would obey, and what cannot be written: modules print and raise what they like."""
    seen = told.expandtabs(4).replace("\xa0", " ")  # with which the runtime's client indents tracebacks
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in seen
    )


# The document.


def document(result: TrialResult) -> dict[str, Any]:
    """Return the document of `manylambda trial`; `invocation` is the first of `invocations`."""
    trial = result.trial
    events = [
        _invocation_document(one, result.reasons.get(f"event {number}", ()))
        for number, one in enumerate(trial.invocations, 1)
    ]
    return {
        "version": 1,
        "target": str(trial.target),
        "engine": trial.engine,
        "label": trial.label,
        "proves": trial.proof.proved,
        "leaves_open": trial.proof.open,
        "failed": trial.has_failed,
        "imports": [_import_document(one, result.reasons.get(one.module.name, ())) for one in trial.imports],
        "invocation": events[0] if events else None,
        "invocations": events,
        "profile": _profile_document(result.profile) if result.profile is not None else None,
    }


def _import_document(one: Imported, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "module": one.module.name,
        "distribution": one.module.distribution,
        "native": one.module.is_native,
        "ok": one.outcome is Outcome.OK,
        "outcome": one.outcome.value,
        "seconds": round(one.seconds, 6),
        "alone": one.alone,
        **_failure_document(one.failure),
        "log": one.log,
        "reason": _reason_document(reasons),
    }


def _invocation_document(one: Invocation, reasons: Sequence[Reason]) -> dict[str, Any]:
    return {
        "event": _json(one.event),
        "ok": one.failure is None,
        "result": _json(one.result),
        **_failure_document(one.failure),
        "log": one.log,
        "seconds": round(one.seconds, 6),
        "cold": one.is_cold,
        "init_seconds": None if one.init_seconds is None else round(one.init_seconds, 6),
        "peak_memory": one.peak_memory,
        "reason": _reason_document(reasons),
    }


def _failure_document(failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {"error": None, "error_type": None, "traceback": None}
    return {"error": failure.message, "error_type": failure.type, "traceback": failure.traceback}


def _reason_document(reasons: Sequence[Reason]) -> dict[str, Any] | None:
    if not reasons:
        return None
    cause, tie = reasons[0]
    return {
        "cause": cause.id,
        "rules": list(cause.rules),
        "meaning": cause.meaning,
        "why": cause.why,
        "cure": [{"say": step.say, "run": step.run} for step in cause.cure],
        "findings": [one.to_json() for one in tie.findings],
    }


def _json(value: object) -> object:
    """Return a value as JSON has it: what Python prints as `NaN` is no JSON, and becomes a string."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def _profile_document(profile: Profile) -> dict[str, Any]:
    """Return the tree as a list, as no reader of JSON takes any depth."""
    return {
        "module": profile.tree.name,
        "seconds": round(profile.seconds, 6),
        "seconds_with_bytecode": None
        if profile.seconds_with_bytecode is None
        else round(profile.seconds_with_bytecode, 6),
        "saved": None if profile.saved is None else round(profile.saved, 6),
        "modules": [
            {
                "module": row.time.name,
                "parent": row.parent,
                "total_seconds": round(row.time.total_seconds, 6),
                "self_seconds": round(row.time.self_seconds, 6),
            }
            for row in import_times.rows(profile.tree)
        ],
    }
