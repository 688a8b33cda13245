"""Honest wheels: what an inventory says of them and how they lie in a package."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from manylambda.archive import write_directory, write_zip
from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, Span, overlay, read_content
from manylambda.wheels.inventory import EntryPoint, Inventory, inspect, needs_repack, repack
from manylambda.wheels.layout import left_out, package_tree
from wheel_factory import (
    BZIP2,
    LZMA,
    REGULAR,
    STORED,
    changed,
    make_record,
    make_wheel,
    record_digest,
    wheel_parts,
    write_parts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.tree import PackageTree

INTERPRETER = "/var/lang/bin/python3.13"


def tree_of(wheel: Path, *, scripts: bool = False) -> PackageTree:
    return package_tree(inspect(wheel), interpreter=INTERPRETER, scripts=scripts)


def paths(tree: PackageTree) -> list[str]:
    return [entry.path for entry in tree]


def bytes_at(tree: PackageTree, path: str) -> bytes:
    entry = tree.get(path)
    assert entry is not None, path
    return read_content(entry.content)


def assert_record_is_true(tree: PackageTree, dist_info: str) -> None:
    """Hold every row of RECORD against the tree's own bytes, and every file against RECORD."""
    text = bytes_at(tree, f"{dist_info}/RECORD").decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[-1] == [f"{dist_info}/RECORD", "", ""]
    assert [row[0] for row in rows[:-1]] == sorted(row[0] for row in rows[:-1])
    assert sorted(row[0] for row in rows) == paths(tree)
    for path, digest, size in rows[:-1]:
        data = bytes_at(tree, path)
        assert (digest, size) == (f"sha256={record_digest(data)}", str(len(data))), path


# --- the inventory ---


def test_an_inventory_tells_what_the_wheel_says_of_itself(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "Demo-Lib",
        "1.0",
        {"demo_lib/__init__.py": "", "demo_lib/tool": "#!/bin/sh\n"},
        tags=("cp313-cp313-manylinux_2_17_aarch64", "cp313-cp313-manylinux2014_aarch64"),
        requires=("six>=1.0", 'attrs; extra == "more"'),
        requires_python=">=3.9",
        extras=("more",),
        entry_points="[console_scripts]\nzeta = demo_lib:main\nalpha = demo_lib.sub : app.run [more]\n\n"
        "[gui_scripts]\ndemo-gui=demo_lib:gui\n\n[other]\nx = demo_lib:no\n",
        modes={"demo_lib/tool": 0o755},
    )
    inventory = inspect(wheel)
    assert inventory.file == wheel
    assert (inventory.name, inventory.version, inventory.dist_info) == ("demo-lib", "1.0", "Demo_Lib-1.0.dist-info")
    assert inventory.tags == ("cp313-cp313-manylinux_2_17_aarch64", "cp313-cp313-manylinux2014_aarch64")
    assert inventory.requires == ("six>=1.0", 'attrs; extra == "more"')
    assert (inventory.requires_python, inventory.extras) == (">=3.9", ("more",))
    assert inventory.entry_points == (
        EntryPoint(name="alpha", module="demo_lib.sub", attribute="app.run"),
        EntryPoint(name="demo-gui", module="demo_lib", attribute="gui"),
        EntryPoint(name="zeta", module="demo_lib", attribute="main"),
    )
    assert [(member.path, member.executable) for member in inventory.members] == [
        ("Demo_Lib-1.0.dist-info/METADATA", False),
        ("Demo_Lib-1.0.dist-info/WHEEL", False),
        ("Demo_Lib-1.0.dist-info/entry_points.txt", False),
        ("demo_lib/__init__.py", False),
        ("demo_lib/tool", True),
    ]
    assert (inventory.unrecorded, inventory.absent, inventory.is_pure) == ((), (), False)
    with zipfile.ZipFile(wheel) as archive:
        record = f"{inventory.dist_info}/RECORD"
        assert inventory.unzipped_size == sum(i.file_size for i in archive.infolist() if i.filename != record)


