"""Logins are found where Docker, Podman and AWS keep them, by the programs they name, and are never shown."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.image.credentials import Login, RegistryCredentials
from manylambda.image.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Helper = Callable[[str, str], None]

posix = pytest.mark.skipif(os.name == "nt", reason="the helper is a script")


def packed(user: str, secret: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{secret}".encode()).decode()}


def write(path: Path, **document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def found(environment: dict[str, str], name: str = "r.example/a/b") -> tuple[str, str] | None:
    login = RegistryCredentials(environment).find(Reference.parse(name))
    return None if login is None else (login.user, login.secret)


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    """Write a credential helper: what it does with the server's address on standard input."""

    def make(name: str, code: str) -> None:
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable} -I\nimport json, sys\nserver = sys.stdin.read()\n{code}\n")
        path.chmod(0o755)

    return make


def answers(user: str, secret: str) -> str:
    words = f"ServerURL=server, Username={user!r}, Secret={secret!r}"
    return f"assert sys.argv[1:] == ['get']\nprint(json.dumps(dict({words})))"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("r.example", "r.example/a"),
        ("https://r.example", "r.example/a"),
        ("https://r.example/v2/", "r.example/a"),
        ("R.Example", "r.example/a"),
        ("r.example:5000", "r.example:5000/a"),
        ("r.example/a", "r.example/a/b"),
        ("https://index.docker.io/v1/", "python"),
        ("docker.io", "amazon/aws-lambda-python"),
    ],
)
def test_an_entry_is_found_under_every_name_it_has(tmp_path: Path, key: str, name: str) -> None:
    write(tmp_path / "config.json", auths={"other.example": packed("x", "y"), key: packed("me", "pass:word")})
    assert found({"DOCKER_CONFIG": str(tmp_path)}, name) == ("me", "pass:word")


@pytest.mark.parametrize(
    ("key", "name"), [("r.example", "r.example:5000/a"), ("r.example/b", "r.example/a"), ("example", "r.example/a")]
)
def test_the_login_of_another_place_is_not_taken(tmp_path: Path, key: str, name: str) -> None:
    write(tmp_path / "config.json", auths={key: packed("me", "password")})
    assert found({"DOCKER_CONFIG": str(tmp_path)}, name) is None


def test_the_first_source_wins(tmp_path: Path) -> None:
    def place(*parts: str, user: str, name: str) -> Path:
        return write(tmp_path.joinpath(*parts, name), auths={"r.example": packed(user, "password")})

    home = place("home", ".docker", user="docker", name="config.json")
    environment = {"HOME": str(tmp_path / "home")}
    assert found(environment) == ("docker", "password")
    place("home", ".config", "containers", user="podman", name="auth.json")
    assert found(environment) == ("podman", "password")
    place("run", "containers", user="running", name="auth.json")
    assert found({**environment, "XDG_RUNTIME_DIR": str(tmp_path / "run")}) == ("running", "password")
    named = place(user="named", name="named.json")
    assert found({**environment, "XDG_RUNTIME_DIR": str(tmp_path / "run"), "REGISTRY_AUTH_FILE": str(named)}) == (
        "named",
        "password",
    )
    given = RegistryCredentials({**environment, "REGISTRY_AUTH_FILE": str(named)}, {"r.example": ("given", "x")})
    login = given.find(Reference.parse("r.example/a"))
    assert login is not None
    assert login.user == "given"
    assert home.exists()


def test_the_login_of_a_repository_is_nearer_than_that_of_its_registry(tmp_path: Path) -> None:
    file = write(
        tmp_path / "auth.json",
        auths={"r.example": packed("all", "x"), "r.example/a": packed("a", "x"), "r.example/a/b": packed("ab", "x")},
    )
    environment = {"REGISTRY_AUTH_FILE": str(file)}
    names = {"r.example/a/b": "ab", "r.example/a/c": "a", "r.example/c": "all"}
    assert {name: (found(environment, name) or ("",))[0] for name in names} == names


@posix
def test_a_helper_is_asked_for_its_registry(tmp_path: Path, helper: Helper) -> None:
    helper("ours", answers("me", "from-helper"))
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path / "bin")}
    write(tmp_path / "config.json", credHelpers={"r.example": "ours"}, auths={"r.example": packed("me", "old")})
    assert found(environment) == ("me", "from-helper")
    assert found(environment, "s.example/a") is None
    write(tmp_path / "config.json", credsStore="ours", auths={"r.example": {}})
    assert found(environment, "s.example/a") == ("me", "from-helper")


