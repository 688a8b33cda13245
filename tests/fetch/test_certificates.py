"""A server is believed when its certificate is, and not otherwise."""

from __future__ import annotations

import shutil
import ssl
from typing import TYPE_CHECKING

import pytest

from fetch.authority import make_authority
from fetch.server import MisbehavingServer
from manylambda.errors import FetchError
from manylambda.fetch import Credentials, HttpSettings, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with `openssl`")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


@pytest.fixture
def secure(authority: Path) -> Iterator[MisbehavingServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    with MisbehavingServer(files={"/page": b"text"}, tls=context) as server:
        yield server


def page(server: MisbehavingServer, **environment: str) -> str:
    settings = HttpSettings.from_environment({"MANYLAMBDA_HTTP_RETRIES": "0", **environment})
    return read_text(server.url("/page"), credentials=Credentials.from_settings({}), settings=settings).text


def test_a_certificate_nobody_vouches_for_is_refused_at_once(secure: MisbehavingServer) -> None:
    with pytest.raises(FetchError) as caught:
        page(secure, MANYLAMBDA_HTTP_RETRIES="5")
    assert caught.value.message.startswith(
        f"the page could not be fetched from `{secure.url('/page')}`: the certificate is not trusted: "
    )
    assert caught.value.hint == (
        "if your organisation signs certificates itself, name the file that holds them in `SSL_CERT_FILE`"
    )
    assert secure.requests == []


def test_an_authority_is_to_be_named_where_it_counts(
    secure: MisbehavingServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("other")
    make_authority(folder)
    other = str(folder / "ca.pem")
    with pytest.raises(FetchError) as caught:
        page(secure, SSL_CERT_FILE=other, REQUESTS_CA_BUNDLE=other)
    assert caught.value.hint == (
        "if your organisation signs certificates itself, name the file that holds them in `REQUESTS_CA_BUNDLE`, "
        "which is what counts as it is set"
    )


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"])
def test_an_authority_of_ones_own_is_trusted_when_named(
    secure: MisbehavingServer, authority: Path, variable: str
) -> None:
    assert page(secure, **{variable: str(authority / "ca.pem")}) == "text"


@pytest.mark.parametrize("variable", ["UV_INSECURE_HOST", "PIP_TRUSTED_HOST"])
def test_a_host_may_go_unchecked_when_the_user_says_so(secure: MisbehavingServer, variable: str) -> None:
    assert page(secure, **{variable: f"other.example 127.0.0.1:{secure.port}"}) == "text"
    assert page(secure, **{variable: "127.0.0.1"}) == "text"
    with pytest.raises(FetchError):
        page(secure, **{variable: f"127.0.0.1:{secure.port - 1}"})


def test_a_file_that_holds_no_certificate_is_an_error(secure: MisbehavingServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    with pytest.raises(FetchError) as caught:
        page(secure, SSL_CERT_FILE=str(tmp_path / "ca.pem"))
    assert caught.value.message == f"no certificates can be read from: `{tmp_path / 'ca.pem'}`"


def test_a_server_that_does_not_speak_tls_is_told(server: MisbehavingServer) -> None:
    url = server.url("/page").replace("http://", "https://")
    with pytest.raises(FetchError) as caught:
        read_text(url, credentials=Credentials.from_settings({}), settings=HttpSettings(retries=0))
    assert caught.value.message.startswith(
        f"the page could not be fetched from `{url}` in 1 attempt: no secure connection: "
    )


def test_no_login_is_sent_after_a_step_down_to_http(secure: MisbehavingServer, authority: Path) -> None:
    from fetch.server import answer

    with MisbehavingServer(files={"/page": b"text"}) as plain:
        secure.plan("/page", answer(302, Location=plain.url("/page", "me:hunter22")))
        indexes = [(None, secure.url("/", "me:hunter22")), (None, plain.url("/", "me:hunter22"))]
        settings = HttpSettings(certificates=(authority / "ca.pem",))
        credentials = Credentials.from_settings({}, indexes)
        assert read_text(secure.url("/page"), credentials=credentials, settings=settings).text == "text"
        assert secure.requests[0].authorization is not None
        assert plain.requests[0].authorization is None
