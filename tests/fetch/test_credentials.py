"""A login goes where it belongs, comes from where users keep it, and is never shown."""

from __future__ import annotations

import base64
import hashlib
import sys
from typing import TYPE_CHECKING

import pytest

from fetch.server import MisbehavingServer, answer, require_login, serve
from manylambda.errors import FetchError
from manylambda.fetch import Cache, Credentials, Download, HttpSettings, fetch_all, read_text, strip_userinfo
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INDEX = "https://pypi.example/team/simple/"
FILE = "https://pypi.example/team/files/demo.whl"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def login(url: str, *indexes: str | tuple[str, str], environment: Mapping[str, str] | None = None) -> Mapping[str, str]:
    named = [index if isinstance(index, tuple) else (None, index) for index in indexes]
    return Credentials.from_settings(environment or {}, named).header(url)


# Addresses


def test_nobody_has_no_login() -> None:
    assert login(FILE) == {}
    assert login(FILE, INDEX) == {}


def test_the_login_of_the_address_itself_is_used() -> None:
    assert login("https://me:secret@pypi.example/x.whl") == basic("me", "secret")


def test_files_on_the_host_of_an_index_use_its_login() -> None:
    assert login(FILE, "https://me:secret@pypi.example/team/simple/") == basic("me", "secret")
    assert login("https://pypi.example/elsewhere.whl", "https://me:secret@pypi.example/team/simple/") == basic(
        "me", "secret"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example/demo.whl",
        "http://pypi.example/demo.whl",
        "https://pypi.example:8443/demo.whl",
        "https://pypi.example.evil.test/demo.whl",
        "https://evil.test/pypi.example/demo.whl",
        "https://evil.test#@pypi.example/demo.whl",
        "https://[broken/demo.whl",
        "file:///demo.whl",
        "not an address",
    ],
)
def test_another_origin_does_not_get_the_login(url: str) -> None:
    assert login(url, "https://me:secret@pypi.example/simple/") == {}


def test_the_usual_port_is_no_other_origin() -> None:
    assert login("https://PYPI.example:443/demo.whl", "https://me:secret@pypi.example/") == basic("me", "secret")


def test_the_index_that_shares_the_longest_path_wins() -> None:
    one, two = "https://a:one@pypi.example/one/simple/", "https://b:two@pypi.example/two/simple/"
    assert login("https://pypi.example/two/files/demo.whl", one, two) == basic("b", "two")
    assert login("https://pypi.example/one/files/demo.whl", two, one) == basic("a", "one")
    assert login("https://pypi.example/onerous/demo.whl", two, one) == basic("b", "two")


@pytest.mark.parametrize(
    ("written", "password"),
    [("p%40ss%2Fword", "p@ss/word"), ("p%C3%A4ss", "päss"), ("50%25", "50%"), ("a:b", "a:b"), ("a@b", "a@b"), ("", "")],
)
def test_a_password_may_hold_any_character(written: str, password: str) -> None:
    assert login(FILE, f"https://me%40corp:{written}@pypi.example/simple/") == basic("me@corp", password)


def test_a_token_may_stand_where_the_user_belongs() -> None:
    assert login(FILE, "https://token@pypi.example/simple/") == basic("token", "")


def test_a_user_in_the_address_finds_the_password_of_the_index() -> None:
    index = "https://me:secret@pypi.example/simple/"
    assert login("https://me@pypi.example/x.whl", index) == basic("me", "secret")
    assert login("https://you@pypi.example/x.whl", index) == basic("you", "")


def test_an_index_that_is_a_folder_is_passed_over(tmp_path: Path) -> None:
    assert login(FILE, tmp_path.as_uri(), str(tmp_path), "https://[broken/") == {}


# Variables


@pytest.mark.parametrize("name", ["my-team", "MY_TEAM", "my.team"])
def test_a_named_index_takes_its_login_from_variables(name: str) -> None:
    environment = {"UV_INDEX_MY_TEAM_USERNAME": "me", "UV_INDEX_MY_TEAM_PASSWORD": "secret"}
    assert login(FILE, (name, INDEX), environment=environment) == basic("me", "secret")
    assert login(FILE, ("other", INDEX), environment=environment) == {}
    assert login(FILE, INDEX, environment=environment) == {}


