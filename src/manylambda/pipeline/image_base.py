"""The base of an image: found, and looked into where its name does not say what has to be known of it."""

from __future__ import annotations

import hashlib
import json
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda import elf
from manylambda.audits.libraries import ImageLibraries
from manylambda.errors import RequestError
from manylambda.image import FileSystem, Scratch, choose, read_images
from manylambda.image import base as bases
from manylambda.image.pull import pull, resolve
from manylambda.image.reference import Reference
from manylambda.linkage import System
from manylambda.target import GlibcVersion
from manylambda.trial.engines.container import default_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manylambda.audits.libraries import Libraries
    from manylambda.config import Settings
    from manylambda.elf import NativeFile
    from manylambda.fetch.cache import Cache
    from manylambda.image.base import Base
    from manylambda.image.places import ImagePlace
    from manylambda.progress import Progress
    from manylambda.target import Target

TASK: Final = "/var/task"
CLIENT: Final = "awslambdaric"
"""Lambda's runtime interface client."""
_LAMBDA_ENTRY: Final = "/lambda-entrypoint.sh"
_BINARIES: Final = ("/var/lang/bin", "/usr/local/bin", "/usr/bin", "/bin")
"""Where base images have their Python."""
_BOOTSTRAP: Final = "/var/runtime/bootstrap"
_SEEN: Final = "image-base"
_SEEN_VERSION: Final = 3
_SYSTEM: Final = "image-system"
_SYSTEM_VERSION: Final = 1
_DEFINED: Final = "image-symbols"
_DEFINED_VERSION: Final = 1

# Targets are made in parallel, and two may share a base.
_ONE_AT_A_TIME: Final = threading.Lock()


class Seen(NamedTuple):
    """What the file system of a base has."""

    python: str | None
    """The target's interpreter, links followed."""
    has_bootstrap: bool
    is_lambda: bool
    """Whether it was made from one of Lambda's images for Python."""
    task_files: int
    """How many files it has where the function's are."""


class FoundBase:
    """A base; its file system is read when it is asked for, and what was seen is kept by its layers."""

    def __init__(
        self, image: Base, told: str, target: Target, cache: Cache, open_: Callable[[], FileSystem], *, is_ours: bool
    ) -> None:
        """`is_ours`: it is Lambda's own for the runtime, by its name."""
        self.image = image
        self.told = told
        self.is_ours = is_ours
        self._target = target
        self._cache = cache
        self._open = open_

    @property
    def config(self) -> Mapping[str, Any]:
        """How a container of it starts."""
        found = self.image.document.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables."""
        return dict(line.partition("=")[::2] for line in words(self.config.get("Env")))

    @cached_property
    def seen(self) -> Seen:
        """What starts handlers there."""
        key = f"{self._target.runtime} {self._layers}"
        known = self._cache.read_facts(_SEEN, _SEEN_VERSION, key)
        if isinstance(known, list):
            return Seen(*known)
        name = "python{}.{}".format(*self._target.python)
        found = (self._system.find(f"{folder}/{name}") for folder in _BINARIES)
        # Where a link leads: Lambda takes none as an entry point.
        python = next((path for path, node in filter(None, found) if node.kind == "file" and node.mode & 0o111), None)
        is_lambda = all(self._system.find(path) is not None for path in ("/var/runtime", "/var/lang/bin"))
        there = sum(node.kind != "folder" for _, node in self._system.below(TASK))
        seen = Seen(python, self._system.find(_BOOTSTRAP) is not None, is_lambda, there)
        self._cache.write_facts(_SEEN, _SEEN_VERSION, key, list(seen))
        return seen

    @cached_property
    def starts_handlers(self) -> bool:
        """Whether its entry point stays; else the runtime interface client has to be run by the Python that is there.

        Raises RequestError where the target's Python is not there.
        """
        own = words(self.config.get("Entrypoint"))
        # That of `provided` is called the same as Lambda's for Python, and starts a runtime that is still to come.
        if any(CLIENT in word for word in own) or (own[-1:] == (_LAMBDA_ENTRY,) and self.is_ours):
            return True
        wanted = "python{}.{}".format(*self._target.python)
        if self.seen.python is None:
            raise RequestError(
                f"`{self.image.name}` has no `{wanted}` where base images have it: "
                + ", ".join(f"`{one}`" for one in _BINARIES),
                hint=f"start from `{self._target.image}`, or from an image with `{wanted}` there",
            )
        return self.seen.has_bootstrap if own[-1:] == (_LAMBDA_ENTRY,) else bool(own)

    @property
    def is_known_to_start_them(self) -> bool:
        """Whether the entry point is Lambda's, or runs the runtime interface client."""
        return runs_handlers(words(self.config.get("Entrypoint")))

    def libraries(self, environment: Mapping[str, str]) -> Libraries:
        """Return what native files of a function find there, with `environment` set besides the base's variables."""
        whole = {**self.environment, **environment}
        key = f"{self._layers} LD_LIBRARY_PATH={whole.get('LD_LIBRARY_PATH')}"
        return _Remembered(
            self._cache,
            key,
            lambda: ImageLibraries(self._system, whole, TASK, is_lambda_base=self.seen.is_lambda),
        )

    @cached_property
    def _system(self) -> FileSystem:
        return self._open()

    @cached_property
    def _layers(self) -> str:
        # By the digests that are held against the bytes: what a base says of its layers may be true of another's.
        return " ".join(part.digest for part in self.image.layers)


