"""Packages that any tool made, opened for reading: a zip, a layer, a wheel, a folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from manylambda.audits.distributions import MAX_METADATA, normalised
from manylambda.audits.findings import PROJECT
from manylambda.errors import RequestError, UnsafeArchive
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
    read_content,
)

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Mapping
    from pathlib import Path

    from manylambda.audits.subject import Kind

_MAX_ODD_MEMBER: Final = 64 << 20
_MAX_LINK: Final = 4096


class Package(NamedTuple):
    """A package that some tool made, opened for reading."""

    tree: PackageTree
    kind: Kind
    zipped_size: int | None
    """Bytes of the archive; None for a folder."""
    symlinks: Mapping[str, str]
    """Links and where they lead; those within the package stand in the tree as what they lead to."""


def open_tree(path: Path) -> PackageTree:
    """Return the files of a package that any tool made; see `open_package`."""
    return open_package(path).tree


def open_package(path: Path) -> Package:
    """Open a function's or layer's `.zip`, a wheel or a folder; each file knows the distribution whose RECORD lists it.

    Raises `RequestError` where there is nothing to open, `UnsafeArchive` for a file that is no zip or a hostile one.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise RequestError(f"there is no package at `{path}`", hint="name a `.zip`, a wheel or a folder that exists")
    return _open_zip(path)


def _open_folder(path: Path) -> Package:
    import os

    root = path.resolve()
    entries: dict[str, Entry] = {}
    symlinks: dict[str, str] = {}
    for folder, folders, names in os.walk(root, onerror=_refuse_unread):
        folders.sort()
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        for name in sorted(folders):
            if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118 - os.walk speaks text
                symlinks[prefix + name] = os.readlink(os.path.join(folder, name))  # noqa: PTH115, PTH118
        for name in sorted(names):
            file = root.joinpath(folder, name)
            if file.is_symlink():
                symlinks[prefix + name] = os.readlink(file)  # noqa: PTH115 - the text, as it stands there
                if not file.resolve().is_relative_to(root):
                    continue
            if not file.is_file():
                continue
            status = file.stat()
            mode = MODE_EXECUTABLE if status.st_mode & 0o111 else MODE_FILE
            where = checked_path(prefix + name)
            entries[where] = Entry(where, mode, DiskFile(file, status.st_size), PROJECT)
    return _package(entries, symlinks, zipped_size=None)


def _refuse_unread(error: OSError) -> NoReturn:
    """Raise the error for what cannot be looked at: it must not pass as good."""
    raise RequestError(f"cannot read `{error.filename}`: {(error.strerror or '').lower()}") from error


def _open_zip(path: Path) -> Package:
    import stat
    import zipfile
    import zlib

    entries: dict[str, Entry] = {}
    symlinks: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                where = checked_path(info.orig_filename)
                if path.suffix == ".whl":
                    where = _as_installed(where)
                if info.flag_bits & 1:
                    raise UnsafeArchive(f"`{path.name}` has an encrypted file: `{where}`")
                unix_mode = info.external_attr >> 16
                if stat.S_ISLNK(unix_mode):
                    if info.file_size > _MAX_LINK:
                        raise UnsafeArchive(f"`{path.name}` has a link that is no link: `{where}`")
                    symlinks[where] = archive.read(info).decode("utf-8", "replace")
                    continue
                mode = MODE_EXECUTABLE if unix_mode & 0o111 else MODE_FILE
                entries[where] = Entry(where, mode, _zip_content(path, archive, info, stream), PROJECT)
    except PermissionError as error:
        _refuse_unread(error)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, ValueError, zlib.error) as error:
        raise UnsafeArchive(f"`{path.name}` is not a valid zip: {error}", hint="build or download it again") from error
    _follow(symlinks, entries)
    package = _package(entries, symlinks, zipped_size=path.stat().st_size)
    return package._replace(kind="wheel") if path.suffix == ".whl" else package


def _zip_content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, stream: Any) -> Span | Bytes:
    if info.compress_type not in {STORED, DEFLATED}:
        if info.file_size > _MAX_ODD_MEMBER:
            raise UnsafeArchive(
                f"`{path.name}` has a large file in a compression Lambda may not know: `{info.filename}`"
            )
        return Bytes(_read_odd(archive, info))
    stream.seek(info.header_offset)
    header = stream.read(30)
    if header[:4] != b"PK\3\4":
        raise UnsafeArchive(f"`{path.name}` is damaged at `{info.filename}`", hint="build or download it again")
    offset = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return Span(path, offset, info.compress_size, info.compress_type, info.CRC, info.file_size)


def _read_odd(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    from lzma import LZMAError

    try:
        return archive.read(info)
    except LZMAError as error:
        raise UnsafeArchive(f"a file in the archive is damaged: `{info.filename}`") from error


def _follow(symlinks: Mapping[str, str], entries: dict[str, Entry]) -> None:
    """Let links to files of the package stand for those, as they do once Lambda has unpacked it."""
    from posixpath import dirname, normpath

    for link in symlinks:
        where = link
        for _ in range(8):
            where = normpath(f"{dirname(where)}/{symlinks[where]}").removeprefix("/")
            if where not in symlinks:
                break
        if where in entries and link not in entries:
            entries[link] = entries[where]._replace(path=link)


def _as_installed(path: str) -> str:
    return re.sub(r"[^/]+\.data/(?:purelib|platlib|data)/", "", path, count=1) if ".data/" in path else path


def _package(entries: dict[str, Entry], symlinks: Mapping[str, str], *, zipped_size: int | None) -> Package:
    import csv

    for path, entry in list(entries.items()):
        if not path.endswith(".dist-info/RECORD") or entry.content.size > MAX_METADATA:
            continue
        dist_info = path.removesuffix("/RECORD")
        site, _, folder = dist_info.rpartition("/")
        origin = normalised(folder.removesuffix(".dist-info").rpartition("-")[0])
        prefix = f"{site}/" if site else ""
        lines = read_content(entry.content).decode("utf-8", "replace").replace("\0", "").splitlines()
        for row in csv.reader(lines, strict=False):
            listed = entries.get(prefix + row[0]) if row else None
            if listed is not None:
                entries[listed.path] = listed._replace(origin=origin)
        entries[path] = entries[path]._replace(origin=origin)
    tops = {path.partition("/")[0] for path in entries}
    kind: Kind = "layer" if "python" in tops and tops <= {"python", "lib", "bin"} else "zip"
    if zipped_size is None and kind == "zip":
        kind = "dir"
    return Package(
        tree=PackageTree(entries.values()), kind=kind, zipped_size=zipped_size, symlinks=dict(sorted(symlinks.items()))
    )
