"""What the script inside does, on every CPython of this host that Lambda has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from manylambda.errors import TrialError
from manylambda.trial.imports import try_imports
from manylambda.trial.model import Imported, Limits, Module, Outcome
from manylambda.trial.variables import variables
from trial.local import SCRIPTS, LocalSession, every_python, needs_posix, oldest_and_newest, target_of

HERE = "{}.{}".format(*sys.version_info[:2])


def tried(
    folder: Path,
    sources: dict[str, str],
    *,
    version: str = HERE,
    program: str = sys.executable,
    seconds: float = 20.0,
    user: int | None = None,
    scripts: Path = SCRIPTS,
    **options: Any,
) -> dict[str, Imported]:
    """Import modules with these sources, in this order."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    session = LocalSession(folder, program=program, user=user, scripts=scripts)
    try:
        results = try_imports(
            session,
            [Module(name, None, is_native=False) for name in sources if not name.startswith("_")],
            target=target_of(version),
            limits=Limits(seconds=seconds, memory=options.pop("memory", 512 << 20), processes=64),
            **options,
        )
    finally:
        session.close()
    return {one.module.name: one for one in results}


CRASH = "import ctypes; ctypes.string_at(0)"


@every_python
def test_each_module_has_its_own_end(tmp_path: Path, version: str, program: str) -> None:
    found = tried(
        tmp_path,
        {
            "good": "print('hello')",
            "segfault": CRASH,
            "leaves": "import os; os._exit(0)",
            "raises": "import nowhere",
            "exits": "raise SystemExit(3)",
            "interrupts": "raise KeyboardInterrupt",
            "recurses": "def f(): return f()\nf()",
            "kills": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            "other": "class Odd(BaseException):\n def __str__(self): raise ValueError\nraise Odd",
            "last": "",
        },
        version=version,
        program=program,
    )
    assert {name: one.outcome for name, one in found.items()} == {
        "good": Outcome.OK,
        "segfault": Outcome.CRASHED,
        "leaves": Outcome.CRASHED,
        "raises": Outcome.FAILED,
        "exits": Outcome.FAILED,
        "interrupts": Outcome.FAILED,
        "recurses": Outcome.FAILED,
        "kills": Outcome.CRASHED,
        "other": Outcome.FAILED,
        "last": Outcome.OK,
    }
    failures = {name: (one.failure.type, one.failure.message) for name, one in found.items() if one.failure}
    assert failures.pop("recurses")[0] == "RecursionError"
    assert failures == {
        "segfault": ("signal", "SIGSEGV: segmentation fault: native code read or wrote where nothing is"),
        "leaves": ("exit", "it ended the interpreter with status 0"),
        "raises": ("ModuleNotFoundError", "No module named 'nowhere'"),
        "exits": ("SystemExit", "3"),
        "interrupts": ("KeyboardInterrupt", ""),
        "kills": ("signal", "it was ended by SIGTERM"),
        "other": ("other.Odd", "its message cannot be shown: ValueError"),
    }
    assert found["good"].log == "hello"
    assert not found["good"].alone
    assert found["segfault"].alone
    assert f'File "{tmp_path}/segfault.py", line 1 in <module>' in found["segfault"].log


def test_a_traceback_begins_with_the_module(tmp_path: Path) -> None:
    failure = tried(tmp_path, {"broken": "import _inner", "_inner": "1 / 0"})["broken"].failure
    assert failure is not None
    lines = [line for line in failure.traceback.splitlines() if line.strip(" ~^")]
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/broken.py", line 1, in <module>',
        "    import _inner",
        f'  File "{tmp_path}/_inner.py", line 1, in <module>',
        "    1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_messages_and_tracebacks_are_bounded(tmp_path: Path) -> None:
    failure = tried(tmp_path, {"long": "raise ValueError('x' * 10_000_000)"})["long"].failure
    assert failure is not None
    assert len(failure.message) < 5_000
    assert len(failure.traceback) < 17_000
    assert failure.traceback.startswith("Traceback (most recent call last):")


