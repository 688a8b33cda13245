"""Every rule is registered once, has a page, and tells itself by its own name."""

from __future__ import annotations

import re
from pathlib import Path

import manylambda
from manylambda.rules import ALL

PAGES = Path(__file__).parent.parent.parent / "docs" / "reference" / "rules.md"
SOURCES = Path(manylambda.__file__).parent / "rules"


def test_names_are_unique_and_belong_to_their_functions() -> None:
    names = [rule.name for rule in ALL]
    assert len(set(names)) == len(names)
    assert [rule.check.__name__.replace("_", "-") for rule in ALL] == names


def test_every_rule_has_a_page_with_all_its_parts_and_no_page_is_left_over() -> None:
    text = PAGES.read_text(encoding="utf-8")
    pages = dict(re.findall(r"^## `([a-z-]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(pages) == [rule.name for rule in ALL]
    for name, page in pages.items():
        for part in ("**What.**", "**In the log.**", "**Why.**", "**Mend.**"):
            assert part in page, f"{name} lacks {part}"


def test_every_rule_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for rule in ALL:
        assert f'"{rule.name}"' in tests, rule.name
