"""What an audit says: findings and the report they make. How a report looks is told elsewhere."""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROJECT: Final = "project"
"""The origin of files that no distribution brought."""


class Severity(Enum):
    """How much a finding matters; the order is that of a report."""

    ERROR = "error"
    """The package, or a part of it that is there to be loaded, does not load."""
    WARNING = "warning"
    """It loads, but perhaps not as meant, or not everywhere."""
    NOTE = "note"
    """Good to know."""


class Finding(NamedTuple):
    """What one rule has to say about one thing."""

    rule: str
    severity: Severity
    message: str
    path: str | None = None
    """Inside the package; of a layer's file the absolute path, `/opt/...`."""
    distribution: str | None = None
    """The normalised name of the distribution it belongs to."""
    hint: str | None = None
    """What to do about it."""

    def to_json(self) -> dict[str, str | None]:
        """Return the finding as the documents of `build` and `audit` show it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "distribution": self.distribution,
            "message": self.message,
            "hint": self.hint,
        }


class Ignore(NamedTuple):
    """What a user does not want to hear of, and why: `--ignore RULE[:GLOB]`, or a line of `[tool.manylambda.audit]`."""

    rule: str
    glob: str | None = None
    """Matched, with case, against the finding's path, and against its distribution however its name is spelt; `project`
    is what no distribution brought. None is every finding of the rule."""
    reason: str | None = None

    def __str__(self) -> str:
        return self.rule if self.glob is None else f"{self.rule}:{self.glob}"

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is to be ignored."""
        if finding.rule != self.rule:
            return False
        if self.glob is None:
            return True
        if finding.path is not None and fnmatchcase(finding.path, self.glob):
            return True
        return fnmatchcase(finding.distribution or PROJECT, re.sub("[-_.]+", "-", self.glob).lower())


class Ignored(NamedTuple):
    """A finding that does not count, and the words of whoever decided so."""

    finding: Finding
    by: Ignore

    def to_json(self) -> dict[str, str | None]:
        """Return the finding with the reason why it does not count."""
        return {**self.finding.to_json(), "reason": self.by.reason}


class Report(NamedTuple):
    """All findings about a package, worst first, and what was looked at."""

    target: str
    findings: tuple[Finding, ...]
    shared_objects: int
    """ELF files that the loader could be given."""
    files: int
    unzipped_size: int
    """Bytes, layers included: what Lambda counts."""
    ignored: tuple[Ignored, ...] = ()
    """What was found and does not count."""
    versions: Mapping[str, str] = MappingProxyType({})
    """Of the distributions that findings name, by normalised name."""
    image_glibc: str | None = None
    """The version of the glibc of an image whose own libraries judged; None where the table of the runtime did."""

    def number_of(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        """Whether the package will not load as it is."""
        return self.number_of(Severity.ERROR) > 0

    def fails(self, threshold: Literal["error", "warning"]) -> bool:
        """Whether a finding is at or over `threshold`."""
        return self.has_errors or (threshold == "warning" and self.number_of(Severity.WARNING) > 0)

    def to_json(self, path: str) -> dict[str, Any]:
        """Return the document of `manylambda audit --format json`; `path` is what the user named."""
        return {
            "version": 1,
            "target": self.target,
            "path": path,
            "findings": [finding.to_json() for finding in self.findings],
            "ignored": [ignored.to_json() for ignored in self.ignored],
            "summary": {
                "errors": self.number_of(Severity.ERROR),
                "warnings": self.number_of(Severity.WARNING),
                "notes": self.number_of(Severity.NOTE),
                "shared_objects": self.shared_objects,
                "files": self.files,
                "unzipped_size": self.unzipped_size,
                **({} if self.image_glibc is None else {"image_glibc": self.image_glibc}),
            },
        }


def stale(ignore: Iterable[Ignore], reports: Iterable[Report]) -> tuple[Ignore, ...]:
    """Return those of `ignore` that cover nothing any of `reports` found: what they are about is gone, or misspelt."""
    found = [ignored.finding for report in reports for ignored in report.ignored]
    return tuple(one for one in ignore if not any(map(one.covers, found)))
