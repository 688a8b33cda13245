"""Images come from real registries whole, once, and with the login each wants; nothing secret goes anywhere else."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fetch.authority import make_authority
from image.registries import RealRegistry, TokenServer, needs, registry
from image.saved import MANIFEST, Layout, layer, sha256
from manylambda.errors import FetchError, NotCached, RequestError
from manylambda.fetch import Cache, HttpSettings, StatusError
from manylambda.image import FileSystem, Scratch, choose, read_images
from manylambda.image.credentials import RegistryCredentials
from manylambda.image.pull import PulledImage, pull, resolve
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from manylambda.image.reference import Reference

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")

LARGE = layer({"usr/lib/large": random.Random(6).randbytes(400_000)})
APP = layer({"var/task/app.py": b"x = 1\n"})
OTHER = layer({"var/task/app.py": b"x = 2\n"})
LOGIN = ("me", "hunter22-basic")
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuELiZgEcYkzG5iIfU3JWwTBwBxbx/5p2\n"
"""The line of `LOGIN`, by bcrypt: the registry takes no other."""


def one() -> Layout:
    made = Layout()
    made.top.append(made.image([LARGE, APP], architecture="arm64", config={"Cmd": ["app.handler"]}))
    return made


def several() -> Layout:
    """Give an image for two machines with an attestation of each, as `docker buildx` writes it."""
    made = Layout()
    rows = []
    for architecture, top in (("amd64", OTHER), ("arm64", APP)):
        platform: dict[str, str] = {"os": "linux", "architecture": architecture}
        if architecture == "arm64":
            platform["variant"] = "v8"
        image = made.image([LARGE, top], architecture=architecture, platform=platform)
        unknown = {"os": "unknown", "architecture": "unknown"}
        about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
        statement = made.blob(b"{}", "application/vnd.in-toto+json")
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": made.document({"architecture": "unknown", "rootfs": {"diff_ids": []}}, "application/json"),
            "layers": [statement],
        }
        rows += [image, made.document(document, MANIFEST, platform=unknown, annotations=about)]
    made.top.append(made.index(*rows))
    return made


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the storage of a registry that `skopeo` has pushed to."""
    needs("skopeo", "docker-registry", "openssl")
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder, folder / "data") as running:
        for name, made, words in (
            ("pub/one:1", one(), []),
            ("own/one:1", one(), []),
            ("pub/docker:1", one(), ["--format", "v2s2"]),
            ("pub/several:1", several(), ["--all"]),
        ):
            source = made.folder(folder / name.replace("/", "-").replace(":", "-"))
            command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", *words, f"oci:{source}"]
            subprocess.run([*command, f"docker://{running.host}/{name}"], check=True, timeout=60)
    return folder / "data"


