"""`manylambda push`: from a file, a folder or a registry to a registry, in a process of its own."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from image import ecr
from image.push_server import Handler, PushServer, refuse
from image.registries import RealRegistry, needs, registry
from image.saved import Layout, docker_save, layer
from image.test_registry import HTPASSWD, LOGIN
from product import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from product.conftest import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")

LARGE = layer({"usr/lib/large": random.Random(10).randbytes(2_000_000)})
APP = layer({"var/task/app.py": b"x = 1\n"})
INDEX = (
    "`several` is an index (images for: `linux/amd64`, `linux/arm64`), not one image: Lambda refuses it with "
    '"The image manifest, config or layer media type for the source image ... is not supported"'
)


def one(architecture: str = "arm64") -> Layout:
    made = Layout()
    made.top.append(made.image([LARGE, APP], architecture=architecture))
    return made


def several(*, attested: bool = False) -> Layout:
    made = Layout()
    machines = ["arm64"] if attested else ["amd64", "arm64"]
    rows = [made.image([APP], architecture=name, platform={"os": "linux", "architecture": name}) for name in machines]
    if attested:
        unknown = {"os": "unknown", "architecture": "unknown"}
        about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": rows[0]["digest"]}
        rows.append(made.image([APP], architecture="unknown", platform=unknown, annotations=about))
    made.top.append(made.index(*rows))
    return made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder, folder / "data") as open_registry:
        yield open_registry


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's logins and proxies."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def digest_of(reference: str) -> Any:
    needs("skopeo")
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)["Digest"]


def test_a_folder_is_pushed_and_the_next_step_told(run: Run, running: RealRegistry, tmp_path: Path) -> None:
    made = one()
    made.folder(tmp_path / "image")
    digest = made.top[0]["digest"]
    name = f"{running.host}/api"
    ran = run("push", "image", f"{name}:1")
    assert ran.stdout == (
        f"{name}:1@{digest}\n"
        "  arm64; 1.9 MiB uploaded, 0 B mounted, 0 B there already\n"
        "\n"
        f"aws lambda update-function-code --function-name NAME --image-uri {name}@{digest}\n"
    )
    assert ran.stderr == ""
    assert digest_of(f"{name}:1") == digest
    again = run("push", "image", f"{name}:1")
    assert "0 B uploaded, 0 B mounted, 1.9 MiB there already" in again.stdout


def test_the_json_is_as_its_schema_says(run: Run, running: RealRegistry, tmp_path: Path) -> None:
    made = one("amd64")
    made.tar(tmp_path / "image.tar")
    ran = run("push", "image.tar", f"{running.host}/json:1", "--format", "json")
    schemas.check("push", ran.json)
    found = ran.json
    digest = made.top[0]["digest"]
    assert (found["digest"], found["tag"], found["architecture"]) == (digest, "1", "x86_64")
    assert found["image_uri"] == f"{running.host}/json@{digest}"
    assert found["command"].endswith(f" --image-uri {found['image_uri']}")
    assert [part["how"] for part in found["parts"]] == ["uploaded"] * 3
    assert (found["uploaded"], found["mounted"], found["present"]) == (
        sum(part["size"] for part in found["parts"]),
        0,
        0,
    )


def test_an_image_of_a_registry_is_copied(run: Run, running: RealRegistry, tmp_path: Path) -> None:
    one().folder(tmp_path / "image")
    run("push", "image", f"{running.host}/source:1")
    found = run("push", f"{running.host}/source:1", f"{running.host}/copy:1", "--format", "json").json
    assert found["uploaded"] + found["present"] == 0, "all of it is mounted"
    assert digest_of(f"{running.host}/copy:1") == found["digest"] == one().top[0]["digest"]
    with registry(tmp_path / "other", tmp_path / "data") as other:
        found = run("push", f"{running.host}/source:1", f"{other.host}/copy:1", "--format", "json").json
        assert found["mounted"] + found["present"] == 0
        assert digest_of(f"{other.host}/copy:1") == found["digest"]


def test_an_index_is_refused_and_a_target_chooses(run: Run, running: RealRegistry, tmp_path: Path) -> None:
    made = several()
    made.folder(tmp_path / "several")
    to = f"{running.host}/chosen:1"
    ran = run("push", "several", to, status=2)
    assert ran.stderr.startswith(f"error: {INDEX}\n\nhint: `-t TARGET` takes the one image for a target")
    assert not ran.stdout
    index = json.loads(made.blobs[made.top[0]["digest"]])
    for target, row in (("python3.13-x86_64", 0), ("python3.13-arm64", 1)):
        found = run("push", "several", to, "-t", target, "--format", "json").json
        assert (found["digest"], found["architecture"]) == (index["manifests"][row]["digest"], target.split("-")[1])


def test_an_index_of_a_registry_is_refused_and_a_target_chooses(
    run: Run, running: RealRegistry, tmp_path: Path
) -> None:
    needs("skopeo")
    made = several(attested=True)
    name = f"{running.host}/attested:1"
    command = ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", f"oci:{made.folder(tmp_path / 'a')}"]
    subprocess.run([*command, f"docker://{name}"], check=True, timeout=60)
    ran = run("push", name, f"{running.host}/plain:1", status=2)
    assert ran.stderr.startswith(f"error: `{name}` is an index (images for: `linux/arm64`), not one image: ")
    found = run("push", name, f"{running.host}/plain:1", "-t", "python3.13-arm64", "--format", "json").json
    assert digest_of(f"{running.host}/plain:1") == found["digest"]
    ran = run("push", "a", f"{running.host}/plain:2", status=2)
    assert "is an index (images for: `linux/arm64`), not one image" in ran.stderr


def test_what_docker_save_wrote_is_pushed(run: Run, running: RealRegistry, tmp_path: Path) -> None:
    docker_save(tmp_path / "saved.tar", ("api:1", [LARGE, APP], {"architecture": "arm64", "os": "linux"}))
    found = run("push", "saved.tar", f"{running.host}/saved:1", "--format", "json").json
    assert digest_of(f"{running.host}/saved:1") == found["digest"]


def test_the_logins_of_docker_are_used_and_never_shown(run: Run, tmp_path: Path) -> None:
    one().folder(tmp_path / "image")
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "ours", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path / "locked", tmp_path / "data", auth=auth) as locked:
        to = f"{locked.host}/api:1"
        ran = run("push", "image", to, status=4)
        assert f" is refused by `{locked.host}`: 401 Unauthorized: " in ran.stderr
        assert f"\n\nhint: not found, or not public: log in with `podman login {locked.host}`" in ran.stderr
        for password, status in (("hunter23-wrong", 4), (LOGIN[1], 0)):
            packed = base64.b64encode(f"{LOGIN[0]}:{password}".encode()).decode()
            (tmp_path / "config.json").write_text(json.dumps({"auths": {locked.host: {"auth": packed}}}))
            ran = run("push", "image", to, "-v", status=status, env={"DOCKER_CONFIG": str(tmp_path)})
            assert "hunter2" not in ran.stdout + ran.stderr
            assert packed not in ran.stdout + ran.stderr


ECR = "111122223333.dkr.ecr.eu-central-1.amazonaws.com"


def test_a_repository_that_ecr_lacks_is_told_with_the_command_that_makes_it(run: Run, tmp_path: Path) -> None:
    one().folder(tmp_path / "image")
    message = "The repository with name 'api' does not exist in the registry with id '111122223333'"
    with PushServer() as server:
        server.plan("^POST", *[refuse(404, "NAME_UNKNOWN", message)] * 9)
        proxy = {"HTTP_PROXY": f"http://{server.host}", "http_proxy": f"http://{server.host}"}
        ran = run("push", "image", f"{ECR}/api:1", "--plain-http", status=4, env=proxy)
        assert f" could not be pushed to `{ECR}`: 404 Not Found: name_unknown: {message}\n" in ran.stderr
        assert ran.stderr.endswith(
            "\n\nhint: make it first, in the region of the function: "
            "`aws ecr create-repository --repository-name api --region eu-central-1`\n"
        )
        server.plans.clear()
        ran = run("push", "image", f"{ECR}/api:1", "--plain-http", env=proxy)
        assert f"--image-uri {ECR}/api@sha256:" in ran.stdout
        assert server.manifests["api", "1"]


def test_a_private_repository_of_ecr_is_opened_by_real_boto3(run: Run, tmp_path: Path) -> None:
    """The name is ECR's, and the registry behind it one that takes ECR's login alone."""
    one().folder(tmp_path / "image")
    (tmp_path / "htpasswd").write_text(ecr.HTPASSWD)
    auth = {"htpasswd": {"realm": "ours", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path / "locked", tmp_path / "data", auth=auth) as locked, ecr.Ecr() as service:
        there = {"HTTP_PROXY": f"http://{locked.host}", "http_proxy": f"http://{locked.host}", **service.environment}
        command = ("push", "image", f"{ecr.REGISTRY}/api:1", "--plain-http", "-v")
        ran = run(*command, env=there)
        assert f"--image-uri {ecr.REGISTRY}/api@sha256:" in ran.stdout
        assert service.regions == ["eu-central-1"], "asked once, in the region of the name"
        packed = base64.b64encode(":".join(ecr.LOGIN).encode()).decode()
        for secret in (ecr.LOGIN[1], packed, "secret-key"):
            assert secret not in ran.stdout + ran.stderr
        run("push", f"{ecr.REGISTRY}/api:1", f"{ecr.REGISTRY}/other:1", "--plain-http", env=there)
        service.refusal = "ExpiredTokenException"
        ran = run(*command, env=there, status=4)
        assert ran.stderr.endswith(
            f" --username AWS --password-stdin {ecr.REGISTRY}`; `boto3` has no login: ExpiredTokenException\n"
        )
        ran = run(*command, env={**there, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, status=4)
        assert ran.stderr.endswith("; `boto3` has no login: NoCredentialsError\n")


@pytest.mark.parametrize("is_told", [False, True], ids=["the answer has no words", "the answer has words"])
def test_a_login_of_docker_that_ended_is_replaced_by_that_of_boto3(run: Run, tmp_path: Path, *, is_told: bool) -> None:
    """As ECR refuses it, after twelve hours."""
    one().folder(tmp_path / "image")
    old = base64.b64encode(b"AWS:yesterday").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {ecr.REGISTRY: {"auth": old}}}))
    packed = base64.b64encode(":".join(ecr.LOGIN).encode()).decode()

    def guard(handler: Handler) -> bool:
        given = handler.headers.get("Authorization")
        if given == f"Basic {packed}":
            return True
        if given is None:
            handler.refuse(
                401, "", "no basic auth credentials", WWW_Authenticate='Basic realm="https://ecr",service="ecr"'
            )
        elif is_told:
            handler.refuse(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
        else:
            handler.answer(403)
        return False

    command = ("push", "image", f"{ecr.REGISTRY}/api:1", "--plain-http")
    with PushServer() as server, ecr.Ecr() as service:
        server.plan("", *[guard] * 200)
        there = {"HTTP_PROXY": f"http://{server.host}", "http_proxy": f"http://{server.host}", **service.environment}
        there["DOCKER_CONFIG"] = str(tmp_path)
        ran = run(*command, env=there)
        assert f"--image-uri {ecr.REGISTRY}/api@sha256:" in ran.stdout
        assert service.regions == ["eu-central-1"]
        assert server.manifests["api", "1"]
        service.refusal = "ExpiredTokenException"
        ran = run(*command, env=there, status=4)
        assert (
            f"hint: the login found in `{tmp_path / 'config.json'}` was refused: is it right, not expired" in ran.stderr
        )
        assert ran.stderr.endswith("; `boto3` has no login: ExpiredTokenException\n")


def test_without_being_told_no_other_host_is_spoken_to_without_tls(run: Run, tmp_path: Path) -> None:
    one().folder(tmp_path / "image")
    with PushServer() as server:
        environment = {"HTTP_PROXY": f"http://{server.host}", "MANYLAMBDA_HTTP_RETRIES": "0", "HTTPS_PROXY": ""}
        ran = run("push", "image", "registry.invalid/api:1", status=4, env=environment)
        assert " could not be pushed to `https://registry.invalid/v2/api/" in ran.stderr
        assert ran.stderr.count("error: ") == 1
        assert server.requests == []


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["absent", "HOST/api:1"], "there is no file or folder `absent`", "an image in a registry is written in full"),
        (["./absent", "HOST/api:1"], "there is no file or folder `./absent`", "an image in a registry"),
        (["dist/absent.tar", "HOST/api:1"], "there is no file or folder `dist/absent.tar`", "an image in a registry"),
        (["image", "api:1"], "`api:1` names no registry", "`ACCOUNT.dkr.ecr.REGION.amazonaws.com/api:TAG`"),
        (["image", "team/api"], "`team/api` names no registry", ".amazonaws.com/team/api:TAG`"),
        (["image", "HOST/API:1"], "its name is malformed: `API`", "in lower case"),
        (["image", "https://HOST/api:1"], "it has a scheme", "write it without `https://`"),
        (["image", "HOST/api@sha256:12"], "its digest is malformed", "64 digits"),
        (["image", f"HOST/api@sha256:{'0' * 64}"], "names another image than this one: `sha256:", "leave the digest"),
        (["empty", "HOST/api:1"], "`empty` is no image", "`oci-layout`"),
        (["text", "HOST/api:1"], "`text` is no image", "a tar (OCI or `docker save`)"),
        (["image", "HOST/api:1", "-t", "python3.13"], "python3.13", ""),
        (["image", "HOST/api:1", "-t", "python3.13-x86_64"], "is for `linux/arm64`, not for `linux/amd64`", "target"),
        (["plain.tar", "HOST/api:1"], "`plain.tar` is a tar without an image", "docker save"),
    ],
)
def test_what_was_typed_wrongly_is_one_clear_error(
    run: Run, running: RealRegistry, tmp_path: Path, words: list[str], message: str, hint: str
) -> None:
    one().folder(tmp_path / "image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "plain.tar").write_bytes(APP)
    running.requests()
    ran = run("push", *(word.replace("HOST", running.host) for word in words), status=2)
    assert ran.stderr.startswith("error: ")
    told, _, then = ran.stderr.partition("\n\nhint: ")
    assert message in told
    assert hint in then
    assert not ran.stdout
    assert running.requests() == []


def test_what_no_registry_has_is_told(run: Run, running: RealRegistry) -> None:
    ran = run("push", f"{running.host}/absent:1", f"{running.host}/api:1", status=4)
    assert f"error: `{running.host}/absent:1` is not in `{running.host}`: 404 Not Found: " in ran.stderr


def test_a_registry_that_does_not_answer_is_told_of(run: Run, tmp_path: Path) -> None:
    one().folder(tmp_path / "image")
    ran = run("push", "image", "127.0.0.1:1/api:1", status=4, env={"MANYLAMBDA_HTTP_RETRIES": "0"})
    assert " could not be pushed to `http" in ran.stderr
    assert " in 1 attempt: no connection: connection refused" in ran.stderr
