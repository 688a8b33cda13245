from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

import manylambda
from manylambda import rules
from manylambda.audits import Ignore
from manylambda.config import FIELDS, AuditSettings, Field, Settings, Shape, is_package, load, load_audit
from manylambda.errors import RequestError
from manylambda.sources import FileRules, SourceFolder
from manylambda.target import Target

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "configuration.md"
SCHEMA = Path(manylambda.__file__).parent / "data" / "config.schema.json"
ARM = Target.parse("python3.13-arm64")
X86 = Target.parse("python3.12-x86_64")
FLAGS = {"targets": ["python3.13-arm64"]}


def project(folder: Path, text: str | None = None, *, own: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / ("manylambda.toml" if own else "pyproject.toml")).write_text(text, encoding="utf-8")
    return folder


def settings_of(folder: Path, text: str, *, own: bool = True) -> Settings:
    return load(project(folder, text, own=own), {}, FLAGS)


def wrong(
    folder: Path,
    text: str | None = None,
    *,
    own: bool = False,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as caught:
        load(project(folder, text, own=own), environment or {}, FLAGS if flags is None else flags)
    return caught.value.message, caught.value.hint


# Defaults


def test_a_target_is_enough(tmp_path: Path) -> None:
    folder = project(tmp_path / "my api")
    assert load(folder, {}, FLAGS) == Settings(
        project=folder,
        targets=(ARM,),
        name="my-api",
        output=folder / "dist",
        files=FileRules(output=folder / "dist", name="my-api"),
    )


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        load(tmp_path, {}, FLAGS).kind = "dir"  # type: ignore[misc]


def test_no_target_is_an_error(tmp_path: Path) -> None:
    assert wrong(tmp_path, flags={}) == (
        "no target is given",
        'name one, such as `-t python3.13-arm64`, or `targets = ["python3.13-arm64"]`',
    )
    assert wrong(tmp_path, flags={"targets": []})[0] == "no target is given"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[project]\nname = "orders.api_v2"', "orders.api_v2"),
        ('[tool.poetry]\nname = "orders"', "orders"),
        ('[project]\nname = "--../é"', "folder"),
        ("[project]\nname = 3", "folder"),
        ("project = 3\ntool = 3", "folder"),
        ("", "folder"),
    ],
)
def test_the_name_is_the_projects_own(tmp_path: Path, text: str, name: str) -> None:
    assert load(project(tmp_path / "folder", text), {}, FLAGS).name == name


def test_a_folder_without_a_usable_name_is_a_function(tmp_path: Path) -> None:
    assert load(project(tmp_path / "日本"), {}, FLAGS).name == "function"


def test_the_project_may_be_relative_and_is_told_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path / "api")
    monkeypatch.chdir(tmp_path)
    assert load(Path("api"), {}, FLAGS).project == tmp_path / "api"


def test_a_project_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        load(Path("nowhere/at-all"), {}, FLAGS)
    assert caught.value.message == f"the project is not a folder: `{Path('nowhere/at-all')}`"


# Where settings come from


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    text = 'kind = "layer"\nfail-on = "warning"\nscripts = true\ntargets = ["python3.12-x86_64"]'
    folder = project(tmp_path, text, own=True)
    environment = {"MANYLAMBDA_KIND": "zip", "MANYLAMBDA_FAIL_ON": "error", "MANYLAMBDA_SCRIPTS": ""}
    read = load(folder, environment, {"kind": "dir"})
    assert (read.kind, read.fail_on, read.scripts, read.targets) == ("dir", "error", True, (X86,))
    assert read.file == folder / "manylambda.toml"


def test_a_list_is_replaced_not_added_to(tmp_path: Path) -> None:
    folder = project(tmp_path, '[tool.manylambda]\nextras = ["a", "b"]')
    assert load(folder, {}, FLAGS).extras == ("a", "b")
    assert load(folder, {"MANYLAMBDA_EXTRAS": "c"}, FLAGS).extras == ("c",)
    assert load(folder, {"MANYLAMBDA_EXTRAS": "c"}, {**FLAGS, "extras": []}).extras == ()


