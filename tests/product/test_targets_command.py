"""`manylambda targets`: the runtimes table, all of it or one row in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda.target import all_targets
from product import schemas

if TYPE_CHECKING:
    from product.conftest import Run


def test_the_table_has_a_line_for_every_target(run: Run) -> None:
    lines = run("targets").stdout.splitlines()
    assert lines[0].split() == ["target", "python", "os", "glibc", "status", "deprecated"]
    assert [line.split()[0] for line in lines[1:]] == [str(target) for target in all_targets()]


def test_preview_deprecated_and_audit_only_runtimes_say_so(run: Run) -> None:
    lines = {line.split()[0]: line for line in run("targets").stdout.splitlines()}
    assert "audit only" in lines["python3.8-x86_64"]
    assert "deprecated" in lines["python3.9-arm64"]
    assert "preview" in lines["python3.15-arm64"]
    assert "supported" in lines["python3.13-arm64"]


def test_one_target_is_shown_in_full(run: Run) -> None:
    shown = run("targets", "python3.11-arm64").stdout.splitlines()
    assert shown[0] == "target        python3.11-arm64"
    assert "os            al2, glibc 2.26" in shown
    assert "machine       aarch64" in shown
    assert any(line.startswith("tags ") and "cp311-cp311-manylinux_2_26_aarch64" in line for line in shown)
    assert any("platform_machine = 'aarch64'" in line for line in shown)
    assert any(line.startswith("preinstalled ") for line in shown)


def test_json_holds_to_its_schema(run: Run) -> None:
    document = run("targets", "--format", "json").json
    schemas.check("targets", document)
    assert [one["target"] for one in document["targets"]] == [str(target) for target in all_targets()]
    one = run("targets", "python3.13-arm64", "--format", "json").json
    schemas.check("targets", one)
    assert one["targets"] == [row for row in document["targets"] if row["target"] == "python3.13-arm64"]


def test_an_unknown_target_is_a_wrong_request(run: Run) -> None:
    ran = run("targets", "python3.13-aarch64", status=2)
    assert ran.stdout == ""
    assert ran.stderr == (
        "error: `aarch64` is not an architecture of Lambda: `python3.13-aarch64`\n\nhint: write `python3.13-arm64`\n"
    )
