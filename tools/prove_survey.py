"""Hold the verdicts of the survey against what happens: import and load everything in a root like Lambda's.

    python tools/prove_survey.py WORK --target python3.13-x86_64 [--only NAME,NAME] [--jobs 2]
    python tools/prove_survey.py WORK --page

For each of `tools/survey.txt` the dependencies are built as a folder and run by Debian's CPython of the same minor
version in a sandbox: read-only, no network, no `/dev/shm`, another user, Lambda's `LD_LIBRARY_PATH`. Debian's libraries
that the runtime does not have are renamed there, so that only Debian's own files find them. Then

- every module that the distribution itself brings to the top level, every package an extension module of it lies in,
  and every extension module of it is imported;
- every shared object of the whole package is given to `dlopen` in a process of its own, every program to `ldd`;
- the symbol versions of glibc, libstdc++ and libgcc that a file needs are read by `readelf`: Debian's are newer.

Needs Linux on x86_64, root, `mmdebstrap`, `bwrap`, `patchelf`, `readelf`, and `qemu-aarch64-static` for arm64. WORK
keeps the roots and what was found; `--page` writes `docs/development/measurements/survey-proofs.md` from it.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda import Finding, Severity, Target
from manylambda.pipeline.audit import examine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NAMES: Final = Path(__file__).with_name("survey.txt")
PAGE: Final = Path(__file__).parents[1] / "docs" / "development" / "measurements" / "survey-proofs.md"

SUITES: Final = {
    "python3.11-x86_64": "bookworm",
    "python3.13-x86_64": "trixie",
    "python3.13-arm64": "trixie",
    "python3.14-arm64": "forky",
}
"""The release of Debian that has this CPython. None has 3.12."""

PACKAGES: Final = (
    "libc6,libstdc++6,libgcc-s1,zlib1g,ca-certificates,libcrypt1,libgmp10,libkrb5-3,libgssapi-krb5-2,libbz2-1.0"
)
"""Libraries that every runtime has, as Debian names them."""

MORE: Final = {
    "bookworm": "libfontconfig1,libfreetype6,libexpat1,libnsl2",
    "trixie": "libglib2.0-0t64,libxml2,libyaml-0-2,liblz4-1,libzstd1,libpcre2-8-0",
    "forky": "libglib2.0-0t64,libyaml-0-2,liblz4-1,libzstd1,libpcre2-8-0",
}

LOADER: Final = re.compile(
    r"cannot open shared object file|undefined symbol|version [`'].*' not found|invalid ELF header|wrong ELF class"
    r"|cannot enable executable stack|static TLS|cannot restore segment|cannot make segment writable|file too short"
    r"|unexpected reloc|cannot dynamically load|unsupported version"
)
"""What glibc's loader says."""

ABOUT_LOADING: Final = {
    "library-missing",
    "symbol-undefined",
    "symbol-version-missing",
    "glibc-too-new",
    "wrong-machine",
    "foreign-binary",
    "musl-linked",
    "abi-tag-mismatch",
    "executable-stack",
    "text-relocations",
    "library-shadowed",
    "pure-fallback",
}

JUDGED: Final = (
    ("clickhouse-connect", "No module named 'numpy'", "an extra brings numpy"),
    ("duckdb", "No module named 'adbc_driver_manager'", "an extra brings it"),
    ("gevent", "No module named '_cffi_backend'", "an alternative to the Cython loops, for who has cffi"),
    ("greenlet", "No module named 'psutil'", "tests of greenlet; the extra `test` brings psutil"),
    ("matplotlib", "_tkagg", "a window of Tk; no tkinter there"),
    ("opencv-python-headless", "cv2.cv2: .*Submodule name", "`cv2` loads this file itself, and imports"),
    ("pillow", "No module named 'tkinter'", "a window of Tk; no tkinter there"),
    ("scipy", "_matfuncs_sqrtm_triu", "imports in a circle when it is asked for first; nobody does"),
    (
        "soundfile",
        "libsndfile",
        "the wheels with this library need glibc 2.28, the pure one that is taken needs the system's",
    ),
    ("zstandard", "No module named '_cffi_backend'", "an extra brings cffi; the C backend imports"),
)
"""Distribution, what its failure says, and where that comes from."""

