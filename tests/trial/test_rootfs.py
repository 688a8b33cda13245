"""A root file system and bubblewrap make an execution environment: closed, bounded, and like Lambda's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pytest

import manylambda
from image.saved import FOLDER, Hard, Link, layer, layout
from manylambda.errors import RequestError, TrialError, UnsafeArchive
from manylambda.fetch.cache import Cache
from manylambda.host.install import install
from manylambda.target import Target
from trial import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.trial.engines.rootfs import RootfsEngine
    from manylambda.trial.model import Completed, Limits, Session

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces are those of Linux"),
    pytest.mark.xdist_group("rootfs"),
]

NATIVE = Target.parse(hosts.TARGETS[hosts.NATIVE])
FOREIGN = Target.parse(hosts.TARGETS[hosts.FOREIGN])


class Ran(NamedTuple):
    lines: list[str]
    completed: Completed


def limits(**changes: Any) -> Limits:
    from manylambda.trial.model import Limits

    return Limits(seconds=20.0)._replace(**changes)


def run(
    session: Session, code: str, *, job: bytes = b"", environment: Mapping[str, str] | None = None, **bounds: Any
) -> Ran:
    lines: list[str] = []
    completed = session.run(
        ["-c", code], job=job, environment=environment or {}, limits=limits(**bounds), hear=lines.append
    )
    return Ran(lines, completed)


def told(session: Session, code: str, **more: Any) -> Any:
    """What `code` makes of `told`, by way of JSON."""
    ran = run(session, f"import json\n{code}\nprint(json.dumps(told))", **more)
    assert ran.completed.status == 0, ran.completed.log
    return json.loads(ran.lines[-1])


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of the session: the bytecode of a standard library is made once."""
    return Cache(tmp_path_factory.mktemp("trial-cache"))


@pytest.fixture(scope="session")
def engine(kept: Cache) -> RootfsEngine:
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap")
    return rootfs.prepare(hosts.root(hosts.NATIVE), NATIVE, kept)


@pytest.fixture
def session(engine: RootfsEngine, tmp_path: Path) -> Iterator[Session]:
    with opened(engine, tmp_path / "task", {"app.py": "x = 1\n"}) as one:
        yield one


@contextlib.contextmanager
def opened(engine: RootfsEngine, folder: Path, files: Mapping[str, str | bytes], **mounts: Path) -> Iterator[Session]:
    from manylambda.trial.model import Mounts

    write(folder, files)
    one = engine.open(Mounts(folder, mounts.get("opt"), mounts.get("runtime")))
    try:
        yield one
    finally:
        one.close()
        one.close()


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


# What it is


