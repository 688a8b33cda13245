"""Images come to real registries whole, once, with the login each wants; what is there is what other tools see."""

from __future__ import annotations

import gzip
import json
import random
import select
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from fetch.authority import make_authority
from image.registries import RealRegistry, TokenServer, needs, registry
from image.saved import Layout, docker_save, layer, sha256
from image.test_registry import HTPASSWD, LOGIN, docker_config
from manylambda.errors import FetchError, RequestError, UnsafeArchive
from manylambda.fetch import Cache, HttpSettings
from manylambda.image import Scratch
from manylambda.image import push as module
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import assembled, pull, resolve
from manylambda.image.push import Pushed, PushedPart, push
from manylambda.image.reference import Reference
from manylambda.image.registry import Refused
from manylambda.image.saved import open_saved
from manylambda.progress import SILENT
from trial.containers import podman

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.image.assembled import Assembled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")

LARGE = layer({"usr/lib/large": random.Random(9).randbytes(3_000_000)})
APP = layer({"var/task/app.py": b"x = 1\n"})


def one(*more: bytes) -> Layout:
    made = Layout()
    made.top.append(made.image([LARGE, APP, *more], architecture="amd64", config={"Cmd": ["app.handler"]}))
    return made


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("open")
    with registry(folder, folder / "data") as running:
        yield running


@pytest.fixture
def anonymous(open_registry: RealRegistry) -> RealRegistry:
    open_registry.requests()
    return open_registry


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def image(tmp_path: Path) -> Assembled:
    return open_saved(one().folder(tmp_path / "layout"), None, Scratch(), Cache(tmp_path / "cache"))


def pushed(image: Assembled, reference: Reference, cache: Cache, **more: Any) -> Pushed:
    settings = HttpSettings(timeout=10, retries=3, backoff=0.001, longest_wait=0.05)
    options = {"settings": settings, "credentials": RegistryCredentials({}), **more}
    return push(image, reference, cache=cache, **options)


def inspected(reference: Reference, *words: str) -> Any:
    """Give what `skopeo` sees, or its manifest with `--raw`."""
    needs("skopeo")
    command = ["skopeo", "inspect", "--tls-verify=false", *words, f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def sent(lines: list[str]) -> list[str]:
    """Give the requests that change something: method, and the status."""
    return [f"{line.split()[0]} {line.split()[-1]}" for line in lines if line.split()[0] not in {"GET", "HEAD"}]


# What is there afterwards


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_what_was_pushed_is_what_skopeo_sees(anonymous: RealRegistry, cache: Cache, tmp_path: Path, form: str) -> None:
    made = one()
    path = made.folder(tmp_path / "made") if form == "folder" else made.tar(tmp_path / "made.tar")
    scratch = Scratch()
    image = open_saved(path, "amd64", scratch, cache)
    reference = anonymous.reference(f"own/{form}:1")
    done = pushed(image, reference, cache)
    digest = made.top[0]["digest"]
    assert done.reference == reference.pinned(digest)
    assert image.digest == digest
    seen = inspected(reference)
    assert (seen["Digest"], seen["Layers"]) == (digest, [part.digest for part in image.layers])
    assert inspected(reference, "--raw") == json.loads(made.blobs[digest])
    assert inspected(reference, "--config")["config"] == {"Cmd": ["app.handler"]}
    copied = tmp_path / "copied"
    command = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"dir:{copied}"]
    subprocess.run(command, check=True, timeout=60)
    for part in (image.config, *image.layers):
        assert (copied / part.digest[7:]).read_bytes() == made.blobs[part.digest]


def test_podman_pulls_what_was_pushed(anonymous: RealRegistry, cache: Cache, image: Assembled) -> None:
    reference = anonymous.reference("own/podman:1")
    pushed(image, reference, cache)
    name = f"{reference.name}@{image.digest}"
    try:
        assert podman("pull", "--quiet", "--tls-verify=false", name) == image.config.digest[7:]
    finally:
        podman("rmi", "--force", name)


