"""Stand-ins for sdists: uv chooses among them, so that it never builds an sdist to learn what it depends on.

uv would build with the network, with the user's home and logins, for this host and not for the target. What it is shown
instead is a wheel of nothing but metadata. A stand-in first names a version only, so uv may choose it as if it depended
on nothing; the sdists of what uv chooses are read, their stand-ins say what these say, and uv is asked again. So one
is read, or built, only where nothing but its own dependencies can still keep it from being taken. In the lock it takes
the place of its stand-in.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from manylambda.errors import NotCached, PackagingError, RequestError, ResolutionError
from manylambda.locks import explain
from manylambda.locks.settings import newest_upload
from manylambda.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Package, PackageArchive, PackageWheel, Pylock
    from packaging.version import Version

    from manylambda.fetch import Cache
    from manylambda.locks.index import IndexClient, IndexFile
    from manylambda.locks.model import ResolveOptions, SdistFacts, SdistMetadata
    from manylambda.locks.requirements import RequirementLine
    from manylambda.locks.settings import IndexSettings
    from manylambda.progress import Progress
    from manylambda.target import Target

MOST_READ: Final = 8
"""How many versions of one name are read for a target; the newest that fits is what is wanted, not the last resort."""
MOST_FAILED: Final = 3
"""How many of them may fail to build: what one version lacks here, most others lack too."""

# A wheel's build number: higher than any other, so that uv takes no real wheel of the version, which does not fit.
_BUILD: Final = "999999999standin"
_KIND: Final = "sdists"
_RECIPE: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where sdists come from, the same for every target."""

    client: IndexClient
    settings: IndexSettings
    options: ResolveOptions
    project: Path
    pinned: Mapping[str, frozenset[str]]
    """By name, the versions that a requirement or an earlier lock names exactly: uv takes these though yanked."""
    read: SdistMetadata | None
    progress: Progress = SILENT


