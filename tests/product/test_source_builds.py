"""Source code becomes wheels: the project that is a package, folders, and archives the user allows."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda.target import GlibcVersion
from product.loopback import sha256
from product.sources import glibc_needs, glibc_trap, needs_python, sdist, source_tree

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

TARGET = "python3.13-arm64"


def test_an_allowed_source_distribution_is_built_once_and_shipped(run: Run, index: Index, project: Path) -> None:
    sdist(index, "only-source")
    (project / "requirements.txt").write_text("only-source\n", encoding="utf-8")
    flags = ("-t", TARGET, "--allow-sdist", "only-source", "--format", "json")
    first = run("build", project, *flags).artifact
    (shipped,) = first["distributions"]
    assert (shipped["name"], shipped["version"], shipped["compiled"]) == ("only-source", "1.0", False)
    with zipfile.ZipFile(first["path"]) as opened:
        assert opened.read("only_source.py") == b"name = 'only-source'\n"
    again = run("build", project, *flags, "-v")
    assert again.artifact == first
    assert "Building wheel" not in again.stderr


def test_a_lock_with_an_allowed_source_distribution_is_built_from(run: Run, index: Index, project: Path) -> None:
    sdist(index, "only-source")
    index.wheel("demo", requires=["only-source"])
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", TARGET, "--allow-sdist", "only-source")
    refused = run("build", project, "-t", TARGET, status=3)
    assert "`--allow-sdist only-source` builds it from source for the target" in refused.stderr
    made = run("build", project, "-t", TARGET, "--allow-sdist", "all", "--format", "json").artifact
    assert [one["name"] for one in made["distributions"]] == ["demo", "only-source"]
    plan = run("plan", project, "-t", TARGET, "--allow-sdist", "all", "--format", "json").json
    assert [one["file"] for one in plan["targets"][0]["distributions"]] == [
        "demo-1.0-py3-none-any.whl",
        "only_source-1.0.tar.gz",
    ]


@pytest.mark.parametrize("is_locked", [True, False])
def test_an_sdist_that_is_not_allowed_is_told_with_what_its_own_files_say(
    run: Run, index: Index, project: Path, is_locked: bool
) -> None:
    archive = glibc_trap(index)
    if is_locked:
        lock = (
            'lock-version = "1.0"\ncreated-by = "a test"\n[[packages]]\nname = "glibctrap"\nversion = "1.0"\n'
            f'sdist = {{ url = "{index.base}/files/{archive.name}", hashes = {{ sha256 = "{sha256(archive)}" }} }}\n'
        )
        (project / "pylock.toml").write_text(lock, encoding="utf-8")
    else:
        (project / "requirements.txt").write_text("glibctrap\n", encoding="utf-8")
    for command in ("build", "plan") if is_locked else ("build", "plan", "lock"):
        ran = run(command, project, "-t", TARGET, status=3)
        assert (
            "its source looks native: C (1 file, built by backend); `--allow-sdist glibctrap` builds it from source"
        ) in ran.stdout + ran.stderr


def test_a_wheel_is_preferred_to_an_allowed_source_distribution(run: Run, index: Index, project: Path) -> None:
    sdist(index, "both")
    wheel = index.wheel("both", "1.0")
    made = run(
        "build", project, "-t", TARGET, "--allow-sdist", "all", "-r", "-", "--format", "json", stdin="both"
    ).artifact
    assert [one["file"] for one in made["distributions"]] == [wheel.name]


@needs_python(3, 11)
def test_the_same_source_is_compiled_for_the_glibc_of_each_target(run: Run, index: Index, project: Path) -> None:
    """E1 of the survey: five builders shipped a binary of the host, which needs GLIBC_2.34, to a runtime with 2.26."""
    glibc_trap(index)
    flags = ("--allow-sdist", "glibctrap", "-r", "-", "--format", "json")
    made = run("build", project, "-t", "python3.11-x86_64", *flags, stdin="glibctrap").artifact
    assert [one["file"] for one in made["distributions"]] == ["glibctrap-1.0-cp311-cp311-manylinux_2_5_x86_64.whl"]
    machine, versions = glibc_needs(made)
    assert machine == "x86_64"
    assert max(GlibcVersion.parse(one.removeprefix("GLIBC_").removesuffix(".5")) for one in versions) <= (2, 26)
    assert not made["findings"]

    other = run("build", project, "-t", "python3.11-arm64", *flags, stdin="glibctrap").artifact
    assert glibc_needs(other)[0] == "aarch64"

    again = run("build", project, "-t", "python3.11-x86_64", *flags, "-v", stdin="glibctrap")
    assert again.artifact == made
    assert "`glibctrap` is unchanged since it was built" in again.stderr


@needs_python(3, 11)
@pytest.mark.skipif(not Path("/usr/bin/gcc").exists(), reason="no compiler of this host to be misused")
def test_a_build_that_calls_the_compiler_of_the_host_gets_that_of_the_target(
    run: Run, index: Index, project: Path
) -> None:
    glibc_trap(index, compiler="/usr/bin/gcc")
    flags = ("--allow-sdist", "all", "-r", "-", "--format", "json")
    assert (
        glibc_needs(run("build", project, "-t", "python3.11-arm64", *flags, stdin="glibctrap").artifact)[0] == "aarch64"
    )


@pytest.mark.parametrize("member", ["../escaped.py", "/escaped.py"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    run: Run, index: Index, project: Path, tmp_path: Path, member: str
) -> None:
    archive = sdist(index, "hostile")
    tree = index.folder.parent / "trees" / "hostile-1.0"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, "hostile-1.0")
        packed.add(tree / "source.py", "hostile-1.0/../../" + member if member.startswith("..") else member)
    lock = (
        'lock-version = "1.0"\ncreated-by = "a test"\n[[packages]]\nname = "hostile"\nversion = "1.0"\n'
        f'sdist = {{ url = "{index.base}/files/{archive.name}", hashes = {{ sha256 = "{sha256(archive)}" }} }}\n'
    )
    (project / "pylock.toml").write_text(lock, encoding="utf-8")
    ran = run("build", project, "-t", TARGET, "--allow-sdist", "hostile", status=5)
    assert f"error: `{archive.name}` " in ran.stderr
    assert not Path("/escaped.py").exists()
    assert not list(tmp_path.rglob("escaped.py"))


@pytest.mark.parametrize("name", ["orders-api", "Orders_API"])
def test_a_project_that_is_a_package_is_shipped_as_one_whatever_the_file_is_called(
    run: Run, tmp_path: Path, name: str
) -> None:
    project = source_tree(tmp_path / "project", name)
    (project / "app.py").write_text("", encoding="utf-8")
    for flags, stem in (((), name), (("--name", "other"), "other")):
        made = run("build", project, "-t", TARGET, *flags, "--format", "json").artifact
        assert Path(made["path"]).name == f"{stem}-{TARGET}.zip"
        assert [one["name"] for one in made["distributions"]] == ["orders-api"]
        with zipfile.ZipFile(made["path"]) as opened:
            assert "orders_api.py" in opened.namelist()


def test_a_project_that_is_a_package_can_be_shipped_as_files(run: Run, tmp_path: Path) -> None:
    project = source_tree(tmp_path / "project", "orders")
    made = run("build", project, "-t", TARGET, "--no-package", "--format", "json").artifact
    assert made["distributions"] == []
    with zipfile.ZipFile(made["path"]) as opened:
        assert "source.py" in opened.namelist()


def test_what_an_sdist_is_built_with_is_locked(run: Run, index: Index, project: Path) -> None:
    """The same lock gives the same wheel, whatever its build backend has released since."""
    archive = sdist(index, "demo")
    tree = index.folder.parent / "trees" / "demo-1.0"
    declared = (tree / "pyproject.toml").read_text(encoding="utf-8")
    declared = declared.replace("requires = []", 'requires = ["own-backend"]').replace('backend-path = ["."]\n', "")
    (tree / "pyproject.toml").write_text(declared.replace('"backend"', '"own_backend"'), encoding="utf-8")
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tree, "demo-1.0")

    def release(version: str) -> None:
        code = (tree / "backend.py").read_text(encoding="utf-8")
        code = code.replace('Path("source.py").read_text()', f'"made_by = {version!r}"')
        factory = (tree / "wheel_factory.py").read_bytes()
        index.wheel("own-backend", version, files={"own_backend.py": code, "wheel_factory.py": factory})

    def made_by(*flags: str) -> bytes:
        made = run("build", project, "-t", TARGET, "--allow-sdist", "demo", *flags, "--format", "json").artifact
        with zipfile.ZipFile(made["path"]) as opened:
            return opened.read("demo.py")

    release("1.0")
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    run("lock", project, "-t", TARGET, "--allow-sdist", "demo")
    (package,) = tomllib.loads((project / "pylock.toml").read_text(encoding="utf-8"))["packages"]
    (line,) = package["tool"]["manylambda"]["build-requires"]
    assert line.startswith("own-backend==1.0 --hash=sha256:")
    release("2.0")
    assert made_by() == b"made_by = '1.0'"
    assert made_by("-r", str(project / "requirements.txt")) == b"made_by = '2.0'"

    exchanged = re.sub(
        r"(own-backend==1\.0 --hash=sha256:)\w+", r"\g<1>" + "0" * 64, (project / "pylock.toml").read_text()
    )
    (project / "pylock.toml").write_text(exchanged, encoding="utf-8")
    refused = run("build", project, "-t", TARGET, "--allow-sdist", "demo", status=5)
    assert "error: the build requirements of `demo` cannot be installed: " in refused.stderr
    assert "ash mismatch" in refused.stderr
