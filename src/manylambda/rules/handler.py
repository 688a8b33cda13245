"""The rule about the handler: whether what Lambda will call is in the package. Modules are parsed, never imported."""

from __future__ import annotations

import ast
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from manylambda.audits import PROJECT, Finding, Severity
from manylambda.linkage import FUNCTION_ROOT, LAYER_ROOT, module_file
from manylambda.rules.python_facts import facts, standard_library
from manylambda.tree import read_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manylambda.audits import Subject
    from manylambda.tree import Entry

_MAX_SOURCE: Final = 1 << 20
"""Bytes of a module that is parsed: that takes a second and two hundred times the memory."""
_MAX_NEAR: Final = 2000
_MAX_HOPS: Final = 8
_HIDDEN_BINDERS: Final = frozenset({"globals", "exec", "vars", "setattr"})


class _Module(NamedTuple):
    """What an import would read."""

    entry: Entry | None
    """None for a folder without `__init__.py`, of which there may be parts in several places."""
    name: str


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
    name = module.replace("/", ".")
    if module.partition(".")[0] in facts()["builtin_modules"]:
        yield _finding(
            f"the handler `{handler}` names the built-in module `{module}`, which the runtime refuses",
            None,
            "rename the module",
        )
        return
    if not all(name.split(".")):
        yield _finding(
            f"the handler `{handler}` needs the module `{module}`, which is no name of a module",
            None,
            "write it from the root of the package, without a leading `/` or `./`: `src/app.handler`",
        )
        return
    found = _module(subject, name)
    if found is None:
        if not _may_be_of_the_runtime(subject, name):
            yield _finding(
                f"the handler `{handler}` needs the module `{module}`, which is not in the package",
                None,
                _near_module(subject, module),
            )
        return
    if found.entry is None:
        yield _finding(
            f"the handler `{handler}` needs `{function}`, and `{module}` is a folder without `__init__.py`",
            None,
            f"name the function behind the module: `{handler}.handler`"
            if _module(subject, f"{name}.{function}") is not None
            else "name the module and the function in it",
        )
        return
    yield from _function_missing(subject, handler, found)


def _function_missing(subject: Subject, handler: str, module: _Module) -> Iterator[Finding]:
    """Look for the function in its module, and where that only imports it, in the module it comes from."""
    written, _, function = handler.rpartition(".")
    wanted = function
    for _ in range(_MAX_HOPS):
        assert module.entry is not None
        if module.entry.path.endswith(".py") and module.entry.content.size > _MAX_SOURCE:
            yield Finding(
                rule="handler-missing",
                severity=Severity.NOTE,
                message=f"is too long to be read ({module.entry.content.size:,} bytes): "
                f"whether it defines `{wanted}` is not judged",
                path=module.entry.path,
                hint="`manylambda trial` proves it",
            )
            return
        bound = _names(module.entry)
        if bound is None:
            return
        is_first = wanted == function and module.name == written.replace("/", ".")
        if wanted not in bound:
            near = _near(function, bound) if is_first else []
            by = "" if is_first else f", from which `{written}` has it,"
            yield _finding(
                f"the handler `{handler}` needs `{wanted}`, which `{module.entry.path}`{by} does not define",
                module.entry.path,
                f"did you mean `{written}.{near[0]}`?" if near else "define it there, or name another with `--handler`",
            )
            return
        binding = bound[wanted]
        if binding == "async":
            yield Finding(
                rule="handler-missing",
                severity=Severity.WARNING,
                message=f"the handler `{handler}` is an `async` function, which the runtime does not await",
                path=module.entry.path,
                hint="call it from a plain function: `return asyncio.run(...)`",
            )
            return
        if not isinstance(binding, _Import):
            return
        source = _absolute(module, binding)
        if source is None or (following := _module(subject, source)) is None or following.entry is None:
            if source is not None and _is_own(subject, source) and _module(subject, source) is None:
                yield _finding(
                    f"the handler `{handler}` is imported from `{source}`, which is not in the package",
                    module.entry.path,
                    _near_module(subject, source),
                )
            return
        if _module(subject, f"{source}.{binding.name}") is not None:
            return  # a submodule; whether it can be called is not to be read
        if following.entry.origin != PROJECT:
            return  # distributions bind names in many ways
        module, wanted = following, binding.name


def _absolute(module: _Module, binding: _Import) -> str | None:
    """Return the absolute name of the module that `from ... import` names."""
    if not binding.level:
        return binding.module
    assert module.entry is not None
    parts = module.name.split(".")
    if not module.entry.path.endswith("/__init__.py"):
        parts.pop()
    if binding.level > len(parts):
        return None
    parts = parts[: len(parts) - binding.level + 1]
    return ".".join([*parts, *([binding.module] if binding.module else [])])


def _is_own(subject: Subject, module: str) -> bool:
    """Whether a module would lie in a package of the project's own."""
    top = f"{FUNCTION_ROOT}{module.partition('.')[0]}"
    return any(
        path.startswith((f"{top}/", f"{top}.py")) and entry.origin == PROJECT for path, entry in subject.entries.items()
    )


def _may_be_of_the_runtime(subject: Subject, module: str) -> bool:
    top = module.partition(".")[0]
    return top in standard_library(subject.target.python) or any(
        top in {name, name.replace("-", "_")} for name in subject.target.preinstalled
    )


