"""Reads `pylock.toml` (PEP 751); the parsing itself is `packaging`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda.errors import LockOutdated, RequestError
from manylambda.locks import origin
from manylambda.locks.documents import load
from manylambda.locks.program import without_credentials
from manylambda.locks.pyproject import checked_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.pylock import Pylock

    from manylambda.locks.model import ResolveOptions, Source
    from manylambda.target import Target


def read(source: Source, targets: Sequence[Target], options: ResolveOptions) -> Pylock:
    """Read and validate the `pylock.toml` of `source`; relative paths in it stay relative to its folder.

    RequestError for a malformed file (the message has the path of keys) and for an extra or group it does not know;
    LockOutdated when it says for which targets it was made and one of `targets` is not among them, or when it no longer
    matches what it was made from.
    """
    document = load(source.files[0])
    pylock = parse(document.values, name=document.file.name)
    made_for = document.table("tool", "manylambda").texts("targets")
    missing = [str(target) for target in targets if made_for and str(target) not in made_for]
    if missing:
        wanted = " ".join(f"-t {name}" for name in sorted({*made_for, *missing}))
        raise LockOutdated(
            f"`{document.file.name}` was not made for "
            + ", ".join(f"`{name}`" for name in missing)
            + "; it was for "
            + ", ".join(f"`{name}`" for name in made_for),
            hint=f"run `manylambda lock {wanted}`",
        )
    recorded = document.table("tool", "manylambda").values
    if recorded:
        origin.check(recorded, options, document.file)
        return pylock
    checked_names("extra", options.extras, pylock.extras or ())
    checked_names("group", options.groups, pylock.dependency_groups or ())
    return pylock


def parse(document: Mapping[str, object], *, name: str) -> Pylock:
    """Validate a parsed lock, stripping credentials from its URLs; `name` is the file's, for errors."""
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    try:
        return Pylock.from_dict(_stripped(document))
    except PylockUnsupportedVersionError as error:
        raise RequestError(f"`{name}` has an unknown format version: {error}", hint="upgrade manylambda") from error
    except PylockValidationError as error:
        where = f" at `{error.context}`" if error.context else ""
        raise RequestError(f"`{name}` is not a valid lock{where}: {_lowered(error.message)}") from error


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _stripped(value: Mapping[str, object]) -> dict[str, object]:
    return {key: _strip(item, key) for key, item in value.items()}


def _strip(value: object, key: str) -> object:
    if isinstance(value, dict):
        return _stripped(value)
    if isinstance(value, list):
        return [_strip(item, key) for item in value]
    if isinstance(value, str) and key in {"url", "index"}:
        return without_credentials(value)
    return value
