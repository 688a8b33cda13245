"""The audit: rules look at a package as Lambda would mount it, and what they find is a report.

`findings` are the values, `subject` is what a rule may look at and the runner, `opening` opens what other tools made
(`packages`, `images`), `distributions` and `natives` read what lies in it.
"""

from __future__ import annotations

from manylambda.audits.distributions import (
    Distribution,
    InstalledDistribution,
    PureFallback,
    normalised,
    read_distributions,
)
from manylambda.audits.findings import PROJECT, Finding, Ignore, Ignored, Report, Severity, stale
from manylambda.audits.making import Making
from manylambda.audits.natives import native_facts
from manylambda.audits.opening import open_package
from manylambda.audits.packages import Package, open_tree
from manylambda.audits.subject import Kind, Rule, Subject, check, run

__all__ = [
    "PROJECT",
    "Distribution",
    "Finding",
    "Ignore",
    "Ignored",
    "InstalledDistribution",
    "Kind",
    "Making",
    "Package",
    "PureFallback",
    "Report",
    "Rule",
    "Severity",
    "Subject",
    "check",
    "native_facts",
    "normalised",
    "open_package",
    "open_tree",
    "read_distributions",
    "run",
    "stale",
]