def _finding(message: str, path: str | None, hint: str | None) -> Finding:
    return Finding(rule="handler-missing", severity=Severity.ERROR, message=message, path=path, hint=hint)


def _module(subject: Subject, module: str) -> _Module | None:
    """Find what an import of `module` would read: packages first, parts of a namespace in all places of `sys.path`."""
    entries, folders = subject.entries, _folders(subject)
    places = list(_roots(subject))
    *parents, last = module.split(".")
    for parent in parents:
        package = next((place for place in places if _file(entries, f"{place}{parent}/__init__")), None)
        if package is None and any(_file(entries, f"{place}{parent}") for place in places):
            return None  # a module is no package
        places = [f"{place}{parent}/" for place in places if f"{place}{parent}/" in folders]
        if package is not None:
            places = [f"{package}{parent}/"]
    for place in places:
        if (entry := _file(entries, f"{place}{last}/__init__") or _file(entries, f"{place}{last}")) is not None:
            return _Module(entry, module)
        for path, entry in entries.items():
            if path.startswith(f"{place}{last}.") and path.endswith(".so") and module_file(path[len(place) :]):
                return _Module(entry, module)
    return _Module(None, module) if any(f"{place}{last}/" in folders for place in places) else None


def _file(entries: Mapping[str, Entry], stem: str) -> Entry | None:
    return entries.get(f"{stem}.py") or entries.get(f"{stem}.pyc")


def _folders(subject: Subject) -> frozenset[str]:
    folders: set[str] = set()
    for path in subject.entries:
        while (path := path.rpartition("/")[0]) and f"{path}/" not in folders:
            folders.add(f"{path}/")
    return frozenset(folders)


def _roots(subject: Subject) -> Sequence[str]:
    layers = (LAYER_ROOT + folder for folder in subject.site_folders(in_layer=True))
    return (FUNCTION_ROOT, *layers, *subject.mounts)


def _near_module(subject: Subject, module: str) -> str | None:
    modules = sorted(
        path[len(FUNCTION_ROOT) : -len(".py")].removesuffix("/__init__").replace("/", ".")
        for path, entry in subject.entries.items()
        if path.startswith(FUNCTION_ROOT) and path.endswith(".py") and entry.origin == PROJECT
    )
    wanted = module.replace("/", ".")
    below = [name for name in modules if name.endswith(f".{wanted}")]
    near = below[:1] or _near(wanted, modules)
    return f"did you mean the module `{near[0]}`?" if near else "name another with `--handler`, or add the file"


def _near(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the name most like `wanted`, if there is one; of very many names only those of about its length count."""
    candidates = list(names)
    if len(candidates) > _MAX_NEAR:
        from heapq import nsmallest

        candidates = nsmallest(_MAX_NEAR, candidates, key=lambda name: (abs(len(name) - len(wanted)), name))
    return get_close_matches(wanted, candidates, n=1)


class _Import(NamedTuple):
    """A name that a module has from another one."""

    module: str
    name: str
    level: int


_Binding: TypeAlias = _Import | Literal["async", "other"]


def _names(entry: Entry) -> Mapping[str, _Binding] | None:
    """Return what a module binds at its top level; None when that cannot be told by reading it."""
    if not entry.path.endswith(".py"):
        return None
    try:
        tree = ast.parse(read_content(entry.content))
        names = dict(_bound(tree.body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # perhaps the syntax of a newer Python than this host's
    # What a function binds as `global` is there once it was called.
    names.update((name, "other") for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names)
    return None if "*" in names or "__getattr__" in names else names


def _bound(body: Iterable[ast.stmt]) -> Iterator[tuple[str, _Binding]]:
    for statement in body:
        match statement:
            case ast.AsyncFunctionDef(name=name, decorator_list=decorators):
                yield name, "other" if decorators else "async"
                continue  # what it binds inside is its own
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, "other"
                continue
            case ast.Import(names=aliases):
                yield from ((alias.asname or alias.name.partition(".")[0], "other") for alias in aliases)
            case ast.ImportFrom(names=aliases):
                for alias in aliases:
                    source = _Import(statement.module or "", alias.name, statement.level)
                    yield alias.asname or alias.name, source
            case ast.If() if _never_in_a_function(statement.test):
                yield from _bound(statement.orelse)
                continue
            case ast.If() | ast.Try() | ast.TryStar() | ast.With() | ast.For() | ast.While() | ast.Match():
                # Which of several branches counts cannot be told, so a name from there is taken as it is.
                yield from ((name, "other") for name, _ in _bound(_inner(statement)))
            case _:
                yield from _bound(_inner(statement))
        for node in _own_expressions(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, "other"
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                yield node.name, "other"
            elif _binds_unseen(node):
                yield "*", "other"


def _binds_unseen(node: ast.AST) -> bool:
    """Whether an expression may bind names unseen: `globals()[...] =`, `exec`, `sys.modules[...] =`."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name in _HIDDEN_BINDERS
        case ast.Subscript(value=ast.Attribute(attr="modules"), ctx=ast.Store()):
            return True
        case _:
            return False


def _never_in_a_function(test: ast.expr) -> bool:
    """Whether a branch is for the command line or for type checkers only."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
        case _:
            return False


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
