"""Rules about the package as a whole: its size, its files, and the runtime it is for."""

from __future__ import annotations

import re
from fnmatch import filter as fnmatches
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING, Final

from manylambda.audits import PROJECT, Finding, Severity
from manylambda.rules.cures import cures
from manylambda.rules.python_facts import facts, standard_library
from manylambda.rules.records import listed_twice
from manylambda.tree import Collision, Span, open_content

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from manylambda.audits import Subject
    from manylambda.tree import Entry, PackageTree


_MIB: Final = 1 << 20
_MAX_SPARE: Final = 3
_ZIP_OVERHEAD: Final = 30 + 46 + 22

_SECRETS: Final = (
    ".env", ".env.*", ".netrc", ".pypirc", ".git-credentials", ".npmrc", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "credentials", "credentials.json",
    "service-account*.json", "service_account*.json", "terraform.tfstate", "terraform.tfvars",
)  # fmt: skip
_NO_SECRETS: Final = (".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults")
_IS_SECRET: Final = re.compile("|".join(map(translate, _SECRETS))).match
_PRIVATE_KEY: Final = b"PRIVATE KEY-----"


def zip_too_large(subject: Subject) -> Iterator[Finding]:
    """Tell when an archive is too large to be uploaded directly."""
    if subject.kind not in {"zip", "layer"}:
        return
    limit = subject.target.limits["zip_upload_bytes"]
    known = subject.zipped_size
    if known is None and subject.unzipped_size <= limit:
        return
    size = _zipped_size(subject.tree) if known is None else known
    if size > limit:
        about = "" if known is not None else "about "
        yield Finding(
            rule="zip-too-large",
            severity=Severity.WARNING,
            message=f"the archive has {about}{_mib(size)} zipped; a direct upload takes {_mib(limit)}",
            hint="upload it to an S3 bucket and name it there (`--s3-bucket`, `--s3-key`)",
        )


def unzipped_too_large(subject: Subject) -> Iterator[Finding]:
    """Find packages over the limit for a function and its layers, which Lambda refuses."""
    if subject.kind == "wheel":
        return
    total = subject.unzipped_size
    if subject.kind == "image":
        limit = subject.target.limits["image_bytes"]
        if total > limit:
            yield Finding(
                rule="unzipped-too-large",
                severity=Severity.ERROR,
                message=f"the image has {total:,} bytes uncompressed, all layers counted; the limit is {limit:,}",
                hint="what a later layer removes still counts: remove it in the step that brought it",
            )
        return
    limit = subject.target.limits["unzipped_bytes"]
    if total <= limit:
        return
    sizes: dict[str, int] = {}
    for tree in (subject.tree, *subject.layers):
        for entry in tree:
            sizes[entry.origin] = sizes.get(entry.origin, 0) + entry.content.size
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:3]
    named = ", ".join(f"{_origin(origin)} {_mib(size)}" for origin, size in largest)
    in_runtime = [origin for origin in sizes if origin in subject.target.preinstalled]
    spare = (
        f"; leave out {', '.join(f'`{one}`' for one in sorted(in_runtime))}, which the runtime has"
        if in_runtime
        else ""
    )
    layers = " with its layers" if subject.layers else ""
    yield Finding(
        rule="unzipped-too-large",
        severity=Severity.ERROR,
        message=f"the package{layers} has {total:,} bytes unzipped, the limit is {limit:,}; largest: {named}",
        hint=_without_spare(subject, sizes)
        + "layers count as well: use a container image (up to 10 GB) or split the function"
        + spare,
    )


def _without_spare(subject: Subject, sizes: Mapping[str, int]) -> str:
    """Say which distributions of a package that is too large are of no use in a function, with how to do without."""
    spare = {
        origin: one["why"]
        for origin in sorted(sizes, key=lambda origin: (-sizes[origin], origin))
        for one in cures()["spare"]
        if fnmatchcase(origin, one["distribution"])
    }
    if not spare:
        return ""
    told = {
        f"take {one['take']}, which needs none of {_listed(brought)}"
        for one in cures()["instead"]
        if one["distribution"] in sizes and (brought := fnmatches(list(spare), one["spare"]))
    }
    # What a module outside of them is linked against must stay, or it cannot be imported.
    linked = {
        subject.distribution_of(link.provider)
        for link in subject.linkage.links
        if link.provider is not None and (subject.distribution_of(link.needer) or PROJECT) not in spare
    }
    loose = [] if told else [origin for origin in spare if origin not in linked]
    by_reason: dict[str, list[str]] = {}
    for origin in loose[:_MAX_SPARE]:
        by_reason.setdefault(spare[origin], []).append(origin)
    told.update(
        f"leave out {_listed(names)} ({why}): `{' '.join(f'--exclude {name}' for name in names)}`"
        for why, names in by_reason.items()
    )
    return "".join(f"{one}; " for one in sorted(told))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MAX_SPARE])
    return shown + (f" and {len(names) - _MAX_SPARE} more" if len(names) > _MAX_SPARE else "")


