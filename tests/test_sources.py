from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manylambda.errors import PackagingError, RequestError
from manylambda.sources import FileRules, LeftOut, SourceFolder, project_tree
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, DiskFile, read_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.sources import ProjectFiles

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="compares with the git program")
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def paths(files: ProjectFiles) -> list[str]:
    return [entry.path for entry in files.tree]


def taken(folder: Path, **rules: object) -> list[str]:
    return paths(project_tree(folder, FileRules(**rules)))  # type: ignore[arg-type]


def reasons(folder: Path, **rules: object) -> dict[str, str]:
    return {left.path: left.reason for left in project_tree(folder, FileRules(**rules)).left_out}  # type: ignore[arg-type]


def git(folder: Path, *arguments: str) -> bytes:
    assert GIT is not None
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run([GIT, "-C", folder, *arguments], check=True, capture_output=True, env=environment).stdout


def git_would_track(folder: Path) -> list[str]:
    """Return what git would track, without the `.gitignore` files, which no package needs."""
    listed = git(folder, "ls-files", "-co", "--exclude-standard", "-z").decode().split("\0")
    return sorted(path for path in listed if path and not path.endswith(".gitignore"))


# The shape of a project


def test_a_flat_project_just_works(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "lib/__init__.py": "", "data/table.csv": "", "README.md": "", "pyproject.toml": ""})
    files = project_tree(tmp_path, FileRules())
    assert paths(files) == ["README.md", "app.py", "data/table.csv", "lib/__init__.py"]
    assert files.sources == (SourceFolder(path=Path()),)


def test_a_src_folder_is_the_root_of_the_package(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": "", "src/core/x.py": "", "README.md": "", "infra/stack.yaml": "", "tests/t.py": ""})
    files = project_tree(tmp_path, FileRules())
    assert paths(files) == ["app.py", "core/x.py"]
    assert files.sources == (SourceFolder(path=Path("src")),)
    assert {left.path: left.reason for left in files.left_out} == {
        "README.md": "outside `src`",
        "infra/": "outside `src`",
        "tests/": "tests",
    }


@pytest.mark.parametrize(
    "beside",
    ["app.py", "native.so", "package/__init__.py", "src/__init__.py"],
)
def test_a_src_folder_is_an_ordinary_folder_when_something_importable_lies_beside_it(
    tmp_path: Path, beside: str
) -> None:
    write(tmp_path, {"src/module.py": "", beside: ""})
    assert taken(tmp_path) == sorted(["src/module.py", beside])


@pytest.mark.parametrize("beside", ["setup.py", "conftest.py", "noxfile.py", "test_app.py", "tests/__init__.py"])
def test_modules_of_the_build_do_not_count_as_importable(tmp_path: Path, beside: str) -> None:
    write(tmp_path, {"src/module.py": "", beside: ""})
    assert taken(tmp_path) == ["module.py"]


def test_sources_map_folders_and_files_also_from_outside_the_project(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shared/common/log.py": "",
            "shared/util.py": "",
            "project/code/app.py": "",
            "project/assets/logo.svg": "",
            "project/README.md": "",
        },
    )
    sources = (
        SourceFolder(path=Path("code")),
        SourceFolder(path=Path("assets"), to="static/images"),
        SourceFolder(path=Path("../shared/common"), to="common"),
        SourceFolder(path=Path("../shared/util.py")),
    )
    files = project_tree(tmp_path / "project", FileRules(sources=sources))
    assert paths(files) == ["app.py", "common/log.py", "static/images/logo.svg", "util.py"]
    assert files.left_out == (
        LeftOut(path="README.md", reason="outside `code`, `assets`, `../shared/common`, `../shared/util.py`"),
    )


