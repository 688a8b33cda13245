"""Packages that other tools made are opened safely, and a report is the same whoever asks, in whatever order."""

from __future__ import annotations

import json
import os
import random
import re
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manylambda
from manylambda.audits import (
    Finding,
    Report,
    Rule,
    Severity,
    Subject,
    native_facts,
    open_package,
    open_tree,
    read_distributions,
    run,
)
from manylambda.elf import ElfFile, Malformed
from manylambda.errors import PackagingError, RequestError, UnsafeArchive
from manylambda.rules import ALL
from manylambda.target import Target
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    Bytes,
    DiskFile,
    Entry,
    PackageTree,
    Span,
    read_content,
)
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ELF = Path(__file__).parent / "elf" / "data"
SCHEMA = json.loads((Path(manylambda.__file__).parent / "data" / "audit-output.schema.json").read_text("utf-8"))
X86 = Target.parse("python3.13-x86_64")


def zipped(path: Path, contents: Mapping[str, bytes | str], **attributes: int) -> Path:
    with zipfile.ZipFile(path, "w", attributes.get("method", zipfile.ZIP_DEFLATED)) as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = attributes.get("mode", 0o100644) << 16
            info.compress_type = archive.compression
            archive.writestr(info, data)
    return path


def with_link(path: Path, name: str, target: str) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)


def contents_of(tree: PackageTree) -> dict[str, bytes]:
    return {entry.path: read_content(entry.content) for entry in tree}


def test_a_zip_is_opened_without_unpacking(tmp_path: Path) -> None:
    path = zipped(tmp_path / "f.zip", {"app.py": "x = 1\n" * 100, "lib/a.so": b"\0"}, mode=0o100755)
    package = open_package(path)
    assert (package.kind, package.zipped_size, package.symlinks) == ("zip", path.stat().st_size, {})
    assert contents_of(package.tree) == {"app.py": b"x = 1\n" * 100, "lib/a.so": b"\0"}
    assert {type(entry.content) for entry in package.tree} == {Span}
    assert {(entry.mode, entry.origin) for entry in package.tree} == {(MODE_EXECUTABLE, "project")}


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["python/a.py", "lib/x.so"], "layer"), (["python/a.py", "app.py"], "zip"), (["lib/x.so"], "zip")],
)
def test_a_layer_is_known_by_its_folders(tmp_path: Path, names: list[str], kind: str) -> None:
    assert open_package(zipped(tmp_path / "x.zip", dict.fromkeys(names, ""))).kind == kind


def test_files_know_the_distribution_whose_record_lists_them(tmp_path: Path) -> None:
    record = 'demo/__init__.py,,\n"demo/a,b.py",,\n../../bin/demo,,\nDemo_Pkg-1.0.dist-info/RECORD,,\n'
    contents = {"demo/__init__.py": "", "demo/a,b.py": "", "app.py": "", "Demo_Pkg-1.0.dist-info/RECORD": record}
    for prefix in ("", "python/"):
        path = zipped(tmp_path / "x.zip", {prefix + name: data for name, data in contents.items()})
        assert {entry.path.removeprefix(prefix): entry.origin for entry in open_tree(path)} == {
            "Demo_Pkg-1.0.dist-info/RECORD": "demo-pkg",
            "app.py": "project",
            "demo/__init__.py": "demo-pkg",
            "demo/a,b.py": "demo-pkg",
        }


def test_what_a_distribution_brings_along_of_others_is_its_own(tmp_path: Path) -> None:
    inner = {"demo/_vendor/six.py": "", "demo/_vendor/six-1.dist-info/RECORD": "six.py,,\nbin/six,,\n"}
    package = open_package(make_wheel(tmp_path, "demo", "1.0", {"demo/__init__.py": "", **inner}))
    assert {entry.origin for entry in package.tree} == {"demo"}
    assert [record.dist_info for record in package.making.records] == ["demo-1.0.dist-info"]


def test_a_wheel_lies_as_it_would_be_installed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {"demo/__init__.py": "", "{data}/purelib/extra.py": ""})
    package = open_package(wheel)
    assert package.kind == "wheel"
    assert [entry.path for entry in package.tree if entry.path.endswith(".py")] == ["demo/__init__.py", "extra.py"]
    assert {entry.origin for entry in package.tree if entry.path != "extra.py"} == {"demo"}


