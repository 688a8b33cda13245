"""Package trees to image layers: gzipped tars with the same bytes on every host, each kept in the cache once made."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.fetch.cache import unique_name
from manylambda.image.assembled import Part
from manylambda.image.gzipped import RECIPE, GzipWriter
from manylambda.image.ustar import END, file_header, folder_header, padding
from manylambda.progress import SILENT
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, DiskFile, Span, open_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.progress import Progress
    from manylambda.tree import Content, Entry, PackageTree

OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_KIND: Final = "image-layer"
_FACTS: Final = 1
_FORMAT: Final = 1
"""Goes up whenever the same tree gives another tar than before."""
_CHUNK: Final = 1 << 20
_WHITEOUT: Final = b".wh."
_MAX_NAME: Final = 255
_MAX_PATH: Final = 4096


def layer(
    tree: PackageTree,
    folder: str,
    identities: Mapping[Path, str],
    *,
    cache: Cache,
    progress: Progress = SILENT,
    label: str = "",
) -> Part:
    """Return the layer with the files of `tree` below `folder` (`var/task`), made unless the cache has it.

    `identities` are the sha256 of the archives that spans lie in. Raises `PackagingError` for a file that cannot be
    read or changes meanwhile, `DamagedContent` for a span that is not what it says, `FetchError` where the cache takes
    no more.
    """
    digests = {entry.path: _digest(entry.content, identities) for entry in tree}
    told = [f"{_FORMAT} {RECIPE} {folder}"]
    told += [f"{_mode(entry):o} {entry.content.size} {digests[entry.path]} {entry.path}" for entry in tree]
    key = hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()
    known = _known(cache, key)
    if known is not None:
        return known
    with cache.writing(label or "an image layer"):
        temporary = cache.incoming(unique_name())
        try:
            with temporary.open("wb") as sink, GzipWriter(sink) as writer:
                task = progress.task("assemble", label, tree.size)
                try:
                    for data, size in _tar(tree, folder, digests):
                        writer.write(data)
                        task.advance(size)
                finally:
                    task.finish()
            return keep(cache, key, temporary, writer)
        finally:
            temporary.unlink(missing_ok=True)


def keep(cache: Cache, key: str, temporary: Path, writer: GzipWriter) -> Part:
    """Put a layer that was written into the cache, to be found by its key."""
    path = cache.keep_blob(temporary, writer.sha256)
    facts = {"digest": writer.sha256, "size": writer.size, "diff_id": writer.unpacked_sha256}
    cache.write_facts(_KIND, _FACTS, key, facts)
    return _part(facts, path)


def known_layer(cache: Cache, key: str) -> Part | None:
    """Return the layer that was kept by a key, if it is still there and undamaged."""
    return _known(cache, key)


def _known(cache: Cache, key: str) -> Part | None:
    facts = cache.read_facts(_KIND, _FACTS, key)
    if not isinstance(facts, dict):
        return None
    path = cache.blob_path(facts["digest"])
    return _part(facts, path) if cache.verify(path, facts["digest"]) else None


def _part(facts: Mapping[str, object], path: Path) -> Part:
    size = facts["size"]
    assert isinstance(size, int)
    return Part(OCI_LAYER, f"sha256:{facts['digest']}", size, path, diff_id=f"sha256:{facts['diff_id']}")


def _tar(tree: PackageTree, folder: str, digests: Mapping[str, str]) -> Iterator[tuple[bytes, int]]:
    """Yield the archive in pieces, each with how many bytes of files it has."""
    for path in sorted(_folders(tree, folder)):
        yield folder_header(path), 0
    for entry in tree:
        yield _named(entry, folder), 0
        for data in _read(entry, digests[entry.path]):
            yield data, len(data)
        yield padding(entry.content.size), 0
    yield END, 0


def _folders(tree: PackageTree, folder: str) -> set[str]:
    found = {folder}
    for path in (folder, *(f"{folder}/{entry.path}" for entry in tree)):
        parent = path
        while (parent := parent.rpartition("/")[0]) and parent not in found:
            found.add(parent)
    return found


def _named(entry: Entry, folder: str) -> bytes:
    path = f"{folder}/{entry.path}"
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError as error:
        raise PackagingError(f"a path of `{entry.origin}` is not Unicode: {entry.path!r}") from error
    if any(part.startswith(_WHITEOUT) for part in parts):
        raise PackagingError(
            f"`{entry.path}` of `{entry.origin}` cannot be in an image: names that begin with `.wh.` remove files",
            hint="leave it out: `--exclude-files` for the project's own, `--exclude` for a distribution",
        )
    if max(map(len, parts)) > _MAX_NAME or len(path.encode()) >= _MAX_PATH:
        raise PackagingError(f"a path of `{entry.origin}` is longer than Linux takes: `{entry.path[:80]}...`")
    return file_header(path, _mode(entry), entry.content.size)


def _mode(entry: Entry) -> int:
    return MODE_EXECUTABLE if entry.mode == MODE_EXECUTABLE else MODE_FILE


def _read(entry: Entry, wanted: str) -> Iterator[bytes]:
    """Yield the bytes of a file, which must be those that the key was made of."""
    content = entry.content
    left = content.size
    digest = hashlib.sha256()
    with _reading(content), contextlib.closing(open_content(content)) as stream:
        while True:
            with _reading(content):
                data = stream.read(_CHUNK)
            left -= len(data)
            if not data or left < 0:
                break
            digest.update(data)
            yield data
    if left or (isinstance(content, DiskFile) and digest.hexdigest() != wanted):
        assert not isinstance(content, Bytes)
        raise PackagingError(f"`{content.file}` changed while it was packaged", hint="run the build again")


def _digest(content: Content, identities: Mapping[Path, str]) -> str:
    if isinstance(content, Span):
        return f"{identities[content.file]}:{content.offset}"
    if isinstance(content, Bytes):
        return hashlib.sha256(content.data).hexdigest()
    with _reading(content), content.file.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _reading(content: Content) -> Iterator[None]:
    """Tell a file that cannot be read from a cache that cannot be written."""
    try:
        yield
    except OSError as error:
        file = content.file if not isinstance(content, Bytes) else ""
        raise PackagingError(f"cannot read `{file}`: {error.strerror or error}") from error
