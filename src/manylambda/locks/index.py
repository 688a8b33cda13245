"""What the package indexes have of one project: the simple API, as JSON (PEP 691) or HTML (PEP 503).

uv resolves; this answers what uv does not tell: which other files there are, and why they were not taken.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from manylambda.errors import FetchError, NotCached
from manylambda.locks.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from manylambda.fetch import Client, Credentials
    from manylambda.locks.settings import IndexSettings

_NAME: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
"""A normalised one: what is none, as a package may call itself, has no place in an address."""
_SDIST_SUFFIXES: Final = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")
_UNCOMPILED: Final = ("-none-any.whl", *_SDIST_SUFFIXES)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexFile:
    """One file an index lists."""

    filename: str
    url: str
    """Without credentials; a `file:` URL for a local index."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    requires_python: str | None = None
    yanked: str | None = None
    """The reason, which may be empty; None when the file is not yanked."""
    size: int | None = None
    uploaded: str | None = None
    """When, as ISO 8601 writes it; None when the index does not tell (PEP 700)."""

    @property
    def is_wheel(self) -> bool:
        """Whether it can be taken as it is."""
        return self.filename.endswith(".whl")

    def is_older_than(self, limit: datetime) -> bool:
        """Whether it is known to have been there before; as uv sees it, a file of unknown age was not."""
        from datetime import UTC, datetime

        try:
            uploaded = datetime.fromisoformat(self.uploaded or "")
        except ValueError:
            return False
        return (uploaded if uploaded.tzinfo else uploaded.replace(tzinfo=UTC)) < limit

    @property
    def version(self) -> str | None:
        """The version its name says; None for a name that is no distribution's."""
        if self.is_wheel:
            parts = self.filename.split("-")
            return parts[1] if len(parts) in {5, 6} else None
        for suffix in _SDIST_SUFFIXES:
            if self.filename.endswith(suffix):
                _, separator, version = self.filename.removesuffix(suffix).rpartition("-")
                return version if separator else None
        return None