def test_a_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("1")
    (tmp_path / "run.sh").write_text("2")
    (tmp_path / "run.sh").chmod(0o700)
    package = open_package(tmp_path)
    assert (package.kind, package.zipped_size) == ("dir", None)
    assert [(entry.path, entry.mode) for entry in package.tree] == [
        ("pkg/a.py", MODE_FILE),
        ("run.sh", MODE_EXECUTABLE if os.name == "posix" else MODE_FILE),
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_of_a_folder_stand_for_files_of_it_only(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not in the package")
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "libx.so.1.2").write_text("x")
    (root / "lib" / "libx.so.1").symlink_to("libx.so.1.2")
    (root / "stolen").symlink_to(outside)
    (root / "dangling").symlink_to("nowhere")
    (root / "lib64").symlink_to("lib")
    package = open_package(root)
    names = [f"{folder}/libx.so.{version}" for folder in ("lib", "lib64") for version in ("1", "1.2")]
    assert contents_of(package.tree) == dict.fromkeys(names, b"x")
    assert package.symlinks == {
        "dangling": "nowhere",
        "lib/libx.so.1": "libx.so.1.2",
        "lib64": "lib",
        "stolen": str(outside),
    }


def test_links_of_a_zip_stand_for_files_of_it_only(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"lib/libx.so.1.2": "x"})
    for name, target in {
        "lib/libx.so.1": "libx.so.1.2",
        "lib/libx.so": "../lib/libx.so.1",
        "out": "../../etc/passwd",
        "round": "about",
        "about": "round",
    }.items():
        with_link(path, name, target)
    package = open_package(path)
    assert contents_of(package.tree) == dict.fromkeys(["lib/libx.so", "lib/libx.so.1", "lib/libx.so.1.2"], b"x")
    assert list(package.symlinks) == ["about", "lib/libx.so", "lib/libx.so.1", "out", "round"]


def test_the_last_of_two_members_with_one_name_counts_as_it_does_for_lambda(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.py": "first"})
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.py", "last")
    assert contents_of(open_tree(path)) == {"a.py": b"last"}


def test_other_compressions_are_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.py": "x" * 1000}, method=zipfile.ZIP_LZMA)
    assert contents_of(open_tree(path)) == {"a.py": b"x" * 1000}


def test_nothing_to_open_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as raised:
        open_package(tmp_path / "none.zip")
    assert raised.value.message == f"there is no package at `{tmp_path / 'none.zip'}`"
    assert raised.value.hint == "name a `.zip`, a wheel or a folder that exists, or an image in full: `HOST/NAME:TAG`"


def test_a_folder_of_packages_is_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^there is nothing in `.*`$"):
        open_package(tmp_path)
    names = [zipped(tmp_path / name, {"app.py": ""}) for name in ("b.zip", "a.zip")]
    with pytest.raises(RequestError, match=r"^`.*` has packages in it and is none$") as caught:
        open_package(tmp_path)
    assert caught.value.hint == f"name one of them: `{names[1]}`"
    (tmp_path / "app.py").touch()
    assert sorted(entry.path for entry in open_package(tmp_path).tree) == ["a.zip", "app.py", "b.zip"]


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(UnsafeArchive) as raised:
        open_package(path)
    assert raised.value.message == "`x.zip` is not a valid zip: File is not a zip file"


def test_a_zip_whose_directory_points_astray_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.py": "x"})
    path.write_bytes(b"XX" + path.read_bytes()[2:])
    with pytest.raises(UnsafeArchive) as raised:
        open_package(path)
    assert raised.value.message == "`x.zip` is damaged at `a.py`"


def test_damaged_bytes_of_a_native_file_are_a_finding_and_no_crash(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"_x.so": (ELF / "glibc_2_34.so").read_bytes()})
    data = bytearray(path.read_bytes())
    data[700:760] = b"\xff" * 60
    path.write_bytes(data)
    assert isinstance(native_facts(open_tree(path))["_x.so"], Malformed)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a file that may not be read")
def test_a_file_that_may_not_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    (tmp_path / "a.py").chmod(0)
    with pytest.raises(PackagingError, match=re.escape("`a.py` cannot be read: Permission denied")):
        native_facts(open_tree(tmp_path))


def test_a_file_that_vanished_is_an_error_that_names_it(tmp_path: Path) -> None:
    gone = Entry("a.py", MODE_FILE, DiskFile(tmp_path / "gone", 1), "project")
    with pytest.raises(PackagingError, match=re.escape("`a.py` cannot be read: No such file or directory")):
        native_facts([gone])


