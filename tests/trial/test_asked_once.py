"""An image that nobody named and could not be had is not asked for again by every trial, and always on request."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import FetchError, TrialError
from manylambda.fetch.cache import Cache
from manylambda.host import containers
from manylambda.target import Target
from manylambda.trial.engines import choice, container
from manylambda.trial.engines.choice import choose
from trial import hosts

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.host.model import Unusable

HERE = Target.parse("python{}.{}-{}".format(*sys.version_info[:2], {"amd64": "x86_64", "arm64": "arm64"}[hosts.NATIVE]))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the engines of Linux")


class Outside:
    """Stands for podman and the registry, of which none is reachable: counts how often they are asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, *_: object, offline: bool, **__: object) -> Unusable:
        if offline:
            raise container.PullFailed("it is not here", hint="pull it")
        self.asked.append("container")
        raise container.PullFailed("podman cannot pull: no such host", hint="name an image")

    def root(self, *_: object, offline: bool, is_sure: bool, **__: object) -> Unusable:
        if offline:
            raise FetchError("it is not in the cache", hint="without `--offline`")
        self.asked.append("rootfs, in earnest" if is_sure else "rootfs")
        raise FetchError("cannot reach the registry", hint="see to the network")


class Told:
    """A `Progress` that keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    found = Outside()
    monkeypatch.setattr(
        containers, "find_program", lambda *_: containers.Program("podman", "/bin/podman", "5", hosts.NATIVE)
    )
    monkeypatch.setattr(container, "prepare", found.prepare)
    monkeypatch.setattr(choice, "_root", found.root)
    monkeypatch.setattr(time, "strftime", lambda *_: "15:04")
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def told(cache: Cache) -> list[str]:
    heard = Told()
    assert choose(HERE, cache=cache, progress=heard).name == "interpreter"  # type: ignore[arg-type]
    return heard.lines


def test_what_could_not_be_had_is_asked_for_once_an_hour(
    outside: Outside, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ["not in container: podman cannot pull: no such host", "not in rootfs: cannot reach the registry"]
    assert told(cache) == first
    assert told(cache) == [
        f"{first[0]}; not asked again until 15:04: `--engine container` asks",
        f"{first[1]}; not asked again until 15:04: `--engine rootfs` asks",
    ]
    assert outside.asked == ["container", "rootfs"]
    now = time.time()
    for other in (now + 3601, now - 60):  # an hour later; or by a clock that was put back
        monkeypatch.setattr(time, "time", lambda other=other: other)
        assert told(cache) == first
    assert outside.asked == ["container", "rootfs"] * 3


def test_an_engine_that_is_asked_for_asks_in_its_turn(outside: Outside, cache: Cache) -> None:
    told(cache)
    for engine, message in (("container", "podman cannot pull"), ("rootfs", "cannot reach the registry")):
        with pytest.raises(TrialError, match=message):
            choose(HERE, engine=engine, cache=cache)
    assert outside.asked == ["container", "rootfs", "container", "rootfs, in earnest"]


def test_an_image_that_is_named_is_always_asked_for(outside: Outside, cache: Cache) -> None:
    for _ in range(2):
        with pytest.raises(TrialError, match="podman cannot pull"):
            choose(HERE, image="example.invalid/one:1", cache=cache)
    assert outside.asked == ["container", "container"]


def test_another_way_to_the_network_is_tried_at_once(
    outside: Outside, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(cache)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    told(cache)
    assert outside.asked == ["container", "rootfs"] * 2
