"""`serverless.yml` of the Serverless Framework: the functions that run on Python.

Its reference decides (version 3, "Serverless.yml Reference", AWS): what `provider` says holds for functions that say
nothing. A file that is a program (`serverless.ts`, `serverless.js`) is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError
from manylambda.target import Target
from manylambda.templates.document import read_mapping
from manylambda.templates.variables import Given, Variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAMES: Final = ("serverless.yml", "serverless.yaml", "serverless.json")

_PATTERNS: Final = frozenset({"patterns", "include", "exclude"})
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
    assumed: Mapping[str, str]
    """Of those that it would give if nothing is said on its command line: `runtime` -> `python3.13`."""
    module: str | None = None
    """The folder that `serverless-python-requirements` makes the root of its package."""

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
    layers: tuple[str, ...]
    """The names of its layers."""
    has_patterns: bool
    """Whether it says which files are packed (`package.patterns`, or the older `include` and `exclude`)."""


def find_service(folder: Path) -> Path | None:
    """Return the file of a service in a folder."""
    for name in NAMES:
        path = folder / name
        if path.is_file() and "provider" in read_mapping(path):
            return path
    return None


def read_service(path: Path) -> Service:
    """Read a file; raises RequestError for one that is none.

    Variables that the service's own files answer (`${self:...}`, `${file(...)}`) are followed; of others nothing is
    known, but what they give by default is told apart.
    """
    document = read_mapping(path)
    if "provider" not in document:
        raise RequestError(f"`{path}` has no `provider`", hint="name a file of the Serverless Framework")
    variables = Variables(document, path.parent)
    provider = _mapping(variables.given(document["provider"]).value)
    functions: list[Function] = []
    skipped: dict[str, str] = {}
    for name, one in _functions(variables, document.get("functions")):
        if not isinstance(one, dict):
            skipped[name] = f"it is a variable that only Serverless knows: {one}"
            continue
        written = {
            "runtime": one.get("runtime", provider.get("runtime")),
            "architecture": one.get("architecture", provider.get("architecture")),
            "handler": one.get("handler"),
        }
        given = {key: variables.given(value) for key, value in written.items()}
        known = {key: None if one.is_assumed else _text(one) for key, one in given.items()}
        runtime = _text(given["runtime"])
        if "image" in one:
            skipped[name] = "it is a container image"
        elif runtime is not None and not runtime.startswith("python"):
            skipped[name] = f"its runtime is {runtime}"
        else:
            package = {**_mapping(document.get("package")), **_mapping(one.get("package"))}
            functions.append(
                Function(
                    name=name,
                    runtime=known["runtime"],
                    architecture=known["architecture"],
                    handler=known["handler"],
                    artifact=_text(variables.given(package.get("artifact"))),
                    variables={
                        key: str(value) for key, value in written.items() if value is not None and known[key] is None
                    },
                    assumed={
                        key: text
                        for key, each in given.items()
                        if each.is_assumed and (text := _text(each)) is not None
                    },
                    module=_text(variables.given(one.get("module"))),
                )
            )
    requirements = variables.given(_at(document, "custom", "pythonRequirements"))
    return Service(
        path=path,
        name=_text(variables.given(document.get("service"))),
        functions=tuple(functions),
        skipped=skipped,
        requirements=_text(variables.given(_mapping(requirements.value).get("fileName"))),
        has_patterns=any(
            not _PATTERNS.isdisjoint(_mapping(_mapping(one).get("package")))
            for one in (document, *(one for _, one in _functions(variables, document.get("functions"))))
        ),
        layers=tuple(map(str, _mapping(variables.given(document.get("layers")).value))),
    )


def _functions(variables: Variables, value: object) -> Iterator[tuple[str, object]]:
    """Yield what one table of functions has, or each of a list of them; a function that is not known as a text."""
    value = variables.given(value).value
    for table in value if isinstance(value, list) else [value]:
        for name, given in _mapping(variables.given(table).value).items():
            known = variables.given(given).value
            yield str(name), _mapping(known) if known is not None or given is None else given


def _text(given: Given) -> str | None:
    return given.value if isinstance(given.value, str) else None


def _at(value: object, *keys: str) -> object:
    for key in keys:
        value = _mapping(value).get(key)
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
