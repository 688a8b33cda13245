"""How a trial talks with the script inside: a job given, lines heard."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from manylambda.errors import TrialError
from manylambda.trial.variables import PROGRAM, search_path, site_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manylambda.target import Target
    from manylambda.trial.model import Completed, Limits, Session

_RESERVE: Final = 1 << 30
"""What an allocator may hold in reserve before memory that is never used counts."""
_MAX_LOG: Final = 8 << 10
# Without the host's own packages and the user's; what of them the runtime has is added by the script.
FLAGS: Final = ("-s", "-S")


def job(
    session: Session,
    target: Target,
    *,
    token: str,
    kind: str,
    environment: Mapping[str, str],
    limits: Limits,
    **more: object,
) -> bytes:
    """Write down what a script inside has to do: what every one is told, and `more`."""
    pythonpath = environment.get("PYTHONPATH")
    places = session.places
    told = {
        "token": token,
        "kind": kind,
        "places": places._asdict(),
        "path": search_path(target, places, pythonpath),
        "sites": site_folders(target, places, pythonpath),
        "program": PROGRAM,
        "limits": {"files": limits.files, "processes": limits.processes, "data": limits.memory + _RESERVE},
    }
    return json.dumps({**told, **more}).encode()


def said(token: str, line: str) -> Mapping[str, Any] | None:
    """Return what a line tells; None for one that is not the script's, for code on trial may write anything."""
    begin, _, text = line.partition(" ")
    if begin != token:
        return None
    try:
        fact = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return fact if isinstance(fact, dict) else None


class Conversation:
    """One run of the probe; hears what it tells and forgets what others write."""

    def __init__(
        self,
        session: Session,
        target: Target,
        *,
        kind: str,
        modules: Sequence[str],
        seconds: float,
        limits: Limits,
        environment: Mapping[str, str],
        native: bool = True,
    ) -> None:
        self.token: Final = secrets.token_hex(16)
        self.is_ready = False
        self._target = target
        self._hear: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.job: Final = job(
            session,
            target,
            token=self.token,
            kind=kind,
            environment=environment,
            limits=limits,
            modules=list(modules),
            seconds=seconds,
            native=native,
        )
        self._session = session
        self._limits = limits
        self._environment = environment
        self._python: list[int] | None = None

    def run(self, hear: Callable[[Mapping[str, Any]], None], *, flags: Sequence[str] = ()) -> Completed:
        """Run it to its end; `hear` gets each fact. Raises `TrialError` where the target's Python does not start."""
        self._hear = hear
        script = f"{self._session.places.scripts}/probe.py"
        completed = self._session.run(
            [*flags, *FLAGS, script],
            job=self.job,
            environment=self._environment,
            limits=self._limits,
            hear=self._line,
        )
        if self._python is None:
            last = self.plain(completed.log).strip().rpartition("\n")[2]
            raise TrialError(
                f"Python did not start: {'no answer in time' if completed.timed_out else f'status {completed.status}'}",
                hint=last[:500] or "it wrote nothing; try another `--engine`",
            )
        if tuple(self._python[:2]) != self._target.python:
            raise TrialError(
                "the environment has Python {}, `{}` runs {}.{}".format(
                    ".".join(map(str, self._python)), self._target, *self._target.python
                ),
                hint="give the root file system or image of the runtime, or another `--engine`",
            )
        return completed

    def plain(self, log: str) -> str:
        """Return a log without our marks."""
        return re.sub(rf"\n?{self.token} \d+\n", "", log)

    def parts(self, log: str, last: int) -> dict[int, str]:
        """Return what each module wrote, by its place, when `last` was the last to begin."""
        pieces = re.split(rf"\n?{self.token} (\d+)\n", log)
        parts = {int(index): text for index, text in zip(pieces[1::2], pieces[2::2], strict=True)}
        before = int(pieces[1]) - 1 if parts else last  # of a log that was cut, the beginning is of the one before
        return {index: shortened(text) for index, text in {before: pieces[0], **parts}.items()}

    def _line(self, line: str) -> None:
        fact = said(self.token, line)
        if fact is None:
            return
        if fact.get("event") == "up":
            self._python = [int(part) for part in fact["python"]]
        elif fact.get("event") == "ready":
            self.is_ready = True
        else:
            self._hear(fact)


def shortened(text: str, size: int = _MAX_LOG) -> str:
    """Return the end of a log that is too long, from the beginning of a line if it has one."""
    text = text.strip("\n")
    if len(text) <= size:
        return text
    end = text[-size:]
    return "[...]\n" + (end.partition("\n")[2] or end)
