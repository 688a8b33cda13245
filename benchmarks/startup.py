"""How long `manylambda` takes to begin: `--version` against a bare interpreter, and what a warm build imports.

    python -m benchmarks.startup [--runs 20] [--check]

With `--check` the exit status is 1 when `--version` takes 60 ms more than the interpreter alone.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.tools import clean_environment
from benchmarks.workloads import TARGET

if TYPE_CHECKING:
    from collections.abc import Sequence

BUDGET: Final = 0.060
_SHOWN: Final = 15


def _median(command: Sequence[str], runs: int) -> float:
    taken = []
    for number in range(runs + 2):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=clean_environment())
        if number >= 2:
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def imports_of_a_warm_build() -> list[tuple[int, str]]:
    """Build an empty project twice; give the second's imports as (microseconds of the module alone, name)."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "app.py").write_text("def handler(event, context):\n    return {}\n", encoding="utf-8")
        (project / "pylock.toml").write_text(
            'lock-version = "1.0"\ncreated-by = "benchmark"\npackages = []\n', encoding="utf-8"
        )
        environment = {**clean_environment(), "MANYLAMBDA_CACHE_DIR": str(Path(folder) / "cache")}
        said = ""
        for _ in range(2):
            done = subprocess.run(
                [
                    sys.executable,
                    "-X",
                    "importtime",
                    "-m",
                    "manylambda",
                    "build",
                    str(project),
                    "-t",
                    TARGET,
                    "--quiet",
                ],
                env=environment,
                cwd=folder,
                check=True,
                capture_output=True,
                text=True,
            )
            said = done.stderr
    return sorted(
        ((int(alone), name) for alone, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", said)),
        reverse=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    program = str(Path(sys.executable).with_name("manylambda"))
    bare = _median([sys.executable, "-c", "pass"], arguments.runs)
    version = _median([program, "--version"], arguments.runs)
    print(f"bare interpreter        {bare * 1000:6.1f} ms")
    print(f"manylambda --version    {version * 1000:6.1f} ms   {(version - bare) * 1000:+.1f} ms")
    imports = imports_of_a_warm_build()
    total = sum(alone for alone, _ in imports) / 1000
    print(f"a warm build imports {len(imports)} modules in {total:.1f} ms; the longest:")
    for alone, name in imports[:_SHOWN]:
        print(f"  {alone / 1000:6.1f} ms  {name}")
    return int(arguments.check and version - bare > BUDGET)


if __name__ == "__main__":
    sys.exit(main())
