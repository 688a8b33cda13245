"""Which release would run: what the package indexes have is asked once findings say that one does not.

Rules are pure and offline; this comes after them, and only puts better words into their hints. An index that cannot be
asked, or does not answer soon, changes nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.audits import Severity
from manylambda.elf import Malformed
from manylambda.errors import ManylambdaError
from manylambda.progress import SILENT
from manylambda.rules.distributions import is_of_one_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from manylambda.audits import Distribution, Finding, Report, Subject
    from manylambda.locks.index import IndexFile
    from manylambda.locks.model import Selection
    from manylambda.locks.settings import IndexSettings
    from manylambda.progress import Progress

_RULES: Final = frozenset(
    {
        "abi-tag-mismatch",
        "foreign-binary",
        "glibc-too-new",
        "musl-linked",
        "symbol-undefined",
        "symbol-version-missing",
        "wheel-tag-mismatch",
        "wrong-machine",
    }
)
_LIBRARIES: Final = frozenset({"glibc-too-new", "symbol-version-missing", "wheel-tag-mismatch"})
"""Those of them that judge by the libraries of the system."""
_MOST: Final = 10
"""Distributions asked for; a package with more of them is wrong as a whole, which the first ones tell."""
_PATIENCE: Final = {"MANYLAMBDA_HTTP_TIMEOUT": "4", "MANYLAMBDA_HTTP_RETRIES": "0"}
"""Seconds, and attempts after the first: the findings are there, and someone waits for them."""


class Asked(NamedTuple):
    """Whom to ask, and what not to ask for."""

    indexes: IndexSettings
    withheld: Collection[str] = ()
    """Names that no index is to hear of."""


def advise(report: Report, subject: Subject, ask: Callable[[], Asked], progress: Progress = SILENT) -> Report:
    """Name, in the hints of `report`, the newest release of a distribution that has a wheel for the target.

    `ask` is called once there is something to ask. Never raises for what an index answers, or does not.
    """
    found = (_advisable(finding, subject) for finding in report.findings)
    wanted = {each.name: each for each in found if each is not None}
    if not wanted:
        return report
    known = _files(wanted, ask, progress)
    words: dict[tuple[str, bool], tuple[str, bool] | None] = {}

    def better(finding: Finding) -> Finding:
        each = _advisable(finding, subject)
        if each is None or not known.get(each.name):
            return finding
        key = each.name, finding.rule == "pure-fallback"
        if key not in words:
            start = "it works, but slower; " if key[1] and finding.severity is Severity.NOTE else ""
            words[key] = _words(each, subject, known[each.name], compiled=key[1], start=start)
        told = words[key]
        return (
            finding if told is None else finding._replace(hint=_joined(finding.hint, told[0], is_same_release=told[1]))
        )

    return report._replace(findings=tuple(map(better, report.findings)))


def of_folder(folder: Path, subject: Subject) -> Asked:
    """Ask the indexes that the settings in `folder` name about what some tool installed.

    Not for what was installed from a folder or an address (it has a `direct_url.json`, PEP 610), nor for the project
    in `folder`.
    """
    from manylambda.locks.pyproject import Pyproject
    from manylambda.locks.settings import read_settings

    withheld = {entry.origin for path, entry in subject.entries.items() if path.endswith("/direct_url.json")}
    if (folder / "pyproject.toml").is_file():
        with suppress(ManylambdaError):
            withheld.add(Pyproject.load(folder).name or "")
    return Asked(read_settings(folder, os.environ), withheld)


def of_selection(selection: Selection, indexes: IndexSettings) -> Asked:
    """Ask `indexes` about what was chosen, but not for what was found elsewhere."""
    from manylambda.fetch import strip_userinfo
    from manylambda.locks.settings import DEFAULT_INDEX

    asked = {strip_userinfo(index.url).rstrip("/") for index in indexes.indexes if not index.explicit}
    asked.add(DEFAULT_INDEX)
    withheld = {package.name for package in selection.local}
    for pin in selection.pins:
        if pin.wheel.path is not None or (pin.index is not None and pin.index.rstrip("/") not in asked):
            withheld.add(pin.name)
    return Asked(indexes, withheld)


def _advisable(finding: Finding, subject: Subject) -> Distribution | None:
    """Return the distribution of a finding which another file of an index may mend."""
    if finding.distribution is None:
        return None
    if finding.rule != "pure-fallback":
        if finding.rule not in _RULES:
            return None
        if finding.severity is not Severity.ERROR and finding.rule != "wheel-tag-mismatch":
            return None  # can be done without, or is had from elsewhere
        if finding.rule in _LIBRARIES and subject.system is not None and subject.system.glibc < subject.target.glibc:
            return None  # what runs on the target need not run in this image
        if finding.path is not None and isinstance(subject.facts.get(finding.path), Malformed):
            return None  # the right file, damaged
    found = subject.by_name.get(finding.distribution)
    if finding.rule == "wheel-tag-mismatch" and found is not None and is_of_one_machine(found, subject):
        return None  # it may be the very file that an index has
    return found


def _files(names: Iterable[str], ask: Callable[[], Asked], progress: Progress) -> Mapping[str, Sequence[IndexFile]]:
    from concurrent.futures import ThreadPoolExecutor

    from manylambda.fetch import Credentials
    from manylambda.locks.index import IndexClient

    try:
        indexes, withheld = ask()
    except (ManylambdaError, OSError):  # settings that cannot be read: told to whoever needs them
        return {}
    asked = [name for name in names if name not in withheld][:_MOST]
    if not asked:
        return {}
    environment = {**os.environ, **indexes.uv_environment(), **_PATIENCE}
    credentials = Credentials.from_settings(environment, indexes.index_urls)
    task = progress.task("advise", "index pages", len(asked), unit="items")
    with IndexClient(indexes, environment=environment, credentials=credentials) as client:

        def files(name: str) -> Sequence[IndexFile]:
            try:
                return client.files(name)
            except ManylambdaError:
                return ()
            finally:
                task.advance(1)

        with ThreadPoolExecutor(max_workers=len(asked)) as pool:
            found = dict(zip(asked, pool.map(files, asked), strict=True))
    task.finish()
    return found


def _words(
    each: Distribution, subject: Subject, files: Sequence[IndexFile], *, compiled: bool, start: str
) -> tuple[str, bool] | None:
    """Say which file runs on the target, and whether that is one of the same release; None when there is no saying."""
    from packaging.version import Version

    from manylambda.locks.compatibility import is_compiled
    from manylambda.locks.explain import wheels_that_run

    target = subject.target
    running = wheels_that_run(files, target)
    if compiled:
        running = {version: filename for version, filename in running.items() if is_compiled(filename)}
    try:
        own = str(Version(each.version))
    except ValueError:  # an invalid one, or one of thousands of digits
        own = each.version
    wheel = "compiled wheel" if compiled else "wheel"
    other = ""
    if own in running:
        if compiled or not each.tags or target.rank(each.tags) is None:
            return f"{start}the same release has a {wheel} for {target}: `{running[own]}`", not compiled
        del running[own]  # it is the wheel that does not run, whatever its tags promise
        other = "other "
    final = [version for version in map(Version, running) if not version.is_prerelease]
    if final:
        return f"{start}`{each.name}=={max(final)}` is the newest {other}release with a {wheel} for {target}", False
    if other:
        return None
    is_source = not compiled and any(not file.is_wheel and file.yanked is None for file in files)
    source = f"; `manylambda build --allow-sdist {each.name}` builds it from source" if is_source else ""
    return f"{start}no release has a {wheel} for {target}{source}", False


def _joined(hint: str | None, words: str, *, is_same_release: bool) -> str:
    """Put the words before the ways out that a hint has besides, or behind the hint that they make precise."""
    if hint is None:
        return words
    if is_same_release:
        return f"{hint}; {words}"
    _, separator, besides = hint.partition("; or ")
    return f"{words}{separator}{besides}"
