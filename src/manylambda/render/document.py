"""Results as plain data for `--format json`: a contract that scripts depend on; the schemas lie in `data/`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manylambda.pipeline.artifact import Artifact
    from manylambda.pipeline.build import BuildResult
    from manylambda.pipeline.lock import LockResult
    from manylambda.pipeline.plan import Plans
    from manylambda.pipeline.recipes.model import Recipe
    from manylambda.pipeline.trial import TrialResult
    from manylambda.pipeline.wheel import WheelResult
    from manylambda.target import Target


def build(result: BuildResult, trials: Mapping[Target, TrialResult] | None = None) -> dict[str, Any]:
    """Return the document of `manylambda build`, with the `trials` of its packages where there were any."""
    return {
        "version": 1,
        "source": {"kind": result.source.kind.value, "files": [str(file) for file in result.source.files]},
        "artifacts": [_artifact(artifact, (trials or {}).get(artifact.target)) for artifact in result.artifacts],
    }


def _artifact(artifact: Artifact, tried: TrialResult | None) -> dict[str, Any]:
    if tried is not None:
        from manylambda.render import trial

        return {**_artifact(artifact, None), "trial": trial.document(tried)}
    if artifact.kind == "image":
        from manylambda.render import image

        return {**_package(artifact), "image": image.document(artifact)}
    return _package(artifact)


def _package(artifact: Artifact) -> dict[str, Any]:
    written = artifact.written
    return {
        "target": str(artifact.target),
        "kind": artifact.kind,
        "path": str(artifact.path) if written and artifact.path else None,
        "sha256": written.sha256 if written else None,
        "code_sha256": written.code_sha256 if written else None,
        "size": written.size if written else None,
        "unzipped_size": written.unzipped_size if written else artifact.report.unzipped_size,
        "files": written.files if written else artifact.report.files,
        "distributions": [
            {
                "name": one.name,
                "version": one.version,
                "file": one.file,
                "sha256": one.sha256,
                "size": one.size,
                "unzipped_size": one.unzipped_size,
                "compiled": one.compiled,
            }
            for one in artifact.distributions
        ],
        "findings": [finding.to_json() for finding in artifact.report.findings],
        "ignored": [ignored.to_json() for ignored in artifact.report.ignored],
    }


def terraform(result: BuildResult) -> dict[str, str]:
    """Return what Terraform's data source `external` takes of a build of one package: text only, one level deep.

    The place is relative to the working folder, with slashes: then it is the same wherever the project lies.
    """
    (artifact,) = result.artifacts
    assert artifact.path is not None
    assert artifact.written is not None
    try:
        place = os.path.relpath(artifact.path)
    except ValueError:  # Windows: on another drive
        place = str(artifact.path)
    return {
        "filename": place.replace(os.sep, "/"),
        "source_code_hash": str(artifact.written.code_sha256),
        "sha256": artifact.written.sha256,
        "target": str(artifact.target),
    }


def wheel(result: WheelResult) -> dict[str, Any]:
    """Return the document of `manylambda wheel`."""
    return {
        "version": 1,
        "wheels": [
            {
                "target": str(one.target),
                "name": one.name,
                "version": one.version,
                "file": one.filename,
                "path": str(one.path) if one.path else None,
                "sha256": one.sha256,
                "size": one.size,
                "source": one.source,
                "built": one.is_built,
                "findings": [finding.to_json() for finding in one.report.findings],
                "ignored": [ignored.to_json() for ignored in one.report.ignored],
            }
            for one in result.wheels
        ],
    }


def lock(result: LockResult) -> dict[str, Any]:
    """Return the document of `manylambda lock`."""
    return {
        "version": 1,
        "path": str(result.path),
        "targets": [str(target) for target in result.targets],
        "packages": result.packages,
        **({} if result.differences is None else {"differences": [one._asdict() for one in result.differences]}),
    }


def recipe(result: Recipe) -> dict[str, Any]:
    """Return the document of `manylambda init`."""
    return {
        "version": 1,
        "recipe": result.recipe,
        "targets": [str(target) for target in result.targets],
        "files": [str(path) for path in result.files],
        "steps": list(result.steps),
        **result.facts,
    }


def plan(plans: Plans) -> dict[str, Any]:
    """Return the document of `manylambda plan`."""
    from manylambda.render.readiness import blockers

    return {
        "version": 1,
        "targets": [
            {
                "target": str(one.target),
                "error": {"code": one.error.code, "message": one.error.message, "hint": one.error.hint}
                if one.error
                else None,
                "blockers": blockers(one.obstacles),
                "distributions": [
                    {
                        "name": planned.name,
                        "version": planned.version,
                        "file": planned.file,
                        "compiled": planned.compiled,
                        "size": planned.size,
                        "unzipped_size": planned.unzipped_size,
                        "languages": list(planned.languages) if planned.languages is not None else None,
                        "reason": planned.reason,
                        "refused": [
                            {"file": refusal.filename, "reason": refusal.reason.word, "message": refusal.sentence}
                            for refusal in planned.refused
                        ],
                    }
                    for planned in one.distributions
                ],
            }
            for one in plans.targets
        ],
    }


def targets(chosen: Sequence[Target] | Iterable[Target]) -> dict[str, Any]:
    """Return the document of `manylambda targets`."""
    return {"version": 1, "targets": [target.to_dict() for target in chosen]}
