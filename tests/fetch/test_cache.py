"""The cache holds whole files only, and believes nothing it did not check."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import FetchError
from manylambda.fetch import Cache

if TYPE_CHECKING:
    from pathlib import Path

WHEEL = "demo-1.0-py3-none-any.whl"


def put(cache: Cache, content: bytes, filename: str = WHEEL) -> tuple[Path, str]:
    sha256 = hashlib.sha256(content).hexdigest()
    temporary = cache.incoming("some.tmp")
    temporary.write_bytes(content)
    return cache.keep(temporary, sha256, filename), sha256


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    assert Cache.default({"MANYLAMBDA_CACHE_DIR": str(tmp_path)}).root == tmp_path


def test_a_relative_folder_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Cache.default({"MANYLAMBDA_CACHE_DIR": "here"}).root == tmp_path / "here"


@pytest.mark.parametrize("variable", [{}, {"XDG_CACHE_HOME": "/elsewhere"}])
def test_the_default_folder_is_that_of_platformdirs(
    variable: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.delenv("MANYLAMBDA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    assert Cache.default().root == platformdirs.user_cache_path("manylambda", appauthor=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG folders are those of Linux")
def test_a_relative_xdg_folder_is_passed_over_as_the_standard_says() -> None:
    environment = {"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}
    assert str(Cache.default(environment).root) == "/home/me/.cache/manylambda"


def test_a_file_lies_under_its_hash(cache: Cache) -> None:
    path, sha256 = put(cache, b"content")
    assert path == cache.root / "v1" / "wheels" / sha256[:2] / sha256 / WHEEL
    assert path.read_bytes() == b"content"


def test_nothing_is_created_before_something_is_kept(cache: Cache) -> None:
    cache.wheel_path("0" * 64, WHEEL)
    assert cache.read_facts("wheel", 1, "0" * 64) is None
    assert not cache.root.exists()


def test_the_folder_says_that_it_is_a_cache(cache: Cache) -> None:
    put(cache, b"content")
    assert (cache.root / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    assert (cache.root / ".gitignore").read_bytes() == b"*\n"


@pytest.mark.parametrize(
    "name", ["", "../demo.whl", "a/b.whl", "a\\b.whl", "c:demo.whl", ".hidden", "a\nb.whl", "\x1b[1m"]
)
def test_a_name_that_leaves_its_folder_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(FetchError, match=r"^a file has an unsafe name: "):
        cache.wheel_path("0" * 64, name)


def test_a_hash_that_is_none_is_refused(cache: Cache) -> None:
    with pytest.raises(FetchError) as caught:
        cache.wheel_path("../../etc", WHEEL)
    assert caught.value.message == f"`{WHEEL}` has no usable sha256: `../../etc`"


def test_a_changed_file_is_noticed(cache: Cache) -> None:
    path, sha256 = put(cache, b"content")
    assert cache.verify(path, sha256)
    path.write_bytes(b"contenT")
    assert not cache.verify(path, sha256)


def test_a_missing_file_is_not_verified(cache: Cache) -> None:
    assert not cache.verify(cache.wheel_path("0" * 64, WHEEL), "0" * 64)


def test_many_files_are_checked_and_the_wrong_ones_named(cache: Cache) -> None:
    files = dict(put(cache, bytes([number]) * 5_000 * number, f"demo-{number}.whl") for number in range(1, 30))
    wrong = sorted(files)[3:7]
    for path in wrong[:3]:
        path.write_bytes(b"")
    wrong[3].unlink()
    assert cache.verify_all(files) == tuple(wrong)


def test_checking_no_file_finds_none_wrong(cache: Cache) -> None:
    assert cache.verify_all({}) == ()


@pytest.mark.parametrize("document", [{}, [], {"a": [1, 2.5, None, "ü \udcff"]}, "text", [["name", 1]] * 3_000])
def test_facts_come_back_as_they_went(cache: Cache, document: object) -> None:
    assert cache.write_facts("wheel", 1, "a" * 64, document)
    assert cache.read_facts("wheel", 1, "a" * 64) == document


def test_facts_of_another_kind_version_or_key_are_not_found(cache: Cache) -> None:
    cache.write_facts("wheel", 1, "a" * 64, {})
    assert cache.read_facts("elf", 1, "a" * 64) is None
    assert cache.read_facts("wheel", 2, "a" * 64) is None
    assert cache.read_facts("wheel", 1, "b" * 64) is None


@pytest.mark.parametrize("key", ["https://example.org/a b?c", "../../up", "A" * 64, "", "x" * 500, "\udcff"])
def test_any_text_is_a_key(cache: Cache, key: str) -> None:
    assert cache.write_facts("wheel", 1, key, {"key": key})
    assert cache.read_facts("wheel", 1, key) == {"key": key}
    assert all(path.is_relative_to(cache.root) for path in cache.root.rglob("*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: content.replace(b"5", b"6"),
        lambda content: bytes(len(content)),
        lambda content: b"not a checksum\n" + json.dumps({"size": 5}).encode(),
    ],
)
def test_torn_or_edited_facts_are_dropped(cache: Cache, damage: object) -> None:
    cache.write_facts("wheel", 1, "a" * 64, {"size": 5})
    (path,) = (cache.root / "v1" / "facts").rglob("a" * 64)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.read_facts("wheel", 1, "a" * 64) is None


def test_facts_under_a_wrong_name_are_dropped(cache: Cache) -> None:
    cache.write_facts("wheel", 1, "a" * 64, {"size": 5})
    (path,) = (cache.root / "v1" / "facts").rglob("a" * 64)
    path.rename(path.with_name("a" * 63 + "b"))
    assert cache.read_facts("wheel", 1, "a" * 63 + "b") is None


def test_facts_are_replaced(cache: Cache) -> None:
    for number in range(3):
        cache.write_facts("wheel", 1, "a" * 64, number)
    assert cache.read_facts("wheel", 1, "a" * 64) == 2
    assert list((cache.root / "v1" / "incoming").iterdir()) == []


def test_the_facts_of_a_large_wheel_are_read_in_no_time(cache: Cache) -> None:
    document = [[f"package/sub/module_{number}.py", number * 7, number, 8] for number in range(3_500)]
    cache.write_facts("wheel", 1, "a" * 64, document)

    def seconds() -> float:
        start = time.perf_counter()
        cache.read_facts("wheel", 1, "a" * 64)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(200)) < 0.006  # about 0.0015 on an idle machine


def test_a_cache_that_cannot_be_written_still_serves(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where a folder is wanted")
    cache = Cache(tmp_path / "cache")
    assert not cache.write_facts("wheel", 1, "a" * 64, {})
    assert cache.read_facts("wheel", 1, "a" * 64) is None
    cache.sweep()


def test_a_full_disk_is_told_with_what_to_do(cache: Cache) -> None:
    with pytest.raises(FetchError) as caught, cache.writing(WHEEL):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.message == f"`{WHEEL}` cannot be written to the cache: no space left on device"
    assert caught.value.hint == (
        f"free some space, or set `MANYLAMBDA_CACHE_DIR` to a folder on another disk than `{cache.root}`"
    )


def test_a_read_only_folder_is_told_with_what_to_do(cache: Cache) -> None:
    with pytest.raises(FetchError) as caught, cache.writing(WHEEL):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert caught.value.message == f"`{WHEEL}` cannot be written to the cache: permission denied"
    assert caught.value.hint == f"make `{cache.root}` writable, or set `MANYLAMBDA_CACHE_DIR` to a folder that is"


def test_a_wrong_file_can_be_discarded(cache: Cache) -> None:
    path, _ = put(cache, b"content")
    cache.discard(path)
    cache.discard(path)
    assert not path.exists()


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_sweep_takes_what_is_a_day_old_and_nothing_else(cache: Cache) -> None:
    path, _ = put(cache, b"content")
    old, young = cache.incoming("old.part"), cache.incoming("young.part")
    old.write_bytes(b"o")
    young.write_bytes(b"y")
    for aged in (path, old):
        age(aged, 90_000)
    cache.sweep()
    assert (path.exists(), old.exists(), young.exists()) == (True, False, True)


def test_a_sweep_is_not_repeated_within_a_day(cache: Cache) -> None:
    cache.sweep()
    old = cache.incoming("old.part")
    old.write_bytes(b"o")
    age(old, 90_000)
    cache.sweep()
    assert old.exists()
    age(cache.incoming("swept"), 90_000)
    cache.sweep()
    assert not old.exists()


def test_a_sweep_takes_folders_too(cache: Cache) -> None:
    old = cache.incoming("old.tmp")
    (old / "inner").mkdir(parents=True)
    (old / "inner" / "file").write_bytes(b"o")
    age(old, 90_000)
    cache.sweep()
    assert not old.exists()


def test_a_use_is_noted_once_in_ten_minutes(cache: Cache) -> None:
    path, sha256 = put(cache, b"content")
    age(path, 500)
    lately = path.stat().st_mtime
    assert cache.verify(path, sha256)
    assert path.stat().st_mtime == lately
    age(path, 700)
    assert cache.verify(path, sha256)
    assert path.stat().st_mtime > time.time() - 60


def test_a_use_of_facts_is_noted(cache: Cache) -> None:
    cache.write_facts("wheel", 1, "a" * 64, {})
    (path,) = (cache.root / "v1" / "facts").rglob("a" * 64)
    age(path, 90_000)
    cache.read_facts("wheel", 1, "a" * 64)
    assert path.stat().st_mtime > time.time() - 60


WRITER = """
import sys
from pathlib import Path
from manylambda.fetch import Cache
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    cache.write_facts("wheel", 1, "a" * 64, [number] * 20_000)
"""


def test_facts_are_whole_while_two_processes_write_and_one_is_killed(cache: Cache) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(cache.root)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        seen = 0
        deadline = time.monotonic() + 200
        while seen < 100 and time.monotonic() < deadline:
            if seen == 50:
                writers[0].kill()
            document = cache.read_facts("wheel", 1, "a" * 64)
            if document is None:
                # On Windows a file cannot be opened in the moment in which it is replaced.
                assert seen == 0 or sys.platform == "win32", "once written, there is always a whole one"
                continue
            assert isinstance(document, list)
            assert document == [document[0]] * 20_000
            seen += 1
        assert seen == 100
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_warm_build_imports_nothing_it_does_not_need(tmp_path: Path) -> None:
    program = """
import hashlib, sys
from pathlib import Path
from manylambda.fetch import Cache, Credentials, Download, fetch_all
from manylambda.progress import SILENT
cache = Cache.default({"MANYLAMBDA_CACHE_DIR": sys.argv[1]})
sha256 = hashlib.sha256(b"content").hexdigest()
temporary = cache.incoming("some.tmp")
temporary.write_bytes(b"content")
cache.keep(temporary, sha256, "demo.whl")
download = Download(url="https://files.example/demo.whl", filename="demo.whl", sha256=sha256, size=7)
credentials = Credentials.from_settings({}, [(None, "https://user:password@index.example/simple")])
fetch_all([download], cache=cache, credentials=credentials, offline=False, progress=SILENT, verify=True)
heavy = {"urllib3", "truststore", "filelock", "platformdirs", "ssl", "socket", "concurrent", "logging",
         "subprocess", "netrc", "shutil", "tempfile", "http", "email"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "cache")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
