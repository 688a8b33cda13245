"""Rules about native files: the loader of the runtime must be able to load them, and must find what they need.

A file that fails to be a file of the target at all (another machine, system, C library or interpreter) is told once, by
the first of the rules it breaks; what it would need besides is not asked.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from posixpath import basename, dirname
from typing import TYPE_CHECKING, Final

from manylambda.audits import PROJECT, Finding, Severity
from manylambda.elf import ElfFile, ForeignFile, Malformed, symbol_table
from manylambda.linkage import Outcome, Scopes, fits, imports_tag, is_loadable, module_file, musl_sign
from manylambda.rules.by_hand import ByHand
from manylambda.rules.cures import cures
from manylambda.rules.requirements import required_name
from manylambda.tree import open_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.audits import Subject
    from manylambda.elf import NativeFile, SymbolTable
    from manylambda.linkage import Link, VersionFault
    from manylambda.target import GlibcVersion

_EXPLAINED_SIZE: Final = 16 << 20
_EXPLAINED_FILES: Final = 3


def wrong_machine(subject: Subject) -> Iterator[Finding]:
    """Find ELF files of another processor, and images for one."""
    machine = subject.target.machine
    yield from _foreign_image(subject)
    for path, native in subject.natives.items():
        if not isinstance(native, ElfFile) or not native.is_loaded_by_linux or fits(native, subject.target):
            continue
        found = native.machine if native.bits == 64 else f"{native.machine} ({native.bits} bit)"
        severity = _stranger(subject, path, native)
        message = f"is for {found}, the target is {machine}"
        yield _finding(subject, "wrong-machine", severity, path, message, _install_hint(subject, severity))


def _foreign_image(subject: Subject) -> Iterator[Finding]:
    if subject.image is None:
        return
    config, wanted = subject.image.image.config, subject.target.architecture.oci
    if (config.architecture or wanted, config.os or "linux") != (wanted, "linux"):
        yield Finding(
            rule="wrong-machine",
            severity=Severity.ERROR,
            message=f"the image is for `{config.os}/{config.architecture}`, the target is `linux/{wanted}`",
            hint=f"build it with `--platform linux/{wanted}`, or give the function the other architecture",
        )


def foreign_binary(subject: Subject) -> Iterator[Finding]:
    """Find Mach-O and PE files, and files that are no usable ELF file although they should be."""
    for path, native in subject.natives.items():
        if isinstance(native, ForeignFile):
            system = "macOS" if native.format == "Mach-O" else "Windows"
            severity = _stranger(subject, path, native)
            message = f"is a {native.format} file ({', '.join(native.machines)}) for {system}"
            yield _finding(subject, "foreign-binary", severity, path, message, _install_hint(subject, severity))
        elif isinstance(native, Malformed):
            yield _finding(
                subject,
                "foreign-binary",
                Severity.ERROR if module_file(basename(path)) or ".so" in basename(path) else Severity.NOTE,
                path,
                f"cannot be loaded: {native.reason}",
                "install the distribution again, or build the package again",
            )


def musl_linked(subject: Subject) -> Iterator[Finding]:
    """Find files that were linked against musl, the C library of Alpine Linux."""
    for path, native in subject.natives.items():
        if isinstance(native, ElfFile) and fits(native, subject.target) and (sign := musl_sign(native)):
            yield _finding(
                subject,
                "musl-linked",
                _unless_beside(subject, path),
                path,
                f"needs `{sign}`: it was built for musl (Alpine), the runtime has glibc",
                f"install the manylinux wheel: `manylambda build -t {subject.target}` does",
            )


def abi_tag_mismatch(subject: Subject) -> Iterator[Finding]:
    """Find extension modules that the target's interpreter does not look for, by their file name."""
    wanted = "cpython-{}{}".format(*subject.target.python)
    for path, native in subject.natives.items():
        if not isinstance(native, ElfFile) or not fits(native, subject.target) or musl_sign(native):
            continue
        module = module_file(basename(path))
        if module is None or imports_tag(module.tag, subject.target):
            continue
        severity = _unless_beside(subject, path)
        name = _module_name(subject, path)
        yield _finding(
            subject,
            "abi-tag-mismatch",
            severity,
            path,
            f"is built for `{module.tag}`, the runtime looks for `{wanted}`: "
            + (
                f"the module `{name}` will be missing"
                if severity is Severity.ERROR
                else f"`{name}` is had from elsewhere"
            ),
            f"install the wheels for the target: `manylambda build -t {subject.target}` does"
            if severity is Severity.ERROR
            else "leave it out to save its size",
        )


