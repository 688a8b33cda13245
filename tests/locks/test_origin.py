"""A lock of ours knows what it was made from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from manylambda.errors import LockOutdated
from manylambda.locks.memory import Memory
from manylambda.locks.model import Pin, ResolveOptions, Selection, Source, SourceKind, WheelFile
from manylambda.locks.origin import check, describe
from manylambda.locks.pylock import parse
from manylambda.target import Target

PLAIN = ResolveOptions()


def requirements(project: Path, text: str, *, name: str = "requirements.txt") -> Source:
    file = project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return Source(kind=SourceKind.REQUIREMENTS, project=project, files=(file,))


def pyproject(project: Path, text: str) -> Source:
    file = project / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return Source(kind=SourceKind.PYPROJECT, project=project, files=(file,))


def test_a_lock_matches_what_it_was_made_from(tmp_path: Path) -> None:
    told = describe(requirements(tmp_path, "idna\n"), PLAIN, tmp_path / "pylock.toml")
    assert told["sources"] == ["requirements.txt"]
    check(told, PLAIN, tmp_path / "pylock.toml")


def test_a_changed_requirement_outdates_a_lock(tmp_path: Path) -> None:
    told = describe(requirements(tmp_path, "idna\n"), PLAIN, tmp_path / "pylock.toml")
    requirements(tmp_path, "idna\nrequests\n")
    with pytest.raises(LockOutdated) as caught:
        check(told, PLAIN, tmp_path / "pylock.toml")
    assert caught.value.message == "`pylock.toml` does not match `requirements.txt`, which changed since"
    assert caught.value.hint == "run `manylambda lock`"


def test_a_changed_nested_file_outdates_a_lock(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("idna\n")
    told = describe(requirements(tmp_path, "-r base.txt\n"), PLAIN, tmp_path / "pylock.toml")
    check(told, PLAIN, tmp_path / "pylock.toml")
    (tmp_path / "base.txt").write_text("idna<3\n")
    with pytest.raises(LockOutdated):
        check(told, PLAIN, tmp_path / "pylock.toml")


@pytest.mark.parametrize("text", ["idna\r\n", "# why\nidna  # because\n\n", "  idna\n"])
def test_comments_and_line_ends_do_not_outdate_a_lock(tmp_path: Path, text: str) -> None:
    told = describe(requirements(tmp_path, "idna\n"), PLAIN, tmp_path / "pylock.toml")
    (tmp_path / "requirements.txt").write_bytes(text.encode())
    check(told, PLAIN, tmp_path / "pylock.toml")


def test_only_what_decides_in_a_pyproject_outdates_a_lock(tmp_path: Path) -> None:
    told = describe(
        pyproject(tmp_path, '[project]\nname="a"\ndependencies=["idna"]\n'), PLAIN, tmp_path / "pylock.toml"
    )
    pyproject(tmp_path, '[project]\nname="b"\ndependencies=["idna"]\n[tool.manylambda]\nkind="layer"\n')
    check(told, PLAIN, tmp_path / "pylock.toml")
    pyproject(tmp_path, '[project]\nname="a"\ndependencies=["idna>3"]\n')
    with pytest.raises(LockOutdated, match=r"does not match `pyproject\.toml`"):
        check(told, PLAIN, tmp_path / "pylock.toml")


def test_a_lock_made_with_other_extras_is_refused(tmp_path: Path) -> None:
    with_extra = ResolveOptions(extras=frozenset({"pg"}))
    told = describe(requirements(tmp_path, "idna\n"), with_extra, tmp_path / "pylock.toml")
    check(told, with_extra, tmp_path / "pylock.toml")
    with pytest.raises(LockOutdated) as caught:
        check(told, PLAIN, tmp_path / "pylock.toml")
    assert caught.value.message == "`pylock.toml` was made with the extras `pg`, not with no extras"


def test_a_lock_that_travels_alone_is_believed(tmp_path: Path) -> None:
    told = describe(requirements(tmp_path, "idna\n"), PLAIN, tmp_path / "pylock.toml")
    check(told, PLAIN, tmp_path / "elsewhere" / "pylock.toml")


def test_requirements_from_standard_input_leave_no_trace(tmp_path: Path) -> None:
    source = Source(kind=SourceKind.REQUIREMENTS, project=tmp_path, files=(Path("-"),))
    assert describe(source, PLAIN, tmp_path / "pylock.toml") == {}


LOCK = """\
lock-version = "1.0"
created-by = "manylambda"
packages = []
[tool.manylambda]
targets = ["python3.13-arm64"]
"""


def remembered(project: Path, memory: Memory, target: Target) -> Selection:
    wheel = WheelFile(filename="a-1-py3-none-any.whl", url="https://index.test/a", hashes={"sha256": "0" * 64}, size=3)
    selection = Selection(target=target, pins=(Pin(name="a", version="1", wheel=wheel),))
    memory.keep(selection, parse(tomllib.loads(LOCK), name="pylock.toml"))
    return selection


def test_a_selection_is_recalled_for_the_same_lock_and_target_only(tmp_path: Path) -> None:
    from manylambda.fetch import Cache

    cache = Cache(tmp_path / "cache")
    file = tmp_path / "pylock.toml"
    file.write_text(LOCK)
    source = Source(kind=SourceKind.PYLOCK, project=tmp_path, files=(file,))
    target = Target.parse("python3.13-arm64")
    selection = remembered(tmp_path, Memory(source, PLAIN, cache), target)
    assert Memory(source, PLAIN, cache).recall(target) == selection
    assert Memory(source, PLAIN, cache).recall(Target.parse("python3.12-arm64")) is None
    assert Memory(source, ResolveOptions(extras=frozenset({"x"})), cache).recall(target) is None
    file.write_text(LOCK + "\n")
    assert Memory(source, PLAIN, cache).recall(target) is None


def test_a_recalled_selection_is_still_held_against_the_project(tmp_path: Path) -> None:
    from manylambda.fetch import Cache

    cache = Cache(tmp_path / "cache")
    file = tmp_path / "pylock.toml"
    told = describe(requirements(tmp_path, "idna\n"), PLAIN, file)
    names = "".join(f"{key} = {value!r}\n" for key, value in told.items())
    file.write_text(LOCK + names)
    source = Source(kind=SourceKind.PYLOCK, project=tmp_path, files=(file,))
    target = Target.parse("python3.13-arm64")
    memory = Memory(source, PLAIN, cache)
    memory.keep(Selection(target=target, pins=()), parse(tomllib.loads(LOCK + names), name="pylock.toml"))
    assert memory.recall(target) == Selection(target=target, pins=())
    requirements(tmp_path, "requests\n")
    with pytest.raises(LockOutdated):
        memory.recall(target)


def test_other_locks_are_not_remembered(tmp_path: Path) -> None:
    from manylambda.fetch import Cache

    memory = Memory(requirements(tmp_path, "idna\n"), PLAIN, Cache(tmp_path / "cache"))
    target = Target.parse("python3.13-arm64")
    remembered(tmp_path, memory, target)
    assert memory.recall(target) is None
