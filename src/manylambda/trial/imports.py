"""Imports: every module of a package imported in an execution environment, and what became of each."""

from __future__ import annotations

import re
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.progress import SILENT
from manylambda.trial.conversation import Conversation, shortened
from manylambda.trial.engines.output import had_too_many
from manylambda.trial.inside.probe import MUTE
from manylambda.trial.model import Failure, Imported, Limits, Outcome
from manylambda.trial.variables import variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Completed, Module, Session

BUDGET: Final = 600.0
"""Seconds for all imports together."""

_GRACE: Final = 10.0
"""What the interpreter may take to start and end, emulated."""

NOT_TRIED: Final = "not tried"
"""The `type` of a failure that is none: why a module was not tried."""

_NO_MEMORY: Final = re.compile(
    r"bad_alloc|memory allocation of \d+ bytes failed|[Cc]annot allocate memory|[Oo]ut of memory"
)
_WATCH: Final = re.compile(r"^Timeout \(\d+:\d\d:\d\d[.\d]*\)!$", re.MULTILINE)
_SIGNALS: Final = {
    "SIGSEGV": "segmentation fault: native code read or wrote where nothing is",
    "SIGILL": "illegal instruction: native code uses what this processor does not have",
    "SIGABRT": "aborted: native code gave up",
    "SIGBUS": "bus error: a file that was mapped ends early",
    "SIGFPE": "arithmetic error in native code",
    "SIGSYS": "a system call that is forbidden here",
    "SIGKILL": "killed, as a system does when memory is used up",
}


class _Try(NamedTuple):
    """What became of a module in one process, and whether others were imported there before."""

    imported: Imported
    is_first: bool


class _Process:
    """One process that imports modules in their order, until it ends or is ended."""

    def __init__(self, modules: Sequence[Module], seconds: float) -> None:
        self.modules = modules
        self.seconds = seconds
        self.ends: dict[int, Mapping[str, Any]] = {}
        self.begun: int | None = None
        self.begun_at = 0.0

    def hear(self, fact: Mapping[str, Any]) -> None:
        """Take one fact; what does not fit what came before is not ours."""
        event, index = fact.get("event"), fact.get("index")
        if event == "begin" and index == len(self.ends) < len(self.modules):
            self.begun, self.begun_at = index, monotonic()
        elif event == "end" and index is not None and index == self.begun:
            self.ends[index] = fact
            self.begun = None

    def tries(self, completed: Completed, conversation: Conversation, ended_at: float) -> list[_Try]:
        """Return what is known of the modules that were begun; the rest must go on elsewhere."""
        logs = conversation.parts(completed.log, len(self.ends) - (self.begun is None))
        found = []
        for index, fact in self.ends.items():
            outcome, failure = _outcome(fact)
            seconds = float(fact["seconds"])
            found.append(_Try(Imported(self.modules[index], outcome, seconds, failure, logs.get(index, "")), not index))
        if self.begun is not None:
            seconds = max(0.0, ended_at - self.begun_at)
            log = logs.get(self.begun, "")
            outcome, failure = self._death(completed, log, seconds)
            module = self.modules[self.begun]
            found.append(_Try(Imported(module, outcome, seconds, failure, log), not self.begun))
        return found

    def _death(self, completed: Completed, log: str, seconds: float) -> tuple[Outcome, Failure]:
        if completed.out_of_memory:
            return Outcome.OUT_OF_MEMORY, Failure("memory", "it used up the memory of the function", "")
        if had_too_many(log):
            return Outcome.CRASHED, Failure("processes", "it started more processes than a function may have", "")
        is_late = seconds >= self.seconds * 0.9
        is_watched = completed.status == 1 and (is_late or _WATCH.search(log))  # the watch inside ends with 1
        if is_watched or (completed.timed_out and is_late):
            return Outcome.TIMED_OUT, Failure("timeout", f"it was not imported within {self.seconds:g} s", "")
        if completed.timed_out:
            return Outcome.NOT_TRIED, _budget()
        return _ended(completed.status, log)


