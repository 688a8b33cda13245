"""The compilers of a build for another machine: zig, and what tells setuptools, CMake, meson and configure of it.

zig is one program for every host, brings the C library's symbols of each version of glibc and the headers of Linux, and
decides the bytes of what it compiles: so its version is exact, and its hashes are known.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from manylambda.errors import PackagingError
from manylambda.progress import SILENT
from manylambda.sdists.tools import Tool, find_tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manylambda.fetch import Cache
    from manylambda.locks.model import ResolveOptions
    from manylambda.progress import Progress
    from manylambda.target import Target

ZIG: Final = "0.17.1"
_ZIG: Final = Tool(
    name="ziglang",
    version=ZIG,
    hashes=(
        "09953b6af7f64168b915180a42774f520f92d86ef6331b28e33915c7e1f0bb23",
        "27a8da5f8eaa0e76ebbc7c2594130ed4646c1101ada2ce0aa86fe580c74154b9",
        "4e0b4b9c02b8d0d220e9948010f860b62ff11d96abb39762eca5fa2ef3f7bc97",
        "69c3dfc3aff6a297ec4017aa904782c0e450eb988982d7f675d83edce27526fb",
        "7ec229ead4a08f3bc537ed33fa8c0f811739b81a0d05afbea89db30afb4df1cc",
        "87f24e5cdca55f5d47c1e20570eebb61a53957fafe4c35c69740e13affe407ba",
        "ae28f1f1150b95c8b1bb5e185d18e6c542877dc480e2476ccc81dac41f191b71",
        "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
        "d0549d5db63961ad9ed83ef628a45e3309542410dbcb6010116f4f2a3274d966",
        "d3bf27478d4593f2df7daf5c59b616a543b8f9e2cc9235bef84d8e54862a4334",
        "d65ae4223b0c351cb3b4596262b8d9773acc9ca94ef8ea9b5fe3ddfa07dd204f",
        "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
    ),
    what="the compiler",
    package="ziglang",
    size=100,
)
TOOLS: Final = ("cc", "c++", "ar", "ranlib", "strip", "pkg-config")
# What builds call the same tools by.
_ALIASES: Final[Mapping[str, str]] = {
    "gcc": "cc", "clang": "cc", "x86_64-linux-gnu-gcc": "cc", "aarch64-linux-gnu-gcc": "cc",
    "g++": "c++", "clang++": "c++", "x86_64-linux-gnu-g++": "c++", "aarch64-linux-gnu-g++": "c++",
    "gcc-ar": "ar", "llvm-ar": "ar", "gcc-ranlib": "ranlib", "llvm-strip": "strip", "pkgconf": "pkg-config",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain:
    """The programs and files that make a build one for the target; see `lay_out`."""

    target: Target
    zig: Path
    """The folder of zig: its program and its library."""
    headers: Path
    """The headers of the target's CPython, `pyconfig.h` among them."""
    sysroot: Path | None = None

    @property
    def triple(self) -> str:
        """As GNU names the machine: `aarch64-linux-gnu`."""
        return f"{self.target.machine}-linux-gnu"

    @property
    def zig_target(self) -> str:
        """As zig names it, with the C library's version: `aarch64-linux-gnu.2.34`."""
        return f"{self.triple}.{self.target.glibc}"

    @property
    def identity(self) -> str:
        """All of it that decides what is compiled."""
        return f"zig {ZIG} {self.zig_target} cpython {self.target.python[0]}.{self.target.python[1]}"


def find_zig(cache: Cache, options: ResolveOptions, progress: Progress = SILENT) -> Path:
    """Give the folder of zig; see `find_tool`."""
    return find_tool(_ZIG, cache, options, progress) / "ziglang"


