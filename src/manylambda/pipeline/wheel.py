"""`wheel`: the wheel of one distribution for each target, built from source where there is none that runs there."""

from __future__ import annotations

import configparser
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from manylambda import audits, rules
from manylambda.archive import staged
from manylambda.errors import NoCompatibleWheel, RequestError, ResolutionError
from manylambda.fetch.cache import Cache, hash_file
from manylambda.locks.compatibility import wheel_fit
from manylambda.locks.explain import satisfies_python
from manylambda.locks.model import LocalPackage
from manylambda.locks.requirements import normalise
from manylambda.locks.settings import read_settings
from manylambda.pipeline.audit import open_subject
from manylambda.progress import SILENT
from manylambda.sdists import Builder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement

    from manylambda.config import Settings
    from manylambda.locks.index import IndexFile
    from manylambda.locks.settings import IndexSettings
    from manylambda.progress import Progress
    from manylambda.sdists import BuiltWheel
    from manylambda.target import Target

_ARCHIVES: Final = (".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeWheel:
    """A wheel for one target; sizes in bytes."""

    target: Target
    name: str
    version: str
    filename: str
    path: Path | None
    """None when the audit refused the wheel: then nothing was written."""
    sha256: str
    size: int
    source: str
    """What it came from: an sdist's file name, a folder, or its own name where an index has it."""
    is_built: bool
    report: audits.Report


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelResult:
    """What was made, in the order of the requirements, and of the targets for each."""

    wheels: tuple[MadeWheel, ...]

    def fails(self, threshold: Literal["error", "warning"]) -> bool:
        """Whether any wheel has a finding at or over `threshold`."""
        return any(wheel.report.fails(threshold) for wheel in self.wheels)


class _Had(NamedTuple):
    """A wheel in the cache, and where it is from."""

    wheel: BuiltWheel
    source: str
    is_built: bool = True


def wheel(
    requirements: Sequence[str], settings: Settings, *, from_source: bool = False, progress: Progress = SILENT
) -> WheelResult:
    """Give a wheel of each requirement for every target of `settings`, in the folder `settings.output`.

    A requirement is `name`, `name==1.0`, a source distribution or a folder. Of the newest release that it allows, a
    wheel that runs on the target is taken, unless `from_source`; else its source distribution is built, which runs its
    code. What it depends on is not looked at. Raises the errors of `manylambda.errors`; what the audit refuses is not
    written.
    """
    work = _Work(settings, progress)
    return WheelResult(
        wheels=tuple(
            work.made(requirement, target, from_source=from_source)
            for requirement in dict.fromkeys(requirements)
            for target in settings.targets
        )
    )


class _Work:
    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self._cache = Cache.default()
        self._indexes: IndexSettings = read_settings(settings.project, os.environ)
        self._builder = Builder(
            settings=settings.build_settings(self._indexes),
            environment=os.environ,
            cache=self._cache,
            progress=progress,
        )
        self._known: dict[str, tuple[IndexFile, ...]] = {}

    def made(self, requirement: str, target: Target, *, from_source: bool) -> MadeWheel:
        had = self._had(requirement, target, from_source=from_source)
        path = had.wheel.path
        report = self._audited(had, target)
        place: Path | None = self._settings.output / path.name
        if self._settings.audit and report.has_errors:
            place = None
        else:
            assert place is not None
            with staged(place) as beside:
                shutil.copyfile(path, beside)
                beside.replace(place)
        name, version = path.name.split("-")[:2]
        return MadeWheel(
            target=target,
            name=normalise(name),
            version=version,
            filename=path.name,
            path=place,
            sha256=hash_file(path),
            size=path.stat().st_size,
            source=had.source,
            is_built=had.is_built,
            report=report,
        )

    def _had(self, requirement: str, target: Target, *, from_source: bool) -> _Had:
        path = Path(requirement)
        if requirement.endswith(_ARCHIVES) and "://" not in requirement:
            if not path.is_file():
                raise RequestError(
                    f"there is no file `{requirement}`", hint="of an index take `name`, or `name==version`"
                )
            return _Had(
                self._builder.archive(_name_of_archive(path), path.absolute(), hash_file(path), target), path.name
            )
        if path.is_dir() and (os.sep in requirement or "/" in requirement or requirement in {".", ".."}):
            package = LocalPackage(name=_name_of_folder(path), directory=path.absolute())
            return _Had(self._builder.folders([package], target)[package], requirement)
        return self._of_index(_parsed(requirement), target, from_source=from_source)

    def _of_index(self, requirement: Requirement, target: Target, *, from_source: bool) -> _Had:
        name = normalise(requirement.name)
        files = self._files(name)
        version = _newest(requirement, files, target)
        own = [file for file in files if _version(file) == version]
        wheels = [
            (fit, file.filename, file)
            for file in own
            if (fit := wheel_fit(file.filename, target, allow_linux=self._settings.allow_linux_wheels)) is not None
        ]
        if wheels and not from_source:
            best = min(wheels)[2]
            self._progress.info(
                f"`{best.filename}` runs on {target}: it is taken as it is (`--from-source` builds one)"
            )
            return _Had(_as_built(self._fetched(best)), best.filename, is_built=False)
        sdist = next((file for file in own if not file.is_wheel), None)
        if sdist is None:
            raise NoCompatibleWheel(
                f"`{name}=={version}` has no source distribution"
                + ("" if wheels else f", and no wheel for `{target}`"),
                hint="another version may have one: name it, as `name==version`",
            )
        archive = self._fetched(sdist)
        return _Had(self._builder.archive(name, archive, archive.parent.name, target), sdist.filename)

    def _files(self, name: str) -> tuple[IndexFile, ...]:
        from manylambda.locks.index import IndexClient

        if name not in self._known:
            environment = {**os.environ, **self._indexes.uv_environment()}
            with IndexClient(self._indexes, environment=environment, offline=self._settings.offline) as client:
                self._known[name] = client.files(name)
        return self._known[name]

    def _fetched(self, file: IndexFile) -> Path:
        from manylambda.fetch.client import HttpSettings
        from manylambda.fetch.credentials import Credentials
        from manylambda.fetch.download import Download, fetch_all

        environment = {**os.environ, **self._indexes.uv_environment()}
        wanted = Download(url=file.url, filename=file.filename, sha256=file.hashes.get("sha256"), size=file.size)
        (path,) = fetch_all(
            [wanted],
            cache=self._cache,
            credentials=Credentials.from_settings(environment, self._indexes.index_urls),
            offline=self._settings.offline,
            progress=self._progress,
            verify=True,
            settings=HttpSettings.from_environment(environment),
        ).values()
        return path

    def _audited(self, had: _Had, target: Target) -> audits.Report:
        name, without = had.wheel.path.name, had.wheel.fallback
        fallbacks = []
        if without is not None:
            distribution = normalise(name.partition("-")[0])
            fallbacks.append(audits.PureFallback(distribution, name, sources=without.sources, reason=without.reason))
        subject = open_subject(had.wheel.path, target, pure_fallbacks=fallbacks)
        return audits.check(subject, rules.ALL if self._settings.audit else (), ignore=self._settings.ignore)


def _as_built(path: Path) -> BuiltWheel:
    from manylambda.sdists import BuiltWheel

    return BuiltWheel(path)


def _parsed(text: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        raise RequestError(
            f"`{text}` is neither a requirement nor a file or folder",
            hint="such as `lxml==6.0.2`, or `./lxml-6.0.2.tar.gz`",
        ) from error
    if found.url is not None:
        raise RequestError(f"`{text}` names an address", hint="download it, check what it is, and name the file")
    return found


def _newest(requirement: Requirement, files: Sequence[IndexFile], target: Target) -> str:
    """Give the newest version, as its files write it, that the requirement allows and that is not for other Pythons."""
    from packaging.version import Version

    allowed: dict[str, Version] = {}
    for file in files:
        version = _version(file)
        if version is None or file.yanked is not None or not satisfies_python(file.requires_python, target):
            continue
        allowed[version] = Version(version)
    fitting = set(requirement.specifier.filter(allowed.values()))
    chosen = max(
        (version for version, parsed in allowed.items() if parsed in fitting), key=allowed.__getitem__, default=None
    )
    if not files:
        raise ResolutionError(
            f"no index has `{requirement.name}`",
            hint="check the name; other indexes are those of uv's or pip's settings, such as `UV_INDEX`",
        )
    if chosen is None:
        raise ResolutionError(
            f"no version of `{requirement}` is for Python {target.python_full_version}",
            hint="allow other versions, or choose another runtime",
        )
    return chosen


def _version(file: IndexFile) -> str | None:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(file.version or ""))
    except InvalidVersion:
        return None


def _name_of_archive(path: Path) -> str:
    stem = path.name
    for suffix in _ARCHIVES:
        stem = stem.removesuffix(suffix)
    name, dash, _ = stem.rpartition("-")
    if not dash:
        raise RequestError(
            f"`{path.name}` is not named as a source distribution", hint="it must be `name-version.tar.gz`"
        )
    return normalise(name)


def _name_of_folder(folder: Path) -> str:
    from manylambda.locks.pyproject import Pyproject

    name = Pyproject.load(folder).name if (folder / "pyproject.toml").is_file() else None
    setup = folder / "setup.cfg"
    if name is None and setup.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(setup.read_text(encoding="utf-8", errors="replace"))
        name = parser.get("metadata", "name", fallback=None)
    if name is None:
        raise RequestError(
            f"the folder `{folder}` does not say what its package is called",
            hint="give it a `pyproject.toml` with a `[project]` that has a name",
        )
    return normalise(name)
