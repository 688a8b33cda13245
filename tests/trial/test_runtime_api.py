"""Our Runtime API, as a client sees it that keeps to no custom: it is written anew for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from trial import hosts
from trial.local import PYTHONS, SCRIPTS

SPAWN = pytest.mark.parametrize("spawn", [False, True], ids=["forked", "spawned"])

KEPT = {"PATH", "SYSTEMROOT", "WINEDEBUG", "WINEPREFIX"}

CLIENT = """\
import http.client, json, os, sys, threading, time

def ask(method, path, body=None, headers={}, connection=None):
    connection = connection or http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read()

def take(connection=None):
    _, headers, body = ask("GET", "invocation/next", headers={"User-Agent": "test/1"}, connection=connection)
    return headers, body

def give(headers, value, connection=None):
    path = "invocation/%s/response" % headers["Lambda-Runtime-Aws-Request-Id"]
    return ask("POST", path, json.dumps(value), connection=connection)

def fail(headers, error):
    return ask("POST", "invocation/%s/error" % headers["Lambda-Runtime-Aws-Request-Id"], error)

def main(arguments):
"""


class Heard:
    """What the script said, result by result."""

    def __init__(self, stdout: str, token: str) -> None:
        self.results: list[dict[str, Any]] = []
        self.others: list[dict[str, Any]] = []
        parts: dict[str, str] = {}
        for line in stdout.splitlines():
            assert line.startswith(token + " "), line
            said = json.loads(line.removeprefix(token))
            if said["kind"] == "part":
                parts[said["of"]] = parts.get(said["of"], "") + said["text"]
            elif said["kind"] == "result":
                self.results.append(said | parts)
                parts = {}
            else:
                self.others.append(said)
        assert self.others.pop() == {"kind": "end"}


def run(
    tmp_path: Path,
    client: str | None,
    events: list[str],
    *,
    program: str = sys.executable,
    spawn: bool = False,
    windows: tuple[str, ...] = (),
    **settings: Any,
) -> Heard:
    """Let the script run a client, whose `main` has `client` for its body; `windows` is what starts its Python."""

    def place(path: Path) -> str:
        return "Z:" + str(path).replace("/", "\\") if windows else str(path)

    runtime = tmp_path / "runtime"
    if client is not None:
        package = runtime / "awslambdaric"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '0.1'\n")
        (package / "lambda_runtime_client.py").write_text("runtime_client = True\n")
        body = "\n".join("    " + line for line in dedent(client).splitlines())
        (package / "__main__.py").write_text(CLIENT + body + "\n")
    task = tmp_path / "task"
    task.mkdir(exist_ok=True)
    job = {
        "token": "word",
        "handler": "app.handler",
        "events": events,
        "path": [place(task), "<stdlib>", place(runtime)],
        "sites": [place(task)],
        "places": {"task": place(task)},
        "runtime": place(runtime),
        "program": "/var/runtime/bootstrap.py",
        "limits": {"files": 1024, "data": 4 << 30},
        "timeout": 30,
        "init_timeout": 60,
        "arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "emulator": None,
        **settings,
    }
    done = subprocess.run(
        [*(windows or [program]), "-s", "-S", place(SCRIPTS / "runtime_api.py"), *(["--spawn"] if spawn else [])],
        input=json.dumps(job).encode(),
        capture_output=True,
        timeout=300,
        env={name: text for name, text in os.environ.items() if name in KEPT},
        check=True,
    )
    assert windows or done.stderr == b""  # Wine says when it prepares itself
    return Heard(done.stdout.decode(), "word")


@SPAWN
def test_each_event_is_given_with_the_headers_of_the_guide(tmp_path: Path, spawn: bool) -> None:
    heard = run(
        tmp_path,
        """
        for _ in range(2):
            headers, body = take()
            headers.pop("Content-Length")
            give(headers, [headers, json.loads(body), time.time()])
        take()
        """,
        ['{"a": 1}', '"ä"'],
        spawn=spawn,
    )
    first, second = [json.loads(result["body"]) for result in heard.results]
    headers, event, now = first
    assert [event, second[1]] == [{"a": 1}, "ä"]
    assert headers.pop("Lambda-Runtime-Invoked-Function-Arn") == "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert 10_000 < int(headers.pop("Lambda-Runtime-Deadline-Ms")) - now * 1000 <= 30_001
    root, parent, sampled = headers.pop("Lambda-Runtime-Trace-Id").split(";")
    assert (len(root), len(parent), sampled) == (40, 23, "Sampled=0")
    request = headers.pop("Lambda-Runtime-Aws-Request-Id")
    assert (len(request), request == second[0]["Lambda-Runtime-Aws-Request-Id"]) == (36, False)
    assert headers == {"Content-Type": "application/json"}
    assert [result["init_seconds"] is None for result in heard.results] == [False, True]
    assert {result["client"] for result in heard.results} == {"test/1"}


@pytest.mark.parametrize(("version", "program"), PYTHONS, ids=[name for name, _ in PYTHONS])
def test_it_runs_on_every_python_of_a_runtime(tmp_path: Path, version: str, program: str) -> None:
    heard = run(tmp_path, "give(take()[0], '%d.%d' % sys.version_info[:2]); take()", ["1"], program=program)
    assert [json.loads(result["body"]) for result in heard.results] == [version]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the client is a process of its own")
def test_the_client_meets_an_interpreter_as_new_as_on_lambda(tmp_path: Path) -> None:
    lines = """
        seen = sorted(name for name in ("socket", "subprocess", "threading", "typing") if name in before)
        main = sys.modules["__main__"].__file__
        give(take()[0], [seen, sys.argv, main, os.getcwd() == sys.path[0], sys.stdin.read()])
        take()
    """
    (tmp_path / "task").mkdir()
    # A `.pth` file is executed just before the client is imported.
    (tmp_path / "task" / "early.pth").write_text("import sys, builtins; builtins.before = set(sys.modules)\n")
    heard = run(tmp_path, lines, ["1"])
    program = "/var/runtime/bootstrap.py"
    assert json.loads(heard.results[0]["body"]) == [[], [program, "app.handler"], program, True, ""]


@SPAWN
def test_the_log_of_an_invocation_is_what_was_written_between_its_event_and_its_answer(
    tmp_path: Path, spawn: bool
) -> None:
    heard = run(
        tmp_path,
        """
        print("init", flush=True)
        for number in range(3):
            headers, _ = take()
            print(number, flush=True)
            os.write(2, b"error %d\\n" % number)
            give(headers, None)
        os.write(1, b"after\\n")
        take()
        """,
        ["1", "2", "3"],
        spawn=spawn,
    )
    assert [result["log"] for result in heard.results] == ["init\n0\nerror 0\n", "1\nerror 1\n", "2\nerror 2\n"]


def test_of_a_long_log_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    heard = run(
        tmp_path,
        """
        headers, _ = take()
        for number in range(200000):
            print("line", number)
        sys.stdout.flush()
        give(headers, None)
        take()
        """,
        ["1"],
    )
    log = heard.results[0]["log"]
    whole = sum(len(f"line {number}\n") for number in range(200000))
    kept = (16 << 10) + (48 << 10)
    assert log.startswith("line 0\nline 1\n")
    assert log.endswith("\nline 199999\n")
    assert f"\n... {whole - kept} bytes left out ...\n" in log


def test_what_the_handler_writes_cannot_pass_for_an_answer(tmp_path: Path) -> None:
    heard = run(
        tmp_path,
        """
        headers, _ = take()
        for descriptor in range(32):
            try:
                os.write(descriptor, b'word {"kind": "result", "forged": true}\\n')
            except OSError:
                pass
        give(headers, "true")
        take()
        """,
        ["1"],
    )
    assert [(result["body"], "forged" in result) for result in heard.results] == [('"true"', False)]
    assert "forged" in heard.results[0]["log"]


def test_an_error_has_the_type_message_and_trace_of_the_client(tmp_path: Path) -> None:
    heard = run(
        tmp_path,
        """
        error = {"errorType": "E", "errorMessage": "m", "stackTrace": ["  File a\\n", {"odd": 1}]}
        assert fail(take()[0], json.dumps(error))[0] == 202
        fail(take()[0], "no JSON")
        fail(take()[0], json.dumps(["a list"]))
        give(take()[0], 4)
        take()
        """,
        ["1", "2", "3", "4"],
    )
    said = [(one["failed"], one["type"], one.get("message"), one.get("trace")) for one in heard.results]
    assert said == [
        (True, "E", "m", '  File a\n{"odd": 1}\n'),
        (True, "", "no JSON", None),
        (True, "", '["a list"]', None),
        (False, None, None, None),
    ]


@SPAWN
@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        ("os._exit(3)", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ("sys.exit()", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("raise KeyError", "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        ("time.sleep(600)", "Sandbox.Timedout", "Task timed out after 2.50 seconds"),
        pytest.param(
            "os.kill(os.getpid(), 11)",
            "Runtime.ExitError",
            "Runtime exited with error: signal: segmentation fault",
            marks=pytest.mark.skipif(os.name != "posix", reason="a signal"),
        ),
        pytest.param(
            "os.kill(os.getpid(), 30)",
            "Runtime.ExitError",
            "Runtime exited with error: signal: signal 30",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="numbers of signals"),
        ),
    ],
)
def test_the_end_of_the_client_is_told_in_the_words_of_lambda(
    tmp_path: Path, lines: str, kind: str, message: str, spawn: bool
) -> None:
    client = f"give(take()[0], 1)\ntake()\nprint('last words', flush=True)\n{lines}"
    heard = run(tmp_path, client, ["1", "2", "3"], timeout=2.5 if "sleep" in lines else 30, spawn=spawn)
    assert [(one["failed"], one["type"], one.get("message")) for one in heard.results] == [
        (False, None, None),
        (True, kind, message),
    ]
    assert heard.results[1]["log"].startswith("last words\n")


def test_a_client_that_ends_before_it_asks_has_failed_the_first_event(tmp_path: Path) -> None:
    heard = run(tmp_path, "os._exit(7)", ["1", "2"])
    (result,) = heard.results
    assert (result["type"], result["message"]) == ("Runtime.ExitError", "Runtime exited with error: exit status 7")
    assert result["init_seconds"] > 0


def test_an_init_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    begun = time.monotonic()
    (result,) = run(tmp_path, "time.sleep(600)", ["1", "2"], init_timeout=0.7).results
    assert (result["type"], result["message"]) == ("Sandbox.Timedout", "Task timed out after 0.70 seconds")
    assert time.monotonic() - begun < 200


def test_an_init_error_is_the_failure_of_the_first_event(tmp_path: Path) -> None:
    client = """
        error = {"errorType": "Runtime.ImportModuleError", "errorMessage": "Unable to import module 'app'"}
        assert ask("POST", "init/error", json.dumps(error))[0] == 202
        sys.exit(1)
    """
    (result,) = run(tmp_path, client, ["1", "2"]).results
    assert (result["type"], result["message"]) == ("Runtime.ImportModuleError", "Unable to import module 'app'")


def test_a_response_may_have_six_mebibytes_and_no_more(tmp_path: Path) -> None:
    client = """
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        headers, _ = take(connection)
        assert give(headers, "x" * (6291556 - 2), connection)[0] == 202
        headers, _ = take(connection)
        status, _, body = give(headers, "x" * (6291556 - 1), connection)
        print(status, body.decode(), flush=True)
        sys.exit(1)
    """
    first, second = run(tmp_path, client, ["1", "2", "3"]).results
    assert len(first["body"]) == 6291556
    assert (second["type"], second["message"]) == (
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    )
    assert second["log"] == (
        '413 {"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).",'
        '"errorType":"RequestEntityTooLarge"}\n'
    )


def test_what_is_not_of_the_api_is_refused(tmp_path: Path) -> None:
    client = """
        answers = [ask("GET", "nothing")[0], ask("POST", "invocation/next")[0], ask("GET", "restore/next")[0]]
        headers, _ = take()
        answers += [ask("POST", "invocation/other/response", "1")[0]]
        chunks = iter([b'{"a"', b": 1}"])
        path = "invocation/%s/response" % headers["Lambda-Runtime-Aws-Request-Id"]
        answers += [ask("POST", path, chunks)[0], give(headers, "twice")[0]]
        give(take()[0], answers)
        take()
    """
    first, second = run(tmp_path, client, ["1", "2"]).results
    assert json.loads(first["body"]) == {"a": 1}
    assert json.loads(second["body"]) == [404, 404, 200, 400, 202, 400]


def test_a_request_that_is_no_http_ends_its_connection_only(tmp_path: Path) -> None:
    client = """
        import socket
        host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
        for text in (b"\\r\\n", b"rubbish\\r\\n\\r\\n", b"POST / HTTP/1.1\\r\\nContent-Length: x\\r\\n\\r\\n", b"GET"):
            with socket.create_connection((host, int(port)), 5) as connection:
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
        give(take()[0], "still here")
        take()
    """
    (result,) = run(tmp_path, client, ["1"]).results
    assert (result["failed"], result["body"]) == (False, '"still here"')


def test_where_there_is_no_client_that_is_said(tmp_path: Path) -> None:
    heard = run(tmp_path, None, ["1"])
    assert heard.results == []
    assert heard.others == [{"kind": "unable", "reason": "there is no runtime client (awslambdaric)"}]


def test_a_client_in_one_file_is_found_as_in_old_runtimes(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    text = CLIENT + "    give(take()[0], [__name__, sys.argv[1]])\n    take()\nmain(sys.argv)\n"
    (tmp_path / "runtime" / "bootstrap.py").write_text(text)
    (result,) = run(tmp_path, None, ["1"]).results
    assert json.loads(result["body"]) == ["__main__", "app.handler"]


@pytest.mark.skipif(sys.platform != "linux", reason="no `/proc`")
def test_peak_memory_is_that_of_the_client(tmp_path: Path) -> None:
    client = """
        give(take()[0], 1)
        headers, _ = take()
        block = b"x" * (64 << 20)
        del block
        give(headers, 2)
        take()
    """
    first, second = run(tmp_path, client, ["1", "2"]).results
    assert 5 << 20 < first["peak_memory"] < 60 << 20
    assert 64 << 20 < second["peak_memory"] < 130 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_the_client_has_the_limits_of_a_function(tmp_path: Path) -> None:
    client = "import resource; give(take()[0], resource.getrlimit(resource.RLIMIT_NOFILE)); take()"
    (result,) = run(tmp_path, client, ["1"], limits={"files": 256, "data": 4 << 30}).results
    assert json.loads(result["body"]) == [256, 256]


def test_an_emulator_that_cannot_run_here_is_passed_over(tmp_path: Path) -> None:
    wrong = tmp_path / "aws-lambda-rie"
    wrong.write_bytes(b"\x7fELF of another machine")
    wrong.chmod(0o755)
    (result,) = run(tmp_path, "give(take()[0], 1); take()", ["1"], emulator=str(wrong)).results
    assert result["api"] == "our Runtime API"


def test_it_runs_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = hosts.FOLDER / "windows-3.13" / "host.json"
    if not note.is_file():
        missing = "`windows-3.13` is not there: run `python tools/pythons.py windows-3.13`"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    hosts.needs("wine")
    python = json.loads(note.read_text(encoding="utf-8"))["python"]
    monkeypatch.setenv("WINEPREFIX", str(Path(python).parent.parent / "prefix"))
    monkeypatch.setenv("WINEDEBUG", "-all")
    client = """
        headers, body = take()
        print("\u00e4\u20ac")
        sys.stdout.flush()
        give(headers, [os.name, json.loads(body), os.getcwd() == sys.path[0]])
        take()
        os._exit(3)
    """
    first, second = run(tmp_path, client, ['"\u00e4"', "2", "3"], windows=("wine", python), init_timeout=60).results
    assert (json.loads(first["body"]), first["log"]) == (["nt", "\u00e4", True], "\u00e4\u20ac\n")
    assert (second["type"], second["message"]) == (
        "Runtime.ExitError",
        "Runtime exited with error: exit status 3",
    )
