"""`push`: an image - an OCI layout, or one of a registry - to where Lambda takes images from, without a daemon."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manylambda.errors import RequestError
from manylambda.fetch.cache import Cache
from manylambda.fetch.client import HttpSettings
from manylambda.image import push as pushing
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import assembled, resolve
from manylambda.image.reference import Reference, names_registry
from manylambda.image.saved import check_types, open_saved
from manylambda.image.store import Scratch
from manylambda.image.tar import shown
from manylambda.progress import SILENT
from manylambda.target import Architecture

if TYPE_CHECKING:
    from manylambda.image.assembled import Assembled
    from manylambda.image.push import Pushed
    from manylambda.progress import Progress
    from manylambda.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class PushResult:
    """An image that is in a registry now."""

    pushed: Pushed
    architecture: str
    """As Lambda names it; as the image does where Lambda has none of it."""

    @property
    def reference(self) -> Reference:
        """With the digest of the image."""
        return self.pushed.reference

    @property
    def image_uri(self) -> str:
        """What Lambda's API takes: by digest, without the tag."""
        return f"{self.reference.name}@{self.reference.digest}"


def push(
    image: str,
    reference: str,
    *,
    target: Target | None = None,
    plain_http: bool = False,
    progress: Progress = SILENT,
) -> PushResult:
    """Bring `image` (a file, a folder or a reference) to where `reference` says.

    Where `image` is an index or has attestations, the one image for `target` is taken; without a target that is an
    error, as Lambda takes neither. `plain_http` allows a registry without TLS that is not on this machine. Raises the
    errors of `manylambda.errors`.
    """
    to = Reference.parse(reference)
    if not names_registry(reference):
        name = to.repository.removeprefix("library/")
        raise RequestError(
            f"`{shown(reference)}` names no registry",
            hint=f"write it in full: `ACCOUNT.dkr.ecr.REGION.amazonaws.com/{name}:TAG`",
        )
    cache, credentials = Cache.default(), RegistryCredentials(os.environ)
    settings = HttpSettings.from_environment(os.environ)
    architecture = None if target is None else target.architecture.oci
    scratch = Scratch()
    try:
        if Path(image).exists() or not names_registry(image):
            source = _saved(image, architecture, scratch, cache, progress)
        else:
            of = Reference.parse(image)
            resolved = resolve(
                of,
                architecture,
                cache=cache,
                credentials=credentials,
                offline=False,
                progress=progress,
                settings=settings,
                plain_http=plain_http and of.registry == to.registry,
            )
            source = assembled(resolved, cache)
            check_types(image, source.media_type, [layer.media_type for layer in source.layers])
        pushed = pushing.push(
            source,
            to,
            cache=cache,
            credentials=credentials,
            progress=progress,
            settings=settings,
            plain_http=plain_http,
        )
        return PushResult(pushed=pushed, architecture=_architecture(source))
    finally:
        scratch.close()


def _saved(image: str, architecture: str | None, scratch: Scratch, cache: Cache, progress: Progress) -> Assembled:
    path = Path(image)
    if not path.exists():
        raise RequestError(
            f"there is no file or folder `{shown(image)}`",
            hint="an image in a registry is written in full, with its host: `docker.io/library/python:3.13`",
        )
    return open_saved(path, architecture, scratch, cache, progress=progress)


def _architecture(image: Assembled) -> str:
    assert image.config.path is not None, "it was read from here"
    found = shown(str(json.loads(image.config.path.read_bytes()).get("architecture", "")))
    return next((each.value for each in Architecture if each.oci == found), found)
