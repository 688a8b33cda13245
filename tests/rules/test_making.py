"""Each rule about how a package was written: archives as careless tools and hostile hands write them."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from manylambda import rules
from manylambda.audits import Making, open_package, run
from manylambda.errors import UnsafeArchive
from manylambda.target import Target
from manylambda.tree import read_content
from rules.packages import elf, files, findings
from wheel_factory import BZIP2, LZMA, SYMLINK, Part, make_wheel, raw_zip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manylambda.audits import Finding

TARGET = "python3.13-x86_64"
UNIX = 0o100000


def audited(path: Path) -> tuple[Finding, ...]:
    package = open_package(path)
    report = run(
        package.tree,
        Target.parse(TARGET),
        rules.ALL,
        kind=package.kind,
        zipped_size=package.zipped_size,
        making=package.making,
    )
    return report.findings


def told(path: Path) -> list[tuple[str, str, str | None, str]]:
    return [(one.rule, one.severity.value, one.path, one.message) for one in audited(path)]


def written(tmp_path: Path, parts: Iterable[Part]) -> Path:
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip(parts))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a module, a package and a program, with the modes they should have."""
    root = tmp_path / "folder"
    (root / "pkg").mkdir(parents=True)
    (root / "app.py").write_text("import pkg.mod\n")
    (root / "pkg" / "mod.py").write_text("x = 1\n")
    for path in (root, root / "pkg"):
        path.chmod(0o755)
    for path in (root / "app.py", root / "pkg" / "mod.py"):
        path.chmod(0o644)
    return root


needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs a file system with modes")
needs_zip = pytest.mark.skipif(os.name != "posix" or not shutil.which("zip"), reason="needs Info-ZIP")


def info_zip(folder: Path, *flags: str) -> Path:
    archive = folder.parent / "made.zip"
    subprocess.run(["zip", "-qr", *flags, str(archive), "."], cwd=folder, check=True)
    return archive


# file-mode


@needs_zip
def test_file_mode_of_what_info_zip_made_of_a_folder(folder: Path) -> None:
    assert told(info_zip(folder)) == []
    (folder / "pkg" / "mod.py").chmod(0o640)
    (folder / "pkg").chmod(0o700)
    (folder.parent / "made.zip").unlink()
    assert told(info_zip(folder)) == [
        (
            "file-mode",
            "error",
            "pkg/mod.py",
            "is not readable by everybody (mode 0640): the function runs as another user than the owner",
        ),
        (
            "file-mode",
            "warning",
            "pkg",
            "is a folder not open to everybody (mode 0700): the function runs as another user than the owner",
        ),
    ]