def test_variables_win_over_the_address_of_a_named_index() -> None:
    index = ("team", "https://me:old@pypi.example/simple/")
    assert login(FILE, index, environment={"UV_INDEX_TEAM_USERNAME": "me", "UV_INDEX_TEAM_PASSWORD": "new"}) == basic(
        "me", "new"
    )
    assert login(FILE, index, environment={"UV_INDEX_TEAM_PASSWORD": "new"}) == basic("me", "new")


# netrc


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def at(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "USERPROFILE": str(home), **more}


def test_netrc_is_read_from_home_or_from_where_it_is_named(home: Path, tmp_path: Path) -> None:
    (home / ".netrc").write_text("machine pypi.example login me password secret\n")
    assert login(FILE, environment=at(home)) == basic("me", "secret")
    (tmp_path / "other").write_text("machine pypi.example login me password other\n")
    assert login(FILE, environment=at(home, NETRC=str(tmp_path / "other"))) == basic("me", "other")


def test_netrc_comes_after_the_address_of_the_index(home: Path) -> None:
    (home / ".netrc").write_text("machine pypi.example login me password secret\n")
    assert login(FILE, "https://you:first@pypi.example/", environment=at(home)) == basic("you", "first")
    assert login(FILE, "https://me@pypi.example/", environment=at(home)) == basic("me", "secret")
    assert login(FILE, "https://you@pypi.example/", environment=at(home)) == basic("you", "")


def test_the_default_of_netrc_is_kept_from_where_we_are_sent(home: Path) -> None:
    (home / ".netrc").write_text("default login me password secret\n")
    credentials = Credentials.from_settings(at(home))
    assert credentials.header(FILE) == basic("me", "secret")
    assert credentials.header(FILE, redirected=True) == {}


def test_a_broken_netrc_is_told_in_the_hint_without_its_content(home: Path) -> None:
    (home / ".netrc").write_text("machine pypi.example login me password secret\nsecret2 oops\n")
    credentials = Credentials.from_settings(at(home))
    assert credentials.header(FILE) == {}
    hint = credentials.hint(FILE)
    assert hint.endswith("; `.netrc` is not understood at line 2")
    assert "secret" not in hint


def test_a_netrc_that_cannot_be_read_is_told_in_the_hint(home: Path) -> None:
    (home / ".netrc").mkdir()
    assert Credentials.from_settings(at(home)).hint(FILE).endswith("; `.netrc` cannot be read")


# keyring

KEYRING = """#!/bin/sh
echo "$@" >> "$HOME/asked"
case "$*" in
  "get https://pypi.example/team/simple/ me") echo secret;;
  "get pypi.example you") echo by-host;;
  "--mode creds get https://pypi.example/team/simple/") printf 'found\\nby-mode\\n';;
  *) exit 1;;
esac
"""


@pytest.fixture
def with_keyring(home: Path) -> dict[str, str]:
    if sys.platform == "win32":
        pytest.skip("a shell script stands for the program")
    (home / "keyring").write_text(KEYRING)
    (home / "keyring").chmod(0o755)
    return at(home, PATH=f"{home}:/usr/bin:/bin", UV_KEYRING_PROVIDER="subprocess")


def asked(home: Path) -> list[str]:
    return (home / "asked").read_text().splitlines() if (home / "asked").exists() else []


def test_a_keyring_is_asked_once_for_the_password_of_a_known_user(home: Path, with_keyring: dict[str, str]) -> None:
    credentials = Credentials.from_settings(with_keyring, [(None, "https://me@pypi.example/team/simple/")])
    for _ in range(3):
        assert credentials.header(FILE) == basic("me", "secret")
    assert asked(home) == ["get https://pypi.example/team/simple/ me"]


def test_a_keyring_is_asked_for_the_host_when_the_index_is_not_known(home: Path, with_keyring: dict[str, str]) -> None:
    assert login(FILE, "https://you@pypi.example/team/simple/", environment=with_keyring) == basic("you", "by-host")
    assert asked(home) == ["get https://pypi.example/team/simple/ you", "get pypi.example you"]


def test_a_keyring_is_asked_for_the_user_only_when_the_server_wants_one(
    home: Path, with_keyring: dict[str, str]
) -> None:
    credentials = Credentials.from_settings(with_keyring, [(None, INDEX)])
    assert credentials.header(FILE) == {}
    assert asked(home) == []
    assert credentials.header(FILE, challenged=True) == basic("found", "by-mode")


