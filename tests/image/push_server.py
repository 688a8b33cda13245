"""A registry in memory that takes pushes, and fails as asked: one behaviour a request, well when none is left."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from manylambda.image.reference import Reference

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Self

    Behaviour = Callable[["Handler"], bool | None]
    """Answers the request, or returns True where the registry should go on as if nothing was."""

CHUNK = 65536


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a client asked."""

    method: str
    path: str
    """With the query."""
    headers: Mapping[str, str]
    """By lower-case names."""

    def __str__(self) -> str:
        path = re.sub(r"/uploads/\d+.*", "/uploads/N", self.path.partition("?")[0])
        return f"{self.method} {path.partition('/blobs/')[2] or path.partition('/manifests/')[1]}"


@dataclass
class PushServer:
    """`plan` says what goes wrong; what was pushed is in `blobs` and `manifests`."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """By repository and digest."""
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    """By repository and tag or digest; with the type."""
    uploads: dict[str, bytearray] = field(default_factory=dict)
    plans: list[tuple[str, list[Behaviour]]] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    tls: ssl.SSLContext | None = None
    location: str = ""
    """What stands before the path in the `Location` of an upload."""
    state: str = ""
    """The query of uploads."""
    more: dict[str, str] = field(default_factory=dict)
    """Headers of the answer that begins an upload."""
    most: int | None = None
    """Bytes of a body that are taken, as by a proxy."""
    mounts: bool = True

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

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def reference(self, name: str = "own/one:1") -> Reference:
        return Reference.parse(f"{self.host}/{name}")

    def plan(self, pattern: str, *behaviours: Behaviour) -> None:
        """Use these behaviours for the next requests whose `METHOD /path` fits."""
        self.plans.append((pattern, list(behaviours)))

    def asked(self, pattern: str) -> list[Asked]:
        return [asked for asked in self.requests if re.search(pattern, f"{asked.method} {asked.path}")]

    def next_behaviour(self, line: str) -> Behaviour | None:
        for pattern, behaviours in self.plans:
            if behaviours and re.search(pattern, line):
                return behaviours.pop(0)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: PushServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Speaks the registry protocol."""

    protocol_version = "HTTP/1.1"
    server: _Server
    left: int
    """Bytes of the body that were not read yet."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def handle_request(self) -> None:
        owner = self.server.owner
        # By way of a proxy the path has the host before it.
        self.path = re.sub(r"^https?://[^/]+", "", self.path)
        self.left = int(self.headers.get("Content-Length", "0"))
        line = f"{self.command} {self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        with owner.lock:
            owner.requests.append(Asked(method=self.command, path=self.path, headers=headers))
            behaviour = owner.next_behaviour(line)
        try:
            if behaviour is None or behaviour(self):
                self._serve()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET = do_POST = do_PATCH = do_PUT = handle_request  # noqa: N815

    def body(self, size: int | None = None) -> bytes:
        """Read the body, or at most `size` of what is left of it."""
        data = self.rfile.read(self.left if size is None else min(size, self.left))
        self.left -= len(data)
        return data

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer, whatever there still was of the body."""
        if self.left:
            self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "", **headers: str) -> None:
        """Answer as registries do that say no."""
        while self.left and self.body(CHUNK):
            pass
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower()}]}).encode()
        self.answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def upload_headers(self, number: str) -> dict[str, str]:
        owner = self.server.owner
        size = len(owner.uploads[number])
        where = f"{owner.location}/v2/{self.repository}/blobs/uploads/{number}{owner.state}"
        return {"Location": where, "Range": f"0-{max(size - 1, 0)}"}

    @property
    def repository(self) -> str:
        found = re.match(r"/v2/(.+?)/(?:blobs|manifests)/", self.path)
        assert found is not None, self.path
        return found[1]

    def _serve(self) -> None:
        owner = self.server.owner
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        path = address.path
        if path == "/v2/":
            self.answer(200)
        elif owner.most is not None and self.left > owner.most:
            self.refuse(413, "TOO_LARGE")
        elif path.endswith("/blobs/uploads/"):
            self._begin(query)
        elif "/blobs/uploads/" in path:
            self._upload(path.rpartition("/")[2], query)
        elif "/blobs/" in path:
            blob = owner.blobs.get((self.repository, path.rpartition("/")[2]))
            self.answer(404) if blob is None else self.answer(200, {"Content-Length": str(len(blob))}, blob)
        else:
            self._manifest(path.rpartition("/")[2])

    def _begin(self, query: Mapping[str, str]) -> None:
        owner, repository = self.server.owner, self.repository
        if "mount" in query and owner.mounts:
            blob = owner.blobs.get((query["from"], query["mount"]))
            if blob is not None:
                owner.blobs[repository, query["mount"]] = blob
                self.answer(201, {"Location": "/anywhere"})
                return
        with owner.lock:
            number = str(len(owner.uploads))
            owner.uploads[number] = bytearray()
        self.answer(202, {**self.upload_headers(number), **owner.more})

    def _upload(self, number: str, query: Mapping[str, str]) -> None:
        owner = self.server.owner
        held = owner.uploads.get(number)
        if held is None:
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        if self.command == "GET":
            self.answer(204, self.upload_headers(number))
            return
        if self.command == "PATCH":
            first = self.headers["Content-Range"].partition("-")[0]
            if int(first) != len(held):
                self.refuse(416, "RANGE_INVALID")
                return
        while data := self.body(CHUNK):
            held += data
        if self.left:
            self.close_connection = True  # cut; what came stays
        elif self.command == "PATCH":
            self.answer(202, self.upload_headers(number))
        elif digest(held) != query["digest"]:
            self.refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        else:
            owner.blobs[self.repository, query["digest"]] = bytes(held)
            self.answer(201, {"Docker-Content-Digest": query["digest"]})

    def _manifest(self, name: str) -> None:
        owner, repository = self.server.owner, self.repository
        if self.command == "PUT":
            body = self.body()
            for part in [(found := json.loads(body))["config"], *found["layers"]]:
                if (repository, part["digest"]) not in owner.blobs:
                    self.refuse(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
                    return
            for key in (name, digest(body)):
                owner.manifests[repository, key] = (body, self.headers["Content-Type"])
            self.answer(201, {"Docker-Content-Digest": digest(body)})
        elif (repository, name) in owner.manifests:
            body, media_type = owner.manifests[repository, name]
            self.answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest(body)}, body)
        else:
            self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")


