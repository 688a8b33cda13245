"""Rust in a build: the host's own toolchain, told to compile for the target and to link with zig.

Rust's compiler compiles for every target whose standard library it has; what it lacks is a linker, and zig is one.
The toolchain is the user's: which Rust a package needs is for the package to say, and none is fetched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import PackagingError
from manylambda.host import process
from manylambda.sdists import launchers
from manylambda.sdists.isolation import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.target import Target

_PLACE: Final = "/rust"
_CARGO: Final = "/rust-cargo"
_CRATES: Final = "/rust-crates"
# Of every glibc that Rust has a standard library for; what is linked for this host runs on it, however old it is.
_OLDEST_GLIBC: Final = "2.17"
_INSTALL: Final = (
    "install it from https://rustup.rs, then `rustup target add {}`; "
    "or `--sdist-engine container --image REF` builds in an image that has it"
)
_WINDOWS: Final = os.name == "nt"


class Rust(NamedTuple):
    """A Rust toolchain of this host that can compile for a target."""

    sysroot: Path
    """Its folder, which has `lib/rustlib`; not that of rustup's proxies."""
    rustc: Path
    cargo: Path
    version: str
    """As `rustc --version` has it, with the commit: `rustc 1.95.0 (59807616e 2026-04-14)`."""
    commit: str
    host: str
    """The triple that it runs on: `x86_64-unknown-linux-gnu`."""
    triple: str
    """Of the target."""
    crates: Path | None = None
    """A folder of crates that the user's configuration puts in the place of crates.io."""

    @property
    def zig_host(self) -> str | None:
        """Give what zig links for to make what runs here; None where Rust finds a linker by itself."""
        match = re.fullmatch(r"(\w+)-unknown-linux-(gnu|musl)", self.host)
        return match and f"{match[1]}-linux-{match[2]}" + (f".{_OLDEST_GLIBC}" if match[2] == "gnu" else "")

    def seen(self) -> Iterator[Seen]:
        """Yield what a build has to be shown of it: that of a distribution lies where every build can see it."""
        if not _is_shown(self.sysroot):
            yield Seen(str(self.sysroot), _PLACE)
        if self._within(self.cargo) is None and not _is_shown(self.cargo):
            yield Seen(str(self.cargo), _CARGO)
        if self.crates is not None and not _is_shown(self.crates):
            yield Seen(str(self.crates), _CRATES)

    def place(self, path: Path, *, is_closed: bool) -> str:
        """Give where a build finds a path of it."""
        if not is_closed or _is_shown(path):
            return str(path)
        if path == self.crates:
            return _CRATES
        within = self._within(path)
        if within is None:
            return _CARGO
        return _PLACE if within == "." else f"{_PLACE}/{within}"

    def _within(self, path: Path) -> str | None:
        return path.relative_to(self.sysroot).as_posix() if path.is_relative_to(self.sysroot) else None


def _is_shown(path: Path) -> bool:
    return path.is_relative_to("/usr") and not path.is_relative_to("/usr/local")


def find_rust(name: str, machine: str, environment: Mapping[str, str]) -> Rust:
    """Give the toolchain that `environment` has by PATH, RUSTUP_HOME and CARGO_HOME.

    Raises `PackagingError`, about the package `name`, when there is none or it has no standard library of the target.
    """
    triple = f"{machine}-unknown-linux-gnu"
    what = f"`{name}` is written in Rust, and"
    program = _program("rustc", environment)
    if program is None:
        raise PackagingError(f"{what} there is no Rust toolchain on this host", hint=_INSTALL.format(triple))
    sysroot = Path(_answer(what, program, ["--print", "sysroot"], triple, environment))
    about = _answer(what, program, ["-vV"], triple, environment)
    fields = dict(line.partition(": ")[::2] for line in about.splitlines())
    version = about.partition("\n")[0]
    rustc, cargo = _own("rustc", sysroot), _own("cargo", sysroot)
    if cargo is None:
        found = _program("cargo", environment)
        cargo = Path(os.path.realpath(found)) if found else None
    if rustc is None or cargo is None or cargo.name.startswith("rustup"):
        raise PackagingError(
            f"{what} the Rust toolchain on this host ({version}) has no `{'cargo' if rustc else 'rustc'}`",
            hint=_INSTALL.format(triple),
        )
    libraries = sysroot / "lib" / "rustlib" / triple / "lib"
    if not any(libraries.glob("libstd-*")):
        is_rustup = (sysroot.parent.parent / "settings.toml").is_file()
        command = f"`rustup target add {triple}`"
        raise PackagingError(
            f"{what} the Rust toolchain on this host ({version}) has no standard library of `{triple}`",
            hint=command if is_rustup else f"a toolchain of https://rustup.rs gets it by {command}",
        )
    commit, host = fields.get("commit-hash", ""), fields.get("host", "")
    return Rust(sysroot, rustc, cargo, version, commit, host, triple, own_crates(environment))


