"""A run leaves no folder behind: one that was killed has its folder removed by the next."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from manylambda.host.folders import Folder, folder

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")

_HOLDS = """
import sys
from pathlib import Path
from manylambda.host.folders import Folder
held = Folder(sys.argv[1])
(held.path / "task").mkdir()
(held.path / "task" / "app.py").write_text("")
print(held.path, flush=True)
sys.stdin.read()
"""


def holder(room: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(room)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_it_is_gone_with_its_context(tmp_path: Path) -> None:
    with folder(str(tmp_path)) as path:
        (path / "file").write_text("")
        assert list(tmp_path.iterdir()) == [path]
        assert f"-{os.getpid()}-" in path.name
    assert not list(tmp_path.iterdir())


def test_it_may_be_closed_twice(tmp_path: Path) -> None:
    made = Folder(str(tmp_path))
    made.close()
    made.close()
    assert not list(tmp_path.iterdir())


@posix
def test_what_a_killed_run_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    with holder(tmp_path) as killed, holder(tmp_path) as alive:
        left, used = line(killed), line(alive)
        killed.kill()
        killed.wait()
        assert os.path.isdir(left)
        with folder(str(tmp_path)) as path:
            assert {each.name for each in tmp_path.iterdir()} == {path.name, os.path.basename(used)}
        assert os.path.isfile(os.path.join(used, "task", "app.py"))
        alive.kill()


@posix
def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("")
    room = tmp_path / "room"
    room.mkdir()
    (room / "manylambda-trial-1-abcdefgh").symlink_to(elsewhere)
    (room / "manylambda-trial-2-abcdefgh").write_text("a file")
    (room / "manylambda-trial-abcdefgh").mkdir()
    kept = {"manylambda-trial-1-abcdefgh", "manylambda-trial-2-abcdefgh", "manylambda-trial-abcdefgh"}
    if os.geteuid() == 0:
        (room / "manylambda-trial-3-abcdefgh").mkdir()
        os.chown(room / "manylambda-trial-3-abcdefgh", 1234, -1)
        kept.add("manylambda-trial-3-abcdefgh")
    with folder(str(room)) as path:
        assert {each.name for each in room.iterdir()} == {*kept, path.name}
    assert (elsewhere / "file").is_file()


@posix
def test_many_that_begin_at_once_take_nothing_from_each_other(tmp_path: Path) -> None:
    lost: list[Path] = []

    def work() -> None:
        for _ in range(50):
            with folder(str(tmp_path)) as path:
                try:
                    (path / "file").write_text("")
                except OSError:
                    lost.append(path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert not list(tmp_path.iterdir())
