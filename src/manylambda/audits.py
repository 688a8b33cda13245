"""The audit: rules look at a package as Lambda would mount it, and what they find is a report.

Here are the values (`Finding`, `Report`, `Rule`), what a rule may look at (`Subject`), the runner, and the reader of
packages that other tools made. The rules themselves are one floor up and come as a tuple; how a report looks is told
elsewhere.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

from manylambda.elf import HEAD_SIZE, ElfFile, Malformed, NativeFile, read, sniff
from manylambda.errors import PackagingError, RequestError, UnsafeArchive
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, Linkage, module_file, resolve
from manylambda.tree import (
    DEFLATED,
    MODE_EXECUTABLE,
    MODE_FILE,
    STORED,
    Bytes,
    DiskFile,
    Entry,
    PackageTree,
    Span,
    checked_path,
    open_content,
    read_content,
)

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from manylambda.target import Target
    from manylambda.tree import Collision

PROJECT: Final = "project"
"""The origin of files that no distribution brought."""

Kind: TypeAlias = Literal["zip", "layer", "dir", "image", "wheel"]

_MAX_METADATA: Final = 16 << 20
_MAX_ODD_MEMBER: Final = 64 << 20
_MAX_NATIVE: Final = 10 << 30
_MAX_LINK: Final = 4096


class Severity(Enum):
    """How much a finding matters; the order is that of a report."""

    ERROR = "error"
    """The package, or a part of it that is there to be loaded, does not load."""
    WARNING = "warning"
    """It loads, but perhaps not as meant, or not everywhere."""
    NOTE = "note"
    """Good to know."""


class Finding(NamedTuple):
    """What one rule has to say about one thing."""

    rule: str
    severity: Severity
    message: str
    path: str | None = None
    """Inside the package; of a layer's file the absolute path, `/opt/...`."""
    distribution: str | None = None
    """The normalised name of the distribution it belongs to."""
    hint: str | None = None
    """What to do about it."""

    def to_json(self) -> dict[str, str | None]:
        """Return the finding as the documents of `build` and `audit` show it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "distribution": self.distribution,
            "message": self.message,
            "hint": self.hint,
        }


class Report(NamedTuple):
    """All findings about a package, worst first, and what was looked at."""

    target: str
    findings: tuple[Finding, ...]
    shared_objects: int
    """ELF files that the loader could be given."""
    files: int
    unzipped_size: int
    """Bytes, layers included: what Lambda counts."""

    def number_of(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        """Whether the package will not load as it is."""
        return self.number_of(Severity.ERROR) > 0

    def fails(self, threshold: Literal["error", "warning"]) -> bool:
        """Whether a finding is at or over `threshold`."""
        return self.has_errors or (threshold == "warning" and self.number_of(Severity.WARNING) > 0)

    def to_json(self, path: str) -> dict[str, Any]:
        """Return the document of `manylambda audit --format json`; `path` is what the user named."""
        return {
            "version": 1,
            "target": self.target,
            "path": path,
            "findings": [finding.to_json() for finding in self.findings],
            "summary": {
                "errors": self.number_of(Severity.ERROR),
                "warnings": self.number_of(Severity.WARNING),
                "notes": self.number_of(Severity.NOTE),
                "shared_objects": self.shared_objects,
                "files": self.files,
                "unzipped_size": self.unzipped_size,
            },
        }


class Rule(NamedTuple):
    """One thing that is looked for; `name` is stable and the anchor of the rule's page."""

    name: str
    check: Callable[[Subject], Iterable[Finding]]


class Distribution(Protocol):
    """What is known of an installed distribution; the inventory of a wheel is one."""

    @property
    def name(self) -> str:
        """Normalised (PEP 503)."""

    @property
    def version(self) -> str:
        """As its metadata writes it."""

    @property
    def tags(self) -> Sequence[str]:
        """Expanded wheel tags; empty where the package does not tell."""

    @property
    def requires_python(self) -> str | None:
        """The specifier of `Requires-Python`."""

    @property
    def requires(self) -> Sequence[str]:
        """Every `Requires-Dist`, as written."""

    @property
    def dist_info(self) -> str:
        """The name of its `.dist-info` folder."""


