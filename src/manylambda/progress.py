"""How long work is told to whoever waits for it; imports nothing of ours.

The library never prints. It speaks to a `Progress`, which a front end implements: `manylambda.render` draws bars,
the default here does nothing. Implementations are called from several threads at once.
"""

from __future__ import annotations

from typing import Final, Protocol


class Task(Protocol):
    """One running piece of work, such as a download."""

    def advance(self, amount: int) -> None:
        """Say that `amount` more units (bytes or items) are done."""

    def finish(self) -> None:
        """Say that the work is over, done or not; may be called twice."""


class Progress(Protocol):
    """Receives what a person waiting wants to know."""

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a piece of work. `stage` is one word (`resolve`, `fetch`, `assemble`); `total` counts `unit`."""

    def info(self, message: str) -> None:
        """Tell one line a user should see, such as which lock was used."""

    def detail(self, message: str) -> None:
        """Tell one line only wanted under `-v`, such as a file left out."""

    def warning(self, message: str) -> None:
        """Tell one line that may matter to the user even in a pipe."""


class _Silent:
    """Hears everything and does nothing."""

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> _Silent:  # noqa: ARG002
        return self

    def info(self, message: str) -> None: ...

    def detail(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...


SILENT: Final[Progress] = _Silent()
