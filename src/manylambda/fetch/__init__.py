"""Files from elsewhere: downloads, the cache they lie in, the logins that give access."""

from __future__ import annotations

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
