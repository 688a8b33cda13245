"""Resolving against a real index of real wheels, with the real uv."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from local_index import Heard, LocalIndex, ServedIndex, from_files, options, sha256, told

from manylambda.errors import (
    FetchError,
    HashMismatch,
    NoCompatibleWheel,
    NotCached,
    RequestError,
    ResolutionError,
)
from manylambda.locks.model import Source, SourceKind
from manylambda.locks.request import index_settings, uv_platform
from manylambda.locks.resolve import resolve
from manylambda.locks.select import select
from manylambda.locks.write import dumps
from manylambda.target import Target, all_targets

if TYPE_CHECKING:
    from packaging.pylock import Pylock

X311, X313, ARM313 = (Target.parse(f"python3.{rest}") for rest in ("11-x86_64", "13-x86_64", "13-arm64"))
ARM311 = Target.parse("python3.11-arm64")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalIndex:
    """The only index uv knows."""
    index = LocalIndex(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    return index


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def chosen(lock: Pylock, target: Target, project: Path, **more: object) -> dict[str, str]:
    """Name -> file name of what the lock gives a target."""
    found = select(lock, target, options(project, **more), project)
    return {pin.name: pin.wheel.filename for pin in found.pins}


# The target decides


def test_the_newest_version_whose_glibc_the_runtime_has_is_chosen(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("native", "1.0", ["cp311-cp311-manylinux_2_17_x86_64"])
    index.wheel("native", "1.1", ["cp311-cp311-manylinux_2_26_x86_64"])
    index.wheel("native", "1.2", ["cp311-cp311-manylinux_2_27_x86_64"])
    index.wheel("native", "1.3", ["cp311-cp311-manylinux_2_28_x86_64"])
    progress = Heard()
    lock = resolve(from_files(project), [X311], options(cache), progress, lines=["native"])
    assert chosen(lock, X311, project) == {"native": "native-1.1-cp311-cp311-manylinux_2_26_x86_64.whl"}
    assert progress.lines == [
        "`native==1.3` is not for `python3.11-x86_64`: its wheel needs glibc 2.28; the runtime has 2.26"
    ]


def test_a_pinned_version_that_needs_a_newer_glibc_is_an_error_that_names_one_that_runs(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("native", "1.1", ["cp311-cp311-manylinux_2_26_x86_64"])
    index.wheel("native", "1.2", ["cp311-cp311-manylinux_2_27_x86_64", "cp311-cp311-musllinux_1_2_x86_64"])
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(from_files(project), [X311], options(cache), lines=["native==1.2"])
    assert told(caught.value) == (
        "no wheel of `native==1.2` runs on `python3.11-x86_64`",
        (
            "the nearest is `native-1.2-cp311-cp311-manylinux_2_27_x86_64.whl`, which needs glibc 2.27; the runtime "
            "has 2.26; `native==1.1` has a wheel that runs there"
        ),
    )


def test_uv_is_asked_at_the_glibc_of_the_runtime_or_the_next_it_knows() -> None:
    assert {str(target): uv_platform(target) for target in (X311, ARM313)} == {
        "python3.11-x86_64": "x86_64-manylinux_2_28",
        "python3.13-arm64": "aarch64-manylinux_2_34",
    }


def test_uv_knows_every_platform_we_ask_for(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("pure", "1.0")
    every = [target for target in all_targets() if target.can_build]
    lock = resolve(from_files(project), every, options(cache), lines=["pure"])
    assert {chosen(lock, target, project)["pure"] for target in every} == {"pure-1.0-py3-none-any.whl"}


def test_markers_are_those_of_the_target(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("arm-only", "1.0")
    index.wheel("before-3-12", "1.0")
    index.wheel("early-patch", "1.0")
    lines = [
        'arm-only; platform_machine == "aarch64"',
        'before-3-12; python_version < "3.12"',
        'early-patch; python_full_version < "3.11.3"',
    ]
    lock = resolve(from_files(project), [X311, ARM313], options(cache), lines=lines)
    assert [set(chosen(lock, target, project)) for target in (X311, ARM313)] == [{"before-3-12"}, {"arm-only"}]


def test_a_wheel_built_on_some_host_is_refused_unless_allowed(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("native", "2.0", ["cp313-cp313-linux_x86_64"])
    refused = resolve(from_files(project), [X313], options(cache), lines=["native"])
    assert chosen(refused, X313, project) == {"native": "native-1.0-cp313-cp313-manylinux_2_17_x86_64.whl"}
    allowed = resolve(from_files(project), [X313], options(cache, allow_linux_wheels=True), lines=["native"])
    assert chosen(allowed, X313, project, allow_linux_wheels=True) == {
        "native": "native-2.0-cp313-cp313-linux_x86_64.whl"
    }


def test_a_release_with_only_a_wheel_of_some_host_says_how_to_take_it(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("native", "2.0", ["cp313-cp313-linux_x86_64"])
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["native"])
    assert told(caught.value) == (
        "no wheel of `native==2.0` runs on `python3.13-x86_64`",
        (
            "the nearest is `native-2.0-cp313-cp313-linux_x86_64.whl`, which was built on somebody's own host (`linux` "
            "tag), which says nothing about glibc; `--allow-linux-wheels` takes it, "
            "and the audit then reads the binary"
        ),
    )


def test_settings_of_the_host_do_not_reach_the_result(
    index: LocalIndex, project: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_aarch64"])
    plain = dumps(resolve(from_files(project), [ARM313], options(cache), lines=["native"]))
    config = tmp_path / "uv.toml"
    config.write_text(f'index-url = "{index.url}"\n[pip]\nuniversal = true\npython-version = "3.8"\n')
    monkeypatch.delenv("UV_NO_CONFIG")
    for name, value in {
        "UV_CONFIG_FILE": str(config),
        "UV_PYTHON": "3.99",
        "UV_NO_BINARY": "1",
        "UV_SYSTEM_PYTHON": "1",
        "VIRTUAL_ENV": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert dumps(resolve(from_files(project), [ARM313], options(cache), lines=["native"])) == plain


def test_many_releases_that_cannot_load_cost_three_rounds(index: LocalIndex, project: Path, cache: Path) -> None:
    for minor in range(70):
        index.wheel("native", f"1.{minor}", ["cp311-cp311-manylinux_2_28_x86_64"])
        index.wheel("native", f"1.{minor}rc1", ["cp311-cp311-manylinux_2_28_x86_64"])
    index.wheel("top", "2.0", requires=["native"])
    index.wheel("top", "1.0")
    progress = Heard()
    lock = resolve(from_files(project), [X311], options(cache), progress, lines=["top"])
    assert chosen(lock, X311, project) == {"top": "top-1.0-py3-none-any.whl"}
    assert len(progress.lines) == 2


# What a requirements file may say


def test_hashes_are_held_against_what_is_shipped(index: LocalIndex, project: Path, cache: Path) -> None:
    x86 = index.wheel("safe", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    arm = index.wheel("safe", "1.0", ["cp313-cp313-manylinux_2_17_aarch64"])
    (project / "requirements.txt").write_text(f"safe==1.0 \\\n    --hash=sha256:{sha256(x86)}\n")
    source = from_files(project, "requirements.txt")
    lock = resolve(source, [X313], options(cache))
    assert chosen(lock, X313, project) == {"safe": x86.name}
    with pytest.raises(HashMismatch) as caught:
        resolve(source, [ARM313], options(cache))
    assert told(caught.value) == (
        "no hash listed for `safe==1.0` is that of a file for `python3.13-arm64`",
        (
            f"the file for it is `{arm.name}`: add `--hash=sha256:{sha256(arm)}` if you trust it, or lock for "
            "all targets with `manylambda lock -t python3.13-arm64`"
        ),
    )


def test_only_a_listed_file_is_shipped_even_if_another_fits_better(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("safe", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    pure = index.wheel("safe", "1.0")
    lock = resolve(from_files(project), [X313], options(cache), lines=[f"safe==1.0 --hash=sha256:{sha256(pure)}"])
    assert chosen(lock, X313, project) == {"safe": pure.name}


def test_hashes_must_be_given_for_all_or_none(index: LocalIndex, project: Path, cache: Path) -> None:
    top = index.wheel("top", "1.0", requires=["beneath"])
    index.wheel("beneath", "1.0")
    with pytest.raises(RequestError) as caught:
        resolve(from_files(project), [X313], options(cache), lines=[f"top==1.0 --hash=sha256:{sha256(top)}"])
    assert told(caught.value) == (
        "`beneath==1.0` has no hash, but others in the requirements have, so all must",
        "list it with its `--hash`, or let `manylambda lock` write a lock with all hashes",
    )


def test_hashes_of_constraints_count(index: LocalIndex, project: Path, cache: Path) -> None:
    wheel = index.wheel("safe", "1.0")
    (project / "constraints.txt").write_text(f"safe==1.0 --hash=sha256:{sha256(wheel)}\n")
    (project / "requirements.txt").write_text("-c constraints.txt\nsafe\n")
    lock = resolve(from_files(project, "requirements.txt"), [X313], options(cache))
    assert chosen(lock, X313, project) == {"safe": wheel.name}


def test_constraints_nested_files_extras_and_variables_hold(
    index: LocalIndex, project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        index.wheel("plain", version, extras=["more"], requires=["extra-one; extra == 'more'"])
    index.wheel("extra-one", "1.0")
    index.wheel("nested", "1.0")
    (project / "more").mkdir()
    (project / "requirements.txt").write_text("${WANTED}[more]\n-r more/nested.txt\n-c constraints.txt\n")
    (project / "more" / "nested.txt").write_text("nested # a comment\n")
    (project / "constraints.txt").write_text("plain<2\n")
    monkeypatch.setenv("WANTED", "plain")
    lock = resolve(from_files(project, "requirements.txt"), [X313], options(cache))
    assert chosen(lock, X313, project) == {
        "plain": "plain-1.0-py3-none-any.whl",
        "extra-one": "extra_one-1.0-py3-none-any.whl",
        "nested": "nested-1.0-py3-none-any.whl",
    }


def test_local_folders_and_wheels_are_locked_by_paths_relative_to_the_project(
    index: LocalIndex, project: Path, cache: Path, tmp_path: Path
) -> None:
    index.wheel("dependency", "1.0")
    ready = index.wheel("ready", "1.0")
    shutil.copy(ready, tmp_path)
    own = project / "library"
    own.mkdir()
    (own / "pyproject.toml").write_text(
        '[project]\nname = "Own.Library"\nversion = "1"\ndependencies = ["dependency"]\n'
    )
    (project / "requirements.txt").write_text(f"-e ./library\n../{ready.name}\n")
    lock = resolve(from_files(project, "requirements.txt"), [X313], options(cache))
    selection = select(lock, X313, options(cache), project)
    assert [(package.name, package.directory) for package in selection.local] == [("own-library", own)]
    assert [(pin.name, pin.wheel.path) for pin in selection.pins] == [
        ("dependency", index.root / "dependency" / "dependency-1.0-py3-none-any.whl"),
        ("ready", tmp_path / ready.name),
    ]
    text = dumps(lock)
    assert 'directory = { path = "library" }' in text
    assert f'path = "../{ready.name}"' in text
    assert str(tmp_path) not in text


def test_a_folder_whose_dependencies_only_its_backend_knows_is_the_users_own_code(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("dependency", "1.0")
    make_backend(project / "library")
    lock = resolve(from_files(project), [X313], options(cache), lines=["./library"])
    selection = select(lock, X313, options(cache), project)
    assert [package.name for package in selection.local] == ["dynamic"]
    assert [pin.name for pin in selection.pins] == ["dependency"]


def make_backend(folder: Path) -> None:
    """Write a project whose own, dependency-free backend tells its dependencies."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "dynamic"\nversion = "1"\ndynamic = ["dependencies"]\n'
    )
    (folder / "backend.py").write_text(
        "import os\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
        "    os.mkdir(os.path.join(folder, 'dynamic-1.dist-info'))\n"
        "    with open(os.path.join(folder, 'dynamic-1.dist-info', 'METADATA'), 'w') as file:\n"
        "        file.write('Metadata-Version: 2.1\\nName: dynamic\\nVersion: 1\\nRequires-Dist: dependency\\n')\n"
        "    return 'dynamic-1.dist-info'\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    raise NotImplementedError\n"
    )


