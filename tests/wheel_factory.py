"""Real wheels made of a dict, honest or hostile: shared by the tests of every room.

    wheel = make_wheel(tmp_path, "demo", "1.0", {"demo/__init__.py": "x = 1\\n"})

makes what a build backend would: METADATA, WHEEL and a true RECORD are added unless the dict brings them. Where an
honest zip library will not go, `Part` and `raw_zip` write each header by hand.
"""

from __future__ import annotations

import csv
import io
import struct
import zlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from hashlib import new
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

REGULAR: Final = 0o100000
SYMLINK: Final = 0o120000
FIFO: Final = 0o010000

STORED: Final = 0
DEFLATED: Final = 8
BZIP2: Final = 12
LZMA: Final = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One member of a zip; what is None is as an honest writer would have it, all else is written as told."""

    name: bytes
    data: bytes = b""
    mode: int = REGULAR | 0o644
    method: int = DEFLATED
    flags: int = 0
    create_system: int = 3
    raw: bytes | None = None
    """The compressed bytes."""
    crc32: int | None = None
    size: int | None = None
    compressed_size: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    local_crc32: int | None = None
    local_size: int | None = None
    local_flags: int | None = None
    offset: int | None = None
    """Where the directory says the member begins."""
    local_extra: bytes = b""
    extra: bytes = b""
    zip64: bool = False
    """Sizes and offset stand in zip64 fields, however small they are."""
    descriptor: bool = False
    """Sizes follow the data, as a writer to a pipe does it."""

    def compressed(self) -> bytes:
        """Return the bytes as the zip holds them."""
        if self.raw is not None:
            return self.raw
        if self.method == DEFLATED:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
            return deflater.compress(self.data) + deflater.flush()
        if self.method == BZIP2:
            import bz2

            return bz2.compress(self.data)
        if self.method == LZMA:
            return _zip_lzma(self.data)
        return self.data


def raw_zip(parts: Iterable[Part], *, prefix: bytes = b"", comment: bytes = b"") -> bytes:
    """Write a zip header by header; offsets do not count `prefix`, as in a self-extracting archive."""
    body = io.BytesIO()
    directory = io.BytesIO()
    count = 0
    for part in parts:
        count += 1
        raw = part.compressed()
        crc32 = zlib.crc32(part.data) if part.crc32 is None else part.crc32
        size = len(part.data) if part.size is None else part.size
        compressed_size = len(raw) if part.compressed_size is None else part.compressed_size
        offset = body.tell() if part.offset is None else part.offset
        flags = part.flags | (8 if part.descriptor else 0)
        local_name = part.name if part.local_name is None else part.local_name
        local = [
            crc32 if part.local_crc32 is None else part.local_crc32,
            compressed_size,
            size if part.local_size is None else part.local_size,
        ]
        local_extra, extra = part.local_extra, part.extra
        version = 20
        told = (compressed_size, size, offset)
        if part.descriptor:
            local = [0, 0, 0]
        if part.zip64:
            version = 45
            local[1:] = [0xFFFFFFFF, 0xFFFFFFFF]
            local_extra += struct.pack("<2H2Q", 1, 16, size, compressed_size)
            extra += struct.pack("<2H3Q", 1, 24, size, compressed_size, offset)
            told = (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        body.write(
            struct.pack(
                "<4s5H3I2H", b"PK\3\4", version, flags if part.local_flags is None else part.local_flags,
                part.method if part.local_method is None else part.local_method, 0, 33, *local,
                len(local_name), len(local_extra),
            ) + local_name + local_extra + raw
        )  # fmt: skip
        if part.descriptor:
            body.write(struct.pack("<4s3I", b"PK\7\10", crc32, compressed_size, size))
        directory.write(
            struct.pack(
                "<4s6H3I5H2I", b"PK\1\2", (part.create_system << 8) | version, version, flags, part.method, 0, 33,
                crc32, told[0], told[1], len(part.name), len(extra), 0, 0, 0, part.mode << 16, told[2],
            ) + part.name + extra
        )  # fmt: skip
    table = directory.getvalue()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(table), body.tell(), len(comment))
    return prefix + body.getvalue() + table + end + comment


def wheel_parts(
    name: str,
    version: str,
    files: Mapping[str, str | bytes],
    *,
    tags: Sequence[str] = ("py3-none-any",),
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    extras: Sequence[str] = (),
    entry_points: str = "",
    modes: Mapping[str, int] | None = None,
    method: int = DEFLATED,
    hash_name: str = "sha256",
) -> list[Part]:
    """Return the members of a wheel, RECORD last and true; change them and give them to `raw_zip`."""
    stem = _stem(name, version)
    dist_info = f"{stem}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Python: {requires_python}\n"] if requires_python else []
    metadata += [f"Provides-Extra: {extra}\n" for extra in extras]
    metadata += [f"Requires-Dist: {requirement}\n" for requirement in requires]
    pure = str(all(tag.endswith("-any") for tag in tags)).lower()
    wheel = f"Wheel-Version: 1.0\nGenerator: wheel_factory\nRoot-Is-Purelib: {pure}\n"
    own = {
        f"{dist_info}/METADATA": "".join(metadata),
        f"{dist_info}/WHEEL": wheel + "".join(f"Tag: {tag}\n" for tag in tags),
    }
    if entry_points:
        own[f"{dist_info}/entry_points.txt"] = entry_points
    merged = {path: _bytes(data) for path, data in {**own, **files}.items()}
    record = f"{dist_info}/RECORD"
    if record not in merged:
        merged[record] = make_record(merged, record, hash_name)
    modes = modes or {}
    return [
        Part(
            name=path.encode(),
            data=data,
            mode=REGULAR | modes.get(path, 0o644),
            method=method,
            flags=0 if path.isascii() else 0x800,
        )
        for path, data in sorted(merged.items(), key=lambda item: (item[0] == record, item[0]))
    ]


def make_wheel(
    folder: Path,
    name: str = "demo",
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    tags: Sequence[str] = ("py3-none-any",),
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    extras: Sequence[str] = (),
    entry_points: str = "",
    modes: Mapping[str, int] | None = None,
    method: int = DEFLATED,
    hash_name: str = "sha256",
    filename: str | None = None,
) -> Path:
    """Write an honest wheel into `folder` and return its path; `{data}` in a path is the `.data` folder's name."""
    stem = _stem(name, version)
    placed = {path.replace("{data}", f"{stem}.data"): data for path, data in (files or {}).items()}
    parts = wheel_parts(
        name,
        version,
        placed,
        tags=tags,
        requires=requires,
        requires_python=requires_python,
        extras=extras,
        entry_points=entry_points,
        modes={path.replace("{data}", f"{stem}.data"): mode for path, mode in (modes or {}).items()},
        method=method,
        hash_name=hash_name,
    )
    return write_parts(folder / (filename or f"{stem}-{_compressed_tags(tags)}.whl"), parts)