def own_crates(environment: Mapping[str, str]) -> Path | None:
    """Give the folder of crates that the user's own configuration puts in the place of crates.io.

    It is used as it is: up to 1.86 `cargo vendor` deletes the crates of such a folder when it takes one (cargo #15244).
    """
    config = user_config(environment)
    sources = read_toml(config).get("source") if config else None
    name: object = "crates-io"
    while config and isinstance(sources, dict) and isinstance(name, str):
        source = sources.pop(name, None)
        if not isinstance(source, dict):
            break
        if isinstance(folder := source.get("directory"), str):
            return config.parent.parent / folder
        name = source.get("replace-with")
    return None


def user_config(environment: Mapping[str, str]) -> Path | None:
    """Give the file of cargo's settings that is the user's own."""
    home = Path(environment.get("CARGO_HOME") or Path(environment.get("HOME", ""), ".cargo"))
    found = (home / name for name in ("config.toml", "config") if home.is_absolute())
    return next((path for path in found if path.is_file()), None)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file of cargo's; one that is not there or is damaged says nothing."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}


def identity(environment: Mapping[str, str]) -> str | None:
    """Say which compiler this host has; None for none."""
    program = _program("rustc", environment)
    if program is None:
        return None
    try:
        answer = process.ask([program, "--version"], seconds=60, environment=_asking(environment))
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _program(name: str, environment: Mapping[str, str]) -> str | None:
    """Find a program on the path, or where rustup puts it and a shell that was not begun anew does not look."""
    home = environment.get("CARGO_HOME") or os.path.join(environment.get("HOME", ""), ".cargo")  # noqa: PTH118
    path = os.pathsep.join((environment.get("PATH", ""), os.path.join(home, "bin")))  # noqa: PTH118
    return shutil.which(name, path=path)


def _own(name: str, sysroot: Path) -> Path | None:
    path = sysroot / "bin" / (f"{name}.exe" if _WINDOWS else name)
    return path if path.is_file() else None


def _asking(environment: Mapping[str, str]) -> dict[str, str]:
    # rustup would download the toolchain that it is asked about.
    return {**environment, "RUSTUP_AUTO_INSTALL": "0"}


def _answer(what: str, program: str, question: list[str], triple: str, environment: Mapping[str, str]) -> str:
    try:
        answer = process.ask([program, *question], seconds=60, environment=_asking(environment))
        reason = answer.stderr if answer.returncode or not answer.stdout.strip() else ""
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    else:
        if not reason and not answer.returncode:
            return answer.stdout.strip()
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "it gave no answer")
    raise PackagingError(
        f"{what} the Rust toolchain on this host does not work: {first.removeprefix('error: ').rstrip('.')}",
        hint=_INSTALL.format(triple),
    )


def lay_out_rust(
    rust: Rust, target: Target, folder: Path, root: str, *, python: str, is_closed: bool
) -> dict[str, str]:
    """Add Rust to the toolchain in `folder`, which is `tools` of a build's `root`; give the environment for it.

    `python` is where the build finds its interpreter.
    """
    own, suffix = f"{root}/tools", launchers.SUFFIX
    bin_folder = folder / "bin"
    linker, host_linker = f"{own}/bin/cc{suffix}", _host_linker(rust, folder, own, python)
    flags = list(_flags(rust, root, is_closed=is_closed))
    _write_shims(rust, bin_folder, linker, host_linker, flags, is_closed=is_closed)
    (folder / "pyo3.txt").write_text(_pyo3(target), encoding="utf-8")
    lower = rust.triple.replace("-", "_")
    upper = lower.upper()
    environment = {
        "CARGO_HOME": f"{root}/work/cargo",
        "CARGO_TARGET_DIR": f"{root}/work/target",
        # With it cargo tells what is for the target from build scripts and macros, even where both are one machine.
        "CARGO_BUILD_TARGET": rust.triple,
        f"CARGO_TARGET_{upper}_LINKER": linker,
        "CARGO_INCREMENTAL": "0",
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TERM_COLOR": "never",
        # What the package's `.cargo/config.toml` may name, and what is not there.
        "RUSTC_WRAPPER": "",
        "RUSTC_WORKSPACE_WRAPPER": "",
        **{f"{name}_{lower}": f"{own}/bin/{tool}{suffix}" for name, tool in _TOOLS},
        "PYO3_CONFIG_FILE": f"{own}/pyo3.txt",
        "PYO3_CROSS_PYTHON_VERSION": f"{target.python[0]}.{target.python[1]}",
    }
    if rust.host != rust.triple and host_linker:
        environment[f"CC_{rust.host.replace('-', '_')}"] = host_linker
    if _WINDOWS:
        environment[f"CARGO_TARGET_{upper}_RUSTFLAGS"] = " ".join(flags)
    else:
        environment["RUSTC"] = f"{own}/bin/rustc"
    return environment


