"""Package trees to zip archives and folders, with the same bytes on every host.

Deflated members of wheels are copied as they are; what must be compressed here goes through one pinned compressor,
since zlib and zlib-ng give different bytes for one input. It knows nothing of Lambda but what its zip reader is known
to take: methods 0 and 8, `create_system` 3, explicit modes, no zip64, no data descriptors.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import sys
import time
import zlib
from base64 import b64encode
from dataclasses import dataclass
from hashlib import file_digest, sha256
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

from manylambda.errors import PackagingError
from manylambda.progress import SILENT
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    STORED,
    Bytes,
    DamagedContent,
    DiskFile,
    Span,
    open_content,
)

if TYPE_CHECKING:
    from bz2 import BZ2Decompressor
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from lzma import LZMADecompressor
    from pathlib import Path

    from manylambda.progress import Progress, Task
    from manylambda.tree import Content, Entry, PackageTree

BZIP2: Final = 12
LZMA: Final = 14
"""Methods that Lambda does not take."""
_MAX_LZMA: Final = 128 << 20

_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")

_VERSION_NEEDED: Final = 20
_MADE_BY_UNIX: Final = (3 << 8) | 20
_DATE: Final = (1 << 5) | 1  # 1980-01-01, the first day a zip can name
_UTF8_NAME: Final = 0x800
# One less than the fields could hold: all ones mean "see the zip64 record".
_MAX_16: Final = 0xFFFE
_MAX_32: Final = 0xFFFFFFFE

COMPRESSOR: Final = "deflate 0.9.0"
"""The pinned one, by name and version: asking `importlib.metadata` would cost a warm build 15 ms."""
_LEVEL: Final = 6
_FORMAT: Final = 1
"""Goes up whenever the same tree gives other bytes than before."""
_CHUNK: Final = 1 << 20
_UNCOMPRESSED_FROM: Final = 128 << 20
"""Bytes; libdeflate works on whole buffers, so a file this large is stored and never sits in memory."""

_MTIME: Final = 315_532_800  # 1980-01-01T00:00:00Z
_STALE_AFTER: Final = 3600
"""Seconds after which what a build left beside an artifact is litter, whoever made it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written, and how Lambda will see it."""

    path: Path
    sha256: str
    """Of the zip's bytes; of a folder, the digest of its sorted listing of paths, modes and contents."""
    size: int
    """Bytes on disk."""
    unzipped_size: int
    files: int

    @property
    def code_sha256(self) -> str:
        """The digest as Lambda's `CodeSha256` and Terraform's `source_code_hash` write it."""
        return b64encode(bytes.fromhex(self.sha256)).decode("ascii")


class Fingerprint(NamedTuple):
    """Everything that decides the bytes of the zip of a tree: equal fingerprints, equal zips."""

    key: str
    """A sha256."""
    checksums: Mapping[Path, int]
    """The crc32 of each file on disk as it was when the fingerprint was taken."""


class Known(NamedTuple):
    """The outcome of writing the zip of a fingerprint, from an earlier time."""

    sha256: str
    size: int
    checksums: Mapping[Path, int]


def fingerprint(tree: PackageTree, identities: Mapping[Path, str]) -> Fingerprint:
    """Take the fingerprint of `tree`; `identities` are the sha256 of the archives its spans lie in.

    Files on disk are read whole. Raises PackagingError for one that cannot be.
    """
    told = [f"{_FORMAT} {_LEVEL} {_UNCOMPRESSED_FROM} {COMPRESSOR}"]
    checksums: dict[Path, int] = {}
    for entry in tree.entries:
        content = entry.content
        if isinstance(content, Span):
            identity = f"{identities[content.file]} {content.offset}"
        elif isinstance(content, Bytes):
            identity = sha256(content.data).hexdigest()
        else:
            digest, checksums[content.file] = _read_through(content)
            identity = f"{digest} {content.size}"
        told.append(f"{entry.mode:o} {identity} {entry.path}")
    return Fingerprint(sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest(), checksums)