def test_the_environment_is_that_of_a_function(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    found = told(
        session,
        "import os, pwd, socket, sys\n"
        "told = [os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser('~'), os.getcwd(),"
        " dict(os.environ), socket.gethostname(), sys.executable, sys.path[0],"
        " sorted(p for p in os.listdir('/proc') if p.isdigit()), sorted(os.listdir('/var/task')), os.listdir('/opt')]",
        environment={"LANG": "en_US.UTF-8", "LD_LIBRARY_PATH": "/var/task/lib"},
    )
    assert found == [
        993, 990, "sbx_user1051", "/home/sbx_user1051", "/var/task",
        {"LANG": "en_US.UTF-8", "LD_LIBRARY_PATH": "/var/task/lib", "PWD": "/var/task"},
        "manylambda", "/usr/bin/python3.13", "", ["1", "2"], ["app.py"], [],
    ]  # fmt: skip
    assert socket.gethostname() != "manylambda"


def test_nothing_but_the_temporary_folder_can_be_written_to(session: Session) -> None:
    places = [
        "/var/task/x", "/var/task/app.py", "/opt/x", "/x", "/var/x", "/etc/passwd", "/usr/x", "/usr/bin/python3.13",
        "/run/x", "/run/bytecode/x", "/var/manylambda/probe.py", "/dev/x", "/dev/shm/x", "/home/x",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/tmp/x", "/dev/null",
    ]  # fmt: skip
    found = told(
        session,
        f"told = {{}}\nfor place in {places!r}:\n"
        "  try: open(place, 'ab').close()\n  except OSError as error: pass\n  else: told[place] = True",
    )
    assert sorted(found) == ["/dev/null", "/tmp/x"]


def test_the_temporary_folder_is_empty_at_every_start_and_bounded(session: Session) -> None:
    code = (
        "import os, shutil\ntold = [os.listdir('/tmp'), shutil.disk_usage('/tmp').total]\n"
        "open('/tmp/x', 'w').write('x'); os.mkdir('/tmp/y')"
    )
    assert told(session, code) == told(session, code) == [[], 512 << 20]


def test_the_network_is_a_loopback_of_its_own(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = told(
            session,
            "import socket\ntold = [[name for _, name in socket.if_nameindex()]]\n"
            f"for address in ('127.0.0.1', {port}), ('192.0.2.1', 80):\n"
            "  try: socket.create_connection(address, 2); told.append('connected')\n"
            "  except OSError as error: told.append(type(error).__name__ + ' ' + error.strerror)\n"
            "with socket.create_server(('127.0.0.1', 0)) as one:\n"
            "  socket.create_connection(one.getsockname()).close(); told.append('ours')\n"
            "told.append(socket.gethostbyname('localhost'))",
        )
    assert found == [
        ["lo"],
        "ConnectionRefusedError Connection refused",
        "OSError Network is unreachable",
        "ours",
        "127.0.0.1",
    ]


def test_it_has_no_capability_and_no_way_to_more(session: Session) -> None:
    found = told(
        session,
        "told = [line.split() for line in open('/proc/self/status') if line.startswith(('Cap', 'NoNewPrivs'))]",
    )
    assert dict(found) == {
        **dict.fromkeys(("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"), "0" * 16), "NoNewPrivs:": "1"
    }  # fmt: skip


def test_layers_and_the_runtime_are_mounted_too(engine: RootfsEngine, tmp_path: Path) -> None:
    write(tmp_path / "opt", {"python/layered.py": "y = 2\n"})
    write(tmp_path / "runtime", {"ric.py": "z = 3\n"})
    folders = {"opt": tmp_path / "opt", "runtime": tmp_path / "runtime"}
    with opened(engine, tmp_path / "task", {"app.py": "x = 1\n"}, **folders) as one:
        assert one.places.runtime == "/var/runtime"
        assert Path(one.places.scripts).name == "manylambda"
        found = told(
            one,
            "import os, sys\nsys.path[:0] = ['/var/task', '/opt/python', '/var/runtime']\nimport app, layered, ric\n"
            f"told = [app.x, layered.y, ric.z, os.path.exists({one.places.scripts + '/compiler.py'!r}),"
            " [os.path.exists(m.__cached__) for m in (app, layered, ric, json)]]",
        )
    assert found == [1, 2, 3, True, [True] * 4]


# How it speaks


def test_a_job_goes_in_and_lines_come_out_as_they_are_written(session: Session) -> None:
    job = os.urandom(150_000).hex().encode()
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if len(heard) == 1:  # it waits for this: that the line was heard
            for one in processes("4320.5"):
                if Path("/proc", one, "comm").read_text().startswith("python"):
                    os.kill(int(one), signal.SIGUSR1)

    code = (
        "import signal, sys  # 4320.5\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "print(len(sys.stdin.read()), flush=True); signal.sigwait([signal.SIGUSR1]); print('later')"
    )
    completed = session.run(["-c", code], job=job, environment={}, limits=limits(seconds=60.0), hear=hear)
    assert heard == ["300000", "later"]
    assert (completed.status, completed.log, completed.timed_out, completed.out_of_memory) == (0, "", False, False)
    assert 0 < completed.seconds < 60


def test_a_job_that_nobody_reads_is_no_failure(session: Session) -> None:
    assert run(session, "import os; os.close(0); print(1)", job=b"x" * 1_000_000).lines == ["1"]


def test_what_it_wrote_last_is_read_when_this_host_stands_still_meanwhile(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manylambda.trial.engines import sandbox

    end, read, ends = sandbox._end, sandbox._Run._read, [0]

    def ended(*given: Any) -> None:
        end(*given)
        ends[0] += 1

    def still() -> float:
        """Of seconds that pass after the end each look takes ten."""
        ends[0] += bool(ends[0])
        return time.monotonic() + 10 * ends[0]

    monkeypatch.setattr(sandbox, "_end", ended)
    monkeypatch.setattr(sandbox._Run, "_read", lambda *given: read(*given) if ends[0] else True)
    monkeypatch.setattr(sandbox, "time", SimpleNamespace(monotonic=still, sleep=time.sleep))
    ran = run(session, "import os; os.write(1, b'one\\ntwo\\n'); os.write(2, b'log')")
    assert (ran.lines, ran.completed.log) == (["one", "two"], "log")


def test_a_line_without_end_and_bytes_that_are_no_text_are_heard_shortened(session: Session) -> None:
    ran = run(session, "import os; os.write(1, b'\\xff\\n\\nlast'); os.write(1, b'y' * 3_000_000 + b'\\nz')")
    assert [line[:10] for line in ran.lines] == ["\ufffd", "lastyyyyyy", "z"]
    assert [len(line) for line in ran.lines] == [1, 1 << 20, 1]


def test_of_a_log_the_end_is_kept(session: Session) -> None:
    log = run(session, "import os\nfor n in range(2000): os.write(2, b'%07d\\n' % n * 100)").completed.log
    assert len(log) == 64 << 10
    assert log.endswith("0001999\n")


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(7)", 7), ("import os; os._exit(3)", 3), ("import ctypes; ctypes.string_at(0)", -11),
     ("import os; os.abort()", -6), ("import os; os.kill(os.getpid(), 9)", -9)],
)  # fmt: skip
def test_how_it_ended_is_told(session: Session, code: str, status: int) -> None:
    completed = run(session, code).completed
    assert (completed.status, completed.timed_out, completed.out_of_memory) == (status, False, False)


def test_what_hear_raises_ends_the_process(session: Session) -> None:
    def hear(_: str) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.run(
            ["-c", "print(1, flush=True)\nimport time; time.sleep(1234.5)"],
            job=b"", environment={}, limits=limits(seconds=300.0), hear=hear,
        )  # fmt: skip
    assert time.monotonic() - began < 200
    assert_gone("1234.5")


def processes(mark: str) -> list[str]:
    """Give the processes of this host that have a word in their command, but for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
    return found


def assert_gone(mark: str) -> None:
    """Hold that they end: whoever has such a mark sleeps for an hour."""
    until = time.monotonic() + 60
    while processes(mark) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes(mark) == []


# What bounds it


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(4321.5)",
        "while True: pass  # 4321.5",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)  # 4321.5",
        "import os\nwhile True: os.write(1, b'x' * 4096)  # 4321.5",
        "import os\nos.close(1); os.close(2)\nimport time; time.sleep(4321.5)",
        "import time, signal as s\nfor n in {*range(1, 65)} - {9, 19, 32, 33}: s.signal(n, 1)\ntime.sleep(4321.5)",
    ],
    ids=["sleeps", "computes", "stops itself", "floods", "is silent", "ignores signals"],
)
def test_whoever_takes_too_long_is_ended(session: Session, code: str) -> None:
    completed = run(session, code, seconds=0.5).completed
    assert (completed.timed_out, completed.status) == (True, -9)
    assert completed.seconds < 60
    assert_gone("4321.5")


def test_what_it_leaves_behind_is_ended_with_it(session: Session) -> None:
    ran = run(
        session,
        "import os, sys, time\n"
        "if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    time.sleep(4322.5)\n  os._exit(0)\nprint('done')",
        seconds=300.0,
    )
    assert (ran.lines, ran.completed.status) == (["done"], 0)
    assert ran.completed.seconds < 200
    assert_gone("4322.5")


@contextlib.contextmanager
def at_most(number: int) -> Iterator[None]:
    """Let this host have so many threads more than now, and no more; another test's browser may be a hundred."""

    def count() -> int:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])

    before, seen, over = count(), [0], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            seen.append(count())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert max(seen) - before <= number


