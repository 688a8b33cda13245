"""Each broken package of the table has exactly the findings that its row names, and each good one none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from corpus.box import Box, pinned
from corpus.table import BROKEN, GOOD, LOCKED
from manylambda import rules
from manylambda.fetch import Cache, Credentials, fetch_all
from manylambda.pipeline.audit import examine
from manylambda.progress import SILENT
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corpus.case import Case
    from manylambda.audits import Finding, Report

# One worker fetches the wheels, once.
pytestmark = pytest.mark.xdist_group("corpus")

WHEELS = pinned()


class Made(Protocol):
    def __call__(self, case: Case) -> Report: ...


@pytest.fixture(scope="session")
def wheels(shared_cache: Path) -> Mapping[str, Path]:
    """Fetch every wheel of the corpus, 46 MB, once."""
    paths = fetch_all(
        list(WHEELS.values()),
        cache=Cache(shared_cache),
        credentials=Credentials.from_settings(os.environ),
        offline=False,
        progress=SILENT,
    )
    return {key: paths[download] for key, download in WHEELS.items()}


@pytest.fixture
def audited(wheels: Mapping[str, Path], tmp_path: Path) -> Made:
    """Give what puts a case together and audits it."""

    def make(case: Case) -> Report:
        layers = []
        for number, names in enumerate(case.layers):
            box = boxed([wheels[name] for name in names], under="python/")
            if case.layer_change is not None:
                case.layer_change(box)
            layers.append(box.to_zip(tmp_path / f"layer-{number}.zip"))
        if case.kind == "wheel":
            (name,) = case.wheels
            path = Path(shutil.copy(wheels[name], tmp_path))
        else:
            box = boxed([wheels[name] for name in case.wheels], under="python/" if case.kind == "layer" else "")
            case.change(box)
            path = box.to_folder(tmp_path / "package") if case.kind == "dir" else box.to_zip(tmp_path / "package.zip")
        target = Target.parse(case.target)
        return examine(path, target, layers=layers, handler=case.handler, offline=True).report

    return make


def boxed(paths: list[Path], under: str) -> Box:
    box = Box()
    for path in paths:
        box.install(path, under)
    return box


def shown(finding: Finding) -> str:
    return f"{finding.severity.value} {finding.rule} {finding.distribution} {finding.path}: {finding.message}"


def named(case: Case) -> object:
    return pytest.param(case, id=case.name)


@pytest.mark.network
@pytest.mark.parametrize("case", [named(case) for case in BROKEN])
def test_a_broken_package_has_the_findings_expected_and_no_other(audited: Made, case: Case) -> None:
    report = audited(case)
    left = list(report.findings)
    missing = []
    for expected in case.expected:
        for finding in left:
            if (
                (finding.rule, finding.severity.value) == expected[:2]
                and expected.where in {finding.path, finding.distribution}
                and expected.fragment in finding.message
            ):
                left.remove(finding)
                break
        else:
            missing.append(expected)
    unexpected = [shown(finding) for finding in left if finding.severity.value != "note"]
    assert (missing, unexpected) == ([], []), "\n".join(map(shown, report.findings))


@pytest.mark.network
@pytest.mark.parametrize("case", [named(case) for case in GOOD])
def test_a_good_package_has_neither_error_nor_warning(audited: Made, case: Case) -> None:
    report = audited(case)
    assert [shown(finding) for finding in report.findings if finding.severity.value != "note"] == []


@pytest.mark.network
def test_a_lock_that_gives_a_pure_wheel_where_others_get_a_compiled_one_is_told(
    wheels: Mapping[str, Path], shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wheels
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache))
    lock = tmp_path / "pylock.toml"
    listed = [WHEELS[name] for name in (*LOCKED.wheels, "charset-normalizer")]
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\n'
        'name = "charset-normalizer"\nversion = "3.5.2"\nwheels = [\n'
        + "".join(
            f'{{ url = "{one.url}", size = {one.size}, hashes = {{ sha256 = "{one.sha256}" }} }},\n' for one in listed
        )
        + "]\n",
        encoding="utf-8",
    )
    (finding,) = examine(lock, Target.parse(LOCKED.target), offline=True).report.findings
    (expected,) = LOCKED.expected
    assert (finding.rule, finding.severity.value, finding.distribution) == expected[:3]
    assert expected.fragment in finding.message


def test_the_corpus_is_as_large_as_it_has_to_be() -> None:
    names = [case.name for case in (*BROKEN, *GOOD)]
    assert len(set(names)) == len(names)
    assert len(BROKEN) >= 60
    assert len(GOOD) >= 12
    used = {name for case in (*BROKEN, *GOOD, LOCKED) for group in (case.wheels, *case.layers) for name in group}
    assert used == set(WHEELS)


def test_every_rule_is_expected_of_a_package_made_of_real_wheels() -> None:
    """A rule that no row names has no bad real example; the good ones are held by every rule."""
    expected = {one.rule for case in (*BROKEN, LOCKED) for one in case.expected}
    packages = {rule.name for rule in rules.ALL if not rule.name.startswith("image-")}  # tests/image has those
    assert expected == packages


def test_only_broken_packages_are_listed_as_broken() -> None:
    assert all(case.expected for case in BROKEN)