@pytest.fixture(scope="module")
def open_registry(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with registry(tmp_path_factory.mktemp("open"), storage) as running:
        yield running


@pytest.fixture
def anonymous(open_registry: RealRegistry) -> RealRegistry:
    open_registry.requests()
    return open_registry


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def pulled(reference: Reference, cache: Cache, architecture: str = "arm64", **more: Any) -> PulledImage:
    settings = HttpSettings(timeout=10, retries=2, backoff=0.001, longest_wait=0.05)
    options = {
        "offline": False,
        "progress": SILENT,
        "settings": settings,
        "credentials": RegistryCredentials({}),
        **more,
    }
    return pull(reference, architecture, cache=cache, **options)


def app(image: PulledImage) -> bytes:
    """Give the file that the image has, read as a saved image is."""
    chosen = choose(read_images(image), "arm64", image.name)
    made = FileSystem(image, chosen.layers, scratch := Scratch(), ["/var/task"])
    found = made.find("/var/task/app.py")
    assert found is not None
    assert found[1].file is not None
    content = found[1].file.read_bytes()
    scratch.close()
    return content


def failure(action: Callable[[], object], kind: type[FetchError] = FetchError) -> FetchError:
    with pytest.raises(kind) as caught:
        action()
    return caught.value


# Pulling


def test_a_pulled_image_is_read_as_a_saved_one(anonymous: RealRegistry, cache: Cache) -> None:
    image = pulled(anonymous.reference("pub/one:1"), cache)
    (found,) = read_images(image)
    digest = one().top[0]["digest"]
    assert (found.name, found.digest) == (f"{anonymous.host}/pub/one:1", digest)
    assert found.config.command == ("app.handler",)
    assert (found.in_index, found.has_attestation, found.is_docker_save) == (False, False, False)
    assert image.digest == digest
    assert str(image.reference) == f"{anonymous.host}/pub/one:1@{digest}"
    assert app(image) == b"x = 1\n"
    assert image.open("blobs/sha256/" + "0" * 64) is None


def test_what_is_there_is_not_fetched_again(anonymous: RealRegistry, cache: Cache) -> None:
    first = pulled(anonymous.reference("pub/one:1"), cache)
    assert len([line for line in anonymous.requests() if "/blobs/" in line]) == 3
    second = pulled(anonymous.reference("pub/one:1"), cache)
    assert anonymous.requests() == ["GET /v2/ 200", "HEAD /v2/pub/one/manifests/1 200"]
    pulled(second.reference, cache)
    assert anonymous.requests() == []
    assert first.digest == second.digest


def test_images_share_their_layers(anonymous: RealRegistry, cache: Cache) -> None:
    pulled(anonymous.reference("pub/one:1"), cache)
    anonymous.requests()
    image = pulled(anonymous.reference("pub/several:1"), cache)
    assert len([line for line in anonymous.requests() if "/blobs/" in line]) == 1, "the configuration alone"
    assert app(image) == b"x = 1\n"


def test_the_image_of_the_machine_is_taken_and_the_index_is_known(anonymous: RealRegistry, cache: Cache) -> None:
    made = several()
    for architecture, number in (("amd64", 0), ("arm64", 2)):
        image = pulled(anonymous.reference("pub/several:1"), cache, architecture)
        index = json.loads(made.blobs[made.top[0]["digest"]])
        assert image.digest == index["manifests"][number]["digest"]
        assert image.reference.digest == made.top[0]["digest"]
        (found,) = read_images(image)
        assert (found.config.architecture, found.in_index, found.has_attestation) == (architecture, True, True)
    with pytest.raises(RequestError) as caught:
        pulled(anonymous.reference("pub/several:1"), cache, "riscv64")
    assert caught.value.message == (
        f"`{anonymous.host}/pub/several:1` has no image for `linux/riscv64`, only: `linux/amd64`, `linux/arm64/v8`"
    )


def test_the_format_of_docker_is_read(anonymous: RealRegistry, cache: Cache) -> None:
    image = pulled(anonymous.reference("pub/docker:1"), cache)
    assert image.resolved.manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert app(image) == b"x = 1\n"


def test_an_image_of_another_machine_is_refused_before_its_layers_come(anonymous: RealRegistry, cache: Cache) -> None:
    with pytest.raises(RequestError) as caught:
        pulled(anonymous.reference("pub/one:1"), cache, "amd64")
    assert caught.value.message == f"`{anonymous.host}/pub/one:1` is for `linux/arm64`, not for `linux/amd64`"
    assert len([line for line in anonymous.requests() if "/blobs/" in line]) == 1


def test_a_reference_is_pinned_without_its_layers(anonymous: RealRegistry, cache: Cache) -> None:
    found = resolve(anonymous.reference("pub/several:1"), "arm64", cache=cache, offline=False, progress=SILENT)
    assert found.reference.digest == several().top[0]["digest"]
    assert found.indexes[0].digest == found.reference.digest
    assert [one.digest for one in found.layers] == [one.digest for one in found.layers if one.size]
    assert len([line for line in anonymous.requests() if "/blobs/" in line]) == 1


@pytest.mark.parametrize("name", ["pub/one:2", "pub/none:1"])
def test_what_is_not_there_is_told_with_the_registrys_words(anonymous: RealRegistry, cache: Cache, name: str) -> None:
    error = failure(lambda: pulled(anonymous.reference(name), cache), StatusError)
    host = anonymous.host
    assert error.message == f"`{host}/{name}` is not in `{host}`: 404 Not Found: manifest_unknown: manifest unknown"
    assert error.hint == (
        "is the name right, and the tag? "
        f"what is not public needs a login: `podman login {host}` or `docker login {host}`"
    )


def test_damaged_parts_are_fetched_anew(anonymous: RealRegistry, cache: Cache) -> None:
    image = pulled(anonymous.reference("pub/one:1"), cache)
    parts = [image.resolved.manifest, image.resolved.config, *image.resolved.layers]
    for part in parts:
        path = cache.blob_path(part.sha256)
        path.write_bytes(b"x" + path.read_bytes()[1:])
    anonymous.requests()
    assert app(pulled(image.reference, cache)) == b"x = 1\n"
    assert len([line for line in anonymous.requests() if line.endswith(" 200")]) == len(parts) + 1
    for part in parts:
        assert sha256(cache.blob_path(part.sha256).read_bytes()) == part.digest


# Offline


def test_offline_a_tag_is_what_it_was(anonymous: RealRegistry, cache: Cache) -> None:
    first = pulled(anonymous.reference("pub/one:1"), cache)
    anonymous.requests()
    for reference in (anonymous.reference("pub/one:1"), first.reference):
        assert app(pulled(reference, cache, offline=True)) == b"x = 1\n"
    assert anonymous.requests() == []


def test_offline_what_was_never_pulled_is_missed(anonymous: RealRegistry, cache: Cache) -> None:
    reference = anonymous.reference("pub/one:1")
    error = failure(lambda: pulled(reference, cache, offline=True), NotCached)
    assert error.message == f"`{reference}` is not in the cache and `--offline` forbids asking for it"
    pinned = reference.pinned(one().top[0]["digest"])
    error = failure(lambda: pulled(pinned, cache, offline=True), NotCached)
    assert error.message == f"`{pinned}` is not in the cache (`{pinned.digest}`) and `--offline` forbids fetching it"
    resolve(reference, "arm64", cache=cache, offline=False, progress=SILENT)
    error = failure(lambda: pulled(reference, cache, offline=True), NotCached)
    assert error.message == f"2 parts of `{reference}` (0.4 MiB) are not in the cache and `--offline` forbids fetching"


# Logins


@pytest.fixture(scope="module")
def locked(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("basic")
    (folder / "htpasswd").write_text(HTPASSWD)
    settings = {"realm": "ours", "path": str(folder / "htpasswd")}
    with registry(folder, storage, auth={"htpasswd": settings}) as running:
        yield running


def docker_config(folder: Path, host: str, *, password: str = LOGIN[1], **more: Any) -> RegistryCredentials:
    packed = base64.b64encode(f"{LOGIN[0]}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": packed}}, **more}))
    return RegistryCredentials({"DOCKER_CONFIG": str(folder)})


