"""The rule about the handler: whether what Lambda will call is in the package. Modules are parsed, never imported."""

from __future__ import annotations

import ast
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from manylambda.audits import Finding, Severity
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, module_file
from manylambda.tree import read_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manylambda.audits import Subject
    from manylambda.tree import Entry

_MAX_SOURCE: Final = 16 << 20
_HIDDEN_BINDERS: Final = frozenset({"globals", "exec", "vars"})


def handler_missing(subject: Subject) -> Iterator[Finding]:
    """Find a handler whose module or function is neither in the package nor in a layer.

    The handler is split at its last dot, and `/` in the module means `.`, as the runtime's bootstrap does (facts 4.4).
    """
    handler = subject.handler
    if handler is None or subject.kind not in {"zip", "dir", "image"}:
        return
    module, dot, function = handler.rpartition(".")
    if not dot:
        yield _finding(f"the handler `{handler}` has no dot between module and function", None, "such as `app.handler`")
        return
    found = _module(subject, module.replace("/", "."))
    if found is None:
        yield _finding(
            f"the handler `{handler}` needs the module `{module}`, which is not in the package",
            None,
            _near_module(subject, module),
        )
        return
    names = _names(found)
    if names is not None and function not in names:
        near = get_close_matches(function, names, n=1)
        yield _finding(
            f"the handler `{handler}` needs `{function}`, which `{found.path}` does not define",
            found.path,
            f"did you mean `{module}.{near[0]}`?" if near else "define it there, or name another with `--handler`",
        )


def _finding(message: str, path: str | None, hint: str | None) -> Finding:
    return Finding(rule="handler-missing", severity=Severity.ERROR, message=message, path=path, hint=hint)


def _module(subject: Subject, module: str) -> Entry | None:
    """Return the file that an import of `module` would read, in the order of `sys.path`."""
    stem = module.replace(".", "/")
    folder, _, name = stem.rpartition("/")
    for root in _roots(subject):
        for candidate in (f"{root}{stem}/__init__.py", f"{root}{stem}.py", f"{root}{stem}.pyc"):
            if (entry := subject.entries.get(candidate)) is not None:
                return entry
        prefix = f"{root}{folder}/" if folder else root
        for path, entry in subject.entries.items():
            if path.startswith(f"{prefix}{name}.") and "/" not in path[len(prefix) :]:
                extension = module_file(path[len(prefix) :])
                if extension is not None and path.endswith(".so"):
                    return entry
    return None


def _roots(subject: Subject) -> Sequence[str]:
    return (FUNCTION_ROOT, *(LAYER_ROOT + folder for folder in subject.site_folders(in_layer=True)))


def _near_module(subject: Subject, module: str) -> str | None:
    modules = sorted(
        path[len(FUNCTION_ROOT) : -len(".py")].removesuffix("/__init__").replace("/", ".")
        for path, entry in subject.entries.items()
        if path.startswith(FUNCTION_ROOT) and path.endswith(".py") and entry.origin == "project"
    )
    wanted = module.replace("/", ".")
    below = [name for name in modules if name.endswith(f".{wanted}")]
    near = below[:1] or get_close_matches(wanted, modules, n=1)
    return f"did you mean the module `{near[0]}`?" if near else "name another with `--handler`, or add the file"


def _names(entry: Entry) -> frozenset[str] | None:
    """Return what a module binds at its top level; None when that cannot be told by reading it."""
    if not entry.path.endswith(".py") or entry.content.size > _MAX_SOURCE:
        return None
    try:
        tree = ast.parse(read_content(entry.content))
    except (SyntaxError, ValueError):
        return None  # perhaps the syntax of a newer Python than this host's
    names = frozenset(_bound(tree.body))
    return None if "*" in names or "__getattr__" in names else names


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
                continue  # what they bind inside is theirs
            case ast.Import(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name for alias in aliases)
            case _:
                yield from _bound(_inner(statement))
        for node in _own_expressions(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            # `globals()[...] = ...` and `exec` bind what reading does not show.
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _HIDDEN_BINDERS:
                yield "*"


def _inner(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements directly below one, such as the branches of an `if`."""
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield node
        elif isinstance(node, ast.ExceptHandler | ast.match_case):
            yield from node.body


def _own_expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement that belong to no statement below it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(node, ast.stmt):
                yield node
                waiting.append(node)
