"""The core metadata of wheels, and of sdists as far as no build would change them."""

from __future__ import annotations

import tomllib
import zipfile
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import UnsafeArchive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PKG_INFO: Final = "PKG-INFO"
_PYPROJECT: Final = "pyproject.toml"
_MOST_TEXT: Final = 4 << 20
# What decides which other distributions an sdist brings, and where it may be installed.
_DECISIVE_FIELDS: Final = frozenset({"requires-dist", "requires-python", "provides-extra"})
_DECISIVE_KEYS: Final = frozenset({"dependencies", "optional-dependencies", "requires-python"})


def static_metadata(archive: Path, version: str | None) -> str | None:
    """Give the core metadata of an sdist, or None when only a build can tell them. Nothing is unpacked or run.

    They are static in a `PKG-INFO` that says so (PEP 643), or in a `pyproject.toml` that declares them (PEP 621);
    `version` is that of the file's name. Raises `UnsafeArchive` when the archive cannot be read.
    """
    texts = _texts(archive)
    told = texts.get(_PKG_INFO)
    if told is not None and _is_static(told):
        return told
    return _declared(texts.get(_PYPROJECT, ""), version)


def declared_build_requirements(archive: Path) -> tuple[str, ...]:
    """Give the `[build-system] requires` of an sdist, or what stands for it where it has none. Nothing is run.

    Raises `UnsafeArchive` when the archive cannot be read, `PackagingError` when the table is not as PEP 518 asks.
    """
    from manylambda.sdists.backend import parse_build_system

    return parse_build_system(_texts(archive).get(_PYPROJECT, ""), archive.name).requires


def wheel_metadata(wheel: Path) -> str:
    """Give the `METADATA` of a wheel. Raises `UnsafeArchive` when it has none."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            for name in opened.namelist():
                folder, _, rest = name.partition("/")
                if folder.endswith(".dist-info") and rest == "METADATA":
                    return opened.read(name).decode("utf-8", "replace")
    except (zipfile.BadZipFile, OSError) as error:
        raise UnsafeArchive(f"`{wheel.name}` cannot be read: {error}") from error
    raise UnsafeArchive(f"`{wheel.name}` has no METADATA")


def _is_static(told: str) -> bool:
    from packaging.metadata import parse_email

    fields, unreadable = parse_email(told)
    numbers = fields.get("metadata_version", "").split(".")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers) or unreadable.keys() & _DECISIVE_FIELDS:
        return False
    dynamic = {field.strip().lower() for field in fields.get("dynamic", [])}
    return tuple(map(int, numbers)) >= (2, 2) and not dynamic & _DECISIVE_FIELDS


def _declared(text: str, version: str | None) -> str | None:
    """Write the metadata that a `[project]` table declares; None when it leaves any of it to the build."""
    try:
        project = tomllib.loads(text).get("project")
    except (ValueError, RecursionError):
        return None
    if not isinstance(project, dict):
        return None
    dynamic = project.get("dynamic", [])
    if not isinstance(dynamic, list) or _DECISIVE_KEYS.intersection(map(str, dynamic)):
        return None
    lines = [
        "Metadata-Version: 2.2",
        f"Name: {project.get('name')}",
        f"Version: {project.get('version', version)}",
    ]
    if "requires-python" in project:
        lines.append(f"Requires-Python: {project['requires-python']}")
    try:
        lines += _requirements(project)
    except (ValueError, TypeError, AttributeError):  # not as PEP 621 asks: the backend has a word on it
        return None
    whole = all(isinstance(project.get(key, version), str) for key in ("name", "version"))
    return "".join(f"{line}\n" for line in lines) if whole and "name" in project else None


def _requirements(project: Mapping[str, Any]) -> Iterator[str]:
    from packaging.markers import Marker
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for text in _listed(project.get("dependencies", [])):
        yield f"Requires-Dist: {Requirement(text)}"
    for key, texts in project.get("optional-dependencies", {}).items():
        extra = canonicalize_name(key)
        yield f"Provides-Extra: {extra}"
        for text in _listed(texts):
            requirement = Requirement(text)
            own = f"({requirement.marker}) and " if requirement.marker else ""
            requirement.marker = Marker(f'{own}extra == "{extra}"')
            yield f"Requires-Dist: {requirement}"


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _texts(archive: Path) -> dict[str, str]:
    """Read the two files that may tell, of those beside each other in the archive's one folder."""
    import tarfile
    import zlib

    found: dict[str, bytes] = {}
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for info in opened.infolist():
                    if (own := _own_name(info.filename)) is not None and info.file_size <= _MOST_TEXT:
                        found[own] = opened.read(info)
        else:
            with tarfile.open(archive) as tar:
                for member in tar:
                    own = _own_name(member.name)
                    stream = tar.extractfile(member) if own is not None and member.isfile() else None
                    if own is not None and stream is not None:
                        found[own] = stream.read(_MOST_TEXT)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UnsafeArchive(f"`{archive.name}` cannot be read: {error}") from error
    return {name: data.decode("utf-8", "replace") for name, data in found.items()}


def _own_name(path: str) -> str | None:
    _, _, name = path.removeprefix("./").partition("/")
    return name if name in {_PKG_INFO, _PYPROJECT} else None
