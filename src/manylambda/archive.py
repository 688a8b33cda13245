"""Package trees to zip archives and folders, with the same bytes on every host.

Deflated members of wheels are copied as they are; what must be compressed here goes through one pinned compressor, since
zlib and zlib-ng give different bytes for one input. It knows nothing of Lambda but what its zip reader is known to take
(facts 5.4 to 5.11): methods 0 and 8, `create_system` 3, explicit modes, no zip64, no data descriptors.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.progress import SILENT
from manylambda.tree import DEFLATED, MODE_EXECUTABLE, STORED, Bytes, DiskFile, Span, open_content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.progress import Progress
    from manylambda.tree import Content, Entry, PackageTree

_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")

_VERSION_NEEDED: Final = 20
_MADE_BY_UNIX: Final = (3 << 8) | 20
_DATE: Final = (1 << 5) | 1  # 1980-01-01, the first day a zip can name
_UTF8_NAME: Final = 0x800
_MAX_32: Final = 0xFFFFFFFF
_MAX_ENTRIES: Final = 0xFFFF

_LEVEL: Final = 6
_CHUNK: Final = 1 << 20
_UNCOMPRESSED_FROM: Final = 128 << 20
"""libdeflate works on whole buffers: a file of the project this large is stored, so that its copy never sits in memory."""

_MTIME: Final = 315_532_800  # 1980-01-01T00:00:00Z


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


def deflate(data: bytes) -> bytes:
    """Compress to a raw deflate stream; the same bytes on every host, whatever its zlib."""
    from deflate import deflate_compress

    return bytes(deflate_compress(data, _LEVEL))


def write_zip(tree: PackageTree, path: Path, *, progress: Progress = SILENT, label: str = "") -> Written:
    """Write `tree` to a zip at `path`, beside it first; an existing file is replaced only by a whole one."""
    with staged(path) as beside:
        written = _write_zip(tree, beside, progress=progress, label=label or path.name)
        # Renaming over an existing file makes ext4 flush the new one at once (50 ms for 80 MB); a fresh name does not.
        path.unlink(missing_ok=True)
        beside.replace(path)
    return Written(path=path, sha256=written[0], size=written[1], unzipped_size=tree.size, files=len(tree))


def write_directory(tree: PackageTree, path: Path, *, progress: Progress = SILENT, label: str = "") -> Written:
    """Write `tree` as a folder at `path`, replacing one that is there; times and modes are fixed."""
    with staged(path) as beside:
        digest = sha256()
        task = progress.task("assemble", label or path.name, tree.size)
        beside.mkdir()
        made: set[str] = set()
        for entry in tree:
            _make_parents(beside, entry.path, made)
            content = _write_file(entry, beside / entry.path)
            digest.update(f"{entry.mode:o} {content} {entry.path}\n".encode())
            task.advance(entry.content.size)
        for folder in sorted(made, reverse=True):
            os.utime(beside / folder, (_MTIME, _MTIME))
        os.utime(beside, (_MTIME, _MTIME))
        task.finish()
        with _set_aside(path):
            beside.replace(path)
    return Written(path=path, sha256=digest.hexdigest(), size=tree.size, unzipped_size=tree.size, files=len(tree))


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a fresh name beside `path` to write to; whatever is left there afterwards is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid():x}-{os.urandom(4).hex()}")
    try:
        yield beside
    except OSError as error:
        raise PackagingError(f"cannot write `{path}`: {error.strerror or error}", hint=_hint(error)) from error
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Move a folder at `path` out of the way; put it back if what follows fails, else remove it."""
    if path.is_file() or path.is_symlink():
        raise PackagingError(
            f"`{path}` is a file where a folder is to be written",
            hint="move it away or name another --output",
        )
    if not path.exists():
        yield
        return
    aside = path.with_name(f".{path.name}.old-{os.urandom(4).hex()}")
    path.replace(aside)
    try:
        yield
    except BaseException:
        aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write_zip(tree: PackageTree, beside: Path, *, progress: Progress, label: str) -> tuple[str, int]:
    if len(tree) > _MAX_ENTRIES:
        raise PackagingError(
            f"{len(tree)} files do not fit a zip without zip64, which Lambda is not known to read",
            hint=f"ship at most {_MAX_ENTRIES} files: move distributions to a layer, or build an image",
        )
    task = progress.task("assemble", label, tree.size)
    directory: list[bytes] = []
    with beside.open("wb", buffering=0) as stream, _Output(stream) as output, _Sources() as sources:
        for entry in tree.entries:
            name = entry.path.encode("utf-8")
            flags = 0 if name.isascii() else _UTF8_NAME
            method, crc32, compressed, body = _prepared(entry.content, sources)
            size = entry.content.size
            offset = output.position
            if offset + compressed > _MAX_32 or size > _MAX_32:
                raise PackagingError("the zip would be over 4 GiB", hint="a package this large needs an image")
            output.write(
                _LOCAL_HEADER.pack(
                    b"PK\3\4", _VERSION_NEEDED, flags, method, 0, _DATE, crc32, compressed, size, len(name), 0
                )
                + name
            )
            if body is None:
                sources.copy(entry.content, output)
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
        output.write(table)
        output.write(_END.pack(b"PK\5\6", 0, 0, len(directory), len(directory), len(table), start, 0))
    task.finish()
    return output.digest, output.position


