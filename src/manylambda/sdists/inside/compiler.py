"""The compilers, linkers and archivers of a build: zig, told the target, whatever the build asks for.

    python -I -S compiler.py SETTINGS.json TOOL ARGUMENT...

TOOL is what the build believes it runs (`cc`, `c++`, `ld`, `ar`, `ranlib`, `strip`, `pkg-config`), or a program of the
root file system such as `xml2-config`. What would tie the result to this host is left out: its headers and libraries,
its processor, debugging information, paths. What fails is written to the settings' `failures`, since a build may go on
without its compiled part and not say so.

It runs once for each file: nothing is imported that need not be.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

# Options of GNU's linker that zig's does not have (0.17.1, each tried); they make a file smaller, stricter or faster to
# load, or write a report. With them those of Apple's.
_UNKNOWN_TO_THE_LINKER = frozenset(
    {
        "--exclude-libs", "-Bsymbolic-functions", "-Bsymbolic-non-weak-functions", "--dynamic-list", "--noinhibit-exec",
        "--undefined", "-u", "--defsym", "--push-state", "--pop-state", "--warn-common", "--icf", "-Map", "--no-relax",
        "-pie", "-t", "--trace", "--cref", "--print-map", "-M", "-rpath-link", "--rpath-link",
        "-dead_strip", "-headerpad_max_install_names", "-install_name", "-undefined", "-search_paths_first",
        "-dead_strip_dylibs", "-exported_symbol", "-exported_symbols_list", "-unexported_symbols_list",
        "-no_fixup_chains", "-ld_classic", "-framework", "-weak_framework", "-bind_at_load", "-w", "-S", "-x",
        "-flat_namespace", "-single_module", "-compatibility_version", "-current_version", "-platform_version",
        "-macosx_version_min",
    }
)  # fmt: skip
_TAKE_A_VALUE = frozenset(
    {
        "--exclude-libs", "--dynamic-list", "--undefined", "-u", "--defsym", "-Map", "-rpath-link", "--rpath-link",
        "-rpath",
        "--rpath", "-R", "-z", "-soname", "--soname", "-h", "--version-script", "-install_name", "--wrap",
        "-undefined", "-exported_symbol", "-exported_symbols_list", "-unexported_symbols_list", "-framework",
        "-weak_framework", "-compatibility_version", "-current_version", "-macosx_version_min",
    }
)  # fmt: skip
_OF_MACOS_WITH_VALUE = frozenset(
    {
        "-arch", "-isysroot", "-framework", "-install_name", "-compatibility_version", "-current_version", "-undefined",
        "-iframework", "-exported_symbols_list", "-unexported_symbols_list", "-multiply_defined",
    }
)  # fmt: skip
_LEFT_OUT = re.compile(
    r"-s|-pipe|-fno-plt|-bundle|-dynamiclib|-flat_namespace|-headerpad_max_install_names|-search_paths_first"
    r"|-mmacosx?-version-min.*|-F.+|-bind_at_load|-single_module|-no-cpp-precomp"
    r"|-m(arch|cpu|tune)=native|-l(python\d.*|System)"  # an extension has no need of libpython
    r"|--target=.*|-fuse-ld=.*"  # by other names than zig's; and zig has one linker
    r"|-g(\d|gdb\d?|dwarf(-\d)?|split-dwarf|line-tables-only|z.*|pubnames|record-gcc-switches)?"
)
_OF_THE_HOST = re.compile(
    r"(/usr/include|/usr/lib\d*|/lib\d*|/usr/local|/opt/homebrew|/opt/local|/System|/Library"
    r"|[A-Za-z]:[\\/]Program Files)"
    r"([\\/]|$)"
)
_ARM_ARCH = re.compile(r"-march=armv([89])(?:\.(\d))?-a((?:\+[a-z0-9]+)*)")
_X86_LEVEL = re.compile(r"-march=x86-64(?:-(v\d))?")
_FOLDER_FOLLOWS = frozenset({"-I", "-L", "-isystem", "-idirafter"})
_LOADER_PATH = re.compile(r"@(loader_path|executable_path)(?=/|$)")
_LIBPYTHON = re.compile(r"(.*[\\/])?python\d+t?(_d)?\.lib", re.IGNORECASE)
_MSVC = re.compile(r"/([DIU])(.*)")
# What Windows starts: a little less than it takes, for it counts the quotes too.
_MOST_CHARACTERS = 30_000
_PLAIN = re.compile(r"[\w.:/=+,-]+")
_SHARED_OR_ARCHIVE = re.compile(r"\.(a|so(\.\d[\w.]*)?)$")
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".c++", ".C", ".s", ".S", ".m", ".i", ".ii")
_ONLY_COMPILES = frozenset({"-c", "-E", "-S", "-M", "-MM", "-fsyntax-only"})


def main(arguments: Sequence[str]) -> int:
    """Run the tool and return its exit status."""
    with open(arguments[0], encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
        settings = json.load(file)
    tool, words = arguments[1], list(_expanded(arguments[2:]))
    if tool == "strip":
        return 0  # it was linked without symbols; zig has nothing that strips in place
    if tool == "pkg-config":
        return _pkg_config(settings, words)
    if tool == "patchelf":
        return _patchelf(settings, words)
    if tool == "run":
        return _run_python(words)
    if tool in settings["programs"]:
        return _ask_program(settings, tool, words)
    if settings["is_windows"]:
        words = list(_of_unix(words))
    if tool == "ld":  # libtool asks for one, and then links with `cc`
        return _run(settings, [settings["zig"], "ld.lld", *words], None)
    if tool in {"ar", "ranlib"}:
        return _run(settings, [settings["zig"], tool, *words], None)
    return _compile(settings, tool, words)


def _run_python(words: Sequence[str]) -> int:
    """Stand for the emulator that CMake asks the interpreter through: that is of this host, and what is built is not.

    A program of the target is never run, even where it could be: all hosts are to build alike.
    """
    if os.path.basename(words[0]).startswith("python"):  # noqa: PTH119
        return subprocess.run(words, check=False).returncode
    return 1


def _patchelf(settings: dict[str, Any], words: Sequence[str]) -> int:
    """Stand for a program that Windows does not have, and that meson-python wants before it is known to be needed.

    No module has a folder of this host in it, so that there is none to be taken out.
    """
    if words[:1] in (["--version"], ["--print-rpath"]):
        sys.stdout.write("patchelf 0.18.0\n" if words[0] == "--version" else "\n")
        return 0
    reason = "error: no `patchelf` for Windows, which is to let a module find a library of its wheel"
    sys.stderr.write(f"{reason}\n")
    _note(settings, "patchelf", [reason])
    return 1


def _expanded(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of `@file` arguments in their place, since they are looked through too."""
    for word in words:
        if word.startswith("@") and os.path.isfile(word[1:]):  # noqa: PTH113
            import shlex

            with open(word[1:], encoding="utf-8") as file:  # noqa: PTH123
                yield from shlex.split(file.read())
        else:
            yield word