def test_an_inventory_survives_the_cache(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.py": "x = 1\n"}, entry_points="[console_scripts]\ndemo = demo:main\n")
    inventory = inspect(wheel)
    moved = tmp_path / "elsewhere"
    text = json.dumps(inventory.to_json())
    assert str(tmp_path) not in text
    again = Inventory.from_json(json.loads(text), wheel)
    assert again == inventory
    assert Inventory.from_json(json.loads(text), moved).file == moved


def test_compressed_tag_sets_are_expanded(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, tags=("py2.py3-none-any",))
    assert inspect(wheel).tags == ("py2-none-any", "py3-none-any")
    assert inspect(wheel).is_pure


def test_a_wheel_kept_under_another_name_is_read_by_its_own(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0")
    kept = wheel.rename(tmp_path / "0123abcd")
    assert inspect(kept, wheel.name).name == "demo"
    with pytest.raises(UnsafeArchive) as error:
        inspect(kept)
    assert error.value.message.startswith("`0123abcd` is not the name of a wheel: ")


@pytest.mark.parametrize(
    ("stem", "filename"),
    [
        ("Demo.Lib-1.0", "demo_lib-1.0-py3-none-any.whl"),
        ("demo_lib-1.0", "Demo_Lib-1.0.0-py3-none-any.whl"),
        ("demo-lib-1.0", "demo_lib-1.0-py3-none-any.whl"),
    ],
)
def test_a_dist_info_folder_may_be_spelt_as_an_equal_name(tmp_path: Path, stem: str, filename: str) -> None:
    parts = [part for part in wheel_parts("demo_lib", "1.0", {"x.py": ""}) if not part.name.endswith(b"RECORD")]
    files = {part.name.replace(b"demo_lib-1.0", stem.encode()).decode(): part.data for part in parts}
    files[f"{stem}.dist-info/RECORD"] = make_record(files, f"{stem}.dist-info/RECORD")
    with zipfile.ZipFile(tmp_path / filename, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    assert inspect(tmp_path / filename).dist_info == f"{stem}.dist-info"


def test_local_versions_and_build_tags_are_understood(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0+cpu.2", filename="demo-1.0+cpu.2-3abc-py3-none-any.whl")
    assert inspect(wheel).version == "1.0+cpu.2"


def test_files_that_record_does_not_list_are_told(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {"demo.py": "x = 1\n"})
    extra = wheel_parts("demo", "1.0", {"extra.py": "", "z.py": ""})
    wheel = write_parts(
        tmp_path / "demo-1.0-py3-none-any.whl", [*parts, *(p for p in extra if p.name.endswith(b".py"))]
    )
    inventory = inspect(wheel)
    assert (inventory.unrecorded, inventory.absent) == (("extra.py", "z.py"), ())
    tree = package_tree(inventory, interpreter=INTERPRETER)
    assert_record_is_true(tree, "demo-1.0.dist-info")


def test_rows_of_files_that_are_not_there_are_told_and_left_out(tmp_path: Path) -> None:
    record = "demo-1.0.dist-info/RECORD"
    text = make_record({"gone.py": b"x", "a,b.py": b""}, record).decode() + "folder/,,\n\n"
    inventory = inspect(make_wheel(tmp_path, files={record: text}))
    assert inventory.absent == ("a,b.py", "gone.py")
    tree = package_tree(inventory, interpreter=INTERPRETER)
    assert_record_is_true(tree, "demo-1.0.dist-info")


@pytest.mark.parametrize("hash_name", ["sha384", "sha512"])
def test_stronger_hashes_in_record_are_verified_and_written_as_sha256(tmp_path: Path, hash_name: str) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"demo.py": "x = 1\n"}, hash_name=hash_name))
    assert_record_is_true(tree, "demo-1.0.dist-info")


def test_a_wrong_size_in_record_is_mended_since_the_hash_holds(tmp_path: Path) -> None:
    record = "demo-1.0.dist-info/RECORD"
    parts = wheel_parts("demo", "1.0", {"demo.py": "x = 1\n"})
    data = next(part.data for part in parts if part.name.decode() == record)
    wheel = write_parts(
        tmp_path / "demo-1.0-py3-none-any.whl", changed(parts, record, data=data.replace(b",6\n", b",7\n"))
    )
    assert_record_is_true(tree_of(wheel), "demo-1.0.dist-info")


def test_signatures_of_record_are_not_shipped_since_it_is_written_anew(tmp_path: Path) -> None:
    info = "demo-1.0.dist-info"
    tree = tree_of(make_wheel(tmp_path, files={f"{info}/RECORD.jws": "{}", f"{info}/RECORD.p7s": "x"}))
    assert paths(tree) == [f"{info}/METADATA", f"{info}/RECORD", f"{info}/WHEEL"]
    assert_record_is_true(tree, info)


# --- the tree ---


def test_a_wheel_is_laid_out_at_the_root_with_its_dist_info(tmp_path: Path) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"demo/__init__.py": "x = 1\n", "demo/data.txt": "data"}))
    assert paths(tree) == [
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/RECORD",
        "demo-1.0.dist-info/WHEEL",
        "demo/__init__.py",
        "demo/data.txt",
    ]
    assert {entry.origin for entry in tree} == {"demo"}
    assert bytes_at(tree, "demo/__init__.py") == b"x = 1\n"
    assert_record_is_true(tree, "demo-1.0.dist-info")


