"""Files by address into the cache: in parallel, checked while they come, taken up again where they broke off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from manylambda.errors import FetchError, HashMismatch, NotCached
from manylambda.fetch.cache import hash_file, unique_name
from manylambda.fetch.client import Client, HttpSettings, StatusError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from urllib3 import BaseHTTPResponse

    from manylambda.fetch.cache import Cache
    from manylambda.fetch.credentials import Credentials
    from manylambda.progress import Progress, Task

_A = TypeVar("_A")
_T = TypeVar("_T")

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
    with Client(settings, credentials) as client:

        def fetch(download: Download) -> Path:
            task = progress.task("fetch", download.filename, download.size)
            try:
                return _fetch_one(download, client, cache, credentials, task)
            finally:
                task.finish()

        # Largest first, so that no long one is left alone at the end; unknown sizes may be the longest of all.
        waiting = sorted(downloads, key=lambda one: (one.size is not None, -(one.size or 0), one.filename))
        return dict(zip(waiting, in_threads(client, fetch, waiting), strict=True))


def in_threads(client: Client, work: Callable[[_A], _T], items: Sequence[_A]) -> list[_T]:
    """Do work with the connections of a client, several at a time, and give the results in the order of the items.

    When one fails, the others are given up and its error is raised.
    """
    import queue
    import threading

    waiting = list(enumerate(items))[::-1]
    outcomes: queue.SimpleQueue[tuple[int, _T | None, BaseException | None]] = queue.SimpleQueue()
    results: dict[int, _T] = {}

    def run() -> None:
        while True:
            try:
                number, item = waiting.pop()
            except IndexError:
                return
            try:
                client.check()
                outcomes.put((number, work(item), None))
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for it
                outcomes.put((number, None, error))
                return

    # Daemons, unlike those of an executor: after Ctrl-C nobody wants to wait for a silent server.
    count = min(client.settings.connections, len(items))
    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        while len(results) < len(items):
            # A bounded wait, because on Windows an unbounded one does not hear Ctrl-C.
            with contextlib.suppress(queue.Empty):
                number, result, error = outcomes.get(timeout=0.5)
                if error is not None:
                    raise error
                results[number] = cast("_T", result)
    except BaseException:
        client.abort()
        raise
    finally:
        deadline = time.monotonic() + 2.0
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [results[number] for number in range(len(items))]


def _fetch_one(download: Download, client: Client, cache: Cache, credentials: Credentials, task: Task) -> Path:
    label = f"`{download.filename}`"

    @contextlib.contextmanager
    def ask(headers: Mapping[str, str]) -> Iterator[BaseHTTPResponse]:
        with client.get(label, download.url, headers) as (response, _):
            yield response

    transfer = Transfer(Source(label, download.url, download.sha256, download.size, ask), client, task)
    sha256 = download.sha256
    with cache.writing(download.filename):
        try:
            if sha256 is None:
                return _fetch_unknown(download, transfer, cache, credentials)
            path = cache.wheel_path(sha256, download.filename)
            return transfer.locked(
                cache,
                find=lambda: path if _is_there(path, download.size) else None,
                keep=lambda partial: cache.keep(partial, sha256, download.filename),
            )
        except WrongBytes as error:
            raise _mismatch(download, error.sha256, credentials.redact(download.url)) from None
        except StatusError as error:
            if error.status in {404, 410} and sha256 is not None:
                error.hint = f"{error.hint}; `manylambda lock` finds what the index has now"
            raise


def _fetch_unknown(download: Download, transfer: Transfer, cache: Cache, credentials: Credentials) -> Path:
    """Fetch a file nobody knows the hash of, and remember what came for a later `--offline`."""
    temporary = cache.incoming(unique_name())
    try:
        with _Partial(temporary) as partial:
            transfer.fill(partial)
            sha256 = partial.sha256
        path = cache.keep(temporary, sha256, download.filename)
    finally:
        temporary.unlink(missing_ok=True)
    cache.write_facts(_POINTER, 1, credentials.redact(download.url), sha256)
    return path


class Source(NamedTuple):
    """Where one file comes from, and what is known of it."""

    label: str
    """What messages call it, in backticks."""
    url: str
    """For messages only."""
    sha256: str | None
    size: int | None
    ask: Callable[[Mapping[str, str]], AbstractContextManager[BaseHTTPResponse]]
    """Asks for it once with these headers; gives a response of status 200, 206 or 416, or raises as `Client.get`."""


class WrongBytes(Exception):
    """A file came whole, and is not the one with the hash; `sha256` is the hash it has."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256


class Transfer:
    """One file on its way into the cache."""

    def __init__(self, source: Source, client: Client, task: Task) -> None:
        self._source = source
        self._client = client
        self._meter = Meter(task)

    def locked(self, cache: Cache, *, find: Callable[[], Path | None], keep: Callable[[Path], Path]) -> Path:
        """Fetch a file of a known hash, which one process at a time may do, and `keep` it.

        Whoever comes second may `find` it there. Raises WrongBytes, FetchError, OSError or Cancelled.
        """
        import filelock

        lock = filelock.FileLock(cache.incoming(f"{self._source.sha256}.lock"))
        while True:
            self._client.check()
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.5)
                break
        try:
            path = find()
            if path is None:
                with _Partial(cache.incoming(f"{self._source.sha256}.part")) as partial:
                    self.fill(partial)
                path = keep(partial.path)
        finally:
            lock.release()
        # Whoever held the name open meanwhile finds the file, so removing it cannot make two of them write.
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        return path

    def fill(self, partial: _Partial) -> None:
        """Fill the partial file with what the source has, however many attempts that takes."""
        source = self._source
        self._meter.reached(partial.size)
        started_over = False
        while True:
            if partial.sha256 != source.sha256:
                self._client.persist(
                    source.label, source.url, lambda: self._attempt(partial), lambda: self._meter.highest
                )
            if source.sha256 is None or partial.sha256 == source.sha256:
                return
            found, was_resumed = partial.sha256, partial.was_resumed
            partial.restart()
            if started_over or not was_resumed:
                raise WrongBytes(found)
            # Two halves that do not match: perhaps the first came from another day or another server. Once more, whole.
            started_over = True

    def _attempt(self, partial: _Partial) -> None:
        source = self._source
        if source.sha256 is None or (source.size is not None and partial.size >= source.size):
            partial.restart()  # nothing could prove that two halves belong together, or there is too much already
        # Some servers compress whatever they send; the hash is that of the file as it is.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if partial.size:
            headers["Range"] = f"bytes={partial.size}-"
        with source.ask(headers) as response:
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
                self._meter.reached(partial.size)
                if source.size is not None and partial.size > source.size:
                    return  # too long to be right: the hash says so without filling the disk
            if source.size is not None and partial.size < source.size and "Content-Length" not in response.headers:
                raise TransientError(f"the connection ended after {partial.size} of {source.size} bytes")


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
        if self.size == 0 or isinstance(error, (OSError, WrongBytes)):
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


class Meter:
    """Tells a task how far a file has come; what is fetched twice is told once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.highest = 0

    def reached(self, size: int) -> None:
        """Say that `size` bytes of the file are done."""
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