def test_globs_match_paths_in_the_project_or_else_in_the_package(tmp_path: Path) -> None:
    write(tmp_path, {"out/a.txt": "", "out/b.txt": "", "project/src/app.py": "", "project/src/old.py": ""})
    sources = (SourceFolder(path=Path("src")), SourceFolder(path=Path("../out"), to="extra"))
    exclude = ("/src/old.py", "/extra/b.txt")
    assert taken(tmp_path / "project", sources=sources, exclude=exclude) == ["app.py", "extra/a.txt"]


def test_a_missing_source_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        project_tree(tmp_path, FileRules(sources=(SourceFolder(path=Path("code")),)))
    assert caught.value.message == "the source folder does not exist: `code`"
    assert caught.value.hint == "correct `files.sources`, or create the folder"


def test_a_project_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^the project is not a folder: `.*gone`$"):
        project_tree(tmp_path / "gone", FileRules())


def test_two_files_for_one_path_are_both_named(tmp_path: Path) -> None:
    write(tmp_path, {"a/app.py": "1", "b/app.py": "2"})
    sources = (SourceFolder(path=Path("a")), SourceFolder(path=Path("b")))
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules(sources=sources))
    assert caught.value.message == "`a/app.py` and `b/app.py` both become `app.py`"
    assert taken(tmp_path, sources=(sources[0], sources[0])) == ["app.py"]


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a/common": "", "b/x.py": ""})
    sources = (SourceFolder(path=Path("a")), SourceFolder(path=Path("b"), to="common"))
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules(sources=sources))
    assert caught.value.message == "`a/common` becomes a file where `b/x.py` needs a folder: `common`"


def test_a_destination_outside_the_package_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": ""})
    with pytest.raises(PackagingError, match="a file name no package can hold"):
        project_tree(tmp_path, FileRules(sources=(SourceFolder(path=Path("a"), to="../up"),)))


def test_a_project_shipped_as_a_wheel_gives_only_what_is_named(tmp_path: Path) -> None:
    write(
        tmp_path, {"src/p/__init__.py": "", "handler.py": "", "data/x.json": "", "data/.env": "", "pyproject.toml": ""}
    )
    assert taken(tmp_path, is_package=True) == []
    assert reasons(tmp_path, is_package=True)["handler.py"] == "the project is shipped as a wheel"
    assert taken(tmp_path, is_package=True, include=("/handler.py", "data/**")) == ["data/x.json", "handler.py"]
    assert taken(tmp_path, is_package=True, sources=(SourceFolder(path=Path("data")),)) == ["x.json"]


def test_an_entry_refers_to_the_file_and_says_who_brought_it(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "x = 1\r\n"})
    (entry,) = project_tree(tmp_path, FileRules()).tree
    assert entry.origin == "project"
    assert entry.content == DiskFile(Path(os.path.realpath(tmp_path), "app.py"), 7)
    assert read_content(entry.content) == b"x = 1\r\n"


# What is left out


DEFAULTS_LEFT_OUT = {
    ".git/config": "version control",
    ".hg/store": "version control",
    ".gitignore": "version control",
    "node_modules/left-pad/index.js": "installed JavaScript packages",
    "pkg/__pycache__/x.cpython-311.pyc": "cache",
    "pkg/old.pyc": "cache",
    ".mypy_cache/x": "cache",
    ".pytest_cache/x": "cache",
    ".ruff_cache/x": "cache",
    ".tox/x": "cache",
    ".nox/x": "cache",
    ".hypothesis/x": "cache",
    ".coverage": "cache",
    ".aws-sam/build/x": "output of another tool",
    "cdk.out/x": "output of another tool",
    ".serverless/x": "output of another tool",
    ".terraform/x": "output of another tool",
    "project.egg-info/PKG-INFO": "output of another tool",
    ".idea/x": "editor settings",
    ".vscode/x": "editor settings",
    ".DS_Store": "editor settings",
    ".env": "secret",
    ".env.production": "secret",
    "config/prod.env": "secret",
    "certs/server.key": "secret",
    "certs/server.pem": "secret",
    "certs/client.p12": "secret",
    "certs/client.pfx": "secret",
    "id_rsa": "secret",
    ".netrc": "secret",
    ".pypirc": "secret",
    ".aws/credentials": "secret",
    "credentials": "secret",
    "terraform.tfstate": "secret",
    "tests/test_app.py": "tests",
    "test/test_app.py": "tests",
    "conftest.py": "tests",
    ".github/workflows/ci.yml": "continuous integration",
    "pyproject.toml": "read by the build, not by the function",
    "uv.lock": "read by the build, not by the function",
    "requirements-dev.txt": "read by the build, not by the function",
    "template.yaml": "read by the build, not by the function",
    "samconfig.toml": "read by the build, not by the function",
}


