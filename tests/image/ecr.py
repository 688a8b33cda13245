"""Amazon ECR's service on loopback: the one call that gives logins, as real `boto3` makes it."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTRY: Final = "111122223333.dkr.ecr.eu-central-1.amazonaws.com"
LOGIN: Final = ("AWS", "token-of-ecr")
HTPASSWD: Final = "AWS:$2b$05$56pK/mN2en6h4QWJisCF4eb1gaP4sYaMMMSfKFtVW8o.KKbA7lhcu\n"
"""The line of `LOGIN`, by bcrypt."""
_CALL: Final = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"


class Ecr:
    """Answers `GetAuthorizationToken`, or refuses it with the code of an error."""

    def __init__(self, refusal: str | None = None) -> None:
        pytest.importorskip("boto3")
        self.refusal = refusal
        self.regions: list[str] = []
        """Those that requests were signed for."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads `boto3` here, with the keys of nobody."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret-key-of-nobody",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        owner = self
        packed = base64.b64encode(":".join(LOGIN).encode()).decode()
        data = {"authorizationToken": packed, "expiresAt": time.time() + 43200, "proxyEndpoint": f"https://{REGISTRY}"}

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["X-Amz-Target"] == _CALL
                signed = re.search(r"Credential=AKIAEXAMPLE/\d{8}/([\w-]+)/ecr/", self.headers["Authorization"])
                assert signed is not None
                owner.regions.append(signed[1])
                answer: object = {"authorizationData": [data]}
                if owner.refusal is not None:
                    answer = {"__type": owner.refusal, "message": "no"}
                body = json.dumps(answer).encode()
                self.send_response(200 if owner.refusal is None else 400)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
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
