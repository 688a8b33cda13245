"""SAM templates: the functions and layers that are made from folders of Python.

What SAM itself does decides: `samcli.lib.providers` of aws-sam-cli 1.170 for places and properties, its
`samtranslator.plugins.globals` for `Globals`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError
from manylambda.target import Target
from manylambda.templates.document import read_mapping
from manylambda.templates.intrinsics import Intrinsics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES: Final = ("template.yaml", "template.yml", "template.json")
"""Where SAM looks for a template, in its order."""

_FUNCTIONS: Final = {"AWS::Serverless::Function": "CodeUri", "AWS::Lambda::Function": "Code"}
_LAYERS: Final = {"AWS::Serverless::LayerVersion": "ContentUri", "AWS::Lambda::LayerVersion": "Content"}
_STACKS: Final = {"AWS::Serverless::Application": "Location", "AWS::CloudFormation::Stack": "TemplateURL"}
_ID: Final = re.compile(r"[A-Za-z0-9]+")
_DEFAULT_ARCHITECTURE: Final = "x86_64"
_UNKNOWN: Final = "its runtime is known to CloudFormation only"
_UNKNOWN_ARCHITECTURE: Final = "its architecture is known to CloudFormation only"
_UNKNOWN_PLACE: Final = "its folder is known to CloudFormation only"
_REMOTE: Final = "its code lies in S3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A function whose code is a folder of Python beside the template."""

    name: str
    """Its logical id."""
    folder: Path
    """Absolute; it need not be there."""
    runtime: str
    """`python3.13`, or a later one that we do not know."""
    architecture: str
    """`arm64` or `x86_64`, which is SAM's default."""
    handler: str | None
    layers: tuple[str, ...]
    """The logical ids of those that the same template has."""
    build_method: str | None
    """`Metadata.BuildMethod`."""
    parameters: tuple[str, ...] = ()
    """Those of the template whose defaults decide its runtime and architecture, sorted."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """Its one target; RequestError where we do not know the runtime."""
        return (Target.parse(f"{self.runtime}-{self.architecture}"),)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer whose content is a folder beside the template."""

    name: str
    """Its logical id."""
    folder: Path
    """Absolute; it need not be there."""
    runtimes: tuple[str, ...]
    """Those of Python among its `CompatibleRuntimes`, in their order; at least one."""
    architecture: str
    """`Metadata.BuildArchitecture`, else the only compatible one, else SAM's default."""
    build_architecture: str
    """What SAM builds it for: `Metadata.BuildArchitecture`, else `x86_64`."""
    build_method: str | None
    """`Metadata.BuildMethod`: without one SAM packs the folder as it is."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """One a runtime; RequestError where we do not know a runtime."""
        return tuple(Target.parse(f"{runtime}-{self.architecture}") for runtime in self.runtimes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What a template says, as far as packages of Python go."""

    path: Path
    functions: tuple[Function, ...]
    layers: tuple[Layer, ...]
    skipped: Mapping[str, str]
    """Functions and layers that are none of ours: logical id -> why."""

    @property
    def resources(self) -> tuple[Function | Layer, ...]:
        """Functions, then layers, in the order of the template."""
        return (*self.functions, *self.layers)


def find_template(folder: Path) -> Path | None:
    """Return SAM's template in a folder; a `template.yaml` of another tool is none."""
    for name in NAMES:
        path = folder / name
        if path.is_file() and _is_template(read_mapping(path)):
            return path
    return None


def _is_template(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("Resources"), dict)


def read_template(path: Path) -> Template:
    """Read a template; raises RequestError for a file that is none.

    A `Ref` to a parameter is its default, as `sam build` takes it without `--parameter-overrides`, also within
    `FindInMap`, `If`, `Join` and `Sub`; `Globals` and `IgnoreGlobals` count. Of what other intrinsic functions give
    nothing is known: a function whose runtime, architecture or folder is one is skipped, and named in `skipped`.
    """
    document = read_mapping(path)
    if not _is_template(document):
        raise RequestError(f"`{path}` has no `Resources`", hint="name SAM's template, such as `template.yaml`")
    reader = _Reader(path, document)
    functions: list[Function] = []
    layers: list[Layer] = []
    skipped: dict[str, str] = {}
    for key, resource in document["Resources"].items():
        name = str(key)
        kind = str(_mapping(resource).get("Type"))
        try:
            if kind in {*_FUNCTIONS, *_LAYERS} and not _ID.fullmatch(name):
                raise _Skipped("CloudFormation takes letters and digits as a name")
            if kind in _FUNCTIONS:
                functions.append(reader.function(name, kind, resource))
            elif kind in _LAYERS:
                layers.append(reader.layer(name, kind, resource))
            elif kind in _STACKS:
                where = _mapping(_mapping(resource).get("Properties")).get(_STACKS[kind])
                raise _Skipped(f"it is a stack of its own: {where}" if isinstance(where, str) else "it is a stack")
            elif name.startswith("Fn::ForEach"):
                raise _Skipped("what a loop makes is known to CloudFormation only")
        except _Skipped as reason:
            skipped[name] = str(reason)
    return Template(path=path, functions=tuple(functions), layers=tuple(layers), skipped=skipped)


