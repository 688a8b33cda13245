"""`manylambda trial` and `build --trial`: real packages and hostile ones, in each engine, by the command line."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from image.registries import needs, registry
from image.saved import FOLDER, layer, layout
from manylambda.target import Target
from product import schemas
from product.conftest import command
from product.test_progress import on_terminal
from trial import containers, hosts, local, runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from product.conftest import Ran, Run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces are those of Linux"),
    pytest.mark.xdist_group("trial-command"),
]

NATIVE: Final = hosts.TARGETS[hosts.NATIVE]
FOREIGN: Final = hosts.TARGETS[hosts.FOREIGN]
OTHER: Final = Target.parse(FOREIGN).machine
OWN: Final = "python{}.{}".format(*sys.version_info[:2])
"""Of this very Python, which the engine `interpreter` always finds."""
OWN_NATIVE: Final = OWN + NATIVE.removeprefix("python3.13")
OWN_FOREIGN: Final = OWN + FOREIGN.removeprefix("python3.13")
LOCKS: Final = Path(__file__).parent.parent.parent / "benchmarks" / "locks"


@pytest.fixture(autouse=True)
def _shared(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare bytecode, wheels and the runtime's client once for all of these tests."""
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache / "trial-command"))


class Trying(Protocol):
    """Tries `path`; JSON is held to its schema."""

    def __call__(
        self,
        path: Path,
        *options: str | Path,
        target: str = NATIVE,
        engine: Sequence[str | Path] | None = None,
        status: int = 0,
        **more: Any,
    ) -> Ran: ...


@pytest.fixture
def trying(run: Run) -> Trying:
    def running(
        path: Path,
        *options: str | Path,
        target: str = NATIVE,
        engine: Sequence[str | Path] | None = None,
        status: int = 0,
        **more: Any,
    ) -> Ran:
        ran = run(
            "trial",
            path,
            "-t",
            target,
            "--no-config",
            *(in_root() if engine is None else engine),
            *options,
            status=status,
            **more,
        )
        if "json" in options:
            schemas.check("trial", ran.json)
        return ran

    return running


def in_root(target: str = NATIVE) -> Sequence[str | Path]:
    machine = hosts.NATIVE if target == NATIVE else hosts.FOREIGN
    hosts.needs("bwrap", *(("qemu-aarch64-static",) if machine == "arm64" != hosts.NATIVE else ()))
    return ("--rootfs", hosts.root(machine))


INTERPRETER: Final = ("--engine", "interpreter")


def folder(path: Path, **modules: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (path / f"{name}.py").write_text(text, encoding="utf-8")
    return path


def outcomes(document: Any) -> dict[str, str]:
    return {one["module"]: one["outcome"] for one in document["imports"]}


def told_last(ran: Ran) -> str:
    """Give the last line of stderr: before it may stand that bytecode is prepared, once."""
    return ran.stderr.splitlines()[-1]


def of(document: Any, module: str) -> Any:
    (found,) = (one for one in document["imports"] if one["module"] == module)
    return found


# Packages that `build` made.

HANDLERS: Final = {
    "w1": """
import pydantic, requests
class Order(pydantic.BaseModel):
    number: int
def handler(event, context):
    return [Order.model_validate(event).number, requests.Request("GET", "https://x/", params=event).prepare().url]
""",
    "w2": """
import boto3
from aws_lambda_powertools import Logger
logger = Logger(service="orders")
def handler(event, context):
    logger.info("seen")
    return [event["number"], boto3.client("s3").meta.region_name]
""",
    "w4": """
import cryptography.hazmat.primitives.hashes, lxml.etree, orjson, uvloop
from fastapi import FastAPI
from mangum import Mangum
app = FastAPI()
@app.get("/orders/{number}")
def order(number: int):
    return {"number": number, "xml": lxml.etree.tostring(lxml.etree.Element("a")).decode()}
handler = Mangum(app, lifespan="off")
""",
}
REQUEST: Final = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/orders/7",
    "rawQueryString": "",
    "headers": {},
    "requestContext": {"http": {"method": "GET", "path": "/orders/7", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}},
    "isBase64Encoded": False,
}