@pytest.mark.parametrize(("path", "reason"), DEFAULTS_LEFT_OUT.items())
def test_what_no_function_needs_is_left_out_with_a_reason_and_include_brings_it_back(
    tmp_path: Path, path: str, reason: str
) -> None:
    write(tmp_path, {"app.py": "", path: "x"})
    assert taken(tmp_path) == ["app.py"]
    told = reasons(tmp_path)
    assert list(told.values()) == [reason]
    assert all((path + "/").startswith(key.rstrip("/") + "/") for key in told)
    assert taken(tmp_path, include=(f"/{path}",)) == sorted(["app.py", path])


@pytest.mark.parametrize(
    "path",
    [
        "mylib.so",
        "lib/libfoo.so.1",
        "build/mylib.so",
        "dist/page.html",
        "data/model.bin",
        "credentials/__init__.py",
        "pkg/tests/data.json",
        "pkg/requirements.txt",
        "pkg/template.yaml",
        "env/settings.py",
        "venv/settings.py",
        "id_card.py",
        "LICENSE",
        "templates/.gitkeep",
        "lib/x.py",
        "bin/run.sh",
    ],
)
def test_what_only_looks_like_something_else_is_kept(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"app.py": "", path: "x"})
    assert path in taken(tmp_path)
    assert reasons(tmp_path) == {}


def test_a_virtual_environment_is_known_by_its_mark_not_by_its_name(tmp_path: Path) -> None:
    write(
        tmp_path, {"app.py": "", "my-env/pyvenv.cfg": "", "my-env/lib/x.py": "", "c/conda-meta/history": "", "c/x": ""}
    )
    assert taken(tmp_path) == ["app.py"]
    assert reasons(tmp_path) == {"c/": "conda environment", "my-env/": "virtual environment"}
    assert taken(tmp_path, include=("*.py", "**", "*")) == ["app.py"]
    assert taken(tmp_path, include=("/my-env/lib/x.py",)) == ["app.py", "my-env/lib/x.py"]


def test_a_project_inside_a_virtual_environment_does_not_ship_the_environment(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "pyvenv.cfg": "", "bin/python": "", "lib/python3.13/site-packages/x.py": ""})
    assert taken(tmp_path) == ["app.py"]
    assert reasons(tmp_path) == dict.fromkeys(["bin/", "lib/", "pyvenv.cfg"], "virtual environment")


def test_certificates_are_kept_and_keys_are_not(tmp_path: Path) -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n"
    write(tmp_path, {"global-bundle.pem": certificate * 3, "both.pem": certificate + key, "key.pem": key})
    assert taken(tmp_path) == ["global-bundle.pem"]
    assert reasons(tmp_path) == {"both.pem": "secret", "key.pem": "secret"}


def test_the_output_folder_never_gets_into_a_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "app.py": "",
            "out/app.zip": "",
            "dist/page.html": "",
            "old/thing-python3.13-arm64.zip": "",
            "thing-layer-python3.13-arm64.zip": "",
        },
    )
    (tmp_path / "thing-python3.12-x86_64").mkdir()
    write(tmp_path / "thing-python3.12-x86_64", {"app.py": ""})
    rules = {"output": tmp_path / "out", "name": "thing", "include": ("out/app.zip",)}
    assert taken(tmp_path, **rules) == ["app.py", "dist/page.html"]
    assert reasons(tmp_path, **rules) == {
        "old/thing-python3.13-arm64.zip": "output of this tool",
        "out/": "output of this tool",
        "thing-layer-python3.13-arm64.zip": "output of this tool",
        "thing-python3.12-x86_64/": "output of this tool",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="no such files on Windows")
