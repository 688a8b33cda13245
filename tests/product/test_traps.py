"""The traps that other builders were seen to fall into (E1 to E9, E12, E14), each as a whole command.

Every one of them was a package that some tool made with status 0, and that did not run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from product.loopback import sha256

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

ELF = Path(__file__).parent.parent / "elf" / "data"
NATIVE = "trap.cpython-311-x86_64-linux-gnu.so"


def names(path: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def newest_glibc(path: str) -> int:
    """Give the highest minor version of glibc 2 that any file of a package names, read without our own reader."""
    with zipfile.ZipFile(path) as archive:
        found = [re.findall(rb"GLIBC_2\.(\d+)", archive.read(name)) for name in archive.namelist() if ".so" in name]
    return max(int(minor) for minors in found for minor in minors)


@pytest.fixture
def from_index(monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> None:
    """Use the real index, and fetch what it gives once in a session."""
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(shared_cache))


# E1: a binary of the build host in the package


def host_built(tmp_path: Path) -> bytes:
    """Compile an extension module here, as `pip install` of a source distribution would."""
    source = tmp_path / "trap.c"
    source.write_text(
        "#include <pthread.h>\n#include <dlfcn.h>\n#include <sys/stat.h>\n"
        "static void *run(void *it) { return it; }\n"
        'int trap(void) { pthread_t t; struct stat s; dlopen(0, 0); stat("/", &s);'
        " return pthread_create(&t, 0, run, 0); }\n",
        encoding="utf-8",
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / NATIVE, source], check=True)
    return (tmp_path / NATIVE).read_bytes()


@pytest.mark.parametrize("origin", ["gcc", "data"])
def test_e1_a_wheel_built_on_the_host_is_refused_by_its_tag_and_then_by_its_binary(
    run: Run, index: Index, project: Path, tmp_path: Path, origin: str
) -> None:
    """Five builders of five shipped it: needs GLIBC_2.34, the runtime has 2.26."""
    if origin == "gcc":
        if shutil.which("gcc") is None or sys.platform != "linux":
            pytest.skip("no gcc on Linux here: the committed file of the same kind stands for it")
        native = host_built(tmp_path)
        if b"GLIBC_2.34" not in native:
            pytest.skip("this host's glibc is too old to be a trap")
    else:
        native = (ELF / "glibc_2_34.so").read_bytes()
    wheel = index.wheel("glibctrap", files={NATIVE: native}, tags=["cp311-cp311-linux_x86_64"])
    flags = ("-t", "python3.11-x86_64", "-r", "-")
    refused = run("build", project, *flags, status=3, stdin="glibctrap")
    assert "error: no wheel of `glibctrap==1.0` runs on `python3.11-x86_64`\n" in refused.stderr
    assert f"the nearest is `{wheel.name}`, which " in refused.stderr
    assert "`--allow-linux-wheels` takes it, and the audit then reads the binary" in refused.stderr

    ran = run("build", project, *flags, "--allow-linux-wheels", "--format", "json", status=1, stdin="glibctrap")
    (finding,) = [one for one in ran.artifact["findings"] if one["rule"] == "glibc-too-new"]
    assert finding["severity"] == "error"
    assert (finding["path"], finding["distribution"]) == (NATIVE, "glibctrap")
    assert "2.34" in finding["message"]
    assert not (project / "dist").exists() or not list((project / "dist").iterdir())

    # On a runtime that has it, the same kind of wheel is fine: the binary decides, not the tag.
    index.wheel("glibctrap", files={"trap.abi3.so": native}, tags=["cp39-abi3-linux_x86_64"])
    flags = ("-t", "python3.13-x86_64", "-r", "-")
    made = run("build", project, *flags, "--allow-linux-wheels", "--format", "json", stdin="glibctrap").artifact
    assert "trap.abi3.so" in names(made["path"])


# E2: source only


@pytest.mark.parametrize("target", ["python3.11-x86_64", "python3.13-arm64"])
def test_e2_source_only_is_refused_with_what_to_do(run: Run, index: Index, project: Path, target: str) -> None:
    source = project.parent / "src"
    source.mkdir()
    (source / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: netifaces\nVersion: 0.11.0\n", encoding="utf-8")
    (source / "setup.py").write_text("raise SystemExit('this must never run')\n", encoding="utf-8")
    with tarfile.open(index.folder / "netifaces-0.11.0.tar.gz", "w:gz") as archive:
        archive.add(source, "netifaces-0.11.0")
    ran = run("build", project, "-t", target, "-r", "-", status=3, stdin="netifaces==0.11.0")
    assert ran.stderr.endswith(
        f"error: no wheel of `netifaces==0.11.0` runs on `{target}`\n\n"
        "hint: it has only a source distribution, which would have to be built; "
        "its source looks pure: it has no code to compile; "
        "`--allow-sdist netifaces` builds it from source for the target\n"
    )


# E3, E4: the newest that runs, neither too new nor an sdist, nor needlessly old


@pytest.mark.network
@pytest.mark.usefixtures("from_index")
def test_e3_e4_unpinned_numpy_and_cryptography_load_on_glibc_2_26(run: Run, project: Path) -> None:
    ran = run("build", project, "-t", "python3.11-x86_64", "-r", "-", "--format", "json", stdin="numpy\ncryptography\n")
    shipped = {one["name"]: one for one in ran.artifact["distributions"]}
    assert shipped["numpy"]["compiled"]
    assert tuple(map(int, shipped["numpy"]["version"].split("."))) >= (2, 2, 6)
    assert not [one for one in ran.artifact["findings"] if one["severity"] == "error"]
    assert newest_glibc(ran.artifact["path"]) <= 26


# E5: markers are the target's


def test_e5_a_requirement_for_the_targets_machine_is_shipped(run: Run, index: Index, project: Path) -> None:
    for name in ("for-arm", "for-intel", "for-311", "for-313"):
        index.wheel(name)
    requirements = (
        "for-arm; platform_machine == 'aarch64'\nfor-intel; platform_machine == 'x86_64'\n"
        "for-311; python_version == '3.11'\nfor-313; python_version == '3.13'\n"
    )
    flags = ("-t", "python3.13-arm64", "-t", "python3.11-x86_64", "-r", "-", "--format", "json")
    arm, intel = run("build", project, *flags, stdin=requirements).json["artifacts"]
    assert [one["name"] for one in arm["distributions"]] == ["for-313", "for-arm"]
    assert [one["name"] for one in intel["distributions"]] == ["for-311", "for-intel"]


@pytest.mark.network
@pytest.mark.usefixtures("from_index")
def test_e5_flask_on_python_3_9_has_importlib_metadata(run: Run, project: Path) -> None:
    ran = run("build", project, "-t", "python3.9-x86_64", "-r", "-", "--format", "json", stdin="flask==3.0.3")
    shipped = {one["name"] for one in ran.artifact["distributions"]}
    assert {"flask", "importlib-metadata", "zipp"} <= shipped


# E6: a runtime loads everything up to its glibc


@pytest.mark.network
@pytest.mark.usefixtures("from_index")
def test_e6_a_manylinux2014_wheel_serves_glibc_2_34(run: Run, project: Path) -> None:
    ran = run("build", project, "-t", "python3.12-x86_64", "-r", "-", "--format", "json", stdin="markupsafe==2.1.5")
    (shipped,) = ran.artifact["distributions"]
    assert shipped["file"] == ("MarkupSafe-2.1.5-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    assert shipped["compiled"]


# E7: bytecode of the host


def test_e7_no_bytecode_of_the_host_is_in_a_package(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo", files={"demo/__init__.py": "x = 1\n", "demo/deep/er.py": "y = 2\n"})
    subprocess.run([sys.executable, "-m", "compileall", "-q", project], check=True)
    assert list(project.rglob("*.pyc"))
    made = run("build", project, "-t", "python3.12-x86_64", "-r", "-", "--format", "json", stdin="demo").artifact
    assert not [name for name in names(made["path"]) if name.endswith(".pyc") or "__pycache__" in name]


# E8: the wrong manifest


def test_e8_dependencies_are_not_taken_from_requirements_dev(run: Run, index: Index, project: Path) -> None:
    index.wheel("idna")
    index.wheel("iniconfig")
    (project / "requirements-dev.txt").write_text("iniconfig\n", encoding="utf-8")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "api"\nversion = "1"\ndependencies = ["idna"]\n', encoding="utf-8"
    )
    ran = run("build", project, "-t", "python3.13-arm64", "--format", "json")
    assert [one["name"] for one in ran.artifact["distributions"]] == ["idna"]
    assert ran.stderr == "dependencies from `pyproject.toml` (resolved for each target)\n"


# E9: the user's own shared object


def test_e9_own_shared_objects_and_data_are_kept(run: Run, project: Path) -> None:
    (project / "mylib.so").write_bytes((ELF / "plain.so").read_bytes())
    (project / "lib").mkdir()
    (project / "lib" / "libused.so.1").write_bytes((ELF / "libused.so.1").read_bytes())
    (project / "model.bin").write_bytes(b"\0" * 100)
    made = run("build", project, "-t", "python3.13-x86_64", "--format", "json").artifact
    assert names(made["path"]) == ["app.py", "lib/libused.so.1", "model.bin", "mylib.so"]


# E12: traces of the host


def test_e12_scripts_name_no_interpreter_of_the_host_and_nothing_is_left_of_the_installer(
    run: Run, index: Index, project: Path
) -> None:
    index.wheel(
        "demo",
        files={
            "demo.py": "def main(): pass\n",
            "demo-1.0.data/scripts/old-style": "#!python\nprint(1)\n",
        },
        entry_points="[console_scripts]\nnew-style = demo:main\n",
    )
    ran = run("build", project, "-t", "python3.12-x86_64", "--scripts", "-r", "-", "--format", "json", stdin="demo")
    with zipfile.ZipFile(ran.artifact["path"]) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        record = contents["demo-1.0.dist-info/RECORD"].decode()
    assert sorted(contents) == [
        "app.py",
        "bin/new-style",
        "bin/old-style",
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/RECORD",
        "demo-1.0.dist-info/WHEEL",
        "demo-1.0.dist-info/entry_points.txt",
        "demo.py",
    ]
    for script in ("bin/new-style", "bin/old-style"):
        assert contents[script].startswith(b"#!/var/lang/bin/python3.12\n")
        assert f"{script},sha256=" in record
    everything = b"".join(contents.values())
    for trace in (sys.prefix, sys.executable, str(project.parent)):
        assert trace.encode() not in everything


# E14: hashes hold for what is shipped


def test_e14_a_file_whose_hash_is_not_listed_is_not_shipped(run: Run, index: Index, project: Path) -> None:
    intel = index.wheel("markupsafe", "2.1.5", tags=["cp313-cp313-manylinux_2_17_x86_64"])
    arm = index.wheel("markupsafe", "2.1.5", tags=["cp313-cp313-manylinux_2_17_aarch64"])
    (project / "requirements.txt").write_text(f"markupsafe==2.1.5 --hash=sha256:{sha256(intel)}\n", encoding="utf-8")
    made = run("build", project, "-t", "python3.13-x86_64", "--format", "json").artifact
    assert [one["sha256"] for one in made["distributions"]] == [sha256(intel)]
    ran = run("build", project, "-t", "python3.13-arm64", status=4)
    assert ran.stderr.endswith(
        "error: no hash listed for `markupsafe==2.1.5` is that of a file for `python3.13-arm64`\n\n"
        f"hint: the file for it is `{arm.name}`: add `--hash=sha256:{sha256(arm)}` if you trust it, "
        "or lock for all targets with `manylambda lock -t python3.13-arm64`\n"
    )
    assert index.fetched(arm) == 0
    assert [path.name for path in (project / "dist").iterdir()] == ["api-python3.13-x86_64.zip"]
