"""`init docker`: a Dockerfile that installs what the lock gives the target, and what belongs to it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import FetchError, PackagingError, RequestError
from manylambda.fetch.cache import Cache
from manylambda.image.pull import resolve
from manylambda.image.reference import Reference
from manylambda.pipeline import dependencies
from manylambda.pipeline.build import Ingredients, undamaged
from manylambda.pipeline.image_base import CLIENT, runs_handlers, words
from manylambda.pipeline.recipes.dockerfile import (
    DOCKERFILE,
    PYPI,
    REQUIREMENTS,
    SCRIPT,
    WHEELS,
    Copied,
    Requirement,
    Text,
)
from manylambda.pipeline.recipes.model import Recipe, write
from manylambda.progress import SILENT
from manylambda.sources import project_tree
from manylambda.sources.dockerignore import as_text, docker_lines
from manylambda.tree import MODE_EXECUTABLE, DiskFile
from manylambda.trial.engines.container import default_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manylambda.config import Settings
    from manylambda.image.pull import Resolved
    from manylambda.locks.model import Pin, Source
    from manylambda.pipeline.recipes.model import Request
    from manylambda.progress import Progress
    from manylambda.sources import ProjectFiles
    from manylambda.target import Target
    from manylambda.wheels.wheelhouse import StoredWheel

_OF_PYPI: Final = "https://files.pythonhosted.org/"


class _Base(NamedTuple):
    name: str
    not_pinned: str | None
    """Why it has no digest."""
    entry_point: tuple[str, ...] | None = None
    """Its own, as its registry tells it; None where it could not be asked for."""


class _Chosen(NamedTuple):
    """What is installed, and from where."""

    requirements: tuple[Requirement, ...]
    indexes: tuple[str, ...]
    default_index: bool
    wheels: tuple[StoredWheel, ...]
    """What is on this machine only."""


def init(settings: Settings, request: Request, *, progress: Progress = SILENT) -> Recipe:
    """Write a Dockerfile for the one target, the requirements it installs, a `.dockerignore` and a script.

    What is there and says something else is replaced with `force` only; then nothing is written. Raises RequestError
    for what no Dockerfile can do, and the errors of choosing and fetching the distributions.
    """
    if len(settings.targets) != 1:
        several = ", ".join(f"`{target}`" for target in settings.targets)
        raise RequestError(
            f"a Dockerfile is for one target, not for {several}", hint=f"name it: `-t {settings.targets[0]}`"
        )
    (target,) = settings.targets
    folder = request.folder or settings.project
    below = _below(folder, settings.project)
    if settings.package:
        progress.info("the project's own code is copied as it lies there: a Dockerfile builds no wheel of it")
        settings = replace(settings, package=False, files=replace(settings.files, is_package=False))
    found = project_tree(settings.project, settings.files)
    copied = tuple(_copied(found, settings.project))
    source = dependencies.find_source(settings, progress)
    for name in (below, *(one.path for one in copied), *(file.name for file in source.files)):
        if not name.isprintable():  # the end of a line would begin an instruction, or an option of pip
            raise RequestError(
                f"a Dockerfile would read a part of this as its own words: {name}", hint="give it another name"
            )
    chosen = undamaged(lambda: _choose(settings, source, found, progress), progress)
    base = _base(target, settings, progress)
    if settings.handler is None:
        progress.warning("no handler is known, so the image has none: `--handler app.lambda_handler` writes it as CMD")
    text = Text(
        name=settings.name,
        target=target,
        base=base.name,
        pinned=base.not_pinned,
        requirements=chosen.requirements,
        indexes=chosen.indexes,
        default_index=chosen.default_index,
        has_wheels=bool(chosen.wheels),
        copied=copied,
        executables=tuple(_executables(found)),
        entry_point=_started(base, target, chosen.requirements, progress),
        handler=settings.handler,
        below=below,
        made_from=", ".join(file.name for file in source.files),
    )
    documents = _documents(text, settings, found)
    written = write(folder, documents, force=request.force, executable={SCRIPT})
    packages = len(chosen.requirements)
    return Recipe(
        recipe="docker",
        targets=(target,),
        files=(*written, *_placed(folder / WHEELS, chosen.wheels)),
        summary=f"{packages:,} {'distribution' if packages == 1 else 'distributions'} for {target}, from {base.name}",
        facts={"base": base.name, "pinned": base.not_pinned is None, "packages": packages},
    )


def _below(folder: Path, project: Path) -> str:
    path = os.path.relpath(folder.resolve(), project.resolve()).replace(os.sep, "/")
    if path.startswith("../") or path == ".." or os.path.isabs(path):  # noqa: PTH117
        raise RequestError(
            f"`{folder}` is not in the project: a Dockerfile reaches the folder that is built only",
            hint="name a folder in the project, or none",
        )
    return "" if path == "." else f"{path}/"


def _copied(found: ProjectFiles, project: Path) -> Iterator[Copied]:
    for source in found.sources:
        path = os.path.relpath((project / source.path).resolve(), project.resolve()).replace(os.sep, "/")
        if path.startswith("../") or path == "..":
            raise RequestError(
                f"the source `{source.path.as_posix()}` is not in the project: a Dockerfile reaches the folder that "
                "is built only",
                hint="`manylambda build` packs it from where it is",
            )
        yield Copied(path, source.to.strip("/"), is_file=(project / source.path).is_file())


def _executables(found: ProjectFiles) -> Iterator[str]:
    """Yield the programs whose mode on this disk does not say so: a checkout may have lost it."""
    for entry in found.tree:
        if entry.mode == MODE_EXECUTABLE and isinstance(entry.content, DiskFile):
            is_marked = os.name == "posix" and entry.content.file.stat().st_mode & 0o111
            if not is_marked:
                yield entry.path


# --- what is installed


def _choose(settings: Settings, source: Source, found: ProjectFiles, progress: Progress) -> _Chosen:
    packer, ((selection, stored), *_) = Ingredients(settings, source, progress).gather(lambda: found.tree)
    contents = packer.lay_out(selection, stored)
    contents.confirm()
    pins = {pin.name: pin for pin in selection.pins}
    requirements, indexes, wheels = [], set(), []
    for one in contents.stored:
        pin = pins.get(one.inventory.name)
        index = _index(pin)
        url = None
        if pin is None or pin.wheel.path is not None:
            wheels.append(one)
        elif index is None:
            url = pin.wheel.url
        else:
            indexes.add(index)
        requirements.append(Requirement(one.inventory.name, one.inventory.version, f"sha256:{one.sha256}", url))
    own = sorted(indexes - {PYPI})
    if wheels:
        names = ", ".join(f"`{one.inventory.name}`" for one in wheels)
        progress.info(f"written to `{WHEELS}`, because no index is known that has them: {names}")
    return _Chosen(tuple(requirements), tuple(own), PYPI in indexes, tuple(wheels))


def _index(pin: Pin | None) -> str | None:
    """Return the index that pip finds a file on; None where none is known."""
    if pin is None or pin.wheel.url is None:
        return None
    if pin.index is not None and pin.index.rstrip("/") != PYPI:
        return pin.index
    return PYPI if pin.wheel.url.startswith(_OF_PYPI) or pin.index is not None else None


# --- the base


def _base(target: Target, settings: Settings, progress: Progress) -> _Base:
    """Pin the image by the digest of its manifest for the target's architecture, where a registry tells it."""
    place = settings.image_base
    if place is not None and place.reference is None:
        raise RequestError(
            f"a Dockerfile cannot start from `{place}`", hint="load it, push it, and give its name: `--base REF`"
        )
    name = (place and place.reference) or default_reference(target)
    reference = Reference.parse(name)
    if reference.registry == "localhost":
        return _Base(name, "no registry has an image of this machine")
    try:
        resolved = resolve(
            reference,
            target.architecture.oci,
            cache=Cache.default(),
            offline=settings.offline,
            progress=progress,
            plain_http=settings.image_plain_http,
        )
    except FetchError as error:
        progress.warning(f"the base image is named by its tag only, because {error.message}")
        return _Base(name, " ".join(error.message.split()))
    return _Base(str(reference.pinned(resolved.manifest.digest)), None, _entry_point(resolved))