def test_file_mode_of_what_writestr_made(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("app.py", "other.py", "data.json"):
            info = zipfile.ZipInfo(name)
            info.create_system = 3  # it is 0 on Windows
            archive.writestr(info, "")
    ((rule, severity, first, message),) = told(path)
    assert (rule, severity, first) == ("file-mode", "error", "app.py")
    assert message == (
        "3 files are not readable by everybody (mode 0600): the function runs as another user than the owner"
    )


def test_file_mode_of_data_or_without_a_mode_is_a_warning(tmp_path: Path) -> None:
    assert [one[:3] for one in told(written(tmp_path, [Part(name=b"data.json", mode=UNIX | 0o600)]))] == [
        ("file-mode", "warning", "data.json")
    ]
    ((_, severity, _, message),) = told(written(tmp_path, [Part(name=b"app.py", mode=0)]))
    assert (severity, message.partition(":")[0]) == (
        "warning", "is not readable by everybody (no mode in the archive)"
    )  # fmt: skip


def test_files_of_many_distributions_that_are_not_readable_are_told_once(tmp_path: Path) -> None:
    parts = []
    for name in ("one", "two", "three"):
        record = f"{name}.py,,\n".encode()
        parts += [Part(name=f"{name}.py".encode(), mode=UNIX | 0o600)]
        parts += [Part(name=f"{name}-1.0.dist-info/RECORD".encode(), data=record)]
    (finding,) = audited(written(tmp_path, parts))
    assert (finding.path, finding.distribution) == ("one.py", None)
    assert finding.message.startswith("3 files are not readable by everybody")


@needs_modes
@pytest.mark.parametrize(("mode", "is_told"), [(0o100644, False), (0o040644, True), (0o644, True)])
def test_file_mode_of_folders_as_other_tools_write_them(tmp_path: Path, mode: int, is_told: bool) -> None:
    # pex (and Pants with it) gives folders the mode of a file: 0100644.
    archive = tmp_path / "made.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, written in (("pkg/", mode), ("pkg/__init__.py", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, written << 16
            made.writestr(info, "")
    assert [one[0] for one in told(archive)] == (["file-mode"] if is_told else [])


def test_file_mode_of_a_folder_is_a_warning_as_it_is_yet_to_be_zipped(folder: Path) -> None:
    assert told(folder) == []
    (folder / "app.py").chmod(0o600)
    assert [one[:3] for one in told(folder)] == [("file-mode", "warning", "app.py")]


def test_file_mode_of_programs(tmp_path: Path) -> None:
    program, library = elf("program"), elf("plain.so")
    parts = [
        Part(name=b"tools/run", data=program),
        Part(name=b"lib/libplain.so", data=library),
        Part(name=b"bin/script", data=b"#!/bin/sh\n"),
        Part(name=b"bin/notes.txt", data=b"notes"),
    ]
    assert told(written(tmp_path, parts)) == [
        ("file-mode", "warning", "tools/run", "is a program not executable"),
        ("file-mode", "note", "bin/script", "is a program not executable"),
    ]
    right = [part if part.name == b"lib/libplain.so" else _executable(part) for part in parts]
    assert told(written(tmp_path, right)) == []
    on_windows = [Part(name=part.name, data=part.data, mode=UNIX | 0o755, create_system=0) for part in parts]
    assert told(written(tmp_path, on_windows))[0] == (
        "file-mode",
        "warning",
        "tools/run",
        "is a program not executable: the archive was made on Windows, which keeps no modes",
    )


def test_programs_of_a_layer_are_on_path(tmp_path: Path) -> None:
    parts = [Part(name=b"bin/tool", data=b"x"), Part(name=b"python/a.py")]
    assert told(written(tmp_path, parts)) == [("file-mode", "warning", "bin/tool", "is a program not executable")]


def _executable(part: Part) -> Part:
    return Part(name=part.name, data=part.data, mode=UNIX | 0o755)


def test_modes_of_a_wheel_are_set_by_its_installer(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {"demo/__init__.py": ""}, modes={"demo/__init__.py": UNIX | 0o600})
    assert told(wheel) == []


# path-unsafe


@pytest.mark.parametrize("name", [b"../evil.py", b"/etc/passwd", b"C:/x.py", b"a/../../x.py", b"\\\\host\\x.py"])
def test_path_unsafe_names_that_lead_out_are_left_out(tmp_path: Path, name: bytes) -> None:
    path = written(tmp_path, [Part(name=name, data=b"x"), Part(name=b"app.py")])
    assert told(path) == [("path-unsafe", "error", name.decode(), "has a name that leads out of the package")]
    assert [entry.path for entry in open_package(path).tree] == ["app.py"]


def test_path_unsafe_names_as_old_tools_on_windows_write_them_are_read_as_meant(tmp_path: Path) -> None:
    parts = [Part(name=b"pkg\\mod.py", data=b"x = 1", create_system=0), Part(name=b"pkg\\", create_system=0)]
    path = written(tmp_path, parts)
    assert told(path) == [
        (
            "path-unsafe",
            "error",
            "pkg\\mod.py",
            r"is written with `\` between its folders: on Lambda that is one file with a long name, no folder",
        )
    ]
    assert {entry.path: read_content(entry.content) for entry in open_package(path).tree} == {"pkg/mod.py": b"x = 1"}
    assert [one[:3] for one in told(written(tmp_path, [Part(name=b"a\\b.txt", create_system=0)]))] == [
        ("path-unsafe", "warning", "a\\b.txt")
    ]


def test_path_unsafe_names_that_cannot_be_shown_are_shown_escaped(tmp_path: Path) -> None:
    path = written(tmp_path, [Part(name=b"a\nb.py"), Part(name=b"c\0d.py")])
    assert told(path) == [
        (
            "path-unsafe",
            "warning",
            "a\\x0ab.py",
            "2 files have names of control characters, of no Unicode or without end: they were not looked at",
        )
    ]
    assert [one[:2] for one in told(written(tmp_path, [Part(name=b"a/" * 20_000 + b"b")]))] == [
        ("path-unsafe", "warning")
    ]


@pytest.mark.parametrize("name", [b"./app.py", b"pkg//mod.py", b"pkg/./mod.py"])
def test_path_unsafe_names_that_are_not_normal_are_read(tmp_path: Path, name: bytes) -> None:
    path = written(tmp_path, [Part(name=name)])
    assert [one[:3] for one in told(path)] == [("path-unsafe", "warning", name.decode())]
    assert [entry.path for entry in open_package(path).tree] == [os.path.normpath(name.decode()).replace(os.sep, "/")]


def test_path_unsafe_duplicates_are_told_where_their_bytes_differ(tmp_path: Path) -> None:
    twice = [Part(name=b"app.py", data=b"one"), Part(name=b"app.py", data=b"two")]
    assert told(written(tmp_path, twice)) == [
        (
            "path-unsafe",
            "warning",
            "app.py",
            "is in the archive more than once, with different bytes: the last counts",
        )
    ]
    assert told(written(tmp_path, [twice[0], twice[0]])) == []


def test_path_unsafe_a_file_that_is_also_a_folder(tmp_path: Path) -> None:
    path = written(tmp_path, [Part(name=b"pkg", data=b"x"), Part(name=b"pkg/mod.py")])
    assert [one[:3] for one in told(path)] == [("path-unsafe", "error", "pkg")]
    assert [entry.path for entry in open_package(path).tree] == ["pkg/mod.py"]


@pytest.mark.skipif(os.name != "posix" or not os.supports_bytes_environ, reason="needs names of any bytes")
def test_path_unsafe_names_of_a_folder(folder: Path) -> None:
    (folder / "a\\b.py").write_text("")
    os.mkdir(os.fsencode(folder) + b"/new\nline")
    open(os.fsencode(folder) + b"/latin\xe9.py", "w").close()
    for name in os.listdir(os.fsencode(folder)):
        os.chmod(os.fsencode(folder) + b"/" + name, 0o755)
    assert [one[:3] for one in told(folder)] == [
        ("path-unsafe", "error", "a\\b.py"),
        ("path-unsafe", "warning", "latin\\xdce9.py"),
    ]


# symlink


def link(name: bytes, target: bytes) -> Part:
    return Part(name=name, data=target, mode=SYMLINK | 0o777)


def test_symlink_within_the_package_is_what_it_leads_to(tmp_path: Path) -> None:
    parts = [
        Part(name=b"lib/libx.so.1.2", data=b"x"),
        link(b"lib/libx.so.1", b"libx.so.1.2"),
        link(b"lib64", b"lib"),
        link(b"deep/er/lib", b"../../lib64"),
        link(b"own", b"/var/task/lib"),
        link(b"here", b"."),
    ]
    path = written(tmp_path, parts)
    assert told(path) == []
    package = open_package(path)
    assert [entry.path for entry in package.tree] == sorted(
        f"{folder}/{name}" for folder in ("lib", "lib64", "deep/er/lib", "own") for name in ("libx.so.1", "libx.so.1.2")
    )
    assert run(package.tree, Target.parse(TARGET), (), making=package.making).unzipped_size == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (b"gone.py", "leads to `gone.py`, which is not in the package"),
        (b"../../etc/passwd", "leads to `../../etc/passwd`, outside of the package"),
        (b"/home/me/app.py", "leads to `/home/me/app.py`, outside of the package"),
        (b"app.py", "leads to `app.py` and so to itself"),
    ],
)
def test_symlink_to_what_will_not_be_there(tmp_path: Path, target: bytes, message: str) -> None:
    path = written(tmp_path, [link(b"app.py", target), Part(name=b"other.py")])
    assert told(path) == [("symlink", "error", "app.py", f"is a link that {message}")]
    data = written(tmp_path, [link(b"data.bin", target.replace(b"app.py", b"data.bin")), Part(name=b"other.py")])
    assert [one[:3] for one in told(data)] == [("symlink", "warning", "data.bin")]


