"""The directory at the end of a wheel."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from manylambda.wheels.directory import LIKELY, Longer, unzipped_size
from manylambda.wheels.inventory import inspect
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from pathlib import Path


def test_the_sizes_of_all_files_but_record_are_added_up(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {"demo.py": "x" * 90_000, "demo/data.bin": b"\0" * 500_000})
    with zipfile.ZipFile(wheel) as archive:
        whole = sum(info.file_size for info in archive.infolist() if not info.filename.endswith("/RECORD"))
    assert whole > 590_000
    assert unzipped_size(wheel.read_bytes()[-LIKELY:]) == whole
    # What is told before a wheel was fetched is told afterwards: the figure of `plan` does not depend on the cache.
    assert inspect(wheel).unzipped_size == whole


def test_a_long_directory_is_asked_for_once_more(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "demo", "1.0", {f"demo/a_module_of_many_{n:05}.py": "x = 1\n" for n in range(1000)})
    data = wheel.read_bytes()
    longer = unzipped_size(data[-LIKELY:])
    assert isinstance(longer, Longer)
    assert LIKELY < longer.length < len(data)
    found = unzipped_size(data[-longer.length :])
    assert isinstance(found, int)
    assert found > 6000


@pytest.mark.parametrize("damage", [b"", b"no archive at all", b"PK\5\6 and too short"])
def test_what_is_no_directory_has_no_size(damage: bytes) -> None:
    assert unzipped_size(damage) is None


def test_a_directory_with_a_wrong_entry_has_no_size(tmp_path: Path) -> None:
    data = bytearray(make_wheel(tmp_path, "demo", "1.0", {"demo.py": ""}).read_bytes())
    data[data.index(b"PK\1\2") + 2] = 9
    assert unzipped_size(bytes(data)) is None
