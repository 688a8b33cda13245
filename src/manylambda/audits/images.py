"""Container images as packages: which files of an image are the function, and what its configuration says of it.

`/var/task` is the function, `/opt` is where layers would be; where nothing is in `/var/task`, the working folder is
the function (AWS's own examples for other base images use `/function`). What `pip install` put into the interpreter's
own `site-packages` runs as well. All else of the image is not read, but known by name; of its libraries those are read
that the function's native files need (`libraries`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from manylambda.audits.findings import PROJECT
from manylambda.audits.libraries import ImageLibraries
from manylambda.audits.making import Mode, UnsafeName
from manylambda.errors import UnsafeArchive
from manylambda.image import FileSystem, Scratch, choose, open_store, read_images
from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, DiskFile, Entry, checked_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from manylambda.audits.libraries import Libraries
    from manylambda.image import Image, Node
    from manylambda.target import Target

TASK: Final = "/var/task"
LAYERS: Final = "/opt"
_PREFIXES: Final = ("/var/lang", "/usr/local")
_MAX_LINKED: Final = 50_000
_HANDLER: Final = re.compile(r"[^\s.][^\s]*\.[^\W\d]\w*")


class ImageFacts(NamedTuple):
    """What is known of an image besides the files of the function."""

    image: Image
    task_folder: str
    """Where the function's files lie: `/var/task`, or the working folder."""
    is_lambda_base: bool
    """Whether it was made from one of Lambda's base images for Python."""
    pythons: tuple[str, ...]
    """The interpreters that are there by name: `3.13`."""
    has_entry_point: bool | None
    """Whether the program of ENTRYPOINT is in the image; None where it is not named by its full path."""
    unpacked_size: int
    """Bytes of all image layers, uncompressed: what Lambda counts."""
    libraries: Libraries
    """What native files of the function find in the image besides each other."""

    @property
    def handler(self) -> str | None:
        """The handler that CMD gives to Lambda's runtime; None where that cannot be told."""
        words = self.image.config.command
        return words[0] if self.runs_handlers and len(words) == 1 and _HANDLER.fullmatch(words[0]) else None

    @property
    def runs_handlers(self) -> bool:
        """Whether ENTRYPOINT is a program that takes a handler: Lambda's own, or its runtime interface client."""
        return any(
            word.endswith("/lambda-entrypoint.sh") or "awslambdaric" in word for word in self.image.config.entry_point
        )


class OpenedImage(NamedTuple):
    """The files of an image that count, and what is known of it."""

    facts: ImageFacts
    files: Mapping[str, dict[str, Entry]]
    """By the absolute folder they lie in: the function's (always there), `/opt`, and each `site-packages`."""
    symlinks: Mapping[str, str]
    """Links among the function's files, and where they lead; the files they lead to stand in their place."""
    closed: tuple[Mode, ...]
    """What the user that Lambda runs may not read, among the function's files."""
    linked: frozenset[str]
    """The function's files that are there through a link only."""
    unsafe: tuple[UnsafeName, ...]
    """The function's files whose names no tree takes, as they are; they are left out."""
    scratch: Scratch
    """Where the contents lie: as long as it is held."""


def open_image(path: Path, target: Target | None) -> OpenedImage:
    """Read a saved image: the one for the target's architecture where there are several.

    Raises `RequestError` where there is no image, or none that fits; `UnsafeArchive` for a damaged or hostile one.
    """
    scratch = Scratch()
    store = open_store(path, scratch)
    image = choose(read_images(store), None if target is None else target.architecture.oci, path.name)
    minor = r"3\.\d+" if target is None else re.escape("{}.{}".format(*target.python))
    is_site = re.compile(rf"(?:{'|'.join(_PREFIXES)})/lib/python{minor}/(?:site|dist)-packages")
    wanted = [TASK, LAYERS]
    if target is not None:
        wanted += [f"{prefix}/lib/python{'{}.{}'.format(*target.python)}/site-packages" for prefix in _PREFIXES]
    system = FileSystem(store, image.layers, scratch, wanted)
    everything = dict(system)
    task = _task_folder(system, image)
    folders = [
        task,
        *([] if task.startswith(f"{LAYERS}/") else [LAYERS]),
        *(where for where, node in everything.items() if is_site.fullmatch(where)),
    ]
    taken: dict[str, _Taken] = {}
    for folder in folders:
        taken[folder] = _Taken(system, folder)
    system.spool(node for each in taken.values() for node in each.nodes.values())
    entry_point = image.config.entry_point
    is_lambda_base = system.find("/var/runtime") is not None and system.find("/var/lang/bin") is not None
    facts = ImageFacts(
        image=image,
        task_folder=task,
        is_lambda_base=is_lambda_base,
        pythons=tuple(_pythons(everything)),
        has_entry_point=system.find(entry_point[0]) is not None
        if entry_point and entry_point[0].startswith("/")
        else None,
        unpacked_size=system.unpacked_size,
        libraries=ImageLibraries(system, image.config.environment, task, is_lambda_base=is_lambda_base),
    )
    return OpenedImage(
        facts=facts,
        files={folder: each.entries() for folder, each in taken.items() if each.nodes or folder == task},
        symlinks=taken[task].symlinks,
        closed=tuple(taken[task].closed),
        linked=frozenset(taken[task].linked),
        unsafe=tuple(taken[task].unsafe),
        scratch=scratch,
    )