# By the names that the crate `cc` asks for.
_TOOLS: Final = (("CC", "cc"), ("CXX", "c++"), ("AR", "ar"), ("RANLIB", "ranlib"))


def _flags(rust: Rust, root: str, *, is_closed: bool) -> Iterator[str]:
    """Yield what holds for all that is compiled for the target: no symbols, no debugging information, no paths."""
    yield from ("-C", "debuginfo=0", "-C", "strip=symbols")
    library = f"{rust.place(rust.sysroot, is_closed=is_closed)}/lib/rustlib/src/rust"
    # The last one that fits holds.
    places = [(root, "build"), (f"{root}/source", "."), (f"{root}/crates", "crates")]
    if rust.crates is not None:
        places.append((rust.place(rust.crates, is_closed=is_closed), "crates"))
    for place, name in (*places, (library, f"/rustc/{rust.commit}")):
        yield f"--remap-path-prefix={place}={name}"


def _write_shims(
    rust: Rust, folder: Path, linker: str, host_linker: str | None, flags: list[str], *, is_closed: bool
) -> None:
    """Write what a build calls `cargo` and `rustc` by.

    Flags of the environment would take the place of those that a package needs and has in its `.cargo/config.toml`, and
    the linker of a triple is also that of build scripts when they run on the same: so both are given to `rustc` itself,
    which cargo runs with `--target` for the target only.
    """
    cargo = rust.place(rust.cargo, is_closed=is_closed)
    if _WINDOWS:
        launchers.write(folder / "cargo", [cargo], folder / "cc.exe")
        return
    rustc = rust.place(rust.rustc, is_closed=is_closed)
    host = f"-C 'linker={host_linker}'" if host_linker else ""
    quoted = " ".join(f"'{flag}'" for flag in flags)
    texts = {
        "cargo": f"exec '{cargo}' \"$@\"\n",
        # With `@` the arguments are in a file, and cargo gave the target's linker itself.
        "rustc": 'for word in "$@"; do case $word in\n'
        f"    --target|--target=*|@*) exec '{rustc}' \"$@\" -C 'linker={linker}' {quoted} ;;\n"
        f"esac; done\nexec '{rustc}' \"$@\" {host}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (folder / name).chmod(0o755)


def _host_linker(rust: Rust, folder: Path, own: str, python: str) -> str | None:
    """Give what links build scripts and macros, which run here; None where Rust finds one by itself."""
    if rust.zig_host is None:
        return shutil.which("cc") if rust.host.endswith("-apple-darwin") else None
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings |= {"target": rust.zig_host, "sysroot": None, "libraries": []}
    (folder / "host.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    shim = folder / "bin" / "host-cc"
    shim.write_text(
        f"#!/bin/sh\nexec '{python}' -I -S '{own}/compiler.py' '{own}/host.json' cc \"$@\"\n", encoding="utf-8"
    )
    shim.chmod(0o755)
    return f"{own}/bin/host-cc"


def _pyo3(target: Target) -> str:
    """Describe the target's CPython as pyo3's build script reads it, so that it asks no interpreter.

    An extension is not linked with libpython: its symbols are there when it is imported.
    """
    return (
        f"implementation=CPython\nversion={target.python[0]}.{target.python[1]}\nshared=true\npointer_width=64\n"
        "build_flags=\nsuppress_build_script_link_lines=true\n"
    )
