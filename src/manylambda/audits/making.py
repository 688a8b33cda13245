"""How the tool that made a package wrote it: what a tree of files does not tell, as facts for the rules.

Only what is out of the ordinary is kept, so a package written well costs nothing. Paths are those of the tree, or a
printable form of them where the file could not be put there.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

UnsafeReason: TypeAlias = Literal["outside", "backslash", "unreadable", "unnormalised", "duplicate", "file-and-folder"]
"""`unreadable` names hold control characters, are not Unicode or have no end; a `duplicate` has other bytes than its
namesake."""

Fate: TypeAlias = Literal["inside", "outside", "absolute", "nowhere", "round"]
"""Where a link leads to; `round` is to itself in the end."""


class UnsafeName(NamedTuple):
    """A member whose name is not the path of one file on Linux."""

    path: str
    reason: UnsafeReason


class Link(NamedTuple):
    """A symbolic link, the text it holds and where that leads to."""

    path: str
    target: str
    fate: Fate


class Mode(NamedTuple):
    """A file or folder that not everybody may read, by its permissions in the archive or on disk."""

    path: str
    mode: int
    is_folder: bool


class OddMethod(NamedTuple):
    """A file compressed in a way other than stored or deflated."""

    path: str
    method: int
    """As the zip format counts them."""


class Row(NamedTuple):
    """One line of a RECORD."""

    path: str
    """In the tree."""
    sha256: str | None
    """As RECORD writes it: urlsafe base64 without padding; None where it has none, or another kind of hash."""
    size: int | None
    """Bytes."""


class Record(NamedTuple):
    """What the installer of a distribution says it put there."""

    distribution: str
    """Normalised."""
    dist_info: str
    """The path of its `.dist-info` folder."""
    site: str
    """The folder that it lies in, with its `/`; empty for the root."""
    rows: tuple[Row, ...]
    """Those that lie within the package."""
    is_cut: bool = False
    """Whether it is too much, or not enough of a RECORD, to be read to its end."""


class Making(NamedTuple):
    """All that is known of how a package was written."""

    unsafe: tuple[UnsafeName, ...] = ()
    links: tuple[Link, ...] = ()
    linked: frozenset[str] = frozenset()
    """Paths of the tree that are there through a link only; what they lead to is in the tree itself."""
    closed: tuple[Mode, ...] = ()
    """Files that not everybody may read, and folders that not everybody may search."""
    on_windows: bool = False
    """There are no Unix modes: once Lambda has unpacked it every file can be read, none can be run."""
    methods: tuple[OddMethod, ...] = ()
    encrypted: tuple[str, ...] = ()
    zip64: tuple[str, ...] = ()
    """Files with zip64 records."""
    has_zip64_end: bool = False
    members: int = 0
    """Of the archive's directory, folders included; 0 for a folder on disk."""
    records: tuple[Record, ...] = ()


UNKNOWN = Making()
"""For packages whose making needs no look, such as our own."""
