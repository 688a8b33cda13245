"""What a saved image says of itself: indexes, manifests and configurations, from an OCI layout or a `docker save`.

A newer `docker save` is both at once: the OCI layout is read, as it tells digests and every platform. Attestations
(SBOM, provenance) lie among the manifests and are no images.
"""

from __future__ import annotations

import hashlib
import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import RequestError, UnsafeArchive
from manylambda.image.layers import Layer
from manylambda.image.tar import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.image.store import Store

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"

_MAX_DOCUMENT: Final = 8 << 20
_MAX_MANIFESTS: Final = 1000
_MAX_LAYERS: Final = 1000
_MAX_NESTED: Final = 4
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ATTESTATION: Final = "vnd.docker.reference.type"


class Config(NamedTuple):
    """How a container of the image runs."""

    architecture: str
    """As Go names it: `amd64`, `arm64`; empty where it is not told."""
    os: str
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    working_folder: str
    """Absolute; `/` where it is not told."""
    environment: Mapping[str, str]
    user: str


class Image(NamedTuple):
    """One image of a saved file."""

    name: str | None
    """The tag or reference it was saved under."""
    digest: str | None
    """Of its manifest; None in the older format of `docker save`."""
    media_type: str | None
    """Of its manifest; None in the older format of `docker save`."""
    config: Config
    layers: tuple[Layer, ...]
    in_index: bool
    """Whether an index (a multi-platform image) holds its manifest, besides the one that every layout has."""
    has_attestation: bool
    """Whether attestations lie beside it."""
    is_docker_save: bool
    """Whether `docker load` reads the file: then its layers get their final compression only when it is pushed."""
    document: Mapping[str, Any] = MappingProxyType({})
    """The whole of its configuration, as it is."""


class _Descriptor(NamedTuple):
    media_type: str
    digest: str
    name: str | None
    is_attestation: bool


def read_images(store: Store) -> tuple[Image, ...]:
    """Return every image of a saved file, each once, in the order they stand there.

    Raises `UnsafeArchive` where a document is missing, malformed or not what its digest says.
    """
    is_docker_save = _has(store, "manifest.json")
    if _has(store, "index.json"):
        return tuple(_layout_images(store, is_docker_save=is_docker_save))
    return tuple(_saved_images(store))


def choose(images: Sequence[Image], architecture: str | None, name: str) -> Image:
    """Return the image to look at: the one there is, or the one for `architecture` (as Go names it).

    Raises `RequestError` where there is none, or more than one.
    """
    if not images:
        raise RequestError(f"`{name}` has no image", hint="save one by `docker save` or `skopeo copy`")
    if len(images) == 1:
        return images[0]
    fitting = [image for image in images if architecture is None or image.config.architecture == architecture]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        there = ", ".join(sorted({f"`{image.config.architecture or 'unknown'}`" for image in images}))
        raise RequestError(
            f"`{name}` has no image for `{architecture}`, only for {there}",
            hint="build the image for the target's architecture",
        )
    names = ", ".join(f"`{image.name or image.digest or 'without a name'}`" for image in fitting[:5])
    raise RequestError(
        f"`{name}` has {len(fitting)} images" + (f" for `{architecture}`" if architecture else "") + f": {names}",
        hint="save the one to look at in a file of its own",
    )


def _layout_images(store: Store, *, is_docker_save: bool) -> Iterator[Image]:
    seen: set[str] = set()
    left = [_MAX_MANIFESTS]

    def images_of(index: Mapping[str, Any], depth: int, name: str | None) -> Iterator[Image]:
        descriptors = [_descriptor(one, store.name) for one in _list(index, "manifests", store.name)]
        attested = any(one.is_attestation for one in descriptors)
        for one in descriptors:
            if one.is_attestation or one.digest in seen:
                continue
            seen.add(one.digest)
            left[0] -= 1
            if left[0] < 0 or depth > _MAX_NESTED:
                raise UnsafeArchive(f"`{store.name}` has too many manifests", hint="do not use this file")
            document = _blob(store, one.digest)
            if document is None:
                continue  # `docker save` names the platforms that were never pulled
            known = one.name or name
            media_type = document.get("mediaType", one.media_type)
            if not isinstance(media_type, str):
                raise _malformed(store.name, one.digest)
            if media_type in {OCI_INDEX, DOCKER_INDEX} or ("manifests" in document and "config" not in document):
                yield from images_of(document, depth + 1, known)
            elif (image := _image(store, document)) is not None:
                yield image._replace(
                    name=known,
                    digest=one.digest,
                    media_type=shown(media_type),
                    in_index=depth > 0,
                    has_attestation=attested,
                    is_docker_save=is_docker_save,
                )

    yield from images_of(_object(_document(store, "index.json"), store.name, "index.json"), 0, None)


def _image(store: Store, manifest: Mapping[str, Any]) -> Image | None:
    if "config" not in manifest:
        raise UnsafeArchive(f"`{store.name}` has a manifest of a kind that is not known: it names no configuration")
    config_digest = _descriptor(manifest["config"], store.name).digest
    layers = [_descriptor(one, store.name) for one in _list(manifest, "layers", store.name)]
    document = _blob(store, config_digest)
    if document is None:
        raise UnsafeArchive(f"`{store.name}` lacks the configuration `{config_digest}`", hint="save the whole image")
    if "rootfs" not in document and "architecture" not in document:
        return None  # an artifact: a chart, a signature
    diff_ids = _diff_ids(document, store.name)
    if len(diff_ids) != len(layers) or len(layers) > _MAX_LAYERS:
        raise UnsafeArchive(
            f"`{store.name}` has an image with {len(layers)} layers whose configuration names {len(diff_ids)}",
            hint="build the image again",
        )
    return Image(
        name=None,
        digest=None,
        media_type=None,
        config=_config(document, store.name),
        layers=tuple(
            Layer(_blob_path(one.digest), one.digest, diff_id, one.media_type)
            for one, diff_id in zip(layers, diff_ids, strict=True)
        ),
        in_index=False,
        has_attestation=False,
        is_docker_save=False,
        document=document,
    )


