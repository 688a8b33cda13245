"""Saved images as what can be pushed: an OCI layout, as a folder or a tar, or what `docker save` wrote.

`docker save` leaves image layers uncompressed, and its older format has no manifest: they are compressed as layers that
are made here, so that the same file gives the same image everywhere.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError, UnsafeArchive
from manylambda.image.assemble import dumped, kept
from manylambda.image.assembled import Assembled, Part
from manylambda.image.layer_writer import OCI_LAYER
from manylambda.image.layers import Budget
from manylambda.image.layout import DOCKER_MANIFEST, OCI_MANIFEST, choose, read_images
from manylambda.image.pull import refused_index
from manylambda.image.recompressed import recompressed
from manylambda.image.store import is_image, no_room, open_store
from manylambda.image.tar import shown
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.image.layout import Image
    from manylambda.image.store import Scratch, Store
    from manylambda.progress import Progress

# Facts 6.2 and 6.3.
_MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_LAYERS: Final = frozenset(
    {
        OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)
_UNCOMPRESSED: Final = frozenset(
    {"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar", None}
)
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_CHUNK: Final = 1 << 20


def open_saved(
    path: Path, architecture: str | None, scratch: Scratch, cache: Cache, *, progress: Progress = SILENT
) -> Assembled:
    """Read the one image of a file or folder, or that for `architecture` (as Go names it), to push it.

    What has to be unpacked lies in `scratch`, what has to be compressed in `cache`. Raises RequestError where there is
    no image, or none that Lambda takes; UnsafeArchive for a damaged or hostile file.
    """
    if not path.exists():
        raise RequestError(f"there is no file or folder `{path}`")
    if not is_image(path):
        wanted = "a folder with `oci-layout` and `index.json`" if path.is_dir() else "a tar (OCI or `docker save`)"
        raise RequestError(f"`{path}` is no image", hint=f"an image is {wanted}, or a reference: `HOST/NAME:TAG`")
    store = open_store(path, scratch)
    image = _choose(read_images(store), architecture, path.name)
    if image.is_docker_save and any(layer.media_type in _UNCOMPRESSED for layer in image.layers):
        return _compressed(store, image, cache, progress)
    assert image.digest is not None
    assert image.media_type is not None
    check_types(path.name, image.media_type, [layer.media_type or "" for layer in image.layers])
    manifest = _bytes(store, image.digest)
    document = json.loads(manifest)
    described = [document["config"], *document["layers"]]
    diff_ids = [None, *(layer.diff_id for layer in image.layers)]
    folder = path if path.is_dir() else None
    parts = [_part(store, one, diff_id, folder, scratch) for one, diff_id in zip(described, diff_ids, strict=True)]
    return Assembled(manifest=manifest, media_type=image.media_type, config=parts[0], layers=tuple(parts[1:]))


def check_types(name: str, manifest: str, layers: Iterable[str]) -> None:
    """Raise RequestError for a manifest or image layers of a kind that Lambda does not take, or nobody knows it to."""
    if manifest not in _MANIFESTS:
        raise RequestError(
            f"`{name}` has a manifest of the type `{manifest}`: Lambda takes Docker's schema 2 and OCI 1.0",
            hint="write the image anew: `skopeo copy --format oci ...`",
        )
    for media_type in layers:
        if media_type not in _LAYERS:
            raise RequestError(
                f"`{name}` has an image layer of the type `{media_type}`: "
                "only those compressed by gzip are known to run on Lambda",
                hint="compress them: `skopeo copy --dest-compress-format gzip --dest-force-compress-format ...`",
            )


def _choose(images: Sequence[Image], architecture: str | None, name: str) -> Image:
    if architecture is None and any(image.in_index or image.has_attestation for image in images):
        raise refused_index(name, [f"{image.config.os}/{image.config.architecture}" for image in images])
    image = choose(images, architecture, name)
    if architecture is not None and image.config.architecture != architecture:
        raise RequestError(
            f"`{name}` is for `{image.config.os}/{image.config.architecture}`, not for `linux/{architecture}`",
            hint="name the target it was made for, or make it for this one",
        )
    return image


def _compressed(store: Store, image: Image, cache: Cache, progress: Progress) -> Assembled:
    budget = Budget()
    layers = tuple(recompressed(store, layer, cache, budget, progress) for layer in image.layers)
    config = kept(dumped(image.document), _CONFIG, cache)
    described = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in (config, *layers)]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1:]}
    return Assembled(dumped(manifest), OCI_MANIFEST, config, layers)


def _bytes(store: Store, digest: str) -> bytes:
    found = store.open(_blob(digest, store.name))
    assert found is not None, "it was read a moment ago"
    with found[0] as stream:
        data = stream.read(found[1])
    if hashlib.sha256(data).hexdigest() != digest.removeprefix("sha256:"):
        raise _damaged(store, digest)
    return data


def _part(
    store: Store, described: dict[str, object], diff_id: str | None, folder: Path | None, scratch: Scratch
) -> Part:
    """Return a part with a file of its own, whose size is what the manifest says."""
    digest, media_type = str(described["digest"]), str(described.get("mediaType", ""))
    where = _blob(digest, store.name)
    found = store.open(where)
    if found is None:
        raise UnsafeArchive(f"`{store.name}` lacks a part of its image: `{digest}`", hint="save the whole image")
    stream, size = found
    with stream:
        if size != described.get("size"):
            raise _damaged(store, digest)
        if folder is not None:
            path = folder / where
        else:
            path = scratch.new_file()
            left = size
            try:
                with path.open("wb") as sink:
                    while left and (data := stream.read(min(_CHUNK, left))):
                        left -= sink.write(data)
            except OSError as error:
                raise no_room(error) from error
    return Part(shown(media_type), digest, size, path=path, diff_id=diff_id)


def _blob(digest: str, name: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256":
        raise RequestError(f"`{name}` names its parts by {algorithm}, which registries do not take")
    return f"blobs/sha256/{value}"


def _damaged(store: Store, digest: str) -> UnsafeArchive:
    return UnsafeArchive(f"`{store.name}` is damaged: `{shown(digest)}`", hint="save or download the image again")
