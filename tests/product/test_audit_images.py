"""`manylambda audit` on container images: real packages in images, as users save them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from image.registries import needs, registry
from image.saved import FOLDER, Layout, Link, layer, layout
from product import schemas
from trial import hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from image.saved import Hard
    from product.conftest import Ran, Run

CONFIG = {"Entrypoint": ["/lambda-entrypoint.sh"], "Cmd": ["app.handler"], "WorkingDir": "/var/task"}
BASE = layer(
    {
        "lambda-entrypoint.sh": b"#!/bin/sh\n",
        "var/runtime": FOLDER,
        "var/lang/bin/python3.13": b"",
        "var/lang/bin/python3": Link("python3.13"),
    }
)
APP = layer({"var/task/app.py": b"def handler(event, context): ...\n"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.tar"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Give the folder that temporary files of a command go to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def audited(
    run: Run, temporary: Path, path: Path, *more: str, target: str = "python3.13-x86_64", status: int = 0
) -> Ran:
    """Audit an image; nothing of it may be left behind."""
    ran = run("audit", path, "-t", target, *more, status=status, env={"TMPDIR": str(temporary), "TEMP": str(temporary)})
    assert list(temporary.iterdir()) == []
    return ran


def test_a_good_image_is_told_in_one_line(run: Run, path: Path, temporary: Path) -> None:
    layout(BASE, APP, config=CONFIG).tar(path)
    assert audited(run, temporary, path).stdout == (
        "python3.13-x86_64: nothing found that keeps it from loading: 0 errors, 0 warnings, 0 notes in 1 file, "
        "0 shared objects, 20.0 KiB unzipped\n"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the registry is that of Debian")
def test_an_image_of_a_registry_is_judged_as_a_saved_one(
    run: Run, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    needs("skopeo")
    both = Layout()
    rows = [
        both.image([BASE, APP], config=CONFIG, architecture=name, platform={"os": "linux", "architecture": name})
        for name in ("amd64", "arm64")
    ]
    both.top = [both.index(*rows)]
    with registry(tmp_path / "registry", tmp_path / "data") as running:
        name = f"{running.host}/team/both:1"
        command = ("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{both.folder(tmp_path / 'both')}")
        subprocess.run([*command, f"docker://{name}"], check=True)
        digest = rows[1]["digest"]
        pinned = f"{running.host}/team/both@{digest}"
        single = audited(run, temporary, Path(pinned), "--format", "json", target="python3.13-arm64").json
        schemas.check("audit", single)
        assert (single["path"], single["findings"]) == (pinned, [])
        ran = audited(run, temporary, Path(name))
        assert "note[image-manifest]: the image is one of an index of platforms: " in ran.stdout
        sarif = audited(run, temporary, Path(name), "--format", "sarif").json
        assert str(temporary) not in json.dumps(sarif)
        ran = audited(run, temporary, Path(f"{running.host}/team/absent:1"), status=4)
        assert ran.stderr.startswith(f"error: `{running.host}/team/absent:1` is not in `{running.host}`: 404 ")
        running.requests()
        ran = audited(run, temporary, Path("v1.2/api.zip"), status=2)
        assert ran.stderr.startswith("error: there is no package at `v1.2/api.zip`\n")
        audited(run, temporary, Path(name), "--offline")
        assert running.requests() == []


def test_the_findings_of_an_image_hold_to_the_schema(run: Run, path: Path, temporary: Path) -> None:
    layout(BASE, APP, config={**CONFIG, "Cmd": ["app.none"]}, architecture="arm64").tar(path)
    document = audited(run, temporary, path, "--format", "json", status=1).json
    schemas.check("audit", document)
    assert [finding["rule"] for finding in document["findings"]] == ["handler-missing", "wrong-machine"]
    assert document["summary"]["unzipped_size"] == len(BASE) + len(APP)


def test_what_cannot_be_read_is_told_and_leaves_nothing(run: Run, path: Path, temporary: Path) -> None:
    made = Layout()
    made.top = [made.index(*(made.image([APP], architecture=one) for one in ("amd64", "arm64")))]
    made.tar(path)
    assert audited(run, temporary, path, target="python3.13-arm64", status=0).stderr == ""
    made.top = [made.index(*(made.image([APP], architecture=one) for one in ("ppc64le", "s390x")))]
    ran = audited(run, temporary, made.tar(path), target="python3.13-arm64", status=2)
    assert ran.stderr == (
        "error: `image.tar` has no image for `arm64`, only for `ppc64le`, `s390x`\n\n"
        "hint: build the image for the target's architecture\n"
    )
    layout(BASE, layer({"var/task/x": b"", "../x": b""})).tar(path)
    ran = audited(run, temporary, path, status=5)
    assert ran.stderr.startswith("error: unsafe path in an image layer: '../x'\n")
    path.write_bytes(APP)
    ran = audited(run, temporary, path, status=2)
    assert ran.stderr.startswith("error: `image.tar` is a tar without an image: ")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_is_told(run: Run, path: Path, tmp_path: Path) -> None:
    layout(BASE, APP, config=CONFIG).tar(path)
    ran = run("audit", path, "-t", "python3.13-x86_64", status=0, env={"TMPDIR": str(tmp_path / "none")})
    assert ran.stderr == ""  # Python takes another folder where the named one is not there
    program = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); sys.argv[0] = 'manylambda';"
        "runpy.run_module('manylambda', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, "audit", str(path), "-t", "python3.13-x86_64"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "error: the image cannot be unpacked in `" in done.stderr
    assert "file too large" in done.stderr
    assert "hint: set `TMPDIR` to a folder with more room" in done.stderr


# Real packages.


def members(folder: Path) -> dict[str, bytes | Link | Hard | None]:
    return {
        f"var/task/{file.relative_to(folder).as_posix()}": file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def packages(run: Run, tmp_path: Path, shared_cache: Path) -> Mapping[str, bytes]:
    """Give layers with psycopg2 and its many libraries, by architecture, as `manylambda build` lays them out."""
    project = tmp_path / "api"
    project.mkdir()
    (project / "app.py").write_text("import psycopg2\n\ndef handler(event, context): ...\n", encoding="utf-8")
    (project / "requirements.txt").write_text("psycopg2-binary==2.9.11\n", encoding="utf-8")
    targets = {"arm64": "python3.13-arm64", "amd64": "python3.13-x86_64"}
    flags = [word for target in targets.values() for word in ("-t", target)]
    words = ["build", str(project), *flags, "--kind", "dir", "-o", str(tmp_path / "built"), "--format", "json"]
    built = run(*words, env={"MANYLAMBDA_CACHE_DIR": str(shared_cache)}).json
    paths = {artifact["target"]: artifact["path"] for artifact in built["artifacts"]}
    return {oci: layer(members(tmp_path / paths[target])) for oci, target in targets.items()}


@pytest.mark.network
def test_a_real_package_is_judged_in_every_format(
    run: Run, tmp_path: Path, path: Path, temporary: Path, packages: Mapping[str, bytes]
) -> None:
    arm, intel = packages["arm64"], packages["amd64"]

    def found(saved: Path, target: str, status: int) -> set[tuple[str, str | None]]:
        document = audited(run, temporary, saved, "--format", "json", "--offline", target=target, status=status).json
        assert document["summary"]["shared_objects"] >= 10 or "removed" in saved.name
        return {(one["rule"], one["distribution"]) for one in document["findings"]}

    # Both architectures in one file: each target finds its own.
    both = Layout()
    both.top = [
        both.index(
            both.image([BASE, intel], config=CONFIG, architecture="amd64"),
            both.image([BASE, arm], config=CONFIG, architecture="arm64"),
        )
    ]
    both.tar(path)
    for target in ("python3.13-arm64", "python3.13-x86_64"):
        assert found(path, target, 0) == {("image-manifest", None)}

    # The package of another machine than the image's.
    wrong = layout(BASE, intel, config=CONFIG, architecture="arm64").folder(tmp_path / "wrong")
    assert found(wrong, "python3.13-arm64", 1) >= {("wrong-machine", "psycopg2-binary")}

    # What a later layer removes is not there.
    name = next(one for one in members_of(arm) if "/libpq-" in one)
    whiteout = layer({name.replace("/libpq-", "/.wh.libpq-"): b""})
    broken = layout(BASE, arm, whiteout, config=CONFIG, architecture="arm64").tar(tmp_path / "removed.tar")
    assert found(broken, "python3.13-arm64", 1) >= {("library-missing", "psycopg2-binary")}

    if shutil.which("skopeo") is None:
        if os.environ.get("CI"):
            pytest.fail("skopeo is not installed")
        pytest.skip("needs skopeo")
    good = layout(BASE, arm, config=CONFIG, architecture="arm64").folder(tmp_path / "good")
    for transport in ("docker-archive", "oci-archive"):
        saved = tmp_path / f"{transport}.tar"
        subprocess.run(
            ["skopeo", "copy", "--quiet", f"oci:{good}", f"{transport}:{saved}:api:1"], check=True, timeout=60
        )
        assert found(saved, "python3.13-arm64", 0) == set()


# Debian stands for the base: its own libraries judge.

DEBIAN_CONFIG = {**CONFIG, "Entrypoint": ["/usr/bin/python3.13", "-m", "awslambdaric"]}
DATA = Path(__file__).parent.parent / "elf" / "data"


def system(root: Path, *names: str) -> bytes:
    """Pack folders and files of a root file system, or all that a loader looks into."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names or ("etc", "lib", "lib64", "usr/lib", "usr/lib64", "usr/bin"):
            if os.path.lexists(root / name):
                archive.add(root / name, name)
    return sink.getvalue()