@pytest.mark.parametrize("leaves", ["None", "os.setsid()"], ids=["stays in its group", "leaves it"])
def test_a_fork_bomb_ends_before_it_fills_this_host(session: Session, leaves: str) -> None:
    # Ten generations: should nothing hold it, it is a thousand processes and no end of this host.
    # Those whom the kernel refuses another stay, until it is seen how many they are.
    code = (
        "import contextlib, os, time  # 4323.5\nfor _ in range(10):\n"
        f"  with contextlib.suppress(OSError): os.fork() or {leaves}\ntime.sleep(3600)"
    )
    with at_most(700):
        completed = run(session, code, processes=30, seconds=60.0).completed
    assert (completed.status, completed.timed_out) == (-9, False)
    assert completed.log.endswith("manylambda: ended, because it had more than 30 processes\n")
    assert_gone("4323.5")


# It stops short of the kernel's limit, where it would end by itself, until it is seen what it has.
GREEDY = "import time\nheld = []\nwhile len(held) < 60: held.append(bytearray(b'x') * (8 << 20))\ntime.sleep(3600)"


def test_who_takes_more_memory_than_allowed_is_ended(session: Session) -> None:
    completed = run(session, GREEDY, memory=200 << 20, seconds=60.0).completed
    assert (completed.out_of_memory, completed.status, completed.timed_out) == (True, -9, False)
    assert completed.peak_memory is not None
    assert 190 << 20 < completed.peak_memory < 900 << 20


def test_memory_that_processes_share_counts_once(session: Session) -> None:
    code = (
        "import os, time\nheld = bytearray(b'x') * (120 << 20)\n"
        "for _ in range(4):\n  if os.fork() == 0: time.sleep(0.5); os._exit(0)\n"
        "for _ in range(4): os.wait()\nprint('done')"
    )
    ran = run(session, code, memory=250 << 20)
    assert (ran.lines, ran.completed.out_of_memory) == (["done"], False)


def test_peak_memory_is_told(session: Session) -> None:
    completed = run(session, "import time; held = bytearray(b'x') * (300 << 20); time.sleep(2)").completed
    assert completed.peak_memory is not None
    assert 300 << 20 < completed.peak_memory < 360 << 20


def test_the_kernels_limits_are_set_before_it_starts(session: Session) -> None:
    found = told(
        session,
        "import resource as r\n"
        "told = [r.getrlimit(n) for n in (r.RLIMIT_NOFILE, r.RLIMIT_NPROC, r.RLIMIT_DATA, r.RLIMIT_CORE)]",
        processes=100, memory=512 << 20,
    )  # fmt: skip
    assert found == [[1024, 1024], [400, 400], [3 << 30, 3 << 30], [0, 0]]