def test_members_are_references_into_the_wheel_and_not_copies(tmp_path: Path) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"demo.py": "x = 1\n"}))
    assert [entry.path for entry in tree if not isinstance(entry.content, Span)] == ["demo-1.0.dist-info/RECORD"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o644, MODE_FILE), (0o600, MODE_FILE), (0o000, MODE_FILE), (0o666, MODE_FILE), (0o4644, MODE_FILE),
     (0o755, MODE_EXECUTABLE), (0o700, MODE_EXECUTABLE), (0o777, MODE_EXECUTABLE), (0o4755, MODE_EXECUTABLE)],
)  # fmt: skip
def test_modes_become_0644_or_0755(tmp_path: Path, mode: int, expected: int) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"demo/tool": "x"}, modes={"demo/tool": mode}))
    entry = tree.get("demo/tool")
    assert entry is not None
    assert entry.mode == expected


@pytest.mark.parametrize("create_system", [0, 3, 19])
@pytest.mark.parametrize("mode", [0, 0o755, REGULAR | 0o755])
def test_the_executable_bit_counts_whatever_system_made_the_wheel(
    tmp_path: Path, create_system: int, mode: int
) -> None:
    parts = changed(wheel_parts("demo", "1.0", {"tool": "x"}), "tool", create_system=create_system, mode=mode)
    entry = tree_of(write_parts(tmp_path / "demo-1.0-py3-none-any.whl", parts)).get("tool")
    assert entry is not None
    assert entry.mode == (MODE_EXECUTABLE if mode else MODE_FILE)


def test_data_folders_go_where_pip_target_puts_them(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        files={
            "{data}/purelib/pure.py": "pure",
            "{data}/platlib/plat/__init__.py": "plat",
            "{data}/data/share/demo/x.txt": "data",
            "{data}/scripts/tool": "#!/bin/sh\n",
            "{data}/headers/demo.h": "int x;",
            "{data}/unknown/y": "y",
        },
    )
    inventory = inspect(wheel)
    tree = package_tree(inventory, interpreter=INTERPRETER)
    dist_info = [f"demo-1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL")]
    assert paths(tree) == [*dist_info, "plat/__init__.py", "pure.py", "share/demo/x.txt"]
    assert_record_is_true(tree, "demo-1.0.dist-info")
    out = [f"demo-1.0.data/{rest}" for rest in ("headers/demo.h", "scripts/tool", "unknown/y")]
    assert list(left_out(inventory, scripts=False)) == out
    assert list(left_out(inventory, scripts=True)) == [out[0], out[2]]
    with_scripts = package_tree(inventory, interpreter=INTERPRETER, scripts=True)
    assert set(paths(with_scripts)) - set(paths(tree)) == {"bin/tool"}
    assert_record_is_true(with_scripts, "demo-1.0.dist-info")


