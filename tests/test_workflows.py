"""The workflows of this repository, and the table of the actions that they and `init github` name by commit."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from product import pipelines

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parent.parent


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_actions", ROOT / "tools" / "update_actions.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


update = tool()
TABLE: dict[str, Any] = json.loads(update.TABLE.read_text(encoding="utf-8"))
FILES: list[Path] = update.files()


def test_every_action_has_a_commit_that_two_sources_tell() -> None:
    assert dt.date.fromisoformat(TABLE["checked"]) >= dt.date(2026, 11, 28)
    for action, one in TABLE["actions"].items():
        assert re.fullmatch(r"[0-9a-f]{40}", one["commit"]), action
        assert re.fullmatch(r"v\d+\.\d+\.\d+", one["version"]), action
        first, *others = one["sources"]
        assert others or first.startswith("git ls-remote --tags https://github.com/"), action
    assert list(TABLE["actions"]) == sorted(TABLE["actions"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_action_is_named_but_by_the_commit_of_the_table(file: Path) -> None:
    named = re.findall(r"^\s*(?:- )?uses: (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    allowed = {f"{action}@{one['commit']} # {one['version']}" for action, one in TABLE["actions"].items()}
    assert {one for one in named if not one.startswith("./ ")} <= allowed


def test_our_workflows_are_valid_and_nothing_is_found_in_them() -> None:
    workflows = FILES[1:]
    assert {file.name for file in workflows} == {"ci.yml", "release.yml"}
    pipelines.valid("github-workflows", *workflows)
    pipelines.secure(*workflows)


def test_each_job_of_a_release_may_do_one_thing_and_who_publishes_runs_no_script() -> None:
    jobs = pipelines.loaded(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "build": {"contents": "read"},
        "publish": {"id-token": "write"},
        "attach": {"contents": "write"},
    }
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert not any("run" in step for step in jobs["publish"]["steps"])


def test_the_newest_release_is_found_by_number_and_its_commit_behind_the_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "actions" / "cache"
    repository.mkdir(parents=True)
    settings = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")

    def git(*words: str) -> str:
        done = subprocess.run(["git", *settings, *words], cwd=repository, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    for tag in ("v9.0.0", "v10.0.1"):
        git("commit", "--quiet", "--allow-empty", "-m", tag)
        git("tag", "-a", "-m", tag, tag)
    commit = git("rev-parse", "HEAD")
    git("commit", "--quiet", "--allow-empty", "-m", "later")
    git("tag", "v10")
    git("tag", "v11.0.0-beta.1")
    for name, value in (
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/.insteadOf"),
        ("GIT_CONFIG_VALUE_0", "https://github.com/"),
    ):
        monkeypatch.setenv(name, value)
    known = {"version": "v9.0.0", "commit": "0" * 40, "sources": ["a", "b"]}
    table = update.renewed({"checked": "2026-01-01", "actions": {"actions/cache/restore": known}})
    assert table["actions"]["actions/cache/restore"] == {
        "version": "v10.0.1",
        "commit": commit,
        "sources": ["git ls-remote --tags https://github.com/actions/cache"],
    }
    text = f"- uses: actions/cache/restore@{'0' * 40} # v9.0.0\n"
    assert update.rewritten(text, table) == f"- uses: actions/cache/restore@{commit} # v10.0.1\n"
