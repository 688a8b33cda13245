"""Downloads arrive whole and right, or not at all, whatever the server does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fetch.server import (
    MisbehavingServer,
    answer,
    drip,
    first_bytes,
    garbage_on_resume,
    hang_up,
    ignore_range,
    require_login,
    send,
    serve,
    silence,
    truncate,
    truncate_unsaid,
    wrong_part,
)
from manylambda.errors import FetchError, HashMismatch, NotCached, RequestError
from manylambda.fetch import INDEX_PAGE, Cache, Credentials, Download, HttpSettings, StatusError, fetch_all, read_text
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from manylambda.progress import Progress

WHEEL = "demo-1.0-py3-none-any.whl"
PATH = f"/files/{WHEEL}"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Fetcher:
    """Fetches the one file of most tests."""

    server: MisbehavingServer
    cache: Cache
    credentials: Credentials
    settings: HttpSettings
    body: bytes

    def download(self, *, size: bool = True, sha256: bool = True) -> Download:
        return Download(
            url=self.server.url(PATH),
            filename=WHEEL,
            sha256=digest(self.body) if sha256 else None,
            size=len(self.body) if size else None,
        )

    def __call__(self, *downloads: Download, offline: bool = False, progress: Progress = SILENT) -> list[Path]:
        wanted = downloads or (self.download(),)
        paths = fetch_all(
            wanted,
            cache=self.cache,
            credentials=self.credentials,
            offline=offline,
            progress=progress,
            settings=self.settings,
        )
        assert list(paths) == list(dict.fromkeys(wanted))
        return [paths[download] for download in wanted]

    def fails(self, *downloads: Download, offline: bool = False) -> FetchError:
        with pytest.raises(FetchError) as caught:
            self(*downloads, offline=offline)
        assert not list(self.kept()), "a failure leaves nothing that looks like a file"
        return caught.value

    def kept(self) -> list[Path]:
        return [path for path in (self.cache.root / "v1" / "wheels").rglob("*") if path.is_file()]

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.cache.root / "v1" / "incoming").iterdir())


@pytest.fixture
def fetch(
    server: MisbehavingServer, cache: Cache, nobody: Credentials, impatient: HttpSettings, body: bytes
) -> Fetcher:
    server.files[PATH] = body
    return Fetcher(server, cache, nobody, impatient, body)


# Well-behaved


def test_a_file_arrives_under_its_hash_and_leaves_nothing_behind(fetch: Fetcher) -> None:
    (path,) = fetch()
    assert path == fetch.cache.wheel_path(digest(fetch.body), WHEEL)
    assert path.read_bytes() == fetch.body
    assert fetch.left() == ["swept"]


def test_what_is_there_is_not_asked_for(fetch: Fetcher) -> None:
    fetch()
    fetch()
    assert len(fetch.server.requests) == 1


def test_a_file_of_another_size_is_fetched_anew(fetch: Fetcher) -> None:
    (path,) = fetch()
    path.write_bytes(fetch.body[:-1])
    assert fetch()[0].read_bytes() == fetch.body


@pytest.mark.parametrize("size", [True, False])
def test_a_corrupted_file_is_noticed_and_fetched_anew(fetch: Fetcher, size: bool) -> None:
    download = fetch.download(size=size)
    (path,) = fetch(download)
    path.write_bytes(b"X" + fetch.body[1:])
    again = fetch_all(
        [download],
        cache=fetch.cache,
        credentials=fetch.credentials,
        offline=False,
        progress=SILENT,
        verify=True,
        settings=fetch.settings,
    )
    assert again[download] == path
    assert path.read_bytes() == fetch.body


def test_a_corrupted_file_is_missing_when_offline(fetch: Fetcher) -> None:
    (path,) = fetch()
    path.write_bytes(b"X" + fetch.body[1:])
    with pytest.raises(NotCached):
        fetch_all(
            [fetch.download()],
            cache=fetch.cache,
            credentials=fetch.credentials,
            offline=True,
            progress=SILENT,
            verify=True,
        )


def test_many_files_arrive_in_parallel_and_the_largest_is_asked_for_first(fetch: Fetcher) -> None:
    downloads = []
    for number in range(30):
        content = bytes([number]) * (number + 1) * 1_000
        fetch.server.files[f"/{number}.whl"] = content
        fetch.server.plan(f"/{number}.whl", drip(0.02, 8_000))
        downloads.append(
            Download(
                url=fetch.server.url(f"/{number}.whl"),
                filename=f"{number}.whl",
                sha256=digest(content),
                size=len(content),
            )
        )
    paths = fetch(*downloads)
    assert [path.stat().st_size for path in paths] == [(number + 1) * 1_000 for number in range(30)]
    first = {request.path for request in fetch.server.requests[:4]}
    assert first <= {f"/{number}.whl" for number in range(22, 30)}


def test_connections_are_used_again(fetch: Fetcher) -> None:
    one = HttpSettings(connections=1)
    downloads = []
    for number in range(5):
        fetch.server.files[f"/{number}.whl"] = content = bytes([number]) * 1_000
        downloads.append(
            Download(url=fetch.server.url(f"/{number}.whl"), filename="a.whl", sha256=digest(content), size=1_000)
        )
    fetch.settings = one
    fetch(*downloads)
    assert len({request.client for request in fetch.server.requests}) == 1


def test_the_same_file_wanted_twice_is_fetched_once(fetch: Fetcher) -> None:
    other = Download(
        url=fetch.server.url("/mirror.whl"), filename=WHEEL, sha256=digest(fetch.body), size=len(fetch.body)
    )
    first, second, third = fetch(fetch.download(), fetch.download(), other)
    assert first == second == third
    assert len(fetch.server.requests) == 1


def test_nothing_wanted_is_nothing_done(fetch: Fetcher) -> None:
    assert fetch_all([], cache=fetch.cache, credentials=fetch.credentials, offline=True, progress=SILENT) == {}


def test_an_unsafe_name_is_refused_before_anything_is_asked(fetch: Fetcher) -> None:
    error = fetch.fails(Download(url=fetch.server.url(PATH), filename="../evil.whl", sha256=None, size=None))
    assert error.message == "a file has an unsafe name: `'../evil.whl'`"
    assert fetch.server.requests == []


# Interrupted


def test_a_dropped_connection_is_taken_up_where_it_broke(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000), truncate(150_000))
    assert fetch()[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == [None, "bytes=200000-", "bytes=350000-"]


def test_a_connection_dropped_before_the_answer_is_tried_again(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, hang_up, hang_up)
    assert fetch()[0].read_bytes() == fetch.body


def test_a_body_cut_short_without_a_length_is_noticed_by_its_size(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate_unsaid(100_000))
    assert fetch()[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == [None, "bytes=100000-"]


def test_a_body_cut_short_without_a_length_or_a_size_is_a_mismatch(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate_unsaid(100_000))
    assert isinstance(fetch.fails(fetch.download(size=False)), HashMismatch)


def test_a_server_that_ignores_ranges_sends_all_again(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000), ignore_range)
    assert fetch()[0].read_bytes() == fetch.body


def test_a_server_that_sends_another_part_is_asked_for_the_whole(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000), wrong_part)
    assert fetch()[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == [None, "bytes=200000-", None]


def test_garbage_in_the_second_half_makes_us_start_over_once(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000), garbage_on_resume)
    assert fetch()[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == [None, "bytes=200000-", None]


def test_garbage_again_after_starting_over_is_a_mismatch(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000), garbage_on_resume, send(bytes(len(fetch.body))))
    assert isinstance(fetch.fails(), HashMismatch)


def test_garbage_in_the_second_half_does_not_make_us_start_over_for_ever(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, *[truncate(200_000), garbage_on_resume] * 10)
    assert isinstance(fetch.fails(), HashMismatch)
    assert len(fetch.server.requests) == 4


def test_a_partial_file_of_a_killed_run_is_completed(fetch: Fetcher) -> None:
    fetch.cache.incoming(f"{digest(fetch.body)}.part").write_bytes(fetch.body[:123_456])
    assert fetch()[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == ["bytes=123456-"]


def test_a_whole_partial_file_needs_no_request(fetch: Fetcher) -> None:
    fetch.cache.incoming(f"{digest(fetch.body)}.part").write_bytes(fetch.body)
    assert fetch()[0].read_bytes() == fetch.body
    assert fetch.server.requests == []


def test_a_whole_partial_file_of_unknown_size_needs_no_request(fetch: Fetcher) -> None:
    fetch.cache.incoming(f"{digest(fetch.body)}.part").write_bytes(fetch.body)
    assert fetch(fetch.download(size=False))[0].read_bytes() == fetch.body
    assert fetch.server.requests == []


@pytest.mark.parametrize("size", [True, False])
@pytest.mark.parametrize("content", [b"rubbish", bytes(500_000), bytes(600_000)])
def test_a_rotten_partial_file_does_no_harm(fetch: Fetcher, content: bytes, size: bool) -> None:
    fetch.cache.incoming(f"{digest(fetch.body)}.part").write_bytes(content)
    assert fetch(fetch.download(size=size))[0].read_bytes() == fetch.body


def test_patience_is_renewed_by_progress(fetch: Fetcher) -> None:
    large = os.urandom(5_000_000)
    fetch.body = fetch.server.files[PATH] = large
    fetch.settings = HttpSettings(retries=1, backoff=0.001)
    fetch.server.plan(PATH, *[truncate(1_100_000)] * 4)
    assert fetch()[0].read_bytes() == large
    assert len(fetch.server.requests) == 5


def test_what_was_fetched_before_giving_up_is_kept_for_the_next_run(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(300_000), answer(500), forever=True)
    fetch.fails()
    fetch.server.plans.clear()
    fetch()
    assert fetch.server.requests[-1].range == "bytes=300000-"


# Refused


def test_a_server_that_fails_three_times_is_asked_a_fourth(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(500), answer(502), answer(504))
    assert fetch()[0].read_bytes() == fetch.body


def test_a_server_that_always_fails_is_given_up(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(500), forever=True)
    error = fetch.fails()
    assert error.message == (
        f"`{WHEEL}` could not be fetched from `{fetch.server.url(PATH)}` in 4 attempts: "
        "the server answered 500 Internal Server Error"
    )
    assert error.hint == (
        "is the network up, and the server? `MANYLAMBDA_HTTP_TIMEOUT` and `MANYLAMBDA_HTTP_RETRIES` ask for more "
        "patience"
    )
    assert len(fetch.server.requests) == 4
    assert error.exit_status == 4


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(fetch: Fetcher, status: int) -> None:
    fetch.settings = HttpSettings(backoff=0.001, longest_wait=10)
    fetch.server.plan(PATH, answer(status, Retry_After="1"))
    start = time.monotonic()
    fetch()
    assert time.monotonic() - start >= 1.0


def test_retry_after_is_honoured_up_to_a_bound(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(503, Retry_After="86400"), answer(503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"))
    start = time.monotonic()
    fetch()
    assert time.monotonic() - start < 1_000


def test_a_retry_after_that_means_nothing_is_passed_over(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(503, Retry_After="soon"))
    assert fetch()[0].read_bytes() == fetch.body


def test_a_missing_file_is_not_asked_for_twice(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(404), forever=True)
    error = fetch.fails()
    assert error.message == f"`{WHEEL}` is not at `{fetch.server.url(PATH)}`: 404 Not Found"
    assert error.hint == (
        "it may have been removed, or be hidden from whoever is not logged in; "
        "`manylambda lock` finds what the index has now"
    )
    assert len(fetch.server.requests) == 1


def test_an_odd_status_is_told(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(418))
    assert fetch.fails().message == f"`{WHEEL}` could not be fetched from `{fetch.server.url(PATH)}`: 418 I'm a Teapot"


def test_the_words_of_a_server_do_not_reach_the_terminal(fetch: Fetcher) -> None:
    def rude(handler: object, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 400 \x1b[31mred\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]

    fetch.server.plan(PATH, rude)
    assert "\x1b" not in fetch.fails().message


def test_wrong_bytes_are_a_mismatch_and_nothing_of_them_stays(fetch: Fetcher) -> None:
    wrong = bytes(len(fetch.body))
    fetch.server.plan(PATH, send(wrong))
    error = fetch.fails()
    assert isinstance(error, HashMismatch)
    assert error.message == (
        f"`{WHEEL}` from `{fetch.server.url(PATH)}` is not the file that was locked: "
        f"expected sha256 `{digest(fetch.body)}`, got `{digest(wrong)}`"
    )
    assert error.hint == (
        "it was replaced after it was locked, or altered on its way; if the new file is wanted, refresh the lock"
    )
    assert not [name for name in fetch.left() if not name.endswith(".lock")]


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_body_of_the_wrong_length_is_a_mismatch(fetch: Fetcher, extra: bytes) -> None:
    fetch.server.plan(PATH, send(fetch.body + b"x" * 200_000 if extra else b"short"), forever=True)
    assert isinstance(fetch.fails(), HashMismatch)


def test_a_redirect_is_followed(fetch: Fetcher) -> None:
    fetch.server.plan("/old.whl", answer(302, Location=PATH))
    download = Download(url=fetch.server.url("/old.whl"), filename=WHEEL, sha256=digest(fetch.body), size=None)
    assert fetch(download)[0].read_bytes() == fetch.body


def test_a_redirect_in_circles_is_an_error(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(302, Location=PATH), forever=True)
    assert fetch.fails().message == f"`{WHEEL}` is redirected in circles: `{fetch.server.url(PATH)}`"


def test_a_redirect_to_a_local_file_is_an_error(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, answer(302, Location="file:///etc/passwd"))
    assert fetch.fails().message == f"`{WHEEL}` is redirected to something other than HTTP: `file:///etc/passwd`"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/demo.whl", "http://127.0.0.1:port/demo.whl", "http://[/demo.whl"])
def test_an_address_nobody_can_fetch_is_an_error(fetch: Fetcher, url: str) -> None:
    error = fetch.fails(Download(url=url, filename=WHEEL, sha256="0" * 64, size=None))
    assert error.message == f"not an address that can be fetched: `{url}`"


def test_a_closed_port_is_an_error(fetch: Fetcher) -> None:
    with MisbehavingServer() as gone:
        url = gone.url(PATH)
    error = fetch.fails(Download(url=url, filename=WHEEL, sha256="0" * 64, size=None))
    assert error.message == (
        f"`{WHEEL}` could not be fetched from `{url}` in 4 attempts: no connection: connection refused"
    )


def test_an_unknown_host_is_an_error(fetch: Fetcher) -> None:
    url = "http://nowhere.invalid/demo.whl"
    error = fetch.fails(Download(url=url, filename=WHEEL, sha256="0" * 64, size=None))
    assert error.message == (f"`{WHEEL}` could not be fetched from `{url}` in 4 attempts: the host name is not known")


# Slow


def test_a_silent_server_is_given_up(fetch: Fetcher) -> None:
    fetch.settings = HttpSettings(timeout=0.1, retries=1, backoff=0.001)
    fetch.server.plan(PATH, silence(20), forever=True)
    assert fetch.fails().message == (
        f"`{WHEEL}` could not be fetched from `{fetch.server.url(PATH)}` in 2 attempts: no data for 0.1 s"
    )


def test_a_server_that_drips_is_given_up(fetch: Fetcher) -> None:
    fetch.settings = HttpSettings(timeout=3, retries=0, slowest=100_000)
    fetch.server.plan(PATH, drip(0.01), forever=True)
    message = fetch.fails().message
    assert " in 1 attempt: only " in message
    assert message.endswith(" bytes came in 3 s")


def test_a_server_that_dripped_once_is_taken_up_where_it_was_left(fetch: Fetcher) -> None:
    fetch.settings = HttpSettings(timeout=2, retries=1, backoff=0.001, slowest=1_000_000)
    fetch.server.plan(PATH, drip(0.02, 1_000))
    assert fetch()[0].read_bytes() == fetch.body
    assert fetch.server.requests[1].range is not None


def test_one_failure_stops_the_rest_soon(fetch: Fetcher) -> None:
    fetch.settings = HttpSettings(timeout=30)
    downloads = []
    for number in range(3):
        path = f"/{number}.whl"
        fetch.server.files[path] = bytes(100_000)
        fetch.server.plan(path, drip(0.05, 5), forever=True)
        downloads.append(Download(url=fetch.server.url(path), filename=f"{number}.whl", sha256="0" * 64, size=None))
    fetch.server.plan(PATH, answer(404))
    start = time.monotonic()
    assert fetch.fails(*downloads, fetch.download()).message.endswith("404 Not Found")
    assert time.monotonic() - start < 500


# Offline, unhashed, local


def test_offline_names_every_missing_file(fetch: Fetcher) -> None:
    fetch()
    missing = [
        Download(url=f"https://files.example/{name}", filename=name, sha256=sha * 64, size=None)
        for name, sha in (("b-1.whl", "b"), ("a-1.whl", "a"))
    ]
    with pytest.raises(NotCached) as caught:
        fetch(fetch.download(), *missing, offline=True)
    assert caught.value.message == (
        "2 files are not in the cache and `--offline` forbids fetching: `a-1.whl`, `b-1.whl`"
    )
    assert caught.value.hint == "run once without `--offline`"


def test_offline_takes_what_is_there(fetch: Fetcher) -> None:
    (path,) = fetch()
    assert fetch(offline=True) == [path]


def test_a_file_nobody_knows_the_hash_of_is_kept_under_what_came(fetch: Fetcher) -> None:
    (path,) = fetch(fetch.download(sha256=False))
    assert path == fetch.cache.wheel_path(digest(fetch.body), WHEEL)
    assert fetch.left() == ["swept"]


def test_a_file_nobody_knows_the_hash_of_is_asked_for_each_time(fetch: Fetcher) -> None:
    fetch(fetch.download(sha256=False, size=False))
    fetch.server.files[PATH] = b"a newer one"
    assert fetch(fetch.download(sha256=False, size=False))[0].read_bytes() == b"a newer one"


def test_a_file_nobody_knows_the_hash_of_starts_over_when_broken(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, truncate(200_000))
    assert fetch(fetch.download(sha256=False))[0].read_bytes() == fetch.body
    assert [request.range for request in fetch.server.requests] == [None, None]


def test_a_file_nobody_knows_the_hash_of_is_remembered_for_offline(fetch: Fetcher) -> None:
    (path,) = fetch(fetch.download(sha256=False))
    assert fetch(fetch.download(sha256=False), offline=True) == [path]


@pytest.mark.parametrize("form", ["path", "uri"])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_of_this_machine_is_copied(fetch: Fetcher, tmp_path: Path, form: str, known: bool) -> None:
    source = tmp_path / "with space" / WHEEL
    source.parent.mkdir()
    source.write_bytes(fetch.body)
    url = str(source) if form == "path" else source.as_uri()
    download = Download(url=url, filename=WHEEL, sha256=digest(fetch.body) if known else None, size=None)
    (path,) = fetch(download, offline=True)
    assert path == fetch.cache.wheel_path(digest(fetch.body), WHEEL)
    assert path.read_bytes() == fetch.body
    assert source.exists()
    assert fetch(download, offline=True) == [path]


def test_a_file_of_this_machine_that_is_not_what_was_locked_is_a_mismatch(fetch: Fetcher, tmp_path: Path) -> None:
    source = tmp_path / WHEEL
    source.write_bytes(b"other")
    error = fetch.fails(Download(url=str(source), filename=WHEEL, sha256=digest(fetch.body), size=None))
    assert isinstance(error, HashMismatch)
    assert error.message.startswith(f"`{WHEEL}` from `{source}` is not the file that was locked: ")


def test_a_file_of_this_machine_that_is_not_there_is_an_error(fetch: Fetcher, tmp_path: Path) -> None:
    source = tmp_path / WHEEL
    error = fetch.fails(Download(url=source.as_uri(), filename=WHEEL, sha256=None, size=None))
    assert error.message == f"`{WHEEL}` cannot be read from `{source}`: no such file or directory"


# Progress


@dataclass
class Told:
    """Writes down what it is told."""

    tasks: dict[str, list[int]] = field(default_factory=dict)
    totals: dict[str, int | None] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> ToldTask:
        assert (stage, unit) == ("fetch", "bytes")
        self.tasks[label] = []
        self.totals[label] = total
        return ToldTask(self, label)

    def info(self, message: str) -> None: ...

    def detail(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...


@dataclass
class ToldTask:
    told: Told
    label: str

    def advance(self, amount: int) -> None:
        assert amount > 0
        self.told.tasks[self.label].append(amount)

    def finish(self) -> None:
        self.told.finished.append(self.label)


@pytest.mark.parametrize(
    "plan", [[], [truncate(200_000)], [truncate(200_000), ignore_range], [truncate(200_000), garbage_on_resume]]
)
def test_every_byte_is_told_once(fetch: Fetcher, plan: list[Callable[..., None]]) -> None:
    told = Told()
    fetch.server.plan(PATH, *plan)
    fetch(progress=told)
    assert told.totals == {WHEEL: len(fetch.body)}
    assert sum(told.tasks[WHEEL]) == len(fetch.body)
    assert told.finished == [WHEEL]


def test_a_failed_task_is_finished(fetch: Fetcher) -> None:
    told = Told()
    fetch.server.plan(PATH, answer(404))
    with pytest.raises(FetchError):
        fetch(progress=told)
    assert told.finished == [WHEEL]


# Processes

PROGRAM = """
import hashlib, sys
from pathlib import Path
from manylambda.fetch import Cache, Credentials, Download, HttpSettings, fetch_all
from manylambda.progress import SILENT
url, sha256, size, root = sys.argv[1:]
download = Download(url=url, filename=url.rpartition("/")[2], sha256=sha256, size=int(size))
paths = fetch_all([download], cache=Cache(Path(root)), credentials=Credentials.from_settings({}), offline=False,
                  progress=SILENT, settings=HttpSettings(backoff=0.01))
