"""Begins a build in a container: makes its environment, and ends it when its time is over or its caller is gone.

    python -I -S begin.py SECONDS COMMAND ARGUMENT...

The build requirements lie unpacked beside this program's folder, for whatever host they were put there: here they get
an interpreter, which is the image's, and programs on the path that run with it. It is the first process of the
container: whatever is left when it ends, the kernel ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROGRAM = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({attribute}())
"""
# How uv and pip begin a script whose interpreter's path is too long or has a space: the kernel reads neither.
_THROUGH_SHELL = b"#!/bin/sh\n'''exec'"


def main(arguments: Sequence[str]) -> int:
    """Run the command and give its exit status: 1 for whatever went wrong, since a container's program adds its own."""
    seconds, *command = arguments
    # One stream, so that what is said stays in its order.
    os.dup2(1, 2)
    _end_with_caller(float(seconds))
    root = Path(__file__).resolve().parent.parent
    make_environment(root / "env", root / "packages")
    environment = {**os.environ, "PATH": f"{root}/env/bin:{os.environ.get('PATH') or os.defpath}"}
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    pid = status = 0
    while pid != child.pid:
        # Others that it left behind are ours to bury too.
        pid, status = os.wait()
    child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    if child.returncode < 0:
        sys.stdout.write(f"ended by signal {-child.returncode}\n")
        if child.returncode == -9:
            sys.stdout.write("the memory of the machine that runs containers may be too small\n")
    return 1 if child.returncode else 0


def _end_with_caller(seconds: float) -> None:
    """End everything after `seconds`, and when standard input does: its other end is held by the caller."""

    def listen() -> None:
        while os.read(0, 1 << 10):
            pass
        os._exit(1)

    def give_up() -> None:
        os.write(1, b"ended after %d minutes\n" % (seconds // 60))
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def make_environment(folder: Path, packages: Path) -> None:
    """Make a virtual environment of this interpreter whose distributions are those in `packages`."""
    interpreter = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    minor = "python{}.{}".format(*sys.version_info[:2])
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / minor).mkdir(parents=True)
    settings = f"home = {interpreter.parent}\ninclude-system-site-packages = false\n"
    (folder / "pyvenv.cfg").write_text(settings, encoding="utf-8")
    (folder / "lib" / minor / "site-packages").symlink_to(packages)
    for name in ("python", "python3", minor):
        (folder / "bin" / name).symlink_to(interpreter)
    for name, content in _programs(packages, f"{folder}/bin/python"):
        place = folder / "bin" / name
        if os.path.lexists(place):
            continue
        if content is None:
            place.symlink_to(packages / "bin" / name)
        else:
            place.write_bytes(content)
            place.chmod(0o755)


def _programs(packages: Path, python: str) -> Iterator[tuple[str, bytes | None]]:
    """Yield the programs that come with distributions; None for one that runs as it is."""
    from importlib.metadata import distributions

    for distribution in distributions(path=[str(packages)]):
        for entry in distribution.entry_points:
            if entry.group == "console_scripts":
                module, _, attribute = entry.value.partition("[")[0].replace(" ", "").partition(":")
                name = attribute.partition(".")[0]
                text = _PROGRAM.format(python=python, module=module, name=name, attribute=attribute)
                yield entry.name, text.encode()
    for file in sorted((packages / "bin").glob("*")):
        with file.open("rb") as stream:
            content = stream.read(1 << 16)
            yield file.name, _of_interpreter(content + stream.read() if content[:2] == b"#!" else content, python)


def _of_interpreter(content: bytes, python: str) -> bytes | None:
    """Give a Python script another interpreter; None for what is no Python script."""
    first, _, rest = content.partition(b"\n")
    if content.startswith(_THROUGH_SHELL):
        rest = content.split(b"\n", 3)[-1]
    elif not first.startswith(b"#!") or b"python" not in first:
        return None
    return f"#!{python}\n".encode() + rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
