"""Write the reference page of the targets from the runtimes table.

python tools/generate_targets.py            write it
python tools/generate_targets.py --check    exit 1 when it is not what the table says
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from generated import REFERENCE, head, run, table

from manylambda import Architecture, Target, all_targets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGE: Final = REFERENCE / "targets.md"

_INTRODUCTION: Final = """
# Targets

A target is a Lambda runtime and an architecture, written `python3.13-arm64`. `manylambda targets` prints this table,
`manylambda targets TARGET` one row in full, and `--format json` all of it as data, with the source of each fact. [How
the table is kept](../development/decisions/0003-runtimes-table.md).

"""


def document() -> str:
    """Return the page."""
    targets = [target for target in all_targets() if target.architecture is Architecture.ARM64]
    older = [target for target in all_targets() if target.runtime not in {one.runtime for one in targets}]
    runtimes = sorted((*older, *targets), key=lambda target: target.python)
    as_of = _lifecycle(runtimes[0])["as_of"]
    parts = [head(__file__, "manylambda.target"), _INTRODUCTION, f"The state on {as_of}. {_BOTH}\n\n"]
    heads = ["runtime", "system", "glibc", "state", "deprecated", "no creating", "no updating"]
    parts.append(table(heads, map(_row, runtimes)))
    parts.append("\nA runtime that is only audited is one that no package is built for any more: ")
    parts.append(", ".join(f"`{one.runtime}`" for one in runtimes if not one.can_build) + ".\n")
    parts += ["\n## Symbol versions\n\n", _SYMBOLS, _symbols(runtimes)]
    parts += ["\n## Libraries\n\n", _LIBRARIES]
    parts += [_libraries(runtimes)]
    parts += ["\n## Tags, libraries and packages of each runtime\n\n", _EACH]
    parts += [_runtime(target) for target in reversed(runtimes) if target.can_build]
    return "".join(parts)


_BOTH: Final = "Each runtime is there for x86_64 and arm64, but for `python3.7`, which has no arm64."
_SYMBOLS: Final = """\
The highest symbol version that a native file may need. `everywhere` is what every copy of the runtime has and what
packages are judged by; `now` is what a function that is created today has.

"""
_LIBRARIES: Final = """\
What every runtime of a system has: a file that needs another library must bring it. A few more lie beside the Python
of [one runtime or another](#tags-libraries-and-packages-of-each-runtime).

"""
_EACH: Final = """\
A wheel is taken if one of its tags is among the target's, and the first of them is preferred: `tags` shows how many
there are and the nearest. `preinstalled` is what a function can import without bringing it; the versions change
without notice.

"""


def _row(target: Target) -> list[str]:
    life = _lifecycle(target)
    ends = [str(life[key] or "") for key in ("deprecated", "block_create", "block_update")]
    state = target.status if target.can_build else f"{target.status}, audited only"
    return [f"`{target.runtime}`", _system(target), str(target.glibc), state, *ends]


def _symbols(runtimes: Iterable[Target]) -> str:
    rows = []
    for target in _one_a_system(runtimes):
        for one in _of_runtime(target):
            always, now = one.symbol_versions, one.symbol_versions_at("current")
            told = [f"`{name}_{version}`" for name, version in sorted(always.items())]
            new = [f"`{name}_{version}`" for name, version in sorted(now.items()) if always.get(name) != version]
            rows.append([_system(one), str(one.architecture), ", ".join(told), ", ".join(new) or "the same"])
    return table(["system", "architecture", "everywhere", "now"], rows)


def _libraries(runtimes: Iterable[Target]) -> str:
    parts = []
    for target in _one_a_system(runtimes):
        of_system = frozenset.intersection(*(one.provided for one in _of_system(target)))
        parts.append(_details(f"{_system(target)}: {len(of_system)}", _names(of_system)))
    return "".join(parts)


def _runtime(target: Target) -> str:
    both = _of_runtime(target)
    of_system = frozenset.intersection(*(one.provided for one in _of_system(target)))
    tags = [f"{len(one.tag_strings())} for {one.architecture}: {_names(one.tag_strings()[:3])} ..." for one in both]
    rows = [
        ["image", f"`{target.image}`"],
        ["Python", f"at least {target.python_full_version}"],
        ["tags", "; ".join(tags)],
    ]
    rows += [[f"libraries of its own, {one.architecture}", _names(one.provided - of_system)] for one in both]
    packages = ", ".join(f"{name} {version}" for name, version in target.preinstalled.items())
    return f"\n### {target.runtime}\n\n{table(['', ''], rows)}{_details('preinstalled', packages)}"


def _details(summary: str, text: str) -> str:
    return f"\n<details markdown='1'><summary>{summary}</summary>\n\n{text}\n\n</details>\n"


def _names(names: Iterable[str]) -> str:
    listed = names if isinstance(names, tuple) else sorted(names)
    return ", ".join(f"`{name}`" for name in listed)


def _system(target: Target) -> str:
    return {"al2018.03": "Amazon Linux 1", "al2": "Amazon Linux 2", "al2023": "Amazon Linux 2023"}[target.os]


def _of_runtime(target: Target) -> list[Target]:
    return [one for one in all_targets() if one.runtime == target.runtime]


def _of_system(target: Target) -> list[Target]:
    return [one for one in all_targets() if one.os == target.os]


def _one_a_system(runtimes: Iterable[Target]) -> list[Target]:
    return [next(group) for _, group in groupby(runtimes, key=lambda target: target.os)]


def _lifecycle(target: Target) -> dict[str, str | None]:
    found = target.to_dict()["lifecycle"]
    assert isinstance(found, dict)
    return {key: value if value is None else str(value) for key, value in found.items()}


def wanted() -> dict[Path, str]:
    """Give the page."""
    return {PAGE: document()}


if __name__ == "__main__":
    raise SystemExit(run(wanted))
