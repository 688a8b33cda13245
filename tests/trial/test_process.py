"""One process is run and heard to its end, however long this host takes to look."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from manylambda.trial.engines import process

if TYPE_CHECKING:
    import pytest


def test_what_it_wrote_last_is_heard_when_this_host_stands_still_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0]

    def still() -> float:
        """Each look takes three seconds, longer than what was killed has to be gone."""
        looks[0] += 1
        return time.monotonic() + 3 * looks[0]

    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=still))
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if line == "one":
            time.sleep(1)  # it ends meanwhile

    code = "import os; os.write(1, b'one\\ntwo\\nthree\\n'); os.write(2, b'log')"
    completed = process.run([sys.executable, "-c", code], job=b"", environment={}, seconds=1e6, hear=hear)
    assert (completed.status, completed.log, heard) == (0, "log", ["one", "two", "three"])
