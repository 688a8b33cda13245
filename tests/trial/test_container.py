"""Containers: made of an image of the target's machine, closed, bounded, and gone when they are done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.errors import TrialError
from manylambda.fetch.cache import Cache
from manylambda.host.containers import Program, find_program
from manylambda.target import Target
from manylambda.trial.engines import container
from manylambda.trial.model import Completed, Limits, Mounts
from trial import containers, hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = Target.parse(hosts.TARGETS[hosts.NATIVE])
FOREIGN = Target.parse(hosts.TARGETS[hosts.FOREIGN])

# One podman has one store; and the emulator is registered with the kernel, for all.
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="containers of this host are Linux's"),
    pytest.mark.xdist_group("podman"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(containers.programs()) + os.pathsep + os.environ["PATH"])


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / 'task, with "a comma"'
    folder.mkdir()
    (folder / "app.py").write_text("answer = 42\n")
    folder.chmod(0o755)
    return folder


def engine(cache: Cache) -> container.ContainerEngine:
    found = container.prepare(NATIVE, reference=containers.image(hosts.NATIVE), cache=cache)
    assert isinstance(found, container.ContainerEngine)
    return found


class Runner:
    """A session in which code is run, and what it said."""

    def __init__(self, session: container.ContainerSession) -> None:
        self.session = session

    def __call__(
        self, code: str, *, job: bytes = b"", environment: dict[str, str] | None = None, **limits: Any
    ) -> tuple[Completed, list[str]]:
        heard: list[str] = []
        completed = self.session.run(
            ["-c", code],
            job=job,
            environment=environment or {},
            limits=Limits(**{"seconds": 30.0, **limits}),
            hear=heard.append,
        )
        return completed, heard


@pytest.fixture
def run(kept: Cache, task: Path) -> Iterator[Runner]:
    (task.parent / "opt").mkdir()
    (task.parent / "opt").chmod(0o755)
    session = engine(kept).open(Mounts(task, task.parent / "opt", None))
    yield Runner(session)
    session.close()
    containers.assert_gone()


def test_the_engine_says_what_it_is_and_proves(kept: Cache) -> None:
    found = engine(kept)
    identity = containers.podman("image", "inspect", "--format", "{{.Id}}", containers.IMAGES[hosts.NATIVE])
    version = containers.podman("info", "--format", "{{.Version.Version}}")
    assert found.label == f"podman {version}, {containers.IMAGES[hosts.NATIVE]} (image {identity[:12]})"
    assert found.proof.proved.startswith("with CPython 3.13.")
    assert found.proof.proved.endswith(f" on {NATIVE.machine}, in a container")
    assert "its C library is glibc 2.41" in found.proof.open
    assert found.runs_native()
    assert found.wants_runtime, "Debian has nothing of Lambda's runtime"


def test_nothing_of_the_host_gets_in_but_the_job_and_the_environment(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@localhost:1")
    monkeypatch.setenv("OF_THE_HOST", "1")
    code = (
        "import json, os, sys; print(json.dumps([sys.stdin.read(), dict(os.environ), os.getcwd(), os.getuid(), "
        "os.getgid(), os.listdir('/sys/class/net'), open('/var/task/app.py').read(), os.listdir('/opt')]))"
    )
    completed, lines = run(code, job=b"the job", environment={"A": "b c\nd='\"$x", "PATH": "/usr/bin"})
    assert completed.log == ""
    job, environment, folder, user, group, networks, app, opt = json.loads(lines[0])
    assert (completed.status, completed.log, job, folder, user, group) == (0, "", "the job", "/var/task", 993, 990)
    assert (networks, app, opt) == (["lo"], "answer = 42\n", [])
    assert environment["A"] == "b c\nd='\"$x"
    assert environment["PATH"] == "/usr/bin"
    assert not {name for name in environment if "PROXY" in name.upper() or name == "OF_THE_HOST"}


def test_only_tmp_can_be_written_to_and_is_empty_each_time(run: Runner) -> None:
    code = """
import os
print(os.listdir("/tmp"))
for folder in ("/tmp", "/", "/var/task", "/opt", "/var/manylambda", "/dev/shm", "/run", "/usr"):
    try:
        open(folder + "/x", "w").close()
        print(folder)
    except OSError:
        pass
"""
    assert run(code)[1] == run(code)[1] == ["[]", "/tmp"]


def test_a_program_in_tmp_can_be_started_as_in_lambda(run: Runner) -> None:
    code = """
