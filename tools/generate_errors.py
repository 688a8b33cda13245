"""Write the reference page of the errors from their tree in `manylambda.errors`.

python tools/generate_errors.py            write it
python tools/generate_errors.py --check    exit 1 when it is not what the tree says
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

from generated import REFERENCE, head, run, table

from manylambda.errors import ManylambdaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = REFERENCE / "errors.md"

_INTRODUCTION: Final = """
# Errors and exit statuses

A command that cannot do what was asked says so in one line that begins with `error:`, and in a line that begins with
`hint:` what to do about it. Both go to standard error. Nothing half written is left behind: a file has its old
content or its new one.

```text
error: no wheel of `netifaces==0.11.0` runs on `python3.13-arm64`

hint: ... `--allow-sdist netifaces` builds it from source for the target
```

`build`, `audit` and `wheel` also end with status 1 when they found something: that is no error of theirs, it is their
result. [The rules](rules.md) tell each finding. With `--fail-on warning` warnings count too.

"""

_STATUSES: Final = {
    0: "done",
    1: "findings at or over `--fail-on`",
    2: "the request is wrong: the command line, the settings, or an input file",
    3: "no set of files satisfies the request",
    4: "something could not be downloaded",
    5: "the package cannot be made",
    6: "the package did not load or run",
    70: "a fault of ours: please report it",
}

_IN_PYTHON: Final = """
## In Python

Each is an exception of `manylambda.errors`, and all are a `ManylambdaError`: `message`, `hint` and `code` are its
attributes, `exit_status` is what the command line ends with. The codes are those of `plan --format json`.

"""

_EXAMPLE: Final = """
```python
from pathlib import Path

from manylambda import ManylambdaError, build, load_settings

try:
    build(load_settings(Path("no-such-folder"), targets=["python3.13-arm64"]))
except ManylambdaError as error:
    print(error.code, error.exit_status, error.message, error.hint)
```
"""


def document() -> str:
    """Return the page."""
    errors = list(_tree(ManylambdaError, 0))
    lost = {error.exit_status for error, _ in errors} - set(_STATUSES)
    assert not lost, f"a status without its meaning: {lost}"
    return "".join(
        (
            head(__file__, "manylambda.errors"),
            _INTRODUCTION,
            table(["status", "means"], ([str(status), meaning] for status, meaning in _STATUSES.items())),
            _IN_PYTHON,
            table(["exception", "code", "status", "means"], (_row(error, depth) for error, depth in errors)),
            _EXAMPLE,
        )
    )


def _tree(error: type[ManylambdaError], depth: int) -> Iterator[tuple[type[ManylambdaError], int]]:
    yield error, depth
    for below in error.__subclasses__():
        yield from _tree(below, depth + 1)


def _row(error: type[ManylambdaError], depth: int) -> list[str]:
    meaning = (inspect.getdoc(error) or "").splitlines()[0].removesuffix(".")
    if error is ManylambdaError:
        meaning = "All of them; raised as itself only by a fault of ours"
    return ["&emsp;" * depth + f"`{error.__name__}`", f"`{error.code}`", str(error.exit_status), meaning]


def wanted() -> dict[Path, str]:
    """Give the page."""
    return {PAGE: document()}


if __name__ == "__main__":
    raise SystemExit(run(wanted))
