"""What Python's own files say where no tool describes a function: a version, and a handler by its usual look."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.pipeline.existing.model import NEVER, read
from manylambda.sources.project import found_sources
from manylambda.target import all_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_VERSIONS: Final = {
    ".python-version": r"^\s*(?:cpython-)?(3\.\d+)",
    ".tool-versions": r"^\s*python\s+(3\.\d+)",
    "mise.toml": r"^\s*python\s*=\s*\"(3\.\d+)",
    "Pipfile": r"^\s*python_(?:full_)?version\s*=\s*\"(3\.\d+)",
}
"""Files that name the Python that a project is developed with, and where it stands in them."""
_HANDLERS: Final = frozenset({"lambda_handler", "handler"})
_ADAPTERS: Final = frozenset({"Mangum", "make_lambda_handler"})
"""What makes a handler of a web application: Mangum's class, apig-wsgi's function."""


class Said(NamedTuple):
    """A value, and why it is that one."""

    value: str
    why: str
    file: Path | None = None
    line: int | None = None


def runtime(project: Path) -> Said:
    """Give the runtime: that of `.python-version` or its like, else the newest one that the project allows.

    A preview is never taken, and what AWS has deprecated only where nothing else is allowed.
    """
    runtimes = _runtimes()
    for name, pattern in _VERSIONS.items():
        source = read(project / name)
        pinned = re.search(pattern, source.text, re.MULTILINE) if source else None
        if source and pinned and f"python{pinned[1]}" in runtimes:
            return Said(f"python{pinned[1]}", "that is the project's Python", source.path, source.line(pinned.start(1)))
    pyproject = read(project / "pyproject.toml")
    allowed = _allowed(pyproject.text, pyproject.path) if pyproject else None
    if pyproject is None or allowed is None:
        return Said(runtimes[0], "nothing names a version: it is the newest runtime")
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(allowed)
    except InvalidSpecifier as error:
        raise RequestError(f"`{pyproject.path}`: `{allowed}` is no range of versions") from error
    versions = {target.runtime: target.python_full_version for target in all_targets()}
    found = next((one for one in runtimes if fits.contains(versions[one], prereleases=True)), None)
    if found is None:
        raise RequestError(
            f"no runtime of Lambda is `{allowed}`, which `{pyproject.path}` wants", hint="name a target: `-t TARGET`"
        )
    match = re.search(r"^\s*(?:requires-python|python)\s*=", pyproject.text, re.MULTILINE)
    line = pyproject.line(match.start()) if match else None
    return Said(found, f"the newest runtime that `{allowed}` allows", pyproject.path, line)


def is_workspace(project: Path) -> bool:
    """Whether a folder holds a workspace of uv together."""
    return _at(_pyproject(project), "tool", "uv", "workspace") is not None


def is_project(folder: Path) -> bool:
    """Whether `pyproject.toml` describes a project of its own."""
    return "project" in _pyproject(folder)


def _pyproject(folder: Path) -> dict[str, Any]:
    pyproject = read(folder / "pyproject.toml")
    return _parsed(pyproject.text, pyproject.path) if pyproject else {}


def _runtimes() -> list[str]:
    """Give the runtimes that packages are built for, the newest first, and what is deprecated after all others."""
    known = {one.runtime: one for one in all_targets() if one.can_build and one.status != "preview"}
    return sorted(known, key=lambda name: (known[name].status == "supported", known[name].python), reverse=True)


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"`{path}` is not valid TOML: {error}") from error


def _allowed(text: str, path: Path) -> str | None:
    document = _parsed(text, path)
    node = _at(document, "project", "requires-python")
    if isinstance(node, str):
        return node
    node = _at(document, "tool", "poetry", "dependencies", "python")
    if not isinstance(node, str):
        return None
    return re.sub(r"\^\s*3\.(\d+)(?:\.\d+)?", r">=3.\1,<4", node)


def _at(node: object, *keys: str) -> object:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def handler(folder: Path) -> Said | None:
    """Give what alone looks like a handler, at the root of the package, else in its packages; None for none or more."""
    root = folder / found_sources(folder)[0].path
    found = list(_handlers(root, root.glob("*.py")))
    if not found:
        packages = (path.parent for path in root.glob("*/__init__.py") if path.parent.name not in NEVER)
        found = list(_handlers(root, (module for package in packages for module in package.glob("*.py"))))
    return found[0] if len(found) == 1 else None


def _handlers(root: Path, modules: Iterable[Path]) -> Iterator[Said]:
    for path in sorted(modules):
        source = read(path)
        try:
            tree = ast.parse(source.text) if source else None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for node in tree.body if tree else ():
            if (name := _handler_name(node)) in _HANDLERS:
                yield Said(f"{module}.{name}", "it has the usual name and looks like one", path, node.lineno)


def _handler_name(node: ast.stmt) -> str | None:
    match node:
        case ast.FunctionDef(name=name) if len(node.args.args) >= 2:
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=made) | ast.Attribute(attr=made))):
            return name if made in _ADAPTERS else None
        case _:
            return None
