"""Rules about container images: what Lambda would refuse, and what an image would start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from image.saved import Hard, Layout, Link, docker_save, layer, layout, system
from manylambda.audits import Severity, libraries
from manylambda.errors import RequestError
from manylambda.pipeline.audit import examine
from manylambda.target import Target
from rules.packages import elf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from manylambda.audits import Finding, Report

X86 = Target.parse("python3.13-x86_64")
CONFIG: Mapping[str, Any] = {"Entrypoint": ["/lambda-entrypoint.sh"], "Cmd": ["app.handler"], "WorkingDir": "/var/task"}
BASE = layer(
    {
        "lambda-entrypoint.sh": b"#!/bin/sh\n",
        "var/runtime/bootstrap": b"",
        "var/lang/bin/python3.13": b"",
        "var/lang/bin/python3": Link("python3.13"),
    }
)
APP = layer({"var/task/app.py": b"def handler(event, context): ...\n"})
ELF = "native.cpython-313-x86_64-linux-gnu.so"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


def looked_at(path: Path, target: Target = X86, **given: Any) -> Report:
    return examine(path, target, offline=True, **given).report


def findings(path: Path, rule: str, target: Target = X86) -> list[Finding]:
    return [finding for finding in looked_at(path, target).findings if finding.rule == rule]


def only(path: Path, rule: str, target: Target = X86) -> Finding:
    report = looked_at(path, target)
    assert [finding.rule for finding in report.findings] == [rule]
    return report.findings[0]


def started(path: Path, config: Mapping[str, Any], *layers: bytes) -> Finding:
    layout(*(layers or (BASE, APP)), config={**CONFIG, **config}).tar(path)
    return only(path, "image-entry-point")


def test_an_image_as_lambda_wants_it_has_no_finding(path: Path) -> None:
    for saved in (
        layout(BASE, APP, config=CONFIG).tar(path),
        docker_save(path, ("a", [BASE, APP], {"config": CONFIG})),
    ):
        report = looked_at(saved)
        assert report.findings == ()
        assert (report.files, report.unzipped_size) == (1, len(BASE) + len(APP))


def test_an_image_for_another_machine_or_system_is_told(path: Path) -> None:
    layout(BASE, APP, config=CONFIG, architecture="arm64").tar(path)
    finding = only(path, "wrong-machine")
    assert finding.severity is Severity.ERROR
    assert finding.message == "the image is for `linux/arm64`, the target is `linux/amd64`"
    assert finding.hint == "build it with `--platform linux/amd64`, or give the function the other architecture"


# image-manifest


def test_layers_that_are_not_compressed_by_gzip_are_told_in_a_layout_only(path: Path) -> None:
    plain = "application/vnd.oci.image.layer.v1.tar"
    made = layout(BASE, APP, packed=[BASE, APP], media_type=plain, config=CONFIG)
    finding = only(made.tar(path), "image-manifest")
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        f"2 image layers are of the type `{plain}`: only those compressed by gzip are known to run on Lambda"
    )
    assert findings(made.tar(path, manifest__json=b"[]"), "image-manifest") == []


def test_a_manifest_that_lambda_does_not_take_is_told(path: Path) -> None:
    made = Layout()
    one = made.image([BASE, APP], config=CONFIG)
    document = made.blobs[one["digest"]].replace(b"vnd.oci.image.manifest.v1+json", b"vnd.example.v9+json")
    made.top = [made.blob(document, "application/vnd.example.v9+json")]
    finding = only(made.tar(path), "image-manifest")
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "the manifest is of the type `application/vnd.example.v9+json`: Lambda takes Docker's schema 2 and OCI 1.0"
    )


def test_attestations_and_other_platforms_are_noted(path: Path) -> None:
    made = Layout()
    one = made.image([BASE, APP], config=CONFIG)
    statement = {**made.image([]), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    made.top = [made.index(one, statement)]
    finding = only(made.tar(path), "image-manifest")
    assert finding.severity is Severity.NOTE
    assert finding.message == (
        "attestations lie beside the image: pushed with them it is an index, which Lambda refuses"
    )
    assert finding.hint == "build with `docker buildx build --provenance=false --sbom=false ...`"
    made.top = [made.index(one, made.image([BASE, APP], config=CONFIG, architecture="arm64"))]
    finding = only(made.tar(path), "image-manifest")
    assert finding.message == (
        "the image is one of an index of platforms: a function takes the manifest of one, not the index"
    )


# image-entry-point


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Entrypoint": None}, "the image has no ENTRYPOINT: `app.handler` would be run as a program"),
        (
            {"Entrypoint": None, "Cmd": None},
            "the image has neither ENTRYPOINT nor CMD: nothing would be started",
        ),
        ({"Entrypoint": ["/nowhere/x", "a"]}, "the program of ENTRYPOINT is not in the image: `/nowhere/x`"),
        ({"Cmd": None}, "the image has no CMD: no handler is named"),
        (
            {"Cmd": ["/bin/sh", "-c", "app.handler"]},
            "CMD has 3 words, the entry point takes one: `/bin/sh -c app.handler`",
        ),
    ],
)
def test_what_would_start_nothing_is_told(path: Path, config: Mapping[str, Any], message: str) -> None:
    finding = started(path, config)
    assert (finding.severity, finding.message) == (Severity.WARNING, message)


def test_another_python_than_the_target_is_told(path: Path) -> None:
    other = layer({"lambda-entrypoint.sh": b"", "var/runtime/x": b"", "var/lang/bin/python3.12": b""})
    finding = started(path, {}, other, APP)
    assert finding.severity is Severity.ERROR
    assert finding.message == "the image has Python 3.12, the target is python3.13"
    assert finding.hint is not None
    assert finding.hint.startswith("build from `public.ecr.aws/lambda/python:3.13`")


def test_an_image_of_another_base_is_noted(path: Path) -> None:
    python = layer({"usr/local/bin/python3.13": b"", "usr/local/bin/python": Link("python3.13")})
    app = layer({"function/app.py": b"def handler(event, context): ...\n"})
    config = {"Entrypoint": ["/usr/local/bin/python", "-m", "awslambdaric"], "WorkingDir": "/function"}
    finding = started(path, config, python, app)
    assert finding.severity is Severity.NOTE
    assert finding.message == (
        "the image is not made from Lambda's for Python: its files were judged by the libraries of python3.13, "
        "which it need not have"
    )
    assert [one.rule for one in looked_at(path, handler="app.none").findings] == [
        "handler-missing",
        "image-entry-point",
    ]


# What of an image is looked at.


def test_the_handler_of_cmd_is_looked_for_unless_another_is_given(path: Path) -> None:
    layout(BASE, APP, config={**CONFIG, "Cmd": ["app.other"]}).tar(path)
    assert only(path, "handler-missing").message == (
        "the handler `app.other` needs `other`, which `app.py` does not define"
    )
    assert looked_at(path, handler="app.handler").findings == ()


def test_a_native_file_is_found_wherever_it_would_run(path: Path) -> None:
    site = "var/lang/lib/python3.13/site-packages/"
    for folder in ("var/task/", "opt/python/", site):
        layout(BASE, APP, layer({f"{folder}{ELF}": elf("aarch64.so")}), config=CONFIG).tar(path)
        finding = only(path, "wrong-machine")
        assert finding.path == f"/{folder}{ELF}".removeprefix("/var/task/")
    layout(BASE, APP, layer({f"usr/lib/{ELF}": elf("aarch64.so")}), config=CONFIG).tar(path)
    assert looked_at(path).findings == ()


def test_a_library_of_the_package_is_found_through_links_out_of_it(path: Path) -> None:
    natives: dict[str, bytes | Link | Hard | None] = {
        f"var/task/{ELF}": Link("/mnt/native.so"),
        "mnt/native.so": elf("needs_used_runpath.so"),
        "opt/lib/libused.so.1": elf("libused.so.1"),
    }
    layout(BASE, APP, layer(natives), config=CONFIG).tar(path)
    report = looked_at(path)
    assert [finding.rule for finding in report.findings if finding.severity is Severity.ERROR] == []
    assert report.shared_objects == 2
    layout(BASE, APP, layer({**natives, "opt/lib/libused.so.1": b""}), config=CONFIG).tar(path)
    assert "library-missing" in {finding.rule for finding in looked_at(path).findings}


# The image's own libraries judge.


def of_image(path: Path, module: str, *layers: bytes, **config: Any) -> list[tuple[str, str | None, str]]:
    app = layer({f"var/task/{ELF}": elf(module)})
    layout(BASE, APP, app, *layers, config={**CONFIG, **config}).tar(path)
    return [(one.rule, one.path, one.message) for one in looked_at(path).findings]


def test_the_glibc_of_the_image_judges_and_not_that_of_the_runtime(path: Path) -> None:
    assert of_image(path, "relr.so", system("2.41")) == []
    assert looked_at(path).image_glibc == "2.41"
    assert of_image(path, "glibc_2_34.so", system("2.31", libc="libversioned_1.so.1")) == [
        (
            "glibc-too-new",
            ELF,
            "needs `GLIBC_2.34` (for `dlopen`, `pthread_create`, `puts`), the image has glibc 2.31",
        )
    ]
    assert looked_at(path).findings[0].hint == (
        "it was built on a newer system: build it for x86_64 with glibc 2.31 or older"
    )


def test_an_image_without_glibc_is_judged_by_the_runtime(path: Path) -> None:
    (found,) = of_image(path, "relr.so")
    assert found == ("glibc-too-new", ELF, "needs `GLIBC_ABI_DT_RELR`, the runtime has glibc 2.34")
    assert looked_at(path).image_glibc is None
    other = layer({"usr/lib64/libc.so.6": elf("aarch64.so") + b"stable release version 2.41."})
    assert of_image(path, "relr.so", other) == [found]


def test_a_library_of_the_image_is_there_and_one_it_lacks_is_missing(path: Path) -> None:
    ((rule, where, message),) = of_image(path, "needs_used.so", system())
    assert (rule, where) == ("library-missing", ELF)
    assert message == "needs `libused.so.1`, which the image does not have where its loader looks"
    assert looked_at(path).findings[0].hint == (
        "install the package of the base's system that has `libused.so.1`, or choose a build that brings it"
    )
    assert of_image(path, "needs_used.so", system(libused__so__1="libused.so.1")) == []
    # A later layer removes it.
    gone = layer({"usr/lib64/.wh.libused.so.1": b""})
    assert [one[0] for one in of_image(path, "needs_used.so", system(libused__so__1="libused.so.1"), gone)] == [
        "library-missing"
    ]


def test_a_library_of_the_image_of_another_machine_is_passed_over(path: Path) -> None:
    found = of_image(path, "needs_used.so", system(libused__so__1="aarch64.so"))
    assert [one[0] for one in found] == ["library-missing"]


def test_the_folders_of_ld_so_conf_and_of_the_environment_are_searched(path: Path) -> None:
    library: dict[str, bytes | Link | Hard | None] = {"usr/local/own/libused.so.1": elf("libused.so.1")}
    assert [one[0] for one in of_image(path, "needs_used.so", system(), layer(library))] == ["library-missing"]
    told = {
        "etc/ld.so.conf": b"include ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/own.conf": b"# ours\n/usr/local/own\n",
    }
    assert of_image(path, "needs_used.so", system(), layer({**library, **told})) == []
    assert of_image(path, "needs_used.so", system(), layer({**library, "etc/ld.so.conf": b"/usr/local/own"})) == []
    variable = {"Env": ["LD_LIBRARY_PATH=/var/lang/lib:/usr/local/own"]}
    assert of_image(path, "needs_used.so", system(), layer(library), **variable) == []


def test_what_a_library_of_the_image_needs_is_needed(path: Path) -> None:
    (rule, where, message), _ = of_image(path, "needs_used.so", system(libused__so__1="needs_versioned.so"))
    assert (rule, where) == ("library-missing", "/lib64/libused.so.1")
    assert message == (
        "needs `libversioned.so.1`, which the image does not have where its loader looks "
        f"(loaded by {ELF} -> /lib64/libused.so.1)"
    )


def test_the_symbol_versions_of_the_images_library_count(path: Path) -> None:
    assert of_image(path, "needs_versioned.so", system(libversioned__so__1="libversioned_2.so.1")) == []
    assert of_image(path, "needs_versioned.so", system(libversioned__so__1="libversioned_1.so.1")) == [
        (
            "symbol-version-missing",
            ELF,
            "needs `USED_2.0` of `libversioned.so.1` (for `used`), which the image's does not define",
        )
    ]


def test_what_the_environment_puts_first_shadows_a_bundled_library(path: Path) -> None:
    bundled = layer({"var/used.libs/x": b"", "var/task/lib/libz.so.1": elf("libz.so.1")})
    own = system(libz__so__1="libz.so.1")
    first = {"Env": ["LD_LIBRARY_PATH=/usr/lib64:/var/task/lib"]}
    assert of_image(path, "needs_z_runpath.so", bundled, own, **first) == [
        (
            "library-shadowed",
            "lib/libz.so.1",
            f"is not what `{ELF}` gets: the image's own `libz.so.1` comes first",
        )
    ]
    last = {"Env": ["LD_LIBRARY_PATH=/var/task/lib:/usr/lib64"]}
    assert of_image(path, "needs_z_runpath.so", bundled, own, **last) == []


def test_the_folder_of_the_function_is_searched_where_the_environment_names_it(path: Path) -> None:
    app = layer(
        {
            "function/app.py": b"def handler(event, context): ...\n",
            f"function/{ELF}": elf("needs_used.so"),
            "function/own/libused.so.1": elf("libused.so.1"),
        }
    )
    config = {**CONFIG, "WorkingDir": "/function", "Env": ["LD_LIBRARY_PATH=/function/own"]}
    layout(BASE, system(), app, config=config).tar(path)
    assert looked_at(path).findings == ()


def test_only_the_libraries_that_are_needed_are_read(path: Path) -> None:
    needed = system(libused__so__1="needs_versioned.so", libversioned__so__1="libversioned_2.so.1")
    more = layer({f"usr/lib64/libmore{number}.so.1": elf("libz.so.1") for number in range(9)})
    layout(BASE, APP, layer({f"var/task/{ELF}": elf("needs_used.so")}), needed, more, config=CONFIG).tar(path)
    subject = examine(path, X86, offline=True).subject
    assert subject.system is not None
    names = {"libc.so.6", "libused.so.1", "libversioned.so.1"}
    assert set(subject.system.files) == {f"{folder}/{name}" for folder in ("/lib64", "/usr/lib64") for name in names}
    assert subject.libraries is not None
    defined = subject.libraries.defined(subject.system)
    assert defined is not None
    assert "used" in defined


def test_what_takes_too_many_walks_is_taken_to_be_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = system(libused__so__1="needs_versioned.so", libversioned__so__1="libversioned_1.so.1")
    assert "symbol-version-missing" in {one[0] for one in of_image(path, "needs_used.so", files)}
    monkeypatch.setattr(libraries, "_MAX_WALKS", 0)
    assert of_image(path, "needs_used.so", files) == []


def test_a_wheel_for_a_newer_glibc_is_right_where_the_image_has_it(path: Path) -> None:
    tag = b"Tag: cp313-cp313-manylinux_2_36_x86_64\n"
    wheel = layer({"var/task/one-1.dist-info/METADATA": metadata("one"), "var/task/one-1.dist-info/WHEEL": tag})
    assert of_image(path, "relr.so", wheel, system("2.36")) == []
    assert [one[0] for one in of_image(path, "plain.so", wheel, system("2.34"))] == ["wheel-tag-mismatch"]


def metadata(name: str, *requires: str, version: str = "1") -> bytes:
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("prefix", ["var/lang", "usr/local"])
def test_what_pip_put_into_the_interpreter_is_there(path: Path, prefix: str) -> None:
    here, there = "var/task/one-1.dist-info/METADATA", f"{prefix}/lib/python3.13/site-packages/two-1.dist-info/METADATA"
    one = layer({here: metadata("one", "two>=2")})
    layout(BASE, APP, one, config=CONFIG).tar(path)
    assert only(path, "distribution-missing").message == "needs `two>=2`, which is not in the package"
    layout(BASE, APP, one, layer({there: metadata("two", version="2")}), config=CONFIG).tar(path)
    assert looked_at(path).findings == ()
    layout(BASE, APP, one, layer({there: metadata("two", "three", version="2")}), config=CONFIG).tar(path)
    finding = only(path, "distribution-missing")
    assert (finding.distribution, finding.message) == ("two", "needs `three`, which is not in the package")


def test_what_the_base_brought_is_there_but_not_judged(path: Path) -> None:
    site = "var/lang/lib/python3.13/site-packages/"
    launcher = b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0\x64\x86" + bytes(200)
    files: dict[str, bytes | Link | Hard | None] = {}
    for name in ("pip", "boto3", "theirs"):
        files[f"{site}{name}/t64.exe"] = launcher
        files[f"{site}{name}-1.dist-info/METADATA"] = metadata(name)
        files[f"{site}{name}-1.dist-info/RECORD"] = f"{name}/t64.exe,,\n".encode()
    needer = layer({"var/task/one-1.dist-info/METADATA": metadata("one", "boto3<2")})
    layout(BASE, APP, needer, layer(files), config=CONFIG).tar(path)
    assert [(one.rule, one.distribution) for one in looked_at(path).findings] == [("foreign-binary", "theirs")]
    other = {name.replace("var/lang", "usr/local"): data for name, data in files.items()}
    layout(APP, layer(other), config={**CONFIG, "Entrypoint": ["awslambdaric"]}).tar(path)
    assert {one.distribution for one in findings(path, "foreign-binary")} == {"boto3", "theirs"}


def test_the_interpreter_of_another_version_does_not_count(path: Path) -> None:
    there = "var/lang/lib/python3.12/site-packages/two-1.dist-info/METADATA"
    both = layer({"var/task/one-1.dist-info/METADATA": metadata("one", "two"), there: metadata("two")})
    layout(BASE, APP, both, config=CONFIG).tar(path)
    assert only(path, "distribution-missing").distribution == "one"


def test_a_file_that_the_function_may_not_read_is_told(path: Path) -> None:
    layout(BASE, layer({"var/task/app.py": b"def handler(e, c): ...\n"}, mode=0o600), config=CONFIG).tar(path)
    finding = only(path, "file-mode")
    assert (finding.path, finding.severity) == ("app.py", Severity.ERROR)


def test_names_that_no_tree_takes_are_told_and_left_out(path: Path) -> None:
    layout(BASE, APP, layer({"var/task/a\\b.py": b"", "var/task/\x07": b""}), config=CONFIG).tar(path)
    assert {one.path for one in findings(path, "path-unsafe")} == {"a\\b.py", "\\x07"}


def test_an_image_over_the_limit_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {**X86.limits, "image_bytes": 1000}
    monkeypatch.setattr(Target, "limits", property(lambda _: limits))
    layout(BASE, APP, config=CONFIG).tar(path)
    size = len(BASE) + len(APP)
    assert only(path, "unzipped-too-large").message == (
        f"the image has {size:,} bytes uncompressed, all layers counted; the limit is 1,000"
    )


def test_layers_are_refused_beside_an_image(path: Path) -> None:
    layout(BASE, APP, config=CONFIG).tar(path)
    with pytest.raises(RequestError) as raised:
        looked_at(path, layers=[path])
    assert raised.value.message == "a function from a container image takes no layers"
