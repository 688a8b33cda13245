"""The compilers of a build for another machine: zig, and what tells setuptools, CMake, meson and configure of it.

zig is one program for every host, brings the C library's symbols of each version of glibc and the headers of Linux, and
decides the bytes of what it compiles: so its version is exact, and its hashes are known.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import FetchError, PackagingError
from manylambda.progress import SILENT
from manylambda.sdists import launchers
from manylambda.sdists.sysroot import HEADERS, library_folders, resolve
from manylambda.sdists.sysroot import lay_out as lay_out_libraries
from manylambda.sdists.tools import Tool, find_tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.fetch import Cache
    from manylambda.locks.model import ResolveOptions
    from manylambda.progress import Progress
    from manylambda.sdists.sysroot import Sysroot
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
# 2.5.1 of pkgconf; this host's own is of any version, and Windows and macOS come with none.
_PKGCONF: Final = Tool(
    name="pkgconf",
    version="3.0.7.post0",
    hashes=(
        "095c4f3dadc59e53600f3b941f05f0da4de6c819ccf1c4f853f4d66612883c96",
        "3716a2a2b2dca3466589b371e5bfa88bb5a4e84e4e7a3771ce14b112a0965f05",
        "3a688f02e12602b4a2be79d9a54ed598d5c44fc2fe042a7501aae53054e4688d",
        "47cbf6889d84297b9a4e1741ae016daa4e198f3ec8bab7ce74554cc50b77cce4",
        "4ece8d4e650ee172ddadff762ad31a590a4d91a070806aee09eb92a89e67f559",
        "9235b2bf40fab20580a88154aef5e275f806c0bda3221d6a0cf9afaaaff77a08",
        "9d60ee4d9f942564a214027347a51b12c5ffac1cf84a3b9e6ad707c35fae45c0",
        "a4cffe9897e62e23574700ce875ab8273ae17d7c39f0f19e6c89fa4cb05c0c37",
        "a850487b3beeffdfa3c5e979c24e0528e03a203a0e8695fa6a4c0560d9401d88",
        "bd3ee4b5294a888d58462324cb83b7c0bc7150cc15b64b36aaf983e4b0ab90d5",
        "c2cec076aece3cc5a1ae04ba832498461e85a04ccfbd2bf9b4099b1780b128f5",
        "df29406af15e6e55ac9061c59dd24f296f94e8b091897e036c3933ef6595cf5d",
        "e1d46ad90caa1e8558246e68c0469683b7c12c65ca662e3268aa3c4a4fd7636f",
        "e7906bb5ec1d0d074e397466075a8545f1c50cb11710768644f222ba8acebc7f",
        "ec2e213ae5f922134e3188ed8cbb1e8bcdd0c5b351acfdf9c5833ac32ebfd738",
        "f1496aecdf646fc54d22ba99f80cdc79c8581b40fc07d2b0f6d4b5bbecf01dfb",
        "faebb89a180ac7a288f4f7f6c9475ab480bfc2c675812f90801e63c3959d6a04",
    ),
    what="pkg-config",
    package="pkgconf",
    size=1,
)
# Below `tools`: a root of its own, so that CMake takes what is in it for the target's.
_ROOT: Final = "libraries"
_LIBRARIES: Final = f"{_ROOT}/usr/lib"
TOOLS: Final = ("cc", "c++", "ld", "ar", "ranlib", "strip", "pkg-config", "run")
# What builds call the same tools by.
_ALIASES: Final[Mapping[str, str]] = {
    "gcc": "cc", "clang": "cc", "x86_64-linux-gnu-gcc": "cc", "aarch64-linux-gnu-gcc": "cc",
    "g++": "c++", "clang++": "c++", "x86_64-linux-gnu-g++": "c++", "aarch64-linux-gnu-g++": "c++",
    "gcc-ar": "ar", "llvm-ar": "ar", "gcc-ranlib": "ranlib", "llvm-strip": "strip", "pkgconf": "pkg-config",
}  # fmt: skip


# There CMake and meson would look for Visual Studio, and setuptools before 60 would take `distutils` of the standard
# library, which knows Windows by other ways than those that `inside/cross.py` answers on.
_OF_WINDOWS: Final = {"CMAKE_GENERATOR": "Ninja", "VSINSTALLDIR": "none", "SETUPTOOLS_USE_DISTUTILS": "local"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain:
    """The programs and files that make a build one for the target; see `lay_out`."""

    target: Target
    zig: Path
    """The folder of zig: its program and its library."""
    headers: Path
    """The headers of the target's CPython, `pyconfig.h` among them."""
    sysroot: Sysroot | None = None
    launcher: Path | None = None
    """What the tools are copies of, on Windows."""

    @property
    def triple(self) -> str:
        """As GNU names the machine: `aarch64-linux-gnu`."""
        return f"{self.target.machine}-linux-gnu"

    @property
    def zig_target(self) -> str:
        """As zig names it, with the C library's version: `aarch64-linux-gnu.2.34`."""
        return f"{self.triple}.{self.target.glibc}"


