"""A registry that fails, lies or forgets costs a push patience at most: never half an image, never a secret."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from fetch.authority import make_authority
from fetch.server import MisbehavingServer
from image.push_server import PushServer, cut, damage, digest, forget, hang_up, lose_answer, refuse
from image.registries import needs
from image.saved import Layout, layer, sha256
from manylambda.errors import FetchError, HashMismatch, PackagingError, RequestError
from manylambda.fetch import Cache, HttpSettings
from manylambda.image import Scratch
from manylambda.image import push as module
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.push import Pushed, push
from manylambda.image.reference import Reference
from manylambda.image.registry import Refused
from manylambda.image.saved import open_saved
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.image.assembled import Assembled
    from manylambda.progress import Task

LARGE = layer({"usr/lib/large": random.Random(8).randbytes(3_000_000)})
APP = layer({"var/task/app.py": b"x = 1\n"})
UPLOADS = "/v2/own/one/blobs/uploads/"


def one() -> Layout:
    made = Layout()
    made.top.append(made.image([LARGE, APP], architecture="arm64", packed=[LARGE, APP]))
    return made


MADE = one()
BLOB = sha256(LARGE)
DIGEST = MADE.top[0]["digest"]


@pytest.fixture
def image(tmp_path: Path) -> Assembled:
    return open_saved(MADE.folder(tmp_path / "layout"), None, Scratch(), Cache(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[PushServer]:
    with PushServer() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the large layer three chunks."""
    monkeypatch.setattr(module, "_CHUNK", 1_200_000)


def pushed(image: Assembled, reference: Reference, cache: Cache, **more: Any) -> Pushed:
    settings = HttpSettings(timeout=10, retries=3, backoff=0.001, longest_wait=0.2)
    options = {"settings": settings, "credentials": RegistryCredentials({}), **more}
    return push(image, reference, cache=cache, **options)


def failure(
    image: Assembled, reference: Reference, cache: Cache, kind: type[FetchError] = FetchError, **more: Any
) -> FetchError:
    with pytest.raises(kind) as caught:
        pushed(image, reference, cache, **more)
    return caught.value


def is_whole(server: PushServer, name: str = "own/one") -> bool:
    """Whether the image is in a repository, with every part and byte for byte."""
    manifest, _ = server.manifests[name, "1"]
    assert server.blobs[name, BLOB] == LARGE
    return digest(manifest) == DIGEST and all((name, part) in server.blobs for part in MADE.blobs if part != DIGEST)


def test_large_blobs_go_in_chunks_and_small_ones_at_once(image: Assembled, server: PushServer, cache: Cache) -> None:
    done = pushed(image, server.reference(), cache)
    assert is_whole(server)
    assert (done.uploaded, done.mounted, done.present) == (image.size, 0, 0)
    assert str(done.reference) == f"{server.host}/own/one:1@{DIGEST}"
    ranges = [asked.headers["content-range"] for asked in server.asked("^PATCH")]
    assert ranges == ["0-1199999", "1200000-2399999", f"2400000-{len(LARGE) - 1}"]
    assert len(server.asked("^PUT.*/blobs/")) == 3
    assert [str(asked) for asked in server.requests[-3:]] == ["HEAD /manifests/", "PUT /manifests/", "GET /manifests/"]


