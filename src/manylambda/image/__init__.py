"""Container images: an OCI layout (a folder or a tar) and what `docker save` writes, read without a daemon.

`store` is where the files of a saved image lie, `layout` what they say, `layers` the bytes of image layers, verified as
they are read, `tar` their members, `filesystem` what they make when one lies on the other. Knows nothing of Lambda.
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
