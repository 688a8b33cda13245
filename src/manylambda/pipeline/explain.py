"""`explain`: a rule's page, or what an error text means and, with the package at hand, which file of it is meant."""

from __future__ import annotations

import io
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from manylambda import causes, rules
from manylambda.audits import Severity, normalised
from manylambda.errors import RequestError
from manylambda.pipeline.audit import examine
from manylambda.progress import SILENT
from manylambda.rules import pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manylambda.audits import Finding, Subject
    from manylambda.causes import Cause
    from manylambda.pipeline.audit import Examination
    from manylambda.progress import Progress
    from manylambda.rules.pages import Page
    from manylambda.target import Target

_PIECE: Final = 1 << 20
_MOST: Final = 2 << 30
_SHOWN: Final = 3
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"


class Tie(NamedTuple):
    """What a package has to do with a cause."""

    findings: tuple[Finding, ...]
    """What the audit finds that is the cause, the nearest first; empty when the package does not show the fault."""
    file: str | None
    """The file that the error names, as it lies in the package or, with `/opt`, in a layer; None when it is not."""
    distribution: str | None
    """Which of the package's distributions the error is about."""
    version: str | None
    says: str
    """The outcome in a sentence."""


class Explanation(NamedTuple):
    """A rule's page, or the causes found in a text; both are empty when nothing was recognised."""

    page: Page | None
    causes: tuple[Cause, ...]
    """The root first."""
    ties: tuple[Tie, ...]
    """One a cause (or one for the page) when there is a package; else empty."""
    package: str | None
    target: str | None
    """The target that was given or, as far as it goes, what the text tells of it: a runtime alone, perhaps."""
    lines: int
    """How many lines were read."""

    @property
    def is_recognised(self) -> bool:
        """Whether anything was explained."""
        return self.page is not None or bool(self.causes)


