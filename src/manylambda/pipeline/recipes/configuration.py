"""`init` without a recipe: the settings that an existing project needs, from what its own files say."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import RequestError
from manylambda.pipeline.existing.decide import decide
from manylambda.pipeline.recipes.model import Recipe, replace_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from manylambda.pipeline.existing.decide import Decision
    from manylambda.pipeline.recipes.model import Request
    from manylambda.target import Target

FLAGS: Final = frozenset({"targets"})
"""What of the settings it takes from the command line."""
_PYPROJECT: Final = "pyproject.toml"
_OWN: Final = "manylambda.toml"


def init(project: Path, request: Request, targets: Sequence[Target] = ()) -> Recipe:
    """Write what was found into `[tool.manylambda]` of `pyproject.toml`, or else into `manylambda.toml`.

    What is set there stays, unless `request.force`; comments and order stay in any case. `targets` are what the user
    names. Raises RequestError for files that cannot be read.
    """
    project = project.absolute()
    if not project.is_dir():
        raise RequestError(f"the project is not a folder: `{project}`", hint="name the folder of the function's code")
    decisions = decide(project, targets)
    texts: dict[Path, str] = {}
    kept: list[str] = []
    for one in decisions.folders:
        path = _place(one.folder)
        texts[path] = _written(path, one, kept, force=request.force)
    changed = {path: text.encode() for path, text in texts.items()}
    replace_all({path: new for path, new in changed.items() if not path.exists() or path.read_bytes() != new})
    found = [
        {
            "key": each.key,
            "value": each.value,
            "file": str(each.file) if each.file else None,
            "line": each.line,
            "why": each.why,
        }
        for one in decisions.folders
        for each in one.found
    ]
    shown = [os.path.relpath(one.folder, project).replace(os.sep, "/") for one in decisions.folders]
    what = f"a project of {decisions.tool}" if decisions.tool else "a project that no tool describes"
    return Recipe(
        recipe="configuration",
        targets=tuple(dict.fromkeys(target for one in decisions.folders for target in one.targets)),
        files=tuple(texts),
        summary=f"{what}: {len(shown)} folder{'' if len(shown) == 1 else 's'} of code",
        steps=tuple(f"`manylambda build{'' if name == '.' else f' {name}'}`" for name in shown),
        facts={"found": found, "unsure": list(decisions.unsure), "kept": kept},
    )


def _place(folder: Path) -> Path:
    own = folder / _OWN
    return folder / _PYPROJECT if (folder / _PYPROJECT).is_file() and not own.exists() else own


def _values(one: Decision) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield ("targets",), [str(target) for target in one.targets]
    if one.handler is not None:
        yield ("handler",), one.handler
    if one.requirements is not None:
        yield ("requirements",), [one.requirements]
    if one.sources is not None:
        yield ("files", "sources"), [one.sources]


def _written(path: Path, one: Decision, kept: list[str], *, force: bool) -> str:
    """Give the file's text with the settings in it; what was there and says something else is named in `kept`."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = path.read_bytes().decode() if path.exists() else ""
        expected = tomllib.loads(text)
        document = tomlkit.parse(text)
    except (ValueError, RecursionError, TOMLKitError) as error:
        raise RequestError(f"`{path}` is not valid TOML: {error}") from error
    except OSError as error:
        raise RequestError(f"cannot read `{path}`: {error.strerror}") from error
    start = ("tool", "manylambda") if path.name == _PYPROJECT else ()
    for keys, value in _values(one):
        table: Any = document
        plain: Any = expected
        for key in (*start, *keys[:-1]):
            if key not in table:
                table[key] = tomlkit.table(is_super_table=key == "tool")
            table, plain = table[key], plain.setdefault(key, {})
            if not isinstance(plain, dict):
                raise RequestError(f"`{key}` in `{path}` is no table")
        last = keys[-1]
        if last in plain and plain[last] != value:
            if not force:
                kept.append(f"`{'.'.join(keys)}` in `{path.name}` stays as it is: `--force` replaces it")
                continue
        elif last in plain:
            continue
        table[last] = value
        plain[last] = value
    changed = tomlkit.dumps(document)
    if 0 < text.count("\n") == text.count("\r\n"):
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    if _read(changed) != expected:
        raise RequestError(
            f"`{path}` cannot be changed without harm", hint=f"add by hand: {_by_hand(dict(_values(one)))}"
        )
    return changed


def _read(text: str) -> object:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _by_hand(values: Mapping[tuple[str, ...], Any]) -> str:
    return ", ".join(f"`{'.'.join(keys)} = {value!r}`" for keys, value in values.items())
