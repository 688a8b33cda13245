"""One wrong thing at each command: what is said, what to do about it, and the exit status."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.conftest import command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"


def error_of(stderr: str) -> str:
    """Give the error and its hint, without the lines that say where dependencies come from."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("dependencies from ", "no dependencies: ")))


# 2: the request


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["build", "."],
            (
                "error: no target is given\n\n"
                'hint: name one, such as `-t python3.13-arm64`, or `targets = ["python3.13-arm64"]`\n'
            ),
        ),
        (
            ["build", ".", "-t", "python3.13"],
            (
                "error: `--target`: `python3.13` names no architecture\n\n"
                "hint: write `python3.13-arm64` or `python3.13-x86_64`\n"
            ),
        ),
        (
            ["build", ".", "-t", "python3.99-arm64"],
            (
                "error: `--target`: `python3.99-arm64` is not a target\n\n"
                "hint: known are `python3.9` to `python3.15`, each with `-arm64` or `-x86_64`\n"
            ),
        ),
        (
            ["build", ".", "-t", "python3.8-x86_64"],
            (
                "error: `python3.8-x86_64` is known for auditing only: its runtime is long deprecated\n\n"
                "hint: `manylambda targets` lists what can be built\n"
            ),
        ),
        (
            ["build", "nowhere", "-t", TARGET],
            "error: the project is not a folder: `nowhere`\n\nhint: name the folder of the function's code\n",
        ),
        (["build", ".", "-t", TARGET, "-r", "nowhere.txt"], "error: `{tmp}/nowhere.txt` does not exist\n"),
        (["build", ".", "-t", TARGET, "--lock", "pylock.toml"], "error: `{tmp}/pylock.toml` does not exist\n"),
        (
            ["build", ".", "-t", TARGET, "--lock", "some.lock"],
            (
                "error: `some.lock` is no lock of a known name\n\nhint: a lock is called `pylock.toml`, `uv.lock`, "
                "`poetry.lock`, `pdm.lock` or `pylock.<name>.toml`; a requirements file is passed with `-r`\n"
            ),
        ),
        (
            ["build", ".", "-t", TARGET, "-r", "a.txt", "--lock", "pylock.toml"],
            (
                "error: a requirements file and a lock were both named\n\n"
                "hint: pass `-r` or `--lock`, not both; a lock is already exact\n"
            ),
        ),
        (
            ["build", ".", "-t", TARGET, "--layer", "nowhere.zip"],
            (
                "error: there is no package at `{tmp}/nowhere.zip`\n\n"
                "hint: name a `.zip`, a wheel or a folder that exists, or an image in full: `HOST/NAME:TAG`\n"
            ),
        ),
        (
            ["build", ".", "-t", TARGET, "--exclude", "absent"],
            (
                "error: nothing to exclude: `absent` is not among the distributions\n\n"
                "hint: `manylambda plan` lists them\n"
            ),
        ),
        (
            ["build", ".", "-t", TARGET, "--handler", "lambda_handler"],
            "error: `--handler` is not a handler: `lambda_handler`\n\nhint: write it as `module.function`\n",
        ),
        (
            ["build", ".", "-t", TARGET, "--name", "../x"],
            "error: `--name` must be letters, digits, `.`, `_` and `-`: `../x`\n",
        ),
        (
            ["build", ".", "-t", TARGET, "--base", "debian:13"],
            "error: `--base` means nothing to a package of the kind `zip`\n\nhint: add `--kind image`\n",
        ),
        (
            ["build", ".", "-t", TARGET, "--kind", "layer", "--split-layers"],
            "error: `--split-layers` means nothing to a package of the kind `layer`\n\nhint: add `--kind image`\n",
        ),
        (
            ["build", ".", "-t", TARGET, "--kind", "dir", "--layer-layout", "site-packages"],
            "error: `--layer-layout` means nothing to a package of the kind `dir`\n\nhint: add `--kind layer`\n",
        ),
        (
            ["plan", "nowhere", "-t", TARGET],
            "error: the project is not a folder: `nowhere`\n\nhint: name the folder of the function's code\n",
        ),
        (
            ["lock", "nowhere", "-t", TARGET],
            "error: the project is not a folder: `nowhere`\n\nhint: name the folder of the function's code\n",
        ),
        (
            ["audit", "nowhere", "-t", TARGET],
            (
                "error: there is no package at `nowhere`\n\n"
                "hint: name a `.zip`, a wheel or a folder that exists, or an image in full: `HOST/NAME:TAG`\n"
            ),
        ),
        (
            ["audit", ".", "-t", "python4-arm64"],
            (
                "error: `--target`: `python4-arm64` is not a target\n\n"
                "hint: did you mean `python3.14-arm64` or `python3.9-arm64`?\n"
            ),
        ),
        (
            ["audit", "x.zip"],
            (
                "error: no target is given\n\n"
                'hint: name one, such as `-t python3.13-arm64`, or `targets = ["python3.13-arm64"]`\n'
            ),
        ),
    ],
)
def test_a_wrong_request(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = run(*arguments, status=2)
    assert (ran.stdout, error_of(ran.stderr)) == ("", said.replace("{tmp}", str(tmp_path)))


@pytest.mark.parametrize(
    ("arguments", "said", "program"),
    [
        ([], "the following arguments are required: COMMAND", "manylambda"),
        (["bake"], "argument COMMAND: invalid choice: 'bake'", "manylambda"),
        (["build", "--format", "xml"], "argument --format: invalid choice: 'xml'", "manylambda build"),
        (["audit"], "the following arguments are required: PATH", "manylambda audit"),
        (["build", "--frobnicate"], "unrecognized arguments: --frobnicate", "manylambda"),
    ],
)
def test_a_wrong_command_line(run: Run, arguments: list[str], said: str, program: str) -> None:
    ran = run(*arguments, status=2)
    assert ran.stdout == ""
    error, _, hint = ran.stderr.splitlines()
    assert error.startswith(f"error: {said}")
    assert hint == f"hint: `{program} --help` shows what can be asked"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"pyproject.toml": "[project\n"},
            (
                "error: `{project}/pyproject.toml` is not valid TOML: expected ']' at the end of a table declaration "
                "(at line 1, column 9)\n"
            ),
        ),
        (
            {"pyproject.toml": "[tool.manylambda]\nkinds = 'zip'\n"},
            "error: `tool.manylambda.kinds` in `pyproject.toml` is not a setting\n\nhint: did you mean `kind`?\n",
        ),
        (
            {"pylock.toml": "lock-version = '1.0'\n"},
            "error: `pylock.toml` is not a valid lock at `created-by`: missing required value\n",
        ),
        (
            {"pylock.toml": "lock-version = '2.0'\ncreated-by = 'x'\npackages = []\n"},
            (
                "error: `pylock.toml` has an unknown format version: pylock version 2.0 is not supported\n\n"
                "hint: upgrade manylambda\n"
            ),
        ),
        (
            {"Pipfile": ""},
            (
                "error: `Pipfile` is not read, and there is no other file with dependencies\n\n"
                "hint: run `pipenv requirements --hash > requirements.txt`\n"
            ),
        ),
        (
            {"requirements.txt": "demo ==\n"},
            (
                "error: cannot read the requirement in requirements.txt:1: `demo ==` "
                "(Expected semicolon (after name with no version specifier) or end)\n"
            ),
        ),
    ],
)
def test_a_file_that_cannot_be_read(run: Run, project: Path, files: Mapping[str, str], said: str) -> None:
    for name, text in files.items():
        (project / name).write_text(text, encoding="utf-8")
    ran = run("build", project, "-t", TARGET, status=2)
    assert (ran.stdout, error_of(ran.stderr)) == ("", said.replace("{project}", str(project)))