@pytest.fixture(scope="module")
def bullseye(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the C libraries of a Debian that is older than the runtime."""
    hosts.needs("mmdebstrap")
    root = tmp_path_factory.mktemp("bullseye") / "root"
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", "--architectures=amd64"),
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            *("--include=libc6,libstdc++6,libgcc-s1,libgomp1", "bullseye", str(root), hosts.mirror()),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return root


@pytest.fixture
def judged(run: Run, temporary: Path, path: Path) -> Callable[..., dict[str, Any]]:
    """Audit an image of Debian for python3.13-x86_64; give the document, less what is not about loading."""

    def audit(*layers: bytes, status: int = 0) -> dict[str, Any]:
        layout(*layers, config=DEBIAN_CONFIG).tar(path)
        document: dict[str, Any] = audited(run, temporary, path, "--format", "json", "--offline", status=status).json
        schemas.check("audit", document)
        other = {"image-entry-point", "distribution-missing"}
        document["findings"] = [one for one in document["findings"] if one["rule"] not in other]
        return document

    return audit


def wheel(**natives: str) -> bytes:
    """Give a layer with the project's code and modules that a wheel for glibc 2.36 brought."""
    told = "Wheel-Version: 1.0\nTag: cp313-cp313-manylinux_2_36_x86_64\n"
    suffix = ".cpython-313-x86_64-linux-gnu.so"
    return layer(
        {
            "var/task/app.py": b"def handler(event, context): ...\n",
            "var/task/newer-1.dist-info/METADATA": b"Metadata-Version: 2.4\nName: newer\nVersion: 1\n",
            "var/task/newer-1.dist-info/WHEEL": told.encode(),
            "var/task/newer-1.dist-info/RECORD": "".join(f"{name}{suffix},,\n" for name in natives).encode(),
            **{f"var/task/{name}{suffix}": (DATA / data).read_bytes() for name, data in natives.items()},
        }
    )


@pytest.mark.network
def test_a_wheel_for_the_newer_glibc_of_an_image_is_judged_by_it(judged: Callable[..., dict[str, Any]]) -> None:
    app = wheel(_relr="relr.so", _dl="glibc_2_34.so", _cxx="glibcxx_3_4_30.so")
    document = judged(system(hosts.root("amd64")), app)
    assert (document["findings"], document["summary"]["image_glibc"]) == ([], "2.41")
    # The runtime, which is judged where the image has no libraries, is older.
    document = judged(BASE, app, status=1)
    assert {one["rule"] for one in document["findings"]} == {
        "glibc-too-new",
        "symbol-version-missing",
        "wheel-tag-mismatch",
    }
    assert "image_glibc" not in document["summary"]


@pytest.mark.network
def test_the_older_glibc_of_an_image_is_told(judged: Callable[..., dict[str, Any]], bullseye: Path) -> None:
    document = judged(system(bullseye), wheel(_dl="glibc_2_34.so", _cxx="glibcxx_3_4_30.so"), status=1)
    assert document["summary"]["image_glibc"] == "2.31"
    told = {one["rule"]: (one["message"], one["hint"]) for one in document["findings"]}
    assert told["glibc-too-new"] == (
        "needs `GLIBC_2.34` (for `dlopen`, `pthread_create`), the image has glibc 2.31",
        "choose a release with a wheel for manylinux_2_31 or older, or a newer base",
    )
    assert told["symbol-version-missing"][0] == (
        "needs `GLIBCXX_3.4.30` of `libstdc++.so.6` (for `used`), which the image's does not define"
    )


@pytest.mark.network
def test_a_library_that_the_base_lacks_is_missing_until_a_layer_brings_it(
    run: Run, judged: Callable[..., dict[str, Any]], bullseye: Path, tmp_path: Path, shared_cache: Path
) -> None:
    words = ("wheel", "lightgbm==4.6.0", "-t", "python3.13-x86_64", "-o", str(tmp_path / "wheels"), "--no-audit")
    run(*words, env={"MANYLAMBDA_CACHE_DIR": str(shared_cache)})
    (made,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        app = layer({f"var/task/{name}": archive.read(name) for name in archive.namelist() if name[-1] != "/"})
    debian = system(hosts.root("amd64"))

    def found(*layers: bytes) -> list[dict[str, Any]]:
        # LightGBM's own WHEEL promises less than the name of its file.
        document = judged(debian, APP, app, *layers, status=1)  # numpy is not there
        return [one for one in document["findings"] if one["rule"] != "wheel-tag-mismatch"]

    (finding,) = found()
    assert (finding["rule"], finding["distribution"]) == ("library-missing", "lightgbm")
    assert finding["message"] == "needs `libgomp.so.1`, which the image does not have where its loader looks"
    folder = "usr/lib/x86_64-linux-gnu"
    files = sorted(file.name for file in (bullseye / folder).glob("libgomp.so.1*"))
    brought = system(bullseye, *(f"{folder}/{name}" for name in files))
    assert found(brought) == []


def members_of(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()
