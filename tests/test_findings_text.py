"""How findings read: exact text of whole reports."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from manylambda.audits import Finding, Ignore, Ignored, Report, Severity, stale
from manylambda.render import text
from manylambda.render.findings import Look

INSTALL = "install the wheels for the target: `manylambda build -t python3.13-arm64` does"
VERSIONS = {"numpy": "2.4.6", "lightgbm": "4.6.0"}


def foreign(path: str, distribution: str | None = "numpy") -> Finding:
    message = "is for x86_64, the target is aarch64"
    return Finding("wrong-machine", Severity.ERROR, message, path, distribution, INSTALL)


def report(*findings: Finding, ignored: tuple[Ignored, ...] = ()) -> Report:
    order = list(Severity)
    findings = tuple(sorted(findings, key=lambda one: (order.index(one.severity), one.distribution or "")))
    return Report("python3.13-arm64", findings, 20, 25, 1 << 20, ignored, VERSIONS)


def test_a_grouped_report_reads_so() -> None:
    shown = text.audit(
        report(
            Finding("runtime-preview", Severity.NOTE, "the runtime is a preview", hint="use a supported one"),
            *(foreign(f"numpy/_m{number:02}.so") for number in range(20)),
            Finding("distribution-missing", Severity.ERROR, "needs `absent>=2`, which is not in the package",
                    "numpy-2.4.6.dist-info", "numpy", "add it to the requirements"),
            foreign("own.so", None),
            Finding("secret-file", Severity.WARNING, "looks like credentials", ".env", None, "exclude it"),
            ignored=(
                Ignored(
                    Finding("library-missing", Severity.ERROR, "needs `libgomp.so.1`", "lightgbm/lib.so", "lightgbm"),
                    Ignore("library-missing", "lightgbm", "we add libgomp in a layer"),
                ),
                Ignored(Finding("executable-stack", Severity.WARNING, "asks", "own.so"), Ignore("executable-stack")),
            ),
        )
    )  # fmt: skip
    assert (
        shown
        == """\
error[wrong-machine] project: own.so is for x86_64, the target is aarch64
  hint: install the wheels for the target: `manylambda build -t python3.13-arm64` does
warning[secret-file] project: .env looks like credentials
  hint: exclude it
note[runtime-preview]: the runtime is a preview
  hint: use a supported one
error[distribution-missing] numpy 2.4.6 needs `absent>=2`, which is not in the package
  hint: add it to the requirements
error[wrong-machine] numpy 2.4.6: 20 files are for x86_64, the target is aarch64
  numpy/_m00.so
  numpy/_m01.so
  numpy/_m02.so
  and 17 more, shown with -v

ignored: 2 findings: library-missing in lightgbm (we add libgomp in a layer), executable-stack in own.so
more: manylambda explain wrong-machine (or distribution-missing, secret-file, runtime-preview)
python3.13-arm64: will not load as it is: 22 errors, 1 warning, 1 note in 25 files, 20 shared objects, 1.0 MiB unzipped"""  # noqa: E501
    )


def test_all_paths_and_hints_are_told_with_v() -> None:
    found = [foreign(f"numpy/_m{number:02}.so") for number in range(20)]
    lines = text.audit(report(*found, foreign("own.so", None)), Look(verbose=True)).splitlines()
    assert [line for line in lines if line.startswith("  numpy/")] == [f"  numpy/_m{n:02}.so" for n in range(20)]
    assert lines.count(f"  hint: {INSTALL}") == 2


def test_different_things_one_rule_says_of_one_distribution_are_one_block() -> None:
    def needs(path: str, what: str) -> Finding:
        return Finding("glibc-too-new", Severity.ERROR, f"needs `{what}`", path, "numpy", "choose an older release")

    found = [needs("a.so", "GLIBC_2.38"), needs("b.so", "GLIBC_2.38"), needs("c.so", "GLIBC_2.36")]
    assert (
        text.audit(report(*found)).split("\n\n")[0]
        == """\
