"""Bombs: a small file that asks for much memory or time gets neither."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wheel_factory import BZIP2, STORED, Part, raw_zip, wheel_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space of a process")

ELF = Path(__file__).parents[1] / "elf" / "data"
MIB = 1 << 20
INFO = "demo-1.0.dist-info"


def audited(tmp_path: Path, parts: Iterable[Part], *, megabytes: int = 768, seconds: int = 60) -> dict[str, Any]:
    """Return what an audit in a limited process printed; a traceback or an endless run fails the test."""
    path = tmp_path / "package.zip"
    path.write_bytes(raw_zip(parts))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("limited.py")), str(path), str(megabytes * MIB)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@cache
def zeros(size: int, head: bytes = b"") -> dict[str, Any]:
    """Return fields of a `Part` that inflates to `head` and many zeros."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw, crc = deflater.compress(head), zlib.crc32(head)
    for at in range(len(head), size, MIB):
        chunk = bytes(min(MIB, size - at))
        raw += deflater.compress(chunk)
        crc = zlib.crc32(chunk, crc)
    return {"raw": raw + deflater.flush(), "crc32": crc, "size": size}


def test_members_that_overlap_to_make_terabytes_are_refused(tmp_path: Path) -> None:
    kernel = zeros(100 * MIB, (ELF / "plain.so").read_bytes())
    first = Part(name=b"a.so", **kernel)
    others = [
        Part(name=b"a%d.so" % number, offset=0, **{**kernel, "raw": b""}, compressed_size=len(kernel["raw"]))
        for number in range(6_000)
    ]
    result = audited(tmp_path, [first, *others])
    assert result["error"] == "`package.zip` unpacks to over 4 GiB: no package of Lambda has"


def test_native_files_that_inflate_to_much_take_little_memory(tmp_path: Path) -> None:
    kernel = zeros(130 * MIB, (ELF / "plain.so").read_bytes())
    result = audited(tmp_path, [Part(name=b"%d.so" % number, **kernel) for number in range(2)], megabytes=512)
    assert "unzipped-too-large" in result["rules"]


def test_a_member_of_an_odd_method_that_hides_its_size_is_stopped(tmp_path: Path) -> None:
    """A thousand bytes that make 1.5 GB."""
    bomb = (Path(__file__).parent / "data" / "bomb.bz2").read_bytes()
    result = audited(tmp_path, [Part(name=b"app.py", raw=bomb, crc32=0, size=100, method=BZIP2)], megabytes=512)
    assert result["error"] is not None or "zip-method" in result["rules"]


@pytest.mark.parametrize("name", ["METADATA", "RECORD", "WHEEL"])
def test_metadata_of_a_hundred_megabytes_is_not_read(tmp_path: Path, name: str) -> None:
    honest = [
        part for part in wheel_parts("demo", "1.0", {"demo.py": "x = 1\n"}) if not part.name.endswith(name.encode())
    ]
    result = audited(tmp_path, [*honest, Part(name=f"{INFO}/{name}".encode(), **zeros(100 * MIB))], megabytes=512)
    assert result["error"] is None
    assert result["seconds"] < 20


@pytest.mark.parametrize("name", ["app.py", "app.pyc", "key.pem", "lib/libx.so"])
def test_a_file_of_zeros_that_a_rule_may_want_to_read_costs_little(tmp_path: Path, name: str) -> None:
    result = audited(tmp_path, [Part(name=name.encode(), **zeros(100 * MIB))], megabytes=512)
    assert result["error"] is None
    assert result["seconds"] < 20


def test_tags_that_multiply_are_not_multiplied_out(tmp_path: Path) -> None:
    tag = "-".join(".".join(f"{kind}{number}" for number in range(1500)) for kind in ("cp", "abi", "platform"))
    parts = [Part(name=f"{INFO}/WHEEL".encode(), data=f"Wheel-Version: 1.0\nTag: {tag}\n".encode())]
    parts += [Part(name=f"{INFO}/METADATA".encode(), data=b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")]
    assert audited(tmp_path, parts, megabytes=512)["error"] is None


def test_thirty_thousand_files_are_looked_at_in_seconds(tmp_path: Path) -> None:
    parts = [Part(name=b"data/%05d/%05d.json" % (number % 251, number), method=STORED) for number in range(30_000)]
    result = audited(tmp_path, parts)
    assert result["rules"] == ["handler-missing"]
    assert result["seconds"] < 30


def test_a_path_of_thousands_of_folders_costs_little(tmp_path: Path) -> None:
    parts = [Part(name=b"a/" * 30_000 + b"x.py"), Part(name=b"b/" * 30_000 + b"x.so", data=b"\x7fELF")]
    result = audited(tmp_path, parts)
    assert result["seconds"] < 20


def test_thousands_of_requirements_are_judged_in_seconds(tmp_path: Path) -> None:
    lines = "".join(f"Requires-Dist: name{number}[extra]>=1; python_version < '4'\n" for number in range(5000))
    text = f"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n{lines}"
    result = audited(tmp_path, [Part(name=f"{INFO}/METADATA".encode(), data=text.encode())])
    assert "distribution-missing" in result["rules"]
    assert result["seconds"] < 20


def metadata(name: str, lines: str = "") -> Part:
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{lines}"
    return Part(name=f"{name}-1.dist-info/METADATA".encode(), data=text.encode())


def test_many_records_of_the_same_files_are_judged_in_seconds(tmp_path: Path) -> None:
    rows = "".join(f"m{number}.py,sha256=x,1\n" for number in range(500)).encode()
    parts = [Part(name=b"m%d.py" % number, data=b"1") for number in range(500)]
    for number in range(500):
        parts.append(metadata(f"x{number}"))
        parts.append(Part(name=f"x{number}-1.dist-info/RECORD".encode(), data=rows))
    assert audited(tmp_path, parts)["seconds"] < 20


def test_extras_that_ask_for_one_another_are_followed_in_seconds(tmp_path: Path) -> None:
    parts = [
        metadata(
            f"d{one}",
            "".join(
                f"Requires-Dist: d{other}[e{one},e{other}]\nRequires-Dist: d{other}[f{one}]; extra == 'e{other}'\n"
                for other in range(60)
            ),
        )
        for one in range(60)
    ]
    assert audited(tmp_path, parts)["seconds"] < 20


def test_a_handler_in_a_large_module_is_looked_for_in_seconds(tmp_path: Path) -> None:
    source = "".join(f"x{number} = 1\n" for number in range(1_000_000))
    assert audited(tmp_path, [Part(name=b"app.py", data=source.encode())])["seconds"] < 20
