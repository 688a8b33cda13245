"""Builds source code into wheels: folders of this machine (dependencies, the project itself) and allowed archives.

What looks pure is built with no compiler in reach, once for all targets. What looks native, or asked for a compiler
after all, is compiled for the target: with zig on this host, or in a container. The outcome is kept by what went in.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from manylambda.archive import write_zip
from manylambda.errors import ManylambdaError, PackagingError
from manylambda.host import folders
from manylambda.locks.model import LocalPackage, ResolveOptions
from manylambda.progress import SILENT
from manylambda.sdists import failures, rust, wheel
from manylambda.sdists.backend import BuildFailed
from manylambda.sdists.engines import pure
from manylambda.sdists.engines.pure import AskedForCompiler
from manylambda.sdists.isolation import PLACE
from manylambda.sdists.model import BuildSettings, BuiltWheel, Fallback
from manylambda.sdists.source import Archive, Folder
from manylambda.sdists.workshop import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch import Cache
    from manylambda.progress import Progress
    from manylambda.sdists.engines.container import Image
    from manylambda.sdists.workshop import Source
    from manylambda.target import Target

# Raise it when the same source would give another wheel.
_RECIPE: Final = 4
_WORKERS: Final = 4
_KIND: Final = "built-wheel"


class Builder:
    """Builds whatever one command needs."""

    def __init__(
        self,
        *,
        settings: BuildSettings | None = None,
        environment: Mapping[str, str] = os.environ,
        cache: Cache,
        progress: Progress = SILENT,
    ) -> None:
        """`environment` is where uv takes its settings and logins from; a build sees nothing of it."""
        self._settings = settings or BuildSettings()
        self._cache = cache
        self._progress = progress
        self._images: dict[Target, Image] = {}
        self._preparing = threading.Lock()
        self._options = ResolveOptions(
            offline=self._settings.offline,
            environment={**environment, **self._settings.indexes.uv_environment()},
        )

    def folders(self, packages: Sequence[LocalPackage], target: Target) -> dict[LocalPackage, BuiltWheel]:
        """Build source trees of this machine, a few at once; see `build`."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_WORKERS) as pool:
            running = {package: pool.submit(self.build, Folder(package), target) for package in dict.fromkeys(packages)}
            return {package: future.result() for package, future in running.items()}

    def archive(
        self, name: str, archive: Path, sha256: str, target: Target, *, pinned: tuple[str, ...] = ()
    ) -> BuiltWheel:
        """Build an sdist whose hash was checked; see `build`. Raises UnsafeArchive for one that leads out."""
        return self.build(Archive(name, archive, sha256), target, pinned=pinned)

    def lock_requirements(self, name: str, archive: Path, python: tuple[int, int]) -> tuple[str, ...]:
        """Pin what an sdist declares to be built with, for every host and CPython `python` and later; nothing is run.

        Lines as `Job.pinned` takes them. Raises `PackagingError`, UnsafeArchive and NotCached.
        """
        from manylambda.sdists import requirements
        from manylambda.sdists.metadata import declared_build_requirements

        with folders.folder() as room:
            return requirements.lock(
                name,
                declared_build_requirements(archive),
                python=python,
                constraints=self._settings.constraints,
                scratch=room,
                options=self._options,
            )

    def build(self, source: Source, target: Target, *, pinned: tuple[str, ...] = ()) -> BuiltWheel:
        """Build a wheel that runs on `target`, or find the one built before from the same.

        This runs code of whoever wrote the source. Raises `PackagingError` when the build fails, makes another package
        or one that does not run on `target`; NotCached when it needs something and may not fetch it.
        """
        pure_key = self._key(source, pinned, None)
        native = self._key(source, pinned, target, self._engine_identity(target))
        for key in (pure_key, native):
            known = self._recall(key, target) if key else None
            if known is not None:
                self._progress.detail(f"`{source.name}` is unchanged since it was built")
                return known
        task = self._progress.task("build", source.name, None, unit="items")
        try:
            nature = source.nature()
            job = Job(source, nature, target, self._settings, self._cache, self._options, self._progress, pinned)
            if not nature.is_native:
                try:
                    built = _made(job, pure.build)
                except AskedForCompiler:
                    self._progress.detail(f"`{source.name}` asked for a compiler: building it for {target}")
                else:
                    # With a `setup.py` that asks for its Python the next target's may be another one.
                    self._keep(native if nature.asks_python else pure_key, built)
                    return built
            return self._compiled(job, native)
        finally:
            task.finish()

    def _compiled(self, job: Job, key: str | None) -> BuiltWheel:
        """Compile with what was asked for; `auto` takes a container only where zig is not to be had."""
        if self._settings.engine == "container":
            return self._in_container(job, self._image(job.target))
        from manylambda.sdists.engines import zig

        try:
            built = _made(job, zig.build)
        except zig.Unavailable as unavailable:
            if self._settings.engine == "zig":
                raise unavailable.error from None
            return self._in_container(job, self._image_instead(job, unavailable.error))
        self._keep(key, built, rust=rust.identity(self._options.environment) if job.nature.builds_rust else None)
        return built

    def _image_instead(self, job: Job, missing: ManylambdaError) -> Image:
        """Give the image to build in for want of zig; raises `missing` when there is none either."""
        try:
            image = self._image(job.target)
        except ManylambdaError as error:
            missing.hint = f"{missing.hint or ''}; no container either: {error.message}".removeprefix("; ")
            raise missing from None
        reason = missing.message
        self._progress.info(f"`{job.source.name}` is compiled in a container ({image.label}): {reason}")
        return image

    def _in_container(self, job: Job, image: Image) -> BuiltWheel:
        from manylambda.sdists.engines import container

        # Only now is it known which image it is.
        key = self._key(job.source, job.pinned, job.target, image.decisive)
        known = self._recall(key, job.target) if key else None
        if known is not None:
            return known
        built = _made(job, lambda job, room: container.build(job, image, room), image=image.reference)
        self._keep(key, built)
        return built

    def _image(self, target: Target) -> Image:
        from manylambda.sdists.engines import container

        with self._preparing:  # of several builds the first one pulls it
            found = self._images.get(target)
            if found is None:
                found = container.prepare(target, self._settings, cache=self._cache, progress=self._progress)
                self._images[target] = found
            return found

    def _key(
        self, source: Source, pinned: tuple[str, ...], target: Target | None, engine: str | None = None
    ) -> str | None:
        """Hash all that decides the wheel; `target` is None for one that is the same for all."""
        if source.key is None or (target is not None and engine is None):
            return None
        own = self._settings
        decisive: list[Any] = [
            source.name,
            source.key,
            own.config_settings.get(source.name),
            own.environment.get(source.name),
            sorted(own.constraints),
            pinned,
        ]
        if target is not None:
            decisive += [str(target.python), target.machine, str(target.glibc), engine]
            if own.sysroot is not None:
                from manylambda.sdists import repair, sysroot

                decisive += [repair.PATCHER.title, sysroot.digest(own.sysroot)]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def _engine_identity(self, target: Target) -> str | None:
        """Give what compiles, as far as it is here already."""
        if self._settings.engine == "container":
            from manylambda.sdists.engines import container

            known = self._images.get(target)
            return known.decisive if known is not None else container.identity(self._settings, target)
        from manylambda.sdists.engines import zig

        return zig.identity()

    def _recall(self, key: str, target: Target) -> BuiltWheel | None:
        """Give the wheel that an earlier build made, if it is still what it was and is for the target."""
        from manylambda.locks.compatibility import wheel_fit

        fact = self._cache.read_facts(_KIND, _RECIPE, key)
        if not isinstance(fact, dict) or wheel_fit(fact["filename"], target) is None:
            return None
        if fact.get("rust") and rust.identity(self._options.environment) not in {None, fact["rust"]}:
            return None  # this host has another Rust now, and with none there would be no wheel
        path = self._cache.wheel_path(fact["sha256"], fact["filename"])
        if not self._cache.verify(path, fact["sha256"]):
            return None
        fallback = fact["fallback"]
        return BuiltWheel(path, Fallback(tuple(fallback[0]), fallback[1]) if fallback else None)

    def _keep(self, key: str | None, built: BuiltWheel, *, rust: str | None = None) -> None:
        """Keep what was built; `rust` is the compiler of what is written in it, which is the host's own."""
        if key is not None:
            fact: dict[str, Any] = {"sha256": built.path.parent.name, "filename": built.path.name}
            fact |= {"fallback": built.fallback, "rust": rust}
            self._cache.write_facts(_KIND, _RECIPE, key, fact)