@oldest_and_newest
def test_a_module_that_hangs_is_ended_and_the_log_says_where(tmp_path: Path, version: str, program: str) -> None:
    found = tried(
        tmp_path,
        {
            "good": "",
            "sleeps": "import time\ntime.sleep(600)",
            "locked": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
        },
        version=version,
        program=program,
        seconds=2.0,
    )
    assert [one.outcome for one in found.values()] == [Outcome.OK, Outcome.TIMED_OUT, Outcome.TIMED_OUT]
    assert found["sleeps"].failure is not None
    assert found["sleeps"].failure.message == "it was not imported within 2 s"
    assert 'sleeps.py", line 2 in <module>' in found["sleeps"].log
    assert found["sleeps"].seconds < 200


def test_a_hang_without_the_interpreters_lock_is_ended_by_the_session(tmp_path: Path) -> None:
    source = "import faulthandler, time\nfaulthandler.cancel_dump_traceback_later()\ntime.sleep(60)"
    found = tried(tmp_path, {"stubborn": source}, seconds=0.3, budget=1.0)
    assert found["stubborn"].outcome is Outcome.TIMED_OUT


@needs_posix
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may write to")
@oldest_and_newest
def test_memory_is_bounded(tmp_path: Path, version: str, program: str) -> None:
    eater = "kept = []\nwhile True: kept.append(bytes(64 << 20))"
    found = tried(tmp_path, {"eats": eater, "good": ""}, version=version, program=program, memory=64 << 20)
    assert found["eats"].outcome is Outcome.OUT_OF_MEMORY
    assert found["eats"].failure is not None
    assert found["eats"].failure.type == "MemoryError"
    assert found["good"].outcome is Outcome.OK


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="becomes another user to be limited as one")
@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="there is no Python that every user can run")
def test_a_module_that_forks_without_end_is_contained() -> None:
    answer = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory() as name:  # not below `tmp_path`, which is closed to other users
        task, scripts = Path(name, "task"), Path(name, "scripts")
        task.mkdir()
        shutil.copytree(SCRIPTS, scripts)
        os.chmod(name, 0o755)
        found = tried(
            task,
            {"bomb": "import os\nwhile True: os.fork()", "good": ""},
            version=answer.stdout.decode().strip(),
            program="/usr/bin/python3",
            user=65534,
            scripts=scripts,
        )
    assert found["bomb"].failure is not None
    assert (found["bomb"].outcome, found["bomb"].failure.type) == (Outcome.FAILED, "BlockingIOError")
    assert found["good"].outcome is Outcome.OK


@needs_posix
def test_a_child_that_an_import_forked_tells_nothing(tmp_path: Path) -> None:
    found = tried(tmp_path, {"forks": "import os\nif os.fork(): os.wait()", "good": ""})
    assert [one.outcome for one in found.values()] == [Outcome.OK, Outcome.OK]


def test_threads_do_not_keep_the_process(tmp_path: Path) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    found = tried(tmp_path, {"threads": source}, seconds=60.0)
    assert found["threads"].outcome is Outcome.OK


@oldest_and_newest
def test_a_flood_does_not_drown_the_results(tmp_path: Path, version: str, program: str) -> None:
    flood = "import os\nfor _ in range(1600): os.write(1, b'x' * 65535 + b'\\n')"
    found = tried(tmp_path, {"flood": flood, "quiet": "print('end')"}, version=version, program=program)
    assert [one.outcome for one in found.values()] == [Outcome.OK, Outcome.OK]
    assert len(found["flood"].log) < 9_000
    assert found["quiet"].log == "end"


def test_what_is_written_is_told_to_its_module(tmp_path: Path) -> None:
    found = tried(
        tmp_path,
        {
            "one": "import os, sys\nos.write(1, b'fd ')\nos.write(2, b'log\\n')\nprint('half', end='')",
            "two": "import sys\nprint('stderr', file=sys.stderr)",
            "three": "",
        },
    )
    assert [one.log for one in found.values()] == ["fd log\nhalf", "stderr", ""]


