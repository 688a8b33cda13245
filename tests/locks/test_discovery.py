from __future__ import annotations

from pathlib import Path

import pytest

from manylambda.errors import RequestError
from manylambda.locks.discovery import base_folder, discover, workspace_root
from manylambda.locks.model import SourceKind

PROJECT = '[project]\nname = "app"\nversion = "1"\ndependencies = ["idna"]\n'
DATA = Path(__file__).parent / "data"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    return folder.resolve()


def put(project: Path, *names: str) -> None:
    for name in names:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PROJECT if name.endswith("pyproject.toml") else "")


ORDER = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock", "requirements.txt", "pyproject.toml")


@pytest.mark.parametrize("position", range(len(ORDER)))
def test_the_most_exact_file_is_used(project: Path, position: int) -> None:
    put(project, *ORDER[position:])
    source = discover(project)
    assert source.kind.value == ORDER[position]
    assert source.files == (project / ORDER[position],)
    assert source.project == project


def test_files_that_were_passed_over_are_told(project: Path) -> None:
    put(project, *ORDER)
    assert [file.name for file in discover(project).passed_over] == list(ORDER[1:-1])


def test_the_pyproject_a_lock_was_made_from_is_not_passed_over(project: Path) -> None:
    put(project, "uv.lock", "pyproject.toml")
    assert discover(project).passed_over == ()


def test_a_pyproject_beside_requirements_is_passed_over(project: Path) -> None:
    put(project, "requirements.txt", "pyproject.toml")
    assert discover(project).passed_over == (project / "pyproject.toml",)


def test_a_pyproject_that_only_sets_up_tools_is_no_candidate(project: Path) -> None:
    put(project, "requirements.txt")
    (project / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert discover(project).passed_over == ()


@pytest.mark.parametrize(
    "name", ["requirements-dev.txt", "requirements-test.txt", "requirements.in", "pylock.dev.toml"]
)
def test_files_for_something_else_are_never_candidates(project: Path, name: str) -> None:
    put(project, name)
    source = discover(project)
    assert source.kind is SourceKind.NONE
    assert source.files == ()


def test_requirements_for_developers_do_not_hide_the_project(project: Path) -> None:
    """Issue: a peer installs requirements-dev.txt when there is also a pyproject.toml."""
    put(project, "requirements-dev.txt", "pyproject.toml")
    source = discover(project)
    assert source.kind is SourceKind.PYPROJECT
    assert source.passed_over == ()


def test_requirements_files_can_be_named(project: Path) -> None:
    put(project, "uv.lock", "pyproject.toml", "a.txt", "b.txt")
    source = discover(project, requirements=(project / "b.txt", project / "a.txt"))
    assert source.kind is SourceKind.REQUIREMENTS
    assert [file.name for file in source.files] == ["b.txt", "a.txt"]


def test_requirements_can_come_from_standard_input(project: Path) -> None:
    assert discover(project, requirements=(Path("-"),)).files == (Path("-"),)


def test_a_named_pylock_is_used_and_its_paths_start_at_its_folder(project: Path) -> None:
    put(project, "locks/pylock.lambda.toml")
    source = discover(project, lock=project / "locks" / "pylock.lambda.toml")
    assert source.kind is SourceKind.PYLOCK
    assert base_folder(source) == project / "locks"


def test_paths_in_other_locks_start_at_the_project(project: Path) -> None:
    put(project, "uv.lock", "pyproject.toml")
    assert base_folder(discover(project)) == project


def test_a_workspace_member_uses_the_lock_of_the_workspace() -> None:
    root = (DATA / "uv-workspace").resolve()
    source = discover(root / "packages" / "api")
    assert source.kind is SourceKind.UV
    assert source.files == (root / "uv.lock",)
    assert source.project == root / "packages" / "api"


@pytest.mark.parametrize(
    ("settings", "belongs"),
    [
        ('members = ["packages/*"]', True),
        ('members = ["packages/app"]', True),
        ('members = ["./packages/app"]', True),
        ('members = ["**/app"]', True),
        ('members = ["packages/*"]\nexclude = ["packages/app"]', False),
        ('members = ["packages"]', False),
        ('members = ["*"]', False),
    ],
)
def test_members_of_a_workspace_are_those_its_globs_match(tmp_path: Path, settings: str, belongs: bool) -> None:
    root = tmp_path.resolve()
    put(root, "packages/app/pyproject.toml", "uv.lock")
    (root / "pyproject.toml").write_text(f"[tool.uv.workspace]\n{settings}\n")
    assert workspace_root(root / "packages" / "app") == (root if belongs else None)
    kind = SourceKind.UV if belongs else SourceKind.PYPROJECT
    assert discover(root / "packages" / "app").kind is kind


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        (
            {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nidna = "*"\n'},
            "`[tool.poetry.dependencies]` can only be built from a lock, and there is no `poetry.lock`",
            "run `poetry lock`",
        ),
        (
            {"pyproject.toml": PROJECT + '[tool.poetry.dependencies]\nidna = { source = "private" }\n'},
            "`[tool.poetry.dependencies]` can only be built from a lock, and there is no `poetry.lock`",
            "run `poetry lock`",
        ),
        (
            {"Pipfile": "", "Pipfile.lock": "{}"},
            "`Pipfile.lock` is not read, and there is no other file with dependencies",
            "run `pipenv requirements --hash > requirements.txt`",
        ),
        (
            {"setup.py": "setup(install_requires=['idna'])"},
            "`install_requires` in `setup.py` is not read, and there is no other file with dependencies",
            "move the dependencies to `[project]` in `pyproject.toml`, or name them in a `requirements.txt`",
        ),
    ],
)
def test_dependencies_that_cannot_be_read_are_not_left_out_silently(
    project: Path, files: dict[str, str], message: str, hint: str
) -> None:
    for name, text in files.items():
        (project / name).write_text(text)
    with pytest.raises(RequestError) as caught:
        discover(project)
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_poetry_settings_beside_a_project_table_are_no_obstacle(project: Path) -> None:
    (project / "pyproject.toml").write_text(PROJECT + '[tool.poetry.dependencies]\npython = "^3.11"\n')
    assert discover(project).kind is SourceKind.PYPROJECT


