"""Results as Markdown, for the summary of a job and the comment on a change: GitHub's and GitLab's flavour.

Names of files and distributions come from packages that anybody may have made: none of them ends a cell, opens an
element or becomes a link.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from manylambda.audits import PROJECT, Severity
from manylambda.pipeline.artifact import WrittenImage
from manylambda.render.findings import counted
from manylambda.render.markup import visible
from manylambda.render.table import mebibytes, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manylambda.audits import Finding, Report
    from manylambda.pipeline.artifact import Artifact
    from manylambda.pipeline.build import BuildResult
    from manylambda.pipeline.trial import TrialResult
    from manylambda.target import Target

_ROWS: Final = 50
"""Of a table: GitHub takes 1 MiB of summary from a step, and nobody reads more."""
_LONGEST: Final = 2000
"""Characters of a message."""
_KINDS: Final = {"zip": "zip", "layer": "layer", "dir": "folder", "image": "image"}

# A character reference stands for the character and never for what Markdown makes of it (CommonMark 0.31.2, 2.5). An
# underscore between letters or digits means nothing either; `www.` makes a link, by itself, and `:` one of `http:`.
_MEANINGFUL: Final = re.compile(r"[^\w\s,./()%=+'\"\u2026-]|(?<![^\W_])_|_(?![^\W_])|w(?=ww\.)", re.IGNORECASE)
_CODE: Final = re.compile(r"``\s?(?P<double>.+?)\s?``(?!`)|`(?P<code>[^`]+)`")


def build(result: BuildResult, trials: Mapping[Target, TrialResult] | None = None) -> str:
    """Return a section a package: what it is, its size by distribution, the findings, and its `trials` where any."""
    return "\n\n".join(_artifact(artifact, (trials or {}).get(artifact.target)) for artifact in result.artifacts)


def audit(report: Report, path: str) -> str:
    """Return what was found in the package at `path`, and the verdict."""
    verdict = "will not load as it is" if report.has_errors else "nothing found that keeps it from loading"
    looked_at = (
        f"{counted(report.files, 'file')}, {counted(report.shared_objects, 'shared object')}, "
        f"{readable(report.unzipped_size)} unzipped"
    )
    return "\n\n".join((f"### {_code(path)} on {report.target}", f"**{verdict}** ({looked_at})", *_findings(report)))


def _artifact(artifact: Artifact, trial: TrialResult | None) -> str:
    written = artifact.written
    parts = [f"### {artifact.target}: {_KINDS[artifact.kind]}"]
    if written is None:
        parts.append("**Not written**, because of the errors below.")
    else:
        size = "" if artifact.kind == "dir" else f"{readable(written.size)} packed, "
        place, word, digest = (
            (written.place, "digest", written.digest)
            if isinstance(written, WrittenImage)
            else (artifact.path.name if artifact.path else "", "code&#95;sha256", written.code_sha256)
        )
        held = f"{readable(written.unzipped_size)} unzipped, {counted(written.files, 'file')}"
        parts.append(f"{_code(place)}: {size}{held}<br>{word} {_code(digest)}")
    if artifact.distributions:
        parts.append(_sizes(artifact))
    parts += _findings(artifact.report)
    if trial is not None:
        from manylambda.render.trial import verdict

        parts.append(f"Tried in {_text(trial.trial.engine)}: {_text(verdict(trial.trial))}.")
    return "\n\n".join(parts)


def _sizes(artifact: Artifact) -> str:
    ordered = sorted(artifact.distributions, key=lambda one: (-one.unzipped_size, one.name))
    rows = [
        (
            _code(one.name),
            _text(one.version),
            "compiled" if one.compiled else "pure",
            mebibytes(one.size, 2),
            mebibytes(one.unzipped_size, 2),
        )
        for one in ordered[:_ROWS]
    ]
    if rest := ordered[_ROWS:]:
        total = mebibytes(sum(one.size for one in rest), 2), mebibytes(sum(one.unzipped_size for one in rest), 2)
        rows.append((f"{len(rest)} more", "", "", *total))
    return _table(("distribution", "version", "kind", "wheel", "unzipped"), rows, right={3, 4})


def _findings(report: Report) -> Iterator[str]:
    if report.findings:
        counts = ", ".join(
            counted(number, severity.value) for severity in Severity if (number := report.number_of(severity))
        )
        grouped: dict[tuple[object, ...], list[Finding]] = {}
        for one in report.findings:
            grouped.setdefault((one.rule, one.severity, one.distribution, one.message, one.hint), []).append(one)
        groups = list(grouped.values())
        rows = [_row(group, report) for group in groups[:_ROWS]]
        if rest := sum(map(len, groups[_ROWS:])):
            rows.append((f"{rest} more", "", "", ""))
        yield f"**{counts}**"
        yield _table(("", "rule", "where", "what"), rows)
    if report.ignored:
        yield f"Ignored: {counted(len(report.ignored), 'finding')}."


def _row(group: Sequence[Finding], report: Report) -> tuple[str, ...]:
    one = group[0]
    version = report.versions.get(one.distribution or "", "")
    owner = _text(f"{one.distribution} {version}".rstrip() if one.distribution else PROJECT if one.path else "")
    others = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
    path = f"{'<br>' if owner else ''}{_code(one.path)}{others}" if one.path else ""
    hint = f"<br>hint: {_message(one.hint)}" if one.hint else ""
    return (one.severity.value, _code(one.rule), owner + path, _message(one.message) + hint)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    ends = ["--:" if column in right else ":--" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ends, *rows))


def _code(text: str | None) -> str:
    return f"<code>{_text(text or '')}</code>"


def _message(text: str) -> str:
    """Return one line of text whose literals stand in backticks."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    parts, end = [], 0
    for match in _CODE.finditer(text):
        parts += [_text(text[end : match.start()]), _code(match["double"] or match["code"])]
        end = match.end()
    return "".join(parts) + _text(text[end:])


def _text(text: str) -> str:
    """Return text that is what it says: on one line, and without a meaning in Markdown or HTML."""
    return _MEANINGFUL.sub(lambda match: f"&#{ord(match[0])};", visible(text))
