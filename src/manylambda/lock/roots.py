"""The names a project asks for itself, in contrast to what those need in turn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manylambda.lock.documents import load
from manylambda.lock.model import SourceKind
from manylambda.lock.requirements import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.lock.model import Source


def direct_names(source: Source) -> frozenset[str]:
    """Give the normalised names written in the project's own files; empty when none of them tells.

    Every extra and group counts: what is asked for under any condition is never only somebody else's need.
    """
    if source.kind is SourceKind.REQUIREMENTS:
        from manylambda.lock.requirements import read_requirements

        files = [file for file in source.files if str(file) != "-"]
        read = read_requirements(files, base=source.project, environment=os.environ)
        return frozenset(line.name for line in read.lines if line.name)
    return frozenset(_pyproject_names(source))


def _pyproject_names(source: Source) -> Iterator[str]:
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
            yield normalise(Requirement(line).name)
        except InvalidRequirement:
            continue
    poetry = document.table("tool", "poetry")
    tables = [poetry.table("dependencies"), poetry.table("dev-dependencies")]
    tables += [poetry.table("group", name, "dependencies") for name in poetry.table("group")]
    for table in tables:
        yield from (normalise(name) for name in table if name != "python")
