"""The target: a Lambda runtime and an architecture, and every fact about them that decides what can load.

The facts are data: `data/runtimes.json`. Nothing here looks at the host or at the clock: a status is the one
at the table's own date.
"""

from __future__ import annotations

import json
import os.path
import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from manylambda.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NotRequired, TypeAlias, TypedDict

    from packaging.markers import Environment
    from packaging.tags import Tag

    JSON: TypeAlias = bool | int | str | Sequence["JSON"] | Mapping[str, "JSON"] | None

    # The shapes below are those of `data/runtimes.schema.json`; a test validates the table against it.
    class _Group(TypedDict):
        sources: list[str]
        confidence: str
        note: NotRequired[str]

    # `common` holds on every architecture; the other two keys are there for the architectures of the row.
    class _Strings(_Group):
        common: list[str]
        arm64: NotRequired[list[str]]
        x86_64: NotRequired[list[str]]

    class _Versions(_Group):
        common: dict[str, str]
        arm64: NotRequired[dict[str, str]]
        x86_64: NotRequired[dict[str, str]]

    class _Namespace(TypedDict):
        ceiling: NotRequired[str]
        also: NotRequired[list[str]]
        members: NotRequired[list[str]]

    class _Levels(TypedDict):
        conservative: dict[str, _Namespace]
        current: NotRequired[dict[str, _Namespace]]

    class _SymbolVersions(_Group):
        arm64: NotRequired[_Levels]
        x86_64: NotRequired[_Levels]

    class _Glibc(_Group):
        version: str

    class _System(TypedDict):
        name: str
        glibc: _Glibc
        sonames: _Strings
        symbol_versions: _SymbolVersions

    class _Cpython(_Group):
        abi: str
        full_version: str

    class _Image(_Group):
        repository: str
        tag: str

    class _Lifecycle(_Group):
        preview: bool
        released: str
        deprecated: str | None
        block_create: str | None
        block_update: str | None

    class _Retired(_Group):
        block_update: str

    class _SystemOf(_Group):
        id: str

    class _Paths(_Group):
        paths: list[str]

    class _Runtime(TypedDict):
        architectures: list[str]
        builds: bool
        cpython: _Cpython
        image: _Image
        lifecycle: _Lifecycle
        os: _SystemOf
        preinstalled: _Versions
        sonames: _Strings
        stdlib_extensions: _Strings
        sys_path: _Paths

    class _Values(_Group):
        values: dict[str, str]

    class _Limits(_Group):
        values: dict[str, int]

    class _Directories(_Group):
        directories: list[str]

    class _ExecutionEnvironment(TypedDict):
        environment: _Values
        library_path: _Directories
        limits: _Limits

    class _Table(TypedDict):
        as_of: str
        sources: dict[str, str]
        operating_systems: dict[str, _System]
        runtimes: dict[str, _Runtime]
        retired: dict[str, _Retired]
        execution_environment: _ExecutionEnvironment


__all__ = ["Architecture", "GlibcVersion", "Target", "all_targets"]

Status = Literal["supported", "preview", "deprecated", "retired"]
SymbolLevel = Literal["conservative", "current"]


