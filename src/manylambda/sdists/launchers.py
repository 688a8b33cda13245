"""The programs that a build finds on its path and that run another command: scripts, and on Windows real programs."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.host import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch import Cache

WINDOWS: Final = os.name == "nt"
SUFFIX: Final = ".exe" if WINDOWS else ""
"""What a launcher's name ends in."""
# What zig cannot do without on Windows, besides its own caches.
_KEPT: Final = ("SYSTEMROOT", "TEMP", "TMP")


def write(place: Path, command: Sequence[str], launcher: Path | None = None) -> None:
    """Make a program that runs `command` with its own arguments behind it; `place` is without `SUFFIX`.

    `launcher` is what `find_launcher` gave, or another one made of it.
    """
    if launcher is not None:
        shutil.copyfile(launcher, place.with_name(f"{place.name}.exe"))
        # The launcher puts its own arguments behind it as it was given them, so that they are quoted once.
        place.with_name(f"{place.name}.txt").write_text(subprocess.list2cmdline(command), encoding="utf-8", newline="")
        return
    words = " ".join(shlex.quote(word) for word in command)
    place.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    place.chmod(0o755)


def find_launcher(zig: Path, version: str, cache: Cache) -> Path | None:
    """Give the program of Windows that stands for all others there, compiled once by `zig`; None where none is needed.

    CreateProcess runs no `.bat` by a name without its ending, and setuptools, CMake and meson ask no shell.
    Raises `PackagingError` when the compiler does not work.
    """
    if not WINDOWS:
        return None
    machine = "aarch64" if platform.machine().lower() == "arm64" else "x86_64"
    kept = cache.base / "tools" / f"zig-{version}-launcher-{machine}.exe"
    if not kept.is_file():
        with cache.writing(kept.name):
            room = cache.incoming(f"{kept.name}-{os.urandom(4).hex()}")
            room.mkdir()
            compile_launcher(zig / "zig.exe", machine, room / kept.name, environment=_environment(room))
            kept.parent.mkdir(parents=True, exist_ok=True)
            (room / kept.name).replace(kept)
            shutil.rmtree(room, ignore_errors=True)
    cache.use(kept)
    return kept


def compile_launcher(zig: Path, machine: str, place: Path, *, environment: Mapping[str, str]) -> None:
    """Compile the launcher for Windows on `machine`. Raises `PackagingError`."""
    source = files("manylambda.sdists.inside").joinpath("launcher.c").read_text(encoding="utf-8")
    code, library = place.with_suffix(".c"), place.with_suffix(".lib")
    code.write_text(source, encoding="utf-8")
    # zig has no `kernel32.lib` on Windows: there it expects those of Microsoft.
    definition = place.with_suffix(".def")
    names = re.findall(r"^SYSTEM .*?(\w+)\(", source, re.MULTILINE)
    definition.write_text("LIBRARY kernel32.dll\nEXPORTS\n" + "\n".join(names), encoding="utf-8")
    of_machine = {"x86_64": "i386:x86-64", "aarch64": "arm64"}[machine]
    commands = (
        ["dlltool", "-m", of_machine, "-d", str(definition), "-l", str(library)],
        [
            *("cc", "-target", f"{machine}-windows-gnu", "-Os", "-s", "-g0", "-fno-sanitize=undefined"),
            *("-ffreestanding", "-nostdlib", "-Wl,--entry=begin", "-Wl,--subsystem,console"),
            *(str(code), str(library), "-o", str(place)),
        ],
    )
    for command in commands:
        made = process.ask([str(zig), *command], seconds=600, environment=environment)
        if made.returncode:
            raise PackagingError(f"the compiler does not work here: {made.stderr.strip()}")


def _environment(room: Path) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "ZIG_GLOBAL_CACHE_DIR": str(room),
        "ZIG_LOCAL_CACHE_DIR": str(room),
        "PATH": "",
    }
