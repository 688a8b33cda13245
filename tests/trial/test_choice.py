"""Which engine a trial runs in: the best that works, aloud why no better one, never another than was asked for."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.errors import RequestError, TrialError
from manylambda.fetch.cache import Cache
from manylambda.host.interpreters import find_interpreter
from manylambda.host.model import Unusable
from manylambda.target import Target
from manylambda.trial.engines import container
from manylambda.trial.engines.choice import choose
from trial import containers, hosts

if TYPE_CHECKING:
    from manylambda.progress import Task

NATIVE = Target.parse(hosts.TARGETS[hosts.NATIVE])
HERE = Target.parse("python{}.{}-{}".format(*sys.version_info[:2], {"amd64": "x86_64", "arm64": "arm64"}[hosts.NATIVE]))

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the engines of Linux"),
    pytest.mark.xdist_group("podman"),
]


class Heard:
    """A `Progress` that keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return self

    def advance(self, amount: int) -> None: ...

    def finish(self) -> None: ...

    def info(self, message: str) -> None:
        self.lines.append(message)

    detail = warning = info


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def with_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{containers.programs()}:/usr/local/bin:/usr/bin:/bin")


@pytest.fixture
def without_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("with_podman")
def test_the_best_is_a_container_of_the_base_image_that_is_here(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    name = containers.image(hosts.NATIVE)
    monkeypatch.setattr(container, "default_reference", lambda target: name)
    heard = Heard()
    engine = choose(NATIVE, offline=True, cache=cache, progress=heard)
    assert (engine.name, heard.lines) == ("container", [])
    assert engine.label.startswith("podman ")


@pytest.mark.usefixtures("with_podman")
def test_what_cannot_be_had_is_passed_over_aloud(cache: Cache) -> None:
    hosts.needs("bwrap")
    heard = Heard()
    engine = choose(HERE, offline=True, cache=cache, progress=heard)
    assert engine.name == "interpreter"
    reference = container.default_reference(HERE)
    assert heard.lines == [
        f"not in container: the image `{reference}` is not here, and `--offline` forbids pulling it",
        f"not in rootfs: `{reference}` is not in the cache and `--offline` forbids asking for it",
    ]


@pytest.mark.usefixtures("without_programs")
def test_without_any_program_this_python_still_is_one(cache: Cache) -> None:
    heard = Heard()
    engine = choose(HERE, offline=True, cache=cache, progress=heard)
    assert engine.name == "interpreter"
    assert engine.label.endswith(", without isolation")
    assert heard.lines == [
        "not in container: no podman, docker, finch or nerdctl on the path",
        "not in rootfs: no bubblewrap (`bwrap`) on the path",
    ]


@pytest.mark.usefixtures("without_programs")
def test_where_nothing_can_be_used_all_the_ways_are_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", "/nonexistent")
    monkeypatch.setenv("HOME", "/nonexistent")
    target = Target.parse("python3.14-x86_64")
    if not isinstance(find_interpreter(target.python, machine=target.machine), Unusable):
        pytest.skip("this host has a CPython 3.14")
    with pytest.raises(TrialError) as raised:
        choose(target, offline=True, cache=cache)
    assert raised.value.exit_status == 6
    assert raised.value.message == (
        "nothing here can try python3.14-x86_64: no container: no podman, docker, finch or nerdctl on the path; "
        "no rootfs: no bubblewrap (`bwrap`) on the path; no interpreter: no CPython 3.14 on this host"
    )
    assert raised.value.hint is not None
    ways = raised.value.hint.split("; or ")
    assert ways[0].startswith("install podman")
    assert "bubblewrap" in ways[1]
    assert ways[2] == "`--download-python`, or `uv python install 3.14`"


@pytest.mark.usefixtures("without_programs")
def test_an_engine_that_is_asked_for_is_not_replaced(cache: Cache) -> None:
    with pytest.raises(TrialError) as raised:
        choose(HERE, engine="container", cache=cache)
    assert raised.value.message == "no container: no podman, docker, finch or nerdctl on the path"


@pytest.mark.usefixtures("with_podman")
def test_an_image_that_is_named_is_not_replaced(cache: Cache) -> None:
    with pytest.raises(TrialError, match=r"^the image `localhost/none:1` is not here, and `--offline` forbids"):
        choose(NATIVE, image="localhost/none:1", offline=True, cache=cache)


@pytest.mark.usefixtures("without_programs")
def test_an_image_without_a_container_program_is_for_bubblewrap(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(TrialError, match=r"no rootfs: no bubblewrap \(`bwrap`\) on the path$"):
        choose(NATIVE, image="example.invalid/none:1", offline=True, cache=cache)
    monkeypatch.undo()
    hosts.needs("bwrap")
    (tmp_path / "empty" / "bwrap").symlink_to(shutil.which("bwrap") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(TrialError, match=re.escape("`example.invalid/none:1` is not in the cache")):
        choose(NATIVE, image="example.invalid/none:1", offline=True, cache=cache)


def test_a_root_file_system_that_is_given_is_used(cache: Cache) -> None:
    hosts.needs("bwrap")
    engine = choose(NATIVE, rootfs=hosts.root(hosts.NATIVE), cache=cache)
    assert engine.name == "rootfs"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"engine": "docker"}, "`docker` is no engine"),
        ({"rootfs": Path("r"), "image": "i"}, "a root file system and an image exclude each other"),
        (
            {"rootfs": Path("r"), "engine": "container"},
            "a root file system and the engine `container` exclude each other",
        ),
        ({"image": "i", "engine": "interpreter"}, "the engine `interpreter` uses no image"),
    ],
)
def test_wishes_that_exclude_each_other_are_refused(cache: Cache, wish: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        choose(NATIVE, cache=cache, **wish)
    assert raised.value.message == message
