"""What an sdist depends on, read from it or, where nothing less tells, from its wheel that is built for the target.

This is what resolving asks of sdists (`locks.model.SdistMetadata`): the resolver itself builds none of them.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING, Final

from manylambda.errors import HashMismatch, PackagingError
from manylambda.fetch.download import Download
from manylambda.locks.model import SdistFacts
from manylambda.locks.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.locks.index import IndexFile
    from manylambda.progress import Progress
    from manylambda.sdists import Builder
    from manylambda.target import Target

# Of what an index may give besides sha256, which the downloads are held to.
_OTHER_HASHES: Final = ("sha512", "sha384")


class SdistReader:
    """Reads sdists, each once; what was built stays in the cache, where the package's build finds it. Thread-safe."""

    def __init__(
        self,
        *,
        fetch: Callable[[Sequence[Download]], Mapping[Download, Path]],
        builder: Callable[[], Builder],
        progress: Progress,
    ) -> None:
        """`fetch` brings files into the cache, where the folder of each is named by its sha256."""
        self._fetch = fetch
        self._make_builder = builder
        self._builder: Builder | None = None
        self._progress = progress
        self._guard = Lock()
        self._working: dict[str, Lock] = {}

    def __call__(self, name: str, file: IndexFile, target: Target, /) -> SdistFacts:
        """Give what `file`, an sdist, says; see `locks.model.SdistMetadata`."""
        from manylambda.sdists.metadata import static_metadata, wheel_metadata

        wanted = Download(url=file.url, filename=file.filename, sha256=file.hashes.get("sha256"), size=file.size)
        path = self._fetch([wanted])[wanted]
        _check_hash(path, file)
        sha256 = path.parent.name
        text = static_metadata(path, _valid_version(file))
        if text is None:
            # Targets are resolved at the same time, and most builds are good for several.
            with self._lock(sha256):
                self._progress.detail(f"only a build for {target} tells what `{file.filename}` depends on")
                text = wheel_metadata(self._ready().archive(name, path, sha256, target).path)
        _check_name(text, name, file)
        return SdistFacts(metadata=text, sha256=sha256, size=path.stat().st_size)

    def _ready(self) -> Builder:
        with self._guard:
            if self._builder is None:
                self._builder = self._make_builder()
            return self._builder

    def _lock(self, sha256: str) -> Lock:
        with self._guard:
            return self._working.setdefault(sha256, Lock())


def _check_hash(path: Path, file: IndexFile) -> None:
    algorithm = next((one for one in _OTHER_HASHES if one in file.hashes), None)
    if algorithm is None or "sha256" in file.hashes:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != file.hashes[algorithm].lower():
        raise HashMismatch(
            f"`{file.filename}` is not the file that its index lists: expected {algorithm} "
            f"`{file.hashes[algorithm]}`, got `{found}`"
        )


def _check_name(text: str, name: str, file: IndexFile) -> None:
    from packaging.metadata import parse_email

    told = parse_email(text)[0].get("name", "")
    if normalise(told) != name:
        raise PackagingError(f"`{file.filename}` is not `{name}`, but a package called `{told}`")


def _valid_version(file: IndexFile) -> str | None:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(file.version or ""))
    except InvalidVersion:  # an archive named by its address may be called `main.zip`
        return None
