"""What is packaged: five sets of requirements, locked once for one target.

`locks/NAME.in` is what a user writes, `locks/NAME.txt` (pins with hashes) what the peers read, `locks/pylock.NAME.toml`
what we read; both were compiled from the first in one go, so that every tool packages the same files.
Run as a program it compiles them anew: `python -m benchmarks.workloads UV`.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TARGET: Final = "python3.13-arm64"
LOCKS: Final = Path(__file__).parent / "locks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel:
    """One file of a lock."""

    name: str
    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One set of requirements."""

    name: str
    label: str
    too_large: bool = False
    """Over Lambda's limit for zip packages: `manylambda` refuses to write it unless told not to look."""

    @property
    def source(self) -> Path:
        """What a user writes."""
        return LOCKS / f"{self.name.lower()}.in"

    @property
    def requirements(self) -> Path:
        """Pins with hashes."""
        return LOCKS / f"{self.name.lower()}.txt"

    @property
    def lock(self) -> Path:
        """The same pins as a PEP 751 lock."""
        return LOCKS / f"pylock.{self.name.lower()}.toml"

    def wheels(self) -> list[Wheel]:
        """Every file of the lock."""
        document: dict[str, Any] = tomllib.loads(self.lock.read_text(encoding="utf-8"))
        return [
            Wheel(name=package["name"], url=wheel["url"], sha256=wheel["hashes"]["sha256"])
            for package in document["packages"]
            for wheel in package["wheels"]
        ]


WORKLOADS: Final = (
    Workload(name="W1", label="requests, pydantic"),
    Workload(name="W2", label="aws-lambda-powertools[all], boto3"),
    Workload(name="W3", label="numpy, pandas, pyarrow"),
    Workload(name="W4", label="fastapi, mangum, cryptography, lxml, orjson, uvloop, redis[hiredis], protobuf"),
    Workload(name="W5", label="scikit-learn, scipy, pillow, matplotlib", too_large=True),
)


def compile_locks(uv: str) -> None:
    """Resolve every workload anew with the program `uv`."""
    for workload in WORKLOADS:
        for output, options in ((workload.requirements, ["--generate-hashes"]), (workload.lock, [])):
            output.unlink(missing_ok=True)  # uv would keep the versions it finds there
            subprocess.run(
                [
                    *(uv, "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate"),
                    *("--python-version", "3.13.0", "--python-platform", "aarch64-manylinux_2_34"),
                    *("--only-binary", ":all:", "--no-python-downloads", *options),
                    *("--output-file", str(output), str(workload.source)),
                ],
                check=True,
            )


if __name__ == "__main__":
    compile_locks(sys.argv[1] if len(sys.argv) > 1 else "uv")
