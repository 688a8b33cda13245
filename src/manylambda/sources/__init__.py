"""The files of a project, as a package tree; knows nothing of dependencies, targets or zip files."""

from __future__ import annotations

from manylambda.sources.project import (
    ORIGIN,
    FileRules,
    LeftOut,
    ProjectFiles,
    SourceFolder,
    found_sources,
    project_tree,
)

__all__ = ["ORIGIN", "FileRules", "LeftOut", "ProjectFiles", "SourceFolder", "found_sources", "project_tree"]
