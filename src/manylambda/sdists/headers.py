"""The C headers of the target's CPython: a host's of the same minor version, with the runtime's own `pyconfig.h`.

All headers but that one are the same on every system (docs/development/decisions/0012-pyconfig.md).
"""

from __future__ import annotations

import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from manylambda.errors import PackagingError

if TYPE_CHECKING:
    from manylambda.host.interpreters import Interpreter
    from manylambda.target import Target


def stage(target: Target, interpreter: Interpreter, folder: Path) -> Path:
    """Copy the headers of `interpreter`, which is of the target's minor version, into `folder`; give the folder.

    Raises `PackagingError` when it came without its headers.
    """
    minor = "{}.{}".format(*target.python)
    assert interpreter.minor == target.python
    source = Path(interpreter.include)
    if not (source / "Python.h").is_file():
        raise PackagingError(
            f"CPython {minor} of this host has no headers: `{interpreter.program}`",
            hint=f"install them (Debian: `apt-get install libpython{minor}-dev`), or take another one: "
            f"`uv python install {minor}` brings its own",
        )
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("pyconfig.h", "pyconfig-*.h"), dirs_exist_ok=True)
    own = files("manylambda.data") / "pyconfig" / f"{minor}.h"
    (folder / "pyconfig.h").write_text(own.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")
    for path in folder.rglob("*"):
        if path.is_file():
            os.chmod(path, 0o644)  # noqa: PTH101
    return folder
