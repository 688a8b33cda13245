"""What a recipe is asked, what it has written, and how its files come into their places."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from manylambda import archive
from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from manylambda.target import Target


class Request(NamedTuple):
    """What is asked of a recipe beside the settings."""

    folder: Path | None = None
    """Where the files are written; None for the project's folder."""
    force: bool = False
    """Whether files that are there are replaced."""
    edit: bool = False
    """Whether the files of the tool that a recipe is for are changed, where they have to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The files that were written."""

    recipe: str
    """Its name: `docker`, `github` ..."""
    targets: tuple[Target, ...]
    files: tuple[Path, ...]
    summary: str
    """What they are, in one line."""
    steps: tuple[str, ...] = ()
    """What is left to do, a line each, for a person."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What this recipe tells besides, as its JSON has it."""


def write(
    folder: Path, documents: Mapping[str, str], *, force: bool, executable: Collection[str] = ()
) -> tuple[Path, ...]:
    """Write texts to paths in a folder, all or none of them, with the line ends they have.

    Raises RequestError, before anything is written, where a file is there and says something else, unless `force`;
    PackagingError where one cannot be written.
    """
    contents = {folder / name: _encoded(text, name) for name, text in documents.items()}
    changed = [path for path, content in contents.items() if path.exists() and path.read_bytes() != content]
    if changed and not force:
        names = ", ".join(f"`{path.relative_to(folder).as_posix()}`" for path in changed)
        raise RequestError(
            f"already there, and not the same: {names}", hint="`--force` replaces them; `-o DIR` writes elsewhere"
        )
    replace_all(contents, executable={folder / name for name in executable})
    return tuple(contents)


def replace_all(contents: Mapping[Path, bytes], *, executable: Collection[Path] = ()) -> None:
    """Write files; what can fail is done beside all of them before the first is replaced.

    Raises PackagingError where one cannot be written.
    """
    with ExitStack() as stack:
        written: dict[Path, Path] = {}
        for path, content in contents.items():
            beside = stack.enter_context(archive.staged(path))
            beside.write_bytes(content)
            if path in executable:
                beside.chmod(0o755)
            written[path] = beside
        for path, beside in written.items():
            beside.replace(path)


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"`{name}` would name a file whose name is not Unicode", hint="give the file or folder another name"
        ) from error