def write_parts(path: Path, parts: Iterable[Part], *, prefix: bytes = b"", comment: bytes = b"") -> Path:
    """Write a zip of `parts` to `path` and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw_zip(parts, prefix=prefix, comment=comment))
    return path


def changed(parts: Iterable[Part], name: str, **fields: object) -> list[Part]:
    """Return `parts` with fields of the one called `name` changed; RECORD is left as it was."""
    found = [replace(part, **fields) if part.name == name.encode() else part for part in parts]  # type: ignore[arg-type]
    assert any(part.name == name.encode() for part in found) or "name" in fields
    return found


def make_record(files: Mapping[str, bytes], record: str, hash_name: str = "sha256") -> bytes:
    """Return a true RECORD of `files` with a row for itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, data in sorted(files.items()):
        writer.writerow((path, f"{hash_name}={record_digest(data, hash_name)}", len(data)))
    writer.writerow((record, "", ""))
    return text.getvalue().encode()


def record_digest(data: bytes, hash_name: str = "sha256") -> str:
    """Return a hash as RECORD writes it."""
    return urlsafe_b64encode(new(hash_name, data).digest()).rstrip(b"=").decode("ascii")


def _stem(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version}"


def _compressed_tags(tags: Sequence[str]) -> str:
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join(".".join(dict.fromkeys(column)) for column in columns)


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _zip_lzma(data: bytes) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x", data)
    with zipfile.ZipFile(buffer) as archive:
        info = archive.getinfo("x")
    start = info.header_offset + 30 + len("x")
    return buffer.getvalue()[start : start + info.compress_size]
