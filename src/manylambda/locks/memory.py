"""What a lock gave a target the last time: choosing from the same bytes for the same target is not done twice.

Kept in the cache under the hash of everything that decides: the bytes of the lock and of the projects it is held
against, the target's tags and markers, and the user's options. For locks that do not say where their files lie it saves
asking the indexes, too, so that a build from them works offline.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manylambda.locks import origin
from manylambda.locks.discovery import base_folder, deciding_files
from manylambda.locks.model import LocalPackage, Pin, Selection, SourceKind, WheelFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.pylock import Pylock

    from manylambda.fetch.cache import Cache
    from manylambda.locks.model import ResolveOptions, Source
    from manylambda.target import Target

_KIND: Final = "selection"
_WITHOUT_ADDRESSES: Final = (SourceKind.POETRY, SourceKind.PDM)
_VERSION: Final = 5
"""Goes up whenever the same lock may give another selection than before."""


class Memory:
    """The selections of one source; remembers nothing for a source that is not a lock."""

    def __init__(self, source: Source, options: ResolveOptions, cache: Cache) -> None:
        self._cache = cache
        self._options = options
        self._file = source.files[0] if source.files else source.project
        self._seed: str | None = None
        if files := deciding_files(source):
            self._seed = "\n".join(
                (
                    *(f"{file} {_digest(file)}" for file in files),
                    str(base_folder(source)),  # relative paths in the lock start here
                    *(_index_settings(options) if source.kind in _WITHOUT_ADDRESSES else ()),
                    *(f"extra {name}" for name in sorted(options.extras)),
                    *(f"group {name}" for name in sorted(options.groups)),
                    *(f"sdist {name}" for name in sorted(options.allow_sdists)),
                    f"linux {options.allow_linux_wheels}",
                )
            )

    def recall(self, target: Target) -> Selection | None:
        """Return what was chosen before, if it was."""
        if self._seed is None:
            return None
        found = self._cache.read_facts(_KIND, _VERSION, self._key(target))
        if not isinstance(found, dict):
            return None
        if found["recorded"]:  # the lock is as it was, but the project it was made from may have changed
            origin.check(found["recorded"], self._options, self._file)
        return _from_json(found["selection"], target)

    def keep(self, selection: Selection, pylock: Pylock) -> None:
        """Remember a selection; one with source distributions is not: building them is another matter."""
        if self._seed is not None and not selection.sdists:
            recorded = (pylock.tool or {}).get("manylambda")
            told = {"selection": _to_json(selection), "recorded": recorded}
            self._cache.write_facts(_KIND, _VERSION, self._key(selection.target), told)

    def _key(self, target: Target) -> str:
        decisive = (self._seed or "", str(target), *target.tag_strings(), repr(sorted(target.markers.items())))
        return sha256("\n".join(decisive).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "absent"


def _index_settings(options: ResolveOptions) -> Iterator[str]:
    """Yield what the environment says of indexes, but for logins: elsewhere a file may lie elsewhere."""
    from manylambda.locks.program import without_credentials

    for name, value in sorted(options.environment.items()):
        if re.fullmatch(r"(UV|PIP)_\w*(INDEX|FIND_LINKS)\w*(?<!_USERNAME)(?<!_PASSWORD)", name):
            yield f"{name}={without_credentials(value)}"


def _to_json(selection: Selection) -> dict[str, Any]:
    return {
        "pins": [
            (
                pin.name,
                pin.version,
                pin.index,
                pin.wheel.filename,
                pin.wheel.url,
                None if pin.wheel.path is None else str(pin.wheel.path),
                dict(pin.wheel.hashes),
                pin.wheel.size,
                pin.compiled_for,
                pin.brings_library,
            )
            for pin in selection.pins
        ],
        "local": [(package.name, str(package.directory)) for package in selection.local],
    }


def _from_json(data: dict[str, Any], target: Target) -> Selection:
    pins = tuple(
        Pin(
            name=name,
            version=version,
            index=index,
            wheel=WheelFile(
                filename=filename, url=url, path=None if path is None else Path(path), hashes=hashes, size=size
            ),
            compiled_for=tuple(compiled_for),
            brings_library=library,
        )
        for name, version, index, filename, url, path, hashes, size, compiled_for, library in data["pins"]
    )
    local = tuple(LocalPackage(name=name, directory=Path(directory)) for name, directory in data["local"])
    return Selection(target=target, pins=pins, local=local)
