"""Index settings, where users of uv and of pip keep them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manylambda.errors import RequestError
from manylambda.locks.requirements import read_requirements
from manylambda.locks.settings import DEFAULT_INDEX, Index, IndexSettings, newest_upload, read_settings

A, B, C = (f"https://{name}.example/simple" for name in "abc")


def settings(project: Path, **environment: str) -> IndexSettings:
    return read_settings(project, {"PIP_CONFIG_FILE": os.devnull, "HOME": str(project / "home"), **environment})


def urls(found: IndexSettings) -> list[str]:
    return [index.url for index in found.indexes]


def test_nothing_set_means_the_public_index_and_nothing_for_uv(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert (urls(found), found.strategy, found.owner) == ([DEFAULT_INDEX], "first-index", "nobody")
    assert found.uv_environment() == {"UV_DEFAULT_INDEX": DEFAULT_INDEX}


def test_uvs_variables_hold_and_uv_is_told_nothing(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        UV_INDEX=f"corp={A} {B}",
        UV_DEFAULT_INDEX=C,
        UV_FIND_LINKS="wheels",
        UV_INDEX_STRATEGY="unsafe-best-match",
    )
    assert found.indexes == (Index(url=A, name="corp"), Index(url=B), Index(url=C))
    assert (found.find_links, found.strategy, found.owner) == ((str(tmp_path / "wheels"),), "unsafe-best-match", "uv")
    assert found.uv_environment() == {}
    assert found.index_urls == (("corp", A), (None, B), (None, C))


def test_the_old_names_of_uvs_variables_hold(tmp_path: Path) -> None:
    assert urls(settings(tmp_path, UV_INDEX_URL=A, UV_EXTRA_INDEX_URL=f"{B} {C}")) == [B, C, A]


def test_a_pyproject_above_the_project_holds(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.uv]\nfind-links = ["wheels"]\n[[tool.uv.index]]\nname = "torch"\nurl = "{A}"\nexplicit = true\n'
        f'[[tool.uv.index]]\nurl = "{B}"\ndefault = true\n[[tool.uv.index]]\nurl = "./local"\n'
    )
    (tmp_path / "sub").mkdir()
    found = settings(tmp_path / "sub")
    assert found.indexes == (
        Index(url=A, name="torch", explicit=True),
        Index(url=str(tmp_path / "local")),
        Index(url=B),
    )
    assert found.find_links == (str(tmp_path / "wheels"),)


def test_uv_toml_comes_before_pyproject_and_both_before_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text(f'index-url = "{A}"\n[pip]\nextra-index-url = ["{B}"]\n')
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nindex-url = "https://unseen.example"\n')
    user = tmp_path / "home" / ".config" / "uv"
    user.mkdir(parents=True)
    (user / "uv.toml").write_text(f'index-url = "https://weaker.example"\nextra-index-url = ["{C}"]\n')
    assert urls(settings(tmp_path)) == [B, C, A]
    assert urls(settings(tmp_path, UV_NO_CONFIG="1")) == [DEFAULT_INDEX]


def test_a_named_settings_file_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text(f'index-url = "{A}"\n')
    (tmp_path / "other.toml").write_text("no-index = true\nfind-links = ['/wheels']\n")
    found = settings(tmp_path, UV_CONFIG_FILE=str(tmp_path / "other.toml"))
    assert (found.indexes, found.find_links) == ((), (str(Path("/wheels")),))


def test_a_settings_file_that_is_not_toml_is_told(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text("index-url = \n")
    with pytest.raises(RequestError, match=r"^cannot read `.*uv\.toml`: "):
        settings(tmp_path)


def test_pips_variables_are_translated_for_uv(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    found = settings(
        tmp_path,
        PIP_INDEX_URL="https://user:word@a.example/simple",
        PIP_EXTRA_INDEX_URL=f"{B} file:///does/not/exist",
        PIP_FIND_LINKS=f"{tmp_path / 'wheels'} /does/not/exist",
        PIP_TRUSTED_HOST="a.example b.example",
        PIP_CERT="/ca.pem",
        PIP_KEYRING_PROVIDER="subprocess",
    )
    assert found.uv_environment() == {
        "SSL_CERT_FILE": "/ca.pem",
        "UV_DEFAULT_INDEX": "https://user:word@a.example/simple",
        "UV_FIND_LINKS": str(tmp_path / "wheels"),
        "UV_INDEX": B,
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a.example b.example",
        "UV_KEYRING_PROVIDER": "subprocess",
    }
    assert found.index_urls == ((None, B), (None, "https://user:word@a.example/simple"))


def test_pips_files_hold_in_pips_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".pip").mkdir()
    (home / ".pip" / "pip.conf").write_text(f"[global]\nindex-url = {C}\nextra_index_url = {C}\n")
    (home / ".config" / "pip" / "pip.conf").write_text(
        f"[install]\nindex-url = {B}\n[global]\nindex-url = {A}\n[download]\nindex-url = {C}\n"
    )
    environment = {"HOME": str(home), "XDG_CONFIG_DIRS": str(tmp_path)}
    found = read_settings(tmp_path, environment)
    assert (urls(found), found.owner) == ([C, B], "pip")
    own = tmp_path / "own.conf"
    own.write_text(f"[global]\nindex-url = {A}\n")
    assert urls(read_settings(tmp_path, {**environment, "PIP_CONFIG_FILE": str(own)})) == [A]
    assert urls(read_settings(tmp_path, {**environment, "PIP_INDEX_URL": C})) == [C, C]


def test_pips_no_index_leaves_only_the_links(tmp_path: Path) -> None:
    found = settings(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert (found.indexes, found.find_links) == ((), (str(tmp_path),))
    assert found.uv_environment() == {"UV_FIND_LINKS": str(tmp_path)}


def test_uvs_settings_win_over_pips(tmp_path: Path) -> None:
    assert urls(settings(tmp_path, UV_DEFAULT_INDEX=A, PIP_INDEX_URL=B)) == [A]


def test_a_pip_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("index-url = x\n")
    with pytest.raises(RequestError, match=r"^cannot read `.*pip\.conf`: File contains no section headers\.$"):
        read_settings(tmp_path, {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})


def test_options_of_a_requirements_file_come_on_top(tmp_path: Path) -> None:
    requirements = read_requirements(
        base=tmp_path, environment={}, lines=[f"--index-url {A}", f"--extra-index-url {B}", "--find-links wheels"]
    )
    found = read_settings(tmp_path, {"PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": C}, requirements)
    assert (urls(found), found.strategy) == ([B, C, A], "unsafe-best-match")
    assert found.find_links == (str(tmp_path / "wheels"),)
    none = read_requirements(base=tmp_path, environment={}, lines=["--no-index"])
    assert read_settings(tmp_path, {"PIP_CONFIG_FILE": os.devnull}, none).indexes == ()


def test_from_when_files_are_left_out_is_read_as_uv_reads_it(tmp_path: Path) -> None:
    config = tmp_path / "uv.toml"
    config.write_text(
        'exclude-newer = "2024-05-01T10:00:00Z"\n'
        '[exclude-newer-package]\nSlow = "2023-01-01T00:00:00+02:00"\nfree = false\n'
    )
    file = {"UV_CONFIG_FILE": str(config)}
    found = {name: newest_upload(name, tmp_path, file) for name in ("any", "slow", "free")}
    assert found == {
        "any": datetime(2024, 5, 1, 10, tzinfo=UTC),
        "slow": datetime(2022, 12, 31, 22, tzinfo=UTC),
        "free": None,
    }
    assert newest_upload("any", tmp_path, {"UV_NO_CONFIG": "1"}) is None
    day = newest_upload("any", tmp_path, {**file, "UV_EXCLUDE_NEWER": "2024-02-29"})
    assert day == datetime(2024, 3, 1).astimezone()
    variable = {"UV_EXCLUDE_NEWER_PACKAGE": "any=2020-01-01T00:00:00Z"}
    assert newest_upload("any", tmp_path, variable) == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "hours"),
    [("24 hours", 24), ("1 week", 168), ("P30D", 720), ("PT12H", 12), ("2d 3h", 51), ("P1DT30M", 24.5)],
)
def test_from_when_files_are_left_out_may_be_told_as_how_long_ago(tmp_path: Path, text: str, hours: float) -> None:
    found = newest_upload("any", tmp_path, {"UV_EXCLUDE_NEWER": text})
    assert found is not None
    assert abs((datetime.now(UTC) - found).total_seconds() - hours * 3600) < 60


@pytest.mark.parametrize("text", ["yesterday", "2 months", "soon 1"])
def test_a_limit_that_cannot_be_read_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError, match=rf"^`exclude-newer` in the settings of uv cannot be read: `{text}`$"):
        newest_upload("any", tmp_path, {"UV_EXCLUDE_NEWER": text})
