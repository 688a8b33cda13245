"""Every input that once made the audit fail, kept small; `tools/fuzz_audit.py` finds them."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

DATA = Path(__file__).parent / "data"
TOOL = Path(__file__).parents[2] / "tools" / "fuzz_audit.py"


def load_tool() -> ModuleType:
    spec = spec_from_file_location("fuzz_audit", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, id=f"{file.parent.name}-{file.name}") for file in sorted(DATA.glob("*/*"))],
)
def test_an_input_that_once_failed_is_answered(file: Path) -> None:
    tool.TARGETS[file.parent.name](file.read_bytes())


@pytest.mark.parametrize("target", ["elf", "zip", "metadata", "image"])
def test_what_the_fuzzer_begins_with_is_answered(target: str, tmp_path: Path) -> None:
    tool.seeds(target, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert files
    for file in files:
        tool.TARGETS[target](file.read_bytes())


def test_no_index_is_asked_for_what_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hints name newer releases; a name with a NUL, a slash or a space is none of the index's business."""
    from manylambda.pipeline.audit import examine
    from manylambda.target import Target
    from wheel_factory import Part, raw_zip

    monkeypatch.setenv("UV_DEFAULT_INDEX", tmp_path.as_uri())
    monkeypatch.chdir(tmp_path)
    info = b"demo-1.0.dist-info"
    metadata = b"Metadata-Version: 2.1\nName: de\0mo\nVersion: 1.0\n"
    wheel = b"Wheel-Version: 1.0\nTag: cp312-cp312-manylinux2014_x86_64\n"
    parts = [Part(name=info + b"/METADATA", data=metadata), Part(name=info + b"/WHEEL", data=wheel)]
    package = tmp_path / "package.zip"
    package.write_bytes(raw_zip(parts))
    report = examine(package, Target.parse("python3.13-x86_64")).report
    assert [finding.rule for finding in report.findings] == ["wheel-tag-mismatch"]