# Bytecode


def test_bytecode_is_there_and_the_package_has_none_of_it(engine: RootfsEngine, tmp_path: Path) -> None:
    with opened(engine, tmp_path / "task", {"a/__init__.py": "", "a/b.py": "c = 1\n", "bad.py": "(\n"}) as one:
        found = told(
            one,
            "import os, sys\nsys.path.insert(0, '/var/task')\nimport a.b\n"
            "told = [a.b.__cached__, os.path.exists(a.b.__cached__), os.path.exists(json.__cached__),"
            " os.listdir('/var/task/a')]",
        )
    assert found[0] == "/run/bytecode/var/task/a/b.cpython-313.pyc"
    assert found[1:3] == [True, True]
    assert sorted(found[3]) == ["__init__.py", "b.py"]
    assert sorted(path.name for path in (tmp_path / "task").rglob("*")) == ["__init__.py", "a", "b.py", "bad.py"]


def test_bytecode_that_a_package_ships_is_used_as_lambda_uses_it(engine: RootfsEngine, tmp_path: Path) -> None:
    write(tmp_path / "made", {"m.py": "told = 'shipped'\n"})
    with opened(engine, tmp_path / "made", {}) as one:
        compiled = told(
            one,
            "import py_compile\nfile = py_compile.compile('/var/task/m.py', '/tmp/m.pyc', dfile='/var/task/m.py',"
            " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\ntold = open(file, 'rb').read().hex()",
        )
    shipped: dict[str, str | bytes] = {
        "m.py": "told = 'source'\n",
        "__pycache__/m.cpython-313.pyc": bytes.fromhex(compiled),
    }
    with opened(engine, tmp_path / "task", shipped) as one:
        assert told(one, "import sys; sys.path.insert(0, '/var/task')\nfrom m import told") == "shipped"


def test_damaged_bytecode_is_made_again(engine: RootfsEngine, kept: Cache, tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, '/var/task')\nfrom unique_module import told"
    files = {"unique_module.py": f"told = {time.time_ns()}  # only here\n"}
    with opened(engine, tmp_path / "empty", {}):  # the standard library's, and what else is not the package's
        before = set(kept.root.glob("v1/trial/bytecode-1/*/*/*"))
    with opened(engine, tmp_path / "task", files) as one:
        first = told(one, code)
    (entry,) = set(kept.root.glob("v1/trial/bytecode-1/*/*/*")) - before
    content = entry.read_bytes()
    for damage in (content[:40], content.replace(content[20:30], b"\0" * 10), b""):
        entry.write_bytes(damage)
        with opened(engine, tmp_path / "task", {}) as one:
            assert told(one, code) == first
        assert entry.read_bytes() == content


def test_without_bytecode_of_the_package_it_has_that_of_the_library(kept: Cache, tmp_path: Path) -> None:
    from manylambda.trial.engines import rootfs

    engine = rootfs.prepare(hosts.root(hosts.NATIVE), NATIVE, kept, compile_package=False)
    with opened(engine, tmp_path / "task", {"a.py": "x = 1\n"}) as one:
        code = "import os, sys; sys.path.insert(0, '/var/task')\nimport a\n"
        assert told(one, f"{code}told = [os.path.exists(m.__cached__) for m in (a, json)]") == [False, True]


# What it is made of


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hosts.needs("bwrap")
    path = tmp_path_factory.mktemp("tar") / "root.tar"
    with tarfile.open(path, "w") as tar:
        # Without what only people read.
        tar.add(hosts.root(hosts.NATIVE), ".", filter=lambda one: None if one.name == "./usr/share" else one)
    return path


def test_a_tar_is_unpacked_once(archive: Path, tmp_path: Path, kept: Cache) -> None:
    from manylambda.trial.engines import rootfs

    first = rootfs.prepare(archive, NATIVE, kept)
    assert first.label.startswith("bubblewrap ")
    assert ", root.tar, CPython 3.13." in first.label
    (folder,) = kept.root.glob("v1/trial/roots/*/content")
    marked = folder.stat().st_ino, folder.stat().st_ctime_ns
    engine = rootfs.prepare(archive, NATIVE, kept)
    assert (folder.stat().st_ino, folder.stat().st_ctime_ns) == marked
    with opened(engine, tmp_path / "task", {}) as one:
        assert told(one, "import ssl, sys\ntold = sys.version_info[:2]") == [3, 13]


