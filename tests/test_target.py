"""The target model: what a runtime is and loads, said without looking at the host."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from packaging.markers import Marker, default_environment
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from manylambda import target as target_module
from manylambda.errors import RequestError
from manylambda.target import Architecture, GlibcVersion, Target, all_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERY = pytest.mark.parametrize("target", all_targets(), ids=str)


def accepts(target: str, wheel: str) -> bool:
    return Target.parse(target).rank(parse_wheel_filename(wheel)[3]) is not None


# --- names


@EVERY
def test_every_target_reads_back_from_its_text(target: Target) -> None:
    assert Target.parse(str(target)) == target


def test_targets_are_listed_buildable_first_then_by_python_and_architecture() -> None:
    assert [str(target) for target in all_targets()] == [
        *(f"python3.{minor}-{architecture}" for minor in range(9, 16) for architecture in ("arm64", "x86_64")),
        "python3.7-x86_64",
        "python3.8-arm64",
        "python3.8-x86_64",
    ]
    assert [target.can_build for target in all_targets()] == [True] * 14 + [False] * 3


def test_architectures_are_spelled_three_ways() -> None:
    assert [(a.value, a.machine, a.oci, str(a)) for a in Architecture] == [
        ("x86_64", "x86_64", "amd64", "x86_64"),
        ("arm64", "aarch64", "arm64", "arm64"),
    ]


def test_glibc_versions_compare_as_numbers() -> None:
    assert GlibcVersion.parse("2.9") < GlibcVersion.parse("2.34")
    assert str(GlibcVersion(2, 34)) == "2.34"


def test_a_target_is_a_small_value() -> None:
    target = Target.parse("python3.13-arm64")
    assert target == Target(runtime="python3.13", architecture=Architecture.ARM64)
    assert pickle.loads(pickle.dumps(target)) == copy.deepcopy(target) == target
    assert len({target, Target.parse("python3.13-arm64"), Target.parse("python3.13-x86_64")}) == 2


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the target is empty", "write it as `python3.13-arm64`"),
        (
            "python3.13",
            "`python3.13` names no architecture",
            "write `python3.13-arm64` or `python3.13-x86_64`",
        ),
        ("python3.7", "`python3.7` names no architecture", "write `python3.7-x86_64`"),
        (
            "python3.13-aarch64",
            "`aarch64` is not an architecture of Lambda: `python3.13-aarch64`",
            "write `python3.13-arm64`",
        ),
        (
            "python3.13-amd64",
            "`amd64` is not an architecture of Lambda: `python3.13-amd64`",
            "write `python3.13-x86_64`",
        ),
        (
            "python3.13-x86-64",
            "`x86-64` is not an architecture of Lambda: `python3.13-x86-64`",
            "write `python3.13-x86_64`",
        ),
        (
            "python3.13-ar64",
            "`ar64` is not an architecture of Lambda: `python3.13-ar64`",
            "write `python3.13-arm64`",
        ),
        (
            "python3.13-riscv64",
            "`riscv64` is not an architecture of Lambda: `python3.13-riscv64`",
            "write `python3.13-arm64` or `python3.13-x86_64`",
        ),
        ("python3.7-arm64", "`python3.7` does not exist on `arm64`", "write `python3.7-x86_64`"),
        ("3.13-arm64", "`3.13-arm64` is not a target", "did you mean `python3.13-arm64`?"),
        ("3.13", "`3.13` is not a target", "did you mean `python3.13-arm64` or `python3.13-x86_64`?"),
        ("py313-aarch64", "`py313-aarch64` is not a target", "did you mean `python3.13-arm64`?"),
        ("python3.13_arm64", "`python3.13_arm64` is not a target", "did you mean `python3.13-arm64`?"),
        ("Python3.13-ARM64", "`Python3.13-ARM64` is not a target", "did you mean `python3.13-arm64`?"),
        ("python3.13-arm64 ", "`python3.13-arm64 ` is not a target", "did you mean `python3.13-arm64`?"),
        ("python3.13.2-arm64", "`python3.13.2-arm64` is not a target", "did you mean `python3.13-arm64`?"),
        (
            "pyhton3.9-x86_64",
            "`pyhton3.9-x86_64` is not a target",
            "did you mean `python3.9-x86_64` or `python3.8-x86_64`?",
        ),
        (
            "python3.13t-arm64",
            "`python3.13t-arm64` is not a target",
            "Lambda has no free-threaded Python; use `python3.13-arm64`",
        ),
        ("python4.0t-arm64", "`python4.0t-arm64` is not a target", "Lambda has no free-threaded Python"),
        (
            "python2.7-x86_64",
            "`python2.7` is retired: functions cannot be updated since 2022-05-30",
            "move to `python3.14-x86_64`",
        ),
        (
            "python3.6",
            "`python3.6` is retired: functions cannot be updated since 2022-08-29",
            "move to `python3.14-arm64` or `python3.14-x86_64`",
        ),
        (
            "python3.16-arm64",
            "`python3.16-arm64` is not a target",
            "known are `python3.9` to `python3.15`, each with `-arm64` or `-x86_64`",
        ),
        (
            "nodejs22.x-arm64",
            "`nodejs22.x-arm64` is not a target",
            "known are `python3.9` to `python3.15`, each with `-arm64` or `-x86_64`",
        ),
    ],
)
def test_a_text_that_names_no_target_is_explained(text: str, message: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        Target.parse(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.exit_status == 2


# --- facts


def test_the_facts_of_a_target() -> None:
    target = Target.parse("python3.13-arm64")
    assert (target.runtime, target.architecture, target.machine) == ("python3.13", Architecture.ARM64, "aarch64")
    assert (target.python, target.abi, target.os, target.glibc) == ((3, 13), "cp313", "al2023", (2, 34))
    assert target.image == "public.ecr.aws/lambda/python:3.13"
    assert Target.parse("python3.15-arm64").image == "public.ecr.aws/lambda/python:3.15-preview"
    assert target.limits["unzipped_bytes"] == 262_144_000
    assert target.limits["zip_upload_bytes"] == 50 * 1024 * 1024
    assert target.sys_path[:3] == ("/var/task", "/opt/python/lib/python3.13/site-packages", "/opt/python")
    assert target.environment["LD_LIBRARY_PATH"] == (
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    )
    assert target.environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


@pytest.mark.parametrize(
    ("runtime", "glibc", "os"),
    [("python3.7", "2.17", "al2018.03"), *((f"python3.{n}", "2.26", "al2") for n in range(8, 12))]
    + [(f"python3.{n}", "2.34", "al2023") for n in range(12, 16)],
)
def test_the_c_library_is_that_of_the_runtimes_system(runtime: str, glibc: str, os: str) -> None:
    target = Target.parse(f"{runtime}-x86_64")
    assert (str(target.glibc), target.os) == (glibc, os)


def test_libraries_the_runtime_has_and_lacks() -> None:
    al2 = Target.parse("python3.11-x86_64").provided
    assert {"libc.so.6", "libstdc++.so.6", "libexpat.so.1", "libpython3.11.so.1.0", "libsqlite3.so.0"} <= al2
    assert not al2 & {"libcurl.so.4", "libGL.so.1", "libgomp.so.1", "libatomic.so.1", "libssl.so.1.1", "libxml2.so.2"}
    al2023 = Target.parse("python3.13-arm64").provided
    assert {"libcurl.so.4", "libssl.so.3", "libffi.so.8", "libxml2.so.2", "ld-linux-aarch64.so.1"} <= al2023
    assert not al2023 & {"libexpat.so.1", "libnsl.so.1", "libatomic.so.1", "libGL.so.1", "libgomp.so.1", "libssl.so.10"}


def test_libraries_that_only_one_architecture_has() -> None:
    arm64, x86_64 = (Target.parse(f"python3.13-{architecture}").provided for architecture in ("arm64", "x86_64"))
    assert x86_64 - arm64 == {"ld-linux-x86-64.so.2", "libmvec.so.1", "libcrypt.so.1"}
    assert arm64 - x86_64 == {"ld-linux-aarch64.so.1"}


def test_symbol_versions_are_conservative_unless_asked() -> None:
    target = Target.parse("python3.13-arm64")
    assert target.symbol_versions == {
        "CXXABI": "1.3.13",
        "GCC": "11.0",
        "GLIBC": "2.34",
        "GLIBCXX": "3.4.29",
        "OPENSSL": "3.0.8",
        "ZLIB": "1.2.9",
    }
    assert target.symbol_versions_at("current")["GLIBCXX"] == "3.4.33"
    al2 = Target.parse("python3.11-x86_64")
    assert al2.symbol_versions_at("current") == al2.symbol_versions


@pytest.mark.parametrize(
    ("target", "version", "conservative", "current"),
    [
        ("python3.13-x86_64", "GLIBC_2.34", True, True),
        ("python3.13-x86_64", "GLIBC_2.35", False, False),
        ("python3.13-x86_64", "GLIBC_2.4", True, True),
        ("python3.13-x86_64", "GLIBC_PRIVATE", True, True),
        ("python3.13-x86_64", "GLIBC_ABI_DT_RELR", False, False),
        ("python3.11-x86_64", "GLIBC_2.27", False, False),
        ("python3.13-x86_64", "GLIBCXX_3.4.30", False, True),
        ("python3.11-x86_64", "GLIBCXX_3.4.26", False, False),
        ("python3.13-x86_64", "CXXABI_FLOAT128", True, True),
        ("python3.13-arm64", "CXXABI_FLOAT128", False, False),
        ("python3.13-arm64", "CXXABI_TM_1", True, True),
        # libgcc's versions have gaps that differ between the machines.
        ("python3.13-x86_64", "GCC_4.8.0", True, True),
        ("python3.13-arm64", "GCC_4.8.0", False, False),
        ("python3.13-arm64", "GCC_11.0", True, True),
        ("python3.13-x86_64", "GCC_11.0", False, False),
        ("python3.13-x86_64", "GCC_12.0.0", False, True),
        ("python3.13-arm64", "GCC_12.0.0", False, False),
        ("python3.11-x86_64", "ZLIB_1.2.9", False, False),
        ("python3.13-x86_64", "ZLIB_1.2.9", True, True),
        ("python3.13-x86_64", "KRB5_2.0", None, None),
        ("python3.13-x86_64", "libcrypto.so.10", None, None),
    ],
)
def test_a_symbol_version_is_defined_or_not_or_unknown(
    target: str, version: str, conservative: bool | None, current: bool | None
) -> None:
    parsed = Target.parse(target)
    assert (parsed.defines(version), parsed.defines(version, level="current")) == (conservative, current)


def test_preinstalled_distributions_are_those_of_the_last_dump() -> None:
    assert dict(Target.parse("python3.14-arm64").preinstalled) == {
        "awslambdaric": "4.0.1",
        "boto3": "1.42.97",
        "botocore": "1.42.97",
        "jmespath": "1.1.0",
        "pip": "26.1.2",
        "python-dateutil": "2.9.0.post0",
        "s3transfer": "0.16.0",
        "simplejson": "4.1.1",
        "six": "1.17.0",
        "snapshot-restore-py": "1.0.0",
        "urllib3": "2.7.0",
    }


@EVERY
def test_the_standard_library_never_has_tkinter_and_uuid_extensions(target: Target) -> None:
    assert "_ssl" in target.stdlib_extensions
    assert not {"_tkinter", "_uuid"} & target.stdlib_extensions


@EVERY
def test_sources_are_told(target: Target) -> None:
    assert {"dumps", "images"} <= target.sources.keys()
    assert all(target.sources.values())


# --- life


@pytest.mark.parametrize(
    ("runtime", "status", "note"),
    [
        (
            "python3.7",
            "deprecated",
            (
                "python3.7 is deprecated since 2023-12-04; creating functions is blocked since 2024-01-09, "
                "updating them from 2027-03-03"
            ),
        ),
        (
            "python3.10",
            "deprecated",
            "python3.10 is deprecated since 2026-10-31; creating functions is blocked from 2027-02-01",
        ),
        ("python3.11", "supported", None),
        ("python3.14", "supported", None),
        ("python3.15", "preview", "python3.15 is a preview: AWS may change it, not for production"),
    ],
)
def test_preview_and_deprecated_runtimes_say_so(runtime: str, status: str, note: str | None) -> None:
    table_of(as_of="2026-11-22", check_only=True)
    target = Target.parse(f"{runtime}-x86_64")
    assert (target.status, target.lifecycle_note()) == (status, note)


@pytest.mark.parametrize(
    ("as_of", "status"),
    [
        ("2026-10-30", "supported"),
        ("2026-10-31", "deprecated"),
        ("2027-03-02", "deprecated"),
        ("2027-03-03", "retired"),
    ],
)
def test_a_status_is_that_of_the_tables_day(as_of: str, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(as_of=as_of)
    monkeypatch.setattr(target_module, "_table", lambda: table)
    target = Target.parse("python3.10-arm64")
    assert target.status == status
    if status == "retired":
        assert target.lifecycle_note() == "python3.10 is retired: functions cannot be updated since 2027-03-03"
    assert (target.released, target.deprecated, target.block_create, target.block_update) == (
        "2023-04-18",
        "2026-10-31",
        "2027-02-01",
        "2027-03-03",
    )


def table_of(*, as_of: str, check_only: bool = False) -> Any:
    table = json.loads(resources.files("manylambda").joinpath("data/runtimes.json").read_text(encoding="utf-8"))
    if check_only:
        # The expectations above are of this day; a refreshed table asks for new ones.
        assert table["as_of"] == as_of
    return {**table, "as_of": as_of}


# --- tags


@EVERY
def test_tags_are_those_of_the_runtimes_own_installer_less_linux(target: Target) -> None:
    interpreter = "cp{}{}".format(*target.python)
    platforms = list(dict.fromkeys(tag.rpartition("-")[2] for tag in target.tag_strings()))[:-1]
    expected = (
        *cpython_tags(target.python, [target.abi], platforms),
        *compatible_tags(target.python, interpreter, platforms),
    )
    assert tuple(target.tags()) == expected
    assert target.tag_strings() == tuple(map(str, expected))
    assert not any("-linux_" in tag or "musllinux" in tag for tag in target.tag_strings())


@pytest.mark.parametrize(
    ("target", "count"),
    [
        # What the interpreters of the base images list, less one `linux_*` tag a row (pants' complete platforms).
        ("python3.7-x86_64", 282),
        ("python3.11-x86_64", 639),
        ("python3.13-arm64", 567),
    ],
)
def test_there_are_as_many_tags_as_in_the_base_image(target: str, count: int) -> None:
    assert len(set(Target.parse(target).tag_strings())) == len(Target.parse(target).tag_strings()) == count


def test_the_first_and_last_tags_of_arm64() -> None:
    tags = Target.parse("python3.13-arm64").tag_strings()
    assert tags[:2] == ("cp313-cp313-manylinux_2_34_aarch64", "cp313-cp313-manylinux_2_33_aarch64")
    assert tags[17:21] == (
        "cp313-cp313-manylinux_2_17_aarch64",
        "cp313-cp313-manylinux2014_aarch64",
        "cp313-abi3-manylinux_2_34_aarch64",
        "cp313-abi3-manylinux_2_33_aarch64",
    )
    assert tags[-16:-13] == ("cp313-none-any", "py313-none-any", "py3-none-any")
    assert tags[-1] == "py30-none-any"


def test_the_older_names_stand_where_their_glibc_stands() -> None:
    tags = Target.parse("python3.11-x86_64").tag_strings()
    platforms = [tag.removeprefix("cp311-cp311-") for tag in tags if tag.startswith("cp311-cp311-")]
    assert platforms == [
        *(f"manylinux_2_{minor}_x86_64" for minor in range(26, 16, -1)),
        "manylinux2014_x86_64",
        *(f"manylinux_2_{minor}_x86_64" for minor in range(16, 11, -1)),
        "manylinux2010_x86_64",
        *(f"manylinux_2_{minor}_x86_64" for minor in range(11, 4, -1)),
        "manylinux1_x86_64",
    ]


@pytest.mark.parametrize(
    ("target", "wheel", "accepted"),
    [
        ("python3.11-x86_64", "a-1-cp311-cp311-manylinux_2_26_x86_64.whl", True),
        ("python3.11-x86_64", "a-1-cp311-cp311-manylinux_2_27_x86_64.whl", False),
        ("python3.11-x86_64", "a-1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", False),
        ("python3.11-x86_64", "a-1-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl", True),
        ("python3.13-arm64", "a-1-cp313-cp313-manylinux_2_34_aarch64.whl", True),
        ("python3.13-arm64", "a-1-cp313-cp313-manylinux_2_35_aarch64.whl", False),
        ("python3.13-arm64", "a-1-cp313-cp313-manylinux_2_34_x86_64.whl", False),
        ("python3.13-arm64", "a-1-cp313-cp313-manylinux_2_12_aarch64.whl", False),
        ("python3.13-arm64", "a-1-cp313-cp313-linux_aarch64.whl", False),
        ("python3.13-arm64", "a-1-cp313-cp313-musllinux_1_2_aarch64.whl", False),
        ("python3.13-arm64", "a-1-cp313-cp313t-manylinux_2_28_aarch64.whl", False),
        ("python3.15-arm64", "a-1-cp315-abi3t-manylinux_2_28_aarch64.whl", False),
        ("python3.15-arm64", "a-1-cp315-abi3.abi3t-manylinux_2_28_aarch64.whl", True),
        ("python3.13-arm64", "a-1-cp312-cp312-manylinux_2_28_aarch64.whl", False),
        ("python3.13-arm64", "a-1-cp39-abi3-manylinux_2_28_aarch64.whl", True),
        ("python3.13-arm64", "a-1-cp313-abi3-manylinux_2_28_aarch64.whl", True),
        ("python3.13-arm64", "a-1-cp314-abi3-manylinux_2_28_aarch64.whl", False),
        ("python3.13-arm64", "a-1-py3-none-manylinux2014_aarch64.whl", True),
        ("python3.13-arm64", "a-1-py2.py3-none-any.whl", True),
        ("python3.13-arm64", "a-1-py314-none-any.whl", False),
        ("python3.13-arm64", "a-1-py2-none-any.whl", False),
        ("python3.13-arm64", "a-1-pp311-pypy311_pp73-manylinux_2_28_aarch64.whl", False),
        ("python3.7-x86_64", "a-1-cp37-cp37m-manylinux1_x86_64.whl", True),
    ],
)
def test_a_wheel_is_accepted_exactly_if_the_runtime_loads_it(target: str, wheel: str, accepted: bool) -> None:
    assert accepts(target, wheel) is accepted


def test_the_better_wheel_has_the_lower_rank() -> None:
    target = Target.parse("python3.13-x86_64")
    wheels = [
        "a-1-cp313-cp313-manylinux_2_28_x86_64.whl",
        "a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1-cp311-abi3-manylinux_2_34_x86_64.whl",
        "a-1-py3-none-manylinux_2_17_x86_64.whl",
        "a-1-py3-none-any.whl",
    ]
    ranks = [target.rank(parse_wheel_filename(wheel)[3]) for wheel in wheels]
    assert ranks == sorted(rank for rank in ranks if rank is not None)
    assert ranks[-1] == target.tag_ranks()["py3-none-any"]


# --- markers


@EVERY
def test_the_marker_environment_is_whole(target: Target) -> None:
    assert target.markers.keys() == default_environment().keys()
    assert target.marker_environment() == target.markers


def test_the_marker_environment_of_a_target() -> None:
    assert dict(Target.parse("python3.11-arm64").markers) == {
        "implementation_name": "cpython",
        "implementation_version": "3.11.14",
        "os_name": "posix",
        "platform_machine": "aarch64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": "3.11.14",
        "python_version": "3.11",
        "sys_platform": "linux",
    }


@pytest.mark.parametrize(
    ("target", "marker", "holds"),
    [
        ("python3.11-arm64", 'python_full_version < "3.11.3"', False),  # redis asks for async-timeout
        ("python3.11-arm64", 'python_version < "3.11"', False),
        ("python3.9-arm64", 'python_version < "3.10"', True),
        ("python3.12-x86_64", 'python_version >= "3.13"', False),
        ("python3.13-x86_64", 'python_version >= "3.13"', True),  # legacy-cgi, audioop-lts
        ("python3.13-arm64", 'platform_machine == "aarch64"', True),
        ("python3.13-arm64", 'platform_machine == "arm64"', False),
        ("python3.13-arm64", 'sys_platform == "win32" or os_name == "nt"', False),
        ("python3.13-arm64", 'platform_release >= "5"', False),
        ("python3.15-arm64", 'python_full_version >= "3.15"', True),
        ("python3.15-arm64", 'python_full_version < "3.15"', False),
        ("python3.15-arm64", 'python_version < "3.15"', False),
    ],
)
def test_markers_hold_as_in_the_function(
    target: str, marker: str, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    absurd = dict.fromkeys(default_environment(), "0")
    monkeypatch.setattr("packaging.markers.default_environment", lambda: absurd)
    environment: Mapping[str, str] = Target.parse(target).markers
    assert Marker(marker).evaluate(environment) is holds


# --- output


def test_the_json_of_the_targets_is_what_its_schema_says() -> None:
    schema = json.loads(resources.files("manylambda").joinpath("data/targets-output.schema.json").read_text("utf-8"))
    document = {"version": 1, "targets": [target.to_dict() for target in all_targets()]}
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(document)))


def test_the_json_of_one_target_has_the_keys_of_the_contract() -> None:
    document = Target.parse("python3.10-arm64").to_dict()
    contract = "target runtime architecture machine python os glibc status deprecated tags markers provided"
    assert [key for key in document if key in contract.split()] == contract.split()
    assert {"symbol_versions", "preinstalled"} <= document.keys()
    assert (document["target"], document["python"], document["glibc"]) == ("python3.10-arm64", "3.10", "2.26")
    assert (document["status"], document["deprecated"]) == ("deprecated", "2026-10-31")
    assert document["symbol_versions"] == {
        level: {
            "CXXABI": "1.3.11",
            "GCC": "7.0.0",
            "GLIBC": "2.26",
            "GLIBCXX": "3.4.24",
            "OPENSSL": "1.0.2",
            "ZLIB": "1.2.5.2",
        }
        for level in ("conservative", "current")
    }


# --- the host, and the cost

ABSURD_HOST = """
import json, os, platform, sys, sysconfig, time
sys.platform = "plan9"
sys.version_info = (9, 9, 9, "final", 0)
platform.machine = platform.system = platform.release = platform.python_version = lambda: "absurd"
platform.libc_ver = lambda *_: ("musl", "9.9")
sysconfig.get_platform = lambda: "plan9-pdp11"
sysconfig.get_config_var = lambda _: "absurd"
if hasattr(os, "confstr"):
    os.confstr = lambda _: "glibc 9.99"
time.time = lambda: 4e9
"""
PRINT_ALL = "from manylambda.target import all_targets; print(json.dumps([t.to_dict() for t in all_targets()]))"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_nothing_depends_on_the_host_or_the_clock() -> None:
    assert json.loads(run_python(ABSURD_HOST + PRINT_ALL)) == [target.to_dict() for target in all_targets()]


def test_a_target_costs_no_heavy_import() -> None:
    loaded = run_python(
        "import sys; from manylambda.target import Target; t = Target.parse('python3.13-arm64');"
        "t.tag_strings(), t.markers, t.provided, t.rank(['py3-none-any']), t.to_dict(); print(*sys.modules)"
    ).split()
    assert not {"packaging", "pathlib", "platform", "sysconfig", "urllib", "difflib", "jsonschema"} & set(loaded)
