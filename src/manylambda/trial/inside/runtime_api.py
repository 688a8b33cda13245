"""Answer events with a handler: the real runtime client beside a Runtime API, both in the execution environment.

One process of this script is one execution environment. It gives the events one after the other to the handler, until
none is left or the runtime client has ended; the caller starts another for the rest, as Lambda does.

The runtime client runs in a child that is forked before anything else is done, so that the handler meets an
interpreter as new as on Lambda, and so that it works under an emulator that cannot follow `exec`. Where there is no
safe `fork` (Windows, macOS, or `--spawn`), the script starts itself once more.

Job: `token`, `handler`, `events` (JSON texts), `path` (sys.path, `<stdlib>` for the interpreter's own entries), `sites`
(folders whose `.pth` files are executed), `places` (of which the task is used) and `runtime` (folders), `program`
(sys.argv[0]), `limits` (`files` and `data` of a process), `timeout` and `init_timeout` (seconds), `arn`, and
`emulator`: where the image's Runtime Interface Emulator may lie, or null. Answers, each after the token:

    {"kind": "part", "of": "log" | "body" | "message" | "trace", "text": ...}     what follows as a result, in pieces
    {"kind": "result", "seconds", "init_seconds", "peak_memory", "client", "api", "failed", "type"}
    {"kind": "unable", "reason": ...}                                             there is nothing to run the handler
    {"kind": "end"}                                                               no more is told of this environment

It is one file: what it imported beside itself before the fork the handler's interpreter would have as well, and its
parts need each other on both sides of it.

The Runtime API is that of 2018-06-01 in the Lambda developer's guide; the texts of errors are those the Runtime
Interface Emulator gives.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # `typing` itself costs the handler's interpreter milliseconds that Lambda's does not have
if TYPE_CHECKING:
    import socket as sockets
    from typing import Any, BinaryIO, Dict, Iterator, NoReturn, Tuple

    Job = Dict[str, Any]
    Failed = Tuple[str, str, str]
    """Type, message and trace."""
    Answer = Tuple[int, Dict[str, str], bytes]
    """Status, headers and body."""

STARTED = time.process_time()  # the interpreter's own start takes the processor all the while

STDLIB = "<stdlib>"
"""Stands, in the search path of a job, for the interpreter's own entries."""

NO_CLIENT = 86
"""The exit status of a child that found no runtime client."""
WITHOUT_CLIENT = "there is no runtime client (awslambdaric)"

VERSION = "/2018-06-01/runtime/"
LARGEST = 6_291_556
"""Bytes of a response: 6 MiB and 100, as the error of Lambda says."""

PIECE = 1 << 16
HEAD, TAIL = 16 << 10, 48 << 10
"""What is kept of a log: the first bytes and the last."""


# The runtime client. Before the handler is imported nothing is, beyond what the interpreter's start imports.


def become_client(message: str, *, emulated: bool = False) -> None:
    """Run the runtime client of the environment, as `/var/runtime/bootstrap.py` does, for as long as it runs."""
    import importlib
    import site

    address, handler, task, runtime, program, files, data, *rest = message.split("\0")
    middle = rest.index("")
    stdlib = own_path()
    bound(int(files), int(data))
    if os.access(task, os.W_OK):
        sys.dont_write_bytecode = True
    os.chdir(task)
    for stream in (sys.stdout, sys.stderr) if os.name == "nt" else ():
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", newline="\n")
    os.environ["AWS_LAMBDA_RUNTIME_API"] = address
    if sys.prefix == "/var/lang":  # the runtime's own interpreter: its `.pth` files count, as they do on Lambda
        site.main()
    else:
        site.setquit()
        site.setcopyright()
        site.sethelper()
    path: list[str] = []
    for entry in rest[:middle]:
        path += stdlib if entry == STDLIB else [entry]
    sys.path[:] = path
    sys.path_importer_cache.clear()
    for folder in rest[middle + 1 :]:
        if os.path.isdir(folder):  # noqa: PTH112 - pathlib is slow to import
            site.addsitedir(folder)
    os.environ.setdefault("PYTHONPATH", runtime)
    sys.argv[:] = [program, handler]
    kept = sys.modules["__main__"]  # the names of this script go with it
    front = type(sys)("__main__")
    front.__file__ = program
    sys.modules["__main__"] = front
    try:
        client: Any = importlib.import_module("awslambdaric.__main__")
    except ImportError as error:
        if getattr(error, "name", None) not in ("awslambdaric", "awslambdaric.__main__"):
            raise
        old = f"{runtime}/bootstrap.py"
        if not os.access(old, os.R_OK):
            os._exit(NO_CLIENT)
        # Runtimes up to 3.8 have the client in one file.
        import runpy

        runpy.run_path(old, run_name="__main__")
        return
    library: Any = importlib.import_module("awslambdaric.lambda_runtime_client")
    if getattr(library, "runtime_client", None) is None:
        # Its compiled half is for Linux only. The other half is the one that calls the handler.
        library.runtime_client = HttpClient(address)
    if emulated:
        # Lambda gives every event one, and functions rely on it; the emulator gives none, whatever it is given.
        bootstrap: Any = importlib.import_module("awslambdaric.bootstrap")
        tell = bootstrap.update_xray_env_variable
        bootstrap.update_xray_env_variable = lambda given: tell(given or trace_header())
    client.main(["awslambdaric", handler])
    del kept