def test_special_files_are_left_out_with_a_reason() -> None:
    with tempfile.TemporaryDirectory(prefix="ml") as name:  # a socket's path must be short
        folder = write(Path(name), {"app.py": ""})
        os.mkfifo(folder / "pipe")
        os.mkfifo(folder / "pipe.pem")
        (folder / "link").symlink_to("pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "socket"))
            assert taken(folder) == ["app.py"]
            assert reasons(folder) == {
                "link": "a named pipe",
                "pipe": "a named pipe",
                "pipe.pem": "secret",
                "socket": "a socket",
            }


# include and exclude


def test_exclude_wins_over_include_and_include_over_the_rest(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "a.log": "", "b.log": "", ".env": "", ".gitignore": "*.log\n"})
    assert taken(tmp_path, include=("*.log", ".env")) == [".env", "a.log", "app.py", "b.log"]
    assert taken(tmp_path, include=("*.log",), exclude=("b.*",)) == ["a.log", "app.py"]
    assert reasons(tmp_path, include=("*.log",), exclude=("b.*",))["b.log"] == "excluded by `b.*`"
    assert taken(tmp_path, include=("*.log", "!a.log"), exclude=("*.py", "!app.py")) == ["app.py", "b.log"]


def test_include_reaches_into_ignored_folders(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "build/x.so": "", "build/deep/y.so": "", "build/z.o": "", ".gitignore": "build/\n"})
    assert taken(tmp_path, include=("*.so",)) == ["app.py", "build/deep/y.so", "build/x.so"]
    assert taken(tmp_path, include=("build/",)) == ["app.py", "build/deep/y.so", "build/x.so", "build/z.o"]
    assert taken(tmp_path, include=("build/**/*.o",)) == ["app.py", "build/z.o"]


def test_a_folder_that_is_brought_back_is_free_of_the_ignore_files_in_it_but_not_of_secrets_and_caches(
    tmp_path: Path,
) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "data/\n",
            "data/.gitignore": "*\n",
            "data/x.json": "",
            "data/.env": "",
            "data/.aws/config": "",
            "data/__pycache__/x.pyc": "",
            "data/env/pyvenv.cfg": "",
        },
    )
    assert taken(tmp_path, include=("data/",)) == ["data/x.json"]
    assert taken(tmp_path, include=("data/**",)) == ["data/x.json"]
    assert taken(tmp_path, include=("**",)) == ["data/x.json"]
    assert taken(tmp_path, include=("data/**", ".env")) == ["data/.env", "data/x.json"]
    assert taken(tmp_path, include=("data/.aws/**",)) == ["data/.aws/config"]


def test_a_folder_the_defaults_leave_out_comes_back_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"tests/a.py": "", "tests/b/c.py": "", ".git/HEAD": "", "node_modules/a/x.js": ""})
    assert taken(tmp_path, include=("tests/**",)) == ["tests/a.py", "tests/b/c.py"]
    assert taken(tmp_path, include=("tests/",)) == ["tests/a.py", "tests/b/c.py"]
    assert taken(tmp_path, include=("node_modules/a/**",)) == ["node_modules/a/x.js"]
    assert taken(tmp_path, include=("*.js", "*")) == []