def _saved_images(store: Store) -> Iterator[Image]:
    documents = _document(store, "manifest.json")
    if not isinstance(documents, list) or len(documents) > _MAX_MANIFESTS:
        raise _malformed(store.name, "manifest.json")
    seen: set[str] = set()
    for entry in documents:
        row = _object(entry, store.name, "manifest.json")
        config_path = row.get("Config")
        paths = row.get("Layers") or []
        tags = row.get("RepoTags") or []
        if not isinstance(config_path, str) or not _are_texts(paths) or not _are_texts(tags):
            raise _malformed(store.name, "manifest.json")
        if config_path in seen:
            continue
        seen.add(config_path)
        document = _object(_document(store, config_path), store.name, config_path)
        diff_ids = _diff_ids(document, store.name)
        if len(diff_ids) != len(paths) or len(paths) > _MAX_LAYERS:
            raise UnsafeArchive(
                f"`{store.name}` has an image with {len(paths)} layers whose configuration names {len(diff_ids)}",
                hint="save the image again",
            )
        yield Image(
            name=shown(tags[0]) if tags else None,
            digest=None,
            media_type=None,
            config=_config(document, store.name),
            layers=tuple(Layer(path, None, diff_id, None) for path, diff_id in zip(paths, diff_ids, strict=True)),
            in_index=False,
            has_attestation=False,
            is_docker_save=True,
            document=document,
        )


def _config(document: Mapping[str, Any], name: str) -> Config:
    inner = document.get("config") or {}
    if not isinstance(inner, dict):
        raise _malformed(name, "the image's configuration")

    def texts(key: str) -> tuple[str, ...]:
        value = inner.get(key) or []
        if not _are_texts(value):
            raise _malformed(name, f"`{key}` of the image's configuration")
        return tuple(map(shown, value))

    def text(value: object) -> str:
        return shown(value) if isinstance(value, str) else ""

    environment = dict(line.partition("=")[::2] for line in texts("Env"))
    return Config(
        architecture=text(document.get("architecture")),
        os=text(document.get("os")),
        entry_point=texts("Entrypoint"),
        command=texts("Cmd"),
        working_folder=text(inner.get("WorkingDir")) or "/",
        environment=environment,
        user=text(inner.get("User")),
    )


def _diff_ids(document: Mapping[str, Any], name: str) -> list[str]:
    root = document.get("rootfs")
    diff_ids = root.get("diff_ids") if isinstance(root, dict) else None
    diff_ids = [] if diff_ids is None else diff_ids
    if not _are_texts(diff_ids) or not all(_DIGEST.fullmatch(one) for one in diff_ids):
        raise _malformed(name, "`rootfs` of the image's configuration")
    return list(diff_ids)


def _descriptor(value: object, name: str) -> _Descriptor:
    found = _object(value, name, "a descriptor")
    digest = found.get("digest")
    media_type = found.get("mediaType", "")
    annotations = found.get("annotations") or {}
    platform = found.get("platform") or {}
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(media_type, str):
        raise _malformed(name, "a descriptor")
    if not isinstance(annotations, dict) or not isinstance(platform, dict):
        raise _malformed(name, "a descriptor")
    called = next((shown(annotations[key]) for key in _NAMES if isinstance(annotations.get(key), str)), None)
    is_attestation = _ATTESTATION in annotations or platform.get("architecture") == "unknown"
    return _Descriptor(shown(media_type), digest, called, is_attestation)


def _has(store: Store, path: str) -> bool:
    found = store.open(path)
    if found is None:
        return False
    found[0].close()
    return True


def _blob_path(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _blob(store: Store, digest: str) -> dict[str, Any] | None:
    """Return the document that a digest names; None where the file does not have it."""
    data = _read(store, _blob_path(digest))
    if data is None:
        return None
    found = hashlib.new(digest.partition(":")[0], data).hexdigest()
    if found != digest.partition(":")[2]:
        raise UnsafeArchive(
            f"`{store.name}` is damaged: `{digest}` has the digest {found}", hint="save or download the image again"
        )
    return _object(_parsed(data, store.name, digest), store.name, digest)


def _document(store: Store, path: str) -> Any:
    data = _read(store, path)
    if data is None:
        raise UnsafeArchive(f"`{store.name}` lacks `{shown(path)}`", hint="save the whole image")
    return _parsed(data, store.name, path)


def _read(store: Store, path: str) -> bytes | None:
    found = store.open(path)
    if found is None:
        return None
    with found[0] as stream:
        if found[1] > _MAX_DOCUMENT:
            raise UnsafeArchive(f"`{store.name}` has a document that is too large: `{shown(path)}`")
        return stream.read(found[1])


def _parsed(data: bytes, name: str, path: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _malformed(name, path) from error


def _object(value: object, name: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _malformed(name, where)
    return value


def _list(value: Mapping[str, Any], key: str, name: str) -> list[object]:
    found = value.get(key)
    found = [] if found is None else found
    if not isinstance(found, list):
        raise _malformed(name, f"`{key}`")
    return found


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _malformed(name: str, where: str) -> UnsafeArchive:
    named = where if "`" in where or " " in where else f"`{shown(where)}`"
    return UnsafeArchive(f"`{name}` has no valid image: {named} is malformed", hint="save or download the image again")