def test_absurd_members_are_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a": "x"})
    with_link(path, "link", "x" * 5000)
    (link,) = open_package(path).making.links
    assert (link.path, len(link.target), link.fate) == ("link", 1000, "nowhere")
    (entry,) = open_tree(zipped(tmp_path / "y.zip", {"_x.so": (ELF / "plain.so").read_bytes()}))
    assert isinstance(entry.content, Span)
    huge = entry._replace(content=entry.content._replace(size=1 << 40))
    assert native_facts([huge]) == {"_x.so": Malformed(reason="the file is larger than any that Lambda takes")}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("honest")
    native = (ELF / "glibc_2_34.so").read_bytes()
    wheel = make_wheel(folder, "demo", "1.0", {"demo/__init__.py": "", "demo/_x.so": native}, requires=["six>=1"])
    return wheel.read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_is_more_than_a_finding_or_an_error_of_ours(
    tmp_path: Path, honest: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + 4] = data.draw(st.binary(max_size=6))
    path = tmp_path / "demo.zip"
    path.write_bytes(damaged)
    began = time.process_time()  # a deadline of hypothesis's counts what others take of a busy machine, too
    try:
        package = open_package(path)
        report = run(package.tree, Target.parse("python3.11-x86_64"), ALL, kind=package.kind, making=package.making)
    except PackagingError:
        return
    finally:
        assert time.process_time() - began < 2
    jsonschema.validate(report.to_json("demo.zip"), SCHEMA)


def test_native_files_are_found_by_content_wherever_their_bytes_lie(tmp_path: Path) -> None:
    data = (ELF / "plain.so").read_bytes()
    tree = open_tree(zipped(tmp_path / "x.zip", {"a.txt": data, "a.py": "print()", "empty.py": ""}))
    on_disk = Entry("b", MODE_FILE, DiskFile(ELF / "plain.so", len(data)), "project")
    in_memory = Entry("c", MODE_FILE, Bytes(data), "project")
    found = native_facts([*tree, on_disk, in_memory])
    assert list(found) == ["a.txt", "b", "c"]
    assert {type(native) for native in found.values()} == {ElfFile}


def test_a_member_longer_than_it_says_is_malformed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"_x.so": (ELF / "plain.so").read_bytes()})
    (entry,) = open_tree(path)
    assert isinstance(entry.content, Span)
    short = entry._replace(content=entry.content._replace(size=100))
    assert native_facts([short]) == {"_x.so": Malformed(reason="the archive is damaged here")}


def test_metadata_is_read_from_the_folders_on_sys_path_only() -> None:
    def metadata(folder: str) -> Entry:
        data = b"Name: Demo.Pkg\nVersion: 2\nRequires-Dist: a\nRequires-Dist: b\n folded\n\nName: body\n"
        return Entry(f"{folder}/METADATA", MODE_FILE, Bytes(data), "x")

    (found,) = read_distributions([metadata("demo_pkg-2.dist-info"), metadata("vendor/other-1.dist-info")])
    assert (found.name, found.version, found.requires, found.tags) == ("demo-pkg", "2", ("a", "b"), ())


def test_egg_infos_are_metadata_too() -> None:
    info = "Name: Old.Thing\nVersion: 1.5\nRequires-Python: >=3.6\n"
    requires = (
        "six>=1\n\n[:python_version < '3']\nenum34\n\n[fast]\ncython\n\n[fast:sys_platform == 'win32']\npywin32\n"
    )
    contents = {
        "Old.Thing-1.5.egg-info/PKG-INFO": info,
        "Old.Thing-1.5.egg-info/requires.txt": requires,
        "single-2.0.egg-info": "Name: single\nVersion: 2.0\n",
        "both.egg-info/PKG-INFO": "Name: both\nVersion: 1\n",
        "both-2.dist-info/METADATA": "Name: both\nVersion: 2\n",
        "vendor/hidden.egg-info/PKG-INFO": "Name: hidden\nVersion: 1\n",
    }
    entries = [Entry(path, MODE_FILE, Bytes(text.encode()), "x") for path, text in contents.items()]
    found = {each.name: each for each in read_distributions(entries)}
    assert {name: (each.version, each.dist_info) for name, each in found.items()} == {
        "old-thing": ("1.5", "Old.Thing-1.5.egg-info"),
        "single": ("2.0", "single-2.0.egg-info"),
        "both": ("2", "both-2.dist-info"),
    }
    assert found["old-thing"].requires_python == ">=3.6"
    assert found["old-thing"].requires == (
        "six>=1",
        "enum34 ; python_version < '3'",
        'cython ; extra == "fast"',
        "pywin32 ; (sys_platform == 'win32') and extra == \"fast\"",
    )


