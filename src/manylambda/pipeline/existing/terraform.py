"""Terraform: `aws_lambda_function`, and modules with a runtime, read as text."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.pipeline.existing.model import Described, Function, enclosed, passed_layer, runtime, sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.pipeline.existing.model import Source

_BLOCK: Final = re.compile(
    r"^[ \t]*(?P<kind>resource|module|variable|locals|data)[ \t]*(?:\"(?P<first>[^\"\n]+)\"[ \t]*)?"
    r"(?:\"(?P<second>[^\"\n]+)\"[ \t]*)?(?P<open>\{)",
    re.MULTILINE,
)
_ASSIGNED: Final = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_NAMED: Final = re.compile(r"\$\{\s*((?:var|local|path)\.\w+)\s*\}")
_FUNCTION: Final = "aws_lambda_function"
_DEEPEST: Final = 4
"""Modules in modules, and values that name each other in a circle."""
_MOST_NAMES: Final = 8
"""In one text, which may name others that name others."""
_LONGEST: Final = 4096
"""Characters of a text: no path is longer."""


class _Block(NamedTuple):
    kind: str
    """`module`, `variable`, `locals`, or the type of a resource or of data."""
    name: str
    text: str
    """What stands between its braces."""
    source: Source
    position: int

    @property
    def own(self) -> str:
        """Its text without that of tables and blocks within."""
        return _flat(self.text)


class _Scope(NamedTuple):
    """A folder of Terraform, as one that calls it sees it."""

    folder: Path
    root: Path
    """The folder that Terraform runs in."""
    values: Mapping[str, str]
    """`var.x` and `local.x` -> what is written there."""
    depth: int

    def text(self, written: str | None, depth: int = 0) -> str | None:
        """Return the text that an expression is, or the first of a list; None for what only Terraform knows."""
        if written is None or depth > _DEEPEST:
            return None
        written = written.strip()
        if written.startswith("["):
            written = written[1:].strip()
        quoted = re.match(r"\"((?:[^\"\\\n]|\\.)*)\"", written)
        if quoted is None:
            named = re.match(r"(?:var|local|path)\.\w+(?=\s*(?:$|[\],#\n]))", written)
            return self._named(named[0], depth) if named else None
        names = _NAMED.findall(quoted[1])
        if len(names) > _MOST_NAMES:
            return None
        parts = {name: self._named(name, depth) for name in names}
        if None in parts.values():
            return None
        text = _NAMED.sub(lambda match: str(parts[match[1]]), quoted[1])
        return None if "${" in text or len(text) > _LONGEST else text

    def _named(self, name: str, depth: int) -> str | None:
        match name:
            case "path.module":
                return self.folder.as_posix()
            case "path.root" | "path.cwd":
                return self.root.as_posix()
            case _:
                return self.text(self.values.get(name), depth + 1)


def describe(project: Path) -> Described | None:
    """Read the configuration; None where there is no function in it."""
    reader = _Reader(project)
    functions = tuple(reader.all())
    unsure = tuple(dict.fromkeys(reader.unsure))
    return Described("Terraform", functions, unsure) if functions or unsure else None


class _Reader:
    def __init__(self, project: Path) -> None:
        self.unsure: list[str] = []
        self._project = project
        self._folders: dict[Path, list[_Block]] = defaultdict(list)
        self._values: dict[Path, dict[str, str]] = defaultdict(dict)
        for source in sources(project, {".tf"}):
            self._folders[source.path.parent] += _blocks(source)
        for source in sources(project, {".tfvars"}):
            name = source.path.name
            if name == "terraform.tfvars" or name.endswith(".auto.tfvars"):  # others are named on the command line
                self._values[source.path.parent] |= {
                    f"var.{key}": value for key, value in _ASSIGNED.findall(_flat(source.text))
                }

    def all(self) -> Iterator[Function]:
        """Yield the functions of each folder that no other one calls."""
        called = {
            self._called(folder, block)
            for folder, blocks in self._folders.items()
            for block in blocks
            if block.kind == "module"
        }
        for folder, blocks in self._folders.items():
            if folder not in called:
                scope = _Scope(folder, folder, {**_defaults(blocks), **self._values[folder]}, 0)
                yield from self._within(scope, blocks, None)

    def _within(self, scope: _Scope, blocks: Sequence[_Block], caller: _Block | None) -> Iterator[Function]:
        archives = {one.name: one for one in blocks if one.kind == "archive_file"}
        for block in blocks:
            if block.kind == "module":
                inner = self._folders.get(self._called(scope.folder, block) or Path(), [])
                if scope.depth < _DEEPEST and any(one.kind in {_FUNCTION, "module"} for one in inner):
                    given = {f"var.{key}": _quoted(scope, value) for key, value in _ASSIGNED.findall(block.own)}
                    folder = inner[0].source.path.parent
                    values = {**_defaults(inner), **{key: value for key, value in given.items() if value is not None}}
                    below = _Scope(folder, scope.root, values, scope.depth + 1)
                    yield from self._within(below, inner, caller or block)
                    continue
            if block.kind == "aws_lambda_layer_version" or (
                block.kind == "module" and _written(block.own, "create_layer") == "true"
            ):
                self.unsure.append(passed_layer((caller or block).name))
            elif block.kind in {_FUNCTION, "module"}:
                function = self._function(scope, block, archives, caller or block)
                if function is not None:
                    yield function

    def _called(self, folder: Path, block: _Block) -> Path | None:
        """Give the folder of a local module."""
        source = re.match(r"\"(\.{1,2}/[^\"\n]*|\.{1,2})\"", _written(block.own, "source") or "")
        return Path(os.path.normpath(folder / source[1])) if source else None

    def _function(
        self, scope: _Scope, block: _Block, archives: Mapping[str, _Block], caller: _Block
    ) -> Function | None:
        own, name = block.own, caller.name
        told = _written(own, "runtime")
        is_image = scope.text(_written(own, "package_type")) == "Image"
        if block.kind == "module" and told is None and not is_image:
            return None  # of anything
        if told is not None and re.match(r"module\.\w+\.runtime\b", told):
            return None  # the module is read itself
        value = scope.text(told)
        named = runtime(value)
        if named is None or is_image:
            why = (
                "it is a container image"
                if is_image
                else f"its runtime is {value}"
                if value is not None
                else "it has no runtime"
                if told is None
                else f"its runtime is known to Terraform only: {told}"
            )
            self.unsure.append(f"`{name}` was passed over: {why}")
            return None
        unsure = []
        written = _written(own, "architectures?")  # our own module has one
        architecture = scope.text(written)
        if architecture not in {"x86_64", "arm64"}:
            if written is not None:
                unsure.append(f"`architectures` of `{name}` is not written out: x86_64 is taken")
            architecture = "x86_64"
        if re.search(r"^[ \t]*patterns[ \t]*=", block.text, re.MULTILINE):
            unsure.append(f"`patterns` of `{name}` were not followed: `manylambda build -v` lists what is left out")
        handler = _written(own, "handler")
        if handler is not None and scope.text(handler) is None:
            unsure.append(f"`handler` of `{name}` is not written out: {handler}")
        folder = self._folder(scope, block, archives)
        if folder is None:
            folder = scope.root if any(scope.root.glob("*.py")) else self._project
            unsure.append(
                f"the folder of the code of `{name}` is not written out: "
                f"`{folder.relative_to(self._project).as_posix()}` is taken"
            )
        return Function(
            name=name,
            file=caller.source.path,
            line=caller.source.line(caller.position),
            runtime=named,
            architecture=architecture,
            handler=scope.text(handler),
            folder=folder,
            unsure=tuple(unsure),
        )

    def _folder(self, scope: _Scope, block: _Block, archives: Mapping[str, _Block]) -> Path | None:
        """Give the folder of the code, where it is said."""
        archived = re.search(r"\bdata\.archive_file\.(\w+)\.output_path", block.own)
        place: str | None = None
        if archived is not None and archived[1] in archives:
            own = archives[archived[1]].own
            place = scope.text(_written(own, "source_dir")) or scope.text(_written(own, "source_file"))
        elif (written := _written(block.text, "source_path")) is not None:
            inner = re.search(r"\bpath\s*=\s*(.+)", block.text) if re.match(r"\[?\s*\{", written) else None
            place = scope.text(inner[1] if inner else written)
        elif block.kind == "module":
            place = scope.text(_written(block.own, "project"))  # our own
        if place is None:
            return None
        path = Path(os.path.normpath(scope.root / place))
        return path.parent if path.suffix == ".py" else path


def _blocks(source: Source) -> Iterator[_Block]:
    """Yield the outermost blocks."""
    position = 0
    while (match := _BLOCK.search(source.text, position)) is not None:
        text = enclosed(source.text, match.start("open"))
        has_type = match["kind"] in {"resource", "data"}
        kind = match["first"] if has_type else match["kind"]
        name = match["second"] if has_type else match["first"]
        yield _Block(str(kind), str(name), text, source, match.start("open"))
        position = match.end() + len(text)


def _defaults(blocks: Sequence[_Block]) -> Mapping[str, str]:
    """Give what variables are by default, and locals are."""
    found: dict[str, str] = {}
    for one in blocks:
        if one.kind == "variable" and (value := _written(one.own, "default")) is not None:
            found[f"var.{one.name}"] = value
        if one.kind == "locals":
            found |= {f"local.{key}": value for key, value in _ASSIGNED.findall(one.own)}
    return found


def _quoted(scope: _Scope, written: str) -> str | None:
    text = scope.text(written)
    return None if text is None or '"' in text else f'"{text}"'


def _written(text: str, name: str) -> str | None:
    """Give the expression that is assigned to a name, which is a pattern; of a list over several lines, its begin."""
    match = re.search(rf"^[ \t]*{name}[ \t]*=\s*((?:[\[{{]\s*)*[^\n]*)", text, re.MULTILINE)
    return match[1].strip() if match else None


def _flat(text: str) -> str:
    """Leave out what stands within braces: another table may have the same names."""
    kept: list[str] = []
    position = 0
    while (start := text.find("{", position)) >= 0:
        if text[start - 1 : start] in {"$", "%"}:  # an interpolation
            end = text.find("}", start)
            end = len(text) if end < 0 else end + 1
            kept.append(text[position:end])
            position = end
            continue
        kept.append(text[position : start + 1])
        position = start + 1 + len(enclosed(text, start))
    return "".join([*kept, text[position:]])
