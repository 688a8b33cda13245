"""Joins locks that were resolved for one target each into one lock that any PEP 751 reader can use for all of them.

An entry stands once where name, version and source agree, with the wheels of every target; where they do not, entries
carry the shortest marker that tells these targets apart, and no more.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from manylambda.locks.compatibility import wheel_fit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from packaging.pylock import Package, PackageSdist, PackageWheel, Pylock

    from manylambda.target import Target


def merge(locks: Mapping[Target, Pylock], *, allow_linux: bool = False) -> Pylock:
    """Join locks, each made for its target alone, so without markers. Wheels that no target loads are left out."""
    from packaging.markers import Marker
    from packaging.pylock import Pylock
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    targets = sorted(locks, key=target_order)
    groups: dict[str, dict[tuple[object, ...], list[tuple[Target, Package]]]] = {}
    for target in targets:
        for package in locks[target].packages:
            groups.setdefault(package.name, {}).setdefault(_identity(package), []).append((target, package))
    packages = [
        _joined(members, marker_for([target for target, _ in members], targets), allow_linux=allow_linux)
        for name in sorted(groups)
        for members in sorted(groups[name].values(), key=lambda members: _place(members[0][1]))
    ]
    lowest = min((Version(target.python_full_version) for target in targets), default=None)
    return Pylock(
        lock_version=Version("1.0"),
        environments=[Marker(environment_marker(target)) for target in targets],
        requires_python=SpecifierSet(f">={lowest}") if lowest else None,
        created_by="manylambda",
        packages=packages,
        tool={"manylambda": {"targets": sorted(str(target) for target in targets)}},
    )


def target_order(target: Target) -> tuple[tuple[int, ...], str]:
    """Sort targets by version, not by text: 3.9 before 3.10."""
    return tuple(target.python), target.machine


def environment_marker(target: Target) -> str:
    """Give the marker that holds on this target and no other of ours."""
    major, minor = target.python
    return f'python_version == "{major}.{minor}" and platform_machine == "{target.machine}" and sys_platform == "linux"'


def marker_for(chosen: Collection[Target], every: Collection[Target]) -> str | None:
    """Give the shortest marker true for `chosen` and false for the rest of `every`; None when it is all of them."""
    wanted = set(chosen)
    if wanted == set(every):
        return None
    machines = {target.machine for target in wanted}
    if wanted == {target for target in every if target.machine in machines}:
        return " or ".join(f'platform_machine == "{machine}"' for machine in sorted(machines))
    terms: list[str] = []
    for python in sorted({target.python for target in wanted}):
        version = f'python_version == "{python[0]}.{python[1]}"'
        own = sorted(target.machine for target in wanted if target.python == python)
        if len(own) == sum(1 for target in every if target.python == python):
            terms.append(version)
        else:
            terms.extend(f'{version} and platform_machine == "{machine}"' for machine in own)
    return " or ".join(terms)


def _identity(package: Package) -> tuple[object, ...]:
    """Give what two targets must share to share an entry."""
    if package.directory is not None:
        return ("directory", package.directory.path, package.directory.subdirectory)
    if package.archive is not None:
        archive = package.archive
        return ("archive", archive.url, archive.path, archive.subdirectory, tuple(sorted(archive.hashes.items())))
    if package.vcs is not None:
        return ("vcs", package.vcs.url, package.vcs.path, package.vcs.commit_id, package.vcs.subdirectory)
    return ("index", package.version, package.index)


def _place(package: Package) -> tuple[bool, object, str]:
    """Give the place of an entry among those of its name."""
    return (package.version is None, package.version or 0, repr(_identity(package)))


def _joined(members: Sequence[tuple[Target, Package]], marker: str | None, *, allow_linux: bool) -> Package:
    from packaging.markers import Marker

    first = members[0][1]
    wheels: dict[str, PackageWheel] = {}
    sdist: PackageSdist | None = None
    for target, package in members:
        sdist = sdist or package.sdist
        for wheel in package.wheels or ():
            if wheel_fit(wheel.filename, target, allow_linux=allow_linux) is not None:
                wheels.setdefault(wheel.filename, wheel)
    return dataclasses.replace(
        first,
        marker=Marker(marker) if marker else None,
        wheels=[wheels[filename] for filename in sorted(wheels)] or None,
        sdist=sdist,
    )
