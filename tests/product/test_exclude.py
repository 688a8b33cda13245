"""What need not be shipped: what the user excludes, what the runtime has, and what only those needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manylambda.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Ran, Run
    from product.loopback import Index

TARGET = "python3.13-arm64"
HAS = Target.parse(TARGET).preinstalled


def shipped(ran: Ran) -> list[str]:
    return [one["name"] for one in ran.artifact["distributions"]]


@pytest.fixture
def graph(index: Index, project: Path) -> Path:
    """Make app -> (left -> (shared, only-left), right -> shared)."""
    files = [
        index.wheel("left", requires=["shared", "only-left", "extra-of-left; extra == 'more'"]),
        index.wheel("right", requires=["shared"]),
        index.wheel("shared"),
        index.wheel("only-left", requires=["deeper"]),
        index.wheel("deeper"),
    ]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    return project


def test_a_distribution_goes_with_what_only_it_needs(run: Run, graph: Path) -> None:
    ran = run("build", graph, "-t", TARGET, "--exclude", "Left", "--format", "json")
    assert shipped(ran) == ["right", "shared"]
    assert ran.stderr == (
        "dependencies from `pylock.toml` (locked)\n"
        "python3.13-arm64: `deeper` is left out: only `only-left` needed it\n"
        "python3.13-arm64: `left` is left out: excluded\n"
        "python3.13-arm64: `only-left` is left out: only `left` needed it\n"
    )


def test_what_another_still_needs_is_excluded_only_by_name_and_is_then_missed(run: Run, graph: Path) -> None:
    ran = run("build", graph, "-t", TARGET, "--exclude", "shared", "--format", "json", status=1)
    missing = [(one["rule"], one["distribution"]) for one in ran.artifact["findings"]]
    assert missing == [("distribution-missing", "left"), ("distribution-missing", "right")]


def test_an_unknown_name_is_not_passed_over(run: Run, graph: Path) -> None:
    ran = run("build", graph, "-t", TARGET, "--exclude", "rihgt", status=2)
    assert ran.stderr.endswith(
        "error: nothing to exclude: `rihgt` is not among the distributions\n\nhint: did you mean `right`?\n"
    )


def test_a_distribution_needed_directly_too_stays(run: Run, index: Index, project: Path) -> None:
    for wheel in ("demo", "base"):
        index.wheel(wheel, requires=["base"] if wheel == "demo" else [])
    (project / "requirements.txt").write_text("demo\nbase\n", encoding="utf-8")
    assert shipped(run("build", project, "-t", TARGET, "--exclude", "demo", "--format", "json")) == ["base"]


def test_what_the_runtime_has_is_left_out_and_its_versions_told(run: Run, index: Index, project: Path) -> None:
    """What only a distribution needs that goes is no need: boto3 and botocore of the runtime belong together."""
    ours = HAS["boto3"]
    files = [
        index.wheel("boto3", ours, requires=["botocore>=98", "only-boto"]),
        index.wheel("botocore", "99.0"),
        index.wheel("only-boto"),
        index.wheel("demo", requires=["boto3>=1"]),
    ]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--exclude-provided", "--format", "json")
    assert shipped(ran) == ["demo"]
    assert ran.artifact["findings"] == []
    assert ran.stderr == (
        "dependencies from `pylock.toml` (locked)\n"
        f"{TARGET}: `boto3` is left out: python3.13 has {ours}, which satisfies every need (the same version)\n"
        f"{TARGET}: `botocore` is left out: python3.13 has {HAS['botocore']}, which satisfies every need "
        "(in place of 99.0)\n"
        f"{TARGET}: `only-boto` is left out: only `boto3` needed it\n"
    )


def test_what_the_runtime_has_too_old_is_kept(run: Run, index: Index, project: Path) -> None:
    files = [index.wheel("boto3", "99.0"), index.wheel("demo", requires=["boto3>=99"])]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--exclude-provided", "--format", "json")
    assert shipped(ran) == ["boto3", "demo"]
    assert ran.stderr.endswith(
        f"{TARGET}: `boto3` is kept: python3.13 has {HAS['boto3']}, but `demo` needs `boto3>=99`\n"
    )


def test_what_is_kept_keeps_what_it_needs(run: Run, index: Index, project: Path) -> None:
    files = [
        index.wheel("boto3", "99.0", requires=["botocore>=99"]),
        index.wheel("botocore", "99.0"),
        index.wheel("demo", requires=["boto3>=99"]),
    ]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--exclude-provided", "--format", "json")
    assert shipped(ran) == ["boto3", "botocore", "demo"]
    assert ran.stderr.endswith(
        f"{TARGET}: `boto3` is kept: python3.13 has {HAS['boto3']}, but `demo` needs `boto3>=99`\n"
        f"{TARGET}: `botocore` is kept: python3.13 has {HAS['botocore']}, but `boto3` needs `botocore>=99`\n"
    )


def test_a_pin_is_no_need(run: Run, index: Index, project: Path) -> None:
    """`uv export` and `pip-compile` pin everything: then nothing could ever be left out."""
    index.wheel("boto3", "99.0")
    ran = run("build", project, "-t", TARGET, "--exclude-provided", "-r", "-", "--format", "json", stdin="boto3==99.0")
    assert shipped(ran) == []
    assert "which satisfies every need (in place of 99.0)" in ran.stderr


def test_what_only_an_asked_for_extra_needs_goes_with_its_distribution(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", requires=["behind; extra == 'all'"], extras=["all"])
    index.wheel("behind")
    index.wheel("other")
    (project / "requirements.txt").write_text("demo[all]\nother\n", encoding="utf-8")
    flags = ("-t", TARGET, "--exclude", "demo", "--format", "json")
    assert shipped(run("build", project, *flags)) == ["other"]
    run("lock", project, "-t", TARGET)
    assert shipped(run("build", project, *flags)) == ["other"]


def test_distributions_that_need_each_other_stay_unless_one_is_excluded(run: Run, index: Index, project: Path) -> None:
    files = [index.wheel("egg", requires=["hen"]), index.wheel("hen", requires=["egg"]), index.wheel("other")]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    assert shipped(run("build", project, "-t", TARGET, "--exclude", "other", "--format", "json")) == ["egg", "hen"]
    assert shipped(run("build", project, "-t", TARGET, "--exclude", "egg", "--format", "json")) == ["other"]


def test_what_the_project_itself_asks_for_counts_as_a_need(run: Run, index: Index, project: Path) -> None:
    index.wheel("boto3", "99.0")
    (project / "requirements.txt").write_text("boto3>=99\n", encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--exclude-provided", "--format", "json")
    assert shipped(ran) == ["boto3"]
    assert ran.stderr.endswith(
        f"{TARGET}: `boto3` is kept: python3.13 has {HAS['boto3']}, but the project needs `boto3>=99`\n"
    )


def test_a_layer_of_what_is_excluded_and_the_rest_make_a_whole(run: Run, graph: Path) -> None:
    layer = run("build", graph, "-t", TARGET, "--kind", "layer", "--exclude", "right", "--format", "json").artifact
    ran = run(
        "build", graph, "-t", TARGET, "--exclude", "left", "--exclude", "shared", "--layer", layer["path"],
        "--format", "json",
    )  # fmt: skip
    assert shipped(ran) == ["right"]
    assert ran.artifact["findings"] == []
