"""The report of an audit as SARIF 2.1.0, as GitHub code scanning and editors read it.

GitHub wants for each result a rule, a message and the relative path of a file; it tells results of two uploads apart
by `partialFingerprints`, and uploads by `automationDetails.id` up to its last `/`. Nothing of this machine is in the
document: no absolute path, no clock.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from manylambda import rules
from manylambda._version import __version__
from manylambda.audits import PROJECT
from manylambda.rules import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.audits import Finding, Report

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_MOST_RESULTS: Final = 25_000
"""In one run; GitHub refuses a file with more."""
_MOST_LETTERS: Final = 1_000
"""Of a short or full description: GitHub cuts at 1,024."""

_MILD: Final = {
    "cpu-level-too-high": "warning",
    "executable-stack": "warning",
    "library-shadowed": "warning",
    "path-collision": "warning",
    "pure-fallback": "note",
    "runtime-deprecated": "warning",
    "runtime-preview": "note",
    "secret-file": "warning",
    "stdlib-shadowed": "warning",
    "wheel-tag-mismatch": "warning",
    "zip-too-large": "warning",
}
"""Rules whose findings are no errors as a rule; each finding has its own level besides."""


def audit(report: Report, path: Path, *, is_folder: bool = False) -> dict[str, Any]:
    """Return the report of the package at `path` as a SARIF log with one run.

    The package is named relative to the working directory, which in a workflow is the repository; one outside of it by
    its name. In a folder the file itself is the location, of an archive the archive is.
    """
    package = _relative(path)
    names = [rule.name for rule in rules.ALL]
    index = {name: number for number, name in enumerate(names)}
    found: list[tuple[Finding, str | None]] = [(finding, None) for finding in report.findings]
    found += [(ignored.finding, ignored.by.reason or "ignored by the configuration") for ignored in report.ignored]
    prints = _fingerprints([finding for finding, _ in found])
    results = []
    for (finding, reason), fingerprint in zip(found[:_MOST_RESULTS], prints, strict=False):
        result = _result(finding, report, package, is_folder=is_folder)
        result["partialFingerprints"] = {"primaryLocationLineHash": fingerprint}
        if finding.rule in index:
            result["ruleIndex"] = index[finding.rule]
        if reason is not None:
            result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": reason}]
        results.append(result)
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if len(found) > _MOST_RESULTS:
        told = f"{len(found) - _MOST_RESULTS:,} results more are left out: a file may have {_MOST_RESULTS:,}"
        invocation["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": told}}]
    driver = {
        "name": "manylambda",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(name) for name in names],
    }
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                # All before the last `/` is what GitHub keeps apart: packages and targets do not replace one another.
                "automationDetails": {"id": f"manylambda/{report.target}/{package}/"},
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }


def _rule(name: str) -> dict[str, Any]:
    page = pages.page(name)
    body = page.text.partition("\n\n")[2].strip()  # the heading is shown already
    return {
        "id": name,
        "name": "".join(word.capitalize() for word in name.split("-")),
        "shortDescription": {"text": _plain(page.summary)},
        "fullDescription": {"text": _plain(page.what)},
        "help": {"text": body, "markdown": body},
        "defaultConfiguration": {"level": _MILD.get(name, "error")},
        "properties": {"tags": ["aws-lambda", "packaging", "python"], "precision": "very-high"},
    }


def _result(finding: Finding, report: Report, package: str, *, is_folder: bool) -> dict[str, Any]:
    in_folder = is_folder and finding.path is not None and not finding.path.startswith("/")
    uri = package
    if in_folder and finding.path is not None:
        uri = _quoted(finding.path) if package == "." else f"{package}/{_quoted(finding.path)}"
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 1},  # GitHub asks for one, also of a file without lines
        }
    }
    if logical := list(_logical(finding, report)):
        location["logicalLocations"] = logical
    return {
        "ruleId": finding.rule,
        "level": finding.severity.value,
        "message": {"text": _message(finding, report)},
        "locations": [location],
    }


def _message(finding: Finding, report: Report) -> str:
    owner = _owner(finding, report)
    place = finding.path if finding.path and not finding.path.endswith(".dist-info") else None
    named = ", ".join(name for name in (owner, place) if name)
    hint = f". To mend it: {finding.hint}" if finding.hint else ""
    return f"{named}: {finding.message}{hint}" if named else f"{finding.message}{hint}"


def _owner(finding: Finding, report: Report) -> str | None:
    if finding.distribution is None:
        return PROJECT if finding.path is not None else None
    return f"{finding.distribution} {report.versions.get(finding.distribution, '')}".rstrip()


def _logical(finding: Finding, report: Report) -> Iterator[dict[str, str]]:
    if finding.path is not None:
        name = finding.path.rpartition("/")[2]
        yield {"name": name, "fullyQualifiedName": finding.path, "kind": "resource"}
    if finding.distribution is not None:
        yield {
            "name": finding.distribution,
            "fullyQualifiedName": _owner(finding, report) or finding.distribution,
            "kind": "package",
        }


def _fingerprints(found: list[Finding]) -> list[str]:
    """Return what stays the same while a finding does: its rule, its place, and the first thing the message names.

    Versions and figures come and go. Equal ones are numbered, as GitHub does.
    """
    seen: dict[str, int] = {}
    prints = []
    for finding in found:
        path = "" if finding.path is None or finding.path.endswith(".dist-info") else finding.path
        named = re.search("`([^`]*)`", finding.message)
        key = "\0".join((finding.rule, finding.distribution or "", path, named[1] if named else ""))
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        prints.append(f"{digest}:{seen[digest]}")
    return prints


def _relative(path: Path) -> str:
    """Return the relative URI of the package; of one outside the working directory its name."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its name
    try:
        relative = absolute.relative_to(Path.cwd())
    except ValueError:
        relative = Path(absolute.name)
    return _quoted(relative.as_posix()) if relative.parts else "."


def _quoted(path: str) -> str:
    return quote(path, safe="/", errors="surrogatepass")


def _plain(text: str) -> str:
    """Return Markdown's text on one line, no longer than is shown."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_LETTERS else line[: _MOST_LETTERS - 3].rstrip() + "..."
