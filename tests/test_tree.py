"""The waist: what a package tree accepts, how trees join, and that a reference gives exactly its bytes."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.tree import (
    DEFLATED,
    MODE_FILE,
    STORED,
    Bytes,
    Collision,
    DamagedContent,
    DiskFile,
    Entry,
    PackageTree,
    Span,
    checked_path,
    open_content,
    overlay,
    read_content,
)

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.tree import Content


def entry(path: str, data: bytes = b"", origin: str = "demo", mode: int = MODE_FILE) -> Entry:
    return Entry(path, mode, Bytes(data), origin)


def tree(*paths: str, origin: str = "demo") -> PackageTree:
    return PackageTree(entry(path, path.encode(), origin) for path in paths)


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def span_of(
    file: Path,
    data: bytes,
    *,
    raw: bytes | None = None,
    method: int = DEFLATED,
    size: int | None = None,
    compressed_size: int | None = None,
) -> Span:
    """Write a file with 5 strange bytes before and after the span."""
    raw = raw if raw is not None else (deflated(data) if method == DEFLATED else data)
    file.write_bytes(b"?" * 5 + raw + b"!" * 5)
    return Span(
        file,
        5,
        len(raw) if compressed_size is None else compressed_size,
        method,
        zlib.crc32(data),
        len(data) if size is None else size,
    )


# --- the tree ---


def test_entries_are_sorted_by_path_whatever_their_order() -> None:
    paths = ["b", "a/z", "a-b", "é", "a/b/c", "Z", "a.py"]
    assert [e.path for e in tree(*paths)] == sorted(paths)
    assert [e.path for e in tree(*reversed(paths))] == sorted(paths, key=str.encode)


def test_two_origins_with_one_path_are_refused() -> None:
    with pytest.raises(PackagingError) as error:
        PackageTree([entry("x", b"1", "one"), entry("y"), entry("x", b"1", "two")])
    assert error.value.message == "`one` and `two` both bring `x`"


def test_one_origin_with_one_path_twice_is_refused() -> None:
    with pytest.raises(PackagingError) as error:
        PackageTree([entry("x"), entry("x")])
    assert error.value.message == "`demo` brings `x` twice"


@pytest.mark.parametrize(
    ("below", "others"), [("a/b", ()), ("a/b", ("a-b", "a.py", "a!")), ("a/b/c/d", ("a b",)), ("a/b/c", ("a/c",))]
)
def test_a_file_where_another_entry_needs_a_folder_is_refused(below: str, others: tuple[str, ...]) -> None:
    entries = [entry("a", origin="one"), entry(below, origin="two"), *map(entry, others)]
    with pytest.raises(PackagingError) as error:
        PackageTree(entries)
    first = min(path for path in (below, *others) if path.startswith("a/"))
    origin = "two" if first == below else "demo"
    assert error.value.message == f"`a` is a file of `one`, and `{origin}` brings `{first}` below it"


def test_a_deep_file_and_folder_clash_is_found() -> None:
    with pytest.raises(PackagingError, match=r"^`a/b` is a file of `demo`, and `demo` brings `a/b/c` below it$"):
        tree("a/b", "a/b/c", "a/x", "c")


def test_names_that_only_begin_alike_are_no_clash() -> None:
    assert len(tree("a", "ab/c", "a.b/c", "b/a", "b/a.py", "A/b")) == 6


def test_size_length_and_lookup() -> None:
    it = tree("a/b", "c", "d")
    assert (len(it), it.size) == (3, 5)
    assert it.get("c") is it.entries[1]
    assert [it.get(path) for path in ("", "a", "a/b/", "cc", "e")] == [None] * 5
    assert repr(it) == "<PackageTree of 3 files, 5 bytes>"
    assert PackageTree().get("x") is None


def test_under_moves_every_entry() -> None:
    it = tree("a/b", "c")
    assert [e.path for e in it.under("python/")] == ["python/a/b", "python/c"]
    assert [e.path for e in it.under("python/lib")] == ["python/lib/a/b", "python/lib/c"]
    for prefix in ("", "/", "../x", "/opt"):
        with pytest.raises(UnsafeArchive):
            it.under(prefix)


def test_without_leaves_out() -> None:
    assert [e.path for e in tree("a.py", "b.pyc").without(lambda e: e.path.endswith(".pyc"))] == ["a.py"]


# --- overlay ---


def test_the_first_tree_to_bring_a_path_wins_and_each_differing_loser_is_reported() -> None:
    first = PackageTree([entry("x", b"1", "one")])
    second = PackageTree([entry("x", b"2", "two"), entry("y", b"2", "two")])
    third = PackageTree([entry("x", b"1", "three"), entry("y", b"33", "three")])
    joined, collisions = overlay((first, second, third))
    assert [(e.path, e.origin) for e in joined] == [("x", "one"), ("y", "two")]
    assert collisions == (
        Collision(path="x", kept="one", dropped="two"),
        Collision(path="y", kept="two", dropped="three"),
    )


def test_joining_with_a_bar_refuses_different_bytes_and_accepts_equal_ones() -> None:
    one = PackageTree([entry("x", b"1", "one")])
    assert [e.origin for e in one | PackageTree([entry("x", b"1", "two")])] == ["one"]
    with pytest.raises(PackagingError) as error:
        one | PackageTree([entry("x", b"2", "two")])
    assert error.value.message == "`one` and `two` bring different bytes for `x`"


def test_a_file_of_one_tree_and_a_folder_of_another_are_refused() -> None:
    with pytest.raises(PackagingError) as error:
        overlay((tree("a", origin="one"), tree("a/b", origin="two")))
    assert error.value.message == "`a` is a file of `one`, and `two` brings `a/b` below it"


def test_equal_bytes_are_equal_however_they_are_kept(tmp_path: Path) -> None:
    data = b"the same bytes " * 100
    (tmp_path / "plain").write_bytes(data)
    contents: list[Content] = [
        Bytes(data),
        DiskFile(tmp_path / "plain", len(data)),
        span_of(tmp_path / "deflated", data),
        span_of(tmp_path / "stored", data, method=STORED),
    ]
    trees = [PackageTree([Entry("x", MODE_FILE, content, str(n))]) for n, content in enumerate(contents)]
    assert overlay(trees)[1] == ()
    other = PackageTree([entry("x", data[:-1] + b"?", "other")])
    assert [c.dropped for c in overlay([other, *trees])[1]] == ["0", "1", "2", "3"]


def test_equal_checksums_are_not_taken_for_equal_bytes(tmp_path: Path) -> None:
    # Found by search: two texts of one length and one CRC-32.
    one, other = b"plumless", b"buckeroo"
    assert zlib.crc32(one) == zlib.crc32(other)
    first = PackageTree([Entry("x", MODE_FILE, span_of(tmp_path / "1", one), "one")])
    second = PackageTree([Entry("x", MODE_FILE, span_of(tmp_path / "2", other), "two")])
    assert overlay((first, second))[1] == (Collision(path="x", kept="one", dropped="two"),)


# --- paths ---


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "//server/share", "..", ".", "../x", "a/../b", "a/..", "./a", "a/./b", "a//b", "a/",
        "a\\b", "\\\\server\\share", "..\\x", "C:", "C:/x", "c:x", "x:y", "C:\\x", "a\0b", "a\nb", "a\tb", "a\x7fb",
        "\x85", "a\udc80b",
    ],
)  # fmt: skip
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(UnsafeArchive) as error:
        checked_path(path)
    assert error.value.message == f"unsafe path in an archive: {path!r}"
    assert error.value.hint == "a path must be relative, `/`-separated and free of `..`; do not use this file"


@pytest.mark.parametrize(
    "path",
    ["a", "a/b", "...", "..a", "a..", ".hidden/x", "a/...b", "a b", "naïve/é.py", "日本語.txt", "no\xa0break",
     "ab:c", "a/C:x", "-", "~", "🐍.py"],
)  # fmt: skip
def test_ordinary_paths_are_accepted(path: str) -> None:
    assert checked_path(path) is path


# --- content ---


@pytest.mark.parametrize("method", [STORED, DEFLATED])
@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_span_gives_exactly_its_bytes(tmp_path: Path, method: int, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    span = span_of(tmp_path / "file", data, method=method)
    assert read_content(span) == data
    with open_content(span) as stream:
        pieces = iter(lambda: stream.read(65_537), b"")
        assert b"".join(pieces) == data
        assert stream.read() == b""


def test_bytes_and_disk_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"on disk")
    assert read_content(DiskFile(tmp_path / "x", 7)) == b"on disk"
    assert read_content(Bytes(b"in memory")) == b"in memory"


def test_a_highly_compressed_span_inflates_in_pieces(tmp_path: Path) -> None:
    span = span_of(tmp_path / "zeros", bytes(50 << 20))
    with open_content(span) as stream:
        assert stream.read(10) == bytes(10)


DAMAGE = {
    "longer than declared": ({"size": 3}, "a member is not as long as its header says"),
    "shorter than declared": ({"size": 999}, "a member is not as long as its header says"),
    "cut inside": ({"compressed_size": 4}, "the compressed data ends early"),
    "data behind the end": ({"compressed_size": 18}, "other data follows the compressed data of a member"),
    "file too short": ({"raw": deflated(b"some bytes")[:-3], "compressed_size": 99}, None),
    "not deflate": ({"raw": b"\xff" * 20}, "Error -3 while decompressing data: invalid block type"),
    "nothing there": ({"raw": b"", "size": 10}, "the compressed data ends early"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_deflated_span_is_an_error_and_never_a_hang(tmp_path: Path, name: str) -> None:
    fields, fact = DAMAGE[name]
    span = span_of(tmp_path / "damaged.whl", b"some bytes, some bytes, some bytes", **fields)  # type: ignore[arg-type]
    with pytest.raises(DamagedContent) as error:
        read_content(span)
    if fact is not None:
        assert error.value.fact == fact
    assert error.value.message == f"`damaged.whl` is damaged: {error.value.fact}"
    assert error.value.hint == "download or build it again"


@pytest.mark.parametrize(
    ("size", "compressed_size", "fact"),
    [
        (9, 10, "a member is not as long as its header says"),
        (11, 10, "a member is not as long as its header says"),
        (99, 99, "the file ends early"),
    ],
)
def test_a_damaged_stored_span_is_an_error(tmp_path: Path, size: int, compressed_size: int, fact: str) -> None:
    span = span_of(tmp_path / "f", b"0123456789", method=STORED, size=size, compressed_size=compressed_size)
    with pytest.raises(DamagedContent) as error:
        read_content(span)
    assert error.value.fact == fact


def test_a_bomb_is_stopped_at_the_size_it_declares(tmp_path: Path) -> None:
    bomb = span_of(tmp_path / "bomb", bytes(64 << 20), size=1000)
    read = 0
    with open_content(bomb) as stream, pytest.raises(DamagedContent):
        while chunk := stream.read(io.DEFAULT_BUFFER_SIZE):
            read += len(chunk)
    assert read == 0  # the first piece already is too long