def glibc_too_new(subject: Subject) -> Iterator[Finding]:
    """Find files that need symbols of a newer glibc than the runtime, or the image, has."""
    explain = _Explainer(subject)
    whose, glibc = ("runtime", subject.target.glibc) if subject.system is None else ("image", subject.system.glibc)
    for path, faults in _faults_by_file(subject, glibc=True).items():
        versions = sorted((fault.version for fault in faults), key=_version_key)
        why = explain(path, versions)
        yield _finding(
            subject,
            "glibc-too-new",
            _severity(subject, path),
            path,
            f"needs `{versions[-1]}`{why}, the {whose} has glibc {glibc}",
            _glibc_hint(subject, path, versions[-1], glibc),
        )


def symbol_version_missing(subject: Subject) -> Iterator[Finding]:
    """Find files that need a symbol version which the library that gets loaded does not define."""
    explain = _Explainer(subject)
    for path, faults in _faults_by_file(subject, glibc=False).items():
        by_library: dict[tuple[str, str | None], list[str]] = {}
        for fault in faults:
            by_library.setdefault((fault.soname, fault.provider), []).append(fault.version)
        for (soname, provider), versions in by_library.items():
            versions.sort(key=_version_key)
            listed = _listed([f"`{version}`" for version in reversed(versions)], 3)
            why = explain(path, versions, soname)
            if provider is not None:
                yield _finding(
                    subject,
                    "symbol-version-missing",
                    _severity(subject, path),
                    path,
                    f"needs {listed} of `{soname}`{why}, which the bundled `{subject.shown(provider)}` does not define",
                    "the two come from different builds: install both from one release, or remove the bundled library",
                )
                continue
            if subject.system is not None:
                yield _finding(
                    subject,
                    "symbol-version-missing",
                    _severity(subject, path),
                    path,
                    f"needs {listed} of `{soname}`{why}, which the image's does not define",
                    f"put a newer `{soname}` into the image, or choose an older release of the distribution",
                )
                continue
            lately = all(subject.target.defines(version, level="current") is not False for version in versions)
            yield _finding(
                subject,
                "symbol-version-missing",
                _severity(subject, path, worst=Severity.WARNING if lately else Severity.ERROR),
                path,
                f"needs {listed} of `{soname}`{why}, which "
                + ("only newer copies of the runtime define" if lately else "the runtime's does not define"),
                "keep the function's runtime version on automatic updates"
                if lately
                else "choose an older release of the distribution, or a newer runtime",
            )


