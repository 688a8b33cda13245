"""Lines put into templates: what is there stays to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from manylambda.errors import RequestError
from manylambda.templates.edit import Entries, with_entries

VALUES = {"BuildMethod": "makefile", "BuildArchitecture": "arm64"}
WANTED = [Entries(("Resources", "A"), {"Metadata": VALUES}, "Type")]
BOTH = "    Metadata:\n      BuildMethod: makefile\n      BuildArchitecture: arm64\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "Resources:\n  A: # a\n    Type: X  # b\n    Properties: !Sub x\n",
            f"Resources:\n  A: # a\n    Type: X  # b\n{BOTH}    Properties: !Sub x\n",
            id="after the type and its comment",
        ),
        pytest.param("Resources:\n  A:\n    Type: X", f"Resources:\n  A:\n    Type: X\n{BOTH}"[:-1], id="at the end"),
        pytest.param(
            "Resources:\r\n  A:\r\n    Type: X\r\n  B: {}\r\n",
            f"Resources:\r\n  A:\r\n    Type: X\r\n{BOTH}  B: {{}}\r\n".replace("\r", "").replace("\n", "\r\n"),
            id="with the line ends it has",
        ),
        pytest.param(
            "Resources:\n  A:\n    Metadata:\n      # why\n      BuildMethod: 'python3.13' # old\n    Type: X\n",
            "Resources:\n  A:\n    Metadata:\n      # why\n      BuildArchitecture: arm64\n      BuildMethod: makefile "
            "# old\n    Type: X\n",
            id="into what is there",
        ),
        pytest.param(
            "Resources: {A: {Type: X}}\n",
            "Resources: {A: {Type: X, Metadata: {BuildMethod: makefile, BuildArchitecture: arm64}}}\n",
            id="in braces",
        ),
        pytest.param(
            '{\n  "Resources": {\n    "A": {\n      "Type": "X"\n    }\n  }\n}\n',
            '{\n  "Resources": {\n    "A": {\n      "Type": "X",\n      "Metadata": {"BuildMethod": "makefile", '
            '"BuildArchitecture": "arm64"}\n    }\n  }\n}\n',
            id="JSON",
        ),
        pytest.param(
            "Resources:\n  A:\n    Type: X\n" + BOTH, "Resources:\n  A:\n    Type: X\n" + BOTH, id="is there already"
        ),
    ],
)
def test_a_resource_says_what_is_wanted(before: str, after: str) -> None:
    assert with_entries(before, Path("t.yaml"), WANTED) == after


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("Resources:\n  A:\n    <<: {Type: X}\n", "A.Type", "it does not stand there"),
        ("Resources:\n  A:\n    Type: X\n    Metadata: text\n", "A.Metadata", "it does not stand there as a table of "),
        (
            "Resources:\n  A:\n    Type: X\n    Metadata: {BuildMethod: [a]}\n",
            "A.Metadata.BuildMethod",
            "it is no text",
        ),
        ('{\n\t"Resources": {"A": {"Type": "X"}}}', "A", "it does not stand there as a table of its own"),
        ("Resources:\n  A:\n    - Type: X\n", "A", "it does not stand there as a table of its own"),
        ("Resources:\n  A:\n    ? Type\n    : X\n", "A", "it is not written in lines of its own"),
    ],
)
def test_what_cannot_be_changed_without_harm_is_told(text: str, where: str, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        with_entries(text, Path("t.yaml"), WANTED)
    assert caught.value.message.startswith(f"`t.yaml` cannot be changed at `Resources.{where}`: {reason}")
    assert caught.value.hint == "change it by hand"


def test_new_lines_stand_before_a_table() -> None:
    text = "# a service\nservice: x\n\n# what runs\nfunctions:\n  a: {handler: b.c}\n"
    wanted = [Entries((), {"package": {"artifact": "a.zip"}}, "functions")]
    assert with_entries(text, Path("s.yml"), wanted) == text.replace(
        "functions:", "package:\n  artifact: a.zip\nfunctions:"
    )


def test_a_change_that_would_say_more_than_is_wanted_is_not_made() -> None:
    """Both names are one text: changing it for the one would change the other."""
    text = "Resources:\n  A: &same\n    Type: X\n  B: *same\n"
    with pytest.raises(RequestError, match=r"^`t\.yaml` cannot be changed: it would say something else$"):
        with_entries(text, Path("t.yaml"), WANTED)
