"""A base and layers become one plain image, written as other tools read it, with nothing of the host in it."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from image.registries import needs
from image.saved import Layout, docker_save, layer, layout, sha256
from manylambda.errors import PackagingError, RequestError, UnsafeArchive
from manylambda.fetch import Cache
from manylambda.image import Scratch, choose, open_store, read_images
from manylambda.image import base as bases
from manylambda.image.assemble import AddedLayer, ManifestFormat, Start, assemble
from manylambda.image.layer_writer import layer as written_layer
from manylambda.image.saving import is_layout_of, write_docker_archive, write_layout
from manylambda.tree import MODE_FILE, Bytes, Entry, PackageTree

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.image.assembled import Assembled
    from manylambda.image.base import Base

ROOT = layer({"usr/bin/python3.13": b"\x7fELF"})
CONFIG = {
    "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "EMPTY="],
    "Entrypoint": ["/lambda-entrypoint.sh"],
    "Cmd": ["old.handler"],
    "WorkingDir": "/root",
    "User": "1000",
    "Labels": {"vendor": "them", "org.opencontainers.image.title": "base"},
    "StopSignal": "SIGTERM",
    "OnBuild": ["RUN x"],
    "Hostname": "abc",
}
START = Start(None, ("app.handler",), "/var/task", {"LANG": "de_DE", "NEW": "a=b"})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def saved(tmp_path: Path, config: dict[str, Any] | None = None) -> Path:
    return layout(ROOT, config=CONFIG if config is None else config).folder(tmp_path / "base")


def base_of(path: Path, cache: Cache, architecture: str = "amd64") -> Base:
    return bases.of_file(path, architecture, cache)[0]


def added(cache: Cache, path: str = "app.py", data: bytes = b"x = 1\n") -> AddedLayer:
    tree = PackageTree([Entry(path, MODE_FILE, Bytes(data), "project")])
    return AddedLayer(written_layer(tree, "var/task", {}, cache=cache), "COPY code /var/task")


def made(cache: Cache, base: Base, start: Start = START, manifest: ManifestFormat = "oci") -> Assembled:
    return assemble(base, [added(cache)], start, labels={"a": "b"}, manifest=manifest, cache=cache)


def document(image: Assembled) -> Any:
    assert image.config.path is not None
    data = image.config.path.read_bytes()
    assert (image.config.digest, image.config.size) == (sha256(data), len(data))
    return json.loads(data)


# The configuration


def test_what_the_base_says_stays_unless_it_is_said_anew(tmp_path: Path, cache: Cache) -> None:
    found = document(made(cache, base_of(saved(tmp_path), cache)))
    assert found["config"] == {
        "Env": ["PATH=/usr/bin", "LANG=de_DE", "EMPTY=", "NEW=a=b"],
        "Entrypoint": ["/lambda-entrypoint.sh"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/var/task",
        "User": "1000",
        "StopSignal": "SIGTERM",
        "Labels": {"vendor": "them", "org.opencontainers.image.title": "base", "a": "b"},
    }
    assert (found["architecture"], found["os"]) == ("amd64", "linux")


def test_the_bases_command_is_never_kept(tmp_path: Path, cache: Cache) -> None:
    found = document(made(cache, base_of(saved(tmp_path), cache), START._replace(command=())))
    assert "Cmd" not in found["config"]
    assert [one["created_by"] for one in found["history"] if one.get("empty_layer")] == [
        "WORKDIR /var/task",
        "ENV LANG=de_DE",
        "ENV NEW=a=b",
    ]


def test_another_entry_point_takes_the_place_of_the_bases(tmp_path: Path, cache: Cache) -> None:
    start = START._replace(entry_point=("/usr/bin/python3.13", "-m", "awslambdaric"))
    found = document(made(cache, base_of(saved(tmp_path), cache), start))
    assert found["config"]["Entrypoint"] == ["/usr/bin/python3.13", "-m", "awslambdaric"]


def test_a_base_that_says_nothing_is_one(tmp_path: Path, cache: Cache) -> None:
    found = document(made(cache, base_of(saved(tmp_path, {}), cache)))
    assert found["config"]["Env"] == ["LANG=de_DE", "NEW=a=b"]
    assert found["created"] == "1980-01-01T00:00:00Z"


def test_each_layer_is_told_in_the_history_and_never_when(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache))
    found = document(image)
    filled = [one for one in found["history"] if not one.get("empty_layer")]
    assert len(filled) == len(image.layers) == len(found["rootfs"]["diff_ids"]) == 2
    assert {one["created"] for one in found["history"]} == {"1980-01-01T00:00:00Z"}


def test_the_history_of_the_base_stays_where_it_fits(tmp_path: Path, cache: Cache) -> None:
    rows = [
        {"created": "2024-01-02T03:04:05Z", "created_by": "ADD rootfs"},
        {"created": "2024-01-02T03:04:06Z", "empty_layer": True},
    ]
    base = base_of(saved(tmp_path), cache)
    whole = base._replace(document={**base.document, "created": "2024-01-02T03:04:06Z", "history": rows})
    found = document(made(cache, whole))
    assert found["history"][:2] == rows
    assert found["created"] == found["history"][2]["created"] == "2024-01-02T03:04:06Z"
    short = base._replace(document={**base.document, "history": [*rows, rows[0]]})
    assert document(made(cache, short))["history"][0]["comment"] == "of the base image"


# The manifest


@pytest.mark.parametrize(
    ("manifest", "types"),
    [
        (
            "oci",
            {
                "application/vnd.oci.image.manifest.v1+json",
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            },
        ),
        (
            "docker",
            {
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            },
        ),
    ],
)
def test_the_manifest_is_plain_and_of_one_format(
    tmp_path: Path, cache: Cache, manifest: ManifestFormat, types: set[str]
) -> None:
    image = made(cache, base_of(saved(tmp_path), cache), manifest=manifest)
    found = json.loads(image.manifest)
    assert found.keys() == {"schemaVersion", "mediaType", "config", "layers"}
    assert {found["mediaType"], found["config"]["mediaType"], *(one["mediaType"] for one in found["layers"])} == types
    for described, part in zip([found["config"], *found["layers"]], [image.config, *image.layers], strict=True):
        assert part.path is not None
        data = part.path.read_bytes()
        assert (described["digest"], described["size"]) == (sha256(data), len(data))
    assert [sha256(gzip.decompress(part.path.read_bytes())) for part in image.layers if part.path] == document(image)[
        "rootfs"
    ]["diff_ids"]


# Bases


def test_layers_that_a_base_has_uncompressed_are_compressed_alike_every_time(tmp_path: Path, cache: Cache) -> None:
    """`docker save` of old writes them so; a registry and Lambda want them gzipped."""
    path = docker_save(tmp_path / "base.tar", ("base:1", [ROOT], {"architecture": "amd64", "os": "linux"}))
    (part,) = base_of(path, cache).layers
    assert part.path is not None
    assert gzip.decompress(part.path.read_bytes()) == ROOT
    assert part.diff_id == sha256(ROOT)
    assert base_of(path, Cache(tmp_path / "other")).layers[0].digest == part.digest
    assert base_of(path, cache).layers == (part,)


def test_layers_that_a_base_has_compressed_stay_as_they_are(tmp_path: Path, cache: Cache) -> None:
    packed = gzip.compress(ROOT, 9, mtime=7)
    base = Layout()
    base.top.append(base.image([ROOT], packed=[packed]))
    for path in (base.folder(tmp_path / "base"), base.tar(tmp_path / "base.tar")):
        (part,) = base_of(path, cache).layers
        assert part.digest == sha256(packed)


def test_a_base_of_another_machine_is_refused(tmp_path: Path, cache: Cache) -> None:
    path = saved(tmp_path)
    with pytest.raises(RequestError, match=re.escape("`base` is for `linux/amd64`, not for `linux/arm64`")):
        base_of(path, cache, "arm64")


def test_a_base_that_is_not_there_is_named(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(RequestError, match=re.escape(f"there is no saved image `{tmp_path / 'none'}`")):
        base_of(tmp_path / "none", cache)


def test_a_base_with_a_damaged_layer_is_refused(tmp_path: Path, cache: Cache) -> None:
    path = saved(tmp_path)
    (large,) = [one for one in (path / "blobs" / "sha256").iterdir() if one.read_bytes()[:2] == b"\x1f\x8b"]
    large.write_bytes(large.read_bytes()[:-1] + b"!")
    with pytest.raises(UnsafeArchive, match="`base` is damaged: the digest of a layer is sha256:"):
        base_of(path, cache)


def test_a_base_compressed_otherwise_is_refused(tmp_path: Path, cache: Cache) -> None:
    base = Layout()
    zstd = b"\x28\xb5\x2f\xfd" + b"0" * 50
    base.top.append(base.image([ROOT], packed=[zstd], media_type="application/vnd.oci.image.layer.v1.tar+zstd"))
    with pytest.raises(RequestError, match="is compressed by zstd, and nothing shows that Lambda takes such layers"):
        base_of(base.folder(tmp_path / "base"), cache)


# Files


def test_a_layout_is_read_by_ourselves_and_by_skopeo(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache))
    folder = tmp_path / "image"
    write_layout(image, folder, "python3.13-x86_64")
    read = choose(read_images(open_store(folder, Scratch())), "amd64", "image")
    assert (read.digest, read.name, read.in_index) == (image.digest, "python3.13-x86_64", False)
    assert read.config.command == ("app.handler",)
    needs("skopeo")
    inspected = json.loads(
        subprocess.run(["skopeo", "inspect", f"oci:{folder}"], check=True, capture_output=True).stdout
    )
    assert inspected["Digest"] == image.digest
    assert inspected["Layers"] == [part.digest for part in image.layers]
    copy = tmp_path / "copy"  # reads every blob, and compares its digest
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{folder}", f"dir:{copy}"], check=True)
    assert (copy / "manifest.json").read_bytes() == image.manifest


def test_a_layout_has_nothing_of_the_host(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache))
    before = os.umask(0o077)
    try:
        write_layout(image, tmp_path / "one", "x")
    finally:
        os.umask(before)
    write_layout(image, tmp_path / "two", "x")
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        found.append([(str(path.relative_to(folder)), path.read_bytes(), path.stat().st_mode) for path in paths])
    assert found[0] == found[1]


def test_a_layout_that_is_there_is_known_again(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache))
    folder = tmp_path / "image"
    assert not is_layout_of(image, folder, "x")
    write_layout(image, folder, "x")
    assert is_layout_of(image, folder, "x")
    assert not is_layout_of(image, folder, "y")
    (folder / "blobs" / "sha256" / ("0" * 64)).touch()
    assert not is_layout_of(image, folder, "x")
    (folder / "blobs" / "sha256" / ("0" * 64)).unlink()
    (folder / "blobs" / "sha256" / image.config.digest[7:]).write_bytes(b"{}")
    assert not is_layout_of(image, folder, "x")


def test_a_docker_archive_is_a_layout_as_well(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache), manifest="docker")
    file = tmp_path / "image.tar"
    write_docker_archive(image, file, "api:1")
    read = choose(read_images(open_store(file, Scratch())), "amd64", "image.tar")
    assert (read.digest, read.is_docker_save) == (image.digest, True)
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
        (row,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert row["RepoTags"] == ["api:1"]
        for path, part in zip([row["Config"], *row["Layers"]], [image.config, *image.layers], strict=True):
            member = archive.extractfile(path)
            assert member is not None
            assert sha256(member.read()) == part.digest
        assert {one.mtime for one in archive.getmembers()} == {315_532_800}


def test_the_same_layer_twice_is_written_once(tmp_path: Path, cache: Cache) -> None:
    base = base_of(saved(tmp_path), cache)
    one = added(cache)
    image = assemble(base, [one, one], START, labels={}, manifest="oci", cache=cache)
    write_layout(image, tmp_path / "image", "x")
    write_docker_archive(image, tmp_path / "image.tar", "api:1")
    assert len(json.loads(image.manifest)["layers"]) == 3
    with tarfile.open(tmp_path / "image.tar") as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))


def test_a_blob_that_changed_meanwhile_is_not_written(tmp_path: Path, cache: Cache) -> None:
    image = made(cache, base_of(saved(tmp_path), cache))
    path = image.layers[-1].path
    assert path is not None
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(PackagingError, match=re.escape(f"`{path}` changed while the image was written")):
        write_layout(image, tmp_path / "image", "x")