def library_missing(subject: Subject) -> Iterator[Finding]:
    """Find needed libraries that neither the runtime nor the package has, or that no search path leads to."""
    preloading = _Preloading(subject)
    missing: dict[tuple[str | None, str, Severity], list[Link]] = {}
    for link in subject.linkage.links:
        if link.outcome is Outcome.MISSING:
            severity = _severity(subject, link.chain[0], link.needer)
        elif link.outcome is Outcome.UNREACHED:
            severity = Severity.WARNING if preloading.may_bring(link) else _severity(subject, link.chain[0])
        else:
            continue
        missing.setdefault((subject.distribution_of(link.needer), link.soname, severity), []).append(link)
    for (distribution, soname, severity), links in missing.items():
        # A module that an import names tells more than a plug-in that nobody asked for.
        first = min(links, key=lambda link: (module_file(basename(link.chain[0])) is None, len(link.chain), link.chain))
        others = len({link.needer for link in links}) - 1
        chain = " -> ".join(subject.shown(path) for path in first.chain)
        if first.outcome is Outcome.MISSING:
            message = f"needs `{soname}`, which " + (
                "neither the runtime nor the package has"
                if subject.system is None
                else "the image does not have where its loader looks"
            )
            hint = _dispensable(subject, first.chain[0]) or _cure(subject, distribution, soname)
        else:
            assert first.provider is not None
            message = (
                f"needs `{soname}`, which lies in `{subject.shown(first.provider)}`, where the loader does not look"
            )
            hint = (
                "it loads only if something loaded that library before, as some do: `manylambda trial` proves it"
                if severity is Severity.WARNING
                else "put the library into the folder `lib/` of the package, which the loader searches"
            )
        if len(first.chain) > 1:
            message += f" (loaded by {chain})"
        if others:
            message += f"; {others} more file{'s' * (others > 1)} of it need{'s' * (others == 1)} it too"
        yield _finding(subject, "library-missing", severity, first.needer, message, hint)


def library_shadowed(subject: Subject) -> Iterator[Finding]:
    """Find bundled libraries that lose to the runtime's, or the image's, copy of the same name."""
    told: set[str] = set()
    whose = "runtime" if subject.system is None else "image"
    for link in subject.linkage.links:
        if link.shadowed is None or link.shadowed in told:
            continue
        told.add(link.shadowed)
        yield _finding(
            subject,
            "library-shadowed",
            Severity.WARNING,
            link.shadowed,
            f"is not what `{subject.shown(link.needer)}` gets: the {whose}'s own `{link.soname}` comes first",
            f"leave it out, or rename it as `auditwheel repair` does; only DT_RPATH comes before the {whose}'s folders",
        )


def symbol_undefined(subject: Subject) -> Iterator[Finding]:
    """Find files that need a symbol which nothing they are loaded with defines.

    CPython binds every symbol when it loads a module (RTLD_NOW), so one that is never called fails the import as well.
    """
    suspects = _suspects(subject)
    if not suspects:
        return
    from manylambda.audits.symbols import interpreters_with

    process = _Process(subject)
    for path, names in suspects.items():
        unresolved = _unresolved(process, path, names)
        api = {name: minors for name in unresolved if (minors := interpreters_with(name))}
        if api:
            yield _api_finding(process, path, api)
        if others := sorted(unresolved.difference(api)):
            yield _undefined_finding(process, path, others)


def cpu_level_too_high(subject: Subject) -> Iterator[Finding]:
    """Find files marked as needing x86-64-v3 or v4."""
    for path, native in subject.natives.items():
        if isinstance(native, ElfFile) and native.isa_level >= 3 and is_loadable(path, native, subject.target):
            certain = native.isa_level >= 4
            yield _finding(
                subject,
                "cpu-level-too-high",
                _severity(subject, path, worst=Severity.ERROR if certain else Severity.WARNING),
                path,
                f"needs a processor of level x86-64-v{native.isa_level}"
                + (", which Lambda does not promise" if certain else "; Lambda offers AVX2 but promises no level"),
                "choose a build for x86-64-v2 or older",
            )


def executable_stack(subject: Subject) -> Iterator[Finding]:
    """Find shared objects that ask for an executable stack."""
    for path, native in _loaded(subject):
        if native.executable_stack:
            yield _finding(
                subject,
                "executable-stack",
                Severity.WARNING,
                path,
                "asks for an executable stack, which hardened systems and glibc 2.41 and newer refuse",
                "build it with `-Wl,-z,noexecstack`",
            )


