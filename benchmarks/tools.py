"""How each tool is run: the commands its documentation gives, for the same pins, the same target, the same index.

A tool makes one `.zip` in an output folder. Each has an environment and a cache of its own; nothing of the
developer's configuration reaches it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from benchmarks import index
from benchmarks.workloads import TARGET, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY: Final = Path(__file__).parent.parent

# What is installed from the public index into a virtual environment of its own.
PEERS: Final[Mapping[str, Sequence[str]]] = {
    "uv": ("uv==0.13.9",),
    "pip": ("pip==26.3",),
    "sam": ("aws-lambda-builders==1.68.0",),
    "pex": ("pex==2.105.2",),
}
# What is measured beside `manylambda audit`.
AUDITORS: Final[Mapping[str, Sequence[str]]] = {
    "auditwheel": ("auditwheel==6.8.2",),
    "pydistcheck": ("pydistcheck==0.11.3",),
}
# The newest pip pex knows and the index has; pex makes itself a virtual environment of these once a cache.
PEX_PIP: Final = ("26.2.1", ("pip==26.2.1", "setuptools==83.0.0", "wheel==0.47.0"))

_MANYLINUX: Final = (*(f"manylinux_2_{minor}_aarch64" for minor in range(34, 16, -1)), "manylinux2014_aarch64")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one run finds and leaves things."""

    work: Path
    """Holds the peers' environments and the index."""
    cache: Path
    """The tool's cache, kept between runs when warm."""
    scratch: Path
    """Empty before a run; the output goes to `scratch/out`."""
    base: str
    """URL of the loopback index."""

    def peer(self, name: str, program: str) -> str:
        """Path of a program of a peer's environment."""
        return str(self.work / "peers" / name / "bin" / program)

    @property
    def simple(self) -> str:
        """URL of the PEP 503 pages."""
        return f"{self.base}/simple/"

    @property
    def output(self) -> Path:
        """Where the artifact goes."""
        return self.scratch / "out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One process."""

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]


class Tool(Protocol):
    """One way to make the package."""

    @property
    def name(self) -> str:
        """The word for `--tools`."""

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """Prepare the inputs in `place.scratch` (not timed) and give the processes (timed)."""


def clean_environment() -> dict[str, str]:
    """Give this machine's environment without anybody's packaging settings."""
    private = ("PIP_", "UV_", "PEX_", "MANYLAMBDA_", "PYTHON", "VIRTUAL_ENV", "SAM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_CONFIG": "1"}


