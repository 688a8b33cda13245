# ruff: noqa: E501 - text is as it is printed
"""How a trial reads: exact text, a document as its schema says, a page that is sound and safe."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import jsonschema
import pytest

from browser import trials
from browser.test_page import read
from browser.trials import MISSING, TRACEBACK, imported, not_imported, reason
from manylambda.pipeline.trial import TrialResult
from manylambda.render import import_times, trial, trial_page
from manylambda.render.findings import Look
from manylambda.trial.model import Failure, ImportTime, Invocation, Outcome
from manylambda.trial.profile import Profile
from product import schemas

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = [trials.good, trials.broken, trials.hostile]

HEAD = """\
tried in rootfs: Debian 13 under qemu-aarch64 10.0.6
  a pass proves: every module loads with CPython 3.13 on aarch64
  it leaves open: the C library is Debian's 2.41, newer than the runtime's: only the audit judges glibc
"""

TREE = ImportTime(
    "app",
    0.010,
    0.100,
    (
        ImportTime("small", 0.004, 0.004, ()),
        ImportTime("big", 0.016, 0.086, (ImportTime("big.one", 0.05, 0.05, ()), ImportTime("big.two", 0.02, 0.02, ()))),
    ),
)


def without_profile(result: TrialResult) -> TrialResult:
    return result._replace(profile=None)


def test_a_trial_that_passed_reads_so() -> None:
    assert (
        trial.text(without_profile(trials.good()))
        == HEAD
        + """
imported: 4 modules in 390 ms; slowest: requests 210 ms, numpy 148 ms, yaml 30 ms

python3.13-arm64: 4 modules imported (rootfs, Debian 13 under qemu-aarch64 10.0.6)"""
    )


def test_a_trial_that_failed_reads_so() -> None:
    assert (
        trial.text(without_profile(trials.broken()))
        == HEAD
        + """
failed: cv2 (of opencv-python) after 123 ms, and likewise cv2.gapi: ImportError: libGL.so.1: cannot open shared object file: No such file or directory
    File "/var/task/cv2/__init__.py", line 181, in <module>
      bootstrap()
    File "/var/task/cv2/__init__.py", line 153, in bootstrap
      native_module = importlib.import_module("cv2")
  why: A file of the package needs the library `libGL.so.1`, which is neither in the package nor in a layer nor in the runtime.
  error[library-missing] cv2/cv2.abi3.so: needs `libGL.so.1`, which is neither in the package nor in the runtime
  hint: take `opencv-python-headless`, which needs no display
  more: manylambda explain library-missing
crashed: crash after 123 ms: SIGSEGV
  | Fatal Python error: Segmentation fault
  | Current thread 0x00007f (most recent call first):
timed out: slow after 123 ms: it was not imported within 60 s

not tried, which is no pass: 2 modules (pyarrow and lxml.etree): its native files are for aarch64, and cannot be loaded here
imported: 40 modules in 7.82 s; slowest: package39 390 ms, package38 380 ms, package37 370 ms
note: flaky failed KeyError: only after other modules: 'a'

event 1 returned {"statusCode": 200, "body": "héllo"}
  | START
  | hello
  REPORT  Duration: 12.34 ms  Init Duration: 210.00 ms  Max Memory Used: 54 MB
event 2 failed: Runtime.HandlerNotFound: Handler 'main' missing on module 'app'
  why: The module `app` was imported, but has no function `main`.
  hint: Name the function that the module has:
        aws lambda update-function-configuration --function-name FUNCTION --handler app.FUNCTION
  more: manylambda explain handler-missing
  REPORT  Duration: 2.00 ms

python3.13-arm64: 40 modules imported, 4 failed, 2 not tried, 1 event answered, 1 event failed (rootfs, Debian 13 under qemu-aarch64 10.0.6)"""
    )


def test_a_profile_reads_so() -> None:
    shown = trial.text(TrialResult(trials.trial(), {}, Profile(TREE, 0.120, 0.090)))
    assert (
        shown
        == HEAD
        + """
import time of app: 120 ms, 90 ms with bytecode in the package: it would save 30 ms
 total ms    own ms  module
    100.0      10.0  app
     86.0      16.0    big
     50.0      50.0      big.one
     20.0      20.0      big.two
      4.0       4.0    small

