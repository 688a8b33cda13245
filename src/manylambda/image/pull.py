"""Images from a registry into the cache, without a daemon: by digest, each part once however many images share it.

What was pulled is a `Store`: `read_images`, `choose` and `FileSystem` work on it as on a saved image.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import time
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import FetchError, HashMismatch, NotCached, RequestError
from manylambda.fetch.cache import unique_name
from manylambda.fetch.client import Client, HttpSettings
from manylambda.fetch.credentials import Credentials
from manylambda.fetch.download import Source, Transfer, WrongBytes, in_threads
from manylambda.image.assembled import Assembled, Part
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.layout import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from manylambda.image.registry import MAX_DOCUMENT, Registry, with_hint
from manylambda.image.store import MAX_UNPACKED
from manylambda.image.tar import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from urllib3 import BaseHTTPResponse

    from manylambda.fetch.cache import Cache
    from manylambda.image.reference import Reference
    from manylambda.progress import Progress

_TAGS: Final = "image-tag"
"""The kind of facts that tell which manifest a tag named last time, and when."""
_MAX_NESTED: Final = 4
_MAX_LAYERS: Final = 1000
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ATTESTATION: Final = "vnd.docker.reference.type"
_OF_IMAGES: Final = frozenset({"config", "layers"})
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"


class Platform(NamedTuple):
    """What an image runs on, as Go names it."""

    os: str
    architecture: str
    variant: str

    def __str__(self) -> str:
        return "/".join(filter(None, self))


class Descriptor(NamedTuple):
    """A part of an image: what it is, and its bytes by digest and size."""

    media_type: str
    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size: int
    """Bytes."""
    platform: Platform | None = None
    """In an index, where it says."""
    is_attestation: bool = False
    """Whether it is about an image (SBOM, provenance) and none itself."""

    @property
    def sha256(self) -> str:
        """The digest's hexadecimal digits."""
        return self.digest.partition(":")[2]

    @property
    def path(self) -> str:
        """Where an OCI layout has it."""
        return f"blobs/sha256/{self.sha256}"

    @classmethod
    def parse(cls, value: object, name: str) -> Descriptor:
        """Read a descriptor of an image called `name`; raises FetchError when it is malformed."""
        found = value if isinstance(value, dict) else {}
        digest, size, media_type = found.get("digest"), found.get("size"), found.get("mediaType", "")
        annotations, platform = found.get("annotations") or {}, found.get("platform")
        if not isinstance(digest, str) or type(size) is not int or size < 0 or not isinstance(media_type, str):
            raise _malformed(name)
        if not _DIGEST.fullmatch(digest):
            raise FetchError(f"`{name}` has a part with a digest that is not understood: `{shown(digest)}`")
        runs_on = None
        if isinstance(platform, dict):
            words = [platform.get(key) for key in ("os", "architecture", "variant")]
            runs_on = Platform(*(shown(word) if isinstance(word, str) else "" for word in words))
        return cls(
            media_type=shown(media_type),
            digest=digest,
            size=size,
            platform=runs_on,
            is_attestation=(isinstance(annotations, dict) and _ATTESTATION in annotations)
            or (runs_on is not None and "unknown" in {runs_on.os, runs_on.architecture}),
        )


class Resolved(NamedTuple):
    """What a reference names for one architecture, before any layer is fetched."""

    reference: Reference
    """With the digest of what it names now: an index or the manifest."""
    manifest: Descriptor
    """The image's own, for the architecture asked for."""
    indexes: tuple[Descriptor, ...]
    """Those on the way to it, outermost first; none where the reference names the image itself."""
    config: Descriptor
    layers: tuple[Descriptor, ...]


