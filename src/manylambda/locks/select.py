"""What a lock gives one target: the steps of PEP 751, with the target's environment and tags instead of the host's.

`packaging.pylock.Pylock.select` does the same; it is not used because its errors cannot be explained further and
because it builds a `Tag` for every file name, which a warm build would pay for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from manylambda.errors import NoCompatibleWheel, ResolutionError
from manylambda.locks.compatibility import Compiled, Fit, compiled, is_compiled, wheel_fit
from manylambda.locks.model import LocalPackage, Pin, ResolveOptions, Selection, SourceDistribution, WheelFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock

    from manylambda.locks.index import IndexFile
    from manylambda.target import Target

TRUSTED_HASHES: Final = ("sha256", "sha384", "sha512")


def select(pylock: Pylock, target: Target, options: ResolveOptions, base: Path) -> Selection:
    """Choose what goes into the package for `target`; relative paths in the lock are relative to `base`.

    Raises `ResolutionError` when the lock is not for the target, `NoCompatibleWheel` when a distribution of it has
    nothing the target can load. `explain.no_compatible_wheel` can say more, given the index.
    """
    selection = select_or_tell(pylock, target, options, base)
    if isinstance(selection, tuple):
        raise selection[0]
    return selection


def select_or_tell(
    pylock: Pylock, target: Target, options: ResolveOptions, base: Path
) -> Selection | tuple[ResolutionError, ...]:
    """Choose as `select` does, or give all that keeps the target from having a package."""
    chosen: list[Pin | LocalPackage | SourceDistribution] = []
    errors: list[ResolutionError] = []
    try:
        packages = chosen_packages(pylock, target, options)
    except ResolutionError as error:
        return (error,)
    for package in packages:
        try:
            chosen.append(_chosen(package, target, options, base))
        except ResolutionError as error:
            errors.append(error)
    if errors:
        return tuple(errors)
    chosen.sort(key=lambda one: one.name)
    return Selection(
        target=target,
        pins=tuple(one for one in chosen if isinstance(one, Pin)),
        local=tuple(one for one in chosen if isinstance(one, LocalPackage)),
        sdists=tuple(one for one in chosen if isinstance(one, SourceDistribution)),
    )


def _chosen(
    package: Package, target: Target, options: ResolveOptions, base: Path
) -> Pin | LocalPackage | SourceDistribution:
    if package.directory is not None:
        folder = _absolute(base, package.directory.path, package.directory.subdirectory or "")
        return LocalPackage(name=package.name, directory=folder)
    if package.vcs is not None:
        raise ResolutionError(
            f"`{package.name}` comes from version control and has no wheel",
            hint="build a wheel of it and name that, or clone it and name the folder",
        )
    if package.archive is not None:
        filename = _name_of(package.archive)
        if not filename.endswith(".whl"):
            return _sdist(package, package.archive, target, options, base)
        _check_fit(package, filename, target, options)
        return _pin(package, package.archive, filename, base)
    if (wheel := best_wheel(package, target, options)) is not None:
        return _pin(package, wheel, wheel.filename, base)
    if package.sdist is not None and is_allowed(package.name, options):
        return _sdist(package, package.sdist, target, options, base)
    raise _no_wheel(package, target, options)


def chosen_packages(pylock: Pylock, target: Target, options: ResolveOptions) -> tuple[Package, ...]:
    """Give the entries of a lock that hold for the target. Raises `ResolutionError` when the lock is not for it."""
    environment = dict(target.markers)
    full_version = environment["python_full_version"]
    if pylock.requires_python is not None and not pylock.requires_python.contains(full_version, prereleases=True):
        raise ResolutionError(
            f"the lock is for Python `{pylock.requires_python}`, `{target}` has {full_version}",
            hint=_lock_hint(pylock, target),
        )
    if pylock.environments and not any(marker.evaluate(environment) for marker in pylock.environments):
        raise ResolutionError(f"the lock is not for `{target}`", hint=_lock_hint(pylock, target))
    extended: dict[str, str | frozenset[str]] = {
        **environment,
        "extras": options.extras,
        "dependency_groups": frozenset(pylock.default_groups or ()) | options.groups,
    }
    found: dict[str, Package] = {}
    for package in pylock.packages:
        # typeshed of packaging: the parameter is a Mapping[str, str | Set[str]]
        if package.marker is not None and not package.marker.evaluate(extended, context="lock_file"):
            continue
        if package.requires_python is not None and not package.requires_python.contains(full_version, prereleases=True):
            raise ResolutionError(
                f"`{package.name}` in the lock requires Python `{package.requires_python}`, "
                f"`{target}` has {full_version}",
                hint=_lock_hint(pylock, target),
            )
        if package.name in found:
            raise ResolutionError(
                f"the lock has two entries for `{package.name}` that both hold for `{target}`",
                hint="their markers must exclude each other; lock again with the tool that made it",
            )
        found[package.name] = package
    return tuple(found.values())


def best_wheel(package: Package, target: Target, options: ResolveOptions) -> PackageWheel | None:
    """Give the wheel the target would load best; None when it can load none."""
    best: tuple[Fit, PackageWheel] | None = None
    for wheel in package.wheels or ():
        fit = wheel_fit(wheel.filename, target, allow_linux=options.allow_linux_wheels)
        if fit is not None and (best is None or fit < best[0]):
            best = (fit, wheel)
    return best[1] if best else None


def is_allowed(name: str, options: ResolveOptions) -> bool:
    """Whether the user lets a distribution be built from source."""
    return name in options.allow_sdists or "all" in options.allow_sdists


def files_of(package: Package) -> tuple[IndexFile, ...]:
    """Give the files of a lock entry as an index would list them, for explanations."""
    from manylambda.locks.index import IndexFile

    files: list[PackageWheel | PackageSdist] = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    return tuple(
        IndexFile(filename=file.filename, url=file.url or "", hashes=dict(file.hashes), size=file.size)
        for file in files
    )


def _check_fit(package: Package, filename: str, target: Target, options: ResolveOptions) -> None:
    from manylambda.locks.compatibility import wheel_refusal

    if refused := wheel_refusal(filename, target, allow_linux=options.allow_linux_wheels):
        raise NoCompatibleWheel(
            f"`{filename}` does not run on `{target}`: it {refused.sentence}",
            hint=f"`{package.name}` is named by its address or path: name a wheel for the target, "
            "with a marker if there are several",
        )


def _no_wheel(package: Package, target: Target, options: ResolveOptions) -> NoCompatibleWheel:
    from manylambda.locks.explain import no_compatible_wheel

    return no_compatible_wheel(
        package.name,
        str(package.version) if package.version is not None else None,
        target,
        files_of(package),
        allow_linux=options.allow_linux_wheels,
        is_whole=False,
    )


def _pin(package: Package, file: PackageWheel | PackageArchive, filename: str, base: Path) -> Pin:
    url, path = _location(file.url, file.path, base)
    hashes = {name: digest.lower() for name, digest in file.hashes.items()}
    if path is None and not any(name in hashes for name in TRUSTED_HASHES):
        raise ResolutionError(
            f"`{filename}` has no hash that can be trusted: {', '.join(sorted(hashes)) or 'none'}",
            hint="lock again with sha256 hashes: `manylambda lock`",
        )
    version = package.version
    passed_over = _passed_over(package, filename)
    return Pin(
        name=package.name,
        version=str(version) if version is not None else filename.split("-")[1],
        wheel=WheelFile(filename=filename, url=url, path=path, hashes=hashes, size=file.size),
        index=package.index,
        compiled_for=passed_over.platforms,
        brings_library=passed_over.brings_library,
    )


def _passed_over(package: Package, chosen: str) -> Compiled:
    """Give the compiled wheels that were passed over for a pure one."""
    if is_compiled(chosen):
        return Compiled()
    return _noted(package) or compiled(wheel.filename for wheel in package.wheels or ())


def _noted(package: Package) -> Compiled | None:
    """Read what a lock of ours says of the release, which is all that its index had."""
    table = (package.tool or {}).get("manylambda")
    if not isinstance(table, dict):
        return None
    platforms = table.get("compiled-for")
    if not isinstance(platforms, list) or not all(isinstance(one, str) for one in platforms):
        return None
    return Compiled(tuple(platforms), table.get("brings-library") is True)


def _sdist(
    package: Package,
    file: PackageSdist | PackageArchive,
    target: Target,
    options: ResolveOptions,
    base: Path,
) -> SourceDistribution:
    if not is_allowed(package.name, options):
        raise NoCompatibleWheel(
            f"`{_name_of(file)}` is a source distribution, and `{target}` needs a wheel",
            hint=f"`--allow-sdist {package.name}` builds it for the target",
        )
    url, path = _location(file.url, file.path, base)
    return SourceDistribution(
        name=package.name,
        version=str(package.version) if package.version is not None else None,
        url=url,
        path=path,
        hashes={name: digest.lower() for name, digest in file.hashes.items()},
        build_requires=_build_requires(package),
    )


def _build_requires(package: Package) -> tuple[str, ...]:
    """Read what a lock of ours says of how an sdist is built."""
    table = (package.tool or {}).get("manylambda")
    lines = table.get("build-requires") if isinstance(table, dict) else None
    return tuple(line for line in lines if isinstance(line, str)) if isinstance(lines, list) else ()


def _location(url: str | None, path: str | None, base: Path) -> tuple[str | None, Path | None]:
    """PEP 751: `path` is preferred to `url` when both are there; a `file:` URL is a path."""
    if path:
        return None, _absolute(base, path)
    if url and url.startswith("file:"):
        from urllib.request import url2pathname

        return None, Path(url2pathname(urlsplit(url).path))
    return url, None


def _absolute(base: Path, *parts: str) -> Path:
    return Path(os.path.normpath(base.joinpath(*parts).absolute()))


def _name_of(file: PackageArchive | PackageSdist) -> str:
    name = getattr(file, "name", None)
    if isinstance(name, str):
        return name
    place = file.path or urlsplit(file.url or "").path
    return unquote(place.replace("\\", "/").rpartition("/")[2])


def locked_targets(pylock: Pylock) -> tuple[str, ...]:
    """Give the targets a lock of ours was made for; empty for a lock of another tool."""
    tool: Mapping[str, object] = pylock.tool or {}
    own = tool.get("manylambda")
    names: Iterable[object] = own.get("targets", ()) if isinstance(own, dict) else ()
    return tuple(name for name in names if isinstance(name, str))


def _lock_hint(pylock: Pylock, target: Target) -> str:
    made_for = locked_targets(pylock)
    if not made_for:
        return "lock again for this runtime, with `manylambda lock` or the tool that made the lock"
    wanted = " ".join(f"-t {name}" for name in sorted({*made_for, str(target)}))
    return f"it was made for {', '.join(made_for)}; run `manylambda lock {wanted}`"
