"""What an import profile says, of real imports on the oldest and the newest CPython of this host."""

from __future__ import annotations

import py_compile
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import TrialError
from manylambda.trial.model import ImportTime, Limits
from manylambda.trial.profile import import_time, profile
from trial.local import LocalSession, needs_posix, oldest_and_newest, target_of
from trial.test_probe import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.trial.profile import Profile

LINES = """
import time: self [us] | cumulative | imported package
import time:       100 |        100 |     app.small
something that the module printed
half a line import time:       500 |        500 |       app.large.deep
import time:      1000 |       1500 |     app.large
import time:      2000 |       3600 |   app.middle
import time:        50 |       3650 | app
import time:        10 |         10 | elsewhere
""".splitlines()


def test_the_tree_is_read_with_the_largest_first() -> None:
    assert import_time("app", LINES) == ImportTime(
        "app",
        0.00005,
        pytest.approx(0.00366),  # type: ignore[arg-type]
        (
            ImportTime(
                "app.middle",
                0.002,
                0.0036,
                (
                    ImportTime("app.large", 0.001, 0.0015, (ImportTime("app.large.deep", 0.0005, 0.0005, ()),)),
                    ImportTime("app.small", 0.0001, 0.0001, ()),
                ),
            ),
            ImportTime("elsewhere", 0.00001, 0.00001, ()),
        ),
    )


def test_a_tree_without_lines_is_empty() -> None:
    assert import_time("app", []) == ImportTime("app", 0.0, 0.0, ())


def profiled(folder: Path, name: str, version: str, **options: str) -> Profile:
    session = LocalSession(folder, **options)  # type: ignore[arg-type]
    try:
        return profile(session, name, target=target_of(version), limits=Limits(seconds=30.0))
    finally:
        session.close()


def again(times: int, folder: Path, name: str, version: str, **options: str) -> Iterator[Profile]:
    for _ in range(times):
        yield profiled(folder, name, version, **options)


@needs_posix
@oldest_and_newest
def test_a_real_import_is_profiled(tmp_path: Path, version: str, program: str) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("import pack.slow, wave")
    (tmp_path / "pack/slow.py").write_text("import time, os\nos.write(2, b'noise')\ntime.sleep(0.2)\nimport pack.big")
    big = "\n".join(f"def f{number}(a, b=1): return [a + b for a in range({number})]" for number in range(2500))
    (tmp_path / "pack/big.py").write_text(big)
    found = profiled(tmp_path, "pack", version, program=program)
    assert found.tree.name == "pack"
    slow = found.tree.children[0]
    assert slow.name == "pack.slow"
    assert 0.2 <= slow.self_seconds <= slow.total_seconds <= found.tree.total_seconds
    assert [child.name for child in slow.children] == ["pack.big"]
    assert "wave" in {child.name for child in found.tree.children}
    assert "json" not in {child.name for child in found.tree.children}
    # Compiling 2500 functions takes longer than reading them compiled.
    # On a busy machine not each time.
    assert any((one.saved or 0) > 0.01 for one in (found, *again(3, tmp_path, "pack", version, program=program)))
    assert found.seconds_with_bytecode is not None
    assert found.seconds_with_bytecode > 0.2
    assert not list(tmp_path.rglob("__pycache__"))


@needs_posix
def test_what_ships_its_bytecode_has_nothing_to_save(tmp_path: Path) -> None:
    big = "\n".join(f"def f{number}(a, b=1): return [a + b for a in range({number})]" for number in range(3000))
    (tmp_path / "big.py").write_text(big)
    without = list(again(3, tmp_path, "big", HERE))
    py_compile.compile(str(tmp_path / "big.py"))
    found = list(again(3, tmp_path, "big", HERE))
    assert all(one.saved is not None for one in (*without, *found))
    # What a busy machine takes comes on top of one or another of them.
    assert min(one.saved or 0 for one in found) < max(one.saved or 0 for one in without) / 3
    assert min(one.seconds for one in found) < min(one.seconds for one in without) / 2


@needs_posix
def test_a_module_of_a_package_has_its_parents_below_it(tmp_path: Path) -> None:
    (tmp_path / "pack/inner").mkdir(parents=True)
    (tmp_path / "pack/__init__.py").write_text("import wave")
    (tmp_path / "pack/inner/__init__.py").write_text("")
    tree = profiled(tmp_path, "pack.inner", HERE).tree
    assert tree.name == "pack.inner"
    assert [child.name for child in tree.children] == ["pack"]


@needs_posix
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "`bad` cannot be profiled, its import fails: ZeroDivisionError: division by zero"),
        (
            "import os; os._exit(5)",
            "`bad` cannot be profiled, its import fails: it ended the interpreter, status 5",
        ),
        ("import ctypes; ctypes.string_at(0)", "`bad` cannot be profiled, its import fails: it was ended by signal 11"),
    ],
)
def test_what_cannot_be_imported_cannot_be_profiled(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(TrialError) as caught:
        profiled(tmp_path, "bad", HERE)
    assert caught.value.message == message


@needs_posix
def test_a_hang_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    session = LocalSession(tmp_path)
    try:
        with pytest.raises(TrialError, match="`hangs` cannot be profiled"):
            profile(session, "hangs", target=target_of(HERE), limits=Limits(seconds=0.5))
    finally:
        session.close()
