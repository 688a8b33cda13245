"""Compiles for the target on this host, with zig and a CPython of the target's minor version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manylambda.errors import FetchError, PackagingError
from manylambda.host.interpreters import download_interpreter, find_interpreter
from manylambda.host.model import Unusable
from manylambda.sdists import headers, launchers, toolchain
from manylambda.sdists.crates import fetch_crates
from manylambda.sdists.isolation import Seen
from manylambda.sdists.rust import find_rust, lay_out_rust
from manylambda.sdists.sysroot import open_sysroot
from manylambda.sdists.workshop import Workshop

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.errors import ManylambdaError
    from manylambda.host.interpreters import Interpreter
    from manylambda.sdists.workshop import Job


class Unavailable(Exception):
    """There is no compiler, or no Python for it, on this host; `error` says which, for the user."""

    def __init__(self, error: ManylambdaError) -> None:
        super().__init__(error.message)
        self.error = error


def identity() -> str:
    """Give all of the compiler, besides the target, that decides what is made."""
    return f"zig {toolchain.ZIG}"


def build(job: Job, room: Path) -> Path:
    """Give the wheel. Raises `Unavailable`, `BuildFailed`, `PackagingError` and FetchError."""
    rustc = None
    if job.nature.builds_rust:
        rustc = find_rust(job.source.name, job.target.machine, job.options.environment)
    try:
        python = _python(job)
        zig = toolchain.find_zig(job.cache, job.options, job.progress)
        launcher = launchers.find_launcher(zig, toolchain.ZIG, job.cache)
        # Without a root file system it has nothing to tell of.
        pkg_config = job.settings.sysroot and toolchain.find_pkg_config(job.cache, job.options, job.progress)
    except (PackagingError, FetchError) as error:
        raise Unavailable(error) from error
    seen = [Seen(str(zig), "/zig"), *(rustc.seen() if rustc else ())]
    if pkg_config:
        seen.append(Seen(str(pkg_config.parent), "/pkg-config"))
    root = open_sysroot(job.settings.sysroot, job.target) if job.settings.sysroot else None
    shop = Workshop(job, room, python, seen=seen)
    if rustc:
        fetch_crates(job, rustc, room, shop.root, is_closed=shop.is_closed)
    chain = toolchain.Toolchain(
        target=job.target,
        zig=zig,
        headers=headers.stage(job.target, python, room / "headers"),
        sysroot=root,
        launcher=launcher,
    )
    sysroot_place = f"{shop.root}/sysroot" if shop.is_closed else str(job.settings.sysroot)
    pkg_config_place = f"/pkg-config/{pkg_config.name}" if pkg_config and shop.is_closed else str(pkg_config)
    places = toolchain.Places(
        python=shop.python,
        zig="/zig" if shop.is_closed else str(zig),
        sysroot=sysroot_place if root else None,
        pkg_config=pkg_config_place if root else None,
    )
    environment = toolchain.lay_out(chain, room / "tools", shop.root, places)
    toolchain.warm(chain, job.cache, room / "work" / "zig", is_cpp=job.nature.is_cpp, progress=job.progress)
    if rustc:
        for zig_target in sorted({chain.zig_target, rustc.zig_host or chain.zig_target}):
            toolchain.warm_for_rust(zig, zig_target, job.cache, room / "work" / "zig")
        environment |= lay_out_rust(
            rustc, job.target, room / "tools", shop.root, python=shop.python, is_closed=shop.is_closed
        )
    told = job.settings.config_settings.get(job.source.name)
    return shop.run(environment, settings=toolchain.backend_settings(job.nature.backend, f"{shop.root}/tools", told))


def _python(job: Job) -> Interpreter:
    """Give a CPython of the target's minor version, which runs the build and has the headers."""
    found = find_interpreter(job.target.python)
    if isinstance(found, Unusable) and job.settings.download_python and not job.settings.offline:
        found = download_interpreter(job.target.python, progress=job.progress)
    if isinstance(found, Unusable):
        minor = "{}.{}".format(*job.target.python)
        raise PackagingError(
            f"`{job.source.name}` has to be compiled for `{job.target}` with a CPython {minor}: {found.reason}",
            hint=f"`--download-python` lets uv fetch one, as `uv python install {minor}` does; "
            "or `--sdist-engine container` builds in an image that has it",
        )
    return found
