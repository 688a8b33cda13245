"""Findings as text for people: one block for what one rule says of one distribution, worst first, on one screen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.audits import PROJECT, Severity
from manylambda.render.console import COLORS, RESET, harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manylambda.audits import Finding, Ignored, Report

_SCREEN: Final = 40
"""Lines of findings shown unless `-v`."""
_PATHS: Final = 3
_RULES: Final = 4


_ORDER: Final = {severity: number for number, severity in enumerate(Severity)}
_PLURALS: Final = {"is": "are", "has": "have", "was": "were", "does": "do"}
_NO_VERBS: Final = frozenset({"this", "its", "files", "wheels", "modules", "others"})


class Look(NamedTuple):
    """How text is to look where it is going."""

    verbose: bool = False
    """Whether all is told, however long."""
    color: bool = False
    width: int | None = None
    """Of the terminal, to wrap at; None in a pipe, where a line stays a line."""

    def painted(self, text: str, color: str) -> str:
        """Return `text` in one of our colours, where colours are wanted."""
        return f"{COLORS[color]}{text}{RESET}" if self.color else text

    def wrapped(self, text: str, indent: str) -> str:
        """Return a line, its continuations after `indent`."""
        if self.width is None or len(text) <= self.width:
            return text
        import textwrap

        return "\n".join(
            textwrap.wrap(
                text,
                max(self.width, 40),
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


class _Block(NamedTuple):
    """What one rule says of one distribution."""

    rule: str
    severity: Severity
    distribution: str | None
    findings: tuple[Finding, ...]

    @property
    def sayings(self) -> dict[str, list[Finding]]:
        """The findings by what they say."""
        said: dict[str, list[Finding]] = {}
        for finding in self.findings:
            said.setdefault(harmless(finding.message), []).append(finding)
        return said


def findings(report: Report, look: Look) -> str:
    """Return the findings of a report, grouped by distribution; empty where there are none.

    What does not fit a screen is shortened step by step, unless `look.verbose`: first what repeats a rule is said in
    one line, then the mildest findings are only counted.
    """
    blocks = _blocks(report.findings)
    parts = _parts(blocks, report, look, shorten=False)
    if look.verbose or _height(parts) <= _SCREEN:
        return "\n".join(parts)
    parts = _parts(blocks, report, look, shorten=True)
    if _height(parts) < _SCREEN:
        return "\n".join([*parts, "all paths and hints are shown with -v"])
    kept: set[int] = set()
    height = 1
    for number in sorted(range(len(blocks)), key=lambda number: _ORDER[blocks[number].severity]):
        height += _height(parts[number : number + 1])
        if height > _SCREEN:
            break
        kept.add(number)
    rest = [block for number, block in enumerate(blocks) if number not in kept]
    return "\n".join([*(parts[number] for number in sorted(kept)), look.wrapped(_rest(rest), "  ")])


def _parts(blocks: Iterable[_Block], report: Report, look: Look, *, shorten: bool) -> list[str]:
    """Return each block as text; to shorten them, only the first of a rule in full."""
    hints: set[str] = set()
    rules: set[tuple[str, Severity]] = set()
    parts = []
    for block in blocks:
        in_full = not shorten or (block.rule, block.severity) not in rules
        rules.add((block.rule, block.severity))
        parts.append("\n".join(_lines(block, report, look, hints, in_full=in_full)))
    return parts


def _height(parts: Iterable[str]) -> int:
    return sum(part.count("\n") + 1 for part in parts)


def afterwards(report: Report, look: Look) -> str:
    """Return what is told after the findings: those that do not count, and where the rules are explained."""
    lines = []
    if report.ignored:
        lines.append(_ignored(report.ignored, look))
    names = list(dict.fromkeys(finding.rule for finding in report.findings))
    if names:
        others = names[1:] if look.verbose else names[1:_RULES]
        more = f" (or {', '.join(others)}{', ...' if len(names) > len(others) + 1 else ''})" if others else ""
        lines.append(look.wrapped(f"more: manylambda explain {names[0]}{more}", "  "))
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """Return the number with its noun, `1 file` or `2 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _blocks(found: Iterable[Finding]) -> list[_Block]:
    """Group findings: the worst distribution first, and the project's own among equals."""
    grouped: dict[tuple[str | None, Severity, str], list[Finding]] = {}
    worst: dict[str | None, int] = {}
    for finding in found:
        grouped.setdefault((finding.distribution, finding.severity, finding.rule), []).append(finding)
        order = _ORDER[finding.severity]
        worst[finding.distribution] = min(order, worst.get(finding.distribution, order))
    blocks = [
        _Block(rule, severity, distribution, tuple(found)) for (distribution, severity, rule), found in grouped.items()
    ]
    blocks.sort(key=lambda one: (worst[one.distribution], one.distribution or "", _ORDER[one.severity], one.rule))
    return blocks


def _lines(block: _Block, report: Report, look: Look, told: set[str], *, in_full: bool) -> Iterator[str]:
    sayings = list(block.sayings.items())
    severity = block.severity.value
    label, name = f"{severity}[{block.rule}]", _name(block, report)
    if len(sayings) == 1:
        text, paths = _one_saying(name, *sayings[0])
    else:
        text = f"{name or PROJECT}: {counted(len(block.findings), 'finding')}"
        paths = [_saying(*saying) for saying in sayings]
    line = look.wrapped(f"{label} {text}" if name else f"{label}: {text}", "  ")
    if look.color:
        rest = line.removeprefix(label)
        line = look.painted(label, severity) + (rest.replace(name, look.painted(name, "name"), 1) if name else rest)
    yield line
    if not in_full:
        return
    shown = paths if look.verbose else paths[:_PATHS]
    yield from (look.wrapped(f"  {path}", "    ") for path in shown)
    if len(shown) < len(paths):
        yield f"  and {len(paths) - len(shown):,} more, shown with -v"
    hints = (found[0].hint for _, found in (sayings if look.verbose else sayings[:_PATHS]))
    for hint in dict.fromkeys(hints):
        if hint and (look.verbose or hint not in told):
            told.add(hint)
            text = look.wrapped(f"  hint: {harmless(hint)}", "        ")
            yield text.replace("hint:", look.painted("hint:", "hint"), 1)


def _name(block: _Block, report: Report) -> str:
    """Return whose the findings are; nothing for those about the package as a whole."""
    if block.distribution is not None:
        version = report.versions.get(block.distribution)
        return harmless(f"{block.distribution} {version}" if version else block.distribution)
    return PROJECT if any(finding.path is not None for finding in block.findings) else ""


def _one_saying(name: str, message: str, found: Sequence[Finding]) -> tuple[str, list[str]]:
    """Return the first line, and the paths below it, where all findings of a block say the same."""
    paths = [path for one in found if (path := _path(one)) is not None]
    before = f"{name}: " if name else ""
    if not _is_predicate(message):
        return before + message, paths
    if not paths:  # the distribution itself is what the message is about
        return (f"{name} {message}" if name else message), []
    if len(paths) == 1:
        return f"{before}{paths[0]} {message}", []
    return f"{before}{counted(len(paths), 'file')} {_plural(message)}", paths


def _saying(message: str, found: Sequence[Finding]) -> str:
    """Return one of several things a block says as one line."""
    first = _path(found[0])
    if first is None:
        return message
    if len(found) == 1:
        return f"{first} {message}" if _is_predicate(message) else f"{first}: {message}"
    said = _plural(message) if _is_predicate(message) else message
    return f"{first} and {len(found) - 1:,} more {said}"


def _path(finding: Finding) -> str | None:
    """Return the path where it tells more than the distribution's name does."""
    if finding.path is None or (
        finding.distribution is not None and finding.path.endswith((".dist-info", ".egg-info"))
    ):
        return None
    return harmless(finding.path)


def _is_predicate(message: str) -> bool:
    """Whether a message continues a sentence that a path begins: `is for x86_64`, `cannot be loaded`."""
    first = message.partition(" ")[0]
    return first in {"cannot", "may"} or (re.fullmatch("[a-z]+s", first) is not None and first not in _NO_VERBS)


def _plural(message: str) -> str:
    """Let a predicate speak of several files."""
    first, space, rest = message.partition(" ")
    if first in {"cannot", "may"}:
        return message
    plural = _PLURALS.get(first)
    if plural is None:
        plural = first[:-2] if first.endswith(("sses", "shes", "ches", "xes")) else first[:-1]
    return plural + space + rest


def _rest(blocks: Sequence[_Block]) -> str:
    """Sum up what does not fit."""
    number = sum(len(block.findings) for block in blocks)
    kinds = dict.fromkeys(Severity, 0)
    for block in blocks:
        kinds[block.severity] += len(block.findings)
    told = ", ".join(counted(count, kind.value) for kind, count in kinds.items() if count)
    owners = len({block.distribution for block in blocks})
    where = f" about {owners} distributions" if owners > 1 else ""
    return f"and {counted(number, 'more finding')}{where}, shown with -v: {told}"


def _ignored(ignored: Sequence[Ignored], look: Look) -> str:
    grouped: dict[tuple[str, str | None], int] = {}
    for one in ignored:
        place = harmless(one.finding.distribution or "") or _path(one.finding)
        told = f"{one.finding.rule} in {place}" if place else one.finding.rule
        grouped[told, one.by.reason] = grouped.get((told, one.by.reason), 0) + 1
    parts = [f"{told} ({reason})" if reason else told for told, reason in grouped]
    shown = parts if look.verbose else parts[:_RULES]
    if len(shown) < len(parts):
        shown = [*shown, f"and {len(parts) - len(shown)} more, shown with -v"]
    return look.wrapped(f"ignored: {counted(len(ignored), 'finding')}: {', '.join(shown)}", "  ")
