"""`trial`: a package imported, and its handler invoked, in an execution environment: what reading cannot prove.

A trial does not replace the audit, nor the audit a trial: an environment on this machine is never quite the runtime.
What differs is said with the result (`Trial.proof`).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda import archive, causes
from manylambda.causes import Cause, Step
from manylambda.errors import FetchError, RequestError, ResolutionError, TrialError
from manylambda.fetch.cache import Cache
from manylambda.image import is_image
from manylambda.pipeline.audit import examine, is_of_dependencies, of_subject, open_subject
from manylambda.pipeline.explain import Tie, tie
from manylambda.progress import SILENT
from manylambda.tree import PackageTree, overlay
from manylambda.trial.model import Limits, Module, Mounts, Outcome, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manylambda.audits import Subject
    from manylambda.pipeline.audit import Examination
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.invocations import Invoked
    from manylambda.trial.model import Engine, Failure, Imported, Session
    from manylambda.trial.profile import Profile

_DEFAULT_SECONDS: Final = 60.0
_DEFAULT_MEMORY: Final = 1024
"""MiB, for what an import or an event may use; Lambda's own default, 128, ends pandas while it is imported."""
_LEAST_MEMORY: Final = 64
"""MiB; with less an interpreter may not even start."""
_MOST_SECONDS: Final = 24 * 3600.0

# As Lambda's own log tells it, by which `causes` knows it.
_SIGNALS: Final = {"SIGSEGV": "segmentation fault", "SIGILL": "illegal instruction", "SIGABRT": "aborted"}
_NO_NETWORK: Final = re.compile(
    r"[Nn]etwork is unreachable|[Tt]emporary failure in name resolution|Name or service not known"
)


class Request(NamedTuple):
    """What to try, and with what."""

    engine: str = "auto"
    rootfs: Path | None = None
    image: str | None = None
    modules: tuple[str, ...] = ()
    """Instead of every top-level module of the package."""
    handler: str | None = None
    events: tuple[Any, ...] = ()
    """JSON values; the handler gets one after the other in one environment."""
    seconds: float = _DEFAULT_SECONDS
    """For a module, and for an event."""
    memory_mb: int = _DEFAULT_MEMORY
    profile: bool = False
    download_python: bool = False
    offline: bool = False


class Reason(NamedTuple):
    """Why something failed, as `explain` tells it, tied to the package."""

    cause: Cause
    tie: Tie


