"""Native files are known by their content, and damaged ones by what is wrong with them."""

from __future__ import annotations

import io
import json
import struct
import sysconfig
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import given, settings
from hypothesis import strategies as st

from manylambda import elf
from manylambda.elf import ElfFile, ForeignFile, Malformed, Symbol
from manylambda.tree import DEFLATED, Span, open_content

DATA = Path(__file__).parent / "elf" / "data"


def facts(name: str) -> ElfFile:
    native = elf.read(DATA / name)
    assert isinstance(native, ElfFile)
    return native


def test_every_fact_of_a_shared_object_is_read() -> None:
    assert facts("glibc_2_34.so") == ElfFile(
        machine="x86_64",
        needed=("libc.so.6",),
        version_needs={"libc.so.6": {"GLIBC_2.2.5": False, "GLIBC_2.34": False}},
    )


def test_search_paths_are_split_and_kept_apart() -> None:
    assert facts("needs_used_runpath.so").runpath == ("$ORIGIN/../used.libs",)
    assert facts("needs_used_runpath.so").rpath == ()
    assert facts("needs_used_rpath.so").rpath == ("${ORIGIN}/../used.libs", "/usr/lib64")
    assert facts("needs_used_rpath.so").runpath == ()


def test_the_soname_and_the_versions_of_a_library_are_read() -> None:
    library = facts("libversioned_2.so.1")
    assert library.soname == "libversioned.so.1"
    assert library.version_definitions == ("USED_1.0", "USED_2.0")


def test_a_weak_version_need_is_told_from_a_strong_one() -> None:
    data = bytearray((DATA / "glibc_2_34.so").read_bytes())
    at = data.index(struct.pack("<IH", 0x069691B4, 0))  # the ELF hash of `GLIBC_2.34`, and no flags
    data[at + 4] = 2
    native = elf.read(io.BytesIO(data))
    assert isinstance(native, ElfFile)
    assert native.version_needs == {"libc.so.6": {"GLIBC_2.2.5": False, "GLIBC_2.34": True}}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aarch64.so", ElfFile(machine="aarch64", version_needs={})),
        ("i686.so", ElfFile(machine="i686", bits=32, version_needs={})),
        ("s390x.so", ElfFile(machine="s390x", little_endian=False, version_needs={})),
        ("execstack.so", ElfFile(machine="x86_64", version_needs={}, executable_stack=True)),
        ("isa_v3.so", ElfFile(machine="x86_64", version_needs={}, isa_level=3)),
        ("isa_v4.so", ElfFile(machine="x86_64", version_needs={}, isa_level=4)),
        ("textrel.so", ElfFile(machine="x86_64", version_needs={}, text_relocations=True)),
        ("relocatable.o", ElfFile(machine="x86_64", version_needs={}, kind="relocatable")),
    ],
)
def test_machines_kinds_and_marks_are_told_apart(name: str, expected: ElfFile) -> None:
    assert elf.read(DATA / name) == expected


def test_a_program_is_known_by_its_interpreter_even_when_it_is_position_independent() -> None:
    program = facts("program")
    assert program.kind == "executable"
    assert program.interpreter == "/lib64/ld-linux-x86-64.so.2"
    library = facts("libboth.so.1")
    assert (library.kind, library.interpreter) == ("shared", "/lib64/ld-linux-x86-64.so.2")


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_facts_survive_json(path: Path) -> None:
    native = elf.read(path)
    assert native is not None
    assert elf.from_json(json.loads(json.dumps(elf.to_json(native)))) == native


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (struct.pack("<II", 0xFEEDFACF, 0x0100000C), ForeignFile(format="Mach-O", machines=("arm64",))),
        (struct.pack(">II", 0xFEEDFACE, 18), ForeignFile(format="Mach-O", machines=("machine-18",))),
        (
            struct.pack(">II", 0xCAFEBABE, 2) + struct.pack(">5I5I", 0x01000007, 3, 0, 0, 0, 0x0100000C, 0, 0, 0, 0),
            ForeignFile(format="Mach-O", machines=("x86_64", "arm64")),
        ),
        (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0\x64\x86", ForeignFile(format="PE", machines=("x86_64",))),
        (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0\x64\xaa", ForeignFile(format="PE", machines=("arm64",))),
    ],
)
def test_binaries_of_other_systems_are_named(head: bytes, expected: ForeignFile) -> None:
    native = elf.read(io.BytesIO(head + bytes(64)))
    assert native == expected
    assert elf.from_json(json.loads(json.dumps(elf.to_json(expected)))) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        b"MZ is how a text may begin",
        b"MZ" + bytes(200),
        struct.pack(">II", 0xCAFEBABE, 61) + bytes(64),
    ],
    ids=["empty", "script", "text", "DOS", "Java class"],
)
def test_other_files_are_no_native_files(data: bytes) -> None:
    assert elf.read(io.BytesIO(data)) is None


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (4, "the ELF file is damaged or cut short"),
        (63, "the ELF file is damaged or cut short"),
        (200, "the ELF file is damaged or cut short"),
        (1200, "the ELF file is cut short"),
    ],
)
def test_a_file_that_is_cut_short_is_malformed(size: int, reason: str) -> None:
    data = (DATA / "glibc_2_34.so").read_bytes()[:size]
    assert elf.read(io.BytesIO(data)) == Malformed(reason=reason)
    assert elf.from_json(elf.to_json(Malformed(reason=reason))) == Malformed(reason=reason)


