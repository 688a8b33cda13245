"""From the wheel a build backend made to the one that is kept: tagged by what it needs, the same bytes every time."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import shutil
import zipfile
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import elf
from manylambda.elf import ElfFile, ForeignFile
from manylambda.errors import PackagingError
from manylambda.fetch.cache import hash_file
from manylambda.target import GlibcVersion
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, DiskFile, Entry, PackageTree, checked_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Of a manylinux tag the least glibc there is on a machine: 2.5 was the first policy, 2.17 that with aarch64.
_OLDEST: Final[Mapping[str, GlibcVersion]] = {"x86_64": GlibcVersion(2, 5), "aarch64": GlibcVersion(2, 17)}
_GLIBC: Final = re.compile(r"GLIBC_2\.(\d+)(?:\.\d+)?")
_WHEEL: Final = re.compile(r"[^/]+\.dist-info/WHEEL")
_SCRIPTS: Final = re.compile(r"[^/]+\.data/scripts/")
_PROGRAM_STARTS: Final = (b"\x7fELF", b"#!")
_RECORD: Final = re.compile(r"[^/]+\.dist-info/RECORD")


class Unpacked(NamedTuple):
    """A wheel whose files lie in a folder."""

    folder: Path
    filename: str
    info: str
    """The name of its `.dist-info` folder."""

    def files(self) -> list[str]:
        """Give the paths of all files, sorted."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())

    def natives(self) -> dict[str, elf.NativeFile]:
        """Read every native file."""
        found = ((path, elf.read(self.folder / path)) for path in self.files())
        return {path: native for path, native in found if native is not None}


def unpack(wheel: Path, folder: Path) -> Unpacked:
    """Unpack a wheel below `folder`. Raises `PackagingError` for one that is damaged, hostile or none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                path = checked_path(info.filename)
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, place.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise PackagingError(f"the build made a wheel that cannot be read: `{wheel.name}`: {error}") from error
    unpacked = Unpacked(folder, wheel.name, "")
    record = next((path for path in unpacked.files() if _RECORD.fullmatch(path)), None)
    if record is None:
        raise PackagingError(f"the build made a wheel without a RECORD: `{wheel.name}`")
    return unpacked._replace(info=record.rpartition("/")[0])


def forget_place(unpacked: Unpacked, room: Path, place: str) -> None:
    """Put `place` for `room`, where a build was, into the text that it wrote: what is native was told no path.

    Some modules name the compiler that made them, and what they were made of.
    """
    real = os.path.realpath(room)
    names = {str(room), real, str(room).replace("\\", "/"), real.replace("\\", "/")}
    names |= {name.replace("\\", "\\\\") for name in names}
    found = re.compile(b"|".join(re.escape(name.encode()) for name in sorted(names, key=len, reverse=True)))
    for path in unpacked.files():
        file = unpacked.folder / path
        content = file.read_bytes()
        if found.search(content) and b"\0" not in content:
            file.write_bytes(found.sub(place.encode(), content))


def platform_tag(natives: Mapping[str, elf.NativeFile], machine: str) -> str | None:
    """Give the manylinux tag that the symbols of the files need; None where there are no files to need any.

    Raises `PackagingError` for files that are not of Linux on `machine`.
    """
    if not natives:
        return None
    needed = _OLDEST[machine]
    for path, native in natives.items():
        if isinstance(native, ForeignFile):
            raise PackagingError(f"the build compiled for this host: `{path}` is a {native.format} file")
        if not isinstance(native, ElfFile):
            raise PackagingError(f"the build made `{path}`, which cannot be read: {native.reason}")
        if not native.is_loaded_by_linux and native.kind != "relocatable":
            continue
        if native.machine != machine:
            raise PackagingError(f"the build compiled for {native.machine}, and not for {machine}: `{path}`")
        for version, is_weak in ((v, weak) for needs in native.version_needs.values() for v, weak in needs.items()):
            if not is_weak and (match := _GLIBC.fullmatch(version)):
                needed = max(needed, GlibcVersion(2, int(match[1])))
    return f"manylinux_{needed.major}_{needed.minor}_{machine}"


def finish(unpacked: Unpacked, platform: str | None) -> tuple[PackageTree, str]:
    """Give the files of the wheel as they are kept, and its file name.

    `platform` takes the place of the tag that the backend gave; None is for a wheel without native files.
    """
    name, tags = _retagged(unpacked.filename, platform)
    about = unpacked.folder / unpacked.info / "WHEEL"
    if not about.is_file():
        raise PackagingError(f"the build made a wheel without a WHEEL file: `{unpacked.filename}`")
    lines = about.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.strip() and not line.startswith("Tag:")]
    # `Generator: hatchling 1.27.0` would change the package with every release of the backend.
    kept = [re.sub(r"^(Generator: \S+).*$", r"\1", line) for line in kept]
    about.write_text("\n".join([*kept, *(f"Tag: {tag}" for tag in tags)]) + "\n", encoding="utf-8", newline="\n")
    files = unpacked.files()
    for path in files:
        if path.startswith(f"{unpacked.info}/") and path.count("/") == 1:
            _end_lines(unpacked.folder / path)
    record = f"{unpacked.info}/RECORD"
    (unpacked.folder / record).write_bytes(_record(unpacked.folder, files, record))
    entries = [
        Entry(
            path,
            MODE_EXECUTABLE if _is_program(unpacked.folder / path, path) else MODE_FILE,
            DiskFile(unpacked.folder / path, (unpacked.folder / path).stat().st_size),
            name,
        )
        for path in files
    ]
    return PackageTree(entries), name


def _end_lines(file: Path) -> None:
    """Let the lines of a text end as they do on all hosts but Windows."""
    content = file.read_bytes()
    if b"\r\n" in content:
        file.write_bytes(content.replace(b"\r\n", b"\n"))


def _is_program(file: Path, path: str) -> bool:
    """Say by content what may be executed: some hosts do not know, and CMake asks Debian's opinion."""
    with file.open("rb") as stream:
        return stream.read(4).startswith(_PROGRAM_STARTS) or _SCRIPTS.match(path) is not None


def _retagged(filename: str, platform: str | None) -> tuple[str, list[str]]:
    """Give the wheel's name with `platform` for what its backend said, and its tags one by one."""
    *front, interpreters, abis, platforms = filename.removesuffix(".whl").split("-")
    if platforms != "any" and platform is not None:
        platforms = platform
    elif platforms != "any":
        # Nothing was compiled, whatever the backend expected; which Python it is for may still matter.
        abis, platforms = "none", "any"
    tags = [
        f"{one}-{abi}-{system}"
        for one in interpreters.split(".")
        for abi in abis.split(".")
        for system in platforms.split(".")
    ]
    return f"{'-'.join([*front, interpreters, abis, platforms])}.whl", tags


def _record(folder: Path, files: Iterable[str], record: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path in files:
        if path == record or path.startswith(f"{record}."):
            continue
        digest = base64.urlsafe_b64encode(bytes.fromhex(hash_file(folder / path))).rstrip(b"=").decode()
        writer.writerow((path, f"sha256={digest}", (folder / path).stat().st_size))
    writer.writerow((record, "", ""))
    return text.getvalue().encode()
