"""Renew the commits by which GitHub's actions are named, in the table and in every file of this repository.

    python tools/update_actions.py            the newest release of each action, asked of its repository by git
    python tools/update_actions.py --check    exit 1 when a file names another commit than the table

`src/manylambda/data/actions.json` is the table; `manylambda init github` writes from it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parent.parent
TABLE: Final = REPOSITORY / "src" / "manylambda" / "data" / "actions.json"
_USES: Final = re.compile(
    r"(?P<before>uses: )(?P<action>[\w.-]+/[\w./-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\S+)"
)
_RELEASE: Final = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


def files(repository: Path = REPOSITORY) -> list[Path]:
    """Give what names actions."""
    return [repository / "action.yml", *sorted((repository / ".github" / "workflows").glob("*.yml"))]


def newest(action: str) -> tuple[str, str]:
    """Give the newest release of an action and the commit it names. Raises CalledProcessError."""
    owner, name = action.split("/")[:2]
    url = f"https://github.com/{owner}/{name}"
    listed = subprocess.run(["git", "ls-remote", "--tags", url], check=True, capture_output=True, text=True).stdout
    tags = {tag.removeprefix("refs/tags/"): commit for commit, tag in map(str.split, listed.splitlines())}
    releases = [match for tag in tags if (match := _RELEASE.fullmatch(tag))]
    version = max(releases, key=lambda match: tuple(map(int, match.groups())))[0]
    return version, tags.get(f"{version}^{{}}", tags[version])  # an annotated tag is an object of its own


def renewed(table: dict[str, Any]) -> dict[str, Any]:
    """Give the table as it is today."""
    actions = {}
    for action, known in table["actions"].items():
        version, commit = newest(action)
        owner, name = action.split("/")[:2]
        source = f"git ls-remote --tags https://github.com/{owner}/{name}"
        is_known = (version, commit) == (known["version"], known["commit"])
        sources = known["sources"] if is_known else [source]
        actions[action] = {"version": version, "commit": commit, "sources": sources}
        print(f"{action}: {version}" if is_known else f"{action}: {known['version']} -> {version}")
    return {"checked": dt.datetime.now(tz=dt.UTC).date().isoformat(), "actions": actions}


def rewritten(text: str, table: dict[str, Any]) -> str:
    """Give the text of a file with the commits of the table."""

    def named(match: re.Match[str]) -> str:
        one = table["actions"][match["action"]]
        return f"{match['before']}{match['action']}@{one['commit']} # {one['version']}"

    return _USES.sub(named, text)


def main() -> int:
    """Renew, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    if not options.check:
        table = renewed(table)
        TABLE.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8", newline="\n")
    changed = [
        file for file in files() if rewritten(file.read_text(encoding="utf-8"), table) != file.read_text("utf-8")
    ]
    for file in changed:
        print(f"{file.relative_to(REPOSITORY)} names other commits than the table")
        if not options.check:
            file.write_text(rewritten(file.read_text(encoding="utf-8"), table), encoding="utf-8", newline="\n")
    return int(bool(changed) and options.check)


if __name__ == "__main__":
    raise SystemExit(main())
