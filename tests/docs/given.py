"""What a block of the documentation takes for granted: `<!-- with: function.zip -->` has it made beforehand.

python -m docs.given NAME        make it in the working folder, or, a program, in the folder `GIVEN` of the path
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[2]


def function_zip() -> None:
    """Make the package of the example `api`, for python3.13 on arm64."""
    _build("examples/api", "python3.13-arm64", "function.zip")


def function_zip_x86() -> None:
    """Make the package of the example `api`, for python3.13 on x86-64, under the name of any function."""
    _build("examples/api", "python3.13-x86_64", "function.zip")


def layer_zip() -> None:
    """Make the layer of the example `layer`."""
    _build("examples/layer", "python3.13-arm64", "common-layer.zip", "--kind", "layer")


def clone() -> None:
    """Put there what a clone of the repository has."""
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, name)


def pbpaste() -> None:
    """Stand for the clipboard of macOS, with an error from CloudWatch in it."""
    _program("pbpaste", "echo \"Runtime.ImportModuleError: Unable to import module 'app': No module named 'orders'\"")


def wheels_of_macos() -> None:
    """Make a function's zip as pip makes it on a Mac: with a wheel of macOS in it."""
    options = ["--python-platform", "aarch64-apple-darwin", "--python-version", "3.13", "--only-binary", ":all:"]
    subprocess.run(["uv", "pip", "install", "-q", "--target", "mac", *options, "orjson==3.11.*"], check=True)
    shutil.copy("app.py", "mac")
    shutil.make_archive("function", "zip", "mac")
    shutil.rmtree("mac")


def cpython() -> None:
    """Leave the block out where no CPython 3.13 is on this machine."""
    from manylambda.host.interpreters import Interpreter, find_interpreter

    if not isinstance(find_interpreter((3, 13)), Interpreter):
        raise SystemExit(NOT_HERE)


def account() -> None:
    """Check that there is an account of AWS, as `docs.aws` serves it while the page is run."""
    subprocess.run(
        ["aws", "lambda", "get-function", "--function-name", "orders"], check=True, stdout=subprocess.DEVNULL
    )


NOT_HERE: Final = 77
"""The exit status that leaves out a block: what it needs is not on this machine."""

ACCOUNT: Final = "an account of AWS"

GIVEN: Final[dict[str, Callable[[], None]]] = {
    "function.zip": function_zip,
    "function.zip for x86-64": function_zip_x86,
    "common-layer.zip": layer_zip,
    "a clone": clone,
    "pbpaste": pbpaste,
    "wheels of macOS": wheels_of_macos,
    "a CPython 3.13": cpython,
    ACCOUNT: account,
}


def _build(project: str, target: str, name: str, *more: str) -> None:
    words = ["build", str(ROOT / project), "-t", target, "-o", "given", *more]
    subprocess.run([sys.executable, "-m", "manylambda", *words], check=True, stdout=subprocess.DEVNULL)
    (package,) = Path("given").glob("*.zip")
    package.rename(name)
    shutil.rmtree("given")


def _program(name: str, text: str) -> None:
    path = Path(os.environ["GIVEN"]) / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


if __name__ == "__main__":
    GIVEN[sys.argv[1]]()
