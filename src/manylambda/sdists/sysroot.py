"""A root file system of the target (`--sysroot`): where its libraries are, and what of it a build may use.

It is read like the target would read it: its symbolic links lead to places within it, whatever this host has there.
What belongs to the C library and to the compiler is left out, for these are zig's, of the version that the runtime has.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda import elf
from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.target import Target

HEADERS: Final = ("/usr/local/include", "/usr/include/{triple}", "/usr/include")
"""Where compilers look for headers by themselves."""

_MACHINES: Final = {62: "x86_64", 183: "aarch64"}
_MOST_LINKS: Final = 40
_LIBRARY: Final = re.compile(r".+\.so(\.\d[\w.+-]*)?|lib.+\.a")
# Of glibc and gcc. What glibc links as a script (`libc.so`) even names files by the path that they have on the target.
_OF_THE_COMPILER: Final = re.compile(
    r"(ld-[\w.-]+|lib(c|m|dl|pthread|rt|util|resolv|anl|g|mcheck|mvec|BrokenLocale|nss_(compat|dns|files|hesiod|db|nis|"
    r"nisplus)|thread_db|(c|pthread|mvec)_nonshared|memusage|pcprofile|SegFault|c_malloc_debug|cidn"
    r"|gcc|gcc_s|gcc_eh|stdc\+\+|stdc\+\+fs|supc\+\+)(-\d[\d.]*)?)\.(so|a)(\..*)?|libnsl(-2.*|\.so\.1)"
)
_CONFIG: Final = re.compile(r"(?!python|perl)[\w.+-]*[-_]config")
_DECISIVE: Final = (
    "/usr/include", "/usr/local/include", "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib",
    "/usr/local/lib64", "/usr/share/pkgconfig", "/usr/bin", "/usr/local/bin", "/etc/ld.so.conf.d",
)  # fmt: skip
_HOW: Final = (
    "unpack one with the libraries' development packages; on Debian: `mmdebstrap --variant=extract "
    "--architectures=arm64 --include=libpq-dev bullseye DIR`"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sysroot:
    """A root file system, looked through once."""

    root: Path
    machine: str
    """As `uname -m` says it."""
    libraries: Mapping[str, str]
    """By file name: where the file really is, in words of the target (`/usr/lib/x86_64-linux-gnu/libz.so.1.2.11`)."""

    @property
    def triple(self) -> str:
        """As GNU names the machine."""
        return f"{self.machine}-linux-gnu"

    def file(self, place: str) -> Path:
        """Give where a real place of it is on this host."""
        return Path(f"{self.root}{place}")

    def library(self, soname: str, folders: Sequence[str] = ()) -> str | None:
        """Give the place of a shared library for the machine, from `folders` before all others; None without one."""
        if _OF_THE_COMPILER.fullmatch(soname):
            return None
        found = (resolve(self.root, f"{folder}/{soname}") for folder in folders)
        for place in (*found, self.libraries.get(soname)):
            if place is not None and _machine(self.file(place)) == self.machine:
                return place
        return None

    def programs(self) -> dict[str, str]:
        """Give the scripts that tell of libraries (`xml2-config`) and the place of each; `pg_config` whatever it is."""
        found: dict[str, str] = {}
        for folder in ("/usr/local/bin", "/usr/bin"):
            for name in _names(self.root, folder):
                place = resolve(self.root, f"{folder}/{name}") if _CONFIG.fullmatch(name) else None
                if place is not None and (name == "pg_config" or _is_script(self.file(place))):
                    found.setdefault(name, place)
        return dict(sorted(found.items()))


def open_sysroot(root: Path, target: Target) -> Sysroot:
    """Look through a root file system. Raises `RequestError` for what is none, or none of `target`."""
    check(root)
    machine = target.machine
    libraries: dict[str, str] = {}
    for folder in (*library_folders(f"{machine}-linux-gnu"), *_configured_folders(root)):
        for name in _names(root, folder):
            if not _LIBRARY.fullmatch(name) or _OF_THE_COMPILER.fullmatch(name) or name in libraries:
                continue
            place = resolve(root, f"{folder}/{name}")
            if place is not None and _machine(Path(f"{root}{place}")) in {machine, ""}:
                libraries[name] = place
    others = _machines(root)
    if machine not in others and others:
        told = " and ".join(sorted(others))
        raise RequestError(
            f"the libraries of the root file system are for {told}, not for `{target}`: `{root}`",
            hint=f"`--sysroot` wants one for {machine}; build for the other targets in a run of their own",
        )
    if not libraries:
        raise RequestError(f"there is no library in the root file system: `{root}`", hint=_HOW)
    return Sysroot(root=root, machine=machine, libraries=libraries)


def check(root: Path) -> None:
    """Raise `RequestError` for a folder that is no root file system, or one without headers."""
    if not root.is_dir():
        raise RequestError(f"the root file system does not exist: `{root}`", hint=_HOW)
    for place in ("/usr/lib", "/usr/include"):
        found = resolve(root, place)
        if found is None or not Path(f"{root}{found}").is_dir():
            raise RequestError(
                f"this is no root file system to build with, it has no `{place[1:]}`: `{root}`", hint=_HOW
            )


def digest(root: Path) -> str:
    """Hash what of a root file system can decide a build: names, sizes and dates of headers, libraries and programs.

    Reading all of it would take longer than most builds; what is unpacked from packages has the dates of these, so that
    the same packages unpacked elsewhere give the same. Raises as `check` does.
    """
    check(root)
    told = hashlib.sha256()
    seen: set[str] = set()
    for place in _DECISIVE:
        found = resolve(root, place)
        if found is None or found in seen:
            continue
        seen.add(found)
        for name, fact in _facts(f"{root}{found}", "config" if found.endswith("/bin") else ""):
            told.update(f"{found}/{name}\0{fact}\0".encode("utf-8", "surrogateescape"))
    return told.hexdigest()


def _facts(folder: str, part: str) -> Iterator[tuple[str, str]]:
    """Yield the files below `folder` with `part` in their name, in a fixed order, and what `stat` knows of each."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            yield entry.name, os.readlink(entry.path)  # noqa: PTH115
        elif entry.is_dir():
            yield from ((f"{entry.name}/{name}", fact) for name, fact in _facts(entry.path, part))
        elif part in entry.name:
            about = entry.stat()
            yield entry.name, f"{about.st_size} {about.st_mtime_ns}"


