"""Make the source distribution and the wheel twice, on two machines in one, and give them only if they are the same.

    python tools/build_release.py [--into dist]

The second time in another folder, with other dates, modes, zone and locale, and the wheel from the source distribution.
What is in them is checked, too: all of the package and nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).parent.parent
_LEFT: Final = shutil.ignore_patterns(
    ".git", ".venv", ".nox", "build", "dist", "site", "__pycache__", "*.pyc", ".*_cache", ".hypothesis", "*.egg-info"
)


def build(folder: Path, into: Path, kind: str, *, umask: int, environment: dict[str, str]) -> Path:
    """Build one of a folder by the backend itself."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        umask=umask if os.name == "posix" else -1,
        env={**{name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}, **environment},
    )
    (made,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def made_twice(scratch: Path) -> list[Path]:
    """Make both, compare, and give the first of each. Raises SystemExit with what differs."""
    here, there = scratch / "one", scratch / "another folder" / "zwei"
    shutil.copytree(REPOSITORY, here, ignore=_LEFT)
    shutil.copytree(REPOSITORY, there, ignore=_LEFT)
    for number, file in enumerate(sorted(there.rglob("*"), reverse=True)):
        os.utime(file, (1_000_000_000 + number, 1_000_000_000 + number))
        if file.is_file():
            file.chmod((0o700 if os.access(file, os.X_OK) else 0o600) | number % 2 * 0o22)
    plain = {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
    odd = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "4711"}
    first = [build(here, scratch / "1", kind, umask=0o022, environment=plain) for kind in ("sdist", "wheel")]
    sdist = build(there, scratch / "2", "sdist", umask=0o077, environment=odd)
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    (unpacked,) = (scratch / "unpacked").iterdir()
    second = [sdist, build(unpacked, scratch / "2", "wheel", umask=0o000, environment=odd)]
    different = [one.name for one, other in zip(first, second, strict=True) if one.read_bytes() != other.read_bytes()]
    if different:
        raise SystemExit(f"not the same when it is built again: {', '.join(different)}")
    return first


def problems(wheel: Path, sdist: Path) -> Iterator[str]:
    """Yield what is wrong with the contents."""
    source = REPOSITORY / "src"
    wanted = {
        file.relative_to(source).as_posix()
        for file in (source / "manylambda").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    shared: dict[str, str] = project["tool"]["hatch"]["build"]["targets"]["wheel"].get("shared-data", {})
    wanted |= {f"{'-'.join(wheel.name.split('-')[:2])}.data/data/{place}" for place in shared.values()}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        modes = {info.external_attr >> 16 & 0o777 for info in archive.infolist()}
    yield from (f"the wheel lacks {name}" for name in sorted(wanted - names))
    yield from (f"the wheel has {name}" for name in sorted(names - wanted))
    if "manylambda/py.typed" not in names:
        yield "the wheel has no py.typed"
    if not modes <= {0o644, 0o755}:
        yield f"modes in the wheel: {', '.join(map(oct, sorted(modes)))}"
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    needed = {f"src/{name}" for name in wanted if name.startswith("manylambda/")} | {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "action.yml",
        "tests/conftest.py",
    }
    yield from (f"the source distribution lacks {name}" for name in sorted(needed - packed))


def main() -> int:
    """Make, compare, check, and put them where they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", metavar="DIR")
    into: Path = parser.parse_args().into
    with tempfile.TemporaryDirectory() as scratch:
        sdist, wheel = made_twice(Path(scratch))
        if found := list(problems(wheel, sdist)):
            raise SystemExit("\n".join(found))
        into.mkdir(parents=True, exist_ok=True)
        for file in (sdist, wheel):
            print(shutil.copyfile(file, into / file.name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
