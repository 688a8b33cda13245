"""A Windows host that builds from source: an installed CPython, uv and zig, run by Wine.

Made of the host `windows-3.13` of `tools/pythons.py`, whose CPython is the embeddable one: that has neither headers nor
a standard library in a folder, as an installed one does. And Debian's Wine (8.0) lacks what uv and zig ask of Windows:
a library of random numbers, and the newer ways to lock, rename and delete files. Two small libraries bring these.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

from manylambda.host.interpreters import Interpreter, find_interpreter
from same_bytes.hosts import FOLDER, SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HOST: Final = FOLDER / "windows-3.13"

_PRNG: Final = """
#include <stddef.h>
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *, unsigned long);
__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *data, size_t size)
{
    return SystemFunction036(data, (unsigned long)size);
}
"""
# The older ways do what zig wants of the newer: replace what is there, delete when the last handle is closed.
_FILES: Final = """
typedef long Status;
typedef struct { long long status, size; } Answer;
#define SYSTEM __declspec(dllimport)
SYSTEM Status NtSetInformationFile(void *, Answer *, void *, unsigned long, unsigned);
typedef unsigned char Flag;
SYSTEM Status NtLockFile(void *, void *, void *, void *, Answer *, void *, void *, void *, Flag, Flag);
SYSTEM Status NtUnlockFile(void *, Answer *, void *, void *, void *);

Status OwnSetInformationFile(void *file, Answer *answer, void *data, unsigned long size, unsigned kind)
{
    unsigned flags = kind == 64 || kind == 65 ? *(unsigned *)data & 1 : 0;
    if (kind == 64) {
        Flag is_deleted = (Flag)flags;
        return NtSetInformationFile(file, answer, &is_deleted, 1, 13);
    }
    if (kind == 65) {
        *(unsigned *)data = flags;
        return NtSetInformationFile(file, answer, data, size, 10);
    }
    return NtSetInformationFile(file, answer, data, size, kind);
}

Status OwnLockFile(void *file, void *event, void *call, void *with, Answer *answer, void *from, void *count, void *key,
                   Flag at_once, Flag alone)
{
    (void)answer, (void)key;
    return NtLockFile(file, event, call, with, 0, from, count, 0, at_once, alone);
}

Status OwnUnlockFile(void *file, Answer *answer, void *from, void *count, void *key)
{
    (void)answer, (void)key;
    return NtUnlockFile(file, 0, from, count, 0);
}
"""
_OWN: Final = ("NtSetInformationFile", "NtLockFile", "NtUnlockFile")


def needs_wine() -> None:
    """Skip the test, or fail it in CI, where there is no such host."""
    missing = None
    if shutil.which("wine") is None:
        missing = "`wine` is not installed"
    elif not (HOST / "host.json").is_file():
        missing = "`windows-3.13` is not there: run `python tools/pythons.py windows-3.13`"
    elif not isinstance(find_interpreter((3, 13)), Interpreter):
        missing = "no CPython 3.13 here, whose headers are those of the one of Windows"
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@cache
def environment() -> Mapping[str, str]:
    """Give the environment in which Wine runs the host's programs."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "WINEPREFIX": str(HOST / "prefix"),
        "WINEDEBUG": "-all",
        "LC_ALL": "C.UTF-8",
    }


