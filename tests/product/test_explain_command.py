# ruff: noqa: E501 - results are as they are printed
"""`manylambda explain`: rules, logs, and the package that an error is about."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import rules
from product import schemas

if TYPE_CHECKING:
    from product.conftest import Run

ELF = Path(__file__).parent.parent / "elf" / "data"
ERROR = "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': "


def package(path: Path, contents: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def installed(name: str, version: str, contents: dict[str, bytes | str]) -> dict[str, bytes | str]:
    """Give the files of a distribution with metadata as an installer leaves it."""
    info = f"{name}-{version}.dist-info"
    files = {f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n", **contents}
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    return {**files, f"{info}/RECORD": record}


def test_alone_it_lists_every_rule_with_its_sentence(run: Run) -> None:
    lines = run("explain").stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(rules.ALL)]] == [rule.name for rule in rules.ALL]
    assert lines[0].endswith("  A shared object or program is for another processor than the target's.")
    document = run("explain", "--format", "json").json
    schemas.check("explain", document)
    assert [one["rule"] for one in document["rules"]] == [rule.name for rule in rules.ALL]


def test_a_rule_s_page_is_printed(run: Run) -> None:
    out = run("explain", "library-missing").stdout
    assert out.startswith("library-missing: A shared object needs a library that the loader will not find.\n\nWhat\n  ")
    assert all(f"\n{title}\n  " in out for title in ("In the log", "Why", "Mend"))
    document = run("explain", "library-missing", "--format", "json").json
    schemas.check("explain", document)
    assert document["page"]["rule"] == "library-missing"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("libary-missing", "did you mean `library-missing`?"),
        ("GLIBC_too_new", "did you mean `glibc-too-new`?"),
        ("x.log", "`manylambda explain` lists the rules; `-` reads standard input"),
    ],
)
def test_a_word_that_is_neither_rule_nor_file_is_an_error(run: Run, word: str, hint: str) -> None:
    ran = run("explain", word, status=2)
    assert (ran.stdout, ran.stderr) == ("", f"error: `{word}` is neither a rule nor a file\n\nhint: {hint}\n")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--package", "x.zip"], "error: a package is judged for a target\n\nhint: name it: `-t python3.13-arm64`\n"),
        (["--layer", "x.zip"], "error: layers are looked at with their package\n\nhint: name it: `--package PATH`\n"),
        (["--package", "no.zip", "-t", "python3.13-arm64"], "error: there is no package at `no.zip`\n\nhint: "),
        (["-t", "python3.13"], "error: "),
    ],
)
def test_what_does_not_go_together_is_an_error(run: Run, flags: list[str], error: str) -> None:
    ran = run("explain", "-", *flags, status=2, stdin="libGL.so.1: cannot open shared object file")
    assert ran.stdout == ""
    assert ran.stderr.startswith(error)


def test_a_pasted_error_is_explained_with_the_command_that_mends_it(run: Run) -> None:
    ran = run(
        "explain", "-", "-t", "python3.13-arm64", stdin=ERROR + "No module named 'pydantic_core._pydantic_core'\n"
    )
    assert ran.stdout == (
        "extension-missing (line 1)\n"
        "  [ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'pydantic_core._pydantic_core'\n"
        "\n"
        "  The compiled part of `pydantic-core` (`pydantic_core._pydantic_core`) is not there for this Python and machine, "
        "although `pydantic-core` is.\n"
        "  Python looks only for files with its own tag: what was installed for another Python, another architecture, macOS "
        "or Windows does not exist for it. This is not a missing requirement.\n"
        "\n"
        "  1. Install `pydantic-core` for the function's runtime and architecture:\n"
        "       manylambda build -t python3.13-arm64\n"
        "  2. See which tag the package's files have:\n"
        "       manylambda audit PACKAGE -t python3.13-arm64\n"
        "  more: manylambda explain abi-tag-mismatch\n"
        "\n"
        "PACKAGE: the zip, layer or folder that was deployed\n"
    )
    assert ran.stderr == ""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_log_file_is_read_however_a_shell_wrote_it(run: Run, tmp_path: Path, encoding: str, ending: str) -> None:
    text = ending.join(["START RequestId: 1", ERROR + "libGL.so.1: cannot open shared object file", "END RequestId: 1"])
    (tmp_path / "a.log").write_bytes(text.encode(encoding))
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.log", "a.log.gz"):
        document = run("explain", name, "--format", "json").json
        schemas.check("explain", document)
        assert [(one["cause"], one["line_number"]) for one in document["causes"]] == [("library-missing", 2)]


def test_what_is_not_known_ends_in_status_1_and_asks_for_the_package(run: Run) -> None:
    ran = run("explain", "-", stdin="KeyError: 'Records'\n", status=1)
    assert ran.stdout.startswith("1 line read: no error in it is one that is known here.\n\nLook at the package itself")
    assert "`manylambda explain LOG --package PACKAGE -t TARGET`" in ran.stdout
    document = run("explain", "-", "--format", "json", stdin=b"\xff\x00", status=1).json
    schemas.check("explain", document)
    assert document["causes"] == []


def test_an_archive_a_folder_and_a_broken_gzip_are_no_logs(run: Run, tmp_path: Path) -> None:
    package(tmp_path / "x.zip", {"app.py": ""})
    assert run("explain", "x.zip", status=2).stderr.startswith("error: `x.zip` is an archive, not a log\n")
    (tmp_path / "folder").mkdir()
    assert run("explain", "folder", status=2).stderr.startswith("error: `folder` is a folder, not a log\n")
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    assert run("explain", "x.gz", status=2).stderr.startswith("error: `x.gz` is not a valid gzip file: ")


# With the package.


def test_the_error_is_tied_to_the_file_its_distribution_and_the_finding(run: Run, tmp_path: Path) -> None:
    file = "fastthing/_fast.cpython-313-aarch64-linux-gnu.so"
    native = (ELF / "aarch64_glibc_2_34.so").read_bytes()
    other = {"otherthing/_x.cpython-313-aarch64-linux-gnu.so": native}
    files = {**installed("fastthing", "2.5", {file: native}), **installed("otherthing", "1.0", dict(other))}
    package(tmp_path / "api.zip", {"app.py": "", **files})
    document = run(
        *("explain", "-", "--package", "api.zip", "-t", "python3.13-x86_64", "--format", "json"),
        stdin=ERROR + "No module named 'fastthing._fast'",
    ).json
    schemas.check("explain", document)
    (cause,) = document["causes"]
    assert cause["in_package"]["says"] == "`api.zip` shows it"
    assert (cause["in_package"]["distribution"], cause["in_package"]["version"]) == ("fastthing", "2.5")
    assert [(one["rule"], one["path"]) for one in cause["in_package"]["findings"]] == [("wrong-machine", file)]
    assert cause["cure"][1]["run"] == "manylambda audit api.zip -t python3.13-x86_64"


def test_a_library_that_is_missing_names_who_needs_it(run: Run, tmp_path: Path) -> None:
    needs = (ELF / "needs_used.so").read_bytes()
    package(tmp_path / "api.zip", installed("viewer", "3.1", {"viewer/core.abi3.so": needs}))
    text = ERROR + "libused.so.1: cannot open shared object file: No such file or directory"
    ran = run("explain", "-", "--package", "api.zip", "-t", "python3.13-x86_64", stdin=text)
    assert "  in the package: `api.zip` shows it (viewer 3.1)\n" in ran.stdout
    assert "error[library-missing] viewer/core.abi3.so: " in ran.stdout
    assert "libused.so.1" in ran.stdout


def test_a_package_that_does_not_show_the_fault_is_told(run: Run, tmp_path: Path) -> None:
    package(tmp_path / "api.zip", {"app.py": ""})
    target = ("--package", "api.zip", "-t", "python3.13-x86_64")
    missing = ERROR + "/opt/python/fastthing/_fast.abi3.so: invalid ELF header"
    assert (
        "`/opt/python/fastthing/_fast.abi3.so` is not in `api.zip`: is it the package that was deployed, and are the "
        "function's layers named (`--layer`)?" in run("explain", "-", *target, stdin=missing).stdout
    )
    library = "libused.so.1: cannot open shared object file"
    assert (
        "the audit finds no such fault in `api.zip` for python3.13-x86_64: is it the package that was deployed"
        in run("explain", "-", *target, stdin=library).stdout
    )
    assert (
        "this is not seen in a package"
        in run("explain", "-", *target, stdin="Task timed out after 3.00 seconds").stdout
    )


def test_the_file_may_lie_in_a_layer(run: Run, tmp_path: Path) -> None:
    package(tmp_path / "api.zip", {"app.py": ""})
    mac = b"\xcf\xfa\xed\xfe" + b"\0" * 300
    files = installed("fastthing", "2.5", {"fastthing/_fast.abi3.so": mac})
    package(tmp_path / "layer.zip", {f"python/{name}": data for name, data in files.items()})
    document = run(
        *("explain", "-", "--package", "api.zip", "--layer", "layer.zip", "-t", "python3.13-arm64", "--format", "json"),
        stdin=ERROR + "/opt/python/fastthing/_fast.abi3.so: invalid ELF header",
    ).json
    (cause,) = document["causes"]
    assert cause["in_package"]["file"] == "/opt/python/fastthing/_fast.abi3.so"
    assert [one["rule"] for one in cause["in_package"]["findings"]] == ["foreign-binary"]


@pytest.mark.parametrize(
    "text",
    [
        "Unable to import module 'main': No module named 'main'",
        "[ERROR] Runtime.HandlerNotFound: Handler 'run' missing on module 'app'",
    ],
)
def test_a_handler_that_is_not_found_is_looked_for_in_the_package(run: Run, tmp_path: Path, text: str) -> None:
    package(tmp_path / "api.zip", {"app.py": "def handler(event, context): pass\n"})
    out = run("explain", "-", "--package", "api.zip", "-t", "python3.13-arm64", stdin=text).stdout
    assert "in the package: `api.zip` shows it\n    error[handler-missing]" in out


def test_a_glibc_that_is_too_new_is_tied_to_its_file(run: Run, tmp_path: Path) -> None:
    native = (ELF / "glibc_2_34.so").read_bytes()
    package(tmp_path / "api.zip", installed("fastthing", "2.5", {"fastthing/_fast.abi3.so": native}))
    text = "/lib64/libc.so.6: version `GLIBC_2.34' not found (required by /var/task/fastthing/_fast.abi3.so)"
    out = run("explain", "-", "--package", "api.zip", "-t", "python3.11-x86_64", stdin=text).stdout
    assert "`api.zip` shows it (fastthing 2.5)\n    error[glibc-too-new] fastthing/_fast.abi3.so: " in out
    assert "manylambda build -t python3.12-x86_64\n" in out


def test_a_rule_with_a_package_shows_its_findings(run: Run, tmp_path: Path) -> None:
    package(tmp_path / "api.zip", {"app.py": "", "json.py": ""})
    out = run("explain", "stdlib-shadowed", "--package", "api.zip", "-t", "python3.13-arm64").stdout
    assert "in the package: `api.zip` has 1 finding of this rule\n" in out
    assert "[stdlib-shadowed] json.py: " in out


@pytest.mark.network
def test_numpy_of_the_other_machine_is_explained_by_its_own_words(run: Run, tmp_path: Path) -> None:
    """numpy of the other machine, imported here: its own message, and the very package."""
    import platform

    here, there = ("x86_64", "aarch64") if platform.machine() in {"x86_64", "AMD64"} else ("aarch64", "x86_64")
    folder = tmp_path / "installed"
    python = f"3.{sys.version_info.minor}"
    told = ("--python-platform", f"{there}-manylinux_2_28", "--python-version", python, "--only-binary", ":all:")
    subprocess.run(["uv", "pip", "install", "--quiet", "--target", str(folder), *told, "numpy"], check=True)
    message = subprocess.run(
        [sys.executable, "-c", "import numpy"], cwd=folder, capture_output=True, text=True, check=False
    ).stderr
    target = f"python{python}-{'x86_64' if here == 'x86_64' else 'arm64'}"
    document = json.loads(
        run("explain", "-", "--package", folder, "-t", target, "--format", "json", stdin=message).stdout
    )
    first = document["causes"][0]
    assert first["cause"] == "extension-missing"
    assert first["values"]["distribution"] == "numpy"
    assert first["in_package"]["distribution"] == "numpy"
    assert {one["rule"] for one in first["in_package"]["findings"]} <= {"wrong-machine", "abi-tag-mismatch"}
    assert first["in_package"]["findings"][0]["path"].startswith("numpy/_core/_multiarray_umath.")
    assert first["cure"][0]["run"] == f"manylambda build -t {target}"
