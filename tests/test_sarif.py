"""SARIF: the official schema, what GitHub asks for, and nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from manylambda import rules
from manylambda.audits import Finding, Ignore, Ignored, Report, Severity
from manylambda.render import sarif
from manylambda.rules import pages

SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))

MACHINE = Finding(
    "wrong-machine", Severity.ERROR, "is for x86_64, the target is aarch64", "numpy/_m.so", "numpy", "install others"
)
SECRET = Finding("secret-file", Severity.WARNING, "looks like credentials", ".env", None, "exclude it")
NEEDS = Finding("distribution-missing", Severity.ERROR, "needs `absent>=2`", "numpy-2.4.6.dist-info", "numpy")
PREVIEW = Finding("runtime-preview", Severity.NOTE, "the runtime is a preview")
MISSING = Finding("library-missing", Severity.ERROR, "needs `libgomp.so.1`", "lightgbm/lib.so", "lightgbm")


def report(*findings: Finding, ignored: tuple[Ignored, ...] = (), target: str = "python3.13-arm64") -> Report:
    return Report(target, findings, 20, 25, 1 << 20, ignored, {"numpy": "2.4.6"})


def log_of(made: Report, path: Path = Path("dist/api.zip"), *, is_folder: bool = False) -> Any:
    """Give the log as a reader of the file has it, valid by the schema of OASIS."""
    log = json.loads(json.dumps(sarif.audit(made, path, is_folder=is_folder)))
    validator = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    validator.validate(log)
    return log


def run_of(made: Report, path: Path = Path("dist/api.zip"), *, is_folder: bool = False) -> Any:
    (run,) = log_of(made, path, is_folder=is_folder)["runs"]
    return run


def prints(run: Any) -> list[str]:
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]


def uris(run: Any) -> list[str]:
    return [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]


def test_the_schema_refuses_what_is_no_log() -> None:
    log = log_of(report(MACHINE))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, SCHEMA, cls=jsonschema.Draft4Validator)


def test_a_finding_is_a_result_with_its_rule_place_and_cure() -> None:
    run = run_of(report(MACHINE, PREVIEW))
    index = [rule.name for rule in rules.ALL].index("wrong-machine")
    assert run["results"][0] == {
        "ruleId": "wrong-machine",
        "ruleIndex": index,
        "level": "error",
        "message": {
            "text": "numpy 2.4.6, numpy/_m.so: is for x86_64, the target is aarch64. To mend it: install others"
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "dist/api.zip", "uriBaseId": "%SRCROOT%"},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [
                    {"name": "_m.so", "fullyQualifiedName": "numpy/_m.so", "kind": "resource"},
                    {"name": "numpy", "fullyQualifiedName": "numpy 2.4.6", "kind": "package"},
                ],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": prints(run)[0]},
    }
    assert run["tool"]["driver"]["rules"][index]["id"] == "wrong-machine"
    assert run["results"][1]["message"] == {"text": "the runtime is a preview"}
    assert run["results"][1]["level"] == "note"
    assert "logicalLocations" not in run["results"][1]["locations"][0]


def test_every_rule_is_explained_within_what_github_shows() -> None:
    described = run_of(report())["tool"]["driver"]["rules"]
    assert [one["id"] for one in described] == [rule.name for rule in rules.ALL]
    assert len(described) <= 25_000
    for one in described:
        page = pages.page(one["id"])
        assert one["shortDescription"]["text"] == page.summary
        assert 0 < len(one["shortDescription"]["text"]) <= 1024
        assert 0 < len(one["fullDescription"]["text"]) <= 1024
        assert len(one["name"]) <= 255
        assert len(one["properties"]["tags"]) <= 10
        assert one["defaultConfiguration"]["level"] in {"error", "warning", "note"}
        assert page.mend in one["help"]["markdown"]
        assert not one["help"]["markdown"].startswith("#")


def test_the_levels_of_rules_are_of_rules_there_are() -> None:
    assert sarif._MILD.keys() <= {rule.name for rule in rules.ALL}


def test_what_is_ignored_is_suppressed_with_its_reason() -> None:
    made = report(
        SECRET,
        ignored=(
            Ignored(MISSING, Ignore("library-missing", "lightgbm", "libgomp is in our layer")),
            Ignored(MACHINE, Ignore("wrong-machine")),
        ),
    )
    secret, missing, machine = run_of(made)["results"]
    assert "suppressions" not in secret
    assert missing["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "libgomp is in our layer"}
    ]
    assert machine["suppressions"][0]["justification"] == "ignored by the configuration"


def test_a_package_is_named_from_the_working_directory_or_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "checkout"
    here.mkdir()
    monkeypatch.chdir(here)
    assert uris(run_of(report(MACHINE), here / "dist" / "api.zip")) == ["dist/api.zip"]
    assert uris(run_of(report(MACHINE), Path("dist/../a pi é#%.zip"))) == ["a%20pi%20%C3%A9%23%25.zip"]
    assert uris(run_of(report(MACHINE), tmp_path / "elsewhere" / "api.zip")) == ["api.zip"]
    assert str(tmp_path) not in json.dumps(log_of(report(MACHINE), tmp_path / "elsewhere" / "api.zip"))


def test_of_a_folder_the_file_itself_is_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layer = MACHINE._replace(path="/opt/python/x.so")
    odd = MACHINE._replace(path="a b\udce9.so")
    found = report(MACHINE, layer, odd, PREVIEW)
    assert uris(run_of(found, Path("build"), is_folder=True)) == [
        "build/numpy/_m.so",
        "build",
        "build/a%20b%ED%B3%A9.so",
        "build",
    ]
    assert uris(run_of(report(MACHINE, PREVIEW), Path(), is_folder=True)) == ["numpy/_m.so", "."]


def test_a_finding_keeps_its_fingerprint_while_versions_and_figures_change() -> None:
    before = prints(run_of(report(MACHINE, NEEDS, SECRET)))
    after = prints(
        run_of(
            report(
                MACHINE._replace(message="is for x86_64, the target is another", hint=None),
                NEEDS._replace(path="numpy-3.0.dist-info", message="needs `absent>=2`, as before"),
                SECRET,
                target="python3.14-arm64",
            ),
            Path("other.zip"),
        )
    )
    assert before == after
    assert len(set(before)) == 3


def test_different_findings_have_different_fingerprints() -> None:
    several = [
        MISSING,
        MISSING._replace(message="needs `libother.so.1`"),
        MISSING._replace(path="lightgbm/other.so"),
        MISSING._replace(distribution="other"),
        MISSING._replace(rule="library-shadowed"),
        MISSING,  # the very same again
    ]
    found = prints(run_of(report(*several)))
    assert len(set(found)) == len(several)
    assert (found[0][-2:], found[-1]) == (":1", found[0][:-1] + "2")


def test_packages_and_targets_do_not_replace_one_another() -> None:
    ids = [
        run_of(report(target=target), Path(path))["automationDetails"]["id"]
        for target in ("python3.13-arm64", "python3.13-x86_64")
        for path in ("a.zip", "dist/b.zip")
    ]
    assert ids[0] == "manylambda/python3.13-arm64/a.zip/"
    assert len({one.rpartition("/")[0] for one in ids}) == 4


def test_no_more_results_than_github_takes() -> None:
    made = report(*(MACHINE._replace(path=f"{number}.so") for number in range(25_002)))
    (run,) = sarif.audit(made, Path("x.zip"))["runs"]
    assert len(run["results"]) == 25_000
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told == {"level": "warning", "message": {"text": "2 results more are left out: a file may have 25,000"}}
    jsonschema.validate({**log_of(report()), "runs": [{**run, "results": []}]}, SCHEMA, cls=jsonschema.Draft4Validator)


def test_equal_reports_give_equal_bytes() -> None:
    one, other = (json.dumps(log_of(report(MACHINE, SECRET))) for _ in range(2))
    assert one == other
