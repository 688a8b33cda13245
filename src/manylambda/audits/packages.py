"""Packages that any tool made, opened for reading: a zip, a layer, a wheel, a folder."""

from __future__ import annotations

import re
from io import TextIOWrapper
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Final, NamedTuple, NoReturn

from manylambda.audits.distributions import MAX_METADATA, normalised
from manylambda.audits.findings import PROJECT
from manylambda.audits.making import UNKNOWN, Fate, Link, Making, Mode, OddMethod, Record, Row, UnsafeName
from manylambda.errors import RequestError, UnsafeArchive
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    STORED,
    Bytes,
    DiskFile,
    Entry,
    PackageTree,
    Span,
    checked_path,
    open_content,
)

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from manylambda.audits.images import ImageFacts
    from manylambda.audits.making import UnsafeReason
    from manylambda.audits.subject import Kind

_PACKAGES: Final = frozenset({".zip", ".whl"})
_MAX_UNZIPPED: Final = 4 << 30
_MAX_ODD: Final = 256 << 20
_MAX_ROWS: Final = 400_000
"""Lines of all RECORDs together; an image of 10 GB has some 100,000 files."""
_MAX_LINK: Final = 4096
_MAX_LINE: Final = 1 << 18
_MAX_HOPS: Final = 40
_MAX_NAME: Final = 2048
_MAX_DEPTH: Final = 64
_MAX_LINKED: Final = 50_000
_MAX_LINKED_SIZE: Final = 1 << 30

# What "version made by" says for systems without Unix modes: FAT, NTFS, MVS and VFAT.
_WITHOUT_MODES: Final = frozenset({0, 10, 11, 14})
_ZIP64_EXTRA: Final = 1
_ZIP64_VERSION: Final = 45


class Package(NamedTuple):
    """A package that some tool made, opened for reading."""

    tree: PackageTree
    kind: Kind
    zipped_size: int | None
    """Bytes of the archive; None for a folder."""
    symlinks: Mapping[str, str]
    """Links and where they lead; those within the package stand in the tree as what they lead to."""
    making: Making = UNKNOWN
    """What its tool wrote otherwise than Lambda wants it."""
    layers: tuple[PackageTree, ...] = ()
    """What of an image is mounted where layers are, at `/opt`."""
    mounts: Mapping[str, PackageTree] = MappingProxyType({})
    """What else of an image runs, by the absolute folder it lies in, with its `/`."""
    image: ImageFacts | None = None
    """What is known of an image besides its files."""


def open_tree(path: Path) -> PackageTree:
    """Return the files of a package that any tool made; see `open_package`."""
    return open_package(path).tree


def open_package(path: Path) -> Package:
    """Open a function's or layer's `.zip`, a wheel or a folder; each file knows the distribution whose RECORD lists it.

    What a tool wrote badly is told in `making` and is no error. Raises `RequestError` where there is nothing to open,
    `UnsafeArchive` for a file that is no zip, a damaged one, or one that unpacks to more than any package has.
    """
    if path.is_dir():
        _refuse_no_package(path)
        return _open_folder(path)
    if not path.is_file():
        raise RequestError(
            f"there is no package at `{path}`",
            hint="name a `.zip`, a wheel or a folder that exists, or an image in full: `HOST/NAME:TAG`",
        )
    return _open_zip(path)