class GlibcVersion(NamedTuple):
    """A version of the GNU C library, compared as numbers."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> GlibcVersion:
        """Read `2.34`."""
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class Architecture(Enum):
    """An architecture in Lambda's own spelling."""

    X86_64 = "x86_64"
    ARM64 = "arm64"

    @property
    def machine(self) -> str:
        """The name in wheel tags, markers and ELF: `x86_64` or `aarch64`."""
        return "aarch64" if self is Architecture.ARM64 else "x86_64"

    @property
    def oci(self) -> str:
        """The name in container images: `amd64` or `arm64`."""
        return "arm64" if self is Architecture.ARM64 else "amd64"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A runtime and an architecture that Lambda has, written `python3.13-arm64`.

    `Target.parse` makes one from text; the constructor trusts its caller.
    """

    runtime: str
    architecture: Architecture

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `python3.13-arm64`; raise `RequestError` with the nearest targets as its hint."""
        runtime, _, architecture = text.partition("-")
        row = _table()["runtimes"].get(runtime)
        if row is None or architecture not in row["architectures"]:
            raise _not_a_target(text)
        return cls(runtime=runtime, architecture=Architecture(architecture))

    def __str__(self) -> str:
        return f"{self.runtime}-{self.architecture.value}"

    @property
    def machine(self) -> str:
        """The name of the machine in wheel tags, markers and ELF: `x86_64` or `aarch64`."""
        return self.architecture.machine

    @property
    def python(self) -> tuple[int, int]:
        """The minor version of CPython: `(3, 13)`."""
        return _minor(self.runtime)

    @property
    def python_full_version(self) -> str:
        """The patch level that the runtime is known to have at least, e.g. `3.11.14`."""
        return self._row["cpython"]["full_version"]

    @property
    def abi(self) -> str:
        """The ABI tag of the runtime's CPython: `cp313`."""
        return self._row["cpython"]["abi"]

    @property
    def os(self) -> str:
        """The operating system: `al2018.03`, `al2` or `al2023`."""
        return self._row["os"]["id"]

    @property
    def glibc(self) -> GlibcVersion:
        """The version of the C library, which no wheel and no shared object may exceed."""
        return GlibcVersion.parse(self._system["glibc"]["version"])

    @property
    def can_build(self) -> bool:
        """Whether packages are built for it; the others are known so that packages can be audited."""
        return self._row["builds"]

    @property
    def released(self) -> str:
        """The day the runtime became available, as an ISO date."""
        return self._row["lifecycle"]["released"]

    @property
    def deprecated(self) -> str | None:
        """The day of deprecation, past or to come, as an ISO date; None when AWS has not set one."""
        return self._row["lifecycle"]["deprecated"]

    @property
    def block_create(self) -> str | None:
        """The day from which no function can be created."""
        return self._row["lifecycle"]["block_create"]

    @property
    def block_update(self) -> str | None:
        """The day from which no function can be updated."""
        return self._row["lifecycle"]["block_update"]

    @property
    def status(self) -> Status:
        """Where the runtime stands in its life at the date of the table."""
        if self._row["lifecycle"]["preview"]:
            return "preview"
        if _reached(self.block_update):
            return "retired"
        return "deprecated" if _reached(self.deprecated) else "supported"

    def lifecycle_note(self) -> str | None:
        """Say in one line why the runtime is no choice for production, or None."""
        match self.status:
            case "supported":
                return None
            case "preview":
                return f"{self.runtime} is a preview: AWS may change it, not for production"
            case "retired":
                return f"{self.runtime} is retired: functions cannot be updated since {self.block_update}"
            case "deprecated":
                note = f"{self.runtime} is deprecated since {self.deprecated}"
                if not _reached(self.block_create):
                    return f"{note}; creating functions is blocked from {self.block_create}"
                return (
                    f"{note}; creating functions is blocked since {self.block_create}, "
                    f"updating them from {self.block_update}"
                )

    @property
    def markers(self) -> Mapping[str, str]:
        """The whole PEP 508 environment: `packaging` takes what is missing from the host, so nothing is."""
        return MappingProxyType(_markers(self))

    def marker_environment(self) -> Environment:
        """Give the same as the type that `packaging` asks for."""
        return cast("Environment", dict(_markers(self)))

    def tag_strings(self) -> tuple[str, ...]:
        """Give every wheel tag that the runtime loads, best first.

        It is what its interpreter would tell, without `linux_*`: such a wheel was built on somebody's host and
        promises nothing about the C library.
        """
        return _tag_strings(self)

    def tags(self) -> Sequence[Tag]:
        """Give the same tags as `packaging` knows them, best first."""
        return _tags(self)

    def tag_ranks(self) -> Mapping[str, int]:
        """Give the place of each tag in the order of preference, 0 the best."""
        return _tag_ranks(self)

    def rank(self, tags: Iterable[object]) -> int | None:
        """Give the place of the best of a wheel's expanded tags (text or `Tag`); None when none fits."""
        ranks = _tag_ranks(self)
        return min((ranks[tag] for tag in map(str, tags) if tag in ranks), default=None)

    @property
    def provided(self) -> frozenset[str]:
        """The sonames that the loader finds in the runtime: the system's and those of `/var/lang/lib`."""
        return _provided(self)

    @property
    def symbol_versions(self) -> Mapping[str, str]:
        """The highest version of each known namespace (`GLIBC`, `GLIBCXX`, ...) on every copy of the runtime."""
        return self.symbol_versions_at("conservative")

    def symbol_versions_at(self, level: SymbolLevel) -> Mapping[str, str]:
        """Give the ceilings of one level: `conservative`, or `current` as functions get it when created now."""
        return {
            name: namespace.get("ceiling") or max(namespace["members"], key=_numbers)
            for name, namespace in self._namespaces(level).items()
        }

    def defines(self, version: str, *, level: SymbolLevel = "conservative") -> bool | None:
        """Tell whether the runtime's libraries define a symbol version such as `GLIBCXX_3.4.30`.

        None when the table knows nothing of its namespace. GCC is answered by membership, because the versions
        of libgcc differ between machines and have gaps.
        """
        name, _, number = version.partition("_")
        namespace = self._namespaces(level).get(name)
        if namespace is None:
            return None
        if "members" in namespace:
            return number in namespace["members"]
        if not _NUMBER.fullmatch(number):
            return number in namespace.get("also", ())
        return _numbers(number) <= _numbers(namespace["ceiling"])

    @property
    def preinstalled(self) -> Mapping[str, str]:
        """The distributions of the runtime (boto3 ...), canonical name to version, at the last dump."""
        group = self._row["preinstalled"]
        return dict(sorted((group["common"] | group[self.architecture.value]).items()))

    @property
    def stdlib_extensions(self) -> frozenset[str]:
        """The extension modules of the runtime's standard library; `_tkinter` and `_uuid` are never there."""
        return _union(self._row["stdlib_extensions"], self.architecture)

    @property
    def sys_path(self) -> tuple[str, ...]:
        """The module search path of a function that sets no `PYTHONPATH`, first match wins."""
        return tuple(self._row["sys_path"]["paths"])

    @property
    def library_path(self) -> tuple[str, ...]:
        """The directories of `LD_LIBRARY_PATH`, first match wins."""
        return tuple(_table()["execution_environment"]["library_path"]["directories"])

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that a managed function of this runtime has, less those of its account."""
        return {
            **_table()["execution_environment"]["environment"]["values"],
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.runtime}",
            "LD_LIBRARY_PATH": ":".join(self.library_path),
        }

    @property
    def limits(self) -> Mapping[str, int]:
        """Lambda's limits by name, the unit at its end: `unzipped_bytes`, `timeout_seconds`; counts have none."""
        return MappingProxyType(_table()["execution_environment"]["limits"]["values"])

    @property
    def image(self) -> str:
        """The reference of the base image, by tag."""
        image = self._row["image"]
        return f"{image['repository']}:{image['tag']}"

    @property
    def sources(self) -> Mapping[str, str]:
        """Where the facts of this target come from: source id to text."""
        groups = (group for part in (self._row, self._system) for group in part.values())
        used = {name for group in groups if isinstance(group, dict) for name in group["sources"]}
        return {name: text for name, text in _table()["sources"].items() if name in used}

    def to_dict(self) -> dict[str, JSON]:
        """Give the target as `manylambda targets --format json` prints it."""
        current = self.symbol_versions_at("current")
        return {
            "target": str(self),
            "runtime": self.runtime,
            "architecture": self.architecture.value,
            "machine": self.machine,
            "python": "{}.{}".format(*self.python),
            "os": self.os,
            "glibc": str(self.glibc),
            "status": self.status,
            "deprecated": self.deprecated,
            "lifecycle": {
                "released": self.released,
                "deprecated": self.deprecated,
                "block_create": self.block_create,
                "block_update": self.block_update,
                "note": self.lifecycle_note(),
                "as_of": _table()["as_of"],
            },
            "can_build": self.can_build,
            "image": self.image,
            "tags": list(self.tag_strings()),
            "markers": dict(_markers(self)),
            "provided": sorted(self.provided),
            "symbol_versions": {"conservative": dict(self.symbol_versions), "current": dict(current)},
            "preinstalled": dict(self.preinstalled),
            "sources": dict(self.sources),
        }

    @property
    def _row(self) -> _Runtime:
        return _table()["runtimes"][self.runtime]

    @property
    def _system(self) -> _System:
        return _table()["operating_systems"][self._row["os"]["id"]]

    def _namespaces(self, level: SymbolLevel) -> dict[str, _Namespace]:
        levels = self._system["symbol_versions"][self.architecture.value]
        # Where no newer level was ever seen, the one there is holds for both.
        return levels["conservative"] if level == "conservative" else levels.get("current", levels["conservative"])


