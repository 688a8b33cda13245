"""Assembled images to what other tools read: an OCI layout, or a tar for `docker load`; neither needs a daemon."""

from __future__ import annotations

import hashlib
import json
import os
from typing import IO, TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.image.layout import OCI_INDEX
from manylambda.image.ustar import END, file_header, folder_header, padding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from manylambda.image.assembled import Assembled, Part

_CHUNK: Final = 1 << 20
_MODE: Final = 0o644
_MTIME: Final = 315_532_800  # 1980-01-01T00:00:00Z
_NAME: Final = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME: Final = "io.containerd.image.name"


def write_layout(image: Assembled, folder: Path, name: str) -> None:
    """Write an OCI layout to `folder`, which is not there yet; its one image is called `name`."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for part in _parts(image):
        path = blobs / part.digest.partition(":")[2]
        with path.open("xb") as sink:
            for data in _bytes(part):
                sink.write(data)
    for where, document in _documents(image, {_NAME: name}).items():
        (folder / where).write_bytes(document)
    for path in (*blobs.iterdir(), *(one for one in folder.iterdir() if one.is_file())):
        path.chmod(_MODE)
        os.utime(path, (_MTIME, _MTIME))
    for one in (blobs, blobs.parent, folder):
        one.chmod(0o755)


def is_layout_of(image: Assembled, folder: Path, name: str) -> bool:
    """Whether `folder` holds the layout that would be written: then it need not be written again."""
    try:
        wanted = _documents(image, {_NAME: name})
        if any((folder / path).read_bytes() != document for path, document in wanted.items()):
            return False
        blobs = folder / "blobs" / "sha256"
        parts = {part.digest.partition(":")[2]: part for part in _parts(image)}
        if {path.name for path in blobs.iterdir()} != {*parts, *(path.rpartition("/")[2] for path in wanted)} - {
            "index.json",
            "oci-layout",
        }:
            return False
        for sha256 in parts:
            with (blobs / sha256).open("rb", buffering=0) as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                    return False
    except OSError:
        return False
    return True


def write_docker_archive(image: Assembled, file: Path, tag: str) -> None:
    """Write what `docker load` and `podman load` read, which is a layout as well.

    `tag` is what the image is called once it was loaded: `api:1`.
    """
    with file.open("xb") as sink:
        for data in _archive(image, tag):
            sink.write(data)


def is_docker_archive_of(image: Assembled, file: Path, tag: str) -> bool:
    """Whether `file` is the archive that would be written: then it need not be written again."""
    try:
        with file.open("rb") as stream:
            return all(stream.read(len(data)) == data for data in _archive(image, tag)) and not stream.read(1)
    except OSError:
        return False


def _archive(image: Assembled, tag: str) -> Iterator[bytes]:
    manifest = [
        {
            "Config": _path(image.config),
            "RepoTags": [tag],
            "Layers": [_path(layer) for layer in image.layers],
        }
    ]
    # Podman takes the first as the whole name, Docker the second; both are of the layout, which they read first.
    names = {_NAME: tag, _CONTAINERD_NAME: f"docker.io/library/{tag}"}
    documents = {**_documents(image, names), "manifest.json": json.dumps(manifest, sort_keys=True).encode()}
    yield folder_header("blobs")
    yield folder_header("blobs/sha256")
    parts = {_path(part): part for part in _parts(image)}
    for path in sorted({*parts, *documents}):
        if path in documents:
            yield file_header(path, _MODE, len(documents[path])) + documents[path] + padding(len(documents[path]))
        else:
            yield file_header(path, _MODE, parts[path].size)
            yield from _bytes(parts[path])
            yield padding(parts[path].size)
    yield END


def _documents(image: Assembled, names: Mapping[str, str]) -> Mapping[str, bytes]:
    descriptor = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": names,
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index, separators=(",", ":")).encode(),
        f"blobs/sha256/{image.digest.partition(':')[2]}": image.manifest,
    }


def _parts(image: Assembled) -> list[Part]:
    """Return every blob once: two layers may be the same."""
    return list({part.digest: part for part in (image.config, *image.layers)}.values())


def _path(part: Part) -> str:
    return f"blobs/sha256/{part.digest.partition(':')[2]}"


def _bytes(part: Part) -> Iterator[bytes]:
    """Yield the bytes of a blob, which must have its digest."""
    assert part.path is not None
    digest = hashlib.sha256()
    stream: IO[bytes]
    with part.path.open("rb", buffering=0) as stream:
        while data := stream.read(_CHUNK):
            digest.update(data)
            yield data
    if f"sha256:{digest.hexdigest()}" != part.digest:
        raise PackagingError(f"`{part.path}` changed while the image was written", hint="run the build again")
