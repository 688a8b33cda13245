"""Files from elsewhere: downloads, the cache they lie in, the logins that give access."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manylambda.fetch.cache import Cache, hash_file
    from manylambda.fetch.client import Client, HttpSettings, StatusError
    from manylambda.fetch.credentials import Credentials, strip_userinfo
    from manylambda.fetch.download import Download, fetch_all
    from manylambda.fetch.page import INDEX_PAGE, Page, read_text

__all__ = [
    "Cache",
    "Client",
    "Credentials",
    "Download",
    "HttpSettings",
    "INDEX_PAGE",
    "Page",
    "StatusError",
    "fetch_all",
    "hash_file",
    "read_text",
    "strip_userinfo",
]

# Imported when first asked for: a warm build needs the cache alone.
_HOMES: Final = {
    "Cache": "cache",
    "hash_file": "cache",
    "Client": "client",
    "HttpSettings": "client",
    "StatusError": "client",
    "Credentials": "credentials",
    "strip_userinfo": "credentials",
    "Download": "download",
    "fetch_all": "download",
    "INDEX_PAGE": "page",
    "Page": "page",
    "read_text": "page",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `manylambda.fetch` has no attribute `{name}`")
    return getattr(import_module(f"manylambda.fetch.{home}"), name)
