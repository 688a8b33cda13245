"""What a saved image says of itself is read whoever saved it, and the image that fits is chosen."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from image.saved import INDEX, Hard, Layout, Link, docker_save, layer, layout, sha256
from manylambda.errors import RequestError, UnsafeArchive
from manylambda.image import FileSystem, Image, Scratch, choose, is_image, open_store, read_images

if TYPE_CHECKING:
    from pathlib import Path

APP = layer({"var/task/app.py": b"x = 1\n"})


def images(path: Path) -> tuple[Image, ...]:
    return read_images(open_store(path, Scratch()))


def chosen(path: Path, architecture: str | None = "arm64") -> Image:
    return choose(images(path), architecture, path.name)


def files(path: Path, architecture: str | None = None) -> list[str]:
    store = open_store(path, scratch := Scratch())
    image = choose(read_images(store), architecture, path.name)
    return [name for name, node in FileSystem(store, image.layers, scratch, ["/"]) if node.kind == "file"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


def test_a_layout_is_read_as_folder_and_tar(tmp_path: Path, path: Path) -> None:
    config = {
        "Cmd": ["app.handler"],
        "Entrypoint": ["/lambda-entrypoint.sh"],
        "Env": ["A=1=2", "B"],
        "WorkingDir": "/var/task",
        "User": "1",
    }
    made = layout(APP, config=config, architecture="arm64")
    for saved in (made.folder(tmp_path / "layout"), made.tar(path)):
        assert is_image(saved)
        image = chosen(saved)
        assert image.config.command == ("app.handler",)
        assert image.config.entry_point == ("/lambda-entrypoint.sh",)
        assert image.config.environment == {"A": "1=2", "B": ""}
        assert (image.config.working_folder, image.config.user) == ("/var/task", "1")
        assert (image.config.architecture, image.config.os) == ("arm64", "linux")
        assert (image.in_index, image.has_attestation, image.is_docker_save) == (False, False, False)
        assert files(saved) == ["/var/task/app.py"]


def test_docker_save_is_read(path: Path) -> None:
    docker_save(path, ("api:1", [APP, APP], {"architecture": "amd64", "config": {"Cmd": None}}))
    image = chosen(path)
    assert (image.name, image.media_type, image.is_docker_save, image.config.command) == ("api:1", None, True, ())
    assert files(path) == ["/var/task/app.py"]


def test_docker_save_with_links_between_layers_is_read(path: Path) -> None:
    docker_save(path, ("api:1", [APP], {"architecture": "amd64"}))
    with tarfile.open(path) as archive:
        members = {member.name: file.read() for member in archive if (file := archive.extractfile(member)) is not None}
    (name,) = (name for name in members if name.endswith("/layer.tar"))
    linked: dict[str, Any] = {**members, name: Link("../real.tar"), "real.tar": APP}
    path.write_bytes(layer(linked))
    assert files(path) == ["/var/task/app.py"]


def test_a_newer_docker_save_is_read_as_the_layout_it_is(path: Path) -> None:
    made = layout(APP, packed=[APP], media_type="application/vnd.oci.image.layer.v1.tar")
    made.tar(path, manifest__json=b"[]")
    assert chosen(path).is_docker_save
    assert files(path) == ["/var/task/app.py"]


def test_a_compressed_save_is_read(tmp_path: Path, path: Path) -> None:
    layout(APP).tar(path)
    packed = tmp_path / "image.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert is_image(packed)
    assert files(packed) == ["/var/task/app.py"]


def test_the_image_of_the_architecture_is_chosen(path: Path) -> None:
    made = Layout()
    made.top = [
        made.index(
            made.image([APP], architecture="amd64"),
            made.image([APP], architecture="arm64", platform={"architecture": "arm64", "os": "linux"}),
            made.image([], platform={"architecture": "unknown"}, annotations={"vnd.docker.reference.type": "x"}),
        )
    ]
    made.tar(path)
    assert [image.config.architecture for image in images(path)] == ["amd64", "arm64"]
    image = chosen(path)
    assert (image.config.architecture, image.in_index, image.has_attestation) == ("arm64", True, True)
    with pytest.raises(RequestError) as raised:
        chosen(path, "s390x")
    assert raised.value.message == "`image.tar` has no image for `s390x`, only for `amd64`, `arm64`"
    with pytest.raises(RequestError, match=r"^`image\.tar` has 2 images: `sha256:"):
        chosen(path, None)


def test_several_images_of_one_architecture_are_named(path: Path) -> None:
    config = {"architecture": "arm64"}
    docker_save(path, ("a:1", [APP], config), ("b:2", [APP, APP], config))
    with pytest.raises(RequestError) as raised:
        chosen(path)
    assert raised.value.message == "`image.tar` has 2 images for `arm64`: `a:1`, `b:2`"
    assert raised.value.hint == "save the one to look at in a file of its own"


def test_tags_of_one_image_are_one_image(path: Path) -> None:
    made = Layout()
    one = made.image([APP])
    made.top = [{**one, "annotations": {"io.containerd.image.name": name}} for name in ("a", "b")]
    made.tar(path)
    assert chosen(path).name == "a"


def test_platforms_that_were_not_saved_are_passed_over(path: Path) -> None:
    made = Layout()
    gone = made.image([APP], architecture="arm64")
    made.top = [made.index(gone, made.image([APP], architecture="amd64"))]
    del made.blobs[gone["digest"]]
    assert [image.config.architecture for image in images(made.tar(path))] == ["amd64"]


def test_charts_and_signatures_are_no_images(path: Path) -> None:
    made = Layout()
    config = made.document({}, "application/vnd.oci.empty.v1+json")
    made.top = [made.document({"config": config, "layers": []}, "application/vnd.oci.image.manifest.v1+json")]
    with pytest.raises(RequestError) as raised:
        chosen(made.tar(path))
    assert raised.value.message == "`image.tar` has no image"


def test_a_tar_without_an_image_is_told_from_an_export(path: Path) -> None:
    path.write_bytes(APP)
    with pytest.raises(RequestError) as raised:
        images(path)
    assert raised.value.message == (
        "`image.tar` is a tar without an image: it has neither `index.json` nor `manifest.json`"
    )
    assert raised.value.hint == "`docker export` writes only the files: use `docker save`"
    path.write_bytes(layer({"app.py": b""}))
    with pytest.raises(RequestError) as raised:
        images(path)
    assert raised.value.hint == "write one by `docker save`, `podman save` or `skopeo copy ... oci-archive:FILE`"


@pytest.mark.parametrize(
    ("magic", "name", "command"),
    [(b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"), (b"\xfd7zXZ\0", "xz", "xz -d"), (b"BZh9", "bzip2", "bzip2 -d")],
)
def test_other_compressions_are_named(path: Path, magic: bytes, name: str, command: str) -> None:
    path.write_bytes(magic + b"rest")
    assert is_image(path)
    with pytest.raises(RequestError) as raised:
        images(path)
    assert raised.value.message == f"`image.tar` is compressed by {name}, which is not read here"
    assert raised.value.hint == f"uncompress it first, or compress it by gzip: `{command} image.tar`"
    layout(APP, packed=[magic + b"rest"]).tar(path)
    with pytest.raises(RequestError, match=f"is compressed by {name}, and nothing shows that Lambda takes such layers"):
        files(path)


def test_zips_wheels_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4" + bytes(600))
    (tmp_path / "b").write_bytes(b"no tar" * 100)
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / "index.json").write_text("{}")
    assert not any(is_image(tmp_path / name) for name in ("a.zip", "b", "c", "none", "."))


# Damaged and hostile files.


def changed(made: Layout, path: Path, name: str, data: bytes | None) -> Path:
    members: dict[str, Any] = {**made.files(), name: data}
    path.write_bytes(layer({name: value for name, value in members.items() if value is not None}))
    return path


def test_blobs_must_have_their_digests(path: Path) -> None:
    made = layout(APP)
    digests = list(made.blobs)
    packed, described = digests[1], digests[0]
    false = b'{"rootfs": {}}'
    changed(made, path, f"blobs/{described.replace(':', '/')}", false)
    with pytest.raises(UnsafeArchive) as raised:
        images(path)
    assert raised.value.message == f"`image.tar` is damaged: `{described}` has the digest {sha256(false)[7:]}"
    other = gzip.compress(APP + bytes(512))
    changed(made, path, f"blobs/{packed.replace(':', '/')}", other)
    with pytest.raises(UnsafeArchive) as raised:
        files(path)
    assert raised.value.message.endswith(f"is damaged: its digest is {sha256(other)}, the image names {packed}")


def test_layers_of_docker_save_must_be_those_that_the_configuration_names(path: Path) -> None:
    docker_save(path, ("a", [APP], {}))
    path.write_bytes(path.read_bytes().replace(b"x = 1", b"x = 2"))
    with pytest.raises(UnsafeArchive, match=r"is damaged: its digest is sha256:\w+, the image names sha256:"):
        files(path)


def test_a_missing_layer_or_configuration_is_told(path: Path) -> None:
    for number, what in ((0, "the configuration"), (1, "a layer:")):
        made = layout(APP)
        digest = list(made.blobs)[number]
        del made.blobs[digest]
        made.tar(path)
        with pytest.raises(UnsafeArchive, match=f"`image.tar` lacks {what} `{digest}`"):
            files(path)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(APP)[:-20], id="cut"),
        pytest.param(gzip.compress(APP)[:40] + b"garbage" * 9, id="garbage"),
        pytest.param(gzip.compress(APP) + b"more", id="more"),
        pytest.param(b"no tar at all" * 100, id="no tar"),
        pytest.param(APP[:100] + b"\xff" * 100 + APP[200:], id="checksum"),
    ],
)
def test_damaged_layers_are_refused(path: Path, packed: bytes) -> None:
    layout(APP, packed=[packed]).tar(path)
    with pytest.raises(UnsafeArchive, match=r"^`image.tar: layer sha256:\w+` is damaged: "):
        files(path)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(APP, id="uncompressed"),
        pytest.param(gzip.compress(APP[:700]) + gzip.compress(APP[700:]), id="many members"),
        pytest.param(gzip.compress(APP) + bytes(1000), id="padded"),
        pytest.param(gzip.compress(APP[:1024]), id="without an end"),
    ],
)
def test_layers_as_odd_tools_write_them_are_read(path: Path, packed: bytes) -> None:
    layout(APP, packed=[packed]).tar(path)
    assert files(path) == ["/var/task/app.py"]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


EMPTY = header("y", 0)


@pytest.mark.parametrize(
    ("tar", "fact"),
    [
        (header("x", 64 << 20, tarfile.XHDTYPE) + bytes(2048), "an extended header is too large"),
        (header("x", 30, tarfile.XHDTYPE) + b"99999 path=a\n" + bytes(499), "an extended header is malformed"),
        (header("x", 30, tarfile.XHDTYPE) + b"0 path=a\n" + bytes(503), "an extended header is malformed"),
        (header("x", 11, tarfile.XHDTYPE) + b"11 size=-1\n" + bytes(501) + EMPTY, "a member has no readable size"),
        (header("var/task/x", -5), "a member has a negative size"),
        (header("n" * 5000, 0), "a path is longer than Linux takes"),
        (header("x", 5, tarfile.GNUTYPE_LONGNAME) + b"ab", "it ends early"),
    ],
)  # fmt: skip
def test_hostile_headers_are_refused(path: Path, tar: bytes, fact: str) -> None:
    layout(tar).tar(path)
    with pytest.raises(UnsafeArchive, match=rf"^`image.tar: layer sha256:\w+` is damaged: {fact}$"):
        files(path)


def test_a_wanted_file_that_is_cut_short_or_sparse_is_refused(path: Path) -> None:
    layout(header("var/task/x", 5000) + b"too little").tar(path)
    with pytest.raises(UnsafeArchive, match="is cut short in `var/task/x`"):
        files(path)
    layout(header("var/task/x", 0, tarfile.GNUTYPE_SPARSE)).tar(path)
    with pytest.raises(UnsafeArchive, match="has a sparse file: `var/task/x`"):
        files(path)


def test_headers_of_a_pax_archive_count(path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "global"}) as archive:
        info = tarfile.TarInfo("short")
        info.pax_headers = {"path": "var/task/Ä" + "l" * 200, "SCHILY.xattr.user.x": "1"}
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
        archive.addfile(tarfile.TarInfo("var/task/next"))
    layout(sink.getvalue()).tar(path)
    assert files(path) == ["/var/task/next", "/var/task/Ä" + "l" * 200]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("index.json", b"["),
        ("index.json", b"[]"),
        ("index.json", b'{"manifests": 1}'),
        ("index.json", b'{"manifests": [{"digest": "sha256:../../etc/passwd"}]}'),
        ("index.json", b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "annotations": [1]}]}'),
        ("index.json", b"[" * 200_000),
        ("index.json", b"\xff\xfe"),
    ],
)
def test_malformed_documents_are_refused(path: Path, name: str, document: bytes) -> None:
    changed(layout(APP), path, name, document)
    with pytest.raises(UnsafeArchive, match=r"^`image.tar` has no valid image: .* is malformed$"):
        images(path)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        [1],
        [{"Config": 1}],
        [{"Config": "c.json", "Layers": [1]}],
        [{"Config": "c.json", "Layers": [], "RepoTags": "a"}],
        [{"Config": "bad.json"}],
        [{"Config": "list.json"}],
        [{"Config": "env.json"}],
        [{"Config": "ids.json"}],
        [{"Config": "inner.json"}],
    ],
)
def test_malformed_saves_are_refused(path: Path, rows: object) -> None:
    members = {
        "manifest.json": json.dumps(rows).encode(),
        "c.json": b"{}",
        "bad.json": b"{",
        "list.json": b"[]",
        "env.json": b'{"config": {"Env": [1]}}',
        "ids.json": b'{"rootfs": {"diff_ids": ["md5:1"]}}',
        "inner.json": b'{"config": [1]}',
    }
    path.write_bytes(layer(members))
    with pytest.raises(UnsafeArchive, match=r"^`image.tar` has no valid image: .* is malformed$"):
        images(path)


def test_malformed_manifests_are_refused(path: Path) -> None:
    made = Layout()
    config = made.document({"architecture": "amd64"}, "application/vnd.oci.image.config.v1+json")
    for number, manifest in enumerate(
        (
            {"mediaType": ["a"], "config": config, "layers": []},
            {"config": [], "layers": []},
            {"config": config, "layers": {}},
            {"config": {**config, "digest": "sha256:1"}, "layers": []},
        )
    ):
        made.top = [made.document(manifest, "application/vnd.oci.image.manifest.v1+json")]
        with pytest.raises(UnsafeArchive, match=r"^`image.tar` has no valid image: .* is malformed$"):
            images(made.tar(path.with_name(f"{number}.tar")).rename(path))


def test_layers_and_their_names_must_be_as_many(path: Path) -> None:
    config = json.dumps({"rootfs": {"diff_ids": []}}).encode()
    manifest = json.dumps([{"Config": "c", "Layers": ["l"]}]).encode()
    path.write_bytes(layer({"manifest.json": manifest, "c": config, "l": APP}))
    with pytest.raises(UnsafeArchive) as raised:
        images(path)
    assert raised.value.message == "`image.tar` has an image with 1 layers whose configuration names 0"


def test_indexes_without_end_are_refused(path: Path) -> None:
    made = Layout()
    inner = made.image([APP])
    for _ in range(8):
        inner = made.index(inner)
    made.top = [inner]
    with pytest.raises(UnsafeArchive, match="has too many manifests"):
        images(made.tar(path))
    made = Layout()
    made.top = [made.document({"n": number}, INDEX) for number in range(1001)]
    with pytest.raises(UnsafeArchive, match="has too many manifests"):
        images(made.tar(path))


def test_a_save_that_is_cut_short_is_refused(path: Path) -> None:
    big = layer({"var/task/big": bytes(20_000)})
    layout(big, packed=[big]).tar(path)
    path.write_bytes(path.read_bytes()[:15_000])
    with pytest.raises(UnsafeArchive, match=r"^`image\.tar` is cut short: `blobs/sha256/\w+` is not all there$"):
        images(path)


def test_a_bomb_of_gzip_is_not_unpacked(tmp_path: Path, path: Path) -> None:
    from manylambda.image.store import inflated

    path.write_bytes(gzip.compress(bytes(10 << 20)))
    scratch = Scratch()
    with pytest.raises(UnsafeArchive, match="unpacks to more than 2 MiB: it is no image that Lambda takes"):
        inflated(path, scratch, limit=2 << 20)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnsafeArchive, match=r"`image.tar` is damaged: "):
        inflated(path, scratch)


def test_no_text_of_an_image_reaches_a_terminal_as_it_is(path: Path) -> None:
    evil = "\x1b]0;evil\x07\ud800"
    config = {"architecture": evil, "os": evil, "config": {"Cmd": [evil], "WorkingDir": evil, "Env": [evil]}}
    docker_save(path, (evil, [APP], config))
    image = chosen(path)
    texts = (image.name, image.config.architecture, image.config.working_folder, *image.config.command)
    assert {*texts, image.config.os, *image.config.environment} == {r"\x1b]0;evil\x07\xd800"}
    path.write_bytes(layer({"manifest.json": json.dumps([{"Config": evil, "Layers": [evil]}]).encode()}))
    with pytest.raises(UnsafeArchive) as raised:
        images(path)
    assert raised.value.message == r"`image.tar` lacks `\x1b]0;evil\x07\xd800`"
    docker_save(path, ("a", [layer({"var/task/\x1b[2J": Hard("\x1b[2J")})], {}))
    with pytest.raises(UnsafeArchive) as raised:
        files(path)
    assert raised.value.message.endswith(r"has a hard link to nothing: `var/task/\x1b[2J` to `\x1b[2J`")