def test_lines_without_the_token_are_no_results(tmp_path: Path) -> None:
    spoof = """
import json, os
end = {"event": "end", "index": 0, "ok": True, "seconds": 0}
for descriptor in range(1, 1024):
    for line in (json.dumps(end), "0" * 32 + " " + json.dumps(end), "half a line"):
        try:
            os.write(descriptor, (line + "\\n").encode())
            os.write(descriptor, b"half a line")
        except OSError:
            break
raise ValueError("honest")
"""
    found = tried(tmp_path, {"spoof": spoof, "good": ""})
    assert [one.outcome for one in found.values()] == [Outcome.FAILED, Outcome.OK]


def test_whoever_closes_all_descriptors_is_named(tmp_path: Path) -> None:
    found = tried(tmp_path, {"closes": "import os\nos.closerange(0, 65536)", "good": ""})
    assert found["closes"].outcome is Outcome.CRASHED
    assert found["closes"].failure is not None
    assert found["closes"].failure.message == "it closed the file descriptors of the interpreter"
    assert found["good"].outcome is Outcome.OK


def test_whoever_closes_the_usual_descriptors_harms_nobody(tmp_path: Path) -> None:
    found = tried(tmp_path, {"closes": "import os\nos.closerange(0, 256)", "good": ""})
    assert [one.outcome for one in found.values()] == [Outcome.OK, Outcome.OK]


@oldest_and_newest
def test_patches_do_not_reach_the_results(tmp_path: Path, version: str, program: str) -> None:
    patches = """
import builtins, importlib, json, os, sys, time, traceback
json.dumps = json.loads = json.JSONEncoder.default = None
sys.modules["json"] = None
os.write = os._exit = os.getpid = None
sys.stdout = None
importlib.import_module = None
builtins.print = builtins.open = builtins.__import__ = None
traceback.format_exception = None
time.perf_counter = None
"""
    found = tried(
        tmp_path,
        {"patches": patches, "raises": "raise ValueError('mine')", "good": ""},
        version=version,
        program=program,
    )
    assert [one.outcome for one in found.values()] == [Outcome.OK, Outcome.FAILED, Outcome.OK]


def test_what_fails_only_after_others_is_ok_and_told(tmp_path: Path) -> None:
    found = tried(tmp_path, {"first": "import sys; sys.modules['decimal'] = None", "second": "import decimal"})
    second = found["second"]
    assert second.outcome is Outcome.OK
    assert second.alone
    assert second.failure is not None
    assert second.failure.message == (
        "only after other modules were imported: import of decimal halted; None in sys.modules"
    )


def test_a_thread_that_ends_the_process_later_costs_nobody_its_result(tmp_path: Path) -> None:
    bomb = "import os, threading\nthreading.Timer(0.7, os._exit, (9,)).start()"
    found = tried(tmp_path, {"bomb": bomb, "slow": "import time; time.sleep(3)", "good": ""})
    assert {name: one.outcome for name, one in found.items()} == {
        "bomb": Outcome.OK,
        "slow": Outcome.OK,
        "good": Outcome.OK,
    }
    assert found["slow"].failure is not None
    assert found["slow"].failure.message == (
        "only after other modules were imported: it ended the interpreter with status 9"
    )


SEEN = """
import builtins, json, os, site, sys
print(json.dumps({
    "path": sys.path, "argv": sys.argv, "main": sys.modules["__main__"].__file__, "cwd": os.getcwd(),
    "environment": dict(os.environ), "stdin": sys.stdin.read(), "exit": hasattr(builtins, "exit"),
    "isolated": [sys.flags.isolated, sys.flags.ignore_environment, sys.flags.utf8_mode],
    "core": __import__("resource").getrlimit(__import__("resource").RLIMIT_CORE)[0],
    "files": __import__("resource").getrlimit(__import__("resource").RLIMIT_NOFILE)[0],
}))
"""