def _compile(settings: dict[str, Any], tool: str, words: Sequence[str]) -> int:
    """Run zig for a compilation or a link."""
    command = [settings["zig"], tool, "-target", settings["target"], "-fno-sanitize=undefined", "-g0"]
    kept = list(_kept(words, settings["sysroot"], settings["headers"]))
    if not any(word.startswith("-O") for word in kept):
        # Without, zig compiles for debugging: slow, large and with the threads of another glibc.
        command.append("-O2")
    command += [f"-ffile-prefix-map={place}={name}" for place, name in settings["paths"]]
    command.append("-ffile-reproducible")  # with the target's separator in `__FILE__`
    has_input = any(word.endswith((*_SOURCES, ".o", ".a", ".so", ".obj")) or word == "-" for word in words)
    links = has_input and not _ONLY_COMPILES.intersection(words)
    if links:
        command.append("-s")
    command += kept
    if settings["sysroot"]:
        command += _of_sysroot(settings["sysroot"], links=links)
    subject = next((word for word in words if word.endswith(_SOURCES)), None)
    if subject is None and "-o" in words[:-1]:
        subject = words[words.index("-o") + 1]
    return _run(settings, command, subject if has_input else None)


def _of_unix(words: Iterable[str]) -> Iterator[str]:
    """Yield the arguments without those of Microsoft's compiler, and paths with the separator of all other hosts.

    A `setup.py` that asks which system runs it may give these; on Windows no path begins with a slash.
    """
    for word in words:
        if word.startswith("/"):
            if match := _MSVC.fullmatch(word):
                yield from _of_unix([f"-{match[1]}{match[2]}"])
        elif _LIBPYTHON.fullmatch(word):
            continue  # an extension has no need of it
        elif word.startswith("-D"):
            yield from () if word.startswith("-DMS_WIN") else (word,)
        else:
            yield word.replace("\\", "/")


