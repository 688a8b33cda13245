"""Native files: what an ELF, Mach-O or PE file says about itself, found by content and never by name.

The facts belong to the bytes: they never change, so whoever reads them may keep them by the file's hash (`to_json`).
Read is what the dynamic loader reads (program headers and the dynamic segment), not the section table, which a
stripped file does not have and a hostile one may lie in. Knows nothing of Lambda.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from elftools.elf.elffile import ELFFile

HEAD_SIZE: Final = 64
"""Bytes that `sniff` wants; the smallest native file is smaller than that, and useless."""

_SPOOLED: Final = 4 << 20
_CHUNK: Final = 1 << 20
_MAX_STRING: Final = 4096
_MAX_DYNAMIC_TAGS: Final = 4096
_MAX_VERSIONS: Final = 65_536
_MAX_SEGMENTS: Final = 1024
_MAX_NOTES: Final = 1 << 16
_MAX_SYMBOLS: Final = 3 << 20
_MAX_NAMES: Final = 128 << 20
_MAX_NAME: Final = 32 << 10
"""Bytes of a symbol's name; C++ makes them longer than any text. A longer one is passed over wherever it stands."""
_MAX_RELOCATIONS: Final = 64 << 20

_ELF_MACHINES: Final = {
    3: "i686", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64",
    190: "cuda", 224: "amdgpu", 243: "riscv64", 247: "bpf", 258: "loongarch64",
}  # fmt: skip
_MACH_O_MACHINES: Final = {0x7: "i386", 0x0100_0007: "x86_64", 0xC: "armv7", 0x0100_000C: "arm64"}
_PE_MACHINES: Final = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "arm64", 0x1C4: "armv7"}
_ELF_KINDS: Final = {1: "relocatable", 2: "executable", 3: "shared", 4: "core"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE, _PT_GNU_STACK = 1, 2, 3, 4, 0x6474_E551
_PF_X: Final = 1
_DF_TEXTREL, _DF_STATIC_TLS = 4, 0x10
_X86_ISA_NEEDED: Final = 0xC000_8002
_VERSION_WEAK, _VERSION_BASE = 2, 1
_DT_PLTRELSZ, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ = 2, 4, 5, 6, 7, 8
_DT_STRSZ, _DT_REL, _DT_RELSZ, _DT_PLTREL, _DT_JMPREL = 10, 17, 18, 20, 23
_DT_GNU_HASH, _DT_VERSYM = 0x6FFF_FEF5, 0x6FFF_FFF0
_DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFF_FFFC, 0x6FFF_FFFD, 0x6FFF_FFFE, 0x6FFF_FFFF
_SHT_DYNSYM: Final = 11
_STB_LOCAL, _STB_WEAK = 0, 2


# NamedTuples and not dataclasses, here and in the rooms that build on it: making a class of the latter takes five times
# as long, and the audit of a package whose facts are known is little more than a start-up.
class ElfFile(NamedTuple):
    """What the Linux loader sees of a file."""

    machine: str
    """As `uname -m` says it: `x86_64`, `aarch64`; `cuda`, `bpf` for code of other processors."""
    version_needs: Mapping[str, Mapping[str, bool]]
    """Library -> symbol version -> whether the need is weak."""
    bits: int = 64
    little_endian: bool = True
    kind: str = "shared"
    """`shared`, `executable` (also a position-independent one), `relocatable` or `core`."""
    os_abi: int = 0
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    version_definitions: tuple[str, ...] = ()
    isa_level: int = 0
    """N of the x86-64-vN that the file says it needs; 0 where it says nothing."""
    executable_stack: bool = False
    text_relocations: bool = False
    static_tls: bool = False
    open_symbols: str = ""
    """Names, with spaces between, that must be defined by something outside of what the file came with; `read` cannot
    know them and leaves them empty (see `audits.native_facts`)."""

    @property
    def is_loaded_by_linux(self) -> bool:
        """Whether it is a shared object or program for a processor an operating system runs on."""
        return self.kind in {"shared", "executable"} and self.machine not in {"cuda", "amdgpu", "bpf"}


class ForeignFile(NamedTuple):
    """A binary of another operating system."""

    format: str
    """`Mach-O` (macOS) or `PE` (Windows)."""
    machines: tuple[str, ...]


class Malformed(NamedTuple):
    """A file that begins like a native one and cannot be read as one."""

    reason: str


NativeFile: TypeAlias = ElfFile | ForeignFile | Malformed


class Symbol(NamedTuple):
    """A name of the dynamic symbol table."""

    name: str
    version: str | None
    defined: bool
    weak: bool
    library: str | None = None
    """The soname that an undefined symbol's version is expected of."""


class SymbolTable:
    """The dynamic symbol table of a file: held as it stands there, names are made when they are asked for."""

    def __init__(
        self,
        records: tuple[struct.Struct, bytes],
        strings: bytes,
        hashed: int,
        versions: tuple[tuple[int, ...], Mapping[int, tuple[str, str | None]]],
        referenced: frozenset[int] | None,
    ) -> None:
        """Made by `symbol_table`: `hashed` is the number of the first symbol that others can find."""
        self._record, self._records = records
        self._strings = strings
        self._hashed = hashed
        self._indexes, self._versions = versions
        self._referenced = referenced
        self._defined: frozenset[str] | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self._records) + len(self._strings) + 8 * len(self._indexes)

    @property
    def defined(self) -> frozenset[str]:
        """The names that other files find here, whatever their version."""
        if self._defined is None:
            strings, find = self._strings, self._strings.find
            # The loader finds only what the hash table leads to: a tail of the table.
            tail = self._records[self._hashed * self._record.size :]
            starts = [
                name for name, info, _, section in self._record.iter_unpack(tail) if section and info >> 4 != _STB_LOCAL
            ]
            ends = [find(b"\0", start, start + _MAX_NAME) for start in starts]
            names: Iterable[bytes] = ()
            if sum(ends) - sum(starts) <= self._budget:
                names = [strings[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
            self._defined = frozenset([name.decode("utf-8", "backslashreplace") for name in names])
        return self._defined

    def undefined(self) -> Iterator[Symbol]:
        """Yield what must be found elsewhere, without what may stay missing (weak) or what no relocation asks for."""
        # Of what is never looked up, an undefined symbol stands before the first that can be found.
        head = self._records[: self._hashed * self._record.size] if self._hashed > 1 else self._records
        yield from self._symbols(
            (number, name, info, section)
            for number, (name, info, _, section) in enumerate(self._record.iter_unpack(head))
            if not section
            and info >> 4 not in {_STB_LOCAL, _STB_WEAK}
            and (self._referenced is None or number in self._referenced)
        )

    def __iter__(self) -> Iterator[Symbol]:
        """Yield every symbol that has a name, in the order of the file."""
        records = enumerate(self._record.iter_unpack(self._records))
        yield from self._symbols((number, name, info, section) for number, (name, info, _, section) in records)

    def _symbols(self, records: Iterable[tuple[int, int, int, int]]) -> Iterator[Symbol]:
        strings, find = self._strings, self._strings.find
        left = self._budget
        for number, start, info, section in records:
            end = find(b"\0", start, start + _MAX_NAME)
            if end <= start:
                continue
            left -= end - start
            if left < 0:
                return
            version, library = self._version(number)
            name = strings[start:end].decode("utf-8", "backslashreplace")
            yield Symbol(name, version, bool(section), info >> 4 == _STB_WEAK, library)

    @property
    def _budget(self) -> int:
        """Bytes of names to make: linkers let names share their ends, liars let all be the longest."""
        return 4 * len(self._strings) + (1 << 16)

    def _version(self, number: int) -> tuple[str | None, str | None]:
        if number >= len(self._indexes):
            return None, None
        return self._versions.get(self._indexes[number] & 0x7FFF, (None, None))


class _Damaged(Exception):
    """The file contradicts itself; the text says how."""


def sniff(head: bytes) -> str | None:
    """Return `elf`, `mach-o` or `pe` for a file that begins with `head` (`HEAD_SIZE` bytes), else None.

    A PE is only told from other files that begin with `MZ` once it is read.
    """
    magic = head[:4]
    if magic == b"\x7fELF":
        return "elf"
    if magic in {b"\xfe\xed\xfa\xce", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe"}:
        return "mach-o"
    # Java classes begin like fat Mach-O files, with a version of 45 and more where those count their machines.
    if magic in {b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"} and 0 < int.from_bytes(head[4:8], "big") < 32:
        return "mach-o"
    return "pe" if magic[:2] == b"MZ" else None


def read(source: os.PathLike[str] | IO[bytes]) -> NativeFile | None:
    """Return the facts of a native file, or None for any other file.

    A stream need not be seekable: it is spooled to a temporary file, a few MiB of memory whatever its size.
    """
    with _seekable(source) as (stream, head):
        return _read_seekable(stream, head)


def read_with_symbols(source: os.PathLike[str] | IO[bytes]) -> tuple[NativeFile | None, SymbolTable | None]:
    """Do as `read` and `symbol_table` do, and read the source once."""
    with _seekable(source) as (stream, head):
        native = _read_seekable(stream, head)
        return native, _symbol_table(stream, head) if isinstance(native, ElfFile) else None


def symbol_table(source: os.PathLike[str] | IO[bytes], *, relocations: bool = False) -> SymbolTable | None:
    """Return the dynamic symbols of an ELF file; None where it has none, or none that can be read.

    Read is what the loader reads, a megabyte in a few milliseconds. With `relocations`, `undefined` leaves out what the
    loader would never look up.
    """
    with _seekable(source) as (stream, head):
        return _symbol_table(stream, head, relocations=relocations)


@contextmanager
def _seekable(source: os.PathLike[str] | IO[bytes]) -> Iterator[tuple[IO[bytes], bytes]]:
    if isinstance(source, os.PathLike):
        with open(source, "rb") as stream:  # noqa: PTH123 - pathlib is not imported for this
            yield stream, stream.read(HEAD_SIZE)
        return
    head = source.read(HEAD_SIZE)
    if sniff(head) is None or source.seekable():
        yield source, head
        return
    with _spooled(source, head) as stream:
        yield stream, head


@contextmanager
def _spooled(source: IO[bytes], head: bytes) -> Iterator[IO[bytes]]:
    """Give a seekable copy of `head` and what is left of `source`: small in memory, large in a temporary file."""
    from tempfile import SpooledTemporaryFile

    with SpooledTemporaryFile(max_size=_SPOOLED, prefix="manylambda-") as copy:
        copy.write(head)
        while chunk := source.read(_CHUNK):
            copy.write(chunk)
        copy.seek(0)
        yield copy


def to_json(native: NativeFile) -> dict[str, Any]:
    """Return plain data from which `from_json` makes an equal value; what is usual is left out."""
    if isinstance(native, Malformed):
        return {"malformed": native.reason}
    if isinstance(native, ForeignFile):
        return {"format": native.format, "machines": native.machines}
    data: dict[str, Any] = {"machine": native.machine, "version_needs": native.version_needs}
    for name, usual in ElfFile._field_defaults.items():
        value = getattr(native, name)
        if value != usual:
            data[name] = value
    return data


def from_json(data: Mapping[str, Any]) -> NativeFile:
    """Read what `to_json` wrote."""
    if "malformed" in data:
        return Malformed(reason=data["malformed"])
    if "format" in data:
        return ForeignFile(format=data["format"], machines=tuple(data["machines"]))
    # A list where a tuple belongs is what JSON makes of it; everything else is as it was.
    fields: dict[str, Any] = {name: tuple(value) if type(value) is list else value for name, value in data.items()}
    return ElfFile(**fields)


def _parser_failures() -> tuple[type[Exception], ...]:
    """Return what pyelftools raises on damaged files: it trusts offsets, sizes and encodings that it reads."""
    from elftools.common.exceptions import ELFError
    from elftools.construct.core import ConstructError

    return (
        ELFError, ConstructError, AssertionError, AttributeError, EOFError, IndexError, KeyError, MemoryError, OSError,
        OverflowError, RecursionError, TypeError, UnicodeError, ValueError,
    )  # fmt: skip


def _read_seekable(stream: IO[bytes], head: bytes) -> NativeFile | None:
    match sniff(head):
        case "elf":
            return _read_elf(stream)
        case "mach-o":
            return _read_mach_o(stream, head)
        case "pe":
            return _read_pe(stream, head)
        case _:
            return None


def _read_elf(stream: IO[bytes]) -> ElfFile | Malformed:
    from elftools.elf.elffile import ELFFile

    stream.seek(0)
    try:
        return _parse_elf(ELFFile(stream), stream)
    except _Damaged as damage:
        return Malformed(reason=str(damage))
    except _parser_failures():
        return Malformed(reason="the ELF file is damaged or cut short")


def _parse_elf(file: ELFFile, stream: IO[bytes]) -> ElfFile:
    from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE

    header = file.header
    machine = _number(header["e_machine"], ENUM_E_MACHINE)
    kind = _ELF_KINDS.get(_number(header["e_type"], ENUM_E_TYPE), "other")
    segments = _segments(file, stream)
    facts: dict[str, Any] = {
        "machine": _ELF_MACHINES.get(machine, f"machine-{machine}"),
        "bits": file.elfclass,
        "little_endian": file.little_endian,
        "os_abi": file.e_ident_raw[7],
    }
    has_stack_header = False
    version_needs: Mapping[str, Mapping[str, bool]] = {}
    for segment in segments:
        if segment.offset + segment.file_size > file.stream_len and segment.type in {_PT_LOAD, _PT_DYNAMIC}:
            raise _Damaged("the ELF file is cut short")
        if segment.type == _PT_INTERP:
            facts["interpreter"] = _string(stream, segment.offset)
        elif segment.type == _PT_GNU_STACK:
            has_stack_header = True
            facts["executable_stack"] = bool(segment.flags & _PF_X)
        elif segment.type == _PT_NOTE:
            facts["isa_level"] = max(facts.get("isa_level", 0), _isa_level(file, segment))
        elif segment.type == _PT_DYNAMIC:
            dynamic = _Dynamic(file, stream, segments, segment)
            if segment.file_size and not dynamic.has_tables:
                raise _Damaged("the ELF file has no table of symbols")
            facts.update(dynamic.facts())
            version_needs = dynamic.version_needs()
            facts["version_definitions"] = dynamic.version_definitions()
    if "interpreter" in facts and facts.get("soname") is None:
        kind = "executable"  # a library that can be run, such as libc or libQt5Core, has a name to be needed by
    if kind == "shared" and not has_stack_header and any(segment.type == _PT_DYNAMIC for segment in segments):
        facts["executable_stack"] = True  # what the loader takes the absence of the header to mean
    return ElfFile(**facts, kind=kind, version_needs=version_needs)


class _Segment(NamedTuple):
    type: int
    flags: int
    offset: int
    address: int
    file_size: int


def _segments(file: ELFFile, stream: IO[bytes]) -> tuple[_Segment, ...]:
    from elftools.common.utils import struct_parse
    from elftools.elf.enums import ENUM_P_TYPE_BASE

    header = file.header
    count = header["e_phnum"]
    if count > _MAX_SEGMENTS:
        raise _Damaged(f"the ELF file says that it has {count} segments")
    found: list[_Segment] = []
    for number in range(count):
        entry = struct_parse(
            file.structs.Elf_Phdr, stream, stream_pos=header["e_phoff"] + number * header["e_phentsize"]
        )
        found.append(
            _Segment(
                _number(entry["p_type"], ENUM_P_TYPE_BASE),
                entry["p_flags"],
                entry["p_offset"],
                entry["p_vaddr"],
                entry["p_filesz"],
            )
        )
    return tuple(found)


class _Dynamic:
    """The dynamic segment, read as the loader does: by address, bounded by what the segments map."""

    def __init__(self, file: ELFFile, stream: IO[bytes], segments: tuple[_Segment, ...], segment: _Segment) -> None:
        from elftools.common.utils import struct_parse

        self._structs = file.structs
        self._stream = stream
        self._loads = [one for one in segments if one.type == _PT_LOAD]
        self._tags: dict[str, list[int]] = {}
        self._records_left = _MAX_VERSIONS
        size = file.structs.Elf_Dyn.sizeof()
        for number in range(min(segment.file_size // size, _MAX_DYNAMIC_TAGS)):
            tag = struct_parse(file.structs.Elf_Dyn, stream, stream_pos=segment.offset + number * size)
            name = tag["d_tag"]
            if name == "DT_NULL":
                break
            if isinstance(name, str):
                self._tags.setdefault(name, []).append(tag["d_val"])
        strings = self._value("DT_STRTAB")
        self._strings = self._file_offset(strings) if strings else None

    @property
    def has_tables(self) -> bool:
        """Whether it leads to symbols and their names, without which the loader crashes."""
        return "DT_SYMTAB" in self._tags and "DT_STRTAB" in self._tags

    def facts(self) -> dict[str, Any]:
        flags = self._value("DT_FLAGS")
        soname = self._tags.get("DT_SONAME")
        return {
            "soname": self._text(soname[0]) if soname else None,
            "needed": tuple(self._text(offset) for offset in self._tags.get("DT_NEEDED", ())),
            "rpath": self._search_path("DT_RPATH"),
            "runpath": self._search_path("DT_RUNPATH"),
            "text_relocations": "DT_TEXTREL" in self._tags or bool(flags & _DF_TEXTREL),
            "static_tls": bool(flags & _DF_STATIC_TLS),
        }

    def version_needs(self) -> Mapping[str, Mapping[str, bool]]:
        needs: dict[str, dict[str, bool]] = {}
        for need in self._chain("DT_VERNEED", "DT_VERNEEDNUM", self._structs.Elf_Verneed, "vn_next"):
            versions = needs.setdefault(self._text(need["vn_file"]), {})
            offset = need["offset"] + need["vn_aux"]
            for version in self._records(self._structs.Elf_Vernaux, offset, need["vn_cnt"], "vna_next"):
                weak = bool(version["vna_flags"] & _VERSION_WEAK)
                name = self._text(version["vna_name"])
                versions[name] = weak and versions.get(name, True)
        return needs

    def version_definitions(self) -> tuple[str, ...]:
        names: list[str] = []
        for definition in self._chain("DT_VERDEF", "DT_VERDEFNUM", self._structs.Elf_Verdef, "vd_next"):
            if definition["vd_flags"] & _VERSION_BASE:
                continue  # names the file itself
            offset = definition["offset"] + definition["vd_aux"]
            names.extend(
                self._text(auxiliary["vda_name"])
                for auxiliary in self._records(self._structs.Elf_Verdaux, offset, 1, "vda_next")
            )
        return tuple(names)

    def _chain(self, tag: str, count_tag: str, struct: Any, following: str) -> Iterator[dict[str, Any]]:
        address, count = self._value(tag), self._value(count_tag)
        if address and count:
            yield from self._records(struct, self._file_offset(address), count, following)

    def _records(self, struct: Any, offset: int, count: int, following: str) -> Iterator[dict[str, Any]]:
        """Yield linked records; each knows how far off the next one is, and none may lie before the last."""
        from elftools.common.utils import struct_parse

        if count > _MAX_VERSIONS:
            raise _Damaged(f"the ELF file says that it has {count} symbol versions")
        for _ in range(count):
            self._records_left -= 1
            if self._records_left < 0:
                raise _Damaged("the ELF file has more symbol versions than any")
            record = struct_parse(struct, self._stream, stream_pos=offset)
            yield {**record, "offset": offset}
            if record[following] == 0:
                return
            offset += record[following]

    def _value(self, tag: str) -> int:
        return self._tags.get(tag, [0])[0]

    def _search_path(self, tag: str) -> tuple[str, ...]:
        return tuple(folder for offset in self._tags.get(tag, ()) for folder in self._text(offset).split(":") if folder)

    def _text(self, offset: int) -> str:
        if self._strings is None:
            raise _Damaged("the ELF file has no table of strings")
        return _string(self._stream, self._strings + offset)

    def _file_offset(self, address: int) -> int:
        for load in self._loads:
            if load.address <= address < load.address + load.file_size:
                return address - load.address + load.offset
        raise _Damaged("the ELF file points outside of itself")


def _string(stream: IO[bytes], offset: int) -> str:
    stream.seek(offset)
    text, end, _ = stream.read(_MAX_STRING).partition(b"\0")
    if not end:
        raise _Damaged("a name in the ELF file has no end")
    return text.decode("utf-8", "backslashreplace")


def _isa_level(file: ELFFile, segment: _Segment) -> int:
    from elftools.elf.notes import iter_notes

    if file["e_machine"] != "EM_X86_64" or segment.file_size > _MAX_NOTES:
        return 0
    bits = 0
    try:
        for note in iter_notes(file, segment.offset, segment.file_size):
            if note["n_type"] == "NT_GNU_PROPERTY_TYPE_0" and not isinstance(note["n_desc"], str | bytes):
                for entry in note["n_desc"]:
                    if entry["pr_type"] in {_X86_ISA_NEEDED, "GNU_PROPERTY_X86_ISA_1_NEEDED"}:
                        bits |= _property_bits(entry["pr_data"])
    except _parser_failures():
        return 0  # the loader does not mind notes that it cannot read
    return (bits & 0xF).bit_length()


def _property_bits(data: Any) -> int:
    if isinstance(data, int):
        return data
    return int.from_bytes(bytes(data), "little")


def _symbol_table(stream: IO[bytes], head: bytes, *, relocations: bool = False) -> SymbolTable | None:
    if sniff(head) != "elf":
        return None
    try:
        return _SymbolReader(stream, head).table(relocations=relocations)
    except (_Damaged, struct.error, IndexError, OSError, OverflowError, ValueError):
        return None


class _SymbolReader:
    """The symbols by the dynamic segment, in bulk: pyelftools takes 10 us for each, and libraries have 60,000."""

    def __init__(self, stream: IO[bytes], head: bytes) -> None:
        self._stream = stream
        self._wide = head[4] == 2
        self._order = "<" if head[5] == 1 else ">"
        header = self._at(0, HEAD_SIZE if self._wide else 52)
        offset, sections = self._unpack("QQ" if self._wide else "II", header, 32 if self._wide else 28)
        size, count, section_size, self._section_count = self._unpack("HHHH", header, 54 if self._wide else 42)
        self._sections = (sections, section_size)
        self._links_left = _MAX_VERSIONS
        if count > _MAX_SEGMENTS:
            raise _Damaged(f"the ELF file says that it has {count} segments")
        self._loads: list[tuple[int, int, int]] = []
        """Address, bytes in the file, offset in the file."""
        self._tags: dict[int, int] = {}
        dynamic: tuple[int, int] | None = None
        program = self._at(offset, size * count)
        for number in range(count):
            if self._wide:
                kind, _, start, address, _, length = self._unpack("IIQQQQ", program, number * size)
            else:
                kind, start, address, _, length = self._unpack("IIIII", program, number * size)
            if kind == _PT_LOAD:
                self._loads.append((address, length, start))
            elif kind == _PT_DYNAMIC:
                dynamic = (start, length)
        if dynamic is not None:
            entry = struct.Struct(self._order + ("QQ" if self._wide else "II"))
            length = min(dynamic[1], _MAX_DYNAMIC_TAGS * entry.size)
            for tag, value in entry.iter_unpack(self._at(dynamic[0], length - length % entry.size)):
                if tag == 0:
                    break
                self._tags[tag] = value

    def table(self, *, relocations: bool) -> SymbolTable | None:
        tags = self._tags
        if not tags.get(_DT_SYMTAB) or not tags.get(_DT_STRTAB):
            return None
        count, hashed = self._count()
        record = struct.Struct(self._order + ("IBBH16x" if self._wide else "I8xBBH"))
        if count > _MAX_SYMBOLS or tags.get(_DT_STRSZ, 0) > _MAX_NAMES:
            return None
        records = self._mapped(tags[_DT_SYMTAB], count * record.size)
        strings = self._mapped(tags[_DT_STRTAB], tags.get(_DT_STRSZ, 0))
        if not strings.endswith(b"\0"):
            raise _Damaged("a name in the ELF file has no end")
        indexes: tuple[int, ...] = ()
        versions: dict[int, tuple[str, str | None]] = {}
        if tags.get(_DT_VERSYM):
            indexes = self._unpack(f"{count}H", self._mapped(tags[_DT_VERSYM], 2 * count), 0)
            versions = {**self._defined_versions(strings), **self._needed_versions(strings)}
        referenced = self._referenced() if relocations else None
        return SymbolTable((record, records), strings, hashed, (indexes, versions), referenced)

    def _count(self) -> tuple[int, int]:
        """Return how many symbols there are and the first that the hash table leads to; no table says the former."""
        count = hashed = 1
        if address := self._tags.get(_DT_GNU_HASH):
            buckets, hashed, words, _ = self._unpack("IIII", self._mapped(address, 16), 0)
            if buckets > _MAX_SYMBOLS or words > _MAX_SYMBOLS:
                raise _Damaged(f"the ELF file says that it has {buckets} hash buckets")
            address += 16 + words * (8 if self._wide else 4)
            last = max(self._unpack(f"{buckets}I", self._mapped(address, 4 * buckets), 0), default=0)
            if last >= hashed:
                return self._end_of_chain(address + 4 * buckets - 4 * hashed, last), hashed
            count = 0  # nothing can be found here, and how much is sought this table does not tell
        if address := self._tags.get(_DT_HASH):
            count = max(count, self._unpack("II", self._mapped(address, 8), 0)[1])
            return count, count if hashed > 1 else 1
        count = self._count_by_sections()
        return count, count

    def _end_of_chain(self, chains: int, number: int) -> int:
        while number <= _MAX_SYMBOLS:
            part = self._mapped(chains + 4 * number, 4 * 256, at_least=4)
            for value in self._unpack(f"{len(part) // 4}I", part, 0):
                number += 1
                if value & 1:
                    return number
        raise _Damaged("the ELF file has a chain of symbols without end")

    def _count_by_sections(self) -> int:
        offset, size = self._sections
        table = self._at(offset, size * self._section_count) if offset and self._section_count else b""
        for at in range(0, len(table), size or 1):
            if self._unpack("I", table, at + 4)[0] == _SHT_DYNSYM:
                length = self._unpack("Q" if self._wide else "I", table, at + (32 if self._wide else 20))[0]
                return int(length) // (24 if self._wide else 16)
        # All linkers place the names right behind the symbols.
        between = self._tags[_DT_STRTAB] - self._tags[_DT_SYMTAB]
        return between // (24 if self._wide else 16) if between > 0 else 1

    def _needed_versions(self, strings: bytes) -> dict[int, tuple[str, str | None]]:
        found: dict[int, tuple[str, str | None]] = {}
        for at, (_, count, library, first) in self._linked(_DT_VERNEED, _DT_VERNEEDNUM, "HHII", 12):
            soname = _name_in(strings, library)
            for _, (_, _, index, name) in self._links(at + first, min(count, _MAX_VERSIONS), "IHHI", 12):
                found[index & 0x7FFF] = (_name_in(strings, name), soname)
        return found

    def _defined_versions(self, strings: bytes) -> dict[int, tuple[str, str | None]]:
        found: dict[int, tuple[str, str | None]] = {}
        for at, (_, flags, index, _, _, first) in self._linked(_DT_VERDEF, _DT_VERDEFNUM, "HHHHII", 16):
            if not flags & _VERSION_BASE:
                found[index & 0x7FFF] = (_name_in(strings, self._unpack("I", self._mapped(at + first, 4), 0)[0]), None)
        return found

    def _linked(self, tag: int, count: int, layout: str, following: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        if address := self._tags.get(tag):
            yield from self._links(address, min(self._tags.get(count, 0), _MAX_VERSIONS), layout, following)

    def _links(self, address: int, count: int, layout: str, following: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield the address and fields of linked records, whose last field says how far off the next one is."""
        for _ in range(count):
            self._links_left -= 1
            if self._links_left < 0:
                raise _Damaged("the ELF file has more symbol versions than any")
            record = self._mapped(address, following + 4)
            yield address, self._unpack(layout, record, 0)
            step = self._unpack("I", record, following)[0]
            if step == 0:
                return
            address += step

    def _referenced(self) -> frozenset[int]:
        """Return the numbers of the symbols that relocations name."""
        tags = self._tags
        addends = tags.get(_DT_PLTREL, _DT_RELA) == _DT_RELA
        tables = (
            (tags.get(_DT_RELA), tags.get(_DT_RELASZ, 0), True),
            (tags.get(_DT_REL), tags.get(_DT_RELSZ, 0), False),
            (tags.get(_DT_JMPREL), tags.get(_DT_PLTRELSZ, 0), addends),
        )
        found: set[int] = set()
        shift = 32 if self._wide else 8
        for address, size, with_addend in tables:
            if address and size:
                word = "Q" if self._wide else "I"
                skip = 8 if self._wide else 4
                entry = struct.Struct(f"{self._order}{skip}x{word}{skip if with_addend else 0}x")
                if size > _MAX_RELOCATIONS:
                    raise _Damaged("the ELF file says that it has more relocations than any")
                data = self._mapped(address, size - size % entry.size)
                found.update([info >> shift for (info,) in entry.iter_unpack(data)])
        return frozenset(found)

    def _unpack(self, layout: str, data: bytes, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + layout, data, at)

    def _mapped(self, address: int, size: int, *, at_least: int | None = None) -> bytes:
        """Return `size` bytes of what is loaded at `address`, or `at_least` so many where the mapping ends before."""
        for start, length, offset in self._loads:
            if start <= address < start + length:
                left = start + length - address
                if left < size and (at_least is None or left < at_least):
                    break
                return self._at(address - start + offset, min(size, left))
        raise _Damaged("the ELF file points outside of itself")

    def _at(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) < size:
            raise _Damaged("the ELF file is cut short")
        return data


def _name_in(strings: bytes, start: int) -> str:
    end = strings.find(b"\0", start, start + _MAX_STRING)
    if end < 0:
        raise _Damaged("a name in the ELF file has no end")
    return strings[start:end].decode("utf-8", "backslashreplace")


def _number(value: object, names: Mapping[str, int]) -> int:
    """Undo what pyelftools does to numbers that it has a name for; -1 for what only one machine has."""
    return names.get(value, -1) if isinstance(value, str) else int(str(value))


def _read_mach_o(stream: IO[bytes], head: bytes) -> ForeignFile | Malformed:
    magic = head[:4]
    if magic in {b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"}:
        size = 20 if magic[3] == 0xBE else 32
        stream.seek(8)
        table = stream.read(size * int.from_bytes(head[4:8], "big"))
        machines = tuple(
            _mach_o_machine(int.from_bytes(table[at : at + 4], "big")) for at in range(0, len(table), size)
        )
        return ForeignFile(format="Mach-O", machines=machines)
    if len(head) < 28:
        return Malformed(reason="the Mach-O file is cut short")
    machine = int.from_bytes(head[4:8], "big" if magic[0] == 0xFE else "little")
    return ForeignFile(format="Mach-O", machines=(_mach_o_machine(machine),))


def _mach_o_machine(number: int) -> str:
    return _MACH_O_MACHINES.get(number, f"machine-{number}")


def _read_pe(stream: IO[bytes], head: bytes) -> ForeignFile | None:
    if len(head) < HEAD_SIZE:
        return None
    stream.seek(int.from_bytes(head[60:64], "little"))
    header = stream.read(6)
    if header[:4] != b"PE\0\0":
        return None
    machine = int.from_bytes(header[4:6], "little")
    return ForeignFile(format="PE", machines=(_PE_MACHINES.get(machine, f"machine-{machine}"),))
