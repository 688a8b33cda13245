"""Compare what `manylambda.elf` reads of every ELF file in real wheels with what `readelf` of binutils prints.

    python tools/compare_readelf.py                    all of tools/compare_readelf.toml, 800 MB, into the cache
    python tools/compare_readelf.py --quick            those that are marked as small: what the tests do
    python tools/compare_readelf.py --page FILE        also write the page of the documentation
    python tools/compare_readelf.py FILE...            wheels of your own

Exit status 1 when anything differs. Compared are machine, class, needed libraries, soname, RPATH, RUNPATH, every symbol
version that is needed of each library (and so the highest), and every one that is defined.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import elf
from manylambda.elf import ElfFile
from manylambda.fetch import Cache, Credentials, Download, fetch_all
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LIST: Final = Path(__file__).with_suffix(".toml")

_MACHINES: Final = {
    "Advanced Micro Devices X86-64": "x86_64", "AArch64": "aarch64", "Intel 80386": "i686", "ARM": "armv7l",
    "PowerPC64": "ppc64", "IBM S/390": "s390x", "RISC-V": "riscv64", "NVIDIA CUDA architecture": "cuda",
    "Linux BPF": "bpf", "LoongArch": "loongarch64", "AMD GPU": "amdgpu",
}  # fmt: skip
_DYNAMIC: Final = re.compile(r"^ 0x[0-9a-f]+ \((NEEDED|SONAME|RPATH|RUNPATH)\) .*?: \[(.*)\]$", re.MULTILINE)
_NEED_FILE: Final = re.compile(r"^  \w+: Version: \d+  File: (.+?)  Cnt: \d+$")
_NEED_NAME: Final = re.compile(r"^  \w+:   Name: (.+?)  Flags: (.*?)  Version: \d+$")
_DEFINITION: Final = re.compile(r"^  \w+: Rev: \d+  Flags: (.*?)\s+Index: \d+  Cnt: \d+  Name: (.+)$")


class Wheel(NamedTuple):
    """A pinned wheel."""

    compiler: str
    """The language, or what else made its native files what they are."""
    download: Download
    is_small: bool


class Facts(NamedTuple):
    """What both readers must agree on."""

    machine: str
    bits: int
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    version_needs: Mapping[str, Mapping[str, bool]]
    """Library -> version -> whether the need is weak."""
    version_definitions: tuple[str, ...]


class Compared(NamedTuple):
    """The ELF files of one wheel."""

    file: str
    machines: tuple[str, ...]
    elf_files: int
    needs: int
    """Needed libraries of all its files together."""
    versions: int
    """Symbol versions needed by all its files together."""
    highest: Mapping[str, str]
    """Namespace -> the highest version that any file needs."""
    differences: tuple[str, ...]


def pinned(*, only_small: bool = False) -> list[Wheel]:
    """Return the wheels of the list."""
    document = tomllib.loads(LIST.read_text(encoding="utf-8"))
    wheels = [
        Wheel(
            each["compiler"],
            Download(
                url=each["url"], filename=each["url"].rpartition("/")[2], sha256=each["sha256"], size=each["size"]
            ),
            each.get("small", False),
        )
        for each in document["wheel"]
    ]
    return [wheel for wheel in wheels if wheel.is_small or not only_small]


def compare(wheel: Path) -> Compared:
    """Read every ELF file of a wheel twice; `readelf` must be on the path."""
    machines: set[str] = set()
    highest: dict[str, str] = {}
    differences: list[str] = []
    files = needs = versions = 0
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for info in archive.infolist():
            with archive.open(info) as member:
                if member.read(4) != b"\x7fELF":
                    continue
            files += 1
            extracted = Path(archive.extract(info, folder))
            theirs, ours = from_readelf(extracted), from_us(extracted)
            extracted.unlink()
            machines.add(theirs.machine)
            if isinstance(ours, str):
                differences.append(f"{info.filename}: {ours}")
                continue
            differences += [
                f"{info.filename}: {field}: readelf {their!r}, we {our!r}"
                for field, their, our in zip(Facts._fields, theirs, ours, strict=True)
                if their != our
            ]
            needs += len(theirs.needed)
            for names in theirs.version_needs.values():
                versions += len(names)
                for name in names:
                    namespace = name.partition("_")[0]
                    highest[namespace] = max(highest.get(namespace, name), name, key=_order)
    return Compared(wheel.name, tuple(sorted(machines)), files, needs, versions, highest, tuple(differences))


def from_us(file: Path) -> Facts | str:
    """Return what `manylambda.elf` reads of a file, or why it does not."""
    native = elf.read(file)
    if not isinstance(native, ElfFile):
        return f"we read it as {native}"
    return Facts(
        native.machine,
        native.bits,
        native.soname,
        native.needed,
        native.rpath,
        native.runpath,
        native.version_needs,
        native.version_definitions,
    )


def from_readelf(file: Path) -> Facts:
    """Return what `readelf -dVhW` prints of a file."""
    done = subprocess.run(
        ["readelf", "-dVhW", str(file)],
        check=True,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        timeout=300,
    )
    text = done.stdout.decode("utf-8", "backslashreplace")
    machine = _header(text, "Machine")
    entries = _DYNAMIC.findall(text)
    by_tag = {tag: tuple(value for key, value in entries if key == tag) for tag, _ in entries}
    return Facts(
        machine=_MACHINES.get(machine, machine),
        bits={"ELF64": 64, "ELF32": 32}[_header(text, "Class")],
        soname=next(iter(by_tag.get("SONAME", ())), None),
        needed=by_tag.get("NEEDED", ()),
        rpath=_folders(by_tag.get("RPATH", ())),
        runpath=_folders(by_tag.get("RUNPATH", ())),
        version_needs=_needs(text),
        version_definitions=tuple(_definitions(text)),
    )


def _header(text: str, name: str) -> str:
    found = re.search(rf"^  {name}:\s+(.*)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"readelf prints no `{name}`:\n{text[:2000]}")
    return found[1].strip()


def _folders(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(folder for value in values for folder in value.split(":") if folder)


def _needs(text: str) -> Mapping[str, Mapping[str, bool]]:
    needs: dict[str, dict[str, bool]] = {}
    current: dict[str, bool] = {}
    for line in _section(text, "Version needs section"):
        if found := _NEED_FILE.match(line):
            current = needs.setdefault(found[1], {})
        elif found := _NEED_NAME.match(line):
            current[found[1]] = "WEAK" in found[2] and current.get(found[1], True)
    return needs


def _definitions(text: str) -> Iterator[str]:
    for line in _section(text, "Version definition section"):
        found = _DEFINITION.match(line)
        if found and "BASE" not in found[1]:
            yield found[2]


def _section(text: str, title: str) -> Iterator[str]:
    inside = False
    for line in text.splitlines():
        if line.startswith(title):
            inside = True
        elif not line.startswith(" "):
            inside = False
        elif inside:
            yield line


def _order(version: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in re.split(r"[._]", version))


def _table(rows: Sequence[tuple[str, Compared]]) -> Iterator[str]:
    yield "| wheel | made of | machine | ELF files | needed | versions | highest | differences |"
    yield "|---|---|---|---:|---:|---:|---|---:|"
    for compiler, row in rows:
        highest = ", ".join(f"`{row.highest[key]}`" for key in ("GLIBC", "GLIBCXX", "GFORTRAN") if key in row.highest)
        name, version = row.file.split("-")[:2]
        yield (
            f"| {name} {version} | {compiler} | {', '.join(row.machines)} | {row.elf_files} | {row.needs} "
            f"| {row.versions} | {highest} | {len(row.differences)} |"
        )


def _summary(rows: Sequence[tuple[str, Compared]]) -> str:
    differences = sum(len(row.differences) for _, row in rows)
    machines = {machine for _, row in rows for machine in row.machines}
    return (
        f"{len(rows)} wheels, {sum(row.elf_files for _, row in rows):,} ELF files for {len(machines)} machines, "
        f"{sum(row.needs for _, row in rows):,} needed libraries, {sum(row.versions for _, row in rows):,} symbol "
        f"versions: {differences} differences"
    )


def _page(rows: Sequence[tuple[str, Compared]]) -> str:
    version = subprocess.run(["readelf", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()
    return "\n".join(
        [
            "# What we read of ELF files, beside `readelf`",
            "",
            "Written by `python tools/compare_readelf.py --page docs/development/measurements/readelf.md`. The wheels",
            "are pinned in `tools/compare_readelf.toml`; for every ELF file in them the machine, class, needed",
            "libraries, soname, RPATH, RUNPATH, every symbol version needed (weak or not) of each library, and every",
            f"one defined, are compared with what `readelf -dVhW` prints ({version[0]}).",
            "`tests/test_readelf.py` does it again for the small ones.",
            "",
            _summary(rows) + ".",
            "",
            *_table(rows),
            *(f"- {row.file}: {difference}" for _, row in rows for difference in row.differences),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder other than the user's cache")
    words = parser.parse_args()
    wheels = pinned(only_small=words.quick)
    cache = Cache(words.cache) if words.cache else Cache.default()
    rows: list[tuple[str, Compared]] = []
    credentials = Credentials.from_settings(os.environ)
    for compiler, source in [("", path) for path in words.wheel] or [(one.compiler, one.download) for one in wheels]:
        if isinstance(source, Path):
            row = compare(source)
        else:
            fetched = fetch_all([source], cache=cache, credentials=credentials, offline=False, progress=SILENT)
            row = compare(fetched[source])
        rows.append((compiler, row))
        print(f"{row.file}: {row.elf_files} ELF files, {len(row.differences)} differences", flush=True)
        for difference in row.differences:
            print(f"  {difference}", flush=True)
    print(_summary(rows))
    if words.page:
        words.page.parent.mkdir(parents=True, exist_ok=True)
        words.page.write_text(_page(rows), encoding="utf-8", newline="\n")
    return 1 if any(row.differences for _, row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