def _read_through(content: DiskFile) -> tuple[str, int]:
    digest = sha256()
    crc = 0
    with _reading(content.file), content.file.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
    return digest.hexdigest(), crc


def is_same(path: Path, known: Known) -> bool:
    """Whether the file at `path` is the zip that is known: then it need not be written again."""
    try:
        if path.stat().st_size != known.size or path.is_symlink():
            return False
        with path.open("rb", buffering=0) as stream:
            return file_digest(stream, "sha256").hexdigest() == known.sha256
    except OSError:
        return False


def deflate(data: bytes) -> bytes:
    """Compress to a raw deflate stream; the same bytes on every host, whatever its zlib."""
    return bytes(_deflated(data))


def inflate(span: Span, stream: IO[bytes]) -> bytearray:
    """Return a deflated member that lies in `stream` in one piece: twice as fast as zlib, for what memory can hold.

    Raises `DamagedContent` unless it has the size it declares.
    """
    from deflate import DeflateError, deflate_decompress

    stream.seek(span.offset)
    try:
        data: bytearray = deflate_decompress(stream.read(span.compressed_size), span.size)
    except DeflateError as error:
        raise DamagedContent(span.file.name, "a member cannot be unpacked") from error
    if len(data) != span.size:
        raise DamagedContent(span.file.name, "a member is not as long as its header says")
    return data


def expand(packed: Iterable[bytes], method: int, size: int) -> Iterator[bytes]:
    """Yield what `BZIP2` or `LZMA` made of a member, in pieces, and never more than `size` bytes.

    Python's `zipfile` unpacks all that some bytes make before it looks at how much that is: of a thousand bytes it may
    be gigabytes. Raises `EOFError`, `OSError`, `ValueError` or `lzma.LZMAError` for what is damaged or hungry.
    """
    inflater: BZ2Decompressor | LZMADecompressor
    pieces = iter(packed)
    waiting = next(pieces, b"")
    if method == BZIP2:
        import bz2

        inflater = bz2.BZ2Decompressor()
    elif method == LZMA:
        import lzma

        # The properties follow two bytes of version and two of length; liblzma wants the size behind them.
        if len(waiting) < 9 or waiting[2:4] != b"\5\0":
            raise ValueError("no properties of LZMA")
        inflater = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_LZMA)
        waiting = waiting[4:9] + b"\xff" * 8 + waiting[9:]
    else:
        raise ValueError(f"method {method}")
    left = size  # what follows is of no file; where LZMA does not mark its end, it is no data at all
    while left and not inflater.eof:
        if not waiting and inflater.needs_input:
            waiting = next(pieces, b"")
            if not waiting:
                return  # of LZMA the end need not be marked
        data = inflater.decompress(waiting, min(left, _CHUNK))
        waiting = b""
        left -= len(data)
        yield data


def write_zip(
    tree: PackageTree,
    path: Path,
    *,
    progress: Progress = SILENT,
    label: str = "",
    admit: Callable[[Written], None] | None = None,
    known: Known | None = None,
) -> Written:
    """Write `tree` to a zip at `path`, beside it first; an existing file is replaced only by a whole one.

    `admit` sees what was written before it takes its place; if it raises, nothing of it remains. With what is `known`
    of a zip of the same fingerprint, its hash is not computed again.
    """
    with staged(path) as beside:
        digest, size = _write_zip(tree, beside, progress=progress, label=label or path.name, known=known)
        written = Written(path=path, sha256=digest, size=size, unzipped_size=tree.size, files=len(tree))
        if admit is not None:
            admit(written)
        # Over an existing file ext4 flushes the new one at once (50 ms for 80 MB). Unlinking first would spare that,
        # but a kill between the two would leave no package at all.
        beside.replace(path)
    return written