python3.13-arm64: nothing to try (rootfs, Debian 13 under qemu-aarch64 10.0.6)"""
    )


def test_a_profile_that_could_not_measure_bytecode_does_not_speak_of_it() -> None:
    assert "import time of app: 120 ms\n" in trial.text(TrialResult(trials.trial(), {}, Profile(TREE, 0.120, None)))


def test_verbose_tells_everything() -> None:
    result = trials.broken()
    shown = trial.text(result, Look(verbose=True))
    for line in TRACEBACK.splitlines():
        assert line.strip() in shown
    assert all(f"  package{number}\n" in shown for number in range(1, 40))
    assert "cv2 looks for GL" in shown
    assert "Then build, and see that nothing else is missing:" in shown
    assert 'event 1 {"path": "/"} returned' in shown
    assert result.profile is not None
    assert shown.count("\n") > import_times.size(result.profile.tree)
    assert "shown with -v" not in shown


def test_many_failures_fit_a_screen_and_the_rest_is_counted() -> None:
    found = [
        not_imported(f"m{number}", Outcome.FAILED, Failure("ImportError", f"no {number}", TRACEBACK), distribution="m")
        for number in range(60)
    ]
    shown = trial.text(TrialResult(trials.trial(*found), {}))
    assert shown.count("\n") < 45
    assert "\nand 54 more modules failed, shown with -v\n" in shown
    assert "60 failed (rootfs" in shown


def test_the_error_of_the_most_modules_comes_first() -> None:
    one, many = Failure("KeyError", "'a'", ""), Failure("ImportError", MISSING, "")
    found = [
        not_imported("first", Outcome.FAILED, one, distribution="first"),
        *(not_imported(f"m{number}", Outcome.FAILED, many, distribution="m") for number in range(12)),
    ]
    lines = trial.text(TrialResult(trials.trial(*found), {})).splitlines()[4:6]
    assert lines[0].startswith("failed: m0 (of m) after 123 ms, and likewise m1, m2, m3, m4, m5, m6 and 5 more: Import")
    assert lines[1] == "failed: first after 123 ms: KeyError: 'a'"


def test_of_many_events_those_that_failed_are_shown() -> None:
    good = Invocation({}, 1, None, "", 0.1, False, None, None)
    bad = good._replace(result=None, failure=Failure("ValueError", "no", ""))
    shown = trial.text(TrialResult(trials.trial(invocations=(*[good] * 8, bad, good)), {}))
    assert re.findall(r"^event (\d+) (\w+)", shown, re.MULTILINE) == [
        ("1", "returned"), ("2", "returned"), ("3", "returned"), ("9", "failed"),
    ]  # fmt: skip
    assert "\nand 6 more events, shown with -v\n" in shown
    assert shown.endswith("9 events answered, 1 event failed (rootfs, Debian 13 under qemu-aarch64 10.0.6)")


def test_a_long_log_is_cut_from_its_start() -> None:
    one = Invocation({}, "x" * 500, None, "\n".join(f"line {n}" for n in range(9)), 0.1, True, 0.1, None)
    shown = trial.text(TrialResult(trials.trial(invocations=(one,)), {}))
    assert "  | line 5\n  | line 6\n  | line 7\n  | line 8\n  | and 5 lines before, shown with -v\n" in shown
    assert max(map(len, shown.splitlines())) < 270


def test_a_reason_without_a_finding_tells_its_cure() -> None:
    found = not_imported("cv2", Outcome.FAILED, Failure("ImportError", MISSING, TRACEBACK), distribution="cv2")
    shown = trial.text(TrialResult(trials.trial(found), {"cv2": reason(TRACEBACK)}))
    assert "\n  hint: A function has no display: choose a build of the distribution without one" in shown


def test_frames_of_the_import_system_are_left_out_unless_there_are_no_others() -> None:
    assert trial.frames(Failure("ImportError", "", TRACEBACK), 1) == [
        'File "/var/task/cv2/__init__.py", line 153, in bootstrap',
        '  native_module = importlib.import_module("cv2")',
    ]
    only = 'Traceback (most recent call last):\n  File "<frozen importlib._bootstrap>", line 1, in f\nE: x\n'
    assert trial.frames(Failure("E", "x", only)) == ['File "<frozen importlib._bootstrap>", line 1, in f']
    assert trial.frames(Failure("E", "x", "")) == []


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("verbose", [False, True])
def test_no_word_of_a_module_commands_the_terminal(make: Callable[[], TrialResult], *, verbose: bool) -> None:
    shown = trial.text(make(), Look(verbose=verbose))
    assert [each for each in shown if not each.isprintable() and each != "\n"] == []
    shown.encode()


def test_color_paints_the_verdict_and_nothing_else_differs() -> None:
    for make, paint in ((trials.good, "\033[32m4 modules"), (trials.broken, "\033[1;31m40 modules")):
        painted = trial.text(make(), Look(color=True))
        assert paint in painted
        assert re.sub(r"\033\[[\d;]*m", "", painted) == trial.text(make())
    left = trials.trial(imported("a", 1), not_imported("b", Outcome.NOT_TRIED, Failure("x", "y", ""), distribution="b"))
    assert "\033[1;35m1 module imported, 1 not tried" in trial.text(TrialResult(left, {}), Look(color=True))


def test_lines_are_wrapped_for_a_terminal() -> None:
    shown = trial.text(without_profile(trials.broken()), Look(width=80))
    told = [line for line in shown.splitlines() if "    aws lambda" not in line]
    assert max(map(len, told)) <= 80


# The document.


@pytest.mark.parametrize("make", EVERY)
def test_the_document_is_as_its_schema_says(make: Callable[[], TrialResult]) -> None:
    document = json.loads(json.dumps(trial.document(make()), allow_nan=False))
    schemas.check("trial", document)
    assert document["invocation"] == (document["invocations"] or [None])[0]


def test_the_schema_would_notice() -> None:
    jsonschema.Draft202012Validator.check_schema(schemas.schema("trial"))
    document = trial.document(trials.good())
    document["imports"][0]["ok"] = "yes"
    with pytest.raises(jsonschema.ValidationError):
        schemas.check("trial", document)


def test_the_document_tells_outcome_error_and_reason() -> None:
    document = trial.document(trials.broken())
    assert (document["target"], document["engine"], document["failed"]) == ("python3.13-arm64", "rootfs", True)
    assert document["proves"] == "every module loads with CPython 3.13 on aarch64"
    by_name = {one["module"]: one for one in document["imports"]}
    cv2 = by_name["cv2"]
    assert (cv2["ok"], cv2["outcome"], cv2["error"], cv2["error_type"]) == (False, "failed", MISSING, "ImportError")
    assert cv2["reason"]["cause"].startswith("library")
    assert cv2["reason"]["findings"][0]["rule"] == "library-missing"
    assert (by_name["pyarrow"]["ok"], by_name["pyarrow"]["outcome"]) == (False, "not-tried")
    assert (by_name["flaky"]["ok"], by_name["flaky"]["alone"], by_name["flaky"]["error_type"]) == (
        True,
        True,
        "KeyError",
    )
    assert document["invocation"]["result"] == {"statusCode": 200, "body": "héllo"}
    assert document["invocations"][1]["error"] == "Handler 'main' missing on module 'app'"


def test_the_tree_is_a_list_that_can_be_put_together_again() -> None:
    document = trial.document(TrialResult(trials.trial(), {}, Profile(TREE, 0.12, 0.09)))
    listed = [(one["module"], one["parent"], one["total_seconds"]) for one in document["profile"]["modules"]]
    assert listed == [("app", None, 0.1), ("big", 0, 0.086), ("big.one", 1, 0.05), ("big.two", 1, 0.02),
                      ("small", 0, 0.004)]  # fmt: skip
    assert document["profile"]["saved"] == 0.03


def test_what_is_no_json_becomes_a_string() -> None:
    one = Invocation(None, [float("inf"), float("nan")], None, "", 0.1, True, None, None)
    assert trial.document(TrialResult(trials.trial(invocations=(one,)), {}))["invocation"]["result"] == [
        "Infinity",
        "NaN",
    ]


# The tree.


def test_the_costliest_rows_are_kept_each_with_its_parents() -> None:
    assert [(row.time.name, row.depth, row.parent, row.hidden) for row in import_times.rows(TREE, most=3)] == [
        ("app", 0, None, 1), ("big", 1, 0, 1), ("big.one", 2, 1, 0),
    ]  # fmt: skip
    assert [row.time.name for row in import_times.rows(TREE, deepest=1)] == ["app", "big", "small"]


def test_packages_count_their_own_time_alone() -> None:
    assert [(one.name, one.modules, round(one.seconds, 6)) for one in import_times.packages(TREE)] == [
        ("big", 3, 0.086), ("app", 1, 0.01), ("small", 1, 0.004),
    ]  # fmt: skip


def test_frames_lie_within_their_parents_and_are_as_wide_as_they_cost() -> None:
    picture = import_times.picture(TREE)
    boxes = {
        name: (float(x), int(y), float(width))
        for x, y, width, name in re.findall(r'x="([\d.]+)" y="(\d+)" width="([\d.]+)"[^>]*><title>([\w.]+):', picture)
    }
    assert boxes == {  # 1120 wide, a pixel between neighbours
        "app": (0.0, 0, 1119.0),
        "big": (0.0, 22, 962.2),
        "small": (963.2, 22, 43.8),
        "big.one": (0.0, 44, 559.0),
        "big.two": (560.0, 44, 223.0),
    }


def test_children_that_cost_more_than_their_parent_share_its_width() -> None:
    wrong = ImportTime("a", 0.0, 0.001, (ImportTime("b", 0.5, 0.5, ()), ImportTime("c", -0.1, -0.1, ())))
    widths = re.findall(r' width="([\d.]+)" height="21"', import_times.picture(wrong))
    assert max(map(float, widths)) <= 1120


def test_a_deep_tree_and_a_wide_one_are_shown_within_bounds() -> None:
    deep = ImportTime("end", 0.001, 0.001, ())
    for number in range(20_000):
        deep = ImportTime(f"m{number}", 0.0, 0.001, (deep,))
    wide = ImportTime("wide", 0.0, 2.0, tuple(ImportTime(f"w{number}", 0.0001, 0.0001, ()) for number in range(20_000)))
    for tree in (deep, wide):
        began = time.process_time()
        result = TrialResult(trials.trial(), {}, Profile(tree, 1.0, None))
        page = trial_page.page(result, path="app.zip")
        read(page)
        assert len(page) < 700_000
        assert trial.text(result).count("\n") < 40
        assert trial.text(result, Look(verbose=True)).count("\n") > 20_000
        json.dumps(trial.document(result))
        assert time.process_time() - began < 10


# The page.


@pytest.mark.parametrize("make", EVERY)
def test_the_page_is_sound(make: Callable[[], TrialResult]) -> None:
    page = trial_page.page(make(), path="app.zip")
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert "style" not in reader.attributes
    assert not any(name.startswith("on") for name in reader.attributes)
    assert reader.tags.isdisjoint({"img", "iframe", "object"})
    page.encode()


def test_the_same_trial_gives_the_same_bytes_wherever_the_package_lies() -> None:
    result = trials.broken()
    assert trial_page.page(result, path="/home/me/app.zip") == trial_page.page(result, path="app.zip")


@pytest.mark.parametrize(
    ("make", "said"), [(trials.good, "passed its trial for"), (trials.broken, "failed its trial for")]
)
def test_the_verdict_is_the_title(make: Callable[[], TrialResult], said: str) -> None:
    assert f"<title>app.zip {said} python3.13-arm64</title>" in trial_page.page(make(), path="app.zip")


def test_what_was_not_tried_is_no_pass() -> None:
    left = trials.trial(imported("a", 1), not_imported("b", Outcome.NOT_TRIED, Failure("x", "y", ""), distribution="b"))
    page = trial_page.page(TrialResult(left, {}), path="app.zip")
    assert "<title>app.zip was not tried in full for python3.13-arm64</title>" in page
    assert "This is no pass." in page


def test_the_page_names_every_module_and_what_mends_it() -> None:
    result = trials.broken()
    page = trial_page.page(result, path="app.zip")
    for one in result.trial.imports:
        assert f"<code>{one.module.name}</code>" in page
    assert "opencv-python-headless" in page
    assert "Duration: 12.34 ms  Init Duration: 210.00 ms  Max Memory Used: 54 MB" in page
    assert "it would save 390 ms" in page


def test_an_empty_trial_has_a_page() -> None:
    read(trial_page.page(TrialResult(trials.trial(), {}), path="app.zip"))
