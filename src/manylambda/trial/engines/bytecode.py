"""Bytecode for an environment that nothing can be written to, made once and kept.

Without it every process compiles what it imports: a second for the standard library, ten times that under an
emulator, and again for each process of a trial. Lambda has bytecode of its standard library, and of a package what
that ships.

It is given by a folder of its own, `-X pycache_prefix`, and neither the package nor the root file system gets a file.
So inside differs from Lambda what hardly anybody looks at: `sys.pycache_prefix` and `__cached__` are set to it, and
what warns when it is compiled (`SyntaxWarning`) does not. What a package ships in `__pycache__` is used as Lambda would
use it, stale or not: it is copied, and nothing is compiled in its stead.

Bytecode is told by its magic number: any CPython that has the target's makes the same. The one of the environment makes
it, unless that runs emulated and one of the host has the same number: six times as quick.

    <cache>/v1/trial/bytecode-1/<magic>/<aa>/<sha256 of source>    a `.pyc`, never checked against its source, and the
                                                                   sha256 of its own bytes after it
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from manylambda.fetch.cache import Cache

PREFIX: Final = "/run/bytecode"
"""Where an environment has the folder."""

_LAYOUT: Final = 1
_SECONDS: Final = 180.0
"""What is not compiled by then is compiled when it is imported, as without us."""
_MAX_PROCESSES: Final = 8
_MAX_BYTECODE: Final = 64 << 20
_FEW: Final = 8
"""Files that are not worth a second process."""

# Large, and nothing imports them.
_PASSED_OVER: Final = frozenset({"__pycache__", "test", "tests", "idlelib", "turtledemo", "ensurepip", "pydoc_data"})


class Python(NamedTuple):
    """What an interpreter says of itself."""

    version: str
    """`3.13.5`."""
    magic: str
    """Of its bytecode, as hex."""
    tag: str
    """In names of bytecode: `cpython-313`."""
    library: str
    """Where its standard library is, for it."""


QUESTION: Final = (
    "import importlib.util, json, os, platform, sys;"
    "print(json.dumps([platform.python_version(), importlib.util.MAGIC_NUMBER.hex(), sys.implementation.cache_tag,"
    " os.path.dirname(os.__file__)]))"
)
"""What an interpreter is given by `-c` so that it prints the fields of `Python` as JSON."""


class Compiler(NamedTuple):
    """A way to run `inside/compiler.py`."""

    command: Callable[[], Sequence[str]]
    """What to run; asked for only when something is to be compiled."""
    sees_inside: bool
    """Whether it has the paths of the environment, and not those of this host."""


def sources(folder: Path, at: str, *, without: Collection[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield each Python file below a folder: where it is in an environment that has the folder at `at`, and here.

    Folders of this host that are not to be looked into are named by `without`.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in _PASSED_OVER and f"{where}{os.sep}{name}" not in without
        )
        start = os.path.relpath(where, folder)
        for name in sorted(names):
            if name.endswith(".py"):
                path = Path(where, name)
                if path.is_file():
                    yield os.path.normpath(f"{at}/{start}/{name}"), path


def write(files: Mapping[str, Path], into: Path, python: Python, compiler: Compiler, cache: Cache) -> None:
    """Write the bytecode of files (where they are inside -> here) into a folder that is to be the `pycache_prefix`.

    What the files have beside them is taken, else what is in the cache, else it is made. Raises OSError.
    """
    store = cache.base / "trial" / f"bytecode-{_LAYOUT}" / python.magic
    made: set[Path] = set()
    missing: dict[Path, list[tuple[str, Path]]] = {}
    for inside, path in files.items():
        stem = inside.removesuffix(".py")
        place = into / f"{stem[1:]}.{python.tag}.pyc"
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        shipped = path.parent / "__pycache__" / f"{path.name.removesuffix('.py')}.{python.tag}.pyc"
        try:
            if shipped.is_file():
                place.write_bytes(shipped.read_bytes())
                continue
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue  # not ours to read: the environment will say so
        entry = store / digest[:2] / digest
        if not _place(entry, place):
            missing.setdefault(entry, []).append((inside, place))
    if missing:
        wanted = {
            entry: (inside if compiler.sees_inside else str(files[inside]))
            for entry, [(inside, _), *_] in missing.items()
        }
        for entry, code in _compiled(wanted, compiler):
            _keep(entry, code, cache)
            for _, place in missing[entry]:
                _place(entry, place)


def library(
    files: Mapping[str, Path],
    python: Python,
    key: str,
    *,
    compiler: Callable[[Path], Compiler],
    cache: Cache,
    tell: Callable[[], None],
) -> tuple[Path, str]:
    """Give the folder with the bytecode of a standard library, made once, and where an environment is to have it.

    `files` are its own (where they are inside -> here), `key` is what else tells it from others; `compiler` is given a
    folder for its files. `tell` is called when it has to be made.
    """
    from manylambda.trial.engines import roots

    digest = hashlib.sha256(f"{python} {key}\n".encode(errors="surrogateescape"))
    for inside, path in files.items():
        status = path.stat()
        digest.update(f"{inside} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))

    def fill(folder: Path) -> None:
        (folder / python.library[1:]).mkdir(parents=True)
        tell()
        with tempfile.TemporaryDirectory(prefix="manylambda-") as temporary:
            write(files, folder, python, compiler(Path(temporary)), cache)

    folder = roots.kept(cache, "libraries", digest.hexdigest(), fill)
    return folder / python.library[1:], f"{PREFIX}{python.library}"


def _place(entry: Path, place: Path) -> bool:
    """Put what the cache has under a name, unless it is damaged; empty is what does not compile, and is put nowhere."""
    try:
        content = entry.read_bytes()
    except OSError:
        return False
    code = content[:-32]
    if len(content) < 32 or hashlib.sha256(code).digest() != content[-32:]:
        return False
    if code:
        # Bytes behind the end of bytecode are not read.
        try:
            place.hardlink_to(entry)
        except OSError:
            place.write_bytes(code)
    return True


def _keep(entry: Path, code: bytes, cache: Cache) -> None:
    from manylambda.fetch.cache import unique_name

    temporary = cache.incoming(unique_name())
    temporary.write_bytes(code + hashlib.sha256(code).digest())
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(entry)


def _compiled(wanted: Mapping[Path, str], compiler: Compiler) -> Iterator[tuple[Path, bytes]]:
    """Compile files (entry of the cache -> path for the compiler) on all processors; what fails is left out."""
    import queue

    count = 1 if len(wanted) < _FEW else min(os.cpu_count() or 1, _MAX_PROCESSES)
    entries = sorted(wanted)  # by hashes: every share has of everything
    done: queue.SimpleQueue[tuple[Path, bytes] | None] = queue.SimpleQueue()
    command = compiler.command()

    def work(share: Sequence[Path]) -> None:
        try:
            for entry, code in zip(share, _frames(command, [wanted[entry] for entry in share]), strict=False):
                done.put((entry, code))
        finally:
            done.put(None)

    threads = [threading.Thread(target=work, args=(entries[number::count],), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    working = count
    while working:
        one = done.get()
        if one is None:
            working -= 1
        else:
            yield one


def _frames(command: Sequence[str], paths: Sequence[str]) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as names:
        names.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
        names.seek(0)
        try:
            process = subprocess.Popen(
                command, stdin=names, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, start_new_session=True
            )
        except OSError:
            return
    timer = threading.Timer(_SECONDS, process.kill)
    timer.daemon = True
    timer.start()
    try:
        assert process.stdout is not None
        with process.stdout as stream:
            while (code := _frame(stream)) is not None:
                yield code
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _frame(stream: IO[bytes]) -> bytes | None:
    head = stream.read(4)
    size = int.from_bytes(head, "little")
    if len(head) < 4 or size > _MAX_BYTECODE:
        return None
    code = stream.read(size)
    return code if len(code) == size else None


def host_python(minor: tuple[int, int], magic: str) -> str | None:
    """Find a CPython of this host that makes bytecode of this magic number."""
    import json

    for candidate in _candidates("{}.{}".format(*minor)):
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            asked = subprocess.run(
                [candidate, "-I", "-S", "-c", QUESTION], capture_output=True, timeout=10, check=True, env={}
            )
            if Python(*json.loads(asked.stdout)).magic == magic:
                return candidate
    return None


def _candidates(minor: str) -> Iterator[str]:
    import shutil
    import sys

    if minor == "{}.{}".format(*sys.version_info[:2]):
        yield sys.executable
    found = shutil.which(f"python{minor}")
    if found is not None:
        yield found
    with contextlib.suppress(RuntimeError, OSError):
        home = Path.home()
        for folder, pattern in (
            (Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions", f"{minor}.*/bin/python{minor}"),
            (home / ".local/share/uv/python", f"cpython-{minor}.*/bin/python{minor}"),
        ):
            yield from map(str, sorted(folder.glob(pattern), reverse=True))
