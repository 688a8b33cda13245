"""Zip, layer and folder: the same files in the place where Lambda, or a deployment tool, looks for them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"
CONTENTS = ["demo-1.0.dist-info/METADATA", "demo-1.0.dist-info/RECORD", "demo-1.0.dist-info/WHEEL", "demo.py"]


@pytest.fixture
def locked(index: Index, project: Path) -> Path:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo", "1.0")), encoding="utf-8")
    return project


def imported(folder: Path) -> str:
    """Import `demo` as the runtime does, from a folder on its path alone."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import demo, importlib.metadata as m"
    code += "; print(demo.__file__, m.version('demo'))"
    return subprocess.run([sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, check=True).stdout


def unpacked(path: str, folder: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        return archive.namelist()


def test_a_zip_has_project_and_dependencies_at_its_root(run: Run, locked: Path, tmp_path: Path) -> None:
    artifact = run("build", locked, "-t", TARGET, "--kind", "zip", "--format", "json").artifact
    assert Path(artifact["path"]).name == "api-python3.13-arm64.zip"
    assert unpacked(artifact["path"], tmp_path / "task") == ["app.py", *CONTENTS]
    assert imported(tmp_path / "task") == f"{tmp_path / 'task' / 'demo.py'} 1.0\n"


@pytest.mark.parametrize(
    ("layout", "prefix"), [("python", "python"), ("site-packages", "python/lib/python3.13/site-packages")]
)
def test_a_layer_has_the_dependencies_where_lambda_looks(
    run: Run, locked: Path, tmp_path: Path, layout: str, prefix: str
) -> None:
    ran = run("build", locked, "-t", TARGET, "--kind", "layer", "--layer-layout", layout, "--format", "json")
    artifact = ran.artifact
    assert artifact["kind"] == "layer"
    assert Path(artifact["path"]).name == "api-layer-python3.13-arm64.zip"
    assert unpacked(artifact["path"], tmp_path / "opt") == [f"{prefix}/{name}" for name in CONTENTS]
    assert imported(tmp_path / "opt" / prefix) == f"{tmp_path / 'opt' / prefix / 'demo.py'} 1.0\n"


def test_a_folder_is_what_a_deployment_tool_zips_itself(run: Run, locked: Path) -> None:
    artifact = run("build", locked, "-t", TARGET, "--kind", "dir", "--format", "json").artifact
    folder = Path(artifact["path"])
    assert folder == locked / "dist" / "api-python3.13-arm64"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["app.py", *CONTENTS]
    assert artifact["files"] == len(files)
    assert artifact["unzipped_size"] == sum((folder / file).stat().st_size for file in files)
    assert imported(folder) == f"{folder / 'demo.py'} 1.0\n"


def test_a_folder_is_replaced_whole(run: Run, locked: Path) -> None:
    first = run("build", locked, "-t", TARGET, "--kind", "dir", "--format", "json").artifact
    stale = Path(first["path"], "stale.py")
    stale.touch()
    second = run("build", locked, "-t", TARGET, "--kind", "dir", "--format", "json").artifact
    assert second == first
    assert not stale.exists()
    assert sorted(path.name for path in stale.parent.parent.iterdir()) == ["api-python3.13-arm64"]


def test_zip_and_folder_hold_the_same_bytes(run: Run, locked: Path, tmp_path: Path) -> None:
    zipped = run("build", locked, "-t", TARGET, "--format", "json").artifact
    folder = Path(run("build", locked, "-t", TARGET, "--kind", "dir", "--format", "json").artifact["path"])
    names = unpacked(zipped["path"], tmp_path / "task")
    assert [(tmp_path / "task" / name).read_bytes() for name in names] == [
        (folder / name).read_bytes() for name in names
    ]


def test_a_function_is_judged_together_with_its_layer(run: Run, index: Index, tmp_path: Path) -> None:
    """A requirement that only the layer has is no error, and sizes are added up."""
    for name in ("layer", "function"):
        (tmp_path / name).mkdir()
    (tmp_path / "layer" / "pylock.toml").write_text(index.pylock(index.wheel("base")), encoding="utf-8")
    (tmp_path / "function" / "pylock.toml").write_text(
        index.pylock(index.wheel("top", requires=["base"])), encoding="utf-8"
    )
    layer = run("build", "layer", "-t", TARGET, "--kind", "layer", "--format", "json").artifact
    alone = run("build", "function", "-t", TARGET, "--format", "json", status=1).artifact
    assert [finding["rule"] for finding in alone["findings"]] == ["distribution-missing"]
    together = run("build", "function", "-t", TARGET, "--layer", layer["path"], "--format", "json").artifact
    assert together["findings"] == []


# A place of one's own: `--artifact`.


def test_a_package_is_written_to_the_place_that_is_named(run: Run, locked: Path, tmp_path: Path) -> None:
    plain = run("build", locked, "-t", TARGET, "--format", "json").artifact
    named = run("build", locked, "-t", TARGET, "--artifact", "out/function.zip", "--format", "json").artifact
    assert named == plain | {"path": str(tmp_path / "out" / "function.zip")}
    folder = tmp_path / "out" / "function"
    for _ in range(2):  # what a build wrote is replaced by the next
        run("build", locked, "-t", TARGET, "--kind", "dir", "--artifact", folder)
        assert sorted(path.name for path in folder.iterdir()) == ["app.py", "demo-1.0.dist-info", "demo.py"]


def test_the_place_of_a_package_is_no_part_of_the_next(run: Run, locked: Path) -> None:
    (locked / "pyproject.toml").write_text('[tool.manylambda]\nartifact = "made/{target}.zip"\n', encoding="utf-8")
    both = ("-t", TARGET, "-t", "python3.13-x86_64")
    first = run("build", locked, *both, "--format", "json").json["artifacts"]
    assert [Path(one["path"]).relative_to(locked).as_posix() for one in first] == [
        "made/python3.13-arm64.zip", "made/python3.13-x86_64.zip",
    ]  # fmt: skip
    assert run("build", locked, *both, "--format", "json").json["artifacts"] == first


def test_a_folder_that_no_build_wrote_is_not_replaced(run: Run, locked: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    run("build", locked, "-t", TARGET, "--kind", "dir", "--artifact", place)  # it was empty
    (place / "mine.txt").touch()
    for kept in (place, locked):
        ran = run("build", locked, "-t", TARGET, "--kind", "dir", "--artifact", kept, status=2)
        assert f"error: `{kept}` is there, and holds what no build wrote\n" in ran.stderr
    assert (place / "mine.txt").exists()
    assert (locked / "app.py").exists()


def test_one_place_is_for_one_package(run: Run, locked: Path, tmp_path: Path) -> None:
    words = ("build", locked, "-t", TARGET, "-t", "python3.13-x86_64", "--artifact")
    ran = run(*words, "one.zip", status=2)
    assert "one.zip` is a place for one package, and there are 2 targets" in ran.stderr
    ran = run(*words, "{target}", "--kind", "image", status=2)
    assert "is a place for a package, not for a container image" in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["api", "index"]
