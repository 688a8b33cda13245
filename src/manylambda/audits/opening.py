"""Any package, opened for reading: what is no container image is `packages`' to open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manylambda.audits import packages
from manylambda.audits.making import Making
from manylambda.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from manylambda.audits.packages import Package
    from manylambda.image import Scratch
    from manylambda.target import Target
    from manylambda.tree import Entry


_INSTALLERS: Final = frozenset({"pip", "setuptools", "wheel"})


class ImageTree(PackageTree):
    """A tree whose files lie in a temporary folder, which is there as long as the tree is."""

    __slots__ = ("_scratch",)

    def __init__(self, entries: Iterable[Entry], scratch: Scratch) -> None:
        super().__init__(entries)
        self._scratch = scratch


def open_package(path: Path, target: Target | None = None) -> Package:
    """Open a function's or layer's `.zip`, a wheel, a folder or a saved container image.

    Each file knows the distribution whose RECORD lists it. Of several images in one file the one for the target's
    architecture is opened. What a tool wrote badly is told in `making` and is no error. Raises `RequestError` where
    there is nothing to open, `UnsafeArchive` for what is damaged, hostile or unpacks to more than any package has.
    """
    from manylambda.image import is_image

    return open_image(path, target) if is_image(path) else packages.open_package(path)


def open_image(path: Path, target: Target | None = None) -> Package:
    """Open an OCI layout (a folder or a tar) or what `docker save` wrote; see `open_package`.

    The tree is `/var/task`, or the working folder where that is empty; `/opt` is a layer, and what `pip` installed
    into the interpreter lies in `mounts`.
    """
    from manylambda.audits import images

    opened = images.open_image(path, target)
    records = packages.read_records(opened.files[opened.facts.task_folder], is_wheel=False)
    unsafe = tuple(each._replace(path=packages.printable(each.path)) for each in opened.unsafe)
    trees: dict[str, PackageTree] = {}
    of_base = _INSTALLERS.union(target.preinstalled if target is not None and opened.facts.is_lambda_base else ())
    for folder, entries in opened.files.items():
        if folder != opened.facts.task_folder:
            packages.read_records(entries, is_wheel=False)
        # What the base image brought is there, which its metadata tells; how it is made is not the user's to mend.
        ours = folder in {opened.facts.task_folder, images.LAYERS}
        kept = (one for one in entries.values() if ours or one.origin not in of_base or ".dist-info/" in one.path)
        trees[f"{folder}/"] = ImageTree(kept, opened.scratch)
    tree = trees.pop(f"{opened.facts.task_folder}/")
    layer = trees.pop(f"{images.LAYERS}/", None)
    return packages.Package(
        tree=tree,
        kind="image",
        zipped_size=None,
        symlinks={packages.printable(path): packages.printable(text) for path, text in opened.symlinks.items()},
        making=Making(unsafe=unsafe, linked=opened.linked, closed=opened.closed, records=records),
        layers=() if layer is None else (layer,),
        mounts=trees,
        image=opened.facts,
    )
