"""Handlers answer events through the real runtime client, with our Runtime API and with Amazon's emulator."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from manylambda.errors import FetchError, NoCompatibleWheel, TrialError
from manylambda.fetch.cache import Cache
from manylambda.target import Target, all_targets
from manylambda.trial.engines import rootfs
from manylambda.trial.invocations import EMULATOR, invoke
from manylambda.trial.model import Completed, Failure, Limits, Mounts
from manylambda.trial.runtime_client import client_label, requirements, runtime_folder
from trial import hosts
from trial.local import PYTHONS, LocalSession, target_of
from trial.runtime import emulator, folder_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from manylambda.trial.invocations import Invoked
    from manylambda.trial.model import Session

QEMU: Final = "qemu-x86_64-static" if hosts.FOREIGN == "amd64" else "qemu-aarch64-static"
HERE = [(version, program) for version, program in PYTHONS if version in {"3.11", "3.13"}]
needs_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="awslambdaric has wheels for Linux only"
)

CODE = """
import asyncio, json, os, sys, tempfile, time

calls = 0

def ok(event, context):
    global calls
    calls += 1
    print("call", calls)
    return {"event": event, "calls": calls, "left": context.get_remaining_time_in_millis() > 0}

def raises(event, context):
    raise ValueError("not " + event)

def odd(event, context):
    return {1, 2}

async def coroutine(event, context):
    return 1

def awaits(event, context):
    async def inner():
        return event + 1
    return asyncio.run(inner())

def talks(event, context):
    for number in range(30000):
        print("line", number)
    print("error", file=sys.stderr)

def does(event, context):
    if event == "sleep":
        time.sleep(600)
    if event == "exit":
        print("last words")
        os._exit(3)
    if event == "sys.exit":
        sys.exit("bye")
    return ok(event, context)

def crashes(event, context):
    import ctypes
    ctypes.string_at(0)

def large(event, context):
    return "x" * event

def writes(event, context):
    path = os.path.join(tempfile.gettempdir(), "kept")
    was_there = os.path.exists(path)
    open(path, "w").close()
    if event == "exit":
        os._exit(1)
    return was_there

def sees(event, context):
    names = ("LAMBDA_TASK_ROOT", "_HANDLER", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_RUNTIME_API")
    return {
        "variables": {name: os.environ.get(name) for name in names},
        "cwd": os.getcwd(),
        "path": sys.path,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "memory": context.memory_limit_in_mb,
        "trace": os.environ["_X_AMZN_TRACE_ID"][:7],
    }

def cloud(event, context):
    import boto3
    client = boto3.client("s3", region_name="eu-west-1")
    return [boto3.__version__, client.meta.endpoint_url]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "app.py").write_text(CODE)
    (folder / "broken.py").write_text("def handler(:\n")
    (folder / "unhappy.py").write_text("import nothing_of_that_name\n")
    (folder / "angry.py").write_text("raise RuntimeError('at import')\n")
    (folder / "gone.py").write_text("import os\nos._exit(9)\n")
    return folder


class Function:
    """A handler's module on a Python of this host."""

    def __init__(self, task: Path, version: str, program: str, runtime: Path | None) -> None:
        self.target = target_of(version)
        self.session = LocalSession(task, program=program)
        self.session.places = self.session.places._replace(runtime=str(runtime) if runtime else None)

    def __call__(self, handler: str, *events: Any, **settings: Any) -> Invoked:
        given = {"limits": Limits(seconds=60), "timeout": 30.0, **settings}
        return invoke(self.session, handler, events, target=self.target, **given)


@pytest.fixture(params=HERE, ids=[version for version, _ in HERE])
def function(request: pytest.FixtureRequest, task: Path, shared_cache: Path) -> Function:
    version, program = request.param
    return Function(task, version, program, folder_for(target_of(version), shared_cache))


@pytest.fixture
def newest(task: Path, shared_cache: Path) -> Function:
    version, program = HERE[-1]
    return Function(task, version, program, folder_for(target_of(version), shared_cache))


def failures(invoked: Invoked) -> list[tuple[str, str] | None]:
    return [one.failure and (one.failure.type, one.failure.message) for one in invoked.invocations]


