"""Why uv found no solution, in our words: the missing wheel where that is it, else uv's own reasoning."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from manylambda.errors import Blocker, FetchError, NoCompatibleWheel, NotCached, ResolutionError
from manylambda.locks import explain
from manylambda.locks.model import SourceKind
from manylambda.locks.program import without_credentials
from manylambda.locks.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.locks.index import IndexFile
    from manylambda.locks.request import Request
    from manylambda.target import Target

_NAME: Final = r"(?<![\w.<>=!~,-])([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?(?:\{[^}]*\})?"
NO_WHEELS: Final = re.compile(
    _NAME + r"(?:==([^\s,]+)|[<>=!~]\S*)? (?:has|have) no "
    r"(?:usable wheels|wheels with a matching|compatible wheels|wheels are available|source distribution)"
)
WHEELS_WANTED: Final = re.compile(r"Wheels are required for `([^`\s]+)`")
MENTIONED: Final = re.compile(_NAME + r"[<>=!~]=?v?\d")
_BUILD_DISABLED: Final = re.compile(r"Building source distributions (?:for `[^`]+` )?is disabled")
_UNBUILT: Final = re.compile(r"Failed to (?:download and )?build `([^`\s]+?)(?:\[[^\]]*\])? @ ([^`]+)`")
_OTHER_ADDRESS: Final = re.compile(r"conflicting URLs for package `([^`]+)`")
_FORBIDDEN: Final = re.compile(r"returned a 40[137] ")
_SPECIFIER: Final = r"((?:[<>=!~]=?=?[^\s,]+,?)*)"
_LACKS_WHEELS: Final = re.compile(_NAME + _SPECIFIER + r" (?:has|have) no (?:usable |compatible )?wheels")
_OTHER_PYTHON: Final = re.compile(_NAME + _SPECIFIER + r" depends? on Python[<>=!~]")
_ASKED_OF_OTHER_PYTHON: Final = re.compile(
    r"does not satisfy Python[<>=!~]\S+ and (?:you require|\S+ depends? on) (?!Python[<>=!~])" + _NAME + _SPECIFIER
)
_UNREACHABLE: Final = re.compile(
    r"failed to fetch|error sending request|could not connect|timed out|dns error|status code [45]\d\d", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """uv found no solution."""

    reason: str
    stderr: str
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Versions that were kept from uv because the target cannot load them."""
    unbuilt: tuple[str, str] | None = None
    """Name and address of the source code that uv would have had to build to go on."""
    other_address: str | None = None
    """The name for which a stand-in and a requirement give different addresses."""


def failure(request: Request, target: Target, stderr: str) -> Failure:
    """Sort uv's errors: no solution is given back, for sdists may help; the rest is raised."""
    text = request.client.credentials.redact(without_credentials(stderr))
    joined = flat(text)
    unbuilt = _UNBUILT.search(joined) if _BUILD_DISABLED.search(joined) else None
    other_address = _OTHER_ADDRESS.search(joined)
    if "No solution found" in text or unbuilt is not None or _is_ours(request, target, other_address):
        return Failure(
            reason=_cause(text),
            stderr=text,
            unbuilt=(normalise(unbuilt[1]), unbuilt[2]) if unbuilt else None,
            other_address=normalise(other_address[1]) if other_address else None,
        )
    told = re.search(r"^error: (.*(?:\n {2,}(?!cause:).*)*)", text, re.MULTILINE)
    first = _lowered(flat(told[1] if told else text).strip())
    hints = _hints(text)
    if request.options.offline and ("network was disabled" in text or "not found in the cache" in text):
        raise NotCached(f"cannot resolve for `{target}` offline: {first}", hint="run once without `--offline`")
    if _UNREACHABLE.search(text):
        if "UnknownIssuer" in text or "certificate" in text:
            hints.append("for certificates of the system's store set `UV_SYSTEM_CERTS=1`")
        causes = _cause(text)
        raise FetchError(f"{first}: {causes}" if causes else first, hint="; ".join(hints) or None)
    causes = _cause(text)
    raise ResolutionError(
        f"cannot resolve for `{target}`: {first}" + (f": {causes}" if causes else ""), hint="; ".join(hints) or None
    )


def _is_ours(request: Request, target: Target, other_address: re.Match[str] | None) -> bool:
    """Whether it is a stand-in's address that does not go with another."""
    return other_address is not None and request.stand_ins[target].has_address(normalise(other_address[1]))


def _cause(text: str) -> str:
    """Give uv's reasoning on one line."""
    kept: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("cause:"):
            kept.append(line.strip().removeprefix("cause:").strip())
        elif kept and line.strip():
            if not line.startswith(" "):
                break
            kept.append(line.strip())
    joined = " ".join(kept).replace(", we can conclude that", ",")
    return _lowered(re.sub(r"\s+", " ", joined)).rstrip(".")


def flat(text: str) -> str:
    """Undo uv's line breaks, which come wherever a line is long."""
    return re.sub(r"\s+", " ", text)


def _hints(text: str) -> list[str]:
    found = re.findall(r"^hint: (.*(?:\n {2,}.*)*)", text, re.MULTILINE)
    return [re.sub(r"\s+", " ", hint).strip().rstrip(".") for hint in found]


