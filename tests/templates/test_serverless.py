"""`serverless.yml`: what is read of functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manylambda.errors import RequestError
from manylambda.templates.serverless import Function, find_service, read_service
from manylambda.templates.variables import Variables

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = """\
service: ${self:custom.name}
custom:
  name: orders
  runtime: ${self:custom.newest}
  newest: python3.13
  a: ${self:custom.b}
  b: ${self:custom.a}
  pythonRequirements: {fileName: prod.txt}
provider:
  name: aws
  runtime: ${self:custom.runtime}
  architecture: arm64
  stage: ${opt:stage, 'dev'}
package: {artifact: dist/all.zip, patterns: ["!node_modules/**"]}
functions:
  api: {handler: app.handler, events: [httpApi: "*"]}
  worker: {handler: worker.main, runtime: python3.11, architecture: x86_64, package: {artifact: dist/worker.zip}}
  image: {image: {name: x}}
  node: {handler: x.y, runtime: nodejs20.x}
  later: {handler: x.y, runtime: "${param:runtime}"}
  either: {handler: x.y, architecture: "${param:architecture}"}
  circle: {handler: x.y, runtime: "${self:custom.a}"}
"""


def test_functions_take_what_the_provider_says(tmp_path: Path) -> None:
    (tmp_path / "serverless.yml").write_text(SERVICE, encoding="utf-8")
    path = find_service(tmp_path)
    assert path is not None
    service = read_service(path)
    assert service.name == "orders"
    assert service.functions[:2] == (
        Function(
            name="api", runtime="python3.13", architecture="arm64", handler="app.handler", artifact="dist/all.zip",
            variables={}, assumed={},
        ),
        Function(
            name="worker", runtime="python3.11", architecture="x86_64", handler="worker.main",
            artifact="dist/worker.zip", variables={}, assumed={},
        ),
    )  # fmt: skip
    assert {one.name: (one.target and str(one.target), one.variables) for one in service.functions} == {
        "api": ("python3.13-arm64", {}),
        "worker": ("python3.11-x86_64", {}),
        "later": (None, {"runtime": "${param:runtime}"}),
        "either": (None, {"architecture": "${param:architecture}"}),
        "circle": (None, {"runtime": "${self:custom.a}"}),
    }
    assert service.skipped == {"image": "it is a container image", "node": "its runtime is nodejs20.x"}
    assert service.requirements == "prod.txt"


def test_functions_may_be_a_list_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "serverless.yml"
    path.write_text(
        "provider: aws\nfunctions:\n  - ${file(more.yml)}\n  - a: {handler: x.y}\n  - b: {handler: x.y}\n",
        encoding="utf-8",
    )
    assert [(function.name, function.target) for function in read_service(path).functions] == [("a", None), ("b", None)]


def test_what_other_files_and_defaults_say_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "serverless.yml"
    path.write_text(
        """
service: shop
custom:
  stage: ${opt:stage, self:provider.stage, 'prod'}
  architectures: {dev: arm64, prod: x86_64}
provider:
  name: aws
  stage: dev
  runtime: python3.${file(common.yml):python.minor}
  architecture: ${self:custom.architectures.${self:custom.stage}}
layers: {shared: {path: layer}}
functions:
  a: ${file(functions/a.yml)}
  b: {handler: b.main, runtime: "${env:RUNTIME, 'python3.12'}", architecture: arm64, module: services/b}
  c: ${file(gone.yml)}
  d: {handler: "${self:custom.no}.main", runtime: "${sls:instanceId}"}
""",
        encoding="utf-8",
    )
    (tmp_path / "common.yml").write_text("python: {minor: 13}\n", encoding="utf-8")
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "a.yml").write_text("handler: a.main\n", encoding="utf-8")
    service = read_service(path)
    a, b, d = service.functions
    assert (a.handler, a.runtime, a.architecture, a.assumed) == (
        "a.main", "python3.13", None, {"architecture": "arm64"},
    )  # fmt: skip
    assert (b.runtime, b.architecture, b.assumed, b.module) == (
        None, "arm64", {"runtime": "python3.12"}, "services/b",
    )  # fmt: skip
    assert (a.target, b.target) == (None, None)  # `init serverless` builds nothing for a default
    assert set(d.variables) == {"runtime", "handler", "architecture"}
    assert service.skipped == {"c": "it is a variable that only Serverless knows: ${file(gone.yml)}"}
    assert service.layers == ("shared",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${self:a}", "x"),
        ("${self:none, 'y'}", "y"),
        ('${self:none, "y, z"}', "y, z"),
        ("${self:none, self:a}", "x"),
        ("${self:table}", {"key": "x"}),
        ("${self:table.key}-${sls:stage}", "x-dev"),
        ("${self:table}-a", None),
        ("${self:circle}", None),
        ("${self:long}", None),
        ("${file(../absent.yml):a}", None),
        ("${file(code.js):a}", None),
        ("${s3:bucket/key}", None),
        ("${}", None),
        ("$ {x", "$ {x"),
        ("${x", None),
        (3, 3),
    ],
)
def test_variables(tmp_path: Path, value: object, expected: object) -> None:
    document = {"a": "x", "table": {"key": "x"}, "circle": "${self:circle}", "long": "${self:long}${self:long}"}
    assert Variables(document, tmp_path).given(value).value == expected


def test_a_file_of_another_tool_is_no_service(tmp_path: Path) -> None:
    assert find_service(tmp_path) is None
    (tmp_path / "serverless.yml").write_text("name: x\n", encoding="utf-8")
    assert find_service(tmp_path) is None
    with pytest.raises(RequestError, match=r"serverless\.yml` has no `provider`$"):
        read_service(tmp_path / "serverless.yml")