def test_a_data_folder_may_be_spelt_as_an_equal_name_and_another_one_is_a_plain_folder(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "Demo-Lib",
        "1.0",
        {"demo_lib-1.0.data/purelib/a.py": "", "other-1.0.data/purelib/b.py": "", "x.data/y": ""},
    )
    assert [path for path in paths(tree_of(wheel)) if ".dist-info" not in path] == [
        "a.py",
        "other-1.0.data/purelib/b.py",
        "x.data/y",
    ]


@pytest.mark.parametrize("scripts", [False, True])
def test_data_that_lands_in_bin_is_data_and_no_script(tmp_path: Path, scripts: bool) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"{data}/data/bin/tool": "#!python\n"}), scripts=scripts)
    entry = tree.get("bin/tool")
    assert entry is not None
    assert (entry.mode, read_content(entry.content)) == (MODE_FILE, b"#!python\n")


def test_a_file_named_like_a_scheme_goes_nowhere(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"{data}/purelib": "x", "{data}/scripts": "y"})
    inventory = inspect(wheel)
    assert left_out(inventory, scripts=True) == ("demo-1.0.data/purelib", "demo-1.0.data/scripts")
    assert len(package_tree(inventory, interpreter=INTERPRETER, scripts=True)) == 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("#!python\nprint(1)\n", f"#!{INTERPRETER}\nprint(1)\n"),
        ("#!pythonw\nprint(1)\n", f"#!{INTERPRETER}\nprint(1)\n"),
        ("#!python3.11 -E\r\nprint(1)\r\n", f"#!{INTERPRETER}\nprint(1)\r\n"),
        ("#!python", f"#!{INTERPRETER}\n"),
        ("#!/usr/bin/env python\nprint(1)\n", "#!/usr/bin/env python\nprint(1)\n"),
        ("#!/bin/sh\n", "#!/bin/sh\n"),
        ("", ""),
        ("\x7fELF", "\x7fELF"),
    ],
)
def test_only_the_placeholder_shebang_is_rewritten(tmp_path: Path, script: str, expected: str) -> None:
    wheel = make_wheel(tmp_path, files={"{data}/scripts/tool": script}, modes={"{data}/scripts/tool": 0o644})
    tree = tree_of(wheel, scripts=True)
    entry = tree.get("bin/tool")
    assert entry is not None
    assert entry.mode == MODE_EXECUTABLE
    assert read_content(entry.content).decode() == expected
    assert_record_is_true(tree, "demo-1.0.dist-info")


def test_console_and_gui_scripts_are_written_only_when_asked_for(tmp_path: Path) -> None:
    points = "[console_scripts]\ndemo = demo.cli:app.main [extra]\n[gui_scripts]\ndemo.gui = demo:gui\n"
    wheel = make_wheel(tmp_path, files={"demo/__init__.py": ""}, entry_points=points)
    assert not any(path.startswith("bin/") for path in paths(tree_of(wheel)))
    tree = tree_of(wheel, scripts=True)
    assert [path for path in paths(tree) if path.startswith("bin/")] == ["bin/demo", "bin/demo.gui"]
    assert bytes_at(tree, "bin/demo").decode() == (
        "#!/var/lang/bin/python3.13\nimport sys\nfrom demo.cli import app\n"
        'if __name__ == "__main__":\n    sys.exit(app.main())\n'
    )
    assert_record_is_true(tree, "demo-1.0.dist-info")


def test_a_launcher_wins_over_a_script_of_its_name_as_with_pip(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        files={"demo.py": "", "{data}/scripts/demo": "#!python\nold"},
        entry_points="[console_scripts]\ndemo = demo:main\n[gui_scripts]\ndemo = demo:gui\n",
    )
    tree = tree_of(wheel, scripts=True)
    assert b"from demo import main" in bytes_at(tree, "bin/demo")
    assert left_out(inspect(wheel), scripts=True) == ("demo-1.0.data/scripts/demo",)


@pytest.mark.parametrize(
    "line",
    ["..=demo:main", ".=demo:main", "../x=demo:main", "a/b=demo:main", "-x=demo:main", "x=demo", "x=demo:",
     "x=demo:main;import os", "x=demo:main()", "x=de mo:main", "x=demo..a:main", "x=1:2", "x=demo:main\n  more"],
)  # fmt: skip
def test_entry_points_that_name_no_function_or_no_file_become_no_script(tmp_path: Path, line: str) -> None:
    text = f"[DEFAULT]\nlent = demo:main\n[console_scripts]\n{line}\ngood = demo:main\n"
    wheel = make_wheel(tmp_path, files={"demo.py": ""}, entry_points=text)
    assert [point.name for point in inspect(wheel).entry_points] == ["good"]


