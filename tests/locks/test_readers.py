from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from manylambda.errors import LockOutdated, RequestError
from manylambda.locks.discovery import base_folder, discover
from manylambda.locks.model import ResolveOptions
from manylambda.locks.readers import index_addresses, read
from manylambda.locks.select import select
from manylambda.target import Target

if TYPE_CHECKING:
    from pathlib import Path

ARM = Target.parse("python3.13-arm64")
OLDER = Target.parse("python3.11-x86_64")
QUIET = ResolveOptions(environment={"UV_NO_CONFIG": "1", "PIP_CONFIG_FILE": "/dev/null"})

HEAD = 'lock-version = "1.0"\ncreated-by = "test"\n'
HASHES = f'hashes = {{ sha256 = "{"0" * 64}" }}'


def wheel(name: str, version: str = "1.0") -> str:
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return f'[{{ name = "{file}", url = "https://files.example.org/{file}", {HASHES} }}]'


def entry(name: str, more: str = "") -> str:
    return f'\n[[packages]]\nname = "{name}"\nversion = "1.0"\n{more}wheels = {wheel(name)}\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def locked(project: Path, text: str, options: ResolveOptions = QUIET, target: Target = ARM) -> set[str]:
    (project / "pylock.toml").write_text(text)
    source = discover(project)
    selection = select(read(source, [target], options), target, options, base_folder(source))
    return {pin.name for pin in selection.pins} | {package.name for package in selection.local}


def test_a_pylock_is_used_as_it_is(project: Path) -> None:
    assert locked(project, HEAD + entry("idna") + entry("certifi")) == {"certifi", "idna"}


def test_extras_and_groups_of_a_pylock_are_honoured(project: Path) -> None:
    text = (
        HEAD
        + 'extras = ["color"]\ndependency-groups = ["base", "ops"]\ndefault-groups = ["base"]\n'
        + entry("idna")
        + entry("colorama", "marker = \"'color' in extras\"\n")
        + entry("base-tool", "marker = \"'base' in dependency_groups\"\n")
        + entry("pluggy", "marker = \"'ops' in dependency_groups\"\n")
    )
    assert locked(project, text) == {"idna", "base-tool"}
    asked = ResolveOptions(extras=frozenset({"color"}), groups=frozenset({"ops"}), environment=QUIET.environment)
    assert locked(project, text, asked) == {"idna", "base-tool", "colorama", "pluggy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ResolveOptions(extras=frozenset({"x"})), "the project has no extra `x`"),
        (ResolveOptions(groups=frozenset({"x"})), "the project has no group `x`"),
    ],
)
def test_an_extra_or_group_a_pylock_does_not_know_is_refused(
    project: Path, options: ResolveOptions, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        locked(project, HEAD + entry("idna"), options)
    assert caught.value.message == message


def test_relative_paths_start_at_the_folder_of_the_pylock(project: Path) -> None:
    folder = project / "locks"
    folder.mkdir()
    file = "demo-1.0-py3-none-any.whl"
    (folder / "pylock.lambda.toml").write_text(
        HEAD
        + f'\n[[packages]]\nname = "demo"\nversion = "1.0"\nwheels = [{{ path = "wheels/{file}", {HASHES} }}]\n'
        + '\n[[packages]]\nname = "lib"\n[packages.directory]\npath = "../lib"\neditable = true\n'
    )
    source = discover(project, lock=folder / "pylock.lambda.toml")
    selection = select(read(source, [ARM], QUIET), ARM, QUIET, base_folder(source))
    assert selection.pins[0].wheel.path == folder / "wheels" / file
    assert selection.local[0].directory.resolve() == project / "lib"


def test_a_target_that_a_pylock_was_not_made_for_is_refused(project: Path) -> None:
    text = HEAD + entry("idna") + '\n[tool.manylambda]\ntargets = ["python3.13-arm64", "python3.12-arm64"]\n'
    assert locked(project, text) == {"idna"}
    with pytest.raises(LockOutdated) as caught:
        locked(project, text, target=OLDER)
    assert caught.value.message == (
        "`pylock.toml` was not made for `python3.11-x86_64`; it was for `python3.13-arm64`, `python3.12-arm64`"
    )
    assert caught.value.hint == ("run `manylambda lock -t python3.11-x86_64 -t python3.12-arm64 -t python3.13-arm64`")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "not toml",
            "`pylock.toml` is not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 5)",
        ),
        (
            'created-by = "x"\npackages = []\n',
            "`pylock.toml` is not a valid lock at `lock-version`: missing required value",
        ),
        (
            'lock-version = "2.0"\ncreated-by = "x"\npackages = []\n',
            "`pylock.toml` has an unknown format version: pylock version 2.0 is not supported",
        ),
        (
            HEAD + entry("idna") + entry("certifi", "marker = 3\n"),
            "`pylock.toml` is not a valid lock at `packages[1].marker`: unexpected type int (expected str)",
        ),
        (
            HEAD + entry("idna").replace("hashes =", "hash ="),
            "`pylock.toml` is not a valid lock at `packages[0].wheels[0].hashes`: missing required value",
        ),
        (
            HEAD + entry("idna") + "\n[tool.manylambda]\ntargets = 3\n",
            "`tool.manylambda.targets` in `pylock.toml` must be an array of strings",
        ),
    ],
)
def test_a_malformed_pylock_is_refused_with_the_path_of_keys(project: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        locked(project, text)
    assert caught.value.message == message


def test_credentials_in_a_pylock_go_no_further(project: Path) -> None:
    text = HEAD + entry("idna", 'index = "https://me:secret@index.example.org/simple"\n')
    (project / "pylock.toml").write_text(text.replace("https://files", "https://me:secret@files"))
    pylock = read(discover(project), [ARM], QUIET)
    assert "secret" not in str(pylock.to_dict())
    assert pylock.packages[0].index == "https://index.example.org/simple"


def test_a_project_without_dependencies_gives_an_empty_lock(project: Path) -> None:
    source = discover(project)
    assert read(source, [ARM], QUIET).packages == []
    assert index_addresses(source, QUIET) == ()


def test_requirements_are_resolved(project: Path) -> None:
    """Only that they reach the resolver: what it does has its own tests."""
    (project / "requirements.txt").write_text("# nothing\n")
    assert read(discover(project), [ARM], QUIET).packages == []


def test_index_addresses_are_those_of_the_settings(project: Path) -> None:
    (project / "pylock.toml").write_text(HEAD + entry("idna"))
    options = ResolveOptions(
        environment={"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": "https://me:x@index.example.org/simple"}
    )
    assert index_addresses(discover(project), options) == ((None, "https://me:x@index.example.org/simple"),)


def test_no_reader_is_imported_before_it_is_needed() -> None:
    """Start-up time is a promise: a warm build reads one format."""
    program = (
        "import sys; import manylambda.locks.discovery, manylambda.locks.readers\n"
        "print(*sorted(n for n in sys.modules if n.startswith(('packaging', 'manylambda.locks.', 'manylambda.fetch'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "manylambda.locks.discovery",
        "manylambda.locks.documents",
        "manylambda.locks.model",
        "manylambda.locks.readers",
    ]
