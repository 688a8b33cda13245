"""What users call an image is read as Docker and Podman read it; what is none is refused with what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manylambda.errors import RequestError
from manylambda.image.reference import Reference, is_loopback

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("python", "docker.io", "library/python", "latest", None),
        ("python:3.13", "docker.io", "library/python", "3.13", None),
        ("amazon/aws-lambda-python:3.13", "docker.io", "amazon/aws-lambda-python", "3.13", None),
        ("docker.io/python", "docker.io", "library/python", "latest", None),
        ("index.docker.io/library/python", "docker.io", "library/python", "latest", None),
        ("registry-1.docker.io/a/b", "docker.io", "a/b", "latest", None),
        ("public.ecr.aws/lambda/python:3.13-arm64", "public.ecr.aws", "lambda/python", "3.13-arm64", None),
        (f"public.ecr.aws/lambda/python@{DIGEST}", "public.ecr.aws", "lambda/python", None, DIGEST),
        (f"public.ecr.aws/lambda/python:3.13@{DIGEST}", "public.ecr.aws", "lambda/python", "3.13", DIGEST),
        (f"python@{DIGEST}", "docker.io", "library/python", None, DIGEST),
        ("localhost/a", "localhost", "a", "latest", None),
        ("localhost:5000/a:b", "localhost:5000", "a", "b", None),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c", "latest", None),
        ("[::1]:5000/a:1", "[::1]:5000", "a", "1", None),
        ("Registry.Example/a", "registry.example", "a", "latest", None),
        ("myhost:5000/a__b/c-d/e.f_g", "myhost:5000", "a__b/c-d/e.f_g", "latest", None),
        ("xn--bcher-kva.example/a", "xn--bcher-kva.example", "a", "latest", None),
        ("r.example/a:" + "T" * 128, "r.example", "a", "T" * 128, None),
    ],
)
def test_a_reference_is_read(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    found = Reference.parse(text)
    assert found == (registry, repository, tag, digest)
    assert Reference.parse(str(found)) == found


def test_docker_hub_answers_elsewhere() -> None:
    assert Reference.parse("python").endpoint == "registry-1.docker.io"
    assert str(Reference.parse("python")) == "docker.io/library/python:latest"
    assert Reference.parse("r.example:1/a").endpoint == "r.example:1"


def test_a_pinned_reference_keeps_its_tag() -> None:
    assert str(Reference.parse("r.example/a:1").pinned(DIGEST)) == f"r.example/a:1@{DIGEST}"


@pytest.mark.parametrize(
    ("text", "fact", "hint"),
    [
        ("", "its name is malformed: `library/`", "write it as `[HOST/]NAME[:TAG][@sha256:...]`"),
        ("Python:3", "its name is malformed: `library/Python`", "in lower case"),
        ("r.example/", "its name is malformed: ``", "[HOST/]NAME"),
        ("r.example/a//b", "its name is malformed: `a//b`", "[HOST/]NAME"),
        ("r.example/../b", "its name is malformed: `../b`", "[HOST/]NAME"),
        ("r.example/a b", "its name is malformed: `a b`", "[HOST/]NAME"),
        ("r.example/" + "a" * 256, "its name is malformed: `" + "a" * 256 + "`", "[HOST/]NAME"),
        ("r.example/a:", "its tag is malformed: ``", "128 letters"),
        ("r.example/a:b:c", "its tag is malformed: `b:c`", "128 letters"),
        ("r.example/a:" + "T" * 129, "its tag is malformed: `" + "T" * 129 + "`", "128 letters"),
        ("r.example/a:\u0661", "its tag is malformed: `\u0661`", "128 letters"),
        ("r.example/a@sha256:12", "its digest is malformed: `sha256:12`", "64 digits"),
        (f"r.example/a@sha512:{'0' * 128}", f"its digest is malformed: `sha512:{'0' * 128}`", "64 digits"),
        ("r.example/a@", "its digest is malformed: ``", "64 digits"),
        ("r.example:99999/a", "its registry is malformed: `r.example:99999`", "HOST:PORT"),
        ("r.example:x/a", "its registry is malformed: `r.example:x`", "HOST:PORT"),
        ("-r.example/a", "its registry is malformed: `-r.example`", "HOST:PORT"),
        ("me:pw@r.example/a", "its digest is malformed: `r.example/a`", "64 digits"),
        ("docker://r.example/a", "it has a scheme", "write it without `docker://`: `r.example/a`"),
        ("r.example/\x1b[31m", "its name is malformed: `\\x1b[31m`", "[HOST/]NAME"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, fact: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        Reference.parse(text)
    assert caught.value.message.endswith(f"` is no image reference: {fact}")
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@given(st.text(alphabet="ab.:/@-_[]A1 \n%", max_size=40))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    try:
        found = Reference.parse(text)
    except RequestError:
        return
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    ("netloc", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:5000", True),
        ("[::1]:5000", True),
        ("::1", True),
        ("localhost.example", False),
        ("127.0.0.1.example:5000", False),
        ("10.0.0.1:5000", False),
        ("registry.example", False),
        ("[fe80::1]:5000", False),
        ("0.0.0.0:5000", False),
    ],
)
def test_only_this_machine_is_this_machine(netloc: str, expected: bool) -> None:
    assert is_loopback(netloc) is expected
