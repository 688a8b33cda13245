"""Private indexes as users have them: a real server with a password, through whole commands.

Resolving (uv) and downloading (ours) must both get in, and the secret must stay out of everything that is written.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from image.registries import free_port
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from product.conftest import Ran, Run

SECRET = "s3cret-p@ss word"


@dataclass(frozen=True)
class PrivateIndex:
    port: int

    def url(self, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}/simple/"

    @property
    def with_login(self) -> str:
        return self.url(f"me:{quote(SECRET, safe='')}@")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateIndex]:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "demo", "1.0", {"demo.py": "VALUE = 1\n"}, requires=["helper>=2"])
    make_wheel(folder, "helper", "2.1", {"helper/__init__.py": ""})
    logins = tmp_path_factory.mktemp("logins") / "htpasswd"
    logins.write_text(f"me:{{SHA}}{base64.b64encode(hashlib.sha1(SECRET.encode()).digest()).decode()}\n")
    port = free_port()
    options = [
        "-i",
        "127.0.0.1",
        "-p",
        str(port),
        "-P",
        str(logins),
        "-a",
        "list,download,update",
        "--disable-fallback",
    ]
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pypiserver", "run", *options, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(2_400):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert running.poll() is None, "the index did not start"
                time.sleep(0.05)
        yield PrivateIndex(port)
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def wanting(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project that needs the private distribution, and let uv read its own settings."""
    monkeypatch.delenv("UV_NO_CONFIG")
    (project / "requirements.txt").write_text("demo\n")
    return project


def assert_right(ran: Ran, project: Path) -> None:
    assert {one["name"] for one in ran.artifact["distributions"]} == {"demo", "helper"}
    shown = [SECRET, quote(SECRET, safe=""), quote(SECRET), base64.b64encode(f"me:{SECRET}".encode()).decode()]
    kept = [ran.stdout, ran.stderr]
    cache = Path(os.environ["MANYLAMBDA_CACHE_DIR"])
    for folder in (project / "dist", cache):
        kept += [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    for text in kept:
        assert not any(secret in text for secret in shown)


BUILD = ("build", "-t", "python3.13-arm64", "--format", "json", "-v")


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_a_login_in_the_address_of_a_variable(run: Run, private: PrivateIndex, wanting: Path, variable: str) -> None:
    ran = run(*BUILD, wanting, env={variable: private.with_login})
    assert_right(ran, wanting)


def test_a_login_in_pip_conf(run: Run, private: PrivateIndex, wanting: Path, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {private.with_login}\n")
    ran = run(*BUILD, wanting, env={"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert_right(ran, wanting)


def test_a_login_in_uv_toml(run: Run, private: PrivateIndex, wanting: Path) -> None:
    (wanting / "uv.toml").write_text(f'[[index]]\nurl = "{private.with_login}"\ndefault = true\n')
    assert_right(run(*BUILD, wanting), wanting)


def test_a_named_index_of_pyproject_with_its_variables(run: Run, private: PrivateIndex, wanting: Path) -> None:
    (wanting / "requirements.txt").unlink()
    (wanting / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "1"\ndependencies = ["demo"]\n'
        f'[[tool.uv.index]]\nname = "private"\nurl = "{private.url()}"\ndefault = true\n'
    )
    logins = {"UV_INDEX_PRIVATE_USERNAME": "me", "UV_INDEX_PRIVATE_PASSWORD": SECRET}
    assert_right(run(*BUILD, wanting, env=logins), wanting)


def test_a_login_in_netrc(run: Run, private: PrivateIndex, wanting: Path, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f'machine 127.0.0.1 login me password "{SECRET}"\n')
    netrc.chmod(0o600)
    assert_right(run(*BUILD, wanting, env={"UV_DEFAULT_INDEX": private.url(), "NETRC": str(netrc)}), wanting)


@pytest.mark.skipif(os.name == "nt", reason="the keyring program of this test is a shell script")
def test_a_login_in_a_keyring(run: Run, private: PrivateIndex, wanting: Path, tmp_path: Path) -> None:
    keyring = tmp_path / "bin" / "keyring"
    keyring.parent.mkdir()
    keyring.write_text(f"#!/bin/sh\n# get SERVICE USER\necho '{SECRET}'\n")
    keyring.chmod(0o755)
    environment = {
        "UV_DEFAULT_INDEX": private.url("me@"),
        "UV_KEYRING_PROVIDER": "subprocess",
        "PATH": f"{keyring.parent}{os.pathsep}{os.environ['PATH']}",
    }
    assert_right(run(*BUILD, wanting, env=environment), wanting)


def test_a_lock_has_no_secret_and_a_build_from_it_gets_in(run: Run, private: PrivateIndex, wanting: Path) -> None:
    login = {"UV_DEFAULT_INDEX": private.with_login}
    run("lock", "-t", "python3.13-arm64", wanting, env=login)
    text = (wanting / "pylock.toml").read_text()
    assert f"http://127.0.0.1:{private.port}/" in text
    assert "me:" not in text
    assert quote(SECRET, safe="") not in text
    assert_right(run(*BUILD, wanting, env=login), wanting)


def test_an_index_that_the_requirements_name_is_the_only_one_asked(
    run: Run, private: PrivateIndex, wanting: Path
) -> None:
    (wanting / "requirements.txt").write_text(f"--index-url {private.with_login}\ndemo\n")
    elsewhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "MANYLAMBDA_HTTP_RETRIES": "0"}  # nobody else can be reached
    assert_right(run(*BUILD, wanting, env=elsewhere), wanting)
    ran = run("plan", "-t", "python3.13-arm64", "-v", wanting, env=elsewhere)
    assert "no refusals told" not in ran.stderr
    assert "demo" in ran.stdout
    assert SECRET not in ran.stdout + ran.stderr


def test_without_a_login_nobody_gets_in(run: Run, private: PrivateIndex, wanting: Path) -> None:
    ran = run(*BUILD, wanting, env={"UV_DEFAULT_INDEX": private.url()}, status=4)
    assert "error:" in ran.stderr
    assert "401" in ran.stderr or "login" in ran.stderr
    assert not (wanting / "dist").exists()


def test_a_wrong_login_is_not_shown(run: Run, private: PrivateIndex, wanting: Path) -> None:
    ran = run(*BUILD, wanting, env={"UV_DEFAULT_INDEX": private.url("me:wrong-s3cret@")}, status=4)
    assert "wrong-s3cret" not in ran.stderr + ran.stdout
