"""What was not used for long goes, all else stays, and nothing outside is touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import RequestError
from manylambda.fetch import Cache, upkeep

if TYPE_CHECKING:
    from pathlib import Path

MONTH = 30 * upkeep.DAY


def age(path: Path, seconds: float) -> None:
    """Date a file, or a folder and all in it."""
    then = time.time() - seconds
    for one in [*path.rglob("*"), path]:
        if not one.is_symlink():
            os.utime(one, (then, then))


def wheel(cache: Cache, content: bytes) -> Path:
    temporary = cache.incoming("some.tmp")
    temporary.write_bytes(content)
    return cache.keep(temporary, hashlib.sha256(content).hexdigest(), "demo-1.0-py3-none-any.whl")


def tool(cache: Cache, name: str = "ziglang-1") -> Path:
    cache.incoming("some.tmp")  # which marks the folder as a cache
    folder = cache.base / "tools" / name
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "zig").write_bytes(b"z" * 100)
    (folder / "complete").write_bytes(b"")
    return folder


def counts(kinds: tuple[upkeep.Held, ...]) -> dict[str, tuple[int, int]]:
    return {one.kind.name: (one.entries, one.size) for one in kinds if one.entries}


def test_what_is_held_is_counted_by_kind(cache: Cache) -> None:
    wheel(cache, b"12345")
    wheel(cache, b"123")
    tool(cache)
    cache.write_facts("wheel", 1, "a" * 64, {})
    found = counts(upkeep.held(cache))
    assert found["wheels"] == (2, 8)
    assert found["tools"] == (1, 100)
    assert found["facts"][0] == 1


def test_an_empty_cache_holds_nothing_and_nothing_is_made(cache: Cache) -> None:
    assert counts(upkeep.held(cache)) == {}
    assert counts(upkeep.prune(cache, 0).removed) == {}
    assert not cache.root.exists()


def test_every_place_in_the_cache_is_of_a_kind(cache: Cache) -> None:
    """A file that a room keeps, and that no pattern names, would stay for ever."""
    base = cache.base
    digest = "ab" * 32
    for place in (
        cache.wheel_path(digest, "demo.whl"),
        cache.blob_path(digest),
        cache.stand_ins("demo-1") / "demo.whl",
        base / "tools" / "cargo" / "registry" / "index",
        base / "tools" / "zig-1-cache" / "aarch64-linux-gnu.2.34-c" / "h" / "x",
        base / "trial" / "roots" / digest / "content" / "etc" / "passwd",
        base / "trial" / "libraries" / digest / "index",
        base / "trial" / "scripts-0123" / "first.py",
        base / "trial" / "bytecode-1" / "a60d" / "ab" / digest,
        base / "runtimes" / "python3.13-arm64-0123" / "boto3" / "__init__.py",
        base / "incoming" / "x.part",
        base / "builds" / "manylambda-trial-1-abcdefgh" / "x",
        base / "trial" / "scratch" / "x" / "y",
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    cache.write_facts("wheel", 1, "a" * 64, {})
    age(cache.root, 2 * MONTH)
    files = [path for path in base.rglob("*") if path.is_file()]
    removed = upkeep.prune(cache, MONTH).removed
    assert sum(one.size for one in removed) == len(files) - 1 + (65 + 2)  # the facts: a checksum, a line, a document
    assert [path for path in base.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("make", [lambda cache: wheel(cache, b"12345").parent, tool], ids=["a wheel", "a tool"])
def test_what_was_not_used_for_long_goes_and_what_was_stays(cache: Cache, make: object) -> None:
    path = make(cache)  # type: ignore[operator]
    age(path, MONTH - 60)
    assert counts(upkeep.prune(cache, MONTH).removed) == {}
    assert path.exists()
    age(path, MONTH + 60)
    result = upkeep.prune(cache, MONTH)
    assert len(counts(result.removed)) == 1
    assert counts(result.kept) == {}
    assert not path.exists()
    assert list((cache.base / "incoming").iterdir()) == []


def test_a_use_saves_it(cache: Cache) -> None:
    path, folder = wheel(cache, b"content"), tool(cache)
    for one in (path.parent, folder):
        age(one, 2 * MONTH)
    assert cache.verify(path, hashlib.sha256(b"content").hexdigest())
    cache.use(folder)
    assert counts(upkeep.prune(cache, MONTH).removed) == {}


def test_what_a_build_may_be_at_stays_whatever_is_asked(cache: Cache) -> None:
    path, old = wheel(cache, b"young"), wheel(cache, b"old one")
    age(path.parent, upkeep.HOUR - 60)
    age(old.parent, upkeep.HOUR + 60)
    assert counts(upkeep.prune(cache, 0).removed) == {"wheels": (1, 7)}
    assert path.exists()


def test_what_is_being_written_stays_for_a_day(cache: Cache) -> None:
    young, old = cache.incoming("young.part"), cache.incoming("old.part")
    for one, seconds in ((young, upkeep.DAY - 60), (old, upkeep.DAY + 60)):
        one.write_bytes(b"x")
        age(one, seconds)
    upkeep.prune(cache, 0)
    assert (young.exists(), old.exists()) == (True, False)


def test_a_dry_run_removes_nothing(cache: Cache) -> None:
    path = wheel(cache, b"12345")
    age(path.parent, 2 * MONTH)
    assert counts(upkeep.prune(cache, MONTH, dry_run=True).removed) == {"wheels": (1, 5)}
    assert path.read_bytes() == b"12345"


def test_a_folder_without_our_mark_is_left_alone(cache: Cache) -> None:
    path = wheel(cache, b"12345")
    age(path.parent, 2 * MONTH)
    (cache.root / "CACHEDIR.TAG").unlink()
    with pytest.raises(RequestError) as caught:
        upkeep.prune(cache, MONTH)
    assert caught.value.message == (
        f"`{cache.root}` is not marked as a cache of manylambda: it has no `CACHEDIR.TAG` of ours"
    )
    assert path.exists()


def test_what_no_room_of_ours_keeps_is_left_alone(cache: Cache) -> None:
    wheel(cache, b"12345")
    theirs = [cache.root / "mine.txt", cache.base / "notes" / "mine.txt", cache.base / "wheels" / "mine.txt"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    age(cache.root, 2 * MONTH)
    upkeep.prune(cache, MONTH)
    assert all(path.read_bytes() == b"mine" for path in theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_no_link_is_followed(cache: Cache, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_bytes(b"mine")
    folder = tool(cache)
    (folder / "link").symlink_to(outside)
    (cache.base / "tools" / "all").symlink_to(outside)
    (cache.base / "runtimes").symlink_to(tmp_path)
    age(outside, 2 * MONTH)
    age(cache.root, 2 * MONTH)
    os.utime(cache.base / "tools" / "all", (0, 0), follow_symlinks=False)
    upkeep.prune(cache, MONTH)
    assert not folder.exists()
    assert not (cache.base / "tools" / "all").is_symlink()
    assert (outside / "mine.txt").read_bytes() == b"mine"


PRUNER = """
import sys
from pathlib import Path
from manylambda.fetch import Cache, upkeep
import manylambda.fetch.upkeep as module
def killed(path):
    import os
    os._exit(9)
module.remove = killed
upkeep.prune(Cache(Path(sys.argv[1])), 0)
"""


def test_a_removal_that_is_killed_leaves_no_half_of_a_folder(cache: Cache) -> None:
    folder = tool(cache)
    age(folder, 2 * MONTH)
    done = subprocess.run([sys.executable, "-c", PRUNER, str(cache.root)], check=False)
    assert done.returncode == 9
    assert not folder.exists()
    (aside,) = (cache.base / "incoming").iterdir()
    assert (aside / "deep" / "er" / "zig").is_file()
    age(aside, 2 * upkeep.DAY)
    cache.sweep()
    assert not aside.exists()
