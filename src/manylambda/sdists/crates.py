"""The crates of a source tree: fetched before its build, which has no network, by what its `Cargo.lock` says.

cargo does not run in the tree. It gets a copy that has the manifests, the locks and empty sources: a package's
`.cargo/config.toml`, which can name programs to run (credential providers, `git`), is not in it. Build scripts and
macros run only in the build itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import FetchError, NotCached, PackagingError
from manylambda.locks.program import without_credentials
from manylambda.sdists.rust import read_toml, user_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.sdists.rust import Rust
    from manylambda.sdists.workshop import Job

_ASIDE: Final = frozenset({"target", "tests", "test", "fuzz", "examples", "benches", "bench", "docs"})
_MINUTES: Final = 30 * 60
# Of the user's environment; the rest could lead cargo to programs and to logins for what a package names.
_PASSED: Final = re.compile(
    r"(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|CARGO_(HTTP|NET|REGISTRIES|REGISTRY)_\w+|SYSTEMROOT|TEMP|TMP",
    re.IGNORECASE,
)
_STALE: Final = re.compile(r"lock file .*(needs to be updated|--locked)|because --locked was passed", re.DOTALL)
_OFFLINE: Final = re.compile(r"--offline|offline mode|--frozen")
_UNREACHED: Final = re.compile(
    r"failed to (download|fetch|get|update|query|load source)|unable to update|resolve host|network failure|timed out"
    r"|connect|spurious",
    re.IGNORECASE,
)


class _Fetched(NamedTuple):
    status: int
    said: str
    config: str


def fetch_crates(job: Job, rust: Rust, room: Path, root: str, *, is_closed: bool) -> None:
    """Put the crates that the tree in `room` asks for where its build, for which `room` is `root`, finds them.

    Raises FetchError when they cannot be had, NotCached when they are not there and `offline`, `PackagingError` when
    the tree does not say which.
    """
    tree, name = room / "source", job.source.name
    manifests = _roots(tree)
    if not manifests or _brings_crates(tree) or not any(_asks_for_crates(tree / one) for one in manifests):
        return
    if rust.crates is not None:
        place = rust.place(rust.crates, is_closed=is_closed)
        _configure(room, f'[source.crates-io]\nreplace-with = "own"\n\n[source.own]\ndirectory = {json.dumps(place)}\n')
        return
    skeleton = room / "manifests"
    _copy_manifests(tree, skeleton)
    has_lock = all((tree / one).with_name("Cargo.lock").is_file() for one in manifests)
    task = job.progress.task("fetch", f"crates of {name}", None, unit="items")
    try:
        with job.cache.writing("cargo"):
            fetched = _vendor(job, rust, [skeleton / one for one in manifests], room, is_locked=has_lock)
            if fetched.status and has_lock and _STALE.search(fetched.said):
                fetched = _vendor(job, rust, [skeleton / one for one in manifests], room, is_locked=False)
                if not fetched.status:
                    job.progress.warning(
                        f"the `Cargo.lock` of `{name}` does not fit its `Cargo.toml`: cargo adapted it"
                    )
    finally:
        task.finish()
    if fetched.status:
        raise _failure(name, fetched.said, is_offline=job.options.offline)
    if not has_lock and any(_asks_for_crates(skeleton / one) for one in manifests):
        job.progress.warning(
            f"`{name}` has no `Cargo.lock`: it is built with the newest crates that there are, another day with others"
        )
    for one in manifests:
        lock = (skeleton / one).with_name("Cargo.lock")
        if lock.is_file():
            shutil.copyfile(lock, (tree / one).with_name("Cargo.lock"))
    _configure(
        room, re.sub(r"^directory = .*$", lambda _: f'directory = "{root}/crates"', fetched.config, flags=re.MULTILINE)
    )


def _configure(room: Path, text: str) -> None:
    home = room / "work" / "cargo"
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(text, encoding="utf-8")


def _vendor(job: Job, rust: Rust, manifests: Sequence[Path], room: Path, *, is_locked: bool) -> _Fetched:
    """Have cargo put the crates into `crates`; what it downloads is kept in our cache."""
    home = job.cache.base / "tools" / "cargo"
    home.mkdir(parents=True, exist_ok=True)
    job.cache.use(home)
    user = job.options.environment
    first, *others = manifests
    command = [str(rust.cargo), *_user_config(user), "--config", "net.git-fetch-with-cli=false", "vendor"]
    command += ["--versioned-dirs", "--respect-source-config", "--color", "never", "--manifest-path", str(first)]
    for one in others:
        command += ["--sync", str(one)]
    command += ["--locked"] * is_locked + ["--offline"] * job.options.offline
    crates = room / "crates"
    try:
        done = subprocess.run(
            [*command, str(crates)],
            # cargo reads the configuration of every folder above, of which temporary ones may be anybody's.
            cwd=room.anchor,
            env={
                **{name: value for name, value in user.items() if _PASSED.fullmatch(name)},
                "CARGO_HOME": str(home),
                "HOME": str(room / "work" / "home"),
                "PATH": str(rust.rustc.parent),
                "RUSTC": str(rust.rustc),
                "CARGO_REGISTRIES_CRATES_IO_PROTOCOL": "sparse",
            },
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_MINUTES,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return _Fetched(1, f"error: failed to fetch them within {_MINUTES // 60} minutes", "")
    return _Fetched(done.returncode, done.stderr, done.stdout)


def _user_config(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the user's own configuration, which may name a mirror."""
    config = user_config(environment)
    sources = read_toml(config).get("source", {}) if config else {}
    has_folder = isinstance(sources, dict) and any(
        isinstance(one, dict) and "directory" in one for one in sources.values()
    )
    if config and not has_folder:  # see `own_crates`
        yield from ("--config", str(config))


