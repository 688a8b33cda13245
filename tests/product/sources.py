"""Source distributions that need no index to be built: their build backend lies in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manylambda import elf
from manylambda.host.interpreters import find_interpreter
from manylambda.host.model import Unusable

if TYPE_CHECKING:
    from product.loopback import Index

FACTORY = Path(__file__).parent.parent / "wheel_factory.py"
BACKEND = """\
from pathlib import Path
from wheel_factory import make_wheel

def build_wheel(folder, settings=None, metadata=None):
    files = {{"{module}.py": Path("source.py").read_text()}}
    return make_wheel(Path(folder), "{name}", "{version}", files, tags=["{tag}"]).name
"""
NATIVE_BACKEND = """\
import subprocess, sysconfig
from pathlib import Path
from wheel_factory import make_wheel

def build_wheel(folder, settings=None, metadata=None):
    module = "glibctrap" + sysconfig.get_config_var("EXT_SUFFIX")
    compiler = ["{compiler}", "-shared", "-fPIC", "-I" + sysconfig.get_path("include")]
    subprocess.run([*compiler, "glibctrap.c", "-o", module, "-ldl", "-lpthread"], check=True)
    tag = "cp" + sysconfig.get_config_var("py_version_nodot")
    system = sysconfig.get_platform().replace("-", "_")
    files = {{module: Path(module).read_bytes()}}
    return make_wheel(Path(folder), "glibctrap", "1.0", files, tags=[f"{{tag}}-{{tag}}-{{system}}"]).name
"""
# What became other symbols with glibc 2.33 and 2.34: `stat`, `dlopen`, `pthread_create`.
GLIBC_TRAP = """\
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>

static void *run(void *told) { return told; }

static PyObject *trap(PyObject *self, PyObject *none) {
    struct stat found;
    pthread_t thread;
    long sum = stat("/", &found) + (dlopen("libm.so.6", RTLD_NOW) != NULL);
    sum += pthread_create(&thread, NULL, run, NULL) + pthread_join(thread, NULL);
    return PyLong_FromLong(sum);
}

static PyMethodDef methods[] = {{"trap", trap, METH_NOARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "glibctrap", "", -1, methods};
PyMODINIT_FUNC PyInit_glibctrap(void) { return PyModule_Create(&module); }
"""


def needs_python(major: int, minor: int) -> pytest.MarkDecorator:
    """Skip a test where this host has no CPython of a minor version with its headers."""
    found = find_interpreter((major, minor))
    is_there = not isinstance(found, Unusable) and (Path(found.include) / "Python.h").is_file()
    return pytest.mark.skipif(not is_there, reason=f"no CPython {major}.{minor} with headers on this host")


def source_tree(folder: Path, name: str, version: str = "1.0", *, tag: str = "py3-none-any") -> Path:
    """Write a package whose build backend lies in it, so that a build needs no index."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_").lower()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n',
        encoding="utf-8",
    )
    (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (folder / "backend.py").write_text(
        BACKEND.format(name=name, version=version, module=module, tag=tag), encoding="utf-8"
    )
    (folder / "wheel_factory.py").write_bytes(FACTORY.read_bytes())
    (folder / "source.py").write_text(f"name = {name!r}\n", encoding="utf-8")
    return folder


def sdist(index: Index, name: str, *, tag: str = "py3-none-any", as_zip: bool = False) -> Path:
    """Add a source distribution to the index."""
    stem = f"{name.replace('-', '_')}-1.0"
    tree = source_tree(index.folder.parent / "trees" / stem, name, tag=tag)
    if as_zip:
        path = index.folder / f"{stem}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(tree.iterdir()):
                archive.write(file, f"{stem}/{file.name}")
    else:
        path = index.folder / f"{stem}.tar.gz"
        with tarfile.open(path, "w:gz") as packed:
            packed.add(tree, stem)
    return path


def glibc_trap(index: Index, *, compiler: str = "cc") -> Path:
    """Add a source distribution that compiles a C extension, without a build requirement."""
    archive = sdist(index, "glibctrap")
    tree = index.folder.parent / "trees" / "glibctrap-1.0"
    (tree / "backend.py").write_text(NATIVE_BACKEND.format(compiler=compiler), encoding="utf-8")
    (tree / "glibctrap.c").write_text(GLIBC_TRAP, encoding="utf-8")
    (tree / "source.py").unlink()
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, "glibctrap-1.0")
    return archive


def glibc_needs(artifact: Any) -> tuple[str, set[str]]:
    """Give the machine and the versions of glibc that the extension of an artifact needs."""
    with zipfile.ZipFile(artifact["path"]) as opened:
        (module,) = [name for name in opened.namelist() if name.endswith(".so")]
        native = elf.read(io.BytesIO(opened.read(module)))
    assert isinstance(native, elf.ElfFile)
    return native.machine, {version for needs in native.version_needs.values() for version in needs}