def _kept(words: Sequence[str], sysroot: dict[str, Any] | None, headers: str = "") -> Iterator[str]:
    """Yield the arguments that are not about this host; what is about its libraries tells of the root file system's.

    `headers` are those of the target's CPython, which take the place of a host's.
    """
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word in _OF_MACOS_WITH_VALUE:
            waiting[-1:] = []
        elif word == "-rpath":
            if waiting[-1:] and _rpath(waiting[-1]).startswith("$ORIGIN"):
                yield word
                waiting[-1] = _rpath(waiting[-1])
            else:
                waiting[-1:] = []  # a folder of this host
        elif word in _FOLDER_FOLLOWS and waiting:
            folder = _folder(waiting.pop(), sysroot, headers)
            yield from (word, folder) if folder else ()
        elif _LEFT_OUT.fullmatch(word):
            continue
        elif word[:2] in {"-I", "-L"}:
            folder = _folder(word[2:], sysroot, headers)
            yield from (word[:2] + folder,) if folder else ()
        elif word.startswith("-Wl,"):
            yield from _linker_options(word)
        elif match := _ARM_ARCH.fullmatch(word):
            level = f"+v{match[1]}_{match[2]}a" if match[2] else ""
            yield f"-mcpu=generic{level}{match[3]}"
        elif match := _X86_LEVEL.fullmatch(word):
            yield "-mcpu=x86_64" + (f"_{match[1]}" if match[1] else "")
        elif sysroot and word.startswith("/") and _SHARED_OR_ARCHIVE.search(word):
            yield _library(word, sysroot)
        else:
            yield word


def _is_of_host(folder: str) -> bool:
    return bool(_OF_THE_HOST.match(folder))


def _rpath(folder: str) -> str:
    return _LOADER_PATH.sub("$ORIGIN", folder, count=1)


def _folder(folder: str, sysroot: dict[str, Any] | None, headers: str) -> str | None:
    """Give a folder of headers or libraries as the compiler may know it; None for one that it may not."""
    if headers and os.path.isfile(f"{folder}/Python.h"):  # noqa: PTH113
        return headers
    if not sysroot:
        return None if _is_of_host(folder) else folder
    place = _in_sysroot(folder, sysroot["root"])
    if place is None:
        return None if _is_of_host(folder) else folder
    # Those that it would search anyway are searched after its own, or its headers would be those of two C libraries.
    if place in sysroot["searched"] or not os.path.isdir(sysroot["root"] + place):  # noqa: PTH112
        return None
    return str(sysroot["root"]) + place


def _library(file: str, sysroot: dict[str, Any]) -> str:
    """Give a library by the path that has no symbolic links out of the root file system."""
    place = _in_sysroot(file, sysroot["root"])
    if place is not None and os.path.dirname(place) in sysroot["searched"]:  # noqa: PTH120
        linked = f"{sysroot['libraries']}/{os.path.basename(place)}"  # noqa: PTH119
        if os.path.exists(linked):  # noqa: PTH110
            return linked
    return file


def _in_sysroot(path: str, root: str) -> str | None:
    """Give a path in words of the target; None for one that is neither of the root file system nor of a system."""
    path = os.path.normpath(path).replace(os.sep, "/")
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :] or "/"
    return path if _is_of_host(path) else None


def _linker_options(word: str) -> Iterator[str]:
    """Yield the `-Wl,` options that zig's linker has and that mean something on the runtime."""
    parts = word.split(",")[:0:-1]
    while parts:
        name, equals, value = parts.pop().partition("=")
        if not equals and name in _TAKE_A_VALUE and parts:
            equals, value = ",", parts.pop()
        if name in _UNKNOWN_TO_THE_LINKER or (name == "-z" and value.startswith("pack-relative-relocs")):
            continue
        if name in {"-rpath", "--rpath", "-R"}:
            value = _rpath(value)
            if not value.startswith("$ORIGIN"):
                continue  # a folder of this host
        yield f"-Wl,{'-soname' if name == '-h' else name}{equals}{value}"


def _of_sysroot(sysroot: dict[str, Any], *, links: bool) -> Iterator[str]:
    """Yield where headers and libraries of the root file system are, to be searched after the build's own."""
    for folder in sysroot["headers"]:
        yield from ("-idirafter", sysroot["root"] + folder)
    if links:
        yield f"-L{sysroot['libraries']}"


def _pkg_config(settings: dict[str, Any], words: Sequence[str]) -> int:
    """Answer for the root file system; without one there are no libraries, for this host's are none of the target's."""
    if list(words) == ["--version"]:
        sys.stdout.write("1.8.1\n")
        return 0
    if list(words)[:1] == ["--atleast-pkgconfig-version"]:
        return 0
    status = 1
    if settings["sysroot"]:
        done = _run_pkg_config(settings, words)
        sys.stdout.write(_moved(done.stdout, settings["sysroot"]))
        status = done.returncode
    if status:
        _note(settings, "pkg-config", [word for word in words if not word.startswith("-")])
    return status