class InstalledDistribution(NamedTuple):
    """A distribution as the metadata in a package tells it."""

    name: str
    version: str
    tags: tuple[str, ...]
    requires_python: str | None
    requires: tuple[str, ...]
    dist_info: str


class PureFallback(NamedTuple):
    """A pure wheel that a lock chose although the same release has compiled ones, none of them for the target."""

    distribution: str
    file: str
    compiled_for: tuple[str, ...]
    """Platforms that have a compiled wheel."""


class Package(NamedTuple):
    """A package that some tool made, opened for reading."""

    tree: PackageTree
    kind: Kind
    zipped_size: int | None
    """Bytes of the archive; None for a folder."""
    symlinks: Mapping[str, str]
    """Links and where they lead; those within the package stand in the tree as what they lead to."""


class Subject:
    """What a rule may look at: the package, its layers and the target, each view made once and only when asked for."""

    def __init__(
        self,
        tree: PackageTree,
        target: Target,
        *,
        kind: Kind = "zip",
        layers: Sequence[PackageTree] = (),
        facts: Mapping[str, NativeFile] | None = None,
        distributions: Sequence[Distribution] | None = None,
        zipped_size: int | None = None,
        collisions: Sequence[Collision] = (),
        pure_fallbacks: Sequence[PureFallback] = (),
        handler: str | None = None,
    ) -> None:
        """See `run`."""
        self.tree = tree
        self.target = target
        self.kind: Kind = kind
        self.layers = tuple(layers)
        self.zipped_size = zipped_size
        self.collisions = tuple(collisions)
        self.pure_fallbacks = tuple(pure_fallbacks)
        self.handler = handler
        self._facts = facts
        self._distributions = distributions
        self._root = LAYER_ROOT if kind == "layer" else FUNCTION_ROOT

    @cached_property
    def facts(self) -> Mapping[str, NativeFile]:
        """The native files of the package itself, by their path in it."""
        return native_facts(self.tree) if self._facts is None else self._facts

    @cached_property
    def natives(self) -> Mapping[str, NativeFile]:
        """All native files, layers included, by absolute path in the execution environment."""
        found: dict[str, NativeFile] = {}
        for layer in self.layers:  # a later layer overwrites an earlier one
            for entry in layer:
                found.pop(LAYER_ROOT + entry.path, None)
            found.update((LAYER_ROOT + path, native) for path, native in native_facts(layer).items())
        found.update((self._root + path, native) for path, native in self.facts.items())
        return dict(sorted(found.items()))

    @cached_property
    def linkage(self) -> Linkage:
        """What the loader would do with them."""
        return resolve(self.natives, self.target)

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Every file, layers included, by absolute path; what Lambda would mount."""
        mounted = {LAYER_ROOT + entry.path: entry for layer in self.layers for entry in layer}
        mounted.update((self._root + entry.path, entry) for entry in self.tree)
        return mounted

    @cached_property
    def distributions(self) -> tuple[Distribution, ...]:
        """The distributions of the package itself, sorted by name; those of layers are in `layer_distributions`."""
        found = (
            read_distributions(self.tree, self.site_folders(in_layer=self.kind == "layer"))
            if self._distributions is None
            else self._distributions
        )
        return tuple(sorted(found, key=lambda each: (each.name, each.version)))

    @cached_property
    def layer_distributions(self) -> tuple[Distribution, ...]:
        """The distributions of the layers, the last layer first, as it wins."""
        folders = self.site_folders(in_layer=True)
        return tuple(each for layer in reversed(self.layers) for each in read_distributions(layer, folders))

    @cached_property
    def by_name(self) -> Mapping[str, Distribution]:
        """The distribution that an import finds under each name: the function's own before those of layers."""
        found: dict[str, Distribution] = {}
        for each in (*self.distributions, *self.layer_distributions):
            found.setdefault(each.name, each)
        return found

    @cached_property
    def unzipped_size(self) -> int:
        """Bytes of the package and its layers."""
        return self.tree.size + sum(layer.size for layer in self.layers)

    def site_folders(self, *, in_layer: bool) -> tuple[str, ...]:
        """Return the folders of a package or layer that are on `sys.path`, each with its `/`, the root as empty."""
        if not in_layer:
            return ("",)
        return ("python/", "python/lib/python{}.{}/site-packages/".format(*self.target.python))

    def shown(self, absolute: str) -> str:
        """Return the path a reader knows a file by: as it is in the package, absolute for a file of a layer."""
        return absolute.removeprefix(self._root) if absolute.startswith(self._root) else absolute

    def distribution_of(self, absolute: str) -> str | None:
        """Return the distribution that brought a file; None for the project's own."""
        entry = self.entries.get(absolute)
        return entry.origin if entry is not None and entry.origin != PROJECT else None