class _Gathered:
    """What was met on the way through an archive or folder."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.symlinks: dict[str, str] = {}
        self.unsafe: list[UnsafeName] = []
        self.closed: list[Mode] = []
        self.methods: list[OddMethod] = []
        self.encrypted: list[str] = []
        self.zip64: list[str] = []
        self.on_windows = False

    def place(self, name: str) -> str | None:
        """Return where in the tree a file belongs, however its name is written; None where it cannot be there."""
        try:
            if not _is_endless(name):
                return checked_path(name)
        except UnsafeArchive:
            pass
        where, reason = _mended(name)
        self.unsafe.append(UnsafeName(printable(name), reason))
        return where

    def add(self, entry: Entry) -> None:
        """Put a file into the tree; of two with one name the last counts, as it does for Lambda."""
        before = self.entries.get(entry.path)
        if before is not None and not _alike(before, entry):
            self.unsafe.append(UnsafeName(entry.path, "duplicate"))
        self.entries[entry.path] = entry

    def package(
        self, *, zipped_size: int | None, members: int = 0, has_zip64_end: bool = False, is_wheel: bool = False
    ) -> Package:
        """Join what was met into a package."""
        entries = self.entries
        for path in sorted(_files_as_folders((*entries, *self.symlinks))):
            if entries.pop(path, None) is not None:
                self.unsafe.append(UnsafeName(path, "file-and-folder"))
        kind: Kind = "wheel" if is_wheel else _kind(entries, in_archive=zipped_size is not None)
        links, linked = _follow(self.symlinks, entries, LAYER_ROOT if kind == "layer" else FUNCTION_ROOT)
        records = read_records(entries, is_wheel=is_wheel)
        making = Making(
            unsafe=tuple(self.unsafe),
            links=links,
            linked=linked,
            closed=tuple(self.closed),
            on_windows=self.on_windows,
            methods=tuple(self.methods),
            encrypted=tuple(self.encrypted),
            zip64=tuple(self.zip64),
            has_zip64_end=has_zip64_end,
            members=members,
            records=records,
        )
        return Package(
            tree=PackageTree(entries.values()),
            kind=kind,
            zipped_size=zipped_size,
            symlinks=dict(sorted(self.symlinks.items())),
            making=making,
        )


def _refuse_no_package(folder: Path) -> None:
    """Refuse a folder of which an audit would find nothing wrong, since nothing of a package is in it."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        _refuse_unread(error)
    if not found:
        raise RequestError(f"there is nothing in `{folder}`", hint="name the folder that has the package's files")
    if all(one.suffix in _PACKAGES and one.is_file() for one in found):
        raise RequestError(f"`{folder}` has packages in it and is none", hint=f"name one of them: `{found[0]}`")


def _open_folder(path: Path) -> Package:
    import os

    root = path.resolve()
    gathered = _Gathered()
    gathered.on_windows = os.name != "posix"
    for folder, folders, names in os.walk(root, onerror=_refuse_unread):
        folders.sort()
        below = frozenset(folders)
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        for name in (*folders, *sorted(names)):
            file = root.joinpath(folder, name)
            if not (file.is_symlink() or file.is_file() or name in below):
                continue  # a socket or a pipe
            where = gathered.place(prefix + name)
            if where is None:
                if name in below:
                    folders.remove(name)
                continue
            if file.is_symlink():
                gathered.symlinks[where] = os.readlink(file).replace(os.sep, "/")  # noqa: PTH115 - as it stands there
                continue
            status = file.stat()
            # On Windows every file has the same mode, and zip tools write none there.
            if os.name == "posix" and status.st_mode & (wanted := 0o005 if name in below else 0o004) != wanted:
                gathered.closed.append(Mode(where, status.st_mode & 0o7777, name in below))
            if name not in folders:
                mode = MODE_EXECUTABLE if status.st_mode & 0o111 else MODE_FILE
                gathered.entries[where] = Entry(where, mode, DiskFile(file, status.st_size), PROJECT)
    return gathered.package(zipped_size=None)


def _refuse_unread(error: OSError) -> NoReturn:
    """Raise the error for what cannot be looked at: it must not pass as good."""
    raise RequestError(f"cannot read `{error.filename}`: {(error.strerror or '').lower()}") from error


def _open_zip(path: Path) -> Package:
    import zipfile
    import zlib

    is_wheel = path.suffix == ".whl"
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            members = archive.infolist()
            if sum(info.file_size for info in members) > _MAX_UNZIPPED:
                raise UnsafeArchive(
                    f"`{path.name}` unpacks to over {_MAX_UNZIPPED >> 30} GiB: no package of Lambda has"
                )
            gathered = _Members(path, archive, stream, is_wheel=is_wheel)
            for info in members:
                gathered.take(info)
            return gathered.package(
                zipped_size=path.stat().st_size,
                members=len(members),
                has_zip64_end=_has_zip64_end(stream, archive),
                is_wheel=is_wheel,
            )
    except PermissionError as error:
        _refuse_unread(error)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, ValueError, zlib.error) as error:
        raise UnsafeArchive(f"`{path.name}` is not a valid zip: {error}", hint="build or download it again") from error


