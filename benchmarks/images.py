"""Time container images: `manylambda build --kind image` to a registry, beside `podman build` with pip, and `skopeo`.

    python -m benchmarks.images --work DIR [--runs 5] [--page docs/development/measurements/images.md]

All take the same wheels of W2, for this machine, and the same base - Debian with CPython 3.13 and pip - to the same
`docker-registry` on loopback, whose storage is empty but for the base when a tool begins. Linux, as root; needs
podman, runc, skopeo, docker-registry and mmdebstrap.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import TYPE_CHECKING, Final

from benchmarks import index
from benchmarks.tools import clean_environment, machine
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TARGET: Final = f"python3.13-{ {'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
_PROGRAMS: Final = ("podman", "runc", "skopeo", "docker-registry", "mmdebstrap")
_SUITE: Final = "trixie"
_PACKAGES: Final = "python3.13,python3-pip,libc6,libstdc++6,libgcc-s1,zlib1g,ca-certificates"
# What podman wants where CAP_SYS_RESOURCE is missing and control groups are hybrid; it costs nothing elsewhere.
_PODMAN: Final = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_CONTAINERFILE: Final = """\
FROM {base}
RUN ["/usr/bin/python3.13", "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--no-deps", \
"--require-hashes", "--no-index", "--find-links", "/wheels", {more}"--target", "/var/task", "-r", "/wheels/lock.txt"]
COPY app.py /var/task/
WORKDIR /var/task
CMD ["app.handler"]
"""
# What Lambda's own base images have, by this entry point and `/var/runtime/bootstrap`: W2 needs no client then.
_ENTRY: Final = 'ENTRYPOINT ["/lambda-entrypoint.sh"]'
_LOOK: Final = "import app, boto3, aws_lambda_powertools, pydantic; print(app.handler(None, None))"

_WARM: Final = "`manylambda build`, its dependency layer in the cache"
_ANEW: Final = "`manylambda build`, every layer made anew"
_PIP: Final = "`podman build` with pip, `podman push`"
_BARE: Final = "the same with `pip --no-compile`"
_SKOPEO: Final = "`skopeo copy oci:... docker://...`, nothing built"
_CHANGE: Final = "`manylambda build`, only the code changed"
_PODMAN_CHANGE: Final = "`podman build` with its layers cached, `podman push`, only the code changed"
_ROWS: Final = (_WARM, _ANEW, _PIP, _BARE, _SKOPEO, _CHANGE, _PODMAN_CHANGE)

_EDITS: Final = 3
"""Changes of the code in a round: what is short is measured more often."""
_RATIO: Final = 10.0
_SECONDS: Final = 0.5
_BYTES: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One image, made and pushed."""

    seconds: float
    """Wall time of all its processes."""
    cpu: float
    """Seconds of processor of those processes that were waited for: what podman leaves to others is not in it."""
    sent: int
    """Bytes of blobs and manifests that the registry's storage got."""


