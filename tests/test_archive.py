"""Archives: fixed bytes, whole or not at all, in little memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import zipfile
import zlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import manylambda.archive
from manylambda.archive import Known, deflate, fingerprint, inflate, is_same, staged, write_directory, write_zip
from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    STORED,
    Bytes,
    DamagedContent,
    DiskFile,
    Entry,
    PackageTree,
    Span,
    read_content,
)
from manylambda.wheels.inventory import inspect
from wheel_factory import Part, make_record, wheel_parts, write_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manylambda.archive import Written
    from manylambda.progress import Progress

posix = pytest.mark.skipif(os.name != "posix", reason="modes, signals and limits of POSIX")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a Linux kernel")

TEXT = b"To be, or not to be, that is the question.\n" * 40
NOISE = hashlib.shake_128(b"noise").digest(5000)


def golden_tree(folder: Path) -> PackageTree:
    """One of everything: each kind of content, mode and name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_bytes(TEXT)
    raw = GOLDEN_RAW  # given, not made: the zlib of whoever runs the test must not decide
    (folder / "some.whl").write_bytes(b"....." + raw + NOISE)
    wheel = folder / "some.whl"
    return PackageTree(
        [
            Entry("own.py", MODE_FILE, DiskFile(folder / "own.py", len(TEXT)), "project"),
            Entry(
                "lib/deflated.txt", MODE_FILE, Span(wheel, 5, len(raw), DEFLATED, zlib.crc32(b"a" * 300), 300), "some"
            ),
            Entry(
                "lib/stored.so",
                MODE_EXECUTABLE,
                Span(wheel, 5 + len(raw), len(NOISE), STORED, zlib.crc32(NOISE), len(NOISE)),
                "some",
            ),
            Entry("lib/empty", MODE_FILE, Bytes(b""), "some"),
            Entry("lib/noise", MODE_FILE, Bytes(NOISE), "some"),
            Entry("bin/tool", MODE_EXECUTABLE, Bytes(TEXT), "some"),
            Entry("naïve/日本.txt", MODE_FILE, Bytes(b"utf-8"), "some"),
        ]
    )


GOLDEN_RAW = bytes.fromhex("4b4c1c05c40200")  # 300 times `a`, checked below
GOLDEN_ZIP = "efe28ed9e97862dd0def1fee15d8e53a464a5a4a2d34516567700ec5489154bd"
GOLDEN_FOLDER = "92243cd39a384409fda12de22a1049b2cb256292a279212d21d9c2161444b4b3"
GOLDEN_COMPRESSED = "a90a94d461d9f8cab6c2a300c1eff6f84aca13ca170dd9e62ca203d2bfeee441"


def one(path: str, data: bytes = b"", mode: int = MODE_FILE) -> PackageTree:
    return PackageTree([Entry(path, mode, Bytes(data), "demo")])


