"""A package index in a folder: real wheels and sdists, pages uv can read; also served over HTTP."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from manylambda.locks.model import ResolveOptions, Source, SourceKind
from manylambda.locks.requirements import normalise
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from manylambda.errors import ManylambdaError
    from manylambda.progress import Task


class LocalIndex:
    """`root/<name>/index.html` and the files beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._pages: dict[str, list[str]] = {}

    @property
    def url(self) -> str:
        return self.root.as_uri()

    def wheel(
        self,
        name: str,
        version: str,
        tags: Sequence[str] = ("py3-none-any",),
        *,
        requires: Sequence[str] = (),
        requires_python: str | None = None,
        yanked: str | None = None,
        extras: Sequence[str] = (),
    ) -> Path:
        """Add one wheel for each tag set; gives the last."""
        folder = self._folder(name)
        path = folder
        for tag in tags:
            path = make_wheel(
                folder,
                name,
                version,
                {f"{name.replace('-', '_')}.py": f"tag = {tag!r}\n"},
                tags=(tag,),
                requires=requires,
                requires_python=requires_python,
                extras=extras,
            )
            self._list(name, path, requires_python, yanked)
        return path

    def sdist(self, name: str, version: str, *, requires: Sequence[str] = ()) -> Path:
        """Add a source distribution whose metadata is static, so that nothing need be built to read it."""
        stem = f"{name.replace('-', '_')}-{version}"
        path = self._folder(name) / f"{stem}.tar.gz"
        metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        project = f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = {json.dumps(list(requires))}\n'
        with tarfile.open(path, "w:gz") as archive:
            for member, text in (("PKG-INFO", metadata), ("pyproject.toml", project)):
                info = tarfile.TarInfo(f"{stem}/{member}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        self._list(name, path, None, None)
        return path

    def _folder(self, name: str) -> Path:
        folder = self.root / normalise(name)
        folder.mkdir(exist_ok=True)
        return folder

    def _list(self, name: str, path: Path, requires_python: str | None, yanked: str | None) -> None:
        attributes = ""
        if requires_python:
            attributes += f' data-requires-python="{requires_python.replace("<", "&lt;").replace(">", "&gt;")}"'
        if yanked is not None:
            attributes += f' data-yanked="{yanked}"'
        links = self._pages.setdefault(normalise(name), [])
        links.append(f'<a href="{path.name}#sha256={sha256(path)}"{attributes}>{path.name}</a><br>')
        (path.parent / "index.html").write_text(
            "<!DOCTYPE html><html><body>\n" + "\n".join(links) + "\n</body></html>\n"
        )


class ServedIndex:
    """A folder served on loopback; with `login`, only to who has it."""

    def __init__(self, root: Path, login: str | None = None) -> None:
        expected = None if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if expected is not None and self.headers.get("Authorization") != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                super().do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=os.fspath(root)))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Heard:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return self

    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        pass

    def info(self, message: str) -> None:
        self.lines.append(message)

    def detail(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(message)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def from_files(project: Path, *files: str | Path) -> Source:
    """Give the source that `-r FILE...` makes."""
    kind = SourceKind.REQUIREMENTS if files else SourceKind.NONE
    return Source(kind=kind, project=project, files=tuple(project / file for file in files))


def options(cache: Path, **more: object) -> ResolveOptions:
    """Give options with the (isolated) environment of the test."""
    environment = dict(os.environ) | dict(more.pop("environment", {}))  # type: ignore[call-overload]
    return ResolveOptions(cache=cache, environment=environment, **more)  # type: ignore[arg-type]


def told(error: ManylambdaError) -> tuple[str, str | None]:
    return error.message, error.hint
