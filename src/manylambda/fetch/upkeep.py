"""What the cache holds, how large it is, and how what was not used for long is removed.

Beside a running build this is safe without a lock: whoever uses something notes it (`Cache.use`), and what was used
within the last hour stays. A file goes at once, a folder is moved aside first, so that a half of it is never found;
what a killed removal leaves aside, the next sweep takes. Only what is of a known kind is touched, no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.fetch.cache import TAG, remove, unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.fetch.cache import Cache

HOUR: Final = 3600.0
DAY: Final = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of what the cache holds."""

    name: str
    """A word, for programs: `wheels`."""
    title: str
    patterns: tuple[str, ...]
    """Where its entries lie, below `Cache.base`; an entry is removed as a whole."""
    is_unfinished: bool = False
    """Whether somebody may be writing it for hours: it goes when it is a day old."""


KINDS: Final = (
    Kind(name="wheels", title="wheels and source distributions", patterns=("wheels/*/*",)),
    Kind(name="images", title="parts of container images", patterns=("blobs/sha256/*/*",)),
    Kind(name="tools", title="compilers and their caches", patterns=("tools/*",)),
    Kind(
        name="trials",
        title="root file systems and bytecode of trials",
        patterns=("trial/roots/*", "trial/libraries/*", "trial/scripts-*", "trial/bytecode-*/*/*/*", "runtimes/*"),
    ),
    Kind(name="facts", title="facts about wheels, locks and images", patterns=("facts/*/*/*", "stand-ins/*")),
    Kind(
        name="unfinished",
        title="unfinished downloads and builds",
        patterns=("incoming/*", "builds/*", "trial/scratch/*"),
        is_unfinished=True,
    ),
)


class Held(NamedTuple):
    """Entries of one kind, counted."""

    kind: Kind
    entries: int
    size: int
    """Bytes of their files."""
    used: float | None
    """When one of them was last used, in seconds since the epoch; None where there are none."""


class Pruned(NamedTuple):
    """What a removal took, or would take, and what is left, both by kind."""

    removed: tuple[Held, ...]
    kept: tuple[Held, ...]


class _Entry(NamedTuple):
    path: Path
    size: int
    used: float


def held(cache: Cache) -> tuple[Held, ...]:
    """Count what the cache holds, by kind."""
    return tuple(_counted(kind, _entries(cache.base, kind)) for kind in KINDS)


def prune(cache: Cache, older_than: float, *, dry_run: bool = False) -> Pruned:
    """Remove what was not used for `older_than` seconds, an hour at least; `dry_run` only says what that would be.

    Raises RequestError where the folder is not marked as a cache of ours, FetchError where it may not be written to.
    """
    if not cache.base.exists():
        return Pruned(held(cache), held(cache))
    with contextlib.suppress(OSError):
        if (cache.root / "CACHEDIR.TAG").read_bytes() == TAG:
            return _pruned(cache, max(older_than, HOUR), dry_run=dry_run)
    raise RequestError(
        f"`{cache.root}` is not marked as a cache of manylambda: it has no `CACHEDIR.TAG` of ours",
        hint="is `MANYLAMBDA_CACHE_DIR` right? nothing was removed",
    )


def _pruned(cache: Cache, older_than: float, *, dry_run: bool) -> Pruned:
    removed, kept = [], []
    now = time.time()
    for kind in KINDS:
        limit = now - (max(older_than, DAY) if kind.is_unfinished else older_than)
        gone: list[_Entry] = []
        left: list[_Entry] = []
        for entry in _entries(cache.base, kind):
            is_gone = entry.used < limit and (dry_run or _removed(cache, entry, kind))
            (gone if is_gone else left).append(entry)
        removed.append(_counted(kind, gone))
        kept.append(_counted(kind, left))
    return Pruned(tuple(removed), tuple(kept))


def _removed(cache: Cache, entry: _Entry, kind: Kind) -> bool:
    """Remove an entry; False where it is in use after all, which Windows tells by refusing."""
    path = entry.path
    with cache.writing("a removal"):
        try:
            if not path.is_dir() or path.is_symlink() or kind.is_unfinished:
                remove(path)
            else:
                aside = cache.incoming(unique_name())
                path.rename(aside)
                with contextlib.suppress(OSError):
                    remove(aside)
        except FileNotFoundError:
            return False  # another removal, or a build that replaced it
        except PermissionError:
            if os.name != "nt":
                raise
            return False
    return True


def _entries(base: Path, kind: Kind) -> Iterator[_Entry]:
    for pattern in kind.patterns:
        for entry in _matching(str(base), pattern.split("/")):
            with contextlib.suppress(OSError):  # gone while we looked
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    size, used = _below(entry.path)
                    yield _Entry(Path(entry.path), size, max(status.st_mtime, used))
                else:
                    # Bytecode is linked to from where its date counts: of that only the access can be told.
                    yield _Entry(Path(entry.path), status.st_size, max(status.st_mtime, status.st_atime))


def _matching(folder: str, pattern: Sequence[str]) -> Iterator[os.DirEntry[str]]:
    first, *rest = pattern
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if fnmatchcase(entry.name, first):
            if not rest:
                yield entry
            elif entry.is_dir(follow_symlinks=False):
                yield from _matching(entry.path, rest)


def _below(folder: str) -> tuple[int, float]:
    """Give the bytes of all files of a folder, and the newest date of those that are not in folders of it."""
    size, newest = 0, 0.0
    seen: set[int] = set()
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - there are thousands
                if where == folder:
                    newest = max(newest, status.st_mtime)
                if status.st_nlink > 1:
                    if status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                size += status.st_size
    return size, newest


def _counted(kind: Kind, entries: Iterator[_Entry] | Sequence[_Entry]) -> Held:
    found = list(entries)
    return Held(kind, len(found), sum(one.size for one in found), max((one.used for one in found), default=None))