class TrialResult(NamedTuple):
    """A trial and what explains its failures."""

    trial: Trial
    reasons: Mapping[str, tuple[Reason, ...]]
    """By the name of the module; of an invocation, by `event N` (from 1)."""
    profile: Profile | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there was something to try and nothing of it could be: that must not look like a pass."""
        tried = [one for one in self.trial.imports if one.outcome is not Outcome.NOT_TRIED]
        return bool(self.trial.imports) and not tried and not self.trial.invocations


def trial(
    path: Path,
    target: Target,
    *,
    layers: Sequence[Path] = (),
    request: Request | None = None,
    progress: Progress = SILENT,
    called: str | None = None,
) -> TrialResult:
    """Import every module of a package, and give its handler events, in the engine that `request` asks for.

    `path` is whatever `audit` takes; a user knows it as `called` where that is something else. Raises `TrialError`
    where no engine can be used, and the errors of opening the package; what fails inside is part of the result.
    """
    from manylambda.host import folders
    from manylambda.trial.engines.choice import choose

    request = request or Request()
    _confirm(request)
    if not is_image(path):
        _confirm_handler(request)
    package = _Package(path, target, layers, request, progress)
    subject = package.subject
    if subject.image is not None:
        request = request._replace(handler=subject.handler)  # that of CMD, where none is named
        _confirm_handler(request)
    if subject.kind == "image" and request.rootfs is None and request.image is None:
        request = _in_itself(request, path, called)
    cache = Cache.default()
    engine = choose(
        target,
        engine=request.engine,
        rootfs=request.rootfs,
        image=request.image,
        download_python=request.download_python,
        offline=request.offline,
        cache=cache,
        progress=progress,
    )
    progress.detail(f"trying in the engine {engine.name}: {engine.label}")
    wanted = _modules(subject, request.modules)
    profiled = _profiled(request, wanted) if request.profile else None
    if request.events and not engine.runs_native() and any(module.is_native for module in wanted):
        raise TrialError(
            f"the handler cannot be invoked in the engine {engine.name}: native files for {target.machine} do not load "
            "there",
            hint="give a root file system or an image to run in: `--rootfs`, `--image`",
        )
    with ExitStack() as stack:
        room = _in_memory(subject.unzipped_size, len(subject.entries))
        folder = stack.enter_context(folders.folder(room))
        function, layer = _laid_out(subject, folder, progress)
        runtime = _runtime(request, subject.target, cache, progress) if engine.wants_runtime else None
        session = engine.open(Mounts(task=function, opt=layer, runtime=runtime))
        stack.callback(session.close)
        work = _Work(session, engine, subject, request, progress)
        imports = work.imports(wanted)
        invoked = work.invocations()
        profile = work.profile(profiled)
    found = Trial(
        target=target,
        engine=engine.name,
        label=f"{engine.label}, {invoked.label}" if invoked is not None else engine.label,
        proof=engine.proof,
        imports=imports,
        invocations=invoked.invocations if invoked is not None else (),
        profile=profile.tree if profile is not None else None,
    )
    reasons = dict(_reasons(found, package, path if called is None else Path(called)))
    return TrialResult(found, reasons, profile)


class _Package:
    """What is tried; audited only when something fails, and the audit may tell why."""

    def __init__(
        self, path: Path, target: Target, layers: Sequence[Path], request: Request, progress: Progress
    ) -> None:
        self.path = path
        self._progress = progress
        self._examination: Examination | None = None
        if is_of_dependencies(path):
            self._examination = examine(
                path, target, layers=layers, handler=request.handler, offline=request.offline, progress=progress
            )
            self.subject = self._examination.subject
        else:
            self.subject = open_subject(path, target, layers=layers, handler=request.handler)

    @property
    def examination(self) -> Examination:
        if self._examination is None:
            self._examination = of_subject(self.subject, self.path.name, progress=self._progress)
        return self._examination


class _Work(NamedTuple):
    """What is done in one environment."""

    session: Session
    engine: Engine
    subject: Subject
    request: Request
    progress: Progress

    @property
    def limits(self) -> Limits:
        return Limits(seconds=self.request.seconds, memory=self.request.memory_mb << 20)

    def imports(self, wanted: Sequence[Module]) -> tuple[Imported, ...]:
        from manylambda.trial.imports import try_imports

        return try_imports(
            self.session,
            wanted,
            target=self.subject.target,
            limits=self.limits,
            runs_native=self.engine.runs_native(),
            progress=self.progress,
        )

    def invocations(self) -> Invoked | None:
        if self.request.handler is None or not self.request.events:
            return None
        from manylambda.trial.invocations import invoke

        return invoke(
            self.session,
            self.request.handler,
            self.request.events,
            target=self.subject.target,
            limits=self.limits,
            timeout=self.request.seconds,
            progress=self.progress,
        )

    def profile(self, name: str | None) -> Profile | None:
        if name is None:
            return None
        from manylambda.trial.profile import profile

        return profile(self.session, name, target=self.subject.target, limits=self.limits)


def _confirm(request: Request) -> None:
    """Raise `RequestError` for what cannot be done, before anything is."""
    if not 0 < request.seconds <= _MOST_SECONDS:  # NaN is neither
        raise RequestError(
            f"{request.seconds:g} seconds are no time to try anything in", hint="`--timeout 60` is usual"
        )
    if request.memory_mb < _LEAST_MEMORY:
        raise RequestError(
            f"{request.memory_mb} MiB are too little memory to start Python in",
            hint=f"`--memory` takes {_LEAST_MEMORY} or more; functions have 128 or more",
        )


def _in_itself(request: Request, path: Path, called: str | None) -> Request:
    """Return the request to try an image in itself: it is its own execution environment."""
    if request.engine in {"auto", "rootfs"}:
        return request._replace(rootfs=path)
    if request.engine == "container" and called is not None and called != str(path):  # a container program can pull it
        return request._replace(image=called)
    raise RequestError(
        f"an image is its own environment, which the engine `{request.engine}` cannot give it",
        hint="leave `--engine` out, or push the image and name it: `manylambda trial HOST/NAME:TAG --engine container`",
    )


def _confirm_handler(request: Request) -> None:
    if request.events and request.handler is None:
        raise RequestError("an event needs a handler", hint="name it: `--handler app.lambda_handler`")


def _profiled(request: Request, wanted: Sequence[Module]) -> str:
    """Return the module whose import is profiled: the handler's, else the only one."""
    own = [module.name for module in wanted if module.distribution is None]
    if request.handler is not None:
        return request.handler.rpartition(".")[0].replace("/", ".")
    if len(request.modules or own) != 1:
        raise RequestError(
            "the import of one module is profiled, and none is named",
            hint="name it: `--handler app.lambda_handler`, or `--module NAME`",
        )
    (name,) = request.modules or own
    return name


def _modules(subject: Subject, named: Sequence[str]) -> tuple[Module, ...]:
    """Return the modules to import: those that are named, else all that lie at the top of the package."""
    from manylambda.trial.modules import modules

    # The longest folder first, as it is the first on the search path.
    folders = sorted(subject.site_folders(in_layer=subject.kind == "layer"), key=len, reverse=True)
    found = modules(subject.tree, folders)
    if not named:
        return found
    known = {each.name: each for each in found}

    def nearest(name: str) -> Module:
        parents = [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]
        like = next((known[one] for one in parents if one in known), None)
        return Module(name, None, is_native=False) if like is None else like._replace(name=name)

    return tuple(map(nearest, named))


