"""A real HTTP server on loopback that misbehaves as asked, one behaviour a request, and well when nothing is left."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Self

    Behaviour = Callable[["Handler", bytes], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a client asked."""

    path: str
    range: str | None
    authorization: str | None
    headers: Mapping[str, str]
    client: tuple[str, int]
    """Address and port: the same for requests of one connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request with the next behaviour planned for its path."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        owner = self.server.owner
        path = self.path.partition("?")[0]
        with owner.lock:
            owner.requests.append(
                Request(
                    path=self.path,
                    range=self.headers.get("Range"),
                    authorization=self.headers.get("Authorization"),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    client=self.client_address,
                )
            )
            plan = owner.plans[path]
            stays = path in owner.forever and len(plan) == 1
            behaviour = plan[0] if stays else plan.pop(0) if plan else serve
        try:
            behaviour(self, owner.files.get(path, b""))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: MisbehavingServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests are about."""


@dataclass
class MisbehavingServer:
    """Serves `files` (path -> bytes); `plan` says what goes wrong first."""

    files: dict[str, bytes] = field(default_factory=dict)
    plans: defaultdict[str, list[Behaviour]] = field(default_factory=lambda: defaultdict(list))
    forever: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str, login: str = "") -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{login}{'@' if login else ''}127.0.0.1:{self.port}{path}"

    def plan(self, path: str, *behaviours: Behaviour, forever: bool = False) -> None:
        """Use these behaviours for the next requests of a path, the last one for ever if asked."""
        self.plans[path] = list(behaviours)
        if forever:
            self.forever.add(path)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path.partition("?")[0] == path]


def serve(handler: Handler, body: bytes) -> None:
    """Behave well: whole files, and parts of files."""
    asked = handler.headers.get("Range", "")
    if last := re.fullmatch(r"bytes=-(\d+)", asked):
        asked = f"bytes={max(0, len(body) - int(last[1]))}-"
    span = re.fullmatch(r"bytes=(\d+)-", asked)
    if span is None:
        handler.head(200, {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"})
        handler.wfile.write(body)
        return
    first = int(span[1])
    if first >= len(body):
        handler.head(416, {"Content-Length": "0", "Content-Range": f"bytes */{len(body)}"})
        return
    rest = body[first:]
    part = f"bytes {first}-{len(body) - 1}/{len(body)}"
    handler.head(206, {"Content-Length": str(len(rest)), "Content-Range": part})
    handler.wfile.write(rest)


def truncate(at: int) -> Behaviour:
    """Promise all that was asked for and hang up after `at` bytes of it."""

    def behave(handler: Handler, body: bytes) -> None:
        span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        first = int(span[1]) if span else 0
        rest = body[first:]
        headers = {"Content-Length": str(len(rest))}
        if span:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        handler.head(206 if span else 200, headers)
        handler.wfile.write(rest[:at])
        handler.close_connection = True

    return behave


def truncate_unsaid(at: int) -> Behaviour:
    """Name no length and close after `at` bytes, as an old proxy does."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.head(200, {"Connection": "close"})
        handler.wfile.write(body[:at])
        handler.close_connection = True

    return behave


def ignore_range(handler: Handler, body: bytes) -> None:
    """Send the whole file whatever was asked for."""
    handler.head(200, {"Content-Length": str(len(body))})
    handler.wfile.write(body)


def garbage_on_resume(handler: Handler, body: bytes) -> None:
    """Send the right number of wrong bytes as the rest."""
    span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    assert span is not None, "expected a request for the rest"
    first = int(span[1])
    rest = b"\xaa" * (len(body) - first)
    part = f"bytes {first}-{len(body) - 1}/{len(body)}"
    handler.head(206, {"Content-Length": str(len(rest)), "Content-Range": part})
    handler.wfile.write(rest)


def wrong_part(handler: Handler, body: bytes) -> None:
    """Send another part than was asked for."""
    handler.head(206, {"Content-Length": str(len(body)), "Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"})
    handler.wfile.write(body)


def send(content: bytes, **headers: str) -> Behaviour:
    """Send these bytes instead."""

    def behave(handler: Handler, body: bytes) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(200, {"Content-Length": str(len(content)), **named})
        handler.wfile.write(content)

    return behave


def answer(status: int, **headers: str) -> Behaviour:
    """Answer with a status and no content."""

    def behave(handler: Handler, body: bytes) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {"Content-Length": "0", **named})

    return behave


def drip(pause: float, piece: int = 1) -> Behaviour:
    """Send the file a little at a time, never silent for longer than `pause` seconds."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        for start in range(0, len(body), piece):
            handler.wfile.write(body[start : start + piece])
            time.sleep(pause)

    return behave


def first_bytes(count: int) -> Behaviour:
    """Send so much of the file, and nothing more until whoever asked is gone."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        handler.wfile.write(body[:count])
        handler.rfile.read(1)
        handler.close_connection = True

    return behave


def silence(seconds: float) -> Behaviour:
    """Say nothing for a while, then hang up."""

    def behave(handler: Handler, body: bytes) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return behave


def hang_up(handler: Handler, body: bytes) -> None:
    """Close without a word."""
    handler.close_connection = True


def require_login(user: str, password: str, then: Behaviour = serve) -> Behaviour:
    """Answer 401 unless the right login comes with the request."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def behave(handler: Handler, body: bytes) -> None:
        if handler.headers.get("Authorization") == expected:
            then(handler, body)
        else:
            handler.head(401, {"Content-Length": "0", "WWW-Authenticate": 'Basic realm="private"'})

    return behave