print(paths[download])
"""


def process(fetch: Fetcher) -> subprocess.Popen[str]:
    arguments = [fetch.server.url(PATH), digest(fetch.body), str(len(fetch.body)), str(fetch.cache.root)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_download_leaves_no_bad_entry_and_is_completed_by_the_next(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, first_bytes(300_000))
    part = fetch.cache.root / "v1" / "incoming" / f"{digest(fetch.body)}.part"
    running = process(fetch)
    try:
        wait_for(lambda: part.exists() and part.stat().st_size >= 100_000)
    finally:
        running.kill()
        running.communicate()
    assert fetch.kept() == []
    assert fetch()[0].read_bytes() == fetch.body
    assert fetch.server.requests[1].range is not None
    assert fetch.left() == ["swept"]


def test_two_processes_share_one_download(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, drip(0.01, 10_000))
    running = [process(fetch) for _ in range(2)]
    outputs = [one.communicate(timeout=300) for one in running]
    path = fetch.cache.wheel_path(digest(fetch.body), WHEEL)
    assert outputs == [(f"{path}\n", "")] * 2
    assert path.read_bytes() == fetch.body
    assert len(fetch.server.requests) == 1


def test_the_second_process_takes_over_when_the_first_is_killed(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, first_bytes(300_000))
    part = fetch.cache.root / "v1" / "incoming" / f"{digest(fetch.body)}.part"
    first = process(fetch)
    try:
        wait_for(lambda: part.exists() and part.stat().st_size >= 50_000)
        second = process(fetch)
        time.sleep(0.3)
    finally:
        first.kill()
        first.communicate()
    output, errors = second.communicate(timeout=300)
    assert errors == ""
    assert Path(output.strip()).read_bytes() == fetch.body


# Disks


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which root on Linux can")
def test_a_full_disk_is_an_error_and_is_not_kept_full(fetch: Fetcher, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        fetch.cache = Cache(disk / "cache")
        error = fetch.fails()
        assert error.message == f"`{WHEEL}` cannot be written to the cache: no space left on device"
        assert error.hint is not None
        assert "MANYLAMBDA_CACHE_DIR" in error.hint
        assert fetch.left() == [f"{digest(fetch.body)}.lock"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of this kind are POSIX")
def test_a_write_that_fails_half_way_is_an_error(fetch: Fetcher) -> None:
    limited = "import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + PROGRAM
    arguments = [fetch.server.url(PATH), digest(fetch.body), str(len(fetch.body)), str(fetch.cache.root)]
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"manylambda.errors.FetchError: `{WHEEL}` cannot be written to the cache: file too large\n"
    )
    assert fetch.kept() == []


def test_a_cache_that_cannot_be_made_is_an_error(fetch: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    fetch.cache = Cache(tmp_path / "file")
    error = fetch.fails()
    reason = "file exists" if sys.platform == "win32" else "not a directory"
    assert error.message == f"`{WHEEL}` cannot be written to the cache: {reason}"
    assert error.hint == f"make `{tmp_path / 'file'}` writable, or set `MANYLAMBDA_CACHE_DIR` to a folder that is"


# Settings


def test_settings_are_ours_first_then_those_of_uv_and_pip() -> None:
    ours = {"MANYLAMBDA_HTTP_TIMEOUT": "5", "UV_HTTP_TIMEOUT": "6", "PIP_DEFAULT_TIMEOUT": "7"}
    assert HttpSettings.from_environment(ours).timeout == 5
    del ours["MANYLAMBDA_HTTP_TIMEOUT"]
    assert HttpSettings.from_environment(ours).timeout == 6
    assert HttpSettings.from_environment({"PIP_DEFAULT_TIMEOUT": "7"}).timeout == 7
    assert HttpSettings.from_environment({}) == HttpSettings()
    assert HttpSettings.from_environment({"MANYLAMBDA_HTTP_RETRIES": "0"}).retries == 0


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "0"])
def test_a_timeout_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(RequestError) as caught:
        HttpSettings.from_environment({"MANYLAMBDA_HTTP_TIMEOUT": value})
    assert caught.value.message == f"`MANYLAMBDA_HTTP_TIMEOUT` is not a usable number: `{value}`"


def test_a_certificate_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        HttpSettings.from_environment({"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    assert caught.value.message == f"`SSL_CERT_FILE` names what is not there: `{tmp_path / 'ca.pem'}`"


def test_certificates_are_those_of_pip_else_those_of_openssl(tmp_path: Path) -> None:
    one, two, folder = tmp_path / "one.pem", tmp_path / "two.pem", tmp_path / "folder"
    one.touch()
    two.touch()
    folder.mkdir()
    openssl = {"SSL_CERT_FILE": str(two), "SSL_CERT_DIR": os.pathsep.join([str(tmp_path / "none"), str(folder)])}
    assert HttpSettings.from_environment(openssl).certificates == (two, folder)
    assert HttpSettings.from_environment({**openssl, "REQUESTS_CA_BUNDLE": str(one)}).certificates == (one,)
    assert HttpSettings.from_environment({**openssl, "PIP_CERT": str(one)}).certificates == (one,)


# Proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_used_with_its_login(fetch: Fetcher, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, fetch.server.url("", "proxy-user:p%40ss"))
    url = "http://files.invalid/demo.whl"
    fetch.server.files[url] = fetch.body
    fetch(Download(url=url, filename=WHEEL, sha256=digest(fetch.body), size=None))
    (request,) = fetch.server.requests
    assert request.path == url
    assert request.headers["proxy-authorization"] == "Basic cHJveHktdXNlcjpwQHNz"
    assert request.authorization is None


def test_no_proxy_is_honoured(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,example.org")
    assert fetch()[0].read_bytes() == fetch.body


def test_a_proxy_that_is_away_is_told_without_its_password(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:proxy-secret@proxy.invalid:3128")
    error = fetch.fails()
    assert error.message == (
        f"`{WHEEL}` could not be fetched from `{fetch.server.url(PATH)}` in 4 attempts: "
        "by way of a proxy: the host name is not known"
    )
    assert "proxy-secret" not in str(error)


def test_a_proxy_that_refuses_a_tunnel_is_told(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", fetch.server.url("", "user:proxy-secret"))
    url = "https://files.invalid/demo.whl"
    error = fetch.fails(Download(url=url, filename=WHEEL, sha256="0" * 64, size=None))
    assert error.message.startswith(f"`{WHEEL}` could not be fetched from `{url}` in 4 attempts: by way of a proxy: ")
    assert "tunnel connection failed: 501" in error.message
    assert "proxy-secret" not in str(error)


def test_a_proxy_of_an_unknown_kind_is_an_error(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:secret@proxy.invalid:1080")
    error = fetch.fails()
    assert error.message == "only `http` and `https` proxies can be used: `socks5://proxy.invalid:1080`"


# Documents


def test_a_page_tells_its_kind_and_where_it_came_from(
    server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings
) -> None:
    server.plan("/simple/demo", answer(301, Location="/simple/demo/"))
    server.plan("/simple/demo/", send(b"{}", Content_Type="application/vnd.pypi.simple.v1+json; charset=UTF-8"))
    page = read_text(server.url("/simple/demo"), credentials=nobody, headers={"Accept": INDEX_PAGE}, settings=impatient)
    assert page == ("{}", "application/vnd.pypi.simple.v1+json", server.url("/simple/demo/"))
    assert {request.headers["accept"] for request in server.requests} == {INDEX_PAGE}


def test_a_page_may_be_compressed(server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings) -> None:
    import gzip

    server.plan("/page", send(gzip.compress(b"text " * 1_000), Content_Encoding="gzip"))
    assert read_text(server.url("/page"), credentials=nobody, settings=impatient).text == "text " * 1_000


def test_a_page_is_asked_for_again(server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings) -> None:
    server.files["/page"] = b"text" * 1_000
    server.plan("/page", answer(500), truncate(10), hang_up)
    assert read_text(server.url("/page"), credentials=nobody, settings=impatient).text == "text" * 1_000


def test_a_page_has_a_largest_size_also_when_compressed(
    server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings
) -> None:
    import gzip

    server.plan("/page", send(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"))
    with pytest.raises(FetchError) as caught:
        read_text(server.url("/page"), credentials=nobody, settings=impatient, limit=1_000_000)
    assert caught.value.message == f"the page is larger than 1000000 bytes: `{server.url('/page')}`"


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=latin-1", "text/html; charset=klingon"])
def test_a_page_is_text_as_its_server_says(
    server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings, kind: str
) -> None:
    server.plan("/page", send("ü".encode("latin-1"), Content_Type=kind))
    if "latin" in kind:
        assert read_text(server.url("/page"), credentials=nobody, settings=impatient).text == "ü"
        return
    with pytest.raises(FetchError, match=r"^the page is not text as "):
        read_text(server.url("/page"), credentials=nobody, settings=impatient)


def test_a_page_that_is_not_there_is_told_with_its_status(
    server: MisbehavingServer, nobody: Credentials, impatient: HttpSettings
) -> None:
    server.plan("/simple/demo/", answer(404))
    with pytest.raises(StatusError) as caught:
        read_text(server.url("/simple/demo/"), credentials=nobody, settings=impatient)
    assert caught.value.status == 404
    assert caught.value.message == f"the page is not at `{server.url('/simple/demo/')}`: 404 Not Found"
    assert caught.value.hint == "it may have been removed, or be hidden from whoever is not logged in"


def test_threads_may_share_a_cache(fetch: Fetcher) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.extend(fetch())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [fetch.cache.wheel_path(digest(fetch.body), WHEEL)] * 4
    assert results[0].read_bytes() == fetch.body
    assert len(fetch.server.requests) == 1


def test_one_failure_does_not_wait_for_a_silent_server(fetch: Fetcher) -> None:
    fetch.settings = HttpSettings(timeout=600)
    fetch.server.plan("/silent.whl", silence(600))
    silent = Download(url=fetch.server.url("/silent.whl"), filename="silent.whl", sha256="0" * 64, size=None)
    fetch.server.plan(PATH, answer(404))
    start = time.monotonic()
    assert fetch.fails(silent, fetch.download()).message.endswith("404 Not Found")
    assert time.monotonic() - start < 300


def test_a_login_is_sent_and_not_told(fetch: Fetcher) -> None:
    fetch.server.plan(PATH, require_login("user", "pässword/1", serve), forever=True)
    fetch.credentials = Credentials.from_settings({}, [(None, fetch.server.url("/simple/", "user:p%C3%A4ssword%2F1"))])
    assert fetch()[0].read_bytes() == fetch.body
