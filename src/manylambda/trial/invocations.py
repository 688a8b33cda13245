"""Give events to the handler: the real runtime client in the environment, with a Runtime API beside it."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.errors import TrialError
from manylambda.progress import SILENT
from manylambda.trial.conversation import FLAGS, job, said
from manylambda.trial.model import Failure, Invocation
from manylambda.trial.runtime_client import client_label
from manylambda.trial.variables import FUNCTION_NAME, REGION, RUNTIME, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Completed, Limits, Session

EMULATOR: Final = "/usr/local/bin/aws-lambda-rie"
"""Where the base images have the Runtime Interface Emulator."""

ACCOUNT: Final = "123456789012"
"""The account of AWS's own examples."""

_SLACK: Final = 10.0
"""Seconds for what is neither init nor an event: starting the environment, and its end."""


class Invoked(NamedTuple):
    """What became of the events, and what ran them."""

    invocations: tuple[Invocation, ...]
    """One an event, in their order."""
    label: str
    """`awslambdaric 4.0.1, our Runtime API`."""


def invoke(
    session: Session,
    handler: str,
    events: Sequence[Any],
    *,
    target: Target,
    limits: Limits,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    cold_each: bool = False,
    emulator: str | None = EMULATOR,
    progress: Progress = SILENT,
) -> Invoked:
    """Give `events` (values of JSON) to `handler`, one after the other.

    The first is cold; the others are warm, but for those after a crash or a timeout, and all when `cold_each`. An event
    may take `timeout` seconds, an init `limits.seconds`: Lambda's 10 s are meant for its own machines. `environment` is
    that of the function, as `variables` gives it. `emulator` is where a Runtime Interface Emulator may be, which is
    used where it can run; None for ours always. Raises `TrialError` when the environment has no runtime client.
    """
    given = environment or variables(target, session.places, memory=limits.memory >> 20)
    room = _Room(target, {**given, "_HANDLER": handler}, limits, timeout, emulator)
    left = [json.dumps(event) for event in events]
    done: list[Invocation] = []
    label = ""
    task = progress.task("invoke", handler, len(left), unit="events")
    try:
        while left:
            batch = left[:1] if cold_each else left
            heard = _Heard(secrets.token_hex(16), task.advance)
            completed = session.run(
                [*FLAGS, f"{session.places.scripts}/runtime_api.py"],
                job=_job(heard, handler, batch, session=session, room=room),
                environment=room.environment,
                limits=limits._replace(seconds=limits.seconds + len(batch) * timeout + _SLACK),
                hear=heard.line,
            )
            if heard.unable is not None:
                raise TrialError(
                    f"the handler cannot be invoked: {heard.unable}",
                    hint="the modules can still be imported: leave out `--handler`",
                )
            results = heard.results[: len(batch)]
            if not results or (len(results) < len(batch) and not heard.is_over):
                # It was ended from outside, and the script with it: that was the work of the event it had begun.
                task.advance(1)
                seconds = completed.seconds - sum(one.seconds + (one.init_seconds or 0.0) for one in results)
                log = completed.log
                results.append(_Result(_failure(completed), log, max(0.0, seconds), None, completed.peak_memory))
            for number, result in enumerate(results):
                event = events[len(done)]
                done.append(_invocation(event, result, is_cold=number == 0))
            label = heard.label or label
            del left[: len(results)]
    finally:
        task.finish()
    return Invoked(tuple(done), label or "no runtime client answered")


class _Room(NamedTuple):
    """What is the same for every process."""

    target: Target
    environment: Mapping[str, str]
    limits: Limits
    timeout: float
    emulator: str | None


class _Result(NamedTuple):
    """A result as it was heard."""

    failure: Failure | None
    log: str
    seconds: float
    init_seconds: float | None
    peak_memory: int | None
    body: str = ""


class _Heard:
    """Puts together what the script says; whatever else is on its output is passed over."""

    def __init__(self, token: str, advance: Callable[[int], None]) -> None:
        self.token = token
        self.results: list[_Result] = []
        self.unable: str | None = None
        self.is_over = False
        self.label = ""
        self._advance = advance
        self._parts: dict[str, list[str]] = {}

    def line(self, line: str) -> None:
        fact = said(self.token, line)
        if fact is None:
            return
        if fact["kind"] == "part":
            self._parts.setdefault(fact["of"], []).append(fact["text"])
        elif fact["kind"] == "unable":
            self.unable = fact["reason"]
        elif fact["kind"] == "end":
            self.is_over = True
        elif fact["kind"] == "result":
            parts = {of: "".join(texts) for of, texts in self._parts.items()}
            self._parts = {}
            failure = (
                Failure(fact["type"], parts.get("message", ""), parts.get("trace", "")) if fact["failed"] else None
            )
            self.results.append(
                _Result(
                    failure,
                    parts.get("log", ""),
                    fact["seconds"],
                    fact["init_seconds"],
                    fact["peak_memory"],
                    parts.get("body", ""),
                )
            )
            # What the emulator started does not tell its name to us.
            client = client_label(fact["client"]) if fact["client"] else "the runtime client"
            if fact["client"] or not self.label:
                self.label = f"{client}, {fact['api']}"
            self._advance(1)


def _invocation(event: Any, result: _Result, *, is_cold: bool) -> Invocation:
    return Invocation(
        event=event,
        result=_value(result.body) if result.failure is None else None,
        failure=result.failure,
        log=result.log,
        seconds=result.seconds,
        is_cold=is_cold,
        init_seconds=result.init_seconds,
        peak_memory=result.peak_memory,
    )


def _value(body: str) -> Any:
    """Read a response; a handler that marshals itself may answer with what is no JSON, and it is text then."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _failure(completed: Completed) -> Failure:
    """Say what became of an event that nothing was heard of: its environment was ended from outside."""
    if completed.out_of_memory:
        return Failure("Runtime.ExitError", "Runtime exited with error: signal: killed", "")
    if completed.timed_out:
        return Failure("Sandbox.Timedout", f"Task timed out after {completed.seconds:.2f} seconds", "")
    how = f"signal {-completed.status}" if completed.status < 0 else f"exit status {completed.status}"
    return Failure("Runtime.ExitError", f"the environment ended before the runtime: {how}", "")


def _job(heard: _Heard, handler: str, events: Sequence[str], *, session: Session, room: _Room) -> bytes:
    function = room.environment.get("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME)
    return job(
        session,
        room.target,
        token=heard.token,
        kind="invoke",
        environment=room.environment,
        limits=room.limits,
        handler=handler,
        events=list(events),
        runtime=session.places.runtime or RUNTIME,
        timeout=room.timeout,
        init_timeout=room.limits.seconds,
        arn=f"arn:aws:lambda:{room.environment.get('AWS_REGION', REGION)}:{ACCOUNT}:function:{function}",
        emulator=room.emulator,
    )
