"""Variables of the Serverless Framework, `${...}`, as far as the service's own files say what they give.

Its reference decides (version 3, "Variables"): a list of sources apart by commas, the first that there is. What the
command line or the environment may say (`opt`, `env`, `param`) is taken to be absent, and told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.templates.document import read_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_INNERMOST: Final = re.compile(r"\$\{([^${}]*)\}")
_SOURCE: Final = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([^,]*))\s*(?:,|$)")
_FILE: Final = re.compile(r"file\(([^)]*)\)(?::(.*))?")
_STEPS: Final = 64
"""Variables that name each other in a circle."""
_LONGEST: Final = 4096


class Given(NamedTuple):
    """What a value is; None for what only Serverless knows."""

    value: object
    is_assumed: bool = False
    """Whether the command line or the environment may say something else."""


class Variables:
    """The values of a service."""

    def __init__(self, document: Mapping[str, Any], folder: Path) -> None:
        """Take the whole file, and the folder that files are named from."""
        self._document = document
        self._folder = folder
        self._files: dict[str, object] = {}

    def given(self, value: object) -> Given:
        """Follow the variables in a value, the innermost first."""
        is_assumed = False
        for _ in range(_STEPS):
            match = _INNERMOST.search(value) if isinstance(value, str) else None
            if match is None:
                return Given(value if not isinstance(value, str) or "${" not in value else None, is_assumed)
            assert isinstance(value, str)
            found, assumed = self._first(match[1])
            is_assumed = is_assumed or assumed
            if match.span() == (0, len(value)):
                value = found
            elif isinstance(found, str | int) and len(value) < _LONGEST:
                value = f"{value[: match.start()]}{found}{value[match.end() :]}"
            else:
                return Given(None)
        return Given(None)

    def _first(self, text: str) -> Given:
        """Return what the first source gives that gives something."""
        is_assumed = False
        for source in _sources(text):
            if isinstance(source, Given):
                return Given(source.value, is_assumed)
            if source.startswith(("opt:", "env:", "param:")):
                is_assumed = True
                continue
            found = self._of(source)
            if found is not None:
                return Given(found, is_assumed)
        return Given(None)

    def _of(self, source: str) -> object:
        kind, _, address = source.partition(":")
        if kind == "self":
            return _at(self._document, address)
        if source == "sls:stage":
            named = _at(self._document, "provider.stage")
            return "dev" if named is None else named
        file = _FILE.fullmatch(source)
        if file is None or not file[1].strip().endswith((".yml", ".yaml", ".json")):
            return None
        document = self._read(file[1].strip())
        return _at(document, file[2]) if file[2] else document

    def _read(self, name: str) -> object:
        """Return what a file holds; None for one that is not there, or says nothing."""
        if name not in self._files:
            try:
                self._files[name] = read_mapping(self._folder / name)
            except RequestError:
                self._files[name] = None
        return self._files[name]


def _sources(text: str) -> Iterator[str | Given]:
    """Yield the sources of a variable; a text in quotes is a value."""
    position = 0
    while position < len(text):
        match = _SOURCE.match(text, position)
        if match is None or match.end() == position:
            return
        position = match.end()
        quoted = match[1] if match[1] is not None else match[2]
        yield Given(quoted) if quoted is not None else match[3].strip()


def _at(value: object, address: str) -> object:
    for key in address.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
