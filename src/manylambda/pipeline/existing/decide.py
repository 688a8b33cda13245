"""Decides from what a project says which settings it needs, and where they stand.

A folder of code is a project of ours. Where there is only one, and what it needs can be named from the root, the
settings go to the root, so that `manylambda build` finds them there; else each folder gets its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.pipeline.existing import cdk, chalice, dockerfile, python, sam, serverless, terraform, zappa
from manylambda.pipeline.existing.model import NEVER, read, repository
from manylambda.target import Target
from manylambda.templates.sam import NAMES as TEMPLATES
from manylambda.templates.serverless import NAMES as SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from manylambda.pipeline.existing.model import Described, Function

_TOOLS: Final = (
    sam.describe, serverless.describe, cdk.describe, terraform.describe, chalice.describe, zappa.describe,
    dockerfile.describe,
)  # fmt: skip
"""The first that finds functions is believed."""
_DESCRIBING: Final = (
    *sam.CONFIGURATIONS, *TEMPLATES, *SERVICES, "cdk.json", ".chalice/config.json", "zappa_settings.json",
)  # fmt: skip
_DEFAULT: Final = "x86_64"
_DEPENDENCIES: Final = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock", "pyproject.toml")


class Found(NamedTuple):
    """A setting, and where it comes from."""

    key: str
    value: str
    file: Path | None
    line: int | None
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The settings of one folder."""

    folder: Path
    """Where they are written."""
    targets: tuple[Target, ...]
    handler: str | None
    requirements: str | None
    """From the folder; None for what it has by itself."""
    sources: str | None
    """From the folder; None for what is found by itself."""
    found: tuple[Found, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """The settings of a project's folders."""

    tool: str | None
    folders: tuple[Decision, ...]
    unsure: tuple[str, ...]


def decide(project: Path, targets: Sequence[Target] = ()) -> Decisions:
    """Decide for a project; `targets` are what the user names instead of what its files say.

    Raises RequestError for files that cannot be read.
    """
    deciding = _Deciding(project, tuple(targets))
    tool, folders = deciding.folders()
    return Decisions(tool=tool, folders=tuple(folders), unsure=tuple(dict.fromkeys(deciding.unsure)))


class _Deciding:
    def __init__(self, project: Path, given: tuple[Target, ...]) -> None:
        self.unsure: list[str] = []
        self._project = project
        self._given = given

    def folders(self) -> tuple[str | None, list[Decision]]:
        described = self._by_tool()
        by_folder: dict[Path, list[Function]] = defaultdict(list)
        root = repository(self._project.resolve())
        for one in described.functions if described else ():
            if one.folder.is_dir() and not one.folder.resolve().is_relative_to(root):
                self.unsure.append(f"`{one.name}` was passed over: its code is not in this repository: `{one.folder}`")
            elif one.folder.is_dir():
                by_folder[one.folder].append(one)
                self.unsure += one.unsure
            else:
                self.unsure.append(f"the folder of `{one.name}` is not there: `{one.folder}`")
        self.unsure += described.unsure if described else ()
        if described is None or not by_folder:
            self.unsure += _elsewhere(self._project)
            return None, [self._plain(self._project)]
        alone = next(iter(by_folder)) if len(by_folder) == 1 else None
        at_root = alone is not None and (alone == self._project or _is_named_from(self._project, alone))
        return described.tool, [
            self._described(self._project if at_root else folder, folder, own) for folder, own in by_folder.items()
        ]

    def _by_tool(self) -> Described | None:
        """Give what the first tool says that describes functions; a file of another that cannot be read is told."""
        passed: Described | None = None
        failed: RequestError | None = None
        for describe in _TOOLS:
            try:
                found = describe(self._project)
            except RequestError as error:  # `template.yaml` is what more than SAM calls a file
                failed = failed or error
                continue
            if found is not None and found.functions:
                self.unsure += [failed.message] if failed else []
                return found
            passed = passed or found
        if failed is not None:
            raise failed
        return passed

    def _plain(self, folder: Path) -> Decision:
        """Decide where no tool says anything. Raises RequestError for the root of a workspace, which is no function."""
        if python.is_workspace(folder) and python.is_project(folder):
            self.unsure.append(
                "this is the root of a workspace: if a member is the function, `manylambda init FOLDER` is for it"
            )
        elif python.is_workspace(folder):
            raise RequestError(
                f"`{folder}` is the root of a workspace, and no function",
                hint="name the folder of a function: `manylambda init FOLDER`",
            )
        found = []
        targets = self._given
        if not targets:
            said = python.runtime(self._project)
            targets = (Target.parse(f"{said.value}-{_DEFAULT}"),)
            found.append(Found("targets", str(targets[0]), said.file, said.line, said.why))
            self.unsure.append(
                f"nothing names an architecture: {_DEFAULT} is Lambda's default; arm64 costs less, and the function "
                "has to be told of it too"
            )
        handler = self._guessed(folder, found)
        return Decision(
            folder=folder, targets=targets, handler=handler, requirements=None, sources=None, found=tuple(found)
        )

    def _described(self, at: Path, folder: Path, functions: Sequence[Function]) -> Decision:
        """Decide for the functions whose code is `folder`; the settings are written to the folder `at`."""
        found: list[Found] = []
        targets = dict.fromkeys(self._given)
        for one in functions if not targets else ():
            target = self._target(one)
            if target is not None and target not in targets:
                targets[target] = None
                found.append(Found("targets", str(target), one.file, one.line, f"`{one.name}`"))
        if not targets:
            return self._plain(at)
        handlers = {one.handler: one for one in functions if one.handler}
        handler = next(iter(handlers)) if len(handlers) == 1 else None
        if handler is not None:
            one = handlers[handler]
            found.append(Found("handler", handler, one.file, one.line, f"`{one.name}`"))
        elif handlers:
            listed = ", ".join(f"`{name}` (`{one.name}`)" for name, one in handlers.items())
            self.unsure.append(f"functions share a package and not a handler, so none is checked: {listed}")
        else:
            handler = self._guessed(folder, found)
        requirements = _requirements(at, folder, functions[0])
        if requirements is not None:
            found.append(Found("requirements", requirements, at / requirements, None, "what the function needs"))
        sources = folder.relative_to(at).as_posix() if folder != at else _whole(folder, handlers)
        if sources is not None:
            first = functions[0]
            found.append(Found("files.sources", sources, first.file, first.line, "the code of the function"))
        return Decision(
            folder=at,
            targets=tuple(targets),
            handler=handler,
            requirements=requirements,
            sources=sources,
            found=tuple(found),
        )

    def _guessed(self, folder: Path, found: list[Found]) -> str | None:
        guess = python.handler(folder)
        if guess is None:
            return None
        self.unsure.append(f"nothing names the handler: `{guess.value}` looks like one")
        found.append(Found("handler", guess.value, guess.file, guess.line, guess.why))
        return guess.value

    def _target(self, function: Function) -> Target | None:
        runtime = function.runtime
        if runtime is None:
            said = python.runtime(self._project)
            runtime = said.value
            self.unsure.append(f"nothing names the runtime of `{function.name}`: {runtime} is taken, {said.why}")
        architecture = function.architecture
        if architecture is None:
            architecture = _DEFAULT
            self.unsure.append(f"nothing names the architecture of `{function.name}`: {_DEFAULT} is the default")
        try:
            return Target.parse(f"{runtime}-{architecture}")
        except RequestError as error:
            self.unsure.append(f"`{function.name}` was passed over: {error.message}")
            return None


def _elsewhere(project: Path) -> Iterator[str]:
    """Tell of folders below whose files describe functions: infrastructure often lies beside the code."""
    below = [folder for pattern in ("*", "*/*") for folder in sorted(project.glob(pattern))]
    for folder in below:
        names = folder.relative_to(project).parts
        if folder.is_dir() and not any(name in NEVER or name.startswith(".") for name in names):
            named = next((name for name in _DESCRIBING if _describes(folder / name)), None)
            if named is not None:
                place = folder.relative_to(project).as_posix()
                yield f"`{place}/{named}` was not read: `manylambda init {place}` reads it"


def _describes(path: Path) -> bool:
    if path.name not in TEMPLATES:
        return path.is_file()
    source = read(path)  # more than AWS calls a file so
    return source is not None and "AWS::" in source.text


def _is_named_from(project: Path, folder: Path) -> bool:
    """Whether all that the folder needs can be said in the root: one requirements file, or nothing anywhere."""
    if any((folder / name).exists() for name in _DEPENDENCIES) or not folder.is_relative_to(project):
        return False
    at_root = any((project / name).exists() for name in (*_DEPENDENCIES, "requirements.txt"))
    return (folder / "requirements.txt").is_file() or not at_root


def _requirements(at: Path, folder: Path, function: Function) -> str | None:
    """Give the requirements file, from `at`, where it is not the one that is found there by itself."""
    path = function.requirements or folder / "requirements.txt"
    if path == at / "requirements.txt" or not path.is_file() or not path.is_relative_to(at):
        return None
    return path.relative_to(at).as_posix()


def _whole(folder: Path, handlers: Iterable[str]) -> str | None:
    """Give `.` where handlers begin with `src`: else a folder `src` would be taken for the root."""
    begins = any(one.replace("/", ".").startswith("src.") for one in handlers)
    return "." if begins and (folder / "src").is_dir() else None
