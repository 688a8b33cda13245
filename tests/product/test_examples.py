"""The examples of the repository build as their README says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from product.conftest import Run

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not part of the sdist"),
]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("dist")))


def test_the_api_example(run: Run, examples: Path) -> None:
    artifact = run("build", examples / "api", "--format", "json").artifact
    assert artifact["target"] == "python3.13-arm64"
    assert {"aws-lambda-powertools", "pydantic-core"} <= {one["name"] for one in artifact["distributions"]}
    assert not [one for one in artifact["findings"] if one["severity"] == "error"]
    assert Path(artifact["path"]) == examples / "api" / "dist" / "orders-api-python3.13-arm64.zip"


def test_the_data_example_for_two_machines(run: Run, examples: Path) -> None:
    targets = ("-t", "python3.13-arm64", "-t", "python3.13-x86_64")
    artifacts = run("build", examples / "data", *targets, "--format", "json").json["artifacts"]
    assert [one["target"] for one in artifacts] == ["python3.13-arm64", "python3.13-x86_64"]
    numpy = [next(dist["file"] for dist in one["distributions"] if dist["name"] == "numpy") for one in artifacts]
    assert "aarch64" in numpy[0]
    assert "x86_64" in numpy[1]


def test_the_layer_example(run: Run, examples: Path) -> None:
    import zipfile

    artifact = run(
        "build", examples / "layer", "-t", "python3.13-arm64", "--kind", "layer", "--format", "json"
    ).artifact
    with zipfile.ZipFile(artifact["path"]) as archive:
        assert all(name.startswith("python/") for name in archive.namelist())
