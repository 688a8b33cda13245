"""A container image that was built: what it is made of, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manylambda.pipeline.artifact import WrittenImage
from manylambda.render.findings import counted
from manylambda.render.table import columns, mebibytes, readable

if TYPE_CHECKING:
    from manylambda.pipeline.artifact import Artifact


def text(artifact: Artifact) -> str:
    """Return a table of the layers, where the image is, and what names it."""
    made = artifact.written
    assert isinstance(made, WrittenImage)
    base = [layer for layer in made.layers if layer.content == "base"]
    rows = [("base", counted(len(base), "layer"), readable(sum(layer.size for layer in base)))]
    rows += [(layer.content, layer.digest[:19], readable(layer.size)) for layer in made.layers if layer not in base]
    command = " ".join((*made.entry_point, *made.command)) or "nothing: neither ENTRYPOINT nor CMD"
    unpacked = f"{mebibytes(made.unzipped_size)} in /var/task, {counted(made.files, 'file')}"
    lines = [
        f"{artifact.target}: image {made.place}",
        f"  {mebibytes(made.size)} compressed, {unpacked}",
        f"  digest  {made.digest}",
        f"  base    {made.base}",
        f"  runs    {command}",
    ]
    if made.uploaded is not None:
        lines.append(f"  sent    {readable(made.uploaded)}")
    return columns(("layer", "digest", "size"), rows, right=frozenset({2})) + "\n\n" + "\n".join(lines)


def document(artifact: Artifact) -> dict[str, Any] | None:
    """Return what JSON has of an image besides what it has of every package; None when it was not written."""
    made = artifact.written
    if not isinstance(made, WrittenImage):
        return None
    return {
        "place": made.place,
        "digest": made.digest,
        "media_type": made.media_type,
        "base": {"reference": made.base, "digest": made.base_digest},
        "entry_point": list(made.entry_point),
        "command": list(made.command),
        "layers": [
            {"content": layer.content, "digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size}
            for layer in made.layers
        ],
        "uploaded": made.uploaded,
    }
