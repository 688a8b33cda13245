"""Images to a registry, without a daemon: what it has is not sent, what another of its repositories has is mounted.

A layer that only another registry has comes through the cache. The manifest goes last, so that a push that broke off
shows nothing half done; it is read back before anybody is told of its digest.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlencode

from manylambda.errors import FetchError, HashMismatch, PackagingError, RequestError
from manylambda.fetch.cache import hash_file
from manylambda.fetch.client import Client, HttpSettings, StatusError, TransientError
from manylambda.fetch.credentials import Credentials
from manylambda.fetch.download import Meter, in_threads
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import Descriptor, Puller
from manylambda.image.registry import Busy, Refused, Registry
from manylambda.image.tar import shown
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.image.assembled import Assembled, Part
    from manylambda.image.reference import Reference
    from manylambda.image.registry import Answer
    from manylambda.progress import Progress, Task

How: TypeAlias = Literal["uploaded", "mounted", "present"]

_JOBS: Final = 4
_SMALL: Final = 1 << 20
"""Bytes of a blob that is sent by one request: what it would cost to send it again is nothing."""
_CHUNK: Final = 32 << 20
"""Bytes of a request that sends a part of a blob: proxies have limits (Cloudflare's is 100 MB), ECR wants 5 MiB."""
_PIECE: Final = 1 << 18
_BINARY: Final = {"Content-Type": "application/octet-stream"}
_LOGINS: Final = frozenset({401, 402, 403, 407})


class PushedPart(NamedTuple):
    """A blob, and how the registry came to have it."""

    digest: str
    size: int
    """Bytes."""
    how: How


class Pushed(NamedTuple):
    """What a registry has now."""

    reference: Reference
    """With the digest of the image's manifest."""
    parts: tuple[PushedPart, ...]
    """Each blob once: the layers in their order, then the configuration."""

    def size(self, how: How) -> int:
        """Count the bytes of the blobs that came this way."""
        return sum(part.size for part in self.parts if part.how == how)

    @property
    def uploaded(self) -> int:
        """Bytes sent."""
        return self.size("uploaded")

    @property
    def mounted(self) -> int:
        """Bytes that another repository of the registry had."""
        return self.size("mounted")

    @property
    def present(self) -> int:
        """Bytes that the repository had."""
        return self.size("present")


def push(
    image: Assembled,
    reference: Reference,
    *,
    cache: Cache,
    credentials: RegistryCredentials | None = None,
    progress: Progress = SILENT,
    settings: HttpSettings | None = None,
    plain_http: bool = False,
    jobs: int = _JOBS,
) -> Pushed:
    """Bring an image to where `reference` says, and prove that it is there.

    `jobs` blobs are sent at a time. `plain_http` allows a registry without TLS that is not on this machine. Raises
    RequestError where `reference` names another digest, PackagingError where a file is not what the image names,
    HashMismatch, Refused or FetchError.
    """
    if reference.digest is not None and reference.digest != image.digest:
        raise RequestError(
            f"`{reference}` names another image than this one: `{image.digest}`",
            hint="leave the digest out: it is told when the image is there",
        )
    settings = replace(settings or HttpSettings.from_environment(os.environ), connections=max(1, jobs))
    logins = RegistryCredentials(os.environ) if credentials is None else credentials
    # Logins of package indexes are none of a registry's business.
    with Client(settings, Credentials.from_settings({})) as client:
        pusher = _Pusher(reference, client, cache, logins, progress, plain_http=plain_http)
        try:
            return pusher.push(image)
        except Refused as refusal:
            refusal.hint = _hint(refusal, reference, logins) or refusal.hint
            raise


def _hint(refusal: Refused, reference: Reference, logins: RegistryCredentials) -> str | None:
    match refusal.word:
        case "name_unknown" | "project_unknown":
            return logins.repository_hint(reference)
        case "tag_invalid" | "tag_immutable":
            return "tags of this repository cannot be moved: push under another tag"
        case "manifest_blob_unknown" | "blob_unknown":
            return "the registry has lost a part that it said to have: push again"
        case _:
            return logins.repository_hint(reference) if refusal.status == 404 else None


class _Pusher:
    def __init__(
        self,
        reference: Reference,
        client: Client,
        cache: Cache,
        logins: RegistryCredentials,
        progress: Progress,
        *,
        plain_http: bool,
    ) -> None:
        self._reference = reference
        self._client = client
        self._cache = cache
        self._logins = logins
        self._progress = progress
        self._plain_http = plain_http
        self._registry = Registry(reference, client, logins, plain_http=plain_http, writes=True)

    def push(self, image: Assembled) -> Pushed:
        layers = {part.digest: part for part in image.layers}
        # The configuration goes with them: after a change of the code it and one layer are all there is to send.
        blobs = {**layers, image.config.digest: image.config}
        largest_first = sorted(blobs.values(), key=lambda part: (-part.size, part.digest))
        done = {part.digest: part for part in in_threads(self._client, self._bring, largest_first)}
        self._name(image)
        parts = tuple(done[digest] for digest in blobs)
        return Pushed(self._reference.pinned(image.digest), parts)

    # Blobs

    def _bring(self, part: Part) -> PushedPart:
        """See to it that the repository has a blob."""
        what = f"`{part.digest[:19]}` of `{self._reference}`"
        registry = self._registry
        if registry.persist(what, f"blobs/{part.digest}", lambda: has_blob(registry, what, part)):
            return PushedPart(part.digest, part.size, "present")
        begun: Answer | None = None
        source = part.source
        if source is not None and source.registry == self._reference.registry and source.name != self._reference.name:
            begun = self._mount(what, part, source)
            if begun is not None and begun.status == 201:
                return PushedPart(part.digest, part.size, "mounted")
        path = self._file(part)
        label = f"{self._reference.repository} {part.digest[7:19]}"
        task = self._progress.task("push", label, part.size)
        try:
            _Upload(what, part, path, registry=self._registry, client=self._client, task=task, begun=begun).run()
        finally:
            task.finish()
        return PushedPart(part.digest, part.size, "uploaded")

    def _mount(self, what: str, part: Part, source: Reference) -> Answer | None:
        """Ask for a blob of another repository; None where that is refused, for whatever reason.

        Who cannot mount it, or does not let us, may begin an upload instead.
        """
        path = f"blobs/uploads/?{urlencode({'mount': part.digest, 'from': source.repository})}"

        def attempt() -> Answer:
            return self._registry.say(
                what,
                "POST",
                path,
                {"Content-Length": "0"},
                expected={201, 202},
                others=(source.repository,),
            )

        try:
            return self._registry.persist(what, "blobs/uploads/", attempt)
        except StatusError:
            return None
        except FetchError as error:
            if isinstance(error.__cause__, Busy):  # it may be able to do the rest
                return None
            raise

    def _file(self, part: Part) -> Path:
        """Return a file with the bytes of a blob, whose hash was seen to be right."""
        path, source = part.path, part.source
        if path is None and source is None:
            raise PackagingError(f"nothing has the bytes of `{part.digest}`, a part of `{self._reference}`")
        # A file in the cache may be damaged, or be gone: where it came from it can be had again.
        if source is not None and (path is None or not self._cache.verify(path, part.digest[7:])):
            return self._copied(part, source)
        assert path is not None
        if source is not None:
            return path
        try:
            found = f"sha256:{hash_file(path)}"
        except OSError as error:
            raise PackagingError(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from error
        if found != part.digest:
            raise PackagingError(
                f"`{path}` is not what the image names: expected `{part.digest}`, got `{found}`",
                hint="it was changed or is damaged: make the image again",
            )
        return path

    def _copied(self, part: Part, source: Reference) -> Path:
        """Bring a blob of another registry into the cache."""
        is_plain = self._plain_http and source.registry == self._reference.registry
        with Puller(
            source,
            self._cache,
            self._logins,
            self._progress,
            None,
            plain_http=is_plain,
            offline=False,
            client=self._client,
        ) as puller:
            return puller.bring(Descriptor(part.media_type, part.digest, part.size))

    # Manifest

    def _name(self, image: Assembled) -> None:
        """Put the manifest under its tag, and read it back."""
        registry, reference = self._registry, self._reference
        what = f"`{reference}`"
        digest = image.digest
        # Where tags cannot be moved, naming again what it names already would be refused.
        if reference.tag is None or registry.resolve(reference.tag) != digest:
            path = f"manifests/{reference.tag or digest}"
            headers = {"Content-Type": image.media_type, "Content-Length": str(len(image.manifest))}

            def attempt() -> Answer:
                return registry.say(what, "PUT", path, headers, expected={200, 201, 202}, body=image.manifest)

            stored = registry.persist(what, path, attempt).headers.get("Docker-Content-Digest", digest)
            if stored != digest:
                raise _other(self._reference, digest, stored)
        if registry.manifest(digest) != image.manifest:
            raise _other(self._reference, digest, "other bytes")


def has_blob(registry: Registry, what: str, part: Part) -> bool:
    """Whether a repository has a blob, by what the registry says; asks once."""
    try:
        answer = registry.say(what, "HEAD", f"blobs/{part.digest}", expected={200, 404})
    except StatusError:
        return False  # an answer to HEAD has no words: the upload that follows hears what is wrong
    return answer.status == 200 and answer.headers.get("Content-Length") in {None, str(part.size)}


def _other(reference: Reference, expected: str, got: str) -> HashMismatch:
    return HashMismatch(
        f"`{reference.registry}` stored something else than was pushed as `{reference}`: "
        f"expected `{expected}`, got `{shown(got)}`",
        hint="it was altered on its way, or the registry is damaged: do not use it",
    )


class _Upload:
    """One blob on its way to a registry, in chunks, taken up again where the registry has it to."""

    def __init__(
        self,
        what: str,
        part: Part,
        path: Path,
        *,
        registry: Registry,
        client: Client,
        task: Task,
        begun: Answer | None,
    ) -> None:
        """`begun` is what told where an upload goes that has begun already."""
        self._what = what
        self._part = part
        self._path = path
        self._registry = registry
        self._client = client
        self._meter = Meter(task)
        self._address: str | None = None
        self._offset = 0
        self._chunk = _CHUNK
        self._is_whole = part.size <= _SMALL
        """Whether all goes by one request."""
        self._is_unsure = False
        """Whether an attempt broke off, so that nobody but the registry knows what it has."""
        self._forgiven: set[str] = set()
        """What may go wrong once."""
        if begun is not None:
            self._started(begun)

    def run(self) -> None:
        """Send it, however many attempts that takes."""
        self._registry.persist(self._what, "blobs/uploads/", self._attempt, lambda: self._meter.highest)

    def _attempt(self) -> None:
        try:
            # Perhaps nothing but the last answer was lost.
            if self._is_unsure and has_blob(self._registry, self._what, self._part):
                self._meter.reached(self._part.size)
                return
            if self._is_unsure and self._address is not None:
                self._ask_state()
            self._is_unsure = False
            if self._address is None:
                self._begin()
            try:
                if self._is_whole:
                    self._finish(0)
                else:
                    self._send_chunks()
                    self._finish(self._part.size)
            except Refused as refusal:
                self._recover(refusal)
                raise TransientError(refusal.message) from refusal
        except TransientError:
            self._is_unsure = True
            raise

    def _begin(self) -> None:
        answer = self._registry.say(self._what, "POST", "blobs/uploads/", {"Content-Length": "0"}, expected={202})
        self._started(answer)

    def _started(self, answer: Answer) -> None:
        self._address = self._registry.location(self._what, answer)
        self._offset = 0
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdecimal():
            self._chunk = max(self._chunk, int(least))

    def _ask_state(self) -> None:
        """Ask how much of it the registry has; where that cannot be told, it is sent from the beginning."""
        assert self._address is not None
        if self._is_whole:
            self._address = None
            return
        try:
            answer = self._registry.say(self._what, "GET", self._address, expected={200, 202, 204})
        except StatusError:
            self._address = None
        else:
            self._offset = 0
            self._follow(answer)

    def _send_chunks(self) -> None:
        while self._offset < self._part.size:
            start, end = self._offset, min(self._offset + self._chunk, self._part.size)
            assert self._address is not None
            answer = self._registry.say(
                self._what,
                "PATCH",
                self._address,
                {**_BINARY, "Content-Range": f"{start}-{end - 1}", "Content-Length": str(end - start)},
                expected={201, 202, 204},
                body=lambda start=start, end=end: self._pieces(start, end),
            )
            self._offset = end
            self._follow(answer)
            if self._offset <= start:
                raise TransientError("the registry took nothing of what was sent")

    def _follow(self, answer: Answer) -> None:
        """Take from an answer where the upload goes on, and what the registry has."""
        if answer.headers.get("Location"):
            self._address = self._registry.location(self._what, answer)
        last = answer.headers.get("Range", "").removeprefix("bytes=").rpartition("-")[2]
        if last.isdecimal():
            # `0-0` is what registries say that have nothing.
            self._offset = min(int(last) + 1 if int(last) else 0, self._part.size)

    def _finish(self, start: int) -> None:
        """Send what follows `start`, and have it all become the blob."""
        assert self._address is not None
        size, digest = self._part.size, self._part.digest
        joint = "&" if "?" in self._address else "?"
        answer = self._registry.say(
            self._what,
            "PUT",
            f"{self._address}{joint}{urlencode({'digest': digest})}",
            {**_BINARY, "Content-Length": str(size - start)},
            expected={200, 201, 204},
            body=lambda: self._pieces(start, size),
        )
        stored = answer.headers.get("Docker-Content-Digest") or digest
        if stored != digest:
            raise _other(self._registry.reference, digest, stored)
        self._meter.reached(size)

    def _recover(self, refusal: Refused) -> None:
        """Choose another way after a refusal; raises it where there is none."""
        if refusal.status in _LOGINS or refusal.word in {"name_unknown", "denied"}:
            raise refusal
        once = refusal.word if refusal.word == "digest_invalid" else str(refusal.status)
        if once in {"digest_invalid", "404"} and once not in self._forgiven:
            self._forgiven.add(once)  # altered on its way; or waited for us too long
        elif once == "digest_invalid" or self._is_whole:
            raise refusal
        elif refusal.status == 413 and self._chunk > _SMALL:
            self._chunk //= 4
            return
        else:
            self._is_whole = True  # not every registry takes chunks
        self._address = None

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Give some of the bytes, as the connection takes them."""
        with self._path.open("rb") as file:
            file.seek(start)
            while start < end:
                self._client.check()
                piece = file.read(min(_PIECE, end - start))
                if not piece:
                    raise PackagingError(f"`{self._path}` became shorter while it was read")
                yield piece
                start += len(piece)
                self._meter.reached(start)