def test_segments_that_only_one_machine_has_are_passed_over() -> None:
    data = (DATA / "aarch64.so").read_bytes()
    at = data.index(struct.pack("<I", 0x6474_E551))  # PT_GNU_STACK
    for kind in (0x7000_0000, 0x7000_0002):  # PT_AARCH64_ARCHEXT, PT_AARCH64_MEMTAG_MTE
        native = elf.read(io.BytesIO(data[:at] + struct.pack("<I", kind) + data[at + 4 :]))
        assert isinstance(native, ElfFile)
        assert native.machine == "aarch64"


def test_a_file_that_leads_to_no_symbols_is_malformed() -> None:
    data = (DATA / "glibc_2_34.so").read_bytes()
    for tag in (5, 6):  # DT_STRTAB, DT_SYMTAB
        at = data.index(struct.pack("<Q", tag), data.index(struct.pack("<Q", 0x6FFFFEF5)))
        whole = data[:at] + struct.pack("<Q", 0x6FFF_FDF8) + data[at + 8 :]  # some other tag
        assert elf.read(io.BytesIO(whole)) == Malformed(reason="the ELF file has no table of symbols")


def patched(name: str, offset: int, data: bytes) -> io.BytesIO:
    whole = bytearray((DATA / name).read_bytes())
    whole[offset : offset + len(data)] = data
    return io.BytesIO(whole)


def test_counts_that_a_file_lies_about_cost_no_time() -> None:
    segments = elf.read(patched("plain.so", 56, struct.pack("<H", 0xFFF0)))
    assert segments == Malformed(reason="the ELF file says that it has 65520 segments")
    whole = (DATA / "glibc_2_34.so").read_bytes()
    at = whole.index(struct.pack("<QQ", 0x6FFFFFFF, 1))  # DT_VERNEEDNUM
    versions = elf.read(patched("glibc_2_34.so", at + 8, struct.pack("<Q", 1 << 40)))
    assert versions == Malformed(reason=f"the ELF file says that it has {1 << 40} symbol versions")
    strings = whole.index(struct.pack("<Q", 5), whole.index(struct.pack("<QQ", 0x6FFFFFFF, 1)) - 400)  # DT_STRTAB
    outside = elf.read(patched("glibc_2_34.so", strings + 8, struct.pack("<Q", 1 << 50)))
    assert outside == Malformed(reason="the ELF file points outside of itself")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["glibc_2_34.so", "libversioned_2.so.1", "isa_v3.so", "program"]), st.data())
