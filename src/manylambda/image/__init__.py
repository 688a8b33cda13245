"""Container images, without a daemon: OCI layouts (folder or tar), what `docker save` writes, what a registry has.

`store` is where the files of a saved image lie, `layout` what they say, `layers` the bytes of image layers, verified as
they are read, `tar` their members, `filesystem` what they make when one lies on the other. Knows nothing of Lambda.

`pull` brings an image from a registry into the cache and `push` brings one to a registry (`saved` reads it), by way of
`reference`, `credentials` and `registry`; they are not named below because they import what speaks HTTP.
"""

from __future__ import annotations

from manylambda.image.filesystem import FileSystem, Node
from manylambda.image.layers import Layer
from manylambda.image.layout import Config, Image, choose, read_images
from manylambda.image.store import Scratch, Store, is_image, open_store

__all__ = [
    "Config",
    "FileSystem",
    "Image",
    "Layer",
    "Node",
    "Scratch",
    "Store",
    "choose",
    "is_image",
    "open_store",
    "read_images",
]
