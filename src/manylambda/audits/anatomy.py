"""Anatomy: what a package is made of and how its shared objects hang together, for whoever shows more than findings.

Knows nothing of rules or of how it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from manylambda.audits.findings import PROJECT
from manylambda.linkage import LAYER_ROOT, module_file
from manylambda.tree import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.audits.subject import Subject
    from manylambda.tree import Entry

Substance: TypeAlias = Literal["native", "python", "bytecode", "data"]

End: TypeAlias = Literal["provided", "bundled", "unreached", "missing", "shadowed"]
"""How a need ends. `shadowed`: the runtime's copy is loaded although the package brings one."""


class File(NamedTuple):
    """One file, as a reader knows it."""

    path: str
    """In the package; absolute for a file of a layer."""
    size: int
    """Bytes unzipped."""
    substance: Substance


class Part(NamedTuple):
    """What one distribution brought, or the project itself."""

    name: str
    """The distribution's normalised name; `project` for files that none brought."""
    version: str | None
    files: tuple[File, ...]
    """Largest first."""
    size: int
    """Bytes unzipped."""
    zipped_size: int | None
    """Bytes in the archive, without its directory; None for files that lie in a folder."""

    @property
    def native(self) -> int:
        """How many native files it has; none is a pure distribution."""
        return sum(file.substance == "native" for file in self.files)


class Need(NamedTuple):
    """A library that a shared object needs, and what becomes of it."""

    needer: str
    """Path of the shared object, as a reader knows it."""
    is_module: bool
    """Whether Python imports the needer."""
    soname: str
    end: End
    provider: str | None
    """The file of the package that is loaded, lies unreached, or is shadowed."""
    chain: tuple[str, ...]
    """From the file that Python loads to the needer, both included."""


class Anatomy(NamedTuple):
    """A package taken apart."""

    parts: tuple[Part, ...]
    """Largest first."""
    needs: Mapping[str, tuple[Need, ...]]
    """By the part whose shared objects need, sorted by its name; within a part in the order of the loader."""
    chains: Mapping[str, tuple[str, ...]]
    """Of each shared object that another one loads: the way to it from the file that Python loads."""


def anatomy(subject: Subject) -> Anatomy:
    """Take the package of `subject` apart, its layers included."""
    return Anatomy(parts=_parts(subject), needs=_needs(subject), chains=_chains(subject))


def _parts(subject: Subject) -> tuple[Part, ...]:
    files: dict[str, list[File]] = {}
    zipped: dict[str, int | None] = {}
    # A link stands in the tree as what it leads to, but is a few bytes once Lambda has unpacked it.
    links = subject.making.linked if subject.kind != "dir" else ()
    for path, entry, is_native in _placed(subject):
        content = entry.content
        size = 0 if path in links else content.size
        files.setdefault(entry.origin, []).append(File(path, size, _substance(path, is_native=is_native)))
        known = zipped.get(entry.origin, 0)
        if isinstance(content, Span) and subject.zipped_size is not None and known is not None:
            zipped[entry.origin] = known + content.compressed_size
        else:
            zipped[entry.origin] = None
    parts = [
        Part(
            name=name,
            version=None if name == PROJECT or name not in subject.by_name else subject.by_name[name].version,
            files=tuple(sorted(each, key=lambda file: (-file.size, file.path))),
            size=sum(file.size for file in each),
            zipped_size=zipped[name],
        )
        for name, each in files.items()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.size, part.name)))


def _placed(subject: Subject) -> Iterator[tuple[str, Entry, bool]]:
    """Yield every file as a reader knows it, and whether it is native; all layers count, as they do for Lambda."""
    for folder, tree in subject.mounts.items():
        for entry in tree:
            yield folder + entry.path, entry, folder + entry.path in subject.natives
    for layer in subject.layers:
        for entry in layer:
            yield LAYER_ROOT + entry.path, entry, LAYER_ROOT + entry.path in subject.natives
    for entry in subject.tree:
        yield entry.path, entry, entry.path in subject.facts


def _substance(path: str, *, is_native: bool) -> Substance:
    if is_native:
        return "native"
    if path.endswith((".py", ".pyi", ".pyx", ".pxd")):
        return "python"
    return "bytecode" if path.endswith((".pyc", ".pyo")) else "data"


def _needs(subject: Subject) -> dict[str, tuple[Need, ...]]:
    found: dict[str, list[Need]] = {}
    for link in subject.linkage.links:
        entry = subject.entries.get(link.needer)
        where = link.shadowed or link.provider
        found.setdefault(PROJECT if entry is None else entry.origin, []).append(
            Need(
                needer=subject.shown(link.needer),
                is_module=module_file(link.needer.rpartition("/")[2]) is not None,
                soname=link.soname,
                end="shadowed" if link.shadowed is not None else link.outcome.value,
                provider=None if where is None else subject.shown(where),
                chain=tuple(map(subject.shown, link.chain)),
            )
        )
    return {name: tuple(needs) for name, needs in sorted(found.items())}


def _chains(subject: Subject) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for link in subject.linkage.links:
        if len(link.chain) > 1:
            found.setdefault(subject.shown(link.needer), tuple(map(subject.shown, link.chain)))
    return found