def own_path() -> list[str]:
    """Find the standard library: started with `-S`, nothing else is in the path but this file's folder."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is slow to import
    return [entry for entry in sys.path if entry not in given and os.path.abspath(entry) != here]  # noqa: PTH100


def bound(files: int, data: int) -> None:
    """Set the limits that are a process's own; what it takes of the machine is watched from outside."""
    try:
        import resource
    except ImportError:
        return
    for name, value in (("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", files), ("RLIMIT_DATA", data)):
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:  # noqa: SIM105 - `contextlib` is one import more
            resource.setrlimit(number, (lowest, lowest))
        except (OSError, ValueError):
            pass


class HttpClient:
    """What awslambdaric's compiled `runtime_client` does, with the standard library."""

    def __init__(self, address: str) -> None:
        import http.client

        self._connection = http.client.HTTPConnection(address)
        version = getattr(sys.modules["awslambdaric"], "__version__", "0")
        self._agent = f"aws-lambda-python/{sys.version.split()[0]}-{version} manylambda"

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any, bytes]:
        headers = {"User-Agent": self._agent, **({"Content-Type": kind} if kind else {})}
        self._connection.request(method, f"{VERSION}invocation/{path}", body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def next(self) -> tuple[bytes, dict[str, Any]]:
        """Wait for an event: its body and headers."""
        status, headers, body = self._ask("GET", "next")
        if status != 200:
            raise RuntimeError("Failed to get next")
        names = ("Aws-Request-Id", "Trace-Id", "Invoked-Function-Arn", "Client-Context", "Cognito-Identity")
        given: dict[str, Any] = {"Lambda-Runtime-" + name: headers.get("Lambda-Runtime-" + name) for name in names}
        given["Lambda-Runtime-Deadline-Ms"] = int(headers["Lambda-Runtime-Deadline-Ms"])
        given["Content-Type"] = headers.get("Content-Type")
        return body, given

    def post_invocation_result(self, request: str, body: bytes, kind: str = "application/json", *_: object) -> None:
        """Give what the handler returned; newer clients say more than older ones."""
        status, _headers, _body = self._ask("POST", f"{request}/response", body, kind)
        if status != 202:
            raise RuntimeError("Failed to post invocation response")

    def post_error(self, request: str, error: str, *_: object) -> None:
        """Give what the handler raised."""
        status, _headers, _body = self._ask("POST", f"{request}/error", error.encode("utf-8"))
        if status != 202:
            raise RuntimeError("Failed to post invocation error")


def read_all(descriptor: int) -> bytes:
    """Read everything that comes out of a file descriptor until its end."""
    pieces: list[bytes] = []
    while True:
        piece = os.read(descriptor, PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def without_input() -> None:
    """Give what runs the handler an empty standard input, as Lambda does."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)


class Forked:
    """The child, forked at once and waiting to be told what to run."""

    before = STARTED
    """Seconds of its start that were over when it began: those of the interpreter it is a copy of."""

    def __init__(self) -> None:
        self._told, self._tell = os.pipe()
        self.log, log = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            for descriptor in (log, self.log, self._tell):
                os.close(descriptor)
            without_input()
            message = read_all(self._told)
            os.close(self._told)
            if not message:
                os._exit(0)
            become_client(os.fsdecode(message))
            sys.exit()
        os.close(self._told)
        os.close(log)
        self.began = 0.0

    def start(self, message: str) -> None:
        """Let it run."""
        self.began = time.perf_counter()
        left = os.fsencode(message)
        while left:
            left = left[os.write(self._tell, left) :]
        os.close(self._tell)

    def wait(self) -> tuple[int, int | None]:
        """Wait for its exit status, or minus the signal, and its peak memory in bytes where that can be told."""
        _, status, used = os.wait4(self.pid, 0)
        peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), peak

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, 9)


class Spawned:
    """The child as a process of its own, where it cannot be forked."""

    before = 0.0

    def __init__(self) -> None:
        self.log = self.pid = -1
        self.began = 0.0

    def start(self, message: str) -> None:
        """Start it, and let it run."""
        import subprocess

        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            client_command("--client"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.log = self._process.stdout.fileno()
        self._process.stdin.write(os.fsencode(message))
        self._process.stdin.close()

    def wait(self) -> tuple[int, int | None]:
        """Wait for its exit status, or minus the signal."""
        return self._process.wait(), None

    def kill(self) -> None:
        """End it."""
        self._process.kill()


def client_command(*arguments: str) -> list[str]:
    """Give the command with which the script starts itself as the runtime client."""
    flags = (("isolated", "-I"), ("no_user_site", "-s"), ("no_site", "-S"))
    given = [option for name, option in flags if getattr(sys.flags, name)]
    if sys.pycache_prefix:
        given += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [sys.executable, *given, os.path.abspath(__file__), *arguments]  # noqa: PTH100 - pathlib is not loaded yet


# The other process.


class Answers:
    """Where results go: a private copy of standard output."""

    def __init__(self, token: str, descriptor: int) -> None:
        self._token = token
        self._descriptor = descriptor

    def say(self, **what: object) -> None:
        """Write one line."""
        import json

        left = f"{self._token} {json.dumps(what)}\n".encode("ascii")
        while left:
            left = left[os.write(self._descriptor, left) :]

    def parts(self, of: str, text: str) -> None:
        """Write a text of any length."""
        for start in range(0, len(text), PIECE):
            self.say(kind="part", of=of, text=text[start : start + PIECE])


class Log:
    """What the handler writes, in portions: one an invocation. Bounded: the first bytes and the last are kept."""

    def __init__(self, descriptor: int) -> None:
        import threading

        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._head = self._tail = b""
        self._left_out = 0
        self._grew = 0.0
        self._can_poll = os.name == "posix"
        self._ended = threading.Event()
        if self._can_poll:
            os.set_blocking(descriptor, False)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        import select

        while True:
            if self._can_poll:
                select.select([self._descriptor], [], [])
                with self._lock:
                    if not self._read():
                        break
            else:
                piece = os.read(self._descriptor, PIECE)
                if not piece:
                    break
                with self._lock:
                    self._keep(piece)
        self._ended.set()

    def _read(self) -> bool:
        """Take what is there; false at the end."""
        while True:
            try:
                piece = os.read(self._descriptor, PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self._grew = time.perf_counter()
        room = HEAD - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:] if room > 0 else piece
        if len(self._tail) > 2 * TAIL:
            self._left_out += len(self._tail) - TAIL
            self._tail = self._tail[-TAIL:]

    def take(self, *, at_end: bool = False) -> str:
        """Take all that was written since it was last taken, up to now."""
        if at_end:
            # A grandchild may hold the other end for ever.
            self._ended.wait(0.5)
        if not self._can_poll:
            # No way to ask whether there is more: a moment of silence.
            while time.perf_counter() - self._grew < 0.02:
                time.sleep(0.005)
        with self._lock:
            if self._can_poll:
                self._read()
            if len(self._tail) > TAIL:
                self._left_out += len(self._tail) - TAIL
                self._tail = self._tail[-TAIL:]
            head, tail, left_out = self._head, self._tail, self._left_out
            self._head = self._tail = b""
            self._left_out = 0
        between = f"\n... {left_out} bytes left out ...\n".encode() if left_out else b""
        return (head + between + tail).decode("utf-8", "replace")


def peak_memory(pid: int) -> int | None:
    """Tell the most a process ever had in memory, in bytes; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - as above
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


SIGNALS = {1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 5: "trace/breakpoint trap", 6: "aborted"}
SIGNALS.update(
    {7: "bus error", 8: "floating point exception", 9: "killed", 11: "segmentation fault", 13: "broken pipe"}
)
SIGNALS.update({14: "alarm clock", 15: "terminated"})


def exit_message(status: int) -> str:
    """Say what Lambda says of a runtime that ended."""
    if status == 0:
        return "Runtime exited without providing a reason"
    if status < 0:
        return f"Runtime exited with error: signal: {SIGNALS.get(-status, f'signal {-status}')}"
    return f"Runtime exited with error: exit status {status}"


def timeout_message(seconds: float) -> str:
    """Say what Lambda says of an invocation that took too long."""
    return f"Task timed out after {seconds:.2f} seconds"


def trace_header() -> str:
    """Make up what X-Ray calls a request that it does not follow."""
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"


TOO_LARGE = f"Response payload size exceeded maximum allowed payload size ({LARGEST} bytes)."


def failure_of(body: bytes) -> Failed:
    """Read an error as the runtime client reports it."""
    import json

    try:
        error = json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        error = None
    if not isinstance(error, dict):
        error = {"errorMessage": body.decode("utf-8", "replace")}
    trace = error.get("stackTrace") or []
    if not isinstance(trace, list):
        trace = [trace]
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in trace)
    return str(error.get("errorType") or "")[:1024], str(error.get("errorMessage") or "")[:PIECE], text[:PIECE]


class Api:
    """The state of one execution environment, and what the runtime client may ask of it."""

    def __init__(self, job: Job, answers: Answers, child: Any, log: Log) -> None:
        import threading

        self.changed = threading.Condition()
        self.job = job
        self.answers = answers
        self.child = child
        self.log = log
        self.count = 0
        self.is_running = False
        self.deadline = child.began + job["init_timeout"]
        self.init_seconds: float | None = None
        self.pending: Failed | None = None
        self.ended: tuple[int, int | None] | None = None
        self.done = False
        self.client: str | None = None
        self._request = ""
        self._start = 0.0

    def next(self, agent: str | None) -> Answer | None:
        """Give the next event; None when there is none, or the runtime may not ask."""
        import uuid

        with self.changed:
            if self.init_seconds is None:
                self.init_seconds = time.perf_counter() - self.child.began + self.child.before
                self.client = agent
            if self.is_running or self.done or self.pending or self.count >= len(self.job["events"]):
                self.done = True
                self.changed.notify_all()
                return None
            body = self.job["events"][self.count].encode("utf-8")
            self._request = str(uuid.uuid4())
            timeout = self.job["timeout"]
            now = time.time()
            self.is_running = True
            self.changed.notify_all()
            self._start = time.perf_counter()
            self.deadline = self._start + timeout
            headers = {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": self._request,
                "Lambda-Runtime-Deadline-Ms": str(int((now + timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": self.job["arn"],
                "Lambda-Runtime-Trace-Id": trace_header(),
            }
            return 200, headers, body

    def answer(self, request: str, body: bytes, *, is_error: bool, is_too_large: bool) -> tuple[int, bytes]:
        """Take a response or an error; give the status and the body that the runtime client gets."""
        with self.changed:
            if not self.is_running or request != self._request or self.pending:
                return 400, b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}'
            if is_too_large:
                # The runtime client ends of it, and says so in the log.
                self.pending = ("Function.ResponseSizeTooLarge", TOO_LARGE, "")
                self.deadline = time.perf_counter() + 2.0
                self.changed.notify_all()
                text = f"Exceeded maximum allowed payload size ({LARGEST} bytes)."
                return 413, f'{{"errorMessage":"{text}","errorType":"RequestEntityTooLarge"}}'.encode()
            if is_error:
                self.tell(failure_of(body))
            else:
                self.tell(None, body.decode("utf-8", "replace"))
            self.changed.notify_all()
            return 202, b'{"status":"OK"}'

    def init_error(self, body: bytes) -> None:
        """Take what kept the handler from being imported; the process ends by itself afterwards."""
        with self.changed:
            if self.init_seconds is None:
                self.pending = failure_of(body)

    def tell(self, failure: Failed | None, body: str = "", peak: int | None = None, *, at_end: bool = False) -> None:
        """Give the result of the event that is running, or that would be the first."""
        now = time.perf_counter()
        seconds = now - self._start if self.is_running else 0.0
        init = self.init_seconds
        if init is None:
            init = now - self.child.began + self.child.before
        peak = peak_memory(self.child.pid) or peak
        answers = self.answers
        answers.parts("log", self.log.take(at_end=at_end))
        if failure:
            answers.parts("message", failure[1])
            answers.parts("trace", failure[2])
        else:
            answers.parts("body", body)
        answers.say(
            kind="result",
            seconds=seconds,
            init_seconds=init if self.count == 0 else None,
            peak_memory=peak,
            client=self.client,
            api="our Runtime API",
            failed=failure is not None,
            type=failure[0] if failure else None,
        )
        self.count += 1
        self.is_running = False
        self.deadline = time.perf_counter() + self.job["timeout"]

    def watch(self) -> None:
        """Wait for the end of the runtime client, or of its time."""
        with self.changed:
            while not (self.done or self.ended):
                left = self.deadline - time.perf_counter()
                if left <= 0:
                    break
                self.changed.wait(left)
            if self.done and not self.ended:
                self.child.kill()
                return
            status, peak = self.ended or (None, None)
            if status is None:
                peak = peak_memory(self.child.pid)
                self.child.kill()
            if status == NO_CLIENT and self.init_seconds is None and not self.pending:
                self.answers.say(kind="unable", reason=WITHOUT_CLIENT)
            elif self.pending:
                self.tell(self.pending, peak=peak, at_end=True)
            elif self.is_running or self.init_seconds is None:
                if status is None:
                    limit = self.job["timeout" if self.is_running else "init_timeout"]
                    self.tell(("Sandbox.Timedout", timeout_message(limit), ""), peak=peak, at_end=True)
                else:
                    self.tell(("Runtime.ExitError", exit_message(status), ""), peak=peak, at_end=True)


REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 413: "Request Entity Too Large"}


def serve(listener: sockets.socket, api: Api) -> None:
    """Answer HTTP/1.1 on a socket; a thread a connection."""
    import threading

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection, api), daemon=True).start()


