"""Builds source code into wheels: folders of this machine (dependencies, the project itself) and allowed archives.

The build runs in isolation on a copy, so nothing is written to the user's folders, and what the tree's own host or
build left there cannot reach a package. The outcome is kept by what went in; only pure wheels are accepted.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.archive import write_zip
from manylambda.errors import NotCached, PackagingError, UnsafeArchive
from manylambda.locks.model import LocalPackage, ResolveOptions
from manylambda.locks.program import run_uv, without_credentials
from manylambda.locks.settings import read_settings
from manylambda.progress import SILENT
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, Entry, PackageTree, checked_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.fetch import Cache
    from manylambda.progress import Progress
    from manylambda.target import Target

# Raise it when the same tree would give another wheel.
_RECIPE: Final = 1
_WORKERS: Final = 4

# Never part of what is built: version control, environments, caches, and the leftovers of earlier builds, of which
# setuptools would ship modules that are long gone.
_LEFT_OUT: Final = frozenset(
    {
        ".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
        ".hypothesis", ".eggs", ".idea", ".vscode", "__pycache__", "__pypackages__", "node_modules", ".DS_Store",
    }
)  # fmt: skip
_STEPS: Final = re.compile(r"(bdist\.|lib$|lib\.|temp\.)")
_VERSIONED_BY_GIT: Final = re.compile(
    r"setuptools[-_]scm|vcs[-_]versioning|hatch[-_]vcs|versioningit|dynamic[-_]versioning|dunamai|versioneer|flit[-_]scm",
    re.IGNORECASE,
)
# The same on every host, as far as a backend heeds them. 1980 is the first year a zip can name.
_SETTINGS: Final = {
    "SOURCE_DATE_EPOCH": "315532800",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
    "GIT_OPTIONAL_LOCKS": "0",
}


class _File(NamedTuple):
    path: str
    """Relative to the source tree, `/`-separated."""
    place: Path
    is_executable: bool


def build_local(
    packages: Sequence[LocalPackage],
    *,
    target: Target,
    environment: Mapping[str, str],
    offline: bool = False,
    cache: Cache,
    progress: Progress = SILENT,
) -> Mapping[LocalPackage, Path]:
    """Build each source tree into a wheel in `cache`, or find the one built from the same files before.

    A build runs the tree's build backend, which is code of the user's own. PackagingError when it fails, when the wheel
    is not the package that was asked for, has compiled code or does not run on `target`; NotCached when the build needs
    the index and is `offline`.
    """
    from concurrent.futures import ThreadPoolExecutor

    options = ResolveOptions(offline=offline, environment=environment)
    with ThreadPoolExecutor(_WORKERS) as pool:
        running = {
            package: pool.submit(_built, package, options=options, cache=cache, progress=progress)
            for package in dict.fromkeys(packages)
        }
        built = {package: future.result() for package, future in running.items()}
    for package, wheel in built.items():
        _check_target(package, wheel, target)
    return built


def build_archive(
    name: str,
    archive: Path,
    sha256: str,
    *,
    target: Target,
    environment: Mapping[str, str],
    offline: bool = False,
    cache: Cache,
    progress: Progress = SILENT,
) -> Path:
    """Build a source distribution, whose hash was checked, into a wheel in `cache`, or find the one built before.

    `name` is normalised. This runs code of whoever made the archive. Errors are those of `build_local`, and
    UnsafeArchive for an archive that leads out of its folder.
    """
    package = LocalPackage(name=name, directory=archive)
    wheel = _known(cache.read_facts("sdist-wheel", _RECIPE, sha256), cache)
    if wheel is None:
        options = ResolveOptions(offline=offline, environment=environment)
        with tempfile.TemporaryDirectory(prefix="manylambda-") as scratch:
            folder = _unpacked(archive, Path(scratch))
            unpacked = LocalPackage(name=name, directory=folder)
            wheel = _built(unpacked, options=options, cache=cache, progress=progress)
        cache.write_facts("sdist-wheel", _RECIPE, sha256, {"sha256": wheel.parent.name, "filename": wheel.name})
    _check_target(package, wheel, target)
    return wheel


def _unpacked(archive: Path, scratch: Path) -> Path:
    """Unpack an archive below `scratch`; return the one folder it holds."""
    import tarfile
    import zlib

    if not hasattr(tarfile, "data_filter"):
        raise PackagingError(
            f"`{archive.name}` cannot be unpacked safely by Python {sys.version.split()[0]}",
            hint="use Python 3.11.4 or newer",
        )
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    checked_path(info.orig_filename.removesuffix("/"))
                opened.extractall(scratch)  # noqa: S202 - checked above, and zipfile makes no links
        else:
            with tarfile.open(archive) as unpacking:
                unpacking.extractall(scratch, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(f"`{archive.name}` cannot be unpacked: {error}") from error
    found = list(scratch.iterdir())
    if len(found) != 1 or not found[0].is_dir():
        raise UnsafeArchive(f"`{archive.name}` is no source distribution: it does not hold one folder")
    return found[0]


def _known(fact: object, cache: Cache) -> Path | None:
    """Return the wheel that facts of an earlier build name, if it is still what it was."""
    if not isinstance(fact, dict):
        return None
    wheel = cache.wheel_path(str(fact["sha256"]), str(fact["filename"]))
    return wheel if cache.verify(wheel, str(fact["sha256"])) else None


def _built(package: LocalPackage, *, options: ResolveOptions, cache: Cache, progress: Progress) -> Path:
    folder = package.directory
    if not folder.is_dir():
        raise PackagingError(f"the folder of `{package.name}` does not exist: {folder}")
    if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise PackagingError(
            f"the folder of `{package.name}` has no `pyproject.toml`: {folder}",
            hint="only a folder with a `pyproject.toml` (or `setup.py`) can be built into a wheel",
        )
    files = sorted(_files(folder))
    is_versioned = _is_versioned_by_git(folder)
    # The version of such a tree is not in its files.
    key = "" if is_versioned else _key(package, folder, files)
    known = _known(cache.read_facts("local-wheel", _RECIPE, key), cache) if key else None
    if known is not None:
        progress.detail(f"`{package.name}` is unchanged since it was built")
        return known

    task = progress.task("build", package.name, None, unit="items")
    try:
        with tempfile.TemporaryDirectory(prefix="manylambda-") as scratch:
            tree = _copied(files, folder, Path(scratch) / "tree", is_versioned=is_versioned)
            raw = _run_build(package, tree, Path(scratch) / "out", options, progress)
            with cache.writing(raw.name):
                temporary = cache.incoming(f"{os.getpid():x}-{os.urandom(8).hex()}.whl")
                sha256 = write_zip(_normalised(raw), temporary).sha256
                wheel = cache.keep(temporary, sha256, raw.name)
    finally:
        task.finish()
    if key:
        cache.write_facts("local-wheel", _RECIPE, key, {"sha256": sha256, "filename": wheel.name})
    return wheel


def _run_build(package: LocalPackage, tree: Path, out: Path, options: ResolveOptions, progress: Progress) -> Path:
    """Run the build backend on the copy; return the wheel it made."""
    settings = read_settings(package.directory, options.environment)
    arguments = ["build", "--wheel", "--out-dir", str(out), "--python", sys.executable, str(tree)]
    outcome = run_uv(arguments, folder=tree, options=options, settings={**settings.uv_environment(), **_SETTINGS})
    said = [without_credentials(line).replace(str(tree), ".") for line in outcome.stderr.splitlines() if line.strip()]
    for line in said:
        progress.detail(f"{package.name}: {line.strip()}")
    if outcome.returncode:
        if options.offline and re.search(r"network was disabled|--offline|not found in the cache", outcome.stderr):
            raise NotCached(
                f"the build backend of `{package.name}` is not in uv's cache",
                hint="build once without `--offline`",
            )
        raise PackagingError(
            f"`{package.name}` cannot be built into a wheel: {_last(said)}",
            hint="the build ended with:\n" + "\n".join(said[-12:]),
        )
    wheels = sorted(out.glob("*.whl"))
    if len(wheels) != 1:
        raise PackagingError(f"the build of `{package.name}` made {len(wheels)} wheels instead of one")
    _check_name(package, wheels[0])
    return wheels[0]


def _last(said: Sequence[str]) -> str:
    """Pick the line that names the cause: the last one of an exception, else the last one."""
    errors = [line.strip() for line in said if re.match(r"\s*(\w+\.)*\w*(Error|Exception)\b", line)]
    return (errors or [line.strip() for line in said if line.strip()] or ["no reason was given"])[-1].rstrip(".")


def _check_name(package: LocalPackage, wheel: Path) -> None:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, tags = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename as error:
        raise PackagingError(
            f"the build of `{package.name}` made `{wheel.name}`, which is no wheel: {error}"
        ) from error
    if name != package.name:
        raise PackagingError(
            f"the folder of `{package.name}` builds a package called `{name}`: {package.directory}",
            hint=f"lock again, or rename one of them (`{wheel.name}` is version {version})",
        )
    if any(tag.platform != "any" or tag.abi != "none" for tag in tags):
        raise PackagingError(
            f"the build of `{package.name}` made `{wheel.name}`, which has code compiled for this machine",
            hint="build a wheel for the target elsewhere (cibuildwheel, or on the target's own system) and depend on "
            "that wheel; if the code is pure Python, let its build not mark it as compiled",
        )


def _check_target(package: LocalPackage, wheel: Path, target: Target) -> None:
    from manylambda.locks.compatibility import wheel_refusal

    refused = wheel_refusal(wheel.name, target)
    if refused is not None:
        raise PackagingError(
            f"`{wheel.name}`, built from the source of `{package.name}`, does not run on `{target}`: "
            f"it {refused.sentence}"
        )


# --- the copy


def _files(folder: Path) -> Iterator[_File]:
    """Yield the files to build from; symbolic links are followed, once each way down."""

    def walk(current: Path, prefix: str, above: frozenset[str]) -> Iterator[_File]:
        real = os.path.realpath(current)
        if real in above:
            return
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = prefix + entry.name
                if entry.is_dir():
                    if not _is_left_out(Path(entry.path), path):
                        yield from walk(Path(entry.path), path + "/", above | {real})
                elif entry.is_file() and entry.name not in _LEFT_OUT and not entry.name.endswith((".pyc", ".pyo")):
                    mode = entry.stat().st_mode
                    yield _File(path, Path(entry.path), bool(mode & 0o100) and os.name != "nt")

    yield from walk(folder, "", frozenset())


def _is_left_out(folder: Path, path: str) -> bool:
    if folder.name in _LEFT_OUT or folder.name.endswith((".egg-info", ".dist-info")):
        return True
    if (folder / "pyvenv.cfg").is_file():
        return True
    if path == "build":  # setuptools' own; a package may be called so
        return any(_STEPS.match(step.name) for step in folder.iterdir())
    if path == "dist":
        return any(file.name.endswith((".whl", ".tar.gz")) for file in folder.iterdir())
    return False


def _is_versioned_by_git(folder: Path) -> bool:
    """Tell whether the version comes from the history, which a copy does not have."""
    file = folder / "pyproject.toml"
    texts = [path for path in (file, folder / "setup.py", folder / "setup.cfg") if path.is_file()]
    return any(_VERSIONED_BY_GIT.search(path.read_text(encoding="utf-8", errors="replace")) for path in texts)


def _key(package: LocalPackage, folder: Path, files: Sequence[_File]) -> str:
    """Hash all that decides what the build makes."""
    digest = hashlib.sha256(f"{package.name}\n{_uv_version()}\n".encode())
    ignored = [(file.name, file.read_bytes()) for file in _ignore_files(folder).values()]
    for name, content in ignored:
        digest.update(f"{name} {len(content)}\n".encode() + content)
    for file in files:
        with file.place.open("rb") as stream:
            content_digest = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(json.dumps([file.path, file.is_executable, content_digest]).encode() + b"\n")
    return digest.hexdigest()


def _uv_version() -> str:
    from importlib.metadata import version

    return version("uv")


def _ignore_files(folder: Path) -> dict[str, Path]:
    """Find the ignore files above the tree that git would heed: hatchling leaves out what they name.

    The keys are the places of their folders relative to the tree's: `../`, `../../`.
    """
    found: dict[str, Path] = {}
    place, above = "", folder
    while not (above / ".git").exists():
        if above.parent == above:
            return {}
        above, place = above.parent, f"{place}../"
        file = above / ".gitignore"
        if file.is_file():
            found[place] = file
    return found


def _copied(files: Sequence[_File], folder: Path, root: Path, *, is_versioned: bool) -> Path:
    """Copy the tree below `root`, as deep as it lies in its repository; return the copy's folder."""
    ignored = _ignore_files(folder)
    depth = max((above.count("/") for above in ignored), default=0)
    tree = root.joinpath(*folder.parts[len(folder.parts) - depth :]) if depth else root
    for file in files:
        place = tree / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.place, place)
        place.chmod(MODE_EXECUTABLE if file.is_executable else MODE_FILE)
    for above, ignore in ignored.items():
        shutil.copyfile(ignore, tree / above / ".gitignore")
    if is_versioned and (folder / ".git").exists():
        # A file that says where the history is: the copy becomes another working tree of it.
        (tree / ".git").write_text(f"gitdir: {_git_folder(folder)}\n", encoding="utf-8")
    return tree


