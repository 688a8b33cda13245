"""What a source distribution is, by its own files: whether it has code to compile, in which languages, by which tool.

Nothing is run, so it is a guess: a build that asks for a compiler where none was expected is begun anew with one.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LANGUAGES: Final[Mapping[str, str]] = {
    ".c": "C", ".cc": "C++", ".cpp": "C++", ".cxx": "C++", ".hpp": "C++", ".pyx": "Cython", ".rs": "Rust", ".f":
    "Fortran",
    ".f90": "Fortran", ".f95": "Fortran", ".s": "assembly", ".asm": "assembly", ".go": "Go", ".cu": "CUDA", ".swg":
    "SWIG",
    ".i": "SWIG", ".m": "Objective-C", ".d": "D", ".zig": "Zig",
}  # fmt: skip
_SOURCES: Final = frozenset({".c", ".cc", ".cpp", ".cxx", ".pyx", ".rs", ".f", ".f90", ".f95", ".asm", ".go", ".cu"})
# What is no part of the package, in whatever language.
_ASIDE: Final = frozenset(
    {"tests", "test", "testing", "docs", "doc", "examples", "example", "benchmarks", "bench", "demo", "demos"}
)
_NATIVE_BACKENDS: Final = (
    "maturin", "setuptools_rust", "mesonpy", "scikit_build_core", "skbuild", "sipbuild", "py_build_cmake",
    "numpy.distutils",
    "enscons",
)  # fmt: skip
_NATIVE_REQUIREMENTS: Final = re.compile(
    r"(cython|pybind11|nanobind|cffi|setuptools[-_]rust|maturin|meson[-_]python|scikit[-_]build(?:[-_]core)?|mypy|cmake|numpy"
    r"|setuptools[-_]golang|ziglang|setuptools[-_]zig|hatch[-_](?:cython|mypyc)|swig|cppyy|f2py)(?![\w-])",
    re.IGNORECASE,
)
_EXTENSIONS: Final = re.compile(
    r"\b(ext_modules|Extension\s*\(|cffi_modules|rust_extensions|RustExtension|cythonize|mypycify|CMakeExtension"
    r"|Pybind11Extension|ext-modules)"
)
_RUST: Final = re.compile(r"(maturin|setuptools[-_]rust)(?![\w-])", re.IGNORECASE)
_ABOUT_PYTHON: Final = re.compile(r"version_info|python_version|sys\.platform|platform\.|os\.name|sysconfig|PY[23]\b")
LEGACY_BACKEND: Final = "setuptools.build_meta:__legacy__"


class Nature(NamedTuple):
    """What a source tree looks like."""

    is_native: bool
    languages: tuple[str, ...]
    """Of what looks like it will be compiled, sorted: `C`, `C++`, `Cython`, `Rust`."""
    sources: tuple[str, ...]
    """Files of that, the shortest paths first."""
    backend: str
    """As `build-system.build-backend` names it."""
    asks_python: bool
    """Whether its `setup.py` asks which Python or system runs it, and so may give another wheel on another."""
    builds_rust: bool = False
    """Whether its build cannot do without Rust; with others `.rs` files are a part that need not be built."""

    @property
    def sentence(self) -> str:
        """Continues `its source ...`."""
        if not self.is_native:
            return "looks pure: it has no code to compile"
        what = " and ".join(self.languages) or "compiled code"
        count = f"{len(self.sources)} file{'s' if len(self.sources) > 1 else ''}, " if self.sources else ""
        return f"looks native: {what} ({count}built by {self.backend.partition('.')[0].partition(':')[0]})"

    @property
    def is_cpp(self) -> bool:
        """Whether a C++ compiler will be needed."""
        return "C++" in self.languages


def examine(names: Iterable[str], read: Callable[[str], str | None]) -> Nature:
    """Look at a tree by the paths of its files (relative, `/`-separated) and the text of a few of them."""
    pyproject = _table(read("pyproject.toml"))
    setup = read("setup.py") or ""
    build_system = pyproject.get("build-system")
    build_system = build_system if isinstance(build_system, dict) else {}
    backend = build_system.get("build-backend")
    backend = backend if isinstance(backend, str) else LEGACY_BACKEND
    requires = build_system.get("requires")
    requires = [one for one in requires if isinstance(one, str)] if isinstance(requires, list) else []
    found = sorted((name for name in names if _is_source(name)), key=lambda name: (name.count("/"), name))
    says_so = (
        backend.startswith(_NATIVE_BACKENDS)
        or any(_NATIVE_REQUIREMENTS.match(one) for one in requires)
        or bool(_EXTENSIONS.search(setup))
        or bool(_EXTENSIONS.search(read("setup.cfg") or ""))
        or "ext-modules" in _setuptools(pyproject)
        or read("CMakeLists.txt") is not None
    )
    # Sources alone may be data; with a program that builds them they seldom are.
    is_native = says_so or (bool(found) and bool(setup or build_system.get("backend-path")))
    languages = {_LANGUAGES[_suffix(name)] for name in found} if is_native else set()
    builds_rust = backend.startswith(("maturin", "setuptools_rust")) or any(_RUST.match(one) for one in requires)
    if builds_rust:
        languages.add("Rust")
    return Nature(
        is_native=is_native,
        languages=tuple(sorted(languages)),
        sources=tuple(found) if is_native else (),
        backend=backend,
        asks_python=bool(_ABOUT_PYTHON.search(setup)),
        builds_rust=builds_rust,
    )


def _is_source(name: str) -> bool:
    folders = name.lower().split("/")
    return _suffix(name) in _SOURCES and not _ASIDE.intersection(folders[:-1])


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2].lower()


def _table(text: str | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except (ValueError, RecursionError):
        return {}


def _setuptools(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = pyproject.get("tool")
    table = tool.get("setuptools") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else {}
