"""The page of an audit as a reader meets it, in a real Chromium."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from browser import subjects
from manylambda.audits import Subject, check, open_package
from manylambda.pipeline.audit import Examination
from manylambda.render import html
from manylambda.rules import ALL
from manylambda.target import Target
from rules.test_real_wheels import manylinux, wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("chromium")

NARROW, WIDE = 360, 1440

OPEN_ALL: Final = """
for (const each of document.querySelectorAll('details')) { each.removeAttribute('name'); each.open = true; }
"""

# Text against what lies behind it, as WCAG 2 measures: every visible text of the page, those of the pictures included.
CONTRASTS: Final = """
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const over = (top, below, opacity) => {
  const a = top[3] * (opacity ?? 1);
  return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)).concat(1);
};
const light = (c) => {
  const linear = (v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const found = [];
const note = (text, fore, back, style) => {
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  found.push([text.trim().slice(0, 40), ratio(fore, back), large ? 3 : 4.5]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, element = node.parentElement, style = getComputedStyle(element);
  if (!node.data.trim() || element.closest("script, style, title, option, svg, .unseen, [hidden]")) continue;
  if (!element.getClientRects().length) continue;
  const back = behind(element);
  note(node.data, over(parse(style.color), back), back, style);
}
for (const text of document.querySelectorAll("svg text")) {
  if (!text.getClientRects().length) continue;
  const svg = text.closest("svg"), x = +text.getAttribute("x"), y = +text.getAttribute("y") - 4;
  let back = behind(svg);
  for (const rect of svg.querySelectorAll("rect")) {
    const [rx, ry, w, h] = ["x", "y", "width", "height"].map((name) => +rect.getAttribute(name));
    const style = getComputedStyle(rect);
    if (rx <= x && x <= rx + w && ry <= y && y <= ry + h) back = over(parse(style.fill), back, +style.opacity);
  }
  const style = getComputedStyle(text);
  note(text.textContent, over(parse(style.fill), back), back, style);
}
return found;
"""


class Reader:
    """Somebody who looks at one page after another."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, examination: Examination, *, width: int = WIDE, dark: bool = False, script: bool = True) -> None:
        self.show(html.audit(examination, path="dist/app.zip"), width=width, dark=dark, script=script)

    def show(self, text: str, *, width: int = WIDE, dark: bool = False, script: bool = True) -> None:
        page = self.folder / "report.html"
        page.write_text(text, encoding="utf-8")
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        self.look(width=width, dark=dark)
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get("about:blank")
        self.driver.get(page.as_uri())

    def look(self, *, width: int = WIDE, dark: bool = False) -> None:
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def command(self, name: str, **words: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, words)

    def run(self, script: str, *words: Any) -> Any:
        return self.driver.execute_script(script, *words)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of what is there to be seen."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.innerText)"
        )
        return [str(text) for text in self.run(script, selector)]

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def focused(self, script: str = "return document.activeElement.tagName") -> Any:
        return self.run(script)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("data:", "about:")) and not url.endswith("/report.html")]


@pytest.fixture
def reader(chromium: Any, tmp_path: Path) -> Reader:
    return Reader(chromium, tmp_path)


