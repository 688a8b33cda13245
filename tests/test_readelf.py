"""What is read of ELF files equals what `readelf` prints; `tools/compare_readelf.py` does it for many more wheels."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda.fetch import Cache, Credentials, fetch_all
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from types import ModuleType

TOOL = Path(__file__).parents[1] / "tools" / "compare_readelf.py"
ELF = Path(__file__).parent / "elf" / "data"


def load_tool() -> ModuleType:
    spec = spec_from_file_location("compare_readelf", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where NamedTuple looks annotations up
    spec.loader.exec_module(module)
    return module


tool = load_tool()
SMALL = tool.pinned(only_small=True)

pytestmark = pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf here")


@pytest.mark.network
@pytest.mark.parametrize("wheel", SMALL, ids=[wheel.download.filename.removesuffix(".whl") for wheel in SMALL])
def test_every_elf_file_of_a_real_wheel_is_read_as_readelf_reads_it(shared_cache: Path, wheel: object) -> None:
    download = wheel.download  # type: ignore[attr-defined]
    paths = fetch_all(
        [download],
        cache=Cache(shared_cache),
        credentials=Credentials.from_settings(os.environ),
        offline=False,
        progress=SILENT,
    )
    compared = tool.compare(paths[download])
    assert compared.elf_files > 0
    assert compared.differences == ()


@pytest.mark.parametrize("file", sorted(ELF.iterdir()), ids=lambda path: path.name)
def test_every_elf_file_made_for_the_tests_is_read_as_readelf_reads_it(file: Path) -> None:
    assert tool.from_us(file) == tool.from_readelf(file)


def test_a_difference_is_told() -> None:
    """What compares must be able to fail: two files that differ in one thing differ in that thing."""
    one, other = tool.from_us(ELF / "needs_used_rpath.so"), tool.from_readelf(ELF / "needs_used_runpath.so")
    different = [field for field in tool.Facts._fields if getattr(one, field) != getattr(other, field)]
    assert different == ["rpath", "runpath"]