def all_targets() -> tuple[Target, ...]:
    """Give every target: those that packages are built for first, then by Python version and architecture."""
    targets = (
        Target(runtime=runtime, architecture=Architecture(architecture))
        for runtime, row in _table()["runtimes"].items()
        for architecture in row["architectures"]
    )
    return tuple(sorted(targets, key=lambda target: (not target.can_build, target.python, target.architecture.value)))


@lru_cache(maxsize=1)
def _table() -> _Table:
    path = os.path.join(os.path.dirname(__file__), "data", "runtimes.json")  # noqa: PTH118, PTH120 - pathlib costs more than the table
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
        return cast("_Table", json.load(file))


_NUMBER = re.compile(r"\d+(\.\d+)*")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _minor(runtime: str) -> tuple[int, int]:
    major, minor = runtime.removeprefix("python").split(".")
    return int(major), int(minor)


def _reached(day: str | None) -> bool:
    return day is not None and day <= _table()["as_of"]


def _union(group: _Strings, architecture: Architecture) -> frozenset[str]:
    return frozenset(group["common"]).union(group[architecture.value])


@lru_cache(maxsize=32)
def _provided(target: Target) -> frozenset[str]:
    system = _union(target._system["sonames"], target.architecture)
    return system | _union(target._row["sonames"], target.architecture)


