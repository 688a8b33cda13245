"""What is to be resolved, understood once for all targets: requirements, indexes, and uv's arguments for them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError, ResolutionError
from manylambda.locks import explain
from manylambda.locks.index import IndexClient
from manylambda.locks.model import ResolveOptions, Source, SourceKind
from manylambda.locks.requirements import Requirements, normalise, read_requirements
from manylambda.locks.settings import IndexSettings, read_settings
from manylambda.locks.stand_ins import Sources, StandIns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Pylock
    from packaging.requirements import Requirement

    from manylambda.locks.model import SdistMetadata
    from manylambda.progress import Progress
    from manylambda.target import Target

UV_GLIBC: Final = (17, 28, *range(31, 41))
"""The minor versions of glibc 2 that uv's `--python-platform` knows; 2.26 of Amazon Linux 2 is not among them."""

# Settings of the user's shell that would tie the result to this host, or undo "wheels only".
_HOST_BOUND: Final = re.compile(
    r"UV_(PYTHON\w*|SYSTEM_PYTHON|MANAGED_PYTHON|NO_MANAGED_PYTHON|NO_BUILD\w*|NO_BINARY\w*|ONLY_BINARY\w*|UNIVERSAL"
    r"|CUSTOM_COMPILE_COMMAND|REQUIRE_HASHES|LINK_MODE|COMPILE_BYTECODE)|CONDA_\w+|PYTHONPATH|PYTHONHOME|RUST_LOG"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be resolved, the same for every target."""

    source: Source
    options: ResolveOptions
    project: Path
    requirements: Requirements
    settings: IndexSettings
    arguments: tuple[str, ...]
    """Files, extras and groups, as uv takes them."""
    text: tuple[str, ...]
    """Lines of a requirements file for uv."""
    constraints: Path
    own_code: tuple[str, ...]
    """Local source trees: the user's own code, which uv may build to learn its dependencies."""
    left_out: str | None
    """The project itself, when it had to be resolved to learn its dependencies."""
    scratch: Path
    client: IndexClient
    stand_ins: Mapping[Target, StandIns]
    """What each target is shown of sdists; the only part of this that changes."""
    asked: tuple[Requirement, ...]
    """What the user asks for, where sdists are allowed, as far as files tell."""
    progress: Progress


def index_settings(source: Source, options: ResolveOptions, *, lines: Sequence[str] = ()) -> IndexSettings:
    """Give the index settings that hold for a source, with the addresses its requirements name directly."""
    environment = options.environment or os.environ
    if source.kind is SourceKind.REQUIREMENTS or lines:
        return understood(source, dataclasses.replace(options, environment=dict(environment)), lines, ())[1]
    return read_settings(source.project, environment)


def uv_platform(target: Target) -> str:
    """Give the value of uv's `--python-platform` at or next above the target's glibc."""
    minor = next((minor for minor in UV_GLIBC if minor >= target.glibc.minor), UV_GLIBC[-1])
    return f"{target.machine}-manylinux_2_{minor}"


def index_client(settings: IndexSettings, options: ResolveOptions) -> IndexClient:
    """Give what asks the indexes of the request."""
    return IndexClient(settings, environment=options.environment or os.environ, offline=options.offline)


def understood(
    source: Source, options: ResolveOptions, lines: Sequence[str], constraints: Sequence[Path]
) -> tuple[Requirements, IndexSettings]:
    """Read the requirements, and the index settings that hold with them."""
    environment = options.environment
    settings = read_settings(source.project, environment)
    with index_client(settings, options) as client:
        requirements = read_requirements(
            source.files if source.kind is SourceKind.REQUIREMENTS else (),
            lines=lines,
            constraints=constraints,
            base=source.project,
            environment=environment,
            read_url=client.read,
        )
    return requirements, read_settings(source.project, environment, requirements)


def make_request(
    source: Source,
    options: ResolveOptions,
    *,
    requirements: Requirements,
    settings: IndexSettings,
    client: IndexClient,
    scratch: Path,
    progress: Progress,
) -> Request:
    """Put together what is to be resolved; `scratch` is a folder for what uv reads."""
    text = [line.text for line in requirements.lines]
    own_code = [line.name for line in requirements.directories if line.name]
    arguments: list[str] = []
    left_out: str | None = None
    if source.kind is SourceKind.PYPROJECT:
        found, text_of_project, left_out = _pyproject_arguments(source, options)
        arguments += found
        text += text_of_project
        own_code += [left_out] if left_out else []
    elif options.extras or options.groups:
        names = ", ".join(sorted({*options.extras, *options.groups}))
        raise RequestError(
            f"extras and groups belong to a pyproject.toml, not to requirements: {names}",
            hint="write `name[extra]` in the requirements, or leave `-r` out",
        )
    if settings.owner == "uv":
        # uv reads its own settings itself, and the file's options on top of them.
        text[:0] = [
            *([f"--index-url {requirements.index_url}"] if requirements.index_url else []),
            *(f"--extra-index-url {url}" for url in requirements.extra_index_urls),
            *(f"--find-links {link}" for link in requirements.find_links),
        ]
    if requirements.pre:
        arguments += ["--prerelease", "allow"]
    for host in requirements.trusted_hosts:
        arguments += ["--allow-insecure-host", host]
    if not settings.indexes:
        arguments.append("--no-index")
    constraints = scratch / "constraints.in"
    constraints.write_text("".join(f"{line.text}\n" for line in requirements.constraints), encoding="utf-8")
    environment = {
        name: value for name, value in options.environment.items() if not _HOST_BOUND.fullmatch(name)
    } | settings.uv_environment()
    return Request(
        source=source,
        options=dataclasses.replace(options, environment=environment),
        project=source.project,
        requirements=requirements,
        settings=settings,
        arguments=tuple(arguments),
        text=tuple(text),
        constraints=constraints,
        own_code=tuple(sorted(set(own_code))),
        left_out=left_out,
        scratch=scratch,
        client=client,
        stand_ins={},
        asked=(),
        progress=progress,
    )


def with_stand_ins(
    request: Request,
    source: Source,
    targets: Sequence[Target],
    wanted: Mapping[str, str],
    sdist_metadata: SdistMetadata | None,
) -> Request:
    """Add what is needed of sdists, where any are allowed."""
    asked = _asked(request, source) if request.options.allow_sdists else ()
    pinned = {name: {version} for name, version in wanted.items()}
    for requirement in asked:
        for one in requirement.specifier:
            if one.operator in {"==", "==="} and "*" not in one.version:
                pinned.setdefault(normalise(requirement.name), set()).add(_normal_version(one.version))
    sources = Sources(
        client=request.client,
        settings=request.settings,
        options=request.options,
        project=request.project,
        pinned={name: frozenset(versions) for name, versions in pinned.items()},
        read=sdist_metadata,
        progress=request.progress,
    )
    return dataclasses.replace(
        request,
        asked=asked,
        stand_ins={target: StandIns(sources, target, _first_platform_tag(target)) for target in targets},
    )


def _asked(request: Request, source: Source) -> tuple[Requirement, ...]:
    from packaging.requirements import InvalidRequirement, Requirement

    from manylambda.locks.pyproject import Pyproject

    lines = request.requirements
    texts = [line.text for line in (*lines.lines, *lines.constraints) if line.directory is None]
    folders = [line.directory for line in lines.directories if line.directory is not None]
    if source.kind is SourceKind.PYPROJECT:
        folders.append(source.files[0].parent)
        own = Pyproject.load(source.files[0].parent)
        texts += [text for group in sorted(request.options.groups) for text in own.group_requirements(group)]
    for folder in folders:
        if (folder / "pyproject.toml").is_file():
            project = Pyproject.load(folder)
            texts += project.dependencies
            texts += [text for extra in sorted(project.extras) for text in project.extra_requirements(extra)]
    found: list[Requirement] = []
    for text in texts:
        with contextlib.suppress(InvalidRequirement):
            found.append(Requirement(text))
    return tuple(found)


def _normal_version(text: str) -> str:
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(text))
    except InvalidVersion:
        return text