import os, subprocess
with open("/tmp/t", "w") as file:
    file.write("#!/usr/bin/python3.13\\nprint(1)")
os.chmod("/tmp/t", 0o755)
subprocess.call(["/tmp/t"])
"""
    assert run(code)[1] == ["1"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
        ("import os; os._exit(137)", 137),
        ("import os; os.close(0); os.close(1); os.close(2); os._exit(3)", 3),
    ],
)
def test_a_crash_is_told_as_it_was(run: Runner, code: str, status: int) -> None:
    completed, _ = run(code)
    assert (completed.status, completed.timed_out, completed.out_of_memory) == (status, False, False)
    assert completed.peak_memory is not None
    assert 1 << 20 < completed.peak_memory < 64 << 20


def test_who_takes_too_long_is_ended_with_its_children(run: Runner) -> None:
    completed, heard = run(
        "import os, time; print(1, flush=True); os.fork() or os.setsid(); time.sleep(600)", seconds=4.0
    )
    assert (completed.timed_out, completed.out_of_memory, completed.status, heard) == (True, False, -9, ["1"])
    assert 4 <= completed.seconds < 200


def test_how_it_ended_is_known_when_podman_lost_it(run: Runner, tmp_path: Path) -> None:
    assert run.session._program.is_podman
    run.session._program = run.session._program._replace(path=str(containers.late(tmp_path / "late") / "podman"))
    completed, heard = run("import os, sys; print(1); sys.stderr.write('log\\n'); sys.stdout.flush(); os._exit(7)")
    assert (completed.status, completed.log, heard) == (7, "log\n", ["1"])


def test_who_wants_too_much_memory_is_ended(run: Runner) -> None:
    code = "held = bytearray(600 << 20)\nfor i in range(0, len(held), 4096): held[i] = 1\n"
    code += "import time; time.sleep(20); print('had it')"
    completed, heard = run(code, memory=128 << 20)
    assert (completed.out_of_memory, completed.timed_out, heard) == (True, False, [])


def test_processes_are_bounded(run: Runner) -> None:
    code = """
import os, time
count = 0
try:
    while os.fork():
        count += 1
except BlockingIOError:
    print(count, flush=True)
    os._exit(0)
time.sleep(600)
"""
    completed, heard = run(code, processes=20)
    assert completed.status == 0
    (count,) = heard
    assert int(count) < 20


def test_what_is_said_without_end_is_bounded(run: Runner) -> None:
    code = "import sys; print('x' * (3 << 20)); print('end'); sys.stderr.write('y' * 200_000 + 'last')"
    completed, heard = run(code)
    assert [len(line) for line in heard] == [1 << 20, 3]
    assert len(completed.log) == 64 << 10
    assert completed.log.endswith("last")


def test_when_the_caller_stops_the_container_goes(run: Runner) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.session.run(
            ["-c", "import time; print(1, flush=True); time.sleep(600)"],
            job=b"",
            environment={},
            limits=Limits(),
            hear=stop,
        )


def test_when_the_caller_is_killed_the_time_runs_out_inside(kept: Cache, task: Path, tmp_path: Path) -> None:
    containers.image(hosts.NATIVE)
    code = """
import sys
from pathlib import Path
from manylambda.fetch.cache import Cache
from manylambda.target import Target
from manylambda.trial.engines.container import prepare
from manylambda.trial.model import Limits, Mounts

