"""Time whole builds: `manylambda` and its peers, for the same pins, from a loopback index.

    python -m benchmarks.run --work DIR [--warm] [--cold] [--unchanged] [--memory] [--runs 5]
                             [--only W1,W3] [--tools manylambda,uv]

The tools take turns within a run, so that a noisy minute touches all of them. Figures go to `benchmarks/results.json`
(each mode replaces its own) and from there to `docs/benchmarks.md`. Linux only; needs `zip`, and Python 3.13 for SAM.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import index, report
from benchmarks.tools import (
    PEERS,
    Ours,
    Pex,
    Pip,
    Place,
    Sam,
    Step,
    Tool,
    Uv,
    fill_index,
    find_python313,
    install_peers,
    machine,
)
from benchmarks.workloads import TARGET, WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS: Final = Path(__file__).with_name("results.json")
_MODES: Final = ("warm", "cold", "unchanged", "memory")


# Runs a command and says the most memory that it or a child of it had, in KiB. A process of its own, because the kernel
# counts what a parent had before the command replaced it: this one has 10 MiB, the benchmark has more than uv needs.
_LAUNCHER: Final = """
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One build."""

    seconds: float
    """Wall time of all its processes."""
    peak: int
    """Resident bytes of the largest process; 0 when not asked for."""
    size: int
    """Bytes of the artifact."""


class Failed(Exception):
    """A tool could not make the package; the message is the end of what it said."""


def measure(steps: Sequence[Step], output: Path, *, memory: bool) -> Measure:
    """Run the processes one after the other."""
    os.sync()  # what the previous build left to be written is not ours to pay for
    peak = 0
    begin = time.perf_counter()
    for step in steps:
        command = list(step.command)
        note = output.parent / "peak"
        if memory:
            program = shutil.which(command[0], path=step.environment["PATH"]) or command[0]
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(note), program, *command[1:]]
        done = subprocess.run(
            command,
            cwd=step.directory,
            env=dict(step.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            raise Failed(done.stdout.decode(errors="replace")[-2000:])
        if memory:
            peak = max(peak, int(note.read_text(encoding="ascii")) * 1024)
    seconds = time.perf_counter() - begin
    archives = list(output.glob("*.zip"))
    if len(archives) != 1:
        raise Failed(f"{len(archives)} archives were made")
    return Measure(seconds=seconds, peak=peak, size=archives[0].stat().st_size)


def _fresh(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def once(tool: Tool, workload: Workload, mode: str, work: Path, base: str, *, first: bool) -> Measure:
    """Build once as the mode wants it: with or without the cache and the previous output."""
    cache = work / "caches" / ("cold" if mode == "cold" else "warm") / tool.name
    scratch = work / "scratch" / f"{tool.name}-{workload.name}"
    if mode == "cold":
        _fresh(cache)
    if mode != "unchanged" or first:
        _fresh(scratch)
    place = Place(work=work, cache=cache, scratch=scratch, base=base)
    return measure(tool.steps(workload, place), place.output, memory=mode == "memory")


def run_mode(
    mode: str, tools: Sequence[Tool], workloads: Sequence[Workload], *, runs: int, work: Path, base: str
) -> dict[str, Any]:
    """Measure every tool on every workload."""
    table: dict[str, Any] = {}
    for workload in workloads:
        measures: dict[str, list[Measure]] = {tool.name: [] for tool in tools}
        failed: dict[str, str] = {}
        warm_up = 0 if mode == "cold" else 1
        for number in range(runs + warm_up):
            for tool in tools:
                if tool.name in failed:
                    continue
                try:
                    result = once(tool, workload, mode, work, base, first=number == 0)
                except Failed as error:
                    failed[tool.name] = str(error)
                    print(f"{mode} {workload.name} {tool.name}: failed\n{error}", file=sys.stderr)
                    continue
                if number >= warm_up:
                    measures[tool.name].append(result)
        for tool in tools:
            shutil.rmtree(work / "scratch" / f"{tool.name}-{workload.name}", ignore_errors=True)
        table[workload.name] = row = {
            name: {"peak_mib": round(max(one.peak for one in taken) / 2**20, 1)}
            if mode == "memory"
            else {
                "median": round(statistics.median(one.seconds for one in taken), 3),
                "seconds": [round(one.seconds, 3) for one in taken],
                "size": taken[-1].size,
            }
            for name, taken in measures.items()
            if taken and name not in failed
        }
        shown = "  ".join(
            f"{name} {value['peak_mib' if mode == 'memory' else 'median']}" for name, value in row.items()
        )
        print(f"{mode} {workload.name}: {shown}", file=sys.stderr)
    return table


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="environments, caches and the index")
    for mode in _MODES:
        parser.add_argument(f"--{mode}", action="append_const", dest="modes", const=mode)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", metavar="W1,W3")
    parser.add_argument("--tools", default="", metavar="manylambda,uv")
    parser.add_argument("--manylambda", default=str(Path(sys.executable).with_name("manylambda")), metavar="PROGRAM")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _arguments(argv)
    if shutil.which("zip") is None:
        raise SystemExit("error: `zip` is not on the path")
    work: Path = arguments.work.resolve()
    install_peers(work)
    workloads = [one for one in WORKLOADS if not arguments.only or one.name in arguments.only.upper().split(",")]
    tools: list[Tool] = [
        Ours(program=arguments.manylambda),
        Uv(),
        Pip(name="pip", compiles=False),
        Pip(name="pip-documented", compiles=True),
    ]
    python313 = find_python313()
    if python313:
        tools.append(Sam(python313=python313))
    else:
        print("sam is left out: there is no python3.13", file=sys.stderr)
    tools.append(Pex())
    if arguments.tools:
        tools = [tool for tool in tools if tool.name in arguments.tools.split(",")]
    folder = fill_index(work, workloads)
    results: dict[str, Any] = {"version": 1, "modes": {}}
    if arguments.results.exists():
        results = json.loads(arguments.results.read_text(encoding="utf-8"))
    results |= {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "target": TARGET,
        "machine": machine(),
        "versions": {**results.get("versions", {}), **_versions(arguments.manylambda)},
    }
    with index.serve(folder, arguments.port) as base:
        for mode in arguments.modes or ["warm"]:
            table = run_mode(mode, tools, workloads, runs=arguments.runs, work=work, base=base)
            known = results["modes"].setdefault(mode, {"runs": arguments.runs, "workloads": {}})
            known["runs"] = arguments.runs
            for name, row in table.items():
                known["workloads"].setdefault(name, {}).update(row)
            arguments.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(report.tables(results))
    if arguments.results == RESULTS:
        report.PAGE.write_text(report.page(results), encoding="utf-8")


def _versions(program: str) -> dict[str, str]:
    versions = {name: pins[0].split("==")[1] for name, pins in PEERS.items()}
    if Path(program).exists():
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        versions["manylambda"] = said.split()[-1] if said.split() else "unknown"
    return versions


if __name__ == "__main__":
    main()
