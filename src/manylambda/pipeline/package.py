"""One package for one target: its tree, its audit, its archive."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import archive, audits, elf, rules
from manylambda.errors import ManylambdaError
from manylambda.pipeline.artifact import Artifact, ShippedDistribution
from manylambda.sources.project import ORIGIN
from manylambda.tree import overlay
from manylambda.wheels.layout import left_out, package_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.audits.libraries import Libraries
    from manylambda.config import Settings
    from manylambda.fetch.cache import Cache
    from manylambda.locks.model import Pin, Selection, Source
    from manylambda.pipeline.installer import Installer
    from manylambda.progress import Progress
    from manylambda.sdists import Fallback
    from manylambda.target import Target
    from manylambda.tree import Collision, PackageTree
    from manylambda.wheels.inventory import Inventory
    from manylambda.wheels.wheelhouse import StoredWheel, Wheelhouse

_ARCHIVE: Final = "archive"
_ARCHIVE_VERSION: Final = 1


class Contents(NamedTuple):
    """What the package of one target is to hold; nothing is written yet."""

    selection: Selection
    stored: Sequence[StoredWheel]
    """Of the selection, what is not left out on the user's word."""
    tree: PackageTree
    collisions: tuple[Collision, ...]
    confirm: Callable[[], None]
    """Waits until every wheel has been hashed; raises `CacheDamaged`."""


