"""Which file a project's dependencies are taken from.

The most exact file wins (`SourceKind` is in that order) and what was passed over is told; nothing is guessed from a
name such as `requirements-dev.txt`. What the files say is read elsewhere; here only as much as decides.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.locks.documents import is_piped, load
from manylambda.locks.model import Source, SourceKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from manylambda.locks.documents import Table

_PYLOCK_NAME: Final = re.compile(r"pylock\.[^.]+\.toml")
_LOCAL_SOURCE: Final = re.compile(r'^source = \{ (?:editable|directory|virtual) = "([^"]*)"', re.MULTILINE)
_LOCKS: Final = (SourceKind.PYLOCK, SourceKind.UV, SourceKind.POETRY, SourceKind.PDM)


def discover(
    project: Path, *, requirements: Sequence[Path] = (), lock: Path | None = None, ignored: Path | None = None
) -> Source:
    """Find where the dependencies of the folder `project` are written down.

    `requirements` (`-` is standard input) or `lock` name the file instead. `ignored` is no candidate: the lock that is
    about to be written anew. RequestError when a named file does not exist or is of no known kind, and when what the
    project has is a format that cannot be read.
    """
    project = project.resolve()
    if not project.is_dir():
        raise RequestError(f"project is not a folder: {project}")
    if requirements and lock is not None:
        raise RequestError(
            "a requirements file and a lock were both named",
            hint="pass `-r` or `--lock`, not both; a lock is already exact",
        )
    if requirements:
        return Source(
            kind=SourceKind.REQUIREMENTS,
            project=project,
            files=tuple(_named_requirements(file, project) for file in requirements),
        )
    if lock is not None:
        return _named_lock(lock, project)
    return _found(project, ignored.resolve() if ignored is not None else None)


def base_folder(source: Source) -> Path:
    """Return the folder that relative paths in the lock read from `source` start from."""
    return source.files[0].parent if source.kind is SourceKind.PYLOCK else source.project


def unlocked(source: Source, recorded: Sequence[str] = ()) -> Source | None:
    """Return what a lock is made from, to be resolved anew; None where that is not there in a form that is read.

    `recorded` are the files that a lock of ours says it was made from, relative to it.
    """
    files = [base_folder(source) / name for name in recorded]
    if files and all(file.is_file() for file in files):
        if any(lock_kind(file.name) is not None for file in files):
            return None
        pyproject = [file for file in files if file.name == SourceKind.PYPROJECT.value]
        kind = SourceKind.PYPROJECT if pyproject else SourceKind.REQUIREMENTS
        return Source(kind=kind, project=source.project, files=tuple(pyproject or files))
    file = source.project / SourceKind.PYPROJECT.value
    document = load(file) if file.is_file() else None
    try:
        _refuse_unread(source.project, document)
    except RequestError:
        return None
    if document is not None and "project" in document:
        return Source(kind=SourceKind.PYPROJECT, project=source.project, files=(file,))
    passed = tuple(file for file in source.passed_over if file.name == SourceKind.REQUIREMENTS.value)
    return Source(kind=SourceKind.REQUIREMENTS, project=source.project, files=passed) if passed else None


def deciding_files(source: Source) -> tuple[Path, ...]:
    """Return every file whose bytes decide what a lock gives, whether it is there or not; empty when it is no lock.

    A `uv.lock` is held against the `pyproject.toml` of each local package in it.
    """
    match source.kind:
        case SourceKind.PYLOCK:
            return source.files
        case SourceKind.POETRY | SourceKind.PDM:
            return (*source.files, source.project / SourceKind.PYPROJECT.value)
        case SourceKind.UV:
            root = source.files[0].parent
            # Found by their one form rather than by a parser: a warm build reads nothing else of the lock.
            places = _LOCAL_SOURCE.findall(source.files[0].read_text(encoding="utf-8", errors="replace"))
            folders = {source.project, root, *(root / place for place in places)}
            return (*source.files, *(folder / SourceKind.PYPROJECT.value for folder in sorted(folders)))
        case _:
            return ()


def lock_kind(name: str) -> SourceKind | None:
    """Return which lock a file of this name is, None when it is none."""
    if _PYLOCK_NAME.fullmatch(name):
        return SourceKind.PYLOCK
    return next((kind for kind in _LOCKS if kind.value == name), None)


def workspace_root(project: Path) -> Path | None:
    """Return the folder of the uv workspace that has `project` as a member and lies above it."""
    for folder in project.parents:
        file = folder / SourceKind.PYPROJECT.value
        if not file.is_file():
            continue
        workspace = load(file).table("tool", "uv")
        if "workspace" not in workspace:
            continue
        workspace = workspace.table("workspace")
        member = project.relative_to(folder).parts
        if any(_matches(member, pattern) for pattern in workspace.texts("exclude")):
            return None
        # uv stops at the nearest workspace, whether or not the project belongs to it.
        return folder if any(_matches(member, pattern) for pattern in workspace.texts("members")) else None
    return None


def _matches(parts: tuple[str, ...], pattern: str) -> bool:
    def match(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
        if not patterns:
            return not parts
        if patterns[0] == "**":
            return any(match(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
        return bool(parts) and fnmatchcase(parts[0], patterns[0]) and match(parts[1:], patterns[1:])

    return match(parts, tuple(part for part in pattern.split("/") if part not in {"", "."}))


def _named_requirements(file: Path, project: Path) -> Path:
    if is_piped(file):
        return file
    if lock_kind(file.name) is not None:
        raise RequestError(f"`{file.name}` is a lock, not a requirements file", hint=f"pass `--lock {file}`")
    if file.name == SourceKind.PYPROJECT.value:
        raise RequestError(
            "`pyproject.toml` is not a requirements file",
            hint="leave out `-r` and pass the folder it lies in as the project",
        )
    if not file.is_file():
        raise RequestError(f"`{file}` does not exist", hint=_nearby(project, ".txt"))
    return file.resolve()


def _nearby(project: Path, suffix: str) -> str | None:
    names = sorted(path.name for path in project.glob(f"*{suffix}") if path.is_file())
    return f"in `{project.name}` there is {', '.join(f'`{name}`' for name in names)}" if names else None


def _named_lock(lock: Path, project: Path) -> Source:
    kind = lock_kind(lock.name)
    if kind is None:
        known = ", ".join(f"`{known.value}`" for known in _LOCKS)
        raise RequestError(
            f"`{lock.name}` is no lock of a known name",
            hint=f"a lock is called {known} or `pylock.<name>.toml`; a requirements file is passed with `-r`",
        )
    if not lock.is_file():
        raise RequestError(f"`{lock}` does not exist")
    lock = lock.resolve()
    # A uv, poetry or pdm lock belongs to the pyproject.toml beside it; uv's may belong to a member below it.
    if kind is not SourceKind.PYLOCK and lock.parent != project and kind is not SourceKind.UV:
        project = lock.parent
    return Source(kind=kind, project=project, files=(lock,))


def _found(project: Path, ignored: Path | None) -> Source:
    candidates: list[tuple[SourceKind, Path]] = []
    for kind in (*_LOCKS, SourceKind.REQUIREMENTS):
        file = project / kind.value
        if not file.is_file() and kind is SourceKind.UV and (project / SourceKind.PYPROJECT.value).is_file():
            root = workspace_root(project)
            file = root / kind.value if root is not None else file
        if file.is_file() and file != ignored:
            candidates.append((kind, file))

    pyproject = project / SourceKind.PYPROJECT.value
    document = load(pyproject) if pyproject.is_file() else None
    if not candidates:
        _refuse_unread(project, document)
    # The pyproject.toml that a lock was made from is no rival of the lock; it is one of a requirements.txt.
    if document is not None and "project" in document and not any(kind.is_locked for kind, _ in candidates):
        candidates.append((SourceKind.PYPROJECT, pyproject))
    if not candidates:
        return Source(kind=SourceKind.NONE, project=project, files=())
    (kind, file), *others = candidates
    return Source(kind=kind, project=project, files=(file,), passed_over=tuple(other for _, other in others))


def _is_elsewhere(requirement: object) -> bool:
    return isinstance(requirement, dict) and not requirement.keys().isdisjoint({"path", "git", "url", "source"})


def _refuse_unread(project: Path, document: Table | None) -> None:
    """Raise RequestError if dependencies are written in a form that is not read: they must not be left out silently."""
    if document is not None:
        poetry = document.table("tool", "poetry")
        named = poetry.table("dependencies")
        # Beside `[project]` it may say that a name is a folder or comes from a private index: asking the public index
        # for such a name would be an invitation to whoever registers it there.
        is_elsewhere = any(_is_elsewhere(named.get(name)) for name in named)
        has_names = any(name.lower() != "python" for name in named)
        if is_elsewhere or (has_names and "dependencies" not in document.table("project")):
            raise RequestError(
                "`[tool.poetry.dependencies]` can only be built from a lock, and there is no `poetry.lock`",
                hint="run `poetry lock`",
            )
    for name in ("Pipfile.lock", "Pipfile"):
        if (project / name).is_file():
            raise RequestError(
                f"`{name}` is not read, and there is no other file with dependencies",
                hint="run `pipenv requirements --hash > requirements.txt`",
            )
    for name in ("setup.cfg", "setup.py"):
        file = project / name
        if file.is_file() and "install_requires" in file.read_text(encoding="utf-8", errors="replace"):
            raise RequestError(
                f"`install_requires` in `{name}` is not read, and there is no other file with dependencies",
                hint="move the dependencies to `[project]` in `pyproject.toml`, or name them in a `requirements.txt`",
            )
