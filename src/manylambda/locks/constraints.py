"""Poetry's notation for versions (`^1.2`, `~1.2`, `1.*`, `<2 || >=3`), as far as a lock needs it: does it allow one."""

from __future__ import annotations

import re
from typing import Final

from manylambda.errors import RequestError

_PART: Final = re.compile(r"\s*(\^|~=|~|===?|!=|<=|>=|<|>|=)?\s*([0-9A-Za-z.*+!_-]+)")


def allows(constraint: str, version: str, *, is_python: bool = False) -> bool:
    """Return whether a Poetry constraint allows `version`; RequestError when it is not one.

    With `is_python` a bare `3.12` means every 3.12.x.
    """
    from packaging.specifiers import SpecifierSet

    return any(
        SpecifierSet(_specifier(alternative, is_python)).contains(version, prereleases=True)
        for alternative in re.split(r"\|\|?", constraint)
    )


def _specifier(alternative: str, is_python: bool) -> str:  # noqa: FBT001
    """Write one alternative (a comma or space separated list) as a PEP 440 specifier."""
    parts: list[str] = []
    text = alternative.strip().removesuffix(",")
    while text:
        found = _PART.match(text)
        if found is None and text.strip() == "*":
            return ",".join(parts)
        if found is None:
            raise RequestError(f"`{alternative.strip()}` is not a version constraint")
        operator, version = found.groups()
        parts += _part(operator or "", version, is_python)
        text = text[found.end() :].lstrip(" ,")
    return ",".join(parts)


def _part(operator: str, version: str, is_python: bool) -> list[str]:  # noqa: FBT001
    if version == "*":
        return []
    if operator in {"^", "~"}:
        return [f">={version}", f"<{_caret(version) if operator == '^' else _tilde(version)}"]
    if operator in {"", "=", "=="}:
        is_family = is_python and version.count(".") < 2 and not version.endswith("*")
        return [f"=={version}{'.*' if is_family else ''}"]
    return [f"{operator}{version}"]


def _release(version: str) -> list[int]:
    from packaging.version import InvalidVersion, Version

    try:
        return list(Version(version).release)
    except InvalidVersion as error:
        raise RequestError(f"`{version}` is not a version") from error


def _caret(version: str) -> str:
    release = _release(version)
    # The first part that is not zero may not change; of `^0.0` it is the last one given.
    position = next((place for place, number in enumerate(release) if number), len(release) - 1)
    return _next(release, position)


def _tilde(version: str) -> str:
    release = _release(version)
    return _next(release, min(1, len(release) - 1))


def _next(release: list[int], position: int) -> str:
    return ".".join(map(str, [*release[:position], release[position] + 1])) + ".dev0"
