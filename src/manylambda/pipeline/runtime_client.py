"""Lambda's runtime interface client, `awslambdaric`, where neither the base of an image nor its project has it.

What was chosen for the project stays as it is: the client, and what it needs, is chosen to go with it.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manylambda.errors import ResolutionError
from manylambda.locks.discovery import discover
from manylambda.pipeline import dependencies
from manylambda.pipeline.image_base import CLIENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manylambda.locks.model import Selection
    from manylambda.pipeline.package import Packer
    from manylambda.wheels.wheelhouse import StoredWheel

# Targets are made in parallel; what one was given is in the cache for the next.
_ONE_AT_A_TIME: Final = threading.Lock()


def with_client(
    packer: Packer, selection: Selection, stored: Sequence[StoredWheel], base: str
) -> tuple[Selection, Sequence[StoredWheel]]:
    """Add the client to what was chosen for one target, to start handlers on the image called `base`.

    Raises ResolutionError where no release goes with the other distributions, and FetchError.
    """
    with _ONE_AT_A_TIME:
        chosen = _chosen(packer, selection)
    known = {one.inventory.name for one in stored}
    pins = tuple(pin for pin in chosen.pins if pin.name not in known)
    added = sorted([*stored, *packer.fetched(pins)], key=lambda one: one.inventory.name)
    target, source = selection.target, packer.source
    *others, last = [f"`{pin.name}` {pin.version}" for pin in sorted(pins, key=lambda pin: pin.name != CLIENT)]
    versions = f"{', '.join(others)} and {last}" if others else last
    fact = f"{target}: `{base}` starts no handlers: {versions} {'is' if len(pins) == 1 else 'are'} added"
    if source.kind.is_locked:
        packer.progress.warning(
            f"{fact}, which `{source.files[0].name}` does not hold to a version: lock `{CLIENT}`, too"
        )
    else:
        packer.progress.info(fact)
    whole = replace(selection, pins=tuple(sorted((*selection.pins, *pins), key=lambda pin: pin.name)))
    return whole, added


def _chosen(packer: Packer, selection: Selection) -> Selection:
    target = selection.target
    # Whatever only the project has is none of the client's: extras, groups, a lock.
    settings = replace(packer.settings, requirements=(), lock=None, extras=(), groups=(), package=False)
    held = [f"{pin.name}=={pin.version}" for pin in selection.pins]
    held += [f"{one.name}=={one.version}" for one in selection.sdists if one.version is not None]
    with tempfile.TemporaryDirectory(prefix="manylambda-client-") as place:
        constraints, file = Path(place, "constraints.txt"), Path(place, "requirements.txt")
        constraints.write_text("".join(f"{line}\n" for line in held), encoding="utf-8")
        file.write_text(f"{CLIENT}\n-c {constraints.name}\n", encoding="utf-8")
        source = discover(settings.project, requirements=[file])
        try:
            pylock = dependencies.read_lock(source, [target], settings, packer.progress)
            return dependencies.select(pylock, source, target, settings, packer.progress)
        except ResolutionError as error:
            error.hint = (
                f"add `{CLIENT}` to the project's dependencies, in a version that goes with them, or start from "
                f"`{target.image}`"
            )
            raise