def converse(connection: sockets.socket, api: Api) -> None:
    """Answer the requests of one connection."""
    import socket

    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb") as stream:
        try:
            while True:
                request = read_request(stream, connection)
                if request is None:
                    return
                answer = dispatch(api, request)
                if answer is None:
                    # Nothing is left: the runtime client waits, as it does on Lambda, until it is ended.
                    wait_for_ever()
                status, fields, text = answer
                fields["Content-Length"] = str(len(text))
                lines = [f"HTTP/1.1 {status} {REASONS[status]}"]
                lines.extend(f"{name}: {value}" for name, value in fields.items())
                connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + text)
        except (OSError, ValueError):
            return


def wait_for_ever() -> NoReturn:
    """Keep a thread from going on."""
    import threading

    while True:
        threading.Event().wait()


class Request:
    """What a client asks; `headers` in lower case; the body is empty when it was too large."""

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = b""
        self.is_too_large = False


def read_request(stream: BinaryIO, connection: sockets.socket) -> Request | None:
    """Read one request; None at the end of the connection."""
    line = stream.readline(PIECE)
    if not line.strip():
        return None
    method, path, _ = line.decode("latin-1").split(None, 2)
    headers = {}
    while True:
        # One of them is a report for X-Ray of up to 1 MiB.
        line = stream.readline(2 << 20)
        if not line.strip():
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    request = Request(method, path, headers)
    kept: list[bytes] = []
    size = 0
    for piece in body_of(stream, headers):
        size += len(piece)
        if size <= LARGEST:
            kept.append(piece)
    request.is_too_large = size > LARGEST
    request.body = b"" if request.is_too_large else b"".join(kept)
    return request