def _handler(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text("def handler(event, context):\n    return {}\n", encoding="utf-8")


def _zip(folder: Path, place: Place) -> Step:
    archive = place.output / "package.zip"
    place.output.mkdir(parents=True, exist_ok=True)
    return Step(command=("zip", "-q", "-r", str(archive), "."), directory=folder, environment=clean_environment())


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours:
    """`manylambda build`."""

    program: str
    name: str = "manylambda"

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """See `Tool`."""
        project = place.scratch / "project"
        _handler(project)
        text = workload.lock.read_text(encoding="utf-8")
        (project / "pylock.toml").write_text(index.localise(text, place.base), encoding="utf-8")
        command = (
            *(self.program, "build", "--lock", "pylock.toml", "-t", TARGET, "-o", str(place.output), "--quiet"),
            *(("--no-audit",) if workload.too_large else ()),
        )
        environment = {**clean_environment(), "MANYLAMBDA_CACHE_DIR": str(place.cache)}
        return [Step(command=command, directory=project, environment=environment)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Uv:
    """`uv pip install --target`, then `zip -r`."""

    name: str = "uv"

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """See `Tool`."""
        package = place.scratch / "package"
        _handler(package)
        command = (
            *(place.peer("uv", "uv"), "pip", "install", "--quiet", "--target", str(package)),
            *("--python-platform", "aarch64-manylinux_2_34", "--python-version", "3.13", "--only-binary", ":all:"),
            *("--requirement", str(workload.requirements)),
        )
        environment = {
            **clean_environment(),
            "UV_CACHE_DIR": str(place.cache),
            "UV_DEFAULT_INDEX": place.simple,
            "UV_PYTHON": place.peer("uv", "python"),
        }
        return [
            Step(command=command, directory=place.scratch, environment=environment),
            _zip(package, place),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pip:
    """`pip install --target`, then `zip -r`."""

    name: str
    compiles: bool

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """See `Tool`."""
        package = place.scratch / "package"
        _handler(package)
        command = (
            *(place.peer("pip", "python"), "-m", "pip", "install", "--quiet", "--target", str(package)),
            *(() if self.compiles else ("--no-compile",)),
            *(option for tag in _MANYLINUX for option in ("--platform", tag)),
            *("--python-version", "3.13", "--implementation", "cp", "--only-binary", ":all:"),
            *("--requirement", str(workload.requirements)),
        )
        environment = {
            **clean_environment(),
            "PIP_CACHE_DIR": str(place.cache),
            "PIP_INDEX_URL": place.simple,
        }
        return [
            Step(command=command, directory=place.scratch, environment=environment),
            _zip(package, place),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sam:
    """The builder `sam build` runs, then `zip -r` (what `sam deploy` does)."""

    python313: str
    name: str = "sam"

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """See `Tool`."""
        source = place.scratch / "source"
        _handler(source)
        shutil.copyfile(workload.requirements, source / "requirements.txt")
        artifacts = place.scratch / "artifacts"
        artifacts.mkdir(exist_ok=True)
        script = str(Path(__file__).with_name("sam_build.py"))
        command = (place.peer("sam", "python"), script, str(source), str(artifacts), str(place.scratch / "sam"))
        environment = clean_environment()
        environment |= {
            "PIP_CACHE_DIR": str(place.cache),
            "PIP_INDEX_URL": place.simple,
            # The builder insists on the runtime's own Python on the path, with pip.
            "PATH": f"{Path(self.python313).parent}{os.pathsep}{environment['PATH']}",
        }
        return [
            Step(command=command, directory=place.scratch, environment=environment),
            _zip(artifacts, place),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pex:
    """`pex3 venv create --layout flat-zipped`."""

    name: str = "pex"

    def steps(self, workload: Workload, place: Place) -> Sequence[Step]:
        """See `Tool`."""
        place.output.mkdir(parents=True, exist_ok=True)
        target = place.scratch / "platform.json"
        target.write_text(json.dumps(_complete_platform()), encoding="utf-8")
        command = (
            *(place.peer("pex", "pex3"), "venv", "create", "--layout", "flat-zipped"),
            *("--dest-dir", str(place.output / "package")),
            *("--complete-platform", str(target), "--pip-version", PEX_PIP[0]),
            *("--no-pypi", "--index", place.simple, "--requirement", str(workload.requirements)),
            *("--wheel", "--no-build"),
        )
        environment = {**clean_environment(), "PEX_ROOT": str(place.cache)}
        return [Step(command=command, directory=place.scratch, environment=environment)]


def _complete_platform() -> Mapping[str, object]:
    tags = [f"cp313-{abi}-{tag}" for abi in ("cp313", "abi3", "none") for tag in _MANYLINUX]
    tags += [f"cp3{minor}-abi3-{tag}" for minor in range(12, 1, -1) for tag in _MANYLINUX]
    tags += [f"{python}-none-{tag}" for python in ("py313", "py3") for tag in _MANYLINUX]
    tags += ["cp313-none-any", "py313-none-any", "py3-none-any"]
    tags += [f"py3{minor}-none-any" for minor in range(12, -1, -1)]
    markers = {
        "implementation_name": "cpython",
        "implementation_version": "3.13.0",
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": "3.13.0",
        "python_version": "3.13",
        "sys_platform": "linux",
    }
    return {"marker_environment": markers, "compatible_tags": tags}


def install_peers(work: Path) -> None:
    """Make what is missing of the peers' environments, from the public index."""
    for name, requirements in {**PEERS, **AUDITORS}.items():
        folder = work / "peers" / name
        if (folder / "done").exists():
            continue
        print(f"installing {' '.join(requirements)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*pip, *requirements], check=True)
        (folder / "done").touch()


def fill_index(work: Path, workloads: Sequence[Workload]) -> Path:
    """Make the loopback index: the wheels of the locks, the host's own for SAM, and what pex installs for itself."""
    folder = work / "index"
    pip = [str(work / "peers" / "pip" / "bin" / "python"), "-m", "pip"]
    index.fill(folder, [wheel for workload in workloads for wheel in workload.wheels()])
    for workload in workloads:
        done = folder / f"{workload.name}.host"
        if not done.exists():
            index.fill_for_host(folder, pip, workload.requirements)
            done.touch()
    if not (folder / "pex").exists():
        options = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder / "files"))
        subprocess.run([*pip, *options, *PEX_PIP[1]], check=True)
        (folder / "pex").touch()
    index.write_pages(folder)
    return folder


def find_python313() -> str | None:
    """Find the interpreter SAM needs: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob("3.13.*/bin/python3.13"))
    return str(found[-1]) if found else shutil.which("python3.13")


def machine() -> Mapping[str, str | int]:
    """Say what was measured on, without naming the host."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "machine": platform.machine(),
        "processor": model,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }
