from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lock_index import HOST, files_of, write_index
from manylambda.errors import HashMismatch, LockOutdated, NotCached, RequestError, ResolutionError
from manylambda.locks import poetry
from manylambda.locks.constraints import allows
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.model import ResolveOptions, Selection
from manylambda.locks.pyproject import Pyproject
from manylambda.locks.readers import index_addresses, read
from manylambda.locks.select import select
from manylambda.target import Target

DATA = Path(__file__).parent / "data"
ARM = Target.parse("python3.13-arm64")
OLDER = Target.parse("python3.11-x86_64")
OLDEST = Target.parse("python3.10-x86_64")


@pytest.fixture(params=["poetry-app", "poetry1-app"])
def app(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a project locked by Poetry 2 (format 2.1, groups and markers) and one by Poetry 1 (2.0, without)."""
    return copy(tmp_path, request.param)


@pytest.fixture
def app2(tmp_path: Path) -> Path:
    return copy(tmp_path, "poetry-app")


@pytest.fixture
def app1(tmp_path: Path) -> Path:
    return copy(tmp_path, "poetry1-app")


def copy(tmp_path: Path, name: str) -> Path:
    shutil.copytree(DATA / "poetry-lib", tmp_path / "poetry-lib")
    return Path(shutil.copytree(DATA / name, tmp_path / name))


def options(
    app: Path, *, extras: tuple[str, ...] = (), groups: tuple[str, ...] = (), offline: bool = False, **settings: str
) -> ResolveOptions:
    index = app.parent / "index"
    if not index.exists():
        write_index(index, files_of(app / "poetry.lock"))
    environment = {"UV_DEFAULT_INDEX": index.as_uri(), "UV_NO_CONFIG": "1", "POETRY_CONFIG_DIR": str(app.parent)}
    return ResolveOptions(
        extras=frozenset(extras), groups=frozenset(groups), offline=offline, environment=environment | settings
    )


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


def mark_fresh(app: Path) -> None:
    """Put the hash Poetry would write into the lock, for tests that change `pyproject.toml`."""
    lock = app / "poetry.lock"
    head, _, _ = lock.read_text().partition("content-hash = ")
    document = Pyproject.load(app).document
    digest = next(iter(poetry._content_hashes(document, poetry._maker(lock))))
    lock.write_text(f'{head}content-hash = "{digest}"\n')


ALWAYS = {"certifi", "charset-normalizer", "hiredis", "idna", "poetry-lib", "redis", "requests", "urllib3"}


def own(app: Path) -> set[str]:
    return {"poetry-app"} if app.name == "poetry-app" else {"more-itertools"}


def test_what_the_target_needs_is_taken(app: Path) -> None:
    assert names(app, ARM) == ALWAYS | own(app)


def test_markers_are_those_of_the_target(app: Path) -> None:
    assert names(app, OLDER) == ALWAYS | own(app) | {"tomlkit"}


def test_the_patch_level_of_the_target_decides_markers(app: Path) -> None:
    """redis needs async-timeout below 3.11.3; the runtime of 3.11 is newer, that of 3.10 is not."""
    assert "async-timeout" in names(app, OLDEST)


def test_an_extra_and_a_group_come_only_when_asked_for(app: Path) -> None:
    assert names(app, ARM, options(app, extras=("color",))) == ALWAYS | own(app) | {"colorama"}
    assert names(app, ARM, options(app, groups=("ops",))) == ALWAYS | own(app) | {"pluggy"}
    assert names(app, ARM, options(app, groups=("dev",))) == ALWAYS | own(app) | {"iniconfig"}


def test_of_two_versions_each_target_gets_its_own(app1: Path) -> None:
    source, chosen = discover(app1), options(app1)
    pylock = read(source, [ARM, OLDER], chosen)
    versions = {
        target: {pin.name: pin.version for pin in select(pylock, target, chosen, app1).pins}["more-itertools"]
        for target in (ARM, OLDER)
    }
    assert versions == {ARM: "10.8.0", OLDER: "10.5.0"}


def test_the_lock_says_for_which_targets_it_is(app: Path) -> None:
    chosen = options(app)
    pylock = read(discover(app), [ARM], chosen)
    with pytest.raises(ResolutionError, match=r"the lock is not for `python3\.11-x86_64`"):
        select(pylock, OLDER, chosen, app)


def test_a_runtime_that_the_project_does_not_support_is_refused(app: Path) -> None:
    if Pyproject.load(app).requires_python is None:
        pytest.skip("only `[project]` says it as PEP 440 does")
    target = Target.parse("python3.9-arm64")
    with pytest.raises(ResolutionError, match=r"the lock is for Python `>=3\.10`, `python3\.9-arm64` has 3\.9\."):
        selected(app, target)


def test_files_have_the_hash_of_the_lock_and_the_address_of_the_index(app: Path) -> None:
    locked = files_of(app / "poetry.lock")
    for pin in selected(app, ARM).pins:
        assert pin.wheel.hashes == {"sha256": locked[pin.name][pin.wheel.filename]}
        assert pin.wheel.url == f"{HOST}/{pin.wheel.filename}"


def test_the_wheel_is_for_the_target(app: Path) -> None:
    hiredis = next(pin for pin in selected(app, ARM).pins if pin.name == "hiredis")
    assert "cp313" in hiredis.wheel.filename
    assert hiredis.wheel.filename.endswith("_aarch64.whl")


def test_a_folder_is_a_local_package(app: Path) -> None:
    local = {package.name: package.directory.resolve() for package in selected(app, ARM).local}
    assert local["poetry-lib"] == app.parent / "poetry-lib"


def test_the_project_is_a_local_package_when_poetry_could_install_it(app2: Path) -> None:
    assert "poetry-app" in names(app2, ARM)
    (app2 / "poetry_app").rename(app2 / "code")
    assert "poetry-app" not in names(app2, ARM)


def test_a_project_that_is_no_package_is_not(app2: Path) -> None:
    edit(app2 / "pyproject.toml", "[build-system]", "[tool.poetry]\npackage-mode = false\n\n[build-system]")
    assert "poetry-app" not in names(app2, ARM)


def test_a_lock_that_does_not_match_its_project_is_refused(app: Path) -> None:
    edit(app / "pyproject.toml", "redis", "valkey")
    with pytest.raises(LockOutdated) as caught:
        names(app, ARM)
    assert caught.value.message == "`poetry.lock` does not match `pyproject.toml`"
    assert caught.value.hint == "run `poetry lock`"


def test_a_change_of_what_is_not_locked_makes_no_lock_outdated(app: Path) -> None:
    edit(app / "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    assert names(app, ARM) >= ALWAYS


def test_dependency_groups_count_since_poetry_2_3(app2: Path) -> None:
    groups = '[dependency-groups]\ntest = ["iniconfig"]\n\n[build-system]'
    edit(app2 / "pyproject.toml", "[build-system]", groups)
    with pytest.raises(LockOutdated):
        names(app2, ARM)
    edit(app2 / "poetry.lock", "by Poetry 2.5.1", "by Poetry 2.2.0")
    assert names(app2, ARM) >= ALWAYS


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


def test_other_bytes_under_a_locked_name_are_refused(app: Path) -> None:
    files = files_of(app / "poetry.lock")
    wheel = next(name for name in files["requests"] if name.endswith(".whl"))
    locked, files["requests"][wheel] = files["requests"][wheel], "0" * 64
    write_index(app.parent / "index", files)
    with pytest.raises(HashMismatch) as caught:
        names(app, ARM)
    assert caught.value.message == (
        f"`{wheel}` on the index is not the file that `poetry.lock` names: its sha256 is {'0' * 64}"
    )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"`poetry.lock` has {locked};")


def test_a_file_the_index_has_no_hash_for_keeps_that_of_the_lock(app: Path) -> None:
    files = files_of(app / "poetry.lock")
    write_index(app.parent / "index", {name: dict.fromkeys(own, "") for name, own in files.items()})
    for pin in selected(app, ARM).pins:
        assert pin.wheel.hashes == {"sha256": files[pin.name][pin.wheel.filename]}


def test_a_newer_file_of_the_same_version_is_not_taken(app: Path) -> None:
    files = files_of(app / "poetry.lock")
    version = {pin.name: pin.version for pin in selected(app, ARM).pins}["requests"]
    late = f"requests-{version}-1-py3-none-any.whl"
    files["requests"][late] = "1" * 64
    write_index(app.parent / "index", files)
    assert late not in {pin.wheel.filename for pin in selected(app, ARM).pins}


def test_files_that_are_gone_from_the_index_are_told(app: Path) -> None:
    files = files_of(app / "poetry.lock")
    files["requests"] = {"requests-1.0-py3-none-any.whl": "2" * 64}
    write_index(app.parent / "index", files)
    with pytest.raises(ResolutionError) as caught:
        names(app, ARM)
    assert caught.value.message.startswith("no file that `poetry.lock` names for `requests==2.")
    assert caught.value.message.endswith("is on the index")


def test_a_lock_without_sha256_is_refused(app: Path) -> None:
    edit(app / "poetry.lock", 'hash = "sha256:', 'hash = "md5:')
    with pytest.raises(ResolutionError, match=r"`poetry\.lock` has no sha256 for `"):
        names(app, ARM)


def test_offline_says_what_is_missing(app: Path) -> None:
    with pytest.raises(NotCached) as caught:
        names(app, ARM, options(app, offline=True, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple"))
    assert caught.value.message == "`poetry.lock` does not say where its files lie, and offline no index can be asked"


def test_a_git_dependency_is_refused_by_name(app: Path) -> None:
    lock = app / "poetry.lock"
    edit(
        lock,
        '[package.source]\ntype = "directory"\nurl = "../poetry-lib"',
        '[package.source]\ntype = "git"\nurl = "https://me:secret@git.example.org/lib.git"\nreference = "main"',
    )
    with pytest.raises(RequestError) as caught:
        names(app, ARM)
    assert caught.value.message == (
        "`poetry-lib` comes from git, which is not supported: https://git.example.org/lib.git"
    )


def test_a_wheel_file_and_a_url_are_taken_as_they_are(app: Path) -> None:
    lock = app / "poetry.lock"
    text = lock.read_text()
    for name, source in (
        ("certifi", 'type = "file"\nurl = "wheels/{wheel}"'),
        ("idna", f'type = "url"\nurl = "{HOST}/elsewhere/{{wheel}}"'),
    ):
        wheel = next(file for file in files_of(lock)[name] if file.endswith(".whl"))
        start = text.index(f'name = "{name}"')
        end = text.index("[[package]]", start)
        entry = text[start:end].rstrip()
        table = f"\n\n[package.source]\n{source.format(wheel=wheel)}\n\n"
        text = text[:start] + entry + table + text[end:]
    lock.write_text(text)
    pins = {pin.name: pin.wheel for pin in selected(app, ARM).pins}
    assert pins["certifi"].path == app / "wheels" / pins["certifi"].filename
    assert pins["certifi"].url is None
    assert pins["idna"].url == f"{HOST}/elsewhere/{pins['idna'].filename}"
    assert pins["idna"].hashes["sha256"] in lock.read_text()


PRIVATE = """
[[tool.poetry.source]]
name = "Private-Index"
url = "http://127.0.0.1:9/private"
priority = "explicit"

[build-system]"""


def from_private(app: Path, index: str) -> None:
    """Let requests come from a private index."""
    edit(app / "pyproject.toml", "\n[build-system]", PRIVATE.replace("http://127.0.0.1:9/private", index))
    lock = app / "poetry.lock"
    text = lock.read_text()
    end = text.index("[[package]]", text.index('\nname = "requests"'))
    source = f'[package.source]\ntype = "legacy"\nurl = "{index}"\nreference = "Private-Index"\n\n'
    lock.write_text(text[:end] + source + text[end:])
    mark_fresh(app)


def test_a_package_of_a_private_index_is_looked_up_only_there(app: Path) -> None:
    files = files_of(app / "poetry.lock")
    private = write_index(app.parent / "private", {"requests": files.pop("requests")})
    write_index(app.parent / "index", files)
    from_private(app, private)
    chosen = options(app)
    pin = next(pin for pin in selected(app, ARM, chosen).pins if pin.name == "requests")
    assert pin.index == private

    write_index(app.parent / "index", {"requests": files_of(app / "poetry.lock")["requests"]})
    shutil.rmtree(app.parent / "private" / "requests")
    with pytest.raises(ResolutionError, match=r"no file that `poetry\.lock` names for `requests=="):
        selected(app, ARM, chosen)


def test_the_logins_poetry_keeps_are_used(app: Path) -> None:
    from_private(app, "https://index.example.org/private")
    chosen = options(
        app,
        POETRY_HTTP_BASIC_PRIVATE_INDEX_USERNAME="me",
        POETRY_HTTP_BASIC_PRIVATE_INDEX_PASSWORD="p@ss",
    )
    assert ("Private-Index", "https://me:p%40ss@index.example.org/private") in index_addresses(discover(app), chosen)

    (app.parent / "auth.toml").write_text('[http-basic.Private-Index]\nusername = "you"\npassword = "x"\n')
    assert ("Private-Index", "https://you:x@index.example.org/private") in index_addresses(discover(app), options(app))


@pytest.mark.parametrize(("version", "shown"), [("3.0", "3.0"), ("", "none")])
def test_a_lock_of_another_format_is_refused(app: Path, version: str, shown: str) -> None:
    lock = app / "poetry.lock"
    text = lock.read_text()
    kept = [line for line in text.splitlines() if not line.startswith("lock-version")]
    kept += [f'lock-version = "{version}"'] if version else []
    lock.write_text("\n".join(kept) + "\n")
    with pytest.raises(RequestError) as caught:
        names(app, ARM)
    assert caught.value.message == f"`poetry.lock` has an unknown format version: {shown}"


def test_hashes_may_stand_at_the_end_as_in_format_1(app1: Path) -> None:
    lock = app1 / "poetry.lock"
    before = {pin.name: pin.wheel for pin in selected(app1, ARM).pins}
    files = files_of(lock)
    kept, skipping = [], False
    for line in lock.read_text().splitlines():
        skipping = skipping or line.startswith("files = [")
        if not skipping:
            kept.append(line)
        skipping = skipping and not line.endswith("]")
    text = "\n".join(kept).replace('lock-version = "2.0"', 'lock-version = "1.1"') + "\n\n[metadata.files]\n"
    for name, own in files.items():
        text += f"{name} = [\n" + "".join(f'{{file = "{f}", hash = "sha256:{h}"}},\n' for f, h in own.items()) + "]\n"
    lock.write_text(text)
    assert {pin.name: pin.wheel for pin in selected(app1, ARM).pins} == before


def test_markers_may_differ_by_group(app2: Path) -> None:
    lock = app2 / "poetry.lock"
    text = lock.read_text()
    start = text.index('name = "pluggy"')
    entry = text[start:].replace(
        'groups = ["ops"]',
        'groups = ["main", "ops"]\nmarkers = {main = "python_version < \\"3.12\\"", ops = "python_version > \\"3\\""}',
        1,
    )
    lock.write_text(text[:start] + entry)
    assert "pluggy" in names(app2, OLDER)
    assert "pluggy" not in names(app2, ARM)
    assert "pluggy" in names(app2, ARM, options(app2, groups=("ops",)))


def test_a_lock_that_lost_a_package_is_refused(app1: Path) -> None:
    edit(app1 / "poetry.lock", 'name = "urllib3"', 'name = "urllib4"')
    with pytest.raises(LockOutdated) as caught:
        names(app1, ARM)
    assert caught.value.message == "`poetry.lock` has no `urllib3` that satisfies `>=1.21.1,<3`"


@pytest.mark.parametrize(
    ("constraint", "allowed", "refused"),
    [
        ("^1.2.3", ("1.2.3", "1.9"), ("1.2.2", "2.0", "2.0.dev1")),
        ("^0.2.3", ("0.2.3", "0.2.9"), ("0.3.0", "1.0")),
        ("^0.0.3", ("0.0.3",), ("0.0.4",)),
        ("^0.0", ("0.0.9",), ("0.1",)),
        ("^0", ("0.9",), ("1.0",)),
        ("~1.2.3", ("1.2.9",), ("1.3",)),
        ("~1.2", ("1.2.9",), ("1.3",)),
        ("~1", ("1.9",), ("2.0",)),
        ("~=1.2", ("1.9",), ("2.0",)),
        ("*", ("0.1", "99"), ()),
        ("1.2.*", ("1.2.7",), ("1.3",)),
        ("1.2", ("1.2", "1.2.0"), ("1.2.1",)),
        ("==1.2", ("1.2",), ("1.3",)),
        (">=1,<2 || >=3", ("1.5", "3.1"), ("2.5",)),
        (">=1 <2", ("1.5",), ("2.0",)),
        (">=1,<2,!=1.5", ("1.4",), ("1.5",)),
        ("^1.0,", ("1.5",), ("2",)),
        ("^2.0a1", ("2.0a1", "2.0"), ("3.0",)),
    ],
)
def test_poetrys_version_constraints(constraint: str, allowed: tuple[str, ...], refused: tuple[str, ...]) -> None:
    assert [version for version in allowed if not allows(constraint, version)] == []
    assert [version for version in refused if allows(constraint, version)] == []


def test_a_bare_python_version_means_its_patch_releases() -> None:
    assert allows("3.12", "3.12.4", is_python=True)
    assert not allows("3.12", "3.12.4")
    assert not allows("<3.12", "3.12.4", is_python=True)


@pytest.mark.parametrize("text", ["^x.y", "=> 1", "^"])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        allows(text, "1.0")


@pytest.mark.network
def test_the_public_index_has_the_files_of_a_real_lock(app2: Path) -> None:
    chosen = ResolveOptions(environment=os.environ)
    locked = files_of(app2 / "poetry.lock")
    selection = selected(app2, ARM, chosen)
    assert {pin.name for pin in selection.pins} == ALWAYS - {"poetry-lib"}
    for pin in selection.pins:
        assert pin.wheel.hashes["sha256"] == locked[pin.name][pin.wheel.filename]
        assert pin.wheel.url is not None
        assert pin.wheel.size