def test_a_second_push_sends_nothing(anonymous: RealRegistry, cache: Cache, image: Assembled) -> None:
    reference = anonymous.reference("own/twice:1")
    first = pushed(image, reference, cache)
    assert (first.uploaded, first.mounted, first.present) == (image.size, 0, 0)
    assert [part.how for part in first.parts] == ["uploaded"] * 3
    assert [part.digest for part in first.parts] == [*(one.digest for one in image.layers), image.config.digest]
    anonymous.requests()
    second = pushed(image, reference, cache)
    assert (second.uploaded, second.mounted, second.present) == (0, 0, image.size)
    assert sent(anonymous.requests()) == []
    third = pushed(image, anonymous.reference("own/twice:2"), cache)
    assert sent(anonymous.requests()) == ["PUT 201"]
    assert third.uploaded == 0


def test_only_what_is_new_is_sent(anonymous: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path) -> None:
    reference = anonymous.reference("own/grown:1")
    pushed(image, reference, cache)
    more = layer({"var/task/more.py": b"y = 2\n"})
    grown = open_saved(one(more).folder(tmp_path / "grown"), None, Scratch(), cache)
    done = pushed(grown, reference, cache)
    assert [part.how for part in done.parts] == ["present", "present", "uploaded", "uploaded"]
    assert inspected(reference)["Digest"] == grown.digest


def test_a_layer_of_the_base_is_mounted(anonymous: RealRegistry, cache: Cache, image: Assembled) -> None:
    base = anonymous.reference("lambda/python:3.13")
    pushed(image, base, cache)
    anonymous.requests()
    large = image.layers[0]._replace(path=None, source=base)
    derived = image._replace(layers=(large, image.layers[1]))
    done = pushed(derived, anonymous.reference("own/derived:1"), cache)
    assert (done.mounted, done.present) == (large.size, 0)
    assert done.parts[0] == PushedPart(large.digest, large.size, "mounted")
    lines = anonymous.requests()
    assert any("?from=lambda%2Fpython" in line or "from=lambda" in line for line in lines)
    assert not any(f"GET /v2/lambda/python/blobs/{large.digest}" in line for line in lines), "no byte of it came here"
    again = pushed(derived, anonymous.reference("own/derived:1"), cache)
    assert (again.uploaded, again.mounted, again.present) == (0, 0, image.size)


def test_an_image_is_copied_from_registry_to_registry(
    anonymous: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path
) -> None:
    source = anonymous.reference("own/source:1")
    pushed(image, source, cache)
    with registry(tmp_path / "other", tmp_path / "data") as other:
        resolved = resolve(
            source, None, cache=cache, credentials=RegistryCredentials({}), offline=False, progress=SILENT
        )
        found = assembled(resolved, cache)
        assert (found.manifest, found.digest) == (image.manifest, image.digest)
        assert [part.path for part in found.layers] == [None, None]
        done = pushed(found, other.reference("copy/of-it:1"), cache)
        assert done.uploaded == image.size
        assert inspected(other.reference("copy/of-it:1"))["Digest"] == image.digest
    incoming = cache.incoming("x").parent
    assert [path.name for path in incoming.iterdir() if path.suffix in {".part", ".tmp"}] == []


def test_what_is_damaged_in_the_cache_is_had_again(
    anonymous: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path
) -> None:
    source = anonymous.reference("own/had:1")
    pushed(image, source, cache)
    pull(source, "amd64", cache=cache, credentials=RegistryCredentials({}), offline=False, progress=SILENT)
    found = assembled(resolve(source, None, cache=cache, offline=False, progress=SILENT), cache)
    damaged, gone = (part.path for part in found.layers)
    assert damaged is not None
    assert gone is not None
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    gone.unlink()
    with registry(tmp_path / "other", tmp_path / "data") as other:
        pushed(found, other.reference("copy/of-it:1"), cache)
        assert inspected(other.reference("copy/of-it:1"))["Digest"] == image.digest
    assert sha256(damaged.read_bytes()) == found.layers[0].digest