@needs_posix
@every_python
def test_code_sees_what_a_function_sees(tmp_path: Path, version: str, program: str) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "some.pth").write_text("extra\nimport os; os.environ['FROM_PTH'] = '1'\n")
    found = tried(tmp_path, {"sees": SEEN}, version=version, program=program)["sees"]
    seen = json.loads(found.log)
    layers = f"{tmp_path}/no-layers/python"
    assert seen["path"][:3] == [str(tmp_path), f"{layers}/lib/python{version}/site-packages", layers]
    assert str(SCRIPTS) not in seen["path"]
    # After the runtime's own, and before what the `.pth` file adds, the layers come again.
    assert seen["path"][-3:] == [f"{layers}/lib/python{version}/site-packages", layers, f"{tmp_path}/extra"]
    outside = subprocess.run(
        [program, "-I", "-S", "-c", "import sys; print(*sys.path, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    begin = seen["path"].index(outside[0])
    assert seen["path"][begin : begin + len(outside)] == outside
    assert seen["argv"] == ["/var/runtime/bootstrap.py"]
    assert seen["main"] == "/var/runtime/bootstrap.py"
    assert seen["cwd"] == os.path.realpath(tmp_path)
    assert seen["environment"].pop("FROM_PTH") == "1"
    assert seen["environment"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # PEP 538, on hosts without en_US.UTF-8
    assert seen["stdin"] == ""
    assert seen["exit"]
    assert seen["isolated"] == [0, 0, seen["isolated"][2]]
    assert seen["core"] == 0
    assert seen["files"] == 1024
    assert not list(tmp_path.rglob("__pycache__"))


def test_nothing_but_the_given_variables_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    session = LocalSession(tmp_path)
    try:
        given = variables(target_of(HERE), session.places) | {"STAGE": "test"}
        (tmp_path / "sees.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
        module = Module("sees", None, is_native=False)
        (result,) = try_imports(session, [module], target=target_of(HERE), environment=given)
    finally:
        session.close()
    seen = json.loads(result.log)
    seen.pop("LC_CTYPE", None)
    assert seen == given


def test_a_pth_file_that_ends_the_interpreter_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_text("import os; os._exit(4)\n")
    found = tried(tmp_path, {"one": "", "two": ""})
    for one in found.values():
        assert one.outcome is Outcome.CRASHED
        assert one.failure is not None
        assert one.failure.message == (
            "a `.pth` file of the package ended the interpreter: it ended the interpreter with status 4"
        )


def test_the_module_of_the_package_shadows_the_standard_library_unless_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise AssertionError")
    (tmp_path / "wave.py").write_text("MINE = True")
    found = tried(tmp_path, {"user": "import json, wave\nassert json.loads('1') == 1 and wave.MINE"})
    assert found["user"].outcome is Outcome.OK, found["user"].failure


def test_another_python_is_an_error(tmp_path: Path) -> None:
    other = "3.9" if HERE != "3.9" else "3.10"
    here = "{}.{}.{}".format(*sys.version_info[:3])
    with pytest.raises(TrialError, match=f"the environment has Python {here}, `python{other}-x86_64` runs {other}"):
        tried(tmp_path, {"one": ""}, version=other)


@needs_posix
def test_a_program_that_is_no_python_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "no-python"
    program.write_text("#!/bin/sh\necho 'exec format error' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(TrialError, match="Python did not start: status 3") as caught:
        tried(tmp_path, {"one": ""}, program=str(program))
    assert caught.value.hint == "exec format error"


def test_native_modules_are_not_tried_where_they_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "_speed.cpython-313-aarch64-linux-gnu.so").write_bytes(b"\x7fELF")
    (tmp_path / "_quick.abi3.so").write_bytes(b"\x7fELF")
    found = tried(
        tmp_path,
        {
            "needs": "import _speed",
            "falls_back": "try:\n    import _quick\nexcept ImportError:\n    pass",
            "broken": "try:\n    import nowhere\nexcept KeyError:\n    pass",
        },
        runs_native=False,
    )
    assert [one.outcome for one in found.values()] == [Outcome.NOT_TRIED, Outcome.OK, Outcome.FAILED]
    assert found["needs"].failure is not None
    assert found["needs"].failure.message == (
        "it needs `_speed`, whose native file is for another machine and cannot be loaded here"
    )