# 3: no resolution


def test_no_wheel_for_the_target(run: Run, index: Index, project: Path) -> None:
    index.wheel("native", "2.0", tags=["cp311-cp311-manylinux_2_28_x86_64"])
    index.wheel("native", "1.0", tags=["cp311-cp311-manylinux_2_17_x86_64"])
    said = (
        "error: no wheel of `native==2.0` runs on `python3.11-x86_64`\n\n"
        "hint: the nearest is `native-2.0-cp311-cp311-manylinux_2_28_x86_64.whl`, which needs glibc 2.28; "
        "the runtime has 2.26; `native==1.0` has a wheel that runs there\n"
    )
    for name in ("build", "lock"):
        ran = run(name, project, "-t", "python3.11-x86_64", "-r", "-", status=3, stdin="native==2.0")
        assert (ran.stdout, error_of(ran.stderr)) == ("", said)
    assert not (project / "dist").exists()
    assert not (project / "pylock.toml").exists()


def test_no_version_at_all(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    ran = run("build", project, "-t", TARGET, "-r", "-", status=3, stdin="demo>=2")
    assert error_of(ran.stderr).startswith(f"error: no versions satisfy the requirements for `{TARGET}`: ")
    assert "demo>=2" in ran.stderr
    ran = run("build", project, "-t", TARGET, "-r", "-", status=3, stdin="absent")
    assert "absent was not found in the package registry" in ran.stderr


def test_requirements_that_contradict_each_other(run: Run, index: Index, project: Path) -> None:
    index.wheel("one", requires=["base<2"])
    index.wheel("two", requires=["base>=2"])
    index.wheel("base", "1.0")
    index.wheel("base", "2.0")
    ran = run("build", project, "-t", TARGET, "-r", "-", status=3, stdin="one\ntwo\n")
    assert "base<2" in ran.stderr
    assert "base>=2" in ran.stderr


def test_a_lock_without_a_file_for_the_target(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("native", tags=["cp313-cp313-manylinux_2_17_x86_64"])
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, status=3)
    assert error_of(ran.stderr) == (
        f"error: no wheel of `native==1.0` runs on `{TARGET}`\n\n"
        "hint: its wheels are for CPython 3.13 on Linux x86_64 (glibc 2.17)\n"
    )


def test_a_source_distribution_is_not_built_unasked(run: Run, index: Index, project: Path) -> None:
    folder = project.parent / "src"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: only-source\nVersion: 1.0\n", encoding="utf-8")
    (folder / "setup.py").write_text("raise SystemExit('this must never run')\n", encoding="utf-8")
    with tarfile.open(index.folder / "only_source-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder, "only_source-1.0")
    ran = run("build", project, "-t", TARGET, "-r", "-", status=3, stdin="only-source")
    assert error_of(ran.stderr) == (
        f"error: no wheel of `only-source==1.0` runs on `{TARGET}`\n\n"
        "hint: it has only a source distribution, which would have to be built; "
        "its source looks pure: it has no code to compile; "
        "`--allow-sdist only-source` builds it from source for the target\n"
    )


# 4: fetching


def test_a_file_the_server_does_not_have(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("demo")
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    wheel.unlink()
    ran = run("build", project, "-t", TARGET, status=4)
    assert error_of(ran.stderr) == (
        f"error: `{wheel.name}` is not at `{index.base}/files/{wheel.name}`: 404 Not Found\n\n"
        "hint: it may have been removed, or be hidden from whoever is not logged in; "
        "`manylambda lock` finds what the index has now\n"
    )


def test_a_server_that_is_not_there(run: Run, index: Index, project: Path) -> None:
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    ran = run(
        "build", project, "-t", TARGET, status=4,
        env={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"},
    )  # fmt: skip
    assert error_of(ran.stderr).startswith("error: ")
    assert "http://127.0.0.1:9/simple/demo/" in ran.stderr


# 5: packaging


def test_a_wheel_that_is_no_wheel(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("demo")
    wheel.write_bytes(b"not a zip")
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, status=5)
    assert error_of(ran.stderr) == (
        f"error: `{wheel.name}` is not a valid wheel: File is not a zip file\n\nhint: download or build it again\n"
    )
    assert not list((project / "dist").iterdir()) if (project / "dist").exists() else True


def test_a_local_package_that_does_not_build(run: Run, project: Path) -> None:
    broken = project.parent / "broken"
    broken.mkdir()
    (broken / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "broken"\nversion = "1"\n',
        encoding="utf-8",
    )
    (broken / "backend.py").write_text("def build_wheel(*_):\n    raise ValueError('no can do')\n", encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "-r", "-", status=5, stdin="../broken")
    assert ran.stderr.endswith("  ValueError: no can do\nerror: `broken` cannot be built: ValueError: no can do\n")
    assert "the build of `broken` said:\n  Traceback (most recent call last):\n" in ran.stderr


# What surrounds a command


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_results_that_cannot_be_written(project: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("build", project, "-t", TARGET, "-q"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (5, "error: the results cannot be written: no space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_standard_input(project: Path) -> None:
    words = shlex.join(command("build", project, "-t", TARGET, "-q", "-r", "-"))
    done = subprocess.run(["sh", "-c", f"{words} <&-"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cannot read standard input: it is closed\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the working folder of a process cannot be removed there")
def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    words = shlex.join(command("build", "-t", TARGET))
    done = subprocess.run(
        ["sh", "-c", f"rmdir ../gone; {words}"], cwd=tmp_path / "gone", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the working folder does not exist any more\n\nhint: change to another one\n"
