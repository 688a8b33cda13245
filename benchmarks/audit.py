"""Time audits: `manylambda audit` beside `auditwheel show` and `pydistcheck`, on the same wheels.

    python -m benchmarks.audit --work DIR [--runs 5] [--only W1,W3]

`manylambda` reads the finished package in one process, as a user would; and, because the others know only wheels, each
compiled wheel in a process of its own too. Nothing is remembered between runs: every file is read anew each time.
Figures go to `benchmarks/results.json` and from there to `docs/benchmarks.md`. Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import index, report
from benchmarks.run import RESULTS
from benchmarks.tools import AUDITORS, Ours, Place, clean_environment, fill_index, install_peers
from benchmarks.workloads import TARGET, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.workloads import Workload

_FINDINGS: Final = 1
"""The exit status of all three where they found something: what is measured is the look, not the verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """One way to look at the wheels of a workload."""

    name: str
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str]

    def seconds(self) -> float:
        """Run every command, one after the other; return the wall time of all."""
        begin = time.perf_counter()
        for command in self.commands:
            done = subprocess.run(command, env=dict(self.environment), capture_output=True, check=False)
            if done.returncode not in {0, _FINDINGS}:
                raise SystemExit(f"error: {self.name} failed\n{done.stderr.decode(errors='replace')[-2000:]}")
        return time.perf_counter() - begin


def audits(workload: Workload, package: Path, wheels: Path, place: Place, program: str) -> Sequence[Audit]:
    """Give every tool its commands for one workload."""
    files = [wheels / wheel.filename for wheel in workload.wheels()]
    compiled = [file for file in files if not file.name.endswith("-none-any.whl")]
    environment = clean_environment()
    # An empty cache each time would measure the same: an audit of a file keeps nothing.
    ours = {**environment, "MANYLAMBDA_CACHE_DIR": str(place.cache)}
    look = (program, "audit", "-t", TARGET, "--quiet")
    return [
        Audit(name="manylambda", commands=[(*look, str(package))], environment=ours),
        Audit(name="wheel by wheel", commands=[(*look, str(file)) for file in compiled], environment=ours),
        Audit(
            name="auditwheel",
            commands=[(place.peer("auditwheel", "auditwheel"), "show", str(file)) for file in compiled],
            environment=environment,
        ),
        Audit(
            name="pydistcheck",
            commands=[(place.peer("pydistcheck", "pydistcheck"), *map(str, files))],
            environment=environment,
        ),
    ]


def _package(workload: Workload, place: Place, program: str) -> Path:
    """Build the package that is looked at; not timed."""
    for step in Ours(program=program).steps(workload, place):
        subprocess.run(step.command, cwd=step.directory, env=dict(step.environment), check=True, capture_output=True)
    (package,) = place.output.glob("*.zip")
    return package


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the figures down."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="environments, caches and the index")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", metavar="W1,W3")
    parser.add_argument("--manylambda", default=str(Path(sys.executable).with_name("manylambda")), metavar="PROGRAM")
    parser.add_argument("--port", type=int, default=18081)
    arguments = parser.parse_args(argv)
    work: Path = arguments.work.resolve()
    install_peers(work)
    workloads = [one for one in WORKLOADS if not arguments.only or one.name in arguments.only.upper().split(",")]
    folder = fill_index(work, workloads)
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    results["versions"] |= {name: pins[0].split("==")[1] for name, pins in AUDITORS.items()}
    known = results["modes"].setdefault("audit", {"runs": arguments.runs, "workloads": {}})
    known["runs"] = arguments.runs
    with index.serve(folder, arguments.port) as base:
        for workload in workloads:
            scratch = work / "scratch" / f"audit-{workload.name}"
            place = Place(work=work, cache=work / "caches" / "warm" / "manylambda", scratch=scratch, base=base)
            package = _package(workload, place, arguments.manylambda)
            tools = audits(workload, package, folder / "files", place, arguments.manylambda)
            taken: dict[str, list[float]] = {tool.name: [] for tool in tools}
            for number in range(arguments.runs + 1):
                for tool in tools:
                    seconds = tool.seconds()
                    if number:  # the first round brings the files into memory
                        taken[tool.name].append(seconds)
            known["workloads"][workload.name] = {
                name: {
                    "median": round(statistics.median(values), 3),
                    "seconds": [round(value, 3) for value in values],
                }
                for name, values in taken.items()
            }
            shown = "  ".join(f"{name} {statistics.median(values):.2f}" for name, values in taken.items())
            print(f"audit {workload.name}: {shown}", file=sys.stderr)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.PAGE.write_text(report.page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