@lru_cache(maxsize=32)
def _markers(target: Target) -> dict[str, str]:
    full_version = target.python_full_version
    return {
        "implementation_name": "cpython",
        "implementation_version": full_version,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        # The kernel below a function changes without notice; no package may depend on it.
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full_version,
        "python_version": "{}.{}".format(*target.python),
        "sys_platform": "linux",
    }


# PEP 600: the perennial tags that the older names stand for.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def _platforms(target: Target) -> list[str]:
    # manylinux1 and 2010 were never defined for aarch64, whose first baseline is glibc 2.17.
    oldest = 17 if target.architecture is Architecture.ARM64 else 5
    platforms = []
    for minor in range(target.glibc.minor, oldest - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{target.machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{target.machine}")
    return platforms


@lru_cache(maxsize=32)
def _tag_strings(target: Target) -> tuple[str, ...]:
    # The order is that of CPython's installers, `packaging.tags.cpython_tags` and `compatible_tags`.
    major, minor = target.python
    current = f"cp{major}{minor}"
    generic = [f"py{major}{minor}", f"py{major}", *(f"py{major}{older}" for older in range(minor - 1, -1, -1))]
    native = [f"{current}-{target.abi}", f"{current}-abi3", f"{current}-none"]
    native += [f"cp{major}{older}-abi3" for older in range(minor - 1, 1, -1)]
    native += [f"{interpreter}-none" for interpreter in generic]
    platforms = _platforms(target)
    return (
        *(f"{prefix}-{platform}" for prefix in native for platform in platforms),
        f"{current}-none-any",
        *(f"{interpreter}-none-any" for interpreter in generic),
    )


@lru_cache(maxsize=32)
def _tags(target: Target) -> tuple[Tag, ...]:
    from packaging.tags import Tag

    return tuple(Tag(*text.split("-")) for text in _tag_strings(target))


@lru_cache(maxsize=32)
def _tag_ranks(target: Target) -> Mapping[str, int]:
    return MappingProxyType({text: rank for rank, text in enumerate(_tag_strings(target))})


# What other tools call Lambda's two architectures.
_ARCHITECTURES = {
    "x86_64": "x86_64",
    "x86-64": "x86_64",
    "amd64": "x86_64",
    "x64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
    "armv8": "arm64",
}
_LAMBDA_NAMES = frozenset(architecture.value for architecture in Architecture)
_RUNTIME = re.compile(r"(?:python|cpython|py|cp)?[-_. ]?(?P<major>\d)\.?(?P<minor>\d+)(?:\.\d+)?(?P<free>t?)")


def _not_a_target(text: str) -> RequestError:
    """Explain why the text names no target, with the nearest that exist."""
    if not text:
        return RequestError("the target is empty", hint="write it as `python3.13-arm64`")
    table = _table()
    folded = text.strip().lower()
    head, architecture = _split(folded)
    match = _RUNTIME.fullmatch(head)
    runtime = f"python{match['major']}.{match['minor']}" if match else head
    row = table["runtimes"].get(runtime)
    if match and match["free"]:
        hint = "Lambda has no free-threaded Python" + (f"; use {_choices(runtime, architecture)}" if row else "")
        return RequestError(f"`{text}` is not a target", hint=hint)
    if runtime in table["retired"]:
        newest = max(target.python for target in all_targets() if target.status == "supported")
        successor = "python{}.{}".format(*newest)
        return RequestError(
            f"`{runtime}` is retired: functions cannot be updated since {table['retired'][runtime]['block_update']}",
            hint=f"move to {_choices(successor, architecture)}",
        )
    if row is None:
        return RequestError(f"`{text}` is not a target", hint=_nearest(folded, is_runtime=match is not None))
    choices = _choices(runtime, architecture)
    spelled, _, given = text.partition("-")
    if spelled != runtime or text != folded:
        return RequestError(f"`{text}` is not a target", hint=f"did you mean {choices}?")
    if not given:
        return RequestError(f"`{text}` names no architecture", hint=f"write {choices}")
    if given in _LAMBDA_NAMES:
        return RequestError(f"`{runtime}` does not exist on `{given}`", hint=f"write {choices}")
    return RequestError(f"`{given}` is not an architecture of Lambda: `{text}`", hint=f"write {choices}")


def _split(text: str) -> tuple[str, str | None]:
    """Part what stands for the runtime from what stands for the architecture, however they were joined."""
    for name in sorted(_ARCHITECTURES, key=len, reverse=True):
        if text.endswith(name):
            return text.removesuffix(name).rstrip("-_:/. "), _ARCHITECTURES[name]
    runtime, _, rest = text.partition("-")
    from difflib import get_close_matches

    near = {_ARCHITECTURES[name] for name in get_close_matches(rest, _ARCHITECTURES, cutoff=0.75)}
    return (runtime if rest else text), (near.pop() if len(near) == 1 else None)


def _choices(runtime: str, architecture: str | None) -> str:
    offered = _table()["runtimes"][runtime]["architectures"]
    wanted = [architecture] if architecture in offered else offered
    return " or ".join(f"`{runtime}-{name}`" for name in wanted)


def _nearest(text: str, *, is_runtime: bool) -> str:
    from difflib import get_close_matches

    known = [target for target in all_targets() if target.can_build]
    if not is_runtime:
        names = [str(target) for target in all_targets()]
        if near := get_close_matches(text, names, n=2, cutoff=0.75):
            return "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
    return f"known are `{known[0].runtime}` to `{known[-1].runtime}`, each with `-arm64` or `-x86_64`"
