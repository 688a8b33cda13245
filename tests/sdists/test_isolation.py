"""What a build sees of this host: its source, its tools, its requirements, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.errors import PackagingError
from manylambda.fetch import Cache
from manylambda.locks.model import LocalPackage
from manylambda.progress import SILENT
from manylambda.sdists import Builder
from manylambda.sdists.isolation import bubblewrap
from manylambda.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.progress import Task

ARM = Target.parse("python3.13-arm64")
needs_bubblewrap = pytest.mark.skipif(
    bubblewrap() is None and not os.environ.get("CI"), reason="no bubblewrap that works on this host"
)

BACKEND = """
import json, os, pathlib, zipfile
@PROBE@
def build_wheel(directory, config_settings=None, metadata_directory=None):
    print("found " + json.dumps(probe()))
    name = "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("lib.py", "")
        wheel.writestr("lib-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n")
        wheel.writestr("lib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("lib-1.0.dist-info/RECORD", "")
    return name
"""


class Heard:
    """Keeps what a build tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return SILENT.task(stage, label, total, unit=unit)

    def info(self, message: str) -> None:
        self.lines.append(message)

    detail = info

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def found_by(probe: str, tmp_path: Path, heard: Heard | None = None) -> Any:
    """Build a package whose backend calls `probe`, and give what that returned."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "lib"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND.replace("@PROBE@", probe))
    heard = heard or Heard()
    builder = Builder(cache=Cache(tmp_path / "cache"), progress=heard)
    builder.folders([LocalPackage(name="lib", directory=folder)], ARM)
    (line,) = [line for line in heard.lines if line.startswith("lib: found ")]
    return json.loads(line.removeprefix("lib: found "))


@needs_bubblewrap
def test_there_is_no_network_not_even_to_this_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reached: list[bool] = []

        def accept() -> None:
            server.settimeout(20)
            try:
                server.accept()
                reached.append(True)
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        probe = (
            "def probe():\n"
            "    import socket\n"
            "    try:\n"
            f"        socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 3)\n"
            "    except OSError as error:\n"
            "        return str(error)\n"
            "    return 'connected'\n"
        )
        assert found_by(probe, tmp_path) != "connected"
        assert not reached


@needs_bubblewrap
def test_neither_home_nor_credentials_nor_other_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text("secret")
    (home / ".netrc").write_text("machine x login y password z")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("UV_INDEX_ACME_PASSWORD", "secret")
    probe = (
        "def probe():\n"
        f"    places = [{str(home)!r}, {str(tmp_path)!r}, '/root/.ssh', '/etc/passwd', '/etc/shadow']\n"
        "    return [[one for one in places if os.path.exists(one)], dict(os.environ)]\n"
    )
    seen, environment = found_by(probe, tmp_path)
    assert seen == []
    assert "secret" not in json.dumps(environment)
    assert environment["HOME"] == "/build/work/home"
    assert not [name for name in environment if name.startswith(("AWS_", "UV_"))]


@needs_bubblewrap
def test_only_its_own_folders_can_be_written_to(tmp_path: Path) -> None:
    probe = (
        "def probe():\n"
        "    done = {}\n"
        "    for place in ('/build/env', '/build/tools', '/usr', '/', os.path.dirname(os.__file__), '/build/source',\n"
        "                  '/build/work', '/tmp'):\n"
        "        try:\n"
        "            pathlib.Path(place, 'written').write_text('x')\n"
        "            done[place] = True\n"
        "        except OSError:\n"
        "            done[place] = False\n"
        "    return done\n"
    )
    done = found_by(probe, tmp_path)
    assert [place for place, was_written in done.items() if was_written] == [
        "/build/source",
        "/build/work",
        "/tmp",
    ]
    assert not os.path.exists("/written")


@needs_bubblewrap
def test_headers_compilers_and_build_tools_of_this_host_are_not_seen(tmp_path: Path) -> None:
    probe = (
        "def probe():\n"
        "    import shutil\n"
        "    there = [one for one in ('/usr/include/stdio.h', '/usr/local/bin') if os.path.exists(one)]\n"
        "    tools = {one: shutil.which(one) for one in ('cmake', 'ninja', 'cargo', 'pg_config', 'sh', 'sed')}\n"
        "    return [there, tools]\n"
    )
    there, tools = found_by(probe, tmp_path)
    assert there == []
    assert [tools[name] for name in ("cmake", "ninja", "pg_config")] == [None, None, None]
    assert tools["cargo"] == "/build/tools/bin/cargo"  # what notes that a compiler is wanted
    assert tools["sh"] == "/build/tools/programs/sh"


@needs_bubblewrap
def test_what_a_build_leaves_running_is_ended(tmp_path: Path) -> None:
    probe = (
        "def probe():\n"
        "    import subprocess, sys\n"
        "    code = 'import time; time.sleep(600); 0x6d616e79'\n"
        "    subprocess.Popen([sys.executable, '-c', code], start_new_session=True)\n"
        "    return None\n"
    )
    found_by(probe, tmp_path)
    deadline = time.monotonic() + 60  # the kernel takes a moment
    while (left := _running(b"0x6d616e79")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def _running(word: bytes) -> list[bytes]:
    """Give the commands with a word in them, of whatever runs on this host."""
    from pathlib import Path

    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes())
    return [command for command in found if word in command]


def test_control_characters_of_a_build_do_not_reach_the_terminal(tmp_path: Path) -> None:
    heard = Heard()
    probe = "def probe():\n    print('\\x1b[31mred\\x1b[0m \\x07bell')\n    return None\n"
    found_by(probe, tmp_path, heard)
    assert "lib: red bell" in heard.lines


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody expects bubblewrap")
def test_without_bubblewrap_it_is_said_and_the_environment_is_clean_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    for name in ("sh", "git"):
        found = shutil.which(name)
        assert found is not None
        (own / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(own))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    heard = Heard()
    environment = found_by("def probe():\n    return dict(os.environ)\n", tmp_path, heard)
    assert heard.warnings == [
        "the build of `lib` is not kept from the network and from your files: there is no bubblewrap that works here"
    ]
    assert "secret" not in json.dumps(environment)
    assert environment["HOME"].endswith("/work/home")
    assert environment["https_proxy"] == "http://127.0.0.1:9"


def test_a_build_that_is_killed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match="`lib` cannot be built"):
        found_by("def probe():\n    os.kill(os.getpid(), 9)\n", tmp_path)