def test_pip_users_have_their_keyring_asked(with_keyring: dict[str, str]) -> None:
    del with_keyring["UV_KEYRING_PROVIDER"]
    with_keyring["PIP_KEYRING_PROVIDER"] = "import"
    assert login(FILE, "https://me@pypi.example/team/simple/", environment=with_keyring) == basic("me", "secret")


def test_a_keyring_is_not_asked_unless_wanted(home: Path, with_keyring: dict[str, str]) -> None:
    del with_keyring["UV_KEYRING_PROVIDER"]
    assert login(FILE, "https://me@pypi.example/team/simple/", environment=with_keyring) == basic("me", "")
    assert asked(home) == []


def test_a_keyring_that_is_not_installed_is_told_in_the_hint(home: Path) -> None:
    credentials = Credentials.from_settings(at(home, PATH=str(home), UV_KEYRING_PROVIDER="subprocess"))
    assert credentials.hint(FILE).endswith("; `keyring` is asked for but cannot be run")


# Never shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@pypi.example/simple/", "https://pypi.example/simple/"),
        ("https://token@pypi.example/simple/", "https://pypi.example/simple/"),
        ("https://me:p@ss@pypi.example/simple/", "https://pypi.example/simple/"),
        ("https://me:sec/ret@pypi.example/simple/", "https://pypi.example/simple/"),
        ("https://me:12/ret@pypi.example/simple/", "https://me:12/ret@pypi.example/simple/"),  # port 12, path ret@...
        ("https://me:sec?ret#x@pypi.example/simple/", "https://pypi.example/simple/"),
        ("git+https://me:secret@host/x@v1#egg=y", "git+https://host/x@v1#egg=y"),
        ("error for `https://me:secret@a/x` and https://you:other@b/y", "error for `https://a/x` and https://b/y"),
        ("https://host:8080/a@b/c", "https://host:8080/a@b/c"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        ("https://host/x?sig=abc&v=1", "https://host/x?sig=****&v=1"),
        ("https://host/x?X-Amz-Signature=abc&X-Amz-Date=1", "https://host/x?X-Amz-Signature=****&X-Amz-Date=1"),
        ("https://host/x?access_token=abc#sha256=12", "https://host/x?access_token=****#sha256=12"),
        ("https://host/x?file=abc", "https://host/x?file=abc"),
        ("me@example.org wrote", "me@example.org wrote"),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, shown: str) -> None:
    assert Credentials.from_settings({}).redact(text) == shown


def test_a_known_password_is_shown_nowhere() -> None:
    credentials = Credentials.from_settings({}, [(None, "https://me:hunter%2F22@pypi.example/simple/")])
    assert credentials.redact("tried hunter/22 and hunter%2F22") == "tried **** and ****"


def test_a_token_in_place_of_the_user_is_shown_nowhere() -> None:
    credentials = Credentials.from_settings({}, [(None, "https://abcdef123@pypi.example/simple/")])
    assert credentials.redact("tried abcdef123") == "tried ****"


def test_what_netrc_gave_is_shown_nowhere(home: Path) -> None:
    (home / ".netrc").write_text("machine pypi.example login me password hunter22\n")
    credentials = Credentials.from_settings(at(home))
    credentials.header(FILE)
    assert credentials.redact("tried hunter22") == "tried ****"


def test_nothing_is_shown_by_repr() -> None:
    credentials = Credentials.from_settings({}, [("team", "https://someone:hunter22@pypi.example/simple/")])
    assert repr(credentials) == "<Credentials for 1 indexes>"
    held = [repr(getattr(credentials, name)) for name in ("_indexes",)]
    assert not any("hunter22" in text or "someone" in text for text in held)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://me:p@ss@host:1/x?y#z", "https://host:1/x?y#z"),
        ("https://host/x@y", "https://host/x@y"),
        ("https://[broken/", "https://[broken/"),
        ("relative/path", "relative/path"),
    ],
)
def test_userinfo_is_taken_out_of_an_address(url: str, bare: str) -> None:
    assert strip_userinfo(url) == bare


# On the wire