def many(count: int, *, start: int = 0) -> PackageTree:
    return PackageTree(Entry(f"{n:06d}", MODE_FILE, Bytes(b""), "demo") for n in range(start, start + count))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_python(code: str, *arguments: object, env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the bytes ---


def test_the_bytes_of_a_zip_are_fixed(tmp_path: Path) -> None:
    assert zlib.decompress(GOLDEN_RAW, -zlib.MAX_WBITS) == b"a" * 300
    written = write_zip(golden_tree(tmp_path / "in"), tmp_path / "x.zip")
    data = (tmp_path / "x.zip").read_bytes()
    assert written.sha256 == hashlib.sha256(data).hexdigest() == GOLDEN_ZIP
    assert (written.path, written.size, written.files) == (tmp_path / "x.zip", len(data), 7)
    assert written.unzipped_size == 300 + 2 * len(TEXT) + 2 * len(NOISE) + 5
    assert written.code_sha256 == b64encode(hashlib.sha256(data).digest()).decode()


def test_the_digest_of_a_folder_is_fixed(tmp_path: Path) -> None:
    written = write_directory(golden_tree(tmp_path / "in"), tmp_path / "out")
    assert written.sha256 == GOLDEN_FOLDER
    assert (written.size, written.unzipped_size, written.files) == (300 + 2 * len(TEXT) + 2 * len(NOISE) + 5,) * 2 + (
        7,
    )


def test_the_pinned_compressor_gives_the_bytes_we_promised() -> None:
    assert hashlib.sha256(deflate(TEXT)).hexdigest() == GOLDEN_COMPRESSED
    assert zlib.decompress(deflate(TEXT), -zlib.MAX_WBITS) == TEXT


def test_every_header_field_is_fixed(tmp_path: Path) -> None:
    tree = golden_tree(tmp_path / "in")
    write_zip(tree, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.comment == b""
        infos = archive.infolist()
    assert [info.filename for info in infos] == sorted(entry.path for entry in tree)
    for info, entry in zip(infos, tree, strict=True):
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert (info.create_system, info.create_version, info.extract_version) == (3, 20, 20)
        assert info.external_attr == (0o100000 | entry.mode) << 16
        assert (info.extra, info.comment, info.internal_attr, info.volume) == (b"", b"", 0, 0)
        assert info.flag_bits == (0 if entry.path.isascii() else 0x800)
    methods = {info.filename: info.compress_type for info in infos}
    assert methods == {
        "bin/tool": DEFLATED, "lib/deflated.txt": DEFLATED, "lib/empty": STORED, "lib/noise": STORED,
        "lib/stored.so": STORED, "naïve/日本.txt": STORED, "own.py": DEFLATED,
    }  # fmt: skip


def test_local_headers_repeat_the_directory_and_nothing_lies_between(tmp_path: Path) -> None:
    write_zip(golden_tree(tmp_path / "in"), tmp_path / "x.zip")
    data = (tmp_path / "x.zip").read_bytes()
    place = 0
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        for info in archive.infolist():
            name = info.filename.encode()
            header = struct.pack(
                "<4s5H3I2H", b"PK\3\4", 20, info.flag_bits, info.compress_type, 0, 33, info.CRC, info.compress_size,
                info.file_size, len(name), 0,
            )  # fmt: skip
            assert info.header_offset == place
            assert data[place : place + 30 + len(name)] == header + name
            place += 30 + len(name) + info.compress_size
        assert archive.start_dir == place


def test_an_empty_tree_is_an_empty_zip(tmp_path: Path) -> None:
    assert write_zip(PackageTree(), tmp_path / "x.zip").size == 22
    assert zipfile.ZipFile(tmp_path / "x.zip").namelist() == []


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs Info-ZIP")
def test_info_zip_finds_no_fault_and_unpacks_the_same(tmp_path: Path) -> None:
    tree = golden_tree(tmp_path / "in")
    write_zip(tree, tmp_path / "x.zip")
    done = subprocess.run(["unzip", "-t", str(tmp_path / "x.zip")], capture_output=True, text=True, check=False)
    assert (done.returncode, "No errors detected" in done.stdout) == (0, True), done.stdout
    subprocess.run(
        ["unzip", "-q", str(tmp_path / "x.zip"), "-d", str(tmp_path / "out")],
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert snapshot(tmp_path / "out") == {entry.path: read_content(entry.content) for entry in tree}
    assert (tmp_path / "out/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/lib/noise").stat().st_mode & 0o777 == 0o644


SAME_ELSEWHERE = """
    import os, sys
    from pathlib import Path
    sys.path[:0] = [sys.argv[1]]
    if hasattr(os, "umask"):
        os.umask(int(sys.argv[3], 8))
    from test_archive import golden_tree
    from manylambda.archive import write_zip, write_directory
    place = Path(sys.argv[2])
    tree = golden_tree(place / "in")
    print(write_zip(tree, place / "x.zip").sha256, write_directory(tree, place / "out").sha256)
"""


@pytest.mark.parametrize(
    ("umask", "environment"),
    [
        ("022", {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}),
        ("077", {"TZ": "America/Los_Angeles", "PYTHONHASHSEED": "1", "PYTHONUTF8": "0"}),
        ("000", {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1700000000", "PYTHONOPTIMIZE": "2"}),
    ],
)
def test_umask_zone_locale_and_hash_seed_change_nothing(
    tmp_path: Path, umask: str, environment: dict[str, str]
) -> None:
    done = run_python(SAME_ELSEWHERE, Path(__file__).parent, tmp_path, umask, env={**os.environ, **environment})
    assert done.split() == [GOLDEN_ZIP, GOLDEN_FOLDER]


# --- folders ---


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_modes_and_times_of_a_folder_are_fixed_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    tree = golden_tree(tmp_path / "in")
    before = os.umask(umask)
    try:
        write_directory(tree, tmp_path / "out")
    finally:
        os.umask(before)
    assert snapshot(tmp_path / "out") == {entry.path: read_content(entry.content) for entry in tree}
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        status = path.stat()
        assert status.st_mtime_ns == 315_532_800 * 10**9, path
        entry = tree.get(path.relative_to(tmp_path / "out").as_posix())
        assert status.st_mode & 0o7777 == (entry.mode if entry else 0o755), path


def test_a_folder_replaces_the_one_before_it_wholly(tmp_path: Path) -> None:
    write_directory(one("old/file", b"old"), tmp_path / "out")
    write_directory(one("new/file", b"new"), tmp_path / "out")
    assert snapshot(tmp_path / "out") == {"new/file": b"new"}
    assert names_in(tmp_path) == ["out"]


def test_a_folder_is_not_written_over_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(PackagingError) as error:
        write_directory(one("x"), tmp_path / "out")
    assert error.value.message == f"`{tmp_path / 'out'}` is a file where a folder is to be written"
    assert error.value.hint == "move it away or name another --output"
    assert (tmp_path / "out").read_text() == "precious"
    assert names_in(tmp_path) == ["out"]


@posix
def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/precious").touch()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with pytest.raises(PackagingError, match="is a file where a folder is to be written"):
        write_directory(one("x"), tmp_path / "out")
    assert names_in(tmp_path / "real") == ["precious"]


def test_a_file_system_that_ignores_case_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "A").touch()
    if (tmp_path / "a").exists():
        with pytest.raises(PackagingError, match="cannot hold `a`"):
            write_directory(PackageTree([*one("A"), *one("a")]), tmp_path / "out")
        with pytest.raises(PackagingError, match="cannot hold `b`"):
            write_directory(PackageTree([*one("B/x"), *one("b/x")]), tmp_path / "out")
        return
    # Elsewhere: the error such a file system gives, got by making what stands in the way.
    (tmp_path / "made").mkdir()
    (tmp_path / "made/a").touch()
    (tmp_path / "made/b").mkdir()
    with pytest.raises(PackagingError) as error:
        manylambda.archive._write_file(one("a").entries[0], tmp_path / "made/a")
    assert error.value.message == ("this file system cannot hold `a` beside a path that differs only in case")
    with pytest.raises(PackagingError, match="cannot hold `b`"):
        manylambda.archive._make_parents(tmp_path / "made", "b/x", set())


# --- limits of the format ---


def test_more_files_than_a_zip_without_zip64_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackagingError) as error:
        write_zip(many(65_535), tmp_path / "x.zip")
    assert error.value.message == ("65535 files do not fit a zip without zip64, which Lambda is not known to read")
    assert error.value.hint == "ship at most 65534 files: move distributions to a layer, or build an image"
    assert names_in(tmp_path) == []


def test_as_many_files_as_fit_are_written_without_zip64(tmp_path: Path) -> None:
    write_zip(many(65_534), tmp_path / "x.zip")
    data = (tmp_path / "x.zip").read_bytes()
    assert b"PK\6\6" not in data
    assert b"PK\6\7" not in data
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert len(archive.infolist()) == 65_534


@linux
def test_a_zip_over_4_gib_is_refused_before_it_is_written(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as stream:
        stream.truncate(0xFFFFFFFF)
    span = Span(sparse, 0, 0xFFFFFFFF, STORED, 0, 0xFFFFFFFF)
    with pytest.raises(PackagingError) as error:
        write_zip(PackageTree([Entry("x", MODE_FILE, span, "demo")]), tmp_path / "out" / "x.zip")
    assert error.value.message == "the zip would be over 4 GiB"
    assert error.value.hint == "a package this large needs an image"
    assert names_in(tmp_path / "out") == []


def test_paths_that_no_zip_can_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackagingError) as error:
        write_zip(one("a\udc80"), tmp_path / "x.zip")
    assert error.value.message == "a path of `demo` is not Unicode: 'a\\udc80'"
    with pytest.raises(PackagingError) as error:
        write_zip(one("é" * 40_000), tmp_path / "x.zip")
    assert error.value.message == f"a path of `demo` is too long for a zip: `{'é' * 80}...`"
    assert names_in(tmp_path) == []


# --- sources that are not what they were ---


def disk(path: Path, data: bytes, size: int | None = None) -> PackageTree:
    path.write_bytes(data)
    return PackageTree(
        [
            *one("a.py", b"first"),
            Entry("own", MODE_FILE, DiskFile(path, len(data) if size is None else size), "project"),
        ]
    )


WRITERS: dict[str, Callable[[PackageTree, Path], Written]] = {"zip": write_zip, "dir": write_directory}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("size", [9, 11])
def test_a_source_of_another_length_is_an_error_and_the_old_artifact_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, large: bool, size: int
) -> None:
    if large:
        monkeypatch.setattr(manylambda.archive, "_UNCOMPRESSED_FROM", 5)
    target = tmp_path / "out" / "artifact"
    before = WRITERS[writer](one("old", b"old"), target)
    with pytest.raises(PackagingError) as error:
        WRITERS[writer](disk(tmp_path / "own.bin", b"0123456789", size), target)
    assert error.value.message == f"`{tmp_path / 'own.bin'}` changed while it was packaged"
    assert error.value.hint == "run the build again"
    assert names_in(tmp_path / "out") == ["artifact"]
    assert WRITERS[writer](one("old", b"old"), tmp_path / "again").sha256 == before.sha256
    if writer == "dir":
        assert snapshot(target) == {"old": b"old"}
    else:
        assert hashlib.sha256(target.read_bytes()).hexdigest() == before.sha256


class Interfering:
    """Changes a file once the writer tells of the entry before it: a user who saves while we build."""

    def __init__(self, change: Callable[[], None]) -> None:
        self.change = change

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Interfering:
        return self

    def advance(self, amount: int) -> None:
        self.change()

    def finish(self) -> None: ...
    def info(self, message: str) -> None: ...
    def detail(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...


def test_a_large_file_that_changes_between_checksum_and_copy_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manylambda.archive, "_UNCOMPRESSED_FROM", 5)
    file = tmp_path / "own.bin"
    real = manylambda.archive._Sources.crc32

    def then_changes(self: object, content: DiskFile) -> int:
        crc = real(self, content)  # type: ignore[arg-type]
        file.write_bytes(b"9876543210")
        return crc

    monkeypatch.setattr(manylambda.archive._Sources, "crc32", then_changes)
    with pytest.raises(PackagingError) as error:
        write_zip(disk(file, b"0123456789"), tmp_path / "out" / "x.zip")
    assert error.value.message == f"`{file}` changed while it was packaged"
    assert names_in(tmp_path / "out") == []


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("large", [False, True])
def test_a_source_that_vanishes_while_it_is_packaged_is_told_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr(manylambda.archive, "_UNCOMPRESSED_FROM", 5)
    tree = disk(tmp_path / "own.bin", b"0123456789")
    progress: Progress = Interfering(lambda: (tmp_path / "own.bin").unlink(missing_ok=True))
    function = write_zip if writer == "zip" else write_directory
    with pytest.raises(PackagingError) as error:
        function(tree, tmp_path / "out" / "x", progress=progress)
    assert error.value.message == f"cannot read `{tmp_path / 'own.bin'}`: No such file or directory"
    assert names_in(tmp_path / "out") == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_wheel_that_shrinks_while_it_is_packaged_is_an_error(tmp_path: Path, writer: str) -> None:
    wheel = tmp_path / "some.whl"
    wheel.write_bytes(NOISE)
    span = Span(wheel, 0, len(NOISE), STORED, zlib.crc32(NOISE), len(NOISE))
    tree = PackageTree([*one("a", b"1"), Entry("b", MODE_FILE, span, "some")])
    progress: Progress = Interfering(lambda: os.truncate(wheel, 100))
    function = write_zip if writer == "zip" else write_directory
    with pytest.raises((PackagingError, UnsafeArchive)) as error:
        function(tree, tmp_path / "out" / "x", progress=progress)
    assert error.value.message in {
        f"`{wheel}` changed while it was packaged",
        "`some.whl` is damaged: the file ends early",
    }
    assert names_in(tmp_path / "out") == []


def test_progress_is_ended_when_writing_fails(tmp_path: Path) -> None:
    ended: list[str] = []

    class Watched(Interfering):
        def finish(self) -> None:
            ended.append("x")

    for function in (write_zip, write_directory):
        with pytest.raises(PackagingError):
            function(disk(tmp_path / "own", b"123", 2), tmp_path / "out" / "x", progress=Watched(lambda: None))
    assert len(ended) == 2


# --- disks that fail ---


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for function in (write_zip, write_directory):
        with pytest.raises(PackagingError) as error:
            function(one("x"), tmp_path / "file" / "x")
        assert error.value.message.startswith(f"cannot write `{tmp_path / 'file' / 'x'}`: ")


def test_a_zip_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip/precious").touch()
    with pytest.raises(PackagingError, match=r"^cannot write `"):
        write_zip(one("x"), tmp_path / "x.zip")
    assert names_in(tmp_path) == ["x.zip"]
    assert names_in(tmp_path / "x.zip") == ["precious"]


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PackagingError) as error:
            write_zip(one("x"), tmp_path / "x.zip")
    finally:
        tmp_path.chmod(0o700)
    assert error.value.message == f"cannot write `{tmp_path / 'x.zip'}`: Permission denied"
    assert error.value.hint == "the folder cannot be written: name another with --output"


LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    from manylambda.archive import write_zip, write_directory
    from manylambda.errors import PackagingError
    from manylambda.tree import *
    import hashlib
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    noise = hashlib.shake_128(b"x").digest(3_000_000)
    tree = PackageTree([Entry("a", 0o644, Bytes(noise), "demo"), Entry("b", 0o644, Bytes(b"b"), "demo")])
    writer = write_zip if sys.argv[1] == "zip" else write_directory
    try:
        writer(tree, Path(sys.argv[2]))
    except PackagingError as error:
        print(error.message); print(error.hint)
"""


@posix
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("limit", [0, 10, 1_000_000, 2_999_999])
def test_a_write_that_fails_leaves_the_old_artifact_and_no_half_one(tmp_path: Path, writer: str, limit: int) -> None:
    target = tmp_path / "artifact"
    before = WRITERS[writer](one("old", b"old"), target)
    done = run_python(LIMITED, writer, target, limit)
    assert done.splitlines() == [
        f"cannot write `{target}`: File too large",
        "nothing was written; see the reason above",
    ]
    assert names_in(tmp_path) == ["artifact"]
    if writer == "zip":
        assert hashlib.sha256(target.read_bytes()).hexdigest() == before.sha256
    else:
        assert snapshot(target) == {"old": b"old"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("cannot mount a small disk here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False)


@linux
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_an_error_that_says_so(tiny_disk: Path, writer: str) -> None:
    target = tiny_disk / "artifact"
    WRITERS[writer](one("old", b"old"), target)
    with pytest.raises(PackagingError) as error:
        WRITERS[writer](one("x", hashlib.shake_128(b"x").digest(3_000_000)), target)
    assert error.value.message == f"cannot write `{target}`: No space left on device"
    assert error.value.hint == "the disk is full: free some space, or name another folder with --output"
    assert names_in(tiny_disk) == ["artifact"]
    if writer == "zip":
        assert zipfile.ZipFile(target).namelist() == ["old"]
    else:
        assert snapshot(target) == {"old": b"old"}


# --- killed, interrupted, two at once ---

ENDLESS = """
    import sys
    from pathlib import Path
    from manylambda.archive import write_zip, write_directory
    from manylambda.tree import *
    import hashlib
    noise = Path(sys.argv[3])
    noise.write_bytes(hashlib.shake_128(b"x").digest(1 << 20))
    tree = PackageTree(Entry(f"{n:03}", 0o644, Span(noise, 0, 1 << 20, STORED, 0, 1 << 20), "demo") for n in range(300))
    writer = write_zip if sys.argv[1] == "zip" else write_directory
    class Slow:
        def task(self, *a, **k): return self
        def advance(self, n):
            print("one", flush=True)
            import time; time.sleep(0.1)
        def finish(self): ...
    print("ready", flush=True)
    writer(tree, Path(sys.argv[2]), progress=Slow())
"""


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_a_killed_build_leaves_the_old_artifact_and_the_next_cleans_up(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "out" / "artifact"
    WRITERS[writer](one("old", b"old"), target)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS), writer, str(target), str(tmp_path / "noise")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    litter = [name for name in names_in(tmp_path / "out") if name != "artifact"]
    assert len(litter) == 1
    if writer == "zip":
        assert zipfile.ZipFile(target).namelist() == ["old"]
    else:
        assert snapshot(target) == {"old": b"old"}
    WRITERS[writer](one("new", b"new"), target)
    assert names_in(tmp_path / "out") == ["artifact"]


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_an_interrupted_build_leaves_the_old_artifact_and_no_litter(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "out" / "artifact"
    WRITERS[writer](one("old", b"old"), target)

    def interrupt() -> None:
        raise KeyboardInterrupt

    function = write_zip if writer == "zip" else write_directory
    progress: Progress = Interfering(interrupt)
    with pytest.raises(KeyboardInterrupt):
        function(one("x", b"new"), target, progress=progress)
    assert names_in(tmp_path / "out") == ["artifact"]


def test_only_litter_of_dead_builds_of_the_same_artifact_is_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    keep = [
        f".x.zip.{os.getpid():x}-00000000",  # a build that runs
        f".y.zip.{dead.pid:x}-00000000",  # another artifact
        f".x.zip.{dead.pid:x}-00000000.bak",
        f"x.zip.{dead.pid:x}-00000000",
        ".x.zip.swp",
        ".x.zipper",
    ]
    gone = [f".x.zip.{dead.pid:x}-00000000"] if os.name == "posix" else []
    for name in [*keep, *gone]:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    write_zip(one("x"), tmp_path / "x.zip")
    assert names_in(tmp_path) == sorted([*keep, "x.zip"])
    # After an hour, whoever has that number now is not who wrote it.
    monkeypatch.setattr(manylambda.archive, "_STALE_AFTER", -1)
    write_zip(one("x"), tmp_path / "x.zip")
    assert names_in(tmp_path) == sorted([*keep[1:], "x.zip"])


@pytest.mark.parametrize("writer", WRITERS)
def test_builds_that_write_one_artifact_at_once_each_leave_a_whole_one(tmp_path: Path, writer: str) -> None:
    target = tmp_path / "out" / "artifact"
    trees = [
        PackageTree(Entry(f"{n}", MODE_FILE, Bytes(bytes([65 + who]) * 5000), "demo") for n in range(30))
        for who in range(4)
    ]
    failures: list[BaseException] = []

    def build(tree: PackageTree) -> None:
        try:
            for _ in range(8):
                WRITERS[writer](tree, target)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=build, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names_in(tmp_path / "out") == ["artifact"]
    if writer == "zip":
        with zipfile.ZipFile(target) as archive:
            contents = {archive.read(name) for name in archive.namelist()}
            assert len(archive.namelist()) == 30
    else:
        contents = set(snapshot(target).values())
        assert len(snapshot(target)) == 30
    assert len(contents) == 1


def test_staging_removes_what_its_body_leaves(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "x") as beside:
        beside.mkdir()
        (beside / "file").touch()
        raise ZeroDivisionError
    with staged(tmp_path / "x") as beside:
        beside.touch()
    with staged(tmp_path / "x"):
        pass
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_directory(one("old", b"old"), tmp_path / "out")
    real = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target == tmp_path / "out" and self.is_dir() and (self / "new").exists():
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(PackagingError) as error:
        write_directory(one("new", b"new"), tmp_path / "out")
    assert error.value.message == f"cannot write `{tmp_path / 'out'}`: Permission denied"
    monkeypatch.undo()
    assert snapshot(tmp_path / "out") == {"old": b"old"}
    assert names_in(tmp_path) == ["out"]


# --- memory ---

MEASURED = """
    import json, resource, sys
    from pathlib import Path
    from manylambda.archive import write_zip
    from manylambda.tree import *
    from manylambda.wheels.inventory import Inventory, inspect
    from manylambda.wheels.layout import package_tree
    what, place = sys.argv[1], Path(sys.argv[2])
    if what == "own":
        content = DiskFile(place / "own", (place / "own").stat().st_size)
        tree = PackageTree([Entry("model.bin", 0o644, content, "project")])
    else:
        trees = [package_tree(Inventory.from_json(json.loads(wheel.with_suffix(".json").read_text()), wheel),
                              interpreter="/x") for wheel in sorted(place.glob("*.whl"))]
        tree, collisions = overlay(trees)
    written = write_zip(tree, place / "x.zip")
    if sys.platform == "linux":  # there, ru_maxrss counts the process that started this one
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak, written.size)
"""


@posix
def test_a_large_own_file_is_streamed(tmp_path: Path) -> None:
    block = hashlib.shake_128(b"x").digest(1 << 20)
    with (tmp_path / "own").open("wb") as stream:
        for _ in range(200):
            stream.write(block)
    peak, size = map(int, run_python(MEASURED, "own", tmp_path).split())
    assert size > 200 << 20
    assert peak < 80 << 20, f"{peak >> 20} MiB"
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.getinfo("model.bin").compress_type == STORED


@posix
def test_a_package_like_numpy_pandas_and_pyarrow_takes_little_memory(tmp_path: Path) -> None:
    """Three wheels of 4,000 small files and a few large ones: 80 MB deflated, 250 MB unpacked."""
    noise = hashlib.shake_128(b"x").digest(4 << 20)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    large = noise + bytes(11 << 20)
    raw = deflater.compress(large) + deflater.flush()
    crc32 = zlib.crc32(large)
    for number in range(3):
        name = f"like{number}"
        info = f"{name}-1.0.dist-info"
        small = {f"{name}/m{n // 50}/f{n}.py": f"x = {n}\n" * 30 for n in range(1300)}
        parts = [part for part in wheel_parts(name, "1.0", small) if not part.name.endswith(b"RECORD")]
        libraries = [Part(name=f"{name}/lib{n}.so".encode(), raw=raw, crc32=crc32, size=len(large)) for n in range(6)]
        record = make_record({part.name.decode(): part.data for part in parts}, f"{info}/RECORD")
        digest = make_record({"x": large}, "y").split(b"\n")[0].partition(b",")[2]
        rows = b"".join(part.name + b"," + digest + b"\n" for part in libraries)
        parts = [*parts, *libraries, Part(name=f"{info}/RECORD".encode(), data=rows + record)]
        wheel = write_parts(tmp_path / f"{name}-1.0-py3-none-any.whl", parts)
        wheel.with_suffix(".json").write_text(json.dumps(inspect(wheel).to_json()))
    peak, size = map(int, run_python(MEASURED, "wheels", tmp_path).split())
    assert size > 70 << 20
    assert peak < 80 << 20, f"{peak >> 20} MiB"


def test_more_wheels_than_may_be_open_at_once_are_read(tmp_path: Path) -> None:
    entries = []
    for n in range(200):
        file = tmp_path / f"{n}.whl"
        file.write_bytes(b"%03d" % n)
        for copy in ("a", "b"):
            entries.append(Entry(f"{copy}/{n}", MODE_FILE, Span(file, 0, 3, STORED, zlib.crc32(b"%03d" % n), 3), "x"))
    write_zip(PackageTree(entries), tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert all(archive.read(name).decode() == f"{int(name[2:]):03}" for name in archive.namelist())


# --- other Pythons ---


ELSEWHERE = """
    import sys
    from pathlib import Path
    from manylambda.archive import write_zip
    from manylambda.tree import *
    own, out = Path(sys.argv[1]), Path(sys.argv[2])
    data = own.read_bytes()
    tree = PackageTree([Entry("a", 0o644, Bytes(data), "x"), Entry("b", 0o755, DiskFile(own, len(data)), "y")])
    print(write_zip(tree, out).sha256)
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14", "3.15"])
def test_another_python_writes_the_same_bytes(tmp_path: Path, version: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(manylambda.archive.__file__).parents[1]), _site_of_deflate()]),
    }
    python = _python(version)
    if python is None or subprocess.run([python, "-c", "import deflate"], env=environment, check=False).returncode:
        pytest.skip(f"no Python {version} that can load the compressor")
    (tmp_path / "own").write_bytes(TEXT)
    code = textwrap.dedent(ELSEWHERE)
    digests = {
        subprocess.run(
            [executable, "-c", code, str(tmp_path / "own"), str(tmp_path / "x.zip")],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout
        for executable in (python, sys.executable)
    }  # fmt: skip
    assert len(digests) == 1


def _python(version: str) -> str | None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = sorted(pyenv.glob(f"{version}.*/bin/python3"))
    return str(found[-1]) if found else shutil.which(f"python{version}")


def _site_of_deflate() -> str:
    import deflate as module

    return str(Path(module.__file__).parents[1])


def _known_tree(tmp_path: Path) -> tuple[PackageTree, Path]:
    file = tmp_path / "own.txt"
    file.write_bytes(b"own " * 100)
    return PackageTree(
        [Entry("own.txt", MODE_FILE, DiskFile(file, 400), "project"), Entry("made.txt", MODE_FILE, Bytes(b"m"), "demo")]
    ), file


def test_equal_trees_have_one_fingerprint_and_any_difference_another(tmp_path: Path) -> None:
    tree, file = _known_tree(tmp_path)
    first = fingerprint(tree, {})
    assert fingerprint(tree, {}) == first
    entries = list(tree)
    others = [
        [entries[0]._replace(mode=MODE_EXECUTABLE), entries[1]],
        [entries[0]._replace(path="other.txt"), entries[1]],
        [entries[0]._replace(content=Bytes(b"x")), entries[1]],
        entries[:1],
    ]
    keys = {fingerprint(PackageTree(other), {}).key for other in others}
    file.write_bytes(b"OWN " * 100)
    keys |= {fingerprint(tree, {}).key, first.key}
    assert len(keys) == 6


def test_a_span_counts_by_the_hash_of_its_archive_and_its_place(tmp_path: Path) -> None:
    span = Span(tmp_path / "a.whl", 10, 5, STORED, 1, 5)
    tree = PackageTree([Entry("a", MODE_FILE, span, "a")])
    moved = PackageTree([Entry("a", MODE_FILE, span._replace(offset=11), "a")])
    keys = {fingerprint(tree, {span.file: "1"}).key, fingerprint(tree, {span.file: "2"}).key}
    keys.add(fingerprint(moved, {span.file: "1"}).key)
    assert len(keys) == 3


def test_a_known_zip_has_the_same_bytes_and_hash(tmp_path: Path) -> None:
    tree, _ = _known_tree(tmp_path)
    first = write_zip(tree, tmp_path / "first.zip")
    known = Known(first.sha256, first.size, fingerprint(tree, {}).checksums)
    second = write_zip(tree, tmp_path / "second.zip", known=known)
    assert second.sha256 == first.sha256 == hashlib.sha256((tmp_path / "second.zip").read_bytes()).hexdigest()
    assert is_same(tmp_path / "second.zip", known)
    (tmp_path / "second.zip").write_bytes(bytes(first.size))
    assert not is_same(tmp_path / "second.zip", known)
    assert not is_same(tmp_path / "none.zip", known)


def test_what_is_known_wrongly_is_found_by_its_size(tmp_path: Path) -> None:
    tree, _ = _known_tree(tmp_path)
    right = write_zip(tree, tmp_path / "right.zip")
    wrong = Known("0" * 64, right.size + 1, fingerprint(tree, {}).checksums)
    assert write_zip(tree, tmp_path / "other.zip", known=wrong).sha256 == right.sha256


def test_a_file_that_changed_since_its_fingerprint_is_an_error(tmp_path: Path) -> None:
    tree, file = _known_tree(tmp_path)
    right = write_zip(tree, tmp_path / "right.zip")
    known = Known(right.sha256, right.size, fingerprint(tree, {}).checksums)
    file.write_bytes(b"OWN " * 100)
    with pytest.raises(PackagingError, match="changed while it was packaged"):
        write_zip(tree, tmp_path / "other.zip", known=known)
    assert not (tmp_path / "other.zip").exists()


def test_the_compressor_is_the_pinned_one() -> None:
    from importlib.metadata import version

    assert f"deflate {version('deflate')}" == manylambda.archive.COMPRESSOR


@pytest.mark.parametrize("content", [b"", b"x", b"hello " * 10_000])
def test_a_member_is_inflated_in_one_piece(tmp_path: Path, content: bytes) -> None:
    stream = deflate(content)
    file = tmp_path / "members"
    file.write_bytes(b"before" + stream + b"after")
    span = Span(file, 6, len(stream), DEFLATED, zlib.crc32(content), len(content))
    with file.open("rb") as opened:
        assert inflate(span, opened) == content


@pytest.mark.parametrize(
    ("size", "cut", "fact"),
    [
        (60_001, 0, "a member is not as long as its header says"),
        (59_999, 0, "a member cannot be unpacked"),
        (60_000, 5, "a member cannot be unpacked"),
    ],
)
def test_a_member_that_is_not_what_its_header_says_is_not_inflated(
    tmp_path: Path, size: int, cut: int, fact: str
) -> None:
    stream = deflate(b"hello " * 10_000)
    file = tmp_path / "members"
    file.write_bytes(stream)
    with file.open("rb") as opened, pytest.raises(DamagedContent, match=f"^`members` is damaged: {fact}$"):
        inflate(Span(file, 0, len(stream) - cut, DEFLATED, 0, size), opened)
