"""A package under construction: real wheels laid out as installers do, then changed, then written as tools write.

Members stay compressed as their wheels hold them; only what is changed is inflated.
"""

from __future__ import annotations

import fnmatch
import re
import struct
import tomllib
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda.fetch import Download
from wheel_factory import REGULAR, STORED, Part, make_record, raw_zip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ELF: Final = Path(__file__).parents[1] / "elf" / "data"


def pinned() -> dict[str, Download]:
    """Return every wheel of the corpus by its key."""
    document = tomllib.loads(Path(__file__).with_name("wheels.toml").read_text(encoding="utf-8"))
    return {
        key: Download(
            url=each["url"], filename=each["url"].rpartition("/")[2], sha256=each["sha256"], size=each["size"]
        )
        for key, each in document.items()
    }


class Box:
    """The members of a package by path, to be changed in place."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}

    def install(self, wheel: Path, under: str = "") -> None:
        """Lay a wheel out as an installer would, without running it; a RECORD with moved files is written anew."""
        moved = False
        with zipfile.ZipFile(wheel) as archive, wheel.open("rb") as stream:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                stream.seek(info.header_offset + 26)
                stream.seek(sum(struct.unpack("<2H", stream.read(4))), 1)
                raw = stream.read(info.compress_size)
                path = re.sub(r"^[^/]+\.data/(?:purelib|platlib|data)/", "", info.filename)
                path = re.sub(r"^[^/]+\.data/scripts/", "bin/", path)
                moved |= path != info.filename
                part = Part(
                    name=(under + path).encode(),
                    mode=REGULAR | (0o755 if info.external_attr >> 16 & 0o111 else 0o644),
                    method=info.compress_type,
                    raw=raw,
                    crc32=info.CRC,
                    size=info.file_size,
                )
                self.parts[under + path] = part
        if moved:
            self.rerecord("*")

    def read(self, path: str) -> bytes:
        """Return the bytes of a member."""
        part = self.parts[path]
        if part.raw is None:
            return part.data
        return part.raw if part.method == STORED else zlib.decompress(part.raw, -zlib.MAX_WBITS)

    def add(self, path: str, data: bytes | str = b"", mode: int = 0o644) -> None:
        """Put a file there; in place of one, if there is one."""
        content = data.encode() if isinstance(data, str) else data
        self.parts[path] = Part(name=path.encode(), data=content, mode=REGULAR | mode)

    def named(self, pattern: str) -> list[str]:
        """Return the paths that match; a corpus that matches nothing breaks nothing, so that is an error."""
        found = fnmatch.filter(self.parts, pattern)
        assert found, f"nothing is called {pattern}"
        return found

    def remove(self, pattern: str) -> None:
        """Leave files out."""
        for path in self.named(pattern):
            del self.parts[path]

    def rename(self, pattern: str, old: str, new: str) -> None:
        """Replace `old` in the paths that match."""
        for path in self.named(pattern):
            assert old in path
            changed = path.replace(old, new)
            part = self.parts.pop(path)
            self.parts[changed] = replace(part, name=changed.encode())

    def edit(self, pattern: str, *changes: Callable[[bytes], bytes]) -> None:
        """Change the bytes of the files that match, each in some way."""
        for path in self.named(pattern):
            before = data = self.read(path)
            for change in changes:
                data = change(data)
            assert data != before, f"{path} was not changed"
            self.add(path, data, self.parts[path].mode & 0o777)

    def rerecord(self, pattern: str) -> None:
        """Write RECORD anew for the distributions whose `.dist-info` folder matches, as what repairs wheels does."""
        for record in fnmatch.filter(self.parts, f"{pattern}.dist-info/RECORD"):
            site = record.rpartition("/")[0].rpartition("/")[0]
            prefix = f"{site}/" if site else ""
            listed = {line.split(",")[0] for line in self.read(record).decode().splitlines()}
            tops = {path.partition("/")[0] for path in listed} | {"bin"}
            files = {
                path.removeprefix(prefix): self.read(path)
                for path in self.parts
                if path.startswith(prefix) and path.removeprefix(prefix).partition("/")[0] in tops and path != record
            }
            self.add(record, make_record(files, record.removeprefix(prefix)))

    def each(self, **fields: object) -> None:
        """Have every member written with other headers, as some tool does."""
        for path, part in self.parts.items():
            self.parts[path] = replace(part, **fields)  # type: ignore[arg-type]

    def to_zip(self, path: Path) -> Path:
        path.write_bytes(raw_zip(self.parts.values()))
        return path

    def to_folder(self, path: Path) -> Path:
        for name, part in self.parts.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(name))
            file.chmod(part.mode & 0o777)
        return path


# Edits of ELF files


def elf(name: str) -> bytes:
    """Return a file that was compiled for the tests of the reader."""
    return (ELF / name).read_bytes()


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace a name everywhere by one of the same length, so that no offset moves."""
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


def first_quarter(data: bytes) -> bytes:
    """Return what a broken-off download leaves; the first half may still load, the rest being symbols for debuggers."""
    return data[: len(data) // 4]


def to_windows(data: bytes) -> bytes:
    """Change line ends, as git does with `core.autocrlf` where it takes a file for text."""
    return data.replace(b"\n", b"\r\n")


def executable_stack(data: bytes) -> bytes:
    """Ask for an executable stack: the flag of PT_GNU_STACK, as `execstack -s` sets it."""
    for at in _headers(data):
        if struct.unpack_from("<I", data, at)[0] == 0x6474_E551:
            return _patched(data, at + 4, struct.pack("<I", 7))
    raise AssertionError("no PT_GNU_STACK")


def tag(old: int, new: int) -> Callable[[bytes], bytes]:
    """Turn entries of the dynamic section into others: RUNPATH (29) into DEBUG (21) takes it away."""

    def change(data: bytes) -> bytes:
        for at in _dynamic(data):
            if struct.unpack_from("<Q", data, at)[0] == old:
                data = _patched(data, at, struct.pack("<Q", new))
        return data

    return change


def _headers(data: bytes) -> Iterable[int]:
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<2H", data, 54)
    return range(start, start + size * count, size)


def _dynamic(data: bytes) -> Iterable[int]:
    for at in _headers(data):
        if struct.unpack_from("<I", data, at)[0] == 2:
            offset, size = struct.unpack_from("<Q", data, at + 8)[0], struct.unpack_from("<Q", data, at + 32)[0]
            return range(offset, offset + size, 16)
    raise AssertionError("no PT_DYNAMIC")


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]
