"""Source code becomes wheels: folders of this machine, and source distributions that the user allows."""

from manylambda.sdists.build import Builder
from manylambda.sdists.model import BuildSettings, BuiltWheel, Fallback
from manylambda.sdists.source import examine_archive

__all__ = ["BuildSettings", "BuiltWheel", "Builder", "Fallback", "examine_archive"]
