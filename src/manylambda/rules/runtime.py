"""The rule about what the runtime has itself: a package may hide it, and the two must fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.audits import PROJECT, Finding, Severity
from manylambda.rules import requirements
from manylambda.rules.python_facts import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.audits import Distribution, Subject
    from manylambda.target import Target
    from manylambda.tree import Entry

# Modules that a careless file name of the project's own hides; `six` is left out, many tools copy it as a file.
_OFTEN_HIDDEN: Final = {"boto3": "boto3", "botocore": "botocore", "dateutil": "python-dateutil", "jmespath": "jmespath",
    "s3transfer": "s3transfer", "simplejson": "simplejson", "urllib3": "urllib3"}  # fmt: skip
_INTERFACE: Final = ("awslambdaric", "runtime_client", "snapshot_restore_py")
# Up to python3.8 the interface to Lambda lies as modules of its own in `/var/runtime`.
_INTERFACE_BEFORE_3_9: Final = (
    "bootstrap", "lambda_runtime_client", "lambda_runtime_exception", "lambda_runtime_marshaller", "runtime_client"
)  # fmt: skip

_BREAKS_WHEN_NEWER: Final = frozenset({"urllib3"})
"""Reported to fail: `DEFAULT_CIPHERS`."""
_BREAKS_WHEN_OLDER: Final = frozenset({"botocore", "s3transfer"})
"""The runtime's boto3 asks them for what older ones lack; newer ones keep what they had. Of other distributions only
the declared ranges differ: python-dateutil 4, say, comes with every pandas, and a function that never asks the runtime
for boto3 need not care."""


def runtime_shadowed(subject: Subject) -> Iterator[Finding]:
    """Find what hides the runtime's own modules: harmless, unless the rest of the runtime does not fit to it."""
    if subject.kind in {"wheel", "image"}:
        return  # a wheel comes alone, an image may bring its own runtime
    yield from _hidden_modules(subject)
    own = {each.name: each for each in subject.distributions}
    yield from _unfit(subject, own)
    bundled = [own[name] for name in ("boto3", "botocore") if name in own and name in subject.target.preinstalled]
    if bundled:
        versions = " and ".join(f"`{each.name}` {each.version}" for each in bundled)
        theirs = " and ".join(dict.fromkeys(subject.target.preinstalled[each.name] for each in bundled))
        yield Finding(
            rule="runtime-shadowed",
            severity=Severity.NOTE,
            path=bundled[0].dist_info,
            distribution=bundled[0].name,
            message=f"{versions} of the package {'is' if len(bundled) == 1 else 'are'} used, not the runtime's "
            f"({theirs} when last seen)",
            hint="AWS advises it; leave the SDK out (`--exclude-provided`) where size matters more than its version",
        )


def _unfit(subject: Subject, own: dict[str, Distribution]) -> Iterator[Finding]:
    """Yield what takes the place of a distribution of the runtime that another one there needs in its own version."""
    target = subject.target
    for name, by_version in facts()["runtime_requirements"].items():
        version = target.preinstalled.get(name)
        if version is None or name in subject.by_name:
            continue
        for text in by_version.get(version, ()):
            needed = requirements.parse(text)
            if needed is None or (each := own.get(needed.name)) is None:
                continue
            if requirements.admits(needed.specifier, each.version) or not requirements.applies(needed.marker, target):
                continue
            yield Finding(
                rule="runtime-shadowed",
                severity=Severity.WARNING if _is_known_to_break(each, target) else Severity.NOTE,
                path=each.dist_info,
                distribution=each.name,
                message=f"{each.version} takes the place of the runtime's, and the runtime's `{name}` ({version} when "
                f"last seen) needs `{needed.text}`",
                hint=f"add `{name}` to the requirements so that both are resolved together, or pin `{needed.text}`",
            )


def _is_known_to_break(each: Distribution, target: Target) -> bool:
    theirs = target.preinstalled.get(each.name)
    if theirs is None or each.name not in _BREAKS_WHEN_NEWER | _BREAKS_WHEN_OLDER:
        return False
    return requirements.admits(f">{theirs}" if each.name in _BREAKS_WHEN_NEWER else f"<{theirs}", each.version)


def _hidden_modules(subject: Subject) -> Iterator[Finding]:
    target = subject.target
    for folder in subject.site_folders(in_layer=subject.kind == "layer"):
        for name in _INTERFACE if target.python >= (3, 9) else _INTERFACE_BEFORE_3_9:
            entry = subject.tree.get(f"{folder}{name}.py") or subject.tree.get(f"{folder}{name}/__init__.py")
            if entry is not None:
                yield _hidden(
                    entry,
                    f"brings `{name}` again, with which the runtime itself works: it is of no use, and mixes with the "
                    "runtime's own where `PYTHONPATH` is set",
                    "leave it out: only container images bring their own",
                )
        for name, distribution in _OFTEN_HIDDEN.items():
            entry = subject.tree.get(f"{folder}{name}.py")
            if entry is not None and entry.origin == PROJECT and distribution in target.preinstalled:
                yield _hidden(
                    entry, f"hides the module `{name}` of the runtime from everything in the function", "rename it"
                )


def _hidden(entry: Entry, message: str, hint: str) -> Finding:
    return Finding(
        rule="runtime-shadowed",
        severity=Severity.WARNING,
        path=entry.path,
        distribution=None if entry.origin == PROJECT else entry.origin,
        message=message,
        hint=hint,
    )