def test_include_brings_files_from_beside_the_source_folder_by_their_path_only(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": "", "data/x.json": "", "y.json": "", "docs/z.json": ""})
    assert taken(tmp_path, include=("data/*.json", "/y.json")) == ["app.py", "data/x.json", "y.json"]
    assert taken(tmp_path, include=("*.json",)) == ["app.py"]
    assert reasons(tmp_path, include=("/y.json", "data/*.json")) == {
        "data/": "outside `src`; only what `include` names is taken",
        "docs/": "outside `src`",
    }


# .gitignore


AWKWARD = {
    "plain": ("a", "a/", "!a"),
    "anchored": ("/a", "b/c", "/b/*", "!/b/c"),
    "stars": ("**/c", "a/**", "a/**/c", "**", "!*/", "!*.py"),
    "half stars": ("a**", "**b", "a**/c", "b/***/c"),
    "all but": ("/*", "!/a", "/a/*", "!/a/b"),
    "negated folders": ("*", "!*/", "!**/b"),
    "brackets": ("[ab]", "[!a].py", "[a-", "[]a]", "[[:alpha:]].txt", "[^b]c"),
    "escapes": ("\\#c", "\\!d", "a\\ ", "a\\b", "c\\"),
    "spaces": ("a  ", " b", "a b", "c\t"),
    "comments": ("# a", "", "   ", "!", "/", "//", "a//"),
    "carriage returns": ("a\r", "*.py\r"),
    "not ascii": ("é*", "?", "[é]"),
}
AWKWARD_FILES = (
    "a/b", "a/c", "a/b.py", "a b", "b/c", "b/a/c", "b/x.py", "c/a", "c/b/c", "#c/d", "!d", "d.py", "e.txt",
    "x/a/b/c", "x/b", "x/é/a", "é.py", "ab/c", "ab/d/c", "f/b.txt", "[a]", "a.py",
)  # fmt: skip


@needs_git
@pytest.mark.parametrize("lines", AWKWARD.values(), ids=AWKWARD)
def test_awkward_patterns_mean_what_they_mean_to_git(tmp_path: Path, lines: tuple[str, ...]) -> None:
    for number, chosen in enumerate([*((line,) for line in lines), lines, tuple(reversed(lines))]):
        folder = tmp_path / str(number)
        for path in AWKWARD_FILES:
            # `a/b` and the file `a` cannot both be: the folder wins
            write(folder, {path: ""})
        write(folder, {".gitignore": "\n".join(chosen) + "\n"})
        git(folder, "init", "-q")
        assert taken(folder) == git_would_track(folder), chosen


@needs_git
def test_ignore_files_count_at_every_level_and_the_nearest_decides(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.log\n/a/only-here\n",
            "a/.gitignore": "!keep.log\nonly-there\n",
            "a/b/.gitignore": "keep.log\n",
            **dict.fromkeys(["x.log", "a/keep.log", "a/x.log", "a/b/keep.log", "a/only-here", "only-here"], ""),
            **dict.fromkeys(["only-there", "a/only-there", "a/b/only-there", "excluded", "a/excluded.log"], ""),
        },
    )
    git(tmp_path, "init", "-q")
    write(tmp_path, {".git/info/exclude": "excluded\n!x.log\n"})
    assert taken(tmp_path) == git_would_track(tmp_path) == ["a/keep.log", "only-here", "only-there"]
    assert reasons(tmp_path)["a/b/keep.log"] == "ignored by `a/b/.gitignore` line 1: `keep.log`"
    assert reasons(tmp_path)["excluded"] == "ignored by `.git/info/exclude` line 1: `excluded`"
    shutil.rmtree(tmp_path / ".git")
    assert taken(tmp_path) == ["a/keep.log", "excluded", "only-here", "only-there"]


