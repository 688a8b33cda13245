"""A package index in a folder: real wheels and sdists, pages uv can read; also served over HTTP."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from manylambda.locks.model import ResolveOptions, SdistFacts, Source, SourceKind
from manylambda.locks.requirements import normalise
from manylambda.sdists.metadata import static_metadata
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from manylambda.errors import ManylambdaError
    from manylambda.locks.index import IndexFile
    from manylambda.progress import Task
    from manylambda.target import Target


_BACKEND = """\
from pathlib import Path

Path({ran!r}).touch()

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    place = Path(folder, "built.dist-info")
    place.mkdir()
    (place / "METADATA").write_text({metadata!r})
    return place.name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise NotImplementedError
"""


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

    def sdist(
        self,
        name: str,
        version: str,
        *,
        requires: Sequence[str] = (),
        requires_python: str | None = None,
        yanked: str | None = None,
        dynamic: bool = False,
    ) -> Path:
        """Add a source distribution; what a `dynamic` one requires only its build backend tells, which leaves a trace.

        That trace is `ran` beside the files of the index.
        """
        stem = f"{name.replace('-', '_')}-{version}"
        path = self._folder(name) / f"{stem}.tar.gz"
        head = f"Name: {name}\nVersion: {version}\n"
        told = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        if dynamic:
            files = {
                "PKG-INFO": f"Metadata-Version: 2.1\n{head}",
                "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
                "backend.py": _BACKEND.format(
                    ran=str(self.root / "ran"), metadata=f"Metadata-Version: 2.1\n{head}{told}"
                ),
            }
        else:
            project = (
                f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = {json.dumps(list(requires))}\n'
            )
            files = {"PKG-INFO": f"Metadata-Version: 2.2\n{head}{told}", "pyproject.toml": project}
        with tarfile.open(path, "w:gz") as archive:
            for member, text in files.items():
                info = tarfile.TarInfo(f"{stem}/{member}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        self._list(name, path, requires_python, yanked)
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


class Sdists:
    """Reads static sdists, and says of others what a test says they would be built into; remembers what it read."""

    def __init__(self) -> None:
        self.built: dict[str, Callable[[Target], Sequence[str]]] = {}
        """By file name, what an sdist is found to require when it is built for a target; may raise."""
        self.read: list[str] = []

    def at(self, path: Path, name: str, file: IndexFile, target: Target) -> SdistFacts:
        """Read a file that lies at an address, by its path."""
        assert "@" not in file.url
        return self(name, dataclasses.replace(file, url=path.as_uri()), target)

    def __call__(self, name: str, file: IndexFile, target: Target, /) -> SdistFacts:
        self.read.append(file.filename)
        path = Path(url2pathname(urlsplit(file.url).path))
        if (requires := self.built.get(file.filename)) is not None:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {file.version}\n"
            text += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires(target))
        else:
            text = static_metadata(path, file.version) or ""
            assert text, f"{file.filename} would have to be built"
        return SdistFacts(metadata=text, sha256=sha256(path), size=path.stat().st_size)


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
