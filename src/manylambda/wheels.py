"""Wheels to package trees: what an installer does, without unpacking and for the target instead of the host.

A wheel is inspected once in its life: every member is inflated and compared with its checksum and with RECORD. What that
gives, the `Inventory`, is a fact of the wheel's bytes and is kept by their sha256; a build then only reads it.
Follows the binary distribution format of the PyPA specifications; knows nothing of Lambda.
"""

from __future__ import annotations

import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import UnsafeArchive
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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

INVENTORY_VERSION: Final = 1
"""Goes up whenever an inventory holds or means something else, so that older ones on disk are made anew."""

MAX_UNZIPPED_SIZE: Final = 10 << 30
"""Bytes; the largest package Lambda runs at all is a container image of 10 GB (facts 5.1)."""

_ENCRYPTED: Final = 0x1
_SYMLINK: Final = 0o120000
_CHUNK: Final = 1 << 20
_READABLE_METHODS: Final = {0: "stored", 8: "deflate", 12: "bzip2", 14: "lzma"}
_SIGNATURES: Final = ("RECORD.jws", "RECORD.p7s")


class Member(NamedTuple):
    """One file of a wheel, and where its bytes lie in the file the inventory is of."""

    path: str
    executable: bool
    offset: int
    compressed_size: int
    method: int
    crc32: int
    size: int
    record: str
    """`sha256=...` as RECORD writes it: of the uncompressed bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryPoint:
    """A console or GUI script: `name = module:attribute`."""

    name: str
    module: str
    attribute: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All that is known of one wheel file once it was inspected."""

    file: Path
    name: str
    """Normalised (PEP 503)."""
    version: str
    tags: tuple[str, ...]
    """As the WHEEL file lists them, expanded."""
    requires_python: str | None
    requires: tuple[str, ...]
    """Requires-Dist, as written."""
    extras: tuple[str, ...]
    entry_points: tuple[EntryPoint, ...]
    dist_info: str
    """The name of the `.dist-info` folder."""
    members: tuple[Member, ...]
    """Without RECORD and its signatures, sorted by path."""
    unrecorded: tuple[str, ...]
    """Members that RECORD does not list."""
    absent: tuple[str, ...]
    """Paths that RECORD lists and the wheel does not have."""

    @property
    def is_pure(self) -> bool:
        """Whether the wheel claims to run on any platform."""
        return all(tag.endswith("-any") for tag in self.tags)

    @property
    def unzipped_size(self) -> int:
        """Bytes of all members, uncompressed."""
        return sum(member.size for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the cache; the file's place is not part of it."""
        return {
            "name": self.name,
            "version": self.version,
            "tags": self.tags,
            "requires_python": self.requires_python,
            "requires": self.requires,
            "extras": self.extras,
            "entry_points": [(point.name, point.module, point.attribute) for point in self.entry_points],
            "dist_info": self.dist_info,
            "members": self.members,
            "unrecorded": self.unrecorded,
            "absent": self.absent,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: Path) -> Inventory:
        """Read what `to_json` wrote; `file` is where the wheel lies now."""
        return cls(
            file=file,
            name=data["name"],
            version=data["version"],
            tags=tuple(data["tags"]),
            requires_python=data["requires_python"],
            requires=tuple(data["requires"]),
            extras=tuple(data["extras"]),
            entry_points=tuple(
                EntryPoint(name=name, module=module, attribute=attribute)
                for name, module, attribute in data["entry_points"]
            ),
            dist_info=data["dist_info"],
            members=tuple(map(Member._make, data["members"])),
            unrecorded=tuple(data["unrecorded"]),
            absent=tuple(data["absent"]),
        )


def needs_repack(file: Path) -> bool:
    """Whether a wheel has members that a Lambda package cannot hold as they are (bzip2, lzma)."""
    with _opened(file) as archive:
        return any(info.compress_type not in {STORED, DEFLATED} for info in archive.infolist())


def repack(file: Path, beside: Path) -> None:
    """Write `file` anew at `beside` with every member compressed by the pinned compressor, in sorted order.

    For wheels with odd compression methods, and for wheels built here: the host's zlib decided their bytes.
    """
    from tempfile import TemporaryDirectory

    from manylambda.archive import write_zip

    with _opened(file) as archive, TemporaryDirectory(prefix="manylambda-") as folder:
        entries: list[Entry] = []
        for number, (info, member) in enumerate(_checked_members(archive, file.name, file)):
            copy = Path(folder, str(number))  # never under the member's own name: the host may not be able to hold it
            with archive.open(info) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            mode = MODE_EXECUTABLE if member.executable else MODE_FILE
            entries.append(Entry(member.path, mode, DiskFile(copy, member.size), ""))
        write_zip(PackageTree(entries), beside)


def inspect(file: Path, filename: str | None = None) -> Inventory:
    """Read and verify a whole wheel; raise `UnsafeArchive` for one that is malformed, hostile or not what RECORD says.

    `filename` is the wheel's own file name where `file` is kept under another.
    """
    filename = filename or file.name
    name, version, dist_info_prefix = _parsed_filename(filename)
    with _opened(file) as archive:
        infos = list(_checked_members(archive, filename, file))
        dist_info = _dist_info_folder(infos, dist_info_prefix, filename)
        metadata = {part: _text(archive, f"{dist_info}/{part}", filename) for part in ("WHEEL", "METADATA", "RECORD")}
        entry_points = _entry_points(archive, dist_info)
    record = _parsed_record(metadata["RECORD"], filename)
    wheel_tags = _wheel_tags(metadata["WHEEL"], filename)
    fields = _metadata_fields(metadata["METADATA"])
    members, unrecorded = _verified(infos, record, dist_info, file, filename)
    present = {member.path for member in members} | {f"{dist_info}/{own}" for own in ("RECORD", *_SIGNATURES)}
    return Inventory(
        file=file,
        name=name,
        version=version,
        tags=wheel_tags,
        requires_python=next(iter(fields["requires-python"]), None),
        requires=tuple(fields["requires-dist"]),
        extras=tuple(fields["provides-extra"]),
        entry_points=entry_points,
        dist_info=dist_info,
        members=members,
        unrecorded=unrecorded,
        absent=tuple(sorted(path for path in record if path not in present and not path.endswith("/"))),
    )


def package_tree(inventory: Inventory, *, interpreter: str, scripts: bool = False) -> PackageTree:
    """Lay the wheel out as it lies in `/var/task`: packages at the root, `dist-info` kept, RECORD written canonically.

    `interpreter` is the target's, such as `/var/lang/bin/python3.13`: the shebang of what `scripts` puts under `bin/`.
    Headers have no use at run time and stay out; so do scripts unless asked for. See `left_out`.
    """
    file = inventory.file
    origin = inventory.name
    entries: list[Entry] = []
    rows: list[tuple[str, str, str]] = []
    data_prefix = inventory.dist_info.removesuffix(".dist-info") + ".data/"
    for member in inventory.members:
        path: str | None = member.path
        mode = MODE_EXECUTABLE if member.executable else MODE_FILE
        content: Span | Bytes = Span(
            file, member.offset, member.compressed_size, member.method, member.crc32, member.size
        )
        record = member.record
        if member.path.startswith(data_prefix):
            path = _placed(member.path[len(data_prefix) :], scripts=scripts)
            if path is None:
                continue
            if path.startswith("bin/"):
                mode = MODE_EXECUTABLE
                content, record = _with_shebang(content, record, interpreter)
        assert path is not None
        entries.append(Entry(path, mode, content, origin))
        rows.append((path, record, str(content.size)))
    if scripts:
        for point in inventory.entry_points:
            data = _launcher(point, interpreter)
            path = f"bin/{point.name}"
            entries.append(Entry(path, MODE_EXECUTABLE, Bytes(data), origin))
            rows.append((path, _record_hash(data), str(len(data))))
    record_path = f"{inventory.dist_info}/RECORD"
    rows.sort()
    lines = [",".join((_csv(path), record, size)) for path, record, size in rows]
    lines.append(f"{_csv(record_path)},,\n")
    entries.append(Entry(record_path, MODE_FILE, Bytes("\n".join(lines).encode()), origin))
    return PackageTree(entries)


def left_out(inventory: Inventory, *, scripts: bool) -> tuple[str, ...]:
    """Return the members of a wheel that `package_tree` leaves out, as the wheel names them."""
    data_prefix = inventory.dist_info.removesuffix(".dist-info") + ".data/"
    return tuple(
        member.path
        for member in inventory.members
        if member.path.startswith(data_prefix) and _placed(member.path[len(data_prefix) :], scripts=scripts) is None
    )


def _placed(path: str, *, scripts: bool) -> str | None:
    """Return where a member of `.data/` goes, as `pip install --target` would put it, or None for nowhere."""
    scheme, _, rest = path.partition("/")
    if scheme in {"purelib", "platlib", "data"}:
        return rest
    if scheme == "scripts" and scripts:
        return f"bin/{rest}"
    return None


def _with_shebang(content: Span | Bytes, record: str, interpreter: str) -> tuple[Span | Bytes, str]:
    with open_content(content) as stream:
        head = stream.read(9)
        if not head.startswith(b"#!python"):
            return content, record
        body = head + stream.read()
    first, newline, rest = body.partition(b"\n")
    arguments = first.removeprefix(b"#!pythonw").removeprefix(b"#!python").rstrip(b"\r")
    data = b"#!" + interpreter.encode() + arguments + newline + rest
    return Bytes(data), _record_hash(data)


def _launcher(point: EntryPoint, interpreter: str) -> bytes:
    first = point.attribute.split(".")[0]
    return (
        f"#!{interpreter}\nimport sys\nfrom {point.module} import {first}\n"
        f'if __name__ == "__main__":\n    sys.exit({point.attribute}())\n'
    ).encode()


def _record_hash(data: bytes) -> str:
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    return "sha256=" + urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode("ascii")


def _csv(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if any(char in path for char in ',"\n\r') else path


def _opened(file: Path) -> zipfile.ZipFile:
    import zipfile

    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError) as error:
        raise UnsafeArchive(
            f"`{file.name}` is not a valid wheel: {error}", hint="download or build it again"
        ) from error


def _parsed_filename(filename: str) -> tuple[str, str, str]:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise UnsafeArchive(f"`{filename}` is not the name of a wheel: {error}") from error
    return str(name), str(version), "-".join(filename.split("-")[:2])


def _checked_members(archive: zipfile.ZipFile, filename: str, file: Path) -> Iterator[tuple[zipfile.ZipInfo, Member]]:
    """Yield every file of the archive with where its bytes lie; refuse what an honest wheel does not have."""
    seen: set[str] = set()
    total = 0
    end = 0
    with file.open("rb") as stream:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            if info.orig_filename != info.filename:
                raise UnsafeArchive(
                    f"`{filename}` has a member whose name holds a NUL or a backslash: {info.orig_filename!r}"
                )
            if info.flag_bits & _ENCRYPTED:
                raise UnsafeArchive(f"`{filename}` has an encrypted member: `{info.filename}`")
            if (info.external_attr >> 16) & 0o170000 == _SYMLINK:
                raise UnsafeArchive(
                    f"`{filename}` has a symbolic link: `{info.filename}`", hint="wheels hold files only"
                )
            path = checked_path(info.filename.removesuffix("/"))
            if path in seen:
                raise UnsafeArchive(f"`{filename}` has two members of one name: `{path}`")
            seen.add(path)
            if info.compress_type not in _READABLE_METHODS:
                raise UnsafeArchive(
                    f"`{filename}` has a member compressed with method {info.compress_type}: `{path}`",
                    hint="Lambda and most installers read only stored and deflated members; repack the wheel",
                )
            total += info.file_size
            if total > MAX_UNZIPPED_SIZE:
                raise UnsafeArchive(f"`{filename}` unpacks to over {MAX_UNZIPPED_SIZE >> 30} GiB")
            offset = _data_offset(stream, info, filename)
            if info.header_offset < end:
                raise UnsafeArchive(
                    f"`{filename}` has overlapping members: `{path}`", hint="this is how zip bombs are made"
                )
            end = offset + info.compress_size
            if end > archive.start_dir:
                raise UnsafeArchive(f"`{filename}` has a member that runs into the directory: `{path}`")
            if info.is_dir():
                continue
            member = Member(
                path,
                _is_executable(info),
                offset,
                info.compress_size,
                info.compress_type,
                info.CRC,
                info.file_size,
                "",
            )
            yield info, member


def _data_offset(stream: Any, info: zipfile.ZipInfo, filename: str) -> int:
    stream.seek(info.header_offset)
    header = stream.read(30)
    if len(header) != 30 or header[:4] != b"PK\3\4":
        raise UnsafeArchive(f"`{filename}` is damaged: no local header for `{info.filename}`")
    name_length, extra_length = struct.unpack("<2H", header[26:])
    name = stream.read(name_length)
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if name != info.orig_filename.encode(encoding, "surrogateescape"):
        raise UnsafeArchive(f"`{filename}` names a member differently in its two headers: `{info.filename}`")
    return int(info.header_offset) + 30 + int(name_length) + int(extra_length)


def _is_executable(info: zipfile.ZipInfo) -> bool:
    return info.create_system == 3 and bool((info.external_attr >> 16) & 0o111)


def _dist_info_folder(infos: Sequence[tuple[zipfile.ZipInfo, Member]], prefix: str, filename: str) -> str:
    found = {
        member.path.split("/")[0]
        for _, member in infos
        if "/" in member.path and member.path.split("/")[0].endswith(".dist-info")
    }
    matching = sorted(folder for folder in found if _normalised(folder) == _normalised(f"{prefix}.dist-info"))
    if len(matching) != 1:
        raise UnsafeArchive(
            f"`{filename}` has no `{prefix}.dist-info` folder, found: {', '.join(sorted(found)) or 'none'}",
            hint="the wheel was renamed or is damaged; build it again",
        )
    return matching[0]


def _normalised(folder: str) -> str:
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    name, _, version = folder.removesuffix(".dist-info").partition("-")
    try:
        return f"{canonicalize_name(name)}-{Version(version.replace('_', '+', 1) if '+' not in version else version)}"
    except InvalidVersion:
        return f"{canonicalize_name(name)}-{version}"


def _text(archive: zipfile.ZipFile, path: str, filename: str) -> str:
    import zipfile
    import zlib

    try:
        info = archive.getinfo(path)
    except KeyError:
        raise UnsafeArchive(
            f"`{filename}` has no `{path}`", hint="it is not a complete wheel; build it again"
        ) from None
    if info.file_size > 64 << 20:
        raise UnsafeArchive(f"`{filename}` has a `{path}` of {info.file_size} bytes")
    try:
        return archive.read(info).decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{path}`: {error}", hint="download or build it again"
        ) from error


def _parsed_record(text: str, filename: str) -> dict[str, tuple[str, str]]:
    import csv

    rows: dict[str, tuple[str, str]] = {}
    for row in csv.reader(text.splitlines()):
        if not row:
            continue
        if len(row) < 3:
            raise UnsafeArchive(f"`{filename}` has a malformed RECORD line: {','.join(row)!r}")
        rows[row[0]] = (row[1], row[2])
    return rows


def _wheel_tags(text: str, filename: str) -> tuple[str, ...]:
    tags: list[str] = []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key.lower() == "wheel-version" and value.split(".")[0] != "1":
            raise UnsafeArchive(
                f"`{filename}` is of wheel format {value}", hint="only format 1 is known; update manylambda"
            )
        if key.lower() == "tag":
            pythons, abis, platforms = [*value.split("-", 2), "", ""][:3]
            tags.extend(
                f"{python}-{abi}-{platform}"
                for python in pythons.split(".")
                for abi in abis.split(".")
                for platform in platforms.split(".")
            )
    return tuple(tags)


def _metadata_fields(text: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {"requires-python": [], "requires-dist": [], "provides-extra": []}
    for line in text.splitlines():
        if not line.strip():
            break  # the headers end here; what follows is the description
        key, colon, value = line.partition(":")
        if colon and (values := fields.get(key.lower())) is not None:
            values.append(value.strip())
    return fields


def _entry_points(archive: zipfile.ZipFile, dist_info: str) -> tuple[EntryPoint, ...]:
    import configparser

    try:
        text = archive.read(f"{dist_info}/entry_points.txt").decode("utf-8", "replace")
    except KeyError:
        return ()
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error:
        return ()
    points: list[EntryPoint] = []
    for section in ("console_scripts", "gui_scripts"):
        for name, reference in parser.items(section) if parser.has_section(section) else ():
            match = re.match(r"^([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?$", reference.strip())
            if match and re.match(r"^[\w.-]+$", name):
                points.append(EntryPoint(name=name, module=match[1], attribute=match[2]))
    return tuple(sorted(points, key=lambda point: point.name))


def _verified(
    infos: Iterable[tuple[zipfile.ZipInfo, Member]],
    record: Mapping[str, tuple[str, str]],
    dist_info: str,
    file: Path,
    filename: str,
) -> tuple[tuple[Member, ...], tuple[str, ...]]:
    """Inflate every member, in threads, and compare it with its header and with RECORD."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    own = {f"{dist_info}/RECORD", *(f"{dist_info}/{name}" for name in _SIGNATURES)}
    checked = [member for _, member in infos if member.path not in own]

    def verify(member: Member) -> Member:
        return _verified_member(member, record.get(member.path), file, filename)

    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        members = sorted(pool.map(verify, checked, chunksize=1), key=lambda member: member.path)
    return tuple(members), tuple(member.path for member in members if member.path not in record)


def _verified_member(member: Member, row: tuple[str, str] | None, file: Path, filename: str) -> Member:
    import zlib
    from base64 import urlsafe_b64encode
    from hashlib import new, sha256

    algorithm, _, expected = row[0].partition("=") if row else ("", "", "")
    if row and not expected:
        raise UnsafeArchive(f"RECORD of `{filename}` has no hash for `{member.path}`")
    digest = sha256()
    other = None
    if row and algorithm != "sha256":
        if algorithm not in {"sha384", "sha512"}:
            raise UnsafeArchive(f"RECORD of `{filename}` uses a weak hash for `{member.path}`: {algorithm}")
        other = new(algorithm)
    crc = 0
    size = 0
    span = Span(file, member.offset, member.compressed_size, member.method, member.crc32, member.size)
    try:
        if member.method not in {STORED, DEFLATED}:
            raise UnsafeArchive(f"`{filename}` must be repacked before it is inspected")
        with open_content(span) as stream:
            while chunk := stream.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
                size += len(chunk)
                digest.update(chunk)
                if other is not None:
                    other.update(chunk)
    except zlib.error as error:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{member.path}`: {error}", hint="download or build it again"
        ) from error
    if size != member.size or crc != member.crc32:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{member.path}`: wrong length or checksum",
            hint="download or build it again",
        )
    found = urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
    told = urlsafe_b64encode(other.digest()).rstrip(b"=").decode("ascii") if other else found
    if row and told != expected.rstrip("="):
        raise UnsafeArchive(
            f"`{filename}` is not what its RECORD says: `{member.path}`",
            hint="the wheel was changed after it was built: do not use it",
        )
    return member._replace(record=f"sha256={found}")
