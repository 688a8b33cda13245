"""Imports go strictly down: the architecture, held by reading the source of every module.

All imports count: those inside functions (lazy is a matter of speed, not a way round) and those for types only.
"""

from __future__ import annotations

import ast
import itertools
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

import manylambda

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A room is a module or folder directly under `manylambda`; a new one needs a floor, here and in the architecture page.
FLOORS: Final = {
    "errors": 0,
    "progress": 0,
    "_version": 0,
    "target": 1,
    "elf": 1,
    "tree": 1,
    "fetch": 1,
    "host": 1,
    "locks": 2,
    "linkage": 2,
    "archive": 2,
    "image": 2,
    "sources": 2,
    "templates": 2,
    "wheels": 3,
    "sdists": 3,
    "audits": 3,
    "trial": 3,
    "rules": 4,
    "config": 4,
    "causes": 4,
    "pipeline": 5,
    "render": 6,
    "__init__": 6,  # the public face: what `import manylambda` gives
    "cli": 7,
    "cdk": 7,
    "__main__": 8,
}

# Third parties have one home each, so that replacing one touches one room.
HOMES: Final = {
    "elftools": {"elf"},
    "urllib3": {"fetch", "image"},  # the image room has the registry client
    "truststore": {"fetch", "image"},
    "rich": {"render", "cli"},
    "argparse": {"cli"},
    "shtab": {"cli"},
    "tomlkit": {"pipeline"},
    "deflate": {"archive", "image"},
    "filelock": {"fetch", "wheels", "sdists", "image"},
    "platformdirs": {"fetch", "locks"},  # locks: where Poetry keeps its logins
    "uv": {"locks", "sdists"},
    "yaml": {"templates"},
    "aws_cdk": {"cdk"},
    "constructs": {"cdk"},
    "pyproject_hooks": {"sdists"},
    "repairwheel": {"sdists"},
    "subprocess": {"locks", "fetch", "host", "sdists", "trial", "image"},  # fetch: the `keyring` program
}

SOURCE: Final = Path(manylambda.__file__).parent


class Import(NamedTuple):
    """One import of a module: who, in which line, what (as dotted as it can be told)."""

    module: str
    line: int
    name: str


@cache
def sources() -> Mapping[str, str]:
    """Every module of the package: dotted name -> source; a folder's own module is `folder.__init__`."""
    return {
        ".".join(("manylambda", *path.relative_to(SOURCE).with_suffix("").parts)): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a module's tree."""
    return tuple(ast.walk(ast.parse(source)))


def imports(modules: Mapping[str, str]) -> Iterator[Import]:
    """Every import; `from manylambda.locks import model` is one of `manylambda.locks.model` when that is a module."""
    for module, source in modules.items():
        for node in nodes(source):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, node.lineno, _resolved(alias.name, modules))
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}:{node.lineno} is a relative import"
                for alias in node.names:
                    dotted = f"{node.module}.{alias.name}"
                    known = dotted in modules or f"{dotted}.__init__" in modules
                    yield Import(module, node.lineno, _resolved(dotted if known else str(node.module), modules))


def _resolved(name: str, modules: Mapping[str, str]) -> str:
    return f"{name}.__init__" if f"{name}.__init__" in modules else name


def room(module: str) -> str:
    """The part of a dotted name that has a floor."""
    return module.split(".")[1]


def wrong_floors(modules: Mapping[str, str]) -> list[str]:
    """Imports between rooms that do not go down."""
    found = []
    for module, line, name in imports(modules):
        if not name.startswith("manylambda."):
            continue
        here, there = room(module), room(name)
        if here != there and FLOORS[there] >= FLOORS[here]:
            found.append(f"{module}:{line} `{here}` ({FLOORS[here]}) imports `{there}` ({FLOORS[there]})")
    return found


def own_fronts(modules: Mapping[str, str]) -> list[str]:
    """Imports of a folder's `__init__` by a module of the same folder."""
    return [
        f"{module}:{line} imports `{name}`"
        for module, line, name in imports(modules)
        if name.endswith(".__init__") and module.startswith(name.removesuffix("__init__")) and module != name
        if room(name) != "__init__"
    ]