class Packer:
    """Makes the packages of one build: they share the project's files and the wheels."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        house: Wheelhouse,
        files: PackageTree,
        *,
        fallbacks: Mapping[str, Fallback],
        cache: Cache,
        progress: Progress,
        installer: Installer | None = None,
    ) -> None:
        """`files` are the project's own; `fallbacks` tell, by their hash, of wheels built without a compiled part."""
        self._installer = installer
        self._fallbacks = fallbacks
        self.cache = cache
        self.settings = settings
        self.source = source
        self._house = house
        self._files = files
        self.progress = progress

    def lay_out(self, selection: Selection, stored: Sequence[StoredWheel]) -> Contents:
        """Put together what the package of one target is to hold, from its wheels in the order of their names."""
        settings, target = self.settings, selection.target
        stored = self._kept(target, stored)
        confirmed = _Background(lambda: self._house.confirm(stored))
        interpreter = f"/var/lang/bin/python{target.python[0]}.{target.python[1]}"
        for wheel in stored:
            for path in left_out(wheel.inventory, scripts=settings.scripts):
                self.progress.detail(f"left out `{path}` of `{wheel.filename}`: of no use at run time")
        trees = [package_tree(one.inventory, interpreter=interpreter, scripts=settings.scripts) for one in stored]
        tree, collisions = overlay((self._files, *trees))
        if self._installer is not None:
            confirmed.result()  # pip, too, is given what the lock names
            # Where distributions collide pip says nothing: that is told as we see it.
            tree, _ = overlay((self._files, self._installer.tree(target, stored)))
        prefix = self._prefix(target)
        return Contents(selection, stored, tree.under(prefix) if prefix else tree, tuple(collisions), confirmed.result)

    def make(self, selection: Selection, stored: Sequence[StoredWheel]) -> Artifact:
        """Write the package of one target, unless the audit refuses it."""
        settings, target = self.settings, selection.target
        contents = self.lay_out(selection, stored)
        tree, stored = contents.tree, contents.stored
        place, kind = self._place(target), settings.kind
        subject: audits.Subject | None = None
        report: audits.Report | None = None

        def admit(written: archive.Written) -> None:
            nonlocal report, subject
            subject = self.subject(contents, None if kind == "dir" else written.size)
            report = audits.check(subject, rules.ALL if settings.audit else (), ignore=settings.ignore)
            if settings.audit and report.has_errors:
                raise _Refused
            contents.confirm()

        written: archive.Written | None = None
        try:
            written = self._write(tree, place, stored, label=str(target), admit=admit)
        except _Refused:
            contents.confirm()
            assert report is not None
            assert subject is not None
            report = self.advised(report, subject, contents)
        except (ManylambdaError, OSError):
            contents.confirm()  # a damaged wheel fails in many ways; what it is comes first
            raise
        assert report is not None
        return Artifact(
            target=target,
            kind=kind,
            path=place,
            written=written,
            distributions=tuple(map(shipped, stored)),
            report=report,
        )

    def fetched(self, pins: Sequence[Pin]) -> Sequence[StoredWheel]:
        """Return the wheels of distributions that were chosen besides those of the source."""
        found = self._house.get(pins)
        return [found[pin.name, pin.wheel.filename] for pin in pins]

    def identities(self, stored: Sequence[StoredWheel]) -> Mapping[Path, str]:
        """Return the sha256 of the files that the spans of a tree lie in."""
        return self._house.identities(stored)

    def _write(
        self,
        tree: PackageTree,
        place: Path,
        stored: Sequence[StoredWheel],
        *,
        label: str,
        admit: Callable[[archive.Written], None],
    ) -> archive.Written:
        """Write the package, unless what lies in its place is already the same to the byte."""
        if self.settings.kind == "dir":
            return archive.write_directory(tree, place, progress=self.progress, label=label, admit=admit)
        fingerprint = archive.fingerprint(tree, self._house.identities(stored))
        facts = self.cache.read_facts(_ARCHIVE, _ARCHIVE_VERSION, fingerprint.key)
        known: archive.Known | None = None
        if isinstance(facts, dict):
            known = archive.Known(facts["sha256"], facts["size"], fingerprint.checksums)
        if known is not None and archive.is_same(place, known):
            written = archive.Written(
                path=place, sha256=known.sha256, size=known.size, unzipped_size=tree.size, files=len(tree)
            )
            admit(written)
            return written
        written = archive.write_zip(tree, place, progress=self.progress, label=label, admit=admit, known=known)
        if known is None or (known.sha256, known.size) != (written.sha256, written.size):
            self.cache.write_facts(
                _ARCHIVE, _ARCHIVE_VERSION, fingerprint.key, {"sha256": written.sha256, "size": written.size}
            )
        return written

    def subject(
        self, contents: Contents, zipped_size: int | None, libraries: Libraries | None = None
    ) -> audits.Subject:
        """Return what the rules look at, with what is known of the wheels; nothing is read from them again.

        `libraries` are those of the image it is to be in, where they and not the runtime's decide.
        """
        settings, tree, stored = self.settings, contents.tree, contents.stored
        target = contents.selection.target
        if not settings.audit:
            return audits.Subject(tree, target, kind=settings.kind, facts={}, distributions=())
        prefix = self._prefix(target)
        origins = {entry.path: entry.origin for entry in tree}
        facts = {
            prefix + path: elf.from_json(fact)
            for one in stored
            for path, fact in one.facts["native"].items()
            if origins.get(prefix + path) == one.inventory.name  # not left out, and not brought by another
        }
        # What another installer wrote is read from its files.
        facts.update(audits.native_facts(one for one in tree if one.origin == ORIGIN or self._installer is not None))
        return audits.Subject(
            tree,
            target,
            kind=settings.kind,
            layers=[audits.open_tree(layer) for layer in settings.layers],
            facts=facts,
            distributions=[_chosen(one, target) for one in stored],
            zipped_size=zipped_size,
            collisions=contents.collisions,
            pure_fallbacks=[
                *(
                    audits.PureFallback(pin.name, pin.wheel.filename, pin.compiled_for, pin.brings_library)
                    for pin in contents.selection.pins
                    if pin.compiled_for
                ),
                *(
                    audits.PureFallback(
                        one.inventory.name, one.filename, sources=without.sources, reason=without.reason
                    )
                    for one in stored
                    if (without := self._fallbacks.get(one.sha256)) is not None
                ),
            ],
            handler=settings.handler,
            libraries=libraries,
        )

    def advised(self, report: audits.Report, subject: audits.Subject, contents: Contents) -> audits.Report:
        """Let the project's indexes say which releases would run; see `pipeline.advice`."""
        if self.settings.offline:
            return report
        from manylambda.pipeline import advice, dependencies

        def ask() -> advice.Asked:
            return advice.of_selection(contents.selection, dependencies.index_settings(self.source, self.settings))

        return advice.advise(report, subject, ask, self.progress)

    def _prefix(self, target: Target) -> str:
        """Return where in the package distributions lie, with its `/`."""
        if self.settings.kind != "layer":
            return ""
        if self.settings.layer_layout == "python":
            return "python/"
        return f"python/lib/python{target.python[0]}.{target.python[1]}/site-packages/"

    def _kept(self, target: Target, stored: Sequence[StoredWheel]) -> Sequence[StoredWheel]:
        """Leave out what the user excludes and, when asked, what the runtime has."""
        settings = self.settings
        if not settings.exclude and not settings.exclude_provided:
            return stored
        from manylambda.locks.roots import direct_requirements
        from manylambda.wheels.needs import Needs

        roots = direct_requirements(self.source, os.environ)
        needs = Needs([wheel.inventory for wheel in stored], target.markers, roots)
        dropped = list(needs.without(settings.exclude)) if settings.exclude else []
        if settings.exclude_provided:
            provided, stay = needs.provided(target.preinstalled, target.runtime, besides={one.name for one in dropped})
            for line in stay:
                self.progress.info(f"{target}: {line}")
            dropped += provided
        for one in sorted(dropped, key=lambda one: one.name):
            self.progress.info(f"{target}: `{one.name}` is left out: {one.reason}")
        gone = {one.name for one in dropped}
        return [wheel for wheel in stored if wheel.inventory.name not in gone]

    def _place(self, target: Target) -> Path:
        settings = self.settings
        named = settings.artifact_of(target)
        if named is not None:
            return named
        stem = f"{settings.name}-layer-{target}" if settings.kind == "layer" else f"{settings.name}-{target}"
        return settings.output / (stem if settings.kind == "dir" else f"{stem}.zip")


