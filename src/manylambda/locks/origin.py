"""What a lock of ours was made from, so that one that no longer matches its project is noticed.

`[tool.manylambda]` of the lock holds the files, a digest of what in them decides, and the extras and groups that were
asked for. Comments and settings that have no say in resolving do not count.
"""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from manylambda.errors import LockOutdated
from manylambda.locks.documents import is_piped, load
from manylambda.locks.model import SourceKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from manylambda.locks.model import ResolveOptions, Source

_NESTED: Final = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)")
_DECIDING_UV_KEYS: Final = (
    "sources",
    "index",
    "index-url",
    "extra-index-url",
    "find-links",
    "constraint-dependencies",
    "override-dependencies",
)


def describe(source: Source, options: ResolveOptions, lock: Path) -> dict[str, object]:
    """Return what `[tool.manylambda]` says of the origin of a lock that will lie at `lock`."""
    told: dict[str, object] = {}
    if options.extras:
        told["extras"] = sorted(options.extras)
    if options.groups:
        told["groups"] = sorted(options.groups)
    files = [file for file in source.files if not is_piped(file)]
    if files and len(files) == len(source.files):
        told["sources"] = [os.path.relpath(file, lock.absolute().parent).replace(os.sep, "/") for file in files]
        told["sources-sha256"] = _digest(files)
    return told


def check(recorded: Mapping[str, object], options: ResolveOptions, lock: Path) -> None:
    """Raise LockOutdated when the files a lock was made from say something else now, or other extras are asked for.

    `recorded` is the lock's `[tool.manylambda]`. Files that are not there are not missed: a lock may travel alone.
    """
    for word, asked in (("extras", options.extras), ("groups", options.groups)):
        made_with = _texts(recorded.get(word))
        if frozenset(made_with) != asked:
            raise LockOutdated(
                f"`{lock.name}` was made with {_listed(word, made_with)}, not with {_listed(word, sorted(asked))}",
                hint="run `manylambda lock` with the same extras and groups",
            )
    names, digest = _texts(recorded.get("sources")), recorded.get("sources-sha256")
    files = [lock.parent / name for name in names]
    if not files or not all(file.is_file() for file in files) or _digest(files) == digest:
        return
    shown = ", ".join(f"`{name}`" for name in names)
    raise LockOutdated(f"`{lock.name}` does not match {shown}, which changed since", hint="run `manylambda lock`")


def _digest(files: Sequence[Path]) -> str:
    digest = sha256()
    for file in files:
        for line in _pyproject(file) if file.name == SourceKind.PYPROJECT.value else _deciding(file, set()):
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _pyproject(file: Path) -> Iterator[str]:
    document = load(file)
    project, uv = document.table("project"), document.table("tool", "uv")
    deciding = {
        **{key: project.get(key) for key in ("requires-python", "dependencies", "optional-dependencies")},
        "groups": document.get("dependency-groups"),
        **{key: uv.get(key) for key in _DECIDING_UV_KEYS},
    }
    yield json.dumps(deciding, sort_keys=True, default=str)


def _deciding(file: Path, seen: set[Path]) -> Iterator[str]:
    """Yield the lines of a requirements file, or of another lock, and of the files it names, without comments."""
    seen.add(file)
    for line in _lines(file):
        text = line if _is_lock(file) else re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        yield text
        if not _is_lock(file) and (nested := _NESTED.match(text)):
            inner = file.parent / nested[1]
            if inner.is_file() and inner not in seen:
                yield from _deciding(inner, seen)


def _is_lock(file: Path) -> bool:
    return file.suffix in {".lock", ".toml"} and file.name != SourceKind.PYPROJECT.value


def _lines(file: Path) -> list[str]:
    return file.read_bytes().decode("utf-8", "surrogateescape").splitlines()


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _listed(word: str, names: Collection[str]) -> str:
    return f"the {word} {', '.join(f'`{name}`' for name in names)}" if names else f"no {word}"
