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
