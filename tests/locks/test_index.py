"""What index pages say: JSON, HTML, flat pages and folders; on disk and over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from local_index import LocalIndex, ServedIndex, sha256

from manylambda.errors import FetchError, NotCached
from manylambda.locks.index import IndexClient, IndexFile, parse_page
from manylambda.locks.settings import Index, IndexSettings

if TYPE_CHECKING:
    from pathlib import Path

BASE = "https://user:word@i.example/simple/some-name/"


def client(*urls: str, offline: bool = False, **settings: object) -> IndexClient:
    indexes = tuple(Index(url=url) for url in urls)
    return IndexClient(IndexSettings(indexes=indexes, **settings), environment={}, offline=offline)  # type: ignore[arg-type]


def test_a_json_page_is_read() -> None:
    page = {
        "meta": {"api-version": "1.1"},
        "name": "some-name",
        "files": [
            {
                "filename": "some_name-1.0-py3-none-any.whl",
                "url": "../../files/some_name-1.0-py3-none-any.whl",
                "hashes": {"sha256": "ab"},
                "requires-python": ">=3.9",
                "size": 7,
                "yanked": "broken",
            },
            {"filename": "some-name-1.0.tar.gz", "url": "https://f.example/s-1.0.tar.gz", "hashes": {}, "yanked": True},
            {"filename": "other-1.0.tar.gz", "url": "x", "hashes": {}},
            {"filename": "some_name-1.0.exe", "url": "x", "hashes": {}},
        ],
    }  # fmt: skip
    assert parse_page(json.dumps(page), base=BASE, project="some-name") == (
        IndexFile(
            filename="some_name-1.0-py3-none-any.whl",
            url="https://i.example/files/some_name-1.0-py3-none-any.whl",
            hashes={"sha256": "ab"},
            requires_python=">=3.9",
            size=7,
            yanked="broken",
        ),
        IndexFile(filename="some-name-1.0.tar.gz", url="https://f.example/s-1.0.tar.gz", yanked=""),
    )


def test_an_html_page_is_read() -> None:
    page = """<!DOCTYPE html><html><head><base href="/files/"></head><body>
    <a href="some_name-1.0%2Blocal-py3-none-any.whl#sha256=AB" data-requires-python="&gt;=3.9,&lt;4">x</a>
    <a href="Some.Name-1.0.zip" data-yanked>x</a> <a href="Some.Name-1.1.zip" data-yanked="why">x</a> <a>no</a>
    </body></html>"""
    assert parse_page(page, base=BASE, project="some-name") == (
        IndexFile(
            filename="some_name-1.0+local-py3-none-any.whl",
            url="https://i.example/files/some_name-1.0%2Blocal-py3-none-any.whl",
            hashes={"sha256": "AB"},
            requires_python=">=3.9,<4",
        ),
        IndexFile(filename="Some.Name-1.0.zip", url="https://i.example/files/Some.Name-1.0.zip", yanked=""),
        IndexFile(filename="Some.Name-1.1.zip", url="https://i.example/files/Some.Name-1.1.zip", yanked="why"),
    )


@pytest.mark.parametrize("page", ['{"files": [{"filename": "x"}]}', '{"files": 3}', "{", '{"files": [3]}'])
def test_a_page_that_is_not_as_specified_is_told_without_its_login(page: str) -> None:
    with pytest.raises(FetchError) as caught:
        parse_page(page, base=BASE, project="x")
    assert caught.value.message == "an index page is not as PEP 691 says: `https://i.example/simple/some-name/`"


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("a-1.0-py3-none-any.whl", "1.0"),
        ("a-1.0-3-py3-none-any.whl", "1.0"),
        ("a-py3-none-any.whl", None),
        ("a-b-1.0.tar.gz", "1.0"),
        ("a-1.0.tar.bz2", "1.0"),
        ("a.zip", None),
        ("a-1.0.egg", None),
    ],
)
def test_the_version_is_read_from_the_name(filename: str, version: str | None) -> None:
    assert IndexFile(filename=filename, url="").version == version


def test_the_first_index_that_has_a_project_decides_unless_told_otherwise(tmp_path: Path) -> None:
    first, second = LocalIndex(tmp_path / "first"), LocalIndex(tmp_path / "second")
    own = first.wheel("both", "1.0")
    other = second.wheel("both", "2.0")
    second.wheel("second", "1.0")
    with client(first.url, second.url) as asked:
        assert asked.files("Both") == (IndexFile(filename=own.name, url=own.as_uri(), hashes={"sha256": sha256(own)}),)
        assert [file.version for file in asked.files("second")] == ["1.0"]
        assert asked.files("neither") == ()
    with client(first.url, second.url, strategy="unsafe-best-match") as asked:
        assert [file.filename for file in asked.files("both")] == [own.name, other.name]


def test_folders_and_pages_of_links_are_asked_first(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path / "index")
    path = index.wheel("name", "1.0")
    index.wheel("name", "2.0")
    folder = tmp_path / "wheels"
    folder.mkdir()
    path.rename(folder / path.name)
    (folder / "other-1.0-py3-none-any.whl").touch()
    for link in (str(folder), (index.root / "name" / "index.html").as_uri()):
        with client(find_links=(link,)) as asked:
            assert asked.files("name")[0].version == "1.0"
    with client(find_links=(str(tmp_path / "missing"),)) as asked:
        assert asked.files("name") == ()


def test_an_index_over_http_is_asked_with_its_login(tmp_path: Path) -> None:
    index = LocalIndex(tmp_path / "index")
    path = index.wheel("private", "1.0")
    with ServedIndex(index.root, login="user:secret") as served, client(f"http://user:secret@{served.host}/") as asked:
        assert asked.files("private") == (
            IndexFile(
                filename=path.name,
                url=f"http://{served.host}/private/{path.name}",
                hashes={"sha256": sha256(path)},
            ),
        )
        assert asked.files("absent") == ()
        with client(f"http://user:wr0ngsecret@{served.host}") as refused, pytest.raises(FetchError) as caught:
            refused.files("private")
        assert "wr0ngsecret" not in f"{caught.value.message}{caught.value.hint}"


def test_offline_asks_nobody() -> None:
    with client("https://user:secret@i.example/simple", offline=True) as asked, pytest.raises(NotCached) as caught:
        asked.files("name")
    assert caught.value.message == "cannot ask an index offline: `https://i.example/simple/name/`"


def test_an_explicit_index_is_not_asked() -> None:
    settings = IndexSettings(indexes=(Index(url="http://127.0.0.1:9", name="torch", explicit=True),))
    with IndexClient(settings, environment={}) as asked:
        assert asked.files("name") == ()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "a?b", "a\0b", "a%2fb", "-a", "ä", "a#b"])
def test_no_index_is_asked_for_what_cannot_be_a_name(name: str) -> None:
    with client("http://127.0.0.1:9/simple") as asking:
        assert asking.files(name) == ()