def _git_folder(folder: Path) -> Path:
    git = folder / ".git"
    if git.is_file():
        return folder / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    return git


# --- the wheel


def _normalised(wheel: Path) -> PackageTree:
    """Read a built wheel as a tree that does not tell when, where or by which release of its backend it was built."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {
                checked_path(info.filename): (archive.read(info), bool(info.external_attr >> 16 & 0o111))
                for info in archive.infolist()
                if not info.is_dir()
            }
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise PackagingError(f"the build made a wheel that cannot be read: `{wheel.name}`: {error}") from error
    record = next((path for path in contents if re.fullmatch(r"[^/]+\.dist-info/RECORD", path)), None)
    if record is None:
        raise PackagingError(f"the build made a wheel without a RECORD: `{wheel.name}`")
    folder = record.rpartition("/")[0]
    if f"{folder}/WHEEL" in contents:
        data, _ = contents[f"{folder}/WHEEL"]
        # `Generator: hatchling 1.27.0` would change the package with every release of the backend.
        contents[f"{folder}/WHEEL"] = re.sub(rb"(?m)^(Generator: \S+).*$", rb"\1", data), False
    contents[record] = _record(contents, record), False
    return PackageTree(
        Entry(path, MODE_EXECUTABLE if is_executable else MODE_FILE, Bytes(data), wheel.name)
        for path, (data, is_executable) in contents.items()
    )


def _record(contents: Mapping[str, tuple[bytes, bool]], record: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, (data, _) in sorted(contents.items()):
        if path == record or path.startswith((f"{record}.",)):
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((path, f"sha256={digest}", len(data)))
    writer.writerow((record, "", ""))
    return text.getvalue().encode()
