"""A package index of files on disk that lists what locks name: enough to look up where files lie, without bytes."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOST = "https://files.example.org"


def files_of(lock: Path) -> dict[str, dict[str, str]]:
    """Read a poetry.lock or pdm.lock: project -> file name -> sha256."""
    found: dict[str, dict[str, str]] = {}
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        files = found.setdefault(package["name"], {})
        for file in package.get("files", ()):
            name = file.get("file") or file["url"].rpartition("/")[2]
            files[name] = file["hash"].removeprefix("sha256:")
    return found


def write_index(folder: Path, projects: Mapping[str, Mapping[str, str]]) -> str:
    """Write the simple index and return its URL."""
    for project, files in projects.items():
        page = folder / project / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        links = (
            f'<a href="{HOST}/{quote(name)}' + (f"#sha256={digest}" if digest else "") + f'">{name}</a><br>'
            for name, digest in files.items()
        )
        page.write_text("<!DOCTYPE html>\n<html><body>\n" + "\n".join(links) + "\n</body></html>\n")
    return folder.as_uri()
