"""Trials whose reports are looked at: as engines give them, and of modules that mean harm."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Final

from browser.subjects import BIDI, HOSTILE, SCRIPT
from manylambda import causes
from manylambda.audits import Finding, Severity
from manylambda.pipeline.explain import Tie
from manylambda.pipeline.trial import Reason, TrialResult
from manylambda.target import Target
from manylambda.trial.model import Failure, Imported, ImportTime, Invocation, Module, Outcome, Proof, Trial
from manylambda.trial.profile import Profile, import_time

TARGET: Final = Target.parse("python3.13-arm64")
PROOF: Final = Proof(
    "every module loads with CPython 3.13 on aarch64",
    "the C library is Debian's 2.41, newer than the runtime's: only the audit judges glibc",
)
LABEL: Final = "Debian 13 under qemu-aarch64 10.0.6"
MISSING: Final = "libGL.so.1: cannot open shared object file: No such file or directory"
TRACEBACK: Final = f"""Traceback (most recent call last):
  File "/var/task/cv2/__init__.py", line 181, in <module>
    bootstrap()
    ~~~~~~~~~^^
  File "/var/task/cv2/__init__.py", line 153, in bootstrap
    native_module = importlib.import_module("cv2")
  File "/var/lang/lib/python3.13/importlib/__init__.py", line 88, in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
           ~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ImportError: {MISSING}
"""
FINDING: Final = Finding(
    "library-missing", Severity.ERROR, "needs `libGL.so.1`, which is neither in the package nor in the runtime",
    "cv2/cv2.abi3.so", "opencv-python", "take `opencv-python-headless`, which needs no display",
)  # fmt: skip


def trial(
    *imports: Imported, invocations: tuple[Invocation, ...] = (), engine: str = "rootfs", label: str = LABEL
) -> Trial:
    return Trial(TARGET, engine, label, PROOF, imports, invocations)


def imported(name: str, seconds: float, distribution: str | None = "", *, native: bool = False) -> Imported:
    owner = name.partition(".")[0] if not distribution and distribution is not None else distribution
    return Imported(Module(name, owner, native), Outcome.OK, seconds)


def not_imported(name: str, outcome: Outcome, failure: Failure, *, distribution: str, log: str = "") -> Imported:
    return Imported(Module(name, distribution, is_native=True), outcome, 0.1234, failure, log, alone=True)


def reason(text: str, *findings: Finding) -> tuple[Reason, ...]:
    """Give what `explain` tells of a text, tied to findings."""
    found = causes.find([text], target=TARGET, package="dist/app.zip").causes
    return tuple(Reason(cause, Tie(findings, None, None, None, "")) for cause in found)


@cache
def measured(module: str) -> ImportTime:
    """Return the import-time tree that this Python gives."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", f"import {module}"], capture_output=True, check=True, text=True
    )
    return import_time(module, done.stderr.splitlines())


def good() -> TrialResult:
    tree = measured("email.mime.text")
    return TrialResult(
        trial(
            imported("app", 0.0021, None),
            imported("requests", 0.21),
            imported("numpy", 0.148, native=True),
            imported("yaml", 0.03, "pyyaml", native=True),
        )._replace(profile=tree),
        {},
        Profile(tree, 0.412, 0.271),
    )


def broken() -> TrialResult:
    """Return a trial of every outcome, with events that were answered and one that was not."""
    gone = Failure("ImportError", MISSING, TRACEBACK)
    fatal = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n"
    handler = Failure("Runtime.HandlerNotFound", "Handler 'main' missing on module 'app'", "")
    foreign = Failure("not-tried", "its native files are for aarch64, and cannot be loaded here", "")
    found = trial(
        *(imported(f"package{number}", 0.01 * number) for number in range(1, 40)),
        imported("flaky", 0.02)._replace(alone=True, failure=Failure("KeyError", "only after other modules: 'a'", "")),
        not_imported("cv2", Outcome.FAILED, gone, distribution="opencv-python", log="cv2 looks for GL\n"),
        not_imported("cv2.gapi", Outcome.FAILED, gone, distribution="opencv-python"),
        not_imported("crash", Outcome.CRASHED, Failure("signal", "SIGSEGV", ""), distribution="crash", log=fatal),
        not_imported("slow", Outcome.TIMED_OUT, Failure("timeout", "it was not imported within 60 s", ""),
                     distribution="slow"),
        not_imported("pyarrow", Outcome.NOT_TRIED, foreign, distribution="pyarrow"),
        not_imported("lxml.etree", Outcome.NOT_TRIED, foreign, distribution="lxml"),
        invocations=(
            Invocation({"path": "/"}, {"statusCode": 200, "body": "héllo"}, None, "START\nhello\n", 0.01234, True,
                       0.21, 54 << 20),
            Invocation({"path": "/missing"}, None, handler, "", 0.002, False, None, None),
        ),
    )  # fmt: skip
    reasons = {"cv2": reason(TRACEBACK, FINDING), "event 2": reason(f"[ERROR] {handler.type}: {handler.message}")}
    tree = measured("asyncio")
    return TrialResult(found._replace(profile=tree), reasons, Profile(tree, 0.81, 0.42))


def hostile() -> TrialResult:
    """Return a trial whose every word wants to become markup, or to command a terminal."""
    bad = f"\x1b]0;owned\x07\x1b[31m{HOSTILE}{BIDI}\r\x9b2J\udce9{SCRIPT}`**"
    failure = Failure(bad, f"{bad}\n{bad}" * 30, f'Traceback\n  File "{bad}"\n    {bad}\n{bad}')
    deep = ImportTime(bad, 0.001, 0.001, ())
    for number in range(3000):
        deep = ImportTime(f"m{number}{bad}", 0.0, 0.001, (deep,))
    module = Module(f"m{bad}", f"d{bad}", is_native=True)
    found = trial(
        Imported(module, Outcome.FAILED, 0.1, failure, bad, alone=True),
        Imported(module._replace(name=f"n{bad}"), Outcome.NOT_TRIED, 0.0, failure._replace(message=bad)),
        Imported(module._replace(name=f"o{bad}"), Outcome.OK, 0.1, failure, bad),
        invocations=(
            Invocation({bad: [bad]}, {bad: float("nan")}, None, bad * 9, 0.1, True, 0.2, 1),
            Invocation(bad, None, failure, bad, 0.1, False, None, None),
        ),
        label=bad,
    )._replace(proof=Proof(bad, bad))
    reasons = {module.name: reason(TRACEBACK, FINDING._replace(message=bad, path=bad, hint=bad))}
    return TrialResult(found._replace(profile=deep), reasons, Profile(deep, 0.2, None))
