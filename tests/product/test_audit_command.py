"""`manylambda audit`: packages that any tool made."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product import schemas
from product.conftest import command

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

ELF = Path(__file__).parent.parent / "elf" / "data"


def put(archive: zipfile.ZipFile, name: str, content: bytes | str = "") -> None:
    """Write a member as `zip -r` does: `writestr` alone gives it a mode that nobody else can read."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o100644 << 16
    archive.writestr(member, content)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Give a zip with an extension module for glibc 2.34 on x86_64, as `zip -r` writes it."""
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        put(archive, "app.py", "def handler(event, context): pass\n")
        archive.write(ELF / "glibc_2_34.so", "native.cpython-311-x86_64-linux-gnu.so")
    return path


def test_a_package_that_will_not_load_ends_in_status_1_with_the_reason(run: Run, package: Path) -> None:
    ran = run("audit", package.name, "-t", "python3.11-x86_64", status=1)
    first = "error[glibc-too-new] project: native.cpython-311-x86_64-linux-gnu.so needs `GLIBC_2.34`"
    assert ran.stdout.splitlines()[0].startswith(first)
    assert "more: manylambda explain glibc-too-new" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith("python3.11-x86_64: will not load as it is: 1 error, 0 warnings, ")
    assert ran.stderr == ""


def test_the_same_package_loads_elsewhere(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.write(ELF / "glibc_2_34.so", "native.abi3.so")
    ran = run("audit", "made.zip", "-t", "python3.13-x86_64")
    assert ran.stdout == (
        "python3.13-x86_64: nothing found that keeps it from loading: 0 errors, 0 warnings, 0 notes in 1 file, "
        "1 shared object, 5.1 KiB unzipped\n"
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
        put(archive, "app.py")
        put(archive, "json.py")
    ran = run("audit", "made.zip", "-t", "python3.13-arm64")
    assert "[stdlib-shadowed] project: json.py hides " in ran.stdout
    run("audit", "made.zip", "-t", "python3.13-arm64", "--fail-on", "warning", status=1)


@pytest.mark.parametrize(
    ("name", "content", "status", "error"),
    [
        (
            "missing.zip",
            None,
            2,
            (
                "error: there is no package at `missing.zip`\n\n"
                "hint: name a `.zip`, a wheel or a folder that exists, or an image in full: `HOST/NAME:TAG`\n"
            ),
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


# What does not count, and what the configuration says


IGNORED = """
[tool.manylambda]
targets = ["python3.11-x86_64"]
handler = "app.handler"

