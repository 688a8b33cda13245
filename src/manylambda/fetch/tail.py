"""The end of a remote file: a zip archive has its directory there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manylambda.fetch.client import Client


def read_tail(url: str, length: int, client: Client) -> bytes | None:
    """Fetch the last `length` bytes of a file (all of a shorter one); None where the server gives it only whole.

    What comes is not checked against any hash. Raises FetchError.
    """
    # Some servers compress whatever they send, and then a part is one of something else.
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Range": f"bytes=-{length}"}

    def attempt() -> bytes | None:
        with client.get("the end of a file", url, headers) as (response, _):
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
            if response.status != 206 or span is None:
                return None
            first, last, size = map(int, span.groups())
            if last != size - 1 or not size - length <= first <= last:
                return None
            data = b"".join(client.chunks(response, decode=False))
        return data if len(data) == size - first else None

    return client.persist("the end of a file", url, attempt)
