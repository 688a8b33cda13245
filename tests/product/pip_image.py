"""An image like those that Docker builds start from: Debian 13 with CPython 3.13, pip, its headers and GCC.

It is made like the root file systems of the trial's tests (`trial.hosts`), once, and kept beside them.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import filelock

from sdists import images
from trial import containers, hosts
from wheel_factory import make_wheel

if TYPE_CHECKING:
    from product.loopback import Index

NAME: Final = f"localhost/manylambda-pip:pip-{hosts.NATIVE}"
TARGET: Final = hosts.TARGETS[hosts.NATIVE]
_PACKAGES: Final = (
    f"python{hosts.PYTHON},python3-pip,libpython{hosts.PYTHON}-dev,gcc,libc6-dev,dash,coreutils,ca-certificates"
)


@cache
def image() -> str:
    """Give the name of the image, which is made if it must be."""
    hosts.needs("mmdebstrap")
    folder = hosts.FOLDER / f"root-pip-{hosts.NATIVE}"
    made = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    hosts.FOLDER.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(hosts.FOLDER / "root-pip.lock"):
        note = folder / "made"
        if not note.is_file() or note.read_text(encoding="ascii") != made:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o755)
            images.extract(folder / "root", "trixie", _PACKAGES)
            _configure(folder / "root")
            note.write_text(made, encoding="ascii")
    return containers.imported(folder / "root", hosts.NATIVE, NAME, made=made)


# Nothing of it is younger than the oldest glibc.
SOURCE: Final = """\
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "compiled", "", -1, methods};
PyMODINIT_FUNC PyInit_compiled(void) { return PyModule_Create(&module); }
"""


def compiled_wheel(index: Index) -> Path:
    """Add a wheel `compiled` to an index, whose extension the compiler of the image made."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[hosts.NATIVE]
    room = index.folder.parent / "compiling"
    room.mkdir()
    (room / "compiled.c").write_text(SOURCE, encoding="ascii")
    module = f"compiled.cpython-{hosts.PYTHON.replace('.', '')}-{machine}-linux-gnu.so"
    compiler = ("cc", "-shared", "-fPIC", f"-I/usr/include/python{hosts.PYTHON}", "compiled.c", "-o", module)
    containers.podman("run", "--rm", "--network=none", "-v", f"{room}:/room", "-w", "/room", image(), *compiler)
    tag = f"cp{hosts.PYTHON.replace('.', '')}"
    files = {module: (room / module).read_bytes()}
    return make_wheel(index.folder, "compiled", "1.0", files, tags=[f"{tag}-{tag}-manylinux_2_17_{machine}"])


def _configure(root: Path) -> None:
    """Do what the packages' scripts would, which are not run."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (root / "usr" / name).is_dir() and not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    (root / "usr" / "bin" / "sh").unlink(missing_ok=True)
    (root / "usr" / "bin" / "sh").symlink_to("dash")
    authorities = sorted((root / "usr" / "share" / "ca-certificates" / "mozilla").glob("*.crt"))
    bundle = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    bundle.write_bytes(b"".join(one.read_bytes() for one in authorities))
    (root / "root").mkdir(mode=0o700, exist_ok=True)