def _first_platform_tag(target: Target) -> str:
    """Give the platform tag that uv likes best for a target."""
    _, _, glibc = uv_platform(target).partition("-")
    return f"{glibc}_{target.machine}"


def _pyproject_arguments(source: Source, options: ResolveOptions) -> tuple[list[str], list[str], str | None]:
    """Give uv's arguments, extra requirement lines, and the name to leave out of the result."""
    from manylambda.locks.pyproject import Pyproject, checked_names

    file = source.files[0]
    project = Pyproject.load(file.parent)
    checked_names("extra", options.extras, project.extras)
    checked_names("group", options.groups, project.groups)
    groups = [part for name in sorted(options.groups) for part in ("--group", f"{file}:{name}")]
    if project.has_dynamic_dependencies and project.name is not None:
        # Only the build backend can tell. uv asks it when the project is a requirement with a name we may build.
        extras = f"[{','.join(sorted(options.extras))}]" if options.extras else ""
        return groups, [f"{project.name}{extras} @ {file.parent.as_uri()}"], project.name
    extras_of_file = [part for name in sorted(options.extras) for part in ("--extra", name)]
    return [str(file), *extras_of_file, *groups], [], None


def check_python(source: Source, target: Target) -> None:
    """Refuse a Python that the project does not support: uv compiles for it without a word."""
    if source.kind is not SourceKind.PYPROJECT:
        return
    from manylambda.locks.pyproject import Pyproject

    wanted = Pyproject.load(source.files[0].parent).requires_python
    if not explain.satisfies_python(wanted, target):
        raise ResolutionError(
            f"the project requires Python `{wanted}`, `{target}` has {target.python_full_version}",
            hint="choose a newer runtime, or widen `requires-python` in pyproject.toml",
        )


def versions(lock: Pylock | None) -> dict[str, str]:
    """Give name -> version of what comes from an index."""
    if lock is None:
        return {}
    return {
        package.name: str(package.version)
        for package in lock.packages
        if package.version is not None and (package.wheels or package.sdist)
    }
