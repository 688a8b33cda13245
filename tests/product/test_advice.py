"""Hints name the release that would run, when an index can be asked."""

from __future__ import annotations

import socket
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import Target, audit
from manylambda.pipeline import advice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from product.conftest import Run
    from product.loopback import Index

ELF = Path(__file__).parent.parent / "elf" / "data"
TARGET = Target.parse("python3.11-x86_64")
OTHER = "cp312-cp312-manylinux_2_17_x86_64"
FITTING = "cp311-cp311-manylinux_2_17_x86_64"
INSTALL = "install the wheels for the target: `manylambda build -t python3.11-x86_64` does"

SAME = f"{INSTALL}; the same release has a wheel for python3.11-x86_64: "
NEWEST = "`demo==0.9` is the newest release with a wheel for python3.11-x86_64"


def package(
    folder: Path,
    *names: str,
    tag: str = OTHER,
    library: str = "plain.so",
    suffix: str = "cpython-312-x86_64-linux-gnu",
    version: str = "1.0",
    more: Sequence[str] = (),
) -> Path:
    """Make a zip as `pip install --target` and `zip -r` would, of distributions with an extension module each."""
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names or ("demo",):
            info = f"{name}-{version}.dist-info"
            files = [f"{name}/_speed.{suffix}.so", *(f"{info}/{one}" for one in ("METADATA", "WHEEL", "RECORD", *more))]
            contents: dict[str, str | bytes] = {
                files[0]: (ELF / library).read_bytes(),
                f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
                f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
                f"{info}/RECORD": "".join(f"{file},,\n" for file in files),
            }
            for file in files:
                member = zipfile.ZipInfo(file)
                member.external_attr = 0o644 << 16
                archive.writestr(member, contents.get(file, "{}"))
    return path


def hints(path: Path, rule: str, *, offline: bool = False) -> list[str | None]:
    found = audit(path, TARGET, offline=offline).findings
    return [finding.hint for finding in found if finding.rule == rule]


def test_the_newest_release_with_a_wheel_for_the_target_is_named(tmp_path: Path, index: Index) -> None:
    index.wheel("demo", "0.8", tags=[FITTING])
    index.wheel("demo", "0.9", tags=[FITTING])
    index.wheel("demo", "1.0", tags=["cp311-cp311-manylinux_2_28_x86_64"])
    index.wheel("demo", "1.1", tags=["cp311-cp311-linux_x86_64", "cp311-cp311-musllinux_1_2_x86_64"])
    index.wheel("demo", "1.2", tags=[FITTING], requires_python=">=3.12")
    index.wheel("demo", "2.0rc1", tags=[FITTING])
    assert hints(package(tmp_path), "abi-tag-mismatch") == [NEWEST]
    assert hints(package(tmp_path), "wheel-tag-mismatch") == [NEWEST]
    assert index.requests == {"/simple/demo/": 2}


def test_the_same_release_is_named_where_it_has_a_wheel(tmp_path: Path, index: Index) -> None:
    index.wheel("demo", "1.0", tags=["cp311-cp311-manylinux_2_12_x86_64"])
    index.wheel("demo", "1.0", tags=[FITTING])
    index.wheel("demo", "2.0", tags=[FITTING])
    assert hints(package(tmp_path), "abi-tag-mismatch") == [f"{SAME}`demo-1.0-{FITTING}.whl`"]
    assert hints(package(tmp_path, library="aarch64_glibc_2_34.so"), "wrong-machine") == [
        f"{SAME}`demo-1.0-{FITTING}.whl`"
    ]


def test_other_ways_out_that_a_hint_has_stay(tmp_path: Path, index: Index) -> None:
    index.wheel("demo", "0.9", tags=[FITTING])
    made = package(
        tmp_path, library="glibc_2_34.so", tag="cp311-cp311-linux_x86_64", suffix="cpython-311-x86_64-linux-gnu"
    )
    assert hints(made, "glibc-too-new") == [f"{NEWEST}; or use python3.12 or newer, which has glibc 2.34"]


