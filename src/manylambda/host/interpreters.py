"""The CPythons of this host: found, asked what they are, and downloaded with uv."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.host import process
from manylambda.host.model import Unusable
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.progress import Progress

_ASK_SECONDS: Final = 20.0
_DOWNLOAD_SECONDS: Final = 600.0
_IDENTITY: Final = """
import importlib.util, json, os, platform, site, sys, sysconfig
def folders():
    found = set(sysconfig.get_paths().get(key) for key in ("purelib", "platlib"))
    try:
        found.update(site.getsitepackages())
    except Exception:
        pass
    return sorted(path for path in found if path and os.path.isdir(path))
print(json.dumps({
    "program": getattr(sys, "_base_executable", None) or sys.executable,
    "version": platform.python_version(),
    "minor": sys.version_info[:2],
    "machine": platform.machine(),
    "system": sys.platform,
    "implementation": platform.python_implementation(),
    "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "debug": hasattr(sys, "gettotalrefcount"),
    "libc": " ".join(platform.libc_ver()) if sys.platform == "linux" else "",
    "prefixes": sorted({os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)}),
    "site": folders(),
    "magic": importlib.util.MAGIC_NUMBER.hex(),
    "tag": sys.implementation.cache_tag,
    "library": os.path.dirname(os.__file__),
    "include": sysconfig.get_path("include"),
}))
"""
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


class Interpreter(NamedTuple):
    """A CPython of this host, as it describes itself."""

    program: str
    version: str
    minor: tuple[int, int]
    machine: str
    """In the words of wheel tags: `x86_64`, `aarch64`."""
    system: str
    """`linux`, `darwin`, `win32`."""
    libc: str
    """`glibc 2.36`; empty where it has none of GNU."""
    prefixes: tuple[str, ...]
    site: tuple[str, ...]
    """Where the host's own distributions lie, which must not be seen."""
    magic: str
    """Of its bytecode, as hex."""
    tag: str
    """In names of bytecode: `cpython-313`."""
    library: str
    """Where its standard library is."""
    include: str
    """Where its C headers are, where they are installed: the folder need not be there."""


class _Refused(NamedTuple):
    program: str
    reason: str


def find_interpreter(
    minor: tuple[int, int], *, machine: str | None = None, environment: Mapping[str, str] | None = None
) -> Interpreter | Unusable:
    """Give a CPython of the minor version: one of Linux on `machine` before any other, without one the first.

    `machine` is in the words of wheel tags.
    Asked in turn: this interpreter, the path, pyenv, the `py` launcher of Windows, what uv has installed.
    """
    environment = os.environ if environment is None else environment
    fitting: list[Interpreter] = []
    refused: list[_Refused] = []
    for command in _candidates(minor, environment):
        found = ask(command, minor)
        if isinstance(found, Interpreter):
            if machine is None or (found.system == "linux" and found.machine == machine):
                return found
            fitting.append(found)
        elif found is not None:
            refused.append(found)
    if fitting:
        return fitting[0]
    version = "{}.{}".format(*minor)
    reason = f"no CPython {version} on this host"
    if refused:
        reason += ": " + "; ".join(f"`{one.program}` {one.reason}" for one in refused[:3])
    return Unusable("interpreter", reason, f"`--download-python`, or `uv python install {version}`")


def _candidates(minor: tuple[int, int], environment: Mapping[str, str]) -> Iterator[list[str]]:
    major_minor = "{}.{}".format(*minor)
    seen: set[str] = set()

    def fresh(path: str | None) -> list[list[str]]:
        if not path or not Path(path).is_file() or path in seen:
            return []
        seen.add(path)
        return [[path]]

    if sys.version_info[:2] == minor:
        yield from fresh(getattr(sys, "_base_executable", None) or sys.executable)
    path = environment.get("PATH", "")
    yield from fresh(shutil.which(f"python{major_minor}", path=path))
    roots = [environment.get("PYENV_ROOT", ""), str(Path(environment.get("HOME", "")) / ".pyenv")]
    for root in dict.fromkeys(root for root in roots if root):
        with contextlib.suppress(OSError):
            folders = sorted(Path(root, "versions").glob(f"{major_minor}.*"), key=_patch, reverse=True)
            for folder in folders:
                if folder.name.removeprefix(f"{major_minor}.").isdigit():
                    yield from fresh(str(folder / "bin" / f"python{major_minor}"))
    if sys.platform == "win32" and (launcher := shutil.which("py", path=path)):
        yield [launcher, f"-{major_minor}"]
    for name in ("python3", "python"):
        yield from fresh(shutil.which(name, path=path))
    yield from fresh(_of_uv(major_minor, path, environment))