def run(command: Sequence[str], *, folder: Path, more: Mapping[str, str], seconds: int = 900) -> tuple[int, str]:
    """Run a program of Windows; give its status and all that it wrote."""
    done = subprocess.run(
        ["wine", *command],
        cwd=folder,
        env={**environment(), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # not a file: Windows' Python does not begin otherwise
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def drive(path: Path) -> str:
    """Name a path as Windows does."""
    return "Z:" + str(path).replace("/", "\\")


def installed_python(folder: Path) -> Path:
    """Lay the embeddable CPython out as an installed one; its `pyconfig.h` stops whoever includes it."""
    embedded = HOST / "python"
    (folder / "DLLs").mkdir(parents=True)
    for file in embedded.iterdir():
        if file.suffix in {".exe", ".dll"}:
            shutil.copy2(file, folder)
        elif file.suffix == ".pyd":
            shutil.copy2(file, folder / "DLLs")
    with zipfile.ZipFile(embedded / "python313.zip") as library:
        library.extractall(folder / "Lib")
    # Wine 8 has no `CopyFile2`; without it `shutil` copies by reading and writing.
    (folder / "Lib" / "sitecustomize.py").write_text("import _winapi\n\nvars(_winapi).pop('CopyFile2', None)\n")
    here = find_interpreter((3, 13))
    assert isinstance(here, Interpreter)
    shutil.copytree(here.include, folder / "Include")
    (folder / "Include" / "pyconfig.h").write_text('#error "these are the headers of Windows"\r\n')
    (folder / "libs").mkdir()
    (folder / "libs" / "python313.lib").write_bytes(b"not of Linux")
    packages = folder / "Lib" / "site-packages"
    shutil.copytree(HOST / "packages", packages, dirs_exist_ok=True)
    # An installation has it in `Scripts`, and its library beside it.
    (folder / "Scripts").mkdir()
    (packages / "bin" / "uv.exe").replace(folder / "Scripts" / "uv.exe")
    _compile(_PRNG, folder / "Scripts" / "bcryptprimitives.dll", "-ladvapi32")
    (packages / "ours.pth").write_text(drive(SOURCE) + "\n")
    return folder / "python.exe"


def install_zig(folder: Path, version: str) -> None:
    """Put zig for Windows into a folder of packages, with the ways to files that Wine has."""
    import uv

    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--no-deps", "--only-binary", ":all:"]
    command += ["--target", str(folder), "--python-version", "3.13", "--python-platform", "x86_64-pc-windows-msvc"]
    subprocess.run([*command, "--link-mode", "copy", f"ziglang=={version}"], check=True)
    program = folder / "ziglang" / "zig.exe"
    content = program.read_bytes()
    names = _imported(content, b"ntdll.dll")
    assert content.count(b"ntdll.dll\0") >= 1
    place = _name_of_import(content, b"ntdll.dll")
    program.write_bytes(content[:place] + b"ntdlx.dll" + content[place + 9 :])
    exports = "".join(f"{name}={'Own' + name[2:] if name in _OWN else 'ntdll.' + name}\n" for name in names)
    definition = folder / "ntdlx.def"
    definition.write_text(f"LIBRARY ntdlx.dll\nEXPORTS\n{exports}")
    _compile(_FILES, program.with_name("ntdlx.dll"), str(definition), "-lntdll")


def _compile(source: str, place: Path, *more: str) -> None:
    code = place.with_suffix(".c")
    code.write_text(source)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared", "-O2", "-s", "-g0"]
    subprocess.run([*command, "-fno-sanitize=undefined", str(code), *more, "-o", str(place)], check=True)


def _tables(content: bytes) -> list[tuple[int, int]]:
    """Give for each imported library where its name is, and where the list of what it is imported for."""
    header = struct.unpack_from("<I", content, 0x3C)[0]
    found: list[tuple[int, int]] = []
    place = _offset(content, struct.unpack_from("<I", content, header + 24 + 112 + 8)[0])
    while True:
        names, _, _, library, addresses = struct.unpack_from("<IIIII", content, place)
        if not library:
            return found
        found.append((_offset(content, library), _offset(content, names or addresses)))
        place += 20


def _offset(content: bytes, address: int) -> int:
    """Give where in the file an address of the loaded program is."""
    header = struct.unpack_from("<I", content, 0x3C)[0]
    count = struct.unpack_from("<H", content, header + 6)[0]
    table = header + 24 + struct.unpack_from("<H", content, header + 20)[0]
    for number in range(count):
        size, start, stored, where = struct.unpack_from("<IIII", content, table + number * 40 + 8)
        if start <= address < start + max(size, stored):
            return int(address - start + where)
    raise AssertionError(address)


def _text(content: bytes, place: int) -> bytes:
    return content[place : content.index(b"\0", place)]


def _name_of_import(content: bytes, library: bytes) -> int:
    (place,) = [name for name, _ in _tables(content) if _text(content, name).lower() == library]
    return place


def _imported(content: bytes, library: bytes) -> list[str]:
    (place,) = [names for name, names in _tables(content) if _text(content, name).lower() == library]
    found = []
    while entry := struct.unpack_from("<Q", content, place)[0]:
        found.append(_text(content, _offset(content, entry) + 2).decode())
        place += 8
    return found
