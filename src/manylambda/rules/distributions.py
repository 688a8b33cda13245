"""Rules about distributions: those that are needed must be there, in versions that fit, and made for the target."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manylambda.audits import Finding, InstalledDistribution, Severity
from manylambda.rules import requirements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.audits import Distribution, Subject
    from manylambda.rules.requirements import Needed


def wheel_tag_mismatch(subject: Subject) -> Iterator[Finding]:
    """Find distributions whose wheel was not tagged for the target."""
    target = subject.target
    with_natives: frozenset[str] | None = None
    for each in subject.distributions:
        if not each.tags or target.rank(each.tags) is not None:
            continue
        if with_natives is None:
            with_natives = frozenset(filter(None, (subject.distribution_of(path) for path in subject.natives)))
        shown = each.tags[0] if len(each.tags) == 1 else f"{each.tags[0]} and {len(each.tags) - 1} more"
        hint: str | None = f"install the wheel for the target: `manylambda build -t {target}` does"
        if _fits_the_image(each, subject):
            continue
        if _fits_but_for_platform(each, subject):
            # The tag is a promise; what its binaries truly need was read, and other rules told it.
            severity, what = Severity.WARNING, "which promises no C library that the runtime has"
            if is_of_one_machine(each, subject):
                hint = (
                    "nothing, where its name said more than that (lightgbm's does); what its files need was read, "
                    "and is told where the runtime lacks it"
                )
        elif each.name in with_natives:
            severity, what = Severity.WARNING, f"which is not for {target}"
        else:
            severity, what = Severity.ERROR, f"which is not for {target}"
        yield _finding(
            "wheel-tag-mismatch", severity, each, f"was installed from a wheel tagged `{shown}`, {what}", hint
        )


def _fits_but_for_platform(each: Distribution, subject: Subject) -> bool:
    """Whether only the level of the C library keeps a wheel from being the target's."""
    return any(True for _ in _platforms(each, subject))


def is_of_one_machine(distribution: Distribution, subject: Subject) -> bool:
    """Whether a wheel fits but that it is tagged `linux_x86_64`: compiled for one machine, or called by a better name.

    Installers go by the name of a file, and that is lost; lightgbm 4.6.0 for one is called `manylinux_2_28_x86_64`.
    """
    return any(platform.startswith("linux") for platform in _platforms(distribution, subject))


def _fits_the_image(each: Distribution, subject: Subject) -> bool:
    """Whether a wheel promises a C library that the image itself has."""
    if subject.system is None:
        return False
    levels = (re.match(r"manylinux_(\d+)_(\d+)_", platform) for platform in _platforms(each, subject))
    return any(found and (int(found[1]), int(found[2])) <= subject.system.glibc for found in levels)


def _platforms(each: Distribution, subject: Subject) -> Iterator[str]:
    """Yield the platforms of those tags of a wheel of which only the level of the C library may not be the target's."""
    machine = subject.target.machine
    known = {tag.rpartition("-")[0] for tag in subject.target.tag_ranks()}
    for tag in each.tags:
        prefix, _, platform = tag.rpartition("-")
        if prefix in known and platform.endswith(machine) and platform.startswith(("manylinux", "linux")):
            yield platform


def requires_python(subject: Subject) -> Iterator[Finding]:
    """Find distributions that do not support the target's Python."""
    target = subject.target
    for each in subject.distributions:
        if each.requires_python and not requirements.admits(each.requires_python, target.python_full_version):
            yield _finding(
                "requires-python",
                Severity.ERROR,
                each,
                f"{each.version} needs Python {each.requires_python}, the runtime has {target.python_full_version}",
                f"resolve for the target: `manylambda lock -t {target}` does",
            )


def distribution_missing(subject: Subject) -> Iterator[Finding]:
    """Find requirements of installed distributions that nothing in the package, its layers or the runtime satisfies."""
    if subject.kind == "wheel":
        return  # comes alone
    for each in subject.distributions:
        if isinstance(each, InstalledDistribution) and each.is_cut:
            yield _finding(
                "distribution-missing",
                Severity.WARNING,
                each,
                "has metadata too long to be read to its end: what else it needs is not judged",
                "install it again: no honest distribution has so many requirements",
            )
    for each, needed in _unsatisfied(subject):
        if needed.name not in subject.by_name and needed.name not in subject.target.preinstalled:
            yield _finding(
                "distribution-missing",
                Severity.WARNING if subject.kind == "layer" else Severity.ERROR,
                each,
                f"needs `{needed.text}`, which is not in the package",
                "add it to the requirements; if it is left out on purpose, ignore this rule for it",
            )


