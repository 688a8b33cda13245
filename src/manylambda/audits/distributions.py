"""Distributions: what the metadata of an installed package tells of itself."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from manylambda.tree import open_content, read_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from manylambda.tree import Entry

MAX_METADATA: Final = 16 << 20
MAX_HEADERS: Final = 1 << 20
"""Bytes of a METADATA that are read: the headers, which the description follows."""
_MAX_ALL_HEADERS: Final = 64 << 20
_MAX_TAGS: Final = 4096

_METADATA: Final = (
    ".dist-info/METADATA", ".dist-info/WHEEL", ".egg-info", ".egg-info/PKG-INFO", ".egg-info/requires.txt"
)  # fmt: skip


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
        """The name of its `.dist-info` folder, or of its `.egg-info`."""


class InstalledDistribution(NamedTuple):
    """A distribution as the metadata in a package tells it."""

    name: str
    version: str
    tags: tuple[str, ...]
    requires_python: str | None
    requires: tuple[str, ...]
    dist_info: str
    is_cut: bool = False
    """Whether its metadata is too much to be read to its end."""


class PureFallback(NamedTuple):
    """A pure wheel although its release has compiled ones, none for the target, or its source has code to compile."""

    distribution: str
    file: str
    compiled_for: tuple[str, ...] = ()
    """Platforms that have a compiled wheel."""
    brings_library: bool = False
    """Whether those wheels bring a library or a program that the pure one lacks, not an extension module."""
    sources: tuple[str, ...] = ()
    """Of a wheel that was built from source: what was not compiled, as `_yaml.pyx`; a few files."""
    reason: str | None = None
    """Why that was not, as far as the build told: `'yaml.h' file not found`."""


def read_distributions(tree: Iterable[Entry], folders: Sequence[str] = ("",)) -> tuple[InstalledDistribution, ...]:
    """Read the `*.dist-info` and `*.egg-info` that lie in one of `folders`, in the order of the tree.

    An `.egg-info` is what old installers and `setup.py develop` leave; where a `.dist-info` tells of the same
    distribution, that counts alone.
    """
    texts: dict[str, dict[str, str]] = {}
    cut: set[str] = set()
    left = _MAX_ALL_HEADERS
    for entry in tree:
        path = entry.path
        if path.endswith(_METADATA):
            folder, _, name = path.rpartition("/")
            if path.endswith(".egg-info"):
                folder, name = path, "PKG-INFO"
            if folder[: folder.rfind("/") + 1] in folders:
                text, is_whole = _headers(entry, min(left, MAX_HEADERS))
                texts.setdefault(folder, {})[name] = text
                left -= len(text)
                if not is_whole:
                    cut.add(folder)
    found = {folder: _distribution(folder, files) for folder, files in texts.items() if "METADATA" in files}
    known = {(folder.rpartition("/")[0], each.name) for folder, each in found.items()}
    for folder, files in texts.items():
        if "PKG-INFO" in files:
            egg = _egg(folder, files)
            if (folder.rpartition("/")[0], egg.name) not in known:
                found[folder] = egg
    return tuple(found[folder]._replace(is_cut=folder in cut) for folder in texts if folder in found)


def _headers(entry: Entry, most: int) -> tuple[str, bool]:
    """Return a file of metadata up to the description, which nobody asks for here, and whether that is all of it."""
    if entry.content.size <= MAX_HEADERS:
        data, is_whole = read_content(entry.content), True
    else:
        with open_content(entry.content) as stream:
            data, is_whole = stream.read(MAX_HEADERS), False
    if not entry.path.endswith("requires.txt") and (description := re.search(rb"\n\r?\n", data)):
        data, is_whole = data[: description.start()], True
    if len(data) > most:
        data, is_whole = data[:most], False
    if not is_whole:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", "replace"), is_whole


def _distribution(folder: str, files: Mapping[str, str]) -> InstalledDistribution:
    wheel = _fields(files.get("WHEEL", ""))
    return _described(
        _fields(files["METADATA"]),
        folder.rpartition("/")[2],
        tuple(islice((expanded for tag in wheel.get("tag", ()) for expanded in _expanded(tag)), _MAX_TAGS)),
    )


def _egg(folder: str, files: Mapping[str, str]) -> InstalledDistribution:
    found = _described(_fields(files["PKG-INFO"]), folder.rpartition("/")[2], ())
    if found.requires:
        return found
    return found._replace(requires=tuple(_egg_requirements(files.get("requires.txt", ""))))


def _egg_requirements(text: str) -> Iterator[str]:
    """Read a `requires.txt`, whose requirements lie below `[extra]`, `[:marker]` or `[extra:marker]`."""
    condition = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
            asked = f'extra == "{extra}"' if extra else ""
            condition = f"({marker}) and {asked}" if marker and asked else marker or asked
        elif line:
            yield f"{line} ; {condition}" if condition else line


def _described(metadata: Mapping[str, list[str]], info: str, tags: tuple[str, ...]) -> InstalledDistribution:
    name, _, version = info.rpartition(".")[0].partition("-")
    return InstalledDistribution(
        name=normalised(next(iter(metadata.get("name", ())), name)),
        version=next(iter(metadata.get("version", ())), version),
        tags=tags,
        requires_python=next(iter(metadata.get("requires-python", ())), None),
        requires=tuple(metadata.get("requires-dist", ())),
        dist_info=info,
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
