"""Why no wheel runs on a target, or why other files than the chosen one were refused, in sentences.

Takes lists of files; asks nobody.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from manylambda.errors import Blocker, NoCompatibleWheel, SourceFile
from manylambda.locks.compatibility import (
    Fit,
    Reason,
    Refusal,
    audience,
    distance,
    is_compiled,
    needed_glibc,
    wheel_fit,
    wheel_refusal,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.version import Version

    from manylambda.locks.index import IndexFile
    from manylambda.target import Target

_SHOWN: Final = 6


def refusal(
    file: IndexFile, target: Target, *, allow_linux: bool = False, hashes: frozenset[str] = frozenset()
) -> Refusal | None:
    """Say why one file of an index is not for the target, or None when it is.

    `hashes` (`sha256:<hex>`), where there are any, are the only ones that may be shipped.
    """
    if not file.is_wheel:
        return Refusal(
            filename=file.filename, reason=Reason.SDIST, sentence="is a source distribution, to be built first"
        )
    if found := wheel_refusal(file.filename, target, allow_linux=allow_linux):
        return found
    if not satisfies_python(file.requires_python, target):
        has = f"the runtime has {target.python_full_version}"
        return Refusal(
            filename=file.filename,
            reason=Reason.REQUIRES_PYTHON,
            sentence=f"requires Python `{file.requires_python}`; {has}",
        )
    if hashes and not any(f"{algorithm}:{digest}" in hashes for algorithm, digest in file.hashes.items()):
        return Refusal(
            filename=file.filename, reason=Reason.HASH, sentence="has a hash that is not among those of the requirement"
        )
    if file.yanked is not None:
        reason = f": {file.yanked}" if file.yanked else ""
        return Refusal(filename=file.filename, reason=Reason.YANKED, sentence=f"was yanked{reason}")
    return None


def refusals(
    files: Iterable[IndexFile],
    target: Target,
    chosen: str,
    *,
    allow_linux: bool = False,
    hashes: frozenset[str] = frozenset(),
) -> tuple[Refusal, ...]:
    """Say why the files nearer to the wish than `chosen` (a wheel's file name) were not taken.

    Nearer are: of the same release, each compiled wheel for the target's machine that would have come before it; of
    each newer final release, the file that comes nearest. Newest release first.
    """
    from packaging.version import InvalidVersion, Version

    by_version: dict[Version, list[IndexFile]] = {}
    for file in files:
        try:
            by_version.setdefault(Version(file.version or ""), []).append(file)
        except InvalidVersion:
            continue
    own = Version(chosen.split("-")[1])
    told: list[Refusal] = []
    for version in sorted((version for version in by_version if version > own), reverse=True):
        if version.is_prerelease and not own.is_prerelease:
            continue
        nearest = _nearest(by_version[version], target, allow_linux=allow_linux, hashes=hashes)
        if nearest is None:
            best = _best(by_version[version], target, allow_linux=allow_linux)
            nearest = Refusal(
                filename=best or f"{version}",
                reason=Reason.REQUIREMENT,
                sentence="runs on the target, but a requirement or the lock holds the version back",
            )
        told.append(nearest)
    fit = wheel_fit(chosen, target, allow_linux=allow_linux)
    for file in sorted(by_version.get(own, ()), key=lambda file: file.filename):
        if file.filename == chosen or not file.is_wheel:
            continue
        found = refusal(file, target, allow_linux=allow_linux, hashes=hashes)
        other = wheel_fit(file.filename, target, allow_linux=allow_linux)
        is_near = found is not None and found.reason < Reason.ABI
        would_win = other is not None and fit is not None and other < fit
        if found is not None and (is_near or would_win):
            told.append(found)
    return tuple(told)


def no_compatible_wheel(
    name: str,
    version: str | None,
    target: Target,
    files: Sequence[IndexFile],
    *,
    allow_linux: bool = False,
    is_whole: bool = True,
) -> NoCompatibleWheel:
    """Make the error for a distribution that has no wheel for the target.

    `version` is None when no version has one. `files` are all files of the project (`is_whole`), or just those that a
    lock names: then nothing is said of other versions.
    """
    subject = f"{name}=={version}" if version else name
    message = f"no wheel of `{subject}` runs on `{target}`"
    own = [file for file in files if version is None or same_version(file.version, version)]
    wheels = [file for file in own if file.is_wheel]
    told: list[str] = []
    nearest = _nearest(wheels, target, allow_linux=allow_linux)
    if nearest is not None and nearest.reason <= Reason.REQUIRES_PYTHON:
        told.append(f"the nearest is `{nearest.filename}`, which {nearest.sentence}")
    elif wheels:
        told.append(f"its wheels are for {describe(wheels)}")
    elif own:
        told.append("it has only a source distribution, which would have to be built")
    if nearest is not None and nearest.reason in {Reason.PYTHON, Reason.ABI} and wheels:
        told.append(f"its wheels are for {describe(wheels)}")
    if is_whole:
        works = newest_that_runs(files, target, allow_linux=allow_linux)
        if works is not None and works != version:
            told.append(f"`{name}=={works}` has a wheel that runs there")
        elif works is None and len(own) < len(files):
            told.append("no other version has one either")
    if nearest is not None and nearest.reason is Reason.LINUX_TAG:
        told.append("`--allow-linux-wheels` takes it, and the audit then reads the binary")
    if any(not file.is_wheel for file in own):
        told.append(f"`--allow-sdist {name}` builds it from source for the target")
    blocked = blocker(
        name, f"=={version}" if version else "", target, files, allow_linux=allow_linux, is_whole=is_whole
    )
    return NoCompatibleWheel(
        message,
        hint="; ".join(told) or None,
        source=_source(name, own),
        blockers=(blocked,) if blocked is not None else (),
    )


def blocker(
    name: str,
    asked: str,
    target: Target,
    files: Sequence[IndexFile],
    *,
    allow_linux: bool = False,
    is_whole: bool = True,
) -> Blocker | None:
    """Say in half a line why none of the `asked` versions (a specifier) runs on the target; None where one does.

    `files` and `is_whole` are those of `no_compatible_wheel`.
    """
    own = [file for file in files if _is_within(file.version, asked)]
    wheels = [file for file in own if file.is_wheel]
    nearest = _nearest(wheels, target, allow_linux=allow_linux)
    if not own or (wheels and nearest is None):
        return None
    return Blocker(
        name,
        asked,
        _lack(nearest, target),
        runs=newest_that_runs(files, target, allow_linux=allow_linux) if is_whole else None,
        has_source=any(not file.is_wheel and file.yanked is None for file in own),
    )


def _lack(nearest: Refusal | None, target: Target) -> str:
    if nearest is None:
        return "has only source code"
    match nearest.reason:
        case Reason.PYTHON | Reason.ABI | Reason.FREE_THREADED | Reason.DEBUG:
            return f"has no wheel for CPython {target.python[0]}.{target.python[1]}"
        case Reason.MACHINE:
            return f"has no wheel for Linux on {target.machine}"
        case Reason.SYSTEM:
            return "has no wheel for Linux"
        case _:
            return nearest.sentence


def _is_within(version: str | None, asked: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    if not asked or version is None:
        return version is not None
    try:
        return SpecifierSet(asked).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return asked == f"=={version}"


def _source(name: str, files: Iterable[IndexFile]) -> SourceFile | None:
    """Give the newest sdist among files; final releases before others."""
    from packaging.version import InvalidVersion, Version

    found: list[tuple[bool, Version, IndexFile]] = []
    for file in files:
        if not file.is_wheel and file.yanked is None and file.url:
            with contextlib.suppress(InvalidVersion):
                version = Version(file.version or "")
                found.append((not version.is_prerelease, version, file))
    if not found:
        return None
    newest = max(found, key=lambda one: one[:2])[2]
    return SourceFile(name, newest.filename, newest.url, newest.hashes.get("sha256"), newest.size)


def newest_that_runs(files: Iterable[IndexFile], target: Target, *, allow_linux: bool = False) -> str | None:
    """Give the newest final, unyanked version with a wheel for the target."""
    from packaging.version import Version

    versions = map(Version, wheels_that_run(files, target, allow_linux=allow_linux))
    newest = max((version for version in versions if not version.is_prerelease), default=None)
    return None if newest is None else str(newest)


def wheels_that_run(files: Iterable[IndexFile], target: Target, *, allow_linux: bool = False) -> dict[str, str]:
    """Give, for each version (as `packaging` writes it) with unyanked wheels for the target, the one that fits best."""
    from packaging.version import InvalidVersion, Version

    best: dict[str, tuple[Fit, str]] = {}
    for file in files:
        if not file.is_wheel or file.yanked is not None:
            continue
        fit = wheel_fit(file.filename, target, allow_linux=allow_linux)
        if fit is None or not satisfies_python(file.requires_python, target):
            continue
        try:
            version = str(Version(file.version or ""))
        except InvalidVersion:
            continue
        found = fit, file.filename
        best[version] = min(found, best.get(version, found))
    return {version: filename for version, (_, filename) in best.items()}


def versions_too_new(files: Iterable[IndexFile], target: Target, *, allow_linux: bool = False) -> tuple[str, ...]:
    """Give the versions of which only the glibc (or a `linux_*` tag) stands between wheel and target.

    A resolver that knows another glibc would take them.
    """
    reasons: dict[str, set[Reason | None]] = {}
    for file in files:
        if file.is_wheel and file.version is not None:
            refused = wheel_refusal(file.filename, target, allow_linux=allow_linux)
            reasons.setdefault(file.version, set()).add(refused.reason if refused else None)
    near = {Reason.GLIBC, Reason.LINUX_TAG}
    return tuple(sorted(version for version, found in reasons.items() if None not in found and found & near))


def describe(wheels: Iterable[IndexFile]) -> str:
    """Say for whom wheels are: `CPython 3.8, 3.9 on Linux x86_64 (glibc 2.17), macOS`."""
    interpreters: set[str] = set()
    systems: dict[str, str] = {}
    for file in wheels:
        found = audience(file.filename)
        if found is None:
            continue
        interpreters.add(found[0])
        system, _, _ = found[1].partition(" (")
        glibc = needed_glibc(file.filename)
        floor = f"{system} (glibc {glibc})" if glibc else system
        systems[system] = min(systems.get(system, floor), floor, key=_natural)
    return f"{_listed(interpreters)} on {_listed(set(systems.values()))}"


def satisfies_python(specifier: str | None, target: Target) -> bool:
    """Whether the target's Python is within a `Requires-Python`; one that cannot be read forbids nothing."""
    if not specifier:
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(specifier).contains(target.python_full_version, prereleases=True)
    except InvalidSpecifier:
        return True


def pure_fallback(filename: str, files: Iterable[IndexFile]) -> bool:
    """Whether a pure wheel was taken although the same release has compiled ones for other targets."""
    if is_compiled(filename):
        return False
    version = filename.split("-")[1]
    return any(file.is_wheel and file.version == version and is_compiled(file.filename) for file in files)


def better_wheel(filename: str, files: Iterable[IndexFile], target: Target, *, allow_linux: bool = False) -> str | None:
    """Give the best wheel of the same release that fits the target better than the chosen one, if there is any."""
    version = filename.split("-")[1]
    chosen = wheel_fit(filename, target, allow_linux=allow_linux)
    fits = (
        (wheel_fit(file.filename, target, allow_linux=allow_linux), file.filename)
        for file in files
        if file.version == version and refusal(file, target, allow_linux=allow_linux) is None
    )
    return min(((fit, name) for fit, name in fits if fit and chosen and fit < chosen), default=(None, None))[1]


def _nearest(
    files: Iterable[IndexFile], target: Target, *, allow_linux: bool, hashes: frozenset[str] = frozenset()
) -> Refusal | None:
    """Give the mildest refusal; None when one file is not refused (or there is none)."""
    found: list[Refusal] = []
    for file in files:
        refused = refusal(file, target, allow_linux=allow_linux, hashes=hashes)
        if refused is None:
            return None
        found.append(refused)
    return min(found, key=lambda one: (one.reason, distance(one.filename, target)), default=None)


def _best(files: Iterable[IndexFile], target: Target, *, allow_linux: bool) -> str | None:
    fits = ((wheel_fit(file.filename, target, allow_linux=allow_linux), file.filename) for file in files)
    return min(((fit, filename) for fit, filename in fits if fit is not None), default=(None, None))[1]


def same_version(text: str | None, version: str) -> bool:
    """Whether a version, as a file name writes it, is `version`."""
    from packaging.version import InvalidVersion, Version

    try:
        return text is not None and Version(text) == Version(version)
    except InvalidVersion:
        return text == version


def _listed(words: set[str]) -> str:
    ordered = sorted(words, key=_natural)
    if len(ordered) > _SHOWN:
        ordered = [*ordered[: _SHOWN // 2], "...", *ordered[-_SHOWN // 2 :]]
    # `CPython 3.8, 3.9` reads better than the name again and again.
    shown: list[str] = []
    last = ""
    for word in ordered:
        head, _, tail = word.partition(" ")
        shown.append(tail if tail and head == last and head in {"CPython", "PyPy", "Python"} else word)
        last = head if head != "..." else last
    return ", ".join(shown)


def _natural(text: str) -> list[tuple[int, str]]:
    import re

    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
