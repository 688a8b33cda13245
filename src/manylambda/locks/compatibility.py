"""Whether a target can load a wheel of a given name, how well it fits, and what stands in the way.

Decided from the file name and the target's own tags; `packaging.tags` is not needed, which keeps warm builds fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.target import GlibcVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manylambda.target import Target

_MANYLINUX: Final = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_LEGACY: Final = {
    "manylinux1": GlibcVersion(2, 5),
    "manylinux2010": GlibcVersion(2, 12),
    "manylinux2014": GlibcVersion(2, 17),
}
_INTERPRETER: Final = re.compile(r"(cp|py|pp|graalpy|ip|jy)(\d)(\d*)")
_NAMES: Final = {
    "cp": "CPython",
    "pp": "PyPy",
    "graalpy": "GraalPy",
    "ip": "IronPython",
    "jy": "Jython",
    "py": "Python",
}


class Reason(IntEnum):
    """Why a file is not for the target, the least obstacle first."""

    GLIBC = 1
    LINUX_TAG = 2
    MUSL = 3
    FREE_THREADED = 4
    DEBUG = 5
    ABI = 6
    PYTHON = 7
    REQUIRES_PYTHON = 8
    MACHINE = 9
    SYSTEM = 10
    YANKED = 11
    HASH = 12
    REQUIREMENT = 13
    SDIST = 14
    NAME = 15

    @property
    def word(self) -> str:
        """The reason as written in JSON: `requires-python`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A file that was not taken, and why."""

    filename: str
    reason: Reason
    sentence: str
    """Continues `<filename>, which ...`: `needs glibc 2.39; the runtime has 2.34`."""


class Fit(NamedTuple):
    """How well a wheel fits; the least is the best."""

    rank: int
    """The place of its best tag among the target's."""
    build: tuple[int, str]
    """Negated build tag: of equal wheels the higher build is meant (PEP 427)."""


class Compiled(NamedTuple):
    """The compiled wheels of a release."""

    platforms: tuple[str, ...] = ()
    """In words (`Linux x86_64 (glibc 2.28)`), sorted."""
    brings_library: bool = False
    """Whether they bring a library or a program, not an extension module."""


class _Tags(NamedTuple):
    interpreters: list[str]
    abis: list[str]
    platforms: list[str]
    build: tuple[int, str]

    def __iter__(self) -> Iterator[tuple[str, str, str]]:  # type: ignore[override]
        return (
            (interpreter, abi, platform)
            for interpreter in self.interpreters
            for abi in self.abis
            for platform in self.platforms
        )


def wheel_fit(filename: str, target: Target, *, allow_linux: bool = False) -> Fit | None:
    """Say how well the target can load a wheel, or None when it cannot.

    `allow_linux` also takes `linux_<machine>`, after everything else.
    """
    tags = _parse(filename)
    if tags is None:
        return None
    ranks = target.tag_ranks()
    best = min((ranks[text] for tag in tags if (text := "-".join(tag)) in ranks), default=None)
    if best is None and allow_linux:
        own, stand_in = f"linux_{target.machine}", f"manylinux_2_5_{target.machine}"
        if target.machine == "aarch64":
            stand_in = "manylinux_2_17_aarch64"
        texts = (f"{interpreter}-{abi}-{stand_in}" for interpreter, abi, platform in tags if platform == own)
        best = min((len(ranks) + ranks[text] for text in texts if text in ranks), default=None)
    return None if best is None else Fit(best, tags.build)


def is_compiled(filename: str) -> bool:
    """Whether a wheel says it holds code for some platform or ABI."""
    tags = _parse(filename)
    return tags is not None and (tags.platforms != ["any"] or tags.abis != ["none"])


def compiled(filenames: Iterable[str]) -> Compiled:
    """Say what the compiled ones among the wheels of a release are; those for Linux decide, where there are any."""
    found = [name for name in filenames if is_compiled(name)]
    audiences = (audience(name) for name in found)
    platforms = tuple(sorted({each[1] for each in audiences if each is not None}))
    deciding = [name for name in found if _system_family(name) == "linux"] or found
    return Compiled(platforms, bool(deciding) and all(map(_brings_library, deciding)))


def _brings_library(filename: str) -> bool:
    """Whether a wheel is for a platform but for any interpreter: it brings a library or a program, no extension module.

    `cp38-none-win_amd64` is how early maturin tagged extension modules.
    """
    tags = _parse(filename)
    return (
        tags is not None
        and tags.abis == ["none"]
        and tags.platforms != ["any"]
        and all(interpreter.startswith("py") for interpreter in tags.interpreters)
    )


def _system_family(filename: str) -> str | None:
    """Give the system a wheel is for: `linux` whichever its C library, else as its platform tag starts."""
    tags = _parse(filename)
    if tags is None:
        return None
    family = _platform(tags.platforms[-1])[0]
    return "linux" if family in {"manylinux", "musllinux", "linux"} else family


def wheel_refusal(filename: str, target: Target, *, allow_linux: bool = False) -> Refusal | None:
    """Say why the target cannot load a wheel, by the tag that comes nearest; None when it can."""
    tags = _parse(filename)
    if tags is None:
        return Refusal(filename=filename, reason=Reason.NAME, sentence="is not named as a wheel must be")
    if wheel_fit(filename, target, allow_linux=allow_linux) is not None:
        return None
    odd = (Reason.ABI, "has a combination of tags that no interpreter of the runtime has")
    found = [
        (*max(_obstacles(*tag, target), key=lambda obstacle: obstacle[0], default=odd), _platform(tag[2])[1] or (0, 0))
        for tag in tags
    ]
    reason, sentence, _ = min(found, key=lambda obstacle: (obstacle[0], obstacle[2]))
    return Refusal(filename=filename, reason=reason, sentence=sentence)


