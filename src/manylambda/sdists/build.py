"""Builds source code into wheels: folders of this machine (dependencies, the project itself) and allowed archives.

What looks pure is built with no compiler in reach, once for all targets. What looks native, or asked for a compiler
after all, is compiled for the target: with zig on this host, or in a container. The outcome is kept by what went in.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from manylambda.archive import write_zip
from manylambda.errors import PackagingError
from manylambda.host import folders
from manylambda.host.interpreters import download_interpreter, find_interpreter
from manylambda.host.model import Unusable
from manylambda.locks.model import LocalPackage, ResolveOptions
from manylambda.progress import SILENT
from manylambda.sdists import failures, requirements, wheel
from manylambda.sdists.backend import Backend, BuildFailed, read_build_system
from manylambda.sdists.isolation import PLACE, Bare, Bubblewrap, Isolation, Seen, bubblewrap, programs
from manylambda.sdists.model import BuildSettings, BuiltWheel, Fallback
from manylambda.sdists.source import Archive, Folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from manylambda.fetch import Cache
    from manylambda.host.interpreters import Interpreter
    from manylambda.progress import Progress
    from manylambda.sdists.nature import Nature
    from manylambda.sdists.source import Copy
    from manylambda.target import Target

# Raise it when the same source would give another wheel.
_RECIPE: Final = 2
_WORKERS: Final = 4
_KIND: Final = "built-wheel"
# The same on every host, as far as a backend heeds them. 1980 is the first year a zip can name.
_SETTINGS: Final = {
    "SOURCE_DATE_EPOCH": "315532800",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "PYTHONNOUSERSITE": "1",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "PIP_NO_INDEX": "1",
    "NO_COLOR": "1",
}


class Source(Protocol):
    """What is built."""

    name: str
    """Normalised."""
    where: str
    """For a message: the archive's name, or the folder."""
    key: str | None
    """All of it that decides the outcome, hashed; None when that is not in its files."""

    def nature(self) -> Nature:
        """Look at its files."""

    def copy(self, room: Path) -> Copy:
        """Give a tree below `room` that the build may write to."""


class _AskedForCompiler(Exception):
    """What looked pure is not: the build ran a compiler, or made a wheel with code of this host."""


