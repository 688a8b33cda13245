"""The documentation site as its reader gets it: over HTTP, in a real Chromium, with nobody else in reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urljoin, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.xdist_group("chromium"),
    pytest.mark.skipif(not (ROOT / "zensical.toml").is_file(), reason="the site is not part of this copy"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly; a broken link or a missing anchor ends it."""
    if find_spec("zensical") is None:
        if os.environ.get("CI"):
            pytest.fail("zensical is not installed")
        pytest.skip("needs zensical, of the dependency group `docs`")
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.targets.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


class Prose(HTMLParser):
    """What a page shows outside of blocks of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.leaks: list[str] = []
        self.cells = ""
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"pre", "script", "style", "code", "td", "article"}:
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if "article" not in self._within or not {"pre", "script", "style"}.isdisjoint(self._within):
            return
        if "td" in self._within:
            self.cells += data
        signs = ("\\|",) if "code" in self._within else ("\\|", "`", "**", "](")
        self.leaks += [data.strip() for sign in signs if sign in data]


def pages(site: Path) -> list[str]:
    """Give the addresses of all pages, as paths below that of the site."""
    found = (path.relative_to(site).parent.as_posix() for path in site.rglob("index.html"))
    return sorted("" if path == "." else f"{path}/" for path in found)


def test_every_link_leads_somewhere(site: Path) -> None:
    read = {path: Page((site / path / "index.html").read_text(encoding="utf-8")) for path in pages(site)}
    assert len(read) > 40
    lost = []
    for path, page in read.items():
        for target in page.targets:
            parts = urlsplit(urljoin(f"http://site/{path}", target))
            place = unquote(parts.path).removeprefix("/")
            if parts.netloc != "site":
                continue
            if place in read:
                if parts.fragment and parts.fragment not in read[place].anchors and parts.fragment != "__skip":
                    lost.append((path, target))
            elif not (site / place).is_file():
                lost.append((path, target))
    assert lost == []


def test_no_page_shows_what_is_meant_for_markdown(site: Path) -> None:
    """A backslash before `|` within code is taken away by GitHub and shown by the site."""
    shown = {path: Prose((site / path / "index.html").read_text(encoding="utf-8")) for path in pages(site)}
    assert {path: page.leaks for path, page in shown.items() if page.leaks} == {}
    assert any("zip|layer" in page.cells for page in shown.values())


def test_no_page_asks_others_complains_or_scrolls_sideways(site: Path, address: str, chromium: Any) -> None:
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    for log in ("browser", "performance"):
        chromium.get_log(log)
    found = {}
    for path in pages(site):
        _width(chromium, 400)
        chromium.get(address + path)
        narrow = chromium.execute_script("return document.documentElement.scrollWidth")
        asked = [one for one in _requests(chromium) if not one.startswith((address, "data:", "about:", "blob:"))]
        complaints = [entry["message"] for entry in chromium.get_log("browser")]
        if narrow > 400 or asked or complaints:
            found[path] = (narrow, asked, complaints)
    assert found == {}


@pytest.mark.parametrize("words", ["library-shadowed", "--exclude-provided"])
def test_what_is_searched_for_is_found(address: str, chromium: Any, words: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    _width(chromium, 1400)
    chromium.get(address)
    deadline = time.monotonic() + 120
    while not chromium.execute_script(_TYPES):  # the page hears keys when its scripts have run
        assert time.monotonic() < deadline
        ActionChains(chromium).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).pause(0.3).perform()
    ActionChains(chromium).send_keys(words).perform()
    while not (found := chromium.execute_script(_RESULTS, words.lstrip("-"))):
        assert time.monotonic() < deadline, f"`{words}` is not found"
        time.sleep(0.1)
    chromium.get(found[0])
    assert words in chromium.execute_script("return document.querySelector('article').innerText")


_TYPES: Final = """
let found = document.activeElement;
while (found && found.shadowRoot && found.shadowRoot.activeElement) found = found.shadowRoot.activeElement;
return found !== null && found.tagName === "INPUT";
"""
_RESULTS: Final = """
const found = [];
const words = arguments[0];
const walk = (root) => {
  for (const element of root.querySelectorAll("*")) {
    if (element.matches("a") && element.getRootNode() !== document && element.innerText.includes(words)) {
      found.push(element.href);
    }
    if (element.shadowRoot) walk(element.shadowRoot);
  }
};
walk(document);
return found;
"""


def _width(driver: Any, width: int) -> None:
    words = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", words)


def _requests(driver: Any) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
