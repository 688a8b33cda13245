"""A base and layers put together: the configuration and the manifest, the same bytes wherever they are written."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from manylambda.fetch.cache import unique_name
from manylambda.image.assembled import Assembled, Part
from manylambda.image.layer_writer import OCI_LAYER
from manylambda.image.layout import DOCKER_MANIFEST, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manylambda.fetch.cache import Cache
    from manylambda.image.base import Base

ManifestFormat: TypeAlias = Literal["oci", "docker"]

_EPOCH: Final = "1980-01-01T00:00:00Z"
_BY: Final = "manylambda"
_TYPES: Final = {
    "oci": (OCI_MANIFEST, "application/vnd.oci.image.config.v1+json", OCI_LAYER),
    "docker": (
        DOCKER_MANIFEST,
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
}
_OF_A_PLATFORM: Final = ("architecture", "os", "os.version", "os.features", "variant")
_NOT_INHERITED: Final = frozenset({"Hostname", "Image", "OnBuild"})
"""Of one container, of one build."""


class AddedLayer(NamedTuple):
    """A layer, and what it says of itself in the history."""

    part: Part
    told: str


class Start(NamedTuple):
    """How a container of the image starts."""

    entry_point: tuple[str, ...] | None
    """None for the base's."""
    command: tuple[str, ...]
    """Empty for none."""
    working_folder: str
    environment: Mapping[str, str]
    """What is set besides or instead of the base's."""


def assemble(
    base: Base,
    layers: Sequence[AddedLayer],
    start: Start,
    *,
    labels: Mapping[str, str],
    manifest: ManifestFormat,
    cache: Cache,
) -> Assembled:
    """Put `layers` on `base`; the configuration is written to the cache."""
    manifest_type, config_type, layer_type = _TYPES[manifest]
    parts = tuple(part._replace(media_type=layer_type) for part in (*base.layers, *(one.part for one in layers)))
    config = dumped(_document(base, layers, start, labels))
    described = kept(config, config_type, cache)
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": _descriptor(described),
        "layers": [_descriptor(part) for part in parts],
    }
    return Assembled(dumped(document), manifest_type, described, parts)


def _document(
    base: Base, layers: Sequence[AddedLayer], start: Start, labels: Mapping[str, str]
) -> Mapping[str, object]:
    inherited = base.document.get("config")
    config: dict[str, Any] = {
        key: value
        for key, value in (inherited if isinstance(inherited, dict) else {}).items()
        if key not in _NOT_INHERITED and value is not None
    }
    config["Env"] = _environment(config.get("Env"), start.environment)
    known = config.get("Labels")
    config["Labels"] = {**(known if isinstance(known, dict) else {}), **labels}
    config["WorkingDir"] = start.working_folder
    config.pop("Cmd", None)
    if start.command:
        config["Cmd"] = list(start.command)
    if start.entry_point is not None:
        config["Entrypoint"] = list(start.entry_point)
    created = base.document.get("created")
    created = created if isinstance(created, str) else _EPOCH
    told = ["WORKDIR " + start.working_folder, *(f"ENV {key}={value}" for key, value in start.environment.items())]
    told += [f"ENTRYPOINT {json.dumps(list(start.entry_point))}"] if start.entry_point is not None else []
    told += [f"CMD {json.dumps(list(start.command))}"] if start.command else []
    return {
        **{key: base.document[key] for key in _OF_A_PLATFORM if key in base.document},
        "created": created,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [part.diff_id for part in (*base.layers, *(one.part for one in layers))],
        },
        "history": [
            *_history(base, created),
            *({"created": created, "created_by": one.told, "comment": _BY} for one in layers),
            *({"created": created, "created_by": one, "comment": _BY, "empty_layer": True} for one in told),
        ],
    }


def _history(base: Base, created: str) -> list[object]:
    """Return the base's history; one made up where it does not fit to its layers, which no tool would accept."""
    found = base.document.get("history")
    rows = found if isinstance(found, list) else []
    filled = [row for row in rows if isinstance(row, dict) and not row.get("empty_layer")]
    if len(filled) == len(base.layers) and all(isinstance(row, dict) for row in rows):
        return list(rows)
    return [{"created": created, "comment": "of the base image"} for _ in base.layers]


def _environment(inherited: object, changes: Mapping[str, str]) -> list[str]:
    lines = [line for line in inherited if isinstance(line, str)] if isinstance(inherited, list) else []
    values = {line.partition("=")[0]: line.partition("=")[2] for line in lines}
    values.update(changes)
    return [f"{key}={value}" for key, value in values.items()]


def _descriptor(part: Part) -> Mapping[str, object]:
    return {"mediaType": part.media_type, "digest": part.digest, "size": part.size}


def dumped(document: object) -> bytes:
    """Return a document of an image, the same bytes each time."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def kept(config: bytes, media_type: str, cache: Cache) -> Part:
    """Return an image's configuration as a part that lies in the cache."""
    sha256 = hashlib.sha256(config).hexdigest()
    path = cache.blob_path(sha256)
    if not cache.verify(path, sha256):
        with cache.writing("an image's configuration"):
            temporary = cache.incoming(unique_name())
            try:
                temporary.write_bytes(config)
                cache.keep_blob(temporary, sha256)
            finally:
                temporary.unlink(missing_ok=True)
    return Part(media_type, f"sha256:{sha256}", len(config), path)
