"""Rules that hold a package against the RECORDs in it: what an installer put there must still be there, unchanged.

A distribution without a RECORD is not judged: tools that make packages smaller take it out, or it was never installed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from manylambda.audits import Finding, Severity
from manylambda.audits.digests import is_damaged
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, module_file
from manylambda.tree import read_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.audits import Subject
    from manylambda.audits.making import Record, Row
    from manylambda.tree import Entry

_MAX_PTH: Final = 1 << 16
# What tools take out to make a package smaller, and nobody imports in a function.
_SPARE: Final = re.compile(
    r"(?:\A|/)(?:_?tests?|testing|_testing|examples?|docs?|benchmarks?|__pycache__)/|(?:\A|/)(?:conftest|_?test)[^/]*\Z"
    r"|_tests?\.[^/]*\Z"
)
_Change: TypeAlias = Literal["damaged", "empty code", "changed code", "changed data"]
_CHANGES: Final[dict[_Change, tuple[Severity, str, str, str]]] = {
    "damaged": (Severity.ERROR, "is", "damaged in the archive", "make the archive again"),
    "empty code": (
        Severity.ERROR,
        "is",
        "empty, and was not when its distribution was built",
        "install the distribution again",
    ),
    "changed code": (
        Severity.WARNING,
        "was",
        "changed after its distribution was built",
        "install the distribution again, unless the change is meant; git's line endings are a change as well",
    ),
    "changed data": (
        Severity.NOTE,
        "was",
        "changed after its distribution was built",
        "install the distribution again",
    ),
}
_PLURAL: Final = {"is": "are", "was": "were"}
_NOT_MODULES: Final = re.compile(r"(?:\A|/)(?:bin|Scripts|share|etc|include)/")


def record_mismatch(subject: Subject) -> Iterator[Finding]:
    """Find files that are not those their distribution was built with."""
    others = {path: {row.sha256 for _, row in listed} for path, listed in listed_twice(subject).items()}
    damaged: dict[str, bool] = {}
    unread = _unread(subject)
    for record in subject.making.records:
        groups: dict[_Change, list[Entry]] = {}
        absent: list[Row] = []
        for row in record.rows:
            entry = subject.tree.get(row.path)
            if entry is None:
                if row.path not in unread:
                    absent.append(row)
            elif not _is_of_the_installer(row.path, record) and not _is_as_recorded(subject, entry, row):
                if subject.digests.get(row.path) in others.get(row.path, ()):
                    continue  # another distribution's file: `path-collision`
                groups.setdefault(_change(subject, entry, row, damaged), []).append(entry)
        if record.is_cut:
            yield Finding(
                rule="record-mismatch",
                severity=Severity.WARNING,
                path=f"{record.dist_info}/RECORD",
                distribution=record.distribution,
                message="cannot be read to its end: what it lists there is not compared",
                hint="install the distribution again: no installer writes one so long, or fields so long",
            )
        if subject.kind == "wheel":
            yield from _wheel_mismatches(record, [entry for group in groups.values() for entry in group], absent)
            continue
        for change, entries in groups.items():
            severity, verb, what, hint = _CHANGES[change]
            yield Finding(
                rule="record-mismatch",
                severity=severity,
                path=entries[0].path,
                distribution=record.distribution,
                message=_count(entries, verb) + what,
                hint=hint,
            )
        code_rows = _module_rows(record)
        there = {row.path for row in code_rows if _is_there(subject, record, row) or row.path in unread}
        gone = [row for row in code_rows if row.path.endswith(".py") and row.path not in there]
        if gone and there:
            yield Finding(
                rule="record-mismatch",
                severity=Severity.WARNING,
                path=gone[0].path,
                distribution=record.distribution,
                message=_count(gone, "is") + "listed in RECORD and not in the package",
                hint="install it again; if a tool leaves them out on purpose, ignore this rule for it",
            )


def module_missing(subject: Subject) -> Iterator[Finding]:
    """Find distributions whose metadata is in the package and whose modules are not."""
    if subject.kind == "wheel":
        return
    unread = _unread(subject)
    variants: frozenset[tuple[str, str]] | None = None
    for record in subject.making.records:
        rows = _module_rows(record)
        if not unread.isdisjoint(row.path for row in rows):
            continue  # what keeps it from being read is told
        if not rows:
            yield from _editable(subject, record)
            continue
        if not any(_is_there(subject, record, row) for row in rows):
            if record.distribution not in subject.target.preinstalled:  # then the runtime's modules are found
                yield _all_missing(record, rows)
            continue
        for row in rows:
            if row.path.endswith(".py") or _is_there(subject, record, row):
                continue
            module = _module_name(record, row.path)
            # In a file of another name it is there for another interpreter: `abi-tag-mismatch` judges that.
            variants = _extension_modules(subject) if variants is None else variants
            if (row.path.rpartition("/")[0], module.rpartition(".")[2]) in variants:
                continue
            twin = subject.tree.get(f"{row.path.rpartition('/')[0]}/{module.rpartition('.')[2]}.py".lstrip("/"))
            yield Finding(
                rule="module-missing",
                severity=Severity.ERROR if twin is None else Severity.WARNING,
                path=row.path,
                distribution=record.distribution,
                message=f"is not in the package: the module `{module}` "
                + ("cannot be imported" if twin is None else "is its slow variant in Python"),
                hint=f"install `{record.distribution}` again, and leave its extension modules in",
            )


def _all_missing(record: Record, rows: Sequence[Row]) -> Finding:
    tops = sorted({_module_name(record, row.path).partition(".")[0] for row in rows})
    shown = ", ".join(f"`{name}`" for name in tops[:3]) + (f" and {len(tops) - 3} more" if len(tops) > 3 else "")
    return Finding(
        rule="module-missing",
        severity=Severity.ERROR,
        path=record.dist_info,
        distribution=record.distribution,
        message=f"its metadata is in the package, but none of its {len(rows):,} modules ({shown}) is",
        hint="add its files; a tool that copies metadata only, or an ignore rule that is too wide, leaves them out",
    )


def _editable(subject: Subject, record: Record) -> Iterator[Finding]:
    """Find what was installed to be edited elsewhere: all there is is a `.pth` file with a path of the build host."""
    for row in record.rows:
        entry = subject.tree.get(row.path)
        if not row.path.endswith(".pth") or entry is None or entry.content.size > _MAX_PTH:
            continue
        for line in read_content(entry.content).decode("utf-8", "replace").splitlines():
            path = line.strip()
            is_elsewhere = re.match(r"/|[A-Za-z]:[\\/]", path) and not path.startswith((FUNCTION_ROOT, LAYER_ROOT))
            if is_elsewhere or path.startswith("import __editable__"):
                yield Finding(
                    rule="module-missing",
                    severity=Severity.ERROR,
                    path=row.path,
                    distribution=record.distribution,
                    message="was installed to be edited in its own folder"
                    + (f", `{path}`" if is_elsewhere else "")
                    + ": its modules are not in the package",
                    hint="install it as a wheel: `pip install` without `-e`, `uv sync --no-editable`, `uv export "
                    "--no-editable`",
                )
                return


def _module_rows(record: Record) -> list[Row]:
    """Return what imports of the distribution read, less what tools may take out."""
    rows = []
    for row in record.rows:
        below = row.path[len(record.site) :]
        if row.path.startswith(f"{record.dist_info}/") or below.startswith("__editable__") or _SPARE.search(below):
            continue
        name = below.rpartition("/")[2]
        module = module_file(name)
        if (name.endswith(".py") or (module is not None and module.suffix == ".so")) and not _NOT_MODULES.match(below):
            rows.append(row)
    return rows


def _is_there(subject: Subject, record: Record, row: Row) -> bool:
    """Whether a file is in the package or a layer, or a module at least as bytecode."""
    if subject.tree.get(row.path) is not None:
        return True
    if row.path.endswith(".py") and subject.tree.get(row.path + "c") is not None:
        return True
    below = row.path[len(record.site) :]
    return any(f"{LAYER_ROOT}{folder}{below}" in subject.entries for folder in subject.site_folders(in_layer=True))


def _extension_modules(subject: Subject) -> frozenset[tuple[str, str]]:
    """Return folder and module of every file that is named like an extension module, for whatever interpreter."""
    found = set()
    for entry in subject.tree:
        folder, _, name = entry.path.rpartition("/")
        if (module := module_file(name)) is not None:
            found.add((folder, module.module))
    return frozenset(found)


def _module_name(record: Record, path: str) -> str:
    below = path[len(record.site) :].removesuffix(".py").removesuffix("/__init__")
    folder, slash, name = below.rpartition("/")
    module = module_file(name)
    return (folder + slash + (module.module if module is not None else name)).replace("/", ".")


def _is_of_the_installer(path: str, record: Record) -> bool:
    return path.startswith(f"{record.dist_info}/") or path.endswith((".pyc", ".pyo"))


def _is_code(subject: Subject, path: str) -> bool:
    return path.endswith((".py", ".so")) or path in subject.facts


def _is_as_recorded(subject: Subject, entry: Entry, row: Row) -> bool:
    if row.path in subject.making.linked:
        return True
    if row.size is not None and row.size != entry.content.size:
        return False
    return row.sha256 is None or subject.digests.get(row.path) == row.sha256.rstrip("=")


def _change(subject: Subject, entry: Entry, row: Row, damaged: dict[str, bool]) -> _Change:
    """Say what was done to a file; `damaged` keeps what reading it told, as many RECORDs may list it."""
    if row.size and not entry.content.size:
        return "empty code" if _is_code(subject, entry.path) else "changed data"
    if entry.path not in damaged:
        damaged[entry.path] = is_damaged(entry)
    if damaged[entry.path]:
        return "damaged"
    return "changed code" if _is_code(subject, entry.path) else "changed data"


def _wheel_mismatches(record: Record, changed: Sequence[Entry], absent: Sequence[Row]) -> Iterator[Finding]:
    for things, what in ((changed, "not as RECORD lists it"), (absent, "listed in RECORD and not in the wheel")):
        if things:
            yield Finding(
                rule="record-mismatch",
                severity=Severity.ERROR,
                path=min(thing.path for thing in things),
                distribution=record.distribution,
                message=_count(things, "is") + what,
                hint="do not use this wheel: it was damaged or changed after it was built",
            )


def _unread(subject: Subject) -> frozenset[str]:
    """Return what is in the package and could not be read; other rules tell why."""
    making = subject.making
    links = (link.path for link in making.links if link.fate != "inside")
    return frozenset((*making.encrypted, *(each.path for each in making.methods), *links))


def listed_twice(subject: Subject) -> dict[str, list[tuple[Record, Row]]]:
    """Return the paths that several distributions list, each with its line."""
    once: dict[str, tuple[Record, Row]] = {}
    several: dict[str, list[tuple[Record, Row]]] = {}
    for record in subject.making.records:
        for row in record.rows:
            if (first := once.setdefault(row.path, (record, row))) != (record, row):
                several.setdefault(row.path, [first]).append((record, row))
    return several


def _count(things: Sequence[object], verb: str) -> str:
    """Begin a message about the first of some files, whose path the finding names, or about their number."""
    return f"{verb} " if len(things) == 1 else f"{len(things):,} files {_PLURAL[verb]} "
