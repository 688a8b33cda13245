"""`build`: a package for each target, proved before it takes its place."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from manylambda import archive, audits, elf, rules
from manylambda.errors import ManylambdaError, RequestError
from manylambda.fetch.cache import Cache
from manylambda.pipeline import dependencies, source_code
from manylambda.progress import SILENT
from manylambda.sources.project import ORIGIN, project_tree
from manylambda.tree import PackageTree, overlay
from manylambda.wheels.layout import left_out, package_tree
from manylambda.wheels.wheelhouse import CacheDamaged, StoredWheel, Wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from manylambda.config import Settings
    from manylambda.locks.model import Selection, Source
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.tree import Collision
    from manylambda.wheels.inventory import Inventory

_NATIVE_VERSION: Final = 2
"""Goes up whenever the facts `elf` reads of a file change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedDistribution:
    """One distribution of a package; sizes in bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    unzipped_size: int
    compiled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A package for one target."""

    target: Target
    kind: Literal["zip", "layer", "dir"]
    path: Path
    written: archive.Written | None
    """None when the audit refused the package: then nothing was written."""
    distributions: tuple[ShippedDistribution, ...]
    report: audits.Report


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """What a build made, in the order the targets were given."""

    source: Source
    artifacts: tuple[Artifact, ...]

    def fails(self, threshold: Literal["error", "warning"]) -> bool:
        """Whether any package has a finding at or over `threshold` (`error` or `warning`)."""
        return any(artifact.report.fails(threshold) for artifact in self.artifacts)


def build(settings: Settings, *, progress: Progress = SILENT) -> BuildResult:
    """Make a package for every target of `settings`; what the audit refuses is not written.

    Raises the errors of `manylambda.errors`. A damaged file in the cache is fetched anew, once.
    """
    for target in settings.targets:
        if not target.can_build:
            raise RequestError(
                f"`{target}` is known for auditing only: Lambda takes no new functions of it",
                hint="`manylambda targets` lists what can be built",
            )
    work = _Build(settings, progress)
    try:
        return work.run()
    except CacheDamaged as damage:
        progress.warning(f"{damage.message}; fetching anew")
        return work.run()


