"""Write the reference page of the Python API from signatures and docstrings.

python tools/generate_api.py            write it
python tools/generate_api.py --check    exit 1 when it is not what the code says
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from generated import REFERENCE, head, run, table

import manylambda

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = REFERENCE / "api.md"

_INTRODUCTION: Final = """
# Python API

What `manylambda` exports is public and keeps its meaning within a major version; all else may change. The functions
are those that the command line uses: they never print and never exit, return values, and raise the
[errors](errors.md). Each value is frozen.

```python
from pathlib import Path

from manylambda import audit, build, load_settings

settings = load_settings(Path("examples/api"), targets=["python3.13-arm64"])
(artifact,) = build(settings).artifacts
print(artifact.path, artifact.written.code_sha256)

report = audit(artifact.path, artifact.target)
print([finding.rule for finding in report.findings])
```

"""


def document() -> str:
    """Return the page."""
    members = {name: getattr(manylambda, name) for name in manylambda.__all__ if not name.startswith("_")}
    functions = {name: value for name, value in members.items() if inspect.isroutine(value)}
    values = {name: value for name, value in members.items() if inspect.isclass(value)}
    left = set(members) - set(functions) - set(values)
    assert not left, f"neither a function nor a class: {left}"
    parts = [head(__file__, "manylambda.__all__"), _INTRODUCTION, _overview(functions | values), "\n## Functions\n\n"]
    parts += [_function(name, value) for name, value in functions.items()]
    parts += ["## Values\n\n", *(_class(name, value) for name, value in values.items())]
    return "".join(parts).rstrip() + "\n"


def _overview(members: dict[str, Any]) -> str:
    rows = [[f"[`{name}`](#{name.lower()})", _summary(value)] for name, value in members.items()]
    return table(["name", ""], rows)


def _summary(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _function(name: str, function: Any) -> str:
    return f"### {name}\n\n```text\n{_signature(name, function)}\n```\n\n{inspect.getdoc(function)}\n\n"


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    words = []
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        words.append(f"{'**' if one.kind is one.VAR_KEYWORD else ''}{one.name}: {one.annotation}{default}")
    line = f"{name}({', '.join(words)}) -> {signature.return_annotation}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f") -> {signature.return_annotation}"


def _default(value: object) -> str:
    """Say a default; of an object without a spelling of its own nothing is said."""
    return "..." if repr(value).startswith("<") else repr(value)


def _class(name: str, value: type) -> str:
    rows = list(_attributes(value))
    methods = [_method(name, one) for one in _methods(value)]
    listed = table(["attribute", "type", ""], rows) + "\n" if rows else ""
    return f"### {name}\n\n{inspect.getdoc(value)}\n\n{listed}" + "".join(methods)


def _method(name: str, method: Any) -> str:
    signature = _signature(f"{name}.{method.__name__}", method)
    return f"```text\n{signature}\n```\n\n{inspect.getdoc(method) or ''}\n\n"


def _methods(value: type) -> Iterator[Any]:
    for name, member in vars(value).items():
        inner = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if not name.startswith("_") and inspect.isfunction(inner):
            yield getattr(value, name)


def _attributes(value: type) -> Iterator[list[str]]:
    if issubclass(value, Enum):
        yield from ([f"`{member.name}`", f"`{member.value!r}`", ""] for member in value)
    else:
        yield from _fields(value)
    for name, member in vars(value).items():
        if isinstance(member, (property, cached_property)) and not name.startswith("_"):
            getter = member.fget if isinstance(member, property) else member.func
            yield [f"`{name}`", f"`{getattr(getter, '__annotations__', {}).get('return', '')}`", _line(getter)]


def _fields(value: type) -> Iterator[list[str]]:
    """Give the fields of a class with the texts that stand below them, which Python itself forgets."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    assert isinstance(tree, ast.ClassDef)
    for field, below in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id[0] != "_":
            text = below.value if isinstance(below, ast.Expr) else None
            told = " ".join(str(text.value).split()) if isinstance(text, ast.Constant) else ""
            yield [f"`{field.target.id}`", f"`{ast.unparse(field.annotation)}`", told]


def _line(value: object) -> str:
    return " ".join((inspect.getdoc(value) or "").split())


def wanted() -> dict[Path, str]:
    """Give the page."""
    return {PAGE: document()}


if __name__ == "__main__":
    raise SystemExit(run(wanted))
