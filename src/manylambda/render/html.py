"""The report of an audit as one HTML page that needs nothing else: no request, no clock, equal bytes for equal input.

The page stands without its script; the script filters, sorts and highlights.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda._version import __version__
from manylambda.audits import PROJECT, Severity
from manylambda.audits.anatomy import anatomy
from manylambda.render import linkage_graph, treemap, webpage
from manylambda.render.findings import counted
from manylambda.render.linkage_graph import WORST_FIRST, mark
from manylambda.render.markup import markdown, message, path, plain
from manylambda.render.table import readable
from manylambda.rules import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.audits import Finding, Report, Subject
    from manylambda.audits.anatomy import Anatomy, Need, Part
    from manylambda.pipeline.audit import Examination

_PATHS: Final = 20
"""Paths shown of one finding before the rest is folded."""
_MOST_PATHS: Final = 500
_MOST_ROWS: Final = 120
_MOST_PICTURES: Final = 12
_MOST_GRAPHS: Final = 40
_MOST_EXPLANATIONS: Final = 20
"""Cards of one rule that have its page; the others lead to the first."""
_WORTH_A_PICTURE: Final = 1 << 20

_ORDER: Final = {severity: number for number, severity in enumerate(Severity)}
_WHOLE: Final = "the package as a whole"
_OWN: Final = "files of the project"


def audit(examination: Examination, *, path: str) -> str:
    """Return the page; of `path`, which is what the user named, only the last part is shown."""
    subject, report = examination.subject, examination.report
    name = webpage.named(path)
    parts = anatomy(subject)
    title = f"{name} {_verdict(report)} {report.target}"
    body = "".join(
        (
            '<a class="skip" href="#findings">Skip to the findings</a>',
            _header(name, subject, report, parts),
            "<main>",
            _findings(report, parts),
            _ignored(report),
            _linkage(parts, report),
            _sizes(parts),
            "</main>",
            f"<footer><p>manylambda {plain(__version__)}. Nothing of the package was run: it was read.</p></footer>",
        )
    )
    return webpage.document(title, body)


def _verdict(report: Report) -> str:
    return "will not load on" if report.has_errors else "will load on"


# What stands at the top.


def _header(name: str, subject: Subject, report: Report, parts: Anatomy) -> str:
    mood = "error" if report.has_errors else "good"
    counts = "".join(
        f'<li class="{severity.value}{"" if report.number_of(severity) else " none"}">'
        f"{webpage.icon(severity.value)}{counted(report.number_of(severity), severity.value)}</li>"
        for severity in Severity
    )
    if report.ignored:
        counts += f'<li class="none"><a href="#ignored">{len(report.ignored):,} ignored</a></li>'
    summary = (
        "Lambda would refuse it, or fail to load a part of it."
        if report.has_errors
        else "Nothing was found that keeps it from loading."
    )
    links = ['<a href="#findings">Findings</a>']
    links += ['<a href="#linkage">Linkage</a>'] if parts.needs else []
    links += ['<a href="#sizes">Sizes</a>']
    return (
        f'<header class="top {mood}"><div class="bar"><p class="brand">manylambda <span>audit</span></p>'
        f'<nav aria-label="parts of the report">{"".join(links)}</nav></div>'
        f'<div class="verdict">{webpage.icon(mood)}<div><h1><bdi>{plain(name).replace("-", "-<wbr>")}</bdi> '
        f'<strong>{_verdict(report)}</strong> <span class="target">{plain(report.target)}</span></h1>'
        f'<p>{summary}</p><ul class="counts">{counts}</ul></div></div>'
        f'<div class="facts">{_package_facts(subject, report, parts)}{_size_facts(subject, report)}'
        f"{_runtime_facts(subject)}</div></header>"
    )


_KINDS: Final = {
    "zip": "zip of a function",
    "layer": "layer",
    "dir": "folder of a function",
    "image": "container image",
    "wheel": "wheel",
}


def _package_facts(subject: Subject, report: Report, parts: Anatomy) -> str:
    distributions = [part for part in parts.parts if part.name != PROJECT]
    compiled = sum(part.native > 0 for part in distributions)
    pairs = [
        ("kind", _KINDS.get(subject.kind, subject.kind)),
        ("distributions", f"{len(distributions):,} ({compiled:,} compiled)"),
        ("files", f"{report.files:,}"),
        ("shared objects", f"{report.shared_objects:,}"),
    ]
    if subject.layers:
        pairs.append(("layers", f"{len(subject.layers)}"))
    if subject.handler:
        pairs.append(("handler", path(subject.handler)))
    if report.image_glibc is not None:
        pairs.append(("judged by", f"its own libraries, glibc {plain(report.image_glibc)}"))
    return webpage.pairs("Package", pairs)


def _size_facts(subject: Subject, report: Report) -> str:
    limits = subject.target.limits
    if subject.kind == "image":
        bars = _bar("unzipped", report.unzipped_size, limits["image_bytes"], "an image may have")
    else:
        bars = _bar("unzipped", report.unzipped_size, limits["unzipped_bytes"], "Lambda takes, layers included")
        if subject.zipped_size is not None:
            bars += _bar("zipped", subject.zipped_size, limits["zip_upload_bytes"], "a direct upload takes")
    return f'<section class="bars"><h2>Size</h2>{bars}</section>'


def _bar(name: str, size: int, limit: int, what: str) -> str:
    most = max(size, limit)
    over = size > limit
    filled, line = 320 * size / most, 320 * limit / most
    share = 100 * size / limit
    percent = f"{share:.2f} %" if 99 < share < 101 else f"{share:,.0f} %"
    past = f'<rect class="over" x="{line:.1f}" width="{filled - line:.1f}" height="10"/>' if over else ""
    return (
        f'<div class="bar-of{" is-over" if over else ""}"><p><b>{readable(size)}</b> {name}'
        f"{' <em>over the limit</em>' if over else ''}</p>"
        f'<svg viewBox="0 0 320 10" height="10" preserveAspectRatio="none" role="img" '
        f'aria-label="{percent} of the limit"><rect class="track" width="320" height="10"/>'
        f'<rect class="fill" width="{min(filled, line):.1f}" height="10"/>{past}'
        f'<rect class="limit" x="{min(line, 318.5):.1f}" width="1.5" height="10"/></svg>'
        f'<p class="small">{percent} of the {limit / (1 << 20):,.0f} MiB that {what}</p></div>'
    )


def _runtime_facts(subject: Subject) -> str:
    target = subject.target
    system = f"Amazon Linux {target.os[2:]}" if target.os.startswith("al2") else target.os
    life: str = target.status
    if target.deprecated and target.status == "supported":
        life += f", until {target.deprecated}"
    note = target.lifecycle_note()
    return webpage.pairs(
        "Runtime",
        [
            ("system", f"{plain(system)}, glibc {target.glibc}"),
            ("python", f"{plain(target.python_full_version)}"),
            ("machine", plain(target.machine)),
            ("status", plain(life if note is None else note)),
        ],
    )


# Findings.


class _Said(NamedTuple):
    """One message, with every path it was said of."""

    message: str
    hint: str | None
    paths: list[str]


class _Card(NamedTuple):
    """What one rule says of one distribution at one severity."""

    rule: str
    severity: Severity
    said: list[_Said]


class _Group(NamedTuple):
    """What is said of one distribution."""

    name: str
    cards: list[_Card]

    def place(self) -> tuple[int, int, str]:
        """Where the group stands in the report: worst first."""
        worst = min(_ORDER[card.severity] for card in self.cards)
        return worst, -sum(len(card.said) for card in self.cards if _ORDER[card.severity] == worst), self.name


def _owner(finding: Finding) -> str:
    if finding.distribution is not None:
        return finding.distribution
    return _WHOLE if finding.path is None else _OWN


def _grouped(findings: Sequence[Finding]) -> list[_Group]:
    """Fold what is said of many files, and put the distribution with the most to mend first."""
    groups: dict[str, dict[tuple[str, Severity], dict[tuple[str, str | None], _Said]]] = {}
    for one in findings:
        cards = groups.setdefault(_owner(one), {})
        card = cards.setdefault((one.rule, one.severity), {})
        said = card.setdefault((one.message, one.hint), _Said(one.message, one.hint, []))
        if one.path is not None:
            said.paths.append(one.path)
    found = [
        _Group(name, [_Card(rule, severity, list(card.values())) for (rule, severity), card in cards.items()])
        for name, cards in groups.items()
    ]
    return sorted(found, key=_Group.place)


def _findings(report: Report, parts: Anatomy) -> str:
    versions = {part.name: part.version for part in parts.parts}
    groups = _grouped(report.findings)
    if not groups:
        inside = f'<p class="empty">{webpage.icon("good")} No rule found anything.</p>'
    else:
        explained: Counter[str] = Counter()
        inside = _toolbar(report)
        inside += "".join(_group(group, versions.get(group.name), parts, explained) for group in groups)
        inside += '<p class="empty" id="nothing" hidden>No finding matches the filter.</p>'
    return (
        '<section id="findings" tabindex="-1" aria-labelledby="h-findings">'
        f'<h2 id="h-findings">Findings</h2>{inside}</section>'
    )


def _toolbar(report: Report) -> str:
    switches = "".join(
        f'<label class="switch {severity.value}">'
        f'<input type="checkbox" value="{severity.value}" checked>'
        f"{webpage.icon(severity.value)}{counted(report.number_of(severity), severity.value)}</label>"
        for severity in Severity
        if report.number_of(severity)
    )
    rules = sorted({finding.rule for finding in report.findings})
    options = "".join(f'<option value="{plain(rule)}">{plain(rule)}</option>' for rule in rules)
    return (
        '<search id="filter" aria-label="filter the findings" hidden>'
        '<input id="words" type="search" placeholder="Filter by text" aria-label="filter by text" '
        'aria-keyshortcuts="/" autocomplete="off" spellcheck="false">'
        f'<select id="rule" aria-label="filter by rule"><option value="">All rules</option>{options}</select>'
        f'<fieldset><legend class="unseen">severity</legend>{switches}</fieldset>'
        '<p class="keys"><kbd>/</kbd> filter <kbd>j</kbd> <kbd>k</kbd> next, previous <kbd>Enter</kbd> open</p>'
        '<p id="shown" class="unseen" role="status"></p></search>'
    )


def _group(group: _Group, version: str | None, parts: Anatomy, explained: Counter[str]) -> str:
    identifier = webpage.identifier("of", group.name)
    name = webpage.sentence(group.name) if group.name in {_WHOLE, _OWN} else f"<bdi>{plain(group.name)}</bdi>"
    released = f' <span class="version">{plain(version)}</span>' if version else ""
    graph = f' <a class="aside" href="#linkage-{identifier}">linkage</a>' if group.name in parts.needs else ""
    cards = "".join(_card(card, parts, explained) for card in group.cards)
    return (
        f'<section class="group" aria-labelledby="{identifier}">'
        f'<h3 id="{identifier}">{name}{released}{graph}</h3>'
        f"{cards}</section>"
    )


def _card(card: _Card, parts: Anatomy, explained: Counter[str]) -> str:
    hints = {said.hint for said in card.said}
    common = hints.pop() if len(hints) == 1 else None
    shown = card.said[:_MOST_PATHS]
    said = "".join(_said(one, parts, is_hinted=common is None) for one in shown)
    if len(card.said) > len(shown):
        said += f"<li>and {len(card.said) - len(shown):,} more, which `--format json` lists</li>"
    hint, severity = webpage.hint(common) if common else "", card.severity.value
    return (
        f'<article class="card {severity}" data-severity="{severity}" data-rule="{plain(card.rule)}">'
        f'<h4>{webpage.icon(severity)}<span class="severity">{severity}</span> '
        f"<code>{plain(card.rule)}</code></h4>"
        f'<ul class="said">{said}</ul>{hint}{_explanation(card.rule, explained)}</article>'
    )


def _said(one: _Said, parts: Anatomy, *, is_hinted: bool) -> str:
    listed = [f"<li>{path(each)}</li>" for each in one.paths[:_MOST_PATHS]]
    if len(one.paths) > _MOST_PATHS:
        listed.append(f"<li>and {len(one.paths) - _MOST_PATHS:,} more</li>")
    where = ""
    if len(one.paths) == 1:
        where = f'<p class="where">{path(one.paths[0])}</p>'
    elif len(one.paths) <= _PATHS // 4 and one.paths:
        where = f'<ul class="where">{"".join(listed)}</ul>'
    elif one.paths:
        where = (
            f'<details class="where"><summary>{counted(len(one.paths), "file")}: {path(one.paths[0])}, …</summary>'
            f'<ul class="where">{"".join(listed)}</ul></details>'
        )
    chain = parts.chains.get(one.paths[0]) if len(one.paths) == 1 else None
    way, told = "", one.message
    if chain is not None:
        told = told.replace(f" (loaded by {' -> '.join(chain)})", "")
        steps = "".join(f"<li>{path(step)}</li>" for step in chain)
        way = f'<details class="chain"><summary>loaded by {path(chain[0])}</summary><ol>{steps}</ol></details>'
    return (
        f'<li class="finding"><p class="message">{message(webpage.sentence(told))}</p>{where}{way}'
        f"{webpage.hint(one.hint) if is_hinted and one.hint else ''}</li>"
    )


def _explanation(rule: str, explained: Counter[str]) -> str:
    try:
        page = pages.page(rule)
    except KeyError:  # a rule of the caller's own
        return ""
    explained[rule] += 1
    title = "What it means, why, and how to mend it"
    identifier = webpage.identifier("why", rule)
    if explained[rule] > _MOST_EXPLANATIONS:
        return f'<p class="page"><a href="#{identifier}">{title}</a></p>'
    named = f' id="{identifier}"' if explained[rule] == 1 else ""
    texts = (("What", page.what), ("In the log", page.log), ("Why", page.why), ("Mend", page.mend))
    inside = "".join(f"<div><dt>{heading}</dt><dd>{markdown(text)}</dd></div>" for heading, text in texts)
    return f'<details class="page"{named}><summary>{title}</summary><dl>{inside}</dl></details>'


def _ignored(report: Report) -> str:
    if not report.ignored:
        return ""
    rows = "".join(
        f"<tr><td>{plain(one.finding.severity.value)}</td><td><code>{plain(one.finding.rule)}</code></td>"
        f"<td>{path(one.finding.path) if one.finding.path else ''} {message(one.finding.message)}</td>"
        f"<td>{plain(one.by.reason or 'none given')}</td></tr>"
        for one in report.ignored[:_MOST_PATHS]
    )
    more = len(report.ignored) - _MOST_PATHS
    rows += f'<tr><td colspan="4">and {more:,} more</td></tr>' if more > 0 else ""
    return (
        '<section id="ignored" aria-labelledby="h-ignored"><h2 id="h-ignored">Ignored findings</h2>'
        "<p>They were found and do not count, because somebody said so.</p>"
        f"{webpage.table('ignored findings', ('severity', 'rule', 'finding', 'reason'), rows)}</section>"
    )


# Linkage.


def _linkage(parts: Anatomy, report: Report) -> str:
    if not parts.needs:
        return ""
    rank = {name: number for number, name in enumerate(dict.fromkeys(map(_owner, report.findings)))}
    versions = {part.name: part.version for part in parts.parts}

    def worst(name: str) -> tuple[int, ...]:
        needs = parts.needs[name]
        return tuple(-sum(need.end == end for need in needs) for end in WORST_FIRST[:3])

    names = sorted(
        parts.needs, key=lambda name: (*worst(name), rank.get(name, len(rank)), -len(parts.needs[name]), name)
    )
    inside = "".join(
        _graph(name, versions.get(name), parts.needs[name], is_open=number == 0)
        for number, name in enumerate(names[:_MOST_GRAPHS])
    )
    if len(names) > _MOST_GRAPHS:
        inside += f"<p>and {len(names) - _MOST_GRAPHS:,} more distributions with shared objects</p>"
    return (
        '<section id="linkage" aria-labelledby="h-linkage"><h2 id="h-linkage">Linkage</h2>'
        "<p>What the loader would do with the shared objects of each distribution: from the modules that Python "
        "imports, on the left, to the libraries of the runtime, on the right.</p>"
        f"{inside}</section>"
    )


_ENDS: Final = {
    "missing": "missing",
    "unreached": "not reached",
    "shadowed": "shadowed",
    "bundled": "in the package",
    "provided": "of the runtime",
}


def _graph(name: str, version: str | None, needs: Sequence[Need], *, is_open: bool) -> str:
    drawn = linkage_graph.graph(needs)
    title = f"{_title(name)} {version or ''}".strip()
    kinds = [node.kind for node in drawn.nodes]
    lacking = {need.soname for need in needs if need.end == "missing"}
    objects = len({need.needer for need in needs})
    state = (
        f"{mark('missing')} {counted(len(lacking), 'missing library').replace('librarys', 'libraries')}"
        if lacking
        else ""
    )
    for end in ("unreached", "shadowed"):
        if number := sum(need.end == end for need in needs):
            state += f" {mark(end)} {number} {_ENDS[end]}"
    state = state or f"{mark('bundled')} all found"
    identifier = webpage.identifier("of", name)
    label = f"linkage of {title}: {len(drawn.nodes)} nodes, {len(drawn.edges)} needs"
    picture = linkage_graph.svg(drawn, label)
    return (
        f'<details class="graph" name="linkage" id="linkage-{identifier}"{" open" if is_open else ""}>'
        f'<summary><span class="what"><bdi>{plain(title)}</bdi></span> '
        f'<span class="small">{counted(objects, "shared object")}</span><span class="state">{state}</span></summary>'
        f'<section class="picture" tabindex="0" aria-label="{plain(title)}, drawn">{picture}</section>'
        f'<p class="caption" aria-hidden="true"></p>{linkage_graph.legend(kinds)}'
        '<details class="as-table"><summary>The same in full, as a table</summary>'
        f"{_needs_table(title, needs)}</details></details>"
    )


def _title(name: str) -> str:
    return _OWN if name == PROJECT else name


def _needs_table(title: str, needs: Sequence[Need]) -> str:
    """Return a row for each set of shared objects with the same needs, the worst first."""
    ends: dict[str, dict[str, str]] = {}
    for need in needs:
        ends.setdefault(need.needer, {})[need.soname] = need.end
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for needer, each in ends.items():
        alike.setdefault(tuple(sorted(each.items())), []).append(needer)

    def place(row: tuple[tuple[tuple[str, str], ...], list[str]]) -> tuple[int, str]:
        return min(WORST_FIRST.index(end) for _, end in row[0]), row[1][0]

    rows = sorted(alike.items(), key=place)
    cells = "".join(
        f"<tr><td>{_some(needers)}</td><td>"
        + "".join(
            f'<p class="{end}">{mark("bundled" if end == "bundled" else end)} {_ENDS[end]}: '
            f"{', '.join(path(soname) for soname, its in each if its == end)}</p>"
            for end in WORST_FIRST
            if any(its == end for _, its in each)
        )
        + "</td></tr>"
        for each, needers in rows[:_MOST_ROWS]
    )
    if len(rows) > _MOST_ROWS:
        cells += f'<tr><td colspan="2">and {len(rows) - _MOST_ROWS:,} more</td></tr>'
    return webpage.table(f"linkage of {title}", ("shared object", "needs"), cells)


def _some(names: Sequence[str]) -> str:
    if len(names) == 1:
        return path(names[0])
    listed = "".join(f"<li>{path(name)}</li>" for name in names[:_MOST_ROWS])
    more = f"<li>and {len(names) - _MOST_ROWS:,} more</li>" if len(names) > _MOST_ROWS else ""
    return (
        f"<details><summary>{path(names[0])} and {len(names) - 1:,} more</summary>"
        f'<ul class="where">{listed}{more}</ul></details>'
    )


# Sizes.


def _sizes(parts: Anatomy) -> str:
    pictured = [
        part
        for part in parts.parts[:_MOST_PICTURES]
        if len(part.files) > 1 and (part.size >= _WORTH_A_PICTURE or len(parts.parts) == 1)
    ]
    identifiers = {part.name: f"size-{webpage.identifier('of', part.name)}" for part in pictured}
    titles = {part.name: f"{_title(part.name)} {part.version or ''}".strip() for part in parts.parts}
    picture = treemap.package(parts.parts, titles, {name: f"#{one}" for name, one in identifiers.items()})
    words = (
        ("native", "shared objects"),
        ("python", "Python source"),
        ("bytecode", "bytecode"),
        ("data", "everything else"),
    )
    legend = "".join(f'<li><span class="swatch {style}"></span> {text}</li>' for style, text in words)
    total = sum(part.size for part in parts.parts) or 1
    rows = "".join(_part_row(part, titles[part.name], total) for part in parts.parts[:_MOST_PATHS])
    more = len(parts.parts) - _MOST_PATHS
    rows += f'<tr><td colspan="7">and {more:,} more</td></tr>' if more > 0 else ""
    inner = "".join(_inside(part, titles[part.name], identifiers[part.name]) for part in pictured)
    return (
        '<section id="sizes" aria-labelledby="h-sizes"><h2 id="h-sizes">Sizes</h2>'
        "<p>The area is the size unzipped, which is what Lambda limits.</p>"
        f'<section class="picture" tabindex="0" aria-label="sizes, drawn">{picture}</section>'
        f'<p class="caption" aria-hidden="true"></p><ul class="legend">{legend}</ul>'
        + webpage.table(
            "sizes by distribution",
            ("distribution", "version", "kind", "files", "unzipped", "zipped", "share"),
            rows,
            numbers=frozenset({3, 4, 5, 6}),
        )
        + f'<div class="inner">{inner}</div></section>'
    )


def _part_row(part: Part, title: str, total: int) -> str:
    name = title.removesuffix(f" {part.version}") if part.version else title
    kind = f"compiled, {counted(part.native, 'native file')}" if part.native else "pure"
    zipped = "" if part.zipped_size is None else readable(part.zipped_size)
    return (
        f'<tr><th scope="row"><bdi>{plain(name)}</bdi></th><td>{plain(part.version or "")}</td>'
        f'<td class="kind">{kind}</td>'
        f'<td class="number" data-value="{len(part.files)}">{len(part.files):,}</td>'
        f'<td class="number" data-value="{part.size}">{readable(part.size)}</td>'
        f'<td class="number" data-value="{part.zipped_size or 0}">{zipped}</td>'
        f'<td class="number" data-value="{part.size}">{100 * part.size / total:.1f} %</td></tr>'
    )


def _inside(part: Part, title: str, identifier: str) -> str:
    rows = "".join(
        f"<tr><td>{path(file.path)}</td><td>{file.substance}</td>"
        f'<td class="number" data-value="{file.size}">{readable(file.size)}</td></tr>'
        for file in part.files[:_PATHS]
    )
    header = ("largest files", "kind", "unzipped")
    picture = treemap.part(part)
    table = webpage.table(f"largest files of {title}", header, rows, numbers=frozenset({2}))
    return (
        f'<details class="inside" id="{identifier}"><summary><span class="what"><bdi>{plain(title)}</bdi></span> '
        f'<span class="small">{readable(part.size)}, {counted(len(part.files), "file")}</span></summary>'
        f'<section class="picture" tabindex="0" aria-label="{plain(title)}, sizes drawn">{picture}</section>'
        f'<p class="caption" aria-hidden="true"></p>{table}</details>'
    )
