"""What requirements files say, line by line, as pip understands them."""

from __future__ import annotations

from pathlib import Path

import pytest

from manylambda.errors import RequestError
from manylambda.locks.requirements import Requirements, read_requirements, source_tree_name

SHA = "a" * 64


def read(text: str, base: Path, **environment: str) -> Requirements:
    return read_requirements([Path("-")], base=base, environment=environment, stdin=text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Some.Name==1.0", "Some.Name==1.0"),
        ("name[extra,other]>=1 ; python_version < '3.12'", "name[extra,other]>=1 ; python_version < '3.12'"),
        ("name  # a comment", "name"),
        ("name>=1,\\\n  <2", "name>=1,  <2"),
        (f"name==1 --hash=sha256:{SHA} --hash sha256:{SHA}", "name==1"),
        ('name==1 --config-settings="--key=value"', "name==1"),
        ("name @ https://example.org/name-1-py3-none-any.whl", "name @ https://example.org/name-1-py3-none-any.whl"),
        (
            "name@https://example.org/name-1.zip ; sys_platform == 'linux'",
            "name @ https://example.org/name-1.zip ; sys_platform == 'linux'",
        ),
        ("https://example.org/na_me-1-py3-none-any.whl", "na-me @ https://example.org/na_me-1-py3-none-any.whl"),
        ("https://example.org/x.zip#egg=na.me", "na-me @ https://example.org/x.zip#egg=na.me"),
        ("${NAME}==1", "told==1"),
    ],
)
def test_a_line_becomes_what_uv_reads(text: str, line: str, tmp_path: Path) -> None:
    (found,) = read(text, tmp_path, NAME="told").lines
    assert found.text == line


def test_blank_lines_comments_and_a_byte_order_mark_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "utf8.txt").write_bytes(b"\xef\xbb\xbf\n# only a comment\n\n  \none\n")
    (tmp_path / "utf16.txt").write_bytes("two\r\n".encode("utf-16"))
    found = read_requirements([tmp_path / "utf8.txt", tmp_path / "utf16.txt"], base=tmp_path, environment={})
    assert [(line.text, line.origin) for line in found.lines] == [("one", "utf8.txt:5"), ("two", "utf16.txt:1")]


def test_hashes_are_kept_with_their_algorithm(tmp_path: Path) -> None:
    found = read(
        f"one==1 --hash=sha256:{SHA.upper()} \\\n   --hash=sha512:{SHA}{SHA}\n"
        f"https://example.org/two-1-py3-none-any.whl#sha256={SHA}",
        tmp_path,
    )
    assert [line.hashes for line in found.lines] == [{f"sha256:{SHA}", f"sha512:{SHA}{SHA}"}, {f"sha256:{SHA}"}]
    assert found.has_hashes
    assert not read("one", tmp_path).has_hashes
    assert read("--require-hashes", tmp_path).has_hashes


def test_options_are_gathered(tmp_path: Path) -> None:
    found = read(
        "-i https://example.org/simple\n--extra-index-url=https://user:${WORD}@one.example/simple\n"
        "--extra-index-url https://two.example/simple\n-f wheels\n-f https://example.org/links.html\n--no-index\n--pre\n"
        "--trusted-host example.org\n--no-binary one,two\n--only-binary :all:\n--prefer-binary\n--no-binary :none:\n",
        tmp_path,
        WORD="secret",
    )
    assert found == Requirements(
        index_url="https://example.org/simple",
        extra_index_urls=("https://user:secret@one.example/simple", "https://two.example/simple"),
        find_links=(str(tmp_path / "wheels"), "https://example.org/links.html"),
        no_index=True,
        pre=True,
        trusted_hosts=("example.org",),
        no_binary=("one", "two"),
    )