class Builder:
    """Builds whatever one command needs."""

    def __init__(
        self,
        *,
        settings: BuildSettings | None = None,
        environment: Mapping[str, str] = os.environ,
        cache: Cache,
        progress: Progress = SILENT,
    ) -> None:
        """`environment` is where uv takes its settings and logins from; a build sees nothing of it."""
        self._settings = settings or BuildSettings()
        self._cache = cache
        self._progress = progress
        self._options = ResolveOptions(
            offline=self._settings.offline,
            environment={**environment, **self._settings.indexes.uv_environment()},
        )

    def folders(self, packages: Sequence[LocalPackage], target: Target) -> dict[LocalPackage, BuiltWheel]:
        """Build source trees of this machine, a few at once; see `build`."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_WORKERS) as pool:
            running = {package: pool.submit(self.build, Folder(package), target) for package in dict.fromkeys(packages)}
            return {package: future.result() for package, future in running.items()}

    def archive(self, name: str, archive: Path, sha256: str, target: Target) -> BuiltWheel:
        """Build an sdist whose hash was checked; see `build`. Raises UnsafeArchive for one that leads out."""
        return self.build(Archive(name, archive, sha256), target)

    def build(self, source: Source, target: Target) -> BuiltWheel:
        """Build a wheel that runs on `target`, or find the one built before from the same.

        This runs code of whoever wrote the source. Raises `PackagingError` when the build fails, makes another package
        or one that does not run on `target`; NotCached when it needs something and may not fetch it.
        """
        pure, native = self._key(source, None), self._key(source, target)
        for key in (pure, native):
            known = self._recall(key, target) if key else None
            if known is not None:
                self._progress.detail(f"`{source.name}` is unchanged since it was built")
                return known
        task = self._progress.task("build", source.name, None, unit="items")
        try:
            nature = source.nature()
            if not nature.is_native:
                try:
                    built = _Build(self, source, nature, target).pure()
                except _AskedForCompiler:
                    self._progress.detail(f"`{source.name}` asked for a compiler: building it for {target}")
                else:
                    # With a `setup.py` that asks for its Python the next target's may be another one.
                    self._keep(native if nature.asks_python else pure, built)
                    return built
            built = _Build(self, source, nature, target).native()
            self._keep(native, built)
            return built
        finally:
            task.finish()

    def _key(self, source: Source, target: Target | None) -> str | None:
        """Hash all that decides the wheel; `target` is None for one that is the same for all."""
        if source.key is None:
            return None
        own = self._settings
        decisive: list[Any] = [
            source.name,
            source.key,
            own.config_settings.get(source.name),
            own.environment.get(source.name),
            sorted(own.constraints),
        ]
        if target is not None:
            decisive += [str(target.python), target.machine, str(target.glibc), self._engine_identity()]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def _engine_identity(self) -> str:
        from manylambda.sdists.toolchain import ZIG

        sysroot = self._settings.sysroot
        return f"{self._settings.engine} {self._settings.image} zig {ZIG} {sysroot}"

    def _recall(self, key: str, target: Target) -> BuiltWheel | None:
        """Give the wheel that an earlier build made, if it is still what it was and is for the target."""
        from manylambda.locks.compatibility import wheel_fit

        fact = self._cache.read_facts(_KIND, _RECIPE, key)
        if not isinstance(fact, dict) or wheel_fit(fact["filename"], target) is None:
            return None
        path = self._cache.wheel_path(fact["sha256"], fact["filename"])
        if not self._cache.verify(path, fact["sha256"]):
            return None
        fallback = fact["fallback"]
        return BuiltWheel(path, Fallback(tuple(fallback[0]), fallback[1]) if fallback else None)

    def _keep(self, key: str | None, built: BuiltWheel) -> None:
        if key is not None:
            fact = {"sha256": built.path.parent.name, "filename": built.path.name, "fallback": built.fallback}
            self._cache.write_facts(_KIND, _RECIPE, key, fact)


class _Build:
    """One build: its folder and all that is made in it."""

    def __init__(self, builder: Builder, source: Source, nature: Nature, target: Target) -> None:
        self._settings = builder._settings
        self._cache = builder._cache
        self._progress = builder._progress
        self._options = builder._options
        self._source = source
        self._nature = nature
        self._target = target

    def pure(self) -> BuiltWheel:
        """Build with no compiler in reach. Raises `_AskedForCompiler` when one is wanted after all."""
        python = self._own_python()
        with folders.folder() as room:
            copy = self._source.copy(_made(room / "source"))
            isolation = self._isolation(room, copy, python, ())
            tools = _made(room / "tools")
            _write_stubs(tools / "bin", f"{isolation.root}/work/asked")
            try:
                raw = self._run(room, copy, isolation, python, {"CC": "cc", "CXX": "c++"})
            except BuildFailed as failure:
                if _asked(room):
                    raise _AskedForCompiler from failure
                raise self._failed(failure, room) from failure
            unpacked = wheel.unpack(raw, _made(room / "unpacked"))
            if _asked(room) or unpacked.natives() or not raw.name.endswith("-any.whl"):
                raise _AskedForCompiler
            return self._finished(unpacked, None)

    def native(self) -> BuiltWheel:
        """Compile for the target."""
        from manylambda.sdists import headers, toolchain

        python = self._target_python()
        zig = toolchain.find_zig(self._cache, self._options, self._progress)
        with folders.folder() as room:
            staged = headers.stage(self._target, python, _made(room / "headers"))
            chain = toolchain.Toolchain(target=self._target, zig=zig, headers=staged, sysroot=self._settings.sysroot)
            copy = self._source.copy(_made(room / "source"))
            seen = [Seen(str(zig), "/zig")]
            isolation = self._isolation(room, copy, python, seen)
            tools = _made(room / "tools")
            environment = toolchain.lay_out(
                chain,
                tools,
                isolation.root,
                python=_python_of(isolation.root),
                zig="/zig" if isolation.is_closed else str(zig),
            )
            zigs = _made(room / "work") / "zig"
            toolchain.warm(chain, self._cache, zigs, is_cpp=self._nature.is_cpp, progress=self._progress)
            environment |= {
                "ZIG_GLOBAL_CACHE_DIR": f"{isolation.root}/work/zig",
                "ZIG_LOCAL_CACHE_DIR": f"{isolation.root}/work/zig",
            }
            settings = toolchain.backend_settings(self._nature.backend, f"{isolation.root}/tools")
            try:
                raw = self._run(room, copy, isolation, python, environment, settings=settings)
            except BuildFailed as failure:
                raise self._failed(failure, room) from failure
            unpacked = wheel.unpack(raw, _made(room / "unpacked"))
            tag = wheel.platform_tag(unpacked.natives(), self._target.machine)
            return self._finished(unpacked, tag, self._fallback(room, tag))

    def _run(
        self,
        room: Path,
        copy: Copy,
        isolation: Isolation,
        python: Interpreter,
        environment: Mapping[str, str],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> Path:
        """Run the backend; give the wheel it made."""
        name, root = self._source.name, isolation.root
        for folder in ("work", "work/home", "work/tmp", "out", "env"):
            (room / folder).mkdir(exist_ok=True)
        _write_hook(room / "tools")
        programs(room / "tools" / "programs")
        separator = os.pathsep
        scripts = "Scripts" if os.name == "nt" else "bin"
        own = self._settings
        complete = {
            **_SETTINGS,
            "PATH": separator.join([f"{root}/tools/bin", f"{root}/env/{scripts}", f"{root}/tools/programs"]),
            "HOME": f"{root}/work/home",
            "TMPDIR": f"{root}/work/tmp",
            "TEMP": f"{root}/work/tmp",
            "TMP": f"{root}/work/tmp",
            **environment,
            **own.environment.get(name, {}),
        }
        told: dict[str, Any] = {**(settings or {}), **own.config_settings.get(name, {})}
        system = read_build_system(copy.folder, name)
        link = "hardlink" if isolation.is_closed else "copy"

        def install(wanted: Sequence[str]) -> None:
            locked = requirements.resolve(
                name, wanted, constraints=own.constraints, python=python, scratch=room / "work", options=self._options
            )
            requirements.install(
                name, locked, room / "env", python=python, scratch=room / "work", options=self._options, link=link
            )
            if "MANYLAMBDA_TARGET" in environment:
                _describe_target(room / "env", room / "tools" / "cross.py")

        install(system.requires)
        backend = Backend(
            system,
            isolation,
            source=f"{root}/source/{copy.folder.relative_to(room / 'source').as_posix()}",
            python=_python_of(root),
            environment=complete,
            hear=lambda line: self._progress.detail(f"{name}: {line}"),
        )
        self._log = backend.log
        more = backend.requires(told)
        if more:
            install([*system.requires, *more])
        filename = backend.wheel(f"{root}/out", told)
        raw = room / "out" / os.path.basename(filename)  # noqa: PTH119 - the build's word, of whatever kind
        if not raw.is_file():
            raise PackagingError(f"the build of `{name}` made no wheel: `{filename}` is not there")
        self._check_name(raw.name)
        return raw

    def _finished(self, unpacked: wheel.Unpacked, tag: str | None, fallback: Fallback | None = None) -> BuiltWheel:
        """Put the wheel into the cache, if the target runs it."""
        from manylambda.locks.compatibility import wheel_refusal

        tree, filename = wheel.finish(unpacked, tag)
        refused = wheel_refusal(filename, self._target)
        if refused is not None:
            raise PackagingError(
                f"`{filename}`, built from the source of `{self._source.name}`, does not run on `{self._target}`: "
                f"it {refused.sentence}"
            )
        with self._cache.writing(filename):
            temporary = self._cache.incoming(f"{os.getpid():x}-{os.urandom(8).hex()}.whl")
            sha256 = write_zip(tree, temporary).sha256
            return BuiltWheel(self._cache.keep(temporary, sha256, filename), fallback)

    def _fallback(self, room: Path, tag: str | None) -> Fallback | None:
        """Say that the wheel came without the compiled part that its source has."""
        if tag is not None:
            return None
        told = failures.read(room / "work" / "failures")
        if not self._nature.sources and not told:
            return None
        return Fallback(self._nature.sources[:3], failures.first_cause(told))

    def _check_name(self, filename: str) -> None:
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        name = self._source.name
        try:
            built, version, _, _ = parse_wheel_filename(filename)
        except InvalidWheelFilename as error:
            raise PackagingError(f"the build of `{name}` made `{filename}`, which is no wheel: {error}") from error
        if built != name:
            raise PackagingError(
                f"the source of `{name}` builds a package called `{built}`: {self._source.where}",
                hint=f"lock again, or rename one of them (`{filename}` is version {version})",
            )

    def _failed(self, failure: BuildFailed, room: Path) -> PackagingError:
        """Show all that the build said, and make the error that says what it comes down to."""
        name = self._source.name
        told = failures.read(room / "work" / "failures")
        self._progress.info(f"the build of `{name}` said:")
        for line in failure.log:
            self._progress.info(f"  {line}")
        found = failures.explain(name, failure.log, told, self._target, sysroot=self._settings.sysroot is not None)
        where = f" for `{self._target}`" if self._nature.is_native else ""
        return PackagingError(f"`{name}` cannot be built{where}: {found.cause}", hint=found.hint)

    # What a build is made of

    def _isolation(self, room: Path, copy: Copy, python: Interpreter, seen: Sequence[Seen]) -> Isolation:
        for folder in ("work", "out", "env", "tools"):
            (room / folder).mkdir(exist_ok=True)
        program = bubblewrap()
        if program is None:
            if sys.platform == "linux":
                self._progress.warning(
                    f"the build of `{self._source.name}` is not kept from the network and from your files: there is no "
                    "bubblewrap that works here"
                )
            return Bare(room)
        shown = [*seen, *(Seen(prefix, prefix) for prefix in python.prefixes if not _is_below(prefix, "/usr"))]
        if copy.git is not None:
            shown.append(Seen(str(copy.git), str(copy.git)))
        if self._settings.sysroot is not None:
            _made(room / "sysroot")
            shown.append(Seen(str(self._settings.sysroot), f"{PLACE}/sysroot"))
        return Bubblewrap(program, room, shown, writable=("source", "work", "out"))

    def _own_python(self) -> Interpreter:
        """Give the Python that builds what has no compiled code: the target's where it matters, else our own."""
        if self._nature.asks_python and self._target.python != sys.version_info[:2]:
            found = find_interpreter(self._target.python)
            if not isinstance(found, Unusable):
                return found
            self._progress.warning(
                f"the `setup.py` of `{self._source.name}` asks which Python runs it, and was run by "
                f"{sys.version_info[0]}.{sys.version_info[1]}: {found.reason}"
            )
        own = find_interpreter((sys.version_info[0], sys.version_info[1]))
        if isinstance(own, Unusable):
            raise PackagingError(f"`{self._source.name}` cannot be built: {own.reason}")
        return own

    def _target_python(self) -> Interpreter:
        """Give a CPython of the target's minor version, which runs the build and has the headers."""
        found = find_interpreter(self._target.python)
        if isinstance(found, Unusable) and self._settings.download_python and not self._settings.offline:
            found = download_interpreter(self._target.python, progress=self._progress)
        if isinstance(found, Unusable):
            minor = "{}.{}".format(*self._target.python)
            raise PackagingError(
                f"`{self._source.name}` has to be compiled for `{self._target}` with a CPython {minor}: {found.reason}",
                hint=f"`--download-python` lets uv fetch one, as `uv python install {minor}` does; "
                "or `--sdist-engine container` builds in an image that has it",
            )
        return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _python_of(root: str) -> str:
    return f"{root}/env/Scripts/python.exe" if os.name == "nt" else f"{root}/env/bin/python"


