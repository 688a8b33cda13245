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


# Of the standard library, which has to know its host: these tell builds of the target.
_TELLERS = frozenset({"distutils", "platform", "sysconfig", "_osx_support"})
# Programs written in Python that run others here, and are told of the target in another way or not at all.
_OF_THE_HOST = frozenset({"mesonbuild", "ninja", "cmake", "pip", "uv"})
# What setuptools chooses the compiler by, and what it is told.
_COMPILING = (
    "setuptools.command.build_ext",
    *(
        f"{package}distutils.{name}"
        for package in ("", "setuptools._")
        for name in ("ccompiler", "unixccompiler", "sysconfig", "compilers", "command.build_ext", "command.build_clib")
    ),
)
# Before 3.10 Python does not say what its standard library is; then these have to be enough.
_LIBRARY = frozenset({
    "asyncio", "concurrent", "ctypes", "importlib", "locale", "multiprocessing", "ntpath", "os", "pathlib", "shutil",
    "signal", "site", "socket", "subprocess", "tempfile", "threading", "uuid", "zipfile",
})  # fmt: skip


def describe_target(facts: dict[str, Any]) -> None:
    """Let `sysconfig`, `platform`, `os` and `sys` answer for the target; `facts` are written by `toolchain.py`."""
    import platform
    import sysconfig

    variables, include, machine = facts["variables"], facts["include"], facts["machine"]
    sysconfig.get_config_vars().update(variables)
    own_path, own_paths, own_uname = sysconfig.get_path, sysconfig.get_paths, platform.uname
    own_system, own_confstr = platform.system(), getattr(os, "confstr", None)

    def get_path(name: str, *arguments: Any, **named: Any) -> Any:
        return include if name in {"include", "platinclude"} else own_path(name, *arguments, **named)

    def get_paths(*arguments: Any, **named: Any) -> Any:
        return {**own_paths(*arguments, **named), "include": include, "platinclude": include}

    def uname() -> Any:
        return own_uname()._replace(system="Linux", node="", release="", version="", machine=machine)

    def system() -> str:
        return own_system if _is_of_host(_asking()) else "Linux"

    def get_platform() -> str:
        # meson asks by another program, and on Windows takes its answer for one of Windows; it heeds the number only.
        asking = sys._getframe(1).f_code.co_filename
        return "win-amd64" if own_system == "Windows" and asking.endswith("python_info.py") else str(facts["platform"])

    def confstr(name: Any) -> str | None:
        if name == "CS_GNU_LIBC_VERSION":
            return f"glibc {facts['glibc']}"
        if own_confstr is None:
            raise ValueError("unrecognized configuration name")
        return str(own_confstr(name))

    answers = (
        (sysconfig, "get_platform", get_platform),
        (sysconfig, "get_path", get_path),
        (sysconfig, "get_paths", get_paths),
        (platform, "machine", lambda: machine),
        (platform, "system", system),
        (platform, "uname", uname),
        (platform, "libc_ver", lambda *_, **__: ("glibc", facts["glibc"])),
        (platform, "mac_ver", lambda *_, **__: ("", ("", "", ""), "")),
        (platform, "win32_ver", lambda *_, **__: ("", "", "", "")),
        (os, "uname", _uname(machine)),
        (os, "confstr", confstr),
        (sys.implementation, "_multiarch", variables["MULTIARCH"]),
    )
    for owner, name, answer in answers:
        setattr(owner, name, answer)
    if sys.platform != "linux":
        import importlib.machinery

        importlib.machinery.EXTENSION_SUFFIXES[:] = [variables["EXT_SUFFIX"], ".abi3.so", ".so"]
        _answer_by_who_asks(facts["source"])


def _uname(machine: str) -> Any:
    kernel = ("Linux", "", "", "", machine)
    if hasattr(os, "uname_result"):
        return lambda: os.uname_result(kernel)
    from collections import namedtuple

    uname_result = namedtuple("uname_result", ["sysname", "nodename", "release", "version", "machine"])  # noqa: PYI024
    return lambda: uname_result(*kernel)


def _answer_by_who_asks(source: str) -> None:
    """Let `sys.platform` be `linux` and `os.name` be `posix` for builds, and this host's for what runs programs on it.

    `shutil.which` finds no `cc.exe` otherwise, and meson quotes for another shell. More hangs on `os.name`, such as the
    kind of a path: so it is told to what is in `source`, and to the part of setuptools that chooses a compiler.
    """
    places = (source.replace("\\", "/").lower() + "/",)

    def get_platform(module: Any) -> str:
        return str(vars(module)["platform"]) if _is_of_host(_asking()) else "linux"

    def get_name(module: Any) -> str:
        frame = sys._getframe(1)
        name = str(frame.f_globals.get("__name__") or "")
        own = str(vars(module)["name"])
        if _is_of_host(name):
            return own
        if name.startswith(_COMPILING):
            return "posix"
        file = os.path.abspath(frame.f_code.co_filename).replace("\\", "/").lower()  # noqa: PTH100
        return "posix" if file.startswith(places) else own

    for module, attribute, answer in ((sys, "platform", get_platform), (os, "name", get_name)):
        module.__class__ = type("module", (type(module),), {attribute: property(answer)})


def _asking() -> str:
    """Give the module whose code asked what called this."""
    return str(sys._getframe(2).f_globals.get("__name__") or "")


def _is_of_host(module: str) -> bool:
    """Tell whether a module has to know what this host is."""
    package = module.partition(".")[0]
    if package in _OF_THE_HOST:
        return True
    return package in getattr(sys, "stdlib_module_names", _LIBRARY) and package not in _TELLERS


def _run() -> None:
    place = os.environ.get("MANYLAMBDA_TARGET")
    if place:
        with open(place, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
            describe_target(json.load(file))


_run()
