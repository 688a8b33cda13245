"""The Python API: the same functions the command line uses, without a word printed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from manylambda import Architecture, ManylambdaError, Severity, Target, audit, build, load_settings, lock, plan
from manylambda.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from product.loopback import Index


def test_lock_plan_build_and_audit_return_values_and_print_nothing(
    index: Index, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    index.wheel("demo", requires=["base"])
    base = index.wheel("base")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    settings = load_settings(project, targets=["python3.13-arm64", Target.parse("python3.12-x86_64")])

    locked = lock(settings)
    assert (locked.path, locked.packages) == (project / "pylock.toml", 2)
    planned = plan(settings)
    assert [one.name for one in planned.targets[0].distributions] == ["base", "demo"]
    result = build(settings)
    assert [str(artifact.target) for artifact in result.artifacts] == ["python3.13-arm64", "python3.12-x86_64"]
    arm = result.artifacts[0]
    assert arm.target.architecture is Architecture.ARM64
    assert arm.written is not None
    assert arm.path is not None
    assert arm.path.read_bytes()[:2] == b"PK"
    assert arm.distributions[0].file == base.name
    report = audit(arm.path, arm.target)
    assert report.findings == ()
    assert not report.has_errors
    assert report.number_of(Severity.ERROR) == 0
    assert capfd.readouterr() == ("", "")


def test_errors_are_raised_with_message_hint_and_status(project: Path) -> None:
    with pytest.raises(ManylambdaError) as caught:
        load_settings(project, targets=["python3.13-arm"])
    assert isinstance(caught.value, RequestError)
    assert (caught.value.exit_status, caught.value.code) == (2, "request-wrong")
    assert caught.value.hint == "write `python3.13-arm64`"
    with pytest.raises(RequestError, match=r"^`tagrets` is not a setting$"):
        load_settings(project, tagrets=["python3.13-arm64"])


def test_importing_costs_nothing_until_a_name_is_used() -> None:
    code = "import sys, manylambda; print([name for name in sys.modules if name.startswith('manylambda.')])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
