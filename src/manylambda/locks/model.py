"""The values of the lock room: where dependencies are written down, and what was chosen for one target.

Whatever the source, it becomes a PEP 751 lock (`packaging.pylock.Pylock`) and then a `Selection` for each target.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manylambda.locks.index import IndexFile
    from manylambda.target import Target


class SourceKind(Enum):
    """The file formats dependencies are read from, most exact first: this order is the precedence."""

    PYLOCK = "pylock.toml"
    UV = "uv.lock"
    POETRY = "poetry.lock"
    PDM = "pdm.lock"
    REQUIREMENTS = "requirements.txt"
    PYPROJECT = "pyproject.toml"
    NONE = "none"

    @property
    def is_locked(self) -> bool:
        """Whether versions and hashes are honoured exactly, without resolving."""
        return self in {SourceKind.PYLOCK, SourceKind.UV, SourceKind.POETRY, SourceKind.PDM}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The file (or files) a project's dependencies are taken from."""

    kind: SourceKind
    project: Path
    """The project's folder, absolute."""
    files: tuple[Path, ...]
    """Absolute, in the order given; several only for requirements files.

    `Path("-")` is standard input, and another pipe is as its shell names it.
    """
    passed_over: tuple[Path, ...] = ()
    """Less exact candidates that were also there, to be told to the user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolveOptions:
    """What a user may say about resolving; the same for every target."""

    extras: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    allow_sdists: frozenset[str] = frozenset()
    """Normalised names, or `all`."""
    allow_linux_wheels: bool = False
    """Accept `linux_x86_64`/`linux_aarch64` wheels; the audit of the binary then decides."""
    offline: bool = False
    cache: Path | None = None
    """Where uv keeps its cache; None for uv's own default."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The process environment (`os.environ`), from which index settings and credentials are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SdistFacts:
    """What is known of an sdist once it was fetched and read."""

    metadata: str
    """Core metadata: what the `METADATA` of its wheel says."""
    sha256: str
    size: int


class SdistMetadata(Protocol):
    """Reads sdists; building one, where nothing less tells, is no matter of the lock room."""

    def __call__(self, name: str, file: IndexFile, target: Target, /) -> SdistFacts:
        """Say what an sdist of `name` (normalised) depends on when its wheel is for `target`.

        Raises `FetchError` when it cannot be had, `PackagingError` when it cannot be read or built.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile:
    """One wheel a lock names. Either `url` (without credentials) or `path` is set."""

    filename: str
    url: str | None = None
    path: Path | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Algorithm -> lower-case hex; empty only where the user's own input has none (a local path, a bare URL)."""
    size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One distribution chosen for one target."""

    name: str
    """Normalised (PEP 503)."""
    version: str
    wheel: WheelFile
    index: str | None = None
    """The index it came from, without credentials."""
    compiled_for: tuple[str, ...] = ()
    """Of a pure wheel: the platforms for which the same release has compiled ones, as far as the lock tells."""
    brings_library: bool = False
    """Whether those bring a library or a program that the pure one lacks, not an extension module."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPackage:
    """A source tree on this machine that must be built into a wheel: a path or workspace dependency."""

    name: str
    directory: Path
    """Absolute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceDistribution:
    """A distribution chosen for one target that exists only as an sdist, and that the user allowed."""

    name: str
    version: str | None
    url: str | None
    path: Path | None
    hashes: Mapping[str, str]
    build_requires: tuple[str, ...] = ()
    """What it is to be built with, pinned with hashes, where the lock says so; lines of a requirements file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What goes into the package for one target, sorted by name."""

    target: Target
    pins: tuple[Pin, ...]
    local: tuple[LocalPackage, ...] = ()
    sdists: tuple[SourceDistribution, ...] = ()
