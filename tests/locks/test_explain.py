"""Sentences about files: why not this one, and what would do."""

from __future__ import annotations

import pytest
from local_index import told

from manylambda.locks.compatibility import Reason, audience, is_compiled, needed_glibc, wheel_refusal
from manylambda.locks.explain import (
    describe,
    newest_that_runs,
    no_compatible_wheel,
    pure_fallback,
    refusal,
    refusals,
    versions_too_new,
)
from manylambda.locks.index import IndexFile
from manylambda.target import Target

X311, X313, ARM313 = (Target.parse(f"python3.{rest}") for rest in ("11-x86_64", "13-x86_64", "13-arm64"))


def file(filename: str, **more: object) -> IndexFile:
    return IndexFile(filename=filename, url=f"https://f.example/{filename}", **more)  # type: ignore[arg-type]


def files(*tags: str, version: str = "1.0") -> list[IndexFile]:
    return [file(f"name-{version}-{tag}.whl" if "-" in tag else f"name-{version}.{tag}") for tag in tags]


@pytest.mark.parametrize(
    ("tag", "reason", "sentence"),
    [
        ("cp313-cp313-manylinux_2_39_x86_64", "glibc", "needs glibc 2.39; the runtime has 2.34"),
        (
            "cp313-cp313-manylinux_2_39_x86_64.manylinux_2_36_x86_64",
            "glibc",
            "needs glibc 2.36; the runtime has 2.34",
        ),
        (
            "cp313-cp313-linux_x86_64",
            "linux-tag",
            "was built on somebody's own host (`linux` tag), which says nothing about glibc",
        ),
        ("cp313-cp313-musllinux_1_2_x86_64", "musl", "is built for musl libc; the runtime has glibc"),
        ("cp313-cp313t-manylinux_2_28_x86_64", "free-threaded", "is for free-threaded CPython; the runtime's is not"),
        ("cp314-cp314t-manylinux_2_28_x86_64", "python", "is for CPython 3.14; the runtime has 3.13"),
        ("cp313-cp313d-manylinux_2_28_x86_64", "debug", "is for a debug build of CPython"),
        ("cp313-cp313u-manylinux_2_28_x86_64", "abi", "has the ABI tag `cp313u`; the runtime's is `cp313`"),
        ("cp312-cp312-manylinux_2_28_x86_64", "python", "is for CPython 3.12; the runtime has 3.13"),
        ("cp314-abi3-manylinux_2_28_x86_64", "python", "is for CPython 3.14 or later; the runtime has 3.13"),
        ("py2-none-any", "python", "is for Python 2; the runtime has 3.13"),
        ("pp311-pypy311_pp73-manylinux_2_28_x86_64", "python", "is for PyPy 3.11; the runtime has 3.13"),
        ("cp313-cp313-manylinux_2_28_aarch64", "machine", "is for aarch64; the target is x86_64"),
        ("cp313-cp313-musllinux_1_2_aarch64", "machine", "is for aarch64; the target is x86_64"),
        ("cp312-cp312-macosx_11_0_arm64", "system", "is for macOS"),
        ("cp313-cp313-win_amd64", "system", "is for Windows"),
        ("cp313-cp313-any", "abi", "has a combination of tags that no interpreter of the runtime has"),
        ("odd", "name", "is not named as a wheel must be"),
    ],
)  # fmt: skip
def test_each_obstacle_has_a_sentence(tag: str, reason: str, sentence: str) -> None:
    found = wheel_refusal(f"name-1.0-{tag}.whl", X313)
    assert found is not None
    assert (found.reason.word, found.sentence) == (reason, sentence)


def test_a_wheel_that_fits_is_not_refused() -> None:
    assert wheel_refusal("name-1.0-cp39-abi3-manylinux_2_26_x86_64.manylinux_2_40_x86_64.whl", X311) is None
    assert wheel_refusal("name-1.0-cp311-cp311-linux_x86_64.whl", X311, allow_linux=True) is None


