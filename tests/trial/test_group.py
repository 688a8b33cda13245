"""A control group bounds root, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from manylambda.trial.engines import group

FORKS = """
import os, sys, time
sys.stdin.readline()
count = 0
try:
    for _ in range(60):
        if not os.fork():
            time.sleep(60)
        count += 1
except BlockingIOError:
    pass
print(count)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root makes a group")
def test_a_process_and_what_it_starts_are_bounded_and_the_group_goes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        with group.bounded(process.pid, 20) as is_bounded:
            try:
                if not is_bounded:
                    pytest.skip("this host lets nobody make a control group")
                process.stdin.write("go\n")
                process.stdin.flush()
                assert process.stdout.readline() == "19\n"
            finally:
                os.killpg(process.pid, 9)
                process.wait()
    assert own_groups() == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root makes a group")
def test_the_group_of_one_who_was_killed_is_removed_by_the_next() -> None:
    parents = list(group._parents())
    for parent in parents:
        if (parent / "pids.max").exists() or (parent / "cgroup.procs").exists():
            left = parent / f"manylambda-{2**22 + 1}-dead"  # no process has so high a number
            try:
                left.mkdir()
            except OSError:
                continue
            with group.bounded(_ended(), 20):
                pass
            assert not left.exists()
            return
    pytest.skip("this host lets nobody make a control group")


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def own_groups() -> list[str]:
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/manylambda-{os.getpid()}-*")]


def test_without_control_groups_nothing_is_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(group, "_parents", lambda: iter([tmp_path, tmp_path / "nowhere"]))
    with group.bounded(2**22 + 1, 20) as is_bounded:
        assert not is_bounded
    assert list(tmp_path.iterdir()) == []
