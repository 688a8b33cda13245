"""What Lambda's API tells of a package that the real AWS CLI brought there is what the build told."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from docs import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from product.conftest import Run
    from product.loopback import Index

    Cli: TypeAlias = Callable[..., Any]


@pytest.fixture
def cli() -> Iterator[Cli]:
    with aws.served() as account:

        def run(*words: str) -> Any:
            ran = subprocess.run(
                ["aws", *words, "--output", "json"], env={**os.environ, **account}, capture_output=True, check=True
            )
            return json.loads(ran.stdout)

        yield run


def test_code_sha256_is_what_lambda_tells(run: Run, index: Index, project: Path, cli: Cli) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    built = run("build", "-t", "python3.13-arm64", "--format", "json", cwd=project).artifact
    told = cli(
        *("lambda", "create-function", "--function-name", "api", "--handler", "app.lambda_handler", "--role", aws.ROLE),
        *("--runtime", "python3.13", "--architectures", "arm64", "--zip-file", f"fileb://{built['path']}"),
    )
    assert (told["CodeSha256"], told["CodeSize"]) == (built["code_sha256"], built["size"])

    (project / "app.py").write_text("CHANGED = True\n", encoding="utf-8")
    again = run("build", "-t", "python3.13-arm64", "--format", "json", cwd=project).artifact
    assert again["code_sha256"] != built["code_sha256"]
    told = cli("lambda", "update-function-code", "--function-name", "api", "--zip-file", f"fileb://{again['path']}")
    assert told["CodeSha256"] == again["code_sha256"]


def test_code_sha256_of_a_layer_is_what_lambda_tells(run: Run, index: Index, project: Path, cli: Cli) -> None:
    index.wheel("demo")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    built = run("build", "-t", "python3.13-arm64", "--kind", "layer", "--format", "json", cwd=project).artifact
    told = cli("lambda", "publish-layer-version", "--layer-name", "demo", "--zip-file", f"fileb://{built['path']}")
    assert told["Content"]["CodeSha256"] == built["code_sha256"]