EVENTS_OF: Final = {"w1": {"number": 7}, "w2": {"number": 7}, "w4": REQUEST}
MODULES: Final = {"w1": 11, "w2": 27, "w4": 41}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Callable[..., Path]:
    """Give the zip of workloads for a target, each handler as a module of its workload's name."""
    made: dict[tuple[str, ...], Path] = {}

    def build(*names: str, target: str = NATIVE) -> Path:
        if (*names, target) not in made:
            project = folder(tmp_path_factory.mktemp("built") / "built", **{name: HANDLERS[name] for name in names})
            texts = [(LOCKS / f"{name}.txt").read_text(encoding="utf-8") for name in names]
            pins = re.findall(r"^\S+==[^\s\\]+", "\n".join(texts), re.MULTILINE)
            (project / "requirements.txt").write_text("\n".join(sorted(set(pins))), encoding="utf-8")
            subprocess.run(
                command("build", project, "-t", target, "-q"),
                check=True,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "MANYLAMBDA_CACHE_DIR": str(shared_cache / "trial-command")},
                timeout=600,
            )
            (made[*names, target],) = (project / "dist").iterdir()
        return made[*names, target]

    return build


def confirm(name: str, invocation: Any) -> None:
    """Look at what the handler of a workload returned."""
    assert invocation["error"] is None
    told = invocation["result"]
    if name == "w1":
        assert told == [7, "https://x/?number=7"]
    elif name == "w2":
        assert told == [7, "us-east-1"]
        assert '"message":"seen"' in invocation["log"]
    else:
        assert (told["statusCode"], json.loads(told["body"])) == (200, {"number": 7, "xml": "<a/>"})


@pytest.mark.network
@pytest.mark.parametrize("name", HANDLERS)
def test_what_build_made_imports_whole_and_answers(trying: Trying, built: Callable[..., Path], name: str) -> None:
    event = json.dumps(EVENTS_OF[name])
    document = trying(built(name), "--handler", f"{name}.handler", "--event", event, "--format", "json").json
    assert set(outcomes(document).values()) == {"ok"}
    assert len(document["imports"]) == MODULES[name]
    assert (document["engine"], len(document["invocations"])) == ("rootfs", 1)
    confirm(name, document["invocation"])


@pytest.mark.network
def test_all_of_it_imports_and_answers_on_the_other_machine(trying: Trying, built: Callable[..., Path]) -> None:
    """Emulated; in one go, as the emulator takes its time."""
    path = built(*HANDLERS, target=FOREIGN)
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("every.py")
        member.external_attr = 0o100644 << 16
        text = "import w1, w2, w4\ndef handler(event, context):\n"
        text += "    return globals()[event['of']].handler(event['event'], context)\n"
        archive.writestr(member, text)
    events = [word for name in HANDLERS for word in ("--event", json.dumps({"of": name, "event": EVENTS_OF[name]}))]
    options = ("--handler", "every.handler", *events, "--format", "json")
    document = trying(path, *options, target=FOREIGN, engine=in_root(FOREIGN)).json
    assert set(outcomes(document).values()) == {"ok"}
    assert {"orjson", "lxml", "cryptography", "uvloop", "pydantic_core", "w1", "w2", "w4"} <= set(outcomes(document))
    assert "emulated" in document["proves"]
    for name, invocation in zip(HANDLERS, document["invocations"], strict=True):
        confirm(name, invocation)


@pytest.mark.network
def test_the_same_package_answers_with_a_python_of_this_host(trying: Trying, built: Callable[..., Path]) -> None:
    if "3.13" not in dict(local.PYTHONS):
        pytest.skip("needs a Python 3.13")
    ran = trying(
        *(built("w4"), "--handler", "w4.handler", "--event", json.dumps(REQUEST), "--format", "json"),
        engine=INTERPRETER,
    )
    assert set(outcomes(ran.json).values()) == {"ok"}
    confirm("w4", ran.json["invocation"])
    assert "not the runtime's: only the audit judges those" in ran.json["leaves_open"]


