"""How the imports of many modules are driven, and what the runtime's variables and search path are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.errors import TrialError
from manylambda.target import Target
from manylambda.trial.imports import try_imports
from manylambda.trial.inside.probe import STDLIB
from manylambda.trial.model import Completed, Imported, Limits, Module, Outcome, Places
from manylambda.trial.variables import search_path, site_folders, variables
from trial.local import LocalSession, target_of
from trial.test_probe import HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LAMBDA = Places("/var/task", "/opt", None, "/var/manylambda", "/tmp")
TARGET = Target.parse("python3.13-arm64")


def module(name: str, *, is_native: bool = False) -> Module:
    return Module(name, None, is_native=is_native)


class Scripted:
    """A session whose processes say and do what is written here; `TOKEN` stands for the token of the job."""

    places = LAMBDA

    def __init__(self, *runs: tuple[Sequence[dict[str, Any] | str], Completed]) -> None:
        self.left = list(runs)
        self.asked: list[list[str]] = []

    def run(
        self,
        arguments: Sequence[str],
        *,
        job: bytes,
        environment: Mapping[str, str],
        limits: Limits,
        hear: Callable[[str], None],
    ) -> Completed:
        asked = json.loads(job)
        self.asked.append(asked["modules"])
        lines, completed = self.left.pop(0)
        for line in ({"event": "up", "python": [3, 13, 5]}, {"event": "ready"}, *lines):
            hear(line if isinstance(line, str) else f"{asked['token']} {json.dumps(line)}")
        return completed._replace(log=completed.log.replace("TOKEN", asked["token"]))

    def close(self) -> None: ...


def begin(index: int) -> dict[str, Any]:
    return {"event": "begin", "index": index}


def end(index: int, **failure: Any) -> dict[str, Any]:
    return {"event": "end", "index": index, "ok": not failure, "seconds": 0.25, **failure}


def imports(session: Scripted, *names: str, **options: Any) -> list[Imported]:
    return list(try_imports(session, [module(name) for name in names], target=TARGET, **options))


DONE = Completed(0, "", 1.0)
FAILED = {"type": "ValueError", "message": "no", "traceback": "Traceback"}


def test_all_are_imported_in_one_process() -> None:
    session = Scripted(([begin(0), end(0), begin(1), end(1), {"event": "done"}], DONE))
    assert imports(session, "a", "b") == [
        Imported(module("a"), Outcome.OK, 0.25),
        Imported(module("b"), Outcome.OK, 0.25),
    ]
    assert session.asked == [["a", "b"]]


def test_after_a_crash_the_rest_goes_on_and_the_crashed_is_tried_alone() -> None:
    session = Scripted(
        ([begin(0), end(0), begin(1)], Completed(-11, "\nTOKEN 0\nfine\nTOKEN 1\nFatal Python error", 1.0)),
        ([begin(0), end(0)], DONE),
        ([begin(0)], Completed(139, "\nTOKEN 0\nagain", 1.0)),
    )
    a, b, c = imports(session, "a", "b", "c")
    assert session.asked == [["a", "b", "c"], ["c"], ["b"]]
    assert (a.outcome, a.log, c.outcome) == (Outcome.OK, "fine", Outcome.OK)
    assert (b.outcome, b.log, b.alone) == (Outcome.CRASHED, "again", True)


def test_what_failed_first_in_its_process_was_alone() -> None:
    session = Scripted(([begin(0), end(0, **FAILED), begin(1), end(1)], DONE))
    failed, fine = imports(session, "a", "b")
    assert (failed.outcome, failed.alone, fine.alone) == (Outcome.FAILED, True, False)
    assert session.asked == [["a", "b"]]


@pytest.mark.parametrize(
    ("completed", "outcome", "message"),
    [
        (Completed(-9, "", 1.0), Outcome.OUT_OF_MEMORY, "SIGKILL: killed, as a system does when memory is used up"),
        (Completed(137, "", 1.0), Outcome.OUT_OF_MEMORY, "SIGKILL: killed, as a system does when memory is used up"),
        (Completed(1, "", 1.0, out_of_memory=True), Outcome.OUT_OF_MEMORY, "it used up the memory of the function"),
        (
            Completed(-6, "terminate called after throwing an instance of 'std::bad_alloc'", 1.0),
            Outcome.OUT_OF_MEMORY,
            "SIGABRT: aborted: native code gave up",
        ),
        (Completed(-6, "", 1.0), Outcome.CRASHED, "SIGABRT: aborted: native code gave up"),
        (
            Completed(132, "", 1.0),
            Outcome.CRASHED,
            "SIGILL: illegal instruction: native code uses what this processor does not have",
        ),
        (Completed(200, "", 1.0), Outcome.CRASHED, "it ended the interpreter with status 200"),
        (
            Completed(-9, "what it said\nmanylambda: ended, because it had more than 256 processes\n", 1.0),
            Outcome.CRASHED,
            "it started more processes than a function may have",
        ),
        (
            Completed(1, "Timeout (0:01:00)!\nThread 0x01 (most recent call first):\n", 1.0),
            Outcome.TIMED_OUT,
            "it was not imported within 60 s",
        ),
        (Completed(86, "", 1.0), Outcome.CRASHED, "it closed the file descriptors of the interpreter"),
    ],
)
def test_how_a_process_ended_is_told(completed: Completed, outcome: Outcome, message: str) -> None:
    (one,) = imports(Scripted(([begin(0)], completed)), "a")
    assert one.failure is not None
    assert (one.outcome, one.failure.message) == (outcome, message)


def test_what_does_not_fit_is_not_heard() -> None:
    lines = [
        "no token at all",
        "0123 {}",
        end(0),  # before its beginning
        begin(1),  # out of turn
        begin(0),
        {"event": "end", "index": 7, "ok": True},
        ["a list"],
        {"event": "unheard of"},
        end(0),
        end(0, **FAILED),  # a second end
    ]
    (one,) = imports(Scripted((lines, DONE)), "a")  # type: ignore[arg-type]
    assert one.outcome is Outcome.OK


def test_a_process_that_does_nothing_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(TrialError, match="Python ended before the first import: status 0"):
        imports(Scripted(([], DONE)), "a")


def test_what_comes_after_the_budget_is_not_tried() -> None:
    one, two = imports(Scripted(), "a", "b", budget=0.0)
    assert (one.outcome, two.outcome) == (Outcome.NOT_TRIED, Outcome.NOT_TRIED)
    assert one.failure is not None
    assert one.failure.message == "the time for all imports was used up before"


def test_what_the_engine_cannot_load_is_not_tried() -> None:
    result = try_imports(Scripted(), [module("fast", is_native=True)], target=TARGET, runs_native=False)
    assert result[0].outcome is Outcome.NOT_TRIED
    assert result[0].failure is not None
    assert result[0].failure.message == "its native files are for aarch64, and cannot be loaded here"


def test_the_beginning_of_a_log_that_was_cut_belongs_to_the_module_before() -> None:
    session = Scripted(([begin(0), end(0), begin(1), end(1)], Completed(0, "rest of a\nTOKEN 1\nall of b", 1.0)))
    assert [one.log for one in imports(session, "a", "b")] == ["rest of a", "all of b"]


@pytest.mark.parametrize(
    ("log", "shown"),
    [("a\n" * 8192, "[...]\n" + "a\n" * 4095 + "a"), ("x" * 9000, "[...]\n" + "x" * 8192)],
)
def test_of_a_long_log_the_end_is_shown(log: str, shown: str) -> None:
    session = Scripted(([begin(0), end(0)], Completed(0, log, 1.0)))
    assert [one.log for one in imports(session, "a")] == [shown]


def test_a_module_named_twice_is_imported_once() -> None:
    session = Scripted(([begin(0), end(0)], DONE))
    assert len(imports(session, "a", "a")) == 2
    assert session.asked == [["a"]]


def test_many_crashes_cost_one_process_each(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.py").write_text("import os; os._exit(1)")
    session = LocalSession(tmp_path)
    try:
        found = try_imports(session, [module(name) for name in "abcd"], target=target_of(HERE))
    finally:
        session.close()
    assert {one.outcome for one in found} == {Outcome.CRASHED}
    assert session.runs == 4


def test_the_search_path_is_the_runtimes() -> None:
    assert search_path(TARGET, LAMBDA) == (
        "/var/task",
        "/opt/python/lib/python3.13/site-packages",
        "/opt/python",
        "/var/lang/lib/python3.13/site-packages",
        "/var/runtime",
        STDLIB,
        "/var/lang/lib/python3.13/site-packages",
        "/opt/python/lib/python3.13/site-packages",
        "/opt/python",
    )
    old = search_path(Target.parse("python3.9-x86_64"), LAMBDA)
    assert old[:5] == ("/var/task", "/opt/python/lib/python3.9/site-packages", "/opt/python", "/var/runtime", STDLIB)


def test_with_places_of_its_own_the_search_path_leads_there() -> None:
    places = Places("/t", "/o", "/r", "/s", "/w")
    assert search_path(TARGET, places) == (
        "/t",
        "/o/python/lib/python3.13/site-packages",
        "/o/python",
        "/r",
        STDLIB,
        "/o/python/lib/python3.13/site-packages",
        "/o/python",
    )
    assert site_folders(TARGET, places) == ("/t", "/o/python/lib/python3.13/site-packages", "/o/python")


def test_a_pythonpath_of_the_function_keeps_layers_out() -> None:
    path = search_path(TARGET, LAMBDA, "/var/task/lib:/opt/mine")
    assert path == (
        "/var/task",
        "/var/lang/lib/python3.13/site-packages",
        "/var/task/lib",
        "/opt/mine",
        STDLIB,
        "/var/lang/lib/python3.13/site-packages",
    )
    assert site_folders(TARGET, LAMBDA, "/var/task/lib") == ("/var/task",)


def test_the_variables_are_the_runtimes() -> None:
    given = variables(TARGET, LAMBDA, handler="app.handler", memory=1024)
    facts = {name: given[name] for name in (*TARGET.environment, "_HANDLER", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")}
    assert facts == {
        **TARGET.environment,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "_HANDLER": "app.handler",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    }
    assert "HOME" not in given
    image = variables(TARGET, LAMBDA, is_image=True)
    assert image["TZ"] == ":/etc/localtime"
    assert "AWS_EXECUTION_ENV" not in image
    assert "_HANDLER" not in image


def test_the_functions_own_variables_count_but_for_the_reserved() -> None:
    own = {"STAGE": "test", "TZ": "Europe/Oslo", "AWS_REGION": "eu-north-1", "LAMBDA_TASK_ROOT": "/elsewhere"}
    given = variables(TARGET, LAMBDA, own=own)
    assert (given["STAGE"], given["TZ"]) == ("test", "Europe/Oslo")
    assert (given["AWS_REGION"], given["LAMBDA_TASK_ROOT"]) == ("us-east-1", "/var/task")


def test_without_an_environment_of_its_own_no_variable_leads_to_the_users_home() -> None:
    given = variables(TARGET, Places("/t", "/o", "/r", "/s", "/w"))
    assert (given["HOME"], given["TMPDIR"]) == ("/w", "/w")
    assert given["LAMBDA_TASK_ROOT"] == "/t"
    assert given["LAMBDA_RUNTIME_DIR"] == "/r"
    assert given["LD_LIBRARY_PATH"] == "/var/lang/lib:/lib64:/usr/lib64:/r:/r/lib:/t:/t/lib:/o/lib"
    assert given["PATH"] == "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/o/bin"
