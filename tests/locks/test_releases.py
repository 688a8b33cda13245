"""What a release has besides the pure wheel that was chosen: asked once, kept in the lock, told later."""

from __future__ import annotations

import dataclasses
import time
import tomllib
from typing import TYPE_CHECKING

import pytest
from local_index import LocalIndex, ServedIndex, from_files, options
from packaging.pylock import Pylock

from manylambda.errors import FetchError
from manylambda.locks.compatibility import compiled
from manylambda.locks.index import IndexClient, IndexFile, parse_page
from manylambda.locks.model import Source, SourceKind
from manylambda.locks.resolve import resolve
from manylambda.locks.select import select
from manylambda.locks.write import dumps
from manylambda.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manylambda.locks.model import Pin

X311, X313 = Target.parse("python3.11-x86_64"), Target.parse("python3.13-x86_64")
LIBRARY = ("py3-none-any", "py3-none-manylinux_2_28_x86_64", "py3-none-win_amd64")
EXTENSION = ("py3-none-any", "cp311-cp311-manylinux_2_28_x86_64")
FITTING = "cp311-cp311-manylinux_2_17_x86_64"


@pytest.fixture
def index(tmp_path: Path) -> LocalIndex:
    return LocalIndex(tmp_path / "index")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names that indexes are asked for, beside uv's questions."""
    names: list[str] = []
    honest = IndexClient._project

    def listening(self: IndexClient, index: str, name: str, *, thin: bool) -> tuple[IndexFile, ...]:
        names.append(name)
        return honest(self, index, name, thin=thin)

    monkeypatch.setattr(IndexClient, "_project", listening)
    return names


def locked(project: Path, urls: str, *lines: str, offline: bool = False, **env: str) -> Pylock:
    default, _, others = urls.partition(" ")
    environment = {"PIP_INDEX_URL": default, "PIP_EXTRA_INDEX_URL": others, **env}
    own = options(project / "uv-cache", environment=environment, offline=offline)
    return resolve(from_files(project), [X311], own, lines=lines)


def pins(lock: Pylock, project: Path, target: Target = X311) -> dict[str, Pin]:
    return {pin.name: pin for pin in select(lock, target, options(project), project).pins}


@pytest.mark.parametrize(
    ("tags", "platforms", "brings_library"),
    [
        (["py3-none-any"], (), False),
        (["py2.py3-none-manylinux_2_28_x86_64"], ("Linux x86_64 (glibc 2.28)",), True),
        (["py3-none-musllinux_1_2_aarch64", "py3-none-any"], ("musl Linux aarch64",), True),
        (["cp311-abi3-manylinux_2_17_x86_64"], ("Linux x86_64 (glibc 2.17)",), False),
        (["py3-none-win_amd64", "py3-none-macosx_11_0_arm64"], ("Windows", "macOS"), True),
        (["py3-none-win_amd64", "cp311-cp311-macosx_11_0_arm64"], ("Windows", "macOS"), False),
        # An interpreter's own tag: an extension module, as early maturin named them.
        (["cp38-none-win_amd64"], ("Windows",), False),
        # What the release is on Linux decides: elsewhere a launcher may be all that a wheel brings.
        (["py3-none-win32", "cp311-cp311-manylinux_2_17_x86_64"], ("Linux x86_64 (glibc 2.17)", "Windows"), False),
        (["cp311-cp311-win32", "py3-none-manylinux_2_17_x86_64"], ("Linux x86_64 (glibc 2.17)", "Windows"), True),
    ],
)
def test_the_tags_tell_a_library_from_an_extension_module(
    tags: list[str], platforms: tuple[str, ...], brings_library: bool
) -> None:
    assert compiled(f"demo-1.0-{tag}.whl" for tag in tags) == (platforms, brings_library)


