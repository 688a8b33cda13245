"""Root file systems: a folder, a tar of one, or a container image, unpacked once into the cache.

What is unpacked is kept by what it is made of, arrives by rename, and is looked through before each use: a file that is
missing, cut short or changed makes it be unpacked again. Linux only, as an ordinary user too: owners and devices are
left out, and a link is written as it stands - it leads to something only inside.

    <cache>/v1/trial/roots/<key>/content/      the root file system
    <cache>/v1/trial/roots/<key>/index         a checksum line, then every file with its size and date
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.fetch.cache import hash_file
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.image import FileSystem, Image, Layer, Scratch, Store
    from manylambda.progress import Progress
    from manylambda.target import Target

_RECIPE: Final = 1
"""Counted up when the same input is unpacked to something else."""
_DAY: Final = 86_400.0
_KINDS: Final = "name a folder, a tar, an OCI layout or what `docker save` wrote"


class Root(NamedTuple):
    """A root file system that is ready: a folder of the cache, or the user's own."""

    folder: Path
    name: str
    """What a user knows it by."""


def prepare(source: Path, target: Target, cache: Cache, progress: Progress = SILENT) -> Root:
    """Give the root file system of a folder, a tar (also by gzip), an OCI layout or what `docker save` wrote.

    Raises `RequestError` for what is none of these, `UnsafeArchive` for what is damaged or hostile, and `FetchError`
    when the cache cannot be written.
    """
    from manylambda.image import choose, is_image, read_images
    from manylambda.image.layers import Layer
    from manylambda.image.store import FolderStore, TarStore, compression, inflated

    path = source.absolute()
    architecture = target.architecture.oci
    if path.is_dir():
        if not is_image(path):
            return Root(path, path.name or str(path))
        layout = FolderStore(path)
        return Root(unpack(layout, choose(read_images(layout), architecture, path.name), cache, progress), path.name)
    if not path.is_file():
        raise RequestError(f"there is no `{source}`", hint=_KINDS)

    # What a file was unpacked to is remembered by its identity, so that it need not be read again.
    status = path.stat()
    identity = f"{path} {architecture} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    remembered = cache.read_facts("root", _RECIPE, identity)
    if isinstance(remembered, str) and (folder := _Kept(cache, "roots", remembered).find()) is not None:
        return Root(folder, path.name)

    try:
        with path.open("rb") as stream:
            how = compression(stream.read(8))
    except OSError as error:
        raise RequestError(f"cannot read `{path.name}`: {(error.strerror or str(error)).lower()}") from error
    if how not in {None, "gzip"}:
        raise RequestError(f"`{path.name}` is compressed by {how}, which is not read here", hint="uncompress it first")
    if not is_image(path):
        raise RequestError(f"`{path.name}` is no root file system", hint=_KINDS)
    with _scratch(cache) as scratch:
        plain = inflated(path, scratch) if how else path
        saved = TarStore(plain, name=path.name)
        if "index.json" in saved or "manifest.json" in saved:
            layers = choose(read_images(saved), architecture, path.name).layers
            folder = _unpack(saved, layers, path.name, cache, progress)
        else:
            layers = (Layer(plain.name, f"sha256:{hash_file(plain)}", None, None),)
            folder = _unpack(FolderStore(plain.parent), layers, path.name, cache, progress)
    cache.write_facts("root", _RECIPE, identity, _key(layers))
    return Root(folder, path.name)


def unpack(store: Store, image: Image, cache: Cache, progress: Progress = SILENT) -> Path:
    """Give the folder that an image is unpacked to: in the cache, the same for the same layers, not to be written to.

    `store` is what `image` was read from: a saved image, or one that was pulled. Raises `UnsafeArchive` for layers that
    are damaged or hostile, and `FetchError` when the cache cannot be written.
    """
    return _unpack(store, image.layers, image.name or store.name, cache, progress)


