"""A real private index, `pypiserver` with a password, serves whoever has the login and nobody else."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin

import pytest

from image.registries import free_port
from manylambda.errors import FetchError
from manylambda.fetch import INDEX_PAGE, Cache, Credentials, Download, HttpSettings, fetch_all, read_text
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "p@ss/wörd 1"
WRITTEN = "p%40ss%2Fw%C3%B6rd%201"
WHEEL = "demo-1.0-py3-none-any.whl"

# Not imported: what it vendors puts hooks into this interpreter.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("pypiserver") is None, reason="needs `pypiserver`")


@dataclass(frozen=True)
class PrivateIndex:
    port: int
    wheel: bytes

    def url(self, path: str = "/simple/", login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateIndex]:
    folder = tmp_path_factory.mktemp("index")
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("demo.py", "print('demo')\n")
        wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("demo-1.0.dist-info/RECORD", "")
    logins = tmp_path_factory.mktemp("secret") / "htpasswd"
    hashed = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    logins.write_text(f"me:{{SHA}}{hashed}\n")
    port = free_port()
    arguments = ["-i", "127.0.0.1", "-p", str(port), "-P", str(logins), "-a", "list,download,update"]
    # Warnings of its own imports are not ours to mend.
    command = [sys.executable, "-W", "ignore", "-m", "pypiserver", "run", *arguments, str(folder)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    assert running.stderr is not None
                    pytest.fail(f"the index did not start: {running.stderr.read().decode()}")
                time.sleep(0.05)
        yield PrivateIndex(port=port, wheel=(folder / WHEEL).read_bytes())
    finally:
        running.kill()
        running.communicate()


def take(index: PrivateIndex, credentials: Credentials, cache: Cache) -> bytes:
    """Read the page of the index, follow its one link, and give what was fetched."""
    settings = HttpSettings(timeout=10, retries=1, backoff=0.01)
    page = read_text(
        index.url("/simple/demo/"), credentials=credentials, headers={"Accept": INDEX_PAGE}, settings=settings
    )
    assert page.content_type in {"text/html", "application/vnd.pypi.simple.v1+json"}
    link = urldefrag(urljoin(page.url, page.text.split('href="')[1].split('"')[0])).url
    sha256 = hashlib.sha256(index.wheel).hexdigest()
    download = Download(url=link, filename=WHEEL, sha256=sha256, size=len(index.wheel))
    paths = fetch_all(
        [download], cache=cache, credentials=credentials, offline=False, progress=SILENT, settings=settings
    )
    return paths[download].read_bytes()


def test_the_login_may_stand_in_the_address_of_the_index(index: PrivateIndex, cache: Cache) -> None:
    credentials = Credentials.from_settings({}, [(None, index.url(login=f"me:{WRITTEN}@"))])
    assert take(index, credentials, cache) == index.wheel


def test_the_login_may_stand_in_the_variables_of_uv(index: PrivateIndex, cache: Cache) -> None:
    environment = {"UV_INDEX_PRIVATE_USERNAME": "me", "UV_INDEX_PRIVATE_PASSWORD": PASSWORD}
    credentials = Credentials.from_settings(environment, [("private", index.url())])
    assert take(index, credentials, cache) == index.wheel


def test_the_login_may_stand_in_netrc(index: PrivateIndex, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f'machine 127.0.0.1 login me password "{PASSWORD}"\n', encoding="utf-8")
    credentials = Credentials.from_settings({"NETRC": str(tmp_path / ".netrc")}, [(None, index.url())])
    assert take(index, credentials, cache) == index.wheel


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
def test_the_login_may_lie_in_a_keyring(index: PrivateIndex, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "keyring").write_text(f"#!/bin/sh\nprintf 'me\\n{PASSWORD}\\n'\n", encoding="utf-8")
    (tmp_path / "keyring").chmod(0o755)
    environment = {"UV_KEYRING_PROVIDER": "subprocess", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert take(index, Credentials.from_settings(environment, [(None, index.url())]), cache) == index.wheel


def test_without_a_login_the_index_refuses(index: PrivateIndex, cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        take(index, Credentials.from_settings({}, [(None, index.url())]), cache)
    url = index.url("/simple/demo/")
    assert caught.value.message == f"the page is refused by `{url}`: 401 Unauthorized"


@pytest.mark.parametrize("password", ["wrong-password", WRITTEN + "0"])
def test_a_refused_login_is_not_shown(index: PrivateIndex, cache: Cache, password: str) -> None:
    with pytest.raises(FetchError) as caught:
        take(index, Credentials.from_settings({}, [(None, index.url(login=f"me:{password}@"))]), cache)
    assert caught.value.hint == (
        "the login found in the address was refused by `127.0.0.1`: is it right, and not expired?"
    )
    told = ""
    error: BaseException | None = caught.value
    while error is not None:
        told += f"{error!s} {error!r} {getattr(error, 'hint', '')} "
        error = error.__cause__ or error.__context__
    for secret in (password, PASSWORD, "me:", "Basic"):
        assert secret not in told, secret