def body_of(stream: BinaryIO, headers: dict[str, str]) -> Iterator[bytes]:
    """Read the pieces of a request's body."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while True:
            left = int(stream.readline(PIECE).split(b";")[0], 16)
            if left == 0:
                while stream.readline(PIECE).strip():
                    pass
                return
            yield from exactly(stream, left)
            stream.readline(PIECE)
    else:
        yield from exactly(stream, int(headers.get("content-length") or 0))


def exactly(stream: BinaryIO, left: int) -> Iterator[bytes]:
    """Read so many bytes, in pieces."""
    while left > 0:
        piece = stream.read(min(left, PIECE))
        if not piece:
            raise ValueError("the request ended early")
        left -= len(piece)
        yield piece


def dispatch(api: Api, request: Request) -> Answer | None:
    """Do what a request asks; None for a request that is never answered."""
    json_body = {"Content-Type": "application/json"}
    parts = request.path[len(VERSION) :].split("/") if request.path.startswith(VERSION) else []
    if request.method == "GET" and parts == ["invocation", "next"]:
        return api.next(request.headers.get("user-agent"))
    if request.method == "POST" and len(parts) == 3 and parts[0] == "invocation" and parts[2] in {"response", "error"}:
        is_error = parts[2] == "error"
        status, text = api.answer(parts[1], request.body, is_error=is_error, is_too_large=request.is_too_large)
        return status, json_body, text
    if request.method == "POST" and parts in (["init", "error"], ["restore", "error"]):
        api.init_error(request.body)
        return 202, json_body, b'{"status":"OK"}'
    if request.method == "GET" and parts == ["restore", "next"]:
        # SnapStart: the snapshot is taken and restored in this moment.
        return 200, {}, b""
    return 404, json_body, b'{"errorMessage":"not found","errorType":"NotFound"}'


def message_for(job: Job, address: str) -> str:
    """Write down what the child has to know, in a way that it reads without any module."""
    limits = job["limits"]
    first = [address, job["handler"], job["places"]["task"], job["runtime"], job["program"]]
    return "\0".join([*first, str(limits["files"]), str(limits["data"]), *job["path"], "", *job["sites"]])


def run_ours(job: Job, answers: Answers, child: Any) -> None:
    """Answer the events with our own Runtime API."""
    import socket
    import threading

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    child.start(message_for(job, f"127.0.0.1:{listener.getsockname()[1]}"))
    api = Api(job, answers, child, Log(child.log))

    def wait() -> None:
        ended = child.wait()
        with api.changed:
            api.ended = ended
            api.changed.notify_all()

    threading.Thread(target=serve, args=(listener, api), daemon=True).start()
    threading.Thread(target=wait, daemon=True).start()
    api.watch()


# The image's own Runtime API.


class Emulator:
    """The Runtime Interface Emulator: it starts the runtime client, and answers HTTP with what the handler answers."""

    def __init__(self, job: Job) -> None:
        import subprocess

        self._job = job
        self._port, port = free_ports(2)
        rest = message_for(job, "").split("\0")[2:]
        command = [job["emulator"], "--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{port}"]
        # It takes whole seconds, and the last argument for the handler.
        command += [*client_command("--emulated"), *rest, job["handler"]]
        environment = dict(os.environ, AWS_LAMBDA_FUNCTION_TIMEOUT=str(whole_seconds(job["timeout"])))
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        assert self._process.stdout is not None
        self._log = Log(self._process.stdout.fileno())

    def is_ready(self) -> bool:
        """Wait until it takes connections; false when it does not run here."""
        import socket

        # Five seconds and what the tries take; a host that stood still for a while has not taken its time from it.
        for _ in range(500):
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self._port), 1.0).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        self.kill()
        return False

    def kill(self) -> None:
        """End it; what it started ends with the environment."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def invoke(self, event: str) -> tuple[int, bytes, float, str, str]:
        """Give an event; get HTTP status, body, seconds, its own lines of the log, and the handler's."""
        import http.client

        patience = self._job["init_timeout"] + self._job["timeout"] + 5.0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=patience)
        began = time.perf_counter()
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", event.encode("utf-8"))
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            status, body = 0, str(error).encode("utf-8")
        finally:
            connection.close()
        seconds = time.perf_counter() - began
        text = self._log.take()
        for _ in range(200):
            if status != 200 or "\nREPORT RequestId: " in text:
                break
            time.sleep(0.005)
            text += self._log.take()
        lines = text.splitlines(keepends=True)
        own = [line for line in lines if is_emulators(line)]
        return status, body, seconds, "".join(own), "".join(line for line in lines if not is_emulators(line))

    def peak_memory(self) -> int | None:
        """Tell the most that the runtime client had in memory."""
        for name in os.listdir("/proc"):  # noqa: PTH208 - as above
            if name.isdigit() and parent(int(name)) == self._process.pid:
                return peak_memory(int(name))
        return None


