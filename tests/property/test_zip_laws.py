"""Laws of the archives we write, for any tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_strategies import package_trees

from manylambda.archive import deflate, write_directory, write_zip
from manylambda.tree import DEFLATED, STORED, DiskFile, Entry, PackageTree, Span, read_content
from manylambda.wheels.inventory import inspect
from manylambda.wheels.layout import package_tree
from wheel_factory import make_wheel


@given(package_trees())
@settings(deadline=None)
def test_a_zip_reads_back_equal_and_twice_gives_the_same_bytes(tree: PackageTree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.zip")
        written = write_zip(tree, path)
        data = path.read_bytes()
        assert written.sha256 == hashlib.sha256(data).hexdigest()
        assert (written.size, written.unzipped_size, written.files) == (len(data), tree.size, len(tree))
        assert write_zip(PackageTree(reversed(tree.entries)), Path(folder, "y.zip")).sha256 == written.sha256
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            read = {
                info.filename: ((info.external_attr >> 16) & 0o7777, archive.read(info)) for info in archive.infolist()
            }
            assert archive.namelist() == [entry.path for entry in tree]
        assert read == {entry.path: (entry.mode, read_content(entry.content)) for entry in tree}


@given(package_trees())
@settings(deadline=None)
def test_a_tree_read_from_its_zip_gives_the_same_zip(tree: PackageTree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.zip")
        written = write_zip(tree, path)
        with zipfile.ZipFile(path) as archive:
            spans = PackageTree(
                Entry(
                    info.filename,
                    (info.external_attr >> 16) & 0o777,
                    Span(
                        path,
                        info.header_offset + 30 + len(info.filename.encode()),
                        info.compress_size,
                        info.compress_type,
                        info.CRC,
                        info.file_size,
                    ),
                    "zip",
                )
                for info in archive.infolist()
            )
        assert [read_content(entry.content) for entry in spans] == [read_content(entry.content) for entry in tree]
        assert write_zip(spans, Path(folder, "again.zip")).sha256 == written.sha256


@given(package_trees())
@settings(deadline=None)
def test_it_does_not_matter_whether_bytes_lie_in_memory_or_on_disk(tree: PackageTree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        on_disk = []
        for number, entry in enumerate(tree):
            file = Path(folder, str(number))
            file.write_bytes(read_content(entry.content))
            on_disk.append(entry._replace(content=DiskFile(file, entry.content.size)))
        other = PackageTree(on_disk)
        assert write_zip(tree, Path(folder, "a.zip")).sha256 == write_zip(other, Path(folder, "b.zip")).sha256


@pytest.mark.skipif(os.name != "posix" or os.path.exists(__file__.upper()), reason="the file system ignores case")
@given(package_trees())
@settings(deadline=None, max_examples=50)
def test_a_folder_reads_back_equal(tree: PackageTree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "out")
        first = write_directory(tree, root)
        read = {
            path.relative_to(root).as_posix(): (path.stat().st_mode & 0o7777, path.read_bytes())
            for path in root.rglob("*")
            if path.is_file()
        }
        assert read == {entry.path: (entry.mode, read_content(entry.content)) for entry in tree}
        assert write_directory(tree, root).sha256 == first.sha256


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs Info-ZIP")
@given(package_trees().filter(len))
@settings(deadline=None, max_examples=40)
def test_info_zip_finds_no_fault(tree: PackageTree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_zip(tree, Path(folder, "x.zip"))
        done = subprocess.run(["unzip", "-tqq", str(Path(folder, "x.zip"))], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


@given(st.binary(max_size=3000), st.integers(1, 5))
def test_what_the_compressor_makes_inflates_to_what_went_in(data: bytes, times: int) -> None:
    import zlib

    assert zlib.decompress(deflate(data * times), -zlib.MAX_WBITS) == data * times


@given(
    st.dictionaries(
        st.sampled_from(
            ["demo/__init__.py", "demo/a,b.txt", 'demo/"q".py', "x.py", "demo/é.py", "{data}/purelib/p.py"]
        ),
        st.binary(max_size=200),
    ),
    st.sampled_from([STORED, DEFLATED]),
)
@settings(deadline=None)
def test_any_honest_wheel_ships_its_files_as_they_are(files: dict[str, bytes], method: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inventory = inspect(make_wheel(Path(folder), files=files, method=method))
        tree = package_tree(inventory, interpreter="/x")
        own = {entry.path: read_content(entry.content) for entry in tree if ".dist-info/" not in entry.path}
        assert own == {path.removeprefix("{data}/purelib/"): data for path, data in files.items()}