class Bench:
    """The folders, the registry and the programs of a run."""

    def __init__(self, work: Path, program: str) -> None:
        self.work = work
        self.program = program
        self.folder = work / "images"
        self.wheels = self.folder / "index" / "files"
        self.data = self.folder / "registry"
        self.cache = self.folder / "cache"
        self.project = self.folder / "project"
        self.host = f"127.0.0.1:{_free_port()}"
        self.base = f"{self.host}/base:3.13"
        self.layout = self.folder / "layout"
        self._base_layout = self.folder / "base"
        self._store = self.folder / "podman"
        self._edits = 0
        self.environment = {**clean_environment(), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    # What there is before

    def prepare(self) -> None:
        """Make what is missing: the wheels, podman's settings and the base."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "containers.conf").write_text(_PODMAN, encoding="utf-8")
        self.wheels.mkdir(parents=True, exist_ok=True)
        workload = next(one for one in WORKLOADS if one.name == "W2")
        if not (self.wheels / "lock.txt").exists():
            index.fill_for_host(self.wheels.parent, [sys.executable, "-m", "pip"], workload.requirements)
            shutil.copyfile(workload.requirements, self.wheels / "lock.txt")
        index.write_pages(self.wheels.parent)
        if not (self._base_layout / "index.json").exists():
            self._make_base()

    def _make_base(self) -> None:
        print("making the base", file=sys.stderr)
        root = self.folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        command = ("mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={_PACKAGES}")
        self.run([*command, _SUITE, str(root), *_mirror()])
        for name in ("bin", "sbin", "lib", "lib64"):  # a script of `base-files` would, and none is run
            if (root / "usr" / name).is_dir() and not (root / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        authorities = sorted((root / "usr" / "share" / "ca-certificates").rglob("*.crt"))
        bundle = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_bytes(b"".join(path.read_bytes() for path in authorities))
        # Without its bytecode pip would compile itself anew in every build.
        folders = ("/usr/lib/python3.13", "/usr/lib/python3/dist-packages")
        self.run(["chroot", str(root), "/usr/bin/python3.13", "-m", "compileall", "-q", *folders])
        for name in ("runtime", "task"):
            (root / "var" / name).mkdir()
        (root / "var" / "runtime" / "bootstrap").touch()
        archive = self.folder / "root.tar"
        self.run(["tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "-cf", str(archive), "."])
        self.podman("import", "--quiet", "--change", _ENTRY, str(archive), "localhost/base:3.13")
        self.podman("push", "--quiet", "localhost/base:3.13", f"oci:{self._base_layout}:base")
        archive.unlink()
        shutil.rmtree(root)

    def lock(self, base: str) -> None:
        """Write the project: its handler, and the wheels as a lock."""
        self.project.mkdir(parents=True, exist_ok=True)
        rows = ['lock-version = "1.0"\ncreated-by = "benchmark"\n']
        for path in sorted(self.wheels.glob("*.whl")):
            name, version = path.name.split("-")[:2]
            name = re.sub(r"[-_.]+", "-", name).lower()
            wheel = f'{{ url = "{base}/files/{path.name}", hashes = {{ sha256 = "{_sha256(path)}" }} }}'
            rows.append(f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{wheel}]\n')
        (self.project / "pylock.toml").write_text("\n".join(rows), encoding="utf-8")
        self.edit()

    @contextmanager
    def registry(self) -> Iterator[None]:
        """Run the registry, over a storage that has nothing but the base."""
        shutil.rmtree(self.data, ignore_errors=True)
        storage = {"filesystem": {"rootdirectory": str(self.data)}}
        settings = {"version": "0.1", "log": {"level": "error"}, "storage": storage, "http": {"addr": self.host}}
        (self.folder / "registry.yml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        command = ["docker-registry", "serve", str(self.folder / "registry.yml")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                self._wait()
                self.run(self.copy(f"oci:{self._base_layout}:base", f"docker://{self.base}"))
                yield
            finally:
                process.kill()

    def _wait(self) -> None:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise SystemExit("error: the registry does not answer")

    # Commands

    def run(self, command: Sequence[str]) -> str:
        """Run a program that must succeed."""
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
        return done.stdout

    def words(self, *words: str) -> list[str]:
        """Give a command of podman, with a store of its own."""
        # As short as podman wants it, and always the same for a store, which refuses another.
        runs = f"/tmp/manylambda-images-{zlib.crc32(os.fsencode(self._store)):08x}"
        settings = f"CONTAINERS_CONF={self.folder / 'containers.conf'}"
        return ["env", settings, "podman", "--root", str(self._store), "--runroot", runs, *words]

    def podman(self, *words: str) -> str:
        """Run podman."""
        return self.run(self.words(*words))

    @staticmethod
    def copy(source: str, to: str) -> list[str]:
        """Give the command of skopeo that copies an image."""
        return ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, to]

    def ours(self, place: str) -> list[str]:
        """Give the command of ours that builds the image and leaves it at a place."""
        command = [
            self.program,
            "build",
            str(self.project),
            "--lock",
            str(self.project / "pylock.toml"),
            "-t",
            _TARGET,
            "--quiet",
        ]
        options = ["--kind", "image", "--handler", "app.handler", "--base", self.base, "--image-output", place]
        return ["env", f"MANYLAMBDA_CACHE_DIR={self.cache}", *command, *options]

    def built(self, name: str, *words: str, more: str = "") -> list[list[str]]:
        """Give podman's commands that build the image and push it; untimed, its Containerfile is written."""
        context = self.folder / "context"
        context.mkdir(exist_ok=True)
        shutil.copyfile(self.project / "app.py", context / "app.py")
        text = _CONTAINERFILE.format(base=self.base, more=more)
        (context / "Containerfile").write_text(text, encoding="utf-8")
        options = ("--quiet", "--pull=never", "--network=none", "--tls-verify=false", "-v", f"{self.wheels}:/wheels:ro")
        image = f"{self.host}/{name}"
        return [
            self.words("build", *options, *words, "-t", image, str(context)),
            self.words("push", "--quiet", "--tls-verify=false", image),
        ]

    def edit(self) -> None:
        """Change the code."""
        self._edits += 1
        text = f"def handler(event, context):\n    return {{'edit': {time.time_ns()}, 'number': {self._edits}}}\n"
        (self.project / "app.py").write_text(text, encoding="utf-8")

    def forget_layers(self) -> None:
        """Make our cache one in which no layer was ever made."""
        found = list(self.cache.glob("*/facts/image-layer*"))
        assert found, "the cache is not where it was"
        for path in found:
            for file in (one for one in path.rglob("*") if one.is_file()):
                digest = json.loads(file.read_bytes().partition(b"\n")[2])["digest"]
                for blob in self.cache.glob(f"*/blobs/sha256/{digest[:2]}/{digest}"):
                    blob.unlink()
            shutil.rmtree(path)

    def stored(self) -> int:
        """Count the bytes of all blobs the registry has."""
        return sum(path.stat().st_size for path in self.data.glob("docker/registry/v2/blobs/sha256/*/*/data"))

    def measure(self, commands: Sequence[Sequence[str]]) -> Measure:
        """Run the commands one after the other."""
        os.sync()  # what others left to be written is not theirs to pay for
        before, stored = getrusage(RUSAGE_CHILDREN), self.stored()
        begin = time.perf_counter()
        for command in commands:
            self.run(command)
        seconds = time.perf_counter() - begin
        after = getrusage(RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Measure(seconds=seconds, cpu=cpu, sent=self.stored() - stored)

    # What is measured

    def round(self, number: int) -> Sequence[tuple[str, Measure]]:
        """Measure everything once; each round begins with another tool."""
        place = f"registry:{self.host}"

        def ours() -> Iterator[tuple[str, Measure]]:
            yield _WARM, self.measure([self.ours(f"{place}/warm{number}")])
            for _ in range(_EDITS):
                self.edit()
                yield _CHANGE, self.measure([self.ours(f"{place}/warm{number}")])
            if not number:
                self.look(f"warm{number}")

        def podman() -> Iterator[tuple[str, Measure]]:
            yield _PIP, self.measure(self.built(f"podman{number}", "--no-cache"))
            for _ in range(_EDITS):
                self.edit()
                yield _PODMAN_CHANGE, self.measure(self.built(f"podman{number}"))
            if not number:
                self.look(f"podman{number}")

        def bare() -> Iterator[tuple[str, Measure]]:
            commands = self.built(f"bare{number}", "--no-cache", more='"--no-compile", ')
            yield _BARE, self.measure(commands)

        def anew() -> Iterator[tuple[str, Measure]]:
            self.forget_layers()
            yield _ANEW, self.measure([self.ours(f"{place}/anew{number}")])

        def skopeo() -> Iterator[tuple[str, Measure]]:
            shutil.rmtree(self.layout, ignore_errors=True)
            self.run(self.ours(f"oci:{self.layout}"))
            yield _SKOPEO, self.measure([self.copy(f"oci:{self.layout}", f"docker://{self.host}/skopeo{number}")])

        turns: list[Callable[[], Iterator[tuple[str, Measure]]]] = [ours, podman, skopeo, bare, anew]
        first = number % len(turns)
        taken: list[tuple[str, Measure]] = []
        for turn in turns[first:] + turns[:first]:
            with self.registry():
                taken.extend(turn())
        return taken

    def look(self, name: str) -> None:
        """See that what was pushed runs."""
        options = ("--rm", "--network=none", "--tls-verify=false", "--pull=always")
        self.podman("run", *options, "--entrypoint", "/usr/bin/python3.13", f"{self.host}/{name}", "-c", _LOOK)

    def tidy(self) -> None:
        """Take away podman's images but for the base."""
        for image in self.podman("images", "--quiet", "--no-trunc", "--filter", f"since={self.base}").split():
            subprocess.run(self.words("rmi", "--force", image), capture_output=True, check=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mirror() -> list[str]:
    """Give where this machine gets packages of Debian from, if it says."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    text = sources.read_text(encoding="utf-8") if sources.exists() else ""
    return re.findall(r"^URIs:\s*(\S+/debian)\s*$", text, re.MULTILINE)[:1]


def table(taken: Mapping[str, Sequence[Measure]]) -> str:
    """Write the medians, with how often the warm build of ours goes into each."""
    medians = {name: statistics.median(one.seconds for one in taken[name]) for name in _ROWS}
    lines = [
        "| | seconds, median | lowest to highest | processor | bytes sent | times the first |",
        "|---|" + "--:|" * 5,
    ]
    for name in _ROWS:
        seconds = sorted(one.seconds for one in taken[name])
        cpu = statistics.median(one.cpu for one in taken[name])
        sent = statistics.median(one.sent for one in taken[name])
        lines.append(
            f"| {name} | {medians[name]:.2f} | {seconds[0]:.2f} to {seconds[-1]:.2f} | {cpu:.2f} | {sent:,.0f} | "
            f"{medians[name] / medians[_WARM]:.1f} |"
        )
    return "\n".join(lines)


def verdict(taken: Mapping[str, Sequence[Measure]]) -> str:
    """Say what was asked for, and whether it was reached."""

    def median(name: str) -> float:
        return statistics.median(one.seconds for one in taken[name])

    sent = max(one.sent for one in taken[_CHANGE])
    rows = [
        (
            f"{how}: {_RATIO:.0f} times as fast as {told}",
            f"{median(peer) / median(ours):.1f} times",
            median(peer) / median(ours) >= _RATIO,
        )
        for ours, how in ((_WARM, "assembled from a cached layer and pushed"), (_ANEW, "every layer made anew, pushed"))
        for peer, told in ((_PIP, "podman with pip"), (_BARE, "podman with `pip --no-compile`"))
    ]
    rows += [
        (f"only the code changed: less than {_BYTES:,} bytes sent", f"{sent:,} bytes", sent < _BYTES),
        (
            f"only the code changed: less than {_SECONDS} s",
            f"{median(_CHANGE):.2f} s",
            median(_CHANGE) < _SECONDS,
        ),
    ]
    lines = [
        f"| {asked} | {found} | {'reached' if is_reached else '**missed**'} |" for asked, found, is_reached in rows
    ]
    return "\n".join(["| asked | found | |", "|---|---|---|", *lines])


def page(bench: Bench, taken: Mapping[str, Sequence[Measure]], load: tuple[float, float]) -> str:
    """Write the page of the measurement."""
    host, wheels = machine(), len(list(bench.wheels.glob("*.whl")))
    versions = ", ".join(
        bench.run([*command, "--version"]).strip().splitlines()[0]
        for command in (["podman"], ["skopeo"], [bench.program])
    )
    return f"""\
# Images, beside `podman build` with pip

Written by `python -m benchmarks.images --work DIR --page docs/development/measurements/images.md`.

W2 (aws-lambda-powertools[all], boto3: {wheels} wheels) for {_TARGET}, on a Debian with CPython 3.13 and pip, pushed to
a `docker-registry` on loopback that has nothing but that base when a tool begins. `podman build --no-cache` runs
`pip install --no-deps --require-hashes` from a local folder of the same wheels, without network; its base is pulled,
our wheels are in our cache. Without `--no-compile` pip writes bytecode, which we do not. Whole processes; the tools
take turns, beginning with another each round; {len(taken[_WARM])} rounds count, after one in which images of ours and
of podman were pulled and imported W2. Bytes sent are what the registry's storage grew by. The processor time of podman
lacks what its containers spend.

{host["system"]}, {host["processor"]}, {host["cores"]} cores, {host["memory_gib"]} GiB; {versions}.
The load of the machine was {load[0]:.1f} when it began and {load[1]:.1f} at the end: above the number of cores, seconds
are good for ratios only.

{table(taken)}

{verdict(taken)}

What was asked for is with warm caches, to which our layer of dependencies belongs. Made anew, it is deflated from all
its files, as podman's is. A change of the code takes {statistics.median(one.cpu for one in taken[_CHANGE]):.2f} s of
processor; the rest is the registry, and the wait for a core.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.images", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="the base, the wheels and podman's store"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--page", type=Path, metavar="FILE", help="written to, besides what is printed")
    parser.add_argument("--manylambda", default=str(Path(sys.executable).with_name("manylambda")), metavar="PROGRAM")
    arguments = parser.parse_args(argv)
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        raise SystemExit(f"error: `{missing[0]}` is not on the path")
    load = os.getloadavg()[0]
    bench = Bench(arguments.work.resolve(), arguments.manylambda)
    bench.prepare()
    with index.serve(bench.wheels.parent, _free_port()) as base:
        bench.lock(base)
        with bench.registry():
            bench.podman("pull", "--quiet", "--tls-verify=false", bench.base)
            bench.run(bench.ours(f"registry:{bench.host}/first"))
            bench.run(bench.ours(f"oci:{bench.layout}"))
        taken: dict[str, list[Measure]] = {name: [] for name in _ROWS}
        for number in range(arguments.runs + 1):
            done = bench.round(number)
            bench.tidy()
            print(f"round {number}: " + "  ".join(f"{one.seconds:.2f}" for _, one in done), file=sys.stderr)
            if number:  # the first brings the files into memory
                for name, one in done:
                    taken[name].append(one)
    text = page(bench, taken, (load, os.getloadavg()[0]))
    print(text)
    if arguments.page is not None:
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
