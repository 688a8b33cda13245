"""Layers of saved images that are not compressed by gzip yet: compressed as layers that are made here.

So the same file gives the same image everywhere; each is kept in the cache by what it unpacks to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.errors import UnsafeArchive
from manylambda.fetch.cache import unique_name
from manylambda.image.gzipped import RECIPE, GzipWriter
from manylambda.image.layer_writer import keep, known_layer
from manylambda.image.layers import LayerStream

if TYPE_CHECKING:
    from manylambda.fetch.cache import Cache
    from manylambda.image.assembled import Part
    from manylambda.image.layers import Budget, Layer
    from manylambda.image.store import Store
    from manylambda.progress import Progress

_CHUNK: Final = 1 << 20


def recompressed(store: Store, layer: Layer, cache: Cache, budget: Budget, progress: Progress) -> Part:
    """Return a layer as one gzip member in the cache.

    Raises UnsafeArchive for one that is not what the image names, FetchError where the cache takes no more.
    """
    assert layer.diff_id is not None
    key = f"base {RECIPE} {layer.diff_id}"
    known = known_layer(cache, key)
    if known is not None:
        return known
    with cache.writing(store.name):
        temporary = cache.incoming(unique_name())
        try:
            with LayerStream(store, layer, budget) as stream:
                task = progress.task("compress", stream.name, None)
                try:
                    with temporary.open("wb") as sink, GzipWriter(sink) as writer:
                        while data := stream.read_some(_CHUNK):
                            writer.write(data)
                            task.advance(len(data))
                finally:
                    task.finish()
            found = f"sha256:{writer.unpacked_sha256}"
            if found != layer.diff_id:  # where the digest that was checked is another one, of compressed bytes
                raise damaged(store, found, layer.diff_id)
            return keep(cache, key, temporary, writer)
        finally:
            temporary.unlink(missing_ok=True)


def damaged(store: Store, found: str, wanted: str) -> UnsafeArchive:
    """Return the error for a layer whose digest is another than the image's."""
    return UnsafeArchive(
        f"`{store.name}` is damaged: the digest of a layer is {found}, the image names {wanted}",
        hint="save or download the image again",
    )
