"""Folders that a run needs, such as a trial; those of a run that was killed are removed by the next one.

Whose run still goes on is told by a lock on the folder, which the kernel gives back when its holder ends in whatever
way: a process id would be another's in a container that shares the room. The id in the name is for people.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows: there what a killed run leaves is for the system to clean up
    fcntl = None  # type: ignore[assignment]

# Not as other folders for trials are called (`manylambda-trial-x1y2z3a4`), which have no lock.
_PREFIX: Final = "manylambda-trial-{}-"
_NAME: Final = re.compile(r"manylambda-trial-\d+-[a-z0-9_]{8}")


class Folder:
    """A new folder that only this user can read, in `room`, or where temporary folders are; gone with `close`."""

    def __init__(self, room: str | None = None) -> None:
        room = room or tempfile.gettempdir()
        _sweep(room)
        self._lock: int | None = None
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX.format(os.getpid()), dir=room))
            if fcntl is None:
                return
            with contextlib.suppress(OSError):  # on a file system that knows no locks nobody else gets one either
                self._lock = os.open(self.path, os.O_RDONLY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.path.is_dir():
                return
            self.close()  # before it was locked somebody else took it for left behind

    def close(self) -> None:
        """Remove it; may be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def folder(room: str | None = None) -> Iterator[Path]:
    """Give a `Folder` for as long as the context lasts."""
    made = Folder(room)
    try:
        yield made.path
    finally:
        made.close()


def _sweep(room: str) -> None:
    """Remove this user's folders that nobody holds."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(room) as entries:
        for entry in entries:
            if not _NAME.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                found = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    if os.fstat(found).st_uid == os.geteuid():
                        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(found)
