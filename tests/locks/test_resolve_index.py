"""Resolving from the public index: the traps that other builders fall into (survey E1 to E5, E14), on real packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from local_index import from_files, options

from manylambda.errors import HashMismatch, NoCompatibleWheel
from manylambda.locks.compatibility import needed_glibc
from manylambda.locks.index import IndexClient
from manylambda.locks.resolve import resolve
from manylambda.locks.select import select
from manylambda.locks.settings import read_settings
from manylambda.target import Target, all_targets

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.locks.model import Pin

pytestmark = pytest.mark.network

X311, X313, ARM313 = (Target.parse(f"python3.{rest}") for rest in ("11-x86_64", "13-x86_64", "13-arm64"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


def pins(project: Path, cache: Path, targets: list[Target], *lines: str) -> dict[Target, dict[str, Pin]]:
    own = options(cache)
    lock = resolve(from_files(project), targets, own, lines=lines)
    return {target: {pin.name: pin for pin in select(lock, target, own, project).pins} for target in targets}


def test_python311_gets_the_newest_that_glibc_226_loads(tmp_path: Path, cache: Path) -> None:
    found = pins(tmp_path, cache, [X311], "numpy", "pandas", "duckdb", "pyarrow")[X311]
    needs = {name: needed_glibc(pin.wheel.filename) for name, pin in found.items()}
    assert all(glibc is None or glibc <= (2, 26) for glibc in needs.values())
    # What uv's `manylinux_2_17` would give is older, and what its 2_28 would give cannot load.
    assert needs["pandas"] is not None
    assert needs["pandas"] > (2, 17)
    with IndexClient(read_settings(tmp_path, {}), environment={}) as index:
        newest = {name: index.files(name)[-1].version for name in ("numpy", "pyarrow")}
    assert all(found[name].version != version for name, version in newest.items())


def test_markers_of_the_target_not_of_the_host(tmp_path: Path, cache: Path) -> None:
    old = Target.parse("python3.9-x86_64")
    lines = ['idna; platform_machine == "aarch64"', "flask==3.0.3", "redis[hiredis]"]
    found = pins(tmp_path, cache, [old, X311, ARM313], *lines)
    assert ["idna" in found[target] for target in (old, X311, ARM313)] == [False, False, True]
    assert ["importlib-metadata" in found[target] for target in (old, X311, ARM313)] == [True, False, False]
    assert "async-timeout" not in found[X311]


def test_powertools_resolves_for_every_target_that_has_wheels(tmp_path: Path, cache: Path) -> None:
    targets = [target for target in all_targets() if target.can_build and target.status != "preview"]
    found = pins(tmp_path, cache, targets, "aws-lambda-powertools[all]==3.18.0")
    for target in targets:
        assert found[target]["aws-lambda-powertools"].version == "3.18.0"
        assert {"pydantic-core", "cryptography", "wrapt"} <= found[target].keys()
        for pin in found[target].values():
            assert (needed_glibc(pin.wheel.filename) or (0, 0)) <= target.glibc


def test_a_compiled_workload_resolves_alike_for_both_architectures(tmp_path: Path, cache: Path) -> None:
    lines = ["fastapi", "mangum", "cryptography", "lxml", "orjson", "uvloop", "redis[hiredis]", "protobuf"]
    found = pins(tmp_path, cache, [X313, ARM313], *lines)
    assert {name: pin.version for name, pin in found[X313].items()} == {
        name: pin.version for name, pin in found[ARM313].items()
    }


def test_a_hash_for_one_architecture_does_not_let_the_other_through(tmp_path: Path, cache: Path) -> None:
    pin = pins(tmp_path, cache, [X313], "markupsafe==3.0.2")[X313]["markupsafe"]
    line = f"markupsafe==3.0.2 --hash=sha256:{pin.wheel.hashes['sha256']}"
    assert pins(tmp_path, cache, [X313], line)[X313]["markupsafe"] == pin
    with pytest.raises(HashMismatch) as caught:
        pins(tmp_path, cache, [ARM313], line)
    assert caught.value.message == "no hash listed for `markupsafe==3.0.2` is that of a file for `python3.13-arm64`"
    assert "MarkupSafe-3.0.2-cp313-cp313-manylinux" in (caught.value.hint or "")


def test_a_release_of_sources_only_is_refused_with_what_exists(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NoCompatibleWheel) as caught:
        pins(tmp_path, cache, [ARM313], "netifaces==0.11.0")
    assert caught.value.message == "no wheel of `netifaces==0.11.0` runs on `python3.13-arm64`"
    assert (caught.value.hint or "").endswith("`--allow-sdist netifaces` builds it from source for the target")


def test_a_pin_without_a_loadable_wheel_says_which_version_has_one(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NoCompatibleWheel) as caught:
        pins(tmp_path, cache, [X311], "numpy==2.4.0")
    assert caught.value.message == "no wheel of `numpy==2.4.0` runs on `python3.11-x86_64`"
    assert "needs glibc 2.27; the runtime has 2.26; `numpy==2.2.6` has a wheel that runs there" in (
        caught.value.hint or ""
    )
