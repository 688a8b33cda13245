"""A package index on loopback, so that the network of a registry decides nothing.

It serves the wheels of the locks as a registry does: PEP 503 pages, PEP 658 metadata, ranges, cache headers.
Run as a program it serves a folder made by `fill`: `python -m benchmarks.index FOLDER PORT`.
"""

from __future__ import annotations

import hashlib
import html
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.workloads import Wheel


def fill(folder: Path, wheels: Iterable[Wheel]) -> None:
    """Download what is not there yet and check it."""
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(set(wheels), key=lambda wheel: wheel.filename):
        path = files / wheel.filename
        if path.exists():
            continue
        print(f"downloading {wheel.filename}", file=sys.stderr)
        with urllib.request.urlopen(wheel.url) as response, path.open("wb") as file:
            shutil.copyfileobj(response, file)
        if _sha256(path) != wheel.sha256:
            path.unlink()
            raise SystemExit(f"error: {wheel.filename} is not the file of the lock")


def fill_for_host(folder: Path, pip: Sequence[str], requirements: Path) -> None:
    """Add the host's own wheels of the pins: SAM downloads those first, whatever the target is."""
    tags = [f"manylinux_2_{minor}" for minor in range(34, 4, -1)] + ["manylinux2014", "manylinux1"]
    subprocess.run(
        [
            *(*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder / "files")),
            *("--python-version", "3.13", "--implementation", "cp", "--requirement", str(requirements)),
            *(option for tag in tags for option in ("--platform", f"{tag}_{platform.machine()}")),
        ],
        check=True,
    )


def write_pages(folder: Path) -> None:
    """Write a page for each project of which there are files."""
    pages: dict[str, list[str]] = {}
    for path in sorted((folder / "files").glob("*.whl")):
        name = re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower()
        metadata = _metadata(path)
        path.with_name(path.name + ".metadata").write_bytes(metadata)
        pages.setdefault(name, []).append(
            f'<a href="../../files/{html.escape(path.name)}#sha256={_sha256(path)}" '
            f'data-core-metadata="sha256={hashlib.sha256(metadata).hexdigest()}">{html.escape(path.name)}</a><br>'
        )
    for name, links in pages.items():
        page = folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!DOCTYPE html>\n" + "\n".join(links) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metadata(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return archive.read(name)


def localise(lock: str, base: str) -> str:
    """Rewrite the URLs of a pylock.toml to files of the index at `base`."""
    return re.sub(r'(url = ")https://[^"]+/([^"/]+")', rf"\g<1>{base}/files/\g<2>", lock)


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """Serve the folder from a process of its own and yield the base URL."""
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, "-m", "benchmarks.index", str(folder), str(port)]) as process:
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"{base}/simple/", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                raise SystemExit("error: the index does not answer")
            yield base
        finally:
            process.terminate()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass

    def end_headers(self) -> None:
        # What the public registry says: files never change, pages may be ten minutes old.
        age = "max-age=365000000, immutable, public" if "/files/" in self.path else "max-age=600, public"
        self.send_header("Cache-Control", age)
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def send_head(self) -> IO[bytes] | None:  # type: ignore[override] # typeshed says BytesIO | BinaryIO
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or asked[0] == "bytes=-" or not path.is_file():
            return super().send_head()
        size = path.stat().st_size
        if asked[1]:
            start, end = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
        else:
            start, end = max(size - int(asked[2]), 0), size - 1
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(206)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        if self.command == "GET":
            with path.open("rb") as file:
                file.seek(start)
                self.wfile.write(file.read(end - start + 1))
        return None


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # with the default of 5 a tool that opens ten connections waits a second for one of them


def main(folder: str, port: str) -> None:
    def handler(*args: Any) -> _Handler:
        return _Handler(*args, directory=folder)

    with _Server(("127.0.0.1", int(port)), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