def test_an_image_layout_of_skopeo_is_unpacked(archive: Path, tmp_path: Path, kept: Cache) -> None:
    from manylambda.trial.engines import rootfs

    hosts.needs("skopeo")
    upper = layer({"var/task/app.py": b"", "etc/.wh.debian_version": b"", "usr/added": b"x = 1\n"})
    layout(archive.read_bytes(), upper, architecture=hosts.NATIVE).folder(tmp_path / "made")
    subprocess.run(
        ["skopeo", "copy", "--quiet", f"oci:{tmp_path / 'made'}", f"oci-archive:{tmp_path / 'saved.tar'}"],
        check=True, capture_output=True,
    )  # fmt: skip
    for saved in (tmp_path / "made", tmp_path / "saved.tar"):
        engine = rootfs.prepare(saved, NATIVE, kept)
        with opened(engine, tmp_path / "task", {}) as one:
            code = "told = [open('/usr/added').read(), os.path.exists('/etc/debian_version'), os.listdir('/var/task')]"
            assert told(one, f"import os\n{code}") == ["x = 1\n", False, []]


def unpacked(tmp_path: Path, data: bytes) -> Path:
    from manylambda.trial.engines import roots

    (tmp_path / "root.tar").write_bytes(data)
    return roots.prepare(tmp_path / "root.tar", NATIVE, Cache(tmp_path / "cache")).folder


def test_links_modes_and_hard_links_are_kept_inside(tmp_path: Path) -> None:
    from manylambda.trial.engines import roots

    outside = tmp_path / "outside"
    outside.mkdir()
    folder = unpacked(
        tmp_path,
        layer({
            "usr/lib": FOLDER, "lib": Link("usr/lib"), "lib/a": b"a", "b": Hard("usr/lib/a"), "abs": Link("/usr/lib/a"),
            "out": Link(str(outside)), "out/c": b"c", "up": Link("../../../../etc/passwd"),
        }, mode=0o4751),
    )  # fmt: skip
    assert (folder / "usr/lib/a").read_bytes() == b"a"
    assert (folder / "b").samefile(folder / "usr/lib/a")
    assert (folder / "lib").readlink() == Path("usr/lib")
    assert stat.S_IMODE((folder / "b").stat().st_mode) == 0o751
    assert list(outside.iterdir()) == []
    assert (folder / str(outside)[1:] / "c").read_bytes() == b"c"
    assert roots.inside(folder, "/abs") == folder / "usr/lib/a"
    assert roots.inside(folder, "/up") is None
    assert roots.inside(folder, "/out/../b/x") is None


def test_a_member_that_leads_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match=r"unsafe path in an image layer: '../x'"):
        unpacked(tmp_path, layer({"../x": b""}))
    assert [path.name for path in (tmp_path / "cache").rglob("*.tmp")] == []
    assert list((tmp_path / "cache/v1/trial/scratch").iterdir()) == []


@pytest.mark.parametrize("harm", ["cut", "removed", "changed", "index"])
def test_a_damaged_root_is_unpacked_again(tmp_path: Path, harm: str) -> None:
    data = layer({"a/b": b"content", "a/c": b""})
    folder = unpacked(tmp_path, data)
    match harm:
        case "cut":
            (folder / "a/b").write_bytes(b"")
        case "removed":
            (folder / "a/c").unlink()
        case "changed":
            (folder / "a/b").write_bytes(b"tnetnoc")
        case _:
            (folder.parent / "index").write_bytes(b"x\n[]")
    assert unpacked(tmp_path, data) == folder
    assert (folder / "a/b").read_bytes() == b"content"
    assert (folder / "a/c").is_file()


def test_whoever_is_killed_while_unpacking_harms_nobody(tmp_path: Path) -> None:
    data = layer({f"d{n % 50}/f{n}": b"x" * 2000 for n in range(3_000)})
    (tmp_path / "root.tar").write_bytes(data)
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", _PREPARE, str(NATIVE)], cwd=tmp_path, stdout=subprocess.PIPE)
        assert process.stdout is not None
        while not list(tmp_path.glob("cache/v1/trial/roots/*.tmp/content/d1/*")) and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.stdout.close()
        if process.wait() == -signal.SIGKILL:
            break
        shutil.rmtree(tmp_path / "cache")  # on a busy machine it may be done before we have come to kill it
    else:
        pytest.fail("it always ended first")
    assert not list(tmp_path.glob("cache/v1/trial/roots/*/index"))
    folder = unpacked(tmp_path, data)
    assert sum(1 for _ in folder.rglob("f*")) == 3_000
    assert list(tmp_path.glob("cache/v1/trial/roots/*.tmp")) == []


_PREPARE = """
import sys
from pathlib import Path
from manylambda.fetch.cache import Cache
from manylambda.target import Target
from manylambda.trial.engines import roots

folder = roots.prepare(Path("root.tar"), Target.parse(sys.argv[1]), Cache(Path("cache"))).folder
print(folder.stat().st_ino, len(list(folder.iterdir())))
"""


