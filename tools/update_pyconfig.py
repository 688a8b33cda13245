# /// script
# requires-python = ">=3.11"
# dependencies = ["manylambda", "ziglang==0.17.1"]
# ///
"""Write `src/manylambda/data/pyconfig/3.N.h`: the `pyconfig.h` that C extensions of a runtime are compiled with.

One file serves both machines of a minor version. What it says comes from a `pyconfig.h` that configure has made:

- of the newest patch level that pyenv has built (`--pyenv`, on Linux, x86_64), else of Debian's package for amd64;
- where aarch64 differs is what differs between Debian's packages for amd64 and arm64. Where Debian has no such version,
  the two neighbours have to agree.

A define that names a C function, a header, a type or a constant stays if zig finds it at the runtime's glibc on both
machines; sizes are measured on both. What belongs to libraries that no runtime promises is left out.

    python tools/update_pyconfig.py --pyenv ~/.pyenv/versions --keep FOLDER
    python tools/update_pyconfig.py --check ...         write nothing; exit status 1 where a file would change

Packages are checked against the sha256 that the mirror's index states.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from update_symbols import Mirror

FOLDER: Final = Path(__file__).parents[1] / "src" / "manylambda" / "data" / "pyconfig"
# Our name of a machine: Debian's.
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
SUITES: Final = {
    (3, 9): "bullseye",
    (3, 11): "bookworm",
    (3, 13): "trixie",
    (3, 14): "forky",
    (3, 15): "forky",
}

# Libraries that no runtime promises, and how the interpreter itself was built: nothing that an extension may rest on.
# `Py_ENABLE_SHARED` means something to Windows and Cygwin alone; `WITH_DTRACE` asks for a header nobody installs.
_FOREIGN: Final = re.compile(
    r"HAVE_(N?CURSES|PANEL|TERM_H|(LIB)?READLINE|LIBEDIT|EDITLINE|RL_|(LIB)?UUID|(LIB)?DB(_H)?|N?DBM_H|(LIB)?N?GDBM|LIBSQLITE3|X509_|FFI_"
    r"|ZLIB|BZLIB|LZMA|ZSTD|BLUETOOTH|DTRACE)\w*|MVWDELCH_IS_EXPRESSION|WINDOW_HAS_FLAGS|Py_RL_\w+|PY_SQLITE_\w+|_Py_FFI_\w+"
    r"|PY_SSL_\w+|Py_ENABLE_SHARED|WITH_DTRACE|WITH_VALGRIND"
)
# These change the ABI that the tags of wheels stand for.
_FORBIDDEN: Final = {"Py_DEBUG", "Py_GIL_DISABLED", "Py_TRACE_REFS", "Py_REF_DEBUG"}

# What the comment of a define says that it is about, in the two styles of autoconf's quotes.
_ABOUT: Final = {
    "header": re.compile(r"have the <(?P<name>[^>]+)> header"),
    "function": re.compile(r"have the [`']?(?P<name>\w+)(?:\(\))?'? function"),
    "member": re.compile(r"if [`'](?P<name>\w+)' is a member of [`'](?P<type>[^']+)'"),
    "type": re.compile(r"system has the type [`'](?P<name>[^']+)'"),
    "declaration": re.compile(r"the declaration of [`'](?P<name>\w+)', and to 0"),
    "size": re.compile(r"The size of [`'](?P<name>[^']+)', as computed"),
    "alignment": re.compile(r"The normal alignment of [`'](?P<name>[^']+)', in bytes"),
}
# Those whose comments say it in other words.
_FUNCTIONS: Final = {
    "HAVE_EPOLL": "epoll_create",  # "the `epoll' functions" up to 3.10
    "HAVE_GETC_UNLOCKED": "getc_unlocked",
    "HAVE_GETHOSTBYNAME_R": "gethostbyname_r",
    "HAVE_GETHOSTBYNAME_R_6_ARG": "gethostbyname_r",
    "HAVE_GETRANDOM": "getrandom",
    "HAVE_WORKING_TZSET": "tzset",
}
_HEADERS: Final = {"HAVE_WCHAR_H": "wchar.h", "HAVE_STD_ATOMIC": "stdatomic.h"}
_EXPRESSIONS: Final = {
    "HAVE_ADDRINFO": "sizeof(struct addrinfo)",
    "HAVE_DEVICE_MACROS": "makedev(major(1), minor(1))",
    "HAVE_DIRENT_D_TYPE": "((struct dirent *)0)->d_type",
    "HAVE_GETRANDOM_SYSCALL": "SYS_getrandom",
    "HAVE_HTOLE64": "htole64(le64toh(1))",
    "HAVE_LINUX_CAN_RAW_FD_FRAMES": "CAN_RAW_FD_FRAMES",
    "HAVE_LINUX_CAN_RAW_JOIN_FILTERS": "CAN_RAW_JOIN_FILTERS",
    "HAVE_MAKEDEV": "makedev(1, 1)",
    "HAVE_SOCKADDR_ALG": "sizeof(struct sockaddr_alg)",
    "HAVE_SOCKADDR_STORAGE": "sizeof(struct sockaddr_storage)",
    "HAVE_SSIZE_T": "sizeof(ssize_t)",
    "HAVE_STAT_TV_NSEC": "((struct stat *)0)->st_mtim.tv_nsec",
    "HAVE_TM_ZONE": "((struct tm *)0)->tm_zone",
    "HAVE_UT_NAMESIZE": "UT_NAMESIZE",
    "PTHREAD_SYSTEM_SCHED_SUPPORTED": "PTHREAD_SCOPE_SYSTEM",
    "_Py_HAVE_PR_SET_VMA_ANON_NAME": "PR_SET_VMA_ANON_NAME",
}
# Where these names are declared.
_PRELUDE: Final = "".join(
    f"#include <{name}>\n"
    for name in (
        *("stddef.h", "stdint.h", "stdio.h", "wchar.h", "math.h", "time.h", "signal.h", "pthread.h", "dlfcn.h"),
        *("sys/types.h", "sys/stat.h", "sys/socket.h", "sys/sysmacros.h", "sys/syscall.h", "sys/prctl.h", "endian.h"),
        *("dirent.h", "netdb.h", "pwd.h", "utmp.h", "linux/if_alg.h", "linux/can.h", "linux/can/raw.h"),
    )
)
# The headers that zig has are of one glibc, newer than the runtime's; these came later than the oldest of ours.
_SINCE: Final = {"sys/pidfd.h": (2, 36), "sys/rseq.h": (2, 35), "threads.h": (2, 28)}


class Define(NamedTuple):
    """What a name is defined as; guarded where a definition of the compiler's arguments goes first."""

    value: str
    guarded: bool = False


