from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lock_index import files_of, write_index
from manylambda.errors import LockOutdated, NotCached
from manylambda.fetch import Cache
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.memory import Memory
from manylambda.locks.model import ResolveOptions, Selection
from manylambda.locks.readers import read
from manylambda.locks.select import select
from manylambda.target import Target

DATA = Path(__file__).parent / "data"
ARM = Target.parse("python3.13-arm64")
LOCKS = ["uv-app", "poetry-app", "poetry1-app", "pdm-app", "pdm-static"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(DATA, tmp_path / "data"))
    for lock in sorted(folder.glob("p*/p*.lock")):
        write_index(folder / "index", files_of(lock))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def options(data: Path, *, offline: bool = False, **settings: str) -> ResolveOptions:
    environment = {"UV_DEFAULT_INDEX": (data / "index").as_uri(), "UV_NO_CONFIG": "1"}
    return ResolveOptions(offline=offline, environment=environment | settings)


def recall(project: Path, chosen: ResolveOptions, cache: Cache, target: Target = ARM) -> Selection | None:
    return Memory(discover(project), chosen, cache).recall(target)


def keep(project: Path, chosen: ResolveOptions, cache: Cache) -> Selection:
    source = discover(project)
    pylock = read(source, [ARM], chosen)
    selection = select(pylock, ARM, chosen, base_folder(source))
    Memory(source, chosen, cache).keep(selection, pylock)
    return selection


def index_of(data: Path, name: str) -> None:
    write_index(data / "index", files_of(data / name / next(iter(p.name for p in (data / name).glob("*.lock")))))


@pytest.mark.parametrize("name", LOCKS)
def test_an_unchanged_lock_is_not_read_again(data: Path, cache: Cache, name: str) -> None:
    if name != "uv-app":
        index_of(data, name)
    assert recall(data / name, options(data), cache) is None
    selection = keep(data / name, options(data), cache)
    assert recall(data / name, options(data), cache) == selection
    assert recall(data / name, options(data), cache, Target.parse("python3.13-x86_64")) is None


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("file", ["pyproject.toml", "*.lock"])
def test_a_changed_lock_or_project_is_read_again(data: Path, cache: Cache, name: str, file: str) -> None:
    if name != "uv-app":
        index_of(data, name)
    keep(data / name, options(data), cache)
    (changed,) = (data / name).glob(file)
    changed.write_text(changed.read_text() + "\n# more\n")
    assert recall(data / name, options(data), cache) is None


def test_a_changed_member_of_a_workspace_is_noticed(data: Path, cache: Cache) -> None:
    api = data / "uv-workspace" / "packages" / "api"
    keep(api, options(data), cache)
    assert recall(api, options(data), cache) is not None
    shared = data / "uv-workspace" / "packages" / "shared" / "pyproject.toml"
    shared.write_text(shared.read_text().replace('"colorama"', '"colorama", "pluggy"'))
    assert recall(api, options(data), cache) is None
    with pytest.raises(LockOutdated):
        keep(api, options(data), cache)


def test_extras_and_groups_are_remembered_apart(data: Path, cache: Cache) -> None:
    keep(data / "uv-app", options(data), cache)
    assert recall(data / "uv-app", ResolveOptions(extras=frozenset({"color"})), cache) is None
    assert recall(data / "uv-app", ResolveOptions(groups=frozenset({"ops"})), cache) is None


def test_what_was_looked_up_is_there_offline(data: Path, cache: Cache) -> None:
    index_of(data, "poetry-app")
    shutil.move(data / "index", data / "gone")
    remote = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    with pytest.raises(NotCached):
        keep(data / "poetry-app", options(data, offline=True, **remote), cache)
    shutil.move(data / "gone", data / "index")
    selection = keep(data / "poetry-app", options(data), cache)
    shutil.rmtree(data / "index")
    assert recall(data / "poetry-app", options(data, offline=True), cache) == selection


def test_another_index_is_asked_and_another_login_is_not(data: Path, cache: Cache) -> None:
    index_of(data, "pdm-app")
    keep(data / "pdm-app", options(data, UV_INDEX_PRIVATE_PASSWORD="a"), cache)
    assert recall(data / "pdm-app", options(data, UV_INDEX_PRIVATE_PASSWORD="b"), cache) is not None
    assert recall(data / "pdm-app", options(data, PIP_INDEX_URL="https://index.example.org/"), cache) is None


def test_requirements_are_not_remembered(data: Path, cache: Cache) -> None:
    project = data / "plain"
    project.mkdir()
    (project / "requirements.txt").write_text("")
    keep(project, options(data), cache)
    assert recall(project, options(data), cache) is None
