"""What rules look at, and the runner: a package as Lambda would mount it, on a target.

The rules themselves are one floor up and come as a tuple.
"""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from manylambda.audits.distributions import Distribution, PureFallback, read_distributions
from manylambda.audits.findings import PROJECT, Finding, Ignore, Ignored, Report, Severity
from manylambda.audits.making import UNKNOWN, Making
from manylambda.audits.natives import native_facts
from manylambda.elf import ElfFile, NativeFile
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, Linkage, System, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from manylambda.audits.images import ImageFacts
    from manylambda.audits.libraries import Libraries
    from manylambda.target import Target
    from manylambda.tree import Collision, Entry, PackageTree

Kind: TypeAlias = Literal["zip", "layer", "dir", "image", "wheel"]


class Rule(NamedTuple):
    """One thing that is looked for; `name` is stable and the anchor of the rule's page."""

    name: str
    check: Callable[[Subject], Iterable[Finding]]


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
        making: Making = UNKNOWN,
        mounts: Mapping[str, PackageTree] = MappingProxyType({}),
        image: ImageFacts | None = None,
        libraries: Libraries | None = None,
    ) -> None:
        """See `run`; `mounts` and `image` are of a container image, as `Package` has them.

        `libraries` are those of the image that the package is to be in; without them, and without an image, the table
        of the runtime says what is there.
        """
        self.tree = tree
        self.target = target
        self.kind: Kind = kind
        self.layers = tuple(layers)
        self.zipped_size = zipped_size
        self.collisions = tuple(collisions)
        self.pure_fallbacks = tuple(pure_fallbacks)
        self.handler = handler
        self.making = making
        self.mounts = mounts
        self.image = image
        self.libraries = image.libraries if image is not None and libraries is None else libraries
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
        for folder, tree in self.mounts.items():
            found.update((folder + path, native) for path, native in native_facts(tree).items())
        for layer in self.layers:  # a later layer overwrites an earlier one
            for entry in layer:
                found.pop(LAYER_ROOT + entry.path, None)
            found.update((LAYER_ROOT + path, native) for path, native in native_facts(layer).items())
        found.update((self._root + path, native) for path, native in self.facts.items())
        return dict(sorted(found.items()))

    @cached_property
    def digests(self) -> Mapping[str, str | None]:
        """The sha256 of each file of the package that a RECORD has one for and whose size is the one it lists.

        As RECORD writes it; None for a member of an archive that cannot be unpacked. Empty for our own packages, whose
        wheels were verified.
        """
        wanted: dict[str, Entry] = {}
        for record in self.making.records:
            for row in record.rows:
                if row.sha256 is None or row.path in self.making.linked:
                    continue
                entry = self.tree.get(row.path)
                if entry is not None and row.size in {None, entry.content.size}:
                    wanted[row.path] = entry
        if not wanted:
            return {}
        from manylambda.audits.digests import digests

        return digests(wanted.values())

    @cached_property
    def system(self) -> System | None:
        """The libraries of an image by which its native files are judged; None where the table of the runtime does."""
        return None if self.libraries is None else self.libraries.needed_by(self.natives, self.target)

    @cached_property
    def linkage(self) -> Linkage:
        """What the loader would do with them."""
        return resolve(self.natives, self.target, self.system)

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Every file, layers included, by absolute path; what Lambda would mount."""
        mounted = {folder + entry.path: entry for folder, tree in self.mounts.items() for entry in tree}
        mounted.update((LAYER_ROOT + entry.path, entry) for layer in self.layers for entry in layer)
        mounted.update((self._root + entry.path, entry) for entry in self.tree)
        return mounted

    @cached_property
    def distributions(self) -> tuple[Distribution, ...]:
        """The distributions of the package itself, sorted by name; those of layers are in `layer_distributions`.

        Of an image all are its own, wherever they lie: of each the copy that comes first on `sys.path`.
        """
        found: Sequence[Distribution] = (
            read_distributions(self.tree, self.site_folders(in_layer=self.kind == "layer"))
            if self._distributions is None
            else self._distributions
        )
        if self.image is not None:
            places = [(layer, self.site_folders(in_layer=True)) for layer in self.layers]
            for tree, folders in (*places, *((tree, ("",)) for tree in self.mounts.values())):
                names = {each.name for each in found}
                found = [*found, *(each for each in read_distributions(tree, folders) if each.name not in names)]
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
        """Bytes of the package and its layers; of an image, of all that it is made of."""
        if self.image is not None:
            return self.image.unpacked_size
        own = self.tree.size
        if self.making.linked and self.kind != "dir":  # a link is a few bytes once Lambda has unpacked it
            own -= sum(entry.content.size for entry in self.tree if entry.path in self.making.linked)
        return own + sum(layer.size for layer in self.layers)

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
    making: Making = UNKNOWN,
    ignore: Sequence[Ignore] = (),
) -> Report:
    """Apply `rules` to a package on `target` and return what they find, worst first, in a fixed order.

    `layers` are in the order of the function's configuration. `facts` (path in `tree` -> facts) and
    `distributions` are read from `tree` where they are not given: whoever has them by the hash of a wheel spares that.
    `zipped_size` is the archive's, in bytes, where it is known; `handler` is what Lambda will call;
    `making` is how another tool wrote the package. What `ignore` covers is reported apart.
    """
    return check(
        Subject(
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
            making=making,
        ),
        rules,
        ignore=ignore,
    )


def check(subject: Subject, rules: Iterable[Rule], *, ignore: Sequence[Ignore] = ()) -> Report:
    """Apply `rules` to `subject`; see `run`. Whoever wants to show more than the findings keeps the subject."""
    order = {severity: number for number, severity in enumerate(Severity)}
    findings: list[Finding] = []
    ignored: list[Ignored] = []
    for rule in rules:
        for finding in rule.check(subject):
            by = next((one for one in ignore if one.covers(finding)), None)
            if by is None:
                findings.append(finding)
            else:
                ignored.append(Ignored(finding, by))

    def place(one: Finding) -> tuple[int, str, str, str, str]:
        return order[one.severity], one.distribution or "", one.rule, one.path or "", one.message

    named = {one.distribution for one in (*findings, *(each.finding for each in ignored)) if one.distribution}
    return Report(
        target=str(subject.target),
        findings=tuple(sorted(findings, key=place)),
        shared_objects=sum(isinstance(one, ElfFile) and one.is_loaded_by_linux for one in subject.natives.values()),
        files=len(subject.tree) if subject.image is None else len(subject.entries),
        unzipped_size=subject.unzipped_size,
        ignored=tuple(sorted(ignored, key=lambda one: place(one.finding))),
        versions={name: subject.by_name[name].version for name in sorted(named) if name in subject.by_name},
        image_glibc=None if subject.system is None else str(subject.system.glibc),
    )
