"""Reads a project folder into a package tree, and says of each file it leaves out why.

What is taken depends on the files alone: not on the git program, the index of a repository, the user's settings,
modes, time or order of the file system. Contents are not read, but for the first bytes that tell a program.
"""

# Paths are text here: a `Path` for each entry costs more than the rest of the walk.
# ruff: noqa: PTH110, PTH112, PTH115, PTH118, PTH119, PTH123

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import PackagingError, RequestError, UnsafeArchive
from manylambda.sources.defaults import Default, Defaults, compiled_defaults
from manylambda.sources.gitignore import Pattern, Rules, path_bytes
from manylambda.sources.ignored import Level, below, ignore_files_above, ignoring, unreadable, with_ignore_file
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, DiskFile, Entry, PackageTree, checked_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ORIGIN: Final = "project"

_PROGRAM_STARTS: Final = (b"#!", b"\x7fELF")
_ENVIRONMENTS: Final = {
    "pyvenv.cfg": Default("virtual environment", (), is_closed=True),
    "conda-meta": Default("conda environment", (), is_closed=True),
}
_BUT_INCLUDED: Final = "; only what `include` names is taken"
_LOOKED_AT: Final = 5_000
"""Entries of ignored folders that are searched for a shared object worth a word; a bound on time, not on truth."""
_CERTIFICATE_LIMIT: Final = 4 << 20
"""Bytes of a `.pem` file that are searched for a private key; no bundle of certificates is near it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFolder:
    """A folder (or file) on disk, and where in the package it goes."""

    path: Path
    """Relative to the project, or absolute."""
    to: str = ""
    """A folder in the package, `/`-separated; empty for its root. For a file: its path, or empty for its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRules:
    """What a user may say about the files of a project.

    Patterns have the syntax of .gitignore and match the path in the project folder; for a source folder outside
    the project, the path in the package.
    """

    include: tuple[str, ...] = ()
    """Taken although .gitignore or the defaults leave them out."""
    exclude: tuple[str, ...] = ()
    """Left out, whatever else is said."""
    executable: tuple[str, ...] = ()
    """Mode 0755 although the content does not show a program."""
    sources: tuple[SourceFolder, ...] | None = None
    """What becomes the root of the package; None to look at the project."""
    is_package: bool = False
    """The project is shipped as a wheel: only what `sources` and `include` name is taken as files too."""
    output: Path | None = None
    """Where packages are written: never part of one."""
    artifacts: tuple[Path, ...] = ()
    """Where else packages and container images are written, and what images are made from: likewise."""
    name: str | None = None
    """The first part of the names of packages: those of earlier builds are never part of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A file or a whole folder that is not in the package."""

    path: str
    """As the user would write it, from the project folder; a folder ends in `/`."""
    reason: str
    notable: bool = False
    """Worth a warning: the function may well need it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFiles:
    """The files of a project that go into a package."""

    tree: PackageTree
    left_out: tuple[LeftOut, ...]
    """Sorted by path."""
    sources: tuple[SourceFolder, ...]
    """What was read: as given, or as found. Empty when the project is shipped as a wheel only."""
    case_collisions: tuple[tuple[str, str], ...] = ()
    """Paths that are one path on macOS and Windows: a checkout there has only one of the files."""


class _Folder(NamedTuple):
    """A folder to be read; the paths are those of the folder, empty or ending in `/`."""

    disk: str
    top: str
    """Below the folder where ignore files begin to count."""
    shown: str
    """As the user would write it."""
    glob: str
    """What `include` and `exclude` match."""
    local: str
    """Below the source folder: what the defaults match."""
    package: str
    levels: tuple[Level, ...]
    parent: _Folder | None
    is_barred: bool = False
    """Only what `include` names is taken."""
    is_lifted: bool = False
    """`include` named this folder or one above: .gitignore does not count in it."""
    guarded: bytes | None = None
    """The folder above that the defaults leave out, as `glob`."""


class _Seen(NamedTuple):
    """One entry of a folder, with what every question needs."""

    entry: os.DirEntry[str]
    name: str
    """NFC: a file has one name, whatever the file system of the host makes of it."""
    shown: str
    glob: bytes
    is_link: bool
    is_folder: bool
    """A folder, or a link to one."""

    @property
    def told(self) -> str:
        """As the user is told of it."""
        return self.shown + "/" * self.is_folder


def project_tree(project: Path, rules: FileRules) -> ProjectFiles:
    """Read the files of `project` that belong into a package.

    Raises `RequestError` when a source folder does not exist, `PackagingError` for a link that leaves the project,
    loops or dangles, for a name no package can hold, and for a file that cannot be read.
    """
    return _Reader(project, rules).read()


def found_sources(project: Path) -> tuple[SourceFolder, ...]:
    """Return what becomes the root of the package when nobody says: the project folder, or its `src`.

    `src` it is when it is no package itself and nothing importable lies beside it.
    """
    source = project / "src"
    if source.is_dir() and not (source / "__init__.py").exists() and not _has_modules(project):
        return (SourceFolder(path=Path("src")),)
    return (SourceFolder(path=Path()),)


def _has_modules(project: Path) -> bool:
    defaults = compiled_defaults(is_environment=False)
    with _scan(str(project), "") as entries:
        for entry in entries:
            is_folder = _is_folder(entry)
            if defaults.find(path_bytes(_unicode_name(entry)), is_folder=is_folder):
                continue
            if is_folder:
                if os.path.exists(os.path.join(entry.path, "__init__.py")):
                    return True
            elif entry.name.endswith((".py", ".so")) and not entry.name.startswith("test_"):
                return True
    return False


class _Reader:
    """One walk: collects entries and what is left out."""

    def __init__(self, project: Path, rules: FileRules) -> None:
        self._project = os.path.realpath(project)
        self._rules = rules
        written = rules.artifacts if rules.output is None else (rules.output, *rules.artifacts)
        self._written = frozenset(os.path.realpath(path) for path in written)
        name = rules.name
        self._artifacts = () if name is None else (f"{name}-python3.", f"{name}-layer-python3.")
        self._include = Rules.from_lines(rules.include, "include")
        self._include_outside = Rules(
            (pattern for pattern in self._include.patterns if pattern.is_anchored and pattern.literal), "include"
        )
        self._exclude = Rules.from_lines(rules.exclude, "exclude")
        self._executable = Rules.from_lines(rules.executable, "executable")
        self._entries: dict[str, tuple[Entry, str]] = {}
        self._left_out: dict[str, LeftOut] = {}
        self._looked_at = 0
        self._allowed: list[str] = [self._project]
        self._skipped: set[str] = set()

    def read(self) -> ProjectFiles:
        if not os.path.isdir(self._project):
            raise RequestError(f"the project is not a folder: `{self._project}`")
        sources = self._rules.sources
        if sources is None:
            sources = () if self._rules.is_package else found_sources(Path(self._project))
        roots = [(source, os.path.realpath(os.path.join(self._project, source.path))) for source in sources]
        self._allowed += [disk for _, disk in roots]
        for source, disk in roots:
            self._read_source(source, disk)
        if not any(below(self._project, disk) is not None for _, disk in roots):
            self._skipped = {disk for _, disk in roots}
            self._read_beside(sources)
        if self._include:
            self._correct_left_out()
        return ProjectFiles(
            tree=PackageTree(self._checked_entries()),
            left_out=tuple(self._left_out[path] for path in sorted(self._left_out)),
            sources=sources,
            case_collisions=tuple(self._case_collisions()),
        )

    # Where to begin

    def _read_source(self, source: SourceFolder, disk: str) -> None:
        inside = below(disk, self._project)
        shown = source.path.as_posix() if inside is None else inside
        to = unicodedata.normalize("NFC", source.to.strip("/"))
        if not os.path.exists(disk):
            raise RequestError(
                f"the source folder does not exist: `{shown}`", hint="correct `files.sources`, or create the folder"
            )
        if to:
            _checked(to, shown)
        if not os.path.isdir(disk):
            to = to or os.path.basename(disk)
            self._add(disk, shown, path_bytes(to if inside is None else shown), to)
            return
        prefix = to + "/" if to else ""
        folder = self._start(disk, shown="" if shown in {"", "."} else shown + "/", package=prefix)
        self._walk(folder if inside is not None else folder._replace(glob=prefix))

    def _read_beside(self, sources: Sequence[SourceFolder]) -> None:
        """Read what `include` names outside the source folders, and tell what else is there."""
        if self._rules.is_package:
            reason = "the project is shipped as a wheel"
        else:
            reason = "outside " + ", ".join(f"`{source.path.as_posix()}`" for source in sources)
        folder = self._start(self._project, shown="", package="")
        defaults = compiled_defaults(is_environment=False)
        for entry in self._sorted_entries(folder):
            is_folder = _is_folder(entry)
            if not any(below(disk, entry.path) is not None for disk in self._skipped):
                row = defaults.find(path_bytes(_unicode_name(entry)), is_folder=is_folder)
                self._leave_out(entry.name + "/" * is_folder, reason if row is None else row.reason)
        if self._include_outside:
            self._include = self._include_outside
            self._walk(folder._replace(is_barred=True))

    def _start(self, disk: str, *, shown: str, package: str) -> _Folder:
        """Return the folder with the ignore files above it that count."""
        fallback = self._project if below(disk, self._project) is not None else disk
        top, levels = ignore_files_above(disk, fallback)
        return _Folder(
            disk=disk, top=top, shown=shown, glob=shown, local="", package=package, levels=levels, parent=None
        )

    # The walk

    def _walk(self, start: _Folder) -> None:
        defaults = compiled_defaults(is_environment=_environment(start.disk) is not None)
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            entries = self._sorted_entries(folder)
            if any(entry.name == ".gitignore" for entry in entries):
                folder = folder._replace(levels=with_ignore_file(folder.levels, folder.disk, folder.top))
            for entry in entries:
                below = self._visit(folder, entry, defaults)
                if below is not None:
                    waiting.append(below)

    def _visit(self, folder: _Folder, entry: os.DirEntry[str], defaults: Defaults) -> _Folder | None:
        """Take or leave out one entry; return it when it is a folder to be read."""
        seen = _seen(folder, entry)
        if entry.path in self._skipped or self._is_excluded(seen):
            return None
        row = defaults.find(path_bytes(folder.local + seen.name), is_folder=seen.is_folder)
        if row is not None and row.unless_certificate and _is_certificate(entry):
            row = None
        if row is None and seen.is_folder:
            row = _environment(entry.path)
        wanted = self._include.match(seen.glob, is_folder=seen.is_folder)
        is_taken = _brings_back(wanted, folder, row)
        is_barred = not is_taken and self._is_barred(folder, seen, row)
        if is_barred:
            is_closed = row is not None and row.is_closed
            if not (seen.is_folder and self._include and (not is_closed or self._include.names_below(seen.glob))):
                return None
        disk = self._link_target(folder, seen) if seen.is_link else entry.path
        if seen.is_folder:
            return _Folder(
                disk=disk,
                top=f"{folder.top}{seen.name}/",
                shown=f"{folder.shown}{seen.name}/",
                glob=f"{folder.glob}{seen.name}/",
                local=f"{folder.local}{seen.name}/",
                package=f"{folder.package}{seen.name}/",
                levels=folder.levels,
                parent=folder,
                is_barred=is_barred,
                is_lifted=not is_barred and (is_taken or folder.is_lifted),
                guarded=(seen.glob if row is not None else folder.guarded) if is_barred else None,
            )
        kind = _special_kind(entry)
        if kind is None:
            self._add(disk, seen.shown, seen.glob, folder.package + seen.name)
        else:
            self._leave_out(seen.shown, kind)
        return None

    def _is_excluded(self, seen: _Seen) -> bool:
        pattern = self._exclude.match(seen.glob, is_folder=seen.is_folder)
        if pattern is not None and not pattern.is_negative:
            self._leave_out(seen.told, f"excluded by `{pattern.text}`")
            return True
        # Packages of earlier builds may also lie where this one does not write.
        if seen.entry.path in self._written or (self._artifacts and seen.name.startswith(self._artifacts)):
            self._leave_out(seen.told, "output of this tool")
            return True
        return False

    def _is_barred(self, folder: _Folder, seen: _Seen, row: Default | None) -> bool:
        """Whether an entry that `include` does not bring back is left out; tells why."""
        if folder.is_barred:
            return True
        if row is not None:
            self._leave_out(seen.told, row.reason)
            return True
        # To git a link is a file, also when it leads to a folder.
        is_folder = seen.is_folder and not seen.is_link
        reason = None
        if not folder.is_lifted:
            reason = ignoring(folder.levels, path_bytes(folder.top + seen.name), is_folder=is_folder)
        if reason is None:
            return False
        inside = self._shared_object_in(seen.entry.path, seen.told) if is_folder else None
        if inside is not None:
            self._leave_out(seen.told, f"{reason}; it holds `{inside}`", notable=True)
        else:
            self._leave_out(seen.told, reason, notable=not seen.is_folder and _is_shared_object(seen.name))
        return True

    def _sorted_entries(self, folder: _Folder) -> list[os.DirEntry[str]]:
        with _scan(folder.disk, folder.shown) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    # Links

    def _link_target(self, folder: _Folder, seen: _Seen) -> str:
        link = seen.entry.path
        hint = f'remove the link, or leave it out: `exclude = ["/{seen.shown}"]`'
        try:
            disk = os.path.realpath(link, strict=True)
        except FileNotFoundError:
            raise PackagingError(f"the link `{seen.shown}` leads nowhere: `{_link_text(link)}`", hint=hint) from None
        except OSError as error:
            raise PackagingError(f"the link `{seen.shown}` cannot be followed: {error.strerror}", hint=hint) from error
        if not any(below(disk, root) is not None for root in self._allowed):
            raise PackagingError(
                f"the link `{seen.shown}` leads out of the project: `{_link_text(link)}`",
                hint=f'name its destination in `files.sources`, or leave it out: `exclude = ["/{seen.shown}"]`',
            )
        above: _Folder | None = folder
        while above is not None:
            if os.path.realpath(above.disk) == disk:
                raise PackagingError(
                    f"the link `{seen.shown}` leads to a folder it lies in: `{_link_text(link)}`", hint=hint
                )
            above = above.parent
        return disk

    # What is kept

    def _add(self, disk: str, shown: str, glob: bytes, package: str) -> None:
        path = _checked(package, shown)
        start, size = _start_and_size(disk, shown)
        is_program = start.startswith(_PROGRAM_STARTS)
        if not is_program and self._executable:
            pattern = self._executable.match(glob, is_folder=False)
            is_program = pattern is not None and not pattern.is_negative
        mode = MODE_EXECUTABLE if is_program else MODE_FILE
        entry = Entry(path, mode, DiskFile(Path(disk), size), ORIGIN)
        other, other_shown = self._entries.setdefault(path, (entry, shown))
        if other is not entry and other.content != entry.content:
            raise PackagingError(
                f"`{other_shown}` and `{shown}` both become `{path}`", hint="leave one out with `files.exclude`"
            )

    def _checked_entries(self) -> Iterator[Entry]:
        for path, (entry, shown) in self._entries.items():
            parent = path.rpartition("/")[0]
            while parent:
                if parent in self._entries:
                    other = self._entries[parent][1]
                    raise PackagingError(
                        f"`{other}` becomes a file where `{shown}` needs a folder: `{parent}`",
                        hint="correct the `to` of `files.sources`",
                    )
                parent = parent.rpartition("/")[0]
            yield entry

    def _case_collisions(self) -> Iterator[tuple[str, str]]:
        seen: dict[str, str] = {}
        for path in sorted(self._entries):
            other = seen.setdefault(path.casefold(), path)
            if other != path:
                yield other, path

    # What is left out

    def _leave_out(self, shown: str, reason: str, *, notable: bool = False) -> None:
        self._left_out[shown] = LeftOut(path=shown, reason=reason, notable=notable)

    def _correct_left_out(self) -> None:
        """Take back what was said of files and folders that `include` brought back after all."""
        for _, shown in self._entries.values():
            self._left_out.pop(shown, None)
            parent = shown.rpartition("/")[0]
            while parent:
                left = self._left_out.get(f"{parent}/")
                if left is not None and not left.reason.endswith(_BUT_INCLUDED):
                    self._left_out[left.path] = replace(left, reason=left.reason + _BUT_INCLUDED)
                parent = parent.rpartition("/")[0]

    def _shared_object_in(self, disk: str, shown: str) -> str | None:
        """Return the first shared object of an ignored folder: the user's own, or an environment's, then None."""
        waiting = [(disk, shown)]
        found: str | None = None
        while waiting and self._looked_at < _LOOKED_AT and found is None:
            path, prefix = waiting.pop()
            with _scan(path, prefix) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
            if any(entry.name in _ENVIRONMENTS for entry in entries):
                continue
            self._looked_at += len(entries)
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in {"node_modules", ".git"}:
                        waiting.append((entry.path, f"{prefix}{entry.name}/"))
                elif found is None and _is_shared_object(entry.name):
                    found = prefix + entry.name
        return found


def _seen(folder: _Folder, entry: os.DirEntry[str]) -> _Seen:
    name = _unicode_name(entry)
    return _Seen(
        entry=entry,
        name=name,
        shown=folder.shown + name,
        glob=path_bytes(folder.glob + name),
        is_link=_is_link(entry),
        is_folder=_is_folder(entry),
    )


def _brings_back(wanted: Pattern | None, folder: _Folder, row: Default | None) -> bool:
    """Whether `include` takes an entry that is otherwise left out.

    `data/**` brings back what .gitignore hides, but not the `.env` in it: what the defaults leave out takes a
    pattern that names it, or the folder that is left out.
    """
    if wanted is None or wanted.is_negative:
        return False
    if not wanted.is_bare:
        return True
    return row is None and (folder.guarded is None or wanted.literal.startswith(folder.guarded + b"/"))


def _environment(disk: str) -> Default | None:
    """Return why a folder is left out when it holds an environment, whatever its name."""
    for mark, row in _ENVIRONMENTS.items():
        if os.path.exists(os.path.join(disk, mark)):
            return row
    return None


def _scan(disk: str, shown: str) -> os._ScandirIterator[str]:
    try:
        return os.scandir(disk)
    except OSError as error:
        unreadable(shown or disk, error)


def _start_and_size(disk: str, shown: str) -> tuple[bytes, int]:
    try:
        with open(disk, "rb", buffering=0) as file:
            return file.read(4), os.fstat(file.fileno()).st_size
    except OSError as error:
        unreadable(shown, error)


def _is_link(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return True
    if sys.platform == "win32":
        # A junction is a folder to Python 3.11, and a link to everybody else.
        return entry.stat(follow_symlinks=False).st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _link_text(disk: str) -> str:
    try:
        return os.readlink(disk)
    except OSError:
        return "?"


def _special_kind(entry: os.DirEntry[str]) -> str | None:
    """Return what an entry is when it is no regular file."""
    if entry.is_file():
        return None
    mode = entry.stat().st_mode
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _unicode_name(entry: os.DirEntry[str]) -> str:
    """Return the name of an entry in NFC, read as UTF-8 whatever the locale of the host makes of its bytes."""
    if entry.name.isascii():
        return entry.name
    if sys.getfilesystemencoding() == "utf-8":
        return unicodedata.normalize("NFC", entry.name)
    return unicodedata.normalize("NFC", os.fsencode(entry.name).decode("utf-8", "surrogateescape"))


def _is_shared_object(name: str) -> bool:
    return name.endswith(".so") or ".so." in name


def _is_certificate(entry: os.DirEntry[str]) -> bool:
    """Whether a PEM file holds certificates and no private key."""
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:
            text = file.read(_CERTIFICATE_LIMIT + 1)
    except OSError:
        return False
    return len(text) <= _CERTIFICATE_LIMIT and b"-----BEGIN CERTIFICATE-----" in text and b"PRIVATE KEY" not in text


def _checked(path: str, shown: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PackagingError(
            f"a file name is not valid UTF-8: {shown.encode('utf-8', 'surrogateescape')!r}",
            hint="rename the file, or leave it out",
        ) from None
    try:
        return checked_path(path)
    except UnsafeArchive:
        raise PackagingError(
            f"a file name no package can hold: {shown!r}",
            hint="rename the file, or leave it out: `\\`, `..` and characters that do not print are not allowed",
        ) from None
