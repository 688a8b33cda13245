"""What goes wrong around a build leaves nothing wrong behind, and the next build is right."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from product import schemas
from product.conftest import command
from product.loopback import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"
ELF = Path(__file__).parent.parent / "elf" / "data"
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and modes")
root_on_linux = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root on Linux"
)


def flip(path: Path, at: int | None = None) -> None:
    """Change one bit of a file and keep its date and size, as a bad disk would."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def kept(cache: Path, name: str) -> Path:
    (path,) = (cache / "v1" / "wheels").rglob(name)
    return path


def whole(folder: Path) -> list[str]:
    """List a folder; every zip in it must be whole."""
    for path in filter(Path.is_file, folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def wheel(index: Index) -> Path:
    return index.wheel(
        "demo",
        files={
            "demo/__init__.py": "x = 1\n",
            "demo/data.bin": random.Random(7).randbytes(300_000),
            "demo/_speed.abi3.so": (ELF / "aarch64.so").read_bytes(),
        },
    )


@pytest.fixture
def locked(index: Index, wheel: Path, project: Path) -> Path:
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    return project


@pytest.fixture
def build(run: Run, locked: Path) -> Callable[..., Any]:
    """Build the locked project and give the only artifact."""

    def building(*flags: str | Path, **more: Any) -> Any:
        return run("build", locked, "-t", TARGET, "--format", "json", *flags, **more).artifact

    return building


# The cache


@pytest.mark.parametrize("kind", ["zip", "dir", "layer"])
def test_a_damaged_file_of_the_cache_is_noticed_and_fetched_anew(
    build: Callable[..., Any], run: Run, locked: Path, index: Index, wheel: Path, cache: Path, kind: str
) -> None:
    first = build("--kind", kind)
    flip(kept(cache, wheel.name))
    ran = run("build", locked, "-t", TARGET, "--kind", kind, "--format", "json")
    assert ran.artifact == first
    assert ran.stderr == (
        "dependencies from `pylock.toml` (locked)\n"
        "warning: damaged in the cache: `demo-1.0-py3-none-any.whl`; fetching anew\n"
    )
    assert index.fetched(wheel) == 2
    assert sha256(kept(cache, wheel.name)) == sha256(wheel)


@pytest.mark.parametrize("damage", ["cut", "emptied", "end", "swapped"])
def test_every_damage_of_a_cached_wheel_is_noticed(
    build: Callable[..., Any], wheel: Path, cache: Path, damage: str
) -> None:
    first = build()
    path = kept(cache, wheel.name)
    data = path.read_bytes()
    changed = {"cut": data[: len(data) // 3], "emptied": b"", "end": data + b"x", "swapped": b"PK\3\4" + data[4:][::-1]}
    path.write_bytes(changed[damage])
    assert build() == first
    assert path.read_bytes() == data


def test_a_damaged_file_met_before_its_facts_were_read_is_noticed(
    build: Callable[..., Any], wheel: Path, cache: Path
) -> None:
    first = build()
    shutil.rmtree(cache / "v1" / "facts")
    flip(kept(cache, wheel.name))
    assert build() == first


def test_damaged_and_cut_facts_are_read_anew(build: Callable[..., Any], index: Index, wheel: Path, cache: Path) -> None:
    first = build()
    facts = [path for path in (cache / "v1" / "facts").rglob("*") if path.is_file()]
    assert len(facts) >= 2
    for change in (flip, lambda path: path.write_bytes(path.read_bytes()[:40]), lambda path: path.write_bytes(b"")):
        for path in facts:
            change(path)
        assert build() == first
    assert index.fetched(wheel) == 1


def test_damage_that_cannot_be_mended_offline_is_an_error_and_keeps_the_artifact(
    build: Callable[..., Any], run: Run, locked: Path, wheel: Path, cache: Path
) -> None:
    first = build()
    flip(kept(cache, wheel.name))
    ran = run("build", locked, "-t", TARGET, "--offline", status=4)
    assert ran.stderr == (
        "dependencies from `pylock.toml` (locked)\n"
        "warning: damaged in the cache: `demo-1.0-py3-none-any.whl`; fetching anew\n"
        "error: 1 file is not in the cache and `--offline` forbids fetching: `demo-1.0-py3-none-any.whl`\n\n"
        "hint: run once without `--offline`\n"
    )
    assert sha256(Path(first["path"])) == first["sha256"]


def test_offline_works_from_a_warm_cache_and_names_what_a_cold_one_lacks(
    run: Run, index: Index, project: Path, cache: Path
) -> None:
    files = [index.wheel("one"), index.wheel("two"), index.wheel("three")]
    (project / "pylock.toml").write_text(index.pylock(*files), encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--offline", status=4)
    assert ran.stderr.endswith(
        "error: 3 files are not in the cache and `--offline` forbids fetching: `one-1.0-py3-none-any.whl`, "
        "`three-1.0-py3-none-any.whl`, `two-1.0-py3-none-any.whl`\n\nhint: run once without `--offline`\n"
    )
    online = run("build", project, "-t", TARGET, "--format", "json").artifact
    index.requests.clear()
    assert run("build", project, "-t", TARGET, "--offline", "--format", "json").artifact == online
    assert index.requests == {}
    kept(cache, files[1].name).unlink()
    ran = run("build", project, "-t", TARGET, "--offline", status=4)
    assert (
        "error: 1 file is not in the cache and `--offline` forbids fetching: `two-1.0-py3-none-any.whl`" in ran.stderr
    )


def test_a_server_with_other_bytes_than_were_locked_gives_no_package(
    run: Run, locked: Path, index: Index, wheel: Path, cache: Path
) -> None:
    other = wheel.read_bytes()[:-1] + b"!"
    index.replaced[wheel.name] = other
    ran = run("build", locked, "-t", TARGET, status=4)
    assert ran.stderr.endswith(
        f"error: `{wheel.name}` from `{index.base}/files/{wheel.name}` is not the file that was locked: "
        f"expected sha256 `{sha256(wheel)}`, got `{hashlib.sha256(other).hexdigest()}`\n\n"
        "hint: it was replaced after it was locked, or altered on its way; "
        "if the new file is wanted, refresh the lock\n"
    )
    assert whole(locked / "dist") == []
    assert not list(cache.rglob("*.whl"))
    index.replaced.clear()
    run("build", locked, "-t", TARGET)


# Two at once, and none to the end


def test_builds_at_once_share_the_cache_and_the_output(locked: Path, index: Index, wheel: Path) -> None:
    index.seconds = 0.3
    running = [
        subprocess.Popen(
            command("build", locked, "-t", TARGET, "-q"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    done = [(one.communicate(timeout=300), one.returncode) for one in running]
    assert [status for _, status in done] == [0, 0, 0, 0], done
    assert len({stdout for (stdout, _), _ in done}) == 1
    assert whole(locked / "dist") == ["api-python3.13-arm64.zip"]
    assert index.fetched(wheel) == 1


def test_folders_built_at_once_in_one_place_are_whole(locked: Path) -> None:
    running = [
        subprocess.Popen(
            command("build", locked, "-t", TARGET, "--kind", "dir", "-q"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    done = [(one.communicate(timeout=300), one.returncode) for one in running]
    assert [status for _, status in done] == [0, 0, 0], done
    assert whole(locked / "dist") == ["api-python3.13-arm64"]
    assert (locked / "dist" / "api-python3.13-arm64" / "demo" / "data.bin").stat().st_size == 300_000


@posix_only
@pytest.mark.slow
def test_a_build_killed_at_any_moment_leaves_nothing_half_done(
    build: Callable[..., Any], locked: Path, index: Index, wheel: Path, cache: Path
) -> None:
    """The next build needs no cleaning up, gives the same bytes and removes what was left."""
    expected = build()
    shutil.rmtree(locked / "dist")
    index.seconds = 0.1
    moments = random.Random(20261122)
    for number in range(10):
        if number % 3 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        running = subprocess.Popen(
            command("build", locked, "-t", TARGET, "-q"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0.1, 0.5))
        running.send_signal(signal.SIGKILL)
        running.wait()
        names = [name for name in whole(locked / "dist") if not name.startswith(".")]
        assert names in ([], ["api-python3.13-arm64.zip"])
        for path in cache.glob("v1/wheels/*/*/*"):
            assert sha256(path) == path.parent.name
    index.seconds = 0.0
    assert build() == expected
    assert whole(locked / "dist") == ["api-python3.13-arm64.zip"]


# Places that cannot be written


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@root_on_linux
@pytest.mark.parametrize("kind", ["zip", "dir"])
def test_a_full_disk_for_the_output_is_an_error(run: Run, locked: Path, small_disk: Path, kind: str) -> None:
    old = small_disk / "api-python3.13-arm64.zip"
    old.write_bytes(b"what was there before")
    ran = run("build", locked, "-t", TARGET, "-o", small_disk, "--kind", kind, status=5)
    name = "api-python3.13-arm64" + (".zip" if kind == "zip" else "")
    assert ran.stderr.splitlines()[1:] == [
        f"error: cannot write `{small_disk / name}`: No space left on device",
        "",
        "hint: the disk is full: free some space, or name another folder with --output",
    ]
    assert ran.stdout == ""
    assert [path.name for path in small_disk.iterdir()] == [old.name]
    assert old.read_bytes() == b"what was there before"


@root_on_linux
def test_a_full_disk_for_the_cache_is_an_error(run: Run, locked: Path, wheel: Path, small_disk: Path) -> None:
    ran = run("build", locked, "-t", TARGET, status=4, env={"MANYLAMBDA_CACHE_DIR": str(small_disk)})
    assert ran.stderr.splitlines()[1:] == [
        f"error: `{wheel.name}` cannot be written to the cache: no space left on device",
        "",
        f"hint: free some space, or set `MANYLAMBDA_CACHE_DIR` to a folder on another disk than `{small_disk}`",
    ]
    assert not list(small_disk.rglob("*.whl"))
    assert whole(locked / "dist") == []


def test_facts_that_cannot_be_kept_do_not_stop_a_build(run: Run, locked: Path, cache: Path) -> None:
    """Facts are a memory: a build goes on without."""
    first = run("build", locked, "-t", TARGET, "--format", "json").artifact
    shutil.rmtree(cache / "v1" / "facts")
    (cache / "v1" / "facts").write_text("in the way", encoding="utf-8")
    assert run("build", locked, "-t", TARGET, "--format", "json").artifact == first


def test_a_file_where_the_output_folder_should_be(run: Run, locked: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    ran = run("build", locked, "-t", TARGET, "-o", tmp_path / "out", status=5)
    assert ran.stderr.splitlines()[1:] == [
        f"error: cannot write `{tmp_path / 'out' / 'api-python3.13-arm64.zip'}`: File exists",
        "",
        "hint: a file is where a folder is needed: move it away, or name another folder with --output",
    ]
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a file"


def test_a_folder_where_the_zip_should_be_is_left_alone(run: Run, locked: Path) -> None:
    place = locked / "dist" / "api-python3.13-arm64.zip"
    place.mkdir(parents=True)
    (place / "mine").touch()
    ran = run("build", locked, "-t", TARGET, status=5)
    assert ran.stderr.splitlines()[1:] == [
        f"error: cannot write `{place}`: Is a directory",
        "",
        "hint: a folder is where the file is needed: move it away, or name another folder with --output",
    ]
    assert (place / "mine").exists()
    assert whole(locked / "dist") == [place.name]


def test_a_file_where_the_folder_should_be_is_left_alone(run: Run, locked: Path) -> None:
    place = locked / "dist" / "api-python3.13-arm64"
    place.parent.mkdir()
    place.write_text("mine", encoding="utf-8")
    ran = run("build", locked, "-t", TARGET, "--kind", "dir", status=5)
    assert ran.stderr.splitlines()[1:] == [
        f"error: `{place}` is a file where a folder is to be written",
        "",
        "hint: move it away or name another --output",
    ]
    assert place.read_text(encoding="utf-8") == "mine"


@root_on_linux
def test_read_only_places(run: Run, locked: Path, tmp_path: Path) -> None:
    """A project on a read-only disk builds to elsewhere; an output folder on one is an error."""
    if subprocess.run(["mount", "--bind", locked, locked], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", locked], check=True)
        ran = run("build", locked, "-t", TARGET, status=5)
        assert ran.stderr.splitlines()[1:] == [
            f"error: cannot write `{locked / 'dist' / 'api-python3.13-arm64.zip'}`: Read-only file system",
            "",
            "hint: the folder cannot be written: name another with --output",
        ]
        made = run("build", locked, "-t", TARGET, "-o", tmp_path / "out", "--format", "json").artifact
        assert whole(tmp_path / "out") == [Path(made["path"]).name]
    finally:
        subprocess.run(["umount", "-l", locked], check=True)


# What the audit refuses


def test_what_the_audit_refuses_is_not_written_and_the_old_artifact_stays(
    build: Callable[..., Any], run: Run, locked: Path
) -> None:
    first = build()
    (locked / "own.so").write_bytes((ELF / "glibc_2_34.so").read_bytes())
    ran = run("build", locked, "-t", TARGET, status=1)
    lines = ran.stdout.splitlines()
    assert any(line.startswith("error[wrong-machine] project: own.so is ") for line in lines)
    assert lines[-1] == f"{TARGET}: not written, because of the errors above (`--no-audit` writes it all the same)"
    assert sha256(Path(first["path"])) == first["sha256"]
    assert whole(locked / "dist") == ["api-python3.13-arm64.zip"]
    refused = build(status=1)
    schemas.check("build", {"version": 1, "source": {"kind": "none", "files": []}, "artifacts": [refused]})
    assert [refused[key] for key in ("path", "sha256", "code_sha256", "size")] == [None] * 4
    assert {finding["rule"] for finding in refused["findings"]} == {"wrong-machine"}


def test_one_refused_target_does_not_hold_back_the_others(run: Run, project: Path) -> None:
    (project / "own.so").write_bytes((ELF / "aarch64_glibc_2_34.so").read_bytes())
    ran = run("build", project, "-t", TARGET, "-t", "python3.13-x86_64", "--format", "json", status=1)
    assert [artifact["path"] is None for artifact in ran.json["artifacts"]] == [False, True]
    assert whole(project / "dist") == ["api-python3.13-arm64.zip"]


def test_without_the_audit_it_is_written(build: Callable[..., Any], locked: Path) -> None:
    (locked / "own.so").write_bytes((ELF / "glibc_2_34.so").read_bytes())
    artifact = build("--no-audit")
    assert artifact["findings"] == []
    with zipfile.ZipFile(artifact["path"]) as archive:
        assert archive.read("own.so") == (ELF / "glibc_2_34.so").read_bytes()


def test_warnings_fail_only_when_asked_to(build: Callable[..., Any], locked: Path) -> None:
    (locked / "json.py").touch()
    artifact = build()
    assert [(one["rule"], one["severity"]) for one in artifact["findings"]] == [("stdlib-shadowed", "warning")]
    failed = build("--fail-on", "warning", status=1)
    assert failed["path"] == artifact["path"]  # written: it will load


def test_a_project_that_changes_while_it_is_packaged_is_never_half_there(
    build: Callable[..., Any], run: Run, locked: Path
) -> None:
    """Either an error or a package with one state of each file."""
    big = locked / "growing.bin"
    states = [bytes([letter]) * 2_000_000 for letter in b"ab"]
    big.write_bytes(states[0])
    over = threading.Event()

    def rewrite() -> None:
        number = 0
        while not over.is_set():
            number += 1
            big.write_bytes(states[number % 2])

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(4):
            done = subprocess.run(
                command("build", locked, "-t", TARGET, "-q"), capture_output=True, text=True, check=False
            )
            assert done.returncode in {0, 5}, done.stderr
            if done.returncode == 5:
                assert "changed while" in done.stderr
            whole(locked / "dist")
    finally:
        over.set()
        writer.join()