def write_directory(
    tree: PackageTree,
    path: Path,
    *,
    progress: Progress = SILENT,
    label: str = "",
    admit: Callable[[Written], None] | None = None,
) -> Written:
    """Write `tree` as a folder at `path`, replacing one that is there; times and modes are fixed.

    `admit` is as for `write_zip`.
    """
    with staged(path) as beside:
        digest = sha256()
        with _telling(progress, label or path.name, tree.size) as task:
            beside.mkdir()
            beside.chmod(0o755)
            made: set[str] = set()
            for entry in tree:
                _make_parents(beside, entry.path, made)
                content = _write_file(entry, beside / entry.path)
                digest.update(f"{entry.mode:o} {content} {entry.path}\n".encode())
                task.advance(entry.content.size)
            for folder in sorted(made, reverse=True):
                os.utime(beside / folder, (_MTIME, _MTIME))
            os.utime(beside, (_MTIME, _MTIME))
        written = Written(
            path=path, sha256=digest.hexdigest(), size=tree.size, unzipped_size=tree.size, files=len(tree)
        )
        if admit is not None:
            admit(written)
        replace_folder(beside, path)
    return written


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a fresh name beside `path` to write to; whatever is left there afterwards is removed.

    So is what a build of the same artifact left when it was killed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid():x}-{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_litter(path)
        yield beside
    except OSError as error:
        raise PackagingError(f"cannot write `{path}`: {error.strerror or error}", hint=_hint(error)) from error
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_litter(path: Path) -> None:
    pattern = re.compile(re.escape(f".{path.name}.") + r"([0-9a-f]+)-[0-9a-f]{8}")
    for litter in sorted(path.parent.iterdir()):
        match = pattern.fullmatch(litter.name)
        if match is None:
            continue
        with contextlib.suppress(OSError):
            # Not the time of its last change, which is set to the same for all that we write.
            if not _is_running(int(match[1], 16)) or time.time() - litter.lstat().st_ctime > _STALE_AFTER:
                _remove(litter)


def _is_running(process: int) -> bool:
    """Whether a process of this number may be alive; on Windows one cannot ask without harm."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def may_replace(path: Path) -> bool:
    """Whether nothing is lost with the folder at `path`: it is absent, empty, or `write_directory` wrote it.

    That is seen by its date, which no other folder has, and which changes when something is put into it.
    """
    return not path.is_dir() or path.stat().st_mtime == _MTIME or not any(path.iterdir())


def replace_folder(beside: Path, path: Path) -> None:
    """Put the folder `beside` in the place of `path`; if that fails, what was at `path` stays."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise PackagingError(
            f"`{path}` is a file where a folder is to be written",
            hint="move it away or name another --output",
        )
    aside = path.with_name(f".{path.name}.{os.getpid():x}-{os.urandom(4).hex()}")
    for attempts_left in reversed(range(10)):  # another build may put its folder there between our two steps
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)
        try:
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.replace(path)
            if path.exists():
                _remove(aside)
            if not attempts_left:
                raise
            time.sleep(0.01)
        else:
            _remove(aside)
            return


