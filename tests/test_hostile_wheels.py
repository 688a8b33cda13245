"""Hostile, damaged and confused wheels: each is refused with one clear line, or handled."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import PackagingError, UnsafeArchive
from manylambda.wheels.inventory import inspect, needs_repack, repack
from manylambda.wheels.layout import package_tree
from wheel_factory import BZIP2, FIFO, LZMA, REGULAR, SYMLINK, Part, changed, raw_zip, wheel_parts, write_parts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WHEEL = "demo-1.0-py3-none-any.whl"
INFO = "demo-1.0.dist-info"
TEXT = b"x = 1\n" * 50
AGAIN = "download or build it again"
UNSAFE_PATH = "a path must be relative, `/`-separated and free of `..`; do not use this file"
CHANGED = "the wheel was changed after it was built: do not use it"
INCOMPLETE = "it is not a complete wheel; build it again"
RENAMED = "the wheel was renamed or is damaged; build it again"


def honest(**files: bytes) -> list[Part]:
    return wheel_parts("demo", "1.0", {"demo.py": TEXT, **files})


def refusal(path: Path) -> tuple[str, str | None]:
    """Return message and hint of the refusal; the refusal leaves nothing behind."""
    with pytest.raises(UnsafeArchive) as error:
        inspect(path)
    assert "\n" not in error.value.message
    return error.value.message, error.value.hint


def refused(tmp_path: Path, parts: Sequence[Part]) -> tuple[str, str | None]:
    return refusal(write_parts(tmp_path / WHEEL, parts))


# --- names ---


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "demo/../../evil.py", "/etc/cron.d/evil", "//host/share/evil", "C:/evil.py", "C:evil.py", "a\\b.py",
     "..\\evil.py", "a\0.py", "a\nb.py", "./demo2.py", "demo//x.py", "..", "."],
)  # fmt: skip
def test_names_that_escape_are_refused(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, [*honest(), Part(name=name.encode(), data=b"evil")]) == (
        f"`{WHEEL}` has a member with an unsafe path: {name!r}",
        UNSAFE_PATH,
    )


def test_a_folder_member_that_escapes_is_refused(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, [*honest(), Part(name=b"../evil/")])
    assert message == f"`{WHEEL}` has a member with an unsafe path: '../evil/'"


def test_a_name_that_becomes_unsafe_once_it_is_placed_is_refused(tmp_path: Path) -> None:
    wheel = write_parts(tmp_path / WHEEL, wheel_parts("demo", "1.0", {"demo-1.0.data/purelib/C:/evil.py": b""}))
    with pytest.raises(UnsafeArchive) as error:
        package_tree(inspect(wheel), interpreter="/x")
    assert error.value.message == "unsafe path in an archive: 'C:/evil.py'"


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    message, hint = refused(tmp_path, [*honest(), Part(name=b"caf\xe9.py", flags=0x800)])
    assert message.startswith(f"`{WHEEL}` is not a valid wheel: 'utf-8' codec can't decode byte 0xe9")
    assert hint == AGAIN


def test_names_without_the_utf_8_flag_are_read_as_every_installer_reads_them(tmp_path: Path) -> None:
    inventory = inspect(write_parts(tmp_path / WHEEL, [*honest(), Part(name=b"caf\x82.py")]))
    assert inventory.unrecorded == ("café.py",)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    parts = honest()
    assert refused(tmp_path, [*parts, Part(name=b"demo.py", data=b"evil")])[0] == (
        f"`{WHEEL}` has two members of one name: `demo.py`"
    )


def test_a_file_and_a_folder_member_of_one_name_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, [*honest(), Part(name=b"demo.py/")])[0] == (
        f"`{WHEEL}` has two members of one name: `demo.py`"
    )


def test_a_file_where_another_member_needs_a_folder_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {"a": b"", "a-b": b"", "a/b.py": b""})
    with pytest.raises(PackagingError) as error:
        package_tree(inspect(write_parts(tmp_path / WHEEL, parts)), interpreter="/x")
    assert error.value.message == "`a` is a file of `demo`, and `demo` brings `a/b.py` below it"


def test_names_that_differ_between_the_headers_are_refused(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", local_name=b"evil.py")
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` names a member differently in its two headers: `demo.py`"


def test_a_unicode_path_field_that_names_another_file_is_refused_or_ignored(tmp_path: Path) -> None:
    field = struct.pack("<BI", 1, zlib.crc32(b"demo.py")) + b"evil.py"
    parts = changed(honest(), "demo.py", extra=struct.pack("<2H", 0x7075, len(field)) + field)
    wheel = write_parts(tmp_path / WHEEL, parts)
    with zipfile.ZipFile(wheel) as archive:
        is_read_by_this_python = "evil.py" in archive.namelist()
    if is_read_by_this_python:
        assert refusal(wheel)[0] == f"`{WHEEL}` has a member of two names: `demo.py` and `evil.py`"
    else:
        assert "demo.py" in {member.path for member in inspect(wheel).members}


# --- kinds of members ---


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    parts = [*honest(), Part(name=b"link", data=b"/etc/passwd", mode=SYMLINK | 0o777)]
    assert refused(tmp_path, parts) == (f"`{WHEEL}` has a symbolic link: `link`", "wheels hold files only")


@pytest.mark.parametrize("kind", [FIFO, 0o020000, 0o060000, 0o140000])
def test_devices_sockets_and_pipes_are_refused(tmp_path: Path, kind: int) -> None:
    assert refused(tmp_path, [*honest(), Part(name=b"odd", mode=kind | 0o644)])[0] == (
        f"`{WHEEL}` has a device, socket or pipe: `odd`"
    )


@pytest.mark.parametrize("flags", [0x1, 0x41, 0x2001])
def test_encrypted_members_are_refused(tmp_path: Path, flags: int) -> None:
    parts = changed(honest(), "demo.py", flags=flags)
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has an encrypted member: `demo.py`"


def test_members_encrypted_in_one_header_only_are_refused(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", local_flags=1)
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` describes a member differently in its two headers: `demo.py`"


def test_patched_members_are_refused(tmp_path: Path) -> None:
    parts = changed(honest(), f"{INFO}/METADATA", flags=0x20)
    message, _ = refused(tmp_path, parts)
    assert message.startswith(f"`{WHEEL}` is damaged at `{INFO}/METADATA`: ")


@pytest.mark.parametrize("method", [1, 6, 9, 93, 95, 98, 99])
def test_zstd_deflate64_and_other_methods_are_refused(tmp_path: Path, method: int) -> None:
    parts = changed(honest(), "demo.py", method=method)
    wheel = write_parts(tmp_path / WHEEL, parts)
    expected = (
        f"`{WHEEL}` has a member compressed with method {method}: `demo.py`",
        "Lambda and most installers read only stored and deflated members; repack the wheel",
    )
    assert refusal(wheel) == expected
    assert needs_repack(wheel)
    with pytest.raises(UnsafeArchive) as error:
        repack(wheel, tmp_path / "out.whl")
    assert (error.value.message, error.value.hint) == expected
    assert not (tmp_path / "out.whl").exists()


# --- sizes ---


@pytest.mark.parametrize("size", [0, len(TEXT) - 1, len(TEXT) + 1, 1 << 30])
def test_sizes_that_lie_are_refused(tmp_path: Path, size: int) -> None:
    parts = changed(honest(), "demo.py", size=size, local_size=size)
    assert refused(tmp_path, parts) == (
        f"`{WHEEL}` is damaged at `demo.py`: a member is not as long as its header says",
        AGAIN,
    )


@pytest.mark.parametrize("size", [0, 10, 1 << 30])
def test_sizes_of_stored_members_that_lie_are_refused(tmp_path: Path, size: int) -> None:
    parts = wheel_parts("demo", "1.0", {"demo.py": TEXT}, method=0)
    assert refused(tmp_path, changed(parts, "demo.py", size=size))[0] == (
        f"`{WHEEL}` is damaged at `demo.py`: a member is not as long as its header says"
    )


@pytest.mark.parametrize(
    "fields",
    [{"local_size": 5}, {"local_crc32": 5}, {"local_method": 0}, {"local_method": 93}],
)
def test_headers_that_disagree_are_refused(tmp_path: Path, fields: dict[str, int]) -> None:
    parts = changed(honest(), "demo.py", **fields)
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` describes a member differently in its two headers: `demo.py`"


def test_bytes_hidden_behind_a_members_compressed_data_are_refused(tmp_path: Path) -> None:
    raw = Part(name=b"x", data=TEXT).compressed() + b"hidden"
    assert refused(tmp_path, changed(honest(), "demo.py", raw=raw))[0] == (
        f"`{WHEEL}` is damaged at `demo.py`: other data follows the compressed data of a member"
    )


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    inner = Part(name=b"inner.py", data=b"y")
    hidden = raw_zip([inner])[: -(46 + len(inner.name) + 22)]  # its local part alone
    outer = Part(name=b"a.bin", data=hidden, method=0)
    # The body of `a.bin` begins after its 30 bytes of header and its name.
    parts = [outer, replace(inner, raw=b"", compressed_size=len(inner.compressed()), offset=30 + 5), *honest()]
    parts = [parts[0], *parts[2:], parts[1]]
    wheel = write_parts(tmp_path / WHEEL, parts)
    message, hint = refusal(wheel)
    assert (message, hint) == (f"`{WHEEL}` has overlapping members: `inner.py`", "this is how zip bombs are made")


def test_members_that_share_one_body_are_refused(tmp_path: Path) -> None:
    parts = [*honest(), Part(name=b"copy.py", data=TEXT, offset=0)]
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` names a member differently in its two headers: `copy.py`"


def test_a_member_that_runs_into_the_directory_is_refused(tmp_path: Path) -> None:
    parts = [*honest(), Part(name=b"z.py", data=b"z", method=0, size=4000, compressed_size=4000)]
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has a member that runs into the directory: `z.py`"


@pytest.mark.parametrize("offset", [1 << 31, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_offsets_outside_the_file_are_refused(tmp_path: Path, offset: int) -> None:
    message, _ = refused(tmp_path, changed(honest(), "demo.py", offset=offset, zip64=True))
    assert message.startswith((f"`{WHEEL}` is damaged: no local header for `demo.py`", f"`{WHEEL}` is not a valid"))


def test_an_offset_to_the_middle_of_another_member_is_refused(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, changed(honest(), "demo.py", offset=7))
    assert message == f"`{WHEEL}` is damaged: no local header for `demo.py`"


def test_a_bomb_that_declares_its_size_is_refused_before_anything_is_inflated(tmp_path: Path) -> None:
    parts = [
        replace(part, zip64=True, size=6 << 30) if part.name == b"demo.py" or part.name == b"more.py" else part
        for part in honest(**{"more.py": b"y"})
    ]
    began = time.process_time()
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` unpacks to over 10 GiB"
    assert time.process_time() - began < 2


def test_a_bomb_that_hides_its_size_is_stopped_at_once(tmp_path: Path) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    chunk = bytes(1 << 20)
    raw = b"".join(deflater.compress(chunk) for _ in range(200)) + deflater.flush()
    parts = changed(honest(), "demo.py", raw=raw)
    began = time.process_time()
    assert refused(tmp_path, parts)[0] == (
        f"`{WHEEL}` is damaged at `demo.py`: a member is not as long as its header says"
    )
    assert time.process_time() - began < 2


@pytest.mark.parametrize("part", ["METADATA", "WHEEL", "RECORD"])
def test_enormous_metadata_is_refused_unread(tmp_path: Path, part: str) -> None:
    size = (64 << 20) + 1
    parts = changed(honest(), f"{INFO}/{part}", size=size, local_size=size)
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has a `{INFO}/{part}` of {size} bytes"


# --- damage ---


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", crc32=1)
    assert refused(tmp_path, parts) == (f"`{WHEEL}` is damaged at `demo.py`: wrong checksum", AGAIN)


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_a_wrong_checksum_in_metadata_is_refused(tmp_path: Path, name: str) -> None:
    message, _ = refused(tmp_path, changed(honest(), f"{INFO}/{name}", crc32=1))
    assert message == f"`{WHEEL}` is damaged at `{INFO}/{name}`: Bad CRC-32 for file '{INFO}/{name}'"


def test_data_that_is_no_deflate_stream_is_refused(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", raw=b"\xff" * 40)
    assert refused(tmp_path, parts)[0] == (
        f"`{WHEEL}` is damaged at `demo.py`: Error -3 while decompressing data: invalid block type"
    )


def test_a_deflate_stream_that_ends_early_is_refused(tmp_path: Path) -> None:
    raw = Part(name=b"x", data=TEXT).compressed()[:-2]
    message, _ = refused(tmp_path, changed(honest(), "demo.py", raw=raw))
    assert message.startswith(f"`{WHEEL}` is damaged at `demo.py`: ")


@pytest.mark.parametrize(
    "data", [b"", b"not a zip", b"PK\3\4", b"PK\5\6", b"PK\5\6" + b"\xff" * 18, b"<html>404</html>"]
)
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    wheel = tmp_path / WHEEL
    wheel.write_bytes(data)
    message, hint = refusal(wheel)
    assert message.startswith(f"`{WHEEL}` is not a valid wheel: ")
    assert hint == AGAIN


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, [])
    assert message == f"`{WHEEL}` has no `demo-1.0.dist-info` folder, found: none"


def test_a_wheel_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = raw_zip(honest(**{"more/data.bin": bytes(range(256))}))
    wheel = tmp_path / WHEEL
    for length in [*range(0, len(whole), 37), *range(len(whole) - 30, len(whole))]:
        wheel.write_bytes(whole[:length])
        message, _ = refusal(wheel)
        assert message.startswith(f"`{WHEEL}` is not a valid wheel: "), length


def test_a_wheel_with_a_piece_cut_out_is_refused(tmp_path: Path) -> None:
    whole = raw_zip(honest(**{"more/data.bin": bytes(range(256))}))
    wheel = tmp_path / WHEEL
    for start in range(0, len(whole) - 30, 41):
        wheel.write_bytes(whole[:start] + whole[start + 5 :])
        refusal(wheel)


def test_any_changed_byte_is_refused_or_changes_nothing_that_is_shipped(tmp_path: Path) -> None:
    whole = raw_zip(honest(**{"more/data.bin": bytes(range(256))}))
    wheel = tmp_path / WHEEL
    wheel.write_bytes(whole)
    expected = {(m.path, m.record) for m in inspect(wheel).members}
    chosen = random.Random(20)
    refusals = 0
    for _ in range(600):
        place, value = chosen.randrange(len(whole)), chosen.randrange(1, 256)
        wheel.write_bytes(whole[:place] + bytes([whole[place] ^ value]) + whole[place + 1 :])
        try:
            inventory = inspect(wheel)
        except UnsafeArchive:
            refusals += 1
        else:
            assert {(m.path, m.record) for m in inventory.members} == expected, place
    assert refusals > 400


def test_random_rubbish_in_many_places_never_ends_in_a_traceback(tmp_path: Path) -> None:
    wheel = tmp_path / WHEEL
    chosen = random.Random(21)
    parts = honest(**{"odd.bin": TEXT})
    variants = [raw_zip(parts), raw_zip([replace(part, zip64=True) for part in parts])]
    for method in (BZIP2, LZMA):
        variants.append(raw_zip([replace(part, method=method) for part in parts]))
    for turn in range(400):
        data = bytearray(variants[turn % len(variants)])
        for _ in range(chosen.choice([1, 2, 5, 20])):
            place = chosen.randrange(len(data))
            data[place : place + chosen.choice([0, 1, 4])] = chosen.randbytes(chosen.choice([0, 1, 4]))
        wheel.write_bytes(data)
        try:
            if needs_repack(wheel):
                repack(wheel, tmp_path / "again" / WHEEL)
                wheel.write_bytes((tmp_path / "again" / WHEEL).read_bytes())
            package_tree(inspect(wheel), interpreter="/x", scripts=True)
        except PackagingError:
            pass


@pytest.mark.parametrize("method", [BZIP2, LZMA])
@pytest.mark.parametrize("change", ["cut", "garbage", "checksum", "size"])
def test_damaged_members_of_odd_methods_are_refused_when_repacked(tmp_path: Path, method: int, change: str) -> None:
    part = Part(name=b"demo.py", data=TEXT, method=method)
    changes: dict[str, dict[str, object]] = {
        "cut": {"raw": part.compressed()[:-25]},
        "garbage": {"raw": part.compressed()[:9] + b"\xff" * 40},
        "checksum": {"crc32": 1},
        "size": {"size": len(TEXT) + 9},
    }
    wheel = write_parts(tmp_path / WHEEL, changed(honest(), "demo.py", method=method, **changes[change]))
    with pytest.raises(UnsafeArchive) as error:
        repack(wheel, tmp_path / "out.whl")
    assert error.value.message.startswith(f"`{WHEEL}` is damaged at `demo.py`: ")
    assert error.value.hint == AGAIN
    assert not (tmp_path / "out.whl").exists()


@pytest.mark.parametrize("method", [BZIP2, LZMA])
def test_a_bomb_of_an_odd_method_is_stopped_at_once(tmp_path: Path, method: int) -> None:
    data = bytes(64 << 20)
    bomb = Part(name=b"bomb.bin", data=data, method=method, size=1000)
    path = write_parts(tmp_path / WHEEL, [*honest(), bomb])
    del data
    tracemalloc.start()
    with pytest.raises(UnsafeArchive) as error:
        repack(path, tmp_path / "repacked.whl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.value.message.startswith(f"`{WHEEL}` is damaged at `bomb.bin`: wrong ")
    assert peak < 32 << 20


def test_tags_that_multiply_are_refused(tmp_path: Path) -> None:
    tag = "-".join(".".join(f"{kind}{number}" for number in range(1500)) for kind in ("cp", "abi", "platform"))
    wheel = f"Wheel-Version: 1.0\nTag: {tag}\n".encode()
    parts = changed(honest(), f"{INFO}/WHEEL", data=wheel)
    assert refused(tmp_path, parts) == (f"`{WHEEL}` lists over 4,096 tags in its WHEEL file", None)


def test_a_wheel_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PackagingError) as error:
        inspect(tmp_path / WHEEL)
    assert error.value.message == f"cannot read `{tmp_path / WHEEL}`: No such file or directory"


# --- RECORD ---


def with_record(change: bytes, to: bytes) -> list[Part]:
    parts = honest()
    record = next(part for part in parts if part.name.endswith(b"RECORD"))
    assert change in record.data
    return changed(parts, record.name.decode(), data=record.data.replace(change, to, 1))


def row_of(name: bytes) -> bytes:
    record = next(part for part in honest() if part.name.endswith(b"RECORD"))
    return next(line for line in record.data.splitlines() if line.startswith(name + b","))


def test_a_file_changed_after_the_wheel_was_built_is_refused(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", data=b"import evil\n")
    assert refused(tmp_path, parts) == (f"`{WHEEL}` is not what its RECORD says: `demo.py`", CHANGED)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "crc32", ""])
def test_weak_and_unknown_hashes_are_refused(tmp_path: Path, algorithm: str) -> None:
    parts = with_record(row_of(b"demo.py"), f"demo.py,{algorithm}=abc,300".encode())
    assert refused(tmp_path, parts)[0] == f"RECORD of `{WHEEL}` uses a weak hash for `demo.py`: {algorithm}"


@pytest.mark.parametrize("digest", ["", "sha256=", "sha256"])
def test_rows_without_a_hash_are_refused(tmp_path: Path, digest: str) -> None:
    parts = with_record(row_of(b"demo.py"), f"demo.py,{digest},300".encode())
    assert refused(tmp_path, parts)[0] == f"RECORD of `{WHEEL}` has no hash for `demo.py`"


def test_two_rows_for_one_path_are_refused(tmp_path: Path) -> None:
    parts = with_record(row_of(b"demo.py"), row_of(b"demo.py") + b"\ndemo.py,sha256=AAAA,1")
    assert refused(tmp_path, parts)[0] == f"RECORD of `{WHEEL}` has two rows for `demo.py`"


def test_malformed_rows_are_refused(tmp_path: Path) -> None:
    parts = with_record(row_of(b"demo.py"), b"demo.py")
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has a malformed RECORD line: 'demo.py'"


def test_an_endless_field_in_record_is_refused(tmp_path: Path) -> None:
    parts = with_record(row_of(b"demo.py"), b'"' + b"x" * 200_000)
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has a malformed RECORD: field larger than field limit (131072)"


def test_a_record_of_a_million_rows_is_read_in_bounded_time(tmp_path: Path) -> None:
    rows = b"".join(b"no/such/file%d.py,sha256=AAAA,1\n" % number for number in range(200_000))
    parts = with_record(row_of(b"demo.py"), row_of(b"demo.py") + b"\n" + rows.rstrip())
    began = time.process_time()
    assert len(inspect(write_parts(tmp_path / WHEEL, parts)).absent) == 200_000
    assert time.process_time() - began < 10


# --- identity ---


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_a_dist_info_without_its_files_is_refused(tmp_path: Path, name: str) -> None:
    parts = [part for part in honest() if part.name.decode() != f"{INFO}/{name}"]
    assert refused(tmp_path, parts) == (f"`{WHEEL}` has no `{INFO}/{name}`", INCOMPLETE)


def test_a_wheel_without_dist_info_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, [Part(name=b"demo.py"), Part(name=b"demo-1.0.dist-info")]) == (
        f"`{WHEEL}` has no `demo-1.0.dist-info` folder, found: none",
        RENAMED,
    )


@pytest.mark.parametrize("other", ["other-2.0.dist-info", "Demo-1.0.dist-info", "demo-1.0.0.dist-info"])
def test_two_dist_info_folders_are_refused(tmp_path: Path, other: str) -> None:
    names = ", ".join(sorted([INFO, other]))
    assert refused(tmp_path, [*honest(), Part(name=f"{other}/METADATA".encode())])[0] == (
        f"`{WHEEL}` has more than one `.dist-info` folder: {names}"
    )


@pytest.mark.parametrize("filename", ["other-1.0-py3-none-any.whl", "demo-2.0-py3-none-any.whl"])
def test_a_renamed_wheel_is_refused(tmp_path: Path, filename: str) -> None:
    prefix = filename.removesuffix("-py3-none-any.whl")
    assert refusal(write_parts(tmp_path / filename, honest())) == (
        f"`{filename}` has no `{prefix}.dist-info` folder, found: {INFO}",
        RENAMED,
    )


def test_a_dist_info_folder_of_no_version_is_refused(tmp_path: Path) -> None:
    parts = [replace(part, name=part.name.replace(b"demo-1.0.", b"demo-dev_x.")) for part in honest()]
    assert refused(tmp_path, parts) == (
        f"`{WHEEL}` has no `demo-1.0.dist-info` folder, found: demo-dev_x.dist-info",
        RENAMED,
    )


@pytest.mark.parametrize(
    "filename", ["demo.whl", "demo-1.0.whl", "demo-x.y-py3-none-any.whl", "demo-1.0-py3-none-any.zip"]
)
def test_a_name_that_is_no_wheels_is_refused(tmp_path: Path, filename: str) -> None:
    message, _ = refusal(write_parts(tmp_path / filename, honest()))
    assert message.startswith(f"`{filename}` is not the name of a wheel: ")


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n", " evil 1.0"),
        ("Metadata-Version: 2.1\nName: demo\nVersion: 9\n", " demo 9"),
        ("Metadata-Version: 2.1\nName: demo\nVersion: dev-x\n", " demo dev-x"),
        ("Metadata-Version: 2.1\nName: demo\n\nVersion: 1.0\n", " demo"),
        ("", ""),
    ],
)
def test_metadata_of_another_distribution_is_refused(tmp_path: Path, metadata: str, told: str) -> None:
    parts = wheel_parts("demo", "1.0", {f"{INFO}/METADATA": metadata})
    assert refused(tmp_path, parts) == (
        f"METADATA of `{WHEEL}` is of another distribution:{told}",
        RENAMED,
    )


@pytest.mark.parametrize("version", ["2.0", "2", "10.1", "x", ""])
def test_other_wheel_formats_are_refused(tmp_path: Path, version: str) -> None:
    parts = wheel_parts("demo", "1.0", {f"{INFO}/WHEEL": f"Wheel-Version: {version}\nTag: py3-none-any\n"})
    assert refused(tmp_path, parts) == (
        f"`{WHEEL}` is of wheel format {version}",
        "only format 1 is known; update manylambda",
    )


def test_later_versions_of_format_1_are_read(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {f"{INFO}/WHEEL": "Wheel-Version: 1.9\nTag: py3-none-any\n"})
    assert inspect(write_parts(tmp_path / WHEEL, parts)).tags == ("py3-none-any",)


def test_a_wheel_file_without_a_version_is_refused(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {f"{INFO}/WHEEL": "Tag: py3-none-any\n"})
    assert refused(tmp_path, parts)[0] == f"`{WHEEL}` has no `Wheel-Version` in its WHEEL file"


def test_a_wheel_without_tags_is_not_taken_for_pure(tmp_path: Path) -> None:
    parts = wheel_parts("demo", "1.0", {f"{INFO}/WHEEL": "Wheel-Version: 1.0\nTag: odd\n"})
    assert inspect(write_parts(tmp_path / WHEEL, parts)).tags == ("odd--",)
    parts = wheel_parts("demo", "1.0", {f"{INFO}/WHEEL": "Wheel-Version: 1.0\n"})
    assert not inspect(write_parts(tmp_path / WHEEL, parts)).is_pure


def test_metadata_that_is_not_utf_8_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nAuthor: Andr\xe9\nRequires-Dist: six\n\nbody\n"
    parts = wheel_parts("demo", "1.0", {f"{INFO}/METADATA": metadata})
    assert inspect(write_parts(tmp_path / WHEEL, parts)).requires == ("six",)


def test_a_wheels_hidden_regular_mode_cannot_set_special_bits(tmp_path: Path) -> None:
    parts = changed(honest(), "demo.py", mode=REGULAR | 0o7777)
    entry = package_tree(inspect(write_parts(tmp_path / WHEEL, parts)), interpreter="/x").get("demo.py")
    assert entry is not None
    assert entry.mode == 0o755
