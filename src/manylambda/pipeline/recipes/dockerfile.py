"""The text of a Docker recipe: a Dockerfile, the requirements it installs, and the script that builds it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.target import Target

DOCKERFILE: Final = "Dockerfile"
REQUIREMENTS: Final = "requirements.lambda.txt"
WHEELS: Final = "wheels.lambda"
SCRIPT: Final = "build-image.sh"
PYPI: Final = "https://pypi.org/simple"
_HASH: Final = " \\\n    --hash="


class Requirement(NamedTuple):
    """One distribution, in exactly one file."""

    name: str
    version: str
    hash: str
    """`sha256:...`."""
    url: str | None = None
    """Where the file is, when no index is known that has it."""

    @property
    def line(self) -> str:
        """As pip reads it."""
        where = f"{self.name}=={self.version}" if self.url is None else f"{self.name} @ {self.url}"
        return f"{where}{_HASH}{self.hash}"


class Copied(NamedTuple):
    """A folder or file of the context, and where below `/var/task` its files go."""

    path: str
    """`.` for the whole context."""
    to: str
    is_file: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """All that the text says."""

    name: str
    target: Target
    base: str
    pinned: str | None
    """Why the base is not pinned by digest; None when it is."""
    requirements: tuple[Requirement, ...]
    indexes: tuple[str, ...]
    """Those that are not pip's default."""
    default_index: bool
    """Whether pip's own default index is asked, too."""
    has_wheels: bool
    """Whether `WHEELS` has what is on this machine only."""
    copied: tuple[Copied, ...]
    executables: tuple[str, ...]
    """What is a program although its mode does not say so, below `/var/task`."""
    entry_point: tuple[str, ...]
    """What starts handlers where the base does not; else empty."""
    handler: str | None
    below: str
    """The folder of the recipe in the context, with its `/`; empty where it is the same."""
    made_from: str
    """`pylock.toml`."""

    @property
    def wants_logins(self) -> bool:
        """Whether pip asks others than its default index: then with the logins of a netrc file."""
        return bool(self.indexes) or any(one.url is not None for one in self.requirements)

    @property
    def tag(self) -> str:
        """The image's name unless another is given: `orders-api:python3.13-arm64`."""
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{name or 'function'}:{self.target}"

    @property
    def platform(self) -> str:
        """`linux/arm64`."""
        return f"linux/{self.target.architecture.oci}"

    @property
    def _file(self) -> str:
        return f" -f {shlex.quote(self.below + DOCKERFILE)}" if self.below else ""

    def requirements_file(self) -> str:
        """Return the text of `REQUIREMENTS`."""
        lines = [f"# What {self.made_from} gives {self.target}, file by file; written by `manylambda init docker`."]
        if self.indexes:
            # Any of them may answer for a name: the hashes decide what is taken.
            first, *others = (PYPI, *self.indexes) if self.default_index else self.indexes
            lines += [f"--index-url {first}", *(f"--extra-index-url {index}" for index in others)]
        elif not self.default_index:
            lines.append("--no-index")
        lines += [f"--find-links {WHEELS}"] if self.has_wheels else []
        return "\n".join((*lines, *(one.line for one in self.requirements))) + "\n"

    def dockerfile(self) -> str:
        """Return the text of `DOCKERFILE`."""
        return "\n\n".join((self._head(), *self._stages(), self._last())) + "\n"

    def _head(self) -> str:
        if self.pinned is None:
            pinned = "# Pinned: what the tag names changes; `manylambda init docker --force` takes what it names then."
        else:
            pinned = (
                f"# Not pinned by digest: {self.pinned}.\n"
                "# What the tag names changes; run `manylambda init docker --force` where it can be asked for."
            )
        return (
            "# check=skip=FromPlatformFlagConstDisallowed\n"
            f"# The image of `{self.name}` for {self.target}, written by `manylambda init docker`; yours to change.\n"
            f"# `{self.below}{SCRIPT}` builds it; so does, in the project's folder,\n"
            f"#   docker buildx build --provenance=false --sbom=false --platform {self.platform}{self._file} "
            f"-t {self.tag} .\n"
            "\n"
            f"{pinned}\n"
            "# The platform stands here too, for tools that build this file with a command of their own.\n"
            "# hadolint ignore=DL3029\n"
            f"FROM --platform={self.platform} {self.base} AS base"
        )

    def _stages(self) -> Sequence[str]:
        minor = "python{}.{}".format(*self.target.python)
        stages = []
        if self.requirements:
            secret = "--mount=type=secret,id=netrc,target=/root/.netrc,required=false " if self.wants_logins else ""
            wheels = f"COPY {_words(f'{self.below}{WHEELS}/', f'./{WHEELS}/')}\n" if self.has_wheels else ""
            stages.append(
                "FROM base AS dependencies\n"
                "WORKDIR /build\n"
                f"COPY {_words(f'{self.below}{REQUIREMENTS}', './')}\n"
                f"{wheels}"
                "# Wheels only, each held against its hash: no code of a dependency runs. Lambda runs the function as\n"
                "# a user who owns none of its files: what only an owner may read cannot be imported.\n"
                f"RUN {secret}{minor} -m pip install --disable-pip-version-check --no-cache-dir "
                "--root-user-action=ignore \\\n"
                "        --require-hashes --only-binary=:all: --no-deps --no-compile \\\n"
                f"        --target packages -r {REQUIREMENTS} \\\n"
                "    && chmod -R u=rwX,go=rX packages"
            )
        lines = ["FROM base AS code", "WORKDIR /build/code"]
        for one in self.copied:
            end = "" if one.is_file or one.path == "." else "/"
            to = one.to + ("" if one.is_file else "/") if one.to else ""
            lines.append(f"COPY {_words(one.path + end, f'./{to}')}")
        lines.append("# Whatever the modes and the mask of the machine that builds are.")
        commands = ["chmod -R u=rwX,go=rX ."]
        if any(one.path == "." for one in self.copied) and self.requirements:
            ours = [f"{self.below}{REQUIREMENTS}", *([f"{self.below}{WHEELS}"] if self.has_wheels else [])]
            commands.insert(0, f"rm -rf {' '.join(map(shlex.quote, ours))}")
        if self.executables:
            commands.append(f"chmod 755 {' '.join(shlex.quote(f'./{path}') for path in self.executables)}")
        lines.append("RUN " + " \\\n    && ".join(commands))
        return (*stages, "\n".join(lines))

    def _last(self) -> str:
        lines = ["FROM base", "WORKDIR /var/task"]
        if self.requirements:
            lines += [
                "# Dependencies first: while only the code changes, this layer is neither built nor pushed again.",
                "COPY --from=dependencies /build/packages/ ./",
            ]
        lines.append("COPY --from=code /build/code/ ./")
        if self.entry_point:
            lines += ["# The base starts no handlers.", f"ENTRYPOINT {json.dumps(list(self.entry_point))}"]
        if self.handler is None:
            lines += [
                "# No handler is known: name it here, or in the function's `ImageConfig`.",
                '# CMD ["app.lambda_handler"]',
            ]
        else:
            lines.append(f"CMD {json.dumps([self.handler])}")
        return "\n".join(lines)

    def script(self) -> str:
        """Return the text of `SCRIPT`."""
        up = "/.." * self.below.count("/")
        netrc = (
            "# The logins of indexes: given to the one step that asks them, and in no layer.\n"
            'if [ -f "${NETRC:-$HOME/.netrc}" ]; then\n'
            '    set -- --secret "id=netrc,src=${NETRC:-$HOME/.netrc}" "$@"\n'
            "fi\n\n"
            if self.wants_logins
            else ""
        )
        ignore = f" --ignorefile {shlex.quote(f'{self.below}{DOCKERFILE}.dockerignore')}" if self.below else ""
        return f"""\
#!/bin/sh
# Builds the image of this project; written by `manylambda init docker`.
#
#   {SCRIPT} [TAG [OPTION...]]      TAG: {self.tag}
#
# BUILDER=docker, finch or podman says with what; else it is the first that is there.
set -eu
cd -- "$(dirname -- "$0")"{up}
tag=${{1:-{self.tag}}}
[ $# -eq 0 ] || shift

builder=${{BUILDER:-}}
for name in docker finch podman; do
    if [ -z "$builder" ] && command -v "$name" >/dev/null 2>&1; then
        builder=$name
    fi
done

{netrc}\
# Lambda takes the manifest of one image, for one platform. With an attestation (provenance, SBOM) a builder makes an
# index of several, also for one platform, and Lambda refuses the function: "The image manifest, config or layer media
# type for the source image ... is not supported". podman adds none unless it is asked to.
case $builder in
'')
    echo 'no docker, finch or podman on the path' >&2
    exit 1
    ;;
*podman)
    exec "$builder" build --platform {self.platform}{ignore}{self._file} -t "$tag" "$@" .
    ;;
*docker)
    if "$builder" buildx version >/dev/null 2>&1; then
        exec "$builder" buildx build --provenance=false --sbom=false --load \\
            --platform {self.platform}{self._file} -t "$tag" "$@" .
    fi
    # The builder before buildx knows no attestations, and no option that forbids them.
    exec "$builder" build --platform {self.platform}{self._file} -t "$tag" "$@" .
    ;;
*)
    exec "$builder" build --provenance=false --sbom=false --platform {self.platform}{self._file} -t "$tag" "$@" .
    ;;
esac
"""


def _words(*words: str) -> str:
    """Return the arguments of COPY; as JSON where one would not be a word of its own."""
    if all(re.fullmatch(r"[\w./@+,-]+", word, re.ASCII) for word in words):
        return " ".join(words)
    return json.dumps(list(words))