def _in_memory(size: int, files: int) -> str | None:
    """Return a folder in memory that can take `size` bytes in `files` files; None where there is none (not on Linux).

    Thousands of small files are made there in a tenth of the time. It must let shared objects be mapped as code.
    """
    if sys.platform != "linux":
        return None
    room = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
    try:
        status = os.statvfs(room)
    except OSError:
        return None
    free = status.f_bavail * status.f_frsize
    needed = size + files * status.f_frsize
    return room if free > 4 * needed and not status.f_flag & os.ST_NOEXEC and os.access(room, os.W_OK) else None


def _laid_out(subject: Subject, folder: Path, progress: Progress) -> tuple[Path, Path | None]:
    """Write the function and its layers, merged, as the folders that are `/var/task` and `/opt`."""
    is_layer = subject.kind == "layer"
    function, layer = folder / "task", folder / "opt"
    archive.write_directory(PackageTree() if is_layer else subject.tree, function, progress=progress, label="function")
    # A later layer overwrites an earlier one.
    merged, _ = overlay([*((subject.tree,) if is_layer else ()), *reversed(subject.layers)])
    if not len(merged):
        return function, None
    archive.write_directory(merged, layer, progress=progress, label="layers")
    return function, layer


def _runtime(request: Request, target: Target, cache: Cache, progress: Progress) -> Path | None:
    """Get what the runtime brings; without the network imports go on without it, an invocation cannot."""
    from manylambda.trial.runtime_client import runtime_folder

    def install(requirements: Sequence[str], target: Target, folder: Path) -> None:
        _install(requirements, target, folder, offline=request.offline, progress=progress)

    try:
        return runtime_folder(target, install, cache=cache.base / "runtimes")
    except (FetchError, ResolutionError) as error:
        if request.events:
            raise
        progress.warning(f"without what the runtime has besides the standard library (boto3 ...): {error.message}")
        return None


def _install(pins: Sequence[str], target: Target, folder: Path, *, offline: bool, progress: Progress) -> None:
    """Put distributions for `target` into `folder`, as a build would into a package."""
    from dataclasses import replace

    from manylambda import config
    from manylambda.locks.discovery import discover
    from manylambda.pipeline.build import Ingredients, undamaged

    with tempfile.TemporaryDirectory(prefix="manylambda-runtime-") as place:
        project = Path(place)
        file = project / "requirements.txt"
        file.write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
        flags = {"targets": [str(target)], **({"offline": True} if offline else {})}
        settings = replace(config.load(project, os.environ, flags), kind="dir", package=False, audit=False)
        ingredients = Ingredients(settings, discover(project, requirements=[file]), progress)

        def work() -> None:
            packer, ((selection, stored),) = ingredients.gather(PackageTree)
            contents = packer.lay_out(selection, stored)
            contents.confirm()
            archive.write_directory(contents.tree, folder, progress=progress, label="runtime")

        undamaged(work, progress)


def _reasons(found: Trial, package: _Package, called: Path) -> Sequence[tuple[str, tuple[Reason, ...]]]:
    told: list[tuple[str, tuple[Reason, ...]]] = []
    texts = [
        (one.module.name, f"{_in_words(one.failure)}\n{one.log}\n{_as_lambda_says(one)}")
        for one in found.imports
        if one.failure is not None
    ]
    texts += [
        (f"event {number}", f"{_in_words(one.failure)}\n{one.log}")
        for number, one in enumerate(found.invocations, 1)
        if one.failure is not None
    ]
    for name, text in texts:
        diagnosis = causes.find([text], target=found.target, package=str(called))
        reasons = tuple(Reason(cause, tie(cause, package.examination, called)) for cause in diagnosis.causes)
        told.append((name, reasons or _of_the_trial(text)))
    return told


def _in_words(failure: Failure) -> str:
    return failure.traceback or failure.message


def _as_lambda_says(one: Imported) -> str:
    """Return the line that Lambda would log where no exception tells anything; empty where one does."""
    if one.failure is None or one.failure.traceback:
        return ""
    match one.outcome:
        case Outcome.TIMED_OUT:
            return f"Task timed out after {one.seconds:.2f} seconds"
        case Outcome.OUT_OF_MEMORY:
            return "Runtime exited with error: signal: killed"
        case Outcome.CRASHED if one.failure.type == "signal":
            name = one.failure.message.partition(":")[0]
            return f"Runtime exited with error: signal: {_SIGNALS.get(name, name)}"
        case Outcome.CRASHED if one.failure.type == "exit":
            return "Runtime exited without providing a reason"
        case _:
            return ""


def _of_the_trial(text: str) -> tuple[Reason, ...]:
    """Return what is the trial's own doing: Lambda may have a network, where the function's VPC allows it."""
    found = _NO_NETWORK.search(text)
    if found is None:
        return ()
    cause = Cause(
        id="trial-network",
        rules=(),
        line=found[0],
        number=1,
        meaning="It asks for the network, which a trial does not have.",
        why="Nothing that is tried may reach the network of this machine. On Lambda it may answer, late or not at all, "
        "and each cold start waits for it.",
        cure=(Step("Connect in the handler, when it is needed first, and not while the module is imported."),),
        values={},
        source="manylambda trial",
    )
    return (Reason(cause, Tie((), None, None, None, "the package does not show it")),)
