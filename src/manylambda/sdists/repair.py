"""Puts the libraries that a built wheel needs beyond the runtime into it: from a root file system, as auditwheel does.

They come into `<name>.libs/` under names with a hash of their bytes, which no other library of a process has, and what
needs them is told so. What neither the wheel, nor the runtime, nor the root file system has stays as it is: the audit
reports it (`library-missing`). See docs/development/decisions/0014-bundling-libraries.md.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import elf
from manylambda.elf import ElfFile
from manylambda.errors import PackagingError
from manylambda.fetch.cache import hash_file
from manylambda.host import process
from manylambda.linkage import FUNCTION_ROOT, Outcome, resolve
from manylambda.sdists.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from manylambda.sdists.sysroot import Sysroot
    from manylambda.sdists.wheel import Unpacked
    from manylambda.target import Target

PATCHER: Final = Tool(
    name="repairwheel",
    version="0.8.0",
    hashes=("dbb702b334a83b112a21f9dad1b0e7c011643b6deaf2269e2d808c9dcd36932b",),
    what="what renames libraries",
    package="repairwheel",
    size=1,
    # Of what repairwheel requires, all that its writer of ELF files imports.
    others=(("macholib", "1.16.4", "da1a3fa8266e30f0ce7e97c6a54eefaae8edd1e5f86f3eb8b95457cae90265ea"),),
)
_DATA: Final = re.compile(r"[^/]+\.data/(purelib/|platlib/|(?=scripts/))")
_SECONDS: Final = 600.0


class Library(NamedTuple):
    """A shared library of the root file system that the wheel is to bring."""

    place: str
    """Where it really is, in words of the target."""
    name: str
    """What it is called in the wheel: `libxml2-1a2b3c4d.so.2.9.10`."""
    native: ElfFile


class Plan(NamedTuple):
    """What is to be changed in a wheel."""

    libraries: Mapping[str, Library]
    """By the soname that asks for each; several may ask for one."""
    needers: Mapping[str, tuple[str, ...]]
    """Files of the wheel, and the sonames of theirs that `libraries` has."""


class Change(NamedTuple):
    """New values of one file; see `inside/patch.py`."""

    file: str
    soname: str | None
    rpath: str
    needed: Mapping[str, str]


def bundle(unpacked: Unpacked, target: Target, sysroot: Sysroot, find_patcher: Callable[[], Path]) -> tuple[str, ...]:
    """Copy what the wheel needs; give the file names that it has in the root file system, sorted.

    `find_patcher` gives the folder of `PATCHER`, and is asked when there is something to change. Raises
    `PackagingError` for a library that the runtime cannot load.
    """
    plan = make_plan(unpacked.natives(), target, sysroot)
    if not plan.libraries:
        return ()
    _check(plan, unpacked, target)
    folder = unpacked.folder / _folder(unpacked)
    folder.mkdir(exist_ok=True)
    for library in plan.libraries.values():
        shutil.copyfile(sysroot.file(library.place), folder / library.name)
    _patch(list(_changes(plan, unpacked)), find_patcher(), unpacked.folder.parent / "changes.json")
    return tuple(sorted({posixpath.basename(library.place) for library in plan.libraries.values()}))


def make_plan(natives: Mapping[str, elf.NativeFile], target: Target, sysroot: Sysroot) -> Plan:
    """Decide what is copied for the native files of a wheel, and what that needs in its turn."""
    paths = {f"{FUNCTION_ROOT}{_installed(path)}": path for path in natives}
    needs: dict[str, list[str]] = {}
    for link in resolve({place: natives[path] for place, path in paths.items()}, target).links:
        if link.outcome is Outcome.MISSING:
            needs.setdefault(paths[link.needer], []).append(link.soname)
    libraries: dict[str, Library] = {}
    asked: set[str] = set()
    waiting = [(soname, None) for sonames in needs.values() for soname in sonames]
    queue: list[tuple[str, Library | None]] = list(waiting)
    for soname, needer in queue:  # grows while it is read
        if soname in asked:
            continue
        asked.add(soname)
        place = sysroot.library(soname, _search_path(needer) if needer else ())
        native = elf.read(sysroot.file(place)) if place is not None else None
        if place is None or not isinstance(native, ElfFile):
            continue
        library = libraries[soname] = Library(place, _hashed(place, hash_file(sysroot.file(place))), native)
        queue += [(need, library) for need in native.needed if need not in target.provided]
    found = {path: tuple(sorted(one for one in sonames if one in libraries)) for path, sonames in sorted(needs.items())}
    return Plan(dict(sorted(libraries.items())), {path: sonames for path, sonames in found.items() if sonames})


def _installed(path: str) -> str:
    """Give where a file of a wheel comes to lie."""
    return _DATA.sub("", path).replace("scripts/", "bin/", 1) if ".data/" in path else path


def _folder(unpacked: Unpacked) -> str:
    return f"{unpacked.filename.partition('-')[0]}.libs"


def _hashed(place: str, sha256: str) -> str:
    """Give auditwheel's name for a library: that of its file and a part of its hash."""
    base, _, rest = posixpath.basename(place).partition(".")
    return f"{base}-{sha256[:8]}.{rest}"


