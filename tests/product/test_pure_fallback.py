"""A pure wheel of a release with compiled ones: told by every command that takes it, and whether it lacks a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from product.loopback import Index

if TYPE_CHECKING:
    from pathlib import Path

    from product.conftest import Ran, Run

AL2 = "python3.11-x86_64"
NATIVE = "cp311-cp311-manylinux_2_17_x86_64"
MESSAGE = (
    "`sound-1.0-py3-none-any.whl` is pure Python; the wheels for other systems bring a library or program that this "
    "one lacks: it may not import (they are for Linux x86_64 (glibc 2.28), macOS)"
)
HINT = "take a release with such a wheel for the target, or another runtime; or bring the library in a layer"


def sound(index: Index) -> None:
    """Add a release whose compiled wheels bring a library, none for glibc 2.26."""
    for platform in ("any", "manylinux_2_28_x86_64", "macosx_11_0_arm64"):
        index.wheel("sound", "1.0", tags=[f"py3-none-{platform}"])


def told(ran: Ran) -> list[Any]:
    findings = ran.json["findings"] if "findings" in ran.json else ran.artifact["findings"]
    return [(one["rule"], one["severity"], one["message"], one["hint"]) for one in findings]


def test_requirements_whose_pure_wheel_lacks_its_library_are_warned_of(run: Run, index: Index, project: Path) -> None:
    sound(index)
    (project / "requirements.txt").write_text("sound\n", encoding="utf-8")
    audited = told(run("audit", project / "requirements.txt", "-t", AL2, "--format", "json"))
    no_release = f"no release has a compiled wheel for {AL2}; or bring the library in a layer"
    assert audited == [("pure-fallback", "warning", MESSAGE, no_release)]
    built = told(run("build", project, "-t", AL2, "--format", "json"))
    assert built == [("pure-fallback", "warning", MESSAGE, HINT)]
    index.wheel("sound", "0.9", tags=["py3-none-manylinux_2_17_x86_64"])
    ((*_, hint),) = told(run("audit", project / "requirements.txt", "-t", AL2, "--format", "json"))
    assert hint == (
        f"`sound==0.9` is the newest release with a compiled wheel for {AL2}; or bring the library in a layer"
    )


def test_a_lock_of_ours_tells_it_without_asking(run: Run, index: Index, project: Path) -> None:
    sound(index)
    (project / "requirements.txt").write_text("sound\n", encoding="utf-8")
    run("lock", project, "-t", AL2)
    run("build", project, "-t", AL2, "--format", "json")
    before = index.requests.total()
    built = told(run("build", project, "-t", AL2, "--offline", "--format", "json"))
    assert built == [("pure-fallback", "warning", MESSAGE, HINT)]
    assert told(run("audit", project / "pylock.toml", "-t", AL2, "--offline", "--format", "json")) == built
    assert index.requests.total() == before


def test_a_pure_wheel_without_its_extension_module_is_a_note(run: Run, index: Index, project: Path) -> None:
    pure = "`wrapt-1.0-py3-none-any.whl`"
    index.wheel("wrapt", "1.0", tags=["cp313-cp313-manylinux_2_17_x86_64"])
    index.wheel("wrapt", "1.0")
    (project / "requirements.txt").write_text("wrapt\n", encoding="utf-8")
    assert told(run("build", project, "-t", AL2, "--format", "json")) == [
        (
            "pure-fallback",
            "note",
            f"{pure} is pure Python; compiled wheels of this release are for Linux x86_64 (glibc 2.17)",
            "it works, but slower; another release may have a compiled wheel for the target",
        )
    ]


def test_a_plan_says_that_uv_does_not_combine_indexes_for_one_version(
    run: Run, index: Index, project: Path, tmp_path: Path
) -> None:
    """What is on another index is not `for other targets`."""
    index.wheel("wrapt", "1.0")
    with Index(tmp_path / "other") as other:
        other.wheel("wrapt", "1.0", tags=[NATIVE])
        settings = {"UV_INDEX": index.url, "UV_DEFAULT_INDEX": other.url, "UV_INDEX_STRATEGY": "unsafe-best-match"}
        ran = run("plan", project, "-t", AL2, "-v", "-r", "-", stdin="wrapt", env=settings)
    assert ran.stdout.endswith(
        f"wrapt 1.0: `py3-none-any` fits; a better wheel, `wrapt-1.0-{NATIVE}.whl`, is on another index, which uv "
        "does not combine for one version\n"
    )


def test_with_the_indexes_of_pip_the_better_wheel_is_shipped(
    run: Run, index: Index, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    index.wheel("wrapt", "1.0")
    (project / "requirements.txt").write_text("wrapt\n", encoding="utf-8")
    with Index(tmp_path / "other") as other:
        other.wheel("wrapt", "1.0", tags=[NATIVE])
        settings = {"PIP_INDEX_URL": other.url, "PIP_EXTRA_INDEX_URL": index.url}
        built = run("build", project, "-t", AL2, "--format", "json", env=settings)
        planned = run("plan", project, "-t", AL2, "-v", env=settings)
        run("lock", project, "-t", AL2, env=settings)
        again = run("build", project, "-t", AL2, "--format", "json", env=settings)
    assert told(built) == []
    for ran in (built, again):
        assert [one["file"] for one in ran.artifact["distributions"]] == [f"wrapt-1.0-{NATIVE}.whl"]
    assert planned.stdout.endswith(f"wrapt 1.0: `{NATIVE}` is the best of 2 wheels of this release\n")


def test_a_plan_says_what_a_lock_does_not_have(run: Run, index: Index, project: Path) -> None:
    pure = index.wheel("wrapt", "1.0")
    index.wheel("wrapt", "1.0", tags=[NATIVE])
    (project / "pylock.toml").write_text(index.pylock(pure), encoding="utf-8")
    assert run("plan", project, "-t", AL2, "-v").stdout.endswith(
        f"wrapt 1.0: `py3-none-any` fits; a better wheel, `wrapt-1.0-{NATIVE}.whl`, is not in the lock\n"
    )


@pytest.mark.network
def test_soundfile_for_amazon_linux_2_has_no_libsndfile(run: Run, project: Path) -> None:
    """Its wheel with the library needs glibc 2.28: `import soundfile` failed there, and nothing was said."""
    file = project / "requirements.txt"
    file.write_text("soundfile==0.14.0\n", encoding="utf-8")
    ((rule, severity, message, hint),) = told(run("audit", file, "-t", AL2, "--format", "json"))
    assert (rule, severity) == ("pure-fallback", "warning")
    assert message == (
        "`soundfile-0.14.0-py2.py3-none-any.whl` is pure Python; the wheels for other systems bring a library or "
        "program that this one lacks: it may not import (they are for Linux aarch64 (glibc 2.28), "
        "Linux x86_64 (glibc 2.28), Windows, macOS)"
    )
    assert hint == (
        f"`soundfile==0.12.1` is the newest release with a compiled wheel for {AL2}; or bring the library in a layer"
    )
    assert told(run("audit", file, "-t", "python3.13-x86_64", "--format", "json")) == []