def test_a_chunk_is_as_large_as_the_registry_wants(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.more = {"OCI-Chunk-Min-Length": "2000000"}
    pushed(image, server.reference(), cache)
    assert [asked.headers["content-length"] for asked in server.asked("^PATCH")] == [
        "2000000",
        str(len(LARGE) - 2_000_000),
    ]


# What may pass


def test_an_upload_that_was_cut_goes_on_where_the_registry_has_it(
    image: Assembled, server: PushServer, cache: Cache
) -> None:
    server.plan("^PATCH", cut(500_000), hang_up)
    pushed(image, server.reference(), cache)
    assert is_whole(server)
    ranges = [asked.headers["content-range"] for asked in server.asked("^PATCH")]
    assert ranges[:3] == ["0-1199999", "500000-1699999", "500000-1699999"]
    assert len(server.asked(f"^GET {UPLOADS}")) == 2


def test_an_upload_that_was_forgotten_begins_anew(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^PATCH", cut(500_000))
    server.plan(f"^GET {UPLOADS}", forget)
    pushed(image, server.reference(), cache)
    assert is_whole(server)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize("what", ["^HEAD.*blobs", "^POST", "^PATCH", "^PUT.*blobs", "^PUT.*manifests", "^GET.*manif"])
def test_what_may_pass_is_tried_again(
    image: Assembled, server: PushServer, cache: Cache, status: int, what: str
) -> None:
    server.plan(what, refuse(status), refuse(status))
    pushed(image, server.reference(), cache)
    assert is_whole(server)


def test_a_limit_is_waited_for(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^PATCH", refuse(429, "TOOMANYREQUESTS", Retry_After="1"))
    settings = HttpSettings(timeout=10, retries=1, backoff=0.001, longest_wait=0.5)
    began = time.monotonic()
    pushed(image, server.reference(), cache, settings=settings)
    assert time.monotonic() - began >= 0.5


def test_a_limit_that_stays_is_told_in_the_registrys_words(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^POST", *[refuse(429, "TOOMANYREQUESTS", "slow down")] * 20)
    error = failure(image, server.reference(), cache)
    assert "` of `" in error.message
    assert error.message.endswith(
        f" could not be pushed to `http://{server.host}{UPLOADS}` in 4 attempts: "
        "the server answered 429 Too Many Requests: toomanyrequests: slow down"
    )
    assert error.hint is not None
    assert error.hint.startswith("the registry limits how often it may be asked")
    assert not server.manifests


@pytest.mark.parametrize("what", ["^PUT.*blobs", "^PUT.*manifests"])
def test_what_was_done_and_not_told_is_not_done_again(
    image: Assembled, server: PushServer, cache: Cache, what: str
) -> None:
    server.plan(what, lose_answer)
    pushed(image, server.reference(), cache)
    assert is_whole(server)
    sent = sum(int(asked.headers.get("content-length", "0")) for asked in server.asked("^(PATCH|PUT.*blobs)"))
    assert sent == image.size


def test_a_network_that_stays_away_is_told_of(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("/own/", *[hang_up] * 200)
    error = failure(image, server.reference(), cache)
    assert " could not be pushed to `http" in error.message
    assert "in 4 attempts: the connection was dropped: " in error.message


# Other ways


@pytest.mark.parametrize("status", [400, 404, 405, 416, 501])
def test_a_registry_that_takes_no_chunks_gets_the_whole(
    image: Assembled, server: PushServer, cache: Cache, status: int
) -> None:
    server.plan("^PATCH", *[refuse(status, "UNSUPPORTED")] * 9)
    if status == 501:  # it may pass, as all from 500 on
        assert "501 Not Implemented" in failure(image, server.reference(), cache).message
        return
    pushed(image, server.reference(), cache)
    assert is_whole(server)
    assert str(len(LARGE)) in {asked.headers["content-length"] for asked in server.asked("^PUT")}


def test_chunks_become_smaller_where_a_proxy_wants_it(
    image: Assembled, server: PushServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 8 << 20)
    server.most = 1 << 20
    pushed(image, server.reference(), cache)
    assert is_whole(server)


@pytest.mark.parametrize(
    "answer",
    [
        refuse(405, "UNSUPPORTED"),
        refuse(403, "DENIED"),
        refuse(401, "UNAUTHORIZED"),
        refuse(404, "BLOB_UNKNOWN"),
        refuse(400, "BLOB_UNKNOWN"),
    ],
)
def test_where_a_mount_is_refused_the_blob_is_sent(
    image: Assembled, server: PushServer, cache: Cache, answer: Any
) -> None:
    source = server.reference("base/python:3.13")
    image = image._replace(layers=tuple(part._replace(source=source) for part in image.layers))
    server.plan(r"^POST.*\?mount", answer, answer)
    done = pushed(image, server.reference(), cache)
    assert is_whole(server)
    assert done.uploaded == image.size


def test_a_mount_that_became_an_upload_is_used_as_one(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.mounts = False
    source = server.reference("base/python:3.13")
    image = image._replace(layers=tuple(part._replace(source=source) for part in image.layers))
    pushed(image, server.reference(), cache)
    assert is_whole(server)
    assert len(server.asked("^POST")) == 3, "one for each blob"


def test_a_layer_of_the_same_registry_that_cannot_be_mounted_is_copied(
    image: Assembled, server: PushServer, cache: Cache
) -> None:
    server.mounts = False
    server.blobs["base/python", BLOB] = LARGE
    source = server.reference("base/python:3.13")
    large = image.layers[0]._replace(path=None, source=source)
    done = pushed(image._replace(layers=(large, image.layers[1])), server.reference(), cache)
    assert is_whole(server)
    assert done.uploaded == image.size
    assert cache.blob_path(BLOB[7:]).read_bytes() == LARGE


# What is not right


def test_bytes_that_were_altered_once_are_sent_again(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^PATCH", damage)
    pushed(image, server.reference(), cache)
    assert is_whole(server)


def test_bytes_that_are_altered_always_are_told_of(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^PATCH", *[damage] * 20)
    error = failure(image, server.reference(), cache, Refused)
    assert error.message == (
        f"`{BLOB[:19]}` of `{server.reference()}` could not be pushed to `{server.host}`: 400 Bad Request: "
        "digest_invalid: provided digest did not match uploaded content"
    )
    assert not server.manifests


@pytest.mark.parametrize("what", ["^PUT.*/blobs/", "^PUT.*/manifests/"])
def test_a_registry_that_stored_something_else_is_not_believed(
    image: Assembled, server: PushServer, cache: Cache, what: str
) -> None:
    other = "sha256:" + "0" * 64

    def lie(handler: Any) -> None:
        handler.body()
        handler.answer(201, {"Docker-Content-Digest": other})

    server.plan(what, *[lie] * 9)
    error = failure(image, server.reference(), cache, HashMismatch)
    assert error.message.startswith(
        f"`{server.host}` stored something else than was pushed as `{server.reference()}`: expected `sha256:"
    )
    assert error.message.endswith(f", got `{other}`")


def test_a_manifest_that_reads_back_otherwise_is_not_believed(
    image: Assembled, server: PushServer, cache: Cache
) -> None:
    server.plan("^GET.*manifests", lambda handler: handler.answer(200, {}, b"{}"))
    error = failure(image, server.reference(), cache, HashMismatch)
    assert f"expected `{DIGEST}`, got `{sha256(b'{}')}`" in error.message


def test_a_manifest_whose_part_was_lost_is_refused_clearly(image: Assembled, server: PushServer, cache: Cache) -> None:
    def lose(handler: Any) -> bool:
        handler.server.owner.blobs.clear()
        return True

    server.plan("^PUT.*manifests", lose)
    error = failure(image, server.reference(), cache, Refused)
    assert error.message == (
        f"`{server.reference()}` could not be pushed to `{server.host}`: 400 Bad Request: "
        "manifest_blob_unknown: blob unknown to registry"
    )
    assert error.hint == "the registry has lost a part that it said to have: push again"


def test_a_repository_that_is_not_there_is_told_of(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.plan("^POST", *[refuse(404, "NAME_UNKNOWN", "repository name not known to registry")] * 9)
    error = failure(image, server.reference(), cache, Refused)
    assert error.message.endswith(
        f"could not be pushed to `{server.host}`: 404 Not Found: name_unknown: repository name not known to registry"
    )
    assert error.hint == "is the name right? some registries want the repository, or its project, to be made first"
    assert len(server.asked("^POST")) <= 3, "it is asked once for each blob at most"


def test_a_tag_that_cannot_be_moved_is_told_of(image: Assembled, server: PushServer, cache: Cache) -> None:
    message = "The image tag '1' already exists in the 'own/one' repository and cannot be overwritten"
    server.plan("^PUT.*manifests", refuse(400, "TAG_INVALID", message))
    error = failure(image, server.reference(), cache, Refused)
    assert message in error.message
    assert error.hint == "tags of this repository cannot be moved: push under another tag"


def test_a_tag_that_names_the_image_already_is_not_moved(image: Assembled, server: PushServer, cache: Cache) -> None:
    pushed(image, server.reference(), cache)
    server.plan("^PUT.*manifests", refuse(400, "TAG_INVALID"))
    done = pushed(image, server.reference(), cache)
    assert (done.uploaded, done.present) == (0, image.size)


def test_without_a_tag_the_digest_is_its_name(image: Assembled, server: PushServer, cache: Cache) -> None:
    reference = Reference.parse(f"{server.host}/own/one@{DIGEST}")
    assert pushed(image, reference, cache).reference == reference
    assert list(server.manifests) == [("own/one", DIGEST)]
    other = reference.pinned("sha256:" + "0" * 64)
    with pytest.raises(RequestError) as caught:
        pushed(image, other, cache)
    assert caught.value.message == f"`{other}` names another image than this one: `{DIGEST}`"


def test_a_file_that_is_not_what_the_image_names_is_not_sent(
    image: Assembled, server: PushServer, cache: Cache
) -> None:
    path = image.layers[0].path
    assert path is not None
    path.write_bytes(b"x" + LARGE[1:])
    with pytest.raises(PackagingError) as caught:
        pushed(image, server.reference(), cache)
    assert caught.value.message.startswith(f"`{path}` is not what the image names: expected `{BLOB}`, got `sha256:")
    assert not server.asked("^PATCH")
    path.unlink()
    with pytest.raises(PackagingError) as caught:
        pushed(image, server.reference(), cache)
    assert caught.value.message == f"cannot read `{path}`: no such file or directory"
    assert not server.manifests


# Secrets


def test_where_uploads_go_hears_no_login(image: Assembled, server: PushServer, cache: Cache) -> None:
    secret = "hunter22-upload"
    with PushServer() as elsewhere:
        server.location = f"http://{elsewhere.host}"
        server.plan("/own/", refuse(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="ours"'))
        elsewhere.uploads = server.uploads
        elsewhere.blobs = server.blobs
        pushed(image, server.reference(), cache, credentials=RegistryCredentials({}, {server.host: ("me", secret)}))
        assert elsewhere.asked("^PATCH")
        assert all("authorization" not in asked.headers for asked in elsewhere.requests)
    assert any("authorization" in asked.headers for asked in server.requests)


def test_what_an_address_holds_is_not_told(image: Assembled, server: PushServer, cache: Cache) -> None:
    server.state = "?_state=hunter22-state"
    server.plan("^(PATCH|PUT)", *[refuse(403, "DENIED")] * 9)
    error = failure(image, server.reference(), cache, Refused)
    server.plans.clear()
    server.plan("^(PATCH|PUT|GET)", *[hang_up] * 50)
    other = failure(image, server.reference(), cache)
    assert "hunter22" not in f"{error} {error.hint} {other} {other.hint}"
    assert error.message.endswith(f" is refused by `{server.host}`: 403 Forbidden: denied: denied")


def test_a_login_that_ends_in_the_middle_is_renewed(image: Assembled, server: PushServer, cache: Cache) -> None:
    tokens = MisbehavingServer()
    with tokens:
        issued = itertools.count()

        def issue(handler: Any, body: bytes) -> None:
            token = json.dumps({"token": f"token-{next(issued)}", "expires_in": 300}).encode()
            handler.head(200, {"Content-Length": str(len(token))})
            handler.wfile.write(token)

        tokens.plan("/token", issue, forever=True)
        challenge = (
            f'Bearer realm="http://127.0.0.1:{tokens.port}/token",service="s",scope="repository:own/one:pull,push"'
        )
        refusal = refuse(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        server.plan("^HEAD.*blobs", refusal)
        server.plan("^PATCH", lambda _: True, refusal, lambda _: True, refusal)
        pushed(image, server.reference(), cache)
        assert is_whole(server)
        assert 3 <= next(issued) <= 4
        assert [asked.path for asked in tokens.requests] == [
            "/token?service=s&scope=repository%3Aown%2Fone%3Apull%2Cpush"
        ] * len(tokens.requests)
    authorizations = [asked.headers.get("authorization") for asked in server.asked("^PATCH")]
    assert len(set(authorizations)) >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs openssl")
def test_no_upload_goes_on_without_tls(image: Assembled, cache: Cache, tmp_path: Path) -> None:
    needs("openssl")
    make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with PushServer(tls=context) as server:
        server.location = f"http://{server.host}"
        settings = HttpSettings(certificates=(tmp_path / "ca.pem",), retries=0)
        error = failure(image, server.reference(), cache, settings=settings)
        assert " is redirected from `https` to `http`: `http://127.0.0.1:" in error.message
        assert not server.asked("^(PATCH|PUT)")


# What is told, and what stays


class Told:
    """Adds up what a person would see."""

    def __init__(self) -> None:
        self.bars: dict[tuple[str, str], list[int]] = {}

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        bar = self.bars[stage, label] = [0, total or 0]

        class Bar:
            def advance(self, amount: int) -> None:
                bar[0] += amount

            def finish(self) -> None: ...

        return Bar()

    info = detail = warning = staticmethod(SILENT.info)


def test_each_blob_is_told_of_once(image: Assembled, server: PushServer, cache: Cache) -> None:
    told = Told()
    server.plan("^PATCH", cut(500_000), hang_up)
    pushed(image, server.reference(), cache, progress=told)
    assert {label for _, label in told.bars} == {
        f"own/one {part.digest[7:19]}" for part in (image.config, *image.layers)
    }
    assert all(stage == "push" and done == total for (stage, _), (done, total) in told.bars.items())


PUSH = """
import sys
from pathlib import Path
from manylambda.fetch import Cache
from manylambda.image import Scratch
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.push import push
from manylambda.image.reference import Reference
from manylambda.image.saved import open_saved
cache = Cache(Path(sys.argv[3]))
push(open_saved(Path(sys.argv[1]), None, Scratch(), cache), Reference.parse(sys.argv[2]), cache=cache,
     credentials=RegistryCredentials({}))
"""


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
def test_a_push_that_was_killed_leaves_nothing_broken(
    image: Assembled, server: PushServer, cache: Cache, tmp_path: Path
) -> None:
    killed = threading.Event()

    def wait(handler: Any) -> None:
        handler.body(1_000)
        killed.wait(120)
        while handler.body(50_000):
            pass

    server.plan("^PATCH", wait)
    arguments = [sys.executable, "-c", PUSH, str(tmp_path / "layout"), str(server.reference()), str(cache.root)]
    process = subprocess.Popen(arguments)
    for _ in itertools.takewhile(lambda _: not server.asked("^PATCH"), range(12_000)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    assert server.asked("^PATCH")
    assert not server.manifests
    assert not cache.root.exists() or not [path for path in cache.root.rglob("*") if path.is_file()]
    pushed(image, server.reference(), cache)
    assert is_whole(server)
