"""Constructs for AWS CDK: functions and layers whose packages manylambda builds while the app is synthesized.

    from aws_cdk.aws_lambda import Architecture, Runtime
    from manylambda.cdk import PythonFunction

    PythonFunction(
        self, "Orders", entry="orders", handler="app.handler",
        runtime=Runtime.PYTHON_3_13, architecture=Architecture.ARM_64,
    )

It is in the extra `cdk`: `pip install "manylambda[cdk]"`. No Docker; a package that is unchanged takes a fraction of a
second. The asset's hash is that of the package's content, which is the same on every machine: what did not change is
not deployed. What goes wrong is an error of the construct, in CDK's own way: `cdk synth` shows it with the construct's
path, and nothing is deployed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manylambda.audits import Severity
from manylambda.config import load_settings
from manylambda.errors import ManylambdaError
from manylambda.pipeline.build import build
from manylambda.progress import SILENT
from manylambda.render.findings import Look, findings

try:
    from aws_cdk import Annotations, Stack, Stage, aws_lambda
except ImportError as error:
    raise ImportError('`manylambda.cdk` needs AWS CDK: pip install "manylambda[cdk]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aws_cdk.aws_lambda import Architecture, Runtime
    from constructs import Construct

    from manylambda.pipeline.artifact import Artifact
    from manylambda.progress import Task

__all__ = ["PythonFunction", "PythonLayer"]

_FOLDER: Final = "manylambda"
"""In the folder that the app is synthesized to."""


class PythonFunction(aws_lambda.Function):
    """A function: the code of a folder with its dependencies, as `manylambda build ENTRY` makes it.

    `entry` is the project's folder, relative to the working folder; its lock or requirements and its
    `[tool.manylambda]` count. `handler` is what Lambda calls, `app.handler`, and is looked for. `settings` are those of
    `manylambda.load_settings` (`{"exclude_provided": True}`). All other keywords are those of `aws_lambda.Function`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002 - every construct calls it so
        *,
        entry: str | Path,
        handler: str,
        runtime: Runtime,
        architecture: Architecture = aws_lambda.Architecture.X86_64,
        settings: Mapping[str, Any] | None = None,
        **function: Any,
    ) -> None:
        fixed = {"kind": "zip", "targets": [_target(runtime, architecture)]}
        package = _Package.of(scope, id, entry, {"handler": handler, **(settings or {}), **fixed})
        super().__init__(
            scope, id, code=package.code, handler=handler, runtime=runtime, architecture=architecture, **function
        )
        package.annotate(self)


class PythonLayer(aws_lambda.LayerVersion):
    """A layer: the dependencies of a folder, as `manylambda build ENTRY --kind layer` makes it.

    `entry` and `settings` are as for `PythonFunction`; all other keywords are those of `aws_lambda.LayerVersion`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002
        *,
        entry: str | Path,
        runtime: Runtime,
        architecture: Architecture = aws_lambda.Architecture.X86_64,
        settings: Mapping[str, Any] | None = None,
        **layer: Any,
    ) -> None:
        fixed = {"kind": "layer", "targets": [_target(runtime, architecture)]}
        package = _Package.of(scope, id, entry, {**(settings or {}), **fixed})
        compatible = {"compatible_runtimes": [runtime], "compatible_architectures": [architecture]}
        super().__init__(scope, id, code=package.code, **{**compatible, **layer})
        package.annotate(self)


class _Package(NamedTuple):
    """The code of a construct, and what is to be told of it."""

    code: aws_lambda.Code
    error: str | None = None
    warnings: tuple[tuple[str, str], ...] = ()
    """Each with the id by which CDK's user acknowledges it."""

    @classmethod
    def of(cls, scope: Construct, name: str, entry: str | Path, wanted: Mapping[str, Any]) -> _Package:
        """Build what is `wanted`, as `load_settings` takes it, for the construct `name` of `scope`."""
        stage = Stage.of(scope)
        assert stage is not None, "a function belongs to a stack of an app"
        folder = Path(stage.asset_outdir).absolute() / _FOLDER
        if not Stack.of(scope).bundling_required:  # `cdk ls`, or the stack is none of those that are deployed
            return cls(_nothing(folder))
        heard = _Heard()
        place = folder / _file_name(f"{scope.node.path}/{name}")
        try:
            settings = load_settings(Path(entry), **wanted, artifact=place)
            (artifact,) = build(settings, progress=heard).artifacts
        except ManylambdaError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            return cls(_nothing(folder), error=f"{error.message}{hint}")
        warnings = (*_found(artifact), *(("manylambda:build", warning) for warning in heard.warnings))
        if artifact.written is None:
            told = f"`{entry}` would not load on {artifact.target}\n{findings(artifact.report, Look())}"
            return cls(_nothing(folder), error=told, warnings=warnings)
        # Hashed by its content: the file's date, mode and place say nothing.
        code = aws_lambda.Code.from_asset(str(place), asset_hash=artifact.written.code_sha256)
        return cls(code, warnings=warnings)

    def annotate(self, construct: Construct) -> None:
        """Tell the construct's user what was wrong."""
        annotations = Annotations.of(construct)
        for name, warning in self.warnings:
            annotations.add_warning_v2(name, warning)
        if self.error is not None:
            annotations.add_error(self.error)


def _target(runtime: Runtime, architecture: Architecture) -> str:
    return f"{runtime.name}-{architecture.name}"


def _found(artifact: Artifact) -> Iterator[tuple[str, str]]:
    for finding in artifact.report.findings:
        if finding.severity is Severity.WARNING:
            hint = f"\nhint: {finding.hint}" if finding.hint else ""
            yield f"manylambda:{finding.rule}", f"{finding.message}{hint}"


def _nothing(folder: Path) -> aws_lambda.Code:
    """Give code in the place of a package that is not made: such a stack is never deployed."""
    place = folder / "not-built"
    place.mkdir(parents=True, exist_ok=True)
    (place / "NOT-BUILT").touch()
    return aws_lambda.Code.from_asset(str(place))


def _file_name(path: str) -> str:
    """Return a file name for the path of a construct, unlike that of every other."""
    return f"{re.sub(r'[^A-Za-z0-9-]+', '-', path)[-100:]}-{hashlib.sha256(path.encode()).hexdigest()[:8]}.zip"


class _Heard:
    """A `Progress` that keeps what may matter, for the construct to tell."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def task(self, stage: str, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return SILENT.task(stage, label, total, unit=unit)

    def info(self, message: str) -> None:
        """Not told: a synthesis is run often."""

    def detail(self, message: str) -> None:
        """Nor is this."""

    def warning(self, message: str) -> None:
        self.warnings.append(message)
