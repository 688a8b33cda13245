"""Distributions: what the metadata of an installed package tells of itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from manylambda.tree import read_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manylambda.tree import Entry

MAX_METADATA: Final = 16 << 20


class Distribution(Protocol):
    """What is known of an installed distribution; the inventory of a wheel is one."""

    @property
    def name(self) -> str:
        """Normalised (PEP 503)."""

    @property
    def version(self) -> str:
        """As its metadata writes it."""

    @property
    def tags(self) -> Sequence[str]:
        """Expanded wheel tags; empty where the package does not tell."""

    @property
    def requires_python(self) -> str | None:
        """The specifier of `Requires-Python`."""

    @property
    def requires(self) -> Sequence[str]:
        """Every `Requires-Dist`, as written."""

    @property
    def dist_info(self) -> str:
        """The name of its `.dist-info` folder."""


class InstalledDistribution(NamedTuple):
    """A distribution as the metadata in a package tells it."""

    name: str
    version: str
    tags: tuple[str, ...]
    requires_python: str | None
    requires: tuple[str, ...]
    dist_info: str


class PureFallback(NamedTuple):
    """A pure wheel that a lock chose although the same release has compiled ones, none of them for the target."""

    distribution: str
    file: str
    compiled_for: tuple[str, ...]
    """Platforms that have a compiled wheel."""


def read_distributions(tree: Iterable[Entry], folders: Sequence[str] = ("",)) -> tuple[InstalledDistribution, ...]:
    """Read the `*.dist-info` folders that lie in one of `folders`, in the order of the tree."""
    texts: dict[str, dict[str, str]] = {}
    for entry in tree:
        path = entry.path
        if path.endswith((".dist-info/METADATA", ".dist-info/WHEEL")):
            folder, _, name = path.rpartition("/")
            if folder[: folder.rfind("/") + 1] in folders and entry.content.size <= MAX_METADATA:
                texts.setdefault(folder, {})[name] = read_content(entry.content).decode("utf-8", "replace")
    return tuple(_distribution(folder, files) for folder, files in texts.items() if "METADATA" in files)


def _distribution(folder: str, files: Mapping[str, str]) -> InstalledDistribution:
    metadata, wheel = _fields(files["METADATA"]), _fields(files.get("WHEEL", ""))
    dist_info = folder.rpartition("/")[2]
    name, _, version = dist_info.removesuffix(".dist-info").partition("-")
    return InstalledDistribution(
        name=normalised(next(iter(metadata.get("name", ())), name)),
        version=next(iter(metadata.get("version", ())), version),
        tags=tuple(expanded for tag in wheel.get("tag", ()) for expanded in _expanded(tag)),
        requires_python=next(iter(metadata.get("requires-python", ())), None),
        requires=tuple(metadata.get("requires-dist", ())),
        dist_info=dist_info,
    )


def _fields(text: str) -> dict[str, list[str]]:
    """Read the headers of a METADATA or WHEEL file; continued lines belong to fields that nobody asks for here."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


def _expanded(tag: str) -> Iterator[str]:
    interpreters, _, rest = tag.partition("-")
    abis, _, platforms = rest.partition("-")
    for interpreter in interpreters.split("."):
        for abi in abis.split("."):
            for platform in platforms.split("."):
                yield f"{interpreter}-{abi}-{platform}"


def normalised(name: str) -> str:
    """Return the name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
