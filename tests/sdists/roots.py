"""Root file systems of targets: small ones with libraries compiled here, and Debian's."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from trial.hosts import mirror, needs

TRIPLES: Final = {"aarch64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}
ARCHITECTURES: Final = {"aarch64": "arm64", "x86_64": "amd64"}

_CONFIG: Final = """\
#!/bin/sh
prefix=/usr
case "$1" in
  --libs) echo "-L$prefix/lib -louter" ;;
  --cflags) echo "-I$prefix/include/outer -I$prefix/include" ;;
  --prefix) echo $prefix ;;
  --nowhere) echo /opt/outer ;;
esac
"""
_PKG_CONFIG: Final = """\
prefix=/usr
includedir=${{prefix}}/include
libdir=${{prefix}}/lib/{triple}

Name: outer
Description: a library that needs another
Version: 2.3.4
Libs: -L${{libdir}} -louter
Cflags: -I${{includedir}}/outer
"""


def compile_library(place: Path, machine: str, source: str, *arguments: str, glibc: str = "2.26") -> Path:
    """Make a shared library for Linux."""
    place.parent.mkdir(parents=True, exist_ok=True)
    code = place.with_name(f"{place.name}.c")
    code.write_text(source)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{TRIPLES[machine]}.{glibc}", "-shared", "-fPIC"]
    options = ["-O2", "-g0", "-s", "-fno-sanitize=undefined"]
    subprocess.run([*command, *options, str(code), "-o", str(place), *arguments], check=True)
    code.unlink()
    return place


def _folder() -> Path:
    """Give a folder that lasts as long as the tests."""
    folder = Path(mkdtemp(prefix="manylambda-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _libraries(machine: str) -> Path:
    """Make the libraries of `small_root` once."""
    folder = _folder()
    deep = compile_library(
        folder / "libdeep.so.1.0", machine, "int deep(void) { return 40; }\n", "-Wl,-soname,libdeep.so.1"
    )
    source = "int deep(void);\nint outer(void) { return deep() + 2; }\n"
    compile_library(folder / "libouter.so.2.3.4", machine, source, str(deep), "-Wl,-soname,libouter.so.2")
    return folder


def small_root(root: Path, machine: str) -> Path:
    """Make a root file system as Debian lays it out, with libouter, which needs libdeep."""
    triple = TRIPLES[machine]
    folder = root / "usr" / "lib" / triple
    (folder / "pkgconfig").mkdir(parents=True)
    for library in sorted(_libraries(machine).iterdir()):
        shutil.copy2(library, folder)
    (root / "lib").symlink_to("usr/lib")
    (folder / "libdeep.so.1").symlink_to("libdeep.so.1.0")
    # Links as packages bring them: to a place of the target.
    (folder / "libouter.so.2").symlink_to(f"/lib/{triple}/libouter.so.2.3.4")
    (folder / "libouter.so").symlink_to(f"/lib/{triple}/libouter.so.2")
    (folder / "libc.so").write_text(f"GROUP ( /lib/{triple}/libc.so.6 AS_NEEDED ( /lib/ld-linux.so.2 ) )\n")
    (folder / "libm.so").symlink_to(f"/lib/{triple}/libm.so.6")
    (folder / "libboth.so").write_text(f"/* a script */\nINPUT(/usr/lib/{triple}/libouter.so.2 libdeep.so.1)\n")
    (folder / "pkgconfig" / "outer.pc").write_text(_PKG_CONFIG.format(triple=triple))
    include = root / "usr" / "include"
    (include / "outer").mkdir(parents=True)
    (include / "outer" / "outer.h").write_text("int outer(void);\n")
    # One of another C library: whoever includes this has the wrong one.
    (include / "stdlib.h").write_text("#error the headers of the root file system come before zig's\n")
    program = root / "usr" / "bin" / "outer-config"
    program.parent.mkdir()
    program.write_text(_CONFIG)
    program.chmod(0o755)
    return root


@cache
def debian_root(machine: str, *packages: str) -> Path:
    """Make a root file system of Debian 11, whose glibc is 2.31, with development packages."""
    needs("mmdebstrap")
    root = _folder() / "root"
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={ARCHITECTURES[machine]}"),
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            "--aptopt=Acquire::Check-Valid-Until false",
            f"--include={','.join(packages)}",
            *("bullseye", str(root), mirror()),
        ],
        check=True,
    )
    return root