def test_files_of_an_egg_know_their_distribution(tmp_path: Path) -> None:
    listed = "../old/__init__.py\nPKG-INFO\n"
    contents = {"old/__init__.py": "", "old-1.egg-info/PKG-INFO": "Name: old\nVersion: 1\n", "app.py": ""}
    path = zipped(tmp_path / "x.zip", {**contents, "old-1.egg-info/installed-files.txt": listed})
    assert {entry.path: entry.origin for entry in open_tree(path)} == {
        "app.py": "project",
        "old-1.egg-info/PKG-INFO": "old",
        "old-1.egg-info/installed-files.txt": "project",
        "old/__init__.py": "old",
    }


def noisy(subject: Subject) -> Iterator[Finding]:
    for severity, distribution in ((Severity.NOTE, None), (Severity.ERROR, "b"), (Severity.ERROR, "a")):
        yield Finding(rule="noisy", severity=severity, message=str(subject.target), distribution=distribution)


def test_a_report_is_sorted_worst_first_and_meets_its_schema() -> None:
    tree = PackageTree([Entry("app.py", MODE_FILE, Bytes(b"12345"), "project")])
    report = run(tree, X86, [Rule("noisy", noisy)])
    assert [(one.severity, one.distribution) for one in report.findings] == [
        (Severity.ERROR, "a"),
        (Severity.ERROR, "b"),
        (Severity.NOTE, None),
    ]
    assert report.has_errors
    document = report.to_json("x.zip")
    jsonschema.validate(document, SCHEMA)
    assert document["summary"] == {
        "errors": 2, "warnings": 0, "notes": 1, "shared_objects": 0, "files": 1, "unzipped_size": 5
    }  # fmt: skip
    assert json.loads(json.dumps(document)) == document


def test_the_order_of_entries_facts_and_distributions_changes_nothing() -> None:
    names = ["glibc_2_34.so", "needs_used.so", "musl.so", "aarch64.so", "execstack.so", "isa_v4.so", "libused.so.1"]
    entries = [Entry(f"pkg{i}/{name}", MODE_FILE, DiskFile(ELF / name, 1), "d") for i, name in enumerate(names)]
    reports: set[str] = set()
    for seed in range(4):
        random.Random(seed).shuffle(entries)
        facts = native_facts(entries)
        shuffled = dict(random.Random(seed).sample(sorted(facts.items()), len(facts)))
        report = run(PackageTree(entries), Target.parse("python3.11-x86_64"), ALL, facts=shuffled)
        reports.add(json.dumps(report.to_json("x")))
    assert len(reports) == 1


def test_a_clean_package_has_no_finding_and_costs_no_heavy_import() -> None:
    script = """
import sys
from manylambda import rules
from manylambda.audits import run
from manylambda.elf import ElfFile
from manylambda.target import Target
from manylambda.tree import Bytes, Entry, PackageTree
tree = PackageTree([
    Entry("demo/_x.abi3.so", 0o644, Bytes(b""), "demo"),
    Entry("demo-1.0.dist-info/METADATA", 0o644, Bytes(
        b"Name: demo\\nVersion: 1.0\\nRequires-Python: >=3.9\\nRequires-Dist: boto3>=1.20,<2\\n"
        b"Requires-Dist: colorama; sys_platform == 'win32'\\nRequires-Dist: pytest>=1; extra == 'test'\\n"), "demo"),
])
facts = {"demo/_x.abi3.so": ElfFile(machine="x86_64", version_needs={})}
print(len(run(tree, Target.parse("python3.13-x86_64"), rules.ALL, facts=facts).findings))
print(sorted({"elftools", "packaging", "zipfile", "tempfile", "concurrent", "csv", "dataclasses"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # `dataclasses` comes with the target.
    assert done.stdout.splitlines() == ["0", "['dataclasses']"]


def test_fails_at_the_severity_asked_for() -> None:
    def report(severity: Severity) -> Report:
        finding = Finding(rule="x", severity=severity, message="m")
        return Report(target="t", findings=(finding,), shared_objects=0, files=0, unzipped_size=0)

    assert report(Severity.ERROR).fails("error")
    assert not report(Severity.WARNING).fails("error")
    assert report(Severity.WARNING).fails("warning")
    assert not report(Severity.NOTE).fails("warning")


def test_spans_of_a_zip_after_other_bytes_are_right(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.py": "x" * 100})
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    (entry,) = open_tree(path)
    assert isinstance(entry.content, Span)
    assert entry.content.method == DEFLATED
    assert read_content(entry.content) == b"x" * 100