@posix
def test_a_helper_hears_docker_hubs_old_name_and_may_give_an_identity_token(tmp_path: Path, helper: Helper) -> None:
    helper("ours", "assert server == 'https://index.docker.io/v1/'\n" + answers("<token>", "identity"))
    write(tmp_path / "config.json", credsStore="ours")
    credentials = RegistryCredentials({"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path / "bin")})
    login = credentials.find(Reference.parse("python"))
    assert login == Login(user="<token>", secret="identity", source="`docker-credential-ours`", is_identity_token=True)


@posix
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('credentials not found in native keychain'); sys.exit(1)", None),
        ("print('secret-in-words'); sys.exit(3)", "`docker-credential-ours` failed with status 3"),
        ("print('secret-in-words')", "`docker-credential-ours` gave an answer that is not understood"),
        ("print('[]')", "`docker-credential-ours` gave an answer that is not understood"),
    ],
)
def test_a_helper_that_fails_is_told_in_the_hint(
    tmp_path: Path, helper: Helper, code: str, problem: str | None
) -> None:
    helper("ours", code)
    write(tmp_path / "config.json", credsStore="ours")
    credentials = RegistryCredentials({"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path / "bin")})
    reference = Reference.parse("r.example/a")
    assert credentials.find(reference) is None
    how = "not found, or not public: log in with `podman login r.example` or `docker login r.example`"
    assert credentials.hint(reference) == (how if problem is None else f"{how}; {problem}")


@pytest.mark.parametrize("name", ["../../bin/sh", 1, "a b", "-x"])
def test_a_helper_must_have_a_plain_name(tmp_path: Path, name: object) -> None:
    write(tmp_path / "config.json", credHelpers={"r.example": name})
    credentials = RegistryCredentials({"DOCKER_CONFIG": str(tmp_path), "PATH": os.environ["PATH"]})
    assert credentials.hint(Reference.parse("r.example/a")).endswith("; a credential helper has an unusable name")


def test_a_helper_that_is_not_there_is_told(tmp_path: Path) -> None:
    write(tmp_path / "config.json", credsStore="nowhere")
    credentials = RegistryCredentials({"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)})
    assert credentials.hint(Reference.parse("r.example/a")).endswith(
        "; `docker-credential-nowhere` is named for logins but is not on the path"
    )


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"auths": {"r.example": {"auth": "%%%"}}}'])
def test_a_file_that_is_not_understood_is_told_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    credentials = RegistryCredentials({"DOCKER_CONFIG": str(tmp_path)})
    assert credentials.find(Reference.parse("r.example/a")) is None
    assert credentials.hint(Reference.parse("r.example/a")).endswith("` is not understood")


@pytest.mark.parametrize(
    "document",
    [{"auths": []}, {"auths": {"r.example": 1}}, {"auths": {"r.example": {"auth": 1}}}, {"credHelpers": "x"}],
)
def test_a_file_of_another_shape_has_no_login(tmp_path: Path, document: dict[str, Any]) -> None:
    write(tmp_path / "config.json", **document)
    assert found({"DOCKER_CONFIG": str(tmp_path)}) is None


ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def test_a_private_registry_of_aws_is_opened_by_boto3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = packed("AWS", "secret-of-aws")["auth"]
    (tmp_path / "boto3.py").write_text(
        "class client:\n"
        "    def __init__(self, service, region_name):\n"
        "        assert (service, region_name) == ('ecr', 'eu-west-1')\n"
        "    def get_authorization_token(self):\n"
        f"        return {{'authorizationData': [{{'authorizationToken': '{token}'}}]}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "boto3", raising=False)
    assert found({}, f"{ECR}/app:1") == ("AWS", "secret-of-aws")
    assert found({}, "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example/app:1") is None
    sys.modules.pop("boto3", None)


@posix
def test_a_private_registry_of_aws_is_opened_by_its_helper(
    tmp_path: Path, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # as if it were not installed
    helper("ecr-login", answers("AWS", "secret-of-aws"))
    assert found({"PATH": str(tmp_path / "bin")}, f"{ECR}/app:1") == ("AWS", "secret-of-aws")


def test_without_either_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    credentials = RegistryCredentials({"PATH": str(tmp_path)})
    assert credentials.hint(Reference.parse(f"{ECR}/app:1")) == (
        "not found, or not public: log in with `aws ecr get-login-password --region eu-west-1 | "
        f"docker login --username AWS --password-stdin {ECR}`, or install `boto3`"
    )


def test_no_secret_is_shown(tmp_path: Path) -> None:
    credentials = RegistryCredentials({}, {"r.example": ("me", "hunter22/x")})
    login = credentials.find(Reference.parse("r.example/a"))
    assert "hunter22" not in f"{credentials!r} {login!r} {credentials.hint(Reference.parse('r.example/a'))}"
    assert credentials.redact("a hunter22/x b hunter22%2Fx c") == "a **** b **** c"