def _patch(folder: Path) -> tuple[int, ...]:
    return tuple(int(word) for word in folder.name.split(".") if word.isdigit())


def _of_uv(minor: str, path: str, environment: Mapping[str, str]) -> str | None:
    program = _uv_program(path)
    if program is None:
        return None
    # Only what uv itself installed: what else it finds was asked above.
    command = [
        program,
        "python",
        "find",
        "--no-python-downloads",
        "--no-project",
        "--managed-python",
        f"cpython-{minor}",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = process.ask(command, seconds=_ASK_SECONDS, environment=environment)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return None


def _uv_program(path: str) -> str | None:
    # manylambda brings uv; its programs lie beside those of the environment that manylambda is installed in.
    return shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv", path=path)


def ask(command: Sequence[str], minor: tuple[int, int]) -> Interpreter | _Refused | None:
    """Give what a Python says of itself, or why it is not taken; None when it is only of another minor version."""
    try:
        answer = process.ask([*command, "-I", "-c", _IDENTITY], seconds=_ASK_SECONDS)
        if answer.returncode:
            return _Refused(command[0], "does not start")
        found: dict[str, Any] = json.loads(answer.stdout)
        theirs = (int(found["minor"][0]), int(found["minor"][1]))
        if theirs != minor:
            return None
        if found["implementation"] != "CPython":
            return _Refused(command[0], f"is {found['implementation']}")
        if found["threads"]:
            return _Refused(command[0], "is free-threaded, and Lambda's is not")
        if found["debug"]:
            return _Refused(command[0], "is a debug build, and Lambda's is not")
        machine = str(found["machine"]).lower()
        return Interpreter(
            str(found["program"]),
            str(found["version"]),
            theirs,
            _MACHINES.get(machine, machine),
            str(found["system"]),
            str(found["libc"]),
            tuple(map(str, found["prefixes"])),
            tuple(map(str, found["site"])),
            str(found["magic"]),
            str(found["tag"]),
            str(found["library"]),
            str(found["include"]),
        )
    except subprocess.TimeoutExpired:
        return _Refused(command[0], f"does not answer in {_ASK_SECONDS:.0f} s")
    except OSError as error:
        return _Refused(command[0], f"cannot be started: {error.strerror}")
    except (ValueError, KeyError, TypeError, IndexError):
        return _Refused(command[0], "does not say what it is")


def download_interpreter(minor: tuple[int, int], *, progress: Progress = SILENT) -> Interpreter | Unusable:
    """Let uv download a CPython of the minor version, and give it, or uv's reason."""
    version = "{}.{}".format(*minor)
    program = _uv_program(os.environ.get("PATH", ""))
    if program is None:
        return Unusable("interpreter", f"no uv to download CPython {version} with", "install uv")
    progress.info(f"downloading CPython {version} with uv")
    try:
        answer = process.ask(
            [program, "python", "install", "--color", "never", f"cpython-{version}"], seconds=_DOWNLOAD_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Unusable("interpreter", f"uv cannot download CPython {version}: {error}", None)
    if answer.returncode:
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        reason = " ".join(line.removeprefix("Caused by: ").removeprefix("error: ") for line in lines[:1] + lines[-1:])
        return Unusable(
            "interpreter",
            f"uv cannot download CPython {version}: {reason or answer.returncode}",
            "install it as this system does, or use another engine",
        )
    path = _of_uv(version, os.environ.get("PATH", ""), os.environ)
    found = ask([path], minor) if path else None
    if not isinstance(found, Interpreter):
        return Unusable("interpreter", f"uv has downloaded CPython {version}, and does not find it", None)
    return found
