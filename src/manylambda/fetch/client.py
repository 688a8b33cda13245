"""HTTP as this package needs it: certificates, proxies, logins, redirects, patience, and failures told plainly.

Knows nothing of wheels or the cache. urllib3 is imported when the first request is made, never before.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from manylambda.errors import FetchError, RequestError
from manylambda.fetch.credentials import strip_userinfo

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from urllib3 import BaseHTTPResponse, PoolManager

    from manylambda.fetch.credentials import Credentials

_T = TypeVar("_T")

FETCHED: Final = "fetched from"
"""What messages say of what was tried, unless it was something else."""
_CHUNK: Final = 128 * 1024
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 10
MAY_PASS: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpSettings:
    """How patient we are, and whom we trust."""

    timeout: float = 30.0
    """Seconds without an answer after which a server counts as silent."""
    retries: int = 5
    """Attempts after the first; one that got on by a megabyte is not counted."""
    backoff: float = 0.5
    """Seconds before the first retry; doubled for each one after it, then shortened by up to half, at random."""
    longest_wait: float = 60.0
    """Most seconds to wait between attempts, whatever `Retry-After` asks."""
    slowest: float = 1024.0
    """Bytes a second, over `timeout` seconds, below which a server counts as silent."""
    connections: int = 8
    certificates: tuple[Path, ...] = ()
    """Files and folders of certificates to trust instead of the platform's."""
    certificates_variable: str = "SSL_CERT_FILE"
    """The variable that names them, or would."""
    client_certificate: Path | None = None
    insecure_hosts: frozenset[str] = frozenset()
    """`host` or `host:port` whose certificate is not checked, because the user said so."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> HttpSettings:
        """Read `MANYLAMBDA_HTTP_TIMEOUT` and `_RETRIES`, and what users of uv and pip have set already."""

        def first(*names: str) -> tuple[str, str] | None:
            return next(((name, environment[name]) for name in names if environment.get(name)), None)

        default = cls()
        timeout = first("MANYLAMBDA_HTTP_TIMEOUT", "UV_HTTP_TIMEOUT", "PIP_DEFAULT_TIMEOUT")
        retries = first("MANYLAMBDA_HTTP_RETRIES", "UV_HTTP_RETRIES", "PIP_RETRIES")
        bundle = first("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        names = [bundle[0]] if bundle else ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        client = first("PIP_CLIENT_CERT", "SSL_CLIENT_CERT")
        insecure = " ".join(environment.get(name, "") for name in ("UV_INSECURE_HOST", "PIP_TRUSTED_HOST"))
        return cls(
            timeout=_number(*timeout) if timeout else default.timeout,
            retries=int(_number(*retries)) if retries else default.retries,
            certificates=tuple(
                path for name in names if environment.get(name) for path in _existing(name, environment[name])
            ),
            certificates_variable=names[0],
            client_certificate=_existing(*client)[0] if client else None,
            insecure_hosts=frozenset(insecure.replace(",", " ").lower().split()),
        )


class StatusError(FetchError):
    """A server said no; `status` says how."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TransientError(Exception):
    """An attempt failed in a way that may pass; never leaves `Client.persist`."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        """Seconds the server asks us to wait, if it did."""


class Cancelled(Exception):
    """Another download failed, so this one is given up; never leaves this package."""


class Client:
    """Connections to servers, shared by threads; a context manager that closes them."""

    def __init__(self, settings: HttpSettings, credentials: Credentials) -> None:
        self.settings = settings
        self._credentials = credentials
        self._pools: dict[tuple[str, str | None, bool], PoolManager] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running: set[BaseHTTPResponse] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools.values():
            pool.clear()

    def abort(self) -> None:
        """Make every thread that waits for a server raise `Cancelled` soon."""
        self._stop.set()
        with self._lock:
            for response in self._running:
                # Already released, or closed by the other side: then nobody waits for it.
                with contextlib.suppress(ValueError, RuntimeError, OSError):
                    response.shutdown()

    def check(self) -> None:
        """Raise `Cancelled` after `abort`."""
        if self._stop.is_set():
            raise Cancelled

    def persist(
        self,
        what: str,
        url: str,
        attempt: Callable[[], _T],
        progress: Callable[[], int] = int,
        *,
        verb: str = FETCHED,
    ) -> _T:
        """Call `attempt` until it succeeds, waiting longer after each `TransientError`; `what` names it in messages.

        `progress` counts the bytes got so far: while a megabyte more comes with every attempt, patience is renewed.
        `verb` says in messages what was tried.
        Raises FetchError when it is used up.
        """
        import random

        settings = self.settings
        attempts = failures = 0
        before = progress()
        while True:
            self.check()
            attempts += 1
            try:
                return attempt()
            except TransientError as error:
                self.check()
                failures = failures + 1 if progress() - before < 1_000_000 else 1
                before = max(before, progress())
                if failures > settings.retries:
                    count = "1 attempt" if attempts == 1 else f"{attempts} attempts"
                    raise FetchError(
                        self._credentials.redact(f"{what} could not be {verb} `{url}` in {count}: {error.reason}"),
                        hint="is the network up, and the server? `MANYLAMBDA_HTTP_TIMEOUT` and "
                        "`MANYLAMBDA_HTTP_RETRIES` ask for more patience",
                    ) from error
                wait = settings.backoff * 2 ** (failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                if error.wait is not None:
                    wait = max(wait, error.wait)
                self._stop.wait(min(wait, settings.longest_wait))

    @contextlib.contextmanager
    def get(self, what: str, url: str, headers: Mapping[str, str]) -> Iterator[tuple[BaseHTTPResponse, str]]:
        """Ask once and give the response (2xx or 416) with the address it came from after redirects.

        Raises TransientError for what may pass and FetchError for what will not.
        """
        with self._running_until_done(what, url, lambda: self._follow(what, url, headers), FETCHED) as (
            response,
            address,
        ):
            self._judge(what, address, response)
            yield response, address

    @contextlib.contextmanager
    def send(
        self,
        what: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
        *,
        verb: str = FETCHED,
    ) -> Iterator[BaseHTTPResponse]:
        """Send one request without a login of ours and give the response, whatever its status; follow nothing.

        For protocols that have logins and redirects of their own; a `body` in pieces needs its `Content-Length` among
        the headers. Raises TransientError for a failure of the transport
        that may pass and FetchError for one that will not.
        """
        shown = url.partition("?")[0]  # what follows may be worth a login: the state of an upload, a signature
        with self._running_until_done(what, shown, lambda: (self._send(url, headers, method, body), url), verb) as (
            response,
            _,
        ):
            yield response

    @contextlib.contextmanager
    def _running_until_done(
        self, what: str, url: str, begin: Callable[[], tuple[BaseHTTPResponse, str]], verb: str
    ) -> Iterator[tuple[BaseHTTPResponse, str]]:
        import urllib3

        response: BaseHTTPResponse | None = None
        try:
            response, address = begin()
            with self._lock:
                self._running.add(response)
            self.check()
            yield response, address
        except urllib3.exceptions.HTTPError as error:
            self._explain(what, url, error, verb)
        finally:
            if response is not None:
                with self._lock:
                    self._running.discard(response)
                # A body read to its end has given its connection back; any other must not be used again.
                response.close()

    def chunks(self, response: BaseHTTPResponse, *, decode: bool) -> Iterator[bytes]:
        """Give the body as it comes; raises TransientError when it comes too slowly or ends too early."""
        settings = self.settings
        length = response.headers.get("Content-Length")
        since, lately, total = time.monotonic(), 0, 0
        while chunk := response.read1(_CHUNK, decode_content=decode):
            self.check()
            yield chunk
            total += len(chunk)
            lately += len(chunk)
            now = time.monotonic()
            if now - since >= settings.timeout:
                if lately < settings.slowest * settings.timeout:
                    raise TransientError(f"only {lately} bytes came in {settings.timeout:g} s")
                since, lately = now, 0
        self.check()
        if length is not None and length.isdecimal() and not decode and total < int(length):
            raise TransientError(f"the connection ended after {total} of {length} bytes")

    def _follow(self, what: str, url: str, headers: Mapping[str, str]) -> tuple[BaseHTTPResponse, str]:
        """Send the request, and again to wherever we are sent, with the login of each place and no other."""
        address, redirects, challenged, trusted = url, 0, False, True
        while True:
            login = (
                self._credentials.header(address, challenged=challenged, redirected=redirects > 0) if trusted else {}
            )
            response = self._send(address, {**headers, **login})
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location:
                response.close()
                redirects += 1
                if redirects > MOST_REDIRECTS:
                    raise FetchError(self._credentials.redact(f"{what} is redirected in circles: `{url}`"))
                target = urljoin(address, location)
                scheme = urlsplit(target).scheme
                if scheme not in {"http", "https"}:
                    raise FetchError(
                        self._credentials.redact(f"{what} is redirected to something other than HTTP: `{target}`")
                    )
                # After a step from https to http anybody on the way can read along: no login from there on.
                trusted = trusted and not (scheme == "http" and urlsplit(address).scheme == "https")
                address, challenged = target, False
            elif response.status in {401, 403} and not challenged and trusted:
                challenged = True
                if self._credentials.header(address, challenged=True, redirected=redirects > 0) == login:
                    return response, address
                response.close()
            else:
                return response, address

    def _send(
        self,
        url: str,
        headers: Mapping[str, str],
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
    ) -> BaseHTTPResponse:
        import urllib3

        settings = self.settings
        try:
            bare = strip_userinfo(url)
            pool = self._pool(bare)
            return pool.request(
                method,
                bare,
                body=body,
                headers={"User-Agent": "manylambda", **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(settings.timeout, 10.0), read=settings.timeout),
            )
        except (urllib3.exceptions.LocationValueError, ValueError) as error:
            raise FetchError(f"not an address that can be fetched: `{self._credentials.redact(url)}`") from error

    def _judge(self, what: str, url: str, response: BaseHTTPResponse) -> None:
        status = response.status
        if status in {200, 206, 416}:
            return
        reason = reason_of(status)
        if status >= 500 or status in MAY_PASS:
            raise TransientError(f"the server answered {reason}", wait=retry_after(response.headers.get("Retry-After")))
        shown = self._credentials.redact(url)
        match status:
            case 401 | 403 | 407:
                raise StatusError(
                    f"{what} is refused by `{shown}`: {reason}", status=status, hint=self._credentials.hint(url)
                )
            case 404 | 410:
                hint = "it may have been removed, or be hidden from whoever is not logged in"
                raise StatusError(f"{what} is not at `{shown}`: {reason}", status=status, hint=hint)
            case _:
                raise StatusError(f"{what} could not be fetched from `{shown}`: {reason}", status=status)

    def _explain(self, what: str, url: str, error: Exception, verb: str) -> None:
        """Raise what a failure of the transport means."""
        import ssl

        from urllib3 import exceptions as e

        timeout = self.settings.timeout
        proxy = "by way of a proxy: " if isinstance(error, e.ProxyError) else ""
        if isinstance(error, e.ProxyError) and isinstance(error.original_error, e.HTTPError):
            error = error.original_error
        cause = _cause(error, ssl.SSLCertVerificationError)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise FetchError(
                self._credentials.redact(
                    f"{what} could not be {verb} `{url}`: the certificate is not trusted: "
                    f"{cause.verify_message or 'unknown reason'}"
                ),
                hint="if your organisation signs certificates itself, name the file that holds them in "
                f"`{self.settings.certificates_variable}`"
                + (
                    ""
                    if self.settings.certificates_variable == "SSL_CERT_FILE"
                    else ", which is what counts as it is set"
                ),
            ) from error
        match error:
            case e.NameResolutionError():
                reason = "the host name is not known"
            case e.NewConnectionError():
                reason = f"no connection: {_system_reason(error)}"
            case e.ConnectTimeoutError():
                reason = f"no connection within {min(timeout, 10.0):g} s"
            case e.ReadTimeoutError():
                reason = f"no data for {timeout:g} s"
            case e.IncompleteRead():
                reason = f"the connection ended with {error.expected} bytes missing"
            case e.SSLError():
                reason = f"no secure connection: {_system_reason(error)}"
            case _:
                reason = f"the connection was dropped: {_system_reason(error)}"
        raise TransientError(self._credentials.redact(proxy + reason)) from error

    def _pool(self, url: str) -> PoolManager:
        import urllib3

        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        proxy = _proxy(parts.scheme, parts.netloc)
        insecure = bool(self.settings.insecure_hosts & {host, f"{host}:{port}"})
        key = (parts.scheme, proxy, insecure)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                context = self._tls(insecure=insecure) if parts.scheme == "https" else None
                if proxy is None:
                    pool = urllib3.PoolManager(maxsize=self.settings.connections, ssl_context=context)
                else:
                    pool = self._proxy_pool(proxy, context)
                self._pools[key] = pool
        return pool

    def _proxy_pool(self, proxy: str, context: ssl.SSLContext | None) -> PoolManager:
        import urllib3

        shown = self._credentials.redact(proxy)
        parts = urlsplit(proxy)
        if parts.scheme not in {"http", "https"}:
            raise FetchError(f"only `http` and `https` proxies can be used: `{shown}`", hint="unset it or name another")
        headers = {}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(
            strip_userinfo(proxy),
            proxy_headers=headers,
            proxy_ssl_context=self._tls(insecure=False) if parts.scheme == "https" else None,
            maxsize=self.settings.connections,
            ssl_context=context,
        )

    def _tls(self, *, insecure: bool) -> ssl.SSLContext:
        import ssl

        settings = self.settings
        context: ssl.SSLContext
        if insecure:
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif settings.certificates:
            # Not `create_default_context`: from Python 3.13 on it is so strict that the certificates of many an
            # organisation, good with uv and pip, do not pass.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            for path in settings.certificates:
                try:
                    if path.is_dir():
                        context.load_verify_locations(capath=path)
                    else:
                        context.load_verify_locations(cafile=path)
                except OSError as error:  # ssl.SSLError is one
                    raise FetchError(
                        f"no certificates can be read from: `{path}`",
                        hint="`PIP_CERT`, `REQUESTS_CA_BUNDLE` or `SSL_CERT_FILE` names it; it must be a PEM file",
                    ) from error
        else:
            context = _platform_context()
        if settings.client_certificate is not None:
            try:
                context.load_cert_chain(settings.client_certificate)
            except OSError as error:
                raise FetchError(f"no client certificate can be read from: `{settings.client_certificate}`") from error
        return context


def _platform_context() -> ssl.SSLContext:
    """Trust what this machine trusts."""
    import ssl

    paths = ssl.get_default_verify_paths()
    if sys.platform == "linux" and (paths.cafile or (paths.capath and any(Path(paths.capath).glob("*")))):
        # The platform's store is what OpenSSL reads, and truststore would read it again for every connection,
        # one after the other: a quarter of a second for eight of them.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
        return context
    try:
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except (ImportError, OSError):  # no such interface on this platform
        return ssl.create_default_context()


def _proxy(scheme: str, netloc: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def reason_of(status: int) -> str:
    """Name a status by the phrase of the standard: what a server writes there could be anything, on a terminal too."""
    import http.client

    return f"{status} {http.client.responses.get(status, '')}".strip()


def retry_after(value: str | None) -> float | None:
    """Read `Retry-After` (seconds, or a date) as seconds from now; None where it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """Find an error of a kind among those that led to this one."""
    for _ in range(8):
        if error is None or isinstance(error, kind):
            return error
        nested = next((argument for argument in error.args if isinstance(argument, kind)), None)
        error = nested or error.__cause__ or error.__context__
    return None


def _system_reason(error: BaseException) -> str:
    cause = _cause(error, OSError)
    text = (cause.strerror or str(cause)) if isinstance(cause, OSError) else ""
    return "".join(filter(str.isprintable, text)).lower() or type(error).__name__


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0) or (value == 0 and "TIMEOUT" in name):
        raise RequestError(f"`{name}` is not a usable number: `{text}`")
    return value


def _existing(name: str, text: str) -> list[Path]:
    """Read the one path a variable names; `SSL_CERT_DIR` may name several, of which one must be there."""
    named = text.split(os.pathsep) if name == "SSL_CERT_DIR" else [text]
    paths = [path for path in map(Path, named) if path.exists()]
    if not paths:
        raise RequestError(f"`{name}` names what is not there: `{text}`", hint="correct it or unset it")
    return paths
