from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from manylambda.errors import LockOutdated, RequestError, ResolutionError
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.model import ResolveOptions
from manylambda.locks.readers import read
from manylambda.locks.select import select
from manylambda.target import Target

DATA = Path(__file__).parent / "data"
ARM = Target.parse("python3.13-arm64")
NEWER = Target.parse("python3.14-x86_64")
OLDER = Target.parse("python3.11-x86_64")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "uv-app", tmp_path / "uv-app"))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "uv-workspace", tmp_path / "uv-workspace"))


def options(*, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> ResolveOptions:
    # Nothing of the host: no PATH on which uv could find an interpreter, and an address that cannot answer.
    environment = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CONFIG": "1"}
    for name in ("SYSTEMROOT", "HOME", "TMPDIR"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return ResolveOptions(extras=frozenset(extras), groups=frozenset(groups), environment=environment)


def names(project: Path, target: Target, chosen: ResolveOptions | None = None) -> set[str]:
    source = discover(project)
    chosen = chosen or options()
    selection = select(read(source, [target], chosen), target, chosen, base_folder(source))
    return {pin.name for pin in selection.pins} | {package.name for package in selection.local}


def replace(project: Path, old: str, new: str) -> None:
    file = project / "pyproject.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


ALWAYS = {"certifi", "charset-normalizer", "hiredis", "idna", "redis", "requests", "urllib3", "uv-app"}


def test_a_lock_is_read_without_network_and_without_an_interpreter_of_its_python(app: Path) -> None:
    """The project wants 3.13; the tests run on 3.11 with an empty PATH."""
    assert names(app, ARM) == ALWAYS | {"tomli"}


def test_markers_are_those_of_the_target(app: Path) -> None:
    assert names(app, NEWER) == ALWAYS


def test_an_extra_and_a_group_come_only_when_asked_for(app: Path) -> None:
    assert names(app, NEWER, options(extras=("color",))) == ALWAYS | {"colorama"}
    assert names(app, NEWER, options(extras=("all",))) == ALWAYS | {"colorama"}
    assert names(app, NEWER, options(groups=("ops",))) == ALWAYS | {"pluggy"}
    assert names(app, NEWER, options(groups=("dev",))) == ALWAYS | {"pluggy", "iniconfig"}


def test_wheels_have_address_size_and_hash_of_the_lock(app: Path) -> None:
    source = discover(app)
    selection = select(read(source, [ARM], options()), ARM, options(), base_folder(source))
    hiredis = next(pin for pin in selection.pins if pin.name == "hiredis").wheel
    assert hiredis.filename.endswith("_aarch64.whl")
    lock = (app / "uv.lock").read_text()
    assert f'url = "{hiredis.url}"' in lock
    assert f'hash = "sha256:{hiredis.hashes["sha256"]}", size = {hiredis.size},' in lock


def test_the_project_itself_is_a_local_package(app: Path) -> None:
    source = discover(app)
    (own,) = select(read(source, [ARM], options()), ARM, options(), base_folder(source)).local
    assert own.name == "uv-app"
    assert own.directory == app


def test_a_member_gets_its_own_needs_and_the_shared_package(workspace: Path) -> None:
    api = workspace / "packages" / "api"
    assert names(api, ARM) == {"api", "shared", "idna", "colorama"}
    assert names(api, OLDER) == {"api", "shared", "idna", "colorama", "tomlkit"}
    assert names(workspace / "packages" / "worker", ARM) == {"worker", "shared", "iniconfig", "colorama"}
    source = discover(api)
    local = select(read(source, [ARM], options()), ARM, options(), base_folder(source)).local
    assert [package.directory.resolve() for package in local] == [api, workspace / "packages" / "shared"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '  "requests>=2.32",\n',
            "",
            "`uv.lock` does not match `project.dependencies` of `uv-app`: `requests`",
        ),
        (
            '"requests>=2.32"',
            '"requests>=2.33", "boto3"',
            "`uv.lock` does not match `project.dependencies` of `uv-app`: `boto3`, `requests`",
        ),
        ('"redis[hiredis]"', '"redis"', "`uv.lock` does not match `project.dependencies` of `uv-app`: `redis`"),
        (
            "tomli; python_version < '3.14'",
            "tomli; python_version < '3.13'",
            "`uv.lock` does not match `project.dependencies` of `uv-app`: `tomli`",
        ),
        (
            '"requests>=2.32"',
            '"requests @ https://files.example.org/requests-2.32.0-py3-none-any.whl"',
            "`uv.lock` does not match `project.dependencies` of `uv-app`: `requests`",
        ),
        (
            "colorama>=0.4",
            "colorama>=0.5",
            "`uv.lock` does not match `project.optional-dependencies.all` of `uv-app`: `colorama`",
        ),
        (
            "[build-system]",
            '[tool.uv.sources]\nrequests = { git = "https://git.example.org/requests" }\n\n[build-system]',
            "`uv.lock` does not match `project.dependencies` of `uv-app`: `requests`",
        ),
        (
            "[build-system]",
            '[tool.uv]\noverride-dependencies = ["idna<3"]\n\n[build-system]',
            "`uv.lock` does not match `tool.uv.override-dependencies` of `uv-app`: `idna`",
        ),
        (
            'requires-python = ">=3.13"',
            'requires-python = ">=3.14"',
            "`uv.lock` does not match `requires-python` of `uv-app`: `>=3.13` is not `>=3.14`",
        ),
    ],
)
def test_a_lock_that_does_not_match_its_project_is_refused(app: Path, old: str, new: str, message: str) -> None:
    replace(app, old, new)
    with pytest.raises(LockOutdated) as caught:
        names(app, ARM)
    if "optional" in message:
        assert "colorama" in caught.value.message
    else:
        assert caught.value.message == message
    assert caught.value.hint == "run `uv lock`"


