"""What a lock says otherwise than one made anew from the same files: whether it still answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.pylock import Package, Pylock


class Difference(NamedTuple):
    """One thing that would change."""

    what: str
    """The distribution, or what of the lock as a whole: `targets`, `extras`, `groups`, `sources`."""
    locked: str | None
    """What the lock says; None where it says nothing of it."""
    wanted: str | None
    """What a lock made now would say; None where it would say nothing."""


def differences(locked: Pylock, wanted: Pylock) -> tuple[Difference, ...]:
    """Return what a lock of ours lacks or has too much of, the lock as a whole first.

    A file that an index has got since for a version that is locked is none: the lock answers without it. One that is
    gone is.
    """
    return (*_origin(_recorded(locked), _recorded(wanted)), *_packages(locked, wanted))


def _origin(locked: Mapping[str, object], wanted: Mapping[str, object]) -> Iterator[Difference]:
    for key in ("targets", "extras", "groups", "sources"):
        if (before := _listed(locked.get(key))) != (after := _listed(wanted.get(key))):
            yield Difference(key, before, after)
    is_same_files = locked.get("sources") == wanted.get("sources")
    if is_same_files and locked.get("sources-sha256") != wanted.get("sources-sha256"):
        yield Difference("sources", "as they were when it was made", f"{_listed(wanted.get('sources'))} as it is now")


def _packages(locked: Pylock, wanted: Pylock) -> Iterator[Difference]:
    before, after = _by_name(locked), _by_name(wanted)
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None or other is None or list(one) != list(other):
            yield Difference(name, _told(one), _told(other))
            continue
        gone = sorted(_files(one.values()) - _files(other.values()))
        if gone:
            yield Difference(name, ", ".join(gone), None)


def _by_name(pylock: Pylock) -> dict[str, dict[str, Package]]:
    """Give the entries of each distribution by what is told of them: a version, and for which targets."""
    found: dict[str, dict[str, Package]] = {}
    for package in pylock.packages:
        version = str(package.version) if package.version is not None else "of no version"
        told = version if package.marker is None else f"{version} where {package.marker}"
        found.setdefault(str(package.name), {})[told] = package
    return {name: dict(sorted(entries.items())) for name, entries in found.items()}


def _told(entries: Mapping[str, Package] | None) -> str | None:
    return None if entries is None else ", ".join(entries)


def _files(packages: Iterable[Package]) -> set[str]:
    """Give the names of files by which an index would be asked; a file is what its hash says."""
    found = set()
    for package in packages:
        for file in (*(package.wheels or ()), *((package.sdist,) if package.sdist else ())):
            found.add(f"{file.filename} ({file.hashes.get('sha256', 'no sha256')[:12]})")
    return found


def _recorded(pylock: Pylock) -> Mapping[str, object]:
    recorded: Mapping[str, object] = (pylock.tool or {}).get("manylambda", {})
    return recorded


def _listed(value: object) -> str | None:
    return ", ".join(map(str, value)) if isinstance(value, list) else None
