"""Build AWS Lambda packages for Python that are right for the target and proved to be.

    from pathlib import Path
    from manylambda import build, load_settings

    result = build(load_settings(Path("."), targets=["python3.13-arm64"]))

The same functions the command line uses. They never print and never exit: they return values, raise the errors of
`manylambda.errors`, and tell a `manylambda.progress.Progress` what a person waiting might want to hear.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manylambda._version import __version__
    from manylambda.audits import Finding, Ignore, Report, Severity
    from manylambda.config import Settings, load_settings
    from manylambda.errors import ManylambdaError
    from manylambda.pipeline.artifact import Artifact, ShippedDistribution
    from manylambda.pipeline.audit import audit
    from manylambda.pipeline.build import BuildResult, build
    from manylambda.pipeline.explain import Explanation, explain
    from manylambda.pipeline.lock import LockResult, lock
    from manylambda.pipeline.plan import PlannedDistribution, Plans, TargetPlan, plan
    from manylambda.pipeline.push import PushResult, push
    from manylambda.pipeline.readiness import Readiness, TargetReadiness, readiness
    from manylambda.pipeline.wheel import MadeWheel, WheelResult, wheel
    from manylambda.target import Architecture, GlibcVersion, Target, all_targets

__all__ = [
    "Architecture",
    "Artifact",
    "BuildResult",
    "Explanation",
    "Finding",
    "GlibcVersion",
    "Ignore",
    "LockResult",
    "MadeWheel",
    "ManylambdaError",
    "PlannedDistribution",
    "Plans",
    "PushResult",
    "Readiness",
    "Report",
    "Settings",
    "Severity",
    "ShippedDistribution",
    "Target",
    "TargetPlan",
    "TargetReadiness",
    "WheelResult",
    "__version__",
    "all_targets",
    "audit",
    "build",
    "explain",
    "load_settings",
    "lock",
    "plan",
    "push",
    "readiness",
    "wheel",
]

# Imported when first asked for: `manylambda --version` passes through this module too.
_HOMES: Final = {
    "Architecture": "target",
    "Artifact": "pipeline.artifact",
    "BuildResult": "pipeline.build",
    "Explanation": "pipeline.explain",
    "Finding": "audits",
    "GlibcVersion": "target",
    "Ignore": "audits",
    "LockResult": "pipeline.lock",
    "MadeWheel": "pipeline.wheel",
    "ManylambdaError": "errors",
    "PlannedDistribution": "pipeline.plan",
    "Plans": "pipeline.plan",
    "PushResult": "pipeline.push",
    "Readiness": "pipeline.readiness",
    "Report": "audits",
    "Settings": "config",
    "Severity": "audits",
    "ShippedDistribution": "pipeline.artifact",
    "Target": "target",
    "TargetPlan": "pipeline.plan",
    "TargetReadiness": "pipeline.readiness",
    "WheelResult": "pipeline.wheel",
    "__version__": "_version",
    "all_targets": "target",
    "audit": "pipeline.audit",
    "build": "pipeline.build",
    "explain": "pipeline.explain",
    "load_settings": "config",
    "lock": "pipeline.lock",
    "plan": "pipeline.plan",
    "push": "pipeline.push",
    "readiness": "pipeline.readiness",
    "wheel": "pipeline.wheel",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `manylambda` has no attribute `{name}`")
    return getattr(import_module(f"manylambda.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
