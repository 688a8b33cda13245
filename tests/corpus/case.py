"""What a row of the corpus is, and the ways in which packages are broken."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from corpus.box import Box
from wheel_factory import DEFLATED, STORED, SYMLINK, Part

if TYPE_CHECKING:
    from collections.abc import Callable


class Expected(NamedTuple):
    """One finding."""

    rule: str
    severity: str
    where: str | None
    """Its path, or its distribution where it has one and the path says no more."""
    fragment: str
    """Part of the message."""


class Case(NamedTuple):
    """A package and what is wrong with it."""

    name: str
    target: str
    wheels: tuple[str, ...]
    """Keys of `wheels.toml`."""
    change: Callable[[Box], object]
    expected: tuple[Expected, ...]
    kind: str = "zip"
    """How it is written: `zip`, `dir`, `layer` (a zip below `python/`), or `wheel`, as it came."""
    layers: tuple[tuple[str, ...], ...] = ()
    """Wheels of each layer."""
    layer_change: Callable[[Box], object] | None = None
    """What is done to every layer besides."""
    handler: str | None = None


def error(rule: str, where: str | None, fragment: str) -> Expected:
    return Expected(rule, "error", where, fragment)


def warning(rule: str, where: str | None, fragment: str) -> Expected:
    return Expected(rule, "warning", where, fragment)


def note(rule: str, where: str | None, fragment: str) -> Expected:
    return Expected(rule, "note", where, fragment)


def nothing(box: Box) -> None:
    """Leave it as it was installed."""


def both(*changes: Callable[[Box], object]) -> Callable[[Box], object]:
    def change(box: Box) -> None:
        for one in changes:
            one(box)

    return change


def recorded(box: Box) -> None:
    """Write RECORD anew: what is there was meant."""
    box.rerecord("*")


def edited(pattern: str, *changes: Callable[[bytes], bytes]) -> Callable[[Box], object]:
    """Change bytes, and RECORD with them: the file was built so, it was not damaged on its way."""
    return both(lambda box: box.edit(pattern, *changes), recorded)


def removed(*patterns: str) -> Callable[[Box], object]:
    return both(*(partial(Box.remove, pattern=pattern) for pattern in patterns), recorded)


def renamed(pattern: str, old: str, new: str) -> Callable[[Box], object]:
    return both(lambda box: box.rename(pattern, old, new), recorded)


def added(path: str, data: bytes | str = b"", mode: int = 0o644) -> Callable[[Box], object]:
    return lambda box: box.add(path, data, mode)


def zeros(box: Box, path: str, size: int, *, stored: bool = False) -> None:
    """Put a large file there that costs nothing: one deflated block of zeros again and again."""
    crc = 0
    block = bytes(1 << 20)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw = b""
    for at in range(0, size, len(block)):
        chunk = block[: min(len(block), size - at)]
        crc = zlib.crc32(chunk, crc)
        raw += b"" if stored else deflater.compress(chunk)
    raw = bytes(size) if stored else raw + deflater.flush()
    box.parts[path] = Part(name=path.encode(), raw=raw, crc32=crc, size=size, method=STORED if stored else DEFLATED)


def named_otherwise(path: str, data: str = "x = 1\n") -> Callable[[Box], object]:
    """Put a member there whose name no honest tool writes."""

    def change(box: Box) -> None:
        box.parts[f"otherwise {path}"] = Part(name=path.encode(), data=data.encode())

    return change


def linked(path: str, target: str) -> Callable[[Box], object]:
    def change(box: Box) -> None:
        box.parts[path] = Part(name=path.encode(), data=target.encode(), mode=SYMLINK | 0o777, method=STORED)

    return change


def backslashes(box: Box) -> None:
    """Name members as .NET Framework's `ZipFile` did before 4.6.1."""
    for path, part in box.parts.items():
        box.parts[path] = replace(part, name=path.replace("/", "\\").encode(), create_system=0, mode=0)


def compressed(method: int) -> Callable[[Box], object]:
    def change(box: Box) -> None:
        for path in list(box.parts):
            box.parts[path] = Part(name=path.encode(), data=box.read(path), method=method)

    return change


X13, A13, X12, A12, X11, X9 = (
    "python3.13-x86_64",
    "python3.13-arm64",
    "python3.12-x86_64",
    "python3.12-arm64",
    "python3.11-x86_64",
    "python3.9-x86_64",
)
SO13 = "markupsafe/_speedups.cpython-313-x86_64-linux-gnu.so"
MARKUPSAFE = "markupsafe-cp313-x86_64"
ZMQ = "zmq/backend/cython/_zmq.abi3.so"
GMPY2 = "gmpy2/gmpy2.cpython-313-x86_64-linux-gnu.so"
YAML = "yaml/_yaml.cpython-313-x86_64-linux-gnu.so"
ORJSON = "orjson/orjson.cpython-313-x86_64-linux-gnu.so"
PYDANTIC = ("pydantic", "pydantic-core", "typing-extensions", "annotated-types", "typing-inspection")
RETAGGED = "which is not for"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 31400\n"
HANDLER = "import json\n\ndef lambda_handler(event, context):\n    return json.dumps(event)\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + 64 * "A" + "\n-----END RSA PRIVATE KEY-----\n"
PYC_311 = b"\xa7\x0d\r\n" + bytes(12)

DEPRECATED_39 = warning("runtime-deprecated", None, "python3.9")
