"""What a package hides of the runtime, and what of the runtime then no longer fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import manylambda
from manylambda.target import all_targets
from rules.packages import distribution, files, findings, told

X86, OLD = "python3.13-x86_64", "python3.9-x86_64"
PYTHON = json.loads((Path(manylambda.__file__).parent / "data" / "python.json").read_text("utf-8"))


def messages(target: str, *entries: object) -> list[tuple[str, str | None, str]]:
    found = [one for one in findings(target, *entries) if one.rule == "runtime-shadowed"]  # type: ignore[arg-type]
    return [(one.severity.value, one.distribution, one.message) for one in found]


def test_runtime_shadowed_by_the_sdk_is_a_note_with_both_versions() -> None:
    sdk = [
        distribution("boto3", "1.43.1", {"boto3/__init__.py": ""}),
        distribution("botocore", "1.43.1", {"botocore/__init__.py": ""}),
        distribution("s3transfer", "0.17.0", {"s3transfer/__init__.py": ""}),
    ]
    assert messages(X86, *sdk) == [
        (
            "note",
            "boto3",
            "`boto3` 1.43.1 and `botocore` 1.43.1 of the package are used, not the runtime's (1.40.4 when last seen)",
        )
    ]


def test_runtime_shadowed_by_what_the_rest_of_it_does_not_accept() -> None:
    urllib3 = distribution("urllib3", "2.6.0", {"urllib3/__init__.py": ""})
    ((severity, distribution_name, message),) = messages(OLD, urllib3)
    assert (severity, distribution_name) == ("warning", "urllib3")
    assert message == (
        "2.6.0 takes the place of the runtime's, "
        "and the runtime's `botocore` (1.40.4 when last seen) needs `urllib3>=1.25.4,<1.27`"
    )
    assert messages(X86, urllib3) == []
    assert len(messages(X86, distribution("urllib3", "2.2.0"))) == 1
    assert messages(OLD, distribution("urllib3", "1.26.20")) == []
    ((severity, *_),) = messages(X86, distribution("python-dateutil", "4.0.0", {"dateutil/__init__.py": ""}))
    newer = [one[0] for one in messages(X86, distribution("botocore", "1.44.5"))]
    assert newer == ["note", "note"], "newer ones keep what the runtime's boto3 asks for"
    assert severity == "note", "its range is declared, but nothing is known to fail"


def test_a_whole_sdk_of_ones_own_is_resolved_together() -> None:
    bundled = [distribution("urllib3", "2.6.0"), distribution("botocore", "1.43.1"), distribution("boto3", "1.43.1")]
    assert [one for one in messages(OLD, *bundled) if "`botocore` (" in one[2]] == []
    assert [one[1] for one in messages(X86, distribution("botocore", "1.30.0")) if one[0] == "warning"] == [
        "botocore",
        "botocore",
    ]


@pytest.mark.parametrize(
    ("path", "target", "is_told"),
    [
        ("boto3.py", X86, True),
        ("urllib3.py", X86, True),
        ("awslambdaric/__init__.py", X86, True),
        ("bootstrap.py", "python3.8-x86_64", True),
        ("bootstrap.py", X86, False),
        ("pkg/boto3.py", X86, False),
        ("boto3/__init__.py", X86, False),
    ],
)
def test_runtime_shadowed_by_files_of_the_project(path: str, target: str, is_told: bool) -> None:
    found = [one for one in told(target, files({path: ""})) if one[0] == "runtime-shadowed"]
    assert found == ([("runtime-shadowed", "warning", path)] if is_told else [])


def test_an_image_and_a_wheel_may_bring_their_own() -> None:
    entries = [distribution("urllib3", "2.6.0"), files({"awslambdaric/__init__.py": ""})]
    for kind in ("image", "wheel"):
        assert "runtime-shadowed" not in {rule for rule, _, _ in told(OLD, *entries, kind=kind)}


def test_the_requirements_of_every_runtimes_distributions_are_known() -> None:
    for target in all_targets():
        for name, by_version in PYTHON["runtime_requirements"].items():
            assert target.preinstalled.get(name) in {None, *by_version}, f"{name} of {target}"