target, image, cache, task = sys.argv[1:]
session = prepare(Target.parse(target), reference=image, cache=Cache(Path(cache))).open(Mounts(Path(task), None, None))
sleep = "import time; print(1, flush=True); time.sleep(600)"
hear = lambda line: print(line, flush=True)
session.run(["-c", sleep], job=b"", environment={}, limits=Limits(seconds=2.0), hear=hear)
"""
    words = (str(NATIVE), containers.IMAGES[hosts.NATIVE], str(kept.root), str(task))
    caller = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        text=True,
        # What it leaves there when it is killed is removed with the rest.
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == "1\n"
    caller.kill()
    caller.communicate()
    containers.assert_gone()


def test_a_folder_that_a_function_could_not_read_is_refused(kept: Cache, task: Path) -> None:
    task.chmod(0o700)
    with pytest.raises(TrialError) as raised:
        engine(kept).open(Mounts(task, None, None))
    assert raised.value.message == f"`{task}` cannot be read by the user that a function runs as"
    assert raised.value.hint == f"chmod 755 {task}"


def test_an_image_of_another_machine_is_refused(kept: Cache) -> None:
    with pytest.raises(TrialError) as raised:
        container.prepare(FOREIGN, reference=containers.image(hosts.NATIVE), cache=kept)
    assert raised.value.message == (
        f"the image `{containers.IMAGES[hosts.NATIVE]}` is for linux/{hosts.NATIVE}, "
        f"and {FOREIGN} needs linux/{hosts.FOREIGN}"
    )


def test_an_image_without_the_python_is_refused(kept: Cache) -> None:
    with pytest.raises(TrialError) as raised:
        container.prepare(
            Target.parse(f"python3.12-{NATIVE.architecture}"), reference=containers.image(hosts.NATIVE), cache=kept
        )
    assert raised.value.message == (
        f"the image `{containers.IMAGES[hosts.NATIVE]}` has no Python on its path, "
        f"and python3.12-{NATIVE.architecture} needs CPython 3.12"
    )
    assert raised.value.hint == "name an image with `python3.12` on its path"


def test_another_machine_is_refused_without_an_emulator_and_run_with_one(kept: Cache, task: Path) -> None:
    name = containers.image(hosts.FOREIGN)
    if not any(Path("/proc/sys/fs/binfmt_misc").glob("qemu-*")):
        with pytest.raises(TrialError) as raised:
            container.prepare(FOREIGN, reference=name, cache=kept)
        assert raised.value.message == f"this host cannot run {FOREIGN.machine} programs: `{name}`"
        assert raised.value.hint is not None
        assert raised.value.hint.startswith("let qemu run them: `")
    with containers.emulator(hosts.FOREIGN):
        found = container.prepare(FOREIGN, reference=name, cache=kept)
        assert isinstance(found, container.ContainerEngine)
        assert f" on {FOREIGN.machine}, emulated, in a container" in found.proof.proved
        completed, heard = Runner(found.open(Mounts(task, None, None)))(
            "import platform, subprocess, sys; print(platform.machine())"
            "; print(subprocess.call([sys.executable, '-c', '1']))"
        )
        assert (completed.status, heard) == (0, [FOREIGN.machine, "0"])


def test_an_image_that_is_not_here_is_not_pulled_offline(kept: Cache) -> None:
    with pytest.raises(container.PullFailed) as raised:
        container.prepare(NATIVE, offline=True, cache=kept)
    name = f"public.ecr.aws/lambda/python:3.13-{NATIVE.architecture}"
    assert raised.value.message == f"the image `{name}` is not here, and `--offline` forbids pulling it"
    assert raised.value.hint == f"podman pull --platform linux/{hosts.NATIVE} {name}"


def test_an_image_that_cannot_be_pulled_is_told_with_the_reason(kept: Cache) -> None:
    with pytest.raises(container.PullFailed) as raised:
        container.prepare(NATIVE, reference="127.0.0.1:1/none:1", cache=kept)
    assert raised.value.message.startswith("`podman` cannot pull `127.0.0.1:1/none:1`: ")
    assert raised.value.message.endswith("connection refused")


def test_the_docker_client_works_as_well(
    kept: Cache, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = containers.image(hosts.NATIVE)
    # What serves Docker's client here is podman, which loses the quotes of a path with a comma.
    task = tmp_path / "task"
    task.mkdir(mode=0o755)
    (task / "app.py").touch()
    with containers.docker_service(tmp_path_factory.mktemp("docker")) as variables:
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("HTTP_PROXY", "http://user:secret@localhost:1")
        program = find_program(("docker",))
        assert isinstance(program, Program)
        found = container.prepare(NATIVE, reference=name, program=program, cache=kept)
        assert isinstance(found, container.ContainerEngine)
        assert found.label.startswith("docker ")
        run = Runner(found.open(Mounts(task, None, None)))
        completed, heard = run(
            "import os, sys; print(sys.stdin.read(), os.getuid(), 'HTTP_PROXY' in os.environ, os.listdir('/var/task'))",
            job=b"job",
        )
        assert (completed.status, completed.log, heard) == (0, "", ["job 993 False ['app.py']"])
        assert run("import time; time.sleep(600)", seconds=0.5)[0].timed_out
    containers.assert_gone()


def test_the_base_image_is_that_of_the_runtime_and_its_architecture() -> None:
    assert container.default_reference(Target.parse("python3.13-arm64")) == "public.ecr.aws/lambda/python:3.13-arm64"
    # Of a preview only the tag for both architectures is known.
    assert container.default_reference(Target.parse("python3.15-x86_64")) == "public.ecr.aws/lambda/python:3.15-preview"
