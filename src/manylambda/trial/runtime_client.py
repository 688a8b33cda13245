"""What the runtime brings besides the standard library: its client, and the AWS libraries that functions rely on.

An image of Lambda has them. Any other environment gets them as one read-only folder, with the versions that the
runtime is known to have; the folder is made once and kept in the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from typing import TYPE_CHECKING, Final, Protocol

from manylambda.errors import ResolutionError
from manylambda.fetch.cache import Cache, unique_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.target import Target

VERSION: Final = 1
"""Goes up whenever a folder made before must not be used."""

_NOT_NEEDED: Final = frozenset({"pip", "rapid-client", "setuptools"})
"""What no function imports from the runtime, or is not on the index; setuptools left the runtimes with 3.12."""

_FIRST_CLIENTS: Final = {(3, 7): "2.0.12", (3, 8): "2.0.12"}
"""These runtimes have the client in a file of their own: the distribution nearest to it that they can load."""


class Install(Protocol):
    """Puts distributions into a folder, as an installer does: found, fetched and proved by their hashes."""

    def __call__(self, requirements: Sequence[str], target: Target, folder: Path) -> None:
        """Install exactly `requirements`, without what they depend on; raises the errors of resolving and fetching."""


def requirements(target: Target) -> tuple[str, ...]:
    """Give what the runtime has as pins, `boto3==1.42.97`, in the order of names."""
    pins = {name: version for name, version in target.preinstalled.items() if name not in _NOT_NEEDED}
    if target.python in _FIRST_CLIENTS:
        pins["awslambdaric"] = _FIRST_CLIENTS[target.python]
        # It needs one at all; the runtime has it inside its client.
        pins.setdefault("simplejson", "3.20.1")
    return tuple(f"{name}=={version}" for name, version in sorted(pins.items()))


def runtime_folder(target: Target, install: Install, *, cache: Path) -> Path:
    """Give the folder for `Mounts.runtime`, below the folder `cache`; `install` is only called when it is not there.

    When a version of the runtime has no file that its own Python can load (a preview runs ahead of what is published),
    newer ones are asked for. Raises the errors of `install`.
    """
    exact = requirements(target)
    digest = hashlib.sha256("\n".join([str(VERSION), str(target), *exact]).encode()).hexdigest()
    folder = cache / f"{target}-{digest[:16]}"
    if folder.is_dir():
        Cache.use(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f".{unique_name()}"
    made.mkdir()
    try:
        try:
            install(exact, target, made)
        except ResolutionError:
            shutil.rmtree(made)
            made.mkdir()
            install([one.replace("==", ">=") for one in exact], target, made)
        try:
            os.replace(made, folder)  # noqa: PTH105 - as everywhere here: the whole of it, or nothing
        except OSError:
            # Another process was first.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


_CLIENT: Final = re.compile(r"aws-lambda-python/(?P<python>[\w.+]+)-(?P<version>[\w.+]+)(?P<ours> manylambda)?")


def client_label(agent: str | None) -> str:
    """Say which runtime client it was, from how it calls itself: `awslambdaric 4.0.1`."""
    match = _CLIENT.match(agent or "")
    if match is None:
        return "the runtime's own client"
    label = f"awslambdaric {match['version']}"
    return f"{label} over HTTP of ours, because its compiled part is for Linux" if match["ours"] else label
