"""Each rule about distributions, and requirements judged as `packaging` judges them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from manylambda.audits import PureFallback, Severity
from manylambda.rules import requirements
from manylambda.target import Target
from manylambda.tree import Bytes, PackageTree, read_content
from rules.packages import distribution, elf, findings, told

X86, AL2 = "python3.13-x86_64", "python3.11-x86_64"


def test_wheel_tag_mismatch_of_a_pure_wheel_is_an_error() -> None:
    (finding,) = findings(X86, distribution("demo", tags=["cp312-none-any"]))
    assert (finding.rule, finding.severity) == ("wheel-tag-mismatch", Severity.ERROR)
    assert finding.message == "was installed from a wheel tagged `cp312-none-any`, which is not for python3.13-x86_64"
    assert findings(X86, distribution("demo", tags=["py2-none-any", "py3-none-any"])) == ()


def test_wheel_tag_mismatch_is_a_warning_where_only_the_c_library_differs() -> None:
    tags = ["cp311-cp311-manylinux_2_27_x86_64", "cp311-cp311-manylinux_2_28_x86_64"]
    (finding,) = findings(AL2, distribution("demo", contents={"demo/_x.so": elf("plain.so")}, tags=tags))
    assert (finding.rule, finding.severity) == ("wheel-tag-mismatch", Severity.WARNING)
    assert finding.message == (
        "was installed from a wheel tagged `cp311-cp311-manylinux_2_27_x86_64 and 1 more`, "
        "which promises no C library that the runtime has"
    )
    assert told(AL2, distribution("demo", tags=["cp311-cp311-linux_x86_64"])) == [
        ("wheel-tag-mismatch", "warning", "demo-1.0.dist-info")
    ]


def test_compressed_tags_are_expanded() -> None:
    assert findings(X86, distribution("demo", tags=["py2.py3-none-any"])) == ()


def test_requires_python() -> None:
    (finding,) = findings(AL2, distribution("demo", requires_python=">=3.12"))
    assert (finding.rule, finding.severity) == ("requires-python", Severity.ERROR)
    assert finding.message.startswith("1.0 needs Python >=3.12, the runtime has 3.11.")
    assert findings(X86, distribution("demo", requires_python=">=3.9, <4")) == ()


def test_distribution_missing() -> None:
    (finding,) = findings(X86, distribution("demo", requires=["other>=2; python_version >= '3.9'"]))
    assert (finding.rule, finding.severity, finding.distribution) == ("distribution-missing", Severity.ERROR, "demo")
    assert finding.message == "needs `other>=2`, which is not in the package"


@pytest.mark.parametrize(
    "requirement",
    [
        "other; extra == 'more'",
        "other; sys_platform == 'win32'",
        "other; python_version < '3.11' and platform_machine == 'x86_64'",
        "other; (python_version < '3.11') or sys_platform == 'darwin'",
        "boto3",
        "not a requirement at all!",
    ],
)
def test_what_the_target_does_not_need_or_has_is_not_missing(requirement: str) -> None:
    assert findings(X86, distribution("demo", requires=[requirement])) == ()


def test_extras_that_another_distribution_asks_for_are_needed() -> None:
    asked = distribution("app", requires=["redis[Hi_Redis]"])
    redis = distribution("redis", requires=["hiredis>=3; extra == 'hi-redis'"])
    assert told(X86, asked, redis) == [("distribution-missing", "error", "redis-1.0.dist-info")]
    assert findings(X86, distribution("app", requires=["redis"]), redis) == ()


def test_what_a_layer_has_is_there() -> None:
    layer = PackageTree(distribution("other", "2.0", prefix="python/lib/python3.13/site-packages/"))
    assert findings(X86, distribution("demo", requires=["other>=2"]), layers=[layer]) == ()
    elsewhere = PackageTree(distribution("other", "2.0", prefix="python/lib/python3.12/site-packages/"))
    assert told(X86, distribution("demo", requires=["other>=2"]), layers=[elsewhere]) == [
        ("distribution-missing", "error", "demo-1.0.dist-info")
    ]


def test_a_layer_and_a_wheel_may_count_on_others() -> None:
    entries = distribution("demo", requires=["other"], prefix="python/")
    assert told(X86, entries, kind="layer") == [("distribution-missing", "warning", "demo-1.0.dist-info")]
    assert findings(X86, distribution("demo", requires=["other"]), kind="wheel") == ()


def test_distribution_conflict_of_versions() -> None:
    entries = (distribution("demo", requires=["other>=2,<3"]), distribution("other", "3.0.1"))
    (finding,) = findings(X86, *entries)
    assert (finding.rule, finding.severity, finding.distribution) == ("distribution-conflict", Severity.ERROR, "demo")
    assert finding.message == "needs `other>=2,<3`, the package has 3.0.1"


def test_distribution_conflict_with_the_runtime_is_a_warning() -> None:
    (finding,) = findings(X86, distribution("demo", requires=["boto3>=99"]))
    assert (finding.rule, finding.severity) == ("distribution-conflict", Severity.WARNING)
    assert finding.message.startswith("needs `boto3>=99`, the package has none and the runtime had 1.")


def test_distribution_conflict_of_two_in_one_folder() -> None:
    (finding,) = findings(X86, distribution("demo", "1.0"), distribution("demo", "2.0"))
    assert finding.message == "is there twice, as 1.0 and 2.0: the files of both are mixed"


def test_pure_fallback() -> None:
    fallback = PureFallback(
        distribution="demo", file="demo-1.0-py3-none-any.whl", compiled_for=("macosx_11_0_arm64", "win32")
    )
    (finding,) = findings(X86, distribution("demo"), pure_fallbacks=[fallback])
    assert (finding.rule, finding.severity) == ("pure-fallback", Severity.NOTE)
    assert finding.message == (
        "`demo-1.0-py3-none-any.whl` is pure Python; compiled wheels of this release are for macosx_11_0_arm64, win32"
    )


def test_pure_fallback_without_the_library_that_others_bring_is_a_warning() -> None:
    fallback = PureFallback("demo", "demo-1.0-py3-none-any.whl", ("Windows", "macOS"), brings_library=True)
    (finding,) = findings(X86, distribution("demo"), pure_fallbacks=[fallback])
    assert (finding.rule, finding.severity) == ("pure-fallback", Severity.WARNING)
    assert finding.message == (
        "`demo-1.0-py3-none-any.whl` is pure Python; the wheels for other systems bring a library or program that this "
        "one lacks: it may not import (they are for Windows, macOS)"
    )
    assert finding.hint == (
        "take a release with such a wheel for the target, or another runtime; or bring the library in a layer"
    )


NUMBERS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
OPERATORS = st.sampled_from([">=", "<=", "==", "!=", "<", ">", "~=", "==.*", "!=.*"])
BOUNDS = st.lists(st.tuples(OPERATORS, NUMBERS), max_size=3).map(
    lambda bounds: ",".join(
        operator[:2] + number + {"~=": ".0", ".*": ".*"}.get(operator[-2:], "") for operator, number in bounds
    )
)
SUFFIXES = st.sampled_from(["", "", "rc1", ".post1", ".dev3", "+local"])


@given(BOUNDS, NUMBERS, SUFFIXES)
def test_versions_are_admitted_as_packaging_admits_them(specifier: str, number: str, suffix: str) -> None:
    version = number + suffix
    assert requirements.admits(specifier, version) == SpecifierSet(specifier).contains(version, prereleases=True)


COMPARISONS = st.one_of(
    st.tuples(
        st.just("python_version"),
        st.sampled_from([">=", "<", "==", "!=", ">", "<="]),
        st.sampled_from(["3.8", "3.13", "3.14"]),
    ),
    st.tuples(st.just("python_full_version"), st.sampled_from([">=", "<"]), st.sampled_from(["3.11.3", "3.13.0"])),
    st.tuples(
        st.sampled_from(["sys_platform", "platform_machine", "os_name", "platform_system"]),
        st.sampled_from(["==", "!="]),
        st.sampled_from(["linux", "win32", "x86_64", "posix", "Linux"]),
    ),
    st.tuples(st.just("extra"), st.sampled_from(["==", "!="]), st.sampled_from(["a", "b", "A"])),
).map(lambda parts: f"{parts[0]} {parts[1]} '{parts[2]}'")
MARKERS = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
        )
        | st.tuples(inner, st.sampled_from(["and", "or"]), COMPARISONS).map(" ".join)
    ),
    max_leaves=4,
)


@given(MARKERS, st.sets(st.sampled_from(["a", "b"])))
def test_markers_are_judged_as_packaging_judges_them(marker: str, extras: set[str]) -> None:
    target = Target.parse(X86)
    expected = any(Marker(marker).evaluate({**target.markers, "extra": extra}) for extra in ["", *extras])
    assert requirements.applies(marker, target, frozenset(extras)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Foo.Bar", ("foo-bar", (), "", "", "Foo.Bar")),
        ("foo (>=1,<2)", ("foo", (), ">=1,<2", "", "foo (>=1,<2)")),
        ("foo[A_b, c]>=1 ; python_version<'3'", ("foo", ("a-b", "c"), ">=1", "python_version<'3'", "foo[A_b, c]>=1")),
        ("foo @ https://host/x.whl ; os_name=='nt'", ("foo", (), "", "os_name=='nt'", "foo @ https://host/x.whl")),
    ],
)
def test_requirements_are_taken_apart(text: str, expected: tuple[object, ...]) -> None:
    assert requirements.parse(text) == expected


def test_what_cannot_be_read_is_no_fault() -> None:
    assert requirements.admits("<nonsense", "1.0")
    assert requirements.admits(">=1", "not a version")
    assert not requirements.applies("nonsense", Target.parse(X86))


def test_metadata_too_long_to_be_read_is_told_and_the_rest_is_judged() -> None:
    lines = [f"name{number:06}; python_version < '3'" for number in range(40_000)]
    demo = distribution("demo", requires=["absent", *lines])
    found = {(one.severity.value, one.message) for one in findings(X86, demo)}
    assert found == {
        ("error", "needs `absent`, which is not in the package"),
        ("warning", "has metadata too long to be read to its end: what else it needs is not judged"),
    }


def test_a_long_description_hides_no_requirement() -> None:
    demo = distribution("demo", requires=["absent"])
    (metadata,) = [entry for entry in demo if entry.path.endswith("METADATA")]
    rest = [entry for entry in demo if entry is not metadata]
    long = metadata._replace(content=Bytes(read_content(metadata.content) + b"x" * (17 << 20)))
    (finding,) = findings(X86, [*rest, long])
    assert finding.message == "needs `absent`, which is not in the package"


@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * 20_000 + "(",
        "a [" + " " * 20_000,
        "a" + "-" * 20_000 + "!",
        "a; " + " " * 20_000 + "(",
        "a>=" + "1." * 20_000,
    ],
)
def test_no_requirement_takes_long_to_be_judged(text: str) -> None:
    started = time.process_time()
    findings(X86, distribution("demo", requires=[text], requires_python=text))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "marker", ["(" * 4000 + "extra == 'a'" + ")" * 4000, "python_version < '" + "9" * 5000 + "' or os_name == 'x'"]
)
def test_a_marker_that_nobody_can_read_does_not_hold(marker: str) -> None:
    assert told(X86, distribution("demo", requires=[f"absent; {marker}"])) == []


@pytest.mark.parametrize("specifier", [">=" + "9" * 5000, "==" + "9" * 5000 + ".*", ">=1.post" + "9" * 5000])
def test_a_version_of_thousands_of_digits_is_no_proof_of_a_fault(specifier: str) -> None:
    demo = distribution("demo", requires=[f"other{specifier}"], requires_python=specifier)
    assert told(X86, demo, distribution("other")) == []
    assert told(X86, demo, distribution("other", "9" * 5000)) == []


def test_extras_of_extras_are_followed_however_they_are_written() -> None:
    top = distribution("top", requires=["mid[Fast_Io]"])
    mid = distribution("mid", requires=["low[c]; extra == 'fast-io'", "low[d]; extra == 'slow'"])
    low = distribution(
        "low", requires=["absent-c; extra == 'C'", "absent-d; extra == 'd'", "x; extra != 'c' and extra != ''"]
    )
    found = [one.message for one in findings(X86, top, mid, low)]
    assert found == ["needs `absent-c`, which is not in the package"]