def _made(job: Job, engine: Callable[[Job, Path], Path], *, image: str | None = None) -> BuiltWheel:
    """Build a wheel, in a container of `image` if there is one, and put it into the cache if the target runs it."""
    with folders.folder() as room:
        told = room / "work" / "failures"
        try:
            raw = engine(job, room)
        except BuildFailed as failure:
            raise _failed(job, failure, told, image) from failure
        _check_name(job.source, raw.name)
        unpacked = wheel.unpack(raw, room / "unpacked")
        wheel.forget_place(unpacked, room, PLACE)
        natives = unpacked.natives()
        if engine is pure.build and natives:
            raise AskedForCompiler
        platform = wheel.platform_tag(natives, job.target.machine)
        if natives and job.settings.sysroot is not None and _bundle(job, unpacked, job.settings.sysroot):
            platform = wheel.platform_tag(unpacked.natives(), job.target.machine)
        tree, filename = wheel.finish(unpacked, platform)
        _check_target(job, filename, image)
        with job.cache.writing(filename):
            temporary = job.cache.incoming(f"{os.getpid():x}-{os.urandom(8).hex()}.whl")
            sha256 = write_zip(tree, temporary).sha256
            path = job.cache.keep(temporary, sha256, filename)
        return BuiltWheel(path, None if natives else _fallback(job, failures.read(told)))