class _Skipped(Exception):
    """A function or layer is none of ours: why."""


class _Reader:
    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._folder = path.absolute().parent
        self._globals = _mapping(document.get("Globals"))
        self._resources = document["Resources"]
        self._intrinsics = Intrinsics(document)

    def function(self, name: str, kind: str, resource: Mapping[str, Any]) -> Function:
        given = self._properties("Function" if kind.startswith("AWS::Serverless") else None, resource)
        if self._text(given.get("PackageType")) == "Image":
            raise _Skipped("it is a container image")
        if "InlineCode" in given:
            raise _Skipped("its code stands in the template")
        folder = self._place(given.get(_FUNCTIONS[kind], "."))
        self._intrinsics.parameters.clear()
        runtime = self._text(given.get("Runtime"))
        if runtime is None:
            raise _Skipped(_UNKNOWN if "Runtime" in given else "it has no runtime")
        if not runtime.startswith("python"):
            raise _Skipped(f"its runtime is {runtime}")
        architecture = self._architecture(given)
        parameters = tuple(sorted(self._intrinsics.parameters))
        return Function(
            name=name,
            folder=folder,
            runtime=runtime,
            architecture=architecture,
            handler=self._text(given.get("Handler")),
            layers=tuple(self._own_layers(given.get("Layers"))),
            build_method=self._text(_mapping(resource.get("Metadata")).get("BuildMethod")),
            parameters=parameters,
        )

    def _architecture(self, given: Mapping[str, Any]) -> str:
        if given.get("Architectures") is None:
            return _DEFAULT_ARCHITECTURE
        named = next(self._texts(given["Architectures"]), None)
        if named is None:  # none that we know: SAM's default would be a guess
            raise _Skipped(_UNKNOWN_ARCHITECTURE)
        return named

    def layer(self, name: str, kind: str, resource: Mapping[str, Any]) -> Layer:
        given = self._properties("LayerVersion" if kind.startswith("AWS::Serverless") else None, resource)
        metadata = _mapping(resource.get("Metadata"))
        method = self._text(metadata.get("BuildMethod"))
        runtimes = [each for each in self._texts(given.get("CompatibleRuntimes")) if each.startswith("python")]
        if not runtimes and method is not None and method.startswith("python3"):
            runtimes = [method]
        if not runtimes:
            raise _Skipped("it names no runtime of Python in `CompatibleRuntimes`")
        built = self._text(metadata.get("BuildArchitecture"))
        architectures = list(self._texts(given.get("CompatibleArchitectures")))
        only = architectures[0] if len(architectures) == 1 else _DEFAULT_ARCHITECTURE
        return Layer(
            name=name,
            folder=self._place(given.get(_LAYERS[kind], ".")),
            runtimes=tuple(dict.fromkeys(runtimes)),
            architecture=built or only,
            build_architecture=built or _DEFAULT_ARCHITECTURE,
            build_method=method,
        )

    def _properties(self, section: str | None, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        given = _mapping(resource.get("Properties"))
        common = dict(_mapping(self._globals.get(section))) if section else {}
        ignored = resource.get("IgnoreGlobals")
        if ignored == "*":
            common = {}
        elif isinstance(ignored, list):
            common = {name: value for name, value in common.items() if name not in ignored}
        merged = {**common, **given}
        # Lists are joined; `Architectures` is the exception.
        if isinstance(common.get("Layers"), list) and isinstance(given.get("Layers"), list):
            merged["Layers"] = common["Layers"] + given["Layers"]
        return merged

    def _place(self, value: object) -> Path:
        if isinstance(value, dict) and "ZipFile" in value:
            raise _Skipped("its code stands in the template")
        known = self._intrinsics.value(value)
        if known is None:
            raise _Skipped(_UNKNOWN_PLACE)
        if not isinstance(known, str) or known.startswith(("s3://", "https://")):
            raise _Skipped(_REMOTE)
        if known.endswith((".zip", ".jar")):
            raise _Skipped(f"it is packed already: {known}")
        return Path(os.path.normpath(self._folder / known))

    def _own_layers(self, value: object) -> Iterator[str]:
        for each in value if isinstance(value, list) else ():
            name = each.get("Ref") if isinstance(each, dict) else None
            if isinstance(name, str) and str(_mapping(self._resources.get(name)).get("Type")) in _LAYERS:
                yield name

    def _text(self, value: object) -> str | None:
        """Return a text, or the one that an intrinsic function gives."""
        known = self._intrinsics.value(value)
        return known if isinstance(known, str) else None

    def _texts(self, value: object) -> Iterator[str]:
        known = self._intrinsics.value(value)
        if isinstance(known, str):  # a parameter of the type CommaDelimitedList
            known = [each.strip() for each in known.split(",")]
        for each in known if isinstance(known, list) else ():
            if isinstance(each, str) and each:
                yield each


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
