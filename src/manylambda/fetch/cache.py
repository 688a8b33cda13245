"""The cache folder: files by their sha256, and facts derived from them.

Knows nothing of HTTP. Whatever lies here is checked again at every use, so nothing is flushed to disk and a torn,
edited or half-written file is noticed, never believed.

    <root>/CACHEDIR.TAG, .gitignore
    <root>/v1/wheels/<aa>/<sha256>/<filename>      whole files only: they arrive by rename
    <root>/v1/blobs/sha256/<aa>/<sha256>           parts of container images, shared by all that have them
    <root>/v1/facts/<kind>-<version>/<aa>/<key>    a checksum line, then one JSON document
    <root>/v1/stand-ins/<name>-<digest>/           what a resolver is shown of sdists; written anew where it is missing
    <root>/v1/tools/, trial/, runtimes/            compilers; root file systems, bytecode; what a runtime brings
    <root>/v1/incoming/                            partial files, locks; swept when a day old
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LAYOUT: Final = "v1"
_DAY: Final = 86_400.0
_TRIES: Final = 3
_LATELY: Final = 600.0
"""Seconds for which a use is not noted again."""
TAG: Final = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of manylambda and may be deleted at any time.
# https://bford.info/cachedir/
"""
_FULL: Final = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Cache:
    """A cache folder; nothing is created until something is kept. Safe for several threads and processes."""

    __slots__ = ("_base", "_is_prepared", "root")

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = root / _LAYOUT
        self._is_prepared = False

    @property
    def base(self) -> Path:
        """Where all lies that this version of ours keeps."""
        return self._base

    @classmethod
    def default(cls, environment: Mapping[str, str] = os.environ) -> Cache:
        """Give the folder of `MANYLAMBDA_CACHE_DIR`, else the platform's place for caches."""
        named = environment.get("MANYLAMBDA_CACHE_DIR")
        return cls(Path(named).absolute() if named else _platform_folder(environment))

    def __repr__(self) -> str:
        return f"Cache({str(self.root)!r})"

    # Files

    def wheel_path(self, sha256: str, filename: str) -> Path:
        """Give where a file of this hash lies, whether or not it does; raises FetchError for an unsafe name."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise FetchError(f"`{filename}` has no usable sha256: `{sha256}`")
        if not re.fullmatch(r"[^\x00-\x1f/\\:*?\"<>|.][^\x00-\x1f/\\:*?\"<>|]*", filename):
            raise FetchError(f"a file has an unsafe name: `{filename!r}`")
        return self._base / "wheels" / sha256[:2] / sha256 / filename

    def blob_path(self, sha256: str) -> Path:
        """Give where a part of a container image lies, whether or not it does; `sha256` is 64 hexadecimal digits."""
        assert re.fullmatch(r"[0-9a-f]{64}", sha256)
        return self._base / "blobs" / "sha256" / sha256[:2] / sha256

    def stand_ins(self, name: str) -> Path:
        """Give the folder of stand-ins, whether or not it is there; `name` holds a hash of all that is in it."""
        return self._base / "stand-ins" / name

    @staticmethod
    def verify(path: Path, sha256: str) -> bool:
        """Say whether a file is there and has this hash."""
        try:
            is_right = hash_file(path) == sha256
        except OSError:
            return False
        Cache.use(path)
        return is_right

    @staticmethod
    def use(path: Path) -> None:
        """Note that a file or folder that lies here is used: its date tells `upkeep` what may go.

        Its time of access would not: many file systems keep none, and others are told of it by whoever looks.
        """
        with contextlib.suppress(OSError):  # a cache that can only be read serves as well
            if path.stat().st_mtime < time.time() - _LATELY:
                os.utime(path)

    def verify_all(self, files: Mapping[Path, str]) -> tuple[Path, ...]:
        """Check many files (path -> sha256) on all processors; gives those that are missing or wrong, sorted."""
        waiting = sorted(files.items(), key=lambda item: _size(item[0]))  # popped from the end: largest first
        wrong: list[Path] = []

        def work() -> None:
            while True:
                try:
                    path, sha256 = waiting.pop()
                except IndexError:
                    return
                if not self.verify(path, sha256):
                    wrong.append(path)

        # Plain threads: an executor costs a warm build 10 ms of imports.
        threads = [threading.Thread(target=work) for _ in range(min(len(files), os.cpu_count() or 1) - 1)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
        return tuple(sorted(wrong))

    def discard(self, path: Path) -> None:
        """Remove a file of this cache that turned out to be wrong; raises FetchError when it cannot be."""
        with self.writing(path.name):
            path.unlink(missing_ok=True)

    def incoming(self, name: str) -> Path:
        """Give the path of a file being written; `keep` takes it from there. Raises OSError."""
        folder = self._base / "incoming"
        if not self._is_prepared:
            folder.mkdir(parents=True, exist_ok=True)
            for marker, content in (("CACHEDIR.TAG", TAG), (".gitignore", b"*\n")):
                with contextlib.suppress(FileExistsError), (self.root / marker).open("xb") as file:
                    file.write(content)
            self._is_prepared = True
        return folder / name

    def keep(self, temporary: Path, sha256: str, filename: str) -> Path:
        """Move a whole, verified file to its place, at once or not at all. Raises OSError."""
        return _move(temporary, self.wheel_path(sha256, filename))

    def keep_blob(self, temporary: Path, sha256: str) -> Path:
        """Move a whole, verified part of a container image to its place. Raises OSError."""
        return _move(temporary, self.blob_path(sha256))

    @contextlib.contextmanager
    def writing(self, label: str) -> Iterator[None]:
        """Turn a failure to write here into an error that says what to do."""
        try:
            yield
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            if error.errno in _FULL:
                hint = f"free some space, or set `MANYLAMBDA_CACHE_DIR` to a folder on another disk than `{self.root}`"
            else:
                hint = f"make `{self.root}` writable, or set `MANYLAMBDA_CACHE_DIR` to a folder that is"
            raise FetchError(f"`{label}` cannot be written to the cache: {reason}", hint=hint) from error

    # Facts

    def read_facts(self, kind: str, version: int, key: str) -> object | None:
        """Give the document kept under a key, or None when there is none or it is not as it was written."""
        name = _fact_name(key)
        path = self._fact_path(kind, version, name)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        checksum, _, body = content.partition(b"\n")
        if checksum != _checksum(kind, version, name, body):
            return None
        self.use(path)
        document: object = json.loads(body)
        return document

    def write_facts(self, kind: str, version: int, key: str, document: object) -> bool:
        """Keep a JSON document under a key; says whether it could: a build does not fail for want of a memory.

        `kind` is a word, `version` is that of the document's shape, `key` is any text (best a sha256).
        """
        name = _fact_name(key)
        body = json.dumps(document, separators=(",", ":")).encode("ascii")
        try:
            temporary = self.incoming(unique_name())
            try:
                temporary.write_bytes(_checksum(kind, version, name, body) + b"\n" + body)
                _move(temporary, self._fact_path(kind, version, name))
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        except OSError:
            return False
        return True

    def _fact_path(self, kind: str, version: int, name: str) -> Path:
        return self._base / "facts" / f"{kind}-{version}" / name[:2] / name

    # Upkeep

    def sweep(self, *, older_than: float = _DAY, at_most_every: float = _DAY) -> None:
        """Remove what killed runs left half-done, unless that was done lately."""
        limit = time.time() - older_than
        with contextlib.suppress(OSError):  # housekeeping: whoever can, does
            mark = self.incoming("swept")
            if mark.exists() and mark.stat().st_mtime > time.time() - at_most_every:
                return
            mark.write_bytes(b"")
            for path in mark.parent.iterdir():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < limit:
                        remove(path)


def hash_file(path: Path) -> str:
    """Give the sha256 of a file as lower-case hex. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what is behind a link stays. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink()