def _bundle(job: Job, unpacked: wheel.Unpacked, root: Path) -> bool:
    """Put what the wheel needs of the root file system into it; say whether there was anything."""
    from manylambda.sdists import repair, sysroot
    from manylambda.sdists.tools import find_tool

    opened = sysroot.open_sysroot(root, job.target)
    found = repair.bundle(
        unpacked, job.target, opened, lambda: find_tool(repair.PATCHER, job.cache, job.options, job.progress)
    )
    if found:
        job.progress.info(f"`{job.source.name}` brings what it needs of the root file system: {', '.join(found)}")
    return bool(found)


def _fallback(job: Job, told: Sequence[failures.Failed]) -> Fallback | None:
    """Say that a wheel came without the compiled part that its source has."""
    if not job.nature.sources and not told:
        return None
    return Fallback(job.nature.sources[:3], failures.first_cause(told))


def _check_name(source: Source, filename: str) -> None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        built, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise PackagingError(f"the build of `{source.name}` made `{filename}`, which is no wheel: {error}") from error
    if built != source.name:
        raise PackagingError(
            f"the source of `{source.name}` builds a package called `{built}`: {source.where}",
            hint=f"lock again, or rename one of them (`{filename}` is version {version})",
        )


def _check_target(job: Job, filename: str, image: str | None) -> None:
    from manylambda.locks.compatibility import wheel_refusal

    refused = wheel_refusal(filename, job.target)
    if refused is not None:
        hint = None
        if image is not None and "glibc" in refused.sentence:
            hint = f"`{image}` has a younger one: build with `--sdist-engine zig`, or in an older image"
        raise PackagingError(
            f"`{filename}`, built from the source of `{job.source.name}`, does not run on `{job.target}`: "
            f"it {refused.sentence}",
            hint=hint,
        )


def _failed(job: Job, failure: BuildFailed, told: Path, image: str | None) -> PackagingError:
    """Show all that the build said, and make the error that says what it comes down to."""
    name = job.source.name
    job.progress.info(f"the build of `{name}` said:")
    for line in failure.log:
        job.progress.info(f"  {line}")
    found = failures.explain(
        name, failure.log, failures.read(told), job.target, sysroot=job.settings.sysroot is not None, image=image
    )
    where = f" for `{job.target}`" if job.nature.is_native else ""
    return PackagingError(f"`{name}` cannot be built{where}: {found.cause}", hint=found.hint)
