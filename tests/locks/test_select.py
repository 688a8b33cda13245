"""What a lock gives a target, and why it gives nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from local_index import told
from packaging.pylock import Pylock
from packaging.tags import parse_tag
from packaging.utils import parse_wheel_filename

from manylambda.errors import NoCompatibleWheel, ResolutionError
from manylambda.locks.compatibility import wheel_fit
from manylambda.locks.model import LocalPackage, Pin, ResolveOptions, SourceDistribution, WheelFile
from manylambda.locks.select import select
from manylambda.target import Target, all_targets

X311, X313, ARM313 = (Target.parse(f"python3.{rest}") for rest in ("11-x86_64", "13-x86_64", "13-arm64"))
SHA = "a" * 64


def wheel(filename: str, **more: Any) -> dict[str, Any]:
    return {"url": f"https://files.example/{filename}", "hashes": {"sha256": SHA}, **more}


def lock(*packages: dict[str, Any], **top: Any) -> Pylock:
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "test", "packages": list(packages), **top})


def native(version: str, *tags: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "native",
        "version": version,
        "wheels": [wheel(f"native-{version}-{tag}.whl") for tag in tags],
        **more,
    }


def chosen(pylock: Pylock, target: Target, **options: Any) -> list[str]:
    return [pin.wheel.filename for pin in select(pylock, target, ResolveOptions(**options), Path()).pins]


TAGS = (
    "cp313-cp313-manylinux_2_34_x86_64",
    "cp313-cp313-manylinux_2_28_x86_64",
    "cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64",
    "cp38-abi3-manylinux_2_17_aarch64",
    "cp313-cp313-musllinux_1_2_x86_64",
    "cp313-cp313t-manylinux_2_28_x86_64",
    "cp313-cp313-manylinux_2_35_aarch64",
    "cp313-cp313-win_amd64",
    "cp313-cp313-linux_x86_64",
    "py2.py3-none-any",
    "py3-none-any",
)


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        (X313, "cp313-cp313-manylinux_2_34_x86_64"),
        (X311, "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64"),
        (ARM313, "cp38-abi3-manylinux_2_17_aarch64"),
        (Target.parse("python3.9-x86_64"), "py2.py3-none-any"),
    ],
)
def test_the_best_wheel_by_the_targets_tags_is_chosen(target: Target, tag: str) -> None:
    assert chosen(lock(native("1", *TAGS)), target) == [f"native-1-{tag}.whl"]


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_packaging_agrees_on_every_file_and_target(target: Target) -> None:
    accepted = set(target.tags())
    for tag in TAGS:
        assert (wheel_fit(f"native-1-{tag}.whl", target) is not None) == bool(parse_tag(tag) & accepted)
    pylock = lock(native("1", *TAGS))
    ((_, best),) = pylock.select(environment=target.markers, tags=target.tags())  # type: ignore[arg-type]
    ours = parse_wheel_filename(chosen(pylock, target)[0])[3]
    theirs = parse_wheel_filename(best.name or best.url.rpartition("/")[2])[3]  # type: ignore[union-attr]
    assert target.rank(ours) == target.rank(theirs)


def test_of_equal_wheels_the_higher_build_is_chosen() -> None:
    names = ["native-1-py3-none-any.whl", "native-1-9-py3-none-any.whl", "native-1-10-py3-none-any.whl"]
    package = {"name": "native", "version": "1", "wheels": [wheel(name) for name in names]}
    assert chosen(lock(package), X313) == ["native-1-10-py3-none-any.whl"]


def test_a_wheel_of_some_host_is_last_and_only_when_allowed() -> None:
    only = lock(native("1", "cp313-cp313-linux_x86_64"))
    assert chosen(only, X313, allow_linux_wheels=True) == ["native-1-cp313-cp313-linux_x86_64.whl"]
    pure = lock(native("1", "cp313-cp313-linux_x86_64", "py3-none-any"))
    assert chosen(pure, X313, allow_linux_wheels=True) == ["native-1-py3-none-any.whl"]
    with pytest.raises(NoCompatibleWheel):
        chosen(only, X313)
    with pytest.raises(NoCompatibleWheel):
        chosen(only, ARM313, allow_linux_wheels=True)


def test_markers_extras_and_groups_choose_entries() -> None:
    pylock = lock(
        native("1", "py3-none-any", marker='python_version == "3.11"'),
        native("2", "py3-none-any", marker='python_version == "3.13" and platform_machine == "x86_64"'),
        {"name": "extra", "version": "1", "marker": '"more" in extras', "wheels": [wheel("extra-1-py3-none-any.whl")]},
        {
            "name": "group",
            "version": "1",
            "marker": '"main" in dependency_groups or "jobs" in dependency_groups',
            "wheels": [wheel("group-1-py3-none-any.whl")],
        },
        **{"default-groups": ["main"], "extras": ["more"], "dependency-groups": ["main", "jobs"]},
    )
    assert chosen(pylock, X311) == ["group-1-py3-none-any.whl", "native-1-py3-none-any.whl"]
    assert chosen(pylock, X313, extras=frozenset({"more"})) == [
        "extra-1-py3-none-any.whl",
        "group-1-py3-none-any.whl",
        "native-2-py3-none-any.whl",
    ]
    assert chosen(pylock, ARM313) == ["group-1-py3-none-any.whl"]


def test_all_kinds_of_sources_are_told_apart(tmp_path: Path) -> None:
    pylock = lock(
        {"name": "zebra", "version": "1", "index": "https://i.example/simple",
         "wheels": [wheel("zebra-1-py3-none-any.whl", size=3)]},
        {"name": "folder", "directory": {"path": "../lib", "subdirectory": "sub", "editable": True}},
        {"name": "beside", "version": "2", "archive": {"path": "beside-2-py3-none-any.whl", "hashes": {"sha256": SHA}}},
        {"name": "linked",
         "wheels": [{"url": (tmp_path / "linked-3-py3-none-any.whl").as_uri(), "hashes": {"md5": "0"}}]},
        {"name": "source", "version": "4",
         "sdist": {"url": "https://f.example/source-4.tar.gz", "hashes": {"sha256": SHA}}},
    )  # fmt: skip
    found = select(pylock, X313, ResolveOptions(allow_sdists=frozenset({"all"})), tmp_path / "project")
    assert found.pins == (
        Pin(
            name="beside",
            version="2",
            wheel=WheelFile(
                filename="beside-2-py3-none-any.whl",
                path=tmp_path / "project" / "beside-2-py3-none-any.whl",
                hashes={"sha256": SHA},
            ),
        ),
        Pin(
            name="linked",
            version="3",
            wheel=WheelFile(
                filename="linked-3-py3-none-any.whl",
                path=tmp_path / "linked-3-py3-none-any.whl",
                hashes={"md5": "0"},
            ),
        ),
        Pin(
            name="zebra",
            version="1",
            wheel=WheelFile(
                filename="zebra-1-py3-none-any.whl",
                url="https://files.example/zebra-1-py3-none-any.whl",
                hashes={"sha256": SHA},
                size=3,
            ),
            index="https://i.example/simple",
        ),
    )
    assert found.local == (LocalPackage(name="folder", directory=tmp_path / "lib" / "sub"),)
    assert found.sdists == (
        SourceDistribution(
            name="source", version="4", url="https://f.example/source-4.tar.gz", path=None, hashes={"sha256": SHA}
        ),
    )


@pytest.mark.parametrize(
    ("pylock", "message", "hint"),
    [
        (
            lock(**{"requires-python": ">=3.14"}),
            f"the lock is for Python `>=3.14`, `python3.13-x86_64` has {X313.python_full_version}",
            "lock again for this runtime, with `manylambda lock` or the tool that made the lock",
        ),
        (
            lock(
                environments=['platform_machine == "aarch64"'],
                tool={"manylambda": {"targets": ["python3.13-arm64"]}},
            ),
            "the lock is not for `python3.13-x86_64`",
            "it was made for python3.13-arm64; run `manylambda lock -t python3.13-arm64 -t python3.13-x86_64`",
        ),
        (
            lock(native("1", "py3-none-any"), native("2", "py3-none-any")),
            "the lock has two entries for `native` that both hold for `python3.13-x86_64`",
            "their markers must exclude each other; lock again with the tool that made it",
        ),
        (
            lock(native("1", "py3-none-any", **{"requires-python": "<3.13"})),
            f"`native` in the lock requires Python `<3.13`, `python3.13-x86_64` has {X313.python_full_version}",
            "lock again for this runtime, with `manylambda lock` or the tool that made the lock",
        ),
        (
            lock({"name": "x", "vcs": {"type": "git", "url": "https://g.example/x", "commit-id": "0"}}),
            "`x` comes from version control and has no wheel",
            "build a wheel of it and name that, or clone it and name the folder",
        ),
        (
            lock({"name": "x", "wheels": [wheel("x-1-py3-none-any.whl", hashes={"md5": "0", "sha1": "0"})]}),
            "`x-1-py3-none-any.whl` has no hash that can be trusted: md5, sha1",
            "lock again with sha256 hashes: `manylambda lock`",
        ),
        (
            lock({"name": "x", "archive": {"url": "https://f.example/x-1.zip", "hashes": {"sha256": SHA}}}),
            "`x-1.zip` is a source distribution, and `python3.13-x86_64` needs a wheel",
            "`--allow-sdist x` builds it for the target",
        ),
        (
            lock(
                native(
                    "1",
                    "cp313-cp313-manylinux_2_39_x86_64",
                    "cp313-cp313-manylinux_2_17_aarch64",
                    sdist={"url": "https://f.example/native-1.tar.gz", "hashes": {"sha256": SHA}},
                )
            ),
            "no wheel of `native==1` runs on `python3.13-x86_64`",
            (
                "the nearest is `native-1-cp313-cp313-manylinux_2_39_x86_64.whl`, which needs glibc 2.39; the runtime "
                "has 2.34; `--allow-sdist native` builds it from source for the target"
            ),
        ),
    ],
)
def test_what_a_lock_cannot_give_is_told(pylock: Pylock, message: str, hint: str) -> None:
    with pytest.raises(ResolutionError) as caught:
        select(pylock, X313, ResolveOptions(), Path())
    assert told(caught.value) == (message, hint)


def test_an_sdist_in_the_lock_counts_only_for_whom_it_was_allowed() -> None:
    package = native("1", "cp313-cp313-manylinux_2_17_aarch64")
    package["sdist"] = {"url": "https://f.example/native-1.tar.gz", "hashes": {"sha256": SHA}}
    found = select(lock(package), X313, ResolveOptions(allow_sdists=frozenset({"native"})), Path())
    assert [sdist.name for sdist in found.sdists] == ["native"]
    with pytest.raises(NoCompatibleWheel):
        select(lock(package), X313, ResolveOptions(allow_sdists=frozenset({"other"})), Path())


def test_a_pure_wheel_beside_compiled_ones_is_told() -> None:
    """`wrapt` and its like ship both: the pure one works, but slower, and nobody asked for it."""
    names = [
        "demo-1-py3-none-any.whl",
        "demo-1-cp313-cp313-manylinux_2_39_aarch64.whl",
        "demo-1-cp313-cp313-win_amd64.whl",
    ]
    wheels = [{"name": name, "url": f"https://index.test/{name}", "hashes": {"sha256": "0" * 64}} for name in names]
    lock = {"lock-version": "1.0", "created-by": "x", "packages": [{"name": "demo", "version": "1", "wheels": wheels}]}
    target = Target.parse("python3.13-arm64")
    (pin,) = select(Pylock.from_dict(lock), target, ResolveOptions(), Path()).pins
    assert pin.wheel.filename == names[0]
    assert pin.compiled_for == ("Linux aarch64 (glibc 2.39)", "Windows")
