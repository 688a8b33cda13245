"""What a lock gave a target the last time: choosing from the same bytes for the same target is not done twice.

Kept in the cache under the hash of everything that decides: the lock's bytes, the target's tags and markers, and the
user's options. Only a `pylock.toml` is decided by one file; other locks must be held against their project every time.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manylambda.lock.model import LocalPackage, Pin, Selection, SourceKind, WheelFile

if TYPE_CHECKING:
    from manylambda.fetch.cache import Cache
    from manylambda.lock.model import ResolveOptions, Source
    from manylambda.target import Target

_KIND: Final = "selection"
_VERSION: Final = 1
"""Goes up whenever the same lock may give another selection than before."""


class Memory:
    """The selections of one source; remembers nothing for a source that more than one file decides."""

    def __init__(self, source: Source, options: ResolveOptions, cache: Cache) -> None:
        self._cache = cache
        self._seed: str | None = None
        if source.kind is SourceKind.PYLOCK:
            (file,) = source.files
            self._seed = "\n".join(
                (
                    sha256(file.read_bytes()).hexdigest(),
                    str(file.parent),  # relative paths in the lock start here
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
        return _from_json(found, target) if isinstance(found, dict) else None

    def keep(self, selection: Selection) -> None:
        """Remember a selection; one with source distributions is not: building them is another matter."""
        if self._seed is not None and not selection.sdists:
            self._cache.write_facts(_KIND, _VERSION, self._key(selection.target), _to_json(selection))

    def _key(self, target: Target) -> str:
        decisive = (self._seed or "", str(target), *target.tag_strings(), repr(sorted(target.markers.items())))
        return sha256("\n".join(decisive).encode("utf-8", "surrogateescape")).hexdigest()


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
        )
        for name, version, index, filename, url, path, hashes, size in data["pins"]
    )
    local = tuple(LocalPackage(name=name, directory=Path(directory)) for name, directory in data["local"])
    return Selection(target=target, pins=pins, local=local)
