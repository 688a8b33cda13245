"""Programs that a build needs of this host: of an exact version, fetched once by hash from the package index."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manylambda.errors import FetchError, NotCached
from manylambda.locks.program import run_uv
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from manylambda.fetch import Cache
    from manylambda.locks.model import ResolveOptions
    from manylambda.progress import Progress


class Tool(NamedTuple):
    """A distribution of PyPI that holds a program."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """The SHA-256 of its wheels for all hosts."""
    what: str
    """What it is for who reads a message: `the compiler`."""
    package: str
    """The folder that it installs."""
    size: int
    """Of its wheel, in MiB, roughly."""
    others: tuple[tuple[str, str, str], ...] = ()
    """What it needs besides: name, version and SHA-256 of a wheel for every host."""

    @property
    def title(self) -> str:
        """For a message: `ziglang 0.17.1`."""
        return f"{self.name} {self.version}"


def find_tool(tool: Tool, cache: Cache, options: ResolveOptions, progress: Progress = SILENT) -> Path:
    """Give the folder that holds `tool.package`: where it is installed beside us, or of the cache.

    Raises NotCached when it is not there and `options.offline`, FetchError when it cannot be had.
    """
    from filelock import FileLock

    installed = _installed(tool)
    if installed is not None:
        return installed
    folder = cache.base / "tools" / f"{tool.name}-{tool.version}"
    if (folder / tool.package).is_dir() and (folder / "complete").is_file():
        cache.use(folder)
        return folder
    if options.offline:
        raise NotCached(
            f"{tool.what} ({tool.title}) is not in the cache", hint="run once without `--offline`: it is fetched then"
        )
    with cache.writing(folder.name), FileLock(cache.incoming(f"{folder.name}.lock")):
        if not (folder / "complete").is_file():
            _fetch(tool, folder, options, progress)
    return folder


def _fetch(tool: Tool, folder: Path, options: ResolveOptions, progress: Progress) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    progress.info(f"getting {tool.what}: {tool.title}, once (about {tool.size} MiB)")
    task = progress.task("fetch", tool.title, None, unit="items")
    wanted = folder / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{one}" for one in tool.hashes)
    lines = [f"{tool.name}=={tool.version} {hashes}"]
    lines += [f"{name}=={version} --hash=sha256:{sha256}" for name, version, sha256 in tool.others]
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        outcome = run_uv(
            [
                *("pip", "install", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("--python", sys.executable, "--target", str(folder), "--requirements", str(wanted)),
            ],
            folder=folder,
            options=options,
        )
    finally:
        task.finish()
    if outcome.returncode:
        raise FetchError(
            f"{tool.what} ({tool.title}) cannot be fetched: {outcome.cause}",
            hint="it is a package of PyPI: your index must have it",
        )
    (folder / "complete").write_bytes(b"")


def _installed(tool: Tool) -> Path | None:
    from importlib.metadata import PackageNotFoundError, distribution

    folders = set()
    for name, version in ((tool.name, tool.version), *((name, version) for name, version, _ in tool.others)):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            return None
        if found.version != version:
            return None
        folders.add(Path(str(found.locate_file(""))))
    folder = folders.pop()
    return folder if not folders and (folder / tool.package).is_dir() else None