def _search_path(library: Library) -> list[str]:
    """Give the folders that a library of the root file system looks for its own in."""
    origin = posixpath.dirname(library.place)
    folders = library.native.runpath or library.native.rpath
    return [re.sub(r"\$(ORIGIN\b|\{ORIGIN\})", lambda _: origin, folder) for folder in folders]


def _check(plan: Plan, unpacked: Unpacked, target: Target) -> None:
    """Refuse libraries that need a newer system than the runtime."""
    faults = {}
    for library in plan.libraries.values():
        needs = {
            version
            for soname, versions in library.native.version_needs.items()
            for version, is_weak in versions.items()
            if soname not in plan.libraries and not is_weak and target.defines(version) is False
        }
        if needs:
            faults[posixpath.basename(library.place)] = max(needs, key=_in_order)
    if faults:
        name = unpacked.filename.partition("-")[0]
        told = ", ".join(f"`{library}` needs {version}" for library, version in sorted(faults.items()))
        raise PackagingError(
            f"`{name}` needs libraries of the root file system that `{target}` cannot load, its glibc is "
            f"{target.glibc}: {told}",
            hint=f"give a root file system of an older system, whose glibc is {target.glibc} at most",
        )


def _in_order(version: str) -> tuple[str, list[int]]:
    name, _, numbers = version.partition("_")
    return name, [int(one) for one in re.findall(r"\d+", numbers)]


def _changes(plan: Plan, unpacked: Unpacked) -> Iterator[Change]:
    folder, natives = _folder(unpacked), unpacked.natives()
    names = {soname: library.name for soname, library in plan.libraries.items()}
    for path, sonames in plan.needers.items():
        native = natives[path]
        assert isinstance(native, ElfFile)
        kept = [one for one in native.runpath or native.rpath if one.startswith(("$ORIGIN", "${ORIGIN}"))]
        own = f"$ORIGIN/{posixpath.relpath(folder, posixpath.dirname(_installed(path)) or '.')}"
        rpath = ":".join(dict.fromkeys([*kept, own]))
        yield Change(str(unpacked.folder / path), None, rpath, {soname: names[soname] for soname in sonames})
    for library in {library.name: library for library in plan.libraries.values()}.values():
        needed = {need: names[need] for need in library.native.needed if need in names}
        file = str(unpacked.folder / folder / library.name)
        yield Change(file, library.name, "$ORIGIN" if needed else "", needed)


def _patch(changes: Sequence[Change], patcher: Path, told: Path) -> None:
    told.write_text(json.dumps(changes), encoding="utf-8")
    program = told.with_name("patch.py")
    program.write_text(files("manylambda.sdists.inside").joinpath("patch.py").read_text("utf-8"), encoding="utf-8")
    done = process.ask([sys.executable, "-I", "-S", str(program), str(patcher), str(told)], seconds=_SECONDS)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise PackagingError(f"the libraries of the wheel cannot be changed: {last}")