def test_a_fresh_lock_keeps_what_the_index_knows_and_tells_it_later(index: LocalIndex, tmp_path: Path) -> None:
    index.wheel("sound", "1.0", LIBRARY)
    index.wheel("speedy", "1.0", EXTENSION)
    index.wheel("plain", "1.0")
    text = dumps(locked(tmp_path, index.url, "sound", "speedy", "plain"))
    assert [line for line in text.splitlines() if line.startswith("tool = ")] == [
        'tool = { manylambda = { compiled-for = ["Linux x86_64 (glibc 2.28)", "Windows"], brings-library = true } }',
        'tool = { manylambda = { compiled-for = ["Linux x86_64 (glibc 2.28)"] } }',
    ]
    found = pins(Pylock.from_dict(tomllib.loads(text)), tmp_path)
    assert {name: (pin.compiled_for, pin.brings_library) for name, pin in found.items()} == {
        "plain": ((), False),
        "sound": (("Linux x86_64 (glibc 2.28)", "Windows"), True),
        "speedy": (("Linux x86_64 (glibc 2.28)",), False),
    }


def test_a_target_that_loads_the_compiled_wheel_is_told_nothing(index: LocalIndex, tmp_path: Path) -> None:
    index.wheel("sound", "1.0", LIBRARY)
    both = resolve(
        from_files(tmp_path),
        [X311, X313],
        options(tmp_path / "uv-cache", environment={"PIP_INDEX_URL": index.url}),
        lines=["sound"],
    )
    assert pins(both, tmp_path, X311)["sound"].brings_library
    loads = pins(both, tmp_path, X313)["sound"]
    assert (loads.wheel.filename, loads.compiled_for, loads.brings_library) == (
        "sound-1.0-py3-none-manylinux_2_28_x86_64.whl",
        (),
        False,
    )


def test_only_pure_choices_are_asked_about_and_only_once(index: LocalIndex, tmp_path: Path, asked: list[str]) -> None:
    index.wheel("sound", "1.0", LIBRARY)
    index.wheel("native", "1.0", [FITTING])
    with ServedIndex(index.root) as served:
        url = f"http://{served.host}"
        first = locked(tmp_path, url, "sound", "native")
        assert asked == ["sound"]
        again = locked(tmp_path, url, "sound", "native")
        assert asked == ["sound"]
        assert dumps(again) == dumps(first)


def test_an_answer_is_asked_for_again_after_a_day(
    index: LocalIndex, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheel("sound", "1.0", LIBRARY)
    locked(tmp_path, index.url, "sound")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_500)
    offline = locked(tmp_path, index.url, "sound", offline=True)
    assert asked == ["sound"]
    assert pins(offline, tmp_path)["sound"].brings_library, "what was last heard serves offline"
    locked(tmp_path, index.url, "sound")
    assert asked == ["sound", "sound"]