def explain(
    asked: str | Path | IO[bytes],
    *,
    package: Path | None = None,
    target: Target | None = None,
    layers: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> Explanation:
    """Explain a rule (its name), an error text, or the log in a file or open stream.

    With `package` (made by any tool), `target` and the function's `layers` the package is audited, and each cause is
    tied to the file and the findings that are its reason. Text is read in pieces: a log may be as long as it likes, up
    to 2 GiB; gzip is unpacked. Raises `RequestError` for what cannot be read or does not go together, and the errors of
    opening a package.
    """
    if package is None and layers:
        raise RequestError("layers are looked at with their package", hint="name it: `--package PATH`")
    if package is not None and target is None:
        raise RequestError("a package is judged for a target", hint="name it: `-t python3.13-arm64`")
    if isinstance(asked, str) and asked in {rule.name for rule in rules.ALL}:
        return _of_rule(asked, package, target, layers, progress)
    with _pieces(asked) as pieces:
        found = causes.find(pieces, target=target, package=_quoted(package) if package else "PACKAGE")
    ties: tuple[Tie, ...] = ()
    if package is not None and target is not None and found.causes:
        handler = next(filter(None, map(_handler, found.causes)), None)
        examination = examine(package, target, layers=layers, handler=handler, offline=True, progress=progress)
        ties = tuple(tie(cause, examination, package) for cause in found.causes)
    told = "-".join(part for part in (found.runtime, found.architecture) if part)
    return Explanation(None, found.causes, ties, _named(package), str(target) if target else told or None, found.lines)


def meant(word: str) -> str | Path:
    """Return what a word of the command line means: a rule's name, or the file of that name.

    Raises `RequestError` with the nearest rule when it is neither.
    """
    names = [rule.name for rule in rules.ALL]
    if word in names:
        return word
    path = Path(word)
    if path.is_file():
        return path
    if path.is_dir():
        raise RequestError(
            f"`{word}` is a folder, not a log", hint=f"to look at a package: `manylambda audit {word} -t TARGET`"
        )
    near = get_close_matches(word.lower().replace("_", "-"), names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "`manylambda explain` lists the rules; `-` reads standard input"
    raise RequestError(f"`{word}` is neither a rule nor a file", hint=hint)


def _of_rule(
    name: str, package: Path | None, target: Target | None, layers: Sequence[Path], progress: Progress
) -> Explanation:
    ties: tuple[Tie, ...] = ()
    if package is not None and target is not None:
        report = examine(package, target, layers=layers, offline=True, progress=progress).report
        findings = tuple(one for one in report.findings if one.rule == name)
        says = f"`{package.name}` has {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'} of this rule"
        ties = (Tie(findings, None, None, None, says),)
    return Explanation(pages.page(name), (), ties, _named(package), str(target) if target else None, 0)


def _named(package: Path | None) -> str | None:
    return str(package) if package is not None else None


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text


@contextmanager
def _pieces(asked: str | Path | IO[bytes]) -> Iterator[Iterator[str]]:
    """Give the text in pieces, whatever it comes from."""
    if isinstance(asked, str):
        yield iter([asked.replace("\r\n", "\n")])
    elif isinstance(asked, Path):
        try:
            with asked.open("rb") as stream:
                yield _decoded(stream, asked.name)
        except FileNotFoundError as error:
            raise RequestError(f"there is no file `{asked}`") from error
    else:
        yield _decoded(asked, "the input")


def _decoded(stream: IO[bytes], name: str) -> Iterator[str]:
    """Read text as it comes from logs and shells: UTF-8, UTF-16 of PowerShell, gzip of a CloudWatch export."""
    import gzip
    import zlib

    start = stream.read(4)
    raw: io.RawIOBase | gzip.GzipFile = _Rejoined(start, stream)
    if start == _ZIP:
        raise RequestError(
            f"`{name}` is an archive, not a log", hint="to look at a package: `manylambda audit PATH -t TARGET`"
        )
    encoding = "utf-16" if start[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    if start.startswith(_GZIP):
        raw = gzip.GzipFile(fileobj=io.BufferedReader(_Rejoined(start, stream)))
        encoding = "utf-8"
    text = io.TextIOWrapper(io.BufferedReader(raw), encoding=encoding, errors="replace")
    size = 0
    try:
        while piece := text.read(_PIECE):
            size += len(piece)
            if size > _MOST:
                raise RequestError(f"{name} is larger than 2 GiB", hint="give the part around the error")
            yield piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RequestError(f"`{name}` is not a valid gzip file: {error}".lower()) from error


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were looked at; closing it leaves the stream open, as it is not ours."""

    def __init__(self, start: bytes, stream: IO[bytes]) -> None:
        super().__init__()
        self._start = start
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what io.RawIOBase is given
        data = self._start[: len(buffer)] or self._stream.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def tie(cause: Cause, examination: Examination, package: Path) -> Tie:
    """Say what a package has to do with a cause: the findings, the file and the distribution that it is about."""
    subject, report = examination
    file = _file(cause, subject)
    name = (subject.distribution_of(file) if file else None) or cause.values.get("distribution")
    distribution = subject.by_name.get(normalised(name)) if name else None
    about = distribution.name if distribution else None
    findings = tuple(_reasons(cause, report.findings, file, about))
    if distribution is None and findings and findings[0].distribution is not None:
        distribution = subject.by_name.get(findings[0].distribution)
    path = cause.values.get("path", "")
    if findings:
        says = f"`{package.name}` shows it"
    elif not cause.rules:
        says = "this is not seen in a package"
    elif path.startswith("/") and file is None and "/" in causes.package_path(path):
        says = (
            f"`{path}` is not in `{package.name}`: is it the package that was deployed, and are the function's "
            "layers named (`--layer`)?"
        )
    elif "module" in cause.values and distribution is not None and "distribution-missing" in cause.rules[:1]:
        says = f"`{distribution.name}` is in `{package.name}`: is it the package that was deployed?"
    else:
        says = (
            f"the audit finds no such fault in `{package.name}` for {report.target}: is it the package that was "
            "deployed, is this the function's target, and are its layers named (`--layer`)?"
        )
    return Tie(
        findings=findings,
        file=subject.shown(file) if file else None,
        distribution=distribution.name if distribution else None,
        version=distribution.version if distribution else None,
        says=says,
    )


def _handler(cause: Cause) -> str | None:
    """Return the handler that Lambda did not find, as far as the error tells it."""
    if cause.rules[:1] != ("handler-missing",) or "module" not in cause.values:
        return None
    return f"{cause.values['module']}.{cause.values.get('name', 'handler')}"


def _file(cause: Cause, subject: Subject) -> str | None:
    """Return the file that the error names, by absolute path: as it is named, or wherever its path ends alike."""
    path = cause.values.get("path")
    if path is None:
        return None
    if path in subject.entries:
        return path
    end = "/" + causes.package_path(path)
    return next((name for name in sorted(subject.entries) if name.endswith(end)), None)


def _reasons(
    cause: Cause, findings: Sequence[Finding], file: str | None, distribution: str | None
) -> Iterator[Finding]:
    """Give the findings that are the cause: of its rules, and of the same file, library, module or distribution."""
    of_rules = [one for one in findings if one.rule in cause.rules and one.severity is not Severity.NOTE]
    values = cause.values
    names = [values[name] for name in ("library", "version", "symbol") if name in values]
    module = values.get("module", "")
    inside = module.replace(".", "/")
    about = distribution or normalised(values.get("distribution", ""))

    def nearness(one: Finding) -> int:
        path = one.path or ""
        if one.rule == "handler-missing":  # there is but one handler
            return 1
        if file is not None and file.endswith("/" + path.lstrip("/")):
            return 0
        if any(name in one.message for name in names):
            return 1
        if inside and "/" in inside and f"/{path}".find(f"/{inside}.") >= 0:
            return 1
        if module and f"`{module}`" in one.message:
            return 1
        if (
            about
            and one.distribution is not None
            and (one.distribution == about or one.distribution.startswith(about + "-"))
        ):
            return 2
        return 9

    near = sorted((nearness(one), number, one) for number, one in enumerate(of_rules))
    identified = bool(names or module or about or file)
    best = near[0][0] if near else 9
    for distance, _, one in near[:_SHOWN]:
        if not identified or (distance < 9 and distance <= max(best, 1)):
            yield one