def test_no_damage_is_more_than_malformed(name: str, data: st.DataObject) -> None:
    whole = bytearray((DATA / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(whole) - 9))
        whole[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    began = time.process_time()  # a deadline of hypothesis's counts what others take of a busy machine, too
    assert isinstance(elf.read(io.BytesIO(whole)), ElfFile | Malformed)
    assert time.process_time() - began < 1


def test_symbols_tell_what_pulls_a_version_in() -> None:
    with (DATA / "glibc_2_34.so").open("rb") as stream:
        found = {symbol.name: symbol for symbol in elf.symbol_table(stream) or ()}
    assert found["dlopen"] == elf.Symbol("dlopen", "GLIBC_2.34", defined=False, weak=False, library="libc.so.6")
    assert found["module"] == elf.Symbol("module", None, defined=True, weak=False)
    with (DATA / "libversioned_2.so.1").open("rb") as stream:
        assert ("used", "USED_2.0") in {(symbol.name, symbol.version) for symbol in elf.symbol_table(stream) or ()}


def test_symbols_of_a_damaged_file_are_none() -> None:
    assert list(elf.symbol_table(io.BytesIO(b"\x7fELF and no more")) or ()) == []
    assert list(elf.symbol_table(io.BytesIO((DATA / "glibc_2_34.so").read_bytes()[:700])) or ()) == []
    assert list(elf.symbol_table(io.BytesIO(b"MZ")) or ()) == []
    assert elf.symbol_table(DATA / "relocatable.o") is None


def by_pyelftools(path: Path) -> list[Symbol]:
    """Read the symbols slowly, by the section table, with another's code."""
    names: dict[int, tuple[str, str | None]] = {}
    found: list[Symbol] = []
    with path.open("rb") as stream:
        file = ELFFile(stream)
        for section in file.iter_sections():
            if isinstance(section, GNUVerNeedSection):
                for need, versions in section.iter_versions():
                    names.update({one["vna_other"]: (one.name, need.name) for one in versions})
            elif isinstance(section, GNUVerDefSection):
                for definition, auxiliaries in section.iter_versions():
                    if not definition["vd_flags"] & 1:
                        names[definition["vd_ndx"]] = (next(auxiliaries).name, None)
        indexes = next(file.iter_sections("SHT_GNU_versym"), None)
        for table in file.iter_sections("SHT_DYNSYM"):
            assert isinstance(table, SymbolTableSection)
            assert isinstance(indexes, GNUVerSymSection | None)
            for number, symbol in enumerate(table.iter_symbols()):
                index = indexes.get_symbol(number)["ndx"] if indexes is not None else 0
                version, library = names.get(index & 0x7FFF, (None, None)) if isinstance(index, int) else (None, None)
                defined = symbol.entry["st_shndx"] != "SHN_UNDEF"
                weak = symbol.entry["st_info"]["bind"] == "STB_WEAK"
                if symbol.name:
                    found.append(Symbol(symbol.name, version, defined, weak, library))
    return found


HOST_FILES = sorted(Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("_s*.so"))


@pytest.mark.parametrize(
    "path", [*sorted(DATA.glob("*.so*")), DATA / "program", *HOST_FILES], ids=lambda path: path.name
)
def test_symbols_are_what_another_reader_finds(path: Path) -> None:
    expected = by_pyelftools(path)
    assert list(elf.symbol_table(path) or ()) == expected
    table = elf.symbol_table(path)
    if table is None:
        assert expected == []
        return
    assert [one for one in expected if not (one.defined or one.weak)] == list(table.undefined())
    assert {one.name for one in expected if one.defined} == table.defined
    with path.open("rb") as stream:
        assert list(elf.symbol_table(stream) or ()) == expected


def test_symbols_are_found_without_a_section_table() -> None:
    whole = bytearray((DATA / "libversioned_2.so.1").read_bytes())
    expected = list(elf.symbol_table(io.BytesIO(whole)) or ())
    whole[40:48] = bytes(8)  # e_shoff
    whole[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
    assert list(elf.symbol_table(io.BytesIO(whole)) or ()) == expected != []
    nothing_found = bytearray((DATA / "needs_used.so").read_bytes())
    nothing_found[40:48] = bytes(8)
    assert [one.name for one in elf.symbol_table(io.BytesIO(nothing_found)) or () if not one.defined] == ["used"]


def test_a_symbol_that_no_relocation_names_is_not_looked_up() -> None:
    data = (DATA / "crc.so").read_bytes()
    table = elf.symbol_table(io.BytesIO(data), relocations=True)
    assert table is not None
    assert [one.name for one in table.undefined()] == ["crc32"]
    cut = patched("crc.so", data.index(struct.pack("<QQ", 2, 24)) + 8, bytes(1))  # DT_PLTRELSZ
    table = elf.symbol_table(cut, relocations=True)
    assert table is not None
    assert list(table.undefined()) == []


def test_counts_of_symbols_that_a_file_lies_about_cost_no_memory() -> None:
    data = (DATA / "glibc_2_34.so").read_bytes()
    at = data.index(struct.pack("<Q", 0x6FFFFEF5))  # DT_GNU_HASH
    (table,) = struct.unpack_from("<Q", data, at + 8)
    tracemalloc.start()
    try:
        for offset, value in ((0, 0xFFFF_FFFF), (0, 1 << 20), (8, 0xFFFF_FFFF), (8, 1 << 20), (4, 1 << 31)):
            damaged = patched("glibc_2_34.so", table + offset, struct.pack("<I", value))
            assert elf.symbol_table(damaged) is None or offset == 4
        chain = patched("glibc_2_34.so", table + 16 + 8, struct.pack("<I", 1 << 30))  # the first bucket
        assert elf.symbol_table(chain) is None
        strings = data.index(struct.pack("<Q", 10), at - 200)  # DT_STRSZ
        assert elf.symbol_table(patched("glibc_2_34.so", strings + 8, struct.pack("<Q", 1 << 40))) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def hostile(tags: dict[int, int], data: bytes) -> io.BytesIO:
    """Make a shared object of one segment: its dynamic tags from 0x1000 on, and `data` from 0x2000 on."""
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags.items(), (0, 0)))
    whole = bytearray(0x2000) + data
    whole[:64] = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    whole[64:176] = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, len(whole), len(whole), 0x1000) + struct.pack(
        "<IIQQQQQQ", 2, 4, 0x1000, 0x1000, 0x1000, len(dynamic), len(dynamic), 8
    )
    whole[0x1000 : 0x1000 + len(dynamic)] = dynamic
    return io.BytesIO(whole)


