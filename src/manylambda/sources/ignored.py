"""Which ignore files speak for a folder, and what they say of a path; knows nothing of packages.

Counted are the `.gitignore` of the folder, of those above it up to the root of the repository, and the repository's
own `info/exclude`. Not counted are the user's global ignore file and the index: they are not part of the sources.
"""

# ruff: noqa: PTH110, PTH113, PTH114, PTH118, PTH120

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, NoReturn

from manylambda.errors import PackagingError
from manylambda.sources.gitignore import Rules, path_bytes


class Level(NamedTuple):
    """An ignore file and the folder it speaks for."""

    rules: Rules
    depth: int
    """Length of the folder's path below the top, in bytes with its `/`."""


def ignore_files_above(disk: str, fallback: str) -> tuple[str, tuple[Level, ...]]:
    """Return the path of the folder `disk` below the top, empty or ending in `/`, and the levels above it.

    The top is the root of the repository, or `fallback` where there is none. `disk` is real and absolute.
    """
    top = _repository(disk) or fallback
    levels: tuple[Level, ...] = ()
    exclude_file = _exclude_file(top)
    if exclude_file is not None:
        levels = (Level(_read_rules(exclude_file, ".git/info/exclude"), 0),)
    path = ""
    for part in (below(disk, top) or "").split("/"):
        if not part:
            break
        levels = with_ignore_file(levels, os.path.join(top, path) if path else top, path)
        path += part
        # A folder the user named is wanted, whatever the folders above say of it: a checkout in a home folder
        # that is itself a repository with `*` in its .gitignore is common.
        if ignoring(levels, path_bytes(path), is_folder=True) is not None:
            levels = ()
        path += "/"
    return path, levels


def with_ignore_file(levels: tuple[Level, ...], disk: str, top: str) -> tuple[Level, ...]:
    """Add the ignore file of the folder `disk`, which is `top` below the top."""
    path = os.path.join(disk, ".gitignore")
    # git does not follow a link here either.
    if os.path.islink(path) or not os.path.isfile(path):
        return levels
    return (*levels, Level(_read_rules(path, f"{top}.gitignore"), len(path_bytes(top))))


def ignoring(levels: tuple[Level, ...], path: bytes, *, is_folder: bool) -> str | None:
    """Return why `path`, below the top, is ignored; the nearest ignore file with a word on it decides."""
    for level in reversed(levels):
        pattern = level.rules.match(path[level.depth :], is_folder=is_folder)
        if pattern is not None:
            if pattern.is_negative:
                return None
            return f"ignored by `{level.rules.origin}` line {pattern.line}: `{pattern.text}`"
    return None


def below(path: str, folder: str) -> str | None:
    """Return `path` below `folder`, `/`-separated and empty for the folder itself; None when it is not below."""
    if path == folder:
        return ""
    prefix = folder if folder.endswith(os.sep) else folder + os.sep
    return path[len(prefix) :].replace(os.sep, "/") if path.startswith(prefix) else None


def unreadable(shown: str, error: OSError) -> NoReturn:
    """Say that a file of the project cannot be read."""
    raise PackagingError(
        f"cannot read `{shown}`: {error.strerror}", hint=f'make it readable, or leave it out: `exclude = ["/{shown}"]`'
    ) from error


def _repository(disk: str) -> str | None:
    """Return the root of the repository `disk` lies in."""
    while not os.path.exists(os.path.join(disk, ".git")):
        parent = os.path.dirname(disk)
        if parent == disk:
            return None
        disk = parent
    return disk


def _exclude_file(top: str) -> str | None:
    """Return the repository's own exclude file; in a worktree and a submodule `.git` is a file that leads to it."""
    folder = os.path.join(top, ".git")
    try:
        if os.path.isfile(folder):
            text = Path(folder).read_text("utf-8", "surrogateescape")
            folder = os.path.join(top, text.removeprefix("gitdir:").strip())
            common = Path(folder, "commondir")
            if common.is_file():
                folder = os.path.join(folder, common.read_text("utf-8", "surrogateescape").strip())
    except OSError:
        return None
    path = os.path.join(folder, "info", "exclude")
    return path if os.path.isfile(path) else None


def _read_rules(disk: str, shown: str) -> Rules:
    try:
        return Rules.parse(Path(disk).read_bytes(), shown)
    except OSError as error:
        unreadable(shown, error)
