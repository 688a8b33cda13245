"""What a project asks for itself, in contrast to what that needs in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda.locks.documents import load
from manylambda.locks.model import SourceKind
from manylambda.locks.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.requirements import Requirement

    from manylambda.locks.model import Source


def direct_requirements(source: Source, environment: Mapping[str, str]) -> tuple[Requirement, ...]:
    """Give the requirements written in the project's own files; none when those do not tell.

    Every extra and group counts: what is asked for under any condition is never only somebody else's need. Where a file
    names a distribution in another way than PEP 508, the requirement is the bare name.
    """
    if source.kind is SourceKind.REQUIREMENTS:
        return tuple(_of_requirements(source, source.files, environment))
    files = [file for file in source.passed_over if file.name == SourceKind.REQUIREMENTS.value]
    return (*_of_pyproject(source), *_of_requirements(source, files, environment))


def _of_requirements(source: Source, files: Sequence[Path], environment: Mapping[str, str]) -> Iterator[Requirement]:
    if not files:
        return
    from packaging.requirements import InvalidRequirement, Requirement

    from manylambda.locks.index import IndexClient
    from manylambda.locks.requirements import read_requirements
    from manylambda.locks.settings import read_settings

    with IndexClient(read_settings(source.project, environment), environment=environment) as client:
        read = read_requirements(files, base=source.project, environment=environment, read_url=client.read)
    for line in read.lines:
        if line.name is not None:
            try:
                yield Requirement(line.text)
            except InvalidRequirement:  # a path or an address
                yield Requirement(line.name)


def _of_pyproject(source: Source) -> Iterator[Requirement]:
    file = source.project / SourceKind.PYPROJECT.value
    if not file.is_file():
        return
    from packaging.requirements import InvalidRequirement, Requirement

    document = load(file)
    project = document.table("project")
    optional, groups = project.table("optional-dependencies"), document.table("dependency-groups")
    lines = [*project.texts("dependencies")]
    lines += [line for name in optional for line in optional.texts(name)]
    for name in groups:
        listed = groups.get(name)
        lines += [line for line in listed if isinstance(line, str)] if isinstance(listed, list) else []
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue
    poetry = document.table("tool", "poetry")
    tables = [poetry.table("dependencies"), poetry.table("dev-dependencies")]
    tables += [poetry.table("group", name, "dependencies") for name in poetry.table("group")]
    for table in tables:
        yield from (Requirement(normalise(name)) for name in table if name != "python")
