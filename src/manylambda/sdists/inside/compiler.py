"""The compilers, linkers and archivers of a build: zig, told the target, whatever the build asks for.

    python -I -S compiler.py SETTINGS.json TOOL ARGUMENT...

TOOL is what the build believes it runs (`cc`, `c++`, `ar`, `ranlib`, `strip`, `pkg-config`). What would tie the result
to this host is left out: its headers and libraries, its processor, debugging information, paths. What fails is written
to the settings' `failures`, since a build may go on without its compiled part and not say so.

It runs once for each file: nothing is imported that need not be.
"""

from __future__ import annotations

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
    }
)  # fmt: skip
_TAKE_A_VALUE = frozenset(
    {
        "--exclude-libs", "--dynamic-list", "--undefined", "-u", "--defsym", "-Map", "-rpath-link", "--rpath-link",
        "-rpath",
        "--rpath", "-R", "-z", "-soname", "--soname", "-h", "--version-script", "-install_name", "--wrap",
        "-undefined",
    }
)  # fmt: skip
_OF_MACOS_WITH_VALUE = frozenset(
    {"-arch", "-isysroot", "-framework", "-install_name", "-compatibility_version", "-current_version", "-undefined"}
)
_LEFT_OUT = re.compile(
    r"-s|-pipe|-fno-plt|-bundle|-dynamiclib|-flat_namespace|-headerpad_max_install_names|-search_paths_first"
    r"|-mmacosx-version-min.*|-m(arch|cpu|tune)=native|-l(python\d.*|System)"  # an extension has no need of libpython
    r"|-g(\d|gdb\d?|dwarf(-\d)?|split-dwarf|line-tables-only|z.*|pubnames|record-gcc-switches)?"
)
_OF_THE_HOST = re.compile(
    r"(/usr/include|/usr/lib\d*|/lib\d*|/usr/local|/opt/homebrew|/opt/local|/System|/Library"
    r"|[A-Za-z]:[\\/]Program Files)"
    r"([\\/]|$)"
)
_ARM_ARCH = re.compile(r"-march=armv([89])(?:\.(\d))?-a((?:\+[a-z0-9]+)*)")
_X86_LEVEL = re.compile(r"-march=x86-64(?:-(v\d))?")
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
    if tool in {"ar", "ranlib"}:
        return _run(settings, [settings["zig"], tool, *words], None)
    return _compile(settings, tool, words)


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
    kept = list(_kept(words, settings.get("sysroot")))
    if not any(word.startswith("-O") for word in kept):
        # Without, zig compiles for debugging: slow, large and with the threads of another glibc.
        command.append("-O2")
    command += [f"-ffile-prefix-map={place}={name}" for place, name in settings["paths"]]
    has_input = any(word.endswith((*_SOURCES, ".o", ".a", ".so", ".obj")) or word == "-" for word in words)
    links = has_input and not _ONLY_COMPILES.intersection(words)
    if links:
        command.append("-s")
    command += kept
    if settings.get("sysroot"):
        command += _of_sysroot(settings, links=links)
    subject = next((word for word in words if word.endswith(_SOURCES)), None)
    if subject is None and "-o" in words[:-1]:
        subject = words[words.index("-o") + 1]
    return _run(settings, command, subject if has_input else None)


def _kept(words: Sequence[str], sysroot: str | None) -> Iterator[str]:
    """Yield the arguments that are not about this host."""
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        following = waiting[-1] if waiting else ""
        if word in _OF_MACOS_WITH_VALUE or (
            word in {"-I", "-L", "-isystem", "-idirafter", "-rpath"} and _is_of_host(following, sysroot)
        ):
            waiting[-1:] = []
        elif _LEFT_OUT.fullmatch(word) or (word[:2] in {"-I", "-L"} and _is_of_host(word[2:], sysroot)):
            continue
        elif word.startswith("-Wl,"):
            yield from _linker_options(word)
        elif match := _ARM_ARCH.fullmatch(word):
            level = f"+v{match[1]}_{match[2]}a" if match[2] else ""
            yield f"-mcpu=generic{level}{match[3]}"
        elif match := _X86_LEVEL.fullmatch(word):
            yield "-mcpu=x86_64" + (f"_{match[1]}" if match[1] else "")
        else:
            yield word


def _is_of_host(folder: str, sysroot: str | None) -> bool:
    if sysroot and (folder == sysroot or folder.startswith(f"{sysroot}/")):
        return False
    return bool(_OF_THE_HOST.match(folder))


def _linker_options(word: str) -> Iterator[str]:
    """Yield the `-Wl,` options that zig's linker has and that mean something on the runtime."""
    parts = word.split(",")[:0:-1]
    while parts:
        name, equals, value = parts.pop().partition("=")
        if not equals and name in _TAKE_A_VALUE and parts:
            equals, value = ",", parts.pop()
        if name in _UNKNOWN_TO_THE_LINKER or (name == "-z" and value.startswith("pack-relative-relocs")):
            continue
        if name in {"-rpath", "--rpath", "-R"} and not value.startswith("$ORIGIN"):
            continue  # a folder of this host
        yield f"-Wl,{'-soname' if name == '-h' else name}{equals}{value}"


def _of_sysroot(settings: dict[str, Any], *, links: bool) -> Iterator[str]:
    """Yield where headers and libraries of the root file system are, to be searched after the build's own."""
    root = settings["sysroot"]
    for folder in ("/usr/local/include", f"/usr/include/{settings['triple']}", "/usr/include"):
        if os.path.isdir(root + folder):  # noqa: PTH112
            yield from ("-idirafter", root + folder)
    if links:
        yield from (f"-L{folder}" for folder in settings["libraries"])


def _pkg_config(settings: dict[str, Any], words: Sequence[str]) -> int:
    """Answer for the root file system; without one there are no libraries, for this host's are none of the target's."""
    program, root = settings.get("pkg_config"), settings.get("sysroot")
    if list(words) == ["--version"]:
        sys.stdout.write("1.8.1\n")
        return 0
    if list(words)[:1] == ["--atleast-pkgconfig-version"]:
        return 0
    if not program or not root:
        _note(settings, "pkg-config", [word for word in words if not word.startswith("-")])
        return 1
    places = [root + folder for folder in ("/usr/lib64/pkgconfig", "/usr/lib/pkgconfig", "/usr/share/pkgconfig")]
    places[1:1] = [f"{folder}/pkgconfig" for folder in settings["libraries"]]
    environment = {
        **os.environ,
        "PKG_CONFIG_SYSROOT_DIR": root,
        "PKG_CONFIG_LIBDIR": ":".join(places),
        "PKG_CONFIG_PATH": "",
    }
    return subprocess.run([program, *words], env=environment, check=False).returncode


def _run(settings: dict[str, Any], command: Sequence[str], subject: str | None) -> int:
    if subject is None:
        return subprocess.run(command, check=False).returncode
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE)
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.flush()
    if done.returncode:
        _note(settings, subject, done.stderr.decode("utf-8", "replace").splitlines()[:20])
    return done.returncode


def _note(settings: dict[str, Any], subject: str, lines: Sequence[str]) -> None:
    """Remember what failed."""
    try:
        with open(settings["failures"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps([subject, lines]) + "\n")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