def needed_glibc(filename: str) -> GlibcVersion | None:
    """Give the least glibc that any of its platform tags asks for; None when none names one."""
    tags = _parse(filename)
    versions = [glibc for platform in (tags.platforms if tags else []) if (glibc := _platform(platform)[1])]
    return min(versions, default=None)


def distance(filename: str, target: Target) -> tuple[int, bool, tuple[int, int], str]:
    """Order wheels that are refused for the same reason: the nearest Python, glibc before musl, the oldest glibc."""
    tags = _parse(filename)
    if tags is None:
        return (1000, True, (0, 0), filename)
    versions = [match for interpreter in tags.interpreters if (match := _INTERPRETER.fullmatch(interpreter))]
    apart = [
        abs(int(match[3] or target.python[1]) - target.python[1]) + 100 * abs(int(match[2]) - target.python[0])
        for match in versions
    ]
    is_musl = all(platform.startswith("musllinux") for platform in tags.platforms)
    return (min(apart, default=1000), is_musl, needed_glibc(filename) or (0, 0), filename)


def audience(filename: str) -> tuple[str, str] | None:
    """Say for whom a wheel is: (interpreter, system), e.g. `("CPython 3.13", "Linux x86_64")`."""
    tags = _parse(filename)
    if tags is None:
        return None
    interpreter = tags.interpreters[-1]
    abi = tags.abis[-1]
    name = _interpreter_name(interpreter)
    if abi == "abi3":
        name += " or later"
    elif abi.endswith("t") and abi.startswith("cp"):
        name += " free-threaded"
    return name, _system_name(tags.platforms[-1])


def _parse(filename: str) -> _Tags | None:
    parts = filename.removesuffix(".whl").split("-")
    if len(parts) not in {5, 6} or not filename.endswith(".whl"):
        return None
    build = (0, "")
    if len(parts) == 6:
        match = re.match(r"(\d+)(.*)", parts[2])
        build = (-int(match[1]), match[2]) if match else (0, parts[2])
    interpreters, abis, platforms = (part.split(".") for part in parts[-3:])
    return _Tags(interpreters, abis, platforms, build)


def _platform(tag: str) -> tuple[str, GlibcVersion | None, str]:
    """Split a platform tag: (family, glibc, machine)."""
    if match := _MANYLINUX.fullmatch(tag):
        return "manylinux", GlibcVersion(int(match[1]), int(match[2])), match[3]
    family, _, machine = tag.partition("_")
    if family in _LEGACY:
        return "manylinux", _LEGACY[family], machine
    if family == "musllinux":
        return "musllinux", None, "_".join(machine.split("_")[2:])
    if family == "linux":
        return "linux", None, machine
    return family, None, ""


@lru_cache(maxsize=32)
def _pairs(target: Target) -> frozenset[str]:
    """Return interpreter and ABI of every tag of a target: a page of an index asks thousands of times."""
    return frozenset(text.rpartition("-")[0] for text in target.tag_strings())


def _obstacles(interpreter: str, abi: str, platform: str, target: Target) -> Iterator[tuple[Reason, str]]:
    family, glibc, machine = _platform(platform)
    if family in {"manylinux", "musllinux", "linux"} and machine != target.machine:
        yield Reason.MACHINE, f"is for {machine}; the target is {target.machine}"
    elif family == "manylinux" and glibc is not None and glibc > target.glibc:
        yield Reason.GLIBC, f"needs glibc {glibc}; the runtime has {target.glibc}"
    elif family == "musllinux":
        yield Reason.MUSL, "is built for musl libc; the runtime has glibc"
    elif family == "linux":
        yield Reason.LINUX_TAG, "was built on somebody's own host (`linux` tag), which says nothing about glibc"
    elif family not in {"manylinux", "any"}:
        yield Reason.SYSTEM, f"is for {_system_name(platform)}"
    if f"{interpreter}-{abi}" in _pairs(target):
        return
    has = f"the runtime has {target.python[0]}.{target.python[1]}"
    match = _INTERPRETER.fullmatch(interpreter)
    own = (target.python[0], target.python[1])
    wanted = (int(match[2]), int(match[3])) if match and match[3] else None
    if (abi.startswith("cp") and abi.endswith("t")) or abi == "abi3t":
        yield Reason.FREE_THREADED, "is for free-threaded CPython; the runtime's is not"
        if wanted is not None and wanted != own:
            yield Reason.PYTHON, f"is for {_interpreter_name(interpreter)}; {has}"
    elif match and (match[1] not in {"cp", "py"} or (wanted or (own if int(match[2]) == own[0] else (0, 0))) != own):
        yield Reason.PYTHON, f"is for {_interpreter_name(interpreter)}{' or later' if abi == 'abi3' else ''}; {has}"
    elif abi.startswith("cp") and abi.endswith("d"):
        yield Reason.DEBUG, "is for a debug build of CPython"
    else:
        yield Reason.ABI, f"has the ABI tag `{abi}`; the runtime's is `{target.abi}`"


def _interpreter_name(tag: str) -> str:
    match = _INTERPRETER.fullmatch(tag)
    if match is None:
        return tag
    return f"{_NAMES[match[1]]} {match[2]}" + (f".{match[3]}" if match[3] else "")


def _system_name(platform: str) -> str:
    family, glibc, machine = _platform(platform)
    if family in {"manylinux", "linux"}:
        return f"Linux {machine}" + (f" (glibc {glibc})" if glibc else "")
    if family == "musllinux":
        return f"musl Linux {machine}"
    names = {"any": "any system", "win32": "Windows", "win": "Windows", "macosx": "macOS"}
    return names.get(family, {"ios": "iOS", "android": "Android"}.get(family, platform))
