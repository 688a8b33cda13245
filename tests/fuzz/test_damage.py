"""Damage at every place: cut, flipped and made-up bytes give findings or one clear error, never a traceback."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manylambda import elf
from manylambda.audits import Subject, check
from manylambda.elf import ElfFile, ForeignFile, Malformed
from manylambda.errors import ManylambdaError
from manylambda.linkage import Outcome, resolve
from manylambda.pipeline.audit import examine
from manylambda.rules import ALL
from manylambda.target import Target
from manylambda.tree import MODE_FILE, Bytes, Entry, PackageTree
from wheel_factory import Part, raw_zip, wheel_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.audits import Report

DATA = Path(__file__).parents[1] / "elf" / "data"
X13 = Target.parse("python3.13-x86_64")
MODULE = "_demo.cpython-313-x86_64-linux-gnu.so"
WHEEL = wheel_parts(
    "demo",
    "1.0",
    {"demo.py": "import json\n", MODULE: (DATA / "aarch64.so").read_bytes()},
    tags=["cp313-cp313-manylinux2014_aarch64"],
    requires=["numpy>=2; python_version < '4'"],
)

# A folder for each example would cost more than the audit; the file is written anew each time.
quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def audited(path: Path, data: bytes) -> Report | None:
    """Audit a package of these bytes; None where it is refused, in one line."""
    path.write_bytes(data)
    try:
        return examine(path, X13, handler="demo.handler", offline=True).report
    except ManylambdaError as error:
        assert error.code == "archive-unsafe"
        assert "\n" not in error.message
        return None


@pytest.mark.parametrize("name", ["aarch64.so", "i686.so"])
def test_an_elf_file_cut_at_any_byte_is_read_or_malformed(name: str) -> None:
    data = (DATA / name).read_bytes()
    whole = elf.read(io.BytesIO(data))
    assert isinstance(whole, ElfFile)
    kinds = []
    for size in range(4, len(data)):
        native = elf.read(io.BytesIO(data[:size]))
        assert native == whole or isinstance(native, Malformed)
        kinds.append(type(native))
        if size % 16 == 0:
            list(elf.symbol_table(io.BytesIO(data[:size])) or ())
    assert Malformed in kinds
    assert kinds == sorted(kinds, key=lambda kind: kind is ElfFile), "longer is never worse"


def test_a_zip_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = raw_zip(WHEEL)
    for size in range(0, len(data), 7):
        assert audited(tmp_path / "package.zip", data[:size]) is None


@quick
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_zip_with_bytes_changed_is_judged_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(raw_zip(WHEEL))
    for place, value in changes:
        data[place % len(data)] = value
    audited(tmp_path / "package.zip", bytes(data))


@quick
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=12),
    name=st.sampled_from(["needs_versioned.so", "libversioned_2.so.1", "glibc_2_34.so", "musl.so", "program"]),
)
def test_a_native_file_with_bytes_changed_is_judged(tmp_path: Path, changes: list[tuple[int, int]], name: str) -> None:
    data = bytearray((DATA / name).read_bytes())
    for place, value in changes:
        data[place % min(len(data), 2048)] = value
    package = raw_zip([Part(name=MODULE.encode(), data=bytes(data)), Part(name=b"demo.py")])
    assert audited(tmp_path / "package.zip", package) is not None


LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            ["Name: demo", "Version: 1.0", "Version: x!1+y", "Requires-Python: >=3.9,!=", "Requires-Python: ~=4",
             "Requires-Dist: demo[x]>1; extra == 'x'", "Requires-Dist: y @ https://x/y.whl", "Requires-Dist: (",
             "Tag: cp313-cp313", "Tag: -", "Tag: py3-none-any", "Wheel-Version: 9", "demo.py,sha256=x,y", '"',
             "../../x,,", "/x,sha256=,", "demo.py,md5=,-1", "[console_scripts]", "x = y:z [", "\r", "\x0c", "\u2028"]
        ),
    ),
    max_size=8,
)  # fmt: skip


@quick
@given(texts=st.fixed_dictionaries(dict.fromkeys(("METADATA", "WHEEL", "RECORD", "entry_points.txt"), LINES)))
def test_metadata_of_any_text_is_judged(tmp_path: Path, texts: Mapping[str, list[str]]) -> None:
    parts = [
        Part(name=f"demo-1.0.dist-info/{name}".encode(), data="\n".join(lines).encode("utf-8", "surrogatepass"))
        for name, lines in texts.items()
    ]
    assert audited(tmp_path / "package.zip", raw_zip([Part(name=b"demo.py"), *parts])) is not None


NAMES = st.sampled_from(["liba.so.1", "libb.so", "libz.so.1", "libc.so.6", "/opt/lib/libb.so", "../x/liba.so.1", ""])
FOLDERS = st.sampled_from(["$ORIGIN", "${ORIGIN}/..", "$ORIGIN/../x", "/lib64", "/opt/lib", "$LIB", "..", "$ORIGINAL"])
VERSIONS = st.dictionaries(st.sampled_from(["GLIBC_2.2.5", "GLIBC_9", "A_1", "", "_"]), st.booleans(), max_size=3)
FILES = st.builds(
    ElfFile,
    machine=st.just("x86_64"),
    version_needs=st.dictionaries(NAMES, VERSIONS, max_size=3),
    kind=st.sampled_from(["shared", "executable"]),
    soname=st.one_of(st.none(), NAMES),
    needed=st.lists(NAMES, max_size=4).map(tuple),
    rpath=st.lists(FOLDERS, max_size=3).map(tuple),
    runpath=st.lists(FOLDERS, max_size=3).map(tuple),
    version_definitions=st.lists(st.sampled_from(["A_1", "GLIBC_9"]), max_size=2).map(tuple),
)
NATIVES = st.dictionaries(
    st.sampled_from(["m.so", "x/liba.so.1", "lib/libb.so", "x/y/libz.so.1", "x/n.abi3.so", "bin/p", "libb.so"]),
    st.one_of(FILES, st.just(Malformed(reason="cut")), st.just(ForeignFile(format="PE", machines=()))),
    max_size=7,
)


@settings(max_examples=150, deadline=None)
@given(natives=NATIVES)
def test_libraries_that_need_one_another_in_any_way_are_linked_and_judged(
    natives: dict[str, ElfFile | ForeignFile | Malformed],
) -> None:
    mounted = {f"/var/task/{path}": native for path, native in natives.items()}
    linkage = resolve(mounted, X13)
    assert linkage == resolve(dict(reversed(mounted.items())), X13)
    for link in linkage.links:
        assert link.needer in mounted
        assert (link.provider in mounted) is (link.outcome in {Outcome.BUNDLED, Outcome.UNREACHED})
        assert len(set(link.chain)) == len(link.chain)
        assert link.chain[-1] == link.needer
    tree = PackageTree(Entry(path, MODE_FILE, Bytes(b"\x7fELF"), "demo") for path in natives)
    check(Subject(tree, X13, facts=natives, distributions=()), ALL)