def test_an_entry_points_file_that_is_no_ini_file_is_passed_over(tmp_path: Path) -> None:
    assert inspect(make_wheel(tmp_path, entry_points="not an ini file")).entry_points == ()


def test_names_with_commas_quotes_and_spaces_are_quoted_in_record(tmp_path: Path) -> None:
    names = ["demo/a,b.txt", 'demo/say "hi".txt', "demo/with space.txt", "demo/ünï.txt", "demo/日本,語.txt"]
    tree = tree_of(make_wheel(tmp_path, files={name: name for name in names}))
    assert_record_is_true(tree, "demo-1.0.dist-info")
    assert '"demo/say ""hi"".txt",sha256=' in bytes_at(tree, "demo-1.0.dist-info/RECORD").decode()


def test_names_that_differ_in_case_are_two_files_as_on_lambda(tmp_path: Path) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"Demo/A.py": "1", "demo/a.py": "2", "demo/A.py": "3"}))
    assert [bytes_at(tree, path) for path in ("Demo/A.py", "demo/A.py", "demo/a.py")] == [b"1", b"3", b"2"]
    write_zip(tree, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.read("demo/A.py") == b"3"


def test_folder_members_are_allowed_and_not_shipped(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo/x.py": ""})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.mkdir("demo")
        archive.mkdir("empty")
    assert [path for path in paths(tree_of(wheel)) if "dist-info" not in path] == ["demo/x.py"]


# --- odd but honest zips ---


def test_zip64_wheels_are_read_and_written_without_zip64(tmp_path: Path) -> None:
    from dataclasses import replace

    parts = [replace(part, zip64=True) for part in wheel_parts("demo", "1.0", {"demo.py": "x = 1\n" * 99})]
    wheel = write_parts(tmp_path / "demo-1.0-py3-none-any.whl", parts)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo("demo.py").extra
    tree = tree_of(wheel)
    assert_record_is_true(tree, "demo-1.0.dist-info")
    plain = make_wheel(tmp_path / "plain", files={"demo.py": "x = 1\n" * 99})
    assert write_zip(tree, tmp_path / "a.zip").sha256 == write_zip(tree_of(plain), tmp_path / "b.zip").sha256


def test_data_descriptors_and_extra_fields_are_read_and_not_copied(tmp_path: Path) -> None:
    from dataclasses import replace

    parts = [
        replace(part, descriptor=True, local_extra=b"UT\5\0\1ABCD", extra=b"UT\5\0\1ABCD")
        for part in wheel_parts("demo", "1.0", {"demo.py": "x = 1\n" * 99})
    ]
    tree = tree_of(write_parts(tmp_path / "demo-1.0-py3-none-any.whl", parts))
    plain = make_wheel(tmp_path / "plain", files={"demo.py": "x = 1\n" * 99})
    assert write_zip(tree, tmp_path / "a.zip").sha256 == write_zip(tree_of(plain), tmp_path / "b.zip").sha256


def test_a_wheel_written_to_a_pipe_by_the_standard_library_is_read(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in wheel_parts("demo", "1.0", {"demo.py": "x = 1\n"}):
            archive.writestr(part.name.decode(), part.data)
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(pipe.written)
    assert_record_is_true(tree_of(wheel), "demo-1.0.dist-info")


def test_bytes_before_the_archive_and_a_comment_after_it_are_skipped(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {"demo.py": "x = 1\n"})
    wheel = write_parts(tmp_path / "demo-1.0-py3-none-any.whl", parts, prefix=b"#!/bin/sh\nexit\n", comment=b"hello")
    assert bytes_at(tree_of(wheel), "demo.py") == b"x = 1\n"


def test_stored_members_are_shipped_as_they_are(tmp_path: Path) -> None:
    tree = tree_of(make_wheel(tmp_path, files={"demo.py": "x = 1\n" * 99}, method=STORED))
    write_zip(tree, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.getinfo("demo.py").compress_type == STORED
        assert archive.read("demo.py") == b"x = 1\n" * 99


@pytest.mark.parametrize("method", [BZIP2, LZMA])
def test_bzip2_and_lzma_members_are_repacked(tmp_path: Path, method: int) -> None:
    files: dict[str, str | bytes] = {"demo/__init__.py": "x = 1\n" * 99, "demo/tool": "#!/bin/sh\n", "demo/empty": ""}
    odd = make_wheel(tmp_path, files=files, method=method, modes={"demo/tool": 0o755})
    assert needs_repack(odd)
    with pytest.raises(UnsafeArchive) as error:
        inspect(odd)
    assert error.value.message == f"`{odd.name}` must be repacked before it is inspected"
    repacked = tmp_path / "repacked" / odd.name
    repack(odd, repacked)
    assert not needs_repack(repacked)
    plain = make_wheel(tmp_path / "plain", files=files, modes={"demo/tool": 0o755})
    assert not needs_repack(plain)
    tree, expected = tree_of(repacked), tree_of(plain)
    assert [(e.path, e.mode, read_content(e.content)) for e in tree] == [
        (e.path, e.mode, read_content(e.content)) for e in expected
    ]


def test_repacking_gives_the_same_bytes_whoever_compressed_the_wheel(tmp_path: Path) -> None:
    files = {"demo.py": "x = 1\n" * 500}
    digests = set()
    for number, method in enumerate((STORED, 8, BZIP2, LZMA)):
        repack(make_wheel(tmp_path / str(number), files=files, method=method), tmp_path / f"{number}.whl")
        digests.add(hashlib.sha256((tmp_path / f"{number}.whl").read_bytes()).hexdigest())
    assert len(digests) == 1


# --- two wheels ---


def test_two_wheels_that_ship_the_same_file(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", "1", {"shared/__init__.py": "same", "shared/x.py": "one"})
    two = make_wheel(tmp_path, "two", "2", {"shared/__init__.py": "same", "shared/x.py": "two", "shared/y.py": ""})
    tree, collisions = overlay((tree_of(one), tree_of(two)))
    assert [(c.path, c.kept, c.dropped) for c in collisions] == [("shared/x.py", "one", "two")]
    assert bytes_at(tree, "shared/x.py") == b"one"
    assert [entry.origin for entry in tree if entry.path == "shared/y.py"] == ["two"]


def test_one_wheel_that_brings_a_path_twice_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo.py": "1", "{data}/purelib/demo.py": "2"})
    with pytest.raises(PackagingError) as error:
        tree_of(wheel)
    assert error.value.message == "`demo` brings `demo.py` twice"


# --- the result works ---

PROBE = """
import importlib.metadata as m, json, sys
sys.path.insert(0, sys.argv[1])
import demo_lib
d = m.distribution("demo-lib")
print(json.dumps({
    "value": demo_lib.value,
    "version": m.version("demo-lib"),
    "requires": m.requires("demo-lib"),
    "points": [(p.name, p.group, p.load()()) for p in d.entry_points],
    "files": sorted(str(f).replace("\\\\", "/") for f in d.files),
    "hashes": all(f.hash is None or f.hash.mode == "sha256" for f in d.files),
    "exist": all(f.locate().is_file() for f in d.files),
}))
"""


@pytest.mark.parametrize("kind", ["dir", "zip", "unpacked zip"])
def test_importlib_metadata_works_on_the_result(tmp_path: Path, kind: str) -> None:
    wheel = make_wheel(
        tmp_path,
        "demo-lib",
        "1.2",
        {
            "demo_lib/__init__.py": "from demo_lib.sub import value\ndef main(): return 'ran'\n",
            "{data}/purelib/demo_lib/sub.py": "value = 42\n",
            "demo_lib/a,b.txt": "",
        },
        requires=("six",),
        entry_points="[console_scripts]\ndemo = demo_lib:main\n",
    )
    tree = tree_of(wheel, scripts=True)
    if kind == "dir":
        place = write_directory(tree, tmp_path / "task").path
    else:
        place = write_zip(tree, tmp_path / "task.zip").path
        if kind == "unpacked zip":
            with zipfile.ZipFile(place) as archive:
                archive.extractall(tmp_path / "unpacked")
            place = tmp_path / "unpacked"
    probe = PROBE if kind != "zip" else PROBE.replace("all(f.locate().is_file() for f in d.files)", "True")
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe, str(place)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "value": 42,
        "version": "1.2",
        "requires": ["six"],
        "points": [["demo", "console_scripts", "ran"]],
        "files": [entry.path for entry in tree],
        "hashes": True,
        "exist": True,
    }
    if kind == "dir" and os.name == "posix":
        launcher = (place / "bin" / "demo").read_text()
        assert launcher.splitlines()[0] == f"#!{INTERPRETER}"
        run = [sys.executable, str(place / "bin" / "demo")]
        done = subprocess.run(
            run, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "ran\n")  # sys.exit("ran") tells and fails


def test_the_python_installer_agrees_with_the_layout(tmp_path: Path) -> None:
    installer = pytest.importorskip("installer")
    from installer.destinations import SchemeDictionaryDestination
    from installer.sources import WheelFile

    wheel = make_wheel(
        tmp_path,
        files={"demo/__init__.py": "x = 1\n", "{data}/purelib/p.py": "", "{data}/data/share/x": "",
               "{data}/scripts/tool": "#!python\nprint(1)\n"},
        entry_points="[console_scripts]\ndemo = demo:main\n",
    )  # fmt: skip
    root = tmp_path / "installed"
    schemes = {name: str(root) for name in ("purelib", "platlib", "data")}
    schemes |= {"scripts": str(root / "bin"), "headers": str(tmp_path / "headers")}
    destination = SchemeDictionaryDestination(
        schemes, interpreter=INTERPRETER, script_kind="posix", overwrite_existing=True
    )
    with WheelFile.open(wheel) as source:
        installer.install(source, destination, additional_metadata={})
    tree = tree_of(wheel, scripts=True)
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert found == paths(tree)
    for entry in tree:
        if entry.path not in {"bin/demo", "demo-1.0.dist-info/RECORD"}:
            assert (root / entry.path).read_bytes() == read_content(entry.content), entry.path


# --- real wheels ---


def _downloaded(tmp_path: Path, requirement: str, *more: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(tmp_path),
         "--disable-pip-version-check", *more, requirement],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"cannot download {requirement}: {done.stderr[-200:]}")
    return next(tmp_path.glob("*.whl"))


REAL = {
    "six": ("six==1.17.0", (), "six.py"),
    "0600 members": ("fastapi==0.165.0", (), "fastapi/__init__.py"),
    "a data folder": ("ruff==0.12.0", ("--platform=manylinux_2_17_aarch64",), "ruff/__init__.py"),
    "headers and scripts": (
        "greenlet==3.2.3",
        ("--python-version=3.13", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_24_x86_64",
         "--abi=cp313", "--implementation=cp"),
        "greenlet/__init__.py",
    ),
}  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("name", REAL)
def test_real_wheels_are_laid_out_truly(tmp_path: Path, name: str) -> None:
    requirement, options, expected = REAL[name]
    wheel = _downloaded(tmp_path, requirement, *options)
    inventory = inspect(wheel)
    tree = package_tree(inventory, interpreter=INTERPRETER, scripts=True)
    assert tree.get(expected) is not None
    assert {entry.mode for entry in tree} <= {MODE_FILE, MODE_EXECUTABLE}
    assert_record_is_true(tree, inventory.dist_info)
    assert sum(isinstance(entry.content, Bytes) for entry in tree) <= 1 + len(inventory.entry_points) + 2
    write_zip(tree, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == paths(tree)
    if name == "a data folder":
        entry = tree.get("bin/ruff")
        assert entry is not None
        assert entry.mode == MODE_EXECUTABLE
    if name == "0600 members":
        with zipfile.ZipFile(wheel) as archive:
            modes = {(info.external_attr >> 16) & 0o777 for info in archive.infolist()}
        assert any(not mode & 0o004 for mode in modes), modes
