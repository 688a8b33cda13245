"""Resolves requirements for targets, and merges the results into one lock. The resolver is uv.

What uv does not do is done here: glibc exactly as the runtime has it, hashes held against what is shipped, versions
kept alike between targets, and an answer to why nothing fits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from manylambda.errors import (
    FetchError,
    HashMismatch,
    ManylambdaError,
    PackagingError,
    RequestError,
    ResolutionError,
)
from manylambda.locks import explain, releases
from manylambda.locks.compatibility import wheel_fit, wheel_refusal
from manylambda.locks.failure import MENTIONED, NO_WHEELS, WHEELS_WANTED, Failure, explained, failure, flat
from manylambda.locks.merge import merge, target_order
from manylambda.locks.program import run_uv
from manylambda.locks.pylock import parse
from manylambda.locks.request import (
    Request,
    check_python,
    index_client,
    make_request,
    understood,
    uv_platform,
    versions,
    with_stand_ins,
)
from manylambda.locks.requirements import RequirementLine, normalise
from manylambda.locks.select import best_wheel, is_allowed
from manylambda.locks.settings import leaves_files_out
from manylambda.locks.stand_ins import MOST_READ, StandIns
from manylambda.locks.write import relative_path
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock

    from manylambda.locks.model import ResolveOptions, SdistMetadata, Source
    from manylambda.progress import Progress
    from manylambda.target import Target

_Outcome = TypeVar("_Outcome")
_Part = TypeVar("_Part", "PackageWheel", "PackageSdist", "PackageArchive")

_ROUNDS: Final = 60
"""How often versions without a wheel for the target are excluded before giving up; two are usual."""

_MOST_TOLD: Final = 30
"""How many obstacles are told of one target; each costs a run of uv."""

_PARALLEL: Final = 4


def resolve(
    source: Source,
    targets: Sequence[Target],
    options: ResolveOptions,
    progress: Progress = SILENT,
    *,
    lines: Sequence[str] = (),
    constraints: Sequence[Path] = (),
    preferences: Pylock | None = None,
    sdist_metadata: SdistMetadata | None = None,
) -> Pylock:
    """Resolve what `source` (requirements files, or a `pyproject.toml`) and `lines` ask for, for every target.

    The lock's paths are relative to `source.project`. Versions of `preferences` are kept where they still fit.
    `sdist_metadata` reads the sdists that the options allow; without it, needing one is an error.
    Raises `NoCompatibleWheel` and other `ResolutionError`, `HashMismatch`, `FetchError`, `RequestError`, and
    `PackagingError` when an sdist without which there is no solution cannot be built.
    """
    wanted = versions(preferences)
    with _requested(
        source, targets, options, progress, wanted, lines=lines, constraints=constraints, sdist_metadata=sdist_metadata
    ) as request:
        for target in sorted(set(targets), key=target_order):
            check_python(source, target)
        locks = _told(_each(request, targets, lambda target: _solved(request, target, wanted)))
        locks = _completed(request, _alike(request, locks))
    return merge(locks, allow_linux=options.allow_linux_wheels)


def resolve_each(
    source: Source,
    targets: Sequence[Target],
    options: ResolveOptions,
    progress: Progress = SILENT,
    *,
    alike: bool = False,
    wanted: Mapping[str, str] = MappingProxyType({}),
    sdist_metadata: SdistMetadata | None = None,
) -> dict[Target, Pylock | tuple[ManylambdaError, ...]]:
    """Resolve as `resolve` does, but give for each target a lock of its own or all that keeps it from having one.

    `alike` keeps versions alike between the targets that have one; `wanted` are versions to take where they fit. Raises
    what is wrong for all targets: `RequestError` and `FetchError`.
    """
    with _requested(source, targets, options, progress, wanted, sdist_metadata=sdist_metadata) as request:
        outcomes: Mapping[Target, Pylock | tuple[ManylambdaError, ...]] = _told(
            _each(request, targets, lambda target: _tried(request, target, wanted))
        )
        locks = {target: lock for target, lock in outcomes.items() if not isinstance(lock, tuple)}
        if alike:
            locks = _alike(request, locks)
        locks = _completed(request, locks)
    allow_linux = options.allow_linux_wheels
    return {
        target: merge({target: locks[target]}, allow_linux=allow_linux) if target in locks else outcomes[target]
        for target in targets
    }


@contextlib.contextmanager
def _requested(
    source: Source,
    targets: Sequence[Target],
    options: ResolveOptions,
    progress: Progress,
    wanted: Mapping[str, str],
    *,
    lines: Sequence[str] = (),
    constraints: Sequence[Path] = (),
    sdist_metadata: SdistMetadata | None = None,
) -> Iterator[Request]:
    """Give what uv is asked, the same for all targets, as long as the index may be asked, too."""
    options = dataclasses.replace(options, environment=dict(options.environment) or dict(os.environ))
    requirements, settings = understood(source, options, lines, constraints)
    for name in requirements.no_binary:
        if not is_allowed(normalise(name), options):
            progress.warning(
                f"`--no-binary {name}` in the requirements is passed over: wheels are used where there are any"
            )
    with tempfile.TemporaryDirectory(prefix="manylambda-") as scratch, index_client(settings, options) as client:
        request = make_request(
            source,
            options,
            requirements=requirements,
            settings=settings,
            client=client,
            scratch=Path(scratch),
            progress=progress,
        )
        ordered = sorted(set(targets), key=target_order)
        yield with_stand_ins(request, source, ordered, wanted, sdist_metadata)


def _completed(request: Request, locks: Mapping[Target, Pylock]) -> dict[Target, Pylock]:
    """Add what the index alone knows, and tell what uv did by itself."""
    _tell_built_by_uv(request, locks)
    settings = request.settings
    return releases.complete(
        locks,
        settings,
        request.options,
        # uv combines no indexes for one version, but with pip's settings its users expect what pip does.
        may_exchange=len(settings.indexes) > 1
        and settings.strategy != "first-index"
        and settings.owner != "uv"
        and not request.requirements.has_hashes
        and not leaves_files_out(request.project, request.options.environment),
    )


def _label(targets: Sequence[Target]) -> str:
    return str(targets[0]) if len(targets) == 1 else f"{len(targets)} targets"


# One target


def _tried(request: Request, target: Target, wanted: Mapping[str, str]) -> Pylock | tuple[ManylambdaError, ...]:
    """Resolve for one target, or tell all that stands in the way: what is found guilty is left out, to see further."""
    stand_ins = request.stand_ins[target]
    found: list[ManylambdaError] = []
    guilty: set[str] = set()
    try:
        check_python(request.source, target)
    except ResolutionError as error:
        return (error,)
    while True:
        try:
            lock = _solved(request, target, wanted)
        except FetchError:
            raise
        except (ResolutionError, PackagingError) as error:
            found.append(error)
            new = {blocker.name for blocker in error.blockers} if isinstance(error, ResolutionError) else set()
            new -= guilty
            if not new or len(found) == _MOST_TOLD:
                return tuple(found)
            guilty |= new
            stand_ins.overrides += tuple(f'{name} ; sys_platform == "left-out"' for name in sorted(new))
        else:
            return tuple(found) or lock


def _solved(request: Request, target: Target, wanted: Mapping[str, str]) -> Pylock:
    """Resolve for one target; `wanted` are versions to take where they fit."""
    lock = _with_sdists(request, target, wanted)
    if isinstance(lock, Failure):
        raise explained(request, target, lock)
    lock = _placed(request, lock, target)
    if request.requirements.has_hashes:
        lock = _held_to_hashes(request, lock, target)
    return lock


def _tell_built_by_uv(request: Request, locks: Mapping[Target, Pylock]) -> None:
    """Say which sdists uv took by itself: `no-binary` in its own settings is stronger than what it is told here."""
    names = {
        package.name
        for target, lock in locks.items()
        for package in lock.packages
        if package.sdist is not None and not request.stand_ins[target].is_own(package)
    }
    for name in sorted(names):
        request.progress.warning(
            f"`no-binary` in the settings of uv has it take `{name}` as source code, which uv may have built by itself"
        )


def _exact(request: Request, target: Target, wanted: Mapping[str, str], *, sdists: frozenset[str]) -> Pylock | Failure:
    """Resolve until every distribution has a wheel that the target loads, by the target's own tags.

    uv is asked at the platform next above the runtime's glibc and takes `linux_*` wheels as well, so it may choose
    what cannot load. Those versions are excluded and uv is asked again: what it then finds is the newest that runs.
    Of the names `sdists` it may choose versions that have no such wheel but an sdist.
    """
    stand_ins = request.stand_ins[target]
    excluded: dict[str, set[str]] = {}
    for _ in range(_ROUNDS):
        outcome = _run(request, target, wanted, excluded, sdists)
        if isinstance(outcome, Failure):
            if _goes_on(request, stand_ins, outcome):
                continue
            return dataclasses.replace(outcome, excluded={name: frozenset(excluded[name]) for name in excluded})
        outcome = stand_ins.restored(outcome)
        refused = [package for package in outcome.packages if _is_refused(package, target, request.options)]
        if not refused:
            return outcome
        for package in refused:
            new = _unfit_versions(request, package, target)
            if package.name in sdists:
                new = {version for version in new if not stand_ins.has(package.name, version)}
            already = excluded.setdefault(package.name, set())
            if new <= already:
                raise ResolutionError(f"uv keeps choosing `{package.name}=={package.version}` for `{target}`")
            already |= new
            request.progress.detail(
                f"`{package.name}=={package.version}` is not for `{target}`: its wheel {_sentence(package, target)}"
            )
    raise ResolutionError(
        f"no versions with wheels for `{target}` were found in {_ROUNDS} attempts",
        hint=f"pin these to versions that have one: {', '.join(sorted(excluded))}",
    )


def _goes_on(request: Request, stand_ins: StandIns, failure: Failure) -> bool:
    """Give uv what it stopped for: the metadata of source code that is named by its address and would be built."""
    if failure.other_address is not None:
        return stand_ins.override_archive(failure.other_address, _extras(request, failure.other_address))
    if failure.unbuilt is None:
        return False
    name, address = failure.unbuilt
    if not is_allowed(name, request.options):
        return False
    if re.match(r"(git|hg|svn|bzr)\+", address):
        raise ResolutionError(
            f"`{name}` comes from version control and has no wheel",
            hint="build a wheel of it and name that, or clone it and name the folder",
        )
    if _is_folder(address):
        if name in stand_ins.folders:
            return False
        stand_ins.folders |= {name}
        return True
    return stand_ins.replace_archive(name, address, request.requirements.lines) or stand_ins.override_archive(
        name, _extras(request, name)
    )


def _extras(request: Request, name: str) -> set[str]:
    return {extra for one in request.asked if normalise(one.name) == name for extra in one.extras}


def _is_folder(address: str) -> bool:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return address.startswith("file:") and Path(url2pathname(urlsplit(address).path)).is_dir()


def _is_refused(package: Package, target: Target, options: ResolveOptions) -> bool:
    if not package.wheels:
        return False
    if best_wheel(package, target, options) is not None:
        return False
    return not (package.sdist is not None and is_allowed(package.name, options))


def _unfit_versions(request: Request, package: Package, target: Target) -> set[str]:
    """Give every version of a package that uv would take and the target cannot load, so that one more round will do."""
    version = str(package.version)
    try:
        files = request.client.files(package.name)
    except FetchError:
        return {version}  # slower, but as sure
    unfit = explain.versions_too_new(files, target, allow_linux=request.options.allow_linux_wheels)
    final = re.compile(r"[0-9.]+(\.post\d+)?(\+.*)?")
    if final.fullmatch(version):
        # Naming a pre-release, even to exclude it, could let uv take others; once uv has taken one, all can be named.
        unfit = tuple(other for other in unfit if final.fullmatch(other))
    return {version, *unfit}


def _sentence(package: Package, target: Target) -> str:
    found = [wheel_refusal(wheel.filename, target) for wheel in package.wheels or ()]
    return min((refusal for refusal in found if refusal), key=lambda refusal: refusal.reason).sentence


def _with_sdists(request: Request, target: Target, wanted: Mapping[str, str]) -> Pylock | Failure:
    """Resolve with sdists of the names the user allowed, but only those without which there is no solution.

    That uv finds none says which names lack wheels. Their sdists are then offered to it as if they depended on nothing,
    those it chooses are read, and it is asked again until it has chosen only what was read.
    """
    stand_ins = request.stand_ins[target]
    while True:
        outcome = _exact(request, target, wanted, sdists=stand_ins.names)
        if isinstance(outcome, Failure):
            if _offers_more(request, stand_ins, outcome):
                continue
            if stand_ins.error is not None:
                raise stand_ins.error
            if stand_ins.ended:
                names = ", ".join(f"`{name}`" for name in stand_ins.ended)
                raise ResolutionError(
                    f"no solution for `{target}` has one of the {MOST_READ} newest sdists of {names}: {outcome.reason}",
                    hint="name a version that goes with the rest: `name==version`",
                )
            return outcome
        outcome = _spared(request, target, wanted, outcome)
        if not stand_ins.read(stand_ins.chosen(outcome)):
            return stand_ins.restored(outcome)


def _offers_more(request: Request, stand_ins: StandIns, failure: Failure) -> bool:
    """Let uv choose sdists of the names it lacks wheels of; False when that is no longer what it fails for."""
    if not request.options.allow_sdists:
        return False
    text = flat(failure.stderr)
    lacking = {normalise(name) for name, _ in NO_WHEELS.findall(text)}
    lacking |= {normalise(name) for name in WHEELS_WANTED.findall(text)}
    lacking |= {name for name in failure.excluded if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)}
    mentioned = {normalise(name) for name in MENTIONED.findall(text)}
    # Should uv say it in other words one day, every name that it speaks of may be the one.
    names = lacking or mentioned
    new = [
        name
        for name in sorted(names)
        if is_allowed(name, request.options) and name not in stand_ins.names and stand_ins.offer(name)
    ]
    if len(lacking) == 1:
        stand_ins.certain |= lacking  # the whole proof rests on this name
    return bool(new) or any(stand_ins.offer_older(name) for name in sorted(mentioned))


def _spared(request: Request, target: Target, wanted: Mapping[str, str], lock: Pylock) -> Pylock:
    """Do without the sdists that there is a solution without, before any is read."""
    stand_ins = request.stand_ins[target]
    while True:
        names = sorted({name for name, _ in stand_ins.chosen(lock)})
        doubtful = [name for name in names if name not in stand_ins.certain]
        if len(names) < 2 or not doubtful:
            return lock  # with none there was no solution
        fewer = _exact(request, target, wanted, sdists=stand_ins.names - {doubtful[0]})
        stand_ins.certain |= {doubtful[0]}
        if not isinstance(fewer, Failure):
            stand_ins.names -= {doubtful[0]}
            lock = fewer


def _run(
    request: Request,
    target: Target,
    wanted: Mapping[str, str],
    excluded: Mapping[str, Iterable[str]],
    sdists: frozenset[str],
) -> Pylock | Failure:
    stand_ins = request.stand_ins[target]
    with tempfile.TemporaryDirectory(dir=request.scratch) as folder:

        def written(name: str, lines: Iterable[str]) -> str:
            file = Path(folder) / name
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            return str(file)

        output = Path(folder) / "pylock.toml"
        if wanted:
            output.write_text(_preferences(wanted), encoding="utf-8")
        own = [f"{name}{','.join(f'!={one}' for one in sorted(excluded[name]))}" for name in sorted(excluded)]
        own += [*stand_ins.shown(sdists), *stand_ins.constraints]
        arguments = [*request.arguments, "--constraints", str(request.constraints)]
        if request.text or not request.arguments:
            arguments.append(written("requirements.in", map(stand_ins.rewritten, request.text)))
        if stand_ins.overrides:
            arguments += ["--overrides", written("overrides.in", stand_ins.overrides)]
        for name in sorted(stand_ins.unsourced):
            arguments += ["--no-sources-package", name]
        # Never lifted for a dependency: uv would run its code on this host, with the network and the user's logins.
        arguments += ["--only-binary", ":all:"]
        for name in sorted({*request.own_code, *stand_ins.folders}):
            arguments += ["--no-binary", name]
        outcome = run_uv(
            [
                *("pip", "compile", *arguments, "--constraints", written("constraints.in", own)),
                *("--python-platform", uv_platform(target), "--python-version", target.python_full_version),
                *("--no-universal", *_interpreter()),
                *("--format", "pylock.toml", "--output-file", str(output)),
                *("--quiet", "--no-header", "--no-annotate"),
            ],
            folder=request.project,
            options=request.options,
        )
        if outcome.returncode:
            return failure(request, target, outcome.stderr)
        document = tomllib.loads(output.read_text(encoding="utf-8"))
    # Paths are relative to a folder that is gone; from here on they are absolute.
    return parse(_absolute(document, Path(folder)), name="uv's answer")


def _interpreter() -> tuple[str, ...]:
    """Keep uv from searching the host: for wheels any CPython serves, since version and platform are told to it."""
    import sysconfig

    ordinary = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
    return ("--python", sys.executable) if sys.executable and ordinary else ()


def _preferences(wanted: Mapping[str, str]) -> str:
    """Write the versions to prefer as an earlier output: that is where uv looks for them."""
    entries = ['lock-version = "1.0"', 'created-by = "manylambda"']
    for name, version in sorted(wanted.items()):
        filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        entries += ["[[packages]]", f'name = "{name}"', f'version = "{version}"']
        entries += [f'wheels = [{{ url = "https://preference.invalid/{filename}", hashes = {{}} }}]']
    return "\n".join(entries) + "\n"


def _absolute(value: object, folder: Path) -> dict[str, object]:
    """Make the `path`s of a lock absolute."""

    def walk(item: object) -> object:
        if isinstance(item, Mapping):
            return {
                key: os.path.normpath(folder / inner) if key == "path" and isinstance(inner, str) else walk(inner)
                for key, inner in item.items()
            }
        return [walk(inner) for inner in item] if isinstance(item, list) else item

    walked = walk(value)
    assert isinstance(walked, dict)
    return walked


def _placed(request: Request, lock: Pylock, target: Target) -> Pylock:
    """Put the files where a lock can name them: paths relative to the project, no `file:` addresses, no doubles."""

    def place(part: _Part) -> _Part:
        path = part.path
        if path is None and part.url is not None and part.url.startswith("file:"):
            from urllib.parse import urlsplit
            from urllib.request import url2pathname

            path = url2pathname(urlsplit(part.url).path)
        if path is None:
            return part
        size = part.size
        if size is None and Path(path).is_file():
            size = Path(path).stat().st_size
        return dataclasses.replace(part, path=relative_path(Path(path), request.project), url=None, size=size)

    packages: list[Package] = []
    for package in lock.packages:
        if package.name == request.left_out and package.directory is not None:
            continue
        directory = package.directory
        if directory is not None:
            # Shipped as files, so whether it was asked for as editable does not matter.
            path = relative_path(Path(directory.path), request.project)
            directory = dataclasses.replace(directory, path=path, editable=None)
        wheels: dict[str, PackageWheel] = {}
        for wheel in package.wheels or ():
            placed = place(wheel)
            known = wheels.get(wheel.filename)
            # The same file on this machine and on an index: another machine has only the latter.
            if known is None or (known.path is not None) != request.options.offline:
                wheels[wheel.filename] = placed
        fits = any(
            wheel_fit(name, target, allow_linux=request.options.allow_linux_wheels) is not None for name in wheels
        )
        packages.append(
            dataclasses.replace(
                package,
                directory=directory,
                archive=place(package.archive) if package.archive is not None else None,
                wheels=list(wheels.values()) or None,
                sdist=place(package.sdist) if package.sdist is not None and not fits else None,
            )
        )
    return dataclasses.replace(lock, packages=packages)


# Hashes


def _held_to_hashes(request: Request, lock: Pylock, target: Target) -> Pylock:
    """Leave only files whose hash the requirements list (pip's rule: all or none), also for what they bring along."""
    listed: dict[str, set[str]] = {}
    for line in (*request.requirements.lines, *request.requirements.constraints):
        if line.name is not None and _holds(line, target):
            listed.setdefault(line.name, set()).update(line.hashes)
    packages: list[Package] = []
    for package in lock.packages:
        hashes = frozenset(listed.get(package.name, ()))
        local = package.directory is not None or (package.archive is not None and package.archive.path is not None)
        if local:
            packages.append(package)  # the user's own files: nothing was downloaded that could have been exchanged
            continue
        label = f"{package.name}=={package.version}" if package.version is not None else package.name
        if not hashes:
            raise RequestError(
                f"`{label}` has no hash, but others in the requirements have, so all must",
                hint="list it with its `--hash`, or let `manylambda lock` write a lock with all hashes",
            )
        wheels = [wheel for wheel in package.wheels or () if _is_listed(wheel.hashes, hashes)]
        sdist = package.sdist if package.sdist is not None and _is_listed(package.sdist.hashes, hashes) else None
        archive = package.archive
        if archive is not None and not _is_listed(archive.hashes, hashes):
            raise HashMismatch(f"the hash of `{package.name}` in its address is not among those of the requirement")
        kept = dataclasses.replace(package, wheels=wheels or None, sdist=sdist)
        if archive is None and sdist is None and best_wheel(kept, target, request.options) is None:
            raise _not_listed(package, label, target, request.options)
        packages.append(kept)
    return dataclasses.replace(lock, packages=packages)


def _holds(line: RequirementLine, target: Target) -> bool:
    if line.marker is None:
        return True
    from packaging.markers import Marker

    return Marker(line.marker).evaluate(dict(target.markers))


def _is_listed(hashes: Mapping[str, str], listed: frozenset[str]) -> bool:
    return any(f"{algorithm}:{digest.lower()}" in listed for algorithm, digest in hashes.items())


def _not_listed(package: Package, label: str, target: Target, options: ResolveOptions) -> HashMismatch:
    message = f"no hash listed for `{label}` is that of a file for `{target}`"
    best = best_wheel(package, target, options)
    if best is None:
        return HashMismatch(message)
    digests = ", ".join(f"{algorithm}:{digest}" for algorithm, digest in sorted(best.hashes.items()))
    return HashMismatch(
        message,
        hint=f"the file for it is `{best.filename}`: add `--hash={digests}` if you trust it, "
        f"or lock for all targets with `manylambda lock -t {target}`",
    )


# Versions alike


def _alike(request: Request, locks: dict[Target, Pylock]) -> dict[Target, Pylock]:
    """Resolve again where targets differ, preferring the older version, which more of them can run."""
    from packaging.version import Version

    for _ in range(3):
        found: dict[str, set[str]] = {}
        for lock in locks.values():
            for name, version in versions(lock).items():
                found.setdefault(name, set()).add(version)
        shared = {name: min(several, key=Version) for name, several in found.items() if len(several) > 1}
        again = [
            target
            for target, lock in locks.items()
            if any(shared.get(name, version) != version for name, version in versions(lock).items())
        ]
        if not again:
            return locks

        def retry(target: Target, before: dict[Target, Pylock] = locks, shared: dict[str, str] = shared) -> Pylock:
            try:
                return _solved(request, target, {**versions(before[target]), **shared})
            except ManylambdaError:
                return before[target]  # it was a wish

        renewed = {**locks, **_told(_each(request, again, retry))}
        if all(versions(renewed[target]) == versions(locks[target]) for target in again):
            return renewed
        locks = renewed
    return locks


def _each(
    request: Request, targets: Iterable[Target], work: Callable[[Target], _Outcome]
) -> dict[Target, _Outcome | ManylambdaError]:
    """Do the work for all targets, a few at a time, and give what came of it or the error it ended with."""
    import sysconfig
    from concurrent.futures import ThreadPoolExecutor

    # `uv.find_uv_bin` reads it, and its first reading is not safe in several threads (a `None` comes back).
    sysconfig.get_config_vars()
    ordered = sorted(set(targets), key=target_order)
    task = request.progress.task("resolve", _label(ordered), len(ordered), unit="items")

    def one(target: Target) -> _Outcome | ManylambdaError:
        try:
            return work(target)
        except ManylambdaError as error:
            return error
        finally:
            task.advance(1)

    try:
        with ThreadPoolExecutor(max_workers=max(1, min(_PARALLEL, len(ordered)))) as pool:
            return dict(zip(ordered, pool.map(one, ordered), strict=True))
    finally:
        task.finish()


def _told(outcomes: Mapping[Target, _Outcome | ManylambdaError]) -> dict[Target, _Outcome]:
    """Give what came of the work; the first target in order decides which error is raised."""
    done: dict[Target, _Outcome] = {}
    for target, outcome in outcomes.items():
        if isinstance(outcome, ManylambdaError):
            raise outcome
        done[target] = outcome
    return done