@needs_git
@pytest.mark.parametrize("kind", ["repository", "worktree"])
def test_the_ignore_files_above_the_project_count_up_to_the_repository(tmp_path: Path, kind: str) -> None:
    top = write(tmp_path / "top", {".gitignore": "*.md\n", "x.py": ""})
    git(top, "init", "-q")
    write(top, {".git/info/exclude": "*.bak\n"})
    if kind == "worktree":
        git(top, "add", ".gitignore")
        git(top, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
        git(top, "worktree", "add", "-q", str(tmp_path / "tree"))
        top = tmp_path / "tree"
    project = write(
        top / "services/api",
        {"app.py": "", "a.log": "", "b.tmp": "", "c.md": "", "d.bak": "", "e/f.log": ""},
    )
    write(tmp_path, {".gitignore": "*.py\n"})
    write(top / "services", {".gitignore": "/api/*.log\nb.tmp\n"})
    assert taken(project) == git_would_track(project) == ["app.py", "e/f.log"]


def test_a_project_in_an_ignored_folder_is_wanted_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "", ".git/info/exclude": "*\n", ".gitignore": "/checkouts/\n*.py\n"})
    project = write(tmp_path / "checkouts/api", {"app.py": "", "x.log": "", ".gitignore": "*.log\n"})
    assert taken(project) == ["app.py"]
    assert taken(tmp_path, sources=(SourceFolder(path=Path("checkouts/api")),)) == ["app.py"]


def test_a_repository_in_the_project_brings_its_files_but_not_its_history(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "vendored/x.py": "", "vendored/.git": "gitdir: ../.git/modules/vendored\n"})
    write(tmp_path, {"vendored/.gitignore": "y.py\n", "vendored/y.py": ""})
    assert taken(tmp_path) == ["app.py", "vendored/x.py"]


def test_a_byte_order_mark_and_a_missing_end_of_line_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "a": "", "b": "", ".gitignore": b"\xef\xbb\xbfa\nb"})
    assert taken(tmp_path) == ["app.py"]


@pytest.mark.parametrize("path", ["mylib.so", "lib/libfoo.so.1.2"])
def test_an_ignored_shared_object_is_left_out_and_worth_a_warning(tmp_path: Path, path: str) -> None:
    write(tmp_path, {"app.py": "", path: "", ".gitignore": "*.so\n*.so.*\n"})
    (left,) = [left for left in project_tree(tmp_path, FileRules()).left_out if left.notable]
    assert left.path == path
    assert left.reason.startswith("ignored by `.gitignore` line ")


def test_an_ignored_folder_with_a_shared_object_is_worth_a_warning_unless_it_is_an_environment(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "app.py": "",
            "lib/native/my.so": "",
            "venv/pyvenv.cfg": "",
            "venv/lib/x.so": "",
            "more/env/pyvenv.cfg": "",
            "more/env/lib/x.so": "",
            "more/node_modules/x.so": "",
            ".gitignore": "lib/\nvenv/\nmore/\n",
        },
    )
    notable = [left for left in project_tree(tmp_path, FileRules()).left_out if left.notable]
    reason = "ignored by `.gitignore` line 1: `lib/`; it holds `lib/native/my.so`"
    assert notable == [LeftOut(path="lib/", reason=reason, notable=True)]


NAMES = st.sampled_from(["a", "b", "c.py", ".d", "[e]", "a b", "é", "foo", "foo.py", "FOO"])
LINES = st.one_of(
    st.sampled_from([line for lines in AWKWARD.values() for line in lines]),
    st.text(alphabet="ab/*?[]!-\\. c\tfo", min_size=1, max_size=7),
    st.lists(st.one_of(NAMES, st.sampled_from(["*", "**", "?", "f*", "***"])), min_size=1, max_size=3).map("/".join),
)
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=10)
IGNORES = st.lists(st.tuples(st.integers(0, 9), st.lists(LINES, min_size=1, max_size=5)), max_size=3)


