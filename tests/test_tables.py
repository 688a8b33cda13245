"""The runtimes table: its schema, its sources, its order, and the tool that refreshes it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import zipfile
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from manylambda.target import Target, all_targets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[1]
TEXT = resources.files("manylambda").joinpath("data/runtimes.json").read_text(encoding="utf-8")
TABLE: dict[str, Any] = json.loads(TEXT)
SYSTEMS = ["al2018.03", "al2", "al2023"]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_runtimes", ROOT / "tools" / "update_runtimes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def groups(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk to every group of facts."""
    if isinstance(value, dict):
        if "confidence" in value:
            yield path, value
            return
        for key, inner in value.items():
            yield from groups(inner, f"{path}.{key}")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_the_table_is_what_its_schema_says() -> None:
    schema = json.loads(resources.files("manylambda").joinpath("data/runtimes.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(TABLE)


def test_reading_and_writing_the_table_changes_nothing(tool: ModuleType) -> None:
    assert tool.dump(json.loads(TEXT)) == TEXT


def test_the_table_stays_small_because_every_command_reads_it() -> None:
    assert len(TEXT) < 150_000


def test_every_fact_names_sources_that_are_described_and_every_source_is_used() -> None:
    found = dict(groups(TABLE))
    assert len(found) > 9 * 7
    for path, group in found.items():
        assert group["sources"], path
        assert set(group["sources"]) <= TABLE["sources"].keys(), path
    assert {source for group in found.values() for source in group["sources"]} == TABLE["sources"].keys()


def test_every_row_is_of_groups_with_sources() -> None:
    for rows in (TABLE["runtimes"], TABLE["operating_systems"]):
        for name, row in rows.items():
            bare = {key for key, value in row.items() if not (isinstance(value, dict) and "sources" in value)}
            assert bare <= {"architectures", "builds", "name"}, name


def test_every_row_has_its_own_architectures_and_nothing_twice() -> None:
    for rows, keys in (
        (TABLE["runtimes"], ["preinstalled", "sonames", "stdlib_extensions"]),
        (TABLE["operating_systems"], ["sonames"]),
    ):
        for name, row in rows.items():
            for key in keys:
                own = {arch for arch in ("arm64", "x86_64") if arch in row[key]}
                assert own == set(row["architectures"]), (name, key)
                for arch in own:
                    assert not set(row[key]["common"]) & set(row[key][arch]), (name, key, arch)
    for name, system in TABLE["operating_systems"].items():
        assert {"arm64", "x86_64"} & system["symbol_versions"].keys() == set(system["architectures"]), name


def test_lists_that_have_no_order_of_their_own_are_sorted() -> None:
    for path, group in groups(TABLE):
        for key in ("common", "arm64", "x86_64"):
            if isinstance(group.get(key), list):
                assert group[key] == sorted(group[key]), f"{path}.{key}"


def test_a_newer_system_provides_no_less() -> None:
    rows = [TABLE["operating_systems"][name] for name in SYSTEMS]
    assert set(SYSTEMS) == TABLE["operating_systems"].keys()
    glibcs = [numbers(row["glibc"]["version"]) for row in rows]
    assert glibcs == sorted(glibcs)
    for architecture in ("arm64", "x86_64"):
        levels = [row["symbol_versions"][architecture] for row in rows if architecture in row["architectures"]]
        for older, newer in pairwise(levels):
            assert_no_less(older["conservative"], newer["conservative"])
        for level in levels:
            assert_no_less(level["conservative"], level.get("current", level["conservative"]))


def assert_no_less(older: dict[str, Any], newer: dict[str, Any]) -> None:
    assert older.keys() == newer.keys()
    for name, namespace in older.items():
        if "members" in namespace:
            assert set(namespace["members"]) <= set(newer[name]["members"]), name
        else:
            assert numbers(namespace["ceiling"]) <= numbers(newer[name]["ceiling"]), name


def test_a_newer_runtime_has_no_older_system() -> None:
    by_python = sorted(all_targets(), key=lambda target: target.python)
    assert [SYSTEMS.index(target.os) for target in by_python] == sorted(SYSTEMS.index(t.os) for t in by_python)


def test_the_glibc_ceiling_is_the_glibc_version() -> None:
    for target in all_targets():
        assert target.symbol_versions["GLIBC"] == target.symbol_versions_at("current")["GLIBC"] == str(target.glibc)


def test_runtimes_agree_with_their_name() -> None:
    for name, row in TABLE["runtimes"].items():
        minor = name.removeprefix("python")
        assert re.fullmatch(rf"{re.escape(minor)}\.\d+", row["cpython"]["full_version"]), name
        assert row["cpython"]["abi"].rstrip("m") == "cp" + minor.replace(".", "")
        assert row["image"]["tag"].removesuffix("-preview") == minor
        assert row["os"]["id"] in TABLE["operating_systems"]
        assert set(row["architectures"]) <= set(TABLE["operating_systems"][row["os"]["id"]]["architectures"])
        assert any(soname.startswith(f"libpython{minor}") for soname in row["sonames"]["common"]), name


def test_the_patch_level_is_no_less_than_what_was_seen() -> None:
    for name, row in TABLE["runtimes"].items():
        cpython = row["cpython"]
        if cpython["observed"] is not None:
            assert numbers(cpython["observed"]) <= numbers(cpython["full_version"]), name
        assert (cpython["basis"] == "observed") == (cpython["observed"] == cpython["full_version"]), name


def test_the_days_of_a_life_are_in_order() -> None:
    lives = {**TABLE["retired"], **{name: row["lifecycle"] for name, row in TABLE["runtimes"].items()}}
    for name, life in lives.items():
        days = [life[key] for key in ("released", "deprecated", "block_create", "block_update") if life[key]]
        assert days == sorted(days), name
    assert all(life["block_update"] <= TABLE["as_of"] for life in TABLE["retired"].values())


def test_nothing_in_the_table_is_younger_than_the_table() -> None:
    for path, group in groups(TABLE):
        if path.endswith((".sonames", ".preinstalled", ".packages", ".stdlib_extensions")):
            assert group["observed"] <= TABLE["as_of"], path


# --- tools/update_runtimes.py

RUNTIMES = [*TABLE["runtimes"], *TABLE["retired"], "nodejs22.x"]


def wheels(folder: Path, *, runtimes: list[str], lifecycle: dict[str, Any], architectures: list[str]) -> Path:
    """Write two wheels with the files the tool reads, shaped as the real ones."""
    limits = TABLE["execution_environment"]["limits"]["values"]
    shapes = {
        "Runtime": {"type": "string", "enum": runtimes},
        "Architecture": {"type": "string", "enum": architectures},
        "CompatibleArchitectures": {"max": limits["compatible_architectures"]},
        "CompatibleRuntimes": {"max": limits["compatible_runtimes"]},
        "Description": {"max": limits["description_characters"]},
        "Handler": {"max": limits["handler_characters"]},
        "S3Key": {"max": limits["s3_key_characters"]},
    }
    with zipfile.ZipFile(folder / "botocore-9.9.9-py3-none-any.whl", "w") as archive:
        model = gzip.compress(json.dumps({"shapes": shapes}).encode())
        archive.writestr("botocore/data/lambda/2015-03-31/service-2.json.gz", model)
    with zipfile.ZipFile(folder / "cfn_lint-8.8.8-py3-none-any.whl", "w") as archive:
        archive.writestr("cfnlint/data/AdditionalSpecs/LmbdRuntimeLifecycle.json", json.dumps(lifecycle))
    return folder


def published() -> dict[str, Any]:
    lives = {**TABLE["retired"], **{name: row["lifecycle"] for name, row in TABLE["runtimes"].items()}}
    return {
        name: {
            "deprecated": life["deprecated"],
            "create-block": life["block_create"],
            "update-block": life["block_update"],
            "successor": None,
        }
        for name, life in lives.items()
        if life["deprecated"]
    }


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runtimes.json"
    path.write_text(TEXT, encoding="utf-8", newline="\n")
    return path


def test_packages_that_agree_are_no_drift(
    tool: ModuleType, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = wheels(tmp_path, runtimes=RUNTIMES, lifecycle=published(), architectures=["x86_64", "arm64"])
    assert tool.main(["--check", "--wheels", str(folder), "--table", str(table)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "9 runtimes and 2 retired ones agree"
    assert table.read_text(encoding="utf-8") == TEXT


def test_dates_that_moved_are_drift_and_are_written(
    tool: ModuleType, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lifecycle = published()
    lifecycle["python3.10"]["create-block"] = "2027-02-15"
    folder = wheels(tmp_path, runtimes=RUNTIMES, lifecycle=lifecycle, architectures=["x86_64", "arm64"])
    arguments = ["--wheels", str(folder), "--table", str(table), "--as-of", "2026-12-24"]

    assert tool.main(["--check", *arguments]) == 1
    assert "drift: python3.10 block_create: 2027-02-01 -> 2027-02-15" in capsys.readouterr().out.splitlines()
    assert table.read_text(encoding="utf-8") == TEXT

    assert tool.main(arguments) == 0
    written = json.loads(table.read_text(encoding="utf-8"))
    assert written["as_of"] == "2026-12-24"
    assert written["runtimes"]["python3.10"]["lifecycle"]["block_create"] == "2027-02-15"
    assert written["sources"]["botocore"].startswith("botocore 9.9.9 ")
    assert written["sources"]["cfn-lint"].startswith("cfn-lint 8.8.8 ")
    assert tool.main(["--check", *arguments]) == 0
    assert table.read_text(encoding="utf-8") == tool.dump(written)


def test_new_runtimes_and_architectures_ask_for_a_human(
    tool: ModuleType, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lifecycle = published()
    lifecycle["python3.15"] = {"deprecated": "2031-06-30", "create-block": "2031-07-31", "update-block": "2031-08-31"}
    del lifecycle["python3.9"]
    runtimes = [name for name in RUNTIMES if name != "python3.7"] + ["python3.16"]
    folder = wheels(tmp_path, runtimes=runtimes, lifecycle=lifecycle, architectures=["x86_64", "arm64", "riscv64"])
    assert tool.main(["--wheels", str(folder), "--table", str(table)]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(("by hand", "drift"))] == [
        "by hand: python3.7: the table has it, botocore does not",
        "by hand: python3.16: botocore has it, the table does not",
        "by hand: architecture riscv64: botocore has it, we do not",
        "by hand: python3.9: cfn-lint has no lifecycle for it",
        "drift: python3.15 deprecated: None -> 2031-06-30",
        "drift: python3.15 block_create: None -> 2031-07-31",
        "drift: python3.15 block_update: None -> 2031-08-31",
        "by hand: python3.15: has lifecycle dates and is marked a preview",
    ]


def test_a_table_written_by_hand_is_made_canonical(
    tool: ModuleType, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(json.dumps(TABLE), encoding="utf-8")
    folder = wheels(tmp_path, runtimes=RUNTIMES, lifecycle=published(), architectures=["x86_64", "arm64"])
    arguments = ["--wheels", str(folder), "--table", str(table)]
    assert tool.main(["--check", *arguments]) == 1
    assert "drift: the file is not written canonically" in capsys.readouterr().out.splitlines()
    assert tool.main(arguments) == 0
    assert tool.main(["--check", *arguments]) == 0


def test_missing_packages_are_an_error(
    tool: ModuleType, tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--check", "--wheels", str(tmp_path), "--table", str(table)]) == 2
    assert capsys.readouterr().err == (
        f"error: the packages could not be read: one wheel of `botocore` is expected in `{tmp_path}`, found 0\n"
    )


@pytest.mark.network
def test_the_real_packages_can_be_read(tool: ModuleType, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Drift is news for whoever maintains the table, not a defect of the code.
    assert tool.main(["--check", "--table", str(table)]) in {0, 1}
    assert "read botocore: botocore 1." in capsys.readouterr().out


def test_every_target_of_the_issue_is_there() -> None:
    for minor in range(9, 16):
        for architecture in ("x86_64", "arm64"):
            assert Target.parse(f"python3.{minor}-{architecture}").can_build
