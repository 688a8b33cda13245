"""One lock of many: the shortest markers, the same text always, and readable by others."""

from __future__ import annotations

import itertools
import os
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from local_index import LocalIndex, from_files, options
from packaging.markers import Marker
from packaging.pylock import Pylock
from uv import find_uv_bin

from manylambda.errors import PackagingError
from manylambda.locks.merge import environment_marker, marker_for, merge
from manylambda.locks.resolve import resolve
from manylambda.locks.select import select
from manylambda.locks.write import dumps, rebase, write_lock
from manylambda.target import Target, all_targets

if TYPE_CHECKING:
    from pathlib import Path

EVERY = [Target.parse(f"python3.{minor}-{name}") for minor in (9, 11, 13) for name in ("arm64", "x86_64")]
A9, X9, A11, X11, A13, X13 = EVERY
SHA = "a" * 64


def lock(*packages: dict[str, Any]) -> Pylock:
    return Pylock.from_dict({"lock-version": "1.0", "created-by": "uv", "packages": list(packages)})


def package(name: str, version: str, *tags: str) -> dict[str, Any]:
    wheels = [f"{name}-{version}-{tag}.whl" for tag in tags or ("py3-none-any",)]
    return {
        "name": name,
        "version": version,
        "wheels": [{"url": f"https://f.example/{wheel}", "hashes": {"sha256": SHA}} for wheel in wheels],
    }


@pytest.mark.parametrize(
    ("chosen", "marker"),
    [
        (EVERY, None),
        ([X9, X11, X13], 'platform_machine == "x86_64"'),
        ([A9, X9, A11, X11], 'python_version == "3.9" or python_version == "3.11"'),
        ([X9], 'python_version == "3.9" and platform_machine == "x86_64"'),
        (
            [X9, A11, X11],
            'python_version == "3.9" and platform_machine == "x86_64" or python_version == "3.11"',
        ),
    ],
)
def test_a_marker_says_no_more_than_is_needed(chosen: list[Target], marker: str | None) -> None:
    assert marker_for(chosen, EVERY) == marker


def test_a_marker_holds_for_its_targets_and_no_others() -> None:
    for size in range(1, len(EVERY) + 1):
        for chosen in itertools.combinations(EVERY, size):
            marker = marker_for(chosen, EVERY)
            holds = [target for target in EVERY if marker is None or Marker(marker).evaluate(dict(target.markers))]
            assert holds == list(chosen)


def test_an_environment_holds_for_one_target_only() -> None:
    for target in all_targets():
        marker = Marker(environment_marker(target))
        assert [other for other in all_targets() if marker.evaluate(dict(other.markers))] == [target]


def test_an_entry_stands_once_where_versions_agree_with_the_wheels_that_some_target_loads() -> None:
    both = "cp311-cp311-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_34_x86_64"
    merged = merge(
        {
            X13: lock(package("same", "1", both[1]), package("other", "2")),
            X11: lock(package("same", "1", both[0], "cp311-cp311-manylinux_2_28_x86_64"), package("other", "1")),
        }
    )
    assert [(one.name, str(one.version), str(one.marker)) for one in merged.packages] == [
        ("other", "1", 'python_version == "3.11"'),
        ("other", "2", 'python_version == "3.13"'),
        ("same", "1", "None"),
    ]
    assert [wheel.filename for wheel in merged.packages[2].wheels or ()] == [f"same-1-{tag}.whl" for tag in both]
    assert str(merged.requires_python) == f">={X11.python_full_version}"
    assert [str(marker) for marker in merged.environments or ()] == [
        'python_version == "3.11" and platform_machine == "x86_64" and sys_platform == "linux"',
        'python_version == "3.13" and platform_machine == "x86_64" and sys_platform == "linux"',
    ]


def test_folders_and_archives_are_merged_by_what_they_are() -> None:
    folder = {"name": "lib", "directory": {"path": "lib"}}
    archives = [
        {"name": "direct", "archive": {"url": f"https://f.example/direct-1-{tag}.whl", "hashes": {"sha256": SHA}}}
        for tag in ("cp313-cp313-manylinux_2_17_x86_64", "cp313-cp313-manylinux_2_17_aarch64")
    ]
    merged = merge({X13: lock(folder, archives[0]), A13: lock(folder, archives[1])})
    assert [(one.name, str(one.marker)) for one in merged.packages] == [
        ("direct", 'platform_machine == "aarch64"'),
        ("direct", 'platform_machine == "x86_64"'),
        ("lib", "None"),
    ]


TEXT = f'''\
lock-version = "1.0"
environments = [
    "python_version == \\"3.13\\" and platform_machine == \\"x86_64\\" and sys_platform == \\"linux\\"",
]
requires-python = ">={X13.python_full_version}"
created-by = "manylambda"

[[packages]]
name = "lib"
directory = {{ path = "lib" }}

[[packages]]
name = "one"
version = "1"
wheels = [{{ url = "https://f.example/one-1-py3-none-any.whl", hashes = {{ sha256 = "{SHA}" }} }}]

[[packages]]
name = "two"
version = "2"
wheels = [
    {{ url = "https://f.example/two-2-cp313-cp313-manylinux_2_17_x86_64.whl", hashes = {{ sha256 = "{SHA}" }} }},
    {{ url = "https://f.example/two-2-py3-none-any.whl", hashes = {{ sha256 = "{SHA}" }} }},
]

[tool.manylambda]
targets = ["python3.13-x86_64"]
'''