class _Build:
    """One build: what its targets share, and the work for each."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._cache = Cache.default()
        self._source = dependencies.find_source(settings, progress)
        chosen = dependencies.selections(self._source, settings.targets, settings, self._cache, progress)
        self._selections = [source_code.with_project(selection, settings) for selection in chosen]

    def run(self) -> BuildResult:
        settings = self._settings
        selections = self._selections
        house = Wheelhouse(
            cache=self._cache,
            fetch=lambda downloads: dependencies.fetch(downloads, self._source, settings, self._cache, self._progress),
            derive={"native": (_NATIVE_VERSION, _native_facts)} if settings.audit else None,
        )
        fetched = house.get(pin for selection in selections for pin in selection.pins)
        built = {
            place: house.kept(wheel)
            for place, wheel in source_code.built_wheels(
                selections, self._source, settings, self._cache, self._progress
            ).items()
        }
        files = self._project_files()

        def work(selection: Selection) -> Callable[[], Artifact]:
            stored = [
                *(fetched[pin.name, pin.wheel.filename] for pin in selection.pins),
                *(built[source_code.place(package)] for package in selection.local),
                *(built[source_code.place(sdist)] for sdist in selection.sdists),
            ]
            stored.sort(key=lambda wheel: wheel.inventory.name)
            return lambda: self._package(house, selection, stored, files)

        return BuildResult(
            source=self._source, artifacts=tuple(_in_parallel([work(one) for one in selections], settings.jobs))
        )

    def _project_files(self) -> PackageTree:
        settings = self._settings
        # A layer holds dependencies: of the project only what is named for it.
        chosen = replace(settings.files, is_package=True) if settings.kind == "layer" else settings.files
        found = project_tree(settings.project, chosen)
        for left in found.left_out:
            tell = self._progress.warning if left.notable else self._progress.detail
            tell(f"left out `{left.path}`: {left.reason}")
        for one, other in found.case_collisions:
            self._progress.warning(f"`{one}` and `{other}` are one file on macOS and Windows")
        return found.tree

    def _package(
        self, house: Wheelhouse, selection: Selection, stored: Sequence[StoredWheel], files: PackageTree
    ) -> Artifact:
        settings, target = self._settings, selection.target
        stored = self._kept(target, stored)
        confirmed = _Background(lambda: house.confirm(stored))
        interpreter = f"/var/lang/bin/python{target.python[0]}.{target.python[1]}"
        for wheel in stored:
            for path in left_out(wheel.inventory, scripts=settings.scripts):
                self._progress.detail(f"left out `{path}` of `{wheel.filename}`: of no use at run time")
        trees = [package_tree(one.inventory, interpreter=interpreter, scripts=settings.scripts) for one in stored]
        tree, collisions = overlay((files, *trees))
        prefix = self._prefix(target)
        tree = tree.under(prefix) if prefix else tree
        place, kind = self._place(target), settings.kind
        report: audits.Report | None = None

        def admit(written: archive.Written) -> None:
            nonlocal report
            report = self._report(selection, tree, stored, collisions, written)
            if settings.audit and report.has_errors:
                raise _Refused
            confirmed.result()

        written: archive.Written | None = None
        write = archive.write_directory if kind == "dir" else archive.write_zip
        try:
            written = write(tree, place, progress=self._progress, label=str(target), admit=admit)
        except _Refused:
            confirmed.result()
        except ManylambdaError:
            confirmed.result()  # a damaged wheel fails in many ways; what it is comes first
            raise
        assert report is not None
        return Artifact(
            target=target,
            kind=kind,
            path=place,
            written=written,
            distributions=tuple(map(_shipped, stored)),
            report=report,
        )

    def _report(
        self,
        selection: Selection,
        tree: PackageTree,
        stored: Sequence[StoredWheel],
        collisions: Sequence[Collision],
        written: archive.Written,
    ) -> audits.Report:
        settings, target = self._settings, selection.target
        if not settings.audit:
            return audits.run(tree, target, (), facts={}, distributions=())
        prefix = self._prefix(target)
        origins = {entry.path: entry.origin for entry in tree}
        facts = {
            prefix + path: elf.from_json(fact)
            for one in stored
            for path, fact in one.facts["native"].items()
            if origins.get(prefix + path) == one.inventory.name  # not left out, and not brought by another
        }
        facts.update(audits.native_facts(entry for entry in tree if entry.origin == ORIGIN))
        return audits.run(
            tree,
            target,
            rules.ALL,
            kind=settings.kind,
            layers=[audits.open_tree(layer) for layer in settings.layers],
            facts=facts,
            distributions=[one.inventory for one in stored],
            zipped_size=None if settings.kind == "dir" else written.size,
            collisions=collisions,
            pure_fallbacks=[
                audits.PureFallback(distribution=pin.name, file=pin.wheel.filename, compiled_for=pin.compiled_for)
                for pin in selection.pins
                if pin.compiled_for
            ],
            handler=settings.handler,
        )

    def _prefix(self, target: Target) -> str:
        """Return where in the package distributions lie, with its `/`."""
        if self._settings.kind != "layer":
            return ""
        if self._settings.layer_layout == "python":
            return "python/"
        return f"python/lib/python{target.python[0]}.{target.python[1]}/site-packages/"

    def _kept(self, target: Target, stored: Sequence[StoredWheel]) -> Sequence[StoredWheel]:
        """Leave out what the user excludes and, when asked, what the runtime has."""
        settings = self._settings
        if not settings.exclude and not settings.exclude_provided:
            return stored
        from manylambda.locks.roots import direct_requirements
        from manylambda.wheels.needs import Needs

        roots = direct_requirements(self._source, os.environ)
        needs = Needs([wheel.inventory for wheel in stored], target.markers, roots)
        dropped = list(needs.without(settings.exclude)) if settings.exclude else []
        if settings.exclude_provided:
            provided, stay = needs.provided(target.preinstalled, target.runtime, besides={one.name for one in dropped})
            for line in stay:
                self._progress.info(f"{target}: {line}")
            dropped += provided
        for one in sorted(dropped, key=lambda one: one.name):
            self._progress.info(f"{target}: `{one.name}` is left out: {one.reason}")
        gone = {one.name for one in dropped}
        return [wheel for wheel in stored if wheel.inventory.name not in gone]

    def _place(self, target: Target) -> Path:
        settings = self._settings
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


def _in_parallel(work: Sequence[Callable[[], Artifact]], jobs: int | None) -> list[Artifact]:
    if len(work) == 1 or jobs == 1:
        return [one() for one in work]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(len(work), jobs or os.cpu_count() or 1)) as pool:
        return [future.result() for future in [pool.submit(one) for one in work]]


def _native_facts(inventory: Inventory) -> dict[str, object]:
    """Read the native files of a wheel: facts of its bytes, kept beside the inventory."""
    tree = package_tree(inventory, interpreter="", scripts=True)
    return {path: elf.to_json(native) for path, native in audits.native_facts(tree).items()}


def _shipped(stored: StoredWheel) -> ShippedDistribution:
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
