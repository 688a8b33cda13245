"""The wheels of a build: fetched or found in the cache, inspected once in their life, hashed on every use.

What is shipped is what the lock names: `confirm` hashes every wheel a build copies from, while it is being copied.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import HashMismatch, ManylambdaError
from manylambda.fetch.cache import hash_file, unique_name
from manylambda.wheels.inventory import INVENTORY_VERSION, Inventory, Member, inspect, needs_repack, repack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.fetch.download import Download
    from manylambda.locks.model import Pin, WheelFile

_KIND: Final = "inventory"


class CacheDamaged(ManylambdaError):
    """A file of the cache is not what it was; it has been removed, and the build can be tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWheel:
    """A wheel in the cache, with all that is known of it."""

    filename: str
    """As the index names it."""
    sha256: str
    """Of the wheel as published."""
    size: int
    """Bytes of the wheel as published."""
    inventory: Inventory
    facts: Mapping[str, Any]
    """What floors above derived from the wheel's bytes, by kind; see `Wheelhouse.derive`."""


class Wheelhouse:
    """Gives inspected wheels for pins, from the cache where it can."""

    def __init__(
        self,
        *,
        cache: Cache,
        fetch: Callable[[Sequence[Download]], Mapping[Download, Path]],
        derive: Mapping[str, tuple[int, Callable[[Inventory], Any]]] | None = None,
    ) -> None:
        """Use `fetch` for what is not in the cache.

        `derive` maps a kind of facts to its version and the function that makes them from an inventory.
        """
        self._cache = cache
        self._fetch = fetch
        self._derive = dict(derive or {})
        self._hashes: dict[Path, str] = {}
        self._hashed: dict[Path, str] = {}
        self._wrong: set[Path] = set()
        self._hashing: threading.Thread | None = None
        self._lock = threading.Lock()

    def get(self, pins: Iterable[Pin]) -> dict[tuple[str, str], StoredWheel]:
        """Return the wheels by (name, file name); raises FetchError, HashMismatch or UnsafeArchive."""
        wanted = {(pin.name, pin.wheel.filename): pin.wheel for pin in pins}
        found = self._found(wanted)
        return {key: self._stored(wanted[key], *found[key]) for key in sorted(found)}

    def fetch(self, pins: Iterable[Pin]) -> None:
        """Fetch what is not in the cache, all of it at once; raises FetchError or HashMismatch."""
        self._found({(pin.name, pin.wheel.filename): pin.wheel for pin in pins})

    def _found(self, wanted: Mapping[tuple[str, str], WheelFile]) -> dict[tuple[str, str], tuple[str, Path]]:
        """Return the hash and the place of each wheel, fetched where it was not there."""
        found: dict[tuple[str, str], tuple[str, Path]] = {}
        missing: dict[tuple[str, str], Download] = {}
        for key, wheel in wanted.items():
            sha256 = wheel.hashes.get("sha256")
            if sha256 and (path := self._cache.wheel_path(sha256, wheel.filename)).is_file():
                found[key] = (sha256, path)
            else:
                missing[key] = _download(wheel)
        if missing:
            fetched = self._fetch(list(dict.fromkeys(missing.values())))
            for key, download in missing.items():
                path = fetched[download]
                found[key] = (download.sha256 or path.parent.name, path)
        return found

    def hash_ahead(self, pins: Iterable[Pin]) -> None:
        """Begin to hash, in a thread, what lies in the cache for `pins`; `confirm` asks for the result."""
        known: dict[Path, str] = {}
        for pin in pins:
            if sha256 := pin.wheel.hashes.get("sha256"):
                path = self._cache.wheel_path(sha256, pin.wheel.filename)
                if path.is_file():
                    known[path] = sha256

        def work() -> None:
            self._wrong.update(self._cache.verify_all(known))
            self._hashed.update(known)

        self._hashing = threading.Thread(target=work, daemon=True)
        self._hashing.start()

    def kept(self, file: Path) -> StoredWheel:
        """Return a wheel that was built here and lies in the cache."""
        return self._stored(None, file.parent.name, file)

    def identities(self, stored: Iterable[StoredWheel]) -> dict[Path, str]:
        """Return the sha256 of each file that `stored` copies from."""
        return {wheel.inventory.file: self._hashes[wheel.inventory.file] for wheel in stored}

    def confirm(self, stored: Iterable[StoredWheel]) -> None:
        """Hash every file that `stored` copies from; a damaged one is removed and `CacheDamaged` raised."""
        files = self.identities(stored)
        with self._lock:  # packages of several targets share wheels: each is hashed once a build
            if self._hashing is not None:
                self._hashing.join()
            remaining = {path: sha256 for path, sha256 in files.items() if self._hashed.get(path) != sha256}
            self._wrong.update(self._cache.verify_all(remaining))
            self._hashed.update(remaining)
        damaged = sorted(path for path in self._wrong if path in files)
        for path in damaged:
            self._cache.discard(path)
        if damaged:
            names = ", ".join(f"`{path.name}`" for path in damaged)
            raise CacheDamaged(f"damaged in the cache: {names}", hint="run the command again: they are fetched anew")

    def _stored(self, wheel: WheelFile | None, sha256: str, path: Path) -> StoredWheel:
        filename = wheel.filename if wheel else path.name
        if wheel is not None:
            _check_other_hashes(wheel, path)
        facts = self._cache.read_facts(_KIND, INVENTORY_VERSION, sha256)
        if isinstance(facts, dict):
            file = path if facts["repacked"] is None else self._cache.wheel_path(facts["repacked"], filename)
            if file.is_file():
                inventory = Inventory.from_json(facts["inventory"], file)
                self._hashes[file] = facts["repacked"] or sha256
                return self._with_facts(filename, sha256, path, inventory)
        return self._inspected(filename, sha256, path)

    def _inspected(self, filename: str, sha256: str, path: Path) -> StoredWheel:
        if not self._cache.verify(path, sha256):
            self._cache.discard(path)
            raise CacheDamaged(f"damaged in the cache: `{path.name}`", hint="run the command again: it is fetched anew")
        repacked: str | None = None
        file = path
        if needs_repack(path):
            repacked, file = self._repacked(path, filename)
        inventory = inspect(file, filename)
        self._cache.write_facts(
            _KIND, INVENTORY_VERSION, sha256, {"inventory": inventory.to_json(), "repacked": repacked}
        )
        self._hashes[file] = repacked or sha256
        return self._with_facts(filename, sha256, path, inventory)

    def _repacked(self, file: Path, filename: str) -> tuple[str, Path]:
        with self._cache.writing(filename):
            copy = self._cache.incoming(unique_name())
            repack(file, copy)
            sha256 = hash_file(copy)
            return sha256, self._cache.keep(copy, sha256, filename)

    def _with_facts(self, filename: str, sha256: str, path: Path, inventory: Inventory) -> StoredWheel:
        derived: dict[str, Any] = {}
        for kind, (version, make) in self._derive.items():
            facts = self._cache.read_facts(kind, version, sha256)
            if facts is None:
                facts = make(inventory)
                self._cache.write_facts(kind, version, sha256, facts)
            derived[kind] = facts
        return StoredWheel(
            filename=filename, sha256=sha256, size=path.stat().st_size, inventory=inventory, facts=derived
        )