DRIVER: Final = r'''
import json, os, select, signal, struct, sys, traceback
job = json.load(open("/job/job.json"))
import ctypes, importlib
answer = os.dup(1)
quiet = os.open("/dev/null", os.O_RDWR)
os.dup2(quiet, 1); os.dup2(quiet, 2); os.dup2(quiet, 0)

def told(error):
    return "".join(traceback.format_exception(error))

def imported(name, say):
    try:
        importlib.import_module(name)
    except BaseException as error:
        lines = [line.strip() for line in told(error).splitlines()]
        say({"module": name, "error": f"{type(error).__name__}: {error}"[:600], "lines": lines})
    else:
        say({"module": name, "error": None})

def loaded(path, say):
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except BaseException as error:
        say({"file": path, "error": str(error)[:600]})
    else:
        say({"file": path, "error": None})

def in_child(work, things, seconds):
    """Give each thing to work in one child; a child that dies is told of, and the next goes on behind it."""
    things = list(things)
    while things:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            for thing in things:
                work(thing, lambda found: os.write(writing, json.dumps(found).encode() + b"\n"))
            os._exit(0)
        os.close(writing)
        buffer, done = b"", []
        while True:
            if not select.select([reading], [], [], seconds)[0]:
                os.kill(child, signal.SIGKILL)
            part = os.read(reading, 1 << 16)
            if not part:
                break
            buffer += part
            *lines, buffer = buffer.split(b"\n")
            done += map(json.loads, lines)
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        yield from done
        things = things[len(done):]
        if things:
            key = "module" if work is imported else "file"
            yield {key: things.pop(0), "error": f"the process ended ({os.waitstatus_to_exitcode(status)})"}

with os.fdopen(answer, "w") as out:
    for found in in_child(imported, job["modules"], job["seconds"]):
        out.write(json.dumps(found) + "\n")
    for path in job["files"]:
        for found in in_child(loaded, [path], job["seconds"]):
            out.write(json.dumps(found) + "\n")
    for name in job["alone"]:
        for found in in_child(imported, [name], job["seconds"]):
            out.write(json.dumps(found | {"alone": True}) + "\n")
'''


