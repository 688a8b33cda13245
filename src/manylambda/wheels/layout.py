"""Where the files of a wheel lie in a package: what an installer does, without unpacking.

For the target instead of the host: scripts get the runtime's interpreter, RECORD is written canonically.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from manylambda.tree import MODE_EXECUTABLE, MODE_FILE, Bytes, Entry, PackageTree, Span, checked_path, open_content

if TYPE_CHECKING:
    from manylambda.wheels.inventory import EntryPoint, Inventory

_MAX_SCRIPT: Final = 64 << 20


def package_tree(inventory: Inventory, *, interpreter: str, scripts: bool = False) -> PackageTree:
    """Lay the wheel out as it lies in `/var/task`: packages at the root, `dist-info` kept, RECORD written canonically.

    `interpreter` is the target's, such as `/var/lang/bin/python3.13`: the shebang of what `scripts` puts under `bin/`.
    Headers have no use at run time and stay out; so do scripts unless asked for. See `left_out`.
    """
    file = inventory.file
    origin = inventory.name
    entries: list[Entry] = []
    rows: list[tuple[str, str, str]] = []
    moved = _moved_members(inventory, scripts=scripts)
    for member in inventory.members:
        path = member.path
        mode = MODE_EXECUTABLE if member.executable else MODE_FILE
        content: Span | Bytes = Span(
            file, member.offset, member.compressed_size, member.method, member.crc32, member.size
        )
        record = member.record
        if path in moved:
            place = moved[path]
            if place is None:
                continue
            path, is_script = place
            if is_script:
                mode = MODE_EXECUTABLE
                content, record = _with_shebang(content, record, interpreter)
        entries.append(Entry(path, mode, content, origin))
        rows.append((path, record, str(content.size)))
    if scripts:
        for point in inventory.entry_points:
            data = _launcher(point, interpreter)
            path = f"bin/{point.name}"
            entries.append(Entry(path, MODE_EXECUTABLE, Bytes(data), origin))
            rows.append((path, _record_hash(data), str(len(data))))
    record_path = f"{inventory.dist_info}/RECORD"
    rows.sort()
    lines = [",".join((_csv(path), record, size)) for path, record, size in rows]
    lines.append(f"{_csv(record_path)},,\n")
    entries.append(Entry(record_path, MODE_FILE, Bytes("\n".join(lines).encode()), origin))
    return PackageTree(entries)


def left_out(inventory: Inventory, *, scripts: bool) -> tuple[str, ...]:
    """Return the members of a wheel that `package_tree` leaves out, as the wheel names them."""
    return tuple(path for path, place in _moved_members(inventory, scripts=scripts).items() if place is None)


def _moved_members(inventory: Inventory, *, scripts: bool) -> dict[str, tuple[str, bool] | None]:
    """Map each member below `.data/` to its place, as `pip install --target`, and whether it is a script; or None."""
    identity = _folded(inventory.dist_info.removesuffix(".dist-info"))
    launchers = {point.name for point in inventory.entry_points}
    moved: dict[str, tuple[str, bool] | None] = {}
    for path in [member.path for member in inventory.members if ".data/" in member.path]:
        top, _, rest = path.partition("/")
        if not top.endswith(".data") or _folded(top.removesuffix(".data")) != identity:
            continue
        scheme, _, rest = rest.partition("/")
        moved[path] = None
        if scheme in {"purelib", "platlib", "data"} and rest:
            moved[path] = checked_path(rest), False
        elif scheme == "scripts" and rest and scripts and rest not in launchers:
            moved[path] = f"bin/{rest}", True
    return moved


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _with_shebang(content: Span | Bytes, record: str, interpreter: str) -> tuple[Span | Bytes, str]:
    with open_content(content) as stream:
        if content.size > _MAX_SCRIPT or stream.read(8) != b"#!python":
            return content, record
        _, _, rest = stream.read().partition(b"\n")
    data = b"#!" + interpreter.encode() + b"\n" + rest
    return Bytes(data), _record_hash(data)


def _launcher(point: EntryPoint, interpreter: str) -> bytes:
    first = point.attribute.split(".")[0]
    return (
        f"#!{interpreter}\nimport sys\nfrom {point.module} import {first}\n"
        f'if __name__ == "__main__":\n    sys.exit({point.attribute}())\n'
    ).encode()


def _record_hash(data: bytes) -> str:
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    return "sha256=" + urlsafe_b64encode(sha256(data).digest()).rstrip(b"=").decode("ascii")


def _csv(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if any(char in path for char in ',"\n\r') else path
