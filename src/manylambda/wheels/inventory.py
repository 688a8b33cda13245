"""Wheels to package trees: what an installer does, without unpacking and for the target instead of the host.

A wheel is inspected once in its life: every member is inflated and compared with its checksum and with RECORD. What
that gives, the `Inventory`, is a fact of the wheel's bytes and is kept by their sha256; a build then only reads it.
Follows the binary distribution format of the PyPA specifications; knows nothing of Lambda.
"""

from __future__ import annotations

import contextlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    STORED,
    DamagedContent,
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

_MAX_TEXT: Final = 64 << 20
"""Bytes of a member that is read as a whole: metadata, and scripts whose first line changes."""

_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_DESCRIPTOR_FOLLOWS: Final = 0x8
_SIZE_ELSEWHERE: Final = 0xFFFFFFFF
_SYMLINK: Final = 0o120000
_ORDINARY_KINDS: Final = {0, 0o100000, 0o040000}
_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")
_CHUNK: Final = 1 << 20
_READABLE_METHODS: Final = {0: "stored", 8: "deflate", 12: "bzip2", 14: "lzma"}
_DOTTED: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE: Final = re.compile(rf"({_DOTTED})\s*:\s*({_DOTTED})\s*(?:\[.*\])?\Z")
_MAX_TAGS: Final = 4096
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
        return bool(self.tags) and all(tag.endswith("-any") for tag in self.tags)

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
            with copy.open("wb") as target:
                for chunk in _read_member(archive, info, file.name):
                    target.write(chunk)
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
        has_entry_points = any(member.path == f"{dist_info}/entry_points.txt" for _, member in infos)
        scripts = _text(archive, f"{dist_info}/entry_points.txt", filename) if has_entry_points else ""
    record = _parsed_record(metadata["RECORD"], filename)
    wheel_tags = _wheel_tags(metadata["WHEEL"], filename)
    fields = _metadata_fields(metadata["METADATA"])
    _refuse_another_identity(fields, name, version, filename)
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
        entry_points=_entry_points(scripts),
        dist_info=dist_info,
        members=members,
        unrecorded=unrecorded,
        absent=tuple(sorted(path for path in record if path not in present and not path.endswith("/"))),
    )