def too_many_layers(subject: Subject) -> Iterator[Finding]:
    """Find more layers than a function can have."""
    limit = subject.target.limits["layers"]
    if len(subject.layers) > limit:
        yield Finding(
            rule="too-many-layers",
            severity=Severity.ERROR,
            message=f"the function has {len(subject.layers)} layers, the limit is {limit}",
            hint="merge layers",
        )


def path_collision(subject: Subject) -> Iterator[Finding]:
    """Tell where two origins brought different bytes for one path."""
    paths: dict[tuple[str, str], list[str]] = {}
    for collision in (*subject.collisions, *_collisions_of_records(subject)):
        paths.setdefault((collision.kept, collision.dropped), []).append(collision.path)
    for (kept, dropped), collided in paths.items():
        collided.sort()
        others = f" and {len(collided) - 1:,} other{'s' * (len(collided) > 2)}" if len(collided) > 1 else ""
        which = "those" if others else "the one"
        yield Finding(
            rule="path-collision",
            severity=Severity.WARNING,
            path=collided[0],
            distribution=None if kept == PROJECT else kept,
            message=f"{_origin(kept)} and {_origin(dropped)} bring different files for this path{others}: "
            f"{which} of {_origin(kept)} {'are' if others else 'is'} in the package",
            hint="leave one of the two out if the other needs its own file",
        )


def _collisions_of_records(subject: Subject) -> Iterator[Collision]:
    """Yield the files that several RECORDs list and only one of them truly has."""
    for path, listed in listed_twice(subject).items():
        digest = subject.digests.get(path)
        kept = next((record.distribution for record, row in listed if digest and row.sha256 == digest), None)
        if kept is None:
            continue
        for record, row in listed:
            if row.sha256 not in {None, digest} and record.distribution != kept:
                yield Collision(path=path, kept=kept, dropped=record.distribution)


def stdlib_shadowed(subject: Subject) -> Iterator[Finding]:
    """Find top-level modules that hide one of the standard library: `/var/task` comes first on `sys.path`."""
    names = standard_library(subject.target.python)
    told: set[str] = set()
    folders = subject.site_folders(in_layer=subject.kind == "layer")
    for entry in subject.tree:
        for folder in folders:
            if not entry.path.startswith(folder):
                continue
            top, slash, rest = entry.path[len(folder) :].partition("/")
            name = top if slash else top.removesuffix(".py")
            # A folder only hides a module when it is a package: one without `__init__.py` comes last.
            if name in names and name not in told and (rest == "__init__.py" if slash else top.endswith(".py")):
                told.add(name)
                yield Finding(
                    rule="stdlib-shadowed",
                    severity=Severity.WARNING,
                    path=entry.path,
                    distribution=None if entry.origin == PROJECT else entry.origin,
                    message=f"hides the module `{name}` of the standard library from everything in the function",
                    hint="rename it"
                    if entry.origin == PROJECT
                    else f"leave `{entry.origin}` out: it is for older Pythons",
                )