class Source(NamedTuple):
    """A `pyconfig.h` as configure made it; `known` are the names that this version has at all: name -> comment."""

    version: str
    defines: Mapping[str, Define]
    known: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pyconfig:
    """One file of ours: the lines of its head, what both machines share, and what each has of its own."""

    head: tuple[str, ...]
    common: Mapping[str, Define]
    machines: Mapping[str, Mapping[str, Define]]


_DIRECTIVE: Final = re.compile(r"#\s*(\w+)\s*(.*)")


def read_source(text: str, version: str) -> Source:
    """Read what configure made; conditions that cannot hold on a Linux of ours are left out."""
    defines: dict[str, Define] = {}
    known: dict[str, str] = {}
    conditions: list[str] = []
    comment = ""
    for kind, body in _parts(text):
        if kind == "comment":
            if undefined := re.fullmatch(r"#\s*undef (\w+)", body):
                known.setdefault(undefined[1], comment)
            else:
                comment = body
            continue
        directive = _DIRECTIVE.fullmatch(body)
        assert directive is not None, body
        match directive[1]:
            case "if" | "ifdef" | "ifndef":
                conditions.append(f"{directive[1]} {directive[2]}")
            case "else":
                conditions[-1] = "else"
            case "endif":
                conditions.pop()
            case "define":
                name, _, value = directive[2].partition(" ")
                guards = [one for one in conditions if one != "ifndef Py_PYCONFIG_H"]
                if name == "Py_PYCONFIG_H" or any(re.search("APPLE|__USLC__", one) for one in guards):
                    continue
                if guards not in ([], [f"ifndef {name}"]):
                    raise SystemExit(f"{version}: `{name}` stands under a condition that nobody reviewed: {guards}")
                define = Define(value.strip(), guarded=bool(guards))
                former = defines.get(name, define)
                if former.value != define.value:
                    raise SystemExit(f"{version}: `{name}` is defined twice, as {former.value} and {define.value}")
                # The unguarded one holds in the end.
                defines[name] = Define(define.value, former.guarded and define.guarded)
                known.setdefault(name, comment)
            case other:
                raise SystemExit(f"{version}: `#{other}` is a directive that nobody reviewed")
    return Source(version, defines, known)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Part comments from directives, which lose the comments behind them."""
    at = 0
    for found in re.finditer(r"/\*(.*?)\*/|^[ \t]*(#[^\n]*)", text, re.DOTALL | re.MULTILINE):
        if found.start() < at:
            continue
        at = found.end()
        if found[2] is not None:
            yield "directive", re.sub(r"/\*.*", "", found[2]).strip()
        else:
            yield "comment", " ".join(found[1].split())


def parse(text: str) -> Pyconfig:
    """Read a file of ours."""
    head, _, rest = text.partition(" */\n")
    common: dict[str, Define] = {}
    machines: dict[str, dict[str, Define]] = {machine: {} for machine in MACHINES}
    into = common
    guard = ""
    for line in rest.splitlines():
        if machine := re.fullmatch(r"#(?:el)?if defined\(__(\w+)__\)", line):
            into = machines[machine[1]]
        elif line.startswith("#ifndef "):
            guard = line.removeprefix("#ifndef ")
        elif line == "#endif":
            guard = ""
        elif (define := re.fullmatch(r"#\s*define (\w+)(?: (.*))?", line)) and define[1] != "Py_PYCONFIG_H":
            into[define[1]] = Define(define[2] or "", guarded=define[1] == guard)
    lines = tuple(line.removeprefix("/* ").removeprefix(" * ") for line in head.splitlines())
    return Pyconfig(head=lines, common=common, machines=machines)


def written(config: Pyconfig) -> str:
    """Write a file of ours."""
    lines = [("/* " if number == 0 else " * ") + line for number, line in enumerate(config.head)]
    lines[-1] += " */"
    lines += ["#ifndef Py_PYCONFIG_H", "#define Py_PYCONFIG_H"]
    lines += _lines(config.common)
    lines += ["#ifndef __linux__", '#error "this pyconfig.h is of Linux"', "#endif"]
    for word, (machine, defines) in zip(("if", "elif"), config.machines.items(), strict=True):
        lines += [f"#{word} defined(__{machine}__)", *_lines(defines)]
    lines += ["#else", '#error "Lambda has no such machine"', "#endif", "#endif"]
    return "\n".join(lines) + "\n"


def _lines(defines: Mapping[str, Define]) -> Iterator[str]:
    for name, define in sorted(defines.items()):
        body = f"{name} {define.value}".rstrip()
        if define.guarded:
            yield from (f"#ifndef {name}", f"# define {body}", "#endif")
        else:
            yield f"#define {body}"


class Zig:
    """A C compiler for one machine and one glibc."""

    def __init__(self, machine: str, glibc: tuple[int, int], folder: Path) -> None:
        self.glibc = glibc
        self._folder = folder
        self._object = str(folder / "check.o")
        self._command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{glibc[0]}.{glibc[1]}"]

    def without_functions(self, names: Iterable[str]) -> set[str]:
        """Return those of the names that no library of glibc defines."""
        left = set(names)
        missing: set[str] = set()
        # The linker stops after twenty errors.
        while left:
            order = sorted(left)
            source = "".join(f"char {name}();\n" for name in order)
            source += f"void *all[] = {{{', '.join(order)}}};\nint main(void) {{ return all[0] == 0; }}\n"
            libraries = ("-lm", "-lpthread", "-ldl", "-lutil", "-lrt", "-lresolv")
            ran = self._run(source, "-w", "-fno-builtin", "-o", str(self._folder / "linked"), *libraries)
            if ran.returncode == 0:
                break
            found = set(re.findall(r"undefined symbol: (\w+)", ran.stderr)) & left
            if not found:
                raise SystemExit(f"zig could not link: {ran.stderr}")
            missing |= found
            left -= found
        return missing

    def without_headers(self, names: Iterable[str]) -> set[str]:
        """Return those of the headers that are not there."""
        # Those of the kernel last: their macros spoil the declarations of glibc's.
        order = sorted(names, key=lambda name: (name.startswith(("asm/", "linux/")), name))
        tests = (f"#if !__has_include(<{name}>)\nmissing {number}\n#endif\n" for number, name in enumerate(order))
        ran = self._run("".join(tests), "-E", "-P")
        if ran.returncode:
            raise SystemExit(f"zig could not preprocess: {ran.stderr}")
        missing = {order[int(number)] for number in re.findall(r"missing (\d+)", ran.stdout)}
        missing |= {name for name in order if _SINCE.get(name, (0, 0)) > self.glibc}
        # A header that is there but cannot be included would break every extension that looks.
        source = "".join(
            f"#include <{name}>\n" for name in ("sys/types.h", "sys/socket.h", *order) if name not in missing
        )
        ran = self._run(source, "-D_GNU_SOURCE", "-w", "-c", "-o", self._object)
        if ran.returncode:
            raise SystemExit(f"zig could not compile all headers together: {ran.stderr}")
        return missing

    def without_expressions(self, expressions: Mapping[str, str]) -> set[str]:
        """Return the names of those statements that do not compile."""
        order = sorted(expressions)
        source = _PRELUDE + "".join(
            f'#line {10 * number + 10} "check"\nvoid check{number}(void) {{\n{expressions[name]}\n}}\n'
            for number, name in enumerate(order)
        )
        ran = self._run(
            source, "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-w", "-ferror-limit=0", "-c", "-o", self._object
        )
        found = {
            order[int(line) // 10 - 1] for line in re.findall(r"^check:(\d+):\d+: error", ran.stderr, re.MULTILINE)
        }
        if (ran.returncode != 0) != bool(found):
            raise SystemExit(f"zig could not compile: {ran.stderr}")
        return found

    def _run(self, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        file = self._folder / "check.c"
        file.write_text(source, encoding="utf-8")
        return subprocess.run([*self._command, str(file), *arguments], capture_output=True, text=True, check=False)


def missing_names(source: Source, zig: Zig) -> set[str]:
    """Return the defines of a source that do not hold; one whose size differs is an error."""
    functions = {name: what for name, what in _FUNCTIONS.items() if name in source.defines}
    headers = {name: what for name, what in _HEADERS.items() if name in source.defines}
    statements = {name: f"(void)({what});" for name, what in _EXPRESSIONS.items() if name in source.defines}
    exact: dict[str, str] = {}
    for name, define in source.defines.items():
        for about, pattern in _ABOUT.items():
            found = pattern.search(source.known[name])
            if found is None or _FOREIGN.fullmatch(name):
                continue
            what = found["name"]
            match about:
                case "function":
                    functions.setdefault(name, what)
                case "header":
                    headers[name] = what
                case "member":
                    statements[name] = f"(void)sizeof((({found['type']} *)0)->{what});"
                case "type":
                    statements[name] = f"(void)sizeof({what});"
                case "declaration" if define.value == "1":
                    statements[name] = f"\n#ifndef {what}\n(void){what};\n#endif\n"
                case "size":
                    exact[name] = f'_Static_assert(sizeof({what}) == {define.value}, "");'
                case "alignment":
                    exact[name] = f'_Static_assert(__alignof__({what}) == {define.value}, "");'
                case _:
                    pass
    if wrong := zig.without_expressions(exact):
        raise SystemExit(f"{source.version}: not what zig measures: {', '.join(sorted(wrong))}")
    no_functions = zig.without_functions(functions.values())
    no_headers = zig.without_headers(headers.values())
    return (
        {name for name, what in functions.items() if what in no_functions}
        | {name for name, what in headers.items() if what in no_headers}
        | zig.without_expressions(statements)
    )


Difference = dict[str, tuple[Define | None, Define | None]]


def differences(first: Source, second: Source) -> Difference:
    """Return what two sources disagree on."""
    return {
        name: (first.defines.get(name), second.defines.get(name))
        for name in sorted({**first.defines, **second.defines})
        if first.defines.get(name) != second.defines.get(name)
    }


class Sources:
    """The `pyconfig.h` files that ours come from."""

    def __init__(self, pyenv: Path, mirror: Mirror) -> None:
        self._pyenv = pyenv
        self._mirror = mirror
        self._read: dict[tuple[tuple[int, int], str], Source] = {}

    def base(self, minor: tuple[int, int]) -> tuple[Source, str]:
        """Return what a file is made from, and the words for where that is from."""
        dotted = "{}.{}".format(*minor)
        built = [path.parents[2].name for path in self._pyenv.glob(f"{dotted}.*/include/python{dotted}/pyconfig.h")]
        levels = {int(name.split(".")[2]): name for name in built if re.fullmatch(r"\d+\.\d+\.\d+", name)}
        if levels:
            version = levels[max(levels)]
            text = (self._pyenv / version / "include" / f"python{dotted}" / "pyconfig.h").read_text(encoding="utf-8")
            return read_source(text, version), f"CPython {version} as configured by pyenv on x86_64"
        source = self.debian(minor, "x86_64")
        return source, f"Debian's libpython{dotted}-dev {source.version}, amd64"

    def debian(self, minor: tuple[int, int], machine: str) -> Source:
        """Read what Debian's package has."""
        if (minor, machine) not in self._read:
            package = self._mirror.package(SUITES[minor], machine, "libpython{}.{}-dev".format(*minor))
            end = f"/{machine}-linux-gnu/python{{}}.{{}}/pyconfig.h".format(*minor)
            (text,) = (data for _, data in self._mirror.files(package, lambda path: path.endswith(end)))
            self._read[minor, machine] = read_source(text.decode(), package.version)
        return self._read[minor, machine]

    def differences(self, minor: tuple[int, int]) -> tuple[Difference, str]:
        """Return where aarch64 differs from x86_64, and the words for how that is known."""
        if minor in SUITES:
            first, second = (self.debian(minor, machine) for machine in MACHINES)
            name = "libpython{}.{}-dev".format(*minor)
            return differences(first, second), f"as in Debian's {name} {second.version}, amd64 and arm64"
        below, above = (minor[0], minor[1] - 1), (minor[0], minor[1] + 1)
        union: Difference = {}
        for neighbour in (below, above):
            for name, pair in self.differences(neighbour)[0].items():
                if union.setdefault(name, pair) != pair:
                    raise SystemExit(f"{minor}: its neighbours disagree on `{name}`: {union[name]} and {pair}")
        return union, "derived: as in {}.{} and {}.{}, of the names that it has".format(*below, *above)


