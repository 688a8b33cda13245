"""`manylambda audit`: packages that any tool made."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product import schemas

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

ELF = Path(__file__).parent.parent / "elf" / "data"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Give a zip with an extension module for glibc 2.34 on x86_64, as `zip -r` writes it."""
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", "def handler(event, context): pass\n")
        archive.write(ELF / "glibc_2_34.so", "native.cpython-311-x86_64-linux-gnu.so")
    return path


def test_a_package_that_will_not_load_ends_in_status_1_with_the_reason(run: Run, package: Path) -> None:
    ran = run("audit", package.name, "-t", "python3.11-x86_64", status=1)
    assert ran.stdout.splitlines()[0].startswith("error[glibc-too-new]: native.cpython-311-x86_64-linux-gnu.so: ")
    assert "2.34" in ran.stdout.splitlines()[0]
    assert ran.stdout.splitlines()[-1].startswith("python3.11-x86_64: will not load as it is: 1 error, 0 warnings, ")
    assert ran.stderr == ""


def test_the_same_package_loads_elsewhere(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.write(ELF / "glibc_2_34.so", "native.abi3.so")
    ran = run("audit", "made.zip", "-t", "python3.13-x86_64")
    assert ran.stdout == (
        "python3.13-x86_64: nothing found that keeps it from loading: 0 errors, 0 warnings, 0 notes in 1 file, "
        "1 shared object, 0.0 MiB unzipped\n"
    )


def test_json_holds_to_its_schema(run: Run, package: Path) -> None:
    document = run("audit", package, "-t", "python3.12-arm64", "--format", "json", status=1).json
    schemas.check("audit", document)
    assert document["target"] == "python3.12-arm64"
    assert document["path"] == str(package)
    assert {finding["rule"] for finding in document["findings"] if finding["severity"] == "error"} >= {"wrong-machine"}
    assert document["summary"]["files"] == 2
    assert document["summary"]["errors"] == sum(finding["severity"] == "error" for finding in document["findings"])


def test_what_build_made_passes_as_zip_layer_and_folder(run: Run, index: Index, project: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo")), encoding="utf-8")
    for kind in ("zip", "layer", "dir"):
        made = run("build", project, "-t", "python3.13-arm64", "--kind", kind, "--format", "json").artifact
        document = run("audit", made["path"], "-t", "python3.13-arm64", "--format", "json").json
        assert document["findings"] == made["findings"] == []
        assert document["summary"]["unzipped_size"] == made["unzipped_size"]
        assert document["summary"]["files"] == made["files"]


def test_build_and_audit_find_the_same(run: Run, index: Index, project: Path) -> None:
    """Facts kept with the wheels lead to the same findings as a reading of the finished package."""
    (project / "own.so").write_bytes((ELF / "aarch64_glibc_2_34.so").read_bytes())
    native = {"native/_speed.cpython-311-x86_64-linux-gnu.so": (ELF / "glibc_2_34.so").read_bytes()}
    wheel = index.wheel("native", files=native, tags=["cp311-cp311-manylinux_2_17_x86_64"], requires=["absent>=2"])
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    flags = ("-t", "python3.11-x86_64", "--format", "json")
    built = run("build", project, *flags, status=1).artifact
    assert {finding["rule"] for finding in built["findings"]} >= {
        "glibc-too-new",
        "distribution-missing",
        "wrong-machine",
    }
    made = run("build", project, *flags, "--no-audit").artifact
    audited = run("audit", made["path"], *flags, status=1).json
    assert audited["findings"] == built["findings"]


def test_warnings_fail_only_when_asked_to(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("app.py", "")
        archive.writestr("json.py", "")
    ran = run("audit", "made.zip", "-t", "python3.13-arm64")
    assert "[stdlib-shadowed]: json.py: " in ran.stdout
    run("audit", "made.zip", "-t", "python3.13-arm64", "--fail-on", "warning", status=1)


@pytest.mark.parametrize(
    ("name", "content", "status", "error"),
    [
        (
            "missing.zip",
            None,
            2,
            "error: there is no package at `missing.zip`\n\nhint: name a `.zip`, a wheel or a folder that exists\n",
        ),
        (
            "not.zip",
            b"text",
            5,
            "error: `not.zip` is not a valid zip: File is not a zip file\n\nhint: build or download it again\n",
        ),
    ],
)
def test_what_cannot_be_read_is_an_error_and_no_finding(
    run: Run, tmp_path: Path, name: str, content: bytes | None, status: int, error: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ran = run("audit", name, "-t", "python3.13-arm64", status=status)
    assert (ran.stdout, ran.stderr) == ("", error)


def test_runtimes_nobody_builds_for_any_more_are_audited(run: Run, tmp_path: Path) -> None:
    (tmp_path / "native.so").write_bytes((ELF / "glibc_2_34.so").read_bytes())
    document = run("audit", tmp_path, "-t", "python3.8-x86_64", "--format", "json", status=1).json
    assert "glibc-too-new" in {finding["rule"] for finding in document["findings"]}


def test_the_handler_is_looked_for(run: Run, package: Path) -> None:
    ran = run("audit", package.name, "-t", "python3.11-x86_64", "--handler", "app.hander", "--format", "json", status=1)
    (finding,) = (one for one in ran.json["findings"] if one["rule"] == "handler-missing")
    assert finding["message"] == "the handler `app.hander` needs `hander`, which `app.py` does not define"
    assert finding["hint"] == "did you mean `app.handler`?"
    ran = run(
        "audit", package.name, "-t", "python3.11-x86_64", "--handler", "app.handler", "--format", "json", status=1
    )
    assert "handler-missing" not in {one["rule"] for one in ran.json["findings"]}