def bytecode_stale(subject: Subject) -> Iterator[Finding]:
    """Find compiled Python files of another version: dead weight, or a module that cannot be imported."""
    wanted = "{}.{}".format(*subject.target.python)
    tag = ".cpython-{}{}.".format(*subject.target.python)
    stale: dict[str, list[Entry]] = {}
    for entry in subject.tree:
        if not entry.path.endswith(".pyc"):
            continue
        cached = "/__pycache__/" in f"/{entry.path}"
        if cached and tag not in entry.path:
            version = _version_in_name(entry.path)
        else:
            version = _bytecode_version(entry)
            if version == wanted:
                continue
        if cached or _has_source(subject, entry.path):
            stale.setdefault(version, []).append(entry)
            continue
        yield Finding(
            rule="bytecode-stale",
            severity=Severity.ERROR,
            path=entry.path,
            distribution=None if entry.origin == PROJECT else entry.origin,
            message=f"is bytecode of Python {version} without a source, the runtime is {wanted}: it cannot be imported",
            hint="ship the `.py` file, or compile it with the target's Python",
        )
    for version, entries in sorted(stale.items()):
        size = sum(entry.content.size for entry in entries)
        files = f"{len(entries):,} file{'s' * (len(entries) > 1)}"
        # `pip install` compiles whatever it installs: that is one thing to mend, not one for each distribution.
        origins = {entry.origin for entry in entries}
        origin = entries[0].origin if len(origins) == 1 else PROJECT
        owners = _owners(sorted(origins - {PROJECT})) if len(origins) > 1 else ""
        yield Finding(
            rule="bytecode-stale",
            severity=Severity.WARNING,
            path=entries[0].path,
            distribution=None if origin == PROJECT else origin,
            message=f"{files} of bytecode of Python {version} ({size:,} bytes)"
            + owners
            + f" {'is' if len(entries) == 1 else 'are'} never used on {wanted}",
            hint="leave `__pycache__` out, or compile with the target's Python",
        )


def secret_file(subject: Subject) -> Iterator[Finding]:
    """Find files of the project that look like credentials."""
    for entry in subject.tree:
        if entry.origin != PROJECT:
            continue
        name = entry.path.rpartition("/")[2]
        if not _IS_SECRET(name) or name in _NO_SECRETS:
            continue
        if name.endswith((".pem", ".key")) and not _has_private_key(entry):
            continue
        if name == "credentials" and not entry.path.endswith(".aws/credentials"):
            continue
        yield Finding(
            rule="secret-file",
            severity=Severity.WARNING,
            path=entry.path,
            message="looks like credentials: whoever may read the function's code can read it",
            hint="exclude it, and give the function its secrets through Secrets Manager or its role",
        )


def runtime_deprecated(subject: Subject) -> Iterator[Finding]:
    """Tell when AWS has deprecated the runtime."""
    status = subject.target.status
    if status in {"deprecated", "retired"}:
        yield Finding(
            rule="runtime-deprecated",
            severity=Severity.WARNING if status == "deprecated" else Severity.ERROR,
            message=subject.target.lifecycle_note() or "the runtime is deprecated",
            hint="move to a supported runtime: see `manylambda targets`",
        )


def runtime_preview(subject: Subject) -> Iterator[Finding]:
    """Tell when the runtime is a preview."""
    if subject.target.status == "preview":
        yield Finding(
            rule="runtime-preview",
            severity=Severity.NOTE,
            message=subject.target.lifecycle_note() or "the runtime is a preview",
            hint="use a supported runtime in production: see `manylambda targets`",
        )


def _owners(distributions: Sequence[str]) -> str:
    """Say where files lie that are of more than one."""
    if len(distributions) == 1:
        return f" of the project and of `{distributions[0]}`"
    return f" in {len(distributions):,} distributions"


def _zipped_size(tree: PackageTree) -> int:
    """Return about what an archive of `tree` will have: exact but for what is yet to be compressed."""
    size = 0
    for entry in tree:
        content = entry.content
        size += content.compressed_size if isinstance(content, Span) else content.size // 3
        size += _ZIP_OVERHEAD + 2 * len(entry.path)
    return size


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"


def _origin(origin: str) -> str:
    return "the project" if origin == PROJECT else f"`{origin}`"


def _has_source(subject: Subject, path: str) -> bool:
    return subject.tree.get(path.removesuffix("c")) is not None


def _version_in_name(path: str) -> str:
    match = re.search(r"\.(?:cpython|pypy)-?(\d)(\d+)", path)
    return f"{match[1]}.{match[2]}" if match else "another implementation"


def _bytecode_version(entry: Entry) -> str:
    with open_content(entry.content) as stream:
        magic = stream.read(4)
    number = int.from_bytes(magic[:2], "little")
    for version, (first, last) in facts()["bytecode"].items():
        if magic[2:] == b"\r\n" and first <= number <= last:
            return version
    return "an unknown version"


def _has_private_key(entry: Entry) -> bool:
    with open_content(entry.content) as stream:
        return _PRIVATE_KEY in stream.read(1 << 16)