def lay_out(toolchain: Toolchain, folder: Path, root: str, *, python: str, zig: str) -> dict[str, str]:
    """Write the toolchain's files into `folder`, which is `tools` of a build's `root`; give the environment for them.

    `python` and `zig` are where the build finds its interpreter and the folder of zig.
    """
    from importlib.resources import files

    target = toolchain.target
    own = f"{root}/tools"
    inside = files("manylambda.sdists.inside")
    for name in ("compiler.py", "cross.py"):
        (folder / name).write_text(inside.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(toolchain.headers, folder / "include", dirs_exist_ok=True)
    settings = {
        "zig": f"{zig}/zig" + (".exe" if os.name == "nt" else ""),
        "target": toolchain.zig_target,
        "triple": toolchain.triple,
        "paths": [[f"{root}/source", "."], [root, "build"], [zig, "zig"]],
        "failures": f"{root}/work/failures",
        "sysroot": f"{root}/sysroot" if toolchain.sysroot else None,
        "libraries": [
            f"{root}/sysroot{place}"
            for place in library_folders(toolchain.triple)
            if toolchain.sysroot and (toolchain.sysroot / place[1:]).is_dir()
        ],
        "pkg_config": shutil.which("pkg-config") or shutil.which("pkgconf"),
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    facts = {
        "platform": f"linux-{target.machine}",
        "machine": target.machine,
        "glibc": str(target.glibc),
        "include": f"{own}/include",
        "variables": _variables(toolchain, f"{own}/include"),
    }
    (folder / "target.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    shims = folder / "bin"
    shims.mkdir()
    for name in (*TOOLS, *_ALIASES):
        _write_shim(shims / name, python, f"{own}/compiler.py", f"{own}/settings.json", _ALIASES.get(name, name))
    (folder / "cross.ini").write_text(_meson(toolchain, f"{own}/bin"), encoding="utf-8")
    (folder / "toolchain.cmake").write_text(_cmake(toolchain, own, root), encoding="utf-8")
    (folder / "config.site").write_text(
        f"host_alias={toolchain.triple}\nhost={toolchain.triple}\ncross_compiling=yes\n", encoding="utf-8"
    )
    return {
        "MANYLAMBDA_TARGET": f"{own}/target.json",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "CC": "cc",
        "CXX": "c++",
        "AR": "ar",
        "RANLIB": "ranlib",
        "STRIP": "strip",
        "PKG_CONFIG": "pkg-config",
        "CMAKE_TOOLCHAIN_FILE": f"{own}/toolchain.cmake",
        "CONFIG_SITE": f"{own}/config.site",
        "ZIG_GLOBAL_CACHE_DIR": f"{root}/work/zig",
        "ZIG_LOCAL_CACHE_DIR": f"{root}/work/zig",
    }


def extension_suffix(target: Target) -> str:
    """Give what the target's CPython calls extension modules by: `.cpython-313-aarch64-linux-gnu.so`."""
    return f".{_soabi(target)}.so"


def library_folders(triple: str) -> tuple[str, ...]:
    """Give where a root file system has libraries, Amazon's folders and Debian's."""
    return (
        "/usr/lib64",
        "/lib64",
        f"/usr/lib/{triple}",
        f"/lib/{triple}",
        "/usr/local/lib64",
        "/usr/local/lib",
        "/usr/lib",
        "/lib",
    )


def _soabi(target: Target) -> str:
    major, minor = target.python
    return f"cpython-{major}{minor}-{target.machine}-linux-gnu"


def _variables(toolchain: Toolchain, include: str) -> dict[str, str | int]:
    """Give what `sysconfig` says on the target, as far as builds ask."""
    target = toolchain.target
    minor = f"{target.python[0]}.{target.python[1]}"
    flags = "-DNDEBUG -O2 -fwrapv"
    return {
        "CC": "cc",
        "CXX": "c++",
        "AR": "ar",
        "ARFLAGS": "rcs",
        "RANLIB": "ranlib",
        "LDSHARED": "cc -shared",
        "LDCXXSHARED": "c++ -shared",
        "BLDSHARED": "cc -shared",
        "CCSHARED": "-fPIC",
        "OPT": flags,
        "CFLAGS": flags,
        "PY_CFLAGS": flags,
        "BASECFLAGS": "",
        "CPPFLAGS": "",
        "PY_CPPFLAGS": "",
        "CONFIGURE_CFLAGS": "",
        "CONFIGURE_CPPFLAGS": "",
        "CONFIGURE_LDFLAGS": "",
        "LDFLAGS": "",
        "PY_LDFLAGS": "",
        "LIBS": "",
        "LIBM": "-lm",
        "SHLIBS": "",
        "MODLIBS": "",
        "EXT_SUFFIX": extension_suffix(target),
        "SO": extension_suffix(target),
        "SHLIB_SUFFIX": ".so",
        "SOABI": _soabi(target),
        "MULTIARCH": toolchain.triple,
        "HOST_GNU_TYPE": toolchain.triple,
        "BUILD_GNU_TYPE": toolchain.triple,
        "MACHDEP": "linux",
        "GNULD": "yes",
        "INCLUDEPY": include,
        "CONFINCLUDEPY": include,
        "LDVERSION": minor,
        "VERSION": minor,
        "LIBRARY": f"libpython{minor}.a",
        "LDLIBRARY": f"libpython{minor}.a",
        "BLDLIBRARY": "",
        "Py_ENABLE_SHARED": 0,
        "Py_DEBUG": 0,
        "Py_GIL_DISABLED": 0,
        "PYTHONFRAMEWORK": "",
        "SIZEOF_VOID_P": 8,
        "SIZEOF_LONG": 8,
        "SIZEOF_SIZE_T": 8,
    }


def _write_shim(place: Path, python: str, program: str, settings: str, tool: str) -> None:
    if os.name == "nt":
        place.with_name(f"{place.name}.bat").write_text(
            f'@"{python}" -I -S "{program}" "{settings}" {tool} %*\r\n', encoding="utf-8"
        )
        return
    place.write_text(f"#!/bin/sh\nexec '{python}' -I -S '{program}' '{settings}' {tool} \"$@\"\n", encoding="utf-8")
    place.chmod(0o755)


def _meson(toolchain: Toolchain, tools: str) -> str:
    machine = toolchain.target.machine
    suffix = ".bat" if os.name == "nt" else ""
    names = (
        ("c", "cc"),
        ("cpp", "c++"),
        ("ar", "ar"),
        ("ranlib", "ranlib"),
        ("strip", "strip"),
        ("pkg-config", "pkg-config"),
    )
    binaries = "".join(f"{name} = '{tools}/{tool}{suffix}'\n" for name, tool in names)
    # Nothing that was built is run: on another machine it could not be, and all hosts are to build alike.
    return (
        f"[binaries]\n{binaries}\n[properties]\nneeds_exe_wrapper = true\nlongdouble_format = "
        f"'{'IEEE_QUAD_LE' if machine == 'aarch64' else 'INTEL_EXTENDED_16_BYTES_LE'}'\n\n"
        f"[host_machine]\nsystem = 'linux'\nkernel = 'linux'\ncpu_family = '{machine}'\ncpu = '{machine}'\n"
        "endian = 'little'\n"
    )


def _cmake(toolchain: Toolchain, own: str, root: str) -> str:
    suffix = ".bat" if os.name == "nt" else ""
    lines = [
        "set(CMAKE_SYSTEM_NAME Linux)",
        f"set(CMAKE_SYSTEM_PROCESSOR {toolchain.target.machine})",
        *(
            f'set(CMAKE_{name} "{own}/bin/{tool}{suffix}")'
            for name, tool in (
                ("C_COMPILER", "cc"),
                ("CXX_COMPILER", "c++"),
                ("ASM_COMPILER", "cc"),
                ("AR", "ar"),
                ("RANLIB", "ranlib"),
                ("STRIP", "strip"),
            )
        ),
        "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)",
        "set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)",
        "set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)",
        "set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)",
        "set(CMAKE_FIND_USE_SYSTEM_PACKAGE_REGISTRY OFF)",
        'set(CMAKE_EXE_LINKER_FLAGS_INIT "")',
        *(
            line
            for name in ("Python", "Python3")
            for line in (
                f'set({name}_INCLUDE_DIR "{own}/include" CACHE PATH "")',
                f'set({name}_SOABI "{_soabi(toolchain.target)}" CACHE STRING "")',
            )
        ),
        f'set(PYTHON_INCLUDE_DIR "{own}/include" CACHE PATH "")',
        f'set(PYTHON_MODULE_EXTENSION "{extension_suffix(toolchain.target)}" CACHE STRING "")',
    ]
    if toolchain.sysroot:
        lines.append(f'set(CMAKE_FIND_ROOT_PATH "{root}/sysroot")')
    return "\n".join(lines) + "\n"


def backend_settings(backend: str, tools: str) -> dict[str, str | list[str]]:
    """Give the configuration settings by which a backend learns of the target; most learn it from the environment."""
    if backend.startswith("mesonpy"):
        return {"setup-args": [f"--cross-file={tools}/cross.ini"]}
    return {}


def warm(toolchain: Toolchain, cache: Cache, folder: Path, *, is_cpp: bool, progress: Progress = SILENT) -> None:
    """Give a build a cache of zig's in `folder` that has what every compilation for the target needs.

    A build gets a copy, for it may write what it likes there. What is copied is made once, by compiling nothing of
    anybody's: the C library's stubs take a second, the C++ library half a minute.
    """
    from filelock import FileLock

    language = "c++" if is_cpp else "c"
    kept = cache.root / "v1" / "tools" / f"zig-{ZIG}-cache" / f"{toolchain.zig_target}-{language}"
    if not kept.is_dir():
        with cache.writing(kept.name), FileLock(cache.incoming(f"{kept.name}.lock")):
            if not kept.is_dir():
                if is_cpp:
                    progress.info(f"preparing the C++ library for {toolchain.zig_target}, once")
                beside = cache.incoming(f"{kept.name}-{os.urandom(4).hex()}")
                beside.mkdir()
                _compile_something(toolchain, beside, language)
                kept.parent.mkdir(parents=True, exist_ok=True)
                beside.replace(kept)
    shutil.copytree(kept, folder)


def _compile_something(toolchain: Toolchain, folder: Path, language: str) -> None:
    from manylambda.host import process

    source = folder / ("probe.cc" if language == "c++" else "probe.c")
    source.write_text(
        '#include <string>\nstd::string f() { return std::string("a"); }\n'
        if language == "c++"
        else "int f(void) { return 1; }\n",
        encoding="utf-8",
    )
    command = [
        *(str(toolchain.zig / ("zig.exe" if os.name == "nt" else "zig")), language if language == "c++" else "cc"),
        *("-target", toolchain.zig_target, "-fno-sanitize=undefined", "-O2", "-g0", "-s", "-fPIC"),
    ]
    environment = {
        **{name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ},
        "ZIG_GLOBAL_CACHE_DIR": str(folder),
        "ZIG_LOCAL_CACHE_DIR": str(folder),
        "HOME": str(folder),
        "PATH": "",
    }
    for options in (["-shared", str(source)], [str(source), "-Wl,--entry=f"]):
        made = process.ask([*command, *options, "-o", str(folder / "probe.so")], seconds=600, environment=environment)
        if options[0] == "-shared" and made.returncode:
            raise PackagingError(f"the compiler does not work here: {made.stderr.strip()}")