@pytest.mark.parametrize(
    ("requirements", "lock", "message", "hint"),
    [
        (
            ("a.txt",),
            "uv.lock",
            "a requirements file and a lock were both named",
            "pass `-r` or `--lock`, not both; a lock is already exact",
        ),
        ((), "conda-lock.yml", "`conda-lock.yml` is no lock of a known name", None),
        ((), "absent/uv.lock", "`absent/uv.lock` does not exist", None),
        (("uv.lock",), None, "`uv.lock` is a lock, not a requirements file", "pass `--lock uv.lock`"),
        (
            ("pyproject.toml",),
            None,
            "`pyproject.toml` is not a requirements file",
            "leave out `-r` and pass the folder it lies in as the project",
        ),
        (("absent.txt",), None, "`absent.txt` does not exist", "in `app` there is `a.txt`"),
    ],
)
def test_what_is_named_wrongly_is_refused(
    project: Path, requirements: tuple[str, ...], lock: str | None, message: str, hint: str | None
) -> None:
    put(project, "a.txt", "uv.lock", "pyproject.toml")
    with pytest.raises(RequestError) as caught:
        discover(project, requirements=tuple(map(Path, requirements)), lock=None if lock is None else Path(lock))
    assert caught.value.message == message
    if hint is not None:
        assert caught.value.hint == hint


def test_the_hint_for_an_unknown_lock_names_the_known_ones(project: Path) -> None:
    with pytest.raises(RequestError) as caught:
        discover(project, lock=Path("conda-lock.yml"))
    assert caught.value.hint == (
        "a lock is called `pylock.toml`, `uv.lock`, `poetry.lock`, `pdm.lock` or `pylock.<name>.toml`; "
        "a requirements file is passed with `-r`"
    )


def test_a_project_that_is_no_folder_is_refused(project: Path) -> None:
    with pytest.raises(RequestError, match="project is not a folder"):
        discover(project / "absent")
