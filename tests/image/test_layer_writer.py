"""Image layers have the same bytes on every host, are what every tool reads, and are made once."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manylambda.archive import write_zip
from manylambda.errors import PackagingError
from manylambda.fetch import Cache
from manylambda.image import gzipped, layer_writer
from manylambda.image.gzipped import PIECE, GzipWriter
from manylambda.image.layer_writer import layer
from manylambda.image.tar import members
from manylambda.image.ustar import END, file_header, folder_header, padding
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, DiskFile, Entry, PackageTree, Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from manylambda.image.assembled import Part

LONG: Final = {
    "one block": "a" * 91,  # with `var/task/`: 100 bytes
    "a byte too long": "a" * 92,
    "a prefix": "/".join(["p" * 60, "q" * 60, "n" * 60]),
    "the longest prefix": "/".join(["p" * 70, "q" * 75, "n" * 100]),
    "no place to part it": "d/" + "n" * 120,
    "over 255 bytes": "/".join(["x" * 100] * 5) + "/module.py",
    "the longest name": "n" * 255,
    "not ASCII": "größe/naïve_日本.py",
    "long and not ASCII": "/".join(["ü" * 60] * 3) + "/ж.py",
    "spaces and quotes": "a b/'c\"/ d.py",
}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entry(path: str, data: bytes = b"", mode: int = MODE_FILE) -> Entry:
    return Entry(path, mode, Bytes(data), "project")


def unpacked(part: Part) -> bytes:
    assert part.path is not None
    return gzip.decompress(part.path.read_bytes())


def compressed(data: bytes, *, step: int | None = None) -> bytes:
    sink = io.BytesIO()
    with GzipWriter(sink) as writer:
        for start in range(0, len(data), step or max(1, len(data))):
            writer.write(data[start : start + (step or len(data))])
    return sink.getvalue()


def inflated(data: bytes) -> bytes:
    """Read one gzip member, and see that there is no other."""
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = reader.decompress(data)
    assert reader.eof
    assert reader.unused_data == b""
    return found


def mixed(size: int, seed: int = 1) -> bytes:
    """Give bytes of which some compress well, some hardly, some not at all: the same on every host."""
    draw = random.Random(seed)
    words = [draw.randbytes(draw.randint(2, 12)) for _ in range(2000)]
    parts = []
    left = size
    while left > 0:
        length = min(left, draw.randint(1, 80_000))
        match draw.randrange(4):
            case 0:
                part = draw.randbytes(length)
            case 1:
                part = bytes(length)
            case _:
                part = b"".join(draw.choices(words, k=length // 2 + 1))[:length]
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


# The compressor


def test_the_bytes_are_the_same_on_every_host() -> None:
    """Seen equal on x86-64 and arm64, Linux and Windows, with zlib 1.2.13 and 1.3.1; changing it is told to users."""
    data = mixed(3_500_000)
    assert hashlib.sha256(data).hexdigest()[:16] == "1f371b90e1fec4aa"
    assert (
        hashlib.sha256(compressed(data)).hexdigest()
        == "47e80433eea5242e862ae7bcd0b775476b7d94dc15eb130ddabbfb8128c7eb9a"
    )


def test_it_is_one_member_without_name_time_and_system() -> None:
    data = mixed(2 * PIECE + 7)
    packed = compressed(data)
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert inflated(packed) == data
    assert packed[-8:] == zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


KINDS: Final[dict[str, Callable[[int], bytes]]] = {
    "zeros": bytes,
    "noise": lambda size: random.Random(2).randbytes(size),
    "text": lambda size: (b"def lambda_handler(event, context):\n    return event\n" * (size // 50 + 1))[:size],
    "mixed": mixed,
}


@pytest.mark.parametrize(
    "size", [0, 1, 2, 31, 4999, 5000, 10_000, 65_535, 65_536, 300_001, PIECE - 1, PIECE, PIECE + 1]
)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_comes_back(kind: str, size: int) -> None:
    data = KINDS[kind](size)
    packed = compressed(data)
    assert inflated(packed) == data
    assert len(packed) <= len(data) * 1.001 + 100


def test_how_it_is_written_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed(2 * PIECE + 12_345)
    first = compressed(data)
    assert compressed(data, step=65_521) == first
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert compressed(data) == first
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert compressed(data, step=PIECE * 2) == first


def test_a_piece_that_cannot_be_joined_is_halved_and_stored_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "_joint", lambda *_: None)
    data = mixed(PIECE + 3)
    packed = compressed(data)
    assert inflated(packed) == data
    assert len(packed) > len(data)


def test_the_hosts_zlib_compresses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("the host's zlib was asked to compress")

    monkeypatch.setattr(zlib, "compressobj", refuse)
    monkeypatch.setattr(zlib, "compress", refuse)
    assert compressed(b"x" * 100_000)


def test_it_loses_little_to_compressing_in_one_go() -> None:
    from deflate import deflate_compress

    data = (Path(tarfile.__file__).read_bytes() + Path(random.__file__).read_bytes()) * 20
    assert len(compressed(data)) < 1.02 * len(deflate_compress(data, 6)) + 2000


# The archive


@pytest.mark.parametrize("name", LONG.values(), ids=LONG.keys())
def test_every_name_is_read_as_it_is(cache: Cache, tmp_path: Path, name: str) -> None:
    part = layer(PackageTree([entry(name, b"x = 1\n")]), "var/task", {}, cache=cache)
    data = unpacked(part)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames()[-1] == f"var/task/{name}"
    path = tmp_path / "layer.tar"
    path.write_bytes(data)
    with path.open("rb") as stream:
        assert [one.path for one in members(_Position(stream), "layer")][-1] == f"var/task/{name}"
    if shutil.which("tar") is None:
        return
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", str(path), "-C", str(tmp_path / "out")], check=True)
    assert (tmp_path / "out" / "var" / "task" / name).read_bytes() == b"x = 1\n"


@pytest.mark.parametrize(
    ("name", "is_extended"),
    [("one block", False), ("a prefix", False), ("the longest prefix", False)]
    + [(name, True) for name in ("no place to part it", "over 255 bytes", "not ASCII", "the longest name")],
)
def test_extended_headers_are_there_only_where_they_must(name: str, is_extended: bool) -> None:
    header = file_header(f"var/task/{LONG[name]}", 0o644, 3)
    assert (header[156:157] == b"x") is is_extended
    assert len(header) % 512 == 0
    assert (len(header) == 512) is not is_extended


def test_a_file_of_more_than_8_gib_says_so_beside_its_header() -> None:
    size = 9 << 30
    header = file_header("var/task/model.bin", 0o644, size)
    with tarfile.open(fileobj=io.BytesIO(header)) as archive:
        info = archive.next()
    assert info is not None
    assert (info.name, info.size) == ("var/task/model.bin", size)
    assert file_header("m", 0o644, 8**11 - 1)[156:157] == b"0"


def test_files_are_roots_of_one_day_and_folders_come_first(cache: Cache) -> None:
    tree = PackageTree(
        [entry("b/c/d.py", b"d"), entry("a.py", b"a"), entry("bin/run", b"#!", MODE_EXECUTABLE), entry("b.py", b"b")]
    )
    with tarfile.open(fileobj=io.BytesIO(unpacked(layer(tree, "var/task", {}, cache=cache)))) as archive:
        found = archive.getmembers()
    assert [(one.name, one.isdir(), one.mode) for one in found] == [
        ("var", True, 0o755),
        ("var/task", True, 0o755),
        ("var/task/b", True, 0o755),
        ("var/task/b/c", True, 0o755),
        ("var/task/bin", True, 0o755),
        ("var/task/a.py", False, 0o644),
        ("var/task/b.py", False, 0o644),
        ("var/task/b/c/d.py", False, 0o644),
        ("var/task/bin/run", False, 0o755),
    ]
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in found} == {(0, 0, "", "", 315_532_800)}
    assert all(not one.pax_headers for one in found)


def test_what_a_layer_is_called_by_is_true(cache: Cache) -> None:
    part = layer(PackageTree([entry("app.py", b"x" * 5000)]), "var/task", {}, cache=cache)
    assert part.path is not None
    packed = part.path.read_bytes()
    assert part.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert part.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert part.size == len(packed)


def test_members_of_wheels_files_and_bytes_become_the_same_layer(cache: Cache, tmp_path: Path) -> None:
    data = mixed(200_000)
    file = tmp_path / "data.bin"
    file.write_bytes(data)
    write_zip(PackageTree([entry("data.bin", data)]), tmp_path / "data.zip")
    archive = (tmp_path / "data.zip").read_bytes()
    offset = 30 + len("data.bin")
    compressed_size = int.from_bytes(archive[18:22], "little")
    method = int.from_bytes(archive[8:10], "little")
    span = Span(tmp_path / "data.zip", offset, compressed_size, method, zlib.crc32(data), len(data))
    contents = (Bytes(data), DiskFile(file, len(data)), span)
    made = [
        layer(
            PackageTree([Entry("d", MODE_FILE, one, "x")]), "var/task", {tmp_path / "data.zip": "0" * 64}, cache=cache
        )
        for one in contents
    ]
    assert len({part.digest for part in made}) == 1


@pytest.mark.parametrize("name", [".wh.app.py", "pkg/.wh..wh..opq", ".wh.d/x.py"])
def test_a_name_that_would_remove_files_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(PackagingError, match=re.escape(f"`{name}` of `project` cannot be in an image: names that")):
        layer(PackageTree([entry(name)]), "var/task", {}, cache=cache)


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128, "/".join(["d" * 200] * 21)])
def test_a_name_that_linux_does_not_take_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(PackagingError, match=re.escape(f"is longer than Linux takes: `{name[:80]}...`")):
        layer(PackageTree([entry(name)]), "var/task", {}, cache=cache)


# The cache


def test_an_unchanged_layer_is_not_made_again(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "demo.py"
    file.write_bytes(b"x = 1\n" * 1000)
    tree = PackageTree([Entry("demo.py", MODE_FILE, DiskFile(file, 6000), "demo")])
    first = layer(tree, "var/task", {}, cache=cache)

    def refuse(*_: object) -> Any:
        raise AssertionError("it was made again")

    monkeypatch.setattr(layer_writer, "GzipWriter", refuse)
    assert layer(tree, "var/task", {}, cache=cache) == first
    with pytest.raises(AssertionError):
        layer(tree, "opt", {}, cache=cache)


def test_a_damaged_layer_of_the_cache_is_made_again(cache: Cache) -> None:
    tree = PackageTree([entry("app.py", b"x = 1\n")])
    first = layer(tree, "var/task", {}, cache=cache)
    assert first.path is not None
    good = first.path.read_bytes()
    first.path.write_bytes(good[:-1] + b"!")
    assert layer(tree, "var/task", {}, cache=cache) == first
    assert first.path.read_bytes() == good
    first.path.unlink()
    assert layer(tree, "var/task", {}, cache=cache) == first


@pytest.mark.parametrize("change", [b"y = 2\n", b"x = 1\nlonger", b"x"])
def test_a_file_that_changes_meanwhile_ends_the_build(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    file = tmp_path / "app.py"
    file.write_bytes(b"x = 1\n")
    tree = PackageTree([Entry("app.py", MODE_FILE, DiskFile(file, 6), "project")])
    real = GzipWriter

    def changing(sink: Any) -> GzipWriter:
        file.write_bytes(change)
        return real(sink)

    monkeypatch.setattr(layer_writer, "GzipWriter", changing)
    with pytest.raises(PackagingError, match=re.escape(f"`{file}` changed while it was packaged")):
        layer(tree, "var/task", {}, cache=cache)
    assert [path for path in (cache.root / "v1" / "incoming").iterdir() if path.suffix == ".tmp"] == []


def test_a_file_that_cannot_be_read_is_named(cache: Cache, tmp_path: Path) -> None:
    tree = PackageTree([Entry("app.py", MODE_FILE, DiskFile(tmp_path / "gone.py", 6), "project")])
    with pytest.raises(PackagingError, match=re.escape(f"cannot read `{tmp_path / 'gone.py'}`: No such file")):
        layer(tree, "var/task", {}, cache=cache)


@pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux tells it")
def test_the_size_of_a_package_never_sits_in_memory(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from manylambda.fetch import Cache
from manylambda.image.layer_writer import layer
from manylambda.tree import MODE_FILE, DiskFile, Entry, PackageTree
file = Path({str(tmp_path / "large")!r})
with file.open("wb") as stream:
    stream.truncate(400 << 20)
layer(PackageTree([Entry("large", MODE_FILE, DiskFile(file, 400 << 20), "x")]), "var/task", {{}},
      cache=Cache(Path({str(tmp_path / "cache")!r})))
# `ru_maxrss` counts the process that started this one.
print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) < 120


def test_an_empty_archive_of_these_headers_is_one() -> None:
    data = folder_header("var") + file_header("var/a", 0o644, 1) + b"x" + padding(1) + END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["var", "var/a"]


class _Position:
    """A file as the reader of tars wants it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def position(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int) -> bytes:
        return bytes(self._stream.read(size))

    def skip(self, size: int) -> None:
        self._stream.seek(size, 1)
