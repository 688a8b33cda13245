# /// script
# requires-python = ">=3.11"
# dependencies = ["manylambda"]
# ///
"""Make the tables of `src/manylambda/data/symbols/`: what CPython and the C libraries of a runtime export.

Real binaries are read, with manylambda's own reader:

- `cpython.json`: `libpython` of every minor version, of the interpreters pyenv has built (`--pyenv`) and of Debian's
  packages for both machines. Versions differ in private names even between patch levels: the union counts.
- `system.json`: glibc, libstdc++, libgcc and zlib of Debian's packages for both machines, each name with the symbol
  version that it came with. What a runtime has follows from the ceilings in `runtimes.json`.

Packages are checked against the sha256 that the mirror's index states.

    python tools/update_symbols.py --pyenv ~/.pyenv/versions --keep FOLDER
    python tools/update_symbols.py --check ...          write nothing; exit status 1 where a table would change

Names that leave the tables make facts unsound that caches hold: raise `NATIVE_VERSION` in `pipeline/build.py` (a test
says so).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import re
import sys
import tarfile
import urllib.request
from collections import defaultdict
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda import elf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

FOLDER: Final = Path(__file__).parents[1] / "src" / "manylambda" / "data" / "symbols"
MIRROR: Final = "http://deb.debian.org/debian"

# Our name of a machine, Debian's.
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
CPYTHONS: Final = {
    "bullseye": ("libpython3.9",),
    "bookworm": ("libpython3.11",),
    "trixie": ("libpython3.13",),
    "forky": ("libpython3.13", "libpython3.14", "libpython3.15"),
}
SYSTEM_SUITE: Final = "trixie"
# Under the name of one library stands what is loaded with it: of glibc's all that every interpreter has loaded, since
# symbols moved between them.
SYSTEM: Final = {
    "libc.so.6": (
        "libc6",
        (
            "libc.so.6", "libm.so.6", "libmvec.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
            "ld-linux",
        ),
    ),
    "libresolv.so.2": ("libc6", ("libresolv.so.2",)),
    "libgcc_s.so.1": ("libgcc-s1", ("libgcc_s.so.1",)),
    "libstdc++.so.6": ("libstdc++6", ("libstdc++.so.6",)),
    "libz.so.1": ("zlib1g", ("libz.so.1",)),
}  # fmt: skip
# What the linkers and other libraries put into every library is no API of CPython.
_API = re.compile(r"_*Py[A-Z_]?\w*")


class Package(NamedTuple):
    """A package of the mirror."""

    name: str
    version: str
    path: str
    sha256: str


class Mirror:
    """Debian packages, kept in a folder."""

    def __init__(self, url: str, keep: Path) -> None:
        self._url = url
        self._keep = keep
        self._indexes: dict[tuple[str, str], dict[str, Package]] = {}

    def package(self, suite: str, machine: str, name: str) -> Package:
        """Look a package up."""
        key = (suite, MACHINES[machine])
        if key not in self._indexes:
            data = self._get(f"dists/{suite}/main/binary-{MACHINES[machine]}/Packages.xz")
            self._indexes[key] = dict(_packages(lzma.decompress(data).decode()))
        return self._indexes[key][name]

    def libraries(self, package: Package) -> Iterator[tuple[str, bytes]]:
        """Yield the shared objects of a package: name, content."""
        for path, content in self.files(package, lambda path: ".so" in PurePosixPath(path).name):
            yield PurePosixPath(path).name, content

    def files(self, package: Package, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Yield the files of a package whose paths are wanted: path, content."""
        data = self._get(package.path)
        if hashlib.sha256(data).hexdigest() != package.sha256:
            raise SystemExit(f"{package.path} is not what the mirror's index says")
        for name, member in _ar_members(data):
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=io.BytesIO(member)) as archive:
                    for info in archive:
                        if info.isfile() and wanted(info.name):
                            content = archive.extractfile(info)
                            assert content is not None
                            yield info.name, content.read()

    def _get(self, path: str) -> bytes:
        kept = self._keep / path.replace("/", "_")
        if not kept.exists():
            self._keep.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(f"{self._url}/{path}", timeout=60) as answer:
                kept.write_bytes(answer.read())
        return kept.read_bytes()


def _packages(index: str) -> Iterator[tuple[str, Package]]:
    for paragraph in index.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields:
            name = fields["Package"]
            yield name, Package(name, fields["Version"], fields["Filename"], fields["SHA256"])


def _ar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 8
    while at + 60 <= len(data):
        size = int(data[at + 48 : at + 58])
        yield data[at : at + 16].decode().strip().rstrip("/"), data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def _exports(data: bytes) -> Iterator[elf.Symbol]:
    table = elf.symbol_table(io.BytesIO(data))
    assert table is not None
    # The name of a version stands among the symbols too.
    return (symbol for symbol in table if symbol.defined and symbol.name != symbol.version)