class Root:
    """A root file system with a bare CPython and no library that the runtime lacks."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.python = ".".join(map(str, target.python))
        self.folder = folder
        self.arm = target.machine == "aarch64"
        self.absent: frozenset[str] = frozenset()

    def make(self) -> None:
        """Unpack Debian's packages, and rename what Lambda does not have."""
        if not self.folder.exists():
            made = self.folder.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            self._unpack(made)
            self._hide(made)
            made.rename(self.folder)
        there = {file.name for folder in self._library_folders(self.folder) for file in folder.iterdir()}
        self.absent = frozenset(self.target.provided) - there

    def _unpack(self, folder: Path) -> None:
        suite = SUITES[str(self.target)]
        include = f"python{self.python},libpython{self.python},{PACKAGES},{MORE[suite]}"
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={include}"]
        command += ['--aptopt=Acquire::Check-Valid-Until "false"']
        command += [f"--architectures={'arm64' if self.arm else 'amd64'}", suite, str(folder), _mirror()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        for name in ("lib", "bin", "sbin", "lib64"):
            if not (folder / name).exists() and (folder / "usr" / name).exists():
                (folder / name).symlink_to(f"usr/{name}")
        for name in ("var/task", "opt", "proc", "dev", "tmp", "job", "qemu", "usr/lib/hidden"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "qemu" / "qemu").touch()
        with (folder / "etc" / "passwd").open("a", encoding="utf-8") as stream:
            stream.write("sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n")

    def _library_folders(self, folder: Path) -> list[Path]:
        triplet = f"{self.target.machine}-linux-gnu"
        found = [one for name in ("usr/lib", "lib") if (one := folder / name / triplet).is_dir()]
        return found[:1] if len(found) == 2 and found[0].samefile(found[1]) else found

    def _hide(self, folder: Path) -> None:
        """Rename the libraries that the runtime lacks, in file name, soname and every need of Debian's own files."""
        hidden = folder / "usr/lib/hidden"
        renamed: dict[str, str] = {}
        for libraries in self._library_folders(folder):
            for file in sorted(libraries.glob("*.so*")):
                if file.is_symlink() and file.name in self.target.provided:
                    real = file.resolve()
                    file.unlink()
                    shutil.copy2(real, file)
            for file in sorted(libraries.glob("*.so*")):
                if file.name in self.target.provided:
                    continue
                new = f"hidden-{file.name}"
                if file.exists():
                    shutil.copy2(file.resolve(), hidden / new)
                    renamed[file.name] = new
            for file in sorted(libraries.glob("*.so*")):
                if file.name not in self.target.provided:
                    file.unlink()
        users = [*hidden.iterdir(), *(folder / f"usr/lib/python{self.python}/lib-dynload").iterdir()]
        users += [file for libraries in self._library_folders(folder) for file in libraries.glob("*.so*")]
        users.append(folder / f"usr/bin/python{self.python}")
        for file in users:
            if file.name.startswith(("ld-linux", "libc.so")) or file.read_bytes()[:4] != b"\x7fELF":
                continue
            needed = subprocess.run(["patchelf", "--print-needed", file], capture_output=True, text=True, check=True)
            change = [["--replace-needed", name, renamed[name]] for name in needed.stdout.split() if name in renamed]
            if change:
                change.append(["--set-rpath", "/usr/lib/hidden"])
            if file.parent == hidden:
                change.append(["--set-soname", file.name])
            for one in change:  # Together, patchelf 0.14 takes one's argument for another's.
                subprocess.run(["patchelf", *one, file], check=True)

    def run(self, package: Path, job: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
        """Run the driver on a package; give what it says, and what stopped it."""
        with TemporaryDirectory() as text:
            folder = Path(text)
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
            folder.chmod(0o755)
            command = [*self._sandbox(package, folder), *self._interpreter(), "/job/driver.py"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return said, "" if done.returncode == 0 else f"exit status {done.returncode}: {done.stderr[-300:]}"

    def absent_libraries(self, package: Path, names: Iterable[str]) -> dict[str, str | None]:
        """Ask the loader which libraries each file would lack, all of them; None where it finds every one."""
        loader = "/lib/ld-linux-aarch64.so.1" if self.arm else "/lib64/ld-linux-x86-64.so.2"
        found: dict[str, str | None] = {}
        with TemporaryDirectory() as text:
            Path(text).chmod(0o755)
            for name in names:
                # `--list` stops at the first; so does not what `ldd` does.
                traced = [*self._sandbox(package, Path(text)), "--setenv", "LD_TRACE_LOADED_OBJECTS", "1"]
                command = [*traced, *self._emulator(), loader, f"/var/task/{name}"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                absent = sorted(set(re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)))
                if absent:
                    found[name] = f"{', '.join(absent)}: cannot open shared object file"
                else:
                    found[name] = done.stderr.strip()[-300:] or f"exit status {done.returncode}"
                    found[name] = found[name] if done.returncode else None
        return found

    def _emulator(self) -> list[str]:
        return ["/qemu/qemu", "-cpu", "neoverse-n1"] if self.arm else []

    def _interpreter(self) -> list[str]:
        return [*self._emulator(), f"/usr/bin/python{self.python}"]

    def _sandbox(self, package: Path, job: Path) -> list[str]:
        bound = ["--ro-bind", str(self.folder), "/", "--ro-bind", str(package), "/var/task"]
        bound += ["--ro-bind", str(job), "/job", "--tmpfs", "/tmp", "--proc", "/proc", "--tmpfs", "/dev"]
        if self.arm:
            bound += ["--ro-bind", shutil.which("qemu-aarch64-static") or "qemu-aarch64-static", "/qemu/qemu"]
        for device in ("null", "zero", "full", "random", "urandom"):
            bound += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
        bound += ["--symlink", "/proc/self/fd", "/dev/fd", "--remount-ro", "/dev"]
        bound += ["--unshare-all", "--die-with-parent", "--uid", "993", "--gid", "990", "--chdir", "/var/task"]
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
            "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:"
            "/var/task:/var/task/lib:/opt/lib",
            "PYTHONPATH": "/var/task",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        settings = [word for name, value in environment.items() for word in ("--setenv", name, value)]
        return ["nice", "bwrap", *bound, "--clearenv", *settings]


def _mirror() -> str:
    """Return the mirror this machine is set up with."""
    for file in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if found := re.search(r"^(?:URIs:|deb)\s+(\S+/debian)/?\s", text, re.MULTILINE):
            return found[1]
    return ""


class Package:
    """A built folder and what the distribution in question brought to it."""

    def __init__(self, folder: Path, requirement: str, target: Target) -> None:
        self.folder = folder
        self.target = target
        name = _normal(requirement.partition("[")[0])
        records = [one / "RECORD" for one in folder.glob("*.dist-info") if _normal(one.name.partition("-")[0]) == name]
        lines = records[0].read_text(encoding="utf-8").splitlines() if records else []
        self.files = [path for line in lines if (path := line.split(",")[0].strip('"')) and (folder / path).is_file()]
        self.natives = sorted(_natives(folder))

    @property
    def size(self) -> int:
        """Bytes of all files, as `stat` tells them."""
        return sum(file.lstat().st_size for file in self.folder.rglob("*") if file.is_file())

    def modules(self) -> list[str]:
        """Return the top-level modules, the packages that extension modules lie in, and the extension modules."""
        found: dict[str, None] = {}
        extensions = [name for path in self.files if (name := self.module(path))]
        for path in self.files:
            if path.endswith(".py") and "/" not in path:
                found[path.removesuffix(".py")] = None
            elif path.endswith("/__init__.py"):
                parts = path.split("/")[:-1]
                above = (self.folder.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts)))
                if all(map(str.isidentifier, parts)) and not any(one.exists() for one in above):
                    found[".".join(parts)] = None
        for name in extensions:
            if "." in name:
                found.setdefault(name.rpartition(".")[0])
        return [*found, *(name for name in extensions if name not in found)]

    def module(self, path: str) -> str | None:
        """Return the dotted name by which Python imports a file of the package as an extension module."""
        major, minor = self.target.python
        tags = (f".cpython-{major}{minor}-{self.target.machine}-linux-gnu", ".abi3", "")
        folder, _, name = path.rpartition("/")
        for tag in tags:
            stem = name.removesuffix(f"{tag}.so")
            if name.endswith(f"{tag}.so") and stem.isidentifier():
                parts = [*folder.split("/"), stem] if folder else [stem]
                if stem == "__init__":
                    parts.pop()
                if f"PyInit_{parts[-1]}".encode() not in (self.folder / path).read_bytes():
                    return None
                return ".".join(parts) if all(map(str.isidentifier, parts)) else None
        return None


def _natives(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield every ELF file, and whether it is a program: one that names its loader and is no library by name."""
    for file in folder.rglob("*"):
        if not file.is_file() or file.is_symlink():
            continue
        with file.open("rb") as stream:
            head = stream.read(4096)
        if head[:4] == b"\x7fELF":
            kind = int.from_bytes(head[16:18], "little")
            if kind in {2, 3}:
                yield file.relative_to(folder).as_posix(), ".so" not in file.name and b"ld-linux" in head


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _too_new(file: Path, target: Target) -> str | None:
    """Return the versions over the runtime's that a file needs of its libraries, weak needs left out, by `readelf`."""
    done = subprocess.run(["readelf", "-VW", str(file)], capture_output=True, text=True, check=False)
    ceilings = {name: target.symbol_versions[name] for name in ("GLIBC", "GLIBCXX", "CXXABI", "GCC")}
    found: set[str] = set()
    library = ""
    for line in done.stdout.partition("Version needs section")[2].splitlines():
        if match := re.search(r"File: (\S+)", line):
            library = match[1]
        elif match := re.search(r"Name: (([A-Z]+)_(\S+))\s+Flags: none", line):
            # A file with relative relocations packed says so by this name, which came with glibc 2.36.
            version = "2.36" if match[1] == "GLIBC_ABI_DT_RELR" else match[3]
            known = match[2] in ceilings and library in target.provided and re.fullmatch(r"[\d.]+", version)
            if known and _numbers(version) > _numbers(ceilings[match[2]]):
                found.add(match[1])
    return ", ".join(sorted(found)) or None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class Proofs:
    """What was found, kept in a file after each package."""

    def __init__(self, work: Path, target: str) -> None:
        self.work = work
        self.file = work / f"proofs-{target}.json"
        self.target = Target.parse(target)
        self.root = Root(self.target, work / f"root-{target}")
        self.found: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            self.found = json.loads(self.file.read_text(encoding="utf-8"))
        self.lock = Lock()

    def look(self, requirement: str) -> dict[str, Any]:
        """Build, audit and run one distribution."""
        with TemporaryDirectory(dir=self.work) as text:
            folder = Path(text)
            folder.chmod(0o755)
            file = folder / "requirements.txt"
            file.write_text(requirement + "\n", encoding="utf-8")
            command = [sys.executable, "-m", "manylambda", "build", "--kind", "dir", "--no-audit", "-r", str(file)]
            command += ["-t", str(self.target), "-o", str(folder / "out"), "--name", "p", "-q", str(folder)]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode:
                return {"none": built.stderr.strip()}
            package = Package(next((folder / "out").iterdir()), requirement, self.target)
            examined = examine(file, self.target)
            findings = [one for one in examined.report.findings if one.severity is not Severity.NOTE or one.path]
            return {
                "findings": [one.to_json() for one in findings],
                "shared_objects": examined.report.shared_objects,
                "audited_size": examined.report.unzipped_size,
                "size": package.size,
                "readelf": dict(_needs_proved(package, findings)),
                **self._run(package, findings, _loaded_together(examined.subject)),
            }

    def _run(
        self, package: Package, findings: Sequence[Finding], together: Mapping[str, frozenset[str]]
    ) -> dict[str, Any]:
        too_new = {}
        for path, _ in package.natives:
            needed = _too_new(package.folder / path, self.target)
            if needed is not None:
                too_new[path] = needed
        told = {
            "natives": len(package.natives),
            "too_new": {
                path: {"needed": needed, "told": _told(path, needed, findings, together)}
                for path, needed in sorted(too_new.items())
            },
        }
        if str(self.target) not in SUITES:
            return told
        libraries: list[str] = []
        programs: list[str] = []
        for path, is_program in package.natives:
            (programs if is_program else libraries).append(path)
        names = package.modules()
        job = {"modules": names, "files": [f"/var/task/{path}" for path in libraries], "alone": [], "seconds": 240}
        said, stopped = self.root.run(package.folder, job)
        loads = {one["file"].removeprefix("/var/task/"): one["error"] for one in said if "file" in one}
        imports = [one for one in said if "module" in one]
        loads |= self.root.absent_libraries(package.folder, programs)
        failed = {path: error for path, error in loads.items() if error}
        good = set(loads).difference(failed)
        # A file that does not load alone may load behind its package, as Python would come to it.
        modules = {path: name for path in failed if (name := package.module(path))}
        alone: dict[str, Any] = {}
        if modules:
            job |= {"modules": [], "files": [], "alone": list(modules.values())}
            said, more = self.root.run(package.folder, job)
            stopped = stopped or more
            alone = {one["module"]: one["error"] for one in said}
        return told | {
            "modules": len(imports),
            "stopped": stopped,
            "listed": self.root.absent_libraries(
                package.folder,
                sorted({one.path for one in findings if one.rule == "library-missing" and one.path is not None}),
            ),
            "imports_failed": [
                {"module": one["module"], "error": one["error"], "loader": _loader_lines(one)}
                for one in imports
                if one["error"]
            ],
            "loads_failed": {
                path: {
                    "error": error.replace("/var/task/", ""),
                    "program": path in programs,
                    "module": modules.get(path),
                    "as_module": alone.get(modules.get(path, ""), "") if path in modules else None,
                    "behind": min((one for one in good if path in together.get(one, ())), default=None),
                    "told": _told(path, error, findings, together),
                }
                for path, error in sorted(failed.items())
            },
            "loaded": sorted(path for path, error in loads.items() if not error and _named(path, findings)),
        }


def _needs_proved(package: Package, findings: Iterable[Finding]) -> Iterator[tuple[str, str]]:
    """Yield for each library said to be missing what `readelf` shows of the need, and whether a file could serve it."""
    for one in findings:
        if (
            one.rule != "library-missing"
            or one.path is None
            or not (found := re.search("needs `([^`]+)`", one.message))
        ):
            continue
        command = ["readelf", "-dW", str(package.folder / one.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        need = f"(NEEDED) Shared library: [{found[1]}]"
        shown = any(" ".join(line.split()).endswith(need) for line in done.stdout.splitlines())
        there = [file.relative_to(package.folder).as_posix() for file in package.folder.rglob(found[1])]
        known = found[1] in package.target.provided
        yield (
            f"{one.path}: {found[1]}",
            (
                f"{need if shown else 'no such need'}; {'in' if known else 'not in'} the runtime; "
                f"{' '.join(there) or 'no file of that name in the package'}"
            ),
        )


def _loader_lines(one: Mapping[str, Any]) -> list[str]:
    return [line for line in one.get("lines", ()) if LOADER.search(line)][:3]


def _named(path: str, findings: Iterable[Finding]) -> bool:
    return any(one.path == path and one.rule in ABOUT_LOADING for one in findings)


def _loaded_together(subject: Any) -> dict[str, frozenset[str]]:
    """Return for each file of the package those that the loader brings with it, itself included."""
    users: dict[str, set[str]] = {}
    for link in subject.linkage.links:
        if link.provider is not None:
            users.setdefault(subject.shown(link.needer), set()).add(subject.shown(link.provider))
    found = {}
    for path in users:
        reached, waiting = {path}, [path]
        while waiting:
            new = users.get(waiting.pop(), set()) - reached
            reached |= new
            waiting += new
        found[path] = frozenset(reached)
    return found


def _told(path: str, error: str, findings: Iterable[Finding], together: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the findings that tell of this error: about this file or one it brings, or naming the same library."""
    files = together.get(path, frozenset({path}))
    library = match[1] if (match := re.search(r"(\S+): cannot open shared object", error)) else None
    found = []
    for one in findings:
        if one.rule not in ABOUT_LOADING:
            continue
        same = one.rule == "library-missing" and library is not None and f"`{library}`" in one.message
        if same or (library is None and one.path in files):
            found.append(f"{one.severity.value} {one.rule}: {one.path}: {one.message}")
    return found


def prove(work: Path, target: str, only: Iterable[str], jobs: int) -> None:
    """Look at what has no proof yet, or at `only`."""
    proofs = Proofs(work, target)
    if target in SUITES:
        proofs.root.make()
    names = [line.strip() for line in NAMES.read_text(encoding="utf-8").splitlines() if line.strip()]
    wanted = set(only)

    def one(name: str) -> None:
        begin = time.perf_counter()
        found = proofs.look(name)
        with proofs.lock:
            proofs.found[name] = found
            written = proofs.file.with_suffix(".new")
            written.write_text(json.dumps(dict(sorted(proofs.found.items())), indent=1) + "\n", encoding="utf-8")
            written.replace(proofs.file)
        verdict = found.get("none") or (
            f"{found.get('modules', 0)} modules, {len(found.get('imports_failed', ()))} fail; "
            f"{found['natives']} files, {len(found.get('loads_failed', ()))} fail; "
            f"{len(found['too_new'])} need newer versions; {found.get('stopped', '')}"
        )
        print(f"{name} {target}: {verdict} ({time.perf_counter() - begin:.1f} s)", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        list(pool.map(one, (name for name in names if (name in wanted if wanted else name not in proofs.found))))


METHOD: Final = """# Proofs of the survey

<!-- Generated by `tools/prove_survey.py WORK --page`. -->

What the [survey](survey.md) says, held against what happens. Each package is built as a folder and run by Debian's
CPython of the same minor version (arm64 under qemu as a Neoverse N1), read-only and without network, with Lambda's
`LD_LIBRARY_PATH`, and with the libraries that Amazon Linux lacks hidden. Then

- the distribution's modules are imported: the top level, packages with extension modules, extension modules;
- every shared object of the whole package is given to `dlopen` with `RTLD_NOW` in a process of its own, and every
  program to `ldd`;
- `readelf` tells the symbol versions of glibc, libstdc++ and libgcc that each file needs, for Debian's libraries are
  newer than Lambda's and would serve it.

What this cannot show: libraries of Amazon Linux that Debian has under another name, the symbol versions of
other libraries, and anything that happens after the import. Debian has no CPython 3.12: for
`python3.12-arm64` only `readelf` and the count of bytes speak, about the packages with errors.

| target | on | packages | not resolved | modules that import | not | files that load | not alone | too new |
"""


BEHIND: Final = "a module that needs it leads to what it needs, and loads"


def page(work: Path) -> str:
    """Return the page from what is in the folder."""
    everything = {
        target: json.loads(file.read_text(encoding="utf-8"))
        for target in sorted({*SUITES, "python3.12-arm64"})
        if (file := work / f"proofs-{target}.json").exists()
    }
    proofs = [_Proved(name, target, one) for target, row in everything.items() for name, one in row.items()]
    looked = [one for one in proofs if "none" not in one.found]
    behind = sum(row[-1] == BEHIND for one in looked for row in one.other_files())
    misses = [text for one in looked for text in one.misses()]
    alarms = [text for one in looked for text in one.alarms()]
    good = [one for one in looked if "modules" in one.found and not one.is_bad()]
    whole = [one for one in good if not one.found["imports_failed"]]
    lines = [
        *METHOD.splitlines(),
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_counts(target, [one for one in proofs if one.target == target]) for target in everything),
        "",
        f"Of {len(good)} packages that were run and have no error about loading, {len(whole)} import whole; what does",
        "not import of the others is listed below, and why.",
        "",
        f"Misses (it does not load, and the audit does not say so): **{len(misses)}**. False alarms (an error about a",
        f"file that loads, or one without proof): **{len(alarms)}**.",
        "",
        *(f"- {text}" for text in (*misses, *alarms)),
        *([""] if misses or alarms else []),
        "## Every error and what proves it",
        "",
        "| distribution | targets | error | proof |",
        "|---|---|---|---|",
        *_rows((one.name, rule, proof, target) for one in looked for target, rule, proof in one.errors()),
        "",
        "## Modules that do not import although the audit finds nothing",
        "",
        "None of these is a fault of the package's files.",
        "",
        "| distribution | targets | module | what it says | why |",
        "|---|---|---|---|---|",
        *_rows((one.name, *row, one.target) for one in looked for row in one.other_imports()),
        "",
        "## Files that do not load alone",
        "",
        f"Besides those that an error tells of, and {behind:,} for which it is right: {BEHIND}.",
        "",
        "| distribution | targets | file | what the loader says | why it is right |",
        "|---|---|---|---|---|",
        *_rows((one.name, *row, one.target) for one in looked for row in one.other_files() if row[-1] != BEHIND),
        "",
        "## Warnings about loading",
        "",
        "| distribution | targets | warning | what happens |",
        "|---|---|---|---|",
        *_rows((one.name, *row, one.target) for one in looked for row in one.warnings()),
        "",
    ]
    return "\n".join(lines)


def _counts(target: str, proofs: Sequence[_Proved]) -> str:
    looked = [one.found for one in proofs if "none" not in one.found]
    ran = target in SUITES
    numbers = [
        len(looked),
        len(proofs) - len(looked),
        sum(one["modules"] - len(one["imports_failed"]) for one in looked) if ran else "",
        sum(len(one["imports_failed"]) for one in looked) if ran else "",
        sum(one["natives"] - len(one["loads_failed"]) for one in looked) if ran else "",
        sum(len(one["loads_failed"]) for one in looked) if ran else "",
        sum(len(one["too_new"]) for one in looked),
    ]
    system = f"Debian {SUITES[target]}" if ran else "not run"
    cells = [f"{one:,}" if isinstance(one, int) else one for one in numbers]
    return f"| `{target}` | {system} | {' | '.join(cells)} |"


def _rows(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield a table's lines, the targets of equal rows in one cell; the last of each row is its target."""
    targets: dict[tuple[str, ...], list[str]] = {}
    for *cells, target in rows:
        targets.setdefault(tuple(cells), []).append(target.removeprefix("python"))
    for (name, *cells), several in sorted(targets.items()):
        safe = [cell.replace("|", "\\|") for cell in cells]
        yield f"| {name} | {', '.join(several)} | {' | '.join(safe)} |"


class _Proved(NamedTuple):
    """What was found about one distribution on one target, and what follows."""

    name: str
    target: str
    found: Mapping[str, Any]

    def _findings(self, severity: str) -> list[dict[str, Any]]:
        return [one for one in self.found["findings"] if one["severity"] == severity]

    def is_bad(self) -> bool:
        """Whether the audit has an error about loading."""
        return any(one["rule"] in ABOUT_LOADING for one in self._findings("error"))

    def errors(self) -> Iterator[tuple[str, str, str]]:
        """Yield target, error and proof."""
        for one in self._findings("error"):
            yield self.target, f"{one['rule']}: {self._text(one)}", self._proof(one)

    def _text(self, one: Mapping[str, Any]) -> str:
        place = f"`{_short(one['path'])}`: " if one["path"] else ""
        return place + re.sub(r" \(loaded by .*?\)|; \d+ more files? of it .*|; largest: .*", "", one["message"])

    def _proof(self, one: Mapping[str, Any]) -> str:
        if one["rule"] == "unzipped-too-large":
            return f"`stat` counts {self.found['size']:,} bytes"
        told = []
        failure = self.found.get("loads_failed", {}).get(one["path"])
        library = match[1] if (match := re.search("needs `([^`]+)`", one["message"])) else ""
        if failure and (not library or library in failure["error"]):
            told.append(f"run: `{_short(failure['error'])}`")
        elif library in (self.found.get("listed", {}).get(one["path"]) or "").split(":")[0].split(", "):
            told.append(f"`ldd`: `{library} => not found`")
        if proof := self.found["readelf"].get(f"{one['path']}: {library}"):
            told.append(f"`readelf`: {proof}")
        return "; ".join(told) or "none"

    def misses(self) -> Iterator[str]:
        """Yield what does not load and is not told."""
        known = " ".join(one["message"] for one in self.found["findings"] if one["rule"] in ABOUT_LOADING)
        lacks_library = any(
            one["rule"] == "pure-fallback" and "library or program" in one["message"] for one in self.found["findings"]
        )
        for one in self.found.get("imports_failed", ()):
            if lacks_library:
                continue  # told by a warning: the wheels for other systems bring what this one lacks
            libraries = re.findall(r"([^\s']+): cannot open", " ".join(one["loader"]))
            if one["loader"] and not any(f"`{library}`" in known for library in libraries):
                why = _judged(self.name, f"{one['module']}: {one['error']}")
                told = f"`{one['module']}` does not import: `{_short(one['error'])}`"
                yield f"{self.name} ({self.target}): {told}" + (f": {why}" if why else "")
        for path, one in self.found.get("loads_failed", {}).items():
            if not one["told"] and not self._excuse(path, one):
                yield f"{self.name} ({self.target}): `{path}` does not load: `{one['error']}`"
        for path, one in self.found["too_new"].items():
            if not one["told"]:
                yield f"{self.name} ({self.target}): `{path}` needs {one['needed']}"

    def alarms(self) -> Iterator[str]:
        """Yield the errors about files that load."""
        for one in self._findings("error"):
            if one["rule"] in ABOUT_LOADING and one["path"] in self.found.get("loaded", ()):
                yield f"{self.name} ({self.target}): `{one['path']}` loads: {one['rule']}: {one['message']}"
            elif self._proof(one) == "none" or (
                one["rule"] == "unzipped-too-large" and f"{self.found['size']:,}" not in one["message"]
            ):
                yield f"{self.name} ({self.target}): no proof of {one['rule']}: {one['message']}"

    def other_imports(self) -> Iterator[tuple[str, str, str]]:
        """Yield the modules that fail for another reason than the loader's."""
        for one in self.found.get("imports_failed", ()):
            if not one["loader"]:
                why = _judged(self.name, f"{one['module']}: {one['error']}")
                yield f"`{one['module']}`", f"`{_short(one['error'])[:160]}`", why or "**not judged**"

    def other_files(self) -> Iterator[tuple[str, str, str]]:
        """Yield the files that fail alone and that no error tells of."""
        for path, one in self.found.get("loads_failed", {}).items():
            if not any(text.startswith("error") for text in one["told"]):
                why = self._excuse(path, one)
                if one["told"]:
                    why = f"{one['told'][0].partition(':')[0]} of the audit" + (f"; {why}" if why else "")
                yield f"`{_short(path)}`", f"`{_short(one['error'])[:160]}`", why or "**a miss**"

    def _excuse(self, path: str, one: Mapping[str, Any]) -> str:
        if one["behind"]:
            return BEHIND
        if one["module"] and one["as_module"] is None:
            return "imports: its package loads before what it needs"
        return _judged(self.name, f"{path}: {one['error']}")

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield the warnings about a file, and whether it loads."""
        for one in self._findings("warning"):
            if one["rule"] in ABOUT_LOADING and one["path"] and "loaded" in self.found:
                failure = self.found["loads_failed"].get(one["path"])
                happens = "loads here" if one["path"] in self.found["loaded"] else "not loaded"
                if failure:
                    happens = f"`{_short(failure['error'])[:200]}`"
                yield f"{one['rule']}: {self._text(one)}", happens


def _short(text: str) -> str:
    """Leave out of file names what differs between targets and says nothing: tags and hashes."""
    text = re.sub(r"\.cpython-\d+-\w+-linux-gnu\.so", ".so", text)
    text = re.sub(r"-[0-9a-f]{8}(?=[.-])", "", text)
    return text.replace(": No such file or directory", "")


def _judged(name: str, text: str) -> str:
    return next((why for one, pattern, why in JUDGED if one == name and re.search(pattern, text)), "")


def main(argv: Sequence[str] | None = None) -> int:
    """Prove, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, metavar="WORK", help="the folder for roots and results")
    parser.add_argument("--target", default="python3.13-x86_64", help="without a CPython in Debian, only `readelf`")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="look at these anew")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page from what is in WORK")
    arguments = parser.parse_args(argv)
    if arguments.page:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(arguments.work), encoding="utf-8")
        return 0
    arguments.work.mkdir(parents=True, exist_ok=True)
    prove(arguments.work.resolve(), arguments.target, filter(None, arguments.only.split(",")), arguments.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