def test_symlink_to_the_system_is_noted(tmp_path: Path) -> None:
    path = written(tmp_path, [link(b"cache", b"/tmp/cache"), Part(name=b"other.py")])
    assert [one[:3] for one in told(path)] == [("symlink", "note", "cache")]


@needs_zip
def test_symlink_of_a_tool_that_links_into_its_cache(folder: Path) -> None:
    cache = folder.parent / "cache"
    cache.mkdir()
    shutil.move(folder / "pkg" / "mod.py", cache / "mod.py")
    (folder / "pkg" / "mod.py").symlink_to(cache / "mod.py")
    assert [one[:3] for one in told(info_zip(folder, "-y"))] == [("symlink", "error", "pkg/mod.py")]
    assert [one[:3] for one in told(folder)] == [("symlink", "error", "pkg/mod.py")]
    (folder.parent / "made.zip").unlink()
    assert told(info_zip(folder)) == []


def test_links_cannot_multiply_files_without_end(tmp_path: Path) -> None:
    parts = [Part(name=f"0/{number}.txt".encode()) for number in range(300)]
    parts += [link(f"{number}".encode(), b"0") for number in range(1, 300)]
    assert len(open_package(written(tmp_path, parts)).tree) == 50_300
    chained = [Part(name=b"0/a.txt"), *(link(f"0/{n}".encode(), f"../{n}".encode()) for n in range(1, 30))]
    chained += [link(f"{n}".encode(), f"{n - 1}".encode()) for n in range(1, 30)]
    assert len(open_package(written(tmp_path, chained)).tree) < 1000


