"""`serverless.yml` of the Serverless Framework: the functions that run on Python.

Its reference decides (version 3, "Serverless.yml Reference", AWS): what `provider` says holds for functions that say
nothing. A file that is a program (`serverless.ts`, `serverless.js`) is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError
from manylambda.target import Target
from manylambda.templates.document import read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAMES: Final = ("serverless.yml", "serverless.yaml", "serverless.json")

_OWN: Final = re.compile(r"\$\{self:([\w.-]+)\}")
_DEFAULT_ARCHITECTURE: Final = "x86_64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function that runs on Python, or on what a variable says."""

    name: str
    runtime: str | None
    """`python3.13`, or a later one that we do not know; None where nothing or a variable names it."""
    architecture: str | None
    """`arm64` or `x86_64`; None where nothing or a variable names it."""
    handler: str | None
    artifact: str | None
    """The zip that is uploaded for it, as it is written; None for what Serverless packs itself."""
    variables: Mapping[str, str]
    """Those of `runtime`, `architecture` and `handler` that only Serverless knows, with what is written."""

    @property
    def target(self) -> Target | None:
        """None where it is not known; raises RequestError where we do not know the runtime."""
        if self.runtime is None or "architecture" in self.variables:
            return None
        return Target.parse(f"{self.runtime}-{self.architecture or _DEFAULT_ARCHITECTURE}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What a file says, as far as packages of Python go."""

    path: Path
    name: str | None
    functions: tuple[Function, ...]
    skipped: Mapping[str, str]
    """Functions that are none of ours: name -> why."""
    requirements: str | None
    """What `serverless-python-requirements` reads, if that is said (`custom.pythonRequirements.fileName`)."""


def find_service(folder: Path) -> Path | None:
    """Return the file of a service in a folder."""
    for name in NAMES:
        path = folder / name
        if path.is_file() and "provider" in read_mapping(path):
            return path
    return None


def read_service(path: Path) -> Service:
    """Read a file; raises RequestError for one that is none.

    Variables that name another value of the same file (`${self:custom.runtime}`) are followed; others are not known.
    """
    document = read_mapping(path)
    if "provider" not in document:
        raise RequestError(f"`{path}` has no `provider`", hint="name a file of the Serverless Framework")
    provider = _mapping(document["provider"])
    functions: list[Function] = []
    skipped: dict[str, str] = {}
    for name, one in _functions(document.get("functions")):
        written = {
            "runtime": one.get("runtime", provider.get("runtime")),
            "architecture": one.get("architecture", provider.get("architecture")),
            "handler": one.get("handler"),
        }
        known = {key: _text(document, value) for key, value in written.items()}
        runtime = known["runtime"]
        if "image" in one:
            skipped[name] = "it is a container image"
        elif runtime is not None and not runtime.startswith("python"):
            skipped[name] = f"its runtime is {runtime}"
        else:
            package = {**_mapping(document.get("package")), **_mapping(one.get("package"))}
            functions.append(
                Function(
                    name=name,
                    runtime=runtime,
                    architecture=known["architecture"],
                    handler=known["handler"],
                    artifact=_text(document, package.get("artifact")),
                    variables={
                        key: str(value) for key, value in written.items() if value is not None and known[key] is None
                    },
                )
            )
    return Service(
        path=path,
        name=_text(document, document.get("service")),
        functions=tuple(functions),
        skipped=skipped,
        requirements=_text(document, _at(document, "custom", "pythonRequirements", "fileName")),
    )


def _functions(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what one table of functions has, or each of a list of them."""
    for table in value if isinstance(value, list) else [value]:
        for name, given in _mapping(table).items():
            yield str(name), _mapping(given)


def _text(document: Mapping[str, Any], value: object) -> str | None:
    """Return a text, or the one that a variable names; None for what only Serverless knows."""
    for _ in range(8):  # variables that name each other in a circle
        found = _OWN.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            break
        value = _at(document, *found[1].split("."))
    return value if isinstance(value, str) and "${" not in value else None


def _at(value: object, *keys: str) -> object:
    for key in keys:
        value = _mapping(value).get(key)
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