def text_relocations(subject: Subject) -> Iterator[Finding]:
    """Find shared objects whose code the loader would have to change while it loads them."""
    for path, native in _loaded(subject):
        if native.text_relocations:
            yield _finding(
                subject,
                "text-relocations",
                Severity.WARNING,
                path,
                "has relocations in its code, which the loader must make writable: hardened systems refuse that",
                "build all of it with `-fPIC`, and link it with `-Wl,-z,text`, which tells what is not",
            )


def _loaded(subject: Subject) -> Iterator[tuple[str, ElfFile]]:
    """Yield the shared objects that something can load."""
    for path, native in subject.natives.items():
        if isinstance(native, ElfFile) and native.kind == "shared" and is_loadable(path, native, subject.target):
            yield path, native


def _suspects(subject: Subject) -> dict[str, set[str]]:
    """Return the names that neither the file's own package nor the runtime defines, as far as facts tell.

    For most packages that takes one look at the facts and at one table.
    """
    files = [(path, native) for path, native in _loaded(subject) if native.open_symbols]
    if not files:
        return {}
    from manylambda.audits.symbols import interpreter_names, knows, library_names, process_names

    target = subject.target
    if not knows(target):
        return {}
    left = set(" ".join([native.open_symbols for _, native in files]).split()) - interpreter_names(target)
    if left:
        left -= process_names(target)
    found: dict[str, set[str]] = {}
    for path, native in files if left else ():
        names = left.intersection(native.open_symbols.split())
        for soname in native.needed if names else ():
            if soname in target.provided:
                names.difference_update(library_names(soname, target) or ())
        if names:
            found[path] = names
    return found


def _unresolved(process: _Process, path: str, names: set[str]) -> set[str]:
    """Return which of `names` nothing defines in any process that loads the file.

    Where part of what it is loaded with is not known (a library that is missing, one of the runtime without a table)
    only names of CPython's API are certain: no library defines those.
    """
    from manylambda.audits.symbols import interpreters_with, library_names

    scope = process.scopes.files(path)
    if not scope:
        return set()
    left = set(names)
    known = True
    for link in process.scopes.outside(scope):
        there = None
        if link.outcome is Outcome.PROVIDED:
            own = process.subject.system is not None
            there = process.of_image if own else library_names(link.soname, process.subject.target)
        known = known and there is not None
        left.difference_update(there or ())
    if not known:
        left = {name for name in left if interpreters_with(name)}
    table = _symbols_of(process.subject, path, relocations=True) if left else None
    if table is None:
        return set()
    left.intersection_update(symbol.name for symbol in table.undefined())
    for other in sorted(scope - {path}) if left else ():
        defined = process.defined(other)
        if defined is None:
            return {name for name in left if interpreters_with(name)}
        left -= defined
    return left


def _symbols_of(subject: Subject, path: str, *, relocations: bool = False) -> SymbolTable | None:
    entry = subject.entries.get(path)
    if entry is None:
        return None
    with open_content(entry.content) as stream:
        return symbol_table(stream, relocations=relocations)


class _Process:
    """What files find in the process that loads them; each file is read once, and only when asked for."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.scopes = Scopes(subject.linkage)
        self.by_hand = ByHand(subject)
        self._defined: dict[str, frozenset[str] | None] = {}

    @cached_property
    def of_image(self) -> frozenset[str] | None:
        """The names that any of the image's libraries defines; None where some cannot be read."""
        libraries, system = self.subject.libraries, self.subject.system
        return None if libraries is None or system is None else libraries.defined(system)

    def defined(self, path: str) -> frozenset[str] | None:
        """Return the names that a file of the package defines; None where they cannot be read."""
        if path not in self._defined:
            table = _symbols_of(self.subject, path)
            self._defined[path] = None if table is None else table.defined
        return self._defined[path]


