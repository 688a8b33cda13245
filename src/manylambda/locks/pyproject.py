"""What the lock readers need to know of a `pyproject.toml`: names, requirements, extras and groups, as written."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from manylambda.errors import RequestError
from manylambda.locks.documents import Table, load

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from packaging.requirements import Requirement

_NAME: Final = "pyproject.toml"


class Pyproject:
    """A `pyproject.toml`, read when asked; requirements stay text."""

    def __init__(self, document: Table) -> None:
        self.document = document
        self.folder = document.file.parent
        self._project = document.table("project")

    @classmethod
    def load(cls, folder: Path) -> Pyproject:
        """Read the `pyproject.toml` in `folder`; RequestError when there is none or it is malformed."""
        return cls(load(folder.resolve() / _NAME))

    @property
    def name(self) -> str | None:
        """The project's name, normalised; None without a `[project]` or `[tool.poetry]` name."""
        from packaging.utils import canonicalize_name

        name = self._project.text("name") or self.poetry.text("name")
        return None if name is None else canonicalize_name(name)

    @property
    def version(self) -> str | None:
        """The project's version as written; None where only a build tells it."""
        return self._project.text("version") or self.poetry.text("version")

    @property
    def requires_python(self) -> str | None:
        """The specifier as written."""
        return self._project.text("requires-python")

    @property
    def has_dynamic_dependencies(self) -> bool:
        """Whether only running the build backend could tell the dependencies."""
        return not {"dependencies", "optional-dependencies"}.isdisjoint(self._project.texts("dynamic"))

    @property
    def has_build_system(self) -> bool:
        """Whether `[build-system]` names a backend."""
        return "build-system" in self.document

    @property
    def uv(self) -> Table:
        """`[tool.uv]`."""
        return self.document.table("tool", "uv")

    @property
    def poetry(self) -> Table:
        """`[tool.poetry]`."""
        return self.document.table("tool", "poetry")

    @property
    def pdm(self) -> Table:
        """`[tool.pdm]`."""
        return self.document.table("tool", "pdm")

    @property
    def dependencies(self) -> tuple[str, ...]:
        """`project.dependencies`."""
        return self._project.texts("dependencies")

    @property
    def extras(self) -> frozenset[str]:
        """The names of `project.optional-dependencies`, normalised."""
        from packaging.utils import canonicalize_name

        return frozenset(canonicalize_name(name) for name in self._project.table("optional-dependencies"))

    def extra_requirements(self, name: str) -> tuple[str, ...]:
        """Return the requirements of one extra."""
        from packaging.utils import canonicalize_name

        table = self._project.table("optional-dependencies")
        return tuple(text for key in table if canonicalize_name(key) == name for text in table.texts(key))

    @property
    def groups(self) -> frozenset[str]:
        """The names of `dependency-groups`, normalised, with uv's old `dev-dependencies` as `dev`."""
        from packaging.utils import canonicalize_name

        names = {canonicalize_name(name) for name in self.document.table("dependency-groups")}
        return frozenset(names | {"dev"} if "dev-dependencies" in self.uv else names)

    def group_requirements(self, name: str) -> tuple[str, ...]:
        """Return the requirements of one group, included groups inserted; RequestError for a cycle or a wrong entry."""
        from packaging.dependency_groups import DependencyGroupResolver
        from packaging.utils import canonicalize_name

        groups = dict(self.document.table("dependency-groups").values)
        legacy = self.uv.texts("dev-dependencies") if name == "dev" else ()
        if name not in {canonicalize_name(key) for key in groups}:
            return legacy
        try:
            resolved = DependencyGroupResolver(groups).resolve(name)  # type: ignore[arg-type]
        except (ValueError, LookupError, TypeError) as error:
            raise RequestError(f"`dependency-groups.{name}` in `{_NAME}` is wrong: {error}") from error
        return (*(str(requirement) for requirement in resolved), *legacy)


def parse_requirement(text: str) -> Requirement:
    """Parse a PEP 508 requirement; RequestError when it is none."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise RequestError(f"`{text}` is not a requirement: {str(error).splitlines()[0].lower()}") from error


def checked_names(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Raise RequestError for the first of the `asked` extras or groups that is not `known`."""
    known = sorted(known)
    for name in sorted(asked):
        if name in known:
            continue
        nearest = difflib.get_close_matches(name, known, n=1)
        if nearest:
            hint = f"did you mean `{nearest[0]}`?"
        elif known:
            hint = "there is " + ", ".join(f"`{one}`" for one in known)
        else:
            hint = f"the project has no {what}s"
        raise RequestError(f"the project has no {what} `{name}`", hint=hint)
