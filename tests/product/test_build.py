"""`manylambda build`: from a project to a zip."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product import schemas
from product.loopback import sha256

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index


def members(path: str | Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_project_becomes_a_zip_in_dist_named_for_project_and_target(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run("build", "-t", "python3.13-arm64", cwd=project)
    made = project / "dist" / "api-python3.13-arm64.zip"
    digest = sha256(made)
    code = base64.b64encode(bytes.fromhex(digest)).decode()
    assert ran.stdout == (
        "distribution  version  kind     wheel  unzipped\n"
        f"demo          1.0      pure  {demo.stat().st_size / 2**20:.2f} MiB  0.00 MiB\n"
        "\n"
        f"python3.13-arm64: zip {made}\n"
        "  956 B zipped, 440 B unzipped, 5 files\n"
        f"  sha256       {digest}\n"
        f"  code_sha256  {code}\n"
    )
    assert ran.stderr == "dependencies from `requirements.txt` (resolved for each target)\n"
    assert members(made) == [
        "app.py",
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/RECORD",
        "demo-1.0.dist-info/WHEEL",
        "demo.py",
    ]


def test_the_package_runs(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", "2.5", {"demo/__init__.py": "", "demo/data.txt": "x" * 5000})
    (project / "app.py").write_text(
        "from importlib.metadata import version\nfrom importlib.resources import files\n"
        "def handler(event, context):\n"
        "    return version('demo'), len(files('demo').joinpath('data.txt').read_text())\n",
        encoding="utf-8",
    )
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    artifact = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact
    task = project.parent / "task"
    with zipfile.ZipFile(artifact["path"]) as archive:
        archive.extractall(task)
    code = f"import sys; sys.path.insert(0, {str(task)!r}); import app; print(app.handler(0, 0))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('2.5', 5000)\n"


def test_json_tells_what_was_made_and_of_what(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo", requires=["other>=1"])
    other = index.wheel("Other", "1.5", {"other.py": "x" * 2000})
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run("build", project, "-t", "python3.13-arm64", "--format", "json")
    artifact = ran.artifact
    made = Path(artifact["path"])
    with zipfile.ZipFile(made) as archive:
        unzipped = sum(info.file_size for info in archive.infolist())
    schemas.check("build", ran.json)
    assert ran.json["source"] == {"kind": "requirements.txt", "files": [str(project / "requirements.txt")]}
    assert artifact == {
        "target": "python3.13-arm64",
        "kind": "zip",
        "path": str(project / "dist" / "api-python3.13-arm64.zip"),
        "sha256": sha256(made),
        "code_sha256": base64.b64encode(hashlib.sha256(made.read_bytes()).digest()).decode(),
        "size": made.stat().st_size,
        "unzipped_size": unzipped,
        "files": len(members(made)),
        "distributions": artifact["distributions"],
        "findings": [],
        "ignored": [],
    }
    shown = [
        (one["name"], one["version"], one["file"], one["sha256"], one["size"], one["compiled"])
        for one in artifact["distributions"]
    ]
    assert shown == [
        ("demo", "1.0", demo.name, sha256(demo), demo.stat().st_size, False),
        ("other", "1.5", other.name, sha256(other), other.stat().st_size, False),
    ]


def test_several_targets_share_one_download_and_each_gets_its_files(run: Run, index: Index, project: Path) -> None:
    pure = index.wheel("pure")
    wheels = {
        machine: index.wheel(
            "native", "1.0", {"native.py": machine}, tags=[f"cp313-cp313-manylinux_2_17_{machine}"]
        )
        for machine in ("x86_64", "aarch64")
    }  # fmt: skip
    (project / "requirements.txt").write_text("pure\nnative\n", encoding="utf-8")
    ran = run("build", project, "-t", "python3.13-arm64", "-t", "python3.13-x86_64", "--format", "json")
    arm, intel = ran.json["artifacts"]
    assert [one["file"] for one in arm["distributions"]] == [wheels["aarch64"].name, pure.name]
    assert [one["file"] for one in intel["distributions"]] == [wheels["x86_64"].name, pure.name]
    with zipfile.ZipFile(arm["path"]) as archive:
        assert archive.read("native.py") == b"aarch64"
    assert [index.fetched(wheel) for wheel in (pure, *wheels.values())] == [1, 1, 1]


def test_neither_the_order_nor_the_number_of_targets_changes_a_package(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    targets = ["python3.13-arm64", "python3.12-x86_64", "python3.11-x86_64"]
    seen: dict[str, set[str]] = {target: set() for target in targets}
    for order in (targets, targets[::-1], [targets[1]], [targets[1], targets[1]]):
        flags = [word for target in order for word in ("-t", target)]
        for artifact in run("build", project, *flags, "--format", "json").json["artifacts"]:
            seen[artifact["target"]].add(artifact["sha256"])
    assert [len(digests) for digests in seen.values()] == [1, 1, 1]


def test_a_lock_needs_no_index_page_and_a_warm_cache_no_request_at_all(run: Run, index: Index, project: Path) -> None:
    demo = index.wheel("demo")
    (project / "pylock.toml").write_text(index.pylock(demo), encoding="utf-8")
    first = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact
    assert index.requests == {f"/files/{demo.name}": 1}
    again = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact
    assert index.requests == {f"/files/{demo.name}": 1}
    assert again == first


def test_requirements_come_from_standard_input(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("missing\n", encoding="utf-8")
    ran = run("build", project, "-t", "python3.13-arm64", "-r", "-", "--format", "json", stdin="\ufeffdemo # why\r\n")
    assert [one["name"] for one in ran.artifact["distributions"]] == ["demo"]
    assert ran.stderr == "dependencies from `standard input` (resolved for each target)\n"


@pytest.mark.skipif(os.name == "nt", reason="POSIX shells have `<(...)`")
def test_requirements_may_come_from_a_pipe_of_the_shell(run: Run, index: Index, project: Path, tmp_path: Path) -> None:
    index.wheel("demo", "1.0")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("demo",))
    writer.start()
    ran = run("build", project, "-t", "python3.13-arm64", "-t", "python3.13-x86_64", "-r", pipe, "--format", "json")
    writer.join()
    assert [[one["name"] for one in each["distributions"]] for each in ran.json["artifacts"]] == [["demo"], ["demo"]]
    assert f"dependencies from `{pipe}`" in ran.stderr


def test_an_empty_project_gives_an_error_free_empty_zip(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("build", "empty", "-t", "python3.13-arm64", "--format", "json")
    assert members(ran.artifact["path"]) == []
    assert ran.stderr == "no dependencies: `empty` has no lock, requirements.txt or pyproject.toml\n"


def test_a_project_may_have_any_name(run: Run, index: Index, tmp_path: Path) -> None:
    demo = index.wheel("demo")
    project = tmp_path / "Größe & 'ß' ☃ (1)"
    project.mkdir()
    (project / "ünï 文.py").write_text("x = 1\n", encoding="utf-8")
    (project / "pylock.toml").write_text(index.pylock(demo), encoding="utf-8")
    artifact = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact
    assert Path(artifact["path"]).name == "Gr-e-1-python3.13-arm64.zip"
    assert "ünï 文.py" in members(artifact["path"])
    assert run("build", ".", "-t", "python3.13-arm64", "--format", "json", cwd=project).artifact == artifact


def test_the_name_in_pyproject_names_the_file(run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "orders-api"\nversion = "1"\n', encoding="utf-8")
    ran = run("build", project, "-t", "python3.13-arm64", "--format", "json")
    assert Path(ran.artifact["path"]).name == "orders-api-python3.13-arm64.zip"


def test_output_folder_and_name_can_be_chosen(run: Run, project: Path, tmp_path: Path) -> None:
    ran = run(
        "build", project, "-t", "python3.13-arm64", "-o", tmp_path / "a" / "b", "--name", "other", "--format", "json"
    )
    assert ran.artifact["path"] == str(tmp_path / "a" / "b" / "other-python3.13-arm64.zip")


def test_a_package_written_into_the_project_is_never_part_of_the_next_one(run: Run, project: Path) -> None:
    runs = [run("build", ".", "-t", "python3.13-arm64", "-o", ".", "--format", "json", cwd=project) for _ in range(3)]
    assert len({one.artifact["sha256"] for one in runs}) == 1
    assert members(runs[0].artifact["path"]) == ["app.py"]


def test_settings_stand_in_pyproject_and_flags_win(run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text(
        '[tool.manylambda]\ntargets = ["python3.13-arm64"]\nname = "named"\n', encoding="utf-8"
    )
    assert Path(run("build", project, "--format", "json").artifact["path"]).name == "named-python3.13-arm64.zip"
    ran = run("build", project, "-t", "python3.12-x86_64", "--format", "json", env={"MANYLAMBDA_NAME": "env"})
    assert Path(ran.artifact["path"]).name == "env-python3.12-x86_64.zip"


def test_what_was_left_out_is_told_with_v(run: Run, project: Path) -> None:
    (project / ".env").write_text("SECRET=1\n", encoding="utf-8")
    (project / "__pycache__").mkdir()
    (project / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"")
    quiet = run("build", project, "-t", "python3.13-arm64")
    loud = run("build", project, "-t", "python3.13-arm64", "-v")
    assert "__pycache__" not in quiet.stderr
    assert re.search(r"^left out `__pycache__/?`: ", loud.stderr, re.MULTILINE)
    assert re.search(r"^(warning: )?left out `\.env`: ", loud.stderr, re.MULTILINE)


def test_console_scripts_are_shipped_only_when_asked_for_and_name_no_host(
    run: Run, index: Index, project: Path
) -> None:
    demo = index.wheel(
        "demo", files={"demo.py": "def main(): pass\n"}, entry_points="[console_scripts]\ndemo = demo:main\n"
    )
    (project / "pylock.toml").write_text(index.pylock(demo), encoding="utf-8")
    plain = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact
    assert not [name for name in members(plain["path"]) if name.startswith("bin/")]
    with_scripts = run("build", project, "-t", "python3.13-arm64", "--scripts", "--format", "json").artifact
    with zipfile.ZipFile(with_scripts["path"]) as archive:
        assert archive.read("bin/demo").startswith(b"#!/var/lang/bin/python3.13\n")
        assert archive.getinfo("bin/demo").external_attr >> 16 == 0o100755


def test_a_local_package_is_shipped_as_files(run: Run, index: Index, project: Path) -> None:
    """Built by a backend that lies beside it, so that no index need be asked."""
    shared = project.parent / "shared"
    shared.mkdir()
    (shared / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "shared"\nversion = "3"\n',
        encoding="utf-8",
    )
    factory = Path(__file__).parent.parent / "wheel_factory.py"
    (shared / "wheel_factory.py").write_bytes(factory.read_bytes())
    (shared / "backend.py").write_text(
        "from pathlib import Path\nfrom wheel_factory import make_wheel\n"
        "def build_wheel(folder, settings=None, metadata=None):\n"
        "    return make_wheel(Path(folder), 'shared', '3', {'shared.py': Path('source.py').read_text()}).name\n",
        encoding="utf-8",
    )
    (shared / "source.py").write_text("answer = 42\n", encoding="utf-8")
    (project / "requirements.txt").write_text("-e ../shared\n", encoding="utf-8")
    command = ("build", ".", "-t", "python3.13-arm64", "-t", "python3.12-x86_64", "--format", "json")
    first = run(*command, cwd=project).json
    with zipfile.ZipFile(first["artifacts"][0]["path"]) as archive:
        assert archive.read("shared.py") == b"answer = 42\n"
        assert not [name for name in archive.namelist() if name.endswith((".pth", "direct_url.json"))]
    assert run(*command, cwd=project).json == first
    (shared / "source.py").write_text("answer = 43\n", encoding="utf-8")
    changed = run(*command, cwd=project).json["artifacts"][1]
    with zipfile.ZipFile(changed["path"]) as archive:
        assert archive.read("shared.py") == b"answer = 43\n"


def test_version_and_help(run: Run) -> None:
    assert re.fullmatch(r"manylambda \d+\.\d+\.\d+\n", run("--version").stdout)
    assert run("-V").stdout == run("--version").stdout
    for command in ("build", "audit", "lock", "plan", "targets"):
        assert f"usage: manylambda {command} " in run(command, "--help").stdout


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_leaves_early_is_no_error(project: Path, form: str) -> None:
    """`manylambda ... | head -1`."""
    running = subprocess.Popen(
        [sys.executable, "-m", "manylambda", "targets", "--format", form],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=project, env=os.environ,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait() == 0


def test_an_unchanged_rebuild_leaves_the_artifact_alone(run: Run, project: Path) -> None:
    first = run("build", "-t", "python3.13-arm64", project, "--format", "json").artifact
    path = Path(first["path"])
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert run("build", "-t", "python3.13-arm64", project, "--format", "json").artifact == first
    assert path.stat().st_mtime == 1_000_000_000
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert run("build", "-t", "python3.13-arm64", project, "--format", "json").artifact == first
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first["sha256"]
    (project / "app.py").write_text("def handler(event, context):\n    return 2\n", encoding="utf-8")
    assert run("build", "-t", "python3.13-arm64", project, "--format", "json").artifact["sha256"] != first["sha256"]