def library_folders(triple: str) -> tuple[str, ...]:
    """Give where a root file system has libraries, Amazon's folders and Debian's."""
    return (
        "/usr/local/lib64",
        "/usr/local/lib",
        "/usr/lib64",
        "/lib64",
        f"/usr/lib/{triple}",
        f"/lib/{triple}",
        "/usr/lib",
        "/lib",
    )


def resolve(root: Path, place: str) -> str | None:
    """Give the real place of what is at `place` of a root file system, in words of the target; None for nothing."""
    left = [part for part in reversed(place.split("/")) if part]
    at: list[str] = []
    links = 0
    while left:
        part = left.pop()
        if part == ".":
            continue
        if part == "..":
            at[-1:] = []
            continue
        here = f"{root}/{'/'.join([*at, part])}"
        if os.path.islink(here):  # noqa: PTH114 - many files
            links += 1
            if links > _MOST_LINKS:
                return None
            leads_to = os.readlink(here)  # noqa: PTH115
            if leads_to.startswith("/"):
                at = []
            left += [one for one in reversed(leads_to.split("/")) if one]
        elif os.path.lexists(here):
            at.append(part)
        else:
            return None
    return "/" + "/".join(at)


def lay_out(sysroot: Sysroot, folder: Path, place: str) -> None:
    """Fill `folder` with the libraries that a build may link; it finds the root file system at `place`."""
    folder.mkdir(parents=True)
    for name, real in sorted(sysroot.libraries.items()):
        file, here = sysroot.file(real), folder / name
        if not name.endswith(".a") and not _machine(file):
            # A linker script. Its files lie beside it.
            script = re.sub(r"(?<![\w.-])/[^\s()]*/", "", file.read_text(encoding="utf-8", errors="replace"))
            here.write_text(script, encoding="utf-8", newline="\n")
        elif os.name != "nt":
            here.symlink_to(f"{place}{real}")
        else:
            try:
                here.hardlink_to(file)
            except OSError:
                shutil.copyfile(file, here)


def _configured_folders(root: Path) -> list[str]:
    """Give the folders that its loader is told of besides, as those of MariaDB's libraries on Amazon Linux."""
    found = []
    for name in _names(root, "/etc/ld.so.conf.d"):
        place = resolve(root, f"/etc/ld.so.conf.d/{name}") if name.endswith(".conf") else None
        if place is not None and Path(f"{root}{place}").is_file():
            lines = Path(f"{root}{place}").read_text(encoding="utf-8", errors="replace").splitlines()
            found += [posixpath.normpath(line.strip()) for line in lines if line.strip().startswith("/")]
    return found


def _names(root: Path, folder: str) -> list[str]:
    """Give what is in a folder of a root file system, sorted; nothing where there is none."""
    place = resolve(root, folder)
    try:
        return sorted(os.listdir(f"{root}{place}")) if place is not None else []  # noqa: PTH208
    except OSError:
        return []


def _machine(file: Path) -> str | None:
    """Give the machine of a shared object, empty for another readable file, None for none."""
    try:
        with file.open("rb") as stream:
            head = stream.read(20)
    except OSError:
        return None
    if elf.sniff(head) != "elf":
        return ""
    return _MACHINES.get(int.from_bytes(head[18:20], "little"), "another machine")


def _is_script(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(2) == b"#!"
    except OSError:
        return False


def _machines(root: Path) -> set[str]:
    """Give the machines that there are libraries for, Debian's folders of every machine included."""
    folders = {"/usr/lib64", "/usr/lib", "/lib64", "/lib"}
    folders |= {f"{one}/{name}" for one in ("/usr/lib", "/lib") for name in _names(root, one) if "-linux-gnu" in name}
    found: set[str] = set()
    for folder in sorted(folders):
        for name in _names(root, folder):
            place = resolve(root, f"{folder}/{name}") if ".so" in name else None
            if place is not None and (machine := _machine(Path(f"{root}{place}"))):
                found.add(machine)
                break
    return found
