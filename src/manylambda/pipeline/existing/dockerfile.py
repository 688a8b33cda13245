"""A Dockerfile on one of Lambda's own bases: its tag names the runtime, `CMD` the handler."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from manylambda.pipeline.existing.model import Described, Function, read

if TYPE_CHECKING:
    from pathlib import Path

_BASE: Final = re.compile(
    r"^[ \t]*FROM[ \t]+(?:--platform=(?:linux/)?(?P<platform>\w+)(?:/v8)?[ \t]+)?"
    r"(?:public\.ecr\.aws/lambda|amazon/aws-lambda|public\.ecr\.aws/sam/build)[/-]python:?"
    r"(?P<python>3\.\d+)(?:\.[\d.]+)?(?:-(?P<architecture>arm64|x86_64))?(?![\w.])",
    re.MULTILINE | re.IGNORECASE,
)
_COMMAND: Final = re.compile(r"^[ \t]*CMD[ \t]+(?P<words>\[[^\]\n]*\])", re.MULTILINE | re.IGNORECASE)
_ARCHITECTURES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}


def describe(project: Path) -> Described | None:
    """Read the Dockerfile; None where there is none on such a base."""
    source = read(project / "Dockerfile")
    base = _BASE.search(source.text) if source else None
    if source is None or base is None:
        return None
    commands = [match["words"] for match in _COMMAND.finditer(source.text)]
    told = base["architecture"] or base["platform"]
    function = Function(
        name="Dockerfile",
        file=source.path,
        line=source.line(base.start("python")),
        runtime=f"python{base['python']}",
        architecture=_ARCHITECTURES.get(told.lower()) if told else None,
        handler=_handler(commands[-1]) if commands else None,
        folder=project,
    )
    return Described(
        "Docker",
        (function,),
        ("the Dockerfile makes an image: `manylambda build --kind image` does too, without Docker",),
    )


def _handler(words: str) -> str | None:
    try:
        found = json.loads(words)
    except ValueError:
        return None
    return found[0] if len(found) == 1 and isinstance(found[0], str) and re.fullmatch(r"[\w./-]+", found[0]) else None
