"""This host's own Pythons: only those that are the runtime's, closed in where that can be, and honest where not."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.errors import TrialError
from manylambda.host.interpreters import Interpreter, find_interpreter
from manylambda.host.model import Unusable
from manylambda.target import Target
from manylambda.trial.engines import interpreter
from manylambda.trial.engines.interpreter import InterpreterEngine
from manylambda.trial.model import Completed, Limits, Mounts
from trial import hosts
from trial.local import pythons

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE = {"amd64": "x86_64", "arm64": "arm64"}[hosts.NATIVE]
OTHER = {"amd64": "arm64", "arm64": "x86_64"}[hosts.NATIVE]
HERE = Target.parse("python{}.{}-{}".format(*sys.version_info[:2], MACHINE))
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")


def here() -> Interpreter:
    found = find_interpreter(HERE.python, machine=HERE.machine)
    assert isinstance(found, Interpreter)
    return found


class Runner:
    def __init__(self, engine: InterpreterEngine, task: Path, opt: Path | None = None) -> None:
        self.session = engine.open(Mounts(task, opt, None))

    def __call__(self, code: str, *, job: bytes = b"", **limits: Any) -> tuple[Completed, list[str]]:
        heard: list[str] = []
        completed = self.session.run(
            ["-s", "-S", "-c", code],
            job=job,
            environment={"A": "b c"},
            limits=Limits(**{"seconds": 30.0, **limits}),
            hear=heard.append,
        )
        return completed, heard


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "app.py").write_text("answer = 42\n")
    return folder


@pytest.fixture
def closed(task: Path) -> Iterator[Runner]:
    hosts.needs("bwrap")
    sandbox = interpreter.find_sandbox(here())
    assert sandbox is not None
    runner = Runner(InterpreterEngine(here(), HERE, sandbox=sandbox), task)
    yield runner
    runner.session.close()


@pytest.fixture
def bare(task: Path) -> Iterator[Runner]:
    runner = Runner(InterpreterEngine(here(), HERE, sandbox=None), task)
    yield runner
    runner.session.close()
    assert not Path(runner.session.places.temporary).parent.exists()


@pytest.fixture(params=["closed", pytest.param("bare")])
def run(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.getfixturevalue(request.param)
    return runner


@pytest.mark.parametrize(("minor", "program"), list(pythons()))
@needs_linux
def test_each_python_of_this_host_is_found_and_runs(minor: str, program: str, task: Path) -> None:
    hosts.needs("bwrap")
    target = Target.parse(f"python{minor}-{MACHINE}")
    found = find_interpreter(target.python, machine=target.machine)
    assert isinstance(found, Interpreter)
    assert found.minor == target.python
    for sandbox in (interpreter.find_sandbox(found), None):
        engine = InterpreterEngine(found, target, sandbox=sandbox)
        assert engine.runs_native()
        runner = Runner(engine, task)
        completed, heard = runner("import sys, ssl, ctypes; print('%d.%d' % sys.version_info[:2])")
        runner.session.close()
        assert (completed.status, completed.log, heard) == (0, "", [minor])


def test_on_a_python_of_another_machine_native_modules_are_not_tried() -> None:
    engine = InterpreterEngine(here(), Target.parse(f"{HERE.runtime}-{OTHER}"), sandbox=None)
    assert not engine.runs_native()
    assert engine.proof.proved.startswith("without native modules, with this host's CPython 3.")
    assert engine.proof.open.startswith("native modules of ")


def test_without_isolation_that_is_told() -> None:
    engine = InterpreterEngine(here(), HERE, sandbox=None)
    assert "nothing kept the code from the network and from the files of this host" in engine.proof.open
    assert engine.label.endswith(", without isolation")


@needs_linux
def test_in_bubblewrap_it_sees_nothing_of_the_host(closed: Runner) -> None:
    code = """
