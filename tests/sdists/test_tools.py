from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import FetchError, NotCached
from manylambda.fetch import Cache
from manylambda.locks.model import ResolveOptions
from manylambda.sdists.tools import Tool, find_tool
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from pathlib import Path


def offer(folder: Path, *, others: tuple[tuple[str, str, str], ...] = ()) -> Tool:
    """Put a wheel with a program where uv finds it."""
    folder.mkdir(exist_ok=True)
    wheel = make_wheel(folder, "a-saw", "2.0", {"saw/__init__.py": "SHARP = True\n"})
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Tool("a-saw", "2.0", (sha256, "0" * 64), what="the saw", package="saw", size=1, others=others)


def options(folder: Path, *, offline: bool = False) -> ResolveOptions:
    environment = {**os.environ, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder)}
    return ResolveOptions(offline=offline, environment=environment)


def test_a_tool_is_fetched_once(tmp_path: Path) -> None:
    tool = offer(tmp_path / "index")
    cache = Cache(tmp_path / "cache")
    found = find_tool(tool, cache, options(tmp_path / "index"))
    assert (found / "saw" / "__init__.py").read_text() == "SHARP = True\n"
    assert find_tool(tool, cache, options(tmp_path / "nowhere", offline=True)) == found


def test_what_a_tool_needs_comes_with_it(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    wheel = make_wheel(tmp_path / "index", "teeth", "1.0", {"teeth.py": ""})
    tool = offer(tmp_path / "index", others=(("teeth", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest()),))
    assert (find_tool(tool, Cache(tmp_path / "cache"), options(tmp_path / "index")) / "teeth.py").is_file()


def test_a_tool_of_other_bytes_is_refused(tmp_path: Path) -> None:
    tool = offer(tmp_path / "index")
    cache = Cache(tmp_path / "cache")
    with pytest.raises(FetchError) as caught:
        find_tool(tool._replace(hashes=("0" * 64,)), cache, options(tmp_path / "index"))
    assert caught.value.message.startswith("the saw (a-saw 2.0) cannot be fetched: ")
    # What was begun counts for nothing.
    assert (find_tool(tool, cache, options(tmp_path / "index")) / "saw").is_dir()


def test_offline_a_tool_has_to_be_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(NotCached) as caught:
        find_tool(offer(tmp_path / "index"), Cache(tmp_path / "cache"), options(tmp_path / "index", offline=True))
    assert caught.value.message == "the saw (a-saw 2.0) is not in the cache"


def test_an_installed_one_is_taken_if_it_is_of_the_version(tmp_path: Path) -> None:
    installed = Tool("packaging", version("packaging"), (), what="the parser", package="packaging", size=1)
    other = installed._replace(version="0.1")
    cache, away = Cache(tmp_path / "cache"), options(tmp_path, offline=True)
    assert (find_tool(installed, cache, away) / "packaging" / "version.py").is_file()
    for wrong in (other, installed._replace(others=(("pytest", "0.1", ""),))):
        with pytest.raises(NotCached):
            find_tool(wrong, cache, away)
