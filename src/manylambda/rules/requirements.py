"""Requirements of installed distributions, judged for a target without a library where they are plain.

Nearly all requirements of a right package are plain ones that hold: a name that is there and a version within numeric
bounds. Those are judged here; whatever is not plain is left to `packaging`, whose import costs more than a whole audit.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.audits import normalised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.markers import Marker

    from manylambda.target import Target

_REQUIREMENT: Final = (
    r"\s*(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[(?P<extras>[^\]]*)\])?\s*"
    r"(?:@\s*(?P<url>\S+)|\(?(?P<specifier>(?:[<>=!~][^;()@]*)?)\)?)\s*(?:;(?P<marker>.*))?"
)
# Of no more digits than a number can honestly have: `int` refuses those of thousands.
_RELEASE: Final = r"[0-9]{1,18}(?:\.[0-9]{1,18})*"
_BOUND: Final = rf"\s*(>=|<=|==|!=|>|<)\s*({_RELEASE})\s*"
_PREFIX: Final = rf"\s*(==|!=)\s*({_RELEASE})\.\*\s*"
_COMPARISON: Final = (
    r"\s*\(?\s*(?P<key>[a-z_]+)\s*(?P<operator>==|!=|>=|<=|>|<)\s*"
    r"""(?P<quote>['"])(?P<value>[^'"]*)(?P=quote)\s*\)?\s*"""
)
_TEXTS: Final = frozenset(
    {"extra", "implementation_name", "os_name", "platform_machine", "platform_python_implementation", "platform_system",
     "sys_platform"}
)  # fmt: skip


class Needed(NamedTuple):
    """One `Requires-Dist`, taken apart."""

    name: str
    """Normalised."""
    extras: tuple[str, ...]
    specifier: str
    marker: str
    text: str
    """As it is written, without the marker."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Needed | None:
    """Take a `Requires-Dist` apart; None for one that is none."""
    text = re.sub(r"\s+", " ", text)  # of a run of spaces the pattern would try every way to share it out
    match = re.fullmatch(_REQUIREMENT, text)
    if match is None:
        return None
    extras = tuple(normalised(extra.strip()) for extra in (match["extras"] or "").split(",") if extra.strip())
    return Needed(
        normalised(match["name"]),
        extras,
        (match["specifier"] or "").strip(),
        (match["marker"] or "").strip(),
        text.partition(";")[0].strip(),
    )


def required_name(text: str) -> str | None:
    """Return the normalised name that a `Requires-Dist` asks for."""
    needed = parse(text)
    return needed.name if needed is not None else None


def admits(specifier: str, version: str) -> bool:
    """Whether a version, pre-releases included, is within a specifier."""
    if not specifier:
        return True
    plain = _admits_plainly(specifier, version)
    if plain is not None:
        return plain
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except ValueError:  # an invalid one, or a number of thousands of digits
        return True  # what cannot be read is no proof of a fault


def applies(marker: str, target: Target, extras: frozenset[str] = frozenset()) -> bool:
    """Whether a marker holds on the target for a distribution that is installed with `extras`."""
    if not marker:
        return True
    environment = target.markers
    wanted = ("", *sorted(extras & _extras_in(marker)))
    plain = [_applies_plainly(marker, environment, extra) for extra in wanted]
    if True in plain:
        return True
    if None not in plain:
        return False
    parsed = _marker(marker)
    try:
        return parsed is not None and any(parsed.evaluate({**environment, "extra": extra}) for extra in wanted)
    except (ValueError, RecursionError):  # an unknown name, or a number of thousands of digits
        return False


@lru_cache(maxsize=4096)
def _marker(text: str) -> Marker | None:
    from packaging.markers import Marker

    try:
        return Marker(text)
    except (ValueError, RecursionError):  # an invalid one, or one of thousands of parentheses
        return None


@lru_cache(maxsize=4096)
def _extras_in(marker: str) -> frozenset[str]:
    """Return the extras that a marker tells apart: any other is to it as none is."""
    return (
        frozenset(normalised(value) for value in re.findall(r"[\w.-]+", marker)) if "extra" in marker else frozenset()
    )


def _admits_plainly(specifier: str, version: str) -> bool | None:
    release, post, number = version.partition(".post")
    if not re.fullmatch(_RELEASE, release) or (post and not re.fullmatch("[0-9]{1,18}", number)):
        return None
    have = _numbers(release)
    for bound in specifier.split(","):
        if match := re.fullmatch(_BOUND, bound):
            if post and have == _numbers(match[2]):
                return None  # a post-release of the bound itself
            holds = _compared(have, match[1], _numbers(match[2]))
        elif match := re.fullmatch(_PREFIX, bound):
            prefix = tuple(map(int, match[2].split(".")))
            padded = (*have, *(0 for _ in range(len(prefix) - len(have))))
            holds = (padded[: len(prefix)] == prefix) is (match[1] == "==")
        else:
            return None
        if not holds:
            return False
    return True


def _applies_plainly(marker: str, environment: Mapping[str, str], extra: str) -> bool | None:
    """Judge comparisons joined by `and`; None where there is anything else. One that fails decides for all."""
    if " or " in marker:
        return None
    holds: bool | None = True
    for part in marker.split(" and "):
        match = re.fullmatch(_COMPARISON, part)
        if match is None:
            holds = None
            continue
        key, operator, value = match["key"], match["operator"], match["value"]
        if key in _TEXTS and operator in {"==", "!="}:
            have = extra if key == "extra" else environment[key]
            equal = have == (normalised(value) if key == "extra" else value)
            one: bool | None = equal is (operator == "==")
        elif key in {"python_version", "python_full_version"} and re.fullmatch(_RELEASE, value):
            have = environment[key]
            one = _compared(_numbers(have), operator, _numbers(value)) if re.fullmatch(_RELEASE, have) else None
        else:
            one = None
        if one is False:
            return False
        if one is None:
            holds = None
    return holds


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _compared(one: tuple[int, ...], operator: str, other: tuple[int, ...]) -> bool:
    match operator:
        case ">=":
            return one >= other
        case "<=":
            return one <= other
        case ">":
            return one > other
        case "<":
            return one < other
        case "==":
            return one == other
        case _:
            return one != other