error[glibc-too-new] numpy 2.4.6: 3 findings
  a.so and 1 more need `GLIBC_2.38`
  c.so needs `GLIBC_2.36`
  hint: choose an older release"""
    )


@pytest.mark.parametrize(
    ("message", "several"),
    [
        ("is bytecode of Python 3.9", "2 files are bytecode of Python 3.9"),
        ("has mode 0600", "2 files have mode 0600"),
        ("asks for an executable stack", "2 files ask for an executable stack"),
        ("cannot be loaded: the file is empty", "2 files cannot be loaded: the file is empty"),
        ("clashes with another", "2 files clash with another"),
        ("the handler is not there", "the handler is not there"),
        ("this is no sentence of a file", "this is no sentence of a file"),
    ],
)
def test_a_sentence_about_several_files_is_in_the_plural(message: str, several: str) -> None:
    found = [Finding("some-rule", Severity.NOTE, message, path) for path in ("a", "b")]
    assert text.audit(report(*found)).splitlines()[:3] == [f"note[some-rule] project: {several}", "  a", "  b"]


def test_a_package_with_hundreds_of_findings_fits_a_screen() -> None:
    found = [foreign(f"d{one:02}/_m{two}.so", f"d{one:02}") for one in range(60) for two in range(8)]
    found += [Finding("pure-fallback", Severity.NOTE, "is pure", None, f"d{one:02}") for one in range(60)]
    shown = text.audit(report(*found)).splitlines()
    assert len(shown) <= 44
    assert shown[:7] == [
        "error[wrong-machine] d00: 8 files are for x86_64, the target is aarch64",
        "  d00/_m0.so",
        "  d00/_m1.so",
        "  d00/_m2.so",
        "  and 5 more, shown with -v",
        f"  hint: {INSTALL}",
        "error[wrong-machine] d01: 8 files are for x86_64, the target is aarch64",
    ]
    assert shown[38] == "error[wrong-machine] d33: 8 files are for x86_64, the target is aarch64"
    assert shown[39] == "and 268 more findings about 60 distributions, shown with -v: 208 errors, 60 notes"
    assert shown[-1].startswith("python3.13-arm64: will not load as it is: 480 errors, 0 warnings, 60 notes in ")
    assert len(text.audit(report(*found), Look(verbose=True)).splitlines()) > 600


def test_what_repeats_a_rule_is_one_line_when_not_all_fits() -> None:
    found = [foreign(f"d{one}/_m{two}.so", f"d{one}") for one in range(9) for two in range(4)]
    assert text.audit(report(*found)).splitlines()[:-3] == [
        "error[wrong-machine] d0: 4 files are for x86_64, the target is aarch64",
        "  d0/_m0.so",
        "  d0/_m1.so",
        "  d0/_m2.so",
        "  and 1 more, shown with -v",
        f"  hint: {INSTALL}",
        *(f"error[wrong-machine] d{one}: 4 files are for x86_64, the target is aarch64" for one in range(1, 9)),
        "all paths and hints are shown with -v",
    ]


def test_colours_touch_words_and_never_change_them() -> None:
    found = report(
        foreign("own.so", None),
        foreign("a.so"),
        Finding("secret-file", Severity.WARNING, "looks like credentials", ".env"),
        Finding("runtime-preview", Severity.NOTE, "the runtime is a preview", hint="use a supported one"),
    )
    painted = text.audit(found, Look(color=True))
    assert re.sub("\033\\[[0-9;]*m", "", painted) == text.audit(found)
    assert painted.startswith("\033[1;31merror[wrong-machine]\033[0m \033[1mproject\033[0m: own.so is for ")
    assert "\033[1;35mwarning[secret-file]\033[0m " in painted
    assert "\033[1;34mnote[runtime-preview]\033[0m: the runtime" in painted
    assert painted.splitlines()[-1].startswith("python3.13-arm64: \033[1;31mwill not load as it is\033[0m: 2 errors")
    assert "\033[32mnothing found that keeps it from loading\033[0m" in text.audit(report(), Look(color=True))


def test_lines_are_wrapped_on_a_terminal_and_not_in_a_pipe() -> None:
    found = report(foreign("numpy/core/a.so"), foreign("a/very/long/path/" * 6 + "x.so", None))
    lines = text.audit(found, Look(width=60)).splitlines()
    assert all(len(line) <= 60 or "a/very/long/path/" in line for line in lines)
    assert "  hint: install the wheels for the target: `manylambda build" in lines
    assert "        -t python3.13-arm64` does" in lines
    assert " ".join(" ".join(lines).split()) == " ".join(text.audit(found).split())


def test_the_name_of_a_distribution_cannot_give_orders_to_the_terminal() -> None:
    found = Finding("distribution-missing", Severity.ERROR, "needs", None, "de\x1b[2Jmo", "leave \x1b[2J out")
    by = Ignored(found._replace(message="other"), Ignore("distribution-missing", "*", "known"))
    given = report(found, ignored=(by,))
    shown = text.audit(given.__class__(**{**given._asdict(), "versions": {"de\x1b[2Jmo": "1\x9b2J"}}))
    assert shown.startswith(r"error[distribution-missing] de\x1b[2Jmo 1\x9b2J needs")
    assert r"hint: leave \x1b[2J out" in shown
    assert r"distribution-missing in de\x1b[2Jmo (known)" in shown
    assert "\x1b" not in shown + text.audit(given, Look(verbose=True))


def test_names_cannot_give_orders_to_the_terminal() -> None:
    found = Finding("wrong-machine", Severity.ERROR, "is for \x1b[2Jx", "a\x1b]0;owned\x07\u202e.so\n")
    first = text.audit(report(found)).splitlines()[0]
    assert first == r"error[wrong-machine] project: a\x1b]0;owned\x07\u202e.so\n is for \x1b[2Jx"


@dataclass(frozen=True)
class Case:
    glob: str | None
    path: str | None
    distribution: str | None
    covered: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(None, None, None, True),
        Case("lightgbm", "lightgbm/lib.so", "lightgbm", True),
        Case("Scikit_Learn", "x.so", "scikit-learn", True),
        Case("scikit-*", "x.so", "scikit-learn", True),
        Case("lightgbm", "lightgbm/lib.so", None, False),
        Case("lightgbm/*", "lightgbm/a/b.so", "other", True),
        Case("Lib/*", "lib/x.so", None, False),
        Case("/opt/*", "/opt/python/x.so", None, True),
        Case("project", "x.so", None, True),
        Case("project", "x.so", "numpy", False),
    ],
    ids=str,
)
def test_what_is_ignored_is_said_by_a_path_or_a_distribution(case: Case) -> None:
    finding = Finding("library-missing", Severity.ERROR, "x", case.path, case.distribution)
    assert Ignore("library-missing", case.glob).covers(finding) is case.covered
    assert not Ignore("wrong-machine", case.glob).covers(finding)


def test_what_ignores_nothing_anywhere_is_stale() -> None:
    one, two, three = Ignore("wrong-machine", "own.so"), Ignore("wrong-machine"), Ignore("wrong-machine", "gone")
    reports = [report(), report(ignored=(Ignored(foreign("own.so", None), two),))]
    assert stale([one, two, three], reports) == (three,)
