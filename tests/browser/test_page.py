"""The page of an audit as bytes: sound, safe, small and the same each time."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from browser import subjects
from manylambda.audits import Finding, Report, Severity
from manylambda.pipeline.audit import Examination
from manylambda.render import html
from manylambda.render.markup import markdown, message, path, plain
from rules.packages import distribution, elf, files

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_PAGE = [subjects.good, subjects.broken, subjects.hostile]
_VOID = frozenset({"meta", "link", "input", "wbr", "br", "img"})


class _Reader(HTMLParser):
    """Checks that what is opened is closed, and keeps ids, links to them and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            elif name in {"href", "aria-labelledby"}:
                self.links.append((value or "") if name == "href" else f"#{value}")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_every_element_is_closed_every_id_is_one_and_every_link_leads_somewhere(
    make: Callable[[], Examination],
) -> None:
    reader = read(html.audit(make(), path="app.zip"))
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert "style" not in reader.attributes  # the policy would not let it be
    assert not any(name.startswith("on") for name in reader.attributes)


def test_the_policy_allows_what_the_page_brings_and_nothing_else() -> None:
    page = html.audit(subjects.good(), path="app.zip")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        ((text),) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


@pytest.mark.parametrize("make", EVERY_PAGE)
def test_the_same_package_gives_the_same_bytes_wherever_it_lies(make: Callable[[], Examination]) -> None:
    pages = {html.audit(make(), path=path) for path in ("app.zip", "/home/me/elsewhere/app.zip", "C:\\me\\app.zip")}
    assert len(pages) == 1
    assert "elsewhere" not in pages.pop()


@pytest.mark.parametrize("path", [".", "..", "/", ""])
def test_a_package_without_a_name_has_one(path: str) -> None:
    assert "<h1><bdi>the package</bdi>" in html.audit(subjects.good(), path=path)


@pytest.mark.parametrize(("make", "verdict"), [(subjects.good, "will load on"), (subjects.broken, "will not load on")])
def test_the_verdict_stands_at_the_top(make: Callable[[], Examination], verdict: str) -> None:
    assert f"<title>app.zip {verdict} python3.13-x86_64</title>" in html.audit(make(), path="app.zip")


def test_what_was_found_nowhere_is_said() -> None:
    assert "No rule found anything." in html.audit(subjects.good(), path="app.zip")


def test_thirty_files_of_one_fault_are_one_card() -> None:
    page = html.audit(subjects.broken(), path="app.zip")
    alien = page[page.index(">alien</bdi>") :].split("</section>")[0]
    assert alien.count('data-rule="wrong-machine"') == 1
    assert "30 files: " in alien
    assert alien.count("<li><code>alien/") == 30


def test_the_ignored_are_shown_with_their_reason() -> None:
    page = html.audit(subjects.broken(), path="app.zip")
    ignored = page[page.index('<section id="ignored"') :].split("</section>")[0]
    assert "secret-file" in ignored
    assert "it holds &quot;no&quot; &lt;secret&gt;" in ignored


def test_a_finding_has_the_page_of_its_rule_and_a_foreign_rule_none() -> None:
    subject, report = subjects.good()
    ours = Finding("glibc-too-new", Severity.ERROR, "needs `GLIBC_2.38`", path="a.so")
    theirs = Finding("of-their-own", Severity.NOTE, "says so")
    page = html.audit(Examination(subject, report._replace(findings=(ours, theirs))), path="app.zip")
    assert page.count('<details class="page"') == 1
    assert "In the log" in page


def test_ten_thousand_findings_are_a_page_that_can_be_read() -> None:
    subject, report = subjects.good()
    findings = tuple(
        Finding("secret-file", Severity.WARNING, f"looks bad {number}", path=f"a/{number}.pem", distribution="many")
        for number in range(10_000)
    )
    page = html.audit(Examination(subject, report._replace(findings=findings)), path="app.zip")
    assert len(page) < 400_000
    assert "and 9,500 more" in page


def test_hundreds_of_distributions_are_a_page_that_can_be_read() -> None:
    groups = [
        distribution(f"many{number}", "1.0", {f"many{number}/_x.abi3.so": elf("aarch64.so")}) for number in range(400)
    ]
    page = html.audit(subjects.examined(*groups), path="app.zip")
    read(page)
    assert len(page) < 700_000


def test_endless_names_are_cut_and_deep_folders_are_drawn() -> None:
    deep = "/".join(["d"] * 4000)
    entries = files({f"{deep}/one.bin": b"1" * 5000, f"{deep}/two.bin": b"2" * 5000, "n" * 60_000: b"3" * 9000})
    page = html.audit(subjects.examined(entries), path="app.zip")
    read(page)
    assert len(page) < 150_000


def test_names_that_are_no_text_can_be_written() -> None:
    page = html.audit(subjects.examined(files({"caf\udce9.pem": "PRIVATE KEY-----"})), path="app.zip")
    assert "caf\\udce9.pem" in page
    page.encode()


def test_an_empty_package_has_a_page() -> None:
    read(html.audit(subjects.examined(()), path="app.zip"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#x27;"),
        ("a\u202eb\u2066c\x00\n", "a\\u202eb\\u2066c\\u0000\\u000a"),
        ("x" * 500, "x" * 400 + "…"),
        ("\u200f\ufeff\U000e0041", "\\u200f\\ufeff\\ue0041"),
        ("schön 漢字", "schön 漢字"),
    ],
)
def test_text_is_made_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_a_path_may_break_after_its_slashes() -> None:
    assert path("a/<b>/c") == "<code>a/<wbr>&lt;b&gt;/<wbr>c</code>"


def test_a_message_knows_code_and_nothing_else() -> None:
    assert message("needs `a<b` and **not** [this](https://x.y)") == (
        "needs <code>a&lt;b</code> and **not** [this](https://x.y)"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one two</p><p>three</p>"),
        ("``a `b' c``.", "<p><code>a `b&#x27; c</code>.</p>"),
        ("**bold `code`**", "<p><strong>bold <code>code</code></strong></p>"),
        (
            "[a `b`](https://x.y/?a=1&b)",
            '<p><a href="https://x.y/?a=1&amp;b" rel="noopener noreferrer">a <code>b</code></a></p>',
        ),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ('[a](https://x" onclick="b)', "<p>[a](https://x&quot; onclick=&quot;b)</p>"),
        ("`open", "<p>`open</p>"),
    ],
)
def test_the_markdown_of_our_pages_is_shown(text: str, expected: str) -> None:
    assert markdown(text) == expected


def test_a_report_without_its_subject_has_the_right_counts() -> None:
    subject, _ = subjects.good()
    report = Report(target="python3.13-x86_64", findings=(), shared_objects=7, files=1234, unzipped_size=300 << 20)
    page = html.audit(Examination(subject, report), path="app.zip")
    assert "<dd>1,234</dd>" in page
    assert "300.0 MiB" in page
    assert "over the limit" in page
    assert "120 % of the 250 MiB" in page


def test_a_size_just_over_the_limit_does_not_read_as_the_limit() -> None:
    subject, _ = subjects.good()
    report = Report(target="x", findings=(), shared_objects=0, files=1, unzipped_size=(250 << 20) + 1_300_000)
    assert "100.50 % of the 250 MiB" in html.audit(Examination(subject, report), path="app.zip")