def test_what_is_no_requirement_is_refused(app: Path) -> None:
    replace(app, '"requests>=2.32"', '"requests=>2.32"')
    with pytest.raises(RequestError, match=r"`requests=>2\.32` is not a requirement: expected"):
        names(app, ARM)


def test_a_group_that_does_not_match_is_refused_when_it_is_asked_for(app: Path) -> None:
    replace(app, "pluggy<2", "pluggy<3")
    names(app, ARM)
    with pytest.raises(LockOutdated) as caught:
        names(app, ARM, options(groups=("ops",)))
    assert caught.value.message == "`uv.lock` does not match `dependency-groups.ops` of `uv-app`: `pluggy`"


def test_a_change_no_target_can_see_makes_no_lock_outdated(app: Path) -> None:
    replace(app, "pywin32; sys_platform == 'win32'", "pywin32>=300; sys_platform == 'win32'")
    assert names(app, NEWER) == ALWAYS


def test_another_way_to_write_the_same_makes_no_lock_outdated(app: Path) -> None:
    replace(app, '"requests>=2.32"', '"Requests >= 2.32.0"')
    replace(app, '"redis[hiredis]"', '"redis [HiRedis]"')
    assert names(app, NEWER) == ALWAYS


def test_a_change_of_another_member_is_no_concern(workspace: Path) -> None:
    replace(workspace / "packages" / "worker", "iniconfig", "pluggy")
    assert "api" in names(workspace / "packages" / "api", ARM)
    with pytest.raises(LockOutdated) as caught:
        names(workspace / "packages" / "worker", ARM)
    assert caught.value.message == (
        "`uv.lock` does not match `project.dependencies` of `worker`: `iniconfig`, `pluggy`"
    )


def test_a_change_of_the_shared_member_is(workspace: Path) -> None:
    replace(workspace / "packages" / "shared", '"colorama"', '"colorama", "pluggy"')
    with pytest.raises(LockOutdated) as caught:
        names(workspace / "packages" / "api", ARM)
    assert caught.value.message == "`uv.lock` does not match `project.dependencies` of `shared`: `pluggy`"


def test_constraints_of_the_workspace_are_compared(workspace: Path) -> None:
    replace(workspace, "idna<4", "idna<3")
    with pytest.raises(LockOutdated) as caught:
        names(workspace / "packages" / "api", ARM)
    assert caught.value.message == "`uv.lock` does not match `tool.uv.constraint-dependencies` of `workspace`: `idna`"


def test_a_member_the_lock_does_not_know_is_refused(workspace: Path) -> None:
    shutil.copytree(workspace / "packages" / "worker", workspace / "packages" / "mailer")
    replace(workspace / "packages" / "mailer", '"worker"', '"mailer"')
    with pytest.raises(LockOutdated) as caught:
        names(workspace / "packages" / "mailer", ARM)
    assert caught.value.message == "`uv.lock` does not know the project `mailer`"


@pytest.mark.parametrize(
    ("chosen", "message", "hint"),
    [
        (options(extras=("colour",)), "the project has no extra `colour`", "did you mean `color`?"),
        (options(groups=("test",)), "the project has no group `test`", "there is `dev`, `ops`"),
    ],
)
def test_an_unknown_extra_or_group_is_refused(app: Path, chosen: ResolveOptions, message: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        names(app, ARM, chosen)
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_a_target_outside_the_lock_is_refused(app: Path) -> None:
    with pytest.raises(ResolutionError, match=r"the lock is for Python `>=3\.13`, `python3\.11-x86_64` has 3\.11"):
        names(app, OLDER)


def test_credentials_in_the_lock_go_no_further(app: Path) -> None:
    lock = app / "uv.lock"
    lock.write_text(
        lock.read_text()
        .replace("https://files.pythonhosted.org/", "https://me:secret@files.example.org/")
        .replace("https://pypi.org/simple", "https://me:secret@index.example.org/simple")
    )
    pylock = read(discover(app), [ARM], options())
    assert "secret" not in str(pylock.to_dict())
    assert any(wheel.url and "files.example.org" in wheel.url for p in pylock.packages for wheel in p.wheels or ())


def test_a_lock_of_another_format_is_refused(app: Path) -> None:
    lock = app / "uv.lock"
    lock.write_text(lock.read_text().replace("version = 1\n", "version = 9\n", 1))
    with pytest.raises(RequestError) as caught:
        names(app, ARM)
    assert caught.value.message == "`uv.lock` has an unknown format version: 9"


def test_settings_of_the_shell_do_not_change_what_is_exported(app: Path) -> None:
    settings = options()
    loud = {"UV_LOCKED": "1", "UV_DEV": "1", "UV_PYTHON": "3.9", "UV_PROJECT": "/nowhere", "VIRTUAL_ENV": "/nowhere"}
    chosen = ResolveOptions(environment={**settings.environment, **loud})
    assert names(app, NEWER, chosen) == ALWAYS
