"""Where the files of an image lie before they are an image: a folder, or a tar that some tool saved.

Knows names and bytes; what they mean is `layout`'s.
"""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from posixpath import dirname, normpath
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Protocol

from manylambda.errors import PackagingError, RequestError, UnsafeArchive
from manylambda.image.tar import members, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 1 << 20
_MAX_FILES: Final = 100_000
MAX_UNPACKED: Final = 16 << 30
"""Bytes; Lambda takes images of 10 GiB. Reading ends here, whatever the image says of itself."""
_SUSPICIOUS: Final = 1 << 30
_MAX_RATIO: Final = 200

GZIP: Final = b"\x1f\x8b"
_OTHER_COMPRESSIONS: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}


class Scratch:
    """A temporary folder for what was unpacked: gone when it is closed, or when nobody holds it any more.

    Names come from a counter: nothing of an image decides where a file is written.
    """

    def __init__(self, inside: Path | None = None) -> None:
        """Make it in `inside`, from where files can be moved to their place, else where temporary files lie."""
        import shutil

        try:
            self.folder = Path(tempfile.mkdtemp(prefix="manylambda-image-", dir=inside))
        except OSError as error:
            raise no_room(error) from error
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._used = 0

    def new_file(self) -> Path:
        """Return a path that nothing is at."""
        self._used += 1
        return self.folder / f"{self._used:x}"

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._finalizer()


def no_room(error: OSError) -> PackagingError:
    """Return the error for a temporary folder that takes no more."""
    return PackagingError(
        f"the image cannot be unpacked in `{tempfile.gettempdir()}`: {(error.strerror or str(error)).lower()}",
        hint="set `TMPDIR` to a folder with more room",
    )


class Store(Protocol):
    """The files of a saved image, by name."""

    @property
    def name(self) -> str:
        """What a user knows it by."""

    def open(self, path: str) -> tuple[IO[bytes], int] | None:
        """Open a file at its first byte and tell how many are its own; None where there is no such file."""


class FolderStore:
    """An OCI layout as a folder."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name or str(folder)
        self._folder = folder

    def open(self, path: str) -> tuple[IO[bytes], int] | None:
        """See `Store`. `path` is made of checked digests and fixed names only."""
        file = self._folder / path
        if not file.is_file():
            return None
        try:
            return file.open("rb"), file.stat().st_size
        except OSError as error:
            raise RequestError(f"cannot read `{file}`: {(error.strerror or str(error)).lower()}") from error


class _Place(NamedTuple):
    offset: int
    size: int


class TarStore:
    """A saved image as a tar; its members are found by one walk over the headers."""

    def __init__(self, file: Path, *, name: str | None = None) -> None:
        self.name = file.name if name is None else name
        self._file = file
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        try:
            with file.open("rb") as stream:
                self._index(_Seekable(stream, file.stat().st_size))
        except OSError as error:
            raise RequestError(f"cannot read `{file}`: {(error.strerror or str(error)).lower()}") from error

    def open(self, path: str) -> tuple[IO[bytes], int] | None:
        """See `Store`."""
        where = normpath(path)
        for _ in range(8):  # older Dockers save a layer once and link to it from where it comes again
            if where not in self._links:
                break
            where = normpath(self._links[where])
        place = self._places.get(where)
        if place is None:
            return None
        stream = self._file.open("rb")
        stream.seek(place.offset)
        return stream, place.size

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def _index(self, stream: _Seekable) -> None:
        for member in members(stream, self.name):
            path = normpath(member.path.lstrip("/"))
            self._places.pop(path, None)
            self._links.pop(path, None)
            if member.kind == "file" and not member.is_sparse:
                if stream.position + member.size > stream.size:
                    raise UnsafeArchive(
                        f"`{self.name}` is cut short: `{shown(member.path)}` is not all there",
                        hint="save or download the image again",
                    )
                self._places[path] = _Place(stream.position, member.size)
            elif member.kind == "symlink":
                self._links[path] = normpath(f"{dirname(path)}/{member.link}").lstrip("/")
            elif member.kind == "hardlink":
                self._links[path] = normpath(member.link.lstrip("/"))
            if len(self._places) + len(self._links) > _MAX_FILES:
                raise UnsafeArchive(f"`{self.name}` has more than {_MAX_FILES:,} files: it is no saved image")


class _Seekable:
    """A file on disk as a tar is read: what is skipped is not read."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self.size = size
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.position = min(self.position + size, self.size)
        self._stream.seek(self.position)


def compression(head: bytes) -> str | None:
    """Name the compression that bytes begin with: `gzip`, `zstd`, `xz`, `bzip2`; None for anything else."""
    if head.startswith(GZIP):
        return "gzip"
    return next((name for magic, name in _OTHER_COMPRESSIONS.items() if head.startswith(magic)), None)


def inflated(file: Path, scratch: Scratch, *, limit: int = MAX_UNPACKED) -> Path:
    """Inflate a gzip file into `scratch`: a tar in it is read in an order that gzip cannot give."""
    import gzip
    import zlib

    target = scratch.new_file()
    packed = file.stat().st_size
    written = 0
    try:
        with gzip.open(file) as source, target.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > limit or (written > _SUSPICIOUS and written > packed * _MAX_RATIO):
                    size = f"{(written - len(chunk)) >> 20:,} MiB"
                    raise UnsafeArchive(f"`{file.name}` unpacks to more than {size}: it is no image that Lambda takes")
                try:
                    sink.write(chunk)
                except OSError as error:
                    raise no_room(error) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnsafeArchive(f"`{file.name}` is damaged: {error}", hint="save or download the image again") from error
    return target


def open_store(path: Path, scratch: Scratch) -> Store:
    """Open what an image was saved as: a layout's folder or tar, or a `docker save`, perhaps compressed by gzip.

    Raises `RequestError` for a tar that is no image, `UnsafeArchive` for a damaged or hostile one.
    """
    if path.is_dir():
        return FolderStore(path)
    with path.open("rb") as stream:
        how = compression(stream.read(8))
    if how is not None and how != "gzip":
        raise RequestError(
            f"`{path.name}` is compressed by {how}, which is not read here",
            hint=f"uncompress it first, or compress it by gzip: `{_UNPACKERS[how]} {path.name}`",
        )
    store = TarStore(path if how is None else inflated(path, scratch), name=path.name)
    if "index.json" not in store and "manifest.json" not in store:
        exported = any(name.startswith(("var/task/", "etc/", "usr/")) for name in store)
        raise RequestError(
            f"`{path.name}` is a tar without an image: it has neither `index.json` nor `manifest.json`",
            hint="`docker export` writes only the files: use `docker save`"
            if exported
            else "write one by `docker save`, `podman save` or `skopeo copy ... oci-archive:FILE`",
        )
    return store


_UNPACKERS: Final = {"zstd": "zstd -d", "xz": "xz -d", "bzip2": "bzip2 -d"}


def is_image(path: Path) -> bool:
    """Whether `path` looks like an image: a layout's folder, or a file that is a tar or compressed (and no zip)."""
    if path.is_dir():
        return (path / "oci-layout").is_file() and (path / "index.json").is_file()
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return False  # whoever opens it next tells why
    if head.startswith(b"PK"):
        return False
    if compression(head) is not None:
        return True
    from manylambda.image.tar import is_tar

    return is_tar(head)
