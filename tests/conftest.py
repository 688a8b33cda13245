"""What every test shares: no setting of the developer's machine reaches a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's index settings, credentials and cache."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "MANYLAMBDA_", "NETRC", "KEYRING")) and name != "PIP_CERT":
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MANYLAMBDA_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a cache folder that tests of one session (and worker) share, so that a real wheel is fetched once."""
    configured = os.environ.get("MANYLAMBDA_TEST_CACHE")
    if configured:
        from pathlib import Path as _Path

        return _Path(configured)
    return tmp_path_factory.mktemp("shared-cache")