EVERY_PAGE: Final = [subjects.good, subjects.broken, subjects.hostile]


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_the_page_asks_for_nothing_and_complains_of_nothing(reader: Reader, make: Callable[[], Examination]) -> None:
    reader.open(make())
    assert reader.requests() == []
    assert reader.complaints() == []
    assert reader.run("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_no_width_makes_the_page_scroll_sideways(reader: Reader, make: Callable[[], Examination]) -> None:
    reader.open(make())
    reader.run(OPEN_ALL)
    for width in (NARROW, 768, WIDE):
        reader.look(width=width)
        assert reader.run("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("make", EVERY_PAGE)
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_the_contrast_of_wcag_aa(reader: Reader, make: Callable[[], Examination], *, dark: bool) -> None:
    reader.open(make(), dark=dark)
    reader.run(OPEN_ALL)
    contrasts = reader.run(CONTRASTS)
    assert len(contrasts) > 40
    assert [one for one in contrasts if one[1] < one[2]] == []


def test_light_and_dark_differ(reader: Reader) -> None:
    reader.open(subjects.good())
    papers = []
    for dark in (False, True):
        reader.look(dark=dark)
        papers.append(reader.run("return getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


def test_without_script_every_finding_is_there_and_the_filter_is_not(reader: Reader) -> None:
    examination = subjects.broken()
    reader.open(examination, script=False)
    reader.command("Emulation.setScriptExecutionDisabled", value=False)  # for ours: the page's had its chance
    page = "\n".join(reader.texts("#findings"))
    for finding in examination.report.findings:
        assert finding.message.replace("`", "").split(" (loaded by ")[0][1:] in page
        assert finding.rule in page
    assert reader.texts("#filter") == []
    reader.run("document.querySelector('.page > summary').click()")
    assert "In the log" in reader.texts(".page[open]")[0]


def test_the_filter_leaves_what_matches(reader: Reader) -> None:
    reader.open(subjects.broken())
    everything = reader.texts(".card")
    reader.press("/", *"absent")
    assert reader.focused("return document.activeElement.id") == "words"
    (card,) = reader.texts(".card")
    assert "distribution-missing" in card
    assert reader.texts(".group h3")[0].startswith("lonely 0.9")
    assert reader.texts("#nothing") == []
    reader.press(*"zzz")
    assert reader.texts(".card") == []
    assert reader.texts("#nothing") == ["No finding matches the filter."]
    reader.press("\ue00c")  # Escape
    assert reader.texts(".card") == everything


def test_rules_and_severities_are_filtered_by(reader: Reader) -> None:
    reader.open(subjects.broken())
    assert {"library-missing", "wrong-machine"} <= set(reader.texts(".card h4 code"))
    change = """
        const input = document.querySelector(arguments[0]);
        input.value = arguments[1];
        input.dispatchEvent(new Event('input', {bubbles: true}));
    """
    reader.run(change, "#rule", "wrong-machine")
    assert reader.texts(".card h4 code") == ["wrong-machine"]
    reader.run(change, "#rule", "")
    reader.run("document.querySelector('#filter [value=error]').click()")
    assert set(reader.texts(".card .severity")) == {"warning"}


def test_keys_lead_through_the_findings(reader: Reader) -> None:
    reader.open(subjects.broken())
    where = "return [...document.querySelectorAll('.card')].findIndex(card => card.contains(document.activeElement))"
    reader.press("j")
    assert reader.focused(where) == 0
    reader.press("j", "j")
    assert reader.focused(where) == 2
    reader.press("k")
    assert reader.focused(where) == 1
    assert reader.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    reader.press("\ue007")  # Enter
    assert "Why" in reader.texts(".page[open]")[0]
    reader.press("\ue015")  # Down
    assert reader.focused(where) == 2


def test_the_first_stop_of_the_tab_key_skips_to_the_findings(reader: Reader) -> None:
    reader.open(subjects.broken())
    reader.press("\ue004")  # Tab
    assert reader.focused("return document.activeElement.textContent") == "Skip to the findings"
    reader.press("\ue007")
    assert reader.focused("return document.activeElement.id") == "findings"


def test_names_of_the_package_are_inert(reader: Reader) -> None:
    reader.open(subjects.hostile())
    assert reader.run("return document.title").startswith("app.zip will not load")
    assert reader.run("return document.images.length") == 0
    assert reader.run("return document.scripts.length") == 1
    assert (
        reader.run(
            "return [...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => a.name.startsWith('on')))"
        )
        is False
    )
    hrefs = reader.run("return [...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))")
    assert {href.partition(":")[0] for href in hrefs if not href.startswith("#")} <= {"https", "data"}
    text = reader.run("return document.body.textContent")
    assert subjects.HOSTILE in text
    assert "\u202e" not in text
    assert "\\u202egpj.pem" in text


def test_a_node_lights_up_what_hangs_together_with_it(reader: Reader) -> None:
    reader.open(subjects.broken())
    light = "document.querySelector(arguments[0]).dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    reader.run(light, "details.graph[open] .node.missing")
    lit = reader.run("return [...document.querySelectorAll('.node.on title')].map(e => e.textContent)")
    assert any(title.startswith("missing: libversioned.so.1") for title in lit)
    assert any("_lacking" in title for title in lit)
    assert not any("_unreaching" in title or "libz" in title for title in lit)
    assert reader.texts("details.graph[open] .caption")[0].startswith("missing: libversioned.so.1")


def test_a_click_on_a_heading_sorts(reader: Reader) -> None:
    reader.open(subjects.broken())
    names = "return [...document.querySelectorAll('#sizes > .scroll tbody th')].map(e => e.textContent)"
    before = reader.run(names)
    reader.run("document.querySelector('#sizes > .scroll thead button').click()")
    assert reader.run(names) == sorted(before)
    assert reader.run("return document.querySelector('#sizes > .scroll th').getAttribute('aria-sort')") == "ascending"


def _wheel(path: Path, target: str) -> Examination:
    package = open_package(path)
    subject = Subject(package.tree, Target.parse(target), kind="wheel", zipped_size=package.zipped_size)
    return Examination(subject, check(subject, ALL))


@pytest.mark.network
def test_opencv_is_drawn_with_what_it_misses(reader: Reader, shared_cache: Path) -> None:
    path = wheel(shared_cache, "opencv-python==5.0.0.93", "3.13", *manylinux("x86_64", 28))
    reader.open(_wheel(path, "python3.13-x86_64"))
    missing = reader.texts("details.graph[open] .node.missing")
    nodes = reader.run(
        "return [...document.querySelectorAll('.graph[open] .node.missing text')].map(e => e.textContent)"
    )
    assert {"libGL.so.1", "libxcb.so.1"} <= set(nodes), missing
    module = reader.run(
        "return [...document.querySelectorAll('.graph[open] .node.module text')].map(e => e.textContent)"
    )
    assert module == ["cv2"]
    assert reader.run("return document.querySelectorAll('.graph[open] .node').length") <= 60
    titles = reader.run("return [...document.querySelectorAll('.treemap title')].map(e => e.textContent)")
    assert any(title.startswith("cv2/cv2.abi3.so: ") for title in titles)
    assert reader.complaints() == []


@pytest.mark.network
def test_numpy_is_drawn_without_anything_missing(reader: Reader, shared_cache: Path) -> None:
    path = wheel(shared_cache, "numpy==2.5.5", "3.13", *manylinux("x86_64", 17, 24, 26, 27, 28, 34))
    reader.open(_wheel(path, "python3.13-x86_64"))
    kinds = reader.run("return [...document.querySelectorAll('.graph[open] .node')].map(e => e.classList[1])")
    assert set(kinds) == {"module", "bundled", "runtime"}
    assert reader.texts("h1") == ["app.zip will load on python3.13-x86_64"]