def kept(cache: Cache, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Give the folder that `make` fills once: kept under a kind and a key, and made again when it was damaged."""
    one = _Kept(cache, kind, key)
    return one.find() or one.make(make)


def inside(root: Path, path: str) -> Path | None:
    """Give where a path of a root file system lies on this host, links followed inside; None for nothing."""
    waiting = [part for part in reversed(path.split("/")) if part]
    where: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part in {".", ".."}:
            if part == ".." and where:
                where.pop()
            continue
        found = root.joinpath(*where, part)
        try:
            is_link = stat.S_ISLNK(found.lstat().st_mode)
        except OSError:
            return None
        if not is_link:
            where.append(part)
            continue
        links += 1
        if links > 40:
            return None
        target = str(found.readlink())
        if target.startswith("/"):
            where = []
        waiting.extend(part for part in reversed(target.split("/")) if part)
    return root.joinpath(*where)


def _key(layers: Sequence[Layer]) -> str:
    # The digest that is verified when the layer is read: another one a hostile image may have borrowed.
    text = "\n".join([str(_RECIPE), *(layer.digest or layer.diff_id or "" for layer in layers)])
    return hashlib.sha256(text.encode()).hexdigest()


def _unpack(store: Store, layers: Sequence[Layer], name: str, cache: Cache, progress: Progress) -> Path:
    def fill(folder: Path) -> None:
        from manylambda.image import FileSystem

        progress.info(f"unpacking {name}")
        with _scratch(cache) as scratch:
            _write(FileSystem(store, layers, scratch, ("/",)), folder)

    return kept(cache, "roots", _key(layers), fill)


def _write(system: FileSystem, folder: Path) -> None:
    """Write a file system below an empty folder; every path is made of folders that were made here."""
    written: dict[int, Path] = {}
    folders: list[tuple[Path, int]] = []
    for path, node in system:
        place = folder / path[1:]
        if node.kind == "folder":
            place.mkdir()
            folders.append((place, node.mode))
        elif id(node) in written:
            place.hardlink_to(written[id(node)])
        elif node.kind == "symlink":
            place.symlink_to(node.link)
            written[id(node)] = place
        elif node.kind == "file" and node.file is not None:
            node.file.replace(place)
            # Who unpacks may not be root, and must be able to read it and to remove it.
            place.chmod(node.mode & 0o777 | 0o400)
            written[id(node)] = place
    for place, mode in reversed(folders):
        place.chmod(mode & 0o777 | 0o700)


@contextlib.contextmanager
def _scratch(cache: Cache) -> Iterator[Scratch]:
    from manylambda.image import Scratch

    with cache.writing("a root file system"):
        folder = _base(cache) / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        scratch = Scratch(folder)
    try:
        yield scratch
    finally:
        scratch.close()


class _Kept:
    """A folder of the cache that is filled once."""

    def __init__(self, cache: Cache, kind: str, key: str) -> None:
        self._cache = cache
        self._parent = _base(cache) / kind
        self._key = key
        self._folder = self._parent / key

    def find(self) -> Path | None:
        """Give the folder if it is there and as it was made."""
        content = self._folder / "content"
        try:
            checksum, _, body = (self._folder / "index").read_bytes().partition(b"\n")
        except OSError:
            return None
        if checksum != hashlib.sha256(body).hexdigest().encode() or json.loads(body) != _listing(content):
            return None
        self._cache.use(self._folder)
        return content

    def make(self, fill: Callable[[Path], None]) -> Path:
        """Have it filled by one process at a time; whoever comes second finds it there."""
        with self._cache.writing(f"trial/{self._parent.name}"), self._locked():
            found = self.find()
            if found is not None:
                return found
            _sweep(self._parent)
            # What a killed run left under this name is nobody's: we hold the lock.
            beside = self._parent / f"{self._key}.tmp"
            _remove(beside)
            (beside / "content").mkdir(parents=True)
            try:
                fill(beside / "content")
                body = json.dumps(_listing(beside / "content")).encode("ascii")
                checksum = hashlib.sha256(body).hexdigest().encode()
                (beside / "index").write_bytes(checksum + b"\n" + body)
                _remove(self._folder)
                beside.replace(self._folder)
            except BaseException:
                _remove(beside)
                raise
        return self._folder / "content"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        import fcntl

        self._parent.mkdir(parents=True, exist_ok=True)
        # The kernel gives the lock back when its holder is killed; the file stays, so that all lock the same one.
        with self._cache.incoming(f"trial-{self._key}.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _base(cache: Cache) -> Path:
    return cache.base / "trial"


def _listing(folder: Path) -> list[list[str | int]]:
    """Give each file and link with what shows that it is not the one that was written: size and date."""
    found: list[list[str | int]] = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        start = os.path.relpath(where, folder)
        for name in sorted({*names, *(one for one in folders if os.path.islink(os.path.join(where, one)))}):  # noqa: PTH114, PTH118
            status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - twice as quick, and there are thousands
            found.append([os.path.join(start, name), status.st_size, status.st_mtime_ns])  # noqa: PTH118
    return found


def _sweep(parent: Path) -> None:
    """Remove what killed runs left half-done a day ago and more."""
    limit = time.time() - _DAY
    with contextlib.suppress(OSError):
        for path in parent.iterdir():
            if (parent.name == "scratch" or path.suffix == ".tmp") and path.stat().st_mtime < limit:
                _remove(path)


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
