"""SAM templates: what is read of functions and layers, and that nothing in a template can do harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manylambda.errors import RequestError
from manylambda.templates.document import read_mapping
from manylambda.templates.sam import Function, Layer, find_template, read_template

if TYPE_CHECKING:
    from pathlib import Path

    from manylambda.templates.sam import Template

TEMPLATE = """\
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  Runtime: {Type: String, Default: python3.13}
  Secret: {Type: String}
Globals:
  Function:
    Runtime: !Ref Runtime
    Architectures: [arm64]
    Layers: [!Ref Common]
    Timeout: 5
Resources:
  Hello:  # a comment
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: hello/
      Handler: app.handler
      Events:
        Api: {Type: HttpApi, Properties: {Path: /hello, Method: get}}
      Environment: {Variables: {TABLE: !GetAtt Table.Arn, NAME: !Sub "${AWS::StackName}-x"}}
  Worker:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: makefile}
    Properties:
      CodeUri: ../worker
      Handler: worker.main
      Runtime: python3.11
      Architectures: [x86_64]
      Layers: [!Ref Own, "arn:aws:lambda:eu-central-1:111122223333:layer:theirs:1"]
  Plain:
    Type: AWS::Lambda::Function
    Properties: {Code: plain, Handler: p.h, Runtime: python3.12, Layers: !If [Yes, [!Ref Own], !Ref "AWS::NoValue"]}
  Common:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: python3.13, BuildArchitecture: arm64}
    Properties:
      ContentUri: common
      CompatibleRuntimes: [python3.13, nodejs20.x]
      CompatibleArchitectures: [arm64, x86_64]
  Own:
    Type: AWS::Lambda::LayerVersion
    Properties:
      Content: own
      CompatibleRuntimes: [python3.12, python3.11, python3.12]
      CompatibleArchitectures: [arm64]
  Image: {Type: AWS::Serverless::Function, Properties: {PackageType: Image}}
  Node: {Type: AWS::Serverless::Function, Properties: {Runtime: nodejs20.x, CodeUri: node}}
  Inline: {Type: AWS::Serverless::Function, Properties: {InlineCode: "def h(e, c): ..."}}
  Zip: {Type: AWS::Lambda::Function, Properties: {Runtime: python3.13, Code: {ZipFile: "x = 1"}}}
  Remote: {Type: AWS::Serverless::Function, Properties: {CodeUri: "s3://bucket/key"}}
  Bucket: {Type: AWS::Lambda::Function, Properties: {Runtime: python3.13, Code: {S3Bucket: b, S3Key: k}}}
  Packed: {Type: AWS::Serverless::Function, Properties: {CodeUri: dist/api.zip}}
  Unknown: {Type: AWS::Serverless::Function, Properties: {Runtime: !ImportValue x, CodeUri: x}}
  Empty: {Type: AWS::Serverless::Function, Properties: {Runtime: !Ref Secret, CodeUri: x}}
  Free:
    Type: AWS::Serverless::Function
    IgnoreGlobals: "*"
    Properties: {CodeUri: free}
  Anything: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: x}}
  Table: {Type: AWS::DynamoDB::Table}
  Fn::ForEach::Each: [Name, [a, b], {}]
