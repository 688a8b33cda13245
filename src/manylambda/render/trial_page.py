"""A trial as one HTML page: what was imported and invoked, and the import-time tree, drawn and as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda._version import __version__
from manylambda.render import import_times, webpage
from manylambda.render.findings import counted
from manylambda.render.markup import message, path, plain
from manylambda.render.trial import (
    WORDS,
    compact,
    failures,
    not_tried,
    passed,
    report_line,
    rule,
    saving,
    seconds,
    verdict,
)
from manylambda.trial.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.pipeline.trial import Reason, TrialResult
    from manylambda.render.import_times import Row
    from manylambda.render.trial import Group
    from manylambda.trial.model import Failure, Imported, Invocation, Trial
    from manylambda.trial.profile import Profile

_MOST: Final = 500
_MOST_EVENTS: Final = 50
_MOST_NODES: Final = 1500
_DEEPEST: Final = 40
"""Levels of the list: a browser nests no more than 512 elements."""
_OPEN: Final = 0.15
"""Share of the whole at which a level of the list is open to begin with."""
_PACKAGES: Final = 15
_FEW: Final = 15
_SLOWEST: Final = 10
"""Modules shown where there are more than a few; the others are folded."""
_LONGEST: Final = 20_000
_FOOTER: Final = "A trial never replaces the audit: an environment on one's own machine is not the runtime."


def page(result: TrialResult, *, path: str) -> str:
    """Return the page; of `path`, which is what the user named, only the last part is shown."""
    trial, profile = result.trial, result.profile
    name = webpage.named(path)
    sections = [_imports(result)] if trial.imports else []
    sections += [_invocations(result)] if trial.invocations else []
    sections += [_profile(profile)] if profile is not None else []
    first = "imports" if trial.imports else "events" if trial.invocations else "times"
    body = "".join(
        (
            f'<a class="skip" href="#{first}">Skip to the results</a>' if sections else "",
            _header(name, trial, profile),
            "<main>",
            *sections,
            "</main>",
            f"<footer><p>manylambda {plain(__version__)}. {_FOOTER}</p></footer>",
        )
    )
    return webpage.document(f"{name} {_said(trial)} {trial.target}", body, styles=("report.css", "trial.css"))


def _mood(trial: Trial) -> str:
    if trial.has_failed:
        return "error"
    return "warning" if any(one.outcome is Outcome.NOT_TRIED for one in trial.imports) else "good"


def _said(trial: Trial) -> str:
    return {"error": "failed its trial for", "warning": "was not tried in full for", "good": "passed its trial for"}[
        _mood(trial)
    ]


def _header(name: str, trial: Trial, profile: Profile | None) -> str:
    mood = _mood(trial)
    links = ['<a href="#imports">Imports</a>'] if trial.imports else []
    links += ['<a href="#events">Events</a>'] if trial.invocations else []
    links += ['<a href="#times">Import time</a>'] if profile is not None else []
    facts = webpage.pairs("Environment", [("engine", plain(trial.engine)), ("which", plain(trial.label))])
    proof = webpage.sentence(trial.proof.proved), webpage.sentence(trial.proof.open)
    facts += (
        f"<section><h2>A pass here proves</h2><p>{message(proof[0])}.</p></section>"
        f"<section><h2>It leaves open</h2><p>{message(proof[1])}.</p></section>"
    )
    return (
        f'<header class="top {mood}"><div class="bar"><p class="brand">manylambda <span>trial</span></p>'
        f'<nav aria-label="parts of the report">{"".join(links)}</nav></div>'
        f'<div class="verdict">{webpage.icon(mood)}<div>'
        f"<h1><bdi>{plain(name).replace('-', '-<wbr>')}</bdi> <strong>{_said(trial)}</strong> "
        f'<span class="target">{plain(str(trial.target))}</span></h1>'
        f"<p>{webpage.sentence(plain(verdict(trial)))}.</p></div></div>"
        f'<div class="facts told">{facts}</div></header>'
    )


# Imports.


def _imports(result: TrialResult) -> str:
    failed = failures(result)
    cards = "".join(_failed(group) for group in failed[:_MOST])
    if len(failed) > _MOST:
        cards += f"<p>and {len(failed) - _MOST:,} more, which `--format json` lists</p>"
    cards += "".join(_left_out(why, found) for why, found in not_tried(result.trial).items())
    good = passed(result.trial)
    if good:
        total = sum(one.seconds for one in good)
        cards += f'<h3 class="count">{counted(len(good), "module")} imported in {seconds(total)}</h3>' + _passed(good)
    return (
        '<section id="imports" tabindex="-1" aria-labelledby="h-imports"><h2 id="h-imports">Imports</h2>'
        "<p>Modules were imported one after the other in one process; those that failed there again, each in a "
        f"process of its own. The time of a module is without what those before it had imported.</p>{cards}</section>"
    )


def _failed(group: Group) -> str:
    one = group.first
    names = [each.module.name for each in group.imported]
    others = ""
    if len(names) > 1:
        listed = "".join(f"<li>{path(name)}</li>" for name in names[1:_MOST])
        listed += f"<li>and {len(names) - _MOST:,} more</li>" if len(names) > _MOST else ""
        others = (
            f'<details class="where"><summary>{counted(len(names) - 1, "more module")} with the same error'
            f'</summary><ul class="where">{listed}</ul></details>'
        )
    owner = f" of {plain(one.module.distribution)}" if one.module.distribution else ""
    return (
        f'<article class="card error"><h3 class="name">{webpage.icon("error")}'
        f'<span class="severity">{WORDS[one.outcome]}</span> {path(names[0])}'
        f'<span class="small">{owner} after {seconds(one.seconds)}</span></h3>{others}'
        f"{_failure(one.failure)}{_why(group.reason)}{_log(one.log)}</article>"
    )


def _failure(failure: Failure | None) -> str:
    if failure is None:
        return ""
    told = f'<p class="message"><code>{plain(failure.type)}</code> {plain(failure.message, longest=700)}</p>'
    if not failure.traceback.strip():
        return told
    return told + f'<details class="where"><summary>traceback</summary>{_block(failure.traceback)}</details>'


def _why(reason: Reason | None) -> str:
    if reason is None:
        return ""
    cause, tie = reason.cause, reason.tie
    found = "".join(
        f"<li>{webpage.icon(one.severity.value)} <code>{plain(one.rule)}</code> {path(one.path) if one.path else ''} "
        f"{message(one.message)}{webpage.hint(one.hint) if one.hint else ''}</li>"
        for one in tie.findings
    )
    steps = "".join(
        f"<li>{message(step.say)}{f'<br><code>{plain(step.run, longest=2000)}</code>' if step.run else ''}</li>"
        for step in cause.cure
    )
    name = rule(reason)
    more = f'<p class="small">More: <code>manylambda explain {plain(name)}</code></p>' if name else ""
    return (
        f'<p class="message">{message(webpage.sentence(cause.meaning))} {message(webpage.sentence(cause.why))}</p>'
        + (f'<ul class="found">{found}</ul>' if found else "")
        + f'<div class="mend"><h4>Mend</h4><ol>{steps}</ol></div>{more}'
    )


def _log(log: str) -> str:
    return f'<details class="where"><summary>log</summary>{_block(log)}</details>' if log.strip() else ""


def _block(text: str) -> str:
    """Return lines as they are, the last part of what is endless."""
    lines = text[-_LONGEST:].split("\n")
    inside = "\n".join(plain(line.expandtabs(4).rstrip("\r"), longest=2000) for line in lines)
    return f'<pre tabindex="0">{inside}</pre>'


def _left_out(why: str, found: Sequence[Imported]) -> str:
    listed = "".join(f"<li>{path(one.module.name)}</li>" for one in found[:_MOST])
    listed += f"<li>and {len(found) - _MOST:,} more</li>" if len(found) > _MOST else ""
    return (
        f'<article class="card warning"><h3 class="name">{webpage.icon("warning")}'
        f'<span class="severity">not tried</span> {counted(len(found), "module")}</h3>'
        f'<p class="message">{plain(webpage.sentence(why), longest=2000)}. This is no pass.</p>'
        f'<details class="where"><summary>{path(found[0].module.name)}'
        f"{', …' if len(found) > 1 else ''}</summary><ul>{listed}</ul></details></article>"
    )


def _passed(good: Sequence[Imported]) -> str:
    ordered = sorted(good, key=lambda one: one.failure is None)  # what needs a word is not folded
    rows = [
        f'<tr><th scope="row">{path(one.module.name)}</th><td>{plain(one.module.distribution or "the project")}</td>'
        f"<td>{_noted(one)}</td>"
        f'<td class="number" data-value="{one.seconds:.6f}">{import_times.milliseconds(one.seconds)}</td></tr>'
        for one in ordered[:_MOST]
    ]
    if len(good) > _MOST:
        rows.append(f'<tr><td colspan="4">and {len(good) - _MOST:,} more</td></tr>')
    header, figures = ("module", "distribution", "kind", "time"), frozenset({3})
    if len(good) <= _FEW:
        return webpage.table("modules that were imported", header, "".join(rows), numbers=figures)
    rest = webpage.table("faster modules", header, "".join(rows[_SLOWEST:]), numbers=figures)
    return (
        webpage.table("the slowest modules", header, "".join(rows[:_SLOWEST]), numbers=figures)
        + f'<details class="as-table more"><summary>{len(good) - _SLOWEST:,} faster modules</summary>{rest}</details>'
    )


def _noted(one: Imported) -> str:
    kind = "compiled" if one.module.is_native else "pure"
    if one.failure is None:
        return kind
    told = plain(f"{one.failure.type}: {one.failure.message}", longest=300)
    return f"{kind}; {webpage.icon('note')} failed {told}"


# Events.


def _invocations(result: TrialResult) -> str:
    events = result.trial.invocations
    cards = "".join(
        _invocation(number, one, next(iter(result.reasons.get(f"event {number}", ())), None))
        for number, one in enumerate(events[:_MOST_EVENTS], 1)
    )
    if len(events) > _MOST_EVENTS:
        cards += f"<p>and {len(events) - _MOST_EVENTS:,} more, which <code>--format json</code> lists</p>"
    return (
        '<section id="events" tabindex="-1" aria-labelledby="h-events"><h2 id="h-events">Events</h2>'
        f"<p>What the handler made of each event, in turn.</p>{cards}</section>"
    )


def _invocation(number: int, one: Invocation, reason: Reason | None) -> str:
    mood = "good" if one.failure is None else "error"
    said = "returned" if one.failure is None else "failed"
    start = "cold" if one.is_cold else "warm"
    told = _failure(one.failure) if one.failure is not None else _block(compact(one.result, _LONGEST))
    return (
        f'<article class="card {mood}"><h3 class="name">{webpage.icon(mood)}<span class="severity">{said}</span> '
        f'event {number}<span class="small"> {start}</span></h3>{told}'
        f"{_why(reason) if one.failure is not None else ''}"
        f'<p class="report">{plain(report_line(one))}</p>'
        f'<details class="where"><summary>event</summary>{_block(compact(one.event, _LONGEST))}</details>'
        f"{_log(one.log)}</article>"
    )


# Import time.


def _profile(profile: Profile) -> str:
    tree = profile.tree
    rows = import_times.rows(tree, most=_MOST_NODES, deepest=_DEEPEST)
    name = plain(tree.name)
    return (
        '<section id="times" tabindex="-1" aria-labelledby="h-times"><h2 id="h-times">Import time</h2>'
        f"<p>What the import of <code>{name}</code> costs at a cold start: {plain(saving(profile))}.</p>"
        f"{_bars(profile)}"
        f'<section class="picture" tabindex="0" aria-label="import times, drawn">{import_times.picture(tree)}</section>'
        f'<p class="caption" aria-hidden="true"></p>{_legend(profile)}'
        '<h3>By package</h3><p class="small">The time that a package\'s own modules took, without what they import of '
        f"other packages.</p>{_packages(profile)}"
        '<h3 id="tree">The tree</h3><p class="small">Each module stands below the one that imported it first, the '
        f"costliest first: with what it imports, and alone.</p>{_tree(rows, tree.total_seconds)}</section>"
    )


def _bars(profile: Profile) -> str:
    """Draw what bytecode would save."""
    if profile.seconds_with_bytecode is None:
        return ""
    most = max(profile.seconds, profile.seconds_with_bytecode, 1e-9)
    bars = "".join(
        f'<div class="bar-of"><p><b>{import_times.milliseconds(seconds)}</b> {name}</p>'
        f'<svg viewBox="0 0 320 10" height="10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="320" height="10"/>'
        f'<rect class="fill" width="{320 * seconds / most:.1f}" height="10"/></svg></div>'
        for name, seconds in (
            ("as the package is", profile.seconds),
            ("with bytecode in the package", profile.seconds_with_bytecode),
        )
    )
    return f'<div class="bars compared">{bars}</div>'


def _legend(profile: Profile) -> str:
    tones = import_times.tones(profile.tree)
    items = "".join(
        f'<li><span class="swatch tone-{number}"></span> {path(name)}</li>' for name, number in tones.items()
    )
    return f'<ul class="legend">{items}<li><span class="swatch tone-0"></span> all others</li></ul>'


def _packages(profile: Profile) -> str:
    found = import_times.packages(profile.tree)
    total = sum(one.seconds for one in found) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{path(one.name)}</th><td class="number" data-value="{one.modules}">{one.modules:,}</td>'
        f'<td class="number" data-value="{one.seconds:.6f}">{import_times.milliseconds(one.seconds)}</td>'
        f'<td class="number" data-value="{one.seconds:.6f}">{100 * one.seconds / total:.1f} %</td></tr>'
        for one in found[:_PACKAGES]
    )
    if rest := found[_PACKAGES:]:
        spent = sum(one.seconds for one in rest)
        rows += (
            f'<tr><th scope="row">{len(rest):,} more</th>'
            f'<td class="number" data-value="0">{sum(one.modules for one in rest):,}</td>'
            f'<td class="number" data-value="0">{import_times.milliseconds(spent)}</td>'
            f'<td class="number" data-value="0">{100 * spent / total:.1f} %</td></tr>'
        )
    header = ("package", "modules", "own time", "share")
    return webpage.table("import time by package", header, rows, numbers=frozenset({1, 2, 3}))


def _tree(rows: Sequence[Row], whole: float) -> str:
    """Nest the rows, which come depth first: a module that imported others can be folded."""
    parts: list[str] = ['<ul class="tree">']
    hidden: list[int] = []  # of each list that is open
    after = [row.depth for row in rows[1:]] + [0]
    for row, following in zip(rows, after, strict=True):
        time = row.time
        inside = (
            f'<span class="module">{path(time.name)}</span>'
            f'<span class="cost">{import_times.milliseconds(time.total_seconds)}</span>'
            f'<span class="cost own">{import_times.milliseconds(time.self_seconds)}</span>'
        )
        if following > row.depth:
            is_open = row.depth == 0 or time.total_seconds >= _OPEN * whole
            parts.append(f"<li><details{' open' if is_open else ''}><summary>{inside}</summary><ul>")
            hidden.append(row.hidden)
            continue
        below = f"<ul>{_cheaper(row.hidden)}</ul>" if row.hidden else ""
        parts.append(f'<li><p class="leaf">{inside}</p>{below}</li>')
        parts += [f"{_cheaper(hidden.pop())}</ul></details></li>" for _ in range(row.depth - following)]
    return "".join([*parts, "</ul>"])


def _cheaper(number: int) -> str:
    return f'<li class="cheaper">and {number:,} that cost less</li>' if number else ""