@pytest.mark.network
def test_the_same_package_answers_in_a_container(trying: Trying, built: Callable[..., Path]) -> None:
    path = str(containers.programs()) + os.pathsep + os.environ["PATH"]
    ran = trying(
        *(built("w1"), "--handler", "w1.handler", "--event", '{"number": 7}', "--format", "json"),
        engine=("--image", containers.image(hosts.NATIVE)),
        env={"PATH": path},
    )
    assert (ran.json["engine"], set(outcomes(ran.json).values())) == ("container", {"ok"})
    confirm("w1", ran.json["invocation"])
    assert ran.json["label"].startswith("podman ")
    containers.assert_gone()


# Packages that do not load.


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a package with a module for another machine, one for another Python, and one that lacks its library."""
    path = folder(tmp_path_factory.mktemp("faulty") / "faulty", app="import idna, psycopg2\n")
    native = Target.parse(NATIVE)
    runtime.install(["orjson==3.11.4"], Target.parse(FOREIGN), path)
    runtime.install(["rpds-py==0.30.0"], Target.parse(NATIVE.replace("3.13", "3.12")), path)
    runtime.install(["psycopg2-binary==2.9.11", "idna==3.11"], native, path)
    shutil.rmtree(path / "psycopg2_binary.libs")
    return path


@pytest.mark.network
def test_a_module_that_does_not_load_is_told_with_its_reason(trying: Trying, faulty: Path) -> None:
    ran = trying(faulty, "--format", "json", status=6)
    document = ran.json
    assert document["failed"]
    assert outcomes(document) == {
        "idna": "ok",
        "orjson": "failed",
        "psycopg2": "failed",
        "rpds": "failed",
        "app": "failed",
    }
    found = {}
    for one in document["imports"]:
        if (reason := one["reason"]) is not None:
            (finding,) = reason["findings"]
            found[one["module"]] = (reason["cause"], finding["rule"], finding["path"].split("/")[0])
    assert found == {
        "orjson": ("extension-missing", "wrong-machine", "orjson"),
        "rpds": ("extension-missing", "abi-tag-mismatch", "rpds"),
        "psycopg2": ("library-missing", "library-missing", "psycopg2"),
        "app": ("library-missing", "library-missing", "psycopg2"),
    }
    assert f"is for {OTHER}, the target is " in of(document, "orjson")["reason"]["findings"][0]["message"]


@pytest.mark.network
def test_the_text_tells_the_same_reasons_and_ends_in_the_verdict(trying: Trying, faulty: Path) -> None:
    told = trying(faulty, status=6).stdout
    assert re.search(
        r"^failed: orjson after .*: ModuleNotFoundError: No module named 'orjson.orjson'$", told, re.MULTILINE
    )
    assert re.search(rf"^  error\[wrong-machine\] orjson/orjson\S+: is for {OTHER}, the target is ", told, re.MULTILINE)
    assert re.search(r"^  error\[abi-tag-mismatch\] rpds/rpds\.cpython-312-", told, re.MULTILINE)
    assert re.search(
        r"^failed: psycopg2 \(of psycopg2-binary\) after .*, and likewise app: ImportError: libpq-", told, re.MULTILINE
    )
    assert re.search(
        r"^  error\[library-missing\] psycopg2/_psycopg\S+: needs `libpq-\S+`, which neither ", told, re.MULTILINE
    )
    assert "  more: manylambda explain library-missing\n" in told
    assert told.splitlines()[-1].startswith(f"{NATIVE}: 1 module imported, 4 failed (rootfs, ")


# What other machines' files are: not tried, never a pass.


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = folder(tmp_path_factory.mktemp("foreign") / "foreign", app="import orjson\n", pure="import idna\n")
    runtime.install(["orjson==3.11.4", "idna==3.11"], Target.parse(OWN_FOREIGN), path)
    return path


@pytest.mark.network
def test_native_modules_of_another_machine_are_not_tried_and_never_passed(trying: Trying, foreign: Path) -> None:
    ran = trying(foreign, "--format", "json", target=OWN_FOREIGN, engine=INTERPRETER)
    assert outcomes(ran.json) == {"idna": "ok", "pure": "ok", "orjson": "not-tried", "app": "not-tried"}
    assert not any(one["ok"] for one in ran.json["imports"] if one["outcome"] != "ok")
    assert told_last(ran) == "warning: what was not tried has not passed: 2 modules imported, 2 not tried"
    assert ran.json["proves"].startswith("without native modules, ")
    assert f"native modules of {OTHER} Linux cannot be loaded here" in ran.json["leaves_open"]
    ran = trying(foreign, target=OWN_FOREIGN, engine=INTERPRETER)
    assert (
        "not tried, which is no pass: 1 module (orjson): its native files are for "
        f"{OTHER}, and cannot be loaded here\n" in ran.stdout
    )
    assert "not tried, which is no pass: 1 module (app): it needs `orjson.orjson`" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith(f"{OWN_FOREIGN}: 2 modules imported, 2 not tried (interpreter, ")


@pytest.mark.network
def test_where_nothing_can_be_tried_that_is_no_success(trying: Trying, foreign: Path) -> None:
    options = ("--module", "orjson", "--module", "app")
    ran = trying(foreign, *options, target=OWN_FOREIGN, engine=INTERPRETER, status=6)
    assert ran.stdout.splitlines()[-1].startswith(f"{OWN_FOREIGN}: 0 modules imported, 2 not tried (interpreter, ")
    assert told_last(ran) == (
        "warning: nothing of it could be tried here: run it in a root file system or an image of the target"
    )
    event = ("--handler", "app.handler", "--event", "{}")
    ran = trying(foreign, *event, target=OWN_FOREIGN, engine=INTERPRETER, status=6)
    assert ran.stdout == ""
    assert ran.stderr == (
        f"error: the handler cannot be invoked in the engine interpreter: native files for {OTHER} do not load there\n"
        "\nhint: give a root file system or an image to run in: `--rootfs`, `--image`\n"
    )


def test_where_no_engine_works_each_is_told_with_how_to_get_it(run: Run, project: Path, tmp_path: Path) -> None:
    nowhere = {"PATH": str(tmp_path), "HOME": str(tmp_path), "UV_PYTHON_INSTALL_DIR": str(tmp_path / "none")}
    minor = "3.15" if OWN != "python3.15" else "3.14"
    ran = run("trial", project, "-t", f"python{minor}-arm64", status=6, env=nowhere)
    assert ran.stdout == ""
    assert ran.stderr.startswith(
        f"error: nothing here can try python{minor}-arm64: no container: no podman, docker, finch or nerdctl on the "
        f"path; no rootfs: no bubblewrap (`bwrap`) on the path; no interpreter: no CPython {minor} on this host\n"
    )
    assert "podman" in ran.stderr.partition("hint: ")[2]
    assert ran.stderr.endswith(f"`--download-python`, or `uv python install {minor}`\n")


# Hostile modules.


def hostile(path: Path, name: str) -> Path:
    """Write a package that does what it must not; its children are called `name`."""
    return folder(
        path,
        eats="kept = [bytearray(1 << 20) for _ in range(2000)]\n",
        exits="import os\nos._exit(0)\n",
        fine="answer = 42\n",
        # Forty that only sleep: that there is a limit is proved where it can be set.
        forks=f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, b"{name}", 0, 0, 0)
for _ in range(40):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
""",
        network="import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=5)\n",
        resolves="import socket\nsocket.getaddrinfo('example.org', 80)\n",
        segfaults="import ctypes\nctypes.string_at(0)\n",
        sleeps="import time\ntime.sleep(600)\n",
        speaks="print('\\033[31mred')\nimport os\nos.write(1, b'{}\\n')\n",
        writes="open('/var/task/x', 'w')\n",
        zeal="import fine\n",
    )


