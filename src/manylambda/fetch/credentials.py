"""Who may fetch what: logins for private indexes, found where users of uv and pip keep them.

Knows nothing of HTTP beyond one header, and never shows a secret.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    import netrc
    from collections.abc import Iterable, Mapping

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_KEYRING_SECONDS: Final = 60
"""A keyring may ask a person to unlock it, but a build must not hang on one that nobody sees."""

# Userinfo ends at the last `@` of the authority. The second branch is a password with an unescaped `/`, `?` or `#`:
# no address, but somebody typed it, and it must not be shown back.
_USERINFO: Final = r"(?<=://)(?:[^\s/?#]*@|[^\s/?#:@\[]*:(?!\d*(?:[/?#\s]|$))[^\s@]*@)"
_PARAMETER: Final = (
    r"(?i)([?&](?:[\w.-]*(?:token|secret|password|passwd|signature|credential|api[_-]?key|auth)[\w.-]*|sig|key)=)"
    r"[^&#\s`]+"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Login:
    """A user and, when known, the password; `source` says where it was found, for hints."""

    user: str = field(repr=False)  # a token is often written where the user belongs
    password: str | None = field(repr=False)
    source: str

    @property
    def header(self) -> Mapping[str, str]:
        text = f"{self.user}:{self.password or ''}".encode()
        return {"Authorization": f"Basic {binascii.b2a_base64(text, newline=False).decode('ascii')}"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a login is valid: an origin, and the path below which it is preferred."""

    scheme: str
    host: str
    port: int | None
    path: tuple[str, ...]

    @classmethod
    def parse(cls, url: str) -> _Place | None:
        try:
            parts = urlsplit(url)
            port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:  # a bad port or bracket: no request will be made to it
            return None
        if not parts.hostname:
            return None
        path = tuple(segment for segment in parts.path.split("/") if segment)
        return cls(scheme=parts.scheme, host=parts.hostname, port=port, path=path)

    def is_origin_of(self, other: _Place) -> bool:
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def common_depth(self, other: _Place) -> int:
        depth = 0
        for mine, theirs in zip(self.path, other.path, strict=False):
            if mine != theirs:
                break
            depth += 1
        return depth


@dataclass(frozen=True, kw_only=True, slots=True)
class _Index:
    """An index of the settings: its place, its address without a login, and the login written beside it, if any."""

    place: _Place
    address: str
    login: _Login | None