def _opened(file: Path) -> zipfile.ZipFile:
    import errno
    import zipfile

    try:
        return zipfile.ZipFile(file)
    except OSError as error:
        if error.errno is None or error.errno == errno.EINVAL:  # a seek to where no file has bytes
            raise UnsafeArchive(
                f"`{file.name}` is not a valid wheel: {error}", hint="download or build it again"
            ) from error
        raise PackagingError(f"cannot read `{file}`: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
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
            path = _checked_name(info, filename)
            if info.flag_bits & _ENCRYPTED:
                raise UnsafeArchive(f"`{filename}` has an encrypted member: `{path}`")
            kind = (info.external_attr >> 16) & 0o170000
            if kind == _SYMLINK:
                raise UnsafeArchive(f"`{filename}` has a symbolic link: `{path}`", hint="wheels hold files only")
            if kind not in _ORDINARY_KINDS:
                raise UnsafeArchive(f"`{filename}` has a device, socket or pipe: `{path}`")
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
            if not 0 <= info.header_offset < archive.start_dir:
                raise UnsafeArchive(f"`{filename}` is damaged: no local header for `{path}`")
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


def _checked_name(info: zipfile.ZipInfo, filename: str) -> str:
    name = info.orig_filename  # `filename` is cut at a NUL, and on Windows has its backslashes turned
    try:
        path = checked_path(name.removesuffix("/"))
    except UnsafeArchive as error:
        raise UnsafeArchive(f"`{filename}` has a member with an unsafe path: {name!r}", hint=error.hint) from None
    if info.filename != name:
        raise UnsafeArchive(f"`{filename}` has a member of two names: `{path}` and `{info.filename}`")
    return path


def _data_offset(stream: IO[bytes], info: zipfile.ZipInfo, filename: str) -> int:
    """Return where the bytes of a member begin; its two headers must agree, or readers would see two wheels in one."""
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
        raise UnsafeArchive(f"`{filename}` is damaged: no local header for `{info.filename}`")
    _, _, flags, method, _, _, crc32, compressed, size, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if stream.read(name_length) != info.orig_filename.encode(encoding):
        raise UnsafeArchive(f"`{filename}` names a member differently in its two headers: `{info.filename}`")
    is_told = not flags & _DESCRIPTOR_FOLLOWS
    if (
        method != info.compress_type
        or bool(flags & _ENCRYPTED)
        or (is_told and crc32 != info.CRC)
        or (is_told and compressed not in {info.compress_size, _SIZE_ELSEWHERE})
        or (is_told and size not in {info.file_size, _SIZE_ELSEWHERE})
    ):
        raise UnsafeArchive(f"`{filename}` describes a member differently in its two headers: `{info.filename}`")
    return int(info.header_offset) + _LOCAL_HEADER.size + int(name_length) + int(extra_length)


def _is_executable(info: zipfile.ZipInfo) -> bool:
    # As pip and uv see it: whatever system the archive says it was made on.
    return bool((info.external_attr >> 16) & 0o111)


def _dist_info_folder(infos: Sequence[tuple[zipfile.ZipInfo, Member]], prefix: str, filename: str) -> str:
    found = sorted(
        {
            top
            for top, slash, _ in (member.path.partition("/") for _, member in infos)
            if slash and top.endswith(".dist-info")
        }
    )
    if len(found) > 1:
        raise UnsafeArchive(f"`{filename}` has more than one `.dist-info` folder: {', '.join(found)}")
    if not found or _identity(found[0]) != _identity(prefix):
        raise UnsafeArchive(
            f"`{filename}` has no `{prefix}.dist-info` folder, found: {', '.join(found) or 'none'}",
            hint="the wheel was renamed or is damaged; build it again",
        )
    return found[0]


def _identity(folder: str) -> tuple[str, object]:
    """Return what two spellings of one `.dist-info` folder have in common."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    name, _, version = folder.removesuffix(".dist-info").rpartition("-")
    try:
        return canonicalize_name(name), Version(version if "+" in version else version.replace("_", "+", 1))
    except InvalidVersion:
        return canonicalize_name(name), version


def _text(archive: zipfile.ZipFile, path: str, filename: str) -> str:
    try:
        info = archive.getinfo(path)
    except KeyError:
        raise UnsafeArchive(
            f"`{filename}` has no `{path}`", hint="it is not a complete wheel; build it again"
        ) from None
    if info.file_size > _MAX_TEXT:
        raise UnsafeArchive(f"`{filename}` has a `{path}` of {info.file_size} bytes")
    return b"".join(_read_member(archive, info, filename)).decode("utf-8", "replace")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, filename: str) -> Iterator[bytes]:
    """Yield the bytes of a member of any method; raise `UnsafeArchive` unless they are what its header says."""
    import zipfile
    import zlib

    failures: tuple[type[Exception], ...] = (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    )
    with contextlib.suppress(ImportError):  # a host's Python may lack it; zipfile then says so
        from lzma import LZMAError

        failures = (*failures, LZMAError)
    size = 0
    try:
        for chunk in _unpacked(archive, info, filename):
            size += len(chunk)
            yield chunk
    except failures as error:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{info.filename}`: {error}", hint="download or build it again"
        ) from error
    if size != info.file_size:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{info.filename}`: wrong length", hint="download or build it again"
        )


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, filename: str) -> Iterator[bytes]:
    if info.compress_type in {STORED, DEFLATED}:
        with archive.open(info) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        return
    import zlib

    from manylambda.archive import expand

    def packed(stream: IO[bytes]) -> Iterator[bytes]:
        stream.seek(_data_offset(stream, info, filename))
        left = info.compress_size
        while left and (data := stream.read(min(left, 1 << 16))):
            left -= len(data)
            yield data

    crc = 0
    with Path(archive.filename or "").open("rb") as stream:
        for chunk in expand(packed(stream), info.compress_type, info.file_size):
            crc = zlib.crc32(chunk, crc)
            yield chunk
    if crc != info.CRC:
        raise EOFError("wrong checksum")


def _parsed_record(text: str, filename: str) -> dict[str, tuple[str, str]]:
    import csv
    from io import StringIO

    rows: dict[str, tuple[str, str]] = {}
    try:
        for row in csv.reader(StringIO(text, newline="")):
            if not row:
                continue
            if len(row) < 3:
                raise UnsafeArchive(f"`{filename}` has a malformed RECORD line: {','.join(row)[:200]!r}")
            if rows.setdefault(row[0], (row[1], row[2])) != (row[1], row[2]):
                raise UnsafeArchive(f"RECORD of `{filename}` has two rows for `{row[0]}`")
    except csv.Error as error:
        raise UnsafeArchive(f"`{filename}` has a malformed RECORD: {error}") from error
    return rows


def _wheel_tags(text: str, filename: str) -> tuple[str, ...]:
    tags: list[str] = []
    has_version = False
    for line in text.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key.lower() == "wheel-version":
            has_version = True
            if value.split(".")[0] != "1":
                raise UnsafeArchive(
                    f"`{filename}` is of wheel format {value}", hint="only format 1 is known; update manylambda"
                )
        if key.lower() == "tag":
            pythons, abis, platforms = (part.split(".") for part in [*value.split("-", 2), "", ""][:3])
            if len(tags) + len(pythons) * len(abis) * len(platforms) > _MAX_TAGS:
                raise UnsafeArchive(f"`{filename}` lists over {_MAX_TAGS:,} tags in its WHEEL file")
            tags.extend(f"{python}-{abi}-{platform}" for python in pythons for abi in abis for platform in platforms)
    if not has_version:
        raise UnsafeArchive(f"`{filename}` has no `Wheel-Version` in its WHEEL file")
    return tuple(tags)


def _metadata_fields(text: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {
        key: [] for key in ("name", "version", "requires-python", "requires-dist", "provides-extra")
    }
    for line in text.splitlines():
        if not line.strip():
            break  # the headers end here; what follows is the description
        key, colon, value = line.partition(":")
        if colon and (values := fields.get(key.lower())) is not None:
            values.append(value.strip())
    return fields


def _refuse_another_identity(fields: Mapping[str, list[str]], name: str, version: str, filename: str) -> None:
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    told_name, told_version = (next(iter(fields[key]), "") for key in ("name", "version"))
    try:
        is_same = canonicalize_name(told_name) == name and Version(told_version) == Version(version)
    except InvalidVersion:
        is_same = False
    if not is_same:
        raise UnsafeArchive(
            f"METADATA of `{filename}` is of another distribution: {told_name} {told_version}".rstrip(),
            hint="the wheel was renamed or is damaged; build it again",
        )


def _entry_points(text: str) -> tuple[EntryPoint, ...]:
    import configparser

    # No default section: the usual one would lend its keys to every other.
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error:
        return ()
    points: dict[str, EntryPoint] = {}
    for section in ("console_scripts", "gui_scripts"):
        for name, reference in parser.items(section) if parser.has_section(section) else ():
            match = _REFERENCE.match(reference.strip())
            if match and re.match(r"\w[\w.-]*\Z", name):
                points.setdefault(name, EntryPoint(name=name, module=match[1], attribute=match[2]))
    return tuple(points[name] for name in sorted(points))


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

    algorithm, _, expected = row[0].strip().partition("=") if row else ("", "", "")
    algorithm = algorithm.lower()
    if row and not expected:
        raise UnsafeArchive(f"RECORD of `{filename}` has no hash for `{member.path}`")
    digest = sha256()
    other = None
    if row and algorithm != "sha256":
        if algorithm not in {"sha384", "sha512"}:
            raise UnsafeArchive(f"RECORD of `{filename}` uses a weak hash for `{member.path}`: {algorithm}")
        other = new(algorithm)
    crc = 0
    span = Span(file, member.offset, member.compressed_size, member.method, member.crc32, member.size)
    try:
        if member.method not in {STORED, DEFLATED}:
            raise UnsafeArchive(f"`{filename}` must be repacked before it is inspected")
        with open_content(span) as stream:
            while chunk := stream.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
                digest.update(chunk)
                if other is not None:
                    other.update(chunk)
    except DamagedContent as error:
        raise UnsafeArchive(f"`{filename}` is damaged at `{member.path}`: {error.fact}", hint=error.hint) from error
    if crc != member.crc32:
        raise UnsafeArchive(
            f"`{filename}` is damaged at `{member.path}`: wrong checksum", hint="download or build it again"
        )
    found = urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
    told = urlsafe_b64encode(other.digest()).rstrip(b"=").decode("ascii") if other else found
    if row and told != expected.rstrip("="):
        raise UnsafeArchive(
            f"`{filename}` is not what its RECORD says: `{member.path}`",
            hint="the wheel was changed after it was built: do not use it",
        )
    return member._replace(record=f"sha256={found}")