class Made(NamedTuple):
    """A file, and what was left out of its source."""

    config: Pyconfig
    missing: list[str]
    foreign: list[str]


def make(minor: tuple[int, int], glibc: tuple[int, int], sources: Sources) -> Made:
    """Make one file."""
    base, origin = sources.base(minor)
    differing, how = sources.differences(minor)
    differing = {name: pair for name, pair in differing.items() if name in base.known}
    for name, (here, _) in differing.items():
        if base.defines.get(name) != here:
            raise SystemExit(f"{base.version}: `{name}` is {base.defines.get(name)}, elsewhere on x86_64 {here}")
    if forbidden := _FORBIDDEN & set(base.defines):
        raise SystemExit(f"{base.version}: of another ABI: {', '.join(sorted(forbidden))}")
    foreign = {name for name in base.defines if _FOREIGN.fullmatch(name)}
    missing: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for number, machine in enumerate(MACHINES):
            others = {name: pair[number] for name, pair in differing.items()}
            defines = {name: define for name, define in {**base.defines, **others}.items() if define is not None}
            missing |= missing_names(base._replace(defines=defines), Zig(machine, glibc, Path(folder)))
    missing -= foreign
    # A declaration that is not there is defined as 0, not left out.
    absent = {name: Define("0") for name in missing if name.startswith("HAVE_DECL_")}
    common = {
        name: absent.get(name, define)
        for name, define in base.defines.items()
        if name not in foreign | set(differing) and (name not in missing or name in absent)
    }
    machines = {
        machine: {
            name: define
            for name, pair in differing.items()
            if (define := pair[number]) is not None and name not in foreign | missing
        }
        for number, machine in enumerate(MACHINES)
    }
    head = (
        "pyconfig.h of CPython {}.{} for Linux on x86_64 and aarch64, with what glibc {}.{} has.".format(
            *minor, *glibc
        ),
        "Written by tools/update_pyconfig.py; edit that instead.",
        f"Source: {origin}.",
        f"What differs on aarch64: {how}.",
        "SPDX-License-Identifier: PSF-2.0",
    )
    config = Pyconfig(head=head, common=common, machines=machines)
    return Made(config, sorted(missing), sorted(foreign))


