"""One run tells its results twice: as a document for the steps that follow, and as Markdown for whoever looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from product import schemas

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Run
    from product.loopback import Index


def test_a_build_prints_json_and_appends_the_summary_of_each_target(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n")
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    both = ("-t", "python3.13-arm64", "-t", "python3.12-x86_64")
    ran = run("build", project, *both, "--format", "json", "--summary", summary)
    schemas.check("build", ran.json)
    text = summary.read_text()
    assert text.startswith("before\n### python3.13-arm64: zip\n")
    assert "\n### python3.12-x86_64: zip\n" in text
    assert text.count("| <code>demo</code> | 1.0 | pure |") == 2
    for one in ran.json["artifacts"]:
        assert f"<code>{one['code_sha256']}</code>" in text
    assert run("build", project, *both, "--format", "markdown").stdout.strip() == text.removeprefix("before\n").strip()


def test_what_an_audit_refuses_is_in_the_summary_too(run: Run, index: Index, project: Path, tmp_path: Path) -> None:
    words = ("-t", "python3.13-arm64", "--handler", "app.nothing")
    ran = run("build", project, *words, "--summary", tmp_path / "summary.md", status=1)
    assert "not written" in ran.stdout
    text = (tmp_path / "summary.md").read_text()
    assert "**Not written**" in text
    assert "| error | <code>handler-missing</code> |" in text
    package = run("build", project, "-t", "python3.13-arm64", "--format", "json").artifact["path"]
    ran = run("audit", package, *words, "--format", "sarif", "--summary", tmp_path / "audit.md", status=1)
    assert ran.json["version"] == "2.1.0"
    assert (tmp_path / "audit.md").read_text() == (
        run("audit", package, *words, "--format", "markdown", status=1).stdout.rstrip() + "\n\n"
    )


def test_a_summary_that_cannot_be_written_is_an_error_that_names_it(run: Run, project: Path, tmp_path: Path) -> None:
    ran = run("build", project, "-t", "python3.13-arm64", "--summary", tmp_path / "no" / "s.md", status=5)
    assert f"error: the summary cannot be written to `{tmp_path / 'no' / 's.md'}`: " in ran.stderr
