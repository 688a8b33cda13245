"""The handler is found where the runtime would find it, without importing anything."""

from __future__ import annotations

import pytest

from manylambda.tree import PackageTree
from rules.packages import files, findings

TARGET = "python3.13-arm64"


def messages(contents: dict[str, str], handler: str, **given: object) -> list[tuple[str, str | None]]:
    found = findings(TARGET, files(contents), handler=handler, **given)
    return [(one.message, one.hint) for one in found if one.rule == "handler-missing"]


@pytest.mark.parametrize(
    ("contents", "handler"),
    [
        ({"app.py": "def handler(event, context): ..."}, "app.handler"),
        ({"app.py": "import x\n@x.decorate\ndef handler(event, context): ..."}, "app.handler"),
        ({"app.py": "from other import handler"}, "app.handler"),
        ({"app.py": "from other import main as handler"}, "app.handler"),
        ({"app.py": "from mangum import Mangum\nhandler = Mangum(1)"}, "app.handler"),
        ({"app.py": "handler: object = print"}, "app.handler"),
        ({"app.py": "try:\n    import fast\nexcept ImportError:\n    def handler(e, c): ..."}, "app.handler"),
        ({"app.py": "if True:\n    class handler: ..."}, "app.handler"),
        ({"app.py": "a, (handler, b) = 1, (2, 3)"}, "app.handler"),
        ({"app.py": "with open('x') as handler: ..."}, "app.handler"),
        ({"app.py": "from other import *"}, "app.handler"),
        ({"app.py": "def __getattr__(name): ..."}, "app.handler"),
        ({"app.py": "globals()['handler'] = print"}, "app.handler"),
        ({"app.py": "syntax of ] a later Python"}, "app.handler"),
        ({"app/__init__.py": "def handler(e, c): ..."}, "app.handler"),
        ({"pkg/mod/app.py": "def handler(e, c): ..."}, "pkg.mod.app.handler"),
        ({"pkg/mod/app.py": "def handler(e, c): ..."}, "pkg/mod/app.handler"),
        ({"app.cpython-313-aarch64-linux-gnu.so": ""}, "app.handler"),
    ],
)
def test_a_handler_that_is_there(contents: dict[str, str], handler: str) -> None:
    assert messages(contents, handler) == []


def test_a_module_that_is_not_there() -> None:
    assert messages({"src/app.py": "def handler(e, c): ..."}, "app.handler") == [
        (
            "the handler `app.handler` needs the module `app`, which is not in the package",
            "did you mean the module `src.app`?",
        )
    ]


def test_a_function_that_is_not_there() -> None:
    assert messages({"app.py": "def lambda_handler(e, c):\n    handlers = 1"}, "app.lambda_handle") == [
        (
            "the handler `app.lambda_handle` needs `lambda_handle`, which `app.py` does not define",
            "did you mean `app.lambda_handler`?",
        )
    ]


def test_names_bound_inside_functions_do_not_count() -> None:
    assert len(messages({"app.py": "def other():\n    handler = 1\n    def handler(): ..."}, "app.handler")) == 1


def test_a_handler_without_a_dot() -> None:
    assert messages({"app.py": ""}, "handler") == [
        ("the handler `handler` has no dot between module and function", "such as `app.handler`")
    ]


def test_a_handler_in_a_layer() -> None:
    layer = PackageTree(files({"python/common/app.py": "def handler(e, c): ..."}))
    assert messages({"x.py": ""}, "common.app.handler", layers=[layer]) == []


def test_a_layer_has_no_handler() -> None:
    assert messages({"python/x.py": ""}, "app.handler", kind="layer") == []