def test_two_at_once_unpack_once(tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(layer({f"f{n}": b"x" for n in range(3000)}))
    command = [sys.executable, "-c", _PREPARE, str(NATIVE)]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [one.communicate(timeout=300)[0] for one in both]
    assert answers[0] == answers[1]
    assert answers[0].endswith(" 3000\n")


def test_what_is_no_root_file_system_is_refused(tmp_path: Path) -> None:
    from manylambda.trial.engines import roots

    (tmp_path / "text").write_text("no tar\n" * 100)
    (tmp_path / "root.tar.xz").write_bytes(b"\xfd7zXZ\0" + b"\0" * 600)
    for name, message in (
        ("text", "`text` is no root file system"),
        ("root.tar.xz", "`root.tar.xz` is compressed by xz, which is not read here"),
    ):
        with pytest.raises(RequestError) as caught:
            roots.prepare(tmp_path / name, NATIVE, Cache(tmp_path / "cache"))
        assert caught.value.message == message
    with pytest.raises(RequestError, match=r"^there is no `nothing`$"):
        roots.prepare(Path("nothing"), NATIVE, Cache(tmp_path / "cache"))


def test_a_root_of_another_machine_or_without_the_python_is_refused(tmp_path: Path) -> None:
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap")
    other = hosts.root(hosts.FOREIGN)
    with pytest.raises(TrialError) as caught:
        rootfs.prepare(other, NATIVE, Cache(tmp_path / "cache"))
    assert caught.value.message == f"`root` is for {FOREIGN.machine}, the target is {NATIVE}"
    assert caught.value.hint == f"name a root file system for {NATIVE.architecture}"
    (tmp_path / "empty/usr/bin").mkdir(parents=True)
    (tmp_path / "empty/usr/bin/python3.13").write_text("#!/bin/sh\n")
    with pytest.raises(TrialError, match=r"^`empty` has no CPython 3.13$"):
        rootfs.prepare(tmp_path / "empty", NATIVE, Cache(tmp_path / "cache"))


def test_a_root_whose_python_does_not_run_is_refused(tmp_path: Path) -> None:
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap")
    (tmp_path / "half/usr/bin").mkdir(parents=True)
    shutil.copy(hosts.root(hosts.NATIVE) / "usr/bin/python3.13", tmp_path / "half/usr/bin")
    with pytest.raises(TrialError) as caught:
        rootfs.prepare(tmp_path / "half", NATIVE, Cache(tmp_path / "cache"))
    assert caught.value.message.startswith("the Python of `half` does not run: ")
    assert "No such file or directory" in caught.value.message


def test_what_a_pass_proves_is_told(engine: RootfsEngine) -> None:
    assert engine.proof.proved.startswith("with CPython 3.13.")
    assert engine.proof.proved.endswith(f" on {NATIVE.machine}, in a sandbox")
    assert engine.proof.open == (
        "the C library here is glibc 2.41, the runtime's is glibc 2.34: only the audit judges that, and the runtime's "
        "other libraries"
    )
    assert engine.name == "rootfs"
    assert engine.runs_native()
    assert engine.wants_runtime


def test_an_image_of_the_runtime_is_known_by_its_python(kept: Cache, tmp_path: Path) -> None:
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap")
    made = tmp_path / "image"
    for name in ("etc", "usr/lib", "usr/bin"):
        shutil.copytree(hosts.root(hosts.NATIVE) / name, made / name, symlinks=True)
    for name in ("lib", "lib64"):
        if (made / "usr" / name).is_dir():
            (made / name).symlink_to(f"usr/{name}")
    if not (made / "usr/lib64").exists() and (hosts.root(hosts.NATIVE) / "usr/lib64").exists():
        shutil.copytree(hosts.root(hosts.NATIVE) / "usr/lib64", made / "usr/lib64", symlinks=True)
        (made / "lib64").symlink_to("usr/lib64")
    for name in ("bin", "lib"):
        (made / "var/lang" / name).mkdir(parents=True)
        (made / "usr" / name / "python3.13").rename(made / "var/lang" / name / "python3.13")
    (made / "var/task").mkdir()
    (made / "var/task/old.py").write_text("")
    (made / "tmp").mkdir()
    (made / "tmp/old").write_text("")
    (made / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nother:x:993:1::/:/bin/sh\n")
    engine = rootfs.prepare(made, NATIVE, kept)
    assert not engine.wants_runtime
    assert engine.proof.open == (
        "the image of the runtime has more libraries than the managed runtime: only the audit judges what it has not"
    )
    with opened(engine, tmp_path / "task", {"app.py": ""}) as one:
        found = told(
            one,
            "import os, pwd, sys\ntold = [sys.executable, sys.prefix, os.listdir('/var/task'), os.listdir('/tmp'),"
            " [one.pw_name for one in pwd.getpwall()], os.path.exists(json.__cached__), sorted(os.listdir('/var'))]",
        )
    assert found == [
        "/var/lang/bin/python3.13", "/var/lang", ["app.py"], [], ["root", "sbx_user1051"], True,
        ["lang", "manylambda", "task"],
    ]  # fmt: skip
    assert engine.proof.proved.startswith("with CPython 3.13.")


@pytest.mark.parametrize("variable", [("A=B", "c"), ("", "c"), ("A", "b\0--bind\0/\0/mnt")])
def test_a_variable_that_cannot_be_one_is_refused(session: Session, variable: tuple[str, str]) -> None:
    with pytest.raises(TrialError, match=r"^this cannot be a variable of the environment: '"):
        run(session, "pass", environment=dict([variable]))


# Another machine


@pytest.fixture(scope="session")
def emulated(kept: Cache) -> RootfsEngine:
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap", f"qemu-{FOREIGN.machine}-static")
    return rootfs.prepare(hosts.root(hosts.FOREIGN), FOREIGN, kept)


@pytest.mark.network
def test_a_package_of_another_machine_is_imported(emulated: RootfsEngine, tmp_path: Path, shared_cache: Path) -> None:
    (tmp_path / "requirements.txt").write_text("orjson==3.11.4\n")
    built = subprocess.run(
        [sys.executable, "-m", "manylambda", "build", "-r", "requirements.txt", "-t", str(FOREIGN), "--kind", "dir",
         "-o", "out", "--name", "api"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "MANYLAMBDA_CACHE_DIR": str(shared_cache)},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (folder,) = (tmp_path / "out").iterdir()
    with opened(emulated, folder, {}) as one:
        found = told(
            one,
            "import os, platform, subprocess, sys\nsys.path.insert(0, '/var/task')\nimport orjson\n"
            "told = [platform.machine(), orjson.dumps({'a': 1}).decode(), sys.executable, orjson.__cached__,"
            " os.getuid()]",
        )
        assert found == [
            FOREIGN.machine, '{"a":1}', "/usr/bin/python3.13",
            "/run/bytecode/var/task/orjson/__init__.cpython-313.pyc", 993,
        ]  # fmt: skip
        ran = run(one, "import time\nheld = bytearray(b'x') * (100 << 20); time.sleep(0.3)")
        assert (ran.completed.status, ran.completed.peak_memory) == (0, None)
        late = run(one, "import time; time.sleep(4324.5)", seconds=1.0).completed
        assert (late.timed_out, late.status) == (True, -9)
        greedy = run(one, GREEDY, memory=200 << 20, seconds=120.0).completed
        assert (greedy.out_of_memory, greedy.status) == (True, -9)
    assert ", qemu " in emulated.label
    assert emulated.proof.open.endswith("; programs that a module starts are not emulated, and fail")


def test_a_program_that_an_emulated_one_starts_is_not_emulated(emulated: RootfsEngine, tmp_path: Path) -> None:
    with opened(emulated, tmp_path / "task", {}) as one:
        ran = run(one, "import subprocess, sys\nprint(subprocess.run([sys.executable, '-V']).returncode)")
    assert ran.lines != ["0"]


# Who can make it


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manylambda.host.model import Unusable
    from manylambda.trial.engines import rootfs

    hosts.needs("bwrap")
    bubblewrap = shutil.which("bwrap")
    assert bubblewrap is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert rootfs.detect(NATIVE) == Unusable("rootfs", "no bubblewrap (`bwrap`) on the path", install("bubblewrap"))
    (tmp_path / "bwrap").symlink_to(bubblewrap)
    assert not isinstance(rootfs.detect(NATIVE), Unusable)
    machine, here = FOREIGN.machine, NATIVE.machine
    assert rootfs.detect(FOREIGN) == Unusable(
        "rootfs",
        f"no emulator of {machine} on this {here} host: `qemu-{machine}-static` is not on the path",
        install("qemu"),
    )
    (tmp_path / f"qemu-{machine}").symlink_to("/bin/ls")
    found = rootfs.detect(FOREIGN)
    assert isinstance(found, Unusable)
    assert found.reason.endswith(f"`qemu-{machine}` is there, but it is not linked statically")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("setting up uid map: Permission denied", "kernel.apparmor_restrict_unprivileged_userns"),
        ("loopback: Failed RTM_NEWADDR: Operation not permitted", "kernel.apparmor_restrict_unprivileged_userns"),
        ("No permissions to create new namespace, likely because ...", "user.max_user_namespaces"),
        ("Creating new namespace failed: Operation not permitted", "seccomp=unconfined"),
    ],
)
def test_why_namespaces_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, hint: str
) -> None:
    from manylambda.host.model import Unusable
    from manylambda.trial.engines import rootfs

    (tmp_path / "bwrap").write_text(f"#!/bin/sh\necho 'bwrap: {words}' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = rootfs.detect(NATIVE)
    assert isinstance(found, Unusable)
    assert found.reason == f"bubblewrap cannot make namespaces: {words}"
    assert found.hint is not None
    assert hint in found.hint
    with pytest.raises(TrialError) as caught:
        rootfs.prepare(tmp_path, NATIVE, Cache(tmp_path / "cache"))
    assert caught.value.message == found.reason


def test_an_environment_that_cannot_be_made_is_an_error(engine: RootfsEngine, tmp_path: Path) -> None:
    from manylambda.trial.model import Mounts

    with pytest.raises(TrialError, match=r"^there is no folder `"):
        engine.open(Mounts(tmp_path / "nothing", None, None))
    write(tmp_path / "task", {})
    one = engine.open(Mounts(tmp_path / "task", None, None))
    (tmp_path / "task").rmdir()
    with pytest.raises(
        TrialError, match=r"^bubblewrap cannot make the environment: Can't find source path .*task: No such"
    ):
        run(one, "pass")
    one.close()


def test_bubblewrap_that_fails_before_its_process_is_looked_at_says_why(
    engine: RootfsEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manylambda.trial.engines import sandbox
    from manylambda.trial.model import Mounts

    write(tmp_path / "task", {})
    one = engine.open(Mounts(tmp_path / "task", None, None))
    (tmp_path / "task").rmdir()
    child = sandbox._child
    gone: list[int] = []

    def late(told: IO[bytes]) -> int | None:
        number = child(told)
        assert number is not None
        until = time.monotonic() + 60
        while Path("/proc", str(number)).exists():
            assert time.monotonic() < until
            time.sleep(0.001)
        gone.append(number)
        return number

    monkeypatch.setattr(sandbox, "_child", late)
    with pytest.raises(
        TrialError, match=r"^bubblewrap cannot make the environment: Can't find source path .*task: No such"
    ):
        run(one, "pass")
    assert gone
    one.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_makes_the_same(archive: Path, kept: Cache) -> None:
    folder = Path(tempfile.mkdtemp(prefix="manylambda-test-"))
    try:
        folder.chmod(0o755)
        shutil.copy(archive, folder / "root.tar")
        write(folder / "task", {"app.py": f"x = {time.time_ns()}  # has no bytecode yet\n"})
        (folder / "home").mkdir()
        os.chown(folder / "home", 54_321, 54_321)
        (folder / "main.py").write_text(_AS_USER)
        # This user may not be able to read the repository, nor this Python: it becomes itself when all is loaded.
        shutil.copytree(Path(manylambda.__file__).parent, folder / "source" / "manylambda")
        done = subprocess.run(
            [sys.executable, str(folder / "main.py"), str(folder), str(NATIVE), str(kept.root)],
            capture_output=True, text=True, check=False, timeout=600,
            env={"PATH": os.environ["PATH"], "HOME": str(folder / "home"),
                 "PYTHONPATH": os.pathsep.join([str(folder / "source"), *sys.path])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        same = [
            [993, 990, "Read-only file system", "Read-only file system", None, ["lo"], ["app.py"]],
            -9, False, True, True,
        ]  # fmt: skip
        assert json.loads(done.stdout) == [same, same, [54_321] * 3]
        owners = {path.lstat().st_uid for path in (folder / "home/cache").rglob("*")}
        assert owners == {54_321}
    finally:
        shutil.rmtree(folder)
    assert_gone("4325.5")


_AS_USER = r"""
import json, os, sys
from pathlib import Path
from manylambda.fetch.cache import Cache
from manylambda.target import Target
from manylambda.trial.engines import rootfs
from manylambda.trial.model import Limits, Mounts

FIRST = '''
import json, os, socket
def why(path):
    try: open(path, "ab").close()
    except OSError as error: return error.strerror
print(json.dumps([os.getuid(), os.getgid(), why("/var/task/x"), why("/x"), why("/tmp/x"),
    [name for _, name in socket.if_nameindex()], os.listdir("/var/task")]))
'''
BOMB = '''
import contextlib, os, time  # 4325.5
for _ in range(10):
    with contextlib.suppress(OSError): os.fork()
time.sleep(3600)
'''
GREEDY = "import time\nheld = []\nwhile len(held) < 60: held.append(bytearray(b'x') * (8 << 20))\ntime.sleep(3600)"

def tried(folder, target, cache):
    engine = rootfs.prepare(folder / "root.tar", target, Cache(cache))
    session = engine.open(Mounts(folder / "task", None, None))
    lines = []
    def run(code, **bounds):
        bounds = Limits(seconds=60.0)._replace(**bounds)
        return session.run(["-c", code], job=b"", environment={}, limits=bounds, hear=lines.append)
    first = run(FIRST)
    assert first.status == 0, first.log
    bomb, late = run(BOMB, processes=30), run("import time; time.sleep(4325.5)", seconds=0.5)
    greedy = run(GREEDY, memory=200 << 20)
    session.close()
    return [json.loads(lines[0]), bomb.status, bomb.timed_out, late.timed_out, greedy.out_of_memory]

folder, target = Path(sys.argv[1]), Target.parse(sys.argv[2])
as_root = tried(folder, target, Path(sys.argv[3]))
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
print(json.dumps([as_root, tried(folder, target, folder / "home" / "cache"), os.getresuid()]))
"""