@pytest.mark.parametrize(
    ("found", "hashes", "reason", "sentence"),
    [
        (file("name-1.tar.gz"), (), Reason.SDIST, "is a source distribution, to be built first"),
        (
            file("name-1-py3-none-any.whl", requires_python="<3.13"),
            (),
            Reason.REQUIRES_PYTHON,
            f"requires Python `<3.13`; the runtime has {X313.python_full_version}",
        ),
        (
            file("name-1-py3-none-any.whl", hashes={"sha256": "a"}),
            ("sha256:b",),
            Reason.HASH,
            "has a hash that is not among those of the requirement",
        ),
        (file("name-1-py3-none-any.whl", yanked="leaks"), (), Reason.YANKED, "was yanked: leaks"),
        (file("name-1-py3-none-any.whl", yanked=""), (), Reason.YANKED, "was yanked"),
    ],
)
def test_what_an_index_says_of_a_file_counts(
    found: IndexFile, hashes: tuple[str, ...], reason: Reason, sentence: str
) -> None:
    refused = refusal(found, X313, hashes=frozenset(hashes))
    assert refused is not None
    assert (refused.reason, refused.sentence) == (reason, sentence)


def test_a_requires_python_nobody_can_read_forbids_nothing() -> None:
    assert refusal(file("name-1-py3-none-any.whl", requires_python=">=3.*.x"), X313) is None


def test_nearer_files_are_told_newest_first() -> None:
    listed = [
        *files("tar.gz", version="3.0"),
        *files("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64", version="2.2"),
        *files("py3-none-any", version="2.1"),
        *files("py3-none-any", version="2.3rc1"),
        *files("py3-none-any", version="2.0"),
        *files(
            "cp311-cp311-manylinux_2_27_x86_64",
            "cp311-cp311-musllinux_1_2_x86_64",
            "cp311-cp311-manylinux_2_17_x86_64",
            "cp310-cp310-manylinux_2_17_x86_64",
            "tar.gz",
            version="2.0",
        ),
        *files("py3-none-any", version="1.0"),
        *files("py3-none-any", version="not a version"),
    ]
    found = refusals(listed, X311, "name-2.0-cp311-cp311-manylinux_2_17_x86_64.whl")
    assert [(one.filename, one.reason.word) for one in found] == [
        ("name-3.0.tar.gz", "sdist"),
        ("name-2.2-cp311-cp311-manylinux_2_28_x86_64.whl", "glibc"),
        ("name-2.1-py3-none-any.whl", "requirement"),
        ("name-2.0-cp311-cp311-manylinux_2_27_x86_64.whl", "glibc"),
        ("name-2.0-cp311-cp311-musllinux_1_2_x86_64.whl", "musl"),
    ]


def test_a_yanked_or_unlisted_file_that_would_have_won_is_told() -> None:
    own = "name-1.0-py3-none-any.whl"
    better = file("name-1.0-cp313-cp313-manylinux_2_17_x86_64.whl", yanked="", hashes={"sha256": "a"})
    assert [one.reason.word for one in refusals([file(own), better], X313, own)] == ["yanked"]
    assert [one.reason.word for one in refusals([better], X313, own, hashes=frozenset({"sha256:b"}))] == ["hash"]


def test_the_error_of_the_style_guide() -> None:
    listed = files("cp313-cp313-manylinux_2_39_aarch64", "cp312-cp312-manylinux_2_17_aarch64", version="6.0.2")
    assert told(no_compatible_wheel("name", "6.0.2", ARM313, listed)) == (
        "no wheel of `name==6.0.2` runs on `python3.13-arm64`",
        (
            "the nearest is `name-6.0.2-cp313-cp313-manylinux_2_39_aarch64.whl`, which needs glibc 2.39; "
            "the runtime has 2.34"
        ),
    )


