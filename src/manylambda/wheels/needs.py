"""Which distributions need which: what may be left out together with one that is excluded or that the runtime has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from packaging.requirements import Requirement

    from manylambda.wheels.inventory import Inventory


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A distribution left out of the package, and why, in words for the user."""

    name: str
    reason: str


class Needs:
    """The graph of what needs what, for one target's markers."""

    def __init__(
        self, inventories: Iterable[Inventory], markers: Mapping[str, str], roots: Iterable[Requirement]
    ) -> None:
        """`roots` are what the project itself asks for; empty when its lock does not tell."""
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        self._versions: dict[str, str] = {}
        self._requirements: dict[str, list[tuple[str, Requirement]]] = {}
        extras: dict[str, set[str]] = {}
        written = {inventory.name: inventory for inventory in inventories}
        parsed: dict[str, list[Requirement]] = {}
        for name, inventory in written.items():
            self._versions[name] = inventory.version
            parsed[name] = []
            for line in inventory.requires:
                try:
                    parsed[name].append(Requirement(line))
                except InvalidRequirement:
                    continue  # the audit tells of metadata that cannot be read
        self._asked: dict[str, list[Requirement]] = {}
        for requirement in roots:
            name = str(canonicalize_name(requirement.name))
            if name in written and _applies(requirement, markers, ()):
                self._asked.setdefault(name, []).append(requirement)
                extras.setdefault(name, set()).update(requirement.extras)
        # An extra of a distribution is active once anything asks for it; that can activate further ones.
        while True:
            found: dict[str, list[tuple[str, Requirement]]] = {name: [] for name in written}
            before = sum(map(len, extras.values()))
            for name, requirements in parsed.items():
                for requirement in requirements:
                    wanted = str(canonicalize_name(requirement.name))
                    if wanted in written and _applies(requirement, markers, extras.get(name, set())):
                        found[name].append((wanted, requirement))
                        extras.setdefault(wanted, set()).update(requirement.extras)
            if sum(map(len, extras.values())) == before:
                break
        self._requirements = found
        needed = {wanted for name, pairs in found.items() for wanted, _ in pairs if wanted != name}
        self._roots = {name for name in written if name not in needed} | set(self._asked)
        # Distributions that need each other, and that nobody else is known to need.
        while unreached := sorted(written.keys() - self._reachable(())):
            self._roots.add(unreached[0])

    def without(self, excluded: Collection[str]) -> tuple[Dropped, ...]:
        """Return what goes when the distributions `excluded` go: they, and what only they need."""
        unknown = sorted(name for name in excluded if name not in self._versions)
        if unknown:
            from difflib import get_close_matches

            near = get_close_matches(unknown[0], sorted(self._versions), n=1)
            raise RequestError(
                f"nothing to exclude: `{unknown[0]}` is not among the distributions",
                hint=f"did you mean `{near[0]}`?" if near else "`manylambda plan` lists them",
            )
        kept = self._reachable(excluded)
        dropped = []
        for name in sorted(self._versions):
            if name in excluded:
                dropped.append(Dropped(name=name, reason="excluded"))
            elif name not in kept:
                dropped.append(Dropped(name=name, reason=f"only {_named(self._needing(name))} needed it"))
        return tuple(dropped)

    def provided(
        self, preinstalled: Mapping[str, str], runtime: str, *, besides: Collection[str] = ()
    ) -> tuple[tuple[Dropped, ...], tuple[str, ...]]:
        """Return what can go since the runtime has it, and a line for each that cannot go although it has it.

        `besides` goes anyhow, and is not among what is returned.
        """
        left = self._versions.keys() - set(besides)
        going = {name: version for name, version in preinstalled.items() if name in left}
        stay: dict[str, str] = {}
        while True:  # what must stay has needs too, which can make others stay
            kept = self._reachable({*going, *besides})
            unmet = {name: need for name in sorted(going) if (need := self._unmet(name, going[name], kept))}
            if not unmet:
                break
            for name, need in unmet.items():
                stay[name] = f"`{name}` is kept: {runtime} has {going.pop(name)}, but {need}"
        dropped: list[Dropped] = []
        for name in sorted(left):
            if name in going:
                version = self._versions[name]
                same = "the same version" if version == going[name] else f"in place of {version}"
                dropped.append(
                    Dropped(name=name, reason=f"{runtime} has {going[name]}, which satisfies every need ({same})")
                )
            elif name not in kept:
                dropped.append(Dropped(name=name, reason=f"only {_named(self._needing(name))} needed it"))
        return tuple(dropped), tuple(stay[name] for name in sorted(stay))

    def _unmet(self, name: str, version: str, kept: Collection[str]) -> str | None:
        """Say which need of the project or of what is `kept` a version does not satisfy."""
        needs = [("the project", one) for one in self._asked.get(name, ()) if not _is_pin(one)]
        needs += [(f"`{by}`", requirement) for by, requirement in self._requirers(name) if by in kept]
        for by, requirement in needs:
            if not requirement.specifier.contains(version, prereleases=True):
                return f"{by} needs `{requirement.name}{requirement.specifier}`"
        return None

    def _reachable(self, excluded: Collection[str]) -> set[str]:
        kept: set[str] = set()
        waiting = [name for name in self._roots if name not in excluded]
        while waiting:
            name = waiting.pop()
            if name not in kept:
                kept.add(name)
                waiting.extend(wanted for wanted, _ in self._requirements[name] if wanted not in excluded)
        return kept

    def _requirers(self, name: str) -> list[tuple[str, Requirement]]:
        return [
            (by, requirement)
            for by, pairs in sorted(self._requirements.items())
            for wanted, requirement in pairs
            if wanted == name
        ]

    def _needing(self, name: str) -> list[str]:
        return sorted({by for by, _ in self._requirers(name)})


def _applies(requirement: Requirement, markers: Mapping[str, str], extras: Collection[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in ("", *extras))


def _is_pin(requirement: Requirement) -> bool:
    """Whether a requirement of the project only repeats what was locked, as `uv export` and `pip-compile` write it."""
    return [one.operator for one in requirement.specifier] == ["=="] and "*" not in str(requirement.specifier)


def _named(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "what was left out"
