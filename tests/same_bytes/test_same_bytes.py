from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from image.saved import layer, layout
from same_bytes.hosts import TARGETS, Build, Here, Host, all_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.xdist_group("same_bytes")]

_LOCK = Path(__file__).with_name("pylock.toml")


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # the default of 5 makes a burst of connections wait a second


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture(scope="session")
def lock(shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The lock, with its files on loopback: a host with a wrong clock could not speak TLS."""
    text = _LOCK.read_text(encoding="utf-8")
    folder = shared_cache / "same-bytes"
    folder.mkdir(parents=True, exist_ok=True)
    for url, sha256 in re.findall(r'url = "([^"]+)".*sha256 = "(\w+)"', text):
        file = folder / url.rsplit("/", 1)[1]
        if not file.exists():
            with urllib.request.urlopen(url) as response:
                data = response.read()
            assert hashlib.sha256(data).hexdigest() == sha256
            file.write_bytes(data)
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        yield re.sub(r'url = "[^"]+/', f'url = "{base}/', text)
        server.shutdown()


def _write_project(folder: Path, lock: str) -> None:
    """Everything that hosts see differently: line ends, names, modes, dates, bytes worth compressing and not."""
    folder.mkdir(parents=True)
    (folder / "app.py").write_bytes(b"def handler(event, context):\n    return {}\n")
    (folder / "crlf.txt").write_bytes(b"one\r\ntwo\r\n" * 500)
    (folder / "noise.bin").write_bytes(b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256)))
    (folder / "Größe ß İı.txt").write_text("grün\n" * 1000, encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "run").write_bytes(b"#!/bin/sh\nexec true\n")
    (folder / "bin" / "run").chmod(0o755)
    (folder / "package" / "Inner").mkdir(parents=True)
    (folder / "package" / "Inner" / "I.json").write_bytes(b'{"i": "I"}\n' * 3000)
    (folder / "package" / "a.py").write_bytes(b"")
    (folder / "package" / "B.py").write_bytes(b"B = 1\n")
    (folder / "pylock.toml").write_text(lock, encoding="utf-8")


def _build(host: Host, work: Path, lock: str) -> Mapping[str, Path]:
    """Build on a host and give the artifact of each target."""
    project = work / host.folder
    _write_project(project, lock)
    if host.stamp is not None:
        for path in (project, *project.rglob("*")):
            os.utime(path, (host.stamp, host.stamp))
    arguments = [word for target in host.targets for word in ("-t", target)]
    arguments += ["--lock", "pylock.toml", "--scripts", "--format", "json", "--name", "package"]
    artifacts: dict[str, Path] = {}
    for round_ in range(2 if host.warm else 1):
        output = work / f"out-{round_}"
        request = Build(work=work, project=project, output=output, cache=work / "cache", arguments=arguments)
        artifacts = {}
        for artifact in _run(host, request):
            file = output / re.split(r"[/\\]", artifact["path"])[-1]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == artifact["sha256"]
            artifacts[artifact["target"]] = file
    assert sorted(artifacts) == sorted(TARGETS)
    return artifacts


def _build_image(host: Host, work: Path, base: Path) -> Mapping[str, bytes]:
    """Build a container image of the project that `_build` wrote; give the files of its layout."""
    shutil.copytree(base, work / "base")
    project, output = work / host.folder, work / "out-image"
    place = os.path.relpath(work / "base", project).replace(os.sep, "/")
    # Wheels are judged by the libraries of the base, and this one has none.
    arguments = [
        "-t",
        TARGETS[0],
        "--kind",
        "image",
        "--base",
        f"oci:{place}",
        "--handler",
        "app.handler",
        "--no-audit",
    ]
    arguments += ["--lock", "pylock.toml", "--split-layers", "--format", "json", "--name", "package"]
    request = Build(work=work, project=project, output=output, cache=work / "cache", arguments=arguments)
    (artifact,) = _run(host, request)
    (folder,) = output.iterdir()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert f"blobs/sha256/{artifact['sha256']}" in files
    return files


def _run(host: Host, request: Build) -> list[Any]:
    command = host.run(request)
    done = subprocess.run(
        list(command.argv),
        env=dict(command.environment),
        umask=command.umask,
        cwd=request.project,
        stdin=subprocess.DEVNULL,  # Windows Python under Wine needs it
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    artifacts: list[Any] = json.loads(done.stdout)["artifacts"]
    return artifacts


def _differences(one: Path, other: Path) -> list[str]:
    """What a person wants to know when the hashes differ."""

    def facts(file: Path) -> dict[str, tuple[object, ...]]:
        with zipfile.ZipFile(file) as archive:
            return {
                info.filename: (
                    info.CRC,
                    info.compress_size,
                    info.date_time,
                    oct(info.external_attr >> 16),
                    info.flag_bits,
                )
                for info in archive.infolist()
            }

    ours, theirs = facts(one), facts(other)
    if list(ours) != list(theirs) and sorted(ours) == sorted(theirs):
        return ["the order of the files differs"]
    return [
        f"{name}: {ours.get(name)} here, {theirs.get(name)} there"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


@pytest.fixture(scope="session")
def reference(lock: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    work = tmp_path_factory.mktemp("reference")
    return _build(Host(name="reference", run=Here()), work, lock)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image as Lambda's are made, to put the others on."""
    config = {"Entrypoint": ["/lambda-entrypoint.sh"], "WorkingDir": "/var/task"}
    files = layer({"var/lang/bin/python3.13": b"\x7fELF", "var/runtime/bootstrap": b"#!/bin/sh\n"}, mode=0o755)
    return layout(files, config=config, architecture="arm64").folder(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def image(reference: Mapping[str, Path], base: Path) -> Mapping[str, bytes]:
    work = reference[TARGETS[0]].parent.parent
    return _build_image(Host(name="reference", run=Here()), work, base)


@pytest.mark.parametrize("host", [pytest.param(host, id=host.name.replace(" ", "-")) for host in all_hosts()])
def test_the_same_lock_and_sources_give_the_same_bytes(
    host: Host, reference: Mapping[str, Path], image: Mapping[str, bytes], base: Path, lock: str, tmp_path: Path
) -> None:
    if host.missing is not None:
        if os.environ.get("CI") and not host.optional:
            pytest.fail(host.missing)
        pytest.skip(host.missing)
    built = _build(host, tmp_path, lock)
    for target, file in built.items():
        assert _differences(reference[target], file) == []
        assert file.read_bytes() == reference[target].read_bytes()
    made = _build_image(host, tmp_path, base)
    assert sorted(made) == sorted(image)  # layers, configuration and manifest are named by their digests
    assert made == image
    shutil.rmtree(tmp_path)  # thirty caches are much to keep


def test_a_package_names_nothing_of_its_host(reference: Mapping[str, Path]) -> None:
    """No folder is in what was made here, nor a date but the fixed one."""
    private = [str(reference[TARGETS[0]].parent.parent), str(_LOCK.parent)]
    for file in reference.values():
        with zipfile.ZipFile(file) as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            content = b"".join(archive.read(info) for info in archive.infolist())
        assert [name for name in private if name.encode() in content] == []


def test_a_difference_would_be_told(reference: Mapping[str, Path], lock: str, tmp_path: Path) -> None:
    """The comparison itself: another project gives another hash, and the file that differs is named."""
    run = Here()
    project = tmp_path / "project"

    def changed(build: Build) -> Any:
        (project / "app.py").write_bytes(b"def handler(event, context):\n    return 1\n")
        return run(build)

    built = _build(Host(name="changed", run=changed), tmp_path, lock)
    (difference,) = _differences(reference[TARGETS[0]], built[TARGETS[0]])
    assert difference.startswith("app.py: ")
