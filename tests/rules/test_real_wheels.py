"""Real wheels from the index: the right ones have no error, and each wrong one has the error expected and no other."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from manylambda import rules
from manylambda.audits import Severity, open_package, run
from manylambda.target import Target
from manylambda.tree import overlay

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.audits import Finding

pytestmark = pytest.mark.network


def wheel(cache: Path, requirement: str, python: str, *platforms: str, abi: str | None = None) -> Path:
    folder = cache / "-".join([requirement.replace("=", ""), python, platforms[0], abi or ""])
    if not any(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", python, "-d", str(folder), requirement]
        command += [f"--platform={platform}" for platform in platforms] + ([f"--abi={abi}"] if abi else [])
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            pytest.skip(f"cannot download {requirement}: {done.stderr[-200:]}")
    return next(folder.glob("*.whl"))


def manylinux(machine: str, *levels: int) -> list[str]:
    return [f"manylinux2014_{machine}", *(f"manylinux_2_{level}_{machine}" for level in levels)]


def errors(target: str, *wheels: Path) -> list[Finding]:
    packages = [open_package(path) for path in wheels]
    tree, _ = overlay(package.tree for package in packages)
    report = run(tree, Target.parse(target), rules.ALL, kind="wheel")
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    "requirement",
    ["numpy==2.5.5", "pydantic-core==2.50.4", "cryptography==50.0.2", "psycopg2-binary==2.9.13", "pyarrow==26.0.1"],
)
def test_right_wheels_have_no_error(shared_cache: Path, requirement: str, machine: str) -> None:
    path = wheel(shared_cache, requirement, "3.13", *manylinux(machine, 17, 24, 26, 27, 28, 34))
    target = f"python3.13-{'arm64' if machine == 'aarch64' else machine}"
    assert errors(target, path) == []


def test_lightgbm_misses_libgomp(shared_cache: Path) -> None:
    path = wheel(shared_cache, "lightgbm==4.7.0", "3.13", *manylinux("x86_64", 27, 28))
    (finding,) = errors("python3.13-x86_64", path)
    assert (finding.rule, finding.path) == ("library-missing", "lightgbm/lib/lib_lightgbm.so")
    assert finding.message == "needs `libgomp.so.1`, which neither the runtime nor the package has"
    assert "`lib/`" in (finding.hint or "")


def test_opencv_misses_the_libraries_of_a_display(shared_cache: Path) -> None:
    path = wheel(shared_cache, "opencv-python==5.0.0.93", "3.13", *manylinux("x86_64", 28))
    found = errors("python3.13-x86_64", path)
    assert {finding.rule for finding in found} == {"library-missing"}
    missing = {finding.message.split("`")[1] for finding in found}
    assert {"libGL.so.1", "libX11.so.6", "libxcb.so.1"} <= missing
    assert "cv2/cv2.abi3.so -> " in next(finding.message for finding in found if "libGL" in finding.message)
    assert {finding.hint for finding in found} == {
        "use `opencv-python-headless`: the same `cv2` without windows, which needs no libraries of a display"
    }


def test_numpy_for_a_newer_glibc_is_too_new_for_amazon_linux_2(shared_cache: Path) -> None:
    path = wheel(shared_cache, "numpy==2.4.6", "3.11", *manylinux("x86_64", 27, 28))
    found = errors("python3.11-x86_64", path)
    assert {finding.rule for finding in found} == {"glibc-too-new"}
    assert {finding.distribution for finding in found} == {"numpy"}
    assert any("`GLIBC_2.27`" in finding.message or "`GLIBC_2.28`" in finding.message for finding in found)
    assert errors("python3.12-x86_64", wheel(shared_cache, "numpy==2.4.6", "3.12", *manylinux("x86_64", 27, 28))) == []


MARKUPSAFE = "markupsafe==3.0.3"


@pytest.mark.parametrize(
    ("python", "platform", "abi", "target", "rule"),
    [
        ("3.13", "musllinux_1_2_x86_64", None, "python3.13-x86_64", "musl-linked"),
        ("3.13", "macosx_11_0_arm64", None, "python3.13-arm64", "foreign-binary"),
        ("3.13", "win_amd64", None, "python3.13-x86_64", "foreign-binary"),
        ("3.12", "manylinux2014_x86_64", None, "python3.13-x86_64", "abi-tag-mismatch"),
        ("3.13", "manylinux2014_x86_64", "cp313t", "python3.13-x86_64", "abi-tag-mismatch"),
        ("3.13", "manylinux2014_x86_64", None, "python3.13-arm64", "wrong-machine"),
    ],
    ids=["musl", "macOS", "Windows", "older Python", "free-threaded", "other machine"],
)
def test_a_wheel_for_something_else(
    shared_cache: Path, python: str, platform: str, abi: str | None, target: str, rule: str
) -> None:
    (finding,) = errors(target, wheel(shared_cache, MARKUPSAFE, python, platform, abi=abi))
    assert finding.rule == rule
    assert (finding.path or "").startswith("markupsafe/_speedups.")


def test_numba_can_do_without_its_optional_threading_layers(shared_cache: Path) -> None:
    path = wheel(shared_cache, "numba==0.68.1", "3.13", *manylinux("x86_64", 27, 28))
    assert errors("python3.13-x86_64", path) == []
