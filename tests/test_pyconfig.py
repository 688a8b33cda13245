"""The `pyconfig.h` of each runtime: there for both machines, equal to CPython's own where the ABI rests on it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from manylambda.target import Target, all_targets

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
TARGETS = [target for target in all_targets() if target.can_build]
MINORS = sorted({target.python for target in TARGETS})
# What the layout of objects, the API and the C library's own declarations rest on.
ABI = re.compile(
    r"(SIZEOF|ALIGNOF|WITH|_?Py|PY)_\w+|DOUBLE_IS_\w+|WORDS_BIGENDIAN|HAVE_(LONG_DOUBLE|SSIZE_T|GCC_UINT128_T|STD_ATOMIC)"
    r"|HAVE_BUILTIN_ATOMIC|_(GNU|XOPEN|POSIX_C|LARGEFILE)_?SOURCE\w*|_FILE_OFFSET_BITS|_REENTRANT"
)
# How the interpreter and its own modules were built.
OWN = re.compile(
    r"Py_PYCONFIG_H|Py_ENABLE_SHARED|Py_RL_\w+|PY_SQLITE_\w+|PY_SSL_\w+|_Py_FFI_\w+|WITH_(DTRACE|VALGRIND)"
)


def text_of(minor: tuple[int, int]) -> str:
    name = "data/pyconfig/{}.{}.h".format(*minor)
    return resources.files("manylambda").joinpath(name).read_bytes().decode("ascii")


def zig(target: Target, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"{target.machine}-linux-gnu.{target.glibc}"]
    ran = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def headers_of(minor: tuple[int, int]) -> Path:
    """Find the headers of a CPython of that version here, or skip."""
    dotted = "{}.{}".format(*minor)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(pyenv.glob(f"{dotted}.*/include/python{dotted}"))
    if sys.version_info[:2] == minor:
        found.append(Path(sysconfig.get_path("include")))
    for folder in found:
        if (folder / "Python.h").exists():
            return folder
    pytest.skip(f"no headers of a CPython {dotted} in pyenv")


def macros(target: Target, source: Path, *arguments: str | Path) -> dict[str, str]:
    """Return what is defined at the end of a file."""
    lines = zig(target, "-E", "-dM", *arguments, source).splitlines()
    defined = (line.removeprefix("#define ").partition(" ") for line in lines)
    return {name: value for name, _, value in defined}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_pyconfig", ROOT / "tools" / "update_pyconfig.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_pyconfig"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_each_runtime_has_a_file_and_there_is_no_other() -> None:
    folder = resources.files("manylambda").joinpath("data/pyconfig")
    headers = {"{}.{}.h".format(*minor) for minor in MINORS}
    assert {file.name for file in folder.iterdir()} == {*headers, "LICENSE.txt"}


@pytest.mark.network
def test_the_wheel_has_them(tmp_path: Path) -> None:
    import uv

    # Hatch leaves out what git ignores.
    subprocess.run([uv.find_uv_bin(), "build", "-q", "--wheel", "--out-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        for minor in MINORS:
            assert archive.read("manylambda/data/pyconfig/{}.{}.h".format(*minor)).decode() == text_of(minor)


@pytest.mark.parametrize("minor", MINORS, ids=str)
def test_reading_and_writing_is_the_identity(minor: tuple[int, int], tool: ModuleType) -> None:
    text = text_of(minor)
    config = tool.parse(text)
    assert len(config.common) > 300
    assert {"x86_64", "aarch64"} == set(config.machines)
    assert config.common["SIZEOF_VOID_P"].value == "8"
    assert config.machines["x86_64"]["HAVE_GCC_ASM_FOR_X64"].value == "1"
    assert tool.written(config) == text


@pytest.mark.parametrize("minor", MINORS, ids=str)
def test_nothing_of_the_host_that_wrote_them_is_in_them(minor: tuple[int, int]) -> None:
    assert not re.search(r"https?:|/root|/home|/usr|\.pyenv/", text_of(minor))


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_what_is_defined_follows_the_machine_and_glibc(target: Target, tmp_path: Path) -> None:
    source = tmp_path / "pyconfig.h"
    source.write_text(text_of(target.python), encoding="ascii")
    (main := tmp_path / "main.c").write_text('#include "pyconfig.h"\n', encoding="ascii")
    defined = macros(target, main)
    assert ("HAVE_GCC_ASM_FOR_X64" in defined) == (target.machine == "x86_64")
    assert ("HAVE_USABLE_WCHAR_T" in defined) == (target.machine == "aarch64")
    assert not {"Py_DEBUG", "Py_GIL_DISABLED", "Py_TRACE_REFS", "HAVE_CURSES_H", "HAVE_LIBREADLINE"} & set(defined)
    # They came with glibc 2.27; `epoll` is as old as the oldest.
    assert ("HAVE_MEMFD_CREATE" in defined) == (target.glibc >= (2, 27))
    assert ("HAVE_COPY_FILE_RANGE" in defined) == (target.glibc >= (2, 27))
    assert "HAVE_EPOLL" in defined
    assert "HAVE_STRLCPY" not in defined
    if target.python >= (3, 15):
        assert defined["SOABI_PLATFORM"] == f'"{target.machine}-linux-gnu"'


def test_another_machine_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "pyconfig.h"
    source.write_text(text_of((3, 13)), encoding="ascii")
    for triple, message in (("riscv64-linux-gnu", "Lambda has no such machine"), ("x86_64-macos", "of Linux")):
        command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-E", str(source)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode != 0
        assert message in ran.stderr


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_extensions_compile_with_it(target: Target, tmp_path: Path) -> None:
    headers = headers_of(target.python)
    # `Python.h` takes the `pyconfig.h` that lies beside it, whatever the order of the folders.
    include = tmp_path / "include"
    shutil.copytree(headers, include, ignore=shutil.ignore_patterns("pyconfig.h"))
    (include / "pyconfig.h").write_text(text_of(target.python), encoding="ascii")
    source = tmp_path / "demo.c"
    source.write_text(
        '#include <Python.h>\n#include "structmember.h"\n'
        '_Static_assert(sizeof(wchar_t) == SIZEOF_WCHAR_T && sizeof(Py_ssize_t) == SIZEOF_SIZE_T, "");\n'
        '_Static_assert(sizeof(off_t) == SIZEOF_OFF_T && sizeof(long double) == SIZEOF_LONG_DOUBLE, "");\n'
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "demo", NULL, -1, NULL, NULL, NULL, NULL, NULL};\n'
        "PyMODINIT_FUNC PyInit_demo(void) { return PyModule_Create(&module); }\n",
        encoding="ascii",
    )
    zig(target, "-Wall", "-Werror", "-I", include, "-c", source, "-o", tmp_path / "demo.o")
    if sys.platform != "linux" or platform.machine() != "x86_64" or target.machine != "x86_64":
        return
    ours, theirs = (
        {name: value for name, value in macros(target, source, "-I", folder).items() if not OWN.fullmatch(name)}
        for folder in (include, headers)
    )
    relevant = {name for name in {*ours, *theirs} if ABI.fullmatch(name)}
    assert {"SIZEOF_LONG", "WITH_PYMALLOC", "_GNU_SOURCE", "Py_PYTHON_H"} <= relevant
    assert {name: ours.get(name) for name in relevant} == {name: theirs.get(name) for name in relevant}
