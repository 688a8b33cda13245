"""`serverless.yml`: what is read of functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manylambda.errors import RequestError
from manylambda.templates.serverless import Function, find_service, read_service

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
            variables={},
        ),
        Function(
            name="worker", runtime="python3.11", architecture="x86_64", handler="worker.main",
            artifact="dist/worker.zip", variables={},
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


def test_a_file_of_another_tool_is_no_service(tmp_path: Path) -> None:
    assert find_service(tmp_path) is None
    (tmp_path / "serverless.yml").write_text("name: x\n", encoding="utf-8")
    assert find_service(tmp_path) is None
    with pytest.raises(RequestError, match=r"serverless\.yml` has no `provider`$"):
        read_service(tmp_path / "serverless.yml")
