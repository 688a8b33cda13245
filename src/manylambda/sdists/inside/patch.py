"""Changes what ELF files are called, need and search, with the writer of `repairwheel`: of any machine, on any host.

    python -I -S patch.py FOLDER CHANGES.json

FOLDER is where `repairwheel` is installed. A change is `[file, soname, rpath, needed]`: a name or null for the one that
it has, folders with `:` between them (none clears them), and new names of libraries by the old ones.
"""

from __future__ import annotations

import json
import sys


def main(folder: str, changes: str) -> None:
    """Make all changes, each file in its place."""
    sys.path.append(folder)
    from repairwheel.linux.elffile import ElfFile

    with open(changes, encoding="utf-8") as told:  # noqa: PTH123 - as the others here
        wanted = json.load(told)
    for file, soname, rpath, needed in wanted:
        with open(file, "r+b") as stream:  # noqa: PTH123
            ElfFile(stream).rewrite(
                new_soname=None if soname is None else soname.encode(),
                new_rpath=rpath.encode(),
                needed_replacements={old.encode(): new.encode() for old, new in needed.items()},
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
