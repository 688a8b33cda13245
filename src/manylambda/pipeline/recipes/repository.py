"""What a CI has to know of a project: where it lies in its repository, what is built, and which words say so."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda import config
from manylambda._version import __version__
from manylambda.config.fields import FIELDS, Shape
from manylambda.errors import RequestError
from manylambda.locks.discovery import discover
from manylambda.locks.documents import is_piped, load
from manylambda.locks.model import SourceKind
from manylambda.locks.write import relative_path
from manylambda.pipeline.existing.model import repository
from manylambda.pipeline.recipes.model import Recipe, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manylambda.config import Settings
    from manylambda.config.fields import Field
    from manylambda.progress import Progress
    from manylambda.target import Target

PYTHON: Final = "3.13"
"""What manylambda itself runs on there."""
REQUIREMENT: Final = f"manylambda=={__version__}"
_UNRELEASED: Final = (
    f"`pip install {REQUIREMENT}` stands there, and the manylambda that runs here is from no index: "
    "write from where the pipeline gets it"
)
_RESOLVING: Final = ("requirements", "extras", "groups", "allow_sdist", "allow_linux_wheels")
_BUILDING: Final = ("kind", "name", "lock", "exclude", "exclude_provided", "handler")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A project as a CI finds it."""

    root: Path
    """The folder that is checked out."""
    below: str
    """The project's folder in it, `.` where it is the same."""
    name: str
    targets: tuple[Target, ...]
    kind: str
    resolving: tuple[str, ...]
    """Flags that the configuration does not say, of what is resolved."""
    building: tuple[str, ...]
    """Likewise, of all else."""
    lock: str | None
    """The lock of `manylambda lock`, relative to the project; None where it has another one, or none."""
    decides: tuple[str, ...]
    """The files that decide which distributions are shipped, relative to the root."""
    output: str
    """The folder of the packages, or where `is_exact` their own place with a `*` for the target; from the root."""
    is_exact: bool
    first_package: str
    """The package of the first target, from the root: a pattern of the shell."""

    def build(self, *words: str) -> str:
        """Give the command line that builds, with `words` before what the configuration does not say."""
        return shlex.join(("manylambda", "build", *words, *self.resolving, *self.building))

    @property
    def asked(self) -> tuple[str, ...]:
        """The targets as flags."""
        return tuple(word for target in self.targets for word in ("-t", str(target)))

    def recipe(self, name: str, file: str, text: str, what: str, *, force: bool) -> Recipe:
        """Write the one file of a recipe, that is `what` the targets are built by.

        Raises RequestError where it is there and says something else, unless `force`.
        """
        return Recipe(
            recipe=name,
            targets=self.targets,
            files=write(self.root, {file: text}, force=force),
            summary=f"{what} {', '.join(map(str, self.targets))}",
            steps=self._steps(name),
        )

    def _steps(self, recipe: str) -> tuple[str, ...]:
        lock = f"`manylambda lock`, then `manylambda init {recipe} --force`: the lock is checked, too"
        deploy = "deploying stands there as a comment: fill in the role and the name"
        return (
            *(() if _is_released() else (_UNRELEASED,)),
            *(() if self.lock else (lock,)),
            *(() if self.kind == "dir" else (deploy,)),
        )

    def enter(self) -> tuple[str, ...]:
        """Give the line that changes to the project's folder, if it is another."""
        return () if self.below == "." else (f"cd {shlex.quote(self.below)}",)

    def check(self) -> str:
        """Give the command line that checks the lock, for all targets."""
        output = () if self.lock in {None, SourceKind.PYLOCK.value} else ("-o", str(self.lock))
        return shlex.join(("manylambda", "lock", "--check", *self.asked, *output, *self.resolving))

    def deploy(self, package: str) -> str:
        """Give the shell lines that deploy the zip that the pattern `package` names, to `$NAME`, and see it arrive."""
        target = self.targets[0]
        if self.kind == "layer":
            ask = (
                'aws lambda publish-layer-version --layer-name "$NAME" --zip-file "fileb://$package" \\\n'
                f"  --compatible-runtimes {target.runtime} --compatible-architectures {target.architecture.value} \\\n"
                "  --query Content.CodeSha256 --output text"
            )
        else:
            ask = (
                'aws lambda update-function-code --function-name "$NAME" --zip-file "fileb://$package" \\\n'
                f"  --architectures {target.architecture.value} --query CodeSha256 --output text"
            )
        return (
            f"package=$(ls {'*'.join(shlex.quote(part) if part else '' for part in package.split('*'))})\n"
            f"arrived=$({ask})\n"
            'test "$arrived" = "$(openssl dgst -sha256 -binary "$package" | base64)"'
        )

    @property
    def audited(self) -> tuple[str, ...]:
        """The flags of an audit that the configuration does not say."""
        words = self.building
        return words[words.index("--handler") :][:2] if "--handler" in words else ()


