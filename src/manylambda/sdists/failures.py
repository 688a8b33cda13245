"""Why a build failed, in a sentence, and what to do: read from what the compilers noted and the backend said."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from manylambda.target import Target

_MOST_NOTES: Final = 200
_END: Final = 8
"""Lines at the end of a log that tell why the build ended."""


class Failed(NamedTuple):
    """A compiler that ended with an error."""

    subject: str
    """The source, or what was linked: `src/_yaml.c`; `pkg-config` when that was asked."""
    lines: tuple[str, ...]


class Explanation(NamedTuple):
    """Where a failure comes from."""

    cause: str
    hint: str | None


class Library(NamedTuple):
    """A library of the system."""

    name: str
    debian: str
    """The packages of Debian with its headers."""


class _Case(NamedTuple):
    pattern: re.Pattern[str]
    explain: Callable[[re.Match[str], _Build], Explanation]


class _Build(NamedTuple):
    name: str
    target: Target
    has_sysroot: bool
    image: str | None
    """Of the container that it is built in."""


def read(file: Path) -> tuple[Failed, ...]:
    """Read what the compilers noted (`inside/compiler.py`); a build may have written anything there."""
    found = []
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    for line in text.splitlines()[-_MOST_NOTES:]:
        try:
            subject, lines = json.loads(line)
            found.append(Failed(str(subject), tuple(map(str, lines))))
        except (ValueError, TypeError):
            continue
    return tuple(found)


def first_cause(failed: Sequence[Failed]) -> str | None:
    """Give the error of a compilation that failed: of a missing header, if there is any, else the first."""
    errors = [line.partition("error:")[2].strip() for one in failed for line in one.lines if "error:" in line]
    return next((error for error in errors if "file not found" in error), errors[0] if errors else None)


def explain(
    name: str,
    log: Sequence[str],
    failed: Sequence[Failed],
    target: Target,
    *,
    sysroot: bool,
    image: str | None = None,
) -> Explanation:
    """Say what the failure of a build comes down to, and what mends it as far as that is known.

    The first of the known causes counts, as they stand in `_CASES`: what lacks a header fails in other ways too.
    """
    build = _Build(name, target, sysroot, image)
    lines = [line for one in failed for line in one.lines] + list(log)
    for case in _CASES:
        for line in lines:
            if match := case.pattern.search(line):
                return case.explain(match, build)
    # Much is asked of pkg-config that a build can do without: what it ends with must be about it.
    end = " ".join([line for line in log if line.strip()][-_END:]).lower()
    asked = [word for one in failed if one.subject == "pkg-config" for word in one.lines]
    # Python is had by other means.
    asked = [word for word in asked if _core(word) != "python" and ("pkg-config" in end or _core(word) in end)]
    if asked and not sysroot:
        named = ", ".join(f"`{word}`" for word in dict.fromkeys(asked))
        return Explanation(f"it looks for {named} with pkg-config", _sysroot_hint(build, library_linked(asked[0])))
    return Explanation(first_cause(failed) or _first_of_cargo(log) or _last(log), None)


def _core(module: str) -> str:
    """Give the word in the name of a module of pkg-config: `xml` of `libxml-2.0`."""
    return re.sub(r"[-_.\d+]+$", "", module.lower().removeprefix("lib")) or module.lower()


def library_of_header(header: str) -> Library | None:
    """Give the library a header belongs to, if it is a known one."""
    return _found("headers", header)


def library_linked(name: str) -> Library | None:
    """Give the library of a link name (`pq` of `-lpq`) or a module of pkg-config, if it is a known one."""
    return _found("links", name.removeprefix("lib")) or _found("links", name)


@lru_cache(maxsize=1)
def _libraries() -> Sequence[dict[str, object]]:
    from importlib.resources import files

    table = json.loads((files("manylambda.data") / "libraries.json").read_text(encoding="utf-8"))
    libraries: Sequence[dict[str, object]] = table["libraries"]
    return libraries


def _found(key: str, name: str) -> Library | None:
    for one in _libraries():
        patterns = one.get(key, ())
        assert isinstance(patterns, list | tuple)
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return Library(str(one["name"]), str(one["debian"]))
    return None


def _first_of_cargo(log: Sequence[str]) -> str | None:
    """Pick what cargo or rustc said first; what runs them says only that they failed."""
    if not any(re.search(r"\b(cargo|maturin)\b", line) for line in log):
        return None
    found = (re.match(r"\s*error(?:\[E\d+\])?: (?!could not compile|command |aborting)(.+)", line) for line in log)
    return next((match[1].strip().rstrip(".") for match in found if match), None)


def _last(log: Iterable[str]) -> str:
    """Pick the line that names the cause: the last one of an exception, else the last one."""
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)]
    return (errors or lines or ["no reason was given"])[-1].rstrip(".")


def _sysroot_hint(build: _Build, library: Library | None) -> str:
    package = f" (Debian: `{library.debian}`)" if library else ""
    if build.image:
        return f"`{build.image}` does not have it: name an image with `--image` that has it{package}"
    if build.has_sysroot:
        return f"the root file system of `--sysroot` does not have it: add it there{package}"
    return (
        f"`--sysroot DIR` gives the build a root file system for {build.target.machine} that has it{package}; or "
        "`--sdist-engine container --image REF` builds in an image that has it; or look for another distribution that "
        "brings it in its wheels"
    )


def _header(match: re.Match[str], build: _Build) -> Explanation:
    header = match[1] or match[2]
    library = library_of_header(header)
    what = f"`{header}` is missing, a header of {library.name}" if library else f"the header `{header}` is missing"
    return Explanation(what, _sysroot_hint(build, library))


def _of_other_system(match: re.Match[str], build: _Build) -> Explanation:
    return Explanation(
        f"`{match[1]}` is a header of another system than Linux",
        f"`{build.name}` is not made for Linux, or this release",
    )


def _numpy(match: re.Match[str], build: _Build) -> Explanation:
    return Explanation(
        f"`{match[1]}` is missing, a header of {match[2]}: the build needs `{match[2]}` and does not say so",
        f"a newer release may say so: look for one of `{build.name}` with `build-system.requires`",
    )


def _link(match: re.Match[str], build: _Build) -> Explanation:
    name = match[1]
    library = library_linked(name)
    what = f"the library `lib{name}` is missing" + (f" ({library.name})" if library else "")
    return Explanation(what, _sysroot_hint(build, library))


def _program(match: re.Match[str], build: _Build) -> Explanation:
    name = next(group for group in match.groups() if group)
    library = next(
        (
            Library(str(one["name"]), str(one["debian"]))
            for one in _libraries()
            if name in (one.get("programs") or ())  # type: ignore[operator]
        ),
        None,
    )
    if library is not None:
        return Explanation(f"`{name}` is missing, which tells where {library.name} is", _sysroot_hint(build, library))
    if "fortran" in name and not build.image:
        return Explanation(
            "it has Fortran code, and there is no Fortran compiler for the target here",
            "`--sdist-engine container --image REF` builds in an image with one (`gfortran`)",
        )
    if build.image:
        return Explanation(f"the build runs `{name}`, which it does not find", _sysroot_hint(build, None))
    return Explanation(
        f"the build runs `{name}`, which it does not find",
        "a build sees the programs of its build requirements, and of this host none that decides what is compiled; "
        "`--sdist-engine container --image REF` builds in an image that has it",
    )


def _network(match: re.Match[str], build: _Build) -> Explanation:
    del match
    return Explanation(
        "it wants to download something, and a build has no network",
        f"what `{build.name}` downloads may be had otherwise (see its documentation), and be given with `--sysroot` or "
        "`[tool.manylambda.sdist] environment`",
    )


def _old_setuptools(match: re.Match[str], build: _Build) -> Explanation:
    return Explanation(
        f"it needs `{match[1]}`, which newer releases of setuptools no longer have",
        f"`--build-constraint 'setuptools<81'` builds with an older one; or take a newer release of `{build.name}`",
    )


def _old_python(match: re.Match[str], build: _Build) -> Explanation:
    minor = "{}.{}".format(*build.target.python)
    return Explanation(
        f"it needs `{match[1]}`, which CPython {minor} no longer has",
        f"take a newer release of `{build.name}`, or an older runtime",
    )


def _undeclared_requirement(match: re.Match[str], build: _Build) -> Explanation:
    return Explanation(
        f"its build imports `{match[1]}`, which is none of its build requirements",
        f"a newer release of `{build.name}` may say what it needs to be built",
    )


def _api(match: re.Match[str], build: _Build) -> Explanation:
    minor = "{}.{}".format(*build.target.python)
    return Explanation(
        f"its C code is not for CPython {minor}: {match[0].strip()}",
        f"take a newer release of `{build.name}`, or an older runtime",
    )


def _cases() -> Iterator[_Case]:
    for pattern, function in (
        (r"'((numpy|pybind11|nanobind)/[^']+)' file not found", _numpy),
        (r"'(windows\.h|CoreFoundation/[^']+|mach/[^']+|sys/(?:event|sysctl)\.h)' file not found", _of_other_system),
        (r"'([^']+\.h(?:pp|h|xx)?)' file not found|fatal error: (\S+?): No such file", _header),
        (r"unable to find (?:dynamic |static )?(?:system )?library '([^']+)'", _link),
        (r"unable to find library -l(\S+)", _link),
        (r"(?:cannot|could not|unable to) (?:find|locate|resolve)[^`'\"]*[`'\"]?(\w+[-_]config)\b", _program),
        (r"\b(\w+[-_]config)(?: executable)?(?::| is)? (?:command )?not found", _program),
        (r"No such file or directory: '(?:[^']*/)?([\w.+-]+)'$", _program),
        (r"(?:sh|env|bash): (?:line )?(?:\d+: )?([\w.+-]+): (?:command )?not found", _program),
        (r"Unknown compiler\(s\): \[\[?'(gfortran)", _program),
        (r"No CMAKE_(Fortran)_COMPILER could be found", _program),
        (r"error: (Rust) ?toolchain|can't find (Rust) compiler", _program),
        (
            (
                r"Temporary failure in name resolution|getaddrinfo failed|Could not resolve host|Network is unreachable"
                r"|Failed to establish a new connection|urlopen error"
            ),
            _network,
        ),
        (r"No module named '(pkg_resources)(?:\.[\w.]+)?'", _old_setuptools),
        (r"No module named '(distutils|imp|asynchat|asyncore|lib2to3|cgi|pipes)(?:\.[\w.]+)?'", _old_python),
        (r"module '(?:pkgutil|configparser|inspect|ast)' has no attribute '(\w+)'", _old_python),
        (r"(?:ModuleNotFoundError|ImportError): No module named '(\w+)", _undeclared_requirement),
        (r"call to undeclared function '_?Py\w+'|no member named '\w+' in 'struct _(?:frame|ts|typeobject)'", _api),
        (r"(?:too (?:few|many) arguments to function call|use of undeclared identifier '_?Py\w+')", _api),
    ):
        yield _Case(re.compile(pattern), function)


_CASES: Final = tuple(_cases())