def test_paths_of_the_file_belong_to_the_project_and_all_others_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        'output = "out"\nlock = "a.toml"\nrequirements = ["r.txt", "-"]\nlayers = ["../l.zip"]\nlock-output = "p.toml"'
    )
    folder = project(tmp_path / "api", text, own=True)
    monkeypatch.chdir(tmp_path)
    read = load(folder, {}, FLAGS)
    assert (read.output, read.lock, read.lock_output) == (folder / "out", folder / "a.toml", folder / "p.toml")
    assert (read.requirements, read.layers) == ((folder / "r.txt", Path("-")), (tmp_path / "l.zip",))
    assert read.files.output == folder / "out"
    environment = {"MANYLAMBDA_LAYERS": "one two.zip, l.zip", "MANYLAMBDA_OUTPUT": "env"}
    read = load(folder, environment, {**FLAGS, "lock": "b.toml", "requirements": [Path("q.txt"), "-"]})
    assert (read.output, read.lock) == (tmp_path / "env", tmp_path / "b.toml")
    assert read.layers == (tmp_path / "one two.zip", tmp_path / "l.zip")
    assert read.requirements == (tmp_path / "q.txt", Path("-"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["src"]', [SourceFolder(path=Path("src"))]),
        ('{ src = "", "../shared" = "lib/x/" }',
         [SourceFolder(path=Path("src")), SourceFolder(path=Path("../shared"), to="lib/x")]),
        ('["src", { from = "a", to = "./b" }, { from = "." }]',
         [SourceFolder(path=Path("src")), SourceFolder(path=Path("a"), to="b"), SourceFolder(path=Path())]),
        ("[]", []),
    ],
)  # fmt: skip
def test_source_folders_are_a_list_or_a_table(tmp_path: Path, value: str, expected: list[SourceFolder]) -> None:
    assert settings_of(tmp_path, f"files.sources = {value}").files.sources == tuple(expected)


def test_source_folders_of_flags_and_environment_are_made_relative_to_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path / "api")
    monkeypatch.chdir(tmp_path)
    expected = (SourceFolder(path=Path("src")), SourceFolder(path=Path("../shared"), to="common"))
    read = load(folder, {"MANYLAMBDA_FILES_SOURCES": "api/src, shared=common"}, FLAGS)
    assert read.files.sources == expected
    read = load(folder, {}, {**FLAGS, "files_sources": ["api/src", "shared=common"]})
    assert read.files.sources == expected


def test_the_file_rules_are_what_the_sources_room_takes(tmp_path: Path) -> None:
    text = 'name = "x"\npackage = true\n[files]\ninclude = ["a,b", "**"]\nexclude = ["c"]\nexecutable = ["bin/*"]'
    assert settings_of(tmp_path, text).files == FileRules(
        include=("a,b", "**"),
        exclude=("c",),
        executable=("bin/*",),
        is_package=True,
        output=tmp_path / "dist",
        name="x",
    )


def test_the_resolver_is_told_what_concerns_it(tmp_path: Path) -> None:
    text = 'extras = ["A_b"]\ngroups = ["g"]\nallow-sdist = ["all"]\nallow-linux-wheels = true\noffline = true'
    options = settings_of(tmp_path, text).resolve_options({"HOME": "x"})
    assert (options.extras, options.groups, options.allow_sdists) == (
        frozenset({"a-b"}),
        frozenset({"g"}),
        frozenset({"all"}),
    )
    assert (options.allow_linux_wheels, options.offline, options.environment) == (True, True, {"HOME": "x"})


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
@pytest.mark.parametrize("other", ["0", "False", "no", "off"])
def test_a_switch_of_the_environment_has_many_spellings(tmp_path: Path, text: str, other: str) -> None:
    environment = {"MANYLAMBDA_OFFLINE": text, "MANYLAMBDA_AUDIT": other, "MANYLAMBDA_PACKAGE": text}
    read = load(tmp_path, environment, FLAGS)
    assert (read.offline, read.audit, read.package) == (True, False, True)