def test_the_error_says_which_version_would_do() -> None:
    listed = [
        *files("cp37-cp37m-manylinux1_x86_64", "win_amd64", version="1.0"),
        *files("py3-none-any", version="1.1"),
        *files("py3-none-any", version="1.2rc1"),
    ]
    assert told(no_compatible_wheel("name", "1.0", X313, listed))[1] == (
        "the nearest is `name-1.0-cp37-cp37m-manylinux1_x86_64.whl`, which is for CPython 3.7; the runtime has 3.13; "
        "its wheels are for CPython 3.7 on Linux x86_64 (glibc 2.5); `name==1.1` has a wheel that runs there"
    )


def test_the_error_says_when_no_version_would_do() -> None:
    listed = [*files("cp37-cp37m-win32"), *files("tar.gz", version="2.0")]
    assert told(no_compatible_wheel("name", "1.0", X313, listed))[1] == (
        "its wheels are for CPython 3.7 on Windows; no other version has one either"
    )
    assert told(no_compatible_wheel("name", None, X313, [])) == ("no wheel of `name` runs on `python3.13-x86_64`", None)


def test_many_audiences_are_cut_short() -> None:
    listed = files(
        *(
            f"cp3{minor}-cp3{minor}-manylinux_2_17_{machine}"
            for minor in range(6, 15)
            for machine in ("x86_64", "aarch64")
        )
    )
    assert describe(listed) == (
        "CPython 3.6, 3.7, 3.8, ..., 3.12, 3.13, 3.14 on Linux aarch64 (glibc 2.17), Linux x86_64 (glibc 2.17)"
    )


def test_the_audience_of_a_wheel_is_named() -> None:
    assert audience("n-1-cp38-abi3-musllinux_1_2_x86_64.whl") == ("CPython 3.8 or later", "musl Linux x86_64")
    assert audience("n-1-cp314-cp314t-macosx_11_0_arm64.whl") == ("CPython 3.14 free-threaded", "macOS")
    assert audience("n-1-py2.py3-none-any.whl") == ("Python 3", "any system")
    assert audience("n.whl") is None


def test_versions_are_judged_by_all_their_wheels() -> None:
    listed = [
        *files("cp311-cp311-manylinux_2_28_x86_64", "tar.gz", version="4"),
        *files("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_26_x86_64", version="3"),
        *files("cp311-cp311-linux_x86_64", "cp310-cp310-manylinux_2_17_x86_64", version="2"),
        *files("cp310-cp310-manylinux_2_17_x86_64", version="1"),
    ]
    assert versions_too_new(listed, X311) == ("2", "4")
    assert versions_too_new(listed, X311, allow_linux=True) == ("4",)
    assert newest_that_runs(listed, X311) == "3"


def test_a_pure_wheel_beside_compiled_ones_is_a_fallback() -> None:
    pure = "name-1.0-py3-none-any.whl"
    assert pure_fallback(pure, files("py3-none-any", "cp313-cp313-win_amd64"))
    assert not pure_fallback(pure, [*files("py3-none-any"), *files("cp313-cp313-win_amd64", version="2.0")])
    assert not pure_fallback("name-1.0-cp313-cp313-win_amd64.whl", files("cp313-cp313-win_amd64"))
    assert [is_compiled(f"n-1-{tag}.whl") for tag in ("py3-none-any", "cp313-none-any", "py3-none-win32")] == [
        False,
        False,
        True,
    ]
    assert needed_glibc("n-1-cp313-cp313-manylinux1_x86_64.manylinux_2_28_x86_64.whl") == (2, 5)


def test_of_equal_obstacles_the_nearest_python_and_glibc_come_first() -> None:
    listed = [
        file(f"name-2.0-{tag}.whl")
        for tag in (
            "cp27-cp27m-manylinux1_x86_64",
            "cp36-cp36m-manylinux1_x86_64",
            "cp312-cp312-musllinux_1_2_x86_64",
            "cp312-cp312-manylinux_2_28_x86_64",
            "cp312-cp312-manylinux_2_27_x86_64",
        )
    ]
    (found,) = refusals(listed, X311, "name-1.0-py3-none-any.whl")
    assert found.filename == "name-2.0-cp312-cp312-manylinux_2_27_x86_64.whl"
    assert found.sentence == "is for CPython 3.12; the runtime has 3.11"
