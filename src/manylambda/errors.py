"""The errors a user can meet, each with its exit status; imports nothing of ours.

    ManylambdaError              70  our bug, when nothing more exact was raised
    +-- RequestError              2  the request is wrong
    +-- ResolutionError           3  no set of files satisfies the request
    |   +-- NoCompatibleWheel     3
    |   +-- LockOutdated          3
    +-- FetchError                4  something could not be downloaded
    |   +-- HashMismatch          4
    |   +-- NotCached             4
    +-- PackagingError            5  the package cannot be made
    |   +-- UnsafeArchive         5
    |   +-- PackageTooLarge       5
    +-- TrialError                6  the package did not load or run

A finding of the audit is not an error: it is data in a report.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class ManylambdaError(Exception):
    """What went wrong in one line, and what to do about it in another.

    The message is lower case without a full stop, literals in backticks, the value last after a colon.
    """

    code: ClassVar[str] = "internal-error"
    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RequestError(ManylambdaError):
    """The command line, the settings or an input file is wrong."""

    code = "request-wrong"
    exit_status = 2


class Blocker(NamedTuple):
    """A distribution that keeps a target from having a package."""

    name: str
    """Normalised."""
    asked: str
    """The versions that were looked at, as a specifier: `==2.20.1`, `>=3`; empty for all there are."""
    fact: str
    """Continues the name: `has no wheel for CPython 3.14`."""
    runs: str | None = None
    """The newest version that runs on the target; None where no version does, or the index was not asked."""
    needed_by: tuple[str, ...] = ()
    """Who asks for these versions, where that is not the project: `pydantic 2.8.2`."""
    has_source: bool = False
    """Whether there is a source distribution that could be built instead."""


class ResolutionError(ManylambdaError):
    """No set of distributions satisfies the requirements for the target."""

    code = "no-resolution"
    exit_status = 3

    def __init__(self, message: str, *, hint: str | None = None, blockers: tuple[Blocker, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.blockers = blockers


class SourceFile(NamedTuple):
    """A source distribution that could be built where there is no wheel."""

    name: str
    """Of the distribution, normalised."""
    filename: str
    url: str
    sha256: str | None
    size: int | None


class NoCompatibleWheel(ResolutionError):
    """A distribution has no wheel that the target can load."""

    code = "no-compatible-wheel"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        source: SourceFile | None = None,
        blockers: tuple[Blocker, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, blockers=blockers)
        self.source = source


class LockOutdated(ResolutionError):
    """A lock does not match the project it belongs to."""

    code = "lock-outdated"


class FetchError(ManylambdaError):
    """A file could not be downloaded."""

    code = "fetch-failed"
    exit_status = 4


class HashMismatch(FetchError):
    """A file is not the one the lock names."""

    code = "hash-mismatch"


class NotCached(FetchError):
    """A file is needed, is not in the cache, and `--offline` forbids fetching it."""

    code = "not-cached"


class PackagingError(ManylambdaError):
    """The package cannot be made from these inputs."""

    code = "cannot-package"
    exit_status = 5


class UnsafeArchive(PackagingError):
    """A wheel or zip is malformed or hostile; nothing of it is used."""

    code = "archive-unsafe"


class PackageTooLarge(PackagingError):
    """The package is over a limit that Lambda enforces."""

    code = "package-too-large"


class TrialError(ManylambdaError):
    """The package could not be imported or invoked."""

    code = "trial-failed"
    exit_status = 6