def test_a_wheel_that_is_called_more_than_it_says_inside_is_what_it_is_called(
    run: Run, index: Index, project: Path
) -> None:
    """lightgbm 4.6.0 is called `manylinux_2_28_x86_64`; who takes that for a fault is sent to the very same file."""
    files = {"demo/_speed.cpython-311-x86_64-linux-gnu.so": (ELF / "plain.so").read_bytes()}
    wheel = index.wheel("demo", "1.0", files, tags=["cp311-cp311-linux_x86_64"])
    wheel.rename(wheel.with_name(f"demo-1.0-{FITTING}.whl"))
    (project / "requirements.txt").write_text("demo\n", encoding="utf-8")
    made = run("build", "-t", "python3.11-x86_64", "--format", "json", cwd=project).artifact
    assert made["findings"] == []
    (finding,) = audit(Path(made["path"]), TARGET).findings
    assert (finding.rule, finding.severity.value) == ("wheel-tag-mismatch", "warning")
    assert finding.hint is not None
    assert finding.hint.startswith("nothing, where its name said more than that")
    assert "has a wheel" not in finding.hint


def test_a_wheel_that_breaks_its_promise_is_not_advised_again(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", "0.9", tags=[FITTING])
    files = {"demo/_speed.cpython-311-x86_64-linux-gnu.so": (ELF / "glibc_2_34.so").read_bytes()}
    wheel = index.wheel("demo", "1.0", files, tags=[FITTING])
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")

    def hint(*command: str) -> str:
        ran = run(*command, "-t", "python3.11-x86_64", "--format", "json", cwd=project, status=1)
        document = ran.artifact if command[0] == "build" else ran.json
        return str(next(one["hint"] for one in document["findings"] if one["rule"] == "glibc-too-new"))

    promise = NEWEST.replace("newest release", "newest other release")
    for command in (("build", "."), ("audit", "pylock.toml")):
        assert hint(*command) == f"{promise}; or use python3.12 or newer, which has glibc 2.34"
    (index.folder / f"demo-0.9-{FITTING}.whl").unlink()
    assert hint("build", ".").startswith("choose a release with a wheel for manylinux_2_26 or older: ")


def test_an_offline_build_that_is_refused_asks_nobody(run: Run, index: Index, project: Path) -> None:
    files = {"demo/_speed.cpython-311-x86_64-linux-gnu.so": (ELF / "glibc_2_34.so").read_bytes()}
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo", "1.0", files)), encoding="utf-8")
    flags = ("-t", "python3.11-x86_64", "--format", "json")
    run("build", ".", *flags, cwd=project, status=1)
    asked = index.requests.copy()
    assert asked["/simple/demo/"] == 1
    run("build", ".", *flags, "--offline", cwd=project, status=1)
    assert index.requests == asked


def test_where_no_release_has_a_wheel_the_source_is_named(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheel("demo", "1.0", tags=[OTHER])
    assert hints(package(tmp_path), "abi-tag-mismatch") == ["no release has a wheel for python3.11-x86_64"]
    page = tmp_path / "links.html"
    page.write_text(
        '<a href="demo-0.9.tar.gz">x</a>'
        f'<a href="demo-0.9-{FITTING}.whl" data-yanked="broken">x</a>'
        f'<a href="demo-1.0-{OTHER}.whl">x</a>',
        encoding="utf-8",
    )
    monkeypatch.setenv("UV_FIND_LINKS", str(page))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    assert hints(package(tmp_path), "abi-tag-mismatch") == [
        "no release has a wheel for python3.11-x86_64; `manylambda build --allow-sdist demo` builds it from source"
    ]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("case", ["unknown", "unreachable", "silent", "unreadable", "odd", "offline"])
def test_an_index_that_does_not_help_changes_nothing(
    tmp_path: Path, index: Index, silent: socket.socket, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    made = package(tmp_path)
    if case == "unreachable":
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    elif case == "silent":
        monkeypatch.setitem(advice._PATIENCE, "MANYLAMBDA_HTTP_TIMEOUT", "0.3")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
    elif case == "unreadable":
        (tmp_path / "uv.toml").write_text("[", encoding="utf-8")
        monkeypatch.delenv("UV_NO_CONFIG")
        monkeypatch.chdir(tmp_path)
    elif case == "odd":
        index.wheel("demo", "1.0", tags=[OTHER])
        monkeypatch.setattr(index, "_page", lambda _: b'{"files": [{"filename": 1}]}')
    started = time.monotonic()
    assert hints(made, "abi-tag-mismatch", offline=case == "offline") == [INSTALL]
    assert time.monotonic() - started < 25  # by itself a client waits longer
    assert index.requests.total() == (1 if case in {"unknown", "odd"} else 0)


def test_a_package_without_such_findings_asks_nobody(tmp_path: Path, index: Index) -> None:
    made = package(tmp_path, tag=FITTING, suffix="cpython-311-x86_64-linux-gnu")
    assert audit(made, TARGET).findings == ()
    assert index.requests.total() == 0


def test_names_of_private_packages_are_not_told(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Own.Thing"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert hints(package(tmp_path, "own_thing"), "abi-tag-mismatch") == [INSTALL]
    assert hints(package(tmp_path, "local", more=["direct_url.json"]), "abi-tag-mismatch") == [INSTALL]
    assert index.requests.total() == 0
    assert hints(package(tmp_path, "local", "own_thing", "demo"), "abi-tag-mismatch") == [INSTALL] * 3
    assert set(index.requests) == {"/simple/demo/", "/simple/local/"}


def test_ten_distributions_are_asked_for_at_most(tmp_path: Path, index: Index) -> None:
    names = [f"demo{number:02}" for number in range(12)]
    for name in names:
        index.wheel(name, "1.0", tags=[FITTING])
    found = hints(package(tmp_path, *names), "abi-tag-mismatch")
    assert [hint == INSTALL for hint in found] == [False] * 10 + [True] * 2
    assert index.requests.total() == 10


def test_a_pure_fallback_is_told_of_a_compiled_release(run: Run, index: Index, project: Path) -> None:
    pure = index.wheel("demo", "1.0")
    elsewhere = index.wheel("demo", "1.0", tags=["cp311-cp311-macosx_11_0_arm64"])
    (project / "pylock.toml").write_text(index.pylock(pure, elsewhere), encoding="utf-8")

    def hint() -> str:
        audited = run("audit", "pylock.toml", "-t", "python3.11-x86_64", "--format", "json", cwd=project)
        (finding,) = audited.json["findings"]
        assert finding["rule"] == "pure-fallback"
        return str(finding["hint"])

    assert hint() == "it works, but slower; no release has a compiled wheel for python3.11-x86_64"
    index.wheel("demo", "1.1", tags=[FITTING])
    index.wheel("demo", "1.2")
    assert (
        hint() == "it works, but slower; `demo==1.1` is the newest release with a compiled wheel for python3.11-x86_64"
    )
    index.wheel("demo", "1.0", tags=[FITTING])
    assert hint() == (
        f"it works, but slower; the same release has a compiled wheel for python3.11-x86_64: `demo-1.0-{FITTING}.whl`"
    )
    before = index.requests.total()
    run("build", ".", "-t", "python3.11-x86_64", "--format", "json", cwd=project)
    assert index.requests.total() == before, "a build that succeeds asks no index"


@pytest.mark.network
def test_the_real_index_knows_which_numpy_runs_on_amazon_linux_2(tmp_path: Path) -> None:
    made = package(tmp_path, "numpy", version="2.4.6", tag="cp312-cp312-manylinux_2_28_x86_64")
    assert hints(made, "abi-tag-mismatch") == [
        "`numpy==2.2.6` is the newest release with a wheel for python3.11-x86_64"
    ]
    same = package(tmp_path, "numpy", version="2.2.6")
    assert hints(same, "abi-tag-mismatch") == [
        f"{SAME}`numpy-2.2.6-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl`"
    ]
