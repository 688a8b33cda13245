"""Calls a build backend (PEP 517) in its isolation."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import ManylambdaError, PackagingError
from manylambda.sdists.nature import LEGACY_BACKEND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manylambda.sdists.isolation import Isolation, Outcome

# As pip and `build` do for a project that says nothing (PEP 517).
_LEGACY_REQUIRES: Final = ("setuptools>=40.8.0",)


class BuildSystem(NamedTuple):
    """What a `pyproject.toml` says of how it is built."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]


class BuildFailed(ManylambdaError):
    """A hook ended with an error; turned into a `PackagingError` where its cause is known."""

    def __init__(self, hook: str, log: Sequence[str]) -> None:
        super().__init__(f"`{hook}` failed")
        self.log = tuple(log)


def read_build_system(tree: Path, name: str) -> BuildSystem:
    """Read `[build-system]` of a source tree; see `parse_build_system`."""
    file = tree / "pyproject.toml"
    return parse_build_system(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "", name)


def parse_build_system(text: str, name: str) -> BuildSystem:
    """Read `[build-system]` of a `pyproject.toml`. Raises `PackagingError` for one that says nonsense."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackagingError(f"`pyproject.toml` of `{name}` cannot be read: {error}") from error
    table = document.get("build-system")
    if not isinstance(table, dict):
        return BuildSystem(_LEGACY_REQUIRES, LEGACY_BACKEND, ())
    requires = table.get("requires", [])
    backend = table.get("build-backend", LEGACY_BACKEND)
    path = table.get("backend-path", [])
    if not _is_texts(requires) or not isinstance(backend, str) or not _is_texts(path):
        raise PackagingError(f"`build-system` in the `pyproject.toml` of `{name}` is not as PEP 518 asks")
    if "build-backend" not in table and not any(one.lower().startswith("setuptools") for one in requires):
        requires = [*requires, *_LEGACY_REQUIRES]
    return BuildSystem(tuple(requires), backend, tuple(path))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


class Backend:
    """The hooks of one source tree."""

    def __init__(
        self,
        system: BuildSystem,
        isolation: Isolation,
        *,
        source: str,
        python: str,
        environment: Mapping[str, str],
        hear: Callable[[str], None],
    ) -> None:
        """`source` and `python` are where the build finds its tree and its interpreter."""
        self._system = system
        self._isolation = isolation
        self._source = source
        self._python = python
        self._environment = environment
        self._hear = hear
        self.log: list[str] = []

    def requires(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Ask what the wheel needs to be built beyond `[build-system]`. Raises `BuildFailed`."""
        return tuple(self._call("get_requires_for_build_wheel", settings))

    def wheel(self, folder: str, settings: Mapping[str, Any]) -> str:
        """Build the wheel into `folder`, as the build sees it; give its file name. Raises `BuildFailed`."""
        return str(self._call("build_wheel", settings, folder=folder))

    def _call(self, hook: str, settings: Mapping[str, Any], *, folder: str | None = None) -> Any:
        from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller, HookMissing, UnsupportedOperation

        def run(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
            outcome = self._run(cmd, cwd or self._source, extra_environ or {})
            self.log += outcome.log
            if outcome.status:
                raise BuildFailed(hook, self.log)

        caller = BuildBackendHookCaller(
            self._source,
            self._system.backend,
            list(self._system.backend_path) or None,
            runner=run,
            python_executable=self._python,
        )
        try:
            if folder is None:
                return caller.get_requires_for_build_wheel(config_settings=settings or None)
            return caller.build_wheel(folder, config_settings=settings or None)
        except BackendUnavailable as error:
            text = (error.traceback or str(error)).splitlines()
            raise BuildFailed(hook, [*self.log, *text]) from error
        except (HookMissing, UnsupportedOperation) as error:
            raise BuildFailed(hook, [*self.log, f"the build backend cannot: {error!r}"]) from error

    def _run(self, command: Sequence[str], folder: str, extra: Mapping[str, str]) -> Outcome:
        # The script that calls the hook lies beside our code, and its answer goes to a folder of its own.
        python, _, hook, answer = command
        outcome = self._isolation.run(
            [python, f"{self._isolation.root}/tools/hook.py", hook, self._isolation.answer_place(answer)],
            environment={**self._environment, **extra},
            folder=folder,
            hear=self._hear,
            answer=answer,
        )
        return outcome._replace(log=(*outcome.log, *_warnings(Path(answer, "output.json"))))


def _warnings(file: Path) -> list[str]:
    """Take the warnings of a backend out of a hook's answer: `pyproject_hooks` would raise them in this process."""
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))
        found = answer.pop("warnings", None)
        if not found:
            return []
        file.write_text(json.dumps(answer), encoding="utf-8")
        return [line for one in found for line in str(one.get("message", one)).splitlines()]
    except (OSError, ValueError, AttributeError):
        return []