def _asked(room: Path) -> bool:
    return (room / "work" / "asked").exists()


def _write_hook(tools: Path) -> None:
    """Put the script that calls a hook where the build finds it."""
    from importlib.resources import files

    script = files("pyproject_hooks") / "_in_process" / "_in_process.py"
    (tools / "hook.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")


def _write_stubs(folder: Path, asked: str) -> None:
    """Write compilers that only note that they were wanted."""
    folder.mkdir()
    if os.name == "nt":
        return  # there they are not found on the path
    says = "no compiler: this build is expected to be pure"
    for name in ("cc", "c++", "gcc", "g++", "clang", "clang++", "cargo", "rustc", "gfortran", "swig", "go", "cl"):
        (folder / name).write_text(
            f"#!/bin/sh\necho {name} >> '{asked}'\necho '{name}: {says}' >&2\nexit 1\n",
            encoding="utf-8",
        )
        (folder / name).chmod(0o755)


def _describe_target(environment: Path, program: Path) -> None:
    """Let every Python of an environment describe the target; see `inside/cross.py`."""
    (site,) = [*environment.glob("lib/python*/site-packages"), *environment.glob("Lib/site-packages")]
    (site / "_manylambda_target.py").write_text(program.read_text(encoding="utf-8"), encoding="utf-8")
    (site / "_manylambda_target.pth").write_text("import _manylambda_target\n", encoding="utf-8")
