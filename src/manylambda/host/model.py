"""What is told of this machine."""

from __future__ import annotations

from typing import NamedTuple


class Unusable(NamedTuple):
    """Why something cannot be used on this host, and how to get it."""

    name: str
    """What was wanted: `container`, `rootfs`, `interpreter`."""
    reason: str
    """`no podman, docker or finch on the path`."""
    hint: str | None
    """`apt-get install podman`, as it is done on this system."""
