"""What the pages say of the runtimes is what the table says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs.blocks import ROOT
from manylambda import GlibcVersion, Target, all_targets
from manylambda.cli.parser import COMMANDS
from manylambda.rules import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

CONCEPTS = ROOT / "docs" / "concepts"
AL2, AL2023 = Target.parse("python3.11-arm64"), Target.parse("python3.13-arm64")

pytestmark = pytest.mark.skipif(not CONCEPTS.is_dir(), reason="the pages are not part of the sdist")


def text(name: str) -> str:
    return (CONCEPTS / f"{name}.md").read_text(encoding="utf-8")


def rows(name: str, *, columns: int) -> Iterator[list[str]]:
    for line in text(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == columns:
            yield cells


def test_the_glibc_of_each_runtime() -> None:
    told = {}
    for runtimes, system, glibc in rows("glibc", columns=3):
        if found := re.fullmatch(r"`python3\.(\d+)` to `python3\.(\d+)`", runtimes):
            for minor in range(int(found[1]), int(found[2]) + 1):
                told[f"python3.{minor}"] = (system, GlibcVersion.parse(glibc))
    systems = {"al2": "Amazon Linux 2", "al2023": "Amazon Linux 2023"}
    assert told == {one.runtime: (systems[one.os], one.glibc) for one in all_targets() if one.os in systems}


def test_the_folders_that_the_loader_searches() -> None:
    assert ", ".join(f"`{folder}`" for folder in AL2023.library_path) in " ".join(text("linkage").split())


def test_the_libraries_that_packages_miss() -> None:
    checked = 0
    for names, _, al2, al2023 in rows("linkage", columns=4):
        for name in re.findall(r"`(\S+\.so\S*)`", names):
            assert (al2, al2023) == tuple("yes" if name in one.provided else "no" for one in (AL2, AL2023)), name
            checked += 1
    assert checked >= 9


def test_the_nearest_tag() -> None:
    assert f"begins with `{AL2023.tag_strings()[0]}`" in " ".join(text("tags").split())


@pytest.mark.parametrize("name", ["targets", "index"])
def test_the_limit(name: str) -> None:
    assert str(AL2023.limits["unzipped_bytes"]) in text(name).replace(",", "")


def test_the_rules_of_the_first_page_exist() -> None:
    named = set(re.findall(r"rules\.md#([a-z0-9-]+)", text("index")))
    assert named <= {rule.name for rule in ALL}
    assert len(named) >= 10


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"| `manylambda {name}" not in readme] == []


def test_every_page_is_reached_from_the_readme_and_every_guide_from_the_home_page() -> None:
    """On GitHub, where there is no navigation."""

    def linked(page: Path) -> set[Path]:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        names = re.findall(r"\]\(([^):#]+\.md)(?:#[^)]*)?\)", prose)
        return {(page.parent / name).resolve() for name in names}

    docs = ROOT / "docs"
    pages = {page.resolve() for folder in ("guides", "reference", "concepts") for page in (docs / folder).glob("*.md")}
    home = linked(docs / "index.md")
    assert sorted(page.name for page in pages - home if page.parent.name != "concepts") == []
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting.extend(linked(page))
    assert sorted(page.name for page in pages - reached) == []
