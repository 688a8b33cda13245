"""`manylambda audit` of a lock or of requirements: what a build would ship, checked without writing it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manylambda import Target, audit
from manylambda.errors import NoCompatibleWheel

if TYPE_CHECKING:
    from product.conftest import Run
    from product.loopback import Index

ELF = Path(__file__).parent.parent / "elf" / "data"
TARGET = "python3.11-x86_64"
CLEAN = (
    "python3.11-x86_64: nothing found that keeps it from loading: 0 errors, 0 warnings, 0 notes in 4 files, "
    "0 shared objects, 397 B unzipped\n"
)


def native(index: Index, name: str = "native", *, tag: str = "cp311-cp311-manylinux_2_17_x86_64") -> Path:
    """Add a wheel whose extension needs a newer glibc than its tag says."""
    files = {f"{name}/_speed.cpython-311-x86_64-linux-gnu.so": (ELF / "glibc_2_34.so").read_bytes()}
    return index.wheel(name, files=files, tags=[tag], requires=["absent>=2"])


def listed(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_lock_is_audited_as_the_package_that_a_build_of_it_would_be(run: Run, index: Index, project: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(native(index), index.wheel("demo")), encoding="utf-8")
    before = listed(project)
    document = run("audit", project / "pylock.toml", "-t", TARGET, "--format", "json", status=1).json
    assert listed(project) == before
    built = run("build", project, "-t", TARGET, "--format", "json", status=1).artifact
    assert document["findings"] == built["findings"]
    assert {finding["rule"] for finding in document["findings"]} == {"glibc-too-new", "distribution-missing"}


def test_the_files_of_the_project_are_no_part_of_it(run: Run, index: Index, project: Path) -> None:
    (project / "own.so").write_bytes((ELF / "aarch64_glibc_2_34.so").read_bytes())
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo")), encoding="utf-8")
    ran = run("audit", "pylock.toml", "-t", TARGET, cwd=project)
    assert ran.stdout == CLEAN
    assert ran.stderr == "dependencies from `pylock.toml` (locked)\n"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements.in"])
def test_requirements_are_resolved_for_the_target(run: Run, index: Index, project: Path, name: str) -> None:
    index.wheel("demo")
    index.wheel("demo", "2.0", requires_python=">=3.12")
    (project / name).write_text("demo\n", encoding="utf-8")
    ran = run("audit", name, "-t", TARGET, cwd=project)
    assert ran.stdout == CLEAN
    assert ran.stderr == f"dependencies from `{name}` (resolved for each target)\n"
    assert listed(project) == {"app.py", name}


def test_a_pyproject_is_resolved_where_no_lock_was_made_from_it(run: Run, index: Index, project: Path) -> None:
    index.wheel("demo")
    named = '[project]\nname = "api"\nversion = "1"\ndependencies = ["demo"]\n'
    (project / "pyproject.toml").write_text(named, encoding="utf-8")
    (project / "requirements.txt").write_text("other\n", encoding="utf-8")
    ran = run("audit", "pyproject.toml", "-t", TARGET, cwd=project)
    assert ran.stdout == CLEAN
    assert ran.stderr == "dependencies from `pyproject.toml` (resolved for each target)\n"
    (project / "pylock.toml").write_text(index.pylock(index.wheel("locked")), encoding="utf-8")
    ran = run("audit", "pyproject.toml", "-t", TARGET, cwd=project)
    assert ran.stdout == CLEAN.replace("397 B", "407 B")
    assert ran.stderr == "dependencies from `pylock.toml` (locked; passed over: `requirements.txt`)\n"


def test_what_cannot_be_resolved_ends_in_status_3_with_the_explanation(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("demo", tags=["cp311-cp311-manylinux_2_28_x86_64"])
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    ran = run("audit", "pylock.toml", "-t", TARGET, cwd=project, status=3)
    assert ran.stdout == ""
    assert ran.stderr == (
        "dependencies from `pylock.toml` (locked)\n"
        "error: no wheel of `demo==1.0` runs on `python3.11-x86_64`\n\n"
        "hint: the nearest is `demo-1.0-cp311-cp311-manylinux_2_28_x86_64.whl`, "
        "which needs glibc 2.28; the runtime has 2.26\n"
    )


@pytest.mark.network
def test_a_lock_with_a_numpy_too_new_for_amazon_linux_2_says_why(run: Run, project: Path) -> None:
    (project / "requirements.txt").write_text("numpy==2.4.6\n", encoding="utf-8")
    ran = run("audit", "requirements.txt", "-t", TARGET, cwd=project, status=3)
    assert ran.stderr.startswith(
        "dependencies from `requirements.txt` (resolved for each target)\n"
        "error: no wheel of `numpy==2.4.6` runs on `python3.11-x86_64`\n\n"
        "hint: the nearest is `numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl`, which needs "
        "glibc 2.27; the runtime has 2.26; `numpy==2.2.6` has a wheel that runs there"
    )


def test_a_second_audit_needs_no_network(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("demo")
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    for _ in range(2):
        assert run("audit", "pylock.toml", "-t", TARGET, cwd=project).stdout == CLEAN
    assert index.requests.total() == index.fetched(wheel) == 1


def test_a_damaged_file_of_the_cache_is_fetched_anew(run: Run, index: Index, project: Path, cache: Path) -> None:
    wheel = native(index)
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    first = run("audit", "pylock.toml", "-t", TARGET, cwd=project, status=1)
    (kept,) = cache.rglob(wheel.name)
    kept.write_bytes(kept.read_bytes()[:-100] + bytes(100))
    second = run("audit", "pylock.toml", "-t", TARGET, cwd=project, status=1)
    assert second.stdout == first.stdout
    assert second.stderr.splitlines()[1] == f"warning: damaged in the cache: `{wheel.name}`; fetching anew"
    assert index.fetched(wheel) == 2


def test_settings_of_the_project_hold_as_for_a_build(run: Run, index: Index, project: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(native(index), index.wheel("demo")), encoding="utf-8")
    (project / "manylambda.toml").write_text(
        'exclude-distributions = ["native"]\nhandler = "app.handler"\naudit = false\nkind = "layer"\n', encoding="utf-8"
    )
    ran = run("audit", "pylock.toml", "-t", TARGET, cwd=project)
    assert ran.stdout == CLEAN
    assert ran.stderr.splitlines()[-1] == "python3.11-x86_64: `native` is left out: excluded"


def test_layers_hold_what_a_lock_leaves_to_them(run: Run, index: Index, project: Path) -> None:
    wheel = index.wheel("demo", requires=["common"])
    (project / "pylock.toml").write_text(index.pylock(wheel), encoding="utf-8")
    missing = run("audit", "pylock.toml", "-t", TARGET, cwd=project, status=1)
    assert missing.stdout.startswith("error[distribution-missing] demo 1.0 needs `common`, ")
    with zipfile.ZipFile(project / "layer.zip", "w") as layer, zipfile.ZipFile(index.wheel("common")) as common:
        for name in common.namelist():
            layer.writestr(f"python/{name}", common.read(name))
    run("audit", "pylock.toml", "-t", TARGET, "--layer", "layer.zip", cwd=project)


def test_a_lock_has_no_handler(run: Run, index: Index, project: Path) -> None:
    (project / "pylock.toml").write_text(index.pylock(index.wheel("demo")), encoding="utf-8")
    ran = run("audit", "pylock.toml", "-t", TARGET, "--handler", "app.handler", cwd=project)
    assert ran.stderr.splitlines()[0] == ("`app.handler` is not looked for: `pylock.toml` has no code of the project")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("uv.lock", None, "`uv.lock` does not exist"),
        ("requirements.txt", None, "`requirements.txt` does not exist"),
        ("pyproject.toml", None, "`pyproject.toml` does not exist"),
        ("pyproject.toml", "[tool.ruff]\n", "`pyproject.toml` names no dependencies"),
        ("Pipfile.lock", "{}", "`Pipfile.lock` is neither a package nor a lock of a known name"),
    ],
)
def test_what_names_no_dependencies_is_refused(run: Run, project: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        (project / name).write_text(text, encoding="utf-8")
    ran = run("audit", name, "-t", TARGET, cwd=project, status=2)
    assert ran.stderr.splitlines()[0] == f"error: {told}"


def test_a_wheel_alone_is_not_told_that_its_requirements_are_missing(run: Run, index: Index) -> None:
    wheel = index.wheel("demo", requires=["absent"])
    assert run("audit", wheel, "-t", TARGET).stdout.startswith("python3.11-x86_64: nothing found ")


def test_a_program_audits_a_lock(index: Index, project: Path) -> None:
    lock = project / "pylock.toml"
    lock.write_text(index.pylock(native(index)), encoding="utf-8")
    report = audit(lock, Target.parse(TARGET))
    assert [finding.rule for finding in report.findings] == ["distribution-missing", "glibc-too-new"]
    with pytest.raises(NoCompatibleWheel, match=r"^no wheel of `native==1\.0` runs on `python3\.13-arm64`$"):
        audit(lock, Target.parse("python3.13-arm64"))