def free_ports(count: int) -> list[int]:
    """Find ports of the loopback that nobody listens on."""
    import socket

    bound = [socket.socket() for _ in range(count)]
    for one in bound:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


def parent(pid: int) -> int | None:
    """Tell the parent of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            return int(file.read().rsplit(b")", 1)[1].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def whole_seconds(seconds: float) -> int:
    """Round up to the next whole number of seconds."""
    return max(1, -int(-seconds // 1))


def is_emulators(line: str) -> bool:
    """Whether the emulator wrote a line, not the handler."""
    return " (rapid) " in line or line.startswith(("START RequestId: ", "END RequestId: ", "REPORT RequestId: "))


def between(text: str, before: str, after: str) -> str:
    """Find what stands between two words in a text; empty when it is not there."""
    _, found, rest = text.partition(before)
    return rest.partition(after)[0] if found else ""


def emulated_failure(status: int, body: bytes, request: str, timeout: float) -> Failed | None:
    """Find what went wrong in the emulator's answer; None when nothing did."""
    import json

    if status == 200 and body.decode("utf-8", "replace") == timeout_message(whole_seconds(timeout)):
        return "Sandbox.Timedout", timeout_message(whole_seconds(timeout)), ""
    if status != 200:
        kind, message, trace = failure_of(body)
        # `RequestId: ... Error: Runtime exited ...`
        return kind or "Sandbox.Failure", message.rpartition(" Error: ")[2], trace
    try:
        answer = json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        return None
    # An error comes as a result does; only the runtime client knows the id of the request.
    if isinstance(answer, dict) and request and answer.get("requestId") == request and "errorType" in answer:
        return failure_of(body)
    return None


