"""Source trees: of an archive, or of a folder of this machine, as a copy that a build may write to.

What the user's folders hold is never written to, and what another build or another host left there is not copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.sdists.nature import examine
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, checked_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manylambda.locks.model import LocalPackage
    from manylambda.sdists.nature import Nature

# Never part of what is built: version control, environments, caches, and the leftovers of earlier builds, of which
# setuptools would ship modules that are long gone.
_LEFT_OUT: Final = frozenset(
    {
        ".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
        ".hypothesis", ".eggs", ".idea", ".vscode", "__pycache__", "__pypackages__", "node_modules", ".DS_Store",
    }
)  # fmt: skip
_MOST_TEXT: Final = 4 << 20
_STEPS: Final = re.compile(r"(bdist\.|lib$|lib\.|temp\.)")
_VERSIONED_BY_GIT: Final = re.compile(
    r"setuptools[-_]scm|vcs[-_]versioning|hatch[-_]vcs|versioningit|dynamic[-_]versioning|dunamai|versioneer|flit[-_]scm",
    re.IGNORECASE,
)


class Copy(NamedTuple):
    """A tree that a build may write to."""

    folder: Path
    """Where the `pyproject.toml` or `setup.py` is."""
    git: Path | None = None
    """The repository whose history tells the version; it is read."""


class _File(NamedTuple):
    path: str
    """Relative to the source tree, `/`-separated."""
    place: Path
    is_executable: bool


class Archive:
    """An sdist whose hash was checked."""

    def __init__(self, name: str, archive: Path, sha256: str) -> None:
        """`name` is normalised."""
        self.name = name
        self.where = archive.name
        self.key: str | None = sha256
        self._archive = archive

    def nature(self) -> Nature:
        """Look at its files without unpacking it. Raises `UnsafeArchive` when it cannot be read."""
        return examine_archive(self._archive)

    def copy(self, room: Path) -> Copy:
        """Unpack it below `room`. Raises `UnsafeArchive`."""
        return Copy(_unpacked(self._archive, room))


class Folder:
    """A source tree of this machine: a path or workspace dependency, or the project itself."""

    def __init__(self, package: LocalPackage) -> None:
        """Look at what is there; raises `PackagingError` when that cannot be built."""
        folder = package.directory
        if not folder.is_dir():
            raise PackagingError(f"the folder of `{package.name}` does not exist: {folder}")
        if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
            raise PackagingError(
                f"the folder of `{package.name}` has no `pyproject.toml`: {folder}",
                hint="only a folder with a `pyproject.toml` (or `setup.py`) can be built into a wheel",
            )
        self.name = package.name
        self.where = str(folder)
        self._folder = folder
        self._files = sorted(_files(folder))
        self._is_versioned = _is_versioned_by_git(folder)
        # The version of such a tree is not in its files.
        self.key = None if self._is_versioned else _key(package.name, folder, self._files)

    def nature(self) -> Nature:
        """Look at its files."""
        return examine([file.path for file in self._files], lambda name: _text(self._folder / name))

    def copy(self, room: Path) -> Copy:
        """Copy it below `room`."""
        tree = _copied(self._files, self._folder, room, is_versioned=self._is_versioned)
        has_git = self._is_versioned and (self._folder / ".git").exists()
        return Copy(tree, _git_folder(self._folder) if has_git else None)


def examine_archive(archive: Path) -> Nature:
    """Say what an sdist is by its own files; nothing is unpacked. Raises `UnsafeArchive` when it cannot be read."""
    import tarfile
    import zlib

    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                names = [info.filename for info in opened.infolist() if not info.is_dir()]
                return _examined(names, opened.read)
        with tarfile.open(archive) as tar:
            members = {member.name: member for member in tar.getmembers() if member.isfile()}

            def read(name: str) -> bytes:
                stream = tar.extractfile(members[name])
                return stream.read(_MOST_TEXT) if stream is not None else b""

            return _examined(list(members), read)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(f"`{archive.name}` cannot be read: {error}") from error


def _examined(names: Sequence[str], read: Callable[[str], bytes]) -> Nature:
    """Examine an archive's files as those of the one folder it holds."""
    own = {name.partition("/")[2]: name for name in names}
    return examine(own, lambda name: read(own[name])[:_MOST_TEXT].decode("utf-8", "replace") if name in own else None)


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_TEXT).decode("utf-8", "replace")
    except OSError:
        return None


