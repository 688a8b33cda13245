"""Results as Markdown: what a renderer makes of them, whatever the names in a package are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from manylambda.archive import Written
from manylambda.audits import Finding, Ignore, Ignored, Report, Severity
from manylambda.locks.model import Source, SourceKind
from manylambda.pipeline.artifact import Artifact, ShippedDistribution, WrittenImage
from manylambda.pipeline.build import BuildResult
from manylambda.render import markdown
from manylambda.render.markup import visible
from manylambda.target import Target

if TYPE_CHECKING:
    from markdown_it.token import Token

TARGET = Target.parse("python3.13-arm64")
RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")


def artifact(
    *distributions: tuple[str, str, int], findings: tuple[Finding, ...] = (), is_written: bool = True
) -> Artifact:
    written = Written(path=Path("dist/api.zip"), sha256="0" * 64, size=1 << 20, unzipped_size=3 << 20, files=1234)
    return Artifact(
        target=TARGET,
        kind="zip",
        path=Path("dist/api.zip"),
        written=written if is_written else None,
        distributions=tuple(
            ShippedDistribution(
                name=name, version=version, file="", sha256="", size=size, unzipped_size=2 * size, compiled=size > 10**6
            )
            for name, version, size in distributions
        ),
        report=Report(str(TARGET), findings, 1, 1234, 3 << 20),
    )


def build(*artifacts: Artifact) -> str:
    return markdown.build(
        BuildResult(source=Source(kind=SourceKind.NONE, project=Path(), files=()), artifacts=artifacts)
    )


def cells(text: str) -> list[list[Token]]:
    """Give the tokens of each cell of all tables, and hold that nothing of HTML is in them but what we write."""
    found = []
    for token in RENDERER.parse(text):
        assert token.type != "html_block"
        if token.type == "inline" and token.level >= 3:
            children = token.children or []
            assert {one.content for one in children if one.type == "html_inline"} <= {"<code>", "</code>", "<br>"}
            assert {one.type for one in children} <= {"text", "html_inline"}
            found.append(children)
    return found


def shown(tokens: list[Token]) -> str:
    return "".join(one.content for one in tokens if one.type == "text")


def test_a_package_reads_so() -> None:
    finding = Finding("library-missing", Severity.WARNING, "needs `libgomp.so.1`", "x/a.so", "numpy", "add `libgomp`")
    text = build(artifact(("pure", "1.0", 5000), ("numpy", "2.4.6", 15_000_000), findings=(finding, finding)))
    assert (
        text
        == """\
### python3.13-arm64: zip

<code>api.zip</code>: 1.0 MiB packed, 3.0 MiB unzipped, 1,234 files<br>code&#95;sha256 \
<code>AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=</code>

| distribution | version | kind | wheel | unzipped |
| :-- | :-- | :-- | --: | --: |
| <code>numpy</code> | 2.4.6 | compiled | 14.31 MiB | 28.61 MiB |
| <code>pure</code> | 1.0 | pure | 0.00 MiB | 0.01 MiB |

**2 warnings**

|  | rule | where | what |
| :-- | :-- | :-- | :-- |
| warning | <code>library-missing</code> | numpy<br><code>x/a.so</code> and 1 more | needs <code>libgomp.so.1</code>\
<br>hint: add <code>libgomp</code> |"""
    )
    assert [shown(cell) for cell in cells(text)][:7] == [
        "distribution", "version", "kind", "wheel", "unzipped", "numpy", "2.4.6",
    ]  # fmt: skip


def test_an_image_is_told_by_its_place_and_digest() -> None:
    digest = f"sha256:{'0' * 64}"
    made = WrittenImage(
        path=None, place="registry:example.com/api:1", digest=digest, media_type="x", size=2 << 20,
        unzipped_size=3 << 20, files=1, base="base", base_digest=None, layers=(), entry_point=(), command=(),
        uploaded=7,
    )  # fmt: skip
    text = build(replace(artifact(), kind="image", path=None, written=made))
    assert text == (
        "### python3.13-arm64: image\n\n<code>registry&#58;example.com/api&#58;1</code>: 2.0 MiB packed, "
        f"3.0 MiB unzipped, 1 file<br>digest <code>sha256&#58;{'0' * 64}</code>"
    )


def test_a_summary_is_of_a_size_that_github_takes() -> None:
    finding = Finding("symlink", Severity.NOTE, "`x` & " * 10_000, "p" * 5000, "d" * 5000, "`y` " * 10_000)
    found = tuple(finding._replace(path=f"{number}{finding.path}", rule=f"rule-{number}") for number in range(200))
    text = build(artifact(*((f"{number}{'n' * 900}", "1", 1) for number in range(200)), findings=found))
    assert len(text.encode()) < 1 << 20


def test_what_was_not_written_is_told_and_the_rest_of_a_long_table_is_counted() -> None:
    text = build(artifact(*((f"one-{number}", "1", 1000 + number) for number in range(60)), is_written=False))
    assert "**Not written**, because of the errors below." in text
    assert text.splitlines()[-1] == "| 10 more |  |  | 0.01 MiB | 0.02 MiB |"
    assert len(cells(text)) == 5 * 52


def test_an_audit_tells_what_was_looked_at_and_what_does_not_count() -> None:
    one = Finding("secret-file", Severity.ERROR, "looks like credentials", ".env")
    text = markdown.audit(Report("python3.13-arm64", (one,), 2, 1, 1 << 20, (Ignored(one, Ignore("x")),)), "a/b.zip")
    assert text.startswith(
        "### <code>a/b.zip</code> on python3.13-arm64\n\n"
        "**will not load as it is** (1 file, 2 shared objects, 1.0 MiB unzipped)\n\n**1 error**\n\n"
    )
    assert text.endswith("\n\nIgnored: 1 finding.")


@pytest.mark.parametrize(
    "name",
    [
        "a | b", "a\\| b", "a\\\\| b", "<script>alert(1)</script>", "</code></td>", "`", "``a`` `b`", "a\nb\n\n# c",
        "[a](https://evil.example)", "![a](b)", "https://evil.example", "www.evil.example", "*a*", "_a_", "__a__",
        "~~a~~", "&amp;", "&#124;", "@somebody", ":smile:", "$a$", "a\u202eb", "a\u2028b", "<!-- a", "\\", "a\x00b",
    ],
)  # fmt: skip
def test_a_name_stays_in_its_cell_and_is_what_it_says(name: str) -> None:
    finding = Finding("symlink", Severity.NOTE, f"leads to `{name}`", name, name, name)
    found = cells(build(artifact((name, name, 1), findings=(finding,))))
    assert len(found) == 5 + 5 + 4 + 4
    assert [shown(cell) for cell in found[5:7]] == [visible(name), visible(name)]
    assert shown(found[16]) == visible(name) * 2
    raw = build(artifact((name, name, 1)))
    assert "http:" not in raw
    assert "https:" not in raw
    assert "www." not in raw


@given(st.text(min_size=1).filter(str.strip))
@example("` | `")
def test_no_text_ends_a_cell(name: str) -> None:
    found = cells(build(artifact((name, name, 1), (name, "1", 1))))
    assert len(found) == 15
    assert shown(found[5]) == visible(name)