def cpython(mirror: Mirror, pyenv: Path | None) -> dict[str, object]:
    """Return the names that each minor version exports."""
    minors: dict[str, set[str]] = defaultdict(set)
    read: dict[str, set[str]] = defaultdict(set)

    def add(version: str, data: bytes, origin: str) -> None:
        minor = ".".join(version.split(".")[:2])
        minors[minor].update(
            symbol.name
            for symbol in _exports(data)
            if _API.fullmatch(symbol.name) and not symbol.name.startswith("PyInit_")
        )
        read[minor].add(f"{version} ({origin})")

    for library in sorted(pyenv.glob("*/lib/libpython*.so.1.0")) if pyenv is not None else ():
        add(library.parent.parent.name, library.read_bytes(), "pyenv, x86_64")
    for suite, names in CPYTHONS.items():
        for machine in MACHINES:
            for name in names:
                package = mirror.package(suite, machine, name)
                for file, data in mirror.libraries(package):
                    if file.endswith(".so.1.0"):
                        add(re.split(r"[-+~]", package.version)[0], data, f"Debian, {machine}")
    order = sorted(minors, key=_version)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set().union(*minors.values())):
        groups[_ranges([minor for minor in order if name in minors[minor]], order)].append(name)
    return {
        "source": "libpython of each minor version, read by tools/update_symbols.py",
        "confidence": "high for public names; private ones may differ between patch levels",
        "read": {minor: sorted(read[minor], key=_version) for minor in order},
        "names": {key: " ".join(names) for key, names in sorted(groups.items(), key=lambda one: _version(one[0]))},
    }


def _ranges(minors: list[str], order: list[str]) -> str:
    """Write minor versions as `3.8-3.11 3.13`."""
    parts = []
    for _, numbers in groupby(enumerate(order.index(minor) for minor in minors), lambda pair: pair[1] - pair[0]):
        run = [order[number] for _, number in numbers]
        parts.append(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return " ".join(parts)


def system(mirror: Mirror) -> dict[str, object]:
    """Return the names that the libraries export, by the versions they came with on each machine."""
    packages: set[str] = set()
    libraries: dict[str, object] = {}
    for library, (name, files) in SYSTEM.items():
        first: dict[str, dict[str, str]] = {}
        for machine in MACHINES:
            package = mirror.package(SYSTEM_SUITE, machine, name)
            packages.add(f"{package.name} {package.version}")
            first[machine] = _first_versions(
                symbol
                for file, data in mirror.libraries(package)
                if file.startswith(files) and data[:4] == b"\x7fELF"
                for symbol in _exports(data)
            )
        groups: dict[str, list[str]] = defaultdict(list)
        for symbol in sorted(set().union(*first.values())):
            groups[" ".join(first[machine].get(symbol, "-") for machine in MACHINES)].append(symbol)
        libraries[library] = {key: _shortened(names) for key, names in sorted(groups.items())}
    return {
        "source": f"Debian {SYSTEM_SUITE}, both machines, read by tools/update_symbols.py: "
        + ", ".join(sorted(packages)),
        "confidence": "high: names keep their symbol version for ever; Amazon Linux builds the same sources",
        "machines": list(MACHINES),
        "libraries": libraries,
    }


def _first_versions(symbols: Iterable[elf.Symbol]) -> dict[str, str]:
    """Return the oldest version of each name; `*` for one that has none, or is not promised."""
    found: dict[str, str] = {}
    for symbol in symbols:
        version = symbol.version or "*"
        version = "*" if version.endswith("PRIVATE") else version
        known = found.get(symbol.name)
        if known is None or (known != "*" and (version == "*" or _version(version) < _version(known))):
            found[symbol.name] = version
    return found


def _shortened(names: list[str]) -> str:
    """Write sorted names, each as what it shares with the last one (`~` and so many characters) and the rest."""
    parts = []
    last = ""
    for name in names:
        shared = next(
            (at for at, pair in enumerate(zip(last, name, strict=False)) if pair[0] != pair[1]),
            min(len(last), len(name)),
        )
        parts.append(f"{shared}~{name[shared:]}" if shared > 3 else name)
        last = name
    return " ".join(parts)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _written(table: Mapping[str, object]) -> str:
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Make the tables; see the text of the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mirror", default=MIRROR, help="of Debian packages")
    parser.add_argument("--pyenv", type=Path, help="folder of the interpreters that pyenv has built")
    parser.add_argument("--keep", type=Path, required=True, help="folder for what is downloaded")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    mirror = Mirror(given.mirror, given.keep)
    differs = False
    FOLDER.mkdir(exist_ok=True)
    for name, table in (("cpython.json", cpython(mirror, given.pyenv)), ("system.json", system(mirror))):
        path = FOLDER / name
        text = _written(table)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differs = True
            sys.stdout.write(f"{name} {'would change' if given.check else 'written'}\n")
            if not given.check:
                path.write_text(text, encoding="utf-8", newline="\n")
    return int(differs and given.check)


if __name__ == "__main__":
    sys.exit(main())
