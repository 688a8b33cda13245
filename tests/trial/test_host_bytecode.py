"""In bubblewrap a Python of this host has bytecode that was made once; neither the package nor the host gets any."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from manylambda.fetch.cache import Cache
from manylambda.trial.engines import bytecode, interpreter
from manylambda.trial.engines.interpreter import InterpreterEngine
from manylambda.trial.model import Limits, Mounts
from trial import hosts
from trial.test_interpreter import HERE, here

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    (folder / "package").mkdir(parents=True)
    (folder / "app.py").write_text("import sys, json, package\nanswer = 42\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "broken.py").write_text("this is no Python\n")
    return folder


class Made:
    """Counts the files that are compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        usual = bytecode._compiled

        def compiled(wanted: Mapping[Path, str], compiler: bytecode.Compiler) -> Any:
            self.count += len(wanted)
            return usual(wanted, compiler)

        monkeypatch.setattr(bytecode, "_compiled", compiled)


def heard(task: Path, cache: Cache | None, code: str, *, is_held: bool = True) -> list[str]:
    sandbox = None
    if is_held:
        hosts.needs("bwrap")
        sandbox = interpreter.find_sandbox(here())
        assert sandbox is not None
    lines: list[str] = []
    session = InterpreterEngine(here(), HERE, sandbox=sandbox, cache=cache).open(Mounts(task, None, None))
    try:
        path = f"import sys; sys.path.insert(0, {session.places.task!r})\n"
        completed = session.run(
            ["-s", "-S", "-c", path + code], job=b"", environment={}, limits=Limits(seconds=30.0), hear=lines.append
        )
    finally:
        session.close()
    assert (completed.status, completed.log) == (0, "")
    return lines


SHOWN = "import os, app, json.tool\nfor one in app, json: print(one.__cached__, os.path.isfile(one.__cached__))"


def test_what_is_imported_has_bytecode_that_is_made_once(
    task: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = sys.implementation.cache_tag
    expected = [
        f"/run/bytecode/var/task/app.{tag}.pyc True",
        f"/run/bytecode{here().library}/json/__init__.{tag}.pyc True",
    ]
    assert heard(task, cache, SHOWN) == expected
    made = Made(monkeypatch)
    assert heard(task, cache, SHOWN) == expected
    assert made.count == 0
    (task / "app.py").write_text("answer = 43\n")
    assert heard(task, cache, "import app; print(app.answer)") == ["43"]
    assert made.count == 1
    assert {path.name for path in task.rglob("*")} == {"app.py", "broken.py", "package", "__init__.py"}


def test_bytecode_that_was_damaged_in_the_cache_is_made_again(task: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    heard(task, cache, "import app")
    entries = [path for path in cache.root.glob("v1/trial/bytecode-1/*/*/*") if path.is_file()]
    assert len(entries) > 3
    for path in entries:
        path.write_bytes(b"nothing" * 20)
    assert heard(task, cache, "import app; print(app.answer)") == ["42"]


def test_what_the_package_ships_is_used_as_it_is(task: Path, cache: Cache) -> None:
    import importlib.util
    import marshal

    tag = sys.implementation.cache_tag
    shipped = task / "__pycache__" / f"app.{tag}.pyc"
    shipped.parent.mkdir()
    code = marshal.dumps(compile("answer = 'shipped'", "/var/task/app.py", "exec"))
    shipped.write_bytes(importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8) + code)  # never checked, and another
    assert heard(task, cache, "import app; print(app.answer)") == ["shipped"]


def test_what_is_installed_on_the_host_stays_unseen(task: Path, cache: Cache) -> None:
    known = (
        "import os; print([one for one, _, names in os.walk('/run/bytecode') if one.endswith('-packages') and names])"
    )
    assert heard(task, cache, known) == ["[]"]


def test_without_a_sandbox_there_is_none(task: Path, cache: Cache) -> None:
    assert heard(task, cache, "print(sys.pycache_prefix)", is_held=False) == ["None"]