[tool.manylambda.audit]
ignore = [{ rule = "glibc-too-new", match = "native.*", reason = "we bring our own loader" }]
"""


def test_what_is_ignored_does_not_count_and_is_told_with_its_reason(run: Run, package: Path) -> None:
    (package.parent / "pyproject.toml").write_text(IGNORED, encoding="utf-8")
    ran = run("audit", package.name)
    assert "error[" not in ran.stdout
    assert (
        "ignored: 1 finding: glibc-too-new in native.cpython-311-x86_64-linux-gnu.so (we bring our own loader)\n"
        in ran.stdout
    )
    assert "python3.11-x86_64: nothing found that keeps it from loading: 0 errors, " in ran.stdout
    assert ran.stderr == ""
    document = run("audit", package.name, "--format", "json").json
    schemas.check("audit", document)
    (ignored,) = document["ignored"]
    assert (ignored["rule"], ignored["severity"], ignored["reason"]) == (
        "glibc-too-new",
        "error",
        "we bring our own loader",
    )
    assert "glibc-too-new" not in {finding["rule"] for finding in document["findings"]}


def test_flags_win_over_the_configuration_and_it_may_be_left_alone(run: Run, package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(IGNORED, encoding="utf-8")
    run("audit", package.name, "--project", "project")
    run("audit", package.name, "--project", "project", "--ignore", "secret-file", status=1)
    ran = run("audit", package.name, "-t", "python3.13-x86_64", "--project", "project", "-v", status=1)
    assert "python3.13-x86_64: " in ran.stdout
    assert ran.stderr.splitlines() == [
        "note: the handler `app.handler` is what the configuration says; `--no-config` reads none"
    ]
    ran = run("audit", "../" + package.name, "--no-config", cwd=folder, status=2)
    assert ran.stderr.startswith("error: no target is given\n")
    run("audit", "../" + package.name, "--no-config", "-t", "python3.11-x86_64", cwd=folder, status=1)


def test_a_handler_of_the_configuration_that_is_missed_is_told_to_be_one(run: Run, package: Path) -> None:
    (package.parent / "manylambda.toml").write_text('handler = "other.run"', encoding="utf-8")
    ran = run("audit", package.name, "-t", "python3.13-x86_64", status=1)
    assert "error[handler-missing]" in ran.stdout
    assert ran.stderr == "note: the handler `other.run` is what the configuration says; `--no-config` reads none\n"
    ran = run("audit", package.name, "-t", "python3.13-x86_64", "--handler", "app.handler", status=1)
    assert ran.stderr == ""


def test_layers_of_the_configuration_count_but_not_on_top_of_themselves(run: Run, tmp_path: Path) -> None:
    for name in ("layer", "function"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            put(archive, "python/x.py" if name == "layer" else "app.py", b"#" * 1000)
    (tmp_path / "manylambda.toml").write_text('layers = ["layer.zip"]\nhandler = "x.run"', encoding="utf-8")

    def size(name: str) -> int:
        ran = run("audit", name, "-t", "python3.13-arm64", "--format", "json", status=int(name == "function.zip"))
        return int(ran.json["summary"]["unzipped_size"])

    assert size("function.zip") == 2000
    assert size("layer.zip") == 1000


def test_what_ignores_nothing_is_told_when_the_command_said_it(run: Run, package: Path) -> None:
    (package.parent / "manylambda.toml").write_text('audit.ignore = ["secret-file"]', encoding="utf-8")
    target = ("-t", "python3.13-x86_64")
    assert run("audit", package.name, *target, status=1).stderr == ""
    ran = run("audit", package.name, *target, "--ignore", "secret-file:*.env", status=1)
    assert ran.stderr == "note: nothing was found that `secret-file:*.env` ignores: remove it, or correct it\n"


def test_a_rule_that_is_none_is_a_wrong_request(run: Run, package: Path) -> None:
    ran = run("audit", package.name, "-t", "python3.13-x86_64", "--ignore", "libary-missing", status=2)
    assert ran.stderr == (
        "error: `--ignore`: `libary-missing` is not a rule\n\nhint: did you mean `library-missing`?\n"
    )


def test_an_ignored_error_does_not_stop_a_build(run: Run, project: Path) -> None:
    (project / "own.so").write_bytes((ELF / "glibc_2_34.so").read_bytes())
    flags = ("-t", "python3.11-x86_64", "--ignore", "glibc-too-new:own.so", "--ignore", "wrong-machine:gone.so")
    ran = run("build", project, *flags, "--format", "json")
    schemas.check("build", ran.json)
    assert [one["rule"] for one in ran.artifact["ignored"]] == ["glibc-too-new"]
    assert ran.artifact["path"] is not None
    stale = "note: nothing was found that `wrong-machine:gone.so` ignores: remove it, or correct it"
    assert [line for line in ran.stderr.splitlines() if line.startswith("note:")] == [stale]
    ran = run("build", project, *flags[:4])
    assert "ignored: 1 finding: glibc-too-new in own.so\n" in ran.stdout
    run("build", project, *flags[:2], status=1)


# Other formats


def test_sarif_names_the_package_from_where_the_command_runs(run: Run, package: Path) -> None:
    ran = run("audit", package, "-t", "python3.11-x86_64", "--format", "sarif", status=1)
    (one,) = ran.json["runs"]
    (result,) = (each for each in one["results"] if each["ruleId"] == "glibc-too-new")
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "made.zip"
    assert one["automationDetails"]["id"] == "manylambda/python3.11-x86_64/made.zip/"
    assert str(package.parent) not in ran.stdout


def test_html_is_utf_8_whatever_a_pipe_has_by_default(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "éü日.zip", "w") as archive:
        put(archive, "app.py")
    ran = run("audit", "éü日.zip", "-t", "python3.13-arm64", "--format", "html", env={"PYTHONIOENCODING": "cp1252"})
    assert ran.stdout.lower().startswith("<!doctype html>")
    assert "éü日.zip" in ran.stdout


def test_results_have_colours_only_where_somebody_wants_them(run: Run, package: Path) -> None:
    target = ("-t", "python3.11-x86_64")
    assert "\033[" not in run("audit", package.name, *target, status=1).stdout
    painted = run("audit", package.name, *target, env={"FORCE_COLOR": "1", "NO_COLOR": ""}, status=1).stdout
    assert painted.startswith("\033[1;31merror[glibc-too-new]\033[0m ")
    both = {"FORCE_COLOR": "1", "NO_COLOR": "1"}
    assert "\033[" not in run("audit", package.name, *target, env=both, status=1).stdout
    for form in ("json", "sarif"):
        ran = run("audit", package.name, *target, "--format", form, env={"FORCE_COLOR": "1", "NO_COLOR": ""}, status=1)
        assert "\\u001b" not in ran.stdout
        assert "\033" not in ran.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_a_terminal_gets_colours_and_its_width(package: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    def shown(**more: str) -> str:
        outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS", "TERM"}}
        subprocess.run(
            command("audit", package, "-t", "python3.11-x86_64"),
            env={**environment, "TERM": "xterm", **more},
            stdout=inner,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        os.close(inner)
        text = b""
        with contextlib.suppress(OSError):  # so a terminal ends on Linux
            while part := os.read(outer, 65536):
                text += part
        os.close(outer)
        return text.decode()

    painted = shown()
    assert "\033[1;31merror[glibc-too-new]\033[0m" in painted
    lines = re.sub("\033\\[[0-9;]*m", "", painted).splitlines()
    assert len(lines) > 4
    assert all(len(line) <= 60 for line in lines)
    assert "\033" not in shown(NO_COLOR="1")
    assert "\033" not in shown(TERM="dumb")