class IndexClient:
    """Asks the configured indexes, each project once. Close it, or use it as a context. Safe for several threads."""

    def __init__(
        self,
        settings: IndexSettings,
        *,
        environment: Mapping[str, str],
        credentials: Credentials | None = None,
        offline: bool = False,
    ) -> None:
        from manylambda.fetch import Credentials as _Credentials

        self._settings = settings
        self._environment = environment
        self.credentials = credentials or _Credentials.from_settings(environment, settings.index_urls)
        self._offline = offline
        self._client: Client | None = None
        self._opening = Lock()
        self._known: dict[str, tuple[IndexFile, ...]] = {}
        self._asking: dict[str, Lock] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client can be used again."""
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None

    def files(self, name: str) -> tuple[IndexFile, ...]:
        """List the files of a project in the order of the indexes; empty when no index has it, or can have it.

        Raises `FetchError` when an index that would have to be asked cannot be.
        """
        name = normalise(name)
        if not re.fullmatch(_NAME, name):
            return ()
        with self._opening:
            asking = self._asking.setdefault(name, Lock())
        with asking:
            if name not in self._known:
                self._known[name] = tuple(self._gather(name))
        return self._known[name]

    def compiled(self, name: str) -> tuple[IndexFile, ...]:
        """List the compiled wheels of a project as `files` does, in a fraction of its time where there are few."""
        name = normalise(name)
        if name in self._known or not re.fullmatch(_NAME, name):
            files: Iterable[IndexFile] = self.files(name)
        else:
            files = self._gather(name, thin=True)
        return tuple(file for file in files if not file.filename.endswith(_UNCOMPILED))

    def read(self, url: str) -> str:
        """Read a small document, such as a remote constraints file."""
        return self._page(url)[0]

    def _gather(self, name: str, *, thin: bool = False) -> Iterable[IndexFile]:
        found: dict[str, IndexFile] = {}
        for link in self._settings.find_links:
            for file in self._find_links(link, name):
                found.setdefault(file.filename, file)
        for index in self._settings.indexes_for(name):
            files = self._project(index.url, name, thin=thin)
            for file in files:
                found.setdefault(file.filename, file)
            if files and self._settings.strategy == "first-index":
                break
        return found.values()

    def _project(self, index: str, name: str, *, thin: bool) -> tuple[IndexFile, ...]:
        parts = urlsplit(index)
        url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}/"))
        if parts.scheme in {"http", "https"}:
            try:
                text, final = self._page(url)
            except FetchError as error:
                if _is_absent(error):
                    return ()
                raise
            return parse_page(text, base=final, project=name, thin=thin)
        page = _local_path(url) / "index.html"
        try:
            return parse_page(page.read_text(encoding="utf-8"), base=page.parent.as_uri() + "/", project=name)
        except (OSError, UnicodeDecodeError):
            return ()

    def _find_links(self, link: str, name: str) -> tuple[IndexFile, ...]:
        if link.startswith(("http://", "https://")):
            text, final = self._page(link)
            return parse_page(text, base=final, project=name)
        path = _local_path(link)
        if path.is_dir():
            files = (IndexFile(filename=file.name, url=file.as_uri()) for file in sorted(path.iterdir()))
            return tuple(file for file in files if _belongs(file, name))
        try:
            return parse_page(path.read_text(encoding="utf-8"), base=path.as_uri(), project=name)
        except (OSError, UnicodeDecodeError):
            return ()

    def _page(self, url: str) -> tuple[str, str]:
        from manylambda.fetch import INDEX_PAGE, Client, HttpSettings, read_text

        if self._offline:
            raise NotCached(f"cannot ask an index offline: `{self.credentials.redact(url)}`")
        with self._opening:
            if self._client is None:
                self._client = Client(HttpSettings.from_environment(self._environment), self.credentials)
                self._client.__enter__()
            client = self._client
        page = read_text(url, credentials=self.credentials, headers={"Accept": INDEX_PAGE}, client=client)
        return page.text, page.url


def parse_page(text: str, *, base: str, project: str, thin: bool = False) -> tuple[IndexFile, ...]:
    """Read an index page, JSON or HTML, or a flat page of links; files of other projects are left out.

    `thin` lets all but one of the files that hold nothing compiled be left out, too: that one shows that the index has
    the project.
    """
    files = (
        _from_json(text, base, project if thin else None) if text.lstrip().startswith("{") else _from_html(text, base)
    )
    return tuple(file for file in files if _belongs(file, project))


def _from_json(text: str, base: str, thin: str | None = None) -> Iterable[IndexFile]:
    try:
        document = json.loads(text)
        entries = document["files"]
        is_known = False
        for entry in entries:
            if thin is not None and entry["filename"].endswith(_UNCOMPILED):
                if is_known:
                    continue
                is_known = _belongs(IndexFile(filename=entry["filename"], url=""), thin)
            yanked = entry.get("yanked", False)
            yield IndexFile(
                filename=entry["filename"],
                url=_joined(base, entry["url"]),
                hashes=dict(entry.get("hashes") or {}),
                requires_python=entry.get("requires-python") or None,
                yanked=(yanked if isinstance(yanked, str) else "") if yanked is not False else None,
                size=entry.get("size"),
                uploaded=entry.get("upload-time"),
            )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(f"an index page is not as PEP 691 says: `{_clean(base)}`") from error


def _from_html(text: str, base: str) -> Iterable[IndexFile]:
    from html.parser import HTMLParser

    anchors: list[dict[str, str | None]] = []
    bases: list[str] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            attributes = dict(attrs)
            if tag == "a" and attributes.get("href"):
                anchors.append(attributes)
            elif tag == "base" and attributes.get("href"):
                bases.append(str(attributes["href"]))

    Anchors().feed(text)
    if bases:
        base = urljoin(base, bases[0])
    for attributes in anchors:
        url, _, fragment = urljoin(base, str(attributes["href"])).partition("#")
        algorithm, _, digest = fragment.partition("=")
        yield IndexFile(
            filename=unquote(urlsplit(url).path.rpartition("/")[2]),
            url=_clean(url),
            hashes={algorithm: digest} if digest else {},
            requires_python=attributes.get("data-requires-python") or None,
            yanked=(attributes["data-yanked"] or "") if "data-yanked" in attributes else None,
        )


def _belongs(file: IndexFile, project: str) -> bool:
    if file.version is None:
        return False
    stem = file.filename.partition("-")[0] if file.is_wheel else file.filename.rpartition("-")[0]
    return normalise(stem) == project


def _clean(url: str) -> str:
    from manylambda.fetch import strip_userinfo

    return strip_userinfo(url)


def _joined(base: str, url: str) -> str:
    # Nearly all are whole and without a login, and a page has thousands.
    is_whole = url.startswith("https://") and "@" not in url
    return url if is_whole else _clean(urljoin(base, url))


def _local_path(location: str) -> Path:
    if not location.startswith("file:"):
        return Path(location)
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(location).path))


def _is_absent(error: FetchError) -> bool:
    return error.message.endswith((": 404 Not Found", ": 410 Gone"))
