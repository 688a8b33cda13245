"""Resolving with source distributions: which are taken, and that uv builds none of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from local_index import Heard, LocalIndex, Sdists, ServedIndex, from_files, options, sha256, told

from manylambda.errors import HashMismatch, NoCompatibleWheel, NotCached, PackagingError, RequestError, ResolutionError
from manylambda.locks.model import Source, SourceKind
from manylambda.locks.program import run_uv
from manylambda.locks.resolve import resolve
from manylambda.locks.select import select
from manylambda.locks.write import dumps
from manylambda.target import Target
from product.loopback import Index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from packaging.pylock import Pylock

    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import ResolveOptions, SdistFacts
    from manylambda.locks.program import Outcome

X311, X313, ARM313 = (Target.parse(f"python3.{rest}") for rest in ("11-x86_64", "13-x86_64", "13-arm64"))


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


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The arguments of each run of uv."""
    found: list[Sequence[str]] = []

    def counting(arguments: Sequence[str], *, folder: Path, options: ResolveOptions) -> Outcome:
        found.append(arguments)
        return run_uv(arguments, folder=folder, options=options)

    monkeypatch.setattr("manylambda.locks.resolve.run_uv", counting)
    return found


def allowing(cache: Path, *names: str, **more: object) -> ResolveOptions:
    return options(cache, allow_sdists=frozenset(names or {"all"}), **more)


def shipped(lock: Pylock, target: Target, own: ResolveOptions, project: Path) -> dict[str, str]:
    """Name -> version of all, with `(sdist)` after it where it is one."""
    found = select(lock, target, own, project)
    return {pin.name: pin.version for pin in found.pins} | {
        sdist.name: f"{sdist.version} (sdist)" for sdist in found.sdists
    }


# Wheels before sdists