class Credentials:
    """The logins a build may use, looked up by address.

    Sources, first found wins: the address itself, `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD` of a named index, the
    address of the index, netrc, and a keyring when the user asked for one. A file on the same scheme, host and port as
    an index uses that index's login; of several indexes there, the one that shares the longest path.
    Safe to use from several threads.
    """

    __slots__ = ("_environment", "_indexes", "_keyring", "_lock", "_netrc", "_problems", "_secrets")

    def __init__(self, environment: Mapping[str, str], indexes: tuple[_Index, ...]) -> None:
        self._environment = environment
        self._indexes = indexes
        self._lock = Lock()
        self._netrc: netrc.netrc | None = None
        self._keyring: dict[tuple[str, str | None], _Login | None] = {}
        self._problems: dict[str, str] = {}
        self._secrets: set[str] = set()
        for index in indexes:
            if index.login is not None:
                self._remember(index.login)

    @classmethod
    def from_settings(
        cls, environment: Mapping[str, str], index_urls: Iterable[tuple[str | None, str]] = ()
    ) -> Credentials:
        """Take the index addresses (name or None, address) of the settings; netrc and keyring wait until needed."""
        indexes = []
        for name, url in index_urls:
            place = _Place.parse(url)
            if place is None or place.scheme not in _DEFAULT_PORTS:
                continue
            login = _named_login(environment, name, _login_in(url)) if name else _login_in(url)
            indexes.append(_Index(place=place, address=strip_userinfo(url), login=login))
        return cls(environment, tuple(indexes))

    def __repr__(self) -> str:
        return f"<Credentials for {len(self._indexes)} indexes>"

    def header(self, url: str, *, challenged: bool = False, redirected: bool = False) -> Mapping[str, str]:
        """Give the `Authorization` header for an address, or nothing.

        `challenged` says that the server asked for a login, which is when a keyring is searched without knowing the
        user. `redirected` says that another server sent us here, so that a login meant for all hosts is kept back.
        """
        login = self._find(url, challenged=challenged, redirected=redirected)
        return {} if login is None else login.header

    def sources(self) -> tuple[str, ...]:
        """Name where logins lie that are found without asking anybody, and what is wrong there; no login is told."""
        found = [index.login.source for index in self._indexes if index.login is not None]
        with self._lock:
            if self._netrc is None:
                self._netrc = self._read_netrc()
        if self._netrc.hosts:
            found.append("netrc")
        if self._asks_keyring():
            found.append("the keyring")
        return (*dict.fromkeys(found), *(self._problems[key] for key in sorted(self._problems)))

    def redact(self, text: str) -> str:
        """Take logins and tokens out of an address, or out of any text that holds addresses."""
        text = re.sub(_USERINFO, "", text)
        text = re.sub(_PARAMETER, r"\1****", text)
        with self._lock:
            secrets = sorted(self._secrets, key=len, reverse=True)
        for secret in secrets:
            text = text.replace(secret, "****")
        return text

    def hint(self, url: str) -> str:
        """Say what was tried for an address that refused us, and where a login can be put."""
        place = _Place.parse(url)
        host = place.host if place else "the server"
        login = self._find(url, challenged=True, redirected=False)
        if login is not None:
            text = f"the login found in {login.source} was refused by `{host}`: is it right, and not expired?"
        else:
            text = (
                f"no login was found for `{host}`: put it in the address of the index, in `UV_INDEX_<NAME>_USERNAME` "
                "and `UV_INDEX_<NAME>_PASSWORD`, in `~/.netrc`, or in a keyring with `UV_KEYRING_PROVIDER=subprocess`"
            )
        return "; ".join([text, *(self._problems[key] for key in sorted(self._problems))])

    def _find(self, url: str, *, challenged: bool, redirected: bool) -> _Login | None:
        place = _Place.parse(url)
        if place is None:
            return None
        known = _login_in(url)
        index = self._index_for(place)
        if index is not None and index.login is not None and (known is None or known.user == index.login.user):
            known = known if known is not None and known.password is not None else index.login
        if known is not None and known.password is not None:
            self._remember(known)
            return known
        user = known.user if known is not None else None
        found = self._from_netrc(place.host, user, redirected=redirected)
        if found is None and (user is not None or challenged):
            found = self._from_keyring(index.address if index else strip_userinfo(url), place, user)
        if found is None:
            found = known  # a token where the user belongs, as some services want it
        if found is not None:
            self._remember(found)
        return found

    def _index_for(self, place: _Place) -> _Index | None:
        here = [index for index in self._indexes if index.place.is_origin_of(place)]
        return max(here, key=lambda index: index.place.common_depth(place), default=None)

    def _remember(self, login: _Login) -> None:
        # Short words would tear holes into every message; userinfo is taken out by its position anyway.
        secret = login.password or login.user
        if len(secret) >= 6:
            with self._lock:
                self._secrets |= {secret, quote(secret, safe="")}

    def _from_netrc(self, host: str, user: str | None, *, redirected: bool) -> _Login | None:
        with self._lock:
            if self._netrc is None:
                self._netrc = self._read_netrc()
            entry = self._netrc.hosts.get(host)
            if entry is None and not redirected:
                entry = self._netrc.hosts.get("default")
        if entry is None or (user is not None and user != entry[0]):
            return None
        return _Login(user=entry[0], password=entry[2], source="netrc")

    def _read_netrc(self) -> netrc.netrc:
        import netrc
        import os

        empty = object.__new__(netrc.netrc)
        empty.hosts, empty.macros = {}, {}
        named = self._environment.get("NETRC")
        home = self._environment.get("USERPROFILE" if os.name == "nt" else "HOME")
        if named:
            candidates = [Path(named)]
        elif home:
            candidates = [Path(home, ".netrc"), *([Path(home, "_netrc")] if os.name == "nt" else [])]
        else:
            candidates = []
        for path in candidates:
            try:
                return netrc.netrc(str(path))
            except FileNotFoundError:
                continue
            except netrc.NetrcParseError as error:
                # The parser quotes the token it stumbled over, which may be the password: only the line is told.
                self._problems["netrc"] = f"`{path.name}` is not understood at line {error.lineno}"
            except (OSError, UnicodeDecodeError):
                self._problems["netrc"] = f"`{path.name}` cannot be read"
        return empty

    def _from_keyring(self, address: str, place: _Place, user: str | None) -> _Login | None:
        if not self._asks_keyring():
            return None
        key = (address, user)
        with self._lock:  # one question at a time: eight threads must not open eight windows
            if key not in self._keyring:
                netloc = place.host if place.port == _DEFAULT_PORTS.get(place.scheme) else f"{place.host}:{place.port}"
                self._keyring[key] = self._ask_keyring(address, user) or self._ask_keyring(netloc, user)
            return self._keyring[key]

    def _asks_keyring(self) -> bool:
        asked = {self._environment.get("UV_KEYRING_PROVIDER"), self._environment.get("PIP_KEYRING_PROVIDER")}
        return bool(asked & {"subprocess", "import"})  # pip's `import` is answered by the same program

    def _ask_keyring(self, service: str, user: str | None) -> _Login | None:
        import subprocess

        arguments = ["get", service, user] if user is not None else ["--mode", "creds", "get", service]
        environment = {**self._environment, "PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(
                [_program("keyring", self._environment), *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_KEYRING_SECONDS,
                check=False,
            )
            lines = done.stdout.decode("utf-8").splitlines()
        except subprocess.TimeoutExpired:
            self._problems["keyring"] = f"`keyring` did not answer within {_KEYRING_SECONDS} s"
            return None
        except (OSError, UnicodeDecodeError):
            self._problems["keyring"] = "`keyring` is asked for but cannot be run"
            return None
        if done.returncode != 0 or not lines:
            return None
        if user is not None:
            return _Login(user=user, password=lines[0], source="the keyring")
        return _Login(user=lines[0], password=lines[1], source="the keyring") if len(lines) > 1 else None


def strip_userinfo(url: str) -> str:
    """Take `user:password@` out of an address and leave all else as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address
        return url
    host = parts.netloc.rpartition("@")[2]
    return url if host == parts.netloc else urlunsplit(parts._replace(netloc=host))


def _login_in(url: str) -> _Login | None:
    userinfo, separator, _ = urlsplit(url).netloc.rpartition("@")
    if not separator:
        return None
    user, colon, password = userinfo.partition(":")
    return _Login(user=unquote(user), password=unquote(password) if colon else None, source="the address")


def _named_login(environment: Mapping[str, str], name: str, written: _Login | None) -> _Login | None:
    stem = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    user, password = environment.get(f"{stem}_USERNAME"), environment.get(f"{stem}_PASSWORD")
    if user is None and password is None:
        return written
    if user is None:
        user = written.user if written is not None else ""
    return _Login(user=user, password=password, source=f"`{stem}_USERNAME` and `{stem}_PASSWORD`")


def _program(name: str, environment: Mapping[str, str]) -> str:
    import shutil

    found = shutil.which(name, path=environment.get("PATH"))
    if found is None:
        raise FileNotFoundError(name)
    return found