def run_emulator(job: Job, answers: Answers) -> bool:
    """Answer the events with the image's emulator; false when it cannot run here, as below another emulator."""
    try:
        emulator = Emulator(job)
    except OSError:
        return False
    if not emulator.is_ready():
        return False
    for number, event in enumerate(job["events"]):
        status, body, seconds, own, log = emulator.invoke(event)
        failure = emulated_failure(status, body, between(own, "START RequestId: ", " "), job["timeout"])
        if failure and failure[0] == "Sandbox.Failure" and not failure[1]:
            # So it tells of a client that ended during init and reported nothing; its log knows how.
            how = between(own, "] (rapid) Process runtime-", "\n").partition(" exited: ")[2]
            failure = ("Runtime.ExitError", f"Runtime exited with error: {how}" if how else exit_message(0), "")
        if failure and number == 0 and failure[1] == exit_message(NO_CLIENT):
            answers.say(kind="unable", reason=WITHOUT_CLIENT)
            break
        init = between(own, "INIT REPORT(durationMs: ", ")")
        init_seconds = float(init) / 1000 if init else 0.0
        answers.parts("log", log)
        if failure:
            answers.parts("message", failure[1])
            answers.parts("trace", failure[2])
        else:
            answers.parts("body", body.decode("utf-8", "replace"))
        answers.say(
            kind="result",
            seconds=max(0.0, seconds - init_seconds),
            init_seconds=init_seconds if number == 0 else None,
            peak_memory=emulator.peak_memory(),
            client=None,
            api="the image's Runtime Interface Emulator",
            failed=failure is not None,
            type=failure[0] if failure else None,
        )
        if status != 200 or (failure and failure[0] == "Sandbox.Timedout"):
            # It would start the client again, with what the last one left in the temporary folder.
            break
    emulator.kill()
    return True


def main() -> None:
    """Be the child, or start it and serve it."""
    if sys.argv[1:2] == ["--client"]:
        message = os.fsdecode(read_all(0))
        without_input()
        become_client(message)
        return
    if sys.argv[1:2] == ["--emulated"]:
        *rest, handler = sys.argv[2:]
        become_client("\0".join([os.environ["AWS_LAMBDA_RUNTIME_API"], handler, *rest]), emulated=True)
        return
    child: Any = Forked() if sys.platform == "linux" and "--spawn" not in sys.argv else Spawned()
    import json

    job = json.loads(read_all(0).decode("utf-8"))
    private = os.dup(1)
    os.dup2(2, 1)
    answers = Answers(job["token"], private)
    if not (job["emulator"] and run_emulator(job, answers)):
        run_ours(job, answers, child)
    answers.say(kind="end")
    os._exit(0)


if __name__ == "__main__":
    main()