class StandIns:
    """The sdists that uv may choose for one target, and what is known of them. Not for several threads."""

    def __init__(self, sources: Sources, target: Target, platform: str) -> None:
        """`platform` is the platform tag that uv likes best when it is asked for `target`."""
        python = f"cp{target.python[0]}{target.python[1]}"
        self._tag = f"{python}-{python}-{platform}"
        self._sources = sources
        self._target = target
        self._sdists: dict[str, dict[Version, IndexFile]] = {}
        self._facts: dict[tuple[str, Version], SdistFacts] = {}
        self._failed: dict[tuple[str, Version], PackagingError] = {}
        self._alone: dict[str, list[Version]] = {}
        self._archives: dict[str, PackageArchive] = {}
        self._replaced: set[str] = set()
        self._addresses: dict[str, str] = {}
        self._overridden: set[str] = set()
        self._rewritten: dict[str, str] = {}
        self.names: frozenset[str] = frozenset()
        """Those of which uv may choose sdists."""
        self.certain: frozenset[str] = frozenset()
        """Those of `names` without which there is no solution."""
        self.folders: frozenset[str] = frozenset()
        """Folders of the user's own that other such folders depend on."""
        self.overrides: tuple[str, ...] = ()
        self.unsourced: frozenset[str] = frozenset()
        """Names that uv is not to look for in `[tool.uv.sources]`: a constraint says where they are."""

    @property
    def error(self) -> PackagingError | None:
        """Why the first sdist that could not be read was passed over."""
        return next(iter(self._failed.values()), None)

    @property
    def ended(self) -> tuple[str, ...]:
        """The names of which no more versions are read."""
        return tuple(sorted(name for name in self._sdists if self._count(self._facts, name) >= MOST_READ))

    # Sdists of indexes

    def offer(self, name: str) -> bool:
        """Let uv choose sdists of a name; False when there are none that would do."""
        if name not in self._sdists:
            self._sdists[name] = self._candidates(name)
            if name in dict(self._sources.settings.assigned):
                self._alone[name] = self._in_order(name)
        if self._visible(name):
            self.names |= {name}
        return name in self.names

    def offer_older(self, name: str) -> bool:
        """Let uv have the next version, where it can be shown one at a time only; False when there is none."""
        if name not in self._alone or name not in self.names or len(self._alone[name]) < 2:
            return False
        passed = self._alone[name].pop(0)
        self._sources.progress.detail(f"`{name}=={passed}` does not go with the rest: trying {self._alone[name][0]}")
        return True

    def has(self, name: str, version: str) -> bool:
        """Whether uv is shown a stand-in for a version."""
        return name in self.names and any(explain.same_version(version, str(one)) for one in self._visible(name))

    def shown(self, names: Collection[str]) -> Iterator[str]:
        """Yield lines of a constraints file that let uv choose the sdists of `names`."""
        for name in sorted(names):
            versions = self._visible(name)
            if name in self._alone and versions:
                # uv looks for it in the index it is told to take it from, and nowhere else but at an address.
                folder = self._placed(name, versions[:1])
                yield f"{name} @ {(folder / self._filename(name, versions[0])).as_uri()}"
            elif versions:
                yield f"--find-links {self._placed(name, versions).as_uri()}"

    def chosen(self, lock: Pylock) -> list[tuple[str, Version]]:
        """Give the sdists in uv's answer."""
        return [
            (package.name, package.version)
            for package in lock.packages
            if package.version is not None and self.is_own(package)
        ]

    def is_own(self, package: Package) -> bool:
        """Whether an entry of the lock is an sdist that took the place of its stand-in."""
        return package.sdist is not None and package.version in self._sdists.get(package.name, ())

    def read(self, chosen: Iterable[tuple[str, Version]]) -> bool:
        """Learn what sdists depend on; False when that changes nothing for uv.

        A version that cannot be built is shown no longer. Raises FetchError, NotCached and HashMismatch.
        """
        changed = False
        for name, version in sorted(chosen):
            if (name, version) in self._facts:
                continue
            try:
                facts = self._read(name, self._sdists[name][version])
                _check_version(facts, self._sdists[name][version], version)
            except PackagingError as error:
                self._failed[name, version] = error
                self._sources.progress.detail(f"`{name}=={version}` is passed over if it can be: {error.message}")
                changed = True
                continue
            self._facts[name, version] = facts
            changed |= self._restricts(facts)
            if self._count(self._facts, name) == MOST_READ:
                self._sources.progress.detail(f"{MOST_READ} versions of `{name}` were read: no others are tried")
        return changed

    def _restricts(self, facts: SdistFacts) -> bool:
        """Whether uv, which chose an sdist as if it depended on nothing, may not choose it again."""
        from packaging.metadata import parse_email

        fields, _ = parse_email(facts.metadata)
        fits = explain.satisfies_python(fields.get("requires_python"), self._target)
        return bool(fields.get("requires_dist")) or not fits

    def restored(self, lock: Pylock) -> Pylock:
        """Put the sdists back into uv's answer, with the hashes of those that were read."""
        return dataclasses.replace(lock, packages=[self._restored(package) for package in lock.packages])

    def _restored(self, package: Package) -> Package:
        archive = package.archive
        if archive is not None and (own := self._archives.get(_place(archive))) is not None:
            return dataclasses.replace(package, archive=own)
        is_alone = archive is not None and _filename(archive).split("-")[2:3] == [_BUILD]
        is_stand_in = is_alone or any(_filename(wheel).split("-")[2:3] == [_BUILD] for wheel in package.wheels or ())
        version = package.version
        if version is None or not (is_stand_in or self.is_own(package)):
            return package
        from packaging.pylock import PackageSdist

        from manylambda.locks.select import TRUSTED_HASHES

        file = self._sdists[package.name][version]
        facts = self._facts.get((package.name, version))
        hashes = {name: digest.lower() for name, digest in file.hashes.items() if name in TRUSTED_HASHES}
        is_named = unquote(urlsplit(file.url).path).endswith(f"/{file.filename}")
        sdist = PackageSdist(
            name=None if is_named else file.filename,
            upload_time=_upload_time(file),
            url=file.url,
            size=facts.size if facts else file.size,
            hashes=hashes | ({"sha256": facts.sha256} if facts else {}),
        )
        return dataclasses.replace(package, wheels=None, archive=None, sdist=sdist)

    def _candidates(self, name: str) -> dict[Version, IndexFile]:
        """Give the sdist of each version that has no wheel for the target and that uv would take."""
        from packaging.version import InvalidVersion, Version

        sources = self._sources
        files = _listed(sources, name)
        runs = explain.wheels_that_run(files, self._target, allow_linux=sources.options.allow_linux_wheels)
        limit = newest_upload(name, sources.project, sources.options.environment)
        found: dict[Version, IndexFile] = {}
        for file in files:
            try:
                version = Version(file.version or "")
            except InvalidVersion:
                continue
            if (
                file.is_wheel
                or str(version) in runs
                or not explain.satisfies_python(file.requires_python, self._target)
            ):
                continue
            if file.yanked is not None and str(version) not in sources.pinned.get(name, ()):
                continue
            if limit is not None and not file.is_older_than(limit):
                continue
            found.setdefault(version, file)
        return found

    def _in_order(self, name: str) -> list[Version]:
        pinned = self._sources.pinned.get(name, ())
        versions = sorted(self._sdists[name], reverse=True)
        versions.sort(key=lambda version: (str(version) not in pinned, version.is_prerelease))
        return versions[:MOST_READ]

    def _visible(self, name: str) -> list[Version]:
        known = self._alone.get(name) or self._sdists.get(name, {})
        ended = self._count(self._facts, name) >= MOST_READ or self._count(self._failed, name) >= MOST_FAILED
        return [
            version
            for version in known
            if (name, version) not in self._failed and (not ended or (name, version) in self._facts)
        ]

    @staticmethod
    def _count(known: Mapping[tuple[str, Version], object], name: str) -> int:
        return sum(1 for other, _ in known if other == name)

    def _read(self, name: str, file: IndexFile) -> SdistFacts:
        if self._sources.read is None:
            raise ResolutionError(
                f"`{name}` is to be built from source, and nothing here can read source distributions",
                hint="`sdist_metadata` is what reads them",
            )
        return self._sources.read(name, file, self._target)

    # Archives named by their address

    def replace_archive(self, name: str, url: str, lines: Sequence[RequirementLine]) -> bool:
        """Let uv take a stand-in for the sdist at `url`, which it stopped at; `lines` are the user's requirements.

        False when that was done, and uv stopped there again. Raises the errors of reading the sdist, and `RequestError`
        for a part of an archive.
        """
        from packaging.metadata import parse_email
        from packaging.pylock import PackageArchive
        from packaging.version import InvalidVersion, Version

        from manylambda.locks.index import IndexFile

        address, _, fragment = url.partition("#")
        if address in self._replaced:
            return False
        self._replaced.add(address)
        own = [line for line in lines if line.url is not None and _same_address(line.url, address)]
        fragment = next((line.url.partition("#")[2] for line in own if line.url), fragment)
        options = dict(part.partition("=")[::2] for part in fragment.split("&") if part)
        filename = unquote(urlsplit(address).path.rpartition("/")[2])
        if "subdirectory" in options:
            raise RequestError(
                f"a part of a source archive cannot be built: `{options['subdirectory']}` of `{filename}`",
                hint="unpack it and name the folder",
            )
        hashes = {key: value for key, value in options.items() if key in {"sha256", "sha384", "sha512"}}
        facts = self._read(name, IndexFile(filename=filename, url=address, hashes=hashes))
        told = parse_email(facts.metadata)[0].get("version", "")
        try:
            version = Version(told)
        except InvalidVersion as error:
            raise PackagingError(f"`{filename}` is of no version: `{told}`") from error
        self._sources.progress.detail(f"`{filename}` is {name} {version}; uv is told what it depends on")
        place = self._written(name, {self._filename(name, version): _wheel(name, version, facts.metadata)})
        stand_in = place / self._filename(name, version)
        archive = PackageArchive(url=address, size=facts.size, hashes={"sha256": facts.sha256})
        self._archives[f"{place.name}/{stand_in.name}"] = archive
        self._addresses[name] = stand_in.as_uri()
        if own:
            for line in own:
                assert line.url is not None
                self._rewritten[line.text] = line.text.replace(line.url, stand_in.as_uri())
        else:
            # Told in a pyproject.toml: where `[tool.uv.sources]` gives the address, a constraint may give another.
            self.unsourced |= {name}
        return True

    def override_archive(self, name: str, extras: Collection[str]) -> bool:
        """Replace every requirement of `name`, where one of them gives the address; False when that was done.

        uv then takes no notice of what version of `name` other distributions ask for.
        """
        if name not in self._addresses or name in self._overridden:
            return False
        self._overridden.add(name)
        self.unsourced -= {name}
        wanted = f"[{','.join(sorted(extras))}]" if extras else ""
        self.overrides += (f"{name}{wanted} @ {self._addresses[name]}",)
        return True

    @property
    def constraints(self) -> tuple[str, ...]:
        """Lines that tell uv another address than `[tool.uv.sources]` does."""
        return tuple(f"{name} @ {self._addresses[name]}" for name in sorted(self.unsourced))

    def has_address(self, name: str) -> bool:
        """Whether uv is told the address of a stand-in in place of an sdist's."""
        return name in self._addresses

    def rewritten(self, text: str) -> str:
        """Give a line of the requirements as uv is to read it."""
        return self._rewritten.get(text, text)

    # Their files

    def _placed(self, name: str, versions: Iterable[Version]) -> Path:
        """Write the stand-ins of one name into a folder of their own."""
        return self._written(name, {self._filename(name, one): self._content(name, one) for one in versions})

    def _content(self, name: str, version: Version) -> bytes:
        facts = self._facts.get((name, version))
        return _wheel(name, version, facts.metadata if facts else "")

    def _filename(self, name: str, version: Version) -> str:
        return f"{name.replace('-', '_')}-{version}-{_BUILD}-{self._tag}.whl"

    def _written(self, name: str, files: Mapping[str, bytes]) -> Path:
        # uv keeps what it reads by its place: the same place for the same files, so that it keeps them once.
        digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
        folder = self._cache.stand_ins(f"{name}-{digest[:32]}")
        with self._cache.writing(f"stand-ins for {name}"):
            folder.mkdir(parents=True, exist_ok=True)
            self._cache.use(folder)
            for filename, content in files.items():
                if not (folder / filename).is_file():
                    temporary = folder / f".{os.getpid():x}-{os.urandom(8).hex()}"
                    temporary.write_bytes(content)
                    temporary.replace(folder / filename)
        return folder

    @cached_property
    def _cache(self) -> Cache:
        from manylambda.fetch import Cache

        return Cache.default(self._sources.options.environment)


