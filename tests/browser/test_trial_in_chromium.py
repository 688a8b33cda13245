"""The page of a trial as a reader meets it, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from browser import trials
from browser.test_in_chromium import CONTRASTS, NARROW, OPEN_ALL, WIDE, Reader
from manylambda.render import trial_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manylambda.pipeline.trial import TrialResult

pytestmark = pytest.mark.xdist_group("chromium")

EVERY_PAGE = [trials.good, trials.broken, trials.hostile]


@pytest.fixture
def reader(chromium: Any, tmp_path: Path) -> Reader:
    return Reader(chromium, tmp_path)


def show(reader: Reader, result: TrialResult, *, dark: bool = False) -> None:
    reader.show(trial_page.page(result, path="dist/app.zip"), dark=dark)


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_the_page_asks_for_nothing_complains_of_nothing_and_is_not_owned(
    reader: Reader, make: Callable[[], TrialResult]
) -> None:
    show(reader, make())
    assert reader.requests() == []
    assert reader.complaints() == []
    assert "trial for python3.13-arm64" in reader.driver.title


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_no_width_makes_the_page_scroll_sideways(reader: Reader, make: Callable[[], TrialResult]) -> None:
    show(reader, make())
    reader.run(OPEN_ALL)
    for width in (NARROW, 768, WIDE):
        reader.look(width=width)
        assert reader.run("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("make", EVERY_PAGE)
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_the_contrast_of_wcag_aa(reader: Reader, make: Callable[[], TrialResult], *, dark: bool) -> None:
    show(reader, make(), dark=dark)
    reader.run(OPEN_ALL)
    contrasts = reader.run(CONTRASTS)
    assert len(contrasts) > 40
    assert [one for one in contrasts if one[1] < one[2]] == []


def test_pointing_at_a_frame_tells_what_it_cost(reader: Reader) -> None:
    show(reader, trials.good())
    reader.run(
        "document.querySelector('svg.icicle rect').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    )
    (told,) = reader.texts("#times > .caption")
    assert told.startswith("email.mime.text: ")
    assert "of it its own" in told


def test_a_branch_of_the_tree_is_folded_and_opened(reader: Reader) -> None:
    show(reader, trials.good())
    before = len(reader.texts(".tree .module"))
    reader.run("document.querySelector('.tree summary').click()")
    assert len(reader.texts(".tree .module")) == 1
    reader.run("document.querySelector('.tree summary').click()")
    assert len(reader.texts(".tree .module")) == before > 1


def test_packages_are_sorted_by_a_click_on_a_heading(reader: Reader) -> None:
    show(reader, trials.broken())
    table = "[aria-label='import time by package']"
    costs = f"return [...document.querySelectorAll(`{table} td:nth-child(3)`)].map(cell => +cell.dataset.value)"
    found = reader.run(costs)[:-1]  # the last row sums up the rest
    assert found == sorted(found, reverse=True)
    for _ in range(2):
        reader.run(f"document.querySelector(`{table} th:nth-child(3) button`).click()")
    found = reader.run(costs)
    assert found == sorted(found)
    assert len(set(found)) > 5
