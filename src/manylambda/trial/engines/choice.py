"""Which engine a trial runs in: the best that works here, and aloud why a better one does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from manylambda.errors import FetchError, ManylambdaError, RequestError, TrialError
from manylambda.host.install import install
from manylambda.host.model import Unusable
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manylambda.fetch.cache import Cache
    from manylambda.host.containers import Program
    from manylambda.progress import Progress
    from manylambda.target import Target
    from manylambda.trial.model import Engine

    Found: TypeAlias = Engine | Unusable

ENGINES: Final = ("container", "rootfs", "interpreter")
"""Best first."""
_HOUR: Final = 3600.0
"""Seconds for which `auto` does not ask again for an image that could not be had."""


def choose(
    target: Target,
    *,
    engine: str = "auto",
    rootfs: Path | None = None,
    image: str | None = None,
    download_python: bool = False,
    offline: bool = False,
    cache: Cache,
    progress: Progress = SILENT,
) -> Engine:
    """Give the engine that was asked for, or for `auto` the best that works: container, rootfs, interpreter.

    A root file system that is given is used, and so is an image: by a container program, or else as a root file system.
    What nobody named and could not be had is not asked for again within an hour: whoever names an engine has it asked.
    RequestError when the wishes exclude each other; TrialError (exit 6) with what is missing and how to get it.
    """
    if engine not in {"auto", *ENGINES}:
        raise RequestError(
            f"`{engine}` is no engine", hint="known are `auto`, " + ", ".join(f"`{one}`" for one in ENGINES)
        )
    if rootfs is not None and (image is not None or engine not in {"auto", "rootfs"}):
        other = "an image" if image is not None else f"the engine `{engine}`"
        raise RequestError(f"a root file system and {other} exclude each other", hint="leave one of them out")
    if image is not None and engine == "interpreter":
        raise RequestError("the engine `interpreter` uses no image", hint="leave `--image` out")

    is_sure = engine != "auto" or image is not None

    def container() -> Found:
        from manylambda.host.containers import find_program
        from manylambda.trial.engines.container import PullFailed, prepare

        program = find_program()
        if isinstance(program, Unusable):
            return program

        def ask(*, offline: bool) -> Found:
            return prepare(target, reference=image, program=program, offline=offline, cache=cache, progress=progress)

        if is_sure or offline:
            return ask(offline=offline)
        return _asked_once("container", f"{program.path} {target}", ask, PullFailed, cache)

    def root() -> Found:
        def ask(*, offline: bool) -> Found:
            return _root(target, rootfs, image, offline=offline, cache=cache, progress=progress, is_sure=is_sure)

        if is_sure or offline or rootfs is not None:
            return ask(offline=offline)
        return _asked_once("rootfs", str(target), ask, FetchError, cache)

    def interpreter() -> Found:
        from manylambda.trial.engines.interpreter import prepare

        return prepare(target, download=download_python, offline=offline, cache=cache, progress=progress)

    makers = {"container": container, "rootfs": root, "interpreter": interpreter}
    names = (engine,) if engine != "auto" else _wanted(rootfs, image)
    return _first(names, makers, target, progress)


class Prospect(NamedTuple):
    """What an engine is good for on this host, found out without the network."""

    engine: str
    label: str
    """Of the engine as it would run; empty where it is not ready."""
    wanted: str | None = None
    """The image that it would pull first, and that nobody knows to be there."""
    unusable: Unusable | None = None


def prospects(target: Target, program: Program | Unusable, *, cache: Cache) -> tuple[Prospect, ...]:
    """Say of each engine, best first, whether `choose` would find it: `auto` takes the first that is not unusable.

    `program` is what `find_program` gave. Nothing is pulled or unpacked; what is slow to find out is kept in the cache.
    """

    def container() -> Prospect:
        from manylambda.trial.engines.container import PullFailed, default_reference, prepare

        if isinstance(program, Unusable):
            return Prospect("container", "", unusable=program)
        try:
            found = prepare(target, program=program, offline=True, cache=cache)
        except PullFailed:
            return _awaited("container", f"{program.path} {target}", default_reference(target), cache)
        return _prospect("container", found)

    def root() -> Prospect:
        from manylambda.image.pull import pull
        from manylambda.image.reference import Reference
        from manylambda.trial.engines.container import default_reference
        from manylambda.trial.engines.rootfs import detect

        tools = detect(target)
        if isinstance(tools, Unusable):
            return Prospect("rootfs", "", unusable=tools)
        reference = default_reference(target)
        parsed, architecture = Reference.parse(reference), target.architecture.oci
        try:
            pull(parsed, architecture, cache=cache, offline=True, progress=SILENT, verify=False)
        except FetchError:
            return _awaited("rootfs", str(target), reference, cache)
        by = f" and qemu {tools.emulator_version}" if tools.emulator else ""
        return Prospect("rootfs", f"`{reference}` in bubblewrap {'.'.join(map(str, tools.version))}{by}")

    def interpreter() -> Prospect:
        from manylambda.trial.engines.interpreter import prepare

        return _prospect("interpreter", prepare(target, cache=cache))

    return tuple(_guarded(name, ask) for name, ask in zip(ENGINES, (container, root, interpreter), strict=True))


def _guarded(name: str, ask: Callable[[], Prospect]) -> Prospect:
    try:
        return ask()
    except ManylambdaError as error:
        return Prospect(name, "", unusable=Unusable(name, error.message, error.hint))
    except (OSError, subprocess.SubprocessError) as error:
        return Prospect(name, "", unusable=Unusable(name, str(error), None))


def _prospect(name: str, found: Found) -> Prospect:
    if isinstance(found, Unusable):
        return Prospect(name, "", unusable=found)
    return Prospect(name, found.label)


def _awaited(name: str, key: str, reference: str, cache: Cache) -> Prospect:
    lately = _refused_lately(name, _key(name, key), cache)
    return Prospect(name, "", wanted=reference, unusable=lately)


def _key(name: str, key: str) -> str:
    # Another way to the network may be the cure.
    way = [f"{one}={value}" for one, value in sorted(os.environ.items()) if one.lower().endswith("_proxy")]
    return "\n".join([name, key, *way])


def _refused_lately(name: str, key: str, cache: Cache) -> Unusable | None:
    """Say why an image could not be had within the last hour; None where that was not tried."""
    known = cache.read_facts("trial-asked", 1, key)
    asked, reason, hint = known if isinstance(known, list) else (0.0, "", None)
    if not 0 <= time.time() - asked < _HOUR:
        return None
    until = time.strftime("%H:%M", time.localtime(asked + _HOUR))
    return Unusable(name, f"{reason}; not asked again until {until}: `--engine {name}` asks", hint)


def _asked_once(name: str, key: str, ask: Callable[..., Found], failure: type[ManylambdaError], cache: Cache) -> Found:
    """Ask for an image, unless it failed within the last hour: then take it only if it is here by now."""
    key = _key(name, key)
    lately = _refused_lately(name, key, cache)
    if lately is None:
        try:
            return ask(offline=False)
        except failure as error:
            cache.write_facts("trial-asked", 1, key, [time.time(), error.message, error.hint])
            raise
    try:
        return ask(offline=True)
    except failure:
        return lately


def _root(
    target: Target,
    rootfs: Path | None,
    image: str | None,
    *,
    offline: bool,
    cache: Cache,
    progress: Progress,
    is_sure: bool,
) -> Found:
    """Give the engine of a root file system, or of an image that is pulled without a container program.

    Where nobody asked for it (`is_sure`), a registry that does not answer is asked once only.
    """
    from manylambda.trial.engines import roots
    from manylambda.trial.engines.container import default_reference
    from manylambda.trial.engines.rootfs import RootfsEngine, detect, prepare

    tools = detect(target)
    if isinstance(tools, Unusable):
        return tools
    if rootfs is not None:
        return prepare(rootfs, target, cache, progress=progress)
    from dataclasses import replace

    from manylambda.fetch.client import HttpSettings
    from manylambda.image import choose as choose_image
    from manylambda.image import read_images
    from manylambda.image.pull import pull
    from manylambda.image.reference import Reference

    reference = Reference.parse(image or default_reference(target))
    architecture = target.architecture.oci
    settings = HttpSettings.from_environment(os.environ)
    if not is_sure:
        settings = replace(settings, retries=0)
    pulled = pull(reference, architecture, cache=cache, offline=offline, progress=progress, settings=settings)
    chosen = choose_image(read_images(pulled), architecture, pulled.name)
    folder = roots.unpack(pulled, chosen, cache, progress)
    return RootfsEngine(roots.Root(folder, f"{pulled.name}@{pulled.digest}"), target, cache, tools, progress=progress)


def _wanted(rootfs: Path | None, image: str | None) -> tuple[str, ...]:
    if rootfs is not None:
        return ("rootfs",)
    if image is None:
        return ENGINES
    # What a user names is never silently replaced: pulling it ourselves is for hosts that have no container program.
    from manylambda.host.containers import find_program

    return ENGINES[:2] if isinstance(find_program(), Unusable) else ENGINES[:1]


def _first(
    names: tuple[str, ...], makers: dict[str, Callable[[], Found]], target: Target, progress: Progress
) -> Engine:
    passed: list[Unusable] = []
    for name in names:
        try:
            found = makers[name]()
        except (TrialError, FetchError) as error:
            if len(names) == 1:
                raise _as_trial(error) from error
            found = Unusable(name, error.message, error.hint)
        if not isinstance(found, Unusable):
            for one in passed:
                progress.info(f"not in {one.name}: {one.reason}")
            return found
        passed.append(found)
    if len(passed) == 1:
        raise TrialError(f"no {passed[0].name}: {passed[0].reason}", hint=passed[0].hint or _hint(passed))
    raise TrialError(
        f"nothing here can try {target}: " + "; ".join(f"no {one.name}: {one.reason}" for one in passed),
        hint=_hint(passed),
    )


def _as_trial(error: ManylambdaError) -> ManylambdaError:
    """Let an image that cannot be fetched be a trial that cannot be made, as it is for the other engines."""
    return error if isinstance(error, TrialError) else TrialError(error.message, hint=error.hint)


def _hint(passed: list[Unusable]) -> str:
    """Tell one way for each engine, each once."""
    ways = [one.hint for one in passed if one.hint]
    if not ways:
        command = install("podman")
        ways = [f"`{command}`" if command else "install podman or Docker"]
        if sys.platform == "linux" and (sandbox := install("bubblewrap")):
            ways.append(f"`{sandbox}`")
    return "; or ".join(dict.fromkeys(ways))
