"""Compiles Python files for `engines/bytecode.py`, by the target's own CPython or one of the same bytecode.

    python -I -S compiler.py

Standard input is a list of paths, each ended by a NUL; standard output has, in their order, four bytes of length
(little endian) and the contents of a `.pyc` each: none for a file that does not compile. Nothing of a file is executed.

The bytecode is not to be checked against its source (PEP 552): it is kept by the hash of that. CPython 3.8 or newer.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import sys
import warnings


def main() -> None:
    """Read the list, write the bytecode as it is made."""
    warnings.simplefilter("ignore")
    for path in sys.stdin.buffer.read().split(b"\0"):
        if path:
            made = compiled(path)
            sys.stdout.buffer.write(len(made).to_bytes(4, "little") + made)
            sys.stdout.buffer.flush()


def compiled(path: bytes) -> bytes:
    """Give the contents of a file's `.pyc`; none where it has none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path is bytes here
            source = file.read()
        code = marshal.dumps(compile(source, os.fsdecode(path), "exec", dont_inherit=True, optimize=0))
        return importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(source) + code
    except (OSError, SyntaxError, ValueError, OverflowError, RecursionError, MemoryError, SystemError):
        return b""


if __name__ == "__main__":
    main()