def test_a_list_of_the_environment_is_split_at_commas_and_spaces(tmp_path: Path) -> None:
    environment = {
        "MANYLAMBDA_TARGETS": "python3.13-arm64, python3.12-x86_64 python3.13-arm64",
        "MANYLAMBDA_JOBS": " 3 ",
    }
    read = load(tmp_path, environment, {})
    assert (read.targets, read.jobs) == ((ARM, X86), 3)


def test_targets_of_flags_may_be_values(tmp_path: Path) -> None:
    assert load(tmp_path, {}, {"targets": [ARM, "python3.12-x86_64"]}).targets == (ARM, X86)


def test_variables_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, {"MANYLAMBDA_CACHE_DIR": "x", "MANYLAMBDA_OF_MY_SCRIPT": "x", "TARGETS": "x"}, FLAGS)


def test_a_file_without_our_table_has_no_settings(tmp_path: Path) -> None:
    assert load(project(tmp_path, "[tool.ruff]\nline-length = 3"), {}, FLAGS).file is None


# What does not count, and why


def test_what_is_ignored_is_a_rule_what_it_is_about_and_a_reason(tmp_path: Path) -> None:
    text = """
    [audit]
    ignore = [
      "executable-stack",
      "library-missing:lightgbm",
      { rule = "wrong-machine", match = "*/tools/*", reason = "never run" },
    ]
    fail-on = "warning"
    """
    read = settings_of(tmp_path, text)
    assert read.ignore == (
        Ignore("executable-stack"),
        Ignore("library-missing", "lightgbm"),
        Ignore("wrong-machine", "*/tools/*", "never run"),
    )
    assert (read.audit, read.fail_on) == (True, "warning")
    read = load(tmp_path, {"MANYLAMBDA_AUDIT_IGNORE": "secret-file:a b/*, zip-too-large"}, FLAGS)
    assert read.ignore == (Ignore("secret-file", "a b/*"), Ignore("zip-too-large"))
    read = load(tmp_path, {"MANYLAMBDA_AUDIT": "0"}, {**FLAGS, "ignore": [Ignore("secret-file", "x", "y")]})
    assert (read.audit, read.ignore) == (False, (Ignore("secret-file", "x", "y"),))


def test_a_rule_that_resembles_none_gets_the_list(tmp_path: Path) -> None:
    message, hint = wrong(tmp_path, flags={**FLAGS, "ignore": ["zzz"]})
    assert message == "`--ignore`: `zzz` is not a rule"
    assert hint == "the rules are " + ", ".join(f"`{name}`" for name in sorted(rule.name for rule in rules.ALL))


def test_the_former_name_of_a_setting_is_still_read(tmp_path: Path) -> None:
    assert settings_of(tmp_path, 'fail-on = "warning"').fail_on == "warning"
    environment = {"MANYLAMBDA_FAIL_ON": "error"}
    assert load(tmp_path, environment, FLAGS).fail_on == "error"
    assert wrong(tmp_path, environment={**environment, "MANYLAMBDA_AUDIT_FAIL_ON": "error"}) == (
        "`MANYLAMBDA_FAIL_ON` is the same as `MANYLAMBDA_AUDIT_FAIL_ON`, and both are given",
        "keep the latter",
    )


# What an audit of a finished package is told


def test_an_audit_is_told_what_the_project_says_and_flags_win(tmp_path: Path) -> None:
    text = """
    targets = ["python3.12-x86_64"]
    handler = "app.run"
    layers = ["l.zip"]
    audit = { fail-on = "warning", ignore = ["secret-file"] }
    """
    folder = project(tmp_path, text, own=True)
    assert load_audit(folder, {}, {}) == AuditSettings(
        target=X86,
        layers=(folder / "l.zip",),
        handler="app.run",
        ignore=(Ignore("secret-file"),),
        fail_on="warning",
        offline=False,
        file=folder / "manylambda.toml",
    )
    read = load_audit(folder, {}, {"targets": ["python3.13-arm64"], "handler": "app.other", "ignore": []})
    assert (read.target, read.handler, read.ignore) == (ARM, "app.other", ())
    flags = {"targets": ["python3.13-arm64"]}
    assert load_audit(None, {"MANYLAMBDA_HANDLER": "x.y"}, flags) == AuditSettings(
        target=ARM, layers=(), handler=None, ignore=(), fail_on="error", offline=False, file=None
    )