def test_a_login_of_docker_opens_a_registry(locked: RealRegistry, cache: Cache, tmp_path: Path) -> None:
    credentials = docker_config(tmp_path, locked.host)
    assert app(pulled(locked.reference("own/one:1"), cache, credentials=credentials)) == b"x = 1\n"


def test_what_skopeo_login_writes_is_read(locked: RealRegistry, cache: Cache, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    command = [
        "skopeo",
        "login",
        "--authfile",
        str(file),
        "--tls-verify=false",
        "--username",
        LOGIN[0],
        "--password-stdin",
    ]
    subprocess.run([*command, locked.host], input=LOGIN[1].encode(), check=True, capture_output=True, timeout=60)
    credentials = RegistryCredentials({"REGISTRY_AUTH_FILE": str(file)})
    assert app(pulled(locked.reference("own/one:1"), cache, credentials=credentials)) == b"x = 1\n"


def test_without_a_login_the_way_to_one_is_told(locked: RealRegistry, cache: Cache) -> None:
    reference = locked.reference("own/one:1")
    error = failure(lambda: pulled(reference, cache), StatusError)
    assert error.message == (
        f"`{reference}` is refused by `{locked.host}`: 401 Unauthorized: unauthorized: authentication required"
    )
    assert error.hint == (
        f"not found, or not public: log in with `podman login {locked.host}` or `docker login {locked.host}`"
    )


def test_a_wrong_login_is_named_and_not_shown(locked: RealRegistry, cache: Cache, tmp_path: Path) -> None:
    credentials = docker_config(tmp_path, locked.host, password="hunter23-wrong")
    error = failure(lambda: pulled(locked.reference("own/one:1"), cache, credentials=credentials), StatusError)
    assert error.hint is not None
    assert error.hint.startswith(f"the login found in `{tmp_path / 'config.json'}` was refused: ")
    assert "hunter23" not in f"{error} {error.hint} {credentials!r} {credentials.find(locked.reference('own/one'))!r}"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    needs("openssl")
    with TokenServer(tmp_path_factory.mktemp("tokens")) as running:
        yield running


@pytest.fixture(scope="module")
def with_tokens(storage: Path, tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with registry(tmp_path_factory.mktemp("token"), storage, auth=tokens.settings) as running:
        yield running


@pytest.mark.parametrize("key_word", ["token", "access_token"])
def test_a_public_image_takes_one_token_for_all_its_parts(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, monkeypatch: pytest.MonkeyPatch, key_word: str
) -> None:
    monkeypatch.setattr(tokens, "key_word", key_word)
    tokens.asked.clear()
    assert app(pulled(with_tokens.reference("pub/one:1"), cache)) == b"x = 1\n"
    ((method, login, asked),) = tokens.asked
    assert (method, login) == ("GET", None)
    assert asked == {"service": ["registry"], "scope": ["repository:pub/one:pull"]}


def test_a_login_gets_the_token_of_a_private_image(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache
) -> None:
    reference = with_tokens.reference("own/one:1")
    error = failure(lambda: pulled(reference, cache), StatusError)
    assert error.message == (
        f"`{reference}` is refused by `{with_tokens.host}`: 401 Unauthorized: unauthorized: authentication required"
    )
    tokens.asked.clear()
    credentials = RegistryCredentials({}, {with_tokens.host: tokens.login})
    assert app(pulled(reference, cache, credentials=credentials)) == b"x = 1\n"
    ((_, login, asked),) = tokens.asked
    assert login is not None
    assert asked["account"] == ["me"]


def test_an_identity_token_is_exchanged(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, tmp_path: Path
) -> None:
    tokens.asked.clear()
    entry = {"auth": base64.b64encode(b"00000000:").decode(), "identitytoken": tokens.identity}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {f"{with_tokens.host}/own": entry}}))
    credentials = RegistryCredentials({"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
    assert app(pulled(with_tokens.reference("own/one:1"), cache, credentials=credentials)) == b"x = 1\n"
    assert [(method, login) for method, login, _ in tokens.asked] == [("POST", None)]


def test_an_old_login_does_not_keep_anybody_from_what_is_public(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, tmp_path: Path
) -> None:
    credentials = docker_config(tmp_path, with_tokens.host, password="hunter23-expired")
    assert app(pulled(with_tokens.reference("pub/one:1"), cache, credentials=credentials)) == b"x = 1\n"
    error = failure(lambda: pulled(with_tokens.reference("own/one:1"), cache, credentials=credentials), StatusError)
    assert error.hint is not None
    assert error.hint.startswith(f"the login found in `{tmp_path / 'config.json'}` was refused: ")


def test_a_token_that_ended_is_renewed(
    with_tokens: RealRegistry, tokens: TokenServer, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "lives", 1e-6)
    tokens.asked.clear()
    assert app(pulled(with_tokens.reference("pub/one:1"), cache)) == b"x = 1\n"
    assert len(tokens.asked) >= 5, "one for each request"


# Connections


@pytest.fixture(scope="module")
def secure(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    make_authority(folder)
    tls = {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key")}
    with registry(folder, storage, http={"tls": tls}) as running:
        yield running, folder / "ca.pem"


def test_a_registry_of_an_own_authority_is_believed_when_it_is_named(
    secure: tuple[RealRegistry, Path], cache: Cache
) -> None:
    running, authority = secure
    image = pulled(running.reference("pub/one:1"), cache, settings=HttpSettings(certificates=(authority,)))
    assert app(image) == b"x = 1\n"


def test_a_certificate_nobody_vouches_for_is_refused(secure: tuple[RealRegistry, Path], cache: Cache) -> None:
    error = failure(lambda: pulled(secure[0].reference("pub/one:1"), cache))
    assert ": the certificate is not trusted: " in error.message
    assert error.message.startswith(f"`{secure[0].host}/pub/one:1` could not be fetched from `https://")