def known_unzipped_size(wheel: WheelFile, cache: Cache) -> int | None:
    """Return the bytes of a wheel's files, uncompressed; None where it was never inspected here."""
    sha256 = wheel.hashes.get("sha256")
    facts = cache.read_facts(_KIND, INVENTORY_VERSION, sha256) if sha256 else None
    return sum(Member._make(one).size for one in facts["inventory"]["members"]) if isinstance(facts, dict) else None


def _download(wheel: WheelFile) -> Download:
    from manylambda.fetch.download import Download

    url = wheel.url if wheel.path is None else wheel.path.as_uri()
    assert url is not None
    return Download(url=url, filename=wheel.filename, sha256=wheel.hashes.get("sha256"), size=wheel.size)


def _check_other_hashes(wheel: WheelFile, path: Path) -> None:
    """Check the sha384 or sha512 of a wheel whose lock names no sha256."""
    if not wheel.hashes or "sha256" in wheel.hashes:
        return
    from hashlib import file_digest

    for algorithm in ("sha512", "sha384"):
        if expected := wheel.hashes.get(algorithm):
            with path.open("rb") as stream:
                if file_digest(stream, algorithm).hexdigest() != expected:
                    raise HashMismatch(f"`{wheel.filename}` is not the file the lock names: its {algorithm} differs")
            return
    raise HashMismatch(
        f"the lock has no hash for `{wheel.filename}` that can be trusted: {', '.join(sorted(wheel.hashes))}",
        hint="lock again with sha256 hashes",
    )