def _listed(sources: Sources, name: str) -> tuple[IndexFile, ...]:
    """List the files of a project; offline, as they were when it was last resolved with its sdists."""
    from manylambda.fetch import Cache, strip_userinfo
    from manylambda.locks.index import IndexFile

    places = (*sources.settings.find_links, *(index.url for index in sources.settings.indexes_for(name)))
    key = hashlib.sha256(
        "\n".join((sources.settings.strategy, *map(strip_userinfo, places), name)).encode()
    ).hexdigest()
    cache = Cache.default(sources.options.environment)
    try:
        files = sources.client.files(name)
    except NotCached:
        known: Any = cache.read_facts(_KIND, _RECIPE, key)
        if known is None:
            raise
        return tuple(IndexFile(**file) for file in known)
    if not sources.options.offline:
        cache.write_facts(_KIND, _RECIPE, key, [dataclasses.asdict(file) for file in files])
    return files


def _upload_time(file: IndexFile) -> datetime | None:
    """Give what a lock keeps of it, as uv does: whole seconds."""
    try:
        return datetime.fromisoformat(file.uploaded or "").replace(microsecond=0)
    except ValueError:
        return None


def _check_version(facts: SdistFacts, file: IndexFile, version: Version) -> None:
    from packaging.metadata import parse_email

    told = parse_email(facts.metadata)[0].get("version", "")
    if not explain.same_version(told, str(version)):
        raise PackagingError(f"`{file.filename}` is of version {told}, and not what its name says")


