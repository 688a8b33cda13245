"""Lets the interpreter of a build environment describe the target instead of this host.

A `.pth` file of the environment imports it, so that it holds for every Python process of the build: for what names the
extension modules and tags the wheel (`sysconfig`), and for what a `setup.py` asks to choose sources and flags
(`platform.machine()`). What this interpreter itself imports is not touched by that.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe_target(facts: dict[str, Any]) -> None:
    """Let `sysconfig`, `platform`, `os` and `sys` answer for the target; `facts` are written by `toolchain.py`."""
    import platform
    import sysconfig

    variables, include, machine = facts["variables"], facts["include"], facts["machine"]
    sysconfig.get_config_vars().update(variables)
    own_path, own_paths, own_uname = sysconfig.get_path, sysconfig.get_paths, platform.uname

    def get_path(name: str, *arguments: Any, **named: Any) -> Any:
        return include if name in {"include", "platinclude"} else own_path(name, *arguments, **named)

    def get_paths(*arguments: Any, **named: Any) -> Any:
        return {**own_paths(*arguments, **named), "include": include, "platinclude": include}

    def uname() -> Any:
        return own_uname()._replace(system="Linux", node="", release="", version="", machine=machine)

    kernel = ("Linux", "", "", "", machine)
    answers = (
        (sysconfig, "get_platform", lambda: facts["platform"]),
        (sysconfig, "get_path", get_path),
        (sysconfig, "get_paths", get_paths),
        (platform, "machine", lambda: machine),
        (platform, "system", lambda: "Linux"),
        (platform, "uname", uname),
        (platform, "libc_ver", lambda *_, **__: ("glibc", facts["glibc"])),
        (os, "uname", lambda: os.uname_result(kernel) if hasattr(os, "uname_result") else kernel),
        (sys.implementation, "_multiarch", variables["MULTIARCH"]),
    )
    for owner, name, answer in answers:
        setattr(owner, name, answer)
    if sys.platform != "linux":
        import importlib.machinery

        sys.platform = "linux"
        importlib.machinery.EXTENSION_SUFFIXES[:] = [variables["EXT_SUFFIX"], ".abi3.so", ".so"]


def _run() -> None:
    place = os.environ.get("MANYLAMBDA_TARGET")
    if place:
        with open(place, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
            describe_target(json.load(file))


_run()