def try_imports(
    session: Session,
    modules: Sequence[Module],
    *,
    target: Target,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    runs_native: bool = True,
    budget: float = BUDGET,
    progress: Progress = SILENT,
) -> tuple[Imported, ...]:
    """Import `modules`, all in one process for speed, and what failed there again alone; results in their order.

    `limits.seconds` are for one module, `budget` for all. A module that ends its process is reported, and the rest goes
    on in another. What succeeds alone is `OK`, and its `failure` tells what happened after the others. What cannot be
    loaded here (`runs_native`), or comes after the budget, is `NOT_TRIED`, and its `failure` tells why.
    Raises `TrialError` where the target's Python does not start.
    """
    limits = limits or Limits()
    environment = variables(target, session.places) if environment is None else environment
    deadline = monotonic() + budget
    results: dict[Module, _Try] = {}
    tryable = []
    for module in dict.fromkeys(modules):
        if module.is_native and not runs_native:
            why = Failure(NOT_TRIED, f"its native files are for {target.machine}, and cannot be loaded here", "")
            results[module] = _Try(Imported(module, Outcome.NOT_TRIED, 0.0, why), is_first=True)
        else:
            tryable.append(module)
    task = progress.task("trial", f"import {len(tryable)} modules", len(tryable), unit="modules")

    def run(group: Sequence[Module]) -> list[_Try]:
        left = deadline - monotonic()
        if left <= 0:
            return [_Try(Imported(one, Outcome.NOT_TRIED, 0.0, _budget()), is_first=True) for one in group]
        whole = limits._replace(seconds=min(left, _GRACE + limits.seconds * len(group)))
        conversation = Conversation(
            session,
            target,
            kind="imports",
            modules=[module.name for module in group],
            seconds=limits.seconds,
            limits=whole,
            environment=environment,
            native=runs_native,
        )
        process = _Process(group, limits.seconds)

        def hear(fact: Mapping[str, Any]) -> None:
            known = len(process.ends)
            process.hear(fact)
            task.advance(len(process.ends) - known)

        completed = conversation.run(hear)
        tries = process.tries(completed, conversation, monotonic())
        if tries:
            return tries
        if completed.timed_out and deadline - monotonic() <= 0:
            return [_Try(Imported(one, Outcome.NOT_TRIED, 0.0, _budget()), is_first=True) for one in group]
        log = shortened(conversation.plain(completed.log))
        if conversation.is_ready:
            raise TrialError(
                f"Python ended before the first import: status {completed.status}", hint=log.rpartition("\n")[2] or None
            )
        # Only `.pth` files ran until then, and they would run before whatever the function imports.
        outcome, failure = _ended(completed.status, log)
        failure = failure._replace(message=f"a `.pth` file of the package ended the interpreter: {failure.message}")
        return [_Try(Imported(one, outcome, 0.0, failure, log), is_first=True) for one in group]

    try:
        queue = tryable
        while queue:
            tries = run(queue)
            results |= {one.imported.module: one for one in tries}
            queue = queue[len(tries) :]
        for module in tryable:
            together, is_first = results[module]
            if together.outcome in {Outcome.OK, Outcome.NOT_TRIED}:
                continue
            if not is_first:
                (alone, _), *_ = run([module])
                together = together if alone.outcome is Outcome.NOT_TRIED else _both(together, alone)
                results[module] = _Try(together, is_first=False)
            else:
                results[module] = _Try(together._replace(alone=True), is_first=True)
    finally:
        task.finish()
    return tuple(results[module].imported for module in modules)


def _both(together: Imported, alone: Imported) -> Imported:
    if alone.outcome is not Outcome.OK or together.failure is None:
        return alone._replace(alone=True)
    only = f"only after other modules were imported: {together.failure.message}"
    return alone._replace(alone=True, failure=together.failure._replace(message=only), log=together.log)


def _outcome(fact: Mapping[str, Any]) -> tuple[Outcome, Failure | None]:
    if fact["ok"]:
        return Outcome.OK, None
    failure = Failure(str(fact["type"]), str(fact["message"]), str(fact["traceback"]))
    if refused := fact.get("refused"):
        why = f"it needs `{refused[0]}`, whose native file is for another machine and cannot be loaded here"
        return Outcome.NOT_TRIED, Failure(NOT_TRIED, why, failure.traceback)
    if fact.get("memory"):
        return Outcome.OUT_OF_MEMORY, failure
    return Outcome.FAILED, failure


def _ended(status: int, log: str) -> tuple[Outcome, Failure]:
    # An engine may run a shell's or a container's way of saying it: 128 and the signal.
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name if number > 0 else ""
    except ValueError:
        name = ""
    if not name:
        if status == MUTE:
            return Outcome.CRASHED, Failure("exit", "it closed the file descriptors of the interpreter", "")
        return Outcome.CRASHED, Failure("exit", f"it ended the interpreter with status {status}", "")
    message = f"{name}: {_SIGNALS[name]}" if name in _SIGNALS else f"it was ended by {name}"
    failure = Failure("signal", message, "")
    is_memory = name == "SIGKILL" or (name == "SIGABRT" and _NO_MEMORY.search(log))
    return (Outcome.OUT_OF_MEMORY if is_memory else Outcome.CRASHED), failure


def _budget() -> Failure:
    return Failure(NOT_TRIED, "the time for all imports was used up before", "")
