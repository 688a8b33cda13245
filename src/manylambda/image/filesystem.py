"""The file system that the layers of an image make, and the contents of those of its files that are wanted.

Every path is known, with its kind, mode and size; contents are spooled to a temporary folder for the wanted folders
only, and for others when they are asked for. Layers are applied as container runtimes apply them: in order, with
whiteouts for what a layer removed, links followed inside the image only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from manylambda.errors import UnsafeArchive
from manylambda.image.layers import Budget, LayerStream
from manylambda.image.store import MAX_UNPACKED, no_room
from manylambda.image.tar import members, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from manylambda.image.layers import Layer
    from manylambda.image.store import Scratch, Store
    from manylambda.image.tar import Member

MAX_FILES: Final = 1_000_000
_MAX_DEPTH: Final = 200
_MAX_LINKS: Final = 40  # as Linux
_CHUNK: Final = 1 << 18

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"

NodeKind: TypeAlias = Literal["file", "folder", "symlink", "other"]


class Node:
    """One thing in the file system; two names of one file (a hard link) share it."""

    __slots__ = ("children", "file", "kind", "layer", "link", "member", "mode", "names", "size")

    def __init__(self, kind: NodeKind, layer: int, *, member: int = -1, mode: int = 0o755, size: int = 0) -> None:
        self.kind: NodeKind = kind
        self.layer = layer
        """The number of the image layer that brought it."""
        self.member = member
        """Its place in that layer."""
        self.mode = mode
        """Permission bits."""
        self.size = size
        """Bytes of a file."""
        self.link = ""
        """Where a symbolic link leads, as it is written there."""
        self.file: Path | None = None
        """Where the contents are, once they are spooled."""
        self.names = 1
        """How many paths lead to it."""
        self.children: dict[str, Node] | None = {} if kind == "folder" else None


class FileSystem:
    """What a container made of the image would see below `/`."""

    def __init__(
        self,
        store: Store,
        layers: Sequence[Layer],
        scratch: Scratch,
        wanted: Iterable[str],
        *,
        limit: int = MAX_UNPACKED,
        max_files: int = MAX_FILES,
    ) -> None:
        """Read every layer once; files below the folders of `wanted` (absolute, without a last `/`) are spooled.

        `limit` is in bytes, over all layers. Raises `UnsafeArchive` for layers that are damaged, hostile, or that no
        runtime could unpack, and `PackagingError` when the temporary folder is full.
        """
        self.root = Node("folder", -1)
        self.unpacked_size = 0
        """Bytes of all layers, uncompressed: what Lambda counts."""
        self._store = store
        self._layers = tuple(layers)
        self._scratch = scratch
        self._limit = limit
        self._wanted = tuple(tuple(_parts(folder)) for folder in wanted)
        self._files_left = max_files
        self._layer = 0
        budget = Budget(limit)
        for number, layer in enumerate(self._layers):
            self._layer = number
            with LayerStream(store, layer, budget) as stream:
                for place, member in enumerate(members(stream, stream.name)):
                    self._apply(stream, place, member)
        self.unpacked_size = budget.used

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Yield every path (absolute) and what is there, sorted, no link followed."""
        return _walk("", self.root)

    def find(self, path: str) -> tuple[str, Node] | None:
        """Return the true path and the thing that an absolute path leads to, every link followed inside the image."""
        found = self._follow(_parts(path), follow_last=True)
        return None if found is None else ("/" + "/".join(found[0]), found[1])

    def below(self, folder: str) -> Iterator[tuple[str, Node]]:
        """Yield all that is in a folder: the path relative to it and what is there, sorted, no link followed."""
        found = self.find(folder)
        if found is not None and found[1].kind == "folder":
            for path, node in _walk("", found[1]):
                yield path[1:], node

    def spool(self, nodes: Iterable[Node]) -> None:
        """See to it that the contents of these files lie on disk; the layers that have them are read once more."""
        needed: dict[int, dict[int, Node]] = {}
        for node in nodes:
            if node.kind == "file" and node.file is None:
                needed.setdefault(node.layer, {})[node.member] = node
        budget = Budget(self._limit)
        for number, wanted in sorted(needed.items()):
            last = max(wanted)
            with LayerStream(self._store, self._layers[number], budget) as stream:
                for place, member in enumerate(members(stream, stream.name)):
                    if place in wanted:
                        self._write(stream, member, wanted[place])
                    if place == last:
                        break

    def _apply(self, stream: LayerStream, place: int, member: Member) -> None:
        parts = _parts(member.path)
        if ".." in parts:
            raise UnsafeArchive(
                f"unsafe path in an image layer: {member.path!r}",
                hint="a path must not lead out with `..`; do not use this file",
            )
        if not parts:
            return
        name = parts[-1]
        if name.startswith(_WHITEOUT):
            self._white_out(parts[:-1], name)
            return
        self._files_left -= 1
        if self._files_left < 0:
            raise UnsafeArchive(f"`{stream.name}` has too many files", hint="do not use this file")
        where, parent = self._folder(parts[:-1], member.path)
        assert parent.children is not None
        old = parent.children.get(name)
        if member.kind == "folder" and old is not None and old.kind == "folder":
            old.layer, old.mode = self._layer, member.mode
            return
        if member.kind == "hardlink":
            found = self._follow(_parts(member.link), follow_last=False)
            if found is None or found[1].kind == "folder":
                raise UnsafeArchive(
                    f"`{stream.name}` has a hard link to nothing: `{shown(member.path)}` to `{shown(member.link)}`",
                    hint="no runtime can unpack it: build the image again",
                )
            node = found[1]
            node.names += 1
        else:
            kind: NodeKind = member.kind
            node = Node(kind, self._layer, member=place, mode=member.mode, size=member.size)
            node.link = member.link
        if old is not None:
            self._drop(old)
        parent.children[name] = node
        is_new = node.kind == "file" and member.kind != "hardlink"
        if is_new and any(where[: len(one)] == one for one in self._wanted):
            self._write(stream, member, node)

    def _write(self, stream: LayerStream, member: Member, node: Node) -> None:
        if member.is_sparse:
            raise UnsafeArchive(
                f"`{stream.name}` has a sparse file: `{shown(member.path)}`",
                hint="build the image again without sparse files",
            )
        file = self._scratch.new_file()
        left = member.size
        try:
            with file.open("wb") as sink:
                while left:
                    data = stream.read_some(min(left, _CHUNK))
                    if not data:
                        raise UnsafeArchive(
                            f"`{stream.name}` is cut short in `{shown(member.path)}`",
                            hint="save or download the image again",
                        )
                    left -= len(data)
                    sink.write(data)
        except OSError as error:
            raise no_room(error) from error
        node.file = file

    def _white_out(self, folder: Sequence[str], name: str) -> None:
        """Remove what lower layers brought; what this layer brings beside its whiteout stays (OCI image spec)."""
        found = self._follow(folder, follow_last=True)
        if found is None or found[1].children is None:
            return
        children = found[1].children
        if name == _OPAQUE:
            doomed = list(children)
        elif name.startswith(_WHITEOUT * 2):
            return  # bookkeeping of AUFS
        else:
            doomed = [name.removeprefix(_WHITEOUT)]
        for one in doomed:
            node = children.get(one)
            if node is not None and not self._stays(node):
                del children[one]

    def _stays(self, node: Node) -> bool:
        """Drop what is of lower layers; whether anything is left."""
        if node.children is not None:
            for name, child in list(node.children.items()):
                if not self._stays(child):
                    del node.children[name]
            return node.layer == self._layer or bool(node.children)
        if node.layer == self._layer:
            return True
        self._drop(node)
        return False

    def _drop(self, node: Node) -> None:
        for child in list((node.children or {}).values()):
            self._drop(child)
        node.names -= 1
        if node.names == 0 and node.file is not None:
            node.file.unlink(missing_ok=True)
            node.file = None

    def _folder(self, parts: Sequence[str], path: str) -> tuple[tuple[str, ...], Node]:
        """Return the folder that a member goes into and its true path; what is not there yet is made."""
        where: list[str] = []
        chain = [self.root]
        waiting = list(reversed(parts))
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                if where:
                    where.pop()
                    chain.pop()
                continue
            children = chain[-1].children
            assert children is not None
            node = children.get(part)
            if node is None:
                node = children[part] = Node("folder", self._layer)
                self._files_left -= 1
            elif node.kind == "symlink":
                links += 1
                if links > _MAX_LINKS:
                    raise UnsafeArchive(f"links lead in a circle in an image layer: {path!r}")
                if node.link.startswith("/"):
                    where, chain = [], [self.root]
                waiting.extend(reversed(_parts(node.link)))
                continue
            elif node.kind != "folder":
                raise UnsafeArchive(
                    f"an image layer has {path!r} below a file", hint="no runtime can unpack it: build the image again"
                )
            where.append(part)
            chain.append(node)
            if len(where) > _MAX_DEPTH:
                raise UnsafeArchive(f"an image layer has a path of more than {_MAX_DEPTH} folders")
        return tuple(where), chain[-1]

    def _follow(self, parts: Sequence[str], *, follow_last: bool) -> tuple[tuple[str, ...], Node] | None:
        where: list[str] = []
        chain = [self.root]
        waiting = list(reversed(parts))
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                if where:
                    where.pop()
                    chain.pop()
                continue
            node = (chain[-1].children or {}).get(part)
            if node is None:
                return None
            if node.kind == "symlink" and (waiting or follow_last):
                links += 1
                if links > _MAX_LINKS:
                    return None
                if node.link.startswith("/"):
                    where, chain = [], [self.root]
                waiting.extend(reversed(_parts(node.link)))
                continue
            where.append(part)
            chain.append(node)
        return tuple(where), chain[-1]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _walk(path: str, folder: Node) -> Iterator[tuple[str, Node]]:
    waiting = [(path, folder)]
    while waiting:
        where, node = waiting.pop()
        if node is not folder:
            yield where, node
        if node.children:
            waiting.extend((f"{where}/{name}", child) for name, child in sorted(node.children.items(), reverse=True))
