"""Writes `pylock.toml` (PEP 751): the same text for the same lock, on every host.

The few forms a lock has are written here rather than by a TOML library: the layout (one wheel a line, keys in the
order of the specification) is what makes a diff of two locks readable, and a library of ours fewer.
"""

from __future__ import annotations

import os
import re
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import ManylambdaError, PackagingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.pylock import Package, Pylock

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: Final = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def dumps(pylock: Pylock) -> str:
    """Give the text of a lock, ending in a newline. Paths are written as they are (see `rebase`)."""
    lines = [f"lock-version = {_value(str(pylock.lock_version))}"]
    if pylock.environments:
        lines += ["environments = [", *(f"    {_value(str(marker))}," for marker in pylock.environments), "]"]
    if pylock.requires_python is not None:
        lines.append(f"requires-python = {_value(str(pylock.requires_python))}")
    for key, names in (
        ("extras", pylock.extras),
        ("dependency-groups", pylock.dependency_groups),
        ("default-groups", pylock.default_groups),
    ):
        if names is not None:
            lines.append(f"{key} = {_value(list(names))}")
    lines.append(f"created-by = {_value(pylock.created_by)}")
    for package in pylock.packages:
        lines += ["", "[[packages]]", *_package(package)]
    for name, table in sorted((pylock.tool or {}).items()):
        lines += ["", f"[tool.{_key(name)}]", *(f"{_key(key)} = {_value(item)}" for key, item in table.items())]
    return "\n".join(lines) + "\n"


def write_lock(pylock: Pylock, path: Path, *, base: Path) -> None:
    """Write a lock whose paths are relative to `base`, at once or not at all. Raises `PackagingError`."""
    text = dumps(rebase(pylock, base, path.absolute().parent))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PackagingError(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from error


def rebase(pylock: Pylock, old: Path, new: Path) -> Pylock:
    """Rewrite the relative paths of a lock for another folder. Absolute paths become relative where they can."""
    import dataclasses

    def moved(part: Any) -> Any:
        if part is None or part.path is None:
            return part
        return dataclasses.replace(part, path=relative_path(old / part.path, new))

    packages = [
        dataclasses.replace(
            package,
            directory=moved(package.directory),
            archive=moved(package.archive),
            vcs=moved(package.vcs),
            sdist=moved(package.sdist),
            wheels=[moved(wheel) for wheel in package.wheels] if package.wheels is not None else None,
        )
        for package in pylock.packages
    ]
    return dataclasses.replace(pylock, packages=packages)


def relative_path(path: Path, base: Path) -> str:
    """Give a path relative to a folder, with `/`; absolute only where another drive leaves no choice."""
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:
        return path.as_posix()


def _package(package: Package) -> Iterable[str]:
    from packaging.pylock import Pylock
    from packaging.version import Version

    # packaging knows the keys and their values' forms; it only writes whole locks.
    whole = Pylock(lock_version=Version("1.0"), created_by="", packages=[package]).to_dict()
    for key, value in whole["packages"][0].items():
        if key in {"wheels", "dependencies", "attestation-identities"} and len(value) > 1:
            yield f"{key} = ["
            yield from (f"    {_value(item)}," for item in value)
            yield "]"
        elif value != [] or key != "wheels":
            yield f"{key} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f'"{_escaped(value)}"'
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case dict():
            return _table(value)
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _:
            raise ManylambdaError(f"a lock cannot hold a value of type `{type(value).__name__}`")


def _table(table: Mapping[str, object]) -> str:
    inner = ", ".join(f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)
    return f"{{ {inner} }}" if inner else "{}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else f'"{_escaped(key)}"'


def _escaped(text: str) -> str:
    return "".join(
        _ESCAPES.get(character)
        or (f"\\u{ord(character):04X}" if ord(character) < 0x20 or character == "\x7f" else character)
        for character in text
    )
