"""Files by address into the cache: in parallel, checked while they come, taken up again where they broke off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from manylambda.errors import FetchError, HashMismatch, NotCached
from manylambda.fetch.cache import hash_file, unique_name
from manylambda.fetch.client import Client, HttpSettings, StatusError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from urllib3 import BaseHTTPResponse

    from manylambda.fetch.cache import Cache
    from manylambda.fetch.credentials import Credentials
    from manylambda.progress import Progress, Task

_MIB: Final = 1024 * 1024
_POINTER: Final = "address"
"""The kind of facts that tell which file an address without a hash gave last time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file wanted in the cache. `url` may also be a `file:` address or a path of this machine."""

    url: str
    filename: str
    sha256: str | None
    """None only where the user's own input names no hash: then whatever comes is taken."""
    size: int | None
    """Bytes, when known."""


def fetch_all(
    downloads: Sequence[Download],
    *,
    cache: Cache,
    credentials: Credentials,
    offline: bool,
    progress: Progress,
    verify: bool = False,
    settings: HttpSettings | None = None,
) -> Mapping[Download, Path]:
    """Bring every file into the cache and say where each lies, in the order asked for.

    A file already there is taken by its name and size; `verify` also hashes it, and fetches it anew when it is not what
    it was. What is fetched is always hashed on its way. With `offline` only files of this machine are read. Raises
    NotCached, HashMismatch or FetchError; whatever was fetched until then stays and is not fetched again.
    """
    paths = _present(downloads, cache, credentials, offline=offline, verify=verify)
    wanted: dict[tuple[str, str], Download] = {}
    for download in downloads:
        if download not in paths:
            wanted.setdefault((download.sha256 or download.url, download.filename), download)
    remote = []
    for download in wanted.values():
        source = _local_path(download.url)
        if source is None:
            remote.append(download)
        else:
            paths[download] = _copy(download, source, cache)
    if remote and offline:
        names = ", ".join(f"`{name}`" for name in sorted({download.filename for download in remote}))
        count = "1 file is" if len(remote) == 1 else f"{len(remote)} files are"
        raise NotCached(
            f"{count} not in the cache and `--offline` forbids fetching: {names}", hint="run once without `--offline`"
        )
    if remote:
        settings = settings or HttpSettings.from_environment(os.environ)
        paths.update(_fetch_remote(remote, cache, credentials, progress, settings))
        cache.sweep()
    result = {}
    for download in downloads:
        same = wanted.get((download.sha256 or download.url, download.filename), download)
        result[download] = paths[download] if download in paths else paths[same]
    return result


def _present(
    downloads: Sequence[Download], cache: Cache, credentials: Credentials, *, offline: bool, verify: bool
) -> dict[Download, Path]:
    """Find what the cache has."""
    paths: dict[Download, Path] = {}
    hashes: dict[Path, str] = {}
    for download in downloads:
        cache.wheel_path(download.sha256 or "0" * 64, download.filename)  # refuse a bad name before anything happens
        sha256 = download.sha256
        if sha256 is None and offline:
            sha256 = _remembered(download, cache, credentials)
        if sha256 is None:
            continue
        path = cache.wheel_path(sha256, download.filename)
        if _is_there(path, download.size):
            paths[download] = path
            hashes[path] = sha256
    if verify:
        wrong = set(cache.verify_all(hashes))
        for path in sorted(wrong):
            cache.discard(path)
        paths = {download: path for download, path in paths.items() if path not in wrong}
    return paths


def _is_there(path: Path, size: int | None) -> bool:
    try:
        found = path.stat().st_size
    except OSError:
        return False
    return size is None or found == size


def _remembered(download: Download, cache: Cache, credentials: Credentials) -> str | None:
    sha256 = cache.read_facts(_POINTER, 1, credentials.redact(download.url))
    return sha256 if isinstance(sha256, str) else None


