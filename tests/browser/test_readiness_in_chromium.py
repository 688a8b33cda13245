"""The readiness matrix as a reader meets it, in a real Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from browser import matrices
from browser.test_in_chromium import CONTRASTS, NARROW, OPEN_ALL, WIDE, Reader
from manylambda.render import readiness_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manylambda.pipeline.readiness import Readiness

pytestmark = pytest.mark.xdist_group("chromium")

EVERY_PAGE = [matrices.ready, matrices.mixed, matrices.hostile]


@pytest.fixture
def reader(chromium: Any, tmp_path: Path) -> Reader:
    return Reader(chromium, tmp_path)


def show(reader: Reader, matrix: Readiness, *, dark: bool = False) -> None:
    reader.show(readiness_page.page(matrix), dark=dark)


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_the_page_asks_for_nothing_complains_of_nothing_and_is_not_owned(
    reader: Reader, make: Callable[[], Readiness]
) -> None:
    show(reader, make())
    assert reader.requests() == []
    assert reader.complaints() == []
    assert "is ready for" in reader.driver.title


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_no_width_makes_the_page_scroll_sideways(reader: Reader, make: Callable[[], Readiness]) -> None:
    show(reader, make())
    reader.run(OPEN_ALL)
    for width in (NARROW, 400, 768, WIDE):
        reader.look(width=width)
        assert reader.run("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("make", EVERY_PAGE)
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_the_contrast_of_wcag_aa(reader: Reader, make: Callable[[], Readiness], *, dark: bool) -> None:
    show(reader, make(), dark=dark)
    reader.run(OPEN_ALL)
    contrasts = reader.run(CONTRASTS)
    assert len(contrasts) > 100
    assert [one for one in contrasts if one[1] < one[2]] == []


def test_every_target_has_a_cell_that_says_its_state_in_words(reader: Reader) -> None:
    show(reader, matrices.mixed())
    cells = [" ".join(text.split()) for text in reader.texts(".cell")]
    assert len(cells) == 14
    assert cells[0] == "arm64 2 blockers numpy 2.3.0, orjson 2.3.0"
    assert cells[4] == "arm64 lock again 14 distributions, 1 compiled 40.6 MiB unzipped"
    assert cells[7] == "x86_64 ready named 14 distributions, 1 compiled 40.6 MiB unzipped"
    assert cells[8] == "arm64 ready 14 distributions, 1 compiled; 1 change 13.5 MiB of wheels"
    assert cells[10].endswith("858.3 MiB unzipped over the limit of 250.0 MiB")


def test_a_cell_is_reached_by_the_keyboard_and_opens_what_it_is_about(reader: Reader) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    show(reader, matrices.mixed())
    assert not reader.run("return document.getElementById('python3.15-arm64').open")
    reader.run("document.querySelector('#targets').focus()")
    reader.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert reader.run("return document.activeElement.closest('.cell') !== null")
    reader.driver.switch_to.active_element.send_keys(Keys.ENTER)
    opened = "return document.getElementById('python3.15-arm64').open"
    WebDriverWait(reader.driver, 60).until(lambda _: reader.run(opened))  # it opens when the address has changed


def test_what_keeps_the_project_from_the_newest_runtime_is_the_second_line(reader: Reader) -> None:
    show(reader, matrices.mixed())
    assert reader.texts(".verdict p") == ["What keeps it from python3.14: numpy, orjson."]
    show(reader, matrices.ready())
    assert reader.texts(".verdict p") == ["Nothing keeps it from python3.14."]


def test_a_blocker_tells_what_would_run_or_else_what_else_can_be_done(reader: Reader) -> None:
    show(reader, matrices.mixed())
    (card,) = reader.texts("#blockers .card")
    assert " ".join(card.split()) == (
        "python3.14, python3.15 numpy 2.3.0 has no wheel for CPython 3.14; 2.5.5 runs there. "
        "orjson 2.3.0 has no wheel for CPython 3.14; no release runs there. "
        "What to do: --allow-sdist orjson builds it from source"
    )


def test_versions_that_differ_are_marked_and_not_by_colour_alone(reader: Reader) -> None:
    show(reader, matrices.mixed())
    marked = reader.texts(".versions .other")
    assert marked
    assert all(text.startswith("≠ ") for text in marked)