def cycles(modules: Mapping[str, str]) -> list[str]:
    """Modules that import themselves through others."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, _, name in imports(modules):
        if name in graph and name != module:
            graph[module].add(name)
    # What imports only what is already clear is clear; what remains lies on or above a cycle.
    clear: set[str] = set()
    while ready := {module for module, needs in graph.items() if module not in clear and needs <= clear}:
        clear |= ready
    return sorted(set(graph) - clear)


def calls(modules: Mapping[str, str], name: str) -> list[str]:
    """Where a function is called by its bare or dotted name."""
    return [
        f"{module}:{node.lineno}"
        for module, source in modules.items()
        for node in nodes(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in sources()} - {"data"} <= FLOORS.keys()


def test_data_holds_no_code() -> None:
    inside = [source for module, source in sources().items() if room(module) == "data"]
    assert all(ast.unparse(ast.parse(source)).count("\n") <= 2 for source in inside)


def test_imports_go_strictly_down() -> None:
    assert wrong_floors(sources()) == []


def test_no_module_imports_the_front_of_its_own_folder() -> None:
    assert own_fronts(sources()) == []


def test_there_is_no_cycle() -> None:
    assert cycles(sources()) == []


@pytest.mark.parametrize("party", sorted(HOMES))
def test_a_third_party_has_one_home(party: str) -> None:
    users = {
        f"{module}:{line}"
        for module, line, name in imports(sources())
        if name.split(".")[0] == party and room(module) not in HOMES[party]
    }
    assert users == set()


@pytest.mark.parametrize("name", ["print", "input", "exit", "sys.exit", "os._exit"])
def test_the_library_neither_prints_nor_exits(name: str) -> None:
    # What lies in `inside` is no part of the library: programs that run in an execution or build environment.
    library = {module: source for module, source in sources().items() if ".inside." not in module}
    assert [place for place in calls(library, name) if room(place.split(":")[0]) not in {"cli", "__main__"}] == []


def test_what_runs_inside_knows_nothing_of_ours() -> None:
    inside = {module: source for module, source in sources().items() if ".inside." in module}
    assert inside
    assert [name for _, _, name in imports(inside) if name.startswith("manylambda")] == []


# The checks themselves, on sources that are wrong by design.

_CLEAN: Final[dict[str, str]] = {
    "manylambda.__init__": "",
    "manylambda.errors": "",
    "manylambda.tree": "from manylambda.errors import PackagingError",
    "manylambda.fetch.__init__": "from manylambda.fetch.cache import Cache",
    "manylambda.fetch.cache": "import manylambda.errors",
    "manylambda.archive": "from manylambda import errors\nfrom manylambda.fetch import cache",
}


def test_what_goes_down_is_right() -> None:
    assert wrong_floors(_CLEAN) == own_fronts(_CLEAN) == cycles(_CLEAN) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("manylambda.errors", "import manylambda.tree", "`errors` (0) imports `tree` (1)"),
        ("manylambda.tree", "from manylambda.fetch import Cache", "`tree` (1) imports `fetch` (1)"),
        ("manylambda.tree", "from manylambda import archive", "`tree` (1) imports `archive` (2)"),
        ("manylambda.tree", "from manylambda import Target", "`tree` (1) imports `__init__` (6)"),
        ("manylambda.tree", "def f():\n    import manylambda.archive", "`tree` (1) imports `archive` (2)"),
        (
            "manylambda.tree",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from manylambda.archive import X",
            "`tree` (1) imports `archive` (2)",
        ),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(module: str, source: str, message: str) -> None:
    (found,) = wrong_floors(_CLEAN | {module: source})
    assert found.endswith(message)


def test_an_import_of_the_own_front_is_found() -> None:
    wrong = _CLEAN | {"manylambda.fetch.cache": "from manylambda.fetch import Cache"}
    assert own_fronts(wrong) == ["manylambda.fetch.cache:1 imports `manylambda.fetch.__init__`"]


def test_a_cycle_of_siblings_is_found() -> None:
    siblings = itertools.permutations(["a", "b"])
    wrong = {f"manylambda.locks.{one}": f"import manylambda.locks.{other}" for one, other in siblings}
    assert cycles(wrong) == ["manylambda.locks.a", "manylambda.locks.b"]
