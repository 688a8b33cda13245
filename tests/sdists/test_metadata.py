"""What an sdist says of itself without being built."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import UnsafeArchive
from manylambda.sdists.metadata import static_metadata, wheel_metadata
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "Name: demo\nVersion: 1.0\n"


def tar(folder: Path, **files: str) -> Path:
    """Write `demo-1.0.tar.gz`; `__` in the name of a file is a dot."""
    path = folder / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"demo-1.0/{name.replace('__', '.')}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def told(folder: Path, info: str, pyproject: str = "") -> str | None:
    return static_metadata(tar(folder, **{"PKG-INFO": info, "pyproject__toml": pyproject}), "1.0")


def test_metadata_that_no_build_changes_are_taken_as_they_are(tmp_path: Path) -> None:
    info = f"Metadata-Version: 2.2\n{HEAD}Requires-Dist: pure\nDynamic: License\nDynamic: Summary\n"
    assert told(tmp_path, info) == info


@pytest.mark.parametrize(
    "info",
    [
        f"Metadata-Version: 2.1\n{HEAD}Requires-Dist: pure\n",
        f"Metadata-Version: 2.2\n{HEAD}Dynamic: Requires-Dist\n",
        f"Metadata-Version: 2.4\n{HEAD}Dynamic: requires-python\n",
        f"Metadata-Version: 2.2\n{HEAD}Dynamic: Provides-Extra\n",
        f"Metadata-Version: newest\n{HEAD}",
        HEAD,
        "",
    ],
)
def test_metadata_that_a_build_may_change_are_not_taken(tmp_path: Path, info: str) -> None:
    assert told(tmp_path, info) is None


def test_a_pyproject_that_declares_all_serves_where_the_pkg_info_is_old(tmp_path: Path) -> None:
    pyproject = """
        [project]
        name = "demo"
        dynamic = ["version", "readme"]
        requires-python = ">=3.9"
        dependencies = ["pure>=1", "old ; python_version < '3.10'"]
        [project.optional-dependencies]
        Some_Extra = ["more", "other ; sys_platform == 'win32' or sys_platform == 'linux'"]
    """
    assert (told(tmp_path, f"Metadata-Version: 2.1\n{HEAD}", pyproject) or "").splitlines() == [
        "Metadata-Version: 2.2",
        "Name: demo",
        "Version: 1.0",
        "Requires-Python: >=3.9",
        "Requires-Dist: pure>=1",
        'Requires-Dist: old; python_version < "3.10"',
        "Provides-Extra: some-extra",
        'Requires-Dist: more; extra == "some-extra"',
        'Requires-Dist: other; (sys_platform == "win32" or sys_platform == "linux") and extra == "some-extra"',
    ]


@pytest.mark.parametrize(
    "pyproject",
    [
        '[project]\nname = "demo"\nversion = "1.0"\ndynamic = ["dependencies"]\n',
        '[project]\nname = "demo"\nversion = "1.0"\ndynamic = ["optional-dependencies"]\n',
        '[project]\nname = "demo"\nversion = "1.0"\ndynamic = ["requires-python"]\n',
        '[project]\nname = "demo"\nversion = "1.0"\ndependencies = ["not a requirement"]\n',
        '[project]\nname = "demo"\nversion = "1.0"\ndependencies = { pure = "1" }\n',
        '[project]\nname = "demo"\nversion = "1.0"\noptional-dependencies = ["pure"]\n',
        '[project]\nversion = "1.0"\n',
        '[tool.poetry]\nname = "demo"\nversion = "1.0"\n',
        "not TOML",
    ],
)
def test_a_pyproject_that_leaves_something_to_the_build_does_not_serve(tmp_path: Path, pyproject: str) -> None:
    assert told(tmp_path, "", pyproject) is None


def test_only_the_files_at_the_top_count(tmp_path: Path) -> None:
    inner = f"Metadata-Version: 2.2\n{HEAD}"
    assert (
        static_metadata(tar(tmp_path, **{"vendored/PKG-INFO": inner, "demo.egg-info/PKG-INFO": inner}), "1.0") is None
    )


def test_a_zip_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo-1.0/PKG-INFO", f"Metadata-Version: 2.2\n{HEAD}")
    assert static_metadata(path, "1.0") == f"Metadata-Version: 2.2\n{HEAD}"


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00torn"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "demo-1.0.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UnsafeArchive, match=r"^`demo-1\.0\.tar\.gz` cannot be read: "):
        static_metadata(path, "1.0")


def test_a_wheel_says_what_it_requires(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {}, requires=["pure"])
    assert "Requires-Dist: pure" in wheel_metadata(wheel).splitlines()
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("demo.py", "")
    with pytest.raises(UnsafeArchive, match=r"^`empty\.whl` has no METADATA$"):
        wheel_metadata(tmp_path / "empty.whl")