def main() -> int:
    """Write the files; see the text of the module."""
    # Siblings of this file: the tests, which import it, do without.
    from pythons import _debian_mirror
    from update_symbols import Mirror

    from manylambda.target import all_targets

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mirror", default=_debian_mirror(), help="of Debian packages; without: the system's own")
    parser.add_argument("--pyenv", type=Path, required=True, help="folder of the interpreters that pyenv has built")
    parser.add_argument("--keep", type=Path, required=True, help="folder for what is downloaded")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    sources = Sources(given.pyenv, Mirror(given.mirror, given.keep))
    runtimes = {target.python: target.glibc for target in all_targets() if target.can_build}
    differs = False
    FOLDER.mkdir(exist_ok=True)
    for minor, glibc in runtimes.items():
        made = make(minor, glibc, sources)
        path = FOLDER / "{}.{}.h".format(*minor)
        text = written(made.config)
        verb = "is right"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differs = True
            verb = "would change" if given.check else "written"
            if not given.check:
                path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path.name} {verb}")
        print(f"  left out, not there with glibc {glibc}: {' '.join(made.missing) or 'nothing'}")
        print(f"  left out, of other libraries or of the interpreter: {' '.join(made.foreign) or 'nothing'}")
    return int(differs and given.check)


if __name__ == "__main__":
    sys.exit(main())
