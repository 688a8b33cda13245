"""Import profiles: what a module's import costs at a cold start, and how much of it bytecode would save."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.trial.conversation import Conversation
from manylambda.trial.model import ImportTime, Limits
from manylambda.trial.variables import variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from manylambda.target import Target
    from manylambda.trial.model import Session

# `import time:       178 |        178 |   encodings.aliases`; two blanks a level, after one
_LINE: Final = re.compile(r"import time:\s+(-?\d+) \|\s+(-?\d+) \| ( *)(\S+)$")


class Profile(NamedTuple):
    """What the import of one module cost, in a process that had imported what the runtime has."""

    tree: ImportTime
    """As the package is; the largest first."""
    seconds: float
    seconds_with_bytecode: float | None
    """The same with bytecode of everything beside it; None where that cannot be measured (Windows)."""

    @property
    def saved(self) -> float | None:
        """The seconds that bytecode in the package would save, not below 0."""
        return None if self.seconds_with_bytecode is None else max(0.0, self.seconds - self.seconds_with_bytecode)


def profile(
    session: Session,
    module: str,
    *,
    target: Target,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
) -> Profile:
    """Import `module` in fresh processes and time all that it imports; `limits.seconds` are for each.

    Raises `TrialError` when it cannot be imported, or the target's Python does not start.
    """
    limits = limits or Limits()
    conversation = Conversation(
        session,
        target,
        kind="profile",
        modules=[module],
        seconds=limits.seconds,
        limits=limits._replace(seconds=limits.seconds * 3 + 10),
        environment=variables(target, session.places) if environment is None else environment,
    )
    times: dict[str, list[str]] = {}
    ends: dict[str, Mapping[str, Any]] = {}

    def hear(fact: Mapping[str, Any]) -> None:
        match fact.get("event"):
            case "times":
                times.setdefault(str(fact["stage"]), []).append(str(fact["text"]))
            case "profiled" | "died":
                ends.setdefault(str(fact["stage"]), fact)
            case _:
                pass

    completed = conversation.run(hear, flags=("-X", "importtime"))
    for end in ends.values():
        if not end.get("ok"):
            raise TrialError(
                f"`{module}` cannot be profiled, its import fails: {_why(end)}",
                hint="run the trial without `--profile` for the whole story",
            )
    if "plain" not in ends:
        how = "it took too long" if completed.timed_out else f"the interpreter ended with status {completed.status}"
        raise TrialError(f"`{module}` cannot be profiled: {how}", hint="run the trial without `--profile` first")
    with_bytecode = ends.get("bytecode")
    return Profile(
        tree=import_time(module, "".join(times.get("plain", ())).splitlines()),
        seconds=float(ends["plain"]["seconds"]),
        seconds_with_bytecode=None if with_bytecode is None else float(with_bytecode["seconds"]),
    )


def import_time(module: str, lines: Iterable[str]) -> ImportTime:
    """Read what `python -X importtime` wrote while `module` was imported, into one tree; lines of others are skipped.

    A module is written after those it imported. What was imported beside `module`, such as its parent packages, is put
    below it.
    """
    waiting: dict[int, list[ImportTime]] = {}
    for line in lines:
        match = _LINE.search(line)
        if match is None:
            continue
        level = len(match[3]) // 2
        children = waiting.pop(level + 1, [])
        own, total = int(match[1]) / 1e6, int(match[2]) / 1e6
        waiting.setdefault(level, []).append(ImportTime(match[4], own, total, _largest_first(children)))
    roots = waiting.get(0, [])
    own_root = next((root for root in reversed(roots) if root.name == module), ImportTime(module, 0.0, 0.0, ()))
    beside = [root for root in roots if root is not own_root]
    return ImportTime(
        module,
        own_root.self_seconds,
        own_root.total_seconds + sum(root.total_seconds for root in beside),
        _largest_first([*own_root.children, *beside]),
    )


def _largest_first(times: Iterable[ImportTime]) -> tuple[ImportTime, ...]:
    return tuple(sorted(times, key=lambda time: (-time.total_seconds, time.name)))


def _why(end: Mapping[str, Any]) -> str:
    if end["event"] == "died":
        status = int(end["status"])
        return f"it was ended by signal {-status}" if status < 0 else f"it ended the interpreter, status {status}"
    return f"{end['type']}: {end['message']}".partition("\n")[0][:500]