@pytest.mark.parametrize(("count", "bounded"), [(10, True), (20_000, False)])
def test_versions_that_all_lead_to_the_same_versions_cost_no_time(count: int, *, bounded: bool) -> None:
    heads = b"".join(struct.pack("<HHIII", 1, count, 1, 16 * (count - at), 16) for at in range(count))
    versions = struct.pack("<IHHII", 0, 0, 2, 1, 16) * count
    symbols = bytes(24) * 2 + b"\0name\0"
    tags = {5: 0x2030, 6: 0x2000, 10: 6, 4: 0x2040, 0x6FFFFFF0: 0x2000, 0x6FFFFFFE: 0x2050, 0x6FFFFFFF: count}
    file = hostile(tags, symbols.ljust(0x40, b"\0") + struct.pack("<IIQ", 1, 2, 0) + heads + versions)
    started = time.process_time()
    assert (elf.symbol_table(file) is None) is not bounded
    file.seek(0)
    native = elf.read(file)
    if not bounded:
        assert native == Malformed(reason="the ELF file has more symbol versions than any")
    else:
        assert isinstance(native, ElfFile)
        assert native.version_needs == {"name": {"name": False}}
    assert time.process_time() - started < 5


@pytest.mark.parametrize("length", [30_000, 3_000_000])
def test_symbols_that_all_have_the_same_long_name_cost_no_memory(length: int) -> None:
    count = 20_000
    symbols = struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 1, 0) * count
    strings = b"\0" + b"a" * length + b"\0"
    at = 0x2000 + len(symbols)
    tags = {5: at, 6: 0x2000, 10: len(strings), 4: at + len(strings)}
    file = hostile(tags, symbols + strings + struct.pack("<II", 1, count))
    tracemalloc.start()
    try:
        table = elf.symbol_table(file)
        assert table is not None
        assert table.defined == frozenset()
        assert len(list(table)) < 10
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["glibc_2_34.so", "libversioned_2.so.1", "needs_used.so", "s390x.so", "i686.so"]), st.data())
def test_no_damage_to_symbols_is_more_than_none(name: str, data: st.DataObject) -> None:
    whole = bytearray((DATA / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, min(len(whole), 3000) - 9))
        whole[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    began = time.process_time()
    table = elf.symbol_table(io.BytesIO(whole), relocations=True)
    if table is not None:
        assert all(isinstance(one.name, str) for one in (*table, *table.undefined()))
        assert isinstance(table.defined, frozenset)
    assert time.process_time() - began < 1


def test_a_deflated_library_of_a_hundred_megabytes_is_read_in_little_memory(tmp_path: Path) -> None:
    data = (DATA / "glibc_2_34.so").read_bytes()
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    path = tmp_path / "member"
    with path.open("wb") as file:
        file.write(compressor.compress(data))
        for _ in range(100):
            file.write(compressor.compress(bytes(1 << 20)))
        file.write(compressor.flush())
    size = len(data) + (100 << 20)
    tracemalloc.start()
    try:
        with open_content(Span(path, 0, path.stat().st_size, DEFLATED, 0, size)) as stream:
            native = elf.read(stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert native == facts("glibc_2_34.so")
    assert peak < 20 << 20
