"""Every rule is registered once, has a page, and tells itself by its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

import manylambda
from manylambda.rules import ALL, pages

ROOT = Path(__file__).parents[2]
PAGES = Path(manylambda.__file__).parent / "data" / "rules"


def test_names_are_unique_and_belong_to_their_functions() -> None:
    names = [rule.name for rule in ALL]
    assert len(set(names)) == len(names)
    assert [rule.check.__name__.replace("_", "-") for rule in ALL] == names


def test_every_rule_has_a_page_with_all_its_parts_and_no_page_is_left_over() -> None:
    assert {path.stem for path in PAGES.iterdir()} == {rule.name for rule in ALL}
    for rule in ALL:
        page = pages.page(rule.name)
        assert all(page), f"{rule.name} lacks a part"
        lines = page.text.splitlines()
        assert lines[:5:2] == [f"# `{rule.name}`", page.summary, f"**What.** {page.what.splitlines()[0]}"]
        assert page.summary.endswith(".")
        assert len(page.summary) <= 100, rule.name
        assert max(map(len, lines)) <= 140, rule.name


@pytest.mark.parametrize("name", ["no-such-rule", "", "..", "../rules/wrong-machine", "Wrong-Machine"])
def test_what_is_no_rule_has_no_page(name: str) -> None:
    with pytest.raises(KeyError):
        pages.page(name)


def test_every_rule_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for rule in ALL:
        assert f'"{rule.name}"' in tests, rule.name