def test_a_layer_that_its_source_alters_is_not_passed_on(
    anonymous: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path
) -> None:
    from fetch.server import MisbehavingServer, send
    from image.registries import publish

    with MisbehavingServer() as liar:
        source = publish(liar, one())
        large = image.layers[0]._replace(path=None, source=source)
        liar.plan(f"/v2/pub/one/blobs/{large.digest}", send(b"\0" * large.size), forever=True)
        reference = anonymous.reference("own/altered:1")
        with pytest.raises(FetchError) as caught:
            pushed(image._replace(layers=(large,)), reference, cache)
    assert caught.value.message.startswith(f"`{source.registry}` sent other bytes than `{source}` names: ")
    assert "PUT" not in {line.split()[0] for line in anonymous.requests() if "manifests" in line}


def test_chunks_make_one_blob(
    anonymous: RealRegistry, cache: Cache, image: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 700_000)
    pushed(image, anonymous.reference("own/chunks:1"), cache)
    assert [line.split()[-1] for line in anonymous.requests() if line.startswith("PATCH")] == ["202"] * 5


@contextmanager
def cutting(behind: RealRegistry, after: int, times: int) -> Iterator[str]:
    """Stand between a client and a registry, and cut a connection so many times, each time after some bytes."""
    host, _, port = behind.host.partition(":")
    left, passed = [times], [0]

    class Between(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server, suppress(OSError):
                while ready := select.select([self.request, server], [], [])[0]:
                    for one in ready:
                        data = one.recv(65536)
                        if not data:
                            return
                        (server if one is self.request else self.request).sendall(data)
                        passed[0] += len(data)
                    if passed[0] >= after and left[0]:
                        left[0] -= 1
                        passed[0] = 0
                        return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Between) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        listener.daemon_threads = True
        thread.start()
        try:
            yield f"127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
            thread.join()
        assert left == [0], "nothing was cut"


def test_a_push_through_a_bad_network_comes_through(
    anonymous: RealRegistry, cache: Cache, image: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1_000_000)
    with cutting(anonymous, 1_500_000, 2) as host:
        done = pushed(image, Reference.parse(f"{host}/own/cut:1"), cache)
    assert done.uploaded == image.size
    assert inspected(anonymous.reference("own/cut:1"))["Digest"] == image.digest


def test_a_manifest_with_an_unknown_part_is_refused(
    anonymous: RealRegistry, cache: Cache, image: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped = PushedPart("", 0, "present")
    monkeypatch.setattr("manylambda.image.push._Pusher._bring", lambda *_: skipped)
    monkeypatch.setattr("manylambda.image.push.Pushed", lambda *_: None)
    reference = anonymous.reference("own/unknown:1")
    with pytest.raises(Refused) as caught:
        push(
            image._replace(config=image.config._replace(digest="")),
            reference,
            cache=cache,
            credentials=RegistryCredentials({}),
        )
    assert caught.value.message == (
        f"`{reference}` could not be pushed to `{anonymous.host}`: 400 Bad Request: "
        "manifest_blob_unknown: blob unknown to registry"
    )
    assert caught.value.hint == "the registry has lost a part that it said to have: push again"


# Logins


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("basic")
    (folder / "htpasswd").write_text(HTPASSWD)
    settings = {"realm": "ours", "path": str(folder / "htpasswd")}
    with registry(folder, folder / "data", auth={"htpasswd": settings}) as running:
        yield running


def test_a_login_of_docker_lets_push(locked: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path) -> None:
    reference = locked.reference("own/one:1")
    credentials = docker_config(tmp_path, locked.host)
    pushed(image, reference, cache, credentials=credentials)
    assert inspected(reference, "--creds", ":".join(LOGIN))["Digest"] == image.digest


def test_without_the_right_login_nothing_is_pushed(
    locked: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path
) -> None:
    reference = locked.reference("own/two:1")
    with pytest.raises(Refused) as caught:
        pushed(image, reference, cache)
    assert caught.value.message.endswith(
        f" of `{reference}` is refused by `{locked.host}`: 401 Unauthorized: unauthorized: authentication required"
    )
    assert caught.value.hint == (
        f"not found, or not public: log in with `podman login {locked.host}` or `docker login {locked.host}`"
    )
    with pytest.raises(Refused) as caught:
        pushed(image, reference, cache, credentials=docker_config(tmp_path, locked.host, password="hunter23-wrong"))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"the login found in `{tmp_path / 'config.json'}` was refused: ")
    assert "hunter23" not in f"{caught.value} {caught.value.hint}"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    needs("openssl")
    with TokenServer(tmp_path_factory.mktemp("tokens")) as running:
        yield running