def run(
    tree: PackageTree,
    target: Target,
    rules: Iterable[Rule],
    *,
    kind: Kind = "zip",
    layers: Sequence[PackageTree] = (),
    facts: Mapping[str, NativeFile] | None = None,
    distributions: Sequence[Distribution] | None = None,
    zipped_size: int | None = None,
    collisions: Sequence[Collision] = (),
    pure_fallbacks: Sequence[PureFallback] = (),
    handler: str | None = None,
) -> Report:
    """Apply `rules` to a package on `target` and return what they find, worst first, in a fixed order.

    `layers` are in the order of the function's configuration. `facts` (path in `tree` -> facts) and
    `distributions` are read from `tree` where they are not given: whoever has them by the hash of a wheel spares that.
    `zipped_size` is the archive's, in bytes, where it is known; `handler` is what Lambda will call.
    """
    subject = Subject(
        tree,
        target,
        kind=kind,
        layers=layers,
        facts=facts,
        distributions=distributions,
        zipped_size=zipped_size,
        collisions=collisions,
        pure_fallbacks=pure_fallbacks,
        handler=handler,
    )
    findings = [finding for rule in rules for finding in rule.check(subject)]
    order = {severity: number for number, severity in enumerate(Severity)}
    findings.sort(key=lambda one: (order[one.severity], one.distribution or "", one.rule, one.path or "", one.message))
    return Report(
        target=str(target),
        findings=tuple(findings),
        shared_objects=sum(isinstance(one, ElfFile) and one.is_loaded_by_linux for one in subject.natives.values()),
        files=len(tree),
        unzipped_size=subject.unzipped_size,
    )


def native_facts(entries: Iterable[Entry]) -> dict[str, NativeFile]:
    """Return the facts of every native file among `entries` by path, found by content.

    A file named like an extension module that is none is `Malformed`: importing it fails like importing a damaged one.
    """
    found: dict[str, NativeFile] = {}
    binaries: list[Entry] = []
    for entry, head in _heads(entries):
        if sniff(head) is not None:
            binaries.append(entry)
        elif entry.path.endswith(".so") and module_file(entry.path.rpartition("/")[2]) is not None:
            found[entry.path] = Malformed(reason="the file is empty" if not head else "the file is no ELF file")
    if not binaries:
        return found
    import os
    from concurrent.futures import ThreadPoolExecutor

    # Inflating is most of the work, and zlib lets other threads run meanwhile. The largest first, to end together.
    binaries.sort(key=lambda entry: (-entry.content.size, entry.path))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        for entry, native in zip(binaries, threads.map(_native, binaries), strict=True):
            if native is not None:
                found[entry.path] = native
    return dict(sorted(found.items()))


def _native(entry: Entry) -> NativeFile | None:
    import zlib

    if entry.content.size > _MAX_NATIVE:
        return Malformed(reason="the file is larger than any that Lambda takes")
    try:
        if isinstance(entry.content, DiskFile):
            return read(entry.content.file)
        with open_content(entry.content) as stream:
            return read(stream)
    except (zlib.error, UnsafeArchive):
        return Malformed(reason="the archive is damaged here")
    except OSError as error:
        raise _unreadable(entry, error) from error


def _unreadable(entry: Entry, error: OSError) -> PackagingError:
    return PackagingError(
        f"`{entry.path}` cannot be read: {error.strerror or error}", hint="give yourself access to it, or leave it out"
    )