class _Members(_Gathered):
    """The members of a zip."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, stream: IO[bytes], *, is_wheel: bool) -> None:
        super().__init__()
        self._path = path
        self._archive = archive
        self._stream = stream
        self._is_wheel = is_wheel
        self._odd_left = _MAX_ODD

    def take(self, info: zipfile.ZipInfo) -> None:
        """Take one member for what it is: a file, a folder or a link."""
        import stat

        has_modes = info.create_system not in _WITHOUT_MODES
        unix_mode = info.external_attr >> 16 if has_modes else 0
        # Not `is_dir`: on Windows it takes a name that ends in a backslash for a folder's.
        if info.orig_filename.endswith(("/", "\\")) and not info.file_size:
            # Lambda gives folders without a mode 0755. A mode that is said to be a file's, as pex writes it for
            # folders, counts as none: functions that Pants packed that way run.
            has_mode = unix_mode != 0 and stat.S_IFMT(unix_mode) in {0, stat.S_IFDIR}
            if has_mode and unix_mode & 0o005 != 0o005 and (where := _mended(info.orig_filename)[0]) is not None:
                self.closed.append(Mode(where, unix_mode & 0o7777, is_folder=True))
            return
        where = self.place(info.orig_filename)
        if where is None:
            return
        if self._is_wheel:
            where = _as_installed(where)
        if info.extract_version == _ZIP64_VERSION or _ZIP64_EXTRA in _extra_ids(info.extra):
            self.zip64.append(where)
        if info.flag_bits & 1:
            self.encrypted.append(where)
            return
        if stat.S_ISLNK(unix_mode):
            if info.compress_type in {STORED, DEFLATED}:
                self.symlinks[where] = self._link_text(info)
            else:
                self.methods.append(OddMethod(where, info.compress_type))
            return
        content = self._content(where, info)
        if content is None:
            return
        if not has_modes:
            self.on_windows = True
        elif not unix_mode & 0o004 and not self._is_wheel:
            self.closed.append(Mode(where, unix_mode & 0o7777, is_folder=False))
        self.add(Entry(where, MODE_EXECUTABLE if unix_mode & 0o111 else MODE_FILE, content, PROJECT))

    def _link_text(self, info: zipfile.ZipInfo) -> str:
        with self._archive.open(info) as stream:
            return stream.read(_MAX_LINK).decode("utf-8", "replace")

    def _content(self, where: str, info: zipfile.ZipInfo) -> Span | Bytes | None:
        if info.compress_type not in {STORED, DEFLATED}:
            self.methods.append(OddMethod(where, info.compress_type))
            return self._odd_content(info)
        offset = self._offset(info)
        return Span(self._path, offset, info.compress_size, info.compress_type, info.CRC, info.file_size)

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Return where the bytes of a member begin."""
        self._stream.seek(info.header_offset)
        header = self._stream.read(30)
        if header[:4] != b"PK\3\4":
            raise self._damaged(info)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return info.header_offset + 30 + lengths

    def _packed(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        self._stream.seek(self._offset(info))
        left = info.compress_size
        while left and (data := self._stream.read(min(left, 1 << 16))):
            left -= len(data)
            yield data

    def _damaged(self, info: zipfile.ZipInfo) -> UnsafeArchive:
        return UnsafeArchive(
            f"`{self._path.name}` is damaged at `{printable(info.filename)}`", hint="build or download it again"
        )

    def _odd_content(self, info: zipfile.ZipInfo) -> Bytes | None:
        """Read what bzip2 or lzma packed, up to a bound in all; other methods depend on this host's Python."""
        from lzma import LZMAError
        from zlib import crc32

        from manylambda.archive import BZIP2, LZMA, expand

        self._odd_left -= info.file_size
        if info.compress_type not in {BZIP2, LZMA} or self._odd_left < 0:
            return None
        try:
            data = b"".join(expand(self._packed(info), info.compress_type, info.file_size))
        except (LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
            raise self._damaged(info) from error
        if len(data) != info.file_size or crc32(data) != info.CRC:
            raise self._damaged(info)
        return Bytes(data)


def _extra_ids(extra: bytes) -> Iterable[int]:
    at = 0
    while at + 4 <= len(extra):
        yield int.from_bytes(extra[at : at + 2], "little")
        at += 4 + int.from_bytes(extra[at + 2 : at + 4], "little")


def _has_zip64_end(stream: IO[bytes], archive: zipfile.ZipFile) -> bool:
    """Whether the archive ends in the records of zip64, which an ordinary one has not."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - len(archive.comment) - 22 - 20))
    return stream.read(4) == b"PK\6\7"


def _mended(name: str) -> tuple[str | None, UnsafeReason]:
    """Return what the writer of a name must have meant, where it can be told, and what is wrong with it."""
    reason: UnsafeReason = "backslash" if "\\" in name else "unnormalised"
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
    where = "/".join(parts)
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
        return None, "outside"
    if _is_endless(where):
        return None, "unreadable"
    try:
        return checked_path(where), reason
    except UnsafeArchive:
        return None, "unreadable"


def _is_endless(name: str) -> bool:
    """Whether a name is longer or deeper than any that is honest; Linux takes 4,096 bytes."""
    return len(name) > _MAX_NAME or name.count("/") > _MAX_DEPTH


def printable(name: str) -> str:
    """Return a name that may be shown and written to JSON, whatever it holds."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda match: f"\\x{ord(match[0]):02x}", name)[:1000]


def _alike(one: Entry, other: Entry) -> bool:
    first, second = one.content, other.content
    if isinstance(first, Span) and isinstance(second, Span):
        return (first.crc32, first.size) == (second.crc32, second.size)
    return first == second


def _files_as_folders(paths: Iterable[str]) -> set[str]:
    """Return the paths that are a file and, for other files, a folder."""
    known = set(paths)
    clashes: set[str] = set()
    folders = known
    while folders := {path.rpartition("/")[0] for path in folders} - {""}:
        clashes |= folders & known
    return clashes


def _follow(
    symlinks: Mapping[str, str], entries: dict[str, Entry], root: str
) -> tuple[tuple[Link, ...], frozenset[str]]:
    """Let links within the package stand for what they lead to, as they do once Lambda has unpacked it.

    Returns every link with its fate and the paths that were added, within bounds: links can multiply files.
    """
    if not symlinks:
        return (), frozenset()
    folders = {folder for path in entries for folder in _parents(path)}
    links: list[Link] = []
    linked: dict[str, Entry] = {}
    to_folders: list[tuple[str, str]] = []
    for link, text in sorted(symlinks.items()):
        where, fate = _leads_to(link, symlinks, root)
        if fate == "inside" and where not in entries and where not in folders and where:
            fate = "nowhere"
        links.append(Link(printable(link), printable(text), fate))
        if where in entries:
            if link not in entries:
                linked[link] = entries[where]._replace(path=link)
        elif where in folders and not f"{link}/".startswith(f"{where}/"):  # else every round would have new files
            to_folders.append((link, where))
    known = {**entries, **linked}
    ordered = sorted(known)
    for link, where in to_folders:
        for path in _below(ordered, where):
            if len(linked) >= _MAX_LINKED:
                break
            new = link + path[len(where) :]
            if new not in entries and not _is_endless(new):
                linked[new] = known[path]._replace(path=new)
    size_left = _MAX_LINKED_SIZE
    for path, entry in list(linked.items()):
        size_left -= entry.content.size
        if size_left < 0:
            del linked[path]
    for path in _files_as_folders((*entries, *linked)):
        linked.pop(path, None)
    entries.update(linked)
    return tuple(links), frozenset(linked)


def _below(paths: list[str], folder: str) -> list[str]:
    from bisect import bisect_left

    return paths[bisect_left(paths, f"{folder}/") : bisect_left(paths, f"{folder}0")]  # "0" follows "/"


def _parents(path: str) -> Iterable[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _leads_to(link: str, symlinks: Mapping[str, str], root: str) -> tuple[str | None, Fate]:
    """Follow a link as the kernel does."""
    waiting = link.split("/")[::-1]
    done: list[str] = []
    hops = 0
    while waiting:
        part = waiting.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            if not done:
                return None, "outside"
            done.pop()
            continue
        done.append(part)
        text = symlinks.get("/".join(done))
        if text is None:
            continue
        hops += 1
        if hops > _MAX_HOPS:
            return None, "round"
        if text.count("/") + len(done) > _MAX_NAME:
            return None, "nowhere"
        done.pop()
        if text.startswith("/"):
            if not text.startswith(root):
                return None, "absolute"
            done, text = [], text[len(root) :]
        waiting += text.split("/")[::-1]
    return "/".join(done), "inside"


def _as_installed(path: str) -> str:
    if ".data/" not in path:
        return path
    path = re.sub(r"\A[^/]+\.data/(?:purelib|platlib|data)/", "", path, count=1)
    return re.sub(r"\A[^/]+\.data/scripts/", "bin/", path, count=1)


def _kind(entries: Mapping[str, Entry], *, in_archive: bool) -> Kind:
    tops = {path.partition("/")[0] for path in entries}
    if "python" in tops and tops <= {"python", "lib", "bin"}:
        return "layer"
    return "zip" if in_archive else "dir"


def read_records(entries: dict[str, Entry], *, is_wheel: bool) -> tuple[Record, ...]:
    """Read every RECORD, and give the files it lists their origin."""
    records: list[Record] = []
    left = _MAX_ROWS
    # The deepest first: what a distribution brings along of others (`setuptools/_vendor`) is its own in the end.
    found = [path for path in entries if path.endswith(("-info/RECORD", "-info/installed-files.txt"))]
    for path in sorted(found, key=lambda path: (-path.count("/"), path)):
        entry = entries[path]
        if path.endswith(".egg-info/installed-files.txt"):
            left -= _own_egg(path, entries, left)
        if not path.endswith(".dist-info/RECORD"):
            continue
        dist_info = path.removesuffix("/RECORD")
        site, _, folder = dist_info.rpartition("/")
        origin = normalised(folder.removesuffix(".dist-info").rpartition("-")[0])
        prefix = f"{site}/" if site else ""
        rows: list[Row] = []
        lines = _Rows(entry, left)
        for row in lines:
            where = prefix + (_as_installed(row[0]) if is_wheel else row[0])
            listed = entries.get(where)
            if listed is not None:
                entries[where] = listed._replace(origin=origin)
            if not row[0].startswith(("/", "../", "./")):
                rows.append(Row(where, *_hash_and_size(row)))
        left -= lines.read
        entries[path] = entries[path]._replace(origin=origin)
        records.append(Record(origin, dist_info, prefix, tuple(rows), is_cut=lines.is_cut))
    records = [one for one in records if entries[f"{one.dist_info}/RECORD"].origin == one.distribution]
    return tuple(sorted(records, key=lambda record: record.dist_info))


def _own_egg(path: str, entries: dict[str, Entry], most: int) -> int:
    """Give the files of an `.egg-info` their origin; return how many lines were read, at most `most`."""
    from itertools import islice
    from posixpath import normpath

    folder = path.rpartition("/")[0]
    origin = normalised(folder.rpartition("/")[2].removesuffix(".egg-info").partition("-")[0])
    number = 0
    for line in islice(_lines(entries[path]), most):
        number += 1
        where = normpath(f"{folder}/{line.strip()}")
        if where in entries:
            entries[where] = entries[where]._replace(origin=origin)
    return number


class _Rows:
    """The rows of a RECORD that are not empty, up to where it is no RECORD or too much of one."""

    def __init__(self, entry: Entry, most: int) -> None:
        self._entry = entry
        self._most = most
        self.read = 0
        self.is_cut = entry.content.size > MAX_METADATA

    def __iter__(self) -> Iterator[list[str]]:
        import csv

        try:
            for row in csv.reader(_lines(self._entry), strict=False):
                if self.read >= self._most:
                    self.is_cut = True
                    return
                self.read += 1
                if row:
                    yield row
        except csv.Error:  # a field of over 131,072 characters
            self.is_cut = True


def _lines(entry: Entry) -> Iterator[str]:
    """Yield the lines of a file of metadata, none longer than a path can be; of one without end the first 16 MiB."""
    left = MAX_METADATA
    with TextIOWrapper(open_content(entry.content), "utf-8", "replace", newline="") as stream:
        while left > 0 and (line := stream.readline(_MAX_LINE)):
            left -= len(line)
            yield line.replace("\0", "")


def _hash_and_size(row: list[str]) -> tuple[str | None, int | None]:
    digest = row[1].removeprefix("sha256=") if len(row) > 1 and row[1].startswith("sha256=") else None
    size = int(row[2]) if len(row) > 2 and re.fullmatch(r"[0-9]{1,15}", row[2]) else None
    return digest, size