def test_nested_files_are_found_beside_the_file_that_names_them_and_a_cycle_ends(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "top.txt").write_text("-rdeep/one.txt\n-c deep/limits.txt\n")
    (tmp_path / "deep" / "one.txt").write_text("one\n-r two.txt\n")
    (tmp_path / "deep" / "two.txt").write_text("two\n-r ../top.txt\n")
    (tmp_path / "deep" / "limits.txt").write_text("one<2\n-r more.txt\n")
    (tmp_path / "deep" / "more.txt").write_text("two<2\n")
    found = read_requirements([tmp_path / "top.txt"], base=tmp_path, environment={})
    assert [line.text for line in found.lines] == ["one", "two"]
    assert [(line.text, line.origin) for line in found.constraints] == [
        ("one<2", "deep/limits.txt:1"),
        ("two<2", "deep/more.txt:1"),
    ]


def test_files_behind_addresses_are_read(tmp_path: Path) -> None:
    pages = {
        "https://example.org/a/limits.txt": "one<2\n-c more.txt\n",
        "https://example.org/a/more.txt": "two<2",
    }
    (tmp_path / "top.txt").write_text("one\n-c https://example.org/a/limits.txt\n")
    found = read_requirements([tmp_path / "top.txt"], base=tmp_path, environment={}, read_url=pages.__getitem__)
    assert [line.text for line in found.constraints] == ["one<2", "two<2"]


@pytest.mark.parametrize(
    "text", ["./library", "-e ./library", "-e library", "library/", "file:library", "-e ./library[more]", "-e {uri}"]
)
def test_a_folder_is_a_source_tree_with_a_name(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "Lib_Rary"\n')
    (line,) = read(text.format(uri=folder.as_uri()), tmp_path).lines
    extras = "[more]" if "[more]" in text else ""
    assert (line.name, line.directory, line.text) == (
        "lib-rary",
        folder,
        f"lib-rary{extras} @ {folder.as_uri()}",
    )


def test_a_relative_path_is_looked_up_in_the_project_then_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub" / "beside").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "sub" / "requirements.txt").write_text("a @ ./here\nb @ ./beside\n")
    found = read_requirements([tmp_path / "sub" / "requirements.txt"], base=tmp_path, environment={})
    assert [line.directory for line in found.lines] == [tmp_path / "here", tmp_path / "sub" / "beside"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pyproject.toml", '[project]\nname = "The.Name"'),
        ("pyproject.toml", '[tool.poetry]\nname = "The.Name"'),
        ("setup.cfg", "[metadata]\nname = The.Name"),
        ("setup.py", 'import setuptools\nsetuptools.setup(name="The.Name")'),
    ],
)
def test_the_name_of_a_source_tree_is_read_without_running_it(file: str, content: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    assert source_tree_name(tmp_path) == "the-name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--frobnicate", "`--frobnicate` in <stdin>:1 is not an option of a requirements file"),
        ("-r", "`--requirement` in <stdin>:1 needs a value"),
        ("-r missing.txt", "requirements file not found: `missing.txt`"),
        ("-c missing.txt", "constraints file not found: `missing.txt`"),
        ("name==", "cannot read the requirement in <stdin>:1: `name==`"),
        ("name==1 --hash=md5:abc", "hash algorithm `md5` in <stdin>:1 is not one of sha256, sha384, sha512"),
        ("name==1 --hash=sha256:abc", "not a sha256 hash in <stdin>:1: `sha256:abc`"),
        ("name==1 --wrong", "cannot read <stdin>:1: `name==1 --wrong`"),
        ("./nowhere", "`./nowhere` in <stdin>:1 does not exist"),
        ("./nameless", "cannot read the name of the project in `./nameless` (<stdin>:1)"),
        ("-e git+ssh://git@example.org/x", "a version control requirement has no wheel: `git+ssh://***@example.org/x`"),
        ("-r https://u:p@example.org/r.txt", "cannot read requirements from a URL here: `https://***@example.org/r.txt`"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_told_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "nameless").mkdir()
    with pytest.raises(RequestError) as caught:
        read(text, tmp_path)
    assert caught.value.message.startswith(message)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"name\xff\n")
    with pytest.raises(RequestError, match=r"^cannot read `bad\.txt`: "):
        read_requirements([tmp_path / "bad.txt"], base=tmp_path, environment={})