def _entry_point(resolved: Resolved) -> tuple[str, ...] | None:
    try:
        document = json.loads(Cache.default().blob_path(resolved.config.sha256).read_bytes())
        config = document.get("config")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    return words(config.get("Entrypoint")) if isinstance(config, dict) else ()


def _started(base: _Base, target: Target, requirements: Iterable[Requirement], progress: Progress) -> tuple[str, ...]:
    """Return the entry point that the base lacks; empty where it has one, or nobody knows."""
    if base.entry_point is None or runs_handlers(base.entry_point):
        return ()
    if base.entry_point:
        own = " ".join(base.entry_point)[:200]
        progress.warning(f"the entry point of `{base.name}` is kept, and not known to start handlers: `{own}`")
        return ()
    if all(one.name != CLIENT for one in requirements):
        progress.warning(
            f"`{base.name}` starts no handlers, and `{CLIENT}`, which would, is not among the distributions: add it to "
            "the project's dependencies"
        )
    return ("python{}.{}".format(*target.python), "-m", CLIENT)


# --- the files


def _documents(text: Text, settings: Settings, found: ProjectFiles) -> dict[str, str]:
    lines = docker_lines(settings.project, settings.files, found)
    if text.requirements:
        lines += ["# what the Dockerfile copies", f"!{text.below}{REQUIREMENTS}"]
        lines += [f"!{text.below}{WHEELS}"] if text.has_wheels else []
    if text.below:
        own = (DOCKERFILE, f"{DOCKERFILE}.dockerignore", SCRIPT)
        lines += ["# the recipe itself", *(f"{text.below}{name}" for name in own)]
    head = "# What is no part of the function, as `manylambda build` decides; written by `manylambda init docker`."
    documents = {
        DOCKERFILE: text.dockerfile(),
        f"{DOCKERFILE}.dockerignore" if text.below else ".dockerignore": f"{head}\n{as_text(lines)}",
        SCRIPT: text.script(),
    }
    return {**documents, REQUIREMENTS: text.requirements_file()} if text.requirements else documents


def _placed(folder: Path, wheels: Iterable[StoredWheel]) -> Iterator[Path]:
    """Copy wheels out of the cache."""
    cache = Cache.default()
    try:
        for one in wheels:
            folder.mkdir(exist_ok=True)
            yield Path(shutil.copyfile(cache.wheel_path(one.sha256, one.filename), folder / one.filename))
    except OSError as error:
        raise PackagingError(f"cannot write `{error.filename}`: {(error.strerror or str(error)).lower()}") from error