def _roots(tree: Path) -> list[str]:
    """Find the manifests to begin with: those with none above them, and those with a lock of their own; sorted."""
    found: list[str] = []
    for folder, folders, files in os.walk(tree):
        folders[:] = sorted(name for name in folders if name.lower() not in _ASIDE and not name.startswith("."))
        if ".cargo-checksum.json" in files:
            folders.clear()
        elif "Cargo.toml" in files:
            path = Path(folder).relative_to(tree)
            is_under = any(Path(one).parent in (path, *path.parents) for one in found)
            if not is_under or "Cargo.lock" in files:
                found.append((path / "Cargo.toml").as_posix())
    return found


def _copy_manifests(tree: Path, skeleton: Path) -> None:
    """Copy what cargo reads to learn of crates; sources are only there, since it asks whether they are."""
    for folder, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != ".cargo"]
        for name in files:
            if name not in {"Cargo.toml", "Cargo.lock"} and not name.endswith(".rs"):
                continue
            place = skeleton / Path(folder).relative_to(tree) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".rs"):
                place.touch()
            else:
                shutil.copyfile(Path(folder) / name, place)


def _brings_crates(tree: Path) -> bool:
    """Tell whether the tree has its crates within: `cargo vendor` was run before it was packed."""
    for path in (*tree.rglob(".cargo/config.toml"), *tree.rglob(".cargo/config")):
        sources = read_toml(path).get("source")
        for one in sources.values() if isinstance(sources, dict) else ():
            if isinstance(one, dict) and "directory" in one:
                return True
    return False


def _asks_for_crates(manifest: Path) -> bool:
    lock = manifest.with_name("Cargo.lock")
    packages = read_toml(lock).get("package", []) if lock.is_file() else None
    if not isinstance(packages, list):
        return True
    return any(isinstance(one, dict) and "source" in one for one in packages)


def _failure(name: str, said: str, *, is_offline: bool) -> FetchError | PackagingError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "no reason was given")
    if is_offline and (_OFFLINE.search(said) or _UNREACHED.search(said)):
        return NotCached(f"the crates of `{name}` are not in the cache", hint="build once without `--offline`")
    cause = without_credentials(", ".join(_innermost(lines) or [first.removeprefix("error:").strip().rstrip(".")]))
    if _UNREACHED.search(said):
        return FetchError(
            f"the crates of `{name}` cannot be fetched: {cause}",
            hint="cargo takes them from crates.io, or from a mirror that your own `~/.cargo/config.toml` names; "
            "a source that has them within (`cargo vendor`) needs neither",
        )
    return PackagingError(f"cargo cannot tell the crates of `{name}`: {cause}")


def _innermost(lines: Sequence[str]) -> list[str]:
    """Give what the last cause that cargo tells says, in one or two lines."""
    last = max((number for number, line in enumerate(lines) if line == "Caused by:"), default=None)
    return [line.rstrip(".") for line in lines[last + 1 : last + 3]] if last is not None else []
