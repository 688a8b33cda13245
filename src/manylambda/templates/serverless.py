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
_UNKNOWN: Final = "its runtime is known to Serverless only"


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function that runs on Python."""

    name: str
    runtime: str
    """`python3.13`, or a later one that we do not know."""
    architecture: str
    """`arm64` or `x86_64`, which is the default."""
    handler: str | None
    artifact: str | None
    """The zip that is uploaded for it, as it is written; None for what Serverless packs itself."""

    @property
    def target(self) -> Target:
        """Raises RequestError where we do not know the runtime."""
        return Target.parse(f"{self.runtime}-{self.architecture}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What a file says, as far as packages of Python go."""

    path: Path
    name: str | None
    functions: tuple[Function, ...]
    skipped: Mapping[str, str]
    """Functions that are none of ours: name -> why."""


def find_service(folder: Path) -> Path | None:
    """Return the file of a service in a folder."""
    return next((path for name in NAMES if (path := folder / name).is_file()), None)


def read_service(path: Path) -> Service:
    """Read a file; raises RequestError for one that is none.

    Variables that name another value of the same file (`${self:custom.runtime}`) are followed; others are not known.
    """
    document = read_mapping(path)
    provider = document.get("provider")
    if not isinstance(provider, (dict, str)):
        raise RequestError(f"`{path}` has no `provider`", hint="name a file of the Serverless Framework")
    common: Mapping[str, Any] = provider if isinstance(provider, dict) else {}
    functions: list[Function] = []
    skipped: dict[str, str] = {}
    for name, one in _functions(document.get("functions")):
        runtime = _text(document, one.get("runtime", common.get("runtime")))
        package = {**_mapping(document.get("package")), **_mapping(one.get("package"))}
        if "image" in one:
            skipped[name] = "it is a container image"
        elif runtime is None:
            skipped[name] = _UNKNOWN
        elif not runtime.startswith("python"):
            skipped[name] = f"its runtime is {runtime}"
        else:
            functions.append(
                Function(
                    name=name,
                    runtime=runtime,
                    architecture=_text(document, one.get("architecture", common.get("architecture"))) or "x86_64",
                    handler=_text(document, one.get("handler")),
                    artifact=_text(document, package.get("artifact")),
                )
            )
    return Service(
        path=path,
        name=_text(document, document.get("service")),
        functions=tuple(functions),
        skipped=skipped,
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
        value = document
        for key in found[1].split("."):
            value = _mapping(value).get(key)
    return value if isinstance(value, str) and "${" not in value else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
