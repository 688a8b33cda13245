"""Real registries on loopback, over one storage, and a token server; and a failing one made of `MisbehavingServer`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from fetch.authority import openssl
from manylambda.image.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fetch.server import MisbehavingServer
    from image.saved import Layout


def needs(*tools: str) -> None:
    """Skip where a tool is missing; on the CI that is an error."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        if os.environ.get("CI"):
            pytest.fail(f"{missing[0]} is not installed")
        pytest.skip(f"needs {missing[0]}")


def free_port() -> int:
    """Find a port for a server that is still to be started: none of those that systems give to whoever names none."""
    while True:
        port = random.SystemRandom().randrange(10_240, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RealRegistry:
    """A running `docker-registry`."""

    def __init__(self, port: int, log: Path) -> None:
        self.host = f"127.0.0.1:{port}"
        self._log = log
        self._read = 0

    def reference(self, name: str) -> Reference:
        return Reference.parse(f"{self.host}/{name}")

    def requests(self) -> list[str]:
        """Give what our client asked since the last call: `GET /v2/pub/one/manifests/1 200`."""
        lines: list[str] = []
        looks = 0
        while looks < 4:  # it writes the line when the answer is gone
            time.sleep(0.05)
            before, lines = lines, self._log.read_text().splitlines()
            looks = looks + 1 if lines == before else 0
        new, self._read = lines[self._read :], len(lines)
        found = [re.search(r'"(\w+ \S+) HTTP/1.1" (\d+) \d+ "" "manylambda"', line) for line in new]
        return [f"{match[1]} {match[2]}" for match in found if match]


@contextmanager
def registry(folder: Path, data: Path, **more: Any) -> Iterator[RealRegistry]:
    """Run a registry over the storage `data`; `more` goes into its configuration."""
    needs("docker-registry")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    http = {"addr": f"127.0.0.1:{port}", **more.pop("http", {})}
    storage = {"filesystem": {"rootdirectory": str(data)}}
    settings = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": http, **more}
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        try:
            running = RealRegistry(port, folder / "log")
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            assert process.poll() is None, (folder / "log").read_text()
            yield running
        finally:
            process.kill()
            process.wait()


class TokenServer:
    """Signs the tokens that a registry believes: what is `pub/` for anybody, all for whoever has a login."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None, Mapping[str, list[str]]]] = []
        """Method, `Authorization` and parameters of each request."""
        self.lives: float = 300
        """Seconds, as it tells its clients."""
        self.key_word = "token"
        self.login = ("me", "hunter22-token")
        self.identity = "identity-token-of-mine"
        subject = ("-subj", "/CN=tokens", "-days", "2")
        openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *subject
        )
        self._certificate = base64.b64encode(openssl(folder, "x509", "-in", "cert.pem", "-outform", "DER")).decode()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The registry's `auth`."""
        bundle = str(self.folder / "cert.pem")
        realm = f"http://127.0.0.1:{self.port}/token"
        return {"token": {"realm": realm, "service": "registry", "issuer": "us", "rootcertbundle": bundle}}

    def token(self, scopes: list[str], *, is_known: bool) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            if is_known or name.startswith("pub/"):
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self._certificate]}
        times = {"exp": now + 300, "nbf": now - 10, "iat": now}
        claims = {"iss": "us", "sub": "", "aud": "registry", "jti": os.urandom(8).hex(), "access": access, **times}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = openssl(self.folder, "dgst", "-sha256", "-sign", "key.pem", given=signed.encode())
        return f"{signed}.{_base64(signature)}"

    def __enter__(self) -> Self:
        owner = self
        basic = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

            def do_GET(self) -> None:
                asked = parse_qs(urlsplit(self.path).query)
                login = self.headers.get("Authorization")
                self.answer(asked, login, is_wrong=login not in {None, basic}, is_known=login == basic)

            def do_POST(self) -> None:
                asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                is_known = asked["refresh_token"] == [owner.identity] and asked["grant_type"] == ["refresh_token"]
                self.answer(asked, self.headers.get("Authorization"), is_wrong=not is_known, is_known=is_known)

            def answer(
                self, asked: Mapping[str, list[str]], login: str | None, *, is_wrong: bool, is_known: bool
            ) -> None:
                owner.asked.append((self.command, login, asked))
                if is_wrong:
                    body, status = b'{"details": "incorrect username or password"}', 401
                else:
                    token = owner.token(asked["scope"], is_known=is_known)
                    body, status = json.dumps({owner.key_word: token, "expires_in": owner.lives}).encode(), 200
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def publish(server: MisbehavingServer, made: Layout, name: str = "pub/one") -> Reference:
    """Have a failing server serve a layout's first image, under its digest and as tag `1`; it knows no HEAD."""
    for digest, data in made.blobs.items():
        server.files[f"/v2/{name}/blobs/{digest}"] = data
        server.files[f"/v2/{name}/manifests/{digest}"] = data
    server.files[f"/v2/{name}/manifests/1"] = made.blobs[made.top[0]["digest"]]
    return Reference.parse(f"127.0.0.1:{server.port}/{name}:1")