def wanted(url: str, content: bytes) -> Download:
    return Download(url=url, filename="demo.whl", sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def test_a_login_does_not_follow_a_redirect_to_another_host(
    server: MisbehavingServer, cache: Cache, impatient: HttpSettings
) -> None:
    with MisbehavingServer(files={"/demo.whl": b"content"}) as other:
        server.plan("/demo.whl", require_login("me", "hunter22", answer(302, Location=other.url("/demo.whl"))))
        credentials = Credentials.from_settings({}, [(None, server.url("/simple/", "me:hunter22"))])
        download = wanted(server.url("/demo.whl"), b"content")
        fetch_all([download], cache=cache, credentials=credentials, offline=False, progress=SILENT, settings=impatient)
        assert server.requests[0].authorization is not None
        assert [request.authorization for request in other.requests] == [None]


def test_a_login_follows_a_redirect_within_its_host(server: MisbehavingServer, impatient: HttpSettings) -> None:
    server.files["/new"] = b"text"
    server.plan("/old", answer(307, Location="/new"))
    server.plan("/new", require_login("me", "hunter22", serve))
    credentials = Credentials.from_settings({}, [(None, server.url("/simple/", "me:hunter22"))])
    assert read_text(server.url("/old"), credentials=credentials, settings=impatient).text == "text"


def test_the_place_we_are_sent_to_gets_its_own_login(server: MisbehavingServer, impatient: HttpSettings) -> None:
    with MisbehavingServer(files={"/page": b"text"}) as other:
        server.plan("/page", answer(302, Location=other.url("/page")))
        other.plan("/page", require_login("you", "other-password", serve))
        indexes = [(None, server.url("/", "me:hunter22")), (None, other.url("/", "you:other-password"))]
        credentials = Credentials.from_settings({}, indexes)
        assert read_text(server.url("/page"), credentials=credentials, settings=impatient).text == "text"


def test_a_keyring_answers_a_challenge(
    server: MisbehavingServer, impatient: HttpSettings, home: Path, with_keyring: dict[str, str]
) -> None:
    (home / "keyring").write_text("#!/bin/sh\nprintf 'found\\nby-mode\\n'\n")
    server.files["/page"] = b"text"
    server.plan("/page", require_login("found", "by-mode"), require_login("found", "by-mode"))
    credentials = Credentials.from_settings(with_keyring)
    assert read_text(server.url("/page"), credentials=credentials, settings=impatient).text == "text"
    assert [request.authorization is None for request in server.requests] == [True, False]


def test_being_refused_without_a_login_says_where_to_put_one(
    server: MisbehavingServer, cache: Cache, impatient: HttpSettings, nobody: Credentials
) -> None:
    server.plan("/demo.whl", require_login("me", "hunter22"))
    download = wanted(server.url("/demo.whl"), b"content")
    with pytest.raises(FetchError) as caught:
        fetch_all([download], cache=cache, credentials=nobody, offline=False, progress=SILENT, settings=impatient)
    assert caught.value.message == f"`demo.whl` is refused by `{server.url('/demo.whl')}`: 401 Unauthorized"
    assert caught.value.hint == (
        "no login was found for `127.0.0.1`: put it in the address of the index, in `UV_INDEX_<NAME>_USERNAME` and "
        "`UV_INDEX_<NAME>_PASSWORD`, in `~/.netrc`, or in a keyring with `UV_KEYRING_PROVIDER=subprocess`"
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_being_refused_with_a_login_says_where_it_was_found(
    server: MisbehavingServer, cache: Cache, impatient: HttpSettings, status: int
) -> None:
    server.plan("/demo.whl", answer(status), forever=True)
    credentials = Credentials.from_settings(
        {"UV_INDEX_TEAM_USERNAME": "someone", "UV_INDEX_TEAM_PASSWORD": "hunter22"}, [("team", server.url("/simple/"))]
    )
    download = wanted(server.url("/demo.whl?token=hunter22", "someone:hunter22"), b"content")
    with pytest.raises(FetchError) as caught:
        fetch_all([download], cache=cache, credentials=credentials, offline=False, progress=SILENT, settings=impatient)
    plain = wanted(server.url("/demo.whl"), b"content")
    assert "hunter22" not in f"{caught.value} {caught.value.hint}"
    assert "someone" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(FetchError) as caught:
        fetch_all([plain], cache=cache, credentials=credentials, offline=False, progress=SILENT, settings=impatient)
    assert caught.value.hint == (
        "the login found in `UV_INDEX_TEAM_USERNAME` and `UV_INDEX_TEAM_PASSWORD` was refused by `127.0.0.1`: "
        "is it right, and not expired?"
    )