def _run_pkg_config(settings: dict[str, Any], words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    sysroot = settings["sysroot"]
    environment = {
        **os.environ,
        "PKG_CONFIG_SYSROOT_DIR": sysroot["root"],
        "PKG_CONFIG_LIBDIR": os.pathsep.join(sysroot["root"] + folder for folder in sysroot["pkg_config"]),
        "PKG_CONFIG_PATH": "",
        # A `setup.py` may look for files there; the compiler is not told of them.
        "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1",
        "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
    }
    command = [settings["pkg_config"], *words]
    return subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, encoding="utf-8")


def _ask_program(settings: dict[str, Any], name: str, words: Sequence[str]) -> int:
    """Run a script such as `xml2-config` of the root file system, and let its answer be about that."""
    root = settings["sysroot"]["root"]
    script = root + settings["programs"][name]
    with open(script, "rb") as file:  # noqa: PTH123
        first = file.readline(1000)
    if not first.startswith(b"#!"):
        return _answer_of_postgres(settings, words)
    interpreter = first[2:].decode("utf-8", "replace").split()
    if interpreter[0].endswith("/env"):
        del interpreter[0]
    # Of that name, for there it is another one of the target's.
    interpreter[0] = interpreter[0].rpartition("/")[2]
    try:
        done = subprocess.run([*interpreter, script, *words], check=False, stdout=subprocess.PIPE)
    except OSError as error:
        sys.stderr.write(f"error: `{name}` is a script for `{interpreter[0]}`: {error.strerror}\n")
        _note(settings, name, [f"error: `{name}` is a script for `{interpreter[0]}`: {error.strerror}"])
        return 127
    sys.stdout.write(_moved(done.stdout.decode("utf-8", "replace"), settings["sysroot"]))
    return done.returncode


def _moved(text: str, sysroot: dict[str, Any]) -> str:
    """Put the root file system before what lies in it, and for its folders of libraries the one with the links."""
    root: str = sysroot["root"]

    def move(match: re.Match[str]) -> str:
        option, place = str(match[1]), str(match[2])
        if f"{place}/".startswith(f"{root}/"):
            place = place[len(root) :]
        elif not os.path.exists(root + place):  # noqa: PTH110
            return option + place
        # A build that looks for files there itself finds those that a link to a place of the target stands for.
        if option.endswith("-L") and os.path.normpath(place) in sysroot["searched"]:
            return option + str(sysroot["libraries"])
        return option + root + place

    return re.sub(r"((?:^|[\s='\"])(?:-I|-L|-isystem)?)(/[^\s'\":,;]+)", move, text, flags=re.MULTILINE)


def _answer_of_postgres(settings: dict[str, Any], words: Sequence[str]) -> int:
    """Answer for a `pg_config` that is a program of the target, as far as clients of the library ask."""

    def ask(*question: str) -> str:
        return str(_run_pkg_config(settings, [*question, "libpq"]).stdout).strip()

    questions = {
        "--version": ("--modversion",),
        "--includedir": ("--variable=includedir",),
        "--pkgincludedir": ("--variable=includedir",),
        "--libdir": ("--variable=libdir",),
        "--cppflags": ("--cflags",),
        "--ldflags": ("--libs-only-L",),
    }
    for word in words:
        answer = ask(*questions[word]) if word in questions else ""
        sys.stdout.write(f"{'PostgreSQL ' if word == '--version' else ''}{answer}\n")
    return 0


def _run(settings: dict[str, Any], command: Sequence[str], subject: str | None) -> int:
    if settings["is_windows"] and sum(map(len, command)) + 3 * len(command) > _MOST_CHARACTERS:
        command = _through_file(settings, command)
    if subject is None:
        return subprocess.run(command, check=False).returncode
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.flush()
    if done.returncode:
        _note(settings, subject, done.stderr.decode("utf-8", "replace").splitlines()[:20])
    return done.returncode


def _through_file(settings: dict[str, Any], command: Sequence[str]) -> list[str]:
    """Put the many names of files into a file, from which zig reads them.

    What has quotes or spaces stays: an apostrophe cannot be said in such a file (0.17.1).
    """
    kept = list(command[:2])
    for is_plain, run in itertools.groupby(command[2:], lambda word: _PLAIN.fullmatch(word) is not None):
        words = list(run)
        if is_plain and len(words) > 10:
            place = f"{settings['failures']}-{os.getpid()}-{len(kept)}.rsp"
            with open(place, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write("\n".join(words))
            words = [f"@{place}"]
        kept += words
    return kept


def _note(settings: dict[str, Any], subject: str, lines: Sequence[str]) -> None:
    """Remember what failed."""
    try:
        with open(settings["failures"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps([subject, lines]) + "\n")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