import json, os, socket, sys
def failure(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
print(json.dumps([
    sys.stdin.read(), dict(os.environ), os.getcwd(), os.getuid(), os.path.exists(%r), os.listdir("/tmp"),
    [failure(lambda: open(folder + "/x", "w")) for folder in ("/tmp", "/var/task", "/opt", "/", "/usr", "/dev/shm")],
    failure(lambda: socket.create_connection(("127.0.0.1", %d), 1)),
    [name for folder in (*sys.path, %r) if os.path.isdir(folder) for name in os.listdir(folder) if "pytest" in name],
]))
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = os.path.realpath(__file__)
        site = os.path.dirname(os.path.dirname(pytest.__file__))
        completed, heard = closed(code % (mine, server.getsockname()[1], site), job=b"the job")
    assert completed.log == ""
    job, environment, folder, user, sees, temporary, failures, network, packages = json.loads(heard[0])
    assert (job, folder, user, sees, temporary) == ("the job", "/var/task", 993, False, [])
    assert {name: value for name, value in environment.items() if name not in {"PWD", "LC_CTYPE"}} == {"A": "b c"}
    assert failures[0] is None
    assert None not in failures[1:]
    assert network == "ConnectionRefusedError", "the loopback is its own"
    assert packages == []


def test_without_bubblewrap_it_has_its_own_home_and_environment(bare: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_HOST", "1")
    code = (
        "import json, os, tempfile; home = os.path.expanduser('~'); "
        "print(json.dumps([home, tempfile.gettempdir(), os.getcwd(), os.listdir(home), sorted(os.environ)]));"
        "open(os.path.join(home, 'x'), 'w').close()"
    )
    places = bare.session.places
    for _ in range(2):
        completed, heard = bare(code)
        home, temporary, folder, there, names = json.loads(heard[0])
        assert completed.status == 0
        assert (home, temporary, folder) == (places.temporary, places.temporary, places.task)
        assert there == []
        assert "OF_THE_HOST" not in names
        assert "PATH" not in names


@needs_linux
@pytest.mark.parametrize(
    ("code", "status"),
    [("import os; os.abort()", -6), ("import os; os.kill(os.getpid(), 9)", -9), ("import os; os._exit(3)", 3)],
)
def test_a_crash_is_told_as_it_was(run: Runner, code: str, status: int) -> None:
    completed, _ = run(code)
    assert (completed.status, completed.timed_out, completed.out_of_memory) == (status, False, False)


def test_who_takes_too_long_is_ended_with_its_children(run: Runner) -> None:
    code = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(1, flush=True)
time.sleep(600)
"""
    completed, heard = run(code, seconds=5.0)
    assert (completed.timed_out, completed.out_of_memory, heard) == (True, False, ["1"])
    assert 5 <= completed.seconds < 200


def test_children_that_are_left_behind_are_ended(run: Runner) -> None:
    code = 'import subprocess, sys; subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])'
    completed, _ = run(code, seconds=500.0)
    assert completed.status == 0
    assert completed.seconds < 200


@needs_linux
def test_who_wants_too_much_memory_is_ended(run: Runner) -> None:
    code = "held = bytearray(600 << 20)\nfor i in range(0, len(held), 4096): held[i] = 1\nimport time; time.sleep(600)"
    completed, _ = run(code, memory=128 << 20, seconds=60.0)
    assert (completed.out_of_memory, completed.timed_out, completed.status) == (True, False, -9)


@needs_linux
def test_in_bubblewrap_processes_are_bounded(closed: Runner) -> None:
    code = "import os, time\nfor _ in range(60):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)"
    completed, _ = closed(code, processes=30, seconds=60.0)
    assert not completed.timed_out
    assert "more than 30 processes" in completed.log


@needs_linux
def test_a_python_below_opt_is_seen_beside_the_layers(tmp_path: Path, task: Path) -> None:
    hosts.needs("bwrap")
    opt = tmp_path / "opt"
    (opt / "python").mkdir(parents=True)
    (opt / "python" / "layer.py").touch()
    # Where it lies is what it says; a folder of the system stands for one below `/opt`.
    found = here()._replace(prefixes=(*here().prefixes, "/opt"))
    if not os.path.isdir("/opt"):
        pytest.skip("this host has no /opt")
    options = interpreter._options(found, [(str(opt), "/opt")], {})
    assert ["--ro-bind", str(opt / "python"), "/opt/python"] in [options[i : i + 3] for i in range(len(options))]
    assert str(opt) not in options


@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    missing = Unusable("interpreter", "no CPython 3.14 on this host", "`--download-python`")
    monkeypatch.setattr(interpreter, "find_interpreter", lambda minor, machine: missing)
    with pytest.raises(TrialError) as raised:
        interpreter.prepare(Target.parse("python3.14-x86_64"), download=True)
    assert raised.value.message.startswith("uv cannot download CPython 3.14: ")
    assert raised.value.hint == "install it as this system does, or use another engine"


def test_offline_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Unusable("interpreter", "no CPython 3.14 on this host", "`--download-python`")
    monkeypatch.setattr(interpreter, "find_interpreter", lambda minor, machine: missing)
    found = interpreter.prepare(HERE, download=True, offline=True)
    assert found == Unusable(
        "interpreter", "no CPython 3.14 on this host, and `--offline` forbids downloading one", None
    )
