"""What file names do not tell of the wheels that were chosen: unzipped sizes, and the languages of binaries.

Both are kept by the wheel's sha256. Of wheels that were fetched before they are read at once; of others only on the
user's word: for the sizes the directory at the end of each, for the languages one wheel of each release, since source
code is the same for every target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import ManylambdaError
from manylambda.fetch.cache import Cache
from manylambda.locks.compatibility import is_compiled
from manylambda.pipeline import dependencies
from manylambda.wheels.directory import LIKELY, Longer, unzipped_size
from manylambda.wheels.wheelhouse import Wheelhouse, known_unzipped_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.locks.model import Pin, Selection, Source
    from manylambda.progress import Progress
    from manylambda.wheels.inventory import Inventory

_KIND: Final = "unzipped"
_VERSION: Final = 2
_PARALLEL: Final = 8


class Inspection(NamedTuple):
    """What is known of wheels; what is not known is left out."""

    sizes: Mapping[str, int]
    """File name -> bytes of its files, uncompressed."""
    languages: Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]]
    """Name and version -> path of a native file -> its languages, none where it does not show any."""

    def languages_of(self, pin: Pin) -> tuple[str, ...] | None:
        """Return the languages of a distribution, sorted; None where none of its wheels was read."""
        found = self.languages.get((pin.name, pin.version))
        return None if found is None else tuple(sorted({one for each in found.values() for one in each}))


def inspect(
    selections: Iterable[Selection], source: Source, settings: Settings, progress: Progress, *, fetch: bool
) -> Inspection:
    """Tell what is known of the wheels of `selections`; with `fetch`, ask for what is not. Raises FetchError."""
    pins = {pin.wheel.filename: pin for selection in selections for pin in selection.pins}
    cache = Cache.default()
    fetch = fetch and not settings.offline
    sizes = {name: size for name, pin in pins.items() if (size := known_unzipped_size(pin.wheel, cache)) is not None}
    sizes |= {name: size for name, pin in pins.items() if name not in sizes and (size := _kept(pin, cache)) is not None}
    if fetch:
        sizes |= _asked([pin for name, pin in pins.items() if name not in sizes], source, settings, cache, progress)
    house = Wheelhouse(
        cache=cache,
        fetch=lambda downloads: dependencies.fetch(downloads, source, settings, cache, progress),
        derive={"languages": _languages_of_wheels()},
    )
    chosen = _representatives(pins.values(), cache, fetch=fetch)
    if fetch:
        house.fetch(chosen)
    languages: dict[tuple[str, str], Mapping[str, tuple[str, ...]]] = {}
    for pin in chosen:
        try:
            (stored,) = house.get([pin]).values()
        except ManylambdaError as error:  # told in full by whoever builds with it
            progress.warning(f"`{pin.wheel.filename}` is not inspected: {error.message}")
            continue
        sizes.setdefault(pin.wheel.filename, stored.inventory.unzipped_size)
        told = sorted(stored.facts["languages"].items())
        languages[pin.name, pin.version] = {path: tuple(found) for path, found in told}
    return Inspection(sizes, languages)


def _representatives(pins: Iterable[Pin], cache: Cache, *, fetch: bool) -> list[Pin]:
    """Choose one compiled wheel of each release: one that is there, else the smallest."""

    def is_there(pin: Pin) -> bool:
        sha256 = pin.wheel.hashes.get("sha256")
        return sha256 is not None and cache.wheel_path(sha256, pin.wheel.filename).is_file()

    best: dict[tuple[str, str], tuple[bool, int, str, Pin]] = {}
    for pin in pins:
        if is_compiled(pin.wheel.filename):
            found = (not is_there(pin), pin.wheel.size or 0, pin.wheel.filename, pin)
            best[pin.name, pin.version] = min(found, best.get((pin.name, pin.version), found), key=lambda one: one[:3])
    return [pin for is_missing, _, _, pin in best.values() if fetch or not is_missing]


def _languages_of_wheels() -> tuple[int, Callable[[Inventory], dict[str, tuple[str, ...]]]]:
    from manylambda.audits.languages import LANGUAGES_VERSION, languages
    from manylambda.wheels.layout import package_tree

    return LANGUAGES_VERSION, lambda inventory: languages(package_tree(inventory, interpreter="", scripts=True))


# Sizes


def _kept(pin: Pin, cache: Cache) -> int | None:
    """Return what was asked for before, or what a wheel of this machine says."""
    if pin.wheel.path is not None:
        file = pin.wheel.path
        return _size(lambda length: _end_of_file(file, length))
    sha256 = pin.wheel.hashes.get("sha256")
    found = cache.read_facts(_KIND, _VERSION, sha256) if sha256 else None
    return found if isinstance(found, int) else None


def _asked(pins: list[Pin], source: Source, settings: Settings, cache: Cache, progress: Progress) -> dict[str, int]:
    """Ask for the directory of each wheel; those of a server that gives files only whole stay unknown."""
    remote = [pin for pin in pins if pin.wheel.url and pin.wheel.url.startswith(("http://", "https://"))]
    if not remote:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    from manylambda.fetch import Client
    from manylambda.fetch.tail import read_tail

    credentials, http = dependencies.http(source, settings)
    task = progress.task("inspect", "wheels", len(remote), unit="items")
    with Client(http, credentials) as client:

        def size(pin: Pin) -> int | None:
            try:
                return _size(lambda length: read_tail(pin.wheel.url or "", length, client))
            finally:
                task.advance(1)

        with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
            found = dict(zip((pin.wheel.filename for pin in remote), pool.map(size, remote), strict=True))
    task.finish()
    for pin in remote:
        sha256, told = pin.wheel.hashes.get("sha256"), found[pin.wheel.filename]
        if sha256 and told is not None:
            cache.write_facts(_KIND, _VERSION, sha256, told)
    return {name: told for name, told in found.items() if told is not None}


def _size(end: Callable[[int], bytes | None]) -> int | None:
    """Add up the directory of a wheel, of which `end` gives the last so many bytes."""
    length = LIKELY
    for _ in range(2):
        data = end(length)
        found = unzipped_size(data) if data is not None else None
        if not isinstance(found, Longer):
            return found
        length = found.length
    return None


def _end_of_file(file: Path, length: int) -> bytes | None:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - length))
            return stream.read(length)
    except OSError:  # told by whoever needs the file itself
        return None