def alive(name: str) -> list[str]:
    """Give the processes of that name, wherever they run on this host."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if Path(path).read_text(encoding="utf-8").strip() == name:
                found.append(path)
    return found


def assert_gone(name: str) -> None:
    """Hold that they end, for which the kernel takes a moment; by themselves they sleep longer than this."""
    deadline = time.monotonic() + 60
    while alive(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(name) == []


@pytest.mark.parametrize("engine", ["rootfs", "interpreter"])
def test_what_a_module_must_not_do_is_contained_and_told(trying: Trying, tmp_path: Path, engine: str) -> None:
    hosts.needs("bwrap")
    name = f"ml{uuid.uuid4().hex[:8]}"
    path = hostile(tmp_path / "hostile", name)
    before = sorted(path.rglob("*"))
    ran = trying(
        path,
        *("--timeout", "5.5", "--memory", "200", "--format", "json", "--offline"),
        target=NATIVE if engine == "rootfs" else OWN_NATIVE,
        engine=None if engine == "rootfs" else INTERPRETER,
        status=6,
    )
    assert outcomes(ran.json) == {
        "eats": "out-of-memory",
        "exits": "crashed",
        "fine": "ok",
        "forks": "ok",
        "network": "failed",
        "resolves": "failed",
        "segfaults": "crashed",
        "sleeps": "timed-out",
        "speaks": "ok",
        "writes": "failed",
        "zeal": "ok",
    }
    told = {
        one["module"]: (one["error"].split(":")[0], (one["reason"] or {}).get("cause"))
        for one in ran.json["imports"]
        if one["error"] is not None
    }
    assert told == {
        "eats": ("it used up the memory of the function", "out-of-memory"),
        "exits": ("it ended the interpreter with status 0", "runtime-exit"),
        "network": ("[Errno 101] Network is unreachable", "trial-network"),
        "resolves": ("[Errno -3] Temporary failure in name resolution", "trial-network"),
        "segfaults": ("SIGSEGV", "segmentation-fault"),
        "sleeps": ("it was not imported within 5.5 s", "timeout"),
        "writes": ("[Errno 30] Read-only file system", "read-only"),
    }
    assert of(ran.json, "speaks")["log"] == "\x1b[31mred\n{}"
    assert_gone(name)
    assert sorted(path.rglob("*")) == before


def test_the_text_shows_where_a_module_hung_and_no_frame_of_ours(trying: Trying, tmp_path: Path) -> None:
    path = folder(tmp_path / "slow", sleeps="import time\n\n\ntime.sleep(600)\n")
    ran = trying(path, "--timeout", "1", "--offline", status=6)
    assert re.search(
        r"^timed out: sleeps after [1-9]\d*\.\d\d s: it was not imported within 1 s\n"
        r"  \| Timeout \(0:00:01\)!\n"
        r"  \| (?:Current thread|Thread) 0x\w+ .*\(most recent call first\):\n"
        r'  \|   File "/var/task/sleeps\.py", line 4 in <module>\n'
        r"  why: The function did not end in its time\.\n",
        ran.stdout,
        re.MULTILINE,
    ), ran.stdout


# Events, and what else can be asked for.

EVENTS: Final = """
import time
count = 0
def handler(event, context):
    global count
    count += 1
    if event == "boom":
        raise ValueError("boom")
    if event == "sleep":
        time.sleep(600)
    print("seen", context.function_name)
    return {"got": event, "count": count}