def test_an_index_that_fails_is_passed_over_without_a_word(
    index: LocalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.wheel("sound", "1.0", LIBRARY)
    tries: list[str] = []

    def failing(self: IndexClient, url: str) -> tuple[str, str]:
        tries.append(url)
        raise FetchError("the index is down")

    monkeypatch.setattr(IndexClient, "_page", failing)
    with ServedIndex(index.root) as served:
        lock = locked(tmp_path, f"http://{served.host}", "sound")
    assert tries == [f"http://{served.host}/sound/"]
    (pin,) = pins(lock, tmp_path).values()
    assert (pin.wheel.filename, pin.compiled_for) == ("sound-1.0-py3-none-any.whl", ())


def test_an_index_for_some_packages_only_keeps_their_names(
    index: LocalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[tool.uv.sources]`: no other index is to hear of what comes from there."""
    index.wheel("secret", "1.0", LIBRARY)
    places: list[str] = []
    honest = IndexClient._project

    def listening(self: IndexClient, index: str, name: str, *, thin: bool) -> tuple[IndexFile, ...]:
        places.append(index)
        return honest(self, index, name, thin=thin)

    monkeypatch.setattr(IndexClient, "_project", listening)
    public = LocalIndex(tmp_path / "public")
    with ServedIndex(index.root) as private, ServedIndex(public.root) as other:
        (tmp_path / "pyproject.toml").write_text(
            '[project]\nname = "app"\nversion = "1"\ndependencies = ["secret"]\n'
            '[tool.uv.sources]\nsecret = { index = "own" }\n'
            f'[[tool.uv.index]]\nname = "own"\nurl = "http://{private.host}"\nexplicit = true\n'
            f'[[tool.uv.index]]\nname = "public"\nurl = "http://{other.host}"\ndefault = true\n',
            encoding="utf-8",
        )
        own = options(tmp_path / "uv-cache", environment={"UV_NO_CONFIG": "0"})
        source = Source(kind=SourceKind.PYPROJECT, project=tmp_path, files=(tmp_path / "pyproject.toml",))
        lock = resolve(source, [X311], own)
    (pin,) = pins(lock, tmp_path).values()
    assert pin.brings_library
    assert places == [f"http://{private.host}"]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Serve two indexes, of which the first has the pure wheel of a release and the second the compiled one."""
    pure, native = LocalIndex(tmp_path / "pure"), LocalIndex(tmp_path / "native")
    pure.wheel("demo", "1.0")
    native.wheel("demo", "1.0", [FITTING, "cp311-cp311-manylinux_2_28_x86_64"])
    with ServedIndex(pure.root) as first, ServedIndex(native.root) as second:
        yield f"http://{first.host}", f"http://{second.host}"


def test_with_the_settings_of_pip_the_files_of_all_indexes_are_candidates(two: tuple[str, str], tmp_path: Path) -> None:
    pure, native = two
    lock = locked(tmp_path, f"{native} {pure}", "demo")
    (pin,) = pins(lock, tmp_path).values()
    assert pin.wheel.filename == f"demo-1.0-{FITTING}.whl"
    assert pin.wheel.url == f"{native}/demo/{pin.wheel.filename}"
    assert pin.wheel.hashes["sha256"]
    assert (pin.index, pin.compiled_for) == (None, ())


def test_with_the_settings_of_uv_the_first_index_that_has_a_version_gives_its_files(
    two: tuple[str, str], tmp_path: Path
) -> None:
    environment = {"UV_INDEX": two[0], "UV_DEFAULT_INDEX": two[1], "UV_INDEX_STRATEGY": "unsafe-best-match"}
    own = options(tmp_path / "uv-cache", environment=environment)
    (pin,) = pins(resolve(from_files(tmp_path), [X311], own, lines=["demo"]), tmp_path).values()
    assert pin.wheel.filename == "demo-1.0-py3-none-any.whl"
    assert pin.compiled_for == ("Linux x86_64 (glibc 2.17)", "Linux x86_64 (glibc 2.28)")


@pytest.mark.parametrize("setting", ["variable", "file"])
def test_settings_of_uv_that_leave_files_out_let_no_other_file_in(
    two: tuple[str, str], tmp_path: Path, setting: str
) -> None:
    pure, native = two
    if setting == "file":
        (tmp_path / "uv.toml").write_text('exclude-newer-package = { other = "2026-01-01" }\n', encoding="utf-8")
        lock = locked(tmp_path, f"{native} {pure}", "demo", UV_NO_CONFIG="0")
    else:
        lock = locked(tmp_path, f"{native} {pure}", "demo", UV_EXCLUDE_NEWER_PACKAGE="other=2026-01-01")
    (pin,) = pins(lock, tmp_path).values()
    assert pin.wheel.filename == "demo-1.0-py3-none-any.whl"


def test_a_thin_page_still_shows_that_the_index_has_the_project() -> None:
    names = ["other-1.0.tar.gz", "demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl", "demo-1.0-py3-none-win32.whl"]
    files = ", ".join(f'{{"filename": "{name}", "url": "https://files.test/{name}"}}' for name in names)
    page = f'{{"files": [{files}]}}'
    whole = parse_page(page, base="https://index.test/demo/", project="demo")
    thin = parse_page(page, base="https://index.test/demo/", project="demo", thin=True)
    assert [file.filename for file in whole] == names[1:]
    assert [file.filename for file in thin] == [names[1], names[3]]


@pytest.mark.parametrize(
    "table", [{}, {"compiled-for": "Windows"}, {"compiled-for": [1]}, {"brings-library": True}, "text"]
)
def test_a_table_that_is_not_ours_tells_nothing(index: LocalIndex, tmp_path: Path, table: object) -> None:
    index.wheel("plain", "1.0")
    lock = locked(tmp_path, index.url, "plain")
    (package,) = lock.packages

    def told(table: object) -> tuple[tuple[str, ...], bool]:
        other = dataclasses.replace(package, tool={"manylambda": table})
        (pin,) = pins(dataclasses.replace(lock, packages=[other]), tmp_path).values()
        return pin.compiled_for, pin.brings_library

    assert told(table) == ((), False)
    assert told({"compiled-for": ["macOS"]}) == (("macOS",), False)