@contextlib.contextmanager
def _telling(progress: Progress, label: str, size: int) -> Iterator[Task]:
    task = progress.task("assemble", label, size)
    try:
        yield task
    finally:
        task.finish()


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tell a file that cannot be read from an artifact that cannot be written."""
    try:
        yield
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> PackagingError:
    return PackagingError(f"cannot read `{file}`: {error.strerror or error}")


def _write_zip(
    tree: PackageTree, beside: Path, *, progress: Progress, label: str, known: Known | None
) -> tuple[str, int]:
    if len(tree) > _MAX_16:
        raise PackagingError(
            f"{len(tree)} files do not fit a zip without zip64, which Lambda is not known to read",
            hint=f"ship at most {_MAX_16} files: move distributions to a layer, or build an image",
        )
    directory: list[bytes] = []
    with (
        _telling(progress, label, tree.size) as task,
        beside.open("wb", buffering=0) as stream,
        _Output(stream, is_hashed=known is None) as output,
        _Sources() as sources,
    ):
        for entry in tree.entries:
            name = _encoded_name(entry)
            flags = 0 if name.isascii() else _UTF8_NAME
            method, crc32, compressed, body = _prepared(entry.content, sources)
            if (
                known is not None
                and isinstance(entry.content, DiskFile)
                and known.checksums.get(entry.content.file) != crc32
            ):
                raise _changed(entry.content.file)
            size = entry.content.size
            offset = output.position
            if offset + compressed > _MAX_32 or size > _MAX_32:
                raise _over_4_gib()
            output.write(
                _LOCAL_HEADER.pack(
                    b"PK\3\4", _VERSION_NEEDED, flags, method, 0, _DATE, crc32, compressed, size, len(name), 0
                )
                + name
            )
            if body is None:
                sources.copy(entry.content, crc32, output)
            else:
                output.write(body)
            directory.append(
                _CENTRAL_HEADER.pack(
                    b"PK\1\2", _MADE_BY_UNIX, _VERSION_NEEDED, flags, method, 0, _DATE, crc32, compressed, size,
                    len(name), 0, 0, 0, 0, (0o100000 | entry.mode) << 16, offset,
                )
                + name
            )  # fmt: skip
            task.advance(size)
        start = output.position
        table = b"".join(directory)
        if start + len(table) > _MAX_32:
            raise _over_4_gib()
        output.write(table)
        output.write(_END.pack(b"PK\5\6", 0, 0, len(directory), len(directory), len(table), start, 0))
    if known is None:
        return output.digest, output.position
    if output.position == known.size:
        return known.sha256, known.size
    with beside.open("rb", buffering=0) as stream:  # what was known was wrong; what is there is right
        return file_digest(stream, "sha256").hexdigest(), output.position


def _encoded_name(entry: Entry) -> bytes:
    try:
        name = entry.path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PackagingError(f"a path of `{entry.origin}` is not Unicode: {entry.path!r}") from error
    if len(name) > _MAX_16:
        raise PackagingError(f"a path of `{entry.origin}` is too long for a zip: `{entry.path[:80]}...`")
    return name


def _over_4_gib() -> PackagingError:
    return PackagingError("the zip would be over 4 GiB", hint="a package this large needs an image")


def _deflated(data: bytes) -> bytes | bytearray:
    from deflate import deflate_compress

    compressed: bytearray = deflate_compress(data, _LEVEL)
    return compressed


def _prepared(content: Content, sources: _Sources) -> tuple[int, int, int, bytes | bytearray | None]:
    """Return (method, crc32, compressed size, body); the body is None when it is to be copied from a file."""
    if isinstance(content, Span):
        return content.method, content.crc32, content.compressed_size, None
    if isinstance(content, DiskFile) and content.size >= _UNCOMPRESSED_FROM:
        return STORED, sources.crc32(content), content.size, None
    data = content.data if isinstance(content, Bytes) else sources.read(content)
    body = _deflated(data) if data else data
    if len(body) >= len(data):
        return STORED, zlib.crc32(data), len(data), data
    return DEFLATED, zlib.crc32(data), len(body), body


class _Output:
    """The archive being written: small pieces are gathered, and a second thread hashes what the first writes."""

    def __init__(self, stream: IO[bytes], *, is_hashed: bool) -> None:
        self._stream = stream
        self._is_hashed = is_hashed
        self._gathered: list[bytes | bytearray] = []
        self._gathered_size = 0
        self._hash = sha256()
        self._queue: SimpleQueue[bytes | bytearray | None] = SimpleQueue()
        self._backlog: SimpleQueue[None] = SimpleQueue()
        for _ in range(8):  # at most this many chunks wait for the hash, so that a slow core costs no memory
            self._backlog.put(None)
        self._hasher = Thread(target=self._consume, daemon=True)
        self.position = 0
        self.digest = ""

    def __enter__(self) -> Self:
        self._hasher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._queue.put(None)
            self._hasher.join()
        self.digest = self._hash.hexdigest()

    def write(self, data: bytes | bytearray) -> None:
        self.position += len(data)
        if len(data) >= _CHUNK:
            self._flush()
            self._emit(data)
            return
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._emit(b"".join(self._gathered))
            self._gathered.clear()
            self._gathered_size = 0

    def _emit(self, data: bytes | bytearray) -> None:
        if self._is_hashed:
            self._backlog.get()
            self._queue.put(data)
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]

    def _consume(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
            self._backlog.put(None)


class _Sources:
    """The files that spans point into, each opened once; a few at a time, since a package may have hundreds."""

    _LIMIT: Final = 64

    def __init__(self) -> None:
        self._open: dict[Path, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open.values():
            stream.close()

    def copy(self, content: Content, crc32: int, output: _Output) -> None:
        assert not isinstance(content, Bytes)
        # A span was verified when its archive was inspected; a file of the project may be written to at any moment.
        crc = 0
        if isinstance(content, Span):
            offset, left = content.offset, content.compressed_size
        else:
            offset, left = 0, content.size
        file = content.file
        while left:
            data = self._read(file, offset, min(left, _CHUNK))
            if not data:
                raise _changed(file)
            if isinstance(content, DiskFile):
                crc = zlib.crc32(data, crc)
            output.write(data)
            offset += len(data)
            left -= len(data)
        if isinstance(content, DiskFile) and crc != crc32:
            raise _changed(file)

    def _read(self, file: Path, offset: int, size: int) -> bytes:
        # Not `_reading`: a package has thousands of members, and a context manager for each is felt.
        try:
            stream = self._stream(file)
            stream.seek(offset)
            return stream.read(size)
        except OSError as error:
            raise _unreadable(file, error) from error

    def read(self, content: Content) -> bytes:
        assert isinstance(content, DiskFile)
        with _reading(content.file), content.file.open("rb") as stream:
            data = stream.read(content.size + 1)
        if len(data) != content.size:
            raise _changed(content.file)
        return data

    def crc32(self, content: DiskFile) -> int:
        crc = 0
        total = 0
        with _reading(content.file), content.file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
                total += len(chunk)
        if total != content.size:
            raise _changed(content.file)
        return crc

    def _stream(self, path: Path) -> IO[bytes]:
        stream = self._open.get(path)
        if stream is None:
            if len(self._open) >= self._LIMIT:
                self._open.pop(next(iter(self._open))).close()
            stream = self._open[path] = path.open("rb", buffering=0)
        return stream


def _changed(file: Path) -> PackagingError:
    return PackagingError(f"`{file}` changed while it was packaged", hint="run the build again")


def _make_parents(root: Path, path: str, made: set[str]) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in made:
            try:
                (root / folder).mkdir()
            except FileExistsError as error:
                raise _one_name(folder) from error
            (root / folder).chmod(0o755)
            made.add(folder)


def _write_file(entry: Entry, path: Path) -> str:
    digest = sha256()
    size = 0
    with contextlib.ExitStack() as stack:
        file = path if isinstance(entry.content, Bytes) else entry.content.file
        with _reading(file):
            source = stack.enter_context(open_content(entry.content))
        try:
            stream = stack.enter_context(path.open("xb"))
        except FileExistsError as error:
            raise _one_name(entry.path) from error
        while True:
            with _reading(file):
                chunk = source.read(_CHUNK)
            if not chunk:
                break
            digest.update(chunk)
            size += len(chunk)
            stream.write(chunk)
            if size > entry.content.size:
                break
    if size != entry.content.size:
        raise _changed(file)
    path.chmod(MODE_EXECUTABLE if entry.mode == MODE_EXECUTABLE else MODE_FILE)
    os.utime(path, (_MTIME, _MTIME))
    return digest.hexdigest()


def _one_name(path: str) -> PackagingError:
    return PackagingError(
        f"this file system cannot hold `{path}` beside a path that differs only in case",
        hint="write a zip, or name an --output on a file system that tells them apart",
    )


def _hint(error: OSError) -> str:
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full: free some space, or name another folder with --output"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "the folder cannot be written: name another with --output"
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return "a file is where a folder is needed: move it away, or name another folder with --output"
    if error.errno == errno.EISDIR:
        return "a folder is where the file is needed: move it away, or name another folder with --output"
    return "nothing was written; see the reason above"