class PulledImage:
    """An image whose every part lies in the cache; a `Store` with one image."""

    def __init__(self, resolved: Resolved, cache: Cache) -> None:
        self.name = str(resolved.reference._replace(digest=None) if resolved.reference.tag else resolved.reference)
        self.resolved = resolved
        top = (*resolved.indexes, resolved.manifest)[0]
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {
                    "mediaType": top.media_type,
                    "digest": top.digest,
                    "size": top.size,
                    "annotations": {"org.opencontainers.image.ref.name": self.name},
                }
            ],
        }
        self._documents = {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps(index).encode(),
        }
        parts = (*resolved.indexes, resolved.manifest, resolved.config, *resolved.layers)
        self._blobs = {part.path: cache.blob_path(part.sha256) for part in parts}

    def __repr__(self) -> str:
        return f"<PulledImage {self.resolved.reference}>"

    @property
    def reference(self) -> Reference:
        """With the digest that the name stood for: pulling it gives these bytes for ever."""
        return self.resolved.reference

    @property
    def digest(self) -> str:
        """Of the image's manifest: the key for whatever is derived from the image."""
        return self.resolved.manifest.digest

    @property
    def size(self) -> int:
        """Bytes of the layers as they lie in the cache, each once."""
        return sum({layer.digest: layer.size for layer in self.resolved.layers}.values())

    def lay_out(self, folder: Path) -> None:
        """Make an OCI layout of it in an empty folder; its blobs are links to the cache, where the system has links."""
        import shutil

        (folder / "blobs" / "sha256").mkdir(parents=True)
        for path, document in self._documents.items():
            (folder / path).write_bytes(document)
        for path, file in self._blobs.items():
            try:
                (folder / path).symlink_to(file)
            except OSError:
                shutil.copyfile(file, folder / path)

    def open(self, path: str) -> tuple[IO[bytes], int] | None:
        """See `Store`."""
        document = self._documents.get(path)
        if document is not None:
            return io.BytesIO(document), len(document)
        file = self._blobs.get(path)
        try:
            return None if file is None else (file.open("rb"), file.stat().st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RequestError(f"cannot read `{file}`: {(error.strerror or str(error)).lower()}") from error


def pull(
    reference: Reference,
    architecture: str,
    *,
    cache: Cache,
    credentials: RegistryCredentials | None = None,
    offline: bool,
    progress: Progress,
    settings: HttpSettings | None = None,
    plain_http: bool = False,
    verify: bool = True,
) -> PulledImage:
    """Bring an image for Linux on `architecture` (as Go names it: `amd64`, `arm64`) into the cache.

    A tag is asked for each time, its parts only where the cache does not have them; `verify` also hashes those it has,
    and fetches anew what is damaged. With `offline`, or for a reference with a digest whose parts are all there, no
    request is made. `plain_http` allows a registry without TLS that is not on this machine. Raises NotCached,
    HashMismatch, StatusError or FetchError, and RequestError where there is no image for the architecture.
    """
    with Puller(reference, cache, credentials, progress, settings, plain_http=plain_http, offline=offline) as puller:
        resolved = puller.resolve(architecture)
        puller.fetch(resolved.layers, verify=verify)
    return PulledImage(resolved, cache)


def resolve(
    reference: Reference,
    architecture: str | None,
    *,
    cache: Cache,
    credentials: RegistryCredentials | None = None,
    offline: bool,
    progress: Progress,
    settings: HttpSettings | None = None,
    plain_http: bool = False,
) -> Resolved:
    """Find what a reference names for an architecture, to pin it by digest; as `pull`, without the layers.

    With None it must name one image: an index is refused, as Lambda refuses it.
    """
    with Puller(reference, cache, credentials, progress, settings, plain_http=plain_http, offline=offline) as puller:
        return puller.resolve(architecture)


def assembled(resolved: Resolved, cache: Cache) -> Assembled:
    """Return what was resolved with this cache as what can be pushed; a layer the cache lacks is at its registry.

    What the cache has was not hashed anew.
    """
    manifest = cache.blob_path(resolved.manifest.sha256).read_bytes()
    if f"sha256:{hashlib.sha256(manifest).hexdigest()}" != resolved.manifest.digest:
        raise FetchError(f"`{resolved.reference}` was changed in the cache", hint="try it again")
    source = resolved.reference

    def part(one: Descriptor) -> Part:
        path = cache.blob_path(one.sha256)
        return Part(one.media_type, one.digest, one.size, path if path.is_file() else None, source)

    layers = tuple(map(part, resolved.layers))
    return Assembled(manifest, resolved.manifest.media_type, part(resolved.config), layers)


class Puller:
    """Brings the parts of one image into the cache; a context manager that closes its connections."""

    def __init__(
        self,
        reference: Reference,
        cache: Cache,
        credentials: RegistryCredentials | None,
        progress: Progress,
        settings: HttpSettings | None,
        *,
        plain_http: bool,
        offline: bool,
        client: Client | None = None,
    ) -> None:
        """With a `client`, its connections are used and left open."""
        self._reference = reference
        self._name = str(reference)
        self._cache = cache
        self._progress = progress
        self._offline = offline
        # Logins of package indexes are none of a registry's business.
        self._own = None
        if client is None:
            client = self._own = Client(
                settings or HttpSettings.from_environment(os.environ), Credentials.from_settings({})
            )
        self._client = client
        logins = RegistryCredentials(os.environ) if credentials is None else credentials
        self._registry = Registry(reference, self._client, logins, plain_http=plain_http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.__exit__()

    def resolve(self, architecture: str | None) -> Resolved:
        """See `resolve`."""
        digest, is_new = self._named()
        top, document = self._document(digest)
        indexes: list[Descriptor] = []
        manifest = top
        while manifest.media_type in {OCI_INDEX, DOCKER_INDEX}:
            indexes.append(manifest)
            if len(indexes) > _MAX_NESTED:
                raise _malformed(self._name)
            rows = [Descriptor.parse(row, self._name) for row in _list(document, "manifests", self._name)]
            if architecture is None:
                raise refused_index(
                    self._name, [str(row.platform) for row in rows if row.platform and not row.is_attestation]
                )
            chosen = self._choose(rows, architecture)
            manifest, document = self._document(chosen.digest)
        if manifest.media_type not in {OCI_MANIFEST, DOCKER_MANIFEST}:
            raise FetchError(f"`{self._name}` is no image: its manifest is `{manifest.media_type}`")
        config = Descriptor.parse(document.get("config"), self._name)
        layers = tuple(Descriptor.parse(row, self._name) for row in _list(document, "layers", self._name))
        if len(layers) > _MAX_LAYERS or config.size > MAX_DOCUMENT or sum(one.size for one in layers) > MAX_UNPACKED:
            raise FetchError(f"`{self._name}` is too large for Lambda, which takes images of 10 GiB")
        self.fetch([config], verify=True)
        if architecture is not None:
            self._check(config, architecture)
        if is_new and self._reference.tag is not None:
            memory = {"digest": digest, "time": int(time.time())}
            self._cache.write_facts(_TAGS, 1, self._name, memory)
        return Resolved(self._reference.pinned(digest), manifest, tuple(indexes), config, layers)

    def fetch(self, parts: Sequence[Descriptor], *, verify: bool) -> None:
        """Bring blobs into the cache that are not there, or not as they should be."""
        cache = self._cache
        wanted = {part.digest: part for part in parts}
        there = {digest: cache.blob_path(part.sha256) for digest, part in wanted.items() if self._has(part)}
        if verify:
            for path in cache.verify_all({path: wanted[digest].sha256 for digest, path in there.items()}):
                cache.discard(path)
                del there[f"sha256:{path.name}"]
        missing = sorted(
            (wanted[digest] for digest in wanted.keys() - there.keys()), key=lambda one: (-one.size, one.digest)
        )
        if not missing:
            return
        if self._offline:
            raise self._not_cached(missing)
        in_threads(self._client, self._fetch_one, missing)
        cache.sweep()

    def bring(self, part: Descriptor) -> Path:
        """Bring one blob into the cache, verified, and say where it lies; for whoever has threads already."""
        path = self._cache.blob_path(part.sha256)
        if self._has(part):
            if self._cache.verify(path, part.sha256):
                return path
            self._cache.discard(path)
        return self._fetch_one(part)

    def _named(self) -> tuple[str, bool]:
        """Return the digest of what the reference names, and whether a registry said so just now."""
        reference = self._reference
        if reference.digest is not None:
            return reference.digest, False
        assert reference.tag is not None
        if not self._offline:
            digest = self._registry.resolve(reference.tag)
            if digest is None:
                digest = self._keep(self._registry.manifest(reference.tag))
            return digest, True
        memory = self._cache.read_facts(_TAGS, 1, self._name)
        if not isinstance(memory, dict):
            raise NotCached(
                f"`{self._name}` is not in the cache and `--offline` forbids asking for it",
                hint="run once without `--offline`",
            )
        day = time.strftime("%Y-%m-%d", time.gmtime(memory["time"]))
        digest = str(memory["digest"])
        self._progress.detail(f"`{self._name}` is `{digest}`, as its registry said on {day}")
        return digest, False

    def _document(self, digest: str) -> tuple[Descriptor, dict[str, Any]]:
        """Return a manifest or index by its digest, from the cache when it is there and right."""
        sha256 = digest.partition(":")[2]
        body = self._cached(sha256)
        if body is None:
            if self._offline:
                raise NotCached(
                    f"`{self._name}` is not in the cache (`{digest}`) and `--offline` forbids fetching it",
                    hint="run once without `--offline`",
                )
            body = self._registry.manifest(digest)
            self._keep(body)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        # What is a manifest to one tool and an index to the next is not to be trusted (CVE-2021-41190).
        if not isinstance(document, dict) or ("manifests" in document and not document.keys().isdisjoint(_OF_IMAGES)):
            raise _malformed(self._name)
        media_type = document.get("mediaType")
        if media_type is None and document.get("schemaVersion") == 1:
            media_type = _SCHEMA_1
        if not isinstance(media_type, str):  # OCI lets it be left out
            media_type = OCI_INDEX if "manifests" in document else OCI_MANIFEST
        if media_type.startswith(_SCHEMA_1):
            raise FetchError(
                f"`{self._name}` is in Docker's format of before 2016, which Lambda does not take",
                hint="push the image again with a newer tool",
            )
        return Descriptor(shown(media_type), digest, len(body)), document

    def _cached(self, sha256: str) -> bytes | None:
        try:
            with self._cache.blob_path(sha256).open("rb") as file:
                body = file.read(MAX_DOCUMENT + 1)
        except OSError:
            return None
        return body if hashlib.sha256(body).hexdigest() == sha256 else None

    def _keep(self, body: bytes) -> str:
        """Write a document to the cache and return its digest."""
        sha256 = hashlib.sha256(body).hexdigest()
        with self._cache.writing(self._name):
            temporary = self._cache.incoming(unique_name())
            try:
                temporary.write_bytes(body)
                self._cache.keep_blob(temporary, sha256)
            finally:
                temporary.unlink(missing_ok=True)
        return f"sha256:{sha256}"

    def _choose(self, rows: Sequence[Descriptor], architecture: str) -> Descriptor:
        """Choose the image of an index that Lambda would run: Linux, the architecture, the plainest variant."""
        images = [row for row in rows if not row.is_attestation]
        fitting = [
            row
            for row in images
            if row.platform is None or (row.platform.os, row.platform.architecture) == ("linux", architecture)
        ]
        if not fitting:
            there = ", ".join(sorted({f"`{row.platform}`" for row in images if row.platform})) or "none"
            raise RequestError(
                f"`{self._name}` has no image for `linux/{architecture}`, only: {there}",
                hint="name an image of the target's architecture",
            )
        plain = {"amd64": ("", "v1"), "arm64": ("v8", "")}.get(architecture, ("",))

        def rank(row: Descriptor) -> tuple[bool, int]:
            variant = row.platform.variant if row.platform else ""
            return row.platform is None, plain.index(variant) if variant in plain else len(plain)

        return min(fitting, key=rank)

    def _check(self, config: Descriptor, architecture: str) -> None:
        """Compare the machine of the image with the one asked for: not every index is needed to name one."""
        body = self._cached(config.sha256)
        try:
            document = json.loads(body or b"")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise _malformed(self._name)
        found = document.get("architecture")
        system = document.get("os") or "linux"
        if not isinstance(found, str) or not isinstance(system, str):
            raise FetchError(f"`{self._name}` is no image: its configuration names no architecture")
        if (system, found) != ("linux", architecture):
            raise RequestError(
                f"`{self._name}` is for `{shown(system)}/{shown(found)}`, not for `linux/{architecture}`",
                hint="name an image of the target's architecture",
            )

    def _has(self, part: Descriptor) -> bool:
        try:
            return self._cache.blob_path(part.sha256).stat().st_size == part.size
        except OSError:
            return False

    def _fetch_one(self, part: Descriptor) -> Path:
        cache, registry = self._cache, self._registry
        what = f"`{part.digest[:19]}` of `{self._name}`"
        url = registry.url(f"blobs/{part.digest}")
        path = cache.blob_path(part.sha256)

        @contextlib.contextmanager
        def ask(headers: Mapping[str, str]) -> Iterator[BaseHTTPResponse]:
            with registry.ask(what, "GET", f"blobs/{part.digest}", headers, expected={200, 206, 416}) as response:
                yield response

        task = self._progress.task("fetch", f"{self._reference.repository} {part.sha256[:12]}", part.size)
        try:
            with cache.writing(self._name):
                return Transfer(Source(what, url, part.sha256, part.size, ask), self._client, task).locked(
                    cache,
                    find=lambda: path if self._has(part) else None,
                    keep=lambda partial: cache.keep_blob(partial, part.sha256),
                )
        except WrongBytes as error:
            raise HashMismatch(
                f"`{self._reference.registry}` sent other bytes than `{self._name}` names: "
                f"expected `{part.digest}`, got `sha256:{error.sha256}`",
                hint="they were altered on their way, or the registry is damaged: do not use them",
            ) from None
        except FetchError as error:
            raise with_hint(error) from error.__cause__
        finally:
            task.finish()

    def _not_cached(self, missing: Sequence[Descriptor]) -> NotCached:
        size = sum(part.size for part in missing) / (1 << 20)
        verb = "is" if len(missing) == 1 else "are"
        count = "1 part" if len(missing) == 1 else f"{len(missing)} parts"
        return NotCached(
            f"{count} of `{self._name}` ({size:,.1f} MiB) {verb} not in the cache and `--offline` forbids fetching",
            hint="run once without `--offline`",
        )


def refused_index(name: str, platforms: Sequence[str]) -> RequestError:
    """Return the error for an index where one image is wanted; facts 6.2."""
    there = ", ".join(f"`{platform}`" for platform in sorted(set(platforms))) or "none that is named"
    return RequestError(
        f"`{name}` is an index (images for: {there}), not one image: Lambda refuses it with "
        '"The image manifest, config or layer media type for the source image ... is not supported"',
        hint="`-t TARGET` takes the one image for a target, without attestations; or build it with "
        "`docker buildx build --platform linux/... --provenance=false --sbom=false ...`",
    )


def _list(document: Mapping[str, Any], key: str, name: str) -> list[object]:
    found = document.get(key)
    if not isinstance(found, list):
        raise _malformed(name)
    return found


def _malformed(name: str) -> FetchError:
    return FetchError(f"`{name}` is no image: its manifest is malformed", hint="push the image again")
