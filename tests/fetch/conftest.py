"""What the tests of fetching share."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from fetch.server import MisbehavingServer
from manylambda.fetch import Cache, Credentials, HttpSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def nobody() -> Credentials:
    return Credentials.from_settings({})


@pytest.fixture
def impatient() -> HttpSettings:
    """Settings that wait for a slow machine, but hardly between attempts."""
    return HttpSettings(timeout=10, retries=3, backoff=0.001, longest_wait=0.05)


@pytest.fixture(scope="session")
def body() -> bytes:
    """Half a megabyte that does not compress and does not repeat."""
    return random.Random(4).randbytes(500_000)
