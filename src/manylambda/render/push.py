"""What `manylambda push` did: as text, whose last line can be run, and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manylambda.render.table import readable

if TYPE_CHECKING:
    from manylambda.pipeline.push import PushResult


def text(result: PushResult) -> str:
    """Return the reference with its digest, what was sent for it, and how a function gets it."""
    pushed = result.pushed
    return (
        f"{result.reference}\n"
        f"  {result.architecture}; {readable(pushed.uploaded)} uploaded, {readable(pushed.mounted)} mounted, "
        f"{readable(pushed.present)} there already\n"
        f"\n{command(result)}"
    )


def command(result: PushResult) -> str:
    """Return the command that gives a function the image."""
    return f"aws lambda update-function-code --function-name NAME --image-uri {result.image_uri}"


def document(result: PushResult) -> dict[str, Any]:
    """Return the document of `manylambda push`."""
    pushed = result.pushed
    return {
        "version": 1,
        "reference": str(result.reference),
        "image_uri": result.image_uri,
        "digest": result.reference.digest,
        "tag": result.reference.tag,
        "architecture": result.architecture,
        "uploaded": pushed.uploaded,
        "mounted": pushed.mounted,
        "present": pushed.present,
        "parts": [{"digest": part.digest, "size": part.size, "how": part.how} for part in pushed.parts],
        "command": command(result),
    }