def find_zig(cache: Cache, options: ResolveOptions, progress: Progress = SILENT) -> Path:
    """Give the folder of zig; see `find_tool`."""
    return find_tool(_ZIG, cache, options, progress) / "ziglang"


class Places(NamedTuple):
    """Where a build finds what its tools are made of."""

    python: str
    """Its interpreter."""
    zig: str
    """The folder of zig."""
    sysroot: str | None = None
    pkg_config: str | None = None
    """The program."""


def find_pkg_config(cache: Cache, options: ResolveOptions, progress: Progress = SILENT) -> Path:
    """Give the program `pkg-config`: ours, or this host's where ours cannot be had; raises as `find_tool` does."""
    try:
        found = find_tool(_PKGCONF, cache, options, progress) / "pkgconf" / ".bin"
    except FetchError:
        own = shutil.which("pkgconf") or shutil.which("pkg-config")
        if own is None:
            raise
        return Path(own)
    return found / ("pkgconf.EXE" if os.name == "nt" else "pkgconf")


def lay_out(toolchain: Toolchain, folder: Path, root: str, places: Places) -> dict[str, str]:
    """Write the toolchain's files into `folder`, the `tools` of a build's `root`; give the environment for them."""
    from importlib.resources import files

    target = toolchain.target
    own = f"{root}/tools"
    inside = files("manylambda.sdists.inside")
    for name in ("compiler.py", "cross.py"):
        (folder / name).write_text(inside.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(toolchain.headers, folder / "include", dirs_exist_ok=True)
    programs = toolchain.sysroot.programs() if toolchain.sysroot else {}
    settings = {
        "zig": f"{places.zig}/zig{launchers.SUFFIX}",
        "target": toolchain.zig_target,
        "paths": [[root, "build"], [places.zig, "zig"]],
        "is_windows": launchers.WINDOWS,
        "headers": f"{own}/include",
        "failures": f"{root}/work/failures",
        "sysroot": _sysroot(toolchain.sysroot, folder, own, places.sysroot) if toolchain.sysroot else None,
        "programs": programs,
        "pkg_config": places.pkg_config,
    }
    (folder / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    facts = {
        "source": f"{root}/source",
        "platform": f"linux-{target.machine}",
        "machine": target.machine,
        "glibc": str(target.glibc),
        "include": f"{own}/include",
        "variables": _variables(toolchain, f"{own}/include"),
    }
    (folder / "target.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    shims = folder / "bin"
    shims.mkdir()
    for name in (*TOOLS, *(("patchelf",) if launchers.WINDOWS else ()), *_ALIASES, *programs):
        command = [places.python, "-I", "-S", f"{own}/compiler.py", f"{own}/settings.json", _ALIASES.get(name, name)]
        launchers.write(shims / name, command, toolchain.launcher)
    (folder / "cross.ini").write_text(_meson(toolchain, f"{own}/bin"), encoding="utf-8")
    (folder / "toolchain.cmake").write_text(_cmake(toolchain, own, places.sysroot), encoding="utf-8")
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
        **(_OF_WINDOWS if launchers.WINDOWS else {}),
        "CONFIG_SITE": f"{own}/config.site",
        "ZIG_GLOBAL_CACHE_DIR": f"{root}/work/zig",
        "ZIG_LOCAL_CACHE_DIR": f"{root}/work/zig",
    }


def _sysroot(sysroot: Sysroot, folder: Path, own: str, place: str | None) -> dict[str, str | list[str]]:
    """Give what the compilers are told of a root file system, whose libraries are put where these look for them."""
    assert place is not None
    lay_out_libraries(sysroot, folder / _LIBRARIES, place)
    folders = library_folders(sysroot.triple)
    headers = [one.format(triple=sysroot.triple) for one in HEADERS]
    return {
        "root": place.replace(os.sep, "/"),
        "headers": [one for one in headers if resolve(sysroot.root, one)],
        "searched": [*headers, *folders],
        "libraries": f"{own}/{_LIBRARIES}",
        "pkg_config": [*(f"{one}/pkgconfig" for one in folders), "/usr/share/pkgconfig"],
    }


def extension_suffix(target: Target) -> str:
    """Give what the target's CPython calls extension modules by: `.cpython-313-aarch64-linux-gnu.so`."""
    return f".{_soabi(target)}.so"


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


def _meson(toolchain: Toolchain, tools: str) -> str:
    machine = toolchain.target.machine
    names = (
        ("c", "cc"),
        ("cpp", "c++"),
        ("ar", "ar"),
        ("ranlib", "ranlib"),
        ("strip", "strip"),
        ("pkg-config", "pkg-config"),
    )
    binaries = "".join(f"{name} = '{tools}/{tool}{launchers.SUFFIX}'\n" for name, tool in names)
    # Nothing that was built is run: on another machine it could not be, and all hosts are to build alike.
    return (
        f"[binaries]\n{binaries}\n[properties]\nneeds_exe_wrapper = true\nlongdouble_format = "
        f"'{'IEEE_QUAD_LE' if machine == 'aarch64' else 'INTEL_EXTENDED_16_BYTES_LE'}'\n\n"
        f"[host_machine]\nsystem = 'linux'\nkernel = 'linux'\ncpu_family = '{machine}'\ncpu = '{machine}'\n"
        "endian = 'little'\n"
    )


def _cmake(toolchain: Toolchain, own: str, sysroot: str | None) -> str:
    suffix = launchers.SUFFIX
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
        # Else FindPython takes no interpreter (CMP0190), and with none it does not say how modules are named.
        f'set(CMAKE_CROSSCOMPILING_EMULATOR "{own}/bin/run{suffix}")',
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
    if sysroot:
        lines += [
            f'set(CMAKE_FIND_ROOT_PATH "{own}/{_ROOT}" "{sysroot.replace(os.sep, "/")}")',
            f'set(CMAKE_LIBRARY_ARCHITECTURE "{toolchain.triple}")',
        ]
    return "\n".join(lines) + "\n"


def backend_settings(
    backend: str, tools: str, told: Mapping[str, str | list[str]] | None = None
) -> dict[str, str | list[str]]:
    """Give the configuration settings by which a backend learns of the target; most learn it from the environment.

    `told` is what the user tells it.
    """
    if not backend.startswith("mesonpy"):
        return {}
    settings: dict[str, str | list[str]] = {"setup-args": [f"--cross-file={tools}/cross.ini"]}
    if not {"builddir", "build-dir"} & set(told or ()):
        # Else it is of a random name, which some put into what they build.
        settings["builddir"] = ".mesonpy-build"
    return settings


def warm(toolchain: Toolchain, cache: Cache, folder: Path, *, is_cpp: bool, progress: Progress = SILENT) -> None:
    """Give a build a cache of zig's in `folder` that has what every compilation for the target needs.

    A build gets a copy, for it may write what it likes there. What is copied is made once, by compiling nothing of
    anybody's: the C library's stubs take a second, the C++ library half a minute.
    """
    told = f"preparing the C++ library for {toolchain.zig_target}, once" if is_cpp else None
    _warm(toolchain.zig, toolchain.zig_target, "c++" if is_cpp else "c", cache, folder, tell=told, progress=progress)


def warm_for_rust(zig: Path, zig_target: str, cache: Cache, folder: Path) -> None:
    """Add to a build's cache what is linked with all that Rust compiles for `zig_target`: the unwinder."""
    _warm(zig, zig_target, "rust", cache, folder)


def _warm(
    zig: Path, zig_target: str, language: str, cache: Cache, folder: Path,
    *, tell: str | None = None, progress: Progress = SILENT,
) -> None:  # fmt: skip
    from filelock import FileLock

    kept = cache.base / "tools" / f"zig-{ZIG}-cache" / f"{zig_target}-{language}"
    if not kept.is_dir():
        with cache.writing(kept.name), FileLock(cache.incoming(f"{kept.name}.lock")):
            if not kept.is_dir():
                if tell:
                    progress.info(tell)
                beside = cache.incoming(f"{kept.name}-{os.urandom(4).hex()}")
                beside.mkdir()
                _compile_something(zig, zig_target, beside, language)
                kept.parent.mkdir(parents=True, exist_ok=True)
                beside.replace(kept)
    cache.use(kept.parent)
    shutil.copytree(kept, folder, dirs_exist_ok=True)


def _compile_something(zig: Path, zig_target: str, folder: Path, language: str) -> None:
    from manylambda.host import process

    source = folder / ("probe.cc" if language == "c++" else "probe.c")
    source.write_text(
        '#include <string>\nstd::string f() { return std::string("a"); }\n'
        if language == "c++"
        else "int f(void) { return 1; }\n",
        encoding="utf-8",
    )
    command = [
        *(str(zig / f"zig{launchers.SUFFIX}"), language if language == "c++" else "cc"),
        *("-target", zig_target, "-fno-sanitize=undefined", "-O2", "-g0", "-s", "-fPIC"),
        *(["-lunwind"] if language == "rust" else []),
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
