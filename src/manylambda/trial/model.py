"""What a trial is given and what it gives: plain values, which every part of the room speaks.

Nothing here runs anything. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.target import Target


class Proof(NamedTuple):
    """What a pass in an engine proves, and what it leaves open; both are shown with the result."""

    proved: str
    """One sentence: `every module loads with CPython 3.13 on aarch64`."""
    open: str
    """One sentence: `the C library is Debian's 2.41, newer than the runtime's: only the audit judges glibc`."""


OF_THE_IMAGE: Final = (
    "the image of the runtime has more libraries than the managed runtime: only the audit judges what it has not"
)
"""What the runtime's own image leaves open (`facts` F3.11)."""


class Limits(NamedTuple):
    """What a process may use before it is ended; a module that wants more is reported, and the trial goes on."""

    seconds: float = 60.0
    memory: int = 512 << 20
    processes: int = 256
    files: int = 1024
    """Open file descriptors, as Lambda allows."""


class Mounts(NamedTuple):
    """What the execution environment is made of, as folders of this host; all of it is read-only inside."""

    task: Path
    """The function: `/var/task`."""
    opt: Path | None
    """The layers, merged: `/opt`."""
    runtime: Path | None
    """What the runtime brings besides the standard library (awslambdaric, boto3), where the environment has none."""


class Places(NamedTuple):
    """Where things are inside the environment; absolute paths of the environment, or of this host without one."""

    task: str
    opt: str
    runtime: str | None
    scripts: str
    """The folder of `manylambda/trial/inside`."""
    temporary: str
    """The only place that can be written to: empty at the start of every process."""


PLACES: Final = Places(
    task="/var/task",
    opt="/opt",
    runtime="/var/runtime",
    scripts="/var/manylambda",
    temporary="/tmp",  # noqa: S108 - that of the environment
)
"""Where they are in an environment of its own, as on Lambda."""
USER: Final = ("993", "990")
"""Who a function runs as there, and its group: `sbx_user1051`, never root, and never the owner of its files."""
TEMPORARY_BYTES: Final = 512 << 20
"""What `/tmp` takes, as Lambda gives it to a function that asks for nothing else."""


class Completed(NamedTuple):
    """How a process in an environment ended."""

    status: int
    """Its exit status; of a process that a signal ended, minus the signal."""
    log: str
    """What it wrote to standard output and error outside our protocol: the last 64 KiB."""
    seconds: float
    timed_out: bool = False
    out_of_memory: bool = False
    peak_memory: int | None = None
    """Resident bytes, where the engine can tell."""


class Session(Protocol):
    """An environment ready to run one process after the other; each begins with an empty temporary folder."""

    @property
    def places(self) -> Places:
        """Where things are inside."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        job: bytes,
        environment: Mapping[str, str],
        limits: Limits,
        hear: Callable[[str], None],
    ) -> Completed:
        """Run the target's Python with `arguments`, give it `job` on standard input, and wait for its end.

        `hear` gets each line of its standard output as it comes (decoded, at most 1 MiB, without the newline); what it
        writes to standard error becomes the log. Nothing but `environment` reaches it from this host. When the limits
        are passed it is ended with all its children.
        """

    def close(self) -> None:
        """Remove what was made for it; may be called twice."""


class Engine(Protocol):
    """One way to have an execution environment."""

    @property
    def name(self) -> str:
        """`container`, `rootfs` or `interpreter`."""

    @property
    def label(self) -> str:
        """What exactly: `podman 4.3.1, public.ecr.aws/lambda/python:3.13-arm64@sha256:...`."""

    @property
    def proof(self) -> Proof:
        """What a pass here means."""

    @property
    def wants_runtime(self) -> bool:
        """Whether `Mounts.runtime` is needed: an image of Lambda has it all."""

    def runs_native(self) -> bool:
        """Whether native files of the target can be loaded here: false on a host of another system or machine."""

    def open(self, mounts: Mounts) -> Session:
        """Make an environment of the folders; raises `TrialError` with a hint when it cannot be made."""


class Outcome(Enum):
    """What became of one module."""

    OK = "ok"
    FAILED = "failed"
    """It raised."""
    CRASHED = "crashed"
    """A signal or an exit ended the interpreter."""
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    NOT_TRIED = "not-tried"
    """The engine cannot load it, such as an arm64 module without an emulator: never a pass."""


class Module(NamedTuple):
    """A module to import."""

    name: str
    """As `import` takes it."""
    distribution: str | None
    """None for the project's own."""
    is_native: bool
    """Whether it, or anything of its distribution, is compiled."""


class Failure(NamedTuple):
    """Why a module, or an invocation, did not work."""

    type: str
    """`ImportError`, `Runtime.HandlerNotFound`, `signal`."""
    message: str
    traceback: str
    """Empty for a crash; the log then tells more."""


class Imported(NamedTuple):
    """What became of a module."""

    module: Module
    outcome: Outcome
    seconds: float
    failure: Failure | None = None
    log: str = ""
    """What it wrote while it was imported, shortened."""
    alone: bool = False
    """Whether this is the result of a second try, in a process of its own."""


class Invocation(NamedTuple):
    """One event and what the handler made of it."""

    event: Any
    result: Any
    """What it returned, as JSON has it; None when it failed."""
    failure: Failure | None
    log: str
    seconds: float
    is_cold: bool
    """Whether the environment was started for it."""
    init_seconds: float | None
    """Of a cold one: from the start of the interpreter to the first request for an event."""
    peak_memory: int | None


class ImportTime(NamedTuple):
    """A module of the import-time tree: what it cost, and what it imported first."""

    name: str
    self_seconds: float
    """Without what it imported."""
    total_seconds: float
    children: tuple[ImportTime, ...]


class Trial(NamedTuple):
    """All that a trial found out."""

    target: Target
    engine: str
    label: str
    proof: Proof
    imports: tuple[Imported, ...]
    invocations: tuple[Invocation, ...] = ()
    profile: ImportTime | None = None

    @property
    def has_failed(self) -> bool:
        """Whether a module or an invocation did not work; what was not tried is no failure, and no pass."""
        bad = {Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY}
        return any(one.outcome in bad for one in self.imports) or any(one.failure for one in self.invocations)
