"""TOML files as they are read: a value of the wrong type is an error that carries the file and the path of keys.

It knows TOML and nothing of what the keys mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Table:
    """One table of a TOML document; it remembers where it stands, for the errors."""

    __slots__ = ("_values", "file", "path")

    def __init__(self, values: Mapping[str, object], file: Path, path: str = "") -> None:
        self._values = values
        self.file = file
        self.path = path

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def values(self) -> Mapping[str, object]:
        """The table as `tomllib` gives it, for hashing."""
        return self._values

    def get(self, key: str) -> object:
        """Return whatever is at `key`, None when nothing is."""
        return self._values.get(key)

    def table(self, *keys: str) -> Table:
        """Return the table at `keys`, one below the other; an empty one when there is none."""
        found = self
        for key in keys:
            value = found._values.get(key, {})
            if not isinstance(value, dict):
                found.fail(key, "a table")
            found = Table(value, self.file, found.below(key))
        return found

    def tables(self, key: str) -> tuple[Table, ...]:
        """Return the array of tables at `key`."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self.fail(key, "an array of tables")
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                self.fail(f"{key}[{position}]", "a table")
        return tuple(Table(item, self.file, self.below(f"{key}[{position}]")) for position, item in enumerate(value))

    def text(self, key: str) -> str | None:
        """Return the string at `key`, None when there is none."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, str):
            self.fail(key, "a string")
        return value

    def required(self, key: str) -> str:
        """Return the string at `key`, which must be there."""
        value = self.text(key)
        if value is None:
            raise RequestError(f"`{self.below(key)}` is missing in `{self.file.name}`")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the array of strings at `key`."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(key, "an array of strings")
        return tuple(value)

    def is_true(self, key: str, *, default: bool = False) -> bool:
        """Return the boolean at `key`."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, "a boolean")
        return value

    def below(self, key: str) -> str:
        """Return the path of keys to `key`."""
        return f"{self.path}.{key}" if self.path else key

    def fail(self, key: str, expected: str) -> NoReturn:
        """Raise the error for a value of the wrong type."""
        raise RequestError(f"`{self.below(key)}` in `{self.file.name}` must be {expected}")


def load(path: Path) -> Table:
    """Read a TOML file; RequestError when it is not there or not TOML."""
    import tomllib  # a warm build from a pylock.toml alone reads no TOML

    try:
        with path.open("rb") as stream:
            return Table(tomllib.load(stream), path)
    except FileNotFoundError as error:
        raise RequestError(f"`{path.name}` does not exist: {path}") from error
    except OSError as error:
        raise RequestError(f"`{path.name}` cannot be read: {error.strerror}: {path}") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"`{path.name}` is not valid TOML: {error}") from error


def is_piped(file: Path) -> bool:
    """Whether requirements come through a pipe, which gives them once: `-`, or what a shell makes of `<(uv export)`."""
    return str(file) == "-" or (file.exists() and not file.is_file() and not file.is_dir())