def test_the_text_of_a_lock_is_exactly_this() -> None:
    two = package("two", "2", "py3-none-any", "cp313-cp313-manylinux_2_17_x86_64")
    folder = {"name": "lib", "directory": {"path": "lib"}}
    assert dumps(merge({X13: lock(two, folder, package("one", "1"))})) == TEXT


def test_what_is_written_is_what_is_read() -> None:
    whole = {
        "lock-version": "1.0",
        "environments": ['python_version == "3.13"'],
        "requires-python": ">=3.13",
        "extras": ["more"],
        "dependency-groups": ["jobs"],
        "default-groups": [],
        "created-by": 'odd "tool" \\ \n\t\x01\x7fé',
        "packages": [
            {
                "name": "one",
                "version": "1!2.0+local",
                "marker": '"more" in extras',
                "requires-python": ">=3.9",
                "dependencies": [{"name": "two"}, {"name": "three", "version": "3"}],
                "index": "https://i.example/simple",
                "sdist": {
                    "path": "one-2.tar.gz",
                    "size": 3,
                    "hashes": {"sha256": SHA},
                    "name": "one-1!2.0+local.tar.gz",
                },
                "attestation-identities": [{"kind": "x", "a.b": True, "n": [1, 2.5]}],
                "tool": {"x": {}},
            },
            {"name": "two", "vcs": {"type": "git", "url": "https://g.example/two", "commit-id": "0"}},
        ],
        "tool": {"manylambda": {"targets": []}, "other tool": {"key": {"nested": "value"}}},
    }
    read = Pylock.from_dict(whole)
    assert tomllib.loads(dumps(read)) == read.to_dict()


def test_paths_move_with_the_lock(tmp_path: Path) -> None:
    archive = {"path": "../wheels/one-1-py3-none-any.whl", "hashes": {"sha256": SHA}}
    pylock = lock(
        {"name": "lib", "directory": {"path": str(tmp_path / "project" / "lib")}},
        {"name": "one", "archive": archive},
    )
    moved = rebase(pylock, tmp_path / "project", tmp_path / "elsewhere" / "deep")
    assert [one.directory.path if one.directory else one.archive.path for one in moved.packages] == [  # type: ignore[union-attr]
        "../../project/lib",
        "../../wheels/one-1-py3-none-any.whl",
    ]
    file = tmp_path / "elsewhere" / "pylock.toml"
    file.parent.mkdir()
    write_lock(pylock, file, base=tmp_path / "project")
    assert file.read_bytes() == dumps(rebase(pylock, tmp_path / "project", file.parent)).encode()
    assert [path.name for path in file.parent.iterdir()] == ["pylock.toml"]
    with pytest.raises(PackagingError, match=r"^cannot write `.*`: no such file or directory$"):
        write_lock(pylock, tmp_path / "missing" / "pylock.toml", base=tmp_path)


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pylock:
    """A real lock in which everything differs."""
    index = LocalIndex(tmp_path / "index")
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    for minor, version in ((9, "1.0"), (11, "1.1"), (13, "1.2")):
        tags = [f"cp3{minor}-cp3{minor}-manylinux_2_17_{machine}" for machine in ("x86_64", "aarch64")]
        index.wheel("native", version, tags, requires=["helper; platform_machine == 'aarch64'", "shared"])
    index.wheel("helper", "1.0")
    index.wheel("shared", "1.0")
    return resolve(from_files(tmp_path), EVERY, options(tmp_path / "cache"), lines=["native"])


def test_packaging_selects_the_same_without_knowing_of_us(merged: Pylock, tmp_path: Path) -> None:
    merged.validate()
    for target in EVERY:
        theirs = merged.select(environment=target.markers, tags=target.tags())  # type: ignore[arg-type]
        ours = select(merged, target, options(tmp_path), tmp_path)
        assert sorted((one.name, file.filename) for one, file in theirs) == [  # type: ignore[union-attr]
            (pin.name, pin.wheel.filename) for pin in ours.pins
        ]
        assert {pin.name for pin in ours.pins} == {"native", "shared"} | (
            {"helper"} if target.machine == "aarch64" else set()
        )


def test_uv_installs_from_it(merged: Pylock, tmp_path: Path) -> None:
    file = tmp_path / "pylock.toml"
    write_lock(merged, file, base=tmp_path)
    done = subprocess.run(
        [
            find_uv_bin(),
            "pip",
            "install",
            "--preview",
            "--requirements",
            str(file),
            "--target",
            str(tmp_path / "out"),
            "--python-platform",
            "aarch64-manylinux_2_34",
            "--python-version",
            A13.python_full_version,
            "--no-python-downloads",
            "--cache-dir",
            str(tmp_path / "cache"),
            "--dry-run",
            "--no-build",
        ],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {line.strip(" +") for line in done.stderr.splitlines() if line.startswith(" + ")} >= {"native==1.2"}
