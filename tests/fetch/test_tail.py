"""The end of a file, from servers that give parts and from those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetch.server import answer, hang_up, ignore_range, truncate_unsaid, wrong_part
from manylambda.errors import FetchError
from manylambda.fetch import Client, Credentials, HttpSettings
from manylambda.fetch.tail import read_tail

if TYPE_CHECKING:
    from fetch.server import MisbehavingServer

BODY = bytes(range(256)) * 40


def tail(server: MisbehavingServer, length: int) -> bytes | None:
    server.files["/file"] = BODY
    with Client(HttpSettings(retries=1, backoff=0.0), Credentials.from_settings({}, ())) as client:
        return read_tail(server.url("/file"), length, client)


@pytest.mark.parametrize("length", [1, 300, len(BODY), len(BODY) + 1])
def test_the_end_comes_and_nothing_else(server: MisbehavingServer, length: int) -> None:
    assert tail(server, length) == BODY[-length:]
    (asked,) = server.asked("/file")
    assert asked.range == f"bytes=-{length}"


@pytest.mark.parametrize("behaviour", [ignore_range, wrong_part])
def test_a_server_that_gives_another_part_gives_none(server: MisbehavingServer, behaviour: object) -> None:
    server.plan("/file", behaviour)  # type: ignore[arg-type]
    assert tail(server, 300) is None


def test_a_connection_that_ends_is_tried_again(server: MisbehavingServer) -> None:
    server.plan("/file", hang_up)
    assert tail(server, 300) == BODY[-300:]
    assert len(server.asked("/file")) == 2


def test_what_is_not_there_is_an_error(server: MisbehavingServer) -> None:
    server.plan("/file", answer(404))
    with pytest.raises(FetchError, match="404 Not Found"):
        tail(server, 300)


def test_a_part_that_is_cut_short_is_none(server: MisbehavingServer) -> None:
    server.plan("/file", truncate_unsaid(10), forever=True)
    assert tail(server, 300) is None
