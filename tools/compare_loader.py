"""Compare what the audit says of the corpus with what happens: each package is imported by a real CPython on Linux.

    python tools/compare_loader.py 3.13=/usr/bin/python3.13 3.11=... [--cache FOLDER] [--page FILE]

Only packages for x86_64, and only where this host decides as Lambda would; `ELSEWHERE` has the others with the reason.
An error must be an import that fails, and no error one that does not. Exit status 1 when they differ. Wheels of the
index are run here: do so in a container, or on a machine of no worth.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.fetch import Cache, Credentials, fetch_all
from manylambda.pipeline.audit import examine
from manylambda.progress import SILENT
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from corpus.box import Box, pinned
from corpus.distributions import DISTRIBUTIONS
from corpus.loading import LOADING
from corpus.making import MAKING
from corpus.table import GOOD

if TYPE_CHECKING:
    from corpus.case import Case

MODULES: Final = {
    "markupsafe": "markupsafe._speedups", "pyzmq": "zmq.backend.cython._zmq", "gmpy2": "gmpy2.gmpy2",
    "psycopg2-binary": "psycopg2._psycopg", "orjson": "orjson.orjson", "pyyaml": "yaml._yaml",
    "greenlet": "greenlet._greenlet", "ujson": "ujson", "rpds-py": "rpds.rpds", "numpy": "numpy.linalg._umath_linalg",
    "pydantic-core": "pydantic_core._pydantic_core", "cryptography": "cryptography.hazmat.bindings._rust",
    "cffi": "_cffi_backend", "bcrypt": "bcrypt._bcrypt", "psutil": "psutil._psutil_linux", "regex": "regex._regex",
    "charset-normalizer": "charset_normalizer.md",
}  # fmt: skip
"""What is imported of a wheel, by the beginning of its key."""

ELSEWHERE: Final = {
    "one of two wheels of the other machine": "only one of the two fails, as it should",
    "library of 32-bit x86 in lib/": "nothing loads the file unless asked to",
    "musl program": "nothing runs the file unless asked to",
    "module of the host's compiler on AL2": "this host has a newer glibc",
    "newer glibc in a wheel that says otherwise": "this host has a newer glibc",
    "library that no wheel brings": "whether this host has `libgomp` says nothing of Lambda",
    "permissions of a umask of 077": "here the owner imports it",
    "compressed with bzip2": "what Lambda unpacks is not tried here",
    "source emptied": "the extension module does not need it",
    "two versions of one distribution": "both bring the same module",
}


class Row(NamedTuple):
    """One package."""

    name: str
    said: tuple[str, ...]
    """Rules with an error."""
    failed: str | None
    """The last line of what Python printed; None where the import went well."""

    @property
    def agrees(self) -> bool:
        """Whether the audit was right."""
        return bool(self.said) == (self.failed is not None)


def rows(pythons: Mapping[str, str], cache: Cache) -> Iterator[Row]:
    """Audit and import every package that this host can judge."""
    wheels = pinned()
    paths = fetch_all(
        list(wheels.values()),
        cache=cache,
        credentials=Credentials.from_settings(os.environ),
        offline=False,
        progress=SILENT,
    )
    for case in (*LOADING, *MAKING, *DISTRIBUTIONS, *GOOD):
        runtime, _, architecture = case.target.partition("-")
        python = pythons.get(runtime.removeprefix("python"))
        modules = [module for key in case.wheels for name, module in MODULES.items() if _is_of(key, name)]
        if python is None or architecture != "x86_64" or not modules or case.layers or case.name in ELSEWHERE:
            continue
        with tempfile.TemporaryDirectory() as name:
            box = Box()
            for key in case.wheels:
                if case.kind != "layer":
                    box.install(paths[wheels[key]])
            case.change(box)
            if any(part.mode >> 12 == 0o12 or not _is_plain(part.name) for part in box.parts.values()):
                continue  # links and names that this tool does not unpack
            folder = box.to_folder(Path(name))
            yield Row(case.name, _said(folder, case), _failed(folder, python, modules))


def _is_of(key: str, name: str) -> bool:
    return key == name or (key.startswith(f"{name}-") and not key.startswith(f"{name}-core"))


def _is_plain(name: bytes) -> bool:
    return not name.startswith(b"/") and b".." not in name and b"\\" not in name


def _said(folder: Path, case: Case) -> tuple[str, ...]:
    report = examine(folder, Target.parse(case.target), offline=True).report
    errors = {one.rule for one in report.findings if one.severity.value == "error"}
    # What is missing besides is not imported here.
    return tuple(sorted(errors - {"distribution-missing", "distribution-conflict", "requires-python"}))


def _failed(folder: Path, python: str, modules: Sequence[str]) -> str | None:
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = subprocess.run(
        [python, "-BsE", "-c", f"import sys; sys.path.insert(0, '.'); {code}", *modules],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1].replace(f"{folder}/", "") if lines else f"signal {-done.returncode}"


def _page(found: Sequence[Row]) -> str:
    return "\n".join(
        [
            "# What the audit says, beside what happens",
            "",
            "Written by `python tools/compare_loader.py 3.13=PATH ... --page docs/development/measurements/loader.md`:",
            "packages of the corpus (`tests/corpus`), imported by a real CPython of the target's minor version on",
            "Linux, x86_64. An error finding must be an import that fails, and no error finding one that goes well.",
            "",
            _summary(found) + ".",
            "",
            "| package | errors of the audit | what the import said |",
            "|---|---|---|",
            *(
                f"| {row.name}{'' if row.agrees else ' **(differs)**'} | {', '.join(f'`{one}`' for one in row.said)} "
                f"| {_code(row.failed[:200]) if row.failed else ''} |"
                for row in found
            ),
            "",
        ]
    )


def _code(text: str) -> str:
    text = text.replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"  # the loader quotes as `this'


def _summary(found: Sequence[Row]) -> str:
    failed = sum(row.failed is not None for row in found)
    differences = sum(not row.agrees for row in found)
    return f"{len(found)} packages, {failed} of which fail to import: {differences} differences"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", nargs="+", metavar="X.Y=PATH")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--page", type=Path)
    words = parser.parse_args()
    pythons = dict(one.split("=", 1) for one in words.python)
    found = list(rows(pythons, Cache(words.cache) if words.cache else Cache.default()))
    for row in found:
        if not row.agrees:
            print(f"{row.name}: the audit says {row.said or 'nothing'}, the import {row.failed or 'went well'}")
    print(_summary(found))
    if words.page:
        words.page.write_text(_page(found), encoding="utf-8", newline="\n")
    return 1 if any(not row.agrees for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