"""


@pytest.fixture
def template(tmp_path: Path) -> Template:
    (tmp_path / "template.yaml").write_text(TEMPLATE, encoding="utf-8")
    return read_template(tmp_path / "template.yaml")


def test_functions_are_those_of_folders(template: Template, tmp_path: Path) -> None:
    assert template.functions == (
        Function(
            name="Hello", folder=tmp_path / "hello", runtime="python3.13", architecture="arm64",
            handler="app.handler", layers=("Common",), build_method=None, parameters=("Runtime",),
        ),
        Function(
            name="Worker", folder=tmp_path.parent / "worker", runtime="python3.11", architecture="x86_64",
            handler="worker.main", layers=("Common", "Own"), build_method="makefile",
        ),
        Function(
            name="Plain", folder=tmp_path / "plain", runtime="python3.12", architecture="x86_64",
            handler="p.h", layers=(), build_method=None,
        ),
    )  # fmt: skip
    assert [str(target) for function in template.functions for target in function.targets] == [
        "python3.13-arm64", "python3.11-x86_64", "python3.12-x86_64",
    ]  # fmt: skip


def test_layers_are_for_each_of_their_runtimes(template: Template, tmp_path: Path) -> None:
    assert template.layers == (
        Layer(
            name="Common", folder=tmp_path / "common", runtimes=("python3.13",), architecture="arm64",
            build_architecture="arm64", build_method="python3.13",
        ),
        Layer(
            name="Own", folder=tmp_path / "own", runtimes=("python3.12", "python3.11"), architecture="arm64",
            build_architecture="x86_64", build_method=None,
        ),
    )  # fmt: skip
    assert [str(target) for target in template.layers[1].targets] == ["python3.12-arm64", "python3.11-arm64"]


def test_what_is_none_of_ours_is_told_with_its_reason(template: Template) -> None:
    assert template.skipped == {
        "Image": "it is a container image",
        "Node": "its runtime is nodejs20.x",
        "Inline": "its code stands in the template",
        "Zip": "its code stands in the template",
        "Remote": "its code lies in S3",
        "Bucket": "its code lies in S3",
        "Packed": "it is packed already: dist/api.zip",
        "Unknown": "its runtime is known to CloudFormation only",
        "Empty": "its runtime is known to CloudFormation only",
        "Free": "it has no runtime",
        "Anything": "it names no runtime of Python in `CompatibleRuntimes`",
        "Fn::ForEach::Each": "what a loop makes is known to CloudFormation only",
    }


def test_json_is_read_with_tabs_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    text = (
        '{\n\t"Resources": {"A": {"Type": "AWS::Serverless::Function", "Properties": {"Runtime": "python3.12"}}}\n}\n'
    )
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert [function.folder for function in read_template(path).functions] == [tmp_path]
    assert find_template(tmp_path) == path


def test_a_template_of_another_tool_is_not_sam_s(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("name: x\n", encoding="utf-8")
    assert find_template(tmp_path) is None
    with pytest.raises(RequestError, match=r"template\.yaml` has no `Resources`$"):
        read_template(tmp_path / "template.yaml")


def test_a_runtime_that_is_not_known_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "Resources: {A: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.99}}}\n", encoding="utf-8"
    )
    (function,) = read_template(path).functions
    with pytest.raises(RequestError, match=r"python3\.99"):
        _ = function.targets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']\n", r"line 1: could not determine a constructor for the tag"),
        ("a: [1\nb: 2\n", r"cannot be read, line 2: "),
        ("- a\n", r"is no mapping of names to values"),
        ("[" * 20_000, r"nested too deeply"),
        ("a: \x07\n", r"cannot be read: "),
        ("a: 2024-99-99\n", r"cannot be read: month must be in 1\.\.12"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_request(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        read_mapping(path)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match=r"is not UTF-8$"):
        read_mapping(tmp_path / "template.yaml")
    with pytest.raises(RequestError, match=r"cannot read .*: no such file"):
        read_mapping(tmp_path / "absent.yaml")


def test_intrinsic_functions_become_their_long_forms(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "a: !Ref X\nb: !GetAtt X.Y.Z\nc: !Join ['-', [!Ref X, y]]\nd: !Transform {Name: n, Parameters: {p: !Ref X}}\n",
        encoding="utf-8",
    )
    assert read_mapping(path) == {
        "a": {"Ref": "X"},
        "b": {"Fn::GetAtt": ["X", "Y.Z"]},
        "c": {"Fn::Join": ["-", [{"Ref": "X"}, "y"]]},
        "d": {"Fn::Transform": {"Name": "n", "Parameters": {"p": {"Ref": "X"}}}},
    }


INTRINSICS = """\
Parameters:
  Stage: {Type: String, Default: dev}
  Memory: {Type: Number, Default: 128}
  Secret: {Type: String}
