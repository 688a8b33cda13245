"""Who may use a registry: logins, found where Docker, Podman and AWS keep them.

Knows nothing of HTTP, and never shows a secret. Nothing is read or run before a registry asks for a login.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from manylambda.image.reference import Reference

_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_HELPER_SECONDS: Final = 60
_BOTO3: Final = "`boto3`"
_MAX_FILE: Final = 4 << 20
_ECR: Final = re.compile(
    r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A login for one registry."""

    user: str = field(repr=False)
    secret: str = field(repr=False)
    """The password; or, with `is_identity_token`, what the token server takes for one."""
    source: str
    """Where it was found, for hints."""
    is_identity_token: bool = False


class RegistryCredentials:
    """The logins of this user. Safe to use from several threads.

    Sources, first found wins: those given; Podman's `auth.json` (`REGISTRY_AUTH_FILE`, else that of `XDG_RUNTIME_DIR`,
    else that of `~/.config`); Docker's `config.json` (`DOCKER_CONFIG`, else `~/.docker`), each with the credential
    helpers it names; for private registries of ECR, `boto3` when it is installed, else `docker-credential-ecr-login`.
    """

    __slots__ = ("_asked_boto3", "_environment", "_found", "_given", "_lock", "_problems", "_replaced", "_secrets")

    def __init__(self, environment: Mapping[str, str], given: Mapping[str, tuple[str, str]] | None = None) -> None:
        """`given` has users and passwords by registry (`host` or `host:port`)."""
        self._environment = environment
        self._given = dict(given or {})
        self._lock = Lock()
        self._found: dict[str, Login | None] = {}
        self._problems: list[str] = []
        self._asked_boto3 = False
        self._replaced: set[str] = set()
        self._secrets: set[str] = set()

    def __repr__(self) -> str:
        return "<RegistryCredentials>"

    def find(self, reference: Reference) -> Login | None:
        """Return the login for a reference's registry, or for its repository alone where Podman keeps one."""
        with self._lock:  # one question at a time: eight threads must not open eight windows
            if reference.name not in self._found:
                self._keep(reference, self._search(reference))
            return self._found[reference.name]

    def find_other(self, reference: Reference, refused: Login) -> Login | None:
        """Return the login to ask with when ECR refused one: those of `docker login` end after twelve hours."""
        with self._lock:
            match = _ECR.fullmatch(reference.registry)
            if match is None or reference.registry in self._given or refused.source == _BOTO3:
                return None
            if reference.name in self._replaced:  # once: a helper may have another each time
                return None
            self._replaced.add(reference.name)
            login = self._from_aws(match[1], reference.registry)
            if login is None or login.secret == refused.secret:
                return None
            self._keep(reference, login)
            return login

    def _keep(self, reference: Reference, login: Login | None) -> None:
        if login is not None:
            self.remember(login.secret)
            self.remember(base64.b64encode(f"{login.user}:{login.secret}".encode()).decode())
        self._found[reference.name] = login

    def sources(self) -> tuple[str, ...]:
        """Name the files and programs that have logins for registries, and what is wrong there; no login is told."""
        found = []
        for path in self._files():
            document = self._read(path) or {}
            helpers = [document.get("credsStore"), *_by_registry(document.get("credHelpers")).values()]
            if document.get("auths"):
                found.append(f"`{path}`")
            found += [f"`docker-credential-{name}`" for name in helpers if isinstance(name, str)]
        return (*dict.fromkeys(found), *self._problems)

    def remember(self, secret: str) -> None:
        """Keep a secret out of every message from now on."""
        if len(secret) >= 6:  # shorter ones would tear holes into every message
            self._secrets |= {secret, quote(secret, safe="")}

    def redact(self, text: str) -> str:
        """Take every secret that was used out of a text."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "****")
        return text

    def hint(self, reference: Reference, *, is_missing: bool = False) -> str:
        """Say how to log in, and what was tried for a registry that refused us, or has no such image for us."""
        login = self.find(reference)
        host = reference.registry
        how = f"`podman login {host}` or `docker login {host}`"
        if match := _ECR.fullmatch(host):
            how = (
                f"`aws ecr get-login-password --region {match[1]} | "
                f"docker login --username AWS --password-stdin {host}`"
            ) + (", or install `boto3`" if login is None and not self._asked_boto3 else "")
        if is_missing:
            text = "is the name right, and the tag? "
            text += f"what is not public needs a login: {how}" if login is None else f"asked with {login.source}"
        elif login is None:
            text = f"not found, or not public: log in with {how}"
        else:
            text = f"the login found in {login.source} was refused: is it right, not expired, and allowed here? {how}"
        return "; ".join([text, *self._problems])

    @staticmethod
    def repository_hint(reference: Reference) -> str:
        """Say what to do when a registry has no such repository to push to."""
        if match := _ECR.fullmatch(reference.registry):
            return (
                f"make it first, in the region of the function: `aws ecr create-repository "
                f"--repository-name {reference.repository} --region {match[1]}`"
            )
        return "is the name right? some registries want the repository, or its project, to be made first"

    def _search(self, reference: Reference) -> Login | None:
        host = reference.registry
        if host in self._given:
            user, password = self._given[host]
            return Login(user=user, secret=password, source="the settings given")
        for path in self._files():
            document = self._read(path)
            if document is not None and (login := self._in_file(document, path, reference)) is not None:
                return login
        if match := _ECR.fullmatch(host):
            return self._from_aws(match[1], host)
        return None

    def _from_aws(self, region: str, host: str) -> Login | None:
        return self._from_boto3(region) or self._ask_helper("ecr-login", host, quiet=True)

    def _files(self) -> Iterator[Path]:
        environment = self._environment
        home = environment.get("HOME") or environment.get("USERPROFILE")
        if named := environment.get("REGISTRY_AUTH_FILE"):
            yield Path(named)
        else:
            if runtime := environment.get("XDG_RUNTIME_DIR"):
                yield Path(runtime, "containers", "auth.json")
            if settings := environment.get("XDG_CONFIG_HOME") or (home and str(Path(home, ".config"))):
                yield Path(settings, "containers", "auth.json")
        if docker := environment.get("DOCKER_CONFIG") or (home and str(Path(home, ".docker"))):
            yield Path(docker, "config.json")

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._problems.append(f"`{path}` cannot be read")
            return None
        try:
            document = json.loads(data) if len(data) <= _MAX_FILE else None
        except (ValueError, RecursionError):  # the parser would quote what it stumbled over
            document = None
        if not isinstance(document, dict):
            self._problems.append(f"`{path}` is not understood")
            return None
        return document

    def _in_file(self, document: Mapping[str, Any], path: Path, reference: Reference) -> Login | None:
        keys = _keys(reference)
        helpers = _by_registry(document.get("credHelpers"))
        name = next((helpers[key] for key in keys if key in helpers), None) or document.get("credsStore")
        if name is not None:
            login = self._ask_helper(name, reference.registry)
            if login is not None:
                return login
        entries = _by_registry(document.get("auths"))
        for key in keys:
            login = self._entry(entries.get(key), path)
            if login is not None:
                return login
        return None

    def _entry(self, entry: object, path: Path) -> Login | None:
        if not isinstance(entry, dict):
            return None
        user, secret = entry.get("username"), entry.get("password")
        packed = entry.get("auth")
        if isinstance(packed, str) and packed:
            try:
                user, _, secret = base64.b64decode(packed, validate=True).decode().partition(":")
                secret = secret.rstrip("\0")
            except (binascii.Error, UnicodeDecodeError, ValueError):
                self._problems.append(f"a login in `{path}` is not understood")
                return None
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Login(user="<token>", secret=token, source=f"`{path}`", is_identity_token=True)
        if isinstance(user, str) and isinstance(secret, str) and (user or secret):
            return Login(user=user, secret=secret, source=f"`{path}`")
        return None

    def _ask_helper(self, name: object, host: str, *, quiet: bool = False) -> Login | None:
        """Ask a program of Docker's credential helper protocol."""
        import shutil
        import subprocess

        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            self._problems.append("a credential helper has an unusable name")
            return None
        program = f"docker-credential-{name}"
        found = shutil.which(program, path=self._environment.get("PATH"))
        if found is None:
            if not quiet:
                self._problems.append(f"`{program}` is named for logins but is not on the path")
            return None
        server = _DOCKER_HUB_KEY if host == "docker.io" else host
        try:
            done = subprocess.run(
                [found, "get"],
                input=server.encode(),
                env=dict(self._environment),
                capture_output=True,
                timeout=_HELPER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._problems.append(f"`{program}` did not answer within {_HELPER_SECONDS} s")
            return None
        except OSError:
            self._problems.append(f"`{program}` cannot be run")
            return None
        if done.returncode != 0:
            if b"not found" not in done.stdout:  # in their words: that they have no login is no failure
                self._problems.append(f"`{program}` failed with status {done.returncode}")
            return None
        try:
            answer = json.loads(done.stdout)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, RecursionError, KeyError, TypeError):
            user = secret = None
        if not isinstance(user, str) or not isinstance(secret, str):
            self._problems.append(f"`{program}` gave an answer that is not understood")
            return None
        if not secret:
            return None
        return Login(user=user, secret=secret, source=f"`{program}`", is_identity_token=user == "<token>")

    def _from_boto3(self, region: str) -> Login | None:
        from importlib import import_module

        try:
            boto3 = import_module("boto3")
        except ImportError:
            return None
        self._asked_boto3 = True
        try:
            answer = boto3.client("ecr", region_name=region).get_authorization_token()
            token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
        except Exception as error:  # noqa: BLE001 - botocore's errors have no base of their own
            self._problems.append(f"`boto3` has no login: {_reason(error)}")
            return None
        user, _, secret = token.partition(":")
        return Login(user=user, secret=secret, source=_BOTO3)


def _keys(reference: Reference) -> list[str]:
    """Return the names a login may lie under, the most exact first."""
    parts = reference.name.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _reason(error: Exception) -> str:
    """Name what AWS answered (`ExpiredTokenException`), or what kept it from being asked (`NoCredentialsError`)."""
    response = getattr(error, "response", None)
    told = response.get("Error") if isinstance(response, dict) else None
    code = told.get("Code") if isinstance(told, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[\w.]{1,80}", code, re.ASCII) else type(error).__name__


def _by_registry(table: object) -> dict[str, Any]:
    """Return a table of a configuration file by plain names: Docker writes some as old addresses."""
    found: dict[str, Any] = {}
    for key, value in table.items() if isinstance(table, dict) else ():
        name = re.sub(r"^https?://", "", str(key)).rstrip("/")
        name = re.sub(r"/v[12]$", "", name)
        host, slash, rest = name.partition("/")
        host = "docker.io" if host in {"index.docker.io", "registry-1.docker.io"} else host.lower()
        found.setdefault(f"{host}{slash}{rest}", value)
    return found