def distribution_conflict(subject: Subject) -> Iterator[Finding]:
    """Find distributions that are there twice, or in a version that another one does not accept."""
    seen: dict[str, Distribution] = {}
    for each in subject.distributions:
        first = seen.setdefault(each.name, each)
        if first is not each and first.version != each.version:
            yield _finding(
                "distribution-conflict",
                Severity.ERROR,
                each,
                f"is there twice, as {first.version} and {each.version}: the files of both are mixed",
                "install into an empty folder",
            )
    for each, needed in _unsatisfied(subject):
        present = subject.by_name.get(needed.name)
        if present is not None:
            yield _finding(
                "distribution-conflict",
                Severity.ERROR,
                each,
                f"needs `{needed.text}`, the package has {present.version}",
                f"resolve all requirements together: `manylambda lock -t {subject.target}` does",
            )
        elif (version := subject.target.preinstalled.get(needed.name)) is not None:
            yield _finding(
                "distribution-conflict",
                Severity.WARNING,
                each,
                f"needs `{needed.text}`, the package has none and the runtime had {version} when last seen",
                f"add `{needed.name}` to the package: the runtime's copy changes without notice",
            )


def pure_fallback(subject: Subject) -> Iterator[Finding]:
    """Tell where a wheel is pure although it need not be: none that is compiled fits, or a build went on without."""
    for each in subject.pure_fallbacks:
        systems = ", ".join(each.compiled_for)
        if each.sources or each.reason:
            severity = Severity.WARNING
            why = f": {each.reason}" if each.reason else ""
            files = ", ".join(f"`{source}`" for source in each.sources)
            message = (
                f"`{each.file}` was built from source without its compiled part{f' ({files})' if files else ''}{why}"
            )
            hint = (
                "it works, but slower or with less than its compiled part has; `-v` shows what the build said, and "
                "`--sysroot` brings headers and libraries of the target"
            )
        elif each.brings_library:
            severity = Severity.WARNING
            message = (
                f"`{each.file}` is pure Python; the wheels for other systems bring a library or program that this one "
                f"lacks: it may not import (they are for {systems})"
            )
            hint = (
                "take a release with such a wheel for the target, or another runtime; or bring the library in a layer"
            )
        else:
            severity = Severity.NOTE
            message = f"`{each.file}` is pure Python; compiled wheels of this release are for {systems}"
            hint = "it works, but slower; another release may have a compiled wheel for the target"
        yield Finding(
            rule="pure-fallback", severity=severity, distribution=each.distribution, message=message, hint=hint
        )


def _unsatisfied(subject: Subject) -> Iterator[tuple[Distribution, Needed]]:
    """Yield the requirements that hold on the target and are not met, by distribution.

    Whether one is met is asked before whether its marker holds: the first is cheap and nearly always so.
    """
    extras = _requested_extras(subject)
    present = subject.by_name
    preinstalled = subject.target.preinstalled
    for each in subject.distributions:
        for text in each.requires:
            needed = requirements.parse(text)
            if needed is None:
                continue
            there = present.get(needed.name)
            version = there.version if there is not None else preinstalled.get(needed.name)
            if version is not None and requirements.admits(needed.specifier, version):
                continue
            if requirements.applies(needed.marker, subject.target, extras.get(each.name, frozenset())):
                yield each, needed


def _requested_extras(subject: Subject) -> Mapping[str, frozenset[str]]:
    """Return the extras that distributions of the package ask of one another: `redis[hiredis]`."""
    extras: dict[str, frozenset[str]] = {}
    asking = {each.name: wanted for each in subject.distributions if (wanted := _with_extras(each, subject.by_name))}
    # In rounds, each over those that were themselves asked for more in the one before.
    changed = set(asking)
    while changed:
        waiting, changed = sorted(changed), set()
        for name in waiting:
            own = extras.get(name, frozenset())
            for needed in asking[name]:
                known = extras.get(needed.name, frozenset())
                if not known.issuperset(needed.extras) and requirements.applies(needed.marker, subject.target, own):
                    extras[needed.name] = known.union(needed.extras)
                    if needed.name in asking:
                        changed.add(needed.name)
    return extras


def _with_extras(each: Distribution, present: Mapping[str, Distribution]) -> list[Needed]:
    """Return the requirements that ask a distribution of the package for extras."""
    found = (requirements.parse(text) for text in each.requires if "[" in text)
    return [needed for needed in found if needed is not None and needed.extras and needed.name in present]


def _finding(rule: str, severity: Severity, each: Distribution, message: str, hint: str | None) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        path=each.dist_info,
        distribution=each.name,
        message=message,
        hint=hint,
    )