def find(settings: Settings, root: Path | None, progress: Progress) -> Repository:
    """Find out what a CI has to know, and say what it will not do.

    `root` is the folder that is checked out; None for the one of git.
    Raises RequestError for what no CI could find: a project outside the repository, words that a CI would expand.
    """
    root = (root or repository(settings.project)).resolve()
    project = settings.project.resolve()
    if not project.is_relative_to(root):
        raise RequestError(
            f"the project is not in the folder that would be checked out: {root}",
            hint="name a folder that has the project, or none",
        )
    source = discover(project, requirements=settings.requirements, lock=settings.lock)
    inside = [file.resolve() for file in source.files if file.resolve().is_relative_to(root)]
    resolving, building = _words(settings, _RESOLVING), _words(settings, _BUILDING)
    lock = _own_lock(source.files[0], project) if source.kind is SourceKind.PYLOCK else None
    below = project.relative_to(root).as_posix()
    output = relative_path(_output(settings).resolve(), root)
    decides = tuple(file.relative_to(root).as_posix() for file in inside)
    for word in (*resolving, *building, below, output, *decides, *([lock] if lock else [])):
        if "${{" in word or "$[[" in word or not word.isprintable():
            raise RequestError(f"a CI would read this as its own words: {word}", hint="give it another name")
    if lock is None:
        progress.info("there is no lock of `manylambda lock`, so no step checks one")
    first = settings.targets[0]
    return Repository(
        root=root,
        below=below,
        name=settings.name,
        targets=settings.targets,
        kind=settings.kind,
        resolving=resolving,
        building=building,
        lock=lock,
        output=output,
        is_exact=settings.artifact is not None,
        first_package=relative_path(
            (settings.artifact_of(first) or settings.output / f"*-{first}.zip").resolve(), root
        ),
        decides=decides,
    )


def _is_released() -> bool:
    """Whether this very program came from an index; what came from a folder or an address has a PEP 610 record."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution("manylambda").read_text("direct_url.json") is None
    except PackageNotFoundError:  # the single file: a release has it
        return True


def _output(settings: Settings) -> Path:
    return Path(str(settings.artifact).replace("{target}", "*")) if settings.artifact else settings.output


def _own_lock(file: Path, project: Path) -> str | None:
    made_from = load(file).table("tool", "manylambda").texts("sources")
    return relative_path(file.resolve(), project) if made_from else None


def _words(settings: Settings, attributes: tuple[str, ...]) -> tuple[str, ...]:
    """Give as flags what the project's configuration does not say by itself."""
    plain = config.load(settings.project, {}, {"targets": [str(target) for target in settings.targets]})
    by_attribute = {field.attribute: field for field in FIELDS}
    return tuple(
        word
        for attribute in attributes
        if getattr(settings, attribute) != getattr(plain, attribute)
        for word in _flag(by_attribute[attribute], getattr(settings, attribute), settings.project)
    )


def _flag(field: Field, value: object, project: Path) -> Iterator[str]:
    values = value if isinstance(value, tuple) else (value,)
    for one in values:
        if field.shape is Shape.SWITCH:
            yield from ([field.flag] if one else [])
        elif isinstance(one, Path):
            yield from (field.flag, _relative(one, project))
        else:
            yield from (field.flag, str(one))


def _relative(path: Path, project: Path) -> str:
    if is_piped(path):
        raise RequestError("a CI has no pipe of this shell to read requirements from", hint="write them to a file")
    return relative_path(path.resolve(), project.resolve())
