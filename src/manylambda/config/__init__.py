"""Settings of a project: flags before environment before file."""

from manylambda.config.fields import FIELDS, PREFIX, Field, Shape
from manylambda.config.settings import AuditSettings, Settings, is_package, load, load_audit, load_settings

__all__ = [
    "FIELDS",
    "PREFIX",
    "AuditSettings",
    "Field",
    "Settings",
    "Shape",
    "is_package",
    "load",
    "load_audit",
    "load_settings",
]
