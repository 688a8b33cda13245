"""A registry that fails, lies or sends us elsewhere costs patience at most: never a wrong byte, never a secret."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from fetch.server import Handler, MisbehavingServer, answer, drip, first_bytes, hang_up, send, serve, truncate
from image.registries import publish
from image.saved import Layout, layer, sha256
from manylambda.errors import FetchError, HashMismatch
from manylambda.fetch import Cache, HttpSettings, StatusError
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import PulledImage, pull
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from manylambda.image.reference import Reference

LARGE = layer({"usr/lib/large": random.Random(7).randbytes(600_000)})
APP = layer({"var/task/app.py": b"x = 1\n"})
NAME = "pub/one"


def one() -> Layout:
    made = Layout()
    made.top.append(made.image([LARGE, APP], architecture="arm64", packed=[LARGE, APP]))
    return made


MADE = one()
BLOB = sha256(LARGE)
BLOB_PATH = f"/v2/{NAME}/blobs/{BLOB}"
TAG_PATH = f"/v2/{NAME}/manifests/1"


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture
def reference(server: MisbehavingServer) -> Reference:
    return publish(server, MADE, NAME)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def pulled(reference: Reference, cache: Cache, **more: Any) -> PulledImage:
    settings = HttpSettings(timeout=10, retries=2, backoff=0.001, longest_wait=0.05)
    options = {
        "offline": False,
        "progress": SILENT,
        "settings": settings,
        "credentials": RegistryCredentials({}),
        **more,
    }
    image = pull(reference, "arm64", cache=cache, **options)
    for part in image.resolved.layers:
        assert sha256(cache.blob_path(part.sha256).read_bytes()) == part.digest
    return image


def failure(reference: Reference, cache: Cache, kind: type[FetchError] = FetchError, **more: Any) -> FetchError:
    with pytest.raises(kind) as caught:
        pulled(reference, cache, **more)
    return caught.value


def test_a_registry_that_knows_no_head_is_asked_for_the_manifest(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    assert pulled(reference, cache).reference.digest == MADE.top[0]["digest"]
    assert len(server.asked(TAG_PATH)) == 1


def test_what_breaks_off_is_taken_up_again(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(BLOB_PATH, truncate(200_000), hang_up, serve)
    pulled(reference, cache)
    assert [request.range for request in server.asked(BLOB_PATH)][1:] == ["bytes=200000-"] * 2


def test_other_bytes_are_refused_and_not_kept(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    wrong = b"\0" * len(LARGE)
    server.plan(BLOB_PATH, send(wrong))
    error = failure(reference, cache, HashMismatch)
    assert error.message == (
        f"`127.0.0.1:{server.port}` sent other bytes than `{reference}` names: expected `{BLOB}`, got `{sha256(wrong)}`"
    )
    assert not cache.blob_path(BLOB[7:]).exists()
    pulled(reference, cache)


def test_more_bytes_than_were_named_are_not_read(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(BLOB_PATH, send(LARGE + b"\0" * 50_000_000))
    failure(reference, cache, HashMismatch)


def test_another_manifest_than_the_digest_names_is_refused(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    digest = MADE.top[0]["digest"]
    other = b'{"schemaVersion": 2}'
    server.plan(f"/v2/{NAME}/manifests/{digest}", send(other, Docker_Content_Digest=digest))
    error = failure(reference.pinned(digest), cache, HashMismatch)
    assert error.message == (
        f"`127.0.0.1:{server.port}` sent another manifest of `{reference}@{digest}` than was asked for: "
        f"expected `{digest}`, got `{sha256(other)}`"
    )


def test_the_digest_a_registry_names_is_not_believed(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    body = MADE.blobs[MADE.top[0]["digest"]]
    server.plan(TAG_PATH, send(body, Docker_Content_Digest="sha256:" + "0" * 64))
    assert pulled(reference, cache).digest == MADE.top[0]["digest"]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"no json",
        b"{}",
        b'{"schemaVersion": 2, "layers": []}',
        b'{"config": {"digest": "sha256:../../x", "size": 1}, "layers": []}',
        b'{"config": {"digest": "sha256:' + b"0" * 64 + b'", "size": true}, "layers": []}',
        b'{"manifests": 1}',
        b'{"manifests": [], "layers": []}',
        b'{"manifests": [1]}',
        b'{"mediaType": "text/plain", "layers": []}',
        b'{"schemaVersion": 1, "fsLayers": []}',
        b'{"mediaType": [], "manifests": {}}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_an_error(
    server: MisbehavingServer, reference: Reference, cache: Cache, body: bytes
) -> None:
    server.files[TAG_PATH] = body
    assert failure(reference, cache).message.startswith(f"`{reference}` ")


def test_a_manifest_without_end_is_not_read(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(TAG_PATH, send(b" " * (9 << 20)))
    assert failure(reference, cache).message == f"`{reference}` has a manifest of more than 8 MiB: it is no image"


def test_an_image_beyond_what_lambda_takes_is_not_fetched(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    document = json.loads(MADE.blobs[MADE.top[0]["digest"]])
    document["layers"][0]["size"] = 20 << 30
    server.files[TAG_PATH] = json.dumps(document).encode()
    assert failure(reference, cache).message == (f"`{reference}` is too large for Lambda, which takes images of 10 GiB")


def test_what_is_fetched_is_told_in_bytes_and_once(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    class Bar:
        def __init__(self) -> None:
            self.done = self.total = 0

        def advance(self, amount: int) -> None:
            self.done += amount

        def finish(self) -> None: ...

    class Bars:
        def __init__(self) -> None:
            self.bars: dict[str, Bar] = {}

        def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Bar:
            assert (stage, unit) == ("fetch", "bytes")
            self.bars[label] = Bar()
            self.bars[label].total = total or 0
            return self.bars[label]

        def info(self, message: str) -> None: ...

        def detail(self, message: str) -> None: ...

        def warning(self, message: str) -> None: ...

    server.plan(BLOB_PATH, truncate(200_000), serve)
    heard = Bars()
    pulled(reference, cache, progress=heard)
    assert set(heard.bars) == {f"{NAME} {digest[7:19]}" for digest in MADE.blobs if digest != MADE.top[0]["digest"]}
    assert all(bar.done == bar.total > 0 for bar in heard.bars.values())


def test_a_store_that_refuses_what_the_registry_promised_is_named(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    with MisbehavingServer() as elsewhere:
        server.plan(BLOB_PATH, answer(307, Location=elsewhere.url("/store/large?sig=0123456789")), forever=True)
        elsewhere.plan("/store/large", answer(403), forever=True)
        error = failure(reference, cache, StatusError)
        host = f"127.0.0.1:{elsewhere.port}"
    assert error.message == f"`{BLOB[:19]}` of `{reference}` could not be fetched from `{host}`: 403 Forbidden"
    assert error.hint == f"`{reference.registry}` sent us there: ask whoever runs it"


# Limits


def told(status: int, code: str, message: str, **headers: str) -> Any:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()

    def behave(handler: Handler, _: bytes) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {"Content-Length": str(len(body)), **named})
        handler.wfile.write(body)

    return behave


def test_a_limit_is_waited_for(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(TAG_PATH, told(429, "TOOMANYREQUESTS", "slow down", Retry_After="1"), serve)
    began = time.monotonic()
    settings = HttpSettings(timeout=10, retries=1, backoff=0.001)
    pulled(reference, cache, settings=settings)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("path", [TAG_PATH, BLOB_PATH])
def test_a_limit_that_stays_is_told_in_the_registrys_words(
    server: MisbehavingServer, reference: Reference, cache: Cache, path: str
) -> None:
    words = "You have reached your\nunauthenticated \x1b[31mpull rate limit."
    server.plan(path, told(429, "TOOMANYREQUESTS", words), forever=True)
    error = failure(reference, cache)
    assert error.message.endswith(
        "in 3 attempts: the server answered 429 Too Many Requests: "
        "toomanyrequests: You have reached your unauthenticated \\x1b[31mpull rate limit."
    )
    assert error.hint == "the registry limits how often it may be asked: wait, or log in, which often raises the limit"


# Secrets

LOGIN = ("me", "hunter22-secret")
BASIC = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()
TOKEN = "token-of-the-registry"


def for_bearers(then: Any, realm: str) -> Any:
    def behave(handler: Handler, body: bytes) -> None:
        if handler.headers.get("Authorization") == f"Bearer {TOKEN}":
            then(handler, body)
        else:
            handler.head(401, {"Content-Length": "0", "WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    return behave


def guard(server: MisbehavingServer, realm: str, special: Mapping[str, Any]) -> None:
    for path in list(server.files):
        server.plan(path, for_bearers(special.get(path, serve), realm), forever=True)


def test_where_blobs_lie_hears_no_login(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    with MisbehavingServer(files={"/store/large": LARGE}) as elsewhere:
        signed = elsewhere.url("/store/large?X-Amz-Signature=0123456789abcdef")
        server.files["/token"] = json.dumps({"token": TOKEN}).encode()
        guard(server, server.url("/token"), {BLOB_PATH: answer(307, Location=signed), "/token": serve})
        server.plan("/token", serve)
        elsewhere.plan("/store/large", truncate(100_000), serve)
        credentials = RegistryCredentials({}, {reference.registry: LOGIN})
        pulled(reference, cache, credentials=credentials)
        assert [(one.authorization, one.range) for one in elsewhere.asked("/store/large")] == [
            (None, None),
            (None, "bytes=100000-"),
        ]
    assert [one.authorization for one in server.asked("/token")] == [BASIC]
    assert all(one.authorization == f"Bearer {TOKEN}" for one in server.asked(BLOB_PATH))


def test_a_token_server_that_sends_us_on_takes_no_login_with_it(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    with MisbehavingServer(files={"/token": json.dumps({"token": TOKEN}).encode()}) as elsewhere:
        server.files["/token"] = b""
        guard(server, server.url("/token"), {})
        server.plan("/token", answer(302, Location=elsewhere.url("/token")), forever=True)
        pulled(reference, cache, credentials=RegistryCredentials({}, {reference.registry: LOGIN}))
        assert [one.authorization for one in elsewhere.asked("/token")] == [None]


def test_no_secret_is_told_even_by_a_registry_that_repeats_it(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    server.files["/token"] = json.dumps({"token": TOKEN}).encode()
    guard(server, server.url("/token"), {})
    server.plan("/token", serve, forever=True)
    server.plan(TAG_PATH, for_bearers(told(403, "DENIED", f"no {TOKEN} of {BASIC}, {LOGIN[1]}"), server.url("/token")))
    server.forever.add(TAG_PATH)
    error = failure(reference, cache, StatusError, credentials=RegistryCredentials({}, {reference.registry: LOGIN}))
    assert error.message.endswith("403 Forbidden: denied: no **** of Basic ****, ****")
    kept = [path.read_bytes() for path in cache.root.rglob("*") if path.is_file()]
    assert not any(secret.encode() in content for secret in (TOKEN, BASIC, LOGIN[1]) for content in kept)


@pytest.mark.parametrize(
    ("realm", "shown"),
    [
        ("http://auth.example/token", "http://auth.example/token"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("https://me:hunter22@127.0.0.1/token", "https://127.0.0.1/token"),
        ("/token", "/token"),
    ],
)
def test_a_token_server_that_all_could_overhear_is_not_asked(
    server: MisbehavingServer, reference: Reference, cache: Cache, realm: str, shown: str
) -> None:
    guard(server, realm, {})
    error = failure(reference, cache)
    assert error.message == f"`{reference.registry}` names no usable token server: `{shown}`"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": "a\\r\\nX: y"}', b'{"token": 1}', b'{"token": ""}'])
def test_a_token_that_is_none_is_not_used(
    server: MisbehavingServer, reference: Reference, cache: Cache, body: bytes
) -> None:
    guard(server, server.url("/token"), {})
    server.plan("/token", send(body), forever=True)
    error = failure(reference, cache)
    assert error.message == f"`{reference.registry}` gave no token for `{reference}`"


def test_a_token_refused_in_the_middle_is_replaced(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    server.files["/token"] = json.dumps({"token": TOKEN}).encode()
    refuse = answer(401, WWW_Authenticate=f'Bearer realm="{server.url("/token")}"')
    guard(server, server.url("/token"), {})
    server.plan("/token", send(b'{"token": "token-of-yesterday", "expires_in": 3000}'), serve, serve)
    server.plan(TAG_PATH, refuse, serve)
    pulled(reference, cache)
    assert len(server.asked("/token")) == 2
    assert server.asked(TAG_PATH)[-1].authorization == "Bearer token-of-yesterday"


def test_a_token_refused_to_many_at_once_is_replaced_once(server: MisbehavingServer, cache: Cache) -> None:
    layers = [layer({f"file{number}": b"x"}) for number in range(8)]
    made = Layout()
    made.top.append(made.image(layers, architecture="arm64", packed=layers))
    reference = publish(server, made, NAME)
    refuse = answer(401, WWW_Authenticate=f'Bearer realm="{server.url("/token")}"')
    server.plan(TAG_PATH, refuse, serve)
    for one in layers:
        server.plan(f"/v2/{NAME}/blobs/{sha256(one)}", for_bearers(serve, server.url("/token")), forever=True)
    new = json.dumps({"token": TOKEN, "expires_in": 3000}).encode()
    server.plan("/token", send(b'{"token": "token-of-yesterday", "expires_in": 3000}'), send(new), forever=True)
    pulled(reference, cache)
    assert len(server.asked("/token")) == 2


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_something_else_is_not_followed(
    server: MisbehavingServer, reference: Reference, cache: Cache, target: str
) -> None:
    server.plan(BLOB_PATH, answer(307, Location=target))
    error = failure(reference, cache)
    assert error.message.endswith(f" is redirected to something other than HTTP: `{target}`")


def test_a_circle_of_redirects_is_left(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(BLOB_PATH, answer(307, Location=BLOB_PATH), forever=True)
    assert " is redirected in circles: " in failure(reference, cache).message
    assert len(server.asked(BLOB_PATH)) == 11


# Processes

PULL = """
import sys
from pathlib import Path
from manylambda.fetch import Cache
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import pull
from manylambda.image.reference import Reference
from manylambda.progress import SILENT
pull(Reference.parse(sys.argv[1]), "arm64", cache=Cache(Path(sys.argv[2])), credentials=RegistryCredentials({}),
     offline=False, progress=SILENT)
"""


def start(reference: Reference, cache: Cache) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PULL, str(reference), str(cache.root)])


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
def test_what_a_killed_process_had_is_not_fetched_again(
    server: MisbehavingServer, reference: Reference, cache: Cache
) -> None:
    server.plan(BLOB_PATH, first_bytes(300_000), serve)
    process = start(reference, cache)
    part = cache.incoming(f"{BLOB[7:]}.part")
    for _ in itertools.takewhile(lambda _: not part.exists() or part.stat().st_size < 100_000, range(12_000)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    had = part.stat().st_size
    assert 100_000 <= had < len(LARGE)
    pulled(reference, cache)
    assert [one.range for one in server.asked(BLOB_PATH)] == [None, f"bytes={had}-"]


def test_two_processes_fetch_a_part_once(server: MisbehavingServer, reference: Reference, cache: Cache) -> None:
    server.plan(BLOB_PATH, drip(0.05, 30_000), forever=True)
    processes = [start(reference, cache) for _ in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert len(server.asked(BLOB_PATH)) == 1