@pytest.mark.network
@needs_linux
def test_events_are_answered_in_turn_by_one_environment(function: Function) -> None:
    invoked = function("app.ok", 1, {"k": [None, "ä\U0001f600"]}, None)
    assert [one.result for one in invoked.invocations] == [
        {"event": 1, "calls": 1, "left": True},
        {"event": {"k": [None, "ä\U0001f600"]}, "calls": 2, "left": True},
        {"event": None, "calls": 3, "left": True},
    ]
    assert [one.log for one in invoked.invocations] == ["call 1\n", "call 2\n", "call 3\n"]
    assert [one.is_cold for one in invoked.invocations] == [True, False, False]
    assert [one.init_seconds is None for one in invoked.invocations] == [False, True, True]
    assert all(0 < one.seconds < 30 for one in invoked.invocations)
    assert all(1 << 20 < (one.peak_memory or 0) < 1 << 30 for one in invoked.invocations)
    assert invoked.label == f"awslambdaric {function.target.preinstalled['awslambdaric']}, our Runtime API"
    assert function.session.runs == 1


@pytest.mark.network
@needs_linux
def test_each_event_can_have_a_cold_environment(newest: Function) -> None:
    invoked = newest("app.ok", 1, 2, cold_each=True)
    assert [one.result["calls"] for one in invoked.invocations] == [1, 1]
    assert [one.is_cold for one in invoked.invocations] == [True, True]
    assert all(one.init_seconds for one in invoked.invocations)


@pytest.mark.network
@needs_linux
def test_an_error_of_the_handler_has_its_type_message_and_trace(function: Function) -> None:
    invoked = function("app.raises", "a number", "a word")
    assert failures(invoked) == [("ValueError", "not a number"), ("ValueError", "not a word")]
    first = invoked.invocations[0]
    assert first.failure is not None
    assert first.failure.traceback.endswith('in raises\n    raise ValueError("not " + event)\n')
    assert first.log.startswith("[ERROR] ValueError: not a number")
    assert [one.is_cold for one in invoked.invocations] == [True, False]


