"""`manylambda plan --all-targets`: every runtime and architecture, and what keeps a project from there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from product import schemas
from product.sources import sdist
from rules.packages import elf

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index

NOW = "python3.12-x86_64"


def compiled(
    index: Index, name: str, version: str, *pythons: int, machines: tuple[str, ...] = ("x86_64", "aarch64")
) -> None:
    for python in pythons:
        for machine in machines:
            index.wheel(name, version, tags=[f"cp3{python}-cp3{python}-manylinux_2_17_{machine}"])


def matrix(run: Run, project: Path, *arguments: str | Path, requirements: str = "", status: int = 0) -> dict[str, Any]:
    """Run the command and give its rows by target."""
    more = ("-r", "-") if requirements else ()
    document = run(
        "plan", project, "--all-targets", "--format", "json", *more, *arguments, stdin=requirements, status=status
    ).json
    schemas.check("readiness", document)
    return {row["target"]: row for row in document["targets"]}


def messages(row: dict[str, Any], key: str = "blockers") -> list[str]:
    return [blocker["message"] for blocker in row[key]]


def test_every_target_has_its_row_and_every_blocker_is_told(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 12)
    compiled(index, "alpha", "2.0", 12, 13)
    compiled(index, "beta", "1.0", 12, 13, machines=("x86_64",))
    compiled(index, "core", "0.9", 12, 14)
    compiled(index, "core", "1.0", 12)
    index.wheel("top", "1.0", requires=["core==1.0"])
    index.wheel("pure")
    rows = matrix(run, project, requirements="alpha==1.0\nbeta==1.0\ntop\npure\n")
    assert list(rows)[:2] == ["python3.9-arm64", "python3.9-x86_64"]
    assert len(rows) == 14
    assert [target for target, row in rows.items() if row["state"] == "ready"] == [NOW]
    assert messages(rows["python3.12-arm64"]) == ["`beta` 1.0 has no wheel for Linux on aarch64; no release runs there"]
    assert messages(rows["python3.13-x86_64"]) == [
        "`alpha` 1.0 has no wheel for CPython 3.13; 2.0 runs there",
        "`core` 1.0 has no wheel for CPython 3.13; `top` asks for it; no release runs there",
    ]
    assert set(messages(rows["python3.14-arm64"])) == {
        "`alpha` 1.0 has no wheel for CPython 3.14; no release runs there",
        "`beta` 1.0 has no wheel for Linux on aarch64; no release runs there",
        "`core` 1.0 has no wheel for CPython 3.14; `top` asks for it; 0.9 runs there",
    }
    (one,) = [blocker for blocker in rows["python3.14-arm64"]["blockers"] if blocker["distribution"] == "core"]
    assert (one["versions"], one["runs"], one["needed_by"]) == ("==1.0", "0.9", ["top"])


def test_the_table_answers_what_keeps_us_from_a_runtime_in_a_line_each(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 9, 10, 11, 12, 13, 14)
    compiled(index, "alpha", "2.0", 12, 13, 14, 15)
    index.wheel("young", requires_python=">=3.10")
    text = run("plan", project, "--all-targets", "-t", NOW, "-r", "-", stdin="alpha==1.0\nyoung\n").stdout
    assert max(map(len, text.splitlines())) <= 100, text
    assert text.startswith("14 targets: 10 ready, 4 blocked; versions are compared with python3.12-x86_64\n\ntarget ")
    assert re.search(r"^python3\.12-x86_64 \* +ready +2 +1 +0\.0 MiB +\? +0  from ", text, re.MULTILINE)
    assert text.endswith(
        "what blocks:\n"
        "  python3.9\n"
        "    `young` 1.0 requires Python `>=3.10`; the runtime has 3.9.19; no release runs there\n"
        "  python3.15\n"
        "    `alpha` 1.0 has no wheel for CPython 3.15; 2.0 runs there\n"
    )


def test_what_changes_is_told_with_the_reason(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 9, 10, 11, 12)
    compiled(index, "alpha", "2.0", 12, 13, 14, 15)
    index.wheel("backport", requires_python="<3.11")
    rows = matrix(run, project, "-t", NOW, requirements="alpha\nbackport; python_version < '3.11'\n")
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert rows["python3.14-arm64"]["changes"] == []
    assert rows["python3.10-arm64"]["changes"] == [
        {"name": "alpha", "version": "1.0", "reference": "2.0", "why": "has no wheel for CPython 3.10"},
        {"name": "backport", "version": "1.0", "reference": None, "why": None},
    ]
    text = run("plan", project, "--all-targets", "-t", NOW, "-v", "-r", "-", stdin="alpha").stdout
    assert "  python3.9, python3.10, python3.11\n    `alpha` 1.0 in place of 2.0, which" not in text  # reasons differ
    assert "    `alpha` 1.0 in place of 2.0, which has no wheel for CPython 3.9\n" in text
    assert "\ndistribution      python3.9  python3.10  python3.11  python3.12 " in text
    assert "\nalpha (compiled)  1.0        1.0         1.0         2.0 " in text


def test_a_target_that_is_not_ready_fails_the_command_only_where_the_project_has_it(
    run: Run, index: Index, project: Path
) -> None:
    compiled(index, "alpha", "1.0", 12)
    matrix(run, project, "-t", NOW, requirements="alpha")
    matrix(run, project, "-t", NOW, "-t", "python3.13-arm64", requirements="alpha", status=3)
    compiled(index, "nowhere", "1.0", 8)
    matrix(run, project, requirements="nowhere", status=3)


def test_where_a_lock_lacks_a_target_its_requirements_are_resolved_anew(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 12)
    index.wheel("pure", "1.0")
    (project / "requirements.txt").write_text("alpha\npure\n", encoding="utf-8")
    run("lock", project, "-t", NOW)
    compiled(index, "alpha", "2.0", 13)
    index.wheel("pure", "2.0")
    rows = matrix(run, project, "-t", NOW)
    assert rows[NOW]["state"] == "ready"
    matrix(run, project, "-t", "python3.13-arm64", status=3)
    told = run("plan", project, "--all-targets").stdout
    assert f"versions are compared with {NOW}" in told  # what the lock serves, though newer targets could be
    assert rows["python3.12-arm64"]["state"] == "relock"
    assert messages(rows["python3.12-arm64"], "lock_blockers") == [
        "`pylock.toml` was not made for `python3.12`; it was for `python3.12-x86_64`"
    ]
    assert rows["python3.13-arm64"]["state"] == "relock"
    assert [(one["name"], one["version"]) for one in rows["python3.13-arm64"]["distributions"]] == [
        ("alpha", "2.0"),
        ("pure", "1.0"),  # what the lock has is kept where it fits
    ]
    assert rows["python3.14-arm64"]["state"] == "blocked"
    assert messages(rows["python3.14-arm64"]) == ["`alpha` has no wheel for CPython 3.14; no release runs there"]


def test_what_a_lock_of_another_tool_lacks_is_told_by_distribution(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 12)
    compiled(index, "alpha", "2.0", 12, 14)
    compiled(index, "beta", "1.0", 12)
    files = sorted(index.folder.glob("alpha-1.0-*")) + sorted(index.folder.glob("beta-*"))
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    rows = matrix(run, project, "-t", NOW)
    assert rows["python3.12-arm64"]["state"] == "ready"
    assert rows["python3.14-arm64"]["state"] == "blocked"  # there is nothing to lock anew
    assert messages(rows["python3.14-arm64"]) == [
        "`alpha` 1.0 has no wheel for CPython 3.14; 2.0 runs there",
        "`beta` 1.0 has no wheel for CPython 3.14; no release runs there",
    ]


def test_that_the_project_asks_for_what_blocks_is_not_told(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 12)
    index.wheel("young", "1.0", requires_python=">=3.10", extras=["fast"])
    (project / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "1"\ndependencies = ["alpha==1.0", "young[fast]==1.0"]\n',
        encoding="utf-8",
    )
    rows = matrix(run, project)
    assert set(messages(rows["python3.9-arm64"])) == {
        "`alpha` 1.0 has no wheel for CPython 3.9; no release runs there",
        "`young` 1.0 requires Python `>=3.10`; the runtime has 3.9.19; no release runs there",
    }


def test_a_runtime_that_the_project_does_not_support_is_blocked_by_the_project(
    run: Run, index: Index, project: Path
) -> None:
    index.wheel("pure")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["pure"]\n',
        encoding="utf-8",
    )
    rows = matrix(run, project)
    assert messages(rows["python3.10-arm64"]) == [
        "the project requires Python `>=3.11`, `python3.10` has " + rows_python("python3.10-arm64")
    ]
    assert rows["python3.11-arm64"]["state"] == "ready"


def rows_python(target: str) -> str:
    from manylambda.target import Target

    return Target.parse(target).python_full_version


def test_each_index_page_is_asked_once_besides_by_uv(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 9, 10)
    compiled(index, "alpha", "2.0", 12, 13)
    matrix(run, project, requirements="alpha")
    # uv keeps no page of an index that does not say how long it may, so it asks for every target.
    assert index.requests["/simple/alpha/"] - 14 <= 2  # the reasons of what blocks, and what differs


def test_unzipped_sizes_are_those_of_wheels_that_were_fetched(run: Run, index: Index, project: Path) -> None:
    index.wheel("pure", files={"pure.py": "x" * 3_000_000})
    first = matrix(run, project, requirements="pure")[NOW]
    assert (first["unzipped_size"], first["is_measured"]) == (0, False)
    run("build", project, "-t", NOW, "-r", "-", stdin="pure")
    second = matrix(run, project, requirements="pure")[NOW]
    assert second["unzipped_size"] > 3_000_000
    assert second["is_measured"]


def test_one_source_distribution_that_cannot_be_built_does_not_stop_the_others(
    run: Run, index: Index, project: Path
) -> None:
    compiled(index, "alpha", "1.0", 12)
    archive = sdist(index, "alpha")
    archive.write_bytes(b"no archive")
    arguments = ("-t", NOW, "-t", "python3.13-x86_64", "--allow-sdist", "alpha", "-r", "-", "--format", "json")
    ran = run("plan", project, *arguments, stdin="alpha==1.0", status=5)
    good, failed = ran.json["targets"]
    assert good["error"] is None
    assert failed["error"]["code"] == "archive-unsafe"
    rows = matrix(run, project, "--allow-sdist", "alpha", requirements="alpha==1.0")
    assert rows[NOW]["state"] == "ready"
    assert rows["python3.13-x86_64"]["state"] == "blocked"


def test_a_page_is_for_the_matrix(run: Run, project: Path) -> None:
    ran = run("plan", project, "-t", NOW, "--format", "html", status=2)
    assert ran.stderr == "error: `--format html` is for the matrix\n\nhint: add `--all-targets`\n"


def test_inspecting_tells_unzipped_sizes_and_languages_and_fetches_one_wheel_of_a_release(
    run: Run, index: Index, project: Path
) -> None:
    for python in (12, 13):
        for machine in ("x86_64", "aarch64"):
            module = f"native/_x.cpython-3{python}-{machine}-linux-gnu.so"
            index.wheel(
                "native", "1.0", {module: elf("plain.so"), "native/__init__.py": "x" * 1_000_000},
                tags=[f"cp3{python}-cp3{python}-manylinux_2_17_{machine}"],
            )  # fmt: skip
    index.wheel("pure", files={"pure.py": "x" * 2_000_000})
    rows = matrix(run, project, "--inspect", requirements="native\npure\n")
    ready = {target: row for target, row in rows.items() if row["state"] == "ready"}
    assert len(ready) == 4
    for row in ready.values():
        assert row["is_measured"]
        assert 3_000_000 < row["unzipped_size"] < 3_100_000
        assert [one["languages"] for one in row["distributions"]] == [["C"], None]
    assert index.tails == 5
    assert sum(count for path, count in index.requests.items() if path.endswith(".whl")) == 5 + 1
    again = matrix(run, project, requirements="native\npure\n")  # all of it is known now
    for target, row in again.items():  # of a wheel that was inspected, RECORD does not count
        assert rows[target]["unzipped_size"] - 1000 < row["unzipped_size"] <= rows[target]["unzipped_size"]
    assert again[NOW]["distributions"][0]["languages"] == ["C"]
    assert index.tails == 5


def test_an_index_that_gives_no_parts_leaves_sizes_unknown(run: Run, index: Index, project: Path) -> None:
    index.has_ranges = False
    index.wheel("pure", files={"pure.py": "x" * 2_000_000})
    row = matrix(run, project, "--inspect", requirements="pure")[NOW]
    assert (row["unzipped_size"], row["is_measured"]) == (0, False)


def test_a_plan_tells_languages_too(run: Run, index: Index, project: Path) -> None:
    index.wheel(
        "native", "1.0", {"native/_x.cpython-312-x86_64-linux-gnu.so": elf("cxx_as_c.so")},
        tags=["cp312-cp312-manylinux_2_17_x86_64"],
    )  # fmt: skip
    document = run("plan", project, "-t", NOW, "--inspect", "--format", "json", "-r", "-", stdin="native").json
    schemas.check("plan", document)
    (one,) = document["targets"][0]["distributions"]
    assert one["languages"] == ["C++"]
    assert one["unzipped_size"] > len(elf("cxx_as_c.so"))
    text = run("plan", project, "-t", NOW, "-r", "-", stdin="native").stdout
    assert "native        1.0      C++   0.0" in text


def test_the_matrix_as_a_page_is_one_document(run: Run, index: Index, project: Path) -> None:
    compiled(index, "alpha", "1.0", 12)
    page = run("plan", project, "--all-targets", "--format", "html", "-r", "-", stdin="alpha").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert page.count('class="cell error"') == 12
    assert page.count('class="cell good"') == 2
