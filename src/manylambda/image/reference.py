"""What users call an image in a registry: `public.ecr.aws/lambda/python:3.13-arm64@sha256:...`.

Read as Docker and Podman read it, in full: a name without a host is one of `docker.io`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from manylambda.errors import RequestError
from manylambda.image.tar import shown

_HOST: Final = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])"
)
_PORT: Final = r"(?::[0-9]{1,5})?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_MAX_NAME: Final = 255
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_NAMES: Final = frozenset(
    {_DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)


class Reference(NamedTuple):
    """An image in a registry. With a digest it is that image for ever, whatever the tag names by then."""

    registry: str
    """`host` or `host:port`, lower case; `docker.io` for Docker Hub under any of its names."""
    repository: str
    """Without a host: `lambda/python`."""
    tag: str | None
    """`latest` where the text has neither tag nor digest; None where it has a digest only."""
    digest: str | None
    """`sha256:` and 64 hexadecimal digits."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference; raises RequestError with what is wrong in it."""
        scheme, separator, rest = text.partition("://")
        if separator:
            raise _wrong(text, "it has a scheme", f"write it without `{shown(scheme)}://`: `{shown(rest)}`")
        name, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _wrong(
                text, f"its digest is malformed: `{shown(digest)}`", "a digest is `sha256:` and 64 digits of 0-9a-f"
            )
        host, slash, path = name.partition("/")
        # As Docker decides: the first part is a host when it could be nothing else.
        if not slash or not (re.search(r"[.:A-Z\[]", host) or host == "localhost"):
            host, path = _DOCKER_HUB, name
        path, colon, tag = path.partition(":")
        if colon and not re.fullmatch(_TAG, tag, re.ASCII):
            raise _wrong(
                text, f"its tag is malformed: `{shown(tag)}`", "a tag is at most 128 letters, digits, `_`, `.` and `-`"
            )
        if not re.fullmatch(_HOST + _PORT, host) or not _has_port(host):
            raise _wrong(text, f"its registry is malformed: `{shown(host)}`", "a registry is `HOST` or `HOST:PORT`")
        host = host.lower()
        if host in _DOCKER_HUB_NAMES:
            host = _DOCKER_HUB
            path = path if "/" in path else f"library/{path}"
        if not re.fullmatch(rf"{_PART}(?:/{_PART})*", path, re.ASCII) or len(path) > _MAX_NAME:
            upper = " in lower case" if path != path.lower() else ""
            raise _wrong(
                text, f"its name is malformed: `{shown(path)}`", f"write it{upper} as `[HOST/]NAME[:TAG][@sha256:...]`"
            )
        return cls(host, path, tag if colon else None if at else "latest", digest if at else None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def endpoint(self) -> str:
        """The `host` or `host:port` that speaks the registry protocol."""
        return "registry-1.docker.io" if self.registry == _DOCKER_HUB else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, so that nobody on the way could read along."""
        return is_loopback(self.registry)

    def pinned(self, digest: str) -> Reference:
        """Return the reference with a digest; the tag stays, for people."""
        return self._replace(digest=digest)


def names_registry(text: str) -> bool:
    """Whether a text names a host, so that it is a reference and no path: what is meant for here goes nowhere else."""
    host, slash, _ = text.partition("/")
    is_host = host == "localhost" or re.search(r"[.:\[]", host) is not None
    return bool(slash) and is_host and not host.startswith(".") and re.fullmatch(r"[A-Za-z]:", host) is None


def is_loopback(netloc: str) -> bool:
    """Whether `host` or `host:port` is this machine, by its name or address alone."""
    host = re.sub(r":[0-9]+$", "", netloc).strip("[]") if netloc.count(":") < 2 or "[" in netloc else netloc
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_port(host: str) -> bool:
    port = re.search(r":([0-9]+)$", re.sub(r"\[.*\]", "", host))
    return port is None or 0 < int(port[1]) < 65536


def _wrong(text: str, fact: str, hint: str) -> RequestError:
    return RequestError(f"`{shown(text)}` is no image reference: {fact}", hint=hint)