def digest(data: bytes | bytearray) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# Behaviours


def refuse(status: int, code: str = "", message: str = "", **headers: str) -> Behaviour:
    """Say no."""
    return lambda handler: handler.refuse(status, code, message, **headers)


def hang_up(handler: Handler) -> None:
    """Close without a word."""
    handler.close_connection = True


def cut(after: int) -> Behaviour:
    """Take so many bytes of a PATCH, keep them, and hang up."""

    def behave(handler: Handler) -> None:
        held = handler.server.owner.uploads[urlsplit(handler.path).path.rpartition("/")[2]]
        held += handler.body(after)
        handler.close_connection = True

    return behave


def lose_answer(handler: Handler) -> None:
    """Do what was asked, and hang up instead of saying so."""
    handler.answer = lambda *_: setattr(handler, "close_connection", True)  # type: ignore[method-assign]
    handler._serve()


def damage(handler: Handler) -> bool:
    """Turn a bit on the way."""
    body = bytearray(handler.body())
    body[len(body) // 2] ^= 1
    import io

    handler.left = len(body)
    handler.rfile, kept = io.BytesIO(bytes(body)), handler.rfile
    handler._serve()
    handler.rfile = kept
    return False


def forget(handler: Handler) -> bool:
    """Lose every upload, then go on."""
    for number in list(handler.server.owner.uploads):
        handler.server.owner.uploads[f"lost {number}"] = handler.server.owner.uploads.pop(number)
    return True