def test_an_older_wheel_comes_before_a_newer_sdist(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("mixed", "1.0")
    index.sdist("mixed", "2.0")
    for own in (options(cache), allowing(cache, "mixed"), allowing(cache, "all")):
        lock = resolve(from_files(project), [X313], own, lines=["mixed"])
        assert shipped(lock, X313, own, project) == {"mixed": "1.0"}


def test_an_sdist_is_refused_unless_its_name_is_allowed(index: LocalIndex, project: Path, cache: Path) -> None:
    path = index.sdist("source-only", "1.0", requires=["pure"])
    index.wheel("pure", "1.0")
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(from_files(project), [X313], options(cache), lines=["source-only"], sdist_metadata=Sdists())
    assert told(caught.value) == (
        "no wheel of `source-only==1.0` runs on `python3.13-x86_64`",
        (
            "it has only a source distribution, which would have to be built; `--allow-sdist source-only` builds "
            "it from source for the target"
        ),
    )
    for allowed in ("source-only", "all"):
        own = allowing(cache, allowed)
        lock = resolve(from_files(project), [X313], own, lines=["source-only"], sdist_metadata=Sdists())
        selection = select(lock, X313, own, project)
        assert [pin.name for pin in selection.pins] == ["pure"]
        assert [(sdist.name, sdist.version, sdist.path) for sdist in selection.sdists] == [
            ("source-only", "1.0", index.root / "source-only" / "source_only-1.0.tar.gz")
        ]
        assert selection.sdists[0].hashes == {"sha256": sha256(path)}


def test_an_allowed_sdist_is_taken_only_where_no_wheel_fits(index: LocalIndex, project: Path, cache: Path) -> None:
    index.wheel("native", "1.0", ["cp313-cp313-manylinux_2_17_x86_64"])
    index.sdist("native", "1.0")
    own = allowing(cache, "native")
    lock = resolve(from_files(project), [X313, ARM313], own, lines=["native"], sdist_metadata=Sdists())
    assert [len(select(lock, target, own, project).sdists) for target in (X313, ARM313)] == [0, 1]


def test_without_a_reader_an_sdist_that_is_needed_is_an_error(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("source-only", "1.0")
    with pytest.raises(ResolutionError) as caught:
        resolve(from_files(project), [X313], allowing(cache), lines=["source-only"])
    assert told(caught.value) == (
        "`source-only` is to be built from source, and nothing here can read source distributions",
        "`sdist_metadata` is what reads them",
    )


def test_a_version_whose_wheel_needs_a_newer_glibc_is_taken_as_an_sdist(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    for version in ("1.0", "1.1", "1.2"):
        index.wheel("native", version, ["cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-linux_x86_64"])
    index.sdist("native", "1.1")
    index.wheel("top", "1.0", requires=["native"])
    own = allowing(cache)
    lock = resolve(from_files(project), [X311], own, lines=["top"], sdist_metadata=Sdists())
    assert shipped(lock, X311, own, project) == {"top": "1.0", "native": "1.1 (sdist)"}


# What is read, and what is not


def test_a_static_sdist_costs_two_runs_of_uv_or_three(
    index: LocalIndex, project: Path, cache: Path, runs: list[Sequence[str]]
) -> None:
    index.sdist("alone", "1.0")
    index.sdist("with-more", "1.0", requires=["pure"])
    index.wheel("pure", "1.0")
    for lines, count in ((["alone"], 2), (["with-more"], 3), (["alone", "with-more"], 4)):
        runs.clear()
        resolve(from_files(project), [X313], allowing(cache), lines=lines, sdist_metadata=Sdists())
        assert len(runs) == count


def test_uv_builds_no_sdist_whatever_is_allowed(
    index: LocalIndex, project: Path, cache: Path, runs: list[Sequence[str]]
) -> None:
    path = index.sdist("dynamic", "1.0", requires=["pure"], dynamic=True)
    index.wheel("pure", "1.0")
    sdists = Sdists()
    sdists.built[path.name] = lambda target: ["pure"]
    for line in ("dynamic", f"dynamic @ {path.as_uri()}", str(path)):
        for allowed in ("all", "dynamic"):
            own = allowing(cache, allowed)
            lock = resolve(from_files(project), [X313], own, lines=[line], sdist_metadata=sdists)
            assert shipped(lock, X313, own, project) == {"dynamic": "1.0 (sdist)", "pure": "1.0"}
            assert "standin" not in dumps(lock)
            (sdist,) = select(lock, X313, own, project).sdists
            assert (sdist.path, sdist.hashes) == (path, {"sha256": sha256(path)})
    assert not (index.root / "ran").exists()
    assert all("--no-binary" not in arguments for arguments in runs)


def test_of_many_versions_only_the_one_that_is_taken_is_read(index: LocalIndex, project: Path, cache: Path) -> None:
    for minor in range(30):
        index.sdist("many", f"1.{minor}", requires=["pure"])
    index.sdist("many", "2.0a1")
    index.wheel("pure", "1.0")
    index.wheel("top", "1.0", requires=["many<1.20,!=1.19"])
    sdists, own = Sdists(), allowing(cache)
    lock = resolve(from_files(project), [X313], own, lines=["top"], sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {"top": "1.0", "many": "1.18 (sdist)", "pure": "1.0"}
    assert sdists.read == ["many-1.18.tar.gz"]


def test_an_older_sdist_is_taken_where_the_newer_ones_do_not_go_with_the_rest(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    for version, requires in (("3.0", ["pure>=3"]), ("2.0", ["pure>=2"]), ("1.0", ["pure"])):
        index.sdist("source", version, requires=requires)
    index.wheel("pure", "1.0")
    index.wheel("pure", "3.0")
    sdists, own = Sdists(), allowing(cache, "source")
    lock = resolve(from_files(project), [X313], own, lines=["source", "pure<2"], sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {"source": "1.0 (sdist)", "pure": "1.0"}
    assert sdists.read == ["source-3.0.tar.gz", "source-2.0.tar.gz", "source-1.0.tar.gz"]


def test_no_more_than_eight_versions_are_read(index: LocalIndex, project: Path, cache: Path) -> None:
    for minor in range(12):
        index.sdist("source", f"1.{minor}", requires=["absent"])
    sdists, progress = Sdists(), Heard()
    with pytest.raises(ResolutionError) as caught:
        resolve(from_files(project), [X313], allowing(cache), progress, lines=["source"], sdist_metadata=sdists)
    assert caught.value.message.startswith(
        "no solution for `python3.13-x86_64` has one of the 8 newest sdists of `source`: because "
    )
    assert "absent" in caught.value.message
    assert sdists.read == [f"source-1.{minor}.tar.gz" for minor in range(11, 3, -1)]
    assert progress.lines[-1] == "8 versions of `source` were read: no others are tried"


def test_what_needs_another_python_is_not_read(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("source", "3.0", requires_python=">=3.14")
    index.sdist("source", "2.0")
    sdists, own = Sdists(), allowing(cache)
    lock = resolve(from_files(project), [X313], own, lines=["source"], sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {"source": "2.0 (sdist)"}
    assert sdists.read == ["source-2.0.tar.gz"]


def test_a_yanked_sdist_is_taken_only_by_its_exact_version(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("source", "1.0")
    index.sdist("source", "2.0", yanked="broken")
    own = allowing(cache)
    for line, version in (("source", "1.0"), ("source>1", None), ("source==2.0", "2.0"), ("source===2.0", "2.0")):
        if version is None:
            with pytest.raises(ResolutionError):
                resolve(from_files(project), [X313], own, lines=[line], sdist_metadata=Sdists())
            continue
        lock = resolve(from_files(project), [X313], own, lines=[line], sdist_metadata=Sdists())
        assert shipped(lock, X313, own, project) == {"source": f"{version} (sdist)"}


def test_a_version_of_an_earlier_lock_is_kept(index: LocalIndex, project: Path, cache: Path) -> None:
    own, sdists = allowing(cache), Sdists()
    index.sdist("source", "1.0")
    earlier = resolve(from_files(project), [X313], own, lines=["source"], sdist_metadata=Sdists())
    index.sdist("source", "2.0")
    lock = resolve(from_files(project), [X313], own, lines=["source"], preferences=earlier, sdist_metadata=sdists)
    assert dumps(lock) == dumps(earlier)
    assert sdists.read == ["source-1.0.tar.gz"]


def test_extras_of_an_sdist_bring_what_they_say(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("source", "1.0", requires=["more ; extra == 'all'", "never ; sys_platform == 'win32'"])
    index.wheel("more", "1.0")
    own = allowing(cache)
    for line, names in (("source", {"source"}), ("source[all]", {"source", "more"})):
        lock = resolve(from_files(project), [X313], own, lines=[line], sdist_metadata=Sdists())
        assert shipped(lock, X313, own, project).keys() == names


# Builds that fail


def failing(target: Target) -> Sequence[str]:
    raise PackagingError("`source` cannot be built: the compiler did not like it")


def test_a_version_that_cannot_be_built_is_passed_over_for_one_that_can(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    sdists, own, progress = Sdists(), allowing(cache), Heard()
    sdists.built[index.sdist("source", "2.0", dynamic=True).name] = failing
    index.sdist("source", "1.0")
    lock = resolve(from_files(project), [X313], own, progress, lines=["source"], sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {"source": "1.0 (sdist)"}
    assert progress.lines == [
        "`source==2.0` is passed over if it can be: `source` cannot be built: the compiler did not like it"
    ]


def test_where_none_can_be_built_the_newest_says_why_and_a_few_are_tried(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    sdists = Sdists()
    for minor in range(6):
        sdists.built[index.sdist("source", f"1.{minor}", dynamic=True).name] = failing
    with pytest.raises(PackagingError, match="the compiler did not like it"):
        resolve(from_files(project), [X313], allowing(cache), lines=["source"], sdist_metadata=sdists)
    assert sdists.read == ["source-1.5.tar.gz", "source-1.4.tar.gz", "source-1.3.tar.gz"]


def test_an_sdist_of_another_version_than_its_name_says_is_refused(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    path = index.sdist("source", "1.0")
    path.rename(path.with_name("source-2.0.tar.gz"))
    page = path.with_name("index.html")
    page.write_text(page.read_text().replace("1.0", "2.0"))
    with pytest.raises(PackagingError) as caught:
        resolve(from_files(project), [X313], allowing(cache), lines=["source"], sdist_metadata=Sdists())
    assert caught.value.message == "`source-2.0.tar.gz` is of version 1.0, and not what its name says"


# Several


def test_all_finds_what_lacks_wheels_however_deep_it_lies(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("first", "1.0", requires=["second", "wheeled"])
    index.sdist("second", "1.0", requires=["third"])
    index.sdist("third", "1.0")
    index.sdist("beside", "1.0")
    index.wheel("wheeled", "1.0")
    index.sdist("wheeled", "2.0")
    own, sdists = allowing(cache, "all"), Sdists()
    lines = ["first", "beside ; sys_platform == 'linux'"]
    lock = resolve(from_files(project), [X313], own, lines=lines, sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {
        "first": "1.0 (sdist)",
        "second": "1.0 (sdist)",
        "third": "1.0 (sdist)",
        "beside": "1.0 (sdist)",
        "wheeled": "1.0",
    }
    assert sorted(sdists.read) == sorted({*sdists.read})


def test_the_names_that_are_allowed_must_do(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("first", "1.0", requires=["second"])
    index.sdist("second", "1.0")
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(from_files(project), [X313], allowing(cache, "first"), lines=["first"], sdist_metadata=Sdists())
    assert caught.value.message == "no wheel of `second==1.0` runs on `python3.13-x86_64`"


def test_what_there_is_a_solution_without_is_neither_taken_nor_read(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    # `needed` has no wheel; which `top` is taken decides whether `spare` is needed too.
    index.sdist("needed", "1.0")
    index.sdist("spare", "1.0")
    index.wheel("top", "2.0", requires=["spare", "needed"])
    index.wheel("top", "1.0", requires=["needed"])
    own, sdists = allowing(cache, "all"), Sdists()
    lock = resolve(from_files(project), [X313], own, lines=["top"], sdist_metadata=sdists)
    assert shipped(lock, X313, own, project) == {"top": "1.0", "needed": "1.0 (sdist)"}
    assert sdists.read == ["needed-1.0.tar.gz"]


def test_what_a_build_says_may_differ_between_targets(index: LocalIndex, project: Path, cache: Path) -> None:
    path = index.sdist("dynamic", "1.0", dynamic=True)
    index.wheel("for-old", "1.0")
    index.wheel("for-new", "1.0")
    sdists, own = Sdists(), allowing(cache)
    sdists.built[path.name] = lambda target: ["for-old" if target.python < (3, 12) else "for-new"]
    lock = resolve(from_files(project), [X311, X313], own, lines=["dynamic"], sdist_metadata=sdists)
    assert [shipped(lock, target, own, project) for target in (X311, X313)] == [
        {"dynamic": "1.0 (sdist)", "for-old": "1.0"},
        {"dynamic": "1.0 (sdist)", "for-new": "1.0"},
    ]
    assert len([package for package in lock.packages if package.name == "dynamic"]) == 1


def test_versions_of_sdists_are_alike_where_they_can_be(index: LocalIndex, project: Path, cache: Path) -> None:
    index.sdist("source", "1.0")
    index.sdist("source", "2.0", requires_python=">=3.12")
    own, sdists = allowing(cache), Sdists()
    lock = resolve(from_files(project), [X311, X313], own, lines=["source"], sdist_metadata=sdists)
    assert [shipped(lock, target, own, project) for target in (X311, X313)] == [{"source": "1.0 (sdist)"}] * 2
    assert sorted(sdists.read) == ["source-1.0.tar.gz", "source-1.0.tar.gz", "source-2.0.tar.gz"]


# Hashes


def test_hashes_are_held_against_sdists(index: LocalIndex, project: Path, cache: Path) -> None:
    path = index.sdist("safe", "1.0")
    own = allowing(cache)
    good, bad = f"safe==1.0 --hash=sha256:{sha256(path)}", f"safe==1.0 --hash=sha256:{'0' * 64}"
    lock = resolve(from_files(project), [X313], own, lines=[good], sdist_metadata=Sdists())
    assert shipped(lock, X313, own, project) == {"safe": "1.0 (sdist)"}
    with pytest.raises(HashMismatch) as caught:
        resolve(from_files(project), [X313], own, lines=[bad], sdist_metadata=Sdists())
    assert caught.value.message == "no hash listed for `safe==1.0` is that of a file for `python3.13-x86_64`"


def test_what_an_sdist_brings_must_have_a_hash_as_well(index: LocalIndex, project: Path, cache: Path) -> None:
    path = index.sdist("top", "1.0", requires=["beneath"])
    index.wheel("beneath", "1.0")
    with pytest.raises(RequestError) as caught:
        line = f"top==1.0 --hash=sha256:{sha256(path)}"
        resolve(from_files(project), [X313], allowing(cache), lines=[line], sdist_metadata=Sdists())
    assert caught.value.message == "`beneath==1.0` has no hash, but others in the requirements have, so all must"


def test_an_sdist_without_a_hash_in_its_index_is_locked_with_the_hash_of_what_came(
    tmp_path: Path, project: Path, cache: Path
) -> None:
    index = LocalIndex(tmp_path / "files")
    path = index.sdist("source", "1.0")
    own = allowing(cache)
    lines = ["--no-index", f"--find-links {os.path.relpath(path.parent, project)}", "source"]
    lock = resolve(from_files(project), [X313], own, lines=lines, sdist_metadata=Sdists())
    (sdist,) = select(lock, X313, own, project).sdists
    assert (sdist.path, sdist.hashes) == (path, {"sha256": sha256(path)})


# Addresses


def pyproject(project: Path, text: str) -> Source:
    (project / "pyproject.toml").write_text(text)
    return Source(kind=SourceKind.PYPROJECT, project=project, files=(project / "pyproject.toml",))


@pytest.fixture
def dynamic(index: LocalIndex) -> tuple[Path, Sdists]:
    """A dynamic sdist of version 1.0 whose build would tell that it wants `pure`, and `more` for an extra."""
    path = index.sdist("dynamic", "1.0", dynamic=True)
    index.wheel("pure", "1.0")
    index.wheel("more", "1.0")
    sdists = Sdists()
    sdists.built[path.name] = lambda target: ["pure", "more ; extra == 'x'"]
    return path, sdists


def test_an_archive_with_a_login_in_its_address_is_locked_without(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists]
) -> None:
    path, sdists = dynamic
    own = allowing(cache)
    with ServedIndex(index.root, login="me:secretword") as served:
        line = f"dynamic[x] @ http://me:secretword@{served.host}/dynamic/{path.name} ; python_version > '3'"
        lock = resolve(
            from_files(project), [X313], own, lines=[line], sdist_metadata=lambda *asked: sdists.at(path, *asked)
        )
    assert shipped(lock, X313, own, project) == {"dynamic": "1.0 (sdist)", "pure": "1.0", "more": "1.0"}
    assert f'archive = {{ url = "http://{served.host}/dynamic/{path.name}", size = ' in dumps(lock)
    assert "secretword" not in dumps(lock)
    assert not (index.root / "ran").exists()


def test_the_version_at_an_address_must_be_what_others_ask_for(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists]
) -> None:
    path, sdists = dynamic
    index.wheel("wants-two", "1.0", requires=["dynamic>=2"])
    with pytest.raises(ResolutionError, match=r"wants-two .*depend on dynamic>=2"):
        resolve(
            from_files(project),
            [X313],
            allowing(cache),
            lines=["wants-two", f"dynamic @ {path.as_uri()}"],
            sdist_metadata=sdists,
        )


@pytest.mark.parametrize("extra", ["", "[x]"])
@pytest.mark.parametrize("told_in", ["dependencies", "url", "path"])
def test_an_address_in_a_pyproject_is_not_built_either(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists], told_in: str, extra: str
) -> None:
    path, sdists = dynamic
    index.wheel("other", "1.0", requires=["dynamic>=1"])
    own = allowing(cache, "dynamic")
    with ServedIndex(index.root) as served:
        address = f"http://{served.host}/dynamic/{path.name}"
        requirement, sources = f"dynamic{extra}", ""
        if told_in == "dependencies":
            requirement += f" @ {address}"
        else:
            place = address if told_in == "url" else os.path.relpath(path, project)
            sources = f'[tool.uv.sources]\ndynamic = {{ {told_in} = "{place}" }}\n'
        source = pyproject(
            project, f'[project]\nname = "app"\nversion = "1"\ndependencies = ["other", "{requirement}"]\n{sources}'
        )
        lock = resolve(source, [X313], own, sdist_metadata=lambda *asked: sdists.at(path, *asked))
    assert shipped(lock, X313, own, project) == {
        "other": "1.0",
        "dynamic": "1.0 (sdist)",
        "pure": "1.0",
        **({"more": "1.0"} if extra else {}),
    }
    (sdist,) = select(lock, X313, own, project).sdists
    assert (sdist.path, sdist.url) == ((path, None) if told_in == "path" else (None, address))
    assert sdist.hashes == {"sha256": sha256(path)}
    assert not (index.root / "ran").exists()


def test_an_address_may_be_named_by_the_user_and_by_an_own_folder(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists]
) -> None:
    path, sdists = dynamic
    (project / "lib").mkdir()
    (project / "lib" / "pyproject.toml").write_text(
        f'[project]\nname = "lib"\nversion = "1"\ndependencies = ["dynamic[x] @ {path.as_uri()}"]\n'
    )
    own = allowing(cache)
    for lines in ([f"dynamic @ {path.as_uri()}", "./lib"], ["./lib"]):
        lock = resolve(from_files(project), [X313], own, lines=lines, sdist_metadata=sdists)
        assert shipped(lock, X313, own, project) == {"dynamic": "1.0 (sdist)", "pure": "1.0", "more": "1.0"}


def test_an_address_that_is_not_allowed_says_how_to(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists]
) -> None:
    path, sdists = dynamic
    with pytest.raises(NoCompatibleWheel) as caught:
        resolve(
            from_files(project),
            [X313],
            allowing(cache, "other"),
            lines=[f"dynamic @ {path.as_uri()}"],
            sdist_metadata=sdists,
        )
    assert told(caught.value) == (
        f"cannot resolve for `python3.13-x86_64`: `dynamic` has no wheel, only source code: {path.as_uri()}",
        "`--allow-sdist dynamic` builds it for the target",
    )


def test_a_part_of_an_archive_cannot_be_built(
    index: LocalIndex, project: Path, cache: Path, dynamic: tuple[Path, Sdists]
) -> None:
    path, sdists = dynamic
    line = f"dynamic @ {path.as_uri()}#subdirectory=part"
    with pytest.raises((RequestError, ResolutionError)) as caught:
        resolve(from_files(project), [X313], allowing(cache), lines=[line], sdist_metadata=sdists)
    assert "part" in caught.value.message


def test_version_control_in_a_pyproject_is_refused_with_what_to_do(project: Path, cache: Path, tmp_path: Path) -> None:
    import subprocess

    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "setup.py").write_text("from setuptools import setup\nsetup(name='six', version='1')\n")
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    source = pyproject(
        project,
        f'[project]\nname = "app"\nversion = "1"\ndependencies = ["six @ git+{repository.as_uri()}"]\n',
    )
    with pytest.raises(ResolutionError) as caught:
        resolve(source, [X313], allowing(cache), sdist_metadata=Sdists())
    assert told(caught.value) == (
        "`six` comes from version control and has no wheel",
        "build a wheel of it and name that, or clone it and name the folder",
    )


def test_a_folder_that_an_own_folder_depends_on_is_own_code_once_it_is_allowed(
    index: LocalIndex, project: Path, cache: Path
) -> None:
    index.wheel("pure", "1.0")
    for name, rest in (
        ("upper", 'dependencies = ["lower"]\n[tool.uv.sources]\nlower = { path = "../lower" }\n'),
        ("lower", 'dynamic = ["dependencies"]\n'),
    ):
        (project / name).mkdir()
        (project / name / "pyproject.toml").write_text(
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            f'[project]\nname = "{name}"\nversion = "1"\n{rest}'
        )
    (project / "lower" / "backend.py").write_text(
        "import os\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
        "    os.mkdir(os.path.join(folder, 'lower-1.dist-info'))\n"
        "    with open(os.path.join(folder, 'lower-1.dist-info', 'METADATA'), 'w') as file:\n"
        "        file.write('Metadata-Version: 2.1\\nName: lower\\nVersion: 1\\nRequires-Dist: pure\\n')\n"
        "    return 'lower-1.dist-info'\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    raise NotImplementedError\n"
    )
    own = allowing(cache, "lower")
    lock = resolve(from_files(project), [X313], own, lines=["./upper"], sdist_metadata=Sdists())
    selection = select(lock, X313, own, project)
    assert [package.name for package in selection.local] == ["lower", "upper"]
    assert [pin.name for pin in selection.pins] == ["pure"]


# Indexes


def test_a_name_that_is_taken_from_one_index_gets_its_sdist_from_there(
    index: LocalIndex, tmp_path: Path, project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    private = LocalIndex(tmp_path / "private")
    private.sdist("source", "3.0", requires=["pure>=9"])
    mine = private.sdist("source", "2.0", requires=["pure"])
    index.wheel("source", "4.0")
    index.wheel("pure", "1.0")
    index.wheel("top", "1.0", requires=["source>=2"])
    source = pyproject(
        project,
        '[project]\nname = "app"\nversion = "1"\ndependencies = ["source", "top"]\n'
        '[tool.uv.sources]\nsource = { index = "private" }\n'
        f'[[tool.uv.index]]\nname = "private"\nurl = "{private.url}"\nexplicit = true\n',
    )
    own = allowing(cache, "source")
    lock = resolve(source, [X313], own, sdist_metadata=Sdists())
    assert shipped(lock, X313, own, project) == {"source": "2.0 (sdist)", "pure": "1.0", "top": "1.0"}
    (sdist,) = select(lock, X313, own, project).sdists
    assert (sdist.path, sdist.hashes) == (mine, {"sha256": sha256(mine)})


def test_offline_serves_what_was_resolved_before(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, cache = LocalIndex(tmp_path / "index"), tmp_path / "cache"
    path = index.sdist("source", "1.0", requires=["pure"])
    index.wheel("pure", "1.0")

    def locked(own: ResolveOptions) -> str:
        def read(name: str, file: IndexFile, target: Target) -> SdistFacts:
            return Sdists().at(path, name, file, target)

        return dumps(resolve(from_files(project), [X313], own, lines=["source"], sdist_metadata=read))

    with ServedIndex(index.root) as served:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{served.host}")
        online = locked(allowing(cache))
    assert locked(allowing(cache, offline=True)) == online
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(tmp_path / "other"))
    with pytest.raises(NotCached, match="cannot ask an index offline"):
        locked(allowing(cache, offline=True))


def test_what_uv_is_told_to_build_is_told(
    index: LocalIndex, tmp_path: Path, project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheel("source", "1.0")
    index.sdist("source", "1.0")
    config = tmp_path / "uv.toml"
    config.write_text('no-binary-package = ["source"]\n')
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.setenv("UV_CONFIG_FILE", str(config))
    progress = Heard()
    resolve(from_files(project), [X313, ARM313], options(cache), progress, lines=["source"])
    assert progress.lines == [
        "`no-binary` in the settings of uv has it take `source` as source code, which uv may have built by itself"
    ]


def test_a_release_that_uv_is_to_leave_out_as_too_new_is_left_out_as_an_sdist(
    tmp_path: Path, project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LocalIndex(tmp_path / "files")
    with Index(tmp_path / "index") as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        monkeypatch.setenv("UV_EXCLUDE_NEWER", "2024-06-01")
        for version, uploaded in (("1.0", "2024-06-01T12:00:00Z"), ("2.0", "2024-06-02T12:00:00Z"), ("3.0", None)):
            path = files.sdist("source", version)
            path.rename(index.folder / path.name)
            if uploaded:
                index.uploaded[path.name] = uploaded

        def read(name: str, file: IndexFile, target: Target) -> SdistFacts:
            return Sdists().at(index.folder / file.filename, name, file, target)

        own = allowing(cache)
        lock = resolve(from_files(project), [X313], own, lines=["source"], sdist_metadata=read)
    assert shipped(lock, X313, own, project) == {"source": "1.0 (sdist)"}