def _local_path(url: str) -> Path | None:
    """Give the path of a file of this machine, or None when it lies elsewhere."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address: left to whoever would fetch it to say so
        return None
    if parts.scheme == "file":
        from urllib.request import url2pathname

        host = f"//{parts.netloc}" if parts.netloc not in {"", "localhost"} else ""
        return Path(url2pathname(host + parts.path))
    return None if len(parts.scheme) > 1 else Path(url)  # one letter is a Windows drive


def _copy(download: Download, source: Path, cache: Cache) -> Path:
    try:
        sha256 = hash_file(source)
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise FetchError(f"`{download.filename}` cannot be read from `{source}`: {reason}") from error
    if download.sha256 is not None and sha256 != download.sha256:
        raise _mismatch(download, sha256, str(source))
    path = cache.wheel_path(sha256, download.filename)
    if _is_there(path, source.stat().st_size):
        return path
    import shutil

    with cache.writing(download.filename):
        temporary = cache.incoming(unique_name())
        try:
            shutil.copyfile(source, temporary)
            return cache.keep(temporary, sha256, download.filename)
        finally:
            temporary.unlink(missing_ok=True)


def _fetch_remote(
    downloads: Sequence[Download], cache: Cache, credentials: Credentials, progress: Progress, settings: HttpSettings
) -> dict[Download, Path]:
    import queue
    import threading

    # Largest first, so that no long one is left alone at the end; unknown sizes may be the longest of all.
    waiting = sorted(downloads, key=lambda one: (one.size is None, one.size or 0, one.filename))
    outcomes: queue.SimpleQueue[tuple[Download, Path | BaseException]] = queue.SimpleQueue()
    paths: dict[Download, Path] = {}
    with Client(settings, credentials) as client:

        def work() -> None:
            while True:
                try:
                    download = waiting.pop()
                except IndexError:
                    return
                try:
                    outcomes.put((download, _Transfer(download, client, cache, credentials).run(progress)))
                except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for it
                    outcomes.put((download, error))
                    return

        # Daemons, unlike those of an executor: after Ctrl-C nobody wants to wait for a silent server.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(settings.connections, len(downloads)))]
        for thread in threads:
            thread.start()
        try:
            while len(paths) < len(downloads):
                # A bounded wait, because on Windows an unbounded one does not hear Ctrl-C.
                with contextlib.suppress(queue.Empty):
                    download, outcome = outcomes.get(timeout=0.5)
                    if isinstance(outcome, BaseException):
                        raise outcome
                    paths[download] = outcome
        except BaseException:
            client.abort()
            raise
        finally:
            deadline = time.monotonic() + 2.0
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
    return paths


class _Transfer:
    """One file on its way into the cache."""

    def __init__(self, download: Download, client: Client, cache: Cache, credentials: Credentials) -> None:
        self._download = download
        self._client = client
        self._cache = cache
        self._credentials = credentials

    def run(self, progress: Progress) -> Path:
        """Fetch the file and give its path; raises FetchError or Cancelled."""
        download = self._download
        self._client.check()
        task = progress.task("fetch", download.filename, download.size)
        try:
            with self._cache.writing(download.filename):
                if download.sha256 is None:
                    return self._unlocked(task)
                return self._locked(download.sha256, task)
        finally:
            task.finish()

    def _locked(self, sha256: str, task: Task) -> Path:
        """Fetch a file only one process at a time may fetch; whoever comes second finds it there."""
        import filelock

        path = self._cache.wheel_path(sha256, self._download.filename)
        lock = filelock.FileLock(self._cache.incoming(f"{sha256}.lock"))
        while True:
            self._client.check()
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.5)
                break
        try:
            if not _is_there(path, self._download.size):
                with _Partial(self._cache.incoming(f"{sha256}.part")) as partial:
                    self._stream(partial, task)
                self._cache.keep(partial.path, sha256, self._download.filename)
        finally:
            lock.release()
        # Whoever held the name open meanwhile finds the file, so removing it cannot make two of them write.
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        return path

    def _unlocked(self, task: Task) -> Path:
        """Fetch a file nobody knows the hash of, and remember what came for a later `--offline`."""
        temporary = self._cache.incoming(unique_name())
        try:
            with _Partial(temporary) as partial:
                self._stream(partial, task)
                sha256 = partial.sha256
            path = self._cache.keep(temporary, sha256, self._download.filename)
        finally:
            temporary.unlink(missing_ok=True)
        self._cache.write_facts(_POINTER, 1, self._credentials.redact(self._download.url), sha256)
        return path

    def _stream(self, partial: _Partial, task: Task) -> None:
        """Fill the partial file with what the download asks for, however many attempts that takes."""
        download = self._download
        meter = _Meter(task)
        meter.reached(partial.size)
        started_over = False
        while True:
            if partial.sha256 != download.sha256:
                self._persist(partial, meter)
            if download.sha256 is None or partial.sha256 == download.sha256:
                return
            found, was_resumed = partial.sha256, partial.was_resumed
            partial.restart()
            if started_over or not was_resumed:
                raise _mismatch(download, found, self._credentials.redact(download.url))
            # Two halves that do not match: perhaps the first came from another day or another server. Once more, whole.
            started_over = True

    def _persist(self, partial: _Partial, meter: _Meter) -> None:
        download = self._download
        try:
            self._client.persist(
                f"`{download.filename}`",
                download.url,
                lambda: self._attempt(partial, meter),
                lambda: meter.highest,
            )
        except StatusError as error:
            if error.status in {404, 410} and download.sha256 is not None:
                error.hint = f"{error.hint}; `manylambda lock` finds what the index has now"
            raise

    def _attempt(self, partial: _Partial, meter: _Meter) -> None:
        download = self._download
        if download.sha256 is None or (download.size is not None and partial.size >= download.size):
            partial.restart()  # nothing could prove that two halves belong together, or there is too much already
        # Some servers compress whatever they send; the hash is that of the file as it is.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if partial.size:
            headers["Range"] = f"bytes={partial.size}-"
        with self._client.get(f"`{download.filename}`", download.url, headers) as (response, _):
            if response.status == 416:
                partial.restart()
                raise TransientError("the server does not have the rest of the file")
            if response.status == 206 and _first_byte(response) != partial.size:
                partial.restart()
                raise TransientError("the server sent another part of the file than was asked for")
            if response.status == 200:
                partial.restart()
            elif partial.size:
                partial.was_resumed = True
            for chunk in self._client.chunks(response, decode=False):
                partial.write(chunk)
                meter.reached(partial.size)
                if download.size is not None and partial.size > download.size:
                    return  # too long to be right: the hash says so without filling the disk
            if download.size is not None and partial.size < download.size and "Content-Length" not in response.headers:
                raise TransientError(f"the connection ended after {partial.size} of {download.size} bytes")


class _Partial:
    """A file being written, with its hash so far; a context manager that closes it and, on a full disk, removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.was_resumed = False
        """Whether its bytes came in more than one piece."""
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", 0)
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        while chunk := self._file.read(_MIB):
            self._hash.update(chunk)
            self.size += len(chunk)
        self.was_resumed = self.size > 0
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._file.close()
        if self.size == 0 or isinstance(error, (OSError, HashMismatch)):
            # A full disk stays full while we keep what cannot be completed; wrong bytes are of no use.
            self.path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0
        self.was_resumed = False


class _Meter:
    """Tells a task how far a file has come; what is fetched twice is told once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.highest = 0

    def reached(self, size: int) -> None:
        if size > self.highest:
            self._task.advance(size - self.highest)
            self.highest = size


def _first_byte(response: BaseHTTPResponse) -> int | None:
    """Read where a part begins from `Content-Range: bytes 5-9/10`."""
    unit, _, span = response.headers.get("Content-Range", "").partition(" ")
    first = span.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def _mismatch(download: Download, found: str, source: str) -> HashMismatch:
    return HashMismatch(
        f"`{download.filename}` from `{source}` is not the file that was locked: "
        f"expected sha256 `{download.sha256}`, got `{found}`",
        hint="it was replaced after it was locked, or altered on its way; if the new file is wanted, refresh the lock",
    )
