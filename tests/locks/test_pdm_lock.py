from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lock_index import HOST, files_of, write_index
from manylambda.errors import HashMismatch, LockOutdated, RequestError
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.model import ResolveOptions, Selection
from manylambda.locks.readers import index_addresses, read
from manylambda.locks.select import select
from manylambda.target import Target

DATA = Path(__file__).parent / "data"
ARM = Target.parse("python3.13-arm64")
OLDER = Target.parse("python3.11-x86_64")
OLDEST = Target.parse("python3.10-x86_64")


@pytest.fixture(params=["pdm-app", "pdm-static"])
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a project locked with groups and markers but no addresses, and one with addresses but no groups."""
    return copy(tmp_path, request.param)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    return copy(tmp_path, "pdm-app")


@pytest.fixture
def static(tmp_path: Path) -> Path:
    return copy(tmp_path, "pdm-static")


def copy(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(DATA / name, tmp_path / name))


def options(
    app: Path, *, extras: tuple[str, ...] = (), groups: tuple[str, ...] = (), **settings: str
) -> ResolveOptions:
    index = app.parent / "index"
    if not index.exists():
        write_index(index, files_of(app / "pdm.lock"))
    environment = {"UV_DEFAULT_INDEX": index.as_uri(), "UV_NO_CONFIG": "1"}
    return ResolveOptions(extras=frozenset(extras), groups=frozenset(groups), environment=environment | settings)


def selected(app: Path, target: Target, chosen: ResolveOptions | None = None) -> Selection:
    source = discover(app)
    chosen = chosen or options(app)
    return select(read(source, [target], chosen), target, chosen, base_folder(source))


def names(app: Path, target: Target, chosen: ResolveOptions | None = None) -> set[str]:
    selection = selected(app, target, chosen)
    return {pin.name for pin in selection.pins} | {package.name for package in selection.local}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


ALWAYS = {"certifi", "charset-normalizer", "hiredis", "idna", "redis", "requests", "urllib3"}


def own(app: Path) -> set[str]:
    return {"pdm-app"} if app.name == "pdm-app" else set()


def test_what_the_target_needs_is_taken(app: Path) -> None:
    assert names(app, ARM) == ALWAYS | own(app)


def test_markers_are_those_of_the_target(app: Path) -> None:
    assert names(app, OLDER) == ALWAYS | own(app) | {"tomlkit"}
    assert names(app, OLDEST) == ALWAYS | own(app) | {"tomlkit", "async-timeout"}


def test_an_extra_and_a_group_come_only_when_asked_for(app: Path) -> None:
    assert names(app, ARM, options(app, extras=("color",))) == ALWAYS | own(app) | {"colorama"}
    assert names(app, ARM, options(app, groups=("ops",))) == ALWAYS | own(app) | {"pluggy"}
    assert names(app, ARM, options(app, groups=("dev",))) == ALWAYS | own(app) | {"iniconfig"}


def test_files_have_the_hash_of_the_lock(app: Path) -> None:
    locked = files_of(app / "pdm.lock")
    for pin in selected(app, ARM).pins:
        assert pin.wheel.hashes == {"sha256": locked[pin.name][pin.wheel.filename]}


def test_addresses_in_the_lock_are_used_without_asking_an_index(static: Path) -> None:
    chosen = options(static, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    lock = (static / "pdm.lock").read_text()
    for pin in selected(static, ARM, chosen).pins:
        assert f'url = "{pin.wheel.url}"' in lock


def test_addresses_come_from_the_index_otherwise(marked: Path) -> None:
    assert {pin.wheel.url for pin in selected(marked, ARM).pins} == {
        f"{HOST}/{pin.wheel.filename}" for pin in selected(marked, ARM).pins
    }


def test_credentials_in_addresses_go_no_further(static: Path) -> None:
    edit(static / "pdm.lock", "https://files.pythonhosted.org/", "https://me:secret@files.example.org/")
    pylock = read(discover(static), [ARM], options(static))
    assert "secret" not in str(pylock.to_dict())


def test_other_bytes_under_a_locked_name_are_refused(marked: Path) -> None:
    files = files_of(marked / "pdm.lock")
    wheel = next(name for name in files["requests"] if name.endswith(".whl"))
    files["requests"][wheel] = "0" * 64
    write_index(marked.parent / "index", files)
    with pytest.raises(HashMismatch) as caught:
        names(marked, ARM)
    assert caught.value.message == (
        f"`{wheel}` on the index is not the file that `pdm.lock` names: its sha256 is {'0' * 64}"
    )


def test_a_lock_that_does_not_match_its_project_is_refused(app: Path) -> None:
    edit(app / "pyproject.toml", "redis[hiredis]", "redis")
    with pytest.raises(LockOutdated) as caught:
        names(app, ARM)
    assert caught.value.message == "`pdm.lock` does not match `pyproject.toml`"
    assert caught.value.hint == "run `pdm lock`"


def test_a_change_of_what_is_not_locked_makes_no_lock_outdated(app: Path) -> None:
    edit(app / "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    assert names(app, ARM) >= ALWAYS


@pytest.mark.parametrize(
    ("extras", "groups", "message", "hint"),
    [
        (("colour",), (), "the project has no extra `colour`", "did you mean `color`?"),
        ((), ("test",), "the project has no group `test`", "there is `dev`, `ops`"),
    ],
)
def test_an_unknown_extra_or_group_is_refused(
    app: Path, extras: tuple[str, ...], groups: tuple[str, ...], message: str, hint: str
) -> None:
    with pytest.raises(RequestError) as caught:
        names(app, ARM, options(app, extras=extras, groups=groups))
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_a_group_the_lock_was_made_without_is_refused(app: Path) -> None:
    edit(app / "pdm.lock", 'groups = ["default", "color", "dev", "ops"]', 'groups = ["default"]')
    with pytest.raises(LockOutdated) as caught:
        names(app, ARM, options(app, extras=("color",), groups=("ops",)))
    assert caught.value.message == "`pdm.lock` was made without `color`, `ops`"
    assert caught.value.hint == "run `pdm lock --group :all`"


def test_a_project_that_is_no_distribution_is_not_a_package(marked: Path) -> None:
    assert "pdm-app" in names(marked, ARM)
    edit(marked / "pyproject.toml", "distribution = true", "distribution = false")
    assert "pdm-app" not in names(marked, ARM)


def test_a_folder_is_a_local_package_and_git_is_refused(marked: Path) -> None:
    lock = marked / "pdm.lock"
    edit(lock, 'name = "idna"\n', 'name = "idna"\npath = "./lib/idna"\neditable = true\n')
    (local,) = (package for package in selected(marked, ARM).local if package.name == "idna")
    assert local.directory == marked / "lib" / "idna"
    edit(lock, 'path = "./lib/idna"\n', 'git = "https://me:secret@git.example.org/idna.git"\nref = "main"\n')
    with pytest.raises(RequestError) as caught:
        names(marked, ARM)
    assert caught.value.message == "`idna` comes from git, which is not supported: https://git.example.org/idna.git"


def test_a_wheel_file_of_the_project_and_a_url_are_taken_as_they_are(marked: Path) -> None:
    lock = marked / "pdm.lock"
    wheels = {name: next(f for f in files_of(lock)[name] if f.endswith(".whl")) for name in ("idna", "certifi")}
    edit(lock, 'name = "idna"\n', f'name = "idna"\nurl = "{HOST}/elsewhere/{wheels["idna"]}"\n')
    place = f"file:///${{PROJECT_ROOT}}/wheels/{wheels['certifi']}"
    edit(lock, 'name = "certifi"\n', f'name = "certifi"\nurl = "{place}"\n')
    pins = {pin.name: pin.wheel for pin in selected(marked, ARM).pins}
    assert pins["idna"].url == f"{HOST}/elsewhere/{wheels['idna']}"
    assert pins["certifi"].path == marked / "wheels" / wheels["certifi"]


def test_a_lock_that_lost_a_package_is_refused(static: Path) -> None:
    edit(static / "pdm.lock", 'name = "urllib3"', 'name = "urllib4"')
    with pytest.raises(LockOutdated) as caught:
        names(static, ARM)
    assert caught.value.message == "`pdm.lock` has no `urllib3<3,>=1.26`"


def test_a_lock_of_another_format_is_refused(app: Path) -> None:
    edit(app / "pdm.lock", 'lock_version = "4.5.1"', 'lock_version = "9.0"')
    with pytest.raises(RequestError) as caught:
        names(app, ARM)
    assert caught.value.message == "`pdm.lock` has an unknown format version: 9.0"


def test_sources_of_the_project_are_asked_with_their_logins(marked: Path) -> None:
    private = """
[[tool.pdm.source]]
name = "private"
url = "https://${INDEX_USER}:${INDEX_PASSWORD}@index.example.org/simple"
"""
    file = marked / "pyproject.toml"
    file.write_text(file.read_text() + private)
    chosen = options(marked, INDEX_USER="me", INDEX_PASSWORD="secret")
    assert index_addresses(discover(marked), chosen)[0] == (
        "private",
        "https://me:secret@index.example.org/simple",
    )