@pytest.mark.parametrize(
    ("contents", "handler"),
    [
        ({"app/__init__.py": "from .core import handler", "app/core.py": "def handler(e, c): ..."}, "app.handler"),
        ({"app.py": "from core.x import y as handler", "core/x.py": "def y(e, c): ..."}, "app.handler"),
        ({"a/b.py": "from .. import handler"}, "a.b.handler"),
        ({"a/b.py": "from . import handler", "a/__init__.py": "", "a/handler.py": ""}, "a.b.handler"),
        (
            {"app.py": "try:\n    from fast import handler\nexcept ImportError:\n    from slow import handler"},
            "app.handler",
        ),
        ({"app.py": "handler = lambda event, context: None"}, "app.handler"),
        ({"app.py": "class App:\n    def __call__(self, e, c): ...\nhandler = App()"}, "app.handler"),
        ({"app.py": "import x\n@x.sync\nasync def handler(e, c): ..."}, "app.handler"),
        ({"app.py": "def setup():\n    global handler\n    handler = print\nsetup()"}, "app.handler"),
        ({"app.py": "import sys\nsys.modules[__name__] = object()"}, "app.handler"),
        ({"app.py": "match 1:\n    case handler: ..."}, "app.handler"),
        ({"app.py": "if (handler := print): ..."}, "app.handler"),
        ({"app.py": ""}, "simplejson.dumps"),
    ],
)
def test_a_handler_that_is_there_by_other_ways(contents: dict[str, str], handler: str) -> None:
    assert messages(contents, handler) == []


@pytest.mark.parametrize(
    ("contents", "handler", "message"),
    [
        (
            {"app/__init__.py": "from .core import handler", "app/core.py": "def main(e, c): ..."},
            "app.handler",
            "the handler `app.handler` needs `handler`, which `app/core.py`, from which `app` has it, does not define",
        ),
        (
            {"app.py": "from core import handler", "core/other.py": ""},
            "app.handler",
            None,
        ),
        (
            {"app/__init__.py": "from .gone import handler"},
            "app.handler",
            "the handler `app.handler` is imported from `app.gone`, which is not in the package",
        ),
        (
            {"app.py": "if __name__ == '__main__':\n    def handler(e, c): ..."},
            "app.handler",
            "the handler `app.handler` needs `handler`, which `app.py` does not define",
        ),
        (
            {"app.py": "import typing\nif typing.TYPE_CHECKING:\n    from x import handler"},
            "app.handler",
            "the handler `app.handler` needs `handler`, which `app.py` does not define",
        ),
        (
            {"app.py": "async def handler(e, c): ..."},
            "app.handler",
            "the handler `app.handler` is an `async` function, which the runtime does not await",
        ),
        (
            {"app/handler.py": "def handler(e, c): ..."},
            "app.handler",
            "the handler `app.handler` needs `handler`, and `app` is a folder without `__init__.py`",
        ),
        (
            {"time.py": "def handler(e, c): ..."},
            "time.handler",
            "the handler `time.handler` names the built-in module `time`, which the runtime refuses",
        ),
        (
            {"app.py": "def handler(e, c): ..."},
            "./app.handler",
            "the handler `./app.handler` needs the module `./app`, which is no name of a module",
        ),
        (
            {"app.py": "class Api:\n    def handler(self, e, c): ..."},
            "app.Api.handler",
            "the handler `app.Api.handler` needs the module `app.Api`, which is not in the package",
        ),
    ],
)
def test_a_handler_that_is_not_there_by_other_ways(contents: dict[str, str], handler: str, message: str | None) -> None:
    assert [one for one, _ in messages(contents, handler)] == ([message] if message else [])


def test_a_package_hides_the_part_of_its_name_in_a_layer() -> None:
    layer = PackageTree(files({"python/shared/app.py": "def handler(e, c): ..."}))
    assert messages({"shared/other.py": ""}, "shared.app.handler", layers=[layer]) == []
    (missing,) = messages({"shared/__init__.py": ""}, "shared.app.handler", layers=[layer])
    assert missing[0] == "the handler `shared.app.handler` needs the module `shared.app`, which is not in the package"


def test_an_async_handler_is_a_warning() -> None:
    found = findings(TARGET, files({"app.py": "async def handler(e, c): ..."}), handler="app.handler")
    assert [(one.rule, one.severity.value, one.path) for one in found] == [("handler-missing", "warning", "app.py")]


def test_a_module_too_long_to_be_read_is_believed_and_said_so() -> None:
    source = "def other(): ...\n" + "#" * (1 << 20)
    (finding,) = findings(TARGET, files({"app.py": source}), handler="app.handler")
    assert (finding.rule, finding.severity.value, finding.path) == ("handler-missing", "note", "app.py")
    assert finding.message == "is too long to be read (1,048,593 bytes): whether it defines `handler` is not judged"


def test_of_very_many_names_the_nearest_is_still_found() -> None:
    source = "".join(f"name_{number} = 1\n" for number in range(20_000)) + "handlers = 1\n"
    ((_, hint),) = messages({"app.py": source}, "app.handler")
    assert hint == "did you mean `app.handlers`?"