def _api_finding(process: _Process, path: str, names: Mapping[str, Sequence[tuple[int, int]]]) -> Finding:
    """Tell of names that another CPython than the target's exports."""
    subject = process.subject
    python = subject.target.python
    later = [min(newer) for minors in names.values() if (newer := [minor for minor in minors if minor > python])]
    earlier = [max(minors) for minors in names.values() if max(minors) < python]
    told = [f"last: {_dotted(min(earlier))}"] if earlier else []
    told += [f"first: {_dotted(max(later))}"] if later else []
    # What only newer versions have may have come with a patch release too, if it is private: no table has them all.
    backported = not earlier and all(name.startswith("_") for name in names)
    if earlier:
        hint = f"install the wheel for this version: `manylambda build -t {subject.target}` does"
    else:
        hint = f"it was built for CPython {_dotted(max(later))} or newer: choose a release with a wheel for"
        hint += f" {_dotted(python)}, or a newer runtime"
    return _finding(
        subject,
        "symbol-undefined",
        _undefined_severity(process, path, worst=Severity.WARNING if backported else Severity.ERROR),
        path,
        f"needs {_quoted(sorted(names))} of CPython, which {_dotted(python)} does not export ({'; '.join(told)})",
        hint,
    )


def _undefined_finding(process: _Process, path: str, names: Sequence[str]) -> Finding:
    from manylambda.audits.symbols import library_with

    subject = process.subject
    given = _may_be_given(process, path, names)
    library = library_with(names[0])
    message = f"needs {_quoted(names)}, which none of the libraries it loads defines"
    if given:
        hint = "it loads only if something loaded a library that does before: `manylambda trial` proves it"
    elif library is not None:
        message = f"needs {_quoted(names)} of `{library}`, which it does not load"
        hint = f"it was linked without `{library}`: choose another release, or link it again"
    elif names[0].lstrip("_").startswith("Py"):
        hint = "it may be built for a debug or free-threaded CPython: install the wheel for the target"
    else:
        hint = "its parts come from different builds, or it was linked without a library: choose another release"
    worst = Severity.WARNING if given else Severity.ERROR
    return _finding(subject, "symbol-undefined", _undefined_severity(process, path, worst=worst), path, message, hint)


def _undefined_severity(process: _Process, path: str, *, worst: Severity) -> Severity:
    """Return `worst` for what an import loads; a plug-in may get its symbols from whatever loads it."""
    subject = process.subject
    imported = any(_is_imported(process, root) for root in sorted(process.scopes.roots(path)))
    return _severity(subject, path, worst=worst if imported else Severity.NOTE)


def _is_imported(process: _Process, path: str) -> bool:
    """Whether a file is an extension module: a bare `name.so` may be a plug-in of anything."""
    module = module_file(basename(path))
    if module is None:
        return False
    return module.tag != "" or f"PyInit_{module.module}" in (process.defined(path) or ())


def _may_be_given(process: _Process, path: str, names: Sequence[str]) -> bool:
    """Whether a library that Python code loads by hand may have made its symbols known to all (RTLD_GLOBAL)."""
    subject = process.subject
    family = _family(subject, path)
    if not process.by_hand.asks_for_global_symbols(family):
        return False
    # With a library its own ones are made known, and with the flags of the process whatever is imported.
    others = {other for other, _ in _loaded(subject) if (subject.distribution_of(other) or PROJECT) in family}
    waiting = [other for other in others if _is_imported(process, other) or process.by_hand.may_load(family, other)]
    libraries: dict[str, list[str]] = {}
    for link in subject.linkage.links:
        if link.provider is not None and link.outcome is Outcome.BUNDLED:
            libraries.setdefault(link.needer, []).append(link.provider)
    left = set(names)
    seen = {path, *waiting}
    while left and waiting:
        other = waiting.pop()
        left -= (process.defined(other) or frozenset()) if other != path else frozenset()
        new = [library for library in libraries.get(other, ()) if library not in seen]
        seen.update(new)
        waiting += new
    return not left


def _dotted(minor: tuple[int, int]) -> str:
    return f"{minor[0]}.{minor[1]}"


