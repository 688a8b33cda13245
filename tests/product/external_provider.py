"""A stand-in for Terraform's provider `hashicorp/external`, whose binary no index of packages has.

It speaks Terraform's plugin protocol 5 (github.com/hashicorp/terraform, docs/plugin-protocol/tfplugin5.proto) and does
with the data source `external` what the provider's documentation says: the program is given the query as JSON on its
standard input; what it prints must be an object of strings; where it fails, its standard error is the error. Run by
Terraform, with a Python that has `grpcio` and `msgpack`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc  # type: ignore[import-untyped,import-not-found,unused-ignore]
import msgpack  # type: ignore[import-untyped,import-not-found,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

STRINGS = ["map", "string"]
ATTRIBUTES = {
    "program": (["list", "string"], 4),  # 4: required, 5: optional, 6: computed
    "working_dir": ("string", 5),
    "query": (STRINGS, 5),
    "result": (STRINGS, 6),
    "id": ("string", 6),
}


# Messages of protocol buffers: fields of numbers and of bytes.


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def field(index: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return number(index << 3) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(index << 3 | 2) + number(len(data)) + data


def fields(message: bytes) -> dict[int, bytes]:
    """Give the last value of each field of bytes; there are no others in what is read here."""
    found, at = {}, 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = read()
        if key & 7 == 0:
            read()
            continue
        size = read()
        found[key >> 3] = message[at : at + size]
        at += size
    return found


def schema() -> bytes:
    attributes = b"".join(
        field(2, field(1, name) + field(2, json.dumps(kind)) + field(how, 1))
        for name, (kind, how) in ATTRIBUTES.items()
    )
    block = field(1, 1) + attributes
    empty = field(2, field(1, 1))
    return field(1, empty) + field(3, field(1, "external") + field(2, field(2, block)))


def failed(summary: str, detail: str) -> bytes:
    return field(2, field(1, 1) + field(2, summary) + field(3, detail))


def read_data_source(request: bytes, _: object) -> bytes:
    given = msgpack.unpackb(fields(fields(request)[2])[1], strict_map_key=False)
    ran = subprocess.run(
        given["program"],
        cwd=given["working_dir"],
        input=json.dumps(given["query"] or {}).encode(),
        capture_output=True,
        check=False,
    )
    if ran.returncode != 0:
        return failed("External Program Execution Failed", f"Error Message: {ran.stderr.decode()}")
    result = json.loads(ran.stdout)
    if not all(isinstance(value, str) for value in result.values()):
        return failed("Unexpected External Program Results", "a value is no string")
    return field(1, field(2, json.dumps({**given, "result": result, "id": "-"})))


def main() -> None:
    stopped = threading.Event()

    def stop(_: bytes, __: object) -> bytes:
        stopped.set()
        return b""

    def nothing(_: bytes, __: object) -> bytes:
        return b""

    def prepared(request: bytes, _: object) -> bytes:
        return field(1, fields(request)[1])

    provider = {
        "GetSchema": lambda _, __: schema(),
        "PrepareProviderConfig": prepared,
        "ValidateDataSourceConfig": nothing,
        "Configure": nothing,
        "ReadDataSource": read_data_source,
        "Stop": nothing,
    }
    services: dict[str, dict[str, Callable[[bytes, object], bytes]]] = {
        "tfplugin5.Provider": provider,
        "plugin.GRPCController": {"Shutdown": stop},
    }
    server = grpc.server(ThreadPoolExecutor(8))
    for service, methods in services.items():
        handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"1|5|tcp|127.0.0.1:{port}|grpc\n")
    sys.stdout.flush()
    stopped.wait()
    server.stop(None)


if __name__ == "__main__":
    main()