def _unpacked(archive: Path, scratch: Path) -> Path:
    """Unpack an archive below `scratch`; return the one folder it holds."""
    import tarfile
    import zlib

    if not hasattr(tarfile, "data_filter"):
        raise PackagingError(
            f"`{archive.name}` cannot be unpacked safely by Python {sys.version.split()[0]}",
            hint="use Python 3.11.4 or newer",
        )
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    checked_path(info.orig_filename.removesuffix("/"))
                opened.extractall(scratch)  # noqa: S202 - checked above, and zipfile makes no links
        else:
            with tarfile.open(archive) as unpacking:
                unpacking.extractall(scratch, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(f"`{archive.name}` cannot be unpacked: {error}") from error
    found = [path for path in scratch.iterdir() if path.name != "pax_global_header"]
    if len(found) != 1 or not found[0].is_dir():
        raise UnsafeArchive(f"`{archive.name}` is no source distribution: it does not hold one folder")
    return found[0]


# --- the copy


def _files(folder: Path) -> Iterator[_File]:
    """Yield the files to build from; symbolic links are followed, once each way down."""

    def walk(current: Path, prefix: str, above: frozenset[str]) -> Iterator[_File]:
        real = os.path.realpath(current)
        if real in above:
            return
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = prefix + entry.name
                if entry.is_dir():
                    if not _is_left_out(Path(entry.path), path):
                        yield from walk(Path(entry.path), path + "/", above | {real})
                elif entry.is_file() and entry.name not in _LEFT_OUT and not entry.name.endswith((".pyc", ".pyo")):
                    mode = entry.stat().st_mode
                    yield _File(path, Path(entry.path), bool(mode & 0o100) and os.name != "nt")

    yield from walk(folder, "", frozenset())


def _is_left_out(folder: Path, path: str) -> bool:
    if folder.name in _LEFT_OUT or folder.name.endswith((".egg-info", ".dist-info")):
        return True
    if (folder / "pyvenv.cfg").is_file():
        return True
    if path == "build":  # setuptools' own; a package may be called so
        return any(_STEPS.match(step.name) for step in folder.iterdir())
    if path == "dist":
        return any(file.name.endswith((".whl", ".tar.gz")) for file in folder.iterdir())
    return False


def _is_versioned_by_git(folder: Path) -> bool:
    """Tell whether the version comes from the history, which a copy does not have."""
    file = folder / "pyproject.toml"
    texts = [path for path in (file, folder / "setup.py", folder / "setup.cfg") if path.is_file()]
    return any(_VERSIONED_BY_GIT.search(path.read_text(encoding="utf-8", errors="replace")) for path in texts)


def _key(name: str, folder: Path, files: Sequence[_File]) -> str:
    """Hash all of a tree that decides what its build makes."""
    digest = hashlib.sha256(f"{name}\n".encode())
    for ignored in _ignore_files(folder).values():
        content = ignored.read_bytes()
        digest.update(f"{ignored.name} {len(content)}\n".encode() + content)
    for file in files:
        with file.place.open("rb") as stream:
            content_digest = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(json.dumps([file.path, file.is_executable, content_digest]).encode() + b"\n")
    return digest.hexdigest()


def _ignore_files(folder: Path) -> dict[str, Path]:
    """Find the ignore files above the tree that git would heed: hatchling leaves out what they name.

    The keys are the places of their folders relative to the tree's: `../`, `../../`.
    """
    found: dict[str, Path] = {}
    place, above = "", folder
    while not (above / ".git").exists():
        if above.parent == above:
            return {}
        above, place = above.parent, f"{place}../"
        file = above / ".gitignore"
        if file.is_file():
            found[place] = file
    return found


def _copied(files: Sequence[_File], folder: Path, root: Path, *, is_versioned: bool) -> Path:
    """Copy the tree below `root`, as deep as it lies in its repository; return the copy's folder."""
    ignored = _ignore_files(folder)
    depth = max((above.count("/") for above in ignored), default=0)
    tree = root.joinpath(*folder.parts[len(folder.parts) - depth :]) if depth else root
    for file in files:
        place = tree / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.place, place)
        place.chmod(MODE_EXECUTABLE if file.is_executable else MODE_FILE)
    for above, ignore in ignored.items():
        shutil.copyfile(ignore, tree / above / ".gitignore")
    if is_versioned and (folder / ".git").exists():
        # A file that says where the history is: the copy becomes another working tree of it.
        (tree / ".git").write_text(f"gitdir: {_git_folder(folder)}\n", encoding="utf-8")
    return tree


def _git_folder(folder: Path) -> Path:
    git = folder / ".git"
    if git.is_file():
        return folder / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return git