def _quoted(names: Sequence[str]) -> str:
    return _listed([f"`{name}`" for name in names], 3)


def _finding(subject: Subject, rule: str, severity: Severity, path: str, *told: str) -> Finding:
    message, hint = told
    return Finding(
        rule=rule,
        severity=severity,
        path=subject.shown(path),
        distribution=subject.distribution_of(path),
        message=message,
        hint=hint,
    )


def _install_hint(subject: Subject, severity: Severity) -> str:
    if severity is Severity.NOTE:
        return "it is not used on Lambda: leave it out to save its size"
    return f"install the wheels for the target: `manylambda build -t {subject.target}` does"


def _stranger(subject: Subject, path: str, native: NativeFile) -> Severity:
    """Say how much a file of another machine or system matters.

    Some distributions bring programs and libraries for several systems and choose at run time. So such a file is only
    an error where it is there to be imported, or where its distribution is not for the target at all.
    """
    module = module_file(basename(path))
    origin = subject.distribution_of(path)
    distribution = subject.by_name.get(origin) if origin is not None else None
    if distribution is not None and subject.target.rank(distribution.tags) is not None:
        # The wheel says that it is for the target; a module of another system in it is there for that system.
        if module is None or module.suffix == ".pyd":
            return Severity.NOTE
        return Severity.WARNING if all(tag.endswith("-any") for tag in distribution.tags) else Severity.ERROR
    if module is not None:
        return _unless_beside(subject, path)
    if origin is not None and _has_own_natives(subject, origin):
        return Severity.NOTE
    certain = isinstance(native, ElfFile) and native.kind == "shared"
    return Severity.ERROR if certain or (distribution is not None and distribution.tags) else Severity.WARNING


def _has_own_natives(subject: Subject, origin: str) -> bool:
    return any(
        fits(native, subject.target) and subject.distribution_of(path) == origin
        for path, native in subject.natives.items()
    )


def _unless_beside(subject: Subject, path: str) -> Severity:
    """Return a warning where the module can be had from another file in the same folder, else an error."""
    module = module_file(basename(path))
    if module is None:
        return Severity.ERROR
    folder = dirname(path)
    if f"{folder}/{module.module}.py" in subject.entries:
        return Severity.WARNING
    for other, native in subject.natives.items():
        beside = module_file(basename(other)) if dirname(other) == folder else None
        if beside is not None and beside.module == module.module and is_loadable(other, native, subject.target):
            return Severity.WARNING
    return Severity.ERROR


def _severity(subject: Subject, *paths: str, worst: Severity = Severity.ERROR) -> Severity:
    """Return `worst`, or less where one of the files is a program, or one that its distribution can do without."""
    if any(_dispensable(subject, path) is not None for path in paths):
        return Severity.NOTE
    natives = (subject.natives.get(path) for path in paths)  # a library of an image's system is none of them
    if any(isinstance(native, ElfFile) and native.kind == "executable" for native in natives):
        return Severity.WARNING
    return worst


def _dispensable(subject: Subject, path: str) -> str | None:
    """Say why the distribution of a file can do without it, where the table knows."""
    origin, shown = subject.distribution_of(path), subject.shown(path)
    for one in cures()["optional"]:
        if fnmatchcase(origin or "", one["distribution"]) and fnmatchcase(shown, f"*{one['path']}"):
            return one["why"]
    return None


def _module_name(subject: Subject, path: str) -> str:
    module = module_file(basename(path))
    assert module is not None
    folder = dirname(subject.shown(path)).removeprefix("/opt/")
    for site in subject.site_folders(in_layer=True)[::-1]:
        folder = f"{folder}/".removeprefix(site).rstrip("/")
    return f"{folder}/{module.module}".lstrip("/").replace("/", ".")


