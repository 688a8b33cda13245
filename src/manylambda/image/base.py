"""The image that another one is made from: what it says of itself, and where the bytes of its layers are."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import FetchError, RequestError, UnsafeArchive
from manylambda.fetch.cache import unique_name
from manylambda.image.assembled import Part
from manylambda.image.layer_writer import OCI_LAYER
from manylambda.image.layers import Budget
from manylambda.image.layout import choose, read_images
from manylambda.image.recompressed import damaged, recompressed
from manylambda.image.store import GZIP, Scratch, open_store
from manylambda.image.tar import shown
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.image.layers import Layer
    from manylambda.image.layout import Image
    from manylambda.image.pull import PulledImage, Resolved
    from manylambda.image.reference import Reference
    from manylambda.image.store import Store

_CHUNK: Final = 1 << 20
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_GZIPPED: Final = frozenset({OCI_LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip"})


class Base(NamedTuple):
    """An image to put layers on."""

    name: str
    """What a user knows it by, without a digest."""
    reference: Reference | None
    """Of a registry: with the digest of the manifest for the architecture."""
    digest: str | None
    """Of its manifest; None in the older format of `docker save`."""
    document: Mapping[str, Any]
    """Its configuration, as it is."""
    layers: tuple[Part, ...]


def of_registry(resolved: Resolved, cache: Cache, pulled: PulledImage | None = None) -> Base:
    """Return the base that a reference was resolved to; its layers are here where it was `pulled`."""
    name = str(resolved.reference._replace(digest=None))
    try:
        document = json.loads(cache.blob_path(resolved.config.sha256).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FetchError(f"the configuration of `{name}` is not in the cache any more", hint="run it again") from error
    reference = resolved.reference.pinned(resolved.manifest.digest)
    diff_ids = _diff_ids(document, len(resolved.layers), name)
    layers = []
    for layer, diff_id in zip(resolved.layers, diff_ids, strict=True):
        if layer.media_type not in _GZIPPED:
            raise RequestError(
                f"`{name}` has an image layer of the type `{layer.media_type}`: only those compressed by gzip are "
                "known to run on Lambda",
                hint="take a base whose layers are gzipped tars, or push it again by "
                "`skopeo copy --dest-compress-format gzip --dest-force-compress-format ...`",
            )
        path = cache.blob_path(layer.sha256) if pulled is not None else None
        layers.append(Part(OCI_LAYER, layer.digest, layer.size, path, reference, diff_id))
    return Base(name, reference, resolved.manifest.digest, document, tuple(layers))


def of_file(path: Path, architecture: str, cache: Cache) -> tuple[Base, Store, Image, Scratch]:
    """Read a saved image that is to be a base; its layers are in the cache afterwards, compressed by gzip.

    The scratch is to be held as long as the store is read. Raises `RequestError` where there is no image for the
    architecture, `UnsafeArchive` for a damaged one.
    """
    if not path.exists():
        raise RequestError(
            f"there is no saved image `{path}`", hint="name a layout's folder or a file of `docker save`"
        )
    scratch = Scratch()
    store = open_store(path, scratch)
    image = choose(read_images(store), architecture, path.name)
    if not image.config.architecture:
        raise RequestError(f"`{path.name}` is no image: its configuration names no architecture")
    found = (image.config.os or "linux", image.config.architecture)
    if found != ("linux", architecture):
        raise RequestError(
            f"`{path.name}` is for `{'/'.join(found)}`, not for `linux/{architecture}`",
            hint="name an image of the target's architecture",
        )
    budget = Budget()
    layers = tuple(_kept(store, layer, cache, budget) for layer in image.layers)
    return Base(path.name, None, image.digest, image.document, layers), store, image, scratch


def _kept(store: Store, layer: Layer, cache: Cache, budget: Budget) -> Part:
    head = b"".join(_bytes(store, layer, limit=len(GZIP)))
    if layer.digest is not None and _SHA256.fullmatch(layer.digest) and head == GZIP:
        return _copied(store, layer, cache)
    return recompressed(store, layer, cache, budget, SILENT)


def _copied(store: Store, layer: Layer, cache: Cache) -> Part:
    assert layer.digest is not None
    sha256 = layer.digest.partition(":")[2]
    path = cache.blob_path(sha256)
    if not cache.verify(path, sha256):
        digest = hashlib.sha256()
        with cache.writing(store.name):
            temporary = cache.incoming(unique_name())
            try:
                with temporary.open("wb") as sink:
                    for data in _bytes(store, layer):
                        digest.update(data)
                        sink.write(data)
                if digest.hexdigest() != sha256:
                    raise damaged(store, f"sha256:{digest.hexdigest()}", layer.digest)
                cache.keep_blob(temporary, sha256)
            finally:
                temporary.unlink(missing_ok=True)
    return Part(OCI_LAYER, layer.digest, path.stat().st_size, path, diff_id=layer.diff_id)


def _bytes(store: Store, layer: Layer, *, limit: int | None = None) -> Iterator[bytes]:
    found = store.open(layer.path)
    if found is None:
        raise UnsafeArchive(
            f"`{store.name}` lacks a layer: `{layer.digest or shown(layer.path)}`", hint="save the whole image"
        )
    stream, left = found
    left = left if limit is None else min(limit, left)
    with stream:
        while left and (data := stream.read(min(_CHUNK, left))):
            left -= len(data)
            yield data


def _diff_ids(document: object, layers: int, name: str) -> list[str]:
    root = document.get("rootfs") if isinstance(document, dict) else None
    found = root.get("diff_ids") if isinstance(root, dict) else None
    if (
        not isinstance(found, list)
        or len(found) != layers
        or not all(isinstance(one, str) and _SHA256.fullmatch(one) for one in found)
    ):
        raise FetchError(f"`{name}` is no image: its configuration does not name its {layers} layers")
    return found