class _Remembered:
    """The libraries of an image, read once for what needs them; see `Libraries`."""

    def __init__(self, cache: Cache, key: str, read: Callable[[], ImageLibraries]) -> None:
        self._cache = cache
        self._key = key
        self._read = read

    def needed_by(self, natives: Mapping[str, NativeFile], target: Target) -> System | None:
        searched = {
            path: [native.machine, native.needed, native.rpath, native.runpath]
            for path, native in natives.items()
            if isinstance(native, elf.ElfFile)
        }
        key = hashlib.sha256(json.dumps([self._key, str(target), sorted(natives), searched]).encode()).hexdigest()
        known = self._cache.read_facts(_SYSTEM, _SYSTEM_VERSION, key)
        if isinstance(known, dict):
            return _system(known)
        found = self._read().needed_by(natives, target)
        self._cache.write_facts(_SYSTEM, _SYSTEM_VERSION, key, _document(found))
        return found

    def defined(self, system: System) -> frozenset[str] | None:
        key = f"{self._key} {' '.join(sorted(system.files))}"
        known = self._cache.read_facts(_DEFINED, _DEFINED_VERSION, key)
        if isinstance(known, list):
            return frozenset(known)
        found = self._read().defined(system)
        if found is not None:
            self._cache.write_facts(_DEFINED, _DEFINED_VERSION, key, sorted(found))
        return found


def _document(system: System | None) -> dict[str, Any]:
    if system is None:
        return {}
    files = {path: elf.to_json(file) for path, file in system.files.items()}
    return {**system._asdict(), "files": files, "glibc": str(system.glibc)}


def _system(document: Mapping[str, Any]) -> System | None:
    if not document:
        return None
    return System(
        files={
            path: file
            for path, data in document["files"].items()
            if isinstance(file := elf.from_json(data), elf.ElfFile)
        },
        library_path=tuple(document["library_path"]),
        folders=tuple(document["folders"]),
        glibc=GlibcVersion.parse(document["glibc"]),
    )


def find_base(settings: Settings, target: Target, place: ImagePlace, cache: Cache, progress: Progress) -> FoundBase:
    """Find the base of one target; its layers are here afterwards, unless they need not come on their way elsewhere.

    Raises the errors of reading and pulling, and RequestError for one of another machine.
    """
    with _ONE_AT_A_TIME:
        return _find(settings, target, place, cache, progress)


def _find(settings: Settings, target: Target, place: ImagePlace, cache: Cache, progress: Progress) -> FoundBase:
    base, architecture = settings.image_base, target.architecture.oci
    if base is not None and base.path is not None:
        image, store, read, scratch = bases.of_file(base.path, architecture, cache)
        layers = read.layers
        return FoundBase(image, str(base), target, cache, lambda: FileSystem(store, layers, scratch, ()), is_ours=False)
    default = Reference.parse(default_reference(target))
    reference = default if base is None or base.reference is None else Reference.parse(base.reference)
    options: dict[str, Any] = {"cache": cache, "offline": settings.offline, "progress": progress}
    # What is said of one registry says nothing of another, such as that of Lambda's own base.
    is_there = base is not None
    if place.reference is not None:
        is_there = Reference.parse(place.reference).registry == reference.registry
    options["plain_http"] = settings.image_plain_http and is_there
    # Layers that a registry has need not come here on their way to another, or to the same.
    pulled = None if place.form == "registry" else pull(reference, architecture, **options)
    resolved = resolve(reference, architecture, **options) if pulled is None else pulled.resolved
    image = bases.of_registry(resolved, cache, pulled)

    def open_() -> FileSystem:
        whole = pulled or pull(reference.pinned(resolved.manifest.digest), architecture, **options)
        return FileSystem(whole, choose(read_images(whole), architecture, whole.name).layers, Scratch(), ())

    # By its tag Lambda's own says what is in it; a digest may be that of any image, and other names say nothing.
    is_ours = reference in {default, Reference.parse(target.image)}
    return FoundBase(image, str(image.reference), target, cache, open_, is_ours=is_ours)


def runs_handlers(entry_point: tuple[str, ...]) -> bool:
    """Whether an entry point is called as Lambda's is, or runs the runtime interface client."""
    return entry_point[-1:] == (_LAMBDA_ENTRY,) or any(CLIENT in word for word in entry_point)


def words(value: object) -> tuple[str, ...]:
    """Return the texts of a list in a configuration."""
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()
