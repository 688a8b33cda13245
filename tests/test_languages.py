"""The languages of native files, from real wheels whose sources are known."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from manylambda.audits.languages import languages, languages_of
from rules.packages import elf, files
from rules.test_real_wheels import manylinux, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.tree import Entry

WRITTEN_IN = {
    "pydantic-core==2.50.4": {"Rust"},
    "orjson==3.13.0": {"Rust"},
    "cryptography==50.0.2": {"Rust"},
    "pyyaml==6.0.4": {"Cython"},
    "msgpack==1.2.4": {"Cython"},
    "lxml==6.1.3": {"Cython"},
    "psutil==7.2.2": {"C"},
    "markupsafe==3.0.4": {"C"},
    "protobuf==7.36.2": {"C"},  # needs libstdc++ without a symbol of it
    "psycopg2-binary==2.9.13": {"C"},  # beside it lie libraries of others
    "ujson==6.1.0": {"C++"},
    "grpcio==1.85.3": {"C++", "Cython"},
    "numpy==2.5.5": {"C", "C++", "Cython"},
    "black==26.5.1": {"mypyc"},
}


def members(path: Path) -> list[Entry]:
    with zipfile.ZipFile(path) as archive:
        return files({info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()})


@pytest.mark.network
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("requirement", WRITTEN_IN)
def test_the_languages_of_real_wheels(shared_cache: Path, requirement: str, machine: str) -> None:
    if machine == "aarch64" and requirement.partition("==")[0] not in {"pydantic-core", "pyyaml", "ujson", "psutil"}:
        pytest.skip("one of each language is enough")
    path = wheel(shared_cache, requirement, "3.13", *manylinux(machine, 5, 12, 17, 24, 26, 27, 28, 34))
    found = languages(members(path))
    assert found
    assert {one for each in found.values() for one in each} == WRITTEN_IN[requirement]


@pytest.mark.network
@pytest.mark.parametrize("requirement", ["pydantic-core==2.50.4", "pyyaml==6.0.4", "ujson==6.1.0"])
def test_a_file_without_the_names_of_compilers_tells_the_same(shared_cache: Path, requirement: str) -> None:
    path = wheel(shared_cache, requirement, "3.13", *manylinux("x86_64", 5, 12, 17, 24, 26, 27, 28, 34))
    (data,) = [bytes(entry.content.data) for entry in members(path) if entry.path.endswith(".so")]  # type: ignore[union-attr]
    for name in (b"GCC: (", b"clang version ", b"rustc version "):
        data = data.replace(name, b"\0" * len(name))
    assert set(languages_of(data)) == WRITTEN_IN[requirement]


def test_c_is_what_a_c_compiler_made_and_nothing_else_explains() -> None:
    assert languages_of(elf("plain.so")) == ("C",)
    assert languages_of(elf("cxx_as_c.so")) == ("C++",)


def test_without_a_mark_nothing_is_said() -> None:
    assert languages_of(elf("plain.so").replace(b"GCC: (", b"\0" * 6)) == ()


def test_libraries_of_others_and_foreign_files_are_left_out() -> None:
    found = languages(
        files(
            {
                "demo/_x.cpython-313-x86_64-linux-gnu.so": elf("plain.so"),
                "demo.libs/libother.so.1": elf("cxx_as_c.so"),
                "demo/data.txt": "rustc version 1.80.0",
            }
        )
    )
    assert found == {"demo/_x.cpython-313-x86_64-linux-gnu.so": ("C",)}
