"""A package index on loopback: real wheels, the simple API as JSON, and a count of what was asked for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

_JSON = "application/vnd.pypi.simple.v1+json"


class Index:
    """Files in a folder, listed under `url` and served from beside it; use it as a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.requests: Counter[str] = Counter()
        """How often each path was asked for."""
        self.replaced: dict[str, bytes] = {}
        """What is served for a file instead of its bytes."""
        self.seconds = 0.0
        """How long the bytes of a file take."""
        self.uploaded: dict[str, str] = {}
        """When files were uploaded, as far as the index tells."""
        self.has_ranges = True
        """Whether the end of a file is given alone to whoever asks for that."""
        self.tails = 0
        """How often it was."""
        self._requires: dict[str, str] = {}
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.requests[self.path] += 1
                index.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.base}/simple"

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        files: Mapping[str, str | bytes] | None = None,
        *,
        tags: Sequence[str] = ("py3-none-any",),
        requires: Sequence[str] = (),
        requires_python: str | None = None,
        extras: Sequence[str] = (),
        entry_points: str = "",
        modes: Mapping[str, int] | None = None,
    ) -> Path:
        """Add an honest wheel with one module, or with `files`."""
        module = name.replace("-", "_").lower()
        contents = {f"{module}.py": f"version = {version!r}\n"} if files is None else files
        path = make_wheel(
            self.folder, name, version, contents,
            tags=tags, requires=requires, requires_python=requires_python, extras=extras,
            entry_points=entry_points, modes=modes,
        )  # fmt: skip
        if requires_python:
            self._requires[path.name] = requires_python
        return path

    def fetched(self, file: Path) -> int:
        """How often the bytes of a file were asked for."""
        return self.requests[f"/files/{file.name}"]

    def pylock(self, *files: Path, markers: Mapping[str, str] | None = None) -> str:
        """Give a lock of these wheels; those of one distribution make one entry. `markers` are by name."""
        entries: dict[tuple[str, str], list[Path]] = {}
        for file in files:
            name, version = file.name.split("-")[:2]
            entries.setdefault((name.replace("_", "-").lower(), version), []).append(file)
        lines = ['lock-version = "1.0"', 'created-by = "a test"']
        for (name, version), wheels in sorted(entries.items()):
            lines += ["", "[[packages]]", f'name = "{name}"', f'version = "{version}"']
            lines += [f"marker = {json.dumps(markers[name])}"] if markers and name in markers else []
            rows = [
                f'    {{ url = "{self.base}/files/{wheel.name}", size = {wheel.stat().st_size}, '
                f'hashes = {{ sha256 = "{sha256(wheel)}" }} }},'
                for wheel in wheels
            ]
            lines += ["wheels = [", *rows, "]"]
        return "\n".join(lines) + "\n"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        place, _, name = handler.path.strip("/").partition("/")
        if place == "simple":
            self._send(handler, self._page(name.rstrip("/")), _JSON)
        elif place == "files":
            self._send(handler, self._file(name), "application/octet-stream")
        else:
            self._send(handler, None, "text/plain")

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes | None, kind: str) -> None:
        last = re.fullmatch(r"bytes=-(\d+)", handler.headers.get("Range", ""))
        is_part = self.has_ranges and last is not None and body is not None
        handler.send_response(404 if body is None else 206 if is_part else 200)
        data = b"not here" if body is None else body
        if is_part and last is not None:
            size, data = len(data), data[-int(last[1]) :]
            self.tails += 1
            handler.send_header("Content-Range", f"bytes {size - len(data)}-{size - 1}/{size}")
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        pieces = 20 if self.seconds and kind == "application/octet-stream" else 1
        size = max(1, -(-len(data) // pieces))
        try:
            for start in range(0, len(data), size):
                handler.wfile.write(data[start : start + size])
                handler.wfile.flush()
                time.sleep(self.seconds / pieces if pieces > 1 else 0)
        except OSError:
            handler.close_connection = True  # whoever asked is gone, which is what some tests want

    def _page(self, project: str) -> bytes | None:
        files = [file for file in sorted(self.folder.iterdir()) if _project(file.name) == project]
        if not files:
            return None
        listed = []
        for file in files:
            one = {
                "filename": file.name,
                "url": f"{self.base}/files/{file.name}",
                "hashes": {"sha256": sha256(file)},
                "size": file.stat().st_size,
            }
            if file.name in self._requires:
                one["requires-python"] = self._requires[file.name]
            if file.name in self.uploaded:
                one["upload-time"] = self.uploaded[file.name]
            if file.suffix == ".whl":
                one["core-metadata"] = {"sha256": hashlib.sha256(_metadata(file)).hexdigest()}
            listed.append(one)
        page = {"meta": {"api-version": "1.1"}, "name": project, "versions": [], "files": listed}
        return json.dumps(page).encode()

    def _file(self, name: str) -> bytes | None:
        if name in self.replaced:
            return self.replaced[name]
        file = self.folder / name.removesuffix(".metadata")
        if not file.is_file():
            return None
        return _metadata(file) if name.endswith(".metadata") else file.read_bytes()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _project(filename: str) -> str:
    is_wheel = filename.endswith(".whl")
    stem = filename.partition("-")[0] if is_wheel else filename.removesuffix(".tar.gz").rpartition("-")[0]
    return re.sub(r"[-_.]+", "-", stem).lower()


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