class _Refused(Exception):
    """The audit found an error: the package is not to be published."""


class _Background:
    """A function running in a thread while the caller works on; an executor would cost a warm build its import."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def result(self) -> None:
        """Wait for the end; raise what the function raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def native_facts(inventory: Inventory) -> dict[str, object]:
    """Read the native files of a wheel: facts of its bytes, kept beside the inventory."""
    tree = package_tree(inventory, interpreter="", scripts=True)
    return {path: elf.to_json(native) for path, native in audits.native_facts(tree).items()}


def _chosen(one: StoredWheel, target: Target) -> Inventory:
    """Return a wheel with the tags of its name where those of its metadata do not fit: it was chosen by its name.

    lightgbm 4.6.0 for one is called `manylinux_2_28_x86_64`, and says `linux_x86_64` inside.
    """
    from packaging.utils import parse_wheel_filename

    if target.rank(one.inventory.tags) is not None:
        return one.inventory
    _, _, _, tags = parse_wheel_filename(one.filename)
    return one.inventory if target.rank(tags) is None else replace(one.inventory, tags=tuple(sorted(map(str, tags))))


def shipped(stored: StoredWheel) -> ShippedDistribution:
    """Return what is told of a distribution."""
    inventory = stored.inventory
    return ShippedDistribution(
        name=inventory.name,
        version=inventory.version,
        file=stored.filename,
        sha256=stored.sha256,
        size=stored.size,
        unzipped_size=inventory.unzipped_size,
        compiled=bool(stored.facts.get("native")) if "native" in stored.facts else not inventory.is_pure,
    )