def test_a_wheel_named_by_its_address_must_be_for_the_target(index: LocalIndex, project: Path, cache: Path) -> None:
    path = index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    lock = resolve(from_files(project), [X313], options(cache), lines=[f"native @ {path.as_uri()}"])
    assert chosen(lock, X313, project) == {"native": path.name}
    with pytest.raises(NoCompatibleWheel) as caught:
        select(
            resolve(from_files(project), [ARM313], options(cache), lines=[f"native @ {path.as_uri()}"]),
            ARM313,
            options(cache),
            project,
        )
    assert caught.value.message == (
        f"`{path.name}` does not run on `python3.13-arm64`: it is for x86_64; the target is aarch64"
    )


def test_version_control_is_refused(project: Path, cache: Path) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["six @ git+https://user:secret@example.org/six"])
    assert told(caught.value) == (
        "a version control requirement has no wheel: `git+https://***@example.org/six` in <command line>:1",
        "build a wheel of it and name that, or clone it and name the folder",
    )


def test_no_binary_in_the_file_is_passed_over_aloud(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("pure", "1.0")
    progress = Heard()
    resolve(from_files(project), [X313], options(cache), progress, lines=["--no-binary pure", "pure"])
    assert progress.lines == [
        "`--no-binary pure` in the requirements is passed over: wheels are used where there are any"
    ]


def test_pre_releases_only_when_asked_for(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("early", "1.0")
    index.wheel("early", "2.0rc1")
    assert chosen(resolve(from_files(project), [X313], options(cache), lines=["early"]), X313, project) == {
        "early": "early-1.0-py3-none-any.whl"
    }
    lock = resolve(from_files(project), [X313], options(cache), lines=["--pre", "early"])
    assert chosen(lock, X313, project) == {"early": "early-2.0rc1-py3-none-any.whl"}


# pyproject.toml


def pyproject(project: Path, text: str) -> Source:
    (project / "pyproject.toml").write_text(text)
    return Source(kind=SourceKind.PYPROJECT, project=project, files=(project / "pyproject.toml",))


def test_extras_and_groups_of_a_pyproject_are_those_asked_for(index: LocalIndex, project: Path, cache: Path) -> None:
    for name in ("base", "extra-one", "grouped"):
        index.wheel(name, "1.0")
    source = pyproject(
        project,
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["base"]\n'
        '[project.optional-dependencies]\nmore = ["extra-one"]\n[dependency-groups]\njobs = ["grouped"]\n',
    )
    assert set(chosen(resolve(source, [X313], options(cache)), X313, project)) == {"base"}
    own = options(cache, extras=frozenset({"more"}), groups=frozenset({"jobs"}))
    assert set(chosen(resolve(source, [X313], own), X313, project)) == {"base", "extra-one", "grouped"}
    with pytest.raises(RequestError):
        resolve(source, [X313], options(cache, extras=frozenset({"mare"})))


def test_a_runtime_the_project_does_not_support_is_an_error(project: Path, cache: Path) -> None:
    source = pyproject(project, '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.12"\n')
    with pytest.raises(ResolutionError) as caught:
        resolve(source, [X311], options(cache))
    assert told(caught.value) == (
        f"the project requires Python `>=3.12`, `python3.11-x86_64` has {X311.python_full_version}",
        "choose a newer runtime, or widen `requires-python` in pyproject.toml",
    )


def test_dependencies_that_only_the_projects_backend_knows_are_asked_from_it(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("dependency", "1.0")
    make_backend(project / "app")
    source = Source(kind=SourceKind.PYPROJECT, project=project / "app", files=(project / "app" / "pyproject.toml",))
    selection = select(resolve(source, [X313], options(cache)), X313, options(cache), project / "app")
    assert [pin.name for pin in selection.pins] == ["dependency"]
    assert selection.local == ()


def test_extras_do_not_go_with_requirements(project: Path, cache: Path) -> None:
    with pytest.raises(RequestError) as caught:
        resolve(from_files(project), [X313], options(cache, extras=frozenset({"more"})), lines=["pure"])
    assert told(caught.value) == (
        "extras and groups belong to a pyproject.toml, not to requirements: more",
        "write `name[extra]` in the requirements, or leave `-r` out",
    )


# Several targets


def test_versions_are_alike_where_they_can_be(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("native", "1.0", [f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64" for minor in (11, 13)])
    index.wheel("native", "2.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("only-new", "2.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("only-new", "1.0", ["cp311-cp311-manylinux_2_17_x86_64"])
    lock = resolve(from_files(project), [X311, X313], options(cache), lines=["native", "only-new"])
    assert [(package.name, str(package.version), str(package.marker)) for package in lock.packages] == [
        ("native", "1.0", "None"),
        ("only-new", "1.0", 'python_version == "3.11"'),
        ("only-new", "2.0", 'python_version == "3.13"'),
    ]
    alone = resolve(from_files(project), [X313], options(cache), lines=["native"])
    assert chosen(alone, X313, project) == {"native": "native-2.0-cp313-cp313-manylinux_2_17_x86_64.whl"}


def test_the_order_of_targets_does_not_matter(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_17_aarch64"])
    index.wheel("native", "2.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("native", "0.9", ["cp311-cp311-manylinux_2_17_x86_64"])
    targets = [X311, X313, ARM313]
    texts = {
        dumps(resolve(from_files(project), order, options(cache), lines=["native"]))
        for order in (targets, targets[::-1], [*targets, X311])
    }
    assert len(texts) == 1


def test_versions_of_an_earlier_lock_are_kept_while_they_fit(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("pure", "1.0")
    earlier = resolve(from_files(project), [X313], options(cache), lines=["pure"])
    index.wheel("pure", "2.0")
    lock = resolve(from_files(project), [X313], options(cache), lines=["pure"], preferences=earlier)
    assert chosen(lock, X313, project) == {"pure": "pure-1.0-py3-none-any.whl"}
    lock = resolve(from_files(project), [X313], options(cache), lines=["pure>1"], preferences=earlier)
    assert chosen(lock, X313, project) == {"pure": "pure-2.0-py3-none-any.whl"}


def test_the_first_target_without_a_solution_is_told(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    with pytest.raises(NoCompatibleWheel, match=r"^no wheel of `native==1\.0` runs on `python3\.11-arm64`$"):
        resolve(from_files(project), [X313, ARM313, X311, ARM311], options(cache), lines=["native"])


# Failures


def test_a_conflict_is_told_in_uvs_words_on_one_line(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("top", "1.0", requires=["beneath>=2"])
    index.wheel("beneath", "1.0")
    index.wheel("beneath", "2.0")
    with pytest.raises(ResolutionError) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["top", "beneath<2"])
    assert type(caught.value) is ResolutionError
    assert caught.value.message.startswith("no versions satisfy the requirements for `python3.13-x86_64`: because ")
    assert "your requirements are unsatisfiable" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_name_no_index_has_is_told(index: LocalIndex, project: Path, cache: Path) -> None:
    with pytest.raises(ResolutionError) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["no-such-name"])
    assert caught.value.message == (
        "no versions satisfy the requirements for `python3.13-x86_64`: because no-such-name was not found in the "
        "package registry and you require no-such-name, your requirements are unsatisfiable"
    )


def test_what_exists_for_others_is_said_when_nothing_is_near(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("old", "1.0", ["cp37-cp37m-manylinux1_x86_64", "cp38-cp38-win_amd64", "cp38-cp38-macosx_11_0_arm64"])
    index.sdist("old", "1.0")
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["old==1.0"])
    assert told(caught.value) == (
        "no wheel of `old==1.0` runs on `python3.13-x86_64`",
        (
            "the nearest is `old-1.0-cp37-cp37m-manylinux1_x86_64.whl`, which is for CPython 3.7; the runtime has "
            "3.13; its wheels are for CPython 3.7, 3.8 on Linux x86_64 (glibc 2.5), Windows, macOS; "
            "`--allow-sdist old` builds it from source for the target"
        ),
    )


def test_an_unreachable_index_is_a_fetch_error_without_credentials(project: Path, cache: Path) -> None:
    own = options(
        cache, environment={"UV_DEFAULT_INDEX": "http://user:secretword@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    )
    with pytest.raises(FetchError) as caught:
        resolve(from_files(project), [X313], own, lines=["pure"])
    assert caught.value.message.startswith("failed to fetch: http://127.0.0.1:9/simple/pure/: ")
    assert "secretword" not in f"{caught.value.message}{caught.value.hint}"


def test_offline_says_that_nothing_is_cached(project: Path, tmp_path: Path) -> None:
    own = options(tmp_path / "empty", offline=True, environment={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"})
    with pytest.raises(NotCached) as caught:
        resolve(from_files(project), [X313], own, lines=["pure"])
    assert told(caught.value) == (
        (
            "cannot resolve for `python3.13-x86_64` offline: because pure was not found in the cache and you require "
            "pure, your requirements are unsatisfiable"
        ),
        "run once without `--offline`",
    )


# Private indexes


def test_a_login_is_used_and_never_written(tmp_path: Path, project: Path, cache: Path) -> None:
    index = LocalIndex(tmp_path / "index")
    wheel = index.wheel("private", "1.0")
    with ServedIndex(index.root, login="us%er:pa@ss") as served:
        secret = f"http://us%25er:pa%40ss@{served.host}"
        (project / "requirements.txt").write_text(f"--index-url {secret}\nprivate\n")
        source = from_files(project, "requirements.txt")
        lock = resolve(source, [X313], options(cache))
        direct = resolve(
            from_files(project), [X313], options(cache), lines=[f"private @ {secret}/private/{wheel.name}"]
        )
        wrong = options(
            tmp_path / "empty", environment={"UV_DEFAULT_INDEX": f"http://us%25er:wr0ngsecret@{served.host}"}
        )
        with pytest.raises(FetchError) as caught:
            resolve(from_files(project), [X313], wrong, lines=["private"])
    for text in (dumps(lock), dumps(direct), caught.value.message, str(caught.value.hint)):
        assert not any(part in text for part in ("us%25er", "pa%40ss", "us%er", "wr0ngsecret"))
    assert f"http://{served.host}/private/{wheel.name}" in dumps(lock)
    assert f"http://{served.host}/private/{wheel.name}" in dumps(direct)
    assert index_settings(source, options(cache)).index_urls == ((None, secret),)


def test_pips_settings_serve_where_uv_has_none(tmp_path: Path, project: Path, cache: Path) -> None:
    first, second = LocalIndex(tmp_path / "first"), LocalIndex(tmp_path / "second")
    first.wheel("shared", "1.0")
    second.wheel("shared", "2.0")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = {first.url}\nextra-index-url = {second.url}\n  file:///does/not/exist\n")
    lock = resolve(
        from_files(project), [X313], options(cache, environment={"PIP_CONFIG_FILE": str(config)}), lines=["shared"]
    )
    assert chosen(lock, X313, project) == {"shared": "shared-2.0-py3-none-any.whl"}
    both = options(cache, environment={"PIP_CONFIG_FILE": str(config), "UV_DEFAULT_INDEX": first.url})
    lock = resolve(from_files(project), [X313], both, lines=["shared"])
    assert chosen(lock, X313, project) == {"shared": "shared-1.0-py3-none-any.whl"}


def test_a_folder_of_wheels_serves_without_an_index(tmp_path: Path, project: Path, cache: Path) -> None:
    index = LocalIndex(tmp_path / "wheels")
    wheel = index.wheel("pure", "1.0")
    folder = os.path.relpath(wheel.parent, project)
    (project / "requirements.txt").write_text(f"--no-index\n--find-links {folder}\npure\n")
    lock = resolve(from_files(project, "requirements.txt"), [X313], options(cache))
    (pin,) = select(lock, X313, options(cache), project).pins
    assert (pin.wheel.path, pin.wheel.hashes) == (wheel, {"sha256": sha256(wheel)})
    assert f'path = "{Path(folder).as_posix()}/{wheel.name}"' in dumps(lock)


def test_options_of_the_file_reach_uv_when_uv_has_settings_of_its_own(
    index: LocalIndex, tmp_path: Path, project: Path, cache: Path
) -> None:
    other = LocalIndex(tmp_path / "other")
    other.wheel("elsewhere", "1.0")
    lock = resolve(from_files(project), [X313], options(cache), lines=[f"--extra-index-url {other.url}", "elsewhere"])
    assert chosen(lock, X313, project) == {"elsewhere": "elsewhere-1.0-py3-none-any.whl"}
