"""Images made by hand, byte for byte, for what no tool writes; the tools' own are in `test_tools`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rules.packages import elf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OCI = "application/vnd.oci.image."
INDEX = OCI + "index.v1+json"
MANIFEST = OCI + "manifest.v1+json"
LAYER = OCI + "layer.v1.tar+gzip"


class Link(NamedTuple):
    """A symbolic link."""

    target: str


class Hard(NamedTuple):
    """A hard link."""

    target: str


FOLDER = None
"""What stands for a folder among the members of a layer."""


def layer(members: Mapping[str, bytes | Link | Hard | None], *, mode: int | None = None) -> bytes:
    """Write an uncompressed layer."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, value in members.items():
            info = tarfile.TarInfo(name)
            data = b""
            match value:
                case Link(target):
                    info.type, info.linkname = tarfile.SYMTYPE, target
                case Hard(target):
                    info.type, info.linkname = tarfile.LNKTYPE, target
                case bytes():
                    data = value
                case _:
                    info.type = tarfile.DIRTYPE
            info.size = len(data)
            info.mode = (0o755 if value is FOLDER else 0o644) if mode is None else mode
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def sha256(data: bytes) -> str:
    """Give the digest of a blob."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=8)
def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


class Layout:
    """An OCI layout that grows blob by blob."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.top: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Add a blob and give its descriptor."""
        self.blobs[sha256(data)] = data
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}

    def document(self, value: object, media_type: str, **more: Any) -> dict[str, Any]:
        """Add a JSON blob."""
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def image(
        self,
        layers: Sequence[bytes],
        *,
        architecture: str = "amd64",
        config: Mapping[str, Any] | None = None,
        packed: Sequence[bytes] | None = None,
        media_type: str = LAYER,
        **more: Any,
    ) -> dict[str, Any]:
        """Add an image and give the descriptor of its manifest; `layers` are uncompressed."""
        packed = [_gzipped(one) for one in layers] if packed is None else packed
        described = self.document(
            {
                "architecture": architecture,
                "os": "linux",
                "config": dict(config or {}),
                "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in layers]},
            },
            OCI + "config.v1+json",
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described,
            "layers": [self.blob(one, media_type) for one in packed],
        }
        return self.document(manifest, MANIFEST, **more)

    def index(self, *descriptors: Mapping[str, Any]) -> dict[str, Any]:
        """Add an index, such as a multi-platform image has."""
        return self.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(descriptors)}, INDEX)

    def files(self) -> dict[str, bytes]:
        """Give every file of the layout."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.top}
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **{f"blobs/{digest.replace(':', '/')}": data for digest, data in self.blobs.items()},
        }

    def folder(self, path: Path) -> Path:
        """Write it as a folder."""
        for name, data in self.files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path

    def tar(self, path: Path, **more: bytes) -> Path:
        """Write it as a tar."""
        path.write_bytes(layer({**self.files(), **{name.replace("__", "."): data for name, data in more.items()}}))
        return path


def layout(*layers: bytes, **more: Any) -> Layout:
    """Give a layout of one image."""
    made = Layout()
    made.top.append(made.image(layers, **more))
    return made


def docker_save(path: Path, *images: tuple[str, Sequence[bytes], Mapping[str, Any]]) -> Path:
    """Write the older format of `docker save`: tag, layers and configuration of each image."""
    members: dict[str, bytes | Link | Hard | None] = {}
    rows = []
    for tag, layers, config in images:
        described = json.dumps({**config, "rootfs": {"diff_ids": [sha256(one) for one in layers]}}).encode()
        name = sha256(described)[7:] + ".json"
        members[name] = described
        names = []
        for number, one in enumerate(layers):
            names.append(f"{name[:12]}{number}/layer.tar")
            members[names[-1]] = one
        rows.append({"Config": name, "RepoTags": [tag], "Layers": names})
    members["manifest.json"] = json.dumps(rows).encode()
    path.write_bytes(layer(members))
    return path


def system(glibc: str = "2.41", **others: str) -> bytes:
    """Give a layer with a C library, and others in `/usr/lib64` by the names of files with the data of ELF."""
    banner = f"GNU C Library stable release version {glibc}.\n".encode()
    c_library = elf(others.pop("libc", "plain.so"))
    return layer(
        {
            "usr/lib64/libc.so.6": c_library + banner,
            "lib64": Link("usr/lib64"),
            **{f"usr/lib64/{name.replace('__', '.')}": elf(data) for name, data in others.items()},
        }
    )
