"""Run poetry against an index that serves the Simple API but not the JSON page of each release.

Poetry reads `/pypi/<name>/<version>/json`, which many mirrors do not have. The lock it writes is the same.
"""

from poetry.console.application import main
from poetry.repositories.legacy_repository import LegacyRepository
from poetry.repositories.pypi_repository import PyPiRepository

_simple = LegacyRepository("PyPI", "https://pypi.org/simple/")
PyPiRepository._get_release_info = lambda self, name, version: _simple._get_release_info(name, version)

main()