def _fields(metadata: str) -> list[str]:
    """Give what of core metadata decides what else is chosen."""
    from packaging.metadata import parse_email

    fields, _ = parse_email(metadata)
    python = fields.get("requires_python")
    return [
        *([f"Requires-Python: {python}"] if python else []),
        *(f"Requires-Dist: {requirement}" for requirement in fields.get("requires_dist", [])),
        *(f"Provides-Extra: {extra}" for extra in fields.get("provides_extra", [])),
    ]


def _wheel(name: str, version: Version, metadata: str) -> bytes:
    """Make a wheel with the metadata of another, and no files."""
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    identity = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}"]
    members = {
        "METADATA": "\n".join([*identity, *_fields(metadata)]) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: manylambda\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{folder}/{member},{_record_hash(text)},{len(text.encode())}" for member, text in members.items()]
    members["RECORD"] = "\n".join([*record, f"{folder}/RECORD,,"]) + "\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/{member}"), text)
    return content.getvalue()


def _record_hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _filename(part: PackageArchive | PackageWheel) -> str:
    return _place(part).rpartition("/")[2]


def _place(part: PackageArchive | PackageWheel) -> str:
    """Give the folder and the name of a file."""
    path = part.path or url2pathname(urlsplit(part.url or "").path)
    return "/".join(path.replace(os.sep, "/").split("/")[-2:])


def _same_address(one: str, other: str) -> bool:
    from manylambda.fetch import strip_userinfo

    return unquote(strip_userinfo(one.partition("#")[0])) == unquote(strip_userinfo(other))