"""


@pytest.mark.network
def test_events_come_in_turn_and_one_that_fails_is_told_with_the_rest(trying: Trying, tmp_path: Path) -> None:
    path = folder(tmp_path / "events", app=EVENTS)
    (tmp_path / "event.json").write_text('\ufeff{"from": "file"}', encoding="utf-8")
    given = ("event.json", '{"of": "words"}', "-", '"boom"', '"sleep"', "1")
    events = [word for one in given for word in ("--event", one)]
    ran = trying(
        path,
        *("--handler", "app.handler", *events, "--timeout", "5", "--format", "json"),
        stdin='["standard", "input"]',
        status=6,
    )
    told = [
        (one["result"], one["error_type"], one["error"], one["cold"], (one["reason"] or {}).get("cause"))
        for one in ran.json["invocations"]
    ]
    assert told == [
        ({"got": {"from": "file"}, "count": 1}, None, None, True, None),
        ({"got": {"of": "words"}, "count": 2}, None, None, False, None),
        ({"got": ["standard", "input"], "count": 3}, None, None, False, None),
        (None, "ValueError", "boom", False, None),
        (None, "Sandbox.Timedout", "Task timed out after 5.00 seconds", False, "timeout"),
        ({"got": 1, "count": 1}, None, None, True, None),
    ]
    assert ran.json["invocation"] == ran.json["invocations"][0]
    assert ran.json["invocations"][0]["log"] == "seen manylambda-trial\n"
    cold = [one["init_seconds"] is not None for one in ran.json["invocations"]]
    assert cold == [True, False, False, False, False, True]
    assert all((one["peak_memory"] or 1 << 24) > 1 << 20 for one in ran.json["invocations"])


@pytest.mark.network
def test_a_handler_that_is_not_there_is_told_with_its_finding(trying: Trying, tmp_path: Path) -> None:
    path = folder(tmp_path / "events", app=EVENTS)
    ran = trying(path, "--handler", "app.hander", "--event", "{}", status=6)
    assert "event 1 failed: Runtime.HandlerNotFound: Handler 'hander' missing on module 'app'\n" in ran.stdout
    assert "  error[handler-missing] app.py: the handler `app.hander` needs `hander`, which " in ran.stdout
    assert "\\xa0" not in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith(f"{NATIVE}: 1 module imported, 1 event failed (rootfs, ")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--event", "{}"], "an event needs a handler"),
        (["--handler", "app.handler", "--event", "no.json"], "there is no file `no.json`"),
        (["--handler", "app.handler", "--event", "{no"], "the event is not JSON: "),
        (["--timeout", "0"], "0 seconds are no time to try anything in"),
        (["--timeout", "nan"], "nan seconds are no time to try anything in"),
        (["--memory", "8"], "8 MiB are too little memory to start Python in"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_runs(
    trying: Trying, project: Path, options: list[str], error: str
) -> None:
    ran = trying(project, *options, engine=("--rootfs", "nowhere"), status=2)
    assert ran.stdout == ""
    assert ran.stderr.startswith(f"error: {error}")


def test_named_modules_alone_are_imported(trying: Trying, tmp_path: Path) -> None:
    path = folder(tmp_path / "some", one="", two="1/0\n")
    folder(path / "within", __init__="", deep="x = 1\n")
    ran = trying(path, "--module", "one", "--module", "within.deep", "--offline")
    assert ran.stdout.splitlines()[-1].startswith(f"{NATIVE}: 2 modules imported (rootfs, ")
    ran = trying(path, "--module", "absent", "--offline", status=6)
    assert "ModuleNotFoundError: No module named 'absent'\n" in ran.stdout


def test_a_profile_is_printed_and_drawn(trying: Trying, tmp_path: Path) -> None:
    path = folder(
        tmp_path / "profiled", app="import slow\ndef handler(e, c): pass\n", slow="import time; time.sleep(0.1)\n"
    )
    options = (path, "--handler", "app.handler", "--profile", "--offline")
    told = trying(*options).stdout
    found = re.search(
        r"^import time of app: (\d+) ms, (\d+) ms with bytecode in the package: it would save -?\d+ ms\n"
        r" total ms    own ms  module\n"
        r" +(\d+\.\d) +\d+\.\d  app\n"
        r" +(\d+\.\d) +(\d+\.\d)    slow\n",
        told,
        re.MULTILINE,
    )
    assert found is not None, told
    assert all(float(one) >= 100 for one in found.groups()), told
    page = trying(*options, "--format", "html").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert "slow" in page
    document = trying(*options, "--format", "json").json
    assert [one["module"] for one in document["profile"]["modules"]] == ["app", "slow"]


# Packages of every kind.


@pytest.mark.network
def test_a_layer_is_found_where_the_runtime_has_it(trying: Trying, tmp_path: Path) -> None:
    parts = tmp_path / "layer" / "python"
    runtime.install(["orjson==3.11.4"], Target.parse(NATIVE), parts)
    path = tmp_path / "layer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(one for one in parts.rglob("*") if one.is_file()):
            archive.write(file, file.relative_to(parts.parent).as_posix())
    assert outcomes(trying(path, "--format", "json", "--offline").json) == {"orjson": "ok"}
    text = """
