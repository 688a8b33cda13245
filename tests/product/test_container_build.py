"""`build --engine container`: pip of an image installs what the lock names, and nothing else decides the package."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from product import pip_image, sources
from product.loopback import sha256
from sdists import images
from trial import containers, hosts

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Ran, Run
    from product.loopback import Index

# One podman has one store.
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="containers of this host are Linux's"),
    pytest.mark.xdist_group("podman"),
]
TARGET = pip_image.TARGET
RUNTIME, MACHINE = TARGET.split("-")
FOREIGN = hosts.TARGETS[hosts.FOREIGN]
PIP_NOTES = ("INSTALLER", "REQUESTED", "RECORD")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(containers.programs()) + os.pathsep + os.environ["PATH"])


@pytest.fixture
def locked(index: Index, project: Path) -> Path:
    """Give a project that needs a compiled wheel, and one with a console script and a data file."""
    plain = index.wheel(
        "plain",
        "2.0",
        {
            "plain.py": "version = 2\n",
            "plain-2.0.data/data/share/plain.txt": "x",
            "plain-2.0.data/scripts/run": "#!/x\n",
        },
        entry_points="[console_scripts]\nplain = plain:version\n",
    )
    (project / "pylock.toml").write_text(index.pylock(pip_image.compiled_wheel(index), plain))
    return project


def built(run: Run, project: Path, *options: str | Path, image: str | None = None, status: int = 0) -> Ran:
    given = ("--engine", "container", "--image", image or pip_image.image())
    target = () if "-t" in options else ("-t", TARGET)
    return run("build", project, *target, *given, *options, "--format", "json", status=status)


def contents(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def told(ran: Ran) -> list[str]:
    """Give the error and its hint."""
    lines = ran.stderr.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return [line for line in lines[start:] if line]


def test_the_package_is_the_one_that_we_make_ourselves(run: Run, locked: Path) -> None:
    ran = built(run, locked, "--handler", "app.handler", "-o", "one")
    assert f"{TARGET}: installing in podman, {pip_image.image()}, without network: the wheels are here" in ran.stderr
    pips = contents(ran.artifact["path"])
    ours = contents(run("build", locked, "-t", TARGET, "-o", "two", "--format", "json").artifact["path"])
    assert {name for name in pips if not name.endswith(PIP_NOTES)} == {
        name for name in ours if not name.endswith(PIP_NOTES)
    }
    assert all(data == ours[name] for name, data in pips.items() if not name.endswith(PIP_NOTES))
    assert pips["plain-2.0.dist-info/INSTALLER"] == b"pip\n"
    assert {one["name"]: one["compiled"] for one in ran.artifact["distributions"]} == {"compiled": True, "plain": False}


def test_its_records_are_true_and_its_bytes_are_the_same_again(run: Run, locked: Path) -> None:
    first = built(run, locked).artifact
    again = built(run, locked, "--offline", "-o", "again").artifact
    assert again["sha256"] == first["sha256"]
    audit = run("audit", first["path"], "-t", TARGET, "--format", "json", cwd=locked).json
    assert [one for one in audit["findings"] if one["severity"] != "note"] == []
    record = contents(first["path"])["plain-2.0.dist-info/RECORD"].decode()
    assert "share/plain.txt,sha256=" in record
    assert "bin/" not in record


def test_scripts_are_shipped_when_they_are_asked_for(run: Run, locked: Path) -> None:
    files = contents(built(run, locked, "--scripts").artifact["path"])
    assert {"bin/plain", "bin/run"} <= files.keys()
    assert "bin/plain,sha256=" in files["plain-2.0.dist-info/RECORD"].decode()


@pytest.mark.parametrize("kind", ["layer", "dir"])
def test_layers_and_folders_are_made_so_too(run: Run, locked: Path, kind: str) -> None:
    path = built(run, locked, "--kind", kind).artifact["path"]
    if kind == "layer":
        assert {"python/plain.py", "python/share/plain.txt"} <= contents(path).keys()
    else:
        assert sorted(os.listdir(path))[:2] == ["app.py", "compiled-1.0.dist-info"]


def test_a_source_distribution_is_compiled_in_the_image(run: Run, index: Index, project: Path) -> None:
    archive = sources.glibc_trap(index)
    entry = f'url = "{index.base}/files/{archive.name}", hashes = {{ sha256 = "{sha256(archive)}" }}'
    (project / "pylock.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "a test"\n[[packages]]\nname = "glibctrap"\nversion = "1.0"\n'
        f"sdist = {{ {entry} }}\n"
    )
    artifact = built(run, project, "--allow-sdist", "glibctrap").artifact
    machine, needs = sources.glibc_needs(artifact)
    assert machine == {"x86_64": "x86_64", "arm64": "aarch64"}[MACHINE]
    assert "GLIBC_2.34" in needs  # what the image has, and zig would have too
    assert artifact["findings"] == []


def test_what_the_audit_refuses_is_not_written(run: Run, index: Index, project: Path) -> None:
    made = pip_image.compiled_wheel(index)
    ((name, module),) = [one for one in contents(str(made)).items() if one[0].endswith(".so")]
    machine = {"amd64": 0xB7, "arm64": 0x3E}[hosts.NATIVE]  # the other one's
    wheel = index.wheel(
        "compiled", "1.0", {name: module[:18] + bytes([machine, 0]) + module[20:]}, tags=[made.stem.split("-", 2)[2]]
    )
    (project / "pylock.toml").write_text(index.pylock(wheel))
    ran = built(run, project, status=1)
    assert "wrong-machine" in {one["rule"] for one in ran.artifact["findings"]}
    assert ran.artifact["path"] is None


def test_distributions_that_collide_are_told(run: Run, index: Index, project: Path) -> None:
    wheels = [index.wheel(name, "1.0", {"shared/x.py": f"{name} = 1\n"}) for name in ("one", "other")]
    (project / "pylock.toml").write_text(index.pylock(*wheels))
    assert [one["rule"] for one in built(run, project).artifact["findings"]] == ["path-collision"]


# What goes wrong.


def test_what_pip_refuses_is_told_with_all_that_it_said(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("newer", "1.0", requires_python=">=3.99")
    (project / "pylock.toml").write_text(index.pylock(wheel))
    ran = built(run, project, status=5)
    (error, *_) = told(ran)
    assert error.startswith(f"error: pip in `{pip_image.image()}` cannot install: Package 'newer' requires a different")
    assert "  Looking in links: /build/wheels" in ran.stderr.splitlines()


def test_an_image_without_pip(run: Run, locked: Path, index: Index) -> None:
    (locked / "pylock.toml").write_text(index.pylock(index.wheel("pure")))
    ran = built(run, locked, "-t", f"python{images.PYTHON}-{images.ARCHITECTURE}", image=images.image(), status=5)
    assert told(ran)[0].startswith(f"error: the image `{images.image()}` has no pip for its CPython 3.11.")
    assert told(ran)[1] == "hint: name an image that has it, such as Lambda's base image or SAM's build image"


def test_an_image_with_another_python(run: Run, project: Path, index: Index) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("pure")))
    ran = built(run, project, "-t", f"python3.12-{MACHINE}", status=5)
    assert f"has CPython 3.13.5, and python3.12-{MACHINE} needs CPython 3.12" in told(ran)[0]


def test_an_image_of_another_machine(run: Run, project: Path, index: Index) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("pure")))
    ran = built(run, project, "-t", FOREIGN, status=5)
    assert told(ran)[0] == (
        f"error: the image `{pip_image.image()}` is for linux/{hosts.NATIVE}, and {FOREIGN} needs linux/{hosts.FOREIGN}"
    )


def test_an_image_that_is_not_here(run: Run, project: Path, index: Index) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("pure")))
    run("build", project, "-t", TARGET, "-q")
    ran = run("build", project, "-t", TARGET, "--engine", "container", "--offline", status=4)
    name = f"public.ecr.aws/sam/build-python3.13:latest-{MACHINE}"
    assert told(ran) == [
        f"error: the image `{name}` is not here, and `--offline` forbids pulling it",
        f"hint: podman pull --platform linux/{hosts.NATIVE} {name}",
    ]


def test_a_host_without_a_container_program(
    run: Run, project: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("pure")))
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    ran = run("build", project, "-t", TARGET, "--engine", "container", status=5)
    assert told(ran)[0] == "error: there is no container to build in: no podman, docker, finch or nerdctl on the path"


def test_docker_installs_as_podman_does(
    run: Run, locked: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_podman = built(run, locked).artifact["sha256"]
    with containers.docker_service(tmp_path_factory.mktemp("docker")) as variables:
        for key, value in variables.items():
            monkeypatch.setenv(key, value)
        (tmp_path / "programs").mkdir()
        (tmp_path / "programs" / "docker").symlink_to(str(shutil.which("docker")))
        monkeypatch.setenv("PATH", str(tmp_path / "programs"))
        ran = built(run, locked, "-o", "by-docker")
        monkeypatch.undo()
    assert f"installing in docker, {pip_image.image()}" in ran.stderr
    assert ran.artifact["sha256"] == by_podman