def _task_folder(system: FileSystem, image: Image) -> str:
    working = image.config.working_folder.rstrip("/")
    if any(True for _ in system.below(TASK)) or not working.startswith("/") or working == TASK:
        return TASK
    return working if any(node.kind == "file" for _, node in system.below(working)) else TASK


def _pythons(paths: Iterable[str]) -> Iterator[str]:
    """Yield the versions of the interpreters that stand where base images have them."""
    found = {
        tuple(map(int, match.groups()))
        for path in paths
        if (match := re.fullmatch(r"(?:/var/lang|/usr/local|/usr)/bin/python(\d+)\.(\d+)", path))
    }
    for version in sorted(found):
        yield "{}.{}".format(*version)


class _Taken:
    """The files below one folder, with links to files and folders anywhere in the image followed."""

    def __init__(self, system: FileSystem, folder: str) -> None:
        self.nodes: dict[str, Node] = {}
        self.symlinks: dict[str, str] = {}
        self.closed: list[Mode] = []
        self.linked: set[str] = set()
        self.unsafe: list[UnsafeName] = []
        self._system = system
        self._left = _MAX_LINKED
        for path, node in system.below(folder):
            match node.kind:
                case "file":
                    if self._add(path, node) and node.mode & 0o004 == 0:
                        self.closed.append(Mode(path, node.mode, is_folder=False))
                case "folder":
                    if node.mode & 0o005 != 0o005 and self._is_safe(path):
                        self.closed.append(Mode(path, node.mode, is_folder=True))
                case "symlink":
                    self._follow(folder, path, node)
                case "other":
                    pass  # a device or a pipe has no contents

    def _follow(self, folder: str, path: str, link: Node) -> None:
        self.symlinks[path] = link.link
        where = f"{folder}/{path}"
        found = self._system.find(where)
        if found is None:
            return
        true, node = found
        if node.kind == "file":
            self._add_linked(path, node)
        elif node.kind == "folder" and not f"{where}/".startswith(f"{true.rstrip('/')}/"):
            for below, one in self._system.below(true):
                if one.kind == "file":
                    self._add_linked(f"{path}/{below}", one)

    def _add(self, path: str, node: Node) -> bool:
        if not self._is_safe(path):
            self.unsafe.append(UnsafeName(path, "backslash" if "\\" in path else "unreadable"))
            return False
        self.nodes[path] = node
        return True

    def _is_safe(self, path: str) -> bool:
        try:
            checked_path(path)
        except UnsafeArchive:
            return False
        return True

    def _add_linked(self, path: str, node: Node) -> None:
        if path in self.nodes:
            return
        self._left -= 1
        if self._left < 0:
            raise UnsafeArchive(f"links in the image lead to more than {_MAX_LINKED:,} files", hint="remove such links")
        self.linked.add(path)
        self._add(path, node)

    def entries(self) -> dict[str, Entry]:
        """Return the files as entries; their contents were spooled."""
        found: dict[str, Entry] = {}
        for path, node in sorted(self.nodes.items()):
            assert node.file is not None
            mode = MODE_EXECUTABLE if node.mode & 0o111 else MODE_FILE
            found[path] = Entry(path, mode, DiskFile(node.file, node.size), PROJECT)
        return found