import orjson, os, sys
def handler(event, context):
    return [orjson.__file__, os.getcwd(), os.environ["LD_LIBRARY_PATH"], sys.path[:3]]
"""
    function = folder(tmp_path / "function", app=text)
    missing = trying(function, "--offline", "--format", "json", status=6)
    assert of(missing.json, "app")["reason"]["cause"] == "module-missing"
    ran = trying(function, "--layer", path, "--handler", "app.handler", "--event", "{}", "--format", "json")
    assert ran.json["invocation"]["result"] == [
        "/opt/python/orjson/__init__.py",
        "/var/task",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        ["/var/task", "/opt/python/lib/python3.13/site-packages", "/opt/python"],
    ]


@pytest.mark.network
def test_requirements_and_wheels_are_tried_as_they_are(trying: Trying, tmp_path: Path, shared_cache: Path) -> None:
    (tmp_path / "requirements.txt").write_text("orjson==3.11.4\n", encoding="utf-8")
    ran = trying(tmp_path / "requirements.txt", "--format", "json")
    assert outcomes(ran.json) == {"orjson": "ok"}
    (wheel,) = (shared_cache / "trial-command").rglob(f"orjson-3.11.4-cp313-*{Target.parse(NATIVE).machine}*.whl")
    assert outcomes(trying(wheel, "--format", "json").json) == {"orjson": "ok"}


def own_image(path: Path, app: bytes, **config: Any) -> Path:
    """Save an image: the root file system of the native machine, and a function."""
    root = hosts.root(hosts.NATIVE)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name in sorted({one.name for one in root.iterdir()} - {"dev", "proc", "sys"}):
            archive.add(root / name, arcname=name)
    own = layer({"var/task/": FOLDER, "var/task/app.py": app})
    layers = [sink.getvalue(), own]
    kind = "application/vnd.oci.image.layer.v1.tar"
    made = layout(
        *layers, packed=layers, media_type=kind, architecture=hosts.NATIVE, config={"WorkingDir": "/var/task", **config}
    )
    return made.tar(path)


def test_a_saved_image_is_its_own_environment(trying: Trying, tmp_path: Path) -> None:
    path = own_image(tmp_path / "image.tar", b"import sys\nassert sys.version_info[:2] == (3, 13)\n")
    ran = trying(path, "--offline", engine=())
    assert ran.stdout.splitlines()[0].startswith("tried in rootfs: bubblewrap ")
    assert ", image.tar, CPython 3.13." in ran.stdout.splitlines()[0]
    assert ran.stdout.splitlines()[-1].startswith(f"{NATIVE}: 1 module imported (rootfs, ")
    ran = trying(path, "--offline", "--event", "{}", engine=(), status=2)
    assert ran.stderr.startswith("error: an event needs a handler\n")
    for engine in ("container", "interpreter"):
        ran = trying(path, "--offline", engine=("--engine", engine), status=2)
        assert ran.stderr.startswith(
            f"error: an image is its own environment, which the engine `{engine}` cannot give it\n\nhint: leave "
        )


@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")
def test_the_handler_of_an_image_is_that_of_its_command_wherever_it_lies(
    trying: Trying, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    text = b"def handler(event, context):\n    return event['number'] + 1\n"
    starts = {"Entrypoint": ["/usr/bin/python3.13", "-m", "awslambdaric"], "Cmd": ["app.handler"]}
    path = own_image(tmp_path / "image.tar", text, **starts)
    event = ("--event", '{"number": 41}', "--format", "json")
    assert trying(path, *event, engine=()).json["invocation"]["result"] == 42
    with registry(tmp_path / "registry", tmp_path / "data") as running:
        # Podman and others write layers uncompressed; a registry has them compressed.
        needs("skopeo")
        name = f"{running.host}/own/image:1"
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{path}", f"docker://{name}"], check=True
        )
        assert trying(Path(name), *event, engine=()).json["invocation"]["result"] == 42
        # A container program pulls it by itself.
        known = tmp_path / "registries.conf"
        known.write_text(f'[[registry]]\nlocation = "{running.host}"\ninsecure = true\n', encoding="utf-8")
        there = {
            "CONTAINERS_REGISTRIES_CONF": str(known),
            "PATH": str(containers.programs()) + os.pathsep + os.environ["PATH"],
        }
        try:
            ran = trying(Path(name), *event, engine=("--engine", "container"), env=there)
        finally:
            containers.podman("rmi", "--force", "--ignore", name)
        assert ran.json["engine"] == "container"
        assert ran.json["invocation"]["result"] == 42


# `build --trial`.


def test_a_build_tries_what_it_made_and_leaves_it_there(run: Run, tmp_path: Path) -> None:
    """With nothing on the path it is tried by this very Python."""
    path = folder(tmp_path / "api", app="answer = 42\n")
    alone = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    ran = run("build", path, "-t", OWN_NATIVE, "--trial", "--offline", env=alone)
    assert "\n\ntried in interpreter: CPython " in ran.stdout
    assert "nothing kept the code from the network and from the files of this host" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith(f"{OWN_NATIVE}: 1 module imported (interpreter, ")
    folder(path, bad="raise ValueError(3)\n")
    ran = run("build", path, "-t", OWN_NATIVE, "--trial", "--offline", "--format", "json", env=alone, status=6)
    schemas.check("build", ran.json)
    assert outcomes(ran.artifact["trial"]) == {"app": "ok", "bad": "failed"}
    assert zipfile.ZipFile(ran.artifact["path"]).testzip() is None


# What is seen while waiting, and what an end leaves.


def test_a_pipe_hears_the_result_alone_and_a_terminal_sees_how_far_it_is(trying: Trying, tmp_path: Path) -> None:
    path = folder(tmp_path / "slow", one="", two="import time\ntime.sleep(3)\n")
    trying(path, "--module", "one", "--offline")  # the bytecode of the root is announced when it is made
    ran = trying(path, "--offline")
    assert [line for line in ran.stderr.splitlines() if "(boto3 ...)" not in line] == []
    assert "\x1b" not in ran.stdout
    words = ("trial", path, "-t", NATIVE, "--no-config", *in_root(), "--offline")
    shown, _, status = on_terminal(*words, cwd=tmp_path, env={"NO_COLOR": ""}, stdout_too=True)
    assert status == 0
    assert re.search(r"trial +import 2 modules .* 1/2 ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert "\x1b[?25h" in shown
    assert "\x1b[32m2 modules imported\x1b[0m" in shown
    plain, _, _ = on_terminal(*words, "--module", "one", cwd=tmp_path, env={"NO_COLOR": "1"}, stdout_too=True)
    assert "1 module imported (rootfs, " in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


@pytest.mark.parametrize("engine", ["rootfs", "interpreter"])
def test_an_interrupt_leaves_nothing(tmp_path: Path, engine: str) -> None:
    name = f"ml{uuid.uuid4().hex[:8]}"
    sleeps = f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\ntime.sleep(600)\n"
    path = folder(tmp_path / "slow", **{name: sleeps})
    (tmp_path / "tmp").mkdir()
    chosen = in_root() if engine == "rootfs" else INTERPRETER
    target = NATIVE if engine == "rootfs" else OWN_NATIVE
    running = subprocess.Popen(
        command("trial", path, "-t", target, "--no-config", "--offline", *chosen),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    try:
        deadline = time.monotonic() + 120
        while not alive(name) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(name)
        os.killpg(running.pid, signal.SIGINT)
        stdout, stderr = running.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert (running.returncode, stdout, stderr.splitlines()[-1]) == (130, "", "error: interrupted")
    assert_gone(name)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert glob.glob(f"/dev/shm/manylambda-*/task/{name}.py") == []