def _heads(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Yield each entry with its first bytes; the files they lie in are opened once each and read in order."""
    import zlib

    spans: dict[Path, list[tuple[Entry, Span]]] = {}
    for entry in entries:
        content = entry.content
        if isinstance(content, Span):
            spans.setdefault(content.file, []).append((entry, content))
        elif isinstance(content, Bytes):
            yield entry, content.data[:HEAD_SIZE]
        else:
            try:
                with content.file.open("rb", buffering=0) as stream:
                    head = stream.read(HEAD_SIZE)
            except OSError as error:
                raise _unreadable(entry, error) from error
            yield entry, head
    for file, members in spans.items():
        members.sort(key=lambda member: member[1].offset)
        with file.open("rb") as stream:
            for entry, span in members:
                stream.seek(span.offset)
                data = stream.read(min(span.compressed_size, 8 * HEAD_SIZE))
                if span.method == DEFLATED:
                    try:
                        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, HEAD_SIZE)
                    except zlib.error:
                        data = b""
                yield entry, data[:HEAD_SIZE]


def read_distributions(tree: Iterable[Entry], folders: Sequence[str] = ("",)) -> tuple[InstalledDistribution, ...]:
    """Read the `*.dist-info` folders that lie in one of `folders`, in the order of the tree."""
    texts: dict[str, dict[str, str]] = {}
    for entry in tree:
        path = entry.path
        if path.endswith((".dist-info/METADATA", ".dist-info/WHEEL")):
            folder, _, name = path.rpartition("/")
            if folder[: folder.rfind("/") + 1] in folders and entry.content.size <= _MAX_METADATA:
                texts.setdefault(folder, {})[name] = read_content(entry.content).decode("utf-8", "replace")
    return tuple(_distribution(folder, files) for folder, files in texts.items() if "METADATA" in files)


def _distribution(folder: str, files: Mapping[str, str]) -> InstalledDistribution:
    metadata, wheel = _fields(files["METADATA"]), _fields(files.get("WHEEL", ""))
    dist_info = folder.rpartition("/")[2]
    name, _, version = dist_info.removesuffix(".dist-info").partition("-")
    return InstalledDistribution(
        name=normalised(next(iter(metadata.get("name", ())), name)),
        version=next(iter(metadata.get("version", ())), version),
        tags=tuple(expanded for tag in wheel.get("tag", ()) for expanded in _expanded(tag)),
        requires_python=next(iter(metadata.get("requires-python", ())), None),
        requires=tuple(metadata.get("requires-dist", ())),
        dist_info=dist_info,
    )


def _fields(text: str) -> dict[str, list[str]]:
    """Read the headers of a METADATA or WHEEL file; continued lines belong to fields that nobody asks for here."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


def _expanded(tag: str) -> Iterator[str]:
    interpreters, _, rest = tag.partition("-")
    abis, _, platforms = rest.partition("-")
    for interpreter in interpreters.split("."):
        for abi in abis.split("."):
            for platform in platforms.split("."):
                yield f"{interpreter}-{abi}-{platform}"


def normalised(name: str) -> str:
    """Return the name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def open_tree(path: Path) -> PackageTree:
    """Return the files of a package that any tool made; see `open_package`."""
    return open_package(path).tree


def open_package(path: Path) -> Package:
    """Open a function's or layer's `.zip`, a wheel or a folder; each file knows the distribution whose RECORD lists it.

    Raises `RequestError` where there is nothing to open, `UnsafeArchive` for a file that is no zip or a hostile one.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise RequestError(f"there is no package at `{path}`", hint="name a `.zip`, a wheel or a folder that exists")
    return _open_zip(path)


def _open_folder(path: Path) -> Package:
    import os

    root = path.resolve()
    entries: dict[str, Entry] = {}
    symlinks: dict[str, str] = {}
    for folder, folders, names in os.walk(root, onerror=_refuse_unread):
        folders.sort()
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        for name in sorted(folders):
            if os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118 - os.walk speaks text
                symlinks[prefix + name] = os.readlink(os.path.join(folder, name))  # noqa: PTH115, PTH118
        for name in sorted(names):
            file = root.joinpath(folder, name)
            if file.is_symlink():
                symlinks[prefix + name] = os.readlink(file)  # noqa: PTH115 - the text, as it stands there
                if not file.resolve().is_relative_to(root):
                    continue
            if not file.is_file():
                continue
            status = file.stat()
            mode = MODE_EXECUTABLE if status.st_mode & 0o111 else MODE_FILE
            where = checked_path(prefix + name)
            entries[where] = Entry(where, mode, DiskFile(file, status.st_size), PROJECT)
    return _package(entries, symlinks, zipped_size=None)


def _refuse_unread(error: OSError) -> NoReturn:
    """Raise the error for what cannot be looked at: it must not pass as good."""
    raise RequestError(f"cannot read `{error.filename}`: {(error.strerror or '').lower()}") from error


def _open_zip(path: Path) -> Package:
    import stat
    import zipfile
    import zlib

    entries: dict[str, Entry] = {}
    symlinks: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                where = checked_path(info.orig_filename)
                if path.suffix == ".whl":
                    where = _as_installed(where)
                if info.flag_bits & 1:
                    raise UnsafeArchive(f"`{path.name}` has an encrypted file: `{where}`")
                unix_mode = info.external_attr >> 16
                if stat.S_ISLNK(unix_mode):
                    if info.file_size > _MAX_LINK:
                        raise UnsafeArchive(f"`{path.name}` has a link that is no link: `{where}`")
                    symlinks[where] = archive.read(info).decode("utf-8", "replace")
                    continue
                mode = MODE_EXECUTABLE if unix_mode & 0o111 else MODE_FILE
                entries[where] = Entry(where, mode, _zip_content(path, archive, info, stream), PROJECT)
    except PermissionError as error:
        _refuse_unread(error)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, UnicodeError, ValueError, zlib.error) as error:
        raise UnsafeArchive(f"`{path.name}` is not a valid zip: {error}", hint="build or download it again") from error
    _follow(symlinks, entries)
    package = _package(entries, symlinks, zipped_size=path.stat().st_size)
    return package._replace(kind="wheel") if path.suffix == ".whl" else package