# zip-method


@pytest.mark.parametrize(
    ("method", "name", "is_read"),
    [(BZIP2, "bzip2", True), (LZMA, "LZMA", True), (9, "deflate64", False), (93, "Zstandard", False)],
)
def test_zip_method(tmp_path: Path, method: int, name: str, is_read: bool) -> None:
    path = written(tmp_path, [Part(name=b"app.py", data=b"x = 1\n" * 100, method=method), Part(name=b"b.py")])
    assert told(path) == [
        ("zip-method", "error", "app.py", f"is compressed with {name}: Lambda unpacks what is stored or deflated")
    ]
    assert len(open_package(path).tree) == 1 + is_read
    assert told(written(tmp_path, [Part(name=b"app.py", method=0), Part(name=b"b.py", method=8)])) == []


def test_zip_method_of_encrypted_files(tmp_path: Path) -> None:
    path = written(tmp_path, [Part(name=b"app.py", data=b"x" * 20, flags=1)])
    assert told(path) == [("zip-method", "error", "app.py", "is encrypted: Lambda has no password for it")]


def test_odd_methods_are_unpacked_within_bounds(tmp_path: Path) -> None:
    bomb = Part(name=b"a.py", data=bytes(1 << 20), method=BZIP2, size=300 << 20)
    assert len(open_package(written(tmp_path, [bomb])).tree) == 0


def test_archives_that_unpack_to_more_than_any_package_are_refused(tmp_path: Path) -> None:
    parts = [Part(name=f"{n}.bin".encode(), data=b"", size=0xFFFFFFF0) for n in range(2)]
    with pytest.raises(UnsafeArchive) as raised:
        open_package(written(tmp_path, parts))
    assert raised.value.message == "`x.zip` unpacks to over 4 GiB: no package of Lambda has"


# zip64


def test_zip64_of_a_streaming_writer(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("app.py")
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        with archive.open(info, "w", force_zip64=True) as stream:
            stream.write(b"x = 1")
    assert told(path) == [
        (
            "zip64",
            "warning",
            "app.py",
            "is written as zip64, without need; Lambda was seen to refuse such archives at times",
        )
    ]


def test_zip64_at_the_end_of_an_archive(tmp_path: Path) -> None:
    data = raw_zip([Part(name=b"app.py")])
    at = data.index(b"PK\5\6")
    size = int.from_bytes(data[at + 12 : at + 16], "little")
    start = int.from_bytes(data[at + 16 : at + 20], "little")
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, start)
    path = tmp_path / "x.zip"
    path.write_bytes(data[:at] + end64 + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1) + data[at:])
    assert [one[3] for one in told(path)] == [
        "the archive ends in records of zip64, without need; Lambda was seen to refuse such archives at times"
    ]


def test_zip64_for_the_number_of_members() -> None:
    assert findings(TARGET, files({"app.py": ""}), making=Making(members=65_534)) == ()
    (finding,) = findings(TARGET, files({"app.py": ""}), making=Making(members=65_535))
    assert (finding.rule, finding.path) == ("zip64", None)
    assert finding.message.startswith("the archive has 65,535 members: from 65,535 on it needs zip64; ")
