"""The values of the room: what is built, how, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from manylambda.locks.settings import IndexSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Engine = Literal["auto", "zig", "container"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """What a user may say about building from source; the same for every distribution unless it is named."""

    engine: Engine = "auto"
    """What compiles: zig on this host, or the compilers of a container image; `auto` is zig."""
    image: str | None = None
    """The container image to build in; None for SAM's build image of the runtime."""
    sysroot: Path | None = None
    """A root file system of the target, whose headers and libraries a build may use. Absolute."""
    constraints: tuple[str, ...] = ()
    """Requirements that hold versions of build requirements: `setuptools<81`."""
    config_settings: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)
    """By normalised name: what the build backend is told (PEP 517)."""
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By normalised name: environment variables of the build."""
    download_python: bool = False
    """Whether uv may download a CPython of the target's minor version when there is none."""
    offline: bool = False
    indexes: IndexSettings = field(default_factory=IndexSettings)
    """Where build requirements come from."""


class Fallback(NamedTuple):
    """A wheel without the compiled part that its source has."""

    sources: tuple[str, ...]
    """Sources of compiled code in the sdist, as `_yaml.c`; a few."""
    reason: str | None
    """Why it was not compiled, as far as the build told: `'yaml.h' file not found`."""


class BuiltWheel(NamedTuple):
    """A wheel in the cache that was built from source."""

    path: Path
    fallback: Fallback | None = None
