"""The registry protocol (OCI distribution, Docker's v2): logins, redirects, manifests and blobs by digest.

Both directions go through `Registry.ask`; what is said in which order to push is `push`'s.

Connections, certificates, proxies and patience are those of `manylambda.fetch`. A login reaches the registry and the
token server it names, never a host that either redirects to. What a registry says of digests is not believed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from manylambda.errors import FetchError, HashMismatch
from manylambda.fetch.client import (
    FETCHED,
    MAY_PASS,
    MOST_REDIRECTS,
    REDIRECTS,
    StatusError,
    TransientError,
    reason_of,
    retry_after,
)
from manylambda.fetch.credentials import strip_userinfo
from manylambda.image.layout import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from manylambda.image.reference import is_loopback
from manylambda.image.tar import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from manylambda.fetch.client import Client
    from manylambda.image.credentials import Login, RegistryCredentials
    from manylambda.image.reference import Reference

    Body: TypeAlias = bytes | Callable[[], Iterable[bytes]]
    """What is sent with a request: bytes, or what gives them anew each time, as a login may have to be got first."""

_T = TypeVar("_T")

MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX)
MAX_DOCUMENT: Final = 8 << 20
_MAX_TOLD: Final = 64 << 10
_MAX_TOKEN: Final = 64 << 10
_MAX_HEADER: Final = 16 << 10
_SHORTEST_TOKEN: Final = 60.0
"""Seconds a token lives when its server does not say (Docker's token specification)."""
_CLIENT_ID: Final = "manylambda"
_BASIC: Final = "Basic "
_CHALLENGE: Final = re.compile(r"""([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?""", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_KEEP_METHOD: Final = frozenset({307, 308})


class Refused(StatusError):
    """A registry said no; `word` is its code for why, in lower case: `name_unknown`; empty where it has none."""

    def __init__(self, message: str, *, status: int, hint: str | None = None, word: str = "") -> None:
        super().__init__(message, status=status, hint=hint)
        self.word = word


class Answer(NamedTuple):
    """What a registry said, its body aside."""

    status: int
    headers: Mapping[str, str]
    """Their names are compared without case."""
    address: str
    """Where it came from: what its `Location` is relative to."""


class Challenge(NamedTuple):
    """One way a server accepts logins, from `WWW-Authenticate`."""

    scheme: str
    """Lower case: `bearer`, `basic`."""
    parameters: Mapping[str, str]


class _Authorization(NamedTuple):
    header: str
    until: float
    """On the monotonic clock."""


class Registry:
    """One repository of a registry. Safe to use from several threads."""

    def __init__(
        self,
        reference: Reference,
        client: Client,
        credentials: RegistryCredentials,
        *,
        plain_http: bool = False,
        writes: bool = False,
    ) -> None:
        """`plain_http` allows connections without TLS to hosts other than this machine, because the user said so.

        With `writes`, logins are asked for that allow to push.
        """
        self.reference = reference
        self._client = client
        self._credentials = credentials
        self._plain_http = plain_http
        self._writes = writes
        self._verb = "pushed to" if writes else FETCHED
        self._lock = threading.Lock()
        self._origin_lock = threading.Lock()
        self._origin: str | None = None
        self._authorizations: dict[tuple[str, ...], _Authorization] = {}
        """By the other repositories they are for."""

    def resolve(self, tag: str) -> str | None:
        """Ask which manifest a tag names; None where the registry does not say without sending it."""
        what = f"`{self.reference}`"

        def attempt() -> str | None:
            headers = {"Accept": ", ".join(MANIFESTS)}
            try:
                with self.ask(what, "HEAD", f"manifests/{tag}", headers) as response:
                    digest = response.headers.get("Docker-Content-Digest", "")
            except (StatusError, Busy):
                return None  # an answer to HEAD has no words: whoever fetches the manifest next hears what is wrong
            return digest if _DIGEST.fullmatch(digest) else None

        return self.persist(what, f"manifests/{tag}", attempt)

    def manifest(self, name: str) -> bytes:
        """Fetch a manifest or index by tag or digest; raises HashMismatch when it is not what the digest names."""
        what = f"`{self.reference}`"

        def attempt() -> bytes:
            headers = {"Accept": ", ".join(MANIFESTS)}
            body = bytearray()
            with self.ask(what, "GET", f"manifests/{name}", headers) as response:
                for chunk in self._client.chunks(response, decode=True):
                    body += chunk
                    if len(body) > MAX_DOCUMENT:
                        raise FetchError(f"{what} has a manifest of more than {MAX_DOCUMENT >> 20} MiB: it is no image")
            return bytes(body)

        body = self.persist(what, f"manifests/{name}", attempt)
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if _DIGEST.fullmatch(name) and found != name:
            raise HashMismatch(
                f"`{self.reference.registry}` sent another manifest of {what} than was asked for: "
                f"expected `{name}`, got `{found}`",
                hint="it was altered on its way, or the registry is damaged: do not use it",
            )
        return body

    def url(self, path: str) -> str:
        """Return the address of something in the repository; an address, such as that of an upload, is its own."""
        return urljoin(f"{self._find_origin()}/v2/{self.reference.repository}/", path)

    @contextlib.contextmanager
    def ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
        body: Body | None = None,
        others: tuple[str, ...] = (),
    ) -> Iterator[BaseHTTPResponse]:
        """Ask for something in the repository once, with the login it takes, and give the response.

        `path` is relative to the repository, or an address that the registry named; `others` are repositories that the
        login must also let read. Raises TransientError for what may pass and Refused or FetchError for what will not:
        for `persist`.
        """
        with self._asked(what, method, path, headers, expected=expected, body=body, others=others) as (response, _):
            yield response

    def say(
        self,
        what: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        expected: frozenset[int] | set[int],
        body: Body | None = None,
        others: tuple[str, ...] = (),
    ) -> Answer:
        """As `ask`, where nothing but the head of the response matters."""
        with self._asked(what, method, path, headers or {}, expected=expected, body=body, others=others) as (
            response,
            address,
        ):
            self._read(response, _MAX_TOLD)  # or its connection could not be used again
            return Answer(response.status, response.headers, address)

    def location(self, what: str, answer: Answer) -> str:
        """Return where an upload goes on; raises FetchError where it is not told, or not safe."""
        named = answer.headers.get("Location")
        if not named:
            raise FetchError(f"`{self._host(answer.address)}` does not say where to send {what}")
        return self._moved(what, answer.address, strip_userinfo(urljoin(answer.address, named)))

    def persist(self, what: str, path: str, attempt: Callable[[], _T], progress: Callable[[], int] = int) -> _T:
        """As `Client.persist`, with what helps against a registry's limits as the hint."""
        try:
            return self._client.persist(what, self.url(path), attempt, progress, verb=self._verb)
        except FetchError as error:
            raise with_hint(error) from error.__cause__

    @contextlib.contextmanager
    def _asked(
        self,
        what: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        expected: frozenset[int] | set[int],
        body: Body | None,
        others: tuple[str, ...],
    ) -> Iterator[tuple[BaseHTTPResponse, str]]:
        url, home = self.url(path), self.url("")
        with self._lock:
            held = self._authorizations.get(others)
        login = held.header if held is not None and time.monotonic() < held.until else None
        challenges: tuple[Challenge, ...] | None = None
        while True:
            with self._exchange(what, method, url, headers, login=login, home=home, body=body) as (response, address):
                if response.status in expected:
                    yield response, address
                    return
                refusal = self._refusal(what, address, response)
                is_first, is_unknown = challenges is None, response.status == 401
                if not (is_unknown or _may_have_ended(refusal)) or not _is_same_origin(address, home):
                    raise refusal
                challenges = read_challenges(response.headers.get("WWW-Authenticate", ""))
            renewed = self._renew(login, challenges, others) if is_first and is_unknown else None
            if renewed is None and (renewed := self._replaced(login, others)) is None:
                if not is_first and is_unknown:
                    with self._lock:
                        self._authorizations.pop(others, None)
                if isinstance(refusal, Refused):
                    refusal.hint = self._credentials.hint(self.reference)  # with what was tried since
                raise refusal
            login = renewed

    # Where

    def _find_origin(self) -> str:
        """Return `https://host`; on this machine, and where the user allows it, perhaps `http://host`."""
        host = self.reference.endpoint
        with self._origin_lock:
            if self._origin is None:
                is_plain = self._plain_http or (self.reference.is_loopback and self._speaks_http(host))
                self._origin = f"{'http' if is_plain else 'https'}://{host}"
            return self._origin

    def _speaks_http(self, host: str) -> bool:
        """Whether a registry on this machine goes without TLS, as most there do; one with TLS refuses the question."""
        from urllib3.exceptions import NewConnectionError

        try:
            with self._client.send(f"`{host}`", "GET", f"http://{host}/v2/", {}, verb=self._verb) as response:
                moved = response.status in REDIRECTS and response.headers.get("Location", "").startswith("https:")
                return not (response.status == 400 or moved)
        except TransientError as error:
            return isinstance(error.__cause__, NewConnectionError)

    @contextlib.contextmanager
    def _exchange(
        self,
        what: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        login: str | None,
        home: str,
        body: Body | None = None,
    ) -> Iterator[tuple[BaseHTTPResponse, str]]:
        """Send a request, follow where it is sent on to, and give the response with its address.

        The login goes to where `home` is, and nowhere else.
        """
        address = url
        for _ in range(MOST_REDIRECTS + 1):
            sent = dict(headers)
            if login is not None and _is_same_origin(address, home):
                sent["Authorization"] = login
            data = body() if callable(body) else body
            with self._client.send(what, method, address, sent, data, verb=self._verb) as response:
                location = response.headers.get("Location")
                followed = REDIRECTS if method in {"GET", "HEAD"} else _KEEP_METHOD
                if response.status not in followed or not location:
                    yield response, address
                    return
            address = self._moved(what, address, strip_userinfo(urljoin(address, location)))
        raise FetchError(f"{what} is redirected in circles: `{self._shown(url)}`")

    def _moved(self, what: str, address: str, target: str) -> str:
        scheme = urlsplit(target).scheme
        if scheme not in {"http", "https"}:
            raise FetchError(f"{what} is redirected to something other than HTTP: `{self._shown(target)}`")
        if scheme == "http" and urlsplit(address).scheme == "https":
            raise FetchError(f"{what} is redirected from `https` to `http`: `{self._shown(target)}`")
        return target

    # Logins

    def _renew(self, used: str | None, challenges: tuple[Challenge, ...], others: tuple[str, ...]) -> str | None:
        """Return a header to try instead of the one that was refused; None where there is none."""
        with self._lock:
            held = self._authorizations.get(others)
            if held is not None and held.header != used and time.monotonic() < held.until:
                return held.header  # another thread was faster
            held = self._authorize(challenges, others)
            if held is None:
                self._authorizations.pop(others, None)
                return None
            self._authorizations[others] = held
            return None if held.header == used else held.header

    def _replaced(self, used: str | None, others: tuple[str, ...]) -> str | None:
        """Return a header with another login than the one that was refused; None where there is none."""
        login = self._credentials.find(self.reference)
        if login is None or login.is_identity_token or used is None or not used.startswith(_BASIC):
            return None
        with self._lock:
            if used == _basic(login):
                login = self._credentials.find_other(self.reference, login)
            if login is None:
                return None
            self._authorizations[others] = _Authorization(_basic(login), float("inf"))
            return _basic(login)

    def _authorize(self, challenges: tuple[Challenge, ...], others: tuple[str, ...]) -> _Authorization | None:
        login = self._credentials.find(self.reference)
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return self._fetch_token(challenge.parameters, login, others)
            if challenge.scheme == "basic" and login is not None and not login.is_identity_token:
                return _Authorization(_basic(login), float("inf"))
        return None

    def _fetch_token(
        self, parameters: Mapping[str, str], login: Login | None, others: tuple[str, ...]
    ) -> _Authorization:
        realm = parameters["realm"]
        parts = urlsplit(realm)
        is_plain = parts.scheme == "http" and (self._plain_http or is_loopback(parts.netloc))
        if not parts.hostname or parts.username is not None or not (parts.scheme == "https" or is_plain):
            raise FetchError(f"`{self.reference.registry}` names no usable token server: `{self._shown(realm)}`")
        asked = {"service": parameters["service"]} if parameters.get("service") else {}
        scopes = self._scopes(parameters.get("scope", ""), others)
        try:
            return self._ask_token(realm, asked, scopes, login)
        except StatusError as refusal:
            if login is None or refusal.status not in {400, 401, 403}:
                raise
            # A login of long ago must not keep anybody from what is public.
            try:
                return self._ask_token(realm, asked, scopes, None)
            except StatusError:
                raise refusal from None

    def _scopes(self, named: str, others: tuple[str, ...]) -> list[str]:
        """Return what a token is asked for: what the challenge names, and what the next requests will need."""
        scopes = named.split() or [f"repository:{self.reference.repository}:pull"]
        if self._writes:
            # A question whether a blob is there names `pull` alone: one token for all that follows is enough.
            scopes = [scope if _repository(scope) in {None, *others} else _writing(scope) for scope in scopes]
        known = {_repository(scope) for scope in scopes}
        return scopes + [f"repository:{name}:pull" for name in others if name not in known]

    def _ask_token(
        self, realm: str, asked: Mapping[str, str], scopes: Sequence[str], login: Login | None
    ) -> _Authorization:
        what = f"a token for `{self.reference}`"
        header: str | None = None
        began = time.monotonic()
        if login is not None and login.is_identity_token:
            form = {"grant_type": "refresh_token", "client_id": _CLIENT_ID, "refresh_token": login.secret, **asked}
            body = urlencode({**form, "scope": " ".join(scopes)}).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            exchange = self._exchange(what, "POST", realm, kind, login=None, home=realm, body=body)
        else:
            if login is not None:
                header = _basic(login)
                asked = {**asked, "account": login.user}
            joint = "&" if urlsplit(realm).query else "?"
            query = urlencode([*asked.items(), *(("scope", scope) for scope in scopes)])
            exchange = self._exchange(what, "GET", f"{realm}{joint}{query}", {}, login=header, home=realm)
        with exchange as (response, address):
            if response.status != 200:
                raise self._refusal(what, address, response, url=realm)
            document = _object(self._read(response, _MAX_TOKEN))
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise FetchError(f"`{self._host(realm)}` gave no token for `{self.reference}`")
        self._credentials.remember(token)
        seconds = document.get("expires_in")
        lives = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else _SHORTEST_TOKEN
        return _Authorization(f"Bearer {token}", began + lives * 0.9)

    # Failures

    def _refusal(self, what: str, address: str, response: BaseHTTPResponse, *, url: str | None = None) -> Exception:
        """Return what a status means, with the server's own words where it has some.

        `url` is what was asked for, of the registry when it is None, and `address` where that led.
        """
        status = response.status
        code, told = self._told(response)
        reason = reason_of(status) + (f": {told}" if told else "")
        host = self._host(address)
        if status >= 500 or status in MAY_PASS:
            wait = retry_after(response.headers.get("Retry-After"))
            return Busy(f"the server answered {reason}", status=status, wait=wait)
        if not _is_same_origin(address, url or self.url("")):
            hint = f"`{self.reference.registry}` sent us there: ask whoever runs it"
            return Refused(f"{what} could not be {self._verb} `{host}`: {reason}", status=status, hint=hint, word=code)
        match status:
            case 401 | 403 | 407:
                hint = self._credentials.hint(self.reference)
                return Refused(f"{what} is refused by `{host}`: {reason}", status=status, hint=hint, word=code)
            case 404 | 410 if not self._writes:
                hint = self._credentials.hint(self.reference, is_missing=True)
                return Refused(f"{what} is not in `{host}`: {reason}", status=status, hint=hint, word=code)
            case _:
                return Refused(f"{what} could not be {self._verb} `{host}`: {reason}", status=status, word=code)

    def _told(self, response: BaseHTTPResponse) -> tuple[str, str]:
        """Read the code of an error, and what it says: `code: message` of the first, one line, safe to print."""
        try:
            document = _object(self._read(response, _MAX_TOLD))
        except (FetchError, TransientError):
            return "", ""
        errors = document.get("errors")
        first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else document
        code = first.get("code")
        code = code.lower() if isinstance(code, str) else ""
        texts = [code, *(first.get(key) for key in ("message", "details", "error_description"))]
        words = [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
        return code, self._credentials.redact(shown(": ".join(words).replace("`", "'")))[:300]

    def _read(self, response: BaseHTTPResponse, limit: int) -> bytes:
        body = bytearray()
        for chunk in self._client.chunks(response, decode=True):
            body += chunk
            if len(body) > limit:
                raise FetchError(f"`{self.reference.registry}` sent more than {limit} bytes where few were expected")
        return bytes(body)

    def _shown(self, url: str) -> str:
        return shown(self._credentials.redact(strip_userinfo(url).partition("?")[0]))

    @staticmethod
    def _host(url: str) -> str:
        return urlsplit(strip_userinfo(url)).netloc


class Busy(TransientError):
    """A registry asked us to come back later."""

    def __init__(self, reason: str, *, status: int, wait: float | None) -> None:
        super().__init__(reason, wait=wait)
        self.status = status


def with_hint(error: FetchError) -> FetchError:
    """Return the error, with another hint when a registry's limits were what stood in the way."""
    if isinstance(error.__cause__, Busy) and error.__cause__.status == 429:
        error.hint = "the registry limits how often it may be asked: wait, or log in, which often raises the limit"
    return error


def read_challenges(header: str) -> tuple[Challenge, ...]:
    """Read `WWW-Authenticate`, which may hold several challenges, in their order."""
    found: list[tuple[str, dict[str, str]]] = []
    for match in _CHALLENGE.finditer(header[:_MAX_HEADER]):
        name, quoted, bare = match.groups()
        if quoted is None and bare is None:
            found.append((name.lower(), {}))
        elif found:
            value = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(name.lower(), value)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def _is_same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _repository(scope: str) -> str | None:
    """Name the repository of a scope: `repository:NAME:ACTIONS`; None where it is about something else."""
    kind, _, rest = scope.partition(":")
    return rest.rpartition(":")[0] if kind == "repository" else None


def _writing(scope: str) -> str:
    where, _, actions = scope.rpartition(":")
    return f"{where}:{','.join(sorted({*filter(None, actions.split(',')), 'pull', 'push'}))}"


def _may_have_ended(refusal: Exception) -> bool:
    """Whether a login may be too old: ECR says so with 403 and in words alone, which the answer to HEAD has none of."""
    if not isinstance(refusal, Refused) or refusal.status != 403:
        return False
    return not refusal.word or "expired" in refusal.message.lower()


def _basic(login: Login) -> str:
    return _BASIC + base64.b64encode(f"{login.user}:{login.secret}".encode()).decode("ascii")


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
