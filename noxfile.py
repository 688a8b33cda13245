"""The development commands: `nox` runs what must pass; `nox --list` names the rest.

Words after `--` go to pytest: `nox -s tests -- -k audit`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "docs", "tests"]

PROJECT: Final = nox.project.load_toml("pyproject.toml")

# Each worker keeps a group of tests that share something costly, such as a Windows, to itself.
PARALLEL: Final = ("-n", "auto", "--dist", "loadgroup")


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and types; `-- --fix` mends what can be mended."""
    _install(session, "lint", "test")
    fix = "--fix" in session.posargs
    session.run("ruff", "format", *(() if fix else ("--check",)), ".")
    session.run("ruff", "check", *(("--fix",) if fix else ()), ".")
    session.run("mypy")
    session.run("python", "-m", "benchmarks.report", "--check")


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test; those that ask the package index included."""
    _install(session, "test", "docs")
    session.run("pytest", *PARALLEL, *session.posargs)


@nox.session(name="tests-offline")
def tests_offline(session: nox.Session) -> None:
    """Run what needs no network."""
    _install(session, "test", "docs")
    session.run("pytest", *PARALLEL, "-m", "not network", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into `site`: a broken link or a missing anchor is an error."""
    session.install(*nox.project.dependency_groups(PROJECT, "docs"))
    session.run("zensical", "build", "--clean", "--strict")


@nox.session
def generate(session: nox.Session) -> None:
    """Write the pages of the reference anew from the code; `-- --check` tells whether they are current."""
    _install(session)
    session.run("python", "tools/generate.py", *session.posargs)


@nox.session
def cdk(session: nox.Session) -> None:
    """Check `manylambda.cdk` against the types of AWS CDK, which takes two minutes and 3 GB."""
    session.install("-e", ".[cdk]", "mypy>=2")
    options = ("--strict", "--ignore-missing-imports", "--follow-imports=silent")
    session.run("mypy", f"--config-file={os.devnull}", *options, "src/manylambda/cdk.py")


@nox.session
def hosts(session: nox.Session) -> None:
    """Get the interpreters and the Windows that the same bytes are tested on, into build/hosts."""
    _install(session)
    session.run("python", "tools/pythons.py", *session.posargs)


@nox.session
def same_bytes(session: nox.Session) -> None:
    """Build on every host that can be had and compare."""
    _install(session, "test")
    session.run("python", "tools/pythons.py")
    session.run("pytest", "tests/same_bytes", *session.posargs)


@nox.session(name="property")
def properties(session: nox.Session) -> None:
    """Look for counter-examples to the laws; `-- --hypothesis-seed=0` repeats a search."""
    _install(session, "test")
    session.run("pytest", *PARALLEL, "tests/property", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Time us and our peers; `-- --work DIR --warm --only W1` (see benchmarks/run.py)."""
    session.install(".")
    words = session.posargs or ("--work", "build/benchmarks", "--warm", "--cold", "--unchanged", "--memory")
    session.run("python", "-m", "benchmarks.run", *words)


@nox.session
def package(session: nox.Session) -> None:
    """Make the source distribution and the wheel twice, the same, and try the wheel; `-- --into dist` keeps them."""
    session.install("hatchling")
    folder = Path(session.create_tmp())
    for old in folder.glob("manylambda-*"):
        old.unlink()
    session.run("python", "tools/build_release.py", *(session.posargs or ("--into", str(folder))))
    (wheel,) = (Path(session.posargs[-1]) if session.posargs else folder).glob("*.whl")
    session.install("--force-reinstall", str(wheel))
    session.run("manylambda", "--version")


@nox.session(name="single-file")
def single_file(session: nox.Session) -> None:
    """Make the tool one file for this machine, and try it; `-- --into dist linux-arm64` makes others."""
    session.install("hatchling", "shiv", "uv")
    words = session.posargs or ("--into", session.create_tmp())
    made = session.run("python", "tools/single_file.py", *words, silent=True)
    session.log(made)
    if not session.posargs:
        session.run("python", str(made).split()[-1], "--version")