def test_an_audit_is_for_one_target(tmp_path: Path) -> None:
    project(tmp_path, 'targets = ["python3.12-x86_64", "python3.13-arm64"]', own=True)
    with pytest.raises(RequestError) as caught:
        load_audit(tmp_path, {}, {})
    assert (caught.value.message, caught.value.hint) == (
        "a package is audited for one target, not for `python3.12-x86_64`, `python3.13-arm64`",
        "name it: `-t python3.12-x86_64`",
    )
    with pytest.raises(RequestError) as caught:
        load_audit(None, {}, {})
    assert caught.value.message == "no target is given"


# What is wrong, with its exact words


MISTAKES: list[tuple[str, str, str, str | None]] = [
    ('tragets = []', "tragets", "is not a setting", "did you mean `targets`?"),
    ('exclude_provided = true', "exclude_provided", "is not a setting",
     "did you mean `exclude-provided`?"),
    ('exclude = ["x"]', "exclude", "is not a setting",
     "`exclude-distributions` leaves out distributions, `files.exclude` leaves out files"),
    ('files.inclde = []', "files.inclde", "is not a setting", "did you mean `files.include`?"),
    ('files = []', "files", "must be a table, not a list", None),
    ('audit = "yes"', "audit", "must be true, false or a table, not text: `yes`", None),
    ('audit.ignroe = []', "audit.ignroe", "is not a setting", "did you mean `audit.ignore`?"),
    ('audit.fail-on = "note"', "audit.fail-on", "must be one of `error`, `warning`, not `note`", None),
    ('fail-on = "error"\naudit.fail-on = "error"', "fail-on",
     "is the same as `audit.fail-on`, and both are given", "keep the latter"),
    ('audit.ignore = "secret-file"', "audit.ignore", "must be a list, not text: `secret-file`",
     'write it as `["secret-file"]`'),
    ('audit.ignore = ["libary-missing:lightgbm"]',
     "audit.ignore[0]", ": `libary-missing` is not a rule", "did you mean `library-missing`?"),
    ('audit.ignore = ["secret-file:"]', "audit.ignore[0]", " (`match`) is empty", None),
    ('audit.ignore = [{ rule = "secret-file", reason = 3 }]',
     "audit.ignore[0]", " (`reason`) must be text, not a number: `3`", None),
    ('audit.ignore = [{ match = "x" }]',
     "audit.ignore[0]", "must be a rule, or a table of `rule`, `match` and `reason`",
     'such as `{ rule = "library-missing", match = "lightgbm", reason = "we add libgomp" }`'),
    ('targets = "python3.13-arm64"',
     "targets", "must be a list, not text: `python3.13-arm64`",
     'write it as `["python3.13-arm64"]`'),
    ('targets = ["python3.13-arm64", 3]', "targets[1]", "must be text, not a number: `3`", None),
    ('extras = [""]', "extras[0]", "is empty", None),
    ('extras = ["a", true]', "extras[1]", "must be text, not true", None),
    ('groups = ["a b"]', "groups[0]", "is not a name: `a b`", None),
    ('kind = "tar"', "kind", "must be one of `zip`, `layer`, `dir`, `image`, not `tar`", None),
    ('kind = 1.5', "kind", "must be one of `zip`, `layer`, `dir`, `image`, not a number: `1.5`", None),
    ('image.environment = ["A=1"]',
     "image.environment", "must be a table of text, not a list",
     'as a flag and a variable it is `KEY=VALUE`; in a file `{ LOG_LEVEL = "info" }`'),
    ('image.environment = { A = 1 }', "image.environment.A", "must be text, not a number: `1`", None),
    ('image.labels = { "a=b" = "c" }', "image.labels.a=b", "is no name of a variable or label: `a=b`", None),
    ('image.output = "dist/image"',
     "image.output", "is no place for an image: `dist/image`", "write `oci:`, `docker:` or `registry:` before"),
    ('output = 2026-11-22', "output", "must be text, not a date or time", None),
    ('output = {}', "output", "must be text, not a table", None),
    ('scripts = "yes"', "scripts", "must be true or false, not text: `yes`", None),
    ('package = "no"', "package", "must be `auto`, true or false, not text: `no`", None),
    ('jobs = true', "jobs", "must be a number, not true", None),
    ('jobs = 0', "jobs", "must be at least 1: `0`", None),
    ('name = "a/b"', "name", "must be letters, digits, `.`, `_` and `-`: `a/b`", None),
    ('handler = "app"', "handler", "is not a handler: `app`", "write it as `module.function`"),
    ('files.sources = 3', "files.sources", "must be a list, not a number: `3`", None),
    ('files.sources = [{ to = "x" }]',
     "files.sources[0]", "must be a path, or a table of `from` and `to`",
     'such as `{ from = "src", to = "" }`'),
    ('files.sources = [{ from = "x", to = 1 }]',
     "files.sources[0]", "must lead to text, not a number: `1`", None),
    ('files.sources = { src = "../up" }',
     "files.sources.src", "leads out of the package: `../up`",
     "name a folder in the package, or nothing for its root"),
    ('files.sources = { src = "C:\\\\x" }',
     "files.sources.src", "leads out of the package: `C:\\x`",
     "name a folder in the package, or nothing for its root"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "fact", "hint"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_in_the_file_names_the_key_the_file_and_the_fact(
    tmp_path: Path, text: str, key: str, fact: str, hint: str | None
) -> None:
    message = f"`tool.manylambda.{key}` in `pyproject.toml`{'' if fact.startswith((':', ' ')) else ' '}{fact}"
    assert wrong(tmp_path, f"[tool.manylambda]\n{text}") == (message, hint)


def test_a_mistake_in_the_own_file_names_it(tmp_path: Path) -> None:
    assert wrong(tmp_path, "files.include = [1]", own=True) == (
        "`files.include[0]` in `manylambda.toml` must be text, not a number: `1`",
        None,
    )


def test_an_unknown_key_that_resembles_nothing_gets_the_list(tmp_path: Path) -> None:
    message, hint = wrong(tmp_path, "zzz = 1", own=True)
    assert message == "`zzz` in `manylambda.toml` is not a setting"
    assert hint == "the settings are " + ", ".join(f"`{field.key}`" for field in FIELDS)


def test_a_wrong_target_is_explained_by_the_targets_room(tmp_path: Path) -> None:
    message, hint = wrong(tmp_path, '[tool.manylambda]\ntargets = ["python3.13-arm64", "python3.13-aarch64"]')
    fact = "`aarch64` is not an architecture of Lambda: `python3.13-aarch64`"
    assert message == f"`tool.manylambda.targets[1]` in `pyproject.toml`: {fact}"
    assert hint is not None
    assert "python3.13-arm64" in hint
    assert wrong(tmp_path / "x", flags={"targets": ["nope"]})[0] == "`--target`: `nope` is not a target"


@pytest.mark.parametrize(
    ("environment", "message", "hint"),
    [
        ({"MANYLAMBDA_TARGET": "x"}, "`MANYLAMBDA_TARGET` is not a setting", "did you mean `MANYLAMBDA_TARGETS`?"),
        ({"MANYLAMBDA_AUDIT": "maybe"}, "`MANYLAMBDA_AUDIT` must be true or false, not text: `maybe`", None),
        ({"MANYLAMBDA_JOBS": "two"}, "`MANYLAMBDA_JOBS` must be a number, not text: `two`", None),
        ({"MANYLAMBDA_JOBS": "-2"}, "`MANYLAMBDA_JOBS` must be a number, not text: `-2`", None),
        (
            {"MANYLAMBDA_KIND": "tar"},
            "`MANYLAMBDA_KIND` must be one of `zip`, `layer`, `dir`, `image`, not `tar`",
            None,
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    tmp_path: Path, environment: dict[str, str], message: str, hint: str | None
) -> None:
    assert wrong(tmp_path, environment=environment) == (message, hint)


def test_a_mistake_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    assert wrong(tmp_path, flags={**FLAGS, "name": "a b"}) == (
        "`--name` must be letters, digits, `.`, `_` and `-`: `a b`",
        None,
    )
    assert wrong(tmp_path, flags={**FLAGS, "jobs": "0"}) == ("`--jobs` must be at least 1: `0`", None)
    assert wrong(tmp_path, flags={"target": ["x"]}) == ("`target` is not a setting", "did you mean `targets`?")


def test_all_mistakes_are_told_at_once_even_those_a_flag_overrides(tmp_path: Path) -> None:
    message, hint = wrong(
        tmp_path,
        '[tool.manylambda]\nkind = "tar"\ntragets = []\nfiles.exclude = [1]',
        environment={"MANYLAMBDA_JOBS": "x"},
        flags={"kind": "zip"},
    )
    assert message == (
        "4 settings are wrong: "
        "`tool.manylambda.kind` in `pyproject.toml` must be one of `zip`, `layer`, `dir`, `image`, not `tar`; "
        "`tool.manylambda.tragets` in `pyproject.toml` is not a setting; "
        "`tool.manylambda.files.exclude[0]` in `pyproject.toml` must be text, not a number: `1`; "
        "`MANYLAMBDA_JOBS` must be a number, not text: `x`"
    )
    assert hint == "did you mean `targets`?"


def test_a_table_that_is_no_table_is_named(tmp_path: Path) -> None:
    assert wrong(tmp_path, "[tool]\nmanylambda = 3")[0] == (
        "`tool.manylambda` in `pyproject.toml` must be a table, not a number: `3`"
    )


def test_settings_in_two_files_are_refused(tmp_path: Path) -> None:
    project(tmp_path, "[tool.manylambda]")
    assert wrong(tmp_path, "", own=True) == (
        "`manylambda.toml` and `tool.manylambda` in `pyproject.toml` both have settings",
        "keep one of them",
    )


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"a = ", "is not valid TOML: invalid value (at end of document)"),
        (b"a = '\xff'", "is not UTF-8: invalid start byte at byte 5"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(tmp_path: Path, data: bytes, fact: str) -> None:
    (tmp_path / "pyproject.toml").write_bytes(data)
    assert wrong(tmp_path)[0] == f"`{tmp_path / 'pyproject.toml'}` {fact}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "manylambda.toml").mkdir()
    message, _ = wrong(tmp_path)
    assert message.startswith(f"cannot read `{tmp_path / 'manylambda.toml'}`: ")


# Whether the project is a package


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[build-system]\n[project]", True),
        ('[build-system]\n[tool.poetry]\nname = "x"', True),
        ("[project]\n[tool.uv]\npackage = true", True),
        ("[project]", False),
        ("[build-system]", False),
        ("[build-system]\n[tool.poetry]\npackages = []", False),
        ("[build-system]\n[project]\n[tool.uv]\npackage = false", False),
        ("[build-system]\n[project]\n[tool.poetry]\npackage-mode = false", False),
        ('[build-system]\n[tool.poetry]\nname = "x"\npackage-mode = false', False),
        ("", False),
    ],
)
def test_a_project_is_a_package_when_it_says_so(tmp_path: Path, text: str, expected: bool) -> None:
    project(tmp_path, text)
    assert is_package(tmp_path) is expected
    read = load(tmp_path, {}, FLAGS)
    assert (read.package, read.files.is_package) == (expected, expected)
    read = load(tmp_path, {}, {**FLAGS, "package": not expected})
    assert (read.package, read.files.is_package) == (not expected, not expected)


def test_a_folder_without_a_pyproject_is_no_package(tmp_path: Path) -> None:
    assert not is_package(tmp_path)


# The table, and what derives from it


def test_keys_flags_variables_and_attributes_are_unique_and_every_attribute_is_a_setting() -> None:
    assert len({field.key for field in FIELDS}) == len({field.attribute for field in FIELDS}) == len(FIELDS)
    assert len({field.variable for field in FIELDS}) == len(FIELDS)
    of_settings = {one.name for one in fields(Settings)} - {"project", "file", "files"}
    of_rules = {f"files_{one.name}" for one in fields(FileRules)} - {
        *("files_is_package", "files_output", "files_artifacts", "files_name")
    }
    assert {field.attribute for field in FIELDS} == of_settings | of_rules


@pytest.mark.parametrize("field", FIELDS, ids=[field.key for field in FIELDS])
def test_the_example_of_a_field_is_accepted_by_the_schema_and_changes_the_settings(
    tmp_path: Path, field: Field
) -> None:
    text = f"{field.key} = {field.example}"
    jsonschema.validate(tomllib.loads(text), json.loads(SCHEMA.read_bytes()))
    folder = project(tmp_path / "x")
    before = load(folder, {}, FLAGS)
    (folder / "manylambda.toml").write_text(text, encoding="utf-8")
    after = load(folder, {}, {} if field.key == "targets" else FLAGS)
    owner, attribute = (after, field.attribute) if hasattr(after, field.attribute) else (after.files, field.key[6:])
    other = before if owner is after else before.files
    changed = getattr(owner, attribute) != getattr(other, attribute)
    assert changed or field.key == "package"  # its example is what `auto` comes to here


@pytest.mark.parametrize("field", FIELDS, ids=[field.key for field in FIELDS])
def test_the_environment_and_a_flag_say_the_same_as_the_file(
    tmp_path: Path, field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value = tomllib.loads(f"x = {field.example}")["x"]
    items = [_as_flag(item) for item in value] if isinstance(value, list) else None
    if field.shape is Shape.TABLES:
        items = [f"{name}:{key}={one}" for name, table in value.items() for key, one in table.items()]
    if field.shape is Shape.PAIRS:
        items = [f"{key}={one}" for key, one in value.items()]
    text = ",".join(items) if items else str(value)
    flags = {key: one for key, one in FLAGS.items() if key != field.attribute}
    by_variable = load(tmp_path, {field.variable: text}, flags)
    by_flag = load(tmp_path, {}, {**flags, field.attribute: items or value})
    (tmp_path / "manylambda.toml").write_text(f"{field.key} = {field.example}", encoding="utf-8")
    by_file = load(tmp_path, {}, flags)
    for one in (by_variable, by_flag):
        for attribute in (item.name for item in fields(Settings) if item.name != "file"):
            expected = getattr(by_file, attribute)
            if attribute == "ignore":  # a reason is only for the file
                expected = tuple(ignore._replace(reason=None) for ignore in expected)
            assert getattr(one, attribute) == expected


def _as_flag(item: Any) -> str:
    match item:
        case {"from": start, "to": to}:
            return f"{start}={to}"
        case {"rule": rule, "match": match}:
            return f"{rule}:{match}"
        case _:
            return str(item)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_bytes()))


def test_every_example_of_the_page_is_accepted(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == len(FIELDS) + 2
    for number, text in enumerate(examples):
        read = load(project(tmp_path / str(number), text), {}, FLAGS)
        assert read.file == tmp_path / str(number) / "pyproject.toml"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "zip", "auto", "python3.13-arm64", "x.y", "../x"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["from", "to", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_what_is_read_is_what_the_schema_allows(field: Field, value: Any) -> None:
    table: dict[str, Any] = {}
    owner, _, key = field.key.rpartition(".")
    (table.setdefault(owner, {}) if owner else table)[key] = value
    is_valid = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).is_valid(table)
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name), tomlkit.dumps(table), own=True)
        try:
            load(folder, {}, {} if field.key == "targets" and value else FLAGS)
        except RequestError:
            # The schema cannot say what only the value shows: a folder out of the package, a name, a handler, a rule.
            assert not is_valid or field.shape in {
                Shape.SOURCES,
                Shape.TEXT,
                Shape.IMAGE,
                Shape.TARGETS,
                Shape.IGNORES,
                Shape.REQUIREMENTS,
                Shape.TABLES,
            }
        else:
            assert is_valid


def test_importing_the_settings_costs_little() -> None:
    script = "import sys, manylambda.config; print(*[n for n in sys.modules if n.split('.')[0] in sys.argv[1:]])"
    heavy = ["packaging", "tomllib", "urllib3", "elftools", "rich", "difflib", "argparse", "subprocess"]
    done = subprocess.run([sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