@needs_git
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES, ignores=IGNORES)
def test_any_tree_and_any_patterns_give_what_git_gives(tree: list[str], ignores: list[tuple[int, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in tree:
            try:
                write(folder, {path: ""})
            except OSError:  # a file where another path needs a folder, or the reverse
                continue
        folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
        for where, lines in ignores:
            (folders[where % len(folders)] / ".gitignore").write_bytes("\n".join(lines).encode())
        git(folder, "init", "-q")
        sources = (SourceFolder(path=Path()),)
        assert taken(folder, sources=sources) == git_would_track(folder)


# Links


@needs_links
def test_links_inside_the_project_are_followed_and_their_content_copied(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "shared/x.py": "x", "shared/deep/y.py": ""})
    (tmp_path / "link.py").symlink_to("shared/x.py")
    (tmp_path / "common").symlink_to("shared", target_is_directory=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "shared" / "deep", target_is_directory=True)
    tree = project_tree(tmp_path, FileRules()).tree
    assert [entry.path for entry in tree] == [
        "absolute/y.py", "app.py", "common/deep/y.py", "common/x.py", "link.py", "shared/deep/y.py", "shared/x.py"
    ]  # fmt: skip
    link = tree.get("link.py")
    assert link is not None
    assert read_content(link.content) == b"x"


@needs_links
@pytest.mark.parametrize("target", ["../outside.py", "../outside", "/etc"])
def test_a_link_out_of_the_project_is_refused(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"outside.py": "", "outside/x": "", "project/app.py": ""})
    (tmp_path / "project/link").symlink_to(target)
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path / "project", FileRules())
    assert caught.value.message == f"the link `link` leads out of the project: `{target}`"
    assert caught.value.hint == 'name its destination in `files.sources`, or leave it out: `exclude = ["/link"]`'
    assert taken(tmp_path / "project", exclude=("/link",)) == ["app.py"]


@needs_links
def test_a_link_to_a_folder_named_in_the_sources_is_followed(tmp_path: Path) -> None:
    write(tmp_path, {"shared/x.py": "", "project/app.py": ""})
    (tmp_path / "project/common").symlink_to("../shared", target_is_directory=True)
    sources = (SourceFolder(path=Path()), SourceFolder(path=Path("../shared"), to="shared"))
    assert taken(tmp_path / "project", sources=sources) == ["app.py", "common/x.py", "shared/x.py"]


@needs_links
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"pkg/app.py": ""})
    (tmp_path / "pkg/link.py").symlink_to("gone.py")
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules())
    assert caught.value.message == "the link `pkg/link.py` leads nowhere: `gone.py`"
    assert caught.value.hint == 'remove the link, or leave it out: `exclude = ["/pkg/link.py"]`'


@needs_links
@pytest.mark.parametrize("target", [".", "..", "../a"])
def test_a_link_to_a_folder_above_it_is_refused(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"a/x.py": ""})
    (tmp_path / "a/loop").symlink_to(target)
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules())
    assert caught.value.message == f"the link `a/loop` leads to a folder it lies in: `{target}`"


@needs_links
def test_links_that_lead_to_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(PackagingError, match=r"^the link `a` cannot be followed: Too many levels of symbolic links$"):
        project_tree(tmp_path, FileRules())


@needs_links
def test_folders_that_link_into_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "", "b/y.py": ""})
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    with pytest.raises(PackagingError, match="leads to a folder it lies in"):
        project_tree(tmp_path, FileRules())


@needs_links
def test_links_that_are_left_out_are_never_followed(tmp_path: Path) -> None:
    write(tmp_path, {"env/pyvenv.cfg": "", "project/app.py": "", "project/.gitignore": "ignored\n"})
    (tmp_path / "project/ignored").symlink_to("gone")
    (tmp_path / "project/.venv").symlink_to("../env", target_is_directory=True)
    (tmp_path / "project/node_modules").symlink_to("/", target_is_directory=True)
    assert taken(tmp_path / "project") == ["app.py"]
    assert reasons(tmp_path / "project")[".venv/"] == "virtual environment"


@needs_links
@needs_git
def test_an_ignored_folder_pattern_does_not_match_a_link_as_in_git(tmp_path: Path) -> None:
    write(tmp_path, {"real/x.py": "", ".gitignore": "link/\nother\n"})
    for name in ("link", "other"):
        (tmp_path / name).symlink_to("real", target_is_directory=True)
    git(tmp_path, "init", "-q")
    assert git_would_track(tmp_path) == ["link", "real/x.py"]
    assert taken(tmp_path) == ["link/x.py", "real/x.py"]