def explained(request: Request, target: Target, failure: Failure) -> ResolutionError | FetchError:
    """Make the error for what uv could not solve: the missing wheel where that is it, else uv's own words."""
    if failure.unbuilt is not None:
        name, address = failure.unbuilt
        return NoCompatibleWheel(
            f"cannot resolve for `{target}`: `{name}` has no wheel, only source code: {address}",
            hint=f"`--allow-sdist {name}` builds it for the target",
            blockers=(Blocker(name, "", "has only source code", has_source=True),),
        )
    if failure.excluded:
        return _pushed_out(request, target, failure)
    blockers = _blockers(request, target, flat(failure.stderr))
    for name, version in NO_WHEELS.findall(flat(failure.stderr)):
        files = _files(request, name)
        own = [file for file in files if not version or file.version == version] if files else []
        if own and all(explain.refusal(file, target, allow_linux=request.options.allow_linux_wheels) for file in own):
            error = explain.no_compatible_wheel(
                normalise(name), version or None, target, files, allow_linux=request.options.allow_linux_wheels
            )
            error.__cause__ = ResolutionError(failure.reason)
            error.blockers = blockers or error.blockers
            return error
    hints = [hint for hint in _hints(failure.stderr) if "--no-build" not in hint and "building from source" not in hint]
    if request.options.offline and "found in the cache" in failure.stderr:
        return NotCached(
            f"cannot resolve for `{target}` offline: {failure.reason}", hint="run once without `--offline`"
        )
    if any("could not be queried" in hint or _FORBIDDEN.search(hint) for hint in hints):
        return FetchError(f"cannot resolve for `{target}`: {failure.reason}", hint="; ".join(hints))
    return ResolutionError(
        f"no versions satisfy the requirements for `{target}`: {failure.reason}",
        hint="; ".join(hints) or None,
        blockers=blockers,
    )


def _blockers(request: Request, target: Target, text: str) -> tuple[Blocker, ...]:
    """Give the distributions that uv's reasoning rests on: those without a wheel, and those for other Pythons."""
    asked: dict[str, list[str]] = {}
    patterns = (_LACKS_WHEELS, _OTHER_PYTHON, _ASKED_OF_OTHER_PYTHON)
    for name, specifier in (pair for pattern in patterns for pair in pattern.findall(text)):
        asked.setdefault(normalise(name), []).append(specifier.rstrip(","))
    found: list[Blocker] = []
    for name, specifiers in sorted(asked.items()):
        files = _files(request, name)
        allow_linux = request.options.allow_linux_wheels
        blockers = [
            explain.blocker(name, specifier, target, files, allow_linux=allow_linux)
            for specifier in dict.fromkeys(specifiers)
        ]
        # Of several ranges of one name that uv counts up, the first is enough: the others are newer still.
        if (first := next((one for one in blockers if one is not None), None)) is not None:
            found.append(first._replace(needed_by=_needing(request, name, text)))
    return tuple(found)


def _needing(request: Request, name: str, text: str) -> tuple[str, ...]:
    """Give who is said to depend on `name`, with its version where it is a single one; the project is no news."""
    users = re.findall(_NAME + _SPECIFIER + rf" depends? on {re.escape(name)}(?![\w.-])", text, re.IGNORECASE)
    own = _own_name(request)
    told = (
        f"{normalise(user)} {version[2:]}" if version.startswith("==") else normalise(user)
        for user, version in users
        if normalise(user) != own
    )
    return tuple(dict.fromkeys(told))


def _own_name(request: Request) -> str | None:
    if request.source.kind is not SourceKind.PYPROJECT:
        return None
    from manylambda.locks.pyproject import Pyproject

    name = Pyproject.load(request.source.files[0].parent).name
    return normalise(name) if name is not None else None


def _pushed_out(request: Request, target: Target, failure: Failure) -> ResolutionError:
    """Make the error for when nothing is left once the versions that cannot load are excluded."""
    excluded = failure.excluded
    guilty = sorted(excluded, key=lambda name: (not re.search(rf"\b{re.escape(name)}\b", failure.reason), name))
    name = guilty[0]
    asked = re.search(rf"you require {re.escape(name)}(?:\[[^\]]*\])?==([^\s,]+)", failure.reason)
    files = _files(request, name)
    version = asked[1] if asked else (next(iter(excluded[name])) if len(excluded[name]) == 1 else None)
    error = explain.no_compatible_wheel(name, version, target, files, allow_linux=request.options.allow_linux_wheels)
    if version is None and explain.newest_that_runs(files, target, allow_linux=request.options.allow_linux_wheels):
        error = NoCompatibleWheel(
            f"no version of `{name}` that the requirements allow has a wheel for `{target}`",
            hint=error.hint,
            source=error.source,
        )
    error.blockers = _pushing_out(request, target, failure, guilty, asked[1] if asked else None)
    error.__cause__ = ResolutionError(failure.reason)
    return error


def _pushing_out(
    request: Request, target: Target, failure: Failure, guilty: list[str], asked: str | None
) -> tuple[Blocker, ...]:
    """Give the guilty that uv speaks of, or else the first, by the versions that were excluded."""
    named = [name for name in guilty if re.search(rf"\b{re.escape(name)}\b", failure.reason)] or guilty[:1]
    found: list[Blocker] = []
    for name in named:
        files = _files(request, name)
        allow_linux = request.options.allow_linux_wheels
        excluded = [f"=={version}" for version in sorted(failure.excluded[name])]
        for specifier in (f"=={asked}" if asked and name == named[0] else "", *excluded):
            blocked = explain.blocker(name, specifier, target, files, allow_linux=allow_linux)
            if blocked is not None:
                found.append(blocked._replace(needed_by=_needing(request, name, flat(failure.stderr))))
                break
    return tuple(found)


def _files(request: Request, name: str) -> tuple[IndexFile, ...]:
    try:
        return request.client.files(name)
    except FetchError:
        return ()


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
