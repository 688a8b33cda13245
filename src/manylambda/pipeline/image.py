"""A container image for one target: a base, its dependencies, its code; written where it is wanted, by no daemon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from manylambda import archive, audits, rules
from manylambda.errors import RequestError
from manylambda.image.assemble import AddedLayer, Start, assemble
from manylambda.image.layer_writer import layer
from manylambda.image.places import ImagePlace
from manylambda.image.reference import Reference
from manylambda.image.saving import is_docker_archive_of, is_layout_of, write_docker_archive, write_layout
from manylambda.pipeline.artifact import Artifact, ImageLayer, WrittenImage
from manylambda.pipeline.image_base import CLIENT, TASK, find_base, words
from manylambda.pipeline.package import shipped
from manylambda.pipeline.runtime_client import with_client
from manylambda.sources.project import ORIGIN
from manylambda.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.audits.libraries import Libraries
    from manylambda.config import Settings
    from manylambda.image.assembled import Assembled
    from manylambda.image.base import Base
    from manylambda.locks.model import Selection
    from manylambda.pipeline.image_base import FoundBase
    from manylambda.pipeline.package import Contents, Packer
    from manylambda.target import Target
    from manylambda.wheels.wheelhouse import StoredWheel

_TASK_VARIABLE: Final = "LAMBDA_TASK_ROOT"
_LARGE: Final = 5 << 20
"""Bytes, uncompressed, from which a distribution has a layer of its own where layers are split."""
_MOST_LAYERS: Final = 40
"""Besides the base's: Docker's storage takes 127, and manifests are to stay small."""
_LABEL: Final = "org.opencontainers.image."
_BY_LIBRARIES: Final = frozenset(
    {"glibc-too-new", "library-missing", "library-shadowed", "symbol-undefined", "symbol-version-missing"}
)
"""Rules whose errors another system may not have."""


def make_image(packer: Packer, selection: Selection, stored: Sequence[StoredWheel]) -> Artifact:
    """Write the image of one target, unless the audit refuses what would be in `/var/task`."""
    settings, target = packer.settings, selection.target
    place = _place(settings, target)
    if settings.layers:
        raise RequestError(
            "a function that is an image takes no layers: " + ", ".join(f"`{one.name}`" for one in settings.layers),
            hint="add what they hold to the dependencies, or build a zip",
        )
    base = find_base(settings, target, place, packer.cache, packer.progress)
    has_client = any(one.inventory.name == CLIENT for one in stored)
    if not base.starts_handlers and not has_client:
        selection, stored = with_client(packer, selection, stored, base.image.name)
    if not base.is_ours and (there := base.seen.task_files):
        files = "1 file" if there == 1 else f"{there:,} files"
        packer.progress.warning(
            f"{target}: `{base.image.name}` has {files} in `{TASK}`, part of the function and not audited by the "
            "build: `manylambda audit` the image"
        )
    contents = packer.lay_out(selection, stored)
    subject, report = _judged(packer, contents, base)
    contents.confirm()
    written: WrittenImage | None = None
    if settings.audit and report.has_errors:
        report = packer.advised(report, subject, contents)
    else:
        written = _Maker(packer, contents, place, base).make()
    return Artifact(
        target=target,
        kind="image",
        path=place.path,
        written=written,
        distributions=tuple(map(shipped, contents.stored)),
        report=report,
    )


def _judged(packer: Packer, contents: Contents, base: FoundBase) -> tuple[audits.Subject, audits.Report]:
    """Audit what would be in `/var/task`, by the libraries of the base.

    Lambda's own image for the runtime has what the table of the runtime has, and more: it is looked into only where
    that is not enough.
    """
    settings, target = packer.settings, contents.selection.target

    def judged(by: Libraries | None) -> tuple[audits.Subject, audits.Report]:
        subject = packer.subject(contents, None, by)
        if by is not None and subject.natives and subject.system is None:
            raise RequestError(
                f"`{base.image.name}` has no glibc for {target.machine}: nothing compiled for {target} loads there",
                hint=f"start from `{target.image}`, or from an image with glibc (Alpine's has musl)",
            )
        return subject, audits.check(subject, rules.ALL if settings.audit else (), ignore=settings.ignore)

    if not settings.audit:
        return judged(None)
    if base.is_ours:
        subject, report = judged(None)
        errors = {one.rule for one in report.findings if one.severity is audits.Severity.ERROR}
        if not errors & _BY_LIBRARIES:
            return subject, report
    return judged(base.libraries(settings.image_environment))


def _place(settings: Settings, target: Target) -> ImagePlace:
    place = settings.image_output
    if place is None:
        return ImagePlace("oci", settings.output / f"{settings.name}-{target}-image", None)
    if len(settings.targets) > 1 and not place.is_per_target:
        raise RequestError(
            f"`{place}` is a place for one image, and there are {len(settings.targets)} targets: an index of several "
            "is nothing that a function can be made from",
            hint="put `{target}` where they differ, or build each on its own",
        )
    return place.of(target)


class _Maker:
    def __init__(self, packer: Packer, contents: Contents, place: ImagePlace, base: FoundBase) -> None:
        self._packer = packer
        self._settings = packer.settings
        self._cache = packer.cache
        self._progress = packer.progress
        self._contents = contents
        self._target = contents.selection.target
        self._place = place
        self._base = base

    def make(self) -> WrittenImage:
        settings, base = self._settings, self._base
        start = self._start(base)
        layers = list(self._layers())
        image = assemble(
            base.image,
            [added for _, added in layers],
            start,
            labels=self._labels(base.image),
            manifest=settings.image_manifest,
            cache=self._cache,
        )
        reference, uploaded = self._write(image)
        told = ["base"] * len(base.image.layers) + [content for content, _ in layers]
        config = base.config
        return WrittenImage(
            path=self._place.path,
            place=reference,
            digest=image.digest,
            media_type=image.media_type,
            size=image.size,
            unzipped_size=self._contents.tree.size,
            files=len(self._contents.tree),
            base=base.told,
            base_digest=base.image.digest,
            layers=tuple(
                ImageLayer(digest=part.digest, diff_id=part.diff_id or "", size=part.size, content=content)
                for part, content in zip(image.layers, told, strict=True)
            ),
            entry_point=start.entry_point if start.entry_point is not None else words(config.get("Entrypoint")),
            command=start.command,
            uploaded=uploaded,
        )

    # How it starts

    def _start(self, base: FoundBase) -> Start:
        settings = self._settings
        command = (settings.handler,) if settings.handler is not None else ()
        if settings.handler is None:
            self._progress.warning(
                "the image names no handler: give one by `--handler app.lambda_handler`, or name it as CMD in the "
                "function's image configuration"
            )
        known = base.environment
        environment = dict(settings.image_environment)
        if _TASK_VARIABLE not in known:
            environment.setdefault(_TASK_VARIABLE, TASK)
        return Start(self._entry_point(base), command, TASK, dict(sorted(environment.items())))

    def _entry_point(self, base: FoundBase) -> tuple[str, ...] | None:
        """Return what starts handlers; None where the base's own entry point does, or is to."""
        name = base.image.name
        if base.starts_handlers:
            if not base.is_known_to_start_them:
                own = " ".join(words(base.config.get("Entrypoint")))
                self._progress.warning(
                    f"the entry point of `{name}` is kept, and not known to start handlers: `{own[:200]}`"
                )
            return None
        if not any(one.inventory.name == CLIENT for one in self._contents.stored):
            raise RequestError(
                f"`{name}` has nothing that starts handlers, and `{CLIENT}` is left out",
                hint=f"do without `{'--exclude-provided' if self._settings.exclude_provided else '--exclude'}`: only "
                f"Lambda's own images have what the runtime has, or start from `{self._target.image}`",
            )
        python = base.seen.python
        assert python is not None
        self._progress.info(f"{self._target}: `{name}` starts no handlers: `{python} -m {CLIENT}` does")
        return (python, "-m", CLIENT)

    # What is in it

    def _layers(self) -> Iterator[tuple[str, AddedLayer]]:
        """Yield what is put on the base, that which changes least first, with what it holds."""
        identities = self._packer.identities(self._contents.stored)
        for content, told, tree in self._parts():
            part = layer(
                tree,
                TASK.lstrip("/"),
                identities,
                cache=self._cache,
                progress=self._progress,
                label=f"{self._target} {content}",
            )
            yield content, AddedLayer(part, f"COPY {told} {TASK}")

    def _parts(self) -> Iterator[tuple[str, str, PackageTree]]:
        own = {ORIGIN, *(package.name for package in self._contents.selection.local)}
        trees: dict[str, list[Any]] = {}
        for entry in self._contents.tree:
            trees.setdefault("code" if entry.origin in own else entry.origin, []).append(entry)
        code = trees.pop("code", [])
        sizes = {name: sum(entry.content.size for entry in entries) for name, entries in trees.items()}
        large = sorted((name for name in sizes if sizes[name] >= _LARGE), key=lambda name: (-sizes[name], name))
        alone = sorted(large[: _MOST_LAYERS - 2]) if self._settings.split_layers else []
        for name in alone:
            yield name, f"distribution {name}", PackageTree(trees.pop(name))
        if trees:
            rest = [entry for entries in trees.values() for entry in entries]
            yield "dependencies", "dependencies", PackageTree(rest)
        if code:
            yield "code", "code", PackageTree(code)

    def _labels(self, base: Base) -> Mapping[str, str]:
        labels = {f"{_LABEL}title": self._settings.name}
        if base.reference is not None:  # what a file is called says nothing, and would decide the digest
            labels[f"{_LABEL}base.name"] = base.name
        if base.digest is not None:
            labels[f"{_LABEL}base.digest"] = base.digest
        if (version := self._version()) is not None:
            labels[f"{_LABEL}version"] = version
        return {**labels, **self._settings.image_labels}

    def _version(self) -> str | None:
        project = self._settings.project
        own = {package.name for package in self._contents.selection.local if package.directory == project}
        for one in self._contents.stored:
            if one.inventory.name in own:
                return one.inventory.version
        if not (project / "pyproject.toml").is_file():
            return None
        from manylambda.locks.pyproject import Pyproject

        return Pyproject.load(project).version

    # Where it goes

    def _write(self, image: Assembled) -> tuple[str, int | None]:
        """Write the image; return where it is, and how many bytes a registry was sent."""
        place, name = self._place, str(self._target)
        if place.reference is not None:
            from manylambda.image.push import push

            pushed = push(
                image,
                Reference.parse(place.reference),
                cache=self._cache,
                progress=self._progress,
                plain_http=self._settings.image_plain_http,
            )
            return f"registry:{pushed.reference}", pushed.uploaded
        path = place.path
        assert path is not None
        if place.form == "docker":
            tag = f"{_repository(self._settings.name)}:{name}"
            if not is_docker_archive_of(image, path, tag):
                with archive.staged(path) as beside:
                    write_docker_archive(image, beside, tag)
                    beside.replace(path)
        elif not is_layout_of(image, path, name):
            if path.is_dir() and any(path.iterdir()) and not (path / "oci-layout").is_file():
                raise RequestError(
                    f"`{path}` is a folder with something else in it", hint="name one that is not there, or a layout"
                )
            with archive.staged(path) as beside:
                write_layout(image, beside, name)
                archive.replace_folder(beside, path)
        return str(place), None


def _repository(name: str) -> str:
    """Return a name as images have it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "function"
