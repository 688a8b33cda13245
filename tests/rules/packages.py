"""Packages for the rules to look at: made of a dict, with metadata as an installer leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from manylambda import rules
from manylambda.audits import normalised, run
from manylambda.target import Target
from manylambda.tree import MODE_FILE, Bytes, Entry, PackageTree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manylambda.audits import Finding, Report

ELF = Path(__file__).parent.parent / "elf" / "data"


def elf(name: str) -> bytes:
    return (ELF / name).read_bytes()


def files(contents: Mapping[str, bytes | str], origin: str = "project") -> list[Entry]:
    return [
        Entry(path, MODE_FILE, Bytes(data.encode() if isinstance(data, str) else data), origin)
        for path, data in contents.items()
    ]


def distribution(
    name: str,
    version: str = "1.0",
    contents: Mapping[str, bytes | str] | None = None,
    *,
    tags: Sequence[str] = ("py3-none-any",),
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    prefix: str = "",
) -> list[Entry]:
    metadata = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    metadata += [f"Requires-Dist: {each}" for each in requires]
    wheel = ["Wheel-Version: 1.0", *(f"Tag: {tag}" for tag in tags)]
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    return files(
        {
            prefix + path: data
            for path, data in {
                f"{info}/METADATA": "\n".join(metadata) + "\n\nRequires-Dist: not-a-field\n",
                f"{info}/WHEEL": "\n".join(wheel) + "\n",
                **(contents or {}),
            }.items()
        },
        normalised(name),
    )


def report(target: str, *entries: Sequence[Entry], **given: object) -> Report:
    tree = PackageTree(entry for group in entries for entry in group)
    return run(tree, Target.parse(target), rules.ALL, **given)  # type: ignore[arg-type]


def findings(target: str, *entries: Sequence[Entry], **given: object) -> tuple[Finding, ...]:
    return report(target, *entries, **given).findings


def told(target: str, *entries: Sequence[Entry], **given: object) -> list[tuple[str, str, str | None]]:
    """Return rule, severity and path of each finding."""
    return [(one.rule, one.severity.value, one.path) for one in findings(target, *entries, **given)]
