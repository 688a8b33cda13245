"""Small documents by address, such as the pages of an index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.errors import FetchError
from manylambda.fetch.client import Client, HttpSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manylambda.fetch.credentials import Credentials

INDEX_PAGE: Final = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
"""The `Accept` header of PEP 691: JSON where the index has it."""


class Page(NamedTuple):
    """A document and what its server said about it."""

    text: str
    content_type: str
    """Without parameters, lower case; empty when the server named none."""
    url: str
    """Where it came from after redirects, without a login: the base of the links in it."""


def read_text(
    url: str,
    *,
    credentials: Credentials,
    headers: Mapping[str, str] | None = None,
    limit: int = 128 * 1024 * 1024,
    settings: HttpSettings | None = None,
    client: Client | None = None,
) -> Page:
    """Fetch a document of at most `limit` bytes; a `client` given is used, and its connections with it.

    Raises StatusError when the server says no (`status` is 404 for an unknown project), and FetchError when the page
    cannot be had for another reason, is too large, or is not text.
    """
    if client is None:
        with Client(settings or HttpSettings.from_environment(os.environ), credentials) as own:
            return read_text(url, credentials=credentials, headers=headers, limit=limit, client=own)
    shown = credentials.redact(url)
    asked = {"Accept-Encoding": "gzip, deflate", **(headers or {})}

    def attempt() -> Page:
        body = bytearray()
        with client.get("the page", url, asked) as (response, address):
            if response.status != 200:
                raise FetchError(f"the page came in part only: `{shown}`")
            for chunk in client.chunks(response, decode=True):
                body += chunk
                if len(body) > limit:
                    raise FetchError(f"the page is larger than {limit} bytes: `{shown}`")
            kind, _, parameters = response.headers.get("Content-Type", "").partition(";")
        return Page(
            text=_decode(bytes(body), parameters, shown),
            content_type=kind.strip().lower(),
            url=credentials.redact(address),
        )

    return client.persist("the page", url, attempt)


def _decode(body: bytes, parameters: str, shown: str) -> str:
    name, _, value = parameters.strip().partition("=")
    encoding = value.strip("\"' ") if name.strip().lower() == "charset" else "utf-8"
    try:
        return body.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise FetchError(f"the page is not text as `{encoding}`: `{shown}`") from error