@pytest.mark.network
@needs_linux
@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("app.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'app'"),
        ("absent.f", "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"),
        (
            "unhappy.f",
            "Runtime.ImportModuleError",
            "Unable to import module 'unhappy': No module named 'nothing_of_that_name'",
        ),
        (
            "nodot",
            "Runtime.MalformedHandlerName",
            "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)",
        ),
        ("broken.f", "Runtime.UserCodeSyntaxError", None),
        ("angry.f", "RuntimeError", "at import"),
        ("gone.f", "Runtime.ExitError", "Runtime exited with error: exit status 9"),
        ("app.odd", "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"),
        (
            "app.coroutine",
            "Runtime.MarshalError",
            "Unable to marshal response: Object of type coroutine is not JSON serializable",
        ),
        ("app.crashes", "Runtime.ExitError", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_what_goes_wrong_has_the_type_that_lambda_gives(
    newest: Function, handler: str, kind: str, message: str | None
) -> None:
    (found,) = failures(newest(handler, 1))
    assert found is not None
    assert found[0] == kind
    assert found[1] == message or (message is None and found[1].startswith("Syntax error in module 'broken': "))


@pytest.mark.network
@needs_linux
def test_after_a_crash_or_a_timeout_the_next_event_is_cold(function: Function) -> None:
    events = [1, "exit", 2, "sleep", 3, 4, "sys.exit"]
    invoked = function("app.does", *events, timeout=2.5)
    assert failures(invoked) == [
        None,
        ("Runtime.ExitError", "Runtime exited with error: exit status 3"),
        None,
        ("Sandbox.Timedout", "Task timed out after 2.50 seconds"),
        None,
        None,
        ("Runtime.ExitError", "Runtime exited with error: exit status 1"),
    ]
    assert [one.event for one in invoked.invocations] == events
    assert [one.is_cold for one in invoked.invocations] == [True, False, True, False, True, False, False]
    assert [one.result and one.result["calls"] for one in invoked.invocations] == [1, None, 1, None, 1, 2, None]
    assert invoked.invocations[1].log == "last words\n"
    assert 2.5 <= invoked.invocations[3].seconds < 200
    assert "bye" in invoked.invocations[6].log


@pytest.mark.network
@needs_linux
def test_the_temporary_folder_is_kept_warm_and_empty_cold(newest: Function) -> None:
    invoked = newest("app.writes", 1, 2, "exit", 4, 5)
    assert [one.result for one in invoked.invocations] == [False, True, None, False, True]


@pytest.mark.network
@needs_linux
def test_a_response_that_is_too_large_is_refused_as_lambda_does(newest: Function) -> None:
    invoked = newest("app.large", 6291556 - 2, 6291556 - 1, 1)
    message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert failures(invoked) == [None, ("Function.ResponseSizeTooLarge", message), None]
    assert [len(one.result or "") for one in invoked.invocations] == [6291554, 0, 1]
    assert "Http response code: 413" in invoked.invocations[1].log
    assert invoked.invocations[2].is_cold


@pytest.mark.network
@needs_linux
def test_a_handler_may_run_a_loop_of_its_own_and_write_much(newest: Function) -> None:
    assert newest("app.awaits", 41).invocations[0].result == 42
    log = newest("app.talks", 1).invocations[0].log
    assert log.startswith("line 0\n")
    assert log.endswith("line 29999\nerror\n")
    assert " bytes left out ..." in log
    assert len(log) < 70 << 10


@pytest.mark.network
@needs_linux
def test_a_function_finds_what_the_runtime_brings(function: Function) -> None:
    invoked = function("app.cloud", 1, limits=Limits(seconds=60), timeout=60.0)
    assert failures(invoked) == [None]
    version, endpoint = invoked.invocations[0].result
    assert version == function.target.preinstalled["boto3"]
    assert "eu-west-1" in endpoint


@pytest.mark.network
@needs_linux
def test_a_function_sees_the_runtimes_variables_and_search_path(newest: Function) -> None:
    (one,) = newest("app.sees", 1, limits=Limits(seconds=60, memory=256 << 20)).invocations
    task, runtime = newest.session.places.task, newest.session.places.runtime
    seen = one.result
    assert seen["variables"].pop("AWS_LAMBDA_RUNTIME_API").startswith("127.0.0.1:")
    assert seen["variables"] == {
        "LAMBDA_TASK_ROOT": task,
        "_HANDLER": "app.sees",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    }
    assert seen["cwd"] == seen["path"][0] == task
    assert runtime in seen["path"]
    assert str(newest.session.places.scripts) not in seen["path"]
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:123456789012:function:{seen['name']}"
    assert (seen["memory"], seen["trace"]) == ("256", "Root=1-")


@pytest.mark.network
@needs_linux
def test_without_its_compiled_part_the_client_works_and_the_label_says_so(
    newest: Function, shared_cache: Path, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for entry in folder_for(newest.target, shared_cache).iterdir():
        if not entry.name.startswith("runtime_client."):
            (runtime / entry.name).symlink_to(entry)
    newest.session.places = newest.session.places._replace(runtime=str(runtime))
    invoked = newest("app.does", 1, 2, "exit", 3)
    assert [one.result and one.result["calls"] for one in invoked.invocations] == [1, 2, None, 1]
    assert failures(newest("app.raises", "x")) == [("ValueError", "not x")]
    assert failures(newest("app.large", 6291555))[0] == (
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    )
    client = f"awslambdaric {newest.target.preinstalled['awslambdaric']}"
    assert invoked.label == f"{client} over HTTP of ours, because its compiled part is for Linux, our Runtime API"


@pytest.mark.network
@needs_linux
def test_the_runtime_interface_emulator_says_the_same(newest: Function, shared_cache: Path) -> None:
    rie = str(emulator(shared_cache))

    def both(handler: str, *events: Any, **settings: Any) -> Invoked:
        ours = newest(handler, *events, emulator=None, **settings)
        theirs = newest(handler, *events, emulator=rie, **settings)
        assert theirs.label == "the runtime client, the image's Runtime Interface Emulator"
        assert failures(theirs) == failures(ours)
        assert [one.is_cold for one in theirs.invocations] == [one.is_cold for one in ours.invocations]
        return theirs

    invoked = both("app.does", 1, 2, "exit", 3, "sleep", 4, timeout=3.0)
    assert [one.result and one.result["calls"] for one in invoked.invocations] == [1, 2, None, 1, None, 1]
    assert [one.log for one in invoked.invocations] == [
        "call 1\n",
        "call 2\n",
        "last words\n",
        "call 1\n",
        "",
        "call 1\n",
    ]
    assert all(one.init_seconds for one in invoked.invocations if one.is_cold)
    assert (invoked.invocations[0].peak_memory or 0) > 5 << 20
    both("app.raises", "x", "y")
    both("app.odd", 1)
    both("app.crashes", 1)
    both("app.large", 6291555)
    both("app.nothing", 1)
    both("absent.f", 1)
    both("gone.f", 1)
    assert both("app.sees", 1).invocations[0].result["trace"] == "Root=1-"
    assert newest("app.writes", 1, 2, "exit", 4, emulator=rie).invocations[3].result is False


@pytest.mark.network
@needs_linux
def test_what_looks_like_an_error_is_a_result_for_the_emulator_too(
    newest: Function, shared_cache: Path, task: Path
) -> None:
    (task / "app.py").write_text("def f(event, context): return {'errorType': 'E', 'requestId': '1', 'x': event}\n")
    for api in (None, str(emulator(shared_cache))):
        (one,) = newest("app.f", 5, emulator=api).invocations
        assert (one.failure, one.result) == (None, {"errorType": "E", "requestId": "1", "x": 5})


# In a root file system.


class Rooted(NamedTuple):
    """A function in a root file system of Debian's."""

    target: Target
    session: Session

    def __call__(self, handler: str, *events: Any) -> Invoked:
        return invoke(self.session, handler, events, target=self.target, limits=Limits(seconds=180), timeout=60.0)


def rooted(architecture: str, task: Path, shared_cache: Path, source: Path | None = None) -> Rooted:
    hosts.needs("bwrap", *([QEMU] if architecture == hosts.FOREIGN else []))
    target = Target.parse(hosts.TARGETS[architecture])
    engine = rootfs.prepare(source or hosts.root(architecture), target, Cache(shared_cache))
    return Rooted(target, engine.open(Mounts(task, None, folder_for(target, shared_cache))))


@pytest.mark.network
@needs_linux
@pytest.mark.parametrize("architecture", [hosts.NATIVE, hosts.FOREIGN])
def test_a_handler_answers_in_a_root_file_system_of_either_machine(
    task: Path, shared_cache: Path, architecture: str
) -> None:
    function = rooted(architecture, task, shared_cache)
    invoked = function("app.writes", 1, 2, "exit", 3)
    assert [one.result for one in invoked.invocations] == [False, True, None, False]
    assert failures(invoked)[2] == ("Runtime.ExitError", "Runtime exited with error: exit status 1")
    assert [one.is_cold for one in invoked.invocations] == [True, False, False, True]
    assert invoked.label == f"awslambdaric {function.target.preinstalled['awslambdaric']}, our Runtime API"
    (one,) = function("app.cloud", 1).invocations
    assert one.result[0] == function.target.preinstalled["boto3"]
    function.session.close()


@pytest.mark.network
@needs_linux
def test_the_emulator_of_an_image_is_used_where_it_can_run(task: Path, shared_cache: Path, tmp_path: Path) -> None:
    hosts.needs("bwrap")
    source = tmp_path / "root"
    subprocess.run(["cp", "-al", str(hosts.root("amd64")), str(source)], check=True)
    place = source / EMULATOR.removeprefix("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(emulator(shared_cache), place)
    function = rooted("amd64", task, shared_cache, source)
    invoked = function("app.does", 1, "exit", 2)
    assert [one.result and one.result["calls"] for one in invoked.invocations] == [1, None, 1]
    assert invoked.label == "the runtime client, the image's Runtime Interface Emulator"
    function.session.close()


# What needs neither the index nor a client.


def without_client(task: Path, folder: Path, rie: str | None) -> None:
    version, program = PYTHONS[-1]
    function = Function(task, version, program, folder)
    with pytest.raises(TrialError) as raised:
        function("app.ok", 1, emulator=rie)
    assert str(raised.value) == "the handler cannot be invoked: there is no runtime client (awslambdaric)"
    assert raised.value.hint == "the modules can still be imported: leave out `--handler`"


def test_an_environment_without_a_runtime_client_is_an_error(task: Path, tmp_path: Path) -> None:
    without_client(task, tmp_path, None)


@pytest.mark.network
@needs_linux
def test_so_it_is_where_there_is_an_emulator(task: Path, tmp_path: Path, shared_cache: Path) -> None:
    without_client(task, tmp_path, str(emulator(shared_cache)))


@pytest.mark.network
@needs_linux
def test_an_event_that_ends_its_environment_is_not_given_twice(newest: Function, task: Path) -> None:
    (task / "app.py").write_text(
        "import os, signal, time\n"
        "def f(event, context):\n"
        "    if event == 'all':\n"
        "        os.kill(os.getppid(), signal.SIGKILL)\n"
        "        time.sleep(600)\n"
        "    return event\n"
    )
    invoked = newest("app.f", 1, "all", 2)
    message = "the environment ended before the runtime: signal 9"
    assert failures(invoked) == [None, ("Runtime.ExitError", message), None]
    assert [one.is_cold for one in invoked.invocations] == [True, False, True]
    assert newest.session.runs == 2


class Ended(LocalSession):
    """An environment that is ended from outside before anything is heard."""

    def __init__(self, task: Path, completed: Completed) -> None:
        super().__init__(task)
        self.completed = completed

    def run(
        self,
        arguments: Sequence[str],
        *,
        job: bytes,
        environment: Mapping[str, str],
        limits: Limits,
        hear: Callable[[str], None],
    ) -> Completed:
        self.runs += 1
        hear("noise")
        return self.completed


@pytest.mark.parametrize(
    ("completed", "failure"),
    [
        (
            Completed(-9, "log", 1.0, out_of_memory=True),
            Failure("Runtime.ExitError", "Runtime exited with error: signal: killed", ""),
        ),
        (
            Completed(-9, "log", 2.5, timed_out=True),
            Failure("Sandbox.Timedout", "Task timed out after 2.50 seconds", ""),
        ),
        (
            Completed(4, "log", 1.0),
            Failure("Runtime.ExitError", "the environment ended before the runtime: exit status 4", ""),
        ),
        (
            Completed(-11, "log", 1.0),
            Failure("Runtime.ExitError", "the environment ended before the runtime: signal 11", ""),
        ),
    ],
)
def test_an_environment_that_is_ended_fails_its_event_and_no_other_is_lost(
    task: Path, completed: Completed, failure: Failure
) -> None:
    session = Ended(task, completed)
    target = Target.parse("python3.13-x86_64")
    invoked = invoke(session, "app.ok", [1, 2], target=target, limits=Limits(), timeout=1.0)
    assert [(one.event, one.failure, one.log) for one in invoked.invocations] == [
        (1, failure, "log"),
        (2, failure, "log"),
    ]
    assert session.runs == 2
    assert invoked.label == "no runtime client answered"


def test_the_runtimes_pins_are_those_of_the_target() -> None:
    assert requirements(Target.parse("python3.13-arm64")) == (
        "awslambdaric==3.1.1",
        "boto3==1.40.4",
        "botocore==1.40.4",
        "jmespath==1.0.1",
        "python-dateutil==2.9.0.post0",
        "s3transfer==0.13.1",
        "simplejson==3.20.1",
        "six==1.17.0",
        "snapshot-restore-py==1.0.0",
        "urllib3==1.26.19",
    )
    clients = {line for target in all_targets() for line in requirements(target) if line.startswith("awslambdaric==")}
    assert clients == {"awslambdaric==2.0.12", "awslambdaric==3.1.1", "awslambdaric==4.0.0", "awslambdaric==4.0.1"}


def test_the_runtimes_folder_is_made_once(tmp_path: Path) -> None:
    made: list[tuple[str, ...]] = []

    def put(requirements: Sequence[str], target: Target, folder: Path) -> None:
        made.append(tuple(requirements))
        (folder / "boto3.py").write_text(str(target))

    one, other = Target.parse("python3.13-arm64"), Target.parse("python3.13-x86_64")
    folder = runtime_folder(one, put, cache=tmp_path / "cache")
    assert runtime_folder(one, put, cache=tmp_path / "cache") == folder
    assert made == [requirements(one)]
    assert (folder / "boto3.py").read_text() == "python3.13-arm64"
    assert runtime_folder(other, put, cache=tmp_path / "cache") != folder
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(
        [folder.name, runtime_folder(other, put, cache=tmp_path / "cache").name]
    )


def test_newer_versions_are_asked_for_where_the_runtimes_have_no_wheel(tmp_path: Path) -> None:
    asked: list[str] = []

    def put(requirements: Sequence[str], target: Target, folder: Path) -> None:
        asked.append(requirements[0])
        (folder / f"{len(asked)}").touch()
        if "==" in requirements[0]:
            raise NoCompatibleWheel("`awslambdaric 4.0.0` has no wheel")

    folder = runtime_folder(Target.parse("python3.15-arm64"), put, cache=tmp_path)
    assert asked == ["awslambdaric==4.0.0", "awslambdaric>=4.0.0"]
    assert os.listdir(folder) == ["2"]


def test_a_folder_that_could_not_be_filled_is_not_left(tmp_path: Path) -> None:
    def put(requirements: Sequence[str], target: Target, folder: Path) -> None:
        (folder / "half").touch()
        raise FetchError("no network")

    with pytest.raises(FetchError, match="no network"):
        runtime_folder(Target.parse("python3.13-arm64"), put, cache=tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_client_is_named_as_it_names_itself() -> None:
    assert client_label("aws-lambda-python/3.13.5-4.0.1") == "awslambdaric 4.0.1"
    assert client_label("aws-lambda-python/3.13.5-4.0.1 manylambda") == (
        "awslambdaric 4.0.1 over HTTP of ours, because its compiled part is for Linux"
    )
    assert client_label("curl/8") == client_label(None) == "the runtime's own client"
