"""`manylambda audit` on container images: real packages in images, as users save them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from image.saved import FOLDER, Layout, Link, layer, layout
from product import schemas

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
        "0 shared objects, 0.0 MiB unzipped\n"
    )


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


def members_of(tar: bytes) -> list[str]:
    import io
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()