# Names and modes


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.py", "wb"):
        pass
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules())
    assert caught.value.message == r"a file name is not valid UTF-8: b'caf\xe9.py'"
    assert taken(tmp_path, exclude=("caf*",)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a\\b.py", "a\nb.py"])
def test_a_name_no_package_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: ""})
    with pytest.raises(PackagingError) as caught:
        project_tree(tmp_path, FileRules())
    assert caught.value.message == f"a file name no package can hold: {name!r}"


def test_names_are_the_same_whether_the_file_system_composes_them_or_not(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    write(tmp_path, {f"{decomposed}/{decomposed}.py": "", f"{decomposed}.log": "", ".gitignore": "café.log\n"})
    assert taken(tmp_path) == ["café/café.py"]


@pytest.mark.skipif(sys.platform == "darwin", reason="one file on macOS")
def test_two_names_that_differ_only_in_composition_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {unicodedata.normalize("NFD", "é.py"): "1", "é.py": "22"})
    with pytest.raises(PackagingError, match=r"^`é\.py` and `é\.py` both become `é\.py`$"):
        project_tree(tmp_path, FileRules())


@pytest.mark.skipif(sys.platform != "linux", reason="one file on other hosts")
def test_names_that_differ_only_in_case_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"Data.json": "", "data.json": "", "x/A": "", "x/a": ""})
    files = project_tree(tmp_path, FileRules())
    assert len(files.tree) == 4
    assert files.case_collisions == (("Data.json", "data.json"), ("x/A", "x/a"))


def test_modes_follow_the_content_and_the_settings_never_the_host(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "run.sh": "#!/bin/sh\n",
            "tool": b"\x7fELF\x02\x01",
            "app.py": "x = 1\n",
            "empty": "",
            "bin/a": "a",
            "bin/b": "b",
            "marked": "x",
        },
    )
    (tmp_path / "marked").chmod(0o777)
    (tmp_path / "run.sh").chmod(0o600)
    tree = project_tree(tmp_path, FileRules(executable=("bin/*", "!bin/b"))).tree
    assert {entry.path for entry in tree if entry.mode == MODE_EXECUTABLE} == {"run.sh", "tool", "bin/a"}
    assert {entry.mode for entry in tree} == {MODE_EXECUTABLE, MODE_FILE}


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """Give a folder of root's while another user runs: the only way to be refused on every Unix."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("must be root to become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        os.seteuid(0)


@pytest.mark.parametrize("path", ["secret.txt", "folder/x", ".gitignore"])
def test_what_cannot_be_read_is_an_error(as_nobody: Path, path: str) -> None:
    write(as_nobody, {path: ""})
    unreadable = as_nobody / path.partition("/")[0]
    unreadable.chmod(0o000)
    os.seteuid(65534)
    with pytest.raises(PackagingError) as caught:
        project_tree(as_nobody, FileRules())
    shown = unreadable.name + ("/" if "/" in path else "")
    assert caught.value.message == f"cannot read `{shown}`: Permission denied"
    assert caught.value.hint == f'make it readable, or leave it out: `exclude = ["/{shown}"]`'


def test_ten_thousand_files_take_well_under_a_few_seconds(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from manylambda.sources import FileRules, project_tree
        begin = time.process_time()
        files = project_tree(Path(sys.argv[1]), FileRules())
        print(len(files.tree), time.process_time() - begin, *[n for n in sys.modules if n in {"pathspec", "packaging"}])
        """
    )
    for number in range(100):
        write(tmp_path, {f"p{number}/m{module}.py": "" for module in range(100)})
    write(tmp_path, {".gitignore": "".join(f"*.ext{number}\nfolder{number}/\n" for number in range(60))})
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    count, seconds, *imported = done.stdout.split()
    assert (count, imported) == ("10000", [])
    assert float(seconds) < 3