def _zip_content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, stream: Any) -> Span | Bytes:
    if info.compress_type not in {STORED, DEFLATED}:
        if info.file_size > _MAX_ODD_MEMBER:
            raise UnsafeArchive(
                f"`{path.name}` has a large file in a compression Lambda may not know: `{info.filename}`"
            )
        return Bytes(_read_odd(archive, info))
    stream.seek(info.header_offset)
    header = stream.read(30)
    if header[:4] != b"PK\3\4":
        raise UnsafeArchive(f"`{path.name}` is damaged at `{info.filename}`", hint="build or download it again")
    offset = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return Span(path, offset, info.compress_size, info.compress_type, info.CRC, info.file_size)


def _read_odd(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    from lzma import LZMAError

    try:
        return archive.read(info)
    except LZMAError as error:
        raise UnsafeArchive(f"a file in the archive is damaged: `{info.filename}`") from error


def _follow(symlinks: Mapping[str, str], entries: dict[str, Entry]) -> None:
    """Let links to files of the package stand for those, as they do once Lambda has unpacked it."""
    from posixpath import dirname, normpath

    for link in symlinks:
        where = link
        for _ in range(8):
            where = normpath(f"{dirname(where)}/{symlinks[where]}").removeprefix("/")
            if where not in symlinks:
                break
        if where in entries and link not in entries:
            entries[link] = entries[where]._replace(path=link)


def _as_installed(path: str) -> str:
    return re.sub(r"[^/]+\.data/(?:purelib|platlib|data)/", "", path, count=1) if ".data/" in path else path


def _package(entries: dict[str, Entry], symlinks: Mapping[str, str], *, zipped_size: int | None) -> Package:
    import csv

    for path, entry in list(entries.items()):
        if not path.endswith(".dist-info/RECORD") or entry.content.size > _MAX_METADATA:
            continue
        dist_info = path.removesuffix("/RECORD")
        site, _, folder = dist_info.rpartition("/")
        origin = normalised(folder.removesuffix(".dist-info").rpartition("-")[0])
        prefix = f"{site}/" if site else ""
        lines = read_content(entry.content).decode("utf-8", "replace").replace("\0", "").splitlines()
        for row in csv.reader(lines, strict=False):
            listed = entries.get(prefix + row[0]) if row else None
            if listed is not None:
                entries[listed.path] = listed._replace(origin=origin)
        entries[path] = entries[path]._replace(origin=origin)
    tops = {path.partition("/")[0] for path in entries}
    kind: Kind = "layer" if "python" in tops and tops <= {"python", "lib", "bin"} else "zip"
    if zipped_size is None and kind == "zip":
        kind = "dir"
    return Package(
        tree=PackageTree(entries.values()), kind=kind, zipped_size=zipped_size, symlinks=dict(sorted(symlinks.items()))
    )
