"""Packages are held against the RECORDs in them: a real distribution as it was installed, then each way to spoil it."""

from __future__ import annotations

import shutil
import zipfile
from importlib.metadata import distribution as installed
from typing import TYPE_CHECKING

import pytest

from manylambda import rules
from manylambda.audits import Subject, open_package, run
from manylambda.target import Target
from manylambda.tree import PackageTree
from rules.packages import elf, files
from wheel_factory import Part, make_wheel, raw_zip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manylambda.audits import Finding

TARGET = Target.parse("python3.13-x86_64")
RULES = {"record-mismatch", "module-missing", "path-collision"}


def audited(path: Path, layers: list[PackageTree] | None = None) -> list[Finding]:
    package = open_package(path)
    report = run(package.tree, TARGET, rules.ALL, kind=package.kind, making=package.making, layers=layers or ())
    return [one for one in report.findings if one.rule in RULES]


def told(path: Path) -> list[tuple[str, str, str | None, str]]:
    return [(one.rule, one.severity.value, one.path, one.message) for one in audited(path)]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Give a folder with the real distribution `packaging`, as pip installed it here."""
    root = tmp_path / "site"
    root.mkdir()
    found = installed("packaging")
    for file in found.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            place = root.joinpath(*file.parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), place)
    return root


@pytest.fixture
def info(site: Path) -> Path:
    return next(site.glob("packaging-*.dist-info"))


def with_extension(tmp_path: Path, name: str = "demo/_speed.cpython-313-x86_64-linux-gnu.so") -> Path:
    """Give a folder with a distribution that has an extension module, unpacked from its wheel."""
    contents: dict[str, str | bytes] = {"demo/__init__.py": "x = 1\n", "demo/data.txt": "data\n", name: elf("plain.so")}
    wheel = make_wheel(tmp_path, "demo", "1.0", contents, tags=["cp313-cp313-manylinux_2_17_x86_64"])
    root = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root)
    return root


def test_a_distribution_as_it_was_installed_has_no_finding(site: Path) -> None:
    assert told(site) == []
    shutil.rmtree(next(site.glob("*.dist-info")) / "licenses")  # made smaller
    (site / "packaging" / "py.typed").unlink()
    (next(site.glob("*.dist-info")) / "INSTALLER").write_text("another")
    assert told(site) == []


def test_record_mismatch_of_code_that_was_changed(site: Path) -> None:
    for name in ("version.py", "tags.py"):
        file = site / "packaging" / name
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert told(site) == [
        (
            "record-mismatch",
            "warning",
            "packaging/tags.py",
            "2 files were changed after its distribution was built",
        )
    ]
    changed = (site / "packaging" / "version.py").read_bytes()
    (site / "packaging" / "tags.py").unlink()
    (site / "packaging" / "version.py").write_bytes(changed.replace(b"\r\n", b"\n").replace(b"a", b"b"))
    assert [one[3] for one in told(site)] == [
        "is listed in RECORD and not in the package",
        "was changed after its distribution was built",
    ]


def test_record_mismatch_of_the_same_size_is_found_by_the_hash_in_any_form_of_the_package(site: Path) -> None:
    file = site / "packaging" / "version.py"
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = site.parent / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for each in sorted(site.rglob("*")):
                archive.write(each, each.relative_to(site).as_posix())
        assert [one[:3] for one in told(path)] == [("record-mismatch", "warning", "packaging/version.py")]


def test_record_mismatch_of_a_module_that_is_empty_is_an_error(site: Path) -> None:
    (site / "packaging" / "version.py").write_bytes(b"")
    assert told(site) == [
        (
            "record-mismatch",
            "error",
            "packaging/version.py",
            "is empty, and was not when its distribution was built",
        )
    ]


def test_record_mismatch_of_data_is_a_note(tmp_path: Path) -> None:
    root = with_extension(tmp_path)
    (root / "demo" / "data.txt").write_text("other\n")
    assert [one[:3] for one in told(root)] == [("record-mismatch", "note", "demo/data.txt")]


def test_record_mismatch_of_a_stripped_library_is_a_warning(tmp_path: Path) -> None:
    root = with_extension(tmp_path)
    file = next((root / "demo").glob("_speed*"))
    file.write_bytes(file.read_bytes() + b"\0")
    assert [one[:3] for one in told(root)] == [("record-mismatch", "warning", f"demo/{file.name}")]


def test_record_mismatch_of_bytes_that_the_archive_does_not_hold_to(tmp_path: Path, site: Path) -> None:
    parts = []
    for each in sorted(path for path in site.rglob("*") if path.is_file()):
        data = each.read_bytes()
        name = each.relative_to(site).as_posix()
        parts.append(Part(name=name.encode(), data=data, crc32=1 if name == "packaging/version.py" else None))
        if name == "packaging/version.py":
            parts[-1] = Part(name=name.encode(), data=data, method=0, raw=data[:-1] + b"?")
        if name == "packaging/tags.py":
            parts[-1] = Part(name=name.encode(), data=data, raw=b"\xff" * 40)
    path = tmp_path / "x.zip"
    path.write_bytes(raw_zip(parts))
    assert told(path) == [
        ("record-mismatch", "error", "packaging/tags.py", "2 files are damaged in the archive"),
    ]


def test_record_mismatch_of_a_wheel_is_an_error(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, "demo", "1.0", {"demo.py": "x = 1", "{data}/purelib/more.py": "y", "{data}/scripts/run": "#!python"}
    )
    assert told(wheel) == []
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["demo.py"] = b"x = 2"
    del members["demo-1.0.data/purelib/more.py"]
    wheel.write_bytes(raw_zip(Part(name=name.encode(), data=data) for name, data in members.items()))
    assert told(wheel) == [
        ("record-mismatch", "error", "demo.py", "is not as RECORD lists it"),
        ("record-mismatch", "error", "more.py", "is listed in RECORD and not in the wheel"),
    ]


def test_a_file_of_another_distribution_is_a_collision_and_no_change(tmp_path: Path) -> None:
    root = tmp_path / "site"
    for name in ("one", "two"):
        wheel = make_wheel(tmp_path, name, "1.0", {"shared.py": f"# {name}", f"{name}.py": "", "tests/a.py": name})
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
    assert told(root) == [
        (
            "path-collision",
            "warning",
            "shared.py",
            "`two` and `one` bring different files for this path and 1 other: those of `two` are in the package",
        )
    ]


def test_module_missing_where_only_the_metadata_is_left(site: Path, info: Path) -> None:
    shutil.rmtree(site / "packaging")
    ((rule, severity, path, message),) = told(site)
    assert (rule, severity, path) == ("module-missing", "error", info.name)
    assert message.startswith("its metadata is in the package, but none of its ")
    assert message.endswith(" modules (`packaging`) is")


@pytest.mark.parametrize(
    "mend",
    [
        lambda site, info: (info / "RECORD").unlink(),
        lambda site, info: (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/RECORD,,\n"),
        lambda site, info: (
            info.rename(site / "boto3-1.0.dist-info")
            and (site / "boto3-1.0.dist-info" / "RECORD").write_text("boto3/__init__.py,,\n")
        ),
    ],
    ids=["no RECORD", "a distribution without modules", "a distribution of the runtime"],
)
def test_what_is_not_judged(site: Path, info: Path, mend: Callable[[Path, Path], object]) -> None:
    shutil.rmtree(site / "packaging")
    mend(site, info)
    assert told(site) == []


def test_modules_as_bytecode_or_in_a_layer_are_there(site: Path) -> None:
    names = [path.relative_to(site).as_posix() for path in site.rglob("*.py")]
    shutil.rmtree(site / "packaging")
    layer = PackageTree(files({f"python/{name}": "" for name in names}))
    assert [one.rule for one in audited(site)] == ["module-missing"]
    assert audited(site, [layer]) == []
    for name in names:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / f"{name}c").write_bytes(b"")
    assert audited(site) == []


def test_module_missing_of_a_namespace_that_another_distribution_is_in(tmp_path: Path) -> None:
    root = tmp_path / "site"
    for name in ("one", "two"):
        wheel = make_wheel(tmp_path, f"space-{name}", "1.0", {f"space/{name}/__init__.py": "x = 1"})
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
    assert told(root) == []
    shutil.rmtree(root / "space" / "two")
    assert [one[:3] for one in told(root)] == [("module-missing", "error", "space_two-1.0.dist-info")]


def test_module_missing_of_an_extension_module(tmp_path: Path) -> None:
    root = with_extension(tmp_path)
    assert told(root) == []
    file = next((root / "demo").glob("_speed*"))
    data = file.read_bytes()
    file.unlink()
    assert told(root) == [
        (
            "module-missing",
            "error",
            f"demo/{file.name}",
            "is not in the package: the module `demo._speed` cannot be imported",
        )
    ]
    (root / "demo" / "_speed.py").write_text("")
    assert [one[1] for one in told(root)] == ["warning"]
    (root / "demo" / "_speed.py").unlink()
    (root / "demo" / "_speed.cpython-311-x86_64-linux-gnu.so").write_bytes(data)
    assert told(root) == []  # that it is for another Python is told by `abi-tag-mismatch`


@pytest.mark.parametrize(
    ("name", "content"),
    [("_editable_impl_demo.pth", "/home/me/demo/src\n"), ("__editable__.demo-1.0.pth", "import __editable___demo\n")],
)
def test_module_missing_of_what_was_installed_to_be_edited(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    folder = tmp_path / "demo-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: demo\nVersion: 1.0\n")
    (folder / "RECORD").write_text(f"{name},,\n{folder.name}/METADATA,,\n")
    ((rule, severity, path, message),) = told(tmp_path)
    assert (rule, severity, path) == ("module-missing", "error", name)
    assert message.startswith("was installed to be edited in its own folder")
    (tmp_path / name).write_text("src\n/var/task/lib\n")
    assert told(tmp_path) == []


def test_hashes_are_asked_for_only_where_there_are_records() -> None:
    subject = Subject(PackageTree(files({"app.py": ""})), TARGET)
    assert subject.digests == {}


@pytest.mark.parametrize("end", ["x" * 200_000 + ",,\n", "x,,\n" * 400_001], ids=["field", "rows"])
def test_a_record_that_cannot_be_read_to_its_end_is_told(tmp_path: Path, end: str) -> None:
    record = f"demo/__init__.py,,0\n{end}".encode()
    path = tmp_path / "package.zip"
    path.write_bytes(
        raw_zip([Part(name=b"demo/__init__.py"), Part(name=b"demo-1.dist-info/RECORD", data=record, method=8)])
    )
    assert [entry.origin for entry in open_package(path).tree] == ["demo", "demo"]
    assert told(path) == [
        (
            "record-mismatch",
            "warning",
            "demo-1.dist-info/RECORD",
            "cannot be read to its end: what it lists there is not compared",
        )
    ]