def unique_name() -> str:
    """Give a file name nobody else uses."""
    return f"{os.getpid()}-{os.urandom(8).hex()}.tmp"


def _move(temporary: Path, path: Path) -> Path:
    try:
        for _ in range(_TRIES):
            try:
                temporary.replace(path)
                break
            except FileNotFoundError:  # there is no folder yet, or a removal has just taken it
                path.parent.mkdir(parents=True, exist_ok=True)
        else:
            temporary.replace(path)
    except PermissionError:
        # Windows: another process reads the very file we bring, so it is there already.
        if os.name != "nt" or not path.exists():
            raise
        temporary.unlink(missing_ok=True)
    return path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _fact_name(key: str) -> str:
    # Upper case would be another key on one file system and the same one on the next.
    return (
        key
        if re.fullmatch(r"[0-9a-z][0-9a-z_-]{3,127}", key)
        else hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
    )


def _checksum(kind: str, version: int, name: str, body: bytes) -> bytes:
    """Cover the name as well, so that a document under a wrong name is noticed."""
    digest = hashlib.sha256(f"{kind} {version} {name}\n".encode())
    digest.update(body)
    return digest.hexdigest().encode("ascii")


def _platform_folder(environment: Mapping[str, str]) -> Path:
    # The two easy platforms by hand: importing platformdirs is a tenth of a warm build. A test holds them equal.
    home = environment.get("HOME")
    if sys.platform == "linux" and home:
        named = environment.get("XDG_CACHE_HOME", "")
        return Path(named if named.startswith("/") else f"{home}/.cache", "manylambda")
    if sys.platform == "darwin" and home:
        return Path(home, "Library/Caches/manylambda")
    from platformdirs import user_cache_path

    return user_cache_path("manylambda", appauthor=False)