def _prepared(content: Content, sources: _Sources) -> tuple[int, int, int, bytes | None]:
    """Return (method, crc32, compressed size, body); the body is None when it is to be copied from a file."""
    if isinstance(content, Span):
        return content.method, content.crc32, content.compressed_size, None
    if isinstance(content, DiskFile) and content.size >= _UNCOMPRESSED_FROM:
        return STORED, sources.crc32(content), content.size, None
    data = content.data if isinstance(content, Bytes) else sources.read(content)
    body = deflate(data) if data else data
    if len(body) >= len(data):
        return STORED, zlib.crc32(data), len(data), data
    return DEFLATED, zlib.crc32(data), len(body), body


class _Output:
    """The archive being written: small pieces are gathered, and a second thread hashes what the first writes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._hash = sha256()
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._backlog: SimpleQueue[None] = SimpleQueue()
        for _ in range(8):  # at most this many chunks wait for the hash, so that a slow core costs no memory
            self._backlog.put(None)
        self._hasher = Thread(target=self._consume, daemon=True)
        self.position = 0
        self.digest = ""

    def __enter__(self) -> _Output:
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

    def write(self, data: bytes) -> None:
        self.position += len(data)
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._gathered) if len(self._gathered) > 1 else b"".join(self._gathered[:1])
        self._gathered.clear()
        self._gathered_size = 0
        if not data:
            return
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

    def __enter__(self) -> _Sources:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open.values():
            stream.close()

    def copy(self, content: Content, output: _Output) -> None:
        assert not isinstance(content, Bytes)
        if isinstance(content, Span):
            offset, left = content.offset, content.compressed_size
        else:
            offset, left = 0, content.size
        stream = self._stream(content.file)
        stream.seek(offset)
        while left:
            data = stream.read(min(left, _CHUNK))
            if not data:
                raise PackagingError(
                    f"`{content.file}` became shorter while it was packaged", hint="run the build again"
                )
            output.write(data)
            left -= len(data)

    def read(self, content: Content) -> bytes:
        assert isinstance(content, DiskFile)
        data = content.file.read_bytes()
        self._check(content, len(data))
        return data

    def crc32(self, content: DiskFile) -> int:
        crc = 0
        total = 0
        with content.file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
                total += len(chunk)
        self._check(content, total)
        return crc

    def _check(self, content: DiskFile, size: int) -> None:
        if size != content.size:
            raise PackagingError(f"`{content.file}` changed while it was packaged", hint="run the build again")

    def _stream(self, path: Path) -> IO[bytes]:
        stream = self._open.get(path)
        if stream is None:
            if len(self._open) >= self._LIMIT:
                self._open.pop(next(iter(self._open))).close()
            stream = self._open[path] = path.open("rb", buffering=0)
        return stream


def _make_parents(root: Path, path: str, made: set[str]) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in made:
            (root / folder).mkdir()
            (root / folder).chmod(0o755)
            made.add(folder)


def _write_file(entry: Entry, path: Path) -> str:
    digest = sha256()
    with open_content(entry.content) as source, path.open("xb") as stream:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            stream.write(chunk)
    path.chmod(MODE_EXECUTABLE if entry.mode == MODE_EXECUTABLE else 0o644)
    os.utime(path, (_MTIME, _MTIME))
    return digest.hexdigest()


def _hint(error: OSError) -> str:
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full: free some space, or name another folder with --output"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "the folder cannot be written: name another with --output"
    return "nothing was written; see the reason above"