def _faults_by_file(subject: Subject, *, glibc: bool) -> Mapping[str, list[VersionFault]]:
    found: dict[str, list[VersionFault]] = {}
    for fault in subject.linkage.version_faults:
        if (fault.provider is None and fault.version.startswith("GLIBC_")) is glibc:
            found.setdefault(fault.needer, []).append(fault)
    return found


class _Explainer:
    """Says which symbols pull a version in, of the first few files: each has to be read for it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._paths: set[str] = set()

    def __call__(self, path: str, versions: Sequence[str], soname: str | None = None) -> str:
        entry = self._subject.entries.get(path)
        if entry is None or entry.content.size > _EXPLAINED_SIZE:
            return ""
        self._paths.add(path)
        if len(self._paths) > _EXPLAINED_FILES:
            return ""
        table = _symbols_of(self._subject, path)
        names = {
            one.name
            for one in table or ()
            if not one.defined and one.version in versions and soname in {None, one.library}
        }
        return f" (for {_quoted(sorted(names))})" if names else ""


def _version_key(version: str) -> tuple[str, tuple[int, ...], str]:
    namespace, _, number = version.partition("_")
    parts = number.split(".")
    return namespace, tuple(int(part) if part.isdecimal() and len(part) < 10 else 1 << 30 for part in parts), number


def _listed(items: Sequence[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def _glibc_hint(subject: Subject, path: str, version: str, glibc: GlibcVersion) -> str:
    target = subject.target
    if subject.distribution_of(path) is None:
        return f"it was built on a newer system: build it for {target.machine} with glibc {glibc} or older"
    platform = f"manylinux_{glibc.major}_{glibc.minor}"
    if subject.system is not None:
        return f"choose a release with a wheel for {platform} or older, or a newer base"
    hint = f"choose a release with a wheel for {platform} or older: `manylambda lock -t {target}` does"
    newer = target.glibc < (2, 34) and _version_key(version)[1] <= (2, 34)
    return hint + ("; or use python3.12 or newer, which has glibc 2.34" if newer else "")


class _Preloading:
    """What may be loaded already when a file that needs it is loaded.

    Wheels that share libraries rely on it: torchvision imports torch first, CUDA wheels call `ctypes.CDLL`. The sign is
    a library that another file of the distribution, or of one it requires, does reach, or Python code there that loads
    it by hand.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._by_hand = ByHand(subject)
        self._reached: frozenset[str | None] | None = None

    def may_bring(self, link: Link) -> bool:
        """Whether there is a sign of it for the library of `link`, which lies where the loader does not look."""
        assert link.provider is not None
        family = _family(self._subject, link.needer)
        if (self._subject.distribution_of(link.provider) or PROJECT) not in family:
            return False
        if self._reached is None:
            links = self._subject.linkage.links
            self._reached = frozenset(one.provider for one in links if one.outcome is Outcome.BUNDLED)
        return link.provider in self._reached or self._by_hand.may_load(family, link.provider)


def _family(subject: Subject, path: str) -> frozenset[str]:
    """Return the distribution of a file and those that it requires."""
    own = subject.distribution_of(path)
    return frozenset({own or PROJECT}) | (_requirements(subject, own) if own is not None else frozenset())


def _requirements(subject: Subject, name: str) -> frozenset[str]:
    """Return the names that a distribution requires, directly or not, whatever the markers say."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        distribution = subject.by_name.get(waiting.pop())
        for text in distribution.requires if distribution is not None else ():
            required = required_name(text)
            if required is not None and required not in found:
                found.add(required)
                waiting.append(required)
    return frozenset(found)


def _cure(subject: Subject, distribution: str | None, soname: str) -> str:
    known = cures()["distributions"].get(distribution or "")
    if subject.system is not None:
        return (
            known or f"install the package of the base's system that has `{soname}`, or choose a build that brings it"
        )
    known = known or cures()["libraries"].get(soname)
    return (
        known or f"choose a build that brings `{soname}`, or put it into the folder `lib/` of the package or of a layer"
    )