Mappings:
  Stages:
    dev: {runtime: python3.13, architecture: arm64}
    prod: {runtime: python3.12, architecture: x86_64}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsNot: !Not [!Condition IsProd]
  Any: !Or [!Condition IsProd, !Condition IsNot]
  All: !And [!Condition IsProd, !Condition Unknown]
  Unknown: !Equals [!Ref Secret, x]
  Circle: !Not [!Condition Circle]
Resources:
  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: src, Runtime: python3.11, PROPERTY}}
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Architectures: [!FindInMap [Stages, !Ref Stage, architecture]]", ("python3.11", "arm64", "src")),
        ("Architectures: !If [IsProd, [x86_64], [arm64]]", ("python3.11", "arm64", "src")),
        ("Architectures: [!If [All, x86_64, arm64]]", ("python3.11", "arm64", "src")),
        ("Architectures: [!If [Any, x86_64, arm64]]", ("python3.11", "x86_64", "src")),
        ("CodeUri: !Sub 'code/${Stage}'", ("python3.11", "x86_64", "code/dev")),
        ("CodeUri: !Sub ['code/${Name}', {Name: !Ref Stage}]", ("python3.11", "x86_64", "code/dev")),
        ("CodeUri: !Join [/, [code, !Ref Stage]]", ("python3.11", "x86_64", "code/dev")),
        ("Architectures: [!If [Unknown, x86_64, arm64]]", "its architecture is known to CloudFormation only"),
        ("Architectures: [!If [Circle, x86_64, arm64]]", "its architecture is known to CloudFormation only"),
        ("Architectures: [!Ref Secret]", "its architecture is known to CloudFormation only"),
        ("Architectures: !FindInMap [Stages, other, architecture]", "its architecture is known to CloudFormation only"),
        ("CodeUri: !Sub 'code/${AWS::Region}'", "its folder is known to CloudFormation only"),
        ("CodeUri: !ImportValue x", "its folder is known to CloudFormation only"),
        ("CodeUri: {Bucket: b, Key: k}", "its code lies in S3"),
    ],
)
def test_what_intrinsic_functions_give_by_the_template_s_own_defaults(
    tmp_path: Path, given: str, expected: object
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(INTRINSICS.replace("PROPERTY", given), encoding="utf-8")
    template = read_template(path)
    if isinstance(expected, str):
        assert (template.functions, template.skipped) == ((), {"F": expected})
    else:
        (one,) = template.functions
        assert (one.runtime, one.architecture, one.folder.relative_to(tmp_path).as_posix()) == expected


def test_a_condition_is_decided_once_however_many_name_it(tmp_path: Path) -> None:
    """Ten that each name the one before ten times would be asked for ten billion times."""
    conditions = ["  C0: !Equals [!Ref Stage, prod]"]
    conditions += [f"  C{number}: !And [{', '.join([f'!Condition C{number - 1}'] * 10)}]" for number in range(1, 11)]
    functions = [
        f"  {name}: {{Type: AWS::Serverless::Function, "
        "Properties: {CodeUri: ., Handler: app.h, Runtime: !If [C10, python3.13, python3.12]}}"
        for name in ("One", "Two")
    ]
    lines = ["Transform: AWS::Serverless-2016-10-31", "Parameters:", "  Stage: {Type: String, Default: prod}"]
    lines += ["Conditions:", *conditions, "  Circle: !Not [!Condition Circle]", "Resources:", *functions]
    (tmp_path / "template.yaml").write_text("\n".join(lines), encoding="utf-8")
    found = read_template(tmp_path / "template.yaml").functions
    assert [(one.runtime, one.parameters) for one in found] == [("python3.13", ("Stage",))] * 2