@pytest.fixture(scope="module")
def with_tokens(tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("token")
    with registry(folder, folder / "data", auth=tokens.settings) as running:
        yield running


def test_one_token_lets_push_all(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, image: Assembled
) -> None:
    tokens.asked.clear()
    credentials = RegistryCredentials({}, {with_tokens.host: tokens.login})
    pushed(image, with_tokens.reference("own/one:1"), cache, credentials=credentials)
    ((_, _, asked),) = tokens.asked
    assert asked["scope"] == ["repository:own/one:pull,push"]


def test_a_mount_asks_for_a_token_of_both_repositories(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, image: Assembled
) -> None:
    credentials = RegistryCredentials({}, {with_tokens.host: tokens.login})
    base = with_tokens.reference("own/base:1")
    pushed(image, base, cache, credentials=credentials)
    tokens.asked.clear()
    derived = image._replace(layers=tuple(part._replace(path=None, source=base) for part in image.layers))
    done = pushed(derived, with_tokens.reference("own/derived:1"), cache, credentials=credentials)
    assert done.mounted == sum(part.size for part in image.layers)
    scopes = [sorted(asked["scope"]) for _, _, asked in tokens.asked]
    assert ["repository:own/base:pull", "repository:own/derived:pull,push"] in scopes
    assert len(scopes) == 2


def test_a_token_that_ends_is_renewed(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, image: Assembled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "lives", 1e-6)
    monkeypatch.setattr(module, "_CHUNK", 1_500_000)
    tokens.asked.clear()
    credentials = RegistryCredentials({}, {with_tokens.host: tokens.login})
    pushed(image, with_tokens.reference("own/renewed:1"), cache, credentials=credentials)
    assert len(tokens.asked) >= 10, "one for each request"


def test_who_may_only_pull_is_told_so(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, image: Assembled
) -> None:
    reference = with_tokens.reference("own/refused:1")
    with pytest.raises(Refused) as caught:
        pushed(image, reference, cache)
    assert " is refused by `" in caught.value.message
    assert "401 Unauthorized" in caught.value.message


# Connections


def test_a_registry_of_an_own_authority_is_believed_when_it_is_named(
    cache: Cache, image: Assembled, tmp_path: Path
) -> None:
    needs("openssl")
    folder = tmp_path / "tls"
    folder.mkdir()
    make_authority(folder)
    tls = {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key")}
    with registry(folder, folder / "data", http={"tls": tls}) as running:
        reference = running.reference("own/one:1")
        with pytest.raises(FetchError) as caught:
            pushed(image, reference, cache)
        assert f" could not be pushed to `https://{running.host}/v2/own/one/" in caught.value.message
        assert ": the certificate is not trusted: " in caught.value.message
        settings = HttpSettings(certificates=(folder / "ca.pem",))
        pushed(image, reference, cache, settings=settings)
        assert inspected(reference)["Digest"] == image.digest


# What can be pushed


def opened(path: Path, architecture: str | None = None) -> Assembled:
    return open_saved(path, architecture, Scratch(), Cache(path.parent / "cache"))


def test_an_index_is_refused_unless_a_machine_is_named(tmp_path: Path) -> None:
    made = Layout()
    images = [
        made.image([LARGE, APP], architecture=name, platform={"os": "linux", "architecture": name})
        for name in ("amd64", "arm64")
    ]
    made.top.append(made.index(*images))
    path = made.folder(tmp_path / "several")
    with pytest.raises(RequestError) as caught:
        opened(path)
    assert caught.value.message == (
        "`several` is an index (images for: `linux/amd64`, `linux/arm64`), not one image: Lambda refuses it with "
        '"The image manifest, config or layer media type for the source image ... is not supported"'
    )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("`-t TARGET` takes the one image for a target")
    assert [opened(path, name).digest for name in ("amd64", "arm64")] == [one["digest"] for one in images]


def test_an_image_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        opened(one().folder(tmp_path / "one"), "arm64")
    assert caught.value.message == "`one` is for `linux/amd64`, not for `linux/arm64`"


def test_layers_that_lambda_may_not_take_are_refused(tmp_path: Path) -> None:
    made = Layout()
    plain = "application/vnd.oci.image.layer.v1.tar"
    made.top.append(made.image([APP], packed=[APP], media_type=plain))
    with pytest.raises(RequestError) as caught:
        opened(made.folder(tmp_path / "plain"))
    assert caught.value.message == (
        f"`plain` has an image layer of the type `{plain}`: only those compressed by gzip are known to run on Lambda"
    )


def test_what_lacks_a_part_is_refused(tmp_path: Path) -> None:
    made = one()
    digest = sha256(next(data for data in made.blobs.values() if len(data) > 1_000_000))
    path = made.folder(tmp_path / "made")
    blob = path / "blobs" / "sha256" / digest[7:]
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(UnsafeArchive) as caught:
        opened(path)
    assert caught.value.message == f"`made` is damaged: `{digest}`"
    blob.unlink()
    with pytest.raises(UnsafeArchive) as caught:
        opened(path)
    assert caught.value.message == f"`made` lacks a part of its image: `{digest}`"


def test_what_docker_save_wrote_is_compressed_on_the_way(anonymous: RealRegistry, cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    config = {"architecture": "arm64", "os": "linux", "config": {"Cmd": ["app.handler"]}}
    docker_save(path, ("api:1", [LARGE, APP], config))
    scratch = Scratch()
    image = open_saved(path, "arm64", scratch, cache)
    assert [part.diff_id for part in image.layers] == [sha256(LARGE), sha256(APP)]
    assert open_saved(path, None, Scratch(), cache).digest == image.digest, "the same image each time"
    reference = anonymous.reference("own/saved:1")
    pushed(image, reference, cache)
    raw = inspected(reference, "--raw")
    assert {one["mediaType"] for one in raw["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert inspected(reference, "--config")["config"] == {"Cmd": ["app.handler"]}
    copied = tmp_path / "copied"
    command = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{reference}", f"oci:{copied}"]
    subprocess.run(command, check=True, timeout=60)
    contents = [
        gzip.decompress((copied / "blobs" / "sha256" / one["digest"][7:]).read_bytes()) for one in raw["layers"]
    ]
    assert contents == [LARGE, APP]


def test_a_docker_save_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    docker_save(path, ("api:1", [LARGE], {"architecture": "arm64", "os": "linux"}))
    data = bytearray(path.read_bytes())
    data[2_000_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeArchive) as caught:
        opened(path)
    assert " is damaged: its digest is sha256:" in caught.value.message


def test_what_podman_saved_is_pushed(anonymous: RealRegistry, cache: Cache, image: Assembled, tmp_path: Path) -> None:
    reference = anonymous.reference("own/for-podman:1")
    pushed(image, reference, cache)
    name = f"{reference.name}@{image.digest}"
    try:
        podman("pull", "--quiet", "--tls-verify=false", name)
        podman("save", "--quiet", "--output", str(tmp_path / "saved.tar"), name)
    finally:
        podman("rmi", "--force", name)
    scratch = Scratch()
    saved = open_saved(tmp_path / "saved.tar", "amd64", scratch, cache)
    assert [part.diff_id for part in saved.layers] == [sha256(LARGE), sha256(APP)]
    pushed(saved, anonymous.reference("own/saved-by-podman:1"), cache)
    assert inspected(anonymous.reference("own/saved-by-podman:1"))["Digest"] == saved.digest
