"""Rules about how the tool that made a package wrote it: modes, names, links and the format of the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.audits import PROJECT, Finding, Severity
from manylambda.elf import ElfFile
from manylambda.linkage import module_file
from manylambda.tree import MODE_EXECUTABLE, open_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.audits import Subject
    from manylambda.audits.making import Link, Mode, UnsafeReason
    from manylambda.tree import Entry

_MAX_TOLD: Final = 2
_MAX_ENTRIES: Final = 65_535
_METHODS: Final = {
    1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"
}  # fmt: skip
_MAYBE_THERE: Final = ("/dev/", "/etc/", "/lib", "/mnt/", "/proc/", "/tmp/", "/usr/", "/var/lang/", "/var/runtime/")  # noqa: S108 - where links lead to

_UNSAFE: Final[dict[UnsafeReason, tuple[Severity, str, str, str]]] = {
    "outside": (
        Severity.ERROR,
        "has a name that leads out of the package",
        "have names that lead out of the package",
        "do not use this archive: nothing honest is written so; make it again from the package's own folder",
    ),
    "backslash": (
        Severity.ERROR,
        r"is written with `\` between its folders: on Lambda that is one file with a long name, no folder",
        r"are written with `\` between their folders: on Lambda each is one file with a long name, no folder",
        "make the archive with a tool that writes `/`: PowerShell 7, 7-Zip, Python's `zipfile`, `manylambda build`",
    ),
    "unreadable": (
        Severity.WARNING,
        "has a name of control characters, of no Unicode or without end: it was not looked at",
        "have names of control characters, of no Unicode or without end: they were not looked at",
        "rename it",
    ),
    "unnormalised": (
        Severity.WARNING,
        "has a name with empty parts or `.` in it, which not every tool unpacks alike",
        "have names with empty parts or `.` in them, which not every tool unpacks alike",
        "make the archive from inside the package's folder",
    ),
    "duplicate": (
        Severity.WARNING,
        "is in the archive more than once, with different bytes: the last counts",
        "are in the archive more than once, with different bytes: the last counts",
        "make the archive anew instead of adding to it",
    ),
    "file-and-folder": (
        Severity.ERROR,
        "is a file and also the folder of other files: the archive cannot be unpacked",
        "are files and also the folders of other files: the archive cannot be unpacked",
        "leave one of the two out",
    ),
}


def file_mode(subject: Subject) -> Iterator[Finding]:
    """Find files that the function may not read, and programs that it may not run: Lambda keeps modes."""
    making = subject.making
    is_archive = making.members > 0
    if subject.kind == "wheel" or (making.on_windows and not is_archive):
        return  # an installer sets the modes; a folder on Windows has none
    folders = sorted(each for each in making.closed if each.is_folder)
    if folders:
        yield Finding(
            rule="file-mode",
            severity=Severity.WARNING,
            path=folders[0].path,
            message=_and_others(folders, "is a folder", "folders are")
            + f" not open to everybody ({_octal(folders[0])}): the function runs as another user than the owner",
            hint="give folders the mode 0755: `chmod -R a+rX` before the archive is made",
        )

    def origin(mode: Mode) -> str:
        entry = subject.tree.get(mode.path)
        return PROJECT if entry is None else entry.origin

    files = [each for each in making.closed if not each.is_folder]
    by_origin: dict[str, list[Mode]] = {}
    for each in files:
        by_origin.setdefault(origin(each), []).append(each)
    if len(by_origin) > _MAX_TOLD:  # then it is the archive and not a distribution
        by_origin = {PROJECT: files}
    for brought_by, closed in sorted(by_origin.items()):
        closed.sort(key=lambda each: (not _is_imported(each.path), origin(each) != PROJECT, each.path))
        first = closed[0]
        # Whoever zips a folder may set the modes on the way, as SAM does; a mode of 0 is how some tools write none.
        is_error = _is_imported(first.path) and first.mode and (is_archive or subject.kind == "image")
        yield Finding(
            rule="file-mode",
            severity=Severity.ERROR if is_error else Severity.WARNING,
            path=first.path,
            distribution=None if brought_by == PROJECT else brought_by,
            message=_and_others(closed, "is", "files are")
            + f" not readable by everybody ({_octal(first)}): the function runs as another user than the owner",
            hint="give files the mode 0644: `chmod -R a+rX` before the archive is made",
        )
    yield from _not_executable(subject)


def _not_executable(subject: Subject) -> Iterator[Finding]:
    programs = [
        entry
        for path, native in subject.facts.items()
        if type(native) is ElfFile
        and native.kind == "executable"
        and native.interpreter is not None
        and ".so" not in path.rpartition("/")[2]
        and (entry := subject.tree.get(path)) is not None
        and entry.mode != MODE_EXECUTABLE
    ]
    known = {entry.path for entry in programs}
    scripts = [
        entry
        for entry in subject.tree
        if entry.path.startswith("bin/") and entry.mode != MODE_EXECUTABLE and entry.path not in known
    ]
    if subject.kind == "layer":  # `/opt/bin` is on PATH, `/var/task/bin` is not
        programs += scripts
        scripts = []
    scripts = [entry for entry in scripts if _begins_with(entry, b"#!")]
    why = ": the archive was made on Windows, which keeps no modes" if subject.making.on_windows else ""
    for severity, entries in ((Severity.WARNING, programs), (Severity.NOTE, scripts)):
        if entries:
            entries.sort(key=lambda entry: entry.path)
            yield Finding(
                rule="file-mode",
                severity=severity,
                path=entries[0].path,
                distribution=None if entries[0].origin == PROJECT else entries[0].origin,
                message=_and_others(entries, "is a program", "programs are") + f" not executable{why}",
                hint="give programs the mode 0755 (`chmod +x`), or start them through their interpreter",
            )


def path_unsafe(subject: Subject) -> Iterator[Finding]:
    """Find members of the archive whose name is not the path of one file on Linux."""
    by_reason: dict[UnsafeReason, list[str]] = {}
    for each in subject.making.unsafe:
        by_reason.setdefault(each.reason, []).append(each.path)
    for reason, paths in sorted(by_reason.items()):
        severity, one, many, hint = _UNSAFE[reason]
        paths.sort()
        if reason == "backslash":
            paths.sort(key=lambda path: not _is_imported(path.replace("\\", "/")))
            if not _is_imported(paths[0].replace("\\", "/")):
                severity = Severity.WARNING
        yield Finding(
            rule="path-unsafe",
            severity=severity,
            path=paths[0],
            message=_and_others(paths, one, f"files {many}"),
            hint=hint,
        )


def symlink(subject: Subject) -> Iterator[Finding]:
    """Find links to what will not be there: Lambda keeps links as they are."""
    groups: dict[tuple[Severity, str], list[Link]] = {}
    for link in subject.making.links:
        if link.fate == "inside" or link.target in subject.entries:
            continue
        severity = Severity.ERROR if _is_imported(link.path) else Severity.WARNING
        if link.fate == "absolute" and link.target.startswith(_MAYBE_THERE) and not _is_imported(link.path):
            severity = Severity.NOTE
        groups.setdefault((severity, link.fate), []).append(link)
    for (severity, fate), links in sorted(groups.items(), key=lambda item: (item[0][0].value, item[0][1])):
        first = links[0]
        what = {
            "absolute": f"leads to `{first.target}`, outside of the package",
            "outside": f"leads to `{first.target}`, outside of the package",
            "nowhere": f"leads to `{first.target}`, which is not in the package",
            "round": f"leads to `{first.target}` and so to itself",
        }[fate]
        others = f"; so do {len(links) - 1} other links" if len(links) > 2 else "; so does 1 other link"
        yield Finding(
            rule="symlink",
            severity=severity,
            path=first.path,
            message="is a link that " + what + (others if len(links) > 1 else ""),
            hint="put the file itself there: `zip` without `-y`, `cp -L`, `uv pip install --link-mode copy`",
        )


def zip_method(subject: Subject) -> Iterator[Finding]:
    """Find files that are packed in ways that Lambda is not known to unpack."""
    making = subject.making
    if subject.kind != "wheel":  # installers unpack whatever Python can
        by_method: dict[int, list[str]] = {}
        for each in making.methods:
            by_method.setdefault(each.method, []).append(each.path)
        for method, paths in sorted(by_method.items()):
            name = _METHODS.get(method, f"method {method}")
            yield Finding(
                rule="zip-method",
                severity=Severity.ERROR,
                path=min(paths),
                message=_and_others(paths, "is", "files are")
                + f" compressed with {name}: Lambda unpacks what is stored or deflated",
                hint="make the archive with the ordinary method (deflate)",
            )
    if making.encrypted:
        yield Finding(
            rule="zip-method",
            severity=Severity.ERROR,
            path=min(making.encrypted),
            message=_and_others(making.encrypted, "is", "files are") + " encrypted: Lambda has no password for it",
            hint="make the archive without a password; secrets belong in Secrets Manager",
        )


def zip64(subject: Subject) -> Iterator[Finding]:
    """Tell when an archive has the records of zip64, with which Lambda was seen to fail at times."""
    making = subject.making
    if subject.kind not in {"zip", "layer"}:
        return
    if making.members >= _MAX_ENTRIES:
        what = f"the archive has {making.members:,} members: from {_MAX_ENTRIES:,} on it needs zip64"
    elif making.zip64:
        what = _and_others(making.zip64, "is", "files are") + " written as zip64, without need"
    elif making.has_zip64_end:
        what = "the archive ends in records of zip64, without need"
    else:
        return
    yield Finding(
        rule="zip64",
        severity=Severity.WARNING,
        path=min(making.zip64) if making.zip64 and making.members < _MAX_ENTRIES else None,
        message=f"{what}; Lambda was seen to refuse such archives at times",
        hint="make the archive with a tool that does not force zip64 (`zip`, not a streaming writer)",
    )


def _is_imported(path: str) -> bool:
    """Whether an import reads a file of this name."""
    name = path.rpartition("/")[2]
    if name.endswith(".py"):
        return True
    module = module_file(name)
    return module is not None and module.suffix == ".so"


def _begins_with(entry: Entry, data: bytes) -> bool:
    with open_content(entry.content) as stream:
        return stream.read(len(data)) == data


def _and_others(things: Sequence[object], one: str, many: str) -> str:
    """Say `one` of the first thing, whose path the finding names, or tell how many there are."""
    return one if len(things) == 1 else f"{len(things):,} {many}"


def _octal(mode: Mode) -> str:
    return f"mode {mode.mode:04o}" if mode.mode else "no mode in the archive"
